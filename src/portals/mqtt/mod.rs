//! Native MQTT portals on the local link (wire contract, section 4): requests and states in, decisions and control out.
//!
//! Owns the local connection, and sees to it that nothing old opens anything. Which portals exist and what they may is the gateway's: a
//! request of an unknown one goes to the gateway like any other, and its answer is published here. One that names a portal of another link
//! is refused here: to the gateway it would be that portal's, and open it.
//!
//! Devices with MQTT topics of their own are in [`profiled`], with a connection of their own.
//!
//! One task, no waiting between a request and its decision: a request is offered to the gateway, a decision is written as
//! soon as it is ordered.

pub(super) mod profiled;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::{debug, error, warn};

use crate::access::change::{ErrorCode, OpError};
use crate::access::decision::{Decision, Denial, Reason};
use crate::access::event::AlarmKind;
use crate::access::id::{GatewayId, PortalId};
use crate::access::input::{Input, MessageKind, PortalReport, Presented, RejectedMessage, Request};
use crate::access::portal::Posture;
use crate::clock::Clock;
use crate::gateway::ports::{Inbox, PortalOrder};
use crate::mqtt::{
    Connection, DEVICE_PACKET_BYTES_MAX, Event, LinkError, LinkMetrics, LinkSpec, Message, Outgoing, Retention,
    Session, Setup, Will,
};
use crate::wire::envelope::Refused;
use crate::wire::portal::{
    Action, DECISION_TTL_MS, Delivery, encode_control, encode_decision, parse_request, parse_state,
};
use crate::wire::state::{Presence, encode_local};
use crate::wire::topic::{self, Portal, Qos, Subscription, Topic};

use super::device::reports::{OFFER_AGAIN_MS, Offered, Reports};

/// Longest time to deliver what is left when the gateway ends, in milliseconds.
const CLOSE_MS: u64 = 2_000;
/// Portals that are known to be offline at most; an order to a further one is sent although it is offline. More than a gateway has.
const PORTALS_OFFLINE_MAX: usize = 10_000;
/// Shortest time between two publications of the state because somebody else published another, in milliseconds: each makes every
/// portal send its whole state.
const RESTATE_MS: u64 = 5_000;
/// Characters of the run's name in the ids of orders: enough to distinguish one run from another.
const BOOT_CHARS: usize = 8;

/// The local link; [`NativePortals::run`] is its life.
pub struct NativePortals {
    gateway: GatewayId,
    boot: String,
    connection: Connection,
    reports: Reports,
    clock: Clock,
    metrics: Arc<LinkMetrics>,
    last_order: u64,
    /// Portals whose last state has `online` false.
    offline: HashSet<String>,
    /// Portals that are on another link.
    elsewhere: HashSet<String>,
    /// That the link is up, or why it is lost, until the gateway has it.
    link_news: Option<Option<String>>,
    /// When the state may be published because of others, and when it is to be.
    restate: (Instant, Option<Instant>),
}

impl NativePortals {
    /// A local link of this run, `boot`, of the gateway; it connects when it is run.
    pub fn new(
        link: LinkSpec,
        gateway: GatewayId,
        boot: String,
        inbox: Inbox,
        clock: Clock,
        metrics: Arc<LinkMetrics>,
    ) -> Result<Self, LinkError> {
        let run = boot.clone();
        let offline = Arc::new(move |_| encode_local(Presence::Offline, &run));
        // Whoever may write it at the broker may have every portal take the gateway for gone.
        let own_state = Subscription { filter: Topic::GatewayState(gateway.clone()).to_string(), qos: Qos::AtMostOnce };
        let subscriptions = topic::local_subscriptions(&gateway).into_iter().chain([own_state]).collect();
        let setup = Setup {
            link: "local",
            // What is published while the gateway is away must not arrive later.
            session: Session::Clean,
            subscriptions,
            packet_bytes_max: DEVICE_PACKET_BYTES_MAX,
            will: Some(Will {
                topic: Topic::GatewayState(gateway.clone()).to_string(),
                retain: true,
                payload: offline,
            }),
            echo_topic: Some(format!("dormgate/v1/{gateway}/gateway/echo/local")),
        };
        let connection = Connection::new(link, setup, Arc::clone(&metrics))?;
        let (reports, offline, elsewhere) = (Reports::new(inbox), HashSet::new(), HashSet::new());
        let link_news = Some(Some("it was not reached yet".to_owned()));
        let restate = (Instant::now(), None);
        let last_order = 0;
        Ok(Self {
            gateway,
            boot,
            connection,
            reports,
            clock,
            metrics,
            last_order,
            offline,
            elsewhere,
            link_news,
            restate,
        })
    }

    /// Serves `portals` until nobody can give orders any more: those of all native portals, and of unknown ones; none of those
    /// `elsewhere`, on another link. Then it publishes `offline`, delivers what is left for at most 2 s, and ends.
    pub async fn run(
        mut self,
        mut orders: mpsc::Receiver<PortalOrder>,
        portals: Vec<PortalId>,
        elsewhere: impl IntoIterator<Item = PortalId>,
    ) {
        self.elsewhere = elsewhere.into_iter().map(|portal| portal.to_string()).collect();
        loop {
            self.report_link(&portals);
            // Beside the branch below: its pause starts again with each message, so one busy portal would delay the reports of the others.
            self.reports.retry();
            tokio::select! {
                event = self.connection.next() => self.event(event),
                order = orders.recv() => match order {
                    Some(order) => self.carry_out(order),
                    None => break,
                },
                () = tokio::time::sleep_until(self.restate.1.unwrap_or(self.restate.0)), if self.restate.1.is_some() => self.restate(),
                () = tokio::time::sleep(Duration::from_millis(OFFER_AGAIN_MS)), if self.reports.is_pending() || self.link_news.is_some() => self.reports.retry(),
            }
        }
        self.publish_presence(Presence::Offline);
        if !self.connection.close(Duration::from_millis(CLOSE_MS)).await {
            warn!(link = "local", "not everything was delivered before the end");
        }
    }

    fn report_link(&mut self, portals: &[PortalId]) {
        let Some(lost) = self.link_news.take() else { return };
        let input = Input::PortalLink { portals: portals.to_vec(), lost: lost.clone() };
        if self.reports.offer(input) == Offered::Dropped {
            self.link_news = Some(lost);
        }
    }

    fn event(&mut self, event: Event) {
        match event {
            // Each portal answers this with its whole state.
            Event::Up { .. } => {
                self.link_news = Some(None);
                self.publish_presence(Presence::Online);
            }
            Event::Down { why } => self.link_news = Some(Some(why)),
            Event::Message(message) => self.received(message),
            Event::SubscriptionRefused { filter } => {
                let detail = format!("the local broker refuses the subscription to `{filter}`; check its access rules");
                self.offer(Input::Alarm { kind: AlarmKind::PortalOffline, portal: None, detail });
            }
            Event::Delivered(_) => {}
        }
    }

    fn received(&mut self, message: Message) {
        let Message { topic, payload, retain, ack, .. } = message;
        match topic.parse() {
            Ok(Topic::Portal(g, _, Portal::Request)) if g == self.gateway && retain => {
                LinkMetrics::count(&self.metrics.rejected);
                let mut refused = Refused::retained(&payload);
                refused.error.message = format!("on `{topic}`: {}", refused.error.message);
                self.offer(Input::Rejected(refused.rejected(MessageKind::Request, None, self.clock.now().wall)));
            }
            Ok(Topic::Portal(g, portal, Portal::Request)) if g == self.gateway && self.elsewhere.contains(&portal) => {
                self.refuse(parse_request(&portal, &payload, Delivery::Live));
            }
            Ok(Topic::Portal(g, portal, Portal::Request)) if g == self.gateway => {
                self.offline.remove(&portal);
                let offered = self.reports.request(parse_request(&portal, &payload, Delivery::Live));
                self.count(offered);
            }
            // A retained state may be of any age; a portal publishes its whole state when the gateway publishes that it is online.
            Ok(Topic::Portal(g, _, Portal::State)) if g == self.gateway && retain => {}
            Ok(Topic::Portal(g, portal, Portal::State)) if g == self.gateway && self.elsewhere.contains(&portal) => {
                self.reject(MessageKind::Report, elsewhere(&portal));
            }
            Ok(Topic::Portal(g, portal, Portal::State)) if g == self.gateway => self.state(portal, &payload),
            // What the broker kept from before is replaced by what is published on each connection.
            Ok(Topic::GatewayState(g)) if g == self.gateway && !retain => {
                if payload != encode_local(Presence::Online, &self.boot) && self.restate.1.is_none() {
                    self.restate.1 = Some(self.restate.0.max(Instant::now()));
                }
            }
            Ok(Topic::Portal(..) | Topic::Campus(_) | Topic::Down(..) | Topic::Up(..) | Topic::GatewayState(_))
            | Err(_) => debug!(link = "local", topic, "not a portal's topic; ignored"),
        }
        if let Some(token) = ack {
            self.connection.ack(token);
        }
    }

    fn state(&mut self, portal: String, payload: &[u8]) {
        let report = match parse_state(payload) {
            Ok(report) => report,
            Err(error) => {
                let wrong = OpError::message(ErrorCode::InvalidField, format!("state of `{portal}`: {error}"));
                self.reject(MessageKind::Report, wrong);
                PortalReport { malformed: vec![error], ..PortalReport::default() }
            }
        };
        if let Some(first) = report.malformed.first() {
            let fields = report.malformed.len();
            self.metrics.malformed_fields.fetch_add(u64::try_from(fields).unwrap_or(u64::MAX), Relaxed);
            debug!(link = "local", portal, fields, "part of a portal's state is ignored: {first}");
        }
        match report.online {
            Some(false) if self.offline.len() < PORTALS_OFFLINE_MAX => {
                self.offline.insert(portal.clone());
            }
            Some(false) => {}
            Some(true) | None if report.reports_nothing() => {}
            Some(true) | None => {
                self.offline.remove(&portal);
            }
        }
        let offered = self.reports.report(portal, report);
        self.count(offered);
    }

    /// A request that names a portal of another link: whoever sent it is not that portal, and gets the answer of one that does not exist.
    fn refuse(&mut self, request: Request) {
        self.reject(MessageKind::Request, elsewhere(&request.portal));
        let reason = match request.presented {
            Presented::Malformed(_) => Reason::MalformedIdentifier,
            Presented::Card(_) | Presented::Lossy(_) => Reason::UnknownPortal,
        };
        let decision = Decision::Deny(Denial::from(reason));
        self.carry_out(PortalOrder::Answer { portal: request.portal, id: request.id, decision, delay_ms: None });
    }

    /// A message without effect, for the audit.
    fn reject(&self, kind: MessageKind, error: OpError) {
        LinkMetrics::count(&self.metrics.rejected);
        self.offer(Input::Rejected(RejectedMessage {
            kind,
            claimed_stream: None,
            claimed_at: None,
            claimed_jti: None,
            error,
            receipt: None,
            received_at: self.clock.now().wall,
        }));
    }

    fn offer(&self, input: Input) {
        self.count(self.reports.offer(input));
    }

    fn count(&self, offered: Offered) {
        match offered {
            Offered::Taken => {}
            Offered::Dropped => LinkMetrics::count(&self.metrics.overflowed),
        }
    }

    fn carry_out(&mut self, order: PortalOrder) {
        match order {
            PortalOrder::Answer { portal, id, decision, delay_ms } => {
                let body = encode_decision(id.as_deref(), &decision, delay_ms);
                // A power box that is granted stays on, so a cut from before must not reach it any more.
                if matches!(&decision, Decision::Grant(grant) if grant.hold_ms().is_none()) {
                    self.connection.supersede(&cut_key(&portal));
                }
                let topic = Topic::Portal(self.gateway.clone(), portal, Portal::Decision);
                let qos = topic.qos();
                match body {
                    Ok(body) => self.publish(&topic, body, qos, at_once()),
                    Err(why) => error!(link = "local", %topic, "a decision cannot be written: {why}"),
                }
            }
            PortalOrder::Release { grant } => {
                let (portal, hold_ms) = (grant.portal().as_str(), grant.hold_ms());
                self.control(portal, Action::Release, hold_ms, grant.reason().as_str(), at_once());
            }
            // The device waits out the delay of the decision by itself.
            PortalOrder::Energise { announced: true, .. } | PortalOrder::Inform { .. } => {}
            // The device has its answer already, and counts its `ttl_ms`.
            PortalOrder::Withdraw { .. } => {}
            PortalOrder::Energise { grant, announced: false } => {
                let portal = grant.portal().as_str();
                self.connection.supersede(&cut_key(portal));
                self.control(portal, Action::PowerOn, None, grant.reason().as_str(), at_once());
            }
            PortalOrder::Cut { portal, reason } => {
                let retention = Retention::Newest(cut_key(portal.as_str()));
                self.control(portal.as_str(), Action::PowerOff, None, reason, retention);
            }
            PortalOrder::Lock { portal } => {
                // Ordered again for as long as the output is reported on; a late one would end a release.
                self.control(portal.as_str(), Action::Lock, None, "not_released", at_once());
            }
            PortalOrder::Mode { portal, posture } => {
                let action = match posture {
                    Posture::Fire | Posture::FreeAccess => Action::Free,
                    Posture::Lockdown | Posture::OutOfService => Action::Lock,
                    Posture::Secure => Action::Resume,
                };
                // A mode is what holds now, however long the link was down: the newest is sent when it is up.
                let retention = Retention::Newest(format!("mode/{portal}"));
                self.control(portal.as_str(), action, None, posture.as_str(), retention);
            }
        }
    }

    /// Publishes a control order. An order that opens is not sent to a portal that is known to be offline: the broker may keep it and
    /// deliver it later. The engine sends the mode again when the portal is back.
    fn control(&mut self, portal: &str, action: Action, hold_ms: Option<u32>, reason: &str, retention: Retention) {
        if action.opens() && self.offline.contains(portal) {
            if let Retention::Newest(key) = &retention {
                self.connection.supersede(key);
            }
            debug!(link = "local", portal, action = action.as_str(), "not sent: the portal is offline");
            return;
        }
        let body = encode_control(&self.order_id(), action, hold_ms, reason);
        let topic = Topic::Portal(self.gateway.clone(), portal.to_owned(), Portal::Control);
        match body {
            Ok(body) => self.publish(&topic, body, action.qos(), retention),
            Err(why) => error!(link = "local", %topic, "an order cannot be written: {why}"),
        }
    }

    fn order_id(&mut self) -> String {
        self.last_order += 1;
        let boot = self.boot.chars().take(BOOT_CHARS).collect::<String>();
        format!("{boot}-{}", self.last_order)
    }

    fn publish(&mut self, topic: &Topic, payload: Vec<u8>, qos: Qos, retention: Retention) {
        let message = Outgoing { topic: topic.to_string(), payload, retain: topic.retained(), qos, retention };
        if let Err(error) = self.connection.publish(message) {
            debug!(link = "local", %topic, "an order is dropped: {error}");
        }
    }

    /// Somebody else published another state of this gateway: it is put right.
    fn restate(&mut self) {
        self.restate = (Instant::now() + Duration::from_millis(RESTATE_MS), None);
        if self.connection.is_up() {
            warn!(
                link = "local",
                "somebody else published `gateway/state`; it is published again. Look who may write there"
            );
            self.publish_presence(Presence::Online);
        }
    }

    fn publish_presence(&mut self, presence: Presence) {
        let topic = Topic::GatewayState(self.gateway.clone());
        let (payload, qos) = (encode_local(presence, &self.boot), topic.qos());
        self.publish(&topic, payload, qos, Retention::Newest("gateway/state".into()));
    }
}

/// An order that opens or energises is sent while its decision is valid, or never.
fn at_once() -> Retention {
    Retention::Until(Instant::now() + Duration::from_millis(DECISION_TTL_MS))
}

/// What is wrong with a message that names a portal of another link.
fn elsewhere(portal: &str) -> OpError {
    let what = format!(
        "`{portal}` is not an MQTT portal in the configuration; look who may publish on its topics at the local broker"
    );
    OpError::message(ErrorCode::UnknownPortal, what)
}

/// Of several cuts of one box only the newest is kept until it is delivered.
fn cut_key(portal: &str) -> String {
    format!("cut/{portal}")
}
