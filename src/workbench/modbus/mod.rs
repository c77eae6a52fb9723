//! A simulated Modbus line: several devices by their profiles on one TCP port or one serial port, with faults on command.
//!
//! Owns what a unit answers and its faults ([`fault`]). The profile gives registers their meaning; `serve` receives and sends the
//! bytes; `plug` opens the port. The other way round, a [`controller`] asks the gateway.

mod caller;
pub mod controller;
mod device;
pub mod fault;
pub mod plug;
mod serve;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use crate::access::id::CardUid;
use crate::lock;
use crate::profile::{InputKind, Profile};
use crate::wire::modbus::{Exception, Request, refusal};

use super::Refused;
use device::Device;

pub use caller::Caller;
pub use controller::Controller;
pub use fault::Fault;
pub use plug::{LineAt, Plugged};
pub use serve::Served;

/// Most requests that are kept for tests.
const RECEIVED_MAX: usize = 10_000;

struct Unit {
    device: Device,
    fault: Fault,
}

struct Shared {
    units: HashMap<u8, Unit>,
    pace: Duration,
    received: Vec<(Instant, u8, Request)>,
}

/// What a unit sends after a request.
enum Answer {
    /// These bytes.
    Now(Vec<u8>),
    /// These bytes, after this time; other requests are answered meanwhile.
    Later(Duration, Vec<u8>),
    /// Nothing.
    Nothing,
    /// It closes the connection; on a serial line it sends nothing.
    HangUp,
}

/// A simulated line, with commands for its devices. Cheap to clone.
#[derive(Clone)]
pub struct Line {
    shared: Arc<Mutex<Shared>>,
    changed: watch::Sender<u64>,
}

impl Line {
    /// A line with these devices.
    #[must_use]
    pub fn new(units: impl IntoIterator<Item = (u8, Arc<Profile>)>) -> Self {
        let unit = |(id, profile)| (id, Unit { device: Device::new(profile), fault: Fault::None });
        let shared =
            Shared { units: units.into_iter().map(unit).collect(), pace: Duration::ZERO, received: Vec::new() };
        Self { shared: Arc::new(Mutex::new(shared)), changed: watch::Sender::new(0) }
    }

    fn command<T>(&self, unit: u8, act: impl FnOnce(&mut Unit) -> T) -> Option<T> {
        let result = lock(&self.shared).units.get_mut(&unit).map(act);
        if result.is_none() {
            tracing::warn!(unit, "this unit is not on the simulated line");
        }
        self.changed.send_modify(|n| *n += 1);
        result
    }

    /// Shows a card to a reader of `unit`.
    pub fn present(&self, unit: u8, reader: u16, uid: CardUid) {
        self.command(unit, |u| u.device.present(reader, uid));
    }

    /// Removes the card.
    pub fn remove(&self, unit: u8, reader: u16) {
        self.command(unit, |u| u.device.remove(reader));
    }

    /// The card that lies at a reader.
    #[must_use]
    pub fn card(&self, unit: u8, reader: u16) -> Option<CardUid> {
        lock(&self.shared).units.get(&unit)?.device.card(reader)
    }

    /// Sets a contact or button; a counter is raised by one.
    pub fn input(&self, unit: u8, kind: InputKind, channel: u16, yes: bool) {
        self.command(unit, |u| u.device.input(kind, channel, yes));
    }

    /// Sets the raw registers of a point.
    pub fn set_words(&self, unit: u8, point: &str, words: &[u16]) {
        self.command(unit, |u| u.device.set_words(point, words));
    }

    /// Sets a point to a value in its unit, e.g. a meter's power or a contact (0 or 1); the state of a relay switches the relay.
    /// Gives the nearest value that the point can hold, with its unit. Fails when the unit or the point does not exist, or the point
    /// cannot hold the value.
    pub fn set(&self, unit: u8, point: &str, channel: u16, value: f64) -> Result<String, Refused> {
        let set = self.command(unit, |u| u.device.set_value(point, channel, value));
        set.ok_or_else(|| Refused(format!("unit {unit} is not on the line")))?
    }

    /// The units and their profiles, in order.
    #[must_use]
    pub fn units(&self) -> Vec<(u8, Arc<Profile>)> {
        let mut units: Vec<_> =
            lock(&self.shared).units.iter().map(|(id, unit)| (*id, Arc::clone(&unit.device.profile))).collect();
        units.sort_by_key(|(id, _)| *id);
        units
    }

    /// Switches a relay, as a person at the device would.
    pub fn force(&self, unit: u8, channel: u16, on: bool) {
        self.command(unit, |u| u.device.force(channel, on));
    }

    /// Sets the fault of `unit`.
    pub fn fault(&self, unit: u8, fault: Fault) {
        self.command(unit, |u| u.fault = fault);
    }

    /// Restarts `unit`, as after a loss of power: its relays are off, its registers as delivered.
    pub fn reset(&self, unit: u8) {
        self.command(unit, |u| u.device.reset());
    }

    /// Sets how long every transaction takes.
    pub fn pace(&self, pace: Duration) {
        lock(&self.shared).pace = pace;
    }

    /// Whether a relay is on.
    #[must_use]
    pub fn relay(&self, unit: u8, channel: u16) -> bool {
        lock(&self.shared).units.get_mut(&unit).is_some_and(|u| u.device.relay(channel, Instant::now()))
    }

    /// The requests received so far, with their time and unit.
    #[must_use]
    pub fn received(&self) -> Vec<(Instant, u8, Request)> {
        lock(&self.shared).received.clone()
    }

    /// Waits until the relay is `on`. `false`: it was not within `limit`.
    pub async fn wait_relay(&self, unit: u8, channel: u16, on: bool, limit: Duration) -> bool {
        let mut changed = self.changed.subscribe();
        let reached = async {
            while self.relay(unit, channel) != on {
                // A relay whose pulse ends changes without a request.
                if timeout(Duration::from_millis(20), changed.changed()).await.is_ok_and(|c| c.is_err()) {
                    return;
                }
            }
        };
        timeout(limit, reached).await.is_ok()
    }

    /// The answer of `unit`, as bytes on the line.
    async fn transact(&self, unit: u8, pdu: &[u8], frame: impl Fn(u8, &[u8]) -> Vec<u8>) -> Answer {
        let decoded = Request::decode(pdu);
        let (pace, fault) = {
            let mut shared = lock(&self.shared);
            let fault = shared.units.get(&unit).map(|u| u.fault);
            if let Ok(request) = &decoded
                && shared.received.len() < RECEIVED_MAX
            {
                shared.received.push((Instant::now(), unit, request.clone()));
            }
            (shared.pace, fault)
        };
        if !pace.is_zero() {
            sleep(pace).await;
        }
        let Some(fault) = fault else { return Answer::Nothing };
        match fault {
            Fault::Silent => return Answer::Nothing,
            Fault::Disconnects => return Answer::HangUp,
            Fault::Slow(wait) => sleep(wait).await,
            Fault::Garbage => return Answer::Now(b"HTTP/1.0 400 Bad Request\r\n\r\n".to_vec()),
            _ => {}
        }
        let function = pdu.first().copied().unwrap_or(0);
        let answered = decoded.and_then(|request| {
            if let Fault::Refuses(code) = fault {
                return Err(Exception(code));
            }
            if fault == Fault::StuckRelay && request.is_write() {
                return Ok(request.answer(&crate::wire::modbus::Reply::Written));
            }
            let now = Instant::now();
            let reply =
                self.command(unit, |u| u.device.answer(&request, now)).unwrap_or(Err(Exception::DEVICE_FAILURE))?;
            if fault == Fault::Acknowledges && request.is_write() {
                return Err(Exception::ACKNOWLEDGED);
            }
            Ok(request.answer(&reply))
        });
        let mut answer = answered.unwrap_or_else(|exception| refusal(function, exception));
        if fault == Fault::WrongEcho
            && function > 4
            && let Some(low) = answer.get_mut(2)
        {
            *low = low.wrapping_add(8);
        }
        if fault == Fault::Short && function <= 4 {
            answer.truncate(answer.len().saturating_sub(2));
            if let Some(count) = answer.get_mut(1) {
                *count = count.saturating_sub(2);
            }
        }
        let unit = if fault == Fault::WrongUnit { unit.wrapping_add(1) } else { unit };
        let mut bytes = frame(unit, &answer);
        if fault == Fault::HalfFrame {
            bytes.truncate(bytes.len() / 2);
        }
        match fault {
            Fault::Late(after) => Answer::Later(after, bytes),
            _ => Answer::Now(bytes),
        }
    }
}
