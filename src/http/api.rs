//! Queries and commands of an operator, as JSON.

use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use prometheus_client::registry::Registry;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::{mpsc, oneshot};

use super::collect::Links;
use super::disk::DiskRoom;
use crate::access::decide::ListIntegrity;
use crate::access::id::{CardUid, PortalId, StreamName};
use crate::access::input::{Actor, CardSet, Operator};
use crate::access::portal::Posture;
use crate::browser::query;
use crate::gateway::ports::{Ask, Inbox, OperatorRefusal, Readiness, StateReport};
use crate::mqtt::BrokerFault;
use crate::store::Store;
use crate::wire::state;

/// What the pages need.
#[derive(Clone)]
pub struct Pages {
    /// The metrics.
    pub registry: Arc<Registry>,
    /// Whether the gateway is ready.
    pub readiness: Readiness,
    /// The inbox of the gateway task.
    pub inbox: Inbox,
    /// The MQTT links: whether they are connected, and the faults of their brokers.
    pub links: Links,
    /// The audit on disk.
    pub audit: Store,
    /// The room on the disk.
    pub disk: DiskRoom,
    /// Who reads the configuration again; nobody, where it is in no file.
    pub reload: mpsc::Sender<ReloadAsk>,
}

impl Pages {
    /// Why the gateway is not ready; nothing: it is.
    pub(super) fn not_ready(&self) -> Vec<String> {
        self.readiness.reasons().into_iter().chain(self.links.refused()).collect()
    }
}

/// Somebody asks that the configuration be read again.
#[derive(Debug)]
pub struct ReloadAsk(pub oneshot::Sender<Result<Reloaded, ReloadRefusal>>);

/// The file is in force.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Reloaded {
    /// Which.
    pub file: PathBuf,
    /// The keys that are different from before.
    pub changed: Vec<String>,
    /// Whether the audit has it in time.
    #[serde(skip)]
    pub on_disk: bool,
}

/// Nothing of the file is taken over.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReloadRefusal {
    /// It is wrong; a line for each diagnostic.
    #[error("{0}\nnothing of the file is in force, the gateway goes on as before; correct it and reload again")]
    Wrong(String),
    /// Some of it only a start takes over.
    #[error("{}: only a restart takes over {}; nothing of the file is in force: restart the gateway", file.display(), keys.join(", "))]
    NeedsRestart {
        /// Which file.
        file: PathBuf,
        /// The keys.
        keys: Vec<String>,
    },
    /// It cannot be taken over now.
    #[error("{0}")]
    NotNow(String),
}

pub(super) fn routes(pages: Pages) -> Router {
    Router::new()
        .route("/api/v1/status", bare(get(status)))
        .route("/api/v1/query", get(judge))
        .route("/api/v1/posture", post(posture))
        .route("/api/v1/fire/reset", post(fire_reset))
        .route("/api/v1/clock/trust", bare(post(trust_clock)))
        .route("/api/v1/forgive", post(forgive))
        .route("/api/v1/stream/forget", post(stream_forget))
        .route("/api/v1/reload", bare(post(reload)))
        .with_state(pages)
}

/// What the query of a request asks for; one that cannot be read is refused.
pub(super) struct Asked<T>(pub(super) T);

impl<T: DeserializeOwned, S: Sync> FromRequestParts<S> for Asked<T> {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Response> {
        query::read(&parts.uri).map(Self).map_err(|error| refuse(StatusCode::BAD_REQUEST, error))
    }
}

/// A path that takes no query.
pub(super) fn bare<S: Clone + Send + Sync + 'static>(handler: MethodRouter<S>) -> MethodRouter<S> {
    handler.layer(from_fn(no_query))
}

async fn no_query(request: Request, next: Next) -> Response {
    match query::none(request.uri()) {
        Ok(()) => next.run(request).await,
        Err(error) => refuse(StatusCode::BAD_REQUEST, error),
    }
}

#[derive(Deserialize)]
struct QueryFor {
    uid: String,
    portal: Option<String>,
}

#[derive(Deserialize)]
struct PostureFor {
    /// Comma-separated; `*` or nothing: all portals.
    portals: Option<String>,
    posture: String,
}

#[derive(Deserialize)]
struct FireReset {
    /// Ignore inputs whose portal is offline or no longer configured.
    #[serde(default)]
    force: bool,
}

#[derive(Deserialize)]
struct ForgiveFor {
    /// A card, or `*`.
    uid: String,
}

#[derive(Deserialize)]
struct StreamForget {
    stream: String,
}

async fn status(State(pages): State<Pages>) -> Response {
    match ask(&pages, |answer| Ask::Status { answer }).await {
        Ok(state) => body(&status_body(&state, &pages)),
        Err(refused) => refused,
    }
}

/// The body of `up/state`, with the names of the portals that are offline and why, the postures in force, the open alarms, the malformed reports, the links, the
/// faults of brokers, and the room on the disk.
pub(super) fn status_body(state: &StateReport, pages: &Pages) -> serde_json::Value {
    let mode =
        |(portal, posture): &(PortalId, Posture)| json!({ "portal": portal.as_str(), "posture": posture.as_str() });
    let malformed = |(portal, wrong): &(PortalId, String)| json!({ "portal": portal.as_str(), "wrong": wrong });
    let cause = |(portal, cause): &(PortalId, String)| json!({ "portal": portal.as_str(), "cause": cause });
    let mut status =
        state::encode(state, 0).and_then(|body| serde_json::from_slice(&body)).unwrap_or_else(|_| json!({}));
    if let Some(fields) = status.as_object_mut() {
        // The number of the connection means something to the center only.
        fields.remove("conn");
        let list = match state.status.integrity {
            ListIntegrity::Complete => "complete",
            ListIntegrity::Bootstrapping => "filling",
            ListIntegrity::Damaged => "damaged",
        };
        fields.insert("list".to_owned(), json!(list));
        let damaged = state.status.damaged.iter().map(|stream| stream.as_str()).collect::<Vec<_>>();
        fields.insert("damaged".to_owned(), json!(damaged));
        fields.insert("not_ready".to_owned(), json!(pages.not_ready()));
        let offline = state.status.offline.iter().map(|portal| portal.as_str()).collect::<Vec<_>>();
        fields.insert("offline".to_owned(), json!(offline));
        fields.insert("causes".to_owned(), state.status.causes.iter().map(cause).collect());
        let unreported = state.status.unreported.iter().map(|portal| portal.as_str()).collect::<Vec<_>>();
        fields.insert("unreported".to_owned(), json!(unreported));
        fields.insert("modes".to_owned(), state.status.modes.iter().map(mode).collect());
        fields.insert("alarms".to_owned(), json!(state.status.alarms));
        let on = state.status.on.iter().map(|portal| portal.as_str()).collect::<Vec<_>>();
        fields.insert("on".to_owned(), json!(on));
        fields.insert("malformed".to_owned(), state.status.malformed.iter().map(malformed).collect());
        let fault = |(link, fault, detail): (&str, BrokerFault, String)| json!({ "link": link, "fault": fault.as_str(), "detail": detail });
        fields.extend(pages.disk.free_bytes().map(|bytes| ("disk_free_bytes".to_owned(), json!(bytes))));
        let link = |(link, state): (&str, Result<u64, String>)| match state {
            Ok(for_s) => json!({ "link": link, "up": true, "for_s": for_s }),
            Err(why) => json!({ "link": link, "up": false, "why": why }),
        };
        fields.insert("links".to_owned(), pages.links.states().map(link).collect());
        fields.insert("broker_faults".to_owned(), pages.links.faults().map(fault).collect());
    }
    status
}

async fn judge(State(pages): State<Pages>, Asked(asked): Asked<QueryFor>) -> Response {
    let uid: CardUid = match asked.uid.parse() {
        Ok(uid) => uid,
        Err(error) => return refuse(StatusCode::BAD_REQUEST, format!("`uid`: `{}`: {error}", asked.uid)),
    };
    let portal = match asked.portal.map(|p| p.parse::<PortalId>()).transpose() {
        Ok(portal) => portal,
        Err(error) => return refuse(StatusCode::BAD_REQUEST, format!("`portal`: {error}")),
    };
    match ask(&pages, |answer| Ask::Query { uid, portal, answer }).await {
        Ok(Ok(result)) => {
            let result = super::dates::date(pages.audit.clone(), result).await;
            let mut answer = json!({ "uid": uid });
            if let (Some(answer), Ok(serde_json::Value::Object(result))) =
                (answer.as_object_mut(), serde_json::to_value(result))
            {
                answer.extend(result);
            }
            body(&answer)
        }
        Ok(Err(message)) => refuse(StatusCode::NOT_FOUND, message),
        Err(refused) => refused,
    }
}

async fn posture(State(pages): State<Pages>, Asked(asked): Asked<PostureFor>) -> Response {
    let Some(posture) = Posture::parse(&asked.posture) else {
        let all = Posture::ALL.iter().map(|known| known.as_str()).collect::<Vec<_>>().join(", ");
        return refuse(StatusCode::BAD_REQUEST, format!("`{}` is not a posture; use one of {all}", asked.posture));
    };
    let names = asked.portals.filter(|p| p != "*");
    let names: Vec<&str> = names.iter().flat_map(|names| names.split(',')).collect();
    // A script whose variable is empty does not mean the whole building.
    if names.contains(&"") {
        return refuse(StatusCode::BAD_REQUEST, "`portals`: a name is empty; `*` is for all portals");
    }
    match names.into_iter().map(str::parse).collect::<Result<Vec<PortalId>, _>>() {
        Err(error) => refuse(StatusCode::BAD_REQUEST, format!("`portals`: {error}")),
        Ok(portals) => operate(&pages, Operator::Posture { portals, posture }, None).await,
    }
}

async fn fire_reset(State(pages): State<Pages>, Asked(asked): Asked<FireReset>) -> Response {
    operate(&pages, Operator::FireReset { force: asked.force }, None).await
}

async fn stream_forget(State(pages): State<Pages>, Asked(asked): Asked<StreamForget>) -> Response {
    match asked.stream.parse::<StreamName>() {
        Ok(stream) => operate(&pages, Operator::StreamForget { stream }, None).await,
        Err(error) => refuse(StatusCode::BAD_REQUEST, format!("`stream`: {error}")),
    }
}

async fn forgive(State(pages): State<Pages>, Asked(asked): Asked<ForgiveFor>) -> Response {
    match asked.uid.parse::<CardSet>() {
        Ok(cards) => operate(&pages, Operator::Forgive { cards }, None).await,
        Err(error) => refuse(StatusCode::BAD_REQUEST, format!("`uid`: `{}`: {error}", asked.uid)),
    }
}

async fn trust_clock(State(pages): State<Pages>) -> Response {
    match ask(&pages, |answer| Ask::TrustClock { answer }).await {
        Ok(Ok(at)) => body(&json!({ "at": at })),
        Ok(Err(why)) => refuse(StatusCode::CONFLICT, why),
        Err(refused) => refused,
    }
}

async fn reload(State(pages): State<Pages>) -> Response {
    let (answer, answered) = oneshot::channel();
    if pages.reload.send(ReloadAsk(answer)).await.is_err() {
        return refuse(StatusCode::CONFLICT, "this gateway has no configuration file, or it is stopping");
    }
    match answered.await {
        Ok(Ok(reloaded)) if reloaded.on_disk => body(&json!(reloaded)),
        Ok(Ok(Reloaded { file, changed, .. })) => {
            let (file, changed) = (file.display(), changed.join(", "));
            let why = format!(
                "{file} is in force but not on disk, so the audit may lose it: {changed}; look at the disk of the gateway"
            );
            refuse(StatusCode::INSUFFICIENT_STORAGE, why)
        }
        Ok(Err(why @ ReloadRefusal::Wrong(_))) => refuse(StatusCode::UNPROCESSABLE_ENTITY, why),
        Ok(Err(why)) => refuse(StatusCode::CONFLICT, why),
        Err(_) => refuse(StatusCode::SERVICE_UNAVAILABLE, "the gateway is stopping"),
    }
}

/// Gives the gateway a command; `actor`: who gives it, where a person or a program has a name.
pub(super) async fn operate(pages: &Pages, command: Operator, actor: Option<Actor>) -> Response {
    match ask(pages, |answer| Ask::Operator { command, actor, answer }).await {
        Ok(Ok(())) => body(&json!({ "done": true })),
        Ok(Err(why @ OperatorRefusal::Unknown(_))) => refuse(StatusCode::NOT_FOUND, why),
        Ok(Err(why @ OperatorRefusal::NotNow(_))) => refuse(StatusCode::CONFLICT, why),
        Ok(Err(why @ OperatorRefusal::NotOnDisk)) => refuse(StatusCode::INSUFFICIENT_STORAGE, why),
        Err(refused) => refused,
    }
}

pub(super) async fn ask<T>(pages: &Pages, question: impl FnOnce(oneshot::Sender<T>) -> Ask) -> Result<T, Response> {
    let gone = |_| refuse(StatusCode::SERVICE_UNAVAILABLE, "the gateway is stopping");
    let (answer, answered) = oneshot::channel();
    if let Err(error) = pages.inbox.ask(question(answer)).await {
        return Err(refuse(StatusCode::SERVICE_UNAVAILABLE, error.to_string()));
    }
    answered.await.map_err(gone)
}

pub(super) fn body(value: &serde_json::Value) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], format!("{value}\n")).into_response()
}

pub(super) fn refuse(status: StatusCode, message: impl std::fmt::Display) -> Response {
    let mut response = body(&json!({ "error": message.to_string() }));
    *response.status_mut() = status;
    response
}
