//! `GET /v1/gateways`, `/v1/holders/H` and `/v1/cards/UID`: what is known now.

use std::collections::{BTreeMap, BTreeSet};

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use serde_json::value::RawValue;

use super::super::database::Row;
use super::super::{Audience, Center, JournalName, Storage};
use super::auth::MayRead;
use super::bodies::{AheadShown, Delivery, GatewayShown, Numbered};
use super::failure::Failure;
use super::{Shared, json};
use crate::access::change::Position;
use crate::access::credential::{DEAD, Flag};
use crate::access::id::{CardUid, GatewayId, Holder, Timestamp};
use crate::access::list::AccessList;
use crate::wire::ops::enrolment_body;
use crate::wire::topic::CAMPUS;

pub(super) async fn gateways(State(api): State<Shared>, MayRead(client): MayRead) -> Result<Response, Failure> {
    let shown = shown(&api, |gateway| client.has(gateway)).await?;
    Ok(json(StatusCode::OK, &BTreeMap::from([("gateways", shown)])))
}

pub(super) async fn gateway(
    State(api): State<Shared>,
    MayRead(client): MayRead,
    Path(name): Path<String>,
) -> Result<Response, Failure> {
    let wanted = api.known(&name)?;
    client.needs(&wanted)?;
    match shown(&api, |gateway| *gateway == wanted).await?.pop() {
        Some(shown) => Ok(json(StatusCode::OK, &shown)),
        None => Err(Failure::new(StatusCode::NOT_FOUND, "unknown_gateway", "no such gateway")),
    }
}

pub(super) async fn delivery(State(api): State<Shared>, _: MayRead) -> Result<Response, Failure> {
    let delivery = Delivery { connected: api.service.is_up(), waiting: *api.service.undelivered().borrow() };
    Ok(json(StatusCode::OK, &delivery))
}

async fn shown(api: &Shared, wanted: impl Fn(&GatewayId) -> bool) -> Result<Vec<GatewayShown>, Failure> {
    let states = api.read(|reader| reader.states()).await?;
    let mut states: BTreeMap<String, Row> = states.into_iter().map(|row| (row.gateway.clone(), row)).collect();
    let (positions, ahead) = api.service.ask(|center| (center.positions().collect::<Vec<_>>(), center.ahead())).await?;
    let of = |audience: &Audience| {
        let audience = audience.clone();
        let published = |(journal, at): &(JournalName, Position)| Numbered {
            stream: journal.stream.clone(),
            epoch: at.epoch,
            seq: at.seq,
        };
        positions.iter().filter(move |(journal, _)| journal.audience == audience).map(published)
    };
    let show = |gateway: &GatewayId| {
        let state = states.remove(gateway.as_str());
        let received_at = state.as_ref().map(|row| Timestamp(row.at));
        let published = of(&Audience::Campus).chain(of(&Audience::Gateway(gateway.clone()))).collect();
        let state = state.and_then(|row| RawValue::from_string(row.body).ok());
        let ahead = ahead.iter().filter(|ahead| ahead.gateway == *gateway).map(|ahead| {
            let ((epoch, seq), stream) = (ahead.there, ahead.stream.clone());
            AheadShown { stream, epoch, seq, message: ahead.to_string() }
        });
        GatewayShown { gateway: gateway.clone(), state, received_at, published, ahead: ahead.collect() }
    };
    Ok(api.service.gateways().iter().filter(|gateway| wanted(gateway)).map(show).collect())
}

/// What one list knows of a card.
#[derive(Serialize)]
pub(super) struct Known {
    /// `campus`, or the gateway that was published to.
    to: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    holder: Option<Holder>,
    /// Lost, frozen, replaced or cancelled, by an op of the card or of its holder.
    flags: Vec<&'static str>,
    /// The enrolment in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    enrolment: Option<serde_json::Value>,
}

#[derive(Serialize)]
pub(super) struct CardShown {
    uid: CardUid,
    /// Replaced, cancelled or lost: it opens nothing, whatever it is enrolled for.
    dead: bool,
    known: Vec<Known>,
}

/// The lists that a client may see: the campus's first.
fn visible<S: Storage>(center: &Center<S>, own: Option<&[GatewayId]>) -> Vec<(String, Audience)> {
    let gateways = center.gateways().iter().filter(|gateway| own.is_none_or(|own| own.contains(gateway)));
    let gateways = gateways.map(|gateway| (gateway.to_string(), Audience::Gateway(gateway.clone())));
    std::iter::once((CAMPUS.to_owned(), Audience::Campus)).chain(gateways).collect()
}

pub(super) fn card_shown<S: Storage>(center: &Center<S>, own: Option<&[GatewayId]>, uid: CardUid) -> CardShown {
    let mut known = Vec::new();
    let mut dead = false;
    for (to, audience) in visible(center, own) {
        let Some(list) = center.list(&audience) else { continue };
        let Some(one) = known_of(list, to, uid) else { continue };
        dead |= list.card(&uid).is_some_and(|card| !card.standing().is_disjoint(DEAD));
        // A card that was never issued: what was set for its holder holds for it too.
        if let Some(holder) = one.holder.as_ref().filter(|_| audience != Audience::Campus) {
            let campus = center.list(&Audience::Campus).filter(|campus| campus.card(&uid).is_none());
            dead |= campus
                .and_then(|campus| campus.holder_entry(holder))
                .is_some_and(|entry| DEAD.iter().any(|flag| entry.flags.get(flag).is_some_and(|r| r.on)));
        }
        known.push(one);
    }
    CardShown { uid, dead, known }
}

fn known_of(list: &AccessList, to: String, uid: CardUid) -> Option<Known> {
    let card = list.card(&uid)?;
    let flags = card.standing().iter().map(Flag::as_str).collect();
    let record = card.record().filter(|_| card.enrolment().is_some());
    let enrolment = record.and_then(|record| record.enrolment?.1);
    let enrolment = enrolment.and_then(|enrolment| serde_json::to_value(enrolment_body(uid, &enrolment)).ok());
    Some(Known { to, holder: card.holder().cloned(), flags, enrolment })
}

pub(super) async fn card(
    State(api): State<Shared>,
    MayRead(client): MayRead,
    Path(uid): Path<String>,
) -> Result<Response, Failure> {
    let parsed: CardUid = uid.parse().map_err(|e| Failure::field("uid", format!("`{uid}`: {e}")))?;
    let own = client.spec.gateways.clone();
    let shown = api.service.ask(move |center| card_shown(center, own.as_deref(), parsed)).await?;
    if shown.known.is_empty() {
        let message = format!("no message of this center names the card {parsed}");
        return Err(Failure::new(StatusCode::NOT_FOUND, "unknown_credential", message));
    }
    Ok(json(StatusCode::OK, &shown))
}

/// All cards of a holder.
pub(super) fn cards_of<S: Storage>(center: &Center<S>, own: Option<&[GatewayId]>, holder: &Holder) -> Vec<CardShown> {
    let lists = visible(center, own);
    let uids = lists.iter().filter_map(|(_, audience)| center.list(audience)).flat_map(|list| list.uids_of(holder));
    let uids: BTreeSet<CardUid> = uids.collect();
    uids.into_iter().map(|uid| card_shown(center, own, uid)).collect()
}

#[derive(Serialize)]
struct HolderShown {
    holder: Holder,
    cards: Vec<CardShown>,
}

pub(super) async fn holder(
    State(api): State<Shared>,
    MayRead(client): MayRead,
    Path(name): Path<String>,
) -> Result<Response, Failure> {
    let holder: Holder = name.parse().map_err(|e| Failure::field("holder", format!("`{name}`: {e}")))?;
    let (asked, own) = (holder.clone(), client.spec.gateways.clone());
    let cards = api.service.ask(move |center| cards_of(center, own.as_deref(), &asked)).await?;
    if cards.is_empty() {
        let message = format!("no card of `{holder}` is known here");
        return Err(Failure::new(StatusCode::NOT_FOUND, "unknown_holder", message));
    }
    Ok(json(StatusCode::OK, &HolderShown { holder, cards }))
}
