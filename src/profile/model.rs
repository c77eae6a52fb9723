//! What a checked profile reports of a device: its readers, relays, contacts and meter.

use serde::Deserialize;

use super::points::{Link, Point, Poll, Write};
use crate::access::portal::Direction;
use crate::access::transform::Form;
use crate::wire::modbus::Request;

/// Latest deadline of a release, in milliseconds, and the one that holds where a profile reports nothing: a grant counts no longer.
pub const DEADLINE_MS_MAX: u32 = 1500;
/// A checked profile. Its addresses are protocol addresses, from 0, whatever base the file counts from.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    /// The name a configuration uses.
    pub id: String,
    /// The product's name.
    pub name: String,
    /// Where the map was found.
    pub source: String,
    /// What a user has to know.
    pub caveats: Vec<String>,
    /// What it was tried on; empty: on nothing yet.
    pub verified_on: Vec<String>,
    /// How to talk to it.
    pub link: Link,
    /// Every named point, by name.
    pub points: Vec<Point>,
    /// What is asked, and how often.
    pub polls: Vec<Poll>,
    /// Its card readers.
    pub readers: Vec<Reader>,
    /// Its relays.
    pub output: Option<Output>,
    /// Its contacts, buttons and counters of passages.
    pub inputs: Vec<InputPoint>,
    /// Its meter.
    pub meter: Option<Meter>,
    /// What it does by itself when nobody asks any more.
    pub on_link_loss: OnLinkLoss,
}

/// How a reader reports that there is a card.
#[derive(Clone, Debug, PartialEq)]
pub enum Trigger {
    /// The UID is there as long as the card is. With a point, that point reports whether a card is there.
    Level(Option<Point>),
    /// A flag is set for a new card and stays set until it is written away.
    Latch {
        /// The flag.
        flag: Point,
        /// What releases it.
        release: Write,
        /// How soon it is set again after a release while the card still lies there, in milliseconds; `None`: it is not.
        repeats_ms: Option<u32>,
    },
    /// A number counts the cards.
    Counter {
        /// The number.
        count: Point,
        /// What reports the device that its card was taken; the number itself is written. `None`: nothing to report.
        acknowledge: Option<Write>,
    },
}

/// One card reader of a device.
#[derive(Clone, Debug, PartialEq)]
pub struct Reader {
    /// Its name in the file.
    pub id: String,
    /// Which way one passes at it, if the device reports readers apart.
    pub direction: Option<Direction>,
    /// How it reports that there is a card.
    pub trigger: Trigger,
    /// How it reports which.
    pub uid: UidSource,
    /// How long no card must be seen before it counts as gone, in milliseconds, beyond what a latch takes to be set again.
    pub gone_ms: u32,
}

impl Reader {
    /// How long no card is seen before it has left, in milliseconds; `None`: the reader does not report.
    #[must_use]
    pub fn leaves_after_ms(&self) -> Option<u32> {
        match &self.trigger {
            Trigger::Level(_) => Some(self.gone_ms),
            Trigger::Latch { repeats_ms, .. } => repeats_ms.map(|repeats_ms| repeats_ms.saturating_add(self.gone_ms)),
            Trigger::Counter { .. } => None,
        }
    }

    /// The points that must be read to know the card.
    #[must_use]
    pub fn points(&self) -> Vec<&Point> {
        let trigger = match &self.trigger {
            Trigger::Level(point) => point.as_ref(),
            Trigger::Latch { flag, .. } => Some(flag),
            Trigger::Counter { count, .. } => Some(count),
        };
        trigger.into_iter().chain([&self.uid.point]).chain(self.uid.length_point()).collect()
    }
}

impl InputKind {
    /// Which way somebody passed, if that is what it reports.
    #[must_use]
    pub fn way(self) -> Option<Direction> {
        match self {
            Self::PassedIn => Some(Direction::In),
            Self::PassedOut => Some(Direction::Out),
            Self::ContactOpen | Self::ExitButton | Self::Tamper | Self::Fire => None,
        }
    }
}

/// What an input means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum InputKind {
    /// The door is open.
    ContactOpen,
    /// The exit button is pressed.
    ExitButton,
    /// The housing is open.
    Tamper,
    /// The fire panel releases.
    Fire,
    /// Somebody went in: a flag that rises, or a number that counts.
    PassedIn,
    /// Somebody went out.
    PassedOut,
}

/// One contact, button or counter.
#[derive(Clone, Debug, PartialEq)]
pub struct InputPoint {
    /// What it means.
    pub kind: InputKind,
    /// Where it is.
    pub point: Point,
    /// The raw flag that means yes; of no matter for numbers.
    pub when: bool,
}

/// The meter of a device.
#[derive(Clone, Debug, PartialEq)]
pub struct Meter {
    /// Active power and the factor to watts.
    pub power: Option<(Point, f64)>,
    /// Active energy and the factor to kilowatt-hours.
    pub energy: Option<(Point, f64)>,
}

/// What a device does by itself when nobody asks any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnLinkLoss {
    /// Keeps its relays as they are.
    Hold,
    /// Switches them off.
    Off,
    /// Not known.
    Unknown,
}

impl Profile {
    /// What it can be in a portal, for people.
    #[must_use]
    pub fn parts(&self) -> Vec<&'static str> {
        [
            (!self.readers.is_empty(), "reader"),
            (self.output.is_some(), "output"),
            (!self.inputs.is_empty(), "inputs"),
            (self.meter.is_some(), "meter"),
        ]
        .into_iter()
        .filter_map(|(has, name)| has.then_some(name))
        .collect()
    }

    /// On how many channels it has contacts and buttons.
    #[must_use]
    pub fn input_channels(&self) -> u16 {
        self.inputs.iter().map(|input| input.point.channels).max().unwrap_or(0)
    }

    /// The polls that bring any of these points.
    pub fn polls_of<'a>(&'a self, points: &'a [&'a Point]) -> impl Iterator<Item = &'a Poll> {
        self.polls.iter().filter(|poll| points.iter().any(|point| poll.points.contains(&point.name)))
    }
}

/// Who ends a pulse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pulse {
    /// The device, so that a crash of the gateway never leaves a door open.
    Device {
        /// What to write; the time in steps is added to its value.
        write: Write,
        /// Length of a step, in milliseconds.
        step_ms: u32,
        /// Longest time, in steps; 0: the value is all of it and the time is one step.
        steps_max: u16,
    },
    /// The gateway: on, wait, off. At the start everything is switched off.
    Gateway,
}

/// How it is known that a write was carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Confirm {
    /// The point of [`Output::state`] is read back.
    State,
    /// The device's echo of the write has to do.
    Echo {
        /// Why nothing better is to be had, for people.
        because: String,
    },
}

/// The relays of a device: equal channels.
#[derive(Clone, Debug, PartialEq)]
pub struct Output {
    /// How many.
    pub channels: u16,
    /// From one channel's write to the next, in addresses.
    pub stride: u16,
    /// The point that reports whether a channel is on; `None`: the device cannot be asked.
    pub state: Option<Point>,
    /// Switches on.
    pub on: Write,
    /// Switches off.
    pub off: Write,
    /// Switches on for a moment.
    pub pulse: Pulse,
    /// How long after a write the state may still be the old one, in milliseconds.
    pub settle_ms: u32,
    /// How it is known that a write was carried out.
    pub confirm: Confirm,
    /// How many further tries a release gets within its deadline. What must go off is tried for ever.
    pub retry: u16,
    /// When a release that is not confirmed is given up and reported, in milliseconds after it was ordered.
    pub deadline_ms: u32,
}

impl Output {
    /// Switches `channel` on.
    #[must_use]
    pub fn on(&self, channel: u16) -> Request {
        self.on.request(channel.saturating_mul(self.stride), self.on.value)
    }

    /// Switches `channel` off.
    #[must_use]
    pub fn off(&self, channel: u16) -> Request {
        self.off.request(channel.saturating_mul(self.stride), self.off.value)
    }

    /// Switches `channel` on for `hold_ms`, rounded up to the device's steps and cut at its longest; and for how long that is
    /// in milliseconds. `None`: the gateway has to end the pulse.
    #[must_use]
    pub fn pulse(&self, channel: u16, hold_ms: u32) -> Option<(Request, u32)> {
        let Pulse::Device { write, step_ms, steps_max } = &self.pulse else { return None };
        let steps = hold_ms.div_ceil((*step_ms).max(1)).clamp(1, u32::from(*steps_max).max(1));
        let added = if *steps_max == 0 { 0 } else { u16::try_from(steps).unwrap_or(u16::MAX) };
        let request = write.request(channel.saturating_mul(self.stride), write.value.saturating_add(added));
        Some((request, steps.saturating_mul(*step_ms)))
    }

    /// Reads the state of `channel`; `None`: its echo is all that confirms a write.
    #[must_use]
    pub fn read_back(&self, channel: u16) -> Option<Request> {
        let state = match &self.confirm {
            Confirm::State => self.state.as_ref()?,
            Confirm::Echo { .. } => return None,
        };
        Some(Request::Read { space: state.space, address: state.address_of(channel), count: state.registers })
    }
}

/// In which order a reader gives the bytes of a UID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UidOrder {
    /// As the card sends them.
    MsbFirst,
    /// Turned round.
    LsbFirst,
}

/// How many of the bytes are the UID, or what is left of it.
#[derive(Clone, Debug, PartialEq)]
pub enum UidLength {
    /// Always so many.
    Fixed(u8),
    /// A point reports it.
    Point(Point),
    /// The rest is zeros: the shortest of 4, 7 and 10 that holds every other byte.
    ZeroPadded,
    /// All of the point; for lossy readers.
    All,
}

/// What a reader reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UidContent {
    /// The whole UID.
    Whole {
        /// Shortest UID it can read, in bytes.
        min: u8,
        /// Longest UID it can read, in bytes.
        max: u8,
    },
    /// What this form leaves of it.
    Reduced(Form),
}

/// Where a reader shows the UID.
#[derive(Clone, Debug, PartialEq)]
pub struct UidSource {
    /// The bytes, or for a lossy reader also a number.
    pub point: Point,
    /// How many of them.
    pub length: UidLength,
    /// Their order; for a lossy reader, at which end of the UID it begins.
    pub order: UidOrder,
    /// All of it, or what is left.
    pub content: UidContent,
}
