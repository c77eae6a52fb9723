//! The connection itself: gives the next event, publishes, and acknowledges.
//!
//! One task owns it and does nothing else that takes long: `next` may be dropped at any await without losing anything, so
//! it stands in a `select!` beside that task's orders. Publishing and acknowledging never wait.

mod judge;
mod live;

use std::collections::{HashSet, VecDeque};
use std::mem::Discriminant;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use rumqttc::{AsyncClient, Event as ClientEvent, Outgoing as ClientDid};
use tokio::time::{Instant, Interval, MissedTickBehavior, Sleep};
use tracing::{debug, info, warn};

use super::backoff::{Backoff, Disconnects, STABLE_MS, taken_over_wait};
use super::connect::{self, Accepted, Attempt, LinkError, Setup, Try};
use super::echo::Echo;
use super::faults::BrokerFault;
use super::metrics::LinkMetrics;
use super::outbox::{MessageId, Outbox, Outgoing, PublishError};
use super::pump::{DisconnectReason, EventPump};
use super::tls::TlsFiles;
use crate::config::LinkSpec;
use crate::wire::topic::Subscription;

/// How often the waits of a connection are checked, in milliseconds.
const CHECK_MS: u64 = 1_000;
/// An error that goes on is logged once in so many attempts.
const LOG_EVERY: u64 = 60;
/// Of connections that end soon and alike, so many are logged one by one.
const ALIKE_LOGGED: u64 = 3;

/// Something to acknowledge to the broker; good for one connection only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AckToken {
    generation: u64,
    packet: u16,
}

#[cfg(test)]
impl AckToken {
    /// One of no connection, for a test that has none.
    pub(crate) fn of_test(packet: u16) -> Self {
        Self { generation: 0, packet }
    }
}

/// A message received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Where it was published.
    pub topic: String,
    /// What.
    pub payload: Vec<u8>,
    /// A copy that the broker kept, not one published now.
    pub retain: bool,
    /// The broker may have sent it before.
    pub dup: bool,
    /// To acknowledge with when it is dealt with; `None`: the broker does not wait for it.
    pub ack: Option<AckToken>,
}

/// What happened on the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Connected and subscribed. Once more on the same connection when the broker grants a subscription after it had rejected every one.
    Up {
        /// Whether the broker kept our session, so that nothing was missed.
        session_present: bool,
    },
    /// The connection is lost, whether it was up or not yet. Tokens of messages received on it are void; the broker sends those again.
    Down {
        /// Why.
        why: String,
    },
    /// A message came. It may come before [`Event::Up`], from a session that the broker kept.
    Message(Message),
    /// The broker has confirmed a message.
    Delivered(MessageId),
    /// The broker will not deliver what a filter names. Reported once, not at each connect.
    SubscriptionRefused {
        /// The filter.
        filter: String,
    },
}

enum Phase {
    Waiting(Pin<Box<Sleep>>),
    Connecting(Attempt),
    Live(Live),
}

struct Live {
    client: AsyncClient,
    pump: EventPump,
    since: Instant,
    session_present: bool,
    /// Subscribed, and reported so.
    up: bool,
    /// Only made to give up the broker's session.
    resetting: bool,
    /// When the broker rejected every subscription.
    unserved: Option<Instant>,
    /// The broker was not yet asked for what is subscribed now.
    outdated: bool,
    /// Subscriptions that the broker has not answered yet.
    unanswered: u32,
}

/// A connection to a broker, made again for ever.
pub struct Connection {
    spec: LinkSpec,
    setup: Setup,
    tls_files: Arc<TlsFiles>,
    phase: Phase,
    /// Numbers the connections, so that an acknowledgement never reaches a later one.
    generation: u64,
    url: usize,
    /// The `url` of the last connection.
    connected_url: usize,
    outbox: Outbox,
    acks: VecDeque<u16>,
    events: VecDeque<Event>,
    backoff: Backoff,
    disconnects: Disconnects,
    /// How many connections in a row ended soon and for a reason of the same kind as this one.
    alike: (u64, Option<Discriminant<DisconnectReason>>),
    failures: u64,
    /// Attempts in a row that the broker ended before CONNACK.
    closed_unanswered: u32,
    /// The last connection ended soon, because pings were not answered: the next ones are given more time.
    patient: bool,
    last_failure: String,
    /// The broker's session is to be given up on the next connection; the URL stays until then.
    reset_session: bool,
    echo: Echo,
    checks: Interval,
    /// Refused subscriptions that were reported, so that each is reported once.
    refused: HashSet<String>,
    metrics: Arc<LinkMetrics>,
}

impl Connection {
    /// A connection that begins to be made with the first [`Connection::next`].
    pub fn new(spec: LinkSpec, setup: Setup, metrics: Arc<LinkMetrics>) -> Result<Self, LinkError> {
        connect::check(&spec)?;
        let backoff = Backoff::new(&spec.urls);
        let mut checks = tokio::time::interval(Duration::from_millis(CHECK_MS));
        checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Self {
            spec,
            tls_files: Arc::new(TlsFiles::new(setup.link, Arc::clone(&metrics))),
            setup,
            phase: Phase::Waiting(Box::pin(tokio::time::sleep(Duration::ZERO))),
            generation: 0,
            url: 0,
            connected_url: 0,
            outbox: Outbox::default(),
            acks: VecDeque::new(),
            events: VecDeque::new(),
            backoff,
            disconnects: Disconnects::default(),
            alike: (0, None),
            failures: 0,
            closed_unanswered: 0,
            patient: false,
            last_failure: String::new(),
            reset_session: false,
            echo: Echo::new(0),
            checks,
            refused: HashSet::new(),
            metrics,
        })
    }

    /// The link's numbers.
    #[must_use]
    pub fn metrics(&self) -> &Arc<LinkMetrics> {
        &self.metrics
    }

    /// How many connections were made, this one included.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether the link is connected and subscribed.
    #[must_use]
    pub fn is_up(&self) -> bool {
        matches!(&self.phase, Phase::Live(live) if live.up)
    }

    /// Why the link cannot be connected, while that is so.
    #[must_use]
    pub fn last_failure(&self) -> Option<&str> {
        (!self.last_failure.is_empty()).then_some(self.last_failure.as_str())
    }

    /// The next event. Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Event {
        loop {
            if let Some(event) = self.events.pop_front() {
                return event;
            }
            self.step().await;
        }
    }

    /// Publishes, or keeps for later, as `message.retention` reports. Never waits. An error: the message was not taken; the counters
    /// report it too.
    pub fn publish(&mut self, message: Outgoing) -> Result<MessageId, PublishError> {
        let connected = self.is_up();
        let taken = self.outbox.push(message, connected);
        match &taken {
            Ok(_) => {
                self.pump();
                self.gauge();
            }
            Err(PublishError::Down) => LinkMetrics::count(&self.metrics.dropped_stale),
            Err(PublishError::Full | PublishError::TooLarge | PublishError::Topic) => {
                LinkMetrics::count(&self.metrics.dropped_full);
            }
        }
        taken
    }

    /// Forgets the undelivered message published with `Retention::Newest` and this key.
    pub fn supersede(&mut self, key: &str) {
        self.outbox.supersede(key);
    }

    /// From now on subscribed to this, for which the broker is asked once more. The filters are those of before, since what is left out goes on
    /// to come.
    pub fn subscribe(&mut self, subscriptions: Vec<Subscription>) {
        if self.setup.subscriptions != subscriptions {
            self.setup.subscriptions = subscriptions;
            if matches!(&self.phase, Phase::Live(live) if !live.resetting) {
                self.subscribe_again();
            }
        }
    }

    /// Acknowledges a message to the broker. A token of an earlier connection does nothing: the broker sends that
    /// message again.
    pub fn ack(&mut self, token: AckToken) {
        if token.generation == self.generation && matches!(self.phase, Phase::Live(_)) {
            self.acks.push_back(token.packet);
            self.pump();
        }
    }

    /// Messages not yet delivered.
    #[must_use]
    pub fn undelivered(&self) -> usize {
        self.outbox.len()
    }

    /// Delivers what is waiting and disconnects in order, so that the broker does not publish the last will. Messages received
    /// meanwhile are not acknowledged. `false`: not everything was delivered in time, and the broker publishes the last will.
    /// An attempt to connect that is under way is waited for; after a failed one nothing can be delivered, and it ends at once.
    pub async fn close(mut self, within: Duration) -> bool {
        let deadline = Instant::now() + within;
        let delivered = tokio::time::timeout_at(deadline, async {
            while !(self.outbox.is_empty() && self.acks.is_empty()) {
                if self.failures > 0 && !matches!(self.phase, Phase::Live(_)) {
                    return false;
                }
                self.step().await;
                self.events.clear();
            }
            true
        });
        if !delivered.await.unwrap_or(false) {
            return false;
        }
        let Phase::Live(mut live) = self.phase else { return true };
        if live.client.try_disconnect().is_err() {
            return false;
        }
        let disconnected = tokio::time::timeout_at(deadline, async move {
            loop {
                match live.pump.next().await {
                    Ok(ClientEvent::Outgoing(ClientDid::Disconnect)) | Err(_) => return,
                    Ok(_) => {}
                }
            }
        });
        disconnected.await.is_ok()
    }

    async fn step(&mut self) {
        match &mut self.phase {
            Phase::Waiting(sleep) => {
                sleep.await;
                let Some(url) = self.spec.urls.get(self.url % self.spec.urls.len().max(1)).cloned() else { return };
                debug!(link = self.setup.link, %url, "connecting");
                let (number, clean) = (self.generation + 1, self.reset_session);
                let attempt = Try { url, number, clean, patient: self.patient };
                let attempt = connect::connect(self.spec.clone(), Arc::clone(&self.tls_files), &self.setup, attempt);
                self.phase = Phase::Connecting(attempt);
            }
            Phase::Connecting(attempt) => match attempt.await {
                Ok(accepted) => self.accepted(accepted),
                Err(reason) => self.failed(&reason),
            },
            Phase::Live(live) => {
                tokio::select! {
                    result = live.pump.next() => match result {
                        Ok(event) => {
                            self.happened(event);
                            self.pump();
                        }
                        Err(reason) => self.lost(&reason),
                    },
                    _ = self.checks.tick() => self.check_waits(),
                }
            }
        }
    }

    fn accepted(&mut self, accepted: Accepted) {
        let Accepted { client, pump, session_present } = accepted;
        self.generation += 1;
        self.connected_url = self.url;
        self.closed_unanswered = 0;
        self.metrics.faults.over(BrokerFault::ClosesUnanswered);
        self.acks.clear();
        self.echo = Echo::new(self.generation);
        LinkMetrics::count(&self.metrics.connects);
        let filters = connect::filters(&self.setup);
        let resetting = self.reset_session;
        let asked = if resetting {
            client.try_disconnect()
        } else if filters.is_empty() {
            Ok(())
        } else {
            client.try_subscribe_many(filters.clone())
        };
        let (since, up, unserved) = (Instant::now(), false, None);
        let (outdated, unanswered) = (false, 1);
        self.phase =
            Phase::Live(Live { client, pump, since, session_present, up, resetting, unserved, outdated, unanswered });
        if asked.is_err() {
            let filters = filters.into_iter().map(|f| f.path).collect::<Vec<_>>().join(", ");
            self.lost(&DisconnectReason::Network(format!("cannot subscribe to `{filters}`: not valid topic filters")));
        } else if filters.is_empty() && !resetting {
            self.is_subscribed(&[]);
        }
    }

    /// An attempt failed.
    fn failed(&mut self, reason: &DisconnectReason) {
        LinkMetrics::count(&self.metrics.failed_attempts);
        self.metrics.state.down(reason.text());
        let url = self.url_text();
        if self.last_failure != reason.text() || self.failures.is_multiple_of(LOG_EVERY) {
            warn!(link = self.setup.link, %url, attempts = self.failures + 1, "cannot connect: {}", reason.text());
            reason.text().clone_into(&mut self.last_failure);
        }
        self.failures += 1;
        let urls = self.spec.urls.len().max(1);
        // That another broker is away is of no meaning for this one.
        if self.url % urls == self.connected_url % urls {
            self.disconnects.failed_between();
        }
        self.judge_attempt(reason);
        self.reset_session = false;
        self.url = self.url.wrapping_add(1);
        self.wait();
    }

    /// The connection ended.
    fn lost(&mut self, reason: &DisconnectReason) {
        let Phase::Live(live) = &self.phase else { return };
        let (resetting, lasted) = (live.resetting, live.since.elapsed());
        let stale = self.outbox.connection_lost();
        self.metrics.dropped_stale.fetch_add(stale, Relaxed);
        self.metrics.up.store(0, Relaxed);
        self.metrics.state.down(reason.text());
        self.gauge();
        self.acks.clear();
        if resetting {
            self.reset_session = false;
            info!(link = self.setup.link, "the broker's session was given up");
            self.wait();
            return;
        }
        LinkMetrics::count(&self.metrics.disconnects);
        let is_short = lasted < Duration::from_millis(STABLE_MS);
        let alike = self.ended_alike(reason, is_short);
        if self.is_news() {
            warn!(link = self.setup.link, lasted_ms = lasted.as_millis(), alike, "connection lost: {}", reason.text());
        }
        self.patient = is_short && (self.patient || matches!(reason, DisconnectReason::Silent));
        self.judge(reason, lasted);
        self.events.push_back(Event::Down { why: reason.text().to_owned() });
        if !self.reset_session {
            self.url = self.url.wrapping_add(1);
        }
        self.wait();
    }

    fn url_text(&self) -> String {
        self.spec.urls.get(self.url % self.spec.urls.len().max(1)).map(ToString::to_string).unwrap_or_default()
    }

    fn wait(&mut self) {
        let chance = getrandom::u32().unwrap_or(0);
        let wait = if self.disconnects.is_taken_over() { taken_over_wait(chance) } else { self.backoff.next(chance) };
        self.phase = Phase::Waiting(Box::pin(tokio::time::sleep(wait)));
    }
}

// It must be able to live in a task.
const _: fn() = || {
    fn is_send<T: Send>() {}
    is_send::<Connection>();
};
