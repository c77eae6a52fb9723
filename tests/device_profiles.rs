//! Every shipped profile against its golden frames.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test that cannot go on has failed")]

#[path = "support/golden.rs"]
mod golden;

use dormgate::wire::profile::{SHIPPED, check_text, read, shipped};

#[test]
fn every_shipped_profile_says_what_its_golden_frames_say() {
    for (id, _) in SHIPPED {
        let path = format!("{}/devices/golden/{id}.txt", env!("CARGO_MANIFEST_DIR"));
        let golden = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        println!("{id}");
        golden::run(&shipped(id).unwrap(), golden.trim_end());
    }
}

/// No shipped device is known to lose part of the UID; these profiles are the examples that `devices/README.md` speaks of.
#[test]
fn lossy_readers_say_what_their_golden_frames_say() {
    for id in ["wiegand-converter", "digits-reader"] {
        let file = |kind: &str| {
            let path = format!("{}/tests/profiles/{id}.{kind}", env!("CARGO_MANIFEST_DIR"));
            std::fs::read_to_string(path).unwrap()
        };
        println!("{id}");
        golden::run(&read(&file("toml")).unwrap(), file("txt").trim_end());
        let shown = check_text(&format!("{id}.toml"), &file("toml")).unwrap();
        assert!(shown.contains("LOSSY") && shown.contains("ambiguous_identifier"), "{shown}");
    }
}
