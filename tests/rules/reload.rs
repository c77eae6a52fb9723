//! The configuration is read again: the rules change for the next card, what stands is judged at once, and what is not theirs stays.
//! The tests begin on a Tuesday at 08:00 in Shanghai.

use dormgate::access::calendar::Calendar;
use dormgate::access::event::{Event, EventKind};
use dormgate::access::input::{Input, Operator, PortalReport};
use dormgate::access::policy::{AfterHours, Policy, Severity};
use dormgate::access::portal::{Direction, Portal, PortalKind, Posture};
use dormgate::access::rules::Rules;
use dormgate::access::schedule::timezone;

use crate::world::{Seen, World, name, op, portals};

pub fn rules(w: &World) -> Rules {
    let setup = w.setup.clone();
    Rules { portals: setup.portals, policy: setup.policy, calendar: setup.calendar }
}

pub fn calendar(schedules: &[(&str, &str)]) -> Calendar {
    let (_, zone) = timezone("Asia/Shanghai").unwrap();
    Calendar::new(zone, schedules.iter().map(|(s, text)| (name(s), op::daily(text))).collect())
}

/// Reads the configuration again; a restart later starts with it, too.
pub fn reload(w: &mut World, rules: Rules) -> Seen {
    (w.setup.portals, w.setup.policy) = (rules.portals.clone(), rules.policy.clone());
    w.setup.calendar = rules.calendar.clone();
    w.input(Input::Reload { rules: Box::new(rules), detail: "changed: policy.after_hours".to_owned() })
}

pub fn at<'r>(rules: &'r mut Rules, id: &str) -> &'r mut Portal {
    rules.portals.iter_mut().find(|p| p.id.as_str() == id).unwrap()
}

#[test]
fn the_next_card_is_judged_by_the_new_rules_and_the_reload_is_in_the_audit() {
    let mut w = World::new();
    w.resident("A", "p1");
    assert_eq!(w.present("gate-in", "A"), "granted");
    let mut new = rules(&w);
    new.policy.after_hours = AfterHours::Deny;
    new.calendar = calendar(&[("day", "09:00-22:00")]);
    at(&mut new, "gate-in").hours = Some(name("day"));
    let seen = reload(&mut w, new);
    assert_eq!(seen.recorded(), [EventKind::Config]);
    let Event::Config { detail, .. } = &seen.records().next().unwrap().event.body else { panic!("{seen:?}") };
    assert_eq!(detail, "changed: policy.after_hours");
    assert_eq!(w.present("gate-in", "A"), "outside_schedule");
    assert_eq!(w.present("gate-both", "A"), "granted", "it has no hours");
    w.pass_s(3600);
    assert_eq!(w.present("gate-in", "A"), "granted", "09:00");
    w.assert_replay_is_life();
}

#[test]
fn a_box_and_a_gate_follow_the_new_schedule_at_once_and_at_its_edges() {
    let mut w = World::new();
    w.resident("A", "p1");
    w.sits("power-412", "A", None);
    w.see("power-412", "A");
    assert!(w.is_on("power-412"));
    let mut new = rules(&w);
    new.calendar = calendar(&[("lights", "10:00-23:00"), ("morning", "07:00-09:00")]);
    at(&mut new, "power-412").power_hours = Some(name("lights"));
    at(&mut new, "gate-in").free_access = Some(name("morning"));
    let seen = reload(&mut w, new);
    assert_eq!(seen.cuts(), [("power-412", "outside_schedule")]);
    assert_eq!(seen.modes(), [("gate-in", Posture::FreeAccess)]);
    assert_eq!(w.pass_s(3600).modes(), [("gate-in", Posture::Secure)], "09:00");
    w.pass_s(3600);
    assert!(w.is_on("power-412"), "10:00, the card is still in it");
    w.assert_replay_is_life();
}

#[test]
fn a_schedule_of_a_center_stays_before_one_of_the_configuration() {
    let mut w = World::new();
    w.resident("A", "p1");
    w.publish(vec![op::schedule("day", "07:00-22:00")]);
    let mut new = rules(&w);
    new.policy.after_hours = AfterHours::Deny;
    new.calendar = calendar(&[("day", "12:00-13:00")]);
    at(&mut new, "gate-in").hours = Some(name("day"));
    reload(&mut w, new);
    assert_eq!(w.present("gate-in", "A"), "granted");
}

#[test]
fn what_a_portal_is_and_where_and_whether_uids_are_hashed_stay_as_they_were() {
    let mut w = World::new();
    w.resident("A", "p1");
    let mut new = rules(&w);
    new.policy.hash_uids = true;
    *at(&mut new, "gate-in") = Portal::new(name("gate-in"), PortalKind::Door, name("cellar"));
    new.portals.push(Portal::new(name("another"), PortalKind::Gate, name("lobby")));
    w.input(Input::Reload { rules: Box::new(new), detail: String::new() });
    assert_eq!(w.engine.kind_of("gate-in"), Some(PortalKind::Gate));
    assert_eq!(w.engine.kind_of("another"), None);
    assert!(!w.engine.policy().hash_uids);
    assert_eq!(w.present("gate-in", "A"), "granted");
    assert_eq!(w.present("another", "A"), "unknown_portal");
}

#[test]
fn anti_passback_and_a_lock_out_follow_the_new_policy_by_what_was_observed_before() {
    let hard = Policy { anti_passback: Severity::Deny, max_denials: 1, lockout_s: 600, ..Policy::default() };
    let mut w = World::with(Policy { anti_passback: Severity::Off, ..hard.clone() });
    w.resident("A", "p1");
    assert_eq!(w.present("gate-in", "A"), "granted");
    w.passed("gate-in", Direction::In);
    let mut new = rules(&w);
    new.policy = hard;
    reload(&mut w, new);
    assert_eq!(w.present("gate-both", "A"), "granted", "which way is not known");
    w.pass_s(10);
    assert_eq!(w.present("gate-in", "A"), "anti_passback", "it entered before the reload");
    assert_eq!(w.present("door-412", "X"), "unknown_credential");
    assert_eq!(w.present("door-412", "A"), "locked_out");
    let mut new = rules(&w);
    new.policy.lockout_s = 0;
    reload(&mut w, new);
    assert_eq!(w.present("door-412", "A"), "granted", "nobody wants lock-outs any more");
    w.assert_replay_is_life();
}

#[test]
fn a_reload_revives_no_card_and_opens_nothing_by_itself() {
    let mut w = World::with(Policy::default());
    w.resident("A", "p1");
    w.publish(vec![op::report_lost("uid:A")]);
    let before = rules(&w);
    let seen = reload(&mut w, before);
    assert!(seen.cuts().is_empty() && seen.modes().is_empty(), "{seen:?}");
    assert_eq!(w.present("gate-in", "A"), "lost");
    assert_eq!(portals().len(), w.setup.portals.len());
}

/// A fire contact at `gate-both` that does not count, and the rules by which it does.
fn fire_ignored() -> (World, Rules) {
    let mut w = World::new();
    let counts = rules(&w);
    w.setup.portals.iter_mut().filter(|p| p.id.as_str() == "gate-both").for_each(|p| p.fire_input = false);
    w.restart();
    (w, counts)
}

#[test]
fn a_fire_input_that_counts_from_a_reload_on_and_is_active_then_puts_the_building_in_fire() {
    let (mut w, counts) = fire_ignored();
    w.fire("gate-both", true);
    assert_eq!(w.present("gate-in", "X"), "unknown_credential");
    let seen = reload(&mut w, counts.clone());
    assert!(seen.modes().contains(&("gate-in", Posture::Fire)), "{seen:?}");
    assert_eq!(w.present("gate-in", "X"), "fire");
    assert!(w.engine.fire_reset_refusal(true).unwrap().contains("still active at gate-both"));
    w.assert_replay_is_life();
    let clear: [fn(&mut World); 2] = [
        |w| drop(w.fire("gate-both", false)),
        |w| drop(w.report("gate-both", PortalReport { online: Some(false), ..PortalReport::default() })),
    ];
    for clear in clear {
        let (mut w, counts) = fire_ignored();
        w.fire("gate-both", true);
        clear(&mut w);
        reload(&mut w, counts.clone());
        assert_eq!(w.present("gate-in", "X"), "unknown_credential", "it is not known to be active any more");
    }
}

#[test]
fn a_fire_input_that_counts_no_more_is_set_aside_by_force_and_counts_again_after_another_reload() {
    let (mut w, counts) = fire_ignored();
    let ignored = rules(&w);
    reload(&mut w, counts.clone());
    w.fire("gate-both", true);
    reload(&mut w, ignored);
    let refusal = w.engine.fire_reset_refusal(false).unwrap();
    assert!(refusal.contains("`fire_input = false`"), "its portal is online: {refusal}");
    w.input(Input::Operator(Operator::FireReset { force: true }, None));
    assert_eq!(w.present("gate-in", "X"), "unknown_credential");
    reload(&mut w, counts);
    assert_eq!(w.present("gate-in", "X"), "fire", "its contact is active still");
    w.assert_replay_is_life();
}
