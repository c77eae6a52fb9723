//! Golden messages: what a device with MQTT topics of its own publishes and what it means, and what is published to it. They were written
//! from its documentation and its source, without this program, so a profile and its messages check each other.
//!
//! The first line of a file is `device NAME`. A block is a message of the device (`< TOPIC PAYLOAD`) with what it means, or an order
//! (`on CHANNEL`, `off CHANNEL`, `pulse CHANNEL MS`, `query CHANNEL`) with the message that is published for it (`> TOPIC PAYLOAD`).
//! `reversed UID` beside `card`: the card that a copy of the profile with the other `order` reads.
//!
//! Blocks of messages that come at a time (`@ TIME`), and of a message that the broker has retained (`<r TOPIC PAYLOAD`), are for the unit
//! tests of the portals, which know what is old: `old CARD` is one that opens nothing, and `old` alone one of a reader that repeats it.

use dormgate::access::id::CardUid;
use dormgate::access::input::Presented;
use dormgate::profile::mqtt::{Names, Order, Output, Payload, Place, Profile, Reader};
use dormgate::profile::{InputKind, UidOrder};

const KINDS: [(&str, InputKind); 6] = [
    ("contact_open", InputKind::ContactOpen),
    ("exit_button", InputKind::ExitButton),
    ("tamper", InputKind::Tamper),
    ("fire", InputKind::Fire),
    ("overload", InputKind::Overload),
    ("restricted_load", InputKind::RestrictedLoad),
];

pub struct Message<'m> {
    pub topic: &'m str,
    pub payload: Payload<'m>,
}

impl Message<'_> {
    fn is_at(&self, place: &Place) -> bool {
        place.topic == self.topic
    }
}

/// A message of a golden file.
pub struct Sent<'g> {
    pub retained: bool,
    pub topic: &'g str,
    pub payload: &'g str,
    pub meanings: Vec<&'g str>,
}

impl Sent<'_> {
    pub fn message(&self) -> Message<'_> {
        Message { topic: self.topic, payload: Payload::new(self.payload.as_bytes()) }
    }
}

pub struct Device<'d> {
    pub profile: &'d Profile,
    pub topic: &'d str,
}

impl Device<'_> {
    fn names(&self, channel: u16) -> Names<'_> {
        Names { topic: self.topic, channel }
    }

    fn output(&self, channel: u16) -> Output {
        self.profile.output.as_ref().unwrap().of(self.names(channel))
    }

    fn reader(&self) -> Option<Reader> {
        self.profile.reader.as_ref().map(|reader| reader.of(self.names(0)))
    }

    fn order(&self, words: &[&str]) -> Order {
        let output = self.output(words[1].parse().unwrap());
        match words {
            ["on", _] => output.on,
            ["off", _] => output.off,
            ["pulse", _, ms] => output.pulse(ms.parse().unwrap()).unwrap().0,
            ["query", _] => output.confirm.query.unwrap(),
            other => panic!("unknown order {other:?}"),
        }
    }

    fn card(&self, message: &Message<'_>) -> String {
        let Some(reader) = self.reader().filter(|reader| message.is_at(&reader.place)) else { return "none".into() };
        match message.payload.card(&reader) {
            Ok(None) => "none".to_owned(),
            Ok(Some(Presented::Card(uid))) => uid.to_string(),
            Ok(Some(Presented::Lossy(reading))) => format!("{:X}:{}", reading.value, reading.transform),
            Ok(Some(Presented::Malformed(text))) => format!("malformed:{text}"),
            Err(_) => "wrong".to_owned(),
        }
    }

    /// Whether a reader with this order of bytes reports the card `uid`.
    fn is_card(&self, message: &Message<'_>, order: UidOrder, uid: CardUid) -> bool {
        let mut reader = self.reader().unwrap();
        reader.uid.order = order;
        match message.payload.card(&reader).unwrap().unwrap() {
            Presented::Card(card) => card == uid,
            Presented::Lossy(reading) => reading == reading.transform.read(uid),
            Presented::Malformed(_) => false,
        }
    }

    fn relay(&self, message: &Message<'_>, channel: u16) -> Option<bool> {
        let states = self.output(channel).state;
        states.iter().filter(|two| message.is_at(&two.place)).find_map(|two| message.payload.two(two).ok()?)
    }

    fn online(&self, message: &Message<'_>) -> Option<bool> {
        let available = self.profile.available(self.topic);
        let is_at = available.iter().filter(|of| message.is_at(&of.is.place));
        is_at.map(|of| message.payload.connected(&of.is).ok().flatten()).next().flatten()
    }

    fn input(&self, message: &Message<'_>, kind: InputKind, channel: u16) -> Option<bool> {
        let inputs = self.profile.inputs(self.names(channel));
        let is_at = inputs.iter().filter(|input| input.kind == kind && message.is_at(&input.is.place));
        is_at.map(|input| message.payload.two(&input.is).ok().flatten()).next().flatten()
    }

    fn measured(&self, message: &Message<'_>, what: &str) -> Option<f64> {
        let meter = self.profile.meter.as_ref()?.of(self.names(0));
        let (place, factor) = if what == "power" { meter.power? } else { meter.energy? };
        let number = message.payload.number(&place).ok().flatten().filter(|_| message.is_at(&place))?;
        Some(number * factor)
    }

    /// The parts of the device, as a profile names them, to which the message means something; of inputs and meters, those of channel 0.
    pub fn parts(&self, message: &Message<'_>) -> Vec<&'static str> {
        let channels = self.profile.output.as_ref().map_or(0, |output| output.channels);
        let parts = [
            ("available", self.online(message).is_some()),
            ("reader", !matches!(self.card(message).as_str(), "none" | "wrong")),
            ("output", (0..channels).any(|channel| self.relay(message, channel).is_some())),
            ("inputs", KINDS.iter().any(|(_, kind)| self.input(message, *kind, 0).is_some())),
            ("meter", ["power", "energy"].iter().any(|what| self.measured(message, what).is_some())),
        ];
        parts.iter().filter(|(_, means)| *means).map(|(part, _)| *part).collect()
    }

    fn means(&self, message: &Message<'_>, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let yes_no = |text: &str| match text {
            "yes" | "on" => Some(true),
            "no" | "off" => Some(false),
            "none" => None,
            other => panic!("{other}"),
        };
        let number = |text: &str| text.parse::<f64>().unwrap();
        match words.as_slice() {
            ["card", wanted] => assert_eq!(self.card(message), *wanted, "{line}"),
            ["reversed", uid] => {
                let is = |order| self.is_card(message, order, uid.parse().unwrap());
                let other = match self.profile.reader.as_ref().unwrap().uid.order {
                    UidOrder::MsbFirst => UidOrder::LsbFirst,
                    UidOrder::LsbFirst => UidOrder::MsbFirst,
                };
                assert!(is(other) && !is(self.profile.reader.as_ref().unwrap().uid.order), "{line}");
            }
            ["left"] => assert_eq!(message.payload.removed(&self.reader().unwrap()), Ok(true), "{line}"),
            ["relay", channel, wanted] => {
                assert_eq!(self.relay(message, channel.parse().unwrap()), yes_no(wanted), "{line}");
            }
            ["online", wanted] => assert_eq!(self.online(message), yes_no(wanted), "{line}"),
            ["input", kind, channel, wanted] => {
                let kind = KINDS.iter().find(|(name, _)| name == kind).unwrap().1;
                assert_eq!(self.input(message, kind, channel.parse().unwrap()), yes_no(wanted), "{line}");
            }
            [what @ ("power" | "energy"), wanted, "W" | "kWh"] => {
                let got = self.measured(message, what).unwrap_or_else(|| panic!("{line}: not measured"));
                assert!((got - number(wanted)).abs() < 1e-6, "{line}: got {got}");
            }
            ["nothing"] => assert_eq!(self.parts(message), Vec::<&str>::new(), "{line}"),
            other => panic!("unknown meaning {other:?}"),
        }
    }
}

/// A topic and a payload.
fn split(text: &str) -> (&str, &str) {
    text.split_once(' ').unwrap_or((text, ""))
}

/// The name of the device, and the blocks without their comments.
fn blocks(golden: &str) -> (&str, impl Iterator<Item = Vec<&str>>) {
    let (head, blocks) = golden.split_once('\n').unwrap();
    let topic = head.strip_prefix("device ").unwrap_or_else(|| panic!("the first line is `device NAME`, not `{head}`"));
    (topic, blocks.split("\n\n").map(lines_of).filter(|lines| !lines.is_empty()))
}

fn lines_of(block: &str) -> Vec<&str> {
    block.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty()).collect()
}

fn sent<'g>(block: &[&'g str]) -> Option<Sent<'g>> {
    let (first, meanings) = block.split_first().unwrap();
    let (mark, message) = split(first);
    let retained = mark == "<r";
    let (topic, payload) = split(message);
    (retained || mark == "<").then(|| Sent { retained, topic, payload, meanings: meanings.to_vec() })
}

/// The name of the device and its messages, without those that come at a time.
pub fn messages(golden: &str) -> (&str, Vec<Sent<'_>>) {
    let (topic, blocks) = blocks(golden);
    (topic, blocks.filter_map(|block| sent(&block)).collect())
}

/// Holds `profile` against the blocks of `golden`.
pub fn run(profile: &Profile, golden: &str) {
    let (topic, blocks) = blocks(golden);
    let device = Device { profile, topic };
    for block in blocks.filter(|block| !block[0].starts_with("@ ")) {
        let first = block[0];
        println!("{}: {first}", profile.id);
        if let Some(sent) = sent(&block) {
            assert!(!sent.meanings.is_empty(), "{first}: what does it mean?");
            if !sent.retained {
                sent.meanings.iter().for_each(|line| device.means(&sent.message(), line));
            }
            continue;
        }
        let order = device.order(&first.split_whitespace().collect::<Vec<_>>());
        let wanted = block.get(1).and_then(|line| line.strip_prefix("> "));
        let wanted = split(wanted.unwrap_or_else(|| panic!("{first}: no message")));
        assert_eq!((order.topic.as_str(), order.payload.as_str()), wanted, "{first}");
        assert_eq!(block.get(2), None, "{first}");
    }
}
