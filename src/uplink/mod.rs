//! The link to the centers: changes, heads and commands in; acknowledgements, replies, alarms, state and audit out.
//!
//! It owns what is acknowledged to the broker and when, and the audit's way to the center. It does not know what a message means
//! for the list: the gateway reports what is to be sent, and when something is durable.
//!
//! One task does everything here but the decoding of snapshots (`beside`). It hands on in the order of arrival, of which only parts of
//! snapshots are excepted, and waits for nothing but the gateway's inbox.

mod audit;
mod beside;
mod broker;
pub mod decode;
pub mod feed;

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};
use tracing::{debug, error, warn};

use crate::access::event::AlarmKind;
use crate::access::id::GatewayId;
use crate::access::input::{Input, Receipt};
use crate::clock::Clock;
use crate::config::AuditAckBy;
use crate::gateway::ports::{GatewayGone, Inbox, UplinkOrder};
use crate::mqtt::{
    AckToken, Connection, Event, LinkError, LinkMetrics, LinkSpec, Message, MessageId, Outgoing, PublishError,
    Retention, Session, Setup, Will,
};
use crate::store::StoredEvent;
use crate::wire::envelope::{Scope, StreamSpec};
use crate::wire::state;
use crate::wire::topic::{self, Down, Qos, Subscription, Topic, Up};
use crate::wire::up;

pub use audit::{AuditSource, ReadEvents};

use beside::{Beside, Done, Letter};
use broker::BrokerWatch;
use decode::{Decoded, Decoder};
use feed::{Feed, RESEND_S};

/// How often the audit is looked at, in milliseconds. An event is on its way at most this long after it is durable.
pub const AUDIT_LOOK_MS: u64 = 500;
/// Changes longer than this, in bytes, are decoded on another thread, so that no request waits while a bulk load is parsed.
const BESIDE_BYTES_MIN: usize = 16 * 1024;
/// Longest packet that is received, in bytes: twice the longest message that is opened. One beyond it ends the connection.
const PACKET_BYTES_MAX: usize = 2 * crate::wire::limits::PACKET_BYTES_MAX;
/// How long an ask for what is missing may wait for room, in seconds. Then the gateway asks again by itself.
const ASK_WITHIN_S: u64 = 30;
/// Longest time to deliver what is left when the gateway ends, in milliseconds.
const CLOSE_MS: u64 = 2_000;

/// What the uplink is made of.
pub struct UplinkSpec {
    /// Where to connect and as whom.
    pub link: LinkSpec,
    /// This gateway.
    pub gateway: GatewayId,
    /// The centers' streams.
    pub streams: Vec<StreamSpec>,
    /// Which run of the gateway.
    pub boot: String,
    /// Who moves the audit's cursor.
    pub audit_ack: AuditAckBy,
}

/// Reading the audit: from which event, and what was read.
type Reading = Pin<Box<dyn Future<Output = (u64, Result<Vec<StoredEvent>, String>)> + Send>>;

/// The link to the centers; [`Uplink::run`] is its life.
pub struct Uplink {
    gateway: GatewayId,
    boot: String,
    /// What the gateway gets whenever the link is up.
    link_up: Input,
    /// What the broker is asked for while messages can be acknowledged.
    subscriptions: Vec<Subscription>,
    connection: Connection,
    inbox: Inbox,
    orders: mpsc::Receiver<UplinkOrder>,
    decoder: Arc<Decoder>,
    beside: Beside,
    clock: Clock,
    metrics: Arc<LinkMetrics>,
    /// Messages that the broker keeps until the gateway acknowledges them; of this connection only.
    held: HashMap<Receipt, AckToken>,
    /// Acks that the full outbox did not take; of this connection only, so never more than [`Uplink::held`].
    pending_acks: VecDeque<(Receipt, Vec<u8>)>,
    last_receipt: u64,
    audit: Arc<dyn AuditSource>,
    feed: Feed,
    broker: BrokerWatch,
    reading: Option<Reading>,
    read_again: Option<Instant>,
    /// The audit could not be read the last time, which was logged.
    read_failed: bool,
}

impl Uplink {
    /// An uplink that connects when it is run.
    pub fn new(
        spec: UplinkSpec,
        inbox: Inbox,
        orders: mpsc::Receiver<UplinkOrder>,
        audit: Arc<dyn AuditSource>,
        clock: Clock,
        metrics: Arc<LinkMetrics>,
    ) -> Result<Self, LinkError> {
        let UplinkSpec { link, gateway, streams, boot, audit_ack } = spec;
        let campus = streams.iter().any(|s| s.scope == Scope::Campus);
        let campus_changes = Topic::Campus(Down::Changes).to_string();
        let campus_prefix = campus_changes.trim_end_matches("changes");
        // Of a clean session, heads and numbers show what was missed, and resync brings it.
        let mut subscriptions = match link.session {
            Session::Persistent => topic::uplink_subscriptions(&gateway),
            Session::Clean => topic::uplink_subscriptions_clean(&gateway),
        };
        subscriptions.retain(|s| campus || !s.filter.starts_with(campus_prefix));
        let link_up = Input::LinkUp {
            spread_ms: u64::from(link.resync_spread_s).saturating_mul(1000),
            ask_every_stream: link.session == Session::Clean,
        };
        let run = boot.clone();
        let offline = Arc::new(move |connection| state::encode_offline(&run, connection));
        let setup = Setup {
            link: "uplink",
            session: link.session,
            subscriptions: subscriptions.clone(),
            packet_bytes_max: PACKET_BYTES_MAX,
            will: Some(Will {
                topic: Topic::Up(gateway.clone(), Up::State).to_string(),
                retain: true,
                payload: offline,
            }),
            // Where the session is clean, a subscription with QoS 1 is what the broker is to be spared.
            echo_topic: (link.session == Session::Persistent)
                .then(|| format!("dormgate/v1/{gateway}/gateway/echo/uplink")),
        };
        let broker = BrokerWatch::new(link.session, Arc::clone(&metrics));
        let connection = Connection::new(link, setup, Arc::clone(&metrics))?;
        Ok(Self {
            decoder: Arc::new(Decoder { gateway: gateway.clone(), streams }),
            beside: Beside::start().map_err(|error| LinkError::Thread(error.kind()))?,
            gateway,
            boot,
            link_up,
            subscriptions,
            connection,
            inbox,
            orders,
            clock,
            metrics,
            held: HashMap::new(),
            pending_acks: VecDeque::new(),
            last_receipt: 0,
            feed: Feed::new(audit_ack, audit.acked()),
            broker,
            audit,
            reading: None,
            read_again: None,
            read_failed: false,
        })
    }

    /// Serves until the gateway is gone, so that no order can come any more. Then it publishes `offline`, delivers what is
    /// left for at most 2 s, and ends.
    pub async fn run(mut self) {
        let mut ticks = tokio::time::interval(Duration::from_millis(AUDIT_LOOK_MS));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                event = self.connection.next(), if !self.beside.is_full() => {
                    if self.happened(event).await.is_err() {
                        // Nothing is taken any more, but what was taken is still being answered.
                        self.orders_to_the_end().await;
                        break;
                    }
                }
                part = self.beside.next() => {
                    let Some(part) = part else { break };
                    if self.part_decoded(part).await.is_err() {
                        self.orders_to_the_end().await;
                        break;
                    }
                }
                order = self.orders.recv() => match order {
                    Some(order) => self.carry_out(order),
                    None => break,
                },
                (from, events) = finished(&mut self.reading) => self.send_audit(from, events),
                _ = ticks.tick() => self.tick(),
            }
        }
        let offline = state::encode_offline(&self.boot, self.connection.generation());
        if let Err(why) = self.publish(Up::State, offline, Retention::Newest("state".into())) {
            warn!(link = "uplink", "`offline` cannot be published: {why}");
        }
        if !self.connection.close(Duration::from_millis(CLOSE_MS)).await {
            warn!(
                link = "uplink",
                "not everything was delivered before the end; it is sent again after the next start"
            );
        }
    }

    async fn orders_to_the_end(&mut self) {
        let all = async {
            while let Some(order) = self.orders.recv().await {
                self.carry_out(order);
            }
        };
        if tokio::time::timeout(Duration::from_millis(CLOSE_MS), all).await.is_err() {
            warn!(link = "uplink", "the gateway is gone, but its orders have not ended after {CLOSE_MS} ms");
        }
    }

    async fn happened(&mut self, event: Event) -> Result<(), GatewayGone> {
        match event {
            Event::Up { session_present } => {
                self.broker.up(session_present, Instant::now());
                self.feed.start_again();
                self.inbox.urgent(self.link_up.clone()).await
            }
            Event::Down { .. } => {
                self.broker.down();
                self.held.clear();
                self.pending_acks.clear();
                self.feed.start_again();
                Ok(())
            }
            Event::Message(message) => self.received(message).await,
            Event::Delivered(id) => {
                if let Some(through) = self.feed.delivered(id, Instant::now()) {
                    self.audit.set_acked(through);
                    self.read_audit();
                }
                Ok(())
            }
            Event::SubscriptionRefused { filter } => {
                let detail = format!("the broker refuses the subscription to `{filter}`; check its access rules");
                self.inbox.urgent(Input::Alarm { kind: AlarmKind::List, portal: None, detail }).await
            }
        }
    }

    async fn received(&mut self, message: Message) -> Result<(), GatewayGone> {
        self.last_receipt += 1;
        let Message { topic, payload, retain, ack, .. } = message;
        let letter = Letter { receipt: Receipt(self.last_receipt), ack, retain, at: self.clock.now().wall };
        let Letter { receipt, at, .. } = letter;
        let decoder = Arc::clone(&self.decoder);
        let decoded = if payload.len() <= BESIDE_BYTES_MIN {
            decoder.decode(&topic, payload, retain, receipt, at)
        } else if matches!(topic.parse(), Ok(Topic::Down(_, Down::Snapshot))) {
            return if self.beside.give(&decoder, topic, payload, letter) { Ok(()) } else { Err(GatewayGone) };
        } else {
            let decoding = tokio::task::spawn_blocking(move || decoder.decode(&topic, payload, retain, receipt, at));
            // It never panics on any input; if it did, the broker would send the message again.
            decoding.await.map_err(|_| GatewayGone)?
        };
        self.hand_on(decoded, letter).await
    }

    /// Keys that were taken away meanwhile verify nothing: such a part is as if it had not come, and is asked for again.
    async fn part_decoded(&mut self, part: Done) -> Result<(), GatewayGone> {
        let Done { decoded, decoder, letter } = part;
        if Arc::ptr_eq(&decoder, &self.decoder) {
            return self.hand_on(decoded, letter).await;
        }
        if let Some(token) = letter.ack {
            self.connection.ack(token);
        }
        Ok(())
    }

    async fn hand_on(&mut self, decoded: Decoded, letter: Letter) -> Result<(), GatewayGone> {
        let Letter { receipt, ack, retain, at } = letter;
        let input = match decoded {
            Decoded::Held(input) => {
                self.broker.news(Instant::now());
                // Before it is handed on, because the acknowledgement may come at once.
                if let Some(token) = ack {
                    self.held.insert(receipt, token);
                }
                self.count_rejected(&input);
                return self.inbox.urgent(input).await;
            }
            Decoded::Passing(input) => {
                if matches!(input, Input::Head(_)) {
                    self.broker.head(retain);
                }
                Some(input)
            }
            Decoded::AuditAck { through, payload } => self.audit_acked(through, &payload, at),
            Decoded::Foreign => {
                debug!(link = "uplink", "a topic that is not in the contract; ignored");
                None
            }
        };
        if let Some(input) = input {
            self.count_rejected(&input);
            self.inbox.urgent(input).await?;
        }
        if let Some(token) = ack {
            self.connection.ack(token);
        }
        Ok(())
    }

    fn count_rejected(&self, input: &Input) {
        if let Input::Rejected(_) = input {
            LinkMetrics::count(&self.metrics.rejected);
        }
    }

    fn carry_out(&mut self, order: UplinkOrder) {
        let (what, body, retention) = match order {
            UplinkOrder::Acknowledge { ack, receipt, durable_at } => {
                if let (Some(stream), Some(_)) = (&ack.stream, &ack.snapshot) {
                    self.broker.answered(stream);
                }
                match up::encode_ack(&ack, durable_at) {
                    Ok(body) => self.acknowledge(receipt, body),
                    Err(why) => error!(link = "uplink", topic = "ack", "an ack cannot be written: {why}"),
                }
                return;
            }
            UplinkOrder::Reply(reply) => (Up::Reply, up::encode(&*reply), Retention::UntilDelivered),
            UplinkOrder::Alarm(alarm) => (Up::Alarm, up::encode(&*alarm), Retention::UntilDelivered),
            UplinkOrder::Streams(streams) => {
                self.decoder = Arc::new(Decoder { gateway: self.gateway.clone(), streams });
                return;
            }
            UplinkOrder::Unacknowledged(yes) => {
                self.broker.unacknowledged(yes);
                let at_most =
                    |s: &Subscription| Subscription { qos: if yes { Qos::AtMostOnce } else { s.qos }, ..s.clone() };
                self.connection.subscribe(self.subscriptions.iter().map(at_most).collect());
                return;
            }
            // The link reports when it is up, and the gateway orders the state then.
            // Nobody can receive it now. The gateway asks again when the link is up, spread over the campus.
            UplinkOrder::State(_) | UplinkOrder::Resync(_) if !self.connection.is_up() => return,
            UplinkOrder::Resync(resync) => {
                let now = Instant::now();
                self.broker.asks(&resync, now);
                (Up::Resync, up::encode(&*resync), Retention::Until(now + Duration::from_secs(ASK_WITHIN_S)))
            }
            UplinkOrder::State(report) => {
                self.broker.reached(&report.status.streams);
                let body = state::encode(&report, self.connection.generation());
                (Up::State, body, Retention::Newest("state".into()))
            }
        };
        let published = body
            .map_err(|why| why.to_string())
            .and_then(|body| self.publish(what, body, retention).map_err(|why| why.to_string()));
        if let Err(why) = published {
            error!(link = "uplink", topic = what.as_str(), "a message to the center is lost: {why}");
        }
    }

    /// The broker gets its acknowledgement only when the center's is on its way. A message without one keeps one of the few places
    /// in which the broker delivers, so an ack that does not fit is retried.
    fn acknowledge(&mut self, receipt: Receipt, body: Vec<u8>) {
        match self.publish(Up::Ack, body.clone(), Retention::UntilDelivered) {
            Ok(_) => {
                if let Some(token) = self.held.remove(&receipt) {
                    self.connection.ack(token);
                }
            }
            Err(PublishError::Full) if self.held.contains_key(&receipt) => self.pending_acks.push_back((receipt, body)),
            // Of an earlier connection: the broker sends the message again, and it is answered then.
            Err(why) => error!(link = "uplink", topic = Up::Ack.as_str(), "a message to the center is lost: {why}"),
        }
    }

    fn publish(&mut self, up: Up, body: Vec<u8>, retention: Retention) -> Result<MessageId, PublishError> {
        let topic = Topic::Up(self.gateway.clone(), up);
        self.connection.publish(Outgoing {
            retain: topic.retained(),
            qos: topic.qos(),
            topic: topic.to_string(),
            payload: body,
            retention,
        })
    }

    fn tick(&mut self) {
        let now = Instant::now();
        if !self.connection.is_up() {
            return;
        }
        for (receipt, body) in std::mem::take(&mut self.pending_acks) {
            self.acknowledge(receipt, body);
        }
        self.broker.tick(now);
        if self.feed.resend_is_due(now) {
            debug!(link = "uplink", "no audit-ack for {RESEND_S} s; sending again");
            self.broker.audit_sent_again();
        }
        self.read_audit();
    }
}

/// Waits for what is read, if something is, and clears it away.
async fn finished(reading: &mut Option<Reading>) -> (u64, Result<Vec<StoredEvent>, String>) {
    match reading {
        Some(running) => {
            let read = running.await;
            *reading = None;
            read
        }
        None => std::future::pending().await,
    }
}
