//! The proof of each revocation: when it was received, in force and durable, and when the device of each power box that it cut
//! confirmed that its relay is off. Part of the state, so the fold of events: a restart goes on with what is not confirmed.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::event::{Confirmation, StreamRevision};
use super::id::{CardUid, PortalId, Timestamp};

/// Revocations remembered although every portal has confirmed them; beyond it the oldest is forgotten. The audit has all of them.
/// What is not confirmed is never forgotten: that is at most what the power boxes were cut for.
pub const REVOCATIONS_MAX: usize = 10_000;

/// When and how a portal was done with a revocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confirmed {
    /// When.
    pub at: Timestamp,
    /// How.
    pub how: Confirmation,
}

/// One revocation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocation {
    /// The card that can open nothing since.
    pub uid: CardUid,
    /// The message that revoked it.
    pub revision: StreamRevision,
    /// When the message arrived.
    pub received_at: Timestamp,
    /// From when on the card was denied.
    pub in_force_at: Timestamp,
    /// When its event was on disk; after a restart in between, when that was found. `None`: not known to be.
    pub durable_at: Option<Timestamp>,
    /// The power boxes that the card kept on, and when each was done with it.
    pub portals: BTreeMap<PortalId, Option<Confirmed>>,
}

impl Revocation {
    fn is_open(&self) -> bool {
        self.portals.values().any(Option::is_none)
    }
}

/// The revocations, by the number of their event.
#[derive(Clone, Debug, Default)]
pub struct Revocations {
    by_number: BTreeMap<u64, Revocation>,
    /// Those that no portal has to confirm any more.
    closed: BTreeSet<u64>,
    /// By portal, those that it has to confirm.
    open: BTreeMap<PortalId, BTreeSet<u64>>,
    /// The first and the last that is not known to be durable.
    not_durable: Option<(u64, u64)>,
}

impl Revocations {
    /// Takes in the one of event `n`.
    pub fn insert(&mut self, n: u64, revocation: Revocation) {
        if revocation.durable_at.is_none() {
            let first = self.not_durable.map_or(n, |(first, _)| first.min(n));
            self.not_durable = Some((first, self.not_durable.map_or(n, |(_, last)| last.max(n))));
        }
        for (portal, _) in revocation.portals.iter().filter(|(_, confirmed)| confirmed.is_none()) {
            self.open.entry(portal.clone()).or_default().insert(n);
        }
        if !revocation.is_open() {
            self.closed.insert(n);
        }
        self.by_number.insert(n, revocation);
        self.forget();
    }

    fn forget(&mut self) {
        while self.closed.len() > REVOCATIONS_MAX {
            let Some(oldest) = self.closed.pop_first() else { return };
            self.by_number.remove(&oldest);
        }
    }

    /// Those of the events `from` to `to` are on disk since `at`.
    pub fn durable(&mut self, from: u64, to: u64, at: Timestamp) {
        for revocation in self.by_number.range_mut(from..=to.max(from)).map(|(_, revocation)| revocation) {
            revocation.durable_at.get_or_insert(at);
        }
        self.not_durable =
            self.not_durable.filter(|(_, last)| *last > to).map(|(first, last)| (first.max(to + 1), last));
    }

    /// A portal is done with the one of event `n`.
    pub fn confirm(&mut self, n: u64, portal: &PortalId, confirmed: Confirmed) {
        if let Some(waiting) = self.open.get_mut(portal) {
            waiting.remove(&n);
            if waiting.is_empty() {
                self.open.remove(portal);
            }
        }
        let Some(revocation) = self.by_number.get_mut(&n) else { return };
        if let Some(place @ None) = revocation.portals.get_mut(portal) {
            *place = Some(confirmed);
        }
        if !revocation.is_open() {
            self.closed.insert(n);
            self.forget();
        }
    }

    /// The first and the last event that is not known to be durable.
    #[must_use]
    pub fn not_durable(&self) -> Option<(u64, u64)> {
        self.not_durable
    }

    /// The portals that have to confirm something.
    pub fn open_portals(&self) -> impl Iterator<Item = &PortalId> {
        self.open.keys()
    }

    /// What a portal has to confirm, oldest first.
    pub fn open_at(&self, portal: &PortalId) -> impl Iterator<Item = (u64, &Revocation)> {
        let numbers = self.open.get(portal).into_iter().flatten();
        numbers.filter_map(|n| self.by_number.get(n).map(|revocation| (*n, revocation)))
    }

    /// Those of one card, newest first. Looks at each.
    pub fn of(&self, uid: CardUid) -> impl Iterator<Item = (u64, &Revocation)> {
        self.all().rev().filter(move |(_, revocation)| revocation.uid == uid)
    }

    /// All, oldest first.
    #[must_use]
    pub fn all(&self) -> impl DoubleEndedIterator<Item = (u64, &Revocation)> {
        self.by_number.iter().map(|(n, revocation)| (*n, revocation))
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    fn revocation(n: u64, portals: &[&str]) -> Revocation {
        Revocation {
            uid: CardUid::from_bytes(&[1, 2, 3, 4]).unwrap(),
            revision: StreamRevision { stream: "s".parse().unwrap(), epoch: NonZeroU32::MIN, seq: n },
            received_at: Timestamp(1),
            in_force_at: Timestamp(2),
            durable_at: None,
            portals: portals.iter().map(|id| (id.parse().unwrap(), None)).collect(),
        }
    }

    #[test]
    fn the_oldest_that_is_confirmed_is_forgotten_and_what_is_not_never() {
        let mut all = Revocations::default();
        let most = REVOCATIONS_MAX as u64;
        (1..=most + 3).for_each(|n| all.insert(n, revocation(n, if n == 2 { &["power"] } else { &[] })));
        assert_eq!(all.all().map(|(n, _)| n).take(3).collect::<Vec<_>>(), [2, 4, 5]);
        assert_eq!(all.all().count(), REVOCATIONS_MAX + 1);
        let portal: PortalId = "power".parse().unwrap();
        all.confirm(2, &portal, Confirmed { at: Timestamp(3), how: Confirmation::Off });
        assert_eq!((all.all().next().map(|(n, _)| n), all.open_portals().count()), (Some(4), 0));
    }

    #[test]
    fn what_was_confirmed_or_durable_once_keeps_its_time() {
        let mut all = Revocations::default();
        let other = Revocation { uid: CardUid::from_bytes(&[1, 2, 3, 5]).unwrap(), ..revocation(3, &[]) };
        [(1, revocation(1, &["power"])), (2, revocation(2, &["power", "light"])), (3, other)]
            .into_iter()
            .for_each(|(n, one)| all.insert(n, one));
        let portal: PortalId = "power".parse().unwrap();
        for at in [3, 9] {
            all.confirm(1, &portal, Confirmed { at: Timestamp(at), how: Confirmation::Off });
            all.durable(1, 2, Timestamp(at));
        }
        let uid = CardUid::from_bytes(&[1, 2, 3, 4]).unwrap();
        let shown: Vec<_> = all.of(uid).map(|(n, one)| (n, one.durable_at, one.portals[&portal])).collect();
        let confirmed = Confirmed { at: Timestamp(3), how: Confirmation::Off };
        assert_eq!(shown, [(2, Some(Timestamp(3)), None), (1, Some(Timestamp(3)), Some(confirmed))]);
        assert_eq!((all.not_durable(), all.open_portals().count()), (Some((3, 3)), 2));
    }

    #[test]
    fn what_is_durable_is_known_up_to_a_number() {
        let mut all = Revocations::default();
        [4, 7, 9].into_iter().for_each(|n| all.insert(n, revocation(n, &[])));
        assert_eq!(all.not_durable(), Some((4, 9)));
        all.durable(4, 8, Timestamp(5));
        assert_eq!(all.not_durable(), Some((9, 9)));
        all.durable(9, 9, Timestamp(6));
        let durable: Vec<_> = all.all().map(|(_, r)| r.durable_at).collect();
        assert_eq!(
            (durable, all.not_durable()),
            (vec![Some(Timestamp(5)), Some(Timestamp(5)), Some(Timestamp(6))], None)
        );
    }
}
