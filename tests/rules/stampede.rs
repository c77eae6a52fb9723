//! The stampede after a restart of the campus broker: how many requests to send again a center gets in its worst second, by seed and
//! `resync_spread_s`. Every gateway is a real engine; only the links are arithmetic.

use std::collections::BTreeMap;

use dormgate::access::effect::Effect;
use dormgate::access::engine::{Engine, Setup, StreamRole};
use dormgate::access::id::{ClockTrust, Mono, Now, Timestamp};
use dormgate::access::input::Input;
use dormgate::access::state::State;
use dormgate::mqtt::BACKOFF_MAX_MS;

use crate::dice::Dice;
use crate::simulation::seeds;
use crate::world::{APARTMENT, BEGIN_MS, OFFICE, name, owned_by};

const GATEWAYS: u64 = 10_000;
const STREAMS: usize = 2;
/// Seeds of a plain `cargo test`.
const SEEDS_QUICK: u64 = 2;

fn at(mono_ms: u64) -> Now {
    let wall = Timestamp(BEGIN_MS + i64::try_from(mono_ms).unwrap());
    Now { wall, mono: Mono(mono_ms), clock: ClockTrust::Trusted }
}

/// When a gateway whose link comes up at `up_ms` first asks each of its streams, in milliseconds since the broker's return. That it asks
/// again after 30 s where nobody answers is another matter.
fn asks_at(seed: u64, gateway: u64, up_ms: u64, spread_s: u64) -> Vec<u64> {
    let role = |stream| StreamRole { name: name(stream), owns: owned_by(stream) };
    let setup = Setup {
        streams: vec![role(OFFICE), role(APARTMENT)],
        boot: format!("{:016x}", Dice(seed.wrapping_mul(1 << 32) + gateway).next()),
        ..Setup::default()
    };
    let mut engine = Engine::new(setup, State::default());
    engine.handle(Input::LinkUp { spread_ms: spread_s * 1_000, ask_every_stream: true }, at(up_ms));
    let mut asked = BTreeMap::new();
    while asked.len() < STREAMS {
        let due = engine.next_deadline().expect("an ask is planned").0;
        let effects = engine.handle(Input::Wake, at(due));
        for effect in effects {
            if let Effect::Resync(resync) = effect {
                asked.entry(resync.stream).or_insert(due);
            }
        }
    }
    asked.into_values().collect()
}

/// The most asks in any second.
fn worst_second(seed: u64, spread_s: u64) -> usize {
    let mut dice = Dice(seed);
    let mut seconds = vec![0; usize::try_from(spread_s).unwrap() + 60];
    for gateway in 0..GATEWAYS {
        // The broker was away for long: each waits up to the longest pause, from wherever it was in it.
        let up_ms = dice.next() % BACKOFF_MAX_MS;
        for asked in asks_at(seed, gateway, up_ms, spread_s) {
            seconds[usize::try_from(asked / 1_000).unwrap()] += 1;
        }
    }
    let all = usize::try_from(GATEWAYS).unwrap() * STREAMS;
    assert_eq!(seconds.iter().sum::<usize>(), all);
    seconds.into_iter().max().unwrap()
}

#[test]
fn the_stampede_of_ten_thousand_gateways_is_spread_over_the_configured_time() {
    for seed in seeds(SEEDS_QUICK) {
        for spread_s in [5, 60] {
            let worst = worst_second(seed, spread_s);
            println!("{GATEWAYS} gateways, spread {spread_s} s, seed {seed}: {worst} asks in the worst second");
            // A tenth above the even share of a second.
            let even = usize::try_from(GATEWAYS / spread_s).unwrap() * STREAMS;
            let most = even + even / 10 + 50;
            assert!(worst <= most, "seed {seed}: {worst} asks in one second, evenly spread {even}");
        }
    }
}
