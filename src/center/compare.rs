//! How a gateway stands to its center: by the numbers and digests in its `up/state`, and card by card by what it answers to `query`.

use serde::{Deserialize, Serialize};

use super::storage::{Audience, is_snapshot};
use super::{Center, CenterError, Storage};
use crate::access::change::Position;
use crate::access::credential::Flag;
use crate::access::decision::Reason;
use crate::access::effect::{QueryResult, Verdict};
use crate::access::engine::StreamStatus;
use crate::access::event::Outcome;
use crate::access::id::{CardUid, GatewayId, StreamName};
use crate::access::list::AccessList;
use crate::access::names;
use crate::wire::digest;
use crate::wire::envelope::{Scope, members};
use crate::wire::text::shorten;

/// Messages that are listed as missing at a gateway. Further ones are counted.
pub const MISSING_LISTED_MAX: usize = 1_000;
/// How much of what such a message publishes is shown, in characters.
const CONTENT_CHARS_MAX: usize = 160;

names! {
    /// How a gateway stands to one stream.
    pub enum Agreement {
        /// The same number and the same digest.
        Equal,
        /// The same number; the gateway has not published its digest yet.
        NoDigest,
        /// Messages are missing there, or on their way.
        Behind,
        /// The same number and another digest.
        Differs,
        /// The gateway has a number that this center never published: the center was set up again from something old.
        Ahead,
        /// The gateway has received nothing of the stream, or has no such stream configured.
        NotReceived,
    }
}

/// One stream at one gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamAgreement {
    /// The stream.
    pub stream: StreamName,
    /// What this center published last.
    pub published: Position,
    /// What the gateway reports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<StreamStatus>,
    /// How the two stand.
    pub agreement: Agreement,
}

impl<S: Storage> Center<S> {
    /// How `gateway`, which reports `statuses`, stands to each stream that has published to it.
    pub fn agreements(
        &mut self,
        gateway: &GatewayId,
        statuses: &[StreamStatus],
    ) -> Result<Vec<StreamAgreement>, CenterError> {
        self.transaction(|_| Ok(()))?;
        let mut all = Vec::new();
        for stream in &self.streams {
            let Some(audience) = self.audience(stream, Some(gateway))? else { continue };
            let Some(published) = stream.last.get(&audience).copied() else { continue };
            let status = statuses.iter().find(|status| status.name == stream.spec.name).cloned();
            let digest =
                || self.list(&audience).map(|list| digest::of(list, &digest::registers_of(stream.spec.allowed)));
            let agreement = match &status {
                None => Agreement::NotReceived,
                Some(status) if status.epoch == 0 => Agreement::NotReceived,
                Some(status) => {
                    let own = (published.epoch.get(), published.seq);
                    match (status.epoch, status.seq).cmp(&own) {
                        std::cmp::Ordering::Greater => Agreement::Ahead,
                        std::cmp::Ordering::Less => Agreement::Behind,
                        std::cmp::Ordering::Equal => match &status.digest {
                            None => Agreement::NoDigest,
                            Some(theirs) if digest().is_some_and(|own| own.sha256 == *theirs) => Agreement::Equal,
                            Some(_) => Agreement::Differs,
                        },
                    }
                }
            };
            all.push(StreamAgreement { stream: stream.spec.name.clone(), published, gateway: status, agreement });
        }
        Ok(all)
    }

    /// The messages of a stream to `gateway` behind `seq` of its epoch, each with the beginning of what it publishes: its ops in JSON, or
    /// that it is a list. `None`: more than [`MISSING_LISTED_MAX`].
    pub fn messages_behind(
        &mut self,
        gateway: &GatewayId,
        stream: &StreamName,
        seq: u64,
    ) -> Result<Option<Vec<(Position, String)>>, CenterError> {
        self.transaction(|center| {
            let Some(stream) = center.streams.iter().find(|one| one.spec.name == *stream) else { return Ok(None) };
            let Some(audience) = center.audience(stream, Some(gateway))? else { return Ok(None) };
            let Some(last) = stream.last.get(&audience).copied() else { return Ok(None) };
            let journal = stream.journal(audience);
            let ranges = [(seq.saturating_add(1), u64::MAX)];
            let found = center.storage.messages(&journal, last.epoch, &ranges, MISSING_LISTED_MAX)?;
            let content = |message: &str| {
                if is_snapshot(message) {
                    return "a list that was loaded".to_owned();
                }
                let members = members(message.as_bytes()).ok();
                members.and_then(|members| members.get("ops").map(str::to_owned)).unwrap_or_default()
            };
            Ok(found.map(|found| {
                found.into_iter().map(|(at, message)| (at, shorten(&content(&message), CONTENT_CHARS_MAX))).collect()
            }))
        })
    }

    /// What `gateway` has when it has everything: what was published to the campus and to it, as one list.
    pub(crate) fn whole_list(&self, gateway: &GatewayId) -> AccessList {
        let own = self.list(&Audience::Gateway(gateway.clone()));
        let mut list = own.cloned().unwrap_or_default();
        let campus = self.streams.iter().filter(|stream| stream.spec.scope == Scope::Campus);
        for stream in campus {
            let Some(published) = self.list(&Audience::Campus) else { continue };
            let owns = digest::registers_of(stream.spec.allowed);
            if let Some(at) = stream.last.get(&Audience::Campus) {
                list.replay_snapshot(&owns, (*at, None), &[published.snapshot(&owns)]);
            }
        }
        list
    }
}

/// What a gateway's answer to `query` for a card shows that `list` does not have, and the other way round. Zones, schedules and dates
/// are not compared: which portals a gateway has is not known here.
pub(crate) fn differences(list: &AccessList, uid: CardUid, answer: &QueryResult) -> Vec<String> {
    if answer.verdicts.is_empty() {
        return Vec::new();
    }
    let reasons = |verdict: &Verdict| {
        let own = match verdict.outcome {
            Outcome::Deny(reason) => Some(reason),
            Outcome::Grant(_) => None,
        };
        own.into_iter().chain(verdict.also.iter().copied()).collect::<Vec<Reason>>()
    };
    let at_all = |reason: Reason| answer.verdicts.iter().all(|verdict| reasons(verdict).contains(&reason));
    let anywhere = |reason: Reason| answer.verdicts.iter().any(|verdict| reasons(verdict).contains(&reason));
    // Denied for its UID, before the gateway looked for a card.
    let is_no_card = |verdict: &Verdict| {
        reasons(verdict).iter().any(|reason| matches!(reason, Reason::RandomIdentifier | Reason::MalformedIdentifier))
    };
    if answer.verdicts.iter().all(is_no_card) {
        return Vec::new();
    }
    let Some(card) = list.card(&uid) else {
        return if at_all(Reason::UnknownCredential) {
            Vec::new()
        } else {
            vec!["known there, unknown here".to_owned()]
        };
    };
    if at_all(Reason::UnknownCredential) {
        let policy =
            if card.is_named() { "" } else { ", unless `center.require_issue` is set there: it was never issued" };
        return vec![format!("known here, unknown there{policy}")];
    }
    let mut found = Vec::new();
    let standing = card.standing();
    let flags = [
        (Flag::Replaced, Reason::Replaced),
        (Flag::Cancelled, Reason::Cancelled),
        (Flag::Lost, Reason::Lost),
        (Flag::Frozen, Reason::Frozen),
    ];
    for (flag, reason) in flags {
        // A policy of the gateway may let frozen cards open some kinds.
        let there = if flag == Flag::Frozen { anywhere(reason) } else { at_all(reason) };
        match (standing.contains(flag), there) {
            (true, false) if flag == Flag::Frozen => {
                found.push("frozen here and not there, unless `policy.frozen_may` lets it pass everywhere".to_owned());
            }
            (true, false) => found.push(format!("{} here and not there", flag.as_str())),
            (false, true) => found.push(format!("{} there and not here", flag.as_str())),
            (true, true) | (false, false) => {}
        }
    }
    if card.enrolment().is_none() {
        let is_enrolled = |verdict: &&Verdict| !reasons(verdict).contains(&Reason::NotEnrolled);
        let portals: Vec<&str> =
            answer.verdicts.iter().filter(is_enrolled).map(|verdict| verdict.portal.as_str()).collect();
        if !portals.is_empty() {
            found.push(format!("not enrolled here, enrolled there for {}", portals.join(" ")));
        }
    }
    found
}

#[cfg(test)]
#[path = "compare_tests.rs"]
mod tests;
