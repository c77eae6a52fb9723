//! What stays of an audit event that was erased: its number, its time, its type, its hash and the hash of the event before it. So the
//! chain is still verified from its first event to its last, and nobody can read where somebody was.

use serde::{Deserialize, Serialize};

use super::audit::{self, AuditFormatError, Decoded, Hash};
use super::hash::HashText;
use crate::access::event::{AuditEvent, EventKind};
use crate::access::id::{ClockTrust, Timestamp};

/// Why an event was erased.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErasedBy {
    /// An operator had the events of a holder erased.
    Operator,
    /// Events of its type are kept for so long.
    Retention,
}

/// See the module's head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Erased {
    /// Its number.
    pub n: u64,
    /// When it was recorded.
    pub at: Timestamp,
    /// Whether the wall clock could be trusted.
    pub clock: ClockTrust,
    /// What it was.
    pub was: EventKind,
    /// Why it was erased.
    pub by: ErasedBy,
    /// The hash of its bytes, which is the `prev` of the event after it.
    pub hash: Hash,
    /// The hash of the event before it.
    pub prev: Hash,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Erased,
}

#[derive(Serialize, Deserialize)]
struct Fields {
    n: u64,
    at: Timestamp,
    clock: ClockTrust,
    #[serde(rename = "type")]
    kind: Kind,
    was: EventKind,
    reason: ErasedBy,
    hash: HashText,
    prev: HashText,
}

/// Its bytes.
///
/// # Errors
/// The error of the format. Numbers, times and names always have one.
pub fn encode(erased: &Erased) -> Result<Vec<u8>, String> {
    let Erased { n, at, clock, was, by: reason, hash, prev } = *erased;
    let fields = Fields { n, at, clock, kind: Kind::Erased, was, reason, hash: HashText(hash), prev: HashText(prev) };
    serde_json::to_vec(&fields).map_err(|error| error.to_string())
}

/// What stays of an erased event, if these are its bytes.
#[must_use]
pub fn decode(bytes: &[u8]) -> Option<Erased> {
    let Fields { n, at, clock, kind: Kind::Erased, was, reason: by, hash, prev } =
        serde_json::from_slice(bytes).ok()?;
    Some(Erased { n, at, clock, was, by, hash: hash.0, prev: prev.0 })
}

/// One link of the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its number.
    pub n: u64,
    /// The event; `None`: it was erased.
    pub event: Option<AuditEvent>,
    /// Its hash.
    pub hash: Hash,
    /// The hash of the event before it.
    pub prev: Hash,
    /// The hash of the evidence kept beside it, if there is any.
    pub evidence: Option<Hash>,
}

/// The event behind `bytes`, or what stays of it.
///
/// # Errors
/// [`AuditFormatError`]: they are neither.
pub fn link(bytes: &[u8]) -> Result<Link, AuditFormatError> {
    match audit::decode(bytes) {
        Ok(Decoded { event, prev, evidence }) => {
            Ok(Link { n: event.n, event: Some(event), hash: audit::hash(bytes), prev, evidence })
        }
        Err(error) => {
            let Erased { n, hash, prev, .. } = decode(bytes).ok_or(error)?;
            Ok(Link { n, event: None, hash, prev, evidence: None })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_of_an_event_is_spelled_so() {
        let (at, clock) = (Timestamp(1_788_249_600_000), ClockTrust::Trusted);
        let (was, by) = (EventKind::Taken, ErasedBy::Operator);
        let erased = Erased { n: 7, at, clock, was, by, hash: [1; 32], prev: [2; 32] };
        let text = format!(
            r#"{{"n":7,"at":"2026-09-01T08:00:00.000Z","clock":"trusted","type":"erased","was":"taken","reason":"operator","hash":"{}","prev":"{}"}}"#,
            "01".repeat(32),
            "02".repeat(32)
        );
        assert_eq!(String::from_utf8(encode(&erased).unwrap()).unwrap(), text);
        assert_eq!(decode(text.as_bytes()), Some(erased));
        assert_eq!(decode(text.replace("erased", "taken").as_bytes()), None);
        assert!(super::super::audit::decode(text.as_bytes()).is_err(), "it is no event any more");
    }
}
