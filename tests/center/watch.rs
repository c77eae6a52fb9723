//! `dormgate center watch`: the acks, alarms and states of several gateways, live.

use std::process::Stdio;

use dormgate::access::effect::Alarm;
use dormgate::access::event::AlarmKind;
use dormgate::access::id::Timestamp;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use super::gateway::stream;
use super::*;

fn alarm(kind: AlarmKind, portal: &str) -> Vec<u8> {
    let alarm = Alarm {
        n: 5,
        at: Timestamp(1_788_249_600_000),
        kind,
        portal: Some(portal.parse().unwrap()),
        uid: None,
        count: 0,
        ended: false,
        detail: "opened".into(),
        logged: None,
    };
    up::encode(&alarm).unwrap()
}

#[tokio::test]
async fn acks_alarms_and_states_of_each_gateway_are_shown_with_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let configuration = create(dir.path(), Layout::One, NonZeroU32::MIN).unwrap();
    let gateways = [g1(), "g2".parse().unwrap()];
    let mut center = Center::open(dir.path(), &gateways).unwrap();
    for gateway in &gateways {
        center.publish_ops(Some(gateway), &[lost()], Timestamp(1_788_249_600_000)).unwrap();
    }
    let broker = Broker::start().await.unwrap();
    let mut first = Gateway::start_as("g1", &broker, &configuration).await;
    let mut second = Gateway::start_as("g2", &broker, &configuration).await;
    let mut program = Command::new(env!("CARGO_BIN_EXE_dormgate"));
    program.arg("center").arg("--dir").arg(dir.path()).env("RUST_LOG", "off").kill_on_drop(true);
    program.args(["watch", "--gateway", "g1", "--gateway", "g2", "--url", &broker.url().to_string()]);
    let mut watch = program.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    // The words of the next line, with one space between them.
    let mut next = async || {
        let line = timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap().unwrap();
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(next().await, "link up");

    let offline = dormgate::wire::state::encode_offline("b1", 1);
    first.state(stream(1, 1, None), 7, &["gate-in"]).await;
    // Nothing that a person wants to know has changed, so it is not shown again.
    first.state(dormgate::access::engine::StreamStatus { age_s: Some(9), ..stream(1, 1, None) }, 7, &["gate-in"]).await;
    first.ack("center", at(1), Outcome::Applied).await;
    first.publish(Up::Alarm, alarm(AlarmKind::Tamper, "gate-in")).await;
    first.publish(Up::State, offline.clone()).await;
    second.state(stream(0, 0, None), 0, &[]).await;
    second.ack("center", at(1), Outcome::Rejected).await;
    second.publish(Up::Alarm, alarm(AlarmKind::HeldOpen, "door-412")).await;
    second.publish(Up::State, offline).await;
    let mut shown = [Vec::new(), Vec::new()];
    while shown.iter().any(|lines: &Vec<String>| lines.last().is_none_or(|line| line != "state offline")) {
        let line = next().await;
        let (name, line) = line.split_once(' ').unwrap();
        shown[usize::from(name == "g2")].push(line.to_owned());
        assert!(["g1", "g2"].contains(&name), "{name} {line}");
    }
    assert_eq!(
        shown[0],
        [
            "state online; 7 cards; center 1.1 received, no digest yet; 4 portals, 1 OFFLINE",
            "ack center 1.1 applied; revoked 1EA68671; cut power-412",
            "ALARM #5 2026-09-01T08:00:00.000Z tamper gate-in opened",
            "state offline",
        ]
    );
    assert_eq!(
        shown[1],
        [
            "state online; 0 cards; center 1.1 NOT RECEIVED; 3 portals",
            "ack center 1.1 rejected; revoked 1EA68671; cut power-412",
            "ALARM #5 2026-09-01T08:00:00.000Z held_open door-412 opened",
            "state offline",
        ]
    );
}
