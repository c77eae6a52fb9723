//! How far the journal must reach: the one judge of it, for the start and for `verify`. No segment is opened here.
//!
//! The mark of what was durable counts, and whatever else on the disk names an event that was: the center's cursor, a generation, and
//! what retention removed. Whoever takes away one of them leaves the others.

use super::events::RecoveryIssue;
use super::marks::{self, Cursor, Mark};
use super::medium::{JOURNAL, Medium};
use super::retained;
use super::segment::{self, EVENT_MAX, SEGMENT_BYTES_MAX};
use super::{generation, segments};

/// What the disk names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reach {
    /// How far the journal was durable, by its mark.
    pub mark: Mark,
    /// How far the center has it.
    pub acked: u64,
    /// The highest event that is named, and by which file.
    pub floor: u64,
    pub named_by: String,
    /// What stands in the place of something of ours and cannot be it.
    pub foreign: Vec<RecoveryIssue>,
}

impl Reach {
    /// What the files beside the segments name.
    pub(super) fn read(medium: &dyn Medium) -> Self {
        let (mark, cursor, front) = (marks::read(medium), marks::read_acked(medium), retained::read(medium));
        let mut foreign = foreign(medium);
        if cursor == Cursor::Damaged {
            foreign.push(damaged(marks::ACKED_PATH, "it holds no number of an event with its checksum"));
        }
        let is_bare = front == retained::Found::Nothing
            && cursor == Cursor::Nothing
            && generation::names(medium).is_empty()
            && segments::names(medium).is_empty();
        // Nothing was ever written here: the first start, or one that ended before both slots of the mark were made.
        let mark = if is_bare && mark.least() == 0 { Mark::Through(0) } else { mark };
        let mut reach = Self { mark, acked: cursor.through(), floor: 0, named_by: marks::PATH.to_owned(), foreign };
        reach.named(mark.least(), marks::PATH);
        reach.named(cursor.through(), marks::ACKED_PATH);
        if let retained::Found::Mark(mark) = front {
            reach.named(mark.through, retained::PATH);
        }
        reach
    }

    /// A file names an event.
    pub(super) fn named(&mut self, n: u64, path: &str) {
        if n > self.floor {
            (self.floor, self.named_by) = (n, path.to_owned());
        }
    }
}

fn damaged(path: &str, why: impl Into<String>) -> RecoveryIssue {
    RecoveryIssue::NotOurs { file: path.to_owned(), why: why.into() }
}

/// The files in the journal that have the name of a segment and cannot be one.
fn foreign(medium: &dyn Medium) -> Vec<RecoveryIssue> {
    let names = medium.list(JOURNAL).unwrap_or_default();
    let named = names.iter().filter(|name| segment::looks_like(name)).filter_map(|name| {
        let path = format!("{JOURNAL}/{name}");
        let why = if segment::first_of(name).is_none() {
            format!("no event has a number above {EVENT_MAX}")
        } else if medium.is_special(&path) {
            "it is no regular file".to_owned()
        } else if medium.length(&path).is_ok_and(|length| length > SEGMENT_BYTES_MAX) {
            format!("no segment is longer than {SEGMENT_BYTES_MAX} bytes")
        } else {
            return None;
        };
        Some(damaged(&path, why))
    });
    named.collect()
}
