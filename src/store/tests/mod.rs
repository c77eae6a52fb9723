//! Guarantees of the store, over the simulated disk and over a real one.

mod backup;
mod damage;
mod disk;
mod erase;
mod foreign;
mod full;
mod life;
mod limit;
mod reach;
mod retained;
mod sealed;
mod second_disk;
mod signed;
mod simulation;
mod unreadable;

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use super::medium::Medium;
use super::*;
use crate::access::event::{Event, Flush, GapCause, Mark, StreamRevision};
use crate::access::id::{ClockTrust, Mono, Now, Timestamp};

fn verify_on(medium: &dyn Medium) -> std::io::Result<Verified> {
    super::verify::judge(medium, &mut |_, _| Ok(()))
}

/// A state that misses nothing: every event's number, detail and evidence.
#[derive(Debug, Default, PartialEq, Eq, Clone)]
struct EventLog(BTreeMap<u64, (String, Vec<u8>)>);

impl Fold for EventLog {
    fn apply(&mut self, event: &AuditEvent, evidence: &[u8]) -> Result<(), String> {
        self.0.insert(event.n, (event.body.detail().to_owned(), evidence.to_vec()));
        Ok(())
    }

    fn export(&self) -> Result<Vec<Vec<u8>>, String> {
        let one = |(n, (detail, evidence)): (&u64, &(String, Vec<u8>))| {
            let length = u8::try_from(detail.len()).unwrap();
            [n.to_be_bytes().as_slice(), &[length], detail.as_bytes(), evidence].concat()
        };
        Ok(self.0.iter().map(one).collect())
    }

    fn import(records: &[Vec<u8>]) -> Result<Self, String> {
        let one = |record: &Vec<u8>| {
            let (n, rest) = record.split_first_chunk()?;
            let (length, rest) = rest.split_first()?;
            let (detail, evidence) = rest.split_at_checked(usize::from(*length))?;
            Some((u64::from_be_bytes(*n), (String::from_utf8(detail.to_vec()).ok()?, evidence.to_vec())))
        };
        records.iter().map(one).collect::<Option<_>>().map(Self).ok_or_else(|| "not a record".to_owned())
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
    let event = AuditEvent { body: Event::ChangesApplied { revision, snapshot: None }, ..event(n) };
    Record { event, evidence: format!("signed {n}").into_bytes(), flush: Flush::Now }
}

fn gap(n: u64, (from, to): (u64, u64)) -> Record {
    let event =
        AuditEvent { body: Event::LogGap { from, to, cause: GapCause::Damaged, ranges: Vec::new() }, ..event(n) };
    Record { event, evidence: Vec::new(), flush: Flush::Now }
}

/// The state after exactly these events of [`soon`], or of [`change`] where the number divides by 3.
fn log_of(numbers: impl IntoIterator<Item = u64>) -> EventLog {
    let mut log = EventLog::default();
    for n in numbers {
        let record = record(n);
        log.apply(&record.event, &record.evidence).unwrap();
    }
    log
}

fn record(n: u64) -> Record {
    if n.is_multiple_of(3) { change(n) } else { soon(n) }
}

/// Small segments and few events between generations, so that a short test has many of both.
fn small() -> Options {
    Options { segment_bytes: 2000, generation_events: 25, reserve_bytes: 4096, ..Options::default() }
}

type Open = (Store, StoreEvents, Recovered<EventLog>, Stepper<EventLog>);

fn open(disk: &MemoryDisk) -> Open {
    Store::open_in_memory::<EventLog>(disk, small()).unwrap()
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
