//! The events of a holder erased, for `audit erase`: ordered and carried out in the background, because it reads the whole journal. Both
//! are events of the audit, with who ordered it. With the order it is forgotten where the holder's cards passed.

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::post;
use serde::Deserialize;
use serde_json::json;

use super::api::{Asked, Pages, ask, body, refuse};
use crate::access::id::Holder;
use crate::access::input::{Actor, Operator};
use crate::gateway::ORDER_WAIT_MS;
use crate::gateway::ports::{Ask, OperatorRefusal};

pub(super) fn routes(pages: Pages) -> Router {
    Router::new().route("/api/v1/audit/erase", post(erase)).with_state(pages)
}

#[derive(Deserialize)]
struct EraseFor {
    holder: String,
    actor: String,
}

async fn order(pages: &Pages, command: Operator) -> Result<Result<(), OperatorRefusal>, Response> {
    ask(pages, |answer| Ask::Operator { command, actor: None, answer }).await
}

async fn note(pages: &Pages, detail: String) -> Result<Result<(), OperatorRefusal>, Response> {
    order(pages, Operator::Note { detail }).await
}

/// `{"done":true,"from":88001}`: it is ordered, and its end is an event after that number.
async fn erase(State(pages): State<Pages>, Asked(asked): Asked<EraseFor>) -> Response {
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
    let detail = format!("{actor} orders the events of holder `{holder}` to be erased");
    match order(&pages, Operator::Erase { holder: holder.clone(), detail }).await {
        Ok(Ok(())) => {}
        // A disk that takes no event takes no erasure either.
        Ok(Err(OperatorRefusal::NotOnDisk)) => {
            let detail = format!(
                "the events of holder `{holder}` are not erased, as {actor} ordered: the order was not on disk within {} s",
                ORDER_WAIT_MS / 1_000
            );
            tokio::spawn(async move { drop(note(&pages, detail).await) });
            let why = "nothing was erased: the disk of the gateway takes no event; mend it, then order it again";
            return refuse(StatusCode::INSUFFICIENT_STORAGE, why);
        }
        Ok(Err(why)) => return refuse(StatusCode::CONFLICT, why),
        Err(refused) => return refused,
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::access::state::State as Folded;
    use crate::gateway::ports::{Inbox, Readiness};
    use crate::store::{MemoryDisk, Options, Store};

    /// What the gateway's task answers: nothing comes to the disk.
    #[tokio::test]
    async fn an_erasure_whose_order_is_not_on_disk_is_refused_and_erases_nothing() {
        let (store, _, _, _disk) = Store::open_in_memory::<Folded>(&MemoryDisk::new(), Options::default()).unwrap();
        let (inbox, mut taken) = Inbox::new();
        let pages = Pages {
            registry: Arc::default(),
            readiness: Readiness::default(),
            inbox,
            links: crate::http::Links::default(),
            audit: store,
            disk: crate::http::DiskRoom::default(),
            reload: tokio::sync::mpsc::channel(1).0,
        };
        let asked = EraseFor { holder: "h1".to_owned(), actor: "li".to_owned() };
        let erasing = tokio::spawn(erase(State(pages), Asked(asked)));
        let mut notes = Vec::new();
        while let Some(ask) = taken.asks.recv().await {
            let Ask::Operator { command: Operator::Note { detail } | Operator::Erase { detail, .. }, answer, .. } = ask
            else {
                panic!("{ask:?}")
            };
            notes.push(detail);
            answer.send(Err(OperatorRefusal::NotOnDisk)).unwrap();
        }
        assert_eq!(erasing.await.unwrap().status(), StatusCode::INSUFFICIENT_STORAGE);
        // Once the disk takes events again, the audit has both.
        let expected = [
            "li orders the events of holder `h1` to be erased",
            "the events of holder `h1` are not erased, as li ordered: the order was not on disk within 1 s",
        ];
        assert_eq!(notes, expected);
    }
}
