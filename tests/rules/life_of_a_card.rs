//! What happens to one card, as guarantees; the walk-throughs of practice are in `walk_throughs`.

use dormgate::access::credential::{Flag, Role};
use dormgate::access::event::{AlarmKind, EventKind};
use dormgate::access::id::Timestamp;
use dormgate::access::input::{Input, Presented, Request};
use dormgate::access::policy::{KindSet, Policy};
use dormgate::access::portal::{PortalKind, Posture};

use crate::world::{BEGIN_MS, OFFICE, World, at, enrolment, op, uid};

const RESIDENT: &str = "gate:* door:412 power_box:412";

fn keeps_gate() -> Policy {
    Policy { reissue_keeps: KindSet::from_iter([PortalKind::Gate]), ..Policy::default() }
}

#[test]
fn withdrawing_the_new_card_takes_the_gate_that_followed_it_too() {
    let mut w = World::with(keeps_gate());
    w.resident("A", "p1");
    w.publish(vec![op::reissue("p1", "B", Some("A"))]);
    assert_eq!(w.present("gate-in", "B"), "granted");
    let seen = w.publish(vec![op::withdraw("uid:B")]);
    assert_eq!(seen.ack().revoked, [uid("B")]);
    assert_eq!(w.present("gate-in", "B"), "not_enrolled");
}

#[test]
fn the_gate_does_not_follow_to_a_card_that_was_withdrawn_with_its_holder_later() {
    for (withdrawal, reason) in [(None, "granted"), (Some("p1"), "not_enrolled"), (Some("uid:B"), "not_enrolled")] {
        let mut w = World::with(keeps_gate());
        // The offices do not have the same name for the holder of A.
        w.enrol("B", "p1", "power_box:413").enrol("A", "p2", "gate:*");
        if let Some(whose) = withdrawal {
            w.publish(vec![op::withdraw(whose)]);
        }
        w.issue("A", "p1");
        w.publish(vec![op::reissue("p1", "B", Some("A"))]);
        assert_eq!(w.present("gate-in", "B"), reason, "{withdrawal:?}");
    }
}

#[test]
fn a_new_enrolment_for_the_gate_replaces_the_one_that_followed_the_holder() {
    let mut w = World::with(keeps_gate());
    w.issue("A", "p1").enrol("A", "p1", "gate:lobby");
    w.publish(vec![op::reissue("p1", "B", Some("A"))]);
    assert_eq!(w.present("gate-in", "B"), "granted");
    w.enrol("B", "p1", "gate:annex");
    assert_eq!(w.present("gate-in", "B"), "no_entitlement");
}

#[test]
fn a_card_of_another_building_is_unknown_or_has_no_entitlement_here() {
    let mut w = World::new();
    w.enrol("B", "p2", "gate:other door:999");
    assert_eq!((w.present("gate-in", "X"), w.present("gate-in", "B")), ("unknown_credential", "no_entitlement"));
    assert_eq!(w.present("power-412", "B"), "not_enrolled", "nothing of this kind");
}

#[test]
fn a_room_move_is_one_message_that_cuts_the_old_box_at_once() {
    let mut w = World::new();
    w.resident("A", "p1");
    w.present("power-412", "A");
    let seen = w.publish(vec![op::enrol("A", "p1", "gate:* door:413 power_box:413")]);
    assert_eq!(seen.cuts(), [("power-412", "no_entitlement")]);
    assert_eq!(seen.ack().revoked, [], "it still opens something");
    assert_eq!((w.present("door-412", "A"), w.present("door-413", "A")), ("no_entitlement", "granted"));
}

#[test]
fn a_reissue_under_an_inserted_card_cuts_first_then_proves_then_answers() {
    let mut w = World::new();
    w.resident("A", "p1");
    w.present("power-412", "A");
    let seen = w.publish(vec![op::reissue("p1", "B", Some("A"))]);
    use dormgate::access::effect::{Effect, PortalOrder};
    assert!(
        matches!(&seen.0[0], Effect::Order(PortalOrder::Cut { portal, reason: "replaced" }) if portal.as_str() == "power-412")
    );
    assert!(
        matches!(&seen.0[1], Effect::Record(r) if r.event.kind() == EventKind::ChangesApplied && !r.evidence.is_empty())
    );
    let ack_place = seen.0.iter().position(|e| matches!(e, Effect::Acknowledge { .. })).unwrap();
    let last_record = seen.0.iter().rposition(|e| matches!(e, Effect::Record(_))).unwrap();
    assert!(last_record < ack_place);
    assert_eq!(seen.recorded(), [EventKind::ChangesApplied, EventKind::Revoked, EventKind::PowerOff]);
    let (after, ack) = seen.ack_after();
    assert!(seen.records().all(|r| r.event.n <= after));
    assert_eq!((ack.revoked.as_slice(), ack.cut.len()), (&[uid("A")][..], 1));
    assert_eq!(ack.applied_through, 2);
}

#[test]
fn a_withdrawal_by_holder_reaches_a_card_that_the_card_office_knows_under_another_holder() {
    let mut w = World::new();
    w.issue("A", "p2").enrol("A", "p1", RESIDENT);
    assert_eq!(w.present("power-412", "A"), "granted");
    let seen = w.publish(vec![op::withdraw("p1")]);
    assert_eq!(seen.cuts(), [("power-412", "not_enrolled")]);
    assert_eq!(seen.ack().revoked, [uid("A")]);
}

#[test]
fn a_by_holder_op_reaches_the_cards_born_before_it_whatever_arrives_first() {
    let mut w = World::new();
    w.publish_at(OFFICE, at(1, 5), vec![op::report_lost("p1")]);
    w.publish_at(OFFICE, at(1, 7), vec![op::issue("B", "p1")]);
    w.publish_at(OFFICE, at(1, 2), vec![op::issue("A", "p1")]);
    w.enrol("A", "p1", RESIDENT).enrol("B", "p1", RESIDENT).enrol("R", "p1", RESIDENT);
    assert_eq!((w.present("gate-in", "A"), w.present("gate-in", "B")), ("lost", "granted"));
    assert_eq!(w.present("gate-in", "R"), "lost", "known only by its enrolment: born before everything");
}

#[test]
fn a_reissue_replaces_every_card_of_the_holder_that_was_not_issued_later() {
    let mut w = World::new();
    w.publish_at(OFFICE, at(1, 9), vec![op::issue("C9", "p1")]);
    w.publish_at(OFFICE, at(1, 5), vec![op::reissue("p1", "B", None)]);
    w.publish_at(OFFICE, at(1, 2), vec![op::issue("A", "p1")]);
    for card in ["A", "B", "C9", "R"] {
        w.enrol(card, "p1", RESIDENT);
    }
    let reasons = ["A", "B", "C9", "R"].map(|card| w.present("gate-in", card));
    assert_eq!(reasons, ["replaced", "granted", "granted", "replaced"]);
    // Only a newer reinstate, or a newer reissue that names it as new, ends it.
    w.publish_at(OFFICE, at(1, 4), vec![op::reinstate("A")]);
    assert_eq!(w.present("gate-in", "A"), "replaced");
    w.publish_at(OFFICE, at(1, 10), vec![op::reinstate("A")]);
    assert_eq!(w.present("gate-in", "A"), "granted");
    w.publish_at(OFFICE, at(1, 11), vec![op::reissue("p1", "R", None)]);
    let reasons = ["A", "B", "C9", "R"].map(|card| w.present("gate-in", card));
    assert_eq!(reasons, ["replaced", "replaced", "replaced", "granted"]);
}

#[test]
fn a_cancelled_card_stays_cancelled_through_a_reissue_that_names_it() {
    let mut w = World::new();
    w.resident("A", "p1");
    w.publish(vec![op::cancel("uid:A")]);
    w.publish(vec![op::reissue("p1", "A", None)]);
    assert_eq!(w.present("gate-in", "A"), "cancelled");
    w.publish(vec![op::reinstate("A")]);
    assert_eq!(w.present("gate-in", "A"), "granted");
}

#[test]
fn a_reissue_of_a_card_as_its_own_old_one_leaves_it_alive() {
    let mut w = World::new();
    w.resident("A", "p1");
    w.publish(vec![op::reissue("p1", "A", Some("A"))]);
    assert_eq!(w.present("gate-in", "A"), "granted");
}

#[test]
fn validity_ends_exactly_at_its_end_and_takes_the_box_with_it() {
    let mut w = World::new();
    let mut e = enrolment("p1", RESIDENT);
    (e.not_before, e.not_after) = (Some(Timestamp(BEGIN_MS + 1_000)), Some(Timestamp(BEGIN_MS + 200_000)));
    w.publish(vec![dormgate::access::change::Op::Enrol { uid: uid("A"), enrolment: e }]);
    w.pass_ms(999);
    assert_eq!(w.present("power-412", "A"), "not_yet_valid");
    w.pass_ms(1);
    assert_eq!(w.present("power-412", "A"), "granted");
    assert_eq!(w.pass_ms(198_999).cuts(), []);
    assert_eq!(w.present("gate-in", "A"), "granted");
    assert_eq!(w.pass_ms(1).cuts(), [("power-412", "expired")]);
    assert_eq!(w.present("gate-in", "A"), "expired");
}

#[test]
fn staff_pass_in_a_lockdown_and_nobody_else() {
    let mut w = World::new();
    let mut e = enrolment("s1", "gate:* door:*");
    e.role = Role::Staff;
    w.resident("A", "p1");
    w.publish(vec![dormgate::access::change::Op::Enrol { uid: uid("R"), enrolment: e }]);
    w.publish(vec![op::posture("*", Posture::Lockdown, None)]);
    assert_eq!((w.present("gate-in", "R"), w.present("gate-in", "A")), ("granted", "lockdown"));
    assert_eq!((w.present("gate-out", "A"), w.present("gate-out", "X")), ("exit", "exit"));
    w.publish(vec![op::flag("uid:R", Flag::Lost, true)]);
    assert_eq!(w.present("gate-in", "R"), "lost");
}

#[test]
fn a_dead_card_is_reported_to_the_warden_also_where_it_passes() {
    let mut w = World::new();
    w.resident("A", "p1");
    w.publish(vec![op::report_lost("uid:A")]);
    let seen = w.see("gate-out", "A");
    assert_eq!((seen.reason(), seen.alarms()), ("exit", vec![AlarmKind::DeadCard]));
    assert_eq!(w.see("gate-out", "A").alarms(), [], "once in a while, not each time");
    assert_eq!(w.see("gate-in", "A").alarms(), [AlarmKind::DeadCard], "another place");
    w.pass_s(601);
    assert_eq!(w.see("gate-out", "A").alarms(), [AlarmKind::DeadCard]);
}

/// When it was presented is not known, so it may have been before the card was replaced.
#[test]
fn a_dead_card_that_was_presented_too_long_ago_is_in_the_audit_and_raises_no_alarm() {
    let mut w = World::new();
    w.resident("A", "p1");
    w.publish(vec![op::report_lost("uid:A")]);
    let stale = Request { stale: true, ..w.request("gate-in", Presented::Card(uid("A"))) };
    let seen = w.input(Input::Request(stale));
    assert_eq!((seen.verdict().as_str(), seen.alarms()), ("stale_request lost", vec![]));
    assert!(seen.recorded().contains(&EventKind::Decision));
    assert_eq!(w.see("gate-in", "A").alarms(), [AlarmKind::DeadCard], "it is there now");
}

#[test]
fn five_denials_in_a_minute_at_one_portal_raise_an_alarm() {
    let mut w = World::new();
    let mut alarms = Vec::new();
    for _ in 0..5 {
        alarms.push(w.see("gate-in", "X").alarms().len());
        w.present("door-412", "X");
        w.pass_s(14);
    }
    assert_eq!(alarms, [0, 0, 0, 0, 1]);
    for _ in 0..8 {
        w.pass_s(20);
        assert_eq!(w.see("gate-in", "X").alarms(), []);
    }
}

#[test]
fn a_malformed_identifier_is_denied_and_audited_with_what_was_read() {
    let mut w = World::new();
    let request = w.request("door-412", Presented::Malformed("FFFFFFFF".to_owned()));
    let seen = w.input(dormgate::access::input::Input::Request(request));
    assert_eq!(seen.reason(), "malformed_identifier");
    assert!(seen.records().next().unwrap().event.body.detail().contains("FFFFFFFF"));
}
