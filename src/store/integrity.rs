//! Whether what was acknowledged is in the state, and what the store found wrong on disk: for the log, the alarm and the audit.

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
    /// The disk had no room to open a generation, so the reserve file was removed.
    #[error("the disk is full; the reserve file was removed to start; make room")]
    ReserveReleased,
    /// Nothing can be written.
    #[error("the store cannot be written ({why}); decisions go on, nothing is acknowledged; make the disk writable")]
    NotWritable { why: String },
}
