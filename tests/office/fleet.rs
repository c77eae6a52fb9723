//! The center that an office runs, with two gateways on a real broker, while it is killed, is away, or meets a gateway that has nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use dormgate::access::id::CardUid;
use dormgate::center::database::{Database, Retention};
use dormgate::center::{Audience, Center as Kept};
use dormgate::config::{self, CenterSite};
use dormgate::wire::digest;
use serde_json::{Value, json};

use crate::center::{enrol, issue};
use crate::mosquitto::{Mosquitto, Rules};
use crate::peer::Peer;
use crate::program::{Program, page_by_socket, within};
use crate::rig::{ALL, Center, send};
use crate::site::Hub;

const GATEWAYS: [&str; 2] = ["xing1", "xing2"];
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
    _hub: Hub,
}

impl Fleet {
    async fn new() -> Self {
        let hub = Hub::of(Mosquitto::start(Rules::default()));
        let peer = Peer::connect(&hub.door()).await;
        let center = Center::start(&hub.url(), &GATEWAYS).await;
        center.connected().await;
        let members = GATEWAYS.map(|id| Member::new(id, &hub.url(), &center));
        Self { center, members, peer, _hub: hub }
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
fn request(n: u64) -> (Value, (&'static str, &'static str)) {
    let (uid, holder) = (card(n), format!("h{n}"));
    match n % 3 {
        0 => (json!({"ops": [issue(&uid, &holder)]}), ("card-office", "campus")),
        other => {
            let gateway = GATEWAYS[usize::try_from(other - 1).unwrap()];
            (json!({"gateway": gateway, "ops": [enrol(&uid, &holder)]}), ("apartment", gateway))
        }
    }
}

fn card(n: u64) -> String {
    format!("5C{n:06X}")
}

/// How many messages each journal has after `count` requests.
fn seqs(count: u64) -> BTreeMap<(&'static str, &'static str), u64> {
    let mut seqs = BTreeMap::new();
    (0..count).for_each(|n| *seqs.entry(request(n).1).or_insert(0) += 1);
    seqs
}

/// Posts a request under its key; `None`: the center is gone.
async fn post(address: &str, n: u64) -> Option<Value> {
    let key = format!("change-{n}");
    let headers = [("Idempotency-Key", key.as_str())];
    let answer = send(address, "POST", "/v1/changes", ALL, &headers, Some(&request(n).0)).await?;
    assert!(matches!(answer.status, 200 | 202), "{}", answer.body);
    Some(answer.body["messages"].clone())
}

/// The change messages at the broker: of each stream and audience the numbers, and what was published under each. What is sent again to
/// one gateway has its `aud`, and counts for the journal that it is of.
fn published(peer: &Peer) -> BTreeMap<(String, String, u64), BTreeSet<String>> {
    let mut found: BTreeMap<_, BTreeSet<String>> = BTreeMap::new();
    for received in peer.since(0).iter().filter(|received| received.topic.ends_with("/down/changes")) {
        let payload = String::from_utf8_lossy(&received.payload).split('.').nth(1).unwrap().to_owned();
        let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(&payload).unwrap()).unwrap();
        let text = |key: &str| claims[key].as_str().unwrap().to_owned();
        let audience = if text("iss") == "card-office" { "campus".to_owned() } else { text("aud") };
        let number = (text("iss"), audience, claims["seq"].as_u64().unwrap());
        found.entry(number).or_default().insert(claims["ops"].to_string());
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs mosquitto; tests/run installs it"]
async fn a_center_killed_in_mid_push_loses_nothing_that_it_answered_and_uses_no_number_twice() {
    const CHANGES: u64 = 500;
    const KILLS: u64 = 3;
    const CLIENTS: u32 = 8;
    let mut fleet = Fleet::new().await;
    fleet.start_gateways().await;
    let mut answered: BTreeMap<u64, Value> = BTreeMap::new();
    for kill in 1..=KILLS {
        let push = |client: u32| {
            let address = fleet.center.address.clone();
            // What the client does not know to be done it asks for again, under the same keys.
            let open: Vec<u64> =
                (u64::from(client)..CHANGES).step_by(CLIENTS as usize).filter(|n| !answered.contains_key(n)).collect();
            tokio::spawn(async move {
                let mut done = Vec::new();
                for n in open {
                    let Some(messages) = post(&address, n).await else { break };
                    done.push((n, messages));
                }
                done
            })
        };
        let pushing: Vec<_> = (0..CLIENTS).map(push).collect();
        let some = usize::try_from(CHANGES * kill / (KILLS + 1)).unwrap();
        let under_way = async {
            while published(&fleet.peer).len() < some {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        within("some of the changes are published", under_way).await;
        fleet.center = fleet.center.kill_and_start().await;
        for client in pushing {
            answered.extend(client.await.unwrap());
        }
    }
    assert!((answered.len() as u64) < CHANGES, "the center was not killed while it was pushed to");
    for n in 0..CHANGES {
        let messages = post(&fleet.center.address, n).await.expect("the center runs");
        assert_eq!(messages, *answered.entry(n).or_insert(messages.clone()), "another answer under `change-{n}`");
    }
    let seqs = seqs(CHANGES);
    for member in &fleet.members {
        member.has("card-office", seqs[&("card-office", "campus")]).await;
        member.has("apartment", seqs[&("apartment", member.id)]).await;
    }
    let published = published(&fleet.peer);
    let twice: Vec<_> = published.iter().filter(|(_, contents)| contents.len() > 1).collect();
    assert!(twice.is_empty(), "numbers with two contents: {twice:?}");
    for (n, messages) in &answered {
        let (_, (stream, audience)) = request(*n);
        let number = (stream.to_owned(), audience.to_owned(), messages[0]["seq"].as_u64().unwrap());
        let contents = &published[&number];
        assert!(contents.iter().all(|ops| ops.contains(&card(*n))), "change-{n} is not {contents:?}");
    }
    let kept = fleet.until_equal(&seqs).await;
    for n in 0..CHANGES {
        let (_, (stream, audience)) = request(n);
        let audience =
            if stream == "card-office" { Audience::Campus } else { Audience::Gateway(audience.parse().unwrap()) };
        let uid: CardUid = card(n).parse().unwrap();
        assert!(kept.list(&audience).unwrap().card(&uid).is_some(), "{uid} was answered and is lost");
    }
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
