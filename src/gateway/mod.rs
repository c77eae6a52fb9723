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

mod digests;
mod dispatch;
pub mod metrics;
pub mod owner;
pub mod pending;
pub mod ports;

use std::future::Future;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;

use self::digests::Digested;
use self::dispatch::OFFER_AGAIN_MS;
use self::metrics::Metrics;
use self::owner::{GatewayCore, Journal};
use self::ports::{Ask, InboxReceiver, OperatorRefusal};
use crate::access::audit::AlarmKind;
use crate::access::id::Now;
use crate::access::input::Input;
use crate::clock::Clock;
use crate::store::{StoreEvent, StoreEvents};

/// The longest the task sleeps, in milliseconds: clock steps are seen within it.
const TICK_MS: u64 = 1_000;

/// Things done, and inputs handled since the first of them, that wait for a quiet moment at most before the journal and the
/// center are told.
const UNTOLD_MAX: usize = 64;

/// Runs the gateway until `stop` is done, then finishes what was taken and returns the desk.
pub async fn run<J: Journal>(
    mut desk: GatewayCore<J>,
    mut inbox: InboxReceiver,
    mut news: StoreEvents,
    clock: Clock,
    metrics: Metrics,
    stop: impl Future<Output = ()>,
) -> GatewayCore<J> {
    tokio::pin!(stop);
    let alarm_clock = tokio::time::sleep(Duration::from_millis(TICK_MS));
    tokio::pin!(alarm_clock);
    let mut stopping = false;
    let mut hashing: Option<JoinHandle<Digested>> = None;
    // Inputs since something was done that is not told yet.
    let mut handled = 0;
    while !stopping {
        let now = clock.now();
        // Only ever set to ring earlier: ringing too early does no harm, and setting it costs more than a decision.
        let deadline = wake_at(&desk, now);
        if deadline < alarm_clock.deadline() {
            alarm_clock.as_mut().reset(deadline);
        }
        let untold = desk.untold(now);
        handled = if untold == 0 { 0 } else { handled };
        if untold.max(handled) >= UNTOLD_MAX {
            desk.tell(now);
        }
        let spare = untold == 0 && desk.has_spare_work(now);
        let mut input = None;
        tokio::select! {
            biased;
            Some(news) = news.recv() => take_news(&mut desk, news, &metrics, clock.now()),
            Some(urgent) = inbox.urgent.recv() => input = Some(urgent),
            () = &mut stop => stopping = true,
            Some(request) = inbox.requests.recv() => input = Some(request),
            Some(ask) = inbox.asks.recv() => take_ask(&mut desk, ask, &clock),
            digested = finished(&mut hashing) => desk.digested(digested, clock.now()),
            () = &mut alarm_clock => {
                alarm_clock.as_mut().reset(Instant::now() + Duration::from_millis(TICK_MS));
                input = Some(Input::Wake);
            }
            // When nothing waits any more: the links have sent what was ordered, and the request behind a revocation is answered.
            () = tokio::task::yield_now(), if untold > 0 => desk.tell(clock.now()),
            // Last, and so only when nothing else is ready.
            () = std::future::ready(()), if spare => {
                hashing = desk.spare_work(clock.now()).map(|lines| tokio::task::spawn_blocking(|| lines.finish()));
                tokio::task::yield_now().await;
            }
        }
        if let Some(input) = input {
            handled += 1;
            handle(&mut desk, input, &clock, &metrics);
        }
    }
    finish(&mut desk, &mut inbox, &mut news, &clock, &metrics).await;
    desk
}

/// The digest under way, once it is hashed; for ever pending while there is none. `None`: hashing panicked.
async fn finished(hashing: &mut Option<JoinHandle<Digested>>) -> Option<Digested> {
    match hashing {
        None => std::future::pending().await,
        Some(handle) => {
            let digested = handle.await.ok();
            *hashing = None;
            digested
        }
    }
}

fn wake_at<J: Journal>(desk: &GatewayCore<J>, now: Now) -> Instant {
    let wait_ms = desk.next_deadline(now).map_or(TICK_MS, |at| at.since_ms(now.mono).min(TICK_MS));
    Instant::now() + Duration::from_millis(wait_ms)
}

fn handle<J: Journal>(desk: &mut GatewayCore<J>, input: Input, clock: &Clock, metrics: &Metrics) {
    let is_request = matches!(input, Input::Request(_));
    let began = Instant::now();
    if let Some((stream, iat)) = input.made_by_center() {
        clock.message_made_at(stream, iat);
    }
    let now = read_clock(desk, clock);
    desk.input(input, now);
    desk.wake(now);
    if is_request {
        metrics.decision_seconds.observe(began.elapsed().as_secs_f64());
    }
}

/// The time now, once the engine has what happened to the clock.
fn read_clock<J: Journal>(desk: &mut GatewayCore<J>, clock: &Clock) -> Now {
    let now = clock.now();
    for change in clock.take_changes() {
        desk.input(Input::Clock(change), now);
    }
    now
}

fn take_ask<J: Journal>(desk: &mut GatewayCore<J>, ask: Ask, clock: &Clock) {
    let Ask::TrustClock { answer } = ask else { return desk.ask(ask, clock.now()) };
    let trusted = clock.trust().map_err(|why| OperatorRefusal::NotNow(why.to_string()));
    let now = read_clock(desk, clock);
    if answer.send(trusted.map(|()| now.wall)).is_err() {
        tracing::debug!("whoever asked has gone");
    }
}

fn take_news<J: Journal>(desk: &mut GatewayCore<J>, news: StoreEvent, metrics: &Metrics, now: Now) {
    let trouble = match news {
        StoreEvent::Durable { through, took, .. } => {
            metrics.flush_seconds.observe(took.as_secs_f64());
            desk.durable(through, now);
            return;
        }
        StoreEvent::Lost { from, to } => {
            metrics.audit_lost.inc_by(to.saturating_sub(from).saturating_add(1));
            desk.input(Input::Lost { from, to }, now);
            return;
        }
        StoreEvent::Refused { n, why } => {
            tracing::error!(n, why, "an event cannot be written");
            metrics.audit_lost.inc();
            desk.input(Input::Lost { from: n, to: n }, now);
            return;
        }
        StoreEvent::GenerationWritten { position, pairs, took } => {
            tracing::info!(position, pairs, took_ms = took.as_millis(), "a generation was written");
            return;
        }
        StoreEvent::Retained { first } => {
            tracing::info!(first, "old events were removed from the journal");
            return;
        }
        StoreEvent::Recovered => {
            tracing::info!("the store works again");
            return;
        }
        StoreEvent::Failing { detail } => format!("the store cannot be written: {detail}"),
        StoreEvent::Stalled { for_ms } => format!("a write to the store has been under way for {for_ms} ms"),
        StoreEvent::GenerationFailed { detail } => format!("a generation could not be written: {detail}"),
        StoreEvent::Found(finding) => finding.to_string(),
    };
    desk.input(Input::Alarm { kind: AlarmKind::Store, portal: None, detail: trouble }, now);
}

/// How long the end waits for what was taken to be on disk, in milliseconds.
const FINISH_MS: u64 = 2_000;

/// Handles what is in the inbox and waits for the disk, so that every answer that was promised is given.
async fn finish<J: Journal>(
    desk: &mut GatewayCore<J>,
    inbox: &mut InboxReceiver,
    news: &mut StoreEvents,
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
    desk.tell(clock.now());
    let until = Instant::now() + Duration::from_millis(FINISH_MS);
    while desk.promises_wait() {
        match tokio::time::timeout_at(until, news.recv()).await {
            Ok(Some(news)) => take_news(desk, news, metrics, clock.now()),
            // The store has ended, or is too slow: what was not acknowledged is sent again after the start.
            Ok(None) | Err(_) => break,
        }
        desk.tell(clock.now());
    }
    while desk.owes() && Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(OFFER_AGAIN_MS)).await;
        desk.wake(clock.now());
    }
}
