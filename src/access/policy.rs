//! The site's choices where campuses differ.

use serde::Deserialize;

use super::portal::PortalKind;

/// A set of portal kinds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KindSet(u8);

impl KindSet {
    /// Whether `kind` is in the set.
    #[must_use]
    pub fn contains(self, kind: PortalKind) -> bool {
        self.0 & (1 << kind as u8) != 0
    }

    /// Whether the set is empty.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl FromIterator<PortalKind> for KindSet {
    fn from_iter<T: IntoIterator<Item = PortalKind>>(kinds: T) -> Self {
        Self(kinds.into_iter().fold(0, |set, kind| set | (1 << kind as u8)))
    }
}

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

/// How a rule of suspicion acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Not judged.
    Off,
    /// The grant is flagged.
    Flag,
    /// The request is denied.
    Deny,
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
    /// `off`, `flag` or `deny`.
    pub clone: Severity,
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
    /// An enrolled card that the card office never named is unknown.
    pub require_issue: bool,
}

impl Policy {
    /// The time in which denials at a portal are counted, in milliseconds (GB 50396-2007 5.1.5 asks for at most 5 tries).
    pub const DENIAL_WINDOW_MS: u64 = 60_000;
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            frozen_may: KindSet::default(),
            reissue_keeps: KindSet::default(),
            revoke_power: RevokePower::default(),
            anti_passback: Severity::Flag,
            clone: Severity::Flag,
            untrusted_clock: UntrustedClock::default(),
            fire_power: FirePower::default(),
            max_denials: 5,
            lockout_s: 0,
            stale_after_s: 900,
            require_issue: false,
        }
    }
}
