//! From the TOML of a profile to a checked [`Profile`], or every diagnostic with its line and what to do.

use std::path::Path;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::model::{Available, Input, Meter, Place, Profile, Two};
use super::tables::{Scope, TwoTable, Unit};
use crate::profile::document::{self, Diagnostic, Key, List, Log, NotBlank, Text, Whole};
use crate::profile::model::{InputKind, OnLinkLoss};
use crate::profile::read::{id, schema};

use super::read_output::{OutputTable, output};
use super::read_reader::{ReaderTable, reader};

/// How long after a device connected what it sends may be older, if the profile names no time, in milliseconds.
const START_MS: u32 = 1_000;

#[derive(Deserialize)]
struct Document {
    schema: Key<Whole<0, 999>>,
    protocol: Key<Protocol>,
    id: Key<String>,
    name: Key<String>,
    source: Key<Text<NotBlank>>,
    caveats: List<String>,
    setup: List<String>,
    verified_on: List<String>,
    on_link_loss: Key<OnLinkLoss>,
    start_ms: Key<Whole<0, 60_000>>,
    available: List<TwoTable>,
    reader: Key<ReaderTable>,
    output: Key<OutputTable>,
    inputs: Key<InputsTable>,
    meter: Key<MeterTable>,
}

/// What the file describes; a file without it is a profile of a Modbus device.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum Protocol {
    Mqtt,
}

#[derive(Deserialize)]
struct InputsTable {
    contact_open: Key<TwoTable>,
    exit_button: Key<TwoTable>,
    tamper: Key<TwoTable>,
    fire: Key<TwoTable>,
    overload: Key<TwoTable>,
    restricted_load: Key<TwoTable>,
}

#[derive(Deserialize)]
struct MeterTable {
    power: Key<NumberTable>,
    energy: Key<NumberTable>,
}

#[derive(Deserialize)]
struct NumberTable {
    topic: Key<String>,
    at: Key<String>,
    only: Key<super::tables::OnlyTable>,
    retained: Key<bool>,
    unit: Key<Unit>,
}

/// Whether a profile's text is one of an MQTT device. It may be wrong elsewhere.
pub(crate) fn is_mqtt(text: &str) -> bool {
    matches!(document::read_at::<IgnoredAny>(text, &["protocol"]), Ok(Some(_)))
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

fn profile(t: &Document, log: &Log, file: Option<&str>) -> Profile {
    schema(log, &t.schema);
    t.protocol.need(log, "write `protocol = \"mqtt\"`; a profile of a Modbus device has no such key");
    let id = id(log, &t.id, file);
    let source = t.source.need(log, "write where its topics were found, e.g. `source = \"Acme manual, page 12\"`");
    let scope = Scope { log };
    let available = available(&scope, t);
    let profile = Profile {
        name: t.name.get().cloned().unwrap_or_else(|| id.clone()),
        id,
        source: source.map(|source| source.0.0.clone()).unwrap_or_default(),
        caveats: t.caveats.values().cloned().collect(),
        setup: t.setup.values().cloned().collect(),
        verified_on: t.verified_on.values().cloned().collect(),
        on_link_loss: t.on_link_loss.or(OnLinkLoss::Unknown),
        available,
        start_ms: t.start_ms.number(START_MS),
        reader: t.reader.get().and_then(|table| reader(&scope, table)),
        output: t.output.get().and_then(|table| output(&scope, table)),
        inputs: t.inputs.get().map(|table| inputs(&scope, &t.inputs, table)).unwrap_or_default(),
        meter: t.meter.get().map(|table| meter(&scope, &t.meter, table)),
    };
    // A part with diagnostics counts as a part.
    if !(t.reader.is_set() || t.output.is_set() || t.inputs.is_set() || t.meter.is_set()) {
        let message = "the profile does nothing: give it a `[reader]`, `[output]`, `[inputs]` or `[meter]`";
        log.add(t.reader.place.of_table(), message);
    }
    profile
}

fn available(scope: &Scope<'_>, t: &Document) -> Vec<Available> {
    let remedy = "write how it is known that the device is connected, e.g. `[[available]]` with \
                  `topic = \"tele/{topic}/LWT\"`, `yes = \"Online\"`, `no = \"Offline\"`: its last will";
    t.available.need(scope.log, remedy);
    let read = |table: &TwoTable| {
        table.channel.must_not_be_set(scope.log, "a device is connected or not, whatever the channel; leave it out");
        // The last will is retained, so that a subscriber knows of it at once.
        let is = scope.two(table, false)?;
        Some(Available { is: Two { place: Place { retained: true, ..is.place }, ..is }, needed: table.needed.or(true) })
    };
    let all: Vec<Available> = t.available.values().filter_map(read).collect();
    if !all.is_empty() && !all.iter().any(|of| of.needed) {
        t.available
            .wrong(scope.log, "one of them has to be needed: without a message the device would count as connected");
    }
    all
}

fn inputs(scope: &Scope<'_>, key: &Key<InputsTable>, t: &InputsTable) -> Vec<Input> {
    let log = scope.log;
    let all = [
        (&t.contact_open, InputKind::ContactOpen),
        (&t.exit_button, InputKind::ExitButton),
        (&t.tamper, InputKind::Tamper),
        (&t.fire, InputKind::Fire),
        (&t.overload, InputKind::Overload),
        (&t.restricted_load, InputKind::RestrictedLoad),
    ];
    if !all.iter().any(|(key, _)| key.is_set()) {
        let message = "this is empty: write `contact_open`, `exit_button` and so on, or leave `[inputs]` out";
        key.wrong(log, message);
    }
    let input = |(key, kind): (&Key<TwoTable>, InputKind)| {
        let table = key.get()?;
        table.needed.must_not_be_set(log, "this is for `[[available]]`; leave it out");
        if matches!(kind, InputKind::Fire | InputKind::ExitButton) {
            let why = "a retained message may be of any age, and this one opens: leave it out";
            table.retained.must_not_be_set(log, why);
        }
        Some(Input { kind, is: scope.two(table, true)? })
    };
    all.into_iter().filter_map(input).collect()
}

fn meter(scope: &Scope<'_>, key: &Key<MeterTable>, t: &MeterTable) -> Meter {
    let log = scope.log;
    if !t.power.is_set() && !t.energy.is_set() {
        key.wrong(log, "this measures nothing: write `power` or `energy`, or leave `[meter]` out");
    }
    let measured = |key: &Key<NumberTable>, units: [Unit; 2]| {
        let table = key.get()?;
        let place = scope.place(&table.topic, &table.at, &table.only);
        let all = units.map(|unit| format!("`\"{unit}\"`")).join(" or ");
        let unit = table.unit.need(log, &format!("write in which unit it is: {all}")).copied();
        if let Some(unit) = unit.filter(|unit| !units.contains(unit)) {
            table.unit.wrong(log, format!("{all} is wanted here, got `{unit}`"));
        }
        Some((Place { retained: table.retained.or(false), ..place? }, unit?.factor()))
    };
    Meter { power: measured(&t.power, [Unit::W, Unit::KW]), energy: measured(&t.energy, [Unit::KWh, Unit::Wh]) }
}
