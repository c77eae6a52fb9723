//! An audit event as bytes and back (wire contract, section 3). These bytes are what is written to disk, chained by hash and
//! sent to the center: one form for all three, so that anyone who holds the bytes can check the chain.
//!
//! Refuses to own numbers, times and the chain itself: they are given.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::time;
use crate::access::audit::{AlarmKind, AuditEvent, EventKind, StreamRevision};
use crate::access::decision::{Reason, Reasons};
use crate::access::id::ClockTrust;

/// A SHA-256 hash.
pub type Hash = [u8; 32];

/// What `prev` of the very first event is: 64 zeros in hex.
pub const NO_HASH: Hash = [0; 32];

/// SHA-256 of `bytes`.
#[must_use]
pub fn hash(bytes: &[u8]) -> Hash {
    Sha256::digest(bytes).into()
}

/// `hash` in lower-case hex, as on the wire.
#[must_use]
pub fn hex(hash: &Hash) -> String {
    hash.iter().fold(String::with_capacity(64), |mut text, byte| {
        text.extend([byte >> 4, byte & 15].into_iter().filter_map(|d| char::from_digit(u32::from(d), 16)));
        text
    })
}

fn unhex(text: &str) -> Option<Hash> {
    let digits = text.chars().map(|c| c.to_digit(16)).collect::<Option<Vec<_>>>()?;
    let bytes = digits.chunks_exact(2).map(|pair| match pair {
        [high, low] => u8::try_from(high * 16 + low).ok(),
        _ => None,
    });
    let bytes = bytes.collect::<Option<Vec<u8>>>()?;
    // An odd digit at the end would be left over by `chunks_exact`.
    if digits.len() == 64 { bytes.try_into().ok() } else { None }
}

/// Why bytes are no audit event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuditFormatError {
    /// Not a JSON object with the fields every event has; carries what the parser says.
    #[error("not an audit event: {0}")]
    NotAnEvent(String),
    /// A field holds something that this version does not know.
    #[error(
        "audit event field `{field}` holds `{value}`, which this version does not know; was it written by a newer one?"
    )]
    Field {
        /// The field's name on the wire.
        field: &'static str,
        /// What it holds.
        value: String,
    },
}

/// An audit event read back from its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// The event.
    pub event: AuditEvent,
    /// The hash of the event before it.
    pub prev: Hash,
    /// The hash of the evidence kept beside it, if there is any.
    pub evidence: Option<Hash>,
}

/// The fields in the order of the contract.
#[derive(Serialize, Deserialize)]
struct Wire {
    n: u64,
    at: String,
    clock: String,
    boot: String,
    mono_ms: u64,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    portal: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    uid: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    holder: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    decision: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    also: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    flags: Vec<String>,
    /// One entry: the stream's name to epoch and number.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    revision: BTreeMap<String, (NonZeroU32, u64)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    alarm: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    jti: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    exp: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    from: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    to: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    evidence: Option<String>,
    prev: String,
}

fn clock_name(clock: ClockTrust) -> &'static str {
    match clock {
        ClockTrust::Trusted => "trusted",
        ClockTrust::Untrusted => "untrusted",
    }
}

/// The event's bytes: JSON with the contract's field names, linked to the event before by `prev`.
/// `evidence` is named by its SHA-256; empty evidence is not named.
#[must_use]
pub fn encode(event: &AuditEvent, evidence: &[u8], prev: &Hash) -> Vec<u8> {
    let wire = Wire {
        n: event.n,
        at: time::format(event.at),
        clock: clock_name(event.clock).to_owned(),
        boot: event.boot.clone(),
        mono_ms: event.mono_ms,
        kind: event.kind.as_str().to_owned(),
        portal: event.portal.as_ref().map(ToString::to_string),
        uid: event.uid.as_ref().map(ToString::to_string),
        holder: event.holder.as_ref().map(ToString::to_string),
        decision: event.granted.map(|granted| if granted { "grant" } else { "deny" }.to_owned()),
        reason: event.reason.clone(),
        also: event.also.iter().map(|r| r.as_str().to_owned()).collect(),
        flags: event.flags.clone(),
        revision: event.revision.iter().map(|r| (r.stream.to_string(), (r.epoch, r.seq))).collect(),
        alarm: event.alarm.map(|a| a.as_str().to_owned()),
        jti: event.jti.as_ref().map(|(jti, _)| jti.clone()),
        exp: event.jti.as_ref().map(|(_, exp)| time::format(*exp)),
        from: event.gap.map(|(from, _)| from),
        to: event.gap.map(|(_, to)| to),
        detail: event.detail.clone(),
        evidence: (!evidence.is_empty()).then(|| hex(&hash(evidence))),
        prev: hex(prev),
    };
    #[expect(clippy::expect_used, reason = "strings and numbers under string keys always have a JSON form")]
    serde_json::to_vec(&wire).expect("an audit event has a JSON form")
}

fn unknown(field: &'static str, value: impl Into<String>) -> AuditFormatError {
    AuditFormatError::Field { field, value: value.into() }
}

fn parsed<T: std::str::FromStr>(field: &'static str, text: Option<String>) -> Result<Option<T>, AuditFormatError> {
    text.map(|text| text.parse().map_err(|_| unknown(field, text))).transpose()
}

/// The event behind `bytes`.
///
/// # Errors
/// [`AuditFormatError`] when the bytes are no JSON object with an event's fields, or a field holds what this version does not
/// know. Unknown fields are ignored.
pub fn decode(bytes: &[u8]) -> Result<Decoded, AuditFormatError> {
    let wire: Wire = serde_json::from_slice(bytes).map_err(|e| AuditFormatError::NotAnEvent(e.to_string()))?;
    let instant = |field, text: &str| time::parse(text).ok_or_else(|| unknown(field, text));
    let kind = EventKind::ALL.iter().copied().find(|k| k.as_str() == wire.kind);
    let clock = [ClockTrust::Trusted, ClockTrust::Untrusted].into_iter().find(|c| clock_name(*c) == wire.clock);
    let granted = match wire.decision.as_deref() {
        None => None,
        Some("grant") => Some(true),
        Some("deny") => Some(false),
        Some(other) => return Err(unknown("decision", other)),
    };
    let mut also = Reasons::NONE;
    for name in &wire.also {
        also.add(Reason::parse(name).ok_or_else(|| unknown("also", name))?);
    }
    let alarm = match wire.alarm {
        None => None,
        Some(name) => {
            let known = AlarmKind::ALL.iter().copied().find(|a| a.as_str() == name);
            Some(known.ok_or_else(|| unknown("alarm", name))?)
        }
    };
    if wire.revision.len() > 1 {
        return Err(unknown("revision", "more than one stream"));
    }
    let revision = match wire.revision.into_iter().next() {
        None => None,
        Some((stream, (epoch, seq))) => {
            let stream = stream.parse().map_err(|_| unknown("revision", stream))?;
            Some(StreamRevision { stream, epoch, seq })
        }
    };
    let jti = match (wire.jti, wire.exp) {
        (None, None) => None,
        (Some(jti), Some(exp)) => Some((jti, instant("exp", &exp)?)),
        (Some(jti), None) => return Err(unknown("jti", format!("{jti} without `exp`"))),
        (None, Some(exp)) => return Err(unknown("exp", format!("{exp} without `jti`"))),
    };
    let gap = match (wire.from, wire.to) {
        (None, None) => None,
        (Some(from), Some(to)) => Some((from, to)),
        (Some(from), None) => return Err(unknown("from", format!("{from} without `to`"))),
        (None, Some(to)) => return Err(unknown("to", format!("{to} without `from`"))),
    };
    let evidence = match wire.evidence {
        None => None,
        Some(text) => Some(unhex(&text).ok_or_else(|| unknown("evidence", text))?),
    };
    let event = AuditEvent {
        n: wire.n,
        at: instant("at", &wire.at)?,
        clock: clock.ok_or_else(|| unknown("clock", wire.clock))?,
        boot: wire.boot,
        mono_ms: wire.mono_ms,
        kind: kind.ok_or_else(|| unknown("type", wire.kind))?,
        portal: parsed("portal", wire.portal)?,
        uid: parsed("uid", wire.uid)?,
        holder: parsed("holder", wire.holder)?,
        granted,
        reason: wire.reason,
        also,
        flags: wire.flags,
        revision,
        alarm,
        jti,
        gap,
        detail: wire.detail,
    };
    Ok(Decoded { event, prev: unhex(&wire.prev).ok_or_else(|| unknown("prev", wire.prev))?, evidence })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::access::id::{Mono, Now, Timestamp};

    fn bare() -> AuditEvent {
        let wall = time::parse("2026-09-01T08:00:00.000Z").unwrap();
        AuditEvent::new(88001, EventKind::Boot, "b1", Now { wall, mono: Mono(12), clock: ClockTrust::Trusted })
    }

    #[test]
    fn an_event_is_spelled_as_the_contract_says_and_absent_fields_are_left_out() {
        let zeros = "0".repeat(64);
        assert_eq!(
            String::from_utf8(encode(&bare(), b"", &NO_HASH)).unwrap(),
            format!(
                r#"{{"n":88001,"at":"2026-09-01T08:00:00.000Z","clock":"trusted","boot":"b1","mono_ms":12,"type":"boot","prev":"{zeros}"}}"#
            )
        );
        let mut also = Reasons::NONE;
        also.add(Reason::Lost);
        let full = AuditEvent {
            kind: EventKind::Decision,
            portal: Some("gate-in".parse().unwrap()),
            uid: Some("1EA68671".parse().unwrap()),
            holder: Some("08193021".parse().unwrap()),
            granted: Some(false),
            reason: Some("replaced".into()),
            also,
            flags: vec!["late".into()],
            revision: Some(StreamRevision {
                stream: "card-office".parse().unwrap(),
                epoch: NonZeroU32::new(3).unwrap(),
                seq: 1042,
            }),
            alarm: Some(AlarmKind::DeadCard),
            jti: Some(("01J9".into(), Timestamp(1_788_249_630_000))),
            gap: Some((3, 5)),
            detail: Some("d".into()),
            ..bare()
        };
        let sum = hex(&hash(b"proof"));
        assert_eq!(
            String::from_utf8(encode(&full, b"proof", &NO_HASH)).unwrap(),
            format!(
                r#"{{"n":88001,"at":"2026-09-01T08:00:00.000Z","clock":"trusted","boot":"b1","mono_ms":12,"type":"decision","portal":"gate-in","uid":"1EA68671","holder":"08193021","decision":"deny","reason":"replaced","also":["lost"],"flags":["late"],"revision":{{"card-office":[3,1042]}},"alarm":"dead_card","jti":"01J9","exp":"2026-09-01T08:00:30.000Z","from":3,"to":5,"detail":"d","evidence":"{sum}","prev":"{zeros}"}}"#
            )
        );
    }

    #[test]
    fn what_an_older_version_does_not_know_is_named() {
        let text = String::from_utf8(encode(&bare(), b"", &NO_HASH)).unwrap();
        let error = decode(text.replace("\"boot\",\"prev\"", "\"tea\",\"prev\"").as_bytes()).unwrap_err();
        assert_eq!(error, unknown("type", "tea"));
        assert!(decode(text.replace("mono_ms", "x").as_bytes()).unwrap_err().to_string().contains("mono_ms"));
    }

    prop_compose! {
        fn events()(
            n in any::<u64>(), at in -62_000_000_000_000i64..253_000_000_000_000, trusted in any::<bool>(),
            boot in ".{0,12}", mono_ms in any::<u64>(), kind in proptest::sample::select(EventKind::ALL),
            names in proptest::option::of(("[A-Za-z0-9][A-Za-z0-9_-]{0,8}", "[A-Za-z0-9]{1,9}")),
            uid in proptest::option::of(proptest::collection::vec(1u8..255, 7)),
            granted in any::<Option<bool>>(), reason in proptest::option::of("[a-z_]{1,9}"),
            also in proptest::collection::vec(proptest::sample::select(Reason::ALL), 0..4),
            flags in proptest::collection::vec(".{0,5}", 0..3),
            revision in proptest::option::of((1u32.., any::<u64>())),
            alarm in proptest::option::of(proptest::sample::select(AlarmKind::ALL)),
            texts in (proptest::option::of(".{0,9}"), proptest::option::of(".{0,40}")), gap in any::<Option<(u64, u64)>>(),
        ) -> AuditEvent {
            let mut reasons = Reasons::NONE;
            also.iter().for_each(|r| reasons.add(*r));
            AuditEvent {
                n, at: Timestamp(at), boot, mono_ms, kind, granted, reason, flags, alarm, gap,
                clock: if trusted { ClockTrust::Trusted } else { ClockTrust::Untrusted },
                portal: names.as_ref().map(|(a, _)| a.parse().unwrap()),
                holder: names.as_ref().map(|(_, b)| b.parse().unwrap()),
                uid: uid.map(|u| crate::access::id::CardUid::from_bytes(&u).unwrap()),
                also: reasons,
                revision: revision.map(|(epoch, seq)| StreamRevision {
                    stream: "s".parse().unwrap(), epoch: NonZeroU32::new(epoch).unwrap(), seq,
                }),
                jti: texts.0.map(|t| (t, Timestamp(at))),
                detail: texts.1,
            }
        }
    }

    proptest! {
        #[test]
        fn every_event_comes_back_as_it_went(event in events(), evidence in any::<Vec<u8>>(), prev in any::<[u8; 32]>()) {
            let decoded = decode(&encode(&event, &evidence, &prev)).unwrap();
            prop_assert_eq!(decoded.event, event);
            prop_assert_eq!(decoded.prev, prev);
            prop_assert_eq!(decoded.evidence, (!evidence.is_empty()).then(|| hash(&evidence)));
        }

        #[test]
        fn no_bytes_make_the_decoder_panic(event in events(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut bytes = encode(&event, b"x", &NO_HASH);
            let at = at.index(bytes.len());
            bytes[at] = byte;
            drop(decode(&bytes));
            drop(decode(&bytes[..at]));
        }
    }
}
