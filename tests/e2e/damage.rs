//! A store that was damaged while the gateway was down, in every way a disk or a person can: it starts, reports it, deletes
//! nothing, revives nobody, and is whole again once the centers have sent.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::center::{GATEWAY, Office, cancel, down, enrol, issue, portal, reissue, up};
use crate::program::Program;
use crate::site::{EVERYWHERE, GATE, Site, hash};

/// In good standing.
const GOOD: &str = "1EA68671";
/// Cancelled early, before the oldest generation.
const EARLY: &str = "04A1B2C3D4E5F6";
/// Replaced late, after the newest generation.
const LATE: &str = "04A1B2C3D4E5F7";
const LATE_NEW: &str = "04A1B2C3D4E5F8";

/// More events than a clean stop needs to write a generation.
const MANY: u32 = 1100;

/// Everything an office ever output, to report it again.
struct Reported {
    office: Office,
    all: Vec<Value>,
}

impl Reported {
    fn new(office: Office) -> Self {
        Self { office, all: Vec::new() }
    }

    async fn report(&mut self, site: &Site, ops: Value) {
        let (mark, message) = (site.peer.mark(), self.office.next(&ops));
        self.all.push(ops);
        site.peer.report(&self.office.topic(), message).await;
        let ack = site.ack(mark, self.office.name, self.office.seq).await;
        assert_eq!(ack["outcome"], "applied", "{ack}");
    }

    /// Its head, kept by the broker: a start that lost nothing agrees with it, and asks for nothing.
    async fn head(&self, site: &Site, lines: &[String]) {
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let head = json!({"epoch": 1, "seq": self.office.seq, "cards": lines.len(), "digest": hash(&text)});
        let head = self.office.sign(&self.office.claims(self.office.aud(), head));
        let topic = format!("dormgate/v1/{}/down/head/{}", self.office.aud(), self.office.name);
        site.peer.report_retained(&topic, head).await;
    }

    async fn report_again(&self, site: &Site) {
        for (seq, ops) in (1..).zip(&self.all) {
            let again = self.office.sign(&self.office.numbered(GATEWAY, seq, ops));
            let mark = site.peer.mark();
            site.peer.report(&down("changes"), again).await;
            let ack = site.ack(mark, self.office.name, seq).await;
            assert!(ack["outcome"] == "applied" || ack["outcome"] == "duplicate", "{ack}");
        }
    }
}

/// A dormitory whose gateway is down, with two generations and a journal after the newer.
struct Ruin {
    site: Site,
    cards: Reported,
    rooms: Reported,
}

/// Fills the audit.
async fn busy(site: &Site) {
    for i in 0..MANY {
        let request = json!({"v": 1, "id": format!("busy-{}-{i}", site.peer.mark()), "uid": "04000000000001"});
        site.peer.report(&portal(GATE, "request"), request.to_string()).await;
    }
    // What comes after them is audited after them.
    let mark = site.peer.mark();
    let jti = format!("after-{mark}");
    site.peer.report(&down("command"), site.rooms.command(&jti, json!({"command": "query", "uid": GOOD}))).await;
    site.reply(mark, &jti).await;
}

fn generations(site: &Site) -> Vec<PathBuf> {
    let listed = std::fs::read_dir(site.data().join("generations")).unwrap();
    let mut names: Vec<_> = listed.map(|entry| entry.unwrap().path()).collect();
    // One that a stop left unfinished has a name that begins otherwise.
    names.retain(|path| path.file_name().unwrap().as_encoded_bytes()[0].is_ascii_digit());
    names.sort();
    names
}

fn segments(site: &Site) -> Vec<PathBuf> {
    let listed = std::fs::read_dir(site.data().join("journal")).unwrap();
    let mut names: Vec<_> = listed.map(|entry| entry.unwrap().path()).collect();
    names.retain(|path| path.extension().is_some_and(|extension| extension == "seg"));
    names.sort();
    names
}

impl Ruin {
    /// `generations` as many as that; 0: the journal holds everything.
    async fn new(wanted: usize) -> Self {
        let site = Site::new().await;
        let mut ruin =
            Self { cards: Reported::new(Office::card_office()), rooms: Reported::new(Office::apartment()), site };
        let gateway = ruin.site.start().await;
        let Self { site, cards, rooms } = &mut ruin;
        cards.report(site, json!([issue(GOOD, "h1"), issue(EARLY, "h2"), issue(LATE, "h3")])).await;
        rooms.report(site, json!([enrol(GOOD, "h1"), enrol(EARLY, "h2"), enrol(LATE, "h3")])).await;
        cards.report(site, json!([cancel(EARLY)])).await;
        site.expect_everywhere(GOOD, "granted").await;
        let mut gateway = Some(gateway);
        // A stop writes for 4 s at most and may leave its generation unfinished, on a disk that others use: then the next one.
        while generations(site).len() < wanted {
            busy(site).await;
            gateway.take().unwrap().stop().await;
            gateway = Some(site.start().await);
        }
        let mark = site.peer.mark();
        cards.report(site, json!([reissue("h3", LATE_NEW, LATE)])).await;
        site.event(mark, "the revocation", |e| e["type"] == "revoked").await;
        assert_eq!(site.reason(GATE, LATE).await, "replaced");
        let standing = [
            "H|h3|replaced".to_owned(),
            format!("S|{EARLY}|h2|cancelled"),
            format!("S|{LATE}|h3|replaced"),
            format!("S|{LATE_NEW}|h3|"),
            format!("S|{GOOD}|h1|"),
        ];
        cards.head(site, &standing).await;
        let enrolled = |(uid, holder)| format!("E|{uid}|{holder}|resident|||door:412:,gate:*:,power_box:412:");
        rooms.head(site, &[(EARLY, "h2"), (LATE, "h3"), (GOOD, "h1")].map(enrolled)).await;
        site.acknowledge_audit(site.audit().last()).await;
        gateway.unwrap().stop().await;
        assert_eq!(generations(site).len(), wanted);
        ruin
    }

    /// Nobody who was revoked gets in.
    async fn nobody_is_revived(&self) {
        for uid in [EARLY, LATE] {
            for at in EVERYWHERE {
                let answer = self.site.present(at, uid).await;
                assert_eq!(answer["decision"], "deny", "{uid} at {at}: {answer}");
            }
        }
    }

    /// It started in spite of the damage; reports it in its log and by an alarm.
    async fn start(&self, output: &str) -> (Program, usize) {
        let mark = self.site.peer.mark();
        let gateway = self.site.start().await;
        self.nobody_is_revived().await;
        gateway.logged(output).await;
        let alarm = self.site.alarm(mark, "store").await;
        assert!(!alarm["detail"].as_str().unwrap().is_empty(), "{alarm}");
        (gateway, mark)
    }

    /// Nothing was lost: no list is asked for, and the good card opens at once.
    async fn is_whole(&self, gateway: Program, mark: usize) {
        self.site.expect_everywhere(GOOD, "granted").await;
        assert_eq!(self.site.reason(GATE, EARLY).await, "cancelled");
        assert_eq!(self.site.reason(GATE, LATE).await, "replaced");
        gateway.stop().await;
        let asked = |h: &crate::peer::Received| h.topic == up("resync");
        assert!(!self.site.peer.since(mark).iter().any(asked), "{}", self.site.peer.shown(mark));
        // And the next start has nothing to report any more.
        let gateway = self.site.start().await;
        self.site.expect_everywhere(GOOD, "granted").await;
        self.nobody_is_revived().await;
        gateway.stop().await;
    }

    /// Something was lost: the list is asked for, and trusted again when it came.
    async fn is_refilled(&self, gateway: Program, mark: usize) {
        for uid in [GOOD, LATE_NEW] {
            let answer = self.site.present(GATE, uid).await;
            assert_eq!(answer["decision"], "deny", "nothing is granted from a list with holes: {answer}");
        }
        let list = self.site.alarm(mark, "list");
        list.await;
        for office in [&self.cards, &self.rooms] {
            let resync = self.site.resync(mark, office.office.name).await;
            assert!(["empty", "corrupt", "gap"].iter().any(|reason| resync["reason"] == *reason), "{resync}");
        }
        // The rights come back before the revocations: nobody may slip in between.
        self.rooms.report_again(&self.site).await;
        self.nobody_is_revived().await;
        self.cards.report_again(&self.site).await;
        self.site.expect_everywhere(GOOD, "granted").await;
        assert_eq!(self.site.reason(GATE, EARLY).await, "cancelled");
        assert_eq!(self.site.reason(GATE, LATE).await, "replaced");
        assert_eq!(self.site.reason(GATE, LATE_NEW).await, "not_enrolled");
        gateway.stop().await;
        let gateway = self.site.start().await;
        self.site.expect_everywhere(GOOD, "granted").await;
        self.nobody_is_revived().await;
        gateway.stop().await;
    }

    fn damaged(&self) -> Vec<String> {
        let listed = std::fs::read_dir(self.site.data().join("damaged")).unwrap();
        listed.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

fn flip(path: &Path, at: impl Fn(usize) -> usize) {
    let mut bytes = std::fs::read(path).unwrap();
    let at = at(bytes.len());
    bytes[at] ^= 0x10;
    std::fs::write(path, bytes).unwrap();
}

/// The largest file below a generation: the database itself.
fn database(generation: &Path) -> PathBuf {
    let mut files = Vec::new();
    let mut dirs = vec![generation.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { dirs.push(path) } else { files.push(path) }
        }
    }
    files.into_iter().max_by_key(|path| path.metadata().unwrap().len()).unwrap()
}

/// Where the evidence of the `nth` change (from 1) begins in a segment: a JWS of our offices begins so.
fn nth_change(bytes: &[u8], nth: usize) -> usize {
    let begin = b"eyJhbGciOiJFZERTQSI";
    let found = bytes.windows(begin.len()).enumerate().filter(|(_, window)| *window == begin);
    found.map(|(at, _)| at).nth(nth - 1).expect("that many changes")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_byte_in_the_newest_generation_costs_nothing() {
    let ruin = Ruin::new(2).await;
    let newest = generations(&ruin.site).pop().unwrap();
    flip(&database(&newest), |length| length / 2);
    let (gateway, mark) = ruin.start("is damaged").await;
    assert_eq!(ruin.damaged().len(), 1, "it was set aside, not deleted");
    ruin.is_whole(gateway, mark).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_all_generations_damaged_the_journal_still_has_everything() {
    let ruin = Ruin::new(2).await;
    for generation in generations(&ruin.site) {
        flip(&database(&generation), |length| length / 3);
    }
    let (gateway, mark) = ruin.start("is damaged").await;
    assert_eq!(ruin.damaged().len(), 2);
    ruin.is_whole(gateway, mark).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rubbish_in_place_of_a_generation_costs_nothing() {
    let ruin = Ruin::new(1).await;
    let generation = generations(&ruin.site).pop().unwrap();
    std::fs::remove_dir_all(&generation).unwrap();
    std::fs::write(&generation, "rubbish").unwrap();
    let (gateway, mark) = ruin.start("is damaged").await;
    assert_eq!(ruin.damaged().len(), 1);
    ruin.is_whole(gateway, mark).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_journal_cut_below_what_was_acknowledged_is_noticed_and_nobody_is_revived() {
    let ruin = Ruin::new(0).await;
    let segment = segments(&ruin.site).pop().unwrap();
    let bytes = std::fs::read(&segment).unwrap();
    // In the middle of the cancellation of the early card, which was acknowledged.
    let cut = nth_change(&bytes, 3) + 40;
    std::fs::write(&segment, &bytes[..cut]).unwrap();
    let (gateway, mark) = ruin.start("are lost").await;
    ruin.is_refilled(gateway, mark).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_byte_in_the_middle_of_the_journal_is_noticed_and_nobody_is_revived() {
    let ruin = Ruin::new(0).await;
    let segment = segments(&ruin.site).pop().unwrap();
    let bytes = std::fs::read(&segment).unwrap();
    let at = nth_change(&bytes, 3) + 40;
    flip(&segment, |_| at);
    let (gateway, mark) = ruin.start("are damaged").await;
    assert_eq!(ruin.damaged().len(), 1, "a copy of the segment is kept");
    ruin.is_refilled(gateway, mark).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_journal_is_noticed_and_nobody_is_revived() {
    let ruin = Ruin::new(1).await;
    std::fs::remove_dir_all(ruin.site.data().join("journal")).unwrap();
    let (gateway, mark) = ruin.start("lost").await;
    ruin.is_refilled(gateway, mark).await;

    let ruin = Ruin::new(0).await;
    for segment in segments(&ruin.site) {
        std::fs::remove_file(segment).unwrap();
    }
    let (gateway, mark) = ruin.start("lost").await;
    ruin.is_refilled(gateway, mark).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_its_mark_the_journal_is_not_trusted_and_nobody_is_revived() {
    let ruin = Ruin::new(1).await;
    std::fs::remove_file(ruin.site.data().join("journal/durable")).unwrap();
    let (gateway, mark) = ruin.start("`journal/durable`").await;
    ruin.is_refilled(gateway, mark).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_everything_gone_it_starts_as_new_and_grants_nobody_before_both_offices_were_received() {
    for gone in ["", "journal"] {
        let ruin = Ruin::new(0).await;
        std::fs::remove_dir_all(ruin.site.data().join(gone)).unwrap();
        let mark = ruin.site.peer.mark();
        let gateway = ruin.site.start().await;
        ruin.nobody_is_revived().await;
        let resync = ruin.site.resync(mark, "card-office").await;
        assert!(resync["reason"] == "empty" || resync["reason"] == "gap", "{resync}");
        ruin.rooms.report_again(&ruin.site).await;
        ruin.nobody_is_revived().await;
        ruin.cards.report_again(&ruin.site).await;
        ruin.site.expect_everywhere(GOOD, "granted").await;
        ruin.nobody_is_revived().await;
        gateway.stop().await;
    }
}
