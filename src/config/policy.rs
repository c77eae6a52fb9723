//! `[policy]` and `[audit]`: the choices of a site. The defaults are [`Policy::default`] and [`AuditConfig::default`].

use std::num::NonZeroU64;

use serde::Deserialize;

use crate::access::policy::{FirePower, Policy, RevokePower, Severity, UntrustedClock};
use crate::access::portal::PortalKind;
use crate::profile::document::{Key, List, Whole};

/// Seconds in a day.
const DAY_S: i64 = 86_400;
/// Longest age of the list before decisions are flagged, in seconds.
const STALE_AFTER_S_MAX: i64 = 365 * DAY_S;

/// Who moves the cursor of the audit: `audit.ack`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuditAckBy {
    /// The center: a stream with `command` in `may` sends `audit-ack`.
    #[default]
    Center,
    /// The broker, with its PUBACK.
    Broker,
}

/// How the audit is kept and forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditConfig {
    /// Who moves the cursor.
    pub ack: AuditAckBy,
    /// At least this many events are kept.
    pub retain_events: NonZeroU64,
    /// Events are kept at least this many days.
    pub retain_days: u32,
    /// The longest time until a decision is on disk, in milliseconds.
    pub flush_ms: u32,
    /// How long the audit on disk may become before events go that nobody acknowledged, in MiB.
    pub limit_mib: u32,
}

impl Default for AuditConfig {
    fn default() -> Self {
        const RETAIN_EVENTS: NonZeroU64 = NonZeroU64::MIN.saturating_add(999_999);
        Self {
            ack: AuditAckBy::default(),
            retain_events: RETAIN_EVENTS,
            retain_days: 180,
            flush_ms: 50,
            limit_mib: 2048,
        }
    }
}

#[derive(Deserialize)]
pub(super) struct PolicyTable {
    frozen_may: List<PortalKind>,
    reissue_keeps: List<PortalKind>,
    revoke_power: Key<RevokePower>,
    anti_passback: Key<AntiPassback>,
    clone: Key<Severity>,
    untrusted_clock: Key<UntrustedClock>,
    fire_power: Key<FirePower>,
    max_denials: Key<Whole<1, 1000>>,
    lockout_s: Key<Whole<0, DAY_S>>,
    stale_after_s: Key<Whole<1, STALE_AFTER_S_MAX>>,
}

/// The values of `anti_passback`, which are other names of [`Severity`].
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum AntiPassback {
    Off,
    Soft,
    Hard,
}

#[derive(Deserialize)]
pub(super) struct AuditTable {
    ack: Key<AuditAckBy>,
    retain_events: Key<Whole<1, 1_000_000_000>>,
    retain_days: Key<Whole<1, 36_500>>,
    flush_ms: Key<Whole<0, 1000>>,
    limit_mib: Key<Whole<64, 1_000_000>>,
}

/// The policy; `require_issue` is a key of `[center]`.
pub(super) fn policy(table: &Key<PolicyTable>, require_issue: bool) -> Policy {
    let default = Policy { require_issue, ..Policy::default() };
    let Some(t) = table.get() else { return default };
    let anti_passback = t.anti_passback.get().map(|named| match named {
        AntiPassback::Off => Severity::Off,
        AntiPassback::Soft => Severity::Flag,
        AntiPassback::Hard => Severity::Deny,
    });
    Policy {
        frozen_may: t.frozen_may.values().copied().collect(),
        reissue_keeps: t.reissue_keeps.values().copied().collect(),
        revoke_power: t.revoke_power.or(default.revoke_power),
        anti_passback: anti_passback.unwrap_or(default.anti_passback),
        clone: t.clone.or(default.clone),
        untrusted_clock: t.untrusted_clock.or(default.untrusted_clock),
        fire_power: t.fire_power.or(default.fire_power),
        max_denials: t.max_denials.number(default.max_denials),
        lockout_s: t.lockout_s.number(default.lockout_s),
        stale_after_s: t.stale_after_s.number(default.stale_after_s),
        require_issue,
    }
}

pub(super) fn audit(table: &Key<AuditTable>) -> AuditConfig {
    let default = AuditConfig::default();
    let Some(t) = table.get() else { return default };
    let retain_events = NonZeroU64::new(t.retain_events.number(0)).unwrap_or(default.retain_events);
    AuditConfig {
        ack: t.ack.or(default.ack),
        retain_events,
        retain_days: t.retain_days.number(default.retain_days),
        flush_ms: t.flush_ms.number(default.flush_ms),
        limit_mib: t.limit_mib.number(default.limit_mib),
    }
}
