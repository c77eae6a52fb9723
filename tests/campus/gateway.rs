//! One gateway: the real core, store, decoder and audit feed, put together as `cli/serve` does it, without tasks and sockets.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use dormgate::access::calendar::Calendar;
use dormgate::access::effect::Resync;
use dormgate::access::engine::{Engine, Setup, StreamRole};
use dormgate::access::id::{GatewayId, Timestamp};
use dormgate::access::input::{Input, Receipt};
use dormgate::access::schedule::timezone;
use dormgate::access::state::State;
use dormgate::clock::{Clock, ManualClock};
use dormgate::config::AuditAckBy;
use dormgate::gateway::Work;
use dormgate::gateway::metrics::Metrics;
use dormgate::gateway::owner::{GatewayCore, Identity};
use dormgate::gateway::ports::{PORTAL_ORDERS_MAX, PortalOrder, PortalOutlets, UPLINK_ORDERS_MAX, UplinkOrder};
use dormgate::mqtt::MessageId;
use dormgate::store::{Integrity, MemoryDisk, Options, Recovered, RecoveryIssue, Stepped, Stepper, Store, StoreEvents};
use dormgate::uplink::decode::{Decoded, Decoder};
use dormgate::uplink::feed::{AckError, BATCH_BYTES_MAX, BATCH_EVENTS_MAX, Feed};
use dormgate::wire::digest::registers_of;
use dormgate::wire::topic::Up;
use dormgate::wire::up;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::broker::Packet;
use crate::offices::spec;
use crate::world::{APARTMENT, OFFICE, portals};

/// What waits for the broker.
pub type Outgoing = (Up, Vec<u8>, Option<MessageId>);

/// A run of the program between two starts.
pub struct Run {
    pub core: GatewayCore,
    pub store: Store,
    events: StoreEvents,
    stepper: Stepper<State>,
    uplink: mpsc::Receiver<UplinkOrder>,
    orders: mpsc::Receiver<PortalOrder>,
    /// The last event of its start.
    pub began: u64,
    pub clock: Clock,
    pub manual: ManualClock,
    decoder: Decoder,
    feed: Feed,
    /// Messages that the broker keeps until they are acknowledged; of this connection only.
    held: HashMap<Receipt, u64>,
    pub outbox: VecDeque<Outgoing>,
    receipts: u64,
    /// It subscribes with QoS 0 while nothing can be written.
    pub unacknowledged: bool,
    messages: u64,
    boot: String,
}

/// What the center sees leave.
pub enum Left {
    Order(UplinkOrder),
    /// An event of the audit: its number and its bytes.
    Audit(u64, Vec<u8>),
}

/// How the start ended.
pub struct Found {
    pub integrity: Integrity,
    pub issues: Vec<RecoveryIssue>,
}

fn options() -> Options {
    Options { segment_bytes: 12_000, generation_events: 60, reserve_bytes: 4096, ..Options::default() }
}

impl Run {
    /// A start from what is on `disk`.
    pub fn start(id: &GatewayId, disk: &MemoryDisk, wall: Timestamp, boot: String) -> (Self, Found) {
        let (store, events, recovered, stepper) = Store::open_in_memory::<State>(disk, options()).unwrap();
        let Recovered { mut state, next_n, integrity, lost, issues, .. } = recovered;
        state.last_n = state.last_n.max(next_n - 1);
        let (clock, manual) = Clock::manual(wall);
        clock.not_before(state.trusted_at);
        for (stream, track) in &state.streams {
            track.newest_iat.into_iter().for_each(|iat| clock.message_known(stream, iat));
        }
        let streams = [OFFICE, APARTMENT].map(spec);
        let owned = streams.iter().map(|s| (s.name.clone(), registers_of(s.allowed)));
        let roles = owned.clone().map(|(name, owns)| StreamRole { name, owns }).collect();
        let (_, zone) = timezone("Asia/Shanghai").unwrap();
        let calendar = Calendar::new(zone, BTreeMap::new());
        let setup = Setup { portals: portals(), calendar, streams: roles, boot: boot.clone(), ..Setup::default() };
        let identity = Identity { boot: boot.clone(), streams: owned.collect(), ..Identity::default() };
        let (to_portals, orders) = mpsc::channel(PORTAL_ORDERS_MAX);
        let (to_uplink, uplink) = mpsc::channel(UPLINK_ORDERS_MAX);
        let by_portal = portals().into_iter().map(|p| (p.id, to_portals.clone())).collect();
        let outlets = PortalOutlets { by_portal, unknown: Some(to_portals) };
        let engine = Engine::new(setup, state);
        let mut core = GatewayCore::new(engine, store.clone(), outlets, Some(to_uplink), identity, Metrics::default());
        let now = clock.now();
        for (from, to) in lost {
            match integrity {
                Integrity::Complete => core.input(Input::Lost { from, to }, now),
                Integrity::Damaged { .. } => core.damaged(from, to, now),
            }
        }
        let gateway = Some(id.clone());
        core.input(Input::Boot { found: String::new(), version: "simulated".to_owned(), gateway }, now);
        let began = core.engine().state().last_n;
        issues.iter().for_each(|issue| core.found(issue, now));
        let feed = Feed::new(AuditAckBy::Center, store.acked());
        let decoder = Decoder { gateway: id.clone(), streams: streams.to_vec() };
        let (held, outbox) = (HashMap::new(), VecDeque::new());
        let run = Self {
            core,
            store,
            events,
            stepper,
            uplink,
            orders,
            began,
            clock,
            manual,
            decoder,
            feed,
            held,
            outbox,
            boot,
            receipts: 0,
            unacknowledged: false,
            messages: 0,
        };
        (run, Found { integrity, issues })
    }

    /// Handles one input.
    pub fn handle(&mut self, input: Input) {
        self.core.handle(input, &self.clock);
    }

    /// Decodes one message and hands it over; gives the broker's message if it is acknowledged at once.
    pub fn deliver(&mut self, packet: Packet, now: Instant) -> Option<u64> {
        self.receipts += 1;
        let (receipt, wall) = (Receipt(self.receipts), self.clock.now().wall);
        let Packet { topic, payload, retain, id } = packet;
        match self.decoder.decode(&topic, payload, retain, receipt, wall) {
            Decoded::Held(input) => {
                if id > 0 {
                    self.held.insert(receipt, id);
                }
                self.handle(input);
                return None;
            }
            Decoded::Passing(input) => self.handle(input),
            Decoded::AuditAck { through, payload } => {
                match self.feed.acknowledged(through, self.store.last_durable(), now) {
                    Ok(Some(cursor)) => self.store.set_acked(cursor),
                    Ok(None) | Err(AckError::NotSent { .. }) => {}
                    Err(why @ AckError::Beyond { .. }) => {
                        self.handle(Decoder::refuse_audit_ack(&payload, &why.to_string(), wall));
                    }
                }
            }
            Decoded::Foreign => panic!("`{topic}` is foreign"),
        }
        (id > 0).then_some(id)
    }

    /// The link comes up.
    pub fn link_up(&mut self) {
        self.feed.start_again();
        self.handle(Input::LinkUp { spread_ms: 0, ask_every_stream: false });
    }

    /// The link is lost.
    pub fn link_down(&mut self) {
        self.held.clear();
        self.feed.start_again();
    }

    /// What the task does when nothing else is ready: gives the journal and the center what is pending, and works at snapshots.
    pub fn quiet(&mut self) {
        let now = self.clock.now();
        self.core.flush(now);
        for _ in 0..64 {
            let now = self.clock.now();
            if self.core.background_work(now) == Work::None {
                break;
            }
            if let Some(lines) = self.core.work_in_background(now) {
                self.core.digested(Some(lines.finish()), now);
            }
        }
        self.core.flush(self.clock.now());
    }

    /// What the store has reported.
    pub fn stored(&mut self) {
        while let Some(event) = self.events.try_recv() {
            self.core.store_event(event, self.clock.now());
        }
    }

    pub fn disk_step(&mut self) -> Stepped {
        self.stepper.step()
    }

    pub fn chores(&mut self) {
        self.stepper.chores();
    }

    /// The orders to portals that have left.
    pub fn portal_orders(&mut self) -> Vec<PortalOrder> {
        std::iter::from_fn(|| self.orders.try_recv().ok()).collect()
    }

    /// Puts into the outbox what is to be published, as the uplink does. Gives what leaves, and the broker's messages that are acknowledged.
    pub fn uplink(&mut self, is_up: bool, now: Instant) -> (Vec<Left>, Vec<u64>) {
        let (mut left, mut released) = (Vec::new(), Vec::new());
        while let Ok(order) = self.uplink.try_recv() {
            let (what, body) = match &order {
                UplinkOrder::Acknowledge { ack, receipt, durable_at } => {
                    released.extend(self.held.remove(receipt));
                    (Up::Ack, up::encode_ack(ack, *durable_at))
                }
                UplinkOrder::Reply(reply) => (Up::Reply, up::encode(&**reply)),
                UplinkOrder::Alarm(alarm) => (Up::Alarm, up::encode(&**alarm)),
                UplinkOrder::Resync(resync) => {
                    // Of a stream only the newest is kept.
                    let is_older = |body: &[u8]| up::decode::<Resync>(body).unwrap().stream == resync.stream;
                    self.outbox.retain(|(what, body, _)| *what != Up::Resync || !is_older(body));
                    (Up::Resync, up::encode(&**resync))
                }
                UplinkOrder::Unacknowledged(yes) => {
                    self.unacknowledged = *yes;
                    continue;
                }
                UplinkOrder::State(_) | UplinkOrder::Streams(_) => continue,
            };
            self.outbox.push_back((what, body.unwrap(), None));
            left.push(Left::Order(order));
        }
        if is_up {
            self.feed.resend_is_due(now);
            while let Some(from) = self.feed.wants(self.store.last_durable()) {
                let events = self.store.read_blocking(from, BATCH_EVENTS_MAX, BATCH_BYTES_MAX).unwrap();
                let Some(first) = events.first().map(|event| event.n) else { break };
                let run = events.iter().zip(first..).take_while(|(event, n)| event.n == *n).map(|(event, _)| event);
                let run: Vec<_> = run.collect();
                let bytes: Vec<_> = run.iter().map(|event| &event.json).collect();
                let body = up::encode_audit(&self.boot, from - 1, first, &bytes).unwrap();
                let last = run.last().unwrap().n;
                left.extend(run.iter().map(|event| Left::Audit(event.n, event.json.to_vec())));
                self.messages += 1;
                let id = MessageId(self.messages);
                self.outbox.push_back((Up::Audit, body, Some(id)));
                self.feed.sent(last, id, now);
            }
        }
        (left, released)
    }

    /// The broker has a batch of the audit.
    pub fn delivered(&mut self, id: MessageId, now: Instant) {
        assert_eq!(self.feed.delivered(id, now), None, "the cursor is the center's");
    }

    /// Lets time pass up to the core's next deadline or to `until` and wakes it. Gives whether `until` is reached.
    pub fn wake(&mut self, until: u64) -> bool {
        let now = self.clock.now();
        let next =
            self.core.next_deadline(now).map_or(until, |at| at.0).clamp(now.mono.0 + 1, until.max(now.mono.0 + 1));
        self.manual.advance_ms(next - now.mono.0);
        self.handle(Input::Wake);
        self.quiet();
        next >= until
    }

    /// A clean stop: what was taken is handed on and written.
    pub fn stop(mut self) -> Vec<Left> {
        self.quiet();
        while self.disk_step() == Stepped::Done {
            self.stored();
            self.quiet();
        }
        self.stored();
        let (left, _) = self.uplink(false, Instant::now());
        self.stepper.close();
        left
    }
}

/// The steps of a time that passes, as an instant of the links.
pub fn instant(begun: Instant, elapsed_ms: u64) -> Instant {
    begun + Duration::from_millis(elapsed_ms)
}
