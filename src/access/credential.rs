//! What a card may: its standing, which the card office owns, and its enrolment, which the apartment center owns.
//!
//! Both are last-writer-wins registers keyed by revision, so messages may come late, twice or shuffled.

use std::fmt;
use std::str::FromStr;

use enumset::{EnumSet, enum_set};
use serde::{Deserialize, Serialize};

use super::id::{Holder, IdentifierError, Revision, ScheduleName, Timestamp, Zone};
use super::portal::PortalKind;

names! {
    /// A standing flag, in the order in which the digest names them.
    #[derive(enumset::EnumSetType)]
    #[enumset(no_super_impls, repr = "u8")]
    pub enum Flag {
        /// Reported lost.
        Lost,
        /// Frozen by the card office.
        Frozen,
        /// A later card was issued.
        Replaced,
        /// Ended for ever.
        Cancelled,
    }
}

/// One flag's register: what it was last set to, and by which op.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlagRegister {
    /// The op that last wrote it.
    pub revision: Revision,
    /// Set or cleared.
    pub on: bool,
}

/// The registers of all flags of one card, or of one holder. Most cards have none, so they cost one word.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flags(Option<Box<[Option<FlagRegister>; 4]>>);

impl Flags {
    /// The register of `flag`, if it was ever written.
    #[must_use]
    pub fn get(&self, flag: Flag) -> Option<FlagRegister> {
        self.0.as_ref().and_then(|all| all.get(flag as usize).copied().flatten())
    }

    /// Writes `flag` unless a newer op already did. Reports whether it was written.
    pub fn write(&mut self, flag: Flag, revision: Revision, on: bool) -> bool {
        if self.get(flag).is_some_and(|old| old.revision >= revision) {
            return false;
        }
        if let Some(slot) = self.0.get_or_insert_default().get_mut(flag as usize) {
            *slot = Some(FlagRegister { revision, on });
        }
        true
    }

    /// The revisions of all flags that were ever written.
    pub(super) fn revisions_mut(&mut self) -> impl Iterator<Item = &mut Revision> {
        self.0.iter_mut().flat_map(|all| all.iter_mut().flatten()).map(|register| &mut register.revision)
    }

    /// Whether no flag was ever written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }
}

/// The effective flags of a card.
pub type Standing = EnumSet<Flag>;

/// With one of these a card opens nothing whatever it is enrolled for; a frozen card may still open some kinds (`policy.frozen_may`).
pub const DEAD: Standing = enum_set!(Flag::Lost | Flag::Replaced | Flag::Cancelled);

names! {
    /// Who carries the card.
    #[derive(Default)]
    pub enum Role {
        /// Lives here.
        #[default]
        Resident,
        /// Works here; let in during a lockdown.
        Staff,
        /// A guest.
        Visitor,
    }
}

names! {
    /// What is special about a card, as the center that enrols it knows.
    #[derive(enumset::EnumSetType)]
    #[enumset(no_super_impls, repr = "u8")]
    pub enum CardMark {
        /// Its UID exists twice with the office's knowledge, such as on a card and in a telephone: that it is in two places proves nothing.
        SecondToken,
        /// Its holder needs more time to pass.
        ExtendedHold,
        /// It is presented under duress: an alarm, of which nothing shows at the portal.
        Duress,
    }
}

/// A set of marks.
pub type CardMarks = EnumSet<CardMark>;

/// Where an entitlement holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ZoneSet {
    /// Any zone of this building: `*`.
    Any,
    /// One.
    One(Zone),
}

impl fmt::Display for ZoneSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Any => "*",
            Self::One(zone) => zone.as_str(),
        })
    }
}

impl FromStr for ZoneSet {
    type Err = IdentifierError;

    fn from_str(text: &str) -> Result<Self, IdentifierError> {
        if text == "*" { Ok(Self::Any) } else { text.parse().map(Self::One) }
    }
}

/// The right to open portals of one kind in one zone, at the times of a schedule.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Entitlement {
    /// Which portals.
    pub kind: PortalKind,
    /// Where.
    pub zone: ZoneSet,
    /// When; `None`: always.
    pub schedule: Option<ScheduleName>,
}

/// What one card may open. Replaces the card's earlier enrolment whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enrolment {
    /// Whose card.
    pub holder: Holder,
    /// Who carries it.
    pub role: Role,
    /// What is special about the card. On disk the marks are apart from this, and no part of a digest.
    #[serde(skip)]
    pub marks: CardMarks,
    /// Valid from, inclusive.
    pub not_before: Option<Timestamp>,
    /// Valid until, exclusive.
    pub not_after: Option<Timestamp>,
    /// What it opens.
    pub entitlements: Vec<Entitlement>,
}

impl Enrolment {
    /// That of a resident, without marks and without an end.
    #[must_use]
    pub fn resident(holder: Holder, entitlements: Vec<Entitlement>) -> Self {
        let (role, marks) = (Role::Resident, CardMarks::empty());
        Self { holder, role, marks, not_before: None, not_after: None, entitlements }
    }
}
