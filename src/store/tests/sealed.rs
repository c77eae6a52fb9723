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

/// A store of 60 encrypted events, with encrypted generations.
fn encrypted() -> MemoryDisk {
    let disk = MemoryDisk::new();
    write(&mut opened(&disk, key()).unwrap(), 1..=60);
    disk.image()
}

fn verified(disk: &MemoryDisk) -> Verified {
    let medium = sealed::over(Arc::new(disk.clone()), key().as_ref()).unwrap();
    verify_on(&*medium).unwrap()
}

/// Replaces what is after event 55 by events in clear, with a chain and marks that fit.
fn forge(disk: &MemoryDisk, clear_header: bool) {
    let medium = sealed::over(Arc::new(disk.clone()), key().as_ref()).unwrap();
    let first_n = *segments::names(disk).last().unwrap();
    let path = segments::Segment::path(first_n);
    let bytes = medium.read(&path, 0, u64::MAX).unwrap();
    let header = segment::Header::decode(&bytes).unwrap();
    let mut out = segment::Header { sealed: header.sealed && !clear_header, ..header }.encode();
    let (mut prev, from) = (header.prev, if clear_header { first_n } else { 58 });
    for step in segment::Walk::new(&bytes, segment::HEADER_BYTES) {
        let segment::Found::Frame(frame) = step.found else { panic!() };
        if frame.n < from {
            assert!(segment::push_frame(&mut out, &frame, true));
            prev = crate::wire::audit::hash(frame.json);
        }
    }
    for n in from..=62 {
        let record = record(n);
        let json = crate::wire::audit::encode(&record.event, &record.evidence, &prev);
        prev = crate::wire::audit::hash(&json);
        assert!(segment::push_frame(&mut out, &segment::Frame { n, json: &json, evidence: &record.evidence }, false));
    }
    medium.remove(&path).unwrap();
    medium.write_at(&path, 0, &out).unwrap();
    medium.sync(&path).unwrap();
    medium.sync_dir("journal").unwrap();
    disk.damage("journal/durable", |bytes| {
        bytes[..12].copy_from_slice(&marks::seal(62));
        bytes[512..524].copy_from_slice(&marks::seal(62));
    });
}

#[test]
fn events_in_clear_after_encrypted_ones_are_damage_and_not_applied() {
    for clear_header in [false, true] {
        let disk = encrypted();
        forge(&disk, clear_header);
        let broken = verified(&disk).broken.unwrap();
        assert!(broken.why.contains("in clear"), "{broken:?}");
        let found = opened(&disk, key()).unwrap().2;
        let from = broken.n;
        assert_eq!(found.integrity, Integrity::Damaged { lost_from: from, lost_to: 62 }, "{:?}", found.issues);
        assert_eq!((found.state, found.next_n), (log_of(1..from), 63));
        let named = found.issues.iter().filter(|issue| matches!(issue, RecoveryIssue::InClear { .. }));
        assert_eq!(named.count(), 1);
    }
}

#[test]
fn events_in_clear_after_an_encrypted_generation_are_damage_though_nothing_else_is_encrypted() {
    let disk = encrypted();
    forge(&disk, true);
    let last = *segments::names(&disk).last().unwrap();
    for first_n in segments::names(&disk).into_iter().filter(|first_n| *first_n < last) {
        disk.remove(&segments::Segment::path(first_n)).unwrap();
    }
    disk.sync_dir("journal").unwrap();
    let found = opened(&disk, key()).unwrap().2;
    assert_ne!(found.integrity, Integrity::Complete);
    assert_eq!(found.state, log_of(1..=50), "what the generation has");
}

#[test]
fn a_generation_in_clear_after_what_is_encrypted_is_set_aside() {
    let disk = encrypted();
    let name = format!("generations/{:020}-2", 60);
    generation::write(&disk, log_of(1..=40), segments::Place { n: 60, ..segments::Place::START }).unwrap();
    assert!(disk.files().iter().any(|(file, _)| file.starts_with(&name)));
    let found = opened(&disk, key()).unwrap().2;
    assert_eq!((found.state, found.integrity), (log_of(1..=60), Integrity::Complete), "{:?}", found.issues);
    assert!(found.issues.iter().any(|issue| issue.to_string().contains("in clear")), "{:?}", found.issues);
}

#[test]
fn a_power_cut_at_any_step_while_a_store_becomes_encrypted_leaves_it_whole() {
    let begun = MemoryDisk::new();
    write(&mut opened(&begun, None).unwrap(), 1..=40);
    let whole = |disk: &MemoryDisk, ops: u64| {
        let found = opened(disk, key()).unwrap().2;
        assert_eq!(found.integrity, Integrity::Complete, "after {ops}: {:?}", found.issues);
        assert_eq!(verified(disk).broken, None, "after {ops}");
        found.next_n
    };
    let mut ended = 0;
    for ops in (0..1500).step_by(7) {
        let disk = begun.image();
        let mut store = opened(&disk, key()).unwrap();
        disk.set_fault(Fault::CutAfter { ops });
        for n in 41..=120 {
            store.0.append(vec![record(n)]);
            if store.3.flush() != Stepped::Idle {
                break;
            }
            store.3.chores();
        }
        disk.crash(0);
        let next = whole(&disk, ops);
        ended += u64::from(!contains(&disk, "event 1"));
        let mut store = opened(&disk, key()).unwrap();
        write(&mut store, next..=next + 100);
        drop(store);
        disk.crash(0);
        whole(&disk, ops);
        assert!(!contains(&disk, "event 1\""), "after {ops}");
    }
    assert!(ended > 0, "the whole way was walked");
}
