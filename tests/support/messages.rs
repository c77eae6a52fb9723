//! Golden messages: what a device with MQTT topics of its own publishes and what it means, and what is published to it. They were written
//! from its documentation and its source, without this program, so a profile and its messages check each other.
//!
//! The first line of a file is `device NAME`. A block is a message of the device (`< TOPIC PAYLOAD`) with what it means, or an order
//! (`on CHANNEL`, `off CHANNEL`, `pulse CHANNEL MS`, `query CHANNEL`) with the message that is published for it (`> TOPIC PAYLOAD`).
//! Blocks of messages that come at a time (`@ TIME`) are for the unit tests of the portals, which know when a message is late.

use dormgate::access::input::Presented;
use dormgate::profile::InputKind;
use dormgate::profile::mqtt::{Names, Order, Output, Payload, Place, Profile, Reader};

const KINDS: [(&str, InputKind); 6] = [
    ("contact_open", InputKind::ContactOpen),
    ("exit_button", InputKind::ExitButton),
    ("tamper", InputKind::Tamper),
    ("fire", InputKind::Fire),
    ("overload", InputKind::Overload),
    ("restricted_load", InputKind::RestrictedLoad),
];

struct Message<'m> {
    topic: &'m str,
    payload: Payload<'m>,
}

impl Message<'_> {
    fn is_at(&self, place: &Place) -> bool {
        place.topic == self.topic
    }
}

struct Device<'d> {
    profile: &'d Profile,
    topic: &'d str,
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

    /// Whether the message means anything at all.
    fn means_anything(&self, message: &Message<'_>) -> bool {
        let channels = self.profile.output.as_ref().map_or(0, |output| output.channels);
        !matches!(self.card(message).as_str(), "none" | "wrong")
            || (0..channels).any(|channel| self.relay(message, channel).is_some())
            || self.online(message).is_some()
            || KINDS.iter().any(|(_, kind)| self.input(message, *kind, 0).is_some())
            || ["power", "energy"].iter().any(|what| self.measured(message, what).is_some())
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
            ["nothing"] => assert!(!self.means_anything(message), "{line}"),
            other => panic!("unknown meaning {other:?}"),
        }
    }
}

/// A topic and a payload.
fn split(text: &str) -> (&str, &str) {
    text.split_once(' ').unwrap_or((text, ""))
}

/// Holds `profile` against the blocks of `golden`.
pub fn run(profile: &Profile, golden: &str) {
    let (head, blocks) = golden.split_once('\n').unwrap();
    let topic = head.strip_prefix("device ").unwrap_or_else(|| panic!("the first line is `device NAME`, not `{head}`"));
    let device = Device { profile, topic };
    for block in blocks.split("\n\n") {
        let mut lines = block.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
        let Some(first) = lines.next() else { continue };
        if first.starts_with("@ ") {
            continue;
        }
        println!("{}: {first}", profile.id);
        if let Some(sent) = first.strip_prefix("< ") {
            let (topic, payload) = split(sent);
            let message = Message { topic, payload: Payload::new(payload.as_bytes()) };
            let meanings: Vec<&str> = lines.collect();
            assert!(!meanings.is_empty(), "{first}: what does it mean?");
            meanings.iter().for_each(|line| device.means(&message, line));
            continue;
        }
        let order = device.order(&first.split_whitespace().collect::<Vec<_>>());
        let wanted =
            lines.next().and_then(|line| line.strip_prefix("> ")).unwrap_or_else(|| panic!("{first}: no message"));
        let (topic, payload) = split(wanted);
        assert_eq!((order.topic.as_str(), order.payload.as_str()), (topic, payload), "{first}");
        assert_eq!(lines.next(), None, "{first}");
    }
}
