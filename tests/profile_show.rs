//! `dormgate profile` as an installer runs it: what a built-in profile or a file means, and where a file has errors.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::Path;
use std::process::Command;

use dormgate::profile::{SHIPPED, shipped};

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
