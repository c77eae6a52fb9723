//! The pure part: one decision, one request through the whole engine with 1 000 portals, and one reissue applied, at 1 k, 50 k and
//! 1 M cards; one with all rules on at 50 k; and a commit of the store. Run: `cargo bench --bench decide`.

#![allow(clippy::unwrap_used, missing_docs, reason = "a panic ends a benchmark")]

mod support;

use std::hint::black_box;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use dormgate::access::calendar::Calendar;
use dormgate::access::change::Op;
use dormgate::access::decide::{Facts, ListIntegrity, decide};
use dormgate::access::engine::{Engine, Setup};
use dormgate::access::input::{Input, Presented, Request};
use dormgate::access::list::AccessList;
use dormgate::access::policy::Policy;
use dormgate::access::portal::{Assurance, Portal, Posture};
use dormgate::access::schedule::{Schedule, timezone};
use dormgate::access::state::State;
use dormgate::wire::allowed::AllowedOps;
use dormgate::wire::down;
use dormgate::wire::envelope::{self, Channel, Scope, StreamSpec};
use support::{NOW, at, door, holder, list_of, power_box, uid};

const SIZES: [u32; 3] = [1_000, 50_000, 1_000_000];

fn benches(c: &mut Criterion) {
    let (policy, calendar) = (Policy::default(), calendar());
    receive(c);
    handle(c);
    support::all_rules::decisions(c);
    support::all_rules::commits(c);
    for size in SIZES {
        let mut list = list_of(size);
        let doors: Vec<_> = (0..size / 4).map(door).collect();
        let mut card = 0_u32;
        c.bench_function(&format!("decide/grant/{size}"), |b| {
            b.iter(|| {
                card = card.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let this = card % size;
                let presented = Presented::Card(uid(this));
                let portal = doors.get((this / 4) as usize);
                black_box(decide(&facts(&list, &policy, &calendar), &support::question(portal, &presented)))
            });
        });
        let timed: Vec<_> =
            doors.iter().map(|door| Portal { hours: Some("term".parse().unwrap()), ..door.clone() }).collect();
        c.bench_function(&format!("decide/grant by hours/{size}"), |b| {
            b.iter(|| {
                card = card.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let this = card % size;
                let presented = Presented::Card(uid(this));
                let portal = timed.get((this / 4) as usize);
                black_box(decide(&facts(&list, &policy, &calendar), &support::question(portal, &presented)))
            });
        });
        c.bench_function(&format!("decide/unknown/{size}"), |b| {
            b.iter(|| {
                card = card.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let presented = Presented::Card(uid(size + (card % 1_000_000)));
                black_box(decide(&facts(&list, &policy, &calendar), &support::question(doors.first(), &presented)))
            });
        });
        let mut seq = u64::from(size);
        c.bench_function(&format!("reissue/{size}"), |b| {
            b.iter_batched(
                || {
                    seq += 1;
                    card = card.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    let this = card % size;
                    // Of two alternating cards, so that the list does not grow under the measurement.
                    let (old_uid, new_uid) = (Some(uid(this)), uid(this ^ 1));
                    ([Op::Reissue { holder: holder(this), new_uid, old_uid }], at(1, seq))
                },
                |(ops, at)| black_box(list.apply(&ops, (at, NOW.wall), &policy, NOW.wall)),
                BatchSize::SmallInput,
            );
        });
    }
}

/// A request through the whole engine, beside 500 doors and 500 power boxes that are on: what is due later must cost it nothing.
fn handle(c: &mut Criterion) {
    const ROOMS: u32 = 500;
    let mut portals: Vec<_> = (0..ROOMS).map(door).collect();
    portals.extend((0..ROOMS).map(power_box));
    let mut engine =
        Engine::new(Setup { portals, ..Setup::default() }, State { list: list_of(ROOMS * 4), ..State::default() });
    let request = |portal: String, card: u32| {
        Input::Request(Request {
            portal,
            id: None,
            presented: Presented::Card(uid(card)),
            direction: None,
            assurance: Assurance::Uid,
            stale: false,
            slot: 0,
        })
    };
    for room in 0..ROOMS {
        engine.handle(request(format!("power-{room}"), room * 4), NOW);
    }
    let mut room = 0_u32;
    c.bench_function("handle/request/1000 portals", |b| {
        b.iter_batched(
            || {
                room = room.wrapping_mul(1_664_525).wrapping_add(1_013_904_223) % ROOMS;
                request(format!("door-{room}"), room * 4)
            },
            |input| black_box(engine.handle(input, NOW)),
            BatchSize::SmallInput,
        );
    });
}

fn facts<'a>(list: &'a AccessList, policy: &'a Policy, calendar: &'a Calendar) -> Facts<'a> {
    Facts {
        list,
        integrity: ListIntegrity::Complete,
        calendar,
        policy,
        posture: Posture::Secure,
        trip: None,
        stale_list: false,
        outdated_list: false,
        now: NOW,
    }
}

/// A calendar with the schedule `term`: the hours of a dormitory.
fn calendar() -> Calendar {
    let window = || vec!["06:00-23:00".parse().unwrap(), "23:30-00:30".parse().unwrap()];
    let schedule = Schedule { weekly: std::array::from_fn(|_| window()), ..Schedule::default() };
    let (_, zone) = timezone("Asia/Shanghai").unwrap();
    Calendar::new(zone, [("term".parse().unwrap(), schedule)].into())
}

/// What the uplink does with a signed reissue before the gateway has it.
fn receive(c: &mut Criterion) {
    let key = ed25519_dalek::SigningKey::from_bytes(&[7; 32]);
    let stream: dormgate::access::id::StreamName = "center".parse().unwrap();
    let spec = [StreamSpec {
        name: stream.clone(),
        scope: Scope::Gateway,
        keys: vec![key.verifying_key()],
        insecure_unsigned: false,
        allowed: AllowedOps::all(),
    }];
    let ops = [Op::Reissue { holder: holder(1), new_uid: uid(2), old_uid: Some(uid(1)) }];
    let claims = down::write_changes(&stream, "g1", NOW.wall, at(1, 1), &ops).unwrap();
    let signed = envelope::sign(&claims, &stream, &key).into_bytes();
    let gateway = "g1".parse().unwrap();
    c.bench_function("receive/reissue", |b| {
        b.iter(|| {
            let opened = envelope::open(&signed, Channel::Gateway, &gateway, &spec).unwrap();
            black_box(down::read_changes(&opened).unwrap())
        });
    });
}

criterion_group!(name = group; config = Criterion::default().sample_size(30); targets = benches);
criterion_main!(group);
