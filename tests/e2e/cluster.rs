//! A cluster of brokers that loses one of its servers under load: `session = "clean"`, on a real NATS cluster.

use tokio::time::Instant;

use dormgate::center::Service;
use dormgate::mqtt::{BrokerUrl, Session};
use dormgate::workbench::broker::Broker;

use crate::campus::{Campus, card, enrol, issue, report_lost};
use crate::nats::Cluster;
use crate::program::Program;

const CARDS: usize = 60;
/// Messages under way while a server is lost.
const LOAD: usize = 300;

/// Publishes changes one by one; in their midst `lose` happens.
async fn load(service: &Service, from: usize, lose: impl FnOnce()) -> Instant {
    let mut lose = Some(lose);
    let mut lost_at = Instant::now();
    for n in from..from + LOAD {
        if n == from + LOAD / 3 {
            lost_at = Instant::now();
            lose.take().unwrap()();
        }
        let op = if n % 10 == 0 { report_lost(n / 10 % CARDS) } else { enrol(n % CARDS, n) };
        service.publish(Some(&Campus::gateway()), vec![op]).await.unwrap();
    }
    lost_at
}

async fn connected_to(gateway: &Program, url: &BrokerUrl) {
    gateway.logged(&format!("url={url} session_present")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs nats-server, which tests/run installs"]
async fn a_gateway_leaves_a_dead_server_of_a_cluster_for_the_next_and_converges_there() {
    let mut cluster = Cluster::start();
    let local = Broker::start().await.unwrap();
    let campus = Campus::new();
    let [first, second, third] = [0, 1, 2].map(|node| cluster.url(node));
    let service = campus.service(&[third.clone(), second.clone()], Session::Clean);
    let more = "session = \"clean\"\nresync_spread_s = 0";
    let gateway = campus.gateway_at(&[first.clone(), second.clone(), third.clone()], more, &local.url());
    connected_to(&gateway, &first).await;
    service
        .publish(Some(&Campus::gateway()), (0..CARDS).flat_map(|n| [issue(n), enrol(n, 0)]).collect())
        .await
        .unwrap();
    campus.until_equal().await;

    // Its connections stay open, and nothing comes.
    let lost_at = load(&service, 0, || cluster.freeze(0)).await;
    // The cluster elects a leader first, so the next server may not answer in time either; then it is the one after.
    let now_at = tokio::select! {
        () = connected_to(&gateway, &second) => 1,
        () = connected_to(&gateway, &third) => 2,
    };
    println!(
        "a frozen server was left for the next: connected again {:.1?} after it froze, at most",
        lost_at.elapsed()
    );
    campus.until_equal().await;
    println!("equal to the center {:.1?} after the server froze, {LOAD} changes under way", lost_at.elapsed());
    assert_eq!(campus.reason(card(0)).await, "lost");
    cluster.thaw(0);

    let lost_at = load(&service, LOAD, || cluster.kill(now_at)).await;
    campus.until_equal().await;
    println!(
        "equal to the center {:.1?} after the next server was killed, {LOAD} changes under way",
        lost_at.elapsed()
    );
    gateway.stop().await;
}
