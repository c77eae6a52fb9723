//! A broker inside this process, on loopback, for the demo and the tests. Not for production: every client may publish everything, and
//! sessions and retained messages are in memory only, so they are lost when it stops.
//!
//! MQTT 3.1.1 with the codec of `rumqttc`. The crates with an embedded broker depend on an HTTP client, a password hash and regular
//! expressions, which took a quarter of the time that the demo needed to build. `tests/run` uses real brokers.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use rumqttc::mqttbytes::v4::{
    Codec, ConnAck, Connect, ConnectReturnCode, LastWill, Packet, PubAck, PubComp, PubRec, Publish, SubAck, Subscribe,
    SubscribeReasonCode, UnsubAck,
};
use rumqttc::mqttbytes::{Error as PacketError, Protocol, QoS};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;
use tokio_util::codec::Framed;

use super::Refused;
use crate::lock;
use crate::mqtt::BrokerUrl;

/// Longest wait for a client's first packet, in seconds.
const CONNECT_S: u64 = 5;
/// Most messages that wait for one client; further ones are dropped.
const QUEUED_MAX: usize = 10_000;
/// Most messages sent to one client and not acknowledged; the others wait.
const IN_FLIGHT_MAX: usize = 100;
/// Length of a packet, in bytes: the most that MQTT allows.
const PACKET_BYTES_MAX: usize = 256 * 1024 * 1024;

/// A running broker; it ends when this is dropped.
pub struct Broker {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Broker {
    /// Starts a broker on a free port of 127.0.0.1.
    pub async fn start() -> Result<Self, Refused> {
        Self::start_at(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await
    }

    /// Starts a broker at `at`, e.g. where another one was stopped.
    pub async fn start_at(at: SocketAddr) -> Result<Self, Refused> {
        let refused = |why: io::Error| {
            Refused(format!("the embedded broker cannot listen on `{at}`: {why}; end the program that uses the port"))
        };
        let listener = TcpListener::bind(at).await.map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        Ok(Self { address, task: tokio::spawn(accept(listener)) })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its address as a URL, for a link.
    #[must_use]
    pub fn url(&self) -> BrokerUrl {
        BrokerUrl { tls: false, host: self.address.ip().to_string(), port: self.address.port() }
    }

    /// Stops it, with all connections, sessions and retained messages. Gives the address, so that another broker can be started there.
    pub async fn stop(mut self) -> SocketAddr {
        self.task.abort();
        // It ends because it was aborted.
        drop((&mut self.task).await);
        self.address
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Accepts clients. When it is dropped, their connections end too.
async fn accept(listener: TcpListener) {
    let state = Shared::default();
    let mut connections = JoinSet::new();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                connections.spawn(serve(stream, state.clone()));
            }
            Err(error) => {
                tracing::warn!(%error, "the embedded broker cannot accept a connection");
                tokio::task::yield_now().await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
}

type Shared = Arc<Mutex<State>>;
type Connection = Framed<TcpStream, Codec>;

/// Sessions by client id, and retained messages by topic.
#[derive(Default)]
struct State {
    sessions: BTreeMap<String, Session>,
    retained: BTreeMap<String, Publish>,
    connections: u64,
}

/// What is kept for one client.
#[derive(Default)]
struct Session {
    /// The connection that serves it, the newest of this client. `None`: the client is not connected.
    connection: Option<u64>,
    is_clean: bool,
    filters: BTreeMap<String, QoS>,
    queue: VecDeque<Publish>,
    in_flight: BTreeMap<u16, Publish>,
    last_id: u16,
    /// Packet ids of messages with QoS 2 that were received and not released.
    received: BTreeSet<u16>,
    wake: Arc<Notify>,
}

impl Session {
    fn add(&mut self, message: &Publish, qos: QoS, retain: bool) {
        let qos = if message.qos < qos { message.qos } else { qos };
        let waits_for_client = self.connection.is_some() || qos != QoS::AtMostOnce;
        if !waits_for_client || self.queue.len() >= QUEUED_MAX {
            return;
        }
        self.queue.push_back(Publish { qos, retain, dup: false, pkid: 0, ..message.clone() });
        self.wake.notify_one();
    }

    /// The messages that may be sent now. QoS 2 is delivered as QoS 1, because no client here subscribes with more.
    fn take(&mut self) -> Vec<Packet> {
        let mut packets = Vec::new();
        while self.in_flight.len() < IN_FLIGHT_MAX
            && let Some(mut message) = self.queue.pop_front()
        {
            if message.qos != QoS::AtMostOnce {
                message.qos = QoS::AtLeastOnce;
                message.pkid = self.free_id();
                self.in_flight.insert(message.pkid, message.clone());
            }
            packets.push(Packet::Publish(message));
        }
        packets
    }

    fn free_id(&mut self) -> u16 {
        loop {
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            if !self.in_flight.contains_key(&self.last_id) {
                return self.last_id;
            }
        }
    }
}

impl State {
    /// Connects a client: gives the number of its connection, whether it had a session, and what wakes the connection.
    fn connect(&mut self, client_id: &str, is_clean: bool) -> (u64, bool, Arc<Notify>) {
        self.connections += 1;
        let old = self.sessions.remove(client_id);
        if let Some(old) = &old {
            // The connection that serves it ends.
            old.wake.notify_one();
        }
        let kept = old.filter(|old| !is_clean && !old.is_clean);
        let is_present = kept.is_some();
        let mut session = kept.unwrap_or_default();
        // What was sent and not acknowledged is sent again, before what is queued.
        for (_, mut message) in std::mem::take(&mut session.in_flight).into_iter().rev() {
            message.dup = true;
            session.queue.push_front(message);
        }
        (session.connection, session.is_clean, session.wake) = (Some(self.connections), is_clean, Arc::default());
        session.wake.notify_one();
        let wake = Arc::clone(&session.wake);
        self.sessions.insert(client_id.to_owned(), session);
        (self.connections, is_present, wake)
    }

    /// The session of `client_id`, if it is still served by `connection`.
    fn session(&mut self, client_id: &str, connection: u64) -> Option<&mut Session> {
        self.sessions.get_mut(client_id).filter(|session| session.connection == Some(connection))
    }

    fn disconnect(&mut self, client_id: &str, connection: u64) {
        let Some(session) = self.session(client_id, connection) else { return };
        session.connection = None;
        if session.is_clean {
            self.sessions.remove(client_id);
        }
    }

    fn publish(&mut self, message: &Publish) {
        if message.retain && message.payload.is_empty() {
            self.retained.remove(&message.topic);
        } else if message.retain {
            self.retained.insert(message.topic.clone(), message.clone());
        }
        for session in self.sessions.values_mut() {
            let fits = session.filters.iter().filter(|(filter, _)| matches(filter, &message.topic));
            if let Some(qos) = fits.map(|(_, qos)| *qos).max_by_key(|qos| *qos as u8) {
                session.add(message, qos, false);
            }
        }
    }

    fn subscribe(&mut self, client_id: &str, connection: u64, subscribe: Subscribe) -> Option<SubAck> {
        let retained = std::mem::take(&mut self.retained);
        let granted = self.session(client_id, connection).map(|session| {
            let codes = subscribe.filters.into_iter().map(|filter| {
                for message in retained.values().filter(|message| matches(&filter.path, &message.topic)) {
                    session.add(message, filter.qos, true);
                }
                session.filters.insert(filter.path, filter.qos);
                SubscribeReasonCode::Success(filter.qos)
            });
            SubAck::new(subscribe.pkid, codes.collect())
        });
        self.retained = retained;
        granted
    }
}

/// Whether `topic` is one of those that `filter` names (MQTT 3.1.1, 4.7).
fn matches(filter: &str, topic: &str) -> bool {
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut levels = topic.split('/');
    for wanted in filter.split('/') {
        match (wanted, levels.next()) {
            ("#", _) => return true,
            (_, None) => return false,
            (wanted, Some(level)) if wanted != "+" && wanted != level => return false,
            _ => {}
        }
    }
    levels.next().is_none()
}

async fn serve(stream: TcpStream, state: Shared) {
    // Otherwise a message waits for the TCP acknowledgement of the one before it.
    drop(stream.set_nodelay(true));
    let codec = Codec { max_incoming_size: PACKET_BYTES_MAX, max_outgoing_size: PACKET_BYTES_MAX };
    let mut connection = Framed::new(stream, codec);
    let first = timeout(Duration::from_secs(CONNECT_S), connection.next()).await;
    let Ok(Some(Ok(Packet::Connect(mut connect)))) = first else { return };
    if connect.protocol != Protocol::V4 {
        let refused = ConnAck::new(ConnectReturnCode::RefusedProtocolVersion, false);
        drop(connection.send(Packet::ConnAck(refused)).await);
        return;
    }
    if connect.client_id.is_empty() {
        let number = lock(&state).connections;
        (connect.client_id, connect.clean_session) = (format!("nameless-{number}"), true);
    }
    let (number, session_present, wake) = lock(&state).connect(&connect.client_id, connect.clean_session);
    let ack = ConnAck::new(ConnectReturnCode::Success, session_present);
    let ended = match connection.send(Packet::ConnAck(ack)).await {
        Ok(()) => exchange(&mut connection, &state, &connect, number, &wake).await,
        Err(error) => Err(error),
    };
    let mut state = lock(&state);
    state.disconnect(&connect.client_id, number);
    if let (Ok(End::Lost) | Err(_), Some(will)) = (ended, connect.last_will) {
        let LastWill { topic, message, qos, retain } = will;
        state.publish(&Publish { retain, ..Publish::from_bytes(topic, qos, message) });
    }
}

/// How a connection ended.
enum End {
    /// The client has disconnected: its will is not published.
    Disconnected,
    /// The client was silent, or another connection took its session over.
    Lost,
}

async fn exchange(
    connection: &mut Connection,
    state: &Shared,
    connect: &Connect,
    number: u64,
    wake: &Notify,
) -> Result<End, PacketError> {
    let client_id = connect.client_id.as_str();
    // MQTT 3.1.1, 3.1.2.10: one and a half times the keep-alive; 0: no limit.
    let silence = Duration::from_millis(u64::from(connect.keep_alive) * 1500);
    let silence = if silence.is_zero() { Duration::MAX } else { silence };
    loop {
        let packet = tokio::select! {
            packet = timeout(silence, connection.next()) => match packet {
                Ok(Some(packet)) => Some(packet?),
                Ok(None) | Err(_) => return Ok(End::Lost),
            },
            () = wake.notified() => None,
        };
        if matches!(packet, Some(Packet::Disconnect)) {
            return Ok(End::Disconnected);
        }
        let packets = {
            let mut state = lock(state);
            let mut packets: Vec<_> =
                packet.and_then(|packet| answer(&mut state, client_id, number, packet)).into_iter().collect();
            let Some(session) = state.session(client_id, number) else { return Ok(End::Lost) };
            packets.extend(session.take());
            packets
        };
        for packet in packets {
            connection.feed(packet).await?;
        }
        connection.flush().await?;
    }
}

/// Carries out a packet of a client; gives the answer.
fn answer(state: &mut State, client_id: &str, number: u64, packet: Packet) -> Option<Packet> {
    match packet {
        Packet::Publish(message) => {
            let is_first = match (message.qos, state.session(client_id, number)) {
                (QoS::ExactlyOnce, Some(session)) => session.received.insert(message.pkid),
                _ => true,
            };
            if is_first {
                state.publish(&message);
            }
            match message.qos {
                QoS::AtMostOnce => None,
                QoS::AtLeastOnce => Some(Packet::PubAck(PubAck::new(message.pkid))),
                QoS::ExactlyOnce => Some(Packet::PubRec(PubRec::new(message.pkid))),
            }
        }
        Packet::PubAck(ack) => {
            state.session(client_id, number)?.in_flight.remove(&ack.pkid);
            None
        }
        Packet::PubRel(release) => {
            state.session(client_id, number)?.received.remove(&release.pkid);
            Some(Packet::PubComp(PubComp::new(release.pkid)))
        }
        Packet::Subscribe(subscribe) => state.subscribe(client_id, number, subscribe).map(Packet::SubAck),
        Packet::Unsubscribe(unsubscribe) => {
            let session = state.session(client_id, number)?;
            session.filters.retain(|filter, _| !unsubscribe.topics.contains(filter));
            Some(Packet::UnsubAck(UnsubAck::new(unsubscribe.pkid)))
        }
        Packet::PingReq => Some(Packet::PingResp),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn a_filter_matches_topics_by_level() {
        let table = [
            ("a/b", "a/b", true),
            ("a/b", "a/b/c", false),
            ("a/b/c", "a/b", false),
            ("a/+/c", "a/b/c", true),
            ("a/+", "a/b/c", false),
            ("+", "a", true),
            ("a/#", "a/b/c", true),
            ("a/#", "a", true),
            ("#", "a/b", true),
            ("#", "$SYS/x", false),
            ("+/x", "$SYS/x", false),
            ("$SYS/#", "$SYS/x", true),
        ];
        for (filter, topic, wanted) in table {
            assert_eq!(matches(filter, topic), wanted, "{filter} and {topic}");
        }
    }
}
