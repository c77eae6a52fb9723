//! Instants as text and back: written as RFC 3339 in UTC with milliseconds, read with any offset or as seconds since 1970.

use std::fmt;
use std::str::FromStr;

use jiff::SignedDuration;
use jiff::civil::DateTime;
use jiff::fmt::temporal::{DateTimePrinter, Pieces};
use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::ser::{Serialize, Serializer};

use super::id::Timestamp;

/// Longest text that an error repeats, in characters.
const QUOTE_CHARS_MAX: usize = 64;

/// A text that is no instant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a time like `2026-09-01T08:00:00.000Z`")]
pub struct TimeError(String);

/// In UTC.
const EPOCH: DateTime = jiff::civil::date(1970, 1, 1).at(0, 0, 0, 0);

/// An instant outside the years that can be printed is printed as the nearest end of the range.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let printer = DateTimePrinter::new().precision(Some(3));
        if let Ok(instant) = jiff::Timestamp::from_millisecond(self.0) {
            return f.write_str(&printer.timestamp_to_string(&instant));
        }
        let end = if self.0 < 0 { DateTime::MIN } else { DateTime::MAX };
        let instant = EPOCH.checked_add(SignedDuration::from_millis(self.0)).unwrap_or(end);
        write!(f, "{}Z", printer.datetime_to_string(&instant))
    }
}

/// The last day of the year 9999, which databases write for "never" and jiff's instants, for the sake of offsets, do not reach.
fn last_day(text: &str) -> Option<Timestamp> {
    let pieces = Pieces::parse(text).ok()?;
    let ahead = SignedDuration::from_secs(i64::from(pieces.to_numeric_offset()?.seconds()));
    let instant = pieces.date().to_datetime(pieces.time()?).checked_sub(ahead).ok()?;
    let ms = i64::try_from(instant.duration_since(EPOCH).as_millis()).ok()?;
    (ms > jiff::Timestamp::MAX.as_millisecond()).then_some(Timestamp(ms))
}

impl FromStr for Timestamp {
    type Err = TimeError;

    fn from_str(text: &str) -> Result<Self, TimeError> {
        let instant = text.parse::<jiff::Timestamp>().map(|instant| Self(instant.as_millisecond()));
        let instant = instant.ok().or_else(|| last_day(text));
        instant.ok_or_else(|| TimeError(text.chars().take(QUOTE_CHARS_MAX).collect()))
    }
}

/// On disk, which no person reads, it is the number.
impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() { serializer.collect_str(self) } else { serializer.serialize_i64(self.0) }
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            deserializer.deserialize_any(Instant)
        } else {
            i64::deserialize(deserializer).map(Self)
        }
    }
}

/// Text, or seconds whole or with a fraction (RFC 7519 allows both), within the years that can be printed.
struct Instant;

impl Visitor<'_> for Instant {
    type Value = Timestamp;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a time like `2026-09-01T08:00:00.000Z`, or in seconds since 1970")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Timestamp, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_i64<E: de::Error>(self, seconds: i64) -> Result<Timestamp, E> {
        let known = jiff::Timestamp::MIN.as_second()..=jiff::Timestamp::MAX.as_second();
        let at = known.contains(&seconds).then(|| Timestamp::from_unix_seconds(seconds));
        at.ok_or_else(|| E::invalid_value(de::Unexpected::Signed(seconds), &self))
    }

    fn visit_u64<E: de::Error>(self, seconds: u64) -> Result<Timestamp, E> {
        let whole = i64::try_from(seconds).map_err(|_| E::invalid_value(de::Unexpected::Unsigned(seconds), &self))?;
        self.visit_i64(whole)
    }

    fn visit_f64<E: de::Error>(self, seconds: f64) -> Result<Timestamp, E> {
        let at = jiff::SignedDuration::try_from_secs_f64(seconds).and_then(jiff::Timestamp::from_duration);
        at.map(|at| Timestamp(at.as_millisecond())).map_err(|_| E::invalid_value(de::Unexpected::Float(seconds), &self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_time_of_databases_is_a_time_and_is_written_as_it_was_read() {
        for (text, printed) in [
            ("9999-12-31T23:59:59Z", "9999-12-31T23:59:59.000Z"),
            ("9999-12-31T00:00:00.000Z", "9999-12-31T00:00:00.000Z"),
            ("9999-12-31T23:59:59.999+08:00", "9999-12-31T15:59:59.999Z"),
            ("9999-12-30T22:00:00Z", "9999-12-30T22:00:00.000Z"),
        ] {
            let at: Timestamp = text.parse().unwrap();
            assert_eq!(at.to_string(), printed);
            assert_eq!(printed.parse(), Ok(at));
        }
        for text in ["9999-12-31T23:59:59", "9999-12-31", "9999-12-31T23:59:59-01:00", "9999-12-32T00:00:00Z"] {
            assert!(text.parse::<Timestamp>().is_err(), "{text}");
        }
        assert_eq!(Timestamp(i64::MAX).to_string(), "9999-12-31T23:59:59.999Z");
    }
}
