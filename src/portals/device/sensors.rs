//! What a portal reports beside cards and its output: contacts, buttons, passages, meters.

use std::time::Duration;

use tokio::time::Instant;

use crate::access::input::PortalReport;
use crate::profile::InputKind;

/// Smallest change of power that is reported, in watts.
const POWER_STEP_W: f64 = 1.0;
/// Smallest change of energy that is reported, in kilowatt-hours.
const ENERGY_STEP_KWH: f64 = 0.01;
/// A reading is reported again after this time also when nothing has moved, in milliseconds.
const METER_REPEAT_MS: u64 = 10_000;

/// A contact and how it was read last.
pub(super) struct Contact {
    pub(super) source: usize,
    kind: InputKind,
    last: Option<f64>,
}

impl Contact {
    pub(super) fn new(source: usize, kind: InputKind) -> Self {
        Self { source, kind, last: None }
    }

    /// Whether it shows a door open or closed.
    pub(super) fn is_of_door(&self) -> bool {
        self.kind == InputKind::ContactOpen
    }

    /// Its device fell silent: what it shows next is no change.
    pub(super) fn lost(&mut self) {
        self.last = None;
    }

    /// Adds what it shows to `report`, where that is news.
    pub(super) fn read(&mut self, number: f64, counts: bool, active: bool, report: &mut PortalReport) {
        let before = self.last.replace(number);
        if before == Some(number) {
            return;
        }
        // A rise counts only when the state before it is known: what is read first is old.
        let rose = before.is_some() && (counts || active);
        match self.kind {
            InputKind::ContactOpen => report.contact_open = Some(active),
            InputKind::Tamper => report.tamper = Some(active),
            InputKind::Fire => report.fire = Some(active),
            InputKind::Overload => report.overload = Some(active),
            InputKind::RestrictedLoad => report.restricted_load = Some(active),
            InputKind::ExitButton => report.exit_button |= rose,
            InputKind::PassedIn | InputKind::PassedOut if rose => report.passed = self.kind.way(),
            InputKind::PassedIn | InputKind::PassedOut => {}
        }
    }
}

/// A portal's meter and what was reported last.
pub(super) struct Meter {
    pub(super) source: usize,
    shared: bool,
    reported: Option<(Option<f64>, Option<f64>, Instant)>,
}

impl Meter {
    pub(super) fn new(source: usize, shared: bool) -> Self {
        Self { source, shared, reported: None }
    }

    /// The next reading is news, also if it is the same.
    pub(super) fn report_again(&mut self) {
        self.reported = None;
    }

    /// The report of a reading: when it has moved, when the output has, and again every [`METER_REPEAT_MS`], because a reading ages.
    /// NaN is a reading too: the device has no value.
    pub(super) fn read(&mut self, power_w: Option<f64>, energy_kwh: Option<f64>, at: Instant) -> Option<PortalReport> {
        if power_w.is_none() && energy_kwh.is_none() {
            return None;
        }
        let moved = |before: Option<f64>, now: Option<f64>, step: f64| match (before, now) {
            (Some(before), Some(now)) if before.is_nan() || now.is_nan() => before.is_nan() != now.is_nan(),
            (Some(before), Some(now)) => (now - before).abs() >= step,
            (before, now) => before.is_some() != now.is_some(),
        };
        let news = self.reported.is_none_or(|(power_before, energy_before, reported_at)| {
            moved(power_before, power_w, POWER_STEP_W)
                || moved(energy_before, energy_kwh, ENERGY_STEP_KWH)
                || at.saturating_duration_since(reported_at) >= Duration::from_millis(METER_REPEAT_MS)
        });
        if !news {
            return None;
        }
        self.reported = Some((power_w, energy_kwh, at));
        Some(PortalReport { power_w, energy_kwh, shared_meter: self.shared, ..PortalReport::default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_meter_without_a_value_is_reported_as_unknown_once_and_again_after_a_while() {
        let (mut meter, begun) = (Meter::new(0, false), Instant::now());
        let mut reported = |at_ms: u64, power_w: f64| {
            meter.read(Some(power_w), None, begun + Duration::from_millis(at_ms)).map(|report| report.power_w.unwrap())
        };
        assert_eq!(reported(0, 41.0), Some(41.0));
        assert!(reported(100, f64::NAN).is_some_and(f64::is_nan));
        assert_eq!(reported(200, f64::NAN), None, "nothing has moved");
        assert!(reported(10_100, f64::NAN).is_some_and(f64::is_nan));
        assert_eq!(reported(10_200, 41.0), Some(41.0));
    }
}
