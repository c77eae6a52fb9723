//! Times on the wire: RFC 3339 UTC with milliseconds; seconds since 1970 in signed claims.

use jiff::fmt::temporal::DateTimePrinter;

use crate::access::id::Timestamp;

/// `2026-09-01T08:00:00.000Z`. An instant outside the years 0 to 9999 is printed as the nearest end of the range.
#[must_use]
pub fn format(at: Timestamp) -> String {
    let instant = jiff::Timestamp::from_millisecond(at.0).unwrap_or(if at.0 < 0 {
        jiff::Timestamp::MIN
    } else {
        jiff::Timestamp::MAX
    });
    DateTimePrinter::new().precision(Some(3)).timestamp_to_string(&instant)
}

/// The instant of an RFC 3339 text with any offset.
#[must_use]
pub fn parse(text: &str) -> Option<Timestamp> {
    text.parse::<jiff::Timestamp>().ok().map(|t| Timestamp(t.as_millisecond()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_printed_with_milliseconds_and_read_back() {
        let text = "2026-09-01T08:00:00.000Z";
        assert_eq!(format(parse(text).unwrap()), text);
        assert_eq!(parse("2026-09-01T16:00:00+08:00"), parse(text));
        assert_eq!(parse("yesterday"), None);
    }
}
