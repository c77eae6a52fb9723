//! What the task does with what gateways ask for, without a broker.

use super::*;
use crate::access::effect::ResyncReason;
use crate::center::tests::{NOW, center, chain, gateway, issue, resync};
use crate::center::{AuditTrouble, Directory, Layout};
use crate::config::LinkSpec;
use crate::mqtt::{Message, Session, Setup};
use crate::wire::topic::{Topic, Up};
use crate::wire::up;

fn connection() -> Connection {
    let setup = Setup {
        link: "center",
        session: Session::Clean,
        subscriptions: Vec::new(),
        packet_bytes_max: 1024,
        will: None,
        echo_topic: None,
    };
    let link = LinkSpec::plain(vec!["mqtt://127.0.0.1:1".parse().unwrap()], "center");
    Connection::new(link, setup, std::sync::Arc::default()).unwrap()
}

/// What the gateway asks for, one message after the other.
fn asked() -> Message {
    let asked = resync("center", ResyncReason::Gap, (1, 0), Vec::new());
    let topic = Topic::Up(gateway(), Up::Resync).to_string();
    Message { topic, payload: up::encode(&asked).unwrap(), retain: false, dup: false, ack: None }
}

/// The task, and what it reports.
fn work(center: Center) -> (Work<Directory>, broadcast::Receiver<Report>) {
    let (reports, received) = broadcast::channel(8);
    let clock = (Clock::manual(NOW).0, Attention::Everything);
    let watched = (watch::Sender::new(false), watch::Sender::new(0));
    (Work::new(center, connection(), clock, reports, watched), received)
}

#[tokio::test]
async fn what_is_to_be_sent_again_is_signed_when_the_connection_takes_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut center = center(dir.path(), Layout::One);
    let published = center.publish_ops(Some(&gateway()), &[issue("02020304")], NOW).unwrap();
    let (mut work, mut received) = self::work(center);
    work.fresh.extend(published.iter().cycle().take(UNDER_WAY_MAX).cloned());
    work.send();
    assert_eq!(work.connection.undelivered(), UNDER_WAY_MAX);
    for _ in 0..3 {
        work.receive(&asked());
        work.send();
    }
    assert!(received.try_recv().is_err(), "it has no room, and orders would wait for the signatures");
    // As when the broker has taken all.
    work.connection = connection();
    work.send();
    assert!(matches!(received.try_recv().unwrap().event, GatewayEvent::Resync(_, 1)), "the newest request only");
    assert!(received.try_recv().is_err());
    assert_eq!(work.connection.undelivered(), 1);
}

#[tokio::test]
async fn what_is_no_state_is_refused_and_a_state_ends_the_wait_for_what_was_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let (mut work, _received) = self::work(center(dir.path(), Layout::One));
    let audit = up::encode_audit("b1", 3, 4, &chain(4, 1, [7; 32])).unwrap();
    let mut receive = |up, payload: &[u8]| work.decode(&gateway(), up, payload);
    for wrong in
        ["{}", r#"{"v":1,"stream":5}"#, r#"{"v":1,"state":"asleep"}"#, r#"{"v":1,"state":"online","streams":5}"#]
    {
        assert!(receive(Up::State, wrong.as_bytes()).is_err(), "{wrong}");
    }
    let waiting = GatewayEvent::Trouble(AuditTrouble::Waiting { from: 1, to: 3 });
    assert_eq!(receive(Up::Audit, &audit).unwrap(), [waiting]);
    let state = r#"{"v":1,"state":"online","audit":{"last":4,"acked":3}}"#;
    for state in [state, r#"{"v":1,"state":"offline","boot":"b1","conn":1}"#] {
        assert_eq!(receive(Up::State, state.as_bytes()).unwrap(), [GatewayEvent::State(state.to_owned())]);
    }
    let taken = receive(Up::Audit, &audit).unwrap();
    assert_eq!(taken[0], GatewayEvent::Trouble(AuditTrouble::Lost { from: 1, to: 3 }));
    assert!(matches!(&taken[1], GatewayEvent::Audit(events) if events.len() == 1));
}

/// What a broker kept of such a topic is not from a gateway that keeps to the contract, and comes again at each start.
#[tokio::test]
async fn a_retained_copy_is_passed_over_where_a_gateway_retains_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (mut work, mut received) = self::work(center(dir.path(), Layout::One));
    let ack = r#"{"v":1,"outcome":"stale","applied_through":0,"missing":[],"errors":[],"durable_at":"2026-09-01T08:00:00.000Z"}"#;
    let bodies = [
        (Up::Audit, up::encode_audit("b1", 0, 1, &chain(1, 1, [0; 32])).unwrap()),
        (Up::Resync, asked().payload),
        (Up::Ack, ack.as_bytes().to_vec()),
        (Up::Reply, br#"{"v":1,"jti":"j","status":"done"}"#.to_vec()),
        (Up::Alarm, br#"{"v":1,"n":1,"at":"2026-09-01T08:00:00.000Z","kind":"store","detail":""}"#.to_vec()),
        (Up::State, br#"{"v":1,"state":"offline","boot":"b1","conn":1}"#.to_vec()),
    ];
    for (up, payload) in bodies {
        for retain in [true, false] {
            let topic = Topic::Up(gateway(), up).to_string();
            work.receive(&Message { topic: topic.clone(), payload: payload.clone(), retain, dup: false, ack: None });
            work.send();
            let event = received.try_recv().unwrap().event;
            let is_passed_over = match &event {
                GatewayEvent::Problem(why) => why.starts_with(&format!("`{topic}`: a retained copy")),
                _ => false,
            };
            assert_eq!(is_passed_over, retain && up != Up::State, "{topic}, retained: {retain}: {event:?}");
            assert!(received.try_recv().is_err(), "{topic}");
        }
    }
}
