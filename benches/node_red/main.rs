//! The gateway beside what an integrator could put together instead: Node-RED with a flow for the same job, on the same machine, at
//! the same broker, under the same load, in the same run; and the bare echo as the floor of both.
//!
//! The flow (`flow.json`) keeps the list in a `Map`, looks the card up, answers by MQTT and appends a line to a file; a reissue is a
//! message with bare JSON. It verifies no signature, flushes nothing to disk, acknowledges nothing, numbers nothing, and forgets at a
//! restart what the file does not have: the gateway does all of that in the times that stand beside it.
//!
//! Prints, of each side: p50 and p99 of a decision, idle and in a rush; the most decisions a second with 64 requests under way; a
//! reissue published until the old card is first denied; memory; and from the start of the process to its first decision.
//!
//! Needs `mosquitto` and `node` on the path, and Node-RED 4 by its npm package name:
//! `npm install --prefix target/node-red node-red@4`. Run: `cargo bench --bench node_red`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a panic ends a benchmark"
)]
#![allow(clippy::disallowed_methods, reason = "a benchmark measures time")]

#[path = "../support/mod.rs"]
mod support;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use dormgate::access::change::Op;
use ed25519_dalek::SigningKey;
use rumqttc::QoS;
use serde_json::json;
use support::broker::{self, ASK, Asker, CHANGES, DECIDED, FLOOR_ANSWER, FLOOR_REQUEST, Kept, PAUSE};
use support::broker::{percentiles, ratio, report, request};

const ROUNDS: usize = 3;
/// Cards of the building.
const CARDS: u32 = 5_000;
/// Measured on each side and round: idle, in the rush, with many under way; and reissues.
const IDLE: usize = 200;
const RUSH: usize = 1_500;
const MANY: usize = 6_000;
const REISSUES: u32 = 100;
const WARM_UP: usize = 300;
/// Requests under way at once for the most decisions a second.
const UNDER_WAY: usize = 64;
const FLOW_ASK: &str = "dormnodered/v1/bench/portal/gate-in/request";
const FLOW_DECIDED: &str = "dormnodered/v1/bench/portal/gate-in/decision";
const FLOW_CHANGES: &str = "dormnodered/v1/bench/down/changes";
const FLOW: &str = include_str!("flow.json");
const SETTINGS: &str = include_str!("settings.js");

/// One of the three that answer.
#[derive(Default)]
struct Side {
    name: &'static str,
    ask: &'static str,
    answer: &'static str,
    idle: Vec<Duration>,
    rush: Vec<Duration>,
    /// Decisions a second.
    rates: Vec<f64>,
    deny: Vec<Duration>,
    memory_mib: Vec<f64>,
    first: Vec<Duration>,
}

impl Side {
    fn new(name: &'static str, ask: &'static str, answer: &'static str) -> Self {
        Self { name, ask, answer, ..Self::default() }
    }
}

fn main() {
    broker::run(|runtime| {
        let mut sides = [
            Side::new("bare echo", FLOOR_REQUEST, FLOOR_ANSWER),
            Side::new("dormgate", ASK, DECIDED),
            Side::new("Node-RED", FLOW_ASK, FLOW_DECIDED),
        ];
        (0..ROUNDS).for_each(|_| runtime.block_on(round(&mut sides)));
        print(sides);
    });
}

fn print(sides: [Side; 3]) {
    let middle = |mut all: Vec<f64>| {
        all.sort_by(f64::total_cmp);
        all.get(all.len() / 2).copied()
    };
    println!("{ROUNDS} rounds, {CARDS} cards\n");
    let mut floors = Vec::new();
    for side in sides {
        let answers = [("idle", side.idle), ("in a rush", side.rush)];
        for (place, (what, times)) in answers.into_iter().enumerate() {
            let figures = percentiles(&format!("{}, {what}", side.name), times);
            // The first side is the echo.
            match floors.get(place) {
                Some(floor) => ratio(figures, *floor),
                None => floors.push(figures),
            }
        }
        if !side.deny.is_empty() {
            percentiles(&format!("{}, reissue -> deny", side.name), side.deny);
        }
        let first = middle(side.first.iter().map(Duration::as_secs_f64).collect());
        println!(
            "{:<28} {:>8.0} decisions/s with {UNDER_WAY} under way; {} MiB; {} from start to first decision\n",
            side.name,
            middle(side.rates).unwrap_or_default(),
            middle(side.memory_mib).map_or("?".to_owned(), |mib| format!("{mib:.0}")),
            first.map_or("?".to_owned(), |s| format!("{:.0} ms", s * 1000.0)),
        );
    }
}

async fn round(sides: &mut [Side; 3]) {
    let dir = tempfile::tempdir().unwrap();
    let (_broker, port) = broker::start_broker(dir.path());
    let key = SigningKey::from_bytes(&[7; 32]);
    // The list is there before either starts: for one side in its store, for the other in its file.
    let mut asker = {
        let _gateway = broker::start_gateway(dir.path(), port, &key, "");
        let mut asker = Asker::start(port).await;
        asker.client.try_subscribe(FLOW_DECIDED, QoS::AtMostOnce).unwrap();
        broker::enrol_all(&mut asker, CARDS, &key).await;
        asker
    };
    let mut seq = u64::from(CARDS) * 2 / 200;
    let began = Instant::now();
    let gateway = broker::start_gateway(dir.path(), port, &key, "");
    sides[1].first.push(first_answer(&mut asker, ASK, DECIDED, began).await);
    let began = Instant::now();
    let flow = start_node_red(dir.path(), port);
    sides[2].first.push(first_answer(&mut asker, FLOW_ASK, FLOW_DECIDED, began).await);
    let echo = broker::start_echo(port);
    for n in 0..WARM_UP {
        for side in sides.iter() {
            if n == 0 {
                first_answer(&mut asker, side.ask, side.answer, Instant::now()).await;
            }
            asker.ask(side.ask, side.answer, request("w", n, n)).await;
        }
    }
    // In turns, so that all see the same weather.
    for n in 0..IDLE {
        for side in sides.iter_mut() {
            tokio::time::sleep(PAUSE).await;
            side.idle.push(asker.ask(side.ask, side.answer, request("i", n, n)).await);
        }
    }
    for n in 0..RUSH {
        for side in sides.iter_mut() {
            side.rush.push(asker.ask(side.ask, side.answer, request("r", n, n)).await);
        }
    }
    for card in 0..REISSUES {
        seq += 1;
        let (old_uid, new_uid) = (support::uid(card), support::uid(card + 1_000_000));
        let op = Op::Reissue { holder: support::holder(card), new_uid, old_uid: Some(old_uid) };
        let bare = json!({"ops": [{"op": "reissue", "holder": support::holder(card).as_str(),
            "old_uid": old_uid.to_string(), "new_uid": new_uid.to_string()}]});
        let messages = [(1, CHANGES, report(&[op], seq, &key)), (2, FLOW_CHANGES, bare.to_string().into_bytes())];
        for (side, topic, message) in messages {
            tokio::time::sleep(PAUSE).await;
            let side = &mut sides[side];
            let denied = until_denied(&mut asker, side, topic, message, card).await;
            side.deny.push(denied);
        }
    }
    for side in sides.iter_mut() {
        side.rates.push(most_a_second(&mut asker, side).await);
    }
    for (side, process) in sides.iter_mut().zip([&echo, &gateway, &flow]) {
        side.memory_mib.push(support::status_mib(process.0.id(), "VmRSS:"));
    }
}

/// Asks again and again until there is an answer, and drops the answers to the questions that were asked meanwhile.
async fn first_answer(asker: &mut Asker, ask: &str, answer: &str, began: Instant) -> Duration {
    let mut asked = 0;
    loop {
        asked += 1;
        let payload = request("s", asked, 4_000);
        asker.client.try_publish(ask, QoS::AtMostOnce, false, payload).unwrap();
        let until = tokio::time::timeout(Duration::from_millis(5), asker.until(answer)).await;
        if until.is_ok() {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "no answer on {answer}");
    }
    let took = began.elapsed();
    while tokio::time::timeout(Duration::from_millis(200), asker.until(answer)).await.is_ok() {}
    took
}

async fn until_denied(asker: &mut Asker, side: &Side, topic: &str, message: Vec<u8>, card: u32) -> Duration {
    let began = Instant::now();
    asker.client.try_publish(topic, QoS::AtLeastOnce, false, message).unwrap();
    for n in 0.. {
        let payload = request("x", n, card as usize).replace("\"x", &format!("\"{card}x"));
        asker.client.try_publish(side.ask, QoS::AtMostOnce, false, payload).unwrap();
        let answer = loop {
            let (received, payload) = asker.next().await;
            if received == side.answer {
                break payload;
            }
        };
        if String::from_utf8_lossy(&answer).contains("\"replaced\"") {
            break;
        }
    }
    began.elapsed()
}

/// Decisions a second with many requests under way.
async fn most_a_second(asker: &mut Asker, side: &Side) -> f64 {
    let ask = |asker: &Asker, n: usize| {
        let payload = request("m", n, 200 + n % 4_000);
        asker.client.try_publish(side.ask, QoS::AtMostOnce, false, payload).unwrap();
    };
    let began = Instant::now();
    (0..UNDER_WAY).for_each(|n| ask(asker, n));
    for n in 0..MANY {
        asker.until(side.answer).await;
        if n + UNDER_WAY < MANY {
            ask(asker, n + UNDER_WAY);
        }
    }
    MANY as f64 / began.elapsed().as_secs_f64()
}

fn start_node_red(dir: &Path, port: u16) -> Kept {
    let home = dir.join("node-red");
    std::fs::create_dir_all(&home).unwrap();
    let cards: Vec<_> = (0..CARDS)
        .map(|card| {
            json!({"uid": support::uid(card).to_string(), "holder": support::holder(card).as_str(), "entitlements": [
                {"kind": "gate", "zone": "*"}, {"kind": "door", "zone": "1"}, {"kind": "power_box", "zone": "1"}]})
        })
        .collect();
    let list = home.join("cards.json");
    std::fs::write(&list, json!(cards).to_string()).unwrap();
    let text = |path: &Path| path.display().to_string();
    let flow = FLOW
        .replace("\"PORT\"", &format!("\"{port}\""))
        .replace("LIST", &text(&list))
        .replace("AUDIT", &text(&home.join("audit.log")));
    std::fs::write(home.join("flow.json"), flow).unwrap();
    std::fs::write(home.join("settings.js"), SETTINGS).unwrap();
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/node-red/node_modules/node-red/red.js");
    assert!(program.exists(), "Node-RED is missing: npm install --prefix target/node-red node-red@4");
    let mut command = Command::new("node");
    command.arg(program).args(["--userDir", &text(&home), "--settings", &text(&home.join("settings.js"))]);
    Kept(command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("node on the path"))
}
