//! The events of a holder erased, for `audit erase`: ordered and carried out in the background, because it reads the whole journal. Both
//! are events of the audit, with who ordered it.

use axum::Router;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::post;
use serde::Deserialize;
use serde_json::json;

use super::api::{Pages, ask, body, refuse};
use crate::access::id::Holder;
use crate::access::input::{Actor, Operator};
use crate::gateway::ports::{Ask, OperatorRefusal};

pub(super) fn routes(pages: Pages) -> Router {
    Router::new().route("/api/v1/audit/erase", post(erase)).with_state(pages)
}

#[derive(Deserialize)]
struct EraseFor {
    holder: String,
    actor: String,
}

async fn note(pages: &Pages, detail: String) -> Result<(), Response> {
    let command = Operator::Note { detail };
    match ask(pages, |answer| Ask::Operator { command, actor: None, answer }).await? {
        // A disk that takes no event takes no erasure either, which then reports that.
        Ok(()) | Err(OperatorRefusal::NotOnDisk) => Ok(()),
        Err(why) => Err(refuse(StatusCode::CONFLICT, why)),
    }
}

/// `{"done":true,"from":88001}`: it is ordered, and its end is an event after that number.
async fn erase(State(pages): State<Pages>, Query(asked): Query<EraseFor>) -> Response {
    let holder = match asked.holder.parse::<Holder>() {
        Ok(holder) => holder,
        Err(error) => return refuse(StatusCode::BAD_REQUEST, format!("`holder`: {error}")),
    };
    let actor = match asked.actor.parse::<Actor>() {
        Ok(actor) => actor,
        Err(why) => return refuse(StatusCode::BAD_REQUEST, format!("`actor`: {why}")),
    };
    let from = pages.audit.last_durable();
    // The order begins a new segment, so that all before it can be erased.
    pages.audit.close_segment();
    if let Err(refused) = note(&pages, format!("{actor} orders the events of holder `{holder}` to be erased")).await {
        return refused;
    }
    tokio::spawn(async move {
        let (store, of) = (pages.audit.clone(), holder.clone());
        let done = tokio::task::spawn_blocking(move || store.erase_blocking(&of)).await;
        let detail = match done.map_err(|error| error.to_string()).and_then(|done| done) {
            Ok(done) if done.kept > 0 => format!(
                "{} events of holder `{holder}` up to event {} are erased, ordered by {actor}; {} later ones are kept because the \
                 center does not have them yet: order it again when it has",
                done.erased, done.through, done.kept
            ),
            Ok(done) => format!("{} events of holder `{holder}` are erased, ordered by {actor}", done.erased),
            Err(why) => format!("the events of holder `{holder}` are not erased, as {actor} ordered: {why}"),
        };
        // The gateway may be stopping; what is erased is.
        drop(note(&pages, detail).await);
    });
    body(&json!({ "done": true, "from": from }))
}
