//! What a portal says beside cards and relays: contacts, buttons, passages, meters.

use std::time::Duration;

use tokio::time::Instant;

use crate::access::input::PortalReport;
use crate::profile::{Block, InputKind, Point};

use super::portal::{Portal, Said};

/// Smallest change of power that is reported, in watts.
const POWER_STEP_W: f64 = 1.0;
/// Smallest change of energy that is reported, in kilowatt-hours.
const ENERGY_STEP_KWH: f64 = 0.01;
/// A reading is said again after this time also when nothing has moved, in milliseconds.
const METER_REPEAT_MS: u64 = 10_000;

impl Portal {
    pub(super) fn read_inputs(&mut self, device: usize, block: &Block) {
        let mut report = PortalReport::default();
        for contact in self.inputs.iter_mut().filter(|contact| contact.device == device) {
            let point = &contact.input.point;
            let flag = point.flag(block, contact.channel).map(|flag| flag == contact.input.when);
            let Some(number) = point.number(block, contact.channel).or(flag.map(|f| if f { 1.0 } else { 0.0 })) else {
                continue;
            };
            let before = contact.last.replace(number);
            if before == Some(number) {
                continue;
            }
            let yes = flag.unwrap_or(false);
            let counts = point.number(block, contact.channel).is_some();
            // A rise counts only when the state before it is known: what a reconnect shows for the first time is old.
            let rose = before.is_some() && (counts || yes);
            match contact.input.kind {
                InputKind::ContactOpen => report.contact_open = Some(yes),
                InputKind::Tamper => report.tamper = Some(yes),
                InputKind::Fire => report.fire = Some(yes),
                InputKind::ExitButton => report.exit_button |= rose,
                InputKind::PassedIn | InputKind::PassedOut if rose => report.passed = contact.input.kind.way(),
                InputKind::PassedIn | InputKind::PassedOut => {}
            }
        }
        if report != PortalReport::default() {
            self.report(report);
        }
    }

    /// A reading is said when it has moved, when the relay has, and again every [`METER_REPEAT_MS`]: who is told believes it for a
    /// while only.
    pub(super) fn read_meter(&mut self, device: usize, block: &Block, at: Instant) {
        let Some(part) = self.meter.as_mut().filter(|part| part.device == device) else { return };
        let read = |point: &Option<(Point, f64)>| {
            point.as_ref().and_then(|(point, factor)| Some(point.number(block, part.channel)? * factor))
        };
        let (power_w, energy_kwh) = (read(&part.meter.power), read(&part.meter.energy));
        if power_w.is_none() && energy_kwh.is_none() {
            return;
        }
        let moved = |before: Option<f64>, now: Option<f64>, step: f64| match (before, now) {
            (Some(before), Some(now)) => (now - before).abs() >= step,
            (before, now) => before.is_some() != now.is_some(),
        };
        let news = part.said.as_ref().is_none_or(|said| {
            moved(said.power_w, power_w, POWER_STEP_W)
                || moved(said.energy_kwh, energy_kwh, ENERGY_STEP_KWH)
                || at.saturating_duration_since(said.at) >= Duration::from_millis(METER_REPEAT_MS)
        });
        if news {
            part.said = Some(Said { power_w, energy_kwh, at });
            let shared_meter = part.shared;
            self.report(PortalReport { power_w, energy_kwh, shared_meter, ..PortalReport::default() });
        }
    }
}
