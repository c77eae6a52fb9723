//! The brokers a test runs against: the embedded one always, a real mosquitto too where `DORMGATE_REAL_PARTS` is set.
#![allow(dead_code, reason = "each test uses a part")]

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use dormgate::mqtt::{
    BrokerUrl, Connection, Event, LinkMetrics, LinkSpec, Message, Outgoing, Retention, Session, Setup, Will,
};
use dormgate::wire::topic::{Qos, Subscription};
use dormgate::workbench::broker::Broker;

use crate::mosquitto::{Mosquitto, Rules, real_parts};

/// Every wait of a test ends after this, in seconds.
pub const PATIENCE_S: u64 = 60;

/// A broker under test. Its stop loses all sessions and retained messages.
pub enum TestBroker {
    Embedded(Option<Broker>, BrokerUrl),
    Real(Box<Mosquitto>),
}

impl TestBroker {
    pub async fn embedded() -> Self {
        let broker = Broker::start().await.expect("the embedded broker starts");
        let url = broker.url();
        Self::Embedded(Some(broker), url)
    }

    pub fn url(&self) -> BrokerUrl {
        match self {
            Self::Embedded(_, url) => url.clone(),
            Self::Real(real) => real.url(),
        }
    }

    pub async fn stop(&mut self) {
        match self {
            Self::Embedded(broker, _) => drop(broker.take().expect("it runs").stop().await),
            Self::Real(real) => real.stop(),
        }
    }

    pub async fn start_again(&mut self) {
        match self {
            Self::Embedded(broker, url) => {
                let address = format!("{}:{}", url.host, url.port).parse().expect("an address");
                *broker = Some(Broker::start_at(address).await.expect("the same port again"));
            }
            Self::Real(real) => real.restart(Duration::ZERO),
        }
    }
}

/// Runs `test` against each broker there is.
pub async fn against_each<F: Future<Output = ()>>(test: impl Fn(TestBroker) -> F) {
    within(test(TestBroker::embedded().await)).await;
    if real_parts() {
        eprintln!("against mosquitto");
        within(test(TestBroker::Real(Box::new(Mosquitto::start(Rules::default()))))).await;
    }
}

/// Waits for `what`, but not for ever.
pub async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(PATIENCE_S), what).await.expect("it happens in time")
}

/// How a test client connects.
pub fn setup(filters: &[&str]) -> Setup {
    Setup {
        link: "test",
        session: Session::Clean,
        subscriptions: filters.iter().map(|f| Subscription { filter: (*f).into(), qos: Qos::AtLeastOnce }).collect(),
        packet_bytes_max: 4 * 1024 * 1024,
        will: None,
        echo_topic: None,
    }
}

pub fn persistent(filters: &[&str]) -> Setup {
    Setup { session: Session::Persistent, ..setup(filters) }
}

pub fn will(topic: &str, text: &'static str) -> Option<Will> {
    Some(Will { topic: topic.into(), retain: true, payload: Arc::new(move |_| text.as_bytes().to_vec()) })
}

/// A client that is not connected yet.
pub fn client(url: &BrokerUrl, id: &str, setup: Setup) -> Connection {
    Connection::new(LinkSpec::plain(vec![url.clone()], id), setup, Arc::default()).expect("a sound setup")
}

/// A client that is connected and subscribed.
pub async fn connected(url: &BrokerUrl, id: &str, setup: Setup) -> Connection {
    let mut client = client(url, id, setup);
    until_up(&mut client).await;
    client
}

/// Waits until the link is up; gives whether the broker kept the session.
pub async fn until_up(client: &mut Connection) -> bool {
    loop {
        if let Event::Up { session_present } = within(client.next()).await {
            return session_present;
        }
    }
}

/// The next message.
pub async fn message(client: &mut Connection) -> Message {
    loop {
        if let Event::Message(message) = within(client.next()).await {
            return message;
        }
    }
}

/// The next message, acknowledged, as text.
pub async fn text(client: &mut Connection) -> String {
    let message = message(client).await;
    if let Some(token) = message.ack {
        client.ack(token);
    }
    String::from_utf8(message.payload).expect("text")
}

/// What a test publishes with QoS 1.
pub fn reporting(topic: &str, payload: impl Into<Vec<u8>>) -> Outgoing {
    Outgoing {
        topic: topic.into(),
        payload: payload.into(),
        retain: false,
        qos: Qos::AtLeastOnce,
        retention: Retention::UntilDelivered,
    }
}

pub fn retained(topic: &str, payload: impl Into<Vec<u8>>) -> Outgoing {
    Outgoing { retain: true, ..reporting(topic, payload) }
}

/// Publishes and waits until the broker has it.
pub async fn deliver(client: &mut Connection, message: Outgoing) {
    let id = client.publish(message).expect("room in the outbox");
    while within(client.next()).await != Event::Delivered(id) {}
}

/// What the client counts.
pub fn metrics(client: &Connection) -> Arc<LinkMetrics> {
    Arc::clone(client.metrics())
}
