//! The Modbus lines and portals of a configuration.

use std::path::Path;
use std::sync::Arc;

use crate::access::id::PortalId;
use crate::access::portal::PortalKind;
use crate::access::transform::Transform;
use crate::config::{
    self, BusConfig, BusLine, Config, ConfigError, ModbusPart, Parity, Part, PortalConfig, PortalDevice, ProfileUse,
    Role, SerialConfig, StopBits,
};
use crate::portals::modbus::server::{ServerPortal, ServerSpec};
use crate::portals::modbus::{self, BusSpec, LineSpec, ModbusPortalSpec, PartSpec, SerialSpec, SpecError};
use crate::wire::document::Mistake;
use crate::wire::profile::{self, Profile};
use crate::wire::spelling::hint;

/// Judges a device profile that a configuration names: whether it exists and can do what is wanted of it.
///
/// # Errors
/// What is wrong, and what to do.
pub fn check_profile(used: &ProfileUse<'_>) -> Result<(), String> {
    let profile = find(used.name, used.devices_dir)?;
    let has = match used.role {
        Role::Reader => profile.readers.len(),
        Role::Output => profile.output.as_ref().map_or(0, |output| usize::from(output.channels)),
        Role::Meter => usize::from(profile.meter.is_some()),
    };
    let wanted = used.role.as_str();
    if has == 0 {
        return Err(format!("`{}` is no {wanted}; name a profile that is one", used.name));
    }
    if usize::from(used.channel) >= has {
        return Err(format!(
            "`{}` has {has} {wanted} channel(s), counted from 0; channel {} is none",
            used.name, used.channel
        ));
    }
    Ok(())
}

/// The configuration in the file at `path`, its device profiles judged and its portals put together from them: what is wrong with
/// either is a mistake of the file.
///
/// # Errors
/// [`ConfigError`], with every mistake that could be found.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    let config = config::load(path, &check_profile)?;
    let mistakes = site_mistakes(&config);
    if mistakes.is_empty() { Ok(config) } else { Err(ConfigError::Mistakes { path: path.to_owned(), mistakes }) }
}

/// What is wrong among the portals, each at its portal.
fn site_mistakes(config: &Config) -> Vec<Mistake> {
    // A profile that cannot be read is a mistake already, at its name.
    let found = modbus::check(&buses(config), &portals(config).unwrap_or_default());
    let at_portal = |error: SpecError| {
        let portal = config.portals.iter().find(|p| p.portal.id == error.portal)?;
        Some(portal.place.mistake(error.message))
    };
    found.into_iter().filter_map(at_portal).collect()
}

/// The lines.
#[must_use]
pub fn buses(config: &Config) -> Vec<BusSpec> {
    let spec = |bus: &BusConfig| BusSpec {
        id: bus.id.clone(),
        line: match &bus.line {
            BusLine::Tcp(peer) => LineSpec::Tcp(peer.to_string()),
            BusLine::Serial(serial) => LineSpec::Serial(serial_spec(serial)),
        },
        timeout_ms: bus.timeout_ms,
    };
    config.buses.iter().map(spec).collect()
}

/// The portals put together from parts.
///
/// # Errors
/// A profile that is not there any more: the configuration's check found it.
pub fn portals(config: &Config) -> Result<Vec<ModbusPortalSpec>, String> {
    config.portals.iter().filter_map(|p| portal(config, p).transpose()).collect()
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

fn portal(config: &Config, portal: &PortalConfig) -> Result<Option<ModbusPortalSpec>, String> {
    let PortalDevice::Parts { reader, output, meter } = &portal.device else { return Ok(None) };
    let part = |part: &Part| -> Result<Option<PartSpec>, String> {
        match part {
            Part::Modbus(part) => Ok(Some(PartSpec {
                bus: part.bus.clone(),
                unit: part.unit,
                profile: profile_of(config, part)?,
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
        inputs: None,
    }))
}

fn profile_of(config: &Config, part: &ModbusPart) -> Result<Arc<Profile>, String> {
    let dir = config.buses.iter().find(|bus| bus.id == part.bus).and_then(|bus| bus.devices_dir.as_deref());
    find(&part.profile, dir)
}

/// The profile of this name: a file of `devices_dir` first, so that a site can correct a shipped one.
fn find(name: &str, devices_dir: Option<&Path>) -> Result<Arc<Profile>, String> {
    if let Some(dir) = devices_dir {
        let path = dir.join(format!("{name}.toml"));
        match std::fs::read_to_string(&path) {
            Ok(text) => {
                return profile::read_file(&path, &text).map(Arc::new).map_err(|mistakes| told(&path, &mistakes));
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

fn told(path: &Path, mistakes: &[Mistake]) -> String {
    let all = mistakes.iter().map(|m| format!("{}:{m}", path.display())).collect::<Vec<_>>().join("; ");
    format!("the profile has mistakes: {all}")
}
