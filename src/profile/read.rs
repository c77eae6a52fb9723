//! From the TOML of a profile to a checked [`Profile`], or every diagnostic with its line and what to do.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use super::document::{self, Diagnostic, Key, List, Log, NotBlank, Text, Whole};
use super::model::{InputKind, InputPoint, Meter, OnLinkLoss, Profile, Reader, Trigger};
use super::points::{Point, PointType};
use super::read_output::{OutputTable, output};
use super::read_uid::UidTable;
use super::scope::{LinkTable, PointTable, PollTable, Scope, WriteTable};
use crate::access::portal::Direction;

/// Version of the format.
const SCHEMA: u16 = 1;
/// How long no card must be seen before it counts as gone, in milliseconds, if the profile names no time.
const GONE_MS: u32 = 1000;

#[derive(Deserialize)]
struct Document {
    schema: Key<Whole<0, 999>>,
    id: Key<String>,
    name: Key<String>,
    source: Key<Text<NotBlank>>,
    caveats: List<String>,
    verified_on: List<String>,
    on_link_loss: Key<OnLinkLoss>,
    link: Key<LinkTable>,
    points: Key<BTreeMap<String, Key<PointTable>>>,
    poll: List<PollTable>,
    reader: List<ReaderTable>,
    output: Key<OutputTable>,
    inputs: Key<InputsTable>,
    meter: Key<MeterTable>,
}

#[derive(Deserialize)]
struct ReaderTable {
    id: Key<String>,
    direction: Key<Direction>,
    gone_ms: Key<Whole<0, 60_000>>,
    trigger: Key<TriggerTable>,
    uid: Key<UidTable>,
}

#[derive(Deserialize)]
struct TriggerTable {
    level: Key<String>,
    latch: Key<String>,
    counter: Key<String>,
    repeats_ms: Key<Whole<1, 60_000>>,
    release: Key<WriteTable>,
    acknowledge: Key<WriteTable>,
}

#[derive(Deserialize)]
struct InputsTable {
    contact_open: Key<InputTable>,
    exit_button: Key<InputTable>,
    tamper: Key<InputTable>,
    fire: Key<InputTable>,
    overload: Key<InputTable>,
    restricted_load: Key<InputTable>,
    passed_in: Key<InputTable>,
    passed_out: Key<InputTable>,
}

#[derive(Deserialize)]
struct InputTable {
    point: Key<String>,
    when: Key<bool>,
}

#[derive(Deserialize)]
struct MeterTable {
    power: Key<String>,
    energy: Key<String>,
}

/// Reads a profile.
pub fn read(text: &str) -> Result<Profile, Vec<Diagnostic>> {
    document::read(text, |document, log| Some(profile(document, log, None)))
}

/// Reads the profile in the file at `path`, whose text is `text`: its `id` has to be the file's name.
pub fn read_file(path: &Path, text: &str) -> Result<Profile, Vec<Diagnostic>> {
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    document::read(text, |document, log| Some(profile(document, log, stem.as_deref())))
}

/// Reports a version of the format that is not this one.
pub(super) fn schema(log: &Log, key: &Key<Whole<0, 999>>) {
    key.need(log, "write `schema = 1` above the first table");
    if key.number(SCHEMA) != SCHEMA {
        let message = format!(
            "this program reads schema {SCHEMA}: write `schema = {SCHEMA}`, or use the program that the file is for"
        );
        key.wrong(log, message);
    }
}

/// The id of a profile, which is the name of its file.
pub(super) fn id(log: &Log, key: &Key<String>, file: Option<&str>) -> String {
    let is_id = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if let Some(id) = key.need(log, "write the file's name, e.g. `id = \"acme-dc1\"`") {
        if id.is_empty() || id.len() > 64 || !id.chars().all(is_id) {
            key.wrong(log, "a profile's id is 1 to 64 of a-z 0-9 -, the same as its file name");
        } else if let Some(file) = file.filter(|file| file != id) {
            let message = format!(
                "the file is called `{file}`, and configurations use that name: write `id = \"{file}\"`, or rename the file"
            );
            key.wrong(log, message);
        }
    }
    key.text()
}

fn profile(t: &Document, log: &Log, file: Option<&str>) -> Profile {
    schema(log, &t.schema);
    let id = id(log, &t.id, file);
    let source = t.source.need(log, "write where the map was found, e.g. `source = \"Acme DC1 manual, page 12\"`");
    let scope = Scope::new(log, &t.link, &t.points, &t.poll);
    let mut readers: Vec<Reader> = Vec::new();
    let mut ids: Vec<String> = Vec::new();
    for key in t.reader.items() {
        let Some(table) = key.get() else { continue };
        let id = table.id.get().cloned().unwrap_or_else(|| "card".to_owned());
        if ids.contains(&id) {
            let message =
                format!("`{id}` is the id of an earlier reader (without `id` it is `card`); give each its own");
            table.id.wrong(log, message);
        }
        ids.push(id.clone());
        readers.extend(reader(&scope, key, table, id));
    }
    let profile = Profile {
        name: t.name.get().cloned().unwrap_or_else(|| id.clone()),
        id,
        source: source.map(|source| source.0.0.clone()).unwrap_or_default(),
        caveats: t.caveats.values().cloned().collect(),
        verified_on: t.verified_on.values().cloned().collect(),
        readers,
        output: t.output.get().and_then(|table| output(&scope, &t.output, table)),
        inputs: t.inputs.get().map(|table| inputs(&scope, &t.inputs, table)).unwrap_or_default(),
        meter: t.meter.get().map(|table| meter(&scope, &t.meter, table)),
        on_link_loss: t.on_link_loss.or(OnLinkLoss::Unknown),
        link: scope.link,
        points: scope.points,
        polls: scope.polls,
    };
    // A part with diagnostics counts as a part.
    if !(t.reader.is_set() || t.output.is_set() || t.inputs.is_set() || t.meter.is_set()) {
        log.add(
            t.reader.place.of_table(),
            "the profile does nothing: give it a `[[reader]]`, `[output]`, `[inputs]` or `[meter]`",
        );
    }
    profile
}

fn reader(scope: &Scope<'_>, key: &Key<ReaderTable>, t: &ReaderTable, id: String) -> Option<Reader> {
    let log = scope.log;
    t.trigger.need(log, "write when a card is there, e.g. `trigger = { level = \"uid\" }`");
    let remedy = "write where the card number is, e.g. `uid = { point = \"uid\", length = 4, order = \"msb_first\" }`";
    t.uid.need(log, remedy);
    let trigger = t.trigger.get().and_then(|table| trigger(scope, &t.trigger, table));
    let uid = t.uid.get().and_then(|table| scope.uid(table));
    let gone_ms = t.gone_ms.number(GONE_MS);
    let reader = Reader { id, direction: t.direction.get().copied(), trigger: trigger?, uid: uid?, gone_ms };
    // Read at two moments, a count and a UID could be those of two cards.
    let names: Vec<&str> = reader.points().iter().map(|p| p.name.as_str()).collect();
    let bits_apart = matches!(&reader.trigger, Trigger::Level(Some(p)) | Trigger::Latch { flag: p, .. } if p.space != reader.uid.point.space);
    let together = scope.polls.iter().any(|poll| {
        let at_once = poll.atomic || poll.reads.len() == 1 || bits_apart;
        at_once && names.iter().all(|name| poll.points.iter().any(|p| p == name))
    });
    let level_only = matches!(reader.trigger, Trigger::Level(None)) && names.len() == 1;
    if !together && !level_only {
        let poll = if bits_apart { "one poll" } else { "one poll with `atomic = true`" };
        key.wrong(log, format!("{poll} has to read {} together", names.join(", ")));
    }
    Some(reader)
}

fn trigger(scope: &Scope<'_>, key: &Key<TriggerTable>, t: &TriggerTable) -> Option<Trigger> {
    let log = scope.log;
    let flag = |key: &Key<String>| {
        let point = scope.polled(key)?;
        if matches!(point.kind, PointType::F32 | PointType::Bytes | PointType::ByteEach) {
            let message = format!(
                "`{}` cannot be set or clear; name a `bool`, or a whole number, which is set when it is not 0",
                point.name
            );
            key.wrong(log, message);
        }
        Some(point)
    };
    let level = match t.level.get().map(String::as_str) {
        Some("uid") => Some(Trigger::Level(None)),
        Some(_) => flag(&t.level).map(|point| Trigger::Level(Some(point))),
        None => None,
    };
    let latch = flag(&t.latch);
    let counter = scope.polled(&t.counter);
    let write = |key: &Key<WriteTable>| key.get().map(|table| scope.write(table, Some(0)));
    let (release, acknowledge) = (write(&t.release), write(&t.acknowledge));
    if [&t.level, &t.latch, &t.counter].into_iter().filter(|key| key.is_set()).count() != 1 {
        let message = "write one of `level`, `latch` or `counter`: what shows that a card is there; `level = \"uid\"`: zeros mean no card";
        key.wrong(log, message);
        return None;
    }
    if latch.is_some() && !t.release.is_set() {
        let message = "a latch needs `release = { space = …, address = …, value = … }`: the write after which it takes the next card";
        key.wrong(log, message);
    }
    if !t.latch.is_set() {
        t.release.must_not_be_set(log, "only a latch is released: leave this out, or write `latch = \"POINT\"`");
        t.repeats_ms.must_not_be_set(log, "only a latch is set again: leave this out, or write `latch = \"POINT\"`");
    }
    if !t.counter.is_set() {
        let why = "only a counter is acknowledged: leave this out, or write `counter = \"POINT\"`";
        t.acknowledge.must_not_be_set(log, why);
    }
    match (level, latch, release, counter) {
        (Some(level), ..) => Some(level),
        (None, Some(flag), Some(release), _) => {
            let repeats_ms = t.repeats_ms.get().map(|_| t.repeats_ms.number(1));
            Some(Trigger::Latch { flag, release, repeats_ms })
        }
        (None, None, _, Some(count)) => {
            if !matches!(count.kind, PointType::U16 | PointType::U32) {
                let message = "a counter is a `u16` or `u32`: correct the `type` of the point, or name another";
                t.counter.wrong(log, message);
            }
            Some(Trigger::Counter { count, acknowledge })
        }
        _ => None,
    }
}

fn inputs(scope: &Scope<'_>, key: &Key<InputsTable>, t: &InputsTable) -> Vec<InputPoint> {
    let log = scope.log;
    let all = [
        (&t.contact_open, InputKind::ContactOpen),
        (&t.exit_button, InputKind::ExitButton),
        (&t.tamper, InputKind::Tamper),
        (&t.fire, InputKind::Fire),
        (&t.overload, InputKind::Overload),
        (&t.restricted_load, InputKind::RestrictedLoad),
        (&t.passed_in, InputKind::PassedIn),
        (&t.passed_out, InputKind::PassedOut),
    ];
    if !all.iter().any(|(key, _)| key.is_set()) {
        key.wrong(
            log,
            "this is empty: name a point as `contact_open`, `exit_button` and so on, or leave `[inputs]` out",
        );
    }
    let input = |(key, kind): (&Key<InputTable>, InputKind)| {
        let table = key.get()?;
        let when = table.when.or(true);
        table.point.need(log, "name one of `[points]`");
        let point = scope.polled(&table.point)?;
        let may_count = kind.way().is_some();
        let counts = matches!(point.kind, PointType::U16 | PointType::U32);
        if point.kind != PointType::Bool && !(may_count && counts) {
            let or = if may_count { ", or a counter: `u16` or `u32`" } else { "" };
            let name = key.place.path.rsplit('.').next().unwrap_or_default();
            table.point.wrong(log, format!("`{name}` is a `bool`{or}; `{}` is neither", point.name));
        }
        if !when && may_count && counts {
            table.when.wrong(log, "a counter is neither set nor clear; leave `when` out");
        }
        Some(InputPoint { kind, point, when })
    };
    all.into_iter().filter_map(input).collect()
}

fn meter(scope: &Scope<'_>, key: &Key<MeterTable>, t: &MeterTable) -> Meter {
    let measured = |key: &Key<String>, units: [(&str, f64); 2]| -> Option<(Point, f64)> {
        let point = scope.polled(key)?;
        let factor = units.iter().find(|(name, _)| point.unit.as_deref() == Some(name));
        if factor.is_none() {
            let all = units.map(|(name, _)| format!("`{name}`")).join(" or ");
            key.wrong(scope.log, format!("`{}` needs `unit` {all} in `[points]`", point.name));
        }
        Some((point, factor?.1))
    };
    if !t.power.is_set() && !t.energy.is_set() {
        key.wrong(scope.log, "this measures nothing: name a point as `power` or `energy`, or leave `[meter]` out");
    }
    Meter {
        power: measured(&t.power, [("W", 1.0), ("kW", 1000.0)]),
        energy: measured(&t.energy, [("kWh", 1.0), ("Wh", 0.001)]),
    }
}
