//! The outside world on the broker: one plain client that receives everything under `dormgate/v1/` and keeps it. It simulates
//! portals and centers, and knows of the gateway only what the wire contract reports.
#![allow(dead_code, reason = "each test uses a part")]

use std::fmt::Write as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rumqttc::{AsyncClient, Event, MqttOptions, NetworkOptions, Packet, QoS, Transport};
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::program::PATIENCE_S;

/// Largest packet of the client in bytes; some tests send more than a gateway should take.
const PACKET_BYTES: usize = 4 * 1024 * 1024;
/// Pause between two tries to connect, in milliseconds.
const RETRY_MS: u64 = 50;
/// How much of a failed test's traffic is shown, in messages.
const SHOWN: usize = 25;

/// Something received on the broker.
#[derive(Clone, Debug)]
pub struct Received {
    pub topic: String,
    pub payload: Vec<u8>,
    pub retain: bool,
    /// The payload, if it is JSON; else null.
    pub json: Value,
}

#[derive(Default)]
struct Kept {
    received: Mutex<Vec<Received>>,
}

/// How far a client is: how often it was subscribed, and how much it has received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Progress {
    subscribed: usize,
    received: usize,
}

pub struct Peer {
    client: AsyncClient,
    kept: Arc<Kept>,
    progress: watch::Receiver<Progress>,
    task: JoinHandle<()>,
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// How to reach the broker.
#[derive(Clone)]
pub struct Door {
    pub host: String,
    pub port: u16,
    pub user: Option<(String, String)>,
    pub transport: Transport,
}

impl Peer {
    /// A client that is connected and subscribed to the topics of the wire contract.
    pub async fn connect(door: &Door) -> Self {
        Self::subscribed_to(door, "outside-world", "dormgate/v1/#").await
    }

    /// A client of this name that is connected and subscribed.
    pub async fn subscribed_to(door: &Door, name: &str, filter: &'static str) -> Self {
        let mut options = MqttOptions::new(name, &door.host, door.port);
        options.set_max_packet_size(PACKET_BYTES, PACKET_BYTES).set_keep_alive(Duration::from_secs(30));
        options.set_transport(door.transport.clone());
        if let Some((user, password)) = &door.user {
            options.set_credentials(user, password);
        }
        let (client, mut poll) = AsyncClient::new(options, 1024);
        let mut network = NetworkOptions::new();
        network.set_tcp_nodelay(true);
        poll.set_network_options(network);
        let kept = Arc::new(Kept::default());
        let (reported, progress) = watch::channel(Progress::default());
        let (writer, subscriber) = (Arc::clone(&kept), client.clone());
        let task = tokio::spawn(async move {
            loop {
                match poll.poll().await {
                    Ok(Event::Incoming(Packet::ConnAck(_))) => {
                        subscriber.try_subscribe(filter, QoS::AtLeastOnce).expect("room to subscribe");
                    }
                    Ok(Event::Incoming(Packet::SubAck(_))) => reported.send_modify(|p| p.subscribed += 1),
                    Ok(Event::Incoming(Packet::Publish(message))) => {
                        let json = serde_json::from_slice(&message.payload).unwrap_or(Value::Null);
                        let payload = message.payload.to_vec();
                        let received = Received { topic: message.topic, payload, retain: message.retain, json };
                        writer.received.lock().expect("no panic").push(received);
                        reported.send_modify(|p| p.received += 1);
                    }
                    Ok(_) => {}
                    Err(_) => tokio::time::sleep(Duration::from_millis(RETRY_MS)).await,
                }
            }
        });
        let peer = Self { client, kept, progress, task };
        peer.subscribed(1).await;
        peer
    }

    /// How often it was subscribed until now.
    pub fn subscriptions(&self) -> usize {
        self.progress.borrow().subscribed
    }

    /// Waits until it was subscribed `times` times.
    pub async fn subscribed(&self, times: usize) {
        let mut progress = self.progress.clone();
        let done = progress.wait_for(|p| p.subscribed >= times);
        tokio::time::timeout(Duration::from_secs(PATIENCE_S), done).await.expect("a connection").expect("it lives");
    }

    /// How much was received until now: a place to look from.
    pub fn mark(&self) -> usize {
        self.kept.received.lock().expect("no panic").len()
    }

    /// All that was received since `mark`.
    pub fn since(&self, mark: usize) -> Vec<Received> {
        self.kept.received.lock().expect("no panic").iter().skip(mark).cloned().collect()
    }

    /// Waits for the first message since `mark` of which `pick` makes something.
    pub async fn find<T>(&self, mark: usize, reported: &str, pick: impl Fn(&Received) -> Option<T>) -> T {
        self.find_at(mark, reported, pick).await.1
    }

    /// Like [`find`](Self::find), and reports where it stands.
    pub async fn find_at<T>(&self, mark: usize, reported: &str, pick: impl Fn(&Received) -> Option<T>) -> (usize, T) {
        let mut progress = self.progress.clone();
        let search = async {
            let mut from = mark;
            loop {
                progress.borrow_and_update();
                {
                    let received = self.kept.received.lock().expect("no panic");
                    let places = received.iter().enumerate().skip(from);
                    if let Some(found) = places.into_iter().find_map(|(at, received)| Some((at, pick(received)?))) {
                        return found;
                    }
                    from = received.len();
                }
                progress.changed().await.expect("it lives");
            }
        };
        match tokio::time::timeout(Duration::from_secs(PATIENCE_S), search).await {
            Ok(found) => found,
            Err(_) => panic!("not received within {PATIENCE_S} s: {reported}\n{}", self.shown(mark)),
        }
    }

    /// The last messages since `mark`, for the report of a failed test.
    pub fn shown(&self, mark: usize) -> String {
        let all = self.since(mark);
        let mut text = format!("{} messages since then, the last of them:\n", all.len());
        for received in all.iter().skip(all.len().saturating_sub(SHOWN)) {
            let payload = String::from_utf8_lossy(&received.payload);
            let short: String = payload.chars().take(300).collect();
            writeln!(text, "{}{} {short}", if received.retain { "(retained) " } else { "" }, received.topic)
                .expect("text");
        }
        text
    }

    /// Publishes with QoS 1 and waits until the broker has passed it on.
    pub async fn report(&self, topic: &str, payload: impl Into<Vec<u8>>) {
        self.publish(topic, payload, false).await;
    }

    /// Like [`report`](Self::report), and the broker keeps it.
    pub async fn report_retained(&self, topic: &str, payload: impl Into<Vec<u8>>) {
        self.publish(topic, payload, true).await;
    }

    async fn publish(&self, topic: &str, payload: impl Into<Vec<u8>>, retain: bool) {
        let (mark, payload) = (self.mark(), payload.into());
        self.client.publish(topic, QoS::AtLeastOnce, retain, payload.clone()).await.expect("it lives");
        self.find(mark, &format!("the own message on {topic}"), |received| {
            (received.topic == topic && received.payload == payload).then_some(())
        })
        .await;
    }

    /// Publishes with QoS 1 and does not wait.
    pub fn report_quickly(&self, topic: &str, payload: impl Into<Vec<u8>>) {
        self.client.try_publish(topic, QoS::AtLeastOnce, false, payload).expect("room in the queue");
    }
}
