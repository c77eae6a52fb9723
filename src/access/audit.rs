//! Audit events: what happened, numbered without holes. The audit is also the journal: state is the fold of its events.
//!
//! The hash chain links each event to the bytes of the one before it; the bytes are `wire`'s, the chain is kept by the store,
//! which alone knows what was really written.

use std::num::NonZeroU32;

use super::decision::Reasons;
use super::id::{CardUid, ClockTrust, Holder, Now, PortalId, StreamName, Timestamp};

macro_rules! kinds {
    ($($(#[$doc:meta])* $variant:ident $name:literal,)*) => {
        /// The type of an audit event.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum EventKind {
            $($(#[$doc])* $variant,)*
        }

        impl EventKind {
            /// Every type.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The type's name on the wire.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

kinds! {
    /// A request was answered.
    Decision "decision",
    /// A granted passage was taken.
    Taken "taken",
    /// A granted passage was not taken in time.
    NotTaken "not_taken",
    /// A power box was energised.
    PowerOn "power_on",
    /// A power box was switched off.
    PowerOff "power_off",
    /// A card lost the right to open anything.
    Revoked "revoked",
    /// A change message was applied; the signed bytes are kept beside the event.
    ChangesApplied "changes_applied",
    /// A message was refused.
    RejectedMessage "rejected_message",
    /// A command was carried out or refused.
    Command "command",
    /// A standing mode changed.
    Posture "posture",
    /// An alarm was raised.
    Alarm "alarm",
    /// A portal answers again.
    PortalOnline "portal_online",
    /// A portal does not answer.
    PortalOffline "portal_offline",
    /// The gateway started.
    Boot "boot",
    /// The wall clock jumped.
    ClockStep "clock_step",
    /// Events were lost: `from` to `to`.
    LogGap "log_gap",
    /// The configuration in force.
    Config "config",
}

macro_rules! alarms {
    ($($(#[$doc:meta])* $variant:ident $name:literal,)*) => {
        /// What an alarm is about.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum AlarmKind {
            $($(#[$doc])* $variant,)*
        }

        impl AlarmKind {
            /// Every kind.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The kind's name on the wire.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

alarms! {
    /// Too many denials at one portal.
    WrongTries "wrong_tries",
    /// A replaced, cancelled or lost card was presented.
    DeadCard "dead_card",
    /// One card in two places.
    Clone "clone",
    /// A door opened without a release.
    ForcedOpen "forced_open",
    /// A door stays open.
    HeldOpen "held_open",
    /// A device was opened.
    Tamper "tamper",
    /// Fire input.
    Fire "fire",
    /// A portal does not answer.
    PortalOffline "portal_offline",
    /// Power is drawn and no permitted card is there.
    PowerWithoutCard "power_without_card",
    /// A relay that had to go off is not confirmed off.
    UnconfirmedRevocation "unconfirmed_revocation",
    /// The store is damaged, full, failing or slow.
    Store "store",
    /// The clock cannot be trusted.
    Clock "clock",
    /// Something is configured insecurely.
    Insecure "insecure",
    /// The list is incomplete or in doubt.
    List "list",
}

/// Which message of which stream an event speaks of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamRevision {
    /// The stream.
    pub stream: StreamName,
    /// Its epoch.
    pub epoch: NonZeroU32,
    /// The message.
    pub seq: u64,
}

/// One audit event (wire contract, section 3). Fields that do not apply are `None` or empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEvent {
    /// Its number; without holes for ever.
    pub n: u64,
    /// When, by the wall clock.
    pub at: Timestamp,
    /// Whether the wall clock could be trusted.
    pub clock: ClockTrust,
    /// Which run of the gateway.
    pub boot: String,
    /// Monotonic time of that run, in milliseconds.
    pub mono_ms: u64,
    /// What it is.
    pub kind: EventKind,
    /// Where.
    pub portal: Option<PortalId>,
    /// Which card.
    pub uid: Option<CardUid>,
    /// Whose.
    pub holder: Option<Holder>,
    /// `Some(true)`: grant; `Some(false)`: deny.
    pub granted: Option<bool>,
    /// The reason's name on the wire.
    pub reason: Option<String>,
    /// Further reasons.
    pub also: Reasons,
    /// The flags of a grant.
    pub flags: Vec<String>,
    /// The message it speaks of.
    pub revision: Option<StreamRevision>,
    /// The alarm it raises.
    pub alarm: Option<AlarmKind>,
    /// The command's id and when it expires.
    pub jti: Option<(String, Timestamp)>,
    /// First and last number of a `log_gap`.
    pub gap: Option<(u64, u64)>,
    /// For a person.
    pub detail: Option<String>,
}

impl AuditEvent {
    /// An event of `boot` at `now` that says nothing yet but what it is.
    #[must_use]
    pub fn new(n: u64, kind: EventKind, boot: impl Into<String>, now: Now) -> Self {
        Self {
            n,
            at: now.wall,
            clock: now.clock,
            boot: boot.into(),
            mono_ms: now.mono.0,
            kind,
            portal: None,
            uid: None,
            holder: None,
            granted: None,
            reason: None,
            also: Reasons::NONE,
            flags: Vec::new(),
            revision: None,
            alarm: None,
            jti: None,
            gap: None,
            detail: None,
        }
    }
}

/// Whether an event must be on disk before something else happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flush {
    /// At once: an acknowledgement waits for it.
    Now,
    /// Together with others, at most `audit.flush_ms` later.
    Soon,
}

/// An event for the journal, with the bytes that prove it: the signed message of a `changes_applied`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The event.
    pub event: AuditEvent,
    /// The signed message as received; empty for other events.
    pub evidence: Vec<u8>,
    /// How soon it must be durable.
    pub flush: Flush,
}
