//! `GET /v1/acks`, `/v1/alarms`, `/v1/audit` and `/v1/changes`: searches, page by page.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::super::database::{Row, Search, Table};
use super::auth::{Client, MayRead};
use super::failure::Failure;
use super::queried::Queried;
use super::{Shared, json};
use crate::access::effect::Outcome;
use crate::access::event::EventKind;
use crate::access::id::{CardUid, Timestamp};
use crate::wire::text::hint;
use crate::wire::topic::CAMPUS;

/// Most rows of a page.
const PAGE_MAX: usize = 1_000;
/// Rows of a page when the client names none.
const PAGE: usize = 100;

/// What a search may name.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    gateway: Option<String>,
    portal: Option<String>,
    uid: Option<String>,
    holder: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    stream: Option<String>,
    seq: Option<u64>,
    outcome: Option<String>,
    from: Option<String>,
    to: Option<String>,
    order: Option<String>,
    cursor: Option<i64>,
    limit: Option<usize>,
}

/// A page of what was found.
#[derive(Serialize)]
struct Page {
    items: Vec<Item>,
    /// To be given as `cursor` for the next page; absent: this is the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<i64>,
}

#[derive(Serialize)]
struct Item {
    gateway: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    received_at: Option<Timestamp>,
    /// As the gateway published it.
    item: Box<RawValue>,
}

type Wanted = Result<Queried<Asked>, Failure>;

pub(super) async fn acks(State(api): State<Shared>, client: MayRead, asked: Wanted) -> Result<Response, Failure> {
    page(&api, client, asked, Table::Ack, &["stream", "seq", "outcome"]).await
}

pub(super) async fn alarms(State(api): State<Shared>, client: MayRead, asked: Wanted) -> Result<Response, Failure> {
    page(&api, client, asked, Table::Alarm, &[]).await
}

pub(super) async fn audit(State(api): State<Shared>, client: MayRead, asked: Wanted) -> Result<Response, Failure> {
    page(&api, client, asked, Table::Audit, &["portal", "uid", "holder", "type"]).await
}

pub(super) async fn changes(State(api): State<Shared>, client: MayRead, asked: Wanted) -> Result<Response, Failure> {
    page(&api, client, asked, Table::Message, &["uid", "holder"]).await
}

async fn page(
    api: &Shared,
    MayRead(client): MayRead,
    asked: Wanted,
    table: Table,
    columns: &[&str],
) -> Result<Response, Failure> {
    let Queried(asked) = asked?;
    let search = asked.search(&client, table, columns)?;
    let most = search.most;
    let is_audit = table == Table::Audit;
    let rows = api.read(move |reader| reader.search(&search)).await?;
    let cursor = rows.last().filter(|_| rows.len() == most).map(|row| row.id);
    let item = |row: Row| {
        let item = RawValue::from_string(row.body).ok()?;
        // When it was received, or published.
        Some(Item { gateway: row.gateway, received_at: (!is_audit).then_some(Timestamp(row.at)), item })
    };
    Ok(json(StatusCode::OK, &Page { items: rows.into_iter().filter_map(item).collect(), cursor }))
}

/// The types of audit events.
fn kinds() -> impl Iterator<Item = &'static str> + Clone {
    EventKind::ALL.iter().map(|kind| kind.as_str())
}

impl Asked {
    fn search(self, client: &Client, table: Table, columns: &[&str]) -> Result<Search, Failure> {
        // As the gateways write it, so that `1e:a6:86:71` is found.
        let uid =
            self.uid.map(|text| text.parse::<CardUid>().map_err(|e| Failure::field("uid", format!("`{text}`: {e}"))));
        let uid = uid.transpose()?.map(|uid| uid.to_string());
        let outcome = self.outcome.as_deref().map(|outcome| {
            let what = "`outcome` is `applied`, `duplicate`, `stale` or `rejected`";
            Outcome::parse(outcome).map(|_| ()).ok_or_else(|| Failure::field("outcome", what))
        });
        outcome.transpose()?;
        if let Some(kind) = self.kind.as_deref().filter(|_| columns.contains(&"type"))
            && !kinds().any(|known| known == kind)
        {
            let what = format!("`type`: `{kind}` is not a type of audit event; {}", hint(kind, kinds()));
            return Err(Failure::field("type", what));
        }
        let named = [
            ("portal", self.portal),
            ("uid", uid),
            ("holder", self.holder),
            ("type", self.kind),
            ("stream", self.stream),
            ("seq", self.seq.map(|seq| seq.to_string())),
            ("outcome", self.outcome),
        ];
        let mut is = Vec::new();
        for (column, value) in named {
            let Some(value) = value else { continue };
            if !columns.contains(&column) {
                return Err(Failure::field(column, format!("`{column}` is not searched here")));
            }
            is.push((column, value));
        }
        // What goes to the whole campus goes to each gateway.
        let with_campus = |gateway: String| {
            let campus = (table == Table::Message).then(|| CAMPUS.to_owned());
            std::iter::once(gateway).chain(campus).collect::<Vec<_>>()
        };
        let gateways = match self.gateway {
            Some(gateway) => {
                let allowed = client.spec.gateways.as_ref().is_none_or(|own| own.iter().any(|g| g.as_str() == gateway));
                if !allowed {
                    let message = format!("`{gateway}` is not among the `gateways` of client `{}`", client.spec.name);
                    return Err(Failure::forbidden("forbidden_gateway", message));
                }
                Some(with_campus(gateway))
            }
            None => {
                client.spec.gateways.as_ref().map(|own| own.iter().flat_map(|g| with_campus(g.to_string())).collect())
            }
        };
        let most = self.limit.unwrap_or(PAGE);
        if most == 0 || most > PAGE_MAX {
            return Err(Failure::field("limit", format!("`limit` is 1 to {PAGE_MAX}")));
        }
        let is_newest_first = match self.order.as_deref() {
            None | Some("asc") => false,
            Some("desc") => true,
            Some(_) => return Err(Failure::field("order", "`order` is `asc` (default) or `desc`")),
        };
        let time = |key: &str, text: Option<String>| {
            let parse =
                |text: String| text.parse::<Timestamp>().map_err(|e| Failure::field(key, format!("`{text}`: {e}")));
            text.map(parse).transpose().map(|at| at.map(|at| at.0))
        };
        let (from, to) = (time("from", self.from)?, time("to", self.to)?);
        Ok(Search { table, is, gateways, from, to, is_newest_first, after: self.cursor, most })
    }
}
