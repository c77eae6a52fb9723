//! The reference center: what the offices of a campus report to one gateway, for trials, scripts, the demo and the tests.
//!
//! [`Center`] is a directory: a key a stream, a journal a stream of every message ever signed, and what was received of the
//! gateway's audit. It owns numbering, signing, what is sent again, the digest and the check of the audit's chain; it is given the time and
//! touches no network. [`Service`] is the same with a connection to a broker. Not made for a real office: no users, no approval.
//!
//! ```text
//! DIR/center.toml                 the streams, as a gateway's configuration wants them
//! DIR/epoch                       the epoch of all streams
//! DIR/STREAM.key                  the seed of a stream's key, mode 0600
//! DIR/campus/STREAM.journal       the messages of a campus stream, one JWS a line
//! DIR/G/STREAM.journal            the messages of a gateway stream to the gateway G
//! DIR/G/audit.jsonl               the audit events received from G, byte for byte, one a line
//! DIR/lock                        held while any of these is read or written
//! ```

mod audit;
mod dir;
mod draft;
mod error;
mod journal;
mod resend;
mod service;
#[cfg(test)]
mod tests;
mod work;

pub use audit::{AuditLog, AuditTrouble, Received};
pub use dir::{Layout, create};
pub use draft::{Draft, DraftClaims};
pub use error::CenterError;
pub use service::{Answered, Attention, GatewayEvent, Service};

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use ed25519_dalek::SigningKey;

use crate::access::change::{Head, Op, Position};
use crate::access::id::{GatewayId, StreamName, Timestamp};
use crate::access::input::{Command, CommandKind};
use crate::access::list::AccessList;
use crate::wire::allowed::{AllowedOps, OpName};
use crate::wire::digest;
use crate::wire::down::{self, AuditAck};
use crate::wire::envelope::{self, Scope, sign};
use crate::wire::limits::{MESSAGE_BYTES_MAX, OPS_MAX};
use crate::wire::ops::name_of;
use crate::wire::topic::{CAMPUS, Down, Topic};

use dir::Lock;
use journal::Journal;

/// How long a command lives, in seconds; the contract allows 30, and both clocks may be a little off.
pub const COMMAND_LIFE_S: i64 = 20;
/// Bytes of randomness in a command's id.
const JTI_BYTES: usize = 16;

/// A signed message, and where to publish it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedMessage {
    /// Where; it reports QoS and whether to retain.
    pub topic: Topic,
    /// The JWS.
    pub payload: Vec<u8>,
    /// Which change message this is, or of which snapshot a part; `None`: a head, a command or an audit ack.
    pub number: Option<(StreamName, Position)>,
}

struct Stream {
    name: StreamName,
    scope: Scope,
    allowed: AllowedOps,
    key: SigningKey,
    journal: Journal,
}

/// The offices of a campus as one gateway receives them.
pub struct Center {
    dir: PathBuf,
    gateway: GatewayId,
    configuration: String,
    epoch: NonZeroU32,
    streams: Vec<Stream>,
    list: AccessList,
    audit: AuditLog,
}

impl Center {
    /// The center in `dir`, which [`create`] made, as `gateway` receives it.
    ///
    /// # Errors
    /// [`CenterError`] if there is none, or a file of it cannot be read or is damaged.
    pub fn open(dir: &Path, gateway: &GatewayId) -> Result<Self, CenterError> {
        let lock = Lock::take(dir)?;
        let found = dir::read(dir)?;
        let mut streams = Vec::with_capacity(found.streams.len());
        for (spec, key) in found.streams {
            let folder = dir.join(match spec.scope {
                Scope::Campus => CAMPUS,
                Scope::Gateway => gateway.as_str(),
            });
            let journal = Journal::open(&folder, &spec.name)?;
            streams.push(Stream { name: spec.name, scope: spec.scope, allowed: spec.allowed, key, journal });
        }
        let mut center = Self {
            dir: dir.to_owned(),
            gateway: gateway.clone(),
            configuration: found.configuration,
            epoch: found.epoch,
            streams,
            list: AccessList::default(),
            audit: AuditLog::open(&dir.join(gateway.as_str()))?,
        };
        center.catch_up()?;
        drop(lock);
        Ok(center)
    }

    /// The `[[center.stream]]` tables for the gateway's configuration.
    #[must_use]
    pub fn configuration(&self) -> &str {
        &self.configuration
    }

    /// The gateway sent to.
    #[must_use]
    pub fn gateway(&self) -> &GatewayId {
        &self.gateway
    }

    /// The list as a gateway that received everything has it.
    #[must_use]
    pub fn list(&self) -> &AccessList {
        &self.list
    }

    /// How far the audit was received.
    #[must_use]
    pub fn audit(&self) -> &AuditLog {
        &self.audit
    }

    /// The stream that owns an op, or `command`.
    #[must_use]
    pub fn owner(&self, op: OpName) -> Option<&StreamName> {
        self.streams.iter().find(|s| s.allowed.contains(op)).map(|s| &s.name)
    }

    /// The newest message of each stream that has reported anything.
    pub fn positions(&self) -> impl Iterator<Item = (&StreamName, Position)> {
        self.streams.iter().filter_map(|s| Some((&s.name, s.journal.last()?)))
    }

    /// Reads what other processes have reported in this directory since. Call with the lock held.
    fn catch_up(&mut self) -> Result<(), CenterError> {
        self.epoch = dir::read_epoch(&self.dir)?;
        for stream in &mut self.streams {
            stream.journal.catch_up()?;
            for entry in stream.journal.take_new() {
                let allowed = |op: &Op| name_of(op).is_some_and(|name| stream.allowed.contains(name));
                // A gateway refuses such a message whole, so it changes nothing here either.
                if let Some(ops) = entry.ops.as_ref().filter(|ops| ops.iter().all(allowed)) {
                    self.list.replay(ops, entry.at);
                }
            }
        }
        Ok(())
    }

    /// Signs and journals `ops`: one message for each stream that owns some of them, more where one would be too long. The
    /// messages are on disk when this returns. Ops of one stream keep their order.
    ///
    /// # Errors
    /// [`CenterError::NoOwner`] before anything is reported; otherwise a file cannot be written.
    pub fn publish_ops(&mut self, ops: &[Op], now: Timestamp) -> Result<Vec<SignedMessage>, CenterError> {
        let mut shares: Vec<Vec<Op>> = vec![Vec::new(); self.streams.len()];
        for op in ops {
            let name = name_of(op).ok_or(CenterError::NoOp)?;
            let owned = self.streams.iter().zip(&mut shares).find(|(stream, _)| stream.allowed.contains(name));
            owned.ok_or(CenterError::NoOwner(name))?.1.push(op.clone());
        }
        let _lock = Lock::take(&self.dir)?;
        self.catch_up()?;
        let mut messages = Vec::new();
        for (place, share) in shares.iter().enumerate() {
            for part in share.chunks(OPS_MAX) {
                self.publish_as(place, part, now, &mut messages)?;
            }
        }
        self.catch_up()?;
        Ok(messages)
    }

    fn publish_as(
        &mut self,
        place: usize,
        ops: &[Op],
        now: Timestamp,
        messages: &mut Vec<SignedMessage>,
    ) -> Result<(), CenterError> {
        let (epoch, gateway) = (self.epoch, self.gateway.clone());
        let Some(stream) = self.streams.get_mut(place) else { return Ok(()) };
        let at = stream.journal.next(epoch);
        let claims = down::write_changes(&stream.name, stream.aud(&gateway), now, at, ops)?;
        let message = sign(&claims, &stream.name, &stream.key);
        if message.len() > MESSAGE_BYTES_MAX && ops.len() > 1 {
            let (first, second) = ops.split_at(ops.len() / 2);
            self.publish_as(place, first, now, messages)?;
            return self.publish_as(place, second, now, messages);
        }
        stream.journal.append(&message)?;
        messages.push(stream.signed_message(&gateway, message, at));
        Ok(())
    }

    /// Signs a message written by hand. One without a number gets the stream's next and is journaled; one that brings its
    /// number is sent as it is and kept nowhere.
    ///
    /// # Errors
    /// [`CenterError`] if `iss` names no stream of this center, or a file cannot be written.
    pub fn publish_as_written(&mut self, written: &DraftClaims, now: Timestamp) -> Result<SignedMessage, CenterError> {
        let name = written.stream()?;
        let _lock = Lock::take(&self.dir)?;
        self.catch_up()?;
        let (epoch, gateway) = (self.epoch, self.gateway.clone());
        let stream =
            self.streams.iter_mut().find(|s| s.name == name).ok_or_else(|| CenterError::UnknownStream(name.clone()))?;
        let at = stream.journal.next(epoch);
        let message = sign(&written.complete(stream.aud(&gateway), now, at)?, &name, &stream.key);
        if !written.is_numbered() {
            stream.journal.append(&message)?;
        }
        let mut signed_message = stream.signed_message(&gateway, message, at);
        if written.is_numbered() {
            signed_message.number =
                down::read_evidence(&signed_message.payload).ok().map(|received| (name, received.at));
        }
        self.catch_up()?;
        Ok(signed_message)
    }

    /// The head of each stream that has reported anything: its last number, and the digest of what it owns.
    ///
    /// # Errors
    /// [`CenterError`] if a file cannot be read.
    pub fn heads(&mut self, now: Timestamp) -> Result<Vec<SignedMessage>, CenterError> {
        let _lock = Lock::take(&self.dir)?;
        self.catch_up()?;
        let heads = self.streams.iter().filter_map(|stream| stream.journal.last().map(|at| (stream, at)));
        let heads = heads.map(|(stream, at)| {
            let digest = digest::of(&self.list, &digest::registers_of(stream.allowed));
            let reported =
                Head { stream: stream.name.clone(), at, iat: None, cards: digest.cards, digest: digest.sha256 };
            let claims = down::write_head(&reported, stream.aud(&self.gateway), now)?;
            let topic = match stream.scope {
                Scope::Campus => Topic::Campus(Down::Head(stream.name.clone())),
                Scope::Gateway => Topic::Down(self.gateway.clone(), Down::Head(stream.name.clone())),
            };
            let payload = sign(&claims, &stream.name, &stream.key).into_bytes();
            Ok(SignedMessage { topic, payload, number: None })
        });
        heads.collect()
    }

    /// A command and its id; it expires [`COMMAND_LIFE_S`] after `now`.
    ///
    /// # Errors
    /// [`CenterError`] if no stream may command, or the system gives no randomness.
    pub fn command(
        &self,
        kind: CommandKind,
        actor: Option<&str>,
        now: Timestamp,
    ) -> Result<(String, SignedMessage), CenterError> {
        let stream = self.commander()?;
        let mut random = [0; JTI_BYTES];
        getrandom::fill(&mut random).map_err(|e| CenterError::Randomness(e.to_string()))?;
        let jti: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let command = Command {
            stream: stream.name.clone(),
            jti: jti.clone(),
            iat: now,
            exp: Timestamp(now.0.saturating_add(COMMAND_LIFE_S * 1000)),
            actor: actor.map(str::to_owned),
            kind,
        };
        let payload = sign(&down::write_command(&command, &self.gateway)?, &stream.name, &stream.key).into_bytes();
        Ok((jti, SignedMessage { topic: Topic::Down(self.gateway.clone(), Down::Command), payload, number: None }))
    }

    /// Takes a batch of the gateway's audit: checks the chain, keeps the events, and reports what to acknowledge. The events are on disk
    /// when this returns.
    ///
    /// # Errors
    /// [`CenterError`] if a file cannot be read or written, or no stream may acknowledge.
    pub fn receive_audit(
        &mut self,
        batch: &[u8],
        now: Timestamp,
    ) -> Result<(Received, Option<SignedMessage>), CenterError> {
        let lock = Lock::take(&self.dir)?;
        let received = self.audit.receive(batch, now)?;
        drop(lock);
        let stream = self.commander()?;
        let through = self.audit.through().unwrap_or(0);
        if through == 0 {
            return Ok((received, None));
        }
        let ack = AuditAck { stream: stream.name.clone(), through };
        let payload = sign(&down::write_audit_ack(&ack, &self.gateway, now)?, &stream.name, &stream.key).into_bytes();
        let topic = Topic::Down(self.gateway.clone(), Down::AuditAck);
        Ok((received, Some(SignedMessage { topic, payload, number: None })))
    }

    fn commander(&self) -> Result<&Stream, CenterError> {
        let owner = self.streams.iter().find(|s| s.allowed.contains(OpName::Command));
        owner.ok_or(CenterError::NoOwner(OpName::Command))
    }
}

impl Stream {
    fn aud<'a>(&self, gateway: &'a GatewayId) -> &'a str {
        match self.scope {
            Scope::Campus => CAMPUS,
            Scope::Gateway => gateway.as_str(),
        }
    }

    /// The message on the topic that the stream publishes on.
    fn signed_message(&self, gateway: &GatewayId, message: String, at: Position) -> SignedMessage {
        let topic = match self.scope {
            Scope::Campus => Topic::Campus(Down::Changes),
            Scope::Gateway => Topic::Down(gateway.clone(), Down::Changes),
        };
        SignedMessage { topic, payload: message.into_bytes(), number: Some((self.name.clone(), at)) }
    }

    /// The message on the gateway's own topic, signed again if it was for the whole campus.
    fn signed_message_to(&self, gateway: &GatewayId, message: &str, at: Position) -> Option<SignedMessage> {
        let message = match self.scope {
            Scope::Gateway => message.to_owned(),
            Scope::Campus => {
                let mut claims = envelope::members(message.as_bytes()).ok()?;
                claims.set("aud", gateway).ok()?;
                sign(&claims.to_json().ok()?, &self.name, &self.key)
            }
        };
        let topic = Topic::Down(gateway.clone(), Down::Changes);
        Some(SignedMessage { topic, payload: message.into_bytes(), number: Some((self.name.clone(), at)) })
    }
}
