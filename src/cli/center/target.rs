//! Where a command works: a center in a directory, in this process, or the service of an office, over its API. Both give the same
//! types, so that each command prints and exits in one way.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast::Receiver;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::super::print_error;
use crate::access::change::{Op, Position};
use crate::access::effect::{Reply, RevocationProof};
use crate::access::engine::StreamStatus;
#[cfg(feature = "center")]
use crate::access::id::Timestamp;
use crate::access::id::{CardUid, GatewayId, StreamName};
use crate::access::input::CommandKind;
use crate::access::list::AccessList;
#[cfg(feature = "center")]
use crate::center::http::{KnownBy, Remote};
use crate::center::sheet::Enrolments;
use crate::center::{Answered, DraftClaims, GatewayEvent, Plan, Report, Service, StreamAgreement};

/// What the center has kept about a dead card at one gateway: words for how it is known, and the revocation.
pub(super) type Kept = (&'static str, RevocationProof);

/// Longest time to deliver what was published when its answer was not waited for or did not come, in seconds.
const DELIVER_S: u64 = 2;
/// Gateways that are asked at once through a service. It answers 256 requests at once, of all its clients.
#[cfg(feature = "center")]
const ASKED_AT_ONCE_MAX: usize = 64;
/// Time between two looks for a newer state of a gateway at a service, in milliseconds.
#[cfg(feature = "center")]
const LOOK_EVERY_MS: u64 = 250;

/// Time between two looks for how much of a list the service has delivered, in milliseconds.
#[cfg(feature = "center")]
const PROGRESS_EVERY_MS: u64 = 250;

/// Why a command was not done: what is wrong, where, and what to do.
pub(super) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// See the file's head.
#[derive(Clone)]
pub(super) enum Target {
    /// A center in a directory, with its own link to the broker.
    Directory(Arc<Service>),
    /// The service.
    #[cfg(feature = "center")]
    Server(Arc<Remote>),
}

impl Target {
    /// All gateways that the service has.
    pub(super) async fn gateways(&self) -> Result<Vec<GatewayId>, Failure> {
        match self {
            Self::Directory(service) => Ok(service.gateways().to_vec()),
            #[cfg(feature = "center")]
            Self::Server(remote) => Ok(remote.gateways().await?.into_iter().map(|(gateway, _)| gateway).collect()),
        }
    }

    /// Publishes ops and waits for the acks.
    pub(super) async fn publish(
        &self,
        to: Option<&GatewayId>,
        ops: Vec<Op>,
        wait: Duration,
    ) -> Result<Vec<Answered>, Failure> {
        match self {
            Self::Directory(service) => Ok(service.publish_and_wait(to, ops, wait).await?),
            #[cfg(feature = "center")]
            Self::Server(remote) => Ok(remote.changes(to, &ops, wait).await?),
        }
    }

    /// Sends a message written by hand.
    pub(super) async fn write(
        &self,
        to: Option<&GatewayId>,
        claims: DraftClaims,
        wait: Duration,
    ) -> Result<Vec<Answered>, Failure> {
        match self {
            Self::Directory(service) => Ok(service.write_and_wait(to, claims, wait).await?),
            #[cfg(feature = "center")]
            Self::Server(_) => {
                Err("a whole message with `iss` is for trials in a directory; a service takes a list of ops".into())
            }
        }
    }

    /// Gives a command; `None`: no reply.
    pub(super) async fn command(
        &self,
        gateway: &GatewayId,
        kind: &CommandKind,
        actor: Option<&str>,
        wait: Duration,
    ) -> Result<Option<Reply>, Failure> {
        match self {
            Self::Directory(service) => Ok(service.command(gateway, kind.clone(), actor, wait).await?),
            #[cfg(feature = "center")]
            Self::Server(remote) => Ok(remote.command(gateway, kind, actor, wait).await?),
        }
    }

    /// Gives one command to each of these gateways, many at once.
    pub(super) async fn command_all(
        &self,
        gateways: Vec<GatewayId>,
        kind: &CommandKind,
        actor: &'static str,
        wait: Duration,
    ) -> Vec<(GatewayId, Result<Option<Reply>, Failure>)> {
        let room = match self {
            // Each reply has the id of its command, so that all may be under way at once.
            Self::Directory(_) => Semaphore::MAX_PERMITS,
            #[cfg(feature = "center")]
            Self::Server(_) => ASKED_AT_ONCE_MAX,
        };
        let (room, mut asked, mut replies) = (Arc::new(Semaphore::new(room)), JoinSet::new(), Vec::new());
        for gateway in gateways {
            let (target, room, kind) = (self.clone(), Arc::clone(&room), kind.clone());
            asked.spawn(async move {
                let _room = room.acquire().await;
                let reply = target.command(&gateway, &kind, Some(actor), wait).await;
                (gateway, reply)
            });
        }
        while let Some(answered) = asked.join_next().await {
            replies.extend(answered.ok());
        }
        replies
    }

    /// What the center has kept of the gateways about a dead card.
    #[cfg_attr(not(feature = "center"), expect(unused_variables, reason = "a directory has the audits only"))]
    pub(super) async fn kept_proof(&self, uid: CardUid) -> Result<HashMap<GatewayId, Kept>, Failure> {
        match self {
            Self::Directory(_) => Ok(HashMap::new()),
            #[cfg(feature = "center")]
            Self::Server(remote) => {
                let words = |known_by| match known_by {
                    KnownBy::Audit => "no answer now, known by its audit",
                    KnownBy::Ack => "no answer now, known by its ack",
                    KnownBy::State => "no answer now, known by its state",
                };
                let proof = remote.proof(uid).await?;
                Ok(proof.into_iter().map(|(gateway, (by, revocation))| (gateway, (words(by), revocation))).collect())
            }
        }
    }

    /// What a list would change.
    pub(super) async fn plan(&self, to: &GatewayId, list: &Enrolments) -> Result<Plan, Failure> {
        match self {
            Self::Directory(service) => Ok(service.plan(Some(to), list.clone()).await?),
            #[cfg(feature = "center")]
            Self::Server(remote) => Ok(remote.plan(Some(to), list).await?),
        }
    }

    /// Publishes a list and waits for the acks; `sent` is called with the parts sent and all parts.
    pub(super) async fn load(
        &self,
        to: &GatewayId,
        list: Enrolments,
        allow_shrink: bool,
        wait: Duration,
        mut sent: impl FnMut(usize, usize),
    ) -> Result<Vec<Answered>, Failure> {
        let service = match self {
            Self::Directory(service) => service,
            #[cfg(feature = "center")]
            Self::Server(remote) => return load_at(remote, (to, &list, allow_shrink), wait, sent).await,
        };
        let pending = service.load(Some(to), list, allow_shrink).await?;
        let parts = pending.messages();
        let mut left: watch::Receiver<usize> = service.undelivered();
        let mut answers = std::pin::pin!(pending.answers(wait));
        loop {
            tokio::select! {
                answers = &mut answers => return Ok(answers),
                Ok(()) = left.changed() => sent(parts.saturating_sub(*left.borrow_and_update()), parts),
            }
        }
    }

    /// How a gateway that reports `streams` stands to each stream.
    pub(super) async fn agreements(
        &self,
        gateway: &GatewayId,
        streams: &[StreamStatus],
    ) -> Result<Vec<StreamAgreement>, Failure> {
        match self {
            Self::Directory(service) => {
                let (gateway, streams) = (gateway.clone(), streams.to_vec());
                Ok(service.ask(move |center| center.agreements(&gateway, &streams)).await??)
            }
            #[cfg(feature = "center")]
            Self::Server(remote) => Ok(remote.agreements(gateway, streams).await?),
        }
    }

    /// The messages of a stream behind a number; `None`: too many.
    pub(super) async fn messages_behind(
        &self,
        gateway: &GatewayId,
        stream: &StreamName,
        seq: u64,
    ) -> Result<Option<Vec<(Position, String)>>, Failure> {
        match self {
            Self::Directory(service) => {
                let (gateway, stream) = (gateway.clone(), stream.clone());
                Ok(service.ask(move |center| center.messages_behind(&gateway, &stream, seq)).await??)
            }
            #[cfg(feature = "center")]
            Self::Server(remote) => Ok(remote.messages_behind(gateway, stream, seq).await?),
        }
    }

    /// What a gateway has when it has everything.
    pub(super) async fn whole_list(&self, gateway: &GatewayId) -> Result<AccessList, Failure> {
        match self {
            Self::Directory(service) => {
                let gateway = gateway.clone();
                Ok(service.ask(move |center| center.whole_list(&gateway)).await?)
            }
            #[cfg(feature = "center")]
            Self::Server(remote) => Ok(remote.whole_list(gateway).await?),
        }
    }

    /// The states of a gateway, beginning with the newest.
    pub(super) fn states(&self, gateway: &GatewayId) -> States {
        match self {
            Self::Directory(service) => States::Published(service.reports_since_start(), gateway.clone()),
            #[cfg(feature = "center")]
            Self::Server(remote) => States::Kept(Arc::clone(remote), gateway.clone(), None),
        }
    }

    /// Delivers what is under way. If the broker is not connected, the reason is printed: it is why no answer came.
    pub(super) async fn close(self) {
        match self {
            Self::Directory(service) => {
                if let Some(why) = service.last_failure().await {
                    print_error(format!("the broker is not connected: {why}"));
                }
                // What was not delivered stays in the journal.
                service.end(Duration::from_secs(DELIVER_S)).await;
            }
            #[cfg(feature = "center")]
            Self::Server(_) => {}
        }
    }
}

/// The states of one gateway.
pub(super) enum States {
    /// As the broker passes them on.
    Published(Receiver<Report>, GatewayId),
    /// As the service keeps them; with the time of the last that was seen.
    #[cfg(feature = "center")]
    Kept(Arc<Remote>, GatewayId, Option<Timestamp>),
}

impl States {
    /// The next state; `None`: none until `deadline`.
    pub(super) async fn next(&mut self, deadline: Instant) -> Result<Option<String>, Failure> {
        match self {
            Self::Published(reports, gateway) => {
                while let Ok(Ok(report)) = timeout_at(deadline, reports.recv()).await {
                    if let (Some(from), GatewayEvent::State(text)) = (report.gateway, report.event)
                        && from == *gateway
                    {
                        return Ok(Some(text));
                    }
                }
                Ok(None)
            }
            #[cfg(feature = "center")]
            Self::Kept(remote, gateway, seen) => loop {
                let (_, state) = remote.state(gateway).await?;
                if let Some((at, text)) = state.filter(|(at, _)| Some(*at) != *seen) {
                    *seen = Some(at);
                    return Ok(Some(text));
                }
                if Instant::now() >= deadline {
                    return Ok(None);
                }
                tokio::time::sleep(Duration::from_millis(LOOK_EVERY_MS)).await;
            },
        }
    }
}

/// Loads a list through the service. What it has not delivered yet is asked for meanwhile, by the way: an answer that fails shows nothing.
#[cfg(feature = "center")]
async fn load_at(
    remote: &Remote,
    (to, list, allow_shrink): (&GatewayId, &Enrolments, bool),
    wait: Duration,
    mut sent: impl FnMut(usize, usize),
) -> Result<Vec<Answered>, Failure> {
    let mut loaded = std::pin::pin!(remote.load(Some(to), list, allow_shrink, wait));
    let mut look = tokio::time::interval(Duration::from_millis(PROGRESS_EVERY_MS));
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // What others publish meanwhile is counted too: how many parts this list has is known to the service only.
    let mut all = 0;
    loop {
        let waiting = async {
            look.tick().await;
            remote.undelivered().await
        };
        tokio::select! {
            answers = &mut loaded => return Ok(answers?),
            waiting = waiting => {
                let Ok(waiting) = waiting else { continue };
                all = all.max(waiting);
                if all > 0 {
                    sent(all - waiting, all);
                }
            }
        }
    }
}
