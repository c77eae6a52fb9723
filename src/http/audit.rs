//! The audit in pages, for `audit tail` and `audit export`. A page is read, filtered and written on another thread, and is bounded in
//! events and bytes: whoever reads a million events holds neither the gateway's task nor its memory.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Deserialize;
use tokio::sync::Semaphore;

use super::api::{Asked, bare, refuse};
use crate::access::decision::GrantFlag;
use crate::access::event::{AuditEvent, EventKind};
use crate::access::id::{CardUid, Holder, PortalId, Timestamp};
use crate::store::{PAGE_BYTES_MAX, PAGE_EVENTS_MAX, Store};
use crate::wire::audit::decode;
use crate::wire::text::hint;

/// Pages read at once; more wait.
const PAGES_AT_ONCE: usize = 2;

/// The store, and whose turn it is to read it.
#[derive(Clone)]
struct Source {
    store: Store,
    turns: Arc<Semaphore>,
}

pub(super) fn routes(store: Store) -> Router {
    let source = Source { store, turns: Arc::new(Semaphore::new(PAGES_AT_ONCE)) };
    Router::new().route("/api/v1/audit", get(page)).route("/api/v1/inventory", bare(get(inventory))).with_state(source)
}

#[derive(Deserialize)]
pub(super) struct PageFor {
    /// The first event; without it the first that is kept.
    from: Option<u64>,
    /// Begin so many numbers before the end.
    back: Option<u64>,
    portal: Option<String>,
    pub(super) uid: Option<String>,
    holder: Option<String>,
    /// Comma-separated.
    #[serde(rename = "type")]
    kinds: Option<String>,
    flag: Option<String>,
    since: Option<String>,
    until: Option<String>,
}

/// Which events are wanted.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Filter {
    pub(super) portal: Option<PortalId>,
    uid: Option<CardUid>,
    /// The hash of `uid`, where the audit has hashes.
    hashed: Option<CardUid>,
    holder: Option<Holder>,
    kinds: Vec<EventKind>,
    /// Of a decision.
    flag: Option<String>,
    /// Inclusive.
    since: Option<Timestamp>,
    /// Exclusive.
    until: Option<Timestamp>,
}

fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(key: &str, text: Option<&str>) -> Result<Option<T>, String> {
    text.map(|text| text.parse().map_err(|error| format!("`{key}` `{text}`: {error}"))).transpose()
}

impl Filter {
    /// All that is of this portal.
    pub(super) fn at(portal: PortalId) -> Self {
        Self { portal: Some(portal), ..Self::default() }
    }

    pub(super) fn of(asked: &PageFor, store: &Store) -> Result<Self, String> {
        let uid = asked.uid.as_deref().map(|text| CardUid::parse_audited(text).map_err(|e| format!("`{text}`: {e}")));
        let kind = |name: &str| {
            let known = EventKind::ALL.iter().copied().find(|kind| kind.as_str() == name);
            let hint = || hint(name, EventKind::ALL.iter().map(|kind| kind.as_str()));
            known.ok_or_else(|| format!("`type`: `{name}` is not a type of audit event; {}", hint()))
        };
        let kinds = asked.kinds.iter().flat_map(|kinds| kinds.split(',')).filter(|name| !name.is_empty());
        if let Some(name) = asked.flag.as_deref().filter(|name| GrantFlag::parse(name).is_none()) {
            let hint = hint(name, GrantFlag::ALL.iter().map(|flag| flag.as_str()));
            return Err(format!("`flag`: `{name}` is not a flag of decisions; {hint}"));
        }
        if asked.from.is_some() && asked.back.is_some() {
            return Err("`from` and `back`: give one of them".to_owned());
        }
        let uid = uid.transpose().map_err(|error| format!("`uid` {error}"))?;
        let since: Option<Timestamp> = parsed("since", asked.since.as_deref())?;
        let until: Option<Timestamp> = parsed("until", asked.until.as_deref())?;
        if since.zip(until).is_some_and(|(since, until)| since > until) {
            return Err(
                "`since` is later than `until`, so there is nothing: exchange them, or leave one out".to_owned()
            );
        }
        Ok(Self {
            portal: parsed("portal", asked.portal.as_deref())?,
            hashed: uid.map(|uid| store.hash_of(uid)),
            uid,
            holder: parsed("holder", asked.holder.as_deref())?,
            kinds: kinds.map(kind).collect::<Result<_, _>>()?,
            flag: asked.flag.clone(),
            since,
            until,
        })
    }

    /// Whether these are the bytes of an event that is wanted. What this version cannot read, and what was erased, is for nobody's
    /// filter.
    pub(super) fn admits_bytes(&self, json: &[u8]) -> bool {
        *self == Self::default() || decode(json).is_ok_and(|decoded| self.admits(&decoded.event))
    }

    /// Whether it asks for nothing but times.
    pub(super) fn is_by_time(&self) -> bool {
        let Self { since, until, .. } = *self;
        *self == Self { since, until, ..Self::default() }
    }

    fn admits(&self, event: &AuditEvent) -> bool {
        let body = &event.body;
        self.portal.as_ref().is_none_or(|portal| body.portal() == Some(portal))
            && self.uid.is_none_or(|uid| body.uid() == Some(uid) || self.hashed.is_some() && body.uid() == self.hashed)
            && self.holder.as_ref().is_none_or(|holder| body.holder() == Some(holder))
            && (self.kinds.is_empty() || self.kinds.contains(&event.kind()))
            && self.flag.as_ref().is_none_or(|flag| body.flags().iter().any(|set| set.as_str() == flag))
            && self.since.is_none_or(|since| event.at >= since)
            && self.until.is_none_or(|until| event.at < until)
    }
}

/// What the store holds now, for `dormgate backup`.
async fn inventory(State(source): State<Source>) -> Response {
    let store = source.store.clone();
    let listed = tokio::task::spawn_blocking(move || serde_json::to_vec(&store.inventory())).await;
    match listed.map_err(|error| error.to_string()).and_then(|listed| listed.map_err(|error| error.to_string())) {
        Ok(body) => ([(header::CONTENT_TYPE, "application/json")], body).into_response(),
        Err(why) => refuse(StatusCode::INTERNAL_SERVER_ERROR, format!("the store cannot be listed: {why}")),
    }
}

async fn page(State(source): State<Source>, Asked(asked): Asked<PageFor>) -> Response {
    let filter = match Filter::of(&asked, &source.store) {
        Ok(filter) => filter,
        Err(message) => return refuse(StatusCode::BAD_REQUEST, message),
    };
    let Ok(_turn) = source.turns.acquire().await else {
        return refuse(StatusCode::SERVICE_UNAVAILABLE, "the gateway is stopping");
    };
    let (store, from, back) = (source.store.clone(), asked.from, asked.back);
    let read = tokio::task::spawn_blocking(move || read(&store, (from, back), &filter)).await;
    match read.unwrap_or_else(|error| Err(error.to_string())) {
        Ok(body) => ([(header::CONTENT_TYPE, "application/json")], body).into_response(),
        Err(why) => refuse(StatusCode::INTERNAL_SERVER_ERROR, format!("the audit cannot be read: {why}")),
    }
}

/// `{"first":1,"last":88213,"next":1001,"events":[…]}`: the first and the last event kept, and where the next page begins; behind
/// `last`: this was the last page. The events are the bytes that were chained.
fn read(store: &Store, (from, back): (Option<u64>, Option<u64>), filter: &Filter) -> Result<Vec<u8>, String> {
    let (first, last) = (store.first(), store.last_durable());
    let begin = back.map_or(1, |back| (last + 1).saturating_sub(back));
    let from = from.unwrap_or(begin).max(first);
    let events = store.read_blocking(from, PAGE_EVENTS_MAX, PAGE_BYTES_MAX).map_err(|error| error.to_string())?;
    let next = events.last().map_or(from.max(last + 1), |event| event.n + 1);
    let mut body = format!(r#"{{"first":{first},"last":{last},"next":{next},"events":["#).into_bytes();
    let mut is_first = true;
    for event in &events {
        if filter.admits_bytes(&event.json) {
            if !std::mem::take(&mut is_first) {
                body.push(b',');
            }
            body.extend_from_slice(&event.json);
        }
    }
    body.extend_from_slice(b"]}\n");
    Ok(body)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::access::credential::Role;
    use crate::access::decision::{GrantReason, Reasons};
    use crate::access::event::{Event, Flush, Mark, Outcome, Record, Who};
    use crate::access::id::{ClockTrust, Mono, Now};
    use crate::access::state::State;
    use crate::store::{MemoryDisk, Options, Store};

    const BEGIN_MS: i64 = 1_788_249_600_000;

    /// Events 1 to `last`, a second apart: each third not taken at the gate, by a card and holder of its own; 5 is missing.
    fn store(last: u64) -> Store {
        let (store, _, _, mut disk) = Store::open_in_memory::<State>(&MemoryDisk::new(), Options::default()).unwrap();
        let record = |n: u64| {
            let body = if n.is_multiple_of(3) {
                let who = Who { uid: Some("1EA68671".parse().unwrap()), holder: Some("p1".parse().unwrap()) };
                Event::NotTaken { portal: "gate-in".parse().unwrap(), who, detail: String::new() }
            } else if n == 7 || n == 8 {
                let (who, outcome) = (Who::default(), Outcome::Grant(GrantReason::Granted));
                let flags = if n == 7 { GrantFlag::Late | GrantFlag::StaleList } else { GrantFlag::StaleList.into() };
                Event::Decision {
                    portal: None,
                    who,
                    role: Role::default(),
                    outcome,
                    also: Reasons::empty(),
                    flags,
                    direction: None,
                    detail: String::new(),
                }
            } else {
                Event::Config { mark: Mark::Note, detail: "x".repeat(500) }
            };
            let wall = Timestamp(BEGIN_MS + i64::try_from(n).unwrap() * 1000);
            let now = Now { wall, mono: Mono(n), clock: ClockTrust::Trusted };
            Record { event: AuditEvent::new(n, "b", now, body), evidence: Vec::new(), flush: Flush::Soon }
        };
        store.append((1..=last).filter(|n| *n != 5).map(record).collect());
        disk.flush();
        store
    }

    fn asked(query: &str) -> PageFor {
        let uri: axum::http::Uri = format!("/?{query}").parse().unwrap();
        crate::browser::query::read(&uri).unwrap()
    }

    /// All pages: the numbers, and how many pages.
    fn all(store: &Store, query: &str) -> (Vec<u64>, usize) {
        let asked = asked(query);
        let filter = Filter::of(&asked, store).unwrap();
        let (mut from, mut back, mut numbers, mut pages) = (asked.from, asked.back, Vec::new(), 0);
        loop {
            let body = read(store, (from, back), &filter).unwrap();
            assert!(body.len() <= PAGE_BYTES_MAX + 4096, "{}", body.len());
            let page: Value = serde_json::from_slice(&body).unwrap();
            let events = page["events"].as_array().unwrap();
            assert!(events.len() <= PAGE_EVENTS_MAX);
            numbers.extend(events.iter().map(|event| event["n"].as_u64().unwrap()));
            pages += 1;
            (from, back) = (page["next"].as_u64(), None);
            if from > page["last"].as_u64() {
                return (numbers, pages);
            }
        }
    }

    #[test]
    fn pages_are_bounded_and_together_they_are_all_that_the_filter_admits() {
        let store = store(3000);
        let every: Vec<u64> = (1..=3000).filter(|n| *n != 5).collect();
        let thirds: Vec<u64> = (3..=3000).step_by(3).collect();
        let (numbers, pages) = all(&store, "");
        assert_eq!(numbers, every);
        assert!(pages > 3);
        for query in ["portal=gate-in", "uid=1e:a6:86:71", "holder=p1", "type=not_taken", "type=taken,not_taken"] {
            assert_eq!(all(&store, query).0, thirds, "{query}");
        }
        assert_eq!((all(&store, "flag=late").0, all(&store, "flag=stale_list").0), (vec![7], vec![7, 8]));
        assert_eq!(all(&store, "back=4").0, [2997, 2998, 2999, 3000]);
        assert_eq!(all(&store, "from=2999&uid=1EA68671").0, [3000]);
        let between = "since=2026-09-01T16:00:10%2B08:00&until=2026-09-01T08:00:12.000Z";
        assert_eq!(all(&store, between).0, [10, 11]);
        assert_eq!(all(&store, "from=9999").0, [0_u64; 0]);
        assert_eq!(all(&store, "uid=DEADBEEF").0, [0_u64; 0]);
    }

    #[test]
    fn a_filter_that_cannot_be_read_is_named() {
        for (query, part) in [
            ("uid=12", "`uid` `12`"),
            ("portal=a%20b", "`portal` `a b`"),
            ("type=revokes", "`revokes` is not a type"),
            ("flag=early", "`early` is not a flag"),
            ("since=yesterday", "`since` `yesterday`"),
            ("since=2026-09-02T00:00:00.000Z&until=2026-09-01T00:00:00.000Z", "`since` is later than `until`"),
        ] {
            let refused = Filter::of(&asked(query), &store(1)).unwrap_err();
            assert!(refused.contains(part), "{refused}");
        }
    }
}
