//! The center that an office runs, with two gateways on a real broker, while it is killed, is away, or meets a gateway that has nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use dormgate::access::id::CardUid;
use dormgate::center::database::{Database, Retention};
use dormgate::center::{Audience, Center as Kept};
use dormgate::config::{self, CenterSite};
use dormgate::wire::digest;
use rumqttc::Transport;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::center::{enrol, issue};
use crate::mosquitto::{Mosquitto, Rules};
use crate::peer::{Door, Peer, Received};
use crate::program::{Program, page_by_socket, within};
use crate::rig::{ALL, Center, send};

pub const GATEWAYS: [&str; 2] = ["xing1", "xing2"];
/// How often a test looks at what nobody reports, in milliseconds.
const LOOK_MS: u64 = 20;

fn read_site(center: &Center) -> CenterSite {
    config::load_center(&center.dir.path().join("center.toml")).unwrap()
}

/// A gateway that has the center's streams and one gate.
struct Member {
    id: &'static str,
    dir: tempfile::TempDir,
    program: Option<Program>,
}

impl Member {
    fn new(id: &'static str, url: &str, center: &Center) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let streams: String = read_site(center).streams.iter().map(|(spec, _)| config::stream_table(spec)).collect();
        let text = format!(
            "[gateway]\nid = \"{id}\"\ndata_dir = \"data\"\n[uplink]\nurls = [\"{url}\"]\n[local]\nurls = [\"{url}\"]\n{streams}\n\
             [[portal]]\nid = \"gate-in\"\nkind = \"gate\"\nzone = \"lobby\"\ndirection = \"in\"\ndevice = {{ mqtt = \"native\" }}\n"
        );
        std::fs::write(dir.path().join("dormgate.toml"), text).unwrap();
        Self { id, dir, program: None }
    }

    async fn start(&mut self) {
        let program = Program::run(&self.dir.path().join("dormgate.toml"));
        program.logged("serving").await;
        self.program = Some(program);
    }

    async fn stop(&mut self) {
        self.program.take().unwrap().stop().await;
    }

    /// What it shows of a stream: the number up to which nothing is missing, and the digest.
    async fn stream(&self, stream: &str) -> (u64, Value) {
        let (status, body) = page_by_socket(&self.dir.path().join("data/dormgate.sock"), "/api/v1/status").await;
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(status, 200, "{body}");
        let found = body["streams"].as_array().unwrap().iter().find(|one| one["name"] == stream).unwrap();
        let is_whole = found["missing"] == 0;
        (if is_whole { found["seq"].as_u64().unwrap() } else { 0 }, found["digest"].clone())
    }

    /// Waits until it has all messages of a stream up to `seq`.
    async fn has(&self, stream: &str, seq: u64) {
        let until = async {
            while self.stream(stream).await.0 != seq {
                tokio::time::sleep(Duration::from_millis(LOOK_MS)).await;
            }
        };
        within(&format!("{} has {stream} up to {seq}", self.id), until).await;
    }
}

/// Two gateways that do not run yet, their center, and who listens at the broker.
struct Fleet {
    center: Center,
    members: [Member; 2],
    peer: Peer,
    broker: Mosquitto,
}

impl Fleet {
    async fn new() -> Self {
        Self::at(Mosquitto::start(Rules::default())).await
    }

    async fn at(broker: Mosquitto) -> Self {
        let url = broker.url();
        let door = Door { host: url.host.clone(), port: url.port, user: None, transport: Transport::Tcp };
        let peer = Peer::connect(&door).await;
        let center = Center::start(&url.to_string(), &GATEWAYS).await;
        center.connected().await;
        let members = GATEWAYS.map(|id| Member::new(id, &url.to_string(), &center));
        Self { center, members, peer, broker }
    }

    async fn start_gateways(&mut self) {
        for member in &mut self.members {
            member.start().await;
        }
    }

    /// Waits until each gateway has everything, ends the center, and compares with what the center has on disk: number and digest of
    /// each stream. `seqs`: how many messages each journal has.
    async fn until_equal(self, seqs: &BTreeMap<(&str, &str), u64>) -> Kept<Database> {
        for member in &self.members {
            member.has("card-office", seqs[&("card-office", "campus")]).await;
            member.has("apartment", seqs[&("apartment", member.id)]).await;
        }
        let site = read_site(&self.center);
        let Center { dir, program, .. } = self.center;
        program.stop().await;
        let retention = Retention { audit_days: 1, acks_days: 1, requests_days: 1 };
        let database = Database::open(&dir.path().join("center.db"), site.epoch, retention).unwrap();
        let specs: Vec<_> = site.streams.iter().map(|(spec, _)| spec.clone()).collect();
        let kept = Kept::new(database, site.streams, site.gateways).unwrap();
        for (journal, at) in kept.positions() {
            let (stream, audience) = (journal.stream.as_str(), journal.audience.aud());
            assert_eq!(at.seq, seqs[&(stream, audience)], "{stream} to {audience}");
            let allowed = specs.iter().find(|spec| spec.name == journal.stream).unwrap().allowed;
            let digest = digest::of(kept.list(&journal.audience).unwrap(), &digest::registers_of(allowed)).sha256;
            let receives = |member: &&Member| audience == "campus" || audience == member.id;
            for member in self.members.iter().filter(receives) {
                let same = async {
                    while member.stream(stream).await.1 != digest.as_str() {
                        tokio::time::sleep(Duration::from_millis(LOOK_MS)).await;
                    }
                };
                within(&format!("{} has the digest of {stream}", member.id), same).await;
            }
        }
        for mut member in self.members {
            member.stop().await;
        }
        kept
    }
}

/// Which request a number is: every third goes to the campus, the others to one gateway each.
pub fn request(n: u64) -> (Value, (&'static str, &'static str)) {
    let (uid, holder) = (card(n), format!("h{n}"));
    match n % 3 {
        0 => (json!({"ops": [issue(&uid, &holder)]}), ("card-office", "campus")),
        other => {
            let gateway = GATEWAYS[usize::try_from(other - 1).unwrap()];
            (json!({"gateway": gateway, "ops": [enrol(&uid, &holder)]}), ("apartment", gateway))
        }
    }
}

pub fn card(n: u64) -> String {
    format!("5C{n:06X}")
}

/// How many messages each journal has after `count` requests.
fn seqs(count: u64) -> BTreeMap<(&'static str, &'static str), u64> {
    let mut seqs = BTreeMap::new();
    (0..count).for_each(|n| *seqs.entry(request(n).1).or_insert(0) += 1);
    seqs
}

/// Posts a request under its key; `None`: the center is gone.
pub async fn post(address: &str, n: u64) -> Option<Value> {
    let key = format!("change-{n}");
    let headers = [("Idempotency-Key", key.as_str())];
    let answer = send(address, "POST", "/v1/changes", ALL, &headers, Some(&request(n).0)).await?;
    assert!(matches!(answer.status, 200 | 202), "{}", answer.body);
    Some(answer.body["messages"].clone())
}

/// The claims of a signed message.
fn claims(received: &Received) -> Value {
    let payload = String::from_utf8_lossy(&received.payload).split('.').nth(1).unwrap().to_owned();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(&payload).unwrap()).unwrap()
}

/// The change messages at the broker: of each stream and audience the numbers, and what was published under each. What is sent again to
/// one gateway has its `aud`, and counts for the journal that it is of.
fn published(peer: &Peer) -> BTreeMap<(String, String, u64), BTreeSet<String>> {
    let mut found: BTreeMap<_, BTreeSet<String>> = BTreeMap::new();
    for received in peer.since(0).iter().filter(|received| received.topic.ends_with("/down/changes")) {
        let claims = claims(received);
        let text = |key: &str| claims[key].as_str().unwrap().to_owned();
        let audience = if text("iss") == "card-office" { "campus".to_owned() } else { text("aud") };
        let number = (text("iss"), audience, claims["seq"].as_u64().unwrap());
        found.entry(number).or_default().insert(claims["ops"].to_string());
    }
    found
}

/// Clients that post at once.
const CLIENTS: u32 = 8;

/// What was answered to each request.
type Answers = BTreeMap<u64, Value>;

/// Clients that post one request after the other, so that whatever happens in between happens in mid-push, however slow the machine is.
struct Pushing {
    /// The request that nobody posts yet.
    next: Arc<AtomicU64>,
    /// No request from here on is posted.
    end: Arc<AtomicU64>,
    clients: Vec<JoinHandle<Answers>>,
}

impl Pushing {
    fn start(fleet: &Fleet, requests: Range<u64>) -> Self {
        let next = Arc::new(AtomicU64::new(requests.start));
        let end = Arc::new(AtomicU64::new(requests.end));
        let client = |_| {
            let (address, next, end) = (fleet.center.address.clone(), Arc::clone(&next), Arc::clone(&end));
            tokio::spawn(async move {
                let mut answered = Answers::new();
                loop {
                    let n = next.fetch_add(1, Ordering::SeqCst);
                    if n >= end.load(Ordering::SeqCst) {
                        break answered;
                    }
                    let Some(messages) = post(&address, n).await else { break answered };
                    answered.insert(n, messages);
                }
            })
        };
        let clients = (0..CLIENTS).map(client).collect();
        Self { next, end, clients }
    }

    /// Posts so many more, and no others.
    fn end_after(&self, more: u32) {
        assert!(more > CLIENTS, "each client may have taken a number beyond the end");
        let _ = self.end.fetch_min(self.next.load(Ordering::SeqCst) + u64::from(more), Ordering::SeqCst);
    }

    /// Waits until each client has no more to post, or was not answered; gives what was, and the request after the last posted.
    async fn ended(self, answered: &mut Answers) -> u64 {
        for client in self.clients {
            answered.extend(within("a client ends", client).await.unwrap());
        }
        self.next.load(Ordering::SeqCst).min(self.end.load(Ordering::SeqCst))
    }
}

impl Fleet {
    /// Waits until so many more change messages were at the broker.
    async fn publishes(&self, more: usize) {
        let mark = self.peer.mark();
        let is_change = |received: &&Received| received.topic.ends_with("/down/changes");
        let under_way = async {
            while self.peer.since(mark).iter().filter(is_change).count() < more {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        within("some of the changes are published", under_way).await;
    }

    /// Waits until each gateway has all `changes`. Each is in the center's journal under the number that was answered, every number is
    /// of one message, each key has the answer that it had, and the digests are equal.
    async fn assert_all_arrived(self, changes: u64, mut answered: Answers) {
        for n in 0..changes {
            let messages = post(&self.center.address, n).await.expect("the center runs");
            assert_eq!(messages, *answered.entry(n).or_insert(messages.clone()), "another answer under `change-{n}`");
        }
        let seqs = seqs(changes);
        for member in &self.members {
            member.has("card-office", seqs[&("card-office", "campus")]).await;
            member.has("apartment", seqs[&("apartment", member.id)]).await;
        }
        let published = published(&self.peer);
        let twice: Vec<_> = published.iter().filter(|(_, contents)| contents.len() > 1).collect();
        assert!(twice.is_empty(), "numbers with two contents: {twice:?}");
        let journal = journal(&self.center.dir.path().join("center.db"));
        assert_eq!(journal.len() as u64, changes, "a message for each request");
        let kept = self.until_equal(&seqs).await;
        for (n, messages) in &answered {
            let (_, (stream, audience)) = request(*n);
            let number = (stream.to_owned(), audience.to_owned(), messages[0]["seq"].as_u64().unwrap());
            assert!(journal[&number].contains(&card(*n)), "change-{n} is not {}", journal[&number]);
            let contents = published.get(&number).into_iter().flatten();
            contents.for_each(|ops| assert!(ops.contains(&card(*n)), "change-{n} was published as {ops}"));
            let audience =
                if stream == "card-office" { Audience::Campus } else { Audience::Gateway(audience.parse().unwrap()) };
            let uid: CardUid = card(*n).parse().unwrap();
            assert!(kept.list(&audience).unwrap().card(&uid).is_some(), "{uid} was answered and is lost");
        }
    }
}

/// What a center's database has under each number of each stream and audience.
pub fn journal(database: &Path) -> BTreeMap<(String, String, u64), String> {
    let file = rusqlite::Connection::open(database).unwrap();
    let mut query = file.prepare("SELECT stream, audience, seq, claims FROM message").unwrap();
    let rows = query.query_map([], |row| {
        let seq: i64 = row.get(2)?;
        Ok(((row.get(0)?, row.get(1)?, u64::try_from(seq).unwrap()), row.get(3)?))
    });
    rows.unwrap().map(Result::unwrap).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs mosquitto; tests/run installs it"]
async fn a_center_killed_in_mid_push_loses_nothing_that_it_answered_and_uses_no_number_twice() {
    const KILLS: u64 = 3;
    const PUBLISHED: usize = 100;
    let mut fleet = Fleet::new().await;
    fleet.start_gateways().await;
    let (mut changes, mut answered) = (0, Answers::new());
    for _ in 0..KILLS {
        let pushing = Pushing::start(&fleet, changes..u64::MAX);
        fleet.publishes(PUBLISHED).await;
        fleet.center = fleet.center.kill_and_start().await;
        // Each client had one request that was not answered; its key is posted again at the end.
        changes = pushing.ended(&mut answered).await;
    }
    fleet.assert_all_arrived(changes, answered).await;
}

/// In the middle of a push of some hundred changes the broker goes, and comes back with what it kept. The center is answered nothing
/// twice, and does not wait for it.
async fn the_broker_goes_in_mid_push(rules: Rules, go: fn(&mut Mosquitto)) {
    const ROUNDS: u64 = 2;
    const PUBLISHED: usize = 75;
    const WITHOUT_BROKER: u32 = 200;
    let mut fleet = Fleet::at(Mosquitto::start(rules)).await;
    fleet.start_gateways().await;
    let (mut changes, mut answered) = (0, Answers::new());
    for _ in 0..ROUNDS {
        let pushing = Pushing::start(&fleet, changes..u64::MAX);
        fleet.publishes(PUBLISHED).await;
        go(&mut fleet.broker);
        pushing.end_after(WITHOUT_BROKER);
        changes = pushing.ended(&mut answered).await;
        assert_eq!(answered.len() as u64, changes, "the center takes changes without a broker");
        fleet.broker.restart(Duration::ZERO);
        fleet.center.connected().await;
    }
    fleet.assert_all_arrived(changes, answered).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs mosquitto; tests/run installs it"]
async fn a_broker_restarted_in_mid_push_with_its_sessions_delivers_every_change_under_one_number() {
    the_broker_goes_in_mid_push(Rules { persistent: true, ..Rules::default() }, Mosquitto::stop).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs mosquitto; tests/run installs it"]
async fn a_broker_killed_in_mid_push_that_has_lost_its_sessions_costs_no_change() {
    the_broker_goes_in_mid_push(Rules::default(), Mosquitto::kill).await;
}

/// It comes back with the sessions as it last saved them, so that nobody learns from the broker that what it confirmed since is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs mosquitto; tests/run installs it"]
async fn a_broker_killed_in_mid_push_that_comes_back_with_old_sessions_costs_no_change() {
    let rules = Rules { persistent: true, extra: "autosave_interval 1\n".to_owned(), ..Rules::default() };
    the_broker_goes_in_mid_push(rules, Mosquitto::kill).await;
}

/// The broker of a building after a power cut: it has confirmed the changes, and its sessions are from before them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs mosquitto; tests/run installs it"]
async fn what_a_broker_confirmed_and_lost_is_noticed_by_the_heads_that_follow_its_return() {
    const CHANGES: u64 = 30;
    let mut fleet = Fleet::at(Mosquitto::start(Rules { persistent: true, ..Rules::default() })).await;
    fleet.start_gateways().await;
    assert!(post(&fleet.center.address, 0).await.is_some() && post(&fleet.center.address, 1).await.is_some());
    fleet.members[0].has("card-office", 1).await;
    fleet.members[0].has("apartment", 1).await;
    fleet.members[1].has("card-office", 1).await;
    for member in &mut fleet.members {
        member.stop().await;
    }
    // It saves what it has now, and nothing later.
    fleet.broker.restart(Duration::ZERO);
    let mut answered = Answers::new();
    Pushing::start(&fleet, 0..CHANGES).ended(&mut answered).await;
    let file = rusqlite::Connection::open(fleet.center.dir.path().join("center.db")).unwrap();
    let waiting = || file.query_row("SELECT count(*) FROM message WHERE delivered = 0", [], |row| row.get::<_, i64>(0));
    let confirmed = async {
        while waiting().unwrap() > 0 {
            tokio::time::sleep(Duration::from_millis(LOOK_MS)).await;
        }
    };
    within("the broker confirms every change", confirmed).await;
    drop(file);
    for ((stream, audience), seq) in seqs(CHANGES) {
        let topic = format!("dormgate/v1/{audience}/down/head/{stream}");
        let is_newest = |received: &Received| received.topic == topic && claims(received)["seq"] == seq;
        fleet.peer.find(0, "the newest head", |received| is_newest(received).then_some(())).await;
    }
    fleet.broker.kill();
    fleet.broker.restart(Duration::ZERO);
    fleet.center.connected().await;
    fleet.start_gateways().await;
    fleet.assert_all_arrived(CHANGES, answered).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs mosquitto; tests/run installs it"]
async fn a_gateway_that_starts_empty_or_lost_its_store_becomes_equal_by_what_the_service_sends_again() {
    const CHANGES: u64 = 60;
    let mut fleet = Fleet::new().await;
    fleet.members[0].start().await;
    for n in 0..CHANGES {
        post(&fleet.center.address, n).await.expect("the center runs");
    }
    let seqs = seqs(CHANGES);
    fleet.members[0].has("apartment", seqs[&("apartment", "xing1")]).await;
    fleet.members[0].has("card-office", seqs[&("card-office", "campus")]).await;
    fleet.members[0].stop().await;
    std::fs::remove_dir_all(fleet.members[0].dir.path().join("data")).unwrap();
    let mark = fleet.peer.mark();
    fleet.start_gateways().await;
    for member in &fleet.members {
        let topic = format!("dormgate/v1/{}/down/snapshot", member.id);
        fleet.peer.find(mark, "a snapshot", |received| (received.topic == topic).then_some(())).await;
    }
    fleet.until_equal(&seqs).await;
}
