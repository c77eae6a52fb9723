//! A checked profile of a device with MQTT topics of its own; and the same for one device, with its names filled in.

use serde::Deserialize;

use crate::access::portal::Direction;
use crate::access::transform::{Form, Transform};
use crate::profile::model::{InputKind, OnLinkLoss, UidContent, UidOrder, part_names};

/// Longest name of a device in a topic, in bytes.
pub const TOPIC_BYTES_MAX: usize = 128;
/// Most channels of a device.
pub const CHANNELS_MAX: u16 = 64;

/// A checked profile. Its topics, pointers and payloads have placeholders, see [`Names`].
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    /// The name a configuration uses.
    pub id: String,
    /// The product's name.
    pub name: String,
    /// Where its topics and payloads were found.
    pub source: String,
    /// What an installer has to know.
    pub caveats: Vec<String>,
    /// What is entered at the device before it works with this profile, a line each.
    pub setup: Vec<String>,
    /// What it was tried on; empty: it was not tried yet.
    pub verified_on: Vec<String>,
    /// What the device does with its outputs when it loses the broker.
    pub on_link_loss: OnLinkLoss,
    /// How it is known that the device is connected; at least one.
    pub available: Vec<Available>,
    /// How long after it connected what it sends may be older than that, in milliseconds.
    pub start_ms: u32,
    /// Its card reader.
    pub reader: Option<Reader>,
    /// Its relays or locks.
    pub output: Option<Output>,
    /// Its contacts and buttons.
    pub inputs: Vec<Input>,
    /// Its meter.
    pub meter: Option<Meter>,
}

/// What stands in the placeholders of a profile.
///
/// | placeholder | of a device with `topic = "door"`, `channel = 0` |
/// |---|---|
/// | `{topic}` | `door` |
/// | `{channel}` | `0` |
/// | `{number}` | `1`, the channel counted from 1 |
/// | `{hold_ms}`, `{hold_s}` | of a pulse: its time in milliseconds; in seconds, as a decimal number |
#[derive(Clone, Copy, Debug)]
pub struct Names<'n> {
    /// The device's name in its topics.
    pub topic: &'n str,
    /// Which of its channels; 0 is the first.
    pub channel: u16,
}

impl Names<'_> {
    /// `pattern` with these names.
    #[must_use]
    pub fn fill(&self, pattern: &str) -> String {
        pattern
            .replace("{number}", &(u32::from(self.channel) + 1).to_string())
            .replace("{channel}", &self.channel.to_string())
            .replace("{topic}", self.topic)
    }
}

/// Where a value stands: in a topic, and there in a JSON payload or as the whole text.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// The topic.
    pub topic: String,
    /// The JSON pointer (RFC 6901) to the value; `None`: the payload is the value, as plain text.
    pub at: Option<String>,
    /// Only in payloads in which the value at the first pointer is the second text.
    pub only: Option<(String, String)>,
    /// A retained message counts: it is what the device last reported. Never of cards, buttons and fire.
    pub retained: bool,
}

impl Place {
    fn of(&self, names: Names<'_>) -> Self {
        Self {
            topic: names.fill(&self.topic),
            at: self.at.as_ref().map(|at| names.fill(at)),
            only: self.only.as_ref().map(|(at, is)| (names.fill(at), names.fill(is))),
            retained: self.retained,
        }
    }
}

/// A value that means yes or no.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Two {
    /// Where.
    pub place: Place,
    /// The text that means yes, in upper or lower case.
    pub yes: String,
    /// The text that means no.
    pub no: String,
    /// The only channel whose value stands there; `None`: that of each, by its placeholders.
    pub channel: Option<u16>,
}

impl Two {
    /// The same for one device.
    #[must_use]
    pub fn of(&self, names: Names<'_>) -> Self {
        Self { place: self.place.of(names), yes: names.fill(&self.yes), no: names.fill(&self.no), ..self.clone() }
    }
}

/// How it is known that a device is connected.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Available {
    /// Yes: it is connected. Usually the last will of the device or of its bridge, retained.
    pub is: Two,
    /// Without a message it counts as not connected; else only a message that it is not.
    pub needed: bool,
}

/// How a reader writes a UID.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum UidForm {
    /// In hex digits of either case, with or without `:`, `-`, `.` or spaces between bytes.
    Hex,
    /// As a number, or as text with its decimal digits; as hex digits with an `h` behind or `0x` before them.
    Number,
}

/// How a reader reports a UID.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uid {
    /// How it is written.
    pub form: UidForm,
    /// The order of its bytes; of a lossy reader, the end of the UID at which its transform begins.
    pub order: UidOrder,
    /// The whole UID, or a part.
    pub content: UidContent,
}

impl Uid {
    /// The transform of a lossy reader; `None`: the reader gives whole UIDs.
    #[must_use]
    pub fn transform(&self) -> Option<Transform> {
        self.content.transform(self.order)
    }

    /// What the reader makes of every UID, if it loses a part.
    #[must_use]
    pub fn form(&self) -> Option<Form> {
        self.transform().map(|transform| transform.form)
    }
}

/// The card reader of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reader {
    /// Where the UID stands.
    pub place: Place,
    /// How it is written.
    pub uid: Uid,
    /// Which way one passes at it.
    pub direction: Option<Direction>,
    /// The same card within this time after its first message is the same presentation, in milliseconds.
    pub again_ms: u32,
    /// The card is reported again within this time as long as it is there, in milliseconds; `None`: once, when it comes.
    pub repeats_ms: Option<u32>,
    /// How long after that a card that is not reported has left, in milliseconds.
    pub gone_ms: u32,
    /// Where a message reports that the card has left, and the text that it then has.
    pub removed: Option<(Place, String)>,
    /// It repeats that message, too, as long as no card is there.
    pub removed_repeats: bool,
    /// The pointer to the time of the message, by which one that was delivered twice or late is known.
    pub stamp: Option<String>,
}

impl Reader {
    /// How long no card is reported before it has left, in milliseconds; `None`: the reader does not report reliably that a card leaves.
    pub(crate) fn leaves_after_ms(&self) -> Option<u32> {
        self.repeats_ms.map(|repeats_ms| repeats_ms.saturating_add(self.gone_ms))
    }

    /// Where it reports cards, and that one has left.
    pub(crate) fn places(&self) -> impl Iterator<Item = &Place> {
        std::iter::once(&self.place).chain(self.removed.as_ref().map(|(place, _)| place))
    }

    /// The same for one device.
    #[must_use]
    pub fn of(&self, names: Names<'_>) -> Self {
        let removed = self.removed.as_ref().map(|(place, is)| (place.of(names), names.fill(is)));
        Self {
            place: self.place.of(names),
            removed,
            stamp: self.stamp.as_ref().map(|at| names.fill(at)),
            ..self.clone()
        }
    }
}

/// A message that is published to a device.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Order {
    /// Where.
    pub topic: String,
    /// What.
    pub payload: String,
}

impl Order {
    fn of(&self, names: Names<'_>) -> Self {
        Self { topic: names.fill(&self.topic), payload: names.fill(&self.payload) }
    }
}

/// Who ends a pulse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pulse {
    /// The device: a door closes although the gateway or the broker has failed.
    Device {
        /// The order; its placeholders are also `{hold_ms}` and `{hold_s}`.
        order: Order,
        /// The time is rounded up to a multiple of this, in milliseconds.
        step_ms: u32,
        /// Longest time, in milliseconds.
        max_ms: u32,
    },
    /// The gateway: on, wait, off. When the gateway starts, it switches everything off.
    Gateway,
}

/// How a device confirms an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confirm {
    /// How long a device may take to report the state after an order, in milliseconds.
    pub within_ms: u32,
    /// It reports the state after each order. If not, it reports only changes, and its last report stands.
    pub each: bool,
    /// Asks for the state; `None`: the device cannot be asked.
    pub query: Option<Order>,
}

/// The relays or locks of a device: channels of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// How many.
    pub channels: u16,
    /// Switches on, or unlocks.
    pub on: Order,
    /// Switches off, or locks.
    pub off: Order,
    /// Switches on for a limited time.
    pub pulse: Pulse,
    /// Where the state is reported; yes: on. Any of them counts.
    pub state: Vec<Two>,
    /// How an order is confirmed.
    pub confirm: Confirm,
    /// How often a release is tried again within its deadline. An order to switch off is tried until it is confirmed.
    pub retry: u16,
    /// When a release that is not confirmed has failed, in milliseconds after its order.
    pub deadline_ms: u32,
}

impl Output {
    /// The same for one channel of a device.
    #[must_use]
    pub fn of(&self, names: Names<'_>) -> Self {
        let state = self.state.iter().filter(|two| two.channel.is_none_or(|only| only == names.channel));
        let pulse = match &self.pulse {
            Pulse::Device { order, step_ms, max_ms } => {
                Pulse::Device { order: order.of(names), step_ms: *step_ms, max_ms: *max_ms }
            }
            Pulse::Gateway => Pulse::Gateway,
        };
        Self {
            on: self.on.of(names),
            off: self.off.of(names),
            pulse,
            state: state.map(|two| two.of(names)).collect(),
            confirm: Confirm { query: self.confirm.query.as_ref().map(|q| q.of(names)), ..self.confirm },
            ..self.clone()
        }
    }

    /// The message that switches on for `hold_ms`, rounded up to the device's steps and limited to its longest time; and that time in
    /// milliseconds. `None`: the gateway has to end the pulse.
    #[must_use]
    pub fn pulse(&self, hold_ms: u32) -> Option<(Order, u32)> {
        let Pulse::Device { order, step_ms, max_ms } = &self.pulse else { return None };
        let step_ms = (*step_ms).max(1);
        let lasts_ms = hold_ms.div_ceil(step_ms).max(1).saturating_mul(step_ms).min(*max_ms);
        let seconds = f64::from(lasts_ms) / 1000.0;
        let payload = order.payload.replace("{hold_ms}", &lasts_ms.to_string());
        let payload = payload.replace("{hold_s}", &seconds.to_string());
        Some((Order { topic: order.topic.clone(), payload }, lasts_ms))
    }
}

/// One contact or button.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// What it means.
    pub kind: InputKind,
    /// Where it is reported.
    pub is: Two,
}

/// The meter of a device: where a number stands, and its factor to watts or kilowatt-hours.
#[derive(Clone, Debug, PartialEq)]
pub struct Meter {
    /// Active power and the factor to watts.
    pub power: Option<(Place, f64)>,
    /// Active energy and the factor to kilowatt-hours.
    pub energy: Option<(Place, f64)>,
}

impl Meter {
    /// The same for one channel of a device.
    #[must_use]
    pub fn of(&self, names: Names<'_>) -> Self {
        let of = |value: &Option<(Place, f64)>| value.as_ref().map(|(place, factor)| (place.of(names), *factor));
        Self { power: of(&self.power), energy: of(&self.energy) }
    }

    /// Where its numbers stand.
    pub(crate) fn places(&self) -> impl Iterator<Item = &Place> {
        [&self.power, &self.energy].into_iter().flatten().map(|(place, _)| place)
    }
}

impl Profile {
    /// The parts of a portal that it can be, for people.
    #[must_use]
    pub fn parts(&self) -> Vec<&'static str> {
        let Self { reader, output, inputs, meter, .. } = self;
        part_names([reader.is_some(), output.is_some(), !inputs.is_empty(), meter.is_some()])
    }

    /// How it is known that this device is connected.
    #[must_use]
    pub fn available(&self, topic: &str) -> Vec<Available> {
        let names = Names { topic, channel: 0 };
        self.available.iter().map(|of| Available { is: of.is.of(names), needed: of.needed }).collect()
    }

    /// The inputs of one channel.
    #[must_use]
    pub fn inputs(&self, names: Names<'_>) -> Vec<Input> {
        let own = self.inputs.iter().filter(|input| input.is.channel.is_none_or(|only| only == names.channel));
        own.map(|input| Input { kind: input.kind, is: input.is.of(names) }).collect()
    }

    /// Every topic pattern that the device publishes to.
    pub fn published(&self) -> impl Iterator<Item = &str> {
        let reader = self.reader.iter().flat_map(Reader::places);
        let output = self.output.iter().flat_map(|output| output.state.iter().map(|two| &two.place));
        let meter = self.meter.iter().flat_map(Meter::places);
        let available = self.available.iter().map(|of| &of.is.place);
        let inputs = self.inputs.iter().map(|input| &input.is.place);
        reader.chain(output).chain(meter).chain(inputs).chain(available).map(|place| place.topic.as_str())
    }
}
