//! Roles: visitors open gates, until the end of the day, and where the site wants it only with a host; what other roles do is marked.

use dormgate::access::change::Op;
use dormgate::access::credential::{Enrolment, Role};
use dormgate::access::decision::Reason;
use dormgate::access::event::Event;
use dormgate::access::id::{ClockTrust, Timestamp};
use dormgate::access::input::{Input, Presented};
use dormgate::access::policy::{KindSet, Policy};
use dormgate::access::portal::{Direction, PortalKind};
use dormgate::access::snapshot::{EnrolmentEntry, SnapshotEntry};

use crate::world::{APARTMENT, BEGIN_MS, Seen, Snapshot, World, at, enrolment, name, op, uid};

/// From 08:00 in Shanghai, when the tests begin, to midnight.
const DAY_LEFT_MS: u64 = 16 * 3_600_000;
const DAY_MS: u64 = 86_400_000;

fn as_role(role: Role, what: &str) -> Enrolment {
    Enrolment { role, ..enrolment("v1", what) }
}

fn visitor(w: &mut World, what: &str) {
    w.issue("A", "v1").publish(vec![Op::Enrol { uid: uid("A"), enrolment: as_role(Role::Visitor, what) }]);
}

fn building(policy: Policy) -> World {
    let mut w = World::with(policy);
    visitor(&mut w, "gate:*");
    w
}

#[test]
fn a_visitor_opens_gates_only_whatever_the_entitlements_name() {
    let with_doors = || KindSet::from_iter([PortalKind::Gate, PortalKind::Door]);
    for (kinds, door) in [(Policy::default().visitor_kinds, "no_entitlement"), (with_doors(), "granted")] {
        let mut w = World::with(Policy { visitor_kinds: kinds, ..Policy::default() });
        visitor(&mut w, "gate:* door:412 power_box:412");
        let reasons = ["gate-in", "door-412", "power-412"].map(|portal| w.present(portal, "A"));
        assert_eq!(reasons, ["granted", door, "no_entitlement"]);
        visitor(&mut w, "gate:*");
        assert_eq!(w.present("power-412", "A"), "no_entitlement", "the apartment center cannot help");
    }
}

#[test]
fn a_visitor_is_let_in_until_the_end_of_the_day_on_which_the_center_wrote_it() {
    let mut w = building(Policy::default());
    w.pass_ms(DAY_LEFT_MS - 1);
    assert_eq!(w.present("gate-in", "A"), "granted");
    w.pass_ms(1);
    assert_eq!((w.present("gate-in", "A"), w.present("gate-out", "A")), ("expired", "exit"));
    w.restart();
    assert_eq!(w.present("gate-in", "A"), "expired");
    w.assert_replay_is_life();
    // Enrolled again, it is let in until the next midnight.
    visitor(&mut w, "gate:*");
    assert_eq!(w.present("gate-in", "A"), "granted");
    w.pass_ms(DAY_MS);
    assert_eq!(w.present("gate-in", "A"), "expired");
    // A message of yesterday that arrives today.
    let received = w.message(
        APARTMENT,
        at(1, 90),
        Ok(vec![Op::Enrol { uid: uid("B"), enrolment: as_role(Role::Visitor, "gate:*") }]),
    );
    w.pass_ms(DAY_MS);
    w.input(received);
    assert_eq!(w.present("gate-in", "B"), "expired");
    // An end that is written down counts, and residents have none.
    for (role, not_after, reason) in [
        (Role::Visitor, Some(Timestamp(BEGIN_MS + 40 * i64::try_from(DAY_MS).unwrap())), "granted"),
        (Role::Staff, None, "granted"),
        (Role::Resident, None, "granted"),
        (Role::Visitor, None, "expired"),
    ] {
        w.publish(vec![Op::Enrol { uid: uid("A"), enrolment: Enrolment { not_after, ..as_role(role, "gate:*") } }]);
        w.pass_ms(DAY_MS);
        assert_eq!(w.present("gate-in", "A"), reason, "{role:?}");
    }
    w.assert_replay_is_life();
}

#[test]
fn a_clock_that_is_wrong_judges_the_end_of_the_day_by_the_policy() {
    let mut w = building(Policy::default());
    w.clock = ClockTrust::Untrusted;
    assert_eq!(w.present("gate-in", "A"), "clock_untrusted");
}

/// What the apartment center would send in a snapshot.
fn entries(what: &str) -> Vec<SnapshotEntry> {
    let enrolment = EnrolmentEntry { revision: None, enrolment: Some(as_role(Role::Visitor, what)) };
    vec![SnapshotEntry::Card { uid: uid("A"), standing: None, enrolment: Some(enrolment) }]
}

fn snapshot(w: &mut World, seq: u64, what: &str) -> Seen {
    let entries = entries(what);
    let id = format!("s{seq}");
    w.snapshot(&Snapshot { stream: APARTMENT, at: at(1, seq), id: &id, entries: &entries, allow_shrink: true })
}

#[test]
fn a_snapshot_that_repeats_an_enrolment_does_not_prolong_it() {
    let mut w = building(Policy::default());
    w.pass_ms(DAY_LEFT_MS);
    snapshot(&mut w, 50, "gate:*");
    assert_eq!(w.present("gate-in", "A"), "expired");
    w.assert_replay_is_life();
    w.restart();
    assert_eq!(w.present("gate-in", "A"), "expired");
    // Another enrolment is another day.
    snapshot(&mut w, 51, "gate:* door:412");
    assert_eq!(w.present("gate-in", "A"), "granted");
    w.pass_ms(DAY_MS);
    assert_eq!(w.present("gate-in", "A"), "expired");
    // To a gateway that knows nothing the day of the snapshot is that of the enrolment.
    let mut w = World::new();
    w.issue("A", "v1");
    snapshot(&mut w, 50, "gate:*");
    assert_eq!(w.present("gate-in", "A"), "granted");
    w.pass_ms(DAY_LEFT_MS);
    assert_eq!(w.present("gate-in", "A"), "expired");
    w.assert_replay_is_life();
}

#[test]
fn a_visitor_enters_within_the_time_after_a_host_at_the_same_gate() {
    const WITHIN_MS: u64 = 10_000;
    let mut w = building(Policy { visitor_escort_ms: WITHIN_MS, ..Policy::default() });
    w.resident("R", "p2");
    assert_eq!((w.present("gate-in", "A"), w.present("gate-out", "A")), ("escort_required", "exit"));
    assert_eq!(w.present("gate-both", "R"), "granted");
    assert_eq!((w.present("gate-in", "A"), w.present("gate-both", "A")), ("escort_required", "granted"));
    assert_eq!(w.present("gate-in", "R"), "granted");
    w.pass_ms(WITHIN_MS);
    assert_eq!(w.present("gate-in", "A"), "granted");
    w.pass_ms(1);
    // A visitor is nobody's host, and whoever is denied or leaves is not either.
    assert_eq!((w.present("gate-out", "R"), w.present("gate-in", "X")), ("exit", "unknown_credential"));
    assert_eq!(w.present("gate-in", "A"), "escort_required");
    let outwards = Input::Request(dormgate::access::input::Request {
        direction: Some(Direction::Out),
        ..w.request("gate-both", Presented::Card(uid("A")))
    });
    assert_eq!(w.input(outwards).reason(), "exit");
    // Whoever waits for a host has not tried a wrong card.
    for _ in 0..6 {
        let seen = w.see("gate-in", "A");
        assert_eq!((seen.reason(), seen.alarms()), ("escort_required", Vec::new()));
    }
    let mut w = building(Policy::default());
    assert_eq!(w.present("gate-in", "A"), "granted", "not wanted by default");
}

#[test]
fn every_use_of_a_card_that_is_no_residents_is_marked() {
    for role in Role::ALL.iter().copied() {
        let mut w = World::new();
        w.issue("A", "s1").publish(vec![Op::Enrol { uid: uid("A"), enrolment: as_role(role, "gate:*") }]);
        for portal in ["gate-in", "door-412", "gate-out"] {
            let seen = w.see(portal, "A");
            let marked = seen.records().find_map(|record| match &record.event.body {
                Event::Decision { role, .. } => Some(*role),
                _ => None,
            });
            assert_eq!(marked, Some(role), "{portal}");
        }
    }
}

#[test]
fn whoever_leaves_is_no_host_of_a_visitor_who_enters() {
    let mut w = building(Policy { visitor_escort_ms: 30_000, ..Policy::default() });
    w.resident("R", "p1");
    let read = |w: &mut World, card: &str, way| {
        let request = w.request("gate-both", Presented::Card(uid(card)));
        w.input(Input::Request(dormgate::access::input::Request { direction: Some(way), ..request })).verdict()
    };
    assert_eq!(read(&mut w, "R", Direction::Out), "exit");
    assert_eq!(read(&mut w, "A", Direction::In), "escort_required");
    assert_eq!(read(&mut w, "R", Direction::In), "granted");
    assert_eq!(read(&mut w, "A", Direction::In), "granted");
}

#[test]
fn a_host_whose_card_has_died_since_lets_no_visitor_in() {
    let step = |w: &World| {
        let verdict = w.engine.query(uid("A"), Some(&name("gate-in")), w.now()).unwrap().remove(0);
        verdict.steps.into_iter().find(|step| step.step == Reason::EscortRequired).unwrap().fact
    };
    let died = |death: Vec<Op>| {
        let mut w = building(Policy { visitor_escort_ms: 30_000, ..Policy::default() });
        w.resident("R", "p2");
        assert_eq!((w.present("gate-in", "R"), w.present("gate-in", "A")), ("granted", "granted"));
        w.publish(death);
        w
    };
    let visitor_now = Op::Enrol { uid: uid("R"), enrolment: as_role(Role::Visitor, "gate:*") };
    let deaths = [
        op::report_lost("uid:R"),
        op::reissue("p2", "B", Some("R")),
        op::cancel("p2"),
        op::freeze("uid:R"),
        op::withdraw("uid:R"),
        visitor_now,
    ];
    for death in deaths {
        let mut w = died(vec![death.clone()]);
        assert_eq!(w.present("gate-in", "A"), "escort_required", "{death:?}");
        assert_eq!(step(&w), "no host whose card opens this gate has entered; a visitor follows one within 30 s");
        // Another host will do.
        w.resident("C", "p3");
        assert_eq!((w.present("gate-in", "C"), w.present("gate-in", "A")), ("granted", "granted"));
        assert_eq!(step(&w), "a host entered 0 s ago; a visitor follows within 30 s");
    }
    // The host before that one still counts.
    let mut w = building(Policy { visitor_escort_ms: 30_000, ..Policy::default() });
    w.resident("R", "p2").resident("C", "p3");
    assert_eq!((w.present("gate-in", "C"), w.present("gate-in", "R")), ("granted", "granted"));
    w.publish(vec![op::report_lost("uid:R")]);
    assert_eq!(w.present("gate-in", "A"), "granted");
    // A card that was found again is a host's again.
    let mut w = died(vec![op::report_lost("uid:R")]);
    w.publish(vec![op::found("uid:R")]);
    assert_eq!(w.present("gate-in", "A"), "granted");
}
