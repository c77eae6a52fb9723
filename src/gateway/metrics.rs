//! What the gateway counts, in Prometheus' terms. The links count their own.

use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::access::id::PortalId;

/// Labels of `dormgate_decisions_total`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct DecisionLabels {
    /// `gate`, `door`, `power_box` or `unknown`.
    pub kind: &'static str,
    /// `grant` or `deny`.
    pub decision: &'static str,
    /// The reason's name on the wire.
    pub reason: &'static str,
}

/// Labels of `dormgate_messages_total`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OutcomeLabels {
    /// `applied`, `duplicate`, `stale`, `rejected`.
    pub outcome: &'static str,
}

/// Labels of `dormgate_rejected_messages_total`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RejectedLabels {
    /// `changes`, `command`, `request` and so on.
    pub topic: &'static str,
    /// The error code.
    pub code: &'static str,
}

/// Labels of `dormgate_stream_epoch` and `dormgate_stream_seq`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct StreamLabels {
    /// The stream's name.
    pub stream: String,
}

/// Labels of `dormgate_portal_power_watts` and `dormgate_portal_energy_kwh_total`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct PortalLabels {
    /// The portal's id.
    pub portal: String,
}

/// The gateway's counters. Cheap to clone; clones count together.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Decisions by kind of portal, decision and reason.
    pub decisions: Family<DecisionLabels, Counter>,
    /// From a request taken out of the inbox to its answer handed on, in seconds.
    pub decision_seconds: Histogram,
    /// Change messages by outcome.
    pub messages: Family<OutcomeLabels, Counter>,
    /// Messages without effect by kind and error code.
    pub rejected: Family<RejectedLabels, Counter>,
    /// Commands by how they ended.
    pub commands: Family<OutcomeLabels, Counter>,
    /// Cards known.
    pub cards: Gauge,
    /// The list's revision: the epoch of each stream.
    pub stream_epoch: Family<StreamLabels, Gauge>,
    /// The list's revision: up to which message each stream was heard without a hole.
    pub stream_seq: Family<StreamLabels, Gauge>,
    /// Newest audit event.
    pub audit_last: Gauge,
    /// Newest audit event on disk.
    pub audit_durable: Gauge,
    /// Newest audit event that the center has.
    pub audit_acked: Gauge,
    /// Audit events lost because the disk was full, failing or too slow.
    pub audit_lost: Counter,
    /// Time of one flush of the journal, in seconds.
    pub flush_seconds: Histogram,
    /// Orders dropped because a portal link was too far behind.
    pub orders_dropped: Counter,
    /// Alarms raised.
    pub alarms: Counter,
    /// Power drawn at each portal whose meter is believed, in watts.
    pub power_watts: Family<PortalLabels, Gauge<f64, AtomicU64>>,
    /// What the meter of each portal has counted, in kilowatt-hours.
    pub energy_kwh: Family<PortalLabels, Counter<f64, AtomicU64>>,
}

impl Default for Metrics {
    fn default() -> Self {
        // Decisions take microseconds; a flush takes 0.1 ms on an SSD and 100 ms on a tired SD card.
        let decision_buckets = [1e-6, 2e-6, 5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 1e-3, 1e-2, 0.1];
        let flush_buckets = [1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0, 5.0];
        Self {
            decisions: Family::default(),
            decision_seconds: Histogram::new(decision_buckets),
            messages: Family::default(),
            rejected: Family::default(),
            commands: Family::default(),
            cards: Gauge::default(),
            stream_epoch: Family::default(),
            stream_seq: Family::default(),
            audit_last: Gauge::default(),
            audit_durable: Gauge::default(),
            audit_acked: Gauge::default(),
            audit_lost: Counter::default(),
            flush_seconds: Histogram::new(flush_buckets),
            orders_dropped: Counter::default(),
            alarms: Counter::default(),
            power_watts: Family::default(),
            energy_kwh: Family::default(),
        }
    }
}

impl Metrics {
    /// Registers everything under the prefix `dormgate`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("decisions", "Decisions by kind of portal, decision and reason", self.decisions.clone());
        let help = "From a request taken out of the inbox to its answer handed on";
        registry.register("decision_seconds", help, self.decision_seconds.clone());
        registry.register("change_messages", "Change messages by outcome", self.messages.clone());
        registry.register("rejected_messages", "Messages without effect by kind and error code", self.rejected.clone());
        registry.register("commands", "Commands by how they ended", self.commands.clone());
        registry.register("cards", "Cards known", self.cards.clone());
        registry.register("stream_epoch", "The list's revision: epoch of each stream", self.stream_epoch.clone());
        let help = "The list's revision: heard without a hole up to this message of each stream";
        registry.register("stream_seq", help, self.stream_seq.clone());
        registry.register("audit_last", "Number of the newest audit event", self.audit_last.clone());
        registry.register("audit_durable", "Number of the newest audit event on disk", self.audit_durable.clone());
        let help = "Number of the newest audit event that the center has";
        registry.register("audit_acked", help, self.audit_acked.clone());
        let help = "Audit events lost because the disk was full, failing or too slow";
        registry.register("audit_lost", help, self.audit_lost.clone());
        registry.register("store_flush_seconds", "Time of one flush of the journal", self.flush_seconds.clone());
        let help = "Orders dropped because a portal link was too far behind";
        registry.register("portal_orders_dropped", help, self.orders_dropped.clone());
        registry.register("alarms", "Alarms raised", self.alarms.clone());
        let help = "Power drawn at a portal, as its meter says; gone when the meter is";
        registry.register("portal_power_watts", help, self.power_watts.clone());
        let help = "What a portal's meter has counted; gone when the meter is";
        registry.register("portal_energy_kwh", help, self.energy_kwh.clone());
    }

    /// Shows what a portal's meter says, and no more what it does not say any more.
    pub fn metered(&self, portal: &PortalId, power_w: Option<f64>, energy_kwh: Option<f64>) {
        let labels = PortalLabels { portal: portal.to_string() };
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
