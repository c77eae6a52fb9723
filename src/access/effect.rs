//! What the engine wants done, in order. Whoever carries an effect out decides nothing any more.

use serde::{Deserialize, Serialize};

use super::change::{ErrorCode, Note, OpError, Position};
use super::decision::{Decision, Grant, GrantFlag, Reason};
use super::event::Confirmation;
use super::event::{self, AlarmKind, Record, ReplyStatus, StreamRevision};
use super::explain::Step;
use super::id::{CardUid, PortalId, StreamName, Timestamp};
use super::input::{MessageKind, Receipt};
use super::portal::Posture;
use super::words::Words;

names! {
    /// How a change message ended (wire contract, section 3).
    pub enum Outcome {
        /// Applied.
        Applied,
        /// Seen before.
        Duplicate,
        /// Of an earlier epoch, or not newer than the stream's last snapshot.
        Stale,
        /// Refused.
        Rejected,
    }
}

/// The answer to one change message. Leaves only when event `after` is durable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    /// The stream; `None`: not even claimed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream: Option<StreamName>,
    /// The message's number; `None`: not even claimed.
    #[serde(flatten)]
    pub at: Option<Position>,
    /// The id of the snapshot that is answered; `None`: a change message is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<String>,
    /// How it ended.
    pub outcome: Outcome,
    /// All messages of the epoch up to this one were received.
    pub applied_through: u64,
    /// Numbers not received below the highest received, as inclusive ranges: the first [`MISSING_RANGES_MAX`](super::stream).
    pub missing: Vec<(u64, u64)>,
    /// What was wrong.
    pub errors: Vec<OpError>,
    /// UIDs that could open something before the message and can open nothing after it.
    pub revoked: Vec<CardUid>,
    /// Power boxes switched off by it.
    pub cut: Vec<PortalId>,
    /// What is worth knowing of its ops.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<Note>,
    /// When it arrived.
    pub received_at: Timestamp,
}

impl Ack {
    /// The answer to a message that was refused before anything of it was looked at.
    #[must_use]
    pub fn rejected(errors: Vec<OpError>, received_at: Timestamp) -> Self {
        Self {
            stream: None,
            at: None,
            snapshot: None,
            outcome: Outcome::Rejected,
            applied_through: 0,
            missing: Vec::new(),
            errors,
            revoked: Vec::new(),
            cut: Vec::new(),
            notes: Vec::new(),
            received_at,
        }
    }
}

/// What would be decided for a card at one portal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Where.
    pub portal: PortalId,
    /// What, and why.
    #[serde(flatten)]
    pub outcome: event::Outcome,
    /// Further reasons.
    pub also: Vec<Reason>,
    /// What that means, for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub words: Option<Words>,
    /// What to do about a denial.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<Words>,
    /// What a grant would be flagged with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<Flagged>,
    /// Each rung of the ladder, where one portal was asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<Step>,
}

impl Verdict {
    /// What would be decided, in words.
    #[must_use]
    pub fn new(portal: PortalId, outcome: event::Outcome, also: Vec<Reason>) -> Self {
        let (words, remedy) = match outcome {
            event::Outcome::Grant(reason) => (reason.wording(), None),
            event::Outcome::Deny(reason) => (reason.wording(), Some(reason.remedy())),
        };
        Self { portal, outcome, also, words: Some(words), remedy, flags: Vec::new(), steps: Vec::new() }
    }
}

/// One flag of a grant, for a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flagged {
    /// Which.
    pub flag: GrantFlag,
    /// What it means.
    pub words: Words,
    /// What to do about it.
    pub remedy: Words,
}

impl From<GrantFlag> for Flagged {
    fn from(flag: GrantFlag) -> Self {
        Self { flag, words: flag.wording(), remedy: flag.remedy() }
    }
}

/// The result of a `query`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueryResult {
    /// One a portal.
    pub verdicts: Vec<Verdict>,
    /// The revocations of the card that are remembered, newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub revocations: Vec<RevocationProof>,
}

/// When one revocation was received, in force, durable, and confirmed at each power box that it cut.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevocationProof {
    /// Its event `revoked` in the audit.
    pub n: u64,
    /// The message that revoked the card.
    #[serde(flatten)]
    pub revision: StreamRevision,
    /// When the message arrived.
    pub received_at: Timestamp,
    /// From when on the card was denied.
    pub in_force_at: Timestamp,
    /// When that was on disk; `None`: it is not yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub durable_at: Option<Timestamp>,
    /// The power boxes that it cut.
    pub portals: Vec<PortalProof>,
}

/// Whether a power box is done with a revocation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortalProof {
    /// Which.
    pub portal: PortalId,
    /// When it was done with it; `None`: it has not confirmed yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirmed_at: Option<Timestamp>,
    /// How.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub how: Option<Confirmation>,
}

/// The answer to one command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// Which command; `None`: it had no readable id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jti: Option<String>,
    /// How it ended.
    pub status: ReplyStatus,
    /// What was wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<OpError>,
    /// The answer of a `query`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<QueryResult>,
}

names! {
    /// Why a stream is asked to send again.
    pub enum ResyncReason {
        /// Nothing of the stream is known.
        Empty,
        /// Messages are missing.
        Gap,
        /// A new epoch began with a hole.
        Epoch,
        /// The digests differ.
        Digest,
        /// The store was damaged.
        Corrupt,
        /// A command asked for it.
        Asked,
    }
}

/// How far a stream was received without a hole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Have {
    /// 0: nothing.
    pub epoch: u32,
    /// Received without a hole up to here.
    pub seq: u64,
}

/// A request to a stream to send again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resync {
    /// Which stream.
    pub stream: StreamName,
    /// Why.
    pub reason: ResyncReason,
    /// What is known.
    pub have: Have,
    /// Inclusive ranges not received, as in [`Ack::missing`].
    pub missing: Vec<(u64, u64)>,
}

/// An alarm, at once; it is in the audit as event `n` too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alarm {
    /// The audit event.
    pub n: u64,
    /// When.
    pub at: Timestamp,
    /// What about.
    #[serde(rename = "alarm")]
    pub kind: AlarmKind,
    /// Where.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub portal: Option<PortalId>,
    /// Which card.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<CardUid>,
    /// How many of the same kind, portal and card were held back before it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub count: u64,
    /// What the alarm was raised for is over.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ended: bool,
    /// For a person.
    pub detail: String,
    /// What the log has in place of `detail`, where that names a holder or repeats what a center wrote. The log is read by more people
    /// than the audit, and goes with bug reports.
    #[serde(skip)]
    pub logged: Option<String>,
}

impl Alarm {
    /// What the log has of it: never a holder.
    #[must_use]
    pub fn logged(&self) -> &str {
        self.logged.as_deref().unwrap_or(&self.detail)
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// An order to a portal.
#[derive(Debug, PartialEq)]
pub enum PortalOrder {
    /// The answer to a request. A portal made of reader and output is driven with the grant inside.
    Answer {
        /// Where, as the request named it: the portal may not exist.
        portal: String,
        /// The portal's number of the request.
        id: Option<String>,
        /// The answer.
        decision: Decision,
        /// A grant to a power box that rests: how long it still does, in milliseconds. A device that takes orders only is switched on
        /// by an [`PortalOrder::Energise`] at the end; one that is answered waits by itself.
        delay_ms: Option<u64>,
    },
    /// Open once without a card's request: a command, the exit button.
    Release {
        /// With what right; names the portal.
        grant: Grant,
    },
    /// Switch a power box on without a card's request.
    Energise {
        /// With what right; names the portal.
        grant: Grant,
        /// At the end of a delay that the answer to the card carried: a device that waits by itself needs no order.
        announced: bool,
    },
    /// Switch a power box off, now; also what waits to be switched on.
    Cut {
        /// Which.
        portal: PortalId,
        /// Why, a reason's name on the wire, `card_left` or `relay_off`.
        reason: &'static str,
    },
    /// The card for which a gate or door was released last has lost its right, or the mode is against it now: what of that release is
    /// not confirmed yet is not done any more.
    Withdraw {
        /// Which.
        portal: PortalId,
        /// Why, a reason's name on the wire.
        reason: &'static str,
    },
    /// Switch the output of a gate or door off: it is on and nothing released it.
    Lock {
        /// Which.
        portal: PortalId,
    },
    /// The standing mode of a gate or door: `fire` and `free_access` hold it open, the others do not.
    Mode {
        /// Which.
        portal: PortalId,
        /// The mode in force.
        posture: Posture,
    },
    /// What a controller reads about its power box. Switches nothing.
    Inform {
        /// Which.
        portal: PortalId,
        /// The mode in force.
        posture: Posture,
        /// The right by which it was on before a restart, and stays on; `None`: nothing new.
        on: Option<Grant>,
    },
}

impl PortalOrder {
    /// The portal, as it was named.
    #[must_use]
    pub fn portal(&self) -> &str {
        match self {
            Self::Answer { portal, .. } => portal,
            Self::Release { grant } | Self::Energise { grant, .. } => grant.portal().as_str(),
            Self::Cut { portal, .. }
            | Self::Withdraw { portal, .. }
            | Self::Lock { portal }
            | Self::Mode { portal, .. }
            | Self::Inform { portal, .. } => portal.as_str(),
        }
    }

    /// Whether it stands until the next one. The others open something, now or never, or only inform.
    #[must_use]
    pub fn stands(&self) -> bool {
        matches!(self, Self::Cut { .. } | Self::Withdraw { .. } | Self::Lock { .. } | Self::Mode { .. })
    }
}

/// One thing to do.
#[derive(Debug, PartialEq)]
pub enum Effect {
    /// Hand an order to the link of its portal.
    Order(PortalOrder),
    /// Append to the audit, which is the journal.
    Record(Box<Record>),
    /// Acknowledge a change message once event `after` is durable (0: nothing to wait for).
    Acknowledge {
        /// The event to wait for.
        after: u64,
        /// The answer.
        ack: Box<Ack>,
        /// The message.
        receipt: Receipt,
    },
    /// Answer a command once event `after` is durable (0: nothing to wait for).
    Reply {
        /// The event to wait for.
        after: u64,
        /// The answer.
        reply: Box<Reply>,
    },
    /// An order that a command gave was not sent in time: the disk does not write.
    OrderDropped {
        /// Where to.
        portal: PortalId,
    },
    /// How an order of an operator ended. What was carried out is answered once event `after` is durable.
    Ordered {
        /// The event to wait for.
        after: u64,
        /// Why it was not carried out, or not yet; `None`: it was.
        refused: Option<OpError>,
    },
    /// Raise an alarm.
    Alarm(Box<Alarm>),
    /// Ask a stream to send again.
    Resync(Box<Resync>),
    /// The readings of a portal's meter; `None`: not known any more.
    Metered {
        /// Which.
        portal: PortalId,
        /// Power drawn, in watts.
        power_w: Option<f64>,
        /// The meter's count, in kilowatt-hours.
        energy_kwh: Option<f64>,
    },
    /// Count a message that had no effect, whether or not it has an event of its own.
    Rejected {
        /// Which kind of message.
        kind: MessageKind,
        /// What was wrong first.
        code: ErrorCode,
    },
    /// The published state is out of date.
    StateChanged,
}
