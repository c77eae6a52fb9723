//! A portal's readers: what their registers show becomes requests and reports. A gate or door has one; a power box one for each slot.

use std::time::Duration;

use tokio::time::Instant;

use crate::access::input::{Input, PortalReport, Presented, Request};
use crate::access::portal::{Assurance, Direction, PortalKind};
use crate::profile::Block;

use super::health::UnitState;
use super::portal::{Device, Event, Portal};
use super::queue::Priority;
use super::tracker::{Seen, Tracker};

/// How long a slot that was found empty waits for the portal's other readers until it is said, in milliseconds.
const EMPTY_HELD_MS: u64 = 5000;

/// One reader of a portal.
pub(super) struct Slot {
    /// Which of the portal's devices it is part of.
    pub(super) device: usize,
    /// Its number in the portal, from 0.
    pub(super) number: u8,
    pub(super) tracker: Tracker,
    /// It is being told to take the next card.
    releasing: bool,
    /// It was found empty then, which was not said yet.
    empty_since: Option<Instant>,
}

impl Slot {
    pub(super) fn new(device: usize, number: u8, tracker: Tracker) -> Self {
        Self { device, number, tracker, releasing: false, empty_since: None }
    }

    /// Its device fell silent: what it said and was not passed on is out of date.
    pub(super) fn lost(&mut self) {
        self.tracker.lost();
        self.empty_since = None;
    }
}

impl Portal {
    /// Takes what a device said for all slots that are part of it.
    pub(super) fn read_cards(&mut self, device: usize, block: &Block, at: Instant) {
        let mut seen = Vec::new();
        for slot in self.slots.iter_mut().filter(|slot| slot.device == device) {
            let direction = slot.tracker.reader().direction;
            seen.extend(slot.tracker.hear(block, at).into_iter().map(|what| (slot.number, direction, what)));
        }
        for (slot, direction, what) in seen {
            let found_empty = (what == Seen::Empty).then_some(at);
            self.slots.iter_mut().filter(|s| s.number == slot).for_each(|s| s.empty_since = found_empty);
            if found_empty.is_none() {
                self.seen(slot, direction, what);
            }
        }
        self.say_empty();
        self.release_readers(device);
    }

    /// Says which slots were found empty, once every reader has spoken or cannot: the gateway may remember a card and not in which
    /// slot, so a slot speaks for itself alone as long as another may hold that card.
    pub(super) fn say_empty(&mut self) {
        let silent = |slot: &Slot| {
            let state = self.devices.get(slot.device).map(|(_, state)| state);
            !slot.tracker.is_sure() && !matches!(state, Some(UnitState::Offline { .. }))
        };
        let waits = self.slots.iter().any(silent);
        let limit = Duration::from_millis(EMPTY_HELD_MS);
        let due = |slot: &&mut Slot| slot.empty_since.is_some_and(|since| !waits || since.elapsed() >= limit);
        let said: Vec<u8> = self.slots.iter_mut().filter(due).map(|s| (s.empty_since.take(), s.number).1).collect();
        for slot in said {
            self.occupied(PortalReport { card_present: Some(false), slot, ..PortalReport::default() });
        }
    }

    fn seen(&mut self, slot: u8, direction: Option<Direction>, what: Seen) {
        let said = PortalReport { slot, ..PortalReport::default() };
        match what {
            Seen::Came(presented) => {
                if !self.ask(slot, presented, direction) {
                    let (bus, unit) = self.reader_place(slot);
                    tracing::warn!(
                        portal = %self.id, bus, unit,
                        "the gateway's inbox is full: the card is asked for again with the next sample"
                    );
                    self.slots.iter_mut().filter(|s| s.number == slot).for_each(|s| s.tracker.unsee());
                }
            }
            Seen::There(presented) => {
                self.occupied(PortalReport { card_present: Some(true), uid: Some(presented), ..said });
            }
            Seen::Left | Seen::Empty => self.occupied(PortalReport { card_present: Some(false), ..said }),
            Seen::Exchanged => {
                self.occupied(PortalReport { card_present: Some(false), exchanged: true, ..said });
            }
            Seen::Missed => {
                let (bus, unit) = self.reader_place(slot);
                tracing::warn!(portal = %self.id, bus, unit, "a card shown while the reader was not heard opens nothing");
            }
        }
    }

    /// Line and unit of a slot's reader, for logs.
    fn reader_place(&self, number: u8) -> (Option<&str>, Option<u8>) {
        let slot = self.slots.iter().find(|slot| slot.number == number);
        let device = slot.and_then(|slot| self.devices.get(slot.device)).map(|(device, _)| device);
        (device.map(|device| device.bus.id()), device.map(|device| device.unit))
    }

    /// Only a power box keeps a card.
    fn occupied(&mut self, report: PortalReport) {
        if self.kind == PortalKind::PowerBox {
            self.report(report);
        }
    }

    /// Asks for a card. `false`: the gateway's inbox is full.
    fn ask(&mut self, slot: u8, presented: Presented, direction: Option<Direction>) -> bool {
        // What came before it is said before it.
        self.memory.unsaid.is_empty()
            && self.inbox.offer(Input::Request(Request {
                portal: self.id.as_str().to_owned(),
                id: None,
                presented,
                direction,
                assurance: Assurance::Uid,
                stale: false,
                slot,
            }))
    }

    fn release_readers(&mut self, device: usize) {
        let Some((Device { bus, unit, .. }, _)) = self.devices.get(device) else { return };
        for slot in self.slots.iter_mut().filter(|slot| slot.device == device && !slot.releasing) {
            let Some(request) = slot.tracker.release() else { continue };
            slot.releasing = true;
            let (bus, unit, events, slot) = (bus.clone(), *unit, self.events.clone(), slot.number);
            tokio::spawn(async move {
                let at = bus.call(unit, request, Priority::Card, None).await.ok().map(|answer| answer.at);
                // The portal has ended: nobody wants to know.
                drop(events.send(Event::Released { slot, at }).await);
            });
        }
    }

    /// The reader of a slot was told to take the next card; `None`: it could not be told.
    pub(super) fn released(&mut self, slot: u8, at: Option<Instant>) {
        for slot in self.slots.iter_mut().filter(|s| s.number == slot) {
            slot.releasing = false;
            if let Some(at) = at {
                slot.tracker.released(at);
            }
        }
    }
}
