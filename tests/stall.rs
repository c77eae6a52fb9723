//! A disk that stalls for five seconds: decisions, revocations and orders on the box go on as if nothing were; only acknowledgements, and
//! answers to operators, wait. What a command of a center opens waits too, and not for long.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, reason = "a panic is how a test fails")]

use std::num::NonZeroU32;
use std::time::Duration;

use dormgate::access::calendar::Calendar;
use dormgate::access::change::{Changes, Op, Position, RegisterKind};
use dormgate::access::credential::{Enrolment, Entitlement, ZoneSet};
use dormgate::access::engine::{COMMAND_WAIT_MS, Engine, Setup, StreamRole};
use dormgate::access::id::{CardUid, Timestamp};
use dormgate::access::input::{Command, CommandKind, Input, Operator, Presented, Receipt, ReceivedChanges, Request};
use dormgate::access::policy::Policy;
use dormgate::access::portal::{Assurance, Portal, PortalKind, Posture};
use dormgate::access::rules::Rules;
use dormgate::access::state::State;
use dormgate::clock::{Clock, ManualClock};
use dormgate::gateway::metrics::Metrics;
use dormgate::gateway::owner::{GatewayCore, Identity};
use dormgate::gateway::ports::{Ask, Inbox, OperatorRefusal, PortalOrder, PortalOutlets, Reload, UplinkOrder};
use dormgate::gateway::{ORDER_WAIT_MS, Work};
use dormgate::store::{MemoryDisk, Options, Stepper, Store, StoreEvents};
use tokio::sync::oneshot::error::TryRecvError;
use tokio::sync::{mpsc, oneshot};

/// How long the disk stalls, in seconds, and how many requests come in each of them.
const STALL_S: u64 = 5;
const REQUESTS_A_SECOND: usize = 100;
/// When the tests begin.
const BEGIN: Timestamp = Timestamp(1_788_249_600_000);
/// An answer that takes longer than this, in simulated milliseconds, waited for something.
const AT_ONCE_MS: u64 = 1;

fn uid(text: &str) -> CardUid {
    text.parse().unwrap()
}

fn message(seq: u64, ops: Vec<Op>) -> Input {
    let at = Position { epoch: NonZeroU32::MIN, seq };
    Input::Changes(ReceivedChanges {
        changes: Changes { stream: "center".parse().unwrap(), at, iat: None, content: Ok(ops) },
        evidence: Vec::new(),
        receipt: Receipt(seq),
        received_at: Timestamp(0),
    })
}

fn request(card: CardUid) -> Input {
    Input::Request(Request {
        portal: "gate-in".to_owned(),
        id: None,
        presented: Presented::Card(card),
        direction: None,
        assurance: Assurance::Uid,
        stale: false,
        slot: 0,
    })
}

/// The answer to one request, which must come at once.
async fn ask(inbox: &Inbox, orders: &mut mpsc::Receiver<PortalOrder>, card: CardUid) -> &'static str {
    assert!(inbox.offer(request(card)));
    loop {
        let order = tokio::time::timeout(Duration::from_millis(AT_ONCE_MS), orders.recv()).await;
        match order.expect("an answer at once, whatever the disk does").unwrap() {
            PortalOrder::Answer { decision, .. } => return decision.reason_str(),
            // A card that lost its right takes its release back.
            PortalOrder::Mode { .. } | PortalOrder::Withdraw { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

async fn acks(uplink: &mut mpsc::Receiver<UplinkOrder>) -> Vec<u64> {
    let mut acked = Vec::new();
    while let Ok(Some(order)) = tokio::time::timeout(Duration::from_millis(AT_ONCE_MS), uplink.recv()).await {
        if let UplinkOrder::Acknowledge { ack, .. } = order {
            acked.extend(ack.at.map(|at| at.seq));
        }
    }
    acked
}

/// A gateway with one gate, whose disk does nothing until it is made to.
struct Stalled {
    core: GatewayCore,
    events: StoreEvents,
    disk: Stepper<State>,
    orders: mpsc::Receiver<PortalOrder>,
    uplink: mpsc::Receiver<UplinkOrder>,
    clock: Clock,
    manual: ManualClock,
    metrics: Metrics,
}

fn start() -> Stalled {
    let disk = MemoryDisk::new();
    let (store, events, _, stepper) = Store::open_in_memory::<State>(&disk, Options::default()).unwrap();
    let gate = Portal::new("gate-in".parse().unwrap(), PortalKind::Gate, "lobby".parse().unwrap());
    let portal = Portal { held_open_ms: 15_000, ..gate };
    let setup = Setup {
        portals: vec![portal.clone()],
        policy: Policy { max_denials: 0, ..Policy::default() },
        streams: vec![StreamRole { name: "center".parse().unwrap(), owns: [RegisterKind::Standing].into() }],
        ..Setup::default()
    };
    let (to_gate, orders) = mpsc::channel(64);
    let (to_uplink, uplink) = mpsc::channel(64);
    let outlets = PortalOutlets { by_portal: [(portal.id, to_gate)].into(), unknown: None };
    let metrics = Metrics::default();
    let engine = Engine::new(setup, State::default());
    let core = GatewayCore::new(engine, store, outlets, Some(to_uplink), Identity::default(), metrics.clone());
    let (clock, manual) = Clock::manual(BEGIN);
    Stalled { core, events, disk: stepper, orders, uplink, clock, manual, metrics }
}

impl Stalled {
    fn flush(&mut self) {
        self.core.flush(self.clock.now());
    }

    /// The disk writes all that waits.
    fn write(&mut self) {
        self.disk.flush();
        while let Some(event) = self.events.try_recv() {
            self.core.store_event(event, self.clock.now());
        }
    }

    fn pass_ms(&mut self, ms: u64) {
        self.manual.advance_ms(ms);
        self.core.handle(Input::Wake, &self.clock);
        while self.core.background_work(self.clock.now()) != Work::None {
            if let Some(lines) = self.core.work_in_background(self.clock.now()) {
                self.core.digested(Some(lines.finish()), self.clock.now());
            }
        }
        self.flush();
    }

    fn is_due_in_ms(&self, ms: u64) -> bool {
        let now = self.clock.now();
        self.core.next_deadline(now) == Some(now.mono.plus_ms(ms))
    }

    fn command(&mut self, jti: &str) {
        let kind = CommandKind::Release { portal: "gate-in".parse().unwrap() };
        let (stream, exp) = ("center".parse().unwrap(), Timestamp(BEGIN.0 + 20_000));
        let command = Command { stream, jti: jti.to_owned(), iat: BEGIN, exp, actor: None, kind };
        self.core.handle(Input::Command(command), &self.clock);
        self.flush();
    }

    /// An operator's order; gives where its answer arrives.
    fn order(&mut self, posture: Posture) -> Answered {
        let (answer, answered) = oneshot::channel();
        let command = Operator::Posture { portals: Vec::new(), posture };
        self.core.ask(Ask::Operator { command, actor: None, answer }, &self.clock);
        self.flush();
        answered
    }

    /// How often the gate was released, and the modes that it was sent.
    fn sent(&mut self) -> (usize, Vec<&'static str>) {
        let (mut releases, mut modes) = (0, Vec::new());
        while let Ok(order) = self.orders.try_recv() {
            match order {
                PortalOrder::Release { .. } => releases += 1,
                PortalOrder::Mode { posture, .. } => modes.push(posture.as_str()),
                other => panic!("{other:?}"),
            }
        }
        (releases, modes)
    }

    fn replies(&mut self) -> Vec<String> {
        let mut replies = Vec::new();
        while let Ok(order) = self.uplink.try_recv() {
            if let UplinkOrder::Reply(reply) = order {
                replies.push(format!("{} {}", reply.jti.unwrap(), reply.status.as_str()));
            }
        }
        replies
    }
}

type Answered = oneshot::Receiver<Result<(), OperatorRefusal>>;

#[test]
fn what_a_command_opens_waits_for_the_disk_and_is_dropped_after_the_time_of_a_decision() {
    let mut of = start();
    of.command("j1");
    assert_eq!((of.sent(), of.replies()), ((0, vec![]), vec![]), "its id is not on disk");
    of.write();
    assert_eq!((of.sent(), of.replies()), ((1, vec![]), vec!["j1 ok".to_owned()]));
    of.command("j2");
    assert!(of.core.has_pending_answers(), "who stops the gateway waits for it");
    of.pass_ms(COMMAND_WAIT_MS - 1);
    assert_eq!((of.sent(), of.replies(), of.metrics.orders_dropped.get()), ((0, vec![]), vec![], 0));
    assert!(of.is_due_in_ms(1));
    of.pass_ms(1);
    assert_eq!((of.sent(), of.replies()), ((0, vec![]), vec!["j2 failed".to_owned()]));
    assert_eq!(of.metrics.orders_dropped.get(), 1);
    of.write();
    of.command("j2");
    of.write();
    assert_eq!((of.sent(), of.replies()), ((0, vec![]), vec!["j2 duplicate".to_owned()]));
}

#[test]
fn an_order_on_the_box_acts_at_once_and_is_answered_when_it_is_on_disk_or_after_a_second_that_it_is_not() {
    let mut of = start();
    let mut answered = of.order(Posture::Lockdown);
    assert_eq!(of.sent(), (0, vec!["lockdown"]), "at once");
    assert_eq!(answered.try_recv().unwrap_err(), TryRecvError::Empty, "its event is not on disk");
    of.write();
    assert_eq!(answered.try_recv().unwrap(), Ok(()));
    let mut answered = of.order(Posture::FreeAccess);
    assert_eq!(of.sent(), (0, vec!["free_access"]), "at once");
    assert!(of.core.has_pending_answers(), "who stops the gateway waits for it");
    of.pass_ms(ORDER_WAIT_MS - 1);
    assert_eq!(answered.try_recv().unwrap_err(), TryRecvError::Empty);
    assert!(of.is_due_in_ms(1));
    of.pass_ms(1);
    let Err(why) = answered.try_recv().unwrap() else { panic!("it is not on disk") };
    assert!(why == OperatorRefusal::NotOnDisk && why.to_string().contains("in force but not on disk"), "{why}");
    // A configuration that was read again is in force in the same way.
    let (answer, mut answered) = oneshot::channel();
    let rules = Rules { portals: Vec::new(), policy: Policy::default(), calendar: Calendar::default() };
    let reload = Reload { rules, detail: "changed".to_owned(), streams: Vec::new(), insecure: Vec::new() };
    of.core.ask(Ask::Reload { reload: Box::new(reload), answer }, &of.clock);
    of.flush();
    assert_eq!(answered.try_recv().unwrap_err(), TryRecvError::Empty, "its event is not on disk");
    of.pass_ms(ORDER_WAIT_MS);
    assert_eq!(answered.try_recv().unwrap(), Err(OperatorRefusal::NotOnDisk));
    // What is refused is not in force and waits for nothing.
    let (answer, mut answered) = oneshot::channel();
    let command = Operator::FireReset { force: false };
    of.core.ask(Ask::Operator { command, actor: None, answer }, &of.clock);
    assert!(matches!(answered.try_recv().unwrap(), Err(OperatorRefusal::NotNow(_))));
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_stalls_for_five_seconds_delays_no_decision_and_no_revocation_but_every_acknowledgement() {
    let Stalled { core, events, disk: mut disk_at_work, mut orders, mut uplink, clock, .. } = start();
    let (inbox, taken) = Inbox::new();
    let (end, ended) = oneshot::channel::<()>();
    let over = async move { ended.await.unwrap_or_default() };
    let gateway = tokio::spawn(dormgate::gateway::run(core, taken, events, clock, over));
    let (old, new) = (uid("1EA68671"), uid("04A1B2C3D4E5F6"));
    let holder: dormgate::access::id::Holder = "08193021".parse().unwrap();
    let gate = Entitlement { kind: PortalKind::Gate, zone: ZoneSet::Any, schedule: None };
    let enrolment = Enrolment::resident(holder.clone(), vec![gate]);
    // The disk does nothing from the first message on.
    let enrol = vec![Op::Issue { uid: old, holder: holder.clone() }, Op::Enrol { uid: old, enrolment }];
    inbox.urgent(message(1, enrol)).await.unwrap();
    for second in 0..STALL_S {
        for _ in 0..REQUESTS_A_SECOND {
            let reason = ask(&inbox, &mut orders, old).await;
            assert_eq!(reason, if second < 3 { "granted" } else { "replaced" });
        }
        if second == 2 {
            let reissue = Op::Reissue { holder: holder.clone(), new_uid: new, old_uid: Some(old) };
            inbox.urgent(message(2, vec![reissue])).await.unwrap();
        }
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(acks(&mut uplink).await, [0_u64; 0], "nothing is on disk, so nothing is acknowledged");
    }
    // The disk works again.
    disk_at_work.flush();
    assert_eq!(acks(&mut uplink).await, [1, 2]);
    assert_eq!(ask(&inbox, &mut orders, old).await, "replaced");
    end.send(()).unwrap();
    drop(gateway.await.unwrap());
}
