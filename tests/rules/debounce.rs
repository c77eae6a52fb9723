//! The same card within the debounce time is one presentation.

use dormgate::access::decision::Decision;
use dormgate::access::event::EventKind;
use dormgate::access::input::{Input, Presented};
use dormgate::access::policy::Policy;

use crate::world::{Seen, World, name, op, portals, uid};

/// A building whose inner gate debounces for 5 s.
fn gate() -> World {
    let mut portals = portals();
    portals[0].debounce_ms = 5_000;
    World::of(Policy::default(), portals, Vec::new())
}

/// A card shown to a reader that numbers nothing.
fn show(w: &mut World, card: &str) -> Seen {
    w.input(Input::Request(w.request("gate-in", Presented::Card(uid(card)))))
}

fn is_again(seen: &Seen) -> bool {
    matches!(seen.decision(), Decision::Grant(grant) if grant.is_again())
}

#[test]
fn the_same_card_within_five_seconds_is_one_event_and_answered_as_before() {
    let mut w = gate();
    w.resident("A", "p1");
    let first = show(&mut w, "A");
    assert!(first.recorded().contains(&EventKind::Decision) && !is_again(&first));
    w.pass_ms(4_999);
    let again = show(&mut w, "A");
    assert_eq!((again.reason(), again.recorded(), is_again(&again)), ("granted", vec![], true));
    w.pass_ms(1);
    let next = show(&mut w, "A");
    assert!(next.recorded().contains(&EventKind::Decision) && !is_again(&next), "the time counts from the first");
}

#[test]
fn another_card_and_another_portal_wait_for_nobody() {
    let mut w = gate();
    w.resident("A", "p1").resident("R", "p2");
    show(&mut w, "A");
    assert!(show(&mut w, "R").recorded().contains(&EventKind::Decision));
    assert!(w.see("door-412", "A").recorded().contains(&EventKind::Decision));
}

#[test]
fn a_card_revoked_within_the_time_is_denied_at_once() {
    let mut w = gate();
    w.resident("A", "p1");
    show(&mut w, "A");
    w.publish(vec![op::report_lost("uid:A")]);
    assert_eq!(show(&mut w, "A").reason(), "lost");
}

#[test]
fn a_card_that_was_denied_and_is_put_right_need_not_wait() {
    let mut w = gate();
    w.issue("A", "p1");
    assert_eq!(show(&mut w, "A").reason(), "not_enrolled");
    assert_eq!(show(&mut w, "A").recorded(), [], "the same denial is one event");
    w.enrol("A", "p1", "door:412");
    assert_eq!(show(&mut w, "A").reason(), "not_enrolled");
    w.enrol("A", "p1", "gate:annex");
    assert_eq!(show(&mut w, "A").reason(), "no_entitlement");
    w.enrol("A", "p1", "gate:lobby");
    assert_eq!(show(&mut w, "A").reason(), "granted");
}

#[test]
fn a_portal_without_the_time_counts_every_read() {
    let mut w = gate();
    w.resident("A", "p1");
    for _ in 0..2 {
        let request = w.request("door-412", Presented::Card(uid("A")));
        assert!(w.input(Input::Request(request)).recorded().contains(&EventKind::Decision));
    }
    assert_eq!(w.setup.portals[3].id, name("door-412"));
}
