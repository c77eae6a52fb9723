//! What a portal does, whatever it is connected to: its readers, contacts, meter and output, and how an output is confirmed.
//!
//! Owns the portal's task, and no registers, topics or frames: an adapter decodes what its devices send into [`Event`]s and carries out
//! the calls of [`Wiring`]. Nothing here decides who may enter: cards go to the gateway's inbox as requests, and grants come back by value
//! and are consumed once.
//!
//! # From the engine's effect to a relay
//! 1. `gateway/dispatch.rs`: the order goes into the portal's outlet, or waits for room if it must not be lost.
//! 2. `device/output.rs`: the portal's task receives it; a newer order supersedes an older one, and one piece of work is begun.
//! 3. `device/drive.rs`: tries until the output is confirmed or the order's deadline is over; each try is [`Wiring::set`].
//! 4. `parts/wiring.rs`: the adapter of the output, which makes the request or the message of the device's profile: `modbus/bus.rs`, where it
//!    is queued for the line by its priority, or `mqtt/profiled/output.rs`.
//! 5. `modbus/line.rs`: the request's bytes on the port. `mqtt/profiled/mod.rs`: the message to the broker.
//!
//! Beside it: `portal` (sends reports and alarms, and whether the portal is online), [`reader`] (what the readings of a reader mean: a card
//! came, was there already, left), `sensors` (contacts, buttons, passages, meters) and [`reports`] (what waits for room in the inbox).

/// Logs an event of a portal with the place of its device.
macro_rules! log_at {
    ($level:ident, $portal:expr, $place:expr, $($rest:tt)+) => {{
        let $crate::portals::device::Place { bus, unit, channel, function, address } = $place;
        tracing::$level!(portal = %$portal, bus, unit, channel, function, address, $($rest)+);
    }};
}

mod drive;
mod output;
mod portal;
pub mod reader;
pub mod reports;
mod sensors;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::field::DisplayValue;

use crate::access::id::PortalId;
use crate::access::input::Presented;
use crate::access::names;
use crate::access::portal::PortalKind;
use crate::profile::InputKind;

pub use drive::{STAGGER_MS, Stagger, UNCONFIRMED_MS};
pub use portal::Portal;
use reader::{Accept, ReaderTraits, Shows};

/// How long a gate or door is opened when the grant names no time, in milliseconds.
pub const HOLD_MS_DEFAULT: u32 = 3000;

/// What an output is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Set {
    /// Off.
    Off,
    /// On, to stay on.
    On,
    /// On for this time, in milliseconds; the device ends it.
    Pulse {
        /// How long.
        hold_ms: u32,
    },
}

/// Why a [`Set`] is not known to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotSet {
    /// It was not done: the device is busy. It may be tried again.
    Busy(String),
    /// It was not done, and trying again gains nothing.
    Refused(String),
    /// It may have been done or not.
    Unknown(String),
    /// The adapter has ended.
    Ended,
}

impl NotSet {
    /// The cause, for people.
    fn cause(self) -> String {
        match self {
            Self::Busy(cause) | Self::Refused(cause) | Self::Unknown(cause) => cause,
            Self::Ended => "the line has been shut down".to_owned(),
        }
    }
}

names! {
    /// How a release ended, for counters.
    pub enum Released {
        /// Confirmed in the way that the profile demands.
        Confirmed,
        /// Not confirmed, given up, and reported.
        Failed,
        /// Another order for the same output came first.
        Superseded,
    }
}

/// Where an output or a reader is, for logs. A field that does not apply is absent.
#[derive(Clone, Debug, Default)]
pub struct Place {
    /// The line.
    pub bus: Option<DisplayValue<String>>,
    /// Which device on it.
    pub unit: Option<u8>,
    /// Which output or reader of the device.
    pub channel: Option<u16>,
    /// The function that switches the output off.
    pub function: Option<u8>,
    /// The address that switches the output off.
    pub address: Option<u16>,
}

/// What a portal needs of its adapter. Cheap to clone.
pub trait Wiring: Clone + Send + Sync + 'static {
    /// Sets the output; nothing is sent after `deadline`. Returns when the device acknowledged it. Dropping the future withdraws a
    /// request that was not sent yet.
    fn set(&self, set: Set, deadline: Option<Instant>) -> impl Future<Output = Result<Instant, NotSet>> + Send;

    /// The state of the output and when it was read; `None`: the device does not answer.
    fn read_back(&self) -> impl Future<Output = Option<(bool, Instant)>> + Send;

    /// How long the device itself keeps a pulse of `hold_ms` on, in milliseconds; `None`: the gateway has to end it.
    fn pulse_ms(&self, hold_ms: u32) -> Option<u32>;

    /// Orders the reader of `slot` to take the next card. An [`Event::Accepted`] follows.
    fn accept_next(&self, slot: u8, accept: Accept);

    /// Counts how a release ended.
    fn count(&self, how: Released);

    /// Where the reader of a slot is; `None`: where the output is.
    fn place(&self, slot: Option<u8>) -> Place;
}

/// What comes from the devices of a portal. Its devices are numbered by their place in [`Parts::sources`].
#[derive(Clone, Debug)]
pub enum Event {
    /// A device was read at this moment.
    Read {
        /// Which device.
        source: usize,
        /// What it shows; empty where nothing of it concerns the portal.
        readings: Vec<Reading>,
        /// When.
        at: Instant,
        /// How long its line takes to read all readers once.
        turn: Duration,
    },
    /// A device answers again, or does not any more.
    Source {
        /// Which.
        source: usize,
        /// Whether it answers.
        state: SourceState,
    },
    /// The reader of a slot was ordered to take the next card.
    Accepted {
        /// Which slot.
        slot: u8,
        /// When that ended.
        at: Instant,
        /// Why it is not known to be done, if it is not.
        failed: Option<String>,
    },
}

/// One value that was read from a device.
#[derive(Clone, Debug, PartialEq)]
pub enum Reading {
    /// The reader of a slot shows this.
    Card {
        /// Which slot.
        slot: u8,
        /// What.
        shows: Shows,
    },
    /// A card whose message is too old: it opens nothing.
    OldCard {
        /// Which slot.
        slot: u8,
        /// Which card.
        presented: Presented,
    },
    /// A contact of [`Parts::contacts`], by its place there.
    Contact {
        /// Which.
        contact: usize,
        /// A number that rises with each event, or 1 and 0.
        number: f64,
        /// The number is a count of events.
        counts: bool,
        /// It is open, pressed or on.
        active: bool,
    },
    /// The output is on or off.
    Output(bool),
    /// The meter; NaN: the device has no value.
    Meter {
        /// Power drawn, in watts.
        power_w: Option<f64>,
        /// Energy meter, in kilowatt-hours.
        energy_kwh: Option<f64>,
    },
    /// What the device sent cannot be read; why, for people.
    Malformed(String),
}

/// Whether a device answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceState {
    /// Not known yet.
    Unknown,
    /// It answers.
    Online,
    /// It does not answer.
    Offline {
        /// Why, for people.
        cause: String,
    },
}

/// A device of a portal.
#[derive(Clone, Debug)]
pub struct Source {
    /// It is polled, so its silence is noticed. A board that cannot be read back is not polled.
    pub polled: bool,
}

/// How an output behaves.
#[derive(Clone, Debug)]
pub struct OutputTraits {
    /// Which source it is part of.
    pub source: usize,
    /// When a release that is not confirmed is given up, in milliseconds after it was ordered.
    pub deadline_ms: u32,
    /// How many further tries a release gets within that time.
    pub retry: u16,
    /// How long after it was set it may still read as before, in milliseconds.
    pub settle_ms: u32,
    /// It can be read back, and that confirms it.
    pub reads_back: bool,
    /// Pulses are ended by the gateway. One that a crash left unfinished is ended at the start.
    pub ends_by_gateway: bool,
    /// Spaces out the switching on of all outputs with the same supply.
    pub stagger: Arc<Stagger>,
}

/// The parts of a portal.
pub struct Parts<W> {
    /// Its id.
    pub id: PortalId,
    /// What it is.
    pub kind: PortalKind,
    /// Its devices, each once.
    pub sources: Vec<Source>,
    /// Its readers with their sources, slot by slot: one, or one for each slot of a power box.
    pub readers: Vec<(usize, ReaderTraits)>,
    /// Its contacts with their sources.
    pub contacts: Vec<(usize, InputKind)>,
    /// The source of its meter, and whether that measures other portals too.
    pub meter: Option<(usize, bool)>,
    /// Its output.
    pub output: OutputTraits,
    /// What carries out its orders.
    pub wiring: W,
}
