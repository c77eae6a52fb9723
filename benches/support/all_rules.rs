//! A building in which every rule is on, and what the store takes to keep what it records.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BatchSize, Criterion};
use dormgate::access::calendar::Calendar;
use dormgate::access::change::Op;
use dormgate::access::credential::{CardMark, Role};
use dormgate::access::effect::Effect;
use dormgate::access::engine::{EDGE_CHECK_MS, Engine, Setup};
use dormgate::access::event::Record;
use dormgate::access::id::{CardUid, Mono, Now, Timestamp};
use dormgate::access::input::{Input, Presented, Request};
use dormgate::access::list::AccessList;
use dormgate::access::policy::{AfterHours, AfterStale, Place, Policy, Severity, Walk};
use dormgate::access::portal::{Assurance, Direction, Portal, PortalKind};
use dormgate::access::schedule::{Schedule, timezone};
use dormgate::access::state::State;
use dormgate::store::{MemoryDisk, Options, Store, StoreKey};
use dormgate::wire::uid_key::UidKey;

use super::{NOW, at, enrolment, holder, uid};

const CARDS: u32 = 50_000;
const ROOMS: u32 = 500;
const GATES: u32 = 16;

fn name<T: std::str::FromStr>(text: &str) -> T {
    text.parse().unwrap_or_else(|_| panic!("`{text}`"))
}

fn policy() -> Policy {
    let zone = |zone: &str| Place::Zone(name(zone));
    Policy {
        anti_passback: Severity::Flag,
        anti_passback_timed_ms: 600_000,
        forgive_at_min: Some(240),
        clone: Severity::Flag,
        walks: (0..ROOMS)
            .map(|room| Walk { from: zone("lobby"), to: zone(&room.to_string()), walk_ms: 20_000 })
            .collect(),
        visitor_escort_ms: 30_000,
        max_denials: 5,
        lockout_s: 30,
        after_hours: AfterHours::Late,
        after_hours_staff: AfterHours::Late,
        after_stale: AfterStale::ResidentsOnly,
        ..Policy::default()
    }
}

fn portals() -> Vec<Portal> {
    let gate = |n: u32| Portal {
        direction: Some(if n.is_multiple_of(2) { Direction::In } else { Direction::Out }),
        free_access: Some(name("peak")),
        first_card: true,
        hours: Some(name("term")),
        anti_passback_timed_ms: 300_000,
        min_assurance: Assurance::Sector,
        interlock: vec![name(&format!("door-{n}")), name(&format!("door-{}", n + GATES))],
        ..Portal::new(name(&format!("gate-{n}")), PortalKind::Gate, name("lobby"))
    };
    let room = |n: u32| name(&n.to_string());
    let door = |n: u32| Portal {
        hours: Some(name("term")),
        two_card_ms: 20_000,
        min_assurance: Assurance::Sector,
        interlock: vec![name(&format!("door-{}", (n + 1) % ROOMS))],
        ..Portal::new(name(&format!("door-{n}")), PortalKind::Door, room(n))
    };
    let power = |n: u32| Portal {
        power_hours: Some(name("term")),
        overload_w: Some(2_000),
        restricted_step_w: Some(800),
        ..Portal::new(name(&format!("power-{n}")), PortalKind::PowerBox, room(n))
    };
    (0..GATES).map(gate).chain((0..ROOMS).map(door)).chain((0..ROOMS).map(power)).collect()
}

/// Cards of every role, each with entitlements that follow a schedule, an end, and a mark.
fn list() -> AccessList {
    let mut list = AccessList::default();
    for card in 0..CARDS {
        let mut e = enrolment(card);
        e.entitlements.iter_mut().for_each(|entitlement| entitlement.schedule = Some(name("term")));
        e.not_after = Some(Timestamp(NOW.wall.0 + 86_400_000));
        e.marks = CardMark::ExtendedHold.into();
        e.role = if card.is_multiple_of(50) { Role::Visitor } else { Role::Resident };
        let ops = [Op::Issue { uid: uid(card), holder: holder(card) }, Op::Enrol { uid: uid(card), enrolment: e }];
        list.apply(&ops, (at(1, u64::from(card) + 1), NOW.wall), &Policy::default(), NOW.wall);
    }
    list
}

/// The building, with a card in each of its boxes and a passage of each card.
fn engine() -> Engine {
    let windows = |text: &str| Schedule { weekly: std::array::from_fn(|_| vec![name(text)]), ..Schedule::default() };
    let schedules = BTreeMap::from([(name("term"), windows("06:00-23:30")), (name("peak"), windows("03:00-03:30"))]);
    let (_, zone) = timezone("Asia/Shanghai").unwrap();
    let calendar = Calendar::new(zone, schedules);
    let (streams, boot) = (Vec::new(), "bench".to_owned());
    let setup = Setup { portals: portals(), lossy: Vec::new(), policy: policy(), calendar, streams, boot };
    let mut engine = Engine::new(setup, State { list: list(), ..State::default() });
    for card in 0..CARDS {
        engine.handle(request(&format!("gate-{}", card % GATES), uid(card)), at_ms(u64::from(card) * 10));
    }
    for room in 0..ROOMS {
        engine.handle(request(&format!("power-{room}"), uid(room * 4 + 1)), at_ms(u64::from(CARDS) * 10));
    }
    engine
}

fn at_ms(ms: u64) -> Now {
    Now { wall: Timestamp(NOW.wall.0 + i64::try_from(ms).unwrap()), mono: Mono(NOW.mono.0 + ms), ..NOW }
}

fn request(portal: &str, uid: CardUid) -> Input {
    let (portal, presented) = (portal.to_owned(), Presented::Card(uid));
    let (id, direction, stale, slot) = (None, None, false, 0);
    Input::Request(Request { portal, id, presented, direction, assurance: Assurance::Sector, stale, slot })
}

/// Requests through the engine, one every 10 ms.
struct Requests {
    engine: Engine,
    card: u32,
    ms: u64,
}

impl Requests {
    fn new() -> Self {
        Self { engine: engine(), card: 1, ms: u64::from(CARDS) * 20 }
    }

    /// The next card, at a gate or at the door of its room.
    fn next(&mut self) -> (Input, Now) {
        self.card = self.card.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        self.ms += 10;
        let (card, place) = ((self.card >> 8) % CARDS, self.card >> 28);
        let portal =
            if place.is_multiple_of(2) { format!("gate-{place}") } else { format!("door-{}", (card / 4) % ROOMS) };
        (request(&portal, uid(card)), at_ms(self.ms))
    }
}

/// Where all rules are on at once: the decision alone, with all that is observed for it; a request, with its answer, its event and
/// all that is remembered of it; and what stands judged again, as it is every few seconds.
pub fn decisions(c: &mut Criterion) {
    let mut all = Requests::new();
    // As after a while of traffic.
    for _ in 0..CARDS {
        let (input, now) = all.next();
        all.engine.handle(input, now);
    }
    let (mut card, now) = (1_u32, at_ms(all.ms));
    let gates: Vec<_> = (0..GATES).step_by(2).map(|n| name(&format!("gate-{n}"))).collect();
    let doors: Vec<_> = (0..ROOMS).map(|n| name(&format!("door-{n}"))).collect();
    c.bench_function(&format!("decide/all rules/{CARDS}"), |b| {
        b.iter(|| {
            card = card.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let (place, choice) = (((card >> 8) % CARDS) as usize, (card >> 28) as usize);
            let at = if choice.is_multiple_of(2) { gates.get(choice / 2) } else { doors.get(place / 4 % doors.len()) };
            black_box(all.engine.may_open(at.unwrap(), place..place + 1, now))
        });
    });
    // What is due every 10 s, a request or not, is done before it and measured apart.
    c.bench_function(&format!("handle/all rules/{CARDS}"), |b| {
        b.iter_custom(|times| {
            let mut took = Duration::ZERO;
            for _ in 0..times {
                let (input, now) = all.next();
                all.engine.handle(Input::Wake, now);
                let started = Instant::now();
                let effects = black_box(all.engine.handle(input, now));
                took += started.elapsed();
                drop(effects);
            }
            took
        });
    });
    let mut now = at_ms(all.ms);
    c.bench_function(&format!("judge again/all rules/{ROOMS} boxes that are on"), |b| {
        b.iter(|| {
            // By the monotonic clock only, so that no window closes however often it is measured.
            now.mono = now.mono.plus_ms(EDGE_CHECK_MS);
            black_box(all.engine.handle(Input::Wake, now))
        });
    });
}

fn setup_of_nothing() -> Setup {
    let (_, zone) = timezone("Asia/Shanghai").unwrap();
    let calendar = Calendar::new(zone, BTreeMap::new());
    let (portals, lossy, streams) = (Vec::new(), Vec::new(), Vec::new());
    Setup { portals, lossy, policy: Policy::default(), calendar, streams, boot: "bench".to_owned() }
}

/// One commit of the store: the events of one decision written and synced, on a disk that costs nothing.
pub fn commits(c: &mut Criterion) {
    let key = || StoreKey::new(&[7; 32]);
    let hashed = |options: Options| Options { uid_key: Some(UidKey::new(&[9; 32])), hash_uids: true, ..options };
    let encrypted = |options: Options| Options { key: key(), ..options };
    let variants = [
        ("plain", Options::default()),
        ("uid hashed", hashed(Options::default())),
        ("encrypt", encrypted(Options::default())),
        ("encrypt, uid hashed", hashed(encrypted(Options::default()))),
    ];
    for (what, options) in variants {
        let mut requests = Requests { engine: Engine::new(small(), State::default()), card: 1, ms: 0 };
        let (store, _events, _, mut stepper) = Store::open_in_memory::<State>(&MemoryDisk::new(), options).unwrap();
        c.bench_function(&format!("commit/{what}"), |b| {
            b.iter_batched(
                || {
                    let (input, now) = requests.next();
                    records(requests.engine.handle(input, now))
                },
                |records| {
                    store.append(records);
                    stepper.flush()
                },
                BatchSize::PerIteration,
            );
        });
    }
}

fn small() -> Setup {
    Setup { portals: portals(), ..setup_of_nothing() }
}

fn records(effects: Vec<Effect>) -> Vec<Record> {
    let record = |effect| match effect {
        Effect::Record(record) => Some(*record),
        _ => None,
    };
    effects.into_iter().filter_map(record).collect()
}
