//! The audit for the console: the newest first, exported, and one event with its place in the chain.

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream::unfold;
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::board::{Frame, list};
use super::card::named;
use super::guard::Caller;
use super::{Shared, asked, asked_in_part, wrong};
use crate::access::id::{HASH_PREFIX, PortalId};
use crate::http::api::{body, refuse};
use crate::http::audit::{Filter, PageFor};
use crate::store::{PAGE_BYTES_MAX, PAGE_EVENTS_MAX, Store, StoredEvent};
use crate::wire::audit::NO_HASH;
use crate::wire::text::hint;
use crate::wire::{csv, erased};

/// Events found for one answer.
pub const FOUND_MAX: usize = 100;
/// Events looked through for one answer; the next one goes on from there.
pub const SEARCHED_MAX: u64 = 20_000;
/// Events read at once.
const WINDOW: u64 = 500;

#[derive(Deserialize)]
struct SearchFor {
    /// Only events with a lower number.
    before: Option<u64>,
}

/// `{"first":1,"last":88213,"before":68214,"events":[…]}`: the newest first; `before` is where the next answer begins, absent at the
/// end.
pub(super) async fn search(State(console): State<Shared>, Extension(caller): Extension<Caller>, uri: Uri) -> Response {
    let before = match asked_in_part::<SearchFor>(&uri) {
        Ok(asked) => asked.before,
        Err(why) => return wrong(why),
    };
    let filter = match filter_of(&console, &uri, "before").await {
        Ok(filter) => filter,
        Err(refused) => return refused,
    };
    let Ok(_turn) = console.turns.acquire().await else { return stopping() };
    let (store, whole) = (console.pages.audit.clone(), caller.sees_uids());
    let found = tokio::task::spawn_blocking(move || found(&store, before, &filter, whole)).await;
    match found.map_err(|error| error.to_string()).and_then(|found| found) {
        Ok(text) => ([(header::CONTENT_TYPE, "application/json")], text).into_response(),
        Err(why) => unreadable(&why),
    }
}

fn found(store: &Store, before: Option<u64>, filter: &Filter, whole: bool) -> Result<String, String> {
    let (first, last) = (store.first().max(1), store.last_durable());
    let mut end = before.unwrap_or(u64::MAX).min(last.saturating_add(1)).max(first);
    let lowest = end.saturating_sub(SEARCHED_MAX).max(first);
    let mut events: Vec<Bytes> = Vec::new();
    while end > lowest && events.len() < FOUND_MAX {
        let begin = end.saturating_sub(WINDOW).max(lowest);
        let mut window = read(store, begin, end)?;
        while let Some(stored) = window.pop() {
            if filter.admits_bytes(&stored.json) {
                let n = stored.n;
                events.extend(seen(stored, filter, whole));
                if events.len() >= FOUND_MAX {
                    end = n;
                    break;
                }
            }
        }
        if events.len() < FOUND_MAX {
            end = begin;
        }
    }
    let before = if end > first { format!(r#","before":{end}"#) } else { String::new() };
    Ok(format!(r#"{{"first":{first},"last":{last}{before},"events":{}}}"#, list(events.iter())) + "\n")
}

/// An event that `filter` admits, as somebody sees it who sees whole UIDs or does not. Of one that is hidden from them no filter shows
/// what it is.
fn seen(stored: StoredEvent, filter: &Filter, whole: bool) -> Option<Bytes> {
    let (frame, _) = Frame::new(stored);
    (whole || !frame.is_hidden || filter.is_by_time()).then(|| frame.json(whole).clone())
}

/// The events from `begin` on below `end`.
fn read(store: &Store, begin: u64, end: u64) -> Result<Vec<StoredEvent>, String> {
    let mut events = Vec::new();
    store.each_blocking((begin, end), |event| events.push(event)).map_err(|error| error.to_string())?;
    Ok(events)
}

#[derive(Deserialize)]
struct ExportFor {
    format: Option<String>,
}

/// All events that the filter admits, oldest first: `format=csv` or `format=jsonl`. One page is in memory at a time, and the next is
/// read when the last was taken.
pub(super) async fn export(State(console): State<Shared>, Extension(caller): Extension<Caller>, uri: Uri) -> Response {
    let filter = match filter_of(&console, &uri, "format").await {
        Ok(filter) => std::sync::Arc::new(filter),
        Err(refused) => return refused,
    };
    let is_csv = match asked_in_part::<ExportFor>(&uri) {
        Ok(ExportFor { format }) => match format.as_deref() {
            Some("csv") => true,
            Some("jsonl") => false,
            _ => return wrong("`format`: `csv` or `jsonl` is wanted"),
        },
        Err(why) => return wrong(why),
    };
    let (kind, ending) = if is_csv { ("text/csv; charset=utf-8", "csv") } else { ("application/jsonl", "jsonl") };
    let disposition = format!("attachment; filename=\"{}-audit.{ending}\"", console.gateway);
    let (from, whole) = (console.pages.audit.first(), caller.sees_uids());
    let through = console.pages.audit.last_durable();
    let header = is_csv.then(|| Bytes::from(csv::header() + "\n"));
    let chunks = unfold((header, from, console, filter), move |(header, from, console, filter)| async move {
        if let Some(header) = header {
            return Some((Ok(header), (None, from, console, filter)));
        }
        if from > through {
            return None;
        }
        let _turn = console.turns.acquire().await.ok()?;
        let (store, wanted) = (console.pages.audit.clone(), std::sync::Arc::clone(&filter));
        let page = tokio::task::spawn_blocking(move || page(&store, (from, through), &wanted, (is_csv, whole))).await;
        // An export that ends early must not look whole: the connection breaks.
        match page.map_err(std::io::Error::other).and_then(|page| page) {
            Ok((text, next)) => Some((Ok(text), (None, next, console.clone(), filter))),
            Err(error) => Some((Err(error), (None, u64::MAX, console.clone(), filter))),
        }
    });
    let headers = [(header::CONTENT_TYPE, kind.to_owned()), (header::CONTENT_DISPOSITION, disposition)];
    (headers, Body::from_stream(chunks)).into_response()
}

/// The lines of one page, and where the next begins.
fn page(
    store: &Store,
    (from, through): (u64, u64),
    filter: &Filter,
    (is_csv, whole): (bool, bool),
) -> std::io::Result<(Bytes, u64)> {
    let events = store.read_blocking(from, PAGE_EVENTS_MAX, PAGE_BYTES_MAX)?;
    let next = events.last().map_or(u64::MAX, |event| event.n + 1);
    let mut lines = String::new();
    for stored in events.into_iter().filter(|event| event.n <= through && filter.admits_bytes(&event.json)) {
        let Some(json) = seen(stored, filter, whole) else { continue };
        let json = String::from_utf8_lossy(&json);
        lines.push_str(&if is_csv { csv::line(&json).map_err(std::io::Error::other)? } else { json.into_owned() });
        lines.push('\n');
    }
    Ok((lines.into(), next))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EventFor {
    n: u64,
}

/// `{"event":{…},"text":"…","hash":"…","before":"holds","after":"holds"}`: one event, its bytes as they are stored, and whether the
/// hashes agree with those of the events next to it: `holds`, `broken`, or `unknown` where the neighbour is not there. The hash is there
/// for those who see whole UIDs, for whom it is that of the text; of an event that was erased the text has it, since it is that of what was
/// erased.
pub(super) async fn event(State(console): State<Shared>, Extension(caller): Extension<Caller>, uri: Uri) -> Response {
    let n = match asked::<EventFor>(&uri) {
        Ok(asked) => asked.n,
        Err(why) => return wrong(why),
    };
    let store = console.pages.audit.clone();
    let Ok(_turn) = console.turns.acquire().await else { return stopping() };
    let read = tokio::task::spawn_blocking(move || read(&store, n.saturating_sub(1).max(1), n.saturating_add(2))).await;
    let events = match read.map_err(|error| error.to_string()).and_then(|read| read) {
        Ok(events) => events,
        Err(why) => return unreadable(&why),
    };
    let link = |n: u64| {
        let stored = events.iter().find(|event| event.n == n)?;
        erased::link(&stored.json).ok()
    };
    let of = |holds: Option<bool>| holds.map_or("unknown", |holds| if holds { "holds" } else { "broken" });
    let this = link(n);
    let before = this.as_ref().and_then(|this| match n {
        1 => Some(this.prev == NO_HASH),
        _ => link(n - 1).map(|before| before.hash == this.prev),
    });
    let after = this.as_ref().and_then(|this| link(n.saturating_add(1)).map(|after| after.prev == this.hash));
    let stored = events.iter().find(|event| event.n == n).cloned();
    let frame = stored.map(|stored| Frame::new(stored).0);
    let whole = caller.sees_uids();
    let Some(json) = frame.as_ref().map(|frame| frame.json(whole)) else {
        return refuse(
            StatusCode::NOT_FOUND,
            format!("event {n} is not in the journal: it is too old, lost, or not there yet"),
        );
    };
    match serde_json::from_slice::<&RawValue>(json) {
        Ok(event) => {
            let hash = this.filter(|this| whole && this.event.is_some()).map(|this| hex::encode(this.hash));
            let text = String::from_utf8_lossy(json);
            let mut answer = json!({ "event": event, "text": text, "before": of(before), "after": of(after) });
            if let (Some(fields), Some(hash)) = (answer.as_object_mut(), hash) {
                fields.insert("hash".to_owned(), hash.into());
            }
            body(&answer)
        }
        Err(error) => unreadable(&error.to_string()),
    }
}

/// What a filter may ask for.
const KEYS: [&str; 7] = ["portal", "uid", "holder", "type", "flag", "since", "until"];

/// The filter of a request, which may also have the key `other`. A key that nobody reads would look like a filter that admits all.
async fn filter_of(console: &Shared, uri: &Uri, other: &str) -> Result<Filter, Response> {
    let keys = asked::<Vec<(String, String)>>(uri).map_err(wrong)?;
    if let Some((key, _)) = keys.iter().find(|(key, _)| key != other && !KEYS.contains(&key.as_str())) {
        return Err(wrong(format!(
            "`{key}` is unknown; a filter has {}, and `{other}`",
            KEYS.map(|key| format!("`{key}`")).join(", ")
        )));
    }
    let mut page = asked_in_part::<PageFor>(uri).map_err(wrong)?;
    // A hash stands for itself.
    if let Some(text) = page.uid.as_deref().filter(|text| !text.starts_with(HASH_PREFIX)) {
        page.uid = Some(named(console, text).await?.to_string());
    }
    let filter = Filter::of(&page, &console.pages.audit).map_err(wrong)?;
    if let Some(portal) = &filter.portal {
        is_known(console, portal).await?;
    }
    Ok(filter)
}

/// Refuses a portal that neither the configuration nor any event names: an empty answer would look like a quiet portal.
async fn is_known(console: &Shared, portal: &PortalId) -> Result<(), Response> {
    if console.portals.iter().any(|known| known.id == *portal) {
        return Ok(());
    }
    let _turn = console.turns.acquire().await.map_err(|_| stopping())?;
    let (store, gone) = (console.pages.audit.clone(), Filter::at(portal.clone()));
    let named = tokio::task::spawn_blocking(move || names(&store, &gone)).await;
    if named.map_err(|error| error.to_string()).and_then(|named| named).map_err(|why| unreadable(&why))? {
        return Ok(());
    }
    let hint = hint(portal.as_str(), console.portals.iter().map(|known| known.id.as_str()));
    Err(wrong(format!("no event names `{portal}`, and no portal is called so; {hint}")))
}

/// Whether the filter admits any event. The newest first: what is asked for is seldom long ago.
fn names(store: &Store, filter: &Filter) -> Result<bool, String> {
    let first = store.first().max(1);
    let mut end = store.last_durable().saturating_add(1);
    while end > first {
        let begin = end.saturating_sub(WINDOW).max(first);
        if read(store, begin, end)?.iter().any(|stored| filter.admits_bytes(&stored.json)) {
            return Ok(true);
        }
        end = begin;
    }
    Ok(false)
}

fn stopping() -> Response {
    refuse(StatusCode::SERVICE_UNAVAILABLE, "the gateway is stopping")
}

fn unreadable(why: &str) -> Response {
    refuse(StatusCode::INTERNAL_SERVER_ERROR, format!("the audit cannot be read: {why}"))
}
