//! Which units answer, and how much of the line's time the silent ones may cost.

use std::collections::HashMap;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::queue::Priority;

/// Time-outs in a row after which a unit is offline.
pub const OFFLINE_AFTER: u32 = 3;
/// First wait before an offline unit is tried again, in milliseconds.
pub const PROBE_MS_MIN: u64 = 1000;
/// Longest wait before an offline unit is tried again, in milliseconds.
pub const PROBE_MS_MAX: u64 = 30_000;
/// Share of the line's time that offline units may cost, in percent.
pub const SILENT_SHARE_PERCENT: u32 = 10;
/// Time saved up for offline units at most, in milliseconds.
const SAVED_MS_MAX: i64 = 100;
/// How long an offline unit is waited for when it is tried, in milliseconds beside the time of the bytes; longer if it was ever seen
/// to need longer.
pub const PROBE_REPLY_MS: u64 = 50;
/// After a wait of so many milliseconds an offline unit is waited for as long as its profile says: one that takes its time is to be
/// back within 30 s too. It costs the others little, because nothing is kept quiet after it: see `Task::poisoned`.
pub const PROBE_WHOLE_MS: u64 = 8_000;

/// Whether a unit answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UnitState {
    /// Not asked yet.
    Unknown,
    /// Answers.
    Online,
    /// Does not answer.
    Offline {
        /// Why, for people.
        cause: String,
    },
}

struct Unit {
    state: watch::Sender<UnitState>,
    failures: u32,
    wait: Duration,
    /// Offline: when it is tried again. Before that: when it is polled again.
    next_probe: Instant,
    cut_tried: bool,
    /// Offline only because the line is or was: it is asked as one that was never offline, and costs the offline units nothing.
    fell: bool,
    /// Its slowest answer so far.
    slowest: Duration,
}

impl Unit {
    /// Why it does not answer, if it is offline by itself.
    fn dead(&self) -> Option<String> {
        match &*self.state.borrow() {
            UnitState::Offline { cause } if !self.fell => Some(cause.clone()),
            UnitState::Offline { .. } | UnitState::Online | UnitState::Unknown => None,
        }
    }
}

/// The health of all units of one line.
pub(super) struct Health {
    units: HashMap<u8, Unit>,
    /// Time that offline units may still cost, in milliseconds; below 0 they have had more than their share.
    saved_ms: i64,
    counted_to: Instant,
}

impl Health {
    pub(super) fn new(units: impl IntoIterator<Item = u8>, now: Instant) -> Self {
        let unit = |id| {
            let wait = Duration::from_millis(PROBE_MS_MIN);
            let state = watch::Sender::new(UnitState::Unknown);
            (
                id,
                Unit {
                    state,
                    failures: 0,
                    wait,
                    next_probe: now,
                    cut_tried: false,
                    fell: false,
                    slowest: Duration::ZERO,
                },
            )
        };
        Self { units: units.into_iter().map(unit).collect(), saved_ms: SAVED_MS_MAX, counted_to: now }
    }

    pub(super) fn watch(&self) -> HashMap<u8, watch::Receiver<UnitState>> {
        self.units.iter().map(|(id, unit)| (*id, unit.state.subscribe())).collect()
    }

    /// Where a request for `unit` waits for the line: what is polled of one that is offline by itself comes last.
    pub(super) fn lane(&self, unit: u8, priority: Priority) -> Priority {
        let dead = || self.units.get(&unit).is_some_and(|unit| unit.dead().is_some());
        if priority >= Priority::Card && dead() { Priority::Probe } else { priority }
    }

    /// `unit` is not polled before `until`, whatever else says when it is asked again. One that is offline rests for longer after each
    /// poll by itself, and what must go off does not put its polls off.
    pub(super) fn rest(&mut self, unit: u8, until: Instant) {
        if let Some(unit) = self.units.get_mut(&unit).filter(|unit| unit.dead().is_none()) {
            unit.next_probe = unit.next_probe.max(until);
        }
    }

    /// Why `unit` may not be asked now; `None`: it may.
    pub(super) fn barred(&mut self, unit: u8, priority: Priority, now: Instant) -> Option<String> {
        let earned = now.saturating_duration_since(self.counted_to) * SILENT_SHARE_PERCENT / 100;
        // Whole milliseconds are taken; the rest goes on counting.
        let whole = i64::try_from(earned.as_millis()).unwrap_or(SAVED_MS_MAX);
        if whole > 0 {
            self.saved_ms = self.saved_ms.saturating_add(whole).min(SAVED_MS_MAX);
            self.counted_to = now;
        }
        let unit = self.units.get_mut(&unit)?;
        let Some(cause) = unit.dead() else {
            // One that did not answer leaves the line to the others for a moment, unless something must be switched.
            let rests = unit.failures > 0 && priority >= Priority::Card && now < unit.next_probe;
            return rests.then(|| "it did not answer just now".to_owned());
        };
        // What must go off is tried at once, and then as often as the silent units' share of the line allows.
        let cut = priority == Priority::Cut;
        let may = (cut && !unit.cut_tried) || (self.saved_ms > 0 && (cut || now >= unit.next_probe));
        (!may).then_some(cause)
    }

    /// A request for `unit` goes out now. One that had to wait for the line was not tried by that.
    pub(super) fn asked(&mut self, unit: u8, priority: Priority) {
        if let Some(unit) = self.units.get_mut(&unit).filter(|_| priority == Priority::Cut) {
            unit.cut_tried = unit.dead().is_some();
        }
    }

    /// Whether `unit` is offline by itself.
    pub(super) fn is_dead(&self, unit: u8) -> bool {
        self.units.get(&unit).is_some_and(|unit| unit.dead().is_some())
    }

    /// How long `unit` is to be waited for now, if it is offline and its whole time, `full`, would cost the others too much.
    pub(super) fn short(&self, unit: u8, full: Duration, now: Instant) -> Option<Duration> {
        let unit = self.units.get(&unit)?;
        let offline = unit.dead().is_some();
        let whole = now >= unit.next_probe && unit.wait >= Duration::from_millis(PROBE_WHOLE_MS);
        let short = Duration::from_millis(PROBE_REPLY_MS).max(unit.slowest * 2);
        (offline && !whole && short < full).then_some(short)
    }

    /// `unit` answered within `took`. Says whether it was offline.
    pub(super) fn answered(&mut self, unit: u8, took: Duration) -> bool {
        let Some(unit) = self.units.get_mut(&unit) else { return false };
        unit.slowest = unit.slowest.max(took);
        unit.failures = 0;
        unit.cut_tried = false;
        unit.fell = false;
        unit.wait = Duration::from_millis(PROBE_MS_MIN);
        let before = unit.state.send_replace(UnitState::Online);
        matches!(before, UnitState::Offline { .. })
    }

    /// `unit` did not answer, which cost the line `took`. Says whether it went offline by this.
    pub(super) fn silent(&mut self, unit: u8, cause: &str, took: Duration, now: Instant) -> bool {
        let Some(unit) = self.units.get_mut(&unit) else { return false };
        unit.failures = unit.failures.saturating_add(1);
        if unit.failures < OFFLINE_AFTER {
            unit.next_probe = now + took;
            return false;
        }
        let was_offline = unit.dead().is_some();
        unit.fell = false;
        if was_offline {
            self.saved_ms = self.saved_ms.saturating_sub(i64::try_from(took.as_millis()).unwrap_or(i64::MAX));
        }
        // What must go off is tried in between, and does not put the others off.
        if !was_offline || now >= unit.next_probe {
            if was_offline {
                unit.wait = (unit.wait * 2).min(Duration::from_millis(PROBE_MS_MAX));
            }
            unit.next_probe = now + unit.wait;
        }
        unit.state.send_if_modified(|state| {
            *state = UnitState::Offline { cause: cause.to_owned() };
            !was_offline
        });
        !was_offline
    }

    /// The line itself is down: nobody can be asked.
    pub(super) fn line_down(&mut self, cause: &str) {
        for unit in self.units.values_mut() {
            unit.fell |= unit.dead().is_none();
            unit.state.send_if_modified(|state| {
                let change = !matches!(state, UnitState::Offline { .. });
                *state = UnitState::Offline { cause: cause.to_owned() };
                change
            });
        }
    }

    /// The line is up again after it was down: whoever answered before it fell may be asked at once. Dead units keep their waits and
    /// what they have had of the line's time; only what must go off is tried at once with them too.
    pub(super) fn line_up(&mut self) {
        for unit in self.units.values_mut() {
            unit.cut_tried = false;
            if unit.fell {
                unit.failures = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert!(health.answered(1, Duration::ZERO));
        assert_eq!(health.barred(1, Priority::Card, last), None);
    }

    #[tokio::test]
    async fn a_repaired_unit_that_takes_its_time_is_heard_within_thirty_seconds() {
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
        health.answered(1, Duration::from_millis(60));
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
        health.answered(2, Duration::ZERO);
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
}
