//! A fleet on one machine: 200 gateways with the real uplink, engine and store on one mosquitto, and campus reissues pushed to all of
//! them, in turns with a bare fan-out of the same bytes to 200 subscribers that do nothing.
//!
//! Prints p50, p99 and the longest time from the publication to `in force` at a gateway (a question behind the message is answered,
//! so that it has cut and denies by then) and to the ack of a gateway at the center, beside the arrival at a bare subscriber. All of
//! it runs in this process and the broker's, on the processors there are; so read the ratios. In a fleet each gateway has a processor
//! and a disk of its own: the stores are in memory (`/dev/shm`) where there is one, for 200 flushes of one disk are of no building;
//! and the processor's time of this process for one message is printed, of which a gateway, or a bare subscriber, needs a 200th. Needs
//! `mosquitto` on the path.
//! Run: `cargo bench --bench fleet`.

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

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dormgate::access::change::Op;
use dormgate::access::engine::{Engine, Setup as EngineSetup, StreamRole};
use dormgate::access::id::{GatewayId, StreamName, Timestamp};
use dormgate::access::input::Input;
use dormgate::access::state::State;
use dormgate::clock::Clock;
use dormgate::config::AuditAckBy;
use dormgate::gateway::metrics::Metrics;
use dormgate::gateway::owner::{GatewayCore, Identity};
use dormgate::gateway::ports::{Ask, Inbox, InboxReceiver, PortalOutlets};
use dormgate::mqtt::{Connection, Event, LinkSpec, Outgoing, Retention, Session, Setup};
use dormgate::store::{Options, Store};
use dormgate::uplink::{Uplink, UplinkSpec};
use dormgate::wire::allowed::AllowedOps;
use dormgate::wire::digest::registers_of;
use dormgate::wire::down;
use dormgate::wire::envelope::{Scope, StreamSpec, sign};
use dormgate::wire::topic::{Qos, Subscription};
use ed25519_dalek::SigningKey;
use support::broker::{percentiles, ratio};
use tokio::sync::{mpsc, oneshot};

const GATEWAYS: usize = 200;
/// Cards on each gateway.
const CARDS: u32 = 100;
/// Reissues that are measured.
const REISSUES: u32 = 50;
/// Between two messages: after it the audit, the state and the digest of the one before are done with.
const PAUSE: Duration = Duration::from_secs(2);
/// Longest wait for everybody.
const PATIENCE: Duration = Duration::from_secs(60);
const STREAM: &str = "card-office";
const CHANGES: &str = "dormgate/v1/campus/down/changes";
const FLOOR: &str = "dormfloor/v1/campus/down/changes";

/// The number of a message, and when it was in force.
type InForce = (u64, Instant);

/// Passes on to a gateway what its uplink has received, and notes when a message is in force: what is asked behind it is answered.
async fn pass_on(mut uplink: InboxReceiver, gateway: Inbox, seen: mpsc::UnboundedSender<InForce>) {
    while let Some(input) = uplink.urgent.recv().await {
        let changes = if let Input::Changes(received) = &input { Some(received.changes.at.seq) } else { None };
        gateway.urgent(input).await.unwrap();
        if let Some(seq) = changes {
            let (answer, answered) = oneshot::channel();
            gateway.ask(Ask::Query { uid: support::uid(0), portal: None, answer }).await.unwrap();
            answered.await.unwrap().unwrap();
            seen.send((seq, Instant::now())).unwrap();
        }
    }
}

fn stream(key: &SigningKey) -> StreamSpec {
    StreamSpec {
        name: STREAM.parse().unwrap(),
        scope: Scope::Campus,
        keys: vec![key.verifying_key()],
        insecure_unsigned: false,
        allowed: AllowedOps::all(),
    }
}

/// One gateway, as `dormgate run` puts it together, without portals and pages.
fn start_gateway(n: usize, dir: &Path, link: &LinkSpec, key: &SigningKey, seen: mpsc::UnboundedSender<InForce>) {
    let gateway: GatewayId = format!("g{n}").parse().unwrap();
    let boot = format!("bench-{n}");
    let options = Options::default();
    let (store, store_events, recovered) = Store::open::<State>(&dir.join(gateway.as_str()), options).unwrap();
    let (from_uplink, to_pass_on) = Inbox::new();
    let (inbox, received) = Inbox::new();
    tokio::spawn(pass_on(to_pass_on, inbox, seen));
    let (orders, taken) = mpsc::channel(1_024);
    let spec = UplinkSpec {
        link: LinkSpec { client_id: gateway.to_string(), ..link.clone() },
        gateway,
        streams: vec![stream(key)],
        boot: boot.clone(),
        audit_ack: AuditAckBy::Broker,
    };
    let clock = Clock::system();
    let audit = Arc::new(store.clone());
    let uplink = Uplink::new(spec, from_uplink, taken, audit, clock.clone(), Arc::default()).unwrap();
    let owns = registers_of(AllowedOps::all());
    let name: StreamName = STREAM.parse().unwrap();
    let setup = EngineSetup {
        portals: vec![support::door(1), support::power_box(1)],
        streams: vec![StreamRole { name: name.clone(), owns: owns.clone() }],
        boot: boot.clone(),
        ..EngineSetup::default()
    };
    let engine = Engine::new(setup, recovered.state);
    let identity =
        Identity { boot, version: "bench".into(), insecure: Vec::new(), uid_key: None, streams: vec![(name, owns)] };
    let metrics = Metrics::default();
    let mut core = GatewayCore::new(engine, store, PortalOutlets::default(), Some(orders), identity, metrics);
    core.input(Input::Boot { found: String::new(), version: "bench".into(), gateway: None }, clock.now());
    tokio::spawn(uplink.run());
    tokio::spawn(dormgate::gateway::run(core, received, store_events, clock, std::future::pending()));
}

fn connection(link: &LinkSpec, id: &str, filter: &str, qos: Qos) -> Connection {
    let setup = Setup {
        link: "bench",
        session: Session::Clean,
        subscriptions: vec![Subscription { filter: filter.into(), qos }],
        packet_bytes_max: 1024 * 1024,
        will: None,
        echo_topic: None,
    };
    let spec = LinkSpec { client_id: id.into(), ..link.clone() };
    Connection::new(spec, setup, Arc::default()).unwrap()
}

async fn until_up(connection: &mut Connection) {
    let up = async { while !matches!(connection.next().await, Event::Up { .. }) {} };
    tokio::time::timeout(PATIENCE, up).await.expect("a connection");
}

/// A subscriber that does nothing but note when each message came.
async fn start_subscriber(n: usize, link: &LinkSpec, seen: mpsc::UnboundedSender<Instant>) {
    let mut subscriber = connection(link, &format!("s{n}"), FLOOR, Qos::AtLeastOnce);
    until_up(&mut subscriber).await;
    tokio::spawn(async move {
        loop {
            if let Event::Message(message) = subscriber.next().await {
                seen.send(Instant::now()).unwrap();
                subscriber.ack(message.ack.unwrap());
            }
        }
    });
}

fn signed(ops: &[Op], seq: u64, key: &SigningKey) -> Vec<u8> {
    let stream: StreamName = STREAM.parse().unwrap();
    let iat = Clock::system().now().wall;
    let claims = down::write_changes(&stream, "campus", Timestamp(iat.0), support::at(1, seq), ops).unwrap();
    sign(&claims, &stream, key).into_bytes()
}

/// The center's end: what the gateways answer, and when.
struct Center {
    connection: Connection,
    in_force: mpsc::UnboundedReceiver<InForce>,
    floor: mpsc::UnboundedReceiver<Instant>,
}

impl Center {
    fn publish(&mut self, topic: &str, payload: Vec<u8>) {
        let retention = Retention::UntilDelivered;
        let message = Outgoing { topic: topic.into(), payload, retain: false, qos: Qos::AtLeastOnce, retention };
        self.connection.publish(message).unwrap();
    }

    /// Publishes message `seq` and waits for everybody; gives the times to `in force` and to the acks.
    async fn reissue(&mut self, payload: Vec<u8>, seq: u64) -> (Vec<Duration>, Vec<Duration>) {
        let began = Instant::now();
        self.publish(CHANGES, payload);
        let (mut in_force, mut acks) = (Vec::new(), Vec::new());
        while in_force.len() < GATEWAYS || acks.len() < GATEWAYS {
            let step = async {
                tokio::select! {
                    seen = self.in_force.recv() => {
                        let (of, at) = seen.unwrap();
                        assert_eq!(of, seq);
                        in_force.push(at - began);
                    }
                    event = self.connection.next() => if let Event::Message(message) = event {
                        acks.push(began.elapsed());
                        self.connection.ack(message.ack.unwrap());
                    },
                }
            };
            tokio::time::timeout(PATIENCE, step).await.expect("every gateway answers");
        }
        (in_force, acks)
    }

    /// The bare fan-out of the same bytes.
    async fn fan_out(&mut self, payload: Vec<u8>) -> Vec<Duration> {
        let began = Instant::now();
        self.publish(FLOOR, payload);
        let mut arrived = Vec::new();
        while arrived.len() < GATEWAYS {
            let step = async {
                tokio::select! {
                    at = self.floor.recv() => arrived.push(at.unwrap() - began),
                    _ = self.connection.next() => {}
                }
            };
            tokio::time::timeout(PATIENCE, step).await.expect("every subscriber gets it");
        }
        arrived
    }
}

/// The processor's time that this process has used, in milliseconds; to the hundredth of a second, as Linux counts it.
fn processor_ms() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    // Fields 14 and 15 of the line, proc_pid_stat(5): user and system time in hundredths of a second.
    after_name.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum::<u64>() * 10
}

async fn bench() {
    let shm = Path::new("/dev/shm");
    let dir = if shm.is_dir() { tempfile::tempdir_in(shm) } else { tempfile::tempdir() }.unwrap();
    let (_broker, port) = support::broker::start_broker(dir.path());
    let url = format!("mqtt://127.0.0.1:{port}").parse().unwrap();
    let link = LinkSpec::plain(vec![url], "center");
    let key = SigningKey::from_bytes(&[7; 32]);
    let (seen, in_force) = mpsc::unbounded_channel();
    let (arrived, floor) = mpsc::unbounded_channel();
    let connected = Instant::now();
    for n in 0..GATEWAYS {
        start_gateway(n, dir.path(), &link, &key, seen.clone());
        start_subscriber(n, &link, arrived.clone()).await;
    }
    let mut states = connection(&link, "states", "dormgate/v1/+/up/state", Qos::AtLeastOnce);
    let mut online = std::collections::HashSet::new();
    let all = async {
        while online.len() < GATEWAYS {
            if let Event::Message(message) = states.next().await {
                if String::from_utf8_lossy(&message.payload).contains("\"online\"") {
                    online.insert(message.topic);
                }
                states.ack(message.ack.unwrap());
            }
        }
    };
    tokio::time::timeout(PATIENCE, all).await.expect("every gateway comes online");
    drop(states);
    println!("{GATEWAYS} gateways and {GATEWAYS} subscribers connected after {:.1?}", connected.elapsed());
    let mut connection = connection(&link, "center", "dormgate/v1/+/up/ack", Qos::AtLeastOnce);
    until_up(&mut connection).await;
    let mut center = Center { connection, in_force, floor };
    let everybody: Vec<Op> = (0..CARDS)
        .flat_map(|card| {
            let (uid, holder) = (support::uid(card), support::holder(card));
            [Op::Issue { uid, holder }, Op::Enrol { uid, enrolment: support::enrolment(card) }]
        })
        .collect();
    let mut seq = 1;
    center.reissue(signed(&everybody, seq, &key), seq).await;
    let (mut floor, mut in_force, mut acks) = (Vec::new(), Vec::new(), Vec::new());
    let (mut processor, mut bare_processor) = (0, 0);
    for card in 0..REISSUES {
        seq += 1;
        let (old_uid, new_uid) = (support::uid(card), support::uid(card + 1_000_000));
        let op = Op::Reissue { holder: support::holder(card), new_uid, old_uid: Some(old_uid) };
        let payload = signed(&[op], seq, &key);
        tokio::time::sleep(PAUSE).await;
        let before = processor_ms();
        floor.extend(center.fan_out(payload.clone()).await);
        bare_processor += processor_ms() - before;
        tokio::time::sleep(PAUSE).await;
        let before = processor_ms();
        let (applied, acked) = center.reissue(payload, seq).await;
        processor += processor_ms() - before;
        in_force.extend(applied);
        acks.extend(acked);
    }
    let longest = |times: &[Duration]| times.iter().max().unwrap().as_micros() as f64 / 1000.0;
    let max = [longest(&floor), longest(&in_force), longest(&acks)];
    let floor = percentiles("bare fan-out", floor);
    ratio(percentiles("reissue -> in force", in_force), floor);
    ratio(percentiles("reissue -> ack", acks), floor);
    let messages = f64::from(REISSUES) * GATEWAYS as f64;
    let each = |ms: u64| ms as f64 * 1000.0 / messages;
    println!(
        "processor's time a message: {:.0} us a gateway up to the last ack, {:.0} us a bare subscriber up to the last arrival",
        each(processor),
        each(bare_processor)
    );
    println!("longest: fan-out {:.2} ms, in force {:.2} ms, ack {:.2} ms", max[0], max[1], max[2]);
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(bench());
}
