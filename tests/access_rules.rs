//! The access rules of `deploy/`, held against real brokers: a portal's account publishes no decision and no other portal's request, a
//! gateway's account publishes nothing on `down/`, and each of them can do its work.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail")]

#[path = "support/mosquitto.rs"]
mod mosquitto;
#[path = "support/nats.rs"]
mod nats;

use std::sync::Arc;
use std::time::Duration;

use dormgate::mqtt::{
    BrokerUrl, Connection, Credentials, Event, LinkSpec, Outgoing, Retention, Secret, Session, Setup,
};
use dormgate::wire::topic::{Qos, Subscription, uplink_subscriptions_clean};
use mosquitto::{Mosquitto, Rules};
use nats::{Cluster, PASSWORD};

/// Who reads and writes everything, beside the shipped rules.
const OBSERVER: &str = "observer";
const PATIENCE: Duration = Duration::from_secs(60);

/// A user, a topic below `dormgate/v1/`, and whether the user may publish there.
type May = (&'static str, &'static str, bool);
/// A user, a topic below `dormgate/v1/` that it may not read, and one that it may.
type Reads = (&'static str, &'static str, &'static str);

const CAMPUS: &[May] = &[
    ("nanhu-xing1", "nanhu-xing1/down/changes", false),
    ("nanhu-xing1", "nanhu-xing1/down/command", false),
    ("nanhu-xing1", "nanhu-xing1/down/head/apartment", false),
    ("nanhu-xing1", "nanhu-xing2/down/changes", false),
    ("nanhu-xing1", "campus/down/changes", false),
    ("nanhu-xing1", "nanhu-xing2/up/ack", false),
    ("nanhu-xing1", "nanhu-xing1/up/ack", true),
    ("nanhu-xing1", "nanhu-xing1/up/state", true),
    ("card-office", "nanhu-xing1/down/command", false),
    ("card-office", "nanhu-xing1/down/audit-ack", false),
    ("card-office", "nanhu-xing1/up/ack", false),
    ("card-office", "campus/down/changes", true),
    ("card-office", "campus/down/head/card-office", true),
    ("card-office", "nanhu-xing1/down/changes", true),
    ("card-office", "nanhu-xing1/down/snapshot", true),
    ("center", "nanhu-xing1/up/ack", false),
    ("center", "nanhu-xing1/portal/gate-in/decision", false),
    ("center", "campus/down/changes", true),
    ("center", "nanhu-xing1/down/command", true),
    ("center", "nanhu-xing1/down/audit-ack", true),
    ("center", "nanhu-xing1/down/head/card-office", true),
    ("apartment", "campus/down/changes", false),
    ("apartment", "nanhu-xing1/up/ack", false),
    ("apartment", "nanhu-xing1/down/command", true),
    ("apartment", "nanhu-xing1/down/snapshot", true),
];
const CAMPUS_READS: &[Reads] = &[
    ("nanhu-xing1", "nanhu-xing2/down/changes", "nanhu-xing1/down/changes"),
    ("nanhu-xing1", "nanhu-xing2/up/ack", "campus/down/changes"),
    ("apartment", "nanhu-xing1/down/changes", "nanhu-xing1/up/ack"),
    ("center", "nanhu-xing1/down/changes", "nanhu-xing1/up/audit"),
];
/// An account that is neither a gateway nor a center.
const OTHERS_READ: &[Reads] = &[
    ("gate-in", "campus/down/changes", "gate-in/down/changes"),
    ("gate-in", "campus/down/head/card-office", "gate-in/down/changes"),
];
const PORTALS: &[May] = &[
    ("gate-in", "nanhu-xing1/portal/gate-in/decision", false),
    ("gate-in", "nanhu-xing1/portal/gate-in/control", false),
    ("gate-in", "nanhu-xing1/portal/gate-out/request", false),
    ("gate-in", "nanhu-xing1/portal/gate-out/state", false),
    ("gate-in", "nanhu-xing1/portal/gate-out/decision", false),
    ("gate-in", "nanhu-xing1/gateway/state", false),
    ("gate-in", "nanhu-xing1/down/command", false),
    ("gate-in", "nanhu-xing1/portal/gate-in/request", true),
    ("gate-in", "nanhu-xing1/portal/gate-in/state", true),
];
const PORTALS_READS: &[Reads] =
    &[("gate-in", "nanhu-xing1/portal/gate-out/decision", "nanhu-xing1/portal/gate-in/decision")];
const BOX: &[May] = &[
    ("gateway", "nanhu-xing1/portal/gate-in/request", false),
    ("gateway", "nanhu-xing1/portal/gate-in/decision", true),
    ("gateway", "nanhu-xing1/portal/gate-in/control", true),
    ("gateway", "nanhu-xing1/gateway/state", true),
];

fn topic(below: &str) -> String {
    format!("dormgate/v1/{below}")
}

fn client(url: &BrokerUrl, user: &str, subscriptions: Vec<Subscription>) -> Connection {
    let setup = Setup {
        link: "test",
        session: Session::Clean,
        subscriptions,
        packet_bytes_max: 65_536,
        will: None,
        echo_topic: None,
    };
    let credentials =
        Credentials { username: user.to_owned(), password: Some(Secret::new(PASSWORD)), password_file: None };
    let spec =
        LinkSpec { credentials: Some(credentials), ..LinkSpec::plain(vec![url.clone()], format!("{user}-test")) };
    Connection::new(spec, setup, Arc::default()).unwrap()
}

fn to(filter: &str) -> Vec<Subscription> {
    vec![Subscription { filter: filter.to_owned(), qos: Qos::AtMostOnce }]
}

async fn until_up(connection: &mut Connection) {
    let up = async { while !matches!(connection.next().await, Event::Up { .. }) {} };
    tokio::time::timeout(PATIENCE, up).await.expect("a connection");
}

fn message(topic: String, payload: &str, qos: Qos) -> Outgoing {
    Outgoing { topic, payload: payload.into(), retain: false, qos, retention: Retention::UntilDelivered }
}

/// The next message, while the other connection goes on.
async fn received(listener: &mut Connection, other: &mut Connection) -> (String, Vec<u8>) {
    let both = async {
        loop {
            tokio::select! {
                event = listener.next() => if let Event::Message(message) = event {
                    return (message.topic, message.payload);
                },
                _ = other.next() => {}
            }
        }
    };
    tokio::time::timeout(PATIENCE, both).await.expect("a message")
}

/// Publishes as each user; what arrives is what may be published.
async fn published(url: &BrokerUrl, all: &[May]) {
    let mut observer = client(url, OBSERVER, to("dormgate/v1/#"));
    until_up(&mut observer).await;
    let mut users: Vec<_> = all.iter().map(|(user, ..)| *user).collect();
    users.dedup();
    for user in users {
        let mut publisher = client(url, user, Vec::new());
        until_up(&mut publisher).await;
        let of_user: Vec<_> = all.iter().filter(|(of, ..)| *of == user).collect();
        for (_, below, _) in &of_user {
            // With QoS 0, because a broker may end the connection over what is not allowed, and it would come again.
            publisher.publish(message(topic(below), "case", Qos::AtMostOnce)).unwrap();
            tokio::time::timeout(Duration::from_millis(20), publisher.next()).await.ok();
        }
        let (_, allowed, _) = of_user.iter().find(|(.., may)| *may).expect("each user may do something");
        publisher.publish(message(topic(allowed), "end", Qos::AtLeastOnce)).unwrap();
        let mut arrived = Vec::new();
        loop {
            let (topic, payload) = received(&mut observer, &mut publisher).await;
            if payload == b"end" {
                break;
            }
            arrived.push(topic);
        }
        for (_, below, may) in of_user {
            assert_eq!(arrived.contains(&topic(below)), *may, "{user} publishes on {below}: {arrived:?}");
        }
    }
}

/// What the observer publishes reaches a user only where it may read.
async fn read(url: &BrokerUrl, all: &[Reads]) {
    let mut observer = client(url, OBSERVER, Vec::new());
    until_up(&mut observer).await;
    for (user, forbidden, allowed) in all {
        let filters = [forbidden, allowed].map(|below| to(&topic(below))).concat();
        let mut reader = client(url, user, filters);
        until_up(&mut reader).await;
        for below in [forbidden, allowed] {
            observer.publish(message(topic(below), "case", Qos::AtLeastOnce)).unwrap();
        }
        let (first, _) = received(&mut reader, &mut observer).await;
        assert_eq!(first, topic(allowed), "{user} reads {forbidden}");
    }
}

/// A gateway's account can subscribe to all that a gateway needs.
async fn gateway_can_subscribe(url: &BrokerUrl) {
    let mut gateway = client(url, "nanhu-xing1", uplink_subscriptions_clean(&"nanhu-xing1".parse().unwrap()));
    until_up(&mut gateway).await;
    assert!(gateway.metrics().faults.all().is_empty(), "{:?}", gateway.metrics().faults.all());
}

fn mosquitto(rules: &str, users: &[&str]) -> (Mosquitto, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("acl");
    let shipped = std::fs::read_to_string(rules).unwrap();
    std::fs::write(&file, format!("{shipped}\nuser {OBSERVER}\ntopic readwrite #\n")).unwrap();
    let users = users.iter().chain([&OBSERVER]).map(|user| ((*user).to_owned(), PASSWORD.to_owned())).collect();
    let extra = format!("acl_file {}\n", file.display());
    (Mosquitto::start(Rules { users, extra, ..Rules::default() }), directory)
}

#[tokio::test]
#[ignore = "needs mosquitto, which tests/run installs"]
async fn on_the_campus_mosquitto_everybody_publishes_only_what_is_their_own() {
    let users = ["nanhu-xing1", "center", "card-office", "apartment", "gate-in"];
    let (broker, _directory) = mosquitto("deploy/campus/mosquitto.acl", &users);
    published(&broker.url(), CAMPUS).await;
    read(&broker.url(), CAMPUS_READS).await;
    read(&broker.url(), OTHERS_READ).await;
    gateway_can_subscribe(&broker.url()).await;
}

#[tokio::test]
#[ignore = "needs mosquitto, which tests/run installs"]
async fn on_the_mosquitto_of_the_box_a_portal_publishes_no_decision_and_no_other_portals_request() {
    let (broker, _directory) = mosquitto("deploy/mosquitto.acl", &["gateway", "gate-in"]);
    published(&broker.url(), PORTALS).await;
    published(&broker.url(), BOX).await;
    read(&broker.url(), PORTALS_READS).await;
}

#[tokio::test]
#[ignore = "needs nats-server, which tests/run installs"]
async fn on_nats_everybody_publishes_only_what_is_their_own() {
    let shipped = std::fs::read_to_string("deploy/campus/nats-users.conf").unwrap();
    let observer = format!("users: [\n{{ user: \"{OBSERVER}\", password: \"{PASSWORD}\" }}\n");
    let cluster = Cluster::with(&shipped.replacen("users: [", &observer, 1), 1);
    published(&cluster.url(0), CAMPUS).await;
    published(&cluster.url(0), PORTALS).await;
    read(&cluster.url(0), CAMPUS_READS).await;
    read(&cluster.url(0), PORTALS_READS).await;
    gateway_can_subscribe(&cluster.url(0)).await;
}
