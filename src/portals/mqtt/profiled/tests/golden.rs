//! The golden messages that come at a time: a block in which each `@ TIME` (of the gateway's clock, UTC) stands before a message and what
//! becomes of its card, `card UID` or `late UID`. The device has been online since a minute before the first one.

use super::*;

fn wall_of(time: &str) -> jiff::Timestamp {
    time.parse().unwrap_or_else(|error| panic!("{time}: {error}"))
}

/// What became of the card of a message.
fn became(rig: &mut Rig) -> String {
    let shown = |card: &Presented| match card {
        Presented::Card(uid) => uid.to_string(),
        Presented::Lossy(reading) => format!("{:X}:{}", reading.value, reading.transform),
        Presented::Malformed(text) => format!("malformed:{text}"),
    };
    let mut found = Vec::new();
    for reading in rig.readings() {
        match reading {
            Reading::Card { shows: Shows::Card(Some(card)), .. } => found.push(format!("card {}", shown(&card))),
            Reading::OldCard { presented, .. } => found.push(format!("late {}", shown(&presented))),
            other => panic!("{other:?}"),
        }
    }
    found.join(", ")
}

#[tokio::test(start_paused = true)]
async fn every_profile_with_a_time_takes_its_golden_messages_that_come_late_for_late() {
    for (id, _) in mqtt::SHIPPED {
        let profile = mqtt::shipped(id).unwrap();
        if profile.reader.is_none_or(|reader| reader.stamp.is_none()) {
            continue;
        }
        let path = format!("{}/devices/mqtt/golden/{id}.txt", env!("CARGO_MANIFEST_DIR"));
        let golden = std::fs::read_to_string(&path).unwrap();
        let topic = golden.lines().next().unwrap().strip_prefix("device ").unwrap().to_owned();
        let mut late = 0;
        for block in golden.split("\n\n") {
            let lines: Vec<&str> = block.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).collect();
            if !lines.first().is_some_and(|line| line.starts_with("@ ")) {
                continue;
            }
            let mut rig = Rig::online(id);
            let first = wall_of(lines[0].strip_prefix("@ ").unwrap());
            let noon = jiff::Timestamp::from_second(1_795_953_600).unwrap();
            let before = |time: jiff::Timestamp| Duration::try_from(time.duration_since(first)).unwrap();
            let start = rig.now;
            rig.noon = start;
            let to_noon_s = first.duration_since(noon).as_secs_f64();
            for message in lines.chunks(3) {
                let [time, sent, wanted] = message else { panic!("{path}: {message:?}") };
                rig.now = start + before(wall_of(time.strip_prefix("@ ").unwrap()));
                let (topic_of, payload) = sent.strip_prefix("< ").unwrap().split_once(' ').unwrap();
                let topic_of = topic_of.replace(&topic, TOPIC);
                let wall_s = rig.wall_s() + to_noon_s;
                let received = Payload::new(payload.as_bytes());
                rig.device.received(
                    &Received { topic: &topic_of, payload: received, retained: false, at: rig.now, wall_s },
                    true,
                );
                assert_eq!(became(&mut rig), *wanted, "{path}: {sent}");
                late += usize::from(wanted.starts_with("late "));
            }
        }
        assert!(late > 0, "{path} has no message that comes late");
    }
}
