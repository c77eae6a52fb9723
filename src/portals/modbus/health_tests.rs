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

#[tokio::test]
async fn a_dead_unit_costs_at_most_a_tenth_of_the_line() {
    let start = Instant::now();
    let mut health = dead_unit(start);
    let cost = Duration::from_millis(400);
    let mut spent = Duration::ZERO;
    // Asked all the time, by cards and by cuts.
    for ms in (0..60_000).step_by(10) {
        let now = start + Duration::from_millis(ms);
        for priority in [Priority::Cut, Priority::Card] {
            if health.barred(1, priority, now).is_none() {
                health.asked(1, priority);
                health.silent(1, "no answer", cost, now);
                spent += cost;
            }
        }
        assert_eq!(health.barred(2, Priority::Meter, now), None);
    }
    assert!(spent <= Duration::from_secs(7) + 2 * cost, "{spent:?}");
}

#[tokio::test]
async fn a_repaired_unit_is_asked_again_within_thirty_seconds() {
    let start = Instant::now();
    let mut health = dead_unit(start);
    let mut last = start;
    for ms in (0..600_000).step_by(50) {
        let now = start + Duration::from_millis(ms);
        if health.barred(1, Priority::Card, now).is_none() {
            health.silent(1, "no answer", Duration::from_millis(200), now);
            last = now;
        }
        assert!(now - last <= Duration::from_millis(PROBE_MS_MAX) + Duration::from_millis(50));
    }
    assert!(health.answered(1, &READ, Duration::ZERO));
    assert_eq!(health.barred(1, Priority::Card, last), None);
}

#[tokio::test]
async fn a_repaired_unit_that_takes_its_time_is_back_within_thirty_seconds() {
    let start = Instant::now();
    let full = Duration::from_millis(200);
    let mut health = dead_unit(start);
    let (mut last, mut whole) = (start, 0);
    for ms in (0..600_000).step_by(50) {
        let now = start + Duration::from_millis(ms);
        if health.barred(1, Priority::Card, now).is_none() {
            if health.short(1, full, now).is_none() {
                (last, whole) = (now, whole + 1);
            }
            health.silent(1, "no answer", full, now);
        }
        assert!(now - last <= Duration::from_millis(PROBE_MS_MAX) + Duration::from_millis(50), "at {ms} ms");
    }
    assert!((20..=23).contains(&whole), "{whole} times in 10 min");
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
async fn a_dead_unit_is_waited_for_shortly_and_twice_a_minute_for_as_long_as_it_may_need() {
    let start = Instant::now();
    let full = Duration::from_millis(200);
    let mut health = dead_unit(start);
    assert_eq!(health.short(2, full, start), None);
    let mut in_full = 0;
    for ms in (0..600_000).step_by(50) {
        let now = start + Duration::from_millis(ms);
        // Cuts in between do not put it off.
        for priority in [Priority::Cut, Priority::Card] {
            if health.barred(1, priority, now).is_none() {
                health.asked(1, priority);
                let took = health.short(1, full, now).unwrap_or(full);
                in_full += usize::from(took == full);
                health.silent(1, "no answer", took, now);
                health.rest(1, now + Duration::from_secs(1));
            }
        }
    }
    assert!((20..=23).contains(&in_full), "{in_full} in ten minutes");
    // One that was ever slow is given its time.
    health.answered(1, &READ, Duration::from_millis(60));
    for _ in 0..OFFLINE_AFTER {
        health.silent(1, "no answer", full, start);
    }
    assert_eq!(health.short(1, full, start), Some(Duration::from_millis(120)));
}

#[tokio::test]
async fn polls_of_a_dead_unit_come_last_and_its_switching_and_the_others_keep_their_turn() {
    let mut health = dead_unit(Instant::now());
    for priority in Priority::ALL {
        let lane = if priority >= Priority::Card { Priority::Probe } else { priority };
        assert_eq!(health.lane(1, priority), lane);
        assert_eq!(health.lane(2, priority), priority);
    }
    // One that fell with the line is asked as ever.
    health.line_down("no line");
    assert_eq!(health.lane(2, Priority::Card), Priority::Card);
}

#[tokio::test]
async fn what_must_go_off_is_tried_at_once_at_a_dead_unit() {
    let now = Instant::now();
    let mut health = dead_unit(now);
    assert_eq!(health.barred(1, Priority::Cut, now), None);
    assert!(health.barred(1, Priority::Release, now).is_some());
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
