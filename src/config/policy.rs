//! `[policy]` and `[audit]`: the choices of a site. The defaults are [`Policy::default`] and [`AuditConfig::default`].

use std::num::NonZeroU64;

use serde::Deserialize;

use super::Context;
use super::secret::{FileKey, KEY_HINT, Secret};
use crate::access::event::EventKind;
use crate::access::policy::{
    AfterHours, AfterStale, FirePower, Policy, RevokePower, Severity, StaffPower, UntrustedClock,
};
use crate::access::portal::PortalKind;
use crate::access::power_box::ENERGISED_KEPT_MAX;
use crate::access::trip::TRIPS_KEPT_MAX;
use crate::profile::document::{Key, List, Log, Whole};

/// Seconds in a day.
const DAY_S: i64 = 86_400;
/// Longest time for which an entry counts against the next one, in seconds.
pub(super) const TIMED_S_MAX: i64 = DAY_S;
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

/// What the audit has of the UID of a card: `audit.uid`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum AuditUid {
    /// The UID.
    #[default]
    Plain,
    /// A keyed hash of it.
    Hashed,
}

/// How the audit is kept and forwarded.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// How many days events of these types are kept, where that is less than `retain_days`.
    pub retain: Vec<(EventKind, u32)>,
    /// The key of the hashes in place of UIDs; `policy.hash_uids` decides whether hashes are written.
    pub uid_key: Option<Secret>,
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
            retain: Vec::new(),
            uid_key: None,
        }
    }
}

/// A key in seconds as milliseconds, if it is set.
pub(super) fn seconds<const MIN: i64, const MAX: i64>(key: &Key<Whole<MIN, MAX>>) -> Option<u64> {
    key.get().map(|_| u64::from(key.number(0_u32)) * 1000)
}

#[derive(Deserialize)]
pub(super) struct PolicyTable {
    frozen_may: List<PortalKind>,
    reissue_keeps: List<PortalKind>,
    revoke_power: Key<RevokePower>,
    anti_passback: Key<AntiPassback>,
    anti_passback_forgive_at: Key<String>,
    anti_passback_timed_s: Key<Whole<0, TIMED_S_MAX>>,
    clone: Key<Severity>,
    untrusted_clock: Key<UntrustedClock>,
    fire_power: Key<FirePower>,
    max_denials: Key<Whole<1, 1000>>,
    lockout_s: Key<Whole<0, DAY_S>>,
    stale_after_s: Key<Whole<1, STALE_AFTER_S_MAX>>,
    after_hours: Key<AfterHours>,
    after_hours_visitor: Key<AfterHours>,
    after_hours_staff: Key<AfterHours>,
    after_stale: Key<AfterStale>,
    after_stale_kinds: List<PortalKind>,
    after_stale_s: Key<Whole<1, STALE_AFTER_S_MAX>>,
    visitor_kinds: List<PortalKind>,
    visitor_escort_s: Key<Whole<1, 600>>,
    staff_power: Key<StaffPower>,
    max_energise_per_min: Key<Whole<0, { ENERGISED_KEPT_MAX as i64 }>>,
    power_stagger_ms: Key<Whole<0, 10_000>>,
    trip_rest_s: Key<Whole<10, DAY_S>>,
    trip_retries: Key<Whole<1, { TRIPS_KEPT_MAX as i64 }>>,
}

/// The values of `anti_passback`, which are other names of [`Severity`].
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum AntiPassback {
    Off,
    Soft,
    Hard,
}

impl AntiPassback {
    pub(super) fn severity(self) -> Severity {
        match self {
            Self::Off => Severity::Off,
            Self::Soft => Severity::Flag,
            Self::Hard => Severity::Deny,
        }
    }
}

#[derive(Deserialize)]
pub(super) struct AuditTable {
    ack: Key<AuditAckBy>,
    retain_events: Key<Whole<1, 1_000_000_000>>,
    retain_days: Key<Whole<1, 36_500>>,
    flush_ms: Key<Whole<0, 1000>>,
    limit_mib: Key<Whole<64, 1_000_000>>,
    uid: Key<AuditUid>,
    uid_key_file: FileKey,
    retain: Key<RetainTable>,
}

/// Days for which events of a type are kept: `audit.retain`.
#[derive(Deserialize)]
pub(super) struct RetainTable {
    decision: Key<Days>,
    taken: Key<Days>,
    not_taken: Key<Days>,
    power_on: Key<Days>,
    power_ordered: Key<Days>,
    power_off: Key<Days>,
    power_trip: Key<Days>,
    revoked: Key<Days>,
    revocation_confirmed: Key<Days>,
    command: Key<Days>,
    posture: Key<Days>,
    alarm: Key<Days>,
    portal_online: Key<Days>,
    portal_offline: Key<Days>,
}

/// A number of days.
type Days = Whole<1, 36_500>;

/// The types of event with an age of their own.
fn retain(log: &Log, table: &Key<RetainTable>, retain_days: u32) -> Vec<(EventKind, u32)> {
    let Some(t) = table.get() else { return Vec::new() };
    let keys = [
        (EventKind::Decision, &t.decision),
        (EventKind::Taken, &t.taken),
        (EventKind::NotTaken, &t.not_taken),
        (EventKind::PowerOn, &t.power_on),
        (EventKind::PowerOrdered, &t.power_ordered),
        (EventKind::PowerOff, &t.power_off),
        (EventKind::PowerTrip, &t.power_trip),
        (EventKind::Revoked, &t.revoked),
        (EventKind::RevocationConfirmed, &t.revocation_confirmed),
        (EventKind::Command, &t.command),
        (EventKind::Posture, &t.posture),
        (EventKind::Alarm, &t.alarm),
        (EventKind::PortalOnline, &t.portal_online),
        (EventKind::PortalOffline, &t.portal_offline),
    ];
    let set = keys.into_iter().filter(|(_, key)| key.get().is_some());
    let days = set.map(|(kind, key)| {
        let days = key.number(retain_days);
        if days > retain_days {
            key.wrong(
                log,
                format!("the whole audit is kept {retain_days} days, `audit.retain_days`: raise that, or lower this"),
            );
        }
        (kind, days)
    });
    days.collect()
}

/// A time of day such as `04:00`, in minutes.
fn minute_of_day(text: &str) -> Result<u16, String> {
    let two = |digits: &str, below: u16| {
        let number = digits.parse::<u16>().ok().filter(|n| *n < below);
        number.filter(|_| digits.len() == 2 && digits.bytes().all(|b| b.is_ascii_digit()))
    };
    let parts = text.split_once(':').and_then(|(hour, minute)| Some(two(hour, 24)? * 60 + two(minute, 60)?));
    parts.ok_or_else(|| format!("a time of day like `04:00` is wanted, got `{text}`"))
}

/// The policy; `require_issue` is a key of `[center]`, and `hash_uids` follows from `audit.uid`.
pub(super) fn policy(log: &Log, table: &Key<PolicyTable>, (require_issue, hash_uids): (bool, bool)) -> Policy {
    let default = Policy { require_issue, hash_uids, ..Policy::default() };
    let Some(t) = table.get() else { return default };
    Policy {
        frozen_may: t.frozen_may.values().copied().collect(),
        reissue_keeps: t.reissue_keeps.values().copied().collect(),
        revoke_power: t.revoke_power.or(default.revoke_power),
        anti_passback: t.anti_passback.get().map_or(default.anti_passback, |named| named.severity()),
        anti_passback_timed_ms: seconds(&t.anti_passback_timed_s).unwrap_or(default.anti_passback_timed_ms),
        forgive_at_min: t.anti_passback_forgive_at.parse(log, minute_of_day),
        areas: Vec::new(),
        walks: Vec::new(),
        clone: t.clone.or(default.clone),
        untrusted_clock: t.untrusted_clock.or(default.untrusted_clock),
        fire_power: t.fire_power.or(default.fire_power),
        max_denials: t.max_denials.number(default.max_denials),
        lockout_s: t.lockout_s.number(default.lockout_s),
        stale_after_s: t.stale_after_s.number(default.stale_after_s),
        after_hours: t.after_hours.or(default.after_hours),
        // Visitors have no more than residents.
        after_hours_visitor: t.after_hours_visitor.or(t.after_hours.or(default.after_hours_visitor)),
        after_hours_staff: t.after_hours_staff.or(default.after_hours_staff),
        after_stale: t.after_stale.or(default.after_stale),
        after_stale_kinds: if t.after_stale_kinds.is_set() {
            t.after_stale_kinds.values().copied().collect()
        } else {
            default.after_stale_kinds
        },
        after_stale_s: t.after_stale_s.number(default.after_stale_s),
        visitor_kinds: if t.visitor_kinds.is_set() {
            t.visitor_kinds.values().copied().collect()
        } else {
            default.visitor_kinds
        },
        visitor_escort_ms: seconds(&t.visitor_escort_s).unwrap_or(default.visitor_escort_ms),
        staff_power: t.staff_power.or(default.staff_power),
        max_energise_per_min: t.max_energise_per_min.number(default.max_energise_per_min),
        power_stagger_ms: t.power_stagger_ms.number(default.power_stagger_ms),
        trip_rest_ms: seconds(&t.trip_rest_s).unwrap_or(default.trip_rest_ms),
        trip_retries: t.trip_retries.number(default.trip_retries),
        require_issue,
        hash_uids,
    }
}

/// Whether the audit is to have hashes in place of UIDs.
pub(super) fn hashes_uids(table: &Key<AuditTable>) -> bool {
    table.get().is_some_and(|t| t.uid.or(AuditUid::default()) == AuditUid::Hashed)
}

pub(super) fn audit(cx: &Context<'_>, table: &Key<AuditTable>) -> AuditConfig {
    let default = AuditConfig::default();
    let Some(t) = table.get() else { return default };
    let uid_key = cx.key(&t.uid_key_file, "audit_uid_key");
    if hashes_uids(table) && uid_key.is_none() && !t.uid_key_file.is_set() {
        t.uid.wrong(
            cx.log,
            format!("`hashed` needs `uid_key_file` or the systemd credential `audit_uid_key`: {KEY_HINT}"),
        );
    }
    let retain_events = NonZeroU64::new(t.retain_events.number(0)).unwrap_or(default.retain_events);
    AuditConfig {
        ack: t.ack.or(default.ack),
        retain_events,
        retain_days: t.retain_days.number(default.retain_days),
        flush_ms: t.flush_ms.number(default.flush_ms),
        limit_mib: t.limit_mib.number(default.limit_mib),
        retain: retain(cx.log, &t.retain, t.retain_days.number(default.retain_days)),
        uid_key,
    }
}
