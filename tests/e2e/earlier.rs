//! What happens to a gateway whose program is then left behind for a later one, and how its data directory is kept:
//! `tests/formats/README.md`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::center::{cancel, down, enrol, issue, portal, reissue, up};
use crate::peer::Received;
use crate::program::{Program, page_by_socket, within};
use crate::site::{BOX, DOOR, GATE, Site, hash};

/// In good standing, and in the box when the power goes.
pub const GOOD: &str = "1EA68671";
/// Replaced while it is in the box.
pub const OLD: &str = "04A1B2C3D4E5F6";
/// Takes its place.
pub const NEW: &str = "04A1B2C3D4E5F7";
pub const LOST: &str = "04A1B2C3D4E5F8";
/// Frozen by its holder.
pub const FROZEN: &str = "04A1B2C3D4E5F9";
/// Cancelled before the generation was written; all else is taken away after it.
pub const CANCELLED: &str = "04A1B2C3D4E5FA";
/// Its schedule is never open.
const NIGHT: &str = "04A1B2C3D4E5FB";
/// Of a room whose power is suspended.
pub const ARREARS: &str = "04A1B2C3D4E5FC";
/// The list that the earlier program was sent as a snapshot does not name it any more.
pub const LEFT: &str = "04A1B2C3D4E5FD";
/// The box of the room whose power is suspended, and a door under lockdown.
const FURTHER: &str = "[[portal]]\nid = \"power-413\"\nkind = \"power_box\"\nzone = \"413\"\ndevice = { mqtt = \"native\" }\n\
    [[portal]]\nid = \"door-413\"\nkind = \"door\"\nzone = \"413\"\nhold_ms = 5000\ndevice = { mqtt = \"native\" }\n";

/// What every card is answered after the history.
const ANSWERS: [(&str, &str, &str); 15] = [
    (GATE, GOOD, "granted"),
    (DOOR, GOOD, "granted"),
    (GATE, OLD, "replaced"),
    ("power-413", OLD, "replaced"),
    (GATE, NEW, "granted"),
    (GATE, LOST, "lost"),
    (DOOR, LOST, "lost"),
    (GATE, FROZEN, "frozen"),
    (GATE, CANCELLED, "cancelled"),
    ("power-413", CANCELLED, "cancelled"),
    (GATE, NIGHT, "outside_schedule"),
    (GATE, ARREARS, "granted"),
    ("power-413", ARREARS, "power_suspended"),
    ("door-413", ARREARS, "lockdown"),
    (GATE, LEFT, "not_enrolled"),
];

pub fn tar(arguments: &[&str]) {
    let ended = Command::new("tar").args(arguments).status().expect("tar");
    assert!(ended.success(), "tar {arguments:?}");
}

pub fn text(path: &Path) -> String {
    path.display().to_string()
}

pub async fn site() -> Site {
    let mut site = Site::new().await;
    site.extra = FURTHER.to_owned();
    site
}

fn in_413(uid: &str, holder: &str) -> Value {
    json!({"op": "enrol", "uid": uid, "holder": holder, "entitlements": [
        {"kind": "gate", "zone": "*"}, {"kind": "door", "zone": "413"}, {"kind": "power_box", "zone": "413"}]})
}

fn at_night(uid: &str, holder: &str) -> Value {
    json!({"op": "enrol", "uid": uid, "holder": holder, "entitlements": [{"kind": "gate", "zone": "*", "schedule": "never"}]})
}

/// The list of the apartment center as a snapshot of its next number: these entries, the schedule, and what else is set.
pub fn whole_list(site: &mut Site, name: &str, entries: &[Value], set: &[Value]) -> String {
    site.rooms.seq += 1;
    let mut all: Vec<_> = entries.to_vec();
    for entry in &mut all {
        entry.as_object_mut().unwrap().remove("op");
    }
    let cards = all.len();
    all.extend(set.iter().cloned());
    all.push(json!({"schedule": "never", "rev": [1, 1, 0], "weekly": {}}));
    let (epoch, seq) = (site.rooms.epoch, site.rooms.seq);
    site.rooms.to_gateway(json!({
        "snapshot": name, "epoch": epoch, "seq": seq, "part": 0, "parts": 1, "cards": cards, "allow_shrink": true, "entries": all,
    }))
}

pub async fn publish_list(site: &Site, list: String) {
    let mark = site.peer.mark();
    site.peer.report(&down("snapshot"), list).await;
    let ack = site.ack(mark, "apartment", site.rooms.seq).await;
    assert_eq!(ack["outcome"], "applied", "{ack}");
}

async fn in_the_box(site: &Site, uid: &str) {
    let mark = site.peer.mark();
    assert_eq!(site.reason(BOX, uid).await, "granted");
    let inserted = json!({"online": true, "card_present": true, "uid": uid, "relay": true});
    site.peer.report(&portal(BOX, "state"), inserted.to_string()).await;
    site.event(mark, "the box is on", |event| event["type"] == "power_on" && event["uid"] == uid).await;
}

/// Two offices and their gateway, for some seconds: cards issued and enrolled, a list as a snapshot, after which the gateway writes a
/// generation, a clean stop and a start; and into the journal after the generation each way to lose a right. `start` starts the program.
async fn history(site: &mut Site, start: impl Fn(&Site) -> Program) -> Program {
    let begun = async |site: &Site| {
        let (mark, gateway) = (site.peer.mark(), start(site));
        site.online(mark, &gateway).await;
        gateway
    };
    let gateway = begun(site).await;
    let holders = [(GOOD, "h1"), (OLD, "h2"), (LOST, "h3"), (FROZEN, "h4"), (CANCELLED, "h5")];
    let others = [(NIGHT, "h6"), (ARREARS, "h7"), (LEFT, "h8")];
    let issued: Vec<_> = holders.iter().chain(&others).map(|(uid, holder)| issue(uid, holder)).collect();
    site.report_cards(json!(issued)).await;
    let mut rights = vec![json!({"op": "define_schedule", "name": "never", "weekly": {}})];
    rights.extend(holders.iter().map(|(uid, holder)| enrol(uid, holder)));
    rights.extend([at_night(NIGHT, "h6"), in_413(ARREARS, "h7"), enrol(LEFT, "h8")]);
    site.report_rooms(json!(rights)).await;
    site.report_cards(json!([cancel(CANCELLED)])).await;
    rights.retain(|op| op["op"] == "enrol" && op["uid"] != LEFT);
    let list = whole_list(site, "list-1", &rights, &[]);
    publish_list(site, list).await;
    gateway.logged("a generation was written").await;
    gateway.stop().await;

    let gateway = begun(site).await;
    in_the_box(site, OLD).await;
    let ack = site.report_cards(json!([reissue("h2", NEW, OLD)])).await;
    assert_eq!((&ack["revoked"], &ack["cut"]), (&json!([OLD]), &json!([BOX])), "{ack}");
    let off = json!({"online": true, "card_present": false, "relay": false});
    site.peer.report(&portal(BOX, "state"), off.to_string()).await;
    site.report_cards(json!([{"op": "report_lost", "uid": LOST}, {"op": "freeze", "holder": "h4"}])).await;
    site.report_rooms(json!([enrol(NEW, "h2"), {"op": "suspend_power", "zone": "413", "reason": "arrears"}])).await;
    let lockdown = json!({"op": "set_posture", "portals": ["door-413"], "posture": "lockdown"});
    site.report_rooms(json!([lockdown])).await;
    let reply = site.command("released", json!({"command": "release", "portal": GATE})).await;
    assert_eq!(reply["status"], "ok", "{reply}");
    // It rests, and then it is on again.
    let on = async {
        loop {
            let answer = site.present(BOX, GOOD).await;
            match answer["delay_ms"].as_u64() {
                None => break,
                Some(ms) => tokio::time::sleep(std::time::Duration::from_millis(ms)).await,
            }
        }
    };
    within("the box has rested", on).await;
    in_the_box(site, GOOD).await;
    gateway
}

/// What a gateway shows of its streams: epoch, number and digest of each. Waits until the digests are known.
pub async fn streams(site: &Site) -> BTreeMap<String, Value> {
    let shown = async {
        loop {
            let (_, body) = page_by_socket(&site.socket(), "/api/v1/status").await;
            let status: Value = serde_json::from_str(&body).unwrap();
            let streams = status["streams"].as_array().unwrap();
            if streams.len() == 2 && streams.iter().all(|stream| stream["digest"].is_string()) {
                let of = |stream: &Value| json!({"epoch": stream["epoch"], "seq": stream["seq"], "digest": stream["digest"]});
                return streams.iter().map(|s| (s["name"].as_str().unwrap().to_owned(), of(s))).collect();
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    within("the digest of each stream", shown).await
}

pub async fn answers(site: &Site) -> Vec<(&'static str, &'static str, String)> {
    let mut found = Vec::new();
    for (at, uid, _) in ANSWERS {
        found.push((at, uid, site.present(at, uid).await["reason"].as_str().unwrap().to_owned()));
    }
    found
}

pub fn expected() -> Vec<(&'static str, &'static str, String)> {
    ANSWERS.iter().map(|(at, uid, reason)| (*at, *uid, (*reason).to_owned())).collect()
}

/// The newest segment of the journal.
fn newest_segment(data: &Path) -> PathBuf {
    let listed = std::fs::read_dir(data.join("journal")).unwrap().map(|entry| entry.unwrap().path());
    listed.filter(|path| path.extension().is_some_and(|extension| extension == "seg")).max().unwrap()
}

/// Makes one of the directories; see `tests/formats/README.md`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs an earlier program"]
async fn an_earlier_program_leaves_its_directory() {
    let program = std::env::var("PROGRAM").expect("`PROGRAM` is the path of the earlier program");
    let archive = std::env::var("ARCHIVE").expect("`ARCHIVE` is the path of the file to write");
    let mut site = site().await;
    let gateway = history(&mut site, |site| Program::other(&program, &site.config())).await;
    assert_eq!(answers(&site).await, expected());
    let streams = streams(&site).await;
    // The center has the audit up to an event in the middle; what is after it comes again.
    site.command("last", json!({"command": "query", "uid": GOOD})).await;
    let mark = site.peer.mark();
    site.event(0, "the last command", |event| event["jti"] == "last").await;
    let acked = site.audit().last();
    site.acknowledge_audit(acked).await;
    let cursor = format!("\"acked\":{acked}");
    let shown = |received: &Received| {
        (received.topic == up("state") && String::from_utf8_lossy(&received.payload).contains(&cursor)).then_some(())
    };
    // Whatever is written next shows the cursor.
    site.report_rooms(json!([in_413(ARREARS, "h7")])).await;
    site.peer.find(mark, "the cursor in the state", shown).await;
    let streams_after = self::streams(&site).await;
    assert_ne!(streams, streams_after, "a number has moved on");
    let cursor_on_disk = async {
        let path = site.data().join("journal/acked");
        while !path.exists() {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    };
    within("the cursor is written", cursor_on_disk).await;
    gateway.kill().await;
    // The power went in the middle of a write: what was written of it begins like an event.
    let segment = newest_segment(&site.data());
    let mut bytes = std::fs::read(&segment).unwrap();
    let begun = bytes[77..77 + 60].to_vec();
    bytes.extend(begun);
    std::fs::write(&segment, bytes).unwrap();
    let audit = site.audit();
    let before = json!({
        "streams": streams_after, "acked": acked, "last": audit.last(), "hash": hash(&audit.events[&audit.last()]),
        "seqs": [site.cards.seq, site.rooms.seq],
    });
    std::fs::write(site.dir().join("before.json"), format!("{before:#}\n")).unwrap();
    let dir = text(&site.dir());
    tar(&[
        "-C",
        &dir,
        "--exclude=*.sock",
        "--exclude=reserve*",
        "--exclude=lock",
        "--sort=name",
        "--owner=0",
        "--group=0",
        "--numeric-owner",
        "-czf",
        &archive,
        "before.json",
        "data",
    ]);
}
