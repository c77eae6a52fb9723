//! The pure part: one decision, and one reissue applied, at 1 k, 50 k and 1 M cards. Run: `cargo bench --bench decide`.

#![allow(clippy::unwrap_used, missing_docs, reason = "a panic ends a benchmark")]

mod support;

use std::hint::black_box;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use dormgate::access::change::Op;
use dormgate::access::decide::{Facts, ListIntegrity, Question, decide};
use dormgate::access::input::Presented;
use dormgate::access::list::AccessList;
use dormgate::access::policy::Policy;
use dormgate::access::portal::Posture;
use dormgate::wire::changes;
use dormgate::wire::envelope::{self, Channel, Scope, StreamSpec};
use dormgate::wire::may::MaySet;
use support::{NOW, at, door, holder, list_of, uid};

const SIZES: [u32; 3] = [1_000, 50_000, 1_000_000];

fn benches(c: &mut Criterion) {
    let policy = Policy::default();
    hear(c);
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
                let question = Question { portal, presented: &presented, direction: None, stale: false };
                black_box(decide(&facts(&list, &policy), &question))
            });
        });
        c.bench_function(&format!("decide/unknown/{size}"), |b| {
            b.iter(|| {
                card = card.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let presented = Presented::Card(uid(size + (card % 1_000_000)));
                let question = Question { portal: doors.first(), presented: &presented, direction: None, stale: false };
                black_box(decide(&facts(&list, &policy), &question))
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
                |(ops, at)| black_box(list.apply(&ops, at, &policy, NOW.wall)),
                BatchSize::SmallInput,
            );
        });
    }
}

fn facts<'a>(list: &'a AccessList, policy: &'a Policy) -> Facts<'a> {
    Facts { list, integrity: ListIntegrity::Complete, policy, posture: Posture::Secure, stale_list: false, now: NOW }
}

/// What the uplink does with a signed reissue before the gateway has it.
fn hear(c: &mut Criterion) {
    let key = ed25519_dalek::SigningKey::from_bytes(&[7; 32]);
    let stream: dormgate::access::id::StreamName = "center".parse().unwrap();
    let spec = [StreamSpec {
        name: stream.clone(),
        scope: Scope::Gateway,
        keys: vec![key.verifying_key()],
        insecure_unsigned: false,
        may: MaySet::ALL,
    }];
    let ops = [Op::Reissue { holder: holder(1), new_uid: uid(2), old_uid: Some(uid(1)) }];
    let claims = changes::claims(&stream, "g1", NOW.wall, at(1, 1), &ops).unwrap();
    let signed = envelope::sign(&claims, &stream, &key).into_bytes();
    let gateway = "g1".parse().unwrap();
    c.bench_function("hear/reissue", |b| {
        b.iter(|| {
            let opened = envelope::open(&signed, Channel::Gateway, &gateway, &spec).unwrap();
            black_box(changes::parse(&opened).unwrap())
        });
    });
}

criterion_group!(name = group; config = Criterion::default().sample_size(30); targets = benches);
criterion_main!(group);
