//! A release is withdrawn from its portal when its card loses the right, or the mode is against it, before it is over.

use dormgate::access::effect::{Effect, PortalOrder};
use dormgate::access::input::{CommandKind, PortalReport};
use dormgate::access::policy::AfterHours;
use dormgate::access::portal::{Direction, Posture};

use crate::reload::{at as portal_of, calendar, reload, rules};
use crate::snapshots::{apartment, entries_of};
use crate::world::{APARTMENT, OFFICE, Seen, Snapshot, World, at, name, op};

const DOOR: &str = "door-412";

fn resident() -> World {
    let mut w = World::new();
    w.resident("A", "p1").resident("B", "p2");
    w
}

/// The releases that this withdrew, and why.
fn withdrawn(seen: &Seen) -> Vec<(&str, &'static str)> {
    let withdrawn = |e| match e {
        &Effect::Order(PortalOrder::Withdraw { ref portal, reason }) => Some((portal.as_str(), reason)),
        _ => None,
    };
    seen.0.iter().filter_map(withdrawn).collect()
}

#[test]
fn a_release_whose_card_loses_its_right_is_withdrawn_before_that_is_acknowledged() {
    for (against, reason) in [
        (op::report_lost("uid:A"), "lost"),
        (op::freeze("uid:A"), "frozen"),
        (op::cancel("uid:A"), "cancelled"),
        (op::reissue("p1", "X", Some("A")), "replaced"),
        (op::withdraw("uid:A"), "not_enrolled"),
        (op::enrol("A", "p1", "gate:* door:413"), "no_entitlement"),
        (op::posture("*", Posture::Lockdown, None), "lockdown"),
    ] {
        let mut w = resident();
        w.present(DOOR, "A");
        w.pass_ms(100);
        let seen = w.publish(vec![against]);
        assert_eq!(withdrawn(&seen), [(DOOR, reason)]);
        let place = |is: fn(&Effect) -> bool| seen.0.iter().position(is).unwrap();
        let acknowledged = place(|e| matches!(e, Effect::Acknowledge { .. }));
        assert!(place(|e| matches!(e, Effect::Order(PortalOrder::Withdraw { .. }))) < acknowledged);
        let seen = w.publish(vec![op::cancel("p1")]);
        assert_eq!(withdrawn(&seen), [], "once");
        w.assert_replay_is_life();
    }
}

#[test]
fn what_an_operator_closes_withdraws_a_card_and_out_of_service_a_command_too() {
    let mut w = resident();
    w.present(DOOR, "A");
    assert_eq!(withdrawn(&w.operator(DOOR, Posture::Lockdown)), [(DOOR, "lockdown")]);
    w.command("1", CommandKind::Release { portal: name(DOOR) });
    assert_eq!(withdrawn(&w.operator("", Posture::Lockdown)), [], "a command opens in a lockdown");
    assert_eq!(withdrawn(&w.operator(DOOR, Posture::OutOfService)), [(DOOR, "out_of_service")]);
}

#[test]
fn a_list_that_takes_the_right_of_a_card_withdraws_its_release_before_it_is_acknowledged() {
    let issued = vec![op::issue("A", "p1"), op::issue("B", "p2")];
    for (stream, entries, reason) in [
        (OFFICE, entries_of(OFFICE, &[issued, vec![op::report_lost("uid:A")]]), "lost"),
        (APARTMENT, apartment(&[op::enrol("B", "p2", "gate:* door:412")]), "not_enrolled"),
    ] {
        let mut w = resident();
        w.present(DOOR, "A");
        w.present("gate-in", "B");
        let seen = w.snapshot(&Snapshot { stream, at: at(1, 50), id: "list", entries: &entries, allow_shrink: true });
        assert_eq!(withdrawn(&seen), [(DOOR, reason)], "{stream}");
        let place = |is: fn(&Effect) -> bool| seen.0.iter().position(is).unwrap();
        let acknowledged = place(|e| matches!(e, Effect::Acknowledge { .. }));
        assert!(place(|e| matches!(e, Effect::Order(PortalOrder::Withdraw { .. }))) < acknowledged);
        w.assert_replay_is_life();
    }
}

#[test]
fn hours_that_the_configuration_closes_withdraw_a_release() {
    let mut w = resident();
    w.present("gate-in", "A");
    let mut new = rules(&w);
    new.policy.after_hours = AfterHours::Deny;
    new.calendar = calendar(&[("day", "09:00-22:00")]);
    portal_of(&mut new, "gate-in").hours = Some(name("day"));
    assert_eq!(withdrawn(&reload(&mut w, new)), [("gate-in", "outside_schedule")]);
    w.assert_replay_is_life();
}

#[test]
fn a_way_out_the_release_of_another_card_and_one_that_was_taken_are_not_withdrawn() {
    let lost = || vec![op::report_lost("uid:A")];
    let mut w = resident();
    w.present("gate-out", "A");
    assert_eq!(withdrawn(&w.publish(lost())), [], "whoever wants out is let out");
    let mut w = resident();
    w.report(DOOR, PortalReport { exit_button: true, ..PortalReport::default() });
    assert_eq!(withdrawn(&w.operator(DOOR, Posture::OutOfService)), [], "by the button too");
    let mut w = resident();
    w.present(DOOR, "A");
    w.present(DOOR, "B");
    assert_eq!(withdrawn(&w.publish(lost())), [], "it is B's by now");
    let mut w = resident();
    w.present("gate-in", "A");
    w.passed("gate-in", Direction::In);
    assert_eq!(withdrawn(&w.publish(lost())), [], "A is inside");
    let mut w = resident();
    w.present(DOOR, "A");
    w.pass_ms(3_000 + 10_000);
    assert_eq!(withdrawn(&w.publish(lost())), [], "it is over");
    let mut w = resident();
    w.operator(DOOR, Posture::FreeAccess);
    w.present(DOOR, "A");
    assert_eq!(withdrawn(&w.publish(lost())), [], "it is open to everybody");
    assert_eq!(withdrawn(&w.operator(DOOR, Posture::Secure)), [(DOOR, "lost")]);
}
