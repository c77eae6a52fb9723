//! What a center keeps, as a small interface: a trial keeps it in a directory of files, an office in a database.
//!
//! All calls between [`Storage::begin`] and [`Storage::commit`] belong together: after a crash all of them count or none, and
//! what [`Storage::commit`] returned `Ok` for survives a power cut. A message may be published only after its commit.

use std::collections::HashMap;
use std::num::NonZeroU32;

use super::{CenterError, Used, UsedAt};
use crate::access::change::{Op, Position};
use crate::access::effect::Ack;
use crate::access::event::AuditEvent;
use crate::access::id::{GatewayId, StreamName, Timestamp};
use crate::access::snapshot::{PART_SEPARATOR, SnapshotEntry};
use crate::wire::audit::Hash;
use crate::wire::down;
use crate::wire::limits::MESSAGE_BYTES_MAX;
use crate::wire::snapshot;
use crate::wire::topic::{CAMPUS, Down, Topic};

/// An event that is to be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptEvent {
    /// The event.
    pub event: AuditEvent,
    /// Its bytes, as received; no line feed among them.
    pub bytes: Vec<u8>,
    /// Their hash.
    pub hash: Hash,
}

/// To whom a stream publishes: it numbers the messages of each audience from 1.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Audience {
    /// Every gateway of the campus.
    Campus,
    /// One gateway.
    Gateway(GatewayId),
}

impl Audience {
    /// The `aud` of its messages.
    #[must_use]
    pub fn aud(&self) -> &str {
        match self {
            Self::Campus => CAMPUS,
            Self::Gateway(gateway) => gateway.as_str(),
        }
    }

    /// The topic of a message of kind `down`, which is one that both audiences have.
    pub(super) fn topic(&self, down: Down) -> Topic {
        match self {
            Self::Campus => Topic::Campus(down),
            Self::Gateway(gateway) => Topic::Down(gateway.clone(), down),
        }
    }
}

/// A journal: the messages of one stream to one audience.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JournalName {
    /// Who is published to.
    pub audience: Audience,
    /// Who publishes.
    pub stream: StreamName,
}

/// One message of a journal.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its number.
    pub at: Position,
    /// What it publishes.
    pub content: Content,
}

/// What a message publishes.
#[derive(Clone, Debug)]
pub enum Content {
    /// Ops.
    Changes(Vec<Op>),
    /// All that the stream owns; in the journal its signed parts, each followed by [`PART_SEPARATOR`].
    Snapshot(Vec<SnapshotEntry>),
    /// Something that a gateway refuses. It uses up its number all the same.
    Refused,
}

impl Entry {
    /// Reads a message that a journal kept. What gateways refuse for its content is [`Content::Refused`]. The error names why the text is
    /// not such a message.
    pub fn read(message: &str) -> Result<Self, String> {
        let (at, content) = if is_snapshot(message) {
            let snapshot = snapshot::read_evidence(message.trim_end_matches(char::from(PART_SEPARATOR)).as_bytes())?;
            (snapshot.head.at, Content::Snapshot(snapshot.entries.into_iter().flatten().collect()))
        } else {
            let changes = down::read_evidence(message.as_bytes()).map_err(|refused| refused.to_string())?;
            let ops = changes.content.ok().filter(|_| message.len() <= MESSAGE_BYTES_MAX);
            (changes.at, ops.map_or(Content::Refused, Content::Changes))
        };
        Ok(Self { at, content: content.judged(at) })
    }
}

/// Whether a message of a journal is a snapshot. No change message contains the separator.
pub(super) fn is_snapshot(message: &str) -> bool {
    message.contains(char::from(PART_SEPARATOR))
}

/// The number and the hash of an audit event: what the next one must follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// The event's number.
    pub n: u64,
    /// The hash of its bytes.
    pub hash: Hash,
}

/// Something that a gateway published beside its audit.
#[derive(Clone, Debug)]
pub struct Published {
    /// Who published it.
    pub gateway: GatewayId,
    /// When it was received.
    pub received_at: Timestamp,
    /// What it is.
    pub kind: PublishedKind,
    /// The JSON, as received.
    pub body: String,
}

/// See [`Published`].
#[derive(Clone, Debug)]
pub enum PublishedKind {
    /// An answer to a change message.
    Ack(Box<Ack>),
    /// An alarm.
    Alarm,
    /// The gateway's state; only the newest is kept.
    State,
}

/// Where a center keeps its journals and the audits of its gateways. See the module's head.
pub trait Storage: Send + 'static {
    /// Whether other processes append to the journals too, so that each transaction looks for what they appended.
    const IS_SHARED: bool;
    /// Whether it keeps what gateways publish beside their audit, and which messages the broker has.
    const KEEPS_PUBLISHED: bool = false;

    /// Begins a transaction; waits for another process that has one.
    fn begin(&mut self) -> Result<(), CenterError>;

    /// Ends the transaction; all of it is on disk when this returns. Fails when it cannot be written. What then is on disk is known only
    /// by reading it again.
    fn commit(&mut self) -> Result<(), CenterError>;

    /// Ends the transaction without it.
    fn rollback(&mut self);

    /// The epoch of all streams.
    fn epoch(&mut self) -> Result<NonZeroU32, CenterError>;

    /// The next entries that this process has neither appended nor been given since it began or since [`Storage::rewind`], oldest
    /// first; none: there are no more.
    fn unread(&mut self, journal: &JournalName) -> Result<Vec<Entry>, CenterError>;

    /// Forgets what was appended and given, so that [`Storage::unread`] gives everything that is on disk.
    fn rewind(&mut self);

    /// Appends a message.
    fn append(&mut self, journal: &JournalName, at: Position, message: &str) -> Result<(), CenterError>;

    /// The messages of an epoch whose numbers are in `ranges` (both ends included), oldest first, each with its number. `None`: more
    /// than `most`.
    fn messages(
        &mut self,
        journal: &JournalName,
        epoch: NonZeroU32,
        ranges: &[(u64, u64)],
        most: usize,
    ) -> Result<Option<Vec<(Position, String)>>, CenterError>;

    /// The first and the last event of the audit of `gateway` that are kept.
    fn audit_ends(&mut self, gateway: &GatewayId) -> Result<Option<(Link, Link)>, CenterError>;

    /// The hashes of the events `from` to `to` of the audit of `gateway`, as far as they are kept and quickly found.
    fn audit_hashes(&mut self, gateway: &GatewayId, from: u64, to: u64) -> Result<HashMap<u64, Hash>, CenterError>;

    /// Keeps events, byte for byte, behind those of the gateway that are kept.
    fn keep_audit(&mut self, gateway: &GatewayId, events: &[KeptEvent], now: Timestamp) -> Result<(), CenterError>;

    /// Puts the audit of a gateway aside, because the gateway begins another. Gives the place where the old one is kept.
    fn set_audit_aside(&mut self, gateway: &GatewayId) -> Result<String, CenterError>;

    /// Messages that may not have reached the broker, oldest first, at most `most`.
    fn undelivered(&mut self, _most: usize) -> Result<Vec<(JournalName, Position, String)>, CenterError> {
        Ok(Vec::new())
    }

    /// Notes that the broker has these messages.
    fn delivered(&mut self, _messages: &[(JournalName, Position)]) -> Result<(), CenterError> {
        Ok(())
    }

    /// Keeps what gateways published.
    fn keep_published(&mut self, _published: &[Published]) -> Result<(), CenterError> {
        Ok(())
    }

    /// Keeps which numbers of a stream were used before, as a gateway has shown.
    fn keep_used(&mut self, _gateway: &GatewayId, _stream: &StreamName, _used: Used) -> Result<(), CenterError> {
        Ok(())
    }

    /// What [`Storage::keep_used`] kept.
    fn used(&mut self) -> Result<Vec<UsedAt>, CenterError> {
        Ok(Vec::new())
    }

    /// The newest state of each gateway of which one is kept.
    fn kept_states(&mut self) -> Result<Vec<(GatewayId, String)>, CenterError> {
        Ok(Vec::new())
    }

    /// Removes what is older than its retention.
    fn remove_old(&mut self, _now: Timestamp) -> Result<(), CenterError> {
        Ok(())
    }
}
