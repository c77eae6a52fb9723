//! Weekly schedules: as they are defined, and when they are open. All of it is judged on the local wall time of the zone: where clocks
//! are set forward, what would lie in the hour that is left out does not happen; where they are set back, it happens twice.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;

use jiff::civil::{Date, DateTime};
use jiff::tz::{TimeZone, TimeZoneDatabase};
use serde::{Deserialize, Serialize};

use super::id::Timestamp;

/// How many days after a date decide whether an edge follows it: two weeks, because clocks that are set forward may leave out the only
/// window of one of them, and the day on which a window of the last evening ends.
const PATTERN_DAYS: i64 = 15;
/// Longest text that an error repeats, in characters.
const QUOTE_CHARS_MAX: usize = 64;

/// Minutes of a day, `[start, end)`; `end` at or before `start` runs past midnight; 24:00 is 1440. Written `06:00-23:00`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// First minute of the window, counted from 00:00.
    pub start_min: u16,
    /// First minute after the window, counted from 00:00.
    pub end_min: u16,
}

/// A date: year, month, day. Written `2026-10-01`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Day(i16, u8, u8);

/// A date whose windows replace those of its weekday.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holiday {
    /// Which.
    pub date: Day,
    /// The windows that begin on that day; none: closed.
    pub windows: Vec<Window>,
}

/// When an entitlement holds (wire contract, 2.7).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    /// The windows that begin on each day, Monday first; a day without any is closed.
    pub weekly: [Vec<Window>; 7],
    /// Dates that differ.
    pub holidays: Vec<Holiday>,
    /// IANA name; `None`: the gateway's.
    pub timezone: Option<String>,
}

/// A text that is no window.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a window like `06:00-23:00` (to `24:00` at most) is wanted, got `{0}`")]
pub struct WindowError(String);

/// A text that is no date.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a date like `2026-10-01` is wanted, got `{0}`")]
pub struct DayError(String);

impl Window {
    /// Minutes of a day; `24:00`.
    pub const DAY_MIN: u16 = 24 * 60;

    fn is_past_midnight(self) -> bool {
        self.end_min <= self.start_min
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (start, end) = (self.start_min, self.end_min);
        write!(f, "{:02}:{:02}-{:02}:{:02}", start / 60, start % 60, end / 60, end % 60)
    }
}

impl FromStr for Window {
    type Err = WindowError;

    fn from_str(text: &str) -> Result<Self, WindowError> {
        let minute = |text: &str| {
            let [h1, h2, b':', m1, m2] = text.as_bytes() else { return None };
            let digit = |b: &u8| b.is_ascii_digit().then(|| u16::from(b - b'0'));
            let (hour, minute) = (digit(h1)? * 10 + digit(h2)?, digit(m1)? * 10 + digit(m2)?);
            let all = hour * 60 + minute;
            (minute < 60 && all <= Self::DAY_MIN).then_some(all)
        };
        let window = text.split_once('-').and_then(|(start, end)| {
            let window = Self { start_min: minute(start)?, end_min: minute(end)? };
            (window.start_min < Self::DAY_MIN).then_some(window)
        });
        window.ok_or_else(|| WindowError(text.escape_debug().take(QUOTE_CHARS_MAX).collect()))
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.date().fmt(f)
    }
}

impl FromStr for Day {
    type Err = DayError;

    fn from_str(text: &str) -> Result<Self, DayError> {
        let date = text.parse::<Date>().ok().filter(|date| date.to_string() == text);
        let day = date.map(|date| Self(date.year(), date.month().unsigned_abs(), date.day().unsigned_abs()));
        day.ok_or_else(|| DayError(text.escape_debug().take(QUOTE_CHARS_MAX).collect()))
    }
}

impl Day {
    fn date(self) -> Date {
        let Self(year, month, day) = self;
        Date::new(year, month.cast_signed(), day.cast_signed()).unwrap_or(Date::MIN)
    }
}

/// The bundled data, so that two machines judge alike, also one that has no data of its own.
static ZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

/// The time zone of this IANA name, and the name as the database spells it.
#[must_use]
pub fn timezone(name: &str) -> Option<(String, TimeZone)> {
    let zone = ZONES.get(name).ok()?;
    Some((zone.iana_name()?.to_owned(), zone))
}

/// When the day of this instant ends in `zone`.
#[must_use]
pub fn end_of_day(zone: &TimeZone, at: Timestamp) -> Option<Timestamp> {
    let day = zone.to_datetime(jiff::Timestamp::from_millisecond(at.0).ok()?).date();
    let midnight = day.tomorrow().ok()?.to_datetime(jiff::civil::Time::midnight());
    Some(Timestamp(zone.to_timestamp(midnight).ok()?.as_millisecond()))
}

/// A schedule with its time zone found: what a decision asks.
#[derive(Clone, Debug)]
pub struct Timetable {
    weekly: [Vec<Window>; 7],
    /// Sorted by date.
    holidays: Vec<(Date, Vec<Window>)>,
    /// `None`: it names a zone that does not exist, and is never open.
    zone: Option<TimeZone>,
}

impl Timetable {
    /// The schedule; `zone` is the gateway's time zone.
    #[must_use]
    pub fn new(schedule: &Schedule, zone: &TimeZone) -> Self {
        let mut holidays: Vec<_> = schedule.holidays.iter().map(|h| (h.date.date(), h.windows.clone())).collect();
        holidays.sort_by_key(|(date, _)| *date);
        let zone = match &schedule.timezone {
            None => Some(zone.clone()),
            Some(name) => timezone(name).map(|(_, zone)| zone),
        };
        Self { weekly: schedule.weekly.clone(), holidays, zone }
    }

    /// Whether it is open at this instant.
    #[must_use]
    pub fn is_open(&self, at: Timestamp) -> bool {
        let Some((zone, at)) = self.zone.as_ref().zip(instant(at)) else { return false };
        self.is_open_locally(zone.to_datetime(at))
    }

    fn is_open_locally(&self, local: DateTime) -> bool {
        let minute = u16::from(local.hour().unsigned_abs()) * 60 + u16::from(local.minute().unsigned_abs());
        let today = |w: &Window| w.start_min <= minute && (minute < w.end_min || w.is_past_midnight());
        let of_yesterday = |w: &Window| w.is_past_midnight() && minute < w.end_min;
        self.windows(local.date()).iter().any(today)
            || local.date().yesterday().is_ok_and(|date| self.windows(date).iter().any(of_yesterday))
    }

    /// The windows that begin on this day.
    fn windows(&self, date: Date) -> &[Window] {
        if let Ok(at) = self.holidays.binary_search_by_key(&date, |(holiday, _)| *holiday) {
            return self.holidays.get(at).map_or(&[], |(_, windows)| windows);
        }
        let weekday = usize::from(date.weekday().to_monday_zero_offset().unsigned_abs());
        self.weekly.get(weekday).map_or(&[], Vec::as_slice)
    }

    /// The first instant after `after` at which it opens or closes.
    #[must_use]
    pub fn next_edge(&self, after: Timestamp) -> Option<Timestamp> {
        let zone = self.zone.as_ref()?;
        let first = zone.to_datetime(instant(after)?).date();
        // The week repeats itself, so beyond its pattern only a holiday changes anything, for itself and for what follows it.
        let soon = pattern(first).find_map(|date| self.first_edge_on(zone, date, after));
        soon.or_else(|| {
            let holidays = self.holidays.iter().map(|(date, _)| *date).filter(|date| *date > first);
            let later: BTreeSet<Date> = holidays.flat_map(pattern).collect();
            later.into_iter().find_map(|date| self.first_edge_on(zone, date, after))
        })
    }

    fn first_edge_on(&self, zone: &TimeZone, date: Date, after: Timestamp) -> Option<Timestamp> {
        let midnight = |date: Date| zone.to_ambiguous_timestamp(date.at(0, 0, 0, 0)).earlier().ok();
        let (begin, end) = (midnight(date)?, midnight(date.tomorrow().ok()?)?);
        let mut instants = vec![begin];
        // Where clocks are changed, the local time jumps over a beginning or an end, or back before it.
        instants.extend(zone.following(begin).map(|change| change.timestamp()).take_while(|at| *at < end));
        let yesterday = date.yesterday().map_or(&[][..], |date| self.windows(date));
        let ends = yesterday.iter().filter(|w| w.is_past_midnight()).map(|w| w.end_min);
        let bounds = self.windows(date).iter().flat_map(|w| [w.start_min, w.end_min]);
        for minute in ends.chain(bounds).filter(|minute| *minute < Window::DAY_MIN) {
            let (hour, minute) = (i8::try_from(minute / 60).ok()?, i8::try_from(minute % 60).ok()?);
            let local = zone.to_ambiguous_timestamp(date.at(hour, minute, 0, 0));
            instants.extend([local.earlier(), local.later()].into_iter().flatten());
        }
        let edges = instants.into_iter().map(|at| Timestamp(at.as_millisecond())).filter(|at| *at > after);
        edges.filter(|at| self.is_open(*at) != self.is_open(Timestamp(at.0 - 1))).min()
    }
}

/// The days from this one on that show whether an edge follows it.
fn pattern(from: Date) -> impl Iterator<Item = Date> {
    let until = from.saturating_add(jiff::Span::new().days(PATTERN_DAYS));
    from.series(jiff::Span::new().days(1)).take_while(move |date| *date <= until)
}

fn instant(at: Timestamp) -> Option<jiff::Timestamp> {
    jiff::Timestamp::from_millisecond(at.0).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_window_ends_at_midnight_but_never_starts_at_24() {
        assert_eq!("22:00-06:00".parse(), Ok(Window { start_min: 1320, end_min: 360 }));
        for wrong in
            ["24:00-06:00", "06:00-24:01", "06:60-07:00", "06:00", "06:00 - 07:00", "-1:00-02:00", "０6:00-07:00"]
        {
            assert!(wrong.parse::<Window>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_date_has_one_spelling() {
        assert_eq!("2026-10-01".parse::<Day>().unwrap().to_string(), "2026-10-01");
        for wrong in ["2026-02-30", "20261001", "2026-10-1", "+002026-10-01", "2026-10-01T00:00", ""] {
            assert!(wrong.parse::<Day>().is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn a_window_printed_is_the_window_parsed(start_min in 0..1440_u16, end_min in 0..=1440_u16) {
            let window = Window { start_min, end_min };
            prop_assert_eq!(window.to_string().parse(), Ok(window));
        }
    }
}
