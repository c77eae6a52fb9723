//! An encrypted store: nothing of an event is in clear on the disk, and no start without the key reads or changes anything.

use super::super::sealed;
use super::*;

const SECRET: &[u8] = b"a secret of 32 characters or more";

pub(super) fn key() -> Option<StoreKey> {
    StoreKey::new(SECRET)
}

fn options(key: Option<StoreKey>) -> Options {
    Options { key, ..small() }
}

fn opened(disk: &MemoryDisk, key: Option<StoreKey>) -> Result<Open, StoreError> {
    Store::open_in_memory::<EventLog>(disk, options(key))
}

/// Every byte on the disk.
fn bytes(disk: &MemoryDisk) -> Vec<u8> {
    let all = disk.files().into_iter().flat_map(|(name, _)| disk.read(&name, 0, u64::MAX).unwrap());
    all.collect()
}

fn contains(disk: &MemoryDisk, text: &str) -> bool {
    bytes(disk).windows(text.len()).any(|window| window == text.as_bytes())
}

#[test]
fn events_evidence_and_generations_are_not_in_clear_and_come_back_with_the_key() {
    for (key, is_clear) in [(None, true), (key(), false)] {
        let disk = MemoryDisk::new();
        let mut store = opened(&disk, key.clone()).unwrap();
        write(&mut store, 1..=90);
        assert!(!generation::names(&disk).is_empty(), "a generation is among it");
        assert_eq!((contains(&disk, "event 1"), contains(&disk, "signed 3")), (is_clear, is_clear));
        assert_eq!(numbers(&store.0), (1..=90).collect::<Vec<_>>(), "the audit is read as before");
        disk.crash(0);
        let store = opened(&disk, key.clone()).unwrap();
        assert_eq!((&store.2.state, store.2.integrity), (&log_of(1..=90), Integrity::Complete));
        let medium = sealed::over(Arc::new(disk.clone()), key.as_ref()).unwrap();
        assert_eq!(verify_on(&*medium).unwrap().broken, None);
    }
}

#[test]
fn without_the_key_or_with_another_one_the_start_fails_by_name_and_changes_nothing() {
    let disk = MemoryDisk::new();
    let mut store = opened(&disk, key()).unwrap();
    write(&mut store, 1..=90);
    drop(store);
    disk.crash(0);
    let before = bytes(&disk);
    for (other, why) in [(None, "`store.encrypt`"), (StoreKey::new(b"another"), "another key")] {
        match opened(&disk, other) {
            Err(StoreError::Key { detail, .. }) => assert!(detail.contains(why), "{detail}"),
            other => panic!("{:?}", other.map(|opened| opened.2)),
        }
        assert_eq!(bytes(&disk), before);
    }
    assert_eq!(opened(&disk, key()).unwrap().2.state, log_of(1..=90));
}

#[test]
fn a_generation_that_the_key_does_not_open_is_left_where_it_is_and_nothing_is_taken_for_complete() {
    let disk = MemoryDisk::new();
    let mut store = opened(&disk, key()).unwrap();
    write(&mut store, 1..=60);
    drop(store);
    for (name, _) in disk.files().into_iter().filter(|(name, _)| name.ends_with(".seg")) {
        disk.remove(&name).unwrap();
    }
    disk.sync_dir("journal").unwrap();
    let names = generation::names(&disk);
    for other in [None, StoreKey::new(b"another")] {
        let found = opened(&disk, other).unwrap().2;
        assert_ne!(found.integrity, Integrity::Complete);
        assert_eq!((found.state, generation::names(&disk)), (EventLog::default(), names.clone()));
    }
}

#[test]
fn a_store_that_is_encrypted_from_now_on_goes_on_in_a_new_segment_and_what_is_in_clear_is_written_again() {
    let disk = MemoryDisk::new();
    let mut store = opened(&disk, None).unwrap();
    write(&mut store, 1..=40);
    drop(store);
    disk.crash(0);
    let mut store = opened(&disk, key()).unwrap();
    assert_eq!(store.2.state, log_of(1..=40));
    write(&mut store, 41..=41);
    assert!(
        disk.files().iter().any(|(name, _)| *name == segments::Segment::path(41)),
        "what is in clear is not written on"
    );
    write(&mut store, 42..=120);
    drop(store);
    disk.crash(0);
    let store = opened(&disk, key()).unwrap();
    assert_eq!((&store.2.state, store.2.integrity), (&log_of(1..=120), Integrity::Complete));
    assert!(!contains(&disk, "event 1"), "the old segments and generations are gone");
}

#[test]
fn a_flipped_byte_costs_one_event_as_in_clear() {
    let disk = MemoryDisk::new();
    let mut store = opened(&disk, key()).unwrap();
    write(&mut store, 1..=9);
    drop(store);
    let path = segments::Segment::path(1);
    disk.damage(&path, |bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
    });
    let found = opened(&disk, key()).unwrap().2;
    assert_eq!(found.lost.iter().map(|(from, to)| to - from + 1).sum::<u64>(), 1, "{:?}", found.lost);
}
