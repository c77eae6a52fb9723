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

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use dormgate::access::change::Op;
use dormgate::access::id::{StreamName, Timestamp};
use dormgate::wire::{down, envelope, keys};
use ed25519_dalek::SigningKey;
use rumqttc::{AsyncClient, Event, EventLoop, MqttOptions, NetworkOptions, Packet, QoS};

/// Gateway, echo and broker are started again so often.
const ROUNDS: usize = 5;
/// Measured on each side and round: idle, and in the rush; before that not counted.
const IDLE: u32 = 200;
const RUSH: usize = 1_500;
const WARM_UP: usize = 300;
/// In the rush the sides take turns of this many requests.
const TURN: usize = 100;
/// Between two messages while idle.
const PAUSE: Duration = Duration::from_millis(2);
/// As long as a decision.
const ANSWER: &[u8] =
    br#"{"v":1,"id":"i1000","decision":"grant","reason":"granted","hold_ms":3000,"ttl_ms":1500,"flags":[]}"#;
const FLOOR_REQUEST: &str = "dormecho/v1/bench/portal/gate-in/request";
const FLOOR_ANSWER: &str = "dormecho/v1/bench/portal/gate-in/decision";
const FLOOR_CHANGES: &str = "dormecho/v1/bench/down/changes";
const CHANGES: &str = "dormgate/v1/bench/down/changes";
const ASK: &str = "dormgate/v1/bench/portal/gate-in/request";
const DECIDED: &str = "dormgate/v1/bench/portal/gate-in/decision";
const ACK: &str = "dormgate/v1/bench/up/ack";
const ECHO: &str = "--echo";

/// A child process that ends with the benchmark.
struct Kept(Child);

impl Drop for Kept {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    match args.iter().position(|a| a == ECHO) {
        Some(at) => runtime.block_on(echo(args[at + 1].parse().unwrap())),
        None => {
            let mut all = Measured::default();
            (0..ROUNDS).for_each(|_| runtime.block_on(round(&mut all)));
            all.print();
        }
    }
}

fn connect(port: u16, id: &str) -> (AsyncClient, EventLoop) {
    let mut options = MqttOptions::new(id, "127.0.0.1", port);
    options.set_keep_alive(Duration::from_secs(5));
    options.set_max_packet_size(1024 * 1024, 1024 * 1024);
    let (client, mut events) = AsyncClient::new(options, 1_000);
    let mut network = NetworkOptions::new();
    network.set_tcp_nodelay(true);
    events.set_network_options(network);
    (client, events)
}

/// The floor: answers each request on its decision topic, as the gateway does, and decides nothing.
async fn echo(port: u16) {
    let (client, mut events) = connect(port, "echo");
    client.try_subscribe(FLOOR_REQUEST.replace("gate-in", "+"), QoS::AtMostOnce).unwrap();
    client.try_subscribe(FLOOR_CHANGES, QoS::AtLeastOnce).unwrap();
    loop {
        if let Event::Incoming(Packet::Publish(publish)) = events.poll().await.unwrap()
            && publish.topic != FLOOR_CHANGES
        {
            client.try_publish(FLOOR_ANSWER, QoS::AtLeastOnce, false, ANSWER).unwrap();
        }
    }
}

/// One client that asks and waits.
struct Asker {
    client: AsyncClient,
    events: EventLoop,
}

impl Asker {
    async fn next(&mut self) -> (String, Vec<u8>) {
        loop {
            if let Event::Incoming(Packet::Publish(publish)) =
                tokio::time::timeout(Duration::from_secs(10), self.events.poll()).await.expect("an answer").unwrap()
            {
                return (publish.topic.clone(), publish.payload.to_vec());
            }
        }
    }

    async fn until(&mut self, topic: &str) {
        while self.next().await.0 != topic {}
    }

    async fn ask(&mut self, topic: &str, answer: &str, payload: String) -> Duration {
        let began = Instant::now();
        self.client.try_publish(topic, QoS::AtMostOnce, false, payload).unwrap();
        self.until(answer).await;
        began.elapsed()
    }

    /// Asks after a pause, unmeasured, and pauses again.
    async fn after_a_pause(&mut self, topic: &str, answer: &str, n: usize) {
        tokio::time::sleep(PAUSE).await;
        self.ask(topic, answer, request("p", n, n)).await;
        tokio::time::sleep(PAUSE).await;
    }
}

/// Processor time of a process so far, in milliseconds (proc(5): utime and stime, in ticks of 10 ms).
fn cpu_ms(process: &Kept) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.0.id())).unwrap();
    let after_name = stat.rsplit(')').next().unwrap();
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    fields[11..13].iter().map(|ticks| ticks.parse::<f64>().unwrap() * 10.0).sum()
}

fn wait_for_port(port: u16) {
    let began = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(began.elapsed() < Duration::from_secs(10), "nobody listens on port {port}");
        std::thread::yield_now();
    }
}

fn start_broker(dir: &Path) -> (Kept, u16) {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let conf = dir.join("mosquitto.conf");
    let text = format!("listener {port} 127.0.0.1\nallow_anonymous true\nset_tcp_nodelay true\n");
    std::fs::write(&conf, text).unwrap();
    let child = Command::new("mosquitto").arg("-c").arg(&conf).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let child = Kept(child.expect("mosquitto on the path: install Debian's package `mosquitto`"));
    wait_for_port(port);
    (child, port)
}

fn start_gateway(dir: &Path, port: u16, key: &SigningKey) -> Kept {
    let config = format!(
        "[gateway]\nid = \"bench\"\ndata_dir = \"data\"\n[uplink]\nurls = [\"mqtt://127.0.0.1:{port}\"]\n\
         [[center.stream]]\nname = \"center\"\npublic_keys = [\"{}\"]\nmay = [\"*\"]\n\
         [[portal]]\nid = \"gate-in\"\nkind = \"gate\"\nzone = \"lobby\"\ndirection = \"in\"\ndevice = {{ mqtt = \"native\" }}\n",
        keys::print_public(&key.verifying_key())
    );
    let path = dir.join("bench.toml");
    std::fs::write(&path, config).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_dormgate"));
    command.args(["run", "--config"]).arg(&path).env("RUST_LOG", "error");
    Kept(command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap())
}

fn report(ops: &[Op], seq: u64, key: &SigningKey) -> Vec<u8> {
    let stream: StreamName = "center".parse().unwrap();
    let claims =
        down::write_changes(&stream, "bench", Timestamp(support::NOW.wall.0), support::at(1, seq), ops).unwrap();
    envelope::sign(&claims, &stream, key).into_bytes()
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
    let (_broker, port) = start_broker(dir.path());
    let key = SigningKey::from_bytes(&[7; 32]);
    let gateway = start_gateway(dir.path(), port, &key);
    let me = std::env::current_exe().unwrap();
    let echo = Kept(Command::new(me).args([ECHO, &port.to_string()]).spawn().unwrap());

    let (client, events) = connect(port, "asker");
    let mut asker = Asker { client, events };
    for topic in [FLOOR_ANSWER, DECIDED, ACK, "dormgate/v1/bench/up/state"] {
        asker.client.try_subscribe(topic, QoS::AtMostOnce).unwrap();
    }
    asker.until("dormgate/v1/bench/up/state").await;
    let mut seq = enrol_all(&mut asker, &key).await;
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

fn request(series: &str, n: usize, card: usize) -> String {
    format!("{{\"v\":1,\"id\":\"{series}{n}\",\"uid\":\"{}\"}}", support::uid(u32::try_from(card).unwrap()))
}

/// Gives the number of the last message.
async fn enrol_all(asker: &mut Asker, key: &SigningKey) -> u64 {
    let ops = (0..IDLE).flat_map(|card| {
        let (uid, holder) = (support::uid(card), support::holder(card));
        [Op::Issue { uid, holder }, Op::Enrol { uid, enrolment: support::enrolment(card) }]
    });
    let mut seq = 0;
    for ops in ops.collect::<Vec<_>>().chunks(200) {
        seq += 1;
        asker.client.try_publish(CHANGES, QoS::AtLeastOnce, false, report(ops, seq, key)).unwrap();
        asker.until(ACK).await;
    }
    seq
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

fn ratio(of: (f64, f64), echo: (f64, f64)) {
    println!("{:<28} p50 {:>8.2} x  p99 {:>8.2} x  of the echo", "", of.0 / echo.0, of.1 / echo.1);
}

/// Prints p50 and p99 and gives them, in microseconds.
fn percentiles(what: &str, mut times: Vec<Duration>) -> (f64, f64) {
    times.sort_unstable();
    let at = |percent: usize| times[(times.len() - 1) * percent / 100].as_secs_f64() * 1e6;
    let (p50, p99) = (at(50), at(99));
    println!("{what:<28} p50 {p50:>8.1} us p99 {p99:>8.1} us  n {}", times.len());
    (p50, p99)
}
