//! What the gateway counts, as Prometheus metrics. The links count their own.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::access::change::ErrorCode;
use crate::access::decision::{GrantReason, Reason};
use crate::access::effect::Outcome;
use crate::access::engine::Status;
use crate::access::event::{AlarmKind, ReplyStatus};
use crate::access::id::PortalId;
use crate::access::input::MessageKind;
use crate::access::portal::{PortalKind, Posture};
use crate::wire::topic::leaf;

/// The labels of a series, each with its name.
pub type Labels<const N: usize, V = &'static str> = [(&'static str, V); N];

/// A metric a line: the field, its type, how it begins, its name at `/metrics`, and what it reports.
macro_rules! metrics {
    ($($field:ident: $kind:ty = $new:expr, $name:literal, $help:literal;)*) => {
        /// The gateway's counters. Cheap to clone; clones count together.
        #[derive(Clone, Debug)]
        pub struct Metrics {
            $(#[doc = $help] pub $field: $kind,)*
        }

        impl Default for Metrics {
            fn default() -> Self {
                Self { $($field: $new,)* }
            }
        }

        impl Metrics {
            /// What each is called behind the prefix, without the ending of a counter.
            pub const NAMES: &'static [&'static str] = &[$($name,)*];

            /// Registers everything under the prefix `dormgate`.
            pub fn register(&self, registry: &mut Registry) {
                $(registry.register($name, $help, self.$field.clone());)*
            }
        }
    };
}

metrics! {
    decisions: Family<Labels<3>, Counter> = Family::default(), "decisions",
        "Decisions by kind of portal, decision and reason";
    decision_seconds: Histogram = Histogram::new(DECISION_BUCKETS), "decision_seconds",
        "From a request taken out of the inbox to its answer handed on";
    messages: Family<Labels<1>, Counter> = Family::default(), "change_messages",
        "Change messages by outcome";
    rejected: Family<Labels<2>, Counter> = Family::default(), "rejected_messages",
        "Messages without effect by kind and error code";
    commands: Family<Labels<1>, Counter> = Family::default(), "commands",
        "Commands by how they ended";
    cards: Gauge = Gauge::default(), "cards",
        "Cards known";
    stream_epoch: Family<Labels<1, String>, Gauge> = Family::default(), "stream_epoch",
        "The list's revision: epoch of each stream";
    stream_seq: Family<Labels<1, String>, Gauge> = Family::default(), "stream_seq",
        "The list's revision: received without a hole up to this message of each stream";
    stream_age: Family<Labels<1, String>, Gauge> = Family::default(), "stream_age_seconds",
        "How long ago each stream confirmed the list; refreshed with the state, at least once a minute; absent until it did";
    audit_last: Gauge = Gauge::default(), "audit_last",
        "Number of the newest audit event";
    audit_durable: Gauge = Gauge::default(), "audit_durable",
        "Number of the newest audit event on disk";
    audit_acked: Gauge = Gauge::default(), "audit_acked",
        "Number of the newest audit event that the center has";
    audit_lost: Counter = Counter::default(), "audit_lost",
        "Audit events lost because the disk was full, failing or too slow";
    flush_seconds: Histogram = Histogram::new(FLUSH_BUCKETS), "store_flush_seconds",
        "Time of one flush of the journal";
    orders_dropped: Counter = Counter::default(), "portal_orders_dropped",
        "Orders dropped because a portal link was too far behind";
    alarms: Family<Labels<1>, Counter> = Family::default(), "alarms",
        "Alarms raised by kind; that one is over is not counted";
    alarms_open: Family<Labels<1>, Gauge> = Family::default(), "alarms_open",
        "Alarms that are open, of the kinds that end; refreshed with the state, at least once a minute";
    portals: Family<Labels<1>, Gauge> = Family::default(), "portals",
        "Portals that are online, and that are offline or have not reported yet";
    postures: Family<Labels<1>, Gauge> = Family::default(), "portals_in_posture",
        "Portals in each posture";
    power_watts: Family<Labels<1, String>, Gauge<f64, AtomicU64>> = Family::default(), "portal_power_watts",
        "Power drawn at a portal, as its meter reports; absent without a valid reading";
    energy_kwh: Family<Labels<1, String>, Counter<f64, AtomicU64>> = Family::default(), "portal_energy_kwh",
        "Energy that a portal's meter has counted; absent without a valid reading";
}

/// A number as the value of a gauge.
pub(super) fn gauge(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// Decisions take microseconds.
const DECISION_BUCKETS: [f64; 10] = [1e-6, 2e-6, 5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 1e-3, 1e-2, 0.1];
/// A flush takes 0.1 ms on an SSD and 100 ms on a tired SD card.
const FLUSH_BUCKETS: [f64; 10] = [1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0, 5.0];

impl Metrics {
    /// Shows every series that may come, at 0: in a series that begins with its first count Prometheus sees no increase. A portal
    /// that is not configured has none, and duress is nowhere here.
    pub(super) fn begin(&self) {
        for kind in AlarmKind::ALL.iter().filter(|kind| **kind != AlarmKind::Duress) {
            drop(self.alarms.get_or_create(&[("kind", kind.as_str())]));
        }
        for outcome in Outcome::ALL {
            drop(self.messages.get_or_create(&[("outcome", outcome.as_str())]));
        }
        for outcome in ReplyStatus::ALL {
            drop(self.commands.get_or_create(&[("outcome", outcome.as_str())]));
        }
        for (kind, code) in MessageKind::ALL.iter().flat_map(|kind| ErrorCode::ALL.iter().map(move |code| (kind, code)))
        {
            drop(self.rejected.get_or_create(&[("topic", leaf(*kind)), ("code", code.as_str())]));
        }
        let grants = GrantReason::ALL.iter().map(|reason| ("grant", reason.as_str()));
        let denials = Reason::ALL.iter().map(|reason| ("deny", reason.as_str()));
        for (decision, reason) in grants.chain(denials) {
            for kind in PortalKind::ALL {
                let labels = [("kind", kind.as_str()), ("decision", decision), ("reason", reason)];
                drop(self.decisions.get_or_create(&labels));
            }
        }
    }

    /// Shows how large and how old the list is, and what lasts: open alarms, portals offline, postures.
    pub fn status(&self, status: &Status) {
        self.open(&status.open);
        let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        let (online, offline) = (status.portals_online, count(status.offline.len()));
        for (state, portals) in [("online", online), ("offline", offline)] {
            self.portals.get_or_create(&[("state", state)]).set(gauge(portals));
        }
        for posture in Posture::ALL {
            let portals = match posture {
                Posture::Secure => (online + offline).saturating_sub(count(status.modes.len())),
                posture => count(status.modes.iter().filter(|(_, mode)| mode == posture).count()),
            };
            self.postures.get_or_create(&[("posture", posture.as_str())]).set(gauge(portals));
        }
        self.cards.set(gauge(status.cards));
        for stream in &status.streams {
            let labels = [("stream", stream.name.to_string())];
            self.stream_epoch.get_or_create(&labels).set(i64::from(stream.epoch));
            self.stream_seq.get_or_create(&labels).set(gauge(stream.seq));
            match stream.age_s {
                Some(age_s) => {
                    self.stream_age.get_or_create(&labels).set(gauge(age_s));
                }
                None => {
                    self.stream_age.remove(&labels);
                }
            }
        }
    }

    /// Shows which alarms are open. The metrics are for everybody, so duress is not among them.
    pub(super) fn open(&self, open: &BTreeMap<AlarmKind, u64>) {
        for kind in AlarmKind::ALL.iter().filter(|kind| **kind != AlarmKind::Duress) {
            let open = open.get(kind).copied().unwrap_or(0);
            self.alarms_open.get_or_create(&[("kind", kind.as_str())]).set(gauge(open));
        }
    }

    /// Shows what a portal's meter reports, and nothing where it reports nothing any more.
    pub fn metered(&self, portal: &PortalId, power_w: Option<f64>, energy_kwh: Option<f64>) {
        let labels = [("portal", portal.to_string())];
        match power_w {
            Some(watts) => {
                self.power_watts.get_or_create(&labels).set(watts);
            }
            None => {
                self.power_watts.remove(&labels);
            }
        }
        match energy_kwh {
            // It is the meter that counts, so its count is set and not added to.
            Some(kwh) => self.energy_kwh.get_or_create(&labels).inner().store(kwh.to_bits(), Ordering::Relaxed),
            None => {
                self.energy_kwh.remove(&labels);
            }
        }
    }
}
