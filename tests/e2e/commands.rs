//! Commands, as an office gives them.

use serde_json::{Value, json};

use crate::center::{GATEWAY, cancel, down, enrol, issue, now_s, portal, up};
use crate::site::{BOX, DOOR, GATE, Site};

const CARD: &str = "1EA68671";

async fn control(site: &Site, mark: usize, at: &str) -> Value {
    site.peer
        .find(mark, &format!("control of {at}"), |h| (h.topic == portal(at, "control")).then(|| h.json.clone()))
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_office_releases_switches_and_asks_and_each_command_is_answered_and_audited() {
    let mut site = Site::new().await;
    let gateway = site.start().await;
    site.report_cards(json!([issue(CARD, "h1")])).await;
    site.report_rooms(json!([enrol(CARD, "h1")])).await;

    let mark = site.peer.mark();
    let reply = site.command("c1", json!({"command": "release", "portal": GATE, "actor": "staff:77"})).await;
    assert_eq!((&reply["v"], &reply["status"], reply.get("error")), (&json!(1), &json!("ok"), None), "{reply}");
    let order = control(&site, mark, GATE).await;
    assert_eq!(
        (&order["action"], &order["hold_ms"], &order["reason"]),
        (&json!("release"), &json!(3000), &json!("remote"))
    );
    let event = site.event(mark, "the command", |e| e["type"] == "command").await;
    assert!(event["detail"].as_str().unwrap().contains("staff:77"), "{event}");

    for (jti, on, action) in [("c2", true, "power_on"), ("c3", false, "power_off")] {
        let mark = site.peer.mark();
        let reply = site.command(jti, json!({"command": "power", "portal": BOX, "on": on})).await;
        assert_eq!(reply["status"], "ok", "{reply}");
        assert_eq!(control(&site, mark, BOX).await["action"], action);
    }

    let reply = site.command("c4", json!({"command": "query", "uid": CARD, "portal": DOOR})).await;
    let verdicts = reply["result"].to_string();
    assert!(reply["status"] == "ok" && verdicts.contains("\"grant\"") && verdicts.contains(DOOR), "{reply}");
    let reply = site.command("c5", json!({"command": "query", "uid": "04FFEEDDCCBBAA"})).await;
    assert!(reply["result"].to_string().contains("unknown_credential"), "{reply}");

    let mark = site.peer.mark();
    let reply = site.command("c6", json!({"command": "resync", "stream": "card-office"})).await;
    assert_eq!(reply["status"], "ok", "{reply}");
    let resync = site.resync(mark, "card-office").await;
    assert_eq!((&resync["reason"], &resync["have"]), (&json!("asked"), &json!({"epoch": 1, "seq": 1})), "{resync}");

    for uid in [CARD, "*"] {
        let reply = site.command(&format!("forgive {uid}"), json!({"command": "forgive", "uid": uid})).await;
        assert_eq!(reply["status"], "ok", "{reply}");
    }
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_that_is_old_repeated_retained_or_wrong_does_nothing_and_reports_why() {
    let site = Site::new().await;
    let gateway = site.start().await;
    let first = site.peer.mark();
    let ok = site.command("once", json!({"command": "query", "uid": CARD})).await;
    assert_eq!(ok["status"], "ok", "{ok}");
    let reply = site.command("once", json!({"command": "release", "portal": GATE})).await;
    assert_eq!(reply["status"], "duplicate", "{reply}");

    let report = async |jti: &str, change: &dyn Fn(&mut Value)| {
        let mut claims = site.rooms.claims(GATEWAY, json!({"command": "release", "portal": GATE, "jti": jti}));
        claims["exp"] = json!(now_s() + 20);
        change(&mut claims);
        let mark = site.peer.mark();
        site.peer.report(&down("command"), site.rooms.sign(&claims)).await;
        let reply = site.reply(mark, jti).await;
        assert!(!reply["error"]["message"].as_str().unwrap_or_default().is_empty(), "{reply}");
        (reply["status"].as_str().unwrap().to_owned(), reply["error"]["code"].as_str().unwrap().to_owned())
    };
    let rejected = |code: &str| ("rejected".to_owned(), code.to_owned());
    let past = report("c1", &|c| {
        c["iat"] = json!(now_s() - 40);
        c["exp"] = json!(now_s() - 20);
    });
    assert_eq!(past.await.0, "expired");
    let long = |c: &mut Value| c["exp"] = json!(c["iat"].as_i64().unwrap() + 31);
    assert_eq!(report("c2", &long).await, rejected("invalid_field"));
    let no_end = |c: &mut Value| drop(c.as_object_mut().unwrap().remove("exp"));
    assert_eq!(report("c3", &no_end).await, rejected("invalid_field"));
    assert_eq!(report("c4", &|c| c["command"] = json!("open_sesame")).await, rejected("unknown_op"));
    assert_eq!(report("c5", &|c| c["portal"] = json!("gate-99")).await, rejected("unknown_portal"));
    assert_eq!(report("c6", &|c| c["portal"] = json!(BOX)).await, rejected("invalid_field"));
    assert_eq!(report("c7", &|c| c["v"] = json!(2)).await, rejected("invalid_field"));
    assert_eq!(report("c8", &|c| c["aud"] = json!("xing2")).await, rejected("wrong_audience"));
    // The card office may not give commands, and nobody may forge the apartment center's.
    let mark = site.peer.mark();
    site.peer.report(&down("command"), site.cards.command("c9", json!({"command": "release", "portal": GATE}))).await;
    assert_eq!(site.reply(mark, "c9").await["error"]["code"], "forbidden_op");
    let mut forger = crate::center::Office::apartment();
    forger.key = site.cards.key.clone();
    site.peer.report(&down("command"), forger.command("c10", json!({"command": "release", "portal": GATE}))).await;
    assert_eq!(site.reply(mark, "c10").await["error"]["code"], "bad_signature");
    // Not a command at all: audited, since nobody can be answered.
    for garbage in ["", "open", "{\"command\":\"release\"", "\u{0}\u{1}"] {
        let mark = site.peer.mark();
        site.peer.report(&down("command"), garbage).await;
        let about = |e: &Value| e["detail"].as_str().unwrap_or_default().starts_with("command");
        site.event(mark, "refused", |e| e["type"] == "rejected_message" && about(e)).await;
    }
    let opened = |h: &crate::peer::Received| {
        h.topic.ends_with("/control") && (h.json["action"] == "release" || h.json["action"] == "power_on")
    };
    assert!(!site.peer.since(first).iter().any(opened), "{}", site.peer.shown(first));
    assert!(site.counted("dormgate_rejected_messages_total", &["topic=\"command\"", "bad_signature"]).await >= 4);
    assert_eq!(site.counted("dormgate_commands_total", &["outcome=\"expired\""]).await, 1);

    // A retained one waits for the gateway on the broker, in vain.
    let kept = site.rooms.command("kept", json!({"command": "release", "portal": GATE}));
    gateway.stop().await;
    site.peer.report_retained(&down("command"), kept).await;
    let mark = site.peer.mark();
    let gateway = site.start().await;
    let reply = site.reply(mark, "kept").await;
    assert_eq!((&reply["status"], &reply["error"]["code"]), (&json!("rejected"), &json!("retained")), "{reply}");
    // The number of a command is remembered over a restart.
    let reply = site.command("once", json!({"command": "release", "portal": GATE})).await;
    assert_eq!(reply["status"], "duplicate", "{reply}");
    assert!(!site.peer.since(mark).iter().any(opened), "{}", site.peer.shown(mark));
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gap_is_asked_for_and_a_campus_stream_answers_on_the_gateways_own_topic() {
    let mut site = Site::new().await;
    let gateway = site.start().await;
    let mark = site.peer.mark();
    site.report_cards(json!([issue(CARD, "h1")])).await;
    site.report_rooms(json!([enrol(CARD, "h1")])).await;
    site.expect_everywhere(CARD, "granted").await;
    let missed = json!([issue("04A1B2C3D4E5F6", "h2")]);
    drop(site.cards.next(&missed));
    // A revocation does not wait for the gap.
    let ack = site.report_cards(json!([cancel(CARD)])).await;
    assert_eq!(
        (&ack["outcome"], &ack["applied_through"], &ack["missing"]),
        (&json!("applied"), &json!(1), &json!([[2, 2]]))
    );
    site.expect_everywhere(CARD, "cancelled").await;
    let gap = site
        .peer
        .find(mark, "a resync for the gap", |h| {
            (h.topic == up("resync") && h.json["reason"] == "gap").then(|| h.json.clone())
        })
        .await;
    assert_eq!((&gap["stream"], &gap["missing"]), (&json!("card-office"), &json!([[2, 2]])), "{gap}");
    assert_eq!(gap["have"], json!({"epoch": 1, "seq": 1}), "{gap}");

    let again = site.cards.sign(&site.cards.numbered(GATEWAY, 2, &missed));
    let mark = site.peer.mark();
    site.peer.report(&down("changes"), again.clone()).await;
    let ack = site.ack(mark, "card-office", 2).await;
    assert_eq!((&ack["outcome"], &ack["applied_through"], &ack["missing"]), (&json!("applied"), &json!(3), &json!([])));
    let mark = site.peer.mark();
    site.peer.report(&down("changes"), again).await;
    assert_eq!(site.ack(mark, "card-office", 2).await["outcome"], "duplicate");
    // A new epoch that begins with its second message: something is missing, and what it reports counts.
    site.cards.epoch = 2;
    site.cards.seq = 1;
    let mark = site.peer.mark();
    let ack = site.report_cards(json!([issue("04A1B2C3D4E5F7", "h3")])).await;
    assert_eq!((&ack["outcome"], &ack["missing"]), (&json!("applied"), &json!([[1, 1]])), "{ack}");
    let epoch = site.resync(mark, "card-office").await;
    assert_eq!(epoch["reason"], "epoch", "{epoch}");
    // An earlier epoch is over.
    site.cards.epoch = 1;
    site.cards.seq = 3;
    let ack = site.report_cards(json!([{"op": "reinstate", "uid": CARD}])).await;
    assert_eq!(ack["outcome"], "stale", "{ack}");
    site.expect_everywhere(CARD, "cancelled").await;
    gateway.stop().await;
}
