//! The hard limit of the journal: what the center does not have goes by class, named by a `log_gap` before it goes.

use super::super::limit::{Removal, removal};
use super::super::segment::HEADER_BYTES;
use super::*;
use crate::access::credential::Role;
use crate::access::decision::{GrantFlags, Reason, Reasons};
use crate::access::event::{Outcome, Who};
use crate::lock;

/// Below it nothing goes: some five segments.
const LIMIT_BYTES: u64 = 36_000;
/// Length of a segment, so that a gap takes little beside what it removes.
const SEGMENT_BYTES: u64 = 8_000;

fn limited() -> Options {
    Options { limit_bytes: LIMIT_BYTES, ..unlimited() }
}

fn unlimited() -> Options {
    Options { segment_bytes: SEGMENT_BYTES, ..small() }
}

fn open_limited(disk: &MemoryDisk) -> Open {
    Store::open_in_memory::<EventLog>(disk, limited()).unwrap()
}

/// A store that begins with more than its limit.
fn over_limit(disk: &MemoryDisk) -> Open {
    let mut opened = Store::open_in_memory::<EventLog>(disk, unlimited()).unwrap();
    write(&mut opened, 1..=150);
    drop(opened);
    open_limited(disk)
}

fn journal_bytes(disk: &MemoryDisk) -> usize {
    disk.files().iter().filter(|(name, _)| name.ends_with(".seg")).map(|(_, length)| length).sum()
}

/// The gap that the engine records for a removal.
fn named(n: u64, ranges: &[(u64, u64)]) -> Record {
    let (from, to) = (ranges[0].0, ranges[ranges.len() - 1].1);
    let body = Event::LogGap { from, to, cause: GapCause::HardLimit, ranges: ranges.to_vec() };
    Record { event: AuditEvent { body, ..event(n) }, evidence: Vec::new(), flush: Flush::Now }
}

/// Does the chores; what is to go, if anything.
fn removing(opened: &mut Open) -> Option<Vec<(u64, u64)>> {
    opened.3.chores();
    drain(&mut opened.1).into_iter().find_map(|event| match event {
        StoreEvent::Removing { ranges } => Some(ranges),
        _ => None,
    })
}

/// Does the chores and names what is to go, as the engine does, until nothing more is to go. Gives the next free number.
fn settle(opened: &mut Open, mut next: u64) -> u64 {
    loop {
        let Some(ranges) = removing(opened) else { return next };
        opened.0.append(vec![named(next, &ranges)]);
        assert_eq!(opened.3.flush(), Stepped::Idle);
        next += 1;
    }
}

/// Appends events one by one from `next` on until `count` of them are written, beside the gaps.
fn fill(opened: &mut Open, mut next: u64, count: u64, record: impl Fn(u64) -> Record) -> u64 {
    for _ in 0..count {
        opened.0.append(vec![record(next)]);
        assert_eq!(opened.3.flush(), Stepped::Idle);
        next = settle(opened, next + 1);
    }
    next
}

fn kinds(store: &Store) -> Vec<(u64, Event)> {
    let all = store.read_blocking(0, usize::MAX, usize::MAX).unwrap();
    all.into_iter().map(|e| (e.n, crate::wire::audit::decode(&e.json).unwrap().event.body)).collect()
}

#[test]
fn at_the_hard_limit_what_matters_least_goes_first_and_a_gap_explains_the_chain() {
    let disk = MemoryDisk::new();
    let mut opened = open_limited(&disk);
    let decision = |n, reason| {
        let (portal, who, detail) = (None, Who::default(), "x".repeat(100));
        let (also, flags, role) = (Reasons::empty(), GrantFlags::empty(), Role::default());
        let body =
            Event::Decision { portal, who, role, outcome: Outcome::Deny(reason), also, flags, direction: None, detail };
        Record { event: AuditEvent { body, ..event(n) }, evidence: Vec::new(), flush: Flush::Soon }
    };
    let of_ten = |n: u64| match n % 10 {
        3 => change(n),
        5 => decision(n, Reason::Lost),
        _ => decision(n, Reason::NotEnrolled),
    };
    let next = fill(&mut opened, 1, 200, of_ten);
    assert!(journal_bytes(&disk) as u64 <= LIMIT_BYTES + SEGMENT_BYTES, "{}", journal_bytes(&disk));
    let kept = kinds(&opened.0);
    let is_change = |event: &Event| matches!(event, Event::ChangesApplied { .. });
    let is_lost = |event: &Event| matches!(event, Event::Decision { outcome: Outcome::Deny(Reason::Lost), .. });
    let is_common =
        |event: &Event| matches!(event, Event::Decision { outcome: Outcome::Deny(Reason::NotEnrolled), .. });
    let gaps: Vec<u64> =
        kept.iter().filter(|(_, event)| matches!(event, Event::LogGap { .. })).map(|(n, _)| *n).collect();
    assert_eq!(gaps.len() as u64, next - 201, "each gap is kept");
    let is_gap = |n| gaps.contains(&n);
    let written: Vec<u64> = (1..next).filter(|n| n % 10 == 3 || n % 10 == 5).collect();
    let staying = kept.iter().filter(|(_, event)| is_change(event) || is_lost(event)).map(|(n, _)| *n);
    assert_eq!(staying.collect::<Vec<_>>(), written.iter().copied().filter(|n| !is_gap(*n)).collect::<Vec<_>>());
    let common: Vec<u64> = kept.iter().filter(|(_, event)| is_common(event)).map(|(n, _)| *n).collect();
    assert!(
        common.first().is_some_and(|first| *first > 100) && common.contains(&(next - 1)),
        "the oldest went: {common:?}"
    );
    // The chain is whole with what the gaps explain, live, after a restart, and to the scrub.
    let verified = verify_on(&disk).unwrap();
    assert_eq!((verified.broken, verified.last), (None, next - 1));
    assert!(!verified.explained.is_empty());
    opened.3.keeper.scrub();
    assert_eq!(drain(&mut opened.1), []);
    disk.crash(0);
    let recovered = open_limited(&disk).2;
    assert_eq!(
        (recovered.integrity, recovered.issues, recovered.state.0.len() as u64),
        (Integrity::Complete, vec![], next - 1)
    );
}

#[test]
fn a_cut_of_the_power_between_any_two_steps_of_a_removal_loses_nothing_else() {
    for cut_after in ["announced", "named", "durable", "removed", "half rewritten"] {
        let disk = MemoryDisk::new();
        let mut opened = over_limit(&disk);
        let ranges = removing(&mut opened).unwrap();
        if cut_after != "announced" {
            opened.0.append(vec![named(151, &ranges)]);
        }
        if !["announced", "named"].contains(&cut_after) {
            opened.3.flush();
        }
        if cut_after == "removed" {
            opened.3.chores();
        }
        if cut_after == "half rewritten" {
            let new = format!("{}.new", segments::Segment::path(1));
            disk.write_at(&new, 0, b"half").unwrap();
            disk.sync(&new).unwrap();
            disk.sync_dir("journal").unwrap();
        }
        disk.crash(0);
        let mut opened = open_limited(&disk);
        assert_eq!((opened.2.integrity, &opened.2.issues), (Integrity::Complete, &vec![]), "{cut_after}");
        assert!(opened.2.state.0.len() >= 150, "{cut_after}");
        assert_eq!(verify_on(&disk).unwrap().broken, None, "{cut_after}");
        assert!(disk.files().iter().all(|(name, _)| !name.ends_with(".new")), "{cut_after}");
        let next = opened.2.next_n;
        let next = settle(&mut opened, next);
        assert!(journal_bytes(&disk) as u64 <= LIMIT_BYTES, "{cut_after}");
        let changes = kinds(&opened.0).into_iter().filter(|(_, event)| matches!(event, Event::ChangesApplied { .. }));
        assert_eq!(changes.count(), 50, "{cut_after}");
        assert_eq!((verify_on(&disk).unwrap().broken, verify_on(&disk).unwrap().last), (None, next - 1), "{cut_after}");
    }
}

#[test]
fn what_the_center_has_goes_first_and_what_stays_goes_only_when_nothing_else_is_left() {
    let disk = MemoryDisk::new();
    let mut opened = open_limited(&disk);
    let next = fill(&mut opened, 1, 100, soon);
    opened.0.set_acked(next - 1);
    let gaps = |store: &Store| kinds(store).iter().filter(|(_, e)| matches!(e, Event::LogGap { .. })).count();
    let before = gaps(&opened.0);
    let next = fill(&mut opened, next, 120, soon);
    assert_eq!(gaps(&opened.0), before, "the center has them");
    assert!(opened.0.first() > 20, "{}", opened.0.first());
    // Only changes from here on: the oldest of them go whole, named.
    let next = fill(&mut opened, next, 300, change);
    assert!(journal_bytes(&disk) as u64 <= LIMIT_BYTES + SEGMENT_BYTES);
    let verified = verify_on(&disk).unwrap();
    assert_eq!((verified.broken, verified.last, verified.first), (None, next - 1, opened.0.first()));
    disk.crash(0);
    let recovered = open_limited(&disk).2;
    assert_eq!((recovered.integrity, recovered.issues), (Integrity::Complete, vec![]));
}

#[test]
fn a_state_that_lost_its_generations_is_not_complete_because_a_gap_names_what_went() {
    let disk = MemoryDisk::new();
    let mut opened = open_limited(&disk);
    fill(&mut opened, 1, 200, record);
    drop(opened);
    for (name, _) in disk.files().into_iter().filter(|(name, _)| name.starts_with("generations/")) {
        disk.damage(&name, |bytes| bytes[20] ^= 1);
    }
    assert!(matches!(open_limited(&disk).2.integrity, Integrity::Damaged { .. }));
}

#[test]
fn whoever_reads_while_a_segment_is_rewritten_misses_nothing_that_stays() {
    let disk = MemoryDisk::new();
    let mut opened = over_limit(&disk);
    // Somebody stands in the middle of each of the first segments.
    let (mut read, mut places) = (Vec::new(), vec![3, 12, 20, 29]);
    for from in &mut places {
        let one = opened.0.read_blocking(*from, 1, usize::MAX).unwrap();
        *from = one[0].n + 1;
        read.push(one[0].n);
    }
    let last = settle(&mut opened, 151);
    for from in places {
        let rest = opened.0.read_blocking(from, 1000, usize::MAX).unwrap();
        let changes: Vec<u64> = rest.iter().map(|e| e.n).filter(|n| n.is_multiple_of(3) && *n <= 150).collect();
        let expected: Vec<u64> = (from..=150).filter(|n| n.is_multiple_of(3)).collect();
        assert_eq!(changes, expected, "from {from}");
        assert_eq!(rest.last().map(|e| e.n), Some(last - 1));
    }
}

#[test]
fn events_that_went_at_the_hard_limit_do_not_count_as_kept_afterwards() {
    const RETAINED: u64 = 110;
    let disk = MemoryDisk::new();
    let options = Options { retain_events: RETAINED, ..limited() };
    let mut opened = Store::open_in_memory::<EventLog>(&disk, options).unwrap();
    // The center has the oldest segment, so that the others are counted, and goes away. Then they lose most of their events.
    let next = fill(&mut opened, 1, 60, record);
    opened.0.set_acked(45);
    let next = fill(&mut opened, next, 160, record);
    let first = opened.0.first();
    opened.0.set_acked(next - 1);
    opened.3.chores();
    assert!(opened.0.first() > first, "retention goes on");
    let kept = numbers(&opened.0).len() as u64;
    assert!(kept >= RETAINED, "{kept} events are kept");
}

/// What would be removed of each closed segment, and from where to where the segment goes.
fn removals(opened: &Open, disk: &MemoryDisk) -> Vec<((u64, u64), Option<Removal>)> {
    let segments = lock(&opened.0.0.0.index).segments.clone();
    let of = |pair: &[segments::Segment]| {
        let next_n = pair[1].first_n;
        ((pair[0].first_n, next_n - 1), removal(disk, pair[0], next_n).unwrap())
    };
    segments.windows(2).map(of).collect()
}

#[test]
fn a_removal_names_every_event_that_goes_and_no_other() {
    let disk = MemoryDisk::new();
    let mut opened = Store::open_in_memory::<EventLog>(&disk, unlimited()).unwrap();
    write(&mut opened, 1..=150);
    let all = removals(&opened, &disk);
    assert!(all.len() > 2, "{}", all.len());
    for ((first, last), removal) in all {
        let goes: Vec<u64> = (first..=last).filter(|n| !n.is_multiple_of(3)).collect();
        let Removal { first_n, ranges, whole } = removal.unwrap();
        let named: Vec<u64> = ranges.iter().flat_map(|(from, to)| *from..=*to).collect();
        assert_eq!((first_n, named, whole), (first, goes, false));
    }
}

#[test]
fn a_segment_of_which_nothing_stays_goes_whole_and_leaves_no_file() {
    let disk = MemoryDisk::new();
    let mut opened = Store::open_in_memory::<EventLog>(&disk, unlimited()).unwrap();
    for n in 1..=150 {
        opened.0.append(vec![soon(n)]);
        assert_eq!(opened.3.flush(), Stepped::Idle);
        opened.3.chores();
    }
    let all = removals(&opened, &disk);
    assert!(all.len() > 2, "{}", all.len());
    for ((first_n, last), removal) in all {
        assert_eq!(removal, Some(Removal { first_n, ranges: vec![(first_n, last)], whole: true }));
    }
    drop(opened);
    let mut opened = Store::open_in_memory::<EventLog>(&disk, Options { limit_bytes: 9_000, ..unlimited() }).unwrap();
    let next = opened.2.next_n;
    settle(&mut opened, next);
    let segments: Vec<_> = disk.files().into_iter().filter(|(name, _)| name.ends_with(".seg")).collect();
    assert!(segments.iter().all(|(_, length)| *length > HEADER_BYTES), "{segments:?}");
    assert!(opened.0.first() > 1, "the oldest went");
}
