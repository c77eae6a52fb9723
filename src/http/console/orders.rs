//! What is changed from the console: the login and the logout, and `POST /api/v1/orders`. Each order is in the audit with who gave it.

use axum::Extension;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::card;
use super::guard::{self, COOKIE, Caller, refusal};
use super::{BODY_BYTES_MAX, Shared, wrong};
use crate::access::id::PortalId;
use crate::access::input::{Actor, CardSet, Operator};
use crate::access::portal::Posture;
use crate::browser::origin::{is_https, same_origin};
use crate::browser::sessions::{SESSION_S, named, with_cookie};
use crate::http::api::{body, operate, refuse};
use crate::wire::wanted::sentence;

/// Who is in the audit where a program with the token does not name anybody.
const UNNAMED: &str = "a program with the token";

/// What is ordered.
#[derive(Debug, Deserialize)]
#[serde(tag = "order", rename_all = "snake_case", deny_unknown_fields)]
enum Order {
    Release {
        portal: PortalId,
    },
    Power {
        portal: PortalId,
        on: bool,
    },
    Posture {
        /// Nothing: every portal.
        portals: Option<Vec<PortalId>>,
        posture: Posture,
    },
    FireReset {
        #[serde(default)]
        force: bool,
    },
    Forgive {
        /// As a person has it, or `*`.
        uid: String,
    },
    Acknowledge {
        from: u64,
        to: u64,
    },
}

impl Order {
    /// The order with the card that a person means.
    async fn resolve(self, console: &Shared) -> Result<Operator, Response> {
        Ok(match self {
            Self::Release { portal } => Operator::Release { portal },
            Self::Power { portal, on } => Operator::Power { portal, on },
            Self::Posture { portals, posture } => Operator::Posture { portals: portals.unwrap_or_default(), posture },
            Self::FireReset { force } => Operator::FireReset { force },
            Self::Forgive { uid } if uid.trim() == "*" => Operator::Forgive { cards: CardSet::All },
            Self::Forgive { uid } => Operator::Forgive { cards: CardSet::One(card::named(console, &uid).await?) },
            Self::Acknowledge { from, to } => Operator::Acknowledge { from, to },
        })
    }
}

fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    // serde would take a list for the fields in their order.
    if bytes.trim_ascii_start().starts_with(b"[") {
        return Err("the body: an object in braces is wanted, got a list".to_owned());
    }
    serde_json::from_slice(bytes).map_err(|error| {
        let remedy = if error.is_data() { "" } else { "; send a JSON object, see deploy/console.md" };
        format!("the body: {}{remedy}", sentence(&error.to_string()))
    })
}

pub(super) async fn order(
    State(console): State<Shared>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    bytes: Result<Bytes, BytesRejection>,
) -> Response {
    let bytes = match bytes {
        Ok(bytes) => bytes,
        Err(rejected) => {
            return refuse(rejected.status(), format!("the body: at most {BODY_BYTES_MAX} bytes are read"));
        }
    };
    let order: Order = match read(&bytes) {
        Ok(order) => order,
        Err(why) => return wrong(why),
    };
    // An empty list is what a program sends that found no portal, and everybody's door is not what it meant.
    if matches!(&order, Order::Posture { portals: Some(portals), .. } if portals.is_empty()) {
        return wrong("`portals` names none; leave it out for every portal");
    }
    if let Order::Acknowledge { from, to } = &order
        && from > to
    {
        return wrong(format!("`from` {from} is above `to` {to}: numbers of events are wanted, the lower first"));
    }
    let who = match caller {
        Caller::Person(who, _) => Ok(who),
        // A program that acts for a person names it.
        _ => {
            let named = headers.get("dormgate-actor").map(|name| String::from_utf8_lossy(name.as_bytes()));
            named.as_deref().unwrap_or(UNNAMED).parse::<Actor>().map_err(|why| format!("`Dormgate-Actor`: {why}"))
        }
    };
    let who = match who {
        Ok(who) => who,
        Err(why) => return wrong(why),
    };
    match order.resolve(&console).await {
        Ok(order) => operate(&console.pages, order, Some(who)).await,
        Err(refused) => refused,
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Login {
    /// Who is in the audit.
    name: String,
    token: String,
}

pub(super) async fn log_in(State(console): State<Shared>, request: Request) -> Response {
    let from = guard::address(&request);
    if let Err(why) = same_origin(request.headers()) {
        return refuse(StatusCode::FORBIDDEN, why);
    }
    let is_https = is_https(request.headers());
    let Ok(bytes) = axum::body::to_bytes(request.into_body(), BODY_BYTES_MAX).await else {
        return refuse(StatusCode::PAYLOAD_TOO_LARGE, format!("the body has more than {BODY_BYTES_MAX} bytes"));
    };
    let Login { name, token } = match read(&bytes) {
        Ok(login) => login,
        Err(why) => return wrong(why),
    };
    let who = match name.parse::<Actor>() {
        Ok(who) => who,
        Err(why) => return wrong(format!("`name`: {why}")),
    };
    let token = match console.guard.compare(&token, from) {
        Ok(token) => token,
        Err((status, why)) => {
            tracing::warn!(from = from.map(tracing::field::display), "a login at the console was refused");
            return refusal(status, why);
        }
    };
    match console.guard.sessions.open((who.clone(), token)) {
        Ok(id) => {
            tracing::info!(%who, from = from.map(tracing::field::display), "a login at the console");
            let response = body(&json!({ "done": true, "who": who.to_string(), "seconds": SESSION_S }));
            with_cookie(response, COOKIE, Some(&id), is_https)
        }
        Err(error) => {
            let why = format!("the operating system gives no random numbers: {error}");
            refuse(StatusCode::INTERNAL_SERVER_ERROR, why)
        }
    }
}

pub(super) async fn log_out(State(console): State<Shared>, headers: HeaderMap) -> Response {
    if let Err(why) = same_origin(&headers) {
        return refuse(StatusCode::FORBIDDEN, why);
    }
    if let Some(session) = named(&headers, COOKIE) {
        console.guard.sessions.close(&session);
    }
    with_cookie(body(&json!({ "done": true })), COOKIE, None, false)
}

/// What the person at the page may do: `{"gateway":"xing1","timezone":"Asia/Shanghai","reads":true,"changes":false,"can_log_in":true,"who":"Li Wei","seconds":41000}`.
pub(super) async fn session(State(console): State<Shared>, request: Request) -> Response {
    let guard = &console.guard;
    let caller = guard.caller(request.method(), request.headers(), guard::address(&request));
    let (who, seconds) = match &caller {
        Ok(Caller::Person(who, key)) => (Some(who.to_string()), guard.session(key).map(|(_, left)| left.as_secs())),
        _ => (None, None),
    };
    body(&json!({
        "gateway": console.gateway,
        "timezone": *console.timezone.borrow(),
        "reads": caller.is_ok(),
        "changes": matches!(caller, Ok(Caller::Person(..) | Caller::Token(_))),
        "can_log_in": guard.has_token(),
        "who": who,
        "seconds": seconds,
    }))
}
