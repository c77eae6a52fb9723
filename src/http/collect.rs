//! What the links count, as `/metrics` shows it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::mqtt::LinkMetrics;

#[derive(Debug)]
struct LinkCollector {
    link: &'static str,
    counters: Arc<LinkMetrics>,
}

/// Shows what one MQTT link counts, its name in the metrics' names.
pub fn collect_link(registry: &mut Registry, link: &'static str, counters: &Arc<LinkMetrics>) {
    registry.register_collector(Box::new(LinkCollector { link, counters: Arc::clone(counters) }));
}

impl Collector for LinkCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let c = &self.counters;
        let link = self.link;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = [
            ("reconnects", "Connections lost since the start", read(&c.losses)),
            ("failed_attempts", "Connection attempts that failed", read(&c.failed_attempts)),
            ("received", "Messages received", read(&c.received)),
            ("rejected", "Messages refused at the edge", read(&c.rejected)),
            ("overflowed", "Requests or reports dropped because the gateway was too far behind", read(&c.overflowed)),
            ("published", "Messages handed to the broker", read(&c.published)),
            ("dropped_stale", "Messages dropped unsent because they were too old", read(&c.dropped_stale)),
            ("dropped_full", "Messages dropped because the outbox was full", read(&c.dropped_full)),
        ];
        for (name, help, value) in counters {
            let metric = ConstCounter::new(value);
            let described = encoder.encode_descriptor(&format!("{link}_{name}"), help, None, metric.metric_type())?;
            metric.encode(described)?;
        }
        let gauges = [
            ("up", "1: connected and subscribed", u64::from(c.is_up())),
            ("outbox", "Messages not yet delivered", read(&c.outbox)),
            ("echo_microseconds", "Median of the last start-up echo; 0: not measured", read(&c.echo_us)),
        ];
        for (name, help, value) in gauges {
            let metric = ConstGauge::new(value);
            let described = encoder.encode_descriptor(&format!("{link}_{name}"), help, None, metric.metric_type())?;
            metric.encode(described)?;
        }
        Ok(())
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    bus: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BusLabels {
    bus: String,
}

/// Modbus requests by line and outcome.
#[derive(Clone, Debug)]
pub struct ModbusCounters {
    requests: Family<RequestLabels, Counter>,
    seconds: Family<BusLabels, Histogram>,
}

impl ModbusCounters {
    /// The counters, shown at `/metrics`.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        // A register read takes 30 to 60 ms at 9600 Bd and well under 1 ms over TCP.
        let seconds = || Histogram::new([1e-4, 1e-3, 5e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0]);
        let this = Self { requests: Family::default(), seconds: Family::new_with_constructor(seconds) };
        registry.register("modbus_requests", "Modbus requests by line and outcome", this.requests.clone());
        let help = "Time of a Modbus request on the line";
        registry.register("modbus_request_seconds", help, this.seconds.clone());
        this
    }

    /// Counts one request; `took` is zero if it was never sent.
    pub fn count(&self, bus: &str, outcome: &'static str, took: Duration) {
        self.requests.get_or_create(&RequestLabels { bus: bus.to_owned(), outcome }).inc();
        if !took.is_zero() {
            self.seconds.get_or_create(&BusLabels { bus: bus.to_owned() }).observe(took.as_secs_f64());
        }
    }
}
