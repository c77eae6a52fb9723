//! Walk-throughs 1 to 7: one card from its issue to its reissue.

use dormgate::access::decision::{Decision, Reason};
use dormgate::access::effect::Outcome;
use dormgate::access::event::{AlarmKind, Event, EventKind};
use dormgate::access::input::{Input, Presented, Request};
use dormgate::access::policy::{KindSet, Policy};
use dormgate::access::portal::{Direction, PortalKind};

use crate::world::{APARTMENT, OFFICE, World, at, name, op, uid};

const RESIDENT: &str = "gate:* door:412 power_box:412";
const PLACES: [&str; 3] = ["gate-in", "door-412", "power-412"];

/// P1 with card A in use.
fn in_use() -> World {
    let mut w = World::new();
    w.resident("A", "p1");
    w
}

/// P1's card A was damaged and is reissued as B, which is not enrolled yet.
fn reissued() -> World {
    reissued_with(Policy::default())
}

fn reissued_with(policy: Policy) -> World {
    let mut w = World::with(policy);
    w.resident("A", "p1");
    w.publish(vec![op::reissue("p1", "B", Some("A"))]);
    w
}

/// And B is enrolled for the door and the box.
fn completed() -> World {
    let mut w = reissued();
    w.enrol("B", "p1", "door:412 power_box:412");
    w
}

/// P1 with card B in use and frozen.
fn frozen(frozen_may: KindSet) -> World {
    let mut w = World::with(Policy { frozen_may, ..Policy::default() });
    w.resident("B", "p1");
    w.publish(vec![op::freeze("uid:B")]);
    w
}

#[test]
fn first_card_a_at_gate_in_door_412_then_inserted_in_power_412() {
    let mut w = in_use();
    for portal in PLACES {
        let seen = w.see(portal, "A");
        assert_eq!(seen.verdict(), "granted", "{portal}");
        let Decision::Grant(grant) = seen.decision() else { unreachable!() };
        assert_eq!(grant.hold_ms(), (portal != "power-412").then_some(3_000), "a box stays on, the others are held");
    }
    let taken = w.passed("gate-in", Direction::In);
    let events: Vec<_> = taken.records().map(|r| &r.event.body).filter(|e| matches!(e, Event::Taken { .. })).collect();
    assert_eq!(events.iter().map(|e| e.uid()).collect::<Vec<_>>(), [Some(uid("A"))]);
    assert!(w.relay("power-412", true).recorded().contains(&EventKind::PowerOn));
    assert!(w.is_on("power-412"));
    w.assert_replay_is_life();
}

#[test]
fn first_card_the_reader_sends_p1_s_student_number_or_the_printed_card_no_as_a_decimal_uid() {
    let mut w = World::new();
    w.resident("A", "08193021").resident("R", "20193021");
    // Read as hex bytes, a student number is a UID that nobody has; one that begins with 08 is a phone's.
    assert_eq!(w.present("gate-in", "20193021"), "unknown_credential");
    assert_eq!(w.present("gate-in", "08193021"), "random_identifier");
    // 0514229873 is card A in decimal.
    assert_eq!(u32::from_str_radix("1EA68671", 16), Ok(514_229_873));
    assert_eq!(w.present("gate-in", "0514229873FFFF"), "unknown_credential");
    assert_eq!(w.present("gate-in", "51422987"), "unknown_credential");
    assert_eq!(w.present("gate-in", "7186A61E"), "unknown_credential", "the reversed bytes are another card");
}

#[test]
fn issued_never_enrolled_newcomer_a_at_door_412() {
    let mut w = World::new();
    w.issue("A", "p1");
    assert_eq!(w.present("door-412", "A"), "not_enrolled");
    let verdict = w.engine.query(uid("A"), Some(&name("door-412")), w.now()).unwrap().remove(0);
    let remedy = verdict.remedy.unwrap();
    assert_eq!(remedy, Reason::NotEnrolled.remedy());
    assert!(remedy.zh.contains("公寓") && remedy.en.contains("apartment center"), "{remedy:?}");
}

#[test]
fn issued_never_enrolled_newcomer_ac_s_enrolment_arrives_before_cc_s_issue() {
    let mut w = World::with(Policy { require_issue: true, ..Policy::default() });
    w.enrol("A", "p1", RESIDENT);
    assert_eq!(w.present("gate-in", "A"), "unknown_credential", "never early");
    w.issue("A", "p1");
    assert_eq!(w.present("gate-in", "A"), "granted", "applied with the issue");
    // A site with an office that issues nothing has no issue to wait for.
    let mut w = World::new();
    w.enrol("A", "p1", RESIDENT);
    assert_eq!(w.present("gate-in", "A"), "granted");
}

#[test]
fn lost_while_inserted_cc_lost_a_seq_n() {
    let mut w = in_use();
    w.present("power-412", "A");
    let seen = w.publish(vec![op::report_lost("uid:A")]);
    assert_eq!(seen.cuts(), [("power-412", "lost")], "in the same step");
    let (after, ack) = seen.ack_after();
    assert_eq!((ack.revoked.as_slice(), ack.cut.len()), (&[uid("A")][..], 1));
    assert!(seen.records().all(|r| r.event.n <= after), "the ack waits until it is on disk");
    // In a box of several slots the power stays on while the roommate's card lies in another.
    let mut w = in_use();
    w.resident("R", "p2");
    for (slot, card) in [(0, "A"), (1, "R")] {
        let request = Request { slot, ..w.request("power-412", Presented::Card(uid(card))) };
        w.input(Input::Request(request));
    }
    assert_eq!(w.publish(vec![op::report_lost("uid:A")]).cuts(), []);
    assert!(w.is_on("power-412"));
}

#[test]
fn lost_while_inserted_a_at_gate_in() {
    let mut w = in_use();
    w.present("power-412", "A");
    w.publish(vec![op::report_lost("uid:A")]);
    let seen = w.see("gate-in", "A");
    assert_eq!((seen.reason(), seen.alarms()), ("lost", vec![AlarmKind::DeadCard]));
}

#[test]
fn lost_while_inserted_gateway_and_broker_restart_and_a_retained_older_a_active_arrives() {
    let mut w = in_use();
    w.publish(vec![op::report_lost("uid:A")]);
    w.restart();
    w.link_up();
    for (seq, older) in [(1, op::issue("A", "p1")), (1, op::found("uid:A"))] {
        let seen = w.publish_at(OFFICE, at(1, seq), vec![older]);
        assert_eq!(seen.ack().outcome, Outcome::Duplicate);
        assert_eq!(w.present("gate-in", "A"), "lost");
    }
}

#[test]
fn found_again_cc_cancel_loss_a_seq_n_1() {
    let mut w = in_use();
    w.publish(vec![op::report_lost("p1")]);
    assert_eq!(w.present("door-412", "A"), "lost");
    w.publish(vec![op::found("p1")]);
    assert_eq!(PLACES.map(|portal| w.present(portal, "A")), ["granted"; 3]);
}

#[test]
fn found_again_issue_2_already_exists_same_message() {
    let mut w = in_use();
    w.publish(vec![op::report_lost("uid:A")]);
    w.publish(vec![op::reissue("p1", "B", None)]);
    w.publish(vec![op::found("uid:A")]);
    assert_eq!(w.present("door-412", "A"), "replaced");
}

#[test]
fn reissue_enrolment_missing_b_at_door_412_and_power_412() {
    let mut w = reissued();
    assert_eq!(["door-412", "power-412"].map(|portal| w.present(portal, "B")), ["not_enrolled"; 2]);
    assert!(!w.is_on("power-412"));
}

#[test]
fn reissue_enrolment_missing_a_anywhere() {
    let mut w = reissued();
    assert_eq!(w.see("gate-out", "A").verdict(), "exit replaced");
    for portal in PLACES {
        let seen = w.see(portal, "A");
        assert_eq!((seen.reason(), seen.alarms()), ("replaced", vec![AlarmKind::DeadCard]), "{portal}");
    }
}

#[test]
fn reissue_enrolment_missing_b_at_gate_in_by_enrolment_binding_gate() {
    assert_eq!(reissued().present("gate-in", "B"), "not_enrolled");
    let mut w = reissued_with(Policy { reissue_keeps: KindSet::from_iter([PortalKind::Gate]), ..Policy::default() });
    assert_eq!(PLACES.map(|portal| w.present(portal, "B")), ["granted", "not_enrolled", "not_enrolled"]);
    assert_eq!(w.present("gate-in", "A"), "replaced");
    // The door comes by enrolment, and the gate does not go by it.
    w.enrol("B", "p1", "door:412");
    assert_eq!(PLACES.map(|portal| w.present(portal, "B")), ["granted", "granted", "not_enrolled"]);
    w.publish(vec![op::withdraw("p1")]);
    assert_eq!(w.present("gate-in", "B"), "not_enrolled");
}

#[test]
fn enrolment_completed_then_replay_ac_enrol_p1_b_door_412_power_412_seq_m() {
    let mut w = reissued();
    let seen = w.publish(vec![op::enrol("B", "p1", "door:412 power_box:412")]);
    assert_eq!(seen.ack().outcome, Outcome::Applied);
    assert_eq!(["door-412", "power-412"].map(|portal| w.present(portal, "B")), ["granted"; 2], "at once");
    assert!(w.is_on("power-412"));
}

#[test]
fn enrolment_completed_then_replay_attacker_replays_ac_s_old_enrol_a() {
    let mut w = completed();
    let seen = w.publish_at(APARTMENT, at(1, 1), vec![op::enrol("A", "p1", RESIDENT)]);
    assert_eq!(seen.ack().outcome, Outcome::Duplicate);
    assert_eq!((w.present("door-412", "A"), w.present("door-412", "B")), ("replaced", "granted"));
}

#[test]
fn enrolment_completed_then_replay_ac_enrols_a_with_a_fresh_seq_in_error() {
    let mut w = completed();
    w.enrol("A", "p1", RESIDENT);
    assert_eq!(PLACES.map(|portal| w.present(portal, "A")), ["replaced"; 3], "enrolment does not touch standing");
    assert_eq!(w.present("door-412", "B"), "granted");
}

#[test]
fn freeze_unfreeze_cc_freeze_b() {
    let mut w = frozen(KindSet::default());
    assert_eq!(w.see("gate-out", "B").verdict(), "exit frozen");
    assert_eq!(PLACES.map(|portal| w.present(portal, "B")), ["frozen"; 3]);
}

#[test]
fn freeze_unfreeze_cc_freeze_b_with_freeze_scope_payment_only() {
    let mut w = frozen(PortalKind::ALL.iter().copied().collect());
    assert_eq!(PLACES.map(|portal| w.present(portal, "B")), ["granted"; 3]);
    let mut w = frozen(KindSet::from_iter([PortalKind::Gate]));
    assert_eq!(PLACES.map(|portal| w.present(portal, "B")), ["granted", "frozen", "frozen"]);
}

#[test]
fn freeze_unfreeze_cc_unfreeze_b() {
    let mut w = frozen(KindSet::default());
    w.publish(vec![op::unfreeze("uid:B")]);
    assert_eq!(PLACES.map(|portal| w.present(portal, "B")), ["granted"; 3], "no action of the apartment center");
    assert_eq!(w.present("door-413", "B"), "no_entitlement", "and no more than before");
}

#[test]
fn freeze_unfreeze_lost_b_then_a_late_unfreeze_b() {
    let mut w = frozen(KindSet::default());
    w.publish(vec![op::report_lost("uid:B")]);
    w.publish(vec![op::unfreeze("uid:B")]);
    assert_eq!(PLACES.map(|portal| w.present(portal, "B")), ["lost"; 3]);
}
