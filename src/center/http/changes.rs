//! `POST /v1/changes` and `POST /v1/commands`: what a client orders.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::super::database::{Database, Search, Table};
use super::super::sheet::Enrolments;
use super::super::{Answered, Center, CenterError, SignedMessage};
use super::auth::Client;
use super::bodies::{Answer, Made};
use super::failure::Failure;
use super::queried::Queried;
use super::{Api, BODY_BYTES_MAX, Shared, fields, json};
use crate::access::change::{Op, Position};
use crate::access::effect::Ack;
use crate::access::event::ReplyStatus;
use crate::access::id::{GatewayId, Timestamp};
use crate::access::operator::Actor;
use crate::wire::allowed::OpName;
use crate::wire::claims::Members;
use crate::wire::down;
use crate::wire::topic::CAMPUS;
use crate::wire::up;

/// Longest wait for the gateways' answers that may be asked for, in milliseconds.
const WAIT_MS_MAX: u64 = 60_000;
/// The wait for the reply to a command when the client names none, in milliseconds.
const COMMAND_WAIT_MS: u64 = 5_000;
/// Longest `Idempotency-Key` in bytes.
const KEY_BYTES_MAX: usize = 128;
/// Time between two looks for the acks of a request that is repeated, in milliseconds.
const LOOK_EVERY_MS: u64 = 250;
/// Most acks of one message that are looked at: some for each gateway of the largest campus.
const ACKS_OF_ONE_MAX: usize = 100_000;
/// The actor of commands whose body names none.
const ACTOR: &str = "api";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wait {
    pub(super) wait_ms: Option<u64>,
}

impl Wait {
    pub(super) fn within(wait: Result<Queried<Self>, Failure>, default_ms: u64) -> Result<Duration, Failure> {
        let Queried(wait) = wait?;
        wait.time(default_ms)
    }

    pub(super) fn time(&self, default_ms: u64) -> Result<Duration, Failure> {
        let ms = self.wait_ms.unwrap_or(default_ms);
        if ms > WAIT_MS_MAX {
            return Err(Failure::field("wait_ms", format!("`wait_ms` is at most {WAIT_MS_MAX}")));
        }
        Ok(Duration::from_millis(ms))
    }
}

/// The members of a body, of which each must be in `known`.
pub(super) fn members(body: Result<Bytes, BytesRejection>, known: &[&str]) -> Result<(Members, Bytes), Failure> {
    let body = body.map_err(|error| {
        let what = format!("{}; a body has at most {BODY_BYTES_MAX} bytes, send several", error.body_text());
        Failure::new(error.status(), "too_large", what)
    })?;
    Ok((members_of(&body, known)?, body))
}

/// The members of a JSON object, of which each must be in `known`.
pub(super) fn members_of(body: &[u8], known: &[&str]) -> Result<Members, Failure> {
    let malformed = |what: String| Failure::new(StatusCode::BAD_REQUEST, "invalid_field", what);
    let members = Members::parse(body).map_err(|why| malformed(format!("the body: {why}")))?;
    if let Some(other) = members.keys().find(|key| !known.contains(key)) {
        let what = format!("`{other}` is not a field of this request; its fields are {}", known.join(", "));
        return Err(Failure::field(other, what));
    }
    Ok(members)
}

fn text(members: &Members, key: &str) -> Result<Option<String>, Failure> {
    let Some(raw) = members.get(key) else { return Ok(None) };
    serde_json::from_str(raw).map(Some).map_err(|_| Failure::field(key, format!("`{key}` has to be a string")))
}

pub(super) fn gateway(api: &Api, client: &Client, members: &Members) -> Result<Option<GatewayId>, Failure> {
    let Some(name) = text(members, "gateway")? else { return Ok(None) };
    let gateway = api.known(&name)?;
    client.needs(&gateway)?;
    Ok(Some(gateway))
}

impl Api {
    /// The configured gateway of this name.
    pub(super) fn known(&self, name: &str) -> Result<GatewayId, Failure> {
        self.service.gateways().iter().find(|gateway| gateway.as_str() == name).cloned().ok_or_else(|| {
            let message = format!("this center has no gateway `{name}`; add a `[[gateway]]`, or correct the name");
            Failure::new(StatusCode::NOT_FOUND, "unknown_gateway", message)
        })
    }
}

pub(super) async fn changes(
    State(api): State<Shared>,
    client: Client,
    wait: Result<Queried<Wait>, Failure>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Failure> {
    let _room = api.room.try_acquire().map_err(|_| Failure::busy())?;
    let within = Wait::within(wait, 0)?;
    let (members, body) = members(body, &["gateway", "ops"])?;
    let to = gateway(&api, &client, &members)?;
    let ops = members.get("ops").ok_or_else(|| Failure::field("ops", "`ops` is missing; give a list of ops"))?;
    let read = down::read_ops(ops).map_err(|errors| Failure::ops(&errors))?;
    fields::of_ops(ops)?;
    let ops = read;
    if ops.is_empty() {
        return Err(Failure::field("ops", "`ops` is empty; give a list of ops"));
    }
    client.orders_all(&ops, |name| api.streams.iter().find(|stream| stream.allowed.contains(name)))?;
    let request = Request::new(&client, &headers, (to, What::Ops(ops)), &[&body])?;
    request.carry_out(&api, &client, within).await
}

impl Api {
    /// The acks of messages that were published before, as far as they are kept or arrive within `within`.
    async fn kept_acks(&self, made: &[Made], within: Duration) -> Result<Vec<Answered>, Failure> {
        let until = Instant::now() + within;
        let mut all: Vec<Answered> = Vec::new();
        for one in made {
            let gateways = if one.to == CAMPUS { self.service.gateways().to_vec() } else { vec![self.known(&one.to)?] };
            let at = Position { epoch: one.epoch, seq: one.seq };
            let stream = &one.stream;
            all.extend(gateways.into_iter().map(|gateway| Answered::waiting(gateway, stream.clone(), at)));
        }
        loop {
            let wanted = made.to_vec();
            let rows = self.read_within(move |reader| {
                let found: Result<Vec<_>, _> = wanted.iter().map(|one| reader.search(&search_of(one))).collect();
                found.map(|found| found.concat())
            });
            for row in rows.await? {
                let Ok(ack) = up::decode::<Ack>(row.body.as_bytes()) else { continue };
                let is_for = |one: &&mut Answered| {
                    let number = ack.stream.as_ref() == Some(&one.stream) && ack.at == Some(one.at);
                    one.ack.is_none() && one.gateway.as_str() == row.gateway && number
                };
                if let Some(one) = all.iter_mut().find(is_for) {
                    one.ack = Some((ack, Duration::ZERO));
                }
            }
            all = self.service.judged(all).await?;
            if Instant::now() >= until || all.iter().all(|one| one.ack.is_some() && !one.is_ignored) {
                return Ok(all);
            }
            tokio::time::sleep(Duration::from_millis(LOOK_EVERY_MS)).await;
        }
    }
}

fn search_of(one: &Made) -> Search {
    let is = vec![("stream", one.stream.to_string()), ("epoch", one.epoch.to_string()), ("seq", one.seq.to_string())];
    Search {
        table: Table::Ack,
        is,
        gateways: None,
        from: None,
        to: None,
        is_newest_first: false,
        after: None,
        most: ACKS_OF_ONE_MAX,
    }
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Failure> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    let key = value.to_str().ok().filter(|key| !key.is_empty() && key.len() <= KEY_BYTES_MAX);
    key.map(|key| Some(key.to_owned())).ok_or_else(|| {
        Failure::field(
            "Idempotency-Key",
            format!("`Idempotency-Key` has 1 to {KEY_BYTES_MAX} printable ASCII characters"),
        )
    })
}

/// What is to be published.
pub(super) enum What {
    /// Ops.
    Ops(Vec<Op>),
    /// A whole list of enrolments; `true`: it may shrink.
    List(Enrolments, bool),
}

/// A request to change something, as the center's task carries it out.
pub(super) struct Request {
    to: Option<GatewayId>,
    what: What,
    /// Who orders it.
    by: String,
    /// The client and its key.
    key: Option<(String, String)>,
    hash: Vec<u8>,
}

impl Request {
    /// `asked`: everything that must be the same when the request is repeated under its key.
    pub(super) fn new(
        client: &Client,
        headers: &HeaderMap,
        (to, what): (Option<GatewayId>, What),
        asked: &[&[u8]],
    ) -> Result<Self, Failure> {
        let key = idempotency_key(headers)?.map(|key| (client.spec.name.clone(), key));
        let hash = asked.iter().fold(Sha256::new(), |hash, part| hash.chain_update(part)).finalize().to_vec();
        Ok(Self { to, what, by: client.who(), key, hash })
    }

    /// Publishes it and waits at most `within` for the gateways' acks.
    pub(super) async fn carry_out(self, api: &Api, client: &Client, within: Duration) -> Result<Response, Failure> {
        let reports = api.service.reports();
        let (made_send, made) = oneshot::channel();
        let staged = api.service.stage(Box::new(move |center, now| {
            let (messages, answer) = self.stage(center, now)?;
            // Whoever asked may be gone; the changes are made all the same.
            drop(made_send.send(answer));
            Ok(messages)
        }));
        let messages = staged.await?;
        let made = made.await.map_err(|_| Failure::from(CenterError::Stopped))?;
        api.metrics.messages.inc_by(u64::try_from(messages.len()).unwrap_or(0));
        let answered = if messages.is_empty() {
            api.kept_acks(&made, within).await?
        } else {
            api.service.answers(reports, &messages, within).await?
        };
        let is_own = |one: &Answered| client.has(&one.gateway);
        let answer = Answer::new(made, answered.into_iter().filter(is_own));
        let status = if answer.waiting.is_empty() { StatusCode::OK } else { StatusCode::ACCEPTED };
        Ok(json(status, &answer))
    }

    /// Stages the messages and the answer in one transaction. No messages: the request was made before, or changes nothing.
    fn stage(
        &self,
        center: &mut Center<Database>,
        now: Timestamp,
    ) -> Result<(Vec<SignedMessage>, Vec<Made>), CenterError> {
        let key = self.key.as_ref().map(|(client, key)| (client.as_str(), key.as_str()));
        if let Some((client, key)) = key
            && let Some((hash, answer)) = center.storage().answer_under(client, key)?
        {
            let made = serde_json::from_str(&answer).ok().filter(|_| hash == self.hash);
            return Ok((Vec::new(), made.ok_or(CenterError::Conflict)?));
        }
        let to = self.to.as_ref();
        let messages = match &self.what {
            What::Ops(ops) => {
                center.check_meant(to, ops, now)?;
                center.stage_ops(to, ops, now)?
            }
            What::List(list, allow_shrink) => center.stage_list(to, list, *allow_shrink, now)?.messages,
        };
        let journals: Vec<_> = messages.iter().filter_map(|message| center.journal_of(message)).collect();
        center.storage().ordered(&journals, &self.by)?;
        let mut made: Vec<Made> = messages.iter().filter_map(made).collect();
        // The parts of a list are one message.
        made.dedup();
        if let Some(key) = key {
            let answer = serde_json::to_string(&made)?;
            center.storage().keep_answer(key, &self.hash, &answer, now)?;
        }
        Ok((messages, made))
    }
}

fn made(message: &SignedMessage) -> Option<Made> {
    let (journal, at) = message.journal()?;
    Some(Made { to: journal.audience.aud().to_owned(), stream: journal.stream, epoch: at.epoch, seq: at.seq })
}

pub(super) async fn commands(
    State(api): State<Shared>,
    client: Client,
    wait: Result<Queried<Wait>, Failure>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Failure> {
    let _room = api.room.try_acquire().map_err(|_| Failure::busy())?;
    let within = Wait::within(wait, COMMAND_WAIT_MS)?;
    client.orders(OpName::Command)?;
    let (members, _) = members(body, &["gateway", "command", "portal", "on", "uid", "stream", "actor"])?;
    let to = gateway(&api, &client, &members)?.ok_or_else(|| Failure::field("gateway", "`gateway` is missing"))?;
    let kind = members.to_json().map_err(|error| error.to_string());
    let kind = kind.map_err(|why| Failure::field("command", why))?;
    let kind = down::read_command_kind(&kind).map_err(|error| Failure::ops(&[error]))?;
    let named = text(&members, "actor")?.map(|name| name.parse::<Actor>()).transpose();
    let named = named.map_err(|why| Failure::field("actor", format!("`actor`: {why}")))?;
    // A person is who logged in. The audit of the gateway then names who is responsible.
    let person = client.person.as_ref().map(|(who, _)| who.clone());
    let actor = person.or(named);
    let actor = format!("{}:{}", client.spec.name, actor.as_ref().map_or(ACTOR, Actor::as_str));
    match api.service.command(&to, kind, Some(&actor), within).await? {
        Some(reply) => {
            let status = if reply.status == ReplyStatus::Ok { StatusCode::OK } else { StatusCode::CONFLICT };
            Ok(json(status, &reply))
        }
        None => {
            let message = format!(
                "no reply from `{to}` in {} ms: the gateway or the broker is not there; a command is never sent late",
                within.as_millis()
            );
            Err(Failure::new(StatusCode::GATEWAY_TIMEOUT, "no_reply", message))
        }
    }
}
