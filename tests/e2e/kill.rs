//! Killed at the worst moment, again and again: what was acknowledged holds.
//!
//! `ROUNDS=1000 cargo test --all-features --test e2e -- --include-ignored every_acknowledged` kills that often.

use serde_json::json;

use crate::center::{cancel, down, enrol, issue, portal, up};
use crate::mosquitto::real_parts;
use crate::peer::Received;
use crate::program::exit_of;
use crate::site::{DOOR, GATE, Site};

fn card(round: u64) -> String {
    format!("04{round:012X}")
}

/// How often the gateway is killed: `ROUNDS`, or so often with the real broker, or with the embedded one.
fn rounds(real: u64, embedded: u64) -> u64 {
    match std::env::var("ROUNDS") {
        Ok(text) => text.parse().unwrap_or_else(|error| panic!("`ROUNDS={text}`: {error}; a whole number is wanted")),
        Err(_) if real_parts() => real,
        Err(_) => embedded,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_acknowledged_change_is_in_force_after_a_kill_and_the_audit_has_no_hole_and_no_repeat() {
    let rounds = rounds(50, 10);
    let mut site = Site::new().await;
    for round in 1..=rounds {
        let began = site.peer.mark();
        let gateway = site.start().await;
        // What was acknowledged in the last round is in force at once, from the first answer on.
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

/// Cards of one list in the test of snapshots.
const LIST: u64 = 1_200;
/// Parts of one snapshot there.
const PARTS: u64 = 4;

fn listed(round: u64, place: u64) -> String {
    format!("04{round:04X}{place:08X}")
}

/// The parts of a snapshot that puts the list of `round` in the place of every other.
fn parts_of(site: &mut Site, round: u64) -> Vec<String> {
    site.rooms.seq += 1;
    let entry = |place: u64| {
        let entitlements = json!([{"kind": "gate", "zone": "*"}]);
        json!({"uid": listed(round, place), "holder": format!("p{place}"), "entitlements": entitlements})
    };
    let part = |part: u64| {
        let entries: Vec<_> = (part * LIST / PARTS..(part + 1) * LIST / PARTS).map(entry).collect();
        site.rooms.to_gateway(json!({
            "snapshot": format!("list-{round}"), "epoch": 1, "seq": site.rooms.seq, "part": part, "parts": PARTS,
            "cards": LIST, "allow_shrink": true, "entries": entries,
        }))
    };
    (0..PARTS).map(part).collect()
}

/// Whether the first and the last card of the list of `round` are let in: all of a list is in force, or nothing of it.
async fn in_force(site: &Site, round: u64) -> bool {
    let first = site.reason(GATE, &listed(round, 0)).await == "granted";
    let last = site.reason(GATE, &listed(round, LIST - 1)).await == "granted";
    // The broker may hand out parts again behind the first answer, and so complete the snapshot between the two.
    assert!(last || !first, "the list of round {round} is in force in part");
    first || last && site.reason(GATE, &listed(round, 0)).await == "granted"
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_at_any_step_of_a_snapshot_leaves_the_old_list_or_the_new_one_whole_and_no_card_revived() {
    let rounds = rounds(24, 6);
    let mut site = Site::new().await;
    let mut newest = 0;
    for round in 1..=rounds {
        let gateway = site.start().await;
        let mark = site.peer.mark();
        // Killed behind so many parts; in the last two of every six rounds behind all of them, and then before or after the ack.
        let sent = (round % 6).min(PARTS);
        let is_awaited = round % 6 == 5;
        let parts = parts_of(&mut site, round);
        let publish = |(_, part): (u64, &String)| site.peer.report_quickly(&down("snapshot"), part.clone());
        (0..sent / 2).zip(&parts).for_each(publish);
        let cancelled = listed(round, LIST / 2);
        assert_eq!(site.report_cards(json!([cancel(&cancelled)])).await["outcome"], "applied");
        let publish = |(_, part): (u64, &String)| site.peer.report_quickly(&down("snapshot"), part.clone());
        (0..sent).zip(&parts).filter(|(place, _)| *place >= sent / 2).for_each(publish);
        if is_awaited {
            let ack = site.ack(mark, "apartment", site.rooms.seq).await;
            assert_eq!(ack["outcome"], "applied", "{ack}");
            newest = round;
        }
        gateway.kill().await;

        let gateway = site.start().await;
        assert_eq!(site.reason(GATE, &cancelled).await, "cancelled", "round {round}");
        match (in_force(&site, round).await, newest) {
            (true, _) => newest = round,
            (false, 0) => {}
            (false, newest) => {
                // The broker may complete the snapshot now; then it is in force, and nothing else is.
                let is_old = in_force(&site, newest).await;
                assert!(
                    is_old || in_force(&site, round).await,
                    "round {round}: no list is in force, {newest} was acknowledged"
                );
            }
        }
        gateway.kill().await;
    }
    let gateway = site.start().await;
    for round in 1..=rounds {
        assert_eq!(site.reason(GATE, &listed(round, LIST / 2)).await, "cancelled", "card of round {round}");
    }
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_that_released_does_not_release_again_and_a_posture_that_was_confirmed_stands_after_a_kill() {
    let site = Site::new().await;
    let config = site.config().display().to_string();
    for round in 0..rounds(6, 3) {
        let gateway = site.start().await;
        let (mark, jti) = (site.peer.mark(), format!("j{round}"));
        let command = site.rooms.command(&jti, json!({"command": "release", "portal": GATE}));
        site.peer.report_quickly(&down("command"), command.clone());
        site.peer.find(mark, "a release", |received| is_release(received).then_some(())).await;
        gateway.kill().await;

        let gateway = site.start().await;
        let mark = site.peer.mark();
        site.peer.report_quickly(&down("command"), command);
        assert_eq!(site.reply(mark, &jti).await["status"], "duplicate", "round {round}");
        assert!(!site.peer.since(mark).iter().any(is_release), "round {round}");
        let posture = if round % 2 == 0 { "out_of_service" } else { "secure" };
        assert_eq!(exit_of(&["posture", DOOR, posture, "--config", &config]).await.0, Some(0));
        gateway.kill().await;

        let gateway = site.start().await;
        let reason = site.reason(DOOR, &card(round)).await;
        assert_eq!(reason == "out_of_service", round % 2 == 0, "round {round}: {reason}");
        gateway.stop().await;
    }
}

fn is_release(received: &Received) -> bool {
    received.topic == portal(GATE, "control") && received.json["action"] == "release"
}
