//! What the store reports: to the gateway while it runs, and of what it found on disk.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::lock;

/// How often the listener looks whether a flush hangs.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A flush that takes this long, in looks, is a stall.
const STALL_LOOKS: u32 = 2;

/// Whether everything that was ever acknowledged is in the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Integrity {
    /// It is.
    Complete,
    /// Events of this span, both ends inclusive, are lost or could not be applied: ask for the list again and grant nothing
    /// new until it came.
    Damaged {
        /// First lost event.
        lost_from: u64,
        /// Last lost event.
        lost_to: u64,
    },
}

/// One thing that is wrong on disk. Numbers are those of events, ranges inclusive.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the message of each variant names its fields")]
pub enum RecoveryIssue {
    /// A generation is damaged and not used.
    #[error("generation `{name}` is damaged ({why}); it was moved to `damaged/`")]
    GenerationSetAside { name: String, why: String },
    /// A generation cannot be read now; it was left where it is.
    #[error("generation `{name}` cannot be read now ({why}); free some space or check the disk")]
    GenerationUnreadable { name: String, why: String },
    /// The last write was cut short before it was reported durable.
    #[error("`{segment}` ended in {bytes} bytes of an unfinished write that was never reported durable; removed")]
    TornTail { segment: String, bytes: u64 },
    /// Bytes of a segment are no event.
    #[error("bytes {from} to {to} of `{segment}` are damaged; a copy of it is kept in `damaged/`")]
    BadBytes { segment: String, from: u64, to: u64 },
    /// A segment cannot be read.
    #[error("`{segment}` cannot be read ({why}); check the disk")]
    SegmentUnreadable { segment: String, why: String },
    /// An event could not be decoded or applied.
    #[error("event {n} could not be applied: {why}")]
    NotApplied { n: u64, why: String },
    /// An event's number is not above the one before it; it was not applied.
    #[error("event {n} comes after one of the same or a higher number; not applied")]
    OutOfOrder { n: u64 },
    /// An event does not follow from the one before it, though none is missing between.
    #[error("event {n} does not follow from the one before it: one of them was edited")]
    ChainBroken { n: u64 },
    /// Acknowledged events are gone.
    #[error("events {from} to {to} are lost")]
    Lost { from: u64, to: u64 },
    /// Events that a generation already holds are gone from the journal: the state has them, the audit has not.
    #[error("events {from} to {to} are lost to the audit; the state holds their effects")]
    AuditLost { from: u64, to: u64 },
    /// A loss that a later `log_gap` event names.
    #[error("events {from} to {to} are lost, as a `log_gap` already records")]
    KnownLoss { from: u64, to: u64 },
    /// The file that holds how far the journal was durable cannot be read, or only in part.
    #[error("`journal/durable` is damaged or missing")]
    MarkUnreadable,
    /// Events in clear after encrypted ones.
    #[error(
        "`{segment}` has events in clear after encrypted ones: whoever wrote them did not have the key; they are not applied"
    )]
    InClear { segment: String },
    /// What has the name of a file of the store and cannot be it.
    #[error("`{file}` is damaged or none of the gateway's ({why}); nothing in it counts; look at it and move it away")]
    NotOurs { file: String, why: String },
    /// The disk had no room to open a generation, so the reserve file was removed.
    #[error("the disk is full; the reserve file was removed to start; make room")]
    ReserveReleased,
    /// Nothing can be written.
    #[error("the store cannot be written ({why}); decisions go on, nothing is acknowledged; make the disk writable")]
    NotWritable { why: String },
    /// Nothing can be written: what was opened is no longer what its path leads to.
    #[error(
        "the store cannot be written ({why}); decisions go on, nothing is acknowledged; put back what was there, or stop the gateway, \
         restore a backup with `dormgate restore` and start it"
    )]
    NotThere { why: String },
    /// How far the center has the audit cannot be written.
    #[error(
        "the store cannot be written (`journal/acked`: {why}); decisions and acknowledgements go on, but a start sends events again; \
         check the disk and `data_dir`"
    )]
    CursorNotWritten { why: String },
}

impl RecoveryIssue {
    /// That nothing can be written, for this reason.
    #[must_use]
    pub fn not_written(error: &io::Error) -> Self {
        let why = error.to_string();
        match error.kind() {
            io::ErrorKind::StaleNetworkFileHandle => Self::NotThere { why },
            _ => Self::NotWritable { why },
        }
    }
}

/// Where a journal is not what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Break {
    /// The first event in doubt.
    pub n: u64,
    /// The file, in the data directory.
    pub file: String,
    /// Where in the file, in bytes.
    pub offset: u64,
    /// What is wrong.
    pub why: String,
}

/// What is known of the events before the first one that is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Front {
    /// The journal has no mark of what was removed: it was written by an earlier version, and no gateway was started since.
    #[default]
    Unmarked,
    /// The mark.
    Marked {
        /// Retention removed the events up to this one; 0: none.
        through: u64,
        /// Up to here they were gone before there was a mark, and nothing records why; 0: none.
        unexplained: u64,
    },
}

/// What [`super::verify`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// The first event kept; 0: none.
    pub first: u64,
    /// The last event; 0: none.
    pub last: u64,
    /// How many events were read.
    pub events: u64,
    /// Losses that a later `log_gap` names, both ends inclusive.
    pub explained: Vec<(u64, u64)>,
    /// What the backup lacks that was restored, both ends inclusive, until a start reports it in a `log_gap`.
    pub restored: Option<(u64, u64)>,
    /// How many of them were erased: what is left of each keeps the chain.
    pub erased: u64,
    /// What was removed before the first of them.
    pub front: Front,
    /// The first thing that is wrong with the chain or its files.
    pub broken: Option<Break>,
    /// The first event whose message is not what its stream signed. Apart: after a change of a key it is there for long, and what else is
    /// wrong must not hide behind it.
    pub unsigned: Option<Break>,
}

/// How the events of a holder were erased.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Erasure {
    /// How many were erased now.
    pub erased: u64,
    /// Up to which event.
    pub through: u64,
    /// How many of the holder are kept after that: the center does not have them yet.
    pub kept: u64,
}

/// What the store reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreEvent {
    /// Every event up to this number that was not lost or refused is durable.
    Durable {
        /// The last durable event.
        through: u64,
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
    /// An event can never be written: an error of the caller. It counts as lost.
    Refused {
        /// Its number.
        n: u64,
        /// Why.
        why: &'static str,
    },
    /// Nothing becomes durable any more, or the cursor of the audit does not; the store retries. Reported once for each.
    Failing {
        /// What is wrong.
        issue: RecoveryIssue,
    },
    /// All of it can be written again. Reported once.
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
    /// The journal has reached its hard limit and these events are to go, as inclusive ranges. They go once a `log_gap` with the cause
    /// `hard_limit` that ends with the last of them is durable.
    Removing {
        /// The ranges, in order.
        ranges: Vec<(u64, u64)>,
    },
    /// Something was found to be wrong on disk after the start.
    Found(RecoveryIssue),
}

/// Between the store's threads and the gateway.
#[derive(Debug, Default)]
struct Channel {
    waiting: Mutex<Waiting>,
    wake: Notify,
    /// Odd while the writer is in a write, and another number each time.
    writes: AtomicU64,
}

/// Bounded by the merging: without a flush nothing is reported but what happens once, and flushes in a row are one.
#[derive(Debug, Default)]
struct Waiting {
    events: VecDeque<StoreEvent>,
    ended: bool,
}

/// The sending end; shared by the store's threads. Sending never waits.
#[derive(Debug)]
pub(super) struct Outbox(Arc<Channel>);

/// The receiving end of the store's events.
#[derive(Debug)]
pub struct StoreEvents {
    channel: Arc<Channel>,
    /// Whether writes are watched; a simulation has no time.
    timed: bool,
    next_look: Option<Instant>,
    seen: u64,
    looks: u32,
}

pub(super) fn channel(timed: bool) -> (Outbox, StoreEvents) {
    let channel = Arc::<Channel>::default();
    (Outbox(Arc::clone(&channel)), StoreEvents { channel, timed, next_look: None, seen: 0, looks: 0 })
}

impl Outbox {
    pub(super) fn report(&self, event: StoreEvent) {
        if Arc::strong_count(&self.0) == 1 {
            // Nobody receives any more.
            return;
        }
        let mut waiting = lock(&self.0.waiting);
        if let (Some(StoreEvent::Durable { through, took }), StoreEvent::Durable { through: later, took: other }) =
            (waiting.events.back_mut(), &event)
        {
            (*through, *took) = (*later, (*took).max(*other));
        } else {
            waiting.events.push_back(event);
        }
        drop(waiting);
        self.0.wake.notify_one();
    }

    /// A write begins or ends.
    pub(super) fn write_changes(&self) {
        self.0.writes.fetch_add(1, Ordering::Relaxed);
    }

    /// Nothing more will be reported.
    pub(super) fn end(&self) {
        lock(&self.0.waiting).ended = true;
        self.0.wake.notify_one();
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        self.end();
    }
}

impl StoreEvents {
    /// The next event; `None` when the store is closed. May be dropped and called again without losing anything.
    pub async fn recv(&mut self) -> Option<StoreEvent> {
        loop {
            let (event, ended) = {
                let mut waiting = lock(&self.channel.waiting);
                (waiting.events.pop_front(), waiting.ended)
            };
            if event.is_some() || ended {
                return event;
            }
            let look = *self.next_look.get_or_insert_with(|| Instant::now() + LOOK_EVERY);
            tokio::select! {
                biased;
                () = self.channel.wake.notified() => {}
                () = tokio::time::sleep_until(look), if self.timed => {
                    self.next_look = Some(Instant::now() + LOOK_EVERY);
                    if let Some(stalled) = self.look() {
                        return Some(stalled);
                    }
                }
            }
        }
    }

    /// The next event if there is one now.
    pub fn try_recv(&mut self) -> Option<StoreEvent> {
        lock(&self.channel.waiting).events.pop_front()
    }

    fn look(&mut self) -> Option<StoreEvent> {
        let writes = self.channel.writes.load(Ordering::Relaxed);
        if writes.is_multiple_of(2) || writes != self.seen {
            (self.seen, self.looks) = (writes, 0);
            return None;
        }
        self.looks = self.looks.saturating_add(1);
        (self.looks >= STALL_LOOKS).then_some(StoreEvent::Stalled { for_ms: u64::from(self.looks) * 1000 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_gateway_that_does_not_receive_gets_one_durable_for_many_and_then_the_end() {
        let (outbox, mut events) = channel(true);
        let durable = |through, took| StoreEvent::Durable { through, took: Duration::from_millis(took) };
        [1, 5, 2].into_iter().zip(1..).for_each(|(took, through)| outbox.report(durable(through, took)));
        outbox.report(StoreEvent::Recovered);
        outbox.report(durable(4, 0));
        drop(outbox);
        for expected in [Some(durable(3, 5)), Some(StoreEvent::Recovered), Some(durable(4, 0)), None, None] {
            assert_eq!(events.recv().await, expected);
        }
    }

    #[test]
    fn every_issue_stands_in_chinese_on_a_page_in_chinese() {
        let text = || "f-1.dg".to_owned();
        let (n, from, to) = (1, 2, 3);
        let all = [
            RecoveryIssue::GenerationSetAside { name: text(), why: text() },
            RecoveryIssue::GenerationUnreadable { name: text(), why: text() },
            RecoveryIssue::TornTail { segment: text(), bytes: 4 },
            RecoveryIssue::BadBytes { segment: text(), from, to },
            RecoveryIssue::SegmentUnreadable { segment: text(), why: text() },
            RecoveryIssue::NotApplied { n, why: text() },
            RecoveryIssue::OutOfOrder { n },
            RecoveryIssue::ChainBroken { n },
            RecoveryIssue::Lost { from, to },
            RecoveryIssue::AuditLost { from, to },
            RecoveryIssue::KnownLoss { from, to },
            RecoveryIssue::MarkUnreadable,
            RecoveryIssue::InClear { segment: text() },
            RecoveryIssue::NotOurs { file: text(), why: text() },
            RecoveryIssue::ReserveReleased,
            RecoveryIssue::NotWritable { why: text() },
            RecoveryIssue::NotThere { why: text() },
            RecoveryIssue::CursorNotWritten { why: text() },
        ];
        let (issues, _) = include_str!("events.rs").split_once("impl RecoveryIssue").unwrap();
        assert_eq!(all.len(), issues.matches("#[error(").count(), "one is missing here");
        all.iter().for_each(|issue| crate::chinese::is_in_chinese(&issue.to_string()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_that_hangs_is_reported_while_it_hangs() {
        let (outbox, mut events) = channel(true);
        outbox.write_changes();
        assert_eq!(events.recv().await, Some(StoreEvent::Stalled { for_ms: 2000 }));
        assert_eq!(events.recv().await, Some(StoreEvent::Stalled { for_ms: 3000 }));
        outbox.write_changes();
        let quiet = tokio::time::timeout(Duration::from_secs(60), events.recv()).await;
        assert!(quiet.is_err());
    }
}
