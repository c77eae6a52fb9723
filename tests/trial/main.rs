//! The trial that the README describes: a gateway, a center and a simulator of the portals, each in a process of its own, on a broker.
#![cfg(feature = "workbench")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail")]

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

use brokers::TestBroker;

#[path = "../support/brokers.rs"]
mod brokers;
mod controllers;
mod load;
#[path = "../support/mosquitto.rs"]
mod mosquitto;

/// Longest wait for anything here.
const PATIENCE: Duration = Duration::from_secs(60);

struct Trial {
    dir: tempfile::TempDir,
    broker: TestBroker,
    /// The streams of the center, as a configuration names them.
    streams: String,
}

impl Trial {
    /// A folder and a broker.
    async fn new() -> Self {
        Self::on(TestBroker::embedded().await)
    }

    fn on(broker: TestBroker) -> Self {
        Self { dir: tempfile::tempdir().unwrap(), broker, streams: String::new() }
    }

    /// With the keys of a center.
    async fn with_a_center() -> Self {
        Self::new().await.and_a_center().await
    }

    async fn and_a_center(self) -> Self {
        let mut trial = self;
        let (code, streams) = trial.run(&["center", "keygen", "--streams", "two"]).await;
        assert_eq!(code, 0, "{streams}");
        trial.streams = streams;
        trial
    }

    /// Writes `site.toml`: a gateway on the broker, one Modbus line, and these portals.
    fn write_site(&self, portals: &str) {
        let Self { broker, streams, .. } = self;
        let (url, port) = (broker.url(), free_port());
        let site = format!(
            "[gateway]\nid = \"g1\"\ndata_dir = \"data\"\n[uplink]\nurls = [\"{url}\"]\n{streams}\
             [[bus]]\nid = \"riser\"\ntcp = \"127.0.0.1:{port}\"\ndevices_dir = \"profiles\"\n{portals}"
        );
        std::fs::write(self.path("site.toml"), site).unwrap();
        std::fs::create_dir(self.path("profiles")).unwrap();
    }

    /// A simulator of the portals of `site.toml`, and what it prints.
    async fn simulator(&self) -> (Child, Lines<BufReader<ChildStdout>>) {
        let run = ["simulate", "--config", "site.toml"];
        let mut simulator = self.program().args(run).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let happens = stdout(&mut simulator);
        there(&self.path("data/simulate.sock")).await;
        (simulator, happens)
    }

    /// A gateway of `site.toml`, online, and a center that watches it; gives what the center prints.
    async fn serve(&self) -> ([Child; 2], Lines<BufReader<ChildStdout>>) {
        let url = self.broker.url().to_string();
        let watching = ["center", "--gateway", "g1", "watch", "--url", &url];
        let mut watch = self.program().args(watching).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut received = stdout(&mut watch);
        line_with(&mut received, "link up").await;
        let gateway = self.gateway();
        line_with(&mut received, "state online").await;
        ([watch, gateway], received)
    }

    /// A gateway of `site.toml` that has just been started.
    fn gateway(&self) -> Child {
        let run = ["run", "--config", "site.toml"];
        self.program().args(run).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn program(&self) -> Command {
        let mut program = Command::new(env!("CARGO_BIN_EXE_dormgate"));
        program.current_dir(self.dir.path()).stdin(Stdio::null()).kill_on_drop(true).env("RUST_LOG", "off");
        program
    }

    /// Runs a command to its end; gives its exit code and its output on stdout and stderr.
    async fn run(&self, args: &[&str]) -> (i32, String) {
        let output = timeout(PATIENCE, self.program().args(args).output()).await.unwrap().unwrap();
        let printed = [output.stdout, output.stderr].concat();
        (output.status.code().unwrap(), String::from_utf8(printed).unwrap())
    }

    async fn center(&self, args: &[&str]) -> (i32, String) {
        let url = self.broker.url().to_string();
        let common = ["center", "--gateway", "g1", "--wait", "15", "--url", &url];
        self.run(&[&common[..], args].concat()).await
    }

    async fn simulate(&self, args: &[&str]) -> String {
        self.run(&[&["simulate", "--config", "site.toml"], args].concat()).await.1
    }
}

async fn line_with<R: AsyncRead + Unpin>(lines: &mut Lines<BufReader<R>>, wanted: &str) -> String {
    let find = async {
        loop {
            let line = lines.next_line().await.unwrap().unwrap_or_else(|| panic!("it ended before `{wanted}`"));
            if line.contains(wanted) {
                return line;
            }
        }
    };
    timeout(PATIENCE, find).await.unwrap_or_else(|_| panic!("no line with `{wanted}`"))
}

fn stdout(child: &mut Child) -> Lines<BufReader<ChildStdout>> {
    BufReader::new(child.stdout.take().unwrap()).lines()
}

fn free_port() -> u16 {
    std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

async fn there(path: &Path) {
    let waiting = async {
        while tokio::net::UnixStream::connect(path).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("nothing listens at `{}`", path.display()));
}

/// The first command of the README, which has the broker and everything else in one process.
#[tokio::test]
async fn the_demo_does_all_its_steps_and_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let mut demo = Command::new(env!("CARGO_BIN_EXE_dormgate"));
    demo.args(["demo", "--once"]).env("TMPDIR", dir.path()).stdin(Stdio::null()).kill_on_drop(true);
    let output = timeout(PATIENCE, demo.output()).await.unwrap().unwrap();
    let printed = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(output.status.success(), "{printed}");
    let marks = printed.lines().filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    let (done, failed): (Vec<_>, Vec<_>) =
        marks.filter(|mark| ["ok", "FAILED"].contains(mark)).partition(|m| *m == "ok");
    assert_eq!((done.len(), failed.len()), (28, 0), "{printed}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "its directory is removed");
}

#[tokio::test]
async fn a_card_is_enrolled_used_replaced_and_refused() {
    let trial = Trial::with_a_center().await;
    trial.write_site(
        r#"
[[portal]]
id = "gate-in"
kind = "gate"
zone = "lobby"
device = { mqtt = "native" }
[[portal]]
id = "power-412"
kind = "power_box"
zone = "412"
device = { mqtt = "native" }
[[portal]]
id = "door-412"
kind = "door"
zone = "412"
reader = { modbus = "riser", unit = 3, profile = "inveo-rfid-ind-m1" }
output = { modbus = "riser", unit = 21, profile = "waveshare-relay-8ch", channel = 0 }
"#,
    );
    let (_simulator, mut happens) = trial.simulator().await;
    let output = trial.simulate(&["present", "door-412", "1EA68671"]).await;
    let wanted = "the relay did not move in 3000 ms; the decision is not known: no gateway answers at `";
    assert!(output.starts_with(wanted) && output.contains("start `dormgate run`"), "{output}");
    let (_running, mut received) = trial.serve().await;
    line_with(&mut happens, "power-412: the gateway is online").await;

    let (code, output) = trial.center(&["issue", "1EA68671", "h1"]).await;
    assert!(code == 0 && output.starts_with("card-office 1.1 applied in "), "{output}");
    let enrol = ["enrol", "1EA68671", "h1", "--gate", "*", "--door", "412", "--power", "412"];
    let (code, output) = trial.center(&enrol).await;
    assert!(code == 0 && output.starts_with("apartment 1.1 applied in "), "{output}");
    assert_eq!(
        trial.simulate(&["present", "gate-in", "1ea68671", "--direction", "in"]).await,
        "grant granted for 3000 ms\n"
    );
    let output = trial.simulate(&["present", "door-412", "1E:A6:86:71"]).await;
    assert!(output.starts_with("grant granted; relay on after"), "{output}");
    assert_eq!(trial.simulate(&["present", "power-412", "1EA68671"]).await, "grant granted\n");
    line_with(&mut happens, "power-412: power on").await;
    line_with(&mut received, "decision power-412 1EA68671 h1 grant granted").await;

    let (code, output) = trial.center(&["reissue", "h1", "5B3C0D92"]).await;
    assert_eq!(code, 0);
    assert!(output.starts_with("card-office 1.2 applied in "), "{output}");
    assert!(output.contains(" ms; revoked 1EA68671; cut power-412"), "{output}");
    line_with(&mut happens, "power-412: power off").await;
    assert_eq!(trial.simulate(&["present", "gate-in", "1EA68671"]).await, "deny replaced\n");
    let output = trial.simulate(&["present", "door-412", "1EA68671"]).await;
    // The relay may still be on from the release before.
    assert!(output.starts_with("deny replaced; "), "{output}");
    line_with(&mut received, "ALARM").await;
    let (code, output) = trial.center(&["command", "query", "1EA68671", "door-412"]).await;
    assert_eq!((code, output.as_str()), (0, "ok\n  door-412: deny replaced\n"));
    let (code, output) = trial.center(&["command", "release", "gate-in", "--actor", "staff:77"]).await;
    assert_eq!((code, output.as_str()), (0, "ok\n"));
    line_with(&mut happens, "gate-in: open").await;

    let output = trial.simulate(&["present", "gate-off", "1EA68671"]).await;
    assert!(
        output.contains("portal `gate-off` is not simulated") && output.contains("`door-412`, `gate-in`, `power-412`"),
        "{output}"
    );
    assert_eq!(trial.simulate(&["remove", "power-412"]).await, "removed\n");
}

#[tokio::test]
async fn a_gateway_that_starts_after_its_center_receives_a_snapshot() {
    let trial = Trial::with_a_center().await;
    trial.write_site("");
    let url = trial.broker.url().to_string();
    let unwatched = ["center", "--gateway", "g1", "--wait", "0", "--url", &url];
    for (card, holder) in [("1EA68671", "h1"), ("5B3C0D92", "h2")] {
        trial.run(&[&unwatched[..], &["issue", card, holder]].concat()).await;
        trial.run(&[&unwatched[..], &["enrol", card, holder, "--gate", "*"]].concat()).await;
    }
    trial.run(&[&unwatched[..], &["cancel", "5B3C0D92"]].concat()).await;
    let (_running, mut received) = trial.serve().await;
    for _ in 0..2 {
        let applied = line_with(&mut received, " snapshot 1.").await;
        assert!(
            applied.contains("card-office snapshot 1.3 applied") || applied.contains("apartment snapshot 1.2 applied"),
            "{applied}"
        );
    }
    let (code, output) = trial.center(&["report-lost", "1EA68671"]).await;
    assert_eq!(code, 0, "{output}");
    assert!(output.starts_with("card-office 1.4 applied in "), "{output}");
    assert!(output.contains(" ms; revoked 1EA68671"), "{output}");
}

#[tokio::test]
async fn a_simulator_that_does_not_run_is_reported_with_what_to_do() {
    let trial = Trial::new().await;
    std::fs::write(trial.path("site.toml"), "[gateway]\nid = \"g1\"\ndata_dir = \"data\"\n").unwrap();
    let (code, output) = trial.run(&["simulate", "--config", "site.toml", "present", "gate-in", "1EA68671"]).await;
    assert_eq!(code, 1);
    assert!(output.contains("dormgate simulate --config"), "{output}");
    let (code, output) = trial.run(&["simulate", "--config", "absent.toml"]).await;
    assert_eq!(code, 78, "{output}");
}

#[tokio::test]
async fn a_reader_that_loses_part_of_the_uid_opens_for_one_card_and_for_neither_of_two() {
    let trial = Trial::with_a_center().await;
    trial.write_site(
        r#"
[[portal]]
id = "door-412"
kind = "door"
zone = "412"
reader = { modbus = "riser", unit = 3, profile = "wiegand-converter" }
output = { modbus = "riser", unit = 21, profile = "waveshare-relay-8ch", channel = 0 }
[[portal]]
id = "power-412"
kind = "power_box"
zone = "412"
reader = { modbus = "riser", unit = 4, profile = "digits-reader" }
output = { modbus = "riser", unit = 21, profile = "waveshare-relay-8ch", channel = 1 }
[[portal]]
id = "power-413"
kind = "power_box"
zone = "412"
reader = { modbus = "riser", unit = 5, profile = "technotrade-vrd-485" }
output = { modbus = "riser", unit = 21, profile = "waveshare-relay-8ch", channel = 2 }
"#,
    );
    for name in ["wiegand-converter.toml", "digits-reader.toml"] {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/profiles").join(name);
        std::fs::copy(from, trial.path("profiles").join(name)).unwrap();
    }
    let (code, output) = trial.run(&["check", "--config", "site.toml"]).await;
    assert_eq!(code, 0, "{output}");
    assert!(output.contains("note: the reader of `door-412` gives only what `wiegand26` leaves of a UID"), "{output}");

    let _simulator = trial.simulator().await;
    let (_running, mut received) = trial.serve().await;
    line_with(&mut received, "portal_online power-412").await;

    let enrol = |card, holder| ["enrol", card, holder, "--door", "412", "--power", "412"];
    let (code, output) = trial.center(&enrol("01230405", "h1")).await;
    assert_eq!(code, 0, "{output}");
    for portal in ["door-412", "power-412", "power-413"] {
        let output = trial.simulate(&["present", portal, "01230405"]).await;
        assert!(output.starts_with("grant granted; relay on after"), "{portal}: {output}");
    }
    line_with(&mut received, "decision power-412 01230405 h1 grant granted").await;

    // The card of a second resident, which the reader of one box cannot distinguish from the first: only that box goes off.
    let (code, output) = trial.center(&enrol("12030405", "h2")).await;
    assert_eq!(code, 0);
    assert!(output.starts_with("apartment 1.2 applied in "), "{output}");
    assert!(output.contains(" ms; cut power-412"), "{output}");
    // The card lay in two boxes, which is an alarm of its own.
    let reported = line_with(&mut received, "`…0405` of `h1`, `…0405` of `h2`").await;
    assert!(reported.contains("ALARM") && reported.contains("`power-412`"), "{reported}");
    let (code, output) = trial.center(&["command", "query", "12030405"]).await;
    assert_eq!(code, 0);
    for verdict in ["door-412: grant granted", "power-412: deny ambiguous_identifier", "power-413: grant granted"] {
        assert!(output.contains(verdict), "{verdict} is not in:\n{output}");
    }
    trial.simulate(&["present", "door-412", "12030405"]).await;
    line_with(&mut received, "decision door-412 12030405 h2 grant granted").await;
}
