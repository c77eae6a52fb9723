//! Audit events: what happened, numbered without holes. The audit is also the journal: state is the fold of its events.
//!
//! One variant of [`Event`] a type, with just its fields; the fold in `state.rs` matches on them. The hash chain links each
//! event to the bytes of the one before it; the bytes are made in `wire`, the chain is kept by the store, which alone knows
//! what was really written.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use super::alarm_kind::AlarmKind;
use super::change::{ErrorCode, Owners, RegisterKinds, SuspendReason};
use super::credential::Role;
use super::decision::{Decision, GrantFlags, GrantReason, Reason, Reasons};
use super::id::{CardSet, CardUid, ClockTrust, GatewayId, Holder, Now, PortalId, StreamName, Timestamp};
pub use super::moment::Moment;
use super::portal::{Direction, Posture};
use super::power_box::{OffCause, PowerSource};

/// No event has a higher number: up to here a number is the same in every JSON reader, and no sum of some of them overflows.
pub const EVENT_MAX: u64 = 1 << 53;

names! {
    /// Who set a posture, or ended one.
    pub enum PostureSource {
        /// An operator set it on the box.
        Operator,
        /// A fire input became active.
        FireInput,
        /// A fire input is clear again; the latch stays.
        FireInputClear,
        /// An operator reset the fire latch.
        FireReset,
        /// An operator reset the fire latch and set aside the inputs that are still active.
        FireResetForced,
        /// The portal's own schedule of free access opened or closed, or its first card came.
        Schedule,
    }
}

names! {
    /// How a command ended.
    pub enum ReplyStatus {
        /// Done.
        Ok,
        /// Refused.
        Rejected,
        /// Too late.
        Expired,
        /// Its id was taken before.
        Duplicate,
        /// Tried and failed.
        Failed,
    }
}

names! {
    /// Why events are missing.
    pub enum GapCause {
        /// The store was damaged: changes may be among them, so every stream is asked for again.
        Damaged,
        /// They were never written: too many waited for the disk, or one could not be written. No change is among them.
        NotWritten,
        /// The journal has reached its hard limit and they are removed from it, what matters least first. The state has them.
        HardLimit,
        /// The journal was damaged where a generation holds what they did. The state has them, the audit has not.
        AuditDamaged,
    }
}

names! {
    /// Why the proof of a revocation is complete at a portal.
    pub enum Confirmation {
        /// The device confirms that the relay is off.
        Off,
        /// The box is on by a right that holds: the revoked card does not keep it on.
        OnByRight,
        /// The portal is not configured any more.
        Removed,
    }
}

names! {
    /// Why cards are forgiven where they are.
    pub enum ForgivenBy {
        /// A center's command.
        Command,
        /// An operator on the box.
        Operator,
        /// The time of day at which it is done every day.
        Daily,
        /// A gate of the area was held open, by `free_access` or `fire`, and is not any more: cards may have passed without being read.
        HeldOpen,
    }
}

/// Where cards are does not count against their next passage any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forgiveness {
    /// Which cards.
    pub cards: CardSet,
    /// Passages through which gates; all if empty.
    pub portals: Vec<PortalId>,
    /// Why.
    pub by: ForgivenBy,
}

/// Which message of which stream an event is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamRevision {
    /// The stream.
    pub stream: StreamName,
    /// Its epoch.
    pub epoch: NonZeroU32,
    /// The message.
    pub seq: u64,
}

/// The snapshot that an event is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppliedSnapshot {
    /// The center's name for it.
    pub id: String,
    /// The registers that its stream owned: the replay needs them, and the configuration may have changed by then.
    pub owns: RegisterKinds,
}

/// The card of an event and its holder, as far as known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Who {
    /// Which card.
    pub uid: Option<CardUid>,
    /// Whose.
    pub holder: Option<Holder>,
}

/// How a request was decided, or would be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "decision", content = "reason", rename_all = "snake_case")]
pub enum Outcome {
    /// Granted.
    Grant(GrantReason),
    /// Denied.
    Deny(Reason),
}

impl From<&Decision> for Outcome {
    fn from(decision: &Decision) -> Self {
        match decision {
            Decision::Grant(grant) => Self::Grant(grant.reason()),
            Decision::Deny(denial) => Self::Deny(denial.reason),
        }
    }
}

impl Outcome {
    /// The reason's name on the wire.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Grant(reason) => reason.as_str(),
            Self::Deny(reason) => reason.as_str(),
        }
    }
}

/// As `grant granted` or `deny lost`.
impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let decision = if matches!(self, Self::Grant(_)) { "grant" } else { "deny" };
        write!(f, "{decision} {}", self.reason())
    }
}

/// A mark in the audit that the gateway or its operator set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mark {
    /// For a person only.
    Note,
    /// Until this message is reached the list may lack a revocation; see `StreamTrack::take_head`.
    Goal(StreamRevision),
    /// The store lost data, and nothing is known of this stream: what was received of it may have been among it.
    StreamLost(StreamName),
    /// An operator had the numbers of this stream forgotten; these registers are numbered by it.
    StreamForgotten(StreamName, RegisterKinds),
    /// Where these cards are was forgiven.
    Forgiven(Forgiveness),
    /// An operator has the events of this holder erased; from here on nobody knows where its cards passed.
    PassagesErased(Holder),
    /// Somebody has seen to the alarms of these events, both ends inclusive.
    AlarmsAcknowledged {
        /// First.
        from: u64,
        /// Last.
        to: u64,
    },
}

/// What happened: one variant a type (wire contract, section 3). `detail` is for a person; nothing is derived from it.
#[derive(Clone, Debug, PartialEq, Eq, strum::EnumDiscriminants)]
#[strum_discriminants(
    name(EventKind),
    doc = "The type of an audit event.",
    derive(Hash, PartialOrd, Ord, Serialize, Deserialize, strum::IntoStaticStr, strum::VariantArray),
    serde(rename_all = "snake_case"),
    strum(serialize_all = "snake_case")
)]
#[expect(missing_docs, reason = "the fields are those of the contract; each type reports what it is")]
pub enum Event {
    /// A request was answered; without `portal`, at one that is not configured. `role`: as whom the card is enrolled. `direction`:
    /// which way, at a gate.
    Decision {
        portal: Option<PortalId>,
        who: Who,
        role: Role,
        outcome: Outcome,
        also: Reasons,
        flags: GrantFlags,
        direction: Option<Direction>,
        detail: String,
    },
    /// A granted passage was taken.
    Taken { portal: PortalId, who: Who, direction: Direction },
    /// A granted passage was not taken in time, or its release was not confirmed; `detail` then reports why.
    NotTaken { portal: PortalId, who: Who, detail: String },
    /// A power box is on, or on by another right than before: its relay was read or confirmed on.
    PowerOn { portal: PortalId, source: PowerSource, holder: Option<Holder>, detail: String },
    /// A power box was ordered on, or is to be on by another right than before, and its relay is not known to be on.
    PowerOrdered { portal: PortalId, source: PowerSource, holder: Option<Holder>, detail: String },
    /// A power box was switched off.
    PowerOff { portal: PortalId, who: Who, cause: OffCause },
    /// A power box tripped for its load. `stays_off`: it was one trip too many. `ended`: its trips do not count any more.
    PowerTrip { portal: PortalId, who: Who, reason: SuspendReason, stays_off: bool, ended: bool, detail: String },
    /// A card lost the right to open anything, from the time of this event on. `received_at`: when the message arrived. `cut`: the
    /// power boxes that it kept on, and that have to confirm that they are off.
    Revoked {
        uid: CardUid,
        holder: Option<Holder>,
        revision: StreamRevision,
        received_at: Timestamp,
        cut: Vec<PortalId>,
    },
    /// The `revoked` events `from` to `to` are on disk.
    RevocationDurable { from: u64, to: u64 },
    /// A portal is done with the revocation of event `revoked`.
    RevocationConfirmed { portal: PortalId, who: Who, revoked: u64, how: Confirmation },
    /// A change message or a snapshot was applied; the signed bytes are kept beside the event.
    ChangesApplied { revision: StreamRevision, snapshot: Option<AppliedSnapshot> },
    /// A message was rejected. `used_up`: for its content only, so its number counts. `count`: how many more like it were
    /// rejected without an event of their own.
    RejectedMessage { code: ErrorCode, used_up: Option<StreamRevision>, count: u64, detail: String },
    /// A command was carried out or rejected. `taken`: its id and `exp`, if the id must be remembered.
    Command { portal: Option<PortalId>, status: ReplyStatus, taken: Option<(String, Timestamp)>, detail: String },
    /// A standing mode changed; without `portal`, that of all portals.
    Posture { portal: Option<PortalId>, posture: Posture, source: PostureSource },
    /// An alarm was raised. `count`: how many more like it were held back before. `ended`: what it was raised for is over.
    Alarm { kind: AlarmKind, portal: Option<PortalId>, who: Who, count: u64, ended: bool, detail: String },
    /// A portal answers again.
    PortalOnline { portal: PortalId, detail: String },
    /// A portal does not answer.
    PortalOffline { portal: PortalId, detail: String },
    /// The gateway started. `owners`: which stream numbers which registers from here on; `None`: an earlier version wrote it.
    Boot { gateway: Option<GatewayId>, owners: Option<Owners>, detail: String },
    /// The wall clock was set, or its trust changed. `restored`: trusted from here on although it showed a later time before.
    ClockStep { by_ms: i64, restored: bool, detail: String },
    /// Events are missing. `ranges`: which of `from` to `to`, both ends inclusive; empty: all.
    LogGap { from: u64, to: u64, cause: GapCause, ranges: Vec<(u64, u64)> },
    /// A mark was set.
    Config { mark: Mark, detail: String },
}

impl EventKind {
    /// Every type, in the order of [`Event`].
    pub const ALL: &'static [Self] = <Self as strum::VariantArray>::VARIANTS;

    /// The type's name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

impl Event {
    /// Its type.
    #[must_use]
    pub fn kind(&self) -> EventKind {
        self.into()
    }

    /// Where it happened.
    #[must_use]
    pub fn portal(&self) -> Option<&PortalId> {
        match self {
            Self::Decision { portal, .. }
            | Self::Command { portal, .. }
            | Self::Posture { portal, .. }
            | Self::Alarm { portal, .. } => portal.as_ref(),
            Self::Taken { portal, .. }
            | Self::NotTaken { portal, .. }
            | Self::PowerOn { portal, .. }
            | Self::PowerOrdered { portal, .. }
            | Self::PowerOff { portal, .. }
            | Self::PowerTrip { portal, .. }
            | Self::RevocationConfirmed { portal, .. }
            | Self::PortalOnline { portal, .. }
            | Self::PortalOffline { portal, .. } => Some(portal),
            _ => None,
        }
    }

    fn who(&self) -> Option<&Who> {
        match self {
            Self::Decision { who, .. }
            | Self::Taken { who, .. }
            | Self::NotTaken { who, .. }
            | Self::PowerOff { who, .. }
            | Self::PowerTrip { who, .. }
            | Self::RevocationConfirmed { who, .. }
            | Self::Alarm { who, .. } => Some(who),
            _ => None,
        }
    }

    /// Which card it is about.
    #[must_use]
    pub fn uid(&self) -> Option<CardUid> {
        match self {
            Self::PowerOn { source, .. } | Self::PowerOrdered { source, .. } => source.card(),
            Self::Revoked { uid, .. } => Some(*uid),
            Self::Config { mark: Mark::Forgiven(Forgiveness { cards: CardSet::One(uid), .. }), .. } => Some(*uid),
            _ => self.who()?.uid,
        }
    }

    /// Whose card that is.
    #[must_use]
    pub fn holder(&self) -> Option<&Holder> {
        match self {
            Self::PowerOn { holder, .. } | Self::PowerOrdered { holder, .. } | Self::Revoked { holder, .. } => {
                holder.as_ref()
            }
            Self::Config { mark: Mark::PassagesErased(holder), .. } => Some(holder),
            _ => self.who()?.holder.as_ref(),
        }
    }

    /// The flags of a decision.
    #[must_use]
    pub fn flags(&self) -> GrantFlags {
        match self {
            Self::Decision { flags, .. } => *flags,
            _ => GrantFlags::empty(),
        }
    }

    /// What it reports to a person; empty if nothing beyond its fields.
    #[must_use]
    pub fn detail(&self) -> &str {
        match self {
            Self::Decision { detail, .. }
            | Self::NotTaken { detail, .. }
            | Self::PowerOn { detail, .. }
            | Self::PowerOrdered { detail, .. }
            | Self::PowerTrip { detail, .. }
            | Self::RejectedMessage { detail, .. }
            | Self::Command { detail, .. }
            | Self::Alarm { detail, .. }
            | Self::PortalOnline { detail, .. }
            | Self::PortalOffline { detail, .. }
            | Self::Boot { detail, .. }
            | Self::ClockStep { detail, .. }
            | Self::Config { detail, .. } => detail,
            _ => "",
        }
    }
}

/// One audit event: the header that each has, and what happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEvent {
    /// Its number; without holes for ever.
    pub n: u64,
    /// When, by the wall clock.
    pub at: Timestamp,
    /// Whether the wall clock could be trusted.
    pub clock: ClockTrust,
    /// Which run of the gateway.
    pub boot: Arc<str>,
    /// Monotonic time of that run, in milliseconds.
    pub mono_ms: u64,
    /// What happened.
    pub body: Event,
}

impl AuditEvent {
    /// Event `n` of the run `boot`, at `now`.
    #[must_use]
    pub fn new(n: u64, boot: impl Into<Arc<str>>, now: Now, body: Event) -> Self {
        Self { n, at: now.wall, clock: now.clock, boot: boot.into(), mono_ms: now.mono.0, body }
    }

    /// Its type.
    #[must_use]
    pub fn kind(&self) -> EventKind {
        self.body.kind()
    }

    /// When it was recorded.
    #[must_use]
    pub fn moment(&self) -> Moment {
        Moment { at: self.at, clock: self.clock, n: self.n, mono_ms: self.mono_ms }
    }

    /// The latest trusted time after this event, if that before it was `before`.
    #[must_use]
    pub fn trusted_after(&self, before: Timestamp) -> Timestamp {
        match (&self.body, self.clock) {
            (_, ClockTrust::Untrusted) => before,
            (Event::ClockStep { restored: true, .. }, ClockTrust::Trusted) => self.at,
            (_, ClockTrust::Trusted) => before.max(self.at),
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
