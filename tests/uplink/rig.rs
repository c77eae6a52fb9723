//! An uplink with a test in the gateway's place, an audit in memory, and a center that listens. No guarantees of its own.

use dormgate::access::engine::Status;

use super::*;

pub(super) const CHANGES: &str = "dormgate/v1/g1/down/changes";
pub(super) const SNAPSHOT: &str = "dormgate/v1/g1/down/snapshot";
pub(super) const NOW: Timestamp = Timestamp(1_788_249_600_000);

/// An audit in memory, whose events are all on disk.
#[derive(Default)]
pub(super) struct Audit {
    pub(super) last: AtomicU64,
    pub(super) acked: AtomicU64,
    /// The events from the first number to the second are not on disk any more.
    pub(super) gone: Option<(u64, u64)>,
    /// What the next readings give, before those of the events.
    pub(super) next: std::sync::Mutex<std::collections::VecDeque<Result<Vec<StoredEvent>, String>>>,
    /// How often it was read.
    pub(super) reads: AtomicU64,
    /// Held by a test, reading waits.
    pub(super) slow: Arc<tokio::sync::Mutex<()>>,
}

impl AuditSource for Audit {
    fn read(&self, from: u64, max_events: usize, _max_bytes: usize) -> ReadEvents {
        self.reads.fetch_add(1, Relaxed);
        let to = self.last.load(Relaxed).min(from + u64::try_from(max_events).unwrap() - 1);
        let is_there = |n: &u64| self.gone.is_none_or(|(first, last)| *n < first || last < *n);
        let events = (from..=to)
            .filter(is_there)
            .map(|n| StoredEvent { n, json: format!("{{\"n\":{n}}}").into_bytes() })
            .collect();
        let (slow, next) = (Arc::clone(&self.slow), self.next.lock().unwrap().pop_front());
        Box::pin(async move {
            drop(slow.lock().await);
            next.unwrap_or(Ok(events))
        })
    }

    fn last_durable(&self) -> u64 {
        self.last.load(Relaxed)
    }

    fn acked(&self) -> u64 {
        self.acked.load(Relaxed)
    }

    fn set_acked(&self, through: u64) {
        self.acked.store(through, Relaxed);
    }
}

/// An uplink with a test in the gateway's place.
pub(super) struct Rig {
    pub(super) url: BrokerUrl,
    pub(super) gateway: InboxReceiver,
    pub(super) orders: mpsc::Sender<UplinkOrder>,
    pub(super) audit: Arc<Audit>,
    pub(super) metrics: Arc<LinkMetrics>,
    pub(super) task: JoinHandle<()>,
}

pub(super) fn streams() -> Vec<StreamSpec> {
    let stream = |name: &str, may: &[OpName], insecure_unsigned| StreamSpec {
        name: name.parse().unwrap(),
        scope: Scope::Gateway,
        keys: vec![SigningKey::from_bytes(&[7; 32]).verifying_key()],
        insecure_unsigned,
        allowed: may.iter().copied().collect(),
    };
    let mut campus = stream("card-office", &[OpName::Issue], true);
    campus.scope = Scope::Campus;
    vec![stream("office", &[OpName::Cancel, OpName::Command], true), stream("signed", &[OpName::Freeze], false), campus]
}

impl Rig {
    pub(super) async fn start(url: &BrokerUrl, by: AuditAckBy) -> Self {
        Self::with_audit(url, by, Arc::default()).await
    }

    pub(super) async fn with_audit(url: &BrokerUrl, by: AuditAckBy, audit: Arc<Audit>) -> Self {
        Self::with(LinkSpec::plain(vec![url.clone()], "g1"), url, by, audit).await
    }

    pub(super) async fn with(link: LinkSpec, url: &BrokerUrl, by: AuditAckBy, audit: Arc<Audit>) -> Self {
        let (inbox, gateway) = Inbox::new();
        let (orders, to_do) = mpsc::channel(16);
        let metrics = Arc::new(LinkMetrics::default());
        let spec = UplinkSpec {
            link,
            gateway: "g1".parse().unwrap(),
            streams: streams(),
            boot: "boot-1".into(),
            audit_ack: by,
        };
        let clock = Clock::manual(NOW).0;
        let source = Arc::clone(&audit) as Arc<dyn AuditSource>;
        let uplink = Uplink::new(spec, inbox, to_do, source, clock, Arc::clone(&metrics)).unwrap();
        let task = tokio::spawn(uplink.run());
        let mut rig = Self { url: url.clone(), gateway, orders, audit, metrics, task };
        // What a kept session holds may come before the link is up.
        if !matches!(rig.urgent_peek().await, Input::LinkUp { .. }) {
            panic!("the first input is not LinkUp");
        }
        rig
    }

    pub(super) async fn urgent_peek(&mut self) -> Input {
        within(self.gateway.urgent.recv()).await.expect("the uplink lives")
    }

    pub(super) async fn changes(&mut self) -> ReceivedChanges {
        match self.urgent_peek().await {
            Input::Changes(changes) => changes,
            other => panic!("{other:?}"),
        }
    }

    pub(super) async fn rejected(&mut self) -> RejectedMessage {
        match self.urgent_peek().await {
            Input::Rejected(rejected) => rejected,
            other => panic!("{other:?}"),
        }
    }

    /// Acknowledges as the gateway does once everything is durable.
    pub(super) async fn acknowledge(&self, receipt: Receipt) {
        self.acknowledge_as(receipt, None, Outcome::Applied).await;
    }

    /// The same for a snapshot, or with another outcome.
    pub(super) async fn acknowledge_as(&self, receipt: Receipt, snapshot: Option<&str>, outcome: Outcome) {
        let ack = Box::new(Ack {
            stream: Some("office".parse().unwrap()),
            at: Some(Position { epoch: NonZeroU32::MIN, seq: receipt.0 }),
            snapshot: snapshot.map(str::to_owned),
            outcome,
            applied_through: 1,
            missing: Vec::new(),
            errors: Vec::new(),
            revoked: Vec::new(),
            cut: Vec::new(),
            notes: Vec::new(),
            received_at: NOW,
        });
        self.orders.send(UplinkOrder::Acknowledge { ack, receipt, durable_at: NOW }).await.unwrap();
    }

    /// Breaks the connection: another client with the same id comes and goes. Returns when the uplink is up again, with what
    /// came meanwhile.
    pub(super) async fn break_connection(&mut self) -> Vec<Input> {
        drop(connected(&self.url, "g1", persistent(&["other"])).await);
        let mut received = Vec::new();
        loop {
            match self.urgent_peek().await {
                Input::LinkUp { .. } => return received,
                other => received.push(other),
            }
        }
    }
}

pub(super) async fn center(url: &BrokerUrl) -> Connection {
    connected(url, "center", setup(&["dormgate/v1/+/up/+"])).await
}

pub(super) fn change(seq: u64) -> String {
    let ops = json!([{"op": "cancel", "uid": "1EA68671"}]);
    json!({"v": 1, "iss": "office", "aud": "g1", "iat": 1, "epoch": 1, "seq": seq, "ops": ops}).to_string()
}

/// The next message on `up/<leaf>`.
pub(super) async fn up(center: &mut Connection, leaf: &str) -> Vec<u8> {
    loop {
        let message = message(center).await;
        center.ack(message.ack.unwrap());
        if message.topic == format!("dormgate/v1/g1/up/{leaf}") {
            return message.payload;
        }
    }
}

pub(super) fn report(cards: u64) -> Box<StateReport> {
    Box::new(StateReport {
        boot: "boot-1".into(),
        status: Status { cards, ..Status::default() },
        ..StateReport::default()
    })
}

pub(super) fn json_of(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}
