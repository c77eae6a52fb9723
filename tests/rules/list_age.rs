//! A list that no center has confirmed for too long: whom it keeps out, and when that is noticed.

use dormgate::access::credential::Role;
use dormgate::access::decision::GrantFlag;
use dormgate::access::event::{Event, Outcome};
use dormgate::access::input::PortalReport;
use dormgate::access::policy::{AfterStale, KindSet, Policy};
use dormgate::access::portal::{PortalKind, Posture};

use crate::schedules::{building, enrol_as};
use crate::world::{APARTMENT, World, at};

/// A building whose list no center confirms, where this is decided for residents, staff and visitors after a day.
#[test]
fn a_list_that_is_too_old_keeps_out_whom_the_policy_names_and_lets_everybody_leave() {
    let all = [PortalKind::Gate, PortalKind::Door, PortalKind::PowerBox];
    let rows: &[(AfterStale, &[PortalKind], [&str; 4])] = &[
        (AfterStale::Continue, &all, ["granted"; 4]),
        (AfterStale::ResidentsOnly, &all, ["granted", "out_of_service", "out_of_service", "granted"]),
        (AfterStale::DenyEntry, &all, ["out_of_service"; 4]),
        (AfterStale::DenyEntry, &all[..2], ["out_of_service", "out_of_service", "out_of_service", "granted"]),
        (AfterStale::DenyEntry, &all[1..2], ["granted"; 4]),
    ];
    for (after_stale, kinds, expected) in rows {
        let after_stale_kinds: KindSet = kinds.iter().copied().collect();
        let policy = Policy { after_stale: *after_stale, after_stale_kinds, after_stale_s: 3_600, ..Policy::default() };
        let mut w = building(policy, |_| {});
        w.resident("A", "p1");
        enrol_as(&mut w, "R", Role::Staff, "gate:*");
        enrol_as(&mut w, "guest", Role::Visitor, "gate:*");
        w.present("power-412", "A");
        let (case, fresh) = (format!("{after_stale:?} {kinds:?}"), w.pass_s(3_590));
        assert_eq!((fresh.cuts(), w.present("gate-in", "A")), (vec![], "granted"), "{case}");
        let cuts = if expected[3] == "granted" { vec![] } else { vec![("power-412", "out_of_service")] };
        assert_eq!(w.pass_s(30).cuts(), cuts, "{case}");
        let found = ["A", "R", "guest"].map(|card| w.present("gate-in", card));
        let last = w.journal.last().expect("a decision").event.body.detail();
        assert_eq!(last.contains("after_stale_s"), found[2] == "out_of_service", "{case}: {last}");
        assert_eq!(
            (found, w.present("power-412", "A")),
            ([expected[0], expected[1], expected[2]], expected[3]),
            "{case}"
        );
        assert_eq!((w.present("gate-out", "A"), w.present("gate-out", "guest")), ("exit", "exit"), "{case}");
        // The centers come back.
        for stream in [crate::world::OFFICE, APARTMENT] {
            let (epoch, seq) = w.counters[stream];
            w.head(stream, at(epoch, seq));
        }
        assert_eq!((w.present("gate-in", "A"), w.present("power-412", "A")), ("granted", "granted"), "{case}");
    }
}

#[test]
fn a_list_becomes_too_old_in_time_however_often_the_other_one_changes() {
    let after_stale_kinds: KindSet = [PortalKind::PowerBox].into_iter().collect();
    let policy =
        Policy { after_stale: AfterStale::DenyEntry, after_stale_kinds, after_stale_s: 60, ..Policy::default() };
    let mut w = building(policy, |_| {});
    w.resident("A", "p1");
    w.present("power-412", "A");
    // The apartment center changes something every two seconds, and the office is silent.
    let off_after_s = |w: &mut World| {
        (0..50).find(|_| {
            w.enrol("B", "p2", "gate:*");
            w.pass_s(2);
            !w.is_on("power-412")
        })
    };
    assert!(off_after_s(&mut w).is_some_and(|steps| (29..=35).contains(&steps)));
}

#[test]
fn every_grant_by_a_list_that_is_old_is_flagged_whatever_it_is_for_from_the_limit_on() {
    let mut w = building(Policy { stale_after_s: 60, ..Policy::default() }, |_| {});
    w.resident("A", "p1");
    let marked = |w: &mut World, portal: &str, card: Option<&str>| {
        match card {
            Some(card) => drop(w.see(portal, card)),
            None => drop(w.report(portal, PortalReport { exit_button: true, ..PortalReport::default() })),
        }
        let last = &w.journal.iter().rev().find(|r| matches!(r.event.body, Event::Decision { .. })).unwrap().event.body;
        let Event::Decision { outcome: Outcome::Grant(reason), flags, .. } = last else { panic!("{last:?}") };
        (reason.as_str(), flags.contains(GrantFlag::StaleList))
    };
    let all = |w: &mut World| {
        let mut all = vec![marked(w, "gate-in", Some("A")), marked(w, "gate-out", Some("A"))];
        all.extend([marked(w, "gate-out", Some("unknown")), marked(w, "gate-in", None)]);
        w.operator("", Posture::FreeAccess);
        all.push(marked(w, "gate-in", Some("A")));
        w.operator("", Posture::Secure);
        all
    };
    let expected = |stale| ["granted", "exit", "exit", "exit", "free_access"].map(|reason| (reason, stale));
    w.pass_ms(59_999);
    assert_eq!(all(&mut w), expected(false));
    w.pass_ms(1);
    assert_eq!(all(&mut w), expected(true));
    w.fire("gate-out", true);
    assert_eq!(marked(&mut w, "gate-in", Some("lost")), ("fire", true));
    w.assert_replay_is_life();
}
