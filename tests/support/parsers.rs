//! Every reader of bytes from outside as a function of bytes: nothing may panic, and what was read is written and read again as it
//! was. `tests/parsers.rs` gives them the corpora of `fuzz/corpus` and mutations of them, `fuzz/` has them searched with coverage.

#![allow(dead_code, reason = "each program uses a part of it")]

use std::sync::LazyLock;

use dormgate::access::event::{Event, Flush, Mark, Record};
use dormgate::access::id::{ClockTrust, Mono, Now, Timestamp};
use dormgate::access::input::{PortalReport, Receipt};
use dormgate::access::schedule::timezone;
use dormgate::access::state::State;
use dormgate::center::sheet::{self as cards, Reading};
use dormgate::config::{Surroundings, parse};
use dormgate::profile::{self, sheet};
use dormgate::store::{MemoryDisk, Options, Store};
use dormgate::uplink::decode::Decoder;
use dormgate::wire::allowed::AllowedOps;
use dormgate::wire::envelope::{Scope, StreamSpec};
use dormgate::wire::modbus::{Mbap, Request, RtuDecoder, Space, rtu_open, rtu_request_bytes};
use dormgate::wire::portal::{Delivery, encode_state, parse_control, parse_decision, parse_request, parse_state};
use dormgate::wire::{audit, down, erased, registers, snapshot, state, topic};

/// A reader of bytes.
pub type Parser = fn(&[u8]);

/// All of them, by name.
pub const ALL: &[(&str, Parser)] = &[
    ("audit_event", audit_event),
    ("center_message", center_message),
    ("configuration", configuration),
    ("gateway_message", gateway_message),
    ("journal", journal),
    ("modbus_frame", modbus_frame),
    ("mqtt_payload", mqtt_payload),
    ("portal_message", portal_message),
    ("profile", profile_file),
    ("registers", register_block),
    ("sheet", sheet_of_portals),
    ("snapshot", snapshot_evidence),
    ("topic", topic_name),
    ("uid", uid_text),
];

/// The parser of this name.
pub fn by_name(name: &str) -> Option<Parser> {
    ALL.iter().find(|(known, _)| *known == name).map(|(_, parser)| *parser)
}

/// The first byte chooses, the rest is the input.
fn chosen<'b, T: Copy>(bytes: &'b [u8], of: &[T]) -> Option<(T, &'b [u8])> {
    let (first, rest) = bytes.split_first()?;
    Some((of[usize::from(*first) % of.len()], rest))
}

/// A message from a center, signed or, so that more than the signature is read, not.
fn center_message(bytes: &[u8]) {
    static DECODER: LazyLock<Decoder> = LazyLock::new(|| Decoder {
        gateway: "g1".parse().unwrap(),
        streams: vec![StreamSpec {
            name: "center".parse().unwrap(),
            scope: Scope::Gateway,
            keys: Vec::new(),
            insecure_unsigned: true,
            allowed: AllowedOps::all(),
        }],
    });
    let kinds = ["changes", "head/center", "snapshot", "command", "audit-ack"];
    let Some((kind, message)) = chosen(bytes, &kinds) else { return };
    let at = Timestamp(1_788_249_600_000);
    drop(DECODER.decode(&format!("dormgate/v1/g1/down/{kind}"), message.to_vec(), false, Receipt(1), at));
    if let Ok(text) = std::str::from_utf8(message)
        && let Ok(ops) = down::read_ops(text)
    {
        let written = down::write_ops(&ops).unwrap();
        assert_eq!(down::read_ops(&written).as_ref(), Ok(&ops), "{written}");
    }
}

/// What a gateway publishes, as a center reads it.
fn gateway_message(bytes: &[u8]) {
    drop(state::decode(bytes));
    std::hint::black_box(state::parse_local(bytes));
}

/// What a portal at the broker publishes, and what it receives.
fn portal_message(bytes: &[u8]) {
    let deliveries = [Delivery::Retained, Delivery::Live];
    deliveries.into_iter().for_each(|delivery| drop(parse_request("gate-in", bytes, delivery)));
    if let Ok(report) = parse_state(bytes) {
        let written = encode_state(&report);
        let again = parse_state(&written).unwrap();
        // The last digit of a number of 22 is the reader's.
        for (power, before) in [(again.power_w, report.power_w), (again.energy_kwh, report.energy_kwh)] {
            assert_eq!(power.is_some(), before.is_some());
            assert!((power.unwrap_or(0.0) - before.unwrap_or(0.0)).abs() <= before.unwrap_or(0.0).abs() * 1e-12);
        }
        let others = |report| encode_state(&PortalReport { power_w: None, energy_kwh: None, ..report });
        assert_eq!(others(again), others(report));
    }
    drop(parse_decision(bytes));
    drop(parse_control(bytes));
}

/// A payload of a device with topics of its own, by each shipped profile.
fn mqtt_payload(bytes: &[u8]) {
    use profile::mqtt::{Names, Payload, Profile, SHIPPED, shipped};
    static PROFILES: LazyLock<Vec<Profile>> =
        LazyLock::new(|| SHIPPED.iter().map(|(name, _)| shipped(name).unwrap()).collect());
    let payload = Payload::new(bytes);
    let names = Names { topic: "device", channel: 0 };
    for profile in PROFILES.iter() {
        if let Some(reader) = profile.reader.as_ref().map(|reader| reader.of(names)) {
            drop((payload.card(&reader), payload.removed(&reader), payload.stamp(&reader)));
        }
        let states = profile.output.as_ref().map(|output| output.of(names).state).unwrap_or_default();
        let inputs = profile.inputs(names).into_iter().map(|input| input.is);
        let available = profile.available("device").into_iter().map(|available| available.is);
        states.into_iter().chain(inputs).chain(available).for_each(|two| drop(payload.two(&two)));
        let meter = profile.meter.as_ref().map(|meter| meter.of(names));
        for (place, _) in meter.iter().flat_map(|meter| meter.power.iter().chain(&meter.energy)) {
            drop(payload.number(place));
        }
    }
}

/// A frame of Modbus TCP, of a serial line, a PDU, and an answer to each kind of request.
fn modbus_frame(bytes: &[u8]) {
    let _ = (bytes.first_chunk().map(|header| Mbap::parse(*header)), rtu_open(bytes), rtu_request_bytes(bytes));
    let mut decoder = RtuDecoder::default();
    decoder.push(bytes);
    let (fits, reach) =
        (|b: &[u8]| rtu_request_bytes(b) == Some(b.len()), |b: &[u8]| rtu_request_bytes(b).unwrap_or(0));
    while decoder.next(fits, reach).is_some() {}
    if let Ok(request) = Request::decode(bytes) {
        assert_eq!(Request::decode(&request.encode()).as_ref(), Ok(&request));
        assert!(request.check(bytes).is_ok() || request.encode() != bytes || bytes.first() != Some(&5));
    }
    let spaces = [Space::Coil, Space::Discrete, Space::Holding, Space::Input];
    for count in [1, 2, 9, 125] {
        spaces.iter().for_each(|space| drop(Request::Read { space: *space, address: 0, count }.check(bytes)));
    }
}

/// Registers that a controller writes.
fn register_block(bytes: &[u8]) {
    let words: Vec<u16> = bytes.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();
    let Some((start, values)) = words.split_first() else { return };
    if let Ok((state, Some(question))) = registers::write(*start, values) {
        drop((state.map(registers::StateBits::reports), question));
    }
}

/// A device profile, of a Modbus device or of one with its own topics.
fn profile_file(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    drop(profile::read(text));
    drop(profile::mqtt::read(text));
}

/// The configuration of a gateway.
fn configuration(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Err(diagnostics) = parse(text, &Surroundings::default()) {
        assert!(!diagnostics.is_empty(), "refused without a reason");
    }
}

/// A sheet of portals, or of cards.
fn sheet_of_portals(bytes: &[u8]) {
    if let Ok((text, _)) = sheet::decode(bytes) {
        drop(sheet::records(&text));
    }
    let (_, timezone) = timezone("Asia/Shanghai").unwrap();
    let reading = Reading { timezone, ignored: Vec::new() };
    if let Ok(sheet) = cards::read(bytes, &reading) {
        let written = cards::write(&sheet.enrolments, &reading.timezone);
        let again = cards::read(written.as_bytes(), &reading).unwrap();
        assert_eq!(again.enrolments, sheet.enrolments, "{written}");
    }
}

/// The parts of a snapshot as they are kept.
fn snapshot_evidence(bytes: &[u8]) {
    drop(snapshot::read_evidence(bytes));
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(entries) = snapshot::read_entries(text)
    {
        let written = snapshot::write_entries(&entries).unwrap();
        assert_eq!(snapshot::read_entries(written.get()).as_ref(), Ok(&entries), "{written}");
    }
}

/// An event as it is on disk and on the wire.
fn audit_event(bytes: &[u8]) {
    if let Ok(decoded) = audit::decode(bytes) {
        let written = audit::encode(&decoded.event, &[], &decoded.prev);
        let again = audit::decode(&written).unwrap();
        assert_eq!(again.event, decoded.event);
    }
    drop(erased::decode(bytes));
}

/// A journal in which these bytes were written over others, and a start from it.
fn journal(bytes: &[u8]) {
    static WHOLE: LazyLock<MemoryDisk> = LazyLock::new(|| {
        let disk = MemoryDisk::new();
        let (store, _events, _recovered, mut stepper) =
            Store::open_in_memory::<State>(&disk, Options::default()).unwrap();
        let now = |n: u64| Now { wall: Timestamp(1_788_249_600_000), mono: Mono(n), clock: ClockTrust::Trusted };
        let event = |n| {
            let body = Event::Config { mark: Mark::Note, detail: "a note".to_owned() };
            dormgate::access::event::AuditEvent::new(n, "b", now(n), body)
        };
        let record = |n| Record { event: event(n), evidence: Vec::new(), flush: Flush::Now };
        store.append((1..=5).map(record).collect());
        let _ = stepper.flush();
        disk
    });
    let Some((at, rest)) = bytes.split_first_chunk::<2>() else { return };
    let disk = WHOLE.image();
    for (path, length) in disk.files() {
        let at = usize::from(u16::from_le_bytes(*at)) % (length + 1);
        disk.damage(&path, |file| {
            file.truncate(at);
            file.extend_from_slice(rest);
        });
    }
    drop(Store::open_in_memory::<State>(&disk, Options::default()));
}

/// The topic of a message.
fn topic_name(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(topic) = text.parse::<topic::Topic>() {
        assert_eq!(topic.to_string(), text);
    }
}

/// A UID as people type it.
fn uid_text(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(uid) = text.parse::<dormgate::access::id::CardUid>() {
        assert_eq!(uid.to_string().parse(), Ok(uid));
    }
}
