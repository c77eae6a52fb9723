//! A gateway is upgraded: the data directories that earlier programs have left are started by this one.
//!
//! `tests/formats` has the directories, each with what its program showed of it last; [`crate::earlier`] is what happened to them.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::center::{cancel, enrol, issue, portal, up};
use crate::earlier::{ARREARS, CANCELLED, FROZEN, GOOD, LEFT, LOST, NEW, OLD};
use crate::earlier::{answers, expected, publish_list, site, streams, tar, text, whole_list};
use crate::program::exit_of;
use crate::site::{BOX, GATE, Site, hash};

/// Issued after the upgrade.
const LATER: &str = "04A1B2C3D4E5FE";

/// An earlier program's directory, and a gateway that is not started yet.
struct Left {
    site: Site,
    /// What the earlier program showed of it last.
    before: Value,
}

impl Left {
    async fn of(archive: &Path) -> Self {
        let mut site = site().await;
        tar(&["-C", &text(&site.dir()), "-xzf", &text(archive)]);
        let before = std::fs::read_to_string(site.dir().join("before.json")).unwrap();
        let before: Value = serde_json::from_str(&before).unwrap();
        (site.cards.seq, site.rooms.seq) = (before["seqs"][0].as_u64().unwrap(), before["seqs"][1].as_u64().unwrap());
        Self { site, before }
    }

    fn config(&self) -> String {
        text(&self.site.config())
    }

    /// The offices' heads, kept by the broker, with the digests that the earlier program computed: a list that is the same agrees.
    async fn heads(&self) {
        for office in [&self.site.cards, &self.site.rooms] {
            let stream = &self.before["streams"][office.name];
            assert_eq!(stream["seq"], office.seq, "{stream}");
            let head = json!({"epoch": 1, "seq": office.seq, "cards": 10, "digest": stream["digest"]});
            let head = office.sign(&office.claims(office.aud(), head));
            self.site
                .peer
                .report_retained(&format!("dormgate/v1/{}/down/head/{}", office.aud(), office.name), head)
                .await;
        }
    }

    /// Everything is as the earlier program left it.
    async fn is_unchanged(&self) {
        assert_eq!(answers(&self.site).await, expected());
        assert_eq!(json!(streams(&self.site).await), self.before["streams"]);
    }

    fn generations(&self) -> usize {
        std::fs::read_dir(self.site.data().join("generations")).unwrap().count()
    }

    fn set_aside(&self) -> usize {
        std::fs::read_dir(self.site.data().join("damaged")).map_or(0, Iterator::count)
    }

    /// The journal is a chain without a hole, from the first event on.
    async fn audit_is_whole(&self) {
        let (code, log) = exit_of(&["audit", "verify", "--config", &self.config()]).await;
        assert_eq!(code, Some(0), "{log}");
    }

    fn asked_for_a_list(&self) -> bool {
        self.site.peer.since(0).iter().any(|received| received.topic == up("resync"))
    }
}

fn formats() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/formats")
}

/// The archives, by name.
fn archives() -> Vec<PathBuf> {
    let listed = std::fs::read_dir(formats()).unwrap().map(|entry| entry.unwrap().path());
    let mut archives: Vec<_> =
        listed.filter(|path| path.extension().is_some_and(|extension| extension == "gz")).collect();
    archives.sort();
    archives
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_earlier_program_left_is_started_whole_and_what_it_revoked_stays_revoked() {
    let archives = archives();
    assert!(archives.len() >= 2, "{archives:?}");
    for archive in archives {
        eprintln!("{}", archive.display());
        let mut left = Left::of(&archive).await;
        left.heads().await;
        let gateway = left.site.start().await;
        gateway.logged("ended in 60 bytes of an unfinished write").await;
        left.is_unchanged().await;
        the_audit_goes_on(&left).await;
        // The box that was on is on: the card in it may. What is shown in it again is no news.
        let inserted = json!({"online": true, "card_present": true, "uid": GOOD, "relay": true});
        left.site.peer.report(&portal(BOX, "state"), inserted.to_string()).await;
        replays_change_nothing(&left).await;
        gateway.kill().await;
        let gateway = left.site.start().await;
        left.is_unchanged().await;
        assert!(!left.asked_for_a_list(), "{}", left.site.peer.shown(0));
        assert_eq!(left.set_aside(), 0, "the generation of the earlier program is read");

        new_messages_count(&mut left).await;
        gateway.logged("a generation was written").await;
        assert!(left.generations() >= 2);
        gateway.kill().await;
        let gateway = left.site.start().await;
        after_new_messages(&left).await;
        let log = gateway.stop().await;
        assert!(!log.contains("is damaged"), "{log}");
        left.audit_is_whole().await;
    }
}

/// The center is sent what it did not have, from its cursor on, and the chain has no seam.
async fn the_audit_goes_on(left: &Left) {
    let Left { site, before } = left;
    let boot = site.event(0, "the boot of the upgraded program", |event| event["type"] == "boot").await;
    let owners = json!({"apartment": ["enrolment", "power", "schedule", "posture"], "card-office": ["standing"]});
    assert_eq!(boot["owners"], owners, "{boot}");
    assert_eq!(boot["gateway"], "xing1");
    let (acked, last) = (before["acked"].as_u64().unwrap(), before["last"].as_u64().unwrap());
    assert!(last > acked, "the center lacked something");
    let audit = site.audit();
    audit.verify(acked + 1);
    assert_eq!(hash(&audit.events[&last]), before["hash"], "event {last} is the one that the earlier program sent");
    // Nothing has another owner than before, so no number counts less.
    assert!(!audit.events.values().any(|event| event.contains("is now the stream of")), "{:?}", audit.events);
}

/// What the offices have sent before, in the order that would do harm: it is known.
async fn replays_change_nothing(left: &Left) {
    let site = &left.site;
    for (office, seq, ops) in [
        (&site.cards, 1, json!([issue(OLD, "h2"), issue(LOST, "h3")])),
        (&site.rooms, 1, json!([enrol(LEFT, "h8"), enrol(OLD, "h2")])),
        (&site.cards, site.cards.seq, json!([{"op": "unfreeze", "holder": "h4"}])),
    ] {
        let mark = site.peer.mark();
        site.peer.report(&office.topic(), office.sign(&office.numbered(office.aud(), seq, &ops))).await;
        let ack = site.ack(mark, office.name, seq).await;
        assert!(ack["outcome"] == "duplicate" || ack["outcome"] == "stale", "{ack}");
    }
    assert_eq!(answers(site).await, expected());
}

/// Both offices go on with their next numbers, the apartment center with a whole list, after which a generation is written.
async fn new_messages_count(left: &mut Left) {
    let site = &mut left.site;
    let ack = site.report_cards(json!([issue(LATER, "h9"), cancel(GOOD), {"op": "found", "uid": LOST}])).await;
    assert_eq!((&ack["outcome"], &ack["revoked"]), (&json!("applied"), &json!([GOOD])), "{ack}");
    assert_eq!(ack["cut"], json!([BOX]), "{ack}");
    let rights = [
        enrol(GOOD, "h1"),
        enrol(OLD, "h2"),
        enrol(NEW, "h2"),
        enrol(LOST, "h3"),
        enrol(FROZEN, "h4"),
        enrol(LATER, "h9"),
    ];
    let set = [json!({"zone": "413", "power": ["arrears"]}), json!({"portal": "door-413", "posture": "lockdown"})];
    let list = whole_list(site, "list-2", &rights, &set);
    publish_list(site, list).await;
    after_new_messages(left).await;
}

async fn after_new_messages(left: &Left) {
    for (uid, reason) in [
        (GOOD, "cancelled"),
        (OLD, "replaced"),
        (NEW, "granted"),
        (LOST, "granted"),
        (FROZEN, "frozen"),
        (CANCELLED, "cancelled"),
        (ARREARS, "not_enrolled"),
        (LATER, "granted"),
    ] {
        assert_eq!(left.site.present(GATE, uid).await["reason"], reason, "{uid}");
    }
    assert_eq!(left.site.present("door-413", LATER).await["reason"], "lockdown");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_directory_of_an_earlier_program_belongs_to_its_gateway_from_its_first_start_on() {
    for archive in archives() {
        let left = Left::of(&archive).await;
        left.heads().await;
        left.site.start().await.stop().await;
        let other = left.site.config_text().replace("id = \"xing1\"", "id = \"xing2\"");
        std::fs::write(left.site.config(), &other).unwrap();
        let config = text(&left.site.dir().join("dormgate.toml"));
        std::fs::write(&config, other).unwrap();
        let (code, log) = exit_of(&["run", "--config", &config]).await;
        assert_eq!(code, Some(1), "{log}");
        assert!(log.contains("is the data directory of gateway `xing1`"), "{log}");
    }
}
