//! What was found to be wrong with what is on disk, for the log, the alarm and the audit.

use std::fmt;

/// Whether everything that was ever acknowledged is in the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wholeness {
    /// It is.
    Whole,
    /// Events of this span, both ends inclusive, are lost or could not be applied. Ask for the list anew; grant nothing new until it came.
    Damaged {
        /// First lost event.
        lost_from: u64,
        /// Last lost event.
        lost_to: u64,
    },
}

/// One thing that was found on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// A generation is damaged; it lies in `damaged/` and is not used.
    GenerationSetAside {
        /// Its name.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// A generation cannot be read now; it was left where it is.
    GenerationUnreadable {
        /// Its name.
        name: String,
        /// What the disk says.
        why: String,
    },
    /// The last write was cut short before anybody was told of it; it was removed.
    TornTail {
        /// The segment.
        segment: String,
        /// How much was removed, in bytes.
        bytes: u64,
    },
    /// Bytes of a segment are no event; a copy of the segment lies in `damaged/`.
    BadBytes {
        /// The segment.
        segment: String,
        /// First bad byte.
        from: u64,
        /// First good byte after it.
        to: u64,
    },
    /// A segment cannot be read.
    SegmentUnreadable {
        /// The segment.
        segment: String,
        /// What the disk says.
        why: String,
    },
    /// An event could not be understood or applied.
    NotApplied {
        /// Its number.
        n: u64,
        /// Why.
        why: String,
    },
    /// An event's number is not above the one before it; it was not applied.
    OutOfOrder {
        /// Its number.
        n: u64,
    },
    /// An event does not follow from the one before it, though none is missing between: one of them was edited.
    ChainBroken {
        /// The later event.
        n: u64,
    },
    /// Acknowledged events are gone.
    Lost {
        /// First.
        from: u64,
        /// Last.
        to: u64,
    },
    /// Events that a generation already holds are gone from the journal; the state is whole, the audit is not.
    AuditLost {
        /// First.
        from: u64,
        /// Last.
        to: u64,
    },
    /// A loss that a later `log_gap` event already speaks of.
    KnownLoss {
        /// First.
        from: u64,
        /// Last.
        to: u64,
    },
    /// The file that says how far the journal was durable cannot be read, or not wholly.
    MarkUnreadable,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::GenerationSetAside { name, why } => {
                write!(f, "generation `{name}` is damaged ({why}); it was moved to `damaged/`")
            }
            Self::GenerationUnreadable { name, why } => {
                write!(f, "generation `{name}` cannot be read now ({why}); free some space or check the disk")
            }
            Self::TornTail { segment, bytes } => {
                write!(f, "`{segment}` ended in {bytes} bytes of an unfinished write that nobody was told of; removed")
            }
            Self::BadBytes { segment, from, to } => {
                write!(f, "bytes {from} to {to} of `{segment}` are damaged; a copy of it is kept in `damaged/`")
            }
            Self::SegmentUnreadable { segment, why } => write!(f, "`{segment}` cannot be read ({why}); check the disk"),
            Self::NotApplied { n, why } => write!(f, "event {n} could not be applied: {why}"),
            Self::OutOfOrder { n } => {
                write!(f, "event {n} comes after one of the same or a higher number; not applied")
            }
            Self::ChainBroken { n } => {
                write!(f, "event {n} does not follow from the one before it: one of them was edited")
            }
            Self::Lost { from, to } => write!(f, "events {from} to {to} are lost"),
            Self::AuditLost { from, to } => {
                write!(f, "events {from} to {to} are lost to the audit; the state holds what they said")
            }
            Self::KnownLoss { from, to } => write!(f, "events {from} to {to} are lost, as a `log_gap` already says"),
            Self::MarkUnreadable => f.write_str("`journal/durable` is damaged or missing"),
        }
    }
}
