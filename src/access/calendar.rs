//! The schedules of a building by their names: those of its configuration, and those that a center defines, which take precedence.

use std::collections::{BTreeMap, HashMap};

use foldhash::fast::RandomState;
use jiff::tz::TimeZone;

use super::id::{Revision, ScheduleName, Timestamp};
use super::list::ScheduleRegister;
use super::schedule::{Schedule, Timetable, end_of_day};

/// See the module's head.
#[derive(Clone, Debug)]
pub struct Calendar {
    zone: TimeZone,
    configured: BTreeMap<ScheduleName, Schedule>,
    tables: HashMap<ScheduleName, Entry, RandomState>,
    /// The first edge after the time for which it was last asked, with that time.
    edge: Option<(Timestamp, Option<Timestamp>)>,
}

#[derive(Clone, Debug)]
struct Entry {
    /// The op that defined it; `None`: the configuration.
    revision: Option<Revision>,
    table: Timetable,
}

/// No schedule; times are UTC.
impl Default for Calendar {
    fn default() -> Self {
        Self::new(TimeZone::UTC, BTreeMap::new())
    }
}

impl Calendar {
    /// The schedules of a configuration. `zone`: of those that name none.
    #[must_use]
    pub fn new(zone: TimeZone, configured: BTreeMap<ScheduleName, Schedule>) -> Self {
        let mut calendar = Self { zone, configured, tables: HashMap::default(), edge: None };
        calendar.follow(&BTreeMap::new());
        calendar
    }

    /// Takes over what centers have defined.
    pub fn follow(&mut self, defined: &BTreeMap<ScheduleName, ScheduleRegister>) {
        let mut before = std::mem::take(&mut self.tables);
        let configured = self.configured.iter().filter(|(name, _)| !defined.contains_key(*name));
        let configured = configured.map(|(name, schedule)| (name, None, schedule));
        let defined = defined.iter().map(|(name, register)| (name, Some(register.revision), &register.schedule));
        for (name, revision, schedule) in configured.chain(defined) {
            let kept = before.remove(name).filter(|entry| entry.revision == revision);
            let entry = kept.unwrap_or_else(|| Entry { revision, table: Timetable::new(schedule, &self.zone) });
            self.tables.insert(name.clone(), entry);
        }
        self.edge = None;
    }

    /// The schedules of the configuration.
    #[must_use]
    pub fn configured(&self) -> &BTreeMap<ScheduleName, Schedule> {
        &self.configured
    }

    /// When it was this minute of the day last, in the gateway's time zone.
    #[must_use]
    pub fn last_at(&self, minute: u16, now: Timestamp) -> Option<Timestamp> {
        let today = self.zone.to_datetime(jiff::Timestamp::from_millisecond(now.0).ok()?).date();
        let (hour, minute) = (i8::try_from(minute / 60).ok()?, i8::try_from(minute % 60).ok()?);
        let of = |date: jiff::civil::Date| {
            let time = jiff::civil::Time::new(hour, minute, 0, 0).ok()?;
            Some(Timestamp(self.zone.to_timestamp(date.to_datetime(time)).ok()?.as_millisecond()))
        };
        of(today).filter(|at| *at <= now).or_else(|| of(today.yesterday().ok()?))
    }

    /// When the day of this instant ends, in the gateway's time zone.
    #[must_use]
    pub fn end_of_day(&self, at: Timestamp) -> Option<Timestamp> {
        end_of_day(&self.zone, at)
    }

    /// Whether no schedule is defined.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }

    /// Whether a schedule of this name is defined.
    #[must_use]
    pub fn defines(&self, name: &ScheduleName) -> bool {
        self.tables.contains_key(name)
    }

    /// Whether this schedule is open; one that nobody has defined is not.
    #[must_use]
    pub fn is_open(&self, name: &ScheduleName, at: Timestamp) -> bool {
        self.tables.get(name).is_some_and(|entry| entry.table.is_open(at))
    }

    /// When this schedule, which is open at `at`, closes next; `None`: never.
    #[must_use]
    pub fn closes(&self, name: &ScheduleName, at: Timestamp) -> Option<Timestamp> {
        self.tables.get(name).and_then(|entry| entry.table.next_edge(at))
    }

    /// The first instant after `after` at which a schedule opens or closes.
    pub fn next_edge(&mut self, after: Timestamp) -> Option<Timestamp> {
        let known = self.edge.filter(|(asked, edge)| *asked <= after && edge.is_none_or(|edge| after < edge));
        let (_, edge) = known
            .unwrap_or_else(|| (after, self.tables.values().filter_map(|entry| entry.table.next_edge(after)).min()));
        self.edge = Some(known.unwrap_or((after, edge)));
        edge
    }
}
