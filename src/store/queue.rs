//! What waits for the writer. Taking a record in never blocks and never waits; what does not fit is lost and counted, but
//! never a message that a center waits for.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::segment::BODY_BYTES_MAX;
use crate::access::event::{Event, Flush, Record};
use crate::lock;

/// Records written and synced together at most.
const BATCH_RECORDS_MAX: usize = 2000;
/// Bytes written and synced together, about; one record may be longer.
const BATCH_BYTES_MAX: usize = 1024 * 1024;
/// What an event without evidence takes on average, in bytes.
const EVENT_BYTES: usize = 512;

/// Records that must be durable at once and wait, at most. Beyond it only messages whose acknowledgement waits are taken:
/// their number is bounded by what brokers leave unacknowledged, and by the gateway that has them sent without ([`Queue::kept`]).
pub(super) const URGENT_RECORDS_MAX: usize = 20_000;

/// Whether the record is never dropped: an acknowledgement waits for it, and it must not be given without it.
fn is_kept(record: &Record) -> bool {
    let body = &record.event.body;
    matches!(body, Event::ChangesApplied { .. } | Event::RejectedMessage { used_up: Some(_), .. })
}

/// What the queue holds.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    records: VecDeque<Record>,
    /// How many of them can wait for others.
    soon: usize,
    /// How many of them must be durable at once.
    now: usize,
    /// How many of them are never dropped, and the length of their evidence in bytes.
    kept: (usize, usize),
    /// Dropped numbers, as inclusive ranges; reported when there is room again.
    lost: Vec<(u64, u64)>,
    /// Nothing more comes.
    pub closing: bool,
}

impl Waiting {
    fn count(&mut self, flush: Flush) -> &mut usize {
        match flush {
            Flush::Now => &mut self.now,
            Flush::Soon => &mut self.soon,
        }
    }
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

    /// Takes records in. Beyond `soon_max` for [`Flush::Soon`] and [`URGENT_RECORDS_MAX`] for [`Flush::Now`] they are lost,
    /// unless an acknowledgement waits.
    pub(super) fn append(&self, records: Vec<Record>) {
        let mut waiting = lock(&self.waiting);
        // A writer that is gathering need not be woken for one more: it looks at the end of its gathering time.
        let wake = waiting.records.is_empty() || records.iter().any(|r| r.flush == Flush::Now);
        for record in records {
            let room = match record.flush {
                Flush::Now => waiting.now < URGENT_RECORDS_MAX || is_kept(&record),
                Flush::Soon => waiting.soon < self.soon_max && !waiting.closing,
            };
            if room {
                *waiting.count(record.flush) += 1;
                if is_kept(&record) {
                    let (count, bytes) = &mut waiting.kept;
                    (*count, *bytes) = (*count + 1, *bytes + record.evidence.len());
                }
                waiting.records.push_back(record);
                continue;
            }
            let n = record.event.n;
            match waiting.lost.last_mut() {
                Some((_, to)) if to.checked_add(1) == Some(n) => *to = n,
                Some(_) | None => waiting.lost.push((n, n)),
            }
        }
        drop(waiting);
        if wake {
            self.wake.notify_all();
        }
    }

    /// Nothing more will come; the writer is to write what is left and end.
    pub(super) fn close(&self) {
        lock(&self.waiting).closing = true;
        self.wake.notify_all();
    }

    pub(super) fn is_closing(&self) -> bool {
        lock(&self.waiting).closing
    }

    /// How many records wait.
    pub(super) fn depth(&self) -> usize {
        lock(&self.waiting).records.len()
    }

    /// How many records wait that are never dropped, and the length of their evidence in bytes.
    pub(super) fn kept(&self) -> (usize, usize) {
        lock(&self.waiting).kept
    }

    /// Waits until a batch is due: a record that must be durable at once, or others that waited for `gather`, or closing. Returns
    /// early after `idle` without any. `true`: something is due.
    pub(super) fn wait(&self, gather: Duration, idle: Duration) -> bool {
        let empty = |w: &mut Waiting| w.records.is_empty() && !w.closing;
        let guard =
            self.wake.wait_timeout_while(lock(&self.waiting), idle, empty).unwrap_or_else(PoisonError::into_inner).0;
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
        drop(self.wake.wait_timeout_while(lock(&self.waiting), pause, open).unwrap_or_else(PoisonError::into_inner));
    }

    /// The next batch, oldest first; empty if nothing waits.
    pub(super) fn take(&self) -> Vec<Record> {
        let mut waiting = lock(&self.waiting);
        let mut batch = Vec::new();
        let mut bytes = 0;
        while batch.len() < BATCH_RECORDS_MAX && bytes < BATCH_BYTES_MAX {
            let Some(record) = waiting.records.pop_front() else { break };
            let count = waiting.count(record.flush);
            *count = count.saturating_sub(1);
            if is_kept(&record) {
                let (count, bytes) = waiting.kept;
                waiting.kept = (count.saturating_sub(1), bytes.saturating_sub(record.evidence.len()));
            }
            bytes += record.evidence.len().min(BODY_BYTES_MAX) + EVENT_BYTES;
            batch.push(record);
        }
        batch
    }

    /// What was dropped, once there is room for the events that name it.
    pub(super) fn take_lost(&self) -> Vec<(u64, u64)> {
        let mut waiting = lock(&self.waiting);
        let room = waiting.soon <= self.soon_max / 2 && waiting.now <= URGENT_RECORDS_MAX / 2;
        if room { std::mem::take(&mut waiting.lost) } else { Vec::new() }
    }
}
