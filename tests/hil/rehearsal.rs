//! The run against hardware, rehearsed: `dormgate simulate` is the devices, on TCP and on a serial line, and a scripted person
//! does what the prompts report. What is rehearsed is the very test that a person starts, as a process of its own.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use tokio::time::timeout;

use dormgate::profile::shipped;

use crate::golden;
use crate::person::PROMPT;

/// The name of the test that is rehearsed.
const REAL: &str = "the_line_of_the_configuration_keeps_its_guarantees";
/// Longest wait for anything here.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long a card stays out when it is presented again, so that its reader sees that it has left.
const OUT: Duration = Duration::from_millis(2_000);
const CARD: &str = "1EA68671";

struct Stage {
    dir: tempfile::TempDir,
    simulator: Option<Child>,
}

/// What came of a run: whether it was green, and all it output.
struct Run {
    green: bool,
    output: String,
}

impl Stage {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Devices that are simulated; the line is what `bus` reports.
    async fn set(bus: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let text = format!(
            r#"
[gateway]
id = "g1"
data_dir = "data"
[[bus]]
id = "riser"
{bus}
[[portal]]
id = "door-412"
kind = "door"
zone = "412"
reader = {{ modbus = "riser", unit = 3, profile = "inveo-rfid-ind-m1" }}
output = {{ modbus = "riser", unit = 21, profile = "waveshare-relay-8ch", channel = 0 }}
[[portal]]
id = "power-412"
kind = "power_box"
zone = "412"
delay_off_s = 1
reader = {{ modbus = "riser", unit = 4, profile = "technotrade-vrd-485" }}
output = {{ modbus = "riser", unit = 21, profile = "waveshare-relay-8ch", channel = 1 }}
meter = {{ modbus = "riser", unit = 31, profile = "eastron-sdm120" }}
"#
        );
        std::fs::write(dir.path().join("site.toml"), text).unwrap();
        let mut stage = Self { dir, simulator: None };
        let mut simulator = stage.program(&["simulate"]).stderr(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let mut reported = BufReader::new(simulator.stderr.take().unwrap()).lines();
        let up = async {
            while !reported.next_line().await.unwrap().expect("it stays up").contains("line `riser` is at") {}
        };
        timeout(PATIENCE, up).await.unwrap();
        tokio::spawn(async move { while let Ok(Some(_)) = reported.next_line().await {} });
        stage.simulator = Some(simulator);
        assert_eq!(stage.simulate(&["set", "riser/31", "power", "41.2"]).await, "riser/31: power is 41.2 W\n");
        stage
    }

    fn program(&self, args: &[&str]) -> Command {
        let mut program = Command::new(env!("CARGO_BIN_EXE_dormgate"));
        program.args(args).arg("--config").arg(self.path("site.toml"));
        program.stdin(Stdio::null()).stdout(Stdio::null()).env("RUST_LOG", "off");
        program
    }

    async fn simulate(&self, words: &[&str]) -> String {
        let mut program = self.program(&[&["simulate"], words].concat());
        let output = timeout(PATIENCE, program.stdout(Stdio::piped()).output()).await.unwrap().unwrap();
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    }

    /// Runs the real test, with a person who does what it reports.
    async fn run(&self, outputs: bool) -> Run {
        let mut test = Command::new(std::env::current_exe().unwrap());
        test.args(["--ignored", "--exact", REAL, "--nocapture"])
            .env("DORMGATE_HIL", self.path("site.toml"))
            .env("DORMGATE_HIL_RECORD", self.path("records"))
            .env("DORMGATE_HIL_WAIT_S", "10")
            .env("DORMGATE_HIL_OUTPUTS", if outputs { "1" } else { "0" })
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut test = test.spawn().unwrap();
        let mut errors = BufReader::new(test.stderr.take().unwrap()).lines();
        let errors = tokio::spawn(async move {
            let mut all = String::new();
            while let Ok(Some(line)) = errors.next_line().await {
                all = all + &line + "\n";
            }
            all
        });
        let mut lines = BufReader::new(test.stdout.take().unwrap()).lines();
        let mut output = String::new();
        while let Some(line) = timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap() {
            if let Some(prompt) = line.strip_prefix(PROMPT) {
                self.obey(prompt).await;
            }
            output = output + &line + "\n";
        }
        let green = timeout(PATIENCE, test.wait()).await.unwrap().unwrap().success();
        Run { green, output: output + &errors.await.unwrap() }
    }

    async fn obey(&self, prompt: &str) {
        let portal = prompt.split('`').nth(1).expect("a portal is named");
        if prompt.starts_with("take the card away") {
            self.simulate(&["remove", portal]).await;
        }
        if prompt.contains("present it again") {
            tokio::time::sleep(OUT).await;
            self.simulate(&["present", portal, CARD]).await;
        }
        if prompt.contains("present a card") {
            // The command waits for a relay, and no gateway is there to move one.
            let mut present = self.program(&["simulate", "present", portal, CARD]);
            tokio::spawn(async move { drop(present.stderr(Stdio::null()).status().await) });
        }
    }

    fn recorded(&self) -> PathBuf {
        let mut runs = std::fs::read_dir(self.path("records")).unwrap().map(|entry| entry.unwrap().path());
        let run = runs.next().expect("a recording");
        assert!(runs.next().is_none());
        run
    }
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What a recording of the stage has to hold.
fn holds_the_frames(folder: &Path) {
    let all = read(&folder.join("frames.txt"));
    let frame = |line: &&str| line.contains(" > ") && line.starts_with("20") && line.contains("Z ");
    assert!(all.lines().filter(frame).count() > 200, "{all}");
    for (unit, profile) in
        [(3, "inveo-rfid-ind-m1"), (4, "technotrade-vrd-485"), (21, "waveshare-relay-8ch"), (31, "eastron-sdm120")]
    {
        let recorded = read(&folder.join(format!("riser-{unit}-{profile}.txt")));
        golden::run(&shipped(profile).unwrap(), recorded.trim_end());
        let learnt = match unit {
            31 => "power 41.2",
            21 => "relay 0 off",
            _ => "card 0 1EA68671",
        };
        assert!(recorded.contains(learnt), "{recorded}");
    }
    assert!(read(&folder.join("riser-3-inveo-rfid-ind-m1.txt")).contains("\nrelease\n"));
}

async fn a_rehearsal_with_everything(bus: &str) {
    let stage = Stage::set(bus).await;
    let run = stage.run(true).await;
    assert!(run.green, "{}", run.output);
    for step in [
        "ok        riser/31 (eastron-sdm120): ",
        ">>> present a card at `door-412` and leave it there (within 10 s)",
        "ok        `door-412`: card 1EA68671;",
        "ok        `power-412`: the card has left",
        "ok        `power-412`: power 41.200 W;",
        "ok        `door-412`: closed, read back, open again, read back",
        "ok        `door-412`: 1EA68671 granted",
        "ok        `power-412` was switched on",
        "ok        `power-412` was switched off because the card may no longer",
        "ok        `door-412`: 1EA68671 not_enrolled",
        " 0 failed, 0 left out",
    ] {
        assert!(run.output.contains(step), "`{step}` is missing:\n{}", run.output);
    }
    holds_the_frames(&stage.recorded());
    assert!(read(&stage.recorded().join("riser-21-waveshare-relay-8ch.txt")).contains("pulse 0 1000\n"));
}

#[tokio::test]
async fn a_run_on_a_line_over_tcp_is_green_and_its_recording_is_golden() {
    let port = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
    a_rehearsal_with_everything(&format!("tcp = \"127.0.0.1:{port}\"")).await;
}

#[tokio::test]
async fn a_run_on_a_serial_line_is_green_and_its_recording_is_golden() {
    a_rehearsal_with_everything("serial = { port = \"riser.pty\" }").await;
}

#[tokio::test]
async fn a_run_moves_no_relay_unless_somebody_allows_it_and_reports_what_it_left_out() {
    let stage = Stage::set("serial = { port = \"riser.pty\" }").await;
    let run = stage.run(false).await;
    assert!(run.green, "{}", run.output);
    assert!(run.output.contains("left out  relays, and the gateway") && run.output.contains("DORMGATE_HIL_OUTPUTS=1"));
    let frames = read(&stage.recorded().join("frames.txt"));
    let to_relays = |line: &&str| line.contains(" > 15 05 ") || line.contains(" > 15 0F ");
    assert_eq!(frames.lines().filter(to_relays).count(), 0, "{frames}");
}

/// The faults that a run has to notice at one device of four.
const FAULTS: [&[&str]; 7] =
    [&["silent"], &["slow", "500"], &["late"], &["exception", "2"], &["wrong-unit"], &["garbage"], &["cut"]];

#[tokio::test]
async fn each_fault_of_a_device_turns_the_run_red_and_names_the_device() {
    // Together, each on a line of its own: they are mostly waiting.
    let mut runs = JoinSet::new();
    for fault in FAULTS {
        runs.spawn(async move {
            let stage = Stage::set("serial = { port = \"riser.pty\" }").await;
            stage.simulate(&[&["fault", "riser/31"], fault].concat()).await;
            (fault, stage.run(false).await)
        });
    }
    while let Some(run) = runs.join_next().await {
        let (fault, run) = run.unwrap();
        assert!(!run.green, "{fault:?}: {}", run.output);
        assert!(run.output.contains("FAILED    riser/31 (eastron-sdm120): "), "{fault:?}: {}", run.output);
        let others = ["riser/3 ", "riser/4 ", "riser/21 ", "line `riser`", "`door-412`"];
        let blamed = |line: &&str| line.starts_with("FAILED") && others.iter().any(|other| line.contains(other));
        assert_eq!(run.output.lines().find(blamed), None, "{fault:?}: the others are not blamed: {}", run.output);
        assert!(run.output.contains("ok        `door-412`: card 1EA68671"), "{fault:?}: {}", run.output);
    }
}

#[tokio::test]
async fn a_relay_that_reports_that_it_switched_and_did_not_turns_the_run_red() {
    let stage = Stage::set("serial = { port = \"riser.pty\" }").await;
    stage.simulate(&["fault", "riser/21", "stuck-relay"]).await;
    let run = stage.run(true).await;
    assert!(!run.green, "{}", run.output);
    for portal in ["door-412", "power-412"] {
        let reported = format!("FAILED    `{portal}`: it was ordered to close and reads as open");
        assert!(run.output.contains(&reported), "{}", run.output);
    }
}

#[tokio::test]
async fn a_line_that_is_unplugged_and_a_configuration_that_is_not_there_are_no_green_run() {
    let stage = Stage::set("serial = { port = \"riser.pty\" }").await;
    assert_eq!(stage.simulate(&["fault", "riser", "unplugged"]).await, "riser: unplugged\n");
    let run = stage.run(false).await;
    assert!(!run.green && run.output.contains("riser.pty` cannot be opened"), "{}", run.output);
    std::fs::remove_file(stage.path("site.toml")).unwrap();
    let run = stage.run(false).await;
    assert!(!run.green && run.output.contains("cannot be read"), "{}", run.output);
}

/// `tests/run` itself with these words, with `cargo` in the place of cargo, started in `from`.
async fn tests_run(words: &[&str], cargo: &str, from: &Path, variables: &[(&str, &str)]) -> (Option<i32>, String) {
    let mut run = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/run"));
    run.args(words).env("CARGO", cargo).current_dir(from).stdin(Stdio::null());
    run.env_remove("DORMGATE_HIL").env_remove("DORMGATE_HIL_RECORD").envs(variables.iter().copied());
    let output = timeout(PATIENCE, run.output()).await.unwrap().unwrap();
    (output.status.code(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
}

const SOURCES: &str = env!("CARGO_MANIFEST_DIR");

#[tokio::test]
async fn asked_for_hardware_and_reported_of_none_the_test_command_fails_and_reports_what_to_do() {
    let from = Path::new(SOURCES);
    for config in [None, Some(""), Some("/nowhere/config.toml")] {
        let named: Vec<_> = config.map(|config| ("DORMGATE_HIL", config)).into_iter().collect();
        let (code, output) = tests_run(&["--hil"], "echo cargo", from, &named).await;
        assert_eq!(code, Some(1), "{output}");
        assert!(output.contains("DORMGATE_HIL=config.toml tests/run --hil"), "{output}");
    }
    let named = [("DORMGATE_HIL", "deploy/dormgate.toml")];
    let (code, output) = tests_run(&["--hil"], "echo cargo", from, &named).await;
    assert_eq!(code, Some(0), "{output}");
    assert!(
        output.contains("cargo test --test hil -- --ignored --nocapture --exact") && output.contains(REAL),
        "{output}"
    );
}

#[tokio::test]
async fn a_word_that_the_test_command_does_not_know_is_refused_wherever_it_stands() {
    let named = [("DORMGATE_HIL", "deploy/dormgate.toml")];
    for words in [&["--hill"][..], &["--hil", "readers"], &["readers", "--hil"], &["--hil", ""]] {
        let (code, output) = tests_run(words, "echo cargo", Path::new(SOURCES), &named).await;
        assert_eq!(code, Some(2), "{words:?}: {output}");
        assert!(
            output.contains("is unknown; there is `--hil`") && !output.contains("cargo test"),
            "{words:?}: {output}"
        );
    }
}

#[tokio::test]
async fn what_the_person_names_is_where_the_person_is() {
    let here = tempfile::tempdir().unwrap();
    std::fs::write(here.path().join("site.toml"), "").unwrap();
    let shows = here.path().join("shows");
    std::fs::write(&shows, "#!/bin/sh\necho \"$DORMGATE_HIL and $DORMGATE_HIL_RECORD\"\n").unwrap();
    let shows = format!("sh {}", shows.display());
    let at = here.path().display();
    for (records, wanted) in [
        ("records", format!("{at}/site.toml and {at}/records\n")),
        ("/elsewhere", format!("{at}/site.toml and /elsewhere\n")),
        ("", format!("{at}/site.toml and \n")),
    ] {
        let named = [("DORMGATE_HIL", "site.toml"), ("DORMGATE_HIL_RECORD", records)];
        let (code, output) = tests_run(&["--hil"], &shows, here.path(), &named).await;
        assert_eq!(code, Some(0), "{output}");
        assert!(output.starts_with(&wanted), "{wanted} is not the beginning of {output}");
    }
}
