//! The device of a simulated portal: its connection, its request under way, its lock or relay.

use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tracing::debug;

use super::{Answer, Command, DECISION_WAIT_MS, NoDecision, Presentation, Seen};
use crate::access::input::{PortalReport, Presented};
use crate::access::portal::{Direction, PortalKind};
use crate::clock::sleep_until_some;
use crate::mqtt::{Connection, Event, Message, Outgoing, Retention};
use crate::wire::portal::{
    Action, PortalControl, PortalDecision, encode_request, encode_state, parse_control, parse_decision,
};
use crate::wire::state::{Presence, parse_local};
use crate::wire::topic::Qos;

/// Longest time to disconnect, in milliseconds.
const CLOSE_MS: u64 = 1_000;

pub(super) struct Device {
    pub(super) request_topic: String,
    pub(super) decision_topic: String,
    pub(super) state_topic: String,
    pub(super) control_topic: String,
    pub(super) kind: PortalKind,
    pub(super) connection: Connection,
    pub(super) show: watch::Sender<Seen>,
    /// Distinguishes the ids of this run's requests from those of another run.
    pub(super) run: u32,
    pub(super) last_request: u64,
    pub(super) waiting: Option<Waiting>,
    pub(super) closes_at: Option<Instant>,
    /// When a power box that rests is switched on.
    pub(super) on_at: Option<Instant>,
}

/// The request under way. There is one, because a reader reads one card at a time.
pub(super) struct Waiting {
    id: String,
    presentation: Presentation,
    since: Instant,
    answer: Answer,
}

impl Device {
    pub(super) async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        loop {
            let next_timer = self.next_timer();
            tokio::select! {
                event = self.connection.next() => self.event(event),
                command = commands.recv() => match command {
                    Some(Command::Present(presentation, answer)) => self.present(presentation, answer),
                    Some(Command::Remove) => self.remove(),
                    None => break,
                },
                () = sleep_until_some(next_timer) => self.time_is_up(),
            }
        }
        self.report(&PortalReport { online: Some(false), ..PortalReport::default() });
        self.connection.close(Duration::from_millis(CLOSE_MS)).await;
    }

    fn next_timer(&self) -> Option<Instant> {
        let waits = self.waiting.as_ref().map(|w| w.since + Duration::from_millis(DECISION_WAIT_MS));
        [waits, self.closes_at, self.on_at].into_iter().flatten().min()
    }

    fn time_is_up(&mut self) {
        let now = Instant::now();
        let waited = |w: &mut Waiting| now >= w.since + Duration::from_millis(DECISION_WAIT_MS);
        if let Some(waiting) = self.waiting.take_if(waited) {
            waiting.answer.send(Err(NoDecision::Silence)).ok();
        }
        if self.on_at.is_some_and(|at| now >= at) {
            self.switch(true);
        }
        if self.closes_at.is_some_and(|at| now >= at) {
            self.closes_at = None;
            self.show.send_modify(|seen| seen.open = false);
            if self.kind == PortalKind::Door {
                self.report(&PortalReport { contact_open: Some(false), ..PortalReport::default() });
            }
        }
    }

    fn switch(&mut self, on: bool) {
        self.on_at = None;
        self.show.send_modify(|seen| seen.relay = on);
        self.report(&PortalReport { relay: Some(on), ..PortalReport::default() });
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Up { .. } => {
                self.show.send_modify(|seen| seen.connected = true);
                self.report(&self.whole_state());
            }
            Event::Down { .. } => self.show.send_modify(|seen| {
                seen.connected = false;
                seen.gateway_online = false;
            }),
            Event::Message(message) => self.received(&message),
            Event::Delivered(_) | Event::SubscriptionRefused { .. } => {}
        }
    }

    fn received(&mut self, message: &Message) {
        if let Some(token) = message.ack {
            self.connection.ack(token);
        }
        let (is_decision, is_order) = (message.topic == self.decision_topic, message.topic == self.control_topic);
        if is_decision || is_order {
            // A retained message is of unknown age and is ignored.
            let taken = match is_decision {
                _ if message.retain => Ok(()),
                true => parse_decision(&message.payload).map(|decision| self.decided(decision)),
                false => parse_control(&message.payload).map(|control| self.ordered(control)),
            };
            if let Err(why) = taken {
                debug!(topic = message.topic, "neither a decision nor an order, ignored: {why}");
            }
            return;
        }
        // The gateway's state, the only other topic subscribed to.
        let online = parse_local(&message.payload) == Some(Presence::Online);
        self.show.send_modify(|seen| seen.gateway_online = online);
        if online {
            self.report(&self.whole_state());
        }
    }

    fn present(&mut self, presentation: Presentation, answer: Answer) {
        if !self.connection.is_up() {
            answer.send(Err(NoDecision::Offline)).ok();
            return;
        }
        self.last_request += 1;
        let id = presentation.id.clone().unwrap_or_else(|| format!("{:04x}-{}", self.run, self.last_request));
        let payload = encode_request(Some(&id), &presentation.uid, presentation.direction, None);
        self.publish(self.request_topic.clone(), payload);
        if self.kind == PortalKind::PowerBox {
            self.show.send_modify(|seen| seen.card = Some(presentation.uid.clone()));
        }
        let waiting = Waiting { id, presentation, since: Instant::now(), answer };
        if let Some(earlier) = self.waiting.replace(waiting) {
            earlier.answer.send(Err(NoDecision::Silence)).ok();
        }
    }

    fn decided(&mut self, decision: PortalDecision) {
        let Some(waiting) = self.waiting.take_if(|w| decision.id.as_ref() == Some(&w.id)) else { return };
        let in_time = waiting.since.elapsed() <= Duration::from_millis(decision.ttl_ms);
        if !in_time {
            waiting.answer.send(Err(NoDecision::Silence)).ok();
            return;
        }
        match (self.kind, decision.granted) {
            (PortalKind::Gate | PortalKind::Door, true) => {
                self.open(decision.hold_ms.unwrap_or(0));
                if self.kind == PortalKind::Gate {
                    let passed = Some(waiting.presentation.direction.unwrap_or(Direction::In));
                    self.report(&PortalReport { passed, ..PortalReport::default() });
                }
            }
            (PortalKind::PowerBox, true) if decision.delay_ms.is_some() => {
                self.on_at = decision.delay_ms.map(|delay_ms| Instant::now() + Duration::from_millis(delay_ms));
            }
            (PortalKind::PowerBox, granted) => {
                self.show.send_modify(|seen| seen.relay |= granted);
                self.report(&self.whole_state());
            }
            (PortalKind::Gate | PortalKind::Door, false) => {}
        }
        waiting.answer.send(Ok(decision)).ok();
    }

    fn ordered(&mut self, control: PortalControl) {
        match (control.action, self.kind) {
            (Action::Release, PortalKind::Gate | PortalKind::Door) => self.open(control.hold_ms.unwrap_or(0)),
            (Action::Lock, _) => self.show.send_modify(|seen| {
                seen.open = false;
                seen.free = false;
            }),
            (Action::Free, _) => self.show.send_modify(|seen| seen.free = true),
            (Action::Resume, _) => self.show.send_modify(|seen| seen.free = false),
            (Action::PowerOn | Action::PowerOff, PortalKind::PowerBox) => {
                self.switch(control.action == Action::PowerOn);
            }
            (Action::Release, PortalKind::PowerBox)
            | (Action::PowerOn | Action::PowerOff, PortalKind::Gate | PortalKind::Door) => {
                debug!(
                    action = control.action.as_str(),
                    kind = self.kind.as_str(),
                    "the order is not for this kind of portal; ignored"
                );
            }
        }
        self.show.send_modify(|seen| seen.control = Some(control));
    }

    fn open(&mut self, hold_ms: u64) {
        self.closes_at = Some(Instant::now() + Duration::from_millis(hold_ms));
        self.show.send_modify(|seen| {
            seen.open = true;
            seen.openings += 1;
        });
        if self.kind == PortalKind::Door {
            self.report(&PortalReport { contact_open: Some(true), ..PortalReport::default() });
        }
    }

    fn remove(&mut self) {
        self.on_at = None;
        self.show.send_modify(|seen| seen.card = None);
        self.report(&PortalReport { card_present: Some(false), ..PortalReport::default() });
    }

    fn whole_state(&self) -> PortalReport {
        let seen = self.show.borrow();
        let plain =
            PortalReport { online: Some(true), tamper: Some(false), fire: Some(false), ..PortalReport::default() };
        match self.kind {
            PortalKind::Gate => plain,
            PortalKind::Door => PortalReport { contact_open: Some(seen.open), ..plain },
            PortalKind::PowerBox => PortalReport {
                card_present: Some(seen.card.is_some()),
                uid: seen.card.clone().map(|text| text.parse().map_or(Presented::Malformed(text), Presented::Card)),
                relay: Some(seen.relay),
                ..plain
            },
        }
    }

    fn report(&mut self, report: &PortalReport) {
        self.publish(self.state_topic.clone(), encode_state(report));
    }

    fn publish(&mut self, topic: String, payload: Vec<u8>) {
        let retention = Retention::Until(Instant::now() + Duration::from_millis(DECISION_WAIT_MS));
        let qos = Qos::AtMostOnce;
        if let Err(why) = self.connection.publish(Outgoing { topic, payload, retain: false, qos, retention }) {
            debug!("a simulated portal cannot send: {why}");
        }
    }
}
