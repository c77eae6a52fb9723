//! Portals on Modbus, where the gateway polls: lines, devices by profile, portals put together from a reader, an output, a meter.
//!
//! The adapter of [`device`](super::device) to Modbus lines. [`start`] makes one task a physical line ([`bus`]), one a poll and one a
//! portal. Nothing here decides who may enter.
//!
//! | modules | what they own |
//! |---|---|
//! | [`bus`], [`queue`] | from an order to the bytes: requests of a profile, what goes next, when it may be sent |
//! | [`mod@line`], `serial` | one exchange by `tokio-modbus`, the bytes sent, silences |
//! | `received` | the bytes received: noise, echo, the answer |
//! | `exchange`, [`health`], [`late`], `connection` | what follows from an answer or its absence: units go offline, late replies, the line is opened again |
//! | `poll`, `assembly` | registers decoded to readings, portals put together from their parts |
//! | [`server`] | the reverse: controllers ask the gateway |

mod assembly;
pub mod bus;
mod connection;
mod exchange;
pub mod health;
pub mod late;
pub mod line;
mod log;
mod poll;
pub mod queue;
mod received;
mod serial;
pub mod server;

#[cfg(test)]
pub(in crate::portals) mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tracing::Instrument;

use crate::access::{self, id::PortalId};
use crate::config::{BusConfig, Part, Parts, PortalConfig};
use crate::gateway::ports::{Inbox, PORTAL_ORDERS_MAX, PortalOrder};
use crate::portals::device::{Event, SourceState, Stagger};

pub use super::device::{Released, STAGGER_MS, UNCONFIRMED_MS};
pub use log::Observer;
pub use serial::builder as serial_builder;

use assembly::{Lines, assemble};
use poll::Polls;

/// Time between the first requests of two polls, in milliseconds, so that they do not all begin at once.
const POLL_STAGGER_MS: u64 = 3;
/// How long relays may take to be switched off at the end, in milliseconds.
pub const STOP_MS_MAX: u64 = 2000;

/// The running link.
pub struct ModbusPortals {
    /// Where each portal takes its orders.
    pub outlets: Vec<(PortalId, mpsc::Sender<PortalOrder>)>,
    /// Everything that runs for it. None ends before it is stopped, unless it fails.
    pub tasks: JoinSet<()>,
    stop: watch::Sender<bool>,
}

impl ModbusPortals {
    /// Ends all tasks. An output that was ordered off, or whose pulse the gateway ends, is switched off first, for at most
    /// [`STOP_MS_MAX`].
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        drop(self.outlets);
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if timeout(Duration::from_millis(STOP_MS_MAX), all).await.is_err() {
            tracing::warn!("not every relay could be switched off before the end");
        }
    }
}

/// Starts lines, polls and those of `portals` that are wired to them.
#[must_use]
pub fn start(
    buses: &[BusConfig],
    portals: &[PortalConfig],
    inbox: &Inbox,
    observer: &Arc<dyn Observer>,
) -> ModbusPortals {
    let mut tasks = JoinSet::new();
    let (stop, stopped) = watch::channel(false);
    let portals: Vec<_> =
        portals.iter().filter_map(|PortalConfig { portal, device }| Some((portal, device.parts()?))).collect();
    let lines = open_lines(buses, &portals, observer, &mut tasks);
    let mut polls = Polls::default();
    let mut outlets = Vec::new();
    let is_shared = |meter: &Part| {
        let place = |part: &Part| (part.unit, part.channel);
        let same = |part: &&Part| part.bus == meter.bus && place(part) == place(meter);
        portals.iter().filter_map(|(_, parts)| parts.meter.as_ref()).filter(same).count() > 1
    };
    for &(portal, parts) in &portals {
        let Some(assembled) = assemble((portal, parts), is_shared, &lines, inbox, &mut polls) else { continue };
        let (orders, taken) = mpsc::channel(PORTAL_ORDERS_MAX);
        outlets.push((portal.id.clone(), orders));
        for (source, unit) in assembled.units {
            tasks.spawn(forward_state(source, unit, assembled.events.clone(), stopped.clone()));
        }
        tasks.spawn(assembled.portal.run(taken, assembled.received, stopped.clone()));
    }
    let speeds = buses.iter().filter_map(|bus| Some((&bus.id, bus.line.baud()?)));
    for (bus, baud) in speeds {
        let percent = serial::percent(polls.of_bus(bus), baud);
        if percent > serial::LOAD_PERCENT_MAX {
            tracing::warn!(
                bus,
                "its polls take {percent} % of the line at {baud} Bd: raise the speed, or divide its units between two lines"
            );
        }
    }
    let mut first = Instant::now();
    for polling in polls.into_pollings() {
        tasks.spawn(polling.run(first, stopped.clone()));
        first += Duration::from_millis(POLL_STAGGER_MS);
    }
    ModbusPortals { outlets, tasks, stop }
}

fn open_lines(
    buses: &[BusConfig],
    portals: &[(&access::portal::Portal, &Parts)],
    observer: &Arc<dyn Observer>,
    tasks: &mut JoinSet<()>,
) -> Lines {
    let mut lines = HashMap::new();
    for spec in buses {
        let mut units: HashMap<u8, Duration> = HashMap::new();
        let parts = portals.iter().flat_map(|(_, parts)| parts.all());
        for part in parts.filter(|part| part.bus == spec.id) {
            let reply = Duration::from_millis(u64::from(part.profile.link.reply_ms));
            let slowest = units.entry(part.unit).or_default();
            *slowest = reply.max(*slowest);
        }
        let (bus, task) = bus::open(spec.clone(), &units, Arc::clone(observer));
        // The frames of a trace are logged with their bus; the span costs nothing while no trace is on.
        tasks.spawn(task.instrument(tracing::trace_span!(target: "dormgate::frames", "bus", id = %spec.id)));
        lines.insert(spec.id.clone(), (bus, Arc::new(Stagger::new())));
    }
    lines
}

/// Ends when `stop` turns true, or when nobody can turn it any more.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    drop(stop.wait_for(|stop| *stop).await);
}

/// Passes on every change of a unit's state to a portal.
async fn forward_state(
    source: usize,
    mut unit: watch::Receiver<SourceState>,
    events: mpsc::Sender<Event>,
    mut stop: watch::Receiver<bool>,
) {
    loop {
        let state = unit.borrow_and_update().clone();
        if state != SourceState::Unknown && events.send(Event::Source { source, state }).await.is_err() {
            return;
        }
        tokio::select! {
            changed = unit.changed() => if changed.is_err() { return },
            () = stopped(&mut stop) => return,
        }
    }
}
