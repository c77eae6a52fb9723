//! What a gateway reports to the center (wire contract, section 3): acks, replies, resync requests, alarms and audit batches,
//! written for the gateway and read for the center's side. The state is in [`state`](super::state).

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::envelope::VERSION;
use super::limits::{MISSING_RANGES_MAX, UP_BYTES_MAX};
use super::text::shorten;
use super::time;
use crate::access::change::{Note, OpError};
use crate::access::effect::{Ack, Alarm, Reply, Resync, Verdict};
use crate::access::id::{CardUid, PortalId, Timestamp};

/// A message of a gateway that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// Longer than [`UP_BYTES_MAX`].
    #[error("{0} bytes are too many, {UP_BYTES_MAX} are allowed")]
    TooLong(usize),
    /// Not JSON, or not with these fields.
    #[error("not understood: {0}")]
    Malformed(String),
    /// Another version of the contract.
    #[error("version `{0}` is unknown, {VERSION} is sent here")]
    Version(u64),
}

/// `up/ack`. Times are RFC 3339 text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AckBody {
    /// Version.
    pub v: u64,
    /// The stream; absent: not even claimed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<String>,
    /// The message's epoch; absent: not even claimed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u32>,
    /// The message's number; absent: not even claimed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// `applied`, `duplicate`, `stale` or `rejected`.
    pub outcome: String,
    /// All messages of the epoch up to this one were received.
    pub applied_through: u64,
    /// Inclusive ranges not received.
    pub missing: Vec<(u64, u64)>,
    /// What was wrong.
    pub errors: Vec<ErrorBody>,
    /// UIDs that lost everything by the message.
    pub revoked: Vec<String>,
    /// Power boxes switched off by it.
    pub cut: Vec<String>,
    /// What is worth knowing of its ops.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<ErrorBody>,
    /// When it arrived.
    pub received_at: String,
    /// When it was on disk.
    pub durable_at: String,
}

/// One error or note of an ack or a reply.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// Place of the op; absent: the message as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub op: Option<u32>,
    /// The code.
    pub code: String,
    /// For a person.
    pub message: String,
}

impl From<&OpError> for ErrorBody {
    fn from(error: &OpError) -> Self {
        Self { op: error.op, code: error.code.as_str().to_owned(), message: error.message.clone() }
    }
}

impl From<&Note> for ErrorBody {
    fn from(note: &Note) -> Self {
        Self { op: Some(note.op), code: note.code.as_str().to_owned(), message: note.message.clone() }
    }
}

/// `up/reply`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplyBody {
    /// Version.
    pub v: u64,
    /// The command; absent: it had no readable id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jti: Option<String>,
    /// `ok`, `rejected`, `expired`, `duplicate` or `failed`.
    pub status: String,
    /// What was wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorBody>,
    /// The answer of a `query`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<ResultBody>,
}

/// The result of a `query`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResultBody {
    /// One a portal.
    pub verdicts: Vec<VerdictBody>,
}

/// What would be decided at one portal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerdictBody {
    /// Where.
    pub portal: String,
    /// `grant` or `deny`.
    pub decision: String,
    /// The reason.
    pub reason: String,
    /// Further reasons.
    pub also: Vec<String>,
}

impl From<&Verdict> for VerdictBody {
    fn from(verdict: &Verdict) -> Self {
        Self {
            portal: verdict.portal.to_string(),
            decision: if verdict.granted { "grant" } else { "deny" }.to_owned(),
            reason: verdict.reason.to_owned(),
            also: verdict.also.iter().map(|&reason| reason.to_owned()).collect(),
        }
    }
}

/// `up/resync`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResyncBody {
    /// Version.
    pub v: u64,
    /// Which stream.
    pub stream: String,
    /// `empty`, `gap`, `epoch`, `digest`, `corrupt` or `asked`.
    pub reason: String,
    /// What the gateway has.
    pub have: HaveBody,
    /// Inclusive ranges not received.
    pub missing: Vec<(u64, u64)>,
}

/// What the gateway has of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HaveBody {
    /// 0: nothing.
    pub epoch: u32,
    /// Received without a hole up to here.
    pub seq: u64,
}

/// `up/alarm`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlarmBody {
    /// Version.
    pub v: u64,
    /// The audit event.
    pub n: u64,
    /// When.
    pub at: String,
    /// What about.
    pub alarm: String,
    /// Where.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub portal: Option<String>,
    /// Which card.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// How many of the same kind, portal and card were held back before it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub count: u64,
    /// For a person.
    pub detail: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// `up/audit` as the center's side reads it.
#[derive(Clone, Debug, Deserialize)]
pub struct AuditBody {
    /// Version.
    pub v: u64,
    /// Which run of the gateway sends.
    pub boot: String,
    /// Number of the first event.
    pub first: u64,
    /// Number of the last event.
    pub last: u64,
    /// The events byte for byte as sent, because the hash chain is over these bytes.
    pub events: Vec<Box<RawValue>>,
}

/// JSON bytes of a body. Bodies have text keys and finite numbers only, so this cannot fail.
pub(super) fn to_bytes<T: Serialize>(body: &T) -> Vec<u8> {
    serde_json::to_vec(body).unwrap_or_default()
}

fn first_ranges(ranges: &[(u64, u64)]) -> Vec<(u64, u64)> {
    ranges.iter().take(MISSING_RANGES_MAX).copied().collect()
}

/// `up/ack`; `durable_at`: when the change was on disk.
#[must_use]
pub fn encode_ack(ack: &Ack, durable_at: Timestamp) -> Vec<u8> {
    to_bytes(&AckBody {
        v: VERSION,
        stream: ack.stream.as_ref().map(ToString::to_string),
        epoch: ack.at.map(|at| at.epoch.get()),
        seq: ack.at.map(|at| at.seq),
        outcome: ack.outcome.as_str().to_owned(),
        applied_through: ack.applied_through,
        missing: first_ranges(&ack.missing),
        errors: ack.errors.iter().map(ErrorBody::from).collect(),
        revoked: ack.revoked.iter().map(CardUid::to_string).collect(),
        cut: ack.cut.iter().map(PortalId::to_string).collect(),
        notes: ack.notes.iter().map(ErrorBody::from).collect(),
        received_at: time::format(ack.received_at),
        durable_at: time::format(durable_at),
    })
}

/// `up/reply`; the verdicts of a query are in `result.verdicts`.
#[must_use]
pub fn encode_reply(reply: &Reply) -> Vec<u8> {
    let verdicts: Vec<_> = reply.verdicts.iter().map(VerdictBody::from).collect();
    to_bytes(&ReplyBody {
        v: VERSION,
        jti: reply.jti.clone(),
        status: reply.status.as_str().to_owned(),
        error: reply.error.as_ref().map(ErrorBody::from),
        result: (!verdicts.is_empty()).then_some(ResultBody { verdicts }),
    })
}

/// `up/resync`.
#[must_use]
pub fn encode_resync(resync: &Resync) -> Vec<u8> {
    let (epoch, seq) = resync.have;
    to_bytes(&ResyncBody {
        v: VERSION,
        stream: resync.stream.to_string(),
        reason: resync.reason.as_str().to_owned(),
        have: HaveBody { epoch, seq },
        missing: first_ranges(&resync.missing),
    })
}

/// `up/alarm`.
#[must_use]
pub fn encode_alarm(alarm: &Alarm) -> Vec<u8> {
    to_bytes(&AlarmBody {
        v: VERSION,
        n: alarm.n,
        at: time::format(alarm.at),
        alarm: alarm.kind.as_str().to_owned(),
        portal: alarm.portal.as_ref().map(ToString::to_string),
        uid: alarm.uid.map(|uid| uid.to_string()),
        count: alarm.count,
        detail: alarm.detail.clone(),
    })
}

/// `up/audit`: `events` are the JSON bytes of the events `first` to `first + events.len() - 1`, put in unchanged.
/// Nothing for no events.
#[must_use]
pub fn encode_audit<E: AsRef<[u8]>>(boot: &str, first: u64, events: &[E]) -> Option<Vec<u8>> {
    let last = first.checked_add(u64::try_from(events.len()).ok()?.checked_sub(1)?)?;
    let mut bytes = format!("{{\"v\":{VERSION},\"boot\":").into_bytes();
    bytes.extend(to_bytes(&boot));
    bytes.extend(format!(",\"first\":{first},\"last\":{last},\"events\":[").bytes());
    for (at, event) in events.iter().enumerate() {
        if at > 0 {
            bytes.push(b',');
        }
        bytes.extend_from_slice(event.as_ref());
    }
    bytes.extend_from_slice(b"]}");
    Some(bytes)
}

#[derive(Deserialize)]
struct Versioned {
    v: u64,
}

fn decode<'b, T: Deserialize<'b>>(bytes: &'b [u8]) -> Result<T, BodyError> {
    if bytes.len() > UP_BYTES_MAX {
        return Err(BodyError::TooLong(bytes.len()));
    }
    let malformed = |e: serde_json::Error| BodyError::Malformed(shorten(&e.to_string(), 160));
    let Versioned { v } = serde_json::from_slice(bytes).map_err(malformed)?;
    if v != VERSION {
        return Err(BodyError::Version(v));
    }
    serde_json::from_slice(bytes).map_err(malformed)
}

/// Reads `up/ack`.
///
/// # Errors
/// [`BodyError`] reports what is wrong.
pub fn decode_ack(bytes: &[u8]) -> Result<AckBody, BodyError> {
    decode(bytes)
}

/// Reads `up/reply`.
///
/// # Errors
/// [`BodyError`] reports what is wrong.
pub fn decode_reply(bytes: &[u8]) -> Result<ReplyBody, BodyError> {
    decode(bytes)
}

/// Reads `up/resync`.
///
/// # Errors
/// [`BodyError`] reports what is wrong.
pub fn decode_resync(bytes: &[u8]) -> Result<ResyncBody, BodyError> {
    decode(bytes)
}

/// Reads `up/alarm`.
///
/// # Errors
/// [`BodyError`] reports what is wrong.
pub fn decode_alarm(bytes: &[u8]) -> Result<AlarmBody, BodyError> {
    decode(bytes)
}

/// Reads `up/audit`; the events keep their bytes.
///
/// # Errors
/// [`BodyError`] reports what is wrong.
pub fn decode_audit(bytes: &[u8]) -> Result<AuditBody, BodyError> {
    decode(bytes)
}

#[cfg(test)]
#[path = "bodies_tests.rs"]
mod tests;
