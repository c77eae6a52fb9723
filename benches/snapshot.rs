//! A snapshot of a whole building while cards are presented: how long a request waits meanwhile, how long the snapshot takes, and
//! the memory for it. The real binary through a real mosquitto, in turns with the bare echo, which sees the same broker at work.
//!
//! Each round takes a new gateway and sends the snapshot twice: to an empty list, and over the same cards. Prints p50 and p99 of a
//! request while idle and while the snapshot is on its way, from the first part published to its ack; how long such a request was inside
//! the gateway, apart from the broker and from waiting for a processor with everybody else; the time until the ack, from
//! the first part and from the last; resident memory at its peak, and after; and, with the same list on disk, the time from the start
//! of the program to its first decision. Needs `mosquitto` on the path.
//! Run: `cargo bench --bench snapshot`; `CARDS=150000 ROUNDS=1` for a list of another size (default 50 000 and 5
//! rounds; a snapshot has at most 48 MiB, which 200 000 of these cards are beyond).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a panic ends a benchmark"
)]
#![allow(clippy::disallowed_methods, reason = "a benchmark measures time")]

mod support;

use std::collections::BTreeMap;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use dormgate::access::change::RegisterKind;
use dormgate::access::id::StreamName;
use dormgate::wire::{envelope, snapshot};
use ed25519_dalek::SigningKey;
use rumqttc::{Event, Outgoing, QoS};
use support::broker::{self, ASK, Asker, DECIDED, FLOOR_ANSWER, FLOOR_REQUEST, Kept, PAUSE};
use support::broker::{percentiles, ratio, request};
use support::status_mib;

/// Cards that are enrolled before, and that are presented all the time.
const PRESENTED: u32 = 200;
/// Requests measured while idle, each round.
const IDLE: usize = 500;
const SNAPSHOT: &str = "dormgate/v1/bench/down/snapshot";
/// Between two requests to a gateway that is just starting.
const TRY_AGAIN: Duration = Duration::from_millis(5);
/// After a snapshot, until memory is looked at: the old list is given back and a generation is written meanwhile.
const SETTLED: Duration = Duration::from_secs(5);

/// The times of all rounds.
#[derive(Default)]
struct Measured {
    idle_echo: Vec<Duration>,
    idle: Vec<Duration>,
    busy_echo: Vec<Duration>,
    busy: Vec<Duration>,
    whole: Vec<Duration>,
    applied: Vec<Duration>,
    /// Requests during a snapshot whose answer took at most so long inside the gateway, by the text of the limit in seconds.
    inside: BTreeMap<String, u64>,
}

/// A number from the environment.
fn number(key: &str, default: u32) -> u32 {
    std::env::var(key).map_or(default, |text| text.parse().expect("a whole number"))
}

/// Cards of the snapshot.
fn cards() -> u32 {
    number("CARDS", 50_000)
}

fn main() {
    broker::run(|runtime| {
        let mut all = Measured::default();
        // Gateways, one after the other.
        (0..number("ROUNDS", 5)).for_each(|_| runtime.block_on(round(&mut all)));
        let echo = percentiles("idle: bare echo", all.idle_echo);
        let idle = percentiles("idle: request -> decision", all.idle);
        ratio(idle, echo);
        let echo = percentiles("snapshot: bare echo", all.busy_echo);
        let busy = percentiles("snapshot: request -> decision", all.busy);
        ratio(busy, echo);
        println!("{:<28} p50 {:>8.2} x  p99 {:>8.2} x  of the idle decision", "", busy.0 / idle.0, busy.1 / idle.1);
        println!("{:<28} requests answered within so many seconds: {:?}", "inside the gateway", all.inside);
        percentiles("first part -> ack, on disk", all.whole);
        percentiles("last part -> ack, on disk", all.applied);
    });
}

async fn round(all: &mut Measured) {
    let dir = tempfile::tempdir().unwrap();
    let (_broker, port) = broker::start_broker(dir.path());
    let key = SigningKey::from_bytes(&[7; 32]);
    // Before anybody is connected, who would be silent for too long meanwhile.
    let parts = [("to an empty list", 1_000_000), ("over the same cards", 1_000_001)]
        .map(|(which, seq)| (which, signed_parts(seq, &key)));
    let gateway = broker::start_gateway(dir.path(), port, &key, "");
    let _echo = broker::start_echo(port);
    let mut asker = Asker::start(port).await;
    broker::enrol_all(&mut asker, PRESENTED, &key).await;
    for n in 0..IDLE {
        let (echo, decision) = turn(&mut asker, "i", n).await;
        all.idle_echo.push(echo);
        all.idle.push(decision);
    }
    for (which, parts) in parts {
        reset_peak(&gateway);
        let before = inside(dir.path());
        load(&mut asker, port, parts, all).await;
        for (limit, count) in inside(dir.path()) {
            *all.inside.entry(limit.clone()).or_default() += count - before[&limit];
        }
        assert!(is_granted(&mut asker, cards() - 1).await, "the snapshot was refused: is it too long?");
        let applied = status_mib(gateway.0.id(), "VmHWM:");
        tokio::time::sleep(SETTLED).await;
        let memory = |field| status_mib(gateway.0.id(), field);
        println!(
            "snapshot {which}: until the ack at most {applied:.0} MiB, with the generation {:.0} MiB, then {:.0} MiB",
            memory("VmHWM:"),
            memory("VmRSS:")
        );
    }
    drop(gateway);
    let began = Instant::now();
    let gateway = broker::start_gateway(dir.path(), port, &key, "");
    let first = first_decision(&mut asker).await - began;
    tokio::time::sleep(SETTLED).await;
    let resident = status_mib(gateway.0.id(), "VmRSS:");
    println!("started again with {} cards: first decision after {first:.0?}, {resident:.0} MiB", cards());
}

/// How many requests were answered within each limit, inside the gateway.
fn inside(dir: &Path) -> BTreeMap<String, u64> {
    let page = support::metrics(UnixStream::connect(dir.join("data/dormgate.sock")).unwrap());
    let line = |line: &str| {
        let (limit, count) = line.strip_prefix("dormgate_decision_seconds_bucket{le=\"")?.split_once("\"} ")?;
        Some((limit.to_owned(), count.parse().ok()?))
    };
    page.lines().filter_map(line).collect()
}

/// Whether the gateway lets this card in.
async fn is_granted(asker: &mut Asker, card: u32) -> bool {
    asker.client.try_publish(ASK, QoS::AtMostOnce, false, request("c", 0, card as usize)).unwrap();
    loop {
        let (topic, payload) = asker.next().await;
        if topic == DECIDED {
            return String::from_utf8_lossy(&payload).contains("\"grant\"");
        }
    }
}

/// Asks until somebody decides: when that was.
async fn first_decision(asker: &mut Asker) -> Instant {
    let client = asker.client.clone();
    let asking = tokio::spawn(async move {
        for n in 0.. {
            client.publish(ASK, QoS::AtMostOnce, false, request("f", n, 1)).await.unwrap();
            tokio::time::sleep(TRY_AGAIN).await;
        }
    });
    asker.until(DECIDED).await;
    asking.abort();
    Instant::now()
}

/// One request to the echo and one to the gateway, each after a pause.
async fn turn(asker: &mut Asker, series: &str, n: usize) -> (Duration, Duration) {
    let card = n % PRESENTED as usize;
    tokio::time::sleep(PAUSE).await;
    let echo = asker.ask(FLOOR_REQUEST, FLOOR_ANSWER, request(series, n, card)).await;
    tokio::time::sleep(PAUSE).await;
    (echo, asker.ask(ASK, DECIDED, request(series, n, card)).await)
}

/// The peak of resident memory begins again (proc(5), `clear_refs`).
fn reset_peak(process: &Kept) {
    std::fs::write(Path::new("/proc").join(process.0.id().to_string()).join("clear_refs"), "5").unwrap();
}

fn signed_parts(seq: u64, key: &SigningKey) -> Vec<Vec<u8>> {
    let stream: StreamName = "center".parse().unwrap();
    let entries = support::list_of(cards()).snapshot(&RegisterKind::ALL.iter().copied().collect());
    let id = format!("bench-{seq}");
    let head = (&stream, support::at(1, seq), id.as_str());
    let parts = snapshot::write_parts(head, "bench", support::NOW.wall, &entries, false).unwrap();
    parts.iter().map(|claims| envelope::sign(claims, &stream, key).into_bytes()).collect()
}

/// Publishes the parts from a thread of its own and presents cards until the snapshot is acknowledged.
async fn load(asker: &mut Asker, port: u16, parts: Vec<Vec<u8>>, all: &mut Measured) {
    let began = Instant::now();
    let publisher = std::thread::spawn(move || publish(port, &parts));
    let mut n = 0;
    while asker.acks == 0 {
        let (echo, decision) = turn(asker, "s", n).await;
        all.busy_echo.push(echo);
        all.busy.push(decision);
        n += 1;
    }
    asker.acks = 0;
    let acked = Instant::now();
    let last = publisher.join().unwrap();
    all.whole.push(acked - began);
    all.applied.push(acked.saturating_duration_since(last));
}

/// Publishes everything, and gives when the last part was handed to the system.
fn publish(port: u16, parts: &[Vec<u8>]) -> Instant {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (client, mut events) = broker::connect(port, "center");
        parts.iter().for_each(|part| client.try_publish(SNAPSHOT, QoS::AtLeastOnce, false, part.clone()).unwrap());
        let (mut last, mut sent) = (Instant::now(), 0);
        while sent < parts.len() {
            match events.poll().await.unwrap() {
                Event::Outgoing(Outgoing::Publish(_)) => last = Instant::now(),
                Event::Incoming(rumqttc::Packet::PubAck(_)) => sent += 1,
                _ => {}
            }
        }
        last
    })
}
