//! The one task that owns the engine: inbox, engine, effects to whoever carries them out.
//!
//! ```text
//!  uplink ── changes, commands ──► urgent ─┐                          ┌─► portal outlets   answers, cuts, releases: at once
//!  portals ─ requests, reports ──► requests ┼─► desk: engine ─ effects ┼─► store            records: appended, never waited for
//!  socket ── questions ──────────► asks  ───┘          ▲               └─► uplink           acks, replies: when durable
//!                                      store: durable ─┘
//! ```
//! The urgent lane is always emptied first, so that nothing stands in front of a revocation. The task never waits for a
//! disk or a network: everything it hands on goes into a bounded queue.

pub mod desk;
pub mod metrics;
pub mod pending;
pub mod ports;

use std::future::Future;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use self::desk::{Desk, Journal};
use self::metrics::Metrics;
use self::ports::InboxReceiver;
use crate::access::audit::AlarmKind;
use crate::access::id::Now;
use crate::access::input::Input;
use crate::clock::Clock;

/// What the store tells the gateway.
#[derive(Clone, Debug, PartialEq)]
pub enum StoreNews {
    /// Everything up to this event is on disk.
    Durable {
        /// The event.
        through: u64,
        /// How long the flush took, in seconds.
        flush_s: f64,
    },
    /// Events that could not be kept.
    Lost {
        /// The first.
        from: u64,
        /// The last.
        to: u64,
    },
    /// Something the warden must know.
    Trouble {
        /// What.
        detail: String,
    },
    /// The center has everything up to this event.
    Acked {
        /// The event.
        through: u64,
    },
}

/// News of the store under way to the gateway; the writer waits for room, decisions do not.
pub const NEWS_MAX: usize = 1024;

/// The longest the task sleeps, in milliseconds: clock steps are seen within it.
const TICK_MS: u64 = 1_000;

/// Runs the gateway until `stop` is done, then finishes what was taken and returns the desk.
pub async fn run<J: Journal>(
    mut desk: Desk<J>,
    mut inbox: InboxReceiver,
    mut news: mpsc::Receiver<StoreNews>,
    clock: Clock,
    metrics: Metrics,
    stop: impl Future<Output = ()>,
) -> Desk<J> {
    tokio::pin!(stop);
    let mut stopping = false;
    while !stopping {
        let deadline = wake_at(&desk, clock.now());
        let mut input = None;
        tokio::select! {
            biased;
            Some(news) = news.recv() => take_news(&mut desk, news, &metrics, clock.now()),
            Some(urgent) = inbox.urgent.recv() => input = Some(urgent),
            () = &mut stop => stopping = true,
            Some(request) = inbox.requests.recv() => input = Some(request),
            Some(ask) = inbox.asks.recv() => desk.ask(ask, clock.now()),
            () = tokio::time::sleep_until(deadline) => input = Some(Input::Wake),
        }
        if let Some(input) = input {
            handle(&mut desk, input, &clock, &metrics);
        }
    }
    finish(&mut desk, &mut inbox, &mut news, &clock, &metrics).await;
    desk
}

fn wake_at<J: Journal>(desk: &Desk<J>, now: Now) -> Instant {
    let wait_ms = desk.next_deadline(now).map_or(TICK_MS, |at| at.since_ms(now.mono).min(TICK_MS));
    Instant::now() + Duration::from_millis(wait_ms)
}

fn handle<J: Journal>(desk: &mut Desk<J>, input: Input, clock: &Clock, metrics: &Metrics) {
    let is_request = matches!(input, Input::Request(_));
    let began = Instant::now();
    let now = clock.now();
    for step in clock.take_steps() {
        desk.input(Input::ClockStep { by_ms: step.by_ms }, now);
    }
    desk.input(input, now);
    desk.wake(now);
    if is_request {
        metrics.decision_seconds.observe(began.elapsed().as_secs_f64());
    }
}

fn take_news<J: Journal>(desk: &mut Desk<J>, news: StoreNews, metrics: &Metrics, now: Now) {
    match news {
        StoreNews::Durable { through, flush_s } => {
            metrics.flush_seconds.observe(flush_s);
            desk.durable(through, now);
        }
        StoreNews::Lost { from, to } => {
            metrics.audit_lost.inc_by(to.saturating_sub(from).saturating_add(1));
            desk.input(Input::Lost { from, to }, now);
        }
        StoreNews::Trouble { detail } => {
            desk.input(Input::Alarm { kind: AlarmKind::Store, portal: None, detail }, now);
        }
        StoreNews::Acked { through } => desk.acked(through),
    }
}

/// How long the end waits for what was taken to be on disk, in milliseconds.
const FINISH_MS: u64 = 2_000;

/// Handles what is in the inbox and waits for the disk, so that every answer that was promised is given.
async fn finish<J: Journal>(
    desk: &mut Desk<J>,
    inbox: &mut InboxReceiver,
    news: &mut mpsc::Receiver<StoreNews>,
    clock: &Clock,
    metrics: &Metrics,
) {
    inbox.urgent.close();
    inbox.requests.close();
    while let Some(input) = inbox.urgent.recv().await {
        handle(desk, input, clock, metrics);
    }
    while let Some(input) = inbox.requests.recv().await {
        handle(desk, input, clock, metrics);
    }
    let until = Instant::now() + Duration::from_millis(FINISH_MS);
    while desk.promises_wait() {
        match tokio::time::timeout_at(until, news.recv()).await {
            Ok(Some(news)) => take_news(desk, news, metrics, clock.now()),
            // The store has ended, or is too slow: what was not acknowledged is sent again after the start.
            Ok(None) | Err(_) => break,
        }
    }
}
