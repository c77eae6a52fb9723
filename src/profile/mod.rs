//! Device profiles: what a Modbus device's registers mean, as data. Pure: a profile is read, checked, decoded and printed here.
//!
//! Owns the format of `devices/*.toml` (`devices/README.md` describes it for people) and the meaning of registers. It does not
//! know which unit a device is, when it is asked, or what is done with a card.

mod card;
pub mod diagnostic;
pub mod document;
mod output;
mod plan;
mod read;
mod read_uid;
mod scope;
mod shipped;
mod tell;
mod text;
mod value;

#[cfg(test)]
mod contradictions_tests;
#[cfg(test)]
mod diagnostics_tests;

use crate::access::portal::Direction;

use crate::wire::modbus::{Request, Space};

pub use card::{UidLength, UidOrder, UidSays, UidSource};
pub use output::{Confirm, DEADLINE_MS_MAX, Output, Pulse};
pub use read::{read, read_file};
pub use shipped::{SHIPPED, shipped};
pub use text::{check_text, show, show_text};
pub use value::{Block, Value};

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

/// How to talk to a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// 0: the file's addresses are those of the protocol; 1: one more.
    pub address_base: u16,
    /// Most registers or bits in one read.
    pub read_max: u16,
    /// The slowest reply after which the device is silent for sure, in milliseconds.
    pub reply_ms: u32,
    /// As delivered, for people: unit and line.
    pub factory: String,
}

/// Order of the two bytes of a register, or of the registers of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Most significant first: what Modbus says for the bytes of a register.
    Big,
    /// Least significant first.
    Little,
}

/// What a point holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PointType {
    /// A coil, a discrete input, a bit of a register, or a register that is 0 or not.
    Bool,
    /// One register, unsigned.
    U16,
    /// One register, signed.
    I16,
    /// Two registers, unsigned.
    U32,
    /// Two registers, signed.
    I32,
    /// Two registers, IEEE 754 single.
    F32,
    /// Bytes, two in a register.
    Bytes,
    /// Bytes, one in a register, in its low half.
    ByteEach,
}

/// One named place in a device's registers.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// Its name.
    pub name: String,
    /// Which table.
    pub space: Space,
    /// First register or bit, from 0.
    pub address: u16,
    /// How many registers; 1 for bits.
    pub registers: u16,
    /// What it holds.
    pub kind: PointType,
    /// Which bit of the register, 0 the lowest, for [`PointType::Bool`] in a register; `None`: the register as a whole.
    pub bit: Option<u8>,
    /// Order of the bytes in a register.
    pub byte_order: Order,
    /// Order of the registers.
    pub word_order: Order,
    /// What the raw number is multiplied with.
    pub scale: f64,
    /// The unit after scaling.
    pub unit: Option<String>,
    /// Raw numbers that mean "nothing".
    pub invalid: Vec<i64>,
    /// How many of the same follow each other: the channels of a relay board.
    pub channels: u16,
    /// From one channel to the next, in registers or bits.
    pub stride: u16,
}

impl Point {
    /// The address of channel `channel`.
    #[must_use]
    pub fn address_of(&self, channel: u16) -> u16 {
        self.address.saturating_add(channel.saturating_mul(self.stride))
    }

    /// The first address after all channels.
    #[must_use]
    pub fn end(&self) -> u32 {
        u32::from(self.address)
            + u32::from(self.channels.saturating_sub(1)) * u32::from(self.stride)
            + u32::from(self.registers)
    }
}

/// What is asked together, and how often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Poll {
    /// Its name.
    pub name: String,
    /// How often, in milliseconds.
    pub every_ms: u32,
    /// Which points.
    pub points: Vec<String>,
    /// Whether one request must bring all of it, because halves of two moments would be a lie.
    pub atomic: bool,
    /// The requests, in order of address.
    pub reads: Vec<Request>,
}

/// What to write, for channel 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// Coil or holding.
    pub space: Space,
    /// Where, from 0.
    pub address: u16,
    /// What; raw, also for a coil.
    pub value: u16,
    /// Whether the device wants the function for many (FC 15, FC 16) although one is written.
    pub multiple: bool,
}

impl Write {
    /// The request that writes `value` in place of the profile's, `offset` places further.
    #[must_use]
    pub fn request(&self, offset: u16, value: u16) -> Request {
        let address = self.address.saturating_add(offset);
        match (self.space.is_bits(), self.multiple) {
            (true, false) => Request::WriteCoil { address, value },
            (true, true) => Request::WriteCoils { address, on: vec![value != 0] },
            (false, false) => Request::WriteRegister { address, value },
            (false, true) => Request::WriteRegisters { address, values: vec![value] },
        }
    }
}

/// How a reader says that there is a card.
#[derive(Clone, Debug, PartialEq)]
pub enum Trigger {
    /// The UID is there as long as the card is. With a point, that point says whether a card is there.
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
        /// What tells the device that its card was taken; the number itself is written. `None`: nothing to tell.
        acknowledge: Option<Write>,
    },
}

/// One card reader of a device.
#[derive(Clone, Debug, PartialEq)]
pub struct Reader {
    /// Its name in the file.
    pub id: String,
    /// Which way one passes at it, if the device tells readers apart.
    pub direction: Option<Direction>,
    /// How it says that there is a card.
    pub trigger: Trigger,
    /// How it says which.
    pub uid: UidSource,
    /// How long no card must be seen before it counts as gone, in milliseconds, beyond what a latch takes to be set again.
    pub gone_ms: u32,
}

impl Reader {
    /// How long no card is seen before it has left, in milliseconds; `None`: the reader does not tell.
    #[must_use]
    pub fn leaves_after_ms(&self) -> Option<u32> {
        match &self.trigger {
            Trigger::Level(_) => Some(self.gone_ms),
            Trigger::Latch { repeats_ms, .. } => repeats_ms.map(|repeats_ms| repeats_ms.saturating_add(self.gone_ms)),
            Trigger::Counter { .. } => None,
        }
    }
}

impl InputKind {
    /// Which way somebody passed, if that is what it tells.
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

impl Reader {
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
