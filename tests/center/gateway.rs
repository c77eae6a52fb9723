//! A gateway's end of the uplink, played by the test.

use std::sync::Arc;

use dormgate::access::change::{Head, Note, Position};
use dormgate::access::effect::{Ack, Outcome};
use dormgate::access::engine::{Status, StreamStatus};
use dormgate::access::id::{ClockTrust, GatewayId, Timestamp};
use dormgate::access::input::CommandKind;
use dormgate::config;
use dormgate::mqtt::{Connection, Event, LinkSpec, Message, Outgoing, Retention, Session, Setup};
use dormgate::wire::envelope::{Channel, StreamSpec, open};
use dormgate::wire::state::{self, StateReport};
use dormgate::wire::topic::{self, Down, Topic, Up};
use dormgate::wire::{down, up};
use dormgate::workbench::broker::Broker;
use tokio::time::timeout;

use super::PATIENCE;

/// What the gateway understood of one message.
#[derive(Debug, PartialEq)]
pub(super) enum Understood {
    Changes(Position, Channel),
    Head(Head),
    Command(String, CommandKind),
    AuditAck(u64),
}

/// The gateway's end of the uplink, played by the test.
pub(super) struct Gateway {
    id: GatewayId,
    connection: Connection,
    streams: Vec<StreamSpec>,
}

impl Gateway {
    pub(super) async fn start(broker: &Broker, configuration: &str) -> Self {
        Self::start_as("g1", broker, configuration).await
    }

    pub(super) async fn start_as(id: &str, broker: &Broker, configuration: &str) -> Self {
        let id: GatewayId = id.parse().unwrap();
        let setup = Setup {
            link: "gateway",
            session: Session::Clean,
            subscriptions: topic::uplink_subscriptions(&id),
            packet_bytes_max: 1024 * 1024,
            will: None,
            echo_topic: None,
        };
        let link = LinkSpec::plain(vec![broker.url()], format!("gateway-{id}"));
        let mut connection = Connection::new(link, setup, Arc::default()).unwrap();
        while !matches!(timeout(PATIENCE, connection.next()).await.unwrap(), Event::Up { .. }) {}
        Self { id, connection, streams: config::streams(configuration).unwrap() }
    }

    /// The next message from the center.
    pub(super) async fn next(&mut self) -> Understood {
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
        let opened = open(&message.payload, via, &self.id, &self.streams).unwrap();
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
    pub(super) async fn next_but_heads(&mut self) -> Understood {
        loop {
            match self.next().await {
                Understood::Head(_) => {}
                understood => return understood,
            }
        }
    }

    pub(super) async fn publish(&mut self, up: Up, payload: Vec<u8>) {
        let topic = Topic::Up(self.id.clone(), up);
        let (qos, retain) = (topic.qos(), topic.retained());
        let outgoing =
            Outgoing { topic: topic.to_string(), payload, retain, qos, retention: Retention::UntilDelivered };
        let id = self.connection.publish(outgoing).unwrap();
        while timeout(PATIENCE, self.connection.next()).await.unwrap() != Event::Delivered(id) {}
    }

    pub(super) async fn ack(&mut self, stream: &str, at: Position, outcome: Outcome) {
        self.ack_with(stream, at, outcome, Vec::new()).await;
    }

    pub(super) async fn ack_with(&mut self, stream: &str, at: Position, outcome: Outcome, notes: Vec<Note>) {
        let ack = Ack {
            stream: Some(stream.parse().unwrap()),
            at: Some(at),
            snapshot: None,
            outcome,
            applied_through: at.seq,
            missing: vec![],
            errors: vec![],
            notes,
            revoked: vec!["1EA68671".parse().unwrap()],
            cut: vec!["power-412".parse().unwrap()],
            received_at: Timestamp(0),
        };
        self.publish(Up::Ack, up::encode_ack(&ack, Timestamp(0)).unwrap()).await;
    }

    /// Publishes its state: one stream, and what else is shown.
    pub(super) async fn state(&mut self, stream: StreamStatus, cards: u64, offline: &[&str]) {
        let offline = offline.iter().map(|portal| portal.parse().unwrap()).collect();
        let status = Status { streams: vec![stream], cards, portals_online: 3, offline, ..Status::default() };
        let report = StateReport { boot: "b1".into(), status, clock: ClockTrust::Trusted, ..StateReport::default() };
        self.publish(Up::State, state::encode(&report, 1).unwrap()).await;
    }
}

/// What a gateway reports of the stream `center`.
pub(super) fn stream(epoch: u32, seq: u64, digest: Option<String>) -> StreamStatus {
    StreamStatus { name: "center".parse().unwrap(), epoch, seq, missing: 0, digest, age_s: Some(1) }
}
