//! The golden messages that are old. One that the broker has retained: `<r TOPIC PAYLOAD`, and what it means: `old UID`, `relay 0 on`,
//! `nothing`. Those that come at a time: a block in which each `@ TIME` (of the gateway's clock, UTC) stands before a message and what
//! becomes of its card, `card UID` or `old UID`. The device has been online since a minute before the first one.

use super::*;

fn golden(id: &str) -> (String, String) {
    let path = format!("{}/devices/mqtt/golden/{id}.txt", env!("CARGO_MANIFEST_DIR"));
    let golden = std::fs::read_to_string(&path).unwrap();
    (path, golden)
}

/// The topic and the payload of a message to the device called `name`, as one to that of the rig.
fn message<'m>(name: &str, sent: &'m str) -> (String, &'m str) {
    let (topic, payload) = sent.split_once(' ').unwrap();
    (topic.replace(name, TOPIC), payload)
}

/// The lines of each block, without comments, that begins with `mark`; and the name of the device.
fn blocks<'g>(golden: &'g str, mark: &str) -> (&'g str, Vec<Vec<&'g str>>) {
    let lines = |block: &'g str| block.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).collect();
    let blocks = golden.split("\n\n").map(lines);
    let marked = |block: &Vec<&str>| block.first().is_some_and(|line| line.starts_with(mark));
    (golden.lines().next().unwrap().strip_prefix("device ").unwrap(), blocks.filter(marked).collect())
}

fn wall_of(time: &str) -> jiff::Timestamp {
    time.parse().unwrap_or_else(|error| panic!("{time}: {error}"))
}

/// What became of a message.
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
            Reading::OldCard { presented, .. } => found.push(format!("old {}", shown(&presented))),
            Reading::Output(on) => found.push(format!("relay 0 {}", if on { "on" } else { "off" })),
            other => panic!("{other:?}"),
        }
    }
    found.join(", ")
}

#[tokio::test(start_paused = true)]
async fn every_profile_takes_its_golden_messages_that_were_retained_as_old_unless_they_are_its_last_state() {
    for (id, _) in mqtt::SHIPPED {
        let (path, golden) = golden(id);
        let (name, blocks) = blocks(&golden, "<r ");
        assert!(!blocks.is_empty(), "{path} has no message that was retained");
        for block in blocks {
            let (sent, wanted) = block.split_first().unwrap();
            let (topic, payload) = message(name, sent.strip_prefix("<r ").unwrap());
            let mut rig = Rig::online(id);
            let taken = rig.kept(&topic, payload);
            let found = match became(&mut rig).as_str() {
                "" if taken.old => "old".to_owned(),
                "" => "nothing".to_owned(),
                found => found.to_owned(),
            };
            assert_eq!(found, wanted.join(", "), "{path}: {sent}");
            assert_eq!((taken.old, taken.malformed), (found.starts_with("old"), false), "{path}: {sent}");
            // It is the retained mark by which it does not count.
            let live = rig.sends(&topic, payload);
            assert!(!live.old && !rig.readings().is_empty(), "{path}: {sent}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn every_profile_with_a_time_takes_its_golden_messages_that_come_late_for_late() {
    for (id, _) in mqtt::SHIPPED {
        let profile = mqtt::shipped(id).unwrap();
        if profile.reader.is_none_or(|reader| reader.stamp.is_none()) {
            continue;
        }
        let (path, golden) = golden(id);
        let (name, blocks) = blocks(&golden, "@ ");
        let mut late = 0;
        for lines in blocks {
            let mut rig = Rig::online(id);
            let first = wall_of(lines[0].strip_prefix("@ ").unwrap());
            let noon = jiff::Timestamp::from_second(1_795_953_600).unwrap();
            let before = |time: jiff::Timestamp| Duration::try_from(time.duration_since(first)).unwrap();
            let start = rig.now;
            rig.noon = start;
            let to_noon_s = first.duration_since(noon).as_secs_f64();
            for three in lines.chunks(3) {
                let [time, sent, wanted] = three else { panic!("{path}: {three:?}") };
                rig.now = start + before(wall_of(time.strip_prefix("@ ").unwrap()));
                let (topic, payload) = message(name, sent.strip_prefix("< ").unwrap());
                let wall_s = rig.wall_s() + to_noon_s;
                let received = Payload::new(payload.as_bytes());
                rig.device.received(
                    &Received { topic: &topic, payload: received, retained: false, at: rig.now, wall_s },
                    true,
                );
                assert_eq!(became(&mut rig), *wanted, "{path}: {sent}");
                late += usize::from(wanted.starts_with("old "));
            }
        }
        assert!(late > 0, "{path} has no message that comes late");
    }
}
