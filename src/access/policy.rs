//! The site's choices where campuses differ.

use enumset::EnumSet;
use serde::Deserialize;

use super::credential::Role;
use super::id::{PortalId, Zone};
use super::portal::PortalKind;

/// A set of portal kinds.
pub type KindSet = EnumSet<PortalKind>;

/// What losing the right does to a power box that is on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RevokePower {
    /// Off now.
    #[default]
    AtOnce,
    /// Off after the box's delay, as if the card had left.
    AfterDelay,
}

/// What happens when a window or schedule must be judged and the clock cannot be trusted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UntrustedClock {
    /// Deny with `clock_untrusted`.
    #[default]
    Deny,
    /// Grant as if the window were open.
    Grant,
}

/// What becomes of a grant at a gate or door outside its `hours`, on the way in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AfterHours {
    /// Nothing.
    Allow,
    /// It is flagged as late.
    #[default]
    Late,
    /// It is denied with `outside_schedule`.
    Deny,
}

/// Who may enter with a list that no center has confirmed for [`Policy::after_stale_s`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AfterStale {
    /// Whoever may by that list.
    #[default]
    Continue,
    /// Of these only residents.
    ResidentsOnly,
    /// Nobody.
    DenyEntry,
}

/// What a fire does to power boxes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FirePower {
    /// Nothing.
    #[default]
    Keep,
    /// Off, and denied as `out_of_service`.
    Cut,
}

/// When a staff card energises a power box.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StaffPower {
    /// Only while power in the room is suspended for `maintenance`, and for that alone.
    #[default]
    Maintenance,
    /// Also whenever a resident's card would.
    Always,
}

/// How a rule of suspicion acts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Not judged.
    #[default]
    Off,
    /// The grant is flagged.
    Flag,
    /// The request is denied.
    Deny,
}

/// Anti-passback in one area: the gates of one zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AreaRule {
    /// The zone of its gates.
    pub zone: Zone,
    /// What a second passage in one direction does.
    pub anti_passback: Severity,
    /// For how long an entry counts against the next one, in milliseconds; 0: until the card leaves.
    pub timed_ms: u64,
}

/// How long nobody takes less from one place to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Walk {
    /// A portal, or the zone of portals.
    pub from: Place,
    /// A portal, or the zone of portals.
    pub to: Place,
    /// The time, in milliseconds, in either direction.
    pub walk_ms: u64,
}

/// A portal, or all portals of a zone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// One portal.
    Portal(PortalId),
    /// All portals of a zone.
    Zone(Zone),
}

/// `[policy]` of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Kinds a frozen card may still open.
    pub frozen_may: KindSet,
    /// Kinds whose entitlement follows the holder to a reissued card.
    pub reissue_keeps: KindSet,
    /// What losing the right does to a box that is on.
    pub revoke_power: RevokePower,
    /// `off`, `soft` (flag) or `hard` (deny).
    pub anti_passback: Severity,
    /// For how long an entry to an area counts against the next one, in milliseconds; 0: until the card leaves.
    pub anti_passback_timed_ms: u64,
    /// At which minute of the day all cards are forgiven where they are, in the gateway's time zone; `None`: never.
    pub forgive_at_min: Option<u16>,
    /// The areas that differ.
    pub areas: Vec<AreaRule>,
    /// `off`, `flag` or `deny`.
    pub clone: Severity,
    /// The times between places that nobody undercuts; judged as `clone` states.
    pub walks: Vec<Walk>,
    /// Kinds that a visitor may open, if enrolled for them.
    pub visitor_kinds: KindSet,
    /// A visitor enters a gate within this time after a card there that is no visitor's, in milliseconds; 0: also alone.
    pub visitor_escort_ms: u64,
    /// When a staff card energises a power box.
    pub staff_power: StaffPower,
    /// How often one power box is switched on within a minute; 0: as often as cards ask. Beyond it the power waits.
    pub max_energise_per_min: u32,
    /// How long after the one before it the next box is switched on, where power comes back to many at once, in milliseconds.
    pub power_stagger_ms: u32,
    /// How long a power box that tripped stays off, in milliseconds.
    pub trip_rest_ms: u64,
    /// After so many trips in 24 h a power box stays off until somebody ends that.
    pub trip_retries: u32,
    /// What to do without a trusted clock.
    pub untrusted_clock: UntrustedClock,
    /// What a fire does to power boxes.
    pub fire_power: FirePower,
    /// Denials at one portal in [`Policy::DENIAL_WINDOW_MS`] that raise an alarm.
    pub max_denials: u32,
    /// How long a portal then refuses everybody, in seconds; 0: never.
    pub lockout_s: u32,
    /// List age from which grants carry `stale_list`, in seconds.
    pub stale_after_s: u32,
    /// Residents outside the hours of a gate or door.
    pub after_hours: AfterHours,
    /// Visitors there.
    pub after_hours_visitor: AfterHours,
    /// Staff there.
    pub after_hours_staff: AfterHours,
    /// Who may enter with a list older than `after_stale_s`.
    pub after_stale: AfterStale,
    /// The kinds of portals at which `after_stale` counts.
    pub after_stale_kinds: KindSet,
    /// List age from which `after_stale` counts, in seconds.
    pub after_stale_s: u32,
    /// An enrolled card that the card office never named is unknown.
    pub require_issue: bool,
    /// Nothing that an event reports to a person contains a UID or what a reader gave for one: the audit has hashes of them.
    pub hash_uids: bool,
}

impl Policy {
    /// The time in which denials at a portal are counted, in milliseconds (GB 50396-2007 5.1.5 asks for at most 5 tries).
    pub const DENIAL_WINDOW_MS: u64 = 60_000;

    /// What becomes of a grant to `role` outside the hours of a gate or door.
    #[must_use]
    pub fn after_hours_of(&self, role: Role) -> AfterHours {
        match role {
            Role::Resident => self.after_hours,
            Role::Visitor => self.after_hours_visitor,
            Role::Staff => self.after_hours_staff,
        }
    }

    /// Whether a list that is too old keeps `role` out of portals of `kind`.
    #[must_use]
    pub fn denies_when_stale(&self, kind: PortalKind, role: Role) -> bool {
        let denies = match self.after_stale {
            AfterStale::Continue => false,
            AfterStale::ResidentsOnly => role != Role::Resident,
            AfterStale::DenyEntry => true,
        };
        denies && self.after_stale_kinds.contains(kind)
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            frozen_may: KindSet::default(),
            reissue_keeps: KindSet::default(),
            revoke_power: RevokePower::default(),
            anti_passback: Severity::Flag,
            anti_passback_timed_ms: 0,
            forgive_at_min: None,
            areas: Vec::new(),
            clone: Severity::Flag,
            walks: Vec::new(),
            visitor_kinds: KindSet::from_iter([PortalKind::Gate]),
            visitor_escort_ms: 0,
            staff_power: StaffPower::default(),
            max_energise_per_min: 6,
            power_stagger_ms: 150,
            trip_rest_ms: 300_000,
            trip_retries: 3,
            untrusted_clock: UntrustedClock::default(),
            fire_power: FirePower::default(),
            max_denials: 5,
            lockout_s: 0,
            stale_after_s: 900,
            after_hours: AfterHours::Late,
            after_hours_visitor: AfterHours::Late,
            after_hours_staff: AfterHours::Allow,
            after_stale: AfterStale::Continue,
            after_stale_kinds: KindSet::from_iter([PortalKind::Gate, PortalKind::Door]),
            after_stale_s: 86_400,
            require_issue: false,
            hash_uids: false,
        }
    }
}
