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
mod rig;

use brokers::*;
use cable::Cable;
use dormgate::access::change::{ErrorCode, Position};
use dormgate::access::effect::{Ack, Alarm, Have, Outcome, Resync, ResyncReason};
use dormgate::access::engine::StreamStatus;
use dormgate::access::event::AlarmKind;
use dormgate::access::id::Timestamp;
use dormgate::access::input::{Input, MessageKind, Receipt, ReceivedChanges, RejectedMessage};
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

#[tokio::test]
async fn the_broker_keeps_a_change_until_it_is_durable_here() {
    against_each(async |broker| {
        let url = broker.url();
        let mut rig = Rig::start(&url, AuditAckBy::Center).await;
        let mut center = center(&url).await;
        deliver(&mut center, reporting(CHANGES, change(1))).await;
        let first = rig.changes().await;
        // The connection breaks before the flush: the broker sends it again.
        let mut again = rig.break_connection().await;
        let second = match again.pop() {
            Some(Input::Changes(changes)) => changes,
            _ => rig.changes().await,
        };
        assert_eq!(first.evidence, second.evidence);
        assert_ne!(first.receipt, second.receipt);
        // The first is durable now: it is answered, but the broker's new copy is not this one.
        rig.acknowledge(first.receipt).await;
        assert_eq!(up_body::<Ack>(&up(&mut center, "ack").await).unwrap().at.unwrap().seq, first.receipt.0);
        let mut again = rig.break_connection().await;
        let third = match again.pop() {
            Some(Input::Changes(changes)) => changes,
            _ => rig.changes().await,
        };
        rig.acknowledge(third.receipt).await;
        assert_eq!(up_body::<Ack>(&up(&mut center, "ack").await).unwrap().at.unwrap().seq, third.receipt.0);
        // Acknowledged now: what comes next is the next.
        let again = rig.break_connection().await;
        assert!(again.is_empty(), "{again:?}");
        deliver(&mut center, reporting(CHANGES, change(2))).await;
        assert_eq!(rig.changes().await.changes.at.seq, 2);
    })
    .await;
}

#[tokio::test]
async fn with_a_clean_session_the_broker_keeps_nothing_for_the_gateway() {
    against_each(async |broker| {
        let url = broker.url();
        let link = LinkSpec { session: Session::Clean, ..LinkSpec::plain(vec![url.clone()], "g1") };
        let mut rig = Rig::with(link, &url, AuditAckBy::Center, Arc::default()).await;
        let mut center = center(&url).await;
        deliver(&mut center, reporting(CHANGES, change(1))).await;
        assert_eq!(rig.changes().await.changes.at.seq, 1);
        // It was not acknowledged, and is not sent again: what is missing is asked for.
        let again = rig.break_connection().await;
        assert!(again.is_empty(), "{again:?}");
        deliver(&mut center, reporting(CHANGES, change(2))).await;
        assert_eq!(rig.changes().await.changes.at.seq, 2);
    })
    .await;
}

#[tokio::test]
async fn a_change_that_arrives_with_qos_0_is_handed_on_and_acknowledged_to_the_center() {
    against_each(async |broker| {
        let url = broker.url();
        let mut rig = Rig::start(&url, AuditAckBy::Center).await;
        let mut center = center(&url).await;
        // As what NATS clients publish arrives at an MQTT client, whatever it subscribed with.
        center.publish(Outgoing { qos: Qos::AtMostOnce, ..reporting(CHANGES, change(1)) }).unwrap();
        let received = tokio::select! {
            received = rig.changes() => received,
            () = async { loop { center.next().await; } } => unreachable!(),
        };
        rig.acknowledge(received.receipt).await;
        assert_eq!(up_body::<Ack>(&up(&mut center, "ack").await).unwrap().at.unwrap().seq, received.receipt.0);
    })
    .await;
}

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
        let mut asks = async |rig: &Rig, order: UplinkOrder| {
            rig.orders.send(order).await.unwrap();
            up(&mut center, "resync").await;
        };
        // A new session has nothing to lose.
        asks(&rig, lacking(3, &[(4, 6)])).await;
        assert_eq!(faults(&rig), [] as [BrokerFault; 0]);
        rig.break_connection().await;
        // Not a hole: what the head counts may still be on its way.
        asks(&rig, lacking(3, &[])).await;
        assert_eq!(faults(&rig), [] as [BrokerFault; 0]);
        asks(&rig, lacking(3, &[(4, 6)])).await;
        assert_eq!(faults(&rig), [BrokerFault::LosesMessages]);
        asks(&rig, lacking(3, &[(4, 6)])).await;
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
async fn changes_are_handed_on_in_the_order_of_arrival() {
    against_each(async |broker| {
        let url = broker.url();
        let mut rig = Rig::start(&url, AuditAckBy::Center).await;
        let mut center = center(&url).await;
        for seq in 1..=100 {
            center.publish(reporting(CHANGES, change(seq))).unwrap();
        }
        let center = tokio::spawn(async move {
            loop {
                center.next().await;
            }
        });
        for seq in 1..=100 {
            let received = rig.changes().await;
            assert_eq!(received.changes.at.seq, seq);
            rig.acknowledge(received.receipt).await;
        }
        center.abort();
    })
    .await;
}

#[tokio::test]
async fn what_is_not_signed_retained_or_too_long_has_no_effect_and_is_reported() {
    against_each(async |broker| {
        let url = broker.url();
        let mut rig = Rig::start(&url, AuditAckBy::Center).await;
        let mut center = center(&url).await;
        let bare = change(1).replace("office", "signed");
        deliver(&mut center, reporting(CHANGES, bare)).await;
        let received = rig.rejected().await;
        assert_eq!((received.kind, received.error.code), (MessageKind::Changes, ErrorCode::BadSignature));
        assert_eq!(received.receipt, None, "nobody answers what no center has sent");

        let long = format!("{}{}", change(2), " ".repeat(1000 * 1024));
        deliver(&mut center, reporting(CHANGES, long)).await;
        match rig.urgent_peek().await {
            // Well signed but too long: it uses up its number.
            Input::Changes(received) => {
                assert_eq!(received.changes.content.unwrap_err()[0].code, ErrorCode::TooLarge);
                assert_eq!(received.changes.at.seq, 2);
            }
            Input::Rejected(received) => assert_eq!(received.error.code, ErrorCode::TooLarge),
            other => panic!("{other:?}"),
        }

        let claims = json!({"v": 1, "iss": "signed", "aud": "g1", "iat": 1, "epoch": 1, "seq": 3,
            "ops": [{"op": "freeze", "holder": "h"}]});
        let key = SigningKey::from_bytes(&[7; 32]);
        let signed = sign(&claims.to_string(), &"signed".parse().unwrap(), &key);
        deliver(&mut center, reporting(CHANGES, signed.clone())).await;
        let received = rig.changes().await;
        assert_eq!((received.changes.at.seq, received.evidence), (3, signed.into_bytes()));
    })
    .await;
}

/// A part of a snapshot of the stream `office`.
fn part(entries: &Value) -> Value {
    json!({"v": 1, "iss": "office", "aud": "g1", "iat": 1, "snapshot": "s1", "epoch": 1, "seq": 9, "part": 1, "parts": 2,
        "cards": 1, "entries": entries})
}

#[tokio::test]
async fn parts_of_a_snapshot_are_handed_on_with_their_bytes_and_forged_ones_are_refused() {
    against_each(async |broker| {
        let url = broker.url();
        let mut center = center(&url).await;
        let entries = json!([{"uid": "1EA68671", "set": {"cancelled": [1, 4, 0]}}]);
        deliver(&mut center, retained(SNAPSHOT, part(&entries).to_string())).await;
        let link = LinkSpec { session: Session::Clean, ..LinkSpec::plain(vec![url.clone()], "g1") };
        let mut rig = Rig::with(link, &url, AuditAckBy::Center, Arc::default()).await;
        let refused = rig.rejected().await;
        assert_eq!((refused.kind, refused.error.code), (MessageKind::Snapshot, ErrorCode::Retained));

        let sent = part(&entries).to_string();
        deliver(&mut center, reporting(SNAPSHOT, sent.clone())).await;
        let Input::SnapshotPart(received) = rig.urgent_peek().await else { panic!("no part") };
        assert_eq!((received.part.part, received.part.entries.map(|all| all.len())), (1, Ok(1)));
        assert_eq!(received.evidence, sent.into_bytes());

        let foreign = json!([{"uid": "1EA68671", "holder": "h", "entitlements": []}]);
        deliver(&mut center, reporting(SNAPSHOT, part(&foreign).to_string())).await;
        let Input::SnapshotPart(received) = rig.urgent_peek().await else { panic!("no part") };
        assert_eq!(received.part.entries.unwrap_err()[0].code, ErrorCode::ForbiddenOp);

        let unsigned = part(&entries).to_string().replace("office", "signed");
        deliver(&mut center, reporting(SNAPSHOT, unsigned)).await;
        let refused = rig.rejected().await;
        assert_eq!((refused.error.code, refused.receipt), (ErrorCode::BadSignature, None));

        let mut nameless = part(&entries);
        nameless["parts"] = json!(1);
        deliver(&mut center, reporting(SNAPSHOT, nameless.to_string())).await;
        let refused = rig.rejected().await;
        assert_eq!((refused.error.code, refused.receipt.is_some()), (ErrorCode::InvalidField, true));
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
            let uplink = Uplink::new(spec, inbox, to_do, audit, Arc::new(|| NOW), Arc::default()).unwrap();
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

#[tokio::test]
async fn retained_changes_and_commands_are_refused_and_leave_the_session() {
    against_each(async |broker| {
        let url = broker.url();
        let mut center = center(&url).await;
        let command = json!({"v": 1, "iss": "office", "aud": "g1", "iat": 1, "exp": 20, "jti": "j1",
            "command": "release", "portal": "gate-in"});
        let command = command.to_string();
        deliver(&mut center, retained(CHANGES, change(9))).await;
        deliver(&mut center, retained("dormgate/v1/g1/down/command", command.clone())).await;
        let head = json!({"v": 1, "iss": "office", "aud": "g1", "iat": 1, "epoch": 1, "seq": 9, "cards": 0,
            "digest": "a".repeat(64)});
        deliver(&mut center, retained("dormgate/v1/g1/down/head/office", head.to_string())).await;
        let mut rig = Rig::start(&url, AuditAckBy::Center).await;
        let (mut refused, mut heads) = (Vec::new(), 0);
        while refused.len() + heads < 3 {
            match rig.urgent_peek().await {
                Input::Rejected(received) => {
                    assert_eq!((received.error.code, received.receipt), (ErrorCode::Retained, None));
                    refused.push((received.kind, received.claimed_jti));
                }
                Input::Head(head) => heads += usize::from(head.at.seq == 9),
                other => panic!("{other:?}"),
            }
        }
        refused.sort_unstable();
        assert_eq!(refused, [(MessageKind::Changes, None), (MessageKind::Command, Some("j1".into()))]);
        assert_eq!(rig.metrics.rejected.load(Relaxed), 2);
        // Live, the same command is one.
        deliver(&mut center, reporting("dormgate/v1/g1/down/command", command)).await;
        assert!(matches!(rig.urgent_peek().await, Input::Command(c) if c.jti == "j1"));
    })
    .await;
}

#[tokio::test]
async fn changes_wait_for_an_absent_gateway_and_commands_do_not() {
    against_each(async |broker| {
        let url = broker.url();
        let rig = Rig::start(&url, AuditAckBy::Center).await;
        drop(rig.orders);
        within(rig.task).await.unwrap();
        let mut center = center(&url).await;
        let command = json!({"v": 1, "iss": "office", "aud": "g1", "iat": 1, "exp": 20, "jti": "j1",
            "command": "release", "portal": "gate-in"});
        deliver(&mut center, reporting("dormgate/v1/g1/down/command", command.to_string())).await;
        deliver(&mut center, reporting(CHANGES, change(1))).await;

        let (inbox, mut gateway) = Inbox::new();
        let (_orders, to_do) = mpsc::channel(1);
        let spec = UplinkSpec {
            link: LinkSpec::plain(vec![url.clone()], "g1"),
            gateway: "g1".parse().unwrap(),
            streams: streams(),
            boot: "boot-2".into(),
            audit_ack: AuditAckBy::Center,
        };
        let audit = Arc::new(Audit::default());
        let uplink = Uplink::new(spec, inbox, to_do, audit, Arc::new(|| NOW), Arc::default()).unwrap();
        let task = tokio::spawn(uplink.run());
        let mut received = Vec::new();
        while received.len() < 2 {
            received.push(within(gateway.urgent.recv()).await.unwrap());
        }
        assert!(received.iter().any(|i| matches!(i, Input::LinkUp { .. })), "{received:?}");
        assert!(received.iter().any(|i| matches!(i, Input::Changes(c) if c.changes.at.seq == 1)), "{received:?}");
        // Nothing else: what is published now comes next.
        deliver(&mut center, reporting(CHANGES, change(2))).await;
        assert!(matches!(within(gateway.urgent.recv()).await, Some(Input::Changes(c)) if c.changes.at.seq == 2));
        task.abort();
    })
    .await;
}

#[tokio::test]
async fn the_state_is_published_with_the_number_of_the_connection_and_at_the_end() {
    against_each(async |broker| {
        let url = broker.url();
        let mut center = center(&url).await;
        let rig = Rig::start(&url, AuditAckBy::Center).await;
        rig.orders.send(UplinkOrder::State(report(1))).await.unwrap();
        let first = json_of(&up(&mut center, "state").await);
        assert_eq!((&first["state"], &first["cards"], &first["conn"]), (&json!("online"), &json!(1), &json!(1)));
        // The end: what was ordered goes, then `offline`, retained.
        rig.acknowledge(Receipt(77)).await;
        drop(rig.orders);
        assert_eq!(up_body::<Ack>(&up(&mut center, "ack").await).unwrap().at.unwrap().seq, 77);
        assert_eq!(json_of(&up(&mut center, "state").await)["state"], json!("offline"));
        within(rig.task).await.unwrap();
        let mut late = client(&url, "late", setup(&["dormgate/v1/g1/up/state"]));
        assert_eq!(json_of(&up(&mut late, "state").await)["state"], json!("offline"));
    })
    .await;
}

#[tokio::test]
async fn a_gateway_that_dies_is_reported_to_be_offline() {
    against_each(async |broker| {
        let url = broker.url();
        let mut center = center(&url).await;
        let rig = Rig::start(&url, AuditAckBy::Center).await;
        rig.task.abort();
        let last = json_of(&up(&mut center, "state").await);
        assert_eq!((&last["state"], &last["boot"], &last["conn"]), (&json!("offline"), &json!("boot-1"), &json!(1)));
    })
    .await;
}

#[tokio::test]
async fn acks_and_alarms_outlive_a_broker_that_forgets() {
    against_each(async |mut broker| {
        let cable = Cable::to(&broker.url()).await;
        let mut rig = Rig::start(&cable.url(), AuditAckBy::Center).await;
        cable.pull();
        broker.stop().await;
        while rig.metrics.up.load(Relaxed) == 1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        for n in 1..=50 {
            rig.acknowledge(Receipt(n)).await;
        }
        let alarm = Box::new(Alarm {
            n: 5,
            at: NOW,
            kind: AlarmKind::Tamper,
            portal: None,
            uid: None,
            count: 0,
            ended: false,
            detail: "open".into(),
        });
        rig.orders.send(UplinkOrder::Alarm(alarm)).await.unwrap();
        broker.start_again().await;
        let mut center = center(&broker.url()).await;
        cable.plug();
        for n in 1..=50 {
            assert_eq!(up_body::<Ack>(&up(&mut center, "ack").await).unwrap().at.unwrap().seq, n);
        }
        assert_eq!(up_body::<Alarm>(&up(&mut center, "alarm").await).unwrap().n, 5);
        assert!(matches!(rig.urgent_peek().await, Input::LinkUp { .. }));
    })
    .await;
}

#[tokio::test]
async fn campus_topics_are_received_where_a_stream_has_campus_scope() {
    against_each(async |broker| {
        let url = broker.url();
        let mut rig = Rig::start(&url, AuditAckBy::Center).await;
        let mut center = center(&url).await;
        let issue = json!({"v": 1, "iss": "card-office", "aud": "campus", "iat": 1, "epoch": 1, "seq": 4,
            "ops": [{"op": "issue", "uid": "1EA68671", "holder": "h"}]});
        deliver(&mut center, reporting("dormgate/v1/campus/down/changes", issue.to_string())).await;
        assert_eq!(rig.changes().await.changes.at.seq, 4);
    })
    .await;
}

#[tokio::test]
async fn a_message_whose_ack_did_not_fit_is_acknowledged_when_there_is_room() {
    /// More than the outbox takes.
    const ALARMS: u64 = 9_000;
    let broker = scripted::Scripted::start().await;
    let url = broker.url();
    let (confirm, confirmed) = tokio::sync::watch::channel(false);
    let (ack_to, mut acks) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let (mut stream, _) = broker.client().await;
        scripted::report(&mut stream, &scripted::CONNACK).await;
        scripted::grant(&mut stream, 1).await;
        let body = json!({"v": 1, "iss": "office", "aud": "g1", "iat": 1_788_249_600, "epoch": 1, "seq": 1,
            "ops": [{"op": "cancel", "uid": "1EA68671"}]});
        let mut publish = vec![0, u8::try_from(CHANGES.len()).unwrap()];
        publish.extend([CHANGES.as_bytes(), &[0, 77], body.to_string().as_bytes()].concat());
        let length = publish.len();
        let header = [0x32, u8::try_from(length % 128 + 128).unwrap(), u8::try_from(length / 128).unwrap()];
        scripted::report(&mut stream, &[&header[..], &publish].concat()).await;
        // It receives everything and confirms nothing until the test allows it.
        let mut open = Vec::new();
        let (mut from, mut to) = stream.into_split();
        let (packets, mut received) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Some(packet) = scripted::packet_from(&mut from).await {
                packets.send(packet).ok();
            }
        });
        let mut confirmed = confirmed;
        loop {
            tokio::select! {
                packet = received.recv() => {
                    let Some((kind, body)) = packet else { return };
                    if kind & 0xF0 == 0x30 && kind & 0x06 != 0 {
                        let topic = usize::from(body[0]) * 256 + usize::from(body[1]);
                        open.push([body[topic + 2], body[topic + 3]]);
                    }
                    ack_to.send((kind, body)).ok();
                }
                _ = confirmed.changed() => {}
            }
            if *confirmed.borrow() {
                for id in open.drain(..) {
                    tokio::io::AsyncWriteExt::write_all(&mut to, &[0x40, 2, id[0], id[1]]).await.ok();
                }
            }
        }
    });
    let mut rig = Rig::start(&url, AuditAckBy::Center).await;
    let changes = rig.changes().await;
    for n in 1..=ALARMS {
        let alarm = Alarm {
            n,
            at: NOW,
            kind: AlarmKind::Store,
            portal: None,
            uid: None,
            count: 0,
            ended: false,
            detail: "x".into(),
        };
        rig.orders.send(UplinkOrder::Alarm(Box::new(alarm))).await.unwrap();
    }
    rig.acknowledge(changes.receipt).await;
    while rig.orders.capacity() < rig.orders.max_capacity() {
        tokio::task::yield_now().await;
    }
    assert!(rig.metrics.dropped_full.load(Relaxed) > 0, "the outbox is full");
    confirm.send_replace(true);
    // PUBACK of the message.
    within(async { while acks.recv().await.unwrap() != (0x40, vec![0, 77]) {} }).await;
}
