//! What a portal is wired to: one device, or parts on Modbus lines with a device profile each.

use std::sync::Arc;

use crate::access::id::PortalId;
use crate::access::portal::Portal;
#[cfg(test)]
use crate::access::portal::PortalKind;
use crate::access::transform::Transform;
use crate::profile::{Profile, Reader};

/// Most slots of a power box.
pub const SLOTS_MAX: u16 = 16;
/// The unit number by which a Modbus TCP device is addressed itself (Modbus messaging on TCP/IP V1.0b, 4.4.1.2). On a serial line it
/// is reserved; some relay boards are delivered with it nevertheless.
pub const UNIT_SELF: u8 = 255;

/// One portal.
#[derive(Clone, Debug, PartialEq)]
pub struct PortalConfig {
    /// What the rules need to know about it.
    pub portal: Portal,
    /// What it is wired to.
    pub device: PortalDevice,
}

impl PortalConfig {
    /// A portal without delays, with a hold of one second.
    #[cfg(test)]
    pub(crate) fn for_test(id: &str, kind: PortalKind, device: PortalDevice) -> Self {
        let portal = Portal {
            id: id.parse().unwrap(),
            kind,
            zone: "1".parse().unwrap(),
            direction: None,
            hold_ms: 1000,
            delay_off_ms: 0,
            debounce_ms: 0,
            held_open_ms: 0,
            rest_ms: 0,
            off_confirmed_ms: 2_000,
            fire_input: true,
        };
        Self { portal, device }
    }

    /// The transform of its reader, if that loses part of the UID. Controllers that send requests, and native devices, give whole
    /// UIDs.
    #[must_use]
    pub fn lossy_reader(&self) -> Option<(PortalId, Transform)> {
        Some((self.portal.id.clone(), self.device.parts()?.readers().next()?.uid.transform()?))
    }
}

/// What a portal is wired to.
#[derive(Clone, Debug, PartialEq)]
pub enum PortalDevice {
    /// An MQTT device that follows section 4 of the wire contract.
    NativeMqtt,
    /// A controller that sends requests to this unit of the gateway (section 5 of the wire contract).
    ModbusServer {
        /// Its unit id, 1 to 247; no two portals have the same.
        unit: u8,
    },
    /// Parts on Modbus lines.
    Parts(Parts),
}

impl PortalDevice {
    /// The parts, if it consists of parts.
    #[must_use]
    pub fn parts(&self) -> Option<&Parts> {
        match self {
            Self::Parts(parts) => Some(parts),
            Self::NativeMqtt | Self::ModbusServer { .. } => None,
        }
    }
}

/// The parts of a portal. It is checked that each profile has what the role of its part needs.
#[derive(Clone, Debug, PartialEq)]
pub struct Parts {
    /// Reads cards.
    pub reader: Part,
    /// How many readers it has, from the reader's channel on: the slots of a power box; 1 for all other portals.
    pub slots: u16,
    /// Opens or energises.
    pub output: Part,
    /// A power box's energy meter.
    pub meter: Option<Part>,
    /// Contacts and buttons on a module of their own, beside those of reader and output.
    pub inputs: Option<Part>,
}

/// A device on a bus, in its role.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// The id of the bus, which is in the configuration.
    pub bus: String,
    /// The device's unit number, 1 to 247 or 255.
    pub unit: u8,
    /// What its registers mean.
    pub profile: Arc<Profile>,
    /// Which of the device's channels; 0 is the first.
    pub channel: u16,
}

/// What a part does in its portal; displayed as its key in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, strum::Display)]
#[strum(serialize_all = "snake_case")]
pub enum Role {
    /// Reads cards.
    Reader,
    /// Opens or energises.
    Output,
    /// Measures energy.
    Meter,
    /// Contacts and buttons.
    Inputs,
}

impl Role {
    /// How many channels for this role a device has.
    pub(super) fn channels(self, profile: &Profile) -> u16 {
        match self {
            Self::Reader => u16::try_from(profile.readers.len()).unwrap_or(u16::MAX),
            Self::Output => profile.output.as_ref().map_or(0, |output| output.channels),
            Self::Meter => u16::from(profile.meter.is_some()),
            Self::Inputs => profile.input_channels(),
        }
    }
}

impl Parts {
    /// All parts.
    pub fn all(&self) -> impl Iterator<Item = &Part> {
        [&self.reader, &self.output].into_iter().chain(&self.meter).chain(&self.inputs)
    }

    /// The readers, slot by slot.
    pub fn readers(&self) -> impl Iterator<Item = &Reader> {
        self.reader.profile.readers.iter().skip(usize::from(self.reader.channel)).take(usize::from(self.slots))
    }
}
