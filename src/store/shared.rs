//! What a store's threads share with its handles.

use std::collections::{BTreeSet, VecDeque};
use std::fs::File;
use std::io;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::Options;
use super::events::{Erasure, Outbox, RecoveryIssue, StoreEvent};
use super::medium::Medium;
use super::queue::Queue;
use super::reader::{Index, Reader};
use super::reserve::Reserve;
use crate::access::id::Holder;
use crate::lock;

/// What fails and works each by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Written {
    /// The events.
    Journal,
    /// How far the center has them.
    Cursor,
}

/// What a store's threads share with its handles.
pub(super) struct Shared {
    pub options: Options,
    pub medium: Arc<dyn Medium>,
    pub queue: Queue,
    pub index: Arc<Mutex<Index>>,
    pub reader: Reader,
    pub outbox: Outbox,
    /// The last event reported durable, for whoever follows the journal.
    pub durable: watch::Sender<u64>,
    pub requests: Requests,
    pub acked: AtomicU64,
    pub reserve: Reserve,
    /// What cannot be written now.
    pub failing: Mutex<BTreeSet<Written>>,
    /// The last numbers of the gaps at the hard limit that became durable since a removal was announced.
    pub gaps_written: Mutex<Vec<u64>>,
    /// Held while the store is open.
    pub lock: Mutex<Option<File>>,
    /// Whether time is measured; a simulation has none.
    pub timed: bool,
}

impl Shared {
    pub(super) fn now(&self) -> Option<Instant> {
        self.timed.then(Instant::now)
    }

    /// `what` could not be written. Reported when that begins.
    pub(super) fn fails(&self, what: Written, error: &io::Error) {
        let issue = match what {
            Written::Journal => RecoveryIssue::not_written(error),
            Written::Cursor => RecoveryIssue::CursorNotWritten { why: error.to_string() },
        };
        let mut failing = lock(&self.failing);
        if failing.insert(what) {
            self.outbox.report(StoreEvent::Failing { issue });
        }
    }

    /// `what` was written. Reported when nothing fails any more.
    pub(super) fn works(&self, what: Written) {
        let mut failing = lock(&self.failing);
        if failing.remove(&what) && failing.is_empty() {
            self.outbox.report(StoreEvent::Recovered);
        }
    }

    /// Both threads have ended.
    pub(super) fn set_done(&self) {
        drop(lock(&self.lock).take());
        // Whoever sees the end of the events may open the directory again.
        self.outbox.end();
        self.requests.change(|asked| {
            asked.done = true;
            // Who waits for one learns that nobody serves it.
            asked.erasures.clear();
        });
    }
}

/// What the keeper is asked for.
#[derive(Debug, Default)]
pub(super) struct Requests {
    asked: Mutex<Asked>,
    wake: Condvar,
}

#[derive(Debug, Default)]
pub(super) struct Asked {
    pub generation: bool,
    pub closing: bool,
    /// The holders whose events are to be erased, and who waits for it.
    pub erasures: VecDeque<(Holder, Sender<Result<Erasure, String>>)>,
    /// Both threads have ended.
    pub done: bool,
}

impl Requests {
    pub(super) fn change(&self, change: impl FnOnce(&mut Asked)) {
        change(&mut lock(&self.asked));
        self.wake.notify_all();
    }

    pub(super) fn closing(&self) -> bool {
        lock(&self.asked).closing
    }

    fn wait_while(&self, time: Duration, condition: impl FnMut(&mut Asked) -> bool) -> MutexGuard<'_, Asked> {
        self.wake.wait_timeout_while(lock(&self.asked), time, condition).unwrap_or_else(PoisonError::into_inner).0
    }

    /// Whether a generation is asked for, after at most `time`; `None` when the store is closed.
    pub(super) fn wait(&self, time: Duration) -> Option<bool> {
        let mut asked = self.wait_while(time, |asked| !asked.generation && !asked.closing && asked.erasures.is_empty());
        let generation = std::mem::take(&mut asked.generation);
        (!asked.closing).then_some(generation)
    }

    /// Asks for the events of `holder` to be erased. How that ended is received; nothing where the store is closed.
    pub(super) fn erase(&self, holder: &Holder) -> Receiver<Result<Erasure, String>> {
        let (done, ended) = std::sync::mpsc::channel();
        self.change(|asked| {
            if !asked.done && !asked.closing {
                asked.erasures.push_back((holder.clone(), done));
            }
        });
        ended
    }

    /// The next holder whose events are to be erased, and who waits for it.
    pub(super) fn erasure(&self) -> Option<(Holder, Sender<Result<Erasure, String>>)> {
        lock(&self.asked).erasures.pop_front()
    }

    /// Whether both threads have ended, after at most `time`.
    pub(super) fn wait_done(&self, time: Duration) -> bool {
        self.wait_while(time, |asked| !asked.done).done
    }
}
