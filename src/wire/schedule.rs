//! `define_schedule` as it is written in a message (wire contract, 2.7).

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;

use jiff::civil::Date;
use jiff::tz::TimeZoneDatabase;
use serde::{Deserialize, Serialize};

use super::json::{Wrong, at_most, invalid};
use super::limits::{HOLIDAYS_MAX, TIMEZONE_BYTES_MAX, WINDOWS_MAX};
use super::text::quote;
use crate::access::id::{ScheduleName, as_text};
use crate::access::schedule::{Holiday, Schedule, Window};

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ScheduleBody {
    pub name: ScheduleName,
    pub weekly: WeekBody,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub holidays: Option<Vec<HolidayBody>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timezone: Option<String>,
}

/// A misspelt day would leave that day closed, so an unknown one is refused.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WeekBody {
    #[serde(skip_serializing_if = "Option::is_none")]
    mon: Option<Vec<WindowText>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tue: Option<Vec<WindowText>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    wed: Option<Vec<WindowText>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thu: Option<Vec<WindowText>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fri: Option<Vec<WindowText>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sat: Option<Vec<WindowText>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sun: Option<Vec<WindowText>>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct HolidayBody {
    date: DateText,
    windows: Vec<WindowText>,
}

/// `06:00-23:00`; an end at or before the start is on the next day; `24:00` may only end one.
#[derive(Clone, Debug, PartialEq, Eq)]
struct WindowText(Window);

/// `2026-10-01`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct DateText(Date);

as_text! {
    WindowText: "a window like `06:00-23:00`";
    DateText: "a date like `2026-10-01`";
}

impl fmt::Display for WindowText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (start, end) = (self.0.start_min, self.0.end_min);
        write!(f, "{:02}:{:02}-{:02}:{:02}", start / 60, start % 60, end / 60, end % 60)
    }
}

impl FromStr for WindowText {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let minute = |text: &str| {
            let [h1, h2, b':', m1, m2] = text.as_bytes() else { return None };
            let digit = |b: &u8| b.is_ascii_digit().then(|| u16::from(b - b'0'));
            let (hour, minute) = (digit(h1)? * 10 + digit(h2)?, digit(m1)? * 10 + digit(m2)?);
            let all = hour * 60 + minute;
            (minute < 60 && all <= Window::DAY_MIN).then_some(all)
        };
        let window = text.split_once('-').and_then(|(start, end)| {
            let window = Window { start_min: minute(start)?, end_min: minute(end)? };
            (window.start_min < Window::DAY_MIN).then_some(Self(window))
        });
        window.ok_or_else(|| format!("a window like `06:00-23:00` (to `24:00` at most) is wanted, got {}", quote(text)))
    }
}

impl fmt::Display for DateText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for DateText {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let date = text.parse().ok().map(Self).filter(|date| date.to_string() == text);
        date.ok_or_else(|| format!("a date like `2026-10-01` is wanted, got {}", quote(text)))
    }
}

/// The bundled data, so that an answer does not depend on the machine's files.
static ZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

/// The IANA time zone of this name as the database spells it; `None` if the database has no such zone.
#[must_use]
pub fn timezone(name: &str) -> Option<String> {
    if name.len() > TIMEZONE_BYTES_MAX {
        return None;
    }
    ZONES.get(name).ok()?.iana_name().map(str::to_owned)
}

impl ScheduleBody {
    pub fn of(name: &ScheduleName, schedule: &Schedule) -> Self {
        let list = |windows: &Vec<Window>| windows.iter().cloned().map(WindowText).collect::<Vec<_>>();
        let day = |windows: &Vec<Window>| (!windows.is_empty()).then(|| list(windows));
        let [mon, tue, wed, thu, fri, sat, sun] = schedule.weekly.each_ref().map(day);
        let holiday = |holiday: &Holiday| {
            let (year, month, day) = holiday.date;
            let date = Date::new(year, month.cast_signed(), day.cast_signed()).unwrap_or(Date::ZERO);
            HolidayBody { date: DateText(date), windows: list(&holiday.windows) }
        };
        let holidays: Vec<_> = schedule.holidays.iter().map(holiday).collect();
        Self {
            name: name.clone(),
            weekly: WeekBody { mon, tue, wed, thu, fri, sat, sun },
            holidays: (!holidays.is_empty()).then_some(holidays),
            timezone: schedule.timezone.clone(),
        }
    }

    pub fn into_schedule(self) -> Result<Schedule, Wrong> {
        let windows = |list: Vec<WindowText>| list.into_iter().map(|window| window.0).collect::<Vec<_>>();
        let WeekBody { mon, tue, wed, thu, fri, sat, sun } = self.weekly;
        let week = [mon, tue, wed, thu, fri, sat, sun].map(Option::unwrap_or_default);
        for day in &week {
            at_most(day, WINDOWS_MAX, "weekly")?;
        }
        let known = |name: String| {
            let what = || format!("an IANA time zone like `Asia/Shanghai` is wanted, got {}", quote(&name));
            timezone(&name).ok_or_else(|| invalid("timezone", what()))
        };
        let timezone = self.timezone.map(known).transpose()?;
        let mut schedule = Schedule { weekly: week.map(windows), holidays: Vec::new(), timezone };
        let holidays = self.holidays.unwrap_or_default();
        at_most(&holidays, HOLIDAYS_MAX, "holidays")?;
        let mut dates = BTreeSet::new();
        for (at, holiday) in holidays.into_iter().enumerate() {
            let date = holiday.date.0;
            if !dates.insert(date) {
                let what = format!("`{date}` is listed twice; join its windows");
                return Err(invalid(format!("holidays[{at}].date"), what));
            }
            at_most(&holiday.windows, WINDOWS_MAX, "holidays")?;
            let date = (date.year(), date.month().cast_unsigned(), date.day().cast_unsigned());
            schedule.holidays.push(Holiday { date, windows: windows(holiday.windows) });
        }
        Ok(schedule)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_window_ends_at_midnight_but_never_starts_at_24() {
        assert_eq!("22:00-06:00".parse(), Ok(WindowText(Window { start_min: 1320, end_min: 360 })));
        for wrong in
            ["24:00-06:00", "06:00-24:01", "06:60-07:00", "06:00", "06:00 - 07:00", "-1:00-02:00", "０6:00-07:00"]
        {
            assert!(wrong.parse::<WindowText>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_date_has_one_spelling() {
        assert_eq!("2026-10-01".parse::<DateText>().unwrap().to_string(), "2026-10-01");
        for wrong in ["2026-02-30", "20261001", "2026-10-1", "+002026-10-01", "2026-10-01T00:00", ""] {
            assert!(wrong.parse::<DateText>().is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn a_window_printed_is_the_window_parsed(start_min in 0..1440_u16, end_min in 0..=1440_u16) {
            let window = WindowText(Window { start_min, end_min });
            prop_assert_eq!(window.to_string().parse(), Ok(window));
        }
    }
}
