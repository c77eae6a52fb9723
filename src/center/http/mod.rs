//! The API of a center: JSON over HTTP, for the software of the offices.
//!
//! Every route is in [`routes`], and `deploy/center-openapi.json` describes each. There is no TLS here: the API listens on loopback,
//! and a reverse proxy of the office's web server stands in front of it where others must reach it. [`Remote`] is the other end: a
//! center that is asked over this API.

mod auth;
mod bodies;
mod changes;
mod client;
mod comparison;
mod console;
#[cfg(test)]
mod described_tests;
mod events;
mod failure;
mod fields;
mod find;
mod list;
mod look_up;
mod metrics;
mod proof;
mod queried;
mod remote;
mod search;
mod sse;
#[cfg(test)]
mod tests;
mod traces;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{Method, StatusCode, header};
use axum::middleware::{from_fn, map_response};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use jiff::tz::TimeZone;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::database::{Database, Reader};
use super::{CenterError, Service};
use crate::access::id::GatewayId;
use crate::browser::guarded;
use crate::clock::Clock;
use crate::config::ClientSpec;
use crate::wire::envelope::StreamSpec;
pub use bodies::KnownBy;
pub use client::{ServerError, ServerUrl};
pub use remote::Remote;
pub use sse::{EventStream, Seen};

use auth::Doorkeeper;
use events::EventLog;
use failure::Failure;
use metrics::Metrics;
use queried::no_query;

/// Longest body of a request, in bytes: four messages of the longest kind.
const BODY_BYTES_MAX: usize = 1024 * 1024;
/// Longest body of `POST /v1/list`, in bytes: that of the longest sheet.
const LIST_BYTES_MAX: usize = super::sheet::BYTES_MAX;
/// Whole lists that are taken or given at once; beyond, they are answered 503. Each takes some hundred MiB of memory at most.
const LISTS_AT_ONCE_MAX: usize = 2;
/// Requests that wait for gateways or read the database at once; beyond, they are answered 503.
const REQUESTS_AT_ONCE_MAX: usize = 256;
/// The API's description.
const OPENAPI: &str = include_str!("../../../deploy/center-openapi.json");

/// What every request is answered with.
pub struct Api {
    service: Service<Database>,
    reader: Arc<Reader>,
    doorkeeper: Doorkeeper,
    events: Arc<EventLog>,
    metrics: Metrics,
    room: Semaphore,
    lists: Semaphore,
    streams: Vec<StreamSpec>,
    /// Where dates without an offset are meant in a sheet.
    timezone: TimeZone,
}

type Shared = Arc<Api>;

impl Api {
    /// The API of a running center with these streams, by its clock and in its time zone. Call within a tokio runtime.
    #[must_use]
    pub fn new(
        service: Service<Database>,
        streams: Vec<StreamSpec>,
        reader: Reader,
        clients: &[ClientSpec],
        (clock, timezone): (&Clock, TimeZone),
    ) -> Self {
        let metrics = Metrics::default();
        let events = EventLog::start(service.reports_since_start(), metrics.clone(), clock);
        Self {
            doorkeeper: Doorkeeper::new(clients, metrics.clone()),
            reader: Arc::new(reader),
            events,
            metrics,
            room: Semaphore::new(REQUESTS_AT_ONCE_MAX),
            lists: Semaphore::new(LISTS_AT_ONCE_MAX),
            streams,
            timezone,
            service,
        }
    }

    /// From now on these gateways are published to, and no others. After an error nothing is different.
    pub async fn replace_gateways(&self, gateways: Vec<GatewayId>) -> Result<(), CenterError> {
        self.service.replace_gateways(gateways).await
    }

    /// From now on these clients are served, and no others. A request under way is answered as it was judged; a client that receives
    /// events goes on with what it may now, or its connection ends.
    pub fn replace_clients(&self, clients: &[ClientSpec]) {
        self.doorkeeper.replace(clients);
    }

    /// Waits until a task of the center has ended without being ordered to: what is left only looks alive.
    pub async fn ended(&self) {
        tokio::select! {
            () = self.service.ended() => {}
            () = self.events.ended() => {}
        }
    }

    /// Delivers what is under way and ends the center. `false`: not all of it was delivered within `within`; the next start publishes
    /// the rest.
    pub async fn close(&self, within: Duration) -> bool {
        self.service.end(within).await
    }

    /// Searches the database, if there is room for one more request.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Reader) -> Result<T, CenterError> + Send + 'static,
    ) -> Result<T, Failure> {
        let _room = self.room.try_acquire().map_err(|_| Failure::busy())?;
        self.read_within(read).await
    }

    /// Searches the database for a request that has its room already.
    async fn read_within<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Reader) -> Result<T, CenterError> + Send + 'static,
    ) -> Result<T, Failure> {
        let reader = Arc::clone(&self.reader);
        Ok(blocking(move || read(&reader)).await??)
    }
}

/// Does what takes a while on another thread.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work).await.map_err(|_| Failure::from(CenterError::Stopped))
}

/// One route. `method` is spelled as OpenAPI does.
pub(super) struct Route {
    #[cfg_attr(not(test), expect(dead_code, reason = "compared with the description"))]
    pub(super) method: &'static str,
    pub(super) path: &'static str,
    handler: MethodRouter<Shared>,
}

/// All routes.
pub(super) fn routes() -> Vec<Route> {
    let gets = |path, handler| Route { method: "get", path, handler };
    let posts = |path, handler| Route { method: "post", path, handler };
    let bare = |handler: MethodRouter<Shared>| handler.layer(from_fn(no_query));
    vec![
        posts("/v1/changes", post(changes::changes)),
        gets("/v1/changes", get(search::changes)),
        posts("/v1/commands", post(changes::commands)),
        posts("/v1/list", post(list::load).layer(DefaultBodyLimit::max(LIST_BYTES_MAX))),
        posts("/v1/sheet", post(list::sheet).layer(DefaultBodyLimit::max(LIST_BYTES_MAX))),
        gets("/v1/search", get(find::find)),
        gets("/v1/gateways", bare(get(look_up::gateways))),
        gets("/v1/gateways/{gateway}", bare(get(look_up::gateway))),
        gets("/v1/gateways/{gateway}/list", bare(get(list::whole))),
        posts("/v1/gateways/{gateway}/compare", bare(post(comparison::compare))),
        gets("/v1/gateways/{gateway}/behind", get(comparison::behind)),
        gets("/v1/delivery", bare(get(look_up::delivery))),
        gets("/v1/holders/{holder}", bare(get(look_up::holder))),
        gets("/v1/cards/{uid}", bare(get(look_up::card))),
        gets("/v1/cards/{uid}/proof", bare(get(proof::proof))),
        gets("/v1/acks", get(search::acks)),
        gets("/v1/alarms", get(search::alarms)),
        gets("/v1/audit", get(search::audit)),
        gets("/v1/events", bare(get(events::events))),
        gets("/v1/openapi.json", bare(get(|| async { ([(header::CONTENT_TYPE, "application/json")], OPENAPI) }))),
        gets("/healthz", get(|| async { "ok\n" })),
        gets("/readyz", get(readyz)),
        gets("/metrics", get(metrics::page)),
    ]
}

/// Serves the API until `stop` is done. The error is what the operating system reports of the listener.
pub async fn serve(
    listener: TcpListener,
    api: Arc<Api>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let router = routes().into_iter().fold(Router::new(), |router, route| router.route(route.path, route.handler));
    let nowhere = || async { Failure::new(StatusCode::NOT_FOUND, "not_found", "no such path; see /v1/openapi.json") };
    let router = router.merge(console::routes()).fallback(nowhere).method_not_allowed_fallback(no_method);
    let router = router.layer(DefaultBodyLimit::max(BODY_BYTES_MAX));
    let router = router.layer(map_response(guarded)).with_state(api);
    let app = router.into_make_service_with_connect_info::<SocketAddr>();
    axum::serve(listener, app).with_graceful_shutdown(stop).await
}

async fn readyz(State(api): State<Shared>) -> Response {
    // What was known of the link stays as it was when the task failed.
    let why = match (api.service.is_running(), api.service.is_up()) {
        (true, true) => return "ready\n".into_response(),
        (true, false) => "the broker is not connected",
        (false, _) => "the center has stopped",
    };
    (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n")).into_response()
}

async fn no_method(method: Method) -> Failure {
    let what = format!("this path has no method {method}; see /v1/openapi.json");
    Failure::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", what)
}

/// A JSON answer.
fn json<T: Serialize>(status: StatusCode, value: &T) -> Response {
    match serde_json::to_string(value) {
        Ok(text) => (status, [(header::CONTENT_TYPE, "application/json")], text + "\n").into_response(),
        Err(error) => {
            Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", error.to_string()).into_response()
        }
    }
}
