//! What `dormgate simulate` stands in for: the portals of a configuration, and those of its lines that can be had here.

use std::collections::BTreeMap;
use std::net::{IpAddr, ToSocketAddrs};
use std::path::Path;

use super::super::serve::modbus;
use crate::config::{self, BusLine, Config, PortalDevice, SerialConfig};
use crate::portals::modbus::PartSpec;
use crate::workbench::modbus::LineAt;
use crate::workbench::modbus::plug::is_free;
use crate::workbench::site::{Device, Part, PortalSpec, SiteSpec};

/// The site, and what a person has to know of it. `ports` names serial ports to stand in on, by bus.
pub(super) fn spec(config: &Config, ports: &[(String, String)]) -> Result<(SiteSpec, Vec<String>), String> {
    let part = |part: PartSpec| Part { bus: part.bus, unit: part.unit, profile: part.profile, channel: part.channel };
    let mut portals = Vec::new();
    for portal in modbus::portals(config)? {
        let (Some(reader), Some(output)) = (portal.reader, portal.output) else { continue };
        let others = portal.meter.into_iter().chain(portal.inputs).map(part).collect();
        let device = Device::Modbus { reader: part(reader), slots: portal.slots, output: part(output), others };
        portals.push(PortalSpec { id: portal.id, kind: portal.kind, device });
    }
    let native = config.portals.iter().filter(|p| matches!(p.device, PortalDevice::NativeMqtt));
    portals.extend(native.map(|p| PortalSpec { id: p.portal.id.clone(), kind: p.portal.kind, device: Device::Native }));
    let (lines, notes) = lines(config, ports)?;
    let spec = SiteSpec { gateway: config.gateway.clone(), local: config.local.clone(), lines, portals };
    Ok((spec, notes))
}

/// The lines that can be had on this machine, and why others cannot: TCP on the loopback; a serial line on a port that is named,
/// or else on a pseudo-terminal under the name of its port.
fn lines(config: &Config, ports: &[(String, String)]) -> Result<(BTreeMap<String, LineAt>, Vec<String>), String> {
    for (named, _) in ports {
        let serial = |bus: &&config::BusConfig| matches!(bus.line, BusLine::Serial(_));
        if !config.buses.iter().filter(serial).any(|bus| bus.id == *named) {
            return Err(format!("`--port {named}=…`: no serial `[[bus]]` of the configuration is called `{named}`"));
        }
    }
    let (mut lines, mut notes) = (BTreeMap::new(), Vec::new());
    for bus in &config.buses {
        let id = &bus.id;
        let at = match &bus.line {
            BusLine::Tcp(peer) if here(&peer.host, peer.port) => Ok(LineAt::Tcp(peer.port)),
            BusLine::Tcp(peer) => Err(format!("bus `{id}` is at {peer}, which is not this machine's loopback")),
            BusLine::Serial(serial) => match ports.iter().find(|(named, _)| named == id) {
                Some((_, port)) => Ok(at_port(port, serial)),
                None => pty(id, &serial.port),
            },
        };
        match at {
            Ok(at) => drop(lines.insert(id.clone(), at)),
            Err(note) => notes.push(note),
        }
    }
    Ok((lines, notes))
}

fn here(host: &str, port: u16) -> bool {
    match host.parse::<IpAddr>() {
        Ok(address) => address.is_loopback(),
        Err(_) => (host, port).to_socket_addrs().is_ok_and(|mut all| all.all(|a| a.ip().is_loopback())),
    }
}

fn at_port(port: &str, serial: &SerialConfig) -> LineAt {
    let parity = match serial.parity {
        config::Parity::None => tokio_serial::Parity::None,
        config::Parity::Even => tokio_serial::Parity::Even,
        config::Parity::Odd => tokio_serial::Parity::Odd,
    };
    let stop_bits = match serial.stop_bits {
        config::StopBits::One => tokio_serial::StopBits::One,
        config::StopBits::Two => tokio_serial::StopBits::Two,
    };
    let builder = tokio_serial::new(port, serial.baud).parity(parity).stop_bits(stop_bits);
    LineAt::Port { name: port.to_owned(), port: builder }
}

/// Devices are the kernel's to name; a stand-in makes its name elsewhere, and never in the place of something.
fn pty(bus: &str, port: &Path) -> Result<LineAt, String> {
    let name = port.display();
    let instead = format!(
        "name a port such as `riser.pty`, in a directory of your own, or give the far end with `--port {bus}=…`"
    );
    if port.starts_with("/dev") {
        return Err(format!("bus `{bus}` is the device `{name}`, and no stand-in for one is made in /dev; {instead}"));
    }
    match is_free(port) {
        Ok(()) => Ok(LineAt::Pty(port.to_owned())),
        Err(why) => Err(format!("bus `{bus}`: `{name}`: {why} Then {instead}")),
    }
}
