//! A center at work: one task with the [`Center`] and its connection, and the handle to it. It publishes what is reported, reports what the gateway reports, and,
//! where it attends to everything, answers resync, re-sends heads and acknowledges the audit.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior};

pub use super::work::{Attention, GatewayEvent};
use super::work::{Order, Work};
use super::{Center, CenterError, DraftClaims};
use crate::access::change::{Op, Position};
use crate::access::effect::{Ack, Reply};
use crate::access::id::StreamName;
use crate::access::input::CommandKind;
use crate::clock::Clock;
use crate::mqtt::{Connection, LinkError, LinkSpec, Session, Setup};
use crate::wire::topic::{Qos, Subscription, Topic, Up};

/// Time between two heads of a stream about which nothing is reported, in seconds (wire contract, 2.4).
pub const HEAD_EVERY_S: u64 = 300;
/// Things events that a slow listener may fall behind before it misses the oldest.
const RECEIVED_MAX: usize = 4_096;
/// Orders that wait for the task; beyond, who orders waits.
const ORDERS_MAX: usize = 64;

/// A change message and its answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Answered {
    /// Who reported it.
    pub stream: StreamName,
    /// Its number.
    pub at: Position,
    /// The gateway's answer and how long it took; `None`: no answer in time. The message stays in the journal.
    pub ack: Option<(Ack, Duration)>,
}

/// A running center. It ends when this is dropped; [`Service::close`] delivers first.
pub struct Service {
    orders: mpsc::Sender<Order>,
    events: broadcast::Sender<GatewayEvent>,
    up: watch::Receiver<bool>,
    task: JoinHandle<()>,
}

impl Service {
    /// Starts `center` on the broker of `link`. Two services at one broker need different client ids. Call within a tokio runtime.
    ///
    /// # Errors
    /// [`LinkError`] if the link can never be connected.
    pub fn start(center: Center, link: LinkSpec, clock: Clock, attention: Attention) -> Result<Self, LinkError> {
        let topics = match attention {
            Attention::Answers => &[Up::Ack, Up::Reply][..],
            Attention::Everything => Up::ALL,
        };
        let filter = |up: &Up| Subscription {
            filter: Topic::Up(center.gateway().clone(), *up).to_string(),
            qos: Qos::AtLeastOnce,
        };
        let setup = Setup {
            link: "center",
            // What was not events is asked for, or sent again; a session would only keep old answers.
            session: Session::Clean,
            subscriptions: topics.iter().map(filter).collect(),
            // A batch of the audit is the longest message of a gateway.
            packet_bytes_max: crate::wire::limits::UP_BYTES_MAX,
            will: None,
            echo_topic: None,
        };
        let connection = Connection::new(link, setup, std::sync::Arc::default())?;
        let (orders, inbox) = mpsc::channel(ORDERS_MAX);
        let (events, _) = broadcast::channel(RECEIVED_MAX);
        let (is_up, up) = watch::channel(false);
        let mut heads = tokio::time::interval(Duration::from_secs(HEAD_EVERY_S));
        heads.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let work =
            Work { center, connection, clock, attention, events: events.clone(), is_up, again: VecDeque::new(), heads };
        let task = tokio::spawn(work.run(inbox));
        Ok(Self { orders, events, up, task })
    }

    /// What is events from now on.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<GatewayEvent> {
        self.events.subscribe()
    }

    /// Waits until the link is connected; `false`: not within `within`.
    pub async fn wait_up(&self, within: Duration) -> bool {
        let mut up = self.up.clone();
        matches!(tokio::time::timeout(within, up.wait_for(|up| *up)).await, Ok(Ok(_)))
    }

    async fn order<T>(&self, order: impl FnOnce(oneshot::Sender<T>) -> Order) -> Result<T, CenterError> {
        let (answer, answered) = oneshot::channel();
        self.orders.send(order(answer)).await.map_err(|_| CenterError::Stopped)?;
        answered.await.map_err(|_| CenterError::Stopped)
    }

    /// Publishes `ops`: on disk here when this returns, published as soon as the link allows. Gives each message's number.
    ///
    /// # Errors
    /// See [`Center::publish_ops`].
    pub async fn publish(&self, ops: Vec<Op>) -> Result<Vec<(StreamName, Position)>, CenterError> {
        let messages = self.order(|answer| Order::Report(ops, answer)).await??;
        Ok(messages.into_iter().filter_map(|signed_message| signed_message.number).collect())
    }

    /// Publishes `ops` and waits for the gateway's answers, all together at most `within`.
    ///
    /// # Errors
    /// See [`Center::publish_ops`]. No answer is no error.
    pub async fn publish_and_wait(&self, ops: Vec<Op>, within: Duration) -> Result<Vec<Answered>, CenterError> {
        let (events, began) = (self.events(), Instant::now());
        let numbers = self.publish(ops).await?;
        Ok(answers(events, numbers, began, within).await)
    }

    /// Sends a message written by hand and waits for its answer; `None`: it has no number to wait for.
    ///
    /// # Errors
    /// See [`Center::publish_as_written`].
    pub async fn write_and_wait(&self, claims: DraftClaims, within: Duration) -> Result<Option<Answered>, CenterError> {
        let (events, began) = (self.events(), Instant::now());
        let signed_message = self.order(|answer| Order::Write(claims, answer)).await??;
        Ok(answers(events, signed_message.number.into_iter().collect(), began, within).await.pop())
    }

    /// Gives a command and waits for the reply. It is never sent late: `None` if the link is not up, or nobody replied within
    /// `within`.
    ///
    /// # Errors
    /// See [`Center::command`].
    pub async fn command(
        &self,
        kind: CommandKind,
        actor: Option<&str>,
        within: Duration,
    ) -> Result<Option<Reply>, CenterError> {
        let deadline = Instant::now() + within;
        if !self.wait_up(within).await {
            return Ok(None);
        }
        let mut events = self.events();
        let actor = actor.map(str::to_owned);
        let jti = self.order(|answer| Order::Command(kind, actor, answer)).await??;
        let reply = tokio::time::timeout_at(deadline, async {
            loop {
                match events.recv().await {
                    Ok(GatewayEvent::Reply(reply)) if reply.jti.as_deref() == Some(&jti) => return Some(reply),
                    Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return None,
                }
            }
        });
        Ok(reply.await.ok().flatten())
    }

    /// Delivers what is under way and ends. `false`: not all of it was delivered within `within`; it stays in the journal.
    pub async fn close(mut self, within: Duration) -> bool {
        let delivered = self.order(|answer| Order::Close(within, answer)).await.unwrap_or(false);
        drop((&mut self.task).await);
        delivered
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Waits for the acks of these messages.
async fn answers(
    mut events: broadcast::Receiver<GatewayEvent>,
    numbers: Vec<(StreamName, Position)>,
    began: Instant,
    within: Duration,
) -> Vec<Answered> {
    let mut all: Vec<_> = numbers.into_iter().map(|(stream, at)| Answered { stream, at, ack: None }).collect();
    let deadline = began + within;
    while all.iter().any(|one| one.ack.is_none()) {
        let ack = match tokio::time::timeout_at(deadline, events.recv()).await {
            Ok(Ok(GatewayEvent::Ack(ack))) => ack,
            Ok(Ok(_) | Err(broadcast::error::RecvError::Lagged(_))) => continue,
            Ok(Err(broadcast::error::RecvError::Closed)) | Err(_) => break,
        };
        let is_for = |one: &&mut Answered| {
            one.ack.is_none() && ack.stream.as_ref() == Some(&one.stream) && ack.at == Some(one.at)
        };
        if let Some(one) = all.iter_mut().find(is_for) {
            one.ack = Some((ack, began.elapsed()));
        }
    }
    all
}
