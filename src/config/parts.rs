//! What a portal is wired to: one device, or parts with a device profile each, on Modbus lines or at the local broker.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Site;
use crate::access::id::PortalId;
#[cfg(test)]
use crate::access::portal::PortalKind;
use crate::access::portal::{Direction, Portal};
use crate::access::transform::Transform;
use crate::profile::{self, InputKind, OnLinkLoss, Profile, Reader, mqtt};

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
        let portal = Portal { hold_ms: 1000, ..Portal::new(id.parse().unwrap(), kind, "1".parse().unwrap()) };
        Self { portal, device }
    }

    /// The transform of its reader, if that loses part of the UID. Controllers that send requests, and native devices, give whole
    /// UIDs.
    pub(crate) fn lossy_reader(&self) -> Option<(PortalId, Transform)> {
        Some((self.portal.id.clone(), self.device.parts()?.transforms().next()??))
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
    /// Parts, each with its profile.
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

/// A device in its role.
#[derive(Clone, Debug, PartialEq)]
pub enum Part {
    /// On a Modbus line.
    Modbus(ModbusPart),
    /// At the local broker.
    Mqtt(MqttPart),
}

/// A device on a bus, in its role.
#[derive(Clone, Debug, PartialEq)]
pub struct ModbusPart {
    /// The id of the bus, which is in the configuration.
    pub bus: String,
    /// The device's unit number, 1 to 247 or 255.
    pub unit: u8,
    /// What its registers mean.
    pub profile: Arc<Profile>,
    /// Which of the device's channels; 0 is the first.
    pub channel: u16,
}

/// A device with MQTT topics of its own, in its role.
#[derive(Clone, Debug, PartialEq)]
pub struct MqttPart {
    /// Its name in its topics.
    pub topic: String,
    /// What its messages mean.
    pub profile: Arc<mqtt::Profile>,
    /// Which of the device's channels; 0 is the first.
    pub channel: u16,
}

impl MqttPart {
    /// What stands in the placeholders of its profile.
    #[must_use]
    pub fn names(&self) -> mqtt::Names<'_> {
        mqtt::Names { topic: &self.topic, channel: self.channel }
    }
}

impl Part {
    /// The part, if it is on a Modbus line.
    #[must_use]
    pub fn modbus(&self) -> Option<&ModbusPart> {
        match self {
            Self::Modbus(part) => Some(part),
            Self::Mqtt(_) => None,
        }
    }

    /// The part, if it is at the broker.
    #[must_use]
    pub fn mqtt(&self) -> Option<&MqttPart> {
        match self {
            Self::Mqtt(part) => Some(part),
            Self::Modbus(_) => None,
        }
    }

    /// The name of its profile.
    pub(crate) fn profile_id(&self) -> &str {
        match self {
            Self::Modbus(part) => &part.profile.id,
            Self::Mqtt(part) => &part.profile.id,
        }
    }

    /// What the device does with its outputs when it is cut off.
    #[must_use]
    pub fn on_link_loss(&self) -> OnLinkLoss {
        match self {
            Self::Modbus(part) => part.profile.on_link_loss,
            Self::Mqtt(part) => part.profile.on_link_loss,
        }
    }

    /// How long the device keeps a pulse of `hold_ms` on, in milliseconds; `None`: it ends none, or has no output.
    pub(crate) fn pulse_ms(&self, hold_ms: u32) -> Option<u32> {
        match self {
            Self::Modbus(part) => Some(part.profile.output.as_ref()?.pulse(part.channel, hold_ms)?.1),
            Self::Mqtt(part) => Some(part.profile.output.as_ref()?.pulse(hold_ms)?.1),
        }
    }

    /// Whether its output can be read back: a relay that cannot may be on although it was switched off.
    pub(crate) fn reads_back(&self) -> bool {
        match self {
            Self::Modbus(part) => {
                part.profile.output.as_ref().is_some_and(|output| output.confirm == profile::Confirm::State)
            }
            Self::Mqtt(_) => true,
        }
    }

    /// Whether the device has an input of this kind.
    pub(crate) fn has_input(&self, kind: InputKind) -> bool {
        match self {
            Self::Modbus(part) => part.profile.inputs.iter().any(|input| input.kind == kind),
            Self::Mqtt(part) => part.profile.inputs.iter().any(|input| input.kind == kind),
        }
    }

    /// The readers of a Modbus device from its channel on.
    fn readers_from(&self, slots: u16) -> impl Iterator<Item = &Reader> {
        let part = self.modbus();
        let readers = part.into_iter().flat_map(|part| part.profile.readers.iter().skip(usize::from(part.channel)));
        readers.take(usize::from(slots))
    }
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
    /// How many channels for this role a Modbus device has.
    pub(super) fn channels(self, profile: &Profile) -> u16 {
        match self {
            Self::Reader => u16::try_from(profile.readers.len()).unwrap_or(u16::MAX),
            Self::Output => profile.output.as_ref().map_or(0, |output| output.channels),
            Self::Meter => u16::from(profile.meter.is_some()),
            Self::Inputs => profile.input_channels(),
        }
    }

    /// Whether an MQTT device has this role, and for how many channels.
    pub(super) fn mqtt_channels(self, profile: &mqtt::Profile) -> u16 {
        let all = |has: bool| if has { mqtt::CHANNELS_MAX } else { 0 };
        match self {
            Self::Reader => u16::from(profile.reader.is_some()),
            Self::Output => profile.output.as_ref().map_or(0, |output| output.channels),
            // The topics of a meter and of inputs may name the channel.
            Self::Meter => all(profile.meter.is_some()),
            Self::Inputs => all(!profile.inputs.is_empty()),
        }
    }
}

impl Site {
    /// The topics of the devices with MQTT topics of their own that are listened to, each once.
    pub(crate) fn device_topics(&self) -> BTreeSet<String> {
        self.portals.iter().filter_map(|portal| portal.device.parts()).flat_map(Parts::topics).collect()
    }

    /// These devices by their names, each with the topics at which it retains whether it is connected.
    pub(crate) fn device_wills(&self) -> BTreeMap<&str, BTreeSet<String>> {
        let mut wills: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
        let parts = self.portals.iter().filter_map(|portal| portal.device.parts()).flat_map(Parts::all);
        for part in parts.filter_map(Part::mqtt) {
            let topics = part.profile.available(&part.topic).into_iter().map(|available| available.is.place.topic);
            wills.entry(&part.topic).or_default().extend(topics);
        }
        wills
    }
}

impl Parts {
    /// The topics of its devices at the broker.
    fn topics(&self) -> Vec<String> {
        let topic = |place: &mqtt::Place| place.topic.clone();
        let mut topics: Vec<String> = Vec::new();
        for part in self.all().filter_map(Part::mqtt) {
            topics.extend(part.profile.available(&part.topic).into_iter().map(|available| available.is.place.topic));
        }
        if let Some(reader) = self.reader.mqtt().and_then(|part| Some(part.profile.reader.as_ref()?.of(part.names()))) {
            topics.extend(reader.places().map(topic));
        }
        if let Some(output) = self.output.mqtt().and_then(|part| Some(part.profile.output.as_ref()?.of(part.names()))) {
            topics.extend(output.state.into_iter().map(|two| two.place.topic));
        }
        let meter = self.meter.as_ref().and_then(Part::mqtt);
        if let Some(meter) = meter.and_then(|part| Some(part.profile.meter.as_ref()?.of(part.names()))) {
            topics.extend(meter.places().map(topic));
        }
        for part in [&self.reader, &self.output].into_iter().chain(&self.inputs).filter_map(Part::mqtt) {
            topics.extend(part.profile.inputs(part.names()).into_iter().map(|input| input.is.place.topic));
        }
        topics
    }

    /// All parts.
    pub fn all(&self) -> impl Iterator<Item = &Part> {
        [&self.reader, &self.output].into_iter().chain(&self.meter).chain(&self.inputs)
    }

    /// The readers of a Modbus device, slot by slot.
    pub fn readers(&self) -> impl Iterator<Item = &Reader> {
        self.reader.readers_from(self.slots)
    }

    /// The reader of an MQTT device.
    pub(crate) fn mqtt_reader(&self) -> Option<&mqtt::Reader> {
        self.reader.mqtt()?.profile.reader.as_ref()
    }

    /// The transform of each reader, if it loses part of the UID.
    pub fn transforms(&self) -> impl Iterator<Item = Option<Transform>> {
        let mqtt = self.mqtt_reader().map(|reader| reader.uid.transform());
        self.readers().map(|reader| reader.uid.transform()).chain(mqtt)
    }

    /// Which way one passes at each reader that has one.
    pub fn directions(&self) -> impl Iterator<Item = Direction> {
        let mqtt = self.mqtt_reader().and_then(|reader| reader.direction);
        self.readers().filter_map(|reader| reader.direction).chain(mqtt)
    }

    /// Whether each reader reports that a card leaves. One at the broker repeats the card while it is there, and reports that it has left
    /// too: where only the messages end, nobody knows whether the card has left or the network is away.
    pub(crate) fn reports_leaving(&self) -> bool {
        let mut on_lines = self.readers().map(Reader::leaves_after_ms);
        on_lines.all(|ms| ms.is_some())
            && self.mqtt_reader().is_none_or(|reader| reader.leaves_after_ms().is_some() && reader.removed.is_some())
    }
}
