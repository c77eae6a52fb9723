//! What retention removed is distinguished from what was removed by hand.

use super::super::marks::MarkWriter;
use super::super::retained::PATH;
use super::*;

/// A store of 100 events whose front retention has removed.
fn retained() -> (MemoryDisk, u64) {
    let disk = MemoryDisk::new();
    let options = Options { retain_events: 40, ..small() };
    let mut opened = Store::open_in_memory::<EventLog>(&disk, options).unwrap();
    write(&mut opened, 1..=100);
    opened.0.set_acked(100);
    opened.3.chores();
    let first = opened.0.first();
    assert!(first > 10, "{first}");
    opened.3.close();
    (disk, first)
}

#[test]
fn events_are_counted_and_not_their_numbers_of_which_a_restoration_leaves_out_millions() {
    let disk = MemoryDisk::new();
    let mut opened = open(&disk);
    write(&mut opened, 1..=100);
    opened.0.set_acked(100);
    opened.3.close();
    MarkWriter::default().reset(&disk, 10_000_100).unwrap();
    let options = Options { retain_events: 150, ..small() };
    let mut opened = Store::open_in_memory::<EventLog>(&disk, options).unwrap();
    assert_eq!(opened.2.next_n, 10_000_101);
    write(&mut opened, 10_000_101..=10_000_140);
    opened.3.chores();
    assert_eq!(opened.0.first(), 1, "140 of 150 are there");
    write(&mut opened, 10_000_141..=10_000_200);
    opened.3.chores();
    let first = opened.0.first();
    assert!((30..=50).contains(&first), "150 of 200 stay, in whole segments: {first}");
    opened.3.close();
}

fn segments(disk: &MemoryDisk) -> Vec<String> {
    disk.files().into_iter().map(|(name, _)| name).filter(|name| name.ends_with(".seg")).collect()
}

fn marked(through: u64, unexplained: u64) -> Front {
    Front::Marked { through, unexplained }
}

#[test]
fn oldest_segments_that_retention_did_not_remove_are_named_as_missing() {
    let (disk, first) = retained();
    let verified = verify_on(&disk).unwrap();
    assert_eq!((verified.broken, verified.first, verified.front), (None, first, marked(first - 1, 0)));
    disk.remove(&segments(&disk)[0]).unwrap();
    let verified = verify_on(&disk).unwrap();
    let broken = verified.broken.expect("the front was removed by hand");
    assert_eq!(broken.n, first);
    assert_eq!(broken.why, format!("events {first} to {} are missing", verified.first - 1));
    // A start does not make it right, and reports it.
    let mut opened = open(&disk);
    opened.3.keeper.scrub();
    let lost = StoreEvent::Found(RecoveryIssue::AuditLost { from: first, to: verified.first - 1 });
    assert_eq!(drain(&mut opened.1), [lost]);
    assert_eq!(verify_on(&disk).unwrap().broken.map(|broken| broken.n), Some(first));
}

#[test]
fn a_front_that_never_was_removed_by_retention_is_missed_too() {
    let disk = MemoryDisk::new();
    let mut opened = open(&disk);
    write(&mut opened, 1..=100);
    opened.3.close();
    assert_eq!(verify_on(&disk).unwrap().front, marked(0, 0));
    disk.remove(&segments(&disk)[0]).unwrap();
    assert_eq!(verify_on(&disk).unwrap().broken.map(|broken| broken.n), Some(1));
}

#[test]
fn another_oldest_event_of_the_same_number_does_not_follow_from_the_mark() {
    let (disk, first) = retained();
    let oldest = segments(&disk)[0].clone();
    // The same numbers, written again from the start of a chain.
    let other = MemoryDisk::new();
    write(&mut Store::open_in_memory::<EventLog>(&other, small()).unwrap(), first..=first + 1);
    let bytes = other.read(&oldest, 0, u64::MAX).unwrap();
    disk.remove(&oldest).unwrap();
    disk.write_at(&oldest, 0, &bytes).unwrap();
    assert_eq!(verify_on(&disk).unwrap().broken.map(|broken| broken.n), Some(first));
}

#[test]
fn a_cut_of_the_power_between_the_mark_and_the_removal_is_no_fault() {
    let (disk, _) = retained();
    let next: Vec<u64> =
        segments(&disk).iter().filter_map(|name| segment::first_of(name.strip_prefix("journal/")?)).collect();
    assert!(super::super::retained::before_removal(&disk, next[1]));
    disk.crash(0);
    let verified = verify_on(&disk).unwrap();
    assert_eq!((verified.broken, verified.front), (None, marked(next[1] - 1, 0)));
    for name in segments(&disk).iter().filter(|name| **name < segments::Segment::path(next[1])) {
        disk.remove(name).unwrap();
        assert_eq!(verify_on(&disk).unwrap().broken, None, "{name}");
    }
}

#[test]
fn a_store_without_the_mark_opens_verifies_and_gets_one_that_keeps_what_it_cannot_explain() {
    let (disk, first) = retained();
    disk.remove(PATH).unwrap();
    let verified = verify_on(&disk).unwrap();
    assert_eq!((verified.broken, verified.front), (None, Front::Unmarked));
    let opened = open(&disk);
    assert_eq!((opened.2.integrity, opened.2.issues), (Integrity::Complete, vec![]));
    opened.3.close();
    assert_eq!(verify_on(&disk).unwrap().front, marked(first - 1, first - 1));
    disk.damage(PATH, |bytes| bytes.iter_mut().for_each(|byte| *byte ^= 1));
    let broken = verify_on(&disk).unwrap().broken.unwrap();
    assert_eq!((broken.file.as_str(), broken.n), (PATH, first));
}
