//! A disk that fills up, fails or hangs.

use super::*;

fn failing(told: &[StoreEvent]) -> usize {
    told.iter().filter(|e| matches!(e, StoreEvent::Failing { .. })).count()
}

#[test]
fn a_full_disk_is_told_once_keeps_the_changes_and_goes_on_by_itself() {
    let disk = MemoryDisk::new();
    let mut opened = open(&disk);
    write(&mut opened, 1..=3);
    disk.remove_ballast();
    disk.set_fault(Fault::Full { room: 100 });
    opened.0.append(vec![change(4)]);
    for n in 5..10 {
        assert_eq!(opened.3.step(), Stepped::Failed);
        opened.0.append(vec![change(n)]);
    }
    let told = drain(&mut opened.1);
    assert_eq!(failing(&told), 1);
    // The power may go at any time: nothing that was told is hurt by the torn write.
    let image = disk.image();
    image.crash(50);
    let recovered = open(&image).2;
    assert_eq!((recovered.state, recovered.whole), (toy(1..=3), Wholeness::Whole));
    disk.set_fault(Fault::None);
    assert_eq!(opened.3.flush(), Stepped::Idle);
    let told = drain(&mut opened.1);
    assert_eq!(told.iter().filter(|e| **e == StoreEvent::Recovered).count(), 1);
    disk.crash(0);
    assert_eq!(open(&disk).2.state.0.len(), 9);
    assert_eq!(verify_on(&disk).unwrap().broken, None);
}

#[test]
fn the_reserve_is_given_back_for_a_change_on_a_full_disk_and_made_anew_later() {
    let disk = MemoryDisk::new();
    let mut opened = open(&disk);
    write(&mut opened, 1..=3);
    let ballast = |disk: &MemoryDisk| disk.files().iter().any(|(name, length)| name == "ballast" && *length == 4096);
    assert!(ballast(&disk));
    disk.set_fault(Fault::Full { room: 0 });
    opened.0.append(vec![change(4)]);
    assert_eq!(opened.3.step(), Stepped::Done);
    assert_eq!(failing(&drain(&mut opened.1)), 0);
    assert!(!ballast(&disk));
    opened.3.chores();
    assert!(!ballast(&disk), "no room");
    assert!(disk.files().iter().all(|(name, _)| name != "ballast.new"));
    disk.set_fault(Fault::None);
    opened.3.chores();
    assert!(ballast(&disk));
    assert_eq!(numbers(&opened.0), [1, 2, 3, 4]);
}

#[test]
fn after_a_failed_sync_everything_is_written_anew() {
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
    assert_eq!((recovered.next_n, recovered.whole, recovered.state.0.len()), (6, Wholeness::Whole, 5));
}

#[test]
fn too_many_waiting_decisions_are_dropped_and_told_but_never_a_change() {
    let disk = MemoryDisk::new();
    let options = Options { soon_max: 10, ..small() };
    let mut opened = Store::open_in_memory::<Toy>(&disk, options).unwrap();
    disk.set_fault(Fault::Stalled { for_ms: 3000 });
    opened.0.append((1..=20).map(soon).collect());
    opened.0.append(vec![change(21)]);
    opened.0.append((22..=25).map(soon).collect());
    opened.0.append(vec![change(26)]);
    assert_eq!(opened.3.step(), Stepped::Stalled);
    assert_eq!(drain(&mut opened.1), [StoreEvent::Stalled { for_ms: 3000 }]);
    disk.set_fault(Fault::None);
    assert_eq!(opened.3.flush(), Stepped::Idle);
    let told = drain(&mut opened.1);
    assert_eq!(told[1..], [StoreEvent::Lost { from: 11, to: 20 }, StoreEvent::Lost { from: 22, to: 25 }]);
    let expected: Vec<_> = (1..=10).chain([21, 26]).collect();
    assert_eq!(numbers(&opened.0), expected);
    // A hole that was never written is no damage.
    disk.crash(0);
    let recovered = open(&disk).2;
    assert_eq!((recovered.whole, recovered.findings, recovered.next_n), (Wholeness::Whole, vec![], 27));
    assert_eq!(verify_on(&disk).unwrap().broken, None);
}

#[test]
fn a_generation_that_does_not_fit_is_told_and_the_journal_still_has_all() {
    let disk = MemoryDisk::new();
    let mut opened = open(&disk);
    write(&mut opened, 1..=24);
    disk.remove_ballast();
    disk.set_fault(Fault::Full { room: 700 });
    write(&mut opened, [25]);
    let told = drain(&mut opened.1);
    assert!(told.iter().any(|e| matches!(e, StoreEvent::GenerationFailed { .. })), "{told:?}");
    disk.crash(0);
    assert_eq!(open(&disk).2.state, toy(1..=25));
}

#[tokio::test]
async fn the_writer_tries_again_by_itself_until_the_disk_works() {
    /// A deadline for a retry, which comes every second.
    const DEADLINE: Duration = Duration::from_secs(20);
    let disk = MemoryDisk::new();
    let opened = open::open_on::<Toy>(Arc::new(disk.clone()), Options { ballast_bytes: 0, ..small() }, true).unwrap();
    let (store, mut events, _) = opened.run(tempfile::tempfile().unwrap()).unwrap();
    disk.set_fault(Fault::Writes);
    store.append(vec![change(3)]);
    let told = tokio::time::timeout(DEADLINE, events.recv()).await.unwrap();
    assert!(matches!(told, Some(StoreEvent::Failing { .. })), "{told:?}");
    disk.set_fault(Fault::None);
    assert_eq!(tokio::time::timeout(DEADLINE, events.recv()).await.unwrap(), Some(StoreEvent::Recovered));
    let told = tokio::time::timeout(DEADLINE, events.recv()).await.unwrap();
    assert!(matches!(told, Some(StoreEvent::Durable { through: 3, .. })), "{told:?}");
    assert_eq!(store.close().await, Closed::Drained);
}

impl MemoryDisk {
    fn remove_ballast(&self) {
        assert!(ballast::remove(self));
    }
}
