//! The one thread that writes the journal: takes a batch, commits it, reports what is durable. Decisions never wait for it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::events::StoreEvent;
use super::journal::Journal;
use super::reserve;
use super::shared::{Shared, Written};
use crate::access::event::{Event, GapCause, Record};
use crate::lock;

/// Pause between attempts while the disk fails.
const RETRY: Duration = Duration::from_secs(1);
/// The mark is made durable at least this often while it changes; a cut of the power sets it back by no more.
const MARK_SYNC: Duration = Duration::from_secs(1);
/// Attempts after closing began, before what is left is given up.
const CLOSING_ATTEMPTS: u32 = 2;

/// What must be durable at once waits so long for others: a burst of changes shares one sync, and on a box with few cores the
/// requests that follow a revocation do not compete with the disk's work.
const BURST: Duration = Duration::from_millis(1);

/// How one step of the writer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stepped {
    /// Nothing waited.
    Idle,
    /// Something became durable.
    Done,
    /// The disk failed; the records are kept and tried again by the next step.
    Failed,
    /// The disk does not answer.
    Stalled,
}

/// The journal's writer.
pub(super) struct Writer {
    shared: Arc<Shared>,
    journal: Journal,
    batch: Vec<Record>,
    /// The last event reported durable.
    reported: u64,
    failing: bool,
    /// Making the mark durable fails; logged.
    mark_failing: bool,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, journal: Journal) -> Self {
        let reported = journal.last();
        Self { shared, journal, batch: Vec::new(), reported, failing: false, mark_failing: false }
    }

    /// Commits one batch, if one waits.
    pub(super) fn step(&mut self) -> Stepped {
        let shared = Arc::clone(&self.shared);
        if self.batch.is_empty() {
            self.batch = shared.queue.take();
        }
        if self.batch.is_empty() && self.journal.last() <= self.reported {
            self.report_lost();
            return Stepped::Idle;
        }
        let begun = shared.now();
        shared.outbox.write_changes();
        let mut committed = self.journal.commit(&self.batch);
        if committed.as_ref().is_err_and(reserve::is_full) && shared.reserve.release(&*shared.medium) {
            shared.outbox.report(StoreEvent::ReserveReleased);
            self.forget_committed();
            committed = self.journal.commit(&self.batch);
        }
        shared.outbox.write_changes();
        match committed {
            Ok(refused) => {
                self.failing = false;
                shared.works(Written::Journal);
                let gaps = self.batch.iter().filter_map(|record| match record.event.body {
                    Event::LogGap { to, cause: GapCause::HardLimit, .. } => Some(to),
                    _ => None,
                });
                lock(&shared.gaps_written).extend(gaps);
                refused.into_iter().for_each(|(n, why)| shared.outbox.report(StoreEvent::Refused { n, why }));
                self.batch.clear();
                let through = self.journal.last();
                if through > self.reported {
                    self.reported = through;
                    let took = begun.map_or(Duration::ZERO, |begun| begun.elapsed());
                    shared.outbox.report(StoreEvent::Durable { through, took });
                    shared.durable.send_replace(through);
                }
                self.report_lost();
                Stepped::Done
            }
            Err(error) => {
                self.forget_committed();
                self.failing = true;
                shared.fails(Written::Journal, &error);
                Stepped::Failed
            }
        }
    }

    /// After a failure only the mark may be missing; then the records must not be written twice.
    fn forget_committed(&mut self) {
        let last = self.journal.last();
        self.batch.retain(|record| record.event.n > last);
    }

    fn report_lost(&self) {
        for (from, to) in self.shared.queue.take_lost() {
            self.shared.outbox.report(StoreEvent::Lost { from, to });
        }
    }

    /// Reports that the disk does not answer.
    pub(super) fn report_stalled(&self, for_ms: u64) {
        self.shared.outbox.report(StoreEvent::Stalled { for_ms });
    }

    /// Writes all that waits, as far as the disk lets it, and the mark.
    pub(super) fn drain(&mut self) {
        let mut failures = 0;
        while failures < CLOSING_ATTEMPTS {
            match self.step() {
                Stepped::Done => {}
                Stepped::Failed | Stepped::Stalled => failures += 1,
                Stepped::Idle => break,
            }
        }
        self.sync_mark();
    }

    /// Makes the mark durable, as far as the disk lets it.
    pub(super) fn sync_mark(&mut self) {
        match self.journal.sync_mark() {
            Ok(()) => self.mark_failing = false,
            Err(error) if !std::mem::replace(&mut self.mark_failing, true) => {
                tracing::warn!("cannot sync `journal/durable`: {error}; tried again each second");
            }
            Err(_) => {}
        }
    }

    /// Runs until the store is closed.
    pub(super) fn run(mut self) {
        let gather = Duration::from_millis(self.shared.options.flush_ms);
        let mut synced = Instant::now();
        while !self.shared.queue.is_closing() {
            // After a failure the records are here and no longer in the queue.
            if self.failing || self.shared.queue.wait(gather, MARK_SYNC) {
                self.shared.queue.pause(BURST);
                match self.step() {
                    Stepped::Failed | Stepped::Stalled => self.shared.queue.pause(RETRY),
                    Stepped::Idle | Stepped::Done => {}
                }
            }
            if synced.elapsed() >= MARK_SYNC {
                synced = Instant::now();
                self.sync_mark();
            }
        }
        self.drain();
    }
}
