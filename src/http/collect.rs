//! The metrics of the links, for `/metrics`.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
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

    /// The links of portals at which a broker refuses everything. One that is away is no such link: its portals are known to be offline,
    /// and the others work. Neither is the one to the centers, without which all portals work.
    pub fn refused(&self) -> impl Iterator<Item = String> {
        let of_portals = self.0.iter().filter(|(link, _)| *link != "uplink");
        of_portals.filter_map(|(link, counters)| Some(format!("link {link}: {}", counters.state.refusal()?)))
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
