//! Every diagnostic of a profile, as in the file `tests/diagnostics.txt`; and the description of profiles without one.

use super::document::Diagnostic;
use super::{Order, Point, PointType, SHIPPED, check_text, read};
use crate::wire::modbus::Space;

/// A point at the first input register.
pub(super) fn point(kind: PointType, registers: u16) -> Point {
    Point {
        name: "p".into(),
        space: Space::Input,
        address: 0,
        registers,
        kind,
        bit: None,
        byte_order: Order::Big,
        word_order: Order::Big,
        scale: 1.0,
        unit: None,
        invalid: Vec::new(),
        channels: 1,
        stride: 1,
    }
}

/// Profiles without a diagnostic: a board with two relays, two readers and a meter; a reader; a relay.
const BASES: [(&str, &str); 3] = [
    ("board", include_str!("tests/board.toml")),
    ("uid", include_str!("tests/uid.toml")),
    ("relay", include_str!("tests/relay.toml")),
];

fn base(name: &str) -> &'static str {
    BASES.into_iter().find(|(base, _)| *base == name).unwrap().1
}

/// A profile with `to` instead of `from`.
fn with(name: &str, from: &str, to: &str) -> Result<String, String> {
    let text = base(name).replacen(from, to, 1);
    assert_ne!(text, base(name), "{from}");
    check_text(&format!("{name}.toml"), &text)
}

/// Compares `found` with a file under `src/`, block by block. `UPDATE_SNAPSHOTS=1` writes the file again, for a review of its diff.
pub(crate) fn snapshot(file: &str, found: &str) {
    let file = format!("{}/src/{file}", env!("CARGO_MANIFEST_DIR"));
    let expected = std::fs::read_to_string(&file).unwrap();
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(&file, found).unwrap();
    }
    assert_eq!(found.split("\n\n").count(), expected.split("\n\n").count());
    for (found, expected) in found.split("\n\n").zip(expected.split("\n\n")) {
        assert_eq!(found.trim_end(), expected.trim_end());
    }
}

/// The same of a file of which each block is read and written again.
pub(crate) fn snapshot_of_blocks(file: &str, again: impl Fn(&str) -> String) {
    let expected = std::fs::read_to_string(format!("{}/src/{file}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    snapshot(file, &(expected.split("\n\n").map(again).collect::<Vec<_>>().join("\n\n") + "\n"));
}

/// Each block of the file has the lines (`<`) of a profile that are replaced, those (`>`) that replace them, and every diagnostic (`=`).
/// `base` gives the id and the text of the profile, which the first line of a block may name.
pub(super) fn snapshot_of_diagnostics(file: &str, base: impl Fn(&str) -> (&str, &str)) {
    snapshot_of_blocks(file, |block| {
        let (id, text) = base(block.lines().next().unwrap());
        let lines = |mark: &str| -> String {
            block.lines().filter_map(|line| line.strip_prefix(mark)).map(|line| format!("{line}\n")).collect()
        };
        let wrong = text.replacen(&lines("< "), &lines("> "), 1);
        assert_ne!(wrong, text, "{block}");
        let file = format!("{id}.toml");
        let diagnostics = check_text(&file, &wrong).expect_err(block).replace(&format!("{file}:"), "= ");
        let kept: Vec<&str> = block.lines().filter(|line| !line.starts_with('=')).collect();
        format!("{}\n{diagnostics}", kept.join("\n"))
    });
}

#[test]
fn each_diagnostic_has_its_place_and_its_remedy() {
    snapshot_of_diagnostics("profile/tests/diagnostics.txt", |name| (name, base(name)));
}

/// `id_of` reads a profile.
pub(super) fn every_file_is_built_in(
    folder: &str,
    shipped: &[(&str, &str)],
    id_of: impl Fn(&str) -> Result<String, Vec<Diagnostic>>,
) {
    let mut files: Vec<String> = std::fs::read_dir(format!("{}/{folder}", env!("CARGO_MANIFEST_DIR")))
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.strip_suffix(".toml").map(str::to_owned))
        .collect();
    files.sort();
    assert_eq!(files, shipped.iter().map(|(id, _)| *id).collect::<Vec<_>>());
    for (id, text) in shipped {
        assert_eq!(id_of(text).as_deref(), Ok(*id), "the id of a profile is the name of its file");
    }
}

#[test]
fn every_file_of_devices_is_built_in_and_has_no_diagnostic() {
    every_file_is_built_in("devices", SHIPPED, |text| Ok(read(text)?.id));
}

#[test]
fn what_a_profile_means_is_described() {
    let counter = "real = { space = \"holding\", address = 6, type = \"f32\" }\ngate = { space = \"holding\", address = 8, type = \"u16\" }\n";
    let board = base("board")
        .replace("real = { space = \"holding\", address = 6, type = \"f32\" }\n", counter)
        .replace("\"number\", \"real\"]", "\"number\", \"real\", \"gate\"]");
    let inputs = |input: &str| check_text("board.toml", &format!("{board}[inputs]\n{input}\n")).unwrap();
    let uid = |uid: &str| with("uid", "{ point = \"all\", order = \"msb_first\", length = 4 }", uid).unwrap();
    let relay = |more: &str| check_text("relay.toml", &format!("{}{more}\n", base("relay"))).unwrap();
    let state = "state = \"relay\"\n";
    for (shown, wanted) in [
        (inputs("passed_in = { point = \"gate\" }"), "somebody went in when `gate` counts up\n"),
        (inputs("fire = { point = \"relay\", when = false }"), "releases when `relay` is clear\n"),
        (
            uid("{ point = \"nn\", order = \"lsb_first\", transform = \"wiegand34\" }"),
            "LOSSY: it shows only what `wiegand34, last byte first` leaves of a UID",
        ),
        (
            uid("{ point = \"all\", order = \"msb_first\", length = \"len\", max = 7 }"),
            "UIDs of 4 to 7 bytes; others are malformed",
        ),
        (relay("confirm = { by = \"state\" }\nretry = 4\ndeadline_ms = 900"), "confirmed by reading `relay` back"),
        (relay("retry = 4\ndeadline_ms = 900"), "4 further tries; after 900 ms it has failed"),
        (
            with("relay", state, "confirm = { by = \"echo\", because = \"no register for it\" }\n").unwrap(),
            "NOT read back (no register for it)",
        ),
        (relay(""), "2 further tries; after 1500 ms it has failed"),
    ] {
        assert!(shown.contains(wanted), "{wanted}\nis not in:\n{shown}");
    }
}

#[test]
fn a_profile_does_nothing_only_if_it_has_no_part() {
    let (points, _) = base("board").split_once("[[reader]]").unwrap();
    let diagnostics = |rest: &str| check_text("board.toml", &format!("{points}{rest}")).unwrap_err();
    assert!(diagnostics("").contains("board.toml:1:1: the profile does nothing: give it a `[[reader]]`"));
    for wrong in ["[[reader]]\nid = \"left\"\n", "[inputs]\ntamper = { when = true }\n", "[output]\nchannels = 1\n"] {
        assert!(!diagnostics(wrong).contains("does nothing"), "{}", diagnostics(wrong));
    }
}
