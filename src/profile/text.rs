//! A profile for people: what it says, and the exact bytes that will be sent because of it.

use std::path::Path;

use crate::wire::modbus::{Request, Space, hex, rtu_frame, tcp_frame};

use super::{Profile, Trigger, read_file, shipped, tell};

/// The time in the example of a pulse, in milliseconds.
const EXAMPLE_MS: u32 = 3000;
/// Channels whose requests are printed; the others follow the same pattern.
const CHANNELS_SHOWN: u16 = 2;

/// Checks a profile's text and prints the requests it will send, as unit 1.
///
/// # Errors
/// Every diagnostic on a line of its own, `FILE:LINE:COLUMN: PATH: what is wrong and what to do`.
pub fn check_text(file: &str, text: &str) -> Result<String, String> {
    match read_file(Path::new(file), text) {
        Ok(profile) => Ok(show(&profile, 1)),
        Err(diagnostics) => {
            Err(diagnostics.iter().map(|diagnostic| format!("{file}:{diagnostic}")).collect::<Vec<_>>().join("\n"))
        }
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
    let mut lines = tell::lines(profile);
    lines.push(String::new());
    lines.extend(requests(profile, unit));
    lines.join("\n") + "\n"
}

/// The exact bytes.
fn requests(profile: &Profile, unit: u8) -> Vec<String> {
    let example = Request::Read { space: Space::Holding, address: 0, count: 1 }.encode();
    let mut lines = vec![
        format!("Requests as unit {unit} on a serial line; over TCP the last two bytes go and seven come before:"),
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
    fn every_diagnostic_in_a_profile_is_told_with_its_line_and_a_remedy() {
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
