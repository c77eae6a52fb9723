//! The events that the readings of a reader give, one after another.

use super::CardEvent::{Empty, Exchanged, Left, Missed, Presented as Came, There};
use super::*;

const A: &str = "1EA68671";
const B: &str = "04A1B2C3";

fn card(text: &str) -> Presented {
    Presented::Card(text.parse().unwrap())
}

fn reader(kind: ReaderKind) -> Reader {
    Reader::new(ReaderTraits { kind, gone_ms: 1000, direction: None })
}

/// When a reading is taken, the card that it shows, and what comes of it.
type Step<'a> = (u64, Option<&'a str>, &'a [CardEvent]);

struct Bench {
    reader: Reader,
    start: Instant,
    /// Of its line.
    turn: Duration,
}

impl Bench {
    fn new(kind: ReaderKind) -> Self {
        Self { reader: reader(kind), start: Instant::now(), turn: Duration::ZERO }
    }

    fn at(&self, ms: u64) -> Instant {
        self.start + Duration::from_millis(ms)
    }

    fn shows(&mut self, at_ms: u64, text: Option<&str>) -> Vec<CardEvent> {
        self.reader.read(Shows::Card(text.map(card)), self.at(at_ms), self.turn)
    }

    fn counts(&mut self, at_ms: u64, number: i64) -> Vec<CardEvent> {
        self.reader.read(Shows::Count(number, Some(card(A))), self.at(at_ms), self.turn)
    }

    fn accepted(&mut self, at_ms: u64) {
        let at = self.at(at_ms);
        self.reader.accepted(at);
    }
}

#[test]
fn a_reader_that_shows_the_card_as_long_as_it_is_there_gives_each_change_once() {
    let cases: &[&[Step<'_>]] = &[
        // A card has left only when it was not shown for the whole time.
        &[
            (0, None, &[Empty]),
            (200, Some(A), &[Came(card(A))]),
            (400, None, &[]),
            (600, Some(A), &[]),
            (800, None, &[]),
            (1799, None, &[]),
            (1800, None, &[Left]),
            (2000, None, &[]),
        ],
        // Another card without a gap is an exchange; after an empty reading the first has left.
        &[(0, Some(A), &[There(card(A))]), (200, Some(B), &[Exchanged, Came(card(B))])],
        &[(0, Some(A), &[There(card(A))]), (200, None, &[]), (400, Some(B), &[Left, Came(card(B))])],
        // What is shown after a pause is there, and it is not known when it came.
        &[(0, None, &[Empty]), (LEVEL_STALE_MS + 1, Some(A), &[There(card(A))])],
        &[(0, Some(A), &[There(card(A))]), (LEVEL_STALE_MS + 1, Some(B), &[Left, There(card(B))])],
    ];
    for case in cases {
        let mut bench = Bench::new(ReaderKind::Level);
        for (at_ms, shown, events) in *case {
            assert_eq!(bench.shows(*at_ms, *shown), *events, "{case:?} at {at_ms} ms");
        }
    }
}

#[test]
fn what_is_there_when_a_reader_is_read_again_is_reported_and_was_not_presented() {
    let mut bench = Bench::new(ReaderKind::Level);
    assert!(!bench.reader.is_read());
    bench.shows(0, None);
    for (at_ms, shown, event) in
        [(60_000, Some(A), There(card(A))), (70_000, Some(A), There(card(A))), (80_000, None, Empty)]
    {
        bench.reader.lost();
        assert_eq!(bench.shows(at_ms, shown), [event]);
    }
    bench.shows(80_200, Some(A));
    bench.reader.report_again();
    assert_eq!(bench.shows(80_400, None), []);
    assert_eq!(bench.shows(80_600, Some(A)), [There(card(A))]);
    assert_eq!(bench.shows(80_800, Some(A)), []);
}

#[test]
fn a_latched_card_comes_once_and_again_after_its_latch_was_clear() {
    let mut bench = Bench::new(ReaderKind::Latch { repeats: false });
    assert_eq!(bench.shows(0, None), []);
    assert_eq!(bench.shows(150, Some(A)), [Came(card(A))]);
    assert_eq!(bench.reader.accept(), Some(Accept::Latch));
    assert_eq!(bench.shows(300, Some(A)), []);
    bench.accepted(310);
    assert_eq!(bench.reader.accept(), None);
    assert_eq!(bench.shows(305, Some(A)), [], "read before it was accepted");
    assert_eq!(bench.shows(450, None), []);
    assert_eq!(bench.shows(600, Some(A)), [Came(card(A))]);
    bench.reader.not_passed_on();
    assert_eq!((bench.reader.accept(), bench.shows(1100, Some(A))), (None, vec![Came(card(A))]));
}

#[test]
fn a_latch_that_is_slow_to_clear_gives_its_card_once_and_is_released_again_now_and_then() {
    for (at_ms, first) in [(0, vec![Missed(Some(card(A)))]), (150, vec![Came(card(A))])] {
        let mut bench = Bench::new(ReaderKind::Latch { repeats: false });
        if at_ms > 0 {
            bench.shows(0, None);
        }
        assert_eq!(bench.shows(at_ms, Some(A)), first);
        bench.accepted(at_ms + 10);
        let mut released = Vec::new();
        for after_ms in (150..2500).step_by(150) {
            assert_eq!(bench.shows(at_ms + after_ms, Some(A)), [], "{after_ms} ms later");
            if bench.reader.accept().is_some() {
                released.push(after_ms);
                bench.accepted(at_ms + after_ms + 10);
            }
        }
        assert_eq!(released, [600, 1200, 1800, 2400]);
        assert_eq!(bench.reader.stuck(), None);
        assert_eq!(bench.shows(3000, Some(B)), [Came(card(B))], "another card is another presentation");
        assert_eq!(bench.reader.accept(), Some(Accept::Latch));
        assert_eq!(bench.shows(3150, None), []);
        assert_eq!(bench.shows(4000, Some(B)), [Came(card(B))]);
    }
}

#[test]
fn a_latch_that_was_read_clear_presents_the_same_card_again_however_soon() {
    let mut bench = Bench::new(ReaderKind::Latch { repeats: false });
    bench.shows(0, None);
    for at_ms in (100..1_000).step_by(100) {
        assert_eq!(bench.shows(at_ms, Some(A)), [Came(card(A))]);
        bench.accepted(at_ms + 10);
        assert_eq!(bench.shows(at_ms + 20, None), []);
    }
    assert_eq!(bench.reader.stuck(), None);
}

#[test]
fn a_latch_that_does_not_clear_or_cannot_be_released_is_stuck_until_it_is_clear() {
    for refused in [false, true] {
        let mut bench = Bench::new(ReaderKind::Latch { repeats: false });
        bench.shows(0, None);
        bench.shows(150, Some(A));
        for at_ms in (200..=200 + LATCH_STUCK_MS).step_by(500) {
            assert_eq!(bench.reader.stuck(), None, "{at_ms} ms");
            if refused {
                let at = bench.at(at_ms);
                bench.reader.not_accepted(at, "the device refuses".to_owned());
            } else {
                bench.accepted(at_ms);
            }
            assert_eq!(bench.shows(at_ms + 10, Some(A)), []);
        }
        let why = bench.reader.stuck().unwrap();
        assert!(why.contains(if refused { "the device refuses" } else { "still set 3000 ms" }), "{why}");
        assert_eq!(bench.shows(4000, Some(B)), [Came(card(B))]);
        assert!(bench.reader.stuck().is_some(), "it was not clear between");
        bench.shows(4150, None);
        assert_eq!(bench.reader.stuck(), None);
    }
}

#[test]
fn a_latch_that_is_set_again_in_each_reading_is_stuck_only_if_its_release_fails() {
    let mut bench = Bench::new(ReaderKind::Latch { repeats: true });
    bench.shows(0, Some(A));
    for at_ms in (100..10_000).step_by(100) {
        bench.accepted(at_ms - 50);
        assert_eq!(bench.shows(at_ms, Some(A)), []);
        assert_eq!(bench.reader.stuck(), None);
    }
    for at_ms in (10_000..=10_000 + LATCH_STUCK_MS).step_by(100) {
        assert_eq!(bench.reader.stuck(), None);
        let at = bench.at(at_ms);
        bench.reader.not_accepted(at, "the device refuses".to_owned());
        bench.shows(at_ms, Some(A));
    }
    assert!(bench.reader.stuck().is_some());
    bench.accepted(14_000);
    bench.shows(14_100, Some(A));
    assert_eq!(bench.reader.stuck(), None);
}

#[test]
fn a_card_latched_while_the_reader_was_not_read_opens_nothing_and_is_accepted() {
    let mut bench = Bench::new(ReaderKind::Latch { repeats: false });
    assert_eq!(bench.shows(0, Some(A)), [Missed(Some(card(A)))]);
    assert_eq!(bench.reader.accept(), Some(Accept::Latch));
    bench.accepted(10);
    assert_eq!(bench.shows(150, None), []);
    let later = 150 + STALE_MS + 1;
    assert_eq!(bench.shows(later, Some(A)), [Missed(Some(card(A)))]);
    bench.accepted(later + 10);
    // The latch was released, so this may be another presentation, and it is not known when.
    assert_eq!(bench.shows(later + 2 * STALE_MS, Some(A)), [Missed(Some(card(A)))]);
    bench.reader.lost();
    assert_eq!(bench.shows(later + 2 * STALE_MS + 100, Some(A)), [Missed(Some(card(A)))]);
}

#[test]
fn a_card_opens_within_three_turns_of_a_loaded_line_and_never_after_ten_seconds() {
    for (turn_ms, limit_ms) in [(0, STALE_MS), (999, STALE_MS), (1640, 3 * 1640), (60_000, STALE_MS_MAX)] {
        for kind in [ReaderKind::Latch { repeats: false }, ReaderKind::Counter { accepts: false }] {
            for (after_ms, event) in [(limit_ms, Came(card(A))), (limit_ms + 1, Missed(Some(card(A))))] {
                let mut bench = Bench { turn: Duration::from_millis(turn_ms), ..Bench::new(kind) };
                let came = if kind == (ReaderKind::Latch { repeats: false }) {
                    bench.shows(0, None);
                    bench.shows(after_ms, Some(A))
                } else {
                    bench.counts(0, 1);
                    bench.counts(after_ms, 2)
                };
                assert_eq!(came, [event], "{kind:?} {turn_ms} {after_ms}");
            }
        }
    }
}

#[test]
fn a_latch_that_is_set_again_shows_how_long_the_card_is_there() {
    let mut bench = Bench::new(ReaderKind::Latch { repeats: true });
    assert_eq!(bench.shows(0, None), [], "a card may be there and not be shown at this moment");
    assert!(bench.reader.is_read() && !bench.reader.is_sure());
    assert_eq!(bench.shows(100, Some(A)), [There(card(A))]);
    for at_ms in [200, 300, 400] {
        assert_eq!(bench.reader.accept(), (at_ms == 200).then_some(Accept::Latch));
        bench.accepted(at_ms - 50);
        assert_eq!(bench.shows(at_ms, None), []);
    }
    assert_eq!(bench.shows(500, Some(A)), [], "it is there still");
    assert_eq!(bench.shows(600, None), []);
    assert_eq!(bench.shows(1599, None), []);
    assert_eq!(bench.shows(1600, None), [Left]);
    assert_eq!(bench.shows(1700, Some(A)), [Came(card(A))]);

    let mut bench = Bench::new(ReaderKind::Latch { repeats: true });
    for (at_ms, events) in [(0, vec![]), (999, vec![]), (1000, vec![Empty]), (1100, vec![])] {
        assert_eq!(bench.shows(at_ms, None), events, "{at_ms} ms");
    }
}

#[test]
fn a_count_that_goes_back_is_of_a_device_that_has_started_again() {
    let mut bench = Bench::new(ReaderKind::Counter { accepts: true });
    assert_eq!(bench.counts(0, 5), []);
    assert_eq!(bench.counts(100, 0), [Missed(Some(card(A)))]);
    assert_eq!(bench.counts(200, 1), [Came(card(A))]);
    assert_eq!(bench.counts(300, 40), [Came(card(A))]);
    assert_eq!(bench.counts(400, 3), [Missed(Some(card(A)))]);
}

#[test]
fn a_count_is_primed_by_the_first_reading_and_may_wrap() {
    let mut bench = Bench::new(ReaderKind::Counter { accepts: true });
    assert_eq!(bench.counts(0, 65535), []);
    assert_eq!(bench.counts(150, 65535), []);
    assert_eq!(bench.counts(300, 0), [Came(card(A))]);
    assert_eq!(bench.reader.accept(), Some(Accept::Count(0)));
    bench.reader.not_passed_on();
    assert_eq!(bench.reader.accept(), None);
    assert_eq!(bench.counts(450, 0), [Came(card(A))]);
    assert_eq!(bench.counts(600, 0), []);
    bench.reader.lost();
    assert_eq!(bench.counts(750, 9), [Missed(Some(card(A)))]);
}
