//! A center that is asked over its API: what a [`Service`](super::super::Service) does in this process, done by the one at the other
//! end, with the same types.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Bytes;
use hyper::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::RawValue;
use tokio::time::{Instant, sleep};

use super::super::sheet::Enrolments;
use super::super::{Answered, Plan, StreamAgreement};
use super::bodies::{Answer, AtGateway, Behind, BoxShown, Compared, Delivery, GatewayShown, KnownBy, PlanBody, Proof};
use super::client::{Ask, HttpClient, ServerError, ServerUrl};
use super::sse::EventStream;
use crate::access::change::{Op, Position};
use crate::access::effect::{PortalProof, Reply, RevocationProof};
use crate::access::engine::StreamStatus;
use crate::access::event::StreamRevision;
use crate::access::id::{CardUid, GatewayId, StreamName, Timestamp};
use crate::access::input::CommandKind;
use crate::access::list::AccessList;
use crate::mqtt::{LinkSpec, Secret};
use crate::wire::allowed::AllowedOps;
use crate::wire::ops::enrolment_body;
use crate::wire::snapshot::read_entries;
use crate::wire::{digest, down};

/// The longest wait for gateways that one request may ask for, in seconds. A longer one is several requests with one key.
const WAIT_S_MAX: u64 = 60;
/// How often a request is sent again, a change under its key, when its answer is lost, or the service is not there or busy.
const AGAIN_MAX: u32 = 3;
/// Time before it is sent again, in milliseconds; the service names a second.
const AGAIN_MS: u64 = 1_000;

/// The center of an office, over its API.
pub struct Remote {
    client: Arc<HttpClient>,
    key: String,
}

/// A gateway, and its newest state with the time of its receipt.
pub type StateOf = (GatewayId, Option<(Timestamp, String)>);

#[derive(Deserialize)]
struct Gateways {
    gateways: Vec<GatewayShown>,
}

#[derive(Deserialize)]
struct WholeList {
    entries: Box<RawValue>,
}

#[derive(Serialize)]
struct ListSent<'a> {
    gateway: Option<&'a GatewayId>,
    cards: Vec<Box<RawValue>>,
    allow_shrink: bool,
    dry_run: bool,
}

impl GatewayShown {
    fn state(self) -> StateOf {
        (self.gateway, self.received_at.zip(self.state.map(|state| state.get().to_owned())))
    }
}

impl Remote {
    /// The service at `server`, for the client of `token`; `link` names the files for TLS. A change is sent under `key`, once or more
    /// often.
    pub fn new(server: ServerUrl, token: Secret, link: &LinkSpec, key: String) -> Result<Self, ServerError> {
        Ok(Self { client: Arc::new(HttpClient::new(server, token, link)?), key })
    }

    async fn get<T: for<'b> Deserialize<'b>>(&self, path: String) -> Result<T, ServerError> {
        let body = self.asked(|| Ask::get(path.clone())).await?;
        self.read(&body)
    }

    fn read<T: for<'b> Deserialize<'b>>(&self, body: &[u8]) -> Result<T, ServerError> {
        serde_json::from_slice(body).map_err(|error| self.client.unreadable(&error))
    }

    async fn post<T: for<'b> Deserialize<'b>>(&self, path: String, body: Bytes) -> Result<T, ServerError> {
        let body = self.asked(|| Ask { method: Method::POST, body: body.clone(), ..Ask::get(path.clone()) }).await?;
        self.read(&body)
    }

    /// Asks what changes nothing, again where the service is not there or busy: it may be starting.
    async fn asked<'a>(&self, ask: impl Fn() -> Ask<'a>) -> Result<Vec<u8>, ServerError> {
        let mut again = 0;
        loop {
            match self.client.done(ask()).await {
                Ok((_, body)) => return Ok(body),
                // An answer that is late would be late again, and who asks waits for it.
                Err(error) if again < AGAIN_MAX && error.is_passing() && !error.is_unknown() => {
                    again += 1;
                    sleep(Duration::from_millis(AGAIN_MS)).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The gateways of this client.
    pub async fn gateways(&self) -> Result<Vec<StateOf>, ServerError> {
        let Gateways { gateways } = self.get("/v1/gateways".to_owned()).await?;
        Ok(gateways.into_iter().map(GatewayShown::state).collect())
    }

    /// The newest state of a gateway.
    pub async fn state(&self, gateway: &GatewayId) -> Result<StateOf, ServerError> {
        self.get::<GatewayShown>(format!("/v1/gateways/{gateway}")).await.map(GatewayShown::state)
    }

    /// Publishes ops, all or none, and waits for the acks of every gateway that they go to. After [`ServerError::Unknown`] they may have
    /// been published.
    pub async fn changes(
        &self,
        to: Option<&GatewayId>,
        ops: &[Op],
        within: Duration,
    ) -> Result<Vec<Answered>, ServerError> {
        let ops = down::write_ops(ops).map_err(|error| self.client.unreadable(&error))?;
        let body = match to {
            Some(gateway) => format!(r#"{{"gateway":"{gateway}","ops":{ops}}}"#),
            None => format!(r#"{{"ops":{ops}}}"#),
        };
        self.make("/v1/changes", body.into(), within).await
    }

    /// Sends a change under the key until its answer is there, and until the gateways have acknowledged it or the time is over.
    async fn make(&self, path: &str, body: Bytes, within: Duration) -> Result<Vec<Answered>, ServerError> {
        let until = Instant::now() + within;
        let (mut again, mut may_be_done) = (0, false);
        loop {
            let wait = until.saturating_duration_since(Instant::now()).min(Duration::from_secs(WAIT_S_MAX));
            let ask = Ask {
                method: Method::POST,
                path: format!("{path}?wait_ms={}", wait.as_millis()),
                headers: vec![("idempotency-key", &self.key)],
                body: body.clone(),
                wait,
            };
            match self.client.done(ask).await {
                Ok((status, body)) => {
                    if status == StatusCode::OK || Instant::now() >= until {
                        return Ok(self.read::<Answer>(&body)?.answered());
                    }
                    // Acks are still to come: the same request under the same key waits for them.
                    may_be_done = true;
                }
                Err(error) => {
                    may_be_done |= error.is_unknown();
                    if again >= AGAIN_MAX || !(error.is_passing() || may_be_done) {
                        return Err(self.unknown_if(may_be_done, error));
                    }
                    again += 1;
                    sleep(Duration::from_millis(AGAIN_MS)).await;
                }
            }
        }
    }

    fn unknown_if(&self, may_be_done: bool, source: ServerError) -> ServerError {
        match may_be_done {
            true => ServerError::Unknown { source: Box::new(source), key: self.key.clone() },
            false => source,
        }
    }

    /// Gives a command; `None`: no reply within `within`. It is never sent twice.
    pub async fn command(
        &self,
        gateway: &GatewayId,
        kind: &CommandKind,
        actor: Option<&str>,
        within: Duration,
    ) -> Result<Option<Reply>, ServerError> {
        let wait = within.min(Duration::from_secs(WAIT_S_MAX));
        let body = down::write_command_kind(kind, gateway, actor).map_err(|error| self.client.unreadable(&error))?;
        let path = format!("/v1/commands?wait_ms={}", wait.as_millis());
        let ask = Ask { method: Method::POST, body: body.into(), wait, ..Ask::get(path) };
        let (status, body) = self.client.ask(ask).await?;
        match (status, serde_json::from_slice::<Reply>(&body)) {
            (StatusCode::OK | StatusCode::CONFLICT, Ok(reply)) => Ok(Some(reply)),
            (StatusCode::OK, Err(error)) => Err(self.client.unreadable(&error)),
            (status, _) => match self.client.status(status, &body) {
                ServerError::Status { code, .. } if code == "no_reply" => Ok(None),
                error => Err(error),
            },
        }
    }

    fn list_body(
        &self,
        gateway: Option<&GatewayId>,
        list: &Enrolments,
        (allow_shrink, dry_run): (bool, bool),
    ) -> Result<Bytes, ServerError> {
        let card = |(uid, one): (&CardUid, _)| serde_json::value::to_raw_value(&enrolment_body(*uid, one));
        let cards: Result<Vec<_>, _> = list.iter().map(card).collect();
        let sent = cards.map(|cards| ListSent { gateway, cards, allow_shrink, dry_run });
        let body = sent.and_then(|sent| serde_json::to_vec(&sent));
        body.map(Bytes::from).map_err(|error| self.client.unreadable(&error))
    }

    /// What a list would change.
    pub async fn plan(&self, to: Option<&GatewayId>, list: &Enrolments) -> Result<Plan, ServerError> {
        let body = self.list_body(to, list, (false, true))?;
        let PlanBody { plan } = self.post("/v1/list".to_owned(), body).await?;
        plan.plan().map_err(|why| self.client.unreadable(&why))
    }

    /// Publishes a list as a snapshot and waits for the acks.
    pub async fn load(
        &self,
        to: Option<&GatewayId>,
        list: &Enrolments,
        allow_shrink: bool,
        within: Duration,
    ) -> Result<Vec<Answered>, ServerError> {
        self.make("/v1/list", self.list_body(to, list, (allow_shrink, false))?, within).await
    }

    /// How many messages the broker does not have yet, of all clients: changes, parts of lists, and heads.
    pub async fn undelivered(&self) -> Result<usize, ServerError> {
        Ok(self.get::<Delivery>("/v1/delivery".to_owned()).await?.waiting)
    }

    /// What a gateway has when it has everything.
    pub async fn whole_list(&self, gateway: &GatewayId) -> Result<AccessList, ServerError> {
        let WholeList { entries } = self.get(format!("/v1/gateways/{gateway}/list")).await?;
        let entries = read_entries(entries.get()).map_err(|errors| {
            self.client.unreadable(&errors.into_iter().next().map_or_else(String::new, |error| error.message))
        })?;
        let mut list = AccessList::default();
        let at = Position { epoch: std::num::NonZeroU32::MAX, seq: u64::MAX };
        list.replay_snapshot(&digest::registers_of(AllowedOps::all()), (at, None), &[entries]);
        Ok(list)
    }

    /// How a gateway that reports `statuses` stands to each stream.
    pub async fn agreements(
        &self,
        gateway: &GatewayId,
        statuses: &[StreamStatus],
    ) -> Result<Vec<StreamAgreement>, ServerError> {
        let body = json!({ "streams": statuses }).to_string();
        let Compared { streams } = self.post(format!("/v1/gateways/{gateway}/compare"), body.into()).await?;
        Ok(streams)
    }

    /// The messages of a stream behind a number, each with the beginning of its content; `None`: too many.
    pub async fn messages_behind(
        &self,
        gateway: &GatewayId,
        stream: &StreamName,
        seq: u64,
    ) -> Result<Option<Vec<(Position, String)>>, ServerError> {
        let path = format!("/v1/gateways/{gateway}/behind?stream={stream}&seq={seq}");
        let Behind { messages } = self.get(path).await?;
        Ok(messages.map(|all| all.into_iter().map(|one| (one.at, one.content)).collect()))
    }

    /// What is kept of the gateways at which a card is dead: by what that is known, and its revocation.
    pub async fn proof(&self, uid: CardUid) -> Result<BTreeMap<GatewayId, (KnownBy, RevocationProof)>, ServerError> {
        let Proof { gateways, .. } = self.get(format!("/v1/cards/{uid}/proof")).await?;
        Ok(gateways.into_iter().filter_map(AtGateway::known).collect())
    }

    /// What happens, from now on.
    pub async fn events(&self) -> Result<EventStream, ServerError> {
        EventStream::open(Arc::clone(&self.client)).await
    }
}

impl AtGateway {
    fn known(self) -> Option<(GatewayId, (KnownBy, RevocationProof))> {
        let time = |value: Option<serde_json::Value>| serde_json::from_value::<Timestamp>(value?).ok();
        let in_force_at = time(self.dead_since)?;
        let portal = |BoxShown { portal, confirmed_at, how }: BoxShown| {
            let portal = serde_json::from_value(portal).ok()?;
            let how = how.and_then(|how| serde_json::from_value(how).ok());
            Some(PortalProof { portal, confirmed_at: time(confirmed_at), how })
        };
        let revocation = RevocationProof {
            n: 0,
            revision: StreamRevision { stream: self.stream, epoch: self.epoch, seq: self.seq },
            received_at: time(self.received_at).unwrap_or(in_force_at),
            in_force_at,
            durable_at: time(self.durable_at),
            portals: self.boxes.into_iter().filter_map(portal).collect(),
        };
        Some((self.gateway, (self.known_by?, revocation)))
    }
}

#[cfg(test)]
#[path = "remote_tests.rs"]
mod tests;
