//! The center that an office runs, as a child process on a real broker, with a gateway and a client that knows only the API.

use std::num::NonZeroU32;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::center::{down, enrol, issue, reissue};
use crate::mosquitto::{Mosquitto, Rules};
use crate::program::within;
use crate::rig::{ALL, Center, NEW, NO_BROKER, OLD, SOME, command, error, exchange, prepared, site, start_gateway};
use crate::site::GATE;
use dormgate::access::credential::Enrolment;
use dormgate::center::database::{Database, Retention};
use dormgate::center::{Published, PublishedKind};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs mosquitto; tests/run installs it"]
async fn a_reissue_posted_to_the_center_ends_the_old_card_at_the_gate() {
    let site = site().await;
    let center = Center::start(&site.hub.url(), &["xing1"]).await;
    let gateway = start_gateway(&site).await;
    center.connected().await;
    let answer = center.change(Some("xing1"), json!([issue(OLD, "h1"), enrol(OLD, "h1")])).await;
    assert_eq!((answer.status, answer.body["acks"].as_array().unwrap().len()), (200, 2), "{}", answer.body);
    assert_eq!(site.reason(GATE, OLD).await, "granted");

    let listening = TcpStream::connect(&center.address).await.unwrap();
    let mut listening = BufReader::new(listening);
    let ask = format!("GET /v1/events HTTP/1.1\r\nHost: center\r\nAuthorization: Bearer {ALL}\r\n\r\n");
    listening.get_mut().write_all(ask.as_bytes()).await.unwrap();
    let mut events = listening.lines();
    within("the head of the events", async { while !events.next_line().await.unwrap().unwrap().is_empty() {} }).await;

    let answer = center.change(None, json!([reissue("h1", NEW, OLD)])).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(answer.body["messages"], json!([{"to": "campus", "stream": "card-office", "epoch": 1, "seq": 2}]));
    assert_eq!(answer.body["acks"][0]["revoked"], json!([OLD]), "{}", answer.body);
    assert_eq!(site.reason(GATE, OLD).await, "replaced");
    let received = async { while events.next_line().await.unwrap().unwrap() != "event: ack" {} };
    within("the ack among the events", received).await;

    let card = center.get(&format!("/v1/cards/{OLD}"), ALL).await;
    assert_eq!((card.status, &card.body["dead"]), (200, &json!(true)), "{}", card.body);
    let holder = center.get("/v1/holders/h1", ALL).await;
    let cards: Vec<&Value> = holder.body["cards"].as_array().unwrap().iter().map(|card| &card["uid"]).collect();
    assert_eq!(cards, [&json!(OLD), &json!(NEW)], "{}", holder.body);
    let denied = |page: &Value| page["items"].as_array().unwrap().iter().any(|i| i["item"]["reason"] == "replaced");
    center.until(&format!("/v1/audit?uid={OLD}&type=decision"), denied).await;
    let proven = |proof: &Value| proof["gateways"][0]["known_by"] == "audit";
    let proof = center.until(&format!("/v1/cards/{OLD}/proof"), proven).await;
    let at = &proof["gateways"][0];
    assert_eq!((&proof["dead"], &at["seq"], &proof["unknown"]), (&json!(true), &json!(2), &json!([])), "{proof}");
    assert!(at["dead_since"].is_string(), "{proof}");
    let acks = center.until("/v1/acks?stream=card-office&seq=2", |page| page["items"] != json!([])).await;
    assert_eq!(acks["items"][0]["item"]["outcome"], "applied", "{acks}");
    let has_all = |body: &Value| {
        let applied = |name: &str| {
            let streams = body["state"]["streams"].as_array().cloned().unwrap_or_default();
            streams.iter().find(|s| s["name"] == name).map(|s| (s["seq"].clone(), s["missing"].clone()))
        };
        applied("card-office") == Some((json!(2), json!(0))) && applied("apartment") == Some((json!(1), json!(0)))
    };
    center.until("/v1/gateways/xing1", has_all).await;

    let by = |actor: &str| json!({"gateway": "xing1", "command": "release", "portal": GATE, "actor": actor});
    for actor in ["staff\u{202E}77", "staff\u{61C}77", "staff\n77", ""] {
        let refused = center.post("/v1/commands", ALL, None, &by(actor)).await;
        assert_eq!((refused.status, &refused.body["error"]["field"]), (400, &json!("actor")), "{}", refused.body);
    }
    let release = by("staff:77");
    let reply = center.post("/v1/commands", ALL, None, &release).await;
    assert_eq!((reply.status, &reply.body["status"]), (200, &json!("ok")), "{}", reply.body);
    // The gateway's audit has who was at the counter, and which client vouches for it.
    let shown = |one: &Value| one["item"]["detail"].as_str().is_some_and(|text| text.contains("by all:staff:77 of"));
    let is_named = |page: &Value| page["items"].as_array().is_some_and(|items| items.iter().any(shown));
    center.until("/v1/audit?gateway=xing1&type=command", is_named).await;
    gateway.stop().await;
    center.program.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs mosquitto; tests/run installs it"]
async fn a_key_names_one_request_and_a_client_does_only_what_it_may() {
    let broker = Mosquitto::start(Rules::default());
    let center = Center::start(&broker.url().to_string(), &["xing1", "xing2"]).await;
    let body = json!({"gateway": "xing1", "ops": [enrol(OLD, "h1")]});
    let first = center.post("/v1/changes", SOME, Some("k1"), &body).await;
    assert_eq!((first.status, &first.body["messages"][0]["seq"]), (202, &json!(1)), "{}", first.body);
    let again = center.post("/v1/changes", SOME, Some("k1"), &body).await;
    assert_eq!((again.status, &again.body["messages"]), (202, &first.body["messages"]));
    let other = json!({"gateway": "xing1", "ops": [enrol(NEW, "h1")]});
    assert_eq!(error(&center.post("/v1/changes", SOME, Some("k1"), &other).await), (409, "idempotency_conflict"));
    let of_another = center.post("/v1/changes", ALL, Some("k1"), &other).await;
    assert_eq!(of_another.body["messages"][0]["seq"], json!(2), "a key is of one client");

    // Nothing is known of a gateway that has not answered, and a card that nobody ended is not dead.
    let lost = center.post("/v1/changes", ALL, None, &json!({"ops": [{"op": "report_lost", "uid": NEW}]})).await;
    assert_eq!(lost.status, 202, "{}", lost.body);
    let proof = center.get(&format!("/v1/cards/{NEW}/proof"), ALL).await;
    assert_eq!(
        (&proof.body["dead"], &proof.body["unknown"]),
        (&json!(true), &json!(["xing1", "xing2"])),
        "{}",
        proof.body
    );
    let proof = center.get(&format!("/v1/cards/{OLD}/proof"), ALL).await;
    assert_eq!(proof.body, json!({"uid": OLD, "dead": false, "gateways": [], "unknown": []}));

    let forbidden = json!({"gateway": "xing1", "ops": [{"op": "withdraw", "uid": OLD}]});
    assert_eq!(error(&center.post("/v1/changes", SOME, None, &forbidden).await), (403, "forbidden_op"));
    let elsewhere = json!({"gateway": "xing2", "ops": [enrol(OLD, "h1")]});
    assert_eq!(error(&center.post("/v1/changes", SOME, None, &elsewhere).await), (403, "forbidden_gateway"));
    let nowhere = json!({"gateway": "xing3", "ops": [enrol(OLD, "h1")]});
    assert_eq!(error(&center.post("/v1/changes", ALL, None, &nowhere).await), (404, "unknown_gateway"));
    let wrong = json!({"gateway": "xing1", "ops": [enrol(OLD, "h1"), {"op": "enrol", "uid": "tea", "holder": "h1", "entitlements": []}]});
    let answer = center.post("/v1/changes", ALL, None, &wrong).await;
    assert_eq!(error(&answer), (400, "invalid_uid"));
    assert_eq!(answer.body["error"]["op"], json!(1), "{}", answer.body);
    let unaddressed = json!({"ops": [enrol(OLD, "h1")]});
    assert_eq!(error(&center.post("/v1/changes", ALL, None, &unaddressed).await), (400, "invalid_field"));
    let too_long = center.post("/v1/changes?wait_ms=60001", ALL, None, &other).await;
    assert_eq!(error(&too_long), (400, "invalid_field"), "{}", too_long.body);
    let empty = center.post("/v1/changes", ALL, None, &json!({"gateway": "xing1", "ops": []})).await;
    assert_eq!(error(&empty), (400, "invalid_field"), "{}", empty.body);
    let long_key = center.post("/v1/changes", ALL, Some(&"k".repeat(129)), &other).await;
    assert_eq!(error(&long_key), (400, "invalid_field"), "{}", long_key.body);
    let release = json!({"gateway": "xing1", "command": "release", "portal": GATE});
    assert_eq!(error(&center.post("/v1/commands", SOME, None, &release).await), (403, "forbidden_op"));
    assert_eq!(error(&center.get("/v1/gateways/xing2", SOME).await), (403, "forbidden_gateway"));
    assert_eq!(error(&center.get("/v1/gateways", "guessed-0123456789abcdef").await), (401, "unauthorized"));
    assert_eq!(error(&center.get("/v1/nothing", ALL).await), (404, "not_found"));

    // After all that the numbers have no hole, and the file may be read by others while the center runs.
    let last = center.post("/v1/changes", ALL, None, &other).await;
    assert_eq!(last.body["messages"][0]["seq"], json!(3), "{}", last.body);
    let file = rusqlite::Connection::open(center.dir.path().join("center.db")).unwrap();
    let mut query =
        file.prepare("SELECT json_extract(claims, '$.seq') FROM message WHERE audience = 'xing1' ORDER BY id").unwrap();
    let seqs: Vec<i64> = query.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    assert_eq!(seqs, [1, 2, 3]);
    center.program.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs mosquitto; tests/run installs it"]
async fn what_gateways_publish_while_the_center_is_down_is_kept_when_it_is_back() {
    let site = site().await;
    let center = Center::start(&site.hub.url(), &["xing1"]).await;
    center.connected().await;
    let Center { dir, program, .. } = center;
    program.kill().await;
    // What gateways send again, or replace, takes none of the places that the broker has for the center: a stock mosquitto has 1000.
    for leaf in ["audit", "resync", "state", "reply"] {
        for _ in 0..300 {
            site.peer.report(&format!("dormgate/v1/xing1/up/{leaf}"), "{}".to_owned()).await;
        }
    }
    for seq in 1..=40 {
        site.peer.report("dormgate/v1/xing1/up/ack", ack(seq)).await;
    }
    let (program, address) = Center::launch(&dir).await;
    let center = Center { dir, program, address };
    let has_all = |page: &Value| page["items"].as_array().is_some_and(|items| items.len() == 40);
    center.until("/v1/acks?stream=apartment&limit=100", has_all).await;
    center.program.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs mosquitto; tests/run installs it"]
async fn what_the_center_could_not_note_before_it_died_is_sent_to_it_again() {
    let site = site().await;
    let center = Center::start(&site.hub.url(), &["xing1"]).await;
    center.connected().await;
    // Somebody else writes to the database, for longer than the center waits for it.
    let other = rusqlite::Connection::open(center.dir.path().join("center.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    for seq in 1..=5 {
        site.peer.report("dormgate/v1/xing1/up/ack", ack(seq)).await;
    }
    center.program.logged("database is locked").await;
    let Center { dir, program, .. } = center;
    program.kill().await;
    other.execute_batch("ROLLBACK").unwrap();
    let (program, address) = Center::launch(&dir).await;
    let center = Center { dir, program, address };
    // The broker has them still, because the center acknowledges to it what is on disk.
    let has_all = |page: &Value| page["items"].as_array().is_some_and(|items| items.len() == 5);
    center.until("/v1/acks?stream=apartment&limit=100", has_all).await;
    center.program.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs mosquitto; tests/run installs it"]
async fn a_list_that_was_stored_and_not_sent_when_the_center_died_is_sent_at_its_next_start() {
    let site = site().await;
    let gateway = start_gateway(&site).await;
    // A center that has stored a list, and ends before it has a connection.
    let stored = |dir: &Path| {
        let at = dormgate::config::load_center(&dir.join("center.toml")).unwrap();
        let retention = Retention { audit_days: 1, acks_days: 1, requests_days: 1 };
        let database = Database::open(&at.data_file, NonZeroU32::MIN, retention).unwrap();
        let mut center = dormgate::center::Center::new(database, at.streams, at.gateways).unwrap();
        let list = (0..2_000_u32).map(|n| (format!("5C{n:06X}").parse().unwrap(), enrolment(n)));
        let now = dormgate::clock::Clock::system().now().wall;
        let loaded = center.load(Some(&"xing1".parse().unwrap()), &list.collect(), true, now).unwrap();
        assert!(loaded.messages.len() > 1);
    };
    let mark = site.peer.mark();
    let center = Center::start_prepared(&site.hub.url(), &["xing1"], stored).await;
    let applied = |body: &Value| {
        let streams = body["state"]["streams"].as_array().cloned().unwrap_or_default();
        streams.iter().any(|s| s["name"] == "apartment" && s["seq"] == 1 && s["missing"] == 0)
    };
    center.until("/v1/gateways/xing1", applied).await;
    // What was stored, and not a snapshot that was made because the gateway asked.
    let is_stored = |payload: &[u8]| {
        let text = String::from_utf8_lossy(payload).into_owned();
        let claims = text.split('.').nth(1).and_then(|claims| URL_SAFE_NO_PAD.decode(claims).ok()).unwrap_or_default();
        serde_json::from_slice::<Value>(&claims).is_ok_and(|claims| claims["snapshot"] == "1.1-list")
    };
    let parts = site.peer.since(mark);
    let parts = parts.iter().filter(|r| r.topic == down("snapshot") && is_stored(&r.payload)).count();
    assert!(parts > 1, "{parts} parts\n{}", site.peer.shown(mark));
    gateway.stop().await;
    // Once the broker has all parts, a start sends none of them again.
    let center = center.kill_and_start().await;
    center.connected().await;
    let mark = site.peer.mark();
    let change = json!({"gateway": "xing1", "ops": [enrol(OLD, "h1")]});
    center.post("/v1/changes", ALL, None, &change).await;
    let published = |topic: &str| topic == down("changes");
    site.peer.find(mark, "the change", |r| published(&r.topic).then_some(())).await;
    let is_part = |topic: &str| topic == down("snapshot");
    assert!(!site.peer.since(mark).iter().any(|received| is_part(&received.topic)), "{}", site.peer.shown(mark));
    center.program.stop().await;
}

/// A gateway's acknowledgement.
fn ack(seq: u64) -> String {
    let at = "2026-09-01T08:00:00.000+08:00";
    let ack = json!({
        "v": 1, "stream": "apartment", "epoch": 1, "seq": seq, "outcome": "applied", "applied_through": seq,
        "missing": [], "errors": [], "revoked": [], "cut": [], "received_at": at, "durable_at": at,
    });
    ack.to_string()
}

fn enrolment(n: u32) -> Enrolment {
    Enrolment::resident(format!("h{n}").parse().unwrap(), Vec::new())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_of_the_query_that_is_not_known_is_refused_before_anything_is_done() {
    let center = Center::start("mqtt://127.0.0.1:9", &["xing1"]).await;
    let body = json!({"ops": [issue(OLD, "h1")]});
    let posted = [("/v1/changes?wait=1", &body), ("/v1/gateways/xing1/compare?wait=1", &json!({"streams": []}))];
    for (path, body) in posted {
        assert_eq!(error(&center.post(path, ALL, None, body).await), (400, "invalid_field"), "{path}");
    }
    let paths = [
        "/v1/gateways",
        "/v1/gateways/xing1",
        "/v1/gateways/xing1/list",
        "/v1/gateways/xing1/behind",
        "/v1/delivery",
        "/v1/holders/h1",
        "/v1/cards/1EA68671",
        "/v1/cards/1EA68671/proof",
        "/v1/acks",
        "/v1/alarms",
        "/v1/audit",
        "/v1/changes",
        "/v1/search",
        "/v1/events",
        "/v1/openapi.json",
    ];
    for path in paths {
        let refused = center.get(&format!("{path}?foo=1"), ALL).await;
        assert_eq!(error(&refused), (400, "invalid_field"), "{path}: {}", refused.body);
    }
    let first = center.post("/v1/changes", ALL, None, &body).await;
    assert_eq!(first.body["messages"][0]["seq"], json!(1), "nothing was published before");
    center.program.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_input_is_named_in_one_sentence_with_what_is_wanted() {
    let center = Center::start("mqtt://127.0.0.1:9", &["xing1"]).await;
    for path in ["/v1/changes", "/v1/commands"] {
        let wrong = center.post(path, ALL, None, &json!([])).await;
        assert_eq!(error(&wrong), (400, "invalid_field"), "{path}");
        let message = wrong.body["error"]["message"].as_str().unwrap();
        assert_eq!(message, "the body: not a JSON object: an object in braces is wanted", "{path}");
    }
    let wrong = center.get("/v1/audit?type=desicion", ALL).await;
    assert_eq!((error(&wrong), &wrong.body["error"]["field"]), ((400, "invalid_field"), &json!("type")));
    assert!(wrong.body["error"]["message"].as_str().unwrap().contains("did you mean `decision`?"), "{}", wrong.body);
    let wrong = center.get("/v1/audit?type=x", ALL).await;
    assert!(wrong.body["error"]["message"].as_str().unwrap().contains("known: decision, taken"), "{}", wrong.body);
    assert_eq!(center.get("/v1/audit?type=decision", ALL).await.status, 200);
    center.program.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_method_that_a_path_does_not_have_is_refused_as_everything_else_is() {
    let center = Center::start("mqtt://127.0.0.1:9", &["xing1"]).await;
    for (target, allowed) in
        [("DELETE /v1/changes", "GET,HEAD,POST"), ("POST /v1/gateways", "GET,HEAD"), ("GET /v1/list", "POST")]
    {
        let (head, answer) = exchange(&center.address, target, "", b"").await.unwrap();
        assert_eq!(error(&answer), (405, "method_not_allowed"), "{target}: {}", answer.body);
        let allow = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("allow: ").map(str::to_owned));
        let mut allow: Vec<String> = allow.unwrap().split(',').map(|one| one.trim().to_uppercase()).collect();
        allow.sort();
        assert_eq!(allow.join(","), allowed, "{target}");
    }
    center.program.stop().await;
}

#[tokio::test]
async fn check_names_what_is_not_encrypted() {
    for (listen, url, insecure) in [
        ("127.0.0.1:8490", "mqtts://broker.example", ""),
        ("0.0.0.0:8490", "mqtt://127.0.0.1", "insecure: http: 0.0.0.0:8490 is not encrypted\n"),
        ("127.0.0.1:8490", "mqtt://192.0.2.1", "insecure: broker: mqtt://192.0.2.1:1883 is not encrypted\n"),
    ] {
        let prepare = |dir: &Path| {
            let file = dir.join("center.toml");
            let text = std::fs::read_to_string(&file).unwrap();
            let text = text.replace("listen = \"127.0.0.1:0\"", &format!("listen = \"{listen}\""));
            std::fs::write(file, text).unwrap();
        };
        let dir = prepared(url, &["xing1"], prepare);
        let file = dir.path().join("center.toml").display().to_string();
        let (code, out, err) = command(&["serve", "--check", "--config", &file]).await;
        assert_eq!((code, err.as_str()), (0, ""), "{out}");
        assert_eq!(out, format!("{file}: right; 2 streams, 1 gateways, 2 clients\n{insecure}"));
    }
}

#[tokio::test]
async fn check_names_a_key_of_two_streams_and_a_center_that_acknowledges_no_audit() {
    let change = |from: &'static str, to: &'static str| {
        move |dir: &Path| {
            let file = dir.join("center.toml");
            let text = std::fs::read_to_string(&file).unwrap();
            assert!(text.contains(from));
            std::fs::write(file, text.replace(from, to)).unwrap();
        }
    };
    let check = async |dir: tempfile::TempDir| {
        let file = dir.path().join("center.toml").display().to_string();
        let (code, out, err) = command(&["serve", "--check", "--config", &file]).await;
        assert_eq!((code, err.as_str()), (0, ""), "{out}");
        out.lines().skip(1).map(str::to_owned).collect::<Vec<_>>()
    };
    let same = prepared("mqtt://127.0.0.1", &["xing1"], change("\"apartment.key\"", "\"card-office.key\""));
    let both = "insecure: stream apartment: has the key of card-office, so whoever holds it publishes as both; make a key for each";
    assert_eq!(check(same).await, [both]);
    let silent = prepared("mqtt://127.0.0.1", &["xing1"], change(", \"command\"", ""));
    let note = "note: no stream has `command` in `may`: the gateways' audit is kept here, and another center has to acknowledge it";
    assert_eq!(check(silent).await, [note]);
}

#[tokio::test]
async fn a_gateway_is_compared_by_its_newest_state_where_the_request_has_none() {
    let filled = |dir: &Path| {
        let at = dormgate::config::load_center(&dir.join("center.toml")).unwrap();
        let retention = Retention { audit_days: 1, acks_days: 1, requests_days: 1 };
        let database = Database::open(&at.data_file, NonZeroU32::MIN, retention).unwrap();
        let mut center = dormgate::center::Center::new(database, at.streams, at.gateways).unwrap();
        let now = dormgate::clock::Clock::system().now().wall;
        let ops = dormgate::wire::down::read_ops(r#"[{"op":"issue","uid":"1EA68671","holder":"h1"}]"#).unwrap();
        center.publish_ops(None, &ops, now).unwrap();
        let stream = json!({"name": "card-office", "epoch": 1, "seq": 1, "missing": 0});
        let online = json!({"v": 1, "state": "online", "streams": [stream]});
        for (gateway, state) in [("g1", online), ("g2", json!({"v": 1, "state": "offline", "boot": "b", "conn": 1}))] {
            let (gateway, kind) = (gateway.parse().unwrap(), PublishedKind::State);
            center.keep(&[Published { gateway, received_at: now, kind, body: state.to_string() }], &[]).unwrap();
        }
    };
    let center = Center::start_prepared(NO_BROKER, &["g1", "g2", "g3"], filled).await;
    let compare = async |gateway: &str, body: Value| {
        center.post(&format!("/v1/gateways/{gateway}/compare"), ALL, None, &body).await
    };
    assert_eq!(compare("g1", json!({})).await.body["streams"][0]["agreement"], "no_digest");
    assert_eq!(compare("g1", json!({"streams": []})).await.body["streams"][0]["agreement"], "not_received");
    for gateway in ["g2", "g3"] {
        let refused = compare(gateway, json!({})).await;
        assert_eq!((refused.status, &refused.body["error"]["field"]), (400, &json!("streams")), "{}", refused.body);
    }
    let refused = center.get("/v1/acks?outcome=x", ALL).await;
    let message = refused.body["error"]["message"].as_str().unwrap();
    assert_eq!((refused.status, message), (400, "`outcome` is `applied`, `duplicate`, `stale` or `rejected`"));
    center.program.stop().await;
}
