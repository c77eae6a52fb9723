//! Meters: the readings that count, and a load with no card.

use dormgate::access::effect::Effect;
use dormgate::access::engine::{METER_ENERGY_KWH_MAX, METER_POWER_W_MAX, METER_STALE_MS, SHARED_METER_POWER_W_MAX};
use dormgate::access::event::{AlarmKind, EventKind};
use dormgate::access::input::{CommandKind, PortalReport};
use dormgate::access::power_box::{LOAD_MS, LOAD_W, RELAY_SETTLE_MS};

use crate::world::{Seen, World, name, op};

const BOX: &str = "power-412";

fn room() -> World {
    let mut w = World::new();
    w.resident("A", "p1");
    w
}

fn measures(w: &mut World, power_w: f64) -> Seen {
    w.report(BOX, PortalReport { power_w: Some(power_w), ..PortalReport::default() })
}

/// The meters in the state.
fn shown(w: &World) -> Vec<(String, Option<f64>, Option<f64>)> {
    let meters = w.engine.status(w.now()).meters;
    meters.into_iter().map(|m| (m.portal.to_string(), m.power_w, m.energy_kwh)).collect()
}

fn metered(seen: &Seen) -> Vec<(Option<f64>, Option<f64>)> {
    let value = |e: &Effect| match e {
        Effect::Metered { power_w, energy_kwh, .. } => Some((*power_w, *energy_kwh)),
        _ => None,
    };
    seen.0.iter().filter_map(value).collect()
}

#[test]
fn a_reading_is_shown_until_its_portal_is_offline() {
    let mut w = room();
    let both = PortalReport { power_w: Some(41.2), energy_kwh: Some(103.4), ..PortalReport::default() };
    assert_eq!(metered(&w.report(BOX, both)), [(Some(41.2), Some(103.4))]);
    assert_eq!(metered(&measures(&mut w, 50.0)), [(Some(50.0), Some(103.4))]);
    assert_eq!(shown(&w), [(BOX.to_owned(), Some(50.0), Some(103.4))]);
    let gone = w.report(BOX, PortalReport { online: Some(false), power_w: Some(1.0), ..PortalReport::default() });
    assert_eq!(metered(&gone), [(None, None)]);
    assert_eq!(shown(&w), []);
    assert_eq!(measures(&mut w, f64::NAN).recorded(), [EventKind::PortalOnline, EventKind::Alarm]);
    assert_eq!(shown(&w), [], "no number is no reading");
}

#[test]
fn a_value_that_no_meter_here_can_have_is_not_known_and_counts_as_malformed() {
    let reading = |power_w, energy_kwh, shared_meter| PortalReport {
        power_w: Some(power_w),
        energy_kwh: Some(energy_kwh),
        shared_meter,
        ..PortalReport::default()
    };
    let (power, energy, shared) = (METER_POWER_W_MAX, METER_ENERGY_KWH_MAX, SHARED_METER_POWER_W_MAX);
    let before = Some(103.4);
    for (report, expected, wrong) in [
        (reading(power, energy, false), (Some(power), Some(energy)), 0),
        (reading(-power, 103.4, false), (Some(-power), before), 0),
        (reading(power + 1.0, 1e30, false), (None, before), 2),
        (reading(-1e9, -1.0, false), (None, before), 2),
        (reading(power + 1.0, energy, true), (Some(power + 1.0), Some(energy)), 0),
        (reading(shared + 1.0, energy, true), (None, Some(energy)), 1),
    ] {
        let mut w = room();
        w.report(BOX, reading(41.2, 103.4, false));
        let text = format!("{report:?}");
        w.report(BOX, report);
        assert_eq!(shown(&w), [(BOX.to_owned(), expected.0, expected.1)], "{text}");
        let named = w.engine.status(w.now()).malformed;
        assert_eq!(named.iter().map(|(_, all)| all.split("; `").count()).sum::<usize>(), wrong, "{text}: {named:?}");
    }
    let mut w = room();
    // A meter that is set up wrongly does so again and again.
    let raised: Vec<_> = (0..6).flat_map(|_| measures(&mut w, 4e9).alarms()).collect();
    assert_eq!(raised, [AlarmKind::PortalMalformed]);
}

#[test]
fn a_value_that_is_not_known_any_more_is_not_the_last_one() {
    let mut w = room();
    w.report(BOX, PortalReport { power_w: Some(41.2), energy_kwh: Some(103.4), ..PortalReport::default() });
    assert_eq!(metered(&measures(&mut w, f64::NAN)), [(None, Some(103.4))]);
    assert_eq!(w.pass_s(60).alarms(), [], "a load that is not known is no load");
    assert_eq!(shown(&w), [(BOX.to_owned(), None, Some(103.4))]);
}

#[test]
fn a_decrease_of_the_energy_counter_counts_when_it_repeats() {
    let mut w = room();
    let counts = |w: &mut World, kwh| {
        w.report(BOX, PortalReport { energy_kwh: Some(kwh), ..PortalReport::default() });
        shown(w)[0].2
    };
    assert_eq!(counts(&mut w, 103.4), Some(103.4));
    assert_eq!(counts(&mut w, 0.0), Some(103.4));
    assert_eq!(counts(&mut w, f64::NAN), Some(103.4));
    assert_eq!(counts(&mut w, 103.5), Some(103.5));
    assert_eq!(counts(&mut w, 0.0), Some(103.5), "once again is not twice");
    assert_eq!(counts(&mut w, 0.1), Some(0.1), "another meter was put in");
}

#[test]
fn a_reading_that_nobody_repeats_is_forgotten_and_each_value_by_itself() {
    let mut w = room();
    w.report(BOX, PortalReport { energy_kwh: Some(103.4), ..PortalReport::default() });
    w.pass_ms(METER_STALE_MS / 2);
    measures(&mut w, 0.0);
    w.pass_ms(METER_STALE_MS / 2 - 1);
    assert_eq!(shown(&w), [(BOX.to_owned(), Some(0.0), Some(103.4))]);
    let mut seen = metered(&w.pass_ms(1));
    assert_eq!(seen.pop(), Some((Some(0.0), None)));
    assert_eq!(shown(&w), [(BOX.to_owned(), Some(0.0), None)]);
    let mut seen = metered(&w.pass_ms(METER_STALE_MS));
    assert_eq!((seen.pop(), shown(&w)), (Some((None, None)), vec![]));
    assert_eq!(w.engine.next_deadline(), None, "nothing is left to look at");
}

#[test]
fn a_load_of_ten_seconds_at_a_box_that_is_off_is_one_alarm() {
    let mut w = room();
    assert_eq!(measures(&mut w, 41.2).alarms(), []);
    assert_eq!(w.pass_ms(LOAD_MS - 1).alarms(), []);
    let seen = w.pass_ms(1);
    assert_eq!((seen.alarms(), seen.cuts()), (vec![AlarmKind::PowerWithoutCard], vec![(BOX, "card_left")]));
    let detail = seen.records().map(|r| r.event.body.detail().to_owned()).find(|d| !d.is_empty()).unwrap();
    assert!(detail.starts_with("a load of 41 W"), "{detail}");
    for _ in 0..20 {
        w.pass_s(10);
        assert_eq!(measures(&mut w, 45.0).alarms(), [], "raised once");
    }
    // It ends and begins again.
    measures(&mut w, 0.4);
    w.pass_s(600);
    measures(&mut w, 45.0);
    assert_eq!(w.pass_s(60).alarms(), [AlarmKind::PowerWithoutCard]);
}

#[test]
fn a_load_waits_its_ten_seconds_also_where_the_relay_is_judged_before() {
    let mut w = room();
    measures(&mut w, 41.2);
    w.pass_s(6);
    w.command("off", CommandKind::Power { portal: name(BOX), on: false });
    w.relay(BOX, true);
    assert_eq!(w.pass_s(3).cuts().len(), 1, "the relay");
    assert_eq!(w.pass_ms(999).cuts(), []);
    assert_eq!(w.pass_ms(1).cuts().len(), 1, "the load");
}

#[test]
fn what_a_box_takes_by_itself_or_for_a_moment_or_with_a_card_is_no_alarm() {
    let mut w = room();
    measures(&mut w, LOAD_W);
    assert_eq!(w.pass_s(60).alarms(), [AlarmKind::PowerWithoutCard], "the least that is a load");
    let mut w = room();
    measures(&mut w, LOAD_W - 0.1);
    assert_eq!(w.pass_s(60).alarms(), []);
    measures(&mut w, 41.2);
    w.pass_s(9);
    measures(&mut w, 0.0);
    assert_eq!(w.pass_s(60).alarms(), []);
    // A card comes before the ten seconds are over.
    measures(&mut w, 41.2);
    w.present(BOX, "A");
    assert_eq!(w.pass_s(60).alarms(), []);
    measures(&mut w, 2000.0);
    assert_eq!(w.pass_s(60).alarms(), []);
    // The card has left, and the delay runs.
    w.leave(BOX);
    measures(&mut w, 2000.0);
    assert_eq!(w.pass_s(14).alarms(), []);
    // On by command.
    let mut w = room();
    measures(&mut w, 41.2);
    w.command("on", CommandKind::Power { portal: name(BOX), on: true });
    measures(&mut w, 41.2);
    assert_eq!(w.pass_s(60).alarms(), []);
}

#[test]
fn a_reading_just_after_a_cut_may_be_from_before_and_one_later_is_not() {
    for (after_ms, raised) in [(RELAY_SETTLE_MS - 1, vec![]), (RELAY_SETTLE_MS, vec![AlarmKind::PowerWithoutCard])] {
        let mut w = room();
        w.present(BOX, "A");
        measures(&mut w, 41.2);
        w.publish(vec![op::report_lost("uid:A")]);
        w.pass_ms(after_ms);
        measures(&mut w, 41.2);
        assert_eq!(w.pass_s(60).alarms(), raised, "{after_ms}");
    }
}

#[test]
fn a_relay_that_reads_on_with_a_load_is_one_alarm() {
    let mut w = room();
    let welded = PortalReport { relay: Some(true), power_w: Some(41.2), ..PortalReport::default() };
    assert_eq!(w.report(BOX, welded).alarms(), [AlarmKind::PowerWithoutCard]);
    for _ in 0..5 {
        w.pass_s(10);
        assert_eq!(measures(&mut w, 41.2).alarms(), []);
    }
}

#[test]
fn a_meter_of_several_boxes_and_one_at_a_gate_raise_nothing() {
    let mut w = room();
    let of_all = PortalReport { power_w: Some(2000.0), shared_meter: true, ..PortalReport::default() };
    w.report(BOX, of_all);
    w.report("gate-in", PortalReport { power_w: Some(2000.0), ..PortalReport::default() });
    assert_eq!(w.pass_s(60).alarms(), []);
    assert_eq!(shown(&w).len(), 2);
}

#[test]
fn a_suspicion_ends_with_the_meter() {
    let mut w = room();
    measures(&mut w, 41.2);
    w.report(BOX, PortalReport { online: Some(false), ..PortalReport::default() });
    assert_eq!(w.pass_s(60).alarms(), []);
}
