//! Every shipped profile against its golden frames or messages.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test that cannot go on has failed")]

#[path = "support/golden.rs"]
mod golden;
#[path = "support/messages.rs"]
mod messages;

use dormgate::profile::mqtt;
use dormgate::profile::{Pulse, SHIPPED, Trigger, check_text, read, shipped};

#[test]
fn every_shipped_profile_reports_what_its_golden_frames_report() {
    for (id, _) in SHIPPED {
        let path = format!("{}/devices/golden/{id}.txt", env!("CARGO_MANIFEST_DIR"));
        let golden = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        println!("{id}");
        golden::run(&shipped(id).unwrap(), golden.trim_end());
    }
}

#[test]
fn every_poll_and_every_write_of_a_shipped_profile_has_golden_frames() {
    for (id, _) in SHIPPED {
        let profile = shipped(id).unwrap();
        let golden =
            std::fs::read_to_string(format!("{}/devices/golden/{id}.txt", env!("CARGO_MANIFEST_DIR"))).unwrap();
        let output = profile.output.as_ref();
        let times = output.is_some_and(|output| matches!(output.pulse, Pulse::Device { .. }));
        let released = profile.readers.iter().any(|reader| {
            matches!(reader.trigger, Trigger::Latch { .. } | Trigger::Counter { acknowledge: Some(_), .. })
        });
        let writes = [("on", output.is_some()), ("off", output.is_some()), ("pulse", times), ("release", released)];
        let writes = writes.into_iter().filter(|(_, has)| *has).map(|(doing, _)| doing.to_owned());
        for wanted in profile.polls.iter().map(|poll| format!("poll {}", poll.name)).chain(writes) {
            let there = golden.lines().any(|line| line == wanted || line.starts_with(&format!("{wanted} ")));
            assert!(there, "devices/golden/{id}.txt has no frames for `{wanted}`");
        }
    }
}

/// The caveat of this reader gives its installer another release; the frame is the one that the manual prints.
#[test]
fn the_other_release_of_the_ind_m1_is_the_frame_in_its_manual() {
    let (_, text) = SHIPPED.iter().find(|(id, _)| *id == "inveo-rfid-ind-m1").unwrap();
    let advised = "release = { space = \"coil\", address = 1016, value = 0 }";
    let profile = shipped("inveo-rfid-ind-m1").unwrap();
    assert!(profile.caveats.iter().any(|caveat| caveat.contains(advised)), "{:?}", profile.caveats);
    let other = text.replace("release = { space = \"holding\", address = 1000, value = 0 }", advised);
    assert_ne!(other, *text);
    golden::run(&read(&other).unwrap(), "release\n> 01 05 03 F8 00 00 4C 7F\n< 01 05 03 F8 00 00 4C 7F");
}

/// No shipped device is known to lose part of the UID; these profiles are the examples that `devices/README.md` refers to.
#[test]
fn lossy_readers_report_what_their_golden_frames_report() {
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

fn golden_messages(id: &str) -> String {
    let path = format!("{}/devices/mqtt/golden/{id}.txt", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn every_shipped_mqtt_profile_reports_and_orders_what_its_golden_messages_do() {
    for (id, _) in mqtt::SHIPPED {
        messages::run(&mqtt::shipped(id).unwrap(), golden_messages(id).trim_end());
    }
}

#[test]
fn every_message_of_a_shipped_mqtt_profile_has_golden_messages() {
    for (id, _) in mqtt::SHIPPED {
        let (profile, golden) = (mqtt::shipped(id).unwrap(), golden_messages(id));
        let output = profile.output.as_ref();
        let times = output.is_some_and(|output| matches!(output.pulse, mqtt::Pulse::Device { .. }));
        let asks = output.is_some_and(|output| output.confirm.query.is_some());
        let repeats = profile.reader.as_ref().is_some_and(|reader| reader.removed.is_some());
        let wanted = [
            ("online yes", true),
            ("online no", true),
            ("card ", profile.reader.is_some()),
            ("card malformed:", profile.reader.is_some() && !repeats),
            ("left", repeats),
            ("on ", output.is_some()),
            ("off ", output.is_some()),
            ("pulse ", times),
            ("query ", asks),
            ("relay 0 on", output.is_some()),
            ("relay 0 off", output.is_some()),
            ("power ", profile.meter.is_some()),
            ("input ", !profile.inputs.is_empty()),
        ];
        for (line, _) in wanted.iter().filter(|(_, has)| *has) {
            assert!(
                golden.lines().any(|found| found.starts_with(line)),
                "devices/mqtt/golden/{id}.txt has no `{line}`"
            );
        }
    }
}
