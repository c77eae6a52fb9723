//! What is wrong with a broker is logged once a spell, and not at each connection. One test in a process of its own: what it logs goes
//! nowhere else.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail")]

#[path = "support/scripted.rs"]
mod scripted;

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dormgate::mqtt::{Connection, Event, LinkMetrics, LinkSpec, Session, Setup};
use dormgate::wire::topic::{Qos, Subscription};
use scripted::{CONNACK, Scripted, grant, report};

/// Every wait ends after this, in seconds.
const PATIENCE_S: u64 = 60;
/// What a broker answers to a subscription that it rejects, and to one that it grants with QoS 0.
const REJECTED: u8 = 0x80;
const LOWERED: u8 = 0;

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn lines_with(&self, part: &str) -> usize {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap().lines().filter(|line| line.contains(part)).count()
    }
}

#[tokio::test]
async fn a_fault_of_the_broker_is_logged_once_however_often_the_link_is_made_again_until_it_is_over() {
    let log = Log::default();
    let writer = log.clone();
    tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).init();
    let broker = Scripted::start().await;
    let setup = Setup {
        link: "test",
        session: Session::Persistent,
        subscriptions: vec![Subscription { filter: "in".into(), qos: Qos::AtLeastOnce }],
        packet_bytes_max: 1024,
        will: None,
        echo_topic: None,
    };
    let metrics = Arc::new(LinkMetrics::default());
    let spec = LinkSpec::plain(vec![broker.url()], "link");
    let mut link = Connection::new(spec, setup, Arc::clone(&metrics)).unwrap();
    // The answer of each connection, and how often each fault was logged until then.
    let connections = [(REJECTED, 1, 0), (REJECTED, 1, 0), (LOWERED, 1, 1), (LOWERED, 1, 1), (REJECTED, 2, 1)];
    for (place, (code, rejected, lowered)) in connections.into_iter().enumerate() {
        let serve = async {
            let (mut stream, _) = broker.client().await;
            report(&mut stream, &CONNACK).await;
            grant(&mut stream, code).await;
            stream
        };
        let up = async { while !matches!(link.next().await, Event::Up { .. }) {} };
        let both = async { tokio::join!(serve, up) };
        let (stream, ()) = tokio::time::timeout(Duration::from_secs(PATIENCE_S), both).await.expect("a connection");
        let logged = (log.lines_with("fault=\"rejects_subscription\""), log.lines_with("fault=\"lowers_qos\""));
        assert_eq!(logged, (rejected, lowered), "connection {place}");
        assert_eq!(metrics.faults.all().len(), 1, "connection {place}");
        drop(stream);
    }
}
