//! The link to the centers: changes, heads and commands in; acknowledgements, replies, alarms, state and audit out.
//!
//! Owns: what is acknowledged to the broker and when, the audit's way to the center, the pace of `up/state`. Refuses to own:
//! what a message means for the list, and whether something is durable; it is told.
//!
//! One task does everything here. It hands on in the order of arrival and waits for nobody but the gateway's inbox.

pub mod feed;
mod hear;
mod pace;
pub mod source;

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior};
use tracing::{debug, error, warn};

use crate::access::audit::AlarmKind;
use crate::access::id::{GatewayId, Timestamp};
use crate::access::input::{Input, Receipt};
use crate::gateway::ports::{Ask, GatewayGone, Inbox, StateReport, UplinkOrder};
use crate::mqtt::{
    AckToken, Connection, Event, Keep, LinkError, LinkMetrics, LinkSpec, Message, MessageId, Outgoing, PublishError,
    Session, Setup, WallClock, Will,
};
use crate::wire::bodies;
use crate::wire::envelope::{Scope, StreamSpec};
use crate::wire::state;
use crate::wire::topic::{self, CampusDown, Down, Topic, Up};

pub use feed::AuditAckBy;
pub use source::{AuditSource, ReadEvents, Stored};

use feed::{BATCH_BYTES_MAX, BATCH_EVENTS_MAX, Feed, RESEND_S};
use hear::{Ear, Heard};
use pace::Pace;

/// How often the audit and the state are looked at, in milliseconds. An event is on its way at most this long after it is durable.
const LOOK_AROUND_MS: u64 = 200;
/// Longest time to deliver what is left when the gateway ends, in milliseconds.
const CLOSE_MS: u64 = 2_000;
/// Pause after the audit could not be read, in seconds.
const READ_AGAIN_S: u64 = 5;

/// What the uplink is made of.
pub struct UplinkSpec {
    /// Where to connect and as whom.
    pub link: LinkSpec,
    /// This gateway.
    pub gateway: GatewayId,
    /// Who may speak.
    pub streams: Vec<StreamSpec>,
    /// Which run of the gateway.
    pub boot: String,
    /// Who moves the audit's cursor.
    pub audit_ack: AuditAckBy,
}

type Job<T> = Option<Pin<Box<dyn Future<Output = T> + Send>>>;

/// The link to the centers; [`Uplink::run`] is its life.
pub struct Uplink {
    gateway: GatewayId,
    boot: String,
    connection: Connection,
    inbox: Inbox,
    orders: mpsc::Receiver<UplinkOrder>,
    ear: Ear,
    now: WallClock,
    metrics: Arc<LinkMetrics>,
    /// Messages that the broker keeps until the gateway acknowledges them; of this connection only.
    held: HashMap<Receipt, AckToken>,
    last_receipt: u64,
    audit: Arc<dyn AuditSource>,
    feed: Feed,
    reading: Job<Result<Vec<Stored>, String>>,
    read_again: Option<Instant>,
    report: Pace<Box<StateReport>>,
    asking: Job<Option<StateReport>>,
    /// Refused subscriptions that were told, so that each is told once.
    refused: HashSet<String>,
}

impl Uplink {
    /// An uplink that connects when it is run.
    ///
    /// # Errors
    /// [`LinkError`] if it can never connect.
    pub fn new(
        spec: UplinkSpec,
        inbox: Inbox,
        orders: mpsc::Receiver<UplinkOrder>,
        audit: Arc<dyn AuditSource>,
        now: WallClock,
        metrics: Arc<LinkMetrics>,
    ) -> Result<Self, LinkError> {
        let UplinkSpec { link, gateway, streams, boot, audit_ack } = spec;
        let campus = streams.iter().any(|s| s.scope == Scope::Campus);
        let snapshot = Topic::Down(gateway.clone(), Down::Snapshot).to_string();
        let campus_changes = Topic::Campus(CampusDown::Changes).to_string();
        let campus_prefix = campus_changes.trim_end_matches("changes");
        let mut subscriptions = topic::uplink_subscriptions(&gateway);
        subscriptions.retain(|s| s.filter != snapshot && (campus || !s.filter.starts_with(campus_prefix)));
        let run = boot.clone();
        let offline = Arc::new(move |connection| state::encode_offline(&run, connection));
        let setup = Setup {
            link: "uplink",
            session: Session::Persistent,
            subscriptions,
            will: Some(Will {
                topic: Topic::Up(gateway.clone(), Up::State).to_string(),
                retain: true,
                payload: offline,
            }),
            echo_topic: Some(format!("dormgate/v1/{gateway}/gateway/echo/uplink")),
        };
        let connection = Connection::new(link, setup, Arc::clone(&metrics))?;
        Ok(Self {
            ear: Ear { gateway: gateway.clone(), streams },
            gateway,
            boot,
            connection,
            inbox,
            orders,
            now,
            metrics,
            held: HashMap::new(),
            last_receipt: 0,
            feed: Feed::new(audit_ack, audit.acked()),
            audit,
            reading: None,
            read_again: None,
            report: Pace::default(),
            asking: None,
            refused: HashSet::new(),
        })
    }

    /// Serves until the gateway is gone: until nobody can give orders any more, or nobody takes inputs. Then it publishes
    /// `offline`, delivers what is left for at most 2 s, and ends.
    pub async fn run(mut self) {
        let mut look_around = tokio::time::interval(Duration::from_millis(LOOK_AROUND_MS));
        look_around.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                event = self.connection.next() => {
                    if self.happened(event).await.is_err() {
                        break;
                    }
                }
                order = self.orders.recv() => match order {
                    Some(order) => self.carry_out(order),
                    None => break,
                },
                answer = finish(&mut self.asking) => {
                    if let Some(report) = answer {
                        self.report.put(Box::new(report));
                        self.tell_state();
                    }
                }
                events = finish(&mut self.reading) => self.send_audit(events),
                _ = look_around.tick() => self.look_around(),
            }
        }
        // What was ordered before the end still goes.
        while let Ok(order) = self.orders.try_recv() {
            self.carry_out(order);
        }
        let offline = state::encode_offline(&self.boot, self.connection.generation());
        if let Err(why) = self.publish(Up::State, offline, Keep::Newest("state".into())) {
            warn!(link = "uplink", "`offline` cannot be published: {why}");
        }
        if !self.connection.close(Duration::from_millis(CLOSE_MS)).await {
            warn!(
                link = "uplink",
                "not everything was delivered before the end; it is sent again after the next start"
            );
        }
    }

    async fn happened(&mut self, event: Event) -> Result<(), GatewayGone> {
        match event {
            Event::Up { .. } => {
                self.feed.start_again();
                self.report.start_again();
                self.ask_state();
                self.inbox.urgent(Input::LinkUp).await
            }
            Event::Down { .. } => {
                self.held.clear();
                self.feed.start_again();
                Ok(())
            }
            Event::Message(message) => self.heard(message).await,
            Event::Delivered(id) => {
                if let Some(through) = self.feed.delivered(id, Instant::now()) {
                    self.audit.set_acked(through);
                }
                Ok(())
            }
            Event::SubscriptionRefused { filter } => {
                if !self.refused.insert(filter.clone()) {
                    return Ok(());
                }
                let detail = format!("the broker refuses the subscription to `{filter}`; check its access rules");
                self.inbox.urgent(Input::Alarm { kind: AlarmKind::List, portal: None, detail }).await
            }
        }
    }

    async fn heard(&mut self, message: Message) -> Result<(), GatewayGone> {
        self.last_receipt += 1;
        let receipt = Receipt(self.last_receipt);
        let now = (self.now)();
        let Message { topic, payload, retain, ack, .. } = message;
        let input = match self.ear.hear(&topic, payload, retain, receipt, now) {
            Heard::Held(input) => {
                // Before it is handed on, because the acknowledgement may come at once.
                if let Some(token) = ack {
                    self.held.insert(receipt, token);
                }
                self.count_rejected(&input);
                return self.inbox.urgent(input).await;
            }
            Heard::Passing(input) => Some(input),
            Heard::AuditAck { through, payload } => self.audit_acked(through, &payload, now),
            Heard::Foreign => {
                debug!(link = "uplink", topic, "not a topic of the contract; ignored");
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

    /// The center has the audit through event `through`; what is wrong with that, if anything is.
    fn audit_acked(&mut self, through: u64, payload: &[u8], now: Timestamp) -> Option<Input> {
        match self.feed.acknowledged(through, self.audit.last_durable(), Instant::now()) {
            Ok(Some(cursor)) => {
                self.audit.set_acked(cursor);
                self.read_audit();
                None
            }
            Ok(None) => None,
            Err(feed::AckError::NotSent { .. }) => {
                // A late answer to an earlier run; what it speaks of is sent again and answered again.
                debug!(link = "uplink", through, "an audit-ack for events not sent in this run; ignored");
                None
            }
            Err(why @ feed::AckError::Beyond { .. }) => Some(Ear::refuse_audit_ack(payload, &why.to_string(), now)),
        }
    }

    fn carry_out(&mut self, order: UplinkOrder) {
        let (what, taken) = match order {
            UplinkOrder::Acknowledge { ack, receipt, durable_at } => {
                let taken = self.publish(Up::Ack, bodies::encode_ack(&ack, durable_at), Keep::UntilDelivered);
                // Only with the answer on its way is the broker told; otherwise it sends the message again.
                if taken.is_ok()
                    && let Some(token) = self.held.remove(&receipt)
                {
                    self.connection.ack(token);
                }
                (Up::Ack, taken)
            }
            UplinkOrder::Reply(reply) => {
                (Up::Reply, self.publish(Up::Reply, bodies::encode_reply(&reply), Keep::UntilDelivered))
            }
            UplinkOrder::Alarm(alarm) => {
                (Up::Alarm, self.publish(Up::Alarm, bodies::encode_alarm(&alarm), Keep::UntilDelivered))
            }
            UplinkOrder::Resync(resync) => {
                // An old request to send again would only be answered once more.
                let keep = Keep::Newest(format!("resync/{}", resync.stream));
                (Up::Resync, self.publish(Up::Resync, bodies::encode_resync(&resync), keep))
            }
            UplinkOrder::State(report) => {
                self.report.put(report);
                self.tell_state();
                return;
            }
        };
        if let Err(why) = taken {
            error!(link = "uplink", topic = what.as_str(), "a message to the center is lost: {why}");
        }
    }

    fn publish(&mut self, up: Up, body: Vec<u8>, keep: Keep) -> Result<MessageId, PublishError> {
        let topic = Topic::Up(self.gateway.clone(), up);
        self.connection.publish(Outgoing {
            retain: topic.retained(),
            qos: topic.qos(),
            topic: topic.to_string(),
            payload: body,
            keep,
        })
    }

    fn tell_state(&mut self) {
        if !self.connection.is_up() {
            return;
        }
        if let Some(report) = self.report.take(Instant::now()) {
            let body = state::encode(&report, self.connection.generation());
            if let Err(why) = self.publish(Up::State, body, Keep::Newest("state".into())) {
                warn!(link = "uplink", "the state cannot be published: {why}");
            }
        }
    }

    /// Asks the gateway for its state; the answer is published.
    fn ask_state(&mut self) {
        let inbox = self.inbox.clone();
        self.asking = Some(Box::pin(async move {
            let (answer, state) = oneshot::channel();
            inbox.ask(Ask::Status { answer }).await.ok()?;
            state.await.ok()
        }));
    }

    fn look_around(&mut self) {
        let now = Instant::now();
        if !self.connection.is_up() {
            return;
        }
        self.tell_state();
        if self.asking.is_none() && self.report.is_overdue(now) {
            self.ask_state();
        }
        if self.feed.resend_is_due(now) {
            debug!(link = "uplink", "no audit-ack for {RESEND_S} s; sending again");
        }
        self.read_audit();
    }

    /// Begins to read the next batch of the audit, if one is to be sent.
    fn read_audit(&mut self) {
        if self.reading.is_some() || !self.connection.is_up() || self.read_again.is_some_and(|at| Instant::now() < at) {
            return;
        }
        if let Some(from) = self.feed.wants(self.audit.last_durable()) {
            self.reading = Some(self.audit.read(from, BATCH_EVENTS_MAX, BATCH_BYTES_MAX));
        }
    }

    fn send_audit(&mut self, events: Result<Vec<Stored>, String>) {
        let now = Instant::now();
        let events = match events {
            Ok(events) => events,
            Err(why) => {
                error!(link = "uplink", "the audit cannot be read; trying again in {READ_AGAIN_S} s: {why}");
                self.read_again = Some(now + Duration::from_secs(READ_AGAIN_S));
                return;
            }
        };
        self.read_again = None;
        // A reconnect or an audit-ack may have moved on while this was read.
        let wanted = self.feed.wants(self.audit.last_durable());
        let (Some(first), Some(wanted)) = (events.first().map(|e| e.n), wanted) else { return };
        if first < wanted {
            return self.read_audit();
        }
        // One batch has no hole; what retention has dropped lies between batches.
        let run = events.iter().zip(first..).take_while(|(event, n)| event.n == *n).map(|(event, _)| &event.body);
        let run = run.collect::<Vec<_>>();
        let Some(body) = bodies::encode_audit(&self.boot, first, &run) else { return };
        let last = first + u64::try_from(run.len()).unwrap_or(1) - 1;
        // The feed sends it again, not the outbox.
        let keep = Keep::Until(now + Duration::from_secs(RESEND_S));
        match self.publish(Up::Audit, body, keep) {
            Ok(id) => {
                self.feed.sent(last, id, now);
                self.read_audit();
            }
            Err(why) => {
                warn!(link = "uplink", "a batch of the audit has to wait: {why}");
                self.read_again = Some(now + Duration::from_secs(READ_AGAIN_S));
            }
        }
    }
}

/// Waits for a job, if there is one, and clears it away.
async fn finish<T>(job: &mut Job<T>) -> T {
    match job {
        Some(running) => {
            let value = running.await;
            *job = None;
            value
        }
        None => std::future::pending().await,
    }
}
