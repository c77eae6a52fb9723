//! What attempts that fail and connections that end mean, by their number and kind: what is named as a fault, and what is logged.

use std::mem::discriminant;
use std::time::Duration;

use tokio::time::Instant;
use tracing::info;

use super::{ALIKE_LOGGED, Connection, LOG_EVERY};
use crate::config::Session;
use crate::mqtt::backoff::STABLE_MS;
use crate::mqtt::faults::BrokerFault;
use crate::mqtt::metrics::LinkMetrics;
use crate::mqtt::pump::DisconnectReason;

/// So many connections in a row that the broker closed before CONNACK are a fault of the broker. Fewer are how a cluster starts.
const CLOSED_MAX: u32 = 6;

impl Connection {
    /// Recognises a broker that closes every connection instead of answering.
    pub(super) fn judge_attempt(&mut self, reason: &DisconnectReason) {
        if !matches!(reason, DisconnectReason::Closed(_)) {
            self.closed_unanswered = 0;
            return;
        }
        self.closed_unanswered = self.closed_unanswered.saturating_add(1);
        if self.closed_unanswered >= CLOSED_MAX {
            let will = match self.setup.will.as_ref().filter(|will| will.retain) {
                Some(_) => {
                    "may keep no retained messages, which the last will is (mosquitto: `retain_available true`), "
                }
                None => "may ",
            };
            let detail = format!(
                "the broker closes connections before CONNACK, {CLOSED_MAX} times in a row; it {will}want TLS or not want it, or want another `client_id`: see its log"
            );
            self.metrics.faults.found(self.setup.link, BrokerFault::ClosesUnanswered, "", &detail);
        }
    }

    /// Counts connections that end soon for a reason of the same kind; gives how many before this one.
    pub(super) fn ended_alike(&mut self, reason: &DisconnectReason, is_short: bool) -> u64 {
        let (count, kind) = self.alike;
        let kind_now = Some(discriminant(reason));
        self.alike = if is_short && kind == kind_now { (count.saturating_add(1), kind) } else { (0, kind_now) };
        self.alike.0
    }

    /// Whether the next line about a connection that begins or ends is logged: one that goes on is logged again only now and then.
    pub(super) fn is_news(&self) -> bool {
        self.alike.0 < ALIKE_LOGGED || self.alike.0.is_multiple_of(LOG_EVERY)
    }

    /// The connection has lasted so long: what connections in a row meant is over.
    pub(super) fn has_lasted(&mut self, lasted: Duration) {
        if lasted < Duration::from_millis(STABLE_MS) {
            return;
        }
        self.backoff.reset();
        self.metrics.faults.over(BrokerFault::SendsGarbage);
        if self.disconnects.lasted(lasted) {
            self.metrics.faults.over(BrokerFault::SharesClientId);
        }
        if let (alike @ ALIKE_LOGGED.., _) = std::mem::take(&mut self.alike) {
            info!(link = self.setup.link, alike, "the connection lasts again");
        }
    }

    /// Recognises what disconnects in a row mean: a session that cannot be decoded, another client with the same id.
    pub(super) fn judge(&mut self, reason: &DisconnectReason, lasted: Duration) {
        match reason {
            DisconnectReason::Protocol(text) => {
                if !self.disconnects.protocol(text, Instant::now()) {
                    return;
                }
                let detail = "the broker keeps sending what cannot be decoded, and each connection ends with it: look what serves this \
                              address, and what the log has as the reason";
                self.metrics.faults.found(self.setup.link, BrokerFault::SendsGarbage, "", detail);
                if self.setup.session == Session::Persistent {
                    LinkMetrics::count(&self.metrics.session_resets);
                    self.reset_session = true;
                }
            }
            // The network ends connections too, and no other client does that.
            DisconnectReason::Network(_) | DisconnectReason::Silent => {}
            DisconnectReason::Closed(_) => {
                if self.disconnects.network(lasted) {
                    LinkMetrics::count(&self.metrics.takeovers);
                    let detail = format!(
                        "connections end as soon as they are made: either another client uses the client id `{}` (look for a second gateway \
                         with this `gateway.id`, a copy of a box or a restored one, and stop it, or give one of them another `client_id`), \
                         or the broker ends them for what is published: see its log",
                        self.spec.client_id
                    );
                    self.metrics.faults.found(self.setup.link, BrokerFault::SharesClientId, "", &detail);
                } else if !self.disconnects.is_taken_over() {
                    self.metrics.faults.over(BrokerFault::SharesClientId);
                }
            }
        }
    }
}
