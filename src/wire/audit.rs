//! An audit event as bytes and back (wire contract, section 3). These bytes are what is written to disk, chained by hash and
//! sent to the center: one form for all three, so that anyone who holds the bytes can check the chain.
//!
//! Refuses to own numbers, times and the chain itself: they are given.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

use super::hash::HashText;
pub use super::hash::{Hash, NO_HASH, hash};
use super::json::{self, Place};
use crate::access::change::{ErrorCode, Owners, RegisterKinds, SuspendReason};
use crate::access::credential::Role;
use crate::access::decision::{GrantFlag, GrantReason, Reason};
use crate::access::event::Confirmation;
use crate::access::event::{
    AlarmKind, AppliedSnapshot, AuditEvent, Event, EventKind, ForgivenBy, Forgiveness, GapCause, Mark, Outcome,
    PostureSource, ReplyStatus, StreamRevision, Who,
};
use crate::access::id::{CardUid, ClockTrust, GatewayId, Holder, PortalId, StreamName, Timestamp, audited};
use crate::access::input::CardSet;
use crate::access::portal::{Direction, Posture};
use crate::access::power_box::{OffCause, PowerSource};

/// Why bytes are no audit event; names the field and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an audit event that this version knows: {0}; was it written by another version?")]
pub struct AuditFormatError(String);

/// An audit event read back from its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// The event.
    pub event: AuditEvent,
    /// The hash of the event before it.
    pub prev: Hash,
    /// The hash of the evidence kept beside it, if there is any.
    pub evidence: Option<Hash>,
}

type Text<'t> = Cow<'t, str>;

/// The fields of every type in the order of the contract; each type uses some. (One flat object: a tagged enum would be copied
/// before it is read, and a journal of millions of events is read at a start.)
#[derive(Default, Serialize, Deserialize)]
struct Fields<'t> {
    n: u64,
    at: Timestamp,
    clock: ClockTrust,
    #[serde(borrow)]
    boot: Text<'t>,
    mono_ms: u64,
    #[serde(rename = "type")]
    kind: Option<EventKind>,
    #[serde(skip_serializing_if = "Option::is_none")]
    portal: Option<PortalId>,
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "audited::deserialize")]
    uid: Option<CardUid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    holder: Option<Holder>,
    #[serde(default, skip_serializing_if = "is_resident")]
    role: Role,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    decision: Option<Text<'t>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    reason: Option<Text<'t>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    also: Vec<Reason>,
    #[serde(borrow, default, skip_serializing_if = "Vec::is_empty")]
    flags: Vec<Text<'t>>,
    /// One entry: the stream's name to epoch and number.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    revision: BTreeMap<StreamName, (NonZeroU32, u64)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    alarm: Option<AlarmKind>,
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u64>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    ended: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    stays_off: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    direction: Option<Direction>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<PostureSource>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    mark: Option<Text<'t>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream: Option<StreamName>,
    #[serde(default, skip_serializing_if = "RegisterKinds::is_empty")]
    registers: RegisterKinds,
    #[serde(skip_serializing_if = "Option::is_none")]
    gateway: Option<GatewayId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    owners: Option<Owners>,
    #[serde(skip_serializing_if = "Option::is_none")]
    snapshot: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    jti: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exp: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    by_ms: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    received_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    cut: Vec<PortalId>,
    /// The gates that a forgiveness is about.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    portals: Vec<PortalId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revoked: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<u64>,
    /// Inclusive, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    ranges: Vec<(u64, u64)>,
    #[serde(borrow, default, skip_serializing_if = "str::is_empty")]
    detail: Text<'t>,
    #[serde(skip_serializing_if = "Option::is_none")]
    evidence: Option<HashText>,
    prev: HashText,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_resident(role: &Role) -> bool {
    *role == Role::Resident
}

/// `reason` of a `power_on` by a card that the box reported.
const REPORTED: &str = "reported";
const GOAL: &str = "goal";
const FORGIVEN: &str = "forgiven";
const LOST: &str = "stream_lost";
const FORGOTTEN: &str = "stream_forgotten";
const ACKNOWLEDGED: &str = "alarms_acknowledged";
const ERASED: &str = "passages_erased";
const CLOCK_RESTORED: &str = "clock_restored";
const GRANT: &str = "grant";
const DENY: &str = "deny";

/// The event's bytes: JSON with the contract's field names, linked to the event before by `prev`.
/// `evidence` is named by its SHA-256; empty evidence is not named.
#[must_use]
pub fn encode(event: &AuditEvent, evidence: &[u8], prev: &Hash) -> Vec<u8> {
    let body = &event.body;
    let mut fields = Fields {
        n: event.n,
        at: event.at,
        clock: event.clock,
        boot: Cow::Borrowed(&event.boot),
        mono_ms: event.mono_ms,
        kind: Some(body.kind()),
        portal: body.portal().cloned(),
        uid: body.uid(),
        holder: body.holder().cloned(),
        detail: Cow::Borrowed(body.detail()),
        evidence: (!evidence.is_empty()).then(|| HashText(hash(evidence))),
        prev: HashText(*prev),
        ..Fields::default()
    };
    fields.fill(body);
    #[expect(clippy::expect_used, reason = "strings and numbers under string keys always have a JSON form")]
    serde_json::to_vec(&fields).expect("an audit event has a JSON form")
}

impl Fields<'_> {
    /// Puts in what is of this type alone.
    fn fill(&mut self, body: &Event) {
        let named = |name: &'static str| Some(Cow::Borrowed(name));
        let counted = |count: u64| (count > 0).then_some(count);
        match body {
            Event::Decision { role, outcome, also, flags, direction, .. } => {
                self.role = *role;
                let decision = if matches!(outcome, Outcome::Grant(_)) { GRANT } else { DENY };
                (self.decision, self.reason) = (named(decision), named(outcome.reason()));
                (self.also, self.flags) =
                    (also.iter().collect(), flags.iter().map(|flag| flag.as_str().into()).collect());
                self.direction = *direction;
            }
            Event::Taken { direction, .. } => self.direction = Some(*direction),
            Event::PowerOn { source, .. } | Event::PowerOrdered { source, .. } => match source {
                PowerSource::Remote => self.reason = named(GrantReason::Remote.as_str()),
                PowerSource::Reported(_) => self.reason = named(REPORTED),
                PowerSource::Card(_) => {}
            },
            Event::PowerOff { cause, .. } => self.reason = named(cause.as_str()),
            Event::PowerTrip { reason, stays_off, ended, .. } => {
                (self.reason, self.stays_off, self.ended) = (named(reason.as_str()), *stays_off, *ended);
            }
            Event::Revoked { revision, received_at, cut, .. } => {
                self.about(revision);
                (self.received_at, self.cut) = (Some(*received_at), cut.clone());
            }
            Event::RevocationDurable { from, to } => (self.from, self.to) = (Some(*from), Some(*to)),
            Event::RevocationConfirmed { revoked, how, .. } => {
                (self.revoked, self.reason) = (Some(*revoked), named(how.as_str()));
            }
            Event::ChangesApplied { revision, snapshot } => {
                self.about(revision);
                if let Some(AppliedSnapshot { id, owns }) = snapshot {
                    (self.snapshot, self.registers) = (Some(id.clone()), owns.clone());
                }
            }
            Event::RejectedMessage { code, used_up, count, .. } => {
                (self.reason, self.count) = (named(code.as_str()), counted(*count));
                used_up.iter().for_each(|revision| self.about(revision));
            }
            Event::Command { status, taken, .. } => {
                self.reason = named(status.as_str());
                (self.jti, self.exp) = taken.clone().unzip();
            }
            Event::Posture { posture, source, .. } => {
                (self.reason, self.source) = (named(posture.as_str()), Some(*source));
            }
            Event::Alarm { kind, count, ended, .. } => {
                (self.alarm, self.count, self.ended) = (Some(*kind), counted(*count), *ended);
            }
            Event::ClockStep { by_ms, restored, .. } => {
                self.by_ms = (*by_ms != 0).then_some(*by_ms);
                self.reason = restored.then_some(Cow::Borrowed(CLOCK_RESTORED));
            }
            Event::LogGap { from, to, cause, ranges } => {
                (self.from, self.to, self.reason) = (Some(*from), Some(*to), named(cause.as_str()));
                self.ranges.clone_from(ranges);
            }
            Event::Config { mark: Mark::Goal(goal), .. } => {
                self.mark = named(GOAL);
                self.about(goal);
            }
            Event::Config { mark: Mark::StreamLost(stream), .. } => {
                (self.mark, self.stream) = (named(LOST), Some(stream.clone()));
            }
            Event::Config { mark: Mark::StreamForgotten(stream, registers), .. } => {
                (self.mark, self.stream) = (named(FORGOTTEN), Some(stream.clone()));
                self.registers.clone_from(registers);
            }
            Event::Config { mark: Mark::Forgiven(forgiveness), .. } => {
                (self.mark, self.reason) = (named(FORGIVEN), named(forgiveness.by.as_str()));
                self.portals.clone_from(&forgiveness.portals);
            }
            Event::Config { mark: Mark::PassagesErased(_), .. } => self.mark = named(ERASED),
            Event::Config { mark: Mark::AlarmsAcknowledged { from, to }, .. } => {
                (self.mark, self.from, self.to) = (named(ACKNOWLEDGED), Some(*from), Some(*to));
            }
            Event::Boot { gateway, owners, .. } => (self.gateway, self.owners) = (gateway.clone(), owners.clone()),
            Event::NotTaken { .. }
            | Event::PortalOnline { .. }
            | Event::PortalOffline { .. }
            | Event::Config { mark: Mark::Note, .. } => {}
        }
    }

    fn about(&mut self, revision: &StreamRevision) {
        self.revision.insert(revision.stream.clone(), (revision.epoch, revision.seq));
    }

    fn revision(&mut self) -> Result<Option<StreamRevision>, AuditFormatError> {
        let revision = self.revision.pop_first();
        if !self.revision.is_empty() {
            return Err(unknown("revision", "more than one stream"));
        }
        Ok(revision.map(|(stream, (epoch, seq))| StreamRevision { stream, epoch, seq }))
    }

    /// The event of its type. What that type needs and is missing is an error; fields of other types are ignored.
    fn body(mut self) -> Result<Event, AuditFormatError> {
        let revision = self.revision()?;
        let this_revision = || need("revision", revision.clone());
        let Self { portal, uid, holder, .. } = self;
        let at_portal = || need("portal", portal.clone());
        let who = Who { uid, holder };
        let reason = self.reason.as_deref();
        let count = self.count.unwrap_or(0);
        let detail = self.detail.into_owned();
        Ok(match need("type", self.kind)? {
            EventKind::Decision => {
                let outcome = match self.decision.as_deref() {
                    Some(GRANT) => Outcome::Grant(named(reason, GrantReason::parse)?),
                    Some(DENY) => Outcome::Deny(named(reason, Reason::parse)?),
                    other => return Err(unknown("decision", other.unwrap_or_default())),
                };
                let also = self.also.into_iter().collect();
                let flag = |name: &Cow<'_, str>| GrantFlag::parse(name).ok_or_else(|| unknown("flags", name));
                let flags = self.flags.iter().map(flag).collect::<Result<_, _>>()?;
                let (role, direction) = (self.role, self.direction);
                Event::Decision { portal, who, role, outcome, also, flags, direction, detail }
            }
            EventKind::Taken => {
                Event::Taken { portal: at_portal()?, who, direction: need("direction", self.direction)? }
            }
            EventKind::NotTaken => Event::NotTaken { portal: at_portal()?, who, detail },
            kind @ (EventKind::PowerOn | EventKind::PowerOrdered) => {
                let source = match (who.uid, reason) {
                    (Some(uid), Some(REPORTED)) => PowerSource::Reported(uid),
                    (Some(uid), _) => PowerSource::Card(uid),
                    (None, _) => PowerSource::Remote,
                };
                let (portal, holder) = (at_portal()?, who.holder);
                match kind {
                    EventKind::PowerOn => Event::PowerOn { portal, source, holder, detail },
                    _ => Event::PowerOrdered { portal, source, holder, detail },
                }
            }
            EventKind::PowerOff => {
                Event::PowerOff { portal: at_portal()?, who, cause: named(reason, OffCause::parse)? }
            }
            EventKind::PowerTrip => {
                let (portal, reason) = (at_portal()?, named(reason, SuspendReason::parse)?);
                Event::PowerTrip { portal, who, reason, stays_off: self.stays_off, ended: self.ended, detail }
            }
            EventKind::Revoked => {
                let (uid, received_at) = (need("uid", who.uid)?, need("received_at", self.received_at)?);
                Event::Revoked { uid, holder: who.holder, revision: this_revision()?, received_at, cut: self.cut }
            }
            EventKind::RevocationDurable => {
                Event::RevocationDurable { from: need("from", self.from)?, to: need("to", self.to)? }
            }
            EventKind::RevocationConfirmed => {
                let how = named(reason, Confirmation::parse)?;
                Event::RevocationConfirmed { portal: at_portal()?, who, revoked: need("revoked", self.revoked)?, how }
            }
            EventKind::ChangesApplied => {
                let snapshot = self.snapshot.map(|id| AppliedSnapshot { id, owns: self.registers });
                Event::ChangesApplied { revision: this_revision()?, snapshot }
            }
            EventKind::RejectedMessage => {
                let code = named(reason, ErrorCode::parse)?;
                Event::RejectedMessage { code, used_up: revision, count, detail }
            }
            EventKind::Command => {
                let taken = match (self.jti, self.exp) {
                    (None, None) => None,
                    (jti, exp) => Some((need("jti", jti)?, need("exp", exp)?)),
                };
                Event::Command { portal, status: named(reason, ReplyStatus::parse)?, taken, detail }
            }
            EventKind::Posture => {
                let posture = named(reason, Posture::parse)?;
                Event::Posture { portal, posture, source: need("source", self.source)? }
            }
            EventKind::Alarm => {
                Event::Alarm { kind: need("alarm", self.alarm)?, portal, who, count, ended: self.ended, detail }
            }
            EventKind::PortalOnline => Event::PortalOnline { portal: at_portal()?, detail },
            EventKind::PortalOffline => Event::PortalOffline { portal: at_portal()?, detail },
            EventKind::Boot => Event::Boot { gateway: self.gateway, owners: self.owners, detail },
            EventKind::ClockStep => {
                let restored = match reason {
                    None => false,
                    Some(CLOCK_RESTORED) => true,
                    Some(other) => return Err(unknown("reason", other)),
                };
                Event::ClockStep { by_ms: self.by_ms.unwrap_or(0), restored, detail }
            }
            EventKind::LogGap => {
                let (from, to) = (need("from", self.from)?, need("to", self.to)?);
                Event::LogGap { from, to, cause: named(reason, GapCause::parse)?, ranges: self.ranges }
            }
            EventKind::Config => {
                let mark = match self.mark.as_deref() {
                    None => Mark::Note,
                    Some(GOAL) => Mark::Goal(this_revision()?),
                    Some(LOST) => Mark::StreamLost(need("stream", self.stream)?),
                    Some(FORGOTTEN) => Mark::StreamForgotten(need("stream", self.stream)?, self.registers),
                    Some(FORGIVEN) => {
                        let (cards, by) =
                            (who.uid.map_or(CardSet::All, CardSet::One), named(reason, ForgivenBy::parse)?);
                        Mark::Forgiven(Forgiveness { cards, portals: self.portals, by })
                    }
                    Some(ERASED) => Mark::PassagesErased(need("holder", who.holder)?),
                    Some(ACKNOWLEDGED) => {
                        Mark::AlarmsAcknowledged { from: need("from", self.from)?, to: need("to", self.to)? }
                    }
                    Some(other) => return Err(unknown("mark", other)),
                };
                Event::Config { mark, detail }
            }
        })
    }
}

fn unknown(field: &str, value: &str) -> AuditFormatError {
    AuditFormatError(format!("`{field}`: unknown value `{value}`"))
}

fn need<T>(field: &str, value: Option<T>) -> Result<T, AuditFormatError> {
    value.ok_or_else(|| AuditFormatError(format!("`{field}`: is missing")))
}

/// The `reason`, which different types take from different lists.
fn named<T>(reason: Option<&str>, parse: impl FnOnce(&str) -> Option<T>) -> Result<T, AuditFormatError> {
    let reason = need("reason", reason)?;
    parse(reason).ok_or_else(|| unknown("reason", reason))
}

/// The event behind `bytes`.
///
/// # Errors
/// [`AuditFormatError`] when the bytes are no JSON object with an event's fields, or a field holds what this version does not
/// know. Unknown fields are ignored.
pub fn decode(bytes: &[u8]) -> Result<Decoded, AuditFormatError> {
    let text = std::str::from_utf8(bytes).map_err(|e| AuditFormatError(e.to_string()))?;
    let fields: Fields<'_> = json::read(text, Place::Message).map_err(|e| AuditFormatError(e.message))?;
    let (prev, evidence) = (fields.prev.0, fields.evidence.map(|hash| hash.0));
    let (n, at, clock, mono_ms) = (fields.n, fields.at, fields.clock, fields.mono_ms);
    let boot = fields.boot.as_ref().into();
    Ok(Decoded { event: AuditEvent { n, at, clock, boot, mono_ms, body: fields.body()? }, prev, evidence })
}

#[cfg(test)]
#[path = "audit_tests.rs"]
pub(crate) mod tests;
