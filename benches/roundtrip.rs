//! The real binary through a real mosquitto, beside a bare echo written with the same MQTT crate through the same broker.
//!
//! Prints p50 and p99 of: a request and its decision; the echo; a reissue published until the old card is first denied, and
//! until its ack; and the ratios to the echo. The floor's topics and messages have the shape and length of the gateway's, so
//! that the broker has the same work. A reissue has two floors: the echo of the request alone, and the echo of the same two
//! messages, the reissue (which the echo reads and drops) and the request behind it. Measured `idle`, one message every few
//! milliseconds, as at a gate: first requests, then reissues, each in turns with the echo; and in the `rush`, the next request as
//! soon as the answer is there.
//!
//! Machines are shared and noisy, and much depends on which core a process happens to get: so everything is measured in turns
//! in one run, and in several rounds with new processes. Read the ratios. Needs `mosquitto` on the path.
//! Run: `cargo bench --bench roundtrip`.

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

use std::time::{Duration, Instant};

use dormgate::access::change::Op;
use ed25519_dalek::SigningKey;
use rumqttc::QoS;
use support::broker::{
    self, ACK, ASK, Asker, CHANGES, DECIDED, FLOOR_ANSWER, FLOOR_CHANGES, FLOOR_REQUEST, PAUSE, cpu_ms,
};
use support::broker::{percentiles, ratio, report, request};

/// Gateway, echo and broker are started again so often.
const ROUNDS: usize = 5;
/// Measured on each side and round: idle, and in the rush; before that not counted.
const IDLE: u32 = 200;
const RUSH: usize = 1_500;
const WARM_UP: usize = 300;
/// In the rush the sides take turns of this many requests.
const TURN: usize = 100;

fn main() {
    broker::run(|runtime| {
        let mut all = Measured::default();
        (0..ROUNDS).for_each(|_| runtime.block_on(round(&mut all)));
        all.print();
    });
}

/// The times of all rounds.
#[derive(Default)]
struct Measured {
    idle_echo: Vec<Duration>,
    idle_decision: Vec<Duration>,
    deny_echo: Vec<Duration>,
    both_echo: Vec<Duration>,
    deny: Vec<Duration>,
    ack: Vec<Duration>,
    /// Requests until the first denial, of all reissues.
    tries: u32,
    rush_echo: Vec<Duration>,
    rush_decision: Vec<Duration>,
    /// Processor time of the gateway and of the echo in the rush, in milliseconds.
    rush_cpu: (f64, f64),
}

impl Measured {
    fn print(self) {
        let reissues = self.deny.len() as f64;
        let rush = ((RUSH + WARM_UP) * ROUNDS) as f64 / 1000.0;
        let echo = percentiles("idle: bare echo", self.idle_echo);
        ratio(percentiles("idle: request -> decision", self.idle_decision), echo);
        let echo = percentiles("idle: bare echo", self.deny_echo);
        let both = percentiles("idle: echo of both messages", self.both_echo);
        let deny = percentiles("idle: reissue -> first deny", self.deny);
        ratio(deny, echo);
        println!("{:<28} p50 {:>8.2} x  p99 {:>8.2} x  of the echo of both", "", deny.0 / both.0, deny.1 / both.1);
        println!("{:<28} {:.2} requests until the first deny", "", f64::from(self.tries) / reissues);
        percentiles("idle: reissue -> ack, on disk", self.ack);
        let echo = percentiles("rush: bare echo", self.rush_echo);
        ratio(percentiles("rush: request -> decision", self.rush_decision), echo);
        let (gateway, floor) = (self.rush_cpu.0 / rush, self.rush_cpu.1 / rush);
        println!("{:<28} gateway {gateway:.1} us, its audit included; echo {floor:.1} us", "processor time a request");
    }
}

async fn round(all: &mut Measured) {
    let dir = tempfile::tempdir().unwrap();
    let (_broker, port) = broker::start_broker(dir.path());
    let key = SigningKey::from_bytes(&[7; 32]);
    let gateway = broker::start_gateway(dir.path(), port, &key, "");
    let echo = broker::start_echo(port);
    let mut asker = Asker::start(port).await;
    let mut seq = broker::enrol_all(&mut asker, IDLE, &key).await;
    // Both sides answer before anything is measured.
    for n in 0..WARM_UP {
        asker.ask(FLOOR_REQUEST, FLOOR_ANSWER, request("w", n, n)).await;
        asker.ask(ASK, DECIDED, request("w", n, n)).await;
    }
    for n in 0..IDLE as usize {
        tokio::time::sleep(PAUSE).await;
        all.idle_echo.push(asker.ask(FLOOR_REQUEST, FLOOR_ANSWER, request("i", n, n)).await);
        tokio::time::sleep(PAUSE).await;
        all.idle_decision.push(asker.ask(ASK, DECIDED, request("i", n, n)).await);
    }
    for card in 0..IDLE {
        // Whoever is measured was last asked a pause before, or one side would find its code further from the processor.
        let n = card as usize;
        asker.after_a_pause(FLOOR_REQUEST, FLOOR_ANSWER, n).await;
        all.deny_echo.push(asker.ask(FLOOR_REQUEST, FLOOR_ANSWER, request("e", n, 0)).await);
        seq += 1;
        let signed = reissue_of(card, seq, &key);
        asker.after_a_pause(FLOOR_REQUEST, FLOOR_ANSWER, n).await;
        let began = Instant::now();
        asker.client.try_publish(FLOOR_CHANGES, QoS::AtLeastOnce, false, signed.clone()).unwrap();
        asker.ask(FLOOR_REQUEST, FLOOR_ANSWER, request("b", n, 0)).await;
        all.both_echo.push(began.elapsed());
        asker.after_a_pause(ASK, DECIDED, n).await;
        reissue(&mut asker, card, signed, all).await;
    }
    let before = (cpu_ms(&gateway), cpu_ms(&echo));
    for n in 0..RUSH + WARM_UP {
        let payload = || request("r", n, n % IDLE as usize);
        // In turns, so that both sides see the same weather.
        let (floor, decision) = if (n / TURN).is_multiple_of(2) {
            let floor = asker.ask(FLOOR_REQUEST, FLOOR_ANSWER, payload()).await;
            (floor, asker.ask(ASK, DECIDED, payload()).await)
        } else {
            let decision = asker.ask(ASK, DECIDED, payload()).await;
            (asker.ask(FLOOR_REQUEST, FLOOR_ANSWER, payload()).await, decision)
        };
        if n >= WARM_UP {
            all.rush_echo.push(floor);
            all.rush_decision.push(decision);
        }
    }
    all.rush_cpu.0 += cpu_ms(&gateway) - before.0;
    all.rush_cpu.1 += cpu_ms(&echo) - before.1;
}

fn reissue_of(card: u32, seq: u64, key: &SigningKey) -> Vec<u8> {
    let (old_uid, new_uid) = (support::uid(card), support::uid(card + 1_000_000));
    report(&[Op::Reissue { holder: support::holder(card), new_uid, old_uid: Some(old_uid) }], seq, key)
}

/// A reissue, and requests with the old card until it is denied; then until the ack.
async fn reissue(asker: &mut Asker, card: u32, signed: Vec<u8>, all: &mut Measured) {
    let began = Instant::now();
    asker.client.try_publish(CHANGES, QoS::AtLeastOnce, false, signed).unwrap();
    let (mut denied, mut acked, mut waiting) = (None, None, false);
    while denied.is_none() || acked.is_none() {
        if denied.is_none() && !waiting {
            all.tries += 1;
            let payload = request("x", all.tries as usize, card as usize);
            asker.client.try_publish(ASK, QoS::AtMostOnce, false, payload).unwrap();
            waiting = true;
        }
        let (topic, payload) = asker.next().await;
        if topic == DECIDED {
            waiting = false;
            if String::from_utf8_lossy(&payload).contains("\"replaced\"") {
                denied = Some(began.elapsed());
            }
        } else if topic == ACK {
            acked = Some(began.elapsed());
        }
    }
    all.deny.extend(denied);
    all.ack.extend(acked);
}
