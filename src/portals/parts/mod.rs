//! Portals put together from parts: a reader, an output, a meter, inputs, each on a Modbus line or at the local broker.
//!
//! [`start`] makes the lines, the link to the devices at the broker, and one task a portal. Nothing here decides who may enter.

mod assembly;
mod wiring;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::access::id::PortalId;
use crate::config::{BusConfig, Part, PortalConfig};
use crate::gateway::ports::{Inbox, PORTAL_ORDERS_MAX, PortalOrder};
use crate::mqtt::{LinkError, LinkMetrics, LinkSpec};
use crate::portals::modbus::poll::Polls;
use crate::portals::modbus::{Observer, forward_state, load, open_lines, start_polls};
use crate::portals::mqtt::profiled::Devices;

use assembly::{Assembled, Site, assemble};

/// How long relays may take to be switched off at the end, in milliseconds.
pub const STOP_MS_MAX: u64 = 2000;

/// The running portals.
pub struct PartPortals {
    /// Where each portal takes its orders.
    pub outlets: Vec<(PortalId, mpsc::Sender<PortalOrder>)>,
    /// Everything that runs for it. None ends before it is stopped, unless it fails.
    pub tasks: JoinSet<()>,
    stop: watch::Sender<bool>,
}

impl PartPortals {
    /// Ends all tasks. An output that was ordered off, or whose pulse the gateway ends, is switched off first, for at most
    /// [`STOP_MS_MAX`].
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        drop(self.outlets);
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if timeout(Duration::from_millis(STOP_MS_MAX), all).await.is_err() {
            tracing::warn!("not every relay could be switched off before the end");
        }
    }
}

/// Starts lines, polls, the link to devices at the broker (`local`, with its counters), and those of `portals` that consist of parts.
pub fn start(
    buses: &[BusConfig],
    portals: &[PortalConfig],
    local: Option<(LinkSpec, Arc<LinkMetrics>)>,
    inbox: &Inbox,
    observer: &Arc<dyn Observer>,
) -> Result<PartPortals, LinkError> {
    let load = load::warnings(buses, portals);
    let mut tasks = JoinSet::new();
    let (stop, stopped) = watch::channel(false);
    let portals: Vec<_> =
        portals.iter().filter_map(|PortalConfig { portal, device }| Some((portal, device.parts()?))).collect();
    let on_lines: Vec<_> = portals.iter().flat_map(|(_, parts)| parts.all()).filter_map(Part::modbus).collect();
    for (_, parts) in &portals {
        // At the broker only releases are counted.
        let counted = parts.all().filter(|part| part.modbus().is_some()).chain([&parts.output]);
        counted.for_each(|part| observer.listed(part));
    }
    let lines = open_lines(buses, &on_lines, observer, &mut tasks);
    let mut site = Site { lines, polls: Polls::default(), devices: Devices::new(), observer: Arc::clone(observer) };
    let mut outlets = Vec::new();
    let is_shared = |meter: &Part| {
        let same = |part: &&Part| match (part, meter) {
            (Part::Modbus(part), Part::Modbus(meter)) => {
                (&part.bus, part.unit, part.channel) == (&meter.bus, meter.unit, meter.channel)
            }
            (Part::Mqtt(part), Part::Mqtt(meter)) => (&part.topic, part.channel) == (&meter.topic, meter.channel),
            (Part::Modbus(_), Part::Mqtt(_)) | (Part::Mqtt(_), Part::Modbus(_)) => false,
        };
        portals.iter().filter_map(|(_, parts)| parts.meter.as_ref()).filter(same).count() > 1
    };
    for &(portal, parts) in &portals {
        let Some(assembled) = assemble((portal, parts), is_shared, &mut site, inbox) else { continue };
        let Assembled { portal: running, events, received, units } = assembled;
        let (orders, taken) = mpsc::channel(PORTAL_ORDERS_MAX);
        outlets.push((portal.id.clone(), orders));
        for (source, unit) in units {
            tasks.spawn(forward_state(source, unit, events.clone(), stopped.clone()));
        }
        tasks.spawn(running.run(taken, received, stopped.clone()));
    }
    let Site { polls, devices, .. } = site;
    load.iter().for_each(|warning| tracing::warn!("{warning}"));
    start_polls(polls, &stopped, &mut tasks);
    if let Some((spec, metrics)) = local.filter(|_| !devices.is_empty()) {
        tasks.spawn(devices.link(spec, inbox.clone(), metrics)?.run(stopped));
    }
    Ok(PartPortals { outlets, tasks, stop })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Surroundings, parse};

    #[test]
    fn what_is_tried_of_the_devices_link_is_what_it_listens_to() {
        let portal = |id: &str, rest: &str| format!("[[portal]]\nid = \"{id}\"\nzone = \"1\"\n{rest}\n");
        let text = [
            "[gateway]\nid = \"g\"\n[local]\nurls = [\"mqtt://127.0.0.1:1\"]\n[[bus]]\nid = \"riser\"\ntcp = \"127.0.0.1:1\"\n".to_owned(),
            portal("gate", "kind = \"gate\"\nreader = { mqtt = \"tasmota-rc522\", topic = \"hall\" }\noutput = { mqtt = \"shelly-gen2\", topic = \"s1\" }"),
            portal("door", "kind = \"door\"\nreader = { mqtt = \"esphome-wiegand34\", topic = \"door\" }\noutput = { mqtt = \"zigbee2mqtt-lock\", topic = \"lock\" }\ninputs = { mqtt = \"zigbee2mqtt-contact\", topic = \"contact\" }"),
            portal("power", "kind = \"power_box\"\nreader = { mqtt = \"esphome-tag\", topic = \"box\" }\noutput = { mqtt = \"tasmota-relay\", topic = \"plug\", channel = 1 }\nmeter = { mqtt = \"tasmota-relay\", topic = \"plug\" }"),
            portal("mixed", "kind = \"power_box\"\nreader = { modbus = \"riser\", unit = 4, profile = \"technotrade-vrd-485\" }\noutput = { mqtt = \"zigbee2mqtt-plug\", topic = \"plug-2\" }"),
        ];
        let site = parse(&text.concat(), &Surroundings::default()).unwrap();
        let portals: Vec<_> = site.portals.iter().filter_map(|p| Some((&p.portal, p.device.parts()?))).collect();
        let on_lines: Vec<_> = portals.iter().flat_map(|(_, parts)| parts.all()).filter_map(Part::modbus).collect();
        let observer: Arc<dyn Observer> = Arc::new(());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _inside = runtime.enter();
        let lines = open_lines(&site.buses, &on_lines, &observer, &mut JoinSet::new());
        let mut put = Site { lines, polls: Polls::default(), devices: Devices::new(), observer };
        for of in portals {
            assert!(assemble(of, |_| false, &mut put, &Inbox::new().0).is_some());
        }
        assert_eq!(put.devices.topics(), site.device_topics());
        assert!(
            site.device_topics().len() > 12
                && site.devices_link().is_some_and(|link| link.client_id == "g-local-devices")
        );
    }
}
