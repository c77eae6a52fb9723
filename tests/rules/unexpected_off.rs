//! A box that is to be on and reads off: power failed, a fuse went, somebody switched. It is judged again, and switched on again
//! a few times or not at all; nothing stays on for the audit and off in the room.

use dormgate::access::effect::{Effect, PortalOrder};
use dormgate::access::event::{AlarmKind, EventKind};
use dormgate::access::input::{CommandKind, PortalReport};
use dormgate::access::power_box::{RELAY_AGAIN_MAX, RELAY_AGAIN_WINDOW_MS};

use crate::world::{Seen, World, name, op};

const BOX: &str = "power-412";
/// Longer than a report may still be that of before an order, in seconds.
const SETTLED_S: u64 = 4;

/// P1's card A is in the box of 412, which has reported that its relay is on.
fn lit() -> World {
    let mut w = World::new();
    w.resident("A", "p1").resident("R", "p2");
    assert_eq!(w.present(BOX, "A"), "granted");
    w.relay(BOX, true);
    w.pass_s(SETTLED_S);
    w
}

fn energised(seen: &Seen) -> usize {
    seen.0.iter().filter(|e| matches!(e, Effect::Order(PortalOrder::Energise { .. }))).count()
}

fn away(w: &mut World) {
    w.report(BOX, PortalReport { online: Some(false), ..PortalReport::default() });
}

#[test]
fn a_relay_that_goes_off_by_itself_is_switched_on_again_by_the_card_that_lies_there() {
    let mut w = lit();
    let seen = w.relay(BOX, false);
    assert_eq!((energised(&seen), seen.cuts(), seen.alarms()), (1, vec![], vec![]));
    assert_eq!(seen.recorded(), [EventKind::PowerOrdered], "it is in the audit");
    assert_eq!(w.relay(BOX, true).recorded(), [EventKind::PowerOn]);
    assert_eq!(energised(&w.pass_s(60)), 0);
    assert!(w.is_on(BOX));
    w.assert_replay_is_life();
}

#[test]
fn a_relay_that_trips_each_time_is_left_off_after_some_tries_and_raised() {
    let mut w = lit();
    let (mut again, mut cuts, mut alarms) = (0, 0, Vec::new());
    for _ in 0..60 {
        for on in [false, true] {
            if on && !w.is_on(BOX) {
                continue;
            }
            let mut all = w.relay(BOX, on);
            // It holds for a second; off it stays until somebody switches it on.
            all.0.extend(w.pass_s(if on { 1 } else { SETTLED_S }).0);
            again += energised(&all);
            cuts += all.cuts().len();
            alarms.extend(all.alarms());
        }
    }
    assert_eq!((again, cuts, alarms), (RELAY_AGAIN_MAX, 1, vec![AlarmKind::PortalOffline]));
    assert!(!w.is_on(BOX));
    w.assert_replay_is_life();
    let open = |w: &World| w.engine.open_alarms().get(&AlarmKind::PortalOffline).copied().unwrap_or_default();
    // Whoever puts a card in is let have power, and much later the tries count again. The alarm lasts until the box is on.
    w.pass_ms(RELAY_AGAIN_WINDOW_MS);
    for online in [false, true] {
        w.report(BOX, PortalReport { online: Some(online), ..PortalReport::default() });
    }
    assert_eq!(open(&w), 1, "it was away and is back, and as dark as before");
    assert_eq!((w.present(BOX, "A"), open(&w)), ("granted", 1));
    let on = w.relay(BOX, true);
    assert_eq!((on.ended(), open(&w)), (vec![AlarmKind::PortalOffline], 0));
    w.pass_s(SETTLED_S);
    assert_eq!(energised(&w.relay(BOX, false)), 1);
}

#[test]
fn off_reported_just_after_an_order_counts_when_nothing_else_was_reported_since() {
    let mut w = World::new();
    w.resident("A", "p1");
    w.present(BOX, "A");
    assert_eq!(energised(&w.relay(BOX, false)), 0, "may be from before the grant");
    w.relay(BOX, true);
    assert_eq!(energised(&w.pass_s(60)), 0);
    w.present(BOX, "A");
    w.relay(BOX, false);
    assert_eq!(energised(&w.pass_s(60)), 1);
}

#[test]
fn a_box_that_lost_its_power_is_on_again_when_it_reports_that_the_card_is_there() {
    for relay_first in [true, false] {
        let mut w = lit();
        away(&mut w);
        w.pass_s(60);
        let seen = if relay_first {
            assert_eq!(energised(&w.relay(BOX, false)), 0, "the card may have gone meanwhile");
            w.sits(BOX, "A", None)
        } else {
            assert_eq!(energised(&w.sits(BOX, "A", None)), 0);
            w.relay(BOX, false)
        };
        assert_eq!(energised(&seen), 1, "{relay_first}");
        assert_eq!(energised(&w.pass_s(60)), 0);
        w.assert_replay_is_life();
    }
}

#[test]
fn a_box_that_lost_its_power_and_its_card_stays_off() {
    let mut w = lit();
    away(&mut w);
    w.relay(BOX, false);
    assert_eq!(energised(&w.leave(BOX)), 0);
    let seen = w.pass_s(15);
    assert_eq!((energised(&seen), seen.cuts()), (0, vec![(BOX, "card_left")]));
}

#[test]
fn a_box_that_lost_its_power_is_judged_again() {
    let mut w = lit();
    away(&mut w);
    w.publish(vec![op::report_lost("uid:A")]);
    let mut seen = w.relay(BOX, false);
    seen.0.extend(w.sits(BOX, "A", Some(false)).0);
    assert_eq!(energised(&seen), 0);
    assert!(!w.is_on(BOX));

    let mut w = lit();
    away(&mut w);
    w.relay(BOX, false);
    let seen = w.sits(BOX, "R", Some(false));
    assert_eq!(energised(&seen), 0, "another that may, but nobody saw it put in");
    assert_eq!(w.pass_s(15).cuts(), [(BOX, "card_left")]);
}

#[test]
fn after_a_restart_only_a_card_that_is_reported_there_switches_on() {
    let mut w = lit();
    assert_eq!(energised(&w.restart()), 0);
    assert_eq!(energised(&w.relay(BOX, false)), 0, "remembered is not shown");
    assert_eq!(energised(&w.pass_s(60)), 0);
    assert_eq!(energised(&w.sits(BOX, "A", None)), 1);
    w.assert_replay_is_life();
}

#[test]
fn a_box_that_a_command_switched_on_is_not_switched_on_twice() {
    let mut w = World::new();
    w.command("on", CommandKind::Power { portal: name(BOX), on: true });
    w.relay(BOX, true);
    w.pass_s(SETTLED_S);
    let seen = w.relay(BOX, false);
    assert_eq!((energised(&seen), seen.cuts()), (0, vec![(BOX, "relay_off")]), "a command acts once");
    assert_eq!(seen.alarms(), [AlarmKind::PortalOffline]);
    assert!(!w.is_on(BOX));
    w.assert_replay_is_life();
}

#[test]
fn a_box_whose_delay_runs_is_not_switched_on_for_nobody() {
    let mut w = lit();
    w.leave(BOX);
    assert_eq!(energised(&w.relay(BOX, false)), 0);
    assert_eq!(energised(&w.sits(BOX, "A", None)), 1, "it is back");
}

#[test]
fn after_the_mains_came_back_boxes_are_switched_on_one_after_another() {
    const OTHER: &str = "power-413";
    const STAGGER_MS: u64 = 150;
    let mut w = World::new();
    assert_eq!(u64::from(w.setup.policy.power_stagger_ms), STAGGER_MS);
    w.resident("A", "p1").issue("R", "p2").enrol("R", "p2", "power_box:413");
    for (place, card) in [(BOX, "A"), (OTHER, "R")] {
        assert_eq!(w.present(place, card), "granted");
        w.relay(place, true);
    }
    w.pass_s(SETTLED_S);
    let gone = || PortalReport { online: Some(false), ..PortalReport::default() };
    w.report(BOX, gone());
    w.report(OTHER, gone());
    w.pass_s(60);
    let first = w.sits(BOX, "A", Some(false));
    let mut second = w.sits(OTHER, "R", Some(false));
    // It reports it again while it waits, and keeps its turn.
    second.0.extend(w.relay(OTHER, false).0);
    assert_eq!((energised(&first), energised(&second)), (1, 0));
    assert_eq!(energised(&w.pass_ms(STAGGER_MS - 1)), 0);
    assert_eq!(energised(&w.pass_ms(1)), 1);
    assert_eq!(energised(&w.pass_s(60)), 0);
    // A card that goes before its turn has come has no turn.
    w.report(BOX, gone());
    w.report(OTHER, gone());
    w.sits(BOX, "A", Some(false));
    w.sits(OTHER, "R", Some(false));
    w.leave(OTHER);
    assert_eq!(energised(&w.pass_s(60)), 0);
    assert!(!w.is_on(OTHER));
    w.assert_replay_is_life();
}

#[test]
fn a_relay_that_flaps_while_it_waits_for_its_turn_takes_no_turns_from_the_others() {
    const OTHER: &str = "power-413";
    let mut w = World::new();
    w.resident("A", "p1").issue("R", "p2").enrol("R", "p2", "power_box:413");
    for (place, card) in [(BOX, "A"), (OTHER, "R")] {
        assert_eq!(w.present(place, card), "granted");
        w.relay(place, true);
    }
    w.pass_s(SETTLED_S);
    assert_eq!(energised(&w.relay(OTHER, false)), 1);
    w.relay(OTHER, true);
    for _ in 0..1000 {
        w.relay(BOX, false);
        w.relay(BOX, true);
    }
    w.pass_s(SETTLED_S);
    assert_eq!(energised(&w.relay(OTHER, false)), 1, "it waits behind turns that nobody takes");
    assert!(w.is_on(BOX));
    w.assert_replay_is_life();
}
