//! Bad input of every kind the contract names: answered with its code, audited, counted, without effect, and the gateway goes on.

use std::fmt::Write as _;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::center::{GATEWAY, Office, cancel, down, enrol, issue, jws, portal, up};
use crate::peer::Received;
use crate::program::Program;
use crate::site::{BOX, DOOR, EVERYWHERE, GATE, Site};

const CARD: &str = "1EA68671";

/// A site with one resident.
async fn open_house() -> (Site, Program) {
    let mut site = Site::new().await;
    let gateway = site.start().await;
    site.report_cards(json!([issue(CARD, "h1")])).await;
    site.report_rooms(json!([enrol(CARD, "h1")])).await;
    site.expect_everywhere(CARD, "granted").await;
    (site, gateway)
}

/// Publishes something bad on a topic of changes, and expects the ack and the audit event with the code. Gives the ack.
async fn refused(site: &Site, what: &str, topic: &str, payload: impl Into<Vec<u8>>, code: &str) -> Value {
    let mark = site.peer.mark();
    site.peer.report(topic, payload).await;
    let ack =
        site.peer.find(mark, &format!("the ack of {what}"), |h| (h.topic == up("ack")).then(|| h.json.clone())).await;
    assert_eq!((&ack["outcome"], &ack["errors"][0]["code"]), (&json!("rejected"), &json!(code)), "{what}: {ack}");
    let message = ack["errors"][0]["message"].as_str().unwrap_or_default();
    assert!(message.len() > 10 && message.len() < 1000, "{what}: {message}");
    assert_eq!((&ack["revoked"], &ack["cut"]), (&json!([]), &json!([])), "{what}: {ack}");
    site.event(mark, what, |e| e["type"] == "rejected_message" && e["reason"] == code).await;
    ack
}

/// Publishes what no center has sent, and expects the audit event with the code.
async fn ignored(site: &Site, what: &str, topic: &str, payload: impl Into<Vec<u8>>, code: &str) {
    let mark = site.peer.mark();
    site.peer.report(topic, payload).await;
    site.event(mark, what, |e| e["type"] == "rejected_message" && e["reason"] == code).await;
}

/// HMAC-SHA-256 (RFC 2104), as a forger would use it with the public key as the secret.
fn hmac(key: &[u8], bytes: &[u8]) -> Vec<u8> {
    let mut block = [0_u8; 64];
    block[..key.len()].copy_from_slice(key);
    let pad = |with: u8| block.map(|byte| byte ^ with);
    let inner = Sha256::digest([&pad(0x36)[..], bytes].concat());
    Sha256::digest([&pad(0x5C)[..], &inner[..]].concat()).to_vec()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_is_not_a_centers_word_to_this_gateway_has_no_effect_and_uses_up_no_number() {
    let (mut site, gateway) = open_house().await;
    let ops = json!([cancel(CARD)]);
    let (office, topic) = (Office { seq: 1, ..Office::card_office() }, site.cards.topic());
    let good = office.numbered("campus", 2, &ops);
    let with = |key: &str, value: Value| {
        let mut claims = good.clone();
        claims[key] = value;
        office.sign(&claims)
    };
    let without = |key: &str| {
        let mut claims = good.clone();
        claims.as_object_mut().unwrap().remove(key);
        office.sign(&claims)
    };
    let stranger = Office { key: Office::apartment().key, ..Office::card_office() };
    let public = office.key.verifying_key();
    let signed = office.sign(&good);
    let (front, signature) = signed.rsplit_once('.').unwrap();
    let (header, _) = front.split_once('.').unwrap();
    let mut broken = URL_SAFE_NO_PAD.decode(signature).unwrap();
    broken[5] ^= 1;
    let broken = URL_SAFE_NO_PAD.encode(broken);
    let other_body =
        URL_SAFE_NO_PAD.encode(office.numbered("campus", 2, &json!([cancel("04A1B2C3D4E5F6")])).to_string());
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));

    let bad: Vec<(&str, Vec<u8>, &str)> = vec![
        ("another's key", stranger.sign(&good).into(), "bad_signature"),
        ("a flipped bit of the signature", format!("{front}.{broken}").into(), "bad_signature"),
        ("other claims under a good signature", format!("{header}.{other_body}.{signature}").into(), "bad_signature"),
        ("alg none", jws(&json!({"alg": "none", "kid": "card-office"}), &good, |_| Vec::new()).into(), "bad_signature"),
        (
            "HS256 with the public key",
            jws(&json!({"alg": "HS256", "kid": "card-office"}), &good, |b| hmac(public.as_bytes(), b)).into(),
            "bad_signature",
        ),
        ("no signature", good.to_string().into(), "bad_signature"),
        ("no kid", jws(&json!({"alg": "EdDSA"}), &good, |b| hmac(b"", b)).into(), "unknown_stream"),
        (
            "an unknown kid",
            jws(&json!({"alg": "EdDSA", "kid": "nobody"}), &good, |b| hmac(b"", b)).into(),
            "unknown_stream",
        ),
        ("another stream as issuer", with("iss", json!("apartment")).into(), "unknown_stream"),
        ("for another gateway", with("aud", json!("xing2")).into(), "wrong_audience"),
        ("for this gateway, but on the campus topic", with("aud", json!(GATEWAY)).into(), "wrong_audience"),
        ("for nobody", without("aud").into(), "wrong_audience"),
        ("version 2", with("v", json!(2)).into(), "invalid_field"),
        ("no version", without("v").into(), "invalid_field"),
        ("not JSON, signed", office.sign(&json!("just text")).into(), "invalid_field"),
        ("nothing", Vec::new(), "bad_signature"),
        ("text", b"hello".to_vec(), "bad_signature"),
        ("bytes", (0..=255).collect(), "bad_signature"),
        ("deep nesting, unsigned", deep.clone().into(), "bad_signature"),
    ];
    let begin = site.peer.mark();
    for (what, payload, code) in bad {
        ignored(&site, what, &topic, payload, code).await;
    }
    // A gateway's stream may not send to the campus.
    let campus = site.rooms.sign(&site.rooms.numbered("campus", 2, &json!([{"op": "withdraw", "uid": CARD}])));
    ignored(&site, "a gateway's stream on the campus topic", &topic, campus, "wrong_audience").await;
    site.expect_everywhere(CARD, "granted").await;
    assert!(site.counted("dormgate_rejected_messages_total", &["topic=\"changes\"", "bad_signature"]).await >= 8);

    // The number is still free.
    let ack = site.report_cards(ops).await;
    let acks = site.peer.since(begin).iter().filter(|h| h.topic == up("ack")).count();
    assert_eq!(acks, 1, "only a well-signed message is acknowledged");
    assert_eq!(
        (&ack["outcome"], &ack["applied_through"], &ack["revoked"]),
        (&json!("applied"), &json!(2), &json!([CARD]))
    );
    site.expect_everywhere(CARD, "cancelled").await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signed_message_with_bad_content_is_refused_whole_and_uses_up_its_number() {
    let (mut site, gateway) = open_house().await;
    let many: Vec<Value> =
        (0..2400).map(|i| issue(&format!("04{i:012X}"), "somebody-with-a-long-identifier-0000000000000000")).collect();
    let nested = (0..40).fold(json!(1), |inner, _| json!([inner]));
    let bad = [
        ("an op of another office", json!([cancel(CARD), enrol(CARD, "h1")]), "forbidden_op"),
        ("an unknown op", json!([cancel(CARD), {"op": "explode", "uid": CARD}]), "unknown_op"),
        ("a UID of three bytes", json!([cancel(CARD), cancel("1EA686")]), "invalid_uid"),
        ("a UID that is no hex", json!([cancel(CARD), cancel("hello, world")]), "invalid_uid"),
        ("a UID of zeros", json!([cancel(CARD), issue("00000000", "h9")]), "invalid_uid"),
        ("a random UID", json!([cancel(CARD), issue("08A1B2C3", "h9")]), "random_uid"),
        ("no UID", json!([cancel(CARD), {"op": "issue", "holder": "h9"}]), "invalid_field"),
        ("a holder with a dot", json!([cancel(CARD), issue("04A1B2C3D4E5F6", "h.9")]), "invalid_field"),
        ("a UID that is a number", json!([{"op": "cancel", "uid": 513_181_297}]), "invalid_uid"),
        ("ops that are no list", json!({"op": "cancel", "uid": CARD}), "invalid_field"),
        ("deep nesting", json!([cancel(CARD), nested]), "too_large"),
        ("300 KiB", json!(many), "too_large"),
    ];
    let mut seq = 1;
    for (what, ops, code) in bad {
        let message = site.cards.next(&ops);
        seq += 1;
        let ack = refused(&site, what, &site.cards.topic(), message, code).await;
        assert_eq!((&ack["seq"], &ack["applied_through"]), (&json!(seq), &json!(seq)), "{what}: {ack}");
        if what.starts_with("an op") || what.starts_with("a UID of three") {
            assert_eq!(ack["errors"][0]["op"], 1, "{what}: {ack}");
        }
    }
    // A message is atomic: nothing of it was done.
    site.expect_everywhere(CARD, "granted").await;
    assert_eq!(site.reason(GATE, "04000000000001").await, "unknown_credential");
    let bad = [
        (
            "a kind of portal that is not one",
            json!([{"op": "enrol", "uid": CARD, "holder": "h1", "entitlements": [{"kind": "roof", "zone": "*"}]}]),
        ),
        ("no entitlements", json!([{"op": "enrol", "uid": CARD, "holder": "h1"}])),
        (
            "a time that is not one",
            json!([{"op": "enrol", "uid": CARD, "holder": "h1", "entitlements": [], "not_after": "tomorrow"}]),
        ),
        ("a posture that is not one", json!([{"op": "set_posture", "portals": "*", "posture": "party"}])),
        ("a reason that is not one", json!([{"op": "suspend_power", "zone": "412", "reason": "mood"}])),
        (
            "a window that is not one",
            json!([{"op": "define_schedule", "name": "s", "weekly": {"mon": ["25:00-26:00"]}}]),
        ),
    ];
    for (what, ops) in bad {
        let message = site.rooms.next(&ops);
        refused(&site, what, &site.rooms.topic(), message, "invalid_field").await;
    }
    site.expect_everywhere(CARD, "granted").await;
    assert!(site.counted("dormgate_change_messages_total", &["outcome=\"rejected\""]).await >= 18);
    let ack = site.report_cards(json!([cancel(CARD)])).await;
    assert_eq!(ack["revoked"], json!([CARD]), "{ack}");
    gateway.stop().await;
    // What was refused stays used up over a restart.
    let gateway = site.start().await;
    site.expect_everywhere(CARD, "cancelled").await;
    let ack = site.report_cards(json!([issue("04A1B2C3D4E5F6", "h2")])).await;
    assert_eq!((&ack["outcome"], &ack["missing"]), (&json!("applied"), &json!([])), "{ack}");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_broker_keeps_for_everybody_is_ignored_reported_and_poisons_nothing() {
    let mut site = Site::new().await;
    let mark = site.peer.mark();
    // A well-signed change, kept; 1 MiB of rubbish, kept; an old request, kept; a fire of long ago.
    let kept = site.cards.sign(&site.cards.numbered("campus", 1, &json!([cancel(CARD)])));
    site.peer.report_retained(&site.cards.topic(), kept).await;
    site.peer.report_retained(&down("changes"), "x".repeat(1024 * 1024)).await;
    let request = json!({"v": 1, "id": "kept", "uid": CARD}).to_string();
    site.peer.report_retained(&portal(GATE, "request"), request).await;
    let state = json!({"card_present": true, "uid": CARD, "fire": true, "relay": true}).to_string();
    site.peer.report_retained(&portal(BOX, "state"), state).await;
    let started = site.peer.mark();
    let gateway = site.start().await;
    for (what, count) in [("changes", 3), ("request", 1)] {
        let reported = format!("the retained {what} refused");
        let about = |e: &Value| e["detail"].as_str().unwrap_or_default().starts_with(what);
        site.event(started, &reported, |e| e["type"] == "rejected_message" && e["reason"] == "retained" && about(e))
            .await;
        let topic = format!("topic=\"{what}\"");
        let counted = site.counted("dormgate_rejected_messages_total", &[&topic, "retained"]).await;
        assert!((1..=count).contains(&counted), "{what}: {counted}");
    }
    // The number is free for the message that comes live; the kept fire burns nobody.
    let ack = site.report_cards(json!([issue(CARD, "h1")])).await;
    assert_eq!((&ack["outcome"], &ack["applied_through"]), (&json!("applied"), &json!(1)), "{ack}");
    site.report_rooms(json!([enrol(CARD, "h1")])).await;
    site.expect_everywhere(CARD, "granted").await;
    let answered = |h: &Received| h.topic.ends_with("/decision") && h.json["id"] == "kept";
    assert!(!site.peer.since(mark).iter().any(answered), "{}", site.peer.shown(mark));
    let ack = site.report_cards(json!([cancel(CARD)])).await;
    assert_eq!((&ack["outcome"], &ack["applied_through"]), (&json!("applied"), &json!(2)), "{ack}");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_cannot_be_read_is_denied_with_its_reason_audited_and_counted() {
    let (site, gateway) = open_house().await;
    let long = "A".repeat(5000);
    let bad: Vec<(&str, String, &str, &str)> = vec![
        (GATE, json!({"v": 1, "id": "r1", "uid": "1EA686"}).to_string(), "r1", "malformed_identifier"),
        (GATE, json!({"v": 1, "id": "r2", "uid": "00000000"}).to_string(), "r2", "malformed_identifier"),
        (GATE, json!({"v": 1, "id": "r3", "uid": "FFFFFFFF"}).to_string(), "r3", "malformed_identifier"),
        (GATE, json!({"v": 1, "id": "r4", "uid": "08A1B2C3"}).to_string(), "r4", "random_identifier"),
        (GATE, json!({"v": 1, "id": "r5"}).to_string(), "r5", "malformed_identifier"),
        (GATE, json!({"v": 1, "id": "r6", "uid": 7}).to_string(), "r6", "malformed_identifier"),
        (GATE, json!({"v": 2, "id": "r7", "uid": CARD}).to_string(), "r7", "malformed_identifier"),
        (GATE, json!({"v": 1, "id": "r8", "uid": CARD, "direction": "up"}).to_string(), "r8", "malformed_identifier"),
        ("door-999", json!({"v": 1, "id": "r9", "uid": CARD}).to_string(), "r9", "unknown_portal"),
        (DOOR, "not JSON".to_owned(), "", "malformed_identifier"),
        (DOOR, String::new(), "", "malformed_identifier"),
        (DOOR, "[".repeat(900), "", "malformed_identifier"),
        (DOOR, json!({"v": 1, "id": "r10", "uid": long}).to_string(), "", "malformed_identifier"),
    ];
    for (at, payload, id, reason) in bad {
        let mark = site.peer.mark();
        site.peer.report(&portal(at, "request"), payload.clone()).await;
        let answer = site
            .peer
            .find(mark, &format!("an answer to {payload:.60}"), |h| {
                (h.topic == portal(at, "decision")).then(|| h.json.clone())
            })
            .await;
        assert_eq!(
            (&answer["decision"], &answer["reason"]),
            (&json!("deny"), &json!(reason)),
            "{payload:.60}: {answer}"
        );
        assert_eq!(answer["id"].as_str().unwrap_or_default(), id, "{payload:.60}: {answer}");
        site.event(mark, &format!("the decision on {payload:.60}"), |e| {
            e["type"] == "decision" && e["reason"] == reason
        })
        .await;
    }
    // A request without an id gets an answer without one.
    let mark = site.peer.mark();
    site.peer.report(&portal(DOOR, "request"), json!({"v": 1, "uid": CARD}).to_string()).await;
    let answer =
        site.peer.find(mark, "an answer", |h| (h.topic == portal(DOOR, "decision")).then(|| h.json.clone())).await;
    assert_eq!((&answer["reason"], answer.get("id")), (&json!("granted"), None), "{answer}");
    let denied = &["decision=\"deny\"", "reason=\"malformed_identifier\""];
    assert_eq!(site.counted("dormgate_decisions_total", denied).await, 11);

    // State that is no state changes nothing.
    let mark = site.peer.mark();
    for at in EVERYWHERE.into_iter().chain(["door-999"]) {
        let mut deep = "{\"fire\":".repeat(300);
        write!(deep, "true{}", "}".repeat(300)).unwrap();
        for garbage in [
            "",
            "no",
            "[]",
            "{\"fire\":\"yes\",\"card_present\":3}",
            "{\"v\":2,\"fire\":true}",
            &deep,
            &"9".repeat(9000),
        ] {
            site.peer.report(&portal(at, "state"), garbage).await;
        }
    }
    site.expect_everywhere(CARD, "granted").await;
    let fire = |h: &Received| h.topic == up("alarm") && h.json["alarm"] == "fire";
    assert!(!site.peer.since(mark).iter().any(fire));
    assert!(site.counted("dormgate_mqtt_rejected_total", &["local"]).await >= 20);
    let states = &["topic=\"state\"", "invalid_field"];
    assert!(site.counted("dormgate_rejected_messages_total", states).await >= 20, "each is audited and counted");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heads_and_audit_acks_nobody_may_report_are_refused_and_move_nothing() {
    let (site, gateway) = open_house().await;
    let head = json!({"epoch": 1, "seq": 900, "cards": 4, "digest": "0".repeat(64)});
    let forger = Office { key: Office::apartment().key, ..Office::card_office() };
    let forged = forger.sign(&forger.claims("campus", head));
    let last = site.audit().last();
    let beyond = site.rooms.to_gateway(json!({"through": last + 1_000_000}));
    let not_his = site.cards.to_gateway(json!({"through": 1}));
    let bad = [
        ("dormgate/v1/campus/down/head/card-office".to_owned(), forged, "head", "bad_signature"),
        ("dormgate/v1/campus/down/head/card-office".to_owned(), "{}".to_owned(), "head", "unknown_stream"),
        (down("audit-ack"), beyond, "audit acknowledgement", "invalid_field"),
        (down("audit-ack"), not_his, "audit acknowledgement", "forbidden_op"),
        (down("audit-ack"), "through everything".to_owned(), "audit acknowledgement", "bad_signature"),
    ];
    let first = site.peer.mark();
    for (topic, payload, what, code) in bad {
        let mark = site.peer.mark();
        site.peer.report(&topic, payload).await;
        let about = |e: &Value| e["detail"].as_str().unwrap_or_default().starts_with(what);
        site.event(mark, what, |e| e["type"] == "rejected_message" && e["reason"] == code && about(e)).await;
    }
    site.expect_everywhere(CARD, "granted").await;
    assert!(!site.peer.since(first).iter().any(|h| h.topic == up("resync") && h.json["reason"] == "gap"));
    let reply = site.command("still", json!({"command": "query", "uid": CARD})).await;
    assert_eq!(reply["status"], "ok", "{reply}");
    assert!(site.counted("dormgate_audit_acked", &[]).await < last + 1000);
    gateway.stop().await;
}

/// Whoever may publish at the broker may write any topic of a portal, also that of one whose controller is on Modbus.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_or_state_at_the_broker_for_a_portal_that_is_not_there_is_answered_audited_and_without_effect() {
    const WIRED: &str = "door-413";
    let mut site = Site::new().await;
    site.extra = format!(
        "[modbus_server]\ntcp = \"127.0.0.1:0\"\n[[portal]]\nid = \"{WIRED}\"\nkind = \"door\"\nzone = \"412\"\ndevice = {{ modbus_server = 13 }}\n"
    );
    let gateway = site.start().await;
    site.report_cards(json!([issue(CARD, "h1")])).await;
    site.report_rooms(json!([enrol(CARD, "h1")])).await;
    site.expect_everywhere(CARD, "granted").await;
    let begin = site.peer.mark();
    let answer = site.present(WIRED, CARD).await;
    assert_eq!((&answer["decision"], &answer["reason"]), (&json!("deny"), &json!("unknown_portal")), "{answer}");
    let of = |kind: &'static str| {
        move |e: &Value| {
            let detail = e["detail"].as_str().unwrap_or_default();
            e["reason"] == "unknown_portal" && detail.starts_with(kind) && detail.contains(WIRED)
        }
    };
    site.event(begin, "the request in the audit", of("request")).await;
    site.peer.report(&portal(WIRED, "state"), r#"{"online":true,"tamper":true,"contact":"open"}"#).await;
    let report = site.event(begin, "the state in the audit", of("report")).await;
    assert!(site.counted("dormgate_rejected_messages_total", &["topic=\"request\"", "unknown_portal"]).await >= 1);
    // Behind them in the same audit: what a portal that is there does.
    site.expect_everywhere(CARD, "granted").await;
    let is_later = |e: &Value| e["n"].as_u64() > report["n"].as_u64() && e["portal"] == BOX;
    site.event(begin, "a later grant", is_later).await;
    let batches = site.peer.since(begin).into_iter().filter(|received| received.topic == up("audit"));
    let events = batches.flat_map(|batch| batch.json["events"].as_array().cloned().unwrap_or_default());
    let has_effect = |e: &Value| e["portal"] == WIRED && e["n"].as_u64() <= report["n"].as_u64();
    assert_eq!(events.filter(has_effect).collect::<Vec<_>>(), Vec::<Value>::new());
    gateway.stop().await;
}
