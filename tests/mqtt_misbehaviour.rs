//! What a connection does when the broker does what no broker should.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail")]

#[path = "support/chinese.rs"]
mod chinese;
#[path = "support/scripted.rs"]
mod scripted;

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use dormgate::mqtt::{
    BrokerFault, BrokerUrl, Connection, Event, LinkMetrics, LinkSpec, Outgoing, Retention, Session, Setup, Will,
};
use dormgate::wire::topic::{Qos, Subscription};
use scripted::*;

/// Longest packet that the link under test receives, in bytes.
const PACKET_BYTES_MAX: usize = 64 * 1024;

fn link(broker: &Scripted) -> (Connection, Arc<LinkMetrics>) {
    link_to(&[broker])
}

fn link_to(brokers: &[&Scripted]) -> (Connection, Arc<LinkMetrics>) {
    link_at(brokers.iter().map(|broker| broker.url()).collect())
}

fn link_at(urls: Vec<BrokerUrl>) -> (Connection, Arc<LinkMetrics>) {
    let setup = Setup {
        link: "test",
        session: Session::Persistent,
        subscriptions: vec![Subscription { filter: "in".into(), qos: Qos::AtLeastOnce }],
        packet_bytes_max: PACKET_BYTES_MAX,
        will: None,
        echo_topic: None,
    };
    let numbers = Arc::new(LinkMetrics::default());
    let spec = LinkSpec::plain(urls, "link");
    (Connection::new(spec, setup, Arc::clone(&numbers)).unwrap(), numbers)
}

fn reporting(text: &str) -> Outgoing {
    Outgoing {
        topic: "out".into(),
        payload: text.into(),
        retain: false,
        qos: Qos::AtLeastOnce,
        retention: Retention::UntilDelivered,
    }
}

#[tokio::test]
async fn a_session_that_cannot_be_read_is_given_up_after_a_few_tries() {
    let broker = Scripted::start().await;
    let (mut link, numbers) = link(&broker);
    let link = tokio::spawn(async move { while !matches!(link.next().await, Event::Up { .. }) {} });
    for _ in 0..5 {
        let (mut client, clean) = broker.client().await;
        assert!(!clean);
        report(&mut client, &CONNACK).await;
        report(&mut client, &GARBAGE).await;
    }
    let (mut client, clean) = broker.client().await;
    assert!(clean, "the session is given up");
    report(&mut client, &CONNACK).await;
    assert_eq!(packet(&mut client).await.map(|(kind, _)| kind), Some(0xE0), "and the client goes, in order");
    drop(client);
    let (mut client, clean) = broker.client().await;
    assert!(!clean, "and begins a new one that is kept");
    report(&mut client, &CONNACK).await;
    grant(&mut client, 1).await;
    tokio::time::timeout(Duration::from_secs(60), link).await.unwrap().unwrap();
    assert_eq!(numbers.session_resets.load(Relaxed), 1);
}

#[tokio::test]
async fn a_packet_beyond_the_limit_is_not_received_and_ends_the_connection_and_not_the_link() {
    let broker = Scripted::start().await;
    let (mut link, numbers) = link(&broker);
    let why = tokio::spawn(async move {
        let why = loop {
            if let Event::Down { why } = link.next().await {
                break why;
            }
        };
        while !matches!(link.next().await, Event::Up { .. }) {}
        why
    });
    let (mut client, _) = broker.client().await;
    report(&mut client, &CONNACK).await;
    grant(&mut client, 1).await;
    // The head of a PUBLISH of 65 537 bytes; the body never comes, and nothing waits for it.
    report(&mut client, &[0x30, 0x81, 0x80, 0x04]).await;
    let (mut client, _) = broker.client().await;
    report(&mut client, &CONNACK).await;
    grant(&mut client, 1).await;
    let why = tokio::time::timeout(Duration::from_secs(60), why).await.unwrap().unwrap();
    assert!(why.contains("65537"), "{why}");
    assert_eq!(numbers.disconnects.load(Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn without_a_connection_the_end_waits_for_nothing() {
    let nowhere = BrokerUrl { tls: false, host: "127.0.0.1".into(), port: 1 };
    let setup = Setup {
        link: "test",
        session: Session::Clean,
        subscriptions: Vec::new(),
        packet_bytes_max: PACKET_BYTES_MAX,
        will: None,
        echo_topic: None,
    };
    let mut link = Connection::new(LinkSpec::plain(vec![nowhere], "link"), setup, Arc::default()).unwrap();
    link.publish(reporting("a")).unwrap();
    let begin = tokio::time::Instant::now();
    assert!(!link.close(Duration::from_secs(2)).await, "nothing was delivered");
    assert_eq!(begin.elapsed(), Duration::ZERO);
}

#[tokio::test]
async fn a_confirmation_of_nothing_ends_the_connection_and_not_the_link() {
    let broker = Scripted::start().await;
    let (mut link, _) = link(&broker);
    let id = link.publish(reporting("a")).unwrap();
    let link = tokio::spawn(async move {
        while link.next().await != Event::Delivered(id) {}
        link.generation()
    });
    let (mut client, _) = broker.client().await;
    report(&mut client, &CONNACK).await;
    grant(&mut client, 1).await;
    report(&mut client, &[0x40, 2, 0, 77]).await;
    let (mut client, _) = broker.client().await;
    report(&mut client, &CONNACK).await;
    grant(&mut client, 1).await;
    let (kind, body) = packet(&mut client).await.unwrap();
    assert_eq!(kind, 0x32, "PUBLISH with QoS 1");
    // Topic (2 + 3), then the packet id.
    report(&mut client, &[0x40, 2, body[5], body[6]]).await;
    assert_eq!(tokio::time::timeout(Duration::from_secs(60), link).await.unwrap().unwrap(), 2);
}

#[tokio::test]
async fn a_refused_subscription_is_reported_and_the_link_serves_what_it_can() {
    let broker = Scripted::start().await;
    let (mut link, numbers) = link(&broker);
    let link = tokio::spawn(async move { [link.next().await, link.next().await] });
    let (mut client, _) = broker.client().await;
    report(&mut client, &CONNACK).await;
    grant(&mut client, 0x80).await;
    let refused = Event::SubscriptionRefused { filter: "in".into() };
    assert_eq!(link.await.unwrap(), [refused, Event::Up { session_present: false }]);
    assert_eq!(numbers.refused_subscriptions.load(Relaxed), 1);
    // Nothing arrives, so it is not up.
    assert_eq!(numbers.up.load(Relaxed), 0);
    assert!(numbers.state.refusal().is_some_and(|why| why.contains("access rules")));
    assert!(numbers.state.connected_s().is_err());
}

/// Who waits for news of the link did not get any while nothing could arrive.
#[tokio::test]
async fn a_link_whose_subscriptions_are_granted_after_all_is_up_again() {
    let broker = Scripted::start().await;
    let (mut link, numbers) = link(&broker);
    let link = tokio::spawn(async move {
        let mut ups = 0;
        while ups < 2 {
            ups += usize::from(matches!(link.next().await, Event::Up { .. }));
        }
    });
    let (mut client, _) = broker.client().await;
    report(&mut client, &CONNACK).await;
    grant(&mut client, 0x80).await;
    while numbers.state.refusal().is_none() {
        tokio::task::yield_now().await;
    }
    // Until it asks again.
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(30)).await;
    tokio::time::resume();
    grant(&mut client, 1).await;
    tokio::time::timeout(Duration::from_secs(60), link).await.unwrap().unwrap();
    assert_eq!((numbers.up.load(Relaxed), numbers.disconnects.load(Relaxed)), (1, 0));
}

#[tokio::test]
async fn connections_that_end_at_once_again_and_again_are_counted_as_a_takeover() {
    let broker = Scripted::start().await;
    let (mut link, numbers) = link(&broker);
    let link = tokio::spawn(async move {
        let mut ended = 0;
        while ended < 6 {
            ended += usize::from(matches!(link.next().await, Event::Down { .. }));
        }
    });
    for ended in 0..6 {
        assert_eq!((numbers.takeovers.load(Relaxed), faults(&numbers)), (0, vec![]), "{ended}");
        let (mut client, _) = broker.client().await;
        report(&mut client, &CONNACK).await;
        grant(&mut client, 1).await;
    }
    tokio::time::timeout(Duration::from_secs(60), link).await.unwrap().unwrap();
    assert_eq!((numbers.takeovers.load(Relaxed), faults(&numbers)), (1, vec![BrokerFault::SharesClientId]));
    let detail = numbers.faults.all().remove(0).1;
    assert!(detail.contains("`link`") && detail.contains("second gateway"), "{detail}");
    // It may as well be what is published.
    assert!(detail.contains("or the broker ends them for what is published"), "{detail}");
}

/// The second broker of `urls` is away, as it often is. Port 1 is nobody's.
#[tokio::test]
async fn connections_that_end_at_once_are_a_takeover_also_where_another_broker_is_away() {
    let broker = Scripted::start().await;
    let nowhere = BrokerUrl { tls: false, host: "127.0.0.1".into(), port: 1 };
    let (mut link, numbers) = link_at(vec![broker.url(), nowhere]);
    let link = tokio::spawn(async move {
        let mut ended = 0;
        while ended < 6 {
            ended += usize::from(matches!(link.next().await, Event::Down { .. }));
        }
    });
    for _ in 0..6 {
        let (mut client, _) = broker.client().await;
        report(&mut client, &CONNACK).await;
        grant(&mut client, 1).await;
    }
    tokio::time::timeout(Duration::from_secs(60), link).await.unwrap().unwrap();
    assert_eq!((numbers.takeovers.load(Relaxed), faults(&numbers)), (1, vec![BrokerFault::SharesClientId]));
}

#[tokio::test]
async fn a_missing_tls_file_is_named() {
    let broker = Scripted::start().await;
    let mut url = broker.url();
    url.tls = true;
    let mut spec = LinkSpec::plain(vec![url], "link");
    spec.ca_file = Some("no/such/ca.pem".into());
    let setup = Setup {
        link: "test",
        session: Session::Clean,
        subscriptions: Vec::new(),
        packet_bytes_max: PACKET_BYTES_MAX,
        will: None,
        echo_topic: None,
    };
    let mut link = Connection::new(spec, setup, Arc::default()).unwrap();
    while link.last_failure().is_none() {
        tokio::time::timeout(Duration::from_millis(10), link.next()).await.ok();
    }
    let why = link.last_failure().unwrap();
    assert!(why.contains("no/such/ca.pem") && why.contains("check `ca_file`"), "{why}");
}

/// What is wrong with the broker, by name.
fn faults(numbers: &LinkMetrics) -> Vec<BrokerFault> {
    let all = numbers.faults.all();
    all.iter().for_each(|(_, detail)| chinese::is_in_chinese(detail));
    all.into_iter().map(|(fault, _)| fault).collect()
}

#[tokio::test]
async fn a_broker_that_closes_the_first_connections_unanswered_is_tried_again_and_blamed_only_if_it_goes_on() {
    let broker = Scripted::start().await;
    let (mut link, numbers) = link(&broker);
    let link = tokio::spawn(async move { while !matches!(link.next().await, Event::Up { .. }) {} });
    for n in 0..7 {
        assert_eq!(faults(&numbers), [] as [BrokerFault; 0], "after {n}");
        drop(broker.client().await);
    }
    let (mut client, _) = broker.client().await;
    assert_eq!(faults(&numbers), [BrokerFault::ClosesUnanswered]);
    report(&mut client, &CONNACK).await;
    grant(&mut client, 1).await;
    tokio::time::timeout(Duration::from_secs(60), link).await.unwrap().unwrap();
    assert_eq!(faults(&numbers), [] as [BrokerFault; 0]);
}

#[tokio::test]
async fn a_broker_that_closes_every_connection_of_a_client_with_a_retained_will_is_asked_for_retained_messages() {
    let broker = Scripted::start().await;
    let (plain, numbers) = link(&broker);
    drop(plain);
    let will = Will { topic: "state".into(), retain: true, payload: Arc::new(|_| b"offline".to_vec()) };
    let setup = Setup {
        link: "test",
        session: Session::Persistent,
        subscriptions: Vec::new(),
        packet_bytes_max: PACKET_BYTES_MAX,
        will: Some(will),
        echo_topic: None,
    };
    let spec = LinkSpec::plain(vec![broker.url()], "link");
    let mut link = Connection::new(spec, setup, Arc::clone(&numbers)).unwrap();
    let link = tokio::spawn(async move {
        loop {
            link.next().await;
        }
    });
    for _ in 0..7 {
        drop(broker.client().await);
    }
    let detail = numbers.faults.all().pop().unwrap().1;
    assert!(detail.contains("retain_available"), "{detail}");
    link.abort();
}

#[tokio::test]
async fn a_suback_that_never_comes_is_not_waited_for_and_the_next_broker_is_tried() {
    let (never, other) = (Scripted::start().await, Scripted::start().await);
    let (mut link, numbers) = link_to(&[&never, &other]);
    let link = tokio::spawn(async move { while !matches!(link.next().await, Event::Up { .. }) {} });
    let (mut client, _) = never.client().await;
    report(&mut client, &CONNACK).await;
    // It answers pings, so that it does not look dead.
    let alive = tokio::spawn(async move {
        while let Some((kind, _)) = packet(&mut client).await {
            if kind == 0xC0 {
                report(&mut client, &[0xD0, 0]).await;
            }
        }
    });
    let (mut client, _) = other.client().await;
    assert_eq!(faults(&numbers), [BrokerFault::NeverSubscribes]);
    report(&mut client, &CONNACK).await;
    grant(&mut client, 1).await;
    tokio::time::timeout(Duration::from_secs(60), link).await.unwrap().unwrap();
    tokio::time::timeout(Duration::from_secs(60), alive).await.unwrap().unwrap();
    assert_eq!(faults(&numbers), [] as [BrokerFault; 0]);
}

#[tokio::test]
async fn a_broker_that_is_silent_with_its_connection_open_is_left_for_the_next() {
    let (dead, other) = (Scripted::start().await, Scripted::start().await);
    let (mut link, numbers) = link_to(&[&dead, &other]);
    let link = tokio::spawn(async move { while !matches!(link.next().await, Event::Down { .. }) {} });
    let (mut silent, _) = dead.client().await;
    report(&mut silent, &CONNACK).await;
    grant(&mut silent, 1).await;
    tokio::time::timeout(Duration::from_secs(60), link).await.unwrap().unwrap();
    assert_eq!(numbers.disconnects.load(Relaxed), 1);
    // It was asked for a sign of life, and gave none.
    assert_eq!(packet(&mut silent).await.map(|(kind, _)| kind), Some(0xC0));
}

#[tokio::test]
async fn a_granted_qos_below_the_one_asked_for_is_named_until_it_is_granted() {
    let broker = Scripted::start().await;
    let (mut link, numbers) = link(&broker);
    let link = tokio::spawn(async move {
        while !matches!(link.next().await, Event::Down { .. }) {}
        while !matches!(link.next().await, Event::Up { .. }) {}
    });
    let (mut client, _) = broker.client().await;
    report(&mut client, &CONNACK).await;
    grant(&mut client, 0).await;
    while faults(&numbers).is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(faults(&numbers), [BrokerFault::LowersQos]);
    drop(client);
    let (mut client, _) = broker.client().await;
    report(&mut client, &CONNACK).await;
    grant(&mut client, 1).await;
    tokio::time::timeout(Duration::from_secs(60), link).await.unwrap().unwrap();
    assert_eq!(faults(&numbers), [] as [BrokerFault; 0]);
}
