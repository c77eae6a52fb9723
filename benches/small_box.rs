//! What the gateway costs the box that it runs on: the real binary with 50 portals, 48 doors on four serial lines and two gates at a
//! real mosquitto, and 5 000 cards.
//!
//! Prints, while nobody presents a card: processor time as a share of one core, and for each Modbus request; memory; what was
//! written to the disk, as bytes a day. Then for 10 000 decisions at the gate, at `RATE` a second (default 50): processor time, and
//! what was written, beside the bytes of the journal alone. Written bytes are the pages that the process has changed in files
//! (`write_bytes` of proc(5)); what the file system writes for itself comes on top. `MINUTES=n` is how long nobody comes (default 2).
//!
//! The lines take the time of real ones; what the gateway spends on them is how often they are polled times what a poll costs, so
//! both are printed. The floor of a poll is a bare write to and read from a pseudo-terminal by a task of tokio, in the same run.
//! Needs `mosquitto` on the path. Run: `cargo bench --bench small_box`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    missing_docs,
    reason = "a panic ends a benchmark"
)]
#![allow(clippy::disallowed_methods, reason = "a benchmark measures time")]

mod support;
#[path = "support/wire.rs"]
mod wire;

use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use dormgate::workbench::modbus::Line;
use ed25519_dalek::SigningKey;
use rumqttc::QoS;
use support::broker::{self, ASK, Asker, DECIDED, Kept, request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_serial::SerialStream;
use wire::{Wire, profile, serve};

const LINES: u8 = 4;
const UNITS: u8 = 12;
/// The speed that the standard presets (Modbus over serial line 1.02, 2.3.1).
const BAUD: u32 = 19_200;
/// A 16550 interrupts for 8 bytes, as Linux sets it up.
const AT_ONCE: usize = 8;
const READER_AND_LOCK: &str = "inveo-rfid-ind-m1";
const CARDS: u32 = 5_000;
const DECISIONS: u32 = 10_000;
/// After the start and after the enrolments, until what they caused is done.
const SETTLED: Duration = Duration::from_secs(20);
const FLOOR_ROUNDS: u32 = 5_000;

fn main() {
    let floor_us = bare_exchange_us();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(run(floor_us));
}

fn number(key: &str, default: u64) -> u64 {
    std::env::var(key).map_or(default, |text| text.parse().expect("a whole number"))
}

async fn run(floor_us: f64) {
    let dir = tempfile::tempdir().unwrap();
    let (_broker, port) = broker::start_broker(dir.path());
    let wires: Vec<Wire> = (0..LINES).map(|_| Wire::new(BAUD, AT_ONCE)).collect();
    for wire in &wires {
        // The tasks end with the program.
        drop(serve(&Line::new((1..=UNITS).map(|unit| (unit, profile(READER_AND_LOCK)))), wire).await);
    }
    let http = broker::free_port();
    let key = SigningKey::from_bytes(&[7; 32]);
    let gateway = broker::start_gateway(dir.path(), port, &key, &building(&wires, http));
    broker::enrol_all(&mut Asker::start(port).await, CARDS, &key).await;
    tokio::time::sleep(SETTLED).await;

    let time = Duration::from_secs(60 * number("MINUTES", 2));
    let (before, polls) = (Used::of(&gateway), requests(http));
    tokio::time::sleep(time).await;
    let (spent, polls) = (Used::of(&gateway).since(&before), requests(http) - polls);
    let (seconds, days) = (time.as_secs_f64(), 86_400.0 / time.as_secs_f64());
    println!(
        "idle: 50 portals, {LINES} lines at {BAUD} Bd, {CARDS} cards, {seconds:.0} s: {:.2} % of a core, {:.1} MiB resident",
        spent.cpu_ms / seconds / 10.0,
        support::status_mib(gateway.0.id(), "VmRSS:"),
    );
    println!(
        "idle: {:.0} Modbus requests a second, {:.0} us of processor time each; a bare write and read {:.0} us",
        polls / seconds,
        spent.cpu_ms * 1_000.0 / polls,
        floor_us,
    );
    println!("idle: {:.2} MB written a day", spent.written * days / 1e6);

    // What the polls cost meanwhile is taken off.
    let mut asker = Asker::start(port).await;
    let rate = number("RATE", 50);
    let (before, journal, began) = (Used::of(&gateway), journal_bytes(dir.path()), Instant::now());
    let mut turns = tokio::time::interval(Duration::from_secs(1) / u32::try_from(rate).unwrap());
    for n in 0..DECISIONS {
        turns.tick().await;
        asker
            .client
            .publish(ASK, QoS::AtMostOnce, false, request("s", n as usize, (n % CARDS) as usize))
            .await
            .unwrap();
        asker.until(DECIDED).await;
    }
    // The audit of the last is on disk.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let polled_ms = spent.cpu_ms / seconds * began.elapsed().as_secs_f64();
    let spent = Used::of(&gateway).since(&before);
    println!(
        "{DECISIONS} decisions at {rate} a second: {:.0} us of processor time each, {:.2} MB written; the journal grew by {:.2} MB",
        (spent.cpu_ms - polled_ms) * 1_000.0 / f64::from(DECISIONS),
        spent.written / 1e6,
        (journal_bytes(dir.path()) - journal) / 1e6,
    );
}

/// The lines, their doors and the second gate, and the page of metrics.
fn building(wires: &[Wire], http: u16) -> String {
    let mut text = format!(
        "[[portal]]\nid = \"gate-out\"\nkind = \"gate\"\nzone = \"lobby\"\ndirection = \"out\"\ndevice = {{ mqtt = \"native\" }}\n\
         [http]\nlisten = \"127.0.0.1:{http}\"\n"
    );
    for (line, wire) in wires.iter().enumerate() {
        let port = &wire.near;
        text += &format!(
            "[[bus]]\nid = \"floor-{line}\"\nserial = {{ port = \"{port}\", baud = {BAUD}, parity = \"none\", stop_bits = 1 }}\n"
        );
        for unit in 1..=UNITS {
            let part = format!("{{ modbus = \"floor-{line}\", unit = {unit}, profile = \"{READER_AND_LOCK}\" }}");
            text += &format!(
                "[[portal]]\nid = \"door-{line}{unit:02}\"\nkind = \"door\"\nzone = \"{line}{unit:02}\"\nreader = {part}\noutput = {part}\n"
            );
        }
    }
    text
}

/// What a process has used.
struct Used {
    cpu_ms: f64,
    /// Bytes.
    written: f64,
}

impl Used {
    fn of(process: &Kept) -> Self {
        let io = std::fs::read_to_string(format!("/proc/{}/io", process.0.id())).unwrap();
        let field =
            |name: &str| io.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok()).unwrap();
        Self { cpu_ms: broker::cpu_ms(process), written: field("write_bytes:") - field("cancelled_write_bytes:") }
    }

    fn since(&self, before: &Self) -> Self {
        Self { cpu_ms: self.cpu_ms - before.cpu_ms, written: self.written - before.written }
    }
}

/// Modbus requests so far, of all lines.
fn requests(http: u16) -> f64 {
    let page = support::metrics(TcpStream::connect(("127.0.0.1", http)).unwrap());
    let counts = page.lines().filter(|line| line.starts_with("dormgate_modbus_requests_total{"));
    counts.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}

/// The bytes in the files of the journal.
fn journal_bytes(dir: &Path) -> f64 {
    let files = std::fs::read_dir(dir.join("data/journal")).unwrap();
    files.map(|file| file.unwrap().metadata().unwrap().len()).sum::<u64>() as f64
}

/// Processor time of a request of 8 bytes and an answer of 29 at the one who asks, and nothing else, in microseconds.
fn bare_exchange_us() -> f64 {
    let alone = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let runtime = alone();
    // Each end belongs to the runtime in which it was made, so the far one is opened again by its name.
    let (mut near, far) = runtime.block_on(async { SerialStream::pair().unwrap() });
    let far_name = tokio_serial::SerialPort::name(&far).unwrap();
    let _open = std::fs::File::open(&far_name).unwrap();
    // It must not hold the lock of the port.
    drop(far);
    let answers = std::thread::spawn(move || {
        alone().block_on(async {
            let mut far =
                tokio_serial::SerialPortBuilderExt::open_native_async(tokio_serial::new(far_name, BAUD)).unwrap();
            for _ in 0..FLOOR_ROUNDS {
                far.read_exact(&mut [0; 8]).await.unwrap();
                tokio::time::sleep(Duration::from_millis(1)).await;
                far.write_all(&[0; 29]).await.unwrap();
            }
        });
    });
    let before = thread_us();
    runtime.block_on(async {
        for _ in 0..FLOOR_ROUNDS {
            near.write_all(&[0; 8]).await.unwrap();
            near.read_exact(&mut [0; 29]).await.unwrap();
        }
    });
    let spent = thread_us() - before;
    answers.join().unwrap();
    spent / f64::from(FLOOR_ROUNDS)
}

/// Processor time of this thread, in microseconds (proc(5): the first number of schedstat, in nanoseconds).
fn thread_us() -> f64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    stat.split(' ').next().unwrap().parse::<f64>().unwrap() / 1_000.0
}
