//! Which units answer, how much of the line's time the silent ones may cost, and which of their exceptions were logged.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::wire::modbus::{Exception, Request};

use super::queue::Priority;
use crate::portals::device::SourceState;

/// Time-outs in a row after which a unit is offline.
pub const OFFLINE_AFTER: u32 = 3;
/// Exceptions in a row, without another answer between them, after which a unit counts as offline: it answers, but with nothing usable.
pub const EXCEPTIONS_TO_OFFLINE: u32 = 10;
/// Exceptions of one unit that are remembered as logged; a further one is logged each time.
const LOGGED_MAX: usize = 256;
/// First wait before an offline unit is tried again, in milliseconds.
pub const PROBE_MS_MIN: u64 = 1000;
/// Longest wait before an offline unit is tried again, in milliseconds.
pub const PROBE_MS_MAX: u64 = 30_000;
/// Share of the line's time that offline units may take, in percent.
pub const SILENT_SHARE_PERCENT: u32 = 10;
/// Time saved up for offline units at most, in milliseconds.
const SAVED_MS_MAX: i64 = 100;
/// How long an offline unit is waited for when it is tried, in milliseconds beside the time of the bytes; longer if it was ever seen
/// to need longer.
pub const PROBE_REPLY_MS: u64 = 50;
/// Wait in milliseconds from which on an offline unit is given the whole time that its profile allows when it is tried: a slow unit is to
/// be back within 30 s too. That costs the others little, because the line is not kept quiet after it.
pub const PROBE_WHOLE_MS: u64 = 8_000;

struct Unit {
    state: watch::Sender<SourceState>,
    failures: u32,
    wait: Duration,
    /// Offline: when it is tried again. Before that: when it is polled again.
    next_probe: Instant,
    cut_tried: bool,
    /// Offline only because the line is or was: it is asked as one that was never offline, and costs the offline units nothing.
    fell: bool,
    /// Its slowest answer so far.
    slowest: Duration,
    /// Exceptions in a row.
    exceptions: u32,
    /// Function, address and code of the exceptions logged since it last answered the same request well. A device that answers with
    /// an exception is asked again with each poll, and would fill the log.
    logged: HashSet<(u8, u16, Exception)>,
}

impl Unit {
    /// Why it does not answer, if it is offline by itself.
    fn offline_cause(&self) -> Option<String> {
        match &*self.state.borrow() {
            SourceState::Offline { cause } if !self.fell => Some(cause.clone()),
            SourceState::Offline { .. } | SourceState::Online | SourceState::Unknown => None,
        }
    }

    /// It answered. Reports whether it was offline.
    fn online(&mut self, took: Duration) -> bool {
        self.slowest = self.slowest.max(took);
        self.failures = 0;
        self.cut_tried = false;
        self.fell = false;
        self.wait = Duration::from_millis(PROBE_MS_MIN);
        let mut was_offline = false;
        self.state.send_if_modified(|state| {
            was_offline = matches!(state, SourceState::Offline { .. });
            let change = *state != SourceState::Online;
            *state = SourceState::Online;
            change
        });
        was_offline
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
            let state = watch::Sender::new(SourceState::Unknown);
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
                    exceptions: 0,
                    logged: HashSet::new(),
                },
            )
        };
        Self { units: units.into_iter().map(unit).collect(), saved_ms: SAVED_MS_MAX, counted_to: now }
    }

    pub(super) fn watch(&self) -> HashMap<u8, watch::Receiver<SourceState>> {
        self.units.iter().map(|(id, unit)| (*id, unit.state.subscribe())).collect()
    }

    /// Where a request for `unit` waits for the line: what is polled of one that is offline by itself, or did not answer twice in a row, comes
    /// after the polls of those that answer. Once is no sign: on a bad line each unit misses an answer now and then, and the few that did not
    /// would have the line.
    pub(super) fn lane(&self, unit: u8, priority: Priority) -> Priority {
        let fails = |unit: &Unit| unit.failures > 1 && !unit.fell || unit.offline_cause().is_some();
        if priority >= Priority::Card && self.units.get(&unit).is_some_and(fails) { Priority::Probe } else { priority }
    }

    /// `unit` is not polled before `until`, even if another wait ends earlier. A unit that is offline waits longer after each poll anyway,
    /// and switching off does not delay its polls.
    pub(super) fn rest(&mut self, unit: u8, until: Instant) {
        if let Some(unit) = self.units.get_mut(&unit).filter(|unit| unit.offline_cause().is_none()) {
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
        let Some(cause) = unit.offline_cause() else {
            // A unit that did not answer is not polled for a moment, so that the others have the line. Its outputs are still switched.
            let rests = unit.failures > 0 && priority >= Priority::Card && now < unit.next_probe;
            return rests.then(|| "it did not answer just now".to_owned());
        };
        // Switching off is tried at once, and then as often as the share of the offline units allows.
        let cut = priority == Priority::Cut;
        let may = (cut && !unit.cut_tried) || (self.saved_ms > 0 && (cut || now >= unit.next_probe));
        (!may).then_some(cause)
    }

    /// A request for `unit` goes out now. One that had to wait for the line was not tried by that.
    pub(super) fn asked(&mut self, unit: u8, priority: Priority) {
        if let Some(unit) = self.units.get_mut(&unit).filter(|_| priority == Priority::Cut) {
            unit.cut_tried = unit.offline_cause().is_some();
        }
    }

    /// Whether `unit` is offline by itself.
    pub(super) fn is_offline(&self, unit: u8) -> bool {
        self.units.get(&unit).is_some_and(|unit| unit.offline_cause().is_some())
    }

    /// How long `unit` is to be waited for now, if it is offline and its whole time, `full`, would cost the others too much.
    pub(super) fn short(&self, unit: u8, full: Duration, now: Instant) -> Option<Duration> {
        let unit = self.units.get(&unit)?;
        let offline = unit.offline_cause().is_some();
        let whole = now >= unit.next_probe && unit.wait >= Duration::from_millis(PROBE_WHOLE_MS);
        let short = Duration::from_millis(PROBE_REPLY_MS).max(unit.slowest * 2);
        (offline && !whole && short < full).then_some(short)
    }

    /// `unit` answered `request` within `took`. Reports whether it was offline.
    pub(super) fn answered(&mut self, unit: u8, request: &Request, took: Duration) -> bool {
        let Some(unit) = self.units.get_mut(&unit) else { return false };
        unit.exceptions = 0;
        let place = (request.function(), request.address());
        unit.logged.retain(|(function, address, _)| (*function, *address) != place);
        unit.online(took)
    }

    /// Whether an exception is worth a warning: it was not logged since `unit` last answered this request well.
    pub(super) fn is_news(&mut self, unit: u8, request: &Request, exception: Exception) -> bool {
        let Some(unit) = self.units.get_mut(&unit) else { return true };
        let logged = (request.function(), request.address(), exception);
        !unit.logged.contains(&logged) && (unit.logged.len() >= LOGGED_MAX || unit.logged.insert(logged))
    }

    /// `unit` answered with an exception. Reports how its state changed: whether it is online now.
    pub(super) fn refused(&mut self, id: u8, cause: &str, took: Duration, now: Instant) -> Option<bool> {
        let unit = self.units.get_mut(&id)?;
        unit.exceptions = unit.exceptions.saturating_add(1);
        if unit.exceptions < EXCEPTIONS_TO_OFFLINE {
            return unit.online(took).then_some(true);
        }
        unit.failures = unit.failures.max(OFFLINE_AFTER);
        self.silent(id, cause, took, now).then_some(false)
    }

    /// `unit` answered that it is busy. That is an answer, and does not count among the exceptions in a row.
    pub(super) fn busy(&mut self, unit: u8, took: Duration) -> bool {
        self.units.get_mut(&unit).is_some_and(|unit| unit.online(took))
    }

    /// `unit` did not answer, which cost the line `took`. Reports whether it went offline by this.
    pub(super) fn silent(&mut self, unit: u8, cause: &str, took: Duration, now: Instant) -> bool {
        let Some(unit) = self.units.get_mut(&unit) else { return false };
        unit.failures = unit.failures.saturating_add(1);
        if unit.failures < OFFLINE_AFTER {
            unit.next_probe = now + took;
            return false;
        }
        let was_offline = unit.offline_cause().is_some();
        unit.fell = false;
        if was_offline {
            self.saved_ms = self.saved_ms.saturating_sub(i64::try_from(took.as_millis()).unwrap_or(i64::MAX));
        }
        // Switching off is tried in between, and does not delay the polls.
        if !was_offline || now >= unit.next_probe {
            if was_offline {
                unit.wait = (unit.wait * 2).min(Duration::from_millis(PROBE_MS_MAX));
            }
            unit.next_probe = now + unit.wait;
        }
        unit.state.send_if_modified(|state| {
            *state = SourceState::Offline { cause: cause.to_owned() };
            !was_offline
        });
        !was_offline
    }

    /// The line itself is down: nobody can be asked.
    pub(super) fn line_down(&mut self, cause: &str) {
        for unit in self.units.values_mut() {
            unit.fell |= unit.offline_cause().is_none();
            unit.state.send_if_modified(|state| {
                let change = !matches!(state, SourceState::Offline { .. });
                *state = SourceState::Offline { cause: cause.to_owned() };
                change
            });
        }
    }

    /// The line is up again after it was down: units that answered before are asked at once. Units that were offline before keep their waits
    /// and have used up their share of the line; only switching off is tried at once with them too.
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
#[path = "health_tests.rs"]
mod tests;
