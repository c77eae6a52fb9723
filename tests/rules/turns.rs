//! Power that comes back while it goes again, and boxes that lose their right while they wait: a turn is taken by a box that is
//! switched on, and by no other.

use std::collections::BTreeMap;

use dormgate::access::effect::{Effect, PortalOrder};
use dormgate::access::event::AlarmKind;
use dormgate::access::input::{PortalReport, Presented};
use dormgate::access::portal::Posture;

use crate::dice::Dice;
use crate::power::{energised, thirty_rooms};
use crate::simulation::seeds;
use crate::world::{Seen, World, op, uid};

const STAGGER_MS: u64 = 150;
/// Seeds of a plain `cargo test`.
const SEEDS_QUICK: u64 = 8;

/// A building of thirty rooms, and when each box was switched on and off by itself.
struct Rooms {
    w: World,
    on: Vec<(u64, String)>,
    off: BTreeMap<String, u64>,
}

fn room(n: usize) -> String {
    format!("box-{n:02}")
}

fn card(n: usize) -> String {
    format!("5C0DE1{n:02}")
}

/// What an answer to a card has to wait for.
fn delay_ms(seen: &Seen) -> Option<u64> {
    let answered = |effect: &Effect| match effect {
        Effect::Order(PortalOrder::Answer { delay_ms, .. }) => Some(*delay_ms),
        _ => None,
    };
    seen.0.iter().find_map(answered).unwrap()
}

impl Rooms {
    /// All boxes are on; so long that none was switched on often within the minute.
    fn lit(rest_ms: u32) -> Self {
        let mut w = thirty_rooms();
        w.setup.portals.iter_mut().for_each(|portal| portal.rest_ms = rest_ms);
        w.setup.policy.max_energise_per_min = 0;
        w.restart();
        for n in 0..30 {
            w.present(&room(n), &card(n));
        }
        assert_eq!(u64::from(w.setup.policy.power_stagger_ms), STAGGER_MS);
        Self { w, on: Vec::new(), off: BTreeMap::new() }
    }

    fn note(&mut self, seen: &Seen) {
        let now = self.w.elapsed_ms;
        for (portal, _) in seen.cuts() {
            self.off.insert(portal.to_owned(), now);
        }
        for portal in energised(seen) {
            if let Some((before, other)) = self.on.last() {
                assert!(now - before >= STAGGER_MS, "{other} at {before} ms, {portal} at {now} ms");
            }
            self.on.push((now, portal.to_owned()));
        }
    }

    fn posture(&mut self, portals: &str, posture: Posture) {
        let seen = self.w.operator(portals, posture);
        self.note(&seen);
    }

    fn pass_ms(&mut self, ms: u64) {
        for _ in 0..ms {
            let seen = self.w.pass_ms(1);
            self.note(&seen);
        }
    }

    /// Which boxes were switched on since, and how many milliseconds after it.
    fn since(&self, begin_ms: u64) -> Vec<(u64, &str)> {
        let of_now = self.on.iter().filter(|(at, _)| *at >= begin_ms);
        of_now.map(|(at, portal)| (at - begin_ms, portal.as_str())).collect()
    }
}

#[test]
fn power_that_goes_again_before_the_lap_is_over_comes_back_at_once() {
    let mut r = Rooms::lit(0);
    r.posture("", Posture::OutOfService);
    for _ in 0..4 {
        r.pass_ms(1_000);
        r.posture("", Posture::Secure);
        r.pass_ms(1_000);
        r.posture("", Posture::OutOfService);
    }
    r.pass_ms(1_000);
    let begin_ms = r.w.elapsed_ms;
    r.posture("", Posture::Secure);
    r.pass_ms(60_000);
    let lap: Vec<_> = (0..30).map(|n| (n * STAGGER_MS, room(usize::try_from(n).unwrap()))).collect();
    let lap: Vec<_> = lap.iter().map(|(at, portal)| (*at, portal.as_str())).collect();
    assert_eq!(r.since(begin_ms), lap);
    r.w.assert_replay_is_life();
}

#[test]
fn power_that_goes_in_the_moment_a_box_is_on_is_no_second_turn() {
    let mut r = Rooms::lit(0);
    r.posture("", Posture::OutOfService);
    r.pass_ms(10_000);
    let begin_ms = r.w.elapsed_ms;
    r.posture("", Posture::Secure);
    for _ in 0..3 {
        r.posture("", Posture::OutOfService);
        r.posture("", Posture::Secure);
    }
    r.pass_ms(60_000);
    // The first one was switched on, off, and takes its place again.
    let first: Vec<_> = r.since(begin_ms).into_iter().take(3).collect();
    assert_eq!(first, [(0, "box-00"), (STAGGER_MS, "box-00"), (2 * STAGGER_MS, "box-01")]);
    assert_eq!(r.since(begin_ms).last(), Some(&(30 * STAGGER_MS, "box-29")));
    r.w.assert_replay_is_life();
}

#[test]
fn a_card_that_is_frozen_while_it_waits_leaves_no_empty_turn() {
    let mut r = Rooms::lit(0);
    r.posture("", Posture::OutOfService);
    r.pass_ms(10_000);
    let begin_ms = r.w.elapsed_ms;
    r.posture("", Posture::Secure);
    r.pass_ms(1_000);
    let frozen = 7..27;
    for n in frozen.clone() {
        let seen = r.w.publish(vec![op::freeze(&format!("uid:{}", card(n)))]);
        r.note(&seen);
    }
    r.pass_ms(60_000);
    let left = (0..30).filter(|n| !frozen.contains(n)).map(room);
    let lap: Vec<_> = (0..).map(|n| n * STAGGER_MS).zip(left).collect();
    let lap: Vec<_> = lap.iter().map(|(at, portal)| (*at, portal.as_str())).collect();
    assert_eq!(r.since(begin_ms), lap);
    // It is no matter of the room: whoever is there again puts the card in again.
    for n in frozen {
        let seen = r.w.publish(vec![op::unfreeze(&format!("uid:{}", card(n)))]);
        r.note(&seen);
    }
    r.pass_ms(60_000);
    assert_eq!(r.since(begin_ms).len(), 10);
    r.w.assert_replay_is_life();
}

#[test]
fn what_was_on_rests_before_its_turn_and_what_only_waited_does_not() {
    const REST_MS: u64 = 2_000;
    let mut r = Rooms::lit(u32::try_from(REST_MS).unwrap());
    r.posture("", Posture::OutOfService);
    r.pass_ms(10_000);
    r.posture("", Posture::Secure);
    r.pass_ms(500);
    r.posture("", Posture::OutOfService);
    r.pass_ms(500);
    let begin_ms = r.w.elapsed_ms;
    r.posture("", Posture::Secure);
    r.pass_ms(60_000);
    let lap = r.since(begin_ms);
    assert_eq!(lap.first(), Some(&(0, "box-04")), "four were on, and rest");
    assert_eq!(lap.last(), Some(&(29 * STAGGER_MS, "box-03")));
    for (after_ms, portal) in lap.iter().filter(|(_, portal)| *portal < "box-04") {
        assert!(begin_ms + after_ms - r.off[*portal] >= REST_MS, "{portal}");
    }
    r.w.assert_replay_is_life();
}

#[test]
fn a_box_that_trips_in_the_lap_waits_for_its_own_rest_and_nobody_waits_for_it() {
    let mut r = Rooms::lit(0);
    let input = |r: &mut Rooms, n: usize, active: bool| {
        let report = PortalReport { overload: Some(active), ..PortalReport::default() };
        let seen = r.w.report(&room(n), report);
        r.note(&seen);
        seen.alarms()
    };
    r.posture("", Posture::OutOfService);
    r.pass_ms(10_000);
    let begin_ms = r.w.elapsed_ms;
    r.posture("", Posture::Secure);
    r.pass_ms(1_000);
    // One that is on trips; one that waits must not be switched on, and has not tripped.
    assert_eq!(input(&mut r, 0, true), [AlarmKind::PowerTrip]);
    assert_eq!(input(&mut r, 20, true), []);
    r.pass_ms(10_000);
    assert_eq!(r.since(begin_ms).last(), Some(&(28 * STAGGER_MS, "box-29")));
    assert_eq!(input(&mut r, 0, false), []);
    assert_eq!(input(&mut r, 20, false), []);
    r.pass_ms(1);
    assert_eq!(r.on.last().map(|(_, portal)| portal.as_str()), Some("box-20"));
    let tripped = r.off["box-00"];
    r.pass_ms(tripped + r.w.setup.policy.trip_rest_ms - r.w.elapsed_ms - 1);
    assert!(!r.w.is_on("box-00"));
    r.pass_ms(1);
    assert!(r.w.is_on("box-00"));
    r.w.assert_replay_is_life();
}

#[test]
fn a_card_that_is_put_in_again_while_its_box_waits_is_answered_with_its_place() {
    let mut r = Rooms::lit(0);
    r.posture("", Posture::OutOfService);
    r.pass_ms(10_000);
    let begin_ms = r.w.elapsed_ms;
    r.posture("", Posture::Secure);
    r.pass_ms(100);
    let seen = r.w.see(&room(20), &card(20));
    assert_eq!((seen.reason(), delay_ms(&seen)), ("granted", Some(20 * STAGGER_MS - 100)));
    // Another card of the room takes the place of the one that waited.
    r.w.issue("5C0DE199", "p1").enrol("5C0DE199", "p1", "power_box:*");
    r.w.leave(&room(10));
    let seen = r.w.see(&room(10), "5C0DE199");
    r.note(&seen);
    r.pass_ms(60_000);
    assert_eq!(r.since(begin_ms).last(), Some(&(28 * STAGGER_MS, "box-29")));
    assert!(r.w.is_on(&room(10)) && r.w.is_on(&room(20)));
    r.w.assert_replay_is_life();
}

/// Postures of some boxes, cards frozen and thawed, boxes that go away and come back: never two at once, and nobody is forgotten.
#[test]
fn whatever_comes_between_no_two_boxes_are_switched_on_at_once() {
    for seed in seeds(SEEDS_QUICK) {
        let mut dice = Dice(seed);
        let mut r = Rooms::lit(dice.pick(&[0, 400]));
        for _ in 0..120 {
            let n = dice.below(30);
            let portals = if dice.one_in(2) { String::new() } else { room(n) };
            match dice.below(6) {
                0 | 1 => r.posture(&portals, Posture::OutOfService),
                2 | 3 => r.posture(&portals, Posture::Secure),
                4 => {
                    let who = format!("uid:{}", card(n));
                    let seen = r.w.publish(vec![if dice.one_in(2) { op::freeze(&who) } else { op::unfreeze(&who) }]);
                    r.note(&seen);
                }
                _ => {
                    let seen = r.w.report(&room(n), PortalReport { online: Some(false), ..PortalReport::default() });
                    r.note(&seen);
                    let seen = r.w.sits(&room(n), &card(n), Some(false));
                    r.note(&seen);
                }
            }
            let ms = dice.pick(&[0, 0, 20, 149, 150, 700]);
            r.pass_ms(ms);
        }
        for n in 0..30 {
            let seen = r.w.publish(vec![op::unfreeze(&format!("uid:{}", card(n)))]);
            r.note(&seen);
        }
        r.posture("", Posture::Secure);
        r.pass_ms(10_000);
        for n in 0..30 {
            if !r.w.is_on(&room(n)) {
                r.w.leave(&room(n));
                assert_eq!(delay_ms(&r.w.see(&room(n), &card(n))), None, "seed {seed}: {} waits for nothing", room(n));
            }
        }
        r.w.assert_replay_is_life();
    }
}

/// A box reports that its card is there.
fn shown(n: usize) -> PortalReport {
    let uid = Some(Presented::Card(uid(&card(n))));
    PortalReport { card_present: Some(true), uid, ..PortalReport::default() }
}

#[test]
fn a_box_that_was_away_while_it_waited_gets_its_turn_only_if_it_shows_its_card_again() {
    let mut r = Rooms::lit(0);
    r.posture("", Posture::OutOfService);
    r.pass_ms(10_000);
    let begin_ms = r.w.elapsed_ms;
    r.posture("", Posture::Secure);
    r.pass_ms(1_000);
    let online = |online| PortalReport { online: Some(online), ..PortalReport::default() };
    for n in [20, 21, 22] {
        r.w.report(&room(n), online(false));
    }
    // Where a card was taken out meanwhile, nobody saw it.
    for n in [20, 21] {
        let seen = r.w.report(&room(n), PortalReport { relay: Some(false), ..online(true) });
        r.note(&seen);
    }
    r.w.report(&room(21), shown(21));
    r.pass_ms(60_000);
    let on: Vec<_> = r.since(begin_ms).into_iter().map(|(_, portal)| portal.to_owned()).collect();
    let expected: Vec<_> = (0..30).filter(|n| ![20, 22].contains(n)).map(room).collect();
    assert_eq!(on, expected, "one that is not shown leaves no gap");
    assert_eq!(r.since(begin_ms).last().map(|(at, _)| *at), Some(27 * STAGGER_MS));
    // It is put in again.
    r.w.report(&room(20), shown(20));
    assert!(!r.w.is_on(&room(20)), "a report is no presentation");
    r.w.leave(&room(20));
    assert_eq!((r.w.present(&room(20), &card(20)), r.w.is_on(&room(20))), ("granted", true));
    r.w.assert_replay_is_life();
}
