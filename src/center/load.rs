//! Loading a whole list of enrolments: what it would change, and the snapshot that publishes it.
//!
//! The snapshot has the next number of the stream that owns `enrol`, and stands in the journal as one message: the signed parts, each
//! followed by [`PART_SEPARATOR`]. So it is on disk whole or not at all, a center that starts again has the list that it makes, and a
//! gateway that lacks its number is answered with a snapshot of what is then published.

use std::collections::BTreeMap;

use super::sheet::Enrolments;
use super::storage::{Audience, Content};
use super::{Center, CenterError, SignedMessage, Storage, visitors};
use crate::access::change::Position;
use crate::access::credential::Enrolment;
use crate::access::id::{CardUid, GatewayId, Timestamp};
use crate::access::list::{AccessList, Shrink};
use crate::access::snapshot::{EnrolmentEntry, PART_SEPARATOR, PARTS_MAX, SNAPSHOT_BYTES_MAX, SnapshotEntry};
use crate::wire::allowed::OpName;
use crate::wire::digest;
use crate::wire::envelope::sign;
use crate::wire::snapshot;

/// What happens to one card.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CardChange {
    /// It was not enrolled.
    Added(Enrolment),
    /// It was enrolled for something else.
    Updated {
        /// What counts now.
        from: Enrolment,
        /// What the list has.
        to: Enrolment,
    },
    /// The list does not name it, so its enrolment ends.
    Withdrawn(Enrolment),
}

/// What a list would change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Cards that are enrolled as the list has them.
    pub unchanged: usize,
    /// What happens to the others.
    pub changes: BTreeMap<CardUid, CardChange>,
}

impl Plan {
    /// What `wanted` would change of `list`.
    #[must_use]
    pub fn new(list: &AccessList, wanted: &Enrolments) -> Self {
        let mut plan = Self::default();
        for (uid, from) in enrolled(list) {
            match wanted.get(&uid) {
                None => {
                    plan.changes.insert(uid, CardChange::Withdrawn(from));
                }
                Some(to) if is_same(&from, to) => plan.unchanged += 1,
                Some(to) => {
                    plan.changes.insert(uid, CardChange::Updated { from, to: to.clone() });
                }
            }
        }
        for (uid, enrolment) in wanted {
            let is_enrolled = list.card(uid).is_some_and(|card| card.enrolment().is_some());
            if !is_enrolled {
                plan.changes.insert(*uid, CardChange::Added(enrolment.clone()));
            }
        }
        plan
    }

    fn count(&self, is_counted: impl Fn(&CardChange) -> bool) -> usize {
        self.changes.values().filter(|change| is_counted(change)).count()
    }

    /// Cards that are enrolled for the first time, or again.
    #[must_use]
    pub fn added(&self) -> usize {
        self.count(|change| matches!(change, CardChange::Added(_)))
    }

    /// Cards whose enrolment changes.
    #[must_use]
    pub fn updated(&self) -> usize {
        self.count(|change| matches!(change, CardChange::Updated { .. }))
    }

    /// Cards whose enrolment ends.
    #[must_use]
    pub fn withdrawn(&self) -> usize {
        self.count(|change| matches!(change, CardChange::Withdrawn(_)))
    }

    /// What a gateway judges before it takes the snapshot.
    #[must_use]
    pub fn shrink(&self) -> Shrink {
        let removed = self.withdrawn();
        Shrink { before: self.unchanged + self.updated() + removed, removed }
    }

    /// The entries of the snapshot: all that the stream owns, with the enrolments of the list. What stays keeps the revision that
    /// wrote it; what ends is named too, so that a new gateway knows of it.
    fn entries(&self, mut entries: Vec<SnapshotEntry>, at: Position) -> Vec<SnapshotEntry> {
        let mut missing = self.changes.clone();
        for entry in &mut entries {
            if let SnapshotEntry::Card { uid, enrolment, .. } = entry
                && let Some(change) = missing.remove(uid)
            {
                *enrolment = Some(change.register(at));
            }
        }
        entries.extend(missing.into_iter().map(|(uid, change)| SnapshotEntry::Card {
            uid,
            standing: None,
            enrolment: Some(change.register(at)),
        }));
        entries
    }
}

impl CardChange {
    /// The register of the card's enrolment in a snapshot at `at`.
    fn register(self, at: Position) -> EnrolmentEntry {
        match self {
            // Without a revision, that of the snapshot counts.
            Self::Added(to) | Self::Updated { to, .. } => EnrolmentEntry { revision: None, enrolment: Some(to) },
            Self::Withdrawn(_) => EnrolmentEntry { revision: Some(at.revision(u32::MAX)), enrolment: None },
        }
    }
}

/// What the cards of a list are enrolled for.
pub(crate) fn enrolments_of(list: &AccessList) -> Enrolments {
    enrolled(list).collect()
}

/// The cards whose enrolment is in force.
fn enrolled(list: &AccessList) -> impl Iterator<Item = (CardUid, Enrolment)> {
    (0..list.len()).filter(|place| list.enrolment_in_force_at(*place)).filter_map(|place| {
        let card = list.record_at(place)?;
        card.enrolment.and_then(|(_, enrolment)| enrolment).map(|enrolment| (card.uid, enrolment))
    })
}

/// Whether two enrolments have the same line in the digest, but for parts of a second.
fn is_same(one: &Enrolment, other: &Enrolment) -> bool {
    let sorted = |enrolment: &Enrolment| {
        let mut sorted = enrolment.clone();
        sorted.entitlements.sort_unstable();
        sorted
    };
    sorted(one) == sorted(other)
}

/// A list that was loaded.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What it changes.
    pub plan: Plan,
    /// The parts of the snapshot, for each gateway that it goes to; empty: nothing changes, so nothing is published.
    pub messages: Vec<SignedMessage>,
}

impl<S: Storage> Center<S> {
    /// What a list for the gateway `to` (for the campus, where the stream that owns `enrol` publishes to it) would change. Fails when no
    /// stream may enrol, no gateway of this center is named, gateways refuse a card of the list, or the storage cannot be read.
    pub fn plan(&mut self, to: Option<&GatewayId>, wanted: &Enrolments, now: Timestamp) -> Result<Plan, CenterError> {
        self.transaction(|center| {
            let (_, audience) = center.enrolling(to)?;
            let list = center.list(&audience).cloned().unwrap_or_default();
            Plan::new(&list, &center.with_ends(&list, wanted, now)?).checked()
        })
    }

    /// What the cards of `to` are enrolled for.
    pub fn enrolments(&mut self, to: Option<&GatewayId>) -> Result<Enrolments, CenterError> {
        self.transaction(|center| {
            let (_, audience) = center.enrolling(to)?;
            Ok(center.list(&audience).map(enrolments_of).unwrap_or_default())
        })
    }

    /// The place of the stream that owns `enrol`, and to whom it publishes.
    fn enrolling(&self, to: Option<&GatewayId>) -> Result<(usize, Audience), CenterError> {
        let found = self.streams.iter().enumerate().find(|(_, stream)| stream.spec.allowed.contains(OpName::Enrol));
        let (place, stream) = found.ok_or(CenterError::NoOwner(OpName::Enrol))?;
        let audience = self.audience(stream, to)?.ok_or_else(|| CenterError::NoGateway(stream.spec.name.clone()))?;
        Ok((place, audience))
    }

    /// A list as it is to be published: each visitor's enrolment has an end, and none is given again.
    fn with_ends(&self, list: &AccessList, wanted: &Enrolments, now: Timestamp) -> Result<Enrolments, CenterError> {
        let complete = |(uid, enrolment): (&CardUid, &Enrolment)| {
            Ok((*uid, visitors::complete(Some(list), *uid, enrolment, (&self.zone, now))?))
        };
        wanted.iter().map(complete).collect()
    }

    /// Publishes a list in a transaction of its own. See [`Self::stage_list`].
    pub fn load(
        &mut self,
        to: Option<&GatewayId>,
        wanted: &Enrolments,
        allow_shrink: bool,
        now: Timestamp,
    ) -> Result<Loaded, CenterError> {
        self.transaction(|center| center.stage_list(to, wanted, allow_shrink, now))
    }

    /// Signs and appends a list as a snapshot, within a transaction; nothing if it changes nothing.
    ///
    /// # Errors
    /// [`CenterError::Shrinks`] if it would withdraw more than a gateway lets pass and `allow_shrink` is not given,
    /// [`CenterError::TooLong`], and those of [`Self::plan`]. Nothing is published then.
    pub fn stage_list(
        &mut self,
        to: Option<&GatewayId>,
        wanted: &Enrolments,
        allow_shrink: bool,
        now: Timestamp,
    ) -> Result<Loaded, CenterError> {
        let (place, audience) = self.enrolling(to)?;
        let mut list = self.list(&audience).cloned().unwrap_or_default();
        // What this transaction has appended counts too, or the snapshot would undo it.
        for staged in self.staged.iter().filter(|staged| staged.audience == audience) {
            if let Some(stream) = self.streams.get(staged.place) {
                stream.replay(&mut list, &staged.content, staged.at);
            }
        }
        let plan = Plan::new(&list, &self.with_ends(&list, wanted, now)?).checked()?;
        if plan.changes.is_empty() {
            return Ok(Loaded { plan, messages: Vec::new() });
        }
        let shrink = plan.shrink();
        if shrink.is_too_much() && !allow_shrink {
            return Err(CenterError::Shrinks(shrink));
        }
        let Some(stream) = self.streams.get(place) else { return Err(CenterError::NoOwner(OpName::Enrol)) };
        self.may_publish(stream, &audience)?;
        let at = stream.next(&audience, self.epoch);
        let entries = plan.entries(list.snapshot(&digest::registers_of(stream.spec.allowed)), at);
        let id = format!("{}.{}-list", at.epoch, at.seq);
        let name = &stream.spec.name;
        let parts = snapshot::write_parts((name, at, &id), audience.aud(), now, &entries, allow_shrink)?;
        let parts: Vec<String> = parts.iter().map(|claims| sign(claims, name, &stream.key)).collect();
        let bytes = parts.iter().map(|part| part.len() + 1).sum();
        if parts.len() > PARTS_MAX as usize || bytes > SNAPSHOT_BYTES_MAX {
            return Err(CenterError::TooLong { parts: parts.len(), bytes });
        }
        let mut line = String::with_capacity(bytes);
        for part in &parts {
            line.push_str(part);
            line.push(char::from(PART_SEPARATOR));
        }
        let messages = self.parts(stream, &audience, &line, at);
        self.append(place, &audience, at, (Content::Snapshot(entries), &line))?;
        Ok(Loaded { plan, messages })
    }
}

#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;
