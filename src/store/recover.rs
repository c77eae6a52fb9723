//! The start: the newest good generation, the journal after it, and what is missing. Never panics, whatever the bytes are;
//! what cannot be read is set aside and reported. A disk that cannot be written is read all the same.

use std::io;

use super::integrity::{Integrity, RecoveryIssue};
use super::journal::Repair;
use super::marks::{self, Mark};
use super::medium::{DAMAGED, JOURNAL, Medium};
use super::replay::{self, Place, Replayed, Segment, Tail};
use super::{Fold, manifest, reserve};

/// Numbers skipped when the end of the journal is damaged and the mark cannot be read: more events than that were not in one
/// unsynced tail, and no number may be used twice.
const UNKNOWN_TAIL_NUMBERS: u64 = 10_000;

/// Everything the start found.
pub(super) struct Found<F> {
    pub state: F,
    /// The last event read, to chain to.
    pub place: Place,
    pub next_n: u64,
    pub integrity: Integrity,
    pub lost: Vec<(u64, u64)>,
    pub issues: Vec<RecoveryIssue>,
    pub events: u64,
    pub segments: Vec<Segment>,
    /// The last segment can be written on.
    pub reuse_last: bool,
    /// Last event lost at the journal's end; 0: none.
    pub lost_to: u64,
    /// An unfinished end that could not be removed.
    pub repair: Option<Repair>,
    /// Position of the generation the state began with; 0: none.
    pub base: u64,
    pub acked: u64,
}

/// Makes the directories the store needs.
pub(super) fn make_dirs(medium: &dyn Medium) -> io::Result<()> {
    [JOURNAL, manifest::GENERATIONS, DAMAGED].into_iter().try_for_each(|dir| medium.make_dir(dir))?;
    medium.sync_dir(".")
}

/// Reads all of it.
pub(super) fn recover<F: Fold>(medium: &dyn Medium) -> io::Result<Found<F>> {
    let mut issues = Vec::new();
    let mut segments = replay::segments(medium)?;
    let mark = marks::read(medium);
    let acked = marks::read_acked(medium);
    // Names of generations are a floor for the numbers even where the generation itself is damaged.
    let positions = manifest::names(medium).iter().filter_map(|n| manifest::position_of(n)).max().unwrap_or(0);
    let fresh = segments.is_empty() && positions == 0 && acked == 0;
    let mark = if fresh && mark == Mark::Unknown { Mark::Through(0) } else { mark };
    let (mut state, mut base) = manifest::newest::<F>(medium, &mut issues);
    let unreadable = |issue: &RecoveryIssue| matches!(issue, RecoveryIssue::GenerationUnreadable { .. });
    if issues.iter().any(unreadable) && reserve::remove(medium) {
        // sled cannot open anything on a full disk.
        issues.retain(|issue| !unreadable(issue));
        issues.push(RecoveryIssue::ReserveReleased);
        (state, base) = manifest::newest::<F>(medium, &mut issues);
    }
    let (place, mut replayed) = replay::replay(medium, replay::after(&segments, base.n), base, &mut state);
    replayed.keep_copies(medium);
    let floor = mark.least().max(acked).max(positions);
    let tail = replayed.tail.take();
    let bounds = Bounds { base: base.n, place, floor, mark };
    let (end, repair) = judge_tail(medium, &bounds, tail, &mut replayed);
    replayed.settle();
    issues.append(&mut replayed.issues);
    if mark != Mark::Through(mark.least()) {
        issues.push(RecoveryIssue::MarkUnreadable);
    }
    let (reuse_last, lost_to, last) = match end {
        End::Good => (ends_well(tail, place, segments.last_mut()), 0, place.n),
        // The header may be all that names an earlier loss.
        End::Removed => {
            segments.pop();
            (false, tail.and_then(|tail| tail.header).map_or(0, |header| header.lost_to), place.n)
        }
        End::Lost { through } => (false, through, through),
    };
    measure(medium, &mut segments);
    let integrity = match (replayed.lost.first(), replayed.lost.iter().map(|(_, to)| *to).max()) {
        (Some((lost_from, _)), Some(lost_to)) => Integrity::Damaged { lost_from: *lost_from, lost_to },
        _ => Integrity::Complete,
    };
    Ok(Found {
        state,
        place,
        next_n: last.max(floor) + 1,
        integrity,
        lost: replayed.lost,
        issues,
        events: replayed.events,
        segments,
        reuse_last,
        lost_to,
        repair,
        base: base.n,
        acked,
    })
}

/// How the journal ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// With its last event, if any.
    Good,
    /// Its last segment held nothing and is gone.
    Removed,
    /// Acknowledged events are missing after its last one.
    Lost { through: u64 },
}

/// What the end of the journal is judged by.
struct Bounds {
    /// Where the generation ends and where the journal does.
    base: u64,
    place: Place,
    /// The highest number anything on disk names.
    floor: u64,
    mark: Mark,
}

/// How the journal looks at its end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ends {
    /// With a whole event.
    Well,
    /// In the middle of one, or there is nothing.
    Badly,
}

fn judge_tail(
    medium: &dyn Medium,
    bounds: &Bounds,
    tail: Option<Tail>,
    replayed: &mut Replayed,
) -> (End, Option<Repair>) {
    let Bounds { base, place, floor, mark } = *bounds;
    let torn = tail.filter(|tail| tail.bad > 0 || tail.last_n.is_none());
    // A journal without any segment ends nowhere: what stood in it after the generation is gone.
    let ends = if torn.is_some() || tail.is_none() { Ends::Badly } else { Ends::Well };
    let through = match (ends, mark) {
        (Ends::Badly, Mark::AtLeast(_) | Mark::Unknown) => floor.max(place.n.saturating_add(UNKNOWN_TAIL_NUMBERS)),
        (Ends::Badly, Mark::Through(_)) | (Ends::Well, Mark::Through(_) | Mark::AtLeast(_) | Mark::Unknown) => floor,
    };
    let audit_end = tail.map_or(0, |tail| tail.last_n.unwrap_or(tail.first_n.saturating_sub(1)));
    if audit_end < base {
        replayed.audit_lost(audit_end + 1, base);
    }
    if place.n < through {
        replayed.lost(place.n + 1, through);
    }
    let Some(tail) = torn else {
        return (if place.n < through { End::Lost { through } } else { End::Good }, None);
    };
    let segment = Segment::path(tail.first_n);
    if place.n < through || audit_end < base {
        // What stood there was reported durable: it is kept for inspection, and the journal goes on in a new segment.
        replayed.issues.push(RecoveryIssue::BadBytes { segment, from: tail.good, to: tail.good + tail.bad });
        replay::keep_copy(medium, tail.first_n);
        return (if place.n < through { End::Lost { through } } else { End::Good }, None);
    }
    let empty = tail.last_n.is_none();
    let (cut, repair) = if empty {
        (medium.remove(&segment), Repair::Remove { first_n: tail.first_n })
    } else {
        let cut = medium.truncate(&segment, tail.good).and_then(|()| medium.sync(&segment));
        (cut, Repair::Cut { first_n: tail.first_n, length: tail.good })
    };
    if let Err(error) = &cut {
        tracing::warn!("cannot remove the unfinished end of `{segment}` yet: {error}");
    }
    replayed.issues.push(RecoveryIssue::TornTail { segment, bytes: tail.bad });
    (if empty { End::Removed } else { End::Good }, cut.err().map(|_| repair))
}

/// Whether the last segment can be written on; sets its length.
fn ends_well(tail: Option<Tail>, place: Place, last: Option<&mut Segment>) -> bool {
    let (Some(tail), Some(last)) = (tail, last) else { return false };
    let well = tail.header.is_some() && tail.last_n == Some(place.n);
    if well {
        last.length = tail.good;
    }
    well
}

/// Fills in the lengths that are not known yet.
fn measure(medium: &dyn Medium, segments: &mut [Segment]) {
    for segment in segments.iter_mut().filter(|s| s.length == u64::MAX) {
        segment.length = medium.length(&Segment::path(segment.first_n)).unwrap_or(0);
    }
}
