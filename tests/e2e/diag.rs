//! `dormgate diag`: the file for a bug report has all that is needed to look for a fault, and nothing of a person or a secret.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::center::{enrol, issue, portal};
use crate::program::{page_by_socket, within};
use crate::site::{BOX, GATE, Site};

const CARD: &str = "1EA68671";
const LOST: &str = "04A1B2C3D4E5F6";
const HOLDERS: [&str; 2] = ["08193021", "zhang-san"];
/// Of a card that is issued to the first and enrolled for the second, and of one that a message gives to the third and the first.
const AT_ODDS: [&str; 3] = ["holder-one", "liwei-2024", "wang-x"];
const SECRETS: [&str; 3] = ["a token that nobody may see", "hunter2", "old-password-in-a-comment"];

/// `dormgate diag` with a `journalctl` that prints what is in `journal`.
fn diag(site: &Site, output: &str, more: &[&str]) -> Output {
    let bin = site.dir().join("bin");
    std::fs::create_dir_all(&bin).unwrap();
    let journal = format!("#!/bin/sh\ncat '{}'\n", site.dir().join("journal").display());
    std::fs::write(bin.join("journalctl"), journal).unwrap();
    std::fs::set_permissions(bin.join("journalctl"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let config = site.dir().join("dormgate.toml");
    let mut command = Command::new(env!("CARGO_BIN_EXE_dormgate"));
    command.arg("diag").arg("--config").arg(config).args(["--output", output]).args(more).env("PATH", path);
    command.output().unwrap()
}

/// Each way in which a reader or a person writes it.
fn spellings(uid: &str) -> Vec<String> {
    let bytes = hex::decode(uid).unwrap();
    let reversed: Vec<u8> = bytes.iter().rev().copied().collect();
    let mut all = Vec::new();
    for bytes in [bytes, reversed] {
        let pairs: Vec<String> = bytes.iter().map(|b| format!("{b:02x}")).collect();
        all.extend(["", ":", "-", " "].map(|between| pairs.join(between)));
        let number = bytes.iter().fold(0_u128, |sum, b| sum * 256 + u128::from(*b));
        all.push(number.to_string());
    }
    all
}

async fn until_status(site: &Site, is: impl Fn(&Value) -> bool) {
    let found = async {
        loop {
            let (_, body) = page_by_socket(&site.socket(), "/api/v1/status").await;
            if is(&serde_json::from_str(&body).unwrap()) {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    within("the status", found).await;
}

fn section<'t>(text: &'t str, title: &str) -> &'t str {
    let (_, rest) = text.split_once(&format!("== {title}")).unwrap_or_else(|| panic!("no `{title}`: {text}"));
    rest.split_once("\n== ").map_or(rest, |(section, _)| section)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_has_what_is_needed_to_find_a_fault_and_no_card_no_holder_and_no_secret() {
    let mut site = Site::new().await;
    std::fs::write(site.dir().join("token"), SECRETS[0]).unwrap();
    std::fs::write(site.dir().join("password"), SECRETS[1]).unwrap();
    site.uplink = Some("username = \"xing1\"\npassword_file = \"password\"".to_owned());
    site.extra = format!("[http]\nlisten = \"127.0.0.1:0\"\ntoken_file = \"token\" # {}\n", SECRETS[2]);
    let gateway = site.start().await;
    site.report_cards(json!([issue(CARD, HOLDERS[0]), issue(LOST, HOLDERS[1])])).await;
    site.report_rooms(json!([enrol(CARD, HOLDERS[0]), enrol(LOST, HOLDERS[1])])).await;
    // A box that is to be off and does not confirm it is in the status with its card.
    let state = json!({"online": true, "card_present": true, "uid": LOST, "relay": true}).to_string();
    site.peer.report(&portal(BOX, "state"), state).await;
    assert_eq!(site.reason(BOX, LOST).await, "granted");
    site.report_cards(json!([{"op": "report_lost", "uid": LOST}])).await;
    assert_eq!(site.reason(GATE, LOST).await, "lost");
    assert_eq!(site.reason(GATE, CARD).await, "granted");
    site.report_cards(json!([issue("5B3C0D92", AT_ODDS[0])])).await;
    site.report_rooms(json!([enrol("5B3C0D92", AT_ODDS[1])])).await;
    site.report_cards(json!([issue("6C4D1EA3", AT_ODDS[2]), issue("6C4D1EA3", AT_ODDS[0])])).await;
    // Nobody reads what a device sends before it is in the log.
    let state = json!({"contact": "1E:A6:86:71", "tamper": "166,34417"}).to_string();
    site.peer.report(&portal(GATE, "state"), state).await;
    until_status(&site, |status| status["unconfirmed"].is_array() && status["malformed"][0]["wrong"].is_string()).await;
    let journal = format!(
        "{}\nWARN dormgate: `{CARD}` 1e:a6:86:71 04-A1-B2-C3-D4-E5-F6 1904641566\nINFO a login at the console who=Li Wei from=::1\n\
         TRACE dormgate::frames: > 15 01 1E A6 86 71 00\nINFO 166,34417\n\
         {{\"fields\":{{\"message\":\"a login at the console\",\"who\":\"Li Wei\",\"from\":\"::1\"}}}}\n\
         WARN dormgate: alarm alarm=\"list\" detail=\"card `…8671` is issued to `h-of-before` and enrolled for `2024-x`\"\n",
        gateway.log()
    );
    // Nor is in the log, with whatever reads it.
    for hidden in HOLDERS.iter().chain(&AT_ODDS).chain(&["166,34417"]) {
        assert!(!gateway.log().contains(hidden), "{hidden}: {}", gateway.log());
    }
    for part in ["issued to one holder and enrolled for another", "given to two holders in one message"] {
        assert!(gateway.log().contains(part), "{part}: {}", gateway.log());
    }
    std::fs::write(site.dir().join("journal"), journal).unwrap();

    let file = site.dir().join("report.txt");
    let done = diag(&site, &file.display().to_string(), &[]);
    assert!(done.status.success(), "{done:?}");
    let text = std::fs::read_to_string(&file).unwrap();
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    for (title, part) in [
        ("program", env!("CARGO_PKG_VERSION")),
        ("program", "kernel: "),
        ("configuration", "id = \"door-412\""),
        ("check", "portals: 1 gate(s), 1 door(s), 1 power box(es)"),
        ("status", "\"uid\":\"…E5F6\""),
        ("status", "`contact`: `open` or `closed` is wanted, got text of 11 characters"),
        ("ready", "ready"),
        ("metrics", "dormgate_decisions_total{"),
        ("store", "bytes free on the disk"),
        ("store", "journal/"),
        ("audit verify", " events, 1 to "),
        ("log", "serving"),
        ("log", "`…8671` …8671 …E5F6 …1566"),
        ("log", "who=… from=::1"),
        ("log", "\"who\":\"…\",\"from\""),
        ("log", "card `…8671` is issued to `…` and enrolled for `…`"),
    ] {
        assert!(section(&text, title).contains(part), "`{part}` in `{title}`: {text}");
    }
    let lower = text.to_lowercase();
    for hidden in [CARD, LOST].iter().flat_map(|uid| spellings(uid)) {
        assert!(!lower.contains(&hidden), "{hidden}: {text}");
    }
    for hidden in HOLDERS.iter().chain(&AT_ODDS).chain(&SECRETS).chain(&[
        "Li Wei",
        "dormgate::frames",
        "34417",
        "h-of-before",
        "2024-x",
    ]) {
        assert!(!text.contains(hidden), "{hidden}: {text}");
    }

    // Nothing is overwritten.
    let again = diag(&site, &file.display().to_string(), &[]);
    assert_eq!(again.status.code(), Some(1), "{again:?}");
    assert!(String::from_utf8_lossy(&again.stderr).contains("--output"), "{again:?}");

    let whole = String::from_utf8(diag(&site, "-", &["--with-cards"]).stdout).unwrap();
    for part in
        [LOST, CARD, HOLDERS[0], HOLDERS[1], AT_ODDS[1], AT_ODDS[2], "\"type\":\"decision\"", "dormgate::frames"]
    {
        assert!(whole.contains(part), "{part}: {whole}");
    }
    assert!(SECRETS.iter().all(|secret| !whole.contains(secret)), "{whole}");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_gateway_and_with_a_wrong_file_it_reports_what_there_is() {
    let site = Site::new().await;
    let config = site.config();
    let wrong = site.config_text().replace("hold_ms = 5000", &format!("password = \"{}\"", SECRETS[1]));
    std::fs::write(&config, wrong).unwrap();
    let done = diag(&site, "-", &[]);
    let text = String::from_utf8(done.stdout).unwrap();
    assert_eq!(done.status.code(), Some(0), "{text}");
    assert!(section(&text, "configuration").contains("password = \"(hidden)\""), "{text}");
    assert!(section(&text, "check").contains("not available: ") && text.contains("portal[1].password"), "{text}");
    assert!(section(&text, "status").contains("not available: no gateway answers"), "{text}");
    assert!(!text.contains(SECRETS[1]), "{text}");
    std::fs::remove_file(&config).unwrap();
    let text = String::from_utf8(diag(&site, "-", &[]).stdout).unwrap();
    assert!(section(&text, "configuration").contains("cannot be read"), "{text}");
    assert!(!Path::new(&config).exists());
}
