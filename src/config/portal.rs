//! `[[portal]]`: what the rules need to know about each portal, and what it is wired to (`wiring.rs`).

use std::ops::RangeInclusive;
use std::str::FromStr;

use serde::Deserialize;

use super::parts::{Part, Parts, PortalConfig, PortalDevice, Role};
use super::policy::{TIMED_S_MAX, seconds};
use super::wiring::{DeviceTable, PartTable, Portals};
use crate::access::id::{PortalId, ScheduleName, Zone};
use crate::access::portal::{Assurance, Direction, Portal, PortalKind};
use crate::profile::diagnostic::hint;
use crate::profile::document::{Key, List, Text, Whole, out_of_range};

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
/// Highest power at which a box may be set to trip, in watts: more than any room's line carries.
const LOAD_W_MAX: i64 = 100_000;
/// How long an overload lasts before a box trips when the file names no time, in seconds: longer than a motor's start.
const OVERLOAD_S_DEFAULT: u32 = 5;
/// Most ranges of power that are allowed at one box.
const ALLOWED_STEPS_MAX: usize = 16;
/// Most portals of one gateway.
const PORTALS_MAX: usize = 10_000;
/// Longest time between two cards that open together, in seconds: the two people are at the portal.
const TWO_CARD_S_MAX: i64 = 600;
/// That time when the file names none, in seconds.
const TWO_CARD_S_DEFAULT: u32 = 20;
/// Most portals with which one is interlocked.
const INTERLOCK_MAX: usize = 16;
#[derive(Deserialize)]
pub(super) struct PortalTable {
    id: Key<Text<PortalId>>,
    kind: Key<PortalKind>,
    zone: Key<Text<Zone>>,
    direction: Key<Direction>,
    hold_ms: Key<i64>,
    extended_hold_ms: Key<i64>,
    delay_off_s: Key<Whole<0, 300>>,
    rest_s: Key<Whole<0, 600>>,
    debounce_ms: Key<Whole<0, 60_000>>,
    held_open_s: Key<Whole<0, 3600>>,
    fire_input: Key<bool>,
    free_access: Key<Text<ScheduleName>>,
    hours: Key<Text<ScheduleName>>,
    power_hours: Key<Text<ScheduleName>>,
    overload_w: Key<Whole<1, LOAD_W_MAX>>,
    overload_s: Key<Whole<0, 600>>,
    restricted_step_w: Key<Whole<1, LOAD_W_MAX>>,
    allowed_steps_w: List<Text<Watts>>,
    min_assurance: Key<Assurance>,
    anti_passback_timed_s: Key<Whole<0, TIMED_S_MAX>>,
    two_card: Key<bool>,
    two_card_s: Key<Whole<1, TWO_CARD_S_MAX>>,
    interlock: List<Text<PortalId>>,
    first_card: Key<bool>,
    device: Key<DeviceTable>,
    reader: Key<PartTable>,
    output: Key<PartTable>,
    meter: Key<PartTable>,
    inputs: Key<PartTable>,
}

impl Portals<'_> {
    /// Every `[[portal]]` without a diagnostic.
    pub(super) fn read(mut self, list: &List<PortalTable>) -> Vec<PortalConfig> {
        if list.items().len() > PORTALS_MAX {
            list.wrong(self.cx.log, format!("at most {PORTALS_MAX} portals are served by one gateway"));
        }
        list.values().for_each(|table| self.interlock(table, list));
        let found = list.items().iter().filter_map(|key| Some((key.get()?, self.portal(key, key.get()?)?)));
        let found: Vec<_> = found.collect();
        self.shared_meters(&found);
        found.into_iter().map(|(_, portal)| portal).collect()
    }

    /// Reports portals that cannot be interlocked with this one.
    fn interlock(&self, t: &PortalTable, list: &List<PortalTable>) {
        let log = self.cx.log;
        if t.interlock.items().len() > INTERLOCK_MAX {
            t.interlock.wrong(log, format!("at most {INTERLOCK_MAX} portals are interlocked with one"));
        }
        for key in t.interlock.items() {
            let Some(Text(other)) = key.get() else { continue };
            let id_of = |t: &PortalTable| t.id.get().map(|Text(id)| id.clone());
            let named = list.values().find(|table| id_of(table).as_ref() == Some(other));
            match named.and_then(|table| table.kind.get()) {
                _ if id_of(t).as_ref() == Some(other) => {
                    key.wrong(log, "is this portal itself; name the other doors of the interlock");
                }
                Some(PortalKind::PowerBox) => {
                    key.wrong(log, format!("`{other}` is a power box; name gates and doors"));
                }
                None if named.is_none() => {
                    let known: Vec<_> = list.values().filter_map(id_of).collect();
                    let hint = hint(other.as_str(), known.iter().map(PortalId::as_str));
                    key.wrong(log, format!("no portal `{other}` is configured; {hint}"));
                }
                Some(PortalKind::Gate | PortalKind::Door) | None => {}
            }
        }
    }

    fn portal(&mut self, key: &Key<PortalTable>, t: &PortalTable) -> Option<PortalConfig> {
        let log = self.cx.log;
        if let Some(Text(id)) = t.id.need(log, "")
            // Each names the first, so that the same id in a thousand rows is one diagnostic.
            && let owner = self.taken.ids.entry(id.clone()).or_insert_with(|| key.place.path.clone())
            && *owner != key.place.path
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
        let extended_hold_ms = t.extended_hold_ms.or((2 * hold_ms.clamp(0, HOLD_MS_MAX)).min(HOLD_MS_MAX));
        if t.extended_hold_ms.is_set() && !(hold_ms..=HOLD_MS_MAX).contains(&extended_hold_ms) {
            t.extended_hold_ms.wrong(log, format!("{}; the least is `hold_ms`", out_of_range(hold_ms, HOLD_MS_MAX)));
        }
        if let Some(kind) = kind {
            self.keys_of_kind(t, kind);
        }
        if !t.overload_w.is_set() {
            t.overload_s.must_not_be_set(log, "`overload_w` is missing beside it: the power above which the box trips");
        }
        self.allowed_steps(t);
        if !t.two_card.or(false) {
            t.two_card_s.must_not_be_set(log, "`two_card = true` is missing beside it: one card opens here");
        }
        if t.first_card.or(false) && !t.free_access.is_set() {
            t.first_card
                .wrong(log, "`free_access` is missing beside it: the schedule whose windows a first card begins");
        }
        let device = self.device(key, t, kind)?;
        let kind = kind?;
        if kind == PortalKind::PowerBox {
            self.measures(t, &device);
        }
        // Whoever sends messages, a controller or a reader, counts its presentations itself.
        let is_polled = matches!(&device, PortalDevice::Parts(parts) if matches!(parts.reader, Part::Modbus(_)));
        let polled_gate = kind == PortalKind::Gate && is_polled;
        let (id, zone) = (t.id.get()?.0.clone(), t.zone.get()?.0.clone());
        let portal = Portal {
            direction: t.direction.get().copied(),
            hold_ms: u32::try_from(hold_ms).ok()?,
            extended_hold_ms: u32::try_from(extended_hold_ms).ok()?,
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
            free_access: named(&t.free_access),
            hours: named(&t.hours),
            power_hours: named(&t.power_hours),
            overload_w: t.overload_w.get().map(|_| t.overload_w.number(0)),
            overload_ms: t.overload_s.number(OVERLOAD_S_DEFAULT) * 1000,
            restricted_step_w: t.restricted_step_w.get().map(|_| t.restricted_step_w.number(0)),
            allowed_steps_w: t.allowed_steps_w.values().map(|Text(Watts(range))| range.clone()).collect(),
            min_assurance: t.min_assurance.or(Assurance::Uid),
            anti_passback_timed_ms: seconds(&t.anti_passback_timed_s).unwrap_or(0),
            two_card_ms: if t.two_card.or(false) { t.two_card_s.number(TWO_CARD_S_DEFAULT) * 1000 } else { 0 },
            interlock: t.interlock.values().map(|Text(id)| id.clone()).collect(),
            first_card: t.first_card.or(false),
            ..Portal::new(id, kind, zone)
        };
        Some(PortalConfig { portal, device })
    }

    /// Reports keys that have no meaning for this kind of portal: their author expects an effect.
    fn keys_of_kind(&self, t: &PortalTable, kind: PortalKind) {
        let log = self.cx.log;
        let only = |of: &str| format!("only a {of} has this key; leave it out, or correct `kind`");
        if kind != PortalKind::Gate {
            t.direction.must_not_be_set(log, &only("gate"));
            t.anti_passback_timed_s.must_not_be_set(log, &only("gate"));
        }
        if kind == PortalKind::PowerBox {
            let why = "a power box stays on as long as the card sits in it, and `delay_off_s` longer; leave it out, or correct `kind`";
            t.hold_ms.must_not_be_set(log, why);
            t.extended_hold_ms.must_not_be_set(log, why);
            t.free_access.must_not_be_set(log, &only("gate or door"));
            t.hours.must_not_be_set(log, &only("gate or door"));
            t.two_card.must_not_be_set(log, &only("gate or door"));
            t.interlock.must_not_be_set(log, &only("gate or door"));
            t.first_card.must_not_be_set(log, &only("gate or door"));
        } else {
            t.delay_off_s.must_not_be_set(log, &only("power box"));
            t.rest_s.must_not_be_set(log, &only("power box"));
            t.power_hours.must_not_be_set(log, &only("power box"));
            t.meter.must_not_be_set(log, &only("power box"));
            t.overload_w.must_not_be_set(log, &only("power box"));
            t.overload_s.must_not_be_set(log, &only("power box"));
            t.restricted_step_w.must_not_be_set(log, &only("power box"));
            t.allowed_steps_w.must_not_be_set(log, &only("power box"));
        }
    }

    /// Reports steps of power that are allowed where they are not restricted.
    fn allowed_steps(&self, t: &PortalTable) {
        let log = self.cx.log;
        if t.allowed_steps_w.items().len() > ALLOWED_STEPS_MAX {
            t.allowed_steps_w.wrong(log, format!("at most {ALLOWED_STEPS_MAX} ranges are allowed at one box"));
        }
        if !t.restricted_step_w.is_set() {
            let message =
                "`restricted_step_w` is missing beside it: the rise of power from which on only these are allowed";
            return t.allowed_steps_w.must_not_be_set(log, message);
        }
        let step_w: u32 = t.restricted_step_w.number(0);
        for key in t.allowed_steps_w.items() {
            let Some(Text(Watts(range))) = key.get() else { continue };
            if *range.end() <= step_w {
                key.wrong(
                    log,
                    format!("is allowed anyway: only rises above `restricted_step_w` = {step_w} trip the box"),
                );
            }
        }
    }

    /// Reports loads at which a box shall trip and whose meter measures other boxes, too: it cannot be known which of them a reading
    /// is of, so that the box would never trip.
    fn shared_meters(&self, found: &[(&PortalTable, PortalConfig)]) {
        fn meter(portal: &PortalConfig) -> Option<&Part> {
            portal.device.parts()?.meter.as_ref()
        }
        for (t, portal) in found {
            let Some(own) = meter(portal) else { continue };
            let others = found.iter().map(|(_, other)| other).filter(|other| other.portal.id != portal.portal.id);
            let others: Vec<_> =
                others.filter(|other| meter(other) == Some(own)).map(|p| format!("`{}`", p.portal.id)).collect();
            if others.is_empty() {
                continue;
            }
            let others = others.join(", ");
            let message = format!(
                "its meter measures {others} too, so it is not known whose load a reading is: give the box a meter of its own, or leave this out"
            );
            t.overload_w.must_not_be_set(self.cx.log, &message);
            t.restricted_step_w.must_not_be_set(self.cx.log, &message);
        }
    }

    /// Reports loads at which a box shall trip and that nothing measures.
    fn measures(&self, t: &PortalTable, device: &PortalDevice) {
        let has_meter = match device {
            PortalDevice::NativeMqtt => true,
            PortalDevice::ModbusServer { .. } => false,
            PortalDevice::Parts(parts) => parts.meter.is_some(),
        };
        if !has_meter {
            let message = "nothing measures the power of this box: add a `meter`, or leave it out";
            t.overload_w.must_not_be_set(self.cx.log, message);
            t.restricted_step_w.must_not_be_set(self.cx.log, message);
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
}

/// A range of power in whole watts, written `1100-1300`; both ends are part of it.
#[derive(Debug)]
struct Watts(RangeInclusive<u32>);

impl FromStr for Watts {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let watts = |text: &str| u32::from_str(text).ok().filter(|watts| (1..=LOAD_W_MAX).contains(&i64::from(*watts)));
        let range = text.split_once('-').and_then(|(from, to)| Some(watts(from)?..=watts(to)?));
        let range = range.filter(|range| !range.is_empty());
        range
            .map(Self)
            .ok_or_else(|| format!("a range of watts is wanted, such as `1100-1300`, from 1 to {LOAD_W_MAX}"))
    }
}

fn named(key: &Key<Text<ScheduleName>>) -> Option<ScheduleName> {
    key.get().map(|Text(name)| name.clone())
}
