//! Holes in an audit: which are passed at once, which are waited for, and that the chain is checked all the same.

use std::num::NonZeroU32;

use super::super::tests::{NOW, center, chain, gateway, take};
use super::super::{Center, Directory, Layout, create};
use super::*;
use crate::access::event::GapCause;
use crate::access::id::{ClockTrust, Mono, Now};
use crate::wire::up::encode_audit;

/// The event `n` that names `ranges` as gone, behind an event with the hash `prev`.
fn log_gap(n: u64, ranges: &[(u64, u64)], prev: &Hash) -> Vec<u8> {
    let (from, to) = (ranges.first().unwrap().0, ranges.last().unwrap().1);
    let ranges = if ranges.len() > 1 { ranges.to_vec() } else { Vec::new() };
    let now = Now { wall: NOW, mono: Mono(0), clock: ClockTrust::Trusted };
    let event = AuditEvent::new(n, "b1", now, Event::LogGap { from, to, cause: GapCause::HardLimit, ranges });
    audit::encode(&event, &[], prev)
}

/// An event of its own with this number.
fn numbered(n: u64) -> Vec<u8> {
    let now = Now { wall: NOW, mono: Mono(0), clock: ClockTrust::Trusted };
    let gap = Event::LogGap { from: 1, to: u64::MAX, cause: GapCause::HardLimit, ranges: Vec::new() };
    audit::encode(&AuditEvent::new(n, "b1", now, gap), &[], &audit::NO_HASH)
}

fn take_after(center: &mut Center, after: u64, first: u64, events: &[Vec<u8>]) -> (Vec<u64>, Vec<AuditTrouble>) {
    let batch = encode_audit("b1", after, first, events).unwrap();
    let (received, _) = center.receive_audit(&gateway(), &batch, NOW).unwrap();
    (received.events.iter().map(|event| event.n).collect(), received.trouble)
}

fn lost(from: u64, to: u64) -> Vec<AuditTrouble> {
    vec![AuditTrouble::Lost { from, to }]
}

fn waiting(from: u64, to: u64) -> Vec<AuditTrouble> {
    vec![AuditTrouble::Waiting { from, to }]
}

#[test]
fn holes_that_a_batch_reports_are_passed_at_once_one_after_the_other() {
    let dir = tempfile::tempdir().unwrap();
    let mut center = center(dir.path(), Layout::One);
    let events = chain(1, 9, audit::NO_HASH);
    take(&mut center, 1, &events[..1], NOW);
    assert_eq!(take_after(&mut center, 1, 4, &events[3..5]), (vec![4, 5], lost(2, 3)));
    assert_eq!(take_after(&mut center, 5, 7, &events[6..7]), (vec![7], lost(6, 6)));
    // Of one that is reported only in part, the rest may be on its way.
    assert_eq!(take_after(&mut center, 8, 10, &chain(10, 1, [7; 32])), (vec![], waiting(8, 9)));
    assert_eq!(take(&mut center, 8, &events[7..], NOW), (vec![8, 9], vec![], 9));
}

#[test]
fn a_log_gap_fills_the_holes_that_it_names_at_once_also_before_it_is_kept_itself() {
    let dir = tempfile::tempdir().unwrap();
    let mut center = center(dir.path(), Layout::One);
    let events = chain(1, 9, audit::NO_HASH);
    let gap = log_gap(10, &[(3, 4), (7, 8)], &audit::hash(&events[8]));
    take(&mut center, 1, &events[..2], NOW);
    assert_eq!(take(&mut center, 5, &events[4..6], NOW), (vec![], waiting(3, 4), 0));
    assert_eq!(take(&mut center, 9, &[events[8].clone(), gap.clone()], NOW), (vec![], waiting(3, 8), 0));
    assert_eq!(take(&mut center, 5, &events[4..6], NOW), (vec![5, 6], lost(3, 4), 6));
    assert_eq!(take(&mut center, 9, &[events[8].clone(), gap], NOW), (vec![9, 10], lost(7, 8), 10));
    // What it named is passed; a hole behind it is waited for again.
    assert_eq!(take(&mut center, 13, &chain(13, 1, [7; 32]), NOW), (vec![], waiting(11, 12), 0));
}

#[test]
fn behind_a_hole_that_is_passed_each_event_has_to_follow_the_one_before() {
    let dir = tempfile::tempdir().unwrap();
    let mut center = center(dir.path(), Layout::One);
    let events = chain(1, 6, audit::NO_HASH);
    take(&mut center, 1, &events[..1], NOW);
    let forged = [events[3].clone(), chain(5, 1, [7; 32]).remove(0)];
    let broken = AuditTrouble::Broken { n: 5 };
    assert_eq!(take_after(&mut center, 1, 4, &forged), (vec![4], [lost(2, 3), vec![broken]].concat()));
    assert_eq!(take(&mut center, 5, &events[4..], NOW), (vec![5, 6], vec![], 6));
    // Nothing of the past is excused: an event that was kept and is different is reported.
    let other = chain(6, 1, [7; 32]);
    assert_eq!(take_after(&mut center, 1, 6, &other), (vec![], vec![AuditTrouble::Different { n: 6 }]));
}

#[test]
fn a_beginning_that_is_late_is_waited_for_and_begins_no_other_audit() {
    let dir = tempfile::tempdir().unwrap();
    let mut center = center(dir.path(), Layout::One);
    let events = chain(1, 6, audit::NO_HASH);
    assert_eq!(take(&mut center, 3, &events[2..4], NOW), (vec![], waiting(1, 2), 0));
    assert_eq!(take(&mut center, 1, &events[..2], NOW), (vec![1, 2], vec![], 2));
    // Of a gateway that was here before the center only what it still sends is had, and its first event may come late.
    let dir = tempfile::tempdir().unwrap();
    let mut joined = self::center(dir.path(), Layout::One);
    let later = Timestamp(NOW.0 + GAP_IS_LOSS_S * 1000);
    assert_eq!(take(&mut joined, 3, &events[2..4], NOW), (vec![], waiting(1, 2), 0));
    assert_eq!(take(&mut joined, 3, &events[2..4], later), (vec![3, 4], lost(1, 2), 4));
    // It is not acknowledged, and the gateway, of which more is acknowledged, does not send it again.
    let (kept, trouble, through) = take(&mut joined, 1, &events[..2], later);
    assert_eq!((kept, trouble.len(), through), (vec![], 1, 0));
}

#[test]
fn behind_an_event_that_the_gateway_names_as_lost_its_chain_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let mut center = center(dir.path(), Layout::One);
    let events = chain(1, 3, audit::NO_HASH);
    take(&mut center, 1, &events, NOW);
    // The disk has lost event 3 after it was sent.
    let prev = audit::hash(&events[1]);
    assert_eq!(take(&mut center, 4, &chain(4, 1, prev), NOW), (vec![], vec![AuditTrouble::Broken { n: 4 }], 0));
    assert_eq!(take(&mut center, 4, &[log_gap(4, &[(3, 3)], &prev)], NOW), (vec![4], lost(3, 3), 4));
}

#[test]
fn what_is_remembered_as_gone_is_joined_and_limited_and_forgotten_once_passed() {
    let mut beyond = Beyond::default();
    beyond.note([(7, 8), (3, 4), (5, 5), (20, 19)]);
    assert_eq!(beyond.gone, [(3, 5), (7, 8)]);
    assert_eq!([beyond.is_gone(3, 5), beyond.is_gone(4, 7), beyond.is_gone(8, 8)], [true, false, true]);
    beyond.reached(6);
    assert_eq!(beyond.gone, [(7, 8)]);
    beyond.note((0..5_000).map(|n| (10 + 2 * n, 10 + 2 * n)));
    assert_eq!((beyond.gone.len(), beyond.gone[0]), (GONE_MAX, (7, 8)));
}

#[test]
fn of_several_batches_under_way_the_lowest_passes_the_gap_when_it_comes_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut center = center(dir.path(), Layout::One);
    let events = chain(1, 8, audit::NO_HASH);
    take(&mut center, 1, &events[..1], NOW);
    for (n, event) in [(4, &events[3]), (6, &events[5]), (8, &events[7])] {
        assert_eq!(take(&mut center, n, std::slice::from_ref(event), NOW), (vec![], waiting(2, n - 1), 0));
    }
    // Those of before, in another order: the lowest counts.
    let later = Timestamp(NOW.0 + GAP_IS_LOSS_S * 1000);
    assert_eq!(take(&mut center, 6, &events[5..6], later), (vec![], waiting(2, 5), 0));
    assert_eq!(take(&mut center, 4, &events[3..5], later), (vec![4, 5], lost(2, 3), 5));
    assert_eq!(take(&mut center, 6, &events[5..], later), (vec![6, 7, 8], vec![], 8));
}

#[test]
fn a_gap_whose_batch_never_comes_again_is_passed_by_a_later_one() {
    let dir = tempfile::tempdir().unwrap();
    let mut center = center(dir.path(), Layout::One);
    let events = chain(1, 9, audit::NO_HASH);
    assert_eq!(take(&mut center, 3, &events[2..4], NOW), (vec![], waiting(1, 2), 0));
    let at = |seconds: i64| Timestamp(NOW.0 + seconds * 1000);
    // The gateway would send the first once more after 30 s.
    assert_eq!(take(&mut center, 7, &events[6..7], at(GAP_IS_PASSED_S - 1)), (vec![], waiting(1, 6), 0));
    assert_eq!(take(&mut center, 8, &events[7..8], at(GAP_IS_PASSED_S)), (vec![8], lost(1, 7), 8));
}

#[test]
fn what_the_gateway_has_as_acknowledged_is_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let mut center = center(dir.path(), Layout::One);
    let events = chain(1, 9, audit::NO_HASH);
    names(&mut center, 9, 3);
    assert_eq!(take(&mut center, 5, &events[4..5], NOW), (vec![], waiting(1, 4), 0));
    assert_eq!(take(&mut center, 4, &events[3..4], NOW), (vec![4], lost(1, 3), 4));
    names(&mut center, 9, 7);
    assert_eq!(take(&mut center, 8, &events[7..], NOW), (vec![8, 9], lost(5, 7), 9));
    // What the broker delivers late or twice begins no other audit.
    for later_s in [0, GAP_IS_LOSS_S, 2 * GAP_IS_LOSS_S] {
        let late = take(&mut center, 5, &events[4..7], Timestamp(NOW.0 + later_s * 1000));
        assert_eq!(late, (vec![], vec![AuditTrouble::NotKept { n: 5 }], 0));
    }
}

#[test]
fn without_command_the_audit_is_kept_and_nothing_is_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    create(dir.path(), Layout::Two, NonZeroU32::MIN).unwrap();
    let (directory, mut streams) = Directory::open(dir.path()).unwrap();
    streams.retain(|(spec, _)| spec.name.as_str() == "card-office");
    let mut center = Center::new(directory, streams, vec![gateway()]).unwrap();
    assert_eq!(take(&mut center, 1, &chain(1, 2, audit::NO_HASH), NOW), (vec![1, 2], vec![], 0));
    assert_eq!(center.storage.audit_ends(&gateway()).unwrap().map(|(_, last)| last.n), Some(2));
}

/// Chains of a gateway whose data was rolled back to event 4: what it sent before, and what it has now.
fn rolled_back() -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let before = chain(1, 14, audit::NO_HASH);
    let mut now = before[..4].to_vec();
    let mut prev = audit::hash(&now[3]);
    for n in 5..=20 {
        let event = AuditEvent::new(n, "b2", Now { wall: NOW, mono: Mono(0), clock: ClockTrust::Trusted }, other());
        now.push(audit::encode(&event, &[], &prev));
        prev = audit::hash(now.last().unwrap());
    }
    (before, now)
}

fn other() -> Event {
    Event::LogGap { from: 1, to: 1, cause: GapCause::HardLimit, ranges: Vec::new() }
}

#[test]
fn after_a_rollback_of_the_gateway_both_its_chains_are_kept_and_nothing_else_is_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let mut center = center(dir.path(), Layout::One);
    let (before, now) = rolled_back();
    take(&mut center, 1, &before, NOW);
    // Of what is the same, no more than that is acknowledged: the events behind are others.
    assert_eq!(take(&mut center, 3, &now[2..4], NOW), (vec![], vec![], 4));
    let different = vec![AuditTrouble::Different { n: 5 }];
    assert_eq!(take(&mut center, 4, &now[3..16], NOW), (vec![], different.clone(), 4));
    assert_eq!(take(&mut center, 5, &now[4..], NOW), (vec![], different, 0));
    assert_eq!(take(&mut center, 15, &now[14..], NOW), (vec![], vec![AuditTrouble::Broken { n: 15 }], 0));
    // The gateway sends again what nobody acknowledges.
    let later = Timestamp(NOW.0 + GAP_IS_LOSS_S * 1000);
    let (events, trouble, through) = take(&mut center, 5, &now[4..], later);
    assert_eq!((events, through), ((5..=20).collect(), 20));
    assert!(matches!(trouble.as_slice(), [AuditTrouble::Forked { n: 5, place }] if place.ends_with("audit-1.jsonl`")));
    let kept = |name: &str| std::fs::read_to_string(dir.path().join("g1").join(name)).unwrap();
    let lines =
        |events: &[Vec<u8>]| events.iter().map(|e| String::from_utf8(e.clone()).unwrap() + "\n").collect::<String>();
    assert_eq!((kept("audit-1.jsonl"), kept("audit.jsonl")), (lines(&before), lines(&now[4..])));
    // It goes on as any other.
    assert_eq!(take(&mut center, 20, &now[19..], later), (vec![], vec![], 20));
    let next = chain(21, 1, audit::hash(&now[19]));
    assert_eq!(take(&mut center, 21, &next, later), (vec![21], vec![], 21));
}

#[test]
fn a_gateway_that_insists_on_what_does_not_follow_is_not_refused_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let mut center = center(dir.path(), Layout::One);
    take(&mut center, 1, &chain(1, 3, audit::NO_HASH), NOW);
    let foreign = chain(4, 2, [7; 32]);
    assert_eq!(take(&mut center, 4, &foreign, NOW), (vec![], vec![AuditTrouble::Broken { n: 4 }], 0));
    let later = Timestamp(NOW.0 + GAP_IS_LOSS_S * 1000);
    let (events, trouble, through) = take(&mut center, 4, &foreign, later);
    assert_eq!((events, through), (vec![4, 5], 5));
    assert!(matches!(trouble.as_slice(), [AuditTrouble::Forked { n: 4, .. }]), "{trouble:?}");
}

#[cfg(feature = "center")]
#[test]
fn in_a_database_both_chains_of_a_rollback_are_found() {
    use crate::center::database::{Database, Reader, Retention, Search, Table};
    let dir = tempfile::tempdir().unwrap();
    create(&dir.path().join("trial"), Layout::One, NonZeroU32::MIN).unwrap();
    let streams = Directory::open(&dir.path().join("trial")).unwrap().1;
    let retention = Retention { audit_days: 1, acks_days: 1, requests_days: 1 };
    let database = Database::open(&dir.path().join("center.db"), NonZeroU32::MIN, retention).unwrap();
    let mut center = Center::new(database, streams, vec![gateway()]).unwrap();
    let (before, now) = rolled_back();
    let mut take = |first: u64, events: &[Vec<u8>], at: Timestamp| {
        let batch = encode_audit("b1", first - 1, first, events).unwrap();
        let (received, ack) = center.receive_audit(&gateway(), &batch, at).unwrap();
        (received.trouble, ack.is_some())
    };
    assert_eq!(take(1, &before, NOW), (vec![], true));
    assert_eq!(take(5, &now[4..], NOW), (vec![AuditTrouble::Different { n: 5 }], false));
    let forked = AuditTrouble::Forked { n: 5, place: "run 0 of its audit".to_owned() };
    assert_eq!(take(5, &now[4..], Timestamp(NOW.0 + GAP_IS_LOSS_S * 1000)), (vec![forked], true));
    let (gateways, is) = (None, Vec::new());
    let (from, to, after) = (None, None, None);
    let all = Search { table: Table::Audit, is, gateways, from, to, is_newest_first: false, after, most: 100 };
    let found = Reader::open(&dir.path().join("center.db")).unwrap().search(&all).unwrap();
    let found: Vec<_> = found.into_iter().map(|row| row.body.into_bytes()).collect();
    assert_eq!(found, [before, now[4..].to_vec()].concat());
}

/// Whoever has the account of one gateway at the broker may publish any number, and must not end the center with it.
#[test]
fn an_event_with_a_number_that_no_audit_reaches_is_unreadable_and_the_next_batch_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let mut center = center(dir.path(), Layout::One);
    let wrong = |first: u64, ns: &[u64]| {
        let events = ns.iter().map(|n| String::from_utf8(numbered(*n)).unwrap()).collect::<Vec<_>>().join(",");
        let last = u64::MAX;
        format!(r#"{{"v":1,"boot":"b1","first":{first},"last":{last},"after":{last},"events":[{events}]}}"#)
            .into_bytes()
    };
    for (first, ns) in [
        (u64::MAX, vec![u64::MAX]),
        (u64::MAX - 1, vec![u64::MAX - 1, u64::MAX, 0]),
        (u64::MAX, vec![u64::MAX, 0, 1]),
        (EVENT_MAX + 1, vec![EVENT_MAX + 1]),
    ] {
        let (received, ack) = center.receive_audit(&gateway(), &wrong(first, &ns), NOW).unwrap();
        assert!(received.events.is_empty() && ack.is_none(), "{first}");
        let [AuditTrouble::Unreadable(why)] = received.trouble.as_slice() else { panic!("{:?}", received.trouble) };
        assert!(why.contains("no audit reaches"), "{why}");
    }
    let (received, _) = center.receive_audit(&gateway(), &wrong(0, &[0]), NOW).unwrap();
    assert!(received.events.is_empty(), "{received:?}");
    assert_eq!(take(&mut center, 1, &chain(1, 2, audit::NO_HASH), NOW), (vec![1, 2], vec![], 2));
}

/// The gateway's state names how far its audit is.
fn names(center: &mut Center, last: u64, acked: u64) {
    center.note_audit(&gateway(), state::Audit { last, acked });
}

/// Takes a batch; gives the numbers kept, what was wrong, and through which event is acknowledged.
fn take_all(center: &mut Center, batch: &[u8], now: Timestamp) -> (Vec<u64>, String, bool) {
    let (received, ack) = center.receive_audit(&gateway(), batch, now).unwrap();
    let trouble = received.trouble.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    (received.events.iter().map(|event| event.n).collect(), trouble, ack.is_some())
}

/// One event far beyond the others, with all between them reported as gone: whoever has the account of one gateway may publish it.
fn forged(n: u64) -> Vec<u8> {
    let event = String::from_utf8(numbered(n)).unwrap();
    format!(r#"{{"v":1,"boot":"x","first":{n},"last":{n},"after":0,"events":[{event}]}}"#).into_bytes()
}

#[test]
fn a_number_far_beyond_what_the_gateway_has_is_refused_and_nothing_beside_it_counts() {
    let dir = tempfile::tempdir().unwrap();
    let mut center = center(dir.path(), Layout::One);
    let events = chain(1, 9, audit::NO_HASH);
    take(&mut center, 1, &events[..3], NOW);
    names(&mut center, 9, 3);
    for n in [1 << 53, 9 + 1_000_001] {
        let (kept, trouble, is_acked) = take_all(&mut center, &forged(n), NOW);
        assert_eq!((kept, is_acked), (vec![], false), "{n}");
        assert!(trouble.contains("is too far beyond event 9"), "{trouble}");
        // Neither does waiting help.
        let later = Timestamp(NOW.0 + GAP_IS_PASSED_S * 1000);
        assert_eq!(take_all(&mut center, &forged(n), later).0, Vec::<u64>::new());
    }
    // Not even that the events between are gone.
    assert_eq!(take(&mut center, 6, &events[5..6], NOW), (vec![], waiting(4, 5), 0));
    assert_eq!(take(&mut center, 4, &events[3..], NOW), (vec![4, 5, 6, 7, 8, 9], vec![], 9));
}

#[test]
fn what_was_passed_as_lost_and_comes_all_the_same_is_never_acknowledged_before_it_is_kept() {
    for (before, forged_n) in [(3, 1_000), (0, 900)] {
        let dir = tempfile::tempdir().unwrap();
        let mut center = center(dir.path(), Layout::One);
        let events = chain(1, 9, audit::NO_HASH);
        if before > 0 {
            take(&mut center, 1, &events[..before], NOW);
        }
        let (kept, _, is_acked) = take_all(&mut center, &forged(forged_n), NOW);
        assert_eq!((kept, is_acked), (vec![forged_n], true));
        let first = before as u64 + 1;
        let batch = encode_audit("b1", before as u64, first, &events[before..]).unwrap();
        let (kept, trouble, is_acked) = take_all(&mut center, &batch, NOW);
        assert_eq!((kept, is_acked), (vec![], false), "{trouble}");
        assert!(trouble.contains(&format!("event {first} comes after later ones")), "{trouble}");
        // The gateway sends again what nobody acknowledges.
        let later = Timestamp(NOW.0 + GAP_IS_LOSS_S * 1000);
        let (kept, trouble, is_acked) = take_all(&mut center, &batch, later);
        assert_eq!((kept, is_acked), ((first..=9).collect(), true), "{trouble}");
        assert!(trouble.contains("audit-1.jsonl"), "{trouble}");
        assert_eq!(take(&mut center, 10, &chain(10, 1, audit::hash(&events[8])), later), (vec![10], vec![], 10));
    }
}

#[test]
fn a_center_that_lost_its_own_audit_and_a_gateway_that_lost_most_of_its_go_on() {
    let far = chain(5_000_001, 3, [7; 32]);
    let dir = tempfile::tempdir().unwrap();
    let mut emptied = center(dir.path(), Layout::One);
    names(&mut emptied, 5_000_003, 5_000_000);
    assert_eq!(
        take(&mut emptied, 5_000_001, &far, NOW),
        (vec![5_000_001, 5_000_002, 5_000_003], lost(1, 5_000_000), 5_000_003)
    );
    // The gateway's store had reached its hard limit while no center was there.
    let dir = tempfile::tempdir().unwrap();
    let mut behind = center(dir.path(), Layout::One);
    take(&mut behind, 1, &chain(1, 3, audit::NO_HASH), NOW);
    names(&mut behind, 5_000_003, 3);
    let kept = vec![5_000_001, 5_000_002, 5_000_003];
    assert_eq!(take_after(&mut behind, 3, 5_000_001, &far), (kept, lost(4, 5_000_000)));
}
