//! Snapshots: parts in any order, one step from the old list to the new one, and what it may never undo.

use dormgate::access::change::{ErrorCode, Op, Position, SuspendReason};
use dormgate::access::credential::Flag;
use dormgate::access::effect::{Effect, Outcome};
use dormgate::access::event::EventKind;
use dormgate::access::input::{CommandKind, Input, Operator};
use dormgate::access::list::AccessList;
use dormgate::access::portal::Posture;
use dormgate::access::rules::Rules;
use dormgate::access::snapshot::{HELD_MS, SnapshotEntry};

use crate::world::{APARTMENT, OFFICE, Seen, Snapshot, World, at, enrolment, name, op, owned_by, uid};

const RESIDENT: &str = "gate:* door:412 power_box:412";

/// What a stream would send that has sent these messages, the first as number 1.
pub fn entries_of(stream: &str, messages: &[Vec<Op>]) -> Vec<SnapshotEntry> {
    let mut list = AccessList::default();
    for (ops, seq) in messages.iter().zip(1..) {
        list.replay(ops, at(1, seq), None);
    }
    list.snapshot(&owned_by(stream))
}

pub fn apartment(ops: &[Op]) -> Vec<SnapshotEntry> {
    entries_of(APARTMENT, &[ops.to_vec()])
}

pub fn send(w: &mut World, stream: &str, position: Position, entries: &[SnapshotEntry]) -> Seen {
    let id = format!("s-{}-{}", position.epoch, position.seq);
    w.snapshot(&Snapshot { stream, at: position, id: &id, entries, allow_shrink: false })
}

pub fn outcome(seen: &Seen) -> (Outcome, Vec<ErrorCode>) {
    (seen.ack().outcome, seen.ack().errors.iter().map(|e| e.code).collect())
}

#[test]
fn a_snapshot_at_the_place_of_the_last_one_takes_its_place_also_in_the_registers_of_rooms_and_portals() {
    let mut list = AccessList::default();
    let before = [op::power("412", true), op::posture("gate-in", Posture::Lockdown, None)];
    for (ops, is_suspended) in [(before.as_slice(), true), (&[], false)] {
        list.replay_snapshot(&owned_by(APARTMENT), (at(1, 20), None), &[apartment(ops)]);
        assert_eq!(list.site.is_suspended_for(&name("412"), SuspendReason::Arrears), is_suspended);
        assert_eq!(list.site.posture(&name("gate-in")).is_some(), is_suspended);
    }
}

#[test]
fn a_snapshot_takes_the_place_of_what_the_stream_sent_in_one_step() {
    let mut w = World::new();
    w.resident("A", "p1").resident("B", "p2").resident("R", "p3").resident("X", "p4");
    w.publish(vec![op::power("412", true)]);
    w.publish(vec![op::posture("gate-both", Posture::Lockdown, None)]);
    w.publish(vec![op::power("413", true)]);
    let mut entries =
        apartment(&[op::enrol("B", "p2", "gate:*"), op::enrol("R", "p3", RESIDENT), op::power("413", true)]);
    entries.extend(apartment(&[op::enrol("C9", "p9", RESIDENT), op::enrol("X", "p4", RESIDENT)]));
    let mut parts = w.snapshot_parts(&Snapshot {
        stream: APARTMENT,
        at: at(1, 20),
        id: "s",
        entries: &entries,
        allow_shrink: false,
    });
    assert_eq!(parts.len(), 1);
    w.input(parts.remove(0));
    assert!(w.engine.has_snapshot_work());
    assert_eq!(
        (w.present("gate-in", "A"), w.present("gate-in", "C9")),
        ("granted", "unknown_credential"),
        "the old list"
    );
    let seen = w.finish_snapshots();
    let ack = seen.ack();
    assert_eq!((ack.outcome, ack.snapshot.as_deref(), ack.at), (Outcome::Applied, Some("s"), Some(at(1, 20))));
    assert_eq!((ack.revoked.clone(), ack.applied_through), (vec![uid("A")], 20));
    let verdicts = [("gate-in", "A"), ("door-412", "B"), ("gate-in", "B"), ("gate-in", "C9"), ("gate-both", "R")];
    let expected = ["not_enrolled", "not_enrolled", "granted", "granted", "granted"];
    assert_eq!(verdicts.map(|(portal, card)| w.present(portal, card)), expected);
    assert_eq!(w.present("power-412", "R"), "granted", "the suspension is not named any more");
    w.assert_replay_is_life();
    w.restart();
    assert_eq!((w.present("gate-in", "A"), w.present("gate-in", "C9")), ("not_enrolled", "granted"));
    // What it contains is stale, what follows is not.
    let late = w.publish_at(APARTMENT, at(1, 19), vec![op::enrol("A", "p1", RESIDENT)]);
    assert_eq!((late.ack().outcome, w.present("gate-in", "A")), (Outcome::Stale, "not_enrolled"));
    w.publish_at(APARTMENT, at(1, 21), vec![op::enrol("A", "p1", RESIDENT)]);
    assert_eq!(w.present("gate-in", "A"), "granted");
}

#[test]
fn parts_come_in_any_order_and_are_held_for_ten_minutes() {
    let mut w = World::new();
    let ops: Vec<Op> = (0..1500).map(|n| op::enrol(&format!("5C{n:06X}"), &format!("h{n}"), RESIDENT)).collect();
    let entries = apartment(&ops);
    let snapshot = Snapshot { stream: APARTMENT, at: at(1, 7), id: "s", entries: &entries, allow_shrink: false };
    let mut parts = w.snapshot_parts(&snapshot);
    assert!(parts.len() > 3);
    parts.reverse();
    let last = parts.pop().unwrap();
    for part in parts.iter().chain(&parts) {
        assert_eq!(w.input(part.clone()).0, []);
    }
    w.pass_ms(HELD_MS - 1);
    w.input(last.clone());
    assert_eq!(outcome(&w.finish_snapshots()).0, Outcome::Applied);
    assert_eq!(w.engine.state().list.len(), 1500);
    w.assert_replay_is_life();
    // The same again, a moment too late.
    let mut w = World::new();
    for part in parts {
        w.input(part);
    }
    w.pass_ms(HELD_MS);
    assert_eq!(w.input(last).0, []);
    assert!(!w.engine.has_snapshot_work());
}

#[test]
fn a_revocation_is_never_dropped_by_absence_and_a_newer_register_stays() {
    let mut w = World::new();
    for (card, holder) in [("A", "p1"), ("B", "p2"), ("R", "p3"), ("X", "p4")] {
        w.resident(card, holder);
    }
    w.publish(vec![op::report_lost("uid:A"), op::cancel("p2"), op::freeze("uid:R")]);
    w.publish_at(OFFICE, at(1, 30), vec![op::cancel("uid:X")]);
    // The office names none of it, and X in good standing.
    let entries = entries_of(OFFICE, &[vec![op::issue("A", "p1"), op::issue("X", "p4"), op::issue("C9", "p9")]]);
    assert_eq!(outcome(&send(&mut w, OFFICE, at(1, 20), &entries)).0, Outcome::Applied);
    let gate = |w: &mut World, card: &str| w.present("gate-in", card);
    let verdicts = ["A", "B", "R", "X", "C9"].map(|card| gate(&mut w, card));
    assert_eq!(verdicts, ["lost", "cancelled", "frozen", "cancelled", "not_enrolled"]);
    w.assert_replay_is_life();
    w.publish_at(OFFICE, at(1, 31), vec![op::found("uid:A")]);
    assert_eq!(gate(&mut w, "A"), "granted", "a newer op ends it");
}

#[test]
fn what_arrives_while_a_snapshot_is_merged_acts_at_once_and_stays() {
    let w = World::new();
    let cards: Vec<String> = (0..600).map(|n| format!("5C{n:06X}")).collect();
    let ops: Vec<Op> = cards.iter().map(|card| op::enrol(card, &format!("h{card}"), RESIDENT)).collect();
    let entries = apartment(&ops);
    let snapshot = Snapshot { stream: APARTMENT, at: at(1, 9), id: "s", entries: &entries, allow_shrink: true };
    let parts = w.snapshot_parts(&snapshot);
    let old: Vec<Op> = (0..400).map(|n| op::enrol(&format!("5D{n:06X}"), "p9", RESIDENT)).collect();
    for messages in 0..9_u64 {
        let mut w = World::new();
        w.publish(old.clone());
        w.resident("A", "p1").resident(&cards[7], &format!("h{}", cards[7]));
        w.present("power-412", &cards[7]);
        for part in parts.clone() {
            w.input(part);
        }
        let mut slice = 0;
        while w.engine.has_snapshot_work() {
            // Of this stream before and after the snapshot, and of the other one: at different slices each time.
            if slice == messages {
                let seen = w.publish(vec![op::report_lost(&format!("uid:{}", cards[7])), op::cancel("uid:A")]);
                assert_eq!(seen.cuts(), [("power-412", "lost")]);
                w.publish_at(
                    APARTMENT,
                    at(1, 8),
                    vec![op::withdraw(&format!("uid:{}", cards[8])), op::enrol("R", "p3", RESIDENT)],
                );
                w.publish_at(APARTMENT, at(1, 11), vec![op::withdraw(&format!("uid:{}", cards[9]))]);
                w.publish_at(APARTMENT, at(1, 12), vec![op::enrol("X", "p4", RESIDENT)]);
            }
            slice += 1;
            let effects = w.engine.work_at_snapshot(w.now());
            w.keep(effects);
        }
        let verdicts = [&cards[7], &cards[8], &cards[9], "R", "X", "A"].map(|card| w.present("gate-in", card));
        assert_eq!(
            verdicts,
            ["lost", "granted", "not_enrolled", "not_enrolled", "granted", "cancelled"],
            "at {messages}"
        );
        w.assert_replay_is_life();
    }
}

#[test]
fn boxes_are_cut_with_the_step_and_the_ack_waits_for_its_record() {
    let mut w = World::new();
    w.resident("A", "p1").resident("B", "p2").resident("R", "p3").resident("X", "p4");
    w.present("power-412", "A");
    let entries = apartment(&["B", "R", "X"].map(|card| op::enrol(card, "p2", RESIDENT)));
    let seen = send(&mut w, APARTMENT, at(1, 20), &entries);
    assert_eq!(seen.cuts(), [("power-412", "not_enrolled")]);
    let (after, ack) = seen.ack_after();
    assert_eq!(ack.cut, [name("power-412")]);
    assert_eq!(seen.recorded(), [EventKind::ChangesApplied, EventKind::Revoked, EventKind::PowerOff]);
    assert_eq!(after, seen.records().last().unwrap().event.n);
    // A power cut before the flush: the old list is whole, and the same snapshot is new.
    let last = w.journal.iter().rposition(|r| r.event.kind() == EventKind::ChangesApplied).unwrap();
    w.journal.truncate(last);
    w.restart();
    assert_eq!(w.present("gate-in", "A"), "granted");
    assert_eq!(outcome(&send(&mut w, APARTMENT, at(1, 20), &entries)).0, Outcome::Applied);
    w.assert_replay_is_life();
}

#[test]
fn what_is_wrong_with_a_snapshot_refuses_it_whole() {
    let mut w = World::new();
    w.resident("A", "p1").resident("B", "p2").resident("R", "p3").resident("X", "p4");
    let enrol =
        |cards: &[&str]| apartment(&cards.iter().map(|card| op::enrol(card, "p2", RESIDENT)).collect::<Vec<_>>());
    let few = enrol(&["A", "B"]);
    let seen = send(&mut w, APARTMENT, at(1, 20), &few);
    assert_eq!(outcome(&seen), (Outcome::Rejected, vec![ErrorCode::ShrinkRefused]));
    assert_eq!(seen.ack().snapshot.as_deref(), Some("s-1-20"));
    assert_eq!(w.present("gate-in", "R"), "granted");
    let none = send(&mut w, APARTMENT, at(1, 21), &[]);
    assert_eq!(outcome(&none).1, [ErrorCode::ShrinkRefused]);
    let mut parts =
        w.snapshot_parts(&Snapshot { stream: APARTMENT, at: at(1, 22), id: "c", entries: &few, allow_shrink: true });
    if let Input::SnapshotPart(part) = &mut parts[0] {
        part.part.head.cards = 3;
    }
    w.input(parts.remove(0));
    assert_eq!(outcome(&w.finish_snapshots()), (Outcome::Rejected, vec![ErrorCode::CountMismatch]));
    let twice = [enrol(&["A", "B", "R"]), enrol(&["A"])].concat();
    assert_eq!(outcome(&send(&mut w, APARTMENT, at(1, 23), &twice)).1, [ErrorCode::InvalidField]);
    let far = send(&mut w, APARTMENT, at(1, 3_000_000), &few);
    assert_eq!(outcome(&far), (Outcome::Rejected, vec![ErrorCode::Implausible]));
    assert_eq!(w.engine.state().streams[APARTMENT].through, 4);
    let allowed = Snapshot { stream: APARTMENT, at: at(1, 24), id: "d", entries: &few, allow_shrink: true };
    assert_eq!(outcome(&w.snapshot(&allowed)).0, Outcome::Applied);
    assert_eq!(w.present("gate-in", "R"), "not_enrolled");
    w.assert_replay_is_life();
}

#[test]
fn of_two_equal_snapshots_that_wait_the_one_that_may_remove_much_is_applied() {
    let mut w = World::new();
    w.resident("A", "p1").resident("B", "p2").resident("R", "p3");
    let few = apartment(&[op::enrol("A", "p1", RESIDENT)]);
    let parts_of = |w: &mut World, stream, seq, id, entries: &[SnapshotEntry], allow_shrink| {
        w.snapshot_parts(&Snapshot { stream, at: at(1, seq), id, entries, allow_shrink })
    };
    let under_way = parts_of(&mut w, OFFICE, 20, "o", &entries_of(OFFICE, &[vec![op::issue("A", "p1")]]), true);
    let allowed = parts_of(&mut w, APARTMENT, 20, "a", &few, true);
    let asked = parts_of(&mut w, APARTMENT, 20, "b", &few, false);
    for part in [under_way, allowed, asked].into_iter().flatten() {
        w.input(part);
    }
    w.finish_snapshots();
    assert_eq!((w.present("gate-in", "A"), w.present("gate-in", "R")), ("granted", "not_enrolled"));
    w.assert_replay_is_life();
}

#[test]
fn an_older_snapshot_is_stale_and_the_same_one_counts_only_as_an_answer() {
    let mut w = World::new();
    let entries = apartment(&[op::enrol("A", "p1", RESIDENT)]);
    assert_eq!(outcome(&send(&mut w, APARTMENT, at(2, 5), &entries)).0, Outcome::Applied);
    assert_eq!(outcome(&send(&mut w, APARTMENT, at(2, 4), &entries)).0, Outcome::Stale);
    assert_eq!(outcome(&send(&mut w, APARTMENT, at(1, 9), &entries)).0, Outcome::Stale);
    assert_eq!(outcome(&send(&mut w, APARTMENT, at(2, 5), &entries)).0, Outcome::Duplicate);
    w.link_up();
    w.command("j1", CommandKind::Resync { stream: name(APARTMENT) });
    w.pass_s(2);
    assert_eq!(outcome(&send(&mut w, APARTMENT, at(2, 5), &entries)).0, Outcome::Applied);
    assert_eq!(outcome(&send(&mut w, APARTMENT, at(2, 5), &entries)).0, Outcome::Duplicate, "answered");
    w.assert_replay_is_life();
}

#[test]
fn a_stream_that_is_forgotten_or_a_reload_leaves_no_parts_behind() {
    let entries = apartment(&[op::enrol("A", "p1", RESIDENT)]);
    // Refused as implausible; when the stream is forgotten it is not, and the center sends it as it was.
    let mut w = World::new();
    w.publish_at(APARTMENT, at(1, 1), vec![op::enrol("A", "p1", RESIDENT)]);
    assert_eq!(outcome(&send(&mut w, APARTMENT, at(1, 3_000_000), &entries)).1, [ErrorCode::Implausible]);
    w.input(Input::Operator(Operator::StreamForget { stream: name(APARTMENT) }, None));
    assert_eq!(outcome(&send(&mut w, APARTMENT, at(1, 3_000_000), &entries)).0, Outcome::Applied);
    // The key that signed the first part may be gone with the reload.
    let mut entries = apartment(&[op::enrol("B", "p2", RESIDENT), op::enrol("R", "p3", RESIDENT)]);
    let second = entries.split_off(1);
    let part = |w: &World, entries: &[SnapshotEntry], part: u32| {
        let snapshot = Snapshot { stream: APARTMENT, at: at(1, 3_000_001), id: "s", entries, allow_shrink: true };
        let Some(Input::SnapshotPart(mut received)) = w.snapshot_parts(&snapshot).pop() else { unreachable!() };
        (received.part.part, received.part.head.parts, received.part.head.cards) = (part, 2, 2);
        Input::SnapshotPart(received)
    };
    let first = part(&w, &entries, 0);
    assert_eq!(w.input(first).0.len(), 0);
    let rules =
        Rules { portals: w.setup.portals.clone(), policy: w.setup.policy.clone(), calendar: w.setup.calendar.clone() };
    w.input(Input::Reload { rules: Box::new(rules), detail: "changed: center.stream.public_keys".to_owned() });
    let last = part(&w, &second, 1);
    w.input(last);
    w.finish_snapshots();
    assert_eq!((w.present("gate-in", "A"), w.present("gate-in", "B")), ("granted", "unknown_credential"));
    w.assert_replay_is_life();
}

#[test]
fn a_snapshot_begins_an_epoch_and_is_the_goal_of_an_incomplete_list() {
    let mut w = World::new();
    w.enrol("A", "p1", RESIDENT);
    w.head(OFFICE, at(3, 40));
    assert_eq!(w.present("gate-in", "A"), "unknown_credential");
    let entries = entries_of(OFFICE, &[vec![op::issue("B", "p2")]]);
    send(&mut w, OFFICE, at(3, 39), &entries);
    assert_eq!(w.present("gate-in", "A"), "unknown_credential");
    send(&mut w, OFFICE, at(4, 2), &entries);
    let track = &w.engine.state().streams[OFFICE];
    assert_eq!((track.epoch.unwrap().get(), track.through, track.goal), (4, 2, None));
    assert_eq!(w.present("gate-in", "A"), "granted");
    w.assert_replay_is_life();
}

#[test]
fn a_gateway_that_begins_with_a_snapshot_judges_as_one_that_received_every_change() {
    let mut w = World::new();
    let office = [
        vec![op::issue("A", "p1"), op::issue("B", "p2")],
        vec![op::report_lost("p1"), op::freeze("uid:B")],
        vec![op::unfreeze("uid:B"), op::reissue("p3", "X", None)],
    ];
    let apartment =
        [vec![op::enrol("A", "p1", RESIDENT), op::enrol("B", "p2", RESIDENT)], vec![op::enrol("R", "p3", RESIDENT)]];
    let entries = entries_of(OFFICE, &office);
    send(&mut w, OFFICE, at(1, 3), &entries);
    let entries = entries_of(APARTMENT, &apartment);
    send(&mut w, APARTMENT, at(1, 2), &entries);
    assert_eq!(["A", "B", "R"].map(|card| w.present("gate-in", card)), ["lost", "granted", "replaced"]);
    // A holder's op reaches the cards born before it, as the snapshot has when that was.
    w.publish_at(OFFICE, at(1, 4), vec![op::issue("C9", "p1")]);
    w.publish_at(APARTMENT, at(1, 3), vec![op::enrol("C9", "p1", RESIDENT)]);
    assert_eq!(w.present("gate-in", "C9"), "granted");
}

/// Flags and enrolments of other streams are not touched by a snapshot, whatever their revisions.
#[test]
fn a_snapshot_touches_the_registers_of_its_own_stream_alone() {
    let mut w = World::new();
    w.resident("A", "p1").resident("B", "p2");
    w.publish(vec![op::reissue("p1", "C9", None), op::unfreeze("uid:B")]);
    w.publish(vec![op::withdraw("p9"), op::power("412", true)]);
    let before = w.engine.state().list.record_at(0).unwrap();
    let none = Snapshot { stream: OFFICE, at: at(1, 900), id: "s", entries: &[], allow_shrink: false };
    w.snapshot(&none);
    let list = &w.engine.state().list;
    let after = (0..list.len()).filter_map(|place| list.record_at(place)).find(|card| card.uid == before.uid).unwrap();
    assert_eq!((after.enrolment, after.birth), (before.enrolment, None));
    assert!(list.card(&uid("C9")).is_none(), "nothing is left of it");
    assert_eq!(list.holder_entries().filter(|h| h.flags.get(Flag::Replaced).is_some_and(|r| r.on)).count(), 1);
    assert!(list.holder_entries().any(|h| h.withdrawn.is_some()));
    assert!(list.site.power[&name::<dormgate::access::id::Zone>("412")].values().any(|r| r.on));
    assert_eq!(enrolment("p1", RESIDENT).entitlements.len(), 3);
    w.assert_replay_is_life();
    assert!(matches!(w.see("gate-in", "A").0.first(), Some(Effect::Order(_))));
    assert_eq!(w.present("gate-in", "A"), "replaced");
}

#[test]
fn of_the_snapshots_that_wait_the_newest_is_applied_whichever_came_last() {
    let mut w = World::new();
    let older = apartment(&[op::enrol("B", "p2", RESIDENT)]);
    let newer = apartment(&[op::enrol("A", "p1", RESIDENT)]);
    let under_way = entries_of(OFFICE, &[vec![op::issue("A", "p1"), op::issue("B", "p2")]]);
    let mut seen = Vec::new();
    for (stream, seq, entries) in [(OFFICE, 1, &under_way), (APARTMENT, 9, &newer), (APARTMENT, 8, &older)] {
        let id = format!("s{seq}");
        let snapshot = Snapshot { stream, at: at(1, seq), id: &id, entries, allow_shrink: false };
        let parts = w.snapshot_parts(&snapshot);
        seen.extend(parts.into_iter().flat_map(|part| w.input(part).0));
    }
    assert_eq!(outcome(&Seen(seen)), (Outcome::Stale, vec![]));
    w.finish_snapshots();
    assert_eq!((w.present("gate-in", "A"), w.present("gate-in", "B")), ("granted", "not_enrolled"));
}
