//! A portal's readers: what their registers show becomes requests and reports. A gate or door has one; a power box one for each slot.

use tokio::time::Instant;

use crate::access::input::{Input, PortalReport, Presented, Request};
use crate::access::portal::{Assurance, Direction, PortalKind};
use crate::wire::profile::Block;

use super::portal::{Device, Event, Portal};
use super::queue::Priority;
use super::tracker::{Seen, Tracker};

/// One reader of a portal.
pub(super) struct Slot {
    /// Which of the portal's devices it is part of.
    pub(super) device: usize,
    /// Its number in the portal, from 0.
    pub(super) number: u8,
    pub(super) tracker: Tracker,
    /// It is being told to take the next card.
    releasing: bool,
}

impl Slot {
    pub(super) fn new(device: usize, number: u8, tracker: Tracker) -> Self {
        Self { device, number, tracker, releasing: false }
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
        // A card that the gateway remembers may be in another slot than the empty one: it is said first.
        seen.sort_by_key(|(.., what)| *what == Seen::Empty);
        for (slot, direction, what) in seen {
            self.seen(slot, direction, what);
        }
        self.release_readers(device);
    }

    fn seen(&mut self, slot: u8, direction: Option<Direction>, what: Seen) {
        let said = PortalReport { slot, ..PortalReport::default() };
        match what {
            Seen::Came(presented) => {
                if !self.ask(slot, presented, direction) {
                    tracing::warn!(portal = %self.id, "the gateway's inbox is full: the card is asked for again with the next sample");
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
                tracing::warn!(portal = %self.id, "a card shown while the reader was not heard opens nothing");
            }
        }
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
