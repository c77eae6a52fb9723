//! The answer to "may this card pass?": a grant one has to hold, or a denial with a named reason.

use std::fmt;

use enumset::EnumSet;

use super::id::{CardUid, PortalId};

names! {
    /// Why a request is denied. The numbers are the Modbus codes of the contract, and the ladder's order:
    /// of several reasons the one with the lowest number is reported, the others stand in the audit's `also`.
    #[derive(enumset::EnumSetType)]
    #[enumset(no_super_impls, repr = "u64")]
    #[repr(u8)]
    pub enum Reason {
        /// Not 4, 7 or 10 bytes; all 00 or all FF.
        MalformedIdentifier = 16,
        /// No portal of this gateway.
        UnknownPortal = 17,
        /// Retained or too old.
        StaleRequest = 18,
        /// Posture.
        OutOfService = 19,
        /// Posture; staff are let in.
        Lockdown = 20,
        /// A phone's random UID.
        RandomIdentifier = 21,
        /// A lossy reader's value matches more than one card.
        AmbiguousIdentifier = 22,
        /// No register of such a card exists.
        UnknownCredential = 23,
        /// A later card was issued.
        Replaced = 24,
        /// Ended for ever.
        Cancelled = 25,
        /// Reported lost.
        Lost = 26,
        /// Frozen by the card office.
        Frozen = 27,
        /// The portal wants more than a UID.
        AssuranceTooLow = 28,
        /// Card in good standing, nothing enrolled for this kind of portal.
        NotEnrolled = 29,
        /// Enrolled, but not here.
        NoEntitlement = 30,
        /// Before the enrolment's window.
        NotYetValid = 31,
        /// After the enrolment's window.
        Expired = 32,
        /// A window or schedule must be judged and the clock cannot be trusted.
        ClockUntrusted = 33,
        /// Outside the entitlement's schedule, or the schedule is not defined.
        OutsideSchedule = 34,
        /// Entered twice without leaving.
        AntiPassback = 35,
        /// The card is present elsewhere.
        InUseElsewhere = 36,
        /// Too many denials.
        LockedOut = 37,
        /// Arrears and the like.
        PowerSuspended = 38,
        /// Something broke; fail closed.
        InternalError = 39,
        /// The first of two cards that open this portal together.
        SecondCardRequired = 40,
        /// A portal that is interlocked with this one is open.
        Interlocked = 41,
        /// A staff card energises only while power in the room is suspended for maintenance.
        MaintenanceOnly = 45,
        /// A visitor enters shortly after somebody who is not a visitor.
        EscortRequired = 46,
    }
}

impl Reason {
    /// The Modbus code (wire contract, section 6).
    #[must_use]
    pub fn code(self) -> u16 {
        u16::from(self as u8)
    }
}

/// A set of reasons; iterates in the ladder's order.
pub type Reasons = EnumSet<Reason>;

names! {
    /// Why a request is granted. The numbers are the Modbus codes.
    #[repr(u8)]
    pub enum GrantReason {
        /// The card may.
        Granted = 1,
        /// The portal is open to everybody.
        FreeAccess = 2,
        /// Fire: gates and doors are released.
        Fire = 3,
        /// A command from the center or an operator.
        Remote = 4,
        /// Leaving is never refused.
        Exit = 5,
    }
}

impl GrantReason {
    /// The Modbus code (wire contract, section 6).
    #[must_use]
    pub fn code(self) -> u16 {
        u16::from(self as u8)
    }
}

names! {
    /// What a grant carries for the warden's eyes; none of them changes the decision.
    #[derive(enumset::EnumSetType)]
    #[enumset(no_super_impls, repr = "u8")]
    pub enum GrantFlag {
        /// After curfew.
        Late,
        /// Anti-passback broken in soft mode.
        SoftAntiPassback,
        /// The card seems to be in two places.
        CloneSuspected,
        /// The list was not confirmed by its center for `policy.stale_after_s` or longer.
        StaleList,
    }
}

/// A set of flags.
pub type GrantFlags = EnumSet<GrantFlag>;

/// The right to open or energise one portal once. Only `access` makes one; whoever opens takes it by value.
///
/// It is not `Clone`: one grant, one opening.
#[derive(Debug, PartialEq, Eq)]
pub struct Grant {
    portal: PortalId,
    uid: Option<CardUid>,
    reason: GrantReason,
    hold_ms: Option<u32>,
    flags: GrantFlags,
    also: Reasons,
    again: bool,
}

impl Grant {
    pub(super) fn new(portal: PortalId, uid: Option<CardUid>, reason: GrantReason, hold_ms: Option<u32>) -> Self {
        Self { portal, uid, reason, hold_ms, flags: GrantFlags::empty(), also: Reasons::empty(), again: false }
    }

    pub(super) fn with(mut self, flags: GrantFlags, also: Reasons) -> Self {
        self.flags = flags;
        self.also = also;
        self
    }

    /// A gate or door is held open for at least so long: what is released already is made no shorter.
    pub(super) fn hold_at_least(&mut self, ms: u32) {
        self.hold_ms = self.hold_ms.map(|hold_ms| hold_ms.max(ms));
    }

    /// The same grant for a request that was repeated, with the flags of the first time: the caller has just judged it again.
    pub(super) fn again(&self, flags: GrantFlags) -> Self {
        Self { portal: self.portal.clone(), again: true, flags, ..*self }
    }

    /// A grant that no decision made, for the tests of what carries grants out.
    #[cfg(test)]
    pub(crate) fn for_test(portal: PortalId, uid: Option<CardUid>, hold_ms: Option<u32>) -> Self {
        Self::new(portal, uid, GrantReason::Granted, hold_ms)
    }

    /// It answers a presentation that was answered before: whoever opened then and has no answer pending opens nothing now.
    #[must_use]
    pub fn is_again(&self) -> bool {
        self.again
    }

    /// The portal it is for.
    #[must_use]
    pub fn portal(&self) -> &PortalId {
        &self.portal
    }

    /// The card it was given to; `None` for a remote release.
    #[must_use]
    pub fn uid(&self) -> Option<CardUid> {
        self.uid
    }

    /// Why it was given.
    #[must_use]
    pub fn reason(&self) -> GrantReason {
        self.reason
    }

    /// How long a gate or door is held open, in milliseconds; `None` for a power box, which stays on.
    #[must_use]
    pub fn hold_ms(&self) -> Option<u32> {
        self.hold_ms
    }

    /// What the warden should see.
    #[must_use]
    pub fn flags(&self) -> GrantFlags {
        self.flags
    }

    /// What would have been the reasons to deny, where the posture or the way out overrode them.
    #[must_use]
    pub fn also(&self) -> Reasons {
        self.also
    }
}

/// A refusal: one reason on the wire, the others for the audit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Denial {
    /// The first reason in the ladder's order.
    pub reason: Reason,
    /// The further ones.
    pub also: Reasons,
}

impl Denial {
    /// The denial for these reasons; `internal_error` for an empty set, because a denial without a reason is a bug.
    #[must_use]
    pub fn from_reasons(reasons: Reasons) -> Self {
        let reason = reasons.iter().next().unwrap_or(Reason::InternalError);
        Self { reason, also: reasons - reason }
    }
}

impl From<Reason> for Denial {
    fn from(reason: Reason) -> Self {
        Self { reason, also: Reasons::empty() }
    }
}

/// The answer to a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Decision {
    /// The portal may be opened or energised with this.
    Grant(Grant),
    /// It stays shut.
    Deny(Denial),
}

impl Decision {
    /// `grant` or `deny`.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Grant(_) => "grant",
            Self::Deny(_) => "deny",
        }
    }

    /// The reason's name on the wire.
    #[must_use]
    pub fn reason_str(&self) -> &'static str {
        match self {
            Self::Grant(grant) => grant.reason.as_str(),
            Self::Deny(denial) => denial.reason.as_str(),
        }
    }

    /// The reason's Modbus code.
    #[must_use]
    pub fn reason_code(&self) -> u16 {
        match self {
            Self::Grant(grant) => grant.reason.code(),
            Self::Deny(denial) => denial.reason.code(),
        }
    }

    /// The further reasons, for the audit.
    #[must_use]
    pub fn also(&self) -> Reasons {
        match self {
            Self::Grant(grant) => grant.also,
            Self::Deny(denial) => denial.also,
        }
    }

    /// What the warden should see; a denial has none.
    #[must_use]
    pub fn flags(&self) -> GrantFlags {
        match self {
            Self::Grant(grant) => grant.flags,
            Self::Deny(_) => GrantFlags::empty(),
        }
    }

    /// Whether it is a grant.
    #[must_use]
    pub fn is_grant(&self) -> bool {
        matches!(self, Self::Grant(_))
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.as_str(), self.reason_str())
    }
}
