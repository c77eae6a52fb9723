//! All that is to be looked at later, in one ordered set: its first element is when the engine next has to be woken.

use std::collections::{BTreeSet, HashMap};

use foldhash::fast::RandomState;

use super::super::id::{Mono, PortalId};
use super::super::input::MessageKind;

/// What has to be looked at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Due {
    /// The next box that power comes back to.
    Turn,
    /// A power box.
    Box(PortalId),
    /// A door or gate.
    Door(PortalId),
    /// The readings of a portal's meter.
    Meter(PortalId),
    /// The load of a power box, or the end of its rest after a trip.
    Trip(PortalId),
    /// A power box that has to confirm a revocation.
    Revocation(PortalId),
    /// Portals whose link is lost.
    Link,
    /// A window or posture that ends by the wall clock.
    Edge,
    /// Rejected messages of one kind that were only counted.
    Rejections(MessageKind),
    /// The parts of snapshots that stay incomplete.
    Snapshots,
    /// The streams that are asked to send again.
    Resync,
    /// Commands that wait for the disk.
    Commands,
    /// Alarms that were held back and last.
    Alarms,
}

/// See the module's head.
#[derive(Debug, Default)]
pub(super) struct Deadlines {
    order: BTreeSet<(Mono, Due)>,
    at: HashMap<Due, Mono, RandomState>,
}

impl Deadlines {
    /// `due` has to be looked at then, and not when it was to be before; `None`: not at all.
    pub(super) fn set(&mut self, due: Due, at: Option<Mono>) {
        let before = match at {
            Some(at) => self.at.insert(due.clone(), at),
            None => self.at.remove(&due),
        };
        if before == at {
            return;
        }
        let due = match before {
            Some(before) => {
                let entry = (before, due);
                self.order.remove(&entry);
                entry.1
            }
            None => due,
        };
        if let Some(at) = at {
            self.order.insert((at, due));
        }
    }

    /// When `due` has to be looked at.
    pub(super) fn at(&self, due: &Due) -> Option<Mono> {
        self.at.get(due).copied()
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    /// The first deadline.
    pub(super) fn next(&self) -> Option<Mono> {
        self.order.first().map(|(at, _)| *at)
    }

    /// Takes the first of those that have come.
    pub(super) fn take_due(&mut self, now: Mono) -> Option<Due> {
        let (at, due) = self.order.pop_first()?;
        if at > now {
            self.order.insert((at, due));
            return None;
        }
        self.at.remove(&due);
        Some(due)
    }
}
