//! What a portal is wired to: one device, or parts with their profiles; and what no two portals may share.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde::Deserialize;

use super::bus::BusDraft;
use super::parts::{ModbusPart, MqttPart, Part, Parts, PortalDevice, Role, SLOTS_MAX, UNIT_SELF};
use super::profiles::Profiles;
use super::{Context, UNIT_MAX};
use crate::access::id::PortalId;
use crate::access::portal::PortalKind;
use crate::access::transform::Transform;
use crate::profile::diagnostic::hint;
use crate::profile::document::{Key, NotBlank, Text, Whole};
use crate::profile::{Profile, mqtt};

#[derive(Deserialize)]
pub(super) struct DeviceTable {
    mqtt: Key<String>,
    modbus_server: Key<Whole<1, { UNIT_MAX as i64 }>>,
    modbus: Key<serde::de::IgnoredAny>,
    bus: Key<serde::de::IgnoredAny>,
    unit: Key<serde::de::IgnoredAny>,
    profile: Key<serde::de::IgnoredAny>,
    channel: Key<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
pub(super) struct PartTable {
    modbus: Key<String>,
    mqtt: Key<String>,
    topic: Key<String>,
    unit: Key<i64>,
    profile: Key<Text<NotBlank>>,
    channel: Key<Whole<0, 255>>,
}

/// The rest of the configuration as far as portals depend on it, and what no two portals may share.
pub(super) struct Portals<'s> {
    pub(super) cx: &'s Context<'s>,
    pub(super) buses: &'s [BusDraft],
    /// Whether there is a broker for MQTT portals.
    pub(super) has_broker: bool,
    pub(super) has_modbus_server: bool,
    /// Where the site has MQTT profiles of its own.
    pub(super) devices_dir: Option<PathBuf>,
    pub(super) taken: Taken,
}

/// What is in use, each with the path of the key that uses it; and the profiles found.
#[derive(Default)]
pub(super) struct Taken {
    pub(super) ids: HashMap<PortalId, String>,
    server_units: HashMap<u8, String>,
    channels: HashMap<(Role, String, u8, u16), String>,
    /// What readers and outputs of MQTT devices send and receive.
    messages: HashMap<(Role, String), String>,
    /// The profile of each unit of each bus, and the part that names it.
    units: HashMap<(String, u8), (String, String)>,
    profiles: Profiles,
}

impl<'s> Portals<'s> {
    pub(super) fn whole_device(&mut self, key: &Key<DeviceTable>) -> Option<PortalDevice> {
        let (log, t) = (self.cx.log, key.get()?);
        let of_parts = [t.modbus.is_set(), t.bus.is_set(), t.unit.is_set(), t.profile.is_set(), t.channel.is_set()];
        if of_parts.contains(&true) {
            let message = "`modbus` is for the parts of a portal: write `reader = { modbus = …, unit = …, profile = … }` and \
                 `output = { … }` instead of `device`, the same unit twice where one device does both";
            key.wrong(log, message);
            return None;
        }
        match (t.mqtt.is_set(), t.modbus_server.is_set()) {
            (true, false) => {
                let profile = t.mqtt.get()?;
                if profile != "native" {
                    let message = format!(
                        "only `native` is one whole device; write `reader = {{ mqtt = \"{profile}\", topic = … }}` and `output = {{ … }}` \
                         instead of `device`, the same topic twice where one device does both"
                    );
                    t.mqtt.wrong(log, message);
                    return None;
                }
                self.needs_broker(&t.mqtt);
                Some(PortalDevice::NativeMqtt)
            }
            (false, true) => {
                t.modbus_server.get()?;
                let unit = t.modbus_server.number(1);
                if !self.has_modbus_server {
                    let message =
                        "nothing listens for controllers; add `[modbus_server]` with `tcp = \"127.0.0.1:1502\"`";
                    t.modbus_server.wrong(log, message);
                }
                if let Some(owner) = self.taken.server_units.insert(unit, key.place.path.clone()) {
                    t.modbus_server.wrong(log, format!("unit {unit} is that of `{owner}`; give each portal its own"));
                }
                Some(PortalDevice::ModbusServer { unit })
            }
            (false, false) | (true, true) => {
                key.wrong(log, "write either `mqtt = \"native\"` or `modbus_server = UNIT`");
                None
            }
        }
    }

    fn needs_broker(&self, key: &Key<String>) {
        if !self.has_broker {
            let message = "no broker is configured; add `[local]` with `urls = [\"mqtt://127.0.0.1:1883\"]`";
            key.wrong(self.cx.log, message);
        }
    }

    /// One part, if it is valid by itself.
    pub(super) fn part(&mut self, key: &Key<PartTable>, role: Role) -> Option<Part> {
        let (log, t) = (self.cx.log, key.get()?);
        match (t.modbus.is_set(), t.mqtt.is_set()) {
            (true, false) => {}
            (false, true) => return self.mqtt_part(key, t, role).map(Part::Mqtt),
            (false, false) | (true, true) => {
                key.wrong(log, "write either `modbus = \"BUS\"` or `mqtt = \"PROFILE\"`");
                return None;
            }
        }
        t.topic.must_not_be_set(log, "only a part with `mqtt` has a topic; leave it out");
        t.unit.need(log, "");
        let unit = self.unit(&t.unit);
        let bus = t.modbus.get();
        let draft = bus.and_then(|bus| self.bus(&t.modbus, bus));
        // Whatever is wrong with the unit and the bus, the profile and its channel are checked too.
        let Text(NotBlank(name)) = t.profile.need(log, "")?;
        let profile = self.profile(&t.profile, draft)?;
        let (channel, has) = (t.channel.number(0), role.channels(&profile));
        if channel >= has {
            let message = match has {
                0 => format!("`{name}` has no {role}; name a profile that has one"),
                _ => format!("`{name}` has {has} {role} channel(s), counted from 0; it has no channel {channel}"),
            };
            t.profile.wrong(log, message);
        }
        let (bus, unit) = (draft.and(bus)?, unit?);
        let here = || (name.clone(), key.place.path.clone());
        let (first, owner) = self.taken.units.entry((bus.clone(), unit)).or_insert_with(here);
        if first != name {
            t.profile.wrong(log, format!(
                "unit {unit} on `{bus}` has the profile `{first}` at `{owner}`, and a device has one: correct the profile or the unit"
            ));
            return None;
        }
        if channel >= has {
            return None;
        }
        let part = ModbusPart { bus: bus.clone(), unit, profile, channel };
        self.claim(key, role, &part, channel).then_some(Part::Modbus(part))
    }

    /// The bus that a part names; one that does not exist is reported.
    fn bus(&self, key: &Key<String>, bus: &str) -> Option<&'s BusDraft> {
        let buses = self.buses;
        let found = buses.iter().find(|draft| draft.id == bus);
        if found.is_none() {
            let known = buses.iter().map(|draft| draft.id.as_str());
            let remedy =
                if buses.is_empty() { format!("add `[[bus]]` with `id = \"{bus}\"`") } else { hint(bus, known) };
            key.wrong(self.cx.log, format!("bus `{bus}` does not exist; {remedy}"));
        }
        found
    }

    /// The profile of a part on this bus. If the bus is not known, it may be any.
    fn profile(&mut self, key: &Key<Text<NotBlank>>, bus: Option<&BusDraft>) -> Option<Arc<Profile>> {
        let Text(NotBlank(name)) = key.get()?;
        let buses = bus.map_or(self.buses, std::slice::from_ref);
        if buses.iter().any(|bus| bus.wrong_dir) {
            return None;
        }
        let mut found = self.taken.profiles.modbus(name, None);
        for bus in buses {
            found = self.taken.profiles.modbus(name, bus.devices_dir.as_deref());
            if found.is_ok() {
                break;
            }
        }
        found.inspect_err(|message| key.wrong(self.cx.log, message)).ok()
    }

    /// A part with MQTT topics of its own.
    fn mqtt_part(&mut self, key: &Key<PartTable>, t: &PartTable, role: Role) -> Option<MqttPart> {
        let log = self.cx.log;
        self.needs_broker(&t.mqtt);
        t.unit.must_not_be_set(log, "only a Modbus device has a unit number; leave it out");
        t.profile.must_not_be_set(log, "the profile of an MQTT device is the value of `mqtt`; leave it out");
        t.topic.need(log, "write the name of the device in its topics, e.g. `topic = \"gate_out_reader\"`");
        let name = t.mqtt.get();
        let found = name.map(|name| self.taken.profiles.mqtt(name, self.devices_dir.as_deref()));
        let profile = found.and_then(|found| found.inspect_err(|message| t.mqtt.wrong(log, message)).ok());
        let topic = t.topic.parse(log, |topic| device_name(topic, profile.as_deref()));
        let (name, profile) = (name?, profile?);
        let (channel, has) = (t.channel.number(0), role.mqtt_channels(&profile));
        if channel >= has {
            let message = match has {
                0 => format!("`{name}` has no {role}; name a profile that has one"),
                _ => format!("`{name}` has {has} {role} channel(s), counted from 0; it has no channel {channel}"),
            };
            t.mqtt.wrong(log, message);
            return None;
        }
        let part = MqttPart { topic: topic?, profile, channel };
        self.claim_message(key, role, &part).then_some(part)
    }

    /// Whether no other portal uses the same message of the same device: the card of one would open both.
    fn claim_message(&mut self, key: &Key<PartTable>, role: Role, part: &MqttPart) -> bool {
        let profile = &part.profile;
        let (message, what) = match role {
            Role::Reader => {
                let Some(place) = profile.reader.as_ref().map(|reader| reader.of(part.names()).place) else {
                    return true;
                };
                let at = place.at.map_or(String::new(), |at| format!(" `{at}`"));
                (format!("`{}`{at}", place.topic), "a card reported there would be presented at both portals")
            }
            Role::Output => {
                let Some(order) = profile.output.as_ref().map(|output| output.of(part.names()).off) else {
                    return true;
                };
                let what = "what one portal opens, the other would close";
                (format!("`{}` `{}`", order.topic, order.payload), what)
            }
            Role::Meter | Role::Inputs => return true,
        };
        let owner = self.taken.messages.insert((role, message.clone()), key.place.path.clone());
        if let Some(owner) = &owner {
            let text = format!(
                "{message} is that of `{owner}` too, and {what}: write the topic or the channel of its own device"
            );
            key.wrong(self.cx.log, text);
        }
        owner.is_none()
    }

    /// Whether no other portal uses this channel. A meter may measure several boxes, and a contact may belong to several portals.
    fn claim(&mut self, key: &Key<PartTable>, role: Role, part: &ModbusPart, channel: u16) -> bool {
        if matches!(role, Role::Meter | Role::Inputs) {
            return true;
        }
        let (bus, unit) = (&part.bus, part.unit);
        let owner = self.taken.channels.insert((role, bus.clone(), unit, channel), key.place.path.clone());
        if let Some(owner) = &owner {
            let message = format!(
                "channel {channel} of unit {unit} on `{bus}` is that of `{owner}`; two portals cannot share it"
            );
            key.wrong(self.cx.log, message);
        }
        owner.is_none()
    }

    /// How many slots a portal has. A power box without `channel` has one for each reader of the device.
    pub(super) fn slots(&mut self, key: &Key<PartTable>, reader: &Part, kind: Option<PortalKind>) -> u16 {
        if kind != Some(PortalKind::PowerBox) || key.get().is_none_or(|t| t.channel.is_set()) {
            return 1;
        }
        let Some(reader) = reader.modbus() else { return 1 };
        let slots = Role::Reader.channels(&reader.profile);
        if slots > SLOTS_MAX {
            key.wrong(self.cx.log, format!("its reader has {slots} slots; a box has at most {SLOTS_MAX}"));
        }
        // The first was claimed with the part.
        let free = (1..slots).all(|channel| self.claim(key, Role::Reader, reader, channel));
        if free { slots } else { 1 }
    }

    /// Reports readers that their portal cannot use, alone or together.
    pub(super) fn readers_together(&self, key: &Key<PartTable>, parts: &Parts, kind: Option<PortalKind>) {
        let log = self.cx.log;
        if kind == Some(PortalKind::PowerBox) && !parts.reports_leaving() {
            let message = match parts.reader.mqtt() {
                None => {
                    "its reader reports when a card comes and not when it leaves; a power box needs a `level` reader, or a `latch` with `repeats_ms`".to_owned()
                }
                Some(part) if part.profile.reader.as_ref().is_some_and(|reader| reader.repeats_ms.is_some()) => format!(
                    "`{}` does not report when a card has left, and a reader that is silent for a while because its network fails looks the \
                     same: the first message afterwards would switch the power on with nobody there; use a reader whose profile has `removed` \
                     beside `repeats_ms`, or a Modbus reader",
                    part.profile.id
                ),
                Some(part) => format!(
                    "`{}` reports a card when it comes and does not repeat it while it is there, so it is never known whether it has left, and \
                     the power would stay on; use a reader whose profile has `repeats_ms` and `removed`, or a Modbus reader",
                    part.profile.id
                ),
            };
            key.wrong(log, message);
        }
        // A portal has one way to read a card: what one slot shows of a card must be comparable with what another shows.
        // An MQTT device has one reader.
        let mut all = parts.readers().map(|reader| (&reader.id, reader.uid.transform()));
        if let Some((first, transform)) = all.next()
            && let Some((other, differs)) = all.find(|(_, other)| *other != transform)
        {
            let gives = |transform: Option<Transform>| transform.map_or("whole UIDs".to_owned(), |t| format!("`{t}`"));
            key.wrong(log, format!(
                "its slots read a card differently: `{first}` gives {}, `{other}` gives {}; give each a portal of its own with \
                 `channel`, or write the same `transform` for all of them in the profile if that is what they do",
                gives(transform),
                gives(differs)
            ));
        }
    }

    fn unit(&self, key: &Key<i64>) -> Option<u8> {
        let number = *key.get()?;
        let (first, last) = (UNIT_MAX + 1, UNIT_SELF - 1);
        let wrong = match u8::try_from(number) {
            Ok(0) => format!(
                "unit 0 is a broadcast, which no device answers; write the number the device is set to, 1 to {UNIT_MAX}, \
                 or {UNIT_SELF} for a device that has none"
            ),
            Ok(unit @ (1..=UNIT_MAX | UNIT_SELF)) => return Some(unit),
            Ok(_) => format!("units {first} to {last} are reserved; write the number the device is set to"),
            Err(_) => format!("a number from 1 to {UNIT_MAX} is wanted, or {UNIT_SELF} for a device that has none"),
        };
        key.wrong(self.cx.log, wrong);
        None
    }
}

/// The name of a device, as its topics have it; of those its profile has, if that is known.
fn device_name(text: &str, profile: Option<&mqtt::Profile>) -> Result<String, String> {
    if text.is_empty() || text.len() > mqtt::TOPIC_BYTES_MAX || text.chars().any(char::is_control) {
        return Err(format!("the name of a device in its topics has 1 to {} bytes", mqtt::TOPIC_BYTES_MAX));
    }
    if text.contains(['+', '#', '{', '}']) || text.starts_with(['/', '$']) || text.ends_with('/') {
        return Err(
            "one device is wanted, without wildcards and slashes around it: its name as in its own settings".to_owned()
        );
    }
    let before = |pattern: &str| pattern.split_once("{topic}").map(|(before, _)| before.to_owned());
    let mut published = profile.into_iter().flat_map(mqtt::Profile::published).filter_map(before);
    let whole = published.find(|before| !before.is_empty() && text.starts_with(before.as_str()));
    if let Some(before) = whole {
        let rest = text.strip_prefix(&before).unwrap_or(text);
        let name = rest.split('/').next().unwrap_or(rest);
        return Err(format!("`{before}` is part of its topics already: write the name of the device alone, `{name}`"));
    }
    Ok(text.to_owned())
}
