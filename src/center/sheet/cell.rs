//! One cell of a sheet: its value, or what is wrong with it and what to do. Spreadsheets change what looks like a number or a date,
//! and what they lost cannot be guessed, so a cell that they changed is refused.

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;

use crate::access::credential::{CardMark, CardMarks, Entitlement, Role, ZoneSet};
use crate::access::id::{CardUid, Holder, Timestamp};
use crate::access::portal::PortalKind;
use crate::access::uid_text;
use crate::wire::limits::ENTITLEMENTS_MAX;
use crate::wire::text::quote;

/// Stands where a card is to open nothing.
pub(super) const NOTHING: &str = "-";
/// Longest cell in characters. A longer one is usually a quote that was not closed.
const CELL_CHARS_MAX: usize = 16 * 1024;
/// Spreadsheets number days from here; day 1 is 1900-01-01, and 1900 is a leap year to them.
const DAY_ZERO: Date = jiff::civil::date(1899, 12, 30);
/// Day numbers that are dates from 1954 to 2119.
const DAY_NUMBERS: std::ops::Range<i32> = 20_000..80_000;
/// Digits of the UIDs of 4, 7 and 10 bytes.
const UID_DIGITS: [usize; 3] = [8, 14, 20];

/// What people write who take a column of zones for a question.
const YES_OR_NO: [&str; 7] = ["true", "false", "yes", "no", "all", "any", "none"];

const AS_TEXT: &str = "format the column as Text before the values come into it, and export the list again";

/// What a spreadsheet or an input method did to a value; `None`: nothing that can be seen.
pub(super) fn damage(text: &str) -> Option<String> {
    if text.chars().nth(CELL_CHARS_MAX).is_some() {
        return Some(format!("more than {CELL_CHARS_MAX} characters; is a double quote not closed?"));
    }
    let is_full_width = |c: &char| matches!(c, '\u{FF01}'..='\u{FF5E}' | '\u{3000}');
    if let Some(c) = text.chars().find(is_full_width) {
        let narrow: String = text.chars().map(half_width).collect();
        return Some(format!("{} has the full-width character `{c}`; write {}", quote(text), quote(&narrow)));
    }
    let is_invisible = |c: &char| {
        c.is_control() && !matches!(c, '\n' | '\r' | '\t')
            || matches!(c, '\u{A0}' | '\u{AD}' | '\u{2000}'..='\u{200F}' | '\u{2028}'..='\u{202F}' | '\u{2060}'..='\u{206F}' | '\u{FEFF}')
    };
    if let Some(c) = text.chars().find(is_invisible) {
        return Some(format!(
            "there is an invisible character in it, U+{:04X}; delete the cell and type it again",
            u32::from(c)
        ));
    }
    if text.starts_with('\'') || text.starts_with("=\"") {
        return Some(format!("{} is written for a spreadsheet; leave out `=`, `'` and `\"`", quote(text)));
    }
    if text.starts_with('#') {
        return Some(format!(
            "{} is an error that a spreadsheet shows in place of the value; repair the sheet",
            quote(text)
        ));
    }
    if is_scientific(text) {
        return Some(format!(
            "{} is what a spreadsheet makes of a long number, and the last digits are lost; {AS_TEXT}",
            quote(text)
        ));
    }
    if let Some(number) = text.strip_suffix(".0").filter(|number| is_digits(number)) {
        return Some(format!("{} is what a spreadsheet makes of the text {}; {AS_TEXT}", quote(text), quote(number)));
    }
    None
}

fn half_width(c: char) -> char {
    match c {
        '\u{3000}' => ' ',
        '\u{FF01}'..='\u{FF5E}' => char::from_u32(u32::from(c) - 0xFEE0).unwrap_or(c),
        other => other,
    }
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// `1.23E+09`. Without a point or a sign it may be a UID.
fn is_scientific(text: &str) -> bool {
    let Some((number, exponent)) = text.split_once(['e', 'E']) else { return false };
    let (whole, fraction) = number.split_once(['.', ',']).map_or((number, None), |(whole, rest)| (whole, Some(rest)));
    let sign = exponent.strip_prefix(['+', '-']);
    let are_digits = is_digits(whole) && fraction.is_none_or(is_digits) && is_digits(sign.unwrap_or(exponent));
    are_digits && (fraction.is_some() || sign.is_some())
}

fn undamaged(text: &str) -> Result<&str, String> {
    if text.is_empty() {
        return Err("is empty; fill it in".to_owned());
    }
    damage(text).map_or(Ok(text), Err)
}

/// A card's UID.
pub(super) fn uid(text: &str) -> Result<CardUid, String> {
    let text = undamaged(text)?;
    let digits: String = text.chars().filter(|c| !matches!(c, ':' | '-' | ' ')).collect();
    let count = digits.chars().count();
    if !UID_DIGITS.contains(&count) && digits.chars().all(|c| c.is_ascii_hexdigit()) {
        let lost = UID_DIGITS.contains(&(count + 1));
        let why = if lost {
            format!("; a spreadsheet has removed a leading zero: {AS_TEXT}")
        } else {
            uid_text::hint(text).unwrap_or_default()
        };
        return Err(format!("{} has {count} digits, and a UID in hexadecimal has 8, 14 or 20{why}", quote(text)));
    }
    let hint = || uid_text::hint(text).unwrap_or_default();
    let uid: CardUid = text.parse().map_err(|error| format!("{} is not a card UID: {error}{}", quote(text), hint()))?;
    if uid.is_random() {
        return Err(format!("`{uid}` begins with 08: a phone's random UID, another one each time; enrol a card"));
    }
    if uid.is_cascade_tag() {
        return Err(format!(
            "`{uid}` begins with 88: the reader cut a longer UID off; read the card with one that gives 7 bytes"
        ));
    }
    if uid.is_commonplace() {
        return Err(format!(
            "`{uid}` is a UID that makers give to test cards and copies, so many cards have it; issue another card"
        ));
    }
    Ok(uid)
}

/// A holder's id.
pub(super) fn holder(text: &str) -> Result<Holder, String> {
    undamaged(text)?.parse().map_err(|error: crate::access::id::IdentifierError| error.to_string())
}

/// Chinese names of the roles.
const ROLES: [(&str, Role); 8] = [
    ("住宿生", Role::Resident),
    ("学生", Role::Resident),
    ("住户", Role::Resident),
    ("职工", Role::Staff),
    ("教职工", Role::Staff),
    ("员工", Role::Staff),
    ("访客", Role::Visitor),
    ("临时", Role::Visitor),
];

/// `resident`, `staff` or `visitor`.
pub(super) fn role(text: &str) -> Result<Role, String> {
    let text = undamaged(text)?;
    let chinese = ROLES.iter().find(|(name, _)| *name == text).map(|(_, role)| *role);
    chinese.or_else(|| Role::parse(&text.to_ascii_lowercase())).ok_or_else(|| {
        let names: Vec<&str> = Role::ALL.iter().map(|role| role.as_str()).collect();
        let chinese: Vec<&str> = ROLES.iter().map(|(name, _)| *name).collect();
        format!("{} is no role; write one of {}, or {}", quote(text), names.join(", "), chinese.join("、"))
    })
}

/// Chinese names of the marks of a card.
const MARKS: [(&str, CardMark); 3] =
    [("第二凭证", CardMark::SecondToken), ("延长开门", CardMark::ExtendedHold), ("胁迫", CardMark::Duress)];

/// `second_token`, `extended_hold` and `duress`, with spaces between them.
pub(super) fn marks(text: &str) -> Result<CardMarks, String> {
    undamaged(text)?.split_whitespace().map(mark).collect()
}

/// One mark of a card. The error names what is wrong, and what to write.
pub fn mark(word: &str) -> Result<CardMark, String> {
    let chinese = MARKS.iter().find(|(name, _)| *name == word).map(|(_, mark)| *mark);
    chinese.or_else(|| CardMark::parse(&word.to_ascii_lowercase())).ok_or_else(|| {
        let names: Vec<&str> = CardMark::ALL.iter().map(|mark| mark.as_str()).collect();
        let chinese: Vec<&str> = MARKS.iter().map(|(name, _)| *name).collect();
        format!("{} is no mark of a card; write some of {}, or {}", quote(word), names.join(", "), chinese.join("、"))
    })
}

/// Marks as [`marks`] reads them.
pub(crate) fn print_marks(marks: CardMarks) -> String {
    marks.iter().map(CardMark::as_str).collect::<Vec<_>>().join(" ")
}

/// Chinese names of the kinds of portals.
const KINDS: [(&str, PortalKind); 5] = [
    ("闸机", PortalKind::Gate),
    ("大门", PortalKind::Gate),
    ("房门", PortalKind::Door),
    ("取电箱", PortalKind::PowerBox),
    ("取电", PortalKind::PowerBox),
];

/// The entitlements of a cell, with spaces between them: `ZONE[:SCHEDULE]` of a column for one kind, else `KIND:ZONE[:SCHEDULE]`.
pub(super) fn entitlements(text: &str, kind: Option<PortalKind>) -> Result<Vec<Entitlement>, String> {
    let text = undamaged(text)?;
    if text == NOTHING {
        return Ok(Vec::new());
    }
    let one = |word: &str| match kind {
        None => entitlement(word),
        Some(kind) => {
            let (zone, schedule) = word.split_once(':').map_or((word, None), |(zone, rest)| (zone, Some(rest)));
            of_parts(kind, zone, schedule)
        }
    };
    let all: Vec<Entitlement> = text.split_whitespace().map(one).collect::<Result<_, _>>()?;
    if all.len() > ENTITLEMENTS_MAX {
        return Err(format!("{} zones are too many, {ENTITLEMENTS_MAX} are allowed; `*` names them all", all.len()));
    }
    Ok(all)
}

/// `KIND:ZONE` or `KIND:ZONE:SCHEDULE`. The error names what is wrong, and what to write.
pub fn entitlement(text: &str) -> Result<Entitlement, String> {
    let mut parts = text.splitn(3, ':');
    let (Some(kind), Some(zone), schedule) = (parts.next(), parts.next(), parts.next()) else {
        return Err(format!(
            "{} is no entitlement; write KIND:ZONE or KIND:ZONE:SCHEDULE, e.g. `door:412:term`",
            quote(text)
        ));
    };
    let chinese = KINDS.iter().find(|(name, _)| *name == kind).map(|(_, kind)| *kind);
    let kind = chinese.or_else(|| PortalKind::parse(kind)).ok_or_else(|| {
        let names: Vec<&str> = PortalKind::ALL.iter().map(|kind| kind.as_str()).collect();
        format!("{} is no kind of portal; write one of {}", quote(kind), names.join(", "))
    })?;
    of_parts(kind, zone, schedule)
}

fn of_parts(kind: PortalKind, zone: &str, schedule: Option<&str>) -> Result<Entitlement, String> {
    if let Some(damage) = damage(zone) {
        return Err(damage);
    }
    let name = |error: crate::access::id::IdentifierError| error.to_string();
    Ok(Entitlement { kind, zone: zone_set(zone)?, schedule: schedule.map(str::parse).transpose().map_err(name)? })
}

/// A zone, or `*` for any. The error names what is wrong, and what to write.
pub fn zone_set(text: &str) -> Result<ZoneSet, String> {
    if is_date(text) {
        return Err(format!("{} is what a spreadsheet makes of a room like `4-12`; {AS_TEXT}", quote(text)));
    }
    // A column of ticks is no column of zones, and no portal is in a zone of such a name.
    if YES_OR_NO.iter().any(|word| text.eq_ignore_ascii_case(word)) {
        return Err(format!(
            "{} is no zone; name the zones as the portals have them: `*` opens all, `-` none",
            quote(text)
        ));
    }
    text.parse().map_err(|e| format!("{e}; or `*` for any"))
}

/// `12-Apr`, `Apr-12`, `4月12日`.
fn is_date(text: &str) -> bool {
    const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
    let is_month = |part: &str| MONTHS.contains(&part.to_ascii_lowercase().as_str());
    let is_day = |part: &str| part.len() <= 2 && is_digits(part);
    let english = text.split_once('-').is_some_and(|(a, b)| is_day(a) && is_month(b) || is_month(a) && is_day(b));
    let chinese = text.split_once('月').is_some_and(|(a, b)| is_day(a) && is_day(b.trim_end_matches('日')));
    english || chinese
}

/// An instant: RFC 3339 with an offset, or a date with or without a time of day where the building is.
pub(super) fn time(text: &str, timezone: &TimeZone) -> Result<Timestamp, String> {
    let text = undamaged(text)?;
    let wanted = "write `2026-09-01`, `2026-09-01 08:00` or `2026-09-01T08:00:00+08:00`";
    let at = match text.parse::<Timestamp>() {
        Ok(at) => at,
        Err(_) => {
            let local = local_time(text).ok_or_else(|| not_a_time(text, wanted))?;
            let zoned = timezone.to_ambiguous_zoned_datetime(local).unambiguous();
            let zoned = zoned.map_err(|_| {
                format!("{} does not exist or exists twice there, because clocks are changed; {wanted}", quote(text))
            })?;
            Timestamp(zoned.timestamp().as_millisecond())
        }
    };
    if at < EARLIEST {
        return Err(format!("{} is before 2000-01-01, and no card is that old; {wanted}", quote(text)));
    }
    Ok(at)
}

/// 2000-01-01T00:00:00Z: what is earlier is an error (wire contract, section 3).
const EARLIEST: Timestamp = Timestamp(946_684_800_000);

fn not_a_time(text: &str, wanted: &str) -> String {
    let whole = text.split_once('.').map_or(text, |(whole, _)| whole);
    let number = is_digits(whole).then(|| whole.parse::<i32>().ok()).flatten().filter(|day| DAY_NUMBERS.contains(day));
    if let Some(date) = number.and_then(|day| DAY_ZERO.checked_add(jiff::Span::new().days(day)).ok()) {
        return format!(
            "{} is a spreadsheet's number for {date}; format the column as a date like {date} and export again",
            quote(text)
        );
    }
    format!("{} is not a time; {wanted}", quote(text))
}

/// `2026-09-01`, `2026/9/1`, `2026年9月1日`, each alone or with ` 8:00` or ` 08:00:00`. Nothing with the year behind: it would not be
/// known which is the month.
fn local_time(text: &str) -> Option<DateTime> {
    let (date, time) = match text.split_once([' ', 'T']) {
        Some((date, time)) => (date, time_of_day(time.trim())?),
        None => (text, Time::midnight()),
    };
    let separators: [(&str, &str, &str); 3] = [("-", "-", ""), ("/", "/", ""), ("年", "月", "日")];
    let parts = separators.iter().find_map(|(year, month, end)| {
        let (y, rest) = date.split_once(year)?;
        let (m, d) = rest.split_once(month)?;
        Some((y, m, d.strip_suffix(end)?))
    });
    let (year, month, day) = parts?;
    let short = |part: &str| (is_digits(part) && part.len() <= 2).then(|| part.parse::<i8>().ok()).flatten();
    let year: i16 = (is_digits(year) && year.len() == 4).then(|| year.parse().ok()).flatten()?;
    Some(Date::new(year, short(month)?, short(day)?).ok()?.to_datetime(time))
}

fn time_of_day(text: &str) -> Option<Time> {
    let mut parts = text.split(':');
    let mut next = |is_needed: bool| match parts.next() {
        None if !is_needed => Some(0),
        None => None,
        Some(part) => (is_digits(part) && part.len() <= 2).then(|| part.parse::<i8>().ok()).flatten(),
    };
    let (hour, minute, second) = (next(true)?, next(true)?, next(false)?);
    if parts.next().is_some() {
        return None;
    }
    Time::new(hour, minute, second, 0).ok()
}

/// An instant as [`time`] reads it.
pub(super) fn print_time(at: Timestamp, timezone: &TimeZone) -> String {
    let instant = jiff::Timestamp::from_millisecond(at.0).unwrap_or(jiff::Timestamp::MAX);
    instant.to_zoned_datetime(timezone.clone()).strftime("%Y-%m-%dT%H:%M:%S%.f%:z").to_string()
}

/// The zones of one kind as [`entitlements`] reads them.
pub(super) fn print_entitlements(all: &[Entitlement], kind: PortalKind) -> String {
    all.iter().filter(|one| one.kind == kind).map(print_zone).collect::<Vec<_>>().join(" ")
}

/// `KIND:ZONE` or `KIND:ZONE:SCHEDULE`.
pub(crate) fn print_entitlement(one: &Entitlement) -> String {
    format!("{}:{}", one.kind.as_str(), print_zone(one))
}

fn print_zone(one: &Entitlement) -> String {
    let zone = &one.zone;
    one.schedule.as_ref().map_or_else(|| zone.to_string(), |schedule| format!("{zone}:{schedule}"))
}
