//! The first half of a profile: how to talk to the device, its points, and what is asked together.

use crate::profile::document::{Table, Value};
use crate::wire::modbus::Space;
use crate::wire::spelling::nearest;

use super::plan;
use super::{Link, Order, Point, PointType, Poll};

/// Most registers a point of bytes may have.
const BYTES_REGISTERS_MAX: i64 = 32;
/// Longest time between two polls, in milliseconds.
const EVERY_MS_MAX: i64 = 3_600_000;
/// The last address on the wire.
const ADDRESS_MAX: i64 = 0xFFFF;
/// Most channels of a device.
pub(super) const CHANNELS_MAX: i64 = 256;

pub(super) const SPACES: [(&str, Space); 4] =
    [("coil", Space::Coil), ("discrete", Space::Discrete), ("holding", Space::Holding), ("input", Space::Input)];
pub(super) const TYPES: [(&str, PointType); 8] = [
    ("bool", PointType::Bool),
    ("u16", PointType::U16),
    ("i16", PointType::I16),
    ("u32", PointType::U32),
    ("i32", PointType::I32),
    ("f32", PointType::F32),
    ("bytes", PointType::Bytes),
    ("byte_each", PointType::ByteEach),
];
pub(super) const ORDERS: [(&str, Order); 2] = [("big", Order::Big), ("little", Order::Little)];

/// What the rest of the file needs to be read: the base of its addresses, the byte orders and the points.
pub(super) struct Scope {
    base: u16,
    read_max: u16,
    byte_order: Option<Order>,
    word_order: Option<Order>,
    pub(super) points: Vec<Point>,
}

impl Scope {
    pub(super) fn new() -> Self {
        Self { base: 0, read_max: 125, byte_order: None, word_order: None, points: Vec::new() }
    }

    pub(super) fn point(&self, name: &Value<'_>) -> Option<Point> {
        let text = name.text()?;
        let found = self.points.iter().find(|p| p.name == text);
        if found.is_none() {
            let near = nearest(&text, self.points.iter().map(|p| p.name.as_str()));
            let hint = near.map_or("declare it in `[points]`".to_owned(), |near| format!("did you mean `{near}`?"));
            name.diagnostic(format!("no point is called `{text}`; {hint}"));
        }
        found.cloned()
    }

    pub(super) fn address(&self, table: &mut Table<'_>) -> u16 {
        let Some(value) = table.need_or("address", "write the first register or bit as the manual counts it") else {
            return 0;
        };
        let Some(written) = value.number(i64::MIN..i64::MAX) else { return 0 };
        let (first, last) = (i64::from(self.base), i64::from(self.base) + ADDRESS_MAX);
        if (first..=last).contains(&written) {
            return small(written - first);
        }
        value.diagnostic(match (self.base, written) {
            (0, 0x1_0000) => "the last address is 65535, because `address_base` is 0; write `address_base = 1` if the manual counts from 1".to_owned(),
            (1, 0) => "the first address is 1, because `address_base` is 1; write `address_base = 0` if the manual counts from 0".to_owned(),
            (..) => format!("a whole number from {first} to {last} is wanted"),
        });
        0
    }
}

pub(super) fn read_link(t: &mut Table<'_>, scope: &mut Scope) -> Link {
    if let Some(base) = t
        .need_or("address_base", "write 0 if the manual calls the first register 0, or 1 if it calls it 1")
        .and_then(|v| v.number(0..2))
    {
        scope.base = u16::from(base == 1);
    }
    scope.byte_order = read_order(t, "byte_order");
    scope.word_order = read_order(t, "word_order");
    scope.read_max = small(t.number("read_max", 1..126, 125));
    Link {
        address_base: scope.base,
        read_max: scope.read_max,
        reply_ms: whole(t.number("reply_ms", 1..10_001, 200)),
        factory: t.text("factory").unwrap_or_default(),
    }
}

/// An order, if one is said. One that is none is told here and taken for the usual, so that nothing follows from it.
fn read_order(t: &mut Table<'_>, key: &'static str) -> Option<Order> {
    t.get(key).map(|v| v.choice(&ORDERS).unwrap_or(Order::Big))
}

pub(super) fn read_points(t: &mut Table<'_>, scope: &Scope) -> Vec<Point> {
    let read_one = |(name, value): (String, Value<'_>)| value.table(|t| read_point(t, name, scope));
    t.entries().into_iter().filter_map(read_one).collect()
}

fn read_point(t: &mut Table<'_>, name: String, scope: &Scope) -> Point {
    let space = t
        .need_or("space", "write `coil`, `discrete`, `holding` or `input`")
        .and_then(|v| v.choice(&SPACES))
        .unwrap_or(Space::Holding);
    let address = scope.address(t);
    let kind = t.need_or("type", "write what it holds, e.g. `type = \"u16\"`").and_then(|v| v.choice(&TYPES));
    let is_known = kind.is_some();
    let kind = kind.unwrap_or(PointType::U16);
    let bytes = matches!(kind, PointType::Bytes | PointType::ByteEach);
    if bytes {
        t.need_or("registers", "write how many registers the bytes fill, e.g. `registers = 5`");
    }
    let registers = t.get("registers").and_then(|v| {
        if !bytes {
            v.diagnostic("only `bytes` and `byte_each` have a number of registers; the other types know theirs: leave `registers` out");
        }
        v.number(1..BYTES_REGISTERS_MAX + 1)
    });
    let registers = match kind {
        PointType::Bool | PointType::U16 | PointType::I16 => 1,
        PointType::U32 | PointType::I32 | PointType::F32 => 2,
        // Where it is not said, as long as the longest UID, so that nothing follows from the one diagnostic.
        PointType::Bytes => registers.map_or(5, small),
        PointType::ByteEach => registers.map_or(10, small),
    };
    let bit = t.get("bit").and_then(|v| {
        if space.is_bits() || kind != PointType::Bool {
            v.diagnostic("`bit` is for a `bool` in a register: leave it out, or correct `type`");
        }
        v.number(0..16).map(|n| u8::try_from(n).unwrap_or(0))
    });
    if space.is_bits() && kind != PointType::Bool {
        t.diagnostic_at("type", format!("a {} is one bit: its type is `bool`", space.as_str()));
    }
    let order = |t: &mut Table<'_>, key: &'static str, of_link: Option<Order>, matters: bool| {
        let own = read_order(t, key);
        if own.or(of_link).is_none() && matters {
            t.diagnostic_at(
                "type",
                format!("say `{key} = \"big\"` or `\"little\"` here or in `[link]`: devices differ"),
            );
        }
        own.or(of_link).unwrap_or(Order::Big)
    };
    let byte_order = order(t, "byte_order", scope.byte_order, kind == PointType::Bytes);
    let word_order = order(t, "word_order", scope.word_order, registers > 1);
    let channels = small(t.number("channels", 1..CHANNELS_MAX + 1, 1));
    let stride = small(t.number("stride", i64::from(registers)..1025, i64::from(registers)));
    let scale = t.get("scale").and_then(|v| {
        let scale = v.real()?;
        if scale == 0.0 {
            v.diagnostic(
                "every value would be 0; write the factor from the raw number to the unit, e.g. `scale = 0.1`",
            );
        }
        Some(scale)
    });
    let scale = scale.unwrap_or(1.0);
    let unit = t.text("unit");
    let invalid = t.get("invalid").filter(|_| is_known).map(|v| read_invalid(&v, kind)).unwrap_or_default();
    let point = Point {
        name,
        space,
        address,
        registers,
        kind,
        bit,
        byte_order,
        word_order,
        scale,
        unit,
        invalid,
        channels,
        stride,
    };
    if point.end() > 0x1_0000 {
        t.diagnostic_at(
            "address",
            "the point ends beyond the last address, 65535: correct `address`, `channels` or `stride`",
        );
    }
    point
}

/// Raw numbers that mean "nothing": such as the type can hold, or they would never be met.
fn read_invalid(value: &Value<'_>, kind: PointType) -> Vec<i64> {
    let Some((min, max)) = kind.whole() else {
        value.diagnostic("only `u16`, `i16`, `u32` and `i32` have numbers that mean nothing; leave it out");
        return Vec::new();
    };
    value.items().iter().filter_map(|item| item.number(min..max + 1)).collect()
}

/// A poll; `seen` are the names of those before it.
pub(super) fn read_poll(t: &mut Table<'_>, scope: &Scope, seen: &mut Vec<String>) -> Poll {
    let name = t.need_or("name", "say what is asked, e.g. `name = \"status\"`").and_then(|value| {
        let name = value.text()?;
        if name.trim().is_empty() {
            value.diagnostic("this is empty; say what is asked, e.g. `name = \"status\"`");
        } else if seen.contains(&name) {
            value.diagnostic(format!(
                "`{name}` is the name of an earlier poll, and only one would be sent; give each its own"
            ));
        }
        seen.push(name.clone());
        Some(name)
    });
    let name = name.unwrap_or_default();
    let every_ms = t
        .need_or("every_ms", "say how often it is asked, e.g. `every_ms = 200`")
        .and_then(|v| v.number(20..EVERY_MS_MAX + 1))
        .map_or(1000, whole);
    let atomic = t.flag("atomic", false);
    let max_gap = small(t.number("max_gap", 0..126, 0));
    let values = t
        .need_or("points", "name points that are asked together, e.g. `points = [\"relay\"]`")
        .map(|v| v.items())
        .unwrap_or_default();
    let mut points: Vec<Point> = Vec::new();
    for value in &values {
        let Some(point) = scope.point(value) else { continue };
        if points.iter().any(|p| p.name == point.name) {
            value.diagnostic(format!("`{}` stands here twice; once is enough", point.name));
        } else {
            points.push(point);
        }
    }
    if values.is_empty() && t.has("points") {
        t.diagnostic_at("points", "a poll asks for at least one point: name it, or leave the poll out");
    }
    let reads = plan::reads(&points, scope.read_max, max_gap);
    if atomic && reads.len() > 1 {
        let all = reads.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        t.diagnostic_at(
            "atomic",
            format!(
                "needs {} requests ({all}), an atomic poll is one: raise `max_gap` or `read_max`, or split it",
                reads.len()
            ),
        );
    }
    Poll { name, every_ms, points: points.into_iter().map(|p| p.name).collect(), atomic, reads }
}

/// A number that its range keeps within a register.
pub(super) fn small(number: i64) -> u16 {
    u16::try_from(number).unwrap_or(u16::MAX)
}

pub(super) fn whole(number: i64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
