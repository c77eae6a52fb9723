//! The proof of a revocation: received, in force, durable, and confirmed by the device of each box that it cut.

use dormgate::access::effect::{PortalProof, RevocationProof};
use dormgate::access::engine::OFF_AGAIN_MS_MIN;
use dormgate::access::event::{AlarmKind, Confirmation, Event, EventKind, Record};
use dormgate::access::id::Timestamp;
use dormgate::access::input::{CommandKind, Input, PortalReport, Presented, Request};
use dormgate::access::policy::{Policy, RevokePower};
use dormgate::access::portal::Assurance;
use dormgate::access::power_box::RELAY_SETTLE_MS;
use dormgate::store::{MemoryDisk, Stepped};

use crate::running::Running;
use crate::world::{BEGIN_MS, OFFICE, Seen, World, name, op, portals as portals_of_the_building, uid};

/// A building whose boxes of 412 and 413 are on by card A, their relays reported on.
fn occupied_with(policy: Policy) -> World {
    let mut w = World::with(policy);
    w.issue("A", "p1").enrol("A", "p1", "gate:* power_box:*").resident("R", "p2");
    for portal in ["power-412", "power-413"] {
        assert_eq!(w.present(portal, "A"), "granted");
        w.relay(portal, true);
    }
    w.pass_s(10);
    w
}

fn occupied() -> World {
    occupied_with(Policy::default())
}

/// Milliseconds since the tests began.
fn ms(at: Timestamp) -> i64 {
    at.0 - BEGIN_MS
}

/// A revocation as a query shows it: in force, durable, and each portal with when and how it confirmed; `None`: not yet.
type Shown = (i64, Option<i64>, Vec<(String, Option<(i64, Confirmation)>)>);

fn shown(w: &World, card: &str) -> Vec<Shown> {
    let all = w.engine.revocations_of(uid(card)).into_iter().map(|proof| {
        assert_eq!(proof.received_at, proof.in_force_at, "the tests hand a message over when it is received");
        let portal = |p: PortalProof| (p.portal.to_string(), p.confirmed_at.map(|at| (ms(at), p.how.unwrap())));
        let portals = proof.portals.into_iter().map(portal).collect();
        (ms(proof.in_force_at), proof.durable_at.map(ms), portals)
    });
    all.collect()
}

fn unconfirmed(w: &World) -> Vec<String> {
    w.engine.status(w.now()).unconfirmed.into_iter().map(|u| format!("{} {}", u.portal, u.uid)).collect()
}

/// Everything so far is on disk.
fn flush(w: &mut World) -> Seen {
    let through = w.engine.state().last_n;
    w.input(Input::Durable { through })
}

fn lose(w: &mut World) -> Seen {
    w.publish(vec![op::report_lost("uid:A")])
}

fn portals(
    first: Option<(i64, Confirmation)>,
    second: Option<(i64, Confirmation)>,
) -> Vec<(String, Option<(i64, Confirmation)>)> {
    vec![("power-412".to_owned(), first), ("power-413".to_owned(), second)]
}

#[test]
fn each_step_of_a_revocation_is_in_the_audit_and_in_the_answer_to_a_query() {
    use Confirmation::Off;
    let mut w = occupied();
    let at = i64::try_from(w.elapsed_ms).unwrap();
    let seen = lose(&mut w);
    assert_eq!(seen.recorded()[..2], [EventKind::ChangesApplied, EventKind::Revoked]);
    assert_eq!(shown(&w, "A"), [(at, None, portals(None, None))]);
    assert_eq!(unconfirmed(&w), ["power-412 1EA68671", "power-413 1EA68671"]);
    w.pass_ms(40);
    assert_eq!(flush(&mut w).recorded(), [EventKind::RevocationDurable]);
    assert_eq!(flush(&mut w).recorded(), [], "once");
    assert_eq!(shown(&w, "A"), [(at, Some(at + 40), portals(None, None))]);
    w.pass_ms(60);
    assert_eq!(w.relay("power-413", false).recorded(), [EventKind::RevocationConfirmed]);
    assert_eq!(shown(&w, "A"), [(at, Some(at + 40), portals(None, Some((at + 100, Off))))]);
    assert_eq!(unconfirmed(&w), ["power-412 1EA68671"]);
    w.pass_ms(100);
    assert_eq!(w.relay("power-412", false).recorded(), [EventKind::RevocationConfirmed]);
    let whole = (at, Some(at + 40), portals(Some((at + 200, Off)), Some((at + 100, Off))));
    assert_eq!(shown(&w, "A"), std::slice::from_ref(&whole));
    assert_eq!((unconfirmed(&w).len(), w.pass_s(600).alarms()), (0, vec![]));
    // By command, after a restart, and for each revocation of the card.
    w.restart();
    w.publish(vec![op::found("uid:A")]);
    assert_eq!(shown(&w, "A"), std::slice::from_ref(&whole));
    lose(&mut w);
    let again = (i64::try_from(w.elapsed_ms).unwrap(), None, vec![]);
    assert_eq!(shown(&w, "A"), [again, whole]);
    let asked = w.command("q", CommandKind::Query { uid: uid("A"), portal: Some(name("gate-in")) });
    let result = asked.reply().result.clone().unwrap();
    assert_eq!((result.verdicts.len(), result.revocations.len()), (1, 2));
    assert_eq!((result.revocations[0].revision.stream.as_str(), result.revocations[0].revision.seq), (OFFICE, 5));
    w.assert_replay_is_life();
}

#[test]
fn a_box_that_does_not_confirm_is_ordered_off_again_raised_once_and_done_when_it_does() {
    let mut w = occupied();
    assert_eq!(lose(&mut w).cuts(), [("power-412", "lost"), ("power-413", "lost")]);
    w.relay("power-413", false);
    let seen = w.pass_ms(OFF_AGAIN_MS_MIN - 1);
    assert_eq!((seen.cuts(), seen.alarms()), (vec![], vec![]));
    let seen = w.pass_ms(1);
    assert_eq!((seen.cuts(), seen.alarms()), (vec![("power-412", "lost")], vec![AlarmKind::UnconfirmedRevocation]));
    // After 4, 8, 16, 32 s, then each minute.
    let seen = w.pass_s(60);
    assert_eq!((seen.cuts().len(), seen.alarms()), (4, vec![]));
    // Longer than an alarm of its kind is held back.
    let seen = w.pass_s(3_600);
    assert_eq!((seen.cuts().len(), seen.alarms()), (60, vec![]));
    assert_eq!(unconfirmed(&w), ["power-412 1EA68671"]);
    let seen = w.relay("power-412", false);
    assert_eq!(
        (seen.recorded(), seen.ended()),
        (vec![EventKind::RevocationConfirmed, EventKind::Alarm], vec![AlarmKind::UnconfirmedRevocation])
    );
    assert_eq!((unconfirmed(&w).len(), w.pass_s(600).cuts()), (0, vec![]));
    w.assert_replay_is_life();
}

#[test]
fn a_box_is_raised_when_the_time_has_passed_that_it_may_take_to_confirm() {
    let mut portals = portals_of_the_building();
    portals.iter_mut().for_each(|portal| portal.off_confirmed_ms = 3_500);
    let mut w = World::of(Policy::default(), portals, Vec::new());
    w.resident("A", "p1").present("power-412", "A");
    w.relay("power-412", true);
    lose(&mut w);
    assert_eq!(w.pass_ms(3_499).alarms(), []);
    assert_eq!(w.pass_ms(1).alarms(), [AlarmKind::UnconfirmedRevocation]);
}

#[test]
fn what_was_not_confirmed_before_a_restart_is_ordered_raised_and_confirmed_after_it() {
    for stop_after in 0..3 {
        let mut w = occupied();
        lose(&mut w);
        if stop_after > 0 {
            flush(&mut w);
        }
        if stop_after > 1 {
            w.relay("power-413", false);
        }
        let durable = shown(&w, "A")[0].1;
        w.pass_s(1);
        w.restart();
        let found = i64::try_from(w.elapsed_ms).unwrap();
        assert_eq!(shown(&w, "A")[0].1, durable.or(Some(found)), "what was read from disk is durable");
        let seen = w.pass_ms(OFF_AGAIN_MS_MIN);
        let open = if stop_after > 1 { 1 } else { 2 };
        assert_eq!((seen.cuts().len(), seen.alarms().len(), unconfirmed(&w).len()), (open, open, open), "{stop_after}");
        w.relay("power-412", false);
        w.relay("power-413", false);
        let confirmed = |p: &(String, Option<(i64, Confirmation)>)| p.1.is_some();
        assert!(unconfirmed(&w).is_empty() && shown(&w, "A")[0].2.iter().all(confirmed));
        w.assert_replay_is_life();
    }
}

#[test]
fn a_revocation_is_durable_once_its_event_is_on_disk_and_not_before() {
    let mut w = occupied();
    lose(&mut w);
    let revoked = |r: &&Record| r.event.kind() == EventKind::Revoked;
    let first = w.journal.iter().rfind(revoked).unwrap().event.n;
    w.publish(vec![op::report_lost("uid:R")]);
    let are_durable = |w: &World| ["A", "R"].map(|card| shown(w, card)[0].1.is_some());
    assert_eq!(w.input(Input::Durable { through: first - 1 }).recorded(), []);
    assert_eq!(w.input(Input::Durable { through: first }).recorded(), [EventKind::RevocationDurable]);
    assert_eq!(are_durable(&w), [true, false]);
    assert_eq!(flush(&mut w).recorded(), [EventKind::RevocationDurable]);
    assert_eq!(are_durable(&w), [true, true]);
}

#[test]
fn a_report_that_may_be_older_than_the_grant_proves_nothing_until_it_has_stood_for_a_while() {
    for comes_on in [false, true] {
        let mut w = World::new();
        w.resident("A", "p1");
        assert_eq!(w.present("power-412", "A"), "granted");
        lose(&mut w);
        assert_eq!(w.relay("power-412", false).recorded(), [], "perhaps of before the grant");
        w.pass_ms(100);
        if comes_on {
            w.relay("power-412", true);
        }
        let seen = w.pass_ms(RELAY_SETTLE_MS - 100);
        assert_eq!(unconfirmed(&w).is_empty(), !comes_on);
        assert_eq!(seen.alarms().contains(&AlarmKind::UnconfirmedRevocation), comes_on);
    }
}

#[test]
fn a_box_that_another_right_keeps_on_is_done_with_the_revocation() {
    // The roommate's card is put in before the device has confirmed.
    let mut w = occupied();
    lose(&mut w);
    assert_eq!(w.present("power-412", "R"), "granted");
    let confirmed = |w: &World| shown(w, "A")[0].2[0].1.map(|(_, how)| how);
    assert_eq!(confirmed(&w), Some(Confirmation::OnByRight));
    // A box that goes on without a gap by another card in it is not cut at all.
    let mut w = occupied();
    w.see("power-412", "R");
    lose(&mut w);
    assert_eq!(shown(&w, "A")[0].2.len(), 1);
    w.assert_replay_is_life();
}

#[test]
fn where_power_goes_after_a_delay_the_device_has_to_confirm_from_its_end_on() {
    let mut w = occupied_with(Policy { revoke_power: RevokePower::AfterDelay, ..Policy::default() });
    assert_eq!(lose(&mut w).cuts(), []);
    assert_eq!(shown(&w, "A")[0].2.len(), 2);
    assert_eq!(w.pass_ms(14_999).alarms(), []);
    assert_eq!(w.pass_ms(1).cuts().len(), 2);
    w.relay("power-412", false);
    assert_eq!(unconfirmed(&w), ["power-413 1EA68671"]);
    // Ordered off again after 2 and 4 s from then on, however long the delay was.
    let seen = w.pass_s(6);
    assert!(seen.alarms().contains(&AlarmKind::UnconfirmedRevocation));
    assert_eq!(seen.cuts().len(), 2);
    // A card that gets its right back within the delay keeps the box on.
    let mut w = occupied_with(Policy { revoke_power: RevokePower::AfterDelay, ..Policy::default() });
    lose(&mut w);
    w.publish(vec![op::found("uid:A")]);
    assert_eq!((w.pass_s(60).alarms(), unconfirmed(&w).len()), (vec![], 0));
    assert!(w.is_on("power-412"));
}

#[test]
fn a_box_that_waits_to_be_switched_on_has_to_confirm_and_one_that_is_gone_has_not() {
    let mut portals = crate::world::portals();
    portals.iter_mut().for_each(|p| p.rest_ms = 60_000);
    let mut w = World::of(Policy::default(), portals, Vec::new());
    w.resident("A", "p1");
    w.present("power-412", "A");
    w.command("c", CommandKind::Power { portal: name("power-412"), on: false });
    w.present("power-412", "A");
    assert_eq!(lose(&mut w).cuts(), [("power-412", "lost")], "a device that waits by itself is ordered off");
    assert_eq!(unconfirmed(&w), ["power-412 1EA68671"]);
    w.setup.portals.retain(|p| p.id.as_str() != "power-412");
    assert!(w.restart().recorded().contains(&EventKind::RevocationConfirmed));
    assert_eq!(shown(&w, "A")[0].2[0].1.map(|(_, how)| how), Some(Confirmation::Removed));
    assert!(unconfirmed(&w).is_empty());
}

#[test]
fn a_box_that_gets_its_power_after_a_rest_is_not_ordered_off_again_meanwhile() {
    let mut portals = crate::world::portals();
    portals.iter_mut().for_each(|p| p.rest_ms = 10_000);
    let mut w = World::of(Policy::default(), portals, Vec::new());
    w.resident("A", "p1").resident("R", "p2");
    w.present("power-412", "A");
    w.relay("power-412", true);
    w.pass_s(20);
    assert_eq!(lose(&mut w).cuts(), [("power-412", "lost")]);
    assert_eq!(w.present("power-412", "R"), "granted");
    assert_eq!(unconfirmed(&w), ["power-412 1EA68671"]);
    assert_eq!(w.pass_ms(9_000).cuts(), []);
    w.pass_ms(2_000);
    assert!(w.is_on("power-412") && unconfirmed(&w).is_empty());
}

#[test]
fn a_device_that_was_away_confirms_when_it_is_back() {
    let mut w = occupied();
    let online = |online| PortalReport { online: Some(online), ..PortalReport::default() };
    w.report("power-412", online(false));
    lose(&mut w);
    assert!(w.pass_s(2).alarms().contains(&AlarmKind::UnconfirmedRevocation));
    let back = w.report("power-412", PortalReport { relay: Some(true), ..online(true) });
    assert_eq!(back.cuts().first(), Some(&("power-412", "lost")));
    assert!(w.relay("power-412", false).recorded().contains(&EventKind::RevocationConfirmed));
}

#[test]
fn a_box_that_rests_is_named_as_cut_in_the_ack_as_in_the_event() {
    let losses = [vec![op::reissue("p1", "B", Some("A"))], vec![op::withdraw("uid:A")], vec![op::power("412", true)]];
    for (loss, relay) in losses.iter().flat_map(|loss| [None, Some(false), Some(true)].map(|relay| (loss, relay))) {
        let mut w = World::new();
        w.setup.portals.iter_mut().for_each(|portal| (portal.rest_ms, portal.delay_off_ms) = (4_000, 0));
        w.restart();
        w.resident("A", "p1").see("power-412", "A");
        w.sits("power-412", "A", Some(true));
        w.leave("power-412");
        w.relay("power-412", false);
        assert_eq!((w.present("power-412", "A"), w.is_on("power-412")), ("granted", false), "it rests");
        w.sits("power-412", "A", relay);
        let seen = w.publish(loss.clone());
        let cut = seen.records().find_map(|record| match &record.event.body {
            Event::Revoked { cut, .. } => Some(cut.clone()),
            _ => None,
        });
        assert_eq!(seen.ack().cut, [name("power-412")], "{loss:?} {relay:?}");
        assert_eq!(cut.unwrap_or(seen.ack().cut.clone()), seen.ack().cut, "{loss:?} {relay:?}");
    }
}

/// Received, in force, durable, confirmed: as milliseconds.
fn proofs(w: &Running) -> Vec<[Option<i64>; 4]> {
    let proof = |p: RevocationProof| {
        let confirmed = p.portals.iter().map(|portal| portal.confirmed_at).next().flatten();
        [Some(p.received_at), Some(p.in_force_at), p.durable_at, confirmed].map(|at| at.map(ms))
    };
    w.core.engine().revocations_of(uid("A")).into_iter().map(proof).collect()
}

#[test]
fn a_cut_of_the_power_between_any_two_steps_keeps_those_that_are_on_disk_and_finds_the_others_again() {
    let steps = ["in force", "on disk", "known durable", "durable recorded", "confirmed", "confirmed recorded"];
    for (last, step) in steps.iter().enumerate() {
        let disk = MemoryDisk::new();
        let mut w = Running::start(&disk, 1);
        let all = vec![op::issue("A", "p1"), op::enrol("A", "p1", "gate:* power_box:412")];
        w.message(1_000, 1, all);
        let request = Request {
            portal: "power-412".to_owned(),
            id: None,
            presented: Presented::Card(uid("A")),
            direction: None,
            assurance: Assurance::Uid,
            stale: false,
            slot: 0,
        };
        w.input(2_000, Input::Request(request));
        w.report(3_000, true);
        w.write(3_000);
        let lost = || vec![op::report_lost("uid:A")];
        w.message(10_000, 2, lost());
        if last >= 1 {
            assert_eq!(w.disk.flush(), Stepped::Idle);
        }
        if last >= 2 {
            w.know(10_020);
        }
        if last >= 3 {
            w.write(10_030);
        }
        if last >= 4 {
            w.report(10_100, false);
        }
        if last >= 5 {
            w.write(10_150);
        }
        disk.crash(0);
        let mut w = Running::start(&disk, 20_000);
        let durable = if last >= 3 { 10_020 } else { 20_000 };
        let confirmed = (last >= 5).then_some(10_100);
        if last == 0 {
            // Nothing of it was acknowledged: the center sends it again.
            assert_eq!((w.may_enter(20_000), proofs(&w)), ("granted", vec![]), "{step}");
            w.message(21_000, 2, lost());
            w.write(21_010);
            assert_eq!(proofs(&w), [[Some(20_999), Some(21_000), Some(21_010), None]]);
        } else {
            assert_eq!(proofs(&w), [[Some(9_999), Some(10_000), Some(durable), confirmed]], "{step}");
        }
        assert_eq!(w.may_enter(22_000), "lost", "{step}");
        // The device reports after the restart; then another restart has all of it.
        w.report(30_000, false);
        w.write(30_010);
        let found = proofs(&w);
        assert_eq!(found[0][3], Some(confirmed.unwrap_or(30_000)), "{step}");
        disk.crash(0);
        assert_eq!(proofs(&Running::start(&disk, 40_000)), found, "{step}");
    }
}

#[test]
fn a_relay_that_is_read_on_within_the_delay_is_no_proof_of_another_right() {
    let mut w = World::with(Policy { revoke_power: RevokePower::AfterDelay, ..Policy::default() });
    w.resident("A", "p1").present("power-412", "A");
    lose(&mut w);
    assert!(!w.relay("power-412", true).recorded().contains(&EventKind::RevocationConfirmed));
    assert_eq!(unconfirmed(&w), ["power-412 1EA68671"]);
    w.pass_s(15);
    let seen = w.pass_s(6);
    assert!(seen.alarms().contains(&AlarmKind::UnconfirmedRevocation), "its relay is stuck: {seen:?}");
    assert_eq!(seen.cuts(), [("power-412", "lost"); 2]);
    w.assert_replay_is_life();
}

#[test]
fn a_box_that_had_not_confirmed_is_ordered_off_at_the_start_for_what_was_revoked() {
    let mut w = occupied();
    lose(&mut w);
    w.relay("power-413", false);
    let seen = w.restart();
    assert_eq!(seen.cuts(), [("power-412", "lost")]);
    assert_eq!(w.pass_ms(OFF_AGAIN_MS_MIN).cuts(), [("power-412", "lost")]);
    w.relay("power-412", false);
    assert_eq!((unconfirmed(&w).len(), w.pass_s(60).cuts()), (0, vec![]));
}
