//! Reading the members of a JSON object with errors that name the place, the field and the remedy.

use std::fmt::Display;
use std::str::FromStr;

use serde_json::{Map, Value};

use super::limits::QUOTE_CHARS_MAX;
use super::spelling::nearest;
use super::text::{quote, shorten};
use super::time;
use crate::access::change::{ErrorCode, OpError};
use crate::access::id::{CardUid, Timestamp};

/// One JSON object at a place in a message. A member that is `null` counts as absent.
#[derive(Clone)]
pub(super) struct Fields<'a> {
    map: &'a Map<String, Value>,
    path: String,
    op: Option<u32>,
}

impl<'a> Fields<'a> {
    /// The members of the message itself.
    pub fn message(map: &'a Map<String, Value>) -> Self {
        Self { map, path: String::new(), op: None }
    }

    /// The members of `value`, which stands at `path`; `op` is the op it belongs to.
    pub fn of(value: &'a Value, path: String, op: Option<u32>) -> Result<Self, OpError> {
        match value {
            Value::Object(map) => Ok(Self { map, path, op }),
            other => {
                let message = format!("`{path}`: an object in braces is wanted, this is {}", kind(other));
                Err(OpError { op, code: ErrorCode::InvalidField, message })
            }
        }
    }

    /// The object in field `key`.
    pub fn object(&self, key: &str) -> Result<Self, OpError> {
        Self::of(self.need(key)?, self.place(key), self.op)
    }

    /// The place of field `key` in the message.
    pub fn place(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// The op this object belongs to.
    pub fn op(&self) -> Option<u32> {
        self.op
    }

    /// All members.
    pub fn members(&self) -> impl Iterator<Item = (&'a String, &'a Value)> {
        self.map.iter()
    }

    /// An error at field `key`.
    pub fn error(&self, code: ErrorCode, key: &str, what: impl Display) -> OpError {
        OpError { op: self.op, code, message: format!("`{}`: {what}", self.place(key)) }
    }

    /// An `invalid_field` at field `key`.
    pub fn invalid(&self, key: &str, what: impl Display) -> OpError {
        self.error(ErrorCode::InvalidField, key, what)
    }

    /// The value of `key`, if it is there.
    pub fn get(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|v| !v.is_null())
    }

    /// The value of `key`, which has to be there.
    pub fn need(&self, key: &str) -> Result<&'a Value, OpError> {
        self.get(key).ok_or_else(|| self.invalid(key, "is missing; add it"))
    }

    fn as_text(&self, key: &str, value: &'a Value, code: ErrorCode) -> Result<&'a str, OpError> {
        let wrong = || self.error(code, key, format_args!("text in quotes is wanted, this is {}", kind(value)));
        value.as_str().ok_or_else(wrong)
    }

    /// Text.
    pub fn text(&self, key: &str) -> Result<&'a str, OpError> {
        self.as_text(key, self.need(key)?, ErrorCode::InvalidField)
    }

    /// Text, if the field is there.
    pub fn text_if(&self, key: &str) -> Result<Option<&'a str>, OpError> {
        self.get(key).map(|v| self.as_text(key, v, ErrorCode::InvalidField)).transpose()
    }

    /// Text that has the form of a `T`.
    pub fn parsed<T: FromStr<Err: Display>>(&self, key: &str) -> Result<T, OpError> {
        self.text(key)?.parse().map_err(|e| self.malformed(key, &e))
    }

    /// Text that has the form of a `T`, if the field is there.
    pub fn parsed_if<T: FromStr<Err: Display>>(&self, key: &str) -> Result<Option<T>, OpError> {
        self.text_if(key)?.map(|text| text.parse().map_err(|e| self.malformed(key, &e))).transpose()
    }

    /// The error of a parser that may repeat what it was given.
    fn malformed<E: Display>(&self, key: &str, error: &E) -> OpError {
        self.invalid(key, shorten(&error.to_string(), 4 * QUOTE_CHARS_MAX))
    }

    /// A card UID.
    pub fn uid(&self, key: &str) -> Result<CardUid, OpError> {
        let text = self.as_text(key, self.need(key)?, ErrorCode::InvalidUid)?;
        let uid: CardUid = text
            .parse()
            .map_err(|e| self.error(ErrorCode::InvalidUid, key, format_args!("{e}; got {}", quote(text))))?;
        if uid.is_cascade_tag() {
            let what = format!(
                "`{uid}` is the beginning of a longer UID (4 bytes starting 88, the cascade tag); read the card with a reader that gives all 7 or 10 bytes"
            );
            return Err(self.error(ErrorCode::InvalidUid, key, what));
        }
        Ok(uid)
    }

    /// The UID of a card that is to be handed out: not a random one.
    pub fn lasting_uid(&self, key: &str) -> Result<CardUid, OpError> {
        let uid = self.uid(key)?;
        if uid.is_random() {
            let what = format!(
                "`{uid}` is a random UID (4 bytes starting 08), new at each reading, as phones give; read the card itself"
            );
            return Err(self.error(ErrorCode::RandomUid, key, what));
        }
        Ok(uid)
    }

    /// One of `all` by its name.
    pub fn choice<T: Copy>(&self, key: &str, all: &[T], name: impl Fn(T) -> &'static str) -> Result<T, OpError> {
        let text = self.text(key)?;
        self.chosen(key, text, all, name)
    }

    /// One of `all` by its name, if the field is there.
    pub fn choice_if<T: Copy>(
        &self,
        key: &str,
        all: &[T],
        name: impl Fn(T) -> &'static str,
    ) -> Result<Option<T>, OpError> {
        self.text_if(key)?.map(|text| self.chosen(key, text, all, name)).transpose()
    }

    fn chosen<T: Copy>(
        &self,
        key: &str,
        text: &str,
        all: &[T],
        name: impl Fn(T) -> &'static str,
    ) -> Result<T, OpError> {
        if let Some(one) = all.iter().copied().find(|one| name(*one) == text) {
            return Ok(one);
        }
        let names = all.iter().map(|one| format!("`{}`", name(*one))).collect::<Vec<_>>().join(", ");
        let near = nearest(text, all.iter().map(|one| name(*one)));
        let hint = near.map_or(String::new(), |near| format!("; did you mean `{near}`?"));
        Err(self.invalid(key, format_args!("one of {names} is wanted, got {}{hint}", quote(text))))
    }

    /// A whole number from `least`.
    pub fn whole(&self, key: &str, least: u64) -> Result<u64, OpError> {
        let number = self.need(key)?.as_u64().filter(|n| *n >= least);
        number.ok_or_else(|| self.invalid(key, format_args!("a whole number from {least} is wanted")))
    }

    /// A truth value.
    pub fn flag(&self, key: &str) -> Result<bool, OpError> {
        let value = self.need(key)?;
        value
            .as_bool()
            .ok_or_else(|| self.invalid(key, format_args!("`true` or `false` is wanted, this is {}", kind(value))))
    }

    /// The items of a list of at most `most`.
    pub fn list(&self, key: &str, most: usize) -> Result<&'a [Value], OpError> {
        self.as_list(key, self.need(key)?, most)
    }

    /// `value`, which stands in field `key`, as a list of at most `most` items.
    pub fn as_list(&self, key: &str, value: &'a Value, most: usize) -> Result<&'a [Value], OpError> {
        let Value::Array(items) = value else {
            return Err(self.invalid(key, format_args!("a list in brackets is wanted, this is {}", kind(value))));
        };
        if items.len() > most {
            let what = format!("{} items are too many, {most} are allowed", items.len());
            return Err(self.error(ErrorCode::TooLarge, key, what));
        }
        Ok(items)
    }

    /// An instant.
    pub fn time(&self, key: &str) -> Result<Timestamp, OpError> {
        self.as_time(key, self.need(key)?)
    }

    /// A date in a card's or a portal's life, if the field is there: not before [`DATE_MIN`].
    pub fn date_if(&self, key: &str) -> Result<Option<Timestamp>, OpError> {
        let at = self.time_if(key)?;
        if at.is_some_and(|at| at < DATE_MIN) {
            let what = "is before 2000-01-01: a day number of a spreadsheet is no date; write `2026-09-01T08:00:00Z` or seconds since 1970";
            return Err(self.invalid(key, what));
        }
        Ok(at)
    }

    /// An instant, if the field is there.
    pub fn time_if(&self, key: &str) -> Result<Option<Timestamp>, OpError> {
        self.get(key).map(|v| self.as_time(key, v)).transpose()
    }

    fn as_time(&self, key: &str, value: &Value) -> Result<Timestamp, OpError> {
        let at = match value {
            Value::String(text) => time::parse(text),
            Value::Number(seconds) => seconds.as_f64().and_then(|s| instant(seconds.as_i64(), s)),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
        };
        at.ok_or_else(|| {
            let what = "a time like `2026-09-01T08:00:00.000Z` or in seconds since 1970 is wanted";
            let got = value.as_str().map_or_else(|| kind(value).to_owned(), quote);
            self.invalid(key, format_args!("{what}, got {got}"))
        })
    }
}

/// 2000-01-01T00:00:00Z, the earliest date of an enrolment or posture (wire contract, section 3), in milliseconds since 1970.
const DATE_MIN: Timestamp = Timestamp(946_684_800_000);

/// Seconds since 1970, whole or with a fraction (RFC 7519 allows both), within the years that can be printed.
fn instant(whole: Option<i64>, real: f64) -> Option<Timestamp> {
    let (least, most) = (jiff::Timestamp::MIN.as_second(), jiff::Timestamp::MAX.as_second());
    if let Some(seconds) = whole {
        return (least..=most).contains(&seconds).then(|| Timestamp::from_unix_seconds(seconds));
    }
    let at = jiff::SignedDuration::try_from_secs_f64(real).ok()?;
    let at = jiff::Timestamp::from_duration(at).ok()?;
    Some(Timestamp(at.as_millisecond()))
}

/// What a value is, for an error message.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn time_of(value: &Value) -> Option<i64> {
        let Value::Object(map) = json!({ "t": value }) else { return None };
        Fields::message(&map).time("t").ok().map(|t| t.0)
    }

    #[test]
    fn a_time_is_text_or_seconds() {
        let ms = 1_788_249_600_000;
        assert_eq!(time_of(&json!("2026-09-01T08:00:00Z")), Some(ms));
        assert_eq!(time_of(&json!("2026-09-01T16:00:00.250+08:00")), Some(ms + 250));
        assert_eq!(time_of(&json!(1_788_249_600)), Some(ms));
        assert_eq!(time_of(&json!(1_788_249_600.25)), Some(ms + 250));
        for wrong in [json!("2026-09-01"), json!(u64::MAX), json!(i64::MIN), json!(1e300), json!(true), json!("")] {
            assert_eq!(time_of(&wrong), None, "{wrong}");
        }
    }

    #[test]
    fn null_is_absent() {
        let Value::Object(map) = json!({ "t": null }) else { panic!("an object is wanted") };
        let fields = Fields::message(&map);
        assert_eq!(fields.time_if("t").unwrap(), None);
        assert_eq!(fields.time("t").unwrap_err().message, "`t`: is missing; add it");
    }

    proptest! {
        #[test]
        fn no_number_breaks_a_time(number in any::<f64>(), whole in any::<i64>()) {
            let _read = time_of(&json!(number));
            let _read = time_of(&json!(whole));
        }
    }
}
