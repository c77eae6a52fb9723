//! The center's service between a client and a gateway: `POST /v1/changes` with a reissue until the old card is first denied at the
//! gate, beside a bare echo through the same broker; and how many changes a second it signs, stores and pushes.
//!
//! The two real binaries on a real mosquitto. A client opens a connection a request, as `curl` does. Machines are shared and noisy:
//! everything is measured in turns in one run; read the ratios. Needs `mosquitto` on the path.
//! Run: `cargo bench --features center --bench center`.

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

use ed25519_dalek::SigningKey;
use rumqttc::QoS;
use serde_json::{Value, json};
use support::broker::{
    self, ACK, ASK, Asker, DECIDED, FLOOR_ANSWER, FLOOR_REQUEST, PAUSE, percentiles, ratio, request,
};
use support::office::{enrolments, post, start_center};

/// Reissues that are measured.
const REISSUES: u32 = 500;
/// Enrolments that are pushed one a request, and many a request.
const ONE_BY_ONE: u32 = 1_000;
const TOGETHER: u32 = 20_000;
/// Cards in one request.
const BATCH: u32 = 500;

fn main() {
    broker::run(|runtime| runtime.block_on(bench()));
}

/// Waits until the gateway has acknowledged the message with this number.
async fn until_acked(asker: &mut Asker, seq: u64) {
    loop {
        let (topic, payload) = asker.next().await;
        if topic == ACK && serde_json::from_slice::<Value>(&payload).unwrap()["seq"] == seq {
            return;
        }
    }
}

async fn bench() {
    let dir = tempfile::tempdir().unwrap();
    let (_broker, port) = broker::start_broker(dir.path());
    let key = SigningKey::from_bytes(&[7; 32]);
    let (_center, address) = start_center(dir.path(), port, &key);
    let _gateway = broker::start_gateway(dir.path(), port, &key, "");
    let _echo = broker::start_echo(port);
    let mut asker = Asker::start(port).await;
    let mut seq = 0;
    for from in (0..REISSUES).step_by(BATCH as usize) {
        post(address.clone(), enrolments(from..(from + BATCH).min(REISSUES))).await;
        seq += 1;
        until_acked(&mut asker, seq).await;
    }
    let (mut echo, mut answered, mut denied_in, mut tries) = (Vec::new(), Vec::new(), Vec::new(), 0);
    for card in 0..REISSUES {
        let n = card as usize;
        asker.after_a_pause(FLOOR_REQUEST, FLOOR_ANSWER, n).await;
        echo.push(asker.ask(FLOOR_REQUEST, FLOOR_ANSWER, request("e", n, n)).await);
        asker.after_a_pause(ASK, DECIDED, n).await;
        let (old, new) = (support::uid(card).to_string(), support::uid(card + 1_000_000).to_string());
        let op = json!({"op": "reissue", "holder": support::holder(card).to_string(), "new_uid": new, "old_uid": old});
        let began = Instant::now();
        let posted = tokio::spawn(post(address.clone(), vec![op]));
        let mut is_denied = false;
        while !is_denied {
            tries += 1;
            let payload = request("x", tries, n);
            asker.client.try_publish(ASK, QoS::AtMostOnce, false, payload).unwrap();
            is_denied = loop {
                let (topic, payload) = asker.next().await;
                if topic == DECIDED {
                    break String::from_utf8_lossy(&payload).contains("\"replaced\"");
                }
            };
        }
        denied_in.push(began.elapsed());
        answered.push(posted.await.unwrap() - began);
        seq += 1;
        tokio::time::sleep(PAUSE).await;
    }
    let echo = percentiles("bare echo", echo);
    ratio(percentiles("POST -> first deny", denied_in), echo);
    ratio(percentiles("POST -> answer, on its disk", answered), echo);

    let (one, together) = (ONE_BY_ONE, TOGETHER);
    let rate = |what: &str, cards: u32, took: Duration| {
        println!(
            "{what:<28} {:.0} enrolments/s, {cards} in {:.2} s",
            f64::from(cards) / took.as_secs_f64(),
            took.as_secs_f64()
        );
    };
    for (what, first, cards, step) in [("one a request", 100_000, one, 1), ("500 a request", 200_000, together, BATCH)]
    {
        let began = Instant::now();
        for from in (first..first + cards).step_by(step as usize) {
            post(address.clone(), enrolments(from..from + step)).await;
            seq += 1;
        }
        let answered = began.elapsed();
        until_acked(&mut asker, seq).await;
        rate(&format!("{what}: answered"), cards, answered);
        rate(&format!("{what}: at the gateway"), cards, began.elapsed());
    }
}
