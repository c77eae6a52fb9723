//! The life of a card, from its issue to its successor.

use serde_json::json;

use crate::center::{cancel, enrol, issue, portal, reissue};
use crate::site::{BOX, GATE, Site};

const OLD: &str = "1EA68671";
const NEW: &str = "04A1B2C3D4E5F6";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_card_issued_and_enrolled_by_two_offices_opens_until_it_is_replaced_and_its_successor_opens_once_enrolled() {
    let mut site = Site::new().await;
    let gateway = site.start().await;
    site.expect_everywhere(OLD, "unknown_credential").await;
    let ack = site.report_cards(json!([issue(OLD, "08193021")])).await;
    assert_eq!((&ack["outcome"], &ack["applied_through"]), (&json!("applied"), &json!(1)), "{ack}");
    site.expect_everywhere(OLD, "not_enrolled").await;
    let ack = site.report_rooms(json!([enrol(OLD, "08193021")])).await;
    assert_eq!((&ack["outcome"], &ack["revoked"]), (&json!("applied"), &json!([])), "{ack}");
    let gate = site.present(GATE, OLD).await;
    assert_eq!((&gate["decision"], &gate["hold_ms"]), (&json!("grant"), &json!(3000)), "{gate}");
    assert_eq!(site.reason("door-412", OLD).await, "granted");
    let power = site.present(BOX, OLD).await;
    assert_eq!((&power["decision"], power.get("hold_ms")), (&json!("grant"), None), "{power}");
    let inserted = json!({"online": true, "card_present": true, "uid": OLD, "relay": true, "power_w": 41.2});
    site.peer.report(&portal(BOX, "state"), inserted.to_string()).await;

    // Reissued while the old card keeps the lights on.
    let mark = site.peer.mark();
    let ack = site.report_cards(json!([reissue("08193021", NEW, OLD)])).await;
    let control = site
        .peer
        .find(mark, "power off", |received| (received.topic == portal(BOX, "control")).then(|| received.json.clone()))
        .await;
    assert_eq!((&control["action"], &control["reason"]), (&json!("power_off"), &json!("replaced")), "{control}");
    assert_eq!((&ack["revoked"], &ack["cut"]), (&json!([OLD]), &json!([BOX])), "{ack}");
    let (received, durable) = (ack["received_at"].as_str().unwrap(), ack["durable_at"].as_str().unwrap());
    assert!(received <= durable && received.ends_with('Z') && received.len() == 24, "{ack}");
    site.expect_everywhere(OLD, "replaced").await;
    site.expect_everywhere(NEW, "not_enrolled").await;
    site.report_rooms(json!([enrol(NEW, "08193021")])).await;
    site.expect_everywhere(NEW, "granted").await;
    site.expect_everywhere(OLD, "replaced").await;
    // An old enrolment that comes late does not bring it back.
    site.report_rooms(json!([enrol(OLD, "08193021")])).await;
    site.expect_everywhere(OLD, "replaced").await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_card_revoked_while_the_gateway_was_dead_loses_its_power_at_the_start_though_the_box_reports_nothing() {
    let mut site = Site::new().await;
    let gateway = site.start().await;
    site.report_cards(json!([issue(OLD, "h1"), issue(NEW, "h2")])).await;
    site.report_rooms(json!([enrol(OLD, "h1"), enrol(NEW, "h2")])).await;
    assert_eq!(site.reason(BOX, OLD).await, "granted");
    let inserted = json!({"card_present": true, "uid": OLD, "relay": true});
    let mark = site.peer.mark();
    site.peer.report(&portal(BOX, "state"), inserted.to_string()).await;
    site.event(mark, "the box is on", |event| event["type"] == "power_on").await;
    // Everything before this is on disk with it.
    site.report_rooms(json!([enrol(NEW, "h2")])).await;
    gateway.kill().await;

    let mark = site.peer.mark();
    let revocation = site.cards.next(&json!([cancel(OLD)]));
    site.peer.report(&site.cards.topic(), revocation).await;
    let gateway = site.start().await;
    let off = site
        .peer
        .find(mark, "power off", |received| (received.topic == portal(BOX, "control")).then(|| received.json.clone()))
        .await;
    assert_eq!(off["action"], "power_off", "{off}");
    let ack = site.ack(mark, "card-office", 2).await;
    assert_eq!((&ack["revoked"], &ack["cut"]), (&json!([OLD]), &json!([BOX])), "{ack}");
    // Nothing is switched on from memory, whoever may.
    let on = |received: &crate::peer::Received| {
        received.topic == portal(BOX, "control") && received.json["action"] == "power_on"
    };
    assert!(!site.peer.since(mark).iter().any(on), "{}", site.peer.shown(mark));
    gateway.stop().await;
}
