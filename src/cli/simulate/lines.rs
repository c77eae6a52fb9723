//! Which Modbus lines of a configuration can be simulated on this machine, for `dormgate simulate`.

use std::collections::BTreeMap;
use std::net::{IpAddr, ToSocketAddrs};
use std::path::Path;

use crate::config::{self, BusLine};
use crate::portals::modbus::serial_builder;
use crate::workbench::modbus::LineAt;
use crate::workbench::modbus::plug::is_free;

/// The lines that can be simulated on this machine, and why the others cannot: TCP on the loopback; a serial line on the port that
/// `ports` names for its bus, or else on a pseudo-terminal under the name of its own port.
pub(super) fn lines(
    config: &config::Site,
    ports: &[(String, String)],
) -> Result<(BTreeMap<String, LineAt>, Vec<String>), String> {
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
                Some((_, port)) => Ok(LineAt::Port { name: port.clone(), port: serial_builder(port, serial) }),
                None => pty(id, Path::new(&serial.port)),
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

/// A pseudo-terminal for the serial port of a bus. Names in `/dev` belong to the kernel, and nothing that exists is replaced.
fn pty(bus: &str, port: &Path) -> Result<LineAt, String> {
    let name = port.display();
    let instead = format!(
        "write a port such as `riser.pty` in the configuration, or name the far end of the line with `--port {bus}=…`"
    );
    if port.starts_with("/dev") {
        return Err(format!("bus `{bus}` is the device `{name}`, and a simulator makes no name in /dev; {instead}"));
    }
    match is_free(port) {
        Ok(()) => Ok(LineAt::Pty(port.to_owned())),
        Err(why) => Err(format!("bus `{bus}`: `{name}`: {why}; {instead}")),
    }
}
