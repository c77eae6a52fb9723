//! Doors and gates after the release: was it taken, was the door forced, does it stay open.

use std::collections::BTreeMap;

use super::super::event::{AlarmKind, Event, Flush};
use super::super::id::{CardUid, Mono, Now, PortalId};
use super::super::portal::{Direction, Posture};
use super::Engine;

/// How long after the end of a release somebody may still pass on it, in milliseconds (wire contract, section 6).
pub const PASS_LATE_MS: u64 = 10_000;
/// How long after the end of a release a door may still be pushed open, in milliseconds: the contact is polled, too.
pub const OPEN_LATE_MS: u64 = 2_000;

/// One door or gate as the gateway believes it to be.
#[derive(Debug, Default)]
pub(super) struct Door {
    /// The last release: its end, and whose it was.
    released: Option<(Mono, Option<CardUid>)>,
    /// The release waits to be taken until then; only where somebody was ever seen to pass.
    take_by: Option<Mono>,
    /// This portal has ever said that somebody passed.
    tells_passing: bool,
    open: bool,
    /// The door has been open too long from then on.
    held_at: Option<Mono>,
}

/// All doors and gates that ever said something or were released.
pub(super) type Doors = BTreeMap<PortalId, Door>;

impl Engine {
    /// A door or gate is being released for `hold_ms`.
    pub(super) fn released(&mut self, portal: &PortalId, uid: Option<CardUid>, hold_ms: u32, now: Now) {
        self.settle_untaken(portal, now);
        let door = self.doors.entry(portal.clone()).or_default();
        let end = now.mono.plus_ms(u64::from(hold_ms));
        door.released = Some((end, uid));
        door.take_by = door.tells_passing.then(|| end.plus_ms(PASS_LATE_MS));
    }

    /// The same card was shown again and let in again, as part of the same presentation.
    pub(super) fn released_again(&mut self, portal: &PortalId, uid: Option<CardUid>, hold_ms: u32, now: Now) {
        let door = self.doors.entry(portal.clone()).or_default();
        let end = now.mono.plus_ms(u64::from(hold_ms));
        door.released = Some((end, uid));
        // Nobody need pass a second time.
        door.take_by = door.take_by.map(|_| end.plus_ms(PASS_LATE_MS));
    }

    /// Somebody passed: on the last release, or on nobody's.
    pub(super) fn passed(&mut self, portal: &PortalId, direction: Direction, now: Now) {
        let way = self.portal(portal.as_str()).and_then(|p| p.direction);
        let door = self.doors.entry(portal.clone()).or_default();
        door.tells_passing = true;
        // Who passes the other way takes nobody's release.
        let taken = if way.is_none_or(|way| way == direction) {
            door.take_by = None;
            door.released.take()
        } else {
            None
        };
        let on = taken.filter(|(end, _)| now.mono <= end.plus_ms(PASS_LATE_MS));
        let uid = on.and_then(|(_, uid)| uid);
        self.record(Event::Taken { portal: portal.clone(), who: self.who(uid), direction }, Flush::Soon, now);
    }

    /// The door's contact opened or closed.
    pub(super) fn contact(&mut self, portal: &PortalId, open: bool, now: Now) {
        let Some(p) = self.portal(portal.as_str()) else { return };
        let held_open_ms = u64::from(p.held_open_ms);
        let free = self.is_held_open(portal, now);
        let door = self.doors.entry(portal.clone()).or_default();
        let was_open = std::mem::replace(&mut door.open, open);
        if !open {
            door.held_at = None;
            return;
        }
        if was_open {
            return;
        }
        door.held_at = (held_open_ms > 0).then(|| now.mono.plus_ms(held_open_ms));
        let on_release = door.released.is_some_and(|(end, _)| now.mono <= end.plus_ms(OPEN_LATE_MS));
        if !on_release && !free {
            let detail = "the door opened and nobody had released it".to_owned();
            self.alarm(AlarmKind::ForcedOpen, Some(portal), None, detail, now);
        }
    }

    /// Whether the mode in force holds the portal open.
    fn is_held_open(&self, portal: &PortalId, now: Now) -> bool {
        let posture = self.portal(portal.as_str()).map(|p| self.posture(p, now));
        matches!(posture, Some(Posture::Fire | Posture::FreeAccess))
    }

    /// When a door next has to be looked at.
    pub(super) fn next_door(&self) -> Option<Mono> {
        self.doors.values().flat_map(|d| [d.take_by, d.held_at]).flatten().min()
    }

    pub(super) fn wake_doors(&mut self, now: Now) {
        let due = |at: Option<Mono>| at.is_some_and(|at| at <= now.mono);
        let late: Vec<_> =
            self.doors.iter().filter(|(_, d)| due(d.take_by) || due(d.held_at)).map(|(id, _)| id.clone()).collect();
        for portal in late {
            let untaken = self.doors.get(&portal).is_some_and(|d| due(d.take_by));
            if untaken {
                self.settle_untaken(&portal, now);
            }
            let free = self.is_held_open(&portal, now);
            let Some(door) = self.doors.get_mut(&portal).filter(|d| due(d.held_at)) else { continue };
            // Told once; a door that the mode holds open is looked at again when it has closed.
            door.held_at = None;
            if !free {
                let detail = "the door stays open".to_owned();
                self.alarm(AlarmKind::HeldOpen, Some(&portal), None, detail, now);
            }
        }
    }

    /// A release that nobody took is over.
    fn settle_untaken(&mut self, portal: &PortalId, now: Now) {
        let Some(door) = self.doors.get_mut(portal) else { return };
        let (Some(_), Some((_, uid))) = (door.take_by.take(), door.released.take()) else { return };
        self.record(Event::NotTaken { portal: portal.clone(), who: self.who(uid) }, Flush::Soon, now);
    }
}
