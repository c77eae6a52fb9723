//! What a profile says, in words for whoever installs the device: every point, poll, reader, relay, input and meter.
//!
//! Owns the words. The bytes that follow from it are [`super::text`]'s.

use crate::access::portal::Direction;

use super::scope::{ORDERS, TYPES};
use super::{
    Confirm, InputKind, InputPoint, Link, Meter, OnLinkLoss, Order, Output, Point, PointType, Poll, Profile, Pulse,
    Reader, Trigger, UidLength, UidOrder, UidSays, UidSource, Write,
};

/// The lines, without their ends.
pub(super) fn lines(profile: &Profile) -> Vec<String> {
    let mut lines = vec![
        format!("{}: {}", profile.id, profile.name),
        format!("can be: {}", profile.parts().join(", ")),
        format!("source: {}", profile.source),
        format!("tried on: {}", listed(&profile.verified_on, "; ", "nothing yet")),
    ];
    lines.extend(profile.caveats.iter().map(|caveat| format!("mind: {caveat}")));
    if !profile.link.factory.is_empty() {
        lines.push(format!("as delivered: {}", profile.link.factory));
    }
    lines.push(format!("when nobody asks any more, the device {}", loss(profile.on_link_loss)));
    lines.push(link(&profile.link));
    lines.push(format!(
        "points, with the address as this file counts, from {}, and in hex as it is on the wire:",
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

fn loss(what: OnLinkLoss) -> &'static str {
    match what {
        OnLinkLoss::Hold => "keeps its relays as they are",
        OnLinkLoss::Off => "switches its relays off",
        OnLinkLoss::Unknown => "is not known to do anything",
    }
}

fn link(link: &Link) -> String {
    format!(
        "it has answered after {} ms or never will; one request reads {} registers or {} bits at most",
        link.reply_ms,
        link.read_max,
        u32::from(link.read_max) * 16
    )
}

fn listed(items: &[String], between: &str, none: &str) -> String {
    if items.is_empty() { none.to_owned() } else { items.join(between) }
}

/// The name of a value in the format.
fn word<T: PartialEq>(names: &[(&'static str, T)], value: &T) -> &'static str {
    names.iter().find(|(_, named)| named == value).map_or("", |(name, _)| name)
}

/// Where something is: as the file counts, and as it is on the wire.
fn at(space: crate::wire::modbus::Space, address: u16, link: &Link) -> String {
    format!("{} {} ({address:04X})", space.as_str(), u32::from(address) + u32::from(link.address_base))
}

fn point(point: &Point, link: &Link) -> String {
    let mut said = vec![at(point.space, point.address, link), word(&TYPES, &point.kind).to_owned()];
    let order = |order: Order| word(&ORDERS, &order);
    match point.kind {
        PointType::Bytes | PointType::ByteEach => said.push(format!("{} registers", point.registers)),
        PointType::Bool | PointType::U16 | PointType::I16 | PointType::U32 | PointType::I32 | PointType::F32 => {}
    }
    match point.bit {
        Some(bit) => said.push(format!("bit {bit}")),
        None if point.kind == PointType::Bool && !point.space.is_bits() => said.push("set when not 0".to_owned()),
        None => {}
    }
    if !point.space.is_bits() && point.kind != PointType::ByteEach {
        said.push(format!("byte_order {}", order(point.byte_order)));
    }
    if point.registers > 1 {
        said.push(format!("word_order {}", order(point.word_order)));
    }
    #[expect(clippy::float_cmp, reason = "1 as it is written, and as it is where nothing is written")]
    if point.scale != 1.0 {
        said.push(format!("times {}", point.scale));
    }
    said.extend(point.unit.as_ref().map(|unit| format!("in {unit}")));
    if !point.invalid.is_empty() {
        let numbers: Vec<String> = point.invalid.iter().map(ToString::to_string).collect();
        said.push(format!("nothing when it is {}", numbers.join(" or ")));
    }
    if point.channels > 1 {
        said.push(format!("{} channels, {} apart", point.channels, point.stride));
    }
    said.join(", ")
}

fn poll(poll: &Poll) -> String {
    let atomic = match (poll.atomic, poll.reads.len()) {
        (true, _) => ", atomic: one request, always".to_owned(),
        (false, 1) => ", one request".to_owned(),
        (false, requests) => format!(", {requests} requests"),
    };
    format!("poll `{}` every {} ms{atomic}: {}", poll.name, poll.every_ms, poll.points.join(", "))
}

fn reader(reader: &Reader, link: &Link) -> Vec<String> {
    let direction = match reader.direction {
        Some(Direction::In) => ", on the way in",
        Some(Direction::Out) => ", on the way out",
        None => "",
    };
    let when = match &reader.trigger {
        Trigger::Level(None) => format!("as long as `{}` is not zeros", reader.uid.point.name),
        Trigger::Level(Some(point)) => format!("as long as `{}` is set", point.name),
        Trigger::Latch { flag, repeats_ms: None, .. } => format!("when `{}` is set, until it is released", flag.name),
        Trigger::Latch { flag, repeats_ms: Some(ms), .. } => {
            format!("when `{}` is set; released, it is set again within {ms} ms while the card lies there", flag.name)
        }
        Trigger::Counter { count, .. } => format!("when `{}` counts on", count.name),
    };
    let mut lines = vec![format!("reader `{}`{direction}: a card {when}", reader.id)];
    match &reader.trigger {
        Trigger::Level(_) => {}
        Trigger::Latch { release, .. } => lines.push(format!("  released by {}", write(release, link))),
        Trigger::Counter { acknowledge: Some(acknowledge), .. } => {
            lines.push(format!("  acknowledged by the count, to {}", at(acknowledge.space, acknowledge.address, link)));
        }
        Trigger::Counter { acknowledge: None, .. } => lines.push("  not acknowledged".to_owned()),
    }
    lines.push(match reader.leaves_after_ms() {
        Some(ms) => format!("  it has left when none was seen for {ms} ms"),
        None => "  when it leaves is not told: no reader for a power box".to_owned(),
    });
    lines.extend(uid(&reader.uid));
    lines
}

fn uid(uid: &UidSource) -> Vec<String> {
    let length = match &uid.length {
        UidLength::Fixed(bytes) => format!("{bytes} bytes"),
        UidLength::Point(point) => format!("as many bytes as `{}` says", point.name),
        UidLength::ZeroPadded => "4, 7 or 10 bytes with zeros behind".to_owned(),
        UidLength::All => "as a whole".to_owned(),
    };
    let order = match uid.order {
        UidOrder::MsbFirst => "msb_first, as the card sends them",
        UidOrder::LsbFirst => "lsb_first, turned round",
    };
    let mut lines = vec![format!("  UID in `{}`, {length}, {order}", uid.point.name)];
    match (uid.says, uid.transform()) {
        (UidSays::Whole { .. }, _) if matches!(uid.length, UidLength::Fixed(_)) => {}
        (UidSays::Whole { min, max }, _) => {
            lines.push(format!("  UIDs of {min} to {max} bytes; others are malformed"));
        }
        (UidSays::Reduced(_), transform) => {
            let name = transform.map(|t| t.to_string()).unwrap_or_default();
            lines.push(format!(
                "  LOSSY: it says only what `{name}` leaves of a UID. The gateway does the same to every card it knows;"
            ));
            lines.push(
                "  cards that fall together are denied there as `ambiguous_identifier`, and an unknown card may pass for a known one"
                    .to_owned(),
            );
        }
    }
    lines
}

fn write(write: &Write, link: &Link) -> String {
    let many = if write.multiple { ", by the function for many" } else { "" };
    format!("{:04X} to {}{many}", write.value, at(write.space, write.address, link))
}

fn output(output: &Output, link: &Link) -> Vec<String> {
    let confirmed = match (&output.confirm, &output.state) {
        (Confirm::State, Some(state)) => {
            format!("confirmed by reading `{}` back, {} ms after a write", state.name, output.settle_ms)
        }
        (Confirm::State, None) => "CANNOT be read back".to_owned(),
        (Confirm::Echo { because }, _) => format!("NOT read back ({because}): its echo has to do"),
    };
    let channels = match output.channels {
        1 => "1 channel".to_owned(),
        several => format!("{several} channels, {} apart", output.stride),
    };
    let pulse = match &output.pulse {
        Pulse::Gateway => "on, wait, off: the gateway ends it".to_owned(),
        Pulse::Device { write: pulse, step_ms, steps_max: 0 } => {
            format!("{}: the device ends it after {step_ms} ms, whatever `hold_ms` says", write(pulse, link))
        }
        Pulse::Device { write: pulse, step_ms, steps_max } => format!(
            "{} and the time added to it, in steps of {step_ms} ms, {steps_max} of them at most: the device ends it",
            write(pulse, link)
        ),
    };
    vec![
        format!("output: {channels}, {confirmed}"),
        format!("  on: {}; off: {}", write(&output.on, link), write(&output.off, link)),
        format!("  pulse: {pulse}"),
        format!(
            "  a release: {} further tries, given up and reported after {} ms; a cut: tried until it is confirmed",
            output.retry, output.deadline_ms
        ),
    ]
}

fn input(input: &InputPoint) -> String {
    let kind = match input.kind {
        InputKind::ContactOpen => "the door is open",
        InputKind::ExitButton => "the exit button is pressed",
        InputKind::Tamper => "the housing is open",
        InputKind::Fire => "the fire panel releases",
        InputKind::PassedIn => "somebody went in",
        InputKind::PassedOut => "somebody went out",
    };
    let when = match input.when {
        _ if input.point.kind != PointType::Bool => "counts on",
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
