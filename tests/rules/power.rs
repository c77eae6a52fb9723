//! Power of a room: trips, how often a box is switched on, staff on the wiring, and power that comes back to many boxes.

use dormgate::access::change::{Op, SuspendReason};
use dormgate::access::credential::{Enrolment, Role};
use dormgate::access::effect::{Effect, PortalOrder};
use dormgate::access::engine::STEP_WINDOW_MS;
use dormgate::access::event::{AlarmKind, Event, EventKind};
use dormgate::access::id::{ClockTrust, Timestamp};
use dormgate::access::input::{CommandKind, PortalReport};
use dormgate::access::policy::{Policy, StaffPower};
use dormgate::access::portal::{Portal, PortalKind, Posture};

use crate::world::{BEGIN_MS, Seen, World, at, enrolment, name, op, portals, uid};

pub const BOX: &str = "power-412";
const REST_S: u64 = 300;

/// What happens to a building.
type Change = fn(&mut World);
/// The same, and what is seen of it.
type Then = fn(&mut World) -> Seen;

/// A building whose boxes trip above 1000 W for 5 s, and when the power rises by more than 600 W at once.
pub fn metered() -> World {
    let trips = |p: Portal| Portal { overload_w: Some(1000), overload_ms: 5_000, restricted_step_w: Some(600), ..p };
    let mut w = World::of(Policy::default(), portals().into_iter().map(trips).collect(), Vec::new());
    w.resident("A", "p1");
    assert_eq!(w.present(BOX, "A"), "granted");
    w.relay(BOX, true);
    w
}

pub fn draws(w: &mut World, power_w: f64) -> Seen {
    w.report(BOX, PortalReport { power_w: Some(power_w), ..PortalReport::default() })
}

/// Draws ever more, each time less than a step.
pub fn overloads(w: &mut World) -> Seen {
    for power_w in [500.0, 950.0] {
        assert_eq!(draws(w, power_w).cuts(), []);
    }
    assert_eq!(draws(w, 1_480.0).cuts(), []);
    w.pass_s(5)
}

pub fn input(w: &mut World, overload: Option<bool>, restricted_load: Option<bool>) -> Seen {
    w.report(BOX, PortalReport { overload, restricted_load, ..PortalReport::default() })
}

/// The boxes that were switched on without an answer to a card.
pub fn energised(seen: &Seen) -> Vec<&str> {
    let order = |effect| match effect {
        &Effect::Order(PortalOrder::Energise { ref grant, announced: false }) => Some(grant.portal().as_str()),
        _ => None,
    };
    seen.0.iter().filter_map(order).collect()
}

pub fn trip(seen: &Seen) -> (SuspendReason, bool, bool) {
    let trip = seen.records().find_map(|record| match &record.event.body {
        Event::PowerTrip { reason, stays_off, ended, .. } => Some((*reason, *stays_off, *ended)),
        _ => None,
    });
    trip.expect("a trip")
}

fn suspended(reason: SuspendReason, suspended: bool) -> Op {
    Op::Power { zone: name("412"), reason, suspended }
}

fn back_again(w: &mut World) {
    assert_eq!(energised(&w.pass_s(REST_S)), [BOX]);
    w.relay(BOX, true);
}

#[test]
fn an_overload_that_lasts_trips_the_box_and_names_itself() {
    let mut w = metered();
    draws(&mut w, 500.0);
    draws(&mut w, 1_050.0);
    assert_eq!(w.pass_ms(4_999).cuts(), []);
    draws(&mut w, 999.0);
    assert_eq!(w.pass_s(60).cuts(), [], "it was over in time");
    let seen = overloads(&mut w);
    assert_eq!(seen.cuts(), [(BOX, "power_suspended")]);
    assert_eq!(seen.recorded(), [EventKind::PowerTrip, EventKind::PowerOff, EventKind::Alarm]);
    assert_eq!(trip(&seen), (SuspendReason::Overload, false, false));
    let detail = seen.details(AlarmKind::PowerTrip)[0].to_owned();
    assert!(detail.contains("1480 W, more than `overload_w` = 1000 for 5 s; trip 1 of 3 in 24 h"), "{detail}");
    assert_eq!(w.present(BOX, "A"), "power_suspended");
    let verdicts = w.engine.query(uid("A"), Some(&name(BOX)), w.now()).unwrap();
    let step = verdicts[0].steps.iter().find(|step| !step.ok).unwrap();
    assert_eq!(step.fact, "tripped for overload, back in 300 s");
    assert_eq!(w.present("door-412", "A"), "granted", "only power");
    w.assert_replay_is_life();
}

#[test]
fn after_its_rest_a_box_that_tripped_is_on_again_if_its_card_is_still_there_and_may() {
    let cases: [(&str, Change, bool); 5] = [
        ("nothing happens", |_| {}, true),
        ("the card is put in again and denied", |w| drop(w.see(BOX, "A")), true),
        ("the card leaves", |w| drop(w.leave(BOX)), false),
        ("the card is reported lost", |w| drop(w.publish(vec![op::report_lost("uid:A")])), false),
        (
            "the box was away: what it shows then is a report",
            |w| {
                w.report(BOX, PortalReport { online: Some(false), ..PortalReport::default() });
                w.sits(BOX, "A", Some(false));
            },
            false,
        ),
    ];
    for (what, change, is_back) in cases {
        let mut w = metered();
        overloads(&mut w);
        w.relay(BOX, false);
        change(&mut w);
        assert_eq!(energised(&w.pass_ms(REST_S * 1000 - 1)).len(), 0, "{what}");
        let seen = w.pass_ms(1);
        assert_eq!((energised(&seen).len() == 1, w.is_on(BOX)), (is_back, is_back), "{what}");
        assert_eq!(seen.ended(), [AlarmKind::PowerTrip], "{what}");
        w.assert_replay_is_life();
    }
}

#[test]
fn after_the_last_retry_it_stays_off_until_somebody_ends_that() {
    let ends: [(&str, Then, bool); 5] = [
        ("resume", |w| w.publish(vec![suspended(SuspendReason::Overload, false)]), true),
        ("another reason", |w| w.publish(vec![suspended(SuspendReason::RestrictedLoad, false)]), false),
        ("a day", |w| w.pass_s(2 * 86_400), false),
        (
            "a message of before the trip",
            |w| {
                let (at_ms, position) = (w.wall_off_ms, at(1, 90));
                w.wall_off_ms -= 3_600_000;
                let late = w.message("apartment", position, Ok(vec![suspended(SuspendReason::Overload, false)]));
                w.wall_off_ms = at_ms;
                w.input(late)
            },
            false,
        ),
        ("power on", |w| w.command("on", CommandKind::Power { portal: name(BOX), on: true }), true),
    ];
    for (what, end, is_back) in ends {
        let mut w = metered();
        for _ in 0..2 {
            overloads(&mut w);
            back_again(&mut w);
        }
        let seen = overloads(&mut w);
        assert_eq!(trip(&seen), (SuspendReason::Overload, true, false), "{what}");
        assert_eq!(seen.alarms(), [AlarmKind::PowerTrip], "not held back: {what}");
        assert_eq!(energised(&w.pass_s(2 * REST_S)).len(), 0, "{what}");
        let mut seen = end(&mut w);
        seen.0.extend(w.pass_s(10).0);
        assert_eq!((energised(&seen).len() == 1, w.is_on(BOX)), (is_back, is_back), "{what}");
        w.assert_replay_is_life();
        if is_back {
            assert!(trip(&seen).2, "{what}");
            w.relay(BOX, true);
            assert_eq!(
                trip(&overloads(&mut w)),
                (SuspendReason::Overload, false, false),
                "counted from the beginning: {what}"
            );
        }
    }
}

#[test]
fn trips_count_for_a_day() {
    let mut w = metered();
    for _ in 0..2 {
        overloads(&mut w);
        back_again(&mut w);
    }
    w.pass_s(86_400);
    w.relay(BOX, true);
    assert_eq!(trip(&overloads(&mut w)), (SuspendReason::Overload, false, false));
}

#[test]
fn a_trip_survives_a_restart() {
    for clock in [ClockTrust::Trusted, ClockTrust::Untrusted] {
        let mut w = metered();
        overloads(&mut w);
        w.pass_s(100);
        w.clock = clock;
        w.restart();
        assert_eq!(w.present(BOX, "A"), "power_suspended");
        // Where the wall clock is not trusted, the rest counts from the start of the run.
        w.pass_s(REST_S - 110);
        assert_eq!(w.present(BOX, "A"), "power_suspended");
        let seen = w.pass_s(10);
        assert_eq!(energised(&seen), [BOX], "the card was put in again during the rest");
    }
    let mut w = metered();
    for _ in 0..2 {
        overloads(&mut w);
        back_again(&mut w);
    }
    overloads(&mut w);
    w.restart();
    w.pass_s(10 * REST_S);
    assert_eq!(w.present(BOX, "A"), "power_suspended");
}

#[test]
fn a_step_of_power_between_two_reports_is_a_restricted_load() {
    let late = STEP_WINDOW_MS + 1;
    for (what, before, wait_ms, after, trips) in [
        ("a kettle", 40.0, STEP_WINDOW_MS, 641.0, true),
        ("less than the step", 40.0, 2_000, 640.0, false),
        ("reports too far apart", 40.0, late, 900.0, false),
        ("a load that goes", 900.0, 2_000, 40.0, false),
        ("fed back", 40.0, 2_000, -641.0, true),
    ] {
        let mut w = metered();
        w.pass_s(60);
        draws(&mut w, before);
        w.pass_ms(wait_ms);
        let seen = draws(&mut w, after);
        assert_eq!(!seen.cuts().is_empty(), trips, "{what}");
        if trips {
            assert_eq!(trip(&seen), (SuspendReason::RestrictedLoad, false, false), "{what}");
        }
    }
    // What stands plugged in when the card is put in is a step from nothing.
    let mut w = metered();
    assert_eq!(draws(&mut w, 601.0).cuts(), [(BOX, "power_suspended")]);
    // A meter of several boxes proves nothing about one.
    let mut w = metered();
    let shared = PortalReport { power_w: Some(5_000.0), shared_meter: true, ..PortalReport::default() };
    assert_eq!(w.report(BOX, shared).cuts(), []);
}

#[test]
fn an_alarm_input_trips_the_box_and_keeps_it_off_while_it_is_active() {
    for (overload, restricted) in [(true, false), (false, true)] {
        let mut w = metered();
        let field = |is: bool, value| is.then_some(value);
        let seen = input(&mut w, field(overload, true), field(restricted, true));
        assert_eq!(seen.cuts(), [(BOX, "power_suspended")]);
        assert_eq!(input(&mut w, field(overload, true), field(restricted, true)).recorded(), []);
        assert_eq!(energised(&w.pass_s(REST_S)).len(), 0, "it is active yet");
        let error = w.command("on", CommandKind::Power { portal: name(BOX), on: true });
        let message = &error.reply().error.as_ref().unwrap().message;
        assert!(message.contains("its alarm input is still active"), "{message}");
        assert_eq!(energised(&input(&mut w, field(overload, false), field(restricted, false))), [BOX]);
        w.assert_replay_is_life();
    }
    // At a box that is off it counts no trip; nobody gets power until it is over.
    let mut w = World::new();
    w.resident("A", "p1");
    assert_eq!(input(&mut w, Some(true), None).recorded(), [EventKind::PortalOnline]);
    assert_eq!(w.present(BOX, "A"), "power_suspended");
    w.relay(BOX, false);
    assert_eq!(w.engine.state().trips.len(), 0);
    input(&mut w, Some(false), None);
    assert_eq!(w.present(BOX, "A"), "granted");
}

#[test]
fn a_box_that_was_switched_on_often_waits_for_the_rest_of_the_minute() {
    let delay_of = |seen: &Seen| {
        seen.0.iter().find_map(|effect| match effect {
            Effect::Order(PortalOrder::Answer { delay_ms, .. }) => Some(*delay_ms),
            _ => None,
        })
    };
    let cycle = |w: &mut World| {
        let seen = w.see(BOX, "A");
        assert_eq!(seen.reason(), "granted");
        w.command(&format!("off-{}", w.elapsed_ms), CommandKind::Power { portal: name(BOX), on: false });
        w.leave(BOX);
        w.pass_s(5);
        delay_of(&seen)
    };
    for (max, wants) in [(6, Some(Some(30_000))), (0, Some(None))] {
        let mut w = World::with(Policy { max_energise_per_min: max, ..Policy::default() });
        w.resident("A", "p1");
        for _ in 0..6 {
            assert_eq!(cycle(&mut w), Some(None));
        }
        let seen = w.see(BOX, "A");
        assert_eq!((seen.reason(), delay_of(&seen)), ("granted", wants));
        assert_eq!(w.is_on(BOX), max == 0);
        w.pass_ms(29_999);
        assert_eq!(w.is_on(BOX), max == 0);
        w.pass_ms(1);
        assert!(w.is_on(BOX));
    }
}

#[test]
fn a_staff_card_gives_power_only_in_maintenance() {
    for (staff_power, without) in [(StaffPower::Maintenance, "maintenance_only"), (StaffPower::Always, "granted")] {
        let mut w = World::with(Policy { staff_power, ..Policy::default() });
        let e = Enrolment { role: Role::Staff, ..enrolment("s1", "gate:* door:* power_box:*") };
        w.issue("B", "s1").publish(vec![Op::Enrol { uid: uid("B"), enrolment: e }]);
        w.resident("A", "p1");
        assert_eq!((w.present(BOX, "B"), w.present("door-412", "B")), (without, "granted"));
        w.leave(BOX);
        w.pass_s(20);
        w.publish(vec![suspended(SuspendReason::Maintenance, true)]);
        assert_eq!((w.present(BOX, "A"), w.present(BOX, "B")), ("power_suspended", "granted"));
        let beside = w.publish(vec![suspended(SuspendReason::Arrears, true)]);
        assert_eq!(beside.cuts(), [(BOX, "power_suspended")], "and only that");
        assert_eq!(w.present(BOX, "B"), "power_suspended");
        w.publish(vec![suspended(SuspendReason::Arrears, false)]);
        w.pass_s(1);
        assert!(w.is_on(BOX));
        let over = w.publish(vec![suspended(SuspendReason::Maintenance, false)]);
        assert_eq!(over.cuts().len(), usize::from(staff_power == StaffPower::Maintenance));
    }
}

#[test]
fn edge_arrears_paid_with_no_card_present_stays_off() {
    let mut w = World::new();
    w.resident("A", "p1").resident("R", "p2");
    let cases: [(&str, Change, usize); 5] = [
        ("A is still there", |_| {}, 1),
        ("A has left", |w| drop(w.leave(BOX)), 0),
        ("R was reported in its place", |w| drop(w.sits(BOX, "R", Some(false))), 0),
        (
            "R was put in and denied",
            |w| {
                w.leave(BOX);
                assert_eq!(w.present(BOX, "R"), "power_suspended");
            },
            1,
        ),
        (
            "A is still there, and a command switched the box off",
            |w| drop(w.command("off", CommandKind::Power { portal: name(BOX), on: false })),
            0,
        ),
    ];
    for (what, change, back) in cases {
        w.leave(BOX);
        w.pass_s(70);
        assert_eq!(w.present(BOX, "A"), "granted");
        w.relay(BOX, true);
        w.publish(vec![suspended(SuspendReason::Arrears, true)]);
        w.relay(BOX, false);
        change(&mut w);
        let mut seen = w.publish(vec![suspended(SuspendReason::Arrears, false)]);
        seen.0.extend(w.pass_s(60).0);
        assert_eq!(energised(&seen).len(), back, "{what}");
        w.assert_replay_is_life();
    }
}

/// Thirty rooms, each with a card in its box.
pub fn thirty_rooms() -> World {
    let room = |n: u32| {
        let hours = Some(name("lights"));
        Portal {
            power_hours: hours,
            ..Portal::new(name(&format!("box-{n:02}")), PortalKind::PowerBox, name(&format!("r{n}")))
        }
    };
    let mut w = World::of(Policy::default(), (0..30).map(room).collect(), Vec::new());
    w.publish(vec![op::schedule("lights", "06:00-24:00")]);
    for n in 0..30 {
        let card = format!("5C0DE1{n:02}");
        w.issue(&card, "p1").enrol(&card, "p1", "power_box:*");
        assert_eq!(w.present(&format!("box-{n:02}"), &card), "granted");
    }
    w
}

#[test]
fn power_comes_back_to_thirty_rooms_one_after_another_within_thirty_seconds() {
    let cases: [(&str, Change, Then); 2] = [
        ("a posture", |w| drop(w.operator("", Posture::OutOfService)), |w| w.operator("", Posture::Secure)),
        ("lights-out", |w| drop(w.pass_s(16 * 3600)), |w| w.pass_s(6 * 3600)),
    ];
    for (what, off, on) in cases {
        let mut w = thirty_rooms();
        off(&mut w);
        assert!(!w.is_on("box-00") && !w.is_on("box-29"), "{what}");
        let stagger_ms = u64::from(w.setup.policy.power_stagger_ms);
        assert!(stagger_ms * 30 <= 30_000);
        let first = on(&mut w);
        assert_eq!(energised(&first), ["box-00"], "{what}");
        for n in 1..30 {
            assert_eq!(energised(&w.pass_ms(stagger_ms - 1)).len(), 0, "{what}");
            assert_eq!(energised(&w.pass_ms(1)), [format!("box-{n:02}")], "{what}");
        }
        assert_eq!(energised(&w.pass_s(60)).len(), 0, "{what}");
        w.assert_replay_is_life();
    }
}

#[test]
fn boxes_that_rest_when_power_comes_back_take_their_turns_after_the_rest() {
    let mut w = thirty_rooms();
    w.setup.portals.iter_mut().for_each(|portal| portal.rest_ms = 3_000);
    w.restart();
    for n in 0..30 {
        w.present(&format!("box-{n:02}"), &format!("5C0DE1{n:02}"));
    }
    w.operator("", Posture::OutOfService);
    w.pass_s(1);
    assert_eq!(energised(&w.operator("", Posture::Secure)).len(), 0);
    assert_eq!(energised(&w.pass_ms(1_999)).len(), 0);
    assert_eq!(energised(&w.pass_ms(1)), ["box-00"]);
    for n in 1..30 {
        assert_eq!(energised(&w.pass_ms(149)).len(), 0);
        assert_eq!(energised(&w.pass_ms(1)), [format!("box-{n:02}")]);
    }
    w.assert_replay_is_life();
}

/// Without a schedule nothing is judged every few seconds, so this end is the only one that is waited for.
#[test]
fn an_end_that_is_set_while_the_box_is_on_switches_it_off_at_that_end() {
    let mut w = World::new();
    w.resident("A", "p1");
    assert_eq!(w.present(BOX, "A"), "granted");
    w.relay(BOX, true);
    let not_after = Some(Timestamp(BEGIN_MS + 3_600_000));
    let ends = Enrolment { not_after, ..enrolment("p1", "power_box:412") };
    assert_eq!(w.publish(vec![Op::Enrol { uid: uid("A"), enrolment: ends }]).cuts(), []);
    assert_eq!(w.pass_s(3_599).cuts(), []);
    assert_eq!(w.pass_s(1).cuts(), [(BOX, "expired")]);
}
