//! Whole lists: `POST /v1/list` loads one, `GET /v1/gateways/G/list` gives the one that a gateway has when it has everything.

use std::collections::BTreeMap;

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;

use super::super::sheet::{Enrolments, ROWS_MAX};
use super::super::{CenterError, Plan};
use super::auth::Client;
use super::bodies::{PlanBody, Planned};
use super::changes::{Request, Wait, What, gateway, members_of};
use super::failure::Failure;
use super::{LIST_BYTES_MAX, Shared, json};
use crate::access::credential::Enrolment;
use crate::access::id::CardUid;
use crate::clock::Clock;
use crate::wire::allowed::{AllowedOps, OpName};
use crate::wire::claims::Members;
use crate::wire::digest;
use crate::wire::ops::read_enrolments;
use crate::wire::snapshot::write_entries;

/// What the body of a list has.
struct ListBody {
    members: Members,
    list: Enrolments,
    allow_shrink: bool,
    dry_run: bool,
}

pub(super) async fn load(
    State(api): State<Shared>,
    client: Client,
    wait: Result<Query<Wait>, QueryRejection>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Failure> {
    let _room = api.lists.try_acquire().map_err(|_| Failure::busy())?;
    let within = Wait::within(wait, 0)?;
    client.loads(api.streams.iter().find(|stream| stream.allowed.contains(OpName::Enrol)))?;
    let body = body.map_err(|error| {
        let what =
            format!("{}; a list has at most {LIST_BYTES_MAX} bytes, load that of one building", error.body_text());
        Failure::new(error.status(), "too_large", what)
    })?;
    // A long list takes a while to read, and other requests go on meanwhile.
    let bytes = body.clone();
    let read = tokio::task::spawn_blocking(move || read(&bytes)).await;
    let ListBody { members, list, allow_shrink, dry_run } = read.map_err(|_| Failure::from(CenterError::Stopped))??;
    let to = gateway(&api, &client, &members)?;
    if dry_run {
        let now = Clock::system().now().wall;
        let plan: Plan = api.service.ask(move |center| center.plan(to.as_ref(), &list, now)).await??;
        let plan = Planned::of(&plan).map_err(|error| Failure::from(CenterError::Write(error)))?;
        return Ok(json(StatusCode::OK, &PlanBody { plan }));
    }
    let request = Request::new(&client, &headers, (to, What::List(list, allow_shrink)), &body)?;
    request.carry_out(&api, &client, within).await
}

fn read(body: &[u8]) -> Result<ListBody, Failure> {
    let members = members_of(body, &["gateway", "cards", "allow_shrink", "dry_run"])?;
    let cards =
        members.get("cards").ok_or_else(|| Failure::field("cards", "`cards` is missing; give a list of them"))?;
    let cards = read_enrolments(cards).map_err(|errors| Failure::ops(&errors))?;
    let empty = "`cards` is empty, and every card would be withdrawn; give those that are to open something";
    if cards.is_empty() {
        return Err(Failure::field("cards", empty));
    }
    if cards.len() > ROWS_MAX {
        let what = format!("`cards` has more than {ROWS_MAX} cards; load the list of one building");
        return Err(Failure::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", what));
    }
    let (allow_shrink, dry_run) = (flag(&members, "allow_shrink")?, flag(&members, "dry_run")?);
    Ok(ListBody { list: without_twice(cards)?, members, allow_shrink, dry_run })
}

fn flag(members: &Members, key: &str) -> Result<bool, Failure> {
    match members.get(key) {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(Failure::field(key, format!("`{key}` is `true` or `false`"))),
    }
}

fn without_twice(cards: Vec<(CardUid, Enrolment)>) -> Result<Enrolments, Failure> {
    let mut places: BTreeMap<CardUid, usize> = BTreeMap::new();
    let mut list = Enrolments::new();
    for (place, (uid, enrolment)) in cards.into_iter().enumerate() {
        if let Some(first) = places.insert(uid, place) {
            let field = format!("cards[{place}].uid");
            let what = format!("`{field}`: card {uid} stands at `cards[{first}]` already; a card has one entry");
            return Err(Failure::field(&field, what));
        }
        list.insert(uid, enrolment);
    }
    Ok(list)
}

pub(super) async fn whole(
    State(api): State<Shared>,
    client: Client,
    Path(name): Path<String>,
) -> Result<Response, Failure> {
    let _room = api.lists.try_acquire().map_err(|_| Failure::busy())?;
    client.reads()?;
    let wanted = api.known(&name)?;
    client.needs(&wanted)?;
    let list = api.service.ask(move |center| center.whole_list(&wanted)).await?;
    let entries = tokio::task::spawn_blocking(move || {
        write_entries(&list.snapshot(&digest::registers_of(AllowedOps::all()))).map_err(CenterError::Write)
    });
    let entries = entries.await.map_err(|_| Failure::from(CenterError::Stopped))??;
    Ok(json(StatusCode::OK, &BTreeMap::from([("entries", entries)])))
}
