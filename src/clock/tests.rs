//! When the wall clock is trusted, and what is reported of it.

use super::*;

const START: Timestamp = Timestamp(RELEASED.0 + 1_000_000);
const YEAR_MS: i64 = 365 * 86_400_000;

/// What happens to a clock. Instants are milliseconds after `START`.
#[derive(Clone, Copy, Debug)]
enum Act {
    /// Both clocks advance.
    Pass(u64),
    /// Somebody sets the wall clock by this.
    Set(i64),
    /// The mark of trusted time on disk.
    Mark(i64),
    /// A message made at this instant was received before this run.
    Known(i64),
    /// One arrives from this stream.
    Made(&'static str, i64),
    Operator,
}
/// What it is about, when the clock begins, and what happens.
type Row<'a> = (&'a str, i64, &'a [(Act, bool)]);
use Act::{Known, Made, Mark, Operator, Pass, Set};

fn after_start(ms: i64) -> Timestamp {
    Timestamp(START.0 + ms)
}

/// A clock that first shows `first_ms` after `START`, after `acts`; checks whether it is trusted after each.
fn play(what: &str, first_ms: i64, acts: &[(Act, bool)]) -> Clock {
    let (clock, manual) = Clock::manual(after_start(first_ms));
    for (place, (act, expected)) in acts.iter().enumerate() {
        match *act {
            Pass(ms) => manual.advance_ms(ms),
            Set(ms) => manual.step_ms(ms),
            Mark(ms) => clock.not_before(after_start(ms)),
            Known(ms) => clock.message_known(&"office".parse().unwrap(), after_start(ms)),
            Made(stream, ms) => clock.message_made_at(&stream.parse().unwrap(), after_start(ms)),
            Operator => clock.trust().unwrap(),
        }
        assert_eq!(clock.now().clock == ClockTrust::Trusted, *expected, "{what}: act {place}, {act:?}");
    }
    clock
}

#[test]
fn a_clock_is_trusted_unless_what_is_known_contradicts_it() {
    let small_steps_back: Vec<_> =
        (0..22).map(|i| if i % 2 == 0 { (Set(-999), i < 20) } else { (Pass(10), i < 20) }).collect();
    let rows: [Row<'_>; 11] = [
        ("earlier than the release", -START.0, &[(Pass(1), false), (Set(START.0), true)]),
        ("before the mark", 0, &[(Mark(5_000), false), (Mark(0), false), (Pass(4_999), false), (Pass(1), true)]),
        (
            "more than 10 s back, until it has caught up; then steps are counted from zero",
            0,
            &[
                (Pass(60_000), true),
                (Set(-10_000), true),
                (Set(-500), false),
                (Pass(10_499), false),
                (Pass(1), true),
                (Set(-10_000), true),
                (Set(-3_600_000), false),
                (Set(3_610_000), true),
            ],
        ),
        ("many small steps back are no way around", 0, &small_steps_back),
        ("2047 leaves no mark", 0, &[(Set(21 * YEAR_MS), false), (Set(-21 * YEAR_MS), true)]),
        ("begun in 2047", 21 * YEAR_MS, &[(Pass(60_000), false), (Set(-21 * YEAR_MS), true)]),
        (
            "a wrong date ends when the clock agrees with a center, which may be 30 s ahead; an old message costs no trust",
            4 * YEAR_MS,
            &[
                (Made("office", 0), true),
                (Pass(1_000_000), true),
                (Set(-4 * YEAR_MS), true),
                (Set(-11_000), true),
                (Set(-30_000), false),
            ],
        ),
        (
            "a copy of an old message, a center too far behind or ahead, and one just near enough",
            0,
            &[
                (Made("office", 0), true),
                (Pass(3_600_000), true),
                (Set(-3_600_000), false),
                (Made("office", 0), false),
                (Made("behind", -600_001), false),
                (Made("ahead", 30_001), false),
                (Made("near", -600_000), true),
            ],
        ),
        (
            "a copy of what was received before this run, then a newer message",
            -60_000,
            &[
                (Mark(YEAR_MS), false),
                (Known(0), false),
                (Made("office", -60_000), false),
                (Made("office", 1), false),
                (Set(40_000), true),
            ],
        ),
        ("operator", YEAR_MS, &[(Set(-YEAR_MS), false), (Operator, true), (Set(-5_000), true), (Set(-6_000), false)]),
        ("the operator before a mark on disk", 0, &[(Mark(YEAR_MS), false), (Operator, true)]),
    ];
    for (what, first_ms, acts) in rows {
        play(what, first_ms, acts);
    }
}

#[test]
fn what_happened_to_the_clock_is_reported_once_and_the_newest_stay() {
    let clock = play("1970", -START.0, &[(Set(START.0), true)]);
    let set = [ClockChange::Step { by_ms: START.0 }, ClockChange::Trusted(TrustedBy::CaughtUp)];
    assert_eq!((clock.take_changes(), clock.take_changes()), (set.to_vec(), Vec::new()));
    let acts = [(Set(-10_000), true), (Set(-500), false), (Pass(10_500), true), (Pass(1_500), true)];
    let half_a_second_is_no_step =
        [ClockChange::Step { by_ms: -10_000 }, ClockChange::Untrusted, ClockChange::Trusted(TrustedBy::CaughtUp)];
    assert_eq!(play("back", 0, &acts).take_changes(), half_a_second_is_no_step);
    let acts = [(Made("office", 0), true), (Set(-4 * YEAR_MS), true)];
    let by_center =
        [ClockChange::Step { by_ms: -4 * YEAR_MS }, ClockChange::Trusted(TrustedBy::Center("office".parse().unwrap()))];
    assert_eq!(play("center", 4 * YEAR_MS, &acts).take_changes(), by_center);
    let many: Vec<_> = (1..=20).map(|s| (Set(s * 1_000), true)).collect();
    let changes = play("nobody takes them", 0, &many).take_changes();
    assert_eq!((changes.len(), changes.last()), (CHANGES_MAX, Some(&ClockChange::Step { by_ms: 20_000 })));
}

#[test]
fn the_release_date_is_the_one_in_the_source_and_nobody_can_have_an_earlier_time_trusted() {
    assert_eq!("2026-08-01T00:00:00Z".parse(), Ok(RELEASED));
    assert_eq!(Clock::manual(Timestamp(RELEASED.0 - 1)).0.trust(), Err(BeforeRelease));
}

#[test]
fn a_clock_that_was_not_synchronised_for_a_day_is_named_where_the_system_reports_it_and_stays_trusted() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("synchronized");
    let (clock, manual) = Clock::manual(START);
    assert_eq!(clock.synchronised_too_long_ago(&file), None, "no such file");
    let start = UNIX_EPOCH + Duration::from_millis(u64::try_from(START.0).unwrap());
    std::fs::File::create(&file).unwrap().set_modified(start).unwrap();
    manual.advance_ms(86_400_000);
    assert_eq!(clock.synchronised_too_long_ago(&file), None);
    manual.advance_ms(1);
    assert_eq!(clock.synchronised_too_long_ago(&file), Some(START));
    assert_eq!(clock.now().clock, ClockTrust::Trusted);
}

#[test]
fn the_clocks_advance_together() {
    let (clock, manual) = Clock::manual(START);
    manual.advance_ms(1_500);
    let now = clock.now();
    assert_eq!((now.wall, now.mono, now.clock), (after_start(1_500), Mono(1_500), ClockTrust::Trusted));
    assert_eq!(clock.take_changes(), []);
    let system = Clock::system();
    let (first, second) = (system.now(), system.clone().now());
    assert!(second.mono >= first.mono);
    assert_eq!(first.clock, ClockTrust::Trusted, "this machine's clock is earlier than the release");
}
