//! A generation that cannot be opened: it takes no place of one that can, and retention does not count on it.

use super::*;
use crate::store::medium::{Container, SEALED_MANIFEST};

/// A journal whose old events go as soon as the center has them and no generation needs them.
fn short() -> Options {
    Options { retain_events: 5, ..small() }
}

fn open_short(disk: &MemoryDisk) -> Open {
    Store::open_in_memory::<EventLog>(disk, short()).unwrap()
}

fn path(position: u64) -> String {
    format!("generations/{position:020}-2")
}

/// There is a generation at `position` that only a key opens which is not there.
fn encrypted(disk: &MemoryDisk, position: u64) {
    disk.remove(&path(position)).unwrap();
    let container = Container { records: vec![vec![7; 64]], manifest: vec![SEALED_MANIFEST; 96], opened: false };
    disk.write_container(&path(position), &container).unwrap();
    disk.sync_dir("generations").unwrap();
}

fn positions(disk: &MemoryDisk) -> Vec<u64> {
    generation::names(disk).iter().filter_map(|name| generation::position_of(name)).collect()
}

/// Events 1 to 60 and generations at 25 and 50, of which the center has everything.
fn written() -> MemoryDisk {
    let disk = MemoryDisk::new();
    let mut opened = open(&disk);
    write(&mut opened, 1..=60);
    opened.0.set_acked(60);
    opened.3.chores();
    disk.image()
}

#[test]
fn a_generation_that_cannot_be_opened_takes_no_place_of_one_that_can() {
    for planted in [50, 1_000_000] {
        let disk = written();
        encrypted(&disk, planted);
        let mut opened = open_short(&disk);
        assert_eq!((&opened.2.state, opened.2.integrity), (&log_of(1..=60), Integrity::Complete), "{planted}");
        write(&mut opened, 61..=80);
        opened.0.set_acked(80);
        opened.3.chores();
        opened.3.close();
        // The newest rots: the one before it and the journal after that one have everything.
        let newest = positions(&disk).into_iter().rfind(|position| *position <= 80).unwrap();
        disk.damage(&format!("{}/records", path(newest)), |bytes| bytes[40] ^= 1);
        let found = open_short(&disk).2;
        assert_eq!((found.state, found.integrity), (log_of(1..=80), Integrity::Complete), "{planted}");
    }
}

#[test]
fn what_is_older_than_two_that_can_be_opened_goes_whether_or_not_it_can() {
    let disk = written();
    encrypted(&disk, 50);
    let mut opened = open_short(&disk);
    write(&mut opened, 61..=61);
    assert_eq!(positions(&disk), [25, 50, 61]);
    write(&mut opened, 62..=86);
    assert_eq!(positions(&disk), [61, 86]);
}

#[test]
fn retention_waits_until_a_second_generation_can_be_opened() {
    let disk = written();
    encrypted(&disk, 25);
    let mut opened = open_short(&disk);
    opened.3.chores();
    assert_eq!(opened.0.first(), 1, "if the one at 50 rots, all of it is needed");
    write(&mut opened, 61..=75);
    assert_eq!(positions(&disk), [50, 75]);
    opened.0.set_acked(75);
    opened.3.chores();
    assert!((30..=51).contains(&opened.0.first()), "{}", opened.0.first());
}
