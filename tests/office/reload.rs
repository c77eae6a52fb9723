//! SIGHUP at a running center: its file is read again, all or nothing. No broker is needed to judge who asks, and one to reach a gateway
//! that was added.

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::center::{enrol, issue};
use crate::program::within;
use crate::rig::{ALL, Center, NEW, NO_BROKER, OLD, SOME, error, site, start_gateway};
use crate::site::GATE;

const NEW_CLIENT: &str = "new-0123456789abcdef0123";
const ROTATED: &str = "rotated-0123456789abcdef";

fn write(center: &Center, name: &str, text: &str) {
    std::fs::write(center.dir.path().join(name), text).unwrap();
}

fn config(center: &Center) -> String {
    std::fs::read_to_string(center.dir.path().join("center.toml")).unwrap()
}

/// `text` with another value for what it has exactly once.
fn with(text: &str, old: &str, new: &str) -> String {
    assert_eq!(text.matches(old).count(), 1, "{old}");
    text.replace(old, new)
}

/// A connection to `/v1/events` whose head was received.
async fn listen(center: &Center, token: &str) -> BufReader<TcpStream> {
    let mut stream = BufReader::new(TcpStream::connect(&center.address).await.unwrap());
    let ask = format!(
        "GET /v1/events HTTP/1.1\r\nHost: center\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\r\n"
    );
    stream.get_mut().write_all(ask.as_bytes()).await.unwrap();
    let mut line = String::new();
    let head = async {
        while line != "\r\n" {
            line.clear();
            stream.read_line(&mut line).await.unwrap();
            assert!(!line.starts_with("HTTP/1.1") || line.contains("200"), "{line}");
        }
    };
    within("the head of the events", head).await;
    stream
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_withdraws_a_token_and_adds_a_client() {
    let center = Center::start(NO_BROKER, &["xing1", "xing2"]).await;
    assert_eq!(center.get("/v1/gateways", SOME).await.status, 200);
    assert_eq!(error(&center.get("/v1/gateways", NEW_CLIENT).await), (401, "unauthorized"));
    let mut events = listen(&center, SOME).await;

    let text = with(
        &config(&center),
        "name = \"some\"\ntoken_file = \"some.token\"",
        "name = \"new\"\ntoken_file = \"new.token\"",
    );
    write(&center, "center.toml", &text);
    write(&center, "new.token", NEW_CLIENT);
    center.program.signal("HUP");
    center.program.logged("`new` added, `some` withdrawn").await;
    assert_eq!(error(&center.get("/v1/gateways", SOME).await), (401, "unauthorized"));
    assert_eq!(center.get("/v1/gateways", NEW_CLIENT).await.status, 200);
    assert_eq!(center.get("/v1/gateways", ALL).await.status, 200);
    // Who listened with the withdrawn token receives nothing any more.
    within("the end of the events", async { events.read_to_end(&mut Vec::new()).await.unwrap() }).await;

    // A token of its own file is replaced without a change of center.toml; a permission is taken away.
    write(&center, "all.token", ROTATED);
    write(&center, "center.toml", &with(&text, "[\"read\", \"enrol\"]", "[\"enrol\"]"));
    let mut events = listen(&center, NEW_CLIENT).await;
    center.program.signal("HUP");
    center.program.logged("`all` changed, `new` changed").await;
    assert_eq!(error(&center.get("/v1/gateways", ALL).await), (401, "unauthorized"));
    assert_eq!(center.get("/v1/gateways", ROTATED).await.status, 200);
    assert_eq!(error(&center.get("/v1/gateways", NEW_CLIENT).await), (403, "forbidden"));
    within("the end of the events", async { events.read_to_end(&mut Vec::new()).await.unwrap() }).await;
    center.program.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_file_changes_nothing_and_is_named_with_its_places() {
    let center = Center::start(NO_BROKER, &["xing1", "xing2"]).await;
    let good = config(&center);
    // Right in what it withdraws and adds, wrong in two other places.
    let text =
        with(&good, "name = \"some\"\ntoken_file = \"some.token\"", "name = \"new\"\ntoken_file = \"new.token\"");
    let text = with(&text, "may = [\"*\"]", "may = [\"raed\"]");
    let text = with(&text, "gateways = [\"xing1\"]", "gateways = [\"xing7\"]");
    write(&center, "center.toml", &text);
    write(&center, "new.token", NEW_CLIENT);
    center.program.signal("HUP");
    center.program.logged("nothing of the file is taken over").await;
    let log = center.program.log();
    for part in ["center.toml:", "client[0].may[0]", "did you mean `read`", "client[1].gateways[0]", "`xing7`"] {
        assert!(log.contains(part), "{part}: {log}");
    }
    assert_eq!(center.get("/v1/gateways", SOME).await.status, 200);
    assert_eq!(center.get("/v1/gateways/xing2", ALL).await.status, 200);
    assert_eq!(error(&center.get("/v1/gateways", NEW_CLIENT).await), (401, "unauthorized"));

    // What only a start takes over is named; the gateways and clients of the same file are served at once.
    let text = with(&good, "127.0.0.1:0", "127.0.0.1:9") + "[[gateway]]\nid = \"xing3\"\n";
    write(&center, "center.toml", &with(&text, "name = \"some\"", "name = \"other\""));
    center.program.signal("HUP");
    center.program.logged("changed in the file and not here: `http.listen`; restart the center").await;
    for part in ["file: `xing3` added", "file: `other` added, `some` withdrawn"] {
        assert!(center.program.log().contains(part), "{part}: {}", center.program.log());
    }
    assert_eq!(center.get("/v1/gateways", SOME).await.status, 200);
    assert_eq!(center.get("/v1/gateways/xing3", ALL).await.status, 200);
    assert!(!center.program.stop().await.contains("panicked"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs mosquitto; tests/run installs it"]
async fn a_gateway_is_added_withdrawn_and_added_again_without_a_restart() {
    let site = site().await;
    let center = Center::start(&site.hub.url(), &["xing2"]).await;
    center.connected().await;
    let without = config(&center);
    // The campus was published to before the gateway was there.
    let issued = center.post("/v1/changes", ALL, None, &json!({"ops": [issue(OLD, "h1")]})).await;
    assert_eq!((issued.status, &issued.body["waiting"].as_array().unwrap().len()), (202, &1), "{}", issued.body);
    let to_xing1 = json!({"gateway": "xing1", "ops": [enrol(OLD, "h1")]});
    assert_eq!(error(&center.post("/v1/changes", ALL, None, &to_xing1).await), (404, "unknown_gateway"));

    let with = without.clone() + "[[gateway]]\nid = \"xing1\"\n";
    write(&center, "center.toml", &with);
    center.program.signal("HUP");
    center.program.logged("the gateways are those of the file: `xing1` added").await;
    let gateway = start_gateway(&site).await;
    let answer = center.change(Some("xing1"), json!([enrol(OLD, "h1")])).await;
    assert_eq!((answer.status, &answer.body["acks"][0]["gateway"]), (200, &json!("xing1")), "{}", answer.body);
    // It asked for what it lacked of the campus, and its audit and state are kept.
    let has_all = |body: &Value| {
        let streams = body["state"]["streams"].as_array().cloned().unwrap_or_default();
        let has = |name: &str| streams.iter().any(|s| s["name"] == name && s["seq"] == 1 && s["missing"] == 0);
        has("card-office") && has("apartment")
    };
    center.until("/v1/gateways/xing1", has_all).await;
    assert_eq!(site.reason(GATE, OLD).await, "granted");
    let granted = |page: &Value| page["items"].as_array().is_some_and(|items| !items.is_empty());
    center.until("/v1/audit?gateway=xing1&type=decision", granted).await;

    write(&center, "center.toml", &without);
    center.program.signal("HUP");
    center.program.logged("the gateways are those of the file: `xing1` withdrawn").await;
    assert_eq!(error(&center.get("/v1/gateways/xing1", ALL).await), (404, "unknown_gateway"));
    let to_xing1 = json!({"gateway": "xing1", "ops": [enrol(NEW, "h1")]});
    assert_eq!(error(&center.post("/v1/changes", ALL, None, &to_xing1).await), (404, "unknown_gateway"));
    // It decides on, and what the campus publishes reaches it.
    let mark = site.peer.mark();
    let issued = center.post("/v1/changes", ALL, None, &json!({"ops": [issue(NEW, "h1")]})).await;
    assert_eq!(issued.body["waiting"].as_array().unwrap().len(), 1, "only `xing2`: {}", issued.body);
    assert_eq!(site.ack(mark, "card-office", 2).await["outcome"], "applied");
    center.program.logged("a gateway that is not configured here publishes at this broker").await;

    write(&center, "center.toml", &with);
    center.program.signal("HUP");
    let is_added = |log: &str| log.matches("the gateways are those of the file: `xing1` added").count() == 2;
    within("the second addition", async {
        while !is_added(&center.program.log()) {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await;
    let answer = center.change(Some("xing1"), json!([enrol(NEW, "h1")])).await;
    assert_eq!((answer.status, &answer.body["messages"][0]["seq"]), (200, &json!(2)), "{}", answer.body);
    assert_eq!(site.reason(GATE, NEW).await, "granted");
    gateway.stop().await;
    center.program.stop().await;
}
