//! Counters of one link, for `/metrics` and the console, and the faults of its broker. Whoever exports them reads.

use std::sync::atomic::{AtomicU64, Ordering};

use super::faults::BrokerFaults;
use super::link_state::LinkState;

/// How a number is exported at `/metrics`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exported {
    /// Only ever grows.
    Counter,
    /// Grows and falls.
    Gauge,
    /// Not exported.
    No,
}

/// A number a line: how it is exported, the field, its name at `/metrics`, and what it reports.
macro_rules! link_metrics {
    ($($exported:ident $field:ident $name:literal $help:literal,)*) => {
        /// Counters and gauges of one link.
        #[derive(Debug, Default)]
        pub struct LinkMetrics {
            $(#[doc = $help] pub $field: AtomicU64,)*
            /// Whether it is connected, since when, and why not.
            pub state: LinkState,
            /// What is wrong with the broker.
            pub faults: BrokerFaults,
        }

        impl LinkMetrics {
            /// Every number: how it is exported, its name and help, and where it is.
            pub const ALL: &[(Exported, &'static str, &'static str, fn(&Self) -> &AtomicU64)] =
                &[$((Exported::$exported, $name, $help, |metrics| &metrics.$field),)*];
        }
    };
}

link_metrics! {
    Gauge up "mqtt_up" "1: connected and subscribed",
    No connects "" "Connections made since the start",
    Counter disconnects "mqtt_reconnects" "Connections lost since the start",
    Counter failed_attempts "mqtt_failed_attempts" "Connection attempts that failed",
    No takeovers "" "Disconnects that look as if another client used the same client id",
    No session_resets "" "Sessions given up because the broker kept sending something that could not be decoded",
    No refused_subscriptions "" "Subscriptions that the broker refused",
    Counter received "mqtt_received" "Messages received",
    Counter rejected "mqtt_rejected" "Messages refused at the edge: not signed, retained, malformed, too large",
    Counter malformed_fields "mqtt_malformed_fields" "Fields of portals' states left out because their values are wrong",
    Counter overflowed "mqtt_overflowed" "Requests or reports dropped because the gateway was too far behind",
    Counter published "mqtt_published" "Messages handed to the broker",
    Counter dropped_stale "mqtt_dropped_stale" "Messages dropped unsent because they were too old",
    Counter dropped_full "mqtt_dropped_full" "Messages dropped because the outbox was full or they were too large",
    Gauge outbox "mqtt_outbox" "Messages not yet delivered",
    Gauge echo_us "mqtt_echo_microseconds" "Median of the last start-up echo; 0: not measured",
}

impl LinkMetrics {
    /// Adds one to `counter`.
    pub fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}
