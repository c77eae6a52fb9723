//! A part of a snapshot (wire contract, 2.5): read from an opened envelope or from the journal, and written for the center.
//!
//! Beside the contract's fields an enrolment may carry `rev`, the revision that last wrote it, and a card `withdrawn`, that of the
//! `withdraw` that ended its enrolment: with them a gateway that begins with a snapshot judges a card whose entitlement follows its
//! holder as one that received every change.

mod entry;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::allowed::AllowedOps;
use super::claims::{self, Claimed, Claims};
use super::digest::registers_of;
use super::down::WriteError;
use super::envelope::{self, Opened, Refused};
use super::json::{self, Place, all_right};
use super::limits::{PART_BYTES_READ_MAX, SNAPSHOT_ID_CHARS_MAX};
use super::ops::Judge;
use super::text::is_label;
use crate::access::change::{ErrorCode, OpError, Position, RegisterKinds};
use crate::access::id::{StreamName, Timestamp};
use crate::access::snapshot::{PART_SEPARATOR, PARTS_MAX, Snapshot, SnapshotEntry, SnapshotHead, SnapshotPart};
use entry::{EntryBody, written};

/// Bytes of entries in one part as the center writes it: signed and encoded, the part stays below
/// [`PART_BYTES_MAX`](super::limits::PART_BYTES_MAX).
const ENTRIES_BYTES_MAX: usize = 46 * 1024;

/// What every part has beside its entries.
#[derive(Serialize, Deserialize)]
struct HeadBody<'t> {
    #[serde(borrow)]
    snapshot: Cow<'t, str>,
    part: u32,
    parts: u32,
    cards: u64,
    allow_shrink: Option<bool>,
}

#[derive(Deserialize)]
struct EntriesBody<'t> {
    #[serde(borrow)]
    entries: Vec<&'t RawValue>,
}

#[derive(Serialize)]
struct WrittenPart<'a> {
    epoch: NonZeroU32,
    seq: u64,
    #[serde(flatten)]
    head: HeadBody<'a>,
    entries: &'a [Box<RawValue>],
}

/// Reads the part in an opened envelope. What is wrong with its entries is in [`SnapshotPart::entries`].
///
/// # Errors
/// [`Refused`] with `invalid_field` or `too_large` if it cannot be seen which part of which snapshot it is.
pub fn read_part(opened: &Opened<'_>) -> Result<SnapshotPart, Refused> {
    let stream = opened.stream.name.clone();
    let owns = registers_of(opened.stream.allowed);
    let mut part = part(&opened.claims, stream, &Judge::Arrival(owns)).map_err(|e| opened.refuse(e))?;
    if let Err(error) = opened.short(PART_BYTES_READ_MAX) {
        part.entries = Err(vec![error]);
    }
    Ok(part)
}

/// Reads one part that a center's journal kept; it is not judged again.
///
/// # Errors
/// [`Refused`] if the bytes are not a part of a snapshot at all.
pub fn read_kept_part(bytes: &[u8]) -> Result<SnapshotPart, Refused> {
    let refuse = |error| Refused { error, claimed: Claimed::default() };
    let claims = envelope::unverified(bytes).map_err(refuse)?;
    let stream = claims.header().and_then(|header| header.stream()).map_err(refuse)?;
    part(&claims, stream, &Judge::Replay).map_err(refuse)
}

/// Reads the snapshot that a gateway's journal kept as evidence: its parts, each as it was received. They were judged on arrival.
///
/// # Errors
/// What is wrong with the first part that cannot be read.
pub fn read_evidence(bytes: &[u8]) -> Result<Snapshot, String> {
    let mut snapshot: Option<Snapshot> = None;
    for bytes in bytes.split(|byte| *byte == PART_SEPARATOR) {
        let part = read_kept_part(bytes).map_err(|refused| refused.error.message)?;
        let entries = part.entries.map_err(|errors| errors.into_iter().map(|e| e.message).collect::<String>())?;
        let whole = snapshot.get_or_insert_with(|| Snapshot {
            head: part.head,
            iat: None,
            entries: Vec::new(),
            evidence: Vec::new(),
        });
        whole.iat = whole.iat.max(part.iat);
        whole.entries.push(entries);
    }
    snapshot
        .filter(|s| s.entries.len() == s.head.parts as usize)
        .ok_or_else(|| "parts of a snapshot are missing".into())
}

fn part(claims: &Claims, stream: StreamName, judge: &Judge<RegisterKinds>) -> Result<SnapshotPart, OpError> {
    let header = claims.header()?;
    let at = header.position()?;
    let body: HeadBody<'_> = json::read(&claims.text, Place::Message)?;
    let wrong = |code, key: &str, what: String| Err(Place::Message.error(code, key, what));
    let is_label = matches!(judge, Judge::Replay) || is_label(&body.snapshot, SNAPSHOT_ID_CHARS_MAX);
    if !is_label {
        let what = format!("1 to {SNAPSHOT_ID_CHARS_MAX} printable characters are wanted");
        return wrong(ErrorCode::InvalidField, "snapshot", what);
    }
    if body.parts > PARTS_MAX {
        let what = format!("{} parts are too many, {PARTS_MAX} are allowed", body.parts);
        return wrong(ErrorCode::TooLarge, "parts", what);
    }
    if body.part >= body.parts {
        let what = format!("parts are numbered from 0, so part {} does not exist among {}", body.part, body.parts);
        return wrong(ErrorCode::InvalidField, "part", what);
    }
    let head = SnapshotHead {
        stream,
        id: body.snapshot.into_owned(),
        at,
        parts: body.parts,
        cards: body.cards,
        allow_shrink: body.allow_shrink.unwrap_or_default(),
    };
    Ok(SnapshotPart { head, iat: header.issued_at(), part: body.part, entries: entries(claims, at, judge) })
}

fn entries(claims: &Claims, at: Position, judge: &Judge<RegisterKinds>) -> Result<Vec<SnapshotEntry>, Vec<OpError>> {
    if !claims.faults.is_empty() {
        return Err(claims.faults.clone());
    }
    let body: EntriesBody<'_> = json::read(&claims.text, Place::Message).map_err(|e| vec![e])?;
    parse_entries(&body.entries, at, judge)
}

/// The entries of a whole list in JSON, for those who look at it; [`read_entries`] reads them.
///
/// # Errors
/// Never for entries of these types.
pub fn write_entries(entries: &[SnapshotEntry]) -> Result<Box<RawValue>, WriteError> {
    let bodies: Vec<EntryBody> = entries.iter().flat_map(written).collect();
    serde_json::value::to_raw_value(&bodies)
}

/// Reads what [`write_entries`] wrote. The entries were judged when they were published.
///
/// # Errors
/// What is wrong with the first entries that cannot be read.
pub fn read_entries(text: &str) -> Result<Vec<SnapshotEntry>, Vec<OpError>> {
    let list: Vec<&RawValue> = json::read(text, Place::Message).map_err(|e| vec![e])?;
    let newest = Position { epoch: NonZeroU32::MAX, seq: u64::MAX };
    parse_entries(&list, newest, &Judge::Replay)
}

/// Judges entries that are to be written, or were, in a snapshot at `at` as a gateway judges them on arrival.
///
/// # Errors
/// What the gateway would refuse the first of them for, and so the whole snapshot.
pub fn check(entries: &[SnapshotEntry], at: Position) -> Result<(), OpError> {
    let judge = Judge::Arrival(registers_of(AllowedOps::all()));
    let check = |body: EntryBody| body.into_entry(at, &judge).map(drop).map_err(|wrong| Place::Message.wrong(wrong));
    entries.iter().flat_map(written).try_for_each(check)
}

fn parse_entries(
    list: &[&RawValue],
    at: Position,
    judge: &Judge<RegisterKinds>,
) -> Result<Vec<SnapshotEntry>, Vec<OpError>> {
    let entry = |(place, raw): (usize, &&RawValue)| {
        let place = Place::In("entries", place);
        json::read::<EntryBody>(raw.get(), place)?.into_entry(at, judge).map_err(|wrong| place.wrong(wrong))
    };
    all_right(list.iter().enumerate().map(entry)).map_err(|(errors, _)| errors)
}

/// The claims of the parts of a snapshot made at `iat`; `aud` is a gateway's id. `id`: the center's name for it.
///
/// # Errors
/// Never for entries of these types.
pub fn write_parts(
    (stream, at, id): (&StreamName, Position, &str),
    aud: &str,
    iat: Timestamp,
    entries: &[SnapshotEntry],
    allow_shrink: bool,
) -> Result<Vec<String>, WriteError> {
    let mut parts: Vec<Vec<Box<RawValue>>> = vec![Vec::new()];
    let mut bytes = 0;
    let mut cards = BTreeSet::new();
    for entry in entries {
        if let SnapshotEntry::Card { uid, .. } = entry {
            cards.insert(*uid);
        }
        for body in written(entry) {
            let raw = serde_json::value::to_raw_value(&body)?;
            bytes += raw.get().len() + 1;
            match parts.last_mut() {
                Some(part) if bytes <= ENTRIES_BYTES_MAX || part.is_empty() => part.push(raw),
                Some(_) | None => {
                    bytes = raw.get().len() + 1;
                    parts.push(vec![raw]);
                }
            }
        }
    }
    let cards = u64::try_from(cards.len()).unwrap_or(u64::MAX);
    let count = u32::try_from(parts.len()).unwrap_or(u32::MAX);
    let write = |(part, entries): (u32, &Vec<Box<RawValue>>)| {
        let snapshot = Cow::Borrowed(id);
        let head = HeadBody { snapshot, part, parts: count, cards, allow_shrink: Some(allow_shrink) };
        claims::write(stream, aud, iat, WrittenPart { epoch: at.epoch, seq: at.seq, head, entries })
    };
    (0..count).zip(&parts).map(write).collect()
}

#[cfg(test)]
mod tests;
