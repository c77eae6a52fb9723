//! `[[portal]]`: what each portal is to the rules. What it is wired to is read next door, in `device`.

use std::collections::HashMap;

use super::device::{self, Part, PortalDevice, Site, Taken};
use super::whole;
use crate::access::id::{PortalId, Zone};
use crate::access::portal::{Direction, Portal, PortalKind};
use crate::profile::document::Table;

/// Shortest hold of a door in milliseconds: under a second nobody gets through (ULC 60839-11-1 asks for 3 s where it is fixed).
const DOOR_HOLD_MS_MIN: i64 = 1_000;
/// Shortest hold of a gate in milliseconds: a turnstile takes a pulse and locks itself.
const GATE_HOLD_MS_MIN: i64 = 100;
/// Longest hold in milliseconds; who wants a portal open for longer sets a posture.
const HOLD_MS_MAX: i64 = 60_000;
/// Hold in milliseconds when the file does not say (ULC 60839-11-1: at least 3 s).
const HOLD_MS_DEFAULT: u32 = 3_000;
/// Longest time in seconds that a power box stays on after its card left.
const DELAY_OFF_S_MAX: i64 = 300;
/// That time in seconds when the file does not say.
const DELAY_OFF_S_DEFAULT: u32 = 15;
/// Debounce in milliseconds of a gate on Modbus when the file does not say: a card held before a turnstile is read again and again.
/// Doors and boxes have none, and portals on MQTT say themselves what is one presentation (wire contract, section 4).
const GATE_DEBOUNCE_MS: u32 = 5_000;
/// Longest debounce in milliseconds.
const DEBOUNCE_MS_MAX: i64 = 60_000;
/// Longest time after which an open door raises an alarm, in seconds.
const HELD_OPEN_S_MAX: i64 = 3_600;
/// The same when the file does not say (IEC 60839-11-1 Table 2 recommends 10 s at least).
const HELD_OPEN_S_DEFAULT: u32 = 15;
/// Longest rest of a power box between off and on again, in seconds.
const REST_S_MAX: i64 = 600;
/// The same when the file does not say: what contactors and compressors need at least.
const REST_S_DEFAULT: u32 = 3;
/// Most portals of one gateway.
const PORTALS_MAX: usize = 10_000;
/// One portal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortalConfig {
    /// What the rules need to know of it.
    pub portal: Portal,
    /// What it is wired to.
    pub device: PortalDevice,
}

/// Reads every `[[portal]]`; `None` for one with diagnostics.
pub(super) fn read_all(top: &mut Table<'_>, site: &Site<'_>) -> Vec<Option<PortalConfig>> {
    let (mut ids, mut taken) = (HashMap::new(), Taken::default());
    let portals = top.tables("portal", |table| read(table, site, &mut ids, &mut taken));
    if portals.len() > PORTALS_MAX {
        top.diagnostic_at("portal", format!("at most {PORTALS_MAX} portals are served by one gateway"));
    }
    portals
}

fn read(
    table: &mut Table<'_>,
    site: &Site<'_>,
    ids: &mut HashMap<PortalId, String>,
    taken: &mut Taken,
) -> Option<PortalConfig> {
    let id = table.need("id").and_then(|value| {
        let id: PortalId = value.parsed(str::parse)?;
        match ids.get(&id) {
            Some(owner) => {
                value.diagnostic(format!("`{id}` is the id of `{owner}`; give each portal its own"));
                None
            }
            None => {
                ids.insert(id.clone(), table.path().to_owned());
                Some(id)
            }
        }
    });
    let kinds = PortalKind::ALL.map(|kind| (kind.as_str(), kind));
    let kind = table.need("kind").and_then(|value| value.choice(&kinds));
    let zone = table.need("zone").and_then(|value| value.parsed(str::parse::<Zone>));
    let directions = [Direction::In, Direction::Out].map(|d| (d.as_str(), d));
    let direction = table.get("direction").map(|value| value.choice(&directions));
    let shortest = match kind {
        Some(PortalKind::Gate) | None => GATE_HOLD_MS_MIN,
        Some(PortalKind::Door | PortalKind::PowerBox) => DOOR_HOLD_MS_MIN,
    };
    let hold_ms = whole(table, "hold_ms", shortest..=HOLD_MS_MAX, HOLD_MS_DEFAULT);
    let delay_off_s = whole(table, "delay_off_s", 0..=DELAY_OFF_S_MAX, DELAY_OFF_S_DEFAULT);
    let debounce_ms = table.has("debounce_ms").then(|| whole(table, "debounce_ms", 0..=DEBOUNCE_MS_MAX, 0));
    let held_open_s: u32 = whole(table, "held_open_s", 0..=HELD_OPEN_S_MAX, HELD_OPEN_S_DEFAULT);
    let rest_s: u32 = whole(table, "rest_s", 0..=REST_S_MAX, REST_S_DEFAULT);
    let fire_input = table.flag("fire_input", true);
    if let Some(kind) = kind {
        keys_of_kind(table, kind);
    }
    let device = device::read(table, kind, site, taken)?;
    Some(PortalConfig {
        portal: Portal {
            id: id?,
            kind: kind?,
            zone: zone?,
            direction: super::flat(direction)?,
            hold_ms,
            delay_off_ms: delay_off_s * 1000,
            debounce_ms: debounce_ms.unwrap_or(default_debounce_ms(kind?, &device)),
            held_open_ms: held_open_s * 1000,
            rest_ms: rest_s * 1000,
            fire_input,
        },
        device,
    })
}

fn default_debounce_ms(kind: PortalKind, device: &PortalDevice) -> u32 {
    // A controller that asks counts its presentations itself.
    let polled = match device {
        PortalDevice::NativeMqtt
        | PortalDevice::ModbusServer { .. }
        | PortalDevice::Parts { reader: Part::Mqtt(_), .. } => false,
        PortalDevice::Parts { reader: Part::Modbus(_), .. } => true,
    };
    match kind {
        PortalKind::Gate if polled => GATE_DEBOUNCE_MS,
        PortalKind::Gate | PortalKind::Door | PortalKind::PowerBox => 0,
    }
}

/// A key that means nothing for its kind of portal is a diagnostic: whoever wrote it expects something of it.
fn keys_of_kind(table: &Table<'_>, kind: PortalKind) {
    let foreign: &[(&str, &str)] = match kind {
        PortalKind::Gate => &[
            ("delay_off_s", "only a power box has one"),
            ("rest_s", "only a power box has one"),
            ("meter", "only a power box has one"),
        ],
        PortalKind::Door => &[
            ("direction", "only a gate has one"),
            ("delay_off_s", "only a power box has one"),
            ("rest_s", "only a power box has one"),
            ("meter", "only a power box has one"),
        ],
        PortalKind::PowerBox => &[
            ("direction", "only a gate has one"),
            ("hold_ms", "a power box stays on as long as the card sits in it; `delay_off_s` says how much longer"),
        ],
    };
    for (key, why) in foreign.iter().filter(|(key, _)| table.has(key)) {
        table.diagnostic_at(key, format!("{why}; leave it out, or correct `kind`"));
    }
}
