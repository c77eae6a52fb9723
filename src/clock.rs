//! The wall clock, and whether it can be trusted. The only file that asks the operating system for the time; everybody
//! else is told.
//!
//! The clock is untrusted while it is earlier than the last time on disk or than the release of this program, and after a
//! step back of more than `STEP_BACK_MS_MAX` until it has caught up with the latest time it ever showed. A step is seen by
//! comparing with the monotonic clock: both are slewed alike, so their difference changes only when somebody sets the clock.
//! Refuses to own what an untrusted clock means for a decision; that is the policy's.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::access::id::{ClockTrust, Mono, Now, Timestamp};

/// 2026-08-01T00:00:00Z, before the first release. Raised with a release; a date in the source and not the time of the build,
/// so that the same source gives the same program.
const RELEASED: Timestamp = Timestamp(1_785_542_400_000);
/// Steps back of more than this many milliseconds cost the clock its trust (wire contract, `policy.untrusted_clock`).
const STEP_BACK_MS_MAX: i64 = 10_000;
/// Steps of at least this many milliseconds are reported; a smaller one changes no decision.
const STEP_REPORTED_MS: u64 = 1_000;
/// Most steps kept until they are taken; further ones are added to the last.
const STEPS_MAX: usize = 16;

/// Somebody set the wall clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockStep {
    /// By how many milliseconds; negative: back.
    pub by_ms: i64,
}

/// The clock of one process. Cheap to clone; clones share what they saw.
#[derive(Clone, Debug)]
pub struct Clock {
    source: Source,
    seen: Arc<Mutex<Seen>>,
}

/// Sets a manual [`Clock`], for tests and simulations. Clones move the same clock.
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<Mutex<Reading>>);

#[derive(Clone, Debug)]
enum Source {
    System { began: Instant },
    Manual(ManualClock),
}

#[derive(Clone, Copy, Debug)]
struct Reading {
    wall_ms: i64,
    mono_ms: u64,
}

impl Reading {
    /// What only setting the clock changes.
    fn offset_ms(self) -> i64 {
        self.wall_ms.saturating_sub(i64::try_from(self.mono_ms).unwrap_or(i64::MAX))
    }
}

/// What the readings so far say.
#[derive(Debug)]
struct Seen {
    /// Earlier than this is untrusted: the release, or the last time on disk.
    floor: Timestamp,
    /// The latest wall time shown.
    latest: Timestamp,
    /// The offset at the last reading, in milliseconds.
    offset_ms: i64,
    /// The offset from which steps back are counted, in milliseconds.
    trusted_offset_ms: i64,
    /// The clock is untrusted until it shows this.
    until: Option<Timestamp>,
    /// Steps not yet taken.
    steps: Vec<ClockStep>,
}

impl Clock {
    /// The operating system's clock.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this file is where the time comes from")]
    pub fn system() -> Self {
        Self::of(Source::System { began: Instant::now() })
    }

    /// A clock that stands still until the manual clock is moved.
    #[must_use]
    pub fn manual(wall: Timestamp) -> (Self, ManualClock) {
        let manual = ManualClock(Arc::new(Mutex::new(Reading { wall_ms: wall.0, mono_ms: 0 })));
        (Self::of(Source::Manual(manual.clone())), manual)
    }

    fn of(source: Source) -> Self {
        let reading = source.read();
        let seen = Seen {
            floor: RELEASED,
            latest: Timestamp(reading.wall_ms),
            offset_ms: reading.offset_ms(),
            trusted_offset_ms: reading.offset_ms(),
            until: None,
            steps: Vec::new(),
        };
        Self { source, seen: Arc::new(Mutex::new(seen)) }
    }

    /// Tells the clock the last time on disk: until it shows that, it is untrusted.
    pub fn not_before(&self, on_disk: Timestamp) {
        let mut seen = self.lock();
        seen.floor = seen.floor.max(on_disk);
    }

    /// The time now.
    #[must_use]
    pub fn now(&self) -> Now {
        let mut seen = self.lock();
        // Read under the lock, so that readings are judged in the order they were made.
        let reading = self.source.read();
        let clock = seen.judge(reading);
        Now { wall: Timestamp(reading.wall_ms), mono: Mono(reading.mono_ms), clock }
    }

    /// The steps seen since this was last asked, oldest first, for the audit.
    #[must_use]
    pub fn take_steps(&self) -> Vec<ClockStep> {
        std::mem::take(&mut self.lock().steps)
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        // What is behind the lock is whole after every statement, so a panic elsewhere spoils nothing.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seen {
    fn judge(&mut self, reading: Reading) -> ClockTrust {
        let (wall, offset_ms) = (Timestamp(reading.wall_ms), reading.offset_ms());
        let by_ms = offset_ms.saturating_sub(self.offset_ms);
        if by_ms.unsigned_abs() >= STEP_REPORTED_MS {
            let full = self.steps.len() >= STEPS_MAX;
            match self.steps.last_mut() {
                Some(last) if full => last.by_ms = last.by_ms.saturating_add(by_ms),
                Some(_) | None => self.steps.push(ClockStep { by_ms }),
            }
        }
        self.offset_ms = offset_ms;
        // Small steps back add up, because they are counted from where the clock was last trusted or stepped forward to.
        self.trusted_offset_ms = self.trusted_offset_ms.max(offset_ms);
        if self.until.is_none() && self.trusted_offset_ms.saturating_sub(offset_ms) > STEP_BACK_MS_MAX {
            self.until = Some(self.latest);
        }
        if self.until.is_some_and(|until| wall >= until) {
            self.until = None;
            self.trusted_offset_ms = offset_ms;
        }
        self.latest = self.latest.max(wall);
        if wall < self.floor || self.until.is_some() { ClockTrust::Untrusted } else { ClockTrust::Trusted }
    }
}

impl Source {
    #[expect(clippy::disallowed_methods, reason = "this file is where the time comes from")]
    fn read(&self) -> Reading {
        match self {
            Self::System { began } => {
                let wall_ms = match SystemTime::now().duration_since(UNIX_EPOCH) {
                    Ok(since) => millis(since),
                    Err(before) => -millis(before.duration()),
                };
                let mono_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
                Reading { wall_ms, mono_ms }
            }
            Self::Manual(manual) => *manual.lock(),
        }
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

impl ManualClock {
    /// Time passes: both clocks go on by `ms` milliseconds.
    pub fn advance_ms(&self, ms: u64) {
        let mut reading = self.lock();
        reading.mono_ms = reading.mono_ms.saturating_add(ms);
        reading.wall_ms = reading.wall_ms.saturating_add(i64::try_from(ms).unwrap_or(i64::MAX));
    }

    /// Somebody sets the wall clock, by `ms` milliseconds; negative: back.
    pub fn step_ms(&self, ms: i64) {
        let mut reading = self.lock();
        reading.wall_ms = reading.wall_ms.saturating_add(ms);
    }

    fn lock(&self) -> MutexGuard<'_, Reading> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp(RELEASED.0 + 1_000_000);

    fn trusted(clock: &Clock) -> bool {
        clock.now().clock == ClockTrust::Trusted
    }

    #[test]
    fn the_release_date_in_the_source_is_the_one_it_says() {
        assert_eq!(crate::wire::time::parse("2026-08-01T00:00:00Z"), Some(RELEASED));
    }

    #[test]
    fn the_wall_clock_and_the_monotonic_clock_go_on_together() {
        let (clock, manual) = Clock::manual(START);
        manual.advance_ms(1_500);
        let now = clock.now();
        assert_eq!((now.wall, now.mono, now.clock), (Timestamp(START.0 + 1_500), Mono(1_500), ClockTrust::Trusted));
        assert_eq!(clock.take_steps(), []);
    }

    #[test]
    fn a_clock_earlier_than_the_release_is_untrusted_until_it_is_set() {
        let (clock, manual) = Clock::manual(Timestamp(0));
        assert!(!trusted(&clock));
        manual.step_ms(START.0);
        assert!(trusted(&clock));
        assert_eq!(clock.take_steps(), [ClockStep { by_ms: START.0 }]);
        assert_eq!(clock.take_steps(), []);
    }

    #[test]
    fn a_clock_earlier_than_the_last_time_on_disk_is_untrusted_until_it_gets_there() {
        let (clock, manual) = Clock::manual(START);
        clock.not_before(Timestamp(START.0 + 5_000));
        clock.not_before(Timestamp(0));
        manual.advance_ms(4_999);
        assert!(!trusted(&clock));
        manual.advance_ms(1);
        assert!(trusted(&clock));
    }

    #[test]
    fn a_step_back_of_more_than_ten_seconds_costs_the_trust_until_the_clock_has_caught_up() {
        let (clock, manual) = Clock::manual(START);
        manual.advance_ms(60_000);
        assert!(trusted(&clock));
        manual.step_ms(-10_000);
        assert!(trusted(&clock), "10 s is not more than 10 s");
        manual.step_ms(-500);
        assert!(!trusted(&clock));
        manual.advance_ms(10_499);
        assert!(!trusted(&clock));
        manual.advance_ms(1);
        assert!(trusted(&clock));
        assert_eq!(clock.take_steps(), [ClockStep { by_ms: -10_000 }], "half a second is no step worth an event");
        manual.step_ms(-10_000);
        assert!(trusted(&clock), "steps are counted anew");
    }

    #[test]
    fn many_small_steps_back_are_no_way_around() {
        let (clock, manual) = Clock::manual(START);
        for _ in 0..11 {
            assert!(trusted(&clock));
            manual.step_ms(-999);
            manual.advance_ms(10);
        }
        assert!(!trusted(&clock));
    }

    #[test]
    fn a_step_back_that_was_set_right_again_is_trusted_at_once() {
        let (clock, manual) = Clock::manual(START);
        manual.step_ms(-3_600_000);
        assert!(!trusted(&clock));
        manual.step_ms(3_600_000);
        assert!(trusted(&clock));
        assert_eq!(clock.take_steps(), [ClockStep { by_ms: -3_600_000 }, ClockStep { by_ms: 3_600_000 }]);
    }

    #[test]
    fn steps_that_nobody_takes_are_added_up() {
        let (clock, manual) = Clock::manual(START);
        for _ in 0..STEPS_MAX + 4 {
            manual.step_ms(1_000);
            assert!(trusted(&clock));
        }
        let steps = clock.take_steps();
        assert_eq!((steps.len(), steps.last().map(|s| s.by_ms)), (STEPS_MAX, Some(5_000)));
    }

    #[test]
    fn the_system_clock_goes_on() {
        let clock = Clock::system();
        let (first, second) = (clock.now(), clock.clone().now());
        assert!(second.mono >= first.mono);
        assert_eq!(first.clock, ClockTrust::Trusted, "this machine's clock is earlier than the release");
    }
}
