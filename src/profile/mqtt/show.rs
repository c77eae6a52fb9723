//! A profile for people: what it means, and the exact topics and payloads for a device called `NAME`.

use super::model::{Names, Order, Output, Place, Profile, Pulse, Reader, Two, UidForm};
use crate::profile::model::UidContent;
use crate::profile::words::{direction, input_words, loss, lossy, tries, uid_order};

/// The name of the device in what is printed.
const EXAMPLE: &str = "NAME";
/// The time in the example of a pulse, in milliseconds.
const EXAMPLE_MS: u32 = 3000;

/// Everything that a profile means, with every topic and payload.
#[must_use]
pub fn show(profile: &Profile) -> String {
    let names = Names { topic: EXAMPLE, channel: 0 };
    let tried = profile.verified_on.join("; ");
    let mut lines = vec![
        format!("{}: {}", profile.id, profile.name),
        format!("can be: {}", profile.parts().join(", ")),
        format!("source: {}", profile.source),
        format!("tried on: {}", if tried.is_empty() { "no device yet" } else { &tried }),
    ];
    lines.extend(profile.caveats.iter().map(|caveat| format!("hint: {caveat}")));
    lines.extend(profile.setup.iter().map(|line| format!("set-up: {}", names.fill(line))));
    lines.push(format!("when it loses the broker, {}", loss(profile.on_link_loss, "outputs")));
    lines.push(format!("topics and payloads of a device with `topic = \"{EXAMPLE}\"`:"));
    for of in profile.available(EXAMPLE) {
        let else_ =
            if of.needed { "without a message it counts as offline" } else { "without a message it counts as online" };
        lines.push(format!("available: {}; {else_}", two(&of.is, "online", "offline")));
    }
    lines.push(format!("  what it sends in the first {} ms after it connected may be older", profile.start_ms));
    lines.extend(profile.reader.iter().flat_map(|of| reader(&of.of(names))));
    lines.extend(profile.output.iter().flat_map(|of| output(&of.of(names), of.channels)));
    for input in profile.inputs(names) {
        let (yes, no) = input_words(input.kind);
        lines.push(format!("input: {}", two(&input.is, yes, no)));
    }
    if let Some(meter) = profile.meter.as_ref().map(|meter| meter.of(names)) {
        for (what, unit, value) in [("power", "W", &meter.power), ("energy", "kWh", &meter.energy)] {
            lines.extend(
                value.iter().map(|(at, factor)| format!("meter: {what} in {}, times {factor} in {unit}", place(at))),
            );
        }
    }
    lines.join("\n") + "\n"
}

fn place(place: &Place) -> String {
    let at = place.at.as_ref().map_or("the text".to_owned(), |at| format!("`{at}`"));
    let only = place.only.as_ref().map_or(String::new(), |(at, is)| format!(", where `{at}` is `{is}`"));
    let retained = if place.retained { ", also retained" } else { "" };
    format!("{at} of `{}`{only}{retained}", place.topic)
}

fn two(of: &Two, yes: &str, no: &str) -> String {
    let channel = of.channel.map_or(String::new(), |channel| format!(", of channel {channel} only"));
    format!("{}: `{}` is {yes}, `{}` is {no}{channel}", place(&of.place), of.yes, of.no)
}

fn order(order: &Order) -> String {
    if order.payload.is_empty() {
        format!("`{}` without a payload", order.topic)
    } else {
        format!("`{}` `{}`", order.topic, order.payload)
    }
}

fn reader(reader: &Reader) -> Vec<String> {
    let direction = direction(reader.direction);
    let mut lines = vec![format!("reader{direction}: a card is {}; never retained", place(&reader.place))];
    lines.push(match reader.leaves_after_ms() {
        Some(ms) => format!("  it has left when it was not reported for {ms} ms"),
        None => format!(
            "  the same card again within {} ms is one presentation; it does not report when a card leaves: not for a power box",
            reader.again_ms
        ),
    });
    let removed = reader.removed.iter();
    let shown = |is: &str| if is.is_empty() { "empty".to_owned() } else { format!("`{is}`") };
    lines.extend(removed.map(|(at, is)| format!("  it has left at once when {} is {}", place(at), shown(is))));
    if reader.removed_repeats {
        lines.push("  it repeats that, too: the first card after a silence is reported, and not presented".to_owned());
    }
    let stamp = reader.stamp.iter();
    lines.extend(stamp.map(|at| format!("  a message that was delivered twice or late, by its `{at}`, opens nothing")));
    let form = match reader.uid.form {
        UidForm::Hex => "hex digits, with or without separators",
        UidForm::Number => "a decimal number, or marked hex digits",
    };
    lines.push(format!("  UID: {form}, {}", uid_order(reader.uid.order)));
    match reader.uid.content {
        UidContent::Whole { min, max } if min == max => {
            lines.push(format!("  every UID has {min} bytes; others are malformed"));
        }
        UidContent::Whole { min, max } => lines.push(format!("  UIDs of {min} to {max} bytes; others are malformed")),
        UidContent::Reduced(_) => lines.extend(lossy("reports", reader.uid.transform())),
    }
    lines
}

fn output(output: &Output, channels: u16) -> Vec<String> {
    let mut lines = vec![match channels {
        1 => "output: 1 channel".to_owned(),
        several => format!("output: {several} channels; what follows is of channel 0"),
    }];
    lines.push(format!("  on: {}", order(&output.on)));
    lines.push(format!("  off: {}", order(&output.off)));
    lines.push(match (&output.pulse, output.pulse(EXAMPLE_MS)) {
        (Pulse::Device { step_ms, max_ms, .. }, Some((sent, ms))) => {
            format!("  for {ms} ms: {}; the device ends it; steps of {step_ms} ms, at most {max_ms} ms", order(&sent))
        }
        (Pulse::Device { .. } | Pulse::Gateway, _) => "  for a time: on, wait, off: the gateway ends it".to_owned(),
    });
    lines.extend(output.state.iter().map(|state| format!("  state: {}", two(state, "on", "off"))));
    let when = if output.confirm.each { "after each order" } else { "when it has changed" };
    let query =
        output.confirm.query.as_ref().map_or(String::new(), |query| format!("; asked for with {}", order(query)));
    lines.push(format!("  confirmed by its state, reported {when} within {} ms{query}", output.confirm.within_ms));
    lines.push(tries(output.retry, output.deadline_ms));
    lines
}
