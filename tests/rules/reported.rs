//! What a box only reports never switches on, and a box that was switched off rests before it is switched on again.

use dormgate::access::decision::Reason;
use dormgate::access::effect::{Effect, PortalOrder};
use dormgate::access::event::{AlarmKind, Event, EventKind, Outcome};
use dormgate::access::id::ClockTrust;
use dormgate::access::input::{CommandKind, Input, PortalReport, Presented, Request};
use dormgate::access::policy::Policy;
use dormgate::access::portal::Direction;
use dormgate::access::power_box::{PowerSource, RELAY_SETTLE_MS};

use crate::world::{Seen, World, name, op, portals, uid};

const BOX: &str = "power-412";

fn room() -> World {
    let mut w = World::new();
    w.resident("A", "p1").resident("R", "p2");
    w
}

/// A room whose box rests for `rest_ms` after it was switched off.
fn resting_room(rest_ms: u32) -> World {
    let mut portals = portals();
    portals.iter_mut().for_each(|portal| portal.rest_ms = rest_ms);
    let mut w = World::of(Policy::default(), portals, Vec::new());
    w.resident("A", "p1").resident("R", "p2");
    w
}

/// A card in the box, the relay, or both, as one report.
fn state(w: &mut World, card: Option<&str>, relay: Option<bool>) -> Seen {
    let uid = card.map(|card| Presented::Card(uid(card)));
    let card_present = card.map(|_| true);
    w.report(BOX, PortalReport { online: Some(true), card_present, uid, relay, ..PortalReport::default() })
}

fn energised(seen: &Seen) -> Vec<bool> {
    let order = |e: &Effect| match e {
        Effect::Order(PortalOrder::Energise { announced, .. }) => Some(*announced),
        _ => None,
    };
    seen.0.iter().filter_map(order).collect()
}

/// Nothing switched on and no `power_on` reported, now and for a minute.
fn assert_stays_off(w: &mut World, mut seen: Seen) {
    seen.0.extend(w.pass_s(60).0);
    assert_eq!((seen.openings(), energised(&seen)), (0, vec![]));
    assert!(!seen.recorded().contains(&EventKind::PowerOn), "{:?}", seen.recorded());
    assert!(!w.is_on(BOX));
}

#[test]
fn a_box_that_was_cut_is_not_switched_on_by_a_restart() {
    let mut w = room();
    w.present(BOX, "A");
    w.relay(BOX, true);
    w.pass_s(10);
    w.publish(vec![op::power("412", true)]);
    w.relay(BOX, false);
    let mut seen = w.restart();
    seen.0.extend(w.publish(vec![op::power("412", false)]).0);
    // As a Modbus portal reports: the reader first, then the relay, then both again.
    for (card, relay) in [(Some("A"), None), (None, Some(false)), (Some("A"), Some(false))] {
        seen.0.extend(state(&mut w, card, relay).0);
        seen.0.extend(w.pass_s(2).0);
    }
    assert_stays_off(&mut w, seen);
    assert_eq!(w.present(BOX, "A"), "granted");
    assert!(w.is_on(BOX), "a card put in again is another matter");
}

#[test]
fn a_native_box_that_reports_a_card_and_then_its_relay_is_not_switched_on() {
    for pieces in [
        [(Some("A"), None), (Some("A"), Some(false))],
        [(None, Some(false)), (Some("A"), None)],
        [(Some("A"), Some(false)), (Some("A"), Some(false))],
    ] {
        let mut w = room();
        let mut seen = Seen(Vec::new());
        for (card, relay) in pieces {
            seen.0.extend(state(&mut w, card, relay).0);
        }
        assert_stays_off(&mut w, seen);
        w.assert_replay_is_life();
    }
}

#[test]
fn a_card_put_in_while_the_reader_was_silent_is_a_report_and_the_audit_does_not_report_power_on() {
    let mut w = room();
    w.report(
        BOX,
        PortalReport { online: Some(true), relay: Some(false), card_present: Some(false), ..PortalReport::default() },
    );
    // The reader is received again and shows the card: whoever put it in was not seen to do so.
    let seen = w.sits(BOX, "A", None);
    assert_stays_off(&mut w, seen);
}

#[test]
fn a_box_that_reports_a_permitted_card_and_its_relay_on_is_on_and_not_switched_on_when_it_falls() {
    for pieces in [[(Some("A"), Some(true)), (None, None)], [(Some("A"), None), (None, Some(true))]] {
        let mut w = room();
        let mut seen = Seen(Vec::new());
        pieces.into_iter().for_each(|(card, relay)| seen.0.extend(state(&mut w, card, relay).0));
        assert_eq!((seen.openings(), seen.cuts()), (0, vec![]));
        assert_eq!(seen.recorded().iter().filter(|kind| **kind == EventKind::PowerOn).count(), 1);
        assert_eq!(w.engine.boxes()[BOX].source(), Some(PowerSource::Reported(uid("A"))));
        for restarted in [false, true] {
            if restarted {
                w.restart();
                state(&mut w, Some("A"), Some(true));
            }
            assert!(w.is_on(BOX));
        }
        let fallen = w.relay(BOX, false);
        assert_eq!((energised(&fallen), fallen.cuts()), (vec![], vec![(BOX, "relay_off")]));
        assert_stays_off(&mut w, Seen(Vec::new()));
        w.assert_replay_is_life();
    }
}

#[test]
fn a_card_that_may_be_the_reason_for_power_is_cut_when_it_loses_its_right() {
    let mut w = room();
    // A box that never reports its relay, after a start without memory.
    assert_eq!(w.sits(BOX, "A", None).cuts(), []);
    assert_eq!(w.publish(vec![op::report_lost("uid:A")]).cuts(), [(BOX, "lost")]);
}

#[test]
fn a_strangers_card_reported_in_place_of_a_residents_is_raised_and_the_resident_has_left() {
    for relay in [None, Some(true)] {
        let mut w = room();
        w.present(BOX, "A");
        w.relay(BOX, true);
        w.pass_s(10);
        let seen = w.sits(BOX, "X", relay);
        assert_eq!(seen.alarms(), [AlarmKind::PowerWithoutCard]);
        let event = &seen.records().find(|r| r.event.kind() == EventKind::Alarm).unwrap().event.body;
        assert_eq!(event.uid(), Some(uid("X")));
        assert!(event.detail().contains("unknown_credential"));
        assert_eq!(w.sits(BOX, "X", relay).alarms(), [], "raised once");
        // The first card has left: what happens to it is no matter of the box, and the delay runs.
        let mut seen = w.pass_s(14);
        assert_eq!(seen.cuts(), []);
        seen.0.extend(w.pass_s(1).0);
        assert_eq!(seen.cuts(), [(BOX, "card_left")]);
        w.assert_replay_is_life();
    }
}

#[test]
fn another_residents_card_reported_in_place_of_the_first_has_the_box_on_by_it() {
    let mut w = room();
    w.present(BOX, "A");
    w.relay(BOX, true);
    let seen = w.sits(BOX, "R", Some(true));
    assert_eq!((seen.recorded(), seen.cuts()), (vec![EventKind::PowerOn], vec![]));
    assert_eq!(w.publish(vec![op::report_lost("uid:A")]).cuts(), []);
    assert_eq!(w.publish(vec![op::report_lost("uid:R")]).cuts(), [(BOX, "lost")]);
}

#[test]
fn a_box_that_was_off_and_reads_on_is_cut_although_a_card_that_may_is_in_it() {
    let mut w = room();
    state(&mut w, Some("A"), Some(false));
    w.pass_s(10);
    let seen = w.relay(BOX, true);
    assert_eq!((seen.cuts().len(), seen.alarms()), (1, vec![AlarmKind::PowerWithoutCard]));
}

#[test]
fn a_permitted_card_that_nobody_knew_to_be_in_a_box_that_reads_on_is_judged_before_the_relay() {
    let empty = || PortalReport {
        online: Some(true),
        card_present: Some(false),
        relay: Some(false),
        ..PortalReport::default()
    };
    let away = || PortalReport { online: Some(false), ..PortalReport::default() };
    for (card, was_away, in_pieces, is_taken) in [
        ("A", true, false, true),
        ("A", true, true, true),
        ("A", false, false, true),
        // Nothing was there when the relay was reported, or was seen to come after it.
        ("A", false, true, false),
        ("X", true, false, false),
        ("X", false, false, false),
    ] {
        let mut w = room();
        w.report(BOX, empty());
        w.pass_s(4);
        if was_away {
            w.report(BOX, away());
        }
        let mut seen = if in_pieces { state(&mut w, Some(card), None) } else { Seen(Vec::new()) };
        seen.0.extend(state(&mut w, if in_pieces { None } else { Some(card) }, Some(true)).0);
        seen.0.extend(w.pass_s(4).0);
        let case = (card, was_away, in_pieces);
        assert_eq!((seen.openings(), energised(&seen)), (0, vec![]), "{case:?}");
        assert_eq!((seen.cuts().is_empty(), seen.alarms().is_empty()), (is_taken, is_taken), "{case:?}");
        assert_eq!(seen.recorded().contains(&EventKind::PowerOn), is_taken, "{case:?}");
        assert_eq!(w.is_on(BOX), is_taken, "{case:?}");
        w.assert_replay_is_life();
    }
}

#[test]
fn a_box_that_was_cut_stays_so_while_its_card_lies_there_also_after_it_was_away() {
    for ordered_while_away in [false, true] {
        let mut w = room();
        w.present(BOX, "A");
        w.relay(BOX, true);
        let away = || PortalReport { online: Some(false), ..PortalReport::default() };
        if ordered_while_away {
            w.report(BOX, away());
        }
        w.command("off", CommandKind::Power { portal: name(BOX), on: false });
        if !ordered_while_away {
            w.relay(BOX, false);
            w.report(BOX, away());
        }
        w.pass_s(10);
        let mut seen = state(&mut w, Some("A"), Some(true));
        seen.0.extend(w.pass_s(4).0);
        assert!(!seen.cuts().is_empty() && !w.is_on(BOX));
    }
}

/// A relay that does as it is ordered, and counts.
#[derive(Default)]
struct Relay {
    on: bool,
    switched_on: usize,
}

impl Relay {
    fn follow(&mut self, seen: &Seen) {
        for effect in &seen.0 {
            let on = match effect {
                Effect::Order(PortalOrder::Answer { decision, delay_ms: None, .. }) if decision.is_grant() => true,
                Effect::Order(PortalOrder::Energise { .. }) => true,
                Effect::Order(PortalOrder::Cut { .. }) => false,
                _ => continue,
            };
            self.switched_on += usize::from(on && !self.on);
            self.on = on;
        }
    }
}

#[test]
fn two_good_cards_swapped_every_quarter_of_a_second_switch_as_often_as_the_rest_allows() {
    for exchanged in [false, true] {
        let mut w = resting_room(3_000);
        let mut relay = Relay::default();
        for swap in 0..40 {
            let card = if swap % 2 == 0 { "A" } else { "R" };
            let gone = PortalReport { card_present: Some(false), exchanged, ..PortalReport::default() };
            relay.follow(&w.report(BOX, gone));
            let seen = w.see(BOX, card);
            assert_eq!(seen.reason(), "granted");
            relay.follow(&seen);
            relay.follow(&w.pass_ms(250));
        }
        // Without an exchange the delay bridges the gap, and the relay is not touched at all.
        let most = if exchanged { 1 + 10_000 / 3_000 } else { 1 };
        assert!((1..=most).contains(&relay.switched_on), "{} times in 10 s", relay.switched_on);
        relay.follow(&w.pass_s(3));
        assert!(relay.on && w.is_on(BOX), "the card that stays has power");
        w.assert_replay_is_life();
    }
}

/// Cut a moment ago, and granted to A in its rest.
fn granted_in_the_rest() -> World {
    let mut w = resting_room(3_000);
    w.present(BOX, "A");
    w.command("off", CommandKind::Power { portal: name(BOX), on: false });
    w.pass_ms(1_000);
    let seen = w.see(BOX, "A");
    let delay = seen.0.iter().find_map(|e| match e {
        Effect::Order(PortalOrder::Answer { delay_ms, .. }) => Some(*delay_ms),
        _ => None,
    });
    assert_eq!((seen.reason(), delay), ("granted", Some(Some(2_000))));
    assert!(!w.is_on(BOX) && !seen.recorded().contains(&EventKind::PowerOn));
    w
}

#[test]
fn a_card_granted_in_the_rest_gets_the_power_at_its_end() {
    let mut w = granted_in_the_rest();
    assert_eq!(energised(&w.pass_ms(1_999)), Vec::<bool>::new());
    let seen = w.pass_ms(1);
    assert_eq!((energised(&seen), seen.recorded()), (vec![true], vec![EventKind::PowerOrdered]));
    assert!(w.is_on(BOX));
    w.assert_replay_is_life();
}

#[test]
fn a_card_that_leaves_or_loses_its_right_in_the_rest_gets_none_and_the_device_is_ordered_off() {
    for lost in [false, true] {
        let mut w = granted_in_the_rest();
        let seen = if lost { w.publish(vec![op::report_lost("uid:A")]) } else { w.leave(BOX) };
        assert_eq!(seen.cuts(), [(BOX, if lost { "lost" } else { "card_left" })]);
        assert!(!seen.recorded().contains(&EventKind::PowerOff), "it was not on");
        assert_stays_off(&mut w, seen);
    }
}

#[test]
fn a_repeated_number_in_the_rest_gets_the_same_answer_with_what_is_left_of_it() {
    let mut w = resting_room(3_000);
    w.present(BOX, "A");
    w.command("off", CommandKind::Power { portal: name(BOX), on: false });
    for (recorded, left) in [(1, 3_000), (0, 2_000)] {
        let request = Request { id: Some("7".to_owned()), ..w.request(BOX, Presented::Card(uid("A"))) };
        let seen = w.input(Input::Request(request));
        assert_eq!(seen.recorded().len(), recorded);
        assert!(matches!(
            &seen.0[0],
            Effect::Order(PortalOrder::Answer { delay_ms: Some(ms), decision, .. }) if *ms == left && decision.is_grant()
        ));
        w.pass_ms(1_000);
    }
}

#[test]
fn a_command_in_the_rest_switches_on_at_its_end() {
    let mut w = resting_room(3_000);
    w.present(BOX, "A");
    w.command("off", CommandKind::Power { portal: name(BOX), on: false });
    let seen = w.command("on", CommandKind::Power { portal: name(BOX), on: true });
    assert_eq!((seen.reply().status.as_str(), energised(&seen)), ("ok", vec![]));
    assert_eq!(energised(&w.pass_s(3)), [false]);
    assert!(w.is_on(BOX));
    w.assert_replay_is_life();
}

#[test]
fn a_rest_is_as_long_over_a_restart_as_without_one() {
    for (what, clock, off_s, left_ms) in [
        ("by the wall clock", ClockTrust::Trusted, 5, 15_000),
        ("it was over before", ClockTrust::Trusted, 60, 0),
        ("from the start on, where nobody knows", ClockTrust::Untrusted, 60, 20_000),
    ] {
        for reported in [false, true] {
            let mut w = resting_room(20_000);
            w.present(BOX, "A");
            w.relay(BOX, true);
            w.command("off", CommandKind::Power { portal: name(BOX), on: false });
            w.relay(BOX, false);
            w.leave(BOX);
            w.pass_s(off_s);
            w.clock = clock;
            // The monotonic clock of a new run begins at zero.
            w.wall_off_ms += i64::try_from(w.elapsed_ms).unwrap();
            w.elapsed_ms = 0;
            w.restart();
            if reported {
                state(&mut w, None, Some(false));
            }
            assert_eq!(w.see(BOX, "A").reason(), "granted");
            assert_eq!(w.is_on(BOX), left_ms == 0, "{what}");
            w.pass_ms(u64::max(left_ms, 1) - 1);
            assert_eq!(w.is_on(BOX), left_ms == 0, "{what}");
            w.pass_ms(1);
            assert!(w.is_on(BOX), "{what}");
            w.assert_replay_is_life();
        }
    }
    // One that was never switched off, or is on, does not rest.
    let mut w = resting_room(20_000);
    w.restart();
    w.present(BOX, "A");
    assert!(w.is_on(BOX));
    w.restart();
    w.present(BOX, "R");
    assert!(w.is_on(BOX));
}

#[test]
fn a_relay_that_sticks_in_the_rest_is_ordered_off_again() {
    let mut w = resting_room(60_000);
    w.present(BOX, "A");
    w.relay(BOX, true);
    w.command("off", CommandKind::Power { portal: name(BOX), on: false });
    w.relay(BOX, true);
    let seen = w.pass_ms(RELAY_SETTLE_MS);
    assert_eq!((seen.cuts().len(), seen.alarms()), (1, vec![AlarmKind::PowerWithoutCard]));
}

#[test]
fn a_report_of_a_card_nobody_remembers_keeps_on_what_may_and_cuts_what_may_not() {
    let mut w = World::new();
    w.resident("A", "p1");
    let seen = w.sits("power-412", "A", Some(true));
    assert_eq!((seen.openings(), seen.cuts()), (0, vec![]));
    assert_eq!(w.engine.boxes()["power-412"].source(), Some(PowerSource::Reported(uid("A"))));
    assert_eq!(w.publish(vec![op::freeze("uid:A")]).cuts(), [("power-412", "frozen")]);
    let seen = w.sits("power-413", "A", Some(true));
    assert_eq!((seen.cuts(), seen.alarms()), (vec![("power-413", "frozen")], vec![AlarmKind::PowerWithoutCard]));
    assert_eq!(w.sits("power-413", "A", Some(true)).alarms(), [], "raised once");
}

#[test]
fn a_report_of_a_card_that_may_not_is_in_the_audit_also_while_its_alarm_is_held_back() {
    let mut w = World::new();
    w.resident("A", "p1");
    for alarms in [vec![AlarmKind::PowerWithoutCard], vec![]] {
        let seen = w.sits("power-412", "X", Some(true));
        let denials = seen.records().filter_map(|record| match &record.event.body {
            Event::Decision { who, outcome: Outcome::Deny(reason), .. } => Some((who.uid, *reason)),
            _ => None,
        });
        assert_eq!(denials.collect::<Vec<_>>(), [(Some(uid("X")), Reason::UnknownCredential)]);
        assert_eq!(seen.alarms(), alarms);
        w.leave("power-412");
    }
}

#[test]
fn a_report_alone_never_switches_on() {
    let mut w = World::new();
    w.resident("A", "p1");
    assert_eq!(w.sits("power-412", "A", Some(false)).openings(), 0);
    assert!(!w.is_on("power-412"));
    assert_eq!(w.present("power-412", "A"), "granted");
}

#[test]
fn a_box_that_reports_that_somebody_passed_makes_no_passage() {
    let mut w = room();
    let seen = w.passed(BOX, Direction::In);
    assert!(!seen.recorded().contains(&EventKind::Taken), "{:?}", seen.recorded());
    assert!(w.passed("gate-in", Direction::In).recorded().contains(&EventKind::Taken));
}
