//! The same with independent peers: pymodbus as a line of devices and as a controller, over TCP and over a serial pair made
//! by socat. `tests/run` installs them.

use std::path::Path;
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::*;
use crate::config::{ModbusServerConfig, Parity, SerialConfig};
use crate::portals::modbus::server::serve;

const BOARD: &str = "lc-tech-relay-8ch";

/// A peer of its own process, ended with the test.
struct Peer {
    _child: Child,
    commands: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Peer {
    async fn start(arguments: &[&str]) -> (Self, String) {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut child = Command::new(root.join("tests/.venv/bin/python"))
            .arg(root.join("tests/support/modbus_peer.py"))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("pymodbus in tests/.venv; `tests/run` makes it");
        let commands = child.stdin.take().unwrap();
        let mut answers = BufReader::new(child.stdout.take().unwrap()).lines();
        let first = timeout(LIMIT, answers.next_line()).await.unwrap().unwrap().expect("the peer starts");
        (Self { _child: child, commands, answers }, first)
    }

    async fn report(&mut self, command: &str) -> String {
        self.commands.write_all(format!("{command}\n").as_bytes()).await.unwrap();
        timeout(LIMIT, self.answers.next_line()).await.unwrap().unwrap().expect("the peer lives")
    }

    async fn becomes(&mut self, command: &str, wanted: &str) {
        let asking = async {
            while self.report(command).await != wanted {
                // The peer answers the line and this question in one thread: it is not kept from the line.
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        // A slow peer may have been given up for a while, and is asked again after some seconds.
        assert!(timeout(LIMIT, asking).await.is_ok(), "`{command}` never became `{wanted}`");
    }
}

/// Two serial ports that are one line.
struct Pair {
    _socat: Child,
    near: String,
    far: String,
    _folder: tempfile::TempDir,
}

impl Pair {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let [near, far] = ["near", "far"].map(|name| folder.path().join(name).to_str().unwrap().to_owned());
        let end = |link: &str| format!("pty,rawer,link={link}");
        let socat = Command::new("socat").args([end(&near), end(&far)]).kill_on_drop(true).spawn().expect("socat");
        let there = async {
            while !(Path::new(&near).exists() && Path::new(&far).exists()) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(LIMIT, there).await.unwrap();
        Self { _socat: socat, near, far, _folder: folder }
    }

    fn serial(port: &str) -> SerialConfig {
        SerialConfig { port: port.to_owned(), baud: 19200, parity: Parity::None, stop_bits: 1 }
    }
}

async fn a_line_of_devices(line: BusLine, mut peer: Peer) {
    let power_box = portal("power", PortalKind::PowerBox, part(5, READER, 0), part(21, BOARD, 3));
    let power_box = with(power_box, |parts| parts.meter = Some(part(5, "eastron-sdm120", 0)));
    let gate = portal("gate", PortalKind::Gate, part(21, BOARD, 6), part(21, BOARD, 6));
    // 41.2 W and 103.4 kWh as IEEE 754 singles, before the meter is read for the first time: its energy is read every half minute.
    assert_eq!(peer.report("set 5 4 12 16932 52429").await, "ok");
    assert_eq!(peer.report("set 5 4 342 17102 52429").await, "ok");
    // A peer in Python on a busy machine is slow; a pulse whose answer is late is not tried again.
    let rig = Rig::at(BusConfig { timeout_ms: 1000, ..bus_at(line) }, &Line::new([]), vec![power_box, gate], &[CARD]);
    rig.online().await;
    rig.reports(|r| r.power_w.is_some_and(|w| (w - 41.2).abs() < 0.01)).await;
    rig.reports(|r| r.energy_kwh.is_some_and(|e| (e - 103.4).abs() < 0.01)).await;
    let relay = |on: bool| report_of("power", move |r| r.relay == Some(on));
    for (card, on) in [("7846 34417", true), ("0 0", false)] {
        let before = rig.count(relay(on));
        assert_eq!(peer.report(&format!("set 5 3 2 {card}")).await, "ok");
        peer.becomes("get 21 1 3 1", if on { "1" } else { "0" }).await;
        rig.receives(before + 1, relay(on)).await;
    }
    rig.release("gate", 1000);
    peer.becomes("get 21 1 6 1", "1").await;
    peer.becomes("get 21 1 6 1", "0").await;
}

#[tokio::test]
#[ignore = "needs pymodbus and socat, which tests/run installs"]
async fn an_independent_line_of_devices_works_over_tcp() {
    let (peer, port) = Peer::start(&["device", "tcp"]).await;
    a_line_of_devices(BusLine::Tcp(format!("127.0.0.1:{port}").parse().unwrap()), peer).await;
}

#[tokio::test]
#[ignore = "needs pymodbus and socat, which tests/run installs"]
async fn an_independent_line_of_devices_works_on_a_serial_line() {
    let pair = Pair::start().await;
    let (peer, _) = Peer::start(&["device", "rtu", &pair.far]).await;
    a_line_of_devices(BusLine::Serial(Pair::serial(&pair.near)), peer).await;
}

/// Serves one door and lets an independent controller ask.
async fn a_controller(serial: Option<SerialConfig>, arguments: &[&str]) {
    let (inbox, taken) = Inbox::new();
    let spec = ModbusServerConfig {
        tcp: Some("127.0.0.1:0".parse().unwrap()),
        serial,
        allow: vec!["127.0.0.0/8".parse().unwrap()],
    };
    let door = PortalConfig::for_test("door", PortalKind::Door, PortalDevice::ModbusServer { unit: 13 });
    let server = serve(spec, &[door], &inbox).await.unwrap();
    let gateway = Gateway::run(taken, &server.outlets, grants(&[CARD], |_| Some(3000)));
    let port = server.address.unwrap().port().to_string();
    let arguments: Vec<&str> = arguments.iter().map(|a| if *a == "PORT" { port.as_str() } else { a }).collect();
    let (mut peer, ready) = Peer::start(&arguments).await;
    assert_eq!(ready, "ready");
    let granted = peer.report(&format!("ask23 13 1 {CARD}")).await;
    assert!(granted.starts_with("ok 1 1 1 30 1 0"), "{granted}");
    assert_eq!(peer.report("ask16 13 2 04A1B2C3D4E5F6").await.split(' ').next(), Some("ok"));
    assert_eq!(peer.report("input 13 0 4").await, "ok 2 2 23 0");
    assert_eq!(peer.report("input 13 7 1").await, "exception 2");
    assert_eq!(peer.report("ask16 13 3 0102").await, "exception 3");
    assert!(peer.report("state 13 2").await.starts_with("ok"));
    gateway.reports(|r| r.contact_open == Some(true)).await;
}

#[tokio::test]
#[ignore = "needs pymodbus and socat, which tests/run installs"]
async fn an_independent_controller_is_served_over_tcp() {
    a_controller(None, &["controller", "tcp", "PORT"]).await;
}

#[tokio::test]
#[ignore = "needs pymodbus and socat, which tests/run installs"]
async fn an_independent_controller_is_served_on_a_serial_line() {
    let pair = Pair::start().await;
    a_controller(Some(Pair::serial(&pair.near)), &["controller", "rtu", &pair.far]).await;
}
