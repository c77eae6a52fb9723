//! The commands of `dormgate center` against the service: they print and exit as those in a directory do, and name what to do where
//! the service cannot be reached or refuses.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::center::{enrol, issue};
use crate::mosquitto::{Mosquitto, Rules};
use crate::program::within;
use crate::rig::{ALL, Center, NEW, NO_BROKER, OLD, SOME, command, error, site, start_gateway, start_gateway_of};
use crate::site::GATE;

/// What a command is given beside its own arguments: a directory and a broker, or a service and a token.
struct At(Vec<String>);

impl At {
    fn directory(dir: &Path, url: &str) -> Self {
        Self(["--dir", dir.to_str().unwrap(), "--url", url, "--gateway", "xing1"].map(str::to_owned).to_vec())
    }

    fn service(center: &Center, token: &str) -> Self {
        let token = center.dir.path().join(token);
        let server = format!("http://{}", center.address);
        Self(["--server", &server, "--token-file", token.to_str().unwrap()].map(str::to_owned).to_vec())
    }

    async fn run(&self, args: &[&str]) -> (i32, String, String) {
        let all: Vec<&str> = args.iter().copied().chain(self.0.iter().map(String::as_str)).collect();
        command(&all).await
    }
}

/// The text with times and durations replaced.
fn masked(text: &str) -> String {
    let word = |word: &str| {
        let bare = word.trim_end_matches([',', ';']);
        if bare.len() == 24 && bare.ends_with('Z') {
            return word.replace(bare, "TIME");
        }
        word.to_owned()
    };
    let line = |line: &str| {
        let mut words: Vec<_> = line.split(' ').map(word).collect();
        for place in 2..words.len() {
            if words[place].starts_with("ms") && words[place - 2] == "in" {
                words[place - 1] = "N".to_owned();
            }
        }
        words.join(" ")
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

fn sheet(dir: &Path, name: &str, rows: &[&str]) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, format!("uid,holder,gate,door\n{}\n", rows.join("\n"))).unwrap();
    path
}

/// An afternoon in an office, and what each command printed and ended with.
async fn afternoon(at: &At, dir: &Path) -> Vec<(String, i32, String, String)> {
    let list = sheet(dir, "list.csv", &[&format!("{OLD},h1,*,412"), "04AABBCCDDEE01,h2,*,413", "04AABBCCDDEE02,h3,*,"]);
    let shorter = sheet(dir, "shorter.csv", &[&format!("{OLD},h1,*,412")]);
    let ops = dir.join("ops.json");
    std::fs::write(&ops, r#"[{"op":"report_lost","uid":"04AABBCCDDEE01"}]"#).unwrap();
    let [list, shorter, ops] = [&list, &shorter, &ops].map(|path| path.to_str().unwrap());
    let commands: &[&[&str]] = &[
        &["enrol", OLD, "h1", "--gate", "*", "--gateway", "xing1"],
        &["issue", OLD, "h1", "--gateway", "xing1"],
        &["command", "query", OLD, GATE, "--gateway", "xing1"],
        &["command", "release", "no-such-portal", "--gateway", "xing1"],
        &["load", list, "--dry-run", "--gateway", "xing1"],
        &["load", list, "--gateway", "xing1"],
        &["load", list, "--gateway", "xing1"],
        &["load", shorter, "--dry-run", "--gateway", "xing1"],
        &["load", shorter, "--gateway", "xing1"],
        &["export", "--gateway", "xing1"],
        &["compare", "--cards", "--gateway", "xing1"],
        &["prove", OLD, "--gateway", "xing1"],
        &["reissue", "h1", NEW, "--old", OLD, "--gateway", "xing1"],
        &["send", ops, "--gateway", "xing1"],
        &["prove", OLD, "--gateway", "xing1"],
        &["load", shorter, "--allow-shrink", "--gateway", "xing1"],
        &["posture", "lockdown", "*", "--gateway", "xing1"],
        &["cancel", "--holder", "h3", "--gateway", "xing1"],
        &["compare", "--gateway", "xing1"],
        &["report-lost", "--holder", "nobody", "--gateway", "xing1"],
    ];
    let mut seen = Vec::new();
    for args in commands {
        // A directory is given its gateway once, with the rest.
        let own: Vec<&str> =
            if at.0.iter().any(|word| word == "xing1") { args[..args.len() - 2].to_vec() } else { args.to_vec() };
        let (code, out, err) = at.run(&own).await;
        let text = |text: &str| masked(&text.replace(dir.to_str().unwrap(), "DIR"));
        seen.push((args.join(" ").replace(dir.to_str().unwrap(), "DIR"), code, text(&out), text(&err)));
    }
    seen
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs mosquitto; tests/run installs it"]
async fn each_command_prints_and_exits_at_the_service_as_in_a_directory() {
    let (own_site, other_site) = (site().await, site().await);
    let center = Center::start(&own_site.hub.url(), &["xing1"]).await;
    let gateway = start_gateway(&own_site).await;
    center.connected().await;
    let at_service = afternoon(&At::service(&center, "all.token"), center.dir.path()).await;

    let dir = tempfile::tempdir().unwrap();
    let (code, tables, _) = command(&["keygen", "--streams", "two", "--dir", dir.path().to_str().unwrap()]).await;
    assert_eq!(code, 0);
    let keys: Vec<&str> =
        tables.lines().filter_map(|line| line.strip_prefix("public_keys = [\"")?.split('"').next()).collect();
    let other_gateway = start_gateway_of(&other_site, [keys[0], keys[1]]).await;
    let in_directory = afternoon(&At::directory(dir.path(), &other_site.hub.url()), dir.path()).await;

    for (service, directory) in at_service.iter().zip(&in_directory) {
        assert_eq!(service, directory);
    }
    let codes: Vec<i32> = at_service.iter().map(|(_, code, ..)| *code).collect();
    assert_eq!(codes, [0, 0, 0, 1, 0, 0, 0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0], "{at_service:#?}");
    let out = |place: usize| at_service[place].2.as_str();
    assert!(out(4).contains("added            2") && out(4).contains("updated          1"), "{}", out(4));
    assert_eq!(out(6).lines().last(), Some("everything is unchanged; nothing was sent"));
    assert!(at_service[8].3.contains("--allow-shrink"), "{}", at_service[8].3);
    assert!(out(19).contains("\n  op 0: no card of holder `nobody` is known"), "{}", out(19));
    assert!(out(9).contains("04AABBCCDDEE02,h3,"), "{}", out(9));
    assert!(
        out(14)
            .contains("dead       replaced; since TIME\n  card-office 1.2: received TIME, in force TIME, on disk TIME"),
        "{}",
        out(14)
    );
    gateway.stop().await;
    other_gateway.stop().await;
    center.program.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs mosquitto; tests/run installs it"]
async fn what_is_refused_names_what_to_do() {
    let broker = Mosquitto::start(Rules::default());
    let center = Center::start(&broker.url().to_string(), &["xing1", "xing2"]).await;
    center.connected().await;
    let dir = center.dir.path();
    std::fs::write(dir.join("wrong.token"), "wrong-0123456789abcdef012").unwrap();
    std::fs::write(dir.join("empty.token"), "\n").unwrap();
    let list = sheet(dir, "list.csv", &[&format!("{OLD},h1,*,412")]);
    let list = list.to_str().unwrap();
    let [all, some, wrong, empty] =
        ["all.token", "some.token", "wrong.token", "empty.token"].map(|token| At::service(&center, token));
    let nobody = At([&all.0[2..], &["--server".to_owned(), "http://127.0.0.1:9".to_owned()]].concat());
    let iss = dir.join("iss.json");
    std::fs::write(&iss, r#"{"iss":"card-office","ops":[]}"#).unwrap();
    let iss = iss.to_str().unwrap();
    let table: &[(&At, i32, &[&str], &str)] = &[
        (&nobody, 1, &["issue", OLD, "h1"], "connection refused; start `dormgate center serve`"),
        (&wrong, 1, &["issue", OLD, "h1"], "401 unauthorized: the token is of no client"),
        (&wrong, 1, &["issue", OLD, "h1"], "correct the file of `--token-file`"),
        (&empty, 1, &["issue", OLD, "h1"], "one line with the token"),
        (&some, 1, &["issue", OLD, "h1"], "may not order `issue`; add it to its `may`"),
        (&some, 1, &["enrol", OLD, "h1", "--gateway", "xing2"], "is not among the `gateways` of client `some`"),
        (
            &some,
            1,
            &["load", list, "--dry-run", "--gateway", "xing1"],
            "may not load a whole list; add `load` to its `may`",
        ),
        (&some, 1, &["command", "query", OLD, "--gateway", "xing1"], "may not order `command`"),
        (&all, 1, &["enrol", OLD, "h1", "--gateway", "xing3"], "this center has no gateway `xing3`"),
        (&all, 1, &["enrol", OLD, "h1"], "the stream `apartment` publishes to one gateway; name the gateway"),
        (&all, 1, &["send", iss], "for trials in a directory"),
        (&all, 2, &["keygen"], "leave out `--server`"),
        (&all, 2, &["load", list], "name it with `--gateway G`"),
        (&all, 1, &["command", "query", OLD, "--gateway", "xing1", "--wait", "0"], "a command is never sent late"),
        (&all, 1, &["issue", OLD, "h1", "--idempotency-key", "k1", "--wait", "0"], "no answer in 0 s"),
        (&all, 1, &["issue", NEW, "h1", "--idempotency-key", "k1"], "409 idempotency_conflict"),
        (&all, 1, &["compare", "--gateway", "xing1", "--wait", "0"], "has no state"),
    ];
    for (at, code, args, reported) in table {
        let (ended, out, err) = at.run(args).await;
        assert_eq!((ended, out.as_str()), (*code, ""), "{args:?}: {err}");
        assert!(err.contains(reported), "{args:?}: {err}");
    }
    // Neither of the two alone.
    let url = format!("http://{}", center.address);
    let (code, _, err) = command(&["issue", OLD, "h1", "--server", &url]).await;
    assert!(code == 2 && err.contains("--token-file FILE"), "{err}");
    let (code, _, err) = command(&["issue", OLD, "h1", "--token-file", list]).await;
    assert!(code == 2 && err.contains("--server URL"), "{err}");
    // A client that may only read is informed that nobody was asked, and what is kept is shown.
    let (code, out, err) = some.run(&["prove", OLD]).await;
    assert_eq!(code, 1);
    assert!(out.starts_with("xing1            NOT KNOWN") && !out.contains("xing2"), "{out}");
    assert!(err.contains("`xing1` was not asked: 403 forbidden_op"), "{err}");
    center.program.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs mosquitto; tests/run installs it"]
async fn a_whole_list_is_loaded_once_under_a_key_and_nothing_of_a_wrong_one() {
    let broker = Mosquitto::start(Rules::default());
    let center = Center::start(&broker.url().to_string(), &["xing1"]).await;
    let card = |uid: &str, holder: &str| {
        let mut card = enrol(uid, holder);
        card.as_object_mut().unwrap().remove("op");
        card
    };
    let body = |cards: Value| json!({"gateway": "xing1", "cards": cards});
    let with = |mut body: Value, key: &str| {
        body[key] = json!(true);
        body
    };
    let many: Vec<Value> = (0..10).map(|n| card(&format!("5C00000{n}"), "h1")).collect();
    let planned = center.post("/v1/list", ALL, None, &with(body(json!(many)), "dry_run")).await;
    let plan = &planned.body["plan"];
    assert_eq!((planned.status, &plan["added"], &plan["unchanged"]), (200, &json!(10), &json!(0)), "{}", planned.body);
    assert_eq!(plan["changes"][0]["to"]["holder"], "h1", "{plan}");
    let first = center.post("/v1/list", ALL, Some("k1"), &body(json!(many))).await;
    let messages = json!([{"to": "xing1", "stream": "apartment", "epoch": 1, "seq": 1}]);
    assert_eq!((first.status, &first.body["messages"]), (202, &messages), "{}", first.body);
    let again = center.post("/v1/list", ALL, Some("k1"), &body(json!(many))).await;
    assert_eq!((again.status, &again.body["messages"]), (202, &messages), "{}", again.body);
    let same = center.post("/v1/list", ALL, None, &body(json!(many))).await;
    assert_eq!((same.status, &same.body["messages"]), (200, &json!([])), "nothing changes");

    let few = body(json!([card("5C000000", "h1")]));
    assert_eq!(error(&center.post("/v1/list", ALL, None, &few).await), (409, "shrinks"));
    let twice = center.post("/v1/list", ALL, None, &body(json!([card(OLD, "h1"), card(OLD, "h2")]))).await;
    assert_eq!((error(&twice), &twice.body["error"]["field"]), ((400, "invalid_field"), &json!("cards[1].uid")));
    let wrong = center.post("/v1/list", ALL, None, &body(json!([card(OLD, "h1"), card("tea", "h2")]))).await;
    assert_eq!(
        (error(&wrong), &wrong.body["error"]["field"]),
        ((400, "invalid_uid"), &json!("cards[1].uid")),
        "{}",
        wrong.body
    );
    let table = [
        (body(json!([])), (400, "invalid_field")),
        (json!({"gateway": "xing1"}), (400, "invalid_field")),
        (with(body(json!([card(OLD, "h1")])), "tea"), (400, "invalid_field")),
        (json!({"cards": [card(OLD, "h1")]}), (400, "invalid_field")),
        (json!({"gateway": "xing9", "cards": [card(OLD, "h1")]}), (404, "unknown_gateway")),
    ];
    for (wrong, expected) in table {
        assert_eq!(error(&center.post("/v1/list", ALL, None, &wrong).await), expected, "{wrong}");
    }
    assert_eq!(error(&center.post("/v1/list", SOME, None, &few).await), (403, "forbidden"));
    let last = center.post("/v1/list", ALL, None, &with(few, "allow_shrink")).await;
    assert_eq!(last.body["messages"][0]["seq"], json!(2), "no number was used by what was refused: {}", last.body);
    // The list counts before anything that is ordered after it, also after a kill.
    let center = center.kill_and_start().await;
    let list = center.get("/v1/gateways/xing1/list", ALL).await;
    let enrolled = |entry: &&Value| entry["entitlements"].is_array();
    assert_eq!(list.body["entries"].as_array().unwrap().iter().filter(enrolled).count(), 1, "{}", list.body);
    center.program.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs mosquitto; tests/run installs it"]
async fn watch_shows_states_acks_alarms_and_audit_events_of_the_service() {
    let site = site().await;
    let center = Center::start(&site.hub.url(), &["xing1", "xing2"]).await;
    let gateway = start_gateway(&site).await;
    center.connected().await;
    center.until("/v1/gateways/xing1", |body| body["state"]["state"] == "online").await;
    let at = At::service(&center, "all.token");
    let mut watch = tokio::process::Command::new(env!("CARGO_BIN_EXE_dormgate"))
        .args(["center", "watch"])
        .args(&at.0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    let mut seen = Vec::new();
    let mut shown = async |what: &str| {
        let line = within(what, async {
            loop {
                let line = lines.next_line().await.unwrap().expect("it goes on");
                seen.push(line.clone());
                if line.contains(what) {
                    return line;
                }
            }
        });
        line.await
    };
    let state = shown("state online; 0 cards").await;
    assert!(state.starts_with("xing1 "), "{state}");
    let answer = center.change(Some("xing1"), json!([issue(OLD, "h1"), enrol(OLD, "h1")])).await;
    assert_eq!(answer.status, 202, "xing2 is not there: {}", answer.body);
    shown("ack card-office 1.1 applied").await;
    shown("state online; 1 card; card-office 1.1 agrees; apartment 1.1 agrees").await;
    site.present(GATE, OLD).await;
    let decision = shown(&format!("decision {GATE} {OLD} h1 grant")).await;
    assert!(decision.starts_with("xing1            #"), "{decision}");
    watch.kill().await.unwrap();
    gateway.stop().await;
    center.program.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs `script` of Debian's bsdutils, for a terminal"]
async fn at_a_terminal_it_is_shown_how_much_of_a_list_the_broker_has() {
    let center = Center::start(NO_BROKER, &["xing1"]).await;
    let list = sheet(center.dir.path(), "list.csv", &[&format!("{OLD},h1,*,412")]);
    let at = At::service(&center, "all.token");
    let args = ["load", list.to_str().unwrap(), "--gateway", "xing1", "--wait", "1"];
    let words = [&["center"], &args[..]].concat().into_iter().chain(at.0.iter().map(String::as_str));
    let line = words.fold(env!("CARGO_BIN_EXE_dormgate").to_owned(), |line, word| format!("{line} {word}"));
    let mut script = tokio::process::Command::new("script");
    let script = script.args(["-qec", &line, "/dev/null"]).env("RUST_LOG", "off").stdin(Stdio::null()).output();
    let output = within("a load at a terminal", script).await.unwrap();
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(shown.contains("`xing1`: messages sent 0 of 2") && shown.contains("\r\u{1b}[K"), "{shown}");
    // Where nobody watches, nothing of it is written.
    let more = sheet(center.dir.path(), "more.csv", &[&format!("{OLD},h1,*,412"), "04AABBCCDDEE01,h2,*,"]);
    let (_, out, err) = at.run(&["load", more.to_str().unwrap(), "--gateway", "xing1", "--wait", "1"]).await;
    assert!(!out.contains("messages sent") && !err.contains("messages sent"), "{out}{err}");
    center.program.stop().await;
}
