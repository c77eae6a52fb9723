//! Many lives of a store by random steps: whatever was reported to be durable is in the state after every power cut, exactly once. A
//! center that is sent the audit meanwhile gets every such change, and never another event under a number that it has.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::super::open::open_on;
use super::super::sealed;
use super::second_disk::SecondDisk;
use super::*;

/// A simulated disk that a life may go on.
pub(super) trait Disk {
    fn medium(&self) -> Arc<dyn Medium>;
    fn set_fault(&self, fault: Fault);
    /// Cuts the power; the disk is well afterwards.
    fn crash(&self, torn: usize);
}

impl Disk for MemoryDisk {
    fn medium(&self) -> Arc<dyn Medium> {
        Arc::new(self.clone())
    }

    fn set_fault(&self, fault: Fault) {
        Self::set_fault(self, fault);
    }

    fn crash(&self, torn: usize) {
        Self::crash(self, torn);
    }
}

fn open_at(disk: &dyn Disk, options: &Options) -> Open {
    let medium = sealed::over(disk.medium(), options.key.as_ref()).unwrap();
    open_on(medium, options.clone(), false).unwrap().step_by_step(MemoryDisk::new())
}

#[derive(Clone, Debug)]
enum Act {
    Append(u8, bool),
    Step,
    Chores,
    Send(usize),
    Ack,
    Generation,
    Fault(Fault),
    Crash(usize),
    Stop,
}

fn acts() -> impl Strategy<Value = Act> {
    prop_oneof![
        8 => (1..6u8, any::<bool>()).prop_map(|(count, change)| Act::Append(count, change)),
        8 => Just(Act::Step),
        3 => Just(Act::Chores),
        4 => (1..9usize).prop_map(Act::Send),
        2 => Just(Act::Ack),
        1 => Just(Act::Generation),
        1 => (0..3000u64).prop_map(|room| Act::Fault(Fault::Full { room })),
        1 => Just(Act::Fault(Fault::Writes)),
        1 => Just(Act::Fault(Fault::Syncs)),
        2 => Just(Act::Fault(Fault::None)),
        2 => (0..400usize).prop_map(Act::Crash),
        1 => Just(Act::Stop),
    ]
}

/// One gateway's view of its store.
struct Life {
    disk: Box<dyn Disk>,
    options: Options,
    opened: Open,
    next: u64,
    waiting: BTreeSet<u64>,
    durable: BTreeSet<u64>,
    /// How often the gateway was started; each event names it.
    boots: u64,
    /// What the center has of the audit, byte for byte.
    center: BTreeMap<u64, Vec<u8>>,
    /// How far it has acknowledged it.
    acknowledged: u64,
    /// From where the next batch is read.
    send_from: u64,
}

impl Life {
    fn begin(disk: Box<dyn Disk>, key: Option<StoreKey>) -> Self {
        let options = Options { soon_max: 12, retain_events: 30, key, ..small() };
        let opened = open_at(&*disk, &options);
        let (waiting, durable, center) = Default::default();
        Self { disk, options, opened, next: 1, waiting, durable, boots: 1, center, acknowledged: 0, send_from: 1 }
    }

    fn record(&self, n: u64) -> Record {
        let record = record(n);
        Record { event: AuditEvent { boot: format!("b{}", self.boots).as_str().into(), ..record.event }, ..record }
    }

    /// A batch goes to the center. What it gets again is what it has.
    fn send(&mut self, count: usize) {
        // A disk may fail to read; what was not sent is sent later.
        let Ok(batch) = self.opened.0.read_blocking(self.send_from, count, usize::MAX) else { return };
        for event in batch {
            assert!(event.n >= self.send_from, "{} is sent in front of {}", event.n, self.send_from);
            let skipped = self.durable.range(self.send_from..event.n).find(|n| n.is_multiple_of(3));
            assert_eq!(
                skipped,
                None,
                "a change was never sent {} {:?} {:?} {:?}",
                event.n,
                self.durable,
                numbers(&self.opened.0),
                self.opened.2.issues
            );
            let before = self.center.insert(event.n, event.json.to_vec());
            assert!(before.is_none_or(|before| before == *event.json), "two events have the number {}", event.n);
            self.send_from = event.n + 1;
        }
    }

    fn receive(&mut self) {
        for reported in drain(&mut self.opened.1) {
            match reported {
                StoreEvent::Durable { through, .. } => {
                    let later = self.waiting.split_off(&(through + 1));
                    self.durable.append(&mut std::mem::replace(&mut self.waiting, later));
                }
                StoreEvent::Lost { from, to } => {
                    for n in from..=to {
                        assert!(!n.is_multiple_of(3), "change {n} was dropped");
                        self.durable.remove(&n);
                        self.waiting.remove(&n);
                    }
                }
                StoreEvent::Refused { n, why } => panic!("{n}: {why}"),
                // A disk may fail to read, and is read again later.
                StoreEvent::Found(
                    RecoveryIssue::GenerationUnreadable { .. } | RecoveryIssue::SegmentUnreadable { .. },
                ) => {}
                StoreEvent::Found(issue) => panic!("{issue}"),
                StoreEvent::Failing { .. }
                | StoreEvent::Recovered
                | StoreEvent::ReserveReleased
                | StoreEvent::Stalled { .. }
                | StoreEvent::GenerationWritten { .. }
                | StoreEvent::GenerationFailed { .. }
                | StoreEvent::Removing { .. }
                | StoreEvent::Retained { .. } => {}
            }
        }
    }

    fn reopen(&mut self) {
        self.opened = open_at(&*self.disk, &self.options);
        let recovered = &self.opened.2;
        assert_eq!(recovered.integrity, Integrity::Complete, "{:?}", recovered.issues);
        let there: BTreeSet<_> = recovered.state.0.keys().copied().collect();
        // Dropped decisions are reported only when there is room; until then they may be trusted to be under way.
        let missing: Vec<_> = self.durable.difference(&there).filter(|n| n.is_multiple_of(3)).collect();
        assert!(missing.is_empty(), "reported durable and lost: {missing:?}");
        assert_eq!(recovered.state, log_of(there.iter().copied()));
        assert!(recovered.next_n > there.last().copied().unwrap_or(0));
        let sent = self.center.keys().next_back().copied().unwrap_or(0);
        assert!(recovered.next_n > sent, "{} was sent, and is given out again", recovered.next_n);
        let acked = self.opened.0.acked();
        assert!(acked <= self.acknowledged, "{acked} is taken for acknowledged, and {} is", self.acknowledged);
        self.send_from = acked + 1;
        self.boots += 1;
        self.next = recovered.next_n;
        self.durable = there;
        self.waiting.clear();
        let medium = sealed::over(self.disk.medium(), self.options.key.as_ref()).unwrap();
        assert_eq!(verify_on(&*medium).unwrap().broken, None);
    }

    fn act(&mut self, act: &Act) {
        match *act {
            Act::Append(count, all) => {
                let numbers = (self.next..).take(usize::from(count)).filter(|n| all || n.is_multiple_of(3));
                let records: Vec<_> = numbers.map(|n| self.record(n)).collect();
                self.waiting.extend(records.iter().map(|r| r.event.n));
                self.next += u64::from(count);
                self.opened.0.append(records);
            }
            Act::Step => drop(self.opened.3.step()),
            Act::Chores => self.opened.3.chores(),
            Act::Send(count) => self.send(count),
            Act::Ack => {
                self.acknowledged = self.center.keys().next_back().copied().unwrap_or(0);
                self.opened.0.set_acked(self.acknowledged);
                self.send_from = self.send_from.max(self.acknowledged + 1);
            }
            Act::Generation => self.opened.0.request_generation(),
            Act::Fault(fault) => self.disk.set_fault(fault),
            Act::Crash(torn) => {
                self.disk.crash(torn);
                self.reopen();
            }
            Act::Stop => {
                self.disk.set_fault(Fault::None);
                let opened = open_at(&MemoryDisk::new(), &self.options);
                let (_, mut events, _, stepper) = std::mem::replace(&mut self.opened, opened);
                stepper.close();
                std::mem::swap(&mut events, &mut self.opened.1);
                self.receive();
                assert!(self.waiting.iter().all(|n| !n.is_multiple_of(3)), "{:?}", self.waiting);
                self.reopen();
            }
        }
        self.receive();
    }
}

/// Lives through all of `acts` on `disk`.
fn live(disk: Box<dyn Disk>, acts: &[Act], encrypted: bool) {
    let mut life = Life::begin(disk, super::sealed::key().filter(|_| encrypted));
    for act in acts {
        life.act(act);
    }
    life.disk.crash(0);
    life.reopen();
    life.send(usize::MAX);
    let unsent = life.durable.iter().filter(|n| n.is_multiple_of(3)).find(|n| !life.center.contains_key(n));
    assert_eq!(unsent, None, "a change never reaches the center");
}

proptest! {
    #[test]
    fn whatever_happens_what_was_reported_durable_stays(
        all in proptest::collection::vec(acts(), 1..150),
        encrypted in any::<bool>(),
    ) {
        live(Box::new(MemoryDisk::new()), &all, encrypted);
    }

    #[test]
    fn the_same_on_a_disk_that_others_have_written(
        all in proptest::collection::vec(acts(), 1..150),
        encrypted in any::<bool>(),
        seed in any::<u64>(),
    ) {
        live(Box::new(SecondDisk::new(seed)), &all, encrypted);
    }
}
