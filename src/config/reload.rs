//! What is different in a file that was read again: what a running gateway takes over, and what only a start does.
//!
//! Each struct is taken apart field by field, so that a new key does not compile before it is decided here what becomes of it.

use std::collections::BTreeMap;

use super::link::{Credentials, LinkSpec};
use super::{AuditConfig, HttpConfig, ModbusServerConfig, PortalConfig, Site};
use crate::access::policy::Policy;
use crate::access::portal::Portal;
use crate::wire::envelope::StreamSpec;

/// The keys in which one configuration differs from another, as a person writes them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Differences {
    /// Those that a running gateway takes over.
    pub live: Vec<String>,
    /// Those that only a start takes over.
    pub restart: Vec<String>,
}

/// When a key counts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Taken {
    /// At a reload.
    Live,
    /// At a start.
    Start,
}
use Taken::{Live, Start};

impl Differences {
    fn add(&mut self, taken: Taken, key: String) {
        match taken {
            Live => self.live.push(key),
            Start => self.restart.push(key),
        }
    }
}

/// Adds a key for each field in which `old` and `new` differ. All fields have to be there, or it does not compile; those behind
/// `elsewhere` are compared elsewhere, or follow from others.
macro_rules! fields {
    ($to:expr, $old:expr, $new:expr, $at:expr, $type:ident { $($field:ident: $taken:ident $key:literal),* ; elsewhere $($other:ident),* }) => {{
        let $type { $($field,)* $($other: _),* } = $new;
        $(if $old.$field != *$field { $to.add($taken, format!("{}{}", $at, $key)); })*
    }};
}

/// Compares the tables `kind` of two files that have the same `id`; `differ` compares two of them.
fn tables<'s, T>(
    to: &mut Differences,
    (kind, taken): (&str, Taken),
    (old, new): (&'s [T], &'s [T]),
    id: impl Fn(&'s T) -> &'s str,
    differ: impl Fn(&mut Differences, &T, &T, &str),
) {
    let by_id = |all: &'s [T]| -> BTreeMap<&'s str, &'s T> { all.iter().map(|one| (id(one), one)).collect() };
    let (before, after) = (by_id(old), by_id(new));
    for (id, one) in &after {
        match before.get(id) {
            Some(was) => differ(to, was, one, &format!("{kind} `{id}`")),
            None => to.add(taken, format!("{kind} `{id}` (added)")),
        }
    }
    for id in before.keys().filter(|id| !after.contains_key(*id)) {
        to.add(taken, format!("{kind} `{id}` (removed)"));
    }
}

impl Site {
    /// The keys in which `new` differs from this.
    pub(crate) fn differences(&self, new: &Self) -> Differences {
        let mut found = Differences::default();
        let to = &mut found;
        fields!(to, self, new, "", Site {
            gateway: Start "gateway.id",
            timezone_name: Live "gateway.timezone",
            data_dir: Start "gateway.data_dir",
            store_key: Start "store" ; elsewhere calendar, uplink, local, streams, policy, audit, http, buses, modbus_server, portals, is_sheet_empty, insecure });
        let schedules = |site: &Self| site.calendar.configured().clone().into_iter().collect::<Vec<_>>();
        let (before, after) = (schedules(self), schedules(new));
        tables(
            to,
            ("schedule", Live),
            (&before, &after),
            |(name, _)| name.as_str(),
            |to, old, new, at| {
                if old != new {
                    to.add(Live, at.to_owned());
                }
            },
        );
        link(to, "uplink", (self.uplink.as_ref(), new.uplink.as_ref()));
        link(to, "local", (self.local.as_ref(), new.local.as_ref()));
        let streams = (&*self.streams, &*new.streams);
        tables(
            to,
            ("center.stream", Start),
            streams,
            |one| one.name.as_str(),
            |to, old, new, at| {
                fields!(to, old, new, at, StreamSpec {
                    scope: Start ": scope",
                    keys: Live ": public_keys",
                    insecure_unsigned: Start ": insecure_unsigned",
                    allowed: Start ": may" ; elsewhere name });
            },
        );
        policy(to, &self.policy, &new.policy);
        fields!(to, self.audit, &new.audit, "audit.", AuditConfig {
            ack: Start "ack",
            retain_events: Start "retain_events",
            retain_days: Start "retain_days",
            flush_ms: Start "flush_ms",
            limit_mib: Start "limit_mib",
            retain: Start "retain",
            uid_key: Start "uid_key_file" ; elsewhere  });
        match (&self.http, &new.http) {
            (Some(old), Some(new)) => {
                fields!(to, old, new, "http.", HttpConfig { listen: Start "listen", token: Live "token_file" ; elsewhere  });
            }
            (old, new) if old.is_some() != new.is_some() => to.add(Start, "http".to_owned()),
            _ => {}
        }
        tables(
            to,
            ("bus", Start),
            (&self.buses, &new.buses),
            |one| &one.id,
            |to, old, new, at| {
                if old != new {
                    to.add(Start, at.to_owned());
                }
            },
        );
        match (&self.modbus_server, &new.modbus_server) {
            (Some(old), Some(new)) => fields!(to, old, new, "modbus_server.", ModbusServerConfig {
                tcp: Start "tcp",
                serial: Start "serial",
                allow: Live "allow" ; elsewhere  }),
            (old, new) if old.is_some() != new.is_some() => to.add(Start, "modbus_server".to_owned()),
            _ => {}
        }
        let portals = (&*self.portals, &*new.portals);
        tables(to, ("portal", Start), portals, |one| one.portal.id.as_str(), portal);
        found
    }
}

/// A link to a broker. Its password and the TLS files are read for each connection, so nothing follows from what is in them.
fn link(to: &mut Differences, at: &str, (old, new): (Option<&LinkSpec>, Option<&LinkSpec>)) {
    let (old, new) = match (old, new) {
        (Some(old), Some(new)) => (old, new),
        (None, None) => return,
        _ => return to.add(Start, at.to_owned()),
    };
    fields!(to, old, new, format_args!("{at}."), LinkSpec {
        urls: Start "urls",
        client_id: Start "client_id",
        ca_file: Start "ca_file",
        client_cert: Start "cert_file",
        session: Start "session",
        resync_spread_s: Start "resync_spread_s" ; elsewhere credentials });
    match (&old.credentials, &new.credentials) {
        (Some(old), Some(new)) => fields!(to, old, new, format_args!("{at}."), Credentials {
            username: Start "username",
            password_file: Start "password_file" ; elsewhere password }),
        (old, new) if old.is_some() != new.is_some() => to.add(Start, format!("{at}.username")),
        _ => {}
    }
}

fn policy(to: &mut Differences, old: &Policy, new: &Policy) {
    fields!(to, old, new, "", Policy {
        frozen_may: Live "policy.frozen_may",
        reissue_keeps: Live "policy.reissue_keeps",
        revoke_power: Live "policy.revoke_power",
        anti_passback: Live "policy.anti_passback",
        anti_passback_timed_ms: Live "policy.anti_passback_timed_s",
        forgive_at_min: Live "policy.anti_passback_forgive_at",
        areas: Live "area",
        clone: Live "policy.clone",
        walks: Live "walk",
        visitor_kinds: Live "policy.visitor_kinds",
        visitor_escort_ms: Live "policy.visitor_escort_s",
        staff_power: Live "policy.staff_power",
        max_energise_per_min: Live "policy.max_energise_per_min",
        power_stagger_ms: Live "policy.power_stagger_ms",
        trip_rest_ms: Live "policy.trip_rest_s",
        trip_retries: Live "policy.trip_retries",
        untrusted_clock: Live "policy.untrusted_clock",
        fire_power: Live "policy.fire_power",
        max_denials: Live "policy.max_denials",
        lockout_s: Live "policy.lockout_s",
        stale_after_s: Live "policy.stale_after_s",
        after_hours: Live "policy.after_hours",
        after_hours_visitor: Live "policy.after_hours_visitor",
        after_hours_staff: Live "policy.after_hours_staff",
        after_stale: Live "policy.after_stale",
        after_stale_kinds: Live "policy.after_stale_kinds",
        after_stale_s: Live "policy.after_stale_s",
        require_issue: Live "center.require_issue",
        hash_uids: Start "audit.uid" ; elsewhere  });
}

/// One portal. What it is and what it is wired to, the links are built on.
fn portal(to: &mut Differences, old: &PortalConfig, new: &PortalConfig, at: &str) {
    fields!(to, old, new, format_args!("{at}: "), PortalConfig { device: Start "device" ; elsewhere portal });
    fields!(to, old.portal, &new.portal, format_args!("{at}: "), Portal {
        kind: Start "kind",
        zone: Start "zone",
        direction: Start "direction",
        hold_ms: Live "hold_ms",
        extended_hold_ms: Live "extended_hold_ms",
        delay_off_ms: Live "delay_off_s",
        debounce_ms: Live "debounce_ms",
        held_open_ms: Live "held_open_s",
        rest_ms: Live "rest_s",
        fire_input: Live "fire_input",
        free_access: Live "free_access",
        hours: Live "hours",
        power_hours: Live "power_hours",
        overload_w: Live "overload_w",
        overload_ms: Live "overload_s",
        restricted_step_w: Live "restricted_step_w",
        allowed_steps_w: Live "allowed_steps_w",
        min_assurance: Live "min_assurance",
        anti_passback_timed_ms: Live "anti_passback_timed_s",
        interlock: Live "interlock",
        first_card: Live "first_card" ; elsewhere id, off_confirmed_ms, two_card_ms });
    // Two keys make one field: 0 where one card opens.
    let (was, is) = (old.portal.two_card_ms, new.portal.two_card_ms);
    if was != is {
        let key = if was == 0 || is == 0 { "two_card" } else { "two_card_s" };
        to.add(Live, format!("{at}: {key}"));
    }
}
