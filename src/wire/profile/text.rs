//! A profile for people: what it says, and the exact bytes that will be sent because of it.

use std::path::Path;

use crate::wire::modbus::{Request, hex, rtu_frame, tcp_frame};

use super::{
    Confirm, InputKind, OnLinkLoss, PointType, Profile, Pulse, Trigger, UidLength, UidSays, read_file, shipped,
};

/// The time in the example of a pulse, in milliseconds.
const EXAMPLE_MS: u32 = 3000;
/// Channels whose requests are printed; the others follow the same pattern.
const CHANNELS_SHOWN: u16 = 2;

/// Checks a profile's text and prints the requests it will send, as unit 1.
///
/// # Errors
/// Every mistake on a line of its own, `FILE:LINE:COLUMN: PATH: what is wrong and what to do`.
pub fn check_text(file: &str, text: &str) -> Result<String, String> {
    match read_file(Path::new(file), text) {
        Ok(profile) => Ok(show(&profile, 1)),
        Err(mistakes) => Err(mistakes.iter().map(|mistake| format!("{file}:{mistake}")).collect::<Vec<_>>().join("\n")),
    }
}

/// Prints a built-in profile; `None`: there is none of this id.
#[must_use]
pub fn show_text(id: &str) -> Option<String> {
    Some(show(&shipped(id)?, 1))
}

/// Everything a profile says, and every request it leads to, for one unit.
#[must_use]
pub fn show(profile: &Profile, unit: u8) -> String {
    let mut out = String::new();
    let mut line = |text: std::fmt::Arguments<'_>| {
        out.push_str(&text.to_string());
        out.push('\n');
    };
    line(format_args!("{}: {}", profile.id, profile.name));
    line(format_args!("can be: {}", profile.parts().join(", ")));
    line(format_args!("source: {}", profile.source));
    if profile.verified_on.is_empty() {
        line(format_args!("tried on: nothing yet"));
    } else {
        line(format_args!("tried on: {}", profile.verified_on.join("; ")));
    }
    for caveat in &profile.caveats {
        line(format_args!("mind: {caveat}"));
    }
    if !profile.link.factory.is_empty() {
        line(format_args!("as delivered: {}", profile.link.factory));
    }
    let loss = match profile.on_link_loss {
        OnLinkLoss::Hold => "keeps its relays as they are",
        OnLinkLoss::Off => "switches its relays off",
        OnLinkLoss::Unknown => "is not known to do anything",
    };
    line(format_args!("when nobody asks any more, the device {loss}"));
    line(format_args!(""));
    line(format_args!(
        "Requests as unit {unit} on a serial line; over TCP the last two bytes go and seven come before:"
    ));
    let example = Request::Read { space: crate::wire::modbus::Space::Holding, address: 0, count: 1 };
    line(format_args!(
        "  e.g. {}  is  {}",
        hex(&rtu_frame(unit, &example.encode())),
        hex(&tcp_frame(1, unit, &example.encode()))
    ));
    let request = |request: &Request| format!("  {:<28} {request}", hex(&rtu_frame(unit, &request.encode())));
    for poll in &profile.polls {
        let atomic = if poll.atomic { ", in one request" } else { "" };
        line(format_args!("poll `{}` every {} ms{atomic}: {}", poll.name, poll.every_ms, poll.points.join(", ")));
        for read in &poll.reads {
            line(format_args!("{}", request(read)));
        }
    }
    for reader in &profile.readers {
        let when = match &reader.trigger {
            Trigger::Level(None) => format!("as long as `{}` is not zeros", reader.uid.point.name),
            Trigger::Level(Some(point)) => format!("as long as `{}` is set", point.name),
            Trigger::Latch { flag, repeats_ms: None, .. } => {
                format!("when `{}` is set, until it is released", flag.name)
            }
            Trigger::Latch { flag, repeats_ms: Some(ms), .. } => {
                format!(
                    "when `{}` is set; released, it is set again within {ms} ms while the card lies there",
                    flag.name
                )
            }
            Trigger::Counter { count, .. } => format!("when `{}` counts on", count.name),
        };
        let length = match &reader.uid.length {
            UidLength::Fixed(bytes) => format!("{bytes} bytes"),
            UidLength::Point(point) => format!("as many bytes as `{}` says", point.name),
            UidLength::ZeroPadded => "4, 7 or 10 bytes with zeros behind".to_owned(),
            UidLength::All => "as a whole".to_owned(),
        };
        line(format_args!("reader `{}`: a card {when}; its UID is `{}`, {length}", reader.id, reader.uid.point.name));
        match (reader.uid.says, reader.uid.transform()) {
            (UidSays::Whole { min: 4, max: 10 }, _) => {}
            (UidSays::Whole { min, max }, _) => {
                line(format_args!("  UIDs of {min} to {max} bytes; others are malformed"));
            }
            (UidSays::Reduced(_), transform) => {
                let name = transform.map(|t| t.to_string()).unwrap_or_default();
                line(format_args!(
                    "  LOSSY: it says only what `{name}` leaves of a UID. The gateway does the same to every card it knows;"
                ));
                line(format_args!(
                    "  cards that fall together are denied there as `ambiguous_identifier`, and an unknown card may pass for a known one"
                ));
            }
        }
        match &reader.trigger {
            Trigger::Latch { release: write, .. } => line(format_args!("{}", request(&write.request(0, write.value)))),
            Trigger::Counter { acknowledge: Some(write), .. } => {
                line(format_args!("{}  (the count is written back)", request(&write.request(0, 1))));
            }
            Trigger::Level(_) | Trigger::Counter { acknowledge: None, .. } => {}
        }
    }
    if let Some(output) = &profile.output {
        let confirmed = match (&output.confirm, &output.state) {
            (Confirm::State, Some(state)) => format!("confirmed by reading `{}` back", state.name),
            (Confirm::State, None) => "CANNOT be read back".to_owned(),
            (Confirm::Echo { because }, _) => format!("NOT read back ({because}): its echo has to do"),
        };
        line(format_args!("output: {} channels, {confirmed}", output.channels));
        line(format_args!(
            "  a release: {} further tries, given up and reported after {} ms; a cut: tried until it is confirmed",
            output.retry, output.deadline_ms
        ));
        for channel in 0..output.channels.min(CHANNELS_SHOWN) {
            line(format_args!("{}  (channel {channel} on)", request(&output.on(channel))));
            line(format_args!("{}  (channel {channel} off)", request(&output.off(channel))));
            match output.pulse(channel, EXAMPLE_MS) {
                Some((pulse, ms)) => {
                    line(format_args!("{}  (channel {channel} for {ms} ms, ended by the device)", request(&pulse)));
                }
                None if output.pulse == Pulse::Gateway => {
                    line(format_args!("  (channel {channel} for a moment: on, wait, off; the gateway ends it)"));
                }
                None => {}
            }
        }
    }
    for input in &profile.inputs {
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
        line(format_args!("input: {kind} when `{}` {when}", input.point.name));
    }
    if let Some(meter) = &profile.meter {
        let name = |point: &Option<(super::Point, f64)>| {
            point.as_ref().map_or("not measured".into(), |(p, _)| format!("`{}`", p.name))
        };
        line(format_args!("meter: power {}, energy {}", name(&meter.power), name(&meter.energy)));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_are_the_bytes_that_are_sent() {
        let text = show_text("waveshare-relay-8ch").unwrap();
        for bytes in ["01 01 00 00 00 08 3D CC", "01 05 00 00 FF 00 8C 3A", "01 05 02 00 00 1E 4C 7A"] {
            assert!(text.contains(bytes), "{bytes} is not in:\n{text}");
        }
        assert_eq!(show_text("no-such-device"), None);
    }

    #[test]
    fn every_mistake_in_a_profile_is_told_with_its_line_and_a_remedy() {
        let text = r#"schema = 1
id = "Acme DC1"
source = ""
[link]
byte_order = "big"
[points]
count = { space = "holding", address = 0, type = "u16" }
uid = { space = "holding", address = 1, type = "bytes", registers = 5 }
far = { space = "holding", address = 200, type = "u16", bit = 3 }
lock = { space = "coil", address = 0, type = "u16" }
[[poll]]
name = "card"
every_ms = 100
atomic = true
points = ["count", "far", "uidd"]
[[reader]]
trigger = { counter = "count" }
uid = { point = "uid", length = 4, order = "msb_first" }
[output]
on = { space = "input", address = 0 }
off = { space = "coil", address = 0 }
pulse = { by = "devise" }
delay = 3
"#;
        let said = check_text("acme.toml", text).unwrap_err();
        for wanted in [
            "acme.toml:2:6: `id`: a profile's id is",
            "acme.toml:3:10: `source`: say where the map was found",
            "acme.toml:4:1: `link`: `address_base` is missing",
            "`points.uid.type`: say `word_order = \"big\"` or `\"little\"`",
            "`points.far.bit`: `bit` is for a `bool` in a register",
            "`points.lock.type`: a coil is one bit: its type is `bool`",
            "acme.toml:15:27: `poll[0].points[2]`: no point is called `uidd`; did you mean `uid`?",
            "acme.toml:14:1: `poll[0].atomic`: needs 2 requests",
            "`reader[0].uid.point`: no `[[poll]]` asks for `uid`",
            "`output.on.space`: a point of `input` cannot be written",
            "`output.pulse.by`: one of `device`, `gateway` is wanted, got `devise`",
            "acme.toml:23:1: `output.delay`: unknown key",
        ] {
            assert!(said.contains(wanted), "{wanted}\nis not in:\n{said}");
        }
    }

    #[test]
    fn a_key_that_slipped_into_the_table_before_is_not_taken_for_a_point() {
        let text = "schema = 1\nid = \"a\"\nsource = \"s\"\n[link]\naddress_base = 0\n[points]\nlock = { space = \"coil\", address = 0, type = \"bool\" }\non_link_loss = \"hold\"\n";
        let said = check_text("a.toml", text).unwrap_err();
        assert!(said.contains("a.toml:8:16: `points.on_link_loss`: a table is wanted"), "{said}");
    }
}
