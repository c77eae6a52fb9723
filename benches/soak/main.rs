//! A gateway for a long time: does it grow, does it become slower?
//!
//! The real binaries: gateway, center's service, mosquitto, and simulated devices on a Modbus line. `RATE` requests a second for
//! `MINUTES` minutes, and beside them a reissue and an enrolment every second, a whole list as a snapshot every five minutes, a broker
//! that is killed every minute and away for two seconds, a card shown at a device every five seconds, and a device that dies every
//! twenty. Every ten seconds a row: decisions, their p50 and p99 beside those of a bare echo, resident memory, descriptors,
//! processor time. At the end the first quarter beside the last one, and a picture of all.
//!
//! It fails if at the end one of the last 1 000 cards that were replaced is granted, or the gateway's list is not the center's, or if a
//! request stays unanswered that was asked more than ten seconds after the broker's return; sooner the gateway may not be back.
//! Run: `MINUTES=30 RATE=200 cargo bench --features center --bench soak`. The rows and the picture are in `target/soak`.

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

#[path = "../support/mod.rs"]
mod support;

mod asker;
mod rows;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use asker::Asker;
use ed25519_dalek::SigningKey;
use rows::{Row, Rows};
use serde_json::json;
use support::broker::{self, Kept, cpu_ms};
use support::office::{TOKEN_FILE, post, start_center};

/// Cards in the list.
const CARDS: u32 = 5_000;
/// Devices on the line: doors, then power boxes.
const DOORS: u32 = 4;
const BOXES: u32 = 4;
/// What happens how often, in seconds.
const ROW_S: u64 = 10;
const REISSUE_S: u64 = 1;
const PRESENT_S: u64 = 5;
const DEAD_S: u64 = 20;
const FLAP_S: u64 = 60;
const SNAPSHOT_S: u64 = 300;
/// How long the broker is away.
const AWAY: Duration = Duration::from_secs(2);
/// How long the gateway may need at the end until it has everything.
const SETTLED: Duration = Duration::from_secs(60);

fn main() {
    broker::run(|runtime| {
        let number = |name: &str, default| std::env::var(name).map_or(default, |text| text.parse().expect("a number"));
        runtime.block_on(soak(number("MINUTES", 30), number("RATE", 200)));
    });
}

/// Which card each holder has, as the office knows it.
struct Office {
    /// By holder; a card of another number replaces it.
    cards: Vec<u32>,
    reissued: usize,
    /// Cards that were replaced.
    dead: Vec<u32>,
    api: String,
    dir: PathBuf,
    /// Which of two zones the next whole list names.
    loads: u32,
}

impl Office {
    /// The next holder gets a new card, and the apartment center enrols it.
    fn reissue(&mut self) {
        let place = self.reissued % self.cards.len();
        let (holder, old) = (support::holder(u32::try_from(place).unwrap()).to_string(), self.cards[place]);
        let new = old + 1_000_000;
        self.cards[place] = new;
        self.dead.push(old);
        self.reissued += 1;
        let (old, new) = (support::uid(old).to_string(), support::uid(new).to_string());
        let ops = vec![
            json!({"op": "reissue", "holder": holder, "new_uid": new, "old_uid": old}),
            json!({"op": "enrol", "uid": new, "holder": holder, "entitlements": [{"kind": "gate", "zone": "*"}, {"kind": "door", "zone": "*"}]}),
        ];
        tokio::spawn(post(self.api.clone(), ops));
    }

    /// The whole list as a sheet, in which every card has another room than before; the center sends it as a snapshot.
    fn load(&mut self) {
        self.loads += 1;
        let mut sheet = "uid,holder,gate,door,power_box\n".to_owned();
        for (holder, card) in (0..).zip(&self.cards) {
            let room = self.loads % 2 + 1;
            writeln!(sheet, "{},{},*,*,{room}", support::uid(*card), support::holder(holder)).unwrap();
        }
        let path = self.dir.join("list.csv");
        std::fs::write(&path, sheet).unwrap();
        drop(dormgate(&self.center(&["load"])).arg(path).spawn().unwrap());
    }

    fn center(&self, words: &[&str]) -> Vec<String> {
        let token = self.dir.join(TOKEN_FILE).display().to_string();
        let server = format!("http://{}", self.api);
        let link = ["center", "--gateway", "bench", "--server", &server, "--token-file", &token];
        link.iter().chain(words).map(|word| (*word).to_owned()).collect()
    }
}

fn dormgate(words: &[impl AsRef<std::ffi::OsStr>]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dormgate"));
    command.args(words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// The portals on the line, and the line.
fn line(port: u16) -> String {
    let mut text = format!("[[bus]]\nid = \"line\"\ntcp = \"127.0.0.1:{port}\"\n");
    for unit in 1..=DOORS + BOXES {
        let (kind, profile) =
            if unit <= DOORS { ("door", "generic-door-controller") } else { ("power_box", "generic-power-box") };
        writeln!(
            text,
            "[[portal]]\nid = \"{kind}-{unit}\"\nkind = \"{kind}\"\nzone = \"{unit}\"\n\
             reader = {{ modbus = \"line\", unit = {unit}, profile = \"{profile}\" }}\n\
             output = {{ modbus = \"line\", unit = {unit}, profile = \"{profile}\" }}"
        )
        .unwrap();
    }
    text
}

/// The simulator of the devices of the gateway's configuration, and what happens to them.
struct Devices {
    config: PathBuf,
    _running: Kept,
    dead: u32,
    shown: u32,
}

impl Devices {
    fn start(dir: &Path) -> Self {
        let config = dir.join("bench.toml");
        let running = Kept(dormgate(&["simulate", "--config"]).arg(&config).spawn().unwrap());
        Self { config, _running: running, dead: 0, shown: 0 }
    }

    /// A subcommand of the simulator; what it answers is not waited for.
    fn order(&self, words: &[&str]) {
        drop(dormgate(&["simulate", "--config"]).arg(&self.config).args(words).spawn().unwrap());
    }

    /// The dead one lives again, and the next one dies.
    fn die(&mut self) {
        self.order(&["fault", &format!("line/{}", self.dead + 1), "none"]);
        self.dead = (self.dead + 1) % (DOORS + BOXES);
        self.order(&["fault", &format!("line/{}", self.dead + 1), "silent"]);
    }

    /// A card at the next device; at every second turn it is taken out of the box again.
    fn show(&mut self, card: u32) {
        self.shown += 1;
        let (unit, uid) = (self.shown % (DOORS + BOXES) + 1, support::uid(card).to_string());
        match unit {
            1..=DOORS => self.order(&["present", &format!("door-{unit}"), &uid]),
            _ if (self.shown / (DOORS + BOXES)).is_multiple_of(2) => {
                self.order(&["present", &format!("power_box-{unit}"), &uid]);
            }
            _ => self.order(&["remove", &format!("power_box-{unit}")]),
        }
    }
}

async fn soak(minutes: u64, rate: u64) {
    let out = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/soak");
    std::fs::create_dir_all(&out).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (mosquitto, port) = broker::start_broker(dir.path());
    let mut mosquitto = Some(mosquitto);
    let key = SigningKey::from_bytes(&[7; 32]);
    let (_center, api) = start_center(dir.path(), port, &key);
    let gateway = broker::start_gateway(dir.path(), port, &key, &line(broker::free_port()));
    let _echo = broker::start_echo(port);
    let mut devices = Devices::start(dir.path());
    let mut office =
        Office { cards: (0..CARDS).collect(), reissued: 0, dead: Vec::new(), api, dir: dir.path().into(), loads: 0 };
    let mut asker = Asker::start(port).await;
    for from in (0..CARDS).step_by(500) {
        post(office.api.clone(), support::office::enrolments(from..from + 500)).await;
    }
    asker.until_granted(CARDS - 1).await;

    let mut rows = Rows::new(&out);
    let (began, lasts) = (Instant::now(), Duration::from_secs(minutes * 60));
    let mut request = tokio::time::interval(Duration::from_secs(1) / u32::try_from(rate).unwrap());
    let mut second = tokio::time::interval(Duration::from_secs(1));
    let (mut asked, mut seconds, mut cpu) = (0_u64, 0_u64, cpu_ms(&gateway));
    let mut back = None;
    while began.elapsed() < lasts {
        tokio::select! {
            biased;
            () = asker.receive() => {}
            _ = request.tick() => {
                asked += 1;
                let card = office.cards[usize::try_from(asked).unwrap() % office.cards.len()];
                asker.ask(card, asked.is_multiple_of(10));
            }
            () = tokio::time::sleep_until(back.unwrap_or_else(|| tokio::time::Instant::now() + AWAY)), if back.is_some() => {
                back = None;
                mosquitto = Some(broker::start_broker_at(dir.path(), port));
            }
            _ = second.tick() => {
                seconds += 1;
                let now = |every: u64| seconds % every == every / 2;
                if now(REISSUE_S) { office.reissue(); }
                if now(PRESENT_S) { devices.show(office.cards[0]); }
                if now(DEAD_S) { devices.die(); }
                if now(SNAPSHOT_S) { office.load(); }
                if now(FLAP_S) && mosquitto.take().is_some() {
                    back = Some(tokio::time::Instant::now() + AWAY);
                }
                if now(ROW_S) {
                    let spent = cpu_ms(&gateway) - std::mem::replace(&mut cpu, cpu_ms(&gateway));
                    rows.push(Row::new(began.elapsed(), asker.take(), &gateway, spent));
                }
            }
        }
    }
    if mosquitto.is_none() {
        mosquitto = Some(broker::start_broker_at(dir.path(), port));
    }
    rows.finish();
    println!("{} reissues, {} lists", office.reissued, office.loads);
    check(&mut asker, &office, &gateway).await;
    drop(mosquitto);
}

/// What must hold at the end of it.
async fn check(asker: &mut Asker, office: &Office, gateway: &Kept) {
    let granted = office.cards[office.reissued.saturating_sub(1) % office.cards.len()];
    tokio::time::timeout(SETTLED, asker.until_granted(granted)).await.expect("the newest card opens");
    for card in office.dead.iter().rev().take(1_000) {
        assert!(!asker.answer(*card).await, "{} was replaced and opens", support::uid(*card));
    }
    let equal = dormgate(&office.center(&["compare"])).status().unwrap();
    println!(
        "at the end {:.1} MiB resident; {} requests without an answer later than 10 s after a return of the broker; lists equal: {}",
        support::status_mib(gateway.0.id(), "VmRSS:"),
        asker.lost,
        equal.success()
    );
    assert!(asker.lost == 0 && equal.success(), "see above");
}
