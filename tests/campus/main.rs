//! A whole campus by seed: two offices, a broker, and two or three gateways with their devices, in one thread on manual time.
//!
//! Real are, of each gateway, the core with its engine, dispatch, digests and publication, the clock's judgement, the store with its
//! journal, generations, marks, replay and retention, the decoder with signatures and all checks, and the feed of the audit; of each
//! office the center, which numbers, signs, answers and keeps the audit. Every byte between them is written and read by the real code.
//!
//! Simulated are what has sockets, tasks and devices: the disk (loses what was not flushed, tears, fills up, fails, stalls, rots), the
//! broker (loses, repeats, reorders, retains, forgets sessions), the shelf of an office, the two loops that in the program are the tasks
//! of the gateway and of the uplink, and the portals (silent, lying, repeating). Those tasks are tried against real sockets in
//! `tests/uplink` and `tests/e2e`; here they are calls, so that a seed decides the order of everything.
//!
//! After each step `oracle.rs` checks what came out by what went in. What may or may not have survived (a change handed over and not
//! acknowledged when the power went) is read from the disk afterwards and allowed both ways.
//!
//! `SEED=n cargo test --test campus` replays one life, `SEEDS=n` or `LIVES=n` runs that many, `TRACE=1` prints what happened.
#![cfg(feature = "workbench")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::unreachable,
    missing_docs,
    reason = "a panic is how a test fails"
)]

mod broker;
#[path = "../support/dice.rs"]
mod dice;
#[path = "../support/digest_lines.rs"]
mod digest_lines;
mod gateway;
mod life;
#[path = "../support/model.rs"]
mod model;
mod offices;
mod oracle;
mod plan;
mod site;
mod steps;
mod upgrade;
#[path = "../support/world.rs"]
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use life::Life;
use plan::Step;

/// Steps of one life.
const STEPS: usize = 500;
/// Lives where neither `SEEDS` nor `LIVES` gives a number. `LIVES` is this test's own; `SEEDS` has a meaning for others too.
const LIVES: u64 = 300;

/// How one life ended: how much happened, and what was violated.
struct Ended {
    events: u64,
    trace: Vec<String>,
    violation: Option<String>,
}

fn live(gateways: usize, steps: &[Step]) -> Ended {
    let mut life = Life::new(gateways);
    let lived = catch_unwind(AssertUnwindSafe(|| {
        life.run(steps);
        life.end();
    }));
    let violation = lived.err().map(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
    });
    Ended { events: life.events, trace: std::mem::take(&mut life.trace), violation }
}

fn gateways(seed: u64) -> usize {
    if seed.is_multiple_of(4) { 3 } else { 2 }
}

fn number(key: &str) -> Option<u64> {
    std::env::var(key).ok().and_then(|text| text.parse().ok())
}

/// Panics of lives are caught and reported once; nobody needs them on the way.
fn silence_lives() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if std::thread::current().name() != Some("life") {
            before(info);
        }
    }));
}

/// A violation without what differs from one history to the next.
fn gist(violation: &str) -> Vec<&str> {
    violation.split_whitespace().filter(|word| word.bytes().all(|byte| byte.is_ascii_lowercase())).collect()
}

/// What a failing seed did, in as few steps as still fail in the same way.
fn report(seed: u64, steps: &[Step], violation: &str) -> String {
    let same = |ended: Ended| ended.violation.is_some_and(|other| gist(&other) == gist(violation));
    let fewest = plan::shrink(steps.to_vec(), |fewer| same(live(gateways(seed), fewer)));
    let ended = live(gateways(seed), &fewest);
    let last = ended.trace.iter().rev().take(300).rev().cloned().collect::<Vec<_>>().join("\n");
    let steps = fewest.iter().map(|step| format!("{:?}", step.act)).collect::<Vec<_>>().join(" ");
    format!(
        "seed {seed}: {violation}\nSEED={seed} cargo test --all-features --test campus replays it\n{} steps still fail, \
         with: {}\n{steps}\n{last}",
        fewest.len(),
        ended.violation.unwrap_or_default()
    )
}

#[test]
fn no_life_of_a_campus_breaks_an_invariant() {
    silence_lives();
    let seeds = match number("SEED") {
        Some(seed) => seed..seed + 1,
        None => {
            let first = number("FIRST").unwrap_or(0);
            first..first + number("SEEDS").or(number("LIVES")).unwrap_or(LIVES)
        }
    };
    let (next, events) = (AtomicU64::new(seeds.start), AtomicU64::new(0));
    let failed = Mutex::new(None);
    let lives = || {
        loop {
            let seed = next.fetch_add(1, Relaxed);
            if seed >= seeds.end || failed.lock().unwrap().is_some() {
                return;
            }
            let steps = plan::plan(seed, STEPS);
            let ended = live(gateways(seed), &steps);
            events.fetch_add(ended.events, Relaxed);
            if number("TRACE").is_some() {
                println!("{}", ended.trace.join("\n"));
            }
            if let Some(violation) = ended.violation {
                let mut failed = failed.lock().unwrap();
                if failed.is_none() {
                    // Where a fault was planted nobody reads the history.
                    let is_planted = std::env::var_os("PLANTED").is_some();
                    let brief = format!("seed {seed}: {violation}");
                    *failed = Some(if is_planted { brief } else { report(seed, &steps, &violation) });
                }
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            std::thread::Builder::new().name("life".to_owned()).spawn_scoped(scope, lives).unwrap();
        }
    });
    println!("{} events in {} lives", events.load(Relaxed), seeds.end - seeds.start);
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_none(), "{}", failed.unwrap_or_default());
}

#[test]
fn the_same_seed_gives_the_same_life_to_the_byte() {
    for seed in 0..3 {
        let steps = plan::plan(seed, STEPS);
        let [first, again] = [0, 1].map(|_| live(gateways(seed), &steps));
        assert_eq!(first.events, again.events);
        assert!(first.trace == again.trace, "two runs of seed {seed} differ");
        assert!(first.trace.len() > STEPS);
    }
}

#[test]
fn a_history_is_shrunk_to_what_matters() {
    let steps = plan::plan(7, 200);
    let culprits = [steps[20], steps[150]];
    let fewest = plan::shrink(steps, |fewer| culprits.iter().all(|step| fewer.contains(step)));
    assert_eq!(fewest, culprits);
}

#[test]
fn each_planted_fault_still_finds_its_place() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let faults = std::fs::read_to_string(root.join("tests/planted/faults.txt")).unwrap();
    let mut count = 0;
    for fault in faults.split("\nfault ").skip(1) {
        let (head, rest) = fault.split_once("\n-----\n").unwrap();
        let (name, file) = (head.lines().next().unwrap(), head.split("\nin ").nth(1).unwrap().lines().next().unwrap());
        let (old, new) = rest.split_once("\n+++++\n").unwrap();
        let found = std::fs::read_to_string(root.join(file)).unwrap().matches(old).count();
        assert_eq!(
            found, 1,
            "{name}: its old text stands {found} times in {file}; correct it in tests/planted/faults.txt"
        );
        assert_ne!(old, new.split("=====").next().unwrap().trim_end_matches('\n'), "{name} changes nothing");
        count += 1;
    }
    assert!(count >= 40, "{count} faults");
}
