//! `GET /v1/events`: what happens, as server-sent events. The last of them stay in memory, so that a client that was away goes on
//! where it stopped; one that was away for longer is sent `missed` and looks into `/v1/audit`, `/v1/acks` and `/v1/alarms`.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::stream::{Stream, unfold};
use serde_json::{Value, json};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast, watch};

use super::super::{GatewayEvent, Report};
use super::Shared;
use super::auth::{Client, Clients, MayRead};
use super::failure::Failure;
use super::metrics::Metrics;
use crate::access::event::AuditEvent;
use crate::access::id::GatewayId;
use crate::clock::Clock;
use crate::lock;

/// Events kept for clients that come back.
const EVENTS_MAX: usize = 10_000;
/// Clients that receive events at once.
const LISTENERS_MAX: usize = 64;
/// Time between two comments that keep a connection open, in seconds.
const KEEP_ALIVE_S: u64 = 15;

struct Kept {
    n: u64,
    gateway: Option<GatewayId>,
    kind: &'static str,
    /// `{"gateway":G?,"data":…}`
    data: String,
}

#[derive(Default)]
struct Ring {
    events: VecDeque<Arc<Kept>>,
    last: u64,
}

/// The last events, numbered from 1 since the start of the program.
pub(super) struct EventLog {
    /// Distinguishes the numbers of one run from those of another.
    run: i64,
    ring: Mutex<Ring>,
    newest: watch::Sender<u64>,
    /// Open while there is a task that collects.
    collects: watch::Receiver<()>,
    /// The [`LISTENERS_MAX`] places.
    listeners: Arc<Semaphore>,
}

impl EventLog {
    /// Collects `reports` in a task of its own.
    pub(super) fn start(mut reports: broadcast::Receiver<Report>, metrics: Metrics, clock: &Clock) -> Arc<Self> {
        let (collecting, collects) = watch::channel(());
        let log = Arc::new(Self {
            run: clock.now().wall.0,
            ring: Mutex::default(),
            newest: watch::Sender::new(0),
            collects,
            listeners: Arc::new(Semaphore::new(LISTENERS_MAX)),
        });
        let collected = Arc::clone(&log);
        tokio::spawn(async move {
            let _collecting = collecting;
            loop {
                match reports.recv().await {
                    Ok(report) => {
                        metrics.count(&report);
                        if let Some((kind, data)) = shown(&report.event) {
                            collected.push(report.gateway, kind, &data);
                        }
                    }
                    Err(RecvError::Lagged(missed)) => {
                        collected.push(None, "missed", &json!({ "events": missed }));
                    }
                    Err(RecvError::Closed) => return,
                }
            }
        });
        log
    }

    fn push(&self, gateway: Option<GatewayId>, kind: &'static str, data: &Value) {
        let data = match &gateway {
            Some(gateway) => json!({ "gateway": gateway, "data": data }),
            None => json!({ "data": data }),
        };
        let data = data.to_string();
        let mut ring = lock(&self.ring);
        ring.last += 1;
        let n = ring.last;
        if ring.events.len() >= EVENTS_MAX {
            ring.events.pop_front();
        }
        ring.events.push_back(Arc::new(Kept { n, gateway, kind, data }));
        drop(ring);
        self.newest.send_replace(n);
    }

    /// Waits until nothing is collected any more.
    pub(super) async fn ended(&self) {
        let mut collects = self.collects.clone();
        while collects.changed().await.is_ok() {}
    }

    /// The first event after number `after`; `Err`: the number of the oldest that is kept, because those before it are not.
    fn after(&self, after: u64) -> Result<Option<Arc<Kept>>, u64> {
        let ring = lock(&self.ring);
        let Some(oldest) = ring.events.front().map(|event| event.n) else { return Ok(None) };
        if after + 1 < oldest {
            return Err(oldest);
        }
        let place = usize::try_from(after + 1 - oldest).unwrap_or(usize::MAX);
        Ok(ring.events.get(place).cloned())
    }

    /// Where to go on: behind the event of `id`, or now. `None`: the id is of another run or of no event.
    fn place(&self, id: Option<&str>) -> Option<u64> {
        let last = lock(&self.ring).last;
        let Some(id) = id else { return Some(last) };
        let (run, n) = id.split_once('-')?;
        let n = n.parse().ok().filter(|n| *n <= last)?;
        (run.parse() == Ok(self.run)).then_some(n)
    }
}

/// The type of an event and its data; `None`: of no use to clients.
fn shown(event: &GatewayEvent) -> Option<(&'static str, Value)> {
    let of = |value: Result<Value, serde_json::Error>| value.unwrap_or_default();
    Some(match event {
        GatewayEvent::Up => ("link", json!({ "up": true })),
        GatewayEvent::Down(why) => ("link", json!({ "up": false, "why": why })),
        GatewayEvent::Ack(ack) => ("ack", of(serde_json::to_value(ack))),
        GatewayEvent::Reply(reply) => ("reply", of(serde_json::to_value(reply))),
        GatewayEvent::Resync(asked, messages) => {
            let mut data = of(serde_json::to_value(asked));
            if let Some(fields) = data.as_object_mut() {
                fields.insert("messages".to_owned(), Value::from(*messages));
            }
            ("resync", data)
        }
        GatewayEvent::Alarm(alarm) => ("alarm", of(serde_json::to_value(alarm))),
        GatewayEvent::Audit(events) => ("audit", events.iter().map(summary).collect()),
        GatewayEvent::Trouble(trouble) => ("audit_trouble", json!({ "message": trouble.to_string() })),
        GatewayEvent::State(state) => ("state", of(serde_json::from_str(state))),
        GatewayEvent::Problem(problem) => ("problem", json!({ "message": problem })),
    })
}

/// What an audit event is about; the whole event is in `/v1/audit`.
fn summary(event: &AuditEvent) -> Value {
    let body = &event.body;
    let mut fields = json!({ "n": event.n, "at": event.at, "type": event.kind().as_str() });
    if let Some(fields) = fields.as_object_mut() {
        let named = [
            ("portal", body.portal().map(ToString::to_string)),
            ("uid", body.uid().map(|uid| uid.to_string())),
            ("holder", body.holder().map(ToString::to_string)),
        ];
        for (name, value) in named {
            fields.extend(value.map(|value| (name.to_owned(), Value::from(value))));
        }
    }
    fields
}

/// Where one client is.
struct Listener {
    api: Shared,
    log: Arc<EventLog>,
    client: Client,
    clients: watch::Receiver<Clients>,
    newest: watch::Receiver<u64>,
    after: u64,
    has_missed: bool,
    _place: OwnedSemaphorePermit,
}

pub(super) async fn events(
    State(api): State<Shared>,
    MayRead(client): MayRead,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Failure> {
    let log = Arc::clone(&api.events);
    let place = Arc::clone(&log.listeners).try_acquire_owned().map_err(|_| Failure::busy())?;
    let id = headers.get("last-event-id").and_then(|id| id.to_str().ok());
    let known = log.place(id);
    let after = known.or_else(|| log.place(None)).unwrap_or(0);
    let newest = log.newest.subscribe();
    // The clients may have been replaced since this one was found: the first event is judged by those of now.
    let mut clients = api.doorkeeper.clients();
    clients.mark_changed();
    let listener = Listener { api, log, client, clients, newest, after, has_missed: known.is_none(), _place: place };
    let events = unfold(listener, |mut listener| async move { Some((Ok(listener.next().await?), listener)) });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(Duration::from_secs(KEEP_ALIVE_S))))
}

impl Listener {
    /// The next event that the client may see; `None`: it may see none any more, or the program ends.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if self.clients.has_changed().ok()? {
                self.client = self.client.among(&self.clients.borrow_and_update())?;
                self.client.reads().ok()?;
            }
            if !self.api.doorkeeper.goes_on(&self.client) {
                return None;
            }
            if std::mem::take(&mut self.has_missed) {
                let id = format!("{}-{}", self.log.run, self.after);
                let text = "events before this one were missed; look into /v1/audit, /v1/acks and /v1/alarms";
                return Some(Event::default().id(id).event("missed").data(json!({ "message": text }).to_string()));
            }
            self.newest.mark_unchanged();
            match self.log.after(self.after) {
                Ok(Some(kept)) => {
                    self.after = kept.n;
                    if kept.gateway.as_ref().is_some_and(|gateway| !self.client.has(gateway)) {
                        continue;
                    }
                    let id = format!("{}-{}", self.log.run, kept.n);
                    return Some(Event::default().id(id).event(kept.kind).data(&kept.data));
                }
                Ok(None) => tokio::select! {
                    changed = self.newest.changed() => changed.ok()?,
                    changed = self.clients.changed() => {
                        changed.ok()?;
                        self.clients.mark_changed();
                    }
                },
                Err(oldest) => {
                    self.after = oldest.saturating_sub(1);
                    self.has_missed = true;
                }
            }
        }
    }
}
