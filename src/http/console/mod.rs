//! The console on `[http] listen`: pages for wardens, plain modules inside the binary, and the API that they use.
//!
//! Everything here reads from the journal on disk and asks the gateway's task at most once a second for all who look; an order goes
//! the way of every operator's order. Who may do what is in `guard`.

mod assets;
mod board;
mod card;
mod charts;
mod guard;
mod history;
mod listener;
mod live;
mod mask;
mod orders;

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, Uri, header};
use axum::middleware::{from_fn_with_state, map_response};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::{Semaphore, watch};

pub use crate::browser::sessions::{SESSION_S, SESSIONS_MAX};
pub use board::{ALARMS_MAX, SEED_EVENTS_MAX};
pub use charts::{SAMPLE_EVERY_S, SAMPLES_MAX, SERIES_MAX};
pub use guard::{LOOKUPS_A_MINUTE_MAX, LOOKUPS_IN_SUM_A_MINUTE_MAX, WRONG_A_MINUTE_MAX, WRONG_IN_SUM_A_MINUTE_MAX};
pub use history::{FOUND_MAX, SEARCHED_MAX};
pub use listener::CONNECTIONS_MAX;
pub use live::{RESUME_EVENTS_MAX, STREAMS_MAX};

pub(super) use listener::Bounded;

use super::Pages;
use super::api::{bare, body, refuse};
use crate::access::id::GatewayId;
use crate::access::portal::Portal;
use crate::browser::words::words;
use crate::browser::{guarded, query};
use crate::clock::Clock;
use crate::config::Secret;
use charts::Charts;
use guard::{Caller, Guard};
use live::Live;

/// Longest body of a request, in bytes.
const BODY_BYTES_MAX: usize = 4 * 1024;
/// Pages of the audit that are read from the disk at once; more wait.
const READS_AT_ONCE_MAX: usize = 2;

/// What the console shows of the site, and who may change something.
#[derive(Clone)]
pub struct Setup {
    /// Which gateway.
    pub gateway: GatewayId,
    /// Its portals.
    pub portals: Vec<Portal>,
    /// What is presented at the login, now and after a reload; `None`: nobody can log in, and nothing is changed from here.
    pub token: watch::Receiver<Option<Secret>>,
    /// The gateway's clock.
    pub clock: Clock,
    /// The IANA name of the gateway's time zone, now and after a reload.
    pub timezone: watch::Receiver<String>,
}

/// See the module's head.
pub(super) struct Console {
    pages: Pages,
    gateway: GatewayId,
    portals: Vec<Portal>,
    clock: Clock,
    timezone: watch::Receiver<String>,
    guard: Guard,
    live: Live,
    charts: Charts,
    turns: Semaphore,
    stopping: watch::Receiver<bool>,
}

type Shared = Arc<Console>;

impl Console {
    /// The console of a listener on loopback, or on another address.
    pub(super) fn new(pages: Pages, setup: Setup, is_loopback: bool, stopping: watch::Receiver<bool>) -> Shared {
        let Setup { gateway, portals, token, clock, timezone } = setup;
        let live = Live::new(pages.audit.last_durable());
        let (guard, turns) = (Guard::new(token, is_loopback), Semaphore::new(READS_AT_ONCE_MAX));
        let charts = Charts::default();
        Arc::new(Self { pages, gateway, portals, clock, timezone, guard, live, charts, turns, stopping })
    }
}

/// Follows the journal, the state and the metrics for those who look.
pub(super) async fn run(console: Shared) {
    let (one, two) = (Arc::clone(&console), Arc::clone(&console));
    tokio::join!(live::follow(one), live::watch_status(two), charts::sample(console));
}

/// The pages and their API.
pub(super) fn routes(console: Shared) -> Router {
    let admitted = Router::new()
        .route("/api/v1/now", bare(get(now)))
        .route("/api/v1/live", get(live::live))
        .route("/api/v1/card", get(card::card))
        .route("/api/v1/charts", bare(get(charts::charts)))
        .route("/api/v1/audit", get(history::search))
        .route("/api/v1/audit/export", get(history::export))
        .route("/api/v1/audit/event", get(history::event))
        .route("/api/v1/orders", post(orders::order))
        .layer(from_fn_with_state(Arc::clone(&console), guard::admit));
    let session = get(orders::session).post(orders::log_in).delete(orders::log_out);
    Router::new()
        .route("/api/v1/session", session)
        .route("/api/v1/words", bare(get(|| async { body(&words()) })))
        .merge(admitted)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(console)
        .merge(assets::routes())
        .layer(map_response(guarded))
}

/// What the query of a request asks for; the error is for [`wrong`].
fn asked<T: DeserializeOwned>(uri: &Uri) -> Result<T, String> {
    query::read(uri).map_err(|error| error.to_string())
}

/// The same where other keys are read elsewhere.
fn asked_in_part<T: DeserializeOwned>(uri: &Uri) -> Result<T, String> {
    query::part(uri).map_err(|error| error.to_string())
}

/// What somebody gets whose request cannot be read.
fn wrong(why: impl std::fmt::Display) -> Response {
    refuse(StatusCode::BAD_REQUEST, why)
}

/// What the page *Now* begins with. `n` is the last event that is in it: `/api/v1/live?after=n` goes on from there.
async fn now(State(console): State<Shared>, Extension(caller): Extension<Caller>) -> Response {
    let whole = caller.sees_uids();
    let status = match live::status(&console).await {
        Ok(status) => status.to_string(),
        Err(refused) => return refused,
    };
    let status = if whole { status.into_bytes() } else { mask::masked(status.as_bytes()) };
    let (n, portals, lists) = {
        let board = console.live.board();
        let tile = |portal: &Portal| {
            let last = board.last_at(&portal.id, whole);
            let last: Value = last.and_then(|json| serde_json::from_slice(json).ok()).unwrap_or_default();
            let direction = portal.direction.map(|direction| direction.as_str());
            json!({ "id": portal.id, "kind": portal.kind, "zone": portal.zone, "direction": direction, "last": last })
        };
        (board.n, console.portals.iter().map(tile).collect::<Value>(), board.lists(whole))
    };
    let [alarms, decisions] = lists;
    let (gateway, at) = (&console.gateway, console.clock.now().wall);
    let body = format!(
        r#"{{"n":{n},"gateway":"{gateway}","at":"{at}","portals":{portals},"alarms":{alarms},"decisions":{decisions},"status":{}}}"#,
        String::from_utf8_lossy(&status)
    );
    ([(header::CONTENT_TYPE, "application/json")], body + "\n").into_response()
}
