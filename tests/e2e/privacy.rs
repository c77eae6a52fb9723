//! What the program keeps to itself: whole UIDs are in no log line and no metric.

use serde_json::json;

use crate::center::{enrol, issue, portal, reissue};
use crate::program::{Program, page_by_socket};
use crate::site::{BOX, GATE, Site};

const OLD: &str = "1EA68671";
const NEW: &str = "04A1B2C3D4E5F6";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_life_of_a_card_leaves_no_uid_in_the_log_and_the_metrics() {
    let mut site = Site::new().await;
    site.extra.push_str("[http]\nlisten = \"127.0.0.1:0\"\n");
    let mark = site.peer.mark();
    let gateway = Program::run_logging(&site.config(), "debug,sled=warn");
    site.online(mark, &gateway).await;
    site.report_cards(json!([issue(OLD, "h1"), issue("0102030405060F", "h2")])).await;
    site.report_rooms(json!([enrol(OLD, "h1")])).await;
    for at in [GATE, "door-412", BOX] {
        assert_eq!(site.reason(at, OLD).await, "granted");
    }
    let inserted = json!({"online": true, "card_present": true, "uid": OLD, "relay": true});
    site.peer.report(&portal(BOX, "state"), inserted.to_string()).await;
    site.report_cards(json!([reissue("h1", NEW, OLD)])).await;
    site.expect_everywhere(OLD, "replaced").await;
    site.peer.report(&portal(BOX, "state"), "rubbish 1EA68671".to_owned()).await;
    site.peer.report(&portal("gate-77", "request"), json!({"v": 1, "id": "1", "uid": OLD}).to_string()).await;
    site.expect_everywhere(NEW, "not_enrolled").await;
    let metrics = {
        let (status, text) = page_by_socket(&site.socket(), "/metrics").await;
        assert_eq!(status, 200);
        text
    };
    let log = gateway.stop().await;
    assert!(log.contains("DEBUG"), "{log}");
    for uid in [OLD, NEW] {
        let lines: Vec<_> =
            log.lines().chain(metrics.lines()).filter(|line| line.to_uppercase().contains(uid)).collect();
        assert!(lines.is_empty(), "{lines:#?}");
    }
}

/// Whether a file below `dir` contains one of these texts; which.
fn in_clear(dir: &std::path::Path, texts: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(in_clear(&path, texts));
        } else if path.is_file() {
            let bytes = std::fs::read(&path).unwrap();
            let has = |text: &&&str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
            found.extend(texts.iter().filter(has).map(|text| format!("{text} in {}", path.display())));
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_hashes_and_encryption_a_restart_goes_on_and_a_holder_is_erased_from_a_chain_that_stays_whole() {
    let mut site = Site::new().await;
    std::fs::write(site.dir().join("key"), "a secret of 32 characters or more").unwrap();
    site.extra.push_str(
        "[audit]\nack = \"broker\"\nuid = \"hashed\"\nuid_key_file = \"key\"\n[store]\nencrypt = true\nkey_file = \"key\"\n",
    );
    let gateway = site.start().await;
    site.report_cards(json!([issue(OLD, "h1"), issue(NEW, "h2")])).await;
    site.report_rooms(json!([enrol(OLD, "h1"), enrol(NEW, "h2")])).await;
    let mark = site.peer.mark();
    assert_eq!(site.reason(BOX, OLD).await, "granted");
    let inserted = json!({"online": true, "card_present": true, "uid": OLD, "relay": true});
    site.peer.report(&portal(BOX, "state"), inserted.to_string()).await;
    site.event(mark, "the hash of the card", |event| {
        event["type"] == "power_on" && event["uid"].as_str().is_some_and(|uid| uid.starts_with("h:"))
    })
    .await;
    gateway.stop().await;
    assert_eq!(in_clear(&site.data(), &[OLD, "\"h1\"", "issue"]), Vec::<String>::new());

    // The box is on by the card that lies in it: revoked, it is cut.
    let gateway = site.start().await;
    let ack = site.report_cards(json!([reissue("h1", "5C0DE001", OLD)])).await;
    assert_eq!((&ack["revoked"], &ack["cut"]), (&json!([OLD]), &json!([BOX])), "{ack}");
    // What a center is sent at once has the hash, too.
    let mark = site.peer.mark();
    assert_eq!(site.reason(GATE, OLD).await, "replaced");
    let alarm = site.alarm(mark, "dead_card").await;
    assert!(alarm["uid"].as_str().is_some_and(|uid| uid.starts_with("h:")), "{alarm}");
    let tail = crate::proof::printed(&site, &["audit", "tail", "--uid", OLD]).await;
    assert!(tail.contains(" power_on power-412 h:") && !tail.contains(OLD), "{tail}");

    // Everything so far is with the broker when the erasure reports that nothing is kept.
    let erased = loop {
        let erased = crate::proof::printed(&site, &["audit", "erase", "--holder", "h1", "--actor", "office"]).await;
        if !erased.contains(" are kept ") {
            break erased;
        }
    };
    assert!(erased.contains("of holder `h1` are erased, ordered by office"), "{erased}");
    let verified = crate::proof::printed(&site, &["audit", "verify"]).await;
    assert!(verified.contains(" of them erased"), "{verified}");
    let left = crate::proof::printed(&site, &["audit", "export", "--holder", "h1"]).await;
    assert!(left.lines().all(|line| line.contains(r#""mark":"passages_erased""#)), "the orders alone: {left}");
    let others = crate::proof::printed(&site, &["audit", "tail", "--type", "config"]).await;
    assert!(others.contains("office orders the events of holder `h1` to be erased"), "{others}");
    gateway.stop().await;
    let gateway = site.start().await;
    site.expect_everywhere(OLD, "replaced").await;
    assert_eq!(site.reason(GATE, NEW).await, "granted");
    gateway.stop().await;

    // Without its key it does not start, and nothing is lost.
    site.extra = site.extra.replace("encrypt = true", "encrypt = false");
    let mut without = site.launch();
    without.logged("is encrypted").await;
    assert_ne!(without.ended().await.code(), Some(0));
}
