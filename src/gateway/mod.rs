//! The one task that owns the engine: inbox, engine, effects to whoever carries them out.
//!
//! ```text
//!  uplink ── changes, commands ──► urgent ─┐                          ┌─► portal outlets   answers, cuts, releases: at once
//!  portals ─ requests, reports ──► requests ┼─► core: engine ─ effects ┼─► store            records: appended, never waited for
//!  socket ── questions ──────────► asks  ───┘          ▲               └─► uplink           acks, replies: when durable
//!                                      store: durable ─┘
//! ```
//! The urgent lane is always emptied first, so that nothing stands in front of a revocation. The task never waits for a
//! disk or a network: everything it hands on goes into a bounded queue.

mod answers;
mod dispatch;
pub mod metrics;
pub mod owner;
pub mod ports;
mod publication;

pub use self::answers::ORDER_WAIT_MS;
pub use self::publication::Work;

use std::future::Future;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;

use self::dispatch::RETRY_MS;
use self::owner::GatewayCore;
use self::ports::InboxReceiver;
use self::publication::{Digested, Lines};
use crate::access::id::Now;
use crate::access::input::Input;
use crate::clock::Clock;
use crate::store::StoreEvents;

/// The longest the task sleeps, in milliseconds: clock steps are seen within it.
const TICK_MS: u64 = 1_000;
/// Records and inputs that wait for a quiet moment at most before the journal and the center are given what is pending.
const PENDING_MAX: usize = 64;
/// How long the end waits until what was taken is on disk and handed on, in milliseconds.
const FINISH_MS: u64 = 2_000;

/// Runs the gateway until `stop` is done, then finishes what was taken and returns the core.
pub async fn run(
    mut core: GatewayCore,
    mut inbox: InboxReceiver,
    mut store: StoreEvents,
    clock: Clock,
    stop: impl Future<Output = ()>,
) -> GatewayCore {
    tokio::pin!(stop);
    let timer = tokio::time::sleep(Duration::from_millis(TICK_MS));
    tokio::pin!(timer);
    let mut stopping = false;
    let mut hashing: Option<JoinHandle<Digested>> = None;
    // Inputs since something became pending.
    let mut handled = 0;
    let progress = core.progress();
    while !stopping {
        progress.turn();
        let now = clock.now();
        // Only ever set to an earlier instant: waking too early does no harm, and setting it costs more than a decision.
        let deadline = wake_at(&core, now);
        if deadline < timer.deadline() {
            timer.as_mut().reset(deadline);
        }
        let pending = core.pending(now);
        handled = if pending == 0 { 0 } else { handled };
        if pending.max(handled) >= PENDING_MAX {
            core.flush(now);
        }
        let background = core.background_work(now);
        if background == Work::Late
            && let Some(lines) = core.work_in_background(now)
        {
            hashing = Some(hash(lines));
        }
        let mut input = None;
        tokio::select! {
            biased;
            Some(event) = store.recv() => core.store_event(event, clock.now()),
            Some(urgent) = inbox.urgent.recv() => input = Some(urgent),
            () = &mut stop => stopping = true,
            Some((offered, at)) = inbox.requests.recv() => {
                handled += 1;
                answer(&mut core, offered, at, &clock);
            }
            Some(ask) = inbox.asks.recv() => core.ask(ask, &clock),
            digested = finished(&mut hashing) => core.digested(digested, clock.now()),
            () = &mut timer => {
                timer.as_mut().reset(Instant::now() + Duration::from_millis(TICK_MS));
                input = Some(Input::Wake);
            }
            // When nothing else is ready: the links have sent what was ordered, and the request behind a revocation is answered.
            () = tokio::task::yield_now(), if pending > 0 => core.flush(clock.now()),
            // Last, and so only when nothing else is ready.
            () = std::future::ready(()), if pending == 0 && background != Work::None => {
                if let Some(lines) = core.work_in_background(clock.now()) {
                    hashing = Some(hash(lines));
                }
                tokio::task::yield_now().await;
            }
        }
        if let Some(input) = input {
            handled += 1;
            core.handle(input, &clock);
        }
    }
    finish(&mut core, &mut inbox, &mut store, &clock).await;
    core
}

fn hash(lines: Lines) -> JoinHandle<Digested> {
    tokio::task::spawn_blocking(|| lines.finish())
}

/// The digest under way, once it is hashed; pending for ever while nothing is hashed. `None`: hashing panicked.
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

fn wake_at(core: &GatewayCore, now: Now) -> Instant {
    let wait_ms = core.next_deadline(now).map_or(TICK_MS, |at| at.since_ms(now.mono).min(TICK_MS));
    Instant::now() + Duration::from_millis(wait_ms)
}

/// Handles a request or a report that was offered at this time.
fn answer(core: &mut GatewayCore, input: Input, offered_at: Instant, clock: &Clock) {
    let is_request = matches!(input, Input::Request(_));
    core.handle(input, clock);
    if is_request {
        core.decided_in(offered_at.elapsed());
    }
}

/// Handles what is in the inbox and waits for the disk, so that every ack and reply is given.
async fn finish(core: &mut GatewayCore, inbox: &mut InboxReceiver, store: &mut StoreEvents, clock: &Clock) {
    inbox.urgent.close();
    inbox.requests.close();
    while let Some(input) = inbox.urgent.recv().await {
        core.handle(input, clock);
    }
    while let Some((input, at)) = inbox.requests.recv().await {
        answer(core, input, at, clock);
    }
    core.flush(clock.now());
    let until = Instant::now() + Duration::from_millis(FINISH_MS);
    while core.has_pending_answers() {
        match tokio::time::timeout_at(until, store.recv()).await {
            Ok(Some(event)) => core.store_event(event, clock.now()),
            // The store has ended, or is too slow: what was not acknowledged is sent again after the start.
            Ok(None) | Err(_) => break,
        }
        core.flush(clock.now());
    }
    while core.has_queued_orders() && Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(RETRY_MS)).await;
        core.wake(clock.now());
    }
}

#[cfg(test)]
mod tests {
    use super::owner::tests::{served, store_in_memory};
    use super::*;
    use crate::access::change::{Head, Position};
    use crate::access::engine::{Engine, Setup};
    use crate::access::id::{ClockTrust, Timestamp};
    use crate::access::input::{Presented, Request};
    use crate::access::portal::Assurance;
    use crate::access::state::State;
    use crate::store::{MemoryDisk, Options, Store};

    #[tokio::test(start_paused = true)]
    async fn what_a_request_waits_for_its_turn_is_in_the_time_of_its_answer() {
        let (clock, _) = Clock::manual(Timestamp(1_788_249_600_000));
        let (outlets, metrics) = (ports::PortalOutlets::default(), metrics::Metrics::default());
        let engine = Engine::new(Setup::default(), State::default());
        let (store, events, ..) = Store::open_in_memory::<State>(&MemoryDisk::new(), Options::default()).unwrap();
        let identity = owner::Identity::default();
        let core = GatewayCore::new(engine, store, outlets, None, identity, metrics.clone());
        let (inbox, received) = ports::Inbox::new();
        let request = Request {
            portal: "gate-in".to_owned(),
            id: None,
            presented: Presented::Card("1EA68671".parse().unwrap()),
            direction: None,
            assurance: Assurance::Uid,
            stale: false,
            slot: 0,
        };
        assert!(inbox.offer(Input::Request(request)));
        tokio::time::advance(Duration::from_millis(50)).await;
        run(core, received, events, clock, std::future::ready(())).await;
        let within = |limit: &str| served(&metrics, &format!("decision_seconds_bucket{{le=\"{limit}\"}}"));
        assert_eq!((within("0.01"), within("0.1")), (Some(0), Some(1)));
    }

    #[test]
    fn a_wrong_date_ends_with_the_first_message_of_a_center_and_its_mark_on_disk_with_it() {
        const RIGHT: Timestamp = Timestamp(1_788_249_600_000);
        const FOUR_YEARS_MS: i64 = 4 * 365 * 86_400_000;
        let engine = Engine::new(Setup::default(), State::default());
        let (identity, outlets) = (owner::Identity::default(), ports::PortalOutlets::default());
        let store = store_in_memory();
        let mut core = GatewayCore::new(engine, store, outlets, None, identity, metrics::Metrics::default());
        let (clock, manual) = Clock::manual(Timestamp(RIGHT.0 + FOUR_YEARS_MS));
        let boot = Input::Boot { found: String::new(), version: String::new(), gateway: None };
        core.handle(boot, &clock);
        assert_eq!(core.engine().state().trusted_at, Timestamp(RIGHT.0 + FOUR_YEARS_MS));
        manual.step_ms(-FOUR_YEARS_MS);
        core.handle(Input::Wake, &clock);
        assert_eq!(clock.now().clock, ClockTrust::Untrusted);
        let at = Position { epoch: std::num::NonZeroU32::MIN, seq: 1 };
        let head = Head { stream: "office".parse().unwrap(), at, iat: Some(RIGHT), cards: 0, digest: String::new() };
        core.handle(Input::Head(head), &clock);
        assert_eq!((clock.now().clock, core.engine().state().trusted_at), (ClockTrust::Trusted, RIGHT));
    }
}
