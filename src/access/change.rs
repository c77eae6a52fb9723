//! What a center sends: messages of ops, and the numbering of a stream.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

use super::credential::{Enrolment, Flag};
use super::id::{CardUid, Holder, PortalId, Revision, ScheduleName, StreamName, Timestamp, Zone};
use super::portal::Posture;
use super::schedule::Schedule;

/// What an op by card or holder applies to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// One card.
    Card(CardUid),
    /// Every card of the holder born before the op.
    Holder(Holder),
}

names! {
    /// Why power in a room is suspended.
    pub enum SuspendReason {
        /// Unpaid bill.
        Arrears,
        /// Too much load.
        Overload,
        /// A load that the rules forbid.
        RestrictedLoad,
        /// Work on the wiring.
        Maintenance,
    }
}

/// Which portals a posture is set for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortalSet {
    /// Every portal of the building: the register `*`.
    All,
    /// These.
    Some(Vec<PortalId>),
}

/// One op of a change message (wire contract, 2.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// The card exists.
    Issue {
        /// The card.
        uid: CardUid,
        /// Whose it is.
        holder: Holder,
    },
    /// `new_uid` is born; the holder's earlier cards are replaced, whatever the reason was.
    Reissue {
        /// Whose cards.
        holder: Holder,
        /// The new card.
        new_uid: CardUid,
        /// The old one, if the center names it.
        old_uid: Option<CardUid>,
    },
    /// Sets or clears one standing flag: `report_lost`, `found`, `freeze`, `unfreeze`, `cancel`.
    SetFlag {
        /// Whose.
        subject: Subject,
        /// Which.
        flag: Flag,
        /// To what.
        on: bool,
    },
    /// Undoes a mistaken `cancel` or `replaced`.
    Reinstate {
        /// The card.
        uid: CardUid,
    },
    /// What the card may open; replaces its earlier enrolment whole.
    Enrol {
        /// The card.
        uid: CardUid,
        /// The enrolment.
        enrolment: Enrolment,
    },
    /// Removes the enrolment.
    Withdraw {
        /// Whose.
        subject: Subject,
    },
    /// Suspends or resumes power in a room.
    Power {
        /// The room.
        zone: Zone,
        /// Why.
        reason: SuspendReason,
        /// Suspended (`true`) or resumed.
        suspended: bool,
    },
    /// Defines a schedule, in place of an earlier one.
    DefineSchedule {
        /// Its name.
        name: ScheduleName,
        /// Its windows.
        schedule: Schedule,
    },
    /// Sets a standing mode.
    SetPosture {
        /// Where.
        portals: PortalSet,
        /// Which.
        posture: Posture,
        /// Until when; then `secure`.
        until: Option<Timestamp>,
    },
}

names! {
    /// What an op writes. The ops of one kind are one stream's (wire contract, 2.1), so all registers of a kind are numbered by it.
    pub enum RegisterKind {
        /// Births, holders and flags of cards, and what by-holder ops set.
        Standing,
        /// Enrolments.
        Enrolment,
        /// Suspended power.
        Power,
        /// Schedules.
        Schedule,
        /// Postures.
        Posture,
    }
}

/// The registers of one stream.
pub type RegisterKinds = BTreeSet<RegisterKind>;

/// The configured streams, each with the registers that it numbers.
pub type Owners = BTreeMap<StreamName, RegisterKinds>;

names! {
    /// What is worth knowing of an op that was applied (wire contract, section 3).
    pub enum NoteCode {
        /// It reached nothing that is known here, or there was nothing to clear.
        NoEffect,
        /// The card is issued to one holder and enrolled for another.
        HolderDiffers,
        /// One message gives the card to two holders.
        SharedUid,
    }
}

impl NoteCode {
    /// What the log has of a note: the ack and the alarm name the holders.
    #[must_use]
    pub fn without_names(self) -> &'static str {
        match self {
            Self::NoEffect => "an op reached nothing",
            Self::HolderDiffers => "issued to one holder and enrolled for another; the alarm names them",
            Self::SharedUid => "given to two holders in one message; the alarm names them",
        }
    }
}

/// A note on an op that was applied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// Place of the op in the message.
    pub op: u32,
    /// The code.
    pub code: NoteCode,
    /// Which card, where it is about one; for the alarm.
    #[serde(skip)]
    pub uid: Option<CardUid>,
    /// For a person: what is odd, and what to do.
    pub message: String,
}

impl Note {
    /// The op at this place of its message reached nothing.
    #[must_use]
    pub fn no_effect(op: u32, message: String) -> Self {
        Self { op, code: NoteCode::NoEffect, uid: None, message }
    }
}

/// The place of a message in its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Position {
    /// Rises when a center restarts its numbering; from 1.
    pub epoch: NonZeroU32,
    /// From 1, without holes.
    pub seq: u64,
}

impl Position {
    /// The revision of the op at `place` of the message here.
    #[must_use]
    pub fn revision(self, place: u32) -> Revision {
        Revision { epoch: self.epoch, seq: self.seq, place }
    }
}

/// A verified message of one stream. Atomic: all of its ops or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changes {
    /// Which stream it is of.
    pub stream: StreamName,
    /// Its number.
    pub at: Position,
    /// When it was made, by the center's clock; `None`: not given.
    pub iat: Option<Timestamp>,
    /// Its ops in order, or what is wrong with it. A message refused for its content still uses up its number.
    pub content: Result<Vec<Op>, Vec<OpError>>,
}

/// A center's statement of how far its stream goes (wire contract, 2.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Whose.
    pub stream: StreamName,
    /// The newest message.
    pub at: Position,
    /// When the head was made, by the center's clock; `None`: not given.
    pub iat: Option<Timestamp>,
    /// Distinct UIDs in the digest's lines.
    pub cards: u64,
    /// SHA-256 over the lines, lower-case hex.
    pub digest: String,
}

names! {
    /// Machine-readable codes of a refused message (wire contract, section 3).
    pub enum ErrorCode {
        /// No signature that a configured key verifies.
        BadSignature,
        /// `aud` is neither this gateway nor, on a campus topic, `campus`.
        WrongAudience,
        /// `kid` or `iss` names no configured stream.
        UnknownStream,
        /// Numbers too far above what is known of the stream.
        Implausible,
        /// The stream is not allowed this op.
        ForbiddenOp,
        /// No op or command of this name.
        UnknownOp,
        /// Not a card UID.
        InvalidUid,
        /// A random UID cannot be enrolled or issued.
        RandomUid,
        /// A field is missing or wrong.
        InvalidField,
        /// Over a limit of size, nesting or count.
        TooLarge,
        /// A snapshot that would remove too much.
        ShrinkRefused,
        /// A snapshot whose cards do not add up.
        CountMismatch,
        /// A retained copy of something that acts once.
        Retained,
        /// A command for a portal that this gateway does not have.
        UnknownPortal,
    }
}

/// What is wrong with one op, or with the message as a whole (`op` is `None`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpError {
    /// Place of the op in the message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub op: Option<u32>,
    /// The code.
    pub code: ErrorCode,
    /// For a person: what is wrong, where, and what to do.
    pub message: String,
}

impl OpError {
    /// An error of the message as a whole.
    #[must_use]
    pub fn message(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { op: None, code, message: message.into() }
    }
}
