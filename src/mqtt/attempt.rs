//! One attempt to connect. Only this file, `driver` and `connection` know the client below.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use rumqttc::{
    AsyncClient, ConnectionError, Event, LastWill, MqttOptions, NetworkOptions, Packet, QoS, StateError,
    SubscribeFilter, TlsConfiguration, Transport,
};

use super::driver::Driver;
use super::spec::{Session, Setup};
use super::tls;
use crate::config::{BrokerUrl, LinkSpec};
use crate::wire::topic::Qos;

/// A silent broker is noticed after at most twice this time, in seconds.
const KEEP_ALIVE_S: u64 = 5;
/// Longest wait for TCP, TLS and CONNACK together, and for one write, in seconds.
const NETWORK_S: u64 = 3;
/// Longest wait for reading the TLS files, in seconds.
const TLS_FILES_S: u64 = 3;
/// Packets beyond this are a protocol error, in bytes. MQTT's own limit: a smaller one of ours would end the connection at
/// the same queued message again and again. Too long a message is refused after it was received.
const PACKET_BYTES_MAX: usize = 268_435_456;
/// Unconfirmed messages at which the client would hold back everything; [`super::WINDOW_MAX`] stays far below.
const CLIENT_WINDOW: u16 = 1_024;
/// Requests under way to the client: the window and the acknowledgements of a burst.
const CLIENT_REQUESTS: usize = 1_024;

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A connection that the broker has accepted.
pub(super) struct Accepted {
    pub(super) client: AsyncClient,
    pub(super) driver: Driver,
    pub(super) session_present: bool,
}

/// Why an attempt failed or a connection ended.
#[derive(Debug)]
pub(super) enum Loss {
    /// The network, the broker's refusal, a file.
    Ordinary(String),
    /// The broker said something that cannot be read or was not asked for.
    Unreadable(String),
}

impl Loss {
    pub(super) fn text(&self) -> &str {
        match self {
            Self::Ordinary(text) | Self::Unreadable(text) => text,
        }
    }
}

pub(super) type Attempt = BoxFuture<Result<Accepted, Loss>>;

/// Connects to `url`, for the connection of this number. `clean`: give up whatever session the broker keeps.
pub(super) fn connect(spec: LinkSpec, setup: &Setup, url: BrokerUrl, clean: bool, number: u64) -> Attempt {
    let clean = clean || setup.session == Session::Clean;
    let will = setup.will.clone();
    Box::pin(async move {
        let mut options = MqttOptions::new(&spec.client_id, &url.host, url.port);
        options
            .set_keep_alive(Duration::from_secs(KEEP_ALIVE_S))
            .set_clean_session(clean)
            .set_manual_acks(true)
            .set_inflight(CLIENT_WINDOW)
            .set_max_packet_size(PACKET_BYTES_MAX, PACKET_BYTES_MAX);
        if let Some(will) = will {
            options.set_last_will(LastWill::new(will.topic, (will.payload)(number), QoS::AtLeastOnce, will.retain));
        }
        if let Some(own) = &spec.credentials {
            options.set_credentials(&own.username, own.password.as_ref().map_or("", |p| p.expose()));
        }
        if url.tls {
            let reading = tokio::task::spawn_blocking(move || tls::client_config(&spec));
            let config = match tokio::time::timeout(Duration::from_secs(TLS_FILES_S), reading).await {
                Ok(Ok(Ok(config))) => config,
                Ok(Ok(Err(error))) => return Err(Loss::Ordinary(error.to_string())),
                Ok(Err(error)) => return Err(Loss::Ordinary(error.to_string())),
                Err(_) => return Err(Loss::Ordinary(format!("the TLS files took more than {TLS_FILES_S} s to read"))),
            };
            options.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(config)));
        }
        let (client, mut events) = AsyncClient::new(options, CLIENT_REQUESTS);
        let mut network = NetworkOptions::new();
        network.set_tcp_nodelay(true);
        network.set_connection_timeout(NETWORK_S);
        events.set_network_options(network);
        let mut driver = Driver::new(events);
        match driver.next().await? {
            Event::Incoming(Packet::ConnAck(connack)) => {
                Ok(Accepted { client, driver, session_present: connack.session_present })
            }
            Event::Incoming(_) | Event::Outgoing(_) => {
                Err(Loss::Unreadable("the broker did not begin with CONNACK".into()))
            }
        }
    })
}

pub(super) fn loss(error: &ConnectionError) -> Loss {
    let text = error.to_string();
    match error {
        ConnectionError::MqttState(state) => match state {
            StateError::Io(_) | StateError::ConnectionAborted | StateError::AwaitPingResp => Loss::Ordinary(text),
            StateError::Deserialization(rumqttc::Error::Io(_)) => Loss::Ordinary(text),
            StateError::InvalidState
            | StateError::Unsolicited(_)
            | StateError::WrongPacket
            | StateError::CollisionTimeout
            | StateError::EmptySubscription
            | StateError::Deserialization(_) => Loss::Unreadable(text),
        },
        ConnectionError::NotConnAck(_) => Loss::Unreadable(text),
        ConnectionError::NetworkTimeout => Loss::Ordinary(format!("no answer within {NETWORK_S} s")),
        ConnectionError::FlushTimeout => Loss::Ordinary(format!("the broker took no bytes for {NETWORK_S} s")),
        ConnectionError::Tls(_)
        | ConnectionError::Io(_)
        | ConnectionError::ConnectionRefused(_)
        | ConnectionError::RequestsDone => Loss::Ordinary(text),
    }
}

/// The subscriptions of `setup`, as the client wants them.
pub(super) fn filters(setup: &Setup) -> Vec<SubscribeFilter> {
    let echo = setup.echo_topic.iter().map(|topic| (topic, Qos::AtLeastOnce));
    let wanted = setup.subscriptions.iter().map(|s| (&s.filter, s.qos)).chain(echo);
    wanted.map(|(filter, at_most)| SubscribeFilter::new(filter.clone(), qos(at_most))).collect()
}

/// The client's word for `wanted`.
pub(super) fn qos(wanted: Qos) -> QoS {
    match wanted {
        Qos::AtMostOnce => QoS::AtMostOnce,
        Qos::AtLeastOnce => QoS::AtLeastOnce,
    }
}
