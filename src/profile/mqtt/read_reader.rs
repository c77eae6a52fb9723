//! `[reader]` of a profile: where the UID stands, how it is written, and how it is known that the card is still there.

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::model::{Place, Reader, Uid, UidForm};
use super::tables::{OnlyTable, Scope, Word};
use crate::access::portal::Direction;
use crate::profile::document::{Key, Whole};
use crate::profile::model::{UidContent, UidOrder};
use crate::profile::read_uid::{Keep, Named, form, keeps_all, length, limits, order};

/// Within which time the same card is the same presentation, if the profile names none, in milliseconds.
const AGAIN_MS: u32 = 1_500;
/// How long a card must not be reported before it has left, beyond `repeats_ms`, if the profile names no time, in milliseconds.
const GONE_MS: u32 = 1_000;

#[derive(Deserialize)]
pub(super) struct ReaderTable {
    topic: Key<String>,
    at: Key<String>,
    only: Key<OnlyTable>,
    uid: Key<UidTable>,
    direction: Key<Direction>,
    again_ms: Key<Whole<0, 60_000>>,
    repeats_ms: Key<Whole<1, 60_000>>,
    gone_ms: Key<Whole<0, 60_000>>,
    removed: Key<RemovedTable>,
    stamp: Key<String>,
    retained: Key<IgnoredAny>,
}

#[derive(Deserialize)]
struct RemovedTable {
    topic: Key<String>,
    at: Key<String>,
    only: Key<OnlyTable>,
    is: Key<Word>,
    repeats: Key<bool>,
}

#[derive(Deserialize)]
struct UidTable {
    form: Key<UidForm>,
    order: Key<UidOrder>,
    bytes: Key<Whole<4, 10>>,
    min: Key<Whole<4, 10>>,
    max: Key<Whole<4, 10>>,
    transform: Key<Named>,
    keep: Key<Keep>,
}

pub(super) fn reader(scope: &Scope<'_>, t: &ReaderTable) -> Option<Reader> {
    let log = scope.log;
    let why = "a retained message may be of any age and is never a card: leave it out";
    t.retained.must_not_be_set(log, why);
    let place = scope.place(&t.topic, &t.at, &t.only);
    let remedy = "write how the UID is written, e.g. `uid = { form = \"hex\", order = \"msb_first\" }`";
    let uid = t.uid.need(log, remedy).and_then(|table| uid(scope, table));
    let repeats_ms = t.repeats_ms.get().map(|_| t.repeats_ms.number(1));
    if repeats_ms.is_some() {
        let why = "a card that is repeated is the same presentation until it has left: leave it out";
        t.again_ms.must_not_be_set(log, why);
    } else {
        t.gone_ms
            .must_not_be_set(log, "only a card that is repeated can be missed: write `repeats_ms`, or leave it out");
    }
    if t.removed.is_set() && !t.repeats_ms.is_set() {
        let message = "this message may be lost, and the power would stay on: write also within which time the device repeats \
                       the card while it is there, `repeats_ms = …`, or leave it out";
        t.removed.wrong(log, message);
    }
    let removed_repeats = t.removed.get().and_then(|t| t.repeats.get().copied()).unwrap_or(false);
    let removed = t.removed.get().and_then(|t| {
        let is = t.is.need(log, "write the text that means that the card has left, e.g. `is = \"\"`").map(Word::text);
        Some((scope.place(&t.topic, &t.at, &t.only)?, is?))
    });
    let stamp = scope.pointer(&t.stamp);
    if stamp.is_some() && !t.at.is_set() {
        t.stamp.wrong(log, "plain text has no time in it: leave it out, or write `at`, the JSON pointer to the UID");
    }
    let place: Place = place?;
    Some(Reader {
        place,
        uid: uid?,
        direction: t.direction.get().copied(),
        again_ms: t.again_ms.number(AGAIN_MS),
        repeats_ms,
        gone_ms: t.gone_ms.number(GONE_MS),
        removed,
        removed_repeats,
        stamp,
    })
}

fn uid(scope: &Scope<'_>, t: &UidTable) -> Option<Uid> {
    let log = scope.log;
    let written = *t.form.need(log, "write `hex`, or `number` for decimal digits")?;
    let order = order(log, &t.order)?;
    let content = if t.transform.is_set() {
        let form = form(log, &t.transform, &t.keep, &[&t.min, &t.max, &t.bytes])?;
        if !written.can_show(form) {
            t.form.wrong(log, "this transform makes digits of another base: write the other `form`");
        }
        UidContent::Reduced(form)
    } else {
        keeps_all(log, &t.keep);
        match written {
            UidForm::Hex => {
                t.bytes.must_not_be_set(
                    log,
                    "hex digits show how many bytes there are; write `min` and `max`, or leave it out",
                );
                let (min, max) = limits(log, &t.min, &t.max);
                UidContent::Whole { min, max }
            }
            UidForm::Number => {
                for key in [&t.min, &t.max] {
                    key.must_not_be_set(log, "a number does not show how many bytes there are; write `bytes`");
                }
                let remedy = "write how many bytes every UID has, `bytes = 4`: a number loses leading zeros. A reader that gives part \
                              of the UID needs a `transform`";
                t.bytes.need(log, remedy)?;
                let bytes = length(log, &t.bytes, 4);
                UidContent::Whole { min: bytes, max: bytes }
            }
        }
    };
    Some(Uid { form: written, order, content })
}
