//! Change messages (wire contract, 2.3): claims to [`Changes`] and back.
//!
//! A message that is well signed but wrong in its content is a [`Changes`] with errors, because it uses up its number; one
//! whose number cannot be read is refused and uses up nothing.

use serde_json::{Map, Value, json};

use super::envelope::{self, Claimed, Opened, Refused, VERSION};
use super::fields::Fields;
use super::json::Document;
use super::limits::{MESSAGE_BYTES_MAX, OP_ERRORS_MAX, OPS_MAX};
use super::may::MaySet;
use super::ops;
use crate::access::change::{Changes, Op, OpError, Position};
use crate::access::id::{StreamName, Timestamp};

/// The change message of an opened envelope.
///
/// # Errors
/// [`Refused`] with `invalid_field` if `epoch` or `seq` is unreadable. Everything else that is wrong is in
/// [`Changes::content`].
pub fn parse(opened: &Opened<'_>) -> Result<Changes, Refused> {
    let at = envelope::position(&Fields::message(opened.claims())).map_err(|e| opened.refuse(e))?;
    let content = match opened.short(MESSAGE_BYTES_MAX) {
        Ok(()) => content(&opened.document, opened.stream.may),
        Err(error) => Err(vec![error]),
    };
    let iat = envelope::issued_at(&Fields::message(opened.claims()));
    Ok(Changes { stream: opened.stream.name.clone(), at, iat, content })
}

/// The change message of bytes that the journal kept as evidence. They were verified on arrival, so neither the signature
/// nor what the stream may report is looked at: keys and rights may have changed since, what was applied stays applied.
///
/// # Errors
/// [`Refused`] if the bytes are no change message at all.
pub fn parse_evidence(bytes: &[u8]) -> Result<Changes, Refused> {
    let refuse = |error| Refused { error, claimed: Claimed::default() };
    let document = envelope::unverified(bytes).map_err(refuse)?;
    let fields = Fields::message(&document.map);
    let stream = fields.parsed("iss").map_err(refuse)?;
    let at = envelope::position(&fields).map_err(refuse)?;
    Ok(Changes { stream, at, iat: envelope::issued_at(&fields), content: content(&document, MaySet::ALL) })
}

fn content(document: &Document, may: MaySet) -> Result<Vec<Op>, Vec<OpError>> {
    if !document.faults.is_empty() {
        return Err(document.faults.clone());
    }
    let list = Fields::message(&document.map).list("ops", OPS_MAX).map_err(|e| vec![e])?;
    let (mut ops, mut errors, mut more) = (Vec::with_capacity(list.len()), Vec::new(), 0_usize);
    for (value, place) in list.iter().zip(0_u32..) {
        match ops::parse(value, place, may) {
            Ok(op) => ops.push(op),
            Err(error) if errors.len() < OP_ERRORS_MAX => errors.push(error),
            Err(_) => more += 1,
        }
    }
    if let Some(last) = errors.last_mut().filter(|_| more > 0) {
        last.message.push_str(&format!(" (and {more} more ops are wrong)"));
    }
    if errors.is_empty() { Ok(ops) } else { Err(errors) }
}

/// The claims of a change message as a center writes them; `aud` is a gateway's id or `campus`.
///
/// # Errors
/// The place of an op that the contract has no word for (see [`ops::name_of`]).
pub fn claims(
    stream: &StreamName,
    aud: &str,
    iat: Timestamp,
    at: Position,
    ops: &[Op],
) -> Result<Map<String, Value>, usize> {
    let list = ops.iter().enumerate().map(|(place, op)| ops::to_json(op).ok_or(place));
    let mut map = common(stream, aud, iat);
    map.insert("epoch".into(), json!(at.epoch));
    map.insert("seq".into(), json!(at.seq));
    map.insert("ops".into(), Value::Array(list.collect::<Result<_, _>>()?));
    Ok(map)
}

/// The claims that all messages of a center have.
pub(super) fn common(stream: &StreamName, aud: &str, iat: Timestamp) -> Map<String, Value> {
    Map::from_iter([
        ("v".to_owned(), json!(VERSION)),
        ("iss".to_owned(), json!(stream.as_str())),
        ("aud".to_owned(), json!(aud)),
        ("iat".to_owned(), json!(iat.unix_seconds())),
    ])
}

#[cfg(test)]
#[path = "changes_tests.rs"]
mod tests;
