//! A dormitory to try the whole program in: a broker, two offices, a gate, a door, a power box, and a directory that survives
//! the gateway. With `DORMGATE_REAL_PARTS` the broker is a real mosquitto; otherwise one in the test's process.
#![allow(dead_code, reason = "each test uses a part")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use dormgate::workbench::broker::Broker;
use rumqttc::Transport;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::center::{Office, down, portal, up};
use crate::mosquitto::{Mosquitto, Rules, real_parts};
use crate::peer::{Door, Peer, Received};
use crate::program::{PATIENCE_S, Program, page_by_socket};

pub const GATE: &str = "gate-in";
pub const DOOR: &str = "door-412";
pub const BOX: &str = "power-412";
/// Where a resident of room 412 may go.
pub const EVERYWHERE: [&str; 3] = [GATE, DOOR, BOX];

enum Kind {
    Embedded(Option<Broker>),
    Real(Box<Mosquitto>),
}

/// The broker, which can go away and come back at the same port.
pub struct Hub {
    kind: Kind,
    host: String,
    port: u16,
}

impl Hub {
    pub async fn start(rules: Rules) -> Self {
        if real_parts() {
            return Self::of(Mosquitto::start(rules));
        }
        let broker = Broker::start().await.expect("the embedded broker starts");
        let url = broker.url();
        Self { kind: Kind::Embedded(Some(broker)), host: url.host, port: url.port }
    }

    pub fn of(broker: Mosquitto) -> Self {
        let url = broker.url();
        Self { kind: Kind::Real(Box::new(broker)), host: url.host, port: url.port }
    }

    pub async fn stop(&mut self) {
        match &mut self.kind {
            Kind::Embedded(broker) => {
                broker.take().expect("it runs").stop().await;
            }
            Kind::Real(broker) => broker.stop(),
        }
    }

    pub async fn start_again(&mut self) {
        match &mut self.kind {
            Kind::Embedded(broker) => {
                let address = format!("{}:{}", self.host, self.port).parse().expect("an address");
                *broker = Some(Broker::start_at(address).await.expect("the same port again"));
            }
            Kind::Real(broker) => broker.restart(Duration::ZERO),
        }
    }

    pub fn url(&self) -> String {
        format!("mqtt://{}:{}", self.host, self.port)
    }

    pub fn door(&self) -> Door {
        Door { host: self.host.clone(), port: self.port, user: None, transport: Transport::Tcp }
    }
}

pub struct Site {
    pub hub: Hub,
    pub peer: Peer,
    pub cards: Office,
    pub rooms: Office,
    dir: tempfile::TempDir,
    /// Further lines of `[uplink]`.
    pub uplink: Option<String>,
    /// Lines above the first section.
    pub head: String,
    /// Further sections.
    pub extra: String,
    requests: std::cell::Cell<u64>,
}

impl Site {
    pub async fn new() -> Self {
        Self::with(Rules::default()).await
    }

    pub async fn with(rules: Rules) -> Self {
        let hub = Hub::start(rules).await;
        let peer = Peer::connect(&hub.door()).await;
        Self::of(hub, peer)
    }

    pub fn of(hub: Hub, peer: Peer) -> Self {
        Self {
            hub,
            peer,
            cards: Office::card_office(),
            rooms: Office::apartment(),
            dir: tempfile::tempdir().expect("a directory"),
            uplink: Some(String::new()),
            head: String::new(),
            extra: String::new(),
            requests: std::cell::Cell::new(0),
        }
    }

    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    pub fn dir(&self) -> PathBuf {
        self.dir.path().to_owned()
    }

    pub fn socket(&self) -> PathBuf {
        self.data().join("dormgate.sock")
    }

    /// The configuration's text.
    pub fn config_text(&self) -> String {
        let (host, port) = (&self.hub.host, self.hub.port);
        let uplink = self.uplink.as_ref().map_or(String::new(), |more| {
            if more.contains("urls") {
                format!("[uplink]\n{more}\n")
            } else {
                format!("[uplink]\nurls = [\"mqtt://{host}:{port}\"]\n{more}\n")
            }
        });
        let local = if self.uplink.as_ref().is_some_and(|more| more.contains("urls")) {
            String::new()
        } else {
            format!("[local]\nurls = [\"mqtt://{host}:{port}\"]\n")
        };
        format!(
            "{}[gateway]\nid = \"xing1\"\ndata_dir = \"data\"\n{uplink}{local}\
             [[center.stream]]\nname = \"card-office\"\nscope = \"campus\"\npublic_keys = [\"{}\"]\n\
             may = [\"issue\", \"reissue\", \"report_lost\", \"found\", \"freeze\", \"unfreeze\", \"cancel\", \"reinstate\"]\n\
             [[center.stream]]\nname = \"apartment\"\nscope = \"gateway\"\npublic_keys = [\"{}\"]\n\
             may = [\"enrol\", \"withdraw\", \"suspend_power\", \"resume_power\", \"define_schedule\", \"set_posture\", \
             \"command\"]\n\
             [[portal]]\nid = \"gate-in\"\nkind = \"gate\"\nzone = \"lobby\"\ndirection = \"in\"\nhold_ms = 3000\n\
             device = {{ mqtt = \"native\" }}\n\
             [[portal]]\nid = \"door-412\"\nkind = \"door\"\nzone = \"412\"\nhold_ms = 5000\ndevice = {{ mqtt = \"native\" }}\n\
             [[portal]]\nid = \"power-412\"\nkind = \"power_box\"\nzone = \"412\"\ndevice = {{ mqtt = \"native\" }}\n{}",
            self.head,
            self.cards.public_key(),
            self.rooms.public_key(),
            self.extra,
        )
    }

    pub fn config(&self) -> PathBuf {
        let path = self.dir.path().join("dormgate.toml");
        std::fs::write(&path, self.config_text()).expect("the configuration is written");
        path
    }

    /// Starts the gateway without waiting for anything.
    pub fn launch(&self) -> Program {
        Program::run(&self.config())
    }

    /// Starts the gateway and waits until both links are up.
    pub async fn start(&self) -> Program {
        let mark = self.peer.mark();
        let gateway = self.launch();
        self.online(mark, &gateway).await;
        gateway
    }

    /// Waits until this run of the gateway has come online on every link since `mark`. A retained copy counts: the peer may be
    /// the later of the two.
    pub async fn online(&self, mark: usize, gateway: &Program) {
        let serving = gateway.logged("serving").await;
        let boot = serving.split("boot=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a boot").to_owned();
        let mut topics = vec!["dormgate/v1/xing1/gateway/state".to_owned()];
        if self.uplink.is_some() {
            topics.push(up("state"));
        }
        let found = async {
            for topic in topics {
                let online = |received: &Received| {
                    let ours = received.topic == topic && received.json["boot"] == boot.as_str();
                    (ours && received.json["state"] == "online").then_some(())
                };
                self.peer.find(mark, "`online`", online).await;
            }
        };
        tokio::select! {
            () = found => {}
            () = tokio::time::sleep(Duration::from_secs(PATIENCE_S)) => {
                panic!("not online; its log:\n{}\n{}", gateway.log(), self.peer.shown(mark));
            }
        }
    }

    /// Presents a card again and again, as people do, until the gateway receives its portals again.
    pub async fn answered_again(&self, at: &str, uid: &str) {
        let mark = self.peer.mark();
        let request = json!({"v": 1, "id": "again", "uid": uid}).to_string();
        let answered = |received: &Received| {
            (received.topic == portal(at, "decision") && received.json["id"] == "again").then_some(())
        };
        let insist = async {
            loop {
                self.peer.report_quickly(&portal(at, "request"), request.clone());
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        };
        tokio::select! {
            () = self.peer.find(mark, "an answer", answered) => {}
            () = insist => {}
        }
    }

    /// A card is held to a reader; gives the whole answer.
    pub async fn present(&self, at: &str, uid: &str) -> Value {
        self.requests.set(self.requests.get() + 1);
        let id = format!("test-{}", self.requests.get());
        let mark = self.peer.mark();
        self.peer.report_quickly(&portal(at, "request"), json!({"v": 1, "id": id, "uid": uid}).to_string());
        let topic = portal(at, "decision");
        self.peer
            .find(mark, &format!("the decision for {uid} at {at}"), |received| {
                (received.topic == topic && received.json["id"] == id.as_str()).then(|| received.json.clone())
            })
            .await
    }

    /// What a card is reported at a portal.
    pub async fn reason(&self, at: &str, uid: &str) -> String {
        let answer = self.present(at, uid).await;
        let granted = answer["decision"] == "grant";
        let reason = answer["reason"].as_str().expect("a reason").to_owned();
        assert_eq!(granted, reason == "granted", "{answer}");
        reason
    }

    /// Expects the same answer at gate, door and box.
    pub async fn expect_everywhere(&self, uid: &str, reason: &str) {
        for at in EVERYWHERE {
            assert_eq!(self.reason(at, uid).await, reason, "{uid} at {at}");
        }
    }

    /// The acknowledgement of a message since `mark`.
    pub async fn ack(&self, mark: usize, stream: &str, seq: u64) -> Value {
        self.peer
            .find(mark, &format!("the ack of {stream} {seq}"), |received| {
                let ours =
                    received.topic == up("ack") && received.json["stream"] == stream && received.json["seq"] == seq;
                ours.then(|| received.json.clone())
            })
            .await
    }

    /// The card office reports something; gives the ack.
    pub async fn report_cards(&mut self, ops: Value) -> Value {
        let (mark, message) = (self.peer.mark(), self.cards.next(&ops));
        self.peer.report(&self.cards.topic(), message).await;
        self.ack(mark, self.cards.name, self.cards.seq).await
    }

    /// The apartment center reports something; gives the ack.
    pub async fn report_rooms(&mut self, ops: Value) -> Value {
        let (mark, message) = (self.peer.mark(), self.rooms.next(&ops));
        self.peer.report(&self.rooms.topic(), message).await;
        self.ack(mark, self.rooms.name, self.rooms.seq).await
    }

    /// A command; gives the reply.
    pub async fn command(&self, jti: &str, more: Value) -> Value {
        let mark = self.peer.mark();
        self.peer.report(&down("command"), self.rooms.command(jti, more)).await;
        self.reply(mark, jti).await
    }

    /// The reply to a command since `mark`.
    pub async fn reply(&self, mark: usize, jti: &str) -> Value {
        self.peer
            .find(mark, &format!("the reply to {jti}"), |received| {
                (received.topic == up("reply") && received.json["jti"] == jti).then(|| received.json.clone())
            })
            .await
    }

    /// The first request to send a stream again since `mark`.
    pub async fn resync(&self, mark: usize, stream: &str) -> Value {
        self.peer
            .find(mark, &format!("a resync of {stream}"), |received| {
                (received.topic == up("resync") && received.json["stream"] == stream).then(|| received.json.clone())
            })
            .await
    }

    /// The first alarm of a kind since `mark`.
    pub async fn alarm(&self, mark: usize, kind: &str) -> Value {
        self.peer
            .find(mark, &format!("an alarm `{kind}`"), |received| {
                (received.topic == up("alarm") && received.json["alarm"] == kind).then(|| received.json.clone())
            })
            .await
    }

    /// The first audit event since `mark` that `is` reports yes to. Acknowledges what it reads: a gateway that receives nothing of its
    /// audit sends no more than four batches.
    pub async fn event(&self, mark: usize, reported: &str, is: impl Fn(&Value) -> bool) -> Value {
        // What was received before the mark and nobody looked for counts among the four, too.
        let received = self.peer.since(0);
        let last = received.iter().filter(|h| h.topic == up("audit")).filter_map(|h| h.json["last"].as_u64()).max();
        if let Some(last) = last {
            self.acknowledge_audit(last).await;
        }
        let mut from = mark;
        loop {
            let reported = format!("an audit event: {reported}");
            let (place, batch) = self
                .peer
                .find_at(from, &reported, |received| (received.topic == up("audit")).then(|| received.json.clone()))
                .await;
            self.acknowledge_audit(batch["last"].as_u64().expect("a number")).await;
            let events = batch["events"].as_array().expect("events");
            if let Some(event) = events.iter().find(|event| is(event)) {
                return event.clone();
            }
            from = place + 1;
        }
    }

    /// The whole audit received until now.
    pub fn audit(&self) -> Audit {
        let mut audit = Audit::default();
        for received in self.peer.since(0).iter().filter(|received| received.topic == up("audit")) {
            audit.take(&received.payload);
        }
        audit
    }

    /// Reports the gateway that the audit has arrived.
    pub async fn acknowledge_audit(&self, through: u64) {
        self.peer.report(&down("audit-ack"), self.rooms.to_gateway(json!({"through": through}))).await;
    }

    /// `/metrics`.
    pub async fn metrics(&self) -> String {
        let (status, text) = page_by_socket(&self.socket(), "/metrics").await;
        assert_eq!(status, 200);
        text
    }

    /// Sum of the samples of a counter whose labels contain `labels`.
    pub async fn counted(&self, name: &str, labels: &[&str]) -> u64 {
        let text = self.metrics().await;
        let ours = |line: &&str| {
            line.split(['{', ' ']).next() == Some(name) && labels.iter().all(|label| line.contains(label))
        };
        let value = |line: &str| line.rsplit(' ').next().and_then(|v| v.parse::<f64>().ok()).expect("a number");
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count of a test is small")]
        let sum = text.lines().filter(ours).map(value).sum::<f64>() as u64;
        sum
    }
}

/// The audit as a center keeps it.
#[derive(Default)]
pub struct Audit {
    pub events: BTreeMap<u64, String>,
}

impl Audit {
    /// Takes a batch. An event that comes again must come byte for byte the same.
    pub fn take(&mut self, batch: &[u8]) {
        let batch: BTreeMap<String, Box<RawValue>> = serde_json::from_slice(batch).expect("a batch");
        let number = |key: &str| batch[key].get().parse::<u64>().expect("a number");
        let events: Vec<Box<RawValue>> = serde_json::from_str(batch["events"].get()).expect("events");
        assert!(events.len() <= 200, "{} events in a batch", events.len());
        let mut expected = number("first");
        for event in &events {
            let json: Value = serde_json::from_str(event.get()).expect("an event");
            assert_eq!(json["n"], expected, "a batch has no hole");
            let before = self.events.insert(expected, event.get().to_owned());
            assert!(
                before.is_none_or(|before| before == event.get()),
                "event {expected} was reported twice, differently"
            );
            expected += 1;
        }
        assert_eq!(number("last") + 1, expected);
    }

    pub fn last(&self) -> u64 {
        self.events.keys().next_back().copied().unwrap_or(0)
    }

    /// Checks that there is no hole since `from` and that each event names the hash of the one before it.
    pub fn verify(&self, from: u64) {
        let mut before: Option<(u64, &String)> = None;
        for (n, text) in self.events.range(from..) {
            let json: Value = serde_json::from_str(text).expect("an event");
            let prev = json["prev"].as_str().expect("a hash");
            match before {
                None => assert_eq!(*n, from, "the first event"),
                Some((last, text)) => {
                    assert_eq!(*n, last + 1, "a hole in the audit");
                    assert_eq!(prev, hash(text), "event {n} does not follow from {last}");
                }
            }
            if *n == 1 {
                assert_eq!(prev, "0".repeat(64));
            }
            before = Some((*n, text));
        }
    }
}

pub fn hash(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}
