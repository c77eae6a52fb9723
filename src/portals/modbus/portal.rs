//! One portal put together from the parts an installer sees: a reader, a relay, contacts, a meter.
//!
//! Owns what is reported to the gateway, and when; what it orders is `orders`', and how a relay is driven is `drive`'s.

use std::collections::BTreeMap;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use crate::access::decision::Grant;
use crate::access::id::PortalId;
use crate::access::input::{Input, PortalReport};
use crate::access::portal::PortalKind;
use crate::gateway::ports::{Inbox, PortalOrder};
use crate::profile::{Block, InputPoint, Meter, Output};

use super::bus::Bus;
use super::drive::{Order, Told, Wanted};
use super::health::UnitState;
use super::slots::Slot;

/// What a portal hears from its devices. Devices are numbered by their place in [`Portal::devices`].
#[derive(Debug)]
pub(super) enum Event {
    /// A poll brought this.
    Sample { device: usize, block: Block, at: Instant },
    /// A device fell silent or came back.
    Unit { device: usize, state: UnitState },
    /// The reader of a slot was told to take the next card.
    Released { slot: u8, at: Option<Instant> },
}

/// Reads and writes one device.
#[derive(Clone)]
pub(super) struct Device {
    pub(super) bus: Bus,
    pub(super) unit: u8,
    /// Something is asked of it all the time, so its silence is noticed. A board that cannot be read back is not.
    pub(super) polled: bool,
}

/// A portal at work.
pub(super) struct Portal {
    pub(super) id: PortalId,
    pub(super) kind: PortalKind,
    pub(super) devices: Vec<(Device, UnitState)>,
    /// Its readers: one, or one for each slot of a power box.
    pub(super) slots: Vec<Slot>,
    pub(super) output: Option<(usize, Output, u16)>,
    pub(super) inputs: Vec<Contact>,
    pub(super) meter: Option<MeterPart>,
    pub(super) inbox: Inbox,
    pub(super) wanted: watch::Sender<Order>,
    pub(super) events: mpsc::Sender<Event>,
    pub(super) memory: Memory,
}

/// One contact and what it said last.
pub(super) struct Contact {
    pub(super) device: usize,
    pub(super) input: InputPoint,
    pub(super) channel: u16,
    pub(super) last: Option<f64>,
}

/// A portal's meter, and what it said last.
pub(super) struct MeterPart {
    pub(super) device: usize,
    pub(super) meter: Meter,
    pub(super) channel: u16,
    /// It measures other portals too.
    pub(super) shared: bool,
    pub(super) said: Option<Said>,
}

/// A reading that was reported.
pub(super) struct Said {
    pub(super) power_w: Option<f64>,
    pub(super) energy_kwh: Option<f64>,
    pub(super) at: Instant,
}

/// What was said last, and what could not be said yet because the gateway's inbox was full.
#[derive(Default)]
pub(super) struct Memory {
    online: Option<bool>,
    pub(super) relay: Option<bool>,
    /// A sample taken before this moment knows nothing of the relay's last confirmed state.
    relay_since: Option<Instant>,
    /// The relay's task is switching off and has not said that it is done.
    pub(super) cutting: bool,
    /// The relay's task is switching a box on and has not said how that ended.
    pub(super) switching_on: bool,
    /// By slot; what concerns none is with slot 0.
    pub(super) unsaid: BTreeMap<u8, PortalReport>,
    /// Granted while the relay is still being switched off, and until when that counts: off comes first.
    pub(super) next: Option<(Grant, Instant)>,
}

impl Memory {
    /// Of a portal whose relay is being switched off from the start, or left as it is.
    pub(super) fn new(cutting: bool) -> Self {
        Self { cutting, ..Self::default() }
    }
}

impl Portal {
    /// Works until the gateway ends or `stop` turns true.
    pub(super) async fn run(
        mut self,
        mut orders: mpsc::Receiver<PortalOrder>,
        mut events: mpsc::Receiver<Event>,
        mut done: mpsc::Receiver<Told>,
        mut stop: watch::Receiver<bool>,
    ) {
        loop {
            let next_until = self.memory.next.as_ref().map_or_else(Instant::now, |(_, until)| *until);
            tokio::select! {
                biased;
                order = orders.recv() => match order {
                    Some(order) => self.obey(order),
                    None => return,
                },
                Some(what) = done.recv() => self.done(what).await,
                Some(event) = events.recv() => self.event(event).await,
                () = sleep_until(next_until), if self.memory.next.is_some() => self.too_late().await,
                () = super::stopped(&mut stop) => return,
            }
        }
    }

    pub(super) fn relay_is(&mut self, on: bool, at: Instant) {
        if self.memory.relay_since.is_some_and(|since| at < since) {
            return;
        }
        self.memory.relay_since = Some(at);
        if self.kind == PortalKind::PowerBox && self.memory.relay != Some(on) {
            self.memory.relay = Some(on);
            // What is drawn now is another reading, also if it is the same: a relay that sticks draws as before.
            self.meter.iter_mut().for_each(|meter| meter.said = None);
            self.report(PortalReport { relay: Some(on), ..PortalReport::default() });
        }
    }

    /// Reports; what does not fit the inbox is said with the next report.
    pub(super) fn report(&mut self, report: PortalReport) {
        let slot = report.slot;
        let whole = match self.memory.unsaid.remove(&slot) {
            Some(unsaid) => unsaid.then(report),
            None => report,
        };
        let input = Input::Report { portal: self.id.as_str().to_owned(), report: whole.clone() };
        if !self.inbox.offer(input) {
            self.memory.unsaid.insert(slot, whole);
        }
    }

    async fn event(&mut self, event: Event) {
        match event {
            Event::Sample { device, block, at } => {
                for unsaid in std::mem::take(&mut self.memory.unsaid).into_values() {
                    self.report(unsaid);
                }
                self.read_cards(device, &block, at);
                self.read_inputs(device, &block);
                self.read_relay(device, &block, at);
                self.read_meter(device, &block, at);
                self.report_online();
            }
            Event::Unit { device, state } => self.unit(device, state),
            Event::Released { slot, at } => self.released(slot, at),
        }
    }

    fn unit(&mut self, device: usize, state: UnitState) {
        let silent = matches!(state, UnitState::Offline { .. });
        if let Some(entry) = self.devices.get_mut(device) {
            entry.1 = state;
        }
        if silent {
            self.slots.iter_mut().filter(|slot| slot.device == device).for_each(Slot::lost);
            self.say_empty();
            // Said anew when it is back.
            self.meter.iter_mut().filter(|meter| meter.device == device).for_each(|meter| meter.said = None);
            for contact in self.inputs.iter_mut().filter(|contact| contact.device == device) {
                contact.last = None;
            }
            if self.output.as_ref().is_some_and(|(of, ..)| *of == device) {
                self.memory.relay = None;
                self.memory.next.iter_mut().for_each(|(_, until)| *until = Instant::now());
                // What was switched on before the loss is not switched on again after it; what must go off still must.
                let wanted = self.wanted.borrow().wanted;
                match wanted {
                    // The gateway tells a portal that comes back its standing mode anew.
                    Wanted::On { .. } | Wanted::Hold => self.want(Wanted::AsItIs),
                    // A pulse ends by itself, or by the relay's task, which goes on trying.
                    Wanted::Pulse { .. } | Wanted::Off | Wanted::AsItIs => {}
                }
            }
        }
        self.report_online();
    }

    /// A portal is online when all its devices answer and its readers were heard: from then on a new card is seen as new.
    fn report_online(&mut self) {
        let cause = self.devices.iter().find_map(|(_, state)| match state {
            UnitState::Offline { cause } => Some(cause.clone()),
            UnitState::Online | UnitState::Unknown => None,
        });
        let online = match &cause {
            Some(_) => Some(false),
            None if self.devices.iter().any(|(device, state)| device.polled && *state != UnitState::Online) => None,
            None => self.slots.iter().all(|slot| slot.tracker.is_heard()).then_some(true),
        };
        if online.is_some() && online != self.memory.online {
            let was_away = self.memory.online.replace(online == Some(true)) == Some(false);
            self.report(PortalReport { online, cause, ..PortalReport::default() });
            if was_away {
                // The gateway only remembers who was in it, and waits to hear who is.
                self.slots.iter_mut().for_each(|slot| slot.tracker.say_again());
            }
        }
    }

    fn read_relay(&mut self, device: usize, block: &Block, at: Instant) {
        let Some((of, output, channel)) = &self.output else { return };
        if *of != device {
            return;
        }
        let Some(on) = output.state.as_ref().and_then(|state| state.flag(block, *channel)) else { return };
        if self.memory.relay_since.is_some_and(|since| at < since) {
            return;
        }
        // One that went off by itself is judged by the gateway, which has a limit for it.
        self.relay_is(on, at);
        // Somebody or something else switched a box on: it is switched off again. A lock may have an exit button of its own.
        if on && self.kind == PortalKind::PowerBox && self.wanted.borrow().wanted == Wanted::Off {
            self.want(Wanted::Off);
        }
    }
}
