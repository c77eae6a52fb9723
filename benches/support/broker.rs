//! What the benchmarks over a broker share: mosquitto, the real gateway, and the bare echo that is their floor.

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use dormgate::access::change::Op;
use dormgate::access::id::{StreamName, Timestamp};
use dormgate::wire::{down, envelope, keys};
use ed25519_dalek::SigningKey;
use rumqttc::{AsyncClient, Event, EventLoop, MqttOptions, NetworkOptions, Packet, QoS};

/// As long as a decision.
const ANSWER: &[u8] =
    br#"{"v":1,"id":"i1000","decision":"grant","reason":"granted","hold_ms":3000,"ttl_ms":1500,"flags":[]}"#;
pub const FLOOR_REQUEST: &str = "dormecho/v1/bench/portal/gate-in/request";
pub const FLOOR_ANSWER: &str = "dormecho/v1/bench/portal/gate-in/decision";
pub const FLOOR_CHANGES: &str = "dormecho/v1/bench/down/changes";
pub const CHANGES: &str = "dormgate/v1/bench/down/changes";
pub const ASK: &str = "dormgate/v1/bench/portal/gate-in/request";
pub const DECIDED: &str = "dormgate/v1/bench/portal/gate-in/decision";
pub const ACK: &str = "dormgate/v1/bench/up/ack";
const STATE: &str = "dormgate/v1/bench/up/state";
/// The argument with which a benchmark starts itself as the echo; the broker's port follows.
const ECHO: &str = "--echo";
/// Between two messages while idle.
pub const PAUSE: Duration = Duration::from_millis(2);

/// A child process that ends with the benchmark.
pub struct Kept(pub Child);

impl Drop for Kept {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

pub fn connect(port: u16, id: &str) -> (AsyncClient, EventLoop) {
    let mut options = MqttOptions::new(id, "127.0.0.1", port);
    options.set_keep_alive(Duration::from_secs(5));
    options.set_max_packet_size(1024 * 1024, 1024 * 1024);
    let (client, mut events) = AsyncClient::new(options, 1_000);
    let mut network = NetworkOptions::new();
    network.set_tcp_nodelay(true);
    events.set_network_options(network);
    (client, events)
}

/// Runs `bench`, or the echo where that is what this process was started as.
pub fn run(bench: impl FnOnce(&tokio::runtime::Runtime)) {
    let args: Vec<String> = std::env::args().collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    match args.iter().position(|a| a == ECHO) {
        Some(at) => runtime.block_on(echo(args[at + 1].parse().unwrap())),
        None => bench(&runtime),
    }
}

/// This program once more, as the echo.
pub fn start_echo(port: u16) -> Kept {
    let me = std::env::current_exe().unwrap();
    Kept(Command::new(me).args([ECHO, &port.to_string()]).spawn().unwrap())
}

/// The floor: answers each request on its decision topic, as the gateway does, and decides nothing.
async fn echo(port: u16) {
    let (client, mut events) = connect(port, "echo");
    loop {
        match events.poll().await {
            Ok(Event::Incoming(Packet::ConnAck(_))) => {
                client.try_subscribe(FLOOR_REQUEST.replace("gate-in", "+"), QoS::AtMostOnce).unwrap();
                client.try_subscribe(FLOOR_CHANGES, QoS::AtLeastOnce).unwrap();
            }
            Ok(Event::Incoming(Packet::Publish(publish))) if publish.topic != FLOOR_CHANGES => {
                client.try_publish(FLOOR_ANSWER, QoS::AtLeastOnce, false, ANSWER).unwrap();
            }
            Ok(_) => {}
            // The broker is away, in the soak.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// One client that asks and waits.
pub struct Asker {
    pub client: AsyncClient,
    events: EventLoop,
    /// Acks received while something else was waited for.
    pub acks: u32,
}

impl Asker {
    /// Connected, and with the gateway there.
    pub async fn start(port: u16) -> Self {
        let (client, events) = connect(port, "asker");
        let mut asker = Self { client, events, acks: 0 };
        for topic in [FLOOR_ANSWER, DECIDED, ACK, STATE] {
            asker.client.try_subscribe(topic, QoS::AtMostOnce).unwrap();
        }
        asker.until(STATE).await;
        asker
    }

    pub async fn next(&mut self) -> (String, Vec<u8>) {
        loop {
            if let Event::Incoming(Packet::Publish(publish)) =
                tokio::time::timeout(Duration::from_secs(10), self.events.poll()).await.expect("an answer").unwrap()
            {
                return (publish.topic.clone(), publish.payload.to_vec());
            }
        }
    }

    pub async fn until(&mut self, topic: &str) {
        loop {
            let (received, _) = self.next().await;
            if received == topic {
                return;
            }
            self.acks += u32::from(received == ACK);
        }
    }

    pub async fn ask(&mut self, topic: &str, answer: &str, payload: String) -> Duration {
        let began = Instant::now();
        self.client.try_publish(topic, QoS::AtMostOnce, false, payload).unwrap();
        self.until(answer).await;
        began.elapsed()
    }

    /// Asks after a pause, unmeasured, and pauses again.
    pub async fn after_a_pause(&mut self, topic: &str, answer: &str, n: usize) {
        tokio::time::sleep(PAUSE).await;
        self.ask(topic, answer, request("p", n, n)).await;
        tokio::time::sleep(PAUSE).await;
    }
}

fn wait_for_port(port: u16) {
    let began = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(began.elapsed() < Duration::from_secs(10), "nobody listens on port {port}");
        std::thread::yield_now();
    }
}

pub fn start_broker(dir: &Path) -> (Kept, u16) {
    let port = free_port();
    (start_broker_at(dir, port), port)
}

/// A port on which nobody listens.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

pub fn start_broker_at(dir: &Path, port: u16) -> Kept {
    let conf = dir.join("mosquitto.conf");
    let text = format!("listener {port} 127.0.0.1\nallow_anonymous true\nset_tcp_nodelay true\n");
    std::fs::write(&conf, text).unwrap();
    let child = Command::new("mosquitto").arg("-c").arg(&conf).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let child = Kept(child.expect("mosquitto on the path: install Debian's package `mosquitto`"));
    wait_for_port(port);
    child
}

/// The gateway, with more sections in its configuration.
pub fn start_gateway(dir: &Path, port: u16, key: &SigningKey, more: &str) -> Kept {
    let config = format!(
        "[gateway]\nid = \"bench\"\ndata_dir = \"data\"\n[uplink]\nurls = [\"mqtt://127.0.0.1:{port}\"]\n\
         [[center.stream]]\nname = \"center\"\npublic_keys = [\"{}\"]\nmay = [\"*\"]\n\
         [[portal]]\nid = \"gate-in\"\nkind = \"gate\"\nzone = \"lobby\"\ndirection = \"in\"\ndevice = {{ mqtt = \"native\" }}\n{more}",
        keys::print_public(&key.verifying_key())
    );
    let path = dir.join("bench.toml");
    std::fs::write(&path, config).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_dormgate"));
    command.args(["run", "--config"]).arg(&path).env("RUST_LOG", "error");
    // As deploy/dormgate.service has it.
    let allocator = ["MALLOC_ARENA_MAX=1", "MALLOC_TRIM_THRESHOLD_=131072", "MALLOC_MMAP_THRESHOLD_=131072"];
    command.envs(allocator.iter().filter_map(|setting| setting.split_once('=')));
    Kept(command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap())
}

pub fn report(ops: &[Op], seq: u64, key: &SigningKey) -> Vec<u8> {
    let stream: StreamName = "center".parse().unwrap();
    let claims = down::write_changes(&stream, "bench", Timestamp(super::NOW.wall.0), super::at(1, seq), ops).unwrap();
    envelope::sign(&claims, &stream, key).into_bytes()
}

pub fn request(series: &str, n: usize, card: usize) -> String {
    format!("{{\"v\":1,\"id\":\"{series}{n}\",\"uid\":\"{}\"}}", super::uid(u32::try_from(card).unwrap()))
}

/// Issues and enrols the first `cards`. Gives the number of the last message.
pub async fn enrol_all(asker: &mut Asker, cards: u32, key: &SigningKey) -> u64 {
    let ops = (0..cards).flat_map(|card| {
        let (uid, holder) = (super::uid(card), super::holder(card));
        [Op::Issue { uid, holder }, Op::Enrol { uid, enrolment: super::enrolment(card) }]
    });
    let mut seq = 0;
    for ops in ops.collect::<Vec<_>>().chunks(200) {
        seq += 1;
        asker.client.try_publish(CHANGES, QoS::AtLeastOnce, false, report(ops, seq, key)).unwrap();
        asker.until(ACK).await;
    }
    seq
}

/// Processor time of a process so far, in milliseconds (proc(5): utime and stime, in ticks of 10 ms).
pub fn cpu_ms(process: &Kept) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.0.id())).unwrap();
    let after_name = stat.rsplit(')').next().unwrap();
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    fields[11..13].iter().map(|ticks| ticks.parse::<f64>().unwrap() * 10.0).sum()
}

pub fn ratio(of: (f64, f64), echo: (f64, f64)) {
    println!("{:<28} p50 {:>8.2} x  p99 {:>8.2} x  of the echo", "", of.0 / echo.0, of.1 / echo.1);
}

/// Prints p50 and p99 and gives them, in microseconds.
pub fn percentiles(what: &str, mut times: Vec<Duration>) -> (f64, f64) {
    times.sort_unstable();
    let at = |percent: usize| times[(times.len() - 1) * percent / 100].as_secs_f64() * 1e6;
    let (p50, p99) = (at(50), at(99));
    println!("{what:<28} p50 {p50:>8.1} us p99 {p99:>8.1} us  n {}", times.len());
    (p50, p99)
}
