//! Meters: what was last measured at each portal. A value that is not known is a value of its own, not the last one for ever.
//!
//! A reading is shown as long as it counts: not when its portal is offline, nor when it was not repeated for long.

use std::collections::BTreeMap;

use super::super::effect::Effect;
use super::super::id::{Mono, Now, PortalId};
use super::super::input::PortalReport;
use super::super::portal::PortalKind;
use super::{Due, Engine};

/// How long a reading counts that is not repeated, in milliseconds. A Modbus portal repeats its own every 10 s; one on MQTT may
/// report only when something changes.
pub const METER_STALE_MS: u64 = 900_000;

/// Most power that the meter of one portal can measure, in watts: one phase of 100 A at 240 V, the largest that a meter takes without
/// transformers. The outlets of a room have 16 A, those of a kitchen 32 A.
pub const METER_POWER_W_MAX: f64 = 24_000.0;
/// The same of a meter that measures several boxes: it may have three phases.
pub const SHARED_METER_POWER_W_MAX: f64 = 3.0 * METER_POWER_W_MAX;
/// Most energy that a meter counts, in kilowatt-hours: seven digits. Those of one outlet have five or six, and it would take 47 years of
/// [`METER_POWER_W_MAX`].
pub const METER_ENERGY_KWH_MAX: f64 = 9_999_999.0;

/// What the meter of one portal measures, each value with the time of its report.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Readings {
    power_w: Option<(f64, Mono)>,
    energy_kwh: Option<(f64, Mono)>,
    /// The last report counted less energy than `energy_kwh`: a decrease counts when it repeats.
    decreased: bool,
}

/// All meters that reported anything.
pub(super) type Meters = BTreeMap<PortalId, Readings>;

impl Readings {
    /// The values that count: watts, kilowatt-hours.
    pub(super) fn values(&self) -> (Option<f64>, Option<f64>) {
        (self.power_w.map(|(value, _)| value), self.energy_kwh.map(|(value, _)| value))
    }

    fn energy_reported(&mut self, kwh: f64, now: Mono) {
        let decreases = self.energy_kwh.is_some_and(|(before, _)| kwh < before);
        if !decreases || self.decreased {
            self.energy_kwh = Some((kwh, now));
        }
        self.decreased = decreases && !self.decreased;
    }

    fn stale_at(&self) -> Option<Mono> {
        [self.power_w, self.energy_kwh].into_iter().flatten().map(|(_, at)| at.plus_ms(METER_STALE_MS)).min()
    }
}

impl Engine {
    /// A portal reports what its meter measures; a value that is no number, or that no meter here can have, is not known.
    pub(super) fn meter_reported(&mut self, portal: &PortalId, kind: PortalKind, report: &PortalReport, now: Now) {
        // What a portal reports while it goes is no reading.
        if report.online == Some(false) || (report.power_w.is_none() && report.energy_kwh.is_none()) {
            return;
        }
        let before = self.meters.get(portal).copied().unwrap_or_default();
        let mut readings = before;
        let power_max = if report.shared_meter { SHARED_METER_POWER_W_MAX } else { METER_POWER_W_MAX };
        let (mut wrong, mut kwh) = (Vec::new(), report.energy_kwh);
        let mut power_w = report.power_w.map(|watts| watts.is_finite().then_some(watts));
        if let Some(Some(watts)) = power_w.filter(|watts| watts.is_some_and(|watts| watts.abs() > power_max)) {
            wrong.push(format!("`power_w`: {watts} W is more than {power_max} W, the most that a meter here measures; look at its profile"));
            power_w = Some(None);
        }
        if let Some(count) = kwh.filter(|kwh| kwh.is_finite() && !(0.0..=METER_ENERGY_KWH_MAX).contains(kwh)) {
            wrong.push(format!(
                "`energy_kwh`: {count} kWh is not between 0 and {METER_ENERGY_KWH_MAX} kWh, as a meter here counts; look at its profile"
            ));
            kwh = None;
        }
        self.malformed_reported(portal, &wrong, now);
        if let Some(power_w) = power_w {
            readings.power_w = power_w.map(|watts| (watts, now.mono));
        }
        match kwh {
            Some(kwh) if kwh.is_finite() => readings.energy_reported(kwh, now.mono),
            // A count that is not known now is still what it was, and the next one is compared with it.
            Some(_) | None => {}
        }
        self.readings_are(portal, readings);
        if let Some(power_w) = power_w.filter(|_| kind == PortalKind::PowerBox && !report.shared_meter) {
            self.at_box(portal, now, |power, at, _| power.load_measured(power_w, at));
            self.load_reported(portal, power_w, now);
        }
    }

    fn readings_are(&mut self, portal: &PortalId, readings: Readings) {
        let (power_w, energy_kwh) = readings.values();
        let known = power_w.is_some() || energy_kwh.is_some();
        let before = if known { self.meters.insert(portal.clone(), readings) } else { self.meters.remove(portal) };
        self.deadlines.set(Due::Meter(portal.clone()), readings.stale_at());
        if known || before.is_some() {
            self.out.push(Effect::Metered { portal: portal.clone(), power_w, energy_kwh });
        }
    }

    /// The portal is gone: what its meter measures is not known any more.
    pub(super) fn meter_lost(&mut self, portal: &PortalId, now: Now) {
        self.readings_are(portal, Readings::default());
        self.load_lost(portal, now);
    }

    /// Readings that nobody repeated do not count any more.
    pub(super) fn meter_due(&mut self, portal: &PortalId, now: Now) {
        let Some(mut readings) = self.meters.get(portal).copied() else { return };
        let fresh = |(_, at): &(f64, Mono)| now.mono.since_ms(*at) < METER_STALE_MS;
        readings.power_w = readings.power_w.filter(fresh);
        readings.energy_kwh = readings.energy_kwh.filter(fresh);
        self.readings_are(portal, readings);
    }
}
