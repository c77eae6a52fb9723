//! The center at work on a broker, with a gateway that is played by the test.
#![cfg(feature = "workbench")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::num::NonZeroU32;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use dormgate::access::change::{Head, Op, Position, Subject};
use dormgate::access::credential::Flag;
use dormgate::access::effect::{Ack, Have, Outcome, Reply, Resync, ResyncReason};
use dormgate::access::event::ReplyStatus;
use dormgate::access::id::{GatewayId, Timestamp};
use dormgate::access::input::CommandKind;

use dormgate::center::{Attention, Center, GatewayEvent, Layout, Service, create};
use dormgate::clock::Clock;
use dormgate::config;
use dormgate::mqtt::{Connection, Event, LinkSpec, Message, Outgoing, Retention, Session, Setup};
use dormgate::wire::envelope::{Channel, StreamSpec, open};
use dormgate::wire::topic::{self, Down, Topic, Up};
use dormgate::wire::{down, up};
use dormgate::workbench::broker::Broker;
use tokio::time::timeout;

/// Longest wait for anything here.
const PATIENCE: Duration = Duration::from_secs(60);

fn g1() -> GatewayId {
    "g1".parse().unwrap()
}

fn lost() -> Op {
    Op::SetFlag { subject: Subject::Card("1EA68671".parse().unwrap()), flag: Flag::Lost, on: true }
}

/// What the gateway understood of one message.
#[derive(Debug, PartialEq)]
enum Understood {
    Changes(Position, Channel),
    Head(Head),
    Command(String, CommandKind),
    AuditAck(u64),
}

/// The gateway's end of the uplink, played by the test.
struct Gateway {
    connection: Connection,
    streams: Vec<StreamSpec>,
}

impl Gateway {
    async fn start(broker: &Broker, configuration: &str) -> Self {
        let setup = Setup {
            link: "gateway",
            session: Session::Clean,
            subscriptions: topic::uplink_subscriptions(&g1()),
            packet_bytes_max: 1024 * 1024,
            will: None,
            echo_topic: None,
        };
        let link = LinkSpec::plain(vec![broker.url()], "gateway");
        let mut connection = Connection::new(link, setup, Arc::default()).unwrap();
        while !matches!(timeout(PATIENCE, connection.next()).await.unwrap(), Event::Up { .. }) {}
        Self { connection, streams: config::streams(configuration).unwrap() }
    }

    /// The next message from the center.
    async fn next(&mut self) -> Understood {
        loop {
            let Event::Message(message) = timeout(PATIENCE, self.connection.next()).await.unwrap() else {
                continue;
            };
            if let Some(token) = message.ack {
                self.connection.ack(token);
            }
            return self.understand(&message);
        }
    }

    fn understand(&self, message: &Message) -> Understood {
        let topic: Topic = message.topic.parse().unwrap();
        let via = match &topic {
            Topic::Campus(_) => Channel::Campus,
            _ => Channel::Gateway,
        };
        let opened = open(&message.payload, via, &g1(), &self.streams).unwrap();
        match &topic {
            Topic::Campus(Down::Head(stream)) | Topic::Down(_, Down::Head(stream)) => {
                Understood::Head(down::read_head(&opened, stream).unwrap())
            }
            Topic::Down(_, Down::Command) => {
                let command = down::read_command(&opened).unwrap();
                Understood::Command(command.jti, command.kind)
            }
            Topic::Down(_, Down::AuditAck) => Understood::AuditAck(down::read_audit_ack(&opened).unwrap().through),
            _ => Understood::Changes(down::read_changes(&opened).unwrap().at, via),
        }
    }

    /// The next message that is no head.
    async fn next_but_heads(&mut self) -> Understood {
        loop {
            match self.next().await {
                Understood::Head(_) => {}
                understood => return understood,
            }
        }
    }

    async fn publish(&mut self, up: Up, payload: Vec<u8>) {
        let topic = Topic::Up(g1(), up);
        let (qos, retain) = (topic.qos(), topic.retained());
        let outgoing =
            Outgoing { topic: topic.to_string(), payload, retain, qos, retention: Retention::UntilDelivered };
        let id = self.connection.publish(outgoing).unwrap();
        while timeout(PATIENCE, self.connection.next()).await.unwrap() != Event::Delivered(id) {}
    }

    async fn ack(&mut self, stream: &str, at: Position, outcome: Outcome) {
        let ack = Ack {
            stream: Some(stream.parse().unwrap()),
            at: Some(at),
            snapshot: None,
            outcome,
            applied_through: at.seq,
            missing: vec![],
            errors: vec![],
            notes: vec![],
            revoked: vec!["1EA68671".parse().unwrap()],
            cut: vec!["power-412".parse().unwrap()],
            received_at: Timestamp(0),
        };
        self.publish(Up::Ack, up::encode_ack(&ack, Timestamp(0)).unwrap()).await;
    }
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
        assert_eq!(gateway.next().await, Understood::Changes(at(1), Channel::Campus));
        let Understood::Head(head) = gateway.next().await else { panic!("no head") };
        assert_eq!((head.stream.as_str(), head.at, head.cards), ("card-office", at(1), 1));
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
    let batch = up::encode_audit("b1", 1, std::slice::from_ref(&event)).unwrap();
    let attending = service(dir.path(), &broker, Attention::Everything);
    let passing = service(dir.path(), &broker, Attention::Answers);
    assert!(attending.wait_up(PATIENCE).await && passing.wait_up(PATIENCE).await);
    let mut unconfirmed = passing.reports();
    gateway.publish(Up::Audit, batch).await;
    assert_eq!(gateway.next().await, Understood::AuditAck(1));
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
        let Understood::Command(jti, kind) = gateway.next().await else { panic!("no command") };
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
    assert_eq!(gateway.next().await, Understood::Changes(at(1), Channel::Gateway));
}

/// Runs the program; gives its exit code, what it wrote to stdout, and to stderr.
async fn dormgate(dir: &Path, broker: Option<&Broker>, args: &[&str]) -> (i32, String, String) {
    let mut program = tokio::process::Command::new(env!("CARGO_BIN_EXE_dormgate"));
    program.arg("center").arg("--dir").arg(dir).args(args).env("RUST_LOG", "off");
    if let Some(broker) = broker {
        program.args(["--gateway", "g1", "--url", &broker.url().to_string()]);
    }
    let output = program.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = timeout(PATIENCE, output).await.unwrap().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[tokio::test]
async fn on_the_command_line_an_op_ends_with_the_outcome_of_its_ack() {
    let dir = tempfile::tempdir().unwrap();
    let (code, configuration, _) = dormgate(dir.path(), None, &["keygen"]).await;
    assert_eq!(code, 0);
    let broker = Broker::start().await.unwrap();
    let mut gateway = Gateway::start(&broker, &configuration).await;
    let enrol = ["enrol", "1EA68671", "h1", "--gate", "*", "--door", "412", "--entitlement", "power_box:412:term"];
    let answering = async {
        assert_eq!(gateway.next_but_heads().await, Understood::Changes(at(1), Channel::Gateway));
        gateway.ack("center", at(1), Outcome::Applied).await;
    };
    let ((code, out, err), ()) = tokio::join!(dormgate(dir.path(), Some(&broker), &enrol), answering);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    assert!(out.starts_with("center 1.1 applied; revoked 1EA68671; cut power-412 in "), "{out}");

    let refusing = async {
        assert_eq!(gateway.next_but_heads().await, Understood::Changes(at(2), Channel::Gateway));
        gateway.ack("center", at(2), Outcome::Rejected).await;
    };
    let cancel = ["cancel", "--holder", "h1"];
    let ((code, out, _), ()) = tokio::join!(dormgate(dir.path(), Some(&broker), &cancel), refusing);
    assert_eq!(code, 1);
    assert!(out.starts_with("center 1.2 rejected"), "{out}");

    let (code, _, err) = dormgate(dir.path(), Some(&broker), &["freeze", "1EA68671", "--wait", "0"]).await;
    assert_eq!(code, 1);
    assert!(err.contains("center 1.3: no answer in 0 s") && err.contains("journal"), "{err}");
    assert_eq!(
        gateway.next_but_heads().await,
        Understood::Changes(at(3), Channel::Gateway),
        "it was sent all the same"
    );
}

#[tokio::test]
async fn a_wrong_call_ends_with_the_remedy_and_publishes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (code, _, err) = dormgate(dir.path(), None, &["issue", "1EA68671", "h1", "--gateway", "g1"]).await;
    assert_eq!(code, 1);
    assert!(err.contains("center keygen"), "{err}");
    assert_eq!(dormgate(dir.path(), None, &["keygen", "--streams", "two"]).await.0, 0);
    let wrong: [(&[&str], &str); 6] = [
        (&["issue", "1EA68671", "h1"], "--gateway"),
        (&["cancel", "--gateway", "g1"], "<UID"),
        (&["cancel", "1EA68671", "--holder", "h1", "--gateway", "g1"], "cannot be used"),
        (&["enrol", "1EA686", "h1", "--gateway", "g1"], "4, 7 or 10 bytes"),
        (&["enrol", "1EA68671", "h1", "--entitlement", "dor:412", "--gateway", "g1"], "gate, door, power_box"),
        (&["posture", "lockdown", "a", "*", "--gateway", "g1"], "alone"),
    ];
    for (args, reported) in wrong {
        let (code, out, err) = dormgate(dir.path(), None, args).await;
        assert_eq!((code, out.as_str()), (2, ""), "{args:?}");
        assert!(err.contains(reported), "{args:?}: {err}");
    }
    let draft = dir.path().join("ops.json");
    std::fs::write(&draft, r#"[{"op":"cancle","uid":"1EA68671"}]"#).unwrap();
    let (code, _, err) = dormgate(dir.path(), None, &["send", draft.to_str().unwrap(), "--gateway", "g1"]).await;
    assert_eq!(code, 1);
    assert!(err.contains("did you mean `cancel`"), "{err}");
    assert!(!dir.path().join("campus/card-office.journal").exists());
}
