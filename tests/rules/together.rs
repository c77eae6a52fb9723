//! Gates and doors that open by more than one card or door: two cards, the first card of a window, doors of an interlock.

use dormgate::access::decision::Reason;
use dormgate::access::event::AlarmKind;
use dormgate::access::input::{CommandKind, PortalReport};
use dormgate::access::policy::Policy;
use dormgate::access::portal::{Portal, Posture};

use crate::world::{Seen, World, name, op, portals, uid};

/// Two residents of 412, A of p1 and B of p2, in a building whose `portal` is changed so.
fn building(portal: &str, change: impl Fn(&mut Portal)) -> World {
    let mut all = portals();
    all.iter_mut().filter(|p| p.id.as_str() == portal).for_each(change);
    let mut w = World::of(Policy { max_denials: 3, ..Policy::default() }, all, Vec::new());
    w.resident("A", "p1").resident("B", "p2");
    w
}

fn two_cards() -> World {
    building("door-412", |p| p.two_card_ms = 20_000)
}

#[test]
fn a_second_card_of_another_holder_opens_and_neither_the_same_card_nor_the_same_holder_does() {
    let mut w = two_cards();
    w.issue("R", "p1").enrol("R", "p1", "door:412");
    assert_eq!(w.present("door-412", "A"), "second_card_required");
    assert_eq!(w.present("door-412", "A"), "second_card_required", "the same card again");
    assert_eq!(w.present("door-412", "R"), "second_card_required", "the holder's other card");
    assert_eq!(w.present("door-412", "B"), "granted");
    assert_eq!(w.present("door-412", "B"), "second_card_required", "the next two");
    assert_eq!(w.present("door-412", "A"), "granted");
    assert_eq!(w.present("door-413", "A"), "no_entitlement", "other doors are as they were");
    w.assert_replay_is_life();
}

#[test]
fn a_first_card_that_loses_its_right_while_it_waits_opens_with_no_second_one() {
    for against in
        [op::report_lost("uid:A"), op::freeze("uid:A"), op::withdraw("uid:A"), op::reissue("p1", "X", Some("A"))]
    {
        let mut w = two_cards();
        assert_eq!(w.present("door-412", "A"), "second_card_required");
        w.publish(vec![against]);
        assert_eq!(w.present("door-412", "B"), "second_card_required");
        w.assert_replay_is_life();
    }
}

#[test]
fn the_second_card_comes_within_the_time_and_from_a_card_that_may() {
    let mut w = two_cards();
    w.present("door-412", "A");
    w.pass_ms(19_999);
    assert_eq!(w.present("door-412", "B"), "granted");
    w.present("door-412", "A");
    w.pass_ms(20_000);
    assert_eq!(w.present("door-412", "B"), "second_card_required", "the first one waits no longer");
    // A card that may not is neither a first nor a second one, and does not send the first one away.
    assert_eq!(w.present("door-412", "X"), "unknown_credential");
    w.publish(vec![op::report_lost("uid:A")]);
    assert_eq!(w.see("door-412", "A").verdict(), "lost", "it would have been the second");
    w.pass_s(20);
    assert_eq!(w.see("door-412", "A").verdict(), "lost second_card_required");
    assert_eq!(w.present("door-412", "B"), "second_card_required", "a lost card is no first one");
}

#[test]
fn a_request_that_is_sent_again_gets_its_answer_again_and_is_no_card_more() {
    let mut w = two_cards();
    for _ in 0..2 {
        assert_eq!(w.see_as("door-412", "A", "1").reason(), "second_card_required");
    }
    for _ in 0..2 {
        assert_eq!(w.see_as("door-412", "B", "2").reason(), "granted");
    }
    assert_eq!(w.see_as("door-412", "A", "1").reason(), "second_card_required");
}

#[test]
fn whoever_waits_for_a_second_card_or_another_door_has_not_tried_a_wrong_card() {
    let mut w = two_cards();
    w.setup.portals.iter_mut().for_each(|p| p.interlock = vec![name("gate-both")]);
    w.restart();
    let mut alarms = Vec::new();
    for _ in 0..6 {
        alarms.extend(w.see("door-412", "A").alarms());
    }
    w.present("gate-both", "A");
    for _ in 0..6 {
        let seen = w.see("door-413", "X");
        assert_eq!(seen.verdict(), "unknown_credential interlocked");
        w.pass_s(30);
        w.present("gate-both", "A");
        alarms.extend(w.see("gate-in", "A").alarms());
    }
    assert!(!alarms.contains(&AlarmKind::WrongTries));
}

#[test]
fn leaving_fire_and_free_access_need_no_second_card_and_no_closed_door() {
    let mut w = building("gate-in", |p| (p.two_card_ms, p.interlock) = (20_000, vec![name("door-412")]));
    w.setup.portals.iter_mut().filter(|p| p.id.as_str() == "gate-out").for_each(|p| {
        (p.two_card_ms, p.interlock) = (20_000, vec![name("door-412")]);
    });
    w.restart();
    contact(&mut w, "door-412", true);
    assert_eq!(w.see("gate-in", "A").verdict(), "second_card_required interlocked");
    assert_eq!(w.see("gate-out", "A").verdict(), "exit");
    w.operator("gate-in", Posture::FreeAccess);
    assert_eq!(w.see("gate-in", "A").verdict(), "free_access");
    w.fire("door-413", true);
    assert_eq!(w.see("gate-in", "A").verdict(), "fire");
}

fn contact(w: &mut World, portal: &str, open: bool) -> Seen {
    w.report(portal, PortalReport { contact_open: Some(open), ..PortalReport::default() })
}

#[test]
fn one_door_of_an_interlock_opens_only_while_the_other_is_closed_and_not_released() {
    let mut w = building("door-412", |p| p.interlock = vec![name("gate-both")]);
    assert_eq!(w.present("gate-both", "B"), "granted");
    assert_eq!(w.present("door-412", "A"), "interlocked");
    w.pass_ms(2_999);
    assert_eq!(w.present("door-412", "A"), "interlocked");
    w.pass_ms(1);
    assert_eq!(w.present("door-412", "A"), "granted", "the release is over");
    contact(&mut w, "gate-both", true);
    assert_eq!(w.present("door-412", "A"), "interlocked");
    contact(&mut w, "gate-both", false);
    assert_eq!(w.present("door-412", "A"), "granted");
    w.command("1", CommandKind::Release { portal: name("gate-both") });
    assert_eq!(w.present("door-412", "A"), "interlocked", "a release by command is one too");
    w.pass_s(3);
    w.operator("gate-both", Posture::FreeAccess);
    assert_eq!(w.present("door-412", "A"), "interlocked", "held open by its mode");
    w.operator("gate-both", Posture::Secure);
    assert_eq!(w.present("door-412", "A"), "granted");
    assert_eq!(w.present("gate-both", "B"), "granted", "the rule is that of the portal that names the other");
}

#[test]
fn a_door_that_went_offline_while_it_stood_open_blocks_its_interlock_no_more() {
    let mut w = building("door-412", |p| p.interlock = vec![name("gate-both")]);
    let online =
        |w: &mut World, online| w.report("gate-both", PortalReport { online: Some(online), ..PortalReport::default() });
    online(&mut w, true);
    contact(&mut w, "gate-both", true);
    assert_eq!(w.present("door-412", "A"), "interlocked");
    online(&mut w, false);
    assert_eq!(w.present("door-412", "A"), "granted", "nobody knows where that door is");
    let seen = online(&mut w, true);
    assert_eq!(w.present("door-412", "A"), "interlocked", "as it showed itself last");
    assert_eq!((seen.alarms(), contact(&mut w, "gate-both", true).alarms()), (vec![], vec![]), "it did not open now");
    contact(&mut w, "gate-both", false);
    assert_eq!(w.present("door-412", "A"), "granted");
}

/// A reader that is out of order takes its portal offline; the contact of the door is read on.
#[test]
fn a_door_whose_reader_alone_is_at_fault_blocks_its_interlock_while_it_stands_open() {
    let mut w = building("door-412", |p| p.interlock = vec![name("gate-both")]);
    let offline = |w: &mut World, contact_answers| {
        let cause = Some("the line has been shut down".to_owned());
        w.report("gate-both", PortalReport { online: Some(false), cause, contact_answers, ..PortalReport::default() })
    };
    contact(&mut w, "gate-both", true);
    offline(&mut w, true);
    assert_eq!(w.present("door-412", "A"), "interlocked");
    contact(&mut w, "gate-both", false);
    assert_eq!(w.present("door-412", "A"), "granted");
    contact(&mut w, "gate-both", true);
    assert_eq!(w.present("door-412", "A"), "interlocked", "opened meanwhile");
    offline(&mut w, false);
    assert_eq!(w.present("door-412", "A"), "granted", "now nobody knows where that door is");
}

/// `gate-in` is open to all from 08:00, which is when the tests begin, to 08:30, and from 08:45, with the first card.
fn first_card() -> World {
    let mut w = building("gate-in", |p| (p.free_access, p.first_card) = (Some(name("peak")), true));
    w.publish(vec![op::schedule("peak", "08:00-08:10 08:10-08:30 08:45-09:00")]);
    w
}

#[test]
fn free_access_begins_with_the_first_card_of_each_window() {
    let mut w = first_card();
    assert_eq!(w.present("gate-in", "X"), "unknown_credential", "nobody has come yet");
    let seen = w.see("gate-in", "A");
    assert_eq!((seen.reason(), seen.modes()), ("granted", vec![("gate-in", Posture::FreeAccess)]));
    assert_eq!(w.present("gate-in", "X"), "free_access");
    w.pass_s(29 * 60);
    assert_eq!(w.present("gate-in", "X"), "free_access", "windows that touch are one");
    let seen = w.pass_s(60);
    assert_eq!(seen.modes(), [("gate-in", Posture::Secure)]);
    assert_eq!(w.present("gate-in", "A"), "granted");
    w.pass_s(15 * 60);
    assert_eq!(w.present("gate-in", "X"), "unknown_credential", "a card before the window begins nothing");
    assert_eq!(w.present("gate-in", "A"), "granted");
    assert_eq!(w.present("gate-in", "X"), "free_access");
    w.assert_replay_is_life();
}

#[test]
fn after_a_restart_the_first_card_opens_again() {
    let mut w = first_card();
    w.present("gate-in", "A");
    w.restart();
    assert_eq!(w.present("gate-in", "X"), "unknown_credential");
    w.present("gate-in", "A");
    assert_eq!(w.present("gate-in", "X"), "free_access");
}

#[test]
fn a_card_that_is_let_in_during_a_lockdown_begins_no_free_access() {
    let mut w = first_card();
    w.issue("R", "s1");
    w.publish(vec![op::enrol_staff("R", "s1", "gate:*")]);
    w.operator("gate-in", Posture::Lockdown);
    assert_eq!(w.present("gate-in", "R"), "granted");
    w.operator("gate-in", Posture::Secure);
    assert_eq!(w.present("gate-in", "X"), "unknown_credential");
}

#[test]
fn a_query_names_the_first_card_that_waits_and_the_door_that_is_open() {
    let mut w = building("door-412", |p| (p.two_card_ms, p.interlock) = (20_000, vec![name("gate-both")]));
    let fact = |w: &World, reason: Reason| {
        let verdict = w.engine.query(uid("B"), Some(&name("door-412")), w.now()).unwrap().remove(0);
        let step = verdict.steps.into_iter().find(|step| step.step == reason).unwrap();
        (step.ok, step.fact)
    };
    let first = "wants two cards within 20 s; no first one waits".to_owned();
    assert_eq!(fact(&w, Reason::SecondCardRequired), (false, first));
    assert_eq!(fact(&w, Reason::Interlocked), (true, "all doors of the interlock are closed".to_owned()));
    w.present("door-412", "A");
    w.pass_s(5);
    let waits = "the card of p1 waits for a second one for 15 s more".to_owned();
    assert_eq!(fact(&w, Reason::SecondCardRequired), (true, waits));
    contact(&mut w, "gate-both", true);
    assert_eq!(fact(&w, Reason::Interlocked), (false, "gate-both is open or released".to_owned()));
}

#[test]
fn a_card_that_waits_for_a_closed_door_too_is_the_first_of_two() {
    let mut w = building("door-412", |p| (p.two_card_ms, p.interlock) = (20_000, vec![name("gate-both")]));
    contact(&mut w, "gate-both", true);
    assert_eq!(w.see("door-412", "A").verdict(), "second_card_required interlocked");
    contact(&mut w, "gate-both", false);
    assert_eq!(w.present("door-412", "B"), "granted");
}

#[test]
fn a_visitor_without_a_host_is_no_first_of_two() {
    let mut w = building("gate-in", |p| p.two_card_ms = 20_000);
    w.setup.policy.visitor_escort_ms = 30_000;
    w.restart();
    let guest = dormgate::access::credential::Enrolment {
        role: dormgate::access::credential::Role::Visitor,
        ..crate::world::enrolment("v1", "gate:*")
    };
    w.issue("R", "v1").publish(vec![dormgate::access::change::Op::Enrol { uid: uid("R"), enrolment: guest }]);
    assert_eq!(w.see("gate-in", "R").verdict(), "second_card_required escort_required");
    assert_eq!(w.present("gate-in", "A"), "second_card_required");
    assert_eq!(w.present("gate-in", "B"), "granted");
    // With a host the visitor's card is one of two like any other.
    assert_eq!(w.see("gate-in", "R").verdict(), "second_card_required");
    assert_eq!(w.present("gate-in", "A"), "granted");
}

#[test]
fn a_door_whose_relay_is_on_blocks_its_interlock_until_it_is_off_or_not_known() {
    let mut w = building("door-412", |p| p.interlock = vec![name("gate-both")]);
    w.relay("gate-both", true);
    assert_eq!(w.present("door-412", "A"), "interlocked", "a button at the lock");
    w.relay("gate-both", false);
    assert_eq!(w.present("door-412", "A"), "granted");
    w.relay("gate-both", true);
    w.pass_s(60);
    assert_eq!(w.present("door-412", "A"), "interlocked", "it is welded");
    w.report("gate-both", PortalReport { online: Some(false), ..PortalReport::default() });
    assert_eq!(w.present("door-412", "A"), "granted");
}
