//! What a gateway keeps of a head: how far the list has to reach before it is trusted. The power is cut at each step.

use std::collections::BTreeSet;

use dormgate::access::change::{Head, Position};
use dormgate::access::input::Input;
use dormgate::store::{Fault, MemoryDisk, Stepped};

use crate::running::{Running, at_ms};
use crate::world::{OFFICE, at, name, op};

fn head(w: &mut Running, ms: u64, at: Position) {
    let head = Head { stream: name(OFFICE), at, iat: Some(at_ms(ms).wall), cards: 0, digest: String::new() };
    w.input(ms, Input::Head(head));
}

/// How far the list has to reach.
fn goal(w: &Running) -> Option<Position> {
    w.core.engine().state().streams.get(OFFICE).and_then(|track| track.goal)
}

/// The office's three messages: A is enrolled, then reported lost, then something else.
fn message(w: &mut Running, ms: u64, seq: u64) {
    let ops = match seq {
        1 => vec![op::enrol("A", "p1", "gate:*")],
        2 => vec![op::report_lost("uid:A")],
        _ => vec![op::issue("R", "p2")],
    };
    w.message(ms, seq, ops);
}

#[test]
fn a_cut_of_the_power_at_any_step_of_a_head_trusts_no_list_that_does_not_reach_it() {
    let steps = [
        "taken",
        "on disk",
        "known durable",
        "a message in force",
        "a message on disk",
        "two on disk",
        "reached",
        "reached on disk",
    ];
    for (last, step) in steps.iter().enumerate() {
        let disk = MemoryDisk::new();
        let mut w = Running::start(&disk, 1);
        head(&mut w, 1_000, at(1, 3));
        assert_eq!(goal(&w), Some(at(1, 3)), "{step}");
        if last >= 1 {
            assert_eq!(w.disk.flush(), Stepped::Idle);
        }
        if last >= 2 {
            w.know(1_010);
        }
        if last >= 3 {
            message(&mut w, 2_000, 1);
            assert_eq!(w.may_enter(2_001), "unknown_credential", "{step}: the list does not reach the head");
        }
        if last >= 4 {
            w.write(2_010);
        }
        if last >= 5 {
            message(&mut w, 3_000, 2);
            w.write(3_010);
        }
        if last >= 6 {
            message(&mut w, 4_000, 3);
            assert_eq!(goal(&w), None, "{step}");
        }
        if last >= 7 {
            w.write(4_010);
        }
        disk.crash(0);
        let mut w = Running::start(&disk, 20_000);
        let kept = (1..7).contains(&last).then_some(at(1, 3));
        assert_eq!(goal(&w), kept, "{step}");
        if last == 0 {
            // Nothing was built on it, and the broker has it still: it comes with the next connection.
            head(&mut w, 20_100, at(1, 3));
            assert_eq!(goal(&w), Some(at(1, 3)), "{step}");
        }
        // A later head, which comes with the connection, is no goal; the first stays one.
        head(&mut w, 20_200, at(1, 4));
        assert_eq!(goal(&w), kept.or((last == 0).then_some(at(1, 3))), "{step}");
        // The office sends again what was not acknowledged.
        for seq in 1..=3 {
            assert_ne!(w.may_enter(21_000), "granted", "{step}: before message {seq}");
            message(&mut w, 21_000 + 10 * seq, seq);
        }
        w.write(21_100);
        assert_eq!((goal(&w), w.may_enter(22_000)), (None, "lost"), "{step}");
        disk.crash(0);
        let w = Running::start(&disk, 40_000);
        assert_eq!((goal(&w), w.may_enter(41_000)), (None, "lost"), "{step}");
    }
}

#[test]
fn a_head_that_is_torn_by_the_power_cut_is_as_if_it_had_never_come() {
    // The event of the head is some 200 bytes; each beginning of it may be on disk.
    let mut seen = BTreeSet::new();
    for torn in (0..1_500).step_by(7) {
        let disk = MemoryDisk::new();
        let mut w = Running::start(&disk, 1);
        head(&mut w, 1_000, at(1, 3));
        // The power goes while it is written: the first `torn` bytes are there.
        disk.set_fault(Fault::Full { room: torn });
        w.disk.step();
        disk.crash(usize::MAX);
        let mut w = Running::start(&disk, 20_000);
        assert!([None, Some(at(1, 3))].contains(&goal(&w)), "{torn}: {:?}", goal(&w));
        seen.insert(goal(&w).is_some());
        head(&mut w, 20_100, at(1, 3));
        assert_eq!(goal(&w), Some(at(1, 3)), "{torn}");
        message(&mut w, 21_000, 1);
        assert_eq!(w.may_enter(21_001), "unknown_credential", "{torn}");
    }
    assert_eq!(seen.len(), 2, "it was cut in it and behind it");
}
