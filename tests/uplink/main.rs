//! What the uplink guarantees centers and the gateway, against brokers that stop, forget and repeat.
#![cfg(feature = "workbench")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail")]

#[path = "../support/brokers.rs"]
mod brokers;
#[path = "../support/cable.rs"]
mod cable;
#[path = "../support/mosquitto.rs"]
mod mosquitto;
#[path = "../support/scripted.rs"]
mod scripted;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

mod audit;
mod down;
mod rig;
mod up;

use brokers::*;
use cable::Cable;
use dormgate::access::change::{ErrorCode, Position};
use dormgate::access::effect::{Ack, Alarm, Have, Outcome, Resync, ResyncReason};
use dormgate::access::engine::StreamStatus;
use dormgate::access::event::AlarmKind;
use dormgate::access::id::Timestamp;
use dormgate::access::input::{Input, MessageKind, Receipt, ReceivedChanges, RejectedMessage};
use dormgate::clock::Clock;
use dormgate::config::AuditAckBy;
use dormgate::gateway::ports::{Inbox, InboxReceiver, StateReport, UplinkOrder};
use dormgate::mqtt::{BrokerFault, BrokerUrl, Connection, LinkMetrics, LinkSpec, Outgoing, Session};
use dormgate::store::StoredEvent;
use dormgate::uplink::{AuditSource, ReadEvents, Uplink, UplinkSpec};
use dormgate::wire::allowed::OpName;
use dormgate::wire::envelope::{Scope, StreamSpec, sign};
use dormgate::wire::topic::Qos;
use dormgate::wire::up::{AuditBody, decode as up_body};
use ed25519_dalek::SigningKey;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use rig::*;

fn lacking(have: u64, missing: &[(u64, u64)]) -> UplinkOrder {
    let have = Have { epoch: 1, seq: have };
    let (stream, missing) = ("office".parse().unwrap(), missing.to_vec());
    UplinkOrder::Resync(Box::new(Resync { stream, reason: ResyncReason::Gap, have, missing }))
}

#[tokio::test]
async fn a_broker_that_keeps_the_session_and_loses_messages_or_answers_is_named() {
    against_each(async |broker| {
        let url = broker.url();
        let mut rig = Rig::start(&url, AuditAckBy::Center).await;
        let faults = |rig: &Rig| rig.metrics.faults.all().into_iter().map(|(fault, _)| fault).collect::<Vec<_>>();
        let mut center = center(&url).await;
        async fn asks(rig: &Rig, center: &mut Connection, order: UplinkOrder) {
            rig.orders.send(order).await.unwrap();
            up(center, "resync").await;
        }
        // A new session has nothing to lose.
        asks(&rig, &mut center, lacking(3, &[(4, 6)])).await;
        assert_eq!(faults(&rig), [] as [BrokerFault; 0]);
        rig.break_connection().await;
        // Not a hole: what the head counts may still be on its way.
        asks(&rig, &mut center, lacking(3, &[])).await;
        assert_eq!(faults(&rig), [] as [BrokerFault; 0]);
        asks(&rig, &mut center, lacking(3, &[(4, 6)])).await;
        assert_eq!(faults(&rig), [BrokerFault::LosesMessages]);
        asks(&rig, &mut center, lacking(3, &[(4, 6)])).await;
        assert_eq!(faults(&rig), [BrokerFault::LosesMessages, BrokerFault::DropsAnswers]);
        // They came, and are rejected.
        rig.acknowledge_as(Receipt(1), Some("1.6-1"), Outcome::Rejected).await;
        up(&mut center, "ack").await;
        assert_eq!(faults(&rig), [BrokerFault::LosesMessages]);
        for _ in 0..3 {
            asks(&rig, &mut center, lacking(3, &[(4, 6)])).await;
        }
        assert_eq!(faults(&rig), [BrokerFault::LosesMessages, BrokerFault::DropsAnswers]);
        // They came after all.
        let mut state = report(1);
        let office =
            StreamStatus { name: "office".parse().unwrap(), epoch: 1, seq: 6, missing: 0, digest: None, age_s: None };
        state.status.streams = vec![office];
        rig.orders.send(UplinkOrder::State(state)).await.unwrap();
        up(&mut center, "state").await;
        assert_eq!(faults(&rig), [BrokerFault::LosesMessages]);
    })
    .await;
}

#[tokio::test]
async fn only_where_the_broker_keeps_nothing_every_stream_is_asked_on_each_connect() {
    against_each(async |broker| {
        for (session, expected) in [(Session::Persistent, false), (Session::Clean, true)] {
            let url = broker.url();
            let link = LinkSpec { session, resync_spread_s: 9, ..LinkSpec::plain(vec![url.clone()], "g1") };
            let (inbox, mut gateway) = Inbox::new();
            let (_orders, to_do) = mpsc::channel(16);
            let spec = UplinkSpec {
                link,
                gateway: "g1".parse().unwrap(),
                streams: streams(),
                boot: "boot-1".into(),
                audit_ack: AuditAckBy::Center,
            };
            let audit: Arc<dyn AuditSource> = Arc::<Audit>::default();
            let uplink = Uplink::new(spec, inbox, to_do, audit, Clock::manual(NOW).0, Arc::default()).unwrap();
            let task = tokio::spawn(uplink.run());
            let Some(Input::LinkUp { spread_ms, ask_every_stream }) = within(gateway.urgent.recv()).await else {
                panic!("the first input is not LinkUp")
            };
            assert_eq!((spread_ms, ask_every_stream), (9_000, expected));
            task.abort();
        }
    })
    .await;
}
