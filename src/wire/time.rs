//! Times on the wire. Written as RFC 3339 UTC with milliseconds, or as seconds since 1970 in signed claims; read as either.

use std::fmt;

use jiff::fmt::temporal::DateTimePrinter;
use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::ser::{Serialize, Serializer};

use super::text::quote;
use crate::access::id::Timestamp;

/// `2026-09-01T08:00:00.000Z`. An instant outside the years that can be printed is printed as the nearest end of the range.
#[must_use]
pub fn format(at: Timestamp) -> String {
    let end = if at.0 < 0 { jiff::Timestamp::MIN } else { jiff::Timestamp::MAX };
    let instant = jiff::Timestamp::from_millisecond(at.0).unwrap_or(end);
    DateTimePrinter::new().precision(Some(3)).timestamp_to_string(&instant)
}

/// The instant of an RFC 3339 text with any offset.
#[must_use]
pub fn parse(text: &str) -> Option<Timestamp> {
    text.parse::<jiff::Timestamp>().ok().map(|t| Timestamp(t.as_millisecond()))
}

/// A time that is written as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub Timestamp);

/// A time that is written in whole seconds since 1970, as the claims of a JWT are (RFC 7519, 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seconds(pub Timestamp);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&format(self.0))
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format(self.0))
    }
}

impl Serialize for Seconds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i64(self.0.unix_seconds())
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Instant).map(Self)
    }
}

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Instant).map(Self)
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
        parse(text)
            .ok_or_else(|| E::custom(format_args!("{} is not a time like `2026-09-01T08:00:00.000Z`", quote(text))))
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
    use proptest::prelude::*;

    use super::*;

    fn read(json: &str) -> Option<i64> {
        serde_json::from_str::<Time>(json).ok().map(|time| time.0.0)
    }

    #[test]
    fn a_time_is_text_or_seconds() {
        let ms = 1_788_249_600_000;
        for (json, wanted) in [
            (r#""2026-09-01T08:00:00Z""#, Some(ms)),
            (r#""2026-09-01T16:00:00.250+08:00""#, Some(ms + 250)),
            ("1788249600", Some(ms)),
            ("1788249600.25", Some(ms + 250)),
            (r#""2026-09-01""#, None),
            (r#""yesterday""#, None),
            ("18446744073709551615", None),
            ("-9223372036854775808", None),
            ("1e300", None),
            ("true", None),
            (r#""""#, None),
        ] {
            assert_eq!(read(json), wanted, "{json}");
        }
        assert_eq!(serde_json::to_string(&Time(Timestamp(ms + 7))).unwrap(), r#""2026-09-01T08:00:00.007Z""#);
        assert_eq!(serde_json::to_string(&Seconds(Timestamp(ms + 7))).unwrap(), "1788249600");
    }

    proptest! {
        #[test]
        fn a_time_written_is_the_time_read(ms in -377_705_023_201_000_i64..253_402_207_200_000) {
            let time = Time(Timestamp(ms));
            prop_assert_eq!(read(&serde_json::to_string(&time).unwrap()), Some(ms));
        }

        #[test]
        fn seconds_are_read_where_the_year_can_be_printed(seconds in any::<i64>()) {
            let known = (jiff::Timestamp::MIN.as_second()..=jiff::Timestamp::MAX.as_second()).contains(&seconds);
            prop_assert_eq!(read(&seconds.to_string()), known.then(|| seconds * 1000));
        }
    }
}
