//! From the payload of a message to what it reports: cards, states, measured values; and back, for simulated devices.

use std::cell::OnceCell;

use serde_json::{Map, Number, Value};

use super::model::{Place, Reader, Two, Uid, UidForm};
use crate::access::id::CardUid;
use crate::access::input::Presented;
use crate::access::transform::{Form, Reading};
use crate::profile::model::{UidContent, UidOrder};
use crate::wire::text::quoted_len;
use crate::wire::wanted::kind;

/// Longest payload that is decoded, in bytes. What a device reports has some hundred.
pub const PAYLOAD_BYTES_MAX: usize = 64 * 1024;
/// Most characters of a value that is not a UID, in the audit.
const QUOTED_CHARS_MAX: usize = 64;
/// From here on not every whole number is one as a floating point number, and it may be another card.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
/// Time zones differ by whole quarters of an hour, in seconds...
const ZONE_STEP_S: f64 = 900.0;
/// ...and at most by this from UTC, in seconds.
const ZONE_S_MAX: f64 = 14.0 * 3_600.0;

/// A payload. JSON is parsed once, when it is first needed.
pub struct Payload<'p> {
    text: Result<&'p str, &'static str>,
    json: OnceCell<Result<Value, String>>,
}

/// The time that a message carries, in seconds of the device's own clock.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stamp {
    /// Since 1970, if its clock is right and its zone is known.
    seconds: f64,
    /// It is local time, of a zone that the message does not name.
    is_local: bool,
}

impl Stamp {
    /// How much later than `earlier` it is, in seconds.
    #[must_use]
    pub fn seconds_after(self, earlier: Self) -> f64 {
        self.seconds - earlier.seconds
    }

    /// Whether it is the time `wall_s`, in seconds since 1970, within `within_s`: a local time in any time zone.
    #[must_use]
    pub fn agrees_with(self, wall_s: f64, within_s: f64) -> bool {
        let ahead_s = self.seconds - wall_s;
        let zone_s = if self.is_local { (ahead_s / ZONE_STEP_S).round() * ZONE_STEP_S } else { 0.0 };
        (ahead_s - zone_s).abs() <= within_s && zone_s.abs() <= ZONE_S_MAX
    }
}

impl<'p> Payload<'p> {
    /// The payload of these bytes. White space, NUL and a byte order mark around it are dropped.
    #[must_use]
    pub fn new(bytes: &'p [u8]) -> Self {
        let text = match std::str::from_utf8(bytes) {
            _ if bytes.len() > PAYLOAD_BYTES_MAX => Err("it is longer than 64 KiB"),
            Ok(text) => Ok(text.trim_matches(|c: char| c.is_whitespace() || c == '\0' || c == '\u{feff}')),
            Err(_) => Err("it is not UTF-8"),
        };
        Self { text, json: OnceCell::new() }
    }

    fn json(&self) -> Result<&Value, String> {
        let parse = || {
            let read = |text: &str| serde_json::from_str(text);
            let text = self.text?;
            let again = |_: &serde_json::Error| text.starts_with('{').then(|| read(&nulled(text)).ok()).flatten();
            read(text).or_else(|error| again(&error).ok_or_else(|| format!("it is not JSON: {error}")))
        };
        self.json.get_or_init(parse).as_ref().map_err(Clone::clone)
    }

    /// The value at a pointer; `None`: it is absent or `null`.
    fn pointed(&self, at: &str) -> Result<Option<Value>, String> {
        Ok(self.json()?.pointer(at).filter(|value| !value.is_null()).cloned())
    }

    /// The value at `place`; `None`: it is not in this payload.
    fn value(&self, place: &Place) -> Result<Option<Value>, String> {
        if let Some((at, is)) = &place.only
            && self.pointed(at)?.is_none_or(|value| !is_text(&value, is))
        {
            return Ok(None);
        }
        match &place.at {
            Some(at) => self.pointed(at),
            None => Ok(Some(Value::from(self.text?)).filter(|value| value != "")),
        }
    }

    /// Whether `two` is yes or no; `None`: this payload does not report it.
    pub fn two(&self, two: &Two) -> Result<Option<bool>, String> {
        Ok(self.value(&two.place)?.and_then(|value| {
            let [yes, no] = [&two.yes, &two.no].map(|text| is_text(&value, text));
            (yes != no).then_some(yes)
        }))
    }

    /// Whether the device or its bridge is connected; `None`: this payload does not report it. Where JSON is expected, the word alone counts
    /// too: Zigbee2MQTT publishes the one or the other, by its version and settings.
    pub fn connected(&self, of: &Two) -> Result<Option<bool>, String> {
        if of.place.only.is_none()
            && let Ok(text) = self.text
        {
            let [yes, no] = [&of.yes, &of.no].map(|word| text.eq_ignore_ascii_case(word));
            if yes != no {
                return Ok(Some(yes));
            }
        }
        self.two(of)
    }

    /// The number at `place`, also where it is written as text; `None`: this payload does not report it.
    pub fn number(&self, place: &Place) -> Result<Option<f64>, String> {
        let Some(value) = self.value(place)? else { return Ok(None) };
        let number = match &value {
            Value::Number(number) => number.as_f64(),
            Value::String(text) => text.trim().parse().ok(),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
        };
        let number = number.filter(|number: &f64| number.is_finite());
        // What is there may be the UID of a card.
        number.map(Some).ok_or_else(|| format!("a number is wanted, got {}", kind(&value.to_string()).1))
    }

    /// The card that the reader reports; `None`: this payload reports none. The error names why the payload cannot be read. A value that
    /// is not a UID is a card that cannot be read.
    pub fn card(&self, reader: &Reader) -> Result<Option<Presented>, String> {
        Ok(self.value(&reader.place)?.and_then(|value| reader.uid.read(&value)))
    }

    /// Whether it reports that the card has left.
    pub fn removed(&self, reader: &Reader) -> Result<bool, String> {
        let Some((place, is)) = &reader.removed else { return Ok(false) };
        Ok(self.value(place)?.is_some_and(|value| is_text(&value, is)))
    }

    /// The time that the message carries; `None`: none that can be read.
    #[must_use]
    pub fn stamp(&self, reader: &Reader) -> Option<Stamp> {
        let value = self.pointed(reader.stamp.as_ref()?).ok()??;
        match &value {
            Value::Number(number) => Some(Stamp { seconds: number.as_f64()?, is_local: false }),
            Value::String(text) => stamp_of(text.trim()),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
        }
    }
}

/// Whether a value is this text, in upper or lower case.
fn is_text(value: &Value, text: &str) -> bool {
    match value {
        Value::String(found) => found.trim().eq_ignore_ascii_case(text),
        Value::Number(_) | Value::Bool(_) => value.to_string().eq_ignore_ascii_case(text),
        Value::Null | Value::Array(_) | Value::Object(_) => false,
    }
}

/// The time that a text shows: of the device's own clock, with or without its difference to UTC, or a number of seconds.
fn stamp_of(text: &str) -> Option<Stamp> {
    const EPOCH: jiff::civil::DateTime = jiff::civil::date(1970, 1, 1).at(0, 0, 0, 0);
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Some(Stamp { seconds: time.as_duration().as_secs_f64(), is_local: false });
    }
    if let Ok(local) = text.parse::<jiff::civil::DateTime>() {
        return Some(Stamp { seconds: local.duration_since(EPOCH).as_secs_f64(), is_local: true });
    }
    let seconds = text.parse().ok().filter(|seconds: &f64| seconds.is_finite())?;
    Some(Stamp { seconds, is_local: false })
}

fn shortened(value: &Value) -> String {
    let text = value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
    text.chars().filter(|c| !c.is_control()).take(QUOTED_CHARS_MAX).collect()
}

impl Uid {
    /// The card that is written as `value`; `None`: empty text or zeros, with which readers report no card.
    fn read(&self, value: &Value) -> Option<Presented> {
        let malformed = || Some(Presented::Malformed(shortened(value)));
        let text = match value {
            Value::String(text) => text.trim().to_owned(),
            // Only a number that was written as one has no lost zeros.
            Value::Number(number) if self.form == UidForm::Number => decimal(number),
            Value::Number(_) | Value::Bool(_) | Value::Null | Value::Array(_) | Value::Object(_) => return malformed(),
        };
        if text.is_empty() {
            return None;
        }
        let read = match self.form {
            UidForm::Hex => hex_bytes(&text).and_then(|bytes| self.of_bytes(bytes)),
            UidForm::Number => number(&text).and_then(|number| self.of_number(number)),
        };
        match read {
            Some(Read::Card(presented)) => Some(presented),
            Some(Read::Empty) => None,
            None => malformed(),
        }
    }

    /// `None`: these bytes are no UID of this reader.
    fn of_bytes(&self, mut bytes: Vec<u8>) -> Option<Read> {
        if bytes.iter().all(|byte| *byte == 0) {
            return Some(Read::Empty);
        }
        match self.content {
            UidContent::Whole { min, max } => {
                let fits = (usize::from(min)..=usize::from(max)).contains(&bytes.len());
                if self.order == UidOrder::LsbFirst {
                    bytes.reverse();
                }
                let card = CardUid::from_bytes(&bytes).ok().filter(|_| fits)?;
                Some(Read::Card(Presented::Card(card)))
            }
            UidContent::Reduced(_) => {
                let value = bytes.iter().try_fold(0_u128, |n, b| Some(n.checked_mul(0x100)? + u128::from(*b)));
                self.of_number(value?)
            }
        }
    }

    fn of_number(&self, value: u128) -> Option<Read> {
        if value == 0 {
            return Some(Read::Empty);
        }
        match self.content {
            UidContent::Whole { max, .. } => {
                let bytes = value.to_be_bytes();
                let (above, uid) = bytes.split_at(bytes.len().checked_sub(usize::from(max))?);
                // A larger number does not come from this reader.
                above.iter().all(|byte| *byte == 0).then(|| self.of_bytes(uid.to_vec())).flatten()
            }
            UidContent::Reduced(form) => {
                let too_much = form.keeps().is_some_and(|keep| value >> (8 * u32::from(keep)) != 0);
                let transform = self.transform().filter(|_| !too_much)?;
                Some(Read::Card(Presented::Lossy(Reading { transform, value })))
            }
        }
    }

    /// The value with which a simulated reader reports `uid`.
    fn show(&self, uid: CardUid) -> Value {
        let mut bytes = uid.as_bytes().to_vec();
        if self.order == UidOrder::LsbFirst {
            bytes.reverse();
        }
        let value = match self.transform() {
            Some(transform) => transform.read(uid).value,
            None => bytes.iter().fold(0, |n, b| (n << 8) | u128::from(*b)),
        };
        match (self.form, self.transform()) {
            (UidForm::Hex, None) => Value::from(hex::encode_upper(bytes)),
            (UidForm::Hex, Some(transform)) => {
                let digits = usize::from(transform.form.keeps().unwrap_or(0)) * 2;
                Value::from(format!("{value:0digits$X}"))
            }
            (UidForm::Number, _) => u64::try_from(value).map_or_else(|_| Value::from(value.to_string()), Value::from),
        }
    }
}

/// What a value of a reader means.
enum Read {
    Card(Presented),
    Empty,
}

/// The text with `null` for each word that is no value of JSON, such as `nan`: one field that is wrong hides no other.
fn nulled(text: &str) -> String {
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    while !rest.is_empty() {
        let word = rest.find(|c: char| !c.is_alphanumeric() && !"+-.".contains(c)).unwrap_or(rest.len());
        let length = if rest.starts_with('"') {
            quoted_len(rest.as_bytes()).unwrap_or(rest.len())
        } else {
            word.max(rest.chars().next().map_or(1, char::len_utf8))
        };
        let (part, after) = rest.split_at(length);
        let is_word = part.trim_start_matches(['+', '-']).starts_with(char::is_alphabetic);
        let is_value = !is_word || serde_json::from_str::<Value>(part).is_ok();
        out.push_str(if is_value { part } else { "null" });
        rest = after;
    }
    out
}

/// The bytes of hex digits, with or without separators; `None`: not hex, or half a byte.
fn hex_bytes(text: &str) -> Option<Vec<u8>> {
    let digits: String = text.chars().filter(|c| !matches!(c, ':' | '-' | '.' | ' ')).collect();
    hex::decode(digits).ok()
}

/// A number as decimal digits, if it is whole, also where the device writes it as `166.0` or `1.08e7`.
fn decimal(number: &Number) -> String {
    match number.as_f64().filter(|value| number.is_f64() && *value < EXACT_MAX) {
        Some(value) => value.to_string(),
        None => number.to_string(),
    }
}

/// The number that a text shows: decimal digits, or hex digits that are marked as such.
fn number(text: &str) -> Option<u128> {
    let lower = text.to_ascii_lowercase();
    let (digits, base) = match (lower.strip_prefix("0x"), lower.strip_suffix('h')) {
        (Some(digits), _) | (None, Some(digits)) => (digits, 16),
        (None, None) => (whole(&lower), 10),
    };
    // `from_str_radix` accepts a sign.
    u128::from_str_radix(digits, base).ok().filter(|_| !digits.starts_with('+'))
}

/// Decimal digits without the zeros after their point.
fn whole(text: &str) -> &str {
    match text.split_once('.') {
        Some((whole, zeros)) if !zeros.is_empty() && zeros.bytes().all(|byte| byte == b'0') => whole,
        Some(_) | None => text,
    }
}

/// The payload in which a simulated device reports these values. A place without a pointer is the whole payload.
fn written<'v>(values: impl IntoIterator<Item = (Option<&'v str>, Value)>) -> String {
    let mut root = Value::Null;
    for (at, value) in values {
        let Some(at) = at else { return value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned) };
        let mut here = &mut root;
        for key in at.split('/').skip(1) {
            if !here.is_object() {
                *here = Value::Object(Map::new());
            }
            let Value::Object(object) = here else { break };
            here = object.entry(key.replace("~1", "/").replace("~0", "~")).or_insert(Value::Null);
        }
        *here = value;
    }
    root.to_string()
}

/// A text as the JSON value that it shows: `true`, a number, or itself.
fn as_value(text: &str) -> Value {
    match serde_json::from_str(text) {
        Ok(value @ (Value::Bool(_) | Value::Number(_))) => value,
        Ok(_) | Err(_) => Value::from(text),
    }
}

impl Place {
    fn write(&self, value: Value) -> String {
        let only = self.only.iter().map(|(at, is)| (Some(at.as_str()), as_value(is)));
        written(only.chain([(self.at.as_deref(), value)]))
    }

    /// The payload in which a simulated device reports a number here.
    #[must_use]
    pub fn show_number(&self, number: f64) -> String {
        self.write(Value::from(number))
    }
}

impl Two {
    /// The payload in which a simulated device reports yes or no.
    #[must_use]
    pub fn show(&self, yes: bool) -> String {
        self.place.write(as_value(if yes { &self.yes } else { &self.no }))
    }
}

impl Reader {
    /// The payload in which a simulated device reports a card, at a time that it shows as `time`.
    #[must_use]
    pub fn show(&self, uid: CardUid, time: &str) -> String {
        let stamp = self.stamp.iter().map(|at| (Some(at.as_str()), Value::from(time)));
        let only = self.place.only.iter().map(|(at, is)| (Some(at.as_str()), as_value(is)));
        written(stamp.chain(only).chain([(self.place.at.as_deref(), self.uid.show(uid))]))
    }

    /// The place and payload in which a simulated device reports that the card has left; `None`: it does not report it.
    #[must_use]
    pub fn show_removed(&self) -> Option<(Place, String)> {
        let (place, is) = self.removed.as_ref()?;
        Some((place.clone(), place.write(as_value(is))))
    }
}

impl UidForm {
    /// Whether a reduced form of the UID can be written so.
    pub(crate) fn can_show(self, form: Form) -> bool {
        match self {
            Self::Hex => form.digits() != Some(10),
            Self::Number => form.digits() != Some(16),
        }
    }
}
