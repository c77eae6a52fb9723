//! What waits for the writer. Taking a record in never blocks and never waits; what does not fit is counted, never a change.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::journal::rough_size;
use crate::access::event::{Flush, Record};

/// Records written and synced together at most.
const BATCH_RECORDS_MAX: usize = 2000;
/// Bytes written and synced together, about; one record may be longer.
const BATCH_BYTES_MAX: usize = 1024 * 1024;

/// What the queue holds.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    records: VecDeque<Record>,
    /// How many of them may be dropped.
    soon: usize,
    /// How many of them must be durable at once.
    now: usize,
    /// Dropped numbers, as inclusive ranges; told when there is room again.
    lost: Vec<(u64, u64)>,
    /// Nothing more comes.
    pub closing: bool,
}

/// The queue.
#[derive(Debug)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    wake: Condvar,
    soon_max: usize,
}

impl Queue {
    pub(super) fn new(soon_max: usize) -> Self {
        Self { waiting: Mutex::default(), wake: Condvar::new(), soon_max }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes records in. [`Flush::Soon`] records beyond the limit are dropped; [`Flush::Now`] records never are: their number
    /// is bounded by what brokers leave unacknowledged.
    pub(super) fn append(&self, records: Vec<Record>) {
        let mut waiting = self.lock();
        // A writer that is gathering need not be woken for one more: it looks at the end of its gathering time.
        let wake = waiting.records.is_empty() || records.iter().any(|r| r.flush == Flush::Now);
        for record in records {
            match record.flush {
                Flush::Now => waiting.now += 1,
                Flush::Soon if waiting.soon < self.soon_max && !waiting.closing => waiting.soon += 1,
                Flush::Soon => {
                    let n = record.event.n;
                    match waiting.lost.last_mut() {
                        Some((_, to)) if to.checked_add(1) == Some(n) => *to = n,
                        Some(_) | None => waiting.lost.push((n, n)),
                    }
                    continue;
                }
            }
            waiting.records.push_back(record);
        }
        drop(waiting);
        if wake {
            self.wake.notify_all();
        }
    }

    /// Nothing more will come; the writer is to write what is left and end.
    pub(super) fn close(&self) {
        self.lock().closing = true;
        self.wake.notify_all();
    }

    pub(super) fn is_closing(&self) -> bool {
        self.lock().closing
    }

    /// How many records wait.
    pub(super) fn depth(&self) -> usize {
        self.lock().records.len()
    }

    /// Waits until a batch is due: a record that must be durable at once, or others that waited for `gather`, or closing. Returns
    /// early after `idle` without any. `true`: something is due.
    pub(super) fn wait(&self, gather: Duration, idle: Duration) -> bool {
        let empty = |w: &mut Waiting| w.records.is_empty() && !w.closing;
        let guard = self.wake.wait_timeout_while(self.lock(), idle, empty).unwrap_or_else(PoisonError::into_inner).0;
        if guard.records.is_empty() {
            return guard.closing;
        }
        let gathering = |w: &mut Waiting| w.now == 0 && !w.closing;
        drop(self.wake.wait_timeout_while(guard, gather, gathering).unwrap_or_else(PoisonError::into_inner).0);
        true
    }

    /// Waits before a retry; less if the store is being closed.
    pub(super) fn pause(&self, pause: Duration) {
        let open = |w: &mut Waiting| !w.closing;
        drop(self.wake.wait_timeout_while(self.lock(), pause, open).unwrap_or_else(PoisonError::into_inner));
    }

    /// The next batch, oldest first; empty if nothing waits.
    pub(super) fn take(&self) -> Vec<Record> {
        let mut waiting = self.lock();
        let mut batch = Vec::new();
        let mut bytes = 0;
        while batch.len() < BATCH_RECORDS_MAX && bytes < BATCH_BYTES_MAX {
            let Some(record) = waiting.records.pop_front() else { break };
            match record.flush {
                Flush::Now => waiting.now = waiting.now.saturating_sub(1),
                Flush::Soon => waiting.soon = waiting.soon.saturating_sub(1),
            }
            bytes += rough_size(&record);
            batch.push(record);
        }
        batch
    }

    /// What was dropped, once there is room for the events that speak of it.
    pub(super) fn take_lost(&self) -> Vec<(u64, u64)> {
        let mut waiting = self.lock();
        if waiting.soon <= self.soon_max / 2 { std::mem::take(&mut waiting.lost) } else { Vec::new() }
    }
}
