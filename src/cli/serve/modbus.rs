//! The Modbus lines and portals of a configuration.

use std::path::Path;
use std::sync::Arc;

use crate::access::id::PortalId;
use crate::access::portal::PortalKind;
use crate::access::transform::Transform;
use crate::config::{
    self, BusConfig, BusLine, Config, ConfigError, Devices, ModbusPart, Parity, Part, PortalConfig, PortalDevice,
    ProfileUse, Role, SerialConfig, StopBits,
};
use crate::portals::modbus::server::{ServerPortal, ServerSpec};
use crate::portals::modbus::{self, BusSpec, LineSpec, ModbusPortalSpec, PartSpec, SerialSpec, SpecError};
use crate::profile::document::Diagnostic;
use crate::profile::{self, Profile};
use crate::wire::spelling::hint;

/// The device profiles that are built in or lie in a `devices_dir`.
pub struct Profiles;

impl Devices for Profiles {
    fn profile(&self, wanted: &ProfileUse<'_>) -> Result<(), String> {
        let profile = find(wanted.name, wanted.devices_dir)?;
        let has = match wanted.role {
            Role::Reader => profile.readers.len(),
            Role::Output => profile.output.as_ref().map_or(0, |output| usize::from(output.channels)),
            Role::Meter => usize::from(profile.meter.is_some()),
            Role::Inputs => usize::from(profile.input_channels()),
        };
        let role = wanted.role.as_str();
        if has == 0 {
            return Err(format!("`{}` has no {role}; name a profile that has one", wanted.name));
        }
        if usize::from(wanted.channel) >= has {
            return Err(format!(
                "`{}` has {has} {role} channel(s), counted from 0; channel {} is none",
                wanted.name, wanted.channel
            ));
        }
        Ok(())
    }

    fn site(&self, buses: &[BusConfig], portals: &[PortalConfig]) -> Vec<Diagnostic> {
        // What is on a line with diagnostics is judged when the line has none.
        let on_good_lines = |spec: &ModbusPortalSpec| {
            let mut parts = [&spec.reader, &spec.output, &spec.meter, &spec.inputs].into_iter().flatten();
            parts.all(|part| buses.iter().any(|bus| bus.id == part.bus))
        };
        let specs: Vec<_> =
            portals.iter().filter_map(|p| portal(buses, p).ok().flatten()).filter(on_good_lines).collect();
        let lines: Vec<_> = buses.iter().map(bus_spec).collect();
        modbus::check(&lines, &specs).into_iter().filter_map(|error| at_part(portals, error)).collect()
    }
}

/// What is wrong with a portal, as a diagnostic where the part stands in the file.
fn at_part(portals: &[PortalConfig], error: SpecError) -> Option<Diagnostic> {
    let portal = portals.iter().find(|p| p.portal.id == error.portal)?;
    let PortalDevice::Parts { reader, output, meter, inputs } = &portal.device else { return None };
    let part = match error.part {
        Role::Reader => reader,
        Role::Output => output,
        Role::Meter => meter.as_ref()?,
        Role::Inputs => inputs.as_ref()?,
    };
    match part {
        Part::Modbus(part) => Some(part.place.diagnostic(error.message)),
        Part::Mqtt(_) => None,
    }
}

/// The configuration in the file at `path`, its device profiles judged and its portals put together from them: what is wrong with
/// either is a diagnostic of the file.
///
/// # Errors
/// [`ConfigError`], with every diagnostic that could be found.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    config::load(path, &Profiles)
}

/// The lines.
#[must_use]
pub fn buses(config: &Config) -> Vec<BusSpec> {
    config.buses.iter().map(bus_spec).collect()
}

fn bus_spec(bus: &BusConfig) -> BusSpec {
    BusSpec {
        id: bus.id.clone(),
        line: match &bus.line {
            BusLine::Tcp(peer) => LineSpec::Tcp(peer.to_string()),
            BusLine::Serial(serial) => LineSpec::Serial(serial_spec(serial)),
        },
        timeout_ms: bus.timeout_ms,
        echo: bus.echo,
        any_transaction: bus.any_transaction,
    }
}

/// The portals put together from parts.
///
/// # Errors
/// A profile that is not there any more: the configuration's check found it.
pub fn portals(config: &Config) -> Result<Vec<ModbusPortalSpec>, String> {
    config.portals.iter().filter_map(|p| portal(&config.buses, p).transpose()).collect()
}

/// The portals whose reader loses part of the UID, and what it does to it. Controllers that ask, and native devices, give whole UIDs.
///
/// # Errors
/// A profile that is not there any more: the configuration's check found it.
pub fn lossy_readers(config: &Config) -> Result<Vec<(PortalId, Transform)>, String> {
    let lossy = |portal: ModbusPortalSpec| {
        let part = portal.reader?;
        let reader = part.profile.readers.get(usize::from(part.channel))?;
        Some((portal.id, reader.uid.transform()?))
    };
    Ok(portals(config)?.into_iter().filter_map(lossy).collect())
}

/// Where controllers ask, and the portals they ask for; `None`: nobody may.
pub fn server(config: &Config) -> Option<(ServerSpec, Vec<ServerPortal>)> {
    let server = config.modbus_server.as_ref()?;
    let spec =
        ServerSpec { tcp: server.tcp, serial: server.serial.as_ref().map(serial_spec), allow: server.allow.clone() };
    let portal = |p: &PortalConfig| match p.device {
        PortalDevice::ModbusServer { unit } => {
            Some(ServerPortal { id: p.portal.id.clone(), kind: p.portal.kind, unit })
        }
        PortalDevice::NativeMqtt | PortalDevice::Parts { .. } => None,
    };
    Some((spec, config.portals.iter().filter_map(portal).collect()))
}

fn serial_spec(serial: &SerialConfig) -> SerialSpec {
    SerialSpec {
        port: serial.port.display().to_string(),
        baud: serial.baud,
        parity: match serial.parity {
            Parity::None => modbus::Parity::None,
            Parity::Even => modbus::Parity::Even,
            Parity::Odd => modbus::Parity::Odd,
        },
        stop_bits: match serial.stop_bits {
            StopBits::One => 1,
            StopBits::Two => 2,
        },
    }
}

fn portal(buses: &[BusConfig], portal: &PortalConfig) -> Result<Option<ModbusPortalSpec>, String> {
    let PortalDevice::Parts { reader, output, meter, inputs } = &portal.device else { return Ok(None) };
    let part = |part: &Part| -> Result<Option<PartSpec>, String> {
        match part {
            Part::Modbus(part) => Ok(Some(PartSpec {
                bus: part.bus.clone(),
                unit: part.unit,
                profile: profile_of(buses, part)?,
                channel: part.channel,
            })),
            Part::Mqtt(_) => Ok(None),
        }
    };
    let reader_part = part(reader)?;
    let every_reader = match (portal.portal.kind, reader) {
        (PortalKind::PowerBox, Part::Modbus(reader)) => !reader.channel_named,
        (PortalKind::PowerBox | PortalKind::Gate | PortalKind::Door, _) => false,
    };
    let of_profile =
        reader_part.as_ref().map_or(1, |part| u16::try_from(part.profile.readers.len()).unwrap_or(u16::MAX));
    Ok(Some(ModbusPortalSpec {
        id: portal.portal.id.clone(),
        kind: portal.portal.kind,
        direction: portal.portal.direction,
        slots: if every_reader { of_profile } else { 1 },
        reader: reader_part,
        output: part(output)?,
        meter: meter.as_ref().map_or(Ok(None), part)?,
        inputs: inputs.as_ref().map_or(Ok(None), part)?,
    }))
}

fn profile_of(buses: &[BusConfig], part: &ModbusPart) -> Result<Arc<Profile>, String> {
    let dir = buses.iter().find(|bus| bus.id == part.bus).and_then(|bus| bus.devices_dir.as_deref());
    find(&part.profile, dir)
}

/// The profile of this name: a file of `devices_dir` first, so that a site can correct a shipped one.
fn find(name: &str, devices_dir: Option<&Path>) -> Result<Arc<Profile>, String> {
    if let Some(dir) = devices_dir {
        let path = dir.join(format!("{name}.toml"));
        match std::fs::read_to_string(&path) {
            Ok(text) => {
                return profile::read_file(&path, &text)
                    .map(Arc::new)
                    .map_err(|diagnostics| problems(&path, &diagnostics));
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(format!("`{}` cannot be read: {error}", path.display())),
        }
    }
    if let Some(profile) = profile::shipped(name) {
        return Ok(Arc::new(profile));
    }
    let hint = hint(name, profile::SHIPPED.iter().map(|(name, _)| *name));
    Err(format!("no device profile `{name}` is known; {hint}"))
}

fn problems(path: &Path, diagnostics: &[Diagnostic]) -> String {
    let all = diagnostics.iter().map(|m| format!("{}:{m}", path.display())).collect::<Vec<_>>().join("; ");
    format!("the profile has diagnostics: {all}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Surroundings, parse};

    #[test]
    fn every_part_of_the_file_is_a_part_on_the_line() {
        let part = |unit, profile, channel| {
            format!("{{ modbus = \"b\", unit = {unit}, profile = \"{profile}\", channel = {channel} }}")
        };
        let text = format!(
            "[gateway]\nid = \"g\"\n[[bus]]\nid = \"b\"\ntcp = \"127.0.0.1:502\"\n[[portal]]\nid = \"p\"\nkind = \"power_box\"\n\
             zone = \"1\"\nreader = {}\noutput = {}\nmeter = {}\ninputs = {}\n",
            part(4, "technotrade-vrd-485", 0),
            part(21, "waveshare-relay-8ch", 1),
            part(31, "eastron-sdm120", 0),
            part(9, "generic-contacts", 3)
        );
        let around = Surroundings { base_dir: "/nowhere".into(), credentials_dir: None, devices: &Profiles };
        let config = parse(&text, &around).unwrap();
        let [spec] = portals(&config).unwrap().try_into().unwrap();
        let place = |part: &Option<PartSpec>| part.as_ref().map(|p| (p.unit, p.profile.id.clone(), p.channel));
        assert_eq!(place(&spec.reader), Some((4, "technotrade-vrd-485".into(), 0)));
        assert_eq!(place(&spec.output), Some((21, "waveshare-relay-8ch".into(), 1)));
        assert_eq!(place(&spec.meter), Some((31, "eastron-sdm120".into(), 0)));
        assert_eq!(place(&spec.inputs), Some((9, "generic-contacts".into(), 3)));
    }
}
