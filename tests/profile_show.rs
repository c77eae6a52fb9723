//! `dormgate profile` as an installer runs it: what a built-in profile or a file means, and where a file has errors.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::Path;
use std::process::Command;

use dormgate::profile::{SHIPPED, mqtt, shipped};

/// What the command prints on stdout and stderr, and its exit code. It is run in `tests/profiles`.
fn profile(words: &[&str]) -> (String, String, Option<i32>) {
    let mut program = Command::new(env!("CARGO_BIN_EXE_dormgate"));
    program.arg("profile").args(words).env_remove("RUST_LOG").current_dir(profiles());
    let output = program.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr), output.status.code())
}

fn profiles() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/profiles"))
}

#[test]
fn all_that_an_installer_needs_of_a_profile_is_shown() {
    for (named, shown) in [
        ("generic-door-controller", "generic-door-controller"),
        ("generic-power-box", "generic-power-box"),
        ("waveshare-relay-8ch", "waveshare-relay-8ch"),
        ("wiegand-converter.toml", "wiegand-converter"),
        ("esphome-tag", "esphome-tag"),
        ("shelly-gen2", "shelly-gen2"),
        ("tasmota-wiegand26", "tasmota-wiegand26"),
        ("zigbee2mqtt-contact", "zigbee2mqtt-contact"),
    ] {
        let wanted = std::fs::read_to_string(profiles().join(format!("shown/{shown}.txt"))).unwrap();
        let (output, wrong, code) = profile(&["show", named]);
        assert_eq!((wrong.as_str(), code), ("", Some(0)), "{named}");
        assert_eq!(output, wanted, "{named}");
    }
}

#[test]
fn each_point_and_each_request_of_every_profile_is_shown() {
    for (id, _) in SHIPPED {
        let output = dormgate::profile::show_text(id).unwrap();
        let profile = shipped(id).unwrap();
        for point in &profile.points {
            let line = output.lines().find(|line| line.starts_with(&format!("  {} ", point.name))).unwrap();
            assert!(line.contains(&format!("({:04X})", point.address)), "{id}: {line}");
            assert_eq!(line.contains("times"), point.scale != 1.0, "{id}: {line}");
        }
        let requests = profile.polls.iter().flat_map(|poll| &poll.reads);
        for request in requests.chain(&profile.output.iter().map(|output| output.off(0)).collect::<Vec<_>>()) {
            assert!(output.lines().any(|line| line.contains(&request.to_string())), "{id}: {request}\n{output}");
        }
    }
}

#[test]
fn each_place_each_value_and_each_order_of_every_mqtt_profile_is_shown() {
    for (id, _) in mqtt::SHIPPED {
        let shown = dormgate::profile::show_text(id).unwrap();
        let profile = mqtt::shipped(id).unwrap();
        let names = mqtt::Names { topic: "NAME", channel: 0 };
        let (reader, output) = (profile.reader.map(|of| of.of(names)), profile.output.map(|of| of.of(names)));
        let meter = profile.meter.map(|of| of.of(names));
        let states = output.iter().flat_map(|of| of.state.clone());
        let available = profile.available.iter().map(|of| of.is.of(names));
        let two: Vec<mqtt::Two> =
            available.chain(profile.inputs.iter().map(|of| of.is.of(names))).chain(states).collect();
        let mut places: Vec<_> = two.iter().map(|of| (&of.place, vec![&of.yes, &of.no])).collect();
        places.extend(reader.iter().map(|of| (&of.place, vec![])));
        places.extend(reader.iter().filter_map(|of| of.removed.as_ref()).map(|(place, _)| (place, vec![])));
        let numbers = meter.iter().flat_map(|of| [&of.power, &of.energy]).flatten();
        places.extend(numbers.map(|(place, _)| (place, vec![])));
        for (place, values) in places {
            let at = place.at.as_ref().map_or("the text".to_owned(), |at| format!("`{at}`"));
            let is_here = |line: &&str| line.contains(&format!("{at} of `{}`", place.topic));
            let line = shown.lines().find(is_here).unwrap_or_default();
            let values = values.iter().map(|value| format!("`{value}` is "));
            let only = place.only.iter().map(|(at, is)| format!("where `{at}` is `{is}`"));
            assert!(
                values.chain(only).all(|text| line.contains(&text)) && !line.is_empty(),
                "{id}: {place:?}\n{shown}"
            );
        }

        let pulse = output.iter().filter_map(|of| Some(of.pulse(3000)?.0));
        let orders = output.iter().flat_map(|of| [Some(&of.on), Some(&of.off), of.confirm.query.as_ref()]);
        let orders = orders.flatten().cloned().chain(pulse).flat_map(|order| [order.topic, order.payload]);
        let hints = profile.caveats.iter().map(|caveat| format!("hint: {caveat}\n"));
        for text in orders.chain(hints).chain(profile.setup.iter().map(|line| names.fill(line))) {
            assert!(shown.contains(&text), "{id}: {text}\n{shown}");
        }
    }
}

#[test]
fn a_file_is_shown_as_it_is_checked_and_its_diagnostics_are_reported() {
    let (shown, ..) = profile(&["show", "./digits-reader.toml"]);
    assert_eq!(shown, profile(&["check", "digits-reader.toml"]).0);
    assert!(shown.starts_with("digits-reader: "), "{shown}");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("board.toml").display().to_string();
    std::fs::write(&file, "schema = 1\nid = \"bord\"\nsource = \"s\"\n").unwrap();
    for command in ["show", "check"] {
        let (shown, wrong, code) = profile(&[command, &file]);
        assert_eq!((shown.as_str(), code), ("", Some(78)), "{command}");
        assert!(wrong.starts_with(&format!("{file}:1:1: ")), "{command}: {wrong}");
        assert!(wrong.contains(&format!("{file}:2:6: `id`: the file is called `board`")), "{command}: {wrong}");
        let (_, wrong, code) = profile(&[command, "./nowhere.toml"]);
        assert_eq!(code, Some(78));
        assert!(wrong.starts_with("./nowhere.toml: cannot be read: "), "{command}: {wrong}");
    }
}

#[test]
fn a_name_that_is_not_a_built_in_profile_gets_a_hint() {
    let (shown, wrong, code) = profile(&["show", "waveshare-relay-8h"]);
    assert_eq!((shown.as_str(), code), ("", Some(78)), "as a missing file");
    assert_eq!(
        wrong,
        "`waveshare-relay-8h` is not a built-in profile, and a file is written `PATH.toml`; did you mean `waveshare-relay-8ch`?\n"
    );
    let (_, wrong, _) = profile(&["show", "xyz"]);
    assert!(
        wrong.starts_with("`xyz` is not a built-in profile, and a file is written `PATH.toml`; known: "),
        "{wrong}"
    );
    assert!(wrong.contains("waveshare-relay-8ch") && wrong.ends_with("zigbee2mqtt-plug\n"), "{wrong}");
}
