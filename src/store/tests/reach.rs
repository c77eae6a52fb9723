//! How far the journal must reach: whatever names an event that is gone counts, and no number that none can have.

use super::*;
use crate::store::segment::{EVENT_MAX, Header};

/// What is done to a disk.
type Harm<'a> = &'a dyn Fn(&MemoryDisk);

/// A journal of 60 events, of which the center has 40; generations at 25 and 50.
fn written() -> MemoryDisk {
    let disk = MemoryDisk::new();
    let mut opened = open(&disk);
    write(&mut opened, 1..=60);
    opened.0.set_acked(40);
    opened.3.chores();
    disk.image()
}

fn remove(disk: &MemoryDisk, path: &str) {
    disk.remove(path).unwrap();
    disk.sync_dir(path.split_once('/').unwrap().0).unwrap();
}

/// The segments from event `n` on are gone.
fn cut_before(disk: &MemoryDisk, n: u64) {
    for first_n in segments::names(disk).into_iter().filter(|first_n| *first_n >= n) {
        remove(disk, &segments::Segment::path(first_n));
    }
}

fn put(disk: &MemoryDisk, path: &str, bytes: &[u8]) {
    disk.write_at(path, 0, bytes).unwrap();
    disk.sync(path).unwrap();
    disk.sync_dir(path.split_once('/').unwrap().0).unwrap();
}

fn broken(disk: &MemoryDisk) -> Option<(u64, String)> {
    verify_on(disk).unwrap().broken.map(|broken| (broken.n, broken.file))
}

#[test]
fn an_end_that_was_cut_off_is_found_by_whatever_still_names_it() {
    let disk = written();
    assert_eq!(broken(&disk), None);
    cut_before(&disk, 20);
    let last = verify_on(&disk).unwrap().last;
    let file = |path: &str| Some((last + 1, path.to_owned()));
    assert_eq!(broken(&disk), file("journal/durable"));
    // A mark of somebody who wants nothing to be missing.
    put(&disk, "journal/durable", &[marks::seal(last), vec![0; 500], marks::seal(last)].concat());
    let generation = format!("generations/{}", generation::names(&disk).pop().unwrap());
    assert_eq!(broken(&disk), file(&generation));
    for name in generation::names(&disk) {
        remove(&disk, &format!("generations/{name}"));
    }
    assert_eq!(broken(&disk), file("journal/acked"));
    assert_eq!(open(&disk.image()).2.lost, [(last + 1, 40)], "the start finds the same");
    remove(&disk, "journal/acked");
    assert_eq!(broken(&disk), None, "nothing names it any more");
}

#[test]
fn a_journal_that_is_gone_as_a_whole_is_found_by_its_generations() {
    let disk = written();
    remove(&disk, "journal/acked");
    disk.remove("journal").unwrap();
    disk.sync_dir("journal").unwrap();
    let generation = format!("generations/{}", generation::names(&disk).pop().unwrap());
    assert_eq!(broken(&disk), Some((1, generation)));
    assert_eq!(broken(&MemoryDisk::new()), None, "nothing was ever written");
}

#[test]
fn a_journal_without_its_mark_is_not_taken_for_whole_however_well_it_ends() {
    let cases: [(&str, Harm<'_>); 2] = [
        ("gone", &|disk| remove(disk, "journal/durable")),
        ("zeroed", &|disk| disk.damage("journal/durable", |bytes| bytes.fill(0))),
    ];
    for (how, harm) in cases {
        let disk = written();
        cut_before(&disk, 55);
        let last = verify_on(&disk).unwrap().last;
        harm(&disk);
        for file in ["journal/acked", "journal/retained"] {
            remove(&disk, file);
        }
        for name in generation::names(&disk) {
            remove(&disk, &format!("generations/{name}"));
        }
        assert_eq!(broken(&disk), Some((last + 1, "journal/durable".to_owned())), "{how}");
        let (lost_from, lost_to) = (last + 1, last + 10_000);
        for _ in 0..2 {
            let found = open(&disk).2;
            assert_eq!(found.integrity, Integrity::Damaged { lost_from, lost_to }, "{how}: {:?}", found.issues);
            assert_eq!(found.next_n, lost_to + 1, "no number is used twice");
        }
        let mut opened = open(&disk);
        opened.0.append(vec![gap(lost_to + 1, (lost_from, lost_to))]);
        opened.3.flush();
        disk.crash(0);
        let found = open(&disk).2;
        assert_eq!(found.integrity, Integrity::Complete, "{how}: {:?}", found.issues);
        assert_eq!(broken(&disk), None, "{how}");
    }
}

#[test]
fn a_power_cut_at_any_moment_of_the_first_start_leaves_a_store_that_is_whole() {
    for ops in 0..80 {
        let disk = MemoryDisk::new();
        disk.set_fault(Fault::CutAfter { ops });
        let mut opened = open(&disk);
        opened.0.append((1..=5).map(record).collect());
        let _ = opened.3.flush();
        let durable = opened.0.last_durable();
        disk.crash(0);
        let found = open(&disk).2;
        assert_eq!(found.integrity, Integrity::Complete, "after {ops}: {:?}", found.issues);
        assert!(found.next_n > durable, "after {ops}");
        assert_eq!(broken(&disk), None, "after {ops}");
    }
}

#[test]
fn a_mark_that_the_first_start_could_not_make_is_there_before_the_first_event() {
    for fault in [Fault::Writes, Fault::Syncs, Fault::Full { room: 5 }, Fault::ReadOnly] {
        let disk = MemoryDisk::new();
        disk.set_fault(fault);
        let mut opened = open(&disk);
        disk.set_fault(Fault::None);
        opened.0.append((1..=3).map(record).collect());
        assert_eq!(opened.3.flush(), Stepped::Idle, "{fault:?}");
        disk.crash(0);
        let found = open(&disk).2;
        assert_eq!((found.integrity, found.next_n), (Integrity::Complete, 4), "{fault:?}: {:?}", found.issues);
    }
}

/// The segment with event 1, its header changed and its checksum right again.
fn change_header(disk: &MemoryDisk, change: impl Fn(Header) -> Header) {
    disk.damage(&segments::Segment::path(1), |bytes| {
        let header = change(Header::decode(bytes).unwrap()).encode();
        bytes.splice(..header.len(), header);
    });
}

#[test]
fn a_number_that_no_event_can_have_is_damage_of_its_file_and_no_panic() {
    let seals = |n| [marks::seal(n), vec![0; 500], marks::seal(n)].concat();
    for n in [EVENT_MAX + 1, u64::MAX - 40, u64::MAX - 1, u64::MAX] {
        let named: [(&str, &str, Harm<'_>); 7] = [
            ("durable", "journal/durable", &|disk| put(disk, "journal/durable", &seals(n))),
            ("acked", "journal/acked", &|disk| put(disk, "journal/acked", &marks::seal(n))),
            ("name", &format!("journal/{}", segment::file_name(n)), &|disk| {
                put(disk, &format!("journal/{}", segment::file_name(n)), b"x");
            }),
            ("generation", &format!("generation `{n:020}-2`"), &|disk| {
                put(disk, &format!("generations/{n:020}-2/x"), b"");
            }),
            ("lost_to", "00000000000000000001.seg", &|disk| change_header(disk, |h| Header { lost_to: n, ..h })),
            ("first_n", "00000000000000000001.seg", &|disk| change_header(disk, |h| Header { first_n: n, ..h })),
            ("frame", ".seg", &|disk| {
                let mut bytes = Vec::new();
                assert!(segment::push_frame(&mut bytes, &segment::Frame { n, json: b"{}", evidence: b"" }, false));
                let path = segments::Segment::path(segments::names(disk).pop().unwrap());
                disk.damage(&path, |segment| segment.extend_from_slice(&bytes));
            }),
        ];
        for (what, path, harm) in named {
            let disk = written();
            harm(&disk);
            if what != "generation" && what != "frame" {
                assert!(broken(&disk).is_some_and(|(_, file)| path.ends_with(&file) || file.ends_with(path)), "{what}");
            }
            // The state has to be read from the first event on.
            for name in generation::names(&disk) {
                remove(&disk, &format!("generations/{name}"));
            }
            let mut opened = open(&disk);
            let next = opened.2.next_n;
            assert!((61..20_000).contains(&next), "{what} {n}: {next}");
            let issues: Vec<_> = opened.2.issues.iter().map(ToString::to_string).collect();
            assert!(issues.iter().any(|issue| issue.contains(path)), "{what}: {issues:?}");
            write(&mut opened, next..=next + 5);
            disk.crash(0);
            drop(verify_on(&disk).unwrap());
            assert_eq!(open(&disk).2.next_n, next + 6, "{what}");
        }
    }
}

#[test]
fn the_name_of_a_generation_that_cannot_be_opened_names_no_event_and_pushes_none_out() {
    let disk = written();
    for n in [1000, 1001, 1002] {
        put(&disk, &format!("generations/{n:020}-2/x"), b"");
    }
    assert_eq!(broken(&disk), None);
    let found = open(&disk).2;
    assert_eq!((found.integrity, found.next_n), (Integrity::Complete, 61), "{:?}", found.issues);
    assert_eq!(found.events_replayed, 10, "from the newest generation");
    assert_eq!(generation::names(&disk).len(), 2, "both that are good are kept");
}

#[test]
fn what_lies_under_the_name_of_the_next_segment_is_set_aside_and_not_written_into() {
    let disk = written();
    put(&disk, &segments::Segment::path(61), &disk.read(&segments::Segment::path(1), 0, u64::MAX).unwrap());
    let mut opened = open(&disk);
    assert_eq!(opened.2.state, log_of(1..=60));
    write(&mut opened, 61..=70);
    disk.crash(0);
    let found = open(&disk).2;
    assert_eq!((found.state, found.next_n, found.issues), (log_of(1..=70), 71, vec![]));
    assert_eq!(disk.list("damaged").unwrap(), [format!("{}.0", segment::file_name(61))]);
}

#[test]
fn an_event_whose_message_is_not_what_was_signed_is_the_one_in_doubt() {
    let disk = written();
    let mut judged = Vec::new();
    let mut prove = |event: &AuditEvent, evidence: &[u8]| {
        judged.push((event.n, evidence.to_vec()));
        if event.n == 9 { Err("not signed".to_owned()) } else { Ok(()) }
    };
    let found = crate::store::verify::judge(&disk, &mut prove).unwrap();
    assert_eq!(found.unsigned.map(|unsigned| (unsigned.n, unsigned.why)), Some((9, "not signed".to_owned())));
    assert_eq!(found.broken, None, "the chain is whole");
    let kept: Vec<_> = (1..=60).map(record).map(|record| (record.event.n, record.evidence)).collect();
    assert_eq!(judged, kept);
    // What is wrong with the chain is found behind it.
    cut_before(&disk, 40);
    let mut none =
        |event: &AuditEvent, _: &[u8]| if event.n.is_multiple_of(3) { Err("not signed".to_owned()) } else { Ok(()) };
    let found = crate::store::verify::judge(&disk, &mut none).unwrap();
    assert_eq!(found.unsigned.map(|unsigned| unsigned.n), Some(3));
    assert_eq!(found.broken.map(|broken| broken.n), Some(found.last + 1), "its end is cut off");
}

#[test]
fn a_first_start_that_ended_between_the_two_slots_of_its_mark_is_a_first_start() {
    let disk = MemoryDisk::new();
    put(&disk, "journal/durable", &marks::seal(0));
    assert_eq!(broken(&disk), None);
    let mut opened = open(&disk);
    assert_eq!((opened.2.integrity, opened.2.next_n, &opened.2.issues), (Integrity::Complete, 1, &vec![]));
    write(&mut opened, 1..=3);
    disk.crash(0);
    assert_eq!((open(&disk).2.state, broken(&disk)), (log_of(1..=3), None));
    // Where the center has something, more than a mark is missing.
    let disk = MemoryDisk::new();
    put(&disk, "journal/durable", &marks::seal(0));
    put(&disk, "journal/acked", &marks::seal(7));
    assert!(matches!(open(&disk).2.integrity, Integrity::Damaged { .. }));
}

#[test]
fn a_mark_with_the_highest_number_of_all_does_not_cost_the_events_after_it() {
    let disk = written();
    put(&disk, "journal/durable", &[marks::seal(EVENT_MAX), vec![0; 500], marks::seal(EVENT_MAX)].concat());
    let mut opened = open(&disk);
    let next = opened.2.next_n;
    assert!(matches!(opened.2.integrity, Integrity::Damaged { .. }));
    write(&mut opened, next..next + 3);
    disk.crash(0);
    let found = open(&disk).2;
    assert_eq!(found.state, log_of((1..=60).chain(next..next + 3)), "{:?}", found.issues);
}

#[test]
fn no_event_is_written_under_a_number_that_no_start_would_read() {
    let disk = MemoryDisk::new();
    let mut opened = open(&disk);
    opened.0.append(vec![soon(EVENT_MAX)]);
    assert_eq!(opened.3.flush(), Stepped::Idle);
    drain(&mut opened.1);
    opened.0.append(vec![soon(EVENT_MAX + 1)]);
    assert_eq!(opened.3.flush(), Stepped::Failed);
    let reported = drain(&mut opened.1);
    assert!(matches!(reported.as_slice(), [StoreEvent::Failing { .. }]), "it is not acknowledged: {reported:?}");
    disk.crash(0);
    assert_eq!(open(&disk).2.state.0.len(), 1);
}
