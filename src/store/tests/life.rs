//! A healthy disk: what is durable when, restarts, reading, retention.

use super::*;

fn durable(through: u64) -> StoreEvent {
    StoreEvent::Durable { through, took: Duration::ZERO }
}

#[test]
fn nothing_is_reported_durable_before_it_is_and_everything_reported_survives_a_power_cut() {
    let disk = MemoryDisk::new();
    let (store, mut events, recovered, mut stepper) = open(&disk);
    assert_eq!((recovered.next_n, recovered.integrity, recovered.issues), (1, Integrity::Complete, vec![]));
    store.append(vec![soon(1), soon(2), change(3)]);
    assert_eq!(events.try_recv(), None);
    assert_eq!(stepper.step(), Stepped::Done);
    assert_eq!(drain(&mut events), [durable(3)]);
    store.append(vec![soon(4)]);
    disk.crash(0);
    let (store, _, recovered, _) = open(&disk);
    assert_eq!((recovered.state, recovered.next_n), (log_of(1..=3), 4));
    assert_eq!(recovered.integrity, Integrity::Complete);
    assert_eq!(numbers(&store), [1, 2, 3]);
}

#[test]
fn a_restart_brings_back_the_state_from_a_generation_and_the_journal_after_it() {
    let disk = MemoryDisk::new();
    let mut opened = open(&disk);
    write(&mut opened, 1..=110);
    let written = drain(&mut opened.1).into_iter().filter(|e| matches!(e, StoreEvent::GenerationWritten { .. }));
    assert_eq!(written.count(), 4);
    opened.3.close();
    let (_, _, recovered, _) = open(&disk);
    assert_eq!(recovered.state, log_of(1..=110));
    assert_eq!((recovered.events_replayed, recovered.next_n), (10, 111));
    assert_eq!((recovered.integrity, recovered.issues), (Integrity::Complete, vec![]));
    let generations = disk.files().into_iter().filter(|(name, _)| name.starts_with("generations/"));
    assert_eq!(generations.count(), 2);
    let front = Front::Marked { through: 0, unexplained: 0 };
    assert_eq!(verify_on(&disk).unwrap(), Verified { first: 1, last: 110, events: 110, front, ..Verified::default() });
}

#[test]
fn the_bytes_of_the_journal_are_those_of_its_version() {
    let disk = MemoryDisk::new();
    write(&mut open(&disk), 1..=3);
    let bytes = disk.read(&segments::Segment::path(1), 0, u64::MAX).unwrap();
    let sum = hex::encode(crate::wire::audit::hash(&bytes));
    assert_eq!(sum, "abef19e1ca4bb50cf287a312ebd262f8ed14e6e17967a0abba3929e7e4076751", "raise segment::VERSION");
}

#[test]
fn a_requested_generation_is_written_however_few_events_came() {
    let disk = MemoryDisk::new();
    let mut opened = open(&disk);
    write(&mut opened, 1..=4);
    opened.0.request_generation();
    opened.3.chores();
    assert!(drain(&mut opened.1).contains(&StoreEvent::GenerationWritten {
        position: 4,
        records: 4,
        took: Duration::ZERO
    }));
    opened.0.request_generation();
    opened.3.chores();
    assert_eq!(drain(&mut opened.1), []);
}

#[test]
fn events_are_read_in_order_from_any_number_within_limits_as_the_bytes_that_were_chained() {
    let disk = MemoryDisk::new();
    let mut opened = open(&disk);
    write(&mut opened, (1..=60).filter(|n| !(20..30).contains(n)));
    let store = &opened.0;
    let all = store.read_blocking(1, 1000, usize::MAX).unwrap();
    assert_eq!(all.len(), 50);
    let mut prev = crate::wire::audit::NO_HASH;
    for stored in &all {
        let decoded = crate::wire::audit::decode(&stored.json).unwrap();
        assert_eq!((decoded.event, decoded.prev), (record(stored.n).event, prev));
        prev = crate::wire::audit::hash(&stored.json);
    }
    // One by one, as a feed does, and from every number.
    let (mut next, mut fed) = (1, Vec::new());
    while let Some(one) = store.read_blocking(next, 1, usize::MAX).unwrap().pop() {
        next = one.n + 1;
        fed.push(one);
    }
    assert_eq!(fed, all);
    for from in (0..65).rev() {
        let expected: Vec<_> = all.iter().filter(|e| e.n >= from).take(3).cloned().collect();
        assert_eq!(store.read_blocking(from, 3, usize::MAX).unwrap(), expected, "from {from}");
    }
    assert_eq!(store.read_blocking(1, 1000, 1).unwrap().len(), 1);
    assert_eq!((store.first(), store.last_durable()), (1, 60));
}

#[test]
fn an_event_longer_than_a_reading_is_read() {
    let disk = MemoryDisk::new();
    let mut opened = open(&disk);
    let long = Record { evidence: vec![b'x'; 3_000_000], ..change(1) };
    opened.0.append(vec![long, soon(2)]);
    assert_eq!(opened.3.flush(), Stepped::Idle);
    assert_eq!(numbers(&opened.0), [1, 2]);
}

#[test]
fn the_cursor_moves_only_forward_over_durable_events_and_survives() {
    let disk = MemoryDisk::new();
    let mut opened = open(&disk);
    write(&mut opened, 1..=9);
    opened.0.set_acked(7);
    opened.0.set_acked(5);
    assert_eq!(opened.0.acked(), 7);
    opened.3.chores();
    opened.0.set_acked(1000);
    assert_eq!(opened.0.acked(), 9);
    disk.crash(0);
    assert_eq!(open(&disk).0.acked(), 7);
}

#[test]
fn retention_drops_only_what_the_center_has_and_no_generation_needs() {
    let disk = MemoryDisk::new();
    let options = Options { retain_events: 5, ..small() };
    let mut opened = Store::open_in_memory::<EventLog>(&disk, options.clone()).unwrap();
    write(&mut opened, 1..=100);
    assert_eq!(opened.0.first(), 1, "nothing is acknowledged");
    opened.0.set_acked(60);
    opened.3.chores();
    let first = opened.0.first();
    assert!((40..=61).contains(&first), "{first}");
    opened.0.set_acked(100);
    opened.3.chores();
    let first = opened.0.first();
    assert!((65..=76).contains(&first), "the older generation is at 75, the journal begins at {first}");
    assert!(drain(&mut opened.1).contains(&StoreEvent::Retained { first }));
    assert_eq!(numbers(&opened.0), (first..=100).collect::<Vec<_>>());
    opened.3.close();
    let (store, _, recovered, _) = Store::open_in_memory::<EventLog>(&disk, options).unwrap();
    assert_eq!((recovered.state, recovered.integrity), (log_of(1..=100), Integrity::Complete));
    assert_eq!(store.first(), first);
    assert_eq!(verify_on(&disk).unwrap().broken, None);
}

#[test]
fn old_days_are_dropped_too() {
    let disk = MemoryDisk::new();
    let mut opened = open(&disk);
    write(&mut opened, 1..=60);
    opened.0.set_acked(60);
    let mut late = soon(61);
    late.event.at = Timestamp(late.event.at.0 + 181 * 24 * 3600 * 1000);
    late.event.clock = ClockTrust::Untrusted;
    opened.0.append(vec![late.clone()]);
    opened.3.flush();
    opened.3.chores();
    assert_eq!(opened.0.first(), 1, "a clock that cannot be trusted deletes nothing");
    (late.event.n, late.event.clock) = (62, ClockTrust::Trusted);
    opened.0.append(vec![late]);
    opened.3.flush();
    opened.3.chores();
    assert!(opened.0.first() > 15, "{}", opened.0.first());
}

#[test]
fn where_few_events_come_one_stays_no_longer_than_a_sixteenth_beyond_its_days() {
    const DAY_MS: i64 = 24 * 3600 * 1000;
    for had_a_wrong_date in [false, true] {
        let disk = MemoryDisk::new();
        let options = Options { retain_days: 32, generation_events: 1, ..Options::default() };
        let mut opened = Store::open_in_memory::<EventLog>(&disk, options).unwrap();
        // One a day, of which a segment would hold twenty thousand.
        for n in 1..=60_u8 {
            let mut daily = soon(u64::from(n));
            daily.event.at = Timestamp(daily.event.at.0 + i64::from(n) * DAY_MS);
            if had_a_wrong_date && n == 10 {
                daily.event.at = Timestamp(daily.event.at.0 + 4 * 365 * DAY_MS);
            } else if had_a_wrong_date && n == 11 {
                daily.event.body = Event::ClockStep { by_ms: 0, restored: true, detail: String::new() };
            }
            opened.0.append(vec![daily]);
            opened.3.flush();
            opened.0.set_acked(u64::from(n));
            opened.3.chores();
        }
        assert!((60 - 34..=60 - 32).contains(&opened.0.first()), "{}", opened.0.first());
        assert_eq!(verify_on(&disk).unwrap().broken, None);
    }
}

#[test]
fn a_wrong_number_or_an_endless_event_is_refused_and_hurts_nothing_else() {
    let disk = MemoryDisk::new();
    let mut opened = open(&disk);
    let endless = Record { evidence: vec![0; segment::BODY_BYTES_MAX], ..change(6) };
    opened.0.append(vec![change(5), change(4), endless, change(7)]);
    opened.3.flush();
    let reported = drain(&mut opened.1);
    let refused = reported.iter().filter_map(|e| match e {
        StoreEvent::Refused { n, .. } => Some(*n),
        _ => None,
    });
    assert_eq!(refused.collect::<Vec<_>>(), [4, 6]);
    assert_eq!(numbers(&opened.0), [5, 7]);
}
