//! What the task does with what gateways ask for, without a broker.

use super::*;
use crate::access::effect::ResyncReason;
use crate::center::Layout;
use crate::center::tests::{NOW, center, gateway, issue, resync};
use crate::config::LinkSpec;
use crate::mqtt::{Session, Setup};

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

#[tokio::test]
async fn what_is_to_be_sent_again_is_signed_when_the_connection_takes_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut center = center(dir.path(), Layout::One);
    let published = center.publish_ops(Some(&gateway()), &[issue("02020304")], NOW).unwrap();
    let (reports, mut received) = broadcast::channel(8);
    let clock = (Clock::manual(NOW).0, Attention::Everything);
    let watched = (watch::Sender::new(false), watch::Sender::new(0));
    let mut work = Work::new(center, connection(), clock, reports, watched);
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
