//! Promises of the store, over the simulated disk and over a real one.

mod damage;
mod disk;
mod full;
mod life;
mod simulation;

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use super::medium::Medium;
use super::*;
use crate::access::event::{Event, Flush, GapCause, Mark, StreamRevision};
use crate::access::id::{ClockTrust, Mono, Now};

/// A state that misses nothing: every event's number, what it said and its evidence.
#[derive(Debug, Default, PartialEq, Eq, Clone)]
struct Toy(BTreeMap<u64, (String, Vec<u8>)>);

impl Fold for Toy {
    fn apply(&mut self, event: &AuditEvent, evidence: &[u8]) -> Result<(), String> {
        self.0.insert(event.n, (event.body.detail().to_owned(), evidence.to_vec()));
        Ok(())
    }

    fn export(&self, put: &mut dyn FnMut(&[u8], &[u8])) {
        for (n, (said, evidence)) in &self.0 {
            put(&n.to_be_bytes(), &[said.as_bytes(), b"|", evidence].concat());
        }
    }

    fn import(pairs: &mut dyn Iterator<Item = (Vec<u8>, Vec<u8>)>) -> Result<Self, String> {
        let mut toy = Self::default();
        for (key, value) in pairs {
            let n = u64::from_be_bytes(key.try_into().map_err(|_| "key")?);
            let at = value.iter().position(|b| *b == b'|').ok_or("value")?;
            let said = String::from_utf8(value[..at].to_vec()).map_err(|e| e.to_string())?;
            toy.0.insert(n, (said, value[at + 1..].to_vec()));
        }
        Ok(toy)
    }
}

fn event(n: u64) -> AuditEvent {
    let wall = Timestamp(1_788_249_600_000 + i64::try_from(n).unwrap() * 1000);
    let now = Now { wall, mono: Mono(n), clock: ClockTrust::Trusted };
    AuditEvent::new(n, "b", now, Event::Config { mark: Mark::Note, detail: format!("event {n}") })
}

fn soon(n: u64) -> Record {
    Record { event: event(n), evidence: Vec::new(), flush: Flush::Soon }
}

fn change(n: u64) -> Record {
    let revision = StreamRevision { stream: "s".parse().unwrap(), epoch: NonZeroU32::MIN, seq: n };
    let event = AuditEvent { body: Event::ChangesApplied { revision }, ..event(n) };
    Record { event, evidence: format!("signed {n}").into_bytes(), flush: Flush::Now }
}

fn gap(n: u64, (from, to): (u64, u64)) -> Record {
    let event = AuditEvent { body: Event::LogGap { from, to, cause: GapCause::Damaged }, ..event(n) };
    Record { event, evidence: Vec::new(), flush: Flush::Now }
}

/// The state after exactly these events of [`soon`], or of [`change`] where the number divides by 3.
fn toy(numbers: impl IntoIterator<Item = u64>) -> Toy {
    let mut toy = Toy::default();
    for n in numbers {
        let record = record(n);
        toy.apply(&record.event, &record.evidence).unwrap();
    }
    toy
}

fn record(n: u64) -> Record {
    if n.is_multiple_of(3) { change(n) } else { soon(n) }
}

/// Small segments and few events between generations, so that a short test has many of both.
fn small() -> Options {
    Options { segment_bytes: 2000, generation_events: 25, ballast_bytes: 4096, ..Options::default() }
}

type Open = (Store, StoreEvents, Recovered<Toy>, Stepper<Toy>);

fn open(disk: &MemoryDisk) -> Open {
    Store::open_in_memory::<Toy>(disk, small()).unwrap()
}

fn drain(events: &mut StoreEvents) -> Vec<StoreEvent> {
    std::iter::from_fn(|| events.try_recv()).collect()
}

/// Appends and flushes `numbers` one by one, doing the chores in between.
fn write(opened: &mut Open, numbers: impl IntoIterator<Item = u64>) {
    for n in numbers {
        opened.0.append(vec![record(n)]);
        assert_eq!(opened.3.flush(), Stepped::Idle);
        opened.3.chores();
    }
}

fn numbers(store: &Store) -> Vec<u64> {
    store.read_blocking(0, usize::MAX, usize::MAX).unwrap().into_iter().map(|e| e.n).collect()
}
