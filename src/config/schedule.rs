//! `[[schedule]]`: the schedules that hold until a center defines others of the same names.

use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;

use super::zone;
use crate::access::id::ScheduleName;
use crate::access::schedule::{Day, Holiday, Schedule, Window};
use crate::profile::document::{Key, List, Log, Text};
use crate::wire::limits::{HOLIDAYS_MAX, WINDOWS_MAX};

/// Most schedules of one configuration.
const SCHEDULES_MAX: usize = 1_000;

#[derive(Deserialize)]
pub(super) struct ScheduleTable {
    name: Key<Text<ScheduleName>>,
    weekly: Key<WeekTable>,
    holidays: List<HolidayTable>,
    timezone: Key<String>,
}

#[derive(Deserialize)]
struct WeekTable {
    mon: List<Text<Window>>,
    tue: List<Text<Window>>,
    wed: List<Text<Window>>,
    thu: List<Text<Window>>,
    fri: List<Text<Window>>,
    sat: List<Text<Window>>,
    sun: List<Text<Window>>,
}

#[derive(Deserialize)]
struct HolidayTable {
    date: Key<Text<Day>>,
    windows: List<Text<Window>>,
}

/// Every `[[schedule]]`.
pub(super) fn schedules(log: &Log, list: &List<ScheduleTable>) -> BTreeMap<ScheduleName, Schedule> {
    if list.items().len() > SCHEDULES_MAX {
        list.wrong(log, format!("at most {SCHEDULES_MAX} schedules fit here"));
    }
    let mut owners = HashMap::new();
    let mut schedules = BTreeMap::new();
    for (key, t) in list.items().iter().filter_map(|key| Some((key, key.get()?))) {
        let name = t.name.need(log, "").map(|Text(name)| name.clone());
        t.weekly.need(log, "write `weekly = { mon = [\"06:00-23:00\"] }`; a day that is not listed is closed");
        let schedule = schedule(log, t);
        let Some(name) = name else { continue };
        if let Some(owner) = owners.insert(name.clone(), key.place.path.clone()) {
            t.name.wrong(log, format!("`{name}` is the name of `{owner}`; give each schedule its own"));
        }
        schedules.insert(name, schedule);
    }
    schedules
}

fn schedule(log: &Log, t: &ScheduleTable) -> Schedule {
    let weekly = t.weekly.get().map_or_else(Default::default, |week| {
        let WeekTable { mon, tue, wed, thu, fri, sat, sun } = week;
        [mon, tue, wed, thu, fri, sat, sun].map(|day| windows(log, day))
    });
    if t.holidays.items().len() > HOLIDAYS_MAX {
        t.holidays.wrong(log, format!("at most {HOLIDAYS_MAX} holidays fit here; leave out those that are over"));
    }
    let mut owners = HashMap::new();
    let mut holidays = Vec::new();
    for (key, holiday) in t.holidays.items().iter().filter_map(|key| Some((key, key.get()?))) {
        let no_windows = "write the windows that begin on that day, or `windows = []` if it is closed";
        holiday.windows.need(log, no_windows);
        let windows = windows(log, &holiday.windows);
        let Some(Text(date)) = holiday.date.need(log, "").cloned() else { continue };
        if let Some(owner) = owners.insert(date, key.place.path.clone()) {
            holiday.date.wrong(log, format!("`{date}` is the date of `{owner}`, too; join their windows"));
        }
        holidays.push(Holiday { date, windows });
    }
    Schedule { weekly, holidays, timezone: t.timezone.parse(log, zone).map(|(name, _)| name) }
}

fn windows(log: &Log, list: &List<Text<Window>>) -> Vec<Window> {
    if list.items().len() > WINDOWS_MAX {
        list.wrong(log, format!("at most {WINDOWS_MAX} windows fit in a day"));
    }
    list.values().map(|Text(window)| *window).collect()
}
