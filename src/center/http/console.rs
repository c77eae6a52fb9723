//! The pages for people at a center, and their sessions. A session is made from the token of a client and is that client at the API,
//! from the console's own pages only. Whoever has no session sees the frame of the pages and the login.

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{Extensions, HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Deserialize;
use serde_json::json;

use super::auth::{self, COOKIE, Person};
use super::failure::Failure;
use super::{Shared, json as answer};
use crate::access::input::Actor;
use crate::browser::files::{self, File, JS};
use crate::browser::origin::{is_https, same_origin};
use crate::browser::sessions::{self, SESSION_S, with_cookie};
use crate::browser::words::words;
use crate::wire::envelope::Scope;
use crate::wire::wanted::sentence;

/// What this console has besides what every console has.
pub(super) const FILES: &[File] = &[
    ("/console/app.js", JS, include_str!("page/app.js")),
    ("/console/live.js", JS, include_str!("page/live.js")),
    ("/console/gateways.js", JS, include_str!("page/gateways.js")),
    ("/console/card.js", JS, include_str!("page/card.js")),
    ("/console/change.js", JS, include_str!("page/change.js")),
    ("/console/sheet.js", JS, include_str!("page/sheet.js")),
    ("/console/faults.js", JS, include_str!("page/faults.js")),
    ("/console/order.js", JS, include_str!("page/order.js")),
    ("/console/own-words.js", JS, include_str!("page/own-words.js")),
];

pub(super) fn routes() -> Router<Shared> {
    files::routes(FILES)
        .route("/console/session", get(session).post(log_in).delete(log_out))
        .route("/console/words", get(|| async { answer(StatusCode::OK, &words()) }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Login {
    /// Who is in the log, and in the audit beside a command.
    name: String,
    token: String,
}

async fn log_in(
    State(api): State<Shared>,
    extensions: Extensions,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Failure> {
    same_origin(&headers).map_err(|why| Failure::forbidden("forbidden_origin", why))?;
    let read = serde_json::from_slice(&body);
    let Login { name, token } =
        read.map_err(|error| Failure::field("body", format!("the body: {}", sentence(&error.to_string()))))?;
    let who: Actor = name.parse().map_err(|why| Failure::field("name", format!("`name`: {why}")))?;
    let from = auth::address(&extensions);
    let spec = api.doorkeeper.client(Some(&token), from).inspect_err(|_| {
        tracing::warn!(from = from.map(tracing::field::display), "a login at the console was refused");
    })?;
    let client = spec.name.clone();
    let id = api.doorkeeper.sessions.open(Person { who: who.clone(), spec }).map_err(|error| {
        let why = format!("the operating system gives no random numbers: {error}");
        Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", why)
    })?;
    tracing::info!(%who, client, from = from.map(tracing::field::display), "a login at the console");
    let response = answer(StatusCode::OK, &json!({ "who": who.to_string(), "client": client, "seconds": SESSION_S }));
    Ok(with_cookie(response, COOKIE, Some(&id), is_https(&headers)))
}

async fn log_out(State(api): State<Shared>, headers: HeaderMap) -> Result<Response, Failure> {
    same_origin(&headers).map_err(|why| Failure::forbidden("forbidden_origin", why))?;
    if let Some(session) = sessions::named(&headers, COOKIE) {
        api.doorkeeper.sessions.close(&session);
    }
    Ok(with_cookie(answer(StatusCode::OK, &json!({ "done": true })), COOKIE, None, false))
}

/// Who the person at the page is, and may what: `{"reads":true,"can_log_in":true,"who":"Li Wei","client":"card-office",
/// "may":["reissue"],"campus":["reissue"],"loads":false,"seconds":41000}`. What is under `campus` goes to every gateway, the rest to one.
async fn session(State(api): State<Shared>, request: axum::extract::Request) -> Response {
    let nobody = || json!({ "reads": false, "can_log_in": true, "who": null });
    // Without a cookie nobody asks, and nothing was guessed.
    let Some(key) = sessions::named(request.headers(), COOKIE) else {
        return answer(StatusCode::OK, &nobody());
    };
    let keeper = &api.doorkeeper;
    let client = match keeper.asks(request.method(), request.headers(), None) {
        Ok(client) => client,
        Err(failure) if failure.status() == StatusCode::UNAUTHORIZED => return answer(StatusCode::OK, &nobody()),
        Err(failure) => return failure.into_response(),
    };
    let may: Vec<&str> = client.spec.may.iter().map(|op| op.as_str()).collect();
    let campus = api.streams.iter().filter(|stream| stream.scope == Scope::Campus);
    let campus: Vec<&str> = campus.flat_map(|stream| stream.allowed.iter()).map(|op| op.as_str()).collect();
    let seconds = keeper.sessions.of(&key).map(|(_, left)| left.as_secs());
    answer(
        StatusCode::OK,
        &json!({
            "reads": client.spec.may_read,
            // A client that may not read has no use for the pages, and another login is all that helps.
            "can_log_in": client.spec.may_read,
            "who": client.person.as_ref().map(|(who, _)| who.to_string()),
            "client": client.spec.name,
            "may": may,
            "loads": client.spec.may_load,
            "campus": campus,
            "seconds": seconds,
        }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::center::Agreement;

    #[test]
    fn no_page_has_a_script_or_a_style_of_its_own_and_every_text_has_words_in_both_languages() {
        files::check(FILES);
        let own = FILES.iter().find(|(path, ..)| path.ends_with("own-words.js")).unwrap().2;
        for agreement in Agreement::ALL {
            assert!(own.contains(&format!("agreement_{}: [", agreement.as_str())), "{}", agreement.as_str());
        }
    }
}
