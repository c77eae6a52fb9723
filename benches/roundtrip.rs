//! The real binary through a real mosquitto, beside a bare echo written with the same MQTT crate through the same broker.
//!
//! Prints p50 and p99 of: a request and its decision; the echo; their ratios; a reissue published until the old card is first
//! denied, and until its ack. Both sides are measured in turns in one run, because machines are shared and noisy: read the
//! ratios. Needs `mosquitto` on the path. Run: `cargo bench --bench roundtrip`.

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

use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use dormgate::access::change::Op;
use dormgate::access::id::{StreamName, Timestamp};
use dormgate::wire::{changes, envelope, keys};
use ed25519_dalek::SigningKey;
use rumqttc::{AsyncClient, Event, EventLoop, MqttOptions, NetworkOptions, Packet, QoS};

/// Requests measured on each side, and before that not counted.
const REQUESTS: usize = 4_000;
const WARM_UP: usize = 400;
/// The sides take turns of this many requests.
const TURN: usize = 100;
/// Reissues measured.
const REISSUES: u32 = 400;
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
        None => runtime.block_on(measure()),
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
    client.try_subscribe("echo/request", QoS::AtMostOnce).unwrap();
    loop {
        if let Event::Incoming(Packet::Publish(publish)) = events.poll().await.unwrap() {
            client.try_publish("echo/decision", QoS::AtLeastOnce, false, publish.payload.to_vec()).unwrap();
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

    async fn until(&mut self, topic: &str) -> Vec<u8> {
        loop {
            let (heard, payload) = self.next().await;
            if heard == topic {
                return payload;
            }
        }
    }

    async fn ask(&mut self, topic: &str, answer: &str, payload: String) -> (Duration, Vec<u8>) {
        let began = Instant::now();
        self.client.try_publish(topic, QoS::AtMostOnce, false, payload).unwrap();
        let heard = self.until(answer).await;
        (began.elapsed(), heard)
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

fn say(ops: &[Op], seq: u64, key: &SigningKey) -> Vec<u8> {
    let stream: StreamName = "center".parse().unwrap();
    let claims = changes::claims(&stream, "bench", Timestamp(support::NOW.wall.0), support::at(1, seq), ops).unwrap();
    envelope::sign(&claims, &stream, key).into_bytes()
}

async fn measure() {
    let dir = tempfile::tempdir().unwrap();
    let (_broker, port) = start_broker(dir.path());
    let key = SigningKey::from_bytes(&[7; 32]);
    let gateway_process = start_gateway(dir.path(), port, &key);
    let me = std::env::current_exe().unwrap();
    let echo_process = Kept(Command::new(me).args([ECHO, &port.to_string()]).spawn().unwrap());

    let (client, events) = connect(port, "asker");
    let mut asker = Asker { client, events };
    let root = "dormgate/v1/bench";
    for topic in ["echo/decision".to_owned(), format!("{root}/portal/gate-in/decision"), format!("{root}/up/ack")] {
        asker.client.try_subscribe(topic, QoS::AtMostOnce).unwrap();
    }
    asker.client.try_subscribe(format!("{root}/up/state"), QoS::AtMostOnce).unwrap();
    asker.until(&format!("{root}/up/state")).await;
    // Both sides answer before anything is measured.
    let enrol: Vec<Op> = (0..REISSUES)
        .flat_map(|card| {
            let (uid, holder) = (support::uid(card), support::holder(card));
            [Op::Issue { uid, holder }, Op::Enrol { uid, enrolment: support::enrolment(card) }]
        })
        .collect();
    let mut seq = 0;
    for ops in enrol.chunks(200) {
        seq += 1;
        asker.client.try_publish(format!("{root}/down/changes"), QoS::AtLeastOnce, false, say(ops, seq, &key)).unwrap();
        asker.until(&format!("{root}/up/ack")).await;
    }

    let cpu_before = (cpu_ms(&gateway_process), cpu_ms(&echo_process));
    let (mut gateway, mut floor) = (Vec::new(), Vec::new());
    let (ask, told) = (format!("{root}/portal/gate-in/request"), format!("{root}/portal/gate-in/decision"));
    for n in 0..REQUESTS + WARM_UP {
        let uid = support::uid(u32::try_from(n).unwrap() % REISSUES);
        let payload = format!("{{\"v\":1,\"id\":\"r{n}\",\"uid\":\"{uid}\"}}");
        // In turns, so that both sides see the same weather.
        if (n / TURN).is_multiple_of(2) {
            floor.push(asker.ask("echo/request", "echo/decision", payload.clone()).await.0);
            gateway.push(asker.ask(&ask, &told, payload).await.0);
        } else {
            gateway.push(asker.ask(&ask, &told, payload.clone()).await.0);
            floor.push(asker.ask("echo/request", "echo/decision", payload).await.0);
        }
    }
    let asked = (REQUESTS + WARM_UP) as f64 / 1000.0;
    let (decide_us, echo_us) =
        ((cpu_ms(&gateway_process) - cpu_before.0) / asked, (cpu_ms(&echo_process) - cpu_before.1) / asked);
    let floor = percentiles("bare echo", floor.split_off(WARM_UP));
    let decided = percentiles("request -> decision", gateway.split_off(WARM_UP));
    println!("{:<28} p50 {:>8.2} x  p99 {:>8.2} x  of the echo", "ratio", decided.0 / floor.0, decided.1 / floor.1);
    println!("{:<28} gateway {decide_us:.1} us, its audit included; echo {echo_us:.1} us", "processor time a request");

    let (mut denied, mut acked, mut all_tries) = (Vec::new(), Vec::new(), 0_u32);
    for card in 0..REISSUES {
        seq += 1;
        let (old_uid, new_uid) = (support::uid(card), support::uid(card + 1_000_000));
        let op = Op::Reissue { holder: support::holder(card), new_uid, old_uid: Some(old_uid) };
        let signed = say(&[op], seq, &key);
        let began = Instant::now();
        asker.client.try_publish(format!("{root}/down/changes"), QoS::AtLeastOnce, false, signed).unwrap();
        let (mut first_deny, mut ack, mut tries) = (None, None, 0);
        while first_deny.is_none() || ack.is_none() {
            if first_deny.is_none() {
                tries += 1;
                let payload = format!("{{\"v\":1,\"id\":\"x{card}-{tries}\",\"uid\":\"{old_uid}\"}}");
                asker.client.try_publish(&ask, QoS::AtMostOnce, false, payload).unwrap();
            }
            loop {
                let (topic, payload) = asker.next().await;
                if topic == told {
                    if String::from_utf8_lossy(&payload).contains("\"replaced\"") {
                        first_deny.get_or_insert_with(|| began.elapsed());
                    }
                    break;
                } else if topic.ends_with("up/ack") {
                    ack = Some(began.elapsed());
                    if first_deny.is_some() {
                        break;
                    }
                }
            }
        }
        all_tries += tries;
        denied.extend(first_deny);
        acked.extend(ack);
    }
    let deny = percentiles("reissue -> first deny", denied);
    println!("{:<28} p50 {:>8.2} x  p99 {:>8.2} x  of the echo", "ratio", deny.0 / floor.0, deny.1 / floor.1);
    println!("{:<28} {:.2} requests a reissue until the first deny", "", f64::from(all_tries) / f64::from(REISSUES));
    percentiles("reissue -> ack (durable)", acked);
    std::io::stdout().flush().unwrap();
}

/// Prints p50 and p99 and gives them, in microseconds.
fn percentiles(what: &str, mut times: Vec<Duration>) -> (f64, f64) {
    times.sort_unstable();
    let at = |percent: usize| times[(times.len() - 1) * percent / 100].as_secs_f64() * 1e6;
    let (p50, p99) = (at(50), at(99));
    println!("{what:<28} p50 {p50:>8.1} us p99 {p99:>8.1} us  n {}", times.len());
    (p50, p99)
}
