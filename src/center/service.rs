//! A center at work: one task with the [`Center`] and its connection, and the handle to it. It publishes what it is ordered to,
//! passes on what the gateways publish, and, where it attends to everything, answers resync, re-sends heads and acknowledges the
//! audit.

use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

pub use super::order::{Attention, GatewayEvent, Report};
use super::order::{Order, Stage};
use super::sheet::Enrolments;
use super::work::Work;
use super::{Center, CenterError, Directory, DraftClaims, Plan, SignedMessage, Storage};
use crate::access::change::{Op, Position};
use crate::access::effect::{Ack, Reply};
use crate::access::id::{GatewayId, StreamName};
use crate::access::input::CommandKind;
use crate::clock::Clock;
use crate::mqtt::{Connection, LinkError, LinkSpec, Session, Setup};
use crate::wire::topic::{self, Qos, Subscription, Topic, Up};

/// Reports that a slow listener may fall behind before it misses the oldest.
const REPORTS_MAX: usize = 4_096;
/// Orders that wait for the task; beyond, who orders waits.
const ORDERS_MAX: usize = 1_024;

/// A change message and a gateway's answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Answered {
    /// Who answers.
    pub gateway: GatewayId,
    /// Who published it.
    pub stream: StreamName,
    /// Its number.
    pub at: Position,
    /// The gateway's answer and how long it took; `None`: no answer in time. The message stays in the journal.
    pub ack: Option<(Ack, Duration)>,
    /// The gateway has another message under this number, so it ignores this one, whatever it answers.
    pub is_ignored: bool,
}

impl Answered {
    /// No answer yet.
    pub(super) fn waiting(gateway: GatewayId, stream: StreamName, at: Position) -> Self {
        Self { gateway, stream, at, ack: None, is_ignored: false }
    }
}

/// Messages that are on their way, and the answers that they will have.
pub struct Pending {
    messages: usize,
    reports: broadcast::Receiver<Report>,
    expected: Vec<Answered>,
    began: Instant,
}

impl Pending {
    /// How many messages there are.
    #[must_use]
    pub fn messages(&self) -> usize {
        self.messages
    }

    /// Waits for the answers, all together at most `within` from when the messages were published.
    pub async fn answers(self, within: Duration) -> Vec<Answered> {
        answers(self.reports, self.expected, self.began, within).await
    }
}

/// A running center. It ends when this is dropped; [`Service::close`] delivers first.
pub struct Service<S = Directory> {
    orders: mpsc::Sender<Order<S>>,
    reports: broadcast::Sender<Report>,
    /// What was reported since the start, until somebody takes it.
    since_start: Mutex<Option<broadcast::Receiver<Report>>>,
    gateways: RwLock<Arc<[GatewayId]>>,
    up: watch::Receiver<bool>,
    undelivered: watch::Receiver<usize>,
    task: JoinHandle<()>,
    clock: Clock,
    /// The addresses of the broker, for messages.
    broker: String,
}

impl<S: Storage> Service<S> {
    /// Starts `center` on the broker of `link`. Two services at one broker need different client ids: each ends the other's connection, and
    /// takes over its session. Call within a tokio runtime.
    pub fn start(center: Center<S>, link: LinkSpec, clock: Clock, attention: Attention) -> Result<Self, LinkError> {
        // Who keeps what gateways publish wants it also from the time when it was not connected. For all others a session would only
        // keep old answers.
        let keeps = S::KEEPS_PUBLISHED && attention == Attention::Everything;
        // Its gateways may change, and a session keeps the filters that it has.
        let one = match center.gateways() {
            [one] if !keeps => Some(one),
            _ => None,
        };
        let setup = Setup {
            link: "center",
            session: if keeps { link.session } else { Session::Clean },
            subscriptions: subscriptions(one, attention, link.session),
            // A batch of the audit is the longest message of a gateway.
            packet_bytes_max: crate::wire::limits::UP_BYTES_MAX,
            will: None,
            echo_topic: None,
        };
        let broker = link.urls.iter().map(ToString::to_string).collect::<Vec<_>>().join("` or `");
        let connection = Connection::new(link, setup, std::sync::Arc::default())?;
        let gateways = RwLock::new(center.gateways().into());
        let (orders, inbox) = mpsc::channel(ORDERS_MAX);
        let (reports, since_start) = broadcast::channel(REPORTS_MAX);
        let since_start = Mutex::new(Some(since_start));
        let (is_up, up) = watch::channel(false);
        let (waiting, undelivered) = watch::channel(0);
        let work = Work::new(center, connection, (clock.clone(), attention), reports.clone(), (is_up, waiting));
        let task = tokio::spawn(work.run(inbox));
        Ok(Self { orders, reports, since_start, gateways, up, undelivered, task, clock, broker })
    }

    /// What the gateways publish and what happens to the link, from now on.
    #[must_use]
    pub fn reports(&self) -> broadcast::Receiver<Report> {
        self.reports.subscribe()
    }

    /// The same since the start, for whoever must not miss the states that the broker kept: they may arrive before the caller of
    /// [`Self::start`] goes on. Whoever asks again gets what comes from then on.
    #[must_use]
    pub fn reports_since_start(&self) -> broadcast::Receiver<Report> {
        let since_start = crate::lock(&self.since_start).take();
        since_start.unwrap_or_else(|| self.reports())
    }

    /// Waits until the link is connected; `false`: not within `within`.
    pub async fn wait_up(&self, within: Duration) -> bool {
        let mut up = self.up.clone();
        matches!(tokio::time::timeout(within, up.wait_for(|up| *up)).await, Ok(Ok(_)))
    }

    /// How many messages are not yet delivered to the broker.
    #[must_use]
    pub fn undelivered(&self) -> watch::Receiver<usize> {
        self.undelivered.clone()
    }

    async fn order<T>(&self, order: impl FnOnce(oneshot::Sender<T>) -> Order<S>) -> Result<T, CenterError> {
        let (answer, answered) = oneshot::channel();
        self.orders.send(order(answer)).await.map_err(|_| CenterError::Stopped)?;
        answered.await.map_err(|_| CenterError::Stopped)
    }

    /// Publishes `ops`: on disk here when this returns, published as soon as the link allows. `to` is the gateway for ops of streams
    /// that publish to one. Gives the messages.
    pub async fn publish(&self, to: Option<&GatewayId>, ops: Vec<Op>) -> Result<Vec<SignedMessage>, CenterError> {
        let to = to.cloned();
        let stage = move |center: &mut Center<S>, now| {
            center.check_meant(to.as_ref(), &ops, now)?;
            center.stage_ops(to.as_ref(), &ops, now)
        };
        self.stage(Box::new(stage)).await
    }

    /// Publishes what `stage` stages in a transaction, which it may share with others: on disk here when this returns.
    ///
    /// # Errors
    /// What `stage` returns, that the storage cannot be written, and [`CenterError::Busy`].
    pub(super) async fn stage(&self, stage: Stage<S>) -> Result<Vec<SignedMessage>, CenterError> {
        self.order(|answer| Order::Publish(stage, answer)).await?
    }

    /// The gateways published to.
    #[must_use]
    pub fn gateways(&self) -> Arc<[GatewayId]> {
        Arc::clone(&self.gateways.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// See [`Center::replace_gateways`].
    #[cfg(feature = "center")]
    pub(super) async fn replace_gateways(&self, gateways: Vec<GatewayId>) -> Result<(), CenterError> {
        let known: Arc<[GatewayId]> = gateways.as_slice().into();
        self.ask(move |center| center.replace_gateways(gateways)).await??;
        *self.gateways.write().unwrap_or_else(PoisonError::into_inner) = known;
        Ok(())
    }

    /// Whether the broker is connected.
    #[must_use]
    pub fn is_up(&self) -> bool {
        *self.up.borrow()
    }

    /// Whether its task is there; without it every order is answered [`CenterError::Stopped`].
    #[cfg(feature = "center")]
    pub(super) fn is_running(&self) -> bool {
        !self.orders.is_closed()
    }

    /// Waits until its task has ended: it was closed, or it failed.
    pub(crate) async fn ended(&self) {
        self.orders.closed().await;
    }

    /// Why the broker is not connected, while that is so and an attempt has failed.
    pub async fn last_failure(&self) -> Option<String> {
        let why = self.order(Order::LastFailure).await.ok().flatten()?;
        Some(format!("`{}`: {why}", self.broker))
    }

    /// Publishes `ops` and waits for the answers of the gateways that they go to, all together at most `within`. No answer is no error.
    pub async fn publish_and_wait(
        &self,
        to: Option<&GatewayId>,
        ops: Vec<Op>,
        within: Duration,
    ) -> Result<Vec<Answered>, CenterError> {
        let (reports, began) = (self.reports(), Instant::now());
        let messages = self.publish(to, ops).await?;
        self.judged(answers(reports, self.expected(&messages), began, within).await).await
    }

    /// Publishes a list of enrolments as a snapshot, as [`Self::publish`] does, for the gateways that the stream that owns `enrol`
    /// publishes to.
    pub async fn load(
        &self,
        to: Option<&GatewayId>,
        list: Enrolments,
        allow_shrink: bool,
    ) -> Result<Pending, CenterError> {
        let (reports, began, to) = (self.reports(), Instant::now(), to.cloned());
        let stage: Stage<S> = Box::new(move |center, now| {
            center.stage_list(to.as_ref(), &list, allow_shrink, now).map(|loaded| loaded.messages)
        });
        let messages = self.stage(stage).await?;
        Ok(Pending { messages: messages.len(), reports, expected: self.expected(&messages), began })
    }

    /// What a list would change now.
    pub async fn plan(&self, to: Option<&GatewayId>, list: Enrolments) -> Result<Plan, CenterError> {
        let (to, now) = (to.cloned(), self.clock.now().wall);
        self.ask(move |center| center.plan(to.as_ref(), &list, now)).await?
    }

    /// Sends a message written by hand and waits for the answers, as [`Self::publish_and_wait`] does; empty: it has no number to wait
    /// for.
    pub async fn write_and_wait(
        &self,
        to: Option<&GatewayId>,
        claims: DraftClaims,
        within: Duration,
    ) -> Result<Vec<Answered>, CenterError> {
        let (reports, began, to) = (self.reports(), Instant::now(), to.cloned());
        let message = self.order(|answer| Order::Write(to, claims, answer)).await??;
        Ok(answers(reports, self.expected(&[message]), began, within).await)
    }

    /// Waits at most `within` for the answers to `messages` among `reports`, to which somebody listened before they were published.
    #[cfg(feature = "center")]
    pub(super) async fn answers(
        &self,
        reports: broadcast::Receiver<Report>,
        messages: &[SignedMessage],
        within: Duration,
    ) -> Result<Vec<Answered>, CenterError> {
        self.judged(answers(reports, self.expected(messages), Instant::now(), within).await).await
    }

    /// The answers, of which those do not count that are of another message under the same number.
    pub(super) async fn judged(&self, mut all: Vec<Answered>) -> Result<Vec<Answered>, CenterError> {
        self.ask(move |center| {
            for one in &mut all {
                one.is_ignored = center.is_ignored(&one.gateway, &one.stream, one.at);
            }
            all
        })
        .await
    }

    /// The answers to wait for.
    fn expected(&self, messages: &[SignedMessage]) -> Vec<Answered> {
        let all = self.gateways();
        let of = |message: &SignedMessage| {
            let gateways = match &message.topic {
                Topic::Down(gateway, _) => std::slice::from_ref(gateway),
                _ => &all,
            };
            let number = message.number.clone();
            let answered = number.map(|(stream, at)| {
                let from = |gateway: &GatewayId| Answered::waiting(gateway.clone(), stream.clone(), at);
                gateways.iter().map(from).collect::<Vec<_>>()
            });
            answered.unwrap_or_default()
        };
        let mut all: Vec<Answered> = messages.iter().flat_map(of).collect();
        // The parts of a snapshot have one answer.
        all.dedup_by(|one, other| one.gateway == other.gateway && one.stream == other.stream && one.at == other.at);
        all
    }

    /// Gives a command and waits for the reply. It is never sent late: `None` if the link is not up, or nobody replied within
    /// `within`.
    pub async fn command(
        &self,
        gateway: &GatewayId,
        kind: CommandKind,
        actor: Option<&str>,
        within: Duration,
    ) -> Result<Option<Reply>, CenterError> {
        let deadline = Instant::now() + within;
        if !self.wait_up(within).await {
            return Ok(None);
        }
        let mut reports = self.reports();
        let (gateway, actor) = (gateway.clone(), actor.map(str::to_owned));
        let jti = self.order(|answer| Order::Command(gateway, kind, actor, answer)).await??;
        let reply = tokio::time::timeout_at(deadline, async {
            loop {
                match reports.recv().await {
                    Ok(Report { event: GatewayEvent::Reply(reply), .. }) if reply.jti.as_deref() == Some(&jti) => {
                        return Some(reply);
                    }
                    Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return None,
                }
            }
        });
        Ok(reply.await.ok().flatten())
    }

    /// Asks the center something, between two orders.
    pub async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Center<S>) -> T + Send + 'static,
    ) -> Result<T, CenterError> {
        self.order(|answer| Order::Ask(Box::new(move |center| drop(answer.send(question(center)))))).await
    }

    /// Delivers what is under way and ends. `false`: not all of it was delivered within `within`; it stays in the journal.
    pub async fn close(mut self, within: Duration) -> bool {
        let delivered = self.end(within).await;
        drop((&mut self.task).await);
        delivered
    }

    /// As [`Self::close`], where others still have the service; their orders are answered [`CenterError::Stopped`].
    pub async fn end(&self, within: Duration) -> bool {
        self.order(|answer| Order::Close(within, answer)).await.unwrap_or(false)
    }
}

impl<S> Drop for Service<S> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What to subscribe to: the topics of one gateway, or those of all with one filter for each kind of message.
///
/// With QoS 1 what nobody sends again, so that the broker keeps it while a session is away: acks and alarms. The rest would only fill
/// the broker's queue: a gateway sends its audit and its requests to send again until they are answered, a state replaces the one
/// before, and nobody waits for a late reply. All with QoS 0 where the session is clean, as at a gateway: on a cluster each
/// subscription with QoS 1 is a replicated object.
fn subscriptions(gateway: Option<&GatewayId>, attention: Attention, session: Session) -> Vec<Subscription> {
    let kinds = match attention {
        Attention::Answers => &[Up::Ack, Up::Reply, Up::State][..],
        Attention::Everything => Up::ALL,
    };
    let filter = |up: &Up| match gateway {
        Some(one) => Topic::Up(one.clone(), *up).to_string(),
        None => topic::of_all_gateways(*up),
    };
    let qos = |up: &Up| match (session, up) {
        (Session::Persistent, Up::Ack | Up::Alarm) => Qos::AtLeastOnce,
        (Session::Persistent, Up::Reply | Up::State | Up::Resync | Up::Audit) | (Session::Clean, _) => Qos::AtMostOnce,
    };
    kinds.iter().map(|up| Subscription { filter: filter(up), qos: qos(up) }).collect()
}

/// Waits for the acks of these messages.
async fn answers(
    mut reports: broadcast::Receiver<Report>,
    mut all: Vec<Answered>,
    began: Instant,
    within: Duration,
) -> Vec<Answered> {
    let deadline = began + within;
    while all.iter().any(|one| one.ack.is_none()) {
        let (gateway, ack) = match tokio::time::timeout_at(deadline, reports.recv()).await {
            Ok(Ok(Report { gateway: Some(gateway), event: GatewayEvent::Ack(ack) })) => (gateway, ack),
            Ok(Ok(_) | Err(broadcast::error::RecvError::Lagged(_))) => continue,
            Ok(Err(broadcast::error::RecvError::Closed)) | Err(_) => break,
        };
        let is_for = |one: &&mut Answered| {
            let number = ack.stream.as_ref() == Some(&one.stream) && ack.at == Some(one.at);
            one.ack.is_none() && one.gateway == gateway && number
        };
        if let Some(one) = all.iter_mut().find(is_for) {
            one.ack = Some((ack, began.elapsed()));
        }
    }
    all
}
