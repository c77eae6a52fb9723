//! The tables of a profile that the others refer to: `[link]`, `[points]`, `[[poll]]`; and a write as the other tables describe it.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::diagnostic::nearest;
use super::document::{Key, List, Log, Place, Whole, out_of_range};
use super::points::{Link, Order, Point, PointType, Poll, Write, plan};
use crate::wire::modbus::{COIL_ON, Space};

/// The last address on the wire.
const ADDRESS_MAX: i64 = 0xFFFF;
/// Largest distance between channels, in registers or bits.
const STRIDE_MAX: i64 = 1024;
/// Number of channels of a device.
pub(super) type Channels = Whole<1, 256>;
/// What a register holds.
pub(super) type Register = Whole<0, 0xFFFF>;

#[derive(Deserialize)]
pub(super) struct LinkTable {
    address_base: Key<Whole<0, 1>>,
    byte_order: Key<Order>,
    word_order: Key<Order>,
    read_max: Key<Whole<1, 125>>,
    reply_ms: Key<Whole<1, 10_000>>,
    factory: Key<String>,
}

#[derive(Deserialize)]
pub(super) struct PointTable {
    space: Key<Space>,
    address: Key<i64>,
    #[serde(rename = "type")]
    kind: Key<PointType>,
    registers: Key<Whole<1, 32>>,
    bit: Key<Whole<0, 15>>,
    byte_order: Key<Order>,
    word_order: Key<Order>,
    scale: Key<f64>,
    unit: Key<String>,
    invalid: List<i64>,
    channels: Key<Channels>,
    stride: Key<i64>,
}

#[derive(Deserialize)]
pub(super) struct PollTable {
    name: Key<String>,
    every_ms: Key<Whole<20, 3_600_000>>,
    atomic: Key<bool>,
    max_gap: Key<Whole<0, 125>>,
    points: List<String>,
}

#[derive(Deserialize)]
pub(super) struct WriteTable {
    pub(super) space: Key<Space>,
    pub(super) address: Key<i64>,
    pub(super) value: Key<Register>,
    pub(super) multiple: Key<bool>,
}

/// What the tables of readers, outputs, inputs and meters refer to: the points, the polls, and the base of addresses.
pub(super) struct Scope<'d> {
    pub(super) log: &'d Log,
    pub(super) link: Link,
    pub(super) points: Vec<Point>,
    pub(super) polls: Vec<Poll>,
    byte_order: Option<Order>,
    word_order: Option<Order>,
}

impl<'d> Scope<'d> {
    pub(super) fn new(
        log: &'d Log,
        link: &Key<LinkTable>,
        points: &Key<BTreeMap<String, Key<PointTable>>>,
        polls: &List<PollTable>,
    ) -> Self {
        let remedy = "add `[link]` with `address_base = 0`, or 1 if the manual calls the first register 1";
        let table = link.need(log, remedy);
        if let Some(table) = table {
            table.address_base.need(log, "write 0 if the manual calls the first register 0, or 1 if it calls it 1");
        }
        // A wrong order counts as the usual one, so that its diagnostic causes no others.
        let order =
            |of: fn(&LinkTable) -> &Key<Order>| table.map(of).filter(|key| key.is_set()).map(|key| key.or(Order::Big));
        let mut scope = Self {
            log,
            link: Link {
                address_base: table.map_or(0, |t| t.address_base.number(0)),
                read_max: table.map_or(125, |t| t.read_max.number(125)),
                reply_ms: table.map_or(200, |t| t.reply_ms.number(200)),
                factory: table.map(|t| t.factory.text()).unwrap_or_default(),
            },
            points: Vec::new(),
            polls: Vec::new(),
            byte_order: order(|t| &t.byte_order),
            word_order: order(|t| &t.word_order),
        };
        for (name, key) in points.get().into_iter().flatten() {
            let point = key.get().map(|table| scope.read_point(name, table, &key.place));
            scope.points.extend(point);
        }
        for key in polls.items() {
            let poll = key.get().map(|table| scope.read_poll(table));
            scope.polls.extend(poll);
        }
        scope
    }

    /// The point that `key` names.
    pub(super) fn point(&self, key: &Key<String>) -> Option<&Point> {
        let name = key.get()?;
        let found = self.points.iter().find(|p| p.name == *name);
        if found.is_none() {
            let near = nearest(name, self.points.iter().map(|p| p.name.as_str()));
            let hint = near.map_or("declare it in `[points]`".to_owned(), |near| format!("did you mean `{near}`?"));
            key.wrong(self.log, format!("no point is called `{name}`; {hint}"));
        }
        found
    }

    /// The point that `key` names; reported if no poll reads it.
    pub(super) fn polled(&self, key: &Key<String>) -> Option<Point> {
        let point = self.point(key)?;
        if !self.polls.iter().any(|poll| poll.points.contains(&point.name)) {
            let message = format!(
                "no `[[poll]]` reads `{}`, so its value is never known: add it to the `points` of one",
                point.name
            );
            key.wrong(self.log, message);
        }
        Some(point.clone())
    }

    fn address(&self, key: &Key<i64>) -> u16 {
        let Some(written) = key.need(self.log, "write the first register or bit as the manual counts it") else {
            return 0;
        };
        let base = self.link.address_base;
        let (first, last) = (i64::from(base), i64::from(base) + ADDRESS_MAX);
        if (first..=last).contains(written) {
            return u16::try_from(written - first).unwrap_or(0);
        }
        key.wrong(self.log, match (base, *written) {
            (0, 0x1_0000) => "the last address is 65535, because `address_base` is 0; write `address_base = 1` if the manual counts from 1".to_owned(),
            (1, 0) => "the first address is 1, because `address_base` is 1; write `address_base = 0` if the manual counts from 0".to_owned(),
            (..) => out_of_range(first, last),
        });
        0
    }

    fn read_point(&self, name: &str, t: &PointTable, place: &Place) -> Point {
        let log = self.log;
        let space =
            t.space.need(log, "write `coil`, `discrete`, `holding` or `input`").copied().unwrap_or(Space::Holding);
        let address = self.address(&t.address);
        let known = t.kind.need(log, "write what it holds, e.g. `type = \"u16\"`").copied();
        let kind = known.unwrap_or(PointType::U16);
        let bytes = matches!(kind, PointType::Bytes | PointType::ByteEach);
        if bytes {
            t.registers.need(log, "write how many registers the bytes fill, e.g. `registers = 5`");
        } else {
            t.registers.must_not_be_set(log, "only `bytes` and `byte_each` have a number of registers; that of the other types is fixed: leave `registers` out");
        }
        let registers = match kind {
            PointType::Bool | PointType::U16 | PointType::I16 => 1,
            PointType::U32 | PointType::I32 | PointType::F32 => 2,
            // Where it is missing, as long as the longest UID, so that its diagnostic causes no others.
            PointType::Bytes => t.registers.number(5),
            PointType::ByteEach => t.registers.number(10),
        };
        if space.is_bits() || kind != PointType::Bool {
            t.bit.must_not_be_set(log, "`bit` is for a `bool` in a register: leave it out, or correct `type`");
        }
        if space.is_bits() && kind != PointType::Bool {
            t.kind.wrong(log, format!("a {} is one bit: its type is `bool`", space.as_str()));
        }
        let order = |name: &str, own: &Key<Order>, of_link: Option<Order>, matters: bool| {
            if matters && !own.is_set() && of_link.is_none() {
                let message = format!("write `{name} = \"big\"` or `\"little\"` here or in `[link]`: devices differ");
                t.kind.wrong(log, message);
            }
            own.get().copied().or(of_link).unwrap_or(Order::Big)
        };
        let byte_order = order("byte_order", &t.byte_order, self.byte_order, kind == PointType::Bytes);
        let word_order = order("word_order", &t.word_order, self.word_order, registers > 1);
        let closest = i64::from(registers);
        let stride = t.stride.or(closest);
        if !(closest..=STRIDE_MAX).contains(&stride) {
            t.stride.wrong(log, out_of_range(closest, STRIDE_MAX));
        }
        if t.scale.get().is_some_and(|scale| *scale == 0.0) {
            let message =
                "every value would be 0; write the factor from the raw number to the unit, e.g. `scale = 0.1`";
            t.scale.wrong(log, message);
        }
        let point = Point {
            name: name.to_owned(),
            space,
            address,
            registers,
            kind,
            bit: t.bit.get().map(|_| t.bit.number(0)),
            byte_order,
            word_order,
            scale: t.scale.or(1.0),
            unit: t.unit.get().cloned(),
            invalid: if known.is_some() { self.invalid(&t.invalid, kind) } else { Vec::new() },
            channels: t.channels.number(1),
            stride: u16::try_from(stride).unwrap_or(registers),
        };
        if point.end() > 0x1_0000 {
            let remedy = "the point ends beyond the last address, 65535: correct `address`, `channels` or `stride`";
            let place = if t.address.is_set() { &t.address.place } else { place };
            log.add(place.clone(), remedy);
        }
        point
    }

    /// Raw numbers that mean "nothing"; the type must be able to hold them.
    fn invalid(&self, list: &List<i64>, kind: PointType) -> Vec<i64> {
        let Some((min, max)) = kind.whole() else {
            let why = "only `u16`, `i16`, `u32` and `i32` have numbers that mean nothing; leave it out";
            list.must_not_be_set(self.log, why);
            return Vec::new();
        };
        for item in list.items().iter().filter(|item| item.get().is_some_and(|raw| !(min..=max).contains(raw))) {
            item.wrong(self.log, out_of_range(min, max));
        }
        list.values().copied().collect()
    }

    fn read_poll(&self, t: &PollTable) -> Poll {
        let log = self.log;
        let example = "write what is polled, e.g. `name = \"status\"`";
        if let Some(name) = t.name.need(log, example) {
            if name.trim().is_empty() {
                t.name.wrong(log, format!("this is empty; {example}"));
            } else if self.polls.iter().any(|poll| poll.name == *name) {
                let message =
                    format!("`{name}` is the name of an earlier poll, and only one would be sent; give each its own");
                t.name.wrong(log, message);
            }
        }
        t.every_ms.need(log, "write how often it is polled, e.g. `every_ms = 200`");
        if t.points
            .need(log, "name points that are read together, e.g. `points = [\"relay\"]`")
            .is_some_and(Vec::is_empty)
        {
            t.points.wrong(log, "a poll reads at least one point: name it, or leave the poll out");
        }
        let mut points: Vec<&Point> = Vec::new();
        for key in t.points.items() {
            let Some(point) = self.point(key) else { continue };
            if points.iter().any(|p| p.name == point.name) {
                key.wrong(log, format!("`{}` is named twice; once is enough", point.name));
            } else {
                points.push(point);
            }
        }
        let atomic = t.atomic.or(false);
        let reads = plan(&points, self.link.read_max, t.max_gap.number(0));
        if atomic && reads.len() > 1 {
            let all = reads.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
            let message = format!(
                "this needs {} requests ({all}), and an atomic poll is one request: raise `max_gap` or `read_max`, or split it",
                reads.len()
            );
            t.atomic.wrong(log, message);
        }
        let points = points.into_iter().map(|p| p.name.clone()).collect();
        Poll { name: t.name.text(), every_ms: t.every_ms.number(1000), points, atomic, reads }
    }

    /// A write; without a value it writes `default`, or else the value that switches on.
    pub(super) fn write(&self, t: &WriteTable, default: Option<u16>) -> Write {
        let log = self.log;
        let space = t.space.need(log, "write `space = \"coil\"` or `\"holding\"`").copied().unwrap_or(Space::Coil);
        if !space.is_writable() {
            t.space.wrong(log, format!("`{}` cannot be written; write `coil` or `holding`", space.as_str()));
        }
        let address = self.address(&t.address);
        let value = t.value.number(default.unwrap_or(if space == Space::Coil { COIL_ON } else { 1 }));
        let multiple = t.multiple.or(false);
        if multiple && space.is_bits() && ![0, 1, COIL_ON].contains(&value) {
            t.value.wrong(log, "FC 15 carries bits: write 0 or 1, or leave `multiple` out");
        }
        Write { space, address, value, multiple }
    }
}
