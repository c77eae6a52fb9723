//! What is sent to whoever looks: each event once, however long they were away, and nothing that is not for them.

use std::sync::Arc;

use super::*;
use crate::access::event::{AlarmKind, AuditEvent, Flush, Record, Who};
use crate::access::id::{ClockTrust, Mono, Now, Timestamp};
use crate::access::state::State as Folded;
use crate::clock::Clock;
use crate::gateway::ports::{Inbox, Readiness};
use crate::http::Pages;
use crate::http::console::{Console, Setup};
use crate::store::{MemoryDisk, Options, Stepper, Store};

struct Rig {
    console: Shared,
    store: Store,
    disk: Stepper<Folded>,
    last: u64,
    _stopping: watch::Sender<bool>,
    token: watch::Sender<Option<Secret>>,
    following: tokio::task::JoinHandle<()>,
}

const TOKEN: &str = "a token";

fn by_token() -> Caller {
    use sha2::{Digest, Sha256};
    Caller::Token(Sha256::digest(TOKEN).into())
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.following.abort();
    }
}

impl Rig {
    /// A console over a journal of so many events.
    fn new(events: u64) -> Self {
        let (store, _, _, disk) = Store::open_in_memory::<Folded>(&MemoryDisk::new(), Options::default()).unwrap();
        let (stop, stopping) = watch::channel(false);
        let (token, token_now) = watch::channel(Some(Secret::new(TOKEN)));
        let pages = Pages {
            registry: Arc::default(),
            readiness: Readiness::default(),
            inbox: Inbox::new().0,
            links: crate::http::Links::default(),
            audit: store.clone(),
            disk: crate::http::DiskRoom::default(),
            reload: tokio::sync::mpsc::channel(1).0,
        };
        let wall = Timestamp(1_788_249_600_000);
        let setup = Setup {
            gateway: "g".parse().unwrap(),
            portals: Vec::new(),
            token: token_now,
            clock: Clock::manual(wall).0,
            timezone: tokio::sync::watch::channel("Asia/Shanghai".to_owned()).1,
        };
        let mut rig = Self {
            console: Console::new(pages, setup, true, stopping),
            store,
            disk,
            last: 0,
            _stopping: stop,
            token,
            following: tokio::spawn(async {}),
        };
        rig.happen(events);
        // As after a restart: what is there is on disk only.
        rig.console.live.newest.send_replace(rig.last);
        rig.following = tokio::spawn(follow(Arc::clone(&rig.console)));
        rig
    }

    /// So many more events, each fifth an alarm: by turns of a card that is dead and of one under duress.
    fn happen(&mut self, events: u64) {
        let record = |n: u64| {
            let who = Who { uid: Some("1EA68671".parse().unwrap()), holder: None };
            let portal = "gate-in".parse().unwrap();
            let body = if n.is_multiple_of(5) {
                let kind = if n.is_multiple_of(2) { AlarmKind::Duress } else { AlarmKind::DeadCard };
                Event::Alarm { kind, portal: Some(portal), who, count: 0, ended: false, detail: String::new() }
            } else {
                Event::NotTaken { portal, who, detail: String::new() }
            };
            let wall = Timestamp(1_788_249_600_000);
            let now = Now { wall, mono: Mono(n), clock: ClockTrust::Trusted };
            Record { event: AuditEvent::new(n, "b", now, body), evidence: Vec::new(), flush: Flush::Soon }
        };
        let through = self.last + events;
        self.store.append((self.last + 1..=through).map(record).collect());
        self.disk.flush();
        self.last = through;
    }

    fn looker(&self, caller: Caller, after: u64) -> Looker {
        Looker {
            caller,
            next: after + 1,
            newest: self.console.live.newest.subscribe(),
            status: self.console.live.status.subscribe(),
            stopping: self.console.stopping.clone(),
            token: self.console.guard.token_changes(),
            begun: true,
            console: Arc::clone(&self.console),
            _place: Arc::clone(&self.console.live.streams).try_acquire_owned().unwrap(),
        }
    }
}

/// The numbers and the texts of the events until the one numbered `last`.
async fn until(looker: &mut Looker, last: u64) -> (Vec<u64>, String) {
    let (mut numbers, mut text) = (Vec::new(), String::new());
    while numbers.last().is_none_or(|n| *n < last) {
        let chunk = looker.chunk().await.unwrap();
        assert!(chunk.len() < 2 * CHUNK_BYTES_MAX, "{}", chunk.len());
        let chunk = String::from_utf8(chunk.to_vec()).unwrap();
        numbers.extend(chunk.lines().filter_map(|line| line.strip_prefix("id: ")).map(|n| n.parse::<u64>().unwrap()));
        text.push_str(&chunk);
    }
    (numbers, text)
}

#[tokio::test]
async fn whoever_comes_back_is_sent_each_event_once_from_disk_and_from_memory() {
    let mut rig = Rig::new(3_000);
    let mut looker = rig.looker(by_token(), 2_000);
    let (numbers, _) = until(&mut looker, 3_000).await;
    assert_eq!(numbers, (2_001..=3_000).collect::<Vec<_>>(), "from the disk");
    rig.happen(700);
    let (numbers, _) = until(&mut looker, 3_700).await;
    assert_eq!(numbers, (3_001..=3_700).collect::<Vec<_>>(), "as they happen");
    // One that left in the middle, and one that looks on meanwhile without reading anything.
    drop(looker);
    let idle = rig.looker(by_token(), 0);
    rig.happen(5_000);
    let mut again = rig.looker(by_token(), 3_333);
    let (numbers, _) = until(&mut again, 8_700).await;
    assert_eq!(numbers, (3_334..=8_700).collect::<Vec<_>>(), "across disk and memory");
    assert!(crate::lock(&rig.console.live.ring).len() <= RING_EVENTS_MAX);
    drop(idle);
}

#[tokio::test]
async fn whoever_was_away_too_long_is_sent_which_numbers_are_left_out() {
    let rig = Rig::new(RESUME_EVENTS_MAX + 500);
    let mut looker = rig.looker(by_token(), 100);
    let first = String::from_utf8(looker.chunk().await.unwrap().to_vec()).unwrap();
    assert_eq!(first, "id: 500\nevent: missed\ndata: {\"from\":101,\"to\":500}\n\n");
    let (numbers, _) = until(&mut looker, rig.last).await;
    assert_eq!(numbers, (501..=rig.last).collect::<Vec<_>>());
    // The numbers of another store: the box was restored from an older copy, or replaced. All there is may be unknown.
    let mut ahead = rig.looker(by_token(), rig.last + 50);
    let first = String::from_utf8(ahead.chunk().await.unwrap().to_vec()).unwrap();
    let last = rig.last;
    assert_eq!(first, format!("id: {last}\nevent: missed\ndata: {{\"from\":1,\"to\":{last}}}\n\n"));
    // A new box that has recorded nothing yet: there is nothing to leave out, and the numbers begin again.
    let new = Rig::new(0);
    let first = String::from_utf8(new.looker(by_token(), 50).chunk().await.unwrap().to_vec()).unwrap();
    assert_eq!(first, "id: 0\nevent: missed\ndata: {\"from\":0,\"to\":0}\n\n");
}

#[tokio::test]
async fn without_a_login_uids_are_masked_and_duress_shows_nowhere() {
    let mut rig = Rig::new(10);
    let (mut open, mut whole) = (rig.looker(Caller::Reader, 0), rig.looker(by_token(), 0));
    let (numbers, text) = until(&mut open, 10).await;
    assert_eq!(
        numbers,
        (1..=10).collect::<Vec<_>>(),
        "10 is an alarm of duress, and a number left out would show that"
    );
    assert!(text.contains(r#"{"n":10,"at":"2026-09-01T08:00:00.000Z","type":"hidden"}"#), "{text}");
    assert!(!text.contains("\"prev\""), "{text}");
    assert!(text.contains("…8671") && !text.contains("1EA68671") && !text.contains("duress"), "{text}");
    let (numbers, text) = until(&mut whole, 10).await;
    assert_eq!(numbers, (1..=10).collect::<Vec<_>>());
    assert!(text.contains("1EA68671") && text.contains("duress"), "{text}");
    // The same in what the page begins with.
    rig.happen(1);
    let (numbers, _) = until(&mut open, 11).await;
    assert_eq!(numbers, [11]);
    let [open, whole] = [false, true].map(|whole| rig.console.live.board().lists(whole).concat());
    assert!(open.contains("dead_card") && !open.contains("duress") && !open.contains("1EA6"), "{open}");
    assert!(whole.contains("duress") && whole.contains("1EA68671"), "{whole}");
}

#[tokio::test(start_paused = true)]
async fn what_is_sent_ends_with_the_session_and_with_the_gateway() {
    let rig = Rig::new(1);
    let Caller::Token(token) = by_token() else { panic!("it is one") };
    let id = rig.console.guard.sessions.open(("Li".parse().unwrap(), token)).unwrap();
    let session = crate::browser::sessions::key(&id);
    let mut looker = rig.looker(Caller::Person("Li".parse().unwrap(), session), 0);
    until(&mut looker, 1).await;
    assert_eq!(looker.chunk().await.unwrap(), ": quiet\n\n");
    rig.console.guard.sessions.close(&session);
    assert_eq!(looker.chunk().await, None);
    let mut other = rig.looker(by_token(), 1);
    rig._stopping.send_replace(true);
    assert_eq!(other.chunk().await, None);
}

#[tokio::test(start_paused = true)]
async fn what_is_sent_ends_with_the_token_that_somebody_was_let_in_by() {
    let rig = Rig::new(1);
    let Caller::Token(token) = by_token() else { panic!("it is one") };
    let id = rig.console.guard.sessions.open(("Li".parse().unwrap(), token)).unwrap();
    let person = Caller::Person("Li".parse().unwrap(), crate::browser::sessions::key(&id));
    let (mut person, mut program) = (rig.looker(person, 1), rig.looker(by_token(), 1));
    let mut reader = rig.looker(Caller::Reader, 1);
    // The same token read again ends nothing.
    rig.token.send_replace(Some(Secret::new(TOKEN)));
    for looker in [&mut person, &mut program, &mut reader] {
        assert_eq!(looker.chunk().await.unwrap(), ": quiet\n\n");
    }
    let wait = async { tokio::join!(person.chunk(), program.chunk()) };
    let change = async { rig.token.send_replace(Some(Secret::new("another"))) };
    let begun = Instant::now();
    let (ended, _) = tokio::join!(wait, change);
    assert_eq!((ended, begun.elapsed()), ((None, None), Duration::ZERO));
    assert_eq!(reader.chunk().await.unwrap(), ": quiet\n\n");
}

#[tokio::test]
async fn a_place_is_free_again_when_somebody_leaves() {
    let rig = Rig::new(1);
    let open = async || {
        let uri = Uri::from_static("/api/v1/live");
        live(State(Arc::clone(&rig.console)), Extension(by_token()), HeaderMap::new(), uri).await
    };
    let mut streams = Vec::new();
    while streams.len() < STREAMS_MAX {
        streams.push(open().await);
    }
    assert!(streams.iter().all(|stream| stream.status() == StatusCode::OK));
    assert_eq!(open().await.status(), StatusCode::SERVICE_UNAVAILABLE);
    streams.pop();
    assert_eq!(open().await.status(), StatusCode::OK);
}
