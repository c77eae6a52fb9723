//! Codes and metrics: each that there is stands where it is looked up.

use dormgate::access::change::{ErrorCode, NoteCode, RegisterKind};

use crate::read;

/// The text of a document between two headings or marks.
fn part<'t>(text: &'t str, from: &str, to: &str) -> &'t str {
    let (_, rest) = text.split_once(from).unwrap();
    rest.split_once(to).unwrap().0
}

#[test]
fn every_error_code_is_where_the_protocol_lists_them() {
    let protocol = read("deploy/protocol.md");
    // The table of envelopes that are wrong, and the list of the codes beside them.
    let envelope = part(&protocol, "| code | when |", "White space around a message");
    let beside = part(&protocol, "Codes, beside those of 2.1:", "\n\n");
    for code in ErrorCode::ALL {
        let name = format!("`{}`", code.as_str());
        let listed = envelope.lines().any(|line| line.starts_with(&format!("| {name} |"))) || beside.contains(&name);
        assert!(listed, "deploy/protocol.md lists {name} neither in 2.1 nor in 3");
    }
    let notes = part(&protocol, "`notes`, absent when empty", "\n\n");
    for code in NoteCode::ALL {
        assert!(notes.contains(&format!("`{}`", code.as_str())), "{}", code.as_str());
    }
    let events = part(&protocol, "| type | means |", "\n\n");
    for kind in RegisterKind::ALL {
        assert!(events.contains(&format!("`{}`", kind.as_str())), "{}", kind.as_str());
    }
}

/// The limits that the protocol states are those of the program.
#[test]
fn the_limits_of_rejections_and_numbers_are_as_the_protocol_states() {
    use dormgate::access::engine::{REJECTIONS_RECORDED_MAX, REJECTIONS_WINDOW_MS};
    use dormgate::access::stream::{EPOCH_JUMP_MAX, SEQ_JUMP_MAX};
    let protocol = read("deploy/protocol.md");
    assert_eq!(REJECTIONS_WINDOW_MS, 60_000);
    for stated in [
        format!("At most {REJECTIONS_RECORDED_MAX} such `rejected_message` events"),
        format!(
            "`epoch` is more than {EPOCH_JUMP_MAX}, or whose `seq` is more than {} 000 000",
            SEQ_JUMP_MAX / 1_000_000
        ),
    ] {
        assert!(protocol.contains(&stated), "deploy/protocol.md does not state: {stated}");
    }
}

/// The names are taken from where they are registered: a series without labels is there whether it has counted or not.
#[cfg(feature = "center")]
#[test]
fn every_metric_of_a_center_is_in_its_manual() {
    let source = read("src/center/http/metrics.rs");
    let counters: Vec<&str> = source.split("counter(\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    let gauges: Vec<&str> =
        source.split("registry.register(\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert!(counters.len() >= 9 && gauges.len() >= 2, "{counters:?} {gauges:?}");
    let names = counters.iter().map(|name| format!("{name}_total")).chain(gauges.iter().map(|&name| name.to_owned()));
    let manual = read("deploy/center.md");
    for name in names {
        let listed = format!("`dormgate_center_{name}`");
        let row = |line: &str| line.split('|').nth(1).is_some_and(|cell| cell.contains(&listed));
        assert!(manual.lines().any(row), "deploy/center.md lacks {listed}");
    }
}
