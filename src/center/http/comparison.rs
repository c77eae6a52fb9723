//! `POST /v1/gateways/G/compare` and `GET /v1/gateways/G/behind`: how a gateway stands to what was published to it.

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;

use super::auth::{Client, MayRead};
use super::bodies::{Behind, BehindMessage, Compared};
use super::changes::members;
use super::failure::Failure;
use super::queried::Queried;
use super::{Shared, json};
use crate::access::engine::StreamStatus;
use crate::access::id::{GatewayId, StreamName};
use crate::wire::state::{self, Presence};

fn wanted(api: &Shared, client: &Client, name: &str) -> Result<GatewayId, Failure> {
    let gateway = api.known(name)?;
    client.needs(&gateway)?;
    Ok(gateway)
}

pub(super) async fn compare(
    State(api): State<Shared>,
    MayRead(client): MayRead,
    Path(name): Path<String>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Failure> {
    let gateway = wanted(&api, &client, &name)?;
    let (members, _) = members(body, &["streams"])?;
    let statuses: Vec<StreamStatus> = match members.get("streams") {
        Some(streams) => serde_json::from_str(streams).map_err(|error| {
            Failure::field("streams", format!("`streams`: {error}; give the `streams` of the gateway's state"))
        })?,
        None => newest(&api, &gateway).await?,
    };
    let streams = api.service.ask(move |center| center.agreements(&gateway, &statuses)).await??;
    Ok(json(StatusCode::OK, &Compared { streams }))
}

/// The streams in the newest state that is kept of a gateway. The state of one that is gone has none.
async fn newest(api: &Shared, gateway: &GatewayId) -> Result<Vec<StreamStatus>, Failure> {
    let states = api.read(|reader| reader.states()).await?;
    let row = states.into_iter().find(|row| row.gateway == gateway.as_str());
    let state = row.and_then(|row| state::decode(row.body.as_bytes()).ok());
    let streams = state.filter(|state| state.state == Presence::Online).map(|state| state.streams);
    streams.ok_or_else(|| {
        let what = format!("no state of `{gateway}` is kept, or it is not there; give the `streams` of its state");
        Failure::field("streams", what)
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct After {
    stream: StreamName,
    seq: u64,
}

pub(super) async fn behind(
    State(api): State<Shared>,
    MayRead(client): MayRead,
    Path(name): Path<String>,
    after: Result<Queried<After>, Failure>,
) -> Result<Response, Failure> {
    let gateway = wanted(&api, &client, &name)?;
    let Queried(After { stream, seq }) = after?;
    let found = api.service.ask(move |center| center.messages_behind(&gateway, &stream, seq)).await??;
    let messages = found.map(|all| all.into_iter().map(|(at, content)| BehindMessage { at, content }).collect());
    Ok(json(StatusCode::OK, &Behind { messages }))
}
