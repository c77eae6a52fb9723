//! Which units are offline, when they are tried again, and what they cost the others.

use super::*;
use crate::wire::modbus::Space;

const READ: Request = Request::Read { space: Space::Coil, address: 5, count: 1 };

fn dead_unit(now: Instant) -> Health {
    let mut health = Health::new([1, 2], now);
    for _ in 0..OFFLINE_AFTER {
        assert_eq!(health.barred(1, Priority::Release, now), None);
        health.silent(1, "no answer", Duration::from_millis(400), now);
    }
    health
}

/// Asks unit 1 at every step of this time by `priorities`; each time it may be asked, `ask` has it be silent for what it gives. The
/// times, with that.
fn asked_all_the_time(
    health: &mut Health,
    start: Instant,
    (seconds, step_ms): (u64, usize),
    priorities: &[Priority],
    mut ask: impl FnMut(&mut Health, Instant) -> Duration,
) -> Vec<(Instant, Duration)> {
    let mut asked = Vec::new();
    for ms in (0..seconds * 1000).step_by(step_ms) {
        let now = start + Duration::from_millis(ms);
        for priority in priorities {
            if health.barred(1, *priority, now).is_none() {
                health.asked(1, *priority);
                asked.push((now, ask(health, now)));
            }
        }
        assert_eq!(health.barred(2, Priority::Meter, now), None, "the others keep their turn");
    }
    asked
}

/// Longest time without a request that is given `full`.
fn longest_gap(asked: &[(Instant, Duration)], full: Duration) -> Duration {
    let whole: Vec<_> = asked.iter().filter(|(_, took)| *took == full).map(|(at, _)| *at).collect();
    whole.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap()
}

const FULL: Duration = Duration::from_millis(200);
fn silent(health: &mut Health, took: Duration, now: Instant) -> Duration {
    health.silent(1, "no answer", took, now);
    took
}

const BOTH: &[Priority] = &[Priority::Cut, Priority::Card];
/// With one step of the loop.
const LONGEST: Duration = Duration::from_millis(PROBE_MS_MAX + 50);

#[tokio::test]
async fn a_dead_unit_costs_at_most_a_tenth_of_the_line() {
    let (start, cost) = (Instant::now(), Duration::from_millis(400));
    let asked =
        asked_all_the_time(&mut dead_unit(start), start, (60, 10), BOTH, |health, now| silent(health, cost, now));
    let spent = cost * u32::try_from(asked.len()).unwrap();
    assert!(spent <= Duration::from_secs(7) + 2 * cost, "{spent:?}");
}

#[tokio::test]
async fn a_dead_unit_is_tried_briefly_and_twice_a_minute_for_its_whole_time_until_it_is_repaired() {
    let start = Instant::now();
    // Also where cuts are asked in between, and where the line rests after each.
    for (priorities, rests) in [(&[Priority::Card][..], false), (BOTH, true)] {
        let mut health = dead_unit(start);
        assert_eq!(health.short(2, FULL, start), None);
        let asked = asked_all_the_time(&mut health, start, (600, 50), priorities, |health, now| {
            let took = health.short(1, FULL, now).unwrap_or(FULL);
            silent(health, took, now);
            if rests {
                health.rest(1, now + Duration::from_secs(1));
            }
            took
        });
        let whole = asked.iter().filter(|(_, took)| *took == FULL).count();
        assert!((20..=23).contains(&whole), "{whole} in ten minutes");
        assert!(longest_gap(&asked, FULL) <= LONGEST);
        assert!(health.answered(1, &READ, Duration::from_millis(60)), "it was offline");
        assert_eq!(health.barred(1, Priority::Card, asked.last().unwrap().0), None);
        // One that was ever slow is given its time.
        for _ in 0..OFFLINE_AFTER {
            health.silent(1, "no answer", FULL, start);
        }
        assert_eq!(health.short(1, FULL, start), Some(Duration::from_millis(120)));
    }
}

#[tokio::test]
async fn a_unit_that_did_not_answer_leaves_the_line_to_the_others_and_is_still_switched() {
    let now = Instant::now();
    let cost = Duration::from_millis(400);
    let mut health = Health::new([1, 2], now);
    health.silent(1, "no answer", cost, now);
    assert!(health.barred(1, Priority::Card, now).is_some());
    assert_eq!(health.barred(2, Priority::Meter, now), None);
    for switching in [Priority::Cut, Priority::Release, Priority::Confirm] {
        assert_eq!(health.barred(1, switching, now), None);
    }
    assert_eq!(health.barred(1, Priority::Card, now + cost), None);
}

#[tokio::test]
async fn polls_of_a_dead_unit_come_last_its_cuts_are_tried_at_once_and_the_others_keep_their_turn() {
    let now = Instant::now();
    let mut health = dead_unit(now);
    assert_eq!(health.barred(1, Priority::Cut, now), None);
    assert!(health.barred(1, Priority::Release, now).is_some());
    for &priority in Priority::ALL {
        let lane = if priority >= Priority::Card { Priority::Probe } else { priority };
        assert_eq!(health.lane(1, priority), lane);
        assert_eq!(health.lane(2, priority), priority);
    }
    // One that fell with the line is asked as ever.
    health.line_down("no line");
    assert_eq!(health.lane(2, Priority::Card), Priority::Card);
}

#[tokio::test]
async fn polls_of_a_unit_that_did_not_answer_twice_come_after_those_of_units_that_do() {
    let (now, took) = (Instant::now(), Duration::from_millis(200));
    let mut health = Health::new([1, 2], now);
    health.silent(1, "no answer", took, now);
    assert_eq!(health.lane(1, Priority::Card), Priority::Card, "one answer was lost");
    health.silent(1, "no answer", took, now);
    assert_eq!((health.lane(1, Priority::Card), health.lane(2, Priority::Card)), (Priority::Probe, Priority::Card));
    assert_eq!(health.lane(1, Priority::Release), Priority::Release);
    health.answered(1, &READ, took);
    assert_eq!(health.lane(1, Priority::Card), Priority::Card);
    // One that fell with the line after it missed answers is asked as ever.
    health.silent(1, "no answer", took, now);
    health.silent(1, "no answer", took, now);
    health.line_down("no line");
    assert_eq!(health.lane(1, Priority::Card), Priority::Card);
}

#[tokio::test]
async fn a_line_that_comes_back_leaves_dead_units_their_wait_and_lets_the_others_be_asked_at_once() {
    let now = Instant::now();
    let mut health = dead_unit(now);
    health.answered(2, &READ, Duration::ZERO);
    // The dead one has had its share.
    health.silent(1, "no answer", Duration::from_millis(400), now);
    health.line_down("no line");
    assert_eq!(health.barred(2, Priority::Card, now), None, "nobody would open the line");
    health.line_up();
    assert!(health.barred(1, Priority::Card, now).is_some());
    for _ in 0..OFFLINE_AFTER {
        assert_eq!(health.barred(2, Priority::Release, now), None);
        assert_eq!(health.short(2, Duration::from_millis(200), now), None);
        health.silent(2, "no answer", Duration::from_millis(400), now);
    }
    assert!(health.barred(2, Priority::Card, now).is_some());
    // What must go off is tried at once, also at a dead one.
    assert_eq!(health.barred(1, Priority::Cut, now), None);
}

#[tokio::test]
async fn a_unit_that_answers_with_nothing_but_exceptions_is_offline_until_it_answers_well() {
    let (now, took) = (Instant::now(), Duration::from_millis(5));
    let mut health = Health::new([1], now);
    let refuse = |health: &mut Health| health.refused(1, "exception 2", took, now);
    for _ in 1..EXCEPTIONS_TO_OFFLINE {
        assert_eq!(refuse(&mut health), None);
    }
    health.answered(1, &READ, took);
    for _ in 1..EXCEPTIONS_TO_OFFLINE {
        assert_eq!(refuse(&mut health), None, "in a row");
    }
    assert_eq!(refuse(&mut health), Some(false));
    assert_eq!(refuse(&mut health), None, "it stays offline");
    assert!(health.is_offline(1) && health.answered(1, &READ, took));
    assert_eq!(refuse(&mut health), None);
    assert!(!health.is_offline(1));
}

#[tokio::test]
async fn an_exception_is_news_once_until_the_same_request_is_answered_well() {
    let mut health = Health::new([1, 2], Instant::now());
    let read = |address| Request::Read { space: Space::Coil, address, count: 1 };
    assert!(health.is_news(1, &read(5), Exception(2)));
    assert!(!health.is_news(1, &read(5), Exception(2)));
    for (unit, address, exception) in [(2, 5, 2), (1, 6, 2), (1, 5, 4)] {
        assert!(health.is_news(unit, &read(address), Exception(exception)));
    }
    health.answered(1, &read(6), Duration::ZERO);
    assert!(!health.is_news(1, &read(5), Exception(4)), "another address was answered");
    health.answered(1, &read(5), Duration::ZERO);
    assert!(health.is_news(1, &read(5), Exception(2)) && health.is_news(1, &read(5), Exception(4)));
    assert!(!health.is_news(2, &read(5), Exception(2)));
}
