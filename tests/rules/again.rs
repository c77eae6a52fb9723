//! What is shown twice, reported late, or merged with what came after: nobody keeps a right by it, and nothing is reported over and over.

use dormgate::access::event::{AlarmKind, EventKind};
use dormgate::access::input::{Input, PortalReport, Presented, Request};
use dormgate::access::policy::Policy;
use dormgate::access::portal::Direction;
use dormgate::access::transform::{Form, Transform, Turn};

use crate::world::{Seen, World, name, op, portals, uid};

const BOX: &str = "power-412";

fn gate(place: usize) -> World {
    let mut portals = portals();
    portals[place].debounce_ms = 5_000;
    let mut w = World::of(Policy::default(), portals, Vec::new());
    w.resident("A", "p1");
    w
}

fn go(w: &mut World, portal: &str, direction: Option<Direction>) -> Seen {
    let request = Request { direction, ..w.request(portal, Presented::Card(uid("A"))) };
    w.input(Input::Request(request))
}

#[test]
fn in_and_out_are_two_decisions() {
    let mut w = gate(2);
    assert!(go(&mut w, "gate-both", Some(Direction::In)).recorded().contains(&EventKind::Decision));
    w.pass_ms(2_000);
    let out = go(&mut w, "gate-both", Some(Direction::Out));
    assert_eq!(out.reason(), "exit");
    assert!(out.recorded().contains(&EventKind::Decision), "the exit is not in the audit");
}

#[test]
fn out_and_in_are_two_decisions() {
    let mut w = gate(2);
    assert_eq!(go(&mut w, "gate-both", Some(Direction::Out)).reason(), "exit");
    w.pass_ms(2_000);
    let back = go(&mut w, "gate-both", Some(Direction::In));
    assert_eq!(back.reason(), "granted");
    assert!(back.recorded().contains(&EventKind::Decision), "the entry is not in the audit");
}

#[test]
fn a_gate_opened_again_within_the_debounce_is_not_forced() {
    let mut w = gate(0);
    go(&mut w, "gate-in", None);
    w.pass_ms(4_900);
    assert_eq!(go(&mut w, "gate-in", None).reason(), "granted");
    w.pass_ms(500);
    let open = w.report("gate-in", PortalReport { contact_open: Some(true), ..PortalReport::default() });
    assert_eq!(open.alarms(), []);
}

#[test]
fn a_lossy_box_raises_an_unknown_card_once() {
    const W26: Transform = Transform { turn: Turn::AsSent, form: Form::Last(3) };
    let mut w = World::of(Policy::default(), portals(), vec![(name(BOX), W26)]);
    w.resident("A", "p1");
    let mut alarms = 0;
    for _ in 0..5 {
        // What a Modbus portal reports each time its reader is received again after a silence.
        w.report(BOX, PortalReport { online: Some(false), ..PortalReport::default() });
        let uid = Some(Presented::Lossy(W26.read(uid("X"))));
        let seen = w.report(BOX, PortalReport { card_present: Some(true), uid, ..PortalReport::default() });
        alarms += seen.alarms().iter().filter(|a| **a == AlarmKind::PowerWithoutCard).count();
        w.pass_s(30);
    }
    assert_eq!(alarms, 1);
}

#[test]
fn a_whole_reader_raises_an_unknown_card_once() {
    let mut w = World::new();
    w.resident("A", "p1");
    let mut alarms = 0;
    for _ in 0..5 {
        w.report(BOX, PortalReport { online: Some(false), ..PortalReport::default() });
        let seen = w.sits(BOX, "X", None);
        alarms += seen.alarms().iter().filter(|a| **a == AlarmKind::PowerWithoutCard).count();
        w.pass_s(30);
    }
    assert_eq!(alarms, 1);
}

#[test]
fn a_load_that_hovers_about_the_threshold_is_one_alarm() {
    let mut w = World::new();
    w.resident("A", "p1");
    let mut alarms = 0;
    for _ in 0..20 {
        for power_w in [5.2, 4.8] {
            let seen = w.report(BOX, PortalReport { power_w: Some(power_w), ..PortalReport::default() });
            alarms += seen.alarms().iter().filter(|a| **a == AlarmKind::PowerWithoutCard).count();
            alarms += w.pass_s(11).alarms().iter().filter(|a| **a == AlarmKind::PowerWithoutCard).count();
        }
    }
    assert_eq!(alarms, 1);
}

#[test]
fn merged_a_card_that_came_after_another_is_not_lost() {
    let card = |c: &str| Some(Presented::Card(uid(c)));
    let there = PortalReport { card_present: Some(true), uid: card("A"), ..PortalReport::default() };
    // A state that names the card without `card_present` means the same to the engine.
    let bare = PortalReport { uid: card("X"), ..PortalReport::default() };
    let mut w = World::new();
    w.resident("A", "p1");
    assert_eq!(w.report(BOX, there.then(bare)).cuts(), [(BOX, "unknown_credential")]);
    assert!(!w.is_on(BOX), "X keeps power on A's right");
}

#[test]
fn merged_an_exchange_still_cuts_at_once() {
    let card = |c: &str| Some(Presented::Card(uid(c)));
    let gone = PortalReport { card_present: Some(false), exchanged: true, ..PortalReport::default() };
    let there = PortalReport { card_present: Some(true), uid: card("X"), ..PortalReport::default() };
    let mut w = World::new();
    w.resident("A", "p1");
    w.see(BOX, "A");
    assert_eq!(w.report(BOX, gone.then(there)).cuts().first(), Some(&(BOX, "card_left")));
}

#[test]
fn merged_a_fire_that_is_over_can_be_reset() {
    let fire = |fire| PortalReport { fire: Some(fire), ..PortalReport::default() };
    let mut w = World::new();
    w.report("gate-in", fire(true).then(fire(false)));
    assert_eq!(w.engine.fire_reset_refusal(false), None);
}

#[test]
fn a_box_cut_at_boot_is_not_on_by_a_report() {
    let mut w = World::new();
    w.resident("A", "p1").resident("R", "p2");
    for (slot, card) in [(0, "A"), (1, "R")] {
        let request = Request { slot, ..w.request(BOX, Presented::Card(uid(card))) };
        w.input(Input::Request(request));
    }
    // The process dies between the revocation and what followed it: the journal ends with the change.
    let seen = w.publish(vec![op::report_lost("uid:A")]);
    assert_eq!(seen.cuts(), []);
    w.journal.pop_if(|r| r.event.kind() != EventKind::ChangesApplied);
    while w.journal.last().is_some_and(|r| r.event.kind() != EventKind::ChangesApplied) {
        w.journal.pop();
    }
    assert_eq!(w.restart().cuts(), [(BOX, "lost")]);
    let there = PortalReport {
        card_present: Some(true),
        uid: Some(Presented::Card(uid("R"))),
        slot: 1,
        ..PortalReport::default()
    };
    w.report(BOX, there);
    assert!(!w.is_on(BOX), "a report alone never switches on, and the box was ordered off");
}

#[test]
fn merged_a_dead_card_that_is_there_is_still_judged() {
    let there = PortalReport {
        card_present: Some(true),
        uid: Some(Presented::Card(uid("A"))),
        relay: None,
        ..PortalReport::default()
    };
    let draws = PortalReport { card_present: Some(true), power_w: Some(900.0), ..PortalReport::default() };
    for merge in [false, true] {
        let mut w = World::new();
        w.resident("A", "p1").publish(vec![op::report_lost("uid:A")]);
        let seen = if merge {
            w.report(BOX, there.clone().then(draws.clone()))
        } else {
            let seen = w.report(BOX, there.clone());
            w.report(BOX, draws.clone());
            seen
        };
        assert_eq!(seen.cuts(), [(BOX, "lost")], "merged: {merge}");
    }
}

#[test]
fn the_passage_of_a_second_opening_is_somebodys() {
    let mut w = gate(0);
    let pass = |w: &mut World| {
        let seen = w.report("gate-in", PortalReport { passed: Some(Direction::In), ..PortalReport::default() });
        seen.records().find(|r| r.event.kind() == EventKind::Taken).unwrap().event.body.uid()
    };
    go(&mut w, "gate-in", None);
    w.pass_ms(1_000);
    assert_eq!(pass(&mut w), Some(uid("A")));
    w.pass_ms(1_000);
    assert_eq!(go(&mut w, "gate-in", None).reason(), "granted");
    w.pass_ms(1_000);
    assert_eq!(pass(&mut w), Some(uid("A")), "a card handed back lets a second person in as nobody");
}

#[test]
fn a_denied_card_shown_again_within_the_debounce_still_takes_the_slot() {
    for debounce_ms in [0, 5_000] {
        let mut portals = portals();
        portals[4].debounce_ms = debounce_ms;
        let mut w = World::of(Policy::default(), portals, Vec::new());
        w.resident("A", "p1").resident("R", "p2").publish(vec![op::report_lost("uid:R")]);
        let put = |w: &mut World, card: &str| {
            let request = w.request(BOX, Presented::Card(uid(card)));
            w.input(Input::Request(request)).reason()
        };
        assert_eq!(put(&mut w, "R"), "lost");
        w.pass_ms(1_000);
        assert_eq!(put(&mut w, "A"), "granted");
        w.pass_ms(1_000);
        assert_eq!(put(&mut w, "R"), "lost");
        assert_eq!(w.pass_s(60).cuts(), [(BOX, "card_left")], "debounce {debounce_ms}");
    }
}

/// Others come between a request and its repetition; what was answered to it stays known for a minute all the same.
#[test]
fn a_number_is_known_again_after_others_and_for_a_minute() {
    let mut w = World::of(Policy::default(), portals(), Vec::new());
    w.resident("A", "p1");
    let decided = |seen: &Seen| seen.recorded().contains(&EventKind::Decision);
    assert!(decided(&w.see_as("gate-in", "A", "first")));
    for number in 0..50 {
        w.pass_ms(1_000);
        assert!(decided(&w.see_as("gate-both", "B", &format!("of another {number}"))));
        let again = w.see_as("gate-in", "A", "first");
        assert_eq!(again.reason(), "granted");
        assert!(!decided(&again), "after {number} others the repetition counts as another passage");
    }
    w.pass_ms(9_999);
    assert!(!decided(&w.see_as("gate-in", "A", "first")), "still within the minute");
    w.pass_ms(1);
    assert!(decided(&w.see_as("gate-in", "A", "first")), "a minute later it is another card");
}
