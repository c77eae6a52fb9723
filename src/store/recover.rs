//! The start: the newest good generation, the journal after it, and what is missing. Never panics, whatever the bytes are;
//! what cannot be read is set aside and reported. A disk that cannot be written is read all the same.

use std::io;

use super::events::{Integrity, RecoveryIssue};
use super::journal::{JournalEnd, Repair};
use super::marks::Mark;
use super::medium::{DAMAGED, JOURNAL, Medium};
use super::reach::Reach;
use super::replay::{self, Replayed};
use super::segments::{self, Place, Segment};
use super::{Fold, Recovered, generation, reserve, segment};
use crate::wire::uid_key::UidKey;

/// Numbers skipped when the mark cannot be read, or one slot of it and the end of the journal is damaged: more events than that were not in one
/// unsynced tail, and no number may be used twice.
const UNKNOWN_TAIL_NUMBERS: u64 = 10_000;

/// What the start found.
pub(super) struct Found<F> {
    /// All but how long it took.
    pub recovered: Recovered<F>,
    pub segments: Vec<Segment>,
    pub end: JournalEnd,
    /// Position of the generation the state began with; 0: none.
    pub base: u64,
    /// It is encrypted.
    pub sealed: bool,
    pub acked: u64,
}

/// Makes the directories the store needs.
pub(super) fn make_dirs(medium: &dyn Medium) -> io::Result<()> {
    [JOURNAL, generation::GENERATIONS, DAMAGED].into_iter().try_for_each(|dir| medium.make_dir(dir))?;
    medium.sync_dir(".")
}

/// Removes segments that were being written again when the last run ended: the old ones are still there.
pub(super) fn remove_unfinished(medium: &dyn Medium) {
    let names = medium.list(JOURNAL).unwrap_or_default();
    let unfinished = names.iter().filter(|name| name.strip_suffix(".new").and_then(segment::first_of).is_some());
    let unfinished = unfinished.filter(|name| !medium.is_special(&format!("{JOURNAL}/{name}")));
    for name in unfinished {
        if let Err(error) = medium.remove(&format!("{JOURNAL}/{name}")) {
            tracing::warn!("cannot remove the unfinished segment `{name}`: {error}");
        }
    }
}

/// Reads all of it.
pub(super) fn recover<F: Fold>(medium: &dyn Medium, uids: Option<&UidKey>) -> io::Result<Found<F>> {
    let mut issues = Vec::new();
    let mut segments = segments::list(medium)?;
    let mut reach = Reach::read(medium);
    issues.append(&mut reach.foreign);
    let (mut state, mut base) = generation::newest::<F>(medium, &mut issues)?;
    let unreadable = |issue: &RecoveryIssue| matches!(issue, RecoveryIssue::GenerationUnreadable { .. });
    if issues.iter().any(unreadable) && reserve::remove(medium) {
        // sled cannot open anything on a full disk.
        issues.retain(|issue| !unreadable(issue));
        issues.push(RecoveryIssue::ReserveReleased);
        (state, base) = generation::newest::<F>(medium, &mut issues)?;
    }
    let (place, mut replayed) =
        replay::replay(medium, segments::after(&segments, base.place.n), (base, u64::MAX), (&mut state, uids));
    let sealed = base.sealed;
    let base = base.place;
    replayed.keep_copies(medium);
    // One that cannot be opened names nothing: its name is soon made.
    reach.named(base.n, generation::GENERATIONS);
    let Reach { mark, acked, floor, .. } = reach;
    let bounds = Bounds { base: base.n, place, floor, mark };
    let mut end = judge_tail(medium, &bounds, &mut replayed, &mut segments);
    for segment in segments.iter_mut().filter(|s| s.length == u64::MAX) {
        segment.length = medium.length(&Segment::path(segment.first_n)).unwrap_or(0);
    }
    // A segment that ends with the last event can be written on.
    if let (Some(tail), Some(last), 0) = (replayed.tail, segments.last_mut(), end.lost_to)
        && tail.header.is_some_and(|header| header.sealed == medium.seals())
        && tail.last_n == Some(place.n)
    {
        last.length = tail.good;
        end.open = Some(*last);
    }
    replayed.settle();
    issues.append(&mut replayed.issues);
    if mark != Mark::Through(mark.least()) {
        issues.push(RecoveryIssue::MarkUnreadable);
    }
    let integrity = match (replayed.lost.first(), replayed.lost.iter().map(|(_, to)| *to).max()) {
        (Some((lost_from, _)), Some(lost_to)) => Integrity::Damaged { lost_from: *lost_from, lost_to },
        _ => Integrity::Complete,
    };
    let recovered = Recovered {
        state,
        next_n: end.place.n + 1,
        prev: place.hash,
        integrity,
        lost: replayed.lost,
        issues,
        took_ms: 0,
        events_replayed: replayed.events,
    };
    Ok(Found { recovered, segments, end, base: base.n, sealed, acked })
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

/// Judges what stands after the last good event: the unfinished end of a write is removed, anything else is a loss.
fn judge_tail(
    medium: &dyn Medium,
    bounds: &Bounds,
    replayed: &mut Replayed,
    segments: &mut Vec<Segment>,
) -> JournalEnd {
    let Bounds { base, place, floor, mark } = *bounds;
    let tail = replayed.tail;
    let torn = tail.filter(|tail| tail.bad > 0 || tail.last_n.is_none());
    // A journal without any segment ends nowhere: what stood in it after the generation is gone.
    let ends_well = tail.is_some() && torn.is_none();
    let through = match mark {
        Mark::AtLeast(_) if ends_well => floor,
        // However well it ends: whoever took the mark may have taken the end too.
        Mark::AtLeast(_) | Mark::Unknown => floor.max(place.n.saturating_add(UNKNOWN_TAIL_NUMBERS)),
        Mark::Through(_) => floor,
    };
    let audit_end = tail.map_or(0, |tail| tail.last_n.unwrap_or(tail.first_n.saturating_sub(1)));
    if audit_end < base {
        replayed.audit_lost(audit_end + 1, base);
    }
    let is_lost = place.n < through;
    if is_lost {
        replayed.lost(place.n + 1, through);
    }
    let place = Place { n: place.n.max(through), ..place };
    let mut end = JournalEnd { place, open: None, lost_to: if is_lost { through } else { 0 }, repair: None };
    let Some(tail) = torn else { return end };
    let segment = Segment::path(tail.first_n);
    if is_lost || audit_end < base {
        // What stood there was reported durable: it is kept for inspection, and the journal goes on in a new segment.
        replayed.issues.push(RecoveryIssue::BadBytes { segment, from: tail.good, to: tail.good + tail.bad });
        replay::keep_copy(medium, tail.first_n);
        return end;
    }
    let (cut, repair) = if tail.last_n.is_none() {
        segments.pop();
        // The header may be all that names an earlier loss.
        end.lost_to = tail.header.map_or(0, |header| header.lost_to);
        (medium.remove(&segment), Repair::Remove { first_n: tail.first_n })
    } else {
        let cut = medium.truncate(&segment, tail.good).and_then(|()| medium.sync(&segment));
        (cut, Repair::Cut { first_n: tail.first_n, length: tail.good })
    };
    if let Err(error) = cut {
        tracing::warn!("cannot remove the unfinished end of `{segment}` yet: {error}");
        end.repair = Some(repair);
    }
    if tail.bad > 0 {
        replayed.issues.push(RecoveryIssue::TornTail { segment, bytes: tail.bad });
    }
    end
}
