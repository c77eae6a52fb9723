//! Snapshots that do not have what killed a card: a center that begins again with less than it had, or one that comes late.

use dormgate::access::credential::{Flag, Flags};
use dormgate::access::snapshot::SnapshotEntry;

use crate::snapshots::{entries_of, send};
use crate::world::{APARTMENT, OFFICE, Snapshot, World, at, name, op};

const RESIDENT: &str = "gate:* door:412 power_box:412";

/// What the office set for a holder stays with the cards that it reached, whatever a list that does not have it makes of their birth.
#[test]
fn what_was_set_for_a_holder_is_not_dropped_by_absence_also_where_the_card_is_born_later() {
    let lost = [vec![op::issue("A", "p1")], vec![op::report_lost("p1")]];
    let replaced = [vec![op::issue("A", "p1")], vec![op::reissue("p1", "B", None)]];
    for (history, reason) in [(lost, "lost"), (replaced, "replaced")] {
        // A center that began again and has the card, or has nothing and issues the card later.
        let again = entries_of(OFFICE, &[vec![], vec![], vec![], vec![op::issue("A", "p1")]]);
        for (entries, later) in [(again, None), (Vec::new(), Some(op::issue("A", "p1")))] {
            let mut w = World::new();
            w.publish_at(APARTMENT, at(1, 1), vec![op::enrol("A", "p1", RESIDENT)]);
            for (ops, seq) in history.iter().zip(1..) {
                w.publish_at(OFFICE, at(1, seq), ops.clone());
            }
            assert_eq!(w.present("gate-in", "A"), reason);
            send(&mut w, OFFICE, at(1, 5), &entries);
            if let Some(issue) = later {
                w.publish_at(OFFICE, at(1, 6), vec![issue]);
            }
            assert_eq!(w.present("gate-in", "A"), reason, "{entries:?}");
            w.assert_replay_is_life();
            w.restart();
            assert_eq!(w.present("gate-in", "A"), reason);
            w.publish_at(OFFICE, at(1, 7), vec![op::found("p1"), op::reinstate("A")]);
            assert_eq!(w.present("gate-in", "A"), "granted");
        }
        // Whoever names the flag and the card has both: the card was issued after the loss.
        let mut w = World::new();
        w.publish_at(APARTMENT, at(1, 1), vec![op::enrol("A", "p1", RESIDENT)]);
        for (ops, seq) in history.iter().zip(1..) {
            w.publish_at(OFFICE, at(1, seq), ops.clone());
        }
        let (_, by_holder) = history.split_first().unwrap();
        let both = [vec![], by_holder[0].clone(), vec![], vec![op::issue("A", "p1")]];
        send(&mut w, OFFICE, at(1, 5), &entries_of(OFFICE, &both));
        assert_eq!(w.present("gate-in", "A"), "granted");
    }
}

#[test]
fn a_late_snapshot_without_a_card_that_was_issued_again_revives_it_not() {
    let messages = [op::issue("A", "p1"), op::report_lost("p1"), op::issue("A", "p1")];
    let mut reasons = Vec::new();
    // Nothing is in the list of number 2; the messages are 1, 3, 4 and 5, of which the first two issue the card.
    for place in 0..=4 {
        let mut w = World::new();
        w.publish_at(APARTMENT, at(1, 1), vec![op::enrol("A", "p1", RESIDENT)]);
        let mut sent =
            [(1, 0), (3, 0), (4, 1), (5, 2)].map(|(seq, which)| (seq, vec![messages[which].clone()])).to_vec();
        sent.insert(place, (0, Vec::new()));
        for (seq, ops) in sent {
            if seq == 0 {
                send(&mut w, OFFICE, at(1, 2), &[]);
            } else {
                w.publish_at(OFFICE, at(1, seq), ops);
            }
        }
        reasons.push(w.present("gate-in", "A"));
        w.assert_replay_is_life();
    }
    assert_eq!(reasons, ["lost"; 5]);
}

/// A message that comes while a list is merged is written to the new list too, and is not what that list names.
#[test]
fn a_message_that_overtakes_a_list_does_not_pass_for_what_the_list_names() {
    let mut w = World::new();
    // More than a slice of the merge, before the card.
    w.publish_at(OFFICE, at(1, 1), (0..200).map(|n| op::issue(&format!("5C{n:06X}"), "p9")).collect());
    w.publish_at(APARTMENT, at(1, 1), vec![op::enrol("A", "p1", RESIDENT)]);
    w.publish_at(OFFICE, at(1, 2), vec![op::issue("A", "p1")]);
    w.publish_at(OFFICE, at(1, 3), vec![op::report_lost("p1")]);
    let empty = Snapshot { stream: OFFICE, at: at(2, 1), id: "s", entries: &[], allow_shrink: false };
    for part in w.snapshot_parts(&empty) {
        w.input(part);
    }
    assert_eq!(w.engine.work_at_snapshot(w.now()), []);
    assert!(w.engine.has_snapshot_work());
    w.publish_at(OFFICE, at(2, 2), vec![op::report_lost("p1")]);
    w.finish_snapshots();
    w.publish_at(OFFICE, at(2, 3), vec![op::issue("A", "p1")]);
    assert_eq!(w.present("gate-in", "A"), "lost");
    w.assert_replay_is_life();
}

#[test]
fn a_card_issued_after_a_loss_is_good_whether_its_issue_or_the_list_that_has_the_loss_comes_first() {
    for list_first in [true, false] {
        let mut w = World::new();
        w.publish_at(APARTMENT, at(1, 1), vec![op::enrol("A", "p1", RESIDENT)]);
        w.publish_at(OFFICE, at(1, 40), vec![op::issue("A", "p1")]);
        let mut flags = Flags::default();
        flags.write(Flag::Lost, at(2, 2).revision(0), true);
        let loss = [SnapshotEntry::Holder { holder: name("p1"), flags }];
        if list_first {
            send(&mut w, OFFICE, at(2, 2), &loss);
        }
        w.publish_at(OFFICE, at(2, 3), vec![op::reissue("p1", "A", None)]);
        if !list_first {
            send(&mut w, OFFICE, at(2, 2), &loss);
        }
        assert_eq!(w.present("gate-in", "A"), "granted", "list first: {list_first}");
        w.assert_replay_is_life();
    }
}
