//! A disk that fills up, fails or hangs.

use super::*;

fn failing(reported: &[StoreEvent]) -> usize {
    reported.iter().filter(|e| matches!(e, StoreEvent::Failing { .. })).count()
}

#[test]
fn a_full_disk_is_reported_once_keeps_the_changes_and_goes_on_by_itself() {
    let disk = MemoryDisk::new();
    let mut opened = open(&disk);
    write(&mut opened, 1..=3);
    disk.remove_reserve();
    disk.set_fault(Fault::Full { room: 100 });
    opened.0.append(vec![change(4)]);
    for n in 5..10 {
        assert_eq!(opened.3.step(), Stepped::Failed);
        opened.0.append(vec![change(n)]);
    }
    let reported = drain(&mut opened.1);
    assert_eq!(failing(&reported), 1);
    // The power may go at any time: nothing that was reported is hurt by the torn write.
    let image = disk.image();
    image.crash(50);
    let recovered = open(&image).2;
    assert_eq!((recovered.state, recovered.integrity), (log_of(1..=3), Integrity::Complete));
    disk.set_fault(Fault::None);
    assert_eq!(opened.3.flush(), Stepped::Idle);
    let reported = drain(&mut opened.1);
    assert_eq!(reported.iter().filter(|e| **e == StoreEvent::Recovered).count(), 1);
    disk.crash(0);
    assert_eq!(open(&disk).2.state.0.len(), 9);
    assert_eq!(verify_on(&disk).unwrap().broken, None);
}

#[test]
fn the_reserve_is_removed_for_a_change_on_a_full_disk_and_made_again_later() {
    let disk = MemoryDisk::new();
    let mut opened = open(&disk);
    write(&mut opened, 1..=3);
    let reserve = |disk: &MemoryDisk| disk.files().iter().any(|(name, length)| name == "reserve" && *length == 4096);
    assert!(reserve(&disk));
    disk.set_fault(Fault::Full { room: 0 });
    opened.0.append(vec![change(4)]);
    assert_eq!(opened.3.step(), Stepped::Done);
    let reported = drain(&mut opened.1);
    assert_eq!(failing(&reported), 0);
    assert!(reported.contains(&StoreEvent::ReserveReleased), "{reported:?}");
    assert!(!reserve(&disk));
    opened.3.chores();
    assert!(!reserve(&disk), "no room");
    assert!(disk.files().iter().all(|(name, _)| name != "reserve.new"));
    disk.set_fault(Fault::None);
    opened.3.chores();
    assert!(reserve(&disk));
    assert_eq!(numbers(&opened.0), [1, 2, 3, 4]);
}

#[test]
fn after_a_failed_sync_everything_is_written_again() {
    let disk = MemoryDisk::new();
    let mut opened = open(&disk);
    write(&mut opened, 1..=3);
    disk.set_fault(Fault::Syncs);
    opened.0.append(vec![change(4), soon(5)]);
    assert_eq!(opened.3.flush(), Stepped::Failed);
    assert_eq!(opened.0.last_durable(), 3);
    disk.set_fault(Fault::Writes);
    assert_eq!(opened.3.flush(), Stepped::Failed);
    disk.set_fault(Fault::None);
    assert_eq!(opened.3.flush(), Stepped::Idle);
    disk.crash(0);
    let recovered = open(&disk).2;
    assert_eq!((recovered.next_n, recovered.integrity, recovered.state.0.len()), (6, Integrity::Complete, 5));
}

#[test]
fn too_many_waiting_decisions_are_lost_and_reported_but_never_a_change() {
    let disk = MemoryDisk::new();
    let options = Options { soon_max: 10, ..small() };
    let mut opened = Store::open_in_memory::<EventLog>(&disk, options).unwrap();
    disk.set_fault(Fault::Stalled { for_ms: 3000 });
    opened.0.append((1..=20).map(soon).collect());
    opened.0.append(vec![change(21)]);
    opened.0.append((22..=25).map(soon).collect());
    opened.0.append(vec![change(26)]);
    assert_eq!(opened.3.step(), Stepped::Stalled);
    assert_eq!(drain(&mut opened.1), [StoreEvent::Stalled { for_ms: 3000 }]);
    disk.set_fault(Fault::None);
    assert_eq!(opened.3.flush(), Stepped::Idle);
    let reported = drain(&mut opened.1);
    assert_eq!(reported[1..], [StoreEvent::Lost { from: 11, to: 20 }, StoreEvent::Lost { from: 22, to: 25 }]);
    let expected: Vec<_> = (1..=10).chain([21, 26]).collect();
    assert_eq!(numbers(&opened.0), expected);
    // A hole that was never written is no damage.
    disk.crash(0);
    let recovered = open(&disk).2;
    assert_eq!((recovered.integrity, recovered.issues, recovered.next_n), (Integrity::Complete, vec![], 27));
    assert_eq!(verify_on(&disk).unwrap().broken, None);
}

#[test]
fn what_must_be_durable_at_once_has_a_limit_that_a_waiting_acknowledgement_passes() {
    let disk = MemoryDisk::new();
    let mut opened = open(&disk);
    disk.set_fault(Fault::Stalled { for_ms: 3000 });
    let most = queue::URGENT_RECORDS_MAX as u64;
    let urgent = |n| Record { flush: Flush::Now, ..soon(n) };
    opened.0.append((1..=most + 5).map(urgent).collect());
    opened.0.append(vec![change(most + 6)]);
    assert_eq!(opened.0.queued() as u64, most + 1);
    disk.set_fault(Fault::None);
    assert_eq!(opened.3.flush(), Stepped::Idle);
    let reported = drain(&mut opened.1);
    assert!(reported.contains(&StoreEvent::Lost { from: most + 1, to: most + 5 }), "{reported:?}");
    assert_eq!(opened.0.last_durable(), most + 6);
}

#[test]
fn a_disk_that_can_only_be_read_gives_its_state_makes_nothing_durable_and_goes_on_when_writable() {
    // At some of these ends a segment has room, at others the next one begins.
    for (last, torn, tried) in (54..=60).flat_map(|last| [(last, 0, true), (last, 4000, true), (last, 4000, false)]) {
        let disk = MemoryDisk::new();
        let mut opened = open(&disk);
        write(&mut opened, 1..=last);
        opened.0.append(vec![Record { evidence: vec![7; 9000], ..change(63) }]);
        disk.set_fault(Fault::Writes);
        opened.3.step();
        disk.crash(torn);
        disk.set_fault(Fault::ReadOnly);
        let mut opened = open(&disk);
        assert_eq!((&opened.2.state, opened.2.integrity), (&log_of(1..=last), Integrity::Complete));
        let not_writable = |issue: &RecoveryIssue| matches!(issue, RecoveryIssue::NotWritable { .. });
        assert!(opened.2.issues.iter().any(not_writable), "{:?}", opened.2.issues);
        opened.0.append(vec![change(63), soon(64)]);
        // Also when it becomes writable before anything was tried.
        if tried {
            for _ in 0..3 {
                assert_eq!(opened.3.step(), Stepped::Failed);
                opened.3.chores();
            }
            let reported = drain(&mut opened.1);
            assert_eq!((failing(&reported), opened.0.last_durable()), (1, last));
            assert!(!reported.iter().any(|event| matches!(event, StoreEvent::Durable { .. })), "{reported:?}");
        }
        disk.set_fault(Fault::None);
        assert_eq!(opened.3.flush(), Stepped::Idle);
        assert_eq!(drain(&mut opened.1).contains(&StoreEvent::Recovered), tried);
        // What was torn is gone also when the journal has gone on in another segment.
        write(&mut opened, 65..=80);
        disk.crash(0);
        let recovered = open(&disk).2;
        assert_eq!((recovered.state, recovered.issues), (log_of((1..=last).chain(63..=80)), vec![]));
        assert_eq!(verify_on(&disk).unwrap().broken, None);
    }
}

#[test]
fn a_cursor_that_cannot_be_written_is_reported_once_until_all_works_again() {
    let disk = MemoryDisk::new();
    let mut opened = open(&disk);
    write(&mut opened, 1..=6);
    disk.set_fault(Fault::ReadOnly);
    drain(&mut opened.1);
    for through in 1..=3 {
        opened.0.set_acked(through);
        opened.3.chores();
    }
    let reported = drain(&mut opened.1);
    assert!(
        matches!(reported[..], [StoreEvent::Failing { issue: RecoveryIssue::CursorNotWritten { .. } }]),
        "{reported:?}"
    );
    opened.0.append(vec![change(9)]);
    assert_eq!(opened.3.step(), Stepped::Failed);
    disk.set_fault(Fault::None);
    assert_eq!(opened.3.step(), Stepped::Done);
    assert!(!drain(&mut opened.1).contains(&StoreEvent::Recovered), "the cursor is still to be written");
    opened.0.set_acked(4);
    opened.3.chores();
    assert_eq!(drain(&mut opened.1), [StoreEvent::Recovered]);
    assert_eq!(open(&disk).0.acked(), 4);
}

#[test]
fn a_start_on_a_disk_that_fails_to_be_written_is_like_one_on_a_read_only_disk() {
    let error = |errno: rustix::io::Errno| io::Error::from_raw_os_error(errno.raw_os_error());
    use rustix::io::Errno;
    for errno in [Errno::IO, Errno::ROFS, Errno::NOSPC, Errno::ACCESS] {
        assert!(cannot_be_written(&error(errno)), "{errno}");
    }
    for errno in [Errno::MFILE, Errno::NOTDIR] {
        assert!(!cannot_be_written(&error(errno)), "{errno}");
    }
}

#[test]
fn a_segment_that_was_only_begun_is_removed_and_no_unfinished_write_is_reported() {
    let disk = MemoryDisk::new();
    let mut opened = open(&disk);
    write(&mut opened, 1..=3);
    disk.write_at(&segments::Segment::path(4), 0, b"").unwrap();
    disk.sync(&segments::Segment::path(4)).unwrap();
    disk.sync_dir("journal").unwrap();
    let recovered = open(&disk).2;
    assert_eq!((recovered.state, recovered.issues), (log_of(1..=3), vec![]));
    assert!(!disk.files().iter().any(|(name, _)| *name == segments::Segment::path(4)), "{:?}", disk.files());
}

#[test]
fn a_generation_that_does_not_fit_is_reported_and_the_journal_still_has_all() {
    let disk = MemoryDisk::new();
    let mut opened = open(&disk);
    write(&mut opened, 1..=24);
    disk.remove_reserve();
    disk.set_fault(Fault::Full { room: 700 });
    write(&mut opened, [25]);
    let reported = drain(&mut opened.1);
    assert!(reported.iter().any(|e| matches!(e, StoreEvent::GenerationFailed { .. })), "{reported:?}");
    disk.crash(0);
    assert_eq!(open(&disk).2.state, log_of(1..=25));
}

#[tokio::test]
async fn the_writer_tries_again_by_itself_until_the_disk_works() {
    /// A deadline for a retry, which comes every second.
    const DEADLINE: Duration = Duration::from_secs(20);
    let disk = MemoryDisk::new();
    let opened =
        open::open_on::<EventLog>(Arc::new(disk.clone()), Options { reserve_bytes: 0, ..small() }, true).unwrap();
    let (store, mut events, _) = opened.run(None).unwrap();
    disk.set_fault(Fault::Writes);
    store.append(vec![change(3)]);
    let reported = tokio::time::timeout(DEADLINE, events.recv()).await.unwrap();
    assert!(matches!(reported, Some(StoreEvent::Failing { .. })), "{reported:?}");
    disk.set_fault(Fault::None);
    assert_eq!(tokio::time::timeout(DEADLINE, events.recv()).await.unwrap(), Some(StoreEvent::Recovered));
    let reported = tokio::time::timeout(DEADLINE, events.recv()).await.unwrap();
    assert!(matches!(reported, Some(StoreEvent::Durable { through: 3, .. })), "{reported:?}");
    assert_eq!(store.close().await, Closed::Drained);
}

impl MemoryDisk {
    fn remove_reserve(&self) {
        assert!(reserve::remove(self));
    }
}
