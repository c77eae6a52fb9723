//! `GET /api/v1/live`: the audit as it is written, as server-sent events numbered by the audit's own numbers, and once a second the
//! state of the gateway.
//!
//! One task follows the journal and hands each event to everybody who looks, as bytes that were made once. The gateway's task has no
//! part in it: however many look, and however slowly they read, no decision waits. What is shown is on disk, so that a number is
//! never given twice. Whoever was away goes on where the last event had come, from memory or from the disk; one who was away for more
//! than [`RESUME_EVENTS_MAX`] events is sent `missed` with the numbers that are left out.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt::Write;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream::unfold;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use super::board::{Board, Frame};
use super::guard::Caller;
use super::mask::masked;
use super::{Shared, asked, wrong};
use crate::access::event::{Event, Mark};
use crate::config::Secret;
use crate::gateway::ports::Ask;
use crate::http::api::{ask, refuse, status_body};
use crate::lock;

/// Events that somebody who was away is sent afterwards; what is older is named as missed and is in the audit.
pub const RESUME_EVENTS_MAX: u64 = 10_000;
/// Consoles that look at once; more are answered 503.
pub const STREAMS_MAX: usize = 128;
/// Events kept in memory for all who look; older ones are read from the disk.
const RING_EVENTS_MAX: usize = 4_096;
/// Bytes of events handed to one connection at once, about. A slow reader has no more than that waiting for it.
const CHUNK_BYTES_MAX: usize = 64 * 1024;
/// Events and bytes read from the journal at once.
const READ_MAX: (usize, usize) = (500, 256 * 1024);
/// How often the state is looked at while somebody looks.
const STATUS_EVERY: Duration = Duration::from_secs(1);
/// Pause after the journal could not be read.
const READ_RETRY: Duration = Duration::from_secs(10);
/// A comment keeps a quiet connection open.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// What was erased on disk is gone from memory too after this time.
const READ_AGAIN_AFTER: Duration = Duration::from_secs(24 * 3_600);

/// The state for those who see whole UIDs and for those who do not.
type Status = Arc<[Bytes; 2]>;

/// What all who look share.
pub(super) struct Live {
    ring: Mutex<VecDeque<Arc<Frame>>>,
    board: Mutex<Board>,
    newest: watch::Sender<u64>,
    status: watch::Sender<Status>,
    /// The [`STREAMS_MAX`] places.
    streams: Arc<Semaphore>,
}

/// The next events of somebody who looks.
enum Next {
    /// In memory; none: nothing has happened yet.
    Frames(Vec<Arc<Frame>>),
    /// On the disk only.
    OnDisk,
}

impl Live {
    pub(super) fn new(last: u64) -> Self {
        Self {
            ring: Mutex::default(),
            board: Mutex::default(),
            newest: watch::Sender::new(last),
            status: watch::Sender::default(),
            streams: Arc::new(Semaphore::new(STREAMS_MAX)),
        }
    }

    pub(super) fn board(&self) -> MutexGuard<'_, Board> {
        lock(&self.board)
    }

    fn last(&self) -> u64 {
        *self.newest.borrow()
    }

    fn from(&self, next: u64) -> Next {
        if next > self.last() {
            return Next::Frames(Vec::new());
        }
        let ring = lock(&self.ring);
        if ring.front().is_none_or(|oldest| oldest.n > next) {
            return Next::OnDisk;
        }
        let begin = ring.partition_point(|frame| frame.n < next);
        let mut bytes = 0;
        let fits = |frame: &&Arc<Frame>| {
            let before = bytes;
            bytes += frame.json(true).len();
            before < CHUNK_BYTES_MAX
        };
        Next::Frames(ring.iter().skip(begin).take_while(fits).cloned().collect())
    }
}

/// Follows the journal until the store is closed.
pub(super) async fn follow(console: Shared) {
    let mut durable = console.pages.audit.durable();
    let mut read_again_at = Instant::now();
    loop {
        if Instant::now() >= read_again_at {
            read_again(&console).await;
            read_again_at = Instant::now() + READ_AGAIN_AFTER;
        }
        let through = *durable.borrow_and_update();
        if take_up_to(&console, through).await {
            read_again_at = Instant::now();
            continue;
        }
        tokio::select! {
            changed = durable.changed() => if changed.is_err() { return },
            () = tokio::time::sleep_until(read_again_at) => {}
        }
    }
}

/// Reads from the disk again what is shown at the beginning, and forgets the events in memory.
async fn read_again(console: &Shared) {
    let (store, through) = (console.pages.audit.clone(), console.live.last());
    if let Ok(board) = tokio::task::spawn_blocking(move || Board::read(&store, through)).await {
        *console.live.board() = board;
        lock(&console.live.ring).clear();
    }
}

/// Takes the events up to `through`. `true`: among them is a note, which may report that events were erased.
async fn take_up_to(console: &Shared, through: u64) -> bool {
    let mut has_note = false;
    loop {
        let next = console.live.last() + 1;
        if next > through {
            return has_note;
        }
        let events = match console.pages.audit.read(next, READ_MAX.0, READ_MAX.1).await {
            Ok(events) => events,
            Err(error) => {
                tracing::warn!(%error, "the console cannot read the audit; it tries again");
                sleep(READ_RETRY).await;
                continue;
            }
        };
        // Numbers that are lost for good are passed over.
        let last = events.last().map_or(through, |event| event.n);
        for stored in events {
            let (frame, event) = Frame::new(stored);
            has_note |= event.as_ref().is_some_and(|e| matches!(e.body, Event::Config { mark: Mark::Note, .. }));
            console.live.board().take(&frame, event.as_ref());
            let mut ring = lock(&console.live.ring);
            if ring.len() >= RING_EVENTS_MAX {
                ring.pop_front();
            }
            ring.push_back(frame);
        }
        console.live.newest.send_replace(last);
    }
}

/// Looks at the state once a second while somebody looks.
pub(super) async fn watch_status(console: Shared) {
    let mut ticks = interval(STATUS_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if console.live.status.receiver_count() > 0
            && let Ok(status) = status(&console).await
        {
            let text = status.to_string();
            let new = Arc::new([masked(text.as_bytes()).into(), text.into()]);
            console.live.status.send_if_modified(|old| {
                *old != new && {
                    *old = new;
                    true
                }
            });
        }
    }
}

/// The state of the gateway, its links and its store.
pub(super) async fn status(console: &Shared) -> Result<Value, Response> {
    let pages = &console.pages;
    let state = ask(pages, |answer| Ask::Status { answer }).await?;
    let mut status = status_body(&state, pages);
    if let Some(fields) = status.as_object_mut() {
        let (first, durable, queued) = (pages.audit.first(), pages.audit.last_durable(), pages.audit.queued());
        fields.insert("store".to_owned(), json!({ "first": first, "durable": durable, "queued": queued }));
    }
    Ok(status)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LiveFor {
    /// Go on behind this event; `Last-Event-ID` counts more.
    after: Option<u64>,
}

pub(super) async fn live(
    State(console): State<Shared>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    uri: Uri,
) -> Response {
    let after = match asked::<LiveFor>(&uri) {
        Ok(asked) => asked.after,
        Err(why) => return wrong(why),
    };
    let id = headers.get("last-event-id").map(|id| id.to_str().ok().and_then(|id| id.parse::<u64>().ok()));
    let after = match id {
        Some(None) => return wrong("`Last-Event-ID`: the number of an event is wanted"),
        Some(id) => id,
        None => after,
    };
    let Ok(place) = Arc::clone(&console.live.streams).try_acquire_owned() else {
        let why = format!("{STREAMS_MAX} consoles are open already; close some");
        return refuse(StatusCode::SERVICE_UNAVAILABLE, why);
    };
    let next = after.unwrap_or_else(|| console.live.last()).saturating_add(1);
    let looker = Looker {
        caller,
        next,
        newest: console.live.newest.subscribe(),
        status: console.live.status.subscribe(),
        stopping: console.stopping.clone(),
        token: console.guard.token_changes(),
        begun: false,
        console,
        _place: place,
    };
    let chunks = unfold(looker, |mut looker| async move {
        let chunk = looker.chunk().await?;
        Some((Ok::<_, Infallible>(chunk), looker))
    });
    ([(header::CONTENT_TYPE, "text/event-stream")], Body::from_stream(chunks)).into_response()
}

/// Somebody who looks.
struct Looker {
    caller: Caller,
    /// The next event.
    next: u64,
    newest: watch::Receiver<u64>,
    status: watch::Receiver<Status>,
    stopping: watch::Receiver<bool>,
    token: watch::Receiver<Option<Secret>>,
    begun: bool,
    console: Shared,
    _place: OwnedSemaphorePermit,
}

impl Looker {
    /// What is sent next; `None`: the session has ended, or the gateway stops.
    async fn chunk(&mut self) -> Option<Bytes> {
        if !std::mem::replace(&mut self.begun, true) {
            self.status.mark_changed();
            return Some("retry: 1000\n\n".into());
        }
        loop {
            if !self.console.guard.still_admits(&self.caller) {
                return None;
            }
            self.newest.mark_unchanged();
            let events = self.events().await;
            if !events.is_empty() {
                return Some(events.into());
            }
            tokio::select! {
                biased;
                _ = self.stopping.wait_for(|stopping| *stopping) => return None,
                // Where nothing is ever reloaded there is no sender.
                Ok(()) = self.token.changed() => {}
                changed = self.newest.changed() => changed.ok()?,
                changed = self.status.changed() => {
                    changed.ok()?;
                    let status = Arc::clone(&self.status.borrow_and_update());
                    let [masked, whole] = &*status;
                    let json = if self.caller.sees_uids() { whole } else { masked };
                    if !json.is_empty() {
                        return Some(format!("event: status\ndata: {}\n\n", String::from_utf8_lossy(json)).into());
                    }
                }
                () = sleep(KEEP_ALIVE) => return Some(": quiet\n\n".into()),
            }
        }
    }

    /// The next events as text; empty: nothing has happened.
    async fn events(&mut self) -> String {
        loop {
            let live = &self.console.live;
            let frames = match live.from(self.next) {
                Next::Frames(frames) if frames.is_empty() => {
                    // Numbers of another store: it was restored from an older copy, or is new. All that is in it may be unknown.
                    let last = live.last();
                    if self.next > last.saturating_add(1) {
                        self.next = last.min(1);
                        return self.missed(last);
                    }
                    return String::new();
                }
                Next::Frames(frames) => frames,
                Next::OnDisk => {
                    let (first, last) = (self.console.pages.audit.first(), live.last());
                    let begin = first.max((last + 1).saturating_sub(RESUME_EVENTS_MAX));
                    if self.next < begin {
                        return self.missed(begin - 1);
                    }
                    self.on_disk(last).await
                }
            };
            self.next = frames.last().map_or(self.next, |frame| frame.n + 1);
            let text = frames_text(&frames, self.caller.sees_uids());
            if !text.is_empty() {
                return text;
            }
        }
    }

    /// Events up to `last` from the disk. Where they cannot be read, or are lost, it goes on behind them.
    async fn on_disk(&mut self, last: u64) -> Vec<Arc<Frame>> {
        let console = Arc::clone(&self.console);
        let read = match console.turns.acquire().await {
            Ok(_turn) => console.pages.audit.read(self.next, READ_MAX.0, CHUNK_BYTES_MAX).await.unwrap_or_default(),
            Err(_) => Vec::new(),
        };
        let read = read.into_iter().filter(|event| event.n <= last);
        let frames: Vec<_> = read.map(|stored| Frame::new(stored).0).collect();
        if frames.is_empty() {
            self.next = last + 1;
        }
        frames
    }

    /// Events up to `through` are left out.
    fn missed(&mut self, through: u64) -> String {
        let data = json!({ "from": self.next, "to": through });
        self.next = through + 1;
        format!("id: {through}\nevent: missed\ndata: {data}\n\n")
    }
}

fn frames_text(frames: &[Arc<Frame>], whole: bool) -> String {
    let mut text = String::new();
    for frame in frames {
        let json = String::from_utf8_lossy(frame.json(whole));
        // Writing to a text does not fail.
        let _written = write!(text, "id: {}\nevent: audit\ndata: {json}\n\n", frame.n);
    }
    text
}

#[cfg(test)]
#[path = "live_tests.rs"]
mod tests;
