//! `GET /v1/cards/UID/proof`: where a dead card is dead, since when, and where that is not known yet.
//!
//! A card is dead by a message. A gateway's own audit is the best proof that it has it: event `revoked`, with the times at which the
//! message was received and in force, and what follows from it. A gateway at which the card opened nothing has no such event; there the
//! ack of the message counts, and where that is no longer kept, the state.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::Value;

use super::super::database::{Reader, Row, Search, Table};
use super::super::{Audience, Center, CenterError, Storage};
use super::auth::Client;
use super::bodies::{AtGateway, BoxShown, KnownBy, Proof};
use super::failure::Failure;
use super::{Shared, json};
use crate::access::credential::{Flag, FlagRegister};
use crate::access::id::{CardUid, GatewayId, Holder, Revision, StreamName, Timestamp};
use crate::access::list::AccessList;
use crate::wire::allowed::OpName;

/// Events looked at for one step at one gateway.
const EVENTS_MAX: usize = 100;
/// The flags that end a card.
const DEADLY: [Flag; 3] = [Flag::Lost, Flag::Replaced, Flag::Cancelled];

/// By which message a card is dead at a gateway.
#[derive(Clone)]
struct Death {
    gateway: GatewayId,
    stream: StreamName,
    revision: Revision,
}

pub(super) async fn proof(
    State(api): State<Shared>,
    client: Client,
    Path(uid): Path<String>,
) -> Result<Response, Failure> {
    client.reads()?;
    let parsed: CardUid = uid.parse().map_err(|e| Failure::field("uid", format!("`{uid}`: {e}")))?;
    let own = client.spec.gateways.clone();
    let deaths = api.service.ask(move |center| deaths(center, own.as_deref(), parsed)).await?;
    let dead = !deaths.is_empty();
    let gateways = api.read(move |reader| deaths.iter().map(|death| at_gateway(reader, death, parsed)).collect());
    let gateways: Vec<AtGateway> = gateways.await?;
    let unknown = gateways.iter().filter(|at| at.known_by.is_none()).map(|at| at.gateway.clone()).collect();
    Ok(json(StatusCode::OK, &Proof { uid: parsed, dead, gateways, unknown }))
}

/// The gateways at which the card is dead, once each has what was published to it.
fn deaths<S: Storage>(center: &Center<S>, own: Option<&[GatewayId]>, uid: CardUid) -> Vec<Death> {
    let Some(stream) = center.owner(OpName::Issue).map(|stream| stream.name.clone()) else { return Vec::new() };
    let gateways = center.gateways().iter().filter(|gateway| own.is_none_or(|own| own.contains(gateway)));
    let death = |gateway: &GatewayId| {
        let lists = [Audience::Campus, Audience::Gateway(gateway.clone())];
        let lists = lists.iter().filter_map(|audience| center.list(audience)).collect::<Vec<_>>();
        // Who it is enrolled for, where it was never issued: then what was set for the holder holds for it.
        let holder = lists.iter().find_map(|list| list.card(&uid)?.holder().cloned());
        let revision = lists.iter().filter_map(|list| death_in(list, uid, holder.as_ref())).min()?;
        Some(Death { gateway: gateway.clone(), stream: stream.clone(), revision })
    };
    gateways.filter_map(death).collect()
}

/// The first of the ops by which the card is dead.
fn death_in(list: &AccessList, uid: CardUid, holder: Option<&Holder>) -> Option<Revision> {
    let card = list.card(&uid).and_then(|card| card.record());
    let holder = holder.and_then(|holder| list.holder_entry(holder));
    let set = |flag: &Flag| {
        let own = card.as_ref().and_then(|card| card.flags.get(*flag));
        let birth = card.as_ref().and_then(|card| card.birth);
        let reaches = |register: &FlagRegister| birth.is_none_or(|birth| birth < register.revision);
        let holders = holder.as_ref().and_then(|entry| entry.flags.get(*flag)).filter(reaches);
        // The newer one counts; of one op that writes both, the card's own.
        let newer = match (own, holders) {
            (Some(own), Some(holders)) if holders.revision > own.revision => Some(holders),
            (own, holders) => own.or(holders),
        };
        newer.filter(|register| register.on).map(|register| register.revision)
    };
    DEADLY.iter().filter_map(set).min()
}

fn search(table: Table, gateway: &GatewayId, is: Vec<(&'static str, String)>, after: Option<i64>) -> Search {
    let is_newest_first = after.is_none();
    let gateways = Some(vec![gateway.to_string()]);
    Search { table, is, gateways, from: None, to: None, is_newest_first, after, most: EVENTS_MAX }
}

/// The rows, each with its JSON.
fn found(reader: &Reader, search: &Search) -> Result<Vec<(Row, Value)>, CenterError> {
    let rows = reader.search(search)?.into_iter();
    Ok(rows.filter_map(|row| Some((serde_json::from_str(&row.body).ok()?, row))).map(|(v, row)| (row, v)).collect())
}

fn at_gateway(reader: &Reader, death: &Death, uid: CardUid) -> Result<AtGateway, CenterError> {
    let Death { gateway, stream, revision } = death;
    let mut shown = AtGateway {
        gateway: gateway.clone(),
        stream: stream.clone(),
        epoch: revision.epoch,
        seq: revision.seq,
        dead_since: None,
        known_by: None,
        received_at: None,
        durable_at: None,
        boxes: Vec::new(),
    };
    let of_card = |kind: &str| vec![("uid", uid.to_string()), ("type", kind.to_owned())];
    // A stream's name has no character that a pointer escapes.
    let pointer = format!("/revision/{stream}");
    let number = serde_json::json!([revision.epoch, revision.seq]);
    let revoked = found(reader, &search(Table::Audit, gateway, of_card("revoked"), None))?;
    if let Some((row, event)) = revoked.iter().find(|(_, event)| event.pointer(&pointer) == Some(&number)) {
        shown.by_audit(reader, row, event, uid)?;
        return Ok(shown);
    }
    let of_message =
        vec![("stream", stream.to_string()), ("epoch", revision.epoch.to_string()), ("seq", revision.seq.to_string())];
    let acks = found(reader, &search(Table::Ack, gateway, of_message, None))?;
    // A duplicate was applied before, and a stale message is contained in what the gateway has. The oldest ack is the last here.
    if let Some((_, ack)) = acks.iter().rev().find(|(_, ack)| ack["outcome"] != "rejected") {
        shown.known_by = Some(KnownBy::Ack);
        (shown.dead_since, shown.received_at) = (field(ack, "received_at"), field(ack, "received_at"));
        shown.durable_at = field(ack, "durable_at");
        return Ok(shown);
    }
    let state = reader.states()?.into_iter().find(|row| row.gateway == gateway.as_str());
    let has_it = |row: &Row| {
        let state: Value = serde_json::from_str(&row.body).unwrap_or_default();
        let streams = state.get("streams").and_then(Value::as_array).cloned().unwrap_or_default();
        let number = |s: &Value, key: &str| s[key].as_u64().unwrap_or(0);
        streams.iter().any(|s| {
            let reached = (number(s, "epoch"), number(s, "seq")) >= (u64::from(revision.epoch.get()), revision.seq);
            s["name"] == stream.as_str() && reached && number(s, "missing") == 0
        })
    };
    if let Some(row) = state.filter(has_it) {
        shown.known_by = Some(KnownBy::State);
        shown.dead_since = serde_json::to_value(Timestamp(row.at)).ok();
    }
    Ok(shown)
}

fn field(event: &Value, name: &str) -> Option<Value> {
    event.get(name).cloned()
}

impl AtGateway {
    /// What the gateway's audit has of the revocation, which is the event of `row`, and of what followed.
    fn by_audit(&mut self, reader: &Reader, row: &Row, event: &Value, uid: CardUid) -> Result<(), CenterError> {
        self.known_by = Some(KnownBy::Audit);
        (self.dead_since, self.received_at) = (field(event, "at"), field(event, "received_at"));
        let kind = |kind: &str| vec![("type", kind.to_owned())];
        let n = event["n"].as_u64().unwrap_or(0);
        let durable = found(reader, &search(Table::Audit, &self.gateway, kind("revocation_durable"), Some(row.id)))?;
        let covers = |event: &Value| {
            event["from"].as_u64().is_some_and(|from| from <= n) && event["to"].as_u64().is_some_and(|to| n <= to)
        };
        self.durable_at = durable.iter().find(|(_, event)| covers(event)).and_then(|(_, event)| field(event, "at"));
        let mut of_card = kind("revocation_confirmed");
        of_card.push(("uid", uid.to_string()));
        let confirmed = found(reader, &search(Table::Audit, &self.gateway, of_card, Some(row.id)))?;
        let cut = event["cut"].as_array().cloned().unwrap_or_default();
        self.boxes = cut
            .into_iter()
            .map(|portal| {
                let done = confirmed.iter().find(|(_, event)| event["revoked"] == n && event["portal"] == portal);
                let done = done.map(|(_, event)| event);
                let confirmed_at = done.and_then(|event| field(event, "at"));
                BoxShown { portal, confirmed_at, how: done.and_then(|event| field(event, "reason")) }
            })
            .collect();
        Ok(())
    }
}
