//! The whole program on a simulated line: the trace of every frame in hex, how a fault looks in it, and that the other devices go on
//! when one fails.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(60);

struct Stage(tempfile::TempDir);

struct Running {
    _child: Child,
    log: Lines<BufReader<ChildStderr>>,
}

impl Running {
    /// Waits for a line of the log with all of these in it.
    async fn logged(&mut self, parts: &[&str]) -> String {
        let find = async {
            loop {
                let line = self.log.next_line().await.unwrap().unwrap_or_else(|| panic!("it ended before {parts:?}"));
                if parts.iter().all(|part| line.contains(part)) {
                    return line;
                }
            }
        };
        timeout(PATIENCE, find).await.unwrap_or_else(|_| panic!("not logged: {parts:?}"))
    }
}

impl Stage {
    fn new(bus: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let text = format!(
            "[gateway]\nid = \"g1\"\ndata_dir = \"data\"\n[[bus]]\nid = \"riser-2\"\n{bus}\n\
             [[portal]]\nid = \"door-412\"\nkind = \"door\"\nzone = \"412\"\n\
             reader = {{ modbus = \"riser-2\", unit = 4, profile = \"technotrade-vrd-485\" }}\n\
             output = {{ modbus = \"riser-2\", unit = 21, profile = \"waveshare-relay-8ch\", channel = 0 }}\n"
        );
        std::fs::write(dir.path().join("site.toml"), text).unwrap();
        Self(dir)
    }

    fn config(&self) -> PathBuf {
        self.0.path().join("site.toml")
    }

    fn program(&self, args: &[&str], log: &str) -> Command {
        let mut program = Command::new(env!("CARGO_BIN_EXE_dormgate"));
        program.args(args).arg("--config").arg(self.config()).env("RUST_LOG", log).kill_on_drop(true);
        program.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        program
    }

    fn start(&self, args: &[&str], log: &str) -> Running {
        let mut child = self.program(args, log).spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap()).lines();
        Running { _child: child, log }
    }

    /// Runs a subcommand of `simulate`; gives whether it succeeded, and its output.
    async fn simulate(&self, words: &[&str]) -> (bool, String) {
        let mut program = self.program(&[&["simulate"], words].concat(), "off");
        let output = timeout(PATIENCE, program.stdout(Stdio::piped()).output()).await.unwrap().unwrap();
        (output.status.success(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
    }
}

const TRACE: &str = "info,dormgate::frames=trace";

#[tokio::test]
async fn the_trace_reports_every_frame_of_a_serial_line_with_time_bus_direction_and_bytes() {
    let stage = Stage::new("serial = { port = \"riser.pty\" }");
    let mut simulator = stage.start(&["simulate"], "off");
    simulator.logged(&["line `riser-2` is at", "riser.pty (/dev/pts/"]).await;
    let mut gateway = stage.start(&["run"], TRACE);
    let asked = gateway.logged(&["dormgate::frames", "> 15 01 00 00 00 08 3E D8"]).await;
    // 2026-11-22T17:02:03.123456Z TRACE bus{id=riser-2}: dormgate::frames: > 15 01 …
    let time = asked.split_whitespace().next().unwrap();
    assert!(time.parse::<jiff::Timestamp>().is_ok(), "{asked}");
    assert!(asked.contains("bus{id=riser-2}") && asked.contains("riser.pty"), "{asked}");
    gateway.logged(&["dormgate::frames", "< 15 01 01 00 54 78"]).await;

    for (fault, seen) in [
        (&["cut"][..], &["< 15 01 01 (cut off)"][..]),
        (&["exception", "2"], &["< 15 81 02 "]),
        (&["wrong-unit"], &["< 16 01 01 00 54 3C"]),
        (&["garbage"], &["< 48 54 54"]),
    ] {
        let (done, output) = stage.simulate(&[&["fault", "riser-2/21"], fault].concat()).await;
        assert!(done, "{output}");
        gateway.logged(&[&["dormgate::frames"], seen].concat()).await;
        // Without faults in between, or the unit would be polled less and less often.
        assert!(stage.simulate(&["fault", "riser-2/21", "none"]).await.0);
        gateway.logged(&["dormgate::frames", "< 15 01 01 00 54 78"]).await;
    }
    let (done, output) = stage.simulate(&["fault", "riser-2", "unplugged"]).await;
    assert!(done, "{output}");
    gateway.logged(&["riser-2", "WARN"]).await;
    assert!(stage.simulate(&["fault", "riser-2", "none"]).await.0);
    gateway.logged(&["dormgate::frames", "< 15 01 01 00 54 78"]).await;
}

#[tokio::test]
async fn a_device_that_fails_is_named_in_the_log_and_its_neighbour_goes_on() {
    let port = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
    let stage = Stage::new(&format!("tcp = \"127.0.0.1:{port}\""));
    let mut simulator = stage.start(&["simulate"], "off");
    simulator.logged(&["line `riser-2` is at 127.0.0.1:"]).await;
    let mut gateway = stage.start(&["run"], TRACE);
    gateway.logged(&["serving"]).await;
    assert!(stage.simulate(&["fault", "riser-2/21", "silent"]).await.0);
    gateway.logged(&["WARN", "unit=21"]).await;
    // The reader's poll, answered.
    gateway.logged(&["dormgate::frames", "< 00", " 04 03 04 "]).await;
    assert!(stage.simulate(&["fault", "riser-2/21", "none"]).await.0);
    gateway.logged(&["INFO", "unit=21"]).await;

    let (done, output) = stage.simulate(&["fault", "riser-2/21", "silnt"]).await;
    assert!(!done && output.contains("did you mean `silent`?"), "{output}");
    let (done, output) = stage.simulate(&["fault", "riser-3", "silent"]).await;
    assert!(!done && output.contains("line `riser-3` is not simulated; there are `riser-2`"), "{output}");
    let (done, output) = stage.simulate(&["set", "riser-2/21", "power", "3"]).await;
    assert!(!done && output.contains("no point `power`"), "{output}");
}

#[tokio::test]
async fn without_the_trace_no_frame_is_logged() {
    let stage = Stage::new("serial = { port = \"riser.pty\" }");
    let mut simulator = stage.start(&["simulate"], "off");
    simulator.logged(&["line `riser-2` is at"]).await;
    let mut gateway = stage.start(&["run"], "debug,sled=warn,rumqttc=warn");
    let mut lines = Vec::new();
    while let Ok(Ok(Some(line))) = timeout(Duration::from_secs(1), gateway.log.next_line()).await {
        lines.push(line);
    }
    assert!(lines.iter().any(|line| line.contains("serving")), "{lines:?}");
    assert!(!lines.iter().any(|line| line.contains("dormgate::frames")), "{lines:?}");
}

#[tokio::test]
async fn a_serial_port_that_cannot_be_simulated_is_named_with_what_to_do() {
    let stage = Stage::new("serial = { port = \"/dev/serial/by-id/usb-none\" }");
    let mut simulator = stage.start(&["simulate"], "off");
    let note = simulator.logged(&["note: bus `riser-2`", "/dev/serial/by-id/usb-none"]).await;
    assert!(note.contains("`--port riser-2=…`"), "{note}");
    simulator.logged(&["`door-412` has a device on a bus that is not simulated"]).await;
    let mut wrong = stage.start(&["simulate", "--port", "riser-3=/dev/ttyS9"], "off");
    wrong.logged(&["no serial `[[bus]]` of the configuration is called `riser-3`"]).await;
}

#[tokio::test]
#[ignore = "needs socat, which tests/run installs"]
async fn the_far_end_of_a_pair_that_another_program_made_can_be_simulated_on() {
    let stage = Stage::new("serial = { port = \"near\" }");
    let end = |name: &str| format!("pty,raw,echo=0,link={}", stage.0.path().join(name).display());
    let mut pair = Command::new("socat");
    let _pair =
        pair.args([end("near"), end("far")]).kill_on_drop(true).spawn().expect("socat; `tests/run` installs it");
    let there = async {
        while !(stage.0.path().join("near").exists() && stage.0.path().join("far").exists()) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, there).await.unwrap();
    let far = format!("riser-2={}", stage.0.path().join("far").display());
    let mut simulator = stage.start(&["simulate", "--port", &far], "off");
    simulator.logged(&["line `riser-2` is at", "far"]).await;
    let mut gateway = stage.start(&["run"], TRACE);
    gateway.logged(&["dormgate::frames", "< 15 01 01 00 54 78"]).await;
}
