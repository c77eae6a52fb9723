//! What the store reports to the gateway. A gateway that does not receive for a while slows nothing down: what waits is merged.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::integrity::RecoveryIssue;

/// Events under way to the gateway; more wait in the store, merged.
const EVENTS_MAX: usize = 1024;
/// How often the listener looks whether a flush hangs.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A flush that takes this long, in looks, is a stall.
const STALL_LOOKS: u32 = 2;

/// What the store reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreEvent {
    /// Every event up to this number that was not lost or refused is durable.
    Durable {
        /// The last durable event.
        through: u64,
        /// How many became durable.
        events: u64,
        /// How long writing and syncing took; the longest if several flushes are reported at once.
        took: Duration,
    },
    /// Events were dropped because too many waited. Append a `log_gap`.
    Lost {
        /// First.
        from: u64,
        /// Last.
        to: u64,
    },
    /// An event can never be written: a error of the caller. It counts as lost.
    Refused {
        /// Its number.
        n: u64,
        /// Why.
        why: &'static str,
    },
    /// Nothing becomes durable any more; the store retries. Reported once.
    Failing {
        /// The error of the disk.
        detail: String,
    },
    /// Writing works again. Reported once.
    Recovered,
    /// The disk is full and the reserve file was removed for what waits. Make room: there is no other reserve.
    ReserveReleased,
    /// One write has been under way for this long.
    Stalled {
        /// In milliseconds.
        for_ms: u64,
    },
    /// A generation was written.
    GenerationWritten {
        /// The last event in it.
        position: u64,
        /// How many records it has.
        records: u64,
        /// How long it took.
        took: Duration,
    },
    /// A generation could not be written; the next attempt is some minutes away. The journal keeps what it would have held.
    GenerationFailed {
        /// Why.
        detail: String,
    },
    /// Old events were removed from the journal; it now begins here.
    Retained {
        /// The first event kept.
        first: u64,
    },
    /// Something was found to be wrong on disk after the start.
    Found(RecoveryIssue),
}

/// The sending end; shared by the store's threads.
#[derive(Debug)]
pub(super) struct Outbox(Mutex<Pending>);

#[derive(Debug)]
struct Pending {
    to: Option<mpsc::Sender<StoreEvent>>,
    waiting: VecDeque<StoreEvent>,
}

impl Pending {
    fn push(&mut self, event: StoreEvent) {
        if let (
            Some(StoreEvent::Durable { through, events, took }),
            StoreEvent::Durable { through: later, events: more, took: other },
        ) = (self.waiting.back_mut(), &event)
        {
            (*through, *events, *took) = (*later, *events + *more, (*took).max(*other));
        } else {
            self.waiting.push_back(event);
        }
    }

    fn send(&mut self) {
        let Some(to) = &self.to else {
            self.waiting.clear();
            return;
        };
        while let Some(event) = self.waiting.pop_front() {
            match to.try_send(event) {
                Ok(()) => {}
                Err(mpsc::error::TrySendError::Full(event)) => {
                    self.waiting.push_front(event);
                    return;
                }
                Err(mpsc::error::TrySendError::Closed(_)) => self.waiting.clear(),
            }
        }
    }
}

impl Outbox {
    pub(super) fn new(busy: Option<Arc<Busy>>) -> (Self, StoreEvents) {
        let (to, from) = mpsc::channel(EVENTS_MAX);
        let pending = Pending { to: Some(to), waiting: VecDeque::new() };
        (Self(Mutex::new(pending)), StoreEvents { from, busy, next_look: None, seen: 0, looks: 0 })
    }

    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn report(&self, event: StoreEvent) {
        let mut pending = self.lock();
        pending.push(event);
        pending.send();
    }

    /// Sends what did not fit before. `true`: all is sent.
    pub(super) fn retry(&self) -> bool {
        let mut pending = self.lock();
        pending.send();
        pending.waiting.is_empty()
    }

    /// Nothing more will be reported.
    pub(super) fn end(&self) {
        self.lock().to = None;
    }
}

/// Whether the writer is in a write: odd while it is, and another number each time.
#[derive(Debug, Default)]
pub(super) struct Busy(AtomicU64);

impl Busy {
    pub(super) fn change(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// The receiving end of the store's events.
#[derive(Debug)]
pub struct StoreEvents {
    from: mpsc::Receiver<StoreEvent>,
    busy: Option<Arc<Busy>>,
    next_look: Option<Instant>,
    seen: u64,
    looks: u32,
}

impl StoreEvents {
    /// The next event; `None` when the store is closed. May be dropped and called again without losing anything.
    pub async fn recv(&mut self) -> Option<StoreEvent> {
        loop {
            let Some(busy) = self.busy.clone() else { return self.from.recv().await };
            let look = *self.next_look.get_or_insert_with(|| Instant::now() + LOOK_EVERY);
            tokio::select! {
                biased;
                event = self.from.recv() => return event,
                () = tokio::time::sleep_until(look) => {
                    self.next_look = Some(Instant::now() + LOOK_EVERY);
                    if let Some(stalled) = self.look(busy.0.load(Ordering::Relaxed)) {
                        return Some(stalled);
                    }
                }
            }
        }
    }

    /// The next event if there is one now.
    pub fn try_recv(&mut self) -> Option<StoreEvent> {
        self.from.try_recv().ok()
    }

    fn look(&mut self, busy: u64) -> Option<StoreEvent> {
        if busy.is_multiple_of(2) || busy != self.seen {
            (self.seen, self.looks) = (busy, 0);
            return None;
        }
        self.looks = self.looks.saturating_add(1);
        let for_ms = u64::from(self.looks) * 1000;
        (self.looks >= STALL_LOOKS).then_some(StoreEvent::Stalled { for_ms })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateway_that_does_not_receive_gets_one_durable_for_many() {
        let (outbox, mut events) = Outbox::new(None);
        let durable = |through| StoreEvent::Durable { through, events: 1, took: Duration::from_millis(through) };
        (1..=EVENTS_MAX as u64 + 500).for_each(|n| outbox.report(durable(n)));
        assert!(!outbox.retry());
        for n in 1..=EVENTS_MAX as u64 {
            assert_eq!(events.try_recv(), Some(durable(n)));
        }
        assert!(outbox.retry());
        let StoreEvent::Durable { through, events, .. } = events.try_recv().unwrap() else { panic!() };
        assert_eq!((through, events), (EVENTS_MAX as u64 + 500, 500));
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_that_hangs_is_reported_while_it_hangs() {
        let busy = Arc::new(Busy::default());
        let (_outbox, mut events) = Outbox::new(Some(Arc::clone(&busy)));
        busy.change();
        assert_eq!(events.recv().await, Some(StoreEvent::Stalled { for_ms: 2000 }));
        assert_eq!(events.recv().await, Some(StoreEvent::Stalled { for_ms: 3000 }));
        busy.change();
        let quiet = tokio::time::timeout(Duration::from_secs(60), events.recv()).await;
        assert!(quiet.is_err());
    }
}
