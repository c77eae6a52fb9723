//! The counters of the devices that portals are made of, for `/metrics`.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::modbus::{Observer, Released};
use crate::config::Part;

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

    fn released(&self, output: &Part, how: Released, times: u64) {
        let outcome = how.as_str();
        let counter = match output {
            Part::Modbus(part) => self.releases.get_or_create_owned(&RequestLabels { bus: part.bus.clone(), outcome }),
            Part::Mqtt(part) => {
                self.mqtt_releases.get_or_create_owned(&ReleaseLabels { device: part.topic.clone(), outcome })
            }
        };
        counter.inc_by(times);
    }
}

impl Observer for DeviceCounters {
    fn listed(&self, part: &Part) {
        if let Part::Modbus(part) = part {
            drop(self.late.get_or_create(&UnitLabels { bus: part.bus.clone(), unit: part.unit }));
        }
        Released::ALL.iter().for_each(|how| self.released(part, *how, 0));
    }

    fn request(&self, bus: &str, outcome: &'static str, took: Duration) {
        self.requests.get_or_create(&RequestLabels { bus: bus.to_owned(), outcome }).inc();
        if !took.is_zero() {
            self.seconds.get_or_create(&BusLabels { bus: bus.to_owned() }).observe(took.as_secs_f64());
        }
    }

    fn late(&self, bus: &str, unit: u8) {
        self.late.get_or_create(&UnitLabels { bus: bus.to_owned(), unit }).inc();
    }

    fn release(&self, output: &Part, how: Released) {
        self.released(output, how, 1);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::{ModbusPart, MqttPart};
    use crate::profile;

    #[test]
    fn what_an_alert_looks_at_is_there_before_its_first_count() {
        let mut registry = Registry::default();
        let counters = DeviceCounters::register(&mut registry);
        let relays = Arc::new(profile::shipped("waveshare-relay-8ch").unwrap());
        counters.listed(&Part::Modbus(ModbusPart { bus: "riser-2".into(), unit: 4, profile: relays, channel: 0 }));
        let relay = Arc::new(profile::mqtt::shipped("shelly-gen2").unwrap());
        counters.listed(&Part::Mqtt(MqttPart { topic: "gate_1".into(), profile: relay, channel: 0 }));
        let mut shown = String::new();
        prometheus_client::encoding::text::encode(&mut shown, &registry).unwrap();
        for line in [
            r#"modbus_late_answers_total{bus="riser-2",unit="4"} 0"#,
            r#"modbus_releases_total{bus="riser-2",outcome="failed"} 0"#,
            r#"mqtt_releases_total{device="gate_1",outcome="failed"} 0"#,
        ] {
            assert!(shown.lines().any(|shown| shown == line), "`{line}` is missing in\n{shown}");
        }
    }
}
