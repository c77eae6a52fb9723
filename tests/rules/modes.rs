//! Standing modes and fire: which posture is in force, who is reported it and when, and how a fire begins and ends.

use dormgate::access::effect::{Effect, PortalOrder};
use dormgate::access::event::{AlarmKind, EventKind, Record};
use dormgate::access::id::ClockTrust;
use dormgate::access::input::{ClockChange, Input, Operator, PortalReport};
use dormgate::access::policy::{Policy, UntrustedClock};
use dormgate::access::portal::Posture;

use crate::world::{BEGIN_MS, World, op};

#[test]
fn the_strongest_posture_of_center_operator_and_fire_is_in_force() {
    let mut w = World::new();
    w.resident("A", "p1");
    w.publish(vec![op::posture("*", Posture::FreeAccess, None)]);
    assert_eq!(w.present("gate-in", "X"), "free_access");
    w.operator("gate-in", Posture::OutOfService);
    assert_eq!((w.present("gate-in", "A"), w.present("door-412", "X")), ("out_of_service", "free_access"));
    w.publish(vec![op::posture("gate-in", Posture::Lockdown, None)]);
    assert_eq!(w.present("gate-in", "A"), "out_of_service", "what an operator closed opens for nobody");
    w.publish(vec![op::enrol_staff("A", "p1", "gate:*")]);
    assert_eq!(w.present("gate-in", "A"), "out_of_service", "staff included");
    w.operator("gate-in", Posture::Secure);
    assert_eq!(w.present("gate-in", "A"), "granted", "a lockdown lets staff in");
    w.fire("door-413", true);
    assert_eq!((w.present("gate-in", "X"), w.present("door-413", "X")), ("fire", "fire"));
    w.assert_replay_is_life();
}

#[test]
fn a_power_box_is_informed_of_its_posture_and_only_of_a_change() {
    let mut w = World::new();
    let seen = w.operator("power-412", Posture::Lockdown);
    assert_eq!((seen.informed(), seen.modes()), (vec![("power-412", Posture::Lockdown, false)], vec![]));
    assert_eq!(w.operator("power-412", Posture::Lockdown).informed(), []);
    assert_eq!(w.restart().informed(), [("power-412", Posture::Lockdown, false)]);
    assert_eq!(w.operator("", Posture::Secure).informed(), [("power-412", Posture::Secure, false)]);
}

#[test]
fn an_operators_posture_survives_a_restart_and_one_for_all_replaces_those_for_one() {
    let mut w = World::new();
    w.resident("A", "p1");
    w.operator("gate-in", Posture::Lockdown);
    let seen = w.restart();
    assert!(seen.modes().contains(&("gate-in", Posture::Lockdown)));
    assert_eq!(w.present("gate-in", "A"), "lockdown");
    let seen = w.operator("", Posture::Secure);
    assert_eq!(seen.modes(), [("gate-in", Posture::Secure)]);
    assert_eq!(w.present("gate-in", "A"), "granted");
    w.assert_replay_is_life();
}

#[test]
fn an_untrusted_clock_neither_ends_a_posture_early_nor_keeps_free_access() {
    const DAY_MS: i64 = 86_400_000;
    // What the wall clock is off by, whether the gateway restarts before, and the modes then, before the end, and after it.
    let in_one_run = [(Posture::FreeAccess, Posture::FreeAccess), (Posture::Lockdown, Posture::Lockdown)];
    let after_a_start = [(Posture::FreeAccess, Posture::Secure), (Posture::Lockdown, Posture::Lockdown)];
    for (off_ms, restarts, cases) in [
        (365 * DAY_MS, false, in_one_run),
        (-365 * DAY_MS, false, in_one_run),
        (365 * DAY_MS, true, after_a_start),
        (-365 * DAY_MS, true, after_a_start),
    ] {
        for (set, before) in cases {
            let mut w = World::new();
            w.publish(vec![op::posture("gate-in", set, Some(BEGIN_MS + 60_000))]);
            (w.wall_off_ms, w.clock) = (off_ms, ClockTrust::Untrusted);
            if restarts {
                w.restart();
            }
            w.input(Input::Clock(ClockChange::Untrusted));
            w.pass_s(59);
            let mode = |w: &World| {
                let modes = w.engine.status(w.now()).modes;
                modes.iter().find(|(id, _)| id.as_str() == "gate-in").map_or(Posture::Secure, |(_, mode)| *mode)
            };
            assert_eq!(mode(&w), before, "{set:?}, off by {off_ms} ms, restart: {restarts}");
            let ended = w.pass_s(1).modes().contains(&("gate-in", Posture::Secure));
            assert_eq!((ended, mode(&w)), (before != Posture::Secure, Posture::Secure), "{set:?} {off_ms} {restarts}");
            w.assert_replay_is_life();
        }
    }
    let grant = Policy { untrusted_clock: UntrustedClock::Grant, ..Policy::default() };
    let mut w = World::with(grant);
    w.publish(vec![op::posture("gate-in", Posture::FreeAccess, Some(BEGIN_MS + 60_000))]);
    w.clock = ClockTrust::Untrusted;
    w.restart();
    assert_eq!(w.present("gate-in", "X"), "free_access", "the policy grants it");
}

#[test]
fn a_posture_ends_at_its_end_and_no_older_one_comes_back() {
    let mut w = World::new();
    w.publish(vec![op::posture("*", Posture::FreeAccess, None)]);
    w.publish(vec![op::posture("gate-in", Posture::Lockdown, Some(BEGIN_MS + 60_000))]);
    assert_eq!((w.present("gate-in", "X"), w.present("door-412", "X")), ("lockdown", "free_access"));
    let seen = w.pass_s(60);
    assert_eq!(seen.modes(), [("gate-in", Posture::Secure)]);
    assert_eq!(w.present("gate-in", "X"), "unknown_credential");
    // The newer of `*` and the portal's own counts.
    let seen = w.publish(vec![op::posture("*", Posture::FreeAccess, None)]);
    assert_eq!(seen.modes(), [("gate-in", Posture::FreeAccess)]);
}

#[test]
fn a_portal_is_reported_its_mode_before_anything_is_written() {
    let mut w = World::new();
    for seen in [w.publish(vec![op::posture("*", Posture::Lockdown, None)]), w.fire("gate-in", true)] {
        let mode = seen.0.iter().rposition(|e| matches!(e, Effect::Order(PortalOrder::Mode { .. }))).unwrap();
        let records = |kind| move |e: &Effect| matches!(e, Effect::Record(r) if r.event.kind() == kind);
        let first = seen.0.iter().position(|e| records(EventKind::ChangesApplied)(e) || records(EventKind::Posture)(e));
        assert!(mode < first.unwrap());
    }
}

#[test]
fn a_door_that_was_held_open_is_reported_to_close_although_the_gateway_was_away_when_it_ended() {
    let mut w = World::new();
    w.publish(vec![op::posture("*", Posture::FreeAccess, Some(BEGIN_MS + 60_000))]);
    w.elapsed_ms += 120_000;
    let seen = w.restart();
    assert!(seen.modes().contains(&("gate-in", Posture::Secure)), "{:?}", seen.modes());
}

#[test]
fn a_door_that_comes_back_is_reported_its_mode_also_when_it_is_secure() {
    let mut w = World::new();
    w.restart();
    w.publish(vec![op::posture("*", Posture::FreeAccess, None)]);
    let online = |online| PortalReport { online: Some(online), ..PortalReport::default() };
    w.report("door-412", online(true));
    w.report("door-412", online(false));
    w.publish(vec![op::posture("*", Posture::Secure, None)]);
    assert_eq!(w.report("door-412", online(true)).modes(), [("door-412", Posture::Secure)]);
    // Also where the first sign of life is a card; and the mode comes before the answer, which it must not cut short.
    w.report("door-412", online(false));
    let seen = w.see("door-412", "X");
    assert_eq!(seen.modes(), [("door-412", Posture::Secure)]);
    assert!(matches!(seen.0[0], Effect::Order(PortalOrder::Mode { .. })));
    assert_eq!(w.see("door-412", "X").modes(), []);
}

#[test]
fn the_status_names_who_is_away_and_what_is_not_secure() {
    let mut w = World::new();
    let online = |online| PortalReport { online: Some(online), ..PortalReport::default() };
    let all: Vec<_> = w.setup.portals.iter().map(|p| p.id.as_str().to_owned()).collect();
    all.iter().for_each(|portal| drop(w.report(portal, online(true))));
    w.report("door-412", online(false));
    w.operator("gate-in", Posture::Lockdown);
    let status = w.engine.status(w.now());
    assert_eq!(status.offline.iter().map(|id| id.as_str()).collect::<Vec<_>>(), ["door-412"]);
    assert_eq!(usize::try_from(status.portals_online).unwrap(), all.len() - 1);
    assert_eq!(status.modes, [("gate-in".parse().unwrap(), Posture::Lockdown)]);
    w.fire("gate-in", true);
    assert_eq!(w.engine.status(w.now()).modes.len(), all.len(), "a fire is everywhere");
}

#[test]
fn a_fire_releases_everything_until_the_input_is_clear_and_an_operator_resets_it() {
    let mut w = World::new();
    w.publish(vec![op::posture("*", Posture::Lockdown, None)]);
    let seen = w.fire("power-412", true);
    assert_eq!(seen.modes().len(), 5, "every gate and door");
    assert_eq!(seen.alarms(), [AlarmKind::Fire]);
    assert_eq!(w.present("gate-in", "X"), "fire");
    let reset = || Input::Operator(Operator::FireReset { force: false }, None);
    w.input(reset());
    assert_eq!(w.present("gate-in", "X"), "fire", "the input is not clear");
    assert!(w.engine.fire_reset_refusal(false).unwrap().contains("power-412"));
    w.fire("power-412", false);
    assert_eq!(w.engine.fire_reset_refusal(false), None);
    assert_eq!(w.present("gate-in", "X"), "fire", "nobody reset it");
    w.restart();
    assert_eq!(w.present("gate-in", "X"), "fire", "a restart is no reset");
    let seen = w.input(reset());
    assert!(seen.modes().iter().all(|(_, posture)| *posture == Posture::Lockdown));
    assert_eq!(w.present("gate-in", "X"), "lockdown");
    assert!(w.engine.fire_reset_refusal(false).unwrap().contains("no fire latch"));
    w.assert_replay_is_life();
    w.restart();
    assert_eq!(w.present("gate-in", "X"), "lockdown");
}

#[test]
fn fire_inputs_survive_a_restart_and_those_of_a_portal_that_is_gone_are_set_aside_only_by_force() {
    let mut w = World::new();
    let online = |w: &mut World, portal: &str, online| {
        w.report(portal, PortalReport { online: Some(online), ..PortalReport::default() })
    };
    let reset = |w: &mut World, force| w.input(Input::Operator(Operator::FireReset { force }, None));
    w.fire("power-412", true);
    w.fire("door-413", true);
    assert_eq!(w.fire("door-413", true).recorded(), [], "one event an input");
    w.assert_replay_is_life();
    w.restart();
    assert!(w.engine.fire_reset_refusal(false).unwrap().contains("door-413, power-412"), "a restart forgets no input");
    online(&mut w, "power-412", true);
    online(&mut w, "door-413", false);
    assert!(w.engine.fire_reset_refusal(true).unwrap().contains("still active at power-412"), "it is there and burns");
    reset(&mut w, true);
    assert_eq!(w.present("gate-in", "X"), "fire");
    w.fire("power-412", false);
    w.assert_replay_is_life();
    reset(&mut w, false);
    assert_eq!(w.present("gate-in", "X"), "fire", "an input that is offline is not set aside without a word");
    assert!(w.engine.fire_reset_refusal(false).unwrap().contains("--force"));
    let seen = reset(&mut w, true);
    let aside = |r: &&Record| r.event.body.detail().contains("door-413");
    assert_eq!(seen.records().filter(aside).count(), 1, "audited");
    assert_eq!(w.present("gate-in", "X"), "unknown_credential");
    w.assert_replay_is_life();
    // It comes back and still burns.
    w.fire("door-413", true);
    assert_eq!(w.present("gate-in", "X"), "fire");
    // A portal that is not configured any more.
    w.setup.portals.retain(|p| p.id.as_str() != "door-413");
    w.restart();
    assert!(w.engine.fire_reset_refusal(false).is_some());
    reset(&mut w, true);
    assert_eq!(w.present("gate-in", "X"), "unknown_credential");
}

#[test]
fn a_portal_without_fire_input_puts_nothing_in_fire() {
    let mut w = World::new();
    w.setup.portals.iter_mut().filter(|p| p.id.as_str() == "gate-both").for_each(|p| p.fire_input = false);
    w.restart();
    let seen = w.fire("gate-both", true);
    assert_eq!(seen.alarms(), [AlarmKind::Fire], "somebody should look");
    assert!(seen.modes().iter().all(|(_, posture)| *posture == Posture::Secure));
    assert_eq!(w.present("gate-in", "X"), "unknown_credential");
    w.fire("gate-in", true);
    w.fire("gate-in", false);
    w.input(Input::Operator(Operator::FireReset { force: false }, None));
    assert_eq!(w.present("gate-in", "X"), "unknown_credential");
}

#[test]
fn a_gate_whose_absence_went_unnoticed_is_reported_once_more_what_it_was_reported_meanwhile() {
    let mut w = World::new();
    let online = || PortalReport { online: Some(true), ..PortalReport::default() };
    w.report("gate-in", online());
    w.operator("", Posture::FreeAccess);
    w.report("gate-in", online());
    // The local broker is away, and with it the gate's last will; nobody keeps the order for the gate.
    w.operator("", Posture::Lockdown);
    assert_eq!(w.report("gate-in", online()).modes(), [("gate-in", Posture::Lockdown)]);
    assert_eq!(w.report("gate-in", online()).modes(), [], "it received it this time");
}

#[test]
fn a_clock_set_back_brings_the_modes_it_is_time_for() {
    let mut w = World::new();
    w.publish(vec![op::posture("gate-in", Posture::Lockdown, Some(BEGIN_MS + 60_000))]);
    w.pass_s(61);
    w.wall_off_ms = -30_000;
    let seen = w.input(Input::Clock(ClockChange::Step { by_ms: -30_000 }));
    assert_eq!(seen.modes(), [("gate-in", Posture::Lockdown)]);
}
