//! Who is where, and who may open what, for `dormgate where`, `roll-call` and `may`. Answered by the running gateway from memory, so
//! that a roll-call does not wait for a year of audit to be read.

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::get;
use serde::Deserialize;
use serde_json::json;
use tokio::task::spawn_blocking;

use super::api::{Asked, Pages, ask, body, refuse};
use crate::access::id::{PortalId, Zone};
use crate::access::roll_call::{Held, RollCall, Sought};
use crate::gateway::ports::{Ask, SLICE_CARDS_MAX};

pub(super) fn routes(pages: Pages) -> Router {
    Router::new()
        .route("/api/v1/where", get(whereabouts))
        .route("/api/v1/roll-call", get(roll_call))
        .route("/api/v1/may", get(may_open))
        .with_state(pages)
}

#[derive(Deserialize)]
struct WhereFor {
    /// A card's UID or a holder.
    who: String,
}

#[derive(Deserialize)]
struct RollCallFor {
    /// The zone of the gates of an area; without it the whole building.
    zone: Option<String>,
}

#[derive(Deserialize)]
struct MayFor {
    portal: String,
}

async fn whereabouts(State(pages): State<Pages>, Asked(asked): Asked<WhereFor>) -> Response {
    // Eight digits may be a UID and a student number; both are looked up.
    let (uid, holder) = (asked.who.parse().ok(), asked.who.parse().ok());
    if uid.is_none() && holder.is_none() {
        return refuse(StatusCode::BAD_REQUEST, format!("`who`: `{}` is neither a UID in hex nor a holder", asked.who));
    }
    let sought = Sought { uid, holder };
    match ask(&pages, |answer| Ask::Whereabouts { sought, answer }).await {
        Ok(cards) => body(&json!({ "cards": cards })),
        Err(refused) => refused,
    }
}

/// Where everybody is, is of one moment. What takes time is done while the gateway decides on: the list is worked out on another thread,
/// and whose the cards are is asked in slices, so a card that the center changes meanwhile counts as it was or as it is.
async fn roll_call(State(pages): State<Pages>, Asked(asked): Asked<RollCallFor>) -> Response {
    let zone = match asked.zone.map(|zone| zone.parse::<Zone>()).transpose() {
        Ok(zone) => zone,
        Err(error) => return refuse(StatusCode::BAD_REQUEST, format!("`zone`: {error}")),
    };
    let taken = match ask(&pages, |answer| Ask::RollCall { zone, answer }).await {
        Ok(Ok(taken)) => taken,
        Ok(Err(message)) => return refuse(StatusCode::NOT_FOUND, message),
        Err(refused) => return refused,
    };
    let Ok((cards, taken)) = spawn_blocking(|| (taken.cards(), taken)).await else {
        return not_listed();
    };
    let mut held = Vec::with_capacity(cards.len());
    for slice in cards.chunks(SLICE_CARDS_MAX) {
        match ask(&pages, |answer| Ask::Held { cards: slice.to_vec(), answer }).await {
            Ok(of_slice) => held.extend(of_slice),
            Err(refused) => return refused,
        }
    }
    spawn_blocking(|| listed(taken, held)).await.unwrap_or_else(|_| not_listed())
}

fn not_listed() -> Response {
    refuse(StatusCode::INTERNAL_SERVER_ERROR, "the list could not be made; ask again")
}

fn listed(taken: RollCall, held: Vec<Held>) -> Response {
    let entry = |card: &crate::access::roll_call::Whereabouts| {
        let mut entry = json!(card);
        if let Some(fields) = entry.as_object_mut() {
            fields.insert("certainty".to_owned(), json!(card.certainty()));
        }
        entry
    };
    body(&json!({ "inside": taken.people(held).iter().map(entry).collect::<Vec<_>>() }))
}

/// The list is judged in slices, between which the gateway decides on: a card that changes meanwhile counts as it was or as it is.
async fn may_open(State(pages): State<Pages>, Asked(asked): Asked<MayFor>) -> Response {
    let portal = match asked.portal.parse::<PortalId>() {
        Ok(portal) => portal,
        Err(error) => return refuse(StatusCode::BAD_REQUEST, format!("`portal`: {error}")),
    };
    let mut cards = Vec::new();
    let mut from = 0;
    loop {
        let places = from..from + SLICE_CARDS_MAX;
        match ask(&pages, |answer| Ask::MayOpen { portal: portal.clone(), places, answer }).await {
            Ok(Ok((granted, len))) => {
                cards.extend(granted);
                from += SLICE_CARDS_MAX;
                if from >= len {
                    return body(&json!({ "portal": portal, "cards": cards }));
                }
            }
            Ok(Err(message)) => return refuse(StatusCode::NOT_FOUND, message),
            Err(refused) => return refused,
        }
    }
}
