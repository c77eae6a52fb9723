//! Every shipped profile against its golden frames.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test that cannot go on has failed")]

#[path = "support/golden.rs"]
mod golden;

use dormgate::wire::profile::{SHIPPED, shipped};

#[test]
fn every_shipped_profile_says_what_its_golden_frames_say() {
    for (id, _) in SHIPPED {
        let path = format!("{}/devices/golden/{id}.txt", env!("CARGO_MANIFEST_DIR"));
        let golden = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        println!("{id}");
        golden::run(&shipped(id).unwrap(), golden.trim_end());
    }
}
