//! Killed at the worst moment, again and again: what was acknowledged holds.

use serde_json::json;

use crate::center::{cancel, enrol, issue, up};
use crate::mosquitto::real_parts;
use crate::site::{GATE, Site};

fn card(round: u64) -> String {
    format!("04{round:012X}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_acknowledged_change_is_in_force_after_a_kill_and_the_audit_has_no_hole_and_no_repeat() {
    let rounds = if real_parts() { 50 } else { 10 };
    let mut site = Site::new().await;
    for round in 1..=rounds {
        let began = site.peer.mark();
        let gateway = site.start().await;
        // What the last round was reported: in force at once, from the first answer on.
        if round > 2 {
            assert_eq!(site.reason(GATE, &card(round - 2)).await, "cancelled", "round {round}");
        }
        if round > 1 {
            assert_eq!(site.reason(GATE, &card(round - 1)).await, "granted", "round {round}");
        }
        // What was acknowledged of the audit is not sent again; the rest is.
        site.event(began, "a boot", |event| event["type"] == "boot").await;
        let mark = site.peer.mark();
        let holder = format!("h{round}");
        let mut ops = vec![issue(&card(round), &holder)];
        if round > 1 {
            ops.push(cancel(&card(round - 1)));
        }
        let standing = site.cards.next(&json!(ops));
        let rights = site.rooms.next(&json!([enrol(&card(round), &holder)]));
        site.peer.report_quickly(&site.cards.topic(), standing);
        site.peer.report_quickly(&site.rooms.topic(), rights);
        let last = if round % 2 == 0 { "card-office" } else { "apartment" };
        let other = if round % 2 == 0 { "apartment" } else { "card-office" };
        site.ack(mark, other, round).await;
        let ack = site.ack(mark, last, round).await;
        gateway.kill().await;
        assert_eq!((&ack["outcome"], &ack["applied_through"]), (&json!("applied"), &json!(round)), "{ack}");
    }
    let mark = site.peer.mark();
    let gateway = site.start().await;
    for round in 1..rounds {
        assert_eq!(site.reason(GATE, &card(round)).await, "cancelled", "card of round {round}");
    }
    assert_eq!(site.reason(GATE, &card(rounds)).await, "granted");
    let reported = site.command("last", json!({"command": "query", "uid": card(1)})).await;
    assert_eq!(reported["status"], "ok", "{reported}");
    site.event(mark, "the last command", |event| event["type"] == "command").await;
    let audit = site.audit();
    audit.verify(1);
    let boots = audit.events.values().filter(|event| event.contains("\"type\":\"boot\"")).count() as u64;
    assert_eq!(boots, rounds + 1);
    // The cursor is the center's, and the gateway shows it with its next state.
    site.acknowledge_audit(audit.last()).await;
    site.report_cards(json!([cancel(&card(rounds))])).await;
    let reported = format!("\"acked\":{}", audit.last());
    site.peer
        .find(mark, "the cursor in the state", |received| {
            (received.topic == up("state") && String::from_utf8_lossy(&received.payload).contains(&reported))
                .then_some(())
        })
        .await;
    gateway.stop().await;
}
