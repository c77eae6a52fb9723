//! A first configuration for a building that is described in a few words: so many floors with so many rooms, and what each gate,
//! door and power box is wired to. The portals are a sheet, which an electrician goes on with in a spreadsheet.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::parts::Role;
use super::{DEFAULT_TIMEZONE, UNIT_MAX};
use crate::access::id::GatewayId;
use crate::access::portal::PortalKind;
use crate::profile::diagnostic::hint;
use crate::profile::{Profile, SHIPPED, mqtt, sheet, shipped};

/// The name of the sheet in the configuration.
pub const SHEET: &str = "portals.csv";
/// The columns of the sheet.
const COLUMNS: [&str; 23] = [
    "id",
    "kind",
    "zone",
    "direction",
    "device.mqtt",
    "device.modbus_server",
    "reader.mqtt",
    "reader.topic",
    "reader.modbus",
    "reader.unit",
    "reader.profile",
    "reader.channel",
    "output.mqtt",
    "output.topic",
    "output.modbus",
    "output.unit",
    "output.profile",
    "output.channel",
    "meter.mqtt",
    "meter.topic",
    "meter.modbus",
    "meter.unit",
    "meter.profile",
];

/// A building.
#[derive(Clone, Debug)]
pub struct Building {
    /// The id of its gateway.
    pub gateway: GatewayId,
    /// How many floors have rooms; the lowest is 1.
    pub floors: u16,
    /// How many rooms each floor has.
    pub rooms: u16,
    /// How many gates lead in, and as many out.
    pub gates: u16,
    /// What a gate is wired to.
    pub gate: Wiring,
    /// What the door of a room is wired to; `None`: doors have no reader.
    pub door: Option<Wiring>,
    /// What the power box of a room is wired to; `None`: rooms have none.
    pub power: Option<Wiring>,
}

/// What all portals of a kind are wired to.
#[derive(Clone, Debug)]
pub enum Wiring {
    /// A device that follows section 4 of the wire contract: `mqtt`.
    Native,
    /// A controller that asks the gateway: `controller`.
    Controller,
    /// Parts with these profiles, on Modbus lines or at the broker of the box: `READER,OUTPUT` or `READER,OUTPUT,METER`.
    Parts {
        /// Reads cards.
        reader: Device,
        /// Opens or energises.
        output: Device,
        /// Measures the energy.
        meter: Option<Device>,
    },
}

/// What a part is.
#[derive(Clone, Debug)]
pub enum Device {
    /// On a Modbus line.
    Modbus(Arc<Profile>),
    /// At the broker of the box, with topics of its own: the id of its profile.
    Mqtt(String),
}

impl Device {
    /// The device that `name` is the profile of, for this role.
    fn of(name: &str, role: Role) -> Result<Self, String> {
        let (found, channels) = if let Some(profile) = shipped(name) {
            let channels = role.channels(&profile);
            (Self::Modbus(Arc::new(profile)), channels)
        } else if let Some(profile) = mqtt::shipped(name) {
            (Self::Mqtt(name.to_owned()), role.mqtt_channels(&profile))
        } else {
            let known = SHIPPED.iter().chain(mqtt::SHIPPED).map(|(name, _)| *name);
            return Err(format!("there is no device profile `{name}`; {}", hint(name, known)));
        };
        if channels == 0 {
            return Err(format!("the device profile `{name}` has no {role}; name one that has"));
        }
        Ok(found)
    }

    fn is_at_broker(&self) -> bool {
        matches!(self, Self::Mqtt(_))
    }
}

impl FromStr for Wiring {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names: Vec<&str> = text.split(',').map(str::trim).collect();
        match names.as_slice() {
            ["mqtt"] => Ok(Self::Native),
            ["controller"] => Ok(Self::Controller),
            [reader, output, meter @ ..] if meter.len() < 2 => Ok(Self::Parts {
                reader: Device::of(reader, Role::Reader)?,
                output: Device::of(output, Role::Output)?,
                meter: meter.first().map(|meter| Device::of(meter, Role::Meter)).transpose()?,
            }),
            _ => {
                Err("`mqtt`, `controller`, or the profiles `READER,OUTPUT` or `READER,OUTPUT,METER` are wanted"
                    .to_owned())
            }
        }
    }
}

/// Why a building cannot be served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unservable {
    /// A line has more devices than it can address.
    #[error(
        "the devices of {0} need more than {UNIT_MAX} units on one line; describe fewer rooms a floor, and move some of them to a second `[[bus]]` in the sheet"
    )]
    Line(String),
    /// There are more controllers than unit numbers for them.
    #[error(
        "there are more than {UNIT_MAX} controllers, and each asks under a unit number of its own; describe fewer rooms"
    )]
    Controllers,
    /// Rooms could not be numbered.
    #[error("at most 99 floors and 999 rooms a floor are numbered; describe a part of the building")]
    Rooms,
    /// Doors or power boxes of no room.
    #[error(
        "`--door` and `--power` are for rooms, and there are none; give `--floors` and `--rooms` of 1 or more, or leave both wirings out"
    )]
    NoRooms,
    /// No portal.
    #[error("nothing here reads a card: give `--gates` of 1 or more, or `--door` or `--power` for the rooms")]
    Nothing,
}

/// The configuration: its file, and its sheet of portals.
pub fn describe(building: &Building) -> Result<(String, String), Unservable> {
    if building.floors > 99 || building.rooms > 999 {
        return Err(Unservable::Rooms);
    }
    let (has_rooms, has_wiring) =
        (building.floors > 0 && building.rooms > 0, building.door.is_some() || building.power.is_some());
    if has_wiring && !has_rooms {
        return Err(Unservable::NoRooms);
    }
    if building.gates == 0 && !has_wiring {
        return Err(Unservable::Nothing);
    }
    let mut plan = Plan::default();
    for gate in 1..=building.gates {
        for direction in ["in", "out"] {
            let id = format!("gate-{gate}-{direction}");
            let mut row = plan.row(&id, PortalKind::Gate, "lobby", &building.gate, GATES)?;
            row.insert("direction".to_owned(), direction.to_owned());
            plan.rows.push(row);
        }
    }
    let first = if building.rooms < 100 { 100 } else { 1000 };
    for floor in 1..=u32::from(building.floors) {
        for room in (1..=u32::from(building.rooms)).map(|room| floor * first + room) {
            let zone = room.to_string();
            let kinds = [("door", PortalKind::Door, &building.door), ("power", PortalKind::PowerBox, &building.power)];
            for (name, kind, wiring) in kinds {
                let Some(wiring) = wiring else { continue };
                let row = plan.row(&format!("{name}-{zone}"), kind, &zone, wiring, floor)?;
                plan.rows.push(row);
            }
        }
    }
    Ok((file(building, &plan), plan.sheet()))
}

/// The line of the gates; the others have the number of their floor.
const GATES: u32 = 0;

/// The id of a line.
fn bus(floor: u32) -> String {
    if floor == GATES { "gates".to_owned() } else { format!("floor-{floor}") }
}

/// The column of a part's key; the inputs of a device are no part here.
fn column(role: Role, key: &str) -> String {
    let part = match role {
        Role::Reader => "reader",
        Role::Output => "output",
        Role::Meter | Role::Inputs => "meter",
    };
    format!("{part}.{key}")
}

type Row = BTreeMap<String, String>;

/// What has been planned so far.
#[derive(Default)]
struct Plan {
    rows: Vec<Row>,
    /// The lines, by their floor.
    lines: BTreeMap<u32, Line>,
    controllers: u8,
    /// Something is at the broker of the box.
    local: bool,
    /// Something there has topics of its own.
    devices: bool,
}

/// The units of one line.
#[derive(Default)]
struct Line {
    units: u8,
    /// The newest unit of each profile, with how many of its channels are used for each role.
    newest: BTreeMap<String, (u8, BTreeMap<String, u16>)>,
}

impl Line {
    /// A free channel for a role, of the newest device of a profile or of a new one.
    fn channel(&mut self, profile: &Profile, role: Role, wants_all: bool) -> Option<(u8, u16)> {
        let has = role.channels(profile);
        if let Some((unit, used)) = self.newest.get_mut(&profile.id) {
            let used = used.entry(role.to_string()).or_insert(0);
            if *used == 0 || (!wants_all && *used < has) {
                let channel = *used;
                *used = if wants_all { has } else { channel + 1 };
                return Some((*unit, channel));
            }
        }
        self.units = self.units.checked_add(1).filter(|unit| *unit <= UNIT_MAX)?;
        let used = if wants_all { has } else { 1 };
        self.newest.insert(profile.id.clone(), (self.units, BTreeMap::from([(role.to_string(), used)])));
        Some((self.units, 0))
    }
}

impl Plan {
    fn row(&mut self, id: &str, kind: PortalKind, zone: &str, wiring: &Wiring, floor: u32) -> Result<Row, Unservable> {
        let row = [("id", id), ("kind", kind.as_str()), ("zone", zone)];
        let mut row = Row::from(row.map(|(key, value)| (key.to_owned(), value.to_owned())));
        match wiring {
            Wiring::Native => {
                self.local = true;
                row.insert("device.mqtt".to_owned(), "native".to_owned());
            }
            Wiring::Controller => {
                self.controllers =
                    self.controllers.checked_add(1).filter(|unit| *unit <= UNIT_MAX).ok_or(Unservable::Controllers)?;
                row.insert("device.modbus_server".to_owned(), self.controllers.to_string());
            }
            Wiring::Parts { reader, output, meter } => {
                let parts = [(Role::Reader, Some(reader)), (Role::Output, Some(output)), (Role::Meter, meter.as_ref())];
                // A plug that switches and measures is one device.
                let is_one =
                    matches!((output, meter), (Device::Mqtt(output), Some(Device::Mqtt(meter))) if output == meter);
                for (role, device) in parts.into_iter().filter_map(|(role, device)| Some((role, device?))) {
                    match device {
                        Device::Modbus(profile) => self.on_line(&mut row, (kind, role), profile, floor)?,
                        Device::Mqtt(profile) => {
                            let topic = match role {
                                Role::Reader => format!("{id}-reader"),
                                Role::Meter if !is_one => format!("{id}-meter"),
                                Role::Output | Role::Meter | Role::Inputs => id.to_owned(),
                            };
                            row.extend([(column(role, "mqtt"), profile.clone()), (column(role, "topic"), topic)]);
                        }
                    }
                    self.local |= device.is_at_broker();
                    self.devices |= device.is_at_broker();
                }
            }
        }
        Ok(row)
    }

    /// Puts a part on the line of its floor.
    fn on_line(
        &mut self,
        row: &mut Row,
        (kind, role): (PortalKind, Role),
        profile: &Profile,
        floor: u32,
    ) -> Result<(), Unservable> {
        let (bus, line) = (bus(floor), self.lines.entry(floor).or_default());
        // A power box has every slot of its reader.
        let has_slots = kind == PortalKind::PowerBox && role == Role::Reader;
        let found = line.channel(profile, role, has_slots);
        let (number, at) = found.ok_or_else(|| Unservable::Line(bus.clone()))?;
        let keys = [("modbus", bus), ("unit", number.to_string()), ("profile", profile.id.clone())];
        row.extend(keys.map(|(key, value)| (column(role, key), value)));
        if matches!(role, Role::Reader | Role::Output) && !has_slots && role.channels(profile) > 1 {
            row.insert(column(role, "channel"), at.to_string());
        }
        Ok(())
    }

    /// The sheet, without the columns that no row has.
    fn sheet(&self) -> String {
        let used: Vec<_> =
            COLUMNS.into_iter().filter(|column| self.rows.iter().any(|row| row.contains_key(*column))).collect();
        let head = used.iter().map(|column| (*column).to_owned()).collect();
        let row = |row: &Row| used.iter().map(|column| row.get(*column).cloned().unwrap_or_default()).collect();
        let records: Vec<Vec<String>> = std::iter::once(head).chain(self.rows.iter().map(row)).collect();
        sheet::print(&records)
    }
}

fn file(building: &Building, plan: &Plan) -> String {
    let mut text = format!(
        "# Each portal is a row of this sheet; its columns are the keys of `[[portal]]`.\nportals = \"{SHEET}\"\n\n\
         [gateway]\nid = \"{}\"\ntimezone = \"{DEFAULT_TIMEZONE}\"\n\n\
         # The broker of the campus, for the centers.\n#[uplink]\n#urls = [\"mqtts://mqtt.campus.example:8883\"]\n\n",
        building.gateway
    );
    if plan.local {
        text.push_str(
            "# The broker of this box, for portals on MQTT.\n[local]\nurls = [\"mqtt://127.0.0.1:1883\"]\n\n",
        );
    }
    if plan.devices {
        text.push_str(
            "# `topic` in the sheet is the name that a device has in its topics: give each device that name, or write its own there.\n\n",
        );
    }
    text.push_str(
        "# The offices that may change the list, each with the public key that it sends you; `dormgate center keygen` makes keys for a trial.\n\
         #[[center.stream]]\n#name = \"card-office\"\n#scope = \"campus\"\n#public_keys = [\"…\"]\n\
         #may = [\"issue\", \"reissue\", \"report_lost\", \"found\", \"freeze\", \"unfreeze\", \"cancel\", \"reinstate\"]\n\n\
         #[[center.stream]]\n#name = \"apartment\"\n#public_keys = [\"…\"]\n\
         #may = [\"enrol\", \"withdraw\", \"suspend_power\", \"resume_power\", \"define_schedule\", \"set_posture\", \"command\"]\n\n\
         [http]\nlisten = \"127.0.0.1:8480\"\n",
    );
    if plan.controllers > 0 {
        text.push_str("\n# Where controllers ask; `allow` lists the networks that they are in.\n[modbus_server]\ntcp = \"0.0.0.0:1502\"\nallow = [\"127.0.0.0/8\"]\n");
    }
    for (floor, line) in &plan.lines {
        let table = format!(
            "\n# {} unit(s). Write the address of its converter, or instead of `tcp`:\n\
             # serial = {{ port = \"/dev/serial/by-id/usb-…\", baud = 9600, parity = \"none\", stop_bits = 1 }}\n\
             [[bus]]\nid = \"{}\"\ntcp = \"192.0.2.{}:502\"\n",
            line.units,
            bus(*floor),
            floor + 1
        );
        text.push_str(&table);
    }
    text
}

impl fmt::Display for Building {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rooms = u32::from(self.floors) * u32::from(self.rooms);
        write!(f, "{} gate(s) each way", self.gates)?;
        match (rooms > 0, self.door.is_some() || self.power.is_some()) {
            (true, false) => {
                f.write_str("; no door and no power box, since `--door` and `--power` name no reader for them")
            }
            _ => write!(f, ", {rooms} room(s) on {} floor(s)", self.floors),
        }
    }
}
