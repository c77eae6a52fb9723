//! Who gets the power when the room has it again, and boxes that come back on or on command with a card that somebody has to look at.

use dormgate::access::event::AlarmKind;
use dormgate::access::input::{CommandKind, Input, PortalReport, Presented};

use crate::power::{BOX, energised};
use crate::world::{Seen, World, name, op, uid};

/// Power in the room is suspended, A of P1 and R of P2 may have it, B is nobody's.
fn suspended() -> World {
    let mut w = World::new();
    w.resident("A", "p1").resident("R", "p2");
    w.publish(vec![op::power("412", true)]);
    w
}

/// B gets its right, the room its power, in this order or the other; which boxes were switched on.
fn enrolled_and_resumed(w: &mut World, enrolled_first: bool) -> usize {
    let mut seen = Seen(Vec::new());
    for enrol in [enrolled_first, !enrolled_first] {
        let op = if enrol { op::enrol("B", "p3", "power_box:412") } else { op::power("412", false) };
        seen.0.extend(w.publish(vec![op]).0);
        seen.0.extend(w.pass_s(10).0);
    }
    w.assert_replay_is_life();
    energised(&seen).len()
}

#[test]
fn a_box_does_not_wait_for_the_room_after_the_card_that_waited_has_left() {
    for (waited, left) in [(false, false), (true, true), (true, false)] {
        for enrolled_first in [true, false] {
            let mut w = suspended();
            w.issue("B", "p3");
            if waited {
                assert_eq!(w.present(BOX, "A"), "power_suspended");
            }
            if left {
                w.leave(BOX);
            }
            assert_eq!(w.present(BOX, "B"), "not_enrolled");
            assert_eq!(enrolled_and_resumed(&mut w, enrolled_first), 0, "{waited} {left} {enrolled_first}");
            assert_eq!(w.present(BOX, "A"), "granted");
        }
    }
}

#[test]
fn a_box_that_was_off_for_the_room_gives_nothing_to_a_card_that_was_denied_for_another_reason() {
    let mut w = World::new();
    w.resident("A", "p1").issue("B", "p3");
    assert_eq!(w.present(BOX, "A"), "granted");
    w.publish(vec![op::power("412", true)]);
    w.leave(BOX);
    w.present(BOX, "B");
    assert_eq!(enrolled_and_resumed(&mut w, true), 0);

    // The room had its power while nothing was in the box.
    let mut w = suspended();
    w.issue("B", "p3");
    w.present(BOX, "A");
    w.leave(BOX);
    w.publish(vec![op::power("412", false)]);
    assert_eq!(w.present(BOX, "B"), "not_enrolled");
    assert_eq!(enrolled_and_resumed(&mut w, true), 0);
}

#[test]
fn a_card_that_still_waits_beside_another_one_gets_the_power_of_the_room() {
    let put = |w: &mut World, slot, card| {
        let request = w.request(BOX, Presented::Card(uid(card)));
        w.input(Input::Request(dormgate::access::input::Request { slot, ..request }))
    };
    for second in ["B", "R"] {
        let mut w = suspended();
        put(&mut w, 0, "A");
        put(&mut w, 1, second);
        let resumed = w.publish(vec![op::power("412", false)]);
        assert_eq!(energised(&resumed), [BOX], "{second}");
        w.assert_replay_is_life();
    }
    // One denied again for another reason waits no more.
    let mut w = suspended();
    w.present(BOX, "A");
    w.publish(vec![op::report_lost("uid:A")]);
    assert_eq!(w.present(BOX, "A"), "lost");
    w.publish(vec![op::found("uid:A")]);
    assert_eq!(energised(&w.publish(vec![op::power("412", false)])).len(), 0);
}

/// What a box reports when it connects again.
fn back(w: &mut World, card: &str, relay: bool) -> Seen {
    let uid = Some(Presented::Card(uid(card)));
    let (online, card_present, relay) = (Some(true), Some(true), Some(relay));
    w.report(BOX, PortalReport { online, card_present, uid, relay, ..PortalReport::default() })
}

#[test]
fn a_box_that_comes_back_on_with_a_card_that_may_is_on_by_it() {
    for away_ms in [100, 1_000, 10_000] {
        let mut w = World::new();
        w.resident("A", "p1").resident("R", "p2");
        w.present(BOX, "A");
        back(&mut w, "A", true);
        w.report(BOX, PortalReport { online: Some(false), ..PortalReport::default() });
        assert_eq!(w.publish(vec![op::power("412", true)]).cuts().len(), 1);
        w.publish(vec![op::power("412", false)]);
        w.pass_ms(away_ms);
        let seen = back(&mut w, "A", true);
        assert_eq!((seen.cuts(), seen.alarms()), (vec![], vec![]), "{away_ms}");
        assert!(w.is_on(BOX));
        assert_eq!(w.pass_s(10).cuts(), []);
        assert_eq!(w.publish(vec![op::report_lost("uid:A")]).cuts(), [(BOX, "lost")]);
        // As long as it may not, it is cut.
        w.relay(BOX, false);
        assert_eq!(back(&mut w, "A", true).openings(), 0);
        assert!(!w.is_on(BOX));
        w.assert_replay_is_life();
    }
}

#[test]
fn a_box_that_comes_back_off_gets_no_power_for_what_it_shows_first() {
    let mut w = World::new();
    w.resident("A", "p1");
    w.present(BOX, "A");
    back(&mut w, "A", true);
    w.report(BOX, PortalReport { online: Some(false), ..PortalReport::default() });
    w.publish(vec![op::power("412", true)]);
    w.publish(vec![op::power("412", false)]);
    let mut seen = back(&mut w, "A", false);
    seen.0.extend(w.publish(vec![op::enrol("A", "p1", "power_box:412")]).0);
    seen.0.extend(w.pass_s(60).0);
    assert_eq!((energised(&seen).len(), w.is_on(BOX)), (0, false));
    w.assert_replay_is_life();
}

#[test]
fn a_card_that_may_not_reported_in_a_box_on_by_command_is_raised_and_cuts_nothing() {
    let mut w = World::new();
    w.resident("A", "p1");
    w.publish(vec![op::report_lost("uid:A")]);
    w.command("on", CommandKind::Power { portal: name(BOX), on: true });
    w.relay(BOX, true);
    let seen = w.sits(BOX, "A", Some(true));
    assert_eq!((seen.cuts(), seen.alarms()), (vec![], vec![AlarmKind::PowerWithoutCard]));
    let seen = w.sits(BOX, "A", Some(true));
    assert_eq!((seen.cuts(), seen.recorded()), (vec![], vec![]));
    assert!(w.is_on(BOX));
    w.assert_replay_is_life();
}

/// Its output raises it by itself, where nothing was revoked.
#[test]
fn an_alarm_of_a_relay_that_is_not_off_ends_when_it_is_or_when_it_may_be_on() {
    let raised = || Input::Alarm {
        kind: AlarmKind::UnconfirmedRevocation,
        portal: Some(name(BOX)),
        detail: "the relay reads on after it was switched off".to_owned(),
    };
    let ended = |seen: &Seen| {
        let kind = AlarmKind::UnconfirmedRevocation;
        (seen.ended() == [kind]).then(|| seen.details(kind)[0].to_owned())
    };
    for (on, why) in [(false, "its relay is off now"), (true, "it is on by right now")] {
        let mut w = World::new();
        w.resident("A", "p1");
        assert_eq!(w.input(raised()).alarms(), [AlarmKind::UnconfirmedRevocation]);
        assert_eq!(ended(&w.relay(BOX, true)), None);
        let seen = if on { w.see(BOX, "A") } else { w.relay(BOX, false) };
        assert_eq!(ended(&seen).as_deref(), Some(why));
        assert_eq!(w.relay(BOX, on).ended(), []);
        w.assert_replay_is_life();
    }
}

#[test]
fn an_alarm_of_a_revocation_that_ends_with_power_by_right_does_not_report_off() {
    let mut w = World::new();
    w.resident("A", "p1").resident("R", "p2");
    w.present(BOX, "A");
    w.relay(BOX, true);
    w.publish(vec![op::report_lost("uid:A")]);
    assert_eq!(w.pass_s(2).alarms(), [AlarmKind::UnconfirmedRevocation]);
    w.leave(BOX);
    let seen = w.see(BOX, "R");
    assert_eq!(seen.ended(), [AlarmKind::UnconfirmedRevocation]);
    assert_eq!(seen.details(AlarmKind::UnconfirmedRevocation), ["it is on by right now"]);
}
