//! What the gateway orders of a portal, and what became of it. What opens is decided there; how a relay is driven is `drive`'s.

use std::time::Duration;

use tokio::time::Instant;
use tracing::field::{DisplayValue, display};

use crate::access::decision::{Decision, Grant};
use crate::access::event::AlarmKind;
use crate::access::input::Input;
use crate::access::portal::{PortalKind, Posture};
use crate::gateway::ports::PortalOrder;
use crate::profile::DEADLINE_MS_MAX;
use crate::wire::modbus::Request;

use super::bus::Released;
use super::drive::{Done, Told, Wanted};
use super::health::UnitState;
use super::portal::{Device, Portal};

/// How long a gate or door is opened when the grant does not say, in milliseconds.
const HOLD_MS_DEFAULT: u32 = 3000;

/// Where a portal's relay is, for logs: with the function and address by which it is switched off.
struct Place<'p> {
    bus: Option<DisplayValue<&'p str>>,
    unit: Option<u8>,
    channel: Option<u16>,
    function: Option<u8>,
    address: Option<u16>,
}

impl Portal {
    pub(super) fn obey(&mut self, order: PortalOrder) {
        match order {
            // A box that rests is switched on by the order at the end of its rest.
            PortalOrder::Answer { decision: Decision::Grant(_), delay_ms: Some(_), .. } => {}
            PortalOrder::Answer { decision: Decision::Grant(grant), .. } => self.carry_out(grant),
            PortalOrder::Answer { decision: Decision::Deny(denial), .. } => {
                let Place { bus, unit, channel, function, address } = self.output_place();
                tracing::debug!(
                    portal = %self.id, bus, unit, channel, function, address, reason = denial.reason.as_str(), "denied"
                );
            }
            PortalOrder::Release { grant } | PortalOrder::Energise { grant, .. } => self.carry_out(grant),
            PortalOrder::Cut { reason, .. } => {
                let Place { bus, unit, channel, function, address } = self.output_place();
                tracing::info!(
                    portal = %self.id, bus, unit, channel, function, address, reason, "switched off"
                );
                self.wait_for_off(None);
                self.want(Wanted::Off);
            }
            PortalOrder::Lock { .. } => self.want(Wanted::Off),
            PortalOrder::Mode { posture, .. } => self.mode(posture),
        }
    }

    /// A gate or door is held open by `fire` and `free_access`; any other mode closes what this or an earlier run held open.
    fn mode(&mut self, posture: Posture) {
        if self.kind == PortalKind::PowerBox {
            return;
        }
        let open = match posture {
            Posture::Fire | Posture::FreeAccess => true,
            Posture::Secure | Posture::Lockdown | Posture::OutOfService => false,
        };
        let wanted = self.wanted.borrow().wanted;
        match wanted {
            Wanted::Hold if open => {}
            _ if open => self.want(Wanted::Hold),
            Wanted::Hold => self.want(Wanted::Off),
            // A device that does not answer is told when it is back: the gateway says the mode again then.
            Wanted::AsItIs if self.output_answers() => self.want(Wanted::Off),
            Wanted::AsItIs => {}
            // A release under way ends by itself.
            Wanted::Pulse { .. } | Wanted::On { .. } | Wanted::Off => {}
        }
    }

    fn output_answers(&self) -> bool {
        let device = self.output.as_ref().and_then(|(of, ..)| self.devices.get(*of));
        device.is_some_and(|(_, state)| *state == UnitState::Online)
    }

    /// Tells the relay's task. What is being switched off already is not begun anew: its tries and its alarm go on.
    pub(super) fn want(&mut self, wanted: Wanted) {
        let off = wanted == Wanted::Off;
        if off && self.memory.cutting {
            return;
        }
        self.memory.cutting = off;
        self.memory.switching_on = matches!(wanted, Wanted::On { .. });
        self.wanted.send_modify(|order| *order = order.next(wanted));
    }

    /// Opens or energises; the grant is spent by it.
    fn carry_out(&mut self, grant: Grant) {
        let until = self.deadline();
        self.carry_out_until(grant, until);
    }

    /// Until when a release that is ordered now counts.
    fn deadline(&self) -> Instant {
        let deadline_ms = self.output.as_ref().map_or(DEADLINE_MS_MAX, |(_, output, _)| output.deadline_ms);
        Instant::now() + Duration::from_millis(u64::from(deadline_ms))
    }

    fn carry_out_until(&mut self, grant: Grant, until: Instant) {
        if *grant.portal() != self.id {
            let Place { bus, unit, channel, function, address } = self.output_place();
            tracing::error!(
                portal = %self.id, bus, unit, channel, function, address, other = %grant.portal(),
                "a grant for another portal opens nothing"
            );
            return;
        }
        match self.kind {
            // The card was shown again within `debounce_ms`: that is one presentation, and it was carried out.
            PortalKind::Gate | PortalKind::Door if grant.is_again() => {}
            PortalKind::Gate | PortalKind::Door => {
                let hold_ms = grant.hold_ms().unwrap_or(HOLD_MS_DEFAULT);
                // A pulse would end what the standing mode holds open.
                if self.wanted.borrow().wanted != Wanted::Hold {
                    self.want(Wanted::Pulse { until, hold_ms });
                }
            }
            PortalKind::PowerBox if self.memory.cutting => self.wait_for_off(Some((grant, until))),
            PortalKind::PowerBox => {
                // One that is on, or waits for its turn, is not told again: it would lose its turn.
                let wanted_on = matches!(self.wanted.borrow().wanted, Wanted::On { .. });
                if !(wanted_on && (self.memory.switching_on || self.memory.relay == Some(true))) {
                    self.want(Wanted::On { until });
                }
            }
        }
    }

    /// The end of an order. One that was overtaken tells how the relay is, and nothing of what is wanted now.
    pub(super) async fn done(&mut self, Told { order, done }: Told) {
        let in_force = self.wanted.borrow().number == order;
        match done {
            Done::On(at) => {
                self.memory.switching_on &= !in_force;
                self.relay_is(true, at);
            }
            Done::Off(at) => {
                self.memory.cutting &= !in_force;
                self.relay_is(false, at);
                if self.memory.cutting {
                    return;
                }
                match self.memory.next.take() {
                    Some((grant, until)) if Instant::now() < until => self.carry_out_until(grant, until),
                    Some(_) => self.too_late().await,
                    None => {}
                }
            }
            Done::Pulsed => {}
            Done::Failed(cause) => {
                let Place { bus, unit, channel, function, address } = self.output_place();
                tracing::warn!(
                    portal = %self.id, bus, unit, channel, function, address, error = cause, "the grant is spent"
                );
                if in_force && matches!(self.wanted.borrow().wanted, Wanted::On { .. }) {
                    // It may have been carried out all the same; an open question is closed by switching off.
                    self.want(Wanted::Off);
                    // The gateway takes it to be on, so that it is off is said, also if it was before.
                    self.memory.relay = None;
                }
                self.alarm(AlarmKind::PortalOffline, format!("a release was not confirmed: {cause}")).await;
            }
            Done::Unconfirmed(cause) => {
                self.alarm(AlarmKind::UnconfirmedRevocation, cause).await;
            }
        }
    }

    /// The grant that waits for the relay to go off first, in place of the one that waited before.
    fn wait_for_off(&mut self, next: Option<(Grant, Instant)>) {
        if std::mem::replace(&mut self.memory.next, next).is_some() {
            self.count_release(Released::Overtaken);
        }
    }

    fn output_device(&self) -> Option<&Device> {
        self.output.as_ref().and_then(|(of, ..)| self.devices.get(*of)).map(|(device, _)| device)
    }

    fn output_place(&self) -> Place<'_> {
        let device = self.output_device();
        let off = self.output.as_ref().map(|(_, output, channel)| output.off(*channel));
        Place {
            bus: device.map(|device| display(device.bus.id())),
            unit: device.map(|device| device.unit),
            channel: self.output.as_ref().map(|(_, _, channel)| *channel),
            function: off.as_ref().map(Request::function),
            address: off.as_ref().map(Request::address),
        }
    }

    fn count_release(&self, how: Released) {
        let channel = self.output.as_ref().map_or(0, |(_, _, channel)| *channel);
        if let Some(device) = self.output_device() {
            device.bus.count_release(device.unit, channel, how);
        }
    }

    /// A grant waited for the relay to go off first, and waited too long.
    pub(super) async fn too_late(&mut self) {
        self.memory.next = None;
        self.count_release(Released::Failed);
        let detail = "a grant was not carried out: the relay could not be switched off before, in time";
        self.alarm(AlarmKind::PortalOffline, detail.to_owned()).await;
    }

    async fn alarm(&self, kind: AlarmKind, detail: String) {
        let Place { bus, unit, channel, function, address } = self.output_place();
        tracing::warn!(
            portal = %self.id, bus, unit, channel, function, address, alarm = kind.as_str(), error = detail, "an alarm is raised"
        );
        if self.inbox.urgent(Input::Alarm { kind, portal: Some(self.id.clone()), detail }).await.is_err() {
            tracing::debug!(
                portal = %self.id, bus, unit, channel, function, address, "the gateway has ended"
            );
        }
    }
}

#[cfg(test)]
#[path = "orders_tests.rs"]
mod tests;
