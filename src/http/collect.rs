//! The metrics of the links, for `/metrics`.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::mqtt::{BrokerFault, Exported, LinkMetrics};

/// The counters of the MQTT links.
#[derive(Clone, Debug, Default)]
pub struct Links(Vec<(&'static str, Arc<LinkMetrics>)>);

impl Links {
    /// Adds a link: its name in the label `link`, and its counters.
    pub fn add(&mut self, link: &'static str, counters: &Arc<LinkMetrics>) {
        self.0.push((link, Arc::clone(counters)));
    }

    /// What is wrong with the brokers: by link, the fault and its detail.
    pub fn faults(&self) -> impl Iterator<Item = (&'static str, BrokerFault, String)> {
        let of = |(link, counters): &(&'static str, Arc<LinkMetrics>)| {
            let link = *link;
            counters.faults.all().into_iter().map(move |(fault, detail)| (link, fault, detail))
        };
        self.0.iter().flat_map(of)
    }

    /// The links, each with the seconds that it has been connected, or why it is not.
    pub fn states(&self) -> impl Iterator<Item = (&'static str, Result<u64, String>)> {
        self.0.iter().map(|(link, counters)| (*link, counters.state.connected_s()))
    }

    /// Shows the links at `/metrics`.
    pub fn register(self, registry: &mut Registry) {
        registry.register_collector(Box::new(self));
    }
}

impl Collector for Links {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        for (exported, name, help, number) in LinkMetrics::ALL {
            let kind = match exported {
                Exported::Counter => MetricType::Counter,
                Exported::Gauge => MetricType::Gauge,
                Exported::No => continue,
            };
            let mut described = encoder.encode_descriptor(name, help, None, kind)?;
            for (link, counters) in &self.0 {
                let labels = [("link", *link)];
                let one = described.encode_family(&labels)?;
                let value = number(counters).load(Ordering::Relaxed);
                match kind {
                    MetricType::Counter => ConstCounter::new(value).encode(one)?,
                    _ => ConstGauge::new(value).encode(one)?,
                }
            }
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
struct UnitLabels {
    bus: String,
    unit: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BusLabels {
    bus: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReleaseLabels {
    device: String,
    outcome: &'static str,
}

/// Modbus requests by line and outcome, and releases by line or device.
#[derive(Clone, Debug)]
pub struct DeviceCounters {
    requests: Family<RequestLabels, Counter>,
    releases: Family<RequestLabels, Counter>,
    mqtt_releases: Family<ReleaseLabels, Counter>,
    late: Family<UnitLabels, Counter>,
    seconds: Family<BusLabels, Histogram>,
}

impl DeviceCounters {
    /// The counters, shown at `/metrics`.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        // To read a register takes 30 to 60 ms at 9600 Bd and less than 1 ms over TCP.
        let seconds = || Histogram::new([1e-4, 1e-3, 5e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0]);
        let (requests, releases, late) = (Family::default(), Family::default(), Family::default());
        let mqtt_releases = Family::default();
        let this = Self { requests, releases, mqtt_releases, late, seconds: Family::new_with_constructor(seconds) };
        registry.register("modbus_requests", "Modbus requests by line and outcome", this.requests.clone());
        registry.register("modbus_releases", "Releases of Modbus relays by line and outcome", this.releases.clone());
        let help = "Releases of devices with MQTT topics of their own, by device and outcome";
        registry.register("mqtt_releases", help, this.mqtt_releases.clone());
        let help = "Modbus replies that arrived after their time-out, by line and unit";
        registry.register("modbus_late_answers", help, this.late.clone());
        let help = "Time of a Modbus request on the line";
        registry.register("modbus_request_seconds", help, this.seconds.clone());
        this
    }

    /// Counts how one release of a relay ended.
    pub fn count_release(&self, bus: &str, outcome: &'static str) {
        self.releases.get_or_create(&RequestLabels { bus: bus.to_owned(), outcome }).inc();
    }

    /// Counts how one release of a device with MQTT topics of its own ended.
    pub fn count_mqtt_release(&self, device: &str, outcome: &'static str) {
        self.mqtt_releases.get_or_create(&ReleaseLabels { device: device.to_owned(), outcome }).inc();
    }

    /// Counts a reply of `unit` that arrived too late.
    pub fn count_late(&self, bus: &str, unit: u8) {
        self.late.get_or_create(&UnitLabels { bus: bus.to_owned(), unit }).inc();
    }

    /// Counts one request; `took` is zero if it was never sent.
    pub fn count(&self, bus: &str, outcome: &'static str, took: Duration) {
        self.requests.get_or_create(&RequestLabels { bus: bus.to_owned(), outcome }).inc();
        if !took.is_zero() {
            self.seconds.get_or_create(&BusLabels { bus: bus.to_owned() }).observe(took.as_secs_f64());
        }
    }
}
