//! Devices on Modbus, which the gateway polls: lines, and devices by profile.
//!
//! The adapter of [`device`](super::device) to Modbus lines; [`parts`](super::parts) puts portals together from them. One task a physical
//! line ([`bus`]), one a poll. Nothing here decides who may enter.
//!
//! | modules | what they own |
//! |---|---|
//! | [`bus`], [`queue`] | from an order to the bytes: requests of a profile, what goes next, when it may be sent |
//! | [`mod@line`], `serial` | one exchange by `tokio-modbus`, the bytes sent, silences |
//! | `received` | the bytes received: noise, echo, the answer |
//! | `exchange`, [`health`], [`late`], `connection` | what follows from an answer or its absence: units go offline, late replies, the line is opened again |
//! | `poll` | registers decoded to readings |
//! | [`load`] | the polls that a portal needs; lines that have too little time for their readers |
//! | [`server`] | the reverse: controllers ask the gateway |

pub mod bus;
mod connection;
mod exchange;
pub mod health;
pub mod late;
pub mod line;
pub mod load;
mod log;
pub(super) mod poll;
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
use tokio::time::Instant;
use tracing::Instrument;

use crate::config::{BusConfig, ModbusPart};
use crate::portals::device::{Event, SourceState, Stagger};

pub use super::device::{Released, STAGGER_MS, UNCONFIRMED_MS};
pub use log::Observer;
pub use serial::builder as serial_builder;

use bus::Bus;
use poll::Polls;

/// Time between the first requests of two polls, in milliseconds, so that they do not all begin at once.
const POLL_STAGGER_MS: u64 = 3;

/// The lines by id, each with the pauses between its outputs.
pub(super) type Lines = HashMap<String, (Bus, Arc<Stagger>)>;

/// Opens the lines that these parts are on; each is a task.
pub(super) fn open_lines(
    buses: &[BusConfig],
    parts: &[&ModbusPart],
    observer: &Arc<dyn Observer>,
    tasks: &mut JoinSet<()>,
) -> Lines {
    let mut lines = HashMap::new();
    for spec in buses {
        let mut units: HashMap<u8, Duration> = HashMap::new();
        for part in parts.iter().filter(|part| part.bus == spec.id) {
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

/// Starts the polls.
pub(super) fn start_polls(polls: Polls, stop: &watch::Receiver<bool>, tasks: &mut JoinSet<()>) {
    let mut first = Instant::now();
    for polling in polls.into_pollings() {
        tasks.spawn(polling.run(first, stop.clone()));
        first += Duration::from_millis(POLL_STAGGER_MS);
    }
}

/// Ends when `stop` turns true, or when nobody can turn it any more.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    drop(stop.wait_for(|stop| *stop).await);
}

/// Passes on every change of a unit's state to a portal.
pub(super) async fn forward_state(
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
