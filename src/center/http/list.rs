//! Whole lists: `POST /v1/list` and `/v1/sheet` load one, `GET /v1/gateways/G/list` gives the one that a gateway has when it has everything.

use std::collections::BTreeMap;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde::Deserialize;

use super::super::CenterError;
use super::super::sheet::{self, Enrolments, ROWS_MAX, Reading};
use super::auth::{Client, MayRead};
use super::bodies::{PlanBody, Planned};
use super::changes::{Request, Wait, What, gateway, members_of};
use super::failure::Failure;
use super::queried::Queried;
use super::{LIST_BYTES_MAX, Shared, blocking, fields, json};
use crate::access::credential::Enrolment;
use crate::access::id::{CardUid, GatewayId};
use crate::wire::allowed::{AllowedOps, OpName};
use crate::wire::claims::Members;
use crate::wire::digest;
use crate::wire::ops::read_enrolments;
use crate::wire::snapshot::write_entries;

/// What the body of a list has.
pub(super) struct ListBody {
    members: Members,
    list: Enrolments,
    allow_shrink: bool,
    dry_run: bool,
}

pub(super) async fn load(
    State(api): State<Shared>,
    client: Client,
    wait: Result<Queried<Wait>, Failure>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Failure> {
    let _room = api.lists.try_acquire().map_err(|_| Failure::busy())?;
    let within = Wait::within(wait, 0)?;
    client.loads(api.streams.iter().find(|stream| stream.allowed.contains(OpName::Enrol)))?;
    let body = whole_body(body)?;
    // A long list takes a while to read, and other requests go on meanwhile.
    let bytes = body.clone();
    let ListBody { members, list, allow_shrink, dry_run } = blocking(move || read(&bytes)).await??;
    let to = gateway(&api, &client, &members)?;
    if dry_run {
        return planned(&api, to, list).await;
    }
    let request = Request::new(&client, &headers, (to, What::List(list, allow_shrink)), &[&body])?;
    request.carry_out(&api, &client, within).await
}

/// What a list would change.
pub(super) async fn planned(api: &Shared, to: Option<GatewayId>, list: Enrolments) -> Result<Response, Failure> {
    let plan = api.service.plan(to.as_ref(), list).await?;
    let plan = Planned::of(&plan).map_err(|error| Failure::from(CenterError::Write(error)))?;
    Ok(json(StatusCode::OK, &PlanBody { plan }))
}

/// What the query of a sheet may have.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SheetFor {
    gateway: Option<String>,
    #[serde(default)]
    dry_run: bool,
    #[serde(default)]
    allow_shrink: bool,
    /// Columns to pass over, separated by commas.
    #[serde(default)]
    ignore: String,
    wait_ms: Option<u64>,
}

/// `POST /v1/sheet`: a whole list as the CSV that `deploy/cards.md` describes.
pub(super) async fn sheet(
    State(api): State<Shared>,
    client: Client,
    asked: Result<Queried<SheetFor>, Failure>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Failure> {
    let _room = api.lists.try_acquire().map_err(|_| Failure::busy())?;
    let Queried(asked) = asked?;
    let within = Wait { wait_ms: asked.wait_ms }.time(0)?;
    client.loads(api.streams.iter().find(|stream| stream.allowed.contains(OpName::Enrol)))?;
    let to = asked.gateway.as_deref().map(|name| api.known(name)).transpose()?;
    to.as_ref().map_or(Ok(()), |gateway| client.needs(gateway))?;
    let body = whole_body(body)?;
    let ignored = asked.ignore.split([',', '，']).map(str::trim).filter(|name| !name.is_empty());
    let reading = Reading { timezone: api.timezone.clone(), ignored: ignored.map(str::to_owned).collect() };
    let bytes = body.clone();
    let list = blocking(move || sheet::read(&bytes, &reading)).await?.map_err(Failure::sheet)?.enrolments;
    if asked.dry_run {
        return planned(&api, to, list).await;
    }
    let gateway = asked.gateway.unwrap_or_default();
    let shrink: &[u8] = if asked.allow_shrink { b"1" } else { b"0" };
    let same: [&[u8]; 5] = [gateway.as_bytes(), b"\n", shrink, asked.ignore.as_bytes(), &body];
    let request = Request::new(&client, &headers, (to, What::List(list, asked.allow_shrink)), &same)?;
    request.carry_out(&api, &client, within).await
}

fn whole_body(body: Result<Bytes, BytesRejection>) -> Result<Bytes, Failure> {
    body.map_err(|error| {
        let what =
            format!("{}; a list has at most {LIST_BYTES_MAX} bytes, load that of one building", error.body_text());
        Failure::new(error.status(), "too_large", what)
    })
}

pub(super) fn read(body: &[u8]) -> Result<ListBody, Failure> {
    let members = members_of(body, &["gateway", "cards", "allow_shrink", "dry_run"])?;
    let text = members.get("cards").filter(|text| text.starts_with('['));
    let text = text.ok_or_else(|| Failure::field("cards", "`cards` is missing; give a list of them"))?;
    let cards = read_enrolments(text).map_err(|errors| Failure::ops(&errors))?;
    fields::of_cards(text)?;
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
    MayRead(client): MayRead,
    Path(name): Path<String>,
) -> Result<Response, Failure> {
    let _room = api.lists.try_acquire().map_err(|_| Failure::busy())?;
    let wanted = api.known(&name)?;
    client.needs(&wanted)?;
    let list = api.service.ask(move |center| center.whole_list(&wanted)).await?;
    let entries = blocking(move || {
        write_entries(&list.snapshot(&digest::registers_of(AllowedOps::all()))).map_err(CenterError::Write)
    });
    let entries = entries.await??;
    Ok(json(StatusCode::OK, &BTreeMap::from([("entries", entries)])))
}
