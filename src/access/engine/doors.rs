//! Doors and gates after the release: was it taken, was the door forced, does it stay open, is its relay on without a release.

use std::collections::BTreeMap;

use super::super::decide::Observed;
use super::super::decision::{Decision, GrantReason, Reason};
use super::super::effect::PortalOrder;
use super::super::event::{AlarmKind, Event, Flush};
use super::super::id::{CardUid, Mono, Now, PortalId};
use super::super::portal::{Direction, Posture};
use super::super::power_box::RELAY_SETTLE_MS;
use super::{Due, Engine};

/// How long after the end of a release somebody may still pass on it, in milliseconds (wire contract, section 6).
pub const PASS_LATE_MS: u64 = 10_000;
/// How long after the end of a release a door may still be pushed open, in milliseconds: the contact is polled, too.
pub const OPEN_LATE_MS: u64 = 2_000;

/// A release of a door or gate.
#[derive(Clone, Copy, Debug)]
pub(super) struct Release {
    /// Whose it was.
    pub uid: Option<CardUid>,
    /// By what right.
    pub by: GrantReason,
    /// How long it lasts, in milliseconds.
    pub hold_ms: u32,
}

/// The last release of a door or gate.
#[derive(Clone, Copy, Debug)]
struct Released {
    end: Mono,
    uid: Option<CardUid>,
    by: GrantReason,
    /// The portal was ordered not to do it any more.
    withdrawn: bool,
}

/// One door or gate.
#[derive(Debug, Default)]
pub(super) struct Door {
    /// The last release, until somebody passes on it.
    released: Option<Released>,
    /// The release waits to be taken until then; only where somebody was ever seen to pass.
    take_by: Option<Mono>,
    open: bool,
    /// The door has been open too long from then on.
    held_at: Option<Mono>,
    /// By how much that release was longer than usual, so that the door may stay open for longer, in milliseconds.
    longer_ms: u64,
    /// The end of the last release, taken or not: until then the relay may be on. 0: there was none.
    on_until: Mono,
    relay: DoorRelay,
}

/// The relay of a door or gate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum DoorRelay {
    /// Off, or not known.
    #[default]
    Off,
    /// On, and the standing mode holds it so.
    Held,
    /// On; judged then, unless it goes off before.
    On { judge_at: Mono },
    /// On without a release: ordered off, and judged once more then.
    OrderedOff { judge_at: Mono },
    /// It does not follow, and that was raised.
    Forced,
}

/// All doors and gates that ever reported something or were released.
pub(super) type Doors = BTreeMap<PortalId, Door>;

impl Door {
    fn due(&self) -> Option<Mono> {
        let judge_at = match self.relay {
            DoorRelay::On { judge_at } | DoorRelay::OrderedOff { judge_at } => Some(judge_at),
            DoorRelay::Off | DoorRelay::Held | DoorRelay::Forced => None,
        };
        [self.take_by, self.held_at, judge_at].into_iter().flatten().min()
    }
}

impl Engine {
    /// Changes what is known of a door, and when it has to be looked at next.
    fn at_door<T>(&mut self, portal: &PortalId, change: impl FnOnce(&mut Door) -> T) -> T {
        let door = self.doors.entry(portal.clone()).or_default();
        let result = change(door);
        self.deadlines.set(Due::Door(portal.clone()), door.due());
        result
    }

    /// A door or gate is being released.
    pub(super) fn released(&mut self, portal: &PortalId, release: Release, now: Now) {
        self.settle_untaken(portal, now);
        let Release { uid, by, hold_ms } = release;
        let end = now.mono.plus_ms(u64::from(hold_ms));
        let reports_passing = self.state.presence.reports_passing(portal);
        let usual_ms = self.portal(portal.as_str()).map_or(hold_ms, |p| p.hold_ms);
        self.at_door(portal, |door| {
            let longer_ms = u64::from(hold_ms.saturating_sub(usual_ms));
            door.longer_ms = if door.on_until > now.mono { door.longer_ms.max(longer_ms) } else { longer_ms };
            door.released = Some(Released { end, uid, by, withdrawn: false });
            door.on_until = door.on_until.max(end);
            door.take_by = reports_passing.then(|| end.plus_ms(PASS_LATE_MS));
        });
    }

    /// How long the release that was given still lasts, in milliseconds. The next one may not end before it: whoever was let in first
    /// may need that time.
    pub(super) fn release_left_ms(&self, portal: &PortalId, now: Now) -> u32 {
        let left_ms = self.doors.get(portal).map_or(0, |door| door.on_until.since_ms(now.mono));
        u32::try_from(left_ms).unwrap_or(u32::MAX)
    }

    /// The same card was shown again and let in again, as part of the same presentation.
    pub(super) fn released_again(&mut self, portal: &PortalId, release: Release, now: Now) {
        let Release { uid, by, hold_ms } = release;
        let end = now.mono.plus_ms(u64::from(hold_ms));
        self.at_door(portal, |door| {
            door.released = Some(Released { end, uid, by, withdrawn: false });
            door.on_until = door.on_until.max(end);
            // Nobody need pass a second time.
            door.take_by = door.take_by.map(|_| end.plus_ms(PASS_LATE_MS));
        });
    }

    /// Rights or modes have changed: a release whose right is gone is withdrawn, so that what its portal has not confirmed yet, or is
    /// still to be asked for, does not open any more.
    pub(super) fn judge_releases(&mut self, now: Now) {
        let lasts = |released: &&Released| !released.withdrawn && now.mono < released.end.plus_ms(PASS_LATE_MS);
        let last = self.doors.iter().filter_map(|(id, door)| Some((id, door.released.as_ref().filter(lasts)?)));
        let gone: Vec<_> =
            last.filter_map(|(id, last)| Some((id.clone(), self.against_release(id, last, now)?))).collect();
        for (portal, reason) in gone {
            self.at_door(&portal, |door| door.released.iter_mut().for_each(|last| last.withdrawn = true));
            self.order(PortalOrder::Withdraw { portal, reason: reason.as_str() });
        }
    }

    /// Why a release would not be given now; `None`: it would, or nothing is known of its portal. Whoever wants out is let out, and a
    /// command opens whatever is not out of service.
    fn against_release(&self, portal: &PortalId, last: &Released, now: Now) -> Option<Reason> {
        let p = self.portal(portal.as_str())?;
        match last.uid {
            _ if last.by == GrantReason::Exit => None,
            None => (self.posture(p, now) == Posture::OutOfService).then_some(Reason::OutOfService),
            Some(uid) => match self.judged(p, &self.read_of(p, uid), Observed::default(), now) {
                Decision::Grant(_) => None,
                Decision::Deny(denial) => Some(denial.reason),
            },
        }
    }

    /// Somebody passed: on the last release, or on nobody's.
    pub(super) fn passed(&mut self, portal: &PortalId, direction: Direction, now: Now) {
        let way = self.portal(portal.as_str()).and_then(|p| p.direction);
        let taken = self.at_door(portal, |door| {
            // Who passes the other way takes nobody's release.
            if way.is_some_and(|way| way != direction) {
                return None;
            }
            door.take_by = None;
            door.released.take()
        });
        let uid = taken.filter(|last| now.mono < last.end.plus_ms(PASS_LATE_MS)).and_then(|last| last.uid);
        self.record(Event::Taken { portal: portal.clone(), who: self.who(uid), direction }, Flush::Soon, now);
    }

    /// The door's contact opened or closed.
    pub(super) fn contact(&mut self, portal: &PortalId, open: bool, now: Now) {
        let held_open_ms = self.held_open_ms(portal);
        let free = self.is_held_open(portal, now);
        let forced = self.at_door(portal, |door| {
            let was_open = std::mem::replace(&mut door.open, open);
            if !open {
                door.held_at = None;
            } else if !was_open {
                let on_release = door.on_until > Mono(0) && now.mono <= door.on_until.plus_ms(OPEN_LATE_MS);
                let longer_ms = if on_release { door.longer_ms } else { 0 };
                door.held_at = (held_open_ms > 0).then(|| now.mono.plus_ms(held_open_ms).plus_ms(longer_ms));
                return !on_release && !free;
            }
            false
        });
        if forced {
            let detail = "the door opened and nobody had released it".to_owned();
            self.alarm(AlarmKind::ForcedOpen, Some(portal), None, detail, now);
        }
        let relay_forces = self.doors.get(portal).is_some_and(|door| door.relay == DoorRelay::Forced);
        if !open {
            self.alarm_over(AlarmKind::HeldOpen, portal, "the door is closed again", now);
        }
        if !open && !relay_forces {
            self.alarm_over(AlarmKind::ForcedOpen, portal, "the door is closed again", now);
        }
    }

    /// The relay of a door or gate is reported on or off. One that is on without a release may be a button at the device itself, so
    /// it has the time of a release before it is judged.
    pub(super) fn door_relay(&mut self, portal: &PortalId, on: bool, now: Now) {
        let judge_at = now.mono.plus_ms(self.relay_patience_ms(portal));
        let (order_again, is_over) = self.at_door(portal, |door| {
            let was_forced = door.relay == DoorRelay::Forced;
            match door.relay {
                _ if !on => door.relay = DoorRelay::Off,
                DoorRelay::Off => door.relay = DoorRelay::On { judge_at },
                DoorRelay::Held | DoorRelay::On { .. } | DoorRelay::OrderedOff { .. } | DoorRelay::Forced => {}
            }
            (on && was_forced, !on && was_forced && !door.open)
        });
        if order_again {
            self.order(PortalOrder::Lock { portal: portal.clone() });
        }
        if is_over {
            self.alarm_over(AlarmKind::ForcedOpen, portal, "the relay is off again", now);
        }
        if !on {
            self.relay_alarm_over(portal, "the relay is off again", now);
            // One of a device that could not be switched off.
            self.alarm_over(AlarmKind::UnconfirmedRevocation, portal, "the relay is off again", now);
        }
    }

    /// Nothing is known of the relay any more.
    pub(super) fn door_offline(&mut self, portal: &PortalId) {
        if self.doors.contains_key(portal) {
            self.at_door(portal, |door| door.relay = DoorRelay::Off);
        }
    }

    /// The standing mode does not hold the portal open any more: its relay should go off, and the door be closed within its time.
    pub(super) fn door_mode_ended(&mut self, portal: &PortalId, now: Now) {
        if !self.doors.contains_key(portal) {
            return;
        }
        let judge_at = now.mono.plus_ms(self.relay_patience_ms(portal));
        let held_open_ms = self.held_open_ms(portal);
        self.at_door(portal, |door| {
            if door.relay == DoorRelay::Held {
                door.relay = DoorRelay::On { judge_at };
            }
            if door.open && held_open_ms > 0 {
                door.held_at.get_or_insert(now.mono.plus_ms(held_open_ms));
            }
        });
    }

    /// Whether a gate or door can be passed now: its contact is open, its relay is on, its release has not ended, or the mode holds it
    /// open. What one that is offline showed last is not known to be so any more, unless the fault is another device's or its reader's.
    pub(super) fn is_passable(&self, portal: &PortalId, now: Now) -> bool {
        let is_known = self.online.get(portal) != Some(&false) || self.contacts_answer.contains(portal);
        self.doors.get(portal).is_some_and(|door| {
            let shows_open = door.open || door.relay != DoorRelay::Off;
            (shows_open && is_known) || door.on_until > now.mono
        }) || self.is_held_open(portal, now)
    }

    /// How long the door may stay open, in milliseconds; 0: for ever.
    fn held_open_ms(&self, portal: &PortalId) -> u64 {
        self.portal(portal.as_str()).map_or(0, |p| u64::from(p.held_open_ms))
    }

    fn relay_patience_ms(&self, portal: &PortalId) -> u64 {
        self.portal(portal.as_str()).map_or(0, |p| u64::from(p.hold_ms)).max(RELAY_SETTLE_MS)
    }

    /// Whether the mode in force holds the portal open.
    fn is_held_open(&self, portal: &PortalId, now: Now) -> bool {
        self.portal(portal.as_str()).is_some_and(|p| self.posture(p, now).holds_open())
    }

    /// A door's time has come.
    pub(super) fn door_due(&mut self, portal: &PortalId, now: Now) {
        let is_due = |at: Option<Mono>| at.is_some_and(|at| at <= now.mono);
        if self.doors.get(portal).is_some_and(|d| is_due(d.take_by)) {
            self.settle_untaken(portal, now);
        }
        let free = self.is_held_open(portal, now);
        // Raised once; a door that the mode holds open is looked at again when it has closed.
        let held = self.at_door(portal, |door| is_due(door.held_at) && door.held_at.take().is_some());
        if held && !free {
            self.alarm(AlarmKind::HeldOpen, Some(portal), None, "the door stays open".to_owned(), now);
        }
        self.judge_door_relay(portal, free, now);
    }

    fn judge_door_relay(&mut self, portal: &PortalId, free: bool, now: Now) {
        let again_at = now.mono.plus_ms(RELAY_SETTLE_MS);
        let raised = self.at_door(portal, |door| match door.relay {
            DoorRelay::On { judge_at } | DoorRelay::OrderedOff { judge_at } if judge_at > now.mono => None,
            DoorRelay::On { .. } | DoorRelay::OrderedOff { .. } if free => {
                door.relay = DoorRelay::Held;
                None
            }
            DoorRelay::On { .. } | DoorRelay::OrderedOff { .. }
                if door.on_until.plus_ms(RELAY_SETTLE_MS) > now.mono =>
            {
                door.relay = DoorRelay::On { judge_at: door.on_until.plus_ms(RELAY_SETTLE_MS) };
                None
            }
            DoorRelay::On { .. } => {
                door.relay = DoorRelay::OrderedOff { judge_at: again_at };
                Some((AlarmKind::Tamper, "the relay is on and nothing released it; it was ordered off"))
            }
            DoorRelay::OrderedOff { .. } => {
                door.relay = DoorRelay::Forced;
                let detail =
                    "the relay stays on although it was ordered off: the door can be opened; look at its relay";
                Some((AlarmKind::ForcedOpen, detail))
            }
            DoorRelay::Off | DoorRelay::Held | DoorRelay::Forced => None,
        });
        if let Some((kind, detail)) = raised {
            self.order(PortalOrder::Lock { portal: portal.clone() });
            match kind {
                AlarmKind::Tamper => self.relay_alarm(portal, detail.to_owned(), now),
                kind => self.alarm(kind, Some(portal), None, detail.to_owned(), now),
            }
        }
    }

    /// The device of a portal has confirmed a release, or failed. A gate or door that did not open is nobody's passage; of a box, its
    /// relay is reported.
    pub(super) fn release_ended(&mut self, portal: &PortalId, failed: Option<String>, now: Now) {
        let Some(cause) = failed else { return self.release_alarm_over(portal, now) };
        let detail = format!("a release was not confirmed: {cause}");
        if let Some(door) = self.doors.get_mut(portal) {
            // It may have opened all the same: whoever passes then passes on this release.
            door.take_by = None;
            let (due, uid) = (door.due(), door.released.and_then(|last| last.uid));
            self.deadlines.set(Due::Door(portal.clone()), due);
            let event = Event::NotTaken { portal: portal.clone(), who: self.who(uid), detail: detail.clone() };
            self.record(event, Flush::Soon, now);
        }
        self.release_alarm(portal, detail, now);
    }

    /// A release that nobody took is over.
    fn settle_untaken(&mut self, portal: &PortalId, now: Now) {
        let untaken = self.at_door(portal, |door| door.take_by.take().and_then(|_| door.released.take()));
        let Some(last) = untaken else { return };
        let event = Event::NotTaken { portal: portal.clone(), who: self.who(last.uid), detail: String::new() };
        self.record(event, Flush::Soon, now);
    }
}
