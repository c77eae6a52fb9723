//! Devices with MQTT topics of their own: the whole program with a reader and relays that are written here by hand, from their
//! documentation and without the profiles.

use serde_json::{Value, json};

use crate::center::{enrol, issue};
use crate::peer::{Peer, Received};
use crate::site::Site;

const CARD: &str = "1EA68671";
const OTHER: &str = "04A1B2C3";
/// One that no center knows. Not the other, which within `debounce_ms` would be the same presentation.
const UNKNOWN: &str = "5A6B7C8D";
const SHELLY: &str = "shellyplus1-a8032ab1";
const GATE: &str = "gate-side";
const BOX: &str = "power-side";

const PORTALS: &str = "[[portal]]\nid = \"gate-side\"\nkind = \"gate\"\nzone = \"lobby\"\ndirection = \"in\"\nhold_ms = 3000\n\
    reader = { mqtt = \"tasmota-rc522\", topic = \"gate_side_reader\" }\n\
    output = { mqtt = \"shelly-gen2\", topic = \"shellyplus1-a8032ab1\", channel = 0 }\n\
    [[portal]]\nid = \"power-side\"\nkind = \"power_box\"\nzone = \"412\"\nrest_s = 0\n\
    reader = { mqtt = \"esphome-tag\", topic = \"box-412\" }\n\
    output = { mqtt = \"tasmota-relay\", topic = \"plug_412\" }\n\
    meter = { mqtt = \"tasmota-relay\", topic = \"plug_412\" }\n";

/// The devices, as one client that is subscribed to everything.
struct Devices {
    peer: Peer,
    /// The time in the last message, in seconds since 1970.
    seconds: std::cell::Cell<i64>,
}

impl Devices {
    async fn of(site: &Site) -> Self {
        let peer = Peer::subscribed_to(&site.hub.door(), "devices", "#").await;
        Self { peer, seconds: std::cell::Cell::new(0) }
    }

    /// The payload with which the reader of the gate reports a card now; each has another time.
    fn card(&self, uid: &str) -> String {
        let at = jiff::Timestamp::now().as_second().max(self.seconds.get() + 1);
        self.seconds.set(at);
        let time = jiff::Timestamp::from_second(at).unwrap().to_string();
        json!({"Time": time.trim_end_matches('Z'), "RC522": {"UID": uid}}).to_string()
    }

    async fn present(&self, uid: &str) {
        let payload = self.card(uid);
        self.peer.report("tele/gate_side_reader/SENSOR", payload).await;
    }

    /// What was published to a topic since `mark`, the first that `is`.
    async fn ordered(&self, mark: usize, topic: &str, is: impl Fn(&str) -> bool) -> String {
        let found = |received: &Received| {
            let text = String::from_utf8(received.payload.clone()).ok()?;
            (received.topic == topic && !received.retain && is(&text)).then_some(text)
        };
        self.peer.find(mark, &format!("an order on {topic}"), found).await
    }

    /// The call that the Shelly receives.
    async fn call(&self, mark: usize, method: &str) -> Value {
        let rpc = format!("{SHELLY}/rpc");
        let is = |text: &str| serde_json::from_str::<Value>(text).is_ok_and(|call| call["method"] == method);
        serde_json::from_str(&self.ordered(mark, &rpc, is).await).unwrap()
    }

    async fn shelly_is(&self, on: bool) {
        let change = json!({"src": SHELLY, "dst": format!("{SHELLY}/events"), "method": "NotifyStatus",
            "params": {"ts": 1_713_278_915.28, "switch:0": {"id": 0, "output": on, "source": "MQTT"}}});
        self.peer.report(&format!("{SHELLY}/events/rpc"), change.to_string()).await;
    }

    async fn plug_is(&self, on: bool) {
        self.peer.report("stat/plug_412/RESULT", format!("{{\"POWER\":\"{}\"}}", if on { "ON" } else { "OFF" })).await;
    }

    async fn tag(&self, uid: &str) {
        self.peer.report("box-412/tag", json!({"uid": uid}).to_string()).await;
    }

    /// Everything is connected and retains that it is, and the states that the gateway asks for are answered.
    async fn connect(&self) {
        for topic in ["tele/gate_side_reader/LWT", "tele/plug_412/LWT"] {
            self.peer.report_retained(topic, "Online").await;
        }
        self.peer.report_retained(&format!("{SHELLY}/online"), "true").await;
        self.peer.report_retained("box-412/status", "online").await;
    }

    /// Answers what the gateway asks when the devices are known to be online.
    async fn answer(&self, mark: usize) {
        let asked = self.call(mark, "Switch.GetStatus").await;
        assert_eq!(asked["params"]["id"], 0, "{asked}");
        let answer =
            json!({"id": asked["id"], "src": SHELLY, "dst": asked["src"], "result": {"id": 0, "output": false}});
        self.peer.report(&format!("{}/rpc", asked["src"].as_str().unwrap()), answer.to_string()).await;
        self.ordered(mark, "cmnd/plug_412/Power1", str::is_empty).await;
        self.plug_is(false).await;
    }

    /// Presents a card again and again, as people do, until the gateway decides on one.
    async fn present_until_decided(&self, site: &Site, mark: usize, uid: &str) -> Value {
        let insist = async {
            loop {
                self.present(uid).await;
                // Shorter than within the time in which the same card is the same presentation, it would never be another.
                tokio::time::sleep(std::time::Duration::from_secs(3)).await;
            }
        };
        tokio::select! {
            decided = decided(site, mark, GATE, uid) => decided,
            () = insist => unreachable!("it never ends"),
        }
    }
}

async fn decided(site: &Site, mark: usize, portal: &str, uid: &str) -> Value {
    let what = format!("a decision for {uid} at {portal}");
    site.event(mark, &what, |e| e["type"] == "decision" && e["portal"] == portal && e["uid"] == uid).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gate_with_a_tasmota_reader_and_a_shelly_opens_for_who_may_once_a_card_and_for_nothing_old() {
    let mut site = Site::new().await;
    site.extra = PORTALS.to_owned();
    let devices = Devices::of(&site).await;
    devices.connect().await;
    // A card of yesterday.
    devices.peer.report_retained("tele/gate_side_reader/SENSOR", devices.card(CARD)).await;
    let mark = devices.peer.mark();
    let began = site.peer.mark();
    let gateway = site.start().await;
    site.report_cards(json!([issue(CARD, "h1"), issue(OTHER, "h2")])).await;
    site.report_rooms(json!([enrol(CARD, "h1")])).await;
    devices.answer(mark).await;

    let denied = devices.present_until_decided(&site, began, OTHER).await;
    assert_eq!(denied["reason"], "not_enrolled", "{denied}");
    let old = decided(&site, began, GATE, CARD).await;
    assert_eq!((&old["decision"], &old["reason"]), (&json!("deny"), &json!("stale_request")), "{old}");
    let (before, began) = (devices.peer.mark(), site.peer.mark());
    let presented = devices.card(CARD);
    devices.peer.report("tele/gate_side_reader/SENSOR", presented.clone()).await;
    let opened = devices.call(before, "Switch.Set").await;
    assert_eq!(opened["params"], json!({"id": 0, "on": true, "toggle_after": 3}), "{opened}");
    devices.shelly_is(true).await;
    let granted = decided(&site, began, GATE, CARD).await;
    assert_eq!((&granted["decision"], &granted["reason"]), (&json!("grant"), &json!("granted")), "{granted}");
    devices.shelly_is(false).await;

    // The same message again, garbage, a wrong name; and then a card that is denied, behind all of them.
    let (before, began) = (devices.peer.mark(), site.peer.mark());
    devices.peer.report("tele/gate_side_reader/SENSOR", presented.clone()).await;
    devices.peer.report("tele/gate_side_reader/SENSOR", "{\"RC522\":{\"UID\":\"1EA68671\"").await;
    devices.peer.report("tele/Gate_Side_Reader/SENSOR", devices.card(CARD)).await;
    devices.peer.report("tele/gate_side_reader/SENSOR", devices.card("1EA686")).await;
    devices.present(UNKNOWN).await;
    decided(&site, began, GATE, UNKNOWN).await;
    let set = |r: &Received| r.topic.starts_with(SHELLY) && String::from_utf8_lossy(&r.payload).contains("\"on\":true");
    let sent = devices.peer.since(before).iter().filter(|r| set(r)).count();
    assert_eq!(sent, 0, "{}", devices.peer.shown(before));
    let confirmed = [format!("device=\"{SHELLY}\""), "outcome=\"confirmed\"".to_owned()];
    let confirmed: Vec<&str> = confirmed.iter().map(String::as_str).collect();
    assert_eq!(site.counted("dormgate_mqtt_releases_total", &confirmed).await, 1, "{}", site.metrics().await);
    assert!(site.counted("dormgate_mqtt_rejected_total", &["link=\"devices\""]).await >= 3, "{}", site.metrics().await);

    // The relay is away: the portal is, and nothing is published for it.
    devices.peer.report_retained(&format!("{SHELLY}/online"), "false").await;
    let alarm = site.alarm(began, "portal_offline").await;
    assert_eq!(alarm["portal"], GATE, "{alarm}");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_power_box_is_on_while_its_tag_is_repeated_and_is_ordered_off_until_its_relay_confirms_it() {
    let mut site = Site::new().await;
    site.extra = PORTALS.to_owned();
    let devices = Devices::of(&site).await;
    devices.connect().await;
    let mark = devices.peer.mark();
    let gateway = site.start().await;
    site.report_cards(json!([issue(CARD, "h1")])).await;
    site.report_rooms(json!([enrol(CARD, "h1")])).await;
    devices.answer(mark).await;

    let (before, began) = (devices.peer.mark(), site.peer.mark());
    devices.tag("").await;
    devices.tag("1e-a6-86-71").await;
    devices.ordered(before, "cmnd/plug_412/Backlog0", |order| order == "TimedPower1; Power1 ON").await;
    devices.plug_is(true).await;
    site.event(began, "the box is on", |event| event["type"] == "power_on" && event["portal"] == BOX).await;
    devices.peer.report("tele/plug_412/SENSOR", r#"{"ENERGY":{"Power":"41.2","Total":103.4}}"#).await;

    // Withdrawn: off at once, and again, because the relay confirms nothing; then it does.
    let (before, began) = (devices.peer.mark(), site.peer.mark());
    site.report_cards(json!([crate::center::cancel(CARD)])).await;
    let off = |order: &str| order == "TimedPower1; Power1 OFF";
    devices.ordered(before, "cmnd/plug_412/Backlog0", off).await;
    let is_off = |r: &Received| r.topic == "cmnd/plug_412/Backlog0" && off(&String::from_utf8_lossy(&r.payload));
    let (first, ()) = devices.peer.find_at(before, "off", |r| is_off(r).then_some(())).await;
    devices.peer.find(first + 1, "off again", |r| is_off(r).then_some(())).await;
    let alarm = site.alarm(began, "unconfirmed_revocation").await;
    assert_eq!(alarm["portal"], BOX, "{alarm}");
    devices.plug_is(false).await;
    site.event(began, "off", |event| event["type"] == "power_off" && event["portal"] == BOX).await;
    gateway.stop().await;
}
