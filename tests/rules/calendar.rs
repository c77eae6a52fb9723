//! When a schedule is open: windows by local wall time, past midnight, on holidays, where clocks are changed; and that its edges are
//! where it opens and closes.

use dormgate::access::id::Timestamp;
use dormgate::access::schedule::{Holiday, Schedule, Timetable, Window, timezone};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::world::name;

const MINUTE_MS: i64 = 60_000;
const DAY_MS: i64 = 24 * 60 * MINUTE_MS;

fn windows(text: &str) -> Vec<Window> {
    text.split_whitespace().map(name).collect()
}

/// `mon-fri 06:00-23:00; sat 06:00-24:00; 2026-10-01 10:00-12:00`: windows of days and of dates.
fn schedule(text: &str) -> Schedule {
    const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
    let place = |day: &str| DAYS.iter().position(|d| *d == day);
    let mut schedule = Schedule::default();
    for part in text.split(';').map(str::trim).filter(|part| !part.is_empty()) {
        let (when, what) = part.split_once(' ').unwrap_or((part, ""));
        let (first, last) = when.split_once('-').unwrap_or((when, when));
        match (place(first), place(last)) {
            (Some(first), Some(last)) => {
                schedule.weekly[first..=last].iter_mut().for_each(|day| *day = windows(what));
            }
            _ => schedule.holidays.push(Holiday { date: name(when), windows: windows(what) }),
        }
    }
    schedule
}

fn table(schedule: &Schedule, zone: &str) -> Timetable {
    Timetable::new(schedule, &timezone(zone).unwrap().1)
}

#[test]
fn a_schedule_is_open_from_its_start_to_just_before_its_end_by_local_time() {
    const EVERY_NIGHT: &str = "mon-sun 22:00-06:00";
    // The zone, the schedule, and instants at which it is open (+) and closed (-). 2026-09-01 is a Tuesday.
    let rows: &[(&str, &str, &str)] = &[
        (
            "Asia/Shanghai",
            "tue 06:00-23:00",
            "-2026-09-01T05:59:59.999+08 +2026-09-01T06:00+08 +2026-09-01T22:59:59.999+08 -2026-09-01T23:00+08",
        ),
        ("Asia/Shanghai", "tue 06:00-23:00", "-2026-08-31T12:00+08 -2026-09-02T12:00+08 +2026-09-08T12:00+08"),
        ("Asia/Shanghai", "tue 06:00-24:00", "+2026-09-01T23:59:59.999+08 -2026-09-02T00:00+08"),
        (
            "Asia/Shanghai",
            "tue 00:00-00:00",
            "-2026-08-31T23:59+08 +2026-09-01T00:00+08 +2026-09-01T23:59+08 -2026-09-02T00:00+08",
        ),
        (
            "Asia/Shanghai",
            "tue 22:00-06:00",
            "-2026-09-01T05:00+08 +2026-09-01T22:00+08 +2026-09-02T05:59+08 -2026-09-02T06:00+08 -2026-09-02T22:00+08",
        ),
        (
            "Asia/Shanghai",
            "tue 06:00-08:00 07:00-09:00 20:00-21:00",
            "+2026-09-01T08:30+08 -2026-09-01T09:00+08 +2026-09-01T20:30+08",
        ),
        ("Asia/Shanghai", "", "-2026-09-01T12:00+08"),
        // The week of the zone, not of UTC.
        ("Asia/Shanghai", "tue 06:00-07:00", "+2026-08-31T22:30Z"),
        ("America/New_York", "tue 06:00-07:00", "+2026-09-01T10:30Z -2026-08-31T22:30Z"),
        // A holiday replaces the windows that begin on it; that of the evening before still runs into it.
        (
            "Asia/Shanghai",
            "mon-sun 22:00-06:00; 2026-10-01",
            "+2026-10-01T05:59+08 -2026-10-01T06:00+08 -2026-10-01T23:00+08 -2026-10-02T05:00+08 +2026-10-02T22:00+08",
        ),
        (
            "Asia/Shanghai",
            "mon-sun 22:00-06:00; 2026-10-01 20:00-01:00",
            "+2026-10-01T20:00+08 +2026-10-02T00:59+08 -2026-10-02T01:00+08",
        ),
        ("Asia/Shanghai", "2026-10-01 10:00-12:00", "+2026-10-01T11:00+08 -2026-10-08T11:00+08"),
        // Leap day and year's end.
        (
            "Asia/Shanghai",
            "mon-sun; 2028-02-29 10:00-12:00",
            "+2028-02-29T11:00+08 -2028-02-28T11:00+08 -2028-03-01T11:00+08",
        ),
        ("Asia/Shanghai", EVERY_NIGHT, "+2026-12-31T23:59+08 +2027-01-01T00:00+08 -2027-01-01T06:00+08"),
        (
            "Asia/Shanghai",
            "thu 22:00-06:00; 2027-01-01",
            "+2026-12-31T23:59+08 +2027-01-01T05:59+08 -2027-01-01T06:00+08",
        ),
        // Clocks are set forward from 02:00 to 03:00 on 2026-03-08: what lies between does not happen.
        ("America/New_York", "sun 01:00-02:30", "+2026-03-08T01:59:59-05 -2026-03-08T03:00-04"),
        ("America/New_York", "sun 02:30-04:00", "-2026-03-08T01:59:59-05 +2026-03-08T03:00-04"),
        ("America/New_York", "sun 02:15-02:45", "-2026-03-08T01:59:59-05 -2026-03-08T03:00-04 +2026-03-15T02:15-04"),
        // And back from 02:00 to 01:00 on 2026-11-01: what lies between happens twice.
        (
            "America/New_York",
            "sun 01:15-01:45",
            "+2026-11-01T01:15-04 -2026-11-01T01:50-04 +2026-11-01T01:15-05 -2026-11-01T01:45-05",
        ),
        (
            "America/New_York",
            "sun 00:00-01:30",
            "+2026-11-01T01:29-04 -2026-11-01T01:30-04 +2026-11-01T01:00-05 -2026-11-01T01:30-05",
        ),
        (
            "America/New_York",
            "sat 22:00-06:00",
            "+2026-11-01T01:30-04 +2026-11-01T01:30-05 +2026-11-01T05:59-05 -2026-11-01T06:00-05",
        ),
    ];
    for (zone, text, instants) in rows {
        let table = table(&schedule(text), zone);
        for instant in instants.split_whitespace() {
            let (sign, at) = instant.split_at(1);
            let at: Timestamp = name(at);
            assert_eq!(table.is_open(at), sign == "+", "{zone} `{text}` at {instant}");
        }
    }
}

#[test]
fn a_schedule_has_its_own_time_zone_and_one_that_does_not_exist_is_never_open() {
    let mut s = schedule("mon-sun 00:00-24:00");
    assert!(table(&s, "UTC").is_open(Timestamp(0)));
    s.timezone = Some("Asia/Nanhu".to_owned());
    assert!(!table(&s, "UTC").is_open(Timestamp(0)));
    assert_eq!(table(&s, "UTC").next_edge(Timestamp(0)), None);
    s = Schedule { timezone: Some("America/New_York".to_owned()), ..schedule("tue 06:00-07:00") };
    assert!(table(&s, "Asia/Shanghai").is_open(name("2026-09-01T06:30-04")));
}

#[test]
fn an_edge_is_found_however_far_it_is() {
    let rows = [
        ("UTC", "mon-sun 00:00-24:00", "2026-09-01T00:00Z", None),
        ("UTC", "", "2026-09-01T00:00Z", None),
        ("UTC", "mon-sun 00:00-24:00; 2027-03-01", "2026-09-01T00:00Z", Some("2027-03-01T00:00Z")),
        ("UTC", "mon-sun 00:00-24:00; 2027-03-01", "2027-03-01T00:00Z", Some("2027-03-02T00:00Z")),
        ("UTC", "2028-02-29 22:00-06:00", "2026-09-01T00:00Z", Some("2028-02-29T22:00Z")),
        ("UTC", "2028-02-29 22:00-06:00", "2028-02-29T22:00Z", Some("2028-03-01T06:00Z")),
        ("UTC", "2028-02-29 22:00-06:00", "2028-03-01T06:00Z", None),
        ("UTC", "tue 06:00-07:00", "2026-09-01T06:59:59.999Z", Some("2026-09-01T07:00Z")),
        ("UTC", "tue 06:00-07:00", "2026-09-01T07:00Z", Some("2026-09-08T06:00Z")),
        // At the change itself: a window that would begin in the hour that is left out, and one that comes a second time.
        ("America/New_York", "sun 02:30-04:00", "2026-03-08T00:00-05", Some("2026-03-08T03:00-04")),
        ("America/New_York", "sun 00:00-01:30", "2026-11-01T01:30-04", Some("2026-11-01T01:00-05")),
        ("America/New_York", "sun 00:00-01:30", "2026-11-01T01:00-05", Some("2026-11-01T01:30-05")),
        // The only windows of two weeks fall away: one on a holiday, one where clocks are set forward.
        ("America/New_York", "sun 02:15-02:45; 2026-03-01", "2026-02-23T00:00-05", Some("2026-03-15T02:15-04")),
    ];
    for (zone, text, after, edge) in rows {
        let found = table(&schedule(text), zone).next_edge(name(after));
        assert_eq!(found, edge.map(name), "{zone} `{text}` after {after}");
    }
}

/// Zones with a day before one on which their clocks are changed; and a leap day, the year's end, and a day like any other.
const DAYS: [(&str, &str); 11] = [
    ("America/New_York", "2026-03-07"),
    ("America/New_York", "2026-10-31"),
    ("Australia/Lord_Howe", "2026-04-03"),
    ("Australia/Lord_Howe", "2026-10-02"),
    ("America/Santiago", "2026-04-03"),
    ("America/Santiago", "2026-09-05"),
    ("Africa/Cairo", "2026-04-23"),
    ("Africa/Cairo", "2026-10-28"),
    ("Asia/Shanghai", "2028-02-28"),
    ("Asia/Shanghai", "2026-12-30"),
    ("Asia/Shanghai", "2026-09-01"),
];

fn any_windows() -> impl Strategy<Value = Vec<Window>> {
    // Mostly such that windows touch, and begin or end where clocks are changed.
    let minute = || prop_oneof![select(&[0_u16, 60, 90, 120, 135, 150, 180, 1380, 1439][..]), 0..1440_u16];
    let end = prop_oneof![3 => minute().boxed(), 1 => Just(1440_u16).boxed()];
    vec((minute(), end).prop_map(|(start_min, end_min)| Window { start_min, end_min }), 0..3)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(48) })]

    #[test]
    fn the_edges_are_where_it_opens_and_closes(
        weekly in vec(any_windows(), 7),
        holidays in vec((0..4_i64, any_windows()), 0..3),
        (zone, day) in select(&DAYS[..]),
    ) {
        let begin: Timestamp = name(&format!("{day}T00:00Z"));
        let mut s = Schedule { weekly: weekly.try_into().unwrap(), ..Schedule::default() };
        for (after, windows) in holidays {
            let date = Timestamp(begin.0 + after * DAY_MS).to_string();
            let date = name(date.split_once('T').unwrap().0);
            if s.holidays.iter().all(|h| h.date != date) {
                s.holidays.push(Holiday { date, windows });
            }
        }
        let table = table(&s, zone);
        let samples = (0..3 * DAY_MS / MINUTE_MS).map(|minute| Timestamp(begin.0 + minute * MINUTE_MS));
        let mut open = table.is_open(Timestamp(begin.0 - 1));
        let mut sampled = Vec::new();
        for at in samples {
            if table.is_open(at) != open {
                open = !open;
                sampled.push(at);
            }
        }
        let next = |at: &Timestamp| table.next_edge(*at).filter(|edge| edge.0 < begin.0 + 3 * DAY_MS);
        let edges: Vec<_> = std::iter::successors(next(&Timestamp(begin.0 - 1)), next).collect();
        prop_assert_eq!(edges, sampled);
    }
}
