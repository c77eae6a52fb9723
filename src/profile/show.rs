//! A profile for people: what it means, and the exact bytes of every request that follows from it.

use std::path::Path;

use crate::wire::modbus::{Request, Space, hex, rtu_frame, tcp_frame};

use super::diagnostic::Diagnostic;
use super::model::{
    Confirm, InputKind, InputPoint, Meter, Output, Profile, Pulse, Reader, Trigger, UidContent, UidLength, UidSource,
};
use super::mqtt;
use super::points::{Link, Point, PointType, Poll, Write};
use super::read::read_file;
use super::shipped::shipped;
use super::words::{direction, input_words, loss, lossy, tries, uid_order};

/// The time in the example of a pulse, in milliseconds.
const EXAMPLE_MS: u32 = 3000;
/// Channels whose requests are printed; the others follow the same pattern.
const CHANNELS_SHOWN: u16 = 2;

/// Checks a profile's text; describes it and the requests that it leads to, for unit 1. The error has every diagnostic on a line of its
/// own, `FILE:LINE:COLUMN: PATH: what is wrong and what to do`.
pub fn check_text(file: &str, text: &str) -> Result<String, String> {
    let path = Path::new(file);
    let shown = if mqtt::is_mqtt(text) {
        mqtt::read_file(path, text).map(|profile| mqtt::show(&profile))
    } else {
        read_file(path, text).map(|profile| show(&profile, 1))
    };
    let line = |diagnostic: &Diagnostic| format!("{file}:{diagnostic}");
    shown.map_err(|diagnostics| diagnostics.iter().map(line).collect::<Vec<_>>().join("\n"))
}

/// Describes a built-in profile; `None`: no profile has this id.
#[must_use]
pub fn show_text(id: &str) -> Option<String> {
    shipped(id).map(|profile| show(&profile, 1)).or_else(|| Some(mqtt::show(&mqtt::shipped(id)?)))
}

/// Everything that a profile means, and every request that it leads to, for one unit.
#[must_use]
pub fn show(profile: &Profile, unit: u8) -> String {
    let mut lines = description(profile);
    lines.push(String::new());
    lines.extend(requests(profile, unit));
    lines.join("\n") + "\n"
}

/// The exact bytes of every request.
fn requests(profile: &Profile, unit: u8) -> Vec<String> {
    let example = Request::Read { space: Space::Holding, address: 0, count: 1 }.encode();
    let mut lines = vec![
        format!(
            "Requests to unit {unit} on a serial line; over TCP without the last two bytes, and with seven more at the beginning:"
        ),
        format!("  e.g. {}  is  {}", hex(&rtu_frame(unit, &example)), hex(&tcp_frame(1, unit, &example))),
    ];
    let line = |request: &Request| format!("  {:<28} {request}", hex(&rtu_frame(unit, &request.encode())));
    for poll in &profile.polls {
        lines.push(format!("poll `{}`:", poll.name));
        lines.extend(poll.reads.iter().map(line));
    }
    for reader in &profile.readers {
        let (what, note, request) = match &reader.trigger {
            Trigger::Latch { release: write, .. } => ("release", "", write.request(0, write.value)),
            Trigger::Counter { acknowledge: Some(write), .. } => {
                ("acknowledge", "  (the count is written back, here 1)", write.request(0, 1))
            }
            Trigger::Level(_) | Trigger::Counter { acknowledge: None, .. } => continue,
        };
        lines.push(format!("reader `{}`, {what}:", reader.id));
        lines.push(line(&request) + note);
    }
    let Some(output) = &profile.output else { return lines };
    lines.push("output:".to_owned());
    for channel in 0..output.channels.min(CHANNELS_SHOWN) {
        lines.push(format!("{}  (channel {channel} on)", line(&output.on(channel))));
        lines.push(format!("{}  (channel {channel} off)", line(&output.off(channel))));
        if let Some((pulse, ms)) = output.pulse(channel, EXAMPLE_MS) {
            lines.push(format!("{}  (channel {channel} for {ms} ms, ended by the device)", line(&pulse)));
        }
    }
    lines
}

/// What the profile means, in words, a line each: every point, poll, reader, relay, input and the meter.
fn description(profile: &Profile) -> Vec<String> {
    let mut lines = vec![
        format!("{}: {}", profile.id, profile.name),
        format!("can be: {}", profile.parts().join(", ")),
        format!("source: {}", profile.source),
        format!(
            "tried on: {}",
            if profile.verified_on.is_empty() { "no device yet".to_owned() } else { profile.verified_on.join("; ") }
        ),
    ];
    lines.extend(profile.caveats.iter().map(|caveat| format!("hint: {caveat}")));
    if !profile.link.factory.is_empty() {
        lines.push(format!("as delivered: {}", profile.link.factory));
    }
    lines.push(format!("when it is no longer polled, {}", loss(profile.on_link_loss, "relays")));
    lines.push(link(&profile.link));
    lines.push(format!(
        "points, with the address as this file counts, from {}, and in hex as on the wire:",
        profile.link.address_base
    ));
    let width = profile.points.iter().map(|point| point.name.chars().count()).max().unwrap_or(0);
    lines.extend(profile.points.iter().map(|p| format!("  {:<width$}  {}", p.name, point(p, &profile.link))));
    lines.extend(profile.polls.iter().map(poll));
    lines.extend(profile.readers.iter().flat_map(|of| reader(of, &profile.link)));
    lines.extend(profile.output.iter().flat_map(|of| output(of, &profile.link)));
    lines.extend(profile.inputs.iter().map(input));
    lines.extend(profile.meter.iter().map(meter));
    lines
}

fn link(link: &Link) -> String {
    format!(
        "a reply takes at most {} ms; one request reads {} registers or {} bits at most",
        link.reply_ms,
        link.read_max,
        u32::from(link.read_max) * 16
    )
}

/// An address as the file counts, and in hex as on the wire.
fn at(space: Space, address: u16, link: &Link) -> String {
    format!("{} {} ({address:04X})", space.as_str(), u32::from(address) + u32::from(link.address_base))
}

fn point(point: &Point, link: &Link) -> String {
    let mut parts = vec![at(point.space, point.address, link), point.kind.to_string()];
    if matches!(point.kind, PointType::Bytes | PointType::ByteEach) {
        parts.push(format!("{} registers", point.registers));
    }
    match point.bit {
        Some(bit) => parts.push(format!("bit {bit}")),
        None if point.kind == PointType::Bool && !point.space.is_bits() => parts.push("set when not 0".to_owned()),
        None => {}
    }
    if !point.space.is_bits() && point.kind != PointType::ByteEach {
        parts.push(format!("byte_order {}", point.byte_order));
    }
    if point.registers > 1 {
        parts.push(format!("word_order {}", point.word_order));
    }
    #[expect(clippy::float_cmp, reason = "1 as it is written, and as it is where nothing is written")]
    if point.scale != 1.0 {
        parts.push(format!("times {}", point.scale));
    }
    parts.extend(point.unit.as_ref().map(|unit| format!("in {unit}")));
    if !point.invalid.is_empty() {
        let numbers: Vec<String> = point.invalid.iter().map(ToString::to_string).collect();
        parts.push(format!("no value when it is {}", numbers.join(" or ")));
    }
    if point.channels > 1 {
        parts.push(format!("{} channels, {} apart", point.channels, point.stride));
    }
    parts.join(", ")
}

fn poll(poll: &Poll) -> String {
    let atomic = match (poll.atomic, poll.reads.len()) {
        (true, _) => ", atomic: always one request".to_owned(),
        (false, 1) => ", one request".to_owned(),
        (false, requests) => format!(", {requests} requests"),
    };
    format!("poll `{}` every {} ms{atomic}: {}", poll.name, poll.every_ms, poll.points.join(", "))
}

fn reader(reader: &Reader, link: &Link) -> Vec<String> {
    let direction = direction(reader.direction);
    let (when, then) = match &reader.trigger {
        Trigger::Level(None) => (format!("as long as `{}` is not zeros", reader.uid.point.name), None),
        Trigger::Level(Some(point)) => (format!("as long as `{}` is set", point.name), None),
        Trigger::Latch { flag, release, repeats_ms } => {
            let until = match repeats_ms {
                None => ", until it is released".to_owned(),
                Some(ms) => format!("; after its release it is set again within {ms} ms while the card lies there"),
            };
            (format!("when `{}` is set{until}", flag.name), Some(format!("  released by {}", write(release, link))))
        }
        Trigger::Counter { count, acknowledge } => {
            let to = acknowledge.as_ref().map(|to| at(to.space, to.address, link));
            let then =
                to.map_or("  not acknowledged".to_owned(), |to| format!("  acknowledged by writing the count to {to}"));
            (format!("when `{}` counts up", count.name), Some(then))
        }
    };
    let mut lines = vec![format!("reader `{}`{direction}: a card {when}", reader.id)];
    lines.extend(then);
    lines.push(match reader.leaves_after_ms() {
        Some(ms) => format!("  it has left when none was seen for {ms} ms"),
        None => "  it does not report when a card leaves: not for a power box".to_owned(),
    });
    lines.extend(uid(&reader.uid));
    lines
}

fn uid(uid: &UidSource) -> Vec<String> {
    let length = match &uid.length {
        UidLength::Fixed(bytes) => format!("{bytes} bytes"),
        UidLength::Point(point) => format!("as many bytes as `{}` holds", point.name),
        UidLength::ZeroPadded => "4, 7 or 10 bytes, then zeros".to_owned(),
        UidLength::All => "all of it".to_owned(),
    };
    let mut lines = vec![format!("  UID in `{}`, {length}, {}", uid.point.name, uid_order(uid.order))];
    match uid.content {
        UidContent::Whole { .. } if matches!(uid.length, UidLength::Fixed(_)) => {}
        UidContent::Whole { min, max } => lines.push(format!("  UIDs of {min} to {max} bytes; others are malformed")),
        UidContent::Reduced(_) => lines.extend(lossy("shows", uid.transform())),
    }
    lines
}

fn write(write: &Write, link: &Link) -> String {
    let many = if write.multiple { ", by FC 15 or 16" } else { "" };
    format!("{:04X} to {}{many}", write.value, at(write.space, write.address, link))
}

fn output(output: &Output, link: &Link) -> Vec<String> {
    let confirmed = match (&output.confirm, &output.state) {
        (Confirm::State, Some(state)) => {
            format!("confirmed by reading `{}` back, {} ms after a write", state.name, output.settle_ms)
        }
        (Confirm::State, None) => "CANNOT be read back".to_owned(),
        (Confirm::Echo { because }, _) => format!("NOT read back ({because}): confirmed by its echo"),
    };
    let channels = match output.channels {
        1 => "1 channel".to_owned(),
        several => format!("{several} channels, {} apart", output.stride),
    };
    let pulse = match &output.pulse {
        Pulse::Gateway => "on, wait, off: the gateway ends it".to_owned(),
        Pulse::Device { write: pulse, step_ms, steps_max: 0 } => {
            format!(
                "{}: the device ends it after {step_ms} ms, whatever the `hold_ms` of the portal",
                write(pulse, link)
            )
        }
        Pulse::Device { write: pulse, step_ms, steps_max } => format!(
            "{} plus the time in steps of {step_ms} ms, at most {steps_max} of them: the device ends it",
            write(pulse, link)
        ),
    };
    vec![
        format!("output: {channels}, {confirmed}"),
        format!("  on: {}; off: {}", write(&output.on, link), write(&output.off, link)),
        format!("  pulse: {pulse}"),
        tries(output.retry, output.deadline_ms),
    ]
}

fn input(input: &InputPoint) -> String {
    let kind = match input.kind {
        InputKind::ContactOpen => "the door is open",
        other => input_words(other).0,
    };
    let when = match input.when {
        _ if input.point.kind != PointType::Bool => "counts up",
        true => "is set",
        false => "is clear",
    };
    format!("input: {kind} when `{}` {when}", input.point.name)
}

fn meter(meter: &Meter) -> String {
    let name =
        |point: &Option<(Point, f64)>| point.as_ref().map_or("not measured".into(), |(p, _)| format!("`{}`", p.name));
    format!("meter: power {}, energy {}", name(&meter.power), name(&meter.energy))
}
