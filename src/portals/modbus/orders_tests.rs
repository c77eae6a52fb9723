//! One portal by itself: what it takes from its relay's task and its readers.

use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::super::bus::BusSpec;
use super::super::drive::Order;
use super::super::line::LineSpec;
use super::super::portal::{Event, Memory};
use super::super::slots::Slot;
use super::super::task;
use super::super::tests::late::TWO_POLLS;
use super::super::tracker::Tracker;
use super::*;
use crate::gateway::ports::Inbox;
use crate::profile::{Block, Reader, read};
use crate::wire::modbus::{Reply, Request, Space};

const LIMIT: Duration = Duration::from_secs(5);

/// A power box at work, and everything it hears and says.
struct Bench {
    orders: mpsc::Sender<PortalOrder>,
    done: mpsc::Sender<Told>,
    events: mpsc::Sender<Event>,
    wanted: watch::Receiver<Order>,
    taken: crate::gateway::ports::InboxReceiver,
    _running: JoinHandle<()>,
    _stop: watch::Sender<bool>,
}

impl Bench {
    fn of(readers: &[Reader]) -> Self {
        let (orders, ordered) = mpsc::channel(8);
        let (done, told) = mpsc::channel(8);
        let (events, heard) = mpsc::channel(8);
        let (stop, stopped) = watch::channel(false);
        let (inbox, taken) = Inbox::new();
        let wanted = watch::Sender::new(Order::first(Wanted::AsItIs));
        let seen = wanted.subscribe();
        let spec = BusSpec::new("riser", LineSpec::Tcp("127.0.0.1:1".into()), 200);
        let (bus, _) = task::open(spec, &std::collections::HashMap::from([(5, Duration::ZERO)]), Arc::new(()));
        let slot = |(number, reader): (u8, &Reader)| Slot::new(0, number, Tracker::new(reader.clone()));
        let portal = Portal {
            id: "power-1".parse().unwrap(),
            kind: PortalKind::PowerBox,
            devices: vec![(Device { bus, unit: 5, polled: true }, UnitState::Unknown)],
            slots: (0..).zip(readers).map(slot).collect(),
            output: None,
            inputs: Vec::new(),
            meter: None,
            inbox,
            wanted,
            events: events.clone(),
            memory: Memory::new(false),
        };
        let running = tokio::spawn(portal.run(ordered, heard, told, stopped));
        Self { orders, done, events, wanted: seen, taken, _running: running, _stop: stop }
    }

    async fn order(&self, order: PortalOrder) {
        self.orders.send(order).await.unwrap();
    }

    async fn energise(&self) {
        self.order(PortalOrder::Energise {
            grant: Grant::for_test("power-1".parse().unwrap(), None, None),
            announced: false,
        })
        .await;
    }

    /// The number of the order in force, once it is this one.
    async fn wants(&mut self, what: impl Fn(Wanted) -> bool) -> u64 {
        let found = timeout(LIMIT, self.wanted.wait_for(|order| what(order.wanted))).await;
        found.expect("it wants something else").unwrap().number
    }

    async fn says(&self, order: u64, done: Done) {
        self.done.send(Told { order, done }).await.unwrap();
    }

    async fn alarm(&mut self) {
        let heard = timeout(LIMIT, self.taken.urgent.recv()).await.unwrap();
        assert!(matches!(heard, Some(Input::Alarm { .. })), "{heard:?}");
    }
}

fn on(wanted: Wanted) -> bool {
    matches!(wanted, Wanted::On { .. })
}

#[tokio::test(start_paused = true)]
async fn the_end_of_an_overtaken_order_does_not_cut_the_newer_one() {
    let mut bench = Bench::of(&[]);
    bench.energise().await;
    let first = bench.wants(on).await;
    bench.order(PortalOrder::Cut { portal: "power-1".parse().unwrap(), reason: "card_left" }).await;
    let off = bench.wants(|wanted| wanted == Wanted::Off).await;
    bench.says(off, Done::Off(Instant::now())).await;
    bench.energise().await;
    let second = bench.wants(on).await;
    // It was said before, and is heard only now.
    bench.says(first, Done::Failed("no answer".into())).await;
    bench.alarm().await;
    let order = *bench.wanted.borrow();
    assert!(on(order.wanted) && order.number == second, "{order:?}");
    bench.says(second, Done::Failed("no answer".into())).await;
    bench.alarm().await;
    bench.wants(|wanted| wanted == Wanted::Off).await;
}

fn sample(address: u16, words: [u16; 2]) -> Event {
    let mut block = Block::default();
    block.add(&Request::Read { space: Space::Input, address, count: 2 }, Reply::Words(words.to_vec()));
    Event::Sample { device: 0, block, at: Instant::now() }
}

/// Slots and whether a card is said to be in them, as said within this time.
async fn slots_said(bench: &mut Bench, within: Duration) -> Vec<(u8, bool)> {
    tokio::time::sleep(within).await;
    let mut said = Vec::new();
    while let Ok(input) = bench.taken.requests.try_recv() {
        if let Input::Report { report, .. } = input {
            said.extend(report.card_present.map(|present| (report.slot, present)));
        }
    }
    said
}

#[tokio::test(start_paused = true)]
async fn a_slot_is_said_empty_only_when_the_other_readers_have_spoken_too() {
    let profile = read(TWO_POLLS).unwrap();
    let mut bench = Bench::of(&profile.readers);
    bench.events.send(sample(0, [0, 0])).await.unwrap();
    let moment = Duration::from_millis(100);
    assert_eq!(slots_said(&mut bench, moment).await, [], "the card may be in the other one");
    bench.events.send(sample(100, [0x1EA6, 0x8671])).await.unwrap();
    assert_eq!(slots_said(&mut bench, moment).await, [(1, true), (0, false)]);
    // A reader that is never heard keeps nobody's light on for ever.
    let mut bench = Bench::of(&profile.readers);
    for _ in 0..60 {
        bench.events.send(sample(0, [0, 0])).await.unwrap();
        tokio::time::sleep(moment).await;
    }
    assert_eq!(slots_said(&mut bench, moment).await, [(0, false)]);
}
