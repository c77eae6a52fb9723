//! Schedules as a center writes them (wire contract, 2.7): read with every diagnostic named, and printed.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use jiff::civil::Date;
use jiff::tz::TimeZoneDatabase;
use serde_json::{Map, Value, json};

use super::fields::Fields;
use super::limits::{HOLIDAYS_MAX, TIMEZONE_BYTES_MAX, WINDOWS_MAX};
use super::spelling::nearest;
use super::text::quote;
use crate::access::change::OpError;
use crate::access::schedule::{Holiday, Schedule, Window};

/// Names of the days on the wire, Monday first.
pub const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
/// Minutes of a day; `24:00`.
const DAY_MIN: u16 = 24 * 60;

/// The bundled data, so that an answer does not depend on the machine's files.
static ZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

/// The IANA time zone of this name as the database spells it; `None` if there is none.
#[must_use]
pub fn timezone(name: &str) -> Option<String> {
    if name.len() > TIMEZONE_BYTES_MAX {
        return None;
    }
    ZONES.get(name).ok()?.iana_name().map(str::to_owned)
}

/// `06:00-23:00` as a window; an end at or before the start is on the next day; `24:00` may only end one.
#[must_use]
pub fn parse_window(text: &str) -> Option<Window> {
    let (start, end) = text.split_once('-')?;
    let window = Window { start_min: minute(start)?, end_min: minute(end)? };
    (window.start_min < DAY_MIN).then_some(window)
}

/// A window as on the wire.
#[must_use]
pub fn print_window(window: &Window) -> String {
    let (start, end) = (window.start_min, window.end_min);
    format!("{:02}:{:02}-{:02}:{:02}", start / 60, start % 60, end / 60, end % 60)
}

fn minute(text: &str) -> Option<u16> {
    let [h1, h2, b':', m1, m2] = text.as_bytes() else { return None };
    let digit = |b: &u8| b.is_ascii_digit().then(|| u16::from(b - b'0'));
    let (hour, minute) = (digit(h1)? * 10 + digit(h2)?, digit(m1)? * 10 + digit(m2)?);
    let all = hour * 60 + minute;
    (minute < 60 && all <= DAY_MIN).then_some(all)
}

/// Reads `weekly`, `holidays` and `timezone`.
pub(super) fn parse(fields: &Fields<'_>) -> Result<Schedule, OpError> {
    let mut schedule = Schedule::default();
    let weekly = fields.object("weekly")?;
    for (day, value) in weekly.members() {
        let slot = DAYS.iter().position(|d| d == day).and_then(|at| schedule.weekly.get_mut(at));
        let Some(slot) = slot else {
            // A misspelt day would silently be a closed one.
            let hint = nearest(day, DAYS.into_iter()).map_or(String::new(), |near| format!("; did you mean `{near}`?"));
            let what = format!("{} is no day, write one of {}{hint}", quote(day), DAYS.join(", "));
            return Err(fields.invalid("weekly", what));
        };
        *slot = windows(&weekly, day, value)?;
    }
    let mut dates = BTreeSet::new();
    if let Some(list) = fields.get("holidays") {
        for (at, item) in fields.as_list("holidays", list, HOLIDAYS_MAX)?.iter().enumerate() {
            let holiday = Fields::of(item, format!("{}[{at}]", fields.place("holidays")), fields.op())?;
            let text = holiday.text("date")?;
            let date = date(text).ok_or_else(|| {
                holiday.invalid("date", format_args!("a date like `2026-10-01` is wanted, got {}", quote(text)))
            })?;
            if !dates.insert(date) {
                return Err(holiday.invalid("date", format_args!("{} is listed twice; join its windows", quote(text))));
            }
            let windows = windows(&holiday, "windows", holiday.need("windows")?)?;
            schedule.holidays.push(Holiday { date, windows });
        }
    }
    if let Some(name) = fields.text_if("timezone")? {
        let zone = timezone(name).ok_or_else(|| {
            let what =
                format_args!("an IANA time zone like `Asia/Shanghai` is wanted, got {}", quote(name)).to_string();
            fields.invalid("timezone", what)
        })?;
        schedule.timezone = Some(zone);
    }
    Ok(schedule)
}

fn windows(fields: &Fields<'_>, key: &str, value: &Value) -> Result<Vec<Window>, OpError> {
    if value.is_null() {
        return Ok(Vec::new());
    }
    if !value.is_array() {
        return Err(fields.invalid(key, "a list of windows like `[\"06:00-23:00\"]` is wanted"));
    }
    let items = fields.as_list(key, value, WINDOWS_MAX)?;
    let window = |item: &Value| {
        let text = item.as_str().unwrap_or_default();
        parse_window(text).ok_or_else(|| {
            let got = item.as_str().map_or_else(|| quote(&item.to_string()), quote);
            fields.invalid(key, format_args!("a window like `06:00-23:00` (to `24:00` at most) is wanted, got {got}"))
        })
    };
    items.iter().map(window).collect()
}

fn date(text: &str) -> Option<(i16, u8, u8)> {
    let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] = text.as_bytes() else { return None };
    let number = |digits: &[&u8]| {
        digits.iter().try_fold(0_i16, |n, b| b.is_ascii_digit().then(|| n * 10 + i16::from(*b - b'0')))
    };
    let (year, month, day) = (number(&[y1, y2, y3, y4])?, number(&[m1, m2])?, number(&[d1, d2])?);
    let (month, day) = (i8::try_from(month).ok()?, i8::try_from(day).ok()?);
    Date::new(year, month, day).ok()?;
    Some((year, u8::try_from(month).ok()?, u8::try_from(day).ok()?))
}

/// `weekly`, `holidays` and `timezone` as on the wire.
pub(super) fn print(schedule: &Schedule) -> Map<String, Value> {
    let list = |windows: &[Window]| windows.iter().map(print_window).collect::<Vec<_>>();
    let open = DAYS.iter().zip(&schedule.weekly).filter(|(_, windows)| !windows.is_empty());
    let weekly = open.map(|(day, windows)| ((*day).to_owned(), json!(list(windows)))).collect();
    let mut map = Map::from_iter([("weekly".to_owned(), Value::Object(weekly))]);
    if !schedule.holidays.is_empty() {
        let holidays = schedule.holidays.iter().map(|holiday| {
            let (year, month, day) = holiday.date;
            json!({ "date": format!("{year:04}-{month:02}-{day:02}"), "windows": list(&holiday.windows) })
        });
        map.insert("holidays".into(), holidays.collect());
    }
    if let Some(zone) = &schedule.timezone {
        map.insert("timezone".into(), json!(zone));
    }
    map
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(value: &Value) -> Result<Schedule, String> {
        let Value::Object(map) = value else { panic!("an object is wanted") };
        parse(&Fields::message(map)).map_err(|e| e.message)
    }

    #[test]
    fn the_schedule_of_the_contract_is_read_and_printed() {
        let text = json!({
            "weekly": {"mon": ["06:00-23:00"], "sat": ["06:00-24:00"], "sun": ["22:00-06:00", "12:00-13:30"]},
            "holidays": [{"date": "2026-10-01", "windows": []}],
            "timezone": "Asia/Shanghai"
        });
        let schedule = read(&text).unwrap();
        assert_eq!(schedule.weekly[5], [Window { start_min: 360, end_min: 1440 }]);
        assert_eq!(schedule.weekly[1], []);
        assert_eq!(schedule.holidays[0].date, (2026, 10, 1));
        assert_eq!(Value::Object(print(&schedule)), text);
    }

    #[test]
    fn a_diagnostic_in_a_schedule_is_named_with_its_place() {
        let table = [
            (json!({}), "`weekly`: is missing; add it"),
            (
                json!({"weekly": {"wedn": []}}),
                "`weekly`: `wedn` is no day, write one of mon, tue, wed, thu, fri, sat, sun; did you mean `wed`?",
            ),
            (
                json!({"weekly": {"mon": "06:00-23:00"}}),
                "`weekly.mon`: a list of windows like `[\"06:00-23:00\"]` is wanted",
            ),
            (
                json!({"weekly": {"mon": ["6:00-23:00"]}}),
                "`weekly.mon`: a window like `06:00-23:00` (to `24:00` at most) is wanted, got `6:00-23:00`",
            ),
            (
                json!({"weekly": {}, "holidays": [{"date": "2026-02-30", "windows": []}]}),
                "`holidays[0].date`: a date like `2026-10-01` is wanted, got `2026-02-30`",
            ),
            (json!({"weekly": {}, "holidays": [{"date": "2026-02-03"}]}), "`holidays[0].windows`: is missing; add it"),
            (
                json!({"weekly": {}, "holidays": [{"date": "2026-02-03", "windows": []}, {"date": "2026-02-03", "windows": []}]}),
                "`holidays[1].date`: `2026-02-03` is listed twice; join its windows",
            ),
            (
                json!({"weekly": {}, "timezone": "Asia/Nanhu"}),
                "`timezone`: an IANA time zone like `Asia/Shanghai` is wanted, got `Asia/Nanhu`",
            ),
        ];
        for (value, message) in table {
            assert_eq!(read(&value).unwrap_err(), message);
        }
    }

    #[test]
    fn a_window_ends_at_midnight_but_never_starts_at_24() {
        assert_eq!(parse_window("22:00-06:00"), Some(Window { start_min: 1320, end_min: 360 }));
        for wrong in
            ["24:00-06:00", "06:00-24:01", "06:60-07:00", "06:00", "06:00 - 07:00", "-1:00-02:00", "０6:00-07:00"]
        {
            assert_eq!(parse_window(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn a_window_printed_is_the_window_parsed(start_min in 0..1440_u16, end_min in 0..=1440_u16) {
            let window = Window { start_min, end_min };
            prop_assert_eq!(parse_window(&print_window(&window)), Some(window));
        }

        #[test]
        fn no_text_breaks_the_parsers(text in ".{0,16}", dated in "[0-9]{4}-[0-9]{2}-[0-9]{2}") {
            let _read = (parse_window(&text), date(&text), date(&dated), timezone(&text));
        }
    }
}
