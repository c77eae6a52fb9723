//! The proof of a revocation and the audit, as an operator and an auditor read them from a running gateway.

use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use crate::center::{enrol, issue, portal, reissue};
use crate::program::within;
use crate::site::{BOX, GATE, Site};

const OLD: &str = "1EA68671";
const NEW: &str = "04A1B2C3D4E5F6";

/// A command of the program against this gateway: its exit code, what it prints, and what it reports.
pub(super) async fn asked(site: &Site, args: &[&str]) -> (Option<i32>, String, String) {
    let config = site.config().display().to_string();
    let mut command = Command::new(env!("CARGO_BIN_EXE_dormgate"));
    let command = command.args(args).args(["--config", &config]).env_remove("RUST_LOG").stdin(Stdio::null());
    let ended = within("the command ends", command.output()).await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (ended.status.code(), text(ended.stdout), text(ended.stderr))
}

pub(super) async fn printed(site: &Site, args: &[&str]) -> String {
    let (code, printed, reported) = asked(site, args).await;
    assert_eq!((code, reported.as_str()), (Some(0), ""), "{args:?}");
    printed
}

/// Asks until the card's newest revocation is as wanted.
async fn proof(site: &Site, is: impl Fn(&Value) -> bool) -> Value {
    let wanted = async {
        loop {
            let answer: Value = serde_json::from_str(&printed(site, &["query", OLD, GATE, "--json"]).await).unwrap();
            if is(&answer["revocations"][0]) {
                return answer["revocations"][0].clone();
            }
        }
    };
    within("the proof", wanted).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reissue_is_proven_step_by_step_and_the_audit_is_followed_and_exported_while_the_gateway_runs() {
    let mut site = Site::new().await;
    let gateway = site.start().await;
    site.report_cards(json!([issue(OLD, "h1")])).await;
    site.report_rooms(json!([enrol(OLD, "h1")])).await;
    assert_eq!(site.reason(BOX, OLD).await, "granted");
    let state = async |mark: usize, state: Value, wanted: &str| {
        site.peer.report(&portal(BOX, "state"), state.to_string()).await;
        site.event(mark, wanted, |e| e["type"] == wanted).await;
    };
    state(site.peer.mark(), json!({"online": true, "card_present": true, "uid": OLD, "relay": true}), "power_on").await;

    // Somebody follows the audit of this card from now on.
    let config = site.config().display().to_string();
    let mut follow = Command::new(env!("CARGO_BIN_EXE_dormgate"))
        .args(["audit", "tail", "-f", "-n", "1", "--json", "--uid", OLD, "--config", &config])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut followed = BufReader::new(follow.stdout.take().unwrap()).lines();
    // It follows once it has printed what was there.
    let newest = within("the newest event", followed.next_line()).await.unwrap().unwrap();
    assert!(newest.contains("\"power_on\""), "{newest}");

    let ack = site.report_cards(json!([reissue("h1", NEW, OLD)])).await;
    assert_eq!((&ack["revoked"], &ack["cut"]), (&json!([OLD]), &json!([BOX])));
    let open = proof(&site, |p| p["durable_at"].is_string()).await;
    assert_eq!(
        (&open["stream"], &open["seq"], &open["portals"]),
        (&json!("card-office"), &json!(2), &json!([{"portal": BOX}]))
    );
    assert_eq!(open["received_at"], ack["received_at"]);
    assert!(printed(&site, &["status"]).await.contains(&format!("revoked  {BOX}: not confirmed off since {OLD}")));
    let mark = site.peer.mark();
    site.peer.report(&portal(BOX, "state"), json!({"relay": false}).to_string()).await;
    let confirmed = site.event(mark, "confirmed", |e| e["type"] == "revocation_confirmed").await;
    assert_eq!(
        (&confirmed["portal"], &confirmed["uid"], &confirmed["revoked"]),
        (&json!(BOX), &json!(OLD), &open["n"])
    );
    let done = proof(&site, |p| p["portals"][0]["confirmed_at"].is_string()).await;
    assert_eq!((&done["portals"][0]["how"], &done["in_force_at"]), (&json!("off"), &open["in_force_at"]));
    assert!(printed(&site, &["query", OLD]).await.contains(&format!("{BOX}: confirmed off 2")));
    // Why, for a person: the rung, and the change that set it with its time.
    let why: Value = serde_json::from_str(&printed(&site, &["query", OLD, GATE, "--json"]).await).unwrap();
    let steps = why["verdicts"][0]["steps"].as_array().unwrap();
    let replaced = steps.iter().find(|step| step["step"] == "replaced").unwrap();
    assert_eq!((&replaced["ok"], &replaced["set_by"]["revision"][1]), (&json!(false), &json!(2)), "{replaced}");
    assert!(replaced["set_by"]["at"].as_str().unwrap().ends_with('Z'), "{replaced}");
    let text = printed(&site, &["query", OLD, GATE]).await;
    let line = text.lines().find(|line| line.contains("DENIES replaced")).unwrap();
    assert!(line.contains("replaced  [") && line.contains(" at 2"), "{text}");
    let reply = site.command("q", json!({"command": "query", "uid": OLD, "portal": GATE})).await;
    assert_eq!(reply["result"]["revocations"], json!([done]));

    let mut types = Vec::new();
    while types.last().is_none_or(|kind: &String| kind != "revocation_confirmed") {
        let line = within("the audit is followed", followed.next_line()).await.unwrap().unwrap();
        types.push(serde_json::from_str::<Value>(&line).unwrap()["type"].as_str().unwrap().to_owned());
    }
    assert_eq!(types, ["revoked", "power_off", "revocation_confirmed"]);
    follow.kill().await.unwrap();
    let newest = printed(&site, &["audit", "tail", "-n", "1", "--type", "revoked"]).await;
    assert!(newest.contains("revoked") && newest.contains(OLD) && newest.lines().count() == 1, "{newest}");

    // A name that is wrong is not a portal without events.
    for command in ["tail", "export"] {
        assert_eq!(printed(&site, &["audit", command, "--portal", BOX, "--type", "log_gap"]).await, "");
        let (code, _, reported) = asked(&site, &["audit", command, "--portal", "gate-im"]).await;
        assert!(code == Some(1) && reported.contains("`gate-im`") && reported.contains(GATE), "{command}: {reported}");
    }

    // One that was called otherwise when its events were recorded is no wrong name, also where none of them is wanted.
    let renamed = site.dir().join("renamed.toml");
    let config_text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&renamed, config_text.replace(&format!("\"{BOX}\""), "\"power-of-now\"")).unwrap();
    for (lines, printed) in [("0", 0), ("1", 1)] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dormgate"));
        command.args(["audit", "tail", "--portal", BOX, "-n", lines, "--config"]).arg(&renamed).env_remove("RUST_LOG");
        let ended = within("the command ends", command.output()).await.unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        assert_eq!((ended.status.code(), text(ended.stderr)), (Some(0), String::new()), "-n {lines}");
        assert_eq!(text(ended.stdout).lines().count(), printed, "-n {lines}");
    }

    // The export is the chain, byte for byte; and as a table.
    let lines = printed(&site, &["audit", "export"]).await;
    let mut prev = "0".repeat(64);
    for (line, n) in lines.lines().zip(1..) {
        let event: Value = serde_json::from_str(line).unwrap();
        assert_eq!((&event["n"], &event["prev"]), (&json!(n), &json!(prev)));
        prev = crate::site::hash(line);
    }
    assert!(lines.lines().count() > 10);
    let file = site.dir().join("audit.csv");
    let to_file =
        ["audit", "export", "--format", "csv", "-o", file.to_str().unwrap(), "--uid", OLD, "--type", "revoked"];
    assert_eq!(printed(&site, &to_file).await, "");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600, "it names persons");
    assert_eq!(printed(&site, &["audit", "export", "-o", "-"]).await, printed(&site, &["audit", "export"]).await);
    let table = std::fs::read_to_string(&file).unwrap();
    assert!(table.starts_with("n,at,clock,type,portal,uid,") && table.lines().count() == 2, "{table}");
    assert!(table.contains(&format!(",revoked,,{OLD},h1,")) && table.contains(",card-office,1,2,"), "{table}");
    let (code, _, reported) = asked(&site, &to_file).await;
    assert!(code == Some(1) && reported.contains("exists"), "what is there is not overwritten: {reported}");

    // Whoever has seen enough is no error.
    let cut = format!("{} audit export --config {config} | head -n 1", env!("CARGO_BIN_EXE_dormgate"));
    let ended =
        within("a short export", Command::new("bash").args(["-o", "pipefail", "-c", &cut]).output()).await.unwrap();
    assert_eq!((ended.status.code(), ended.stderr.as_slice()), (Some(0), &b""[..]));
    let (code, printed, reported) = asked(&site, &["audit", "verify"]).await;
    assert_eq!((code, reported.as_str()), (Some(0), ""), "{printed}");
    gateway.stop().await;
    let (code, _, reported) = asked(&site, &["audit", "tail"]).await;
    assert!(code == Some(1) && reported.contains("no gateway answers"), "{reported}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_backup_revives_no_card() {
    let mut site = Site::new().await;
    let gateway = site.start().await;
    site.report_cards(json!([issue(OLD, "h1")])).await;
    site.report_rooms(json!([enrol(OLD, "h1")])).await;
    let file = site.dir().join("backup");
    let file = file.to_str().unwrap();
    assert!(printed(&site, &["backup", file]).await.contains("events up to "));
    let (code, _, reported) = asked(&site, &["backup", file]).await;
    assert!(code == Some(1) && reported.contains("backup` exists already; name another file"), "{reported}");
    let (code, _, reported) = asked(&site, &["restore", "none"]).await;
    assert!(
        code == Some(1) && reported.contains("`none` does not exist; name a file that `dormgate backup` made"),
        "{reported}"
    );
    site.report_cards(json!([reissue("h1", NEW, OLD)])).await;
    let (code, _, reported) = asked(&site, &["restore", file]).await;
    assert!(code == Some(1) && reported.contains("a gateway runs on"), "{reported}");
    gateway.stop().await;
    let (code, _, reported) = asked(&site, &["backup", file]).await;
    assert!(code == Some(1) && reported.contains("no gateway answers"), "{reported}");
    let (code, _, reported) = asked(&site, &["restore", file]).await;
    assert!(code == Some(1) && reported.contains("1 messages of centers and 1 revocations"), "{reported}");
    assert!(printed(&site, &["restore", "--force", file]).await.contains("what was there is in"));
    // In this copy the old card is good; nobody opens anything by it.
    let mark = site.peer.mark();
    let gateway = site.start().await;
    assert_eq!(site.resync(mark, "card-office").await["reason"], "corrupt");
    for portal in [GATE, BOX] {
        assert_eq!(site.present(portal, OLD).await["decision"], "deny");
    }
    gateway.stop().await;
}
