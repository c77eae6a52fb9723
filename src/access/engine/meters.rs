//! Meters: what was last measured at each portal, and power drawn at a box that is off.
//!
//! A reading is shown as long as it is believed: not when its portal is offline, nor when it was not repeated for long.

use std::collections::BTreeMap;

use super::super::effect::{Effect, PortalOrder};
use super::super::event::AlarmKind;
use super::super::id::{Mono, Now, PortalId};
use super::super::input::PortalReport;
use super::super::portal::PortalKind;
use super::super::presence::UnauthorisedLoad;
use super::Engine;
use super::box_reports::RELAY_SETTLE_MS;

/// How long a reading is believed that is not repeated, in milliseconds. A Modbus portal repeats its own every 10 s; one on MQTT may
/// speak up only when something changes.
pub const METER_STALE_MS: u64 = 900_000;
/// How often old readings are looked for, in milliseconds.
pub const METER_SWEEP_MS: u64 = 60_000;
/// Power from which a box that is off counts as drawing, in watts: more than its own electronics take, and about what a class 1
/// meter of 5 A must begin to count at (0.4 % of that at 230 V are 4.6 W, IEC 62053-21).
pub const DRAW_W: f64 = 5.0;
/// Power below which an alarm of it is over, in watts: a load about [`DRAW_W`] is one alarm.
pub const DRAW_OVER_W: f64 = 2.5;
/// How long a box that is off must draw before it is an alarm, in milliseconds: longer than a contactor and a meter's average take.
pub const DRAW_MS: u64 = 10_000;

/// One measured value and when it was said.
type Measured = Option<(f64, Mono)>;

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Readings {
    power_w: Measured,
    energy_kwh: Measured,
}

/// What all meters said last.
#[derive(Debug, Default)]
pub(super) struct Meters {
    readings: BTreeMap<PortalId, Readings>,
    sweep_at: Option<Mono>,
}

impl Meters {
    /// When old readings next have to be looked for.
    pub(super) fn next(&self) -> Option<Mono> {
        self.sweep_at
    }

    /// What is believed at `now`: portal, watts, kilowatt-hours.
    pub(super) fn believed(&self, now: Mono) -> impl Iterator<Item = (&PortalId, Option<f64>, Option<f64>)> {
        let all = self.readings.iter().map(move |(id, r)| (id, fresh(r.power_w, now), fresh(r.energy_kwh, now)));
        all.filter(|(_, power_w, energy_kwh)| power_w.is_some() || energy_kwh.is_some())
    }
}

fn fresh(measured: Measured, now: Mono) -> Option<f64> {
    measured.filter(|(_, at)| now.since_ms(*at) < METER_STALE_MS).map(|(value, _)| value)
}

impl Engine {
    /// A portal says what its meter measures.
    pub(super) fn meter_reported(&mut self, portal: &PortalId, kind: PortalKind, report: &PortalReport, now: Now) {
        // No number is no reading, and what a portal says while it goes is none.
        let said = |value: Option<f64>| value.filter(|v| v.is_finite() && report.online != Some(false));
        let (power_w, energy_kwh) = (said(report.power_w), said(report.energy_kwh));
        if power_w.is_none() && energy_kwh.is_none() {
            return;
        }
        let readings = self.meters.readings.entry(portal.clone()).or_default();
        readings.power_w = power_w.map(|value| (value, now.mono)).or(readings.power_w);
        readings.energy_kwh = energy_kwh.map(|value| (value, now.mono)).or(readings.energy_kwh);
        let readings = *readings;
        self.meters.sweep_at.get_or_insert(now.mono.plus_ms(METER_SWEEP_MS));
        self.tell_meter(portal, readings, now);
        if let Some(power_w) = power_w.filter(|_| kind == PortalKind::PowerBox && !report.shared_meter) {
            self.judge_draw(portal, power_w, now);
        }
    }

    /// The portal is gone: what its meter said is not known any more.
    pub(super) fn meter_lost(&mut self, portal: &PortalId) {
        if self.meters.readings.remove(portal).is_some() {
            self.out.push(Effect::Metered { portal: portal.clone(), power_w: None, energy_kwh: None });
        }
        // A suspicion that nobody can confirm is dropped; what was told is not told again.
        if let Some(power) = self.boxes.get_mut(portal).filter(|b| b.draw.alarm_at().is_some()) {
            power.draw = UnauthorisedLoad::None;
        }
    }

    fn tell_meter(&mut self, portal: &PortalId, readings: Readings, now: Now) {
        let (power_w, energy_kwh) = (fresh(readings.power_w, now.mono), fresh(readings.energy_kwh, now.mono));
        self.out.push(Effect::Metered { portal: portal.clone(), power_w, energy_kwh });
    }

    /// Power at a box that is off is suspected at first: the reading may be from before the last order.
    fn judge_draw(&mut self, portal: &PortalId, power_w: f64, now: Now) {
        let power = self.boxes.entry(portal.clone()).or_default();
        let over_w = if power.draw == UnauthorisedLoad::Told { DRAW_OVER_W } else { DRAW_W };
        if power.on.is_some() || power_w.abs() < over_w {
            power.draw = UnauthorisedLoad::None;
            return;
        }
        if power.ordered_at.is_some_and(|at| now.mono.since_ms(at) < RELAY_SETTLE_MS) {
            return;
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "watts for a person; beyond the range they are cut"
        )]
        let watts = power_w.abs().round() as u32;
        power.draw = match power.draw {
            UnauthorisedLoad::None => UnauthorisedLoad::Suspected { alarm_at: now.mono.plus_ms(DRAW_MS), watts },
            UnauthorisedLoad::Suspected { alarm_at, .. } => UnauthorisedLoad::Suspected { alarm_at, watts },
            UnauthorisedLoad::Told => UnauthorisedLoad::Told,
        };
    }

    /// Raises what was suspected for long enough, and forgets readings that nobody repeated.
    pub(super) fn wake_meters(&mut self, now: Now) {
        let due = |b: &super::PowerBox| match b.draw {
            UnauthorisedLoad::Suspected { alarm_at, watts } if alarm_at <= now.mono => Some(watts),
            UnauthorisedLoad::Suspected { .. } | UnauthorisedLoad::None | UnauthorisedLoad::Told => None,
        };
        let due: Vec<_> =
            self.boxes.iter().filter_map(|(portal, b)| due(b).map(|watts| (portal.clone(), watts))).collect();
        for (portal, watts) in due {
            self.drawn_without_right(&portal, watts, now);
        }
        if self.meters.sweep_at.is_some_and(|at| at <= now.mono) {
            self.forget_old_readings(now);
        }
    }

    fn drawn_without_right(&mut self, portal: &PortalId, watts: u32, now: Now) {
        let Some(power) = self.boxes.get_mut(portal) else { return };
        if power.on.is_some() {
            power.draw = UnauthorisedLoad::None;
            return;
        }
        power.draw = UnauthorisedLoad::Told;
        power.ordered_at = Some(now.mono);
        let card = power.present.values().next().copied();
        // A relay that reads on without a right was raised already.
        let told = power.reported_without_card;
        self.order(PortalOrder::Cut { portal: portal.clone(), reason: self.reason_to_be_off(portal, now).as_str() });
        if !told {
            let detail = format!(
                "{watts} W are drawn although the box is off; it was told to switch off again. Bridged, or stuck?"
            );
            self.alarm(AlarmKind::PowerWithoutCard, Some(portal), card, detail, now);
        }
    }

    fn forget_old_readings(&mut self, now: Now) {
        let old = |m: Measured| m.is_some() && fresh(m, now.mono).is_none();
        let mut changed = Vec::new();
        for (portal, readings) in &mut self.meters.readings {
            if old(readings.power_w) || old(readings.energy_kwh) {
                readings.power_w = readings.power_w.filter(|_| !old(readings.power_w));
                readings.energy_kwh = readings.energy_kwh.filter(|_| !old(readings.energy_kwh));
                changed.push((portal.clone(), *readings));
            }
        }
        self.meters.readings.retain(|_, r| *r != Readings::default());
        for (portal, readings) in changed {
            self.tell_meter(&portal, readings, now);
        }
        self.meters.sweep_at = (!self.meters.readings.is_empty()).then(|| now.mono.plus_ms(METER_SWEEP_MS));
    }
}
