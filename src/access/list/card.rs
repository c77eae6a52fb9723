//! One card's registers as the list keeps them: small, because a campus has a million.

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use super::super::credential::{CardMarks, Enrolment, Flags, Role};
use super::super::id::{CardUid, Holder, Revision, Timestamp};
use super::super::portal::PortalKind;
use super::index::{CardIx, HolderIx, ScheduleIx, ZoneIx};

/// An entitlement in 8 bytes, names replaced by indices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PackedEntitlement {
    /// The two highest bits are the kind of portal, the others the zone; 0: any zone of the building.
    kind_and_zone: u32,
    pub(super) schedule: Option<ScheduleIx>,
}

impl PackedEntitlement {
    const ZONE_BITS: u32 = 30;
    const ZONES_MAX: u32 = (1 << Self::ZONE_BITS) - 1;

    /// 2^30 zones are far over what memory holds; those beyond them would be the last.
    pub(super) fn new(kind: PortalKind, zone: Option<ZoneIx>, schedule: Option<ScheduleIx>) -> Self {
        let zone = zone.map_or(0, |ix| ix.number().min(Self::ZONES_MAX));
        Self { kind_and_zone: (kind as u32) << Self::ZONE_BITS | zone, schedule }
    }

    pub(super) fn is_of(self, kind: PortalKind) -> bool {
        self.kind_and_zone >> Self::ZONE_BITS == kind as u32
    }

    /// `None`: any zone of the building.
    pub(super) fn zone(self) -> Option<ZoneIx> {
        ZoneIx::of_number(self.kind_and_zone & Self::ZONES_MAX)
    }
}

/// A time that may be missing, as long as one that is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct MaybeTime(i64);

impl From<Option<Timestamp>> for MaybeTime {
    fn from(time: Option<Timestamp>) -> Self {
        Self(time.map_or(i64::MIN, |time| time.0))
    }
}

impl MaybeTime {
    fn get(self) -> Option<Timestamp> {
        (self.0 != i64::MIN).then_some(Timestamp(self.0))
    }
}

/// An enrolment with names replaced by indices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PackedEnrolment {
    pub(super) holder: HolderIx,
    pub(super) role: Role,
    pub(super) marks: CardMarks,
    /// `end` is when a visitor's enrolment was made that names none: it ends with that day. No part of the register: no center sends it.
    ends_with_day: bool,
    not_before: MaybeTime,
    end: MaybeTime,
    /// Gate, door and power box of most cards without an allocation of their own.
    pub(super) entitlements: SmallVec<[PackedEntitlement; 3]>,
}

// A million cards are to fit in 250 MB (`cargo bench --bench memory`).
const _: () = assert!(size_of::<PackedEnrolment>() <= 56 && size_of::<Card>() <= 96);

impl PackedEnrolment {
    /// `made`: when this was, where it is known.
    pub(super) fn new(
        holder: HolderIx,
        enrolment: &Enrolment,
        made: Option<Timestamp>,
        entitlements: SmallVec<[PackedEntitlement; 3]>,
    ) -> Self {
        let Enrolment { role, marks, not_before, not_after, .. } = enrolment;
        let (not_before, end) = (MaybeTime::from(*not_before), MaybeTime::from(*not_after));
        let mut packed =
            Self { holder, role: *role, marks: *marks, ends_with_day: false, not_before, end, entitlements };
        made.into_iter().for_each(|made| packed.set_made_on(made));
        packed
    }

    pub(super) fn not_before(&self) -> Option<Timestamp> {
        self.not_before.get()
    }

    /// The end that it names.
    pub(super) fn not_after(&self) -> Option<Timestamp> {
        self.end.get().filter(|_| !self.ends_with_day)
    }

    /// When it was made, where it is a visitor's that names no end.
    pub(super) fn made_on(&self) -> Option<Timestamp> {
        self.end.get().filter(|_| self.ends_with_day)
    }

    pub(super) fn set_made_on(&mut self, made: Timestamp) {
        if self.role == Role::Visitor && self.not_after().is_none() {
            (self.ends_with_day, self.end) = (true, Some(made).into());
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
        self.packed_enrolment()?.1.made_on()
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
