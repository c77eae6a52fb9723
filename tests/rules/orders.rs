//! Orders of an operator on the box: what each does, that it is refused by name, and that one with a name is in the audit with it.

use dormgate::access::effect::{Effect, PortalOrder};
use dormgate::access::event::{Event, EventKind, Mark};
use dormgate::access::input::{CardSet, Input, Operator};
use dormgate::access::portal::Posture;

use crate::world::{Seen, World, name, op};

fn order(w: &mut World, command: Operator) -> Seen {
    w.input(Input::Operator(command, Some("Li Wei".parse().unwrap())))
}

/// What the asker is given, and what is in the audit: the status, and the detail of the last event.
fn outcome(seen: &Seen) -> (Option<String>, String) {
    let refused = seen.0.iter().find_map(|effect| match effect {
        Effect::Ordered { refused, .. } => Some(refused.as_ref().map(|error| error.message.clone())),
        _ => None,
    });
    let last = seen.records().last().map(|record| match &record.event.body {
        Event::Command { status, detail, portal, .. } => {
            let portal = portal.as_ref().map_or("-", |portal| portal.as_str());
            format!("{} {portal} {detail}", status.as_str())
        }
        Event::Config { mark: Mark::AlarmsAcknowledged { from, to }, detail } => format!("{from} {to} {detail}"),
        other => format!("{other:?}"),
    });
    (refused.expect("every order is answered"), last.unwrap_or_default())
}

#[test]
fn an_order_acts_as_a_command_of_a_center_does_and_is_recorded_with_who_gave_it() {
    let mut w = World::new();
    w.resident("A", "p1");
    w.present("gate-in", "A");
    let portal = |id: &str| name(id);
    let seen = order(&mut w, Operator::Release { portal: portal("gate-in") });
    assert!(
        matches!(seen.0.first(), Some(Effect::Order(PortalOrder::Release { .. }))),
        "what opens comes first: {:?}",
        seen.0
    );
    assert_eq!(outcome(&seen), (None, "ok gate-in release by Li Wei at the console".to_owned()));
    let seen = order(&mut w, Operator::Power { portal: portal("power-412"), on: true });
    assert_eq!(outcome(&seen), (None, "ok power-412 power on by Li Wei at the console".to_owned()));
    assert!(w.is_on("power-412"));
    let seen = order(&mut w, Operator::Power { portal: portal("power-412"), on: false });
    assert_eq!(outcome(&seen).0, None);
    assert!(!w.is_on("power-412") && seen.cuts() == [("power-412", "remote")], "{:?}", seen.0);
    let closed = Operator::Posture { portals: vec![portal("gate-in")], posture: Posture::OutOfService };
    let seen = order(&mut w, closed);
    assert_eq!(outcome(&seen).1, "ok gate-in posture out_of_service at gate-in by Li Wei at the console");
    assert_eq!(seen.modes(), [("gate-in", Posture::OutOfService)]);
    let seen = order(&mut w, Operator::Forgive { cards: CardSet::All });
    assert_eq!(outcome(&seen), (None, "ok - forgive all cards by Li Wei at the console".to_owned()));
    w.assert_replay_is_life();
}

#[test]
fn an_order_that_cannot_be_carried_out_is_refused_changes_nothing_and_is_recorded_too() {
    let mut w = World::new();
    w.operator("gate-in", Posture::OutOfService);
    let portal = |id: &str| name(id);
    let both = Operator::Posture { portals: vec![portal("door-412"), portal("nowhere")], posture: Posture::FreeAccess };
    for (command, part, recorded) in [
        (
            Operator::Release { portal: portal("gate-in") },
            "is out of service; set its posture",
            "rejected gate-in release by",
        ),
        (
            Operator::Release { portal: portal("power-412") },
            "is a power box; use `power`",
            "rejected power-412 release",
        ),
        (Operator::Release { portal: portal("nowhere") }, "no portal `nowhere`", "rejected - release by Li Wei"),
        (
            Operator::Power { portal: portal("gate-in"), on: true },
            "is no power box; use `release`",
            "rejected gate-in power on",
        ),
        (both, "no portal `nowhere`", "rejected - posture free_access at door-412, nowhere by Li Wei"),
        (Operator::FireReset { force: false }, "no fire latch is set", "rejected - fire reset by Li Wei"),
        (
            Operator::StreamForget { stream: "x".parse().unwrap() },
            "no stream `x`",
            "rejected - stream forget x by Li Wei",
        ),
        (
            Operator::Acknowledge { from: 2, to: 1 },
            "numbers of events are wanted",
            "rejected - acknowledge 2 to 1 by Li Wei",
        ),
        (Operator::Acknowledge { from: 0, to: 1 }, "numbers of events are wanted", "rejected - acknowledge 0 to 1"),
        (
            Operator::Acknowledge { from: 1, to: 999_999 },
            "numbers of events are wanted",
            "rejected - acknowledge 1 to 999999",
        ),
    ] {
        let seen = order(&mut w, command);
        let (refused, audit) = outcome(&seen);
        let refused = refused.unwrap_or_default();
        assert!(refused.contains(part) && audit.starts_with(recorded) && audit.contains(part), "{refused}; {audit}");
        assert!(!seen.0.iter().any(|effect| matches!(effect, Effect::Order(_))), "{:?}", seen.0);
        assert_eq!(seen.records().count(), 1);
    }
    w.assert_replay_is_life();
}

#[test]
fn an_acknowledgement_names_its_alarms_and_nothing_else_follows_from_it() {
    let mut w = World::new();
    let seen = order(&mut w, Operator::Acknowledge { from: 1, to: 1 });
    assert_eq!(outcome(&seen), (None, "1 1 alarm 1 acknowledged by Li Wei at the console".to_owned()));
    let seen = w.input(Input::Operator(Operator::Acknowledge { from: 1, to: 2 }, None));
    assert_eq!(outcome(&seen).1, "1 2 alarms 1 to 2 acknowledged by an operator");
    w.assert_replay_is_life();
}

#[test]
fn a_box_that_is_on_by_a_card_stays_so_when_it_is_ordered_on_and_goes_off_with_the_card() {
    const BOX: &str = "power-412";
    let on = |w: &mut World| order(w, Operator::Power { portal: name(BOX), on: true });
    let mut w = World::new();
    w.resident("A", "p1").present(BOX, "A");
    w.relay(BOX, true);
    assert_eq!(outcome(&on(&mut w)).0, None);
    assert_eq!(w.publish(vec![op::report_lost("uid:A")]).cuts(), [(BOX, "lost")]);
    // A relay that fell is ordered on, and what it reports then is in the audit.
    w.publish(vec![op::found("uid:A")]);
    w.pass_s(60);
    w.present(BOX, "A");
    w.relay(BOX, true);
    w.pass_s(10);
    w.relay(BOX, false);
    let seen = on(&mut w);
    assert_eq!(seen.openings(), 1);
    assert!(w.relay(BOX, true).recorded().contains(&EventKind::PowerOn));
    // One whose card has left is on by the order from now on.
    w.leave(BOX);
    assert_eq!(outcome(&on(&mut w)).0, None);
    w.pass_s(60);
    assert!(w.is_on(BOX));
    w.assert_replay_is_life();
}
