//! An audit event as bytes and back (wire contract, section 3). These bytes are what is written to disk, chained by hash and
//! sent to the center: one form for all three, so that anyone who holds the bytes can check the chain.
//!
//! Refuses to own numbers, times and the chain itself: they are given.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::time;
use crate::access::change::{ErrorCode, RegisterKind};
use crate::access::decision::{GrantFlags, GrantReason, Reason, Reasons};
use crate::access::event::{
    AlarmKind, AuditEvent, Event, EventKind, GapCause, Mark, Outcome, PostureSource, ReplyStatus, StreamRevision, Who,
};
use crate::access::id::{ClockTrust, Timestamp};
use crate::access::portal::{Direction, Posture};
use crate::access::power_box::{OffCause, PowerSource};

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
    /// Not a JSON object with the fields every event has; carries what the parser reports.
    #[error("not an audit event: {0}")]
    NotAnEvent(String),
    /// A field that the event's type needs is not there.
    #[error("audit event has no field `{0}`, which its type needs; was it written by another version?")]
    Missing(&'static str),
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

/// The fields of every type in the order of the contract; each type uses some.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Fields {
    n: u64,
    at: String,
    clock: String,
    boot: String,
    mono_ms: u64,
    #[serde(rename = "type")]
    kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    portal: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    holder: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    decision: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    also: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    flags: Vec<String>,
    /// One entry: the stream's name to epoch and number.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    revision: BTreeMap<String, (NonZeroU32, u64)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    alarm: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    direction: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mark: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    registers: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    jti: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exp: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    by_ms: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<u64>,
    #[serde(skip_serializing_if = "String::is_empty")]
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
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
    let body = &event.body;
    let mut fields = Fields {
        n: event.n,
        at: time::format(event.at),
        clock: clock_name(event.clock).to_owned(),
        boot: event.boot.as_ref().to_owned(),
        mono_ms: event.mono_ms,
        kind: body.kind().as_str().to_owned(),
        portal: body.portal().map(ToString::to_string),
        uid: body.uid().map(|uid| uid.to_string()),
        holder: body.holder().map(ToString::to_string),
        detail: body.detail().to_owned(),
        evidence: (!evidence.is_empty()).then(|| hex(&hash(evidence))),
        prev: hex(prev),
        ..Fields::default()
    };
    fields.fill(body);
    #[expect(clippy::expect_used, reason = "strings and numbers under string keys always have a JSON form")]
    serde_json::to_vec(&fields).expect("an audit event has a JSON form")
}

impl Fields {
    /// Puts in what is of this type alone.
    fn fill(&mut self, body: &Event) {
        let own = |name: &str| Some(name.to_owned());
        let counted = |count: u64| (count > 0).then_some(count);
        match body {
            Event::Decision { outcome, also, flags, .. } => {
                let (decision, reason) = match outcome {
                    Outcome::Grant(reason) => ("grant", reason.as_str()),
                    Outcome::Deny(reason) => ("deny", reason.as_str()),
                };
                (self.decision, self.reason) = (own(decision), own(reason));
                self.also = also.iter().map(|r| r.as_str().to_owned()).collect();
                self.flags = flags.iter().map(str::to_owned).collect();
            }
            Event::Taken { direction, .. } => self.direction = own(direction.as_str()),
            Event::PowerOn { source: PowerSource::Remote, .. } => self.reason = own(GrantReason::Remote.as_str()),
            Event::PowerOn { source: PowerSource::Reported(_), .. } => self.reason = own(REPORTED),
            Event::PowerOff { cause, .. } => self.reason = own(cause.as_str()),
            Event::Revoked { revision, .. } | Event::ChangesApplied { revision } => self.about(revision),
            Event::RejectedMessage { code, used_up, count, .. } => {
                (self.reason, self.count) = (own(code.as_str()), counted(*count));
                used_up.iter().for_each(|revision| self.about(revision));
            }
            Event::Command { status, taken, .. } => {
                self.reason = own(status.as_str());
                self.jti = taken.as_ref().map(|(jti, _)| jti.clone());
                self.exp = taken.as_ref().map(|(_, exp)| time::format(*exp));
            }
            Event::Posture { posture, source, .. } => {
                (self.reason, self.source) = (own(posture.as_str()), own(source.as_str()));
            }
            Event::Alarm { kind, count, .. } => (self.alarm, self.count) = (own(kind.as_str()), counted(*count)),
            Event::ClockStep { by_ms, restored, .. } => {
                self.by_ms = (*by_ms != 0).then_some(*by_ms);
                self.reason = restored.then(|| CLOCK_RESTORED.to_owned());
            }
            Event::LogGap { from, to, cause } => {
                (self.from, self.to, self.reason) = (Some(*from), Some(*to), own(cause.as_str()));
            }
            Event::Config { mark, .. } => match mark {
                Mark::Note => {}
                Mark::Goal(goal) => {
                    self.mark = own(GOAL);
                    self.about(goal);
                }
                Mark::StreamForgotten(stream, registers) => {
                    (self.mark, self.stream) = (own(FORGOTTEN), own(stream.as_str()));
                    self.registers = registers.iter().map(|kind| kind.as_str().to_owned()).collect();
                }
            },
            Event::NotTaken { .. }
            | Event::PowerOn { source: PowerSource::Card(_), .. }
            | Event::PortalOnline { .. }
            | Event::PortalOffline { .. }
            | Event::Boot { .. } => {}
        }
    }

    fn about(&mut self, revision: &StreamRevision) {
        self.revision.insert(revision.stream.to_string(), (revision.epoch, revision.seq));
    }

    fn revision(&mut self) -> Result<Option<StreamRevision>, AuditFormatError> {
        if self.revision.len() > 1 {
            return Err(unknown("revision", "more than one stream"));
        }
        let Some((stream, (epoch, seq))) = self.revision.pop_first() else { return Ok(None) };
        let stream = stream.parse().map_err(|_| unknown("revision", stream))?;
        Ok(Some(StreamRevision { stream, epoch, seq }))
    }

    /// The event of its type. What that type needs and is missing is an error; fields of other types are ignored.
    fn body(mut self) -> Result<Event, AuditFormatError> {
        let kind = named("type", Some(self.kind.as_str()), EventKind::parse)?;
        let portal = parsed("portal", self.portal.take())?;
        let at_portal = || portal.clone().ok_or_else(|| missing("portal"));
        let who = Who { uid: parsed("uid", self.uid.take())?, holder: parsed("holder", self.holder.take())? };
        let revision = self.revision()?;
        let this_revision = || revision.clone().ok_or_else(|| missing("revision"));
        let reason = self.reason.as_deref();
        let count = self.count.unwrap_or(0);
        let detail = std::mem::take(&mut self.detail);
        Ok(match kind {
            EventKind::Decision => {
                let grant = |name: &str| GrantReason::ALL.into_iter().find(|r| r.as_str() == name);
                let outcome = match self.decision.as_deref() {
                    Some("grant") => Outcome::Grant(named("reason", reason, grant)?),
                    Some("deny") => Outcome::Deny(named("reason", reason, Reason::parse)?),
                    other => return Err(unknown("decision", other.unwrap_or_default())),
                };
                let mut also = Reasons::NONE;
                for name in &self.also {
                    also.add(named("also", Some(name), Reason::parse)?);
                }
                Event::Decision { portal, who, outcome, also, flags: flags(&self.flags)?, detail }
            }
            EventKind::Taken => {
                let direction = named("direction", self.direction.as_deref(), Direction::parse)?;
                Event::Taken { portal: at_portal()?, who, direction }
            }
            EventKind::NotTaken => Event::NotTaken { portal: at_portal()?, who },
            EventKind::PowerOn => {
                let source = match (who.uid, reason) {
                    (Some(uid), Some(REPORTED)) => PowerSource::Reported(uid),
                    (Some(uid), _) => PowerSource::Card(uid),
                    (None, _) => PowerSource::Remote,
                };
                Event::PowerOn { portal: at_portal()?, source, holder: who.holder, detail }
            }
            EventKind::PowerOff => {
                Event::PowerOff { portal: at_portal()?, who, cause: named("reason", reason, OffCause::parse)? }
            }
            EventKind::Revoked => {
                let uid = who.uid.ok_or_else(|| missing("uid"))?;
                Event::Revoked { uid, holder: who.holder, revision: this_revision()? }
            }
            EventKind::ChangesApplied => Event::ChangesApplied { revision: this_revision()? },
            EventKind::RejectedMessage => {
                let code = named("reason", reason, ErrorCode::parse)?;
                Event::RejectedMessage { code, used_up: revision, count, detail }
            }
            EventKind::Command => {
                let taken = match (self.jti, self.exp) {
                    (None, None) => None,
                    (Some(jti), Some(exp)) => Some((jti, instant("exp", &exp)?)),
                    (Some(_), None) => return Err(missing("exp")),
                    (None, Some(_)) => return Err(missing("jti")),
                };
                Event::Command { portal, status: named("reason", reason, ReplyStatus::parse)?, taken, detail }
            }
            EventKind::Posture => {
                let source = named("source", self.source.as_deref(), PostureSource::parse)?;
                Event::Posture { portal, posture: named("reason", reason, Posture::parse)?, source }
            }
            EventKind::Alarm => {
                let kind = named("alarm", self.alarm.as_deref(), AlarmKind::parse)?;
                Event::Alarm { kind, portal, who, count, detail }
            }
            EventKind::PortalOnline => Event::PortalOnline { portal: at_portal()?, detail },
            EventKind::PortalOffline => Event::PortalOffline { portal: at_portal()?, detail },
            EventKind::Boot => Event::Boot { detail },
            EventKind::ClockStep => {
                let restored = match reason {
                    None => false,
                    Some(CLOCK_RESTORED) => true,
                    Some(other) => return Err(unknown("reason", other)),
                };
                Event::ClockStep { by_ms: self.by_ms.unwrap_or(0), restored, detail }
            }
            EventKind::LogGap => {
                let from = self.from.ok_or_else(|| missing("from"))?;
                let to = self.to.ok_or_else(|| missing("to"))?;
                Event::LogGap { from, to, cause: named("reason", reason, GapCause::parse)? }
            }
            EventKind::Config => {
                let mark = match self.mark.as_deref() {
                    None => Mark::Note,
                    Some(GOAL) => Mark::Goal(this_revision()?),
                    Some(FORGOTTEN) => {
                        let stream = parsed("stream", self.stream)?.ok_or_else(|| missing("stream"))?;
                        let kinds = self.registers.iter();
                        let kind = |name: &String| RegisterKind::parse(name).ok_or_else(|| unknown("registers", name));
                        Mark::StreamForgotten(stream, kinds.map(kind).collect::<Result<_, _>>()?)
                    }
                    Some(other) => return Err(unknown("mark", other)),
                };
                Event::Config { mark, detail }
            }
        })
    }
}

/// `reason` of a `power_on` by a card that the box reported.
const REPORTED: &str = "reported";
const GOAL: &str = "goal";
const FORGOTTEN: &str = "stream_forgotten";
const CLOCK_RESTORED: &str = "clock_restored";

fn unknown(field: &'static str, value: impl Into<String>) -> AuditFormatError {
    AuditFormatError::Field { field, value: value.into() }
}

fn missing(field: &'static str) -> AuditFormatError {
    AuditFormatError::Missing(field)
}

fn named<T>(
    field: &'static str,
    name: Option<&str>,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Result<T, AuditFormatError> {
    let name = name.ok_or_else(|| missing(field))?;
    parse(name).ok_or_else(|| unknown(field, name))
}

fn parsed<T: std::str::FromStr>(field: &'static str, text: Option<String>) -> Result<Option<T>, AuditFormatError> {
    text.map(|text| text.parse().map_err(|_| unknown(field, text))).transpose()
}

fn instant(field: &'static str, text: &str) -> Result<Timestamp, AuditFormatError> {
    time::parse(text).ok_or_else(|| unknown(field, text))
}

fn flags(names: &[String]) -> Result<GrantFlags, AuditFormatError> {
    let mut flags = GrantFlags::default();
    for name in names {
        *flags.named(name).ok_or_else(|| unknown("flags", name))? = true;
    }
    Ok(flags)
}

/// The event behind `bytes`.
///
/// # Errors
/// [`AuditFormatError`] when the bytes are no JSON object with an event's fields, or a field holds what this version does not
/// know. Unknown fields are ignored.
pub fn decode(bytes: &[u8]) -> Result<Decoded, AuditFormatError> {
    let fields: Fields = serde_json::from_slice(bytes).map_err(|e| AuditFormatError::NotAnEvent(e.to_string()))?;
    let clocks = [ClockTrust::Trusted, ClockTrust::Untrusted];
    let event_hash = |field, text: &str| unhex(text).ok_or_else(|| unknown(field, text));
    let prev = event_hash("prev", &fields.prev)?;
    let evidence = fields.evidence.as_deref().map(|text| event_hash("evidence", text)).transpose()?;
    let event = AuditEvent {
        n: fields.n,
        at: instant("at", &fields.at)?,
        clock: named("clock", Some(&fields.clock), |name| clocks.into_iter().find(|c| clock_name(*c) == name))?,
        boot: fields.boot.as_str().into(),
        mono_ms: fields.mono_ms,
        body: fields.body()?,
    };
    Ok(Decoded { event, prev, evidence })
}

#[cfg(test)]
#[path = "audit_tests.rs"]
mod tests;
