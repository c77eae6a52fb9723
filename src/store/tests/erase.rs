//! Erased events: the chain stays whole, whatever is cut, and no other event changes.

use std::sync::Arc;

use super::super::sealed;
use super::*;
use crate::access::event::{EventKind, Who};
use crate::access::id::{CardUid, Holder};
use crate::wire::audit;
use crate::wire::erased;

const DAY_MS: i64 = 24 * 3600 * 1000;

fn holder(n: u64) -> Holder {
    format!("p{}", n % 3).parse().unwrap()
}

/// Somebody was not at the gate: `p0`, `p1` and `p2` in turn, a card each; of every tenth event the holder was not known.
fn person(n: u64) -> Record {
    let uid: CardUid = format!("1EA6867{}", n % 3).parse().unwrap();
    let who = Who { uid: Some(uid), holder: (!n.is_multiple_of(10)).then(|| holder(n)) };
    let body = Event::NotTaken { portal: "gate-in".parse().unwrap(), who, detail: String::new() };
    Record { event: AuditEvent { body, ..event(n) }, evidence: Vec::new(), flush: Flush::Soon }
}

fn append(opened: &mut Open, records: impl IntoIterator<Item = Record>) {
    for record in records {
        opened.0.append(vec![record]);
        assert_eq!(opened.3.flush(), Stepped::Idle);
        opened.3.chores();
    }
}

/// What became of each event: `Some`: erased, and how its hash is known.
fn left(store: &Store) -> BTreeMap<u64, Option<audit::Hash>> {
    let all = store.read_blocking(0, usize::MAX, usize::MAX).unwrap();
    all.iter().map(|event| (event.n, erased::decode(&event.json).map(|left| left.hash))).collect()
}

fn hashes(store: &Store) -> BTreeMap<u64, audit::Hash> {
    let all = store.read_blocking(0, usize::MAX, usize::MAX).unwrap();
    all.iter().map(|event| (event.n, audit::hash(&event.json))).collect()
}

/// 60 events of three persons, of which the center has 40, and the order, which begins a new segment.
fn lived(disk: &MemoryDisk, key: Option<StoreKey>) -> Open {
    let mut opened = Store::open_in_memory::<EventLog>(disk, Options { key, ..small() }).unwrap();
    append(&mut opened, (1..=60).map(|n: u64| if n.is_multiple_of(12) { change(n) } else { person(n) }));
    opened.0.set_acked(40);
    opened.3.chores();
    opened.0.close_segment();
    append(&mut opened, [soon(61)]);
    opened
}

fn is_of_p1(n: u64) -> bool {
    n % 3 == 1 && !n.is_multiple_of(12) && n <= 60
}

#[test]
fn of_a_holder_what_the_center_has_is_erased_and_the_chain_is_whole() {
    for key in [None, StoreKey::new(b"a key")] {
        let disk = MemoryDisk::new();
        let mut opened = lived(&disk, key.clone());
        let before = hashes(&opened.0);
        let done = opened.3.keeper.erase(&holder(1)).unwrap();
        let of = |range: std::ops::RangeInclusive<u64>| range.filter(|n| is_of_p1(*n)).count() as u64;
        assert_eq!(done, Erasure { erased: of(1..=40), through: 40, kept: of(41..=60) });
        let expect: BTreeMap<_, _> = (1..=61).map(|n| (n, (n <= 40 && is_of_p1(n)).then(|| before[&n]))).collect();
        assert_eq!(left(&opened.0), expect);
        // Nothing more the next time, and what the center has by then.
        assert_eq!(opened.3.keeper.erase(&holder(1)).unwrap().erased, 0);
        opened.0.set_acked(61);
        append(&mut opened, [soon(62)]);
        assert_eq!(opened.3.keeper.erase(&holder(1)).unwrap(), Erasure { erased: of(41..=60), through: 60, kept: 0 });
        append(&mut opened, (63..=90).map(person));
        let state = opened.2.state;
        assert_eq!(state, EventLog::default());
        disk.crash(0);
        let medium = sealed::over(Arc::new(disk.clone()), key.as_ref()).unwrap();
        let verified = verify_on(&*medium).unwrap();
        assert_eq!((verified.broken, verified.erased, verified.events), (None, of(1..=60), 90));
        let found = Store::open_in_memory::<EventLog>(&disk, Options { key, ..small() }).unwrap().2;
        assert_eq!((found.integrity, found.issues), (Integrity::Complete, Vec::new()));
        assert_eq!(found.state.0.keys().copied().collect::<Vec<_>>(), (1..=90).collect::<Vec<_>>());
    }
}

#[test]
fn what_was_ordered_first_is_erased_first() {
    let disk = MemoryDisk::new();
    let (store, ..) = lived(&disk, None);
    let requests = &store.0.0.requests;
    let waiting: Vec<_> = [1, 2, 0].map(|n| requests.erase(&holder(n))).into();
    let order: Vec<_> = std::iter::from_fn(|| requests.erasure()).map(|(holder, _)| holder).collect();
    assert_eq!(order, [1, 2, 0].map(holder));
    drop(waiting);
}

#[test]
fn a_store_that_is_closed_erases_nothing_and_lets_nobody_wait() {
    for is_ordered_before in [false, true] {
        let disk = MemoryDisk::new();
        let (store, _events, _, stepper) = lived(&disk, None);
        let requests = &store.0.0.requests;
        let before = is_ordered_before.then(|| requests.erase(&holder(1)));
        stepper.close();
        store.0.0.set_done();
        let ended = before.unwrap_or_else(|| requests.erase(&holder(1)));
        assert_eq!(ended.try_recv().unwrap_err(), std::sync::mpsc::TryRecvError::Disconnected);
    }
}

#[test]
fn what_stays_of_an_event_and_what_follows_it_cannot_be_edited() {
    for is_edited in [false, true] {
        let disk = MemoryDisk::new();
        let mut opened = lived(&disk, None);
        opened.3.keeper.erase(&holder(1)).unwrap();
        drop(opened);
        let path = segments::Segment::path(1);
        let bytes = disk.read(&path, 0, u64::MAX).unwrap();
        let mut new = bytes[..segment::HEADER_BYTES].to_vec();
        for step in segment::Walk::new(&bytes, segment::HEADER_BYTES) {
            let segment::Found::Frame(frame) = step.found else { panic!("{step:?}") };
            let other = erased::decode(frame.json).filter(|left| is_edited && left.n == 4);
            let other = other.map(|left| erased::encode(&erased::Erased { hash: [7; 32], ..left }).unwrap());
            let frame = segment::Frame { json: other.as_deref().unwrap_or(frame.json), ..frame };
            assert!(segment::push_frame(&mut new, &frame, false));
        }
        disk.damage(&path, |bytes| *bytes = new);
        let broken = verify_on(&disk).unwrap().broken;
        assert_eq!(broken.map(|broken| broken.n), is_edited.then_some(5));
    }
}

#[test]
fn a_power_cut_at_any_step_of_an_erasure_loses_nothing_and_it_can_be_ordered_again() {
    let disk = MemoryDisk::new();
    drop(lived(&disk, None));
    for (torn, cuts) in [(0, 0..200), (150, 0..200)] {
        let mut finished = false;
        for cut in cuts {
            let image = disk.image();
            let (_store, _events, _, mut stepper) = open(&image);
            stepper.chores();
            image.set_fault(Fault::CutAfter { ops: cut });
            finished = stepper.keeper.erase(&holder(1)).is_ok() && image.fault() != Fault::CutAfter { ops: 0 };
            image.crash(torn);
            assert_eq!(verify_on(&image).unwrap().broken, None, "cut after {cut} steps");
            let mut again = open(&image);
            assert_eq!(again.2.integrity, Integrity::Complete, "cut after {cut} steps: {:?}", again.2.issues);
            assert_eq!(again.2.state.0.len(), 61, "cut after {cut} steps");
            again.3.chores();
            again.0.close_segment();
            append(&mut again, [soon(62)]);
            let done = again.3.keeper.erase(&holder(1)).unwrap();
            let all = left(&again.0).values().flatten().count() as u64;
            assert_eq!((all, done.through), ((1..=40).filter(|n| is_of_p1(*n)).count() as u64, 40));
            if finished {
                break;
            }
        }
        assert!(finished, "no cut was late enough");
    }
}

#[test]
fn an_event_goes_when_its_type_has_reached_its_age_and_the_others_stay() {
    let disk = MemoryDisk::new();
    let options = Options { retain_kinds: vec![(EventKind::NotTaken, 30)], ..small() };
    let mut opened = Store::open_in_memory::<EventLog>(&disk, options.clone()).unwrap();
    let late = |n: u64, days: i64| {
        let record = if n.is_multiple_of(4) { soon(n) } else { person(n) };
        let at = Timestamp(record.event.at.0 + days * DAY_MS);
        Record { event: AuditEvent { at, ..record.event }, ..record }
    };
    append(&mut opened, (1..=60).map(|n| late(n, 0)));
    append(&mut opened, (61..=120).map(|n| late(n, 29)));
    opened.0.set_acked(120);
    opened.3.chores();
    assert_eq!(left(&opened.0).values().flatten().count(), 0, "nothing has reached 30 days");
    append(&mut opened, (121..=200).map(|n| late(n, 31)));
    opened.0.request_generation();
    opened.3.chores();
    append(&mut opened, [late(201, 31)]);
    let erased: Vec<u64> = left(&opened.0).into_iter().filter_map(|(n, left)| left.map(|_| n)).collect();
    assert!(erased.len() > 30 && erased.iter().all(|n| *n <= 60 && !n.is_multiple_of(4)), "{erased:?}");
    disk.crash(0);
    assert_eq!(verify_on(&disk).unwrap().broken, None);
    let found = Store::open_in_memory::<EventLog>(&disk, options).unwrap().2;
    assert_eq!((found.integrity, found.state.0.len()), (Integrity::Complete, 201));
}
