//! The decision ladder as a table, reviewed as a diff: `UPDATE=1 cargo test --test rules matrix` writes it again.
//!
//! One block a situation, one line a portal, one column a posture. A cell is the reason; `+` marks a grant; further reasons and
//! flags follow in brackets.

use std::fmt::Write;

use dormgate::access::change::{Op, SuspendReason};
use dormgate::access::credential::{Enrolment, Role};
use dormgate::access::decide::{Facts, ListIntegrity, Observed, Question, decide};
use dormgate::access::decision::{Decision, GrantFlag, GrantReason, Reason};
use dormgate::access::id::{ClockTrust, Timestamp};
use dormgate::access::input::Presented;
use dormgate::access::policy::{
    AfterHours, AfterStale, FirePower, KindSet, Policy, Severity, StaffPower, UntrustedClock,
};
use dormgate::access::portal::{Assurance, Direction, Portal, PortalKind, Posture};
use dormgate::access::transform::{Form, Transform, Turn};
use dormgate::access::trip::{Hold, Trip};

use crate::world::{BEGIN_MS, World, enrolment, op, portals, uid};

/// The reason that nothing reaches.
const NOT_REACHED: [Reason; 1] = [Reason::InternalError];

struct Situation {
    name: &'static str,
    world: World,
    presented: Presented,
    stale: bool,
    stale_list: bool,
    outdated_list: bool,
    integrity: ListIntegrity,
    observed: Observed,
    known_portal: bool,
    trip: Option<Trip>,
}

/// Card A of P1, enrolled for the gate, door and box of 412, and what `make` did to it.
fn card(name: &'static str, make: impl FnOnce(&mut World)) -> Situation {
    with(name, Policy::default(), make)
}

fn with(name: &'static str, policy: Policy, make: impl FnOnce(&mut World)) -> Situation {
    let mut world = World::with(policy);
    make(&mut world);
    Situation {
        name,
        world,
        presented: Presented::Card(uid("A")),
        stale: false,
        stale_list: false,
        outdated_list: false,
        integrity: ListIntegrity::Complete,
        observed: Observed::default(),
        known_portal: true,
        trip: None,
    }
}

fn observed(name: &'static str, observed: Observed, make: impl FnOnce(&mut World)) -> Situation {
    Situation { observed, ..card(name, make) }
}

/// What a Wiegand 26 reader makes of card A, in a building with such readers.
fn read_short(name: &'static str, make: impl FnOnce(&mut World)) -> Situation {
    let transform = Transform { turn: Turn::AsSent, form: Form::Last(3) };
    let lossy = portals().into_iter().map(|p| (p.id, transform)).collect();
    let mut world = World::of(Policy::default(), portals(), lossy);
    make(&mut world);
    Situation { world, presented: Presented::Lossy(transform.read(uid("A"))), ..card(name, |_| {}) }
}

fn good(w: &mut World) {
    w.resident("A", "p1");
}

fn window(w: &mut World, from_ms: i64, to_ms: i64) {
    let mut e = enrolment("p1", "gate:* door:412 power_box:412");
    (e.not_before, e.not_after) = (Some(Timestamp(BEGIN_MS + from_ms)), Some(Timestamp(BEGIN_MS + to_ms)));
    w.issue("A", "p1").publish(vec![Op::Enrol { uid: uid("A"), enrolment: e }]);
}

fn staff(w: &mut World) {
    let mut e = enrolment("s1", "gate:* door:*");
    e.role = Role::Staff;
    w.issue("A", "s1").publish(vec![Op::Enrol { uid: uid("A"), enrolment: e }]);
}

/// A member of staff who may use power boxes, too.
fn electrician(w: &mut World) {
    let e = Enrolment { role: Role::Staff, ..enrolment("s1", "gate:* door:* power_box:*") };
    w.issue("A", "s1").publish(vec![Op::Enrol { uid: uid("A"), enrolment: e }]);
}

/// A visitor whom somebody enrolled for more than gates.
fn guest(w: &mut World) {
    let e = Enrolment { role: Role::Visitor, ..enrolment("v1", "gate:* door:412 power_box:412") };
    w.issue("A", "v1").publish(vec![Op::Enrol { uid: uid("A"), enrolment: e }]);
}

const OVERLOAD: Trip = Trip { reason: SuspendReason::Overload, holds: Hold::StaysOff };

fn suspended_for(reason: SuspendReason) -> Op {
    Op::Power { zone: "412".parse().unwrap(), reason, suspended: true }
}

fn good_and(op: Op) -> impl FnOnce(&mut World) {
    move |w| {
        good(w);
        w.publish(vec![op]);
    }
}

fn by_term(w: &mut World) {
    w.issue("A", "p1").enrol("A", "p1", "gate:*@term door:412@term power_box:412@term");
}

fn denied_after_hours() -> Policy {
    Policy { after_hours: AfterHours::Deny, after_hours_visitor: AfterHours::Deny, ..Policy::default() }
}

/// Every portal has hours that are over.
fn hours_over(w: &mut World) {
    for portal in &mut w.setup.portals {
        let hours = if portal.kind == PortalKind::PowerBox { &mut portal.power_hours } else { &mut portal.hours };
        *hours = Some("day".parse().unwrap());
    }
    w.publish(vec![op::schedule("day", "08:01-08:00")]);
}

fn after_hours(name: &'static str, policy: Policy, make: impl FnOnce(&mut World)) -> Situation {
    with(name, policy, |w| {
        hours_over(w);
        make(w);
    })
}

fn outdated(name: &'static str, after_stale: AfterStale, make: impl FnOnce(&mut World)) -> Situation {
    let after_stale_kinds = PortalKind::ALL.iter().copied().collect();
    let policy = Policy { after_stale, after_stale_kinds, ..Policy::default() };
    Situation { stale_list: true, outdated_list: true, ..with(name, policy, make) }
}

fn situations() -> Vec<Situation> {
    let untrusted = |policy: UntrustedClock| Policy { untrusted_clock: policy, ..Policy::default() };
    let clockless = |mut s: Situation| {
        s.world.clock = ClockTrust::Untrusted;
        s
    };
    let gate_only = || KindSet::from_iter([PortalKind::Gate]);
    let required = || Policy { require_issue: true, ..Policy::default() };
    let with_integrity = |name, integrity, make: fn(&mut World)| Situation { integrity, ..card(name, make) };
    let only_enrolled = |w: &mut World| {
        w.enrol("A", "p1", "gate:* door:412 power_box:412");
    };
    vec![
        card("good card of a resident", good),
        card("good card of a member of staff, gates and doors", staff),
        card("good card of a resident of another room", |w| {
            w.issue("A", "p1").enrol("A", "p1", "gate:* door:413 power_box:413");
        }),
        Situation { stale_list: true, ..card("good card, list not confirmed for long", good) },
        Situation { stale: true, ..card("good card, retained request", good) },
        Situation { known_portal: false, ..card("good card, unknown portal", good) },
        Situation { presented: Presented::Malformed("00000000".into()), ..card("malformed", good) },
        Situation {
            presented: Presented::Malformed("1E".into()),
            stale: true,
            known_portal: false,
            ..card("malformed, retained, unknown portal", good)
        },
        Situation { presented: Presented::Card(uid("phone")), ..card("random identifier", good) },
        card("unknown", |_| {}),
        card("enrolled, never issued", only_enrolled),
        with("enrolled, never issued, issue required", required(), only_enrolled),
        with_integrity("good card, list being filled", ListIntegrity::Bootstrapping, good),
        with_integrity("enrolled, never issued, list being filled", ListIntegrity::Bootstrapping, only_enrolled),
        with_integrity("good card, list damaged", ListIntegrity::Damaged, good),
        with_integrity("lost card, list damaged", ListIntegrity::Damaged, |w| good_and(op::report_lost("uid:A"))(w)),
        card("replaced", good_and(op::reissue("p1", "B", Some("A")))),
        card("replaced by a reissue that names no old card", good_and(op::reissue("p1", "B", None))),
        card("cancelled", good_and(op::cancel("p1"))),
        card("lost", good_and(op::report_lost("uid:A"))),
        card("lost, found", |w| {
            good_and(op::report_lost("uid:A"))(w);
            w.publish(vec![op::found("uid:A")]);
        }),
        card("frozen", good_and(op::freeze("uid:A"))),
        with(
            "frozen, frozen_may = gate",
            Policy { frozen_may: gate_only(), ..Policy::default() },
            good_and(op::freeze("uid:A")),
        ),
        card("replaced, cancelled, lost and frozen member of staff", |w| {
            staff(w);
            w.publish(vec![op::reissue("s1", "B", None), op::cancel("s1"), op::report_lost("s1"), op::freeze("s1")]);
        }),
        card("issued, not enrolled", |w| {
            w.issue("A", "p1");
        }),
        card("withdrawn", good_and(op::withdraw("uid:A"))),
        card("enrolled for power only, elsewhere", |w| {
            w.issue("A", "p1").enrol("A", "p1", "power_box:413");
        }),
        with("new card, reissue_keeps = gate", Policy { reissue_keeps: gate_only(), ..Policy::default() }, |w| {
            w.resident("R", "p1").publish(vec![op::reissue("p1", "A", Some("R"))]);
        }),
        card("not yet valid", |w| window(w, 1, 1_000)),
        card("valid from now", |w| window(w, 0, 1)),
        card("expired now", |w| window(w, -1_000, 0)),
        clockless(with("window, clock untrusted (deny)", untrusted(UntrustedClock::Deny), |w| window(w, 1, 1_000))),
        clockless(with("window, clock untrusted (grant)", untrusted(UntrustedClock::Grant), |w| window(w, 1, 1_000))),
        clockless(with("no window, clock untrusted (deny)", untrusted(UntrustedClock::Deny), good)),
        card("schedule that nobody defined", by_term),
        card("schedule that is open", |w| {
            w.publish(vec![op::schedule("term", "08:00-08:01")]);
            by_term(w);
        }),
        card("schedule that is closed", |w| {
            w.publish(vec![op::schedule("term", "08:01-08:00")]);
            by_term(w);
        }),
        clockless(with("schedule, clock untrusted (deny)", untrusted(UntrustedClock::Deny), |w| {
            w.publish(vec![op::schedule("term", "08:00-08:01")]);
            by_term(w);
        })),
        clockless(with("schedule, clock untrusted (grant)", untrusted(UntrustedClock::Grant), |w| {
            w.publish(vec![op::schedule("term", "08:01-08:00")]);
            by_term(w);
        })),
        after_hours("after hours and lights-out", Policy::default(), good),
        after_hours("after hours, after_hours = deny", denied_after_hours(), good),
        after_hours("after hours, visitor, after_hours_visitor = deny", denied_after_hours(), |w| {
            let e = Enrolment { role: Role::Visitor, ..enrolment("v1", "gate:*") };
            w.issue("A", "v1").publish(vec![Op::Enrol { uid: uid("A"), enrolment: e }]);
        }),
        after_hours("after hours, member of staff", denied_after_hours(), staff),
        after_hours("after hours, a right at this hour, after_hours = deny", denied_after_hours(), |w| {
            w.publish(vec![op::schedule("term", "08:00-08:01")]);
            by_term(w);
        }),
        clockless(after_hours("after hours, clock untrusted (deny)", Policy::default(), good)),
        after_hours("after hours and lights-out, lost", Policy::default(), good_and(op::report_lost("uid:A"))),
        outdated("list too old, after_stale = continue", AfterStale::Continue, good),
        outdated("list too old, after_stale = residents_only", AfterStale::ResidentsOnly, good),
        outdated("list too old, after_stale = residents_only, member of staff", AfterStale::ResidentsOnly, staff),
        outdated("list too old, after_stale = deny_entry", AfterStale::DenyEntry, good),
        outdated("list too old, after_stale = deny_entry, after hours", AfterStale::DenyEntry, |w| {
            hours_over(w);
            good(w);
        }),
        card("schedule for the gate, another right without one", |w| {
            w.issue("A", "p1").enrol("A", "p1", "gate:*@term gate:lobby");
        }),
        card("visitor", guest),
        with(
            "visitor, visitor_kinds = gate, door",
            Policy { visitor_kinds: KindSet::from_iter([PortalKind::Gate, PortalKind::Door]), ..Policy::default() },
            guest,
        ),
        card("visitor of yesterday", |w| {
            w.wall_off_ms = -86_400_000;
            guest(w);
            w.wall_off_ms = 0;
        }),
        observed("visitor without a host", Observed { unescorted: true, ..Observed::default() }, guest),
        card("power suspended", good_and(op::power("412", true))),
        card("power suspended for maintenance", good_and(suspended_for(SuspendReason::Maintenance))),
        card("member of staff at boxes", electrician),
        with(
            "member of staff at boxes, staff_power = always",
            Policy { staff_power: StaffPower::Always, ..Policy::default() },
            electrician,
        ),
        card("member of staff, power suspended for maintenance", |w| {
            electrician(w);
            w.publish(vec![suspended_for(SuspendReason::Maintenance)]);
        }),
        card("member of staff, power suspended for maintenance and arrears", |w| {
            electrician(w);
            w.publish(vec![suspended_for(SuspendReason::Maintenance), op::power("412", true)]);
        }),
        Situation { trip: Some(OVERLOAD), ..card("the box tripped", good) },
        Situation {
            trip: Some(OVERLOAD),
            ..card("the box tripped, member of staff, power suspended for maintenance", |w| {
                electrician(w);
                w.publish(vec![suspended_for(SuspendReason::Maintenance)]);
            })
        },
        card("power suspended, expired", |w| {
            window(w, -1_000, 0);
            w.publish(vec![op::power("412", true)]);
        }),
        read_short("lossy reader, one card", good),
        read_short("lossy reader, one card, lost", good_and(op::report_lost("uid:A"))),
        read_short("lossy reader, member of staff", staff),
        read_short("lossy reader, no card", |w| {
            w.resident("R", "p1");
        }),
        read_short("lossy reader, cards of two residents", |w| {
            w.resident("A", "p1").resident("99A68671", "p2");
        }),
        read_short("lossy reader, a card and its holder's dead one", |w| {
            w.resident("99A68671", "p1").publish(vec![op::reissue("p1", "A", None)]);
            w.enrol("A", "p1", "gate:* door:412 power_box:412");
        }),
        observed("too many denials at the portal", Observed { locked_out: true, ..Observed::default() }, good),
        observed(
            "unknown card, too many denials at the portal",
            Observed { locked_out: true, ..Observed::default() },
            |_| {},
        ),
        observed("second passage, soft", Observed { anti_passback: Severity::Flag, ..Observed::default() }, good),
        observed("second passage, hard", Observed { anti_passback: Severity::Deny, ..Observed::default() }, good),
        observed("in two places, flag", Observed { clone: Severity::Flag, ..Observed::default() }, good),
        observed("in two places, deny", Observed { clone: Severity::Deny, ..Observed::default() }, good),
        observed("first of two cards", Observed { first_of_two: true, ..Observed::default() }, good),
        observed("another door of the interlock is open", Observed { interlocked: true, ..Observed::default() }, good),
        observed(
            "lost card, first of two cards, another door of the interlock is open",
            Observed { first_of_two: true, interlocked: true, ..Observed::default() },
            |w| good_and(op::report_lost("uid:A"))(w),
        ),
        observed("lost card in two places, deny", Observed { clone: Severity::Deny, ..Observed::default() }, |w| {
            good_and(op::report_lost("uid:A"))(w);
        }),
        card("good card, read with less assurance than the portal wants", |w| {
            good(w);
            w.setup.portals.iter_mut().for_each(|p| p.min_assurance = Assurance::Sector);
        }),
        with("good card, fire_power = cut", Policy { fire_power: FirePower::Cut, ..Policy::default() }, good),
    ]
}

fn decided(s: &Situation, portal: &Portal, direction: Option<Direction>, posture: Posture) -> Decision {
    let facts = Facts {
        list: &s.world.engine.state().list,
        integrity: s.integrity,
        calendar: s.world.engine.calendar(),
        policy: &s.world.setup.policy,
        posture,
        trip: s.trip,
        stale_list: s.stale_list,
        outdated_list: s.outdated_list,
        now: s.world.now(),
    };
    let portal = s.known_portal.then_some(portal);
    decide(
        &facts,
        &Question {
            portal,
            presented: &s.presented,
            direction,
            stale: s.stale,
            assurance: Assurance::Uid,
            observed: s.observed,
        },
    )
}

fn cell(decision: &Decision) -> String {
    let mut notes: Vec<_> = decision.also().iter().map(Reason::as_str).collect();
    let sign = match decision {
        Decision::Grant(grant) => {
            notes.extend(grant.flags().iter().map(GrantFlag::as_str));
            "+"
        }
        Decision::Deny(_) => "",
    };
    let notes = if notes.is_empty() { String::new() } else { format!(" [{}]", notes.join(" ")) };
    format!("{sign}{}{notes}", decision.reason_str())
}

#[test]
fn the_printed_matrix_is_the_one_that_was_reviewed() {
    let lines: [(&str, Option<Direction>); 5] = [
        ("gate-in", None),
        ("gate-out", None),
        ("gate-both", Some(Direction::Out)),
        ("door-412", Some(Direction::Out)),
        ("power-412", None),
    ];
    let mut text = String::new();
    let mut reasons = Vec::new();
    let mut grants = Vec::new();
    for s in situations() {
        writeln!(text, "# {}", s.name).unwrap();
        for (id, direction) in lines {
            let portal = s.world.setup.portals.iter().find(|p| p.id.as_str() == id).unwrap();
            for posture in Posture::ALL.iter().copied() {
                let decision = decided(&s, portal, direction, posture);
                match &decision {
                    Decision::Grant(grant) => grants.push(grant.reason()),
                    Decision::Deny(denial) => reasons.push(denial.reason),
                }
                let way = if direction.is_some() { " outwards" } else { "" };
                writeln!(text, "{:<20} {:<15} {}", format!("{id}{way}"), posture.as_str(), cell(&decision)).unwrap();
            }
        }
        text.push('\n');
    }
    for reason in Reason::ALL {
        assert_eq!(reasons.contains(reason), !NOT_REACHED.contains(reason), "{reason:?}");
    }
    for reason in GrantReason::ALL.iter().copied() {
        assert_eq!(grants.contains(&reason), reason != GrantReason::Remote, "{reason:?}");
    }
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/rules/decisions.txt");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(file, &text).unwrap();
    }
    let reviewed = std::fs::read_to_string(file).unwrap_or_default();
    for (i, (now, then)) in text.lines().zip(reviewed.lines()).enumerate() {
        assert_eq!(now, then, "line {} of decisions.txt; UPDATE=1 writes it again, then review the diff", i + 1);
    }
    assert_eq!(text.lines().count(), reviewed.lines().count(), "decisions.txt has another length; UPDATE=1");
}
