//! A disk that stalls for five seconds: decisions and revocations go on as if nothing were; only acknowledgements wait.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, reason = "a panic is how a test fails")]

use std::num::NonZeroU32;
use std::time::Duration;

use dormgate::access::change::{Changes, Op, Position, RegisterKind};
use dormgate::access::credential::{Enrolment, Entitlement, Role, ZoneSet};
use dormgate::access::engine::{Engine, Setup, StreamRole};
use dormgate::access::id::{CardUid, Timestamp};
use dormgate::access::input::{Input, Presented, Receipt, ReceivedChanges, Request};
use dormgate::access::policy::Policy;
use dormgate::access::portal::{Assurance, Portal, PortalKind};
use dormgate::access::state::State;
use dormgate::clock::Clock;
use dormgate::gateway::metrics::Metrics;
use dormgate::gateway::owner::{GatewayCore, Identity};
use dormgate::gateway::ports::{Inbox, PortalOrder, PortalOutlets, UplinkOrder};
use dormgate::store::{MemoryDisk, Options, Store};
use tokio::sync::{mpsc, oneshot};

/// How long the disk stalls, in seconds, and how many requests come in each of them.
const STALL_S: u64 = 5;
const REQUESTS_A_SECOND: usize = 100;
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
            PortalOrder::Mode { .. } => {}
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

#[tokio::test(start_paused = true)]
async fn a_disk_that_stalls_for_five_seconds_delays_no_decision_and_no_revocation_but_every_acknowledgement() {
    let disk = MemoryDisk::new();
    let (store, events, _, mut disk_at_work) = Store::open_in_memory::<State>(&disk, Options::default()).unwrap();
    let gate = Portal::new("gate-in".parse().unwrap(), PortalKind::Gate, "lobby".parse().unwrap());
    let portal = Portal { held_open_ms: 15_000, ..gate };
    let setup = Setup {
        lossy: Vec::new(),
        portals: vec![portal.clone()],
        policy: Policy { max_denials: 0, ..Policy::default() },
        calendar: dormgate::access::calendar::Calendar::default(),
        streams: vec![StreamRole { name: "center".parse().unwrap(), owns: [RegisterKind::Standing].into() }],
        boot: "b".to_owned(),
    };
    let (to_gate, mut orders) = mpsc::channel(64);
    let (to_uplink, mut uplink) = mpsc::channel(64);
    let outlets = PortalOutlets { by_portal: [(portal.id, to_gate)].into(), unknown: None };
    let metrics = Metrics::default();
    let engine = Engine::new(setup, State::default());
    let core = GatewayCore::new(engine, store, outlets, Some(to_uplink), Identity::default(), metrics);
    let (clock, _manual) = Clock::manual(Timestamp(1_788_249_600_000));
    let (inbox, taken) = Inbox::new();
    let (end, ended) = oneshot::channel::<()>();
    let over = async move { ended.await.unwrap_or_default() };
    let gateway = tokio::spawn(dormgate::gateway::run(core, taken, events, clock, over));

    let (old, new) = (uid("1EA68671"), uid("04A1B2C3D4E5F6"));
    let holder: dormgate::access::id::Holder = "08193021".parse().unwrap();
    let gate = Entitlement { kind: PortalKind::Gate, zone: ZoneSet::Any, schedule: None };
    let enrolment = Enrolment {
        holder: holder.clone(),
        role: Role::Resident,
        marks: enumset::EnumSet::empty(),
        not_before: None,
        not_after: None,
        entitlements: vec![gate],
    };
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
