//! The example of a device in `deploy/examples`, against a gateway.

use std::path::Path;
use std::process::Output;

use serde_json::json;
use tokio::process::Command;

use crate::center::{GATEWAY, enrol, issue};
use crate::program::within;
use crate::site::{GATE, Site};

const CARD: &str = "1EA68671";

async fn presented(site: &Site, uid: &str) -> Output {
    let door = site.hub.door();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut python = Command::new(root.join("tests/.venv/bin/python"));
    python.arg(root.join("deploy/examples/gate.py")).args([&door.host, &door.port.to_string(), GATEWAY, GATE, uid]);
    within("the example ends", python.kill_on_drop(true).output()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the Python package paho-mqtt in tests/.venv; `tests/run` installs it"]
async fn the_gate_in_python_opens_for_who_may_and_reports_who_passed() {
    let mut site = Site::new().await;
    let gateway = site.start().await;
    let denied = presented(&site, CARD).await;
    assert_eq!(String::from_utf8_lossy(&denied.stdout), "deny unknown_credential\n", "{denied:?}");
    assert_eq!(denied.status.code(), Some(1));
    site.report_cards(json!([issue(CARD, "h1")])).await;
    site.report_rooms(json!([enrol(CARD, "h1")])).await;
    let mark = site.peer.mark();
    let granted = presented(&site, CARD).await;
    assert_eq!(String::from_utf8_lossy(&granted.stdout), "grant granted\n", "{granted:?}");
    assert_eq!(granted.status.code(), Some(0));
    site.event(mark, "the passage", |event| event["type"] == "taken" && event["portal"] == GATE).await;
    gateway.stop().await;
}
