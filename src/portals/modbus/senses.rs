//! What a portal says beside cards and relays: contacts, buttons, passages, meters; and how reports become one.

use crate::access::input::PortalReport;
use crate::access::portal::Direction;
use crate::wire::profile::{Block, InputKind, Point};

use super::portal::Portal;

/// Smallest change of power that is reported, in watts.
const POWER_STEP_W: f64 = 1.0;
/// Smallest change of energy that is reported, in kilowatt-hours.
const ENERGY_STEP_KWH: f64 = 0.01;

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
                InputKind::PassedIn if rose => report.passed = Some(Direction::In),
                InputKind::PassedOut if rose => report.passed = Some(Direction::Out),
                InputKind::PassedIn | InputKind::PassedOut => {}
            }
        }
        if report != PortalReport::default() {
            self.report(report);
        }
    }

    pub(super) fn read_meter(&mut self, device: usize, block: &Block) {
        let Some((of, meter, channel)) = &self.meter else { return };
        if *of != device {
            return;
        }
        let read = |point: &Option<(Point, f64)>| {
            point.as_ref().and_then(|(point, factor)| Some(point.number(block, *channel)? * factor))
        };
        let moved = |before: Option<f64>, now: Option<f64>, step: f64| {
            now.filter(|now| before.is_none_or(|before| (now - before).abs() >= step))
        };
        let power_w = moved(self.memory.power_w, read(&meter.power), POWER_STEP_W);
        let energy_kwh = moved(self.memory.energy_kwh, read(&meter.energy), ENERGY_STEP_KWH);
        if power_w.is_some() || energy_kwh.is_some() {
            self.memory.power_w = power_w.or(self.memory.power_w);
            self.memory.energy_kwh = energy_kwh.or(self.memory.energy_kwh);
            self.report(PortalReport { power_w, energy_kwh, ..PortalReport::default() });
        }
    }
}

/// Two reports in one; what `later` says wins.
pub(super) fn merged(earlier: PortalReport, later: PortalReport) -> PortalReport {
    PortalReport {
        online: later.online.or(earlier.online),
        cause: if later.online.is_some() { later.cause } else { earlier.cause },
        card_present: later.card_present.or(earlier.card_present),
        uid: if later.card_present.is_some() { later.uid } else { earlier.uid },
        contact_open: later.contact_open.or(earlier.contact_open),
        relay: later.relay.or(earlier.relay),
        power_w: later.power_w.or(earlier.power_w),
        energy_kwh: later.energy_kwh.or(earlier.energy_kwh),
        passed: later.passed.or(earlier.passed),
        tamper: later.tamper.or(earlier.tamper),
        fire: later.fire.or(earlier.fire),
        exit_button: later.exit_button || earlier.exit_button,
    }
}
