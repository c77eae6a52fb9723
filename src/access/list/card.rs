//! One card's registers as the list keeps them: small, because a campus has a million.

use serde::{Deserialize, Serialize};

use super::super::credential::{CardMarks, Enrolment, Flags, Role};
use super::super::id::{CardUid, Holder, Revision, Timestamp};
use super::super::portal::PortalKind;
use super::index::{CardIx, HolderIx, ScheduleIx, ZoneIx};

/// An entitlement with names replaced by indices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PackedEntitlement {
    pub(super) kind: PortalKind,
    /// `None`: any zone of the building.
    pub(super) zone: Option<ZoneIx>,
    pub(super) schedule: Option<ScheduleIx>,
}

/// When an enrolment ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Never.
    Never,
    /// At this time.
    At(Timestamp),
    /// A visitor's that names no end: with the day of this time, at which it was made. No part of the register: no center sends it.
    DayOf(Timestamp),
}

/// An enrolment with names replaced by indices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PackedEnrolment {
    pub(super) holder: HolderIx,
    pub(super) role: Role,
    pub(super) marks: CardMarks,
    pub(super) not_before: Option<Timestamp>,
    pub(super) end: End,
    pub(super) entitlements: Box<[PackedEntitlement]>,
}

impl PackedEnrolment {
    /// The end that it names.
    pub(super) fn not_after(&self) -> Option<Timestamp> {
        match self.end {
            End::At(end) => Some(end),
            End::Never | End::DayOf(_) => None,
        }
    }
}

/// The enrolment register: the newest `enrol` or `withdraw` of this card.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct EnrolmentRegister {
    pub(super) revision: Revision,
    /// `None`: withdrawn.
    pub(super) enrolment: Option<Box<PackedEnrolment>>,
}

/// To whom the card was issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct IssuedTo {
    pub(super) revision: Revision,
    pub(super) holder: HolderIx,
}

/// One card. A card exists here as soon as any of its registers was written.
#[derive(Clone, Debug)]
pub(super) struct Card {
    pub(super) uid: CardUid,
    /// The first `issue`, or `reissue` as new; `None`: never issued, born before everything.
    pub(super) birth: Option<Revision>,
    pub(super) issued_to: Option<IssuedTo>,
    pub(super) flags: Flags,
    pub(super) enrolment: Option<EnrolmentRegister>,
    /// Next card issued to the same holder.
    pub(super) next_issued: Option<CardIx>,
    /// Next card enrolled for the same holder.
    pub(super) next_enrolled: Option<CardIx>,
}

impl Card {
    pub(super) fn new(uid: CardUid) -> Self {
        Self {
            uid,
            birth: None,
            issued_to: None,
            flags: Flags::default(),
            enrolment: None,
            next_issued: None,
            next_enrolled: None,
        }
    }

    /// Whether the card office ever named this card by its UID.
    pub(super) fn is_named(&self) -> bool {
        self.birth.is_some() || self.issued_to.is_some() || !self.flags.is_empty()
    }

    pub(super) fn made_on(&self) -> Option<Timestamp> {
        match self.packed_enrolment()?.1.end {
            End::DayOf(made) => Some(made),
            End::Never | End::At(_) => None,
        }
    }

    pub(super) fn packed_enrolment(&self) -> Option<(Revision, &PackedEnrolment)> {
        let register = self.enrolment.as_ref()?;
        Some((register.revision, register.enrolment.as_deref()?))
    }

    /// The card's holder: to whom it was issued, else for whom it is enrolled.
    pub(super) fn holder(&self) -> Option<HolderIx> {
        self.issued_to.map(|i| i.holder).or_else(|| self.packed_enrolment().map(|(_, e)| e.holder))
    }
}

/// Everything known of one card, by name: for the digest, the generations and the reference model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CardRecord {
    /// The card.
    pub uid: CardUid,
    /// Its birth.
    pub birth: Option<Revision>,
    /// To whom it was issued, and by which op.
    pub issued_to: Option<(Revision, Holder)>,
    /// Its own flags.
    pub flags: Flags,
    /// Its enrolment register; `None` inside: withdrawn.
    pub enrolment: Option<(Revision, Option<Enrolment>)>,
}

/// Everything known of one holder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HolderEntry {
    /// The holder.
    pub holder: Holder,
    /// What by-holder ops set.
    pub flags: Flags,
    /// The newest `withdraw` by holder.
    pub withdrawn: Option<Revision>,
}
