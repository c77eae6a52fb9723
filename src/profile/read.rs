//! A profile's TOML to a checked [`Profile`]. Every diagnostic is told at once, with its line and what to do.

use std::ops::Range;
use std::path::Path;

use crate::access::portal::Direction;
use crate::profile::document::{Diagnostic, Table, Value, read as read_document};
use crate::wire::modbus::{COIL_ON, Space};

use super::output::read_output;
use super::read_uid::read_uid;
use super::scope::{SPACES, Scope, read_link, read_points, read_poll, small, whole};
use super::{InputKind, InputPoint, Link, Meter, OnLinkLoss, Point, PointType, Poll, Profile, Reader, Trigger, Write};

/// Version of the format.
const SCHEMA: i64 = 1;
pub(super) const REGISTER: Range<i64> = 0..0x1_0000;
/// Reads a profile.
///
/// # Errors
/// Every diagnostic, in the order of the file.
pub fn read(text: &str) -> Result<Profile, Vec<Diagnostic>> {
    read_document(text, |top| profile(top, None))
}

/// Reads the profile in the file at `path`, whose text is `text`: its `id` has to be the file's name.
///
/// # Errors
/// Every diagnostic, in the order of the file.
pub fn read_file(path: &Path, text: &str) -> Result<Profile, Vec<Diagnostic>> {
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    read_document(text, |top| profile(top, stem.as_deref()))
}

fn profile(top: &mut Table<'_>, file: Option<&str>) -> Profile {
    if let Some(schema) = top.need_or("schema", "write `schema = 1` above the first table")
        && schema.number(0..1000).is_some_and(|n| n != SCHEMA)
    {
        schema.diagnostic(format!(
            "this program reads schema {SCHEMA}: write `schema = {SCHEMA}`, or use the program that the file is for"
        ));
    }
    let id = top.need_or("id", "write the file's name, e.g. `id = \"acme-dc1\"`").and_then(|value| {
        let id = value.parsed(identifier)?;
        if let Some(file) = file.filter(|file| *file != id) {
            value.diagnostic(format!(
                "the file is called `{file}` and configurations name it so: write `id = \"{file}\"`, or rename it"
            ));
        }
        Some(id)
    });
    let id = id.unwrap_or_default();
    let name = top.text("name").unwrap_or_else(|| id.clone());
    let source = top
        .need_or("source", "say where the map was found, e.g. `source = \"Acme DC1 manual, page 12\"`")
        .and_then(|v| v.parsed(not_empty))
        .unwrap_or_default();
    let caveats = texts(top, "caveats");
    let verified_on = texts(top, "verified_on");
    let losses = [("hold", OnLinkLoss::Hold), ("off", OnLinkLoss::Off), ("unknown", OnLinkLoss::Unknown)];
    let on_link_loss = top.choice("on_link_loss", &losses, OnLinkLoss::Unknown);

    let mut scope = Scope::new();
    let link = top
        .need_or("link", "add `[link]` with `address_base = 0`, or 1 if the manual calls the first register 1")
        .and_then(|v| v.table(|t| read_link(t, &mut scope)));
    let link = link.unwrap_or(Link { address_base: 0, read_max: 125, reply_ms: 200, factory: String::new() });
    scope.points = top.table("points", |t| read_points(t, &scope)).unwrap_or_default();
    let mut names = Vec::new();
    let polls: Vec<Poll> = top.tables("poll", |t| read_poll(t, &scope, &mut names));
    let mut ids = Vec::new();
    let readers = top.tables("reader", |t| read_reader(t, &scope, &polls, &mut ids));
    let readers: Vec<Reader> = readers.into_iter().flatten().collect();
    let output = top.table("output", |t| read_output(t, &scope, &polls, link.reply_ms)).flatten();
    let inputs = top.table("inputs", |t| read_inputs(t, &scope, &polls)).unwrap_or_default();
    let meter = top.table("meter", |t| read_meter(t, &scope, &polls));

    // What is there and has diagnostics would do something.
    if !["reader", "output", "inputs", "meter"].iter().any(|key| top.has(key)) {
        top.diagnostic("the profile does nothing: give it a `[[reader]]`, `[output]`, `[inputs]` or `[meter]`");
    }
    Profile {
        id,
        name,
        source,
        caveats,
        verified_on,
        link,
        points: scope.points,
        polls,
        readers,
        output,
        inputs,
        meter,
        on_link_loss,
    }
}

fn identifier(text: &str) -> Result<String, &'static str> {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if !text.is_empty() && text.len() <= 64 && text.chars().all(good) {
        Ok(text.to_owned())
    } else {
        Err("a profile's id is 1 to 64 of a-z 0-9 -, the same as its file name")
    }
}

fn not_empty(text: &str) -> Result<String, &'static str> {
    if text.trim().is_empty() { Err("say where the map was found: manual and page") } else { Ok(text.to_owned()) }
}

fn texts(table: &mut Table<'_>, key: &'static str) -> Vec<String> {
    table.get(key).map(|v| v.items()).unwrap_or_default().iter().filter_map(Value::text).collect()
}

/// Says so if no poll asks for `point`.
pub(super) fn must_be_polled(value: &Value<'_>, point: &Point, polls: &[Poll]) {
    if !polls.iter().any(|poll| poll.points.contains(&point.name)) {
        value.diagnostic(format!(
            "no `[[poll]]` asks for `{}`, so it would never be known: add it to the `points` of one",
            point.name
        ));
    }
}

pub(super) fn polled(t: &mut Table<'_>, key: &'static str, scope: &Scope, polls: &[Poll]) -> Option<Point> {
    let value = t.get(key)?;
    let point = scope.point(&value)?;
    must_be_polled(&value, &point, polls);
    Some(point)
}

/// A reader; `seen` are the ids of those before it.
fn read_reader(t: &mut Table<'_>, scope: &Scope, polls: &[Poll], seen: &mut Vec<String>) -> Option<Reader> {
    let id = t.text("id").unwrap_or_else(|| "card".to_owned());
    if seen.contains(&id) {
        t.diagnostic_at(
            "id",
            format!("`{id}` is the id of an earlier reader (`card` where none is said); give each its own"),
        );
    }
    seen.push(id.clone());
    let directions = [("in", Direction::In), ("out", Direction::Out)];
    let direction = t.get("direction").and_then(|v| v.choice(&directions));
    let gone_ms = whole(t.number("gone_ms", 0..60_001, 1000));
    let trigger = t
        .need_or("trigger", "say when a card is there, e.g. `trigger = { level = \"uid\" }`")
        .and_then(|v| v.table(|t| read_trigger(t, scope, polls)))
        .flatten();
    let uid = t
        .need_or(
            "uid",
            "say where the card number is, e.g. `uid = { point = \"uid\", length = 4, order = \"msb_first\" }`",
        )
        .and_then(|v| v.table(|t| read_uid(t, scope, polls)))
        .flatten();
    let reader = Reader { id, direction, trigger: trigger?, uid: uid?, gone_ms };
    // A number and a UID of two moments would be the UID of one card with the number of another.
    let names: Vec<&str> = reader.points().iter().map(|p| p.name.as_str()).collect();
    let bits_apart = matches!(&reader.trigger, Trigger::Level(Some(p)) | Trigger::Latch { flag: p, .. } if p.space != reader.uid.point.space);
    let together = polls.iter().any(|poll| {
        let at_once = poll.atomic || poll.reads.len() == 1 || bits_apart;
        at_once && names.iter().all(|name| poll.points.iter().any(|p| p == name))
    });
    let level_only = matches!(reader.trigger, Trigger::Level(None)) && names.len() == 1;
    if !together && !level_only {
        let poll = if bits_apart { "one poll" } else { "one poll with `atomic = true`" };
        t.diagnostic(format!("{poll} has to ask for {} together", names.join(", ")));
    }
    Some(reader)
}

/// Says so if `point` can be neither set nor clear.
fn must_be_flag(value: &Value<'_>, point: &Point) {
    match point.kind {
        PointType::Bool | PointType::U16 | PointType::I16 | PointType::U32 | PointType::I32 => {}
        PointType::F32 | PointType::Bytes | PointType::ByteEach => value.diagnostic(format!(
            "`{}` is neither set nor clear; a `bool` is, or a whole number, which is set when it is not 0",
            point.name
        )),
    }
}

fn read_trigger(t: &mut Table<'_>, scope: &Scope, polls: &[Poll]) -> Option<Trigger> {
    let chosen: Vec<&str> = ["level", "latch", "counter"].into_iter().filter(|key| t.has(key)).collect();
    let level = t.get("level").and_then(|v| {
        if v.is_text() && v.text().as_deref() == Some("uid") {
            Some(Trigger::Level(None))
        } else {
            let point = scope.point(&v)?;
            must_be_polled(&v, &point, polls);
            must_be_flag(&v, &point);
            Some(Trigger::Level(Some(point)))
        }
    });
    let latch = t.get("latch").and_then(|v| {
        let point = scope.point(&v)?;
        must_be_polled(&v, &point, polls);
        must_be_flag(&v, &point);
        Some(point)
    });
    let counter = polled(t, "counter", scope, polls);
    let repeats_ms = t.has("repeats_ms").then(|| whole(t.number("repeats_ms", 1..60_001, 1)));
    let release = t.table("release", |t| read_write(t, scope, Some(0)));
    let acknowledge = t.table("acknowledge", |t| read_write(t, scope, Some(0)));
    if chosen.len() != 1 {
        t.diagnostic(
            "one of `level`, `latch` or `counter` says when a card is there; `level = \"uid\"`: zeros mean no card",
        );
        return None;
    }
    if latch.is_some() && release.is_none() {
        t.diagnostic(
            "a latch needs `release = { space = …, address = …, value = … }`: what makes room for the next card",
        );
    }
    if release.is_some() && !chosen.contains(&"latch") {
        t.diagnostic_at("release", "only a latch is released: leave it out, or say `latch = \"POINT\"`");
    }
    if repeats_ms.is_some() && !chosen.contains(&"latch") {
        t.diagnostic_at("repeats_ms", "only a latch is set again: leave it out, or say `latch = \"POINT\"`");
    }
    if acknowledge.is_some() && !chosen.contains(&"counter") {
        t.diagnostic_at("acknowledge", "only a counter is acknowledged: leave it out, or say `counter = \"POINT\"`");
    }
    match (level, latch, release, counter) {
        (Some(level), ..) => Some(level),
        (None, Some(flag), Some(release), _) => Some(Trigger::Latch { flag, release, repeats_ms }),
        (None, None, _, Some(count)) => {
            if !matches!(count.kind, PointType::U16 | PointType::U32) {
                t.diagnostic_at(
                    "counter",
                    "a counter is a `u16` or `u32`: correct the `type` of the point, or name another",
                );
            }
            Some(Trigger::Counter { count, acknowledge })
        }
        _ => None,
    }
}

pub(super) fn read_write(t: &mut Table<'_>, scope: &Scope, default: Option<i64>) -> Write {
    let space = t
        .need_or("space", "write `space = \"coil\"` or `\"holding\"`")
        .and_then(|v| v.choice(&SPACES))
        .unwrap_or(Space::Coil);
    if !space.is_writable() {
        t.diagnostic_at("space", format!("a point of `{}` cannot be written; `coil` or `holding` can", space.as_str()));
    }
    let address = scope.address(t);
    let default = default.unwrap_or_else(|| if space == Space::Coil { i64::from(COIL_ON) } else { 1 });
    let value = small(t.number("value", REGISTER, default));
    let multiple = t.flag("multiple", false);
    if multiple && space.is_bits() && ![0, 1, COIL_ON].contains(&value) {
        t.diagnostic_at("value", "FC 15 carries bits: write 0 or 1, or leave `multiple` out");
    }
    Write { space, address, value, multiple }
}

fn read_inputs(t: &mut Table<'_>, scope: &Scope, polls: &[Poll]) -> Vec<InputPoint> {
    let mut inputs = Vec::new();
    let kinds = [
        ("contact_open", InputKind::ContactOpen),
        ("exit_button", InputKind::ExitButton),
        ("tamper", InputKind::Tamper),
        ("fire", InputKind::Fire),
        ("passed_in", InputKind::PassedIn),
        ("passed_out", InputKind::PassedOut),
    ];
    for (key, kind) in kinds {
        let read = t.table(key, |t| {
            let when = t.flag("when", true);
            let value = t.need_or("point", "name one of `[points]`")?;
            let point = scope.point(&value)?;
            must_be_polled(&value, &point, polls);
            let may_count = matches!(kind, InputKind::PassedIn | InputKind::PassedOut);
            let counts = matches!(point.kind, PointType::U16 | PointType::U32);
            if point.kind != PointType::Bool && !(may_count && counts) {
                let or = if may_count { ", or a counter: `u16` or `u32`" } else { "" };
                value.diagnostic(format!("`{key}` is a `bool`{or}; `{}` is neither", point.name));
            }
            if !when && may_count && counts {
                t.diagnostic_at("when", "a counter counts and is never clear; leave `when` out");
            }
            Some(InputPoint { kind, point, when })
        });
        inputs.extend(read.flatten());
    }
    if !kinds.iter().any(|(key, _)| t.has(key)) {
        t.diagnostic(
            "it tells nothing: name a point as `contact_open`, `exit_button` and so on, or leave `[inputs]` out",
        );
    }
    inputs
}

fn read_meter(t: &mut Table<'_>, scope: &Scope, polls: &[Poll]) -> Meter {
    let mut measured = |key: &'static str, units: &[(&str, f64)]| {
        let value = t.get(key)?;
        let point = scope.point(&value)?;
        must_be_polled(&value, &point, polls);
        let unit = point.unit.clone().unwrap_or_default();
        let factor = units.iter().find(|(name, _)| *name == unit);
        if factor.is_none() {
            let all = units.iter().map(|(name, _)| format!("`{name}`")).collect::<Vec<_>>().join(" or ");
            value.diagnostic(format!("`{}` needs `unit` {all} in `[points]`", point.name));
        }
        Some((point, factor?.1))
    };
    let meter = Meter {
        power: measured("power", &[("W", 1.0), ("kW", 1000.0)]),
        energy: measured("energy", &[("kWh", 1.0), ("Wh", 0.001)]),
    };
    if !t.has("power") && !t.has("energy") {
        t.diagnostic("it measures nothing: name a point as `power` or `energy`, or leave `[meter]` out");
    }
    meter
}
