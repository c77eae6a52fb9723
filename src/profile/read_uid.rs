//! `uid` of a `[[reader]]`: where the UID is, and what the reader makes of it. Every diagnostic with its line and what to do.

use crate::access::transform::{Form, KEEP_BYTES_MAX, KEEP_BYTES_MIN};
use crate::profile::document::{Table, Value};

use super::card::{UidLength, UidOrder, UidSays, UidSource};
use super::read::must_be_polled;
use super::scope::Scope;
use super::{Point, PointType, Poll};

/// Lengths of a UID in bytes (ISO/IEC 14443-3: single, double, triple).
const LENGTHS: [i64; 3] = [4, 7, 10];
/// What `keep` is asked for.
const KEEPS: std::ops::Range<i64> = KEEP_BYTES_MIN as i64..KEEP_BYTES_MAX as i64 + 1;

/// `transform` as written, before `keep` is known.
#[derive(Clone, Copy)]
enum Named {
    Whole(Form),
    First,
    Last,
}

pub(super) fn read_uid(t: &mut Table<'_>, scope: &Scope, polls: &[Poll]) -> Option<UidSource> {
    let uid = read_source(t, scope, polls);
    if uid.is_none() {
        t.give_up();
    }
    uid
}

fn read_source(t: &mut Table<'_>, scope: &Scope, polls: &[Poll]) -> Option<UidSource> {
    let value = t.need_or("point", "name the point of `[points]` that holds the UID")?;
    let point = scope.point(&value)?;
    must_be_polled(&value, &point, polls);
    let orders = [("msb_first", UidOrder::MsbFirst), ("lsb_first", UidOrder::LsbFirst)];
    let order = t
        .need_or("order", "write `msb_first` if the bytes come as the card sends them, or `lsb_first`")
        .and_then(|v| v.choice(&orders))
        .unwrap_or(UidOrder::MsbFirst);
    if t.has("transform") {
        let form = read_transform(t)?;
        let length = read_shown(t, &value, &point, form)?;
        return Some(UidSource { point, length, order, says: UidSays::Reduced(form) });
    }
    if t.has("keep") {
        t.get("keep");
        t.diagnostic_at("keep", "`keep` is for `transform = \"first\"` and `\"last\"`");
    }
    if bytes_of(&point).is_none() {
        value.diagnostic("a UID is `bytes` or `byte_each`; a number is one only with a `transform`");
    }
    let says = read_limits(t);
    let length = read_length(t, scope, polls, &point)?;
    if let (UidLength::Fixed(fixed), UidSays::Whole { min, max }) = (&length, &says)
        && !(*min..=*max).contains(fixed)
    {
        t.diagnostic_at(
            "length",
            format!("every UID has {fixed} bytes, and `min` and `max` let none through: leave them out"),
        );
    }
    Some(UidSource { point, length, order, says })
}

/// How many bytes the point holds, if it holds bytes.
fn bytes_of(point: &Point) -> Option<i64> {
    match point.kind {
        PointType::Bytes => Some(i64::from(point.registers) * 2),
        PointType::ByteEach => Some(i64::from(point.registers)),
        PointType::Bool | PointType::U16 | PointType::I16 | PointType::U32 | PointType::I32 | PointType::F32 => None,
    }
}

/// How many bytes of the point are a whole UID.
fn read_length(t: &mut Table<'_>, scope: &Scope, polls: &[Poll], point: &Point) -> Option<UidLength> {
    let length = t.need_or("length", "write 4, 7 or 10, the point that says it, or `zero_padded`")?;
    if !length.is_text() {
        let fixed = length.number(4..11)?;
        let bytes = bytes_of(point).unwrap_or(0);
        if fixed > bytes || !LENGTHS.contains(&fixed) {
            length.diagnostic(format!(
                "a UID has 4, 7 or 10 bytes, and `{}` has {bytes}; a reader that gives fewer needs a `transform`",
                point.name
            ));
        }
        return Some(UidLength::Fixed(u8::try_from(fixed).unwrap_or(0)));
    }
    if length.text().as_deref() == Some("zero_padded") {
        if let Some(bytes) = bytes_of(point).filter(|bytes| *bytes < LENGTHS[0]) {
            length.diagnostic(format!(
                "a UID has 4, 7 or 10 bytes, and `{}` has {bytes}: correct `registers`; a reader that gives fewer needs a `transform`",
                point.name
            ));
        }
        return Some(UidLength::ZeroPadded);
    }
    let point = scope.point(&length)?;
    must_be_polled(&length, &point, polls);
    if !matches!(point.kind, PointType::U16 | PointType::U32) {
        length.diagnostic(format!("`{}` says no number of bytes; a `u16` or `u32` does", point.name));
    }
    Some(UidLength::Point(point))
}

/// `min` and `max`: which whole UIDs the reader can read.
fn read_limits(t: &mut Table<'_>) -> UidSays {
    let mut limit = |key: &'static str, default: u8| {
        let Some(value) = t.get(key) else { return default };
        let Some(bytes) = value.number(4..11) else { return default };
        if !LENGTHS.contains(&bytes) {
            value.diagnostic(format!("a UID has 4, 7 or 10 bytes, none has {bytes}: write one of these"));
        }
        u8::try_from(bytes).unwrap_or(default)
    };
    let (min, max) = (limit("min", 4), limit("max", 10));
    if min > max {
        t.diagnostic_at("min", format!("`min` is {min} and `max` is {max}, so no UID would be taken; turn them round"));
    }
    UidSays::Whole { min, max }
}

fn read_transform(t: &mut Table<'_>) -> Option<Form> {
    let names = [
        ("wiegand26", Named::Whole(Form::Last(3))),
        ("wiegand34", Named::Whole(Form::Last(4))),
        ("first", Named::First),
        ("last", Named::Last),
        ("first_level", Named::Whole(Form::FirstLevel)),
        ("decimal", Named::Whole(Form::Decimal)),
        ("dropped_zeros", Named::Whole(Form::DroppedZeros)),
        ("decimal_bytes", Named::Whole(Form::DecimalBytes)),
    ];
    let named = t.get("transform").and_then(|v| v.choice(&names));
    for key in ["min", "max"] {
        if t.get(key).is_some() {
            t.diagnostic_at(key, format!("`{key}` is for whole UIDs; what is left after a `transform` has no length"));
        }
    }
    let keep = t.get("keep").and_then(|v| v.number(KEEPS)).and_then(|n| u8::try_from(n).ok());
    match named? {
        Named::Whole(form) => {
            if t.has("keep") {
                t.diagnostic_at("keep", "this transform says itself what it keeps; `keep` is for `first` and `last`");
            }
            Some(form)
        }
        Named::First | Named::Last if !t.has("keep") => {
            t.diagnostic_at("transform", "say how many bytes the reader keeps: `keep = 2`, 3 or 4");
            None
        }
        Named::First => keep.map(Form::First),
        Named::Last => keep.map(Form::Last),
    }
}

/// How much of the point is what the reader says, and whether it fits at all.
fn read_shown(t: &mut Table<'_>, value: &Value<'_>, point: &Point, form: Form) -> Option<UidLength> {
    let length = t.get("length");
    let Some(bytes) = bytes_of(point) else {
        if !matches!(point.kind, PointType::U16 | PointType::U32) {
            value.diagnostic("what a lossy reader says is `bytes`, `byte_each`, `u16` or `u32`");
            return None;
        }
        if let Some(length) = length {
            length.diagnostic(format!("`{}` is a number, which is taken whole: leave `length` out", point.name));
        }
        let holds = i64::from(point.registers) * 2;
        match form.keeps() {
            None => value.diagnostic(
                "a `u32` is too small for a UID of 7 bytes: say which four the reader keeps, e.g. `transform = \"wiegand34\"` for the last",
            ),
            Some(keep) if i64::from(keep) > holds => {
                value.diagnostic(format!("this transform keeps {keep} bytes, `{}` holds {holds}: name a `u32`, or a transform that keeps less", point.name));
            }
            Some(_) => {}
        }
        return Some(UidLength::All);
    };
    let fixed = match length {
        None => None,
        Some(length) if length.is_text() => {
            length.diagnostic(
                "with a `transform`, `length` is how many bytes the reader shows; left out: all of the point",
            );
            None
        }
        Some(length) => length.number(1..bytes + 1),
    };
    let shown = fixed.unwrap_or(bytes);
    if let Some(keep) = form.keeps().filter(|keep| i64::from(*keep) > shown) {
        value.diagnostic(format!("this transform keeps {keep} bytes, and {shown} are shown: correct `registers` or `length`, or name a transform that keeps less"));
    }
    Some(fixed.and_then(|n| u8::try_from(n).ok()).map_or(UidLength::All, UidLength::Fixed))
}

#[cfg(test)]
mod tests {
    use crate::profile::check_text;

    /// What is said of a profile whose reader has this `uid`; its points: `all` 10 bytes, `two` registers, `n` and `nn` numbers, `f`.
    fn said(uid: &str) -> Result<String, String> {
        let text = format!(
            r#"schema = 1
id = "a"
source = "s"
[link]
address_base = 0
byte_order = "big"
word_order = "big"
[points]
all = {{ space = "holding", address = 0, type = "bytes", registers = 5 }}
two = {{ space = "holding", address = 5, type = "bytes", registers = 1 }}
n = {{ space = "holding", address = 6, type = "u16" }}
nn = {{ space = "holding", address = 7, type = "u32" }}
f = {{ space = "holding", address = 9, type = "f32" }}
len = {{ space = "holding", address = 11, type = "u16" }}
[[poll]]
name = "card"
every_ms = 100
atomic = true
points = ["all", "two", "n", "nn", "f", "len"]
[[reader]]
trigger = {{ level = "uid" }}
uid = {uid}
"#
        );
        check_text("a.toml", &text)
    }

    #[test]
    fn every_diagnostic_of_a_uid_is_told_with_its_line_and_a_remedy() {
        for (uid, wanted) in [
            (r#"{ order = "msb_first", length = 4 }"#, "a.toml:22:7: `reader[0].uid`: `point` is missing"),
            (
                r#"{ point = "all", order = "msb_first", length = 5 }"#,
                "`reader[0].uid.length`: a UID has 4, 7 or 10 bytes, and `all` has 10; a reader that gives fewer needs a `transform`",
            ),
            (
                r#"{ point = "two", order = "msb_first", length = "zero_padded" }"#,
                "`reader[0].uid.length`: a UID has 4, 7 or 10 bytes, and `two` has 2: correct `registers`",
            ),
            (
                r#"{ point = "all", order = "msb_first", length = "f" }"#,
                "`reader[0].uid.length`: `f` says no number of bytes; a `u16` or `u32` does",
            ),
            (r#"{ point = "n", order = "msb_first", length = 4 }"#, "a number is one only with a `transform`"),
            (
                r#"{ point = "all", order = "msb_first", length = "len", min = 5 }"#,
                "`reader[0].uid.min`: a UID has 4, 7 or 10 bytes, none has 5",
            ),
            (
                r#"{ point = "all", order = "msb_first", length = "len", min = 7, max = 4 }"#,
                "`reader[0].uid.min`: `min` is 7 and `max` is 4, so no UID would be taken; turn them round",
            ),
            (
                r#"{ point = "all", order = "msb_first", length = 4, min = 7 }"#,
                "`reader[0].uid.length`: every UID has 4 bytes, and `min` and `max` let none through: leave them out",
            ),
            (
                r#"{ point = "all", order = "msb_first", length = 4, keep = 3 }"#,
                "`reader[0].uid.keep`: `keep` is for `transform = \"first\"` and `\"last\"`",
            ),
            (
                r#"{ point = "all", order = "msb_first", transform = "wiegand25" }"#,
                "`first_level`, `decimal`, `dropped_zeros`, `decimal_bytes` is wanted, got `wiegand25`; did you mean `wiegand26`?",
            ),
            (
                r#"{ point = "all", order = "msb_first", transform = "first" }"#,
                "say how many bytes the reader keeps: `keep = 2`, 3 or 4",
            ),
            (
                r#"{ point = "all", order = "msb_first", transform = "last", keep = 5 }"#,
                "a whole number from 2 to 4 is wanted",
            ),
            (
                r#"{ point = "all", order = "msb_first", transform = "wiegand26", keep = 3 }"#,
                "this transform says itself what it keeps",
            ),
            (
                r#"{ point = "all", order = "msb_first", transform = "wiegand26", max = 7 }"#,
                "`reader[0].uid.max`: `max` is for whole UIDs; what is left after a `transform` has no length",
            ),
            (
                r#"{ point = "two", order = "msb_first", transform = "wiegand26" }"#,
                "`reader[0].uid.point`: this transform keeps 3 bytes, and 2 are shown",
            ),
            (
                r#"{ point = "all", order = "msb_first", transform = "wiegand34", length = 3 }"#,
                "this transform keeps 4 bytes, and 3 are shown",
            ),
            (
                r#"{ point = "all", order = "msb_first", transform = "wiegand34", length = "len" }"#,
                "with a `transform`, `length` is how many bytes the reader shows; left out: all of the point",
            ),
            (
                r#"{ point = "n", order = "msb_first", transform = "wiegand26" }"#,
                "this transform keeps 3 bytes, `n` holds 2",
            ),
            (r#"{ point = "nn", order = "msb_first", transform = "decimal" }"#, "say which four the reader keeps"),
            (
                r#"{ point = "nn", order = "msb_first", transform = "wiegand34", length = 4 }"#,
                "`nn` is a number, which is taken whole: leave `length` out",
            ),
            (
                r#"{ point = "f", order = "msb_first", transform = "wiegand34" }"#,
                "what a lossy reader says is `bytes`, `byte_each`, `u16` or `u32`",
            ),
        ] {
            let said = said(uid).unwrap_err();
            assert!(said.contains(wanted), "{wanted}\nis not in what is said of {uid}:\n{said}");
        }
    }

    #[test]
    fn what_a_reader_loses_and_which_uids_it_takes_is_shown() {
        let lossy = said(r#"{ point = "nn", order = "lsb_first", transform = "wiegand34" }"#).unwrap();
        assert!(lossy.contains("LOSSY: it says only what `wiegand34, last byte first` leaves of a UID"), "{lossy}");
        let short = said(r#"{ point = "all", order = "msb_first", length = "len", max = 7 }"#).unwrap();
        assert!(short.contains("UIDs of 4 to 7 bytes; others are malformed") && !short.contains("LOSSY"), "{short}");
    }
}
