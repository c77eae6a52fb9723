//! `[policy]` and `[audit]`: the site's choices. Their defaults are those of [`Policy::default`] and [`AuditConfig::default`].

use std::num::NonZeroU64;

use super::whole;
use crate::access::policy::{FirePower, KindSet, Policy, RevokePower, Severity, UntrustedClock};
use crate::access::portal::PortalKind;
use crate::profile::document::Table;

/// Seconds in a day.
const DAY_S: i64 = 86_400;
/// Longest delay until decisions are on disk, in milliseconds.
const FLUSH_MS_MAX: i64 = 1_000;

/// Who moves the cursor of the audit: `audit.ack`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AuditAckBy {
    /// The center: a stream with `command` in `may` says `audit-ack`.
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
    /// Decisions are on disk at most this much later, in milliseconds.
    pub flush_ms: u32,
}

impl Default for AuditConfig {
    fn default() -> Self {
        const RETAIN_EVENTS: NonZeroU64 = NonZeroU64::MIN.saturating_add(999_999);
        Self { ack: AuditAckBy::default(), retain_events: RETAIN_EVENTS, retain_days: 180, flush_ms: 50 }
    }
}

/// Reads `[policy]`; `require_issue` stands in `[center]`.
pub(super) fn read(top: &mut Table<'_>, require_issue: bool) -> Policy {
    let default = Policy { require_issue, ..Policy::default() };
    let read = |table: &mut Table<'_>| Policy {
        frozen_may: kinds(table, "frozen_may"),
        reissue_keeps: kinds(table, "reissue_keeps"),
        revoke_power: table.choice(
            "revoke_power",
            &[("at_once", RevokePower::AtOnce), ("after_delay", RevokePower::AfterDelay)],
            default.revoke_power,
        ),
        anti_passback: table.choice(
            "anti_passback",
            &[("off", Severity::Off), ("soft", Severity::Flag), ("hard", Severity::Deny)],
            default.anti_passback,
        ),
        clone: table.choice(
            "clone",
            &[("off", Severity::Off), ("flag", Severity::Flag), ("deny", Severity::Deny)],
            default.clone,
        ),
        untrusted_clock: table.choice(
            "untrusted_clock",
            &[("deny", UntrustedClock::Deny), ("grant", UntrustedClock::Grant)],
            default.untrusted_clock,
        ),
        fire_power: table.choice(
            "fire_power",
            &[("keep", FirePower::Keep), ("cut", FirePower::Cut)],
            default.fire_power,
        ),
        max_denials: whole(table, "max_denials", 1..=1000, default.max_denials),
        lockout_s: whole(table, "lockout_s", 0..=DAY_S, default.lockout_s),
        stale_after_s: whole(table, "stale_after_s", 1..=365 * DAY_S, default.stale_after_s),
        require_issue,
    };
    top.table("policy", read).unwrap_or(default)
}

fn kinds(table: &mut Table<'_>, key: &'static str) -> KindSet {
    let names = PortalKind::ALL.map(|kind| (kind.as_str(), kind));
    let items = table.get(key).map(|value| value.items()).unwrap_or_default();
    items.iter().filter_map(|item| item.choice(&names)).collect()
}

/// Reads `[audit]`.
pub(super) fn read_audit(top: &mut Table<'_>) -> AuditConfig {
    let default = AuditConfig::default();
    let read = |table: &mut Table<'_>| AuditConfig {
        ack: table.choice("ack", &[("center", AuditAckBy::Center), ("broker", AuditAckBy::Broker)], default.ack),
        retain_events: NonZeroU64::new(whole(table, "retain_events", 1..=1_000_000_000, default.retain_events.get()))
            .unwrap_or(default.retain_events),
        retain_days: whole(table, "retain_days", 1..=36_500, default.retain_days),
        flush_ms: whole(table, "flush_ms", 0..=FLUSH_MS_MAX, default.flush_ms),
    };
    top.table("audit", read).unwrap_or(default)
}
