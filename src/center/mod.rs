//! The center: what the offices of a campus publish to their gateways, and what the gateways answer.
//!
//! [`Center`] numbers and signs, keeps what it signed, answers a gateway that lacks something, and checks the gateways' audits. It
//! is given the time and touches no network. Where it keeps things is a [`Storage`]: a [`Directory`] of files for trials, scripts,
//! the demo and the tests, or the database of an office. [`Service`] is a center with a connection to a broker.
//!
//! A campus stream publishes once, to all gateways; a gateway stream publishes to each gateway, each with its own numbers. The ops of
//! the two write different registers (the configuration holds that), so one list of what the campus streams published and one for each
//! gateway give the same digests as the whole list of a gateway.

mod ahead;
mod audit;
mod compare;
#[cfg(feature = "center")]
pub mod database;
mod directory;
mod draft;
mod error;
#[cfg(feature = "center")]
pub mod http;
mod load;
mod meant;
mod notes;
mod order;
mod owners;
#[cfg(feature = "center")]
mod published;
mod refused;
mod resend;
mod service;
pub mod sheet;
mod storage;
mod stream;
#[cfg(test)]
mod tests;
mod unnumbered;
mod visitors;
mod work;

pub use ahead::{Ahead, Number, Used, UsedAt};
pub use audit::{AuditTrouble, ReceivedAudit};
pub(crate) use compare::differences;
pub use compare::{Agreement, MISSING_LISTED_MAX, StreamAgreement};
pub use directory::{Directory, Layout, create};
pub use draft::{Draft, DraftClaims};
pub use error::CenterError;
pub(crate) use load::enrolments_of;
pub use load::{CardChange, Loaded, Plan};
pub use service::{Answered, Attention, GatewayEvent, Pending, Report, Service};
pub use storage::KeptEvent;
pub use storage::{Audience, Content, Entry, JournalName, Link, Published, PublishedKind, Storage};

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::Path;

use ed25519_dalek::SigningKey;
use jiff::tz::TimeZone;

use crate::access::change::{Op, Position};
use crate::access::id::{GatewayId, StreamName, Timestamp};
use crate::access::list::AccessList;
use crate::access::schedule::timezone;
use crate::access::snapshot::PART_SEPARATOR;
use crate::config::DEFAULT_TIMEZONE;
use crate::wire::allowed::OpName;
use crate::wire::envelope::{Scope, StreamSpec};
use crate::wire::limits::OPS_MAX;
use crate::wire::topic::{Down, Topic};

use ahead::Shown;
use audit::Gaps;
use storage::is_snapshot;
use stream::Stream;

/// How long a command lives, in seconds; the contract allows 30, and both clocks may be a little off.
pub const COMMAND_LIFE_S: i64 = 20;

/// A signed message, and where to publish it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedMessage {
    /// Where; it names the QoS and whether to retain.
    pub topic: Topic,
    /// The JWS.
    pub payload: Vec<u8>,
    /// Which change message this is, or of which snapshot a part; `None`: a head, a command or an audit ack.
    pub number: Option<(StreamName, Position)>,
}

/// A message that is appended, and counts for the list once the transaction is on disk.
struct Staged {
    /// The place of its stream.
    place: usize,
    audience: Audience,
    at: Position,
    content: Content,
}

/// The offices of a campus.
pub struct Center<S = Directory> {
    storage: S,
    epoch: NonZeroU32,
    gateways: Vec<GatewayId>,
    streams: Vec<Stream>,
    lists: BTreeMap<Audience, AccessList>,
    gaps: Gaps,
    shown: Shown,
    staged: Vec<Staged>,
    /// Where the day of a visitor ends.
    zone: TimeZone,
    /// What is in memory may differ from what is on disk: it is not read yet, or a commit failed.
    is_stale: bool,
}

impl Center {
    /// The center in `dir`, which [`create`] made, as far as it publishes to `gateways`. Fails when the center does not exist, or a file
    /// of it cannot be read or is damaged.
    pub fn open(dir: &Path, gateways: &[GatewayId]) -> Result<Self, CenterError> {
        let (directory, streams) = Directory::open(dir)?;
        Self::new(directory, streams, gateways.to_vec())
    }

    /// The `[[center.stream]]` tables for the gateways' configuration.
    #[must_use]
    pub fn configuration(&self) -> &str {
        self.storage.configuration()
    }
}

impl<S: Storage> Center<S> {
    /// A center with these streams, which publish to `gateways`, and with what `storage` keeps of them.
    pub fn new(
        storage: S,
        streams: Vec<(StreamSpec, SigningKey)>,
        gateways: Vec<GatewayId>,
    ) -> Result<Self, CenterError> {
        let streams = streams.into_iter().map(|(spec, key)| Stream { spec, key, last: BTreeMap::new() }).collect();
        let mut center = Self {
            storage,
            epoch: NonZeroU32::MIN,
            gateways,
            streams,
            lists: BTreeMap::new(),
            gaps: Gaps::default(),
            shown: Shown::default(),
            staged: Vec::new(),
            zone: timezone(DEFAULT_TIMEZONE).map_or(TimeZone::UTC, |(_, zone)| zone),
            is_stale: true,
        };
        center.transaction(|center| {
            center.shown = Shown::kept(center.storage.used()?, &center.storage.kept_states()?);
            Ok(())
        })?;
        Ok(center)
    }

    /// The same center where the day of a visitor ends at midnight of this zone, not of Shanghai.
    #[must_use]
    pub fn in_timezone(self, zone: TimeZone) -> Self {
        Self { zone, ..self }
    }

    /// Where it keeps things; within a transaction.
    #[cfg(feature = "center")]
    pub(super) fn storage(&mut self) -> &mut S {
        &mut self.storage
    }

    /// The gateways published to.
    #[must_use]
    pub fn gateways(&self) -> &[GatewayId] {
        &self.gateways
    }

    /// Publishes to these gateways from now on, and to no others. What was published to one that is back counts again. After an error
    /// the center publishes to the gateways before.
    pub fn replace_gateways(&mut self, gateways: Vec<GatewayId>) -> Result<(), CenterError> {
        let before = std::mem::replace(&mut self.gateways, gateways);
        let read = self.transaction(Self::read_on);
        if read.is_err() {
            self.gateways = before;
        }
        read
    }

    /// What was published to an audience and to no other, as a list. `None`: no stream publishes to it.
    #[must_use]
    pub fn list(&self, audience: &Audience) -> Option<&AccessList> {
        self.lists.get(audience)
    }

    /// The streams.
    pub fn streams(&self) -> impl Iterator<Item = &StreamSpec> {
        self.streams.iter().map(|stream| &stream.spec)
    }

    /// The messages that may not have reached the broker, oldest first, as they were signed; at most `most`.
    pub fn undelivered(&mut self, most: usize) -> Result<Vec<SignedMessage>, CenterError> {
        let mut messages = Vec::new();
        for (journal, at, message) in self.storage.undelivered(most)? {
            if is_snapshot(&message) {
                // Of a stream that is no longer configured nothing can be signed.
                let stream = self.streams.iter().find(|stream| stream.spec.name == journal.stream);
                messages.extend(
                    stream.map(|stream| self.parts(stream, &journal.audience, &message, at)).into_iter().flatten(),
                );
            } else {
                let topic = journal.audience.topic(Down::Changes);
                messages.push(SignedMessage {
                    topic,
                    payload: message.into_bytes(),
                    number: Some((journal.stream, at)),
                });
            }
        }
        Ok(messages)
    }

    /// The parts of a list as a journal keeps it, for each gateway of the audience.
    fn parts(&self, stream: &Stream, audience: &Audience, list: &str, at: Position) -> Vec<SignedMessage> {
        let gateways = match audience {
            Audience::Gateway(gateway) => std::slice::from_ref(gateway),
            Audience::Campus => &self.gateways,
        };
        let parts = || list.split_terminator(char::from(PART_SEPARATOR));
        let of = |gateway| parts().filter_map(move |part| stream.message_to(gateway, Down::Snapshot, part, at));
        gateways.iter().flat_map(of).collect()
    }

    /// The journal that `message` is of; `None`: it is a head, a command or an audit ack. The parts of a list of a campus stream go to
    /// each gateway's own topic, and are of the journal of the campus.
    pub(crate) fn journal_of(&self, message: &SignedMessage) -> Option<(JournalName, Position)> {
        let (mut journal, at) = message.journal()?;
        let is_campus = |stream: &&Stream| stream.spec.name == journal.stream && stream.spec.scope == Scope::Campus;
        if self.streams.iter().find(is_campus).is_some() {
            journal.audience = Audience::Campus;
        }
        Some((journal, at))
    }

    /// Keeps what gateways published, and which messages the broker has.
    pub fn keep(&mut self, published: &[Published], delivered: &[(JournalName, Position)]) -> Result<(), CenterError> {
        self.transaction(|center| {
            center.storage.delivered(delivered)?;
            center.storage.keep_published(published)
        })
    }

    /// Removes what is older than its retention.
    pub fn remove_old(&mut self, now: Timestamp) -> Result<(), CenterError> {
        self.transaction(|center| center.storage.remove_old(now))
    }

    /// The stream that owns an op, or `command`.
    #[must_use]
    pub fn owner(&self, op: OpName) -> Option<&StreamSpec> {
        self.stream_of(op).map(|stream| &stream.spec)
    }

    fn stream_of(&self, op: OpName) -> Option<&Stream> {
        self.streams.iter().find(|stream| stream.spec.allowed.contains(op))
    }

    /// The newest message of each journal that has one.
    pub fn positions(&self) -> impl Iterator<Item = (JournalName, Position)> {
        self.streams.iter().flat_map(|stream| {
            let audiences = stream.audiences(&self.gateways).into_iter();
            audiences
                .filter_map(|audience| Some((stream.last.get(&audience).copied()?, audience)))
                .map(|(at, audience)| (stream.journal(audience), at))
        })
    }

    /// Does `work` in one transaction: what it stages is on disk when this returns `Ok`, and otherwise was never published. Fails with
    /// what `work` returns, or when the storage cannot be read or written.
    pub fn transaction<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T, CenterError>) -> Result<T, CenterError> {
        self.storage.begin()?;
        let done = self.catch_up().and_then(|()| work(self));
        let done = done.and_then(|value| self.storage.commit().map(|()| value));
        let staged = std::mem::take(&mut self.staged);
        match done {
            Ok(value) => {
                for Staged { place, audience, at, content } in staged {
                    let list = self.lists.entry(audience).or_default();
                    if let Some(stream) = self.streams.get(place) {
                        stream.replay(list, &content, at);
                    }
                }
                Ok(value)
            }
            Err(error) => {
                self.storage.rollback();
                // Whether the numbers were used is known only by reading them again.
                self.is_stale |= !staged.is_empty();
                Err(error)
            }
        }
    }

    /// Reads what is on disk and not yet in memory.
    fn catch_up(&mut self) -> Result<(), CenterError> {
        if self.is_stale {
            self.storage.rewind();
            self.lists.clear();
            self.streams.iter_mut().for_each(|stream| stream.last.clear());
        } else if !S::IS_SHARED {
            return Ok(());
        }
        self.read_on()
    }

    /// Reads what the journals have that was not read before.
    fn read_on(&mut self) -> Result<(), CenterError> {
        self.is_stale = true;
        self.epoch = self.storage.epoch()?;
        for stream in &mut self.streams {
            for audience in stream.audiences(&self.gateways) {
                let journal = stream.journal(audience);
                let list = self.lists.entry(journal.audience.clone()).or_default();
                loop {
                    let entries = self.storage.unread(&journal)?;
                    let Some(last) = entries.last() else { break };
                    stream.last.insert(journal.audience.clone(), last.at);
                    for entry in &entries {
                        stream.replay(list, &entry.content, entry.at);
                    }
                }
            }
        }
        self.is_stale = false;
        Ok(())
    }

    /// Publishes `ops` in a transaction of their own. See [`Self::stage_ops`].
    pub fn publish_ops(
        &mut self,
        to: Option<&GatewayId>,
        ops: &[Op],
        now: Timestamp,
    ) -> Result<Vec<SignedMessage>, CenterError> {
        self.transaction(|center| center.stage_ops(to, ops, now))
    }

    /// Signs and appends `ops`, within a transaction: one message for each stream that owns some of them, more where one would be too
    /// long. Ops of one stream keep their order. `to` is the gateway for ops of gateway streams; those of campus streams go to all.
    ///
    /// # Errors
    /// [`CenterError::NoOwner`], [`CenterError::NoGateway`], [`CenterError::UnknownGateway`] or [`CenterError::Refused`] before anything
    /// is appended; otherwise the storage cannot be written.
    pub fn stage_ops(
        &mut self,
        to: Option<&GatewayId>,
        ops: &[Op],
        now: Timestamp,
    ) -> Result<Vec<SignedMessage>, CenterError> {
        let shares = self.shares(to, ops, now)?;
        let mut written = Vec::new();
        for (place, (stream, share)) in self.streams.iter().zip(shares).enumerate() {
            let Some(audience) = self.audience(stream, to)?.filter(|_| !share.is_empty()) else { continue };
            self.may_publish(stream, &audience)?;
            let mut next = stream.next(&audience, self.epoch);
            for part in share.chunks(OPS_MAX) {
                stream.write(&audience, part, now, &mut next, &mut |at, ops, message| {
                    written.push((place, audience.clone(), at, ops.to_vec(), message));
                })?;
            }
        }
        let mut messages = Vec::new();
        for (place, audience, at, ops, message) in written {
            let signed = self.streams.get(place).map(|stream| stream.signed_message(&audience, message.clone(), at));
            self.append(place, &audience, at, (Content::Changes(ops), &message))?;
            messages.extend(signed);
        }
        Ok(messages)
    }

    /// To whom a stream publishes; `None`: to one gateway, and none is named.
    fn audience(&self, stream: &Stream, to: Option<&GatewayId>) -> Result<Option<Audience>, CenterError> {
        match (stream.spec.scope, to) {
            (Scope::Campus, _) => Ok(Some(Audience::Campus)),
            (Scope::Gateway, None) => Ok(None),
            (Scope::Gateway, Some(gateway)) if self.gateways.contains(gateway) => {
                Ok(Some(Audience::Gateway(gateway.clone())))
            }
            (Scope::Gateway, Some(gateway)) => Err(CenterError::UnknownGateway(gateway.clone())),
        }
    }

    /// Appends a message of the stream at `place`, within a transaction.
    fn append(
        &mut self,
        place: usize,
        audience: &Audience,
        at: Position,
        (content, message): (Content, &str),
    ) -> Result<(), CenterError> {
        let Some(stream) = self.streams.get_mut(place) else { return Ok(()) };
        // Staged first: after an error nobody knows whether the number is used.
        self.staged.push(Staged { place, audience: audience.clone(), at, content });
        self.storage.append(&stream.journal(audience.clone()), at, message)?;
        stream.last.insert(audience.clone(), at);
        Ok(())
    }
}

impl SignedMessage {
    /// The journal that this is a message of; `None`: it is a head, a command or an audit ack.
    #[must_use]
    pub fn journal(&self) -> Option<(JournalName, Position)> {
        let (stream, at) = self.number.clone()?;
        let audience = match &self.topic {
            Topic::Down(gateway, _) => Audience::Gateway(gateway.clone()),
            _ => Audience::Campus,
        };
        Some((JournalName { audience, stream }, at))
    }
}
