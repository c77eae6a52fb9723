//! What a Modbus line carries, beside what it could carry, and what one dead unit costs the others.
//!
//! Three parts, each with its floor in the same run. *Line use*: polls as fast as they go, over two pseudo-terminals and a relay
//! between them that lets a byte through every 11 bits and keeps 3.5 characters of silence before an answer, beside what bytes
//! and silences alone allow; the simulated device answers at once. *Loopback TCP*: requests beside those of a bare loop of
//! `tokio-modbus` at the same server, in turns. *One dead unit*: a card shown until the relay is on, at seven of eight doors of
//! one such paced line at 57 600 Bd, with the eighth unit alive and dead in turns. Real time: some two minutes.
//! Run: `cargo bench --bench modbus`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    reason = "a panic ends a benchmark"
)]
#![allow(clippy::disallowed_methods, reason = "a benchmark measures time")]

mod support;
#[path = "support/wire.rs"]
mod wire;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use dormgate::access::calendar::Calendar;
use dormgate::access::decide::{Facts, ListIntegrity, decide};
use dormgate::access::input::Input;
use dormgate::access::policy::Policy;
use dormgate::access::portal::{Portal, PortalKind, Posture};
use dormgate::config::{BusConfig, BusLine, ModbusPart, Parity, Part, Parts, PortalConfig, PortalDevice, SerialConfig};
use dormgate::gateway::ports::{Inbox, PortalOrder};
use dormgate::portals::modbus::queue::Priority;
use dormgate::portals::modbus::{Observer, bus};
use dormgate::portals::parts::{PartPortals, start};
use dormgate::wire::modbus::{Request, Space};
use dormgate::workbench::modbus::{Fault, Line};
use tokio::task::JoinSet;
use tokio_modbus::client::{Reader, tcp};
use wire::{Wire, characters, profile, serve, silence};

/// How long a line is polled at each speed.
const POLLED: Duration = Duration::from_secs(5);
/// Polls that wait for the line, as those of eight units do.
const POLLERS: usize = 8;
/// Requests of one turn over TCP, and turns of each side.
const TCP_REQUESTS: u32 = 4_000;
const TCP_TURNS: usize = 25;
/// How long cards are shown in one turn, and turns of each side.
const DOORS_TURN: Duration = Duration::from_secs(15);
const DOORS_TURNS: usize = 3;
const DOORS_BAUD: u32 = 57_600;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let measured = async {
        for baud in [9_600, 19_200] {
            for registers in [2, 12] {
                line_use(baud, registers).await;
            }
        }
        loopback().await;
        one_dead().await;
    };
    // On the same threads as everything that is measured.
    runtime.block_on(runtime.spawn(measured)).unwrap();
}

fn line_at(id: &str, line: BusLine) -> BusConfig {
    BusConfig { id: id.into(), line, timeout_ms: 200, echo: None, any_transaction: false, devices_dir: None }
}

fn serial(wire: &Wire, id: &str, baud: u32) -> BusConfig {
    let serial = SerialConfig { port: wire.near.clone(), baud, parity: Parity::None, stop_bits: 1 };
    line_at(id, BusLine::Serial(serial))
}

/// The gateway's line, and how many requests a second it carries when polls always wait for it.
struct Polled {
    bus: bus::Bus,
    request: Request,
}

impl Polled {
    async fn new(spec: BusConfig, request: Request) -> Self {
        let observer: Arc<dyn Observer> = Arc::new(());
        let (bus, task) = bus::open(spec, &HashMap::from([(1, Duration::from_millis(200))]), observer);
        tokio::spawn(task);
        bus.call(1, request.clone(), Priority::Card, None).await.unwrap();
        Self { bus, request }
    }

    /// Until `enough`, reported the requests so far and the time.
    async fn per_second(&self, enough: impl Fn(u32, Duration) -> bool + Copy + Send + 'static) -> f64 {
        let done = Arc::new(AtomicU32::new(0));
        let begun = Instant::now();
        let mut polls = JoinSet::new();
        for _ in 0..POLLERS {
            let (bus, request, done) = (self.bus.clone(), self.request.clone(), Arc::clone(&done));
            polls.spawn(async move {
                while !enough(done.load(Ordering::Relaxed), begun.elapsed()) {
                    bus.call(1, request.clone(), Priority::Card, None).await.unwrap();
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        polls.join_all().await;
        f64::from(done.load(Ordering::Relaxed)) / begun.elapsed().as_secs_f64()
    }
}

async fn line_use(baud: u32, registers: u16) {
    let (id, address) = if registers == 2 { ("technotrade-vrd-485", 2) } else { ("inveo-rfid-ind-m1", 1_000) };
    let line = Line::new([(1, profile(id))]);
    let wire = Wire::new(baud, 1);
    let _device = serve(&line, &wire).await;
    let request = Request::Read { space: Space::Holding, address, count: registers };
    // Unit and checksum are three bytes more, both ways.
    let bytes = request.encode().len() + request.reply_bytes() + 6;
    let floor = characters(bytes, baud) + silence(baud) * 2;
    let polled = Polled::new(serial(&wire, "line", baud), request).await;
    let measured = polled.per_second(|_, elapsed| elapsed >= POLLED).await;
    let possible = 1.0 / floor.as_secs_f64();
    println!(
        "line use at {baud:>6} Bd, {registers:>2} registers   {measured:>7.1} reads/s of {possible:>7.1} possible: {:.1} %",
        100.0 * measured / possible
    );
}

async fn loopback() {
    let line = Line::new([(1, profile("technotrade-vrd-485"))]);
    let served = line.serve_tcp(0).await.unwrap();
    let spec = line_at("tcp", BusLine::Tcp(served.address.to_string().parse().unwrap()));
    let polled = Polled::new(spec, Request::Read { space: Space::Holding, address: 2, count: 2 }).await;
    let stream = tokio::net::TcpStream::connect(served.address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let mut bare = tcp::attach_slave(stream, tokio_modbus::Slave(1));
    let (mut ours, mut floor) = (Vec::new(), Vec::new());
    for _ in 0..TCP_TURNS {
        let begun = Instant::now();
        for _ in 0..TCP_REQUESTS {
            assert_eq!(bare.read_holding_registers(2, 2).await.unwrap().unwrap().len(), 2);
        }
        floor.push(f64::from(TCP_REQUESTS) / begun.elapsed().as_secs_f64());
        ours.push(polled.per_second(|done, _| done >= TCP_REQUESTS).await);
    }
    let mean = |all: &[f64]| all.iter().sum::<f64>() / all.len() as f64;
    let (ours, floor) = (mean(&ours), mean(&floor));
    println!("loopback TCP   {ours:>9.0} requests/s, bare tokio-modbus {floor:>9.0}: {:.2} x", ours / floor);
}

const READER_AND_LOCK: &str = "inveo-rfid-ind-m1";

fn gate(unit: u8) -> PortalConfig {
    let whole = Part::Modbus(ModbusPart { bus: "riser".into(), unit, profile: profile(READER_AND_LOCK), channel: 0 });
    let id = format!("gate-{unit}").parse().unwrap();
    let portal = Portal { id, kind: PortalKind::Gate, ..support::door(1) };
    let parts = Parts { reader: whole.clone(), slots: 1, output: whole, meter: None, inputs: None };
    PortalConfig { portal, device: PortalDevice::Parts(parts) }
}

/// A gateway that grants to one card, at once.
fn grant_all(running: &PartPortals, mut taken: dormgate::gateway::ports::InboxReceiver) {
    let outlets: HashMap<_, _> = running.outlets.iter().map(|(id, to)| (id.to_string(), to.clone())).collect();
    tokio::spawn(async move {
        let (list, policy, calendar) = (support::list_of(1), Policy::default(), Calendar::default());
        loop {
            let input = tokio::select! {
                Some(input) = taken.urgent.recv() => input,
                Some((input, _)) = taken.requests.recv() => input,
                else => return,
            };
            let Input::Request(request) = input else { continue };
            let id = request.portal.parse().unwrap();
            let portal = Portal { id, kind: PortalKind::Gate, hold_ms: 200, ..support::door(1) };
            let facts = Facts {
                list: &list,
                integrity: ListIntegrity::Complete,
                calendar: &calendar,
                policy: &policy,
                posture: Posture::Secure,
                trip: None,
                stale_list: false,
                outdated_list: false,
                now: support::NOW,
            };
            let decision = decide(&facts, &support::question(Some(&portal), &request.presented));
            let answer = PortalOrder::Answer { portal: request.portal.clone(), id: None, decision, delay_ms: None };
            outlets[&request.portal].try_send(answer).unwrap();
        }
    });
}

async fn one_dead() {
    let line = Line::new((1..=8).map(|unit| (unit, profile(READER_AND_LOCK))));
    let wire = Wire::new(DOORS_BAUD, 1);
    let _devices = serve(&line, &wire).await;
    let (inbox, taken) = Inbox::new();
    let observer: Arc<dyn Observer> = Arc::new(());
    let gates: Vec<_> = (1..=8).map(gate).collect();
    let running = start(&[serial(&wire, "riser", DOORS_BAUD)], &gates, None, &inbox, &observer).unwrap();
    grant_all(&running, taken);
    let (mut alive, mut dead) = (Vec::new(), Vec::new());
    for _ in 0..DOORS_TURNS {
        for (fault, times) in [(Fault::None, &mut alive), (Fault::Silent, &mut dead)] {
            line.fault(8, fault);
            // Until it is offline, or found again.
            tokio::time::sleep(Duration::from_secs(8)).await;
            times.extend(shown(&line).await);
        }
    }
    let (alive, dead) =
        (percentiles("card to relay, none dead", alive), percentiles("card to relay, one of 8 dead", dead));
    println!("{:<30} p50 {:>7.2} x   p99 {:>7.2} x", "ratio", dead.0 / alive.0, dead.1 / alive.1);
    running.stop().await;
}

/// Shows cards at the first seven doors for a while: how long each took.
async fn shown(line: &Line) -> Vec<Duration> {
    let limit = Duration::from_secs(5);
    let mut doors = JoinSet::new();
    for unit in 1..=7_u8 {
        let line = line.clone();
        doors.spawn(async move {
            let (begun, mut times, mut pause) = (Instant::now(), Vec::new(), u64::from(unit) * 37);
            while begun.elapsed() < DOORS_TURN {
                // Spread over the time of two polls, the same in every run.
                pause = (pause * 31 + 17) % 300;
                tokio::time::sleep(Duration::from_millis(250 + pause)).await;
                let shown = Instant::now();
                line.present(unit, 0, support::uid(0));
                assert!(line.wait_relay(unit, 0, true, limit).await, "gate {unit} stays shut");
                times.push(shown.elapsed());
                assert!(line.wait_relay(unit, 0, false, limit).await, "gate {unit} stays open");
            }
            times
        });
    }
    doors.join_all().await.concat()
}

/// Prints p50 and p99 and gives them, in milliseconds.
fn percentiles(what: &str, mut times: Vec<Duration>) -> (f64, f64) {
    times.sort_unstable();
    let at = |percent: usize| times[(times.len() - 1) * percent / 100].as_secs_f64() * 1e3;
    let (p50, p99) = (at(50), at(99));
    println!("{what:<30} p50 {p50:>7.1} ms  p99 {p99:>7.1} ms  n {}", times.len());
    (p50, p99)
}
