//! `GET /v1/cards/UID/proof`: where a dead card is dead, since when, and where that is not known yet.
//!
//! A card is dead by a message. A gateway's own audit is the best proof that it has it: event `revoked`, with the times at which the
//! message was received and in force, and what follows from it. A gateway at which the card opened nothing has no such event; there the
//! ack of the message counts, if it does not refuse it. Where none is kept, the state counts if its digest is the one here: a gateway's
//! numbers go on over a message that it refused.
//!
//! Of a number that was used before neither counts: what the gateway has under it is another message.

use std::collections::BTreeMap;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::Value;

use super::super::database::{Reader, Row, Search, Table};
use super::super::{Audience, Center, CenterError, Number, Storage, UsedAt};
use super::auth::MayRead;
use super::bodies::{AtGateway, BoxShown, KnownBy, Proof};
use super::failure::Failure;
use super::traces::{self, Trace, found, search};
use super::{Shared, json};
use crate::access::credential::{Flag, FlagRegister};
use crate::access::engine::StreamStatus;
use crate::access::id::{CardUid, GatewayId, Holder, Revision, StreamName, Timestamp};
use crate::access::list::AccessList;
use crate::wire::allowed::OpName;
use crate::wire::envelope::Scope;
use crate::wire::state;

/// The flags that end a card.
const DEADLY: [Flag; 3] = [Flag::Lost, Flag::Replaced, Flag::Cancelled];

/// By which message a card is dead at a gateway.
#[derive(Clone)]
struct Death {
    gateway: GatewayId,
    stream: StreamName,
    revision: Revision,
    /// The number of the newest message to the gateway.
    newest: Number,
}

impl Death {
    fn new<S: Storage>(center: &Center<S>, gateway: &GatewayId, stream: &StreamName, revision: Revision) -> Self {
        let newest = center.published_to(gateway, stream).unwrap_or_default();
        Self { gateway: gateway.clone(), stream: stream.clone(), revision, newest }
    }

    fn number(&self) -> Number {
        (self.revision.epoch.get(), self.revision.seq)
    }
}

/// What shows whether acks of a message count.
struct Shown {
    states: Vec<Row>,
    used: Vec<UsedAt>,
}

impl Shown {
    fn read(reader: &Reader) -> Result<Self, CenterError> {
        Ok(Self { states: reader.states()?, used: reader.used()? })
    }

    /// Whether the gateway's ack is one of this message, and of one that it has in force.
    fn counts(&self, death: &Death, ack: &Value) -> bool {
        let used = self.used.iter().find(|(gateway, stream, _)| *gateway == death.gateway && *stream == death.stream);
        if used.is_some_and(|(_, _, used)| used.has(death.number())) {
            return false;
        }
        match ack["outcome"].as_str() {
            Some("applied") => true,
            // One that was applied before, or is contained in what the gateway has; unless that is what others published.
            Some("duplicate" | "stale") => {
                let through = ack["applied_through"].as_u64().unwrap_or(u64::MAX);
                (death.revision.epoch.get(), through) <= death.newest && !self.is_ahead(death)
            }
            _ => false,
        }
    }

    /// Whether the newest state of the gateway has a number that was never published to it.
    fn is_ahead(&self, death: &Death) -> bool {
        let stream = stream_in(&self.states, death);
        stream.is_some_and(|(_, stream)| (stream.epoch, stream.seq) > death.newest)
    }
}

pub(super) async fn proof(
    State(api): State<Shared>,
    MayRead(client): MayRead,
    Path(uid): Path<String>,
) -> Result<Response, Failure> {
    let parsed: CardUid = uid.parse().map_err(|e| Failure::field("uid", format!("`{uid}`: {e}")))?;
    let own = client.spec.gateways.clone();
    let asked = own.clone();
    let (mut deaths, stream, others_enrol) = api
        .service
        .ask(move |center| {
            let stream = center.owner(OpName::Issue).map(|stream| stream.name.clone());
            (deaths(center, asked.as_deref(), parsed), stream, center.owner(OpName::Enrol).is_none())
        })
        .await?;
    if let Some(stream) = stream {
        // Where the lists here name a death at every gateway there is nothing more to look for.
        let (of, asked) = (stream.clone(), own.clone());
        let acks = others_enrol && deaths.is_empty();
        let traces = api.read(move |reader| traces::read(reader, asked.as_deref(), (parsed, &of), acks)).await?;
        if !traces.is_empty() {
            let known = deaths.clone();
            let more = move |center: &mut _| by_traces(center, (own.as_deref(), &known), (parsed, &stream), &traces);
            deaths.extend(api.service.ask(more).await??);
        }
    }
    let dead = !deaths.is_empty();
    let gateways = api.read(move |reader| {
        let shown = Shown::read(reader)?;
        let at = |death: &Death| Ok((at_gateway(reader, &shown, death, parsed)?, state_of(&shown.states, death)));
        deaths.iter().map(at).collect::<Result<Vec<_>, CenterError>>()
    });
    let gateways = gateways.await?;
    let gateways = api.service.ask(move |center| by_states(center, gateways)).await?;
    let unknown = gateways.iter().filter(|at| at.known_by.is_none()).map(|at| at.gateway.clone()).collect();
    Ok(json(StatusCode::OK, &Proof { uid: parsed, dead, gateways, unknown }))
}

/// The gateways at which the card is dead, once each has what was published to it.
fn deaths<S: Storage>(center: &Center<S>, own: Option<&[GatewayId]>, uid: CardUid) -> Vec<Death> {
    let Some(stream) = center.owner(OpName::Issue).map(|stream| stream.name.clone()) else { return Vec::new() };
    let death = |gateway: &GatewayId| {
        let lists = lists_of(center, gateway);
        // Who it is enrolled for, where it was never issued: then what was set for the holder holds for it.
        let holder = lists.iter().find_map(|list| list.card(&uid)?.holder().cloned());
        let revision = lists.iter().filter_map(|list| death_in(list, uid, holder.as_ref())).min()?;
        Some(Death::new(center, gateway, &stream, revision))
    };
    own_gateways(center, own).filter_map(death).collect()
}

fn own_gateways<'c, S: Storage>(
    center: &'c Center<S>,
    own: Option<&'c [GatewayId]>,
) -> impl Iterator<Item = &'c GatewayId> {
    center.gateways().iter().filter(move |gateway| own.is_none_or(|own| own.contains(gateway)))
}

fn lists_of<'c, S: Storage>(center: &'c Center<S>, gateway: &GatewayId) -> Vec<&'c AccessList> {
    let lists = [Audience::Campus, Audience::Gateway(gateway.clone())];
    lists.iter().filter_map(|audience| center.list(audience)).collect()
}

/// The deaths that only what the gateways published shows, beside those that are `known`.
fn by_traces<S: Storage>(
    center: &mut Center<S>,
    (own, known): (Option<&[GatewayId]>, &[Death]),
    (uid, stream): (CardUid, &StreamName),
    traces: &[Trace],
) -> Result<Vec<Death>, CenterError> {
    // Which gateways have the card is known here only if this center enrols.
    let others_enrol = center.owner(OpName::Enrol).is_none();
    let gateways: Vec<GatewayId> = own_gateways(center, own).cloned().collect();
    let mut deaths = Vec::new();
    for gateway in gateways {
        // Whoever it is for now is in the lists, and was looked at.
        let has_holder =
            lists_of(center, &gateway).iter().any(|list| list.card(&uid).is_some_and(|c| c.holder().is_some()));
        if has_holder || known.iter().any(|death| death.gateway == gateway) {
            continue;
        }
        for trace in traces.iter().filter(|trace| others_enrol || trace.is_of(&gateway)) {
            let death = |center: &Center<S>, holder: &Holder| {
                lists_of(center, &gateway).into_iter().filter_map(|list| death_in(list, uid, Some(holder))).min()
            };
            if let Some(revision) = trace.death(center, stream, death)? {
                deaths.push(Death::new(center, &gateway, stream, revision));
                break;
            }
        }
    }
    Ok(deaths)
}

type NumberedDigest = (Number, String);

/// What the newest state of a gateway shows of a stream.
struct StateOfStream {
    received_at: Timestamp,
    /// Its number and its digest.
    list: NumberedDigest,
}

/// What the newest state of the gateway shows, if it has the message's number and all before it.
fn state_of(states: &[Row], death: &Death) -> Option<StateOfStream> {
    let (row, stream) = stream_in(states, death).filter(|(_, stream)| stream.missing == 0)?;
    let has_it = (stream.epoch, stream.seq) >= death.number();
    let digest = stream.digest.filter(|_| has_it)?;
    Some(StateOfStream { received_at: Timestamp(row.at), list: ((stream.epoch, stream.seq), digest) })
}

/// The stream in the newest state of the gateway.
fn stream_in<'s>(states: &'s [Row], death: &Death) -> Option<(&'s Row, StreamStatus)> {
    let row = states.iter().find(|row| row.gateway == death.gateway.as_str())?;
    let state = state::decode(row.body.as_bytes()).ok()?;
    Some((row, state.streams.into_iter().find(|stream| stream.name == death.stream)?))
}

/// Where nothing else is known: by the state, if what the gateway has is what this center has.
fn by_states<S: Storage>(center: &Center<S>, all: Vec<(AtGateway, Option<StateOfStream>)>) -> Vec<AtGateway> {
    // A digest walks the whole list, and that of the campus is the same for every gateway.
    let mut newest: BTreeMap<Audience, Option<NumberedDigest>> = BTreeMap::new();
    let mut shown = Vec::with_capacity(all.len());
    for (mut at, state) in all {
        if let Some(state) = state.filter(|_| at.known_by.is_none()) {
            let is_campus = center.streams().any(|one| one.name == at.stream && one.scope == Scope::Campus);
            let audience = if is_campus { Audience::Campus } else { Audience::Gateway(at.gateway.clone()) };
            let own = newest.entry(audience.clone()).or_insert_with(|| {
                let newest = center.newest_with_digest(&at.stream, &audience);
                newest.map(|(at, digest)| ((at.epoch.get(), at.seq), digest))
            });
            if own.as_ref() == Some(&state.list) {
                at.known_by = Some(KnownBy::State);
                at.dead_since = serde_json::to_value(state.received_at).ok();
            }
        }
        shown.push(at);
    }
    shown
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

/// The newest rows of a gateway, or the first after one.
fn search_at(table: Table, gateway: &GatewayId, is: Vec<(&'static str, String)>, after: Option<i64>) -> Search {
    let gateways = Some(vec![gateway.to_string()]);
    Search { gateways, is_newest_first: after.is_none(), after, ..search(table, is) }
}

fn at_gateway(reader: &Reader, known: &Shown, death: &Death, uid: CardUid) -> Result<AtGateway, CenterError> {
    let Death { gateway, stream, revision, .. } = death;
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
    let revoked = found(reader, &search_at(Table::Audit, gateway, of_card("revoked"), None))?;
    if let Some((row, event)) = revoked.iter().find(|(_, event)| event.pointer(&pointer) == Some(&number)) {
        shown.by_audit(reader, row, event, uid)?;
        return Ok(shown);
    }
    let of_message =
        vec![("stream", stream.to_string()), ("epoch", revision.epoch.to_string()), ("seq", revision.seq.to_string())];
    let acks = found(reader, &search_at(Table::Ack, gateway, of_message, None))?;
    // The oldest ack is the last here.
    if let Some((_, ack)) = acks.iter().rev().find(|(_, ack)| known.counts(death, ack)) {
        shown.known_by = Some(KnownBy::Ack);
        (shown.dead_since, shown.received_at) = (field(ack, "received_at"), field(ack, "received_at"));
        shown.durable_at = field(ack, "durable_at");
        return Ok(shown);
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
        let durable = found(reader, &search_at(Table::Audit, &self.gateway, kind("revocation_durable"), Some(row.id)))?;
        let covers = |event: &Value| {
            event["from"].as_u64().is_some_and(|from| from <= n) && event["to"].as_u64().is_some_and(|to| n <= to)
        };
        self.durable_at = durable.iter().find(|(_, event)| covers(event)).and_then(|(_, event)| field(event, "at"));
        let mut of_card = kind("revocation_confirmed");
        of_card.push(("uid", uid.to_string()));
        let confirmed = found(reader, &search_at(Table::Audit, &self.gateway, of_card, Some(row.id)))?;
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
