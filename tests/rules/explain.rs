//! Why a card is granted or denied: each rung of the ladder, with the facts and the change that set them.

use dormgate::access::change::Op;
use dormgate::access::credential::{Enrolment, Role};
use dormgate::access::decision::{GrantFlag, Reason};
use dormgate::access::effect::Verdict;
use dormgate::access::input::{CardSet, Input, Operator};
use dormgate::access::policy::{AfterStale, Place, Policy, Severity, Walk};
use dormgate::access::portal::{PortalKind, Posture};

use crate::world::{World, enrolment, name, op, portals, uid};

/// What a query about card A at `portal` answers.
fn asked(w: &World, portal: &str) -> Verdict {
    w.engine.query(uid("A"), Some(&name(portal)), w.now()).unwrap().remove(0)
}

/// A step as `ok? fact [stream revision]`.
fn step(verdict: &Verdict, reason: Reason) -> String {
    let step = verdict.steps.iter().find(|step| step.step == reason).unwrap();
    let set_by = step.set_by.as_ref().map_or(String::new(), |by| format!(" [{} {:?}]", by.stream, by.revision));
    format!("{} {}{set_by}", if step.ok { "ok" } else { "denies" }, step.fact)
}

#[test]
fn each_step_names_its_facts_and_the_change_that_set_them() {
    let mut w = World::new();
    w.resident("A", "p1");
    w.publish(vec![op::freeze("uid:A"), op::report_lost("p1")]);
    w.publish(vec![op::unfreeze("uid:A")]);
    w.publish(vec![op::power("412", true)]);
    let verdict = asked(&w, "power-412");
    let rows = [
        (Reason::UnknownCredential, "ok issued to p1 [card-office (1, 1, 0)]"),
        (Reason::Replaced, "ok never replaced"),
        (Reason::Lost, "denies lost, as a card of its holder [card-office (1, 2, 1)]"),
        (Reason::Frozen, "ok not frozen any more [card-office (1, 3, 0)]"),
        (Reason::NotEnrolled, "ok resident p1: gate:* door:412 power_box:412 [apartment (1, 1, 0)]"),
        (Reason::PowerSuspended, "denies arrears [apartment (1, 2, 0)]"),
        (Reason::Lockdown, "ok posture secure"),
    ];
    for (reason, expected) in rows {
        assert_eq!(step(&verdict, reason), expected, "{reason:?}");
    }
    let lost = Reason::Lost;
    assert_eq!(verdict.words.unwrap(), lost.wording());
    assert_eq!(verdict.remedy.unwrap(), lost.remedy());
}

#[test]
fn the_steps_that_deny_are_the_reasons_of_the_decision_in_the_order_of_the_ladder() {
    let mut w = World::new();
    w.issue("A", "p1").enrol("A", "p1", "gate:*@term door:413");
    w.publish(vec![op::report_lost("uid:A"), op::cancel("uid:A")]);
    for portal in w.setup.portals.clone() {
        let verdict = asked(&w, portal.id.as_str());
        let denying: Vec<_> = verdict.steps.iter().filter(|step| !step.ok).map(|step| step.step).collect();
        let mut reasons = verdict.also.clone();
        reasons.extend(Reason::parse(verdict.outcome.reason()));
        reasons.sort();
        assert_eq!(denying, reasons, "{}", portal.id);
        assert!(denying.contains(&Reason::Lost), "{}", portal.id);
        let hours = if portal.kind == PortalKind::Gate { "denies term is not defined" } else { "ok " };
        assert_eq!(step(&verdict, Reason::OutsideSchedule), hours, "{}", portal.id);
        let has_power = verdict.steps.iter().any(|step| step.step == Reason::PowerSuspended);
        assert_eq!(has_power, portal.kind == PortalKind::PowerBox);
    }
}

#[test]
fn the_steps_that_look_beyond_the_list_name_what_was_observed() {
    let mut all = portals();
    all.retain(|p| p.id.as_str() != "gate-both");
    let walk = Walk { from: Place::Zone(name("lobby")), to: Place::Zone(name("412")), walk_ms: 60_000 };
    let policy = Policy {
        anti_passback: Severity::Deny,
        clone: Severity::Flag,
        walks: vec![walk],
        lockout_s: 30,
        max_denials: 2,
        ..Policy::default()
    };
    let mut w = World::of(policy, all, Vec::new());
    w.resident("A", "p1");
    let at = |w: &World, portal: &str, reason| step(&asked(w, portal), reason);
    let (again, elsewhere, locked) = (Reason::AntiPassback, Reason::InUseElsewhere, Reason::LockedOut);
    assert_eq!(at(&w, "gate-in", again), "ok no passage of it in lobby is known");
    assert_eq!(at(&w, "door-412", elsewhere), "ok in no other box, and no walking time is undercut");
    assert_eq!(at(&w, "door-413", locked), "ok 0 of 2 denials within 60 s");
    assert!(asked(&w, "door-412").steps.iter().all(|step| step.step != again), "no gate, no direction");
    let n = w.see("gate-in", "A").records().next().unwrap().event.n;
    w.pass_s(20);
    let passage = format!("last in at gate-in at 2026-09-01T00:00:00.000Z (granted, event {n})");
    assert_eq!(at(&w, "gate-in", again), format!("denies {passage}"));
    let walked = "granted at gate-in 20 s ago, from where the way takes 60 s";
    assert_eq!(at(&w, "door-412", elsewhere), format!("ok {walked}"), "it is only flagged");
    let flagged = asked(&w, "door-412").flags.remove(0);
    assert_eq!((flagged.flag, flagged.words), (GrantFlag::CloneSuspected, GrantFlag::CloneSuspected.wording()));
    w.input(Input::Operator(Operator::Forgive { cards: CardSet::All }, None));
    assert_eq!(at(&w, "gate-in", again), format!("ok {passage}; it does not count any more"));
    w.see("door-413", "X");
    assert_eq!(at(&w, "door-413", locked), "ok 1 of 2 denials within 60 s");
    w.see("door-413", "X");
    w.pass_ms(500);
    assert_eq!(at(&w, "door-413", locked), "denies 2 denials within 60 s; locked out for 30 s more");
    w.sits("power-412", "A", Some(true));
    assert_eq!(at(&w, "door-412", elsewhere), "ok power-412 shows the card in it");
}

#[test]
fn a_query_for_all_portals_has_words_and_no_steps() {
    let mut w = World::new();
    w.resident("A", "p1");
    let verdicts = w.engine.query(uid("A"), None, w.now()).unwrap();
    assert!(verdicts.iter().all(|verdict| verdict.steps.is_empty() && verdict.words.is_some()));
    let granted = verdicts.iter().find(|verdict| verdict.portal.as_str() == "gate-in").unwrap();
    assert_eq!(granted.remedy, None);
}

#[test]
fn a_denial_by_a_list_that_is_too_old_is_explained_by_its_age_and_not_by_the_posture() {
    let policy = Policy { after_stale: AfterStale::ResidentsOnly, after_stale_s: 3_600, ..Policy::default() };
    let mut w = World::with(policy);
    w.issue("A", "s1").publish(vec![op::enrol_staff("A", "s1", "gate:*")]);
    w.pass_s(3_601);
    let verdict = asked(&w, "gate-in");
    assert_eq!(verdict.outcome.reason(), "out_of_service");
    let too_old = "no message of a center for more than 3600 s (after_stale_s)";
    assert_eq!(step(&verdict, Reason::OutOfService), format!("denies {too_old}"));
    assert_eq!(step(&verdict, Reason::Lockdown), "ok posture secure");
    w.operator("gate-in", Posture::OutOfService);
    let both = format!("denies {too_old}; posture out_of_service");
    assert_eq!(step(&asked(&w, "gate-in"), Reason::OutOfService), both);
    // Whom it does not keep out it does not concern.
    w.publish(vec![op::enrol("A", "p1", "gate:*")]);
    w.operator("gate-in", Posture::Secure);
    w.pass_s(3_601);
    assert_eq!(step(&asked(&w, "gate-in"), Reason::OutOfService), "ok posture secure");
}

#[test]
fn a_visitor_at_a_portal_of_a_kind_that_visitors_do_not_open_is_shown_the_policy() {
    let mut w = World::new();
    let enrolment = Enrolment { role: Role::Visitor, ..enrolment("v1", "gate:* door:412") };
    w.issue("A", "v1").publish(vec![Op::Enrol { uid: uid("A"), enrolment }]);
    let verdict = asked(&w, "door-412");
    assert_eq!(verdict.outcome.reason(), "no_entitlement");
    let fact = "visitor v1: gate:* door:412; a visitor opens no door (visitor_kinds)";
    assert_eq!(step(&verdict, Reason::NoEntitlement), format!("denies {fact} [apartment (1, 1, 0)]"));
    let remedy = verdict.remedy.unwrap();
    assert!(remedy.en.contains("`policy.visitor_kinds`") && remedy.zh.contains("policy.visitor_kinds"), "{remedy:?}");
    assert!(!step(&asked(&w, "gate-in"), Reason::NoEntitlement).contains("visitor_kinds"));
}

#[test]
fn a_denial_by_a_walking_time_does_not_send_anybody_to_a_box() {
    let walk = Walk { from: Place::Zone(name("lobby")), to: Place::Zone(name("412")), walk_ms: 60_000 };
    let mut w = World::with(Policy { clone: Severity::Deny, walks: vec![walk], ..Policy::default() });
    w.resident("A", "p1").see("gate-in", "A");
    let verdict = asked(&w, "door-412");
    assert_eq!(verdict.outcome.reason(), "in_use_elsewhere");
    let remedy = verdict.remedy.unwrap();
    assert!(!remedy.en.contains("box") && !remedy.zh.contains("电源盒"), "{remedy:?}");
}
