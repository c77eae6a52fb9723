//! A checked profile: the readers, relays, contacts and meter of a device.

use serde::Deserialize;

use super::points::{Link, Point, Poll, Write};
use crate::access::portal::Direction;
use crate::access::transform::{Form, Transform, Turn};
use crate::wire::modbus::Request;

/// Latest deadline of a release, in milliseconds, and its default: a grant is not valid for longer.
pub const DEADLINE_MS_MAX: u32 = 1500;

/// A checked profile. Its addresses are protocol addresses, from 0, whatever `address_base` the file has.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    /// The name a configuration uses.
    pub id: String,
    /// The product's name.
    pub name: String,
    /// Where the map was found.
    pub source: String,
    /// What an installer has to know.
    pub caveats: Vec<String>,
    /// What it was tried on; empty: it was not tried yet.
    pub verified_on: Vec<String>,
    /// How requests and addresses of the device are.
    pub link: Link,
    /// Every named point, by name.
    pub points: Vec<Point>,
    /// What is polled, and how often.
    pub polls: Vec<Poll>,
    /// Its card readers.
    pub readers: Vec<Reader>,
    /// Its relays.
    pub output: Option<Output>,
    /// Its contacts, buttons and counters of passages.
    pub inputs: Vec<InputPoint>,
    /// Its meter.
    pub meter: Option<Meter>,
    /// What the device does by itself when it is no longer polled.
    pub on_link_loss: OnLinkLoss,
}

/// How a reader reports that there is a card.
#[derive(Clone, Debug, PartialEq)]
pub enum Trigger {
    /// The UID is shown as long as the card lies there. With a point, that point shows whether a card lies there.
    Level(Option<Point>),
    /// A flag is set for a new card and stays set until a write clears it.
    Latch {
        /// The flag.
        flag: Point,
        /// The write that clears it.
        release: Write,
        /// How soon it is set again after a release while the card still lies there, in milliseconds; `None`: never.
        repeats_ms: Option<u32>,
    },
    /// A number counts the cards.
    Counter {
        /// The number.
        count: Point,
        /// The write that acknowledges a card; its value is the number. `None`: the device expects none.
        acknowledge: Option<Write>,
    },
}

/// One card reader of a device.
#[derive(Clone, Debug, PartialEq)]
pub struct Reader {
    /// Its name in the file.
    pub id: String,
    /// Which way one passes at it, if the device has a reader for each direction.
    pub direction: Option<Direction>,
    /// How it reports that there is a card.
    pub trigger: Trigger,
    /// How it reports the UID.
    pub uid: UidSource,
    /// How long no card must be seen before it has left, in milliseconds; for a latch, added to the time in which it is set again.
    pub gone_ms: u32,
}

impl Reader {
    /// How long no card is seen before it has left, in milliseconds; `None`: the reader does not report that a card leaves.
    pub(crate) fn leaves_after_ms(&self) -> Option<u32> {
        match &self.trigger {
            Trigger::Level(_) => Some(self.gone_ms),
            Trigger::Latch { repeats_ms, .. } => repeats_ms.map(|repeats_ms| repeats_ms.saturating_add(self.gone_ms)),
            Trigger::Counter { .. } => None,
        }
    }

    /// The points that must be read together to know the card.
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
    /// The direction of a passage; `None`: the input reports something else.
    #[must_use]
    pub fn way(self) -> Option<Direction> {
        match self {
            Self::PassedIn => Some(Direction::In),
            Self::PassedOut => Some(Direction::Out),
            Self::ContactOpen
            | Self::ExitButton
            | Self::Tamper
            | Self::Fire
            | Self::Overload
            | Self::RestrictedLoad => None,
        }
    }
}

/// What an input means; as text, its key in a profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, strum::Display)]
#[strum(serialize_all = "snake_case")]
pub enum InputKind {
    /// The door is open.
    ContactOpen,
    /// The exit button is pressed.
    ExitButton,
    /// The housing is open.
    Tamper,
    /// The fire panel releases.
    Fire,
    /// The meter of a power box reports too much load.
    Overload,
    /// The meter of a power box reports a load that the rules forbid.
    RestrictedLoad,
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
    /// The raw flag that means yes; not used for counters.
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

/// What a device does by itself when it is no longer polled.
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

/// The parts of a portal, for people: a reader, an output, inputs, a meter, of which a device `has` some.
pub(super) fn part_names(has: [bool; 4]) -> Vec<&'static str> {
    let all = ["reader", "output", "inputs", "meter"].into_iter().zip(has);
    all.filter_map(|(name, has)| has.then_some(name)).collect()
}

impl Profile {
    /// The parts of a portal that it can be, for people.
    #[must_use]
    pub fn parts(&self) -> Vec<&'static str> {
        let Self { readers, output, inputs, meter, .. } = self;
        part_names([!readers.is_empty(), output.is_some(), !inputs.is_empty(), meter.is_some()])
    }

    /// The number of channels with contacts and buttons.
    pub(crate) fn input_channels(&self) -> u16 {
        self.inputs.iter().map(|input| input.point.channels).max().unwrap_or(0)
    }

    /// The polls that read any of these points.
    pub fn polls_of<'a>(&'a self, points: &[&Point]) -> impl Iterator<Item = &'a Poll> {
        self.polls.iter().filter(|poll| points.iter().any(|point| poll.points.contains(&point.name)))
    }
}

/// Who ends a pulse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pulse {
    /// The device: a door closes although the gateway has crashed.
    Device {
        /// The write; the time in steps is added to its value.
        write: Write,
        /// Length of a step, in milliseconds.
        step_ms: u32,
        /// Longest time, in steps; 0: the value is written as it is, and the time is one step.
        steps_max: u16,
    },
    /// The gateway: on, wait, off. When the gateway starts, it switches everything off.
    Gateway,
}

/// How it is known that a write was carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Confirm {
    /// The point of [`Output::state`] is read back.
    State,
    /// The device's echo of the write.
    Echo {
        /// Why the state cannot be read back, for people.
        because: String,
    },
}

/// The relays of a device: channels of one kind.
#[derive(Clone, Debug, PartialEq)]
pub struct Output {
    /// How many.
    pub channels: u16,
    /// From one channel's write to the next, in addresses.
    pub stride: u16,
    /// The point that reports whether a channel is on; `None`: the device has no such point.
    pub state: Option<Point>,
    /// Switches on.
    pub on: Write,
    /// Switches off.
    pub off: Write,
    /// Switches on for a limited time.
    pub pulse: Pulse,
    /// How long after a write the state may still be the old one, in milliseconds.
    pub settle_ms: u32,
    /// How it is known that a write was carried out.
    pub confirm: Confirm,
    /// How often a release is tried again within its deadline. An order to switch off is tried until it is confirmed.
    pub retry: u16,
    /// When a release that is not confirmed has failed, in milliseconds after its order.
    pub deadline_ms: u32,
}

impl Output {
    /// The request that switches `channel` on.
    #[must_use]
    pub fn on(&self, channel: u16) -> Request {
        self.on.request(channel.saturating_mul(self.stride), self.on.value)
    }

    /// The request that switches `channel` off.
    #[must_use]
    pub fn off(&self, channel: u16) -> Request {
        self.off.request(channel.saturating_mul(self.stride), self.off.value)
    }

    /// The request that switches `channel` on for `hold_ms`, rounded up to the device's steps and limited to its longest time; and
    /// that time in milliseconds. `None`: the gateway has to end the pulse.
    #[must_use]
    pub fn pulse(&self, channel: u16, hold_ms: u32) -> Option<(Request, u32)> {
        let Pulse::Device { write, step_ms, steps_max } = &self.pulse else { return None };
        let steps = hold_ms.div_ceil((*step_ms).max(1)).clamp(1, u32::from(*steps_max).max(1));
        let added = if *steps_max == 0 { 0 } else { u16::try_from(steps).unwrap_or(u16::MAX) };
        let request = write.request(channel.saturating_mul(self.stride), write.value.saturating_add(added));
        Some((request, steps.saturating_mul(*step_ms)))
    }

    /// The request that reads the state of `channel`; `None`: a write is confirmed by its echo.
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
    /// The last byte first.
    LsbFirst,
}

/// How many bytes of the point are the UID, or the part of it that a lossy reader gives.
#[derive(Clone, Debug, PartialEq)]
pub enum UidLength {
    /// Always this number.
    Fixed(u8),
    /// As many as this point holds.
    Point(Point),
    /// The shortest of 4, 7 and 10 after which only zeros follow.
    ZeroPadded,
    /// All of the point; for lossy readers.
    All,
}

/// How much of a UID a reader gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UidContent {
    /// The whole UID.
    Whole {
        /// Shortest UID it can read, in bytes.
        min: u8,
        /// Longest UID it can read, in bytes.
        max: u8,
    },
    /// The part that this transform leaves.
    Reduced(Form),
}

impl UidContent {
    /// The transform of a lossy reader that gives the bytes in this order; `None`: the reader gives whole UIDs.
    #[must_use]
    pub fn transform(self, order: UidOrder) -> Option<Transform> {
        let turn = match order {
            UidOrder::MsbFirst => Turn::AsSent,
            UidOrder::LsbFirst => Turn::Reversed,
        };
        match self {
            Self::Whole { .. } => None,
            Self::Reduced(form) => Some(Transform { turn, form }),
        }
    }
}

/// Where a reader shows the UID, and in which form.
#[derive(Clone, Debug, PartialEq)]
pub struct UidSource {
    /// The point that holds the bytes; of a lossy reader it may hold a number.
    pub point: Point,
    /// How many bytes of it count.
    pub length: UidLength,
    /// Their order; for a lossy reader, the end of the UID at which its transform begins.
    pub order: UidOrder,
    /// The whole UID, or a part.
    pub content: UidContent,
}
