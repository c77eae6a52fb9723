//! What can go wrong in a center.

use std::io;
use std::path::{Path, PathBuf};

use super::Ahead;
use super::meant::Slip;
use crate::access::change::OpError;
use crate::access::id::{CardUid, GatewayId, Holder, StreamName, Timestamp};
use crate::access::list::Shrink;
use crate::access::snapshot::{PARTS_MAX, SHRINK_PERCENT_MAX, SNAPSHOT_BYTES_MAX};
use crate::wire::allowed::OpName;
use crate::wire::down::WriteError;
use crate::wire::keys::KeyError;

/// Why the center cannot do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum CenterError {
    /// A file cannot be read or written.
    #[error("`{}`: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// No center in the directory.
    #[error("there is no center in `{}`; make one with `dormgate center keygen --dir {}`", .0.display(), .0.display())]
    NoCenter(PathBuf),
    /// A center is there already.
    #[error("`{}` holds a center already; name another directory, or go on with this one", .0.display())]
    Exists(PathBuf),
    /// The content of a file is wrong.
    #[error("`{}`: {why}", path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The database cannot be read or written.
    #[error("`{}`: {why}", path.display())]
    Database {
        /// Which.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// A key file has no key in it.
    #[error("`{}`: {source}", path.display())]
    Key {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        source: KeyError,
    },
    /// No stream of this center may publish the op.
    #[error(
        "no stream of this center may publish `{0}`; add it to a `may` in `center.toml` and in the gateways' configuration"
    )]
    NoOwner(OpName),
    /// An op of a stream that publishes to one gateway, and no gateway is named.
    #[error("the stream `{0}` publishes to one gateway; name the gateway")]
    NoGateway(StreamName),
    /// A gateway that this center does not publish to.
    #[error("this center has no gateway `{0}`; add it to `center.toml`, or correct the name")]
    UnknownGateway(GatewayId),
    /// A gateway would refuse an op, or a card of a list, for its content, and the whole message with it.
    #[error("nothing was published, gateways refuse this {what}: {}: {}", .error.code.as_str(), .error.message)]
    Refused {
        /// Which.
        what: String,
        /// What is wrong with it.
        error: OpError,
    },
    /// A visitor's card would open again, or for longer.
    #[error(
        "card `{uid}` is a visitor's until {ends}, and is not enrolled again or for longer: a copy of it would open, too; issue another card, or withdraw this one first"
    )]
    VisitorAgain {
        /// Which.
        uid: CardUid,
        /// When its enrolment ends, or ended.
        ends: Timestamp,
    },
    /// A card is given to another holder while it is enrolled for somebody else.
    #[error(
        "card `{uid}` was issued to `{from}` and is enrolled for `{enrolled}` at `{at}`; withdraw it there first, or it would open for its new holder what `{enrolled}` was enrolled for"
    )]
    EnrolledForAnother {
        /// Which.
        uid: CardUid,
        /// To whom it was issued last.
        from: Holder,
        /// For whom it is enrolled.
        enrolled: Holder,
        /// The gateway whose list has the enrolment, or `campus`.
        at: String,
    },
    /// An op that nobody can mean.
    #[error("nothing was published: {slip}")]
    Slip {
        /// Its place.
        op: u32,
        /// What is wrong with it.
        slip: Slip,
    },
    /// A list would withdraw more than a gateway lets pass.
    #[error(
        "the list would withdraw {} of {} enrolments, more than {SHRINK_PERCENT_MAX} %, and a gateway refuses that; look at the withdrawn cards, and if they are right, load it with `--allow-shrink`",
        .0.removed, .0.before
    )]
    Shrinks(Shrink),
    /// A list is longer than a gateway takes.
    #[error(
        "the list makes {parts} parts of {bytes} bytes in all, and a gateway takes {PARTS_MAX} parts of {SNAPSHOT_BYTES_MAX} bytes; load the list of one building"
    )]
    TooLong {
        /// Parts of the snapshot.
        parts: usize,
        /// Bytes of all of them.
        bytes: usize,
    },
    /// A flag that no op writes so.
    #[error("no op of the contract writes this flag so")]
    NoOp,
    /// A message cannot be written as JSON.
    #[error("the message cannot be written: {0}")]
    Write(#[from] WriteError),
    /// A message written by hand names a stream that this center does not have.
    #[error("`iss`: this center has no stream `{0}`, so it has no key to sign for it")]
    UnknownStream(StreamName),
    /// What was written by hand cannot be sent.
    #[error("{0}")]
    Draft(String),
    /// The operating system gives no random bytes.
    #[error("no random bytes from the system: {0}")]
    Randomness(String),
    /// Nobody would take what is published: its number was used before.
    #[error("nothing was published: {0}")]
    Ahead(Box<Ahead>),
    /// The transaction that the order was part of did not reach the disk; nothing of it is published.
    #[error("nothing was published: {0}")]
    NotKept(String),
    /// A request under a key that another request used.
    #[error("this `Idempotency-Key` was used for another body; use a new key for a new request")]
    Conflict,
    /// Too many messages wait for the broker.
    #[error("{0} messages wait for the broker already; nothing was published, try again when the broker is connected")]
    Busy(usize),
    /// The task that owns the center has ended.
    #[error("the center has stopped")]
    Stopped,
}

impl CenterError {
    /// Whether the storage failed: then nothing of the transaction counts.
    pub(super) fn is_of_storage(&self) -> bool {
        matches!(self, Self::File { .. } | Self::Database { .. } | Self::Damaged { .. })
    }

    pub(super) fn file(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { path, source }
    }

    pub(super) fn damaged(path: &Path, why: impl Into<String>) -> Self {
        Self::Damaged { path: path.to_owned(), why: why.into() }
    }
}
