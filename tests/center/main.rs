//! The center at work on a broker, with gateways that are played by the test: as a service, and on the command line.
#![cfg(feature = "workbench")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod command_line;
mod compare;
mod gateway;
mod watch;

use std::num::NonZeroU32;
use std::path::Path;
use std::time::Duration;

use dormgate::access::change::{Op, Position, Subject};
use dormgate::access::credential::Flag;
use dormgate::access::effect::{Have, Outcome, Reply, Resync, ResyncReason};
use dormgate::access::event::ReplyStatus;
use dormgate::access::id::GatewayId;
use dormgate::access::input::CommandKind;
use dormgate::center::{Attention, Center, GatewayEvent, Layout, Report, Service, create};
use dormgate::clock::Clock;
use dormgate::mqtt::LinkSpec;
use dormgate::wire::envelope::Channel;
use dormgate::wire::topic::Up;
use dormgate::wire::up;
use dormgate::workbench::broker::Broker;
use tokio::time::timeout;

use gateway::{Gateway, Understood};

/// Longest wait for anything here.
const PATIENCE: Duration = Duration::from_secs(60);

fn g1() -> GatewayId {
    "g1".parse().unwrap()
}

fn lost() -> Op {
    Op::SetFlag { subject: Subject::Card("1EA68671".parse().unwrap()), flag: Flag::Lost, on: true }
}

fn at(seq: u64) -> Position {
    Position { epoch: NonZeroU32::MIN, seq }
}

fn service(dir: &Path, broker: &Broker, attention: Attention) -> Service {
    let center = Center::open(dir, &[g1()]).unwrap();
    let link = LinkSpec::plain(vec![broker.url()], format!("center-{attention:?}"));
    Service::start(center, link, Clock::system(), attention).unwrap()
}

#[tokio::test]
async fn what_is_published_is_answered_and_its_head_follows() {
    let g1 = g1();
    let dir = tempfile::tempdir().unwrap();
    let configuration = create(dir.path(), Layout::Two, NonZeroU32::MIN).unwrap();
    let broker = Broker::start().await.unwrap();
    let mut gateway = Gateway::start(&broker, &configuration).await;
    let center = service(dir.path(), &broker, Attention::Answers);
    let publishing = center.publish_and_wait(Some(&g1), vec![lost()], PATIENCE);
    let answering = async {
        // Heads with `seq` 0, of a center that has published nothing yet, may come before.
        assert_eq!(gateway.next_but_heads().await, Understood::Changes(at(1), Channel::Campus));
        let head = loop {
            match gateway.next().await {
                Understood::Head(head) if head.at == at(1) => break head,
                Understood::Head(_) => {}
                other => panic!("no head: {other:?}"),
            }
        };
        assert_eq!((head.stream.as_str(), head.cards), ("card-office", 1));
        gateway.ack("card-office", at(1), Outcome::Applied).await;
    };
    let (answers, ()) = tokio::join!(publishing, answering);
    let answers = answers.unwrap();
    let (ack, took) = answers[0].ack.as_ref().unwrap();
    assert_eq!((ack.outcome, ack.revoked.as_slice()), (Outcome::Applied, ["1EA68671".parse().unwrap()].as_slice()));
    assert!(*took < PATIENCE);
    assert!(center.close(PATIENCE).await);
}

#[tokio::test]
async fn a_gateway_that_was_away_is_sent_what_it_asks_for() {
    let g1 = g1();
    let dir = tempfile::tempdir().unwrap();
    let configuration = create(dir.path(), Layout::Two, NonZeroU32::MIN).unwrap();
    let broker = Broker::start().await.unwrap();
    let center = service(dir.path(), &broker, Attention::Everything);
    for _ in 0..3 {
        center.publish(Some(&g1), vec![lost()]).await.unwrap();
    }
    let unanswered = center.publish_and_wait(Some(&g1), vec![lost()], Duration::ZERO).await.unwrap();
    assert_eq!((unanswered[0].at, &unanswered[0].ack), (at(4), &None));
    assert!(center.wait_up(PATIENCE).await);
    let mut received = center.reports();
    let mut gateway = Gateway::start(&broker, &configuration).await;
    // The head that the broker kept names the last message of the stream.
    loop {
        if let Understood::Head(head) = gateway.next().await
            && head.at == at(4)
        {
            break;
        }
    }
    let asked = Resync {
        stream: "card-office".parse().unwrap(),
        reason: ResyncReason::Gap,
        have: Have { epoch: 1, seq: 0 },
        missing: vec![(1, 4)],
    };
    gateway.publish(Up::Resync, up::encode(&asked).unwrap()).await;
    for seq in 1..=4 {
        assert_eq!(gateway.next_but_heads().await, Understood::Changes(at(seq), Channel::Gateway));
    }
    loop {
        if let GatewayEvent::Resync(asked, sent) = timeout(PATIENCE, received.recv()).await.unwrap().unwrap().event {
            assert_eq!((asked.reason.as_str(), sent), ("gap", 4));
            break;
        }
    }
}

#[tokio::test]
async fn audit_is_acknowledged_by_who_attends_and_by_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let configuration = create(dir.path(), Layout::One, NonZeroU32::MIN).unwrap();
    let broker = Broker::start().await.unwrap();
    let mut gateway = Gateway::start(&broker, &configuration).await;
    let zeros = "0".repeat(64);
    let event = format!(
        r#"{{"n":1,"at":"2026-09-01T08:00:00.000Z","clock":"trusted","boot":"b1","mono_ms":12,"type":"boot","prev":"{zeros}"}}"#
    );
    let batch = up::encode_audit("b1", 0, 1, std::slice::from_ref(&event)).unwrap();
    let attending = service(dir.path(), &broker, Attention::Everything);
    let passing = service(dir.path(), &broker, Attention::Answers);
    assert!(attending.wait_up(PATIENCE).await && passing.wait_up(PATIENCE).await);
    let mut unconfirmed = passing.reports();
    gateway.publish(Up::Audit, batch).await;
    assert_eq!(gateway.next_but_heads().await, Understood::AuditAck(1));
    assert_eq!(std::fs::read_to_string(dir.path().join("g1/audit.jsonl")).unwrap(), format!("{event}\n"));
    assert!(
        !std::iter::from_fn(|| unconfirmed.try_recv().ok())
            .any(|report| matches!(report.event, GatewayEvent::Audit(_)))
    );
}

#[tokio::test]
async fn a_command_is_replied_to_and_never_sent_late() {
    let g1 = g1();
    let dir = tempfile::tempdir().unwrap();
    let configuration = create(dir.path(), Layout::One, NonZeroU32::MIN).unwrap();
    let broker = Broker::start().await.unwrap();
    let mut gateway = Gateway::start(&broker, &configuration).await;
    let center = service(dir.path(), &broker, Attention::Answers);
    let release = CommandKind::Release { portal: "gate-in".parse().unwrap() };
    let asking = center.command(&g1, release.clone(), Some("staff:77"), PATIENCE);
    let replying = async {
        let Understood::Command(jti, kind) = gateway.next_but_heads().await else { panic!("no command") };
        assert_eq!(kind, release);
        let reply = Reply { jti: Some(jti), status: ReplyStatus::Ok, error: None, result: None };
        gateway.publish(Up::Reply, up::encode(&reply).unwrap()).await;
    };
    let (reply, ()) = tokio::join!(asking, replying);
    assert_eq!(reply.unwrap().unwrap().status, ReplyStatus::Ok);
    let mut received = center.reports();
    let address = broker.stop().await;
    while !matches!(timeout(PATIENCE, received.recv()).await.unwrap().unwrap().event, GatewayEvent::Down(_)) {}
    assert_eq!(center.command(&g1, release, None, Duration::from_millis(50)).await.unwrap(), None);
    let broker = Broker::start_at(address).await.unwrap();
    let mut gateway = Gateway::start(&broker, &configuration).await;
    assert!(center.wait_up(PATIENCE).await);
    center.publish(Some(&g1), vec![lost()]).await.unwrap();
    assert_eq!(gateway.next_but_heads().await, Understood::Changes(at(1), Channel::Gateway));
}

#[tokio::test]
async fn a_state_that_the_broker_kept_is_reported_also_to_who_listens_only_later() {
    let g1 = g1();
    let dir = tempfile::tempdir().unwrap();
    let configuration = create(dir.path(), Layout::One, NonZeroU32::MIN).unwrap();
    let broker = Broker::start().await.unwrap();
    let mut gateway = Gateway::start(&broker, &configuration).await;
    gateway.state(gateway::stream(1, 1, None), 7, &[]).await;
    let center = service(dir.path(), &broker, Attention::Answers);
    let publishing = center.publish_and_wait(Some(&g1), vec![lost()], PATIENCE);
    let answering = async {
        assert_eq!(gateway.next_but_heads().await, Understood::Changes(at(1), Channel::Gateway));
        gateway.ack("center", at(1), Outcome::Applied).await;
    };
    let (answered, ()) = tokio::join!(publishing, answering);
    assert!(answered.unwrap()[0].ack.is_some());
    // The state came before the ack.
    let mut received = center.reports_since_start();
    let is_state =
        |report: Report| matches!(report.event, GatewayEvent::State(_)) && report.gateway.as_ref() == Some(&g1);
    assert!(std::iter::from_fn(|| received.try_recv().ok()).any(is_state));
    assert!(center.reports_since_start().try_recv().is_err(), "who asks again gets what comes from then on");
}
