//! `define_schedule` as it is written in a message (wire contract, 2.7).

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::json::{Wrong, at_most, invalid};
use super::limits::{HOLIDAYS_MAX, TIMEZONE_BYTES_MAX, WINDOWS_MAX};
use super::text::quote;
use crate::access::id::{ScheduleName, as_text};
use crate::access::schedule::{Day, Holiday, Schedule, Window, timezone};

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
    date: DayText,
    windows: Vec<WindowText>,
}

as_text! {
    /// A window as text; on disk it is two numbers.
    struct WindowText(Window): "a window like `06:00-23:00`";
    /// A date as text; on disk it is three numbers.
    struct DayText(Day): "a date like `2026-10-01`";
}

impl ScheduleBody {
    pub fn of(name: &ScheduleName, schedule: &Schedule) -> Self {
        let list = |windows: &Vec<Window>| windows.iter().cloned().map(WindowText).collect::<Vec<_>>();
        let day = |windows: &Vec<Window>| (!windows.is_empty()).then(|| list(windows));
        let [mon, tue, wed, thu, fri, sat, sun] = schedule.weekly.each_ref().map(day);
        let holiday = |holiday: &Holiday| HolidayBody { date: DayText(holiday.date), windows: list(&holiday.windows) };
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
            let found = (name.len() <= TIMEZONE_BYTES_MAX).then(|| timezone(&name)).flatten();
            found.map(|(name, _)| name).ok_or_else(|| invalid("timezone", what()))
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
            schedule.holidays.push(Holiday { date, windows: windows(holiday.windows) });
        }
        Ok(schedule)
    }
}
