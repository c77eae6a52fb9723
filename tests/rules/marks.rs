//! Marks of an enrolment: a second token, more time to pass, a card that is presented under duress.

use dormgate::access::credential::{CardMark, CardMarks};
use dormgate::access::effect::{Effect, PortalOrder};
use dormgate::access::event::AlarmKind;
use dormgate::access::input::{CommandKind, Input, PortalReport, Presented, Request};
use dormgate::access::policy::{Place, Policy, Severity, Walk};

use crate::world::{Seen, World, name, op, uid};

/// Everything that a resident of 412 opens.
const ALL: &str = "gate:* door:412 power_box:412";

fn marked(policy: Policy, marks: impl Into<CardMarks>) -> World {
    let mut w = World::with(policy);
    w.issue("A", "p1").publish(vec![op::enrol_marked("A", "p1", ALL, marks.into())]);
    w
}

/// For how long the portal was released.
fn hold_ms(seen: &Seen) -> Option<u32> {
    seen.0.iter().find_map(|effect| match effect {
        Effect::Order(PortalOrder::Answer { decision: dormgate::access::decision::Decision::Grant(grant), .. }) => {
            grant.hold_ms()
        }
        _ => None,
    })
}

fn contact(w: &mut World, open: bool) -> Seen {
    w.report("door-412", PortalReport { contact_open: Some(open), ..PortalReport::default() })
}

#[test]
fn a_second_token_may_be_in_two_places_and_another_card_may_not() {
    let walk = Walk { from: Place::Zone(name("lobby")), to: Place::Zone(name("412")), walk_ms: 60_000 };
    let policy = Policy { clone: Severity::Deny, walks: vec![walk], ..Policy::default() };
    for (marks, reason, alarms) in [
        (CardMarks::empty(), "in_use_elsewhere", vec![AlarmKind::Clone]),
        (CardMarks::only(CardMark::SecondToken), "granted", vec![]),
        (CardMarks::only(CardMark::ExtendedHold), "in_use_elsewhere", vec![AlarmKind::Clone]),
    ] {
        let mut w = marked(policy.clone(), marks);
        w.present("gate-in", "A");
        let seen = w.see("door-412", "A");
        assert_eq!((seen.reason(), seen.alarms()), (reason, alarms.clone()), "by the walking time, {marks:?}");
        w.pass_s(1_000);
        w.sits("power-412", "A", Some(true));
        let seen = w.see("gate-both", "A");
        assert_eq!((seen.reason(), seen.alarms()), (reason, alarms), "in a box, {marks:?}");
    }
}

#[test]
fn whoever_needs_more_time_gets_a_longer_release_and_the_door_may_stay_open_for_longer() {
    let mut w = marked(Policy::default(), CardMark::ExtendedHold);
    w.resident("B", "p2");
    w.setup.portals.iter_mut().for_each(|p| p.extended_hold_ms = 8_000);
    w.restart();
    assert_eq!(hold_ms(&w.see("door-412", "B")), Some(3_000));
    contact(&mut w, true);
    w.pass_ms(14_999);
    assert_eq!(w.pass_ms(1).alarms(), [AlarmKind::HeldOpen]);
    contact(&mut w, false);
    w.pass_s(1_000);
    assert_eq!(hold_ms(&w.see("door-412", "A")), Some(8_000));
    w.pass_ms(7_999);
    contact(&mut w, true);
    assert_eq!(w.pass_ms(15_000 + 4_999).alarms(), [], "so much longer than the usual release");
    assert_eq!(w.pass_ms(1).alarms(), [AlarmKind::HeldOpen]);
    assert_eq!(hold_ms(&w.see("gate-out", "A")), Some(8_000), "outwards too");
    assert_eq!(hold_ms(&w.see("power-412", "A")), None);
}

#[test]
fn a_card_under_duress_is_granted_as_any_other_and_raises_a_silent_alarm() {
    // The card lies in a box at last, which would raise an alarm of its own.
    let policy = Policy { clone: Severity::Off, ..Policy::default() };
    let mut plain = marked(policy.clone(), CardMarks::empty());
    let mut w = marked(policy, CardMark::Duress);
    for portal in ["gate-in", "door-412", "power-412", "gate-out"] {
        let (usual, seen) = (plain.see(portal, "A"), w.see(portal, "A"));
        let orders = |seen: &Seen| {
            let orders = seen.0.iter().filter(|effect| matches!(effect, Effect::Order(_)));
            orders.map(|order| format!("{order:?}")).collect::<Vec<_>>()
        };
        assert_eq!(orders(&seen), orders(&usual), "{portal}");
        assert_eq!((seen.verdict(), usual.alarms(), seen.alarms()), (usual.verdict(), vec![], vec![AlarmKind::Duress]));
    }
    assert_eq!(w.see("gate-in", "A").alarms(), [], "once in 10 min at a portal");
    w.pass_s(600);
    let seen = w.see("door-413", "A");
    assert_eq!((seen.reason(), seen.alarms()), ("no_entitlement", vec![AlarmKind::Duress]), "also where it is denied");
    let stale = Request { stale: true, ..w.request("door-412", Presented::Card(uid("A"))) };
    assert_eq!(w.input(Input::Request(stale)).alarms(), []);
    w.publish(vec![op::withdraw("uid:A")]);
    assert_eq!(w.see("gate-both", "A").alarms(), [], "the mark went with the enrolment");
    w.assert_replay_is_life();
}

#[test]
fn marks_survive_a_restart_and_a_later_enrolment_replaces_them() {
    let mut w = marked(Policy::default(), CardMark::ExtendedHold | CardMark::Duress);
    w.restart();
    assert_eq!(w.see("gate-in", "A").alarms(), [AlarmKind::Duress]);
    w.enrol("A", "p1", ALL);
    let seen = w.see("door-412", "A");
    assert_eq!((hold_ms(&seen), seen.alarms()), (Some(3_000), vec![]));
}

#[test]
fn a_release_that_is_not_over_is_made_no_shorter_by_the_next_one() {
    let releases: [fn(&mut World) -> Seen; 3] = [
        |w| w.see("door-412", "B"),
        |w| w.command("1", CommandKind::Release { portal: name("door-412") }),
        |w| w.report("door-412", PortalReport { exit_button: true, ..PortalReport::default() }),
    ];
    for release in releases {
        let mut w = marked(Policy::default(), CardMark::ExtendedHold);
        w.resident("B", "p2");
        w.setup.portals.iter_mut().for_each(|p| p.extended_hold_ms = 8_000);
        w.restart();
        w.present("door-412", "A");
        w.pass_ms(1_000);
        let seen = release(&mut w);
        let by_order = |effect: &Effect| match effect {
            Effect::Order(PortalOrder::Release { grant }) => grant.hold_ms(),
            _ => None,
        };
        assert_eq!(hold_ms(&seen).or_else(|| seen.0.iter().find_map(by_order)), Some(7_000));
        w.pass_ms(7_000);
        assert_eq!(contact(&mut w, true).alarms(), [], "released for 8 s");
        assert_eq!(w.pass_ms(15_000 + 4_999).alarms(), [], "and it may stay open for as much longer");
        assert_eq!(w.pass_ms(1).alarms(), [AlarmKind::HeldOpen]);
        contact(&mut w, false);
        assert_eq!(hold_ms(&w.see("door-412", "B")), Some(3_000), "that one is over");
    }
}

#[test]
fn a_card_shown_again_within_the_debounce_makes_no_release_shorter() {
    let mut w = marked(Policy::default(), CardMark::ExtendedHold);
    w.resident("B", "p2");
    w.setup.portals.iter_mut().for_each(|p| (p.extended_hold_ms, p.debounce_ms) = (8_000, 5_000));
    w.restart();
    w.present("door-412", "B");
    w.present("door-412", "A");
    w.pass_ms(1_000);
    w.present("door-412", "B");
    w.pass_ms(8_999);
    assert_eq!(contact(&mut w, true).alarms(), [], "within two seconds of A's 8 s");
    assert_eq!(w.pass_ms(15_000 + 4_999).alarms(), []);
    assert_eq!(w.pass_ms(1).alarms(), [AlarmKind::HeldOpen]);
}
