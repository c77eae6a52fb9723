//! The wall clock, and whether it can be trusted. The only file that reads the time of the operating system; everybody else is
//! given it.
//!
//! The clock is untrusted before the release of this program, until it shows the mark of trusted time on disk, and after a step
//! back of more than `STEP_BACK_MS_MAX` until it shows the latest trusted time again. A time more than `AHEAD_MS_MAX` after the
//! release and the mark is implausible and untrusted too, so that a clock that starts in 2047 leaves no mark. What a wrong date
//! has marked ends in two ways: the clock agrees with the `iat` of a verified message, or the operator reports that it is right.
//! Steps are found by comparing with the monotonic clock: both are slewed alike, so their
//! difference changes only when somebody sets the clock. What an untrusted clock means for a decision is the policy's.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::access::id::{ClockTrust, Mono, Now, StreamName, Timestamp};
use crate::access::input::{ClockChange, TrustedBy};
use crate::lock;

/// 2026-08-01T00:00:00Z, before the first release. Raised with a release; a date in the source and not the time of the build,
/// so that the same source gives the same program.
const RELEASED: Timestamp = Timestamp(1_785_542_400_000);
/// Steps back of more than this many milliseconds cost the clock its trust (wire contract, `policy.untrusted_clock`).
const STEP_BACK_MS_MAX: i64 = 10_000;
/// A time more than this many milliseconds (ten years) after the release and after the mark on disk is implausible.
const AHEAD_MS_MAX: i64 = 10 * 366 * 86_400_000;
/// A clock agrees with a center while it is at most this many milliseconds behind the newest `iat`: the two clocks may differ.
const BEHIND_IAT_MS_MAX: i64 = 30_000;
/// And at most this many milliseconds ahead of it: a head is made at least every 5 minutes, and one may be lost.
const AHEAD_OF_IAT_MS_MAX: i64 = 600_000;
/// Steps of at least this many milliseconds are reported; a smaller one changes no decision.
const STEP_REPORTED_MS: u64 = 1_000;
/// What systemd-timesyncd touches each time it has synchronised the clock (its manual page); other programs leave no such trace.
pub const SYNCHRONISED_FILE: &str = "/run/systemd/timesync/synchronized";
/// A clock is to be synchronised at least once in so many milliseconds (GB 50396-2007 5.1.3, IEC 60839-11-1 6.4: daily).
const SYNCHRONISED_MS_MAX: i64 = 86_400_000;
/// Most changes kept until they are taken; beyond it the oldest are dropped.
const CHANGES_MAX: usize = 16;

/// The clock of one process. Cheap to clone; clones share what they saw.
#[derive(Clone, Debug)]
pub struct Clock {
    source: Source,
    judge: Arc<Mutex<Judge>>,
}

/// Sets a manual [`Clock`], for tests and simulations. Clones set the same clock.
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<Mutex<Reading>>);

/// Sleeps until `at`; for ever without it.
pub(crate) async fn sleep_until_some(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Why the operator cannot have the clock trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the clock shows a time before the release of this program; set the clock first, e.g. with `timedatectl set-time`"
)]
pub struct BeforeRelease;

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
    /// The wall clock above the monotonic one: only setting the clock changes it.
    fn offset_ms(self) -> i64 {
        self.wall_ms.saturating_sub(i64::try_from(self.mono_ms).unwrap_or(i64::MAX))
    }
}

/// What follows from the readings so far.
#[derive(Debug)]
struct Judge {
    /// The clock is untrusted until it shows this.
    until: Option<Timestamp>,
    /// Later than this is implausible.
    ceiling: Timestamp,
    /// The latest trusted time shown.
    latest: Timestamp,
    /// The offset at the last reading, in milliseconds.
    offset_ms: i64,
    /// The offset from which steps back are counted, in milliseconds; `None` while the clock is untrusted.
    trusted_offset_ms: Option<i64>,
    /// The newest `iat` of each stream, and the offset that it gives; `None`: received before this run.
    centers: BTreeMap<StreamName, (Timestamp, Option<i64>)>,
    /// Changes not yet taken.
    changes: Vec<ClockChange>,
}

impl Clock {
    /// The operating system's clock.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this file is where the time comes from")]
    pub fn system() -> Self {
        Self::of(Source::System { began: Instant::now() })
    }

    /// A clock that stands still until it is set.
    #[must_use]
    pub fn manual(wall: Timestamp) -> (Self, ManualClock) {
        let manual = ManualClock(Arc::new(Mutex::new(Reading { wall_ms: wall.0, mono_ms: 0 })));
        (Self::of(Source::Manual(manual.clone())), manual)
    }

    fn of(source: Source) -> Self {
        let reading = source.read();
        let mut judge = Judge {
            until: None,
            ceiling: Timestamp(RELEASED.0.saturating_add(AHEAD_MS_MAX)),
            latest: RELEASED,
            offset_ms: reading.offset_ms(),
            trusted_offset_ms: None,
            centers: BTreeMap::new(),
            changes: Vec::new(),
        };
        judge.begin(reading);
        Self { source, judge: Arc::new(Mutex::new(judge)) }
    }

    /// The mark of trusted time on disk: until the clock shows that, it is untrusted. For the start, before the time is used.
    pub fn not_before(&self, mark: Timestamp) {
        let mut judge = lock(&self.judge);
        judge.until = judge.until.max(Some(mark));
        judge.ceiling = judge.ceiling.max(Timestamp(mark.0.saturating_add(AHEAD_MS_MAX)));
        let reading = self.source.read();
        judge.begin(reading);
    }

    /// The time now.
    #[must_use]
    pub fn now(&self) -> Now {
        let mut judge = lock(&self.judge);
        // Read under the lock, so that readings are judged in the order they were made.
        let reading = self.source.read();
        let clock = judge.judge(reading);
        Now { wall: Timestamp(reading.wall_ms), mono: Mono(reading.mono_ms), clock }
    }

    /// A verified message of `stream` was made at `iat`: a clock that agrees with it, now or later, is trusted again. Of each
    /// stream only the newest counts, so that a copy that a broker kept proves nothing. It never costs the clock its trust.
    pub fn message_made_at(&self, stream: &StreamName, iat: Timestamp) {
        if iat < RELEASED {
            return;
        }
        let mut judge = lock(&self.judge);
        let offset_ms = Reading { wall_ms: iat.0, ..self.source.read() }.offset_ms();
        let known = judge.centers.get(stream).copied();
        if known.is_none_or(|(newest, _)| newest < iat) {
            let offset_ms = known.and_then(|(_, offset_ms)| offset_ms).max(Some(offset_ms));
            judge.centers.insert(stream.clone(), (iat, offset_ms));
        }
    }

    /// The newest message of `stream` before this run was made at `iat`: one that is no newer, as a broker may keep, proves nothing.
    pub fn message_known(&self, stream: &StreamName, iat: Timestamp) {
        lock(&self.judge).centers.insert(stream.clone(), (iat, None));
    }

    /// When the system synchronised the clock last by this file, if that is more than a day ago. `None` also where the system does not
    /// report it. It costs the clock no trust: a building may be without a network for longer, and its clock drifts by seconds.
    pub(crate) fn synchronised_too_long_ago(&self, file: &Path) -> Option<Timestamp> {
        let modified = std::fs::metadata(file).and_then(|found| found.modified()).ok()?;
        let last = Timestamp(wall_ms(modified));
        (self.source.read().wall_ms.saturating_sub(last.0) > SYNCHRONISED_MS_MAX).then_some(last)
    }

    /// The clock is right, as the operator knows: it is trusted from here on, whatever it showed before. Fails with
    /// [`BeforeRelease`] when that cannot be.
    pub fn trust(&self) -> Result<(), BeforeRelease> {
        let mut judge = lock(&self.judge);
        let reading = self.source.read();
        if reading.wall_ms < RELEASED.0 {
            return Err(BeforeRelease);
        }
        judge.restore(reading, TrustedBy::Operator);
        Ok(())
    }

    /// The changes since this was last called, oldest first, for the audit.
    #[must_use]
    pub fn take_changes(&self) -> Vec<ClockChange> {
        std::mem::take(&mut lock(&self.judge).changes)
    }
}

impl Judge {
    /// The first reading, which no step can be counted from.
    fn begin(&mut self, reading: Reading) {
        self.offset_ms = reading.offset_ms();
        self.latest = self.until.unwrap_or(RELEASED);
        self.trusted_offset_ms = None;
        if self.is_plausible(Timestamp(reading.wall_ms)) {
            self.accept(reading);
        }
    }

    fn judge(&mut self, reading: Reading) -> ClockTrust {
        let (wall, offset_ms) = (Timestamp(reading.wall_ms), reading.offset_ms());
        let by_ms = offset_ms.saturating_sub(self.offset_ms);
        self.offset_ms = offset_ms;
        if by_ms.unsigned_abs() >= STEP_REPORTED_MS {
            self.changed(ClockChange::Step { by_ms });
        }
        // Small steps back add up, because they are counted from where the clock was last trusted or stepped forward to.
        if self.trusted_offset_ms.is_some_and(|from| from.saturating_sub(offset_ms) > STEP_BACK_MS_MAX) {
            self.until = Some(self.latest);
        }
        let was_trusted = self.trusted_offset_ms.is_some();
        if self.is_plausible(wall) {
            if !was_trusted {
                self.changed(ClockChange::Trusted(TrustedBy::CaughtUp));
            }
            self.accept(reading);
        } else if let Some(stream) = self.agreeing_center() {
            self.restore(reading, TrustedBy::Center(stream));
        } else if was_trusted {
            self.trusted_offset_ms = None;
            self.changed(ClockChange::Untrusted);
        }
        if self.trusted_offset_ms.is_some() { ClockTrust::Trusted } else { ClockTrust::Untrusted }
    }

    fn is_plausible(&self, wall: Timestamp) -> bool {
        (RELEASED..=self.ceiling).contains(&wall) && self.until.is_none_or(|until| wall >= until)
    }

    fn agreeing_center(&self) -> Option<StreamName> {
        let agrees = |center_ms: i64| {
            (-BEHIND_IAT_MS_MAX..=AHEAD_OF_IAT_MS_MAX).contains(&self.offset_ms.saturating_sub(center_ms))
        };
        self.centers.iter().find(|(_, (_, offset_ms))| offset_ms.is_some_and(agrees)).map(|(stream, _)| stream.clone())
    }

    /// A trusted reading.
    fn accept(&mut self, reading: Reading) {
        let offset_ms = reading.offset_ms();
        self.until = None;
        self.latest = self.latest.max(Timestamp(reading.wall_ms));
        self.trusted_offset_ms = Some(self.trusted_offset_ms.map_or(offset_ms, |from| from.max(offset_ms)));
    }

    /// What was known of the time is void: it begins with this reading.
    fn restore(&mut self, reading: Reading, by: TrustedBy) {
        let wall = Timestamp(reading.wall_ms);
        (self.until, self.latest) = (None, wall);
        self.ceiling = Timestamp(wall.0.saturating_add(AHEAD_MS_MAX));
        (self.offset_ms, self.trusted_offset_ms) = (reading.offset_ms(), Some(reading.offset_ms()));
        self.changed(ClockChange::Trusted(by));
    }

    fn changed(&mut self, change: ClockChange) {
        if self.changes.len() >= CHANGES_MAX {
            self.changes.remove(0);
        }
        self.changes.push(change);
    }
}

impl Source {
    #[expect(clippy::disallowed_methods, reason = "this file is where the time comes from")]
    fn read(&self) -> Reading {
        match self {
            Self::System { began } => {
                let mono_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
                Reading { wall_ms: wall_ms(SystemTime::now()), mono_ms }
            }
            Self::Manual(manual) => *lock(&manual.0),
        }
    }
}

fn wall_ms(at: SystemTime) -> i64 {
    let ms = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
    at.duration_since(UNIX_EPOCH).map_or_else(|before| -ms(before.duration()), ms)
}

impl ManualClock {
    /// Time passes: both clocks advance by `ms` milliseconds.
    pub fn advance_ms(&self, ms: u64) {
        let mut reading = lock(&self.0);
        reading.mono_ms = reading.mono_ms.saturating_add(ms);
        reading.wall_ms = reading.wall_ms.saturating_add(i64::try_from(ms).unwrap_or(i64::MAX));
    }

    /// Somebody sets the wall clock, by `ms` milliseconds; negative: back.
    pub fn step_ms(&self, ms: i64) {
        let mut reading = lock(&self.0);
        reading.wall_ms = reading.wall_ms.saturating_add(ms);
    }
}

#[cfg(test)]
mod tests;
