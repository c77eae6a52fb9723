//! Boxes with several slots, hand-over between roommates, and a card exchanged for another: walked through in time.

use dormgate::access::event::{AlarmKind, EventKind};
use dormgate::access::input::{Input, PortalReport, Presented, Request};
use dormgate::access::policy::{Policy, RevokePower};
use dormgate::access::power_box::PowerSource;

use crate::world::{Seen, World, op, uid};

const BOX: &str = "power-412";

/// Roommates P1 with card A and P2 with card R in 412; X is nobody's.
fn room() -> World {
    room_with(Policy::default())
}

fn room_with(policy: Policy) -> World {
    let mut w = World::with(policy);
    w.resident("A", "p1").resident("R", "p2");
    w
}

fn put(w: &mut World, slot: u8, card: &str) -> Seen {
    let request = Request { slot, ..w.request(BOX, Presented::Card(uid(card))) };
    w.input(Input::Request(request))
}

fn take(w: &mut World, slot: u8) -> Seen {
    w.report(BOX, PortalReport { card_present: Some(false), slot, ..PortalReport::default() })
}

/// The reader shows another card, and never showed none: the first half of what it reports.
fn exchange(w: &mut World, slot: u8) -> Seen {
    w.report(BOX, PortalReport { card_present: Some(false), slot, exchanged: true, ..PortalReport::default() })
}

fn lies(w: &mut World, slot: u8, card: &str) -> Seen {
    let uid = Some(Presented::Card(uid(card)));
    w.report(BOX, PortalReport { card_present: Some(true), uid, slot, ..PortalReport::default() })
}

fn on_by(w: &World) -> Option<PowerSource> {
    w.engine.boxes()[BOX].source()
}

/// The cards and details of the `power_on` and `power_ordered` events.
fn took_over(seen: &Seen) -> Vec<(String, String)> {
    let on = seen.records().filter(|r| matches!(r.event.kind(), EventKind::PowerOn | EventKind::PowerOrdered));
    on.map(|r| (r.event.body.uid().unwrap().to_string(), r.event.body.detail().to_owned())).collect()
}

fn handed(from: &str, to: &str) -> Vec<(String, String)> {
    vec![(uid(to).to_string(), format!("handed over from {}", uid(from).masked()))]
}

#[test]
fn edge_multi_slot_first_roommate_leaves_power_stays_last_leaves_off_at_15_s() {
    let mut w = room();
    assert_eq!(put(&mut w, 0, "A").reason(), "granted");
    let second = put(&mut w, 1, "R");
    assert_eq!(
        (second.reason(), took_over(&second)),
        ("granted", vec![]),
        "its decision is in the audit, A keeps it on"
    );
    let left = take(&mut w, 0);
    assert_eq!((left.cuts(), took_over(&left)), (vec![], handed("A", "R")));
    assert_eq!(w.pass_s(60).cuts(), [], "no delay runs");
    take(&mut w, 1);
    assert_eq!(w.pass_ms(14_999).cuts(), []);
    assert_eq!(w.pass_ms(1).cuts(), [(BOX, "card_left")]);
    w.assert_replay_is_life();
}

#[test]
fn the_second_card_leaving_changes_nothing() {
    let mut w = room();
    put(&mut w, 0, "A");
    put(&mut w, 1, "R");
    assert_eq!(take(&mut w, 1).recorded(), []);
    assert_eq!(w.pass_s(60).cuts(), []);
    assert_eq!(on_by(&w), Some(PowerSource::Card(uid("A"))));
}

#[test]
fn a_revocation_cuts_only_if_no_other_card_in_the_box_may() {
    let mut w = room();
    put(&mut w, 0, "A");
    put(&mut w, 1, "R");
    let lost = w.publish(vec![op::report_lost("uid:A")]);
    assert_eq!((lost.cuts(), took_over(&lost), lost.ack().cut.len()), (vec![], handed("A", "R"), 0));
    assert_eq!(lost.ack().revoked, [uid("A")]);
    assert_eq!(w.publish(vec![op::report_lost("uid:R")]).cuts(), [(BOX, "lost")]);
    w.assert_replay_is_life();
}

#[test]
fn a_revocation_of_the_card_that_does_not_keep_it_on_counts_when_it_would_take_over() {
    let mut w = room();
    put(&mut w, 0, "A");
    put(&mut w, 1, "R");
    assert_eq!(w.publish(vec![op::report_lost("uid:R")]).cuts(), []);
    assert_eq!(w.publish(vec![op::report_lost("uid:A")]).cuts(), [(BOX, "lost")]);
}

#[test]
fn a_card_that_may_not_beside_one_that_may_cuts_nothing_and_keeps_nothing_on() {
    for denied_first in [false, true] {
        let mut w = room();
        if denied_first {
            assert_eq!(put(&mut w, 1, "X").reason(), "unknown_credential");
            put(&mut w, 0, "A");
        } else {
            put(&mut w, 0, "A");
            assert_eq!(put(&mut w, 1, "X").cuts(), []);
        }
        assert_eq!(w.pass_s(60).cuts(), []);
        take(&mut w, 0);
        assert_eq!(w.pass_s(14).cuts(), []);
        assert_eq!(w.pass_s(1).cuts(), [(BOX, "card_left")]);
        assert_eq!(w.publish(vec![op::enrol("X", "p9", "power_box:412")]).openings(), 0);
    }
}

#[test]
fn a_matter_of_the_room_cuts_all_cards() {
    let mut w = room();
    put(&mut w, 0, "A");
    put(&mut w, 1, "R");
    assert_eq!(w.publish(vec![op::power("412", true)]).cuts(), [(BOX, "power_suspended")]);
}

#[test]
fn a_roommate_s_card_within_the_delay_takes_over_and_the_audit_names_the_first() {
    let mut w = room();
    put(&mut w, 0, "A");
    take(&mut w, 0);
    w.pass_ms(14_999);
    let over = put(&mut w, 0, "R");
    assert_eq!((over.reason(), over.cuts(), took_over(&over)), ("granted", vec![], handed("A", "R")));
    assert_eq!(w.pass_s(60).cuts(), []);
    w.assert_replay_is_life();
}

#[test]
fn a_card_that_may_not_is_denied_within_the_delay_and_neither_prolongs_nor_shortens_it() {
    let mut w = room();
    put(&mut w, 0, "A");
    take(&mut w, 0);
    w.pass_s(7);
    let denied = put(&mut w, 0, "X");
    assert_eq!(denied.reason(), "unknown_credential");
    assert!(denied.recorded().contains(&EventKind::Decision));
    assert_eq!(denied.cuts(), []);
    // It comes and goes, even without a gap between it and the next.
    exchange(&mut w, 0);
    put(&mut w, 0, "B");
    take(&mut w, 0);
    assert_eq!(w.pass_ms(7_999).cuts(), []);
    assert_eq!(w.pass_ms(1).cuts(), [(BOX, "card_left")]);
}

#[test]
fn a_card_exchanged_without_a_gap_is_off_first_and_then_judged() {
    let mut w = room();
    put(&mut w, 0, "A");
    let off = exchange(&mut w, 0);
    assert_eq!((off.cuts(), off.recorded()), (vec![(BOX, "card_left")], vec![EventKind::PowerOff]));
    assert!(!w.is_on(BOX));
    let on = put(&mut w, 0, "R");
    assert_eq!((on.reason(), took_over(&on)), ("granted", vec![(uid("R").to_string(), String::new())]));
    assert_eq!(exchange(&mut w, 0).cuts(), [(BOX, "card_left")]);
    let stranger = put(&mut w, 0, "X");
    assert_eq!((stranger.reason(), stranger.alarms()), ("unknown_credential", vec![AlarmKind::PowerWithoutCard]));
    assert!(!w.is_on(BOX));
    // Of a box that is off, it is only a wrong card.
    exchange(&mut w, 0);
    assert_eq!(put(&mut w, 0, "B").alarms(), []);
    w.assert_replay_is_life();
}

#[test]
fn a_card_exchanged_without_a_gap_in_one_slot_is_no_matter_of_the_other() {
    let mut w = room();
    put(&mut w, 0, "A");
    put(&mut w, 1, "R");
    let kept = exchange(&mut w, 0);
    assert_eq!((kept.cuts(), took_over(&kept)), (vec![], handed("A", "R")));
    put(&mut w, 0, "X");
    assert_eq!(exchange(&mut w, 0).cuts(), []);
    assert_eq!(w.pass_s(60).cuts(), []);
}

#[test]
fn two_slots_that_show_the_same_number_are_two_cards() {
    let mut w = room();
    put(&mut w, 0, "A");
    put(&mut w, 1, "A");
    take(&mut w, 0);
    assert_eq!(w.pass_s(60).cuts(), []);
    take(&mut w, 1);
    assert_eq!(w.pass_s(15).cuts(), [(BOX, "card_left")]);
}

#[test]
fn after_a_restart_the_card_is_found_in_whatever_slot_it_lies() {
    let mut w = room();
    put(&mut w, 1, "A");
    put(&mut w, 0, "R");
    assert_eq!(w.restart().cuts(), []);
    assert_eq!(on_by(&w), Some(PowerSource::Card(uid("A"))), "it is remembered by one card");
    lies(&mut w, 0, "R");
    lies(&mut w, 1, "A");
    assert_eq!(w.pass_s(60).cuts(), []);
    take(&mut w, 0);
    assert_eq!(w.pass_s(60).cuts(), []);
    take(&mut w, 1);
    assert_eq!(w.pass_s(15).cuts(), [(BOX, "card_left")]);
}

#[test]
fn a_card_that_left_while_the_gateway_was_away_hands_over_to_the_one_that_lies_there() {
    let mut w = room();
    put(&mut w, 0, "A");
    put(&mut w, 1, "R");
    w.restart();
    lies(&mut w, 1, "R");
    take(&mut w, 0);
    assert_eq!(w.pass_s(60).cuts(), []);
    assert_eq!(on_by(&w), Some(PowerSource::Reported(uid("R"))));
    let mut w = room();
    put(&mut w, 0, "A");
    w.restart();
    take(&mut w, 0);
    take(&mut w, 1);
    assert_eq!(w.pass_s(15).cuts(), [(BOX, "card_left")]);
}

#[test]
fn a_card_that_loses_its_right_after_a_delay_is_handed_over_at_once() {
    let mut w = room_with(Policy { revoke_power: RevokePower::AfterDelay, ..Policy::default() });
    put(&mut w, 0, "A");
    w.publish(vec![op::report_lost("uid:A")]);
    w.pass_s(5);
    let over = put(&mut w, 1, "R");
    assert_eq!(took_over(&over), handed("A", "R"));
    assert_eq!(w.pass_s(60).cuts(), []);
}

#[test]
fn a_card_that_is_enrolled_while_the_delay_of_another_runs_keeps_the_box_on() {
    let mut w = room();
    put(&mut w, 0, "A");
    put(&mut w, 1, "X");
    take(&mut w, 0);
    w.publish(vec![op::issue("X", "p9")]);
    w.publish(vec![op::enrol("X", "p9", "power_box:412")]);
    let over = w.pass_s(60);
    assert_eq!((over.cuts(), took_over(&over)), (vec![], handed("A", "X")));
}

#[test]
fn a_repeated_number_of_the_second_card_is_no_second_event() {
    let mut w = room();
    put(&mut w, 0, "A");
    for recorded in [1, 0] {
        let request = Request { slot: 1, id: Some("7".to_owned()), ..w.request(BOX, Presented::Card(uid("R"))) };
        assert_eq!(w.input(Input::Request(request)).recorded().len(), recorded);
    }
}
