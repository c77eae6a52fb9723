//! Schedules in force: who may when, what ends with them and what does not begin with them, and what holds while the time is not known.
//! The tests begin on a Tuesday at 08:00 in Shanghai.

use dormgate::access::calendar::Calendar;
use dormgate::access::change::Op;
use dormgate::access::credential::Role;
use dormgate::access::decision::GrantFlag;
use dormgate::access::engine::EDGE_CHECK_MS;
use dormgate::access::event::{Event, PostureSource};
use dormgate::access::id::{ClockTrust, Timestamp};
use dormgate::access::input::{ClockChange, CommandKind, Input, PortalReport, Presented};
use dormgate::access::policy::{AfterHours, AfterStale, Policy, RevokePower, UntrustedClock};
use dormgate::access::portal::{Direction, Portal, PortalKind, Posture};
use dormgate::access::schedule::timezone;
use dormgate::access::snapshot::{EnrolmentEntry, SnapshotEntry};

use crate::world::{APARTMENT, BEGIN_MS, Seen, Snapshot, World, at, enrolment, name, op, portals, uid};

const HOUR_S: u64 = 3600;
/// What a resident of 412 may while the schedule `term` is open.
const BY_TERM: &str = "gate:*@term door:412@term power_box:412@term";

/// The building, with `change` made to each of its portals.
pub fn building(policy: Policy, change: impl Fn(&mut Portal)) -> World {
    let mut portals = portals();
    portals.iter_mut().for_each(change);
    World::of(policy, portals, Vec::new())
}

/// Schedules of the configuration.
fn configured(w: &mut World, schedules: &[(&str, &str)]) {
    let (_, zone) = timezone("Asia/Shanghai").unwrap();
    w.setup.calendar = Calendar::new(zone, schedules.iter().map(|(s, text)| (name(s), op::daily(text))).collect());
    w.restart();
}

/// Lets time pass until so long after the beginning.
fn pass_until_ms(w: &mut World, ms: u64) -> Seen {
    w.pass_ms(ms - w.elapsed_ms)
}

/// After this, what is judged again every 10 s is judged beside the edges, and not by chance at them.
const BESIDE_MS: u64 = 1_234;

fn late(w: &mut World, portal: &str, card: &str) -> (&'static str, bool) {
    let seen = w.see(portal, card);
    (seen.reason(), seen.decision().flags().contains(GrantFlag::Late))
}

pub fn enrol_as(w: &mut World, card: &str, role: Role, what: &str) {
    let e = dormgate::access::credential::Enrolment { role, ..enrolment(card, what) };
    w.issue(card, card).publish(vec![Op::Enrol { uid: uid(card), enrolment: e }]);
}

fn open_from(w: &World, portal: &str) -> Posture {
    let modes = w.engine.status(w.now()).modes;
    modes.iter().find(|(id, _)| id.as_str() == portal).map_or(Posture::Secure, |(_, mode)| *mode)
}

#[test]
fn edge_validity_end_12_00_exclusive() {
    let mut w = World::new();
    let mut e = enrolment("p1", "gate:* power_box:412");
    e.not_after = Some(name("2026-09-01T12:00:00+08:00"));
    w.issue("A", "p1").publish(vec![Op::Enrol { uid: uid("A"), enrolment: e }]);
    w.present("power-412", "A");
    assert_eq!(w.pass_s(4 * HOUR_S - 1).cuts(), []);
    assert_eq!(w.present("gate-in", "A"), "granted", "at 11:59:59");
    assert_eq!(w.pass_s(1).cuts(), [("power-412", "expired")]);
    assert_eq!(w.present("gate-in", "A"), "expired", "at 12:00:00");
}

#[test]
fn a_right_holds_from_the_start_of_its_schedule_to_just_before_its_end_and_takes_the_box_with_it() {
    for revoke_power in [RevokePower::AtOnce, RevokePower::AfterDelay] {
        let mut w = World::with(Policy { revoke_power, ..Policy::default() });
        w.pass_ms(BESIDE_MS);
        w.publish(vec![op::schedule("term", "09:00-10:00")]);
        w.issue("A", "p1").enrol("A", "p1", BY_TERM);
        pass_until_ms(&mut w, HOUR_S * 1000 - 1);
        assert_eq!(w.present("gate-in", "A"), "outside_schedule");
        w.pass_ms(1);
        assert_eq!((w.present("gate-in", "A"), w.present("power-412", "A")), ("granted", "granted"));
        w.relay("power-412", true);
        w.pass_ms(BESIDE_MS);
        w.publish(vec![op::power("413", true)]);
        assert_eq!(pass_until_ms(&mut w, 2 * HOUR_S * 1000 - 1).cuts(), []);
        assert_eq!(w.present("door-412", "A"), "granted");
        assert_eq!(w.pass_ms(1).cuts(), [("power-412", "outside_schedule")], "no delay: {revoke_power:?}");
        assert_eq!(w.present("door-412", "A"), "outside_schedule");
        w.assert_replay_is_life();
    }
}

#[test]
fn a_schedule_that_nobody_has_defined_denies_until_it_is_defined() {
    let mut w = World::new();
    w.issue("A", "p1").enrol("A", "p1", BY_TERM);
    assert_eq!(w.present("gate-in", "A"), "outside_schedule");
    w.publish(vec![op::schedule("term", "08:00-10:00")]);
    assert_eq!(w.present("gate-in", "A"), "granted");
    w.restart();
    assert_eq!(w.present("gate-in", "A"), "granted");
}

#[test]
fn a_new_definition_is_judged_at_once() {
    let mut w = World::new();
    w.publish(vec![op::schedule("term", "06:00-23:00")]);
    w.issue("A", "p1").enrol("A", "p1", BY_TERM);
    w.present("power-412", "A");
    let seen = w.publish(vec![op::schedule("term", "12:00-23:00")]);
    assert_eq!((seen.cuts(), seen.ack().cut.len()), (vec![("power-412", "outside_schedule")], 1));
    assert_eq!(w.present("gate-in", "A"), "outside_schedule");
    // An older one that comes late changes nothing.
    w.publish_at(APARTMENT, at(1, 1), vec![op::schedule("term", "06:00-23:00")]);
    assert_eq!(w.present("gate-in", "A"), "outside_schedule");
}

#[test]
fn a_definition_of_a_center_takes_precedence_over_the_configuration_and_ends_with_its_snapshot() {
    let mut w = World::new();
    configured(&mut w, &[("term", "06:00-23:00")]);
    w.issue("A", "p1").enrol("A", "p1", BY_TERM);
    assert_eq!(w.present("gate-in", "A"), "granted");
    w.publish(vec![op::schedule("term", "12:00-23:00")]);
    assert_eq!(w.present("gate-in", "A"), "outside_schedule");
    w.restart();
    assert_eq!(w.present("gate-in", "A"), "outside_schedule");
    let enrolment = Some(EnrolmentEntry { revision: None, enrolment: Some(enrolment("p1", BY_TERM)) });
    let entries = [SnapshotEntry::Card { uid: uid("A"), standing: None, enrolment }];
    w.snapshot(&Snapshot { stream: APARTMENT, at: at(1, 9), id: "s", entries: &entries, allow_shrink: false });
    assert_eq!(w.present("gate-in", "A"), "granted", "the center defines it no longer");
}

#[test]
fn an_untrusted_clock_judges_schedules_by_the_policy() {
    for (untrusted_clock, reason, undefined) in [
        (UntrustedClock::Deny, "clock_untrusted", "clock_untrusted"),
        (UntrustedClock::Grant, "granted", "outside_schedule"),
    ] {
        let mut w = World::with(Policy { untrusted_clock, ..Policy::default() });
        w.publish(vec![op::schedule("term", "12:00-23:00")]);
        w.issue("A", "p1").enrol("A", "p1", BY_TERM);
        w.issue("B", "p2").enrol("B", "p2", "gate:*@nights");
        w.clock = ClockTrust::Untrusted;
        assert_eq!((w.present("gate-in", "A"), w.present("gate-in", "B")), (reason, undefined));
    }
}

#[test]
fn a_portal_is_in_free_access_while_its_schedule_is_open() {
    let mut w = building(Policy::default(), |p| {
        p.free_access = (p.id.as_str() == "gate-in").then(|| name("peak"));
    });
    w.pass_ms(BESIDE_MS);
    w.publish(vec![op::schedule("peak", "11:50-12:30")]);
    assert_eq!(w.present("gate-in", "X"), "unknown_credential");
    assert_eq!(pass_until_ms(&mut w, (3 * HOUR_S + 50 * 60) * 1000 - 1).modes(), []);
    assert_eq!(w.pass_ms(1).modes(), [("gate-in", Posture::FreeAccess)]);
    assert_eq!((w.present("gate-in", "X"), w.present("door-412", "X")), ("free_access", "unknown_credential"));
    // What somebody closed stays closed, and what is open stays open over a restart.
    assert_eq!(w.operator("gate-in", Posture::Lockdown).modes(), [("gate-in", Posture::Lockdown)]);
    assert_eq!(w.present("gate-in", "X"), "lockdown");
    assert_eq!(w.operator("gate-in", Posture::Secure).modes(), [("gate-in", Posture::FreeAccess)]);
    assert!(w.restart().modes().contains(&("gate-in", Posture::FreeAccess)));
    w.pass_ms(BESIDE_MS);
    w.operator("door-413", Posture::Lockdown);
    assert_eq!(pass_until_ms(&mut w, (4 * HOUR_S + 30 * 60) * 1000 - 1).modes(), []);
    assert_eq!(w.pass_ms(1).modes(), [("gate-in", Posture::Secure)]);
    assert_eq!(w.present("gate-in", "X"), "unknown_credential");
    // Its definition may open it, too.
    assert_eq!(w.publish(vec![op::schedule("peak", "12:00-13:00")]).modes(), [("gate-in", Posture::FreeAccess)]);
}

/// What the audit has of free access by schedule.
fn held_free(seen: &Seen) -> Vec<(String, Posture)> {
    let of = |event: &Event| match event {
        Event::Posture { portal: Some(portal), posture, source: PostureSource::Schedule } => {
            Some((portal.to_string(), *posture))
        }
        _ => None,
    };
    seen.records().filter_map(|record| of(&record.event.body)).collect()
}

#[test]
fn the_audit_has_when_scheduled_free_access_began_and_ended_once_each() {
    for first_card in [false, true] {
        let mut w = building(Policy::default(), |p| {
            p.free_access = (p.id.as_str() == "gate-in").then(|| name("peak"));
            p.first_card = first_card;
        });
        let begun = vec![("gate-in".to_owned(), Posture::FreeAccess)];
        let ended = vec![("gate-in".to_owned(), Posture::Secure)];
        w.resident("A", "p1");
        w.publish(vec![op::schedule("peak", "08:10-08:30")]);
        let mut seen = w.pass_s(15 * 60);
        if first_card {
            assert_eq!(held_free(&seen), []);
            seen = w.see("gate-in", "A");
        }
        assert_eq!(held_free(&seen), begun);
        w.operator("gate-in", Posture::Lockdown);
        assert_eq!(held_free(&w.operator("gate-in", Posture::Secure)), [], "the schedule did not change");
        assert_eq!(held_free(&w.restart()), [], "it is in the audit; after a restart the first card comes again");
        if first_card {
            assert_eq!(held_free(&w.see("gate-in", "A")), begun);
        }
        assert_eq!(held_free(&w.pass_s(20 * 60)), ended);
        assert_eq!(held_free(&w.pass_s(3_600)), []);
        w.assert_replay_is_life();
    }
    // It began, and another ended, while the gateway was away.
    let mut w = building(Policy::default(), |p| {
        p.free_access = [("gate-in", "peak"), ("door-412", "early")]
            .iter()
            .find_map(|(id, schedule)| (p.id.as_str() == *id).then(|| name(schedule)));
    });
    let seen = w.publish(vec![op::schedule("peak", "08:10-08:30"), op::schedule("early", "07:00-08:05")]);
    assert_eq!(held_free(&seen), [("door-412".to_owned(), Posture::FreeAccess)]);
    w.elapsed_ms += 15 * 60_000;
    let expected = [("gate-in".to_owned(), Posture::FreeAccess), ("door-412".to_owned(), Posture::Secure)];
    assert_eq!(held_free(&w.restart()), expected);
}

#[test]
fn scheduled_free_access_goes_on_by_the_monotonic_clock_and_does_not_begin_in_a_run_that_knows_no_time() {
    let mut w = building(Policy { untrusted_clock: UntrustedClock::Grant, ..Policy::default() }, |p| {
        p.free_access = (p.id.as_str() == "gate-in").then(|| name("peak"));
    });
    w.publish(vec![op::schedule("peak", "08:00-08:10")]);
    (w.wall_off_ms, w.clock) = (-86_400_000, ClockTrust::Untrusted);
    w.input(Input::Clock(ClockChange::Untrusted));
    assert_eq!(open_from(&w, "gate-in"), Posture::FreeAccess);
    assert!(w.pass_s(599).modes().is_empty());
    assert_eq!(w.pass_s(1).modes(), [("gate-in", Posture::Secure)]);
    w.publish(vec![op::schedule("peak", "00:00-24:00")]);
    assert_eq!(open_from(&w, "gate-in"), Posture::FreeAccess);
    w.restart();
    assert_eq!((open_from(&w, "gate-in"), w.present("gate-in", "X")), (Posture::Secure, "unknown_credential"));
}

#[test]
fn whoever_enters_outside_the_hours_is_late_and_whoever_leaves_is_not() {
    let mut w = building(Policy::default(), |p| p.hours = (p.kind != PortalKind::PowerBox).then(|| name("day")));
    configured(&mut w, &[("day", "06:00-23:00"), ("nights", "22:00-06:00")]);
    w.resident("A", "p1");
    enrol_as(&mut w, "guest", Role::Visitor, "gate:*");
    enrol_as(&mut w, "R", Role::Staff, "gate:* door:*");
    enrol_as(&mut w, "leave", Role::Resident, "gate:* gate:*@nights");
    assert_eq!(late(&mut w, "gate-in", "A"), ("granted", false));
    w.pass_s(15 * HOUR_S - 1);
    assert_eq!(late(&mut w, "gate-in", "A"), ("granted", false), "at 22:59:59");
    w.pass_s(1);
    assert_eq!(late(&mut w, "gate-in", "A"), ("granted", true), "at 23:00:00");
    assert_eq!(late(&mut w, "gate-both", "A"), ("granted", true));
    assert_eq!(late(&mut w, "door-412", "A"), ("granted", true));
    assert_eq!(late(&mut w, "gate-in", "guest"), ("granted", true));
    assert_eq!(late(&mut w, "gate-in", "R"), ("granted", false), "staff");
    assert_eq!(late(&mut w, "gate-in", "leave"), ("granted", false), "a center allows it at this hour");
    assert_eq!(late(&mut w, "gate-out", "A"), ("exit", false));
    let out = dormgate::access::input::Request {
        direction: Some(Direction::Out),
        ..w.request("door-412", Presented::Card(uid("A")))
    };
    assert!(!w.input(Input::Request(out)).decision().flags().contains(GrantFlag::Late), "out of the room");
    assert_eq!(late(&mut w, "power-412", "A"), ("granted", false));
    // It is in the audit.
    let flagged = |e: &&Event| matches!(e, Event::Decision { flags, .. } if flags.contains(GrantFlag::Late));
    assert_eq!(w.journal.iter().map(|r| &r.event.body).filter(flagged).count(), 4);
}

#[test]
fn after_hours_may_deny_by_role() {
    let policy = Policy {
        after_hours: AfterHours::Late,
        after_hours_visitor: AfterHours::Deny,
        after_hours_staff: AfterHours::Deny,
        ..Policy::default()
    };
    let mut w = building(policy, |p| p.hours = (p.kind != PortalKind::PowerBox).then(|| name("day")));
    configured(&mut w, &[("day", "09:00-23:00"), ("nights", "22:00-09:00")]);
    w.resident("A", "p1");
    enrol_as(&mut w, "guest", Role::Visitor, "gate:*");
    enrol_as(&mut w, "R", Role::Staff, "gate:*");
    enrol_as(&mut w, "night", Role::Staff, "gate:*@nights");
    assert_eq!(late(&mut w, "gate-in", "A"), ("granted", true));
    assert_eq!(late(&mut w, "gate-in", "guest"), ("outside_schedule", false));
    assert_eq!(late(&mut w, "gate-in", "R"), ("outside_schedule", false));
    assert_eq!(late(&mut w, "gate-in", "night"), ("granted", false));
    assert_eq!(late(&mut w, "gate-out", "guest"), ("exit", false), "the way out is never denied");
    // Without a clock nobody knows who is late: the flag is not set, and a denial is the policy's.
    w.clock = ClockTrust::Untrusted;
    assert_eq!(late(&mut w, "gate-in", "A"), ("granted", false));
    assert_eq!(late(&mut w, "gate-in", "guest"), ("clock_untrusted", false));
    w.clock = ClockTrust::Trusted;
    // A schedule that nobody defines is never open.
    configured(&mut w, &[]);
    assert_eq!(late(&mut w, "gate-in", "guest"), ("outside_schedule", false));
}

/// A building whose boxes give power from 06:00 to 23:00.
fn lights_out() -> World {
    let mut w = building(Policy::default(), |p| {
        p.power_hours = (p.kind == PortalKind::PowerBox).then(|| name("lights"));
    });
    w.pass_ms(BESIDE_MS);
    configured(&mut w, &[("lights", "06:00-23:00")]);
    w
}

fn cuts_of(seen: &Seen) -> Vec<(&str, &'static str)> {
    let mut cuts = seen.cuts();
    cuts.sort_unstable();
    cuts
}

#[test]
fn lights_out_cuts_every_box_whoever_it_is_on_by() {
    let mut w = lights_out();
    w.resident("A", "p1");
    w.present("power-412", "A");
    w.command("on", CommandKind::Power { portal: name("power-413"), on: true });
    assert_eq!(cuts_of(&pass_until_ms(&mut w, 15 * HOUR_S * 1000 - 1)), []);
    let both = [("power-412", "outside_schedule"), ("power-413", "outside_schedule")];
    assert_eq!(cuts_of(&w.pass_ms(1)), both);
    assert_eq!(w.present("power-412", "A"), "outside_schedule");
    let reply = w.command("on again", CommandKind::Power { portal: name("power-413"), on: true });
    let error = reply.reply().error.as_ref().expect("an error").message.clone();
    assert!(error.contains("outside_schedule"), "{error}");
    assert!(!w.is_on("power-413"));
    assert_eq!(w.present("door-412", "A"), "granted", "only power");
    w.assert_replay_is_life();
}

#[test]
fn a_card_that_stays_in_a_box_over_the_night_gets_power_again_in_the_morning_unless_the_gateway_has_not_seen_it_put_in()
{
    let mut w = lights_out();
    w.resident("A", "p1");
    w.present("power-412", "A");
    w.pass_s(15 * HOUR_S);
    assert!(!w.is_on("power-412"));
    w.pass_s(7 * HOUR_S);
    assert!(w.is_on("power-412"));
    let mut w = lights_out();
    w.resident("A", "p1");
    w.present("power-412", "A");
    w.relay("power-412", true);
    w.pass_s(15 * HOUR_S);
    w.relay("power-412", false);
    // The gateway restarts, the box reports what it always reports, the morning comes.
    let mut seen = w.restart().0;
    seen.extend(w.sits("power-412", "A", Some(false)).0);
    seen.extend(w.pass_s(7 * HOUR_S).0);
    seen.extend(w.sits("power-412", "A", Some(false)).0);
    seen.extend(w.pass_s(60).0);
    assert_eq!((Seen(seen).openings(), w.is_on("power-412")), (0, false));
    w.leave("power-412");
    assert_eq!(w.present("power-412", "A"), "granted");
    assert!(w.is_on("power-412"));
}

#[test]
fn a_gateway_that_was_away_when_the_lights_went_out_cuts_at_its_start() {
    let mut w = lights_out();
    w.resident("A", "p1");
    w.present("power-412", "A");
    w.elapsed_ms += 16 * HOUR_S * 1000;
    assert_eq!(w.restart().cuts(), [("power-412", "outside_schedule")]);
}

#[test]
fn an_edge_that_nobody_foresaw_is_noticed_within_ten_seconds() {
    let mut w = building(Policy::default(), |p| {
        p.power_hours = (p.kind == PortalKind::PowerBox).then(|| name("lights"));
        p.free_access = (p.id.as_str() == "gate-in").then(|| name("nights"));
    });
    configured(&mut w, &[("lights", "06:00-23:00"), ("nights", "23:00-06:00")]);
    w.resident("A", "p1");
    w.present("power-412", "A");
    // The wall clock jumps over the edge, and nobody reports that it did.
    w.wall_off_ms = 15 * 3_600_000 + 1_000;
    let seen = w.pass_ms(EDGE_CHECK_MS);
    assert_eq!(
        (seen.cuts(), seen.modes()),
        (vec![("power-412", "outside_schedule")], vec![("gate-in", Posture::FreeAccess)])
    );
    assert_eq!(EDGE_CHECK_MS, 10_000);
}

#[test]
fn fire_and_free_access_open_also_outside_the_hours_and_with_an_old_list() {
    let policy = Policy {
        after_hours: AfterHours::Deny,
        after_stale: AfterStale::DenyEntry,
        after_stale_s: 60,
        ..Policy::default()
    };
    let mut w = building(policy, |p| p.hours = (p.kind != PortalKind::PowerBox).then(|| name("never")));
    w.resident("A", "p1");
    w.pass_s(61);
    assert_eq!(w.present("gate-in", "A"), "out_of_service");
    w.operator("", Posture::FreeAccess);
    assert_eq!(w.present("gate-in", "A"), "free_access");
    w.report("door-413", PortalReport { fire: Some(true), ..PortalReport::default() });
    assert_eq!(w.present("gate-in", "A"), "fire");
    assert!(w.now().wall > Timestamp(BEGIN_MS));
}
