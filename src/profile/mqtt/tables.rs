//! What the tables of a profile have in common: places in topics and payloads, texts that mean yes and no, orders, placeholders.

use serde::Deserialize;

use super::model::{CHANNELS_MAX, Order, Place, Two};
use crate::profile::diagnostic::hint;
use crate::profile::document::{Key, Log, Whole};

/// The placeholders of topics, pointers and texts.
const PLACEHOLDERS: [&str; 3] = ["topic", "channel", "number"];
/// Those of the payload of a pulse, beside them.
const OF_A_PULSE: [&str; 2] = ["hold_ms", "hold_s"];
/// Topics of native portals, and of the gateway itself.
const OWN_TOPICS: &str = "dormgate/v1/";
/// Number of channels of a device.
pub(super) type Channels = Whole<1, { CHANNELS_MAX as i64 }>;

/// A text as a device writes it: text, a number, `true` or `false`.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged, expecting = "text in quotes, a number, `true` or `false` is wanted")]
pub(super) enum Word {
    Flag(bool),
    Whole(i64),
    Real(f64),
    Text(String),
}

impl Word {
    pub(super) fn text(&self) -> String {
        match self {
            Self::Flag(flag) => flag.to_string(),
            Self::Whole(number) => number.to_string(),
            Self::Real(number) => number.to_string(),
            Self::Text(text) => text.clone(),
        }
    }
}

/// The unit of a measured value.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, strum::Display)]
pub(super) enum Unit {
    W,
    #[serde(rename = "kW")]
    #[strum(serialize = "kW")]
    KW,
    #[serde(rename = "kWh")]
    #[strum(serialize = "kWh")]
    KWh,
    Wh,
}

impl Unit {
    /// The factor to watts or kilowatt-hours.
    pub(super) fn factor(self) -> f64 {
        match self {
            Self::W | Self::KWh => 1.0,
            Self::KW => 1000.0,
            Self::Wh => 0.001,
        }
    }
}

#[derive(Deserialize)]
pub(super) struct OnlyTable {
    pub(super) at: Key<String>,
    pub(super) is: Key<Word>,
}

/// A value that means yes or no.
#[derive(Deserialize)]
pub(super) struct TwoTable {
    pub(super) topic: Key<String>,
    pub(super) at: Key<String>,
    pub(super) only: Key<OnlyTable>,
    pub(super) yes: Key<Word>,
    pub(super) no: Key<Word>,
    pub(super) retained: Key<bool>,
    pub(super) channel: Key<Whole<0, { CHANNELS_MAX as i64 - 1 }>>,
    pub(super) needed: Key<bool>,
}

#[derive(Deserialize)]
pub(super) struct OrderTable {
    pub(super) topic: Key<String>,
    pub(super) payload: Key<String>,
}

/// Reads what the tables have in common.
pub(super) struct Scope<'d> {
    pub(super) log: &'d Log,
}

impl Scope<'_> {
    /// Reports placeholders that do not exist.
    fn placeholders(&self, key: &Key<String>, text: &str, of_a_pulse: bool) {
        for part in text.split('{').skip(1) {
            let Some((name, _)) = part.split_once('}') else { continue };
            // A brace before anything else begins a JSON object.
            let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            let known = || PLACEHOLDERS.into_iter().chain(OF_A_PULSE.into_iter().filter(|_| of_a_pulse));
            if is_name && !known().any(|known| known == name) {
                key.wrong(self.log, format!("`{{{name}}}` is not a placeholder; {}", hint(name, known())));
            }
        }
    }

    /// A topic. One in which the name of the device is missing is reported if `named`.
    pub(super) fn topic(&self, key: &Key<String>, named: bool) -> Option<String> {
        let topic = key.need(self.log, "write the topic, with `{topic}` where the name of the device is")?;
        let wrong = if topic.is_empty() || topic.contains(['+', '#', '\0']) {
            "a topic without wildcards is wanted: write `{topic}` where the name of the device is"
        } else if topic.starts_with(OWN_TOPICS) {
            "these are the topics of native portals (`device = { mqtt = \"native\" }`); a device has its own"
        } else if named && !topic.contains("{topic}") {
            "the name of the device is missing, so all devices would be one: write `{topic}` where it stands"
        } else {
            self.placeholders(key, topic, false);
            return Some(topic.clone());
        };
        key.wrong(self.log, wrong);
        None
    }

    /// A JSON pointer.
    pub(super) fn pointer(&self, key: &Key<String>) -> Option<String> {
        let at = key.get()?;
        if !at.starts_with('/') {
            let message = format!("a JSON pointer begins with `/`: write `/{at}`; for plain text leave it out");
            key.wrong(self.log, message);
        }
        self.placeholders(key, at, false);
        Some(at.clone())
    }

    fn only(&self, key: &Key<OnlyTable>) -> Option<(String, String)> {
        let table = key.get()?;
        table.at.need(self.log, "write the JSON pointer to the value, e.g. `at = \"/Wiegand/Size\"`");
        let is = table.is.need(self.log, "write the value that it must have, e.g. `is = 34`").map(Word::text);
        Some((self.pointer(&table.at)?, is?))
    }

    /// A place; a retained message does not count there.
    pub(super) fn place(&self, topic: &Key<String>, at: &Key<String>, only: &Key<OnlyTable>) -> Option<Place> {
        let topic = self.topic(topic, true);
        let (at, only) = (self.pointer(at), self.only(only));
        Some(Place { topic: topic?, at, only, retained: false })
    }

    /// A value that means yes or no; in the topic of one device if `named`.
    pub(super) fn two(&self, t: &TwoTable, named: bool) -> Option<Two> {
        let log = self.log;
        let topic = self.topic(&t.topic, named);
        let (at, only) = (self.pointer(&t.at), self.only(&t.only));
        let yes = t.yes.need(log, "write the text that means yes, e.g. `yes = \"ON\"`").map(Word::text);
        let no = t.no.need(log, "write the text that means no, e.g. `no = \"OFF\"`").map(Word::text);
        if yes.is_some() && yes.as_ref().map(|t| t.to_ascii_lowercase()) == no.as_ref().map(|t| t.to_ascii_lowercase())
        {
            t.no.wrong(log, "`yes` is the same, so it would mean nothing: correct one of them");
        }
        let place = Place { topic: topic?, at, only, retained: t.retained.or(false) };
        let channel = t.channel.get().map(|_| t.channel.number(0));
        Some(Two { place, yes: yes?, no: no?, channel })
    }

    /// An order.
    pub(super) fn order(&self, topic: &Key<String>, payload: &Key<String>, of_a_pulse: bool) -> Option<Order> {
        let topic = self.topic(topic, true);
        let text = payload.need(self.log, "write what is published; `payload = \"\"` for nothing")?;
        self.placeholders(payload, text, of_a_pulse);
        Some(Order { topic: topic?, payload: text.clone() })
    }
}
