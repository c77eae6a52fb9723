//! The rest of a power box counts from when its relay went off, not from an order that it could not receive.

use dormgate::access::effect::{Effect, PortalOrder};
use dormgate::access::input::{PortalReport, Presented};

use crate::power::{BOX, energised};
use crate::world::{Seen, World, op, portals, uid};

const REST_MS: u64 = 4_000;

/// Boxes that rest for 4 s and have no delay; A is in one of them, which is on.
fn lit() -> World {
    let mut all = portals();
    all.iter_mut().for_each(|portal| (portal.rest_ms, portal.delay_off_ms) = (4_000, 0));
    let mut w = World::of(dormgate::access::policy::Policy::default(), all, Vec::new());
    w.resident("A", "p1").resident("R", "p2");
    assert_eq!(w.present(BOX, "A"), "granted");
    w.relay(BOX, true);
    w.pass_s(60);
    w
}

fn online(w: &mut World, online: bool, relay: Option<bool>) -> Seen {
    let (card_present, uid) = (relay.map(|_| true), relay.map(|_| Presented::Card(uid("A"))));
    w.report(BOX, PortalReport { online: Some(online), card_present, uid, relay, ..PortalReport::default() })
}

/// For how long R, put in now, has to wait; it is not on before.
fn waits_ms(w: &mut World) -> u64 {
    w.leave(BOX);
    let seen = w.see(BOX, "R");
    let delay = seen.0.iter().find_map(|effect| match effect {
        Effect::Order(PortalOrder::Answer { delay_ms, .. }) => Some(*delay_ms),
        _ => None,
    });
    let delay = delay.unwrap().unwrap_or(0);
    if delay > 0 {
        w.pass_ms(delay - 1);
        assert!(!w.is_on(BOX));
        w.pass_ms(1);
    }
    assert!(w.is_on(BOX));
    w.assert_replay_is_life();
    delay
}

#[test]
fn a_box_that_was_silent_when_it_was_ordered_off_rests_from_when_it_reads_off() {
    for silent_ms in [1_000, 3_500, 60_000] {
        let mut w = lit();
        online(&mut w, false, None);
        w.publish(vec![op::report_lost("uid:A")]);
        w.pass_ms(silent_ms);
        online(&mut w, true, None);
        w.pass_ms(100);
        w.relay(BOX, false);
        w.pass_ms(500);
        // Reported again, as off as before.
        w.relay(BOX, false);
        w.pass_ms(500);
        assert_eq!(waits_ms(&mut w), REST_MS - 1_000, "{silent_ms}");
    }
}

#[test]
fn a_box_that_comes_back_on_rests_from_the_order_off_that_it_receives() {
    for silent_ms in [1_000, 3_500] {
        let mut w = lit();
        online(&mut w, false, None);
        w.publish(vec![op::report_lost("uid:A")]);
        w.pass_ms(silent_ms);
        assert_eq!(online(&mut w, true, Some(true)).cuts().len(), 1);
        w.pass_ms(500);
        assert_eq!(waits_ms(&mut w), REST_MS - 500, "{silent_ms}");
    }
}

#[test]
fn a_box_that_goes_on_reading_on_rests_from_the_last_order_off() {
    let mut w = lit();
    w.publish(vec![op::report_lost("uid:A")]);
    w.pass_ms(1_000);
    w.relay(BOX, true);
    assert_eq!(w.pass_ms(1_000).cuts().len(), 1, "it has not confirmed");
    w.pass_ms(500);
    assert_eq!(waits_ms(&mut w), REST_MS - 500);
}

#[test]
fn a_box_that_is_known_to_be_off_does_not_rest_from_a_later_report() {
    let mut w = lit();
    w.publish(vec![op::report_lost("uid:A")]);
    w.relay(BOX, false);
    w.pass_ms(1_000);
    online(&mut w, false, None);
    w.pass_ms(1_000);
    online(&mut w, true, Some(false));
    w.relay(BOX, false);
    assert_eq!(waits_ms(&mut w), REST_MS - 2_000);

    // One that nobody ordered off in this run was off all the time.
    let mut w = lit();
    w.leave(BOX);
    w.relay(BOX, false);
    w.pass_s(60);
    w.restart();
    w.relay(BOX, false);
    assert_eq!(waits_ms(&mut w), 0);
}

#[test]
fn a_card_that_waits_already_waits_from_when_the_relay_reads_off() {
    let mut w = lit();
    online(&mut w, false, None);
    w.publish(vec![op::report_lost("uid:A")]);
    w.pass_ms(2_000);
    online(&mut w, true, None);
    w.leave(BOX);
    assert_eq!(w.present(BOX, "R"), "granted");
    w.pass_ms(500);
    w.relay(BOX, false);
    w.pass_ms(REST_MS - 1);
    assert!(!w.is_on(BOX));
    w.pass_ms(1);
    assert!(w.is_on(BOX));
}

#[test]
fn a_box_whose_order_on_was_not_confirmed_rests_before_it_is_switched_on_again() {
    let mut w = lit();
    w.leave(BOX);
    w.relay(BOX, false);
    w.pass_s(60);
    assert_eq!(w.present(BOX, "A"), "granted");
    // Its unit took the order, its answer was lost, and its output switched it off when it answered again.
    online(&mut w, false, None);
    w.pass_s(6);
    online(&mut w, true, None);
    w.relay(BOX, false);
    w.pass_ms(100);
    let seen = w.sits(BOX, "A", None);
    assert_eq!(energised(&seen).len(), 0);
    assert_eq!(energised(&w.pass_ms(REST_MS - 101)).len(), 0);
    assert_eq!(energised(&w.pass_ms(1)), [BOX]);
    // One that is read on and falls by itself was not switched off.
    w.relay(BOX, true);
    w.pass_s(60);
    assert_eq!(energised(&w.relay(BOX, false)), [BOX]);
    w.assert_replay_is_life();
}
