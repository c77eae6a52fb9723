//! The Modbus lines and portals of a site, as the link takes them.

use crate::access::id::PortalId;
use crate::access::transform::Transform;
use crate::config::{BusConfig, BusLine, PortalConfig, PortalDevice, Site};
use crate::portals::modbus::server::ServerPortal;
use crate::portals::modbus::{BusSpec, LineSpec, ModbusPortalSpec};

/// The lines.
#[must_use]
pub fn buses(config: &Site) -> Vec<BusSpec> {
    config.buses.iter().map(bus_spec).collect()
}

fn bus_spec(bus: &BusConfig) -> BusSpec {
    BusSpec {
        id: bus.id.clone(),
        line: match &bus.line {
            BusLine::Tcp(peer) => LineSpec::Tcp(peer.to_string()),
            BusLine::Serial(serial) => LineSpec::Serial(serial.clone()),
        },
        timeout_ms: bus.timeout_ms,
        echo: bus.echo,
        any_transaction: bus.any_transaction,
    }
}

/// The portals put together from parts.
#[must_use]
pub fn portals(config: &Site) -> Vec<ModbusPortalSpec> {
    config.portals.iter().filter_map(portal).collect()
}

/// The portals whose reader loses part of the UID, and what it does to it. Controllers that ask, and native devices, give whole UIDs.
pub fn lossy_readers(config: &Site) -> Vec<(PortalId, Transform)> {
    let lossy = |portal: &PortalConfig| match &portal.device {
        PortalDevice::Parts(parts) => Some((portal.portal.id.clone(), parts.readers().next()?.uid.transform()?)),
        PortalDevice::NativeMqtt | PortalDevice::ModbusServer { .. } => None,
    };
    config.portals.iter().filter_map(lossy).collect()
}

/// The portals whose controllers send requests to the gateway.
#[must_use]
pub fn controllers(config: &Site) -> Vec<ServerPortal> {
    let portal = |p: &PortalConfig| match p.device {
        PortalDevice::ModbusServer { unit } => {
            Some(ServerPortal { id: p.portal.id.clone(), kind: p.portal.kind, unit })
        }
        PortalDevice::NativeMqtt | PortalDevice::Parts(_) => None,
    };
    config.portals.iter().filter_map(portal).collect()
}

fn portal(portal: &PortalConfig) -> Option<ModbusPortalSpec> {
    let PortalDevice::Parts(parts) = &portal.device else { return None };
    Some(ModbusPortalSpec {
        id: portal.portal.id.clone(),
        kind: portal.portal.kind,
        direction: portal.portal.direction,
        slots: parts.slots,
        reader: Some(parts.reader.clone()),
        output: Some(parts.output.clone()),
        meter: parts.meter.clone(),
        inputs: parts.inputs.clone(),
    })
}
