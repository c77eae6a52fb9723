//! What a gateway publishes for the center (wire contract, section 3): acks, replies, resync requests, alarms and audit batches,
//! written for the gateway and read for the reference center. The state is in [`state`](super::state).

use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::claims::VERSION;
use super::json::{self, Place};
use super::limits::{MISSING_RANGES_MAX, UP_BYTES_MAX};
use super::time::Time;
use crate::access::change::{Note, OpError};
use crate::access::effect::{Ack, Alarm, Outcome, Reply, Resync, ResyncReason, Verdict};
use crate::access::event::ReplyStatus;
use crate::access::id::{CardUid, PortalId, StreamName, Timestamp};

/// A message of a gateway that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// Longer than [`UP_BYTES_MAX`].
    #[error("{0} bytes are too many, {UP_BYTES_MAX} are allowed")]
    TooLong(usize),
    /// Not JSON, or not with these fields.
    #[error("not readable: {0}")]
    Malformed(String),
    /// Another version of the contract.
    #[error("version `{0}` is unknown; version {VERSION} is read here")]
    Version(u64),
}

/// `up/ack`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AckBody {
    /// The stream; `None`: not even claimed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream: Option<StreamName>,
    /// The message's epoch; `None`: not even claimed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epoch: Option<NonZeroU32>,
    /// The message's number; `None`: not even claimed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// How it ended.
    pub outcome: Outcome,
    /// All messages of the epoch up to this one were received.
    pub applied_through: u64,
    /// Inclusive ranges not received.
    pub missing: Vec<(u64, u64)>,
    /// What was wrong.
    pub errors: Vec<OpError>,
    /// UIDs that lost everything by the message.
    pub revoked: Vec<CardUid>,
    /// Power boxes switched off by it.
    pub cut: Vec<PortalId>,
    /// Well-formed ops that reached nothing or are doubtful.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<Note>,
    /// When it arrived.
    pub received_at: Time,
    /// When it was on disk.
    pub durable_at: Time,
}

/// `up/reply`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplyBody {
    /// The command; `None`: it had no readable id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jti: Option<String>,
    /// How it ended.
    pub status: ReplyStatus,
    /// What was wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<OpError>,
    /// The answer of a `query`.
    #[serde(skip_serializing_if = "Option::is_none")]
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
    pub portal: PortalId,
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
            portal: verdict.portal.clone(),
            decision: if verdict.granted { "grant" } else { "deny" }.to_owned(),
            reason: verdict.reason.to_owned(),
            also: verdict.also.iter().map(|&reason| reason.to_owned()).collect(),
        }
    }
}

/// `up/resync`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResyncBody {
    /// Which stream.
    pub stream: StreamName,
    /// Why.
    pub reason: ResyncReason,
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
    /// The audit event.
    pub n: u64,
    /// When.
    pub at: Time,
    /// What about.
    pub alarm: String,
    /// Where.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub portal: Option<PortalId>,
    /// Which card.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<CardUid>,
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

/// `up/audit` as the center reads it.
#[derive(Clone, Debug, Deserialize)]
pub struct AuditBody {
    /// Which run of the gateway sends.
    pub boot: String,
    /// Number of the first event.
    pub first: u64,
    /// Number of the last event.
    pub last: u64,
    /// The events byte for byte as sent, because the hash chain is over these bytes.
    pub events: Vec<Box<RawValue>>,
}

#[derive(Serialize)]
struct Versioned<'b, T> {
    v: u64,
    #[serde(flatten)]
    body: &'b T,
}

/// The bytes of a body, with `v`.
///
/// # Errors
/// The body cannot be written as JSON; there is no type here that cannot.
pub fn encode<T: Serialize>(body: &T) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(&Versioned { v: VERSION, body })
}

#[derive(Deserialize)]
struct Version {
    v: u64,
}

/// Reads a body.
///
/// # Errors
/// [`BodyError`] names what is wrong.
pub fn decode<'b, T: Deserialize<'b>>(bytes: &'b [u8]) -> Result<T, BodyError> {
    if bytes.len() > UP_BYTES_MAX {
        return Err(BodyError::TooLong(bytes.len()));
    }
    let malformed = |e: OpError| BodyError::Malformed(e.message);
    let text = std::str::from_utf8(bytes).map_err(|e| BodyError::Malformed(e.to_string()))?;
    let Version { v } = json::read(text, Place::default()).map_err(malformed)?;
    if v != VERSION {
        return Err(BodyError::Version(v));
    }
    json::read(text, Place::default()).map_err(malformed)
}

fn first_ranges(ranges: &[(u64, u64)]) -> Vec<(u64, u64)> {
    ranges.iter().take(MISSING_RANGES_MAX).copied().collect()
}

impl AckBody {
    /// The ack of a change that was on disk at `durable_at`.
    #[must_use]
    pub fn new(ack: &Ack, durable_at: Timestamp) -> Self {
        Self {
            stream: ack.stream.clone(),
            epoch: ack.at.map(|at| at.epoch),
            seq: ack.at.map(|at| at.seq),
            outcome: ack.outcome,
            applied_through: ack.applied_through,
            missing: first_ranges(&ack.missing),
            errors: ack.errors.clone(),
            notes: ack.notes.clone(),
            revoked: ack.revoked.clone(),
            cut: ack.cut.clone(),
            received_at: Time(ack.received_at),
            durable_at: Time(durable_at),
        }
    }
}

impl From<&Reply> for ReplyBody {
    fn from(reply: &Reply) -> Self {
        let verdicts: Vec<_> = reply.verdicts.iter().map(VerdictBody::from).collect();
        Self {
            jti: reply.jti.clone(),
            status: reply.status,
            error: reply.error.clone(),
            result: (!verdicts.is_empty()).then_some(ResultBody { verdicts }),
        }
    }
}

impl From<&Resync> for ResyncBody {
    fn from(resync: &Resync) -> Self {
        let (epoch, seq) = resync.have;
        Self {
            stream: resync.stream.clone(),
            reason: resync.reason,
            have: HaveBody { epoch, seq },
            missing: first_ranges(&resync.missing),
        }
    }
}

impl From<&Alarm> for AlarmBody {
    fn from(alarm: &Alarm) -> Self {
        Self {
            n: alarm.n,
            at: Time(alarm.at),
            alarm: alarm.kind.as_str().to_owned(),
            portal: alarm.portal.clone(),
            uid: alarm.uid,
            count: alarm.count,
            detail: alarm.detail.clone(),
        }
    }
}

/// `up/audit`: `events` are the JSON bytes of the events `first` to `first + events.len() - 1`, put in unchanged.
/// `None` for no events.
#[must_use]
pub fn encode_audit<E: AsRef<[u8]>>(boot: &str, first: u64, events: &[E]) -> Option<Vec<u8>> {
    let last = first.checked_add(u64::try_from(events.len()).ok()?.checked_sub(1)?)?;
    let boot = serde_json::Value::from(boot);
    let mut bytes = format!(r#"{{"v":{VERSION},"boot":{boot},"first":{first},"last":{last},"events":["#).into_bytes();
    for (at, event) in events.iter().enumerate() {
        if at > 0 {
            bytes.push(b',');
        }
        bytes.extend_from_slice(event.as_ref());
    }
    bytes.extend_from_slice(b"]}");
    Some(bytes)
}

#[cfg(test)]
#[path = "up_tests.rs"]
mod tests;
