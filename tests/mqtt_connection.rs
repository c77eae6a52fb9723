//! What a broker connection guarantees its link, whatever the broker does.
#![cfg(feature = "workbench")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail")]

#[path = "support/brokers.rs"]
mod brokers;
#[path = "support/mosquitto.rs"]
mod mosquitto;

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use brokers::*;
use dormgate::mqtt::{ECHO_SLOW_MS, Event, LinkSpec, Outgoing, PublishError, Retention, WINDOW_MAX};
use tokio::time::Instant;

#[tokio::test]
async fn a_message_is_redelivered_until_it_was_acknowledged() {
    against_each(async |broker| {
        let url = broker.url();
        let mut link = connected(&url, "link", persistent(&["in"])).await;
        let mut peer = connected(&url, "peer", setup(&[])).await;
        for text in ["a", "b", "c"] {
            deliver(&mut peer, reporting("in", text)).await;
        }
        let mut received = Vec::new();
        for _ in 0..3 {
            received.push(message(&mut link).await);
        }
        assert_eq!(received.iter().map(|m| m.payload.as_slice()).collect::<Vec<_>>(), [b"a", b"b", b"c"]);
        // The middle one only; then the connection breaks.
        link.ack(received[1].ack.unwrap());
        deliver(&mut link, reporting("out", "the ack went before this")).await;
        // Another client with the same id ends this connection, and goes.
        drop(connected(&url, "link", persistent(&["in"])).await);
        while !matches!(within(link.next()).await, Event::Down { .. }) {}
        let again = [message(&mut link).await, message(&mut link).await];
        assert_eq!(again.iter().map(|m| m.payload.as_slice()).collect::<Vec<_>>(), [b"a", b"c"]);
        // A token of the connection that is gone does nothing on this one.
        assert_ne!(received[0].ack, again[0].ack);
        link.ack(received[0].ack.unwrap());
        link.ack(again[1].ack.unwrap());
        deliver(&mut link, reporting("out", "the ack went before this")).await;
        drop(link);

        let mut link = client(&url, "link", persistent(&["in"]));
        assert_eq!(text(&mut link).await, "a");
    })
    .await;
}

#[tokio::test]
async fn nothing_is_lost_when_the_broker_forgets_the_session() {
    against_each(async |mut broker| {
        const MESSAGES: usize = 300;
        let url = broker.url();
        let mut link = connected(&url, "link", persistent(&["in"])).await;
        for n in 0..MESSAGES / 2 {
            link.publish(reporting("out", n.to_string())).unwrap();
        }
        broker.stop().await;
        while !matches!(within(link.next()).await, Event::Down { .. }) {}
        for n in MESSAGES / 2..MESSAGES {
            link.publish(reporting("out", n.to_string())).unwrap();
        }
        let already = MESSAGES - link.undelivered();
        broker.start_again().await;
        let mut peer = connected(&url, "peer", setup(&["out"])).await;
        let link = tokio::spawn(async move {
            let session_present = until_up(&mut link).await;
            while link.undelivered() > 0 {
                link.next().await;
            }
            (link, session_present)
        });
        for n in already..MESSAGES {
            assert_eq!(text(&mut peer).await, n.to_string());
        }
        let (mut link, session_present) = link.await.unwrap();
        assert!(!session_present);
        // And it receives again, because it subscribed again.
        deliver(&mut peer, reporting("in", "hello")).await;
        assert_eq!(text(&mut link).await, "hello");
    })
    .await;
}

#[tokio::test]
async fn a_link_that_starts_without_a_broker_tries_patiently_and_comes_up_when_there_is_one() {
    against_each(async |mut broker| {
        let url = broker.url();
        broker.stop().await;
        let mut link = client(&url, "link", persistent(&["in"]));
        let numbers = metrics(&link);
        link.publish(reporting("out", "early")).unwrap();
        tokio::time::timeout(Duration::from_secs(2), link.next()).await.unwrap_err();
        let attempts = numbers.failed_attempts.load(Relaxed);
        assert!((2..=12).contains(&attempts), "{attempts} attempts in 2 s");
        broker.start_again().await;
        let mut peer = connected(&url, "peer", setup(&["out"])).await;
        until_up(&mut link).await;
        let link = tokio::spawn(async move { link.next().await });
        assert_eq!(text(&mut peer).await, "early");
        link.await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_very_long_message_does_not_stop_the_link() {
    against_each(async |broker| {
        let url = broker.url();
        let long = vec![b'x'; 1024 * 1024];
        drop(connected(&url, "link", persistent(&["in/#"])).await);
        let mut peer = connected(&url, "peer", setup(&[])).await;
        deliver(&mut peer, retained("in/retained", long.clone())).await;
        deliver(&mut peer, reporting("in/queued", long.clone())).await;
        deliver(&mut peer, reporting("in/last", "after it")).await;
        let mut link = client(&url, "link", persistent(&["in/#"]));
        let mut received = Vec::new();
        while received.len() < 4 {
            let message = message(&mut link).await;
            link.ack(message.ack.unwrap());
            received.push((message.topic, message.payload.len(), message.retain));
        }
        received.sort();
        let last = ("in/last".to_owned(), 8, false);
        let queued = ("in/queued".to_owned(), long.len(), false);
        let retained = |retain| ("in/retained".to_owned(), long.len(), retain);
        assert_eq!(received, [last, queued, retained(false), retained(true)]);
        assert_eq!(link.generation(), 1);
        let longer = reporting("out", vec![0; 1024 * 1024 + 1]);
        assert_eq!(link.publish(longer), Err(PublishError::TooLarge));
    })
    .await;
}

#[tokio::test]
async fn acknowledgements_go_out_while_the_outbox_is_full_of_messages() {
    against_each(async |broker| {
        let url = broker.url();
        let mut link = connected(&url, "link", persistent(&["in"])).await;
        let mut peer = connected(&url, "peer", setup(&["out"])).await;
        let messages = WINDOW_MAX * 10;
        let peer = tokio::spawn(async move {
            for n in 0..messages {
                peer.publish(reporting("in", n.to_string())).unwrap();
            }
            let mut received = 0;
            while received < messages || peer.undelivered() > 0 {
                if let Event::Message(message) = within(peer.next()).await {
                    peer.ack(message.ack.unwrap());
                    received += 1;
                }
            }
        });
        for n in 0..messages {
            link.publish(reporting("out", n.to_string())).unwrap();
        }
        for n in 0..messages {
            assert_eq!(text(&mut link).await, n.to_string());
        }
        while link.undelivered() > 0 {
            within(link.next()).await;
        }
        within(peer).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn the_last_will_sends_when_a_link_dies_and_not_when_it_closes() {
    against_each(async |broker| {
        let url = broker.url();
        let mut peer = connected(&url, "peer", setup(&["state"])).await;
        let with_will = || dormgate::mqtt::Setup { will: will("state", "offline"), ..setup(&[]) };
        let mut link = connected(&url, "link", with_will()).await;
        deliver(&mut link, retained("state", "online")).await;
        assert_eq!(text(&mut peer).await, "online");
        drop(link);
        assert_eq!(text(&mut peer).await, "offline");

        let mut link = connected(&url, "link", with_will()).await;
        link.publish(retained("state", "stopped")).unwrap();
        assert!(link.close(Duration::from_secs(5)).await);
        assert_eq!(text(&mut peer).await, "stopped");
        peer.publish(reporting("state", "end")).unwrap();
        assert_eq!(text(&mut peer).await, "end");
        // Retained, so that who comes later knows.
        let mut late = client(&url, "late", setup(&["state"]));
        assert_eq!(text(&mut late).await, "stopped");
    })
    .await;
}

#[tokio::test]
async fn what_may_not_leave_late_is_dropped_while_the_link_is_down() {
    against_each(async |mut broker| {
        let url = broker.url();
        let mut link = connected(&url, "link", setup(&[])).await;
        let grant = || Outgoing {
            retention: Retention::Until(Instant::now() + Duration::from_millis(1500)),
            ..reporting("out", "release")
        };
        broker.stop().await;
        // Not noticed yet: it is taken, and dropped with the connection.
        link.publish(grant()).unwrap();
        while !matches!(within(link.next()).await, Event::Down { .. }) {}
        assert_eq!(link.publish(grant()), Err(PublishError::Down));
        link.publish(Outgoing { retention: Retention::Newest("cut".into()), ..reporting("out", "off 1") }).unwrap();
        link.publish(Outgoing { retention: Retention::Newest("cut".into()), ..reporting("out", "off 2") }).unwrap();
        broker.start_again().await;
        let mut peer = connected(&url, "peer", setup(&["out"])).await;
        let link = tokio::spawn(async move {
            until_up(&mut link).await;
            deliver(&mut link, reporting("out", "end")).await;
        });
        assert_eq!(text(&mut peer).await, "off 2");
        assert_eq!(text(&mut peer).await, "end");
        link.await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn an_echo_through_the_broker_is_measured() {
    against_each(async |broker| {
        let url = broker.url();
        let with_echo = dormgate::mqtt::Setup { echo_topic: Some("echo/link".into()), ..setup(&[]) };
        let mut link = client(&url, "link", with_echo);
        let numbers = metrics(&link);
        while numbers.echo_us.load(Relaxed) == 0 {
            tokio::time::timeout(Duration::from_millis(10), link.next()).await.ok();
        }
        let took = numbers.echo_us.load(Relaxed);
        assert!(took < ECHO_SLOW_MS * 1000, "{took} µs");
    })
    .await;
}

#[tokio::test]
async fn a_second_broker_is_tried_when_the_first_is_gone() {
    against_each(async |broker| {
        let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut dead = broker.url();
        dead.host = "127.0.0.1".into();
        dead.port = nobody.local_addr().unwrap().port();
        drop(nobody);
        let spec = LinkSpec::plain(vec![dead, broker.url()], "link");
        let mut link = dormgate::mqtt::Connection::new(spec, setup(&["in"]), Default::default()).unwrap();
        until_up(&mut link).await;
    })
    .await;
}
