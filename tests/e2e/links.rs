//! Brokers that come late, go away and forget: nothing old opens anything, nothing revoked is missed.

use serde_json::json;

use crate::center::{Office, cancel, down, enrol, issue, portal, up};
use crate::mosquitto::Rules;
use crate::peer::Received;
use crate::program::within;
use crate::site::{BOX, DOOR, GATE, Site};

const CARD: &str = "1EA68671";
const OTHER: &str = "04A1B2C3D4E5F6";

/// A card that may go everywhere.
async fn admit(site: &mut Site, uid: &str, holder: &str) {
    site.report_cards(json!([issue(uid, holder)])).await;
    site.report_rooms(json!([enrol(uid, holder)])).await;
}

async fn publish_head(site: &Site, office: &Office) {
    let head =
        office.sign(&office.claims(
            office.aud(),
            json!({"epoch": office.epoch, "seq": office.seq, "cards": 1, "digest": "0".repeat(64)}),
        ));
    let topic = format!("dormgate/v1/{}/down/head/{}", office.aud(), office.name);
    site.peer.report_retained(&topic, head).await;
}

fn opens(received: &Received) -> bool {
    let decision = received.topic.ends_with("/decision") && received.json["decision"] == "grant";
    let control = received.topic.ends_with("/control")
        && ["release", "power_on", "free"].iter().any(|action| received.json["action"] == *action);
    decision || control
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_sent_while_the_gateway_was_away_arrives_and_a_command_or_request_sent_then_does_nothing() {
    let mut site = Site::new().await;
    let gateway = site.start().await;
    admit(&mut site, CARD, "h1").await;
    assert_eq!(site.reason(GATE, CARD).await, "granted");
    gateway.stop().await;

    let away = site.peer.mark();
    let change = site.cards.next(&json!([{"op": "report_lost", "uid": CARD}]));
    site.peer.report(&site.cards.topic(), change).await;
    let release = site.rooms.command("while-away", json!({"command": "release", "portal": GATE}));
    site.peer.report(&down("command"), release).await;
    site.peer.report(&portal(DOOR, "request"), json!({"v": 1, "id": "old", "uid": CARD}).to_string()).await;

    let gateway = site.start().await;
    let ack = site.ack(away, "card-office", 2).await;
    assert_eq!((&ack["outcome"], &ack["revoked"]), (&json!("applied"), &json!([CARD])), "{ack}");
    assert_eq!(site.reason(GATE, CARD).await, "lost");
    assert_eq!(site.command("now", json!({"command": "query", "uid": CARD})).await["status"], "ok");
    let received = site.peer.since(away);
    assert!(!received.iter().any(opens), "{}", site.peer.shown(away));
    assert!(!received.iter().any(|h| h.topic.ends_with("/decision") && h.json["id"] == "old"));
    assert!(!received.iter().any(|h| h.topic == up("reply") && h.json["jti"] == "while-away"));
    gateway.stop().await;
}

/// Retained requests, commands and changes lie on the broker, and a change may have been lost with it.
async fn a_broker_restart(rules: Rules, kept: bool) {
    let mut site = Site::with(rules).await;
    let gateway = site.start().await;
    admit(&mut site, CARD, "h1").await;
    admit(&mut site, OTHER, "h2").await;
    for office in [&site.cards, &site.rooms] {
        publish_head(&site, office).await;
    }
    // Received live, so they count; they become old with the restart.
    let change = site.rooms.next(&json!([{"op": "set_posture", "portals": [DOOR], "posture": "secure"}]));
    let mark = site.peer.mark();
    site.peer.report_retained(&site.rooms.topic(), change).await;
    site.ack(mark, "apartment", 3).await;
    let command = site.rooms.command("kept", json!({"command": "release", "portal": GATE}));
    site.peer.report_retained(&down("command"), command).await;
    assert_eq!(site.reply(mark, "kept").await["status"], "ok");
    site.peer.report_retained(&portal(DOOR, "request"), json!({"v": 1, "id": "kept", "uid": CARD}).to_string()).await;
    site.peer
        .find(mark, "the live decision", |h| (h.topic.ends_with("/decision") && h.json["id"] == "kept").then_some(()))
        .await;
    gateway.stop().await;

    // Sent while the gateway is away; then the broker goes, with all it was reported or without.
    let away = site.peer.mark();
    let revocation = site.cards.next(&json!([cancel(CARD)]));
    site.peer.report(&site.cards.topic(), revocation.clone()).await;
    publish_head(&site, &site.cards).await;
    let before = site.peer.subscriptions();
    site.hub.stop().await;
    let back = site.peer.mark();
    site.hub.start_again().await;
    // The other end listens first: the ack of what the broker kept comes as soon as the gateway does.
    site.peer.subscribed(before + 1).await;
    let gateway = site.launch();
    gateway.logged("serving").await;
    site.online(away, &gateway).await;
    if !kept {
        // The center reports again how far it is, and answers on the gateway's own topic.
        publish_head(&site, &site.cards).await;
        let resync = site.resync(away, "card-office").await;
        assert_eq!((&resync["reason"], &resync["missing"]), (&json!("gap"), &json!([[3, 3]])), "{resync}");
        let again = site.cards.sign(&site.cards.numbered("xing1", 3, &json!([cancel(CARD)])));
        site.peer.report(&down("changes"), again).await;
    }
    let ack = site.ack(away, "card-office", 3).await;
    assert_eq!((&ack["outcome"], &ack["revoked"]), (&json!("applied"), &json!([CARD])), "{ack}");
    assert_eq!(site.reason(GATE, CARD).await, "cancelled");
    assert_eq!(site.reason(DOOR, OTHER).await, "granted");

    // And once more under the running gateway.
    let before = site.peer.subscriptions();
    let again = site.peer.mark();
    site.hub.stop().await;
    site.hub.start_again().await;
    site.peer.subscribed(before + 1).await;
    // Both links: what is output before the gateway listens, a forgetful broker reports nobody.
    site.online(again, &gateway).await;
    site.answered_again(GATE, CARD).await;
    assert_eq!(site.reason(GATE, CARD).await, "cancelled");
    assert_eq!(site.reason(GATE, OTHER).await, "granted");
    let ack = site.report_cards(json!([cancel(OTHER)])).await;
    assert_eq!(ack["applied_through"], 4, "{ack}");
    assert_eq!(site.reason(BOX, OTHER).await, "cancelled");
    let old = |h: &Received| opens(h) && (h.topic.ends_with("/control") || h.json["id"] == "kept");
    assert!(!site.peer.since(back).iter().any(old), "{}", site.peer.shown(back));
    if kept {
        for what in ["changes", "command", "request"] {
            let reported = format!("a retained {what} refused");
            let detail = |event: &serde_json::Value| event["detail"].as_str().unwrap_or_default().to_owned();
            site.event(back, &reported, |e| {
                e["type"] == "rejected_message" && e["reason"] == "retained" && detail(e).starts_with(what)
            })
            .await;
        }
    }
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_forgetful_broker_lost_is_asked_for_and_its_portals_are_answered_again() {
    a_broker_restart(Rules::default(), false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs mosquitto, which tests/run installs"]
async fn what_a_broker_kept_over_its_restart_arrives_and_nothing_old_opens() {
    a_broker_restart(Rules { persistent: true, ..Rules::default() }, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_started_before_its_broker_is_ready_and_serves_when_the_broker_comes() {
    let mut site = Site::new().await;
    let before = site.peer.subscriptions();
    site.hub.stop().await;
    let gateway = site.launch();
    gateway.logged("serving").await;
    let (status, _) = crate::program::page_by_socket(&site.socket(), "/readyz").await;
    assert_eq!(status, 200, "no center is needed to be ready");
    gateway.logged("refused (os error 111) link=\"uplink\"").await;
    gateway.logged("refused (os error 111) link=\"local\"").await;
    let links = async |site: &Site| {
        let (_, body) = crate::program::page_by_socket(&site.socket(), "/api/v1/status").await;
        let status: serde_json::Value = serde_json::from_str(&body).unwrap();
        let shown = dormgate::http::client::status_text(&status);
        shown.lines().filter(|line| line.starts_with("link ")).map(str::to_owned).collect::<Vec<_>>()
    };
    let down = links(&site).await;
    assert!(
        down.len() == 2 && down.iter().all(|line| line.contains(": not connected: ") && line.contains("refused")),
        "{down:?}"
    );
    let mark = site.peer.mark();
    site.hub.start_again().await;
    site.peer.subscribed(before + 1).await;
    site.online(mark, &gateway).await;
    let up = links(&site).await;
    assert!(up.len() == 2 && up.iter().all(|line| line.contains(": connected for ")), "{up:?}");
    admit(&mut site, CARD, "h1").await;
    site.expect_everywhere(CARD, "granted").await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_an_uplink_the_gateway_decides_from_its_store() {
    let mut site = Site::new().await;
    let gateway = site.start().await;
    admit(&mut site, CARD, "h1").await;
    admit(&mut site, OTHER, "h2").await;
    site.report_cards(json!([cancel(OTHER)])).await;
    gateway.stop().await;
    site.uplink = None;
    let gateway = site.start().await;
    site.expect_everywhere(CARD, "granted").await;
    site.expect_everywhere(OTHER, "cancelled").await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_reached_a_gateway_but_not_its_disk_is_delivered_again() {
    let mut site = Site::new().await;
    let gateway = site.start().await;
    admit(&mut site, CARD, "h1").await;
    // It stands still with the message in its hands, and then it is gone.
    gateway.signal("STOP");
    let mark = site.peer.mark();
    let change = site.cards.next(&json!([cancel(CARD)]));
    site.peer.report(&site.cards.topic(), change).await;
    gateway.kill().await;
    assert!(!site.peer.since(mark).iter().any(|h| h.topic == up("ack")), "nothing was acknowledged");
    let gateway = site.start().await;
    let ack = site.ack(mark, "card-office", 2).await;
    assert_eq!((&ack["outcome"], &ack["revoked"]), (&json!("applied"), &json!([CARD])), "{ack}");
    site.expect_everywhere(CARD, "cancelled").await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_clean_session_what_was_missed_is_asked_for_on_return_without_any_head() {
    let mut site = Site::new().await;
    site.uplink = Some("session = \"clean\"\nresync_spread_s = 0".into());
    let gateway = site.start().await;
    admit(&mut site, CARD, "h1").await;
    assert_eq!(site.reason(GATE, CARD).await, "granted");
    gateway.stop().await;

    // No head was ever published, and the broker keeps no message for a clean session.
    let away = site.peer.mark();
    let change = site.cards.next(&json!([cancel(CARD)]));
    site.peer.report(&site.cards.topic(), change).await;
    let gateway = site.start().await;
    let resync = site.resync(away, "card-office").await;
    assert_eq!((&resync["reason"], &resync["have"]["seq"]), (&json!("gap"), &json!(1)), "{resync}");
    site.resync(away, "apartment").await;
    let again = site.cards.sign(&site.cards.numbered("xing1", 2, &json!([cancel(CARD)])));
    site.peer.report(&down("changes"), again).await;
    let ack = site.ack(away, "card-office", 2).await;
    assert_eq!((&ack["outcome"], &ack["revoked"]), (&json!("applied"), &json!([CARD])), "{ack}");
    assert_eq!(site.reason(GATE, CARD).await, "cancelled");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs mosquitto, which tests/run installs"]
async fn a_card_is_revoked_while_nothing_can_be_written_however_much_came_before_that() {
    let mut site = Site::new().await;
    let gateway = site.start().await;
    admit(&mut site, CARD, "h1").await;
    // Nothing is durable in a directory that is not at its path.
    let (data, aside) = (site.data(), site.dir().join("aside"));
    std::fs::rename(&data, &aside).unwrap();
    let mark = site.peer.mark();
    let message = site.cards.next(&json!([issue("04112233440100", "h2")]));
    site.peer.report(&site.cards.topic(), message).await;
    // What the gateway asks its broker for has left before.
    site.alarm(mark, "store").await;
    // As installed, mosquitto delivers 20 messages that are not acknowledged.
    for n in 0..60 {
        let message = site.cards.next(&json!([issue(&format!("0411223344{n:04X}"), "h2")]));
        site.peer.report(&site.cards.topic(), message).await;
    }
    let message = site.cards.next(&json!([cancel(CARD)]));
    site.peer.report(&site.cards.topic(), message).await;
    let revoked = async { while site.reason(GATE, CARD).await != "cancelled" {} };
    within("the card is revoked in memory", revoked).await;
    let acks = site.peer.since(mark).into_iter().filter(|received| received.topic == up("ack")).count();
    assert_eq!(acks, 0, "nothing is acknowledged before it is on disk");
    std::fs::rename(&aside, &data).unwrap();
    site.ack(mark, site.cards.name, site.cards.seq).await;
    // The broker keeps for the gateway again what comes while it is away.
    gateway.stop().await;
    let message = site.cards.next(&json!([issue(OTHER, "h3")]));
    let mark = site.peer.mark();
    site.peer.report(&site.cards.topic(), message).await;
    let gateway = site.start().await;
    site.ack(mark, site.cards.name, site.cards.seq).await;
    assert_eq!(site.reason(GATE, CARD).await, "cancelled");
    gateway.stop().await;
}
