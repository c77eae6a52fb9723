//! A simulated native portal: a gate, a door or a power box that speaks section 4 of the wire contract as a real one should.
//!
//! It believes nothing old: a decision counts only for the request it waits for and only within its time. A gate says that
//! somebody passed, a door that it opened and closed, a power box what sits in it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tracing::debug;

use crate::access::id::{GatewayId, PortalId};
use crate::access::input::{PortalReport, Presented};
use crate::access::portal::{Assurance, Direction, PortalKind};
use crate::mqtt::{Connection, Event, Keep, LinkError, LinkMetrics, LinkSpec, Message, Outgoing, Session, Setup, Will};
use crate::wire::portal::{
    Action, PortalControl, PortalDecision, encode_request, encode_state, parse_control, parse_decision,
};
use crate::wire::state::{Presence, parse_local};
use crate::wire::topic::{self, Portal, Qos, Topic};

/// Longest wait for a decision, in milliseconds; then the portal stays as it is.
pub const DECISION_WAIT_MS: u64 = 2_000;
/// Orders that are remembered for who looks on; older ones are forgotten.
pub const CONTROLS_MAX: usize = 64;
/// Things to do under way to a simulated portal.
const DOINGS_MAX: usize = 64;
/// Longest time to say goodbye, in milliseconds.
const CLOSE_MS: u64 = 1_000;

/// What a simulated portal is made of.
#[derive(Clone, Debug)]
pub struct SimulatedSpec {
    /// Where to connect and as whom; each portal needs a client id of its own.
    pub link: LinkSpec,
    /// Its gateway.
    pub gateway: GatewayId,
    /// Its id.
    pub portal: PortalId,
    /// What it is.
    pub kind: PortalKind,
}

/// A card as it is presented.
#[derive(Clone, Debug, Default)]
pub struct Presentation {
    /// The UID as text; anything may be presented.
    pub uid: String,
    /// Which way.
    pub direction: Option<Direction>,
    /// How it is read.
    pub assurance: Option<Assurance>,
    /// The request's id; a fresh one if `None`.
    pub id: Option<String>,
}

/// What a portal is like now, for who looks on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Seen {
    /// Connected to the broker.
    pub connected: bool,
    /// The gateway says that it is there.
    pub gateway_online: bool,
    /// What sits in the power box.
    pub card: Option<String>,
    /// A gate or door is open now.
    pub open: bool,
    /// How often it was opened.
    pub openings: u64,
    /// A power box is on.
    pub relay: bool,
    /// Told to stay open.
    pub free: bool,
    /// The last orders, oldest first.
    pub controls: VecDeque<PortalControl>,
}

/// Why a presentation gave no decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoDecision {
    /// The portal is not connected.
    #[error("the portal is not connected to its broker")]
    Offline,
    /// Nothing came in time.
    #[error("no decision within {DECISION_WAIT_MS} ms; is the gateway running?")]
    Silence,
    /// The portal was stopped.
    #[error("the portal has been stopped")]
    Stopped,
}

type Answer = oneshot::Sender<Result<PortalDecision, NoDecision>>;

enum Doing {
    Present(Presentation, Answer),
    Remove,
    Report(PortalReport),
}

/// A running simulated portal. Dropped, it says goodbye and ends by itself.
pub struct SimulatedPortal {
    doings: mpsc::Sender<Doing>,
    seen: watch::Receiver<Seen>,
    task: JoinHandle<()>,
}

impl SimulatedPortal {
    /// Starts it; it connects by itself.
    ///
    /// # Errors
    /// [`LinkError`] if it can never connect.
    pub fn start(spec: SimulatedSpec) -> Result<Self, LinkError> {
        let SimulatedSpec { link, gateway, portal, kind } = spec;
        let topic = |leaf| Topic::Portal(gateway.clone(), portal.to_string(), leaf).to_string();
        let offline = encode_state(&PortalReport { online: Some(false), ..PortalReport::default() });
        let setup = Setup {
            link: "simulated",
            session: Session::Clean,
            subscriptions: topic::portal_subscriptions(&gateway, portal.as_str()),
            will: Some(Will {
                topic: topic(Portal::State),
                retain: false,
                payload: Arc::new(move |_| offline.clone()),
            }),
            echo_topic: None,
        };
        let connection = Connection::new(link, setup, Arc::new(LinkMetrics::default()))?;
        let (doings, to_do) = mpsc::channel(DOINGS_MAX);
        let (show, seen) = watch::channel(Seen::default());
        let run = getrandom::u32().unwrap_or(0) & 0xFFFF;
        let device = Device {
            request_topic: topic(Portal::Request),
            decision_topic: topic(Portal::Decision),
            state_topic: topic(Portal::State),
            control_topic: topic(Portal::Control),
            kind,
            connection,
            show,
            run,
            last_request: 0,
            waiting: None,
            closes_at: None,
        };
        let task = tokio::spawn(device.run(to_do));
        Ok(Self { doings, seen, task })
    }

    /// Presents a card and waits for the decision.
    ///
    /// # Errors
    /// [`NoDecision`] if there is none.
    pub async fn present(&self, uid: &str) -> Result<PortalDecision, NoDecision> {
        self.present_as(Presentation { uid: uid.to_owned(), ..Presentation::default() }).await
    }

    /// Presents a card with all that a reader may say, and waits for the decision.
    ///
    /// # Errors
    /// [`NoDecision`] if there is none.
    pub async fn present_as(&self, presentation: Presentation) -> Result<PortalDecision, NoDecision> {
        let (answer, decision) = oneshot::channel();
        let doing = Doing::Present(presentation, answer);
        self.doings.send(doing).await.map_err(|_| NoDecision::Stopped)?;
        decision.await.map_err(|_| NoDecision::Stopped)?
    }

    /// Takes the card out of the power box.
    pub async fn remove(&self) {
        self.doings.send(Doing::Remove).await.ok();
    }

    /// Makes the portal say this of itself.
    pub async fn report(&self, report: PortalReport) {
        self.doings.send(Doing::Report(report)).await.ok();
    }

    /// What the portal is like now.
    #[must_use]
    pub fn seen(&self) -> Seen {
        self.seen.borrow().clone()
    }

    /// Waits until the portal is as wanted; `None`: not within this time.
    pub async fn wait_until(&self, within: Duration, wanted: impl FnMut(&Seen) -> bool) -> Option<Seen> {
        let mut seen = self.seen.clone();
        let found = tokio::time::timeout(within, seen.wait_for(wanted)).await.ok()?;
        found.ok().map(|seen| seen.clone())
    }

    /// Ends it as a power cut would: its last will speaks.
    pub fn kill(self) {
        self.task.abort();
    }

    /// Ends it in order; it says that it goes offline.
    pub async fn stop(self) {
        drop(self.doings);
        self.task.await.ok();
    }
}

struct Device {
    request_topic: String,
    decision_topic: String,
    state_topic: String,
    control_topic: String,
    kind: PortalKind,
    connection: Connection,
    show: watch::Sender<Seen>,
    /// Tells the requests of this run from those of another.
    run: u32,
    last_request: u64,
    waiting: Option<Waiting>,
    closes_at: Option<Instant>,
}

/// The one request under way: a reader reads one card at a time.
struct Waiting {
    id: String,
    presentation: Presentation,
    since: Instant,
    answer: Answer,
}

impl Device {
    async fn run(mut self, mut to_do: mpsc::Receiver<Doing>) {
        loop {
            let next_timer = self.next_timer();
            tokio::select! {
                event = self.connection.next() => self.happened(event),
                doing = to_do.recv() => match doing {
                    Some(Doing::Present(presentation, answer)) => self.present(presentation, answer),
                    Some(Doing::Remove) => self.remove(),
                    Some(Doing::Report(report)) => self.say(&report),
                    None => break,
                },
                () = until(next_timer) => self.time_is_up(),
            }
        }
        self.say(&PortalReport { online: Some(false), ..PortalReport::default() });
        self.connection.close(Duration::from_millis(CLOSE_MS)).await;
    }

    fn next_timer(&self) -> Option<Instant> {
        let waits = self.waiting.as_ref().map(|w| w.since + Duration::from_millis(DECISION_WAIT_MS));
        [waits, self.closes_at].into_iter().flatten().min()
    }

    fn time_is_up(&mut self) {
        let now = Instant::now();
        let waited = |w: &mut Waiting| now >= w.since + Duration::from_millis(DECISION_WAIT_MS);
        if let Some(waiting) = self.waiting.take_if(waited) {
            waiting.answer.send(Err(NoDecision::Silence)).ok();
        }
        if self.closes_at.is_some_and(|at| now >= at) {
            self.closes_at = None;
            self.show.send_modify(|seen| seen.open = false);
            match self.kind {
                PortalKind::Door => self.say(&PortalReport { contact_open: Some(false), ..PortalReport::default() }),
                PortalKind::Gate | PortalKind::PowerBox => {}
            }
        }
    }

    fn happened(&mut self, event: Event) {
        match event {
            Event::Up { .. } => {
                self.show.send_modify(|seen| seen.connected = true);
                self.say(&self.whole_state());
            }
            Event::Down { .. } => self.show.send_modify(|seen| {
                seen.connected = false;
                seen.gateway_online = false;
            }),
            Event::Message(message) => self.heard(&message),
            Event::Delivered(_) | Event::SubscriptionRefused { .. } => {}
        }
    }

    fn heard(&mut self, message: &Message) {
        if let Some(token) = message.ack {
            self.connection.ack(token);
        }
        if message.topic == self.decision_topic || message.topic == self.control_topic {
            // Kept by the broker: nobody knows how old.
            if message.retain {
                return;
            }
            if message.topic == self.decision_topic {
                match parse_decision(&message.payload) {
                    Ok(decision) => self.decided(decision),
                    Err(why) => debug!(topic = message.topic, "not a decision: {why}"),
                }
            } else {
                match parse_control(&message.payload) {
                    Ok(control) => self.ordered(control),
                    Err(why) => debug!(topic = message.topic, "not an order: {why}"),
                }
            }
            return;
        }
        // The gateway's state, the only other topic subscribed to.
        let online = parse_local(&message.payload) == Some(Presence::Online);
        self.show.send_modify(|seen| seen.gateway_online = online);
        if online {
            self.say(&self.whole_state());
        }
    }

    fn present(&mut self, presentation: Presentation, answer: Answer) {
        if !self.connection.is_up() {
            answer.send(Err(NoDecision::Offline)).ok();
            return;
        }
        self.last_request += 1;
        let id = presentation.id.clone().unwrap_or_else(|| format!("{:04x}-{}", self.run, self.last_request));
        let payload = encode_request(Some(&id), &presentation.uid, presentation.direction, presentation.assurance);
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
                    self.say(&PortalReport { passed, ..PortalReport::default() });
                }
            }
            (PortalKind::PowerBox, granted) => {
                self.show.send_modify(|seen| seen.relay |= granted);
                self.say(&self.whole_state());
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
                let on = control.action == Action::PowerOn;
                self.show.send_modify(|seen| seen.relay = on);
                self.say(&PortalReport { relay: Some(on), ..PortalReport::default() });
            }
            (Action::Release, PortalKind::PowerBox)
            | (Action::PowerOn | Action::PowerOff, PortalKind::Gate | PortalKind::Door) => {
                debug!(action = control.action.as_str(), kind = self.kind.as_str(), "not for this kind; ignored");
            }
        }
        self.show.send_modify(|seen| {
            if seen.controls.len() >= CONTROLS_MAX {
                seen.controls.pop_front();
            }
            seen.controls.push_back(control);
        });
    }

    fn open(&mut self, hold_ms: u64) {
        self.closes_at = Some(Instant::now() + Duration::from_millis(hold_ms));
        self.show.send_modify(|seen| {
            seen.open = true;
            seen.openings += 1;
        });
        if self.kind == PortalKind::Door {
            self.say(&PortalReport { contact_open: Some(true), ..PortalReport::default() });
        }
    }

    fn remove(&mut self) {
        self.show.send_modify(|seen| seen.card = None);
        self.say(&PortalReport { card_present: Some(false), ..PortalReport::default() });
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

    fn say(&mut self, report: &PortalReport) {
        self.publish(self.state_topic.clone(), encode_state(report));
    }

    fn publish(&mut self, topic: String, payload: Vec<u8>) {
        let keep = Keep::Until(Instant::now() + Duration::from_millis(DECISION_WAIT_MS));
        let qos = Qos::AtMostOnce;
        if let Err(why) = self.connection.publish(Outgoing { topic, payload, retain: false, qos, keep }) {
            debug!("a simulated portal cannot speak: {why}");
        }
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
