//! Schedules of the configuration and of a center, as gate, box and operator see them.

use serde_json::{Value, json};

use crate::center::{enrol, issue, portal};
use crate::proof::printed;
use crate::site::{BOX, Site};

const CARD: &str = "1EA68671";
const NIGHT_GATE: &str = "gate-night";

/// A schedule that is open at all times, or closed at all times.
fn defined(name: &str, open: bool) -> Value {
    let windows = || if open { json!(["00:00-12:00", "12:00-24:00"]) } else { json!([]) };
    let week = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"].map(|day| (day.to_owned(), windows()));
    json!({"op": "define_schedule", "name": name, "weekly": week.into_iter().collect::<serde_json::Map<_, _>>()})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schedule_of_the_file_holds_until_a_center_defines_it_and_whoever_came_late_is_listed() {
    let mut site = Site::new().await;
    site.extra = format!(
        "power_hours = \"lights\"\n\
         [[portal]]\nid = \"{NIGHT_GATE}\"\nkind = \"gate\"\nzone = \"lobby\"\ndirection = \"in\"\nhours = \"day\"\n\
         device = {{ mqtt = \"native\" }}\n\
         [[schedule]]\nname = \"day\"\nweekly = {{}}\n[[schedule]]\nname = \"lights\"\nweekly = {{}}\n"
    );
    let gateway = site.start().await;
    site.report_cards(json!([issue(CARD, "h1")])).await;
    site.report_rooms(json!([enrol(CARD, "h1")])).await;
    let late = site.present(NIGHT_GATE, CARD).await;
    assert_eq!((&late["reason"], &late["flags"]), (&json!("granted"), &json!(["late"])), "{late}");
    assert_eq!(site.reason(BOX, CARD).await, "outside_schedule");

    // A card that lies in the box and is read at the gate would be one too many.
    site.peer.report(&portal(BOX, "state"), json!({"card_present": false}).to_string()).await;
    site.report_rooms(json!([defined("day", true), defined("lights", true)])).await;
    let in_time = site.present(NIGHT_GATE, CARD).await;
    assert_eq!((&in_time["reason"], &in_time["flags"]), (&json!("granted"), &json!([])), "{in_time}");
    assert_eq!(site.reason(BOX, CARD).await, "granted");

    let mark = site.peer.mark();
    let ack = site.report_rooms(json!([defined("lights", false)])).await;
    assert_eq!(ack["cut"], json!([BOX]), "{ack}");
    let off = |h: &crate::peer::Received| (h.topic == portal(BOX, "control")).then(|| h.json.clone());
    let order = site.peer.find(mark, "the order off", off).await;
    assert_eq!((&order["action"], &order["reason"]), (&json!("power_off"), &json!("outside_schedule")), "{order}");

    let listed = printed(&site, &["audit", "late"]).await;
    let lines: Vec<&str> = listed.lines().collect();
    assert!(lines.len() == 1 && lines[0].contains(NIGHT_GATE) && lines[0].contains("flag:late"), "{listed}");
    gateway.stop().await;
}
