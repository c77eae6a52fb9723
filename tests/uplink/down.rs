//! What the center publishes: kept by the broker until it is durable here, handed on in order, or refused.

use super::*;

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
        let uplink = Uplink::new(spec, inbox, to_do, audit, Clock::manual(NOW).0, Arc::default()).unwrap();
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
async fn a_change_does_not_wait_for_the_parts_of_a_snapshot() {
    /// Almost as long as a part may be.
    const CARDS: u32 = 1_300;
    const PARTS: usize = 30;
    against_each(async |broker| {
        let url = broker.url();
        let mut center = center(&url).await;
        let mut rig = Rig::start(&url, AuditAckBy::Center).await;
        let entries: Value =
            (0..CARDS).map(|n| json!({"uid": format!("1E{n:06X}"), "set": {"cancelled": [1, 4, 0]}})).collect();
        let mut long = part(&entries);
        (long["parts"], long["cards"]) = (json!(PARTS), json!(CARDS));
        for n in 0..PARTS {
            long["part"] = json!(n);
            center.publish(reporting(SNAPSHOT, long.to_string())).unwrap();
        }
        deliver(&mut center, reporting(CHANGES, change(10))).await;
        let mut parts_before = 0;
        while !matches!(rig.urgent_peek().await, Input::Changes(_)) {
            parts_before += 1;
        }
        for _ in parts_before..PARTS {
            let Input::SnapshotPart(received) = rig.urgent_peek().await else { panic!("no part") };
            assert!(received.part.entries.is_ok());
        }
        assert!(parts_before < PARTS, "it came after all of {PARTS} parts");
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
