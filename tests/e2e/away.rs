//! Changes that are published while the gateway is away from a broker that keeps only some of them, or none.

use tokio::time::Instant;

use dormgate::center::SignedMessage;
use dormgate::mqtt::{Connection, Event, LinkSpec, Outgoing, Retention, Session, Setup};
use dormgate::workbench::broker::Broker;

use crate::campus::{Campus, card, enrol, issue, now, report_lost};
use crate::mosquitto::{Mosquitto, Rules};
use crate::program::within;

const CARDS: usize = 300;
const CHANGES: usize = 3_000;
/// One change in so many takes a card away.
const REVOKED_EVERY: usize = 10;

/// Publishes as a center does and waits until the broker has everything.
async fn publish(connection: &mut Connection, messages: &[SignedMessage]) {
    for message in messages {
        let outgoing = Outgoing {
            topic: message.topic.to_string(),
            payload: message.payload.clone(),
            retain: message.topic.retained(),
            qos: message.topic.qos(),
            retention: Retention::UntilDelivered,
        };
        connection.publish(outgoing).unwrap();
    }
    within("the broker has it", async {
        while connection.undelivered() > 0 {
            connection.next().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs mosquitto, which tests/run installs"]
async fn three_thousand_changes_published_while_the_gateway_was_away_are_all_in_force_after_its_return() {
    // As installed: it keeps 1 000 messages for an absent client and drops the newest.
    let broker = Mosquitto::start(Rules::default());
    let local = Broker::start().await.unwrap();
    let (campus, urls) = (Campus::new(), [broker.url()]);
    let service = campus.service(&urls, Session::Persistent);
    let gateway = campus.gateway_at(&urls, "", &local.url());
    gateway.logged("session_present").await;
    let gateway_id = Campus::gateway();
    service.publish(Some(&gateway_id), (0..CARDS).flat_map(|n| [issue(n), enrol(n, 0)]).collect()).await.unwrap();
    campus.until_equal().await;
    gateway.stop().await;
    assert!(service.close(std::time::Duration::from_secs(30)).await);

    let mut center = campus.center();
    let setup = Setup {
        link: "test",
        session: Session::Clean,
        subscriptions: Vec::new(),
        packet_bytes_max: 65_536,
        will: None,
        echo_topic: None,
    };
    let spec = LinkSpec::plain(urls.to_vec(), "publisher");
    let mut publisher = Connection::new(spec, setup, std::sync::Arc::default()).unwrap();
    within("a connection", async { while !matches!(publisher.next().await, Event::Up { .. }) {} }).await;
    let is_revocation = |n: usize| n % REVOKED_EVERY == REVOKED_EVERY - 1;
    for n in 0..CHANGES {
        let op = if is_revocation(n) { report_lost(n / REVOKED_EVERY) } else { enrol(n % CARDS, n) };
        publish(&mut publisher, &center.publish_ops(Some(&gateway_id), &[op], now()).unwrap()).await;
    }
    let heads = center.heads(now()).unwrap();
    publish(&mut publisher, &heads).await;
    drop((center, publisher));

    let service = campus.service(&urls, Session::Persistent);
    let back = Instant::now();
    let gateway = campus.gateway_at(&urls, "", &local.url());
    gateway.logged("session_present=true").await;
    let up = back.elapsed();
    let revoked: Vec<_> = (0..CHANGES).filter(|n| is_revocation(*n)).map(|n| card(n / REVOKED_EVERY)).collect();
    campus.until_all(&revoked, "lost").await;
    let in_force = back.elapsed();
    campus.until_equal().await;
    let equal = back.elapsed();
    println!(
        "{CHANGES} changes while away: connected after {up:.1?}, {} revocations in force after {in_force:.1?}, all as at the center after {equal:.1?}",
        revoked.len()
    );
    let why = campus.fault("loses_messages").await;
    assert!(why.contains("max_queued_messages"), "{why}");
    gateway.stop().await;
    drop(service);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs mosquitto, which tests/run installs"]
async fn a_broker_that_takes_no_retained_messages_is_named_in_the_log_and_in_the_status() {
    let broker = Mosquitto::start(Rules { extra: "retain_available false\n".into(), ..Rules::default() });
    let local = Broker::start().await.unwrap();
    let campus = Campus::new();
    let gateway = campus.gateway_at(&[broker.url()], "", &local.url());
    let why = campus.fault("closes_unanswered").await;
    assert!(why.contains("`retain_available true`"), "{why}");
    gateway.logged("retain_available").await;
    gateway.stop().await;
}
