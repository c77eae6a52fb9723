//! `[[portal]]`: what the rules need to know about each portal, and what it is wired to: one device, or parts with their profiles.

use std::collections::HashMap;

use serde::Deserialize;

use super::Context;
use super::bus::BusDraft;
use super::parts::{Part, Parts, PortalConfig, PortalDevice, Role, SLOTS_MAX, UNIT_SELF};
use super::profiles::Profiles;
use crate::access::id::{PortalId, Zone};
use crate::access::portal::{Direction, Portal, PortalKind};
use crate::access::transform::Transform;
use crate::profile::diagnostic::hint;
use crate::profile::document::{Key, List, NotBlank, Text, Whole, out_of_range};

/// Shortest hold of a door in milliseconds: under a second nobody gets through (ULC 60839-11-1 asks for 3 s where it is fixed).
const DOOR_HOLD_MS_MIN: i64 = 1_000;
/// Shortest hold of a gate in milliseconds: a turnstile takes a pulse and locks itself.
const GATE_HOLD_MS_MIN: i64 = 100;
/// Longest hold in milliseconds; to keep a portal open for longer, a posture is set.
const HOLD_MS_MAX: i64 = 60_000;
/// Hold in milliseconds when the file names none (ULC 60839-11-1: at least 3 s).
const HOLD_MS_DEFAULT: i64 = 3_000;
/// How long a power box stays on after its card left when the file names no time, in seconds.
const DELAY_OFF_S_DEFAULT: u32 = 15;
/// Rest of a power box between off and on again when the file names none, in seconds: what contactors and compressors need.
const REST_S_DEFAULT: u32 = 3;
/// How long a device that is ordered off may take to confirm it, in milliseconds (wire contract, section 5).
const OFF_CONFIRMED_MS: u32 = 2_000;
/// The same where the gateway drives the relay itself: the order may wait on the line behind others, whose adapter raises it sooner
/// where it did not.
const OFF_ON_A_LINE_MS: u32 = 12_000;
/// Debounce of a gate on Modbus when the file names none, in milliseconds: a card held before a turnstile is read again and again.
/// Doors and boxes have none, and portals on MQTT send one request a presentation (wire contract, section 4).
const GATE_DEBOUNCE_MS: u32 = 5_000;
/// How long a door may be open before an alarm when the file names no time, in seconds (IEC 60839-11-1 Table 2: at least 10 s).
const HELD_OPEN_S_DEFAULT: u32 = 15;
/// Most portals of one gateway.
const PORTALS_MAX: usize = 10_000;
/// Highest number of a Modbus unit that is not reserved (Modbus over serial line V1.02, 2.2).
const UNIT_MAX: u8 = 247;

#[derive(Deserialize)]
pub(super) struct PortalTable {
    id: Key<Text<PortalId>>,
    kind: Key<PortalKind>,
    zone: Key<Text<Zone>>,
    direction: Key<Direction>,
    hold_ms: Key<i64>,
    delay_off_s: Key<Whole<0, 300>>,
    rest_s: Key<Whole<0, 600>>,
    debounce_ms: Key<Whole<0, 60_000>>,
    held_open_s: Key<Whole<0, 3600>>,
    fire_input: Key<bool>,
    device: Key<DeviceTable>,
    reader: Key<PartTable>,
    output: Key<PartTable>,
    meter: Key<PartTable>,
    inputs: Key<PartTable>,
}

#[derive(Deserialize)]
struct DeviceTable {
    mqtt: Key<String>,
    modbus_server: Key<Whole<1, { UNIT_MAX as i64 }>>,
    modbus: Key<serde::de::IgnoredAny>,
    unit: Key<serde::de::IgnoredAny>,
    profile: Key<serde::de::IgnoredAny>,
    channel: Key<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct PartTable {
    modbus: Key<String>,
    mqtt: Key<String>,
    topic: Key<String>,
    unit: Key<Whole<0, { UNIT_SELF as i64 }>>,
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
    pub(super) taken: Taken,
}

/// What is in use, each with the path of the key that uses it; and the profiles found.
#[derive(Default)]
pub(super) struct Taken {
    ids: HashMap<PortalId, String>,
    server_units: HashMap<u8, String>,
    channels: HashMap<(Role, String, u8, u16), String>,
    /// The profile of each unit of each bus, and the part that names it.
    units: HashMap<(String, u8), (String, String)>,
    profiles: Profiles,
}

impl Portals<'_> {
    /// Every `[[portal]]` without a diagnostic.
    pub(super) fn read(mut self, list: &List<PortalTable>) -> Vec<PortalConfig> {
        if list.items().len() > PORTALS_MAX {
            list.wrong(self.cx.log, format!("at most {PORTALS_MAX} portals are served by one gateway"));
        }
        list.items().iter().filter_map(|key| self.portal(key, key.get()?)).collect()
    }

    fn portal(&mut self, key: &Key<PortalTable>, t: &PortalTable) -> Option<PortalConfig> {
        let log = self.cx.log;
        if let Some(Text(id)) = t.id.need(log, "")
            && let Some(owner) = self.taken.ids.insert(id.clone(), key.place.path.clone())
        {
            t.id.wrong(log, format!("`{id}` is the id of `{owner}`; give each portal its own"));
        }
        let kind = t.kind.need(log, "").copied();
        t.zone.need(log, "");
        let shortest = if matches!(kind, Some(PortalKind::Gate) | None) { GATE_HOLD_MS_MIN } else { DOOR_HOLD_MS_MIN };
        let hold_ms = t.hold_ms.or(HOLD_MS_DEFAULT);
        if !(shortest..=HOLD_MS_MAX).contains(&hold_ms) {
            t.hold_ms.wrong(log, out_of_range(shortest, HOLD_MS_MAX));
        }
        if let Some(kind) = kind {
            self.keys_of_kind(t, kind);
        }
        let device = self.device(key, t, kind)?;
        let kind = kind?;
        // A controller that sends requests counts its presentations itself.
        let polled_gate = kind == PortalKind::Gate && matches!(device, PortalDevice::Parts(_));
        let portal = Portal {
            id: t.id.get()?.0.clone(),
            kind,
            zone: t.zone.get()?.0.clone(),
            direction: t.direction.get().copied(),
            hold_ms: u32::try_from(hold_ms).ok()?,
            delay_off_ms: t.delay_off_s.number(DELAY_OFF_S_DEFAULT) * 1000,
            rest_ms: t.rest_s.number(REST_S_DEFAULT) * 1000,
            off_confirmed_ms: if matches!(device, PortalDevice::Parts(_)) {
                OFF_ON_A_LINE_MS
            } else {
                OFF_CONFIRMED_MS
            },
            debounce_ms: t.debounce_ms.number(if polled_gate { GATE_DEBOUNCE_MS } else { 0 }),
            held_open_ms: t.held_open_s.number(HELD_OPEN_S_DEFAULT) * 1000,
            fire_input: t.fire_input.or(true),
        };
        Some(PortalConfig { portal, device })
    }

    /// Reports keys that have no meaning for this kind of portal: their author expects an effect.
    fn keys_of_kind(&self, t: &PortalTable, kind: PortalKind) {
        let log = self.cx.log;
        let only = |of: &str| format!("only a {of} has this key; leave it out, or correct `kind`");
        if kind != PortalKind::Gate {
            t.direction.must_not_be_set(log, &only("gate"));
        }
        if kind == PortalKind::PowerBox {
            let why = "a power box stays on as long as the card sits in it, and `delay_off_s` longer; leave it out, or correct `kind`";
            t.hold_ms.must_not_be_set(log, why);
        } else {
            t.delay_off_s.must_not_be_set(log, &only("power box"));
            t.rest_s.must_not_be_set(log, &only("power box"));
            t.meter.must_not_be_set(log, &only("power box"));
        }
    }

    fn device(&mut self, key: &Key<PortalTable>, t: &PortalTable, kind: Option<PortalKind>) -> Option<PortalDevice> {
        let log = self.cx.log;
        let reader = self.part(&t.reader, Role::Reader);
        let output = self.part(&t.output, Role::Output);
        let meter = self.part(&t.meter, Role::Meter);
        let inputs = self.part(&t.inputs, Role::Inputs);
        let parts = [t.reader.is_set(), t.output.is_set(), t.meter.is_set(), t.inputs.is_set()];
        match (t.device.is_set(), parts) {
            (true, [false, false, false, false]) => return self.whole_device(&t.device),
            (true, _) => {
                t.device
                    .wrong(log, "a portal has either one `device`, or `reader` and `output`; leave one of both out");
            }
            (false, [true, true, ..]) => {
                let reader = reader?;
                let slots = self.slots(&t.reader, &reader, kind);
                let (output, set) = (output?, [t.meter.is_set(), t.inputs.is_set()]);
                if set != [meter.is_some(), inputs.is_some()] {
                    return None;
                }
                let parts = Parts { reader, slots, output, meter, inputs };
                self.readers_together(&t.reader, &parts, kind);
                return Some(PortalDevice::Parts(parts));
            }
            (false, [true, false, ..]) => {
                t.reader
                    .wrong(log, "an `output` is missing beside it: what opens or switches on after a card was read");
            }
            (false, [false, true, ..]) => {
                t.output.wrong(log, "a `reader` is missing beside it: what reads the cards");
            }
            (false, [false, false, ..]) => key.wrong(
                log,
                "what it is wired to is missing: `device = { mqtt = \"native\" }`, `device = { modbus_server = 1 }`, \
                 or `reader` and `output`",
            ),
        }
        None
    }

    fn whole_device(&mut self, key: &Key<DeviceTable>) -> Option<PortalDevice> {
        let (log, t) = (self.cx.log, key.get()?);
        if t.modbus.is_set() || t.unit.is_set() || t.profile.is_set() || t.channel.is_set() {
            let message = "`modbus` is for the parts of a portal: write `reader = { modbus = …, unit = …, profile = … }` and \
                 `output = { … }` instead of `device`, the same unit twice where one device does both";
            key.wrong(log, message);
            return None;
        }
        match (t.mqtt.is_set(), t.modbus_server.is_set()) {
            (true, false) => {
                let profile = t.mqtt.get()?;
                if profile != "native" {
                    t.mqtt.wrong(log, unsupported(profile));
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
    fn part(&mut self, key: &Key<PartTable>, role: Role) -> Option<Part> {
        let (log, t) = (self.cx.log, key.get()?);
        match (t.modbus.is_set(), t.mqtt.is_set()) {
            (true, false) => {}
            (false, true) => {
                t.topic.need(log, "");
                let profile = t.mqtt.get()?;
                t.mqtt.wrong(log, unsupported(profile));
                self.needs_broker(&t.mqtt);
                return None;
            }
            (false, false) | (true, true) => {
                key.wrong(log, "write either `modbus = \"BUS\"` or `mqtt = \"PROFILE\"`");
                return None;
            }
        }
        t.topic.must_not_be_set(log, "only a part with `mqtt` has a topic; leave it out");
        let profile = t.profile.need(log, "");
        t.unit.need(log, "");
        let unit = self.unit(&t.unit);
        let bus = t.modbus.get()?;
        let Some(draft) = self.buses.iter().find(|draft| draft.id == *bus) else {
            let known = self.buses.iter().map(|draft| draft.id.as_str());
            let remedy =
                if self.buses.is_empty() { format!("add `[[bus]]` with `id = \"{bus}\"`") } else { hint(bus, known) };
            t.modbus.wrong(log, format!("bus `{bus}` does not exist; {remedy}"));
            return None;
        };
        let (Text(NotBlank(name)), unit) = (profile?, unit?);
        let here = || (name.clone(), key.place.path.clone());
        let (first, owner) = self.taken.units.entry((bus.clone(), unit)).or_insert_with(here);
        if first != name {
            t.profile.wrong(log, format!(
                "unit {unit} on `{bus}` has the profile `{first}` at `{owner}`, and a device has one: correct the profile or the unit"
            ));
            return None;
        }
        // The `devices_dir` of a bus with diagnostics is not known.
        let found = self.taken.profiles.find(name, draft.config.as_ref()?.devices_dir.as_deref());
        let profile = found.inspect_err(|message| t.profile.wrong(log, message)).ok()?;
        let (channel, has) = (t.channel.number(0), role.channels(&profile));
        if channel >= has {
            let message = match has {
                0 => format!("`{name}` has no {role}; name a profile that has one"),
                _ => format!("`{name}` has {has} {role} channel(s), counted from 0; it has no channel {channel}"),
            };
            t.profile.wrong(log, message);
            return None;
        }
        let part = Part { bus: bus.clone(), unit, profile, channel };
        self.claim(key, role, &part, channel).then_some(part)
    }

    /// Whether no other portal uses this channel. A meter may measure several boxes, and a contact may belong to several portals.
    fn claim(&mut self, key: &Key<PartTable>, role: Role, part: &Part, channel: u16) -> bool {
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
    fn slots(&mut self, key: &Key<PartTable>, reader: &Part, kind: Option<PortalKind>) -> u16 {
        if kind != Some(PortalKind::PowerBox) || key.get().is_none_or(|t| t.channel.is_set()) {
            return 1;
        }
        let slots = Role::Reader.channels(&reader.profile);
        if slots > SLOTS_MAX {
            key.wrong(self.cx.log, format!("its reader has {slots} slots; a box has at most {SLOTS_MAX}"));
        }
        // The first was claimed with the part.
        let free = (1..slots).all(|channel| self.claim(key, Role::Reader, reader, channel));
        if free { slots } else { 1 }
    }

    /// Reports readers that their portal cannot use, alone or together.
    fn readers_together(&self, key: &Key<PartTable>, parts: &Parts, kind: Option<PortalKind>) {
        let log = self.cx.log;
        if kind == Some(PortalKind::PowerBox) && parts.readers().any(|reader| reader.leaves_after_ms().is_none()) {
            let message = "its reader reports when a card comes and not when it leaves; a power box needs a `level` reader, or a `latch` with `repeats_ms`";
            key.wrong(log, message);
        }
        // A portal has one way to read a card: what one slot shows of a card must be comparable with what another shows.
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

    fn unit(&self, key: &Key<Whole<0, { UNIT_SELF as i64 }>>) -> Option<u8> {
        key.get()?;
        let unit: u8 = key.number(0);
        let (first, last) = (UNIT_MAX + 1, UNIT_SELF - 1);
        let wrong = match unit {
            0 => format!(
                "unit 0 is a broadcast, which no device answers; write the number the device is set to, 1 to {UNIT_MAX}, \
                 or {UNIT_SELF} for a device that has none"
            ),
            1..=UNIT_MAX | UNIT_SELF => return Some(unit),
            _ => format!("units {first} to {last} are reserved; write the number the device is set to"),
        };
        key.wrong(self.cx.log, wrong);
        None
    }
}

fn unsupported(profile: &str) -> String {
    format!(
        "the MQTT device `{profile}` is not supported by this version; use a device that is native \
         (`device = {{ mqtt = \"native\" }}`), or Modbus parts"
    )
}
