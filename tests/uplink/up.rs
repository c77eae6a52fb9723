//! What the gateway publishes: its state, its will, acks and alarms, also after a broker was away or the outbox was full.

use super::*;

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
            logged: None,
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

/// Where the next message but the state was published.
async fn next_topic(center: &mut Connection) -> String {
    loop {
        let message = message(center).await;
        center.ack(message.ack.unwrap());
        if !message.topic.ends_with("/state") {
            return message.topic;
        }
    }
}

#[tokio::test]
async fn nothing_is_asked_at_a_reconnect_that_was_to_be_asked_while_the_link_was_down() {
    against_each(async |broker| {
        let cable = Cable::to(&broker.url()).await;
        let mut rig = Rig::start(&cable.url(), AuditAckBy::Center).await;
        let mut center = center(&broker.url()).await;
        cable.pull();
        while rig.metrics.up.load(Relaxed) == 1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        rig.orders.send(lacking(3, &[])).await.unwrap();
        cable.plug();
        while !matches!(rig.urgent_peek().await, Input::LinkUp { .. }) {}
        // Behind whatever waited before.
        rig.acknowledge(Receipt(1)).await;
        assert_eq!(next_topic(&mut center).await, "dormgate/v1/g1/up/ack");
        rig.orders.send(lacking(3, &[])).await.unwrap();
        assert_eq!(next_topic(&mut center).await, "dormgate/v1/g1/up/resync");
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
            logged: None,
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
