//! What a gateway publishes for the center (wire contract, section 3): acks and audit batches here, replies, resync
//! requests and alarms as the engine gives them ([`effect`](crate::access::effect)); written for the gateway and read for the
//! center. The state is in [`state`](super::state).

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::claims::VERSION;
use super::json::{self, Place};
use super::limits::UP_BYTES_MAX;
use crate::access::change::OpError;
use crate::access::effect::Ack;
use crate::access::id::Timestamp;

/// Why a message of a gateway cannot be read.
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

/// `up/audit` as the center reads it.
#[derive(Clone, Debug, Deserialize)]
pub struct AuditBody {
    /// Which run of the gateway sends.
    pub boot: String,
    /// Number of the first event.
    pub first: u64,
    /// Number of the last event.
    pub last: u64,
    /// Number of the event before `first` that the gateway still has; those between are gone. `None`: nothing is gone there.
    #[serde(default)]
    pub after: Option<u64>,
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

/// `up/ack`: the answer to a change message that was on disk at `durable_at`; read as an [`Ack`].
pub fn encode_ack(ack: &Ack, durable_at: Timestamp) -> Result<Vec<u8>, serde_json::Error> {
    #[derive(Serialize)]
    struct AckBody<'a> {
        #[serde(flatten)]
        ack: &'a Ack,
        durable_at: Timestamp,
    }
    encode(&AckBody { ack, durable_at })
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
    let Version { v } = json::read(text, Place::Message).map_err(malformed)?;
    if v != VERSION {
        return Err(BodyError::Version(v));
    }
    json::read(text, Place::Message).map_err(malformed)
}

/// `up/audit`: `events` are the JSON bytes of the events `first` to `first + events.len() - 1`, put in unchanged. The gateway has no
/// event between `after` and `first` any more. `None` for no events.
#[must_use]
pub fn encode_audit<E: AsRef<[u8]>>(boot: &str, after: u64, first: u64, events: &[E]) -> Option<Vec<u8>> {
    let last = first.checked_add(u64::try_from(events.len()).ok()?.checked_sub(1)?)?;
    let boot = serde_json::Value::from(boot);
    let hole = if after.saturating_add(1) < first { format!(r#""after":{after},"#) } else { String::new() };
    let mut bytes =
        format!(r#"{{"v":{VERSION},"boot":{boot},"first":{first},"last":{last},{hole}"events":["#).into_bytes();
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
