//! Who is inside, where somebody was last seen, and who may open a portal.

use dormgate::access::event::Flush;
use dormgate::access::id::{CardUid, Holder};
use dormgate::access::input::{Input, Operator};
use dormgate::access::portal::{Direction, Posture};
use dormgate::access::presence::Certainty;
use dormgate::access::roll_call::{RollCall, Sought, Whereabouts};

use crate::world::{World, name, op, uid};

/// The list, with whose the cards are now.
fn people(w: &World, taken: RollCall) -> Vec<Whereabouts> {
    let held = w.engine.held(&taken.cards());
    taken.people(held)
}

fn inside(w: &World, zone: Option<&str>) -> Vec<(String, Certainty)> {
    let found = people(w, w.engine.roll_call(zone.map(name).as_ref(), w.now()).unwrap());
    let entry = |card: Whereabouts| (card.holder.clone().map_or(String::new(), |h| h.to_string()), card.certainty());
    found.into_iter().map(entry).collect()
}

fn listed(people: &[(&str, Certainty)]) -> Vec<(String, Certainty)> {
    people.iter().map(|(who, certainty)| ((*who).to_owned(), *certainty)).collect()
}

fn three() -> World {
    let mut w = World::new();
    w.resident("A", "p1").resident("B", "p2").resident("C", "p3");
    w
}

#[test]
fn whoever_entered_last_is_inside_and_how_certain_that_is_is_named() {
    let mut w = three();
    assert_eq!(inside(&w, None), []);
    for (gate, card) in [("gate-in", "A"), ("gate-in", "B"), ("gate-out", "C"), ("gate-in", "C"), ("gate-out", "A")] {
        w.see(gate, card);
        w.pass_s(60);
    }
    let expected = listed(&[("p2", Certainty::Granted), ("p3", Certainty::Granted)]);
    assert_eq!(inside(&w, None), expected);
    assert_eq!(inside(&w, Some("lobby")), expected);
    assert!(w.engine.roll_call(Some(&name("412")), w.now()).unwrap_err().contains("`412`"));
    // From now on the gate reports who passes.
    w.see("gate-in", "A");
    w.passed("gate-in", Direction::In);
    assert_eq!(inside(&w, None)[0], ("p1".to_owned(), Certainty::Taken));
    w.restart();
    assert_eq!(inside(&w, None).len(), 3);
    assert_eq!(inside(&w, None)[0].1, Certainty::Taken);
}

#[test]
fn a_fire_leaves_the_list_of_those_inside_and_makes_it_doubtful() {
    let mut w = three();
    w.see("gate-in", "A");
    w.fire("door-412", true);
    assert_eq!(inside(&w, None), listed(&[("p1", Certainty::Granted)]));
    w.fire("door-412", false);
    w.input(Input::Operator(Operator::FireReset { force: false }, None));
    assert_eq!(inside(&w, None), listed(&[("p1", Certainty::Doubtful)]));
}

#[test]
fn while_a_gate_is_held_open_by_free_access_nobody_inside_is_certain() {
    let mut w = three();
    w.see("gate-in", "A");
    w.operator("door-412", Posture::FreeAccess);
    assert_eq!(inside(&w, None), listed(&[("p1", Certainty::Granted)]), "a door leads nowhere out");
    w.operator("gate-out", Posture::FreeAccess);
    let doubtful = listed(&[("p1", Certainty::Doubtful)]);
    assert_eq!(inside(&w, None), doubtful);
    let of_the_card = Sought { uid: Some(uid("A")), holder: None };
    assert_eq!(w.engine.whereabouts(&of_the_card, w.now())[0].seen[0].certainty, Certainty::Doubtful);
    // Free access turns into a fire, and a restart is between.
    w.fire("door-412", true);
    assert_eq!(inside(&w, None), doubtful);
    w.restart();
    assert_eq!(inside(&w, None), doubtful);
    // Who is read during the fire is doubtful as well; who enters after it is certain.
    w.operator("gate-out", Posture::Secure);
    w.fire("door-412", false);
    w.input(Input::Operator(Operator::FireReset { force: false }, None));
    w.see("gate-in", "B");
    assert_eq!(inside(&w, None), listed(&[("p1", Certainty::Doubtful), ("p2", Certainty::Granted)]));
    w.assert_replay_is_life();
}

#[test]
fn free_access_that_begins_during_a_fire_goes_on_after_it() {
    let mut w = three();
    w.see("gate-in", "A");
    w.fire("door-412", true);
    w.operator("gate-in", Posture::FreeAccess);
    assert_eq!(inside(&w, None), listed(&[("p1", Certainty::Granted)]), "as it was when the fire began");
    w.fire("door-412", false);
    w.input(Input::Operator(Operator::FireReset { force: false }, None));
    w.see("gate-in", "B");
    let doubtful = listed(&[("p1", Certainty::Doubtful), ("p2", Certainty::Doubtful)]);
    assert_eq!(inside(&w, None), doubtful);
    w.operator("gate-in", Posture::Secure);
    assert_eq!(inside(&w, None), doubtful);
}

#[test]
fn a_card_in_a_box_is_inside_and_two_cards_of_a_holder_are_one_person() {
    let mut w = three();
    w.see("gate-out", "A");
    w.sits("power-412", "A", Some(true));
    let found = people(&w, w.engine.roll_call(None, w.now()).unwrap());
    assert_eq!(inside(&w, None), listed(&[("p1", Certainty::Doubtful)]));
    assert_eq!(found[0].boxes, [name("power-412")]);
    w.leave("power-412");
    w.pass_s(60);
    assert_eq!(inside(&w, None), []);

    w.see("gate-in", "B");
    w.publish(vec![op::reissue("p2", "D", Some("B"))]);
    assert_eq!(inside(&w, None).len(), 1, "the old card went in");
    w.enrol("D", "p2", "gate:*");
    w.see("gate-out", "D");
    assert_eq!(inside(&w, None), [], "the new card went out");
}

/// Who asks works the list out while the gateway decides on.
#[test]
fn the_list_is_of_the_moment_in_which_it_was_taken_whatever_happens_until_it_is_read() {
    let mut w = three();
    w.see("gate-in", "A");
    w.see("gate-in", "B");
    w.sits("power-412", "C", Some(false));
    let taken = w.engine.roll_call(None, w.now()).unwrap();
    assert_eq!(taken.cards(), [uid("A"), uid("C"), uid("B")], "in order of the UID");
    w.pass_s(1);
    w.see("gate-out", "A");
    w.leave("power-412");
    w.operator("gate-out", Posture::FreeAccess);
    w.operator("gate-out", Posture::Secure);
    assert_eq!(inside(&w, None), listed(&[("p2", Certainty::Doubtful)]));
    let of_then: Vec<_> = people(&w, taken).into_iter().map(|card| (card.holder.clone(), card.certainty())).collect();
    let who = |holder: &str, certainty| (Some(name::<Holder>(holder)), certainty);
    let granted = |holder| who(holder, Certainty::Granted);
    assert_eq!(of_then, [granted("p1"), granted("p2"), who("p3", Certainty::Doubtful)]);
    w.assert_replay_is_life();
}

#[test]
fn a_dead_card_on_the_way_out_does_not_take_its_holder_off_the_list() {
    let deaths = [vec![op::reissue("p1", "D", Some("A"))], vec![op::report_lost("uid:A")], vec![op::cancel("uid:A")]];
    for death in deaths {
        let mut w = three();
        w.issue("D", "p1").enrol("D", "p1", "gate:*");
        w.see("gate-in", "D");
        w.see("gate-out", "A");
        assert_eq!(inside(&w, None), [], "the card that went out is alive");
        w.see("gate-in", "D");
        w.publish(death);
        // Somebody else leaves with the card that its holder has not had since.
        w.see("gate-out", "A");
        assert_eq!(inside(&w, None), listed(&[("p1", Certainty::Doubtful)]));
        w.see("gate-in", "D");
        assert_eq!(inside(&w, None), listed(&[("p1", Certainty::Granted)]), "read since");
        w.see("gate-out", "D");
        w.see("gate-out", "A");
        assert_eq!(inside(&w, None), [], "the living card went out too");
    }
}

#[test]
fn of_three_cards_the_living_one_decides_whatever_their_order() {
    for [dead, living, entered] in [["A", "B", "C"], ["A", "C", "B"], ["C", "B", "A"], ["B", "A", "C"]] {
        let mut w = World::new();
        for card in [dead, living, entered] {
            w.issue(card, "p1").enrol(card, "p1", "gate:*");
        }
        w.publish(vec![op::report_lost(&format!("uid:{dead}"))]);
        for (gate, card) in [("gate-in", entered), ("gate-out", living), ("gate-out", dead)] {
            w.see(gate, card);
        }
        assert_eq!(inside(&w, None), [], "{living} went out after {entered} went in");
    }
    // Where only dead cards were seen, the last of them counts.
    let mut w = three();
    w.see("gate-in", "A");
    w.publish(vec![op::report_lost("uid:A")]);
    w.see("gate-out", "A");
    assert_eq!(inside(&w, None), []);
}

#[test]
fn a_card_and_a_holder_are_found_by_what_a_person_types() {
    let mut w = three();
    w.see("gate-in", "A");
    w.pass_s(60);
    w.see("gate-out", "A");
    let sought = |uid: Option<CardUid>, holder: Option<Holder>| {
        let found = w.engine.whereabouts(&Sought { uid, holder }, w.now());
        found
            .iter()
            .map(|card| (card.uid, card.seen.iter().map(|s| s.portal.to_string()).collect()))
            .collect::<Vec<_>>()
    };
    let seen = (uid("A"), vec!["gate-out".to_owned(), "gate-in".to_owned()]);
    for (uid, holder) in [(Some(uid("A")), None), (Some(uid("C")), Some(name("p1")))] {
        assert_eq!(sought(uid, holder), [(seen.0, seen.1.clone())]);
    }
    assert_eq!(sought(None, Some(name("p2"))), []);
}

#[test]
fn where_the_cards_of_a_holder_passed_is_forgotten_when_its_events_are_erased_and_stays_so() {
    let mut w = three();
    w.issue("D", "p1").enrol("D", "p1", "gate:*");
    for card in ["A", "D", "B"] {
        w.see("gate-in", card);
    }
    let sought = |w: &World, holder: &str| {
        let sought = Sought { uid: None, holder: Some(name(holder)) };
        w.engine.whereabouts(&sought, w.now()).len()
    };
    assert_eq!((sought(&w, "p1"), sought(&w, "p2")), (2, 1));
    let erase = Operator::Erase { holder: name("p1"), detail: "li orders it".to_owned() };
    let seen = w.input(Input::Operator(erase, None));
    assert!(seen.records().all(|record| record.flush == Flush::Now && record.event.body.holder() == Some(&name("p1"))));
    assert_eq!((sought(&w, "p1"), sought(&w, "p2"), inside(&w, None).len()), (0, 1, 1));
    w.assert_replay_is_life();
    w.restart();
    assert_eq!((sought(&w, "p1"), sought(&w, "p2")), (0, 1));
    // Whoever comes again is seen again.
    w.see("gate-in", "A");
    assert_eq!(sought(&w, "p1"), 1);
}

#[test]
fn the_cards_that_may_open_a_portal_are_those_that_it_would_grant() {
    let mut w = three();
    w.issue("D", "p4").enrol("D", "p4", "door:413");
    w.publish(vec![op::report_lost("uid:B")]);
    let (portal, now) = (name("door-412"), w.now());
    let mut found = Vec::new();
    for from in [0, 2] {
        let (cards, len) = w.engine.may_open(&portal, from..from + 2, now).unwrap();
        assert_eq!(len, 4);
        found.extend(cards.into_iter().map(|card| (card.uid, card.holder)));
    }
    assert_eq!(found, [(uid("A"), Some(name("p1"))), (uid("C"), Some(name("p3")))]);
    assert!(w.engine.may_open(&name("door-9"), 0..9, now).unwrap_err().contains("`door-9`"));
}
