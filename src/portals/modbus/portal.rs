//! One portal put together from the parts an installer sees: a reader, a relay, contacts, a meter.
//!
//! Owns what is reported to the gateway, and when; what opens is decided there, and how a relay is driven is `drive`'s.

use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::access::audit::AlarmKind;
use crate::access::decision::{Decision, Grant};
use crate::access::id::PortalId;
use crate::access::input::{Input, PortalReport, Presented, Request};
use crate::access::portal::{Assurance, Direction, PortalKind, Posture};
use crate::gateway::ports::{Inbox, PortalOrder};
use crate::wire::profile::{Block, DEADLINE_MS_MAX, InputPoint, Meter, Output};

use super::bus::Bus;
use super::drive::{Done, Order, Wanted};
use super::health::UnitState;
use super::queue::Priority;
use super::senses::merged;
use super::tracker::{Seen, Tracker};

/// How long a gate or door is opened when the grant does not say, in milliseconds.
const HOLD_MS_DEFAULT: u32 = 3000;

/// What a portal hears from its devices. Devices are numbered by their place in [`Portal::devices`].
#[derive(Debug)]
pub(super) enum Event {
    /// A poll brought this.
    Sample { device: usize, block: Block, at: Instant },
    /// A device fell silent or came back.
    Unit { device: usize, state: UnitState },
    /// The reader was told to take the next card.
    Released { at: Option<Instant> },
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
    pub(super) reader: Option<(usize, Tracker)>,
    pub(super) output: Option<(usize, Output, u16)>,
    pub(super) inputs: Vec<Contact>,
    pub(super) meter: Option<(usize, Meter, u16)>,
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

/// What was said last, and what could not be said yet because the gateway's inbox was full.
#[derive(Default)]
pub(super) struct Memory {
    online: Option<bool>,
    relay: Option<bool>,
    /// A sample taken before this moment knows nothing of the relay's last confirmed state.
    relay_since: Option<Instant>,
    pub(super) power_w: Option<f64>,
    pub(super) energy_kwh: Option<f64>,
    releasing: bool,
    /// The relay's task is switching off and has not said that it is done.
    cutting: bool,
    unsaid: Option<PortalReport>,
    standing: Option<Grant>,
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
        mut done: mpsc::Receiver<Done>,
        mut stop: watch::Receiver<bool>,
    ) {
        loop {
            tokio::select! {
                biased;
                order = orders.recv() => match order {
                    Some(order) => self.obey(order),
                    None => return,
                },
                Some(what) = done.recv() => self.done(what).await,
                Some(event) = events.recv() => self.event(event).await,
                () = super::stopped(&mut stop) => return,
            }
        }
    }

    fn obey(&mut self, order: PortalOrder) {
        match order {
            PortalOrder::Answer { decision: Decision::Grant(grant), .. } => self.carry_out(grant),
            PortalOrder::Answer { decision: Decision::Deny(denial), .. } => {
                tracing::debug!(portal = %self.id, reason = denial.reason.as_str(), "denied");
            }
            PortalOrder::Release { grant } | PortalOrder::Energise { grant } => self.carry_out(grant),
            PortalOrder::Cut { reason, .. } => {
                tracing::info!(portal = %self.id, reason, "switched off");
                self.memory.standing = None;
                self.want(Wanted::Off);
            }
            PortalOrder::Mode { posture, .. } => self.mode(posture),
        }
    }

    /// A gate or door is held open by `fire` and `free_access`; any other mode closes what this or an earlier run held open.
    fn mode(&mut self, posture: Posture) {
        if self.kind == PortalKind::PowerBox {
            return;
        }
        let open = match posture {
            Posture::Fire | Posture::FreeAccess => true,
            Posture::Secure | Posture::Lockdown | Posture::OutOfService => false,
        };
        let wanted = self.wanted.borrow().wanted;
        match wanted {
            Wanted::Hold if open => {}
            _ if open => self.want(Wanted::Hold),
            Wanted::Hold => self.want(Wanted::Off),
            // A device that does not answer is told when it is back: the gateway says the mode again then.
            Wanted::AsItIs if self.output_answers() => self.want(Wanted::Off),
            Wanted::AsItIs => {}
            // A release under way ends by itself.
            Wanted::Pulse { .. } | Wanted::On { .. } | Wanted::Off => {}
        }
    }

    fn output_answers(&self) -> bool {
        let device = self.output.as_ref().and_then(|(of, ..)| self.devices.get(*of));
        device.is_some_and(|(_, state)| *state == UnitState::Online)
    }

    /// Tells the relay's task. What is being switched off already is not begun anew: its tries and its alarm go on.
    fn want(&mut self, wanted: Wanted) {
        let off = wanted == Wanted::Off;
        if off && self.memory.cutting {
            return;
        }
        self.memory.cutting = off;
        self.wanted.send_modify(|order| *order = order.next(wanted));
    }

    /// Opens or energises; the grant is spent by it.
    fn carry_out(&mut self, grant: Grant) {
        let deadline_ms = self.output.as_ref().map_or(DEADLINE_MS_MAX, |(_, output, _)| output.deadline_ms);
        let until = Instant::now() + Duration::from_millis(u64::from(deadline_ms));
        if *grant.portal() != self.id {
            tracing::error!(portal = %self.id, other = %grant.portal(), "a grant for another portal opens nothing");
            return;
        }
        match self.kind {
            PortalKind::Gate | PortalKind::Door => {
                let hold_ms = grant.hold_ms().unwrap_or(HOLD_MS_DEFAULT);
                // A pulse would end what the standing mode holds open.
                if self.wanted.borrow().wanted != Wanted::Hold {
                    self.want(Wanted::Pulse { until, hold_ms });
                }
            }
            PortalKind::PowerBox => {
                let already =
                    matches!(self.wanted.borrow().wanted, Wanted::On { .. }) && self.memory.relay == Some(true);
                self.memory.standing = Some(grant);
                if !already {
                    self.want(Wanted::On { until });
                }
            }
        }
    }

    async fn done(&mut self, what: Done) {
        match what {
            Done::On(at) => self.relay_is(true, at),
            Done::Off(at) => {
                self.memory.cutting = false;
                self.relay_is(false, at);
            }
            Done::Pulsed => {}
            Done::Failed(cause) => {
                tracing::warn!(portal = %self.id, "the grant is spent: {cause}");
                if matches!(self.wanted.borrow().wanted, Wanted::On { .. }) {
                    // It may have been carried out all the same; an open question is closed by switching off.
                    self.memory.standing = None;
                    self.want(Wanted::Off);
                }
                self.alarm(AlarmKind::PortalOffline, format!("a release was not confirmed: {cause}")).await;
            }
            Done::Unconfirmed(cause) => {
                self.alarm(AlarmKind::UnconfirmedRevocation, cause).await;
            }
        }
    }

    async fn alarm(&self, kind: AlarmKind, detail: String) {
        tracing::warn!(portal = %self.id, alarm = kind.as_str(), "{detail}");
        if self.inbox.urgent(Input::Alarm { kind, portal: Some(self.id.clone()), detail }).await.is_err() {
            tracing::debug!(portal = %self.id, "the gateway has ended");
        }
    }

    fn relay_is(&mut self, on: bool, at: Instant) {
        if self.memory.relay_since.is_some_and(|since| at < since) {
            return;
        }
        self.memory.relay_since = Some(at);
        if self.kind == PortalKind::PowerBox && self.memory.relay != Some(on) {
            self.memory.relay = Some(on);
            self.report(PortalReport { relay: Some(on), ..PortalReport::default() });
        }
    }

    /// Reports; what does not fit the inbox is said with the next report.
    pub(super) fn report(&mut self, report: PortalReport) {
        let whole = match self.memory.unsaid.take() {
            Some(unsaid) => merged(unsaid, report),
            None => report,
        };
        let input = Input::Report { portal: self.id.as_str().to_owned(), report: whole.clone() };
        if !self.inbox.offer(input) {
            self.memory.unsaid = Some(whole);
        }
    }

    async fn event(&mut self, event: Event) {
        match event {
            Event::Sample { device, block, at } => {
                if let Some(unsaid) = self.memory.unsaid.take() {
                    self.report(unsaid);
                }
                self.read_card(device, &block, at);
                self.read_inputs(device, &block);
                self.read_relay(device, &block, at);
                self.read_meter(device, &block);
                self.report_online();
            }
            Event::Unit { device, state } => self.unit(device, state),
            Event::Released { at } => {
                self.memory.releasing = false;
                if let (Some(at), Some((_, tracker))) = (at, &mut self.reader) {
                    tracker.released(at);
                }
            }
        }
    }

    fn unit(&mut self, device: usize, state: UnitState) {
        let silent = matches!(state, UnitState::Offline { .. });
        if let Some(entry) = self.devices.get_mut(device) {
            entry.1 = state;
        }
        if silent {
            if let Some((of, tracker)) = &mut self.reader
                && *of == device
            {
                tracker.lost();
            }
            for contact in self.inputs.iter_mut().filter(|contact| contact.device == device) {
                contact.last = None;
            }
            if self.output.as_ref().is_some_and(|(of, ..)| *of == device) {
                self.memory.relay = None;
                // What was switched on before the loss is not switched on again after it; what must go off still must.
                let wanted = self.wanted.borrow().wanted;
                match wanted {
                    // The gateway tells a portal that comes back its standing mode anew.
                    Wanted::On { .. } | Wanted::Hold => {
                        self.memory.standing = None;
                        self.want(Wanted::AsItIs);
                    }
                    // A pulse ends by itself, or by the relay's task, which goes on trying.
                    Wanted::Pulse { .. } | Wanted::Off | Wanted::AsItIs => {}
                }
            }
        }
        self.report_online();
    }

    /// A portal is online when all its devices answer and its reader was heard: from then on a new card is seen as new.
    fn report_online(&mut self) {
        let cause = self.devices.iter().find_map(|(_, state)| match state {
            UnitState::Offline { cause } => Some(cause.clone()),
            UnitState::Online | UnitState::Unknown => None,
        });
        let online = match &cause {
            Some(_) => Some(false),
            None if self.devices.iter().any(|(device, state)| device.polled && *state != UnitState::Online) => None,
            None => self.reader.as_ref().is_none_or(|(_, tracker)| tracker.is_heard()).then_some(true),
        };
        if online.is_some() && online != self.memory.online {
            self.memory.online = online;
            self.report(PortalReport { online, cause, ..PortalReport::default() });
        }
    }

    fn read_card(&mut self, device: usize, block: &Block, at: Instant) {
        let Some((of, tracker)) = &mut self.reader else { return };
        if *of != device {
            return;
        }
        let direction = tracker.reader().direction;
        let mut asked = true;
        for what in tracker.hear(block, at) {
            match what {
                Seen::Came(presented) => asked = self.ask(presented, direction),
                Seen::There(presented) => self.slot(true, Some(presented)),
                Seen::Left | Seen::Empty => self.slot(false, None),
                Seen::Missed => {
                    tracing::warn!(portal = %self.id, "a card shown while the reader was not heard opens nothing");
                }
            }
        }
        let Some((_, tracker)) = &mut self.reader else { return };
        if !asked {
            tracing::warn!(portal = %self.id, "the gateway's inbox is full: the card is asked for again with the next sample");
            tracker.unsee();
            return;
        }
        if let Some(request) = tracker.release()
            && !self.memory.releasing
            && let Some((Device { bus, unit, .. }, _)) = self.devices.get(device)
        {
            self.memory.releasing = true;
            let (bus, unit, events) = (bus.clone(), *unit, self.events.clone());
            tokio::spawn(async move {
                let at = bus.call(unit, request, Priority::Card, None).await.ok().map(|answer| answer.at);
                // The portal has ended: nobody wants to know.
                drop(events.send(Event::Released { at }).await);
            });
        }
    }

    /// Only a power box keeps a card.
    fn slot(&mut self, present: bool, uid: Option<Presented>) {
        if self.kind == PortalKind::PowerBox {
            self.report(PortalReport { card_present: Some(present), uid, ..PortalReport::default() });
        }
    }

    /// Asks for a card. `false`: the gateway's inbox is full.
    fn ask(&mut self, presented: Presented, direction: Option<Direction>) -> bool {
        self.inbox.offer(Input::Request(Request {
            portal: self.id.as_str().to_owned(),
            id: None,
            presented,
            direction,
            assurance: Assurance::Uid,
            stale: false,
        }))
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
        let wanted = self.wanted.borrow().wanted;
        self.relay_is(on, at);
        // Somebody or something else switched it on: it is switched off again.
        if on && wanted == Wanted::Off {
            self.want(Wanted::Off);
        }
    }
}
