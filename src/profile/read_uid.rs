//! `uid` of a `[[reader]]`: where the UID is, and which part of it the reader gives.

use serde::Deserialize;

use super::document::{Key, Log, Whole, out_of_range};
use super::model::{UidContent, UidLength, UidOrder, UidSource};
use super::points::{Point, PointType};
use super::scope::Scope;
use crate::access::transform::{Form, KEEP_BYTES_MAX, KEEP_BYTES_MIN};

/// Lengths of a UID in bytes (ISO/IEC 14443-3: single, double, triple).
const LENGTHS: [i64; 3] = [4, 7, 10];

#[derive(Deserialize)]
pub(super) struct UidTable {
    point: Key<String>,
    order: Key<UidOrder>,
    length: Key<Length>,
    min: Key<Whole<4, 10>>,
    max: Key<Whole<4, 10>>,
    transform: Key<Named>,
    keep: Key<Keep>,
}

#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "a number of bytes, or in quotes `zero_padded` or the point that holds the number, is wanted"
)]
enum Length {
    Bytes(i64),
    Named(String),
}

/// How many bytes a reader keeps.
pub(super) type Keep = Whole<{ KEEP_BYTES_MIN as i64 }, { KEEP_BYTES_MAX as i64 }>;

/// `transform` as written, before `keep` is known.
#[derive(Clone, Copy, Deserialize, PartialEq)]
#[serde(rename_all = "snake_case")]
pub(super) enum Named {
    Wiegand26,
    Wiegand34,
    First,
    Last,
    FirstLevel,
    Decimal,
    DroppedZeros,
    DecimalBytes,
}

/// How many bytes the point holds, if it holds bytes.
fn bytes_of(point: &Point) -> Option<i64> {
    match point.kind {
        PointType::Bytes => Some(i64::from(point.registers) * 2),
        PointType::ByteEach => Some(i64::from(point.registers)),
        PointType::Bool | PointType::U16 | PointType::I16 | PointType::U32 | PointType::I32 | PointType::F32 => None,
    }
}

/// A number of bytes of a UID, or `default`.
pub(super) fn length(log: &Log, key: &Key<Whole<4, 10>>, default: u8) -> u8 {
    let bytes = key.number(default);
    if !LENGTHS.contains(&i64::from(bytes)) {
        key.wrong(log, format!("a UID has 4, 7 or 10 bytes, and never {bytes}: write one of these"));
    }
    bytes
}

/// `min` and `max`: the lengths of the UIDs that a reader can read.
pub(super) fn limits(log: &Log, min: &Key<Whole<4, 10>>, max: &Key<Whole<4, 10>>) -> (u8, u8) {
    let (shortest, longest) = (length(log, min, 4), length(log, max, 10));
    if shortest > longest {
        let message =
            format!("`min` is {shortest} and `max` is {longest}, so every UID would be malformed; exchange them");
        min.wrong(log, message);
    }
    (shortest, longest)
}

/// In which order the bytes of the UID come.
pub(super) fn order(log: &Log, key: &Key<UidOrder>) -> Option<UidOrder> {
    key.need(log, "write `msb_first` if the bytes come as the card sends them, or `lsb_first`").copied()
}

/// Reports `keep` at a reader that gives whole UIDs.
pub(super) fn keeps_all(log: &Log, keep: &Key<Keep>) {
    keep.must_not_be_set(log, "`keep` is for `transform = \"first\"` and `\"last\"`");
}

/// The transform of a lossy reader. `of_whole`: the keys of a reader that gives whole UIDs.
pub(super) fn form(
    log: &Log,
    transform: &Key<Named>,
    keep: &Key<Keep>,
    of_whole: &[&Key<Whole<4, 10>>],
) -> Option<Form> {
    for key in of_whole {
        key.must_not_be_set(log, "this is for whole UIDs; leave it out beside a `transform`");
    }
    let kept = keep.get().map(|_| keep.number(KEEP_BYTES_MAX));
    let form = match transform.get()? {
        Named::First | Named::Last if !keep.is_set() => {
            transform.wrong(log, "write how many bytes the reader keeps: `keep = 2`, 3 or 4");
            return None;
        }
        Named::First => return kept.map(Form::First),
        Named::Last => return kept.map(Form::Last),
        Named::Wiegand26 => Form::Last(3),
        Named::Wiegand34 => Form::Last(4),
        Named::FirstLevel => Form::FirstLevel,
        Named::Decimal => Form::Decimal,
        Named::DroppedZeros => Form::DroppedZeros,
        Named::DecimalBytes => Form::DecimalBytes,
    };
    keep.must_not_be_set(log, "this transform keeps a fixed number of bytes; `keep` is for `first` and `last`");
    Some(form)
}

impl Scope<'_> {
    pub(super) fn uid(&self, t: &UidTable) -> Option<UidSource> {
        let log = self.log;
        t.point.need(log, "name the point of `[points]` that holds the UID");
        let order = order(log, &t.order).unwrap_or(UidOrder::MsbFirst);
        let point = self.polled(&t.point)?;
        if t.transform.is_set() {
            let form = form(log, &t.transform, &t.keep, &[&t.min, &t.max])?;
            let length = self.shown(t, &point, form)?;
            return Some(UidSource { point, length, order, content: UidContent::Reduced(form) });
        }
        keeps_all(log, &t.keep);
        if bytes_of(&point).is_none() {
            t.point.wrong(log, "a UID is `bytes` or `byte_each`; a number is one only with a `transform`");
        }
        let (min, max) = limits(log, &t.min, &t.max);
        let length = self.length(t, &point)?;
        if let UidLength::Fixed(fixed) = &length
            && !(min..=max).contains(fixed)
        {
            let message = format!("every UID has {fixed} bytes, which `min` and `max` exclude: leave them out");
            t.length.wrong(log, message);
        }
        Some(UidSource { point, length, order, content: UidContent::Whole { min, max } })
    }

    /// How many bytes of the point are a whole UID.
    fn length(&self, t: &UidTable, point: &Point) -> Option<UidLength> {
        let log = self.log;
        let bytes = bytes_of(point);
        let wrong = |why: &str| {
            let message = format!(
                "a UID has 4, 7 or 10 bytes, and `{}` has {}{why}; a reader that gives fewer needs a `transform`",
                point.name,
                bytes.unwrap_or(0)
            );
            t.length.wrong(log, message);
        };
        match t.length.need(log, "write 4, 7 or 10, the point that holds the number, or `zero_padded`")? {
            Length::Bytes(fixed) => {
                if *fixed > bytes.unwrap_or(0) || !LENGTHS.contains(fixed) {
                    wrong("");
                }
                u8::try_from(*fixed).ok().map(UidLength::Fixed)
            }
            Length::Named(name) if name == "zero_padded" => {
                if bytes.is_some_and(|bytes| bytes < LENGTHS[0]) {
                    wrong(": correct `registers`");
                }
                Some(UidLength::ZeroPadded)
            }
            Length::Named(name) => {
                let point = self.polled(&t.length.with(name.clone()))?;
                if !matches!(point.kind, PointType::U16 | PointType::U32) {
                    let message = format!("`{}` cannot hold a number of bytes; name a `u16` or `u32`", point.name);
                    t.length.wrong(log, message);
                }
                Some(UidLength::Point(point))
            }
        }
    }

    /// How many bytes of the point the reader fills; reports a transform that does not fit the point.
    fn shown(&self, t: &UidTable, point: &Point, form: Form) -> Option<UidLength> {
        let log = self.log;
        let Some(bytes) = bytes_of(point) else {
            if !matches!(point.kind, PointType::U16 | PointType::U32) {
                t.point.wrong(log, "what a lossy reader shows is `bytes`, `byte_each`, `u16` or `u32`");
                return None;
            }
            let whole = format!("`{}` is a number and has no length: leave `length` out", point.name);
            t.length.must_not_be_set(log, &whole);
            let holds = i64::from(point.registers) * 2;
            match form.keeps() {
                None => t.point.wrong(
                    log,
                    "a `u32` is too small for a UID of 7 bytes: write which four the reader keeps, e.g. `transform = \"wiegand34\"` for the last",
                ),
                Some(keep) if i64::from(keep) > holds => t.point.wrong(
                    log,
                    format!("this transform keeps {keep} bytes, `{}` holds {holds}: name a `u32`, or a transform that keeps less", point.name),
                ),
                Some(_) => {}
            }
            return Some(UidLength::All);
        };
        let fixed = match t.length.get() {
            None => None,
            Some(Length::Named(_)) => {
                let message = "with a `transform`, write how many bytes the reader shows, or leave `length` out for all of the point";
                t.length.wrong(log, message);
                None
            }
            Some(Length::Bytes(fixed)) => {
                if !(1..=bytes).contains(fixed) {
                    t.length.wrong(log, out_of_range(1, bytes));
                }
                u8::try_from(*fixed).ok()
            }
        };
        let shown = fixed.map_or(bytes, i64::from);
        if let Some(keep) = form.keeps().filter(|keep| i64::from(*keep) > shown) {
            t.point.wrong(log, format!("this transform keeps {keep} bytes, and {shown} are shown: correct `registers` or `length`, or name a transform that keeps less"));
        }
        Some(fixed.map_or(UidLength::All, UidLength::Fixed))
    }
}
