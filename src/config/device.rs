//! What a portal is wired to: one device, or parts by their profiles. Says which units, channels and profiles fit together.

use std::collections::HashMap;
use std::path::Path;

use super::bus::BusDraft;
use super::{Surroundings, non_empty, whole};
use crate::access::portal::PortalKind;
use crate::profile::document::{Place, Table, Value};
use crate::wire::spelling::hint;

/// Highest number of a Modbus unit that is not reserved (Modbus over serial line V1.02, 2.2).
const UNIT_MAX: u8 = 247;
/// The unit number with which a Modbus TCP device means itself (Modbus messaging on TCP/IP V1.0b, 4.4.1.2). On a serial line it is
/// reserved, and yet the number some relay boards are delivered with.
pub const UNIT_SELF: u8 = 255;

/// What a portal is wired to.
#[expect(clippy::large_enum_variant, reason = "there is one a portal, and it lives as long as the configuration")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortalDevice {
    /// A device that speaks section 4 of the wire contract.
    NativeMqtt,
    /// A controller that asks the gateway as this unit (section 5 of the wire contract).
    ModbusServer {
        /// Its unit id, 1 to 247; no two portals have the same.
        unit: u8,
    },
    /// Parts, each by a device profile.
    Parts {
        /// What reads cards.
        reader: Part,
        /// What opens or energises.
        output: Part,
        /// A power box's energy meter.
        meter: Option<Part>,
        /// Contacts and buttons on a module of their own, beside those of reader and output.
        inputs: Option<Part>,
    },
}

/// One part of a portal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// A device on a bus.
    Modbus(ModbusPart),
    /// A foreign device on the local broker. No profile of these is known yet, so a checked configuration has none.
    Mqtt(MqttPart),
}

/// A device on a bus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModbusPart {
    /// The bus; it is in the configuration.
    pub bus: String,
    /// The device's unit number.
    pub unit: u8,
    /// The device profile's name.
    pub profile: String,
    /// Which of the device's channels; 0 is the first.
    pub channel: u16,
    /// The file names the channel. A power box whose file names none has a slot for each reader of the device.
    pub channel_named: bool,
    /// Where it stands in the file, for what only device profiles show to be wrong.
    pub place: Box<Place>,
}

/// A foreign device on the local broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MqttPart {
    /// The device profile's name.
    pub profile: String,
    /// The device's own topic.
    pub topic: String,
    /// Which of the device's channels; 0 is the first.
    pub channel: u16,
}

/// What a part does in its portal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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
    /// The key of the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reader => "reader",
            Self::Output => "output",
            Self::Meter => "meter",
            Self::Inputs => "inputs",
        }
    }
}

/// What the configuration wants of a Modbus device profile.
#[derive(Clone, Copy, Debug)]
pub struct ProfileUse<'u> {
    /// The profile's name.
    pub name: &'u str,
    /// Where profiles are, beside the built-in ones.
    pub devices_dir: Option<&'u Path>,
    /// What the part is to do.
    pub role: Role,
    /// In what.
    pub kind: PortalKind,
    /// On which channel.
    pub channel: u16,
}

/// The rest of the configuration, as far as portals lean on it.
pub(super) struct Site<'s> {
    pub(super) buses: &'s [BusDraft],
    /// Whether there is a broker for MQTT portals.
    pub(super) has_broker: bool,
    pub(super) has_modbus_server: bool,
    pub(super) around: &'s Surroundings<'s>,
}

/// What no two portals may be wired to, with the path of who is.
#[derive(Default)]
pub(super) struct Taken {
    server_units: HashMap<u8, String>,
    parts: HashMap<(Role, String, u8, u16), String>,
    /// The profile of each unit of each bus.
    profiles: HashMap<(String, u8), (String, String)>,
}

/// Reads what the portal in `table` is wired to: `device`, or its parts.
pub(super) fn read(
    table: &mut Table<'_>,
    kind: Option<PortalKind>,
    site: &Site<'_>,
    taken: &mut Taken,
) -> Option<PortalDevice> {
    let device = table.get("device");
    let mut part = |table: &mut Table<'_>, role: Role| {
        let value = table.get(role.as_str())?;
        Some(value.table(|t| read_part(t, role, kind, site, taken)).flatten())
    };
    let reader = part(table, Role::Reader);
    let output = part(table, Role::Output);
    let meter = part(table, Role::Meter);
    let inputs = part(table, Role::Inputs);
    match (device, reader, output) {
        (Some(device), None, None) if meter.is_none() && inputs.is_none() => {
            device.table(|t| read_whole_device(t, site, taken)).flatten()
        }
        (Some(device), ..) => {
            device.diagnostic(
                "a portal is either one `device`, or put together from `reader` and `output`; leave one out",
            );
            None
        }
        (None, Some(reader), Some(output)) => {
            let (meter, inputs) = (super::flat(meter), super::flat(inputs));
            Some(PortalDevice::Parts { reader: reader?, output: output?, meter: meter?, inputs: inputs? })
        }
        (None, Some(_), None) => {
            table.diagnostic_at(
                "reader",
                "an `output` is missing beside it: what opens or energises when this reads a card",
            );
            None
        }
        (None, None, Some(_)) => {
            table.diagnostic_at("output", "a `reader` is missing beside it: what reads the cards that this opens for");
            None
        }
        (None, None, None) => {
            table.diagnostic(
                "what it is wired to is missing: `device = { mqtt = \"native\" }`, `device = { modbus_server = 1 }`, \
                 or `reader` and `output`",
            );
            None
        }
    }
}

fn read_whole_device(table: &mut Table<'_>, site: &Site<'_>, taken: &mut Taken) -> Option<PortalDevice> {
    let (mqtt, server) = (table.get("mqtt"), table.get("modbus_server"));
    if table.has("modbus") {
        table.give_up();
        table.diagnostic(
            "`modbus` is for the parts of a portal: write `reader = { modbus = …, unit = …, profile = … }` and \
             `output = { … }` instead of `device`, the same unit twice where one device does both",
        );
        return None;
    }
    match (mqtt, server) {
        (Some(mqtt), None) => {
            let profile = mqtt.text()?;
            if profile != "native" {
                mqtt.diagnostic(unsupported(&profile));
                return None;
            }
            needs_broker(&mqtt, site);
            Some(PortalDevice::NativeMqtt)
        }
        (None, Some(server)) => {
            let unit = u8::try_from(server.number(1..i64::from(UNIT_MAX) + 1)?).ok()?;
            if !site.has_modbus_server {
                server.diagnostic(
                    "nothing listens for controllers; add `[modbus_server]` with `tcp = \"127.0.0.1:1502\"`",
                );
            }
            match taken.server_units.get(&unit) {
                Some(owner) => server.diagnostic(format!("unit {unit} is `{owner}`; give each portal its own")),
                None => {
                    taken.server_units.insert(unit, table.path().to_owned());
                }
            }
            Some(PortalDevice::ModbusServer { unit })
        }
        (None, None) | (Some(_), Some(_)) => {
            table.diagnostic("one of `mqtt = \"native\"` and `modbus_server = 1` is wanted");
            None
        }
    }
}

fn read_part(
    table: &mut Table<'_>,
    role: Role,
    kind: Option<PortalKind>,
    site: &Site<'_>,
    taken: &mut Taken,
) -> Option<Part> {
    let (modbus, mqtt) = (table.get("modbus"), table.get("mqtt"));
    let channel_named = table.has("channel");
    let channel = whole(table, "channel", 0..=255, 0_u16);
    match (modbus, mqtt) {
        (Some(bus), None) => {
            let profile = table.need("profile").and_then(|value| non_empty(&value).map(|name| (value, name)));
            let unit = table.need("unit");
            let bus_name = bus.text()?;
            let Some(line) = site.buses.iter().find(|draft| draft.id.as_ref() == Some(&bus_name)) else {
                bus.diagnostic(no_such_bus(&bus_name, site));
                return None;
            };
            let unit = unit.and_then(|value| unit_number(&value));
            let ((profile_at, profile), unit) = (profile?, unit?);
            let mut good = true;
            // A line with diagnostics does not say where its profiles are.
            if let (Some(kind), Some(line)) = (kind, &line.config) {
                let wanted =
                    ProfileUse { name: &profile, devices_dir: line.devices_dir.as_deref(), role, kind, channel };
                let judged = site.around.devices.profile(&wanted);
                good = judged.is_ok();
                judged.unwrap_or_else(|message| profile_at.diagnostic(message));
            }
            let here = || (profile.clone(), table.path().to_owned());
            let (first, owner) = taken.profiles.entry((bus_name.clone(), unit)).or_insert_with(here);
            if *first != profile {
                profile_at.diagnostic(format!(
                    "unit {unit} on `{bus_name}` is `{first}` for `{owner}`; a device has one profile: correct it, or the unit"
                ));
                good = false;
            }
            match (role, taken.parts.get(&(role, bus_name.clone(), unit, channel))) {
                (Role::Reader | Role::Output, Some(owner)) => {
                    table.diagnostic(format!(
                        "channel {channel} of unit {unit} on `{bus_name}` is `{owner}`; two portals cannot share it"
                    ));
                    good = false;
                }
                // One meter may measure several boxes, and one contact concern several portals.
                (Role::Meter | Role::Inputs, Some(_)) => {}
                (_, None) => {
                    taken.parts.insert((role, bus_name.clone(), unit, channel), table.path().to_owned());
                }
            }
            let (bus, place) = (bus_name, Box::new(table.place()));
            good.then_some(Part::Modbus(ModbusPart { bus, unit, profile, channel, channel_named, place }))
        }
        (None, Some(mqtt)) => {
            let topic = table.need("topic").and_then(|value| value.parsed(read_topic));
            let profile = mqtt.text()?;
            mqtt.diagnostic(unsupported(&profile));
            needs_broker(&mqtt, site);
            Some(Part::Mqtt(MqttPart { profile, topic: topic?, channel }))
        }
        (None, None) | (Some(_), Some(_)) => {
            table.diagnostic("one of `modbus = \"a bus\"` and `mqtt = \"a profile\"` is wanted");
            None
        }
    }
}

fn unsupported(profile: &str) -> String {
    format!(
        "the MQTT device `{profile}` is not supported by this version; use a device that is native \
         (`device = {{ mqtt = \"native\" }}`), or Modbus parts"
    )
}

fn needs_broker(value: &Value<'_>, site: &Site<'_>) {
    if !site.has_broker {
        value.diagnostic("no broker is configured; add `[local]` with `urls = [\"mqtt://127.0.0.1:1883\"]`");
    }
}

fn no_such_bus(name: &str, site: &Site<'_>) -> String {
    let known: Vec<&str> = site.buses.iter().filter_map(|draft| draft.id.as_deref()).collect();
    if known.is_empty() {
        return format!("no bus is called `{name}`; add `[[bus]]` with `id = \"{name}\"`");
    }
    format!("no bus is called `{name}`; {}", hint(name, known.iter().copied()))
}

fn unit_number(value: &Value<'_>) -> Option<u8> {
    let number = value.number(0..i64::from(UNIT_SELF) + 1)?;
    let unit = u8::try_from(number).ok()?;
    if unit == 0 {
        value.diagnostic(format!(
            "0 is everybody on the line, and nobody answers to it; write the number the device is set to, 1 to {UNIT_MAX}, \
             or {UNIT_SELF} for a device that has none"
        ));
        return None;
    }
    if unit > UNIT_MAX && unit != UNIT_SELF {
        value.diagnostic(format!(
            "units {} to {} are reserved; write the number the device is set to",
            UNIT_MAX + 1,
            UNIT_SELF - 1
        ));
        return None;
    }
    Some(unit)
}

fn read_topic(text: &str) -> Result<String, String> {
    if text.is_empty() || text.contains(['+', '#', '\0']) || text.starts_with('$') {
        return Err(format!("the device's own topic is wanted, without `+` and `#`, got `{text}`"));
    }
    Ok(text.to_owned())
}
