//! Power boxes: a standing grant is judged again on everything, and nothing is on without a right.

use dormgate::access::event::{AlarmKind, EventKind};
use dormgate::access::input::{CommandKind, PortalReport, Presented};
use dormgate::access::policy::{FirePower, Policy, RevokePower};
use dormgate::access::portal::Posture;

use crate::world::{BEGIN_MS, Seen, World, name, op, uid};

/// A building with P1's card A in the box of 412, roommate P2's card R, and nobody's card X.
fn occupied() -> World {
    occupied_with(Policy::default())
}

fn occupied_with(policy: Policy) -> World {
    let mut w = World::with(policy);
    w.resident("A", "p1").resident("R", "p2");
    assert_eq!(w.present("power-412", "A"), "granted");
    w
}

#[test]
fn a_box_stays_on_for_fifteen_seconds_after_the_card_left() {
    let mut w = occupied();
    assert_eq!(w.leave("power-412").cuts(), []);
    assert_eq!(w.pass_ms(14_999).cuts(), []);
    let seen = w.pass_ms(1);
    assert_eq!((seen.cuts(), seen.recorded()), (vec![("power-412", "card_left")], vec![EventKind::PowerOff]));
    assert!(!w.is_on("power-412"));
    w.assert_replay_is_life();
}

#[test]
fn a_repeated_absence_does_not_prolong_the_delay() {
    let mut w = occupied();
    w.leave("power-412");
    w.pass_s(10);
    w.leave("power-412");
    assert_eq!(w.pass_s(5).cuts().len(), 1);
}

#[test]
fn a_card_back_within_the_delay_keeps_the_power_on() {
    let mut w = occupied();
    w.leave("power-412");
    w.pass_s(14);
    let seen = w.see("power-412", "A");
    assert_eq!((seen.reason(), seen.recorded().contains(&EventKind::PowerOn)), ("granted", false));
    assert_eq!(w.pass_s(60).cuts(), []);
    assert!(w.is_on("power-412"));
}

#[test]
fn edge_single_slot_a_out_and_r_in_at_14_s_no_drop() {
    for reported in [false, true] {
        let mut w = occupied();
        w.leave("power-412");
        w.pass_s(14);
        if reported {
            w.sits("power-412", "R", None);
        } else {
            w.present("power-412", "R");
        }
        assert_eq!(w.pass_s(60).cuts(), []);
        // On by R now: what happens to A concerns the box no more.
        assert_eq!(w.publish(vec![op::report_lost("uid:A")]).cuts(), []);
        assert_eq!(w.publish(vec![op::report_lost("uid:R")]).cuts(), [("power-412", "lost")]);
        w.assert_replay_is_life();
    }
}

#[test]
fn edge_single_slot_a_out_and_unknown_card_in_at_14_s_off_at_15_s() {
    for reported in [false, true] {
        let mut w = occupied();
        w.leave("power-412");
        w.pass_s(14);
        if reported {
            w.sits("power-412", "X", None);
        } else {
            assert_eq!(w.present("power-412", "X"), "unknown_credential");
        }
        assert_eq!(w.pass_ms(999).cuts(), []);
        assert_eq!(w.pass_ms(1).cuts(), [("power-412", "card_left")]);
    }
}

#[test]
fn a_card_exchanged_for_one_that_may_not_has_left_and_the_delay_runs() {
    for reported in [false, true] {
        let mut w = occupied();
        if reported {
            w.sits("power-412", "X", Some(true));
        } else {
            w.present("power-412", "X");
        }
        assert_eq!(w.pass_ms(14_999).cuts(), [], "reported: {reported}");
        assert_eq!(w.pass_ms(1).cuts(), [("power-412", "card_left")], "reported: {reported}");
        assert!(!w.is_on("power-412"));
    }
}

#[test]
fn the_audit_reports_power_on_when_the_relay_is_known_to_be_on() {
    let mut w = World::new();
    w.resident("A", "p1");
    let seen = w.see("power-412", "A");
    assert_eq!((seen.reason(), seen.recorded()[1]), ("granted", EventKind::PowerOrdered));
    assert!(!seen.recorded().contains(&EventKind::PowerOn));
    for _ in 0..4 {
        assert!(!w.relay("power-412", false).recorded().contains(&EventKind::PowerOn));
        w.pass_s(1);
    }
    assert_eq!(w.relay("power-412", true).recorded(), [EventKind::PowerOn]);
    assert_eq!(w.relay("power-412", true).recorded(), []);
    w.assert_replay_is_life();
    // The state of before a restart is not what is reported after it.
    w.restart();
    assert!(!w.sits("power-412", "R", Some(false)).recorded().contains(&EventKind::PowerOn));
}

#[test]
fn a_card_read_wrongly_once_does_not_darken_the_room() {
    let mut w = occupied();
    w.present("power-412", "X");
    w.pass_s(2);
    w.present("power-412", "A");
    assert_eq!(w.pass_s(60).cuts(), []);
}

#[test]
fn a_repeated_number_after_the_box_went_off_is_a_new_request() {
    let mut w = World::new();
    w.resident("A", "p1");
    w.see_as("power-412", "A", "1");
    w.leave("power-412");
    w.pass_s(16);
    assert!(!w.is_on("power-412"));
    let seen = w.see_as("power-412", "A", "1");
    assert_eq!(seen.reason(), "granted");
    // Whatever the portal is ordered to switch on, the gateway knows to be on, so that it can be cut.
    assert!(w.is_on("power-412"));
    assert!(seen.recorded().contains(&EventKind::PowerOrdered));
    assert_eq!(w.publish(vec![op::report_lost("uid:A")]).cuts(), [("power-412", "lost")]);
}

#[test]
fn a_repeated_number_within_the_delay_ends_the_delay() {
    let mut w = World::new();
    w.resident("A", "p1");
    w.see_as("power-412", "A", "1");
    w.leave("power-412");
    w.pass_s(5);
    assert_eq!(w.see_as("power-412", "A", "1").reason(), "granted");
    assert_eq!(w.pass_s(60).cuts(), []);
}

#[test]
fn suspended_power_is_off_at_once_and_comes_back_only_to_a_card_that_is_still_there() {
    let mut w = occupied();
    let seen = w.publish(vec![op::power("412", true)]);
    assert_eq!(
        (seen.cuts(), seen.ack().cut.clone()),
        (vec![("power-412", "power_suspended")], vec![name("power-412")])
    );
    assert_eq!((w.present("power-412", "A"), w.present("door-412", "A")), ("power_suspended", "granted"));
    w.leave("power-412");
    let seen = w.publish(vec![op::power("412", false)]);
    assert_eq!(seen.openings(), 0);
    assert!(!w.is_on("power-412"));
    assert_eq!(w.present("power-412", "A"), "granted");
    w.publish(vec![op::power("412", true)]);
    assert!(!w.is_on("power-412"));
    assert_eq!(w.publish(vec![op::power("412", false)]).openings(), 1);
    assert!(w.is_on("power-412"));
}

#[test]
fn suspension_in_another_room_concerns_nobody_here() {
    let mut w = occupied();
    assert_eq!(w.publish(vec![op::power("413", true)]).cuts(), []);
}

#[test]
fn a_restart_cuts_the_card_that_may_not_and_leaves_the_one_that_may() {
    let mut w = occupied();
    w.enrol("R", "p2", "power_box:413");
    w.present("power-413", "R");
    let mut state = w.folded();
    assert_eq!(state.boxes.len(), 2);
    // Known to be lost by the disk, but killed before the cut was recorded.
    let lost = w.message("card-office", crate::world::at(1, 9), Ok(vec![op::report_lost("uid:A")]));
    let dormgate::access::input::Input::Changes(received) = lost else { unreachable!() };
    state.apply(&received.changes, &Policy::default(), w.now());
    let seen = w.restart_with(state);
    assert_eq!((seen.cuts(), seen.openings()), (vec![("power-412", "lost")], 0));
    assert!(w.is_on("power-413"));
    // A controller that asks what is wanted reads it, and does not switch the room off.
    assert_eq!(seen.informed(), [("power-413", Posture::Secure, true)]);
    // Remembered as on: the box reports that its card has left, and the delay runs.
    w.leave("power-413");
    assert_eq!(w.pass_s(15).cuts(), [("power-413", "card_left")]);
}

#[test]
fn a_relay_that_is_on_without_a_card_is_ordered_off_and_raised() {
    let mut w = World::new();
    let seen = w.relay("power-412", true);
    assert_eq!((seen.cuts().len(), seen.alarms()), (1, vec![AlarmKind::PowerWithoutCard]));
    assert_eq!(w.relay("power-412", true).cuts(), []);
    w.relay("power-412", false);
    assert_eq!(w.pass_s(10).cuts(), []);
    assert_eq!(w.relay("power-412", true).cuts().len(), 1);
}

/// What a box reports when it connects.
fn comes_back(w: &mut World, card: Option<&str>, relay: Option<bool>) -> Seen {
    let uid = card.map(|c| Presented::Card(uid(c)));
    let card_present = Some(card.is_some());
    w.report("power-412", PortalReport { online: Some(true), card_present, uid, relay, ..PortalReport::default() })
}

fn goes_away(w: &mut World) {
    w.report("power-412", PortalReport { online: Some(false), ..PortalReport::default() });
}

#[test]
fn a_box_that_was_away_when_it_was_cut_is_cut_as_soon_as_it_is_back() {
    for away_ms in [500, 60_000] {
        for relay in [Some(true), None] {
            let mut w = occupied();
            goes_away(&mut w);
            assert_eq!(w.publish(vec![op::report_lost("uid:A")]).cuts(), [("power-412", "lost")]);
            w.pass_ms(away_ms);
            assert_eq!(comes_back(&mut w, Some("A"), relay).cuts().len(), 1, "{away_ms} {relay:?}");
            assert!(!w.is_on("power-412"));
            w.assert_replay_is_life();
        }
    }
}

#[test]
fn a_box_whose_absence_went_unnoticed_is_cut_when_it_reports_that_it_is_there() {
    let mut w = occupied();
    comes_back(&mut w, Some("A"), Some(true));
    w.publish(vec![op::report_lost("uid:A")]);
    w.pass_s(60);
    assert_eq!(comes_back(&mut w, Some("A"), None).cuts(), [("power-412", "lost")]);
    assert_eq!(comes_back(&mut w, Some("A"), None).cuts(), [], "the order arrived this time");
}

#[test]
fn a_box_that_comes_back_off_is_left_alone() {
    let mut w = occupied();
    goes_away(&mut w);
    w.publish(vec![op::report_lost("uid:A")]);
    assert_eq!(comes_back(&mut w, Some("A"), Some(false)).cuts(), []);
    goes_away(&mut w);
    assert_eq!(comes_back(&mut w, None, None).cuts(), []);
}

#[test]
fn a_relay_reported_on_just_after_a_cut_is_ordered_off_again_unless_it_goes_off() {
    let mut w = occupied();
    w.publish(vec![op::report_lost("uid:A")]);
    assert_eq!(w.relay("power-412", true).cuts(), [], "may be from before the cut");
    let seen = w.pass_s(3);
    // Once because it has not confirmed within 2 s, once because it is on without a right.
    let raised = vec![AlarmKind::UnconfirmedRevocation, AlarmKind::PowerWithoutCard];
    assert_eq!((seen.cuts().len(), seen.alarms()), (2, raised));

    let mut w = occupied();
    w.publish(vec![op::report_lost("uid:A")]);
    w.relay("power-412", true);
    w.relay("power-412", false);
    assert_eq!(w.pass_s(60).cuts(), []);
}

#[test]
fn a_relay_that_stays_on_is_ordered_off_as_long_as_it_is_reported_and_raised_once() {
    let mut w = World::new();
    w.relay("power-412", true);
    let (mut cuts, mut records) = (0, 0);
    for _ in 0..10 {
        w.pass_s(4);
        let seen = w.relay("power-412", true);
        cuts += seen.cuts().len();
        records += seen.recorded().len();
    }
    assert_eq!((cuts, records), (10, 0));
}

#[test]
fn a_card_that_lost_its_right_may_be_cut_after_the_delay() {
    let mut w = occupied_with(Policy { revoke_power: RevokePower::AfterDelay, ..Policy::default() });
    let seen = w.publish(vec![op::report_lost("uid:A")]);
    assert_eq!((seen.cuts(), seen.ack().revoked.clone()), (vec![], vec![uid("A")]));
    // reporting again that the card sits there prolongs nothing.
    w.pass_s(10);
    w.sits("power-412", "A", Some(true));
    w.present("power-412", "A");
    assert_eq!(w.pass_ms(4_999).cuts(), []);
    assert_eq!(w.pass_ms(1).cuts(), [("power-412", "lost")], "and reports why");
}

#[test]
fn a_card_that_has_its_right_back_within_the_delay_stays_on() {
    let mut w = occupied_with(Policy { revoke_power: RevokePower::AfterDelay, ..Policy::default() });
    w.publish(vec![op::report_lost("uid:A")]);
    w.pass_s(5);
    w.publish(vec![op::found("uid:A")]);
    assert_eq!(w.pass_s(60).cuts(), []);
    assert!(w.is_on("power-412"));
}

#[test]
fn a_right_that_comes_back_does_not_hold_a_box_whose_card_has_left() {
    let mut w = occupied();
    w.leave("power-412");
    w.pass_s(5);
    w.publish(vec![op::freeze("uid:R")]);
    w.publish(vec![op::enrol("A", "p1", "power_box:412")]);
    assert_eq!(w.pass_s(10).cuts(), [("power-412", "card_left")]);
}

#[test]
fn lockdown_and_out_of_service_switch_a_box_off_and_free_access_gives_nobody_power() {
    for posture in [Posture::Lockdown, Posture::OutOfService] {
        let mut w = occupied();
        assert_eq!(w.publish(vec![op::posture("*", posture, None)]).cuts(), [("power-412", posture.as_str())]);
        let mut w = occupied();
        assert_eq!(w.operator("", posture).cuts(), [("power-412", posture.as_str())]);
    }
    let mut w = occupied();
    assert_eq!(w.publish(vec![op::posture("*", Posture::FreeAccess, None)]).cuts(), []);
    assert_eq!(w.present("power-413", "X"), "unknown_credential");
}

#[test]
fn a_fire_keeps_or_cuts_power_as_the_site_reports() {
    let mut w = occupied();
    assert_eq!(w.fire("gate-in", true).cuts(), []);
    assert_eq!(w.present("power-413", "X"), "unknown_credential");
    let mut w = occupied_with(Policy { fire_power: FirePower::Cut, ..Policy::default() });
    w.command("on", CommandKind::Power { portal: name("power-413"), on: true });
    let seen = w.fire("gate-in", true);
    assert_eq!(seen.cuts(), [("power-412", "out_of_service"), ("power-413", "out_of_service")]);
    assert_eq!(w.present("power-412", "A"), "out_of_service");
    let reply = w.command("on2", CommandKind::Power { portal: name("power-413"), on: true });
    assert_eq!((reply.reply().status.as_str(), reply.openings()), ("rejected", 0));
}

#[test]
fn a_fire_that_keeps_power_gives_none_to_a_box_that_is_closed() {
    for posture in [Posture::Lockdown, Posture::OutOfService] {
        let mut w = occupied();
        w.operator("", posture);
        let seen = w.fire("gate-in", true);
        assert_eq!((seen.openings(), w.present("power-412", "A")), (0, posture.as_str()));
        let mut w = occupied();
        w.publish(vec![op::posture("power-412", posture, None)]);
        assert_eq!(w.operator("", Posture::Fire).openings(), 0);
        assert_eq!(w.present("power-412", "A"), posture.as_str());
        w.assert_replay_is_life();
    }
}

#[test]
fn a_box_that_a_command_switched_on_goes_off_when_power_in_the_room_is_suspended() {
    let mut w = World::new();
    w.command("on", CommandKind::Power { portal: name("power-412"), on: true });
    assert!(w.is_on("power-412"));
    assert_eq!(w.publish(vec![op::power("412", true)]).cuts(), [("power-412", "power_suspended")]);
    let reply = w.command("on2", CommandKind::Power { portal: name("power-412"), on: true });
    assert_eq!((reply.reply().status.as_str(), reply.openings()), ("rejected", 0));
    w.publish(vec![op::power("412", false)]);
    let reply = w.command("on3", CommandKind::Power { portal: name("power-412"), on: true });
    assert_eq!((reply.reply().status.as_str(), reply.openings()), ("ok", 1));
    w.assert_replay_is_life();
}

#[test]
fn a_command_switches_a_box_off_whoever_it_is_on_for() {
    let mut w = occupied();
    let seen = w.command("off", CommandKind::Power { portal: name("power-412"), on: false });
    assert_eq!((seen.cuts(), seen.reply().status.as_str()), (vec![("power-412", "remote")], "ok"));
    assert_eq!(w.sits("power-412", "A", Some(false)).openings(), 0);
    w.assert_replay_is_life();
}

#[test]
fn a_posture_that_ends_and_one_that_begins_reach_a_box_that_is_on() {
    let mut w = occupied();
    // Lockdown for a minute: off at once, and not on again by itself when it ends.
    w.publish(vec![op::posture("power-412", Posture::Lockdown, Some(BEGIN_MS + 60_000))]);
    assert!(!w.is_on("power-412"));
    assert_eq!(w.present("power-412", "A"), "lockdown");
    w.pass_s(60);
    assert_eq!(w.present("power-412", "A"), "granted");
    // A fire that keeps power changes nothing for a box.
    w.publish(vec![op::posture("power-412", Posture::Fire, Some(BEGIN_MS + 120_000))]);
    assert_eq!(w.operator("", Posture::Lockdown).cuts(), [("power-412", "lockdown")]);
}

#[test]
fn a_box_taken_out_of_the_configuration_is_forgotten_at_the_next_start() {
    let mut w = occupied();
    w.setup.portals.retain(|p| p.id.as_str() != "power-412");
    assert_eq!(w.restart().alarms(), [AlarmKind::PowerWithoutCard], "its relay was not switched");
    assert!(!w.is_on("power-412"));
    assert_eq!(w.restart().alarms(), []);
    w.assert_replay_is_life();
}

#[test]
fn an_offline_box_is_judged_all_the_same() {
    let mut w = occupied();
    let seen = w.report("power-412", PortalReport { online: Some(false), ..PortalReport::default() });
    assert_eq!(seen.alarms(), [AlarmKind::PortalOffline]);
    assert_eq!(w.publish(vec![op::report_lost("uid:A")]).cuts(), [("power-412", "lost")]);
}

#[test]
fn a_matter_of_the_room_waits_for_no_delay() {
    let policy = || Policy { revoke_power: RevokePower::AfterDelay, ..Policy::default() };
    let mut w = occupied_with(policy());
    assert_eq!(w.publish(vec![op::power("412", true)]).cuts(), [("power-412", "power_suspended")]);
    let mut w = occupied_with(policy());
    assert_eq!(w.operator("", Posture::OutOfService).cuts(), [("power-412", "out_of_service")]);
}

#[test]
fn a_right_that_is_lost_within_the_delay_cuts_at_once_whoever_sits_in_the_box_by_then() {
    let mut w = World::new();
    w.enrol("A", "p1", "power_box:*");
    assert_eq!(w.present("power-412", "A"), "granted");
    w.leave("power-412");
    assert_eq!(w.present("power-412", "X"), "unknown_credential");
    w.leave("power-412");
    w.sits("power-412", "R", Some(true));
    let seen = w.publish(vec![op::enrol("A", "p3", "gate:* power_box:412@term")]);
    assert_eq!(seen.cuts(), [("power-412", "outside_schedule")]);
}
