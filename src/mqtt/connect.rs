//! What a connection is made of, and one attempt to make it. Only this file, `pump` and `connection` know the MQTT client.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use rumqttc::{
    AsyncClient, Event, LastWill, MqttOptions, NetworkOptions, Packet, QoS, SubscribeFilter, TlsConfiguration,
    Transport,
};
use tracing::warn;

use super::pump::{DisconnectReason, EventPump, NETWORK_S};
use super::tls::{TlsFiles, tls_config};
use crate::config::{BrokerUrl, Credentials, LinkSpec, Secret, Session};
use crate::wire::topic::{Qos, Subscription};

/// A silent broker is noticed after at most twice this time, in seconds.
const KEEP_ALIVE_S: u64 = 5;
/// The same where there are several brokers: a dead one whose connection stays open is left for the next within 5 s. A single one
/// is not left sooner than need be, because there is nowhere to go and each ping is work for the broker of a whole campus.
const KEEP_ALIVE_OF_SEVERAL_S: u64 = 2;
const _: () =
    assert!(2 * KEEP_ALIVE_OF_SEVERAL_S * 1000 + super::BACKOFF_MIN_MS < 5_000, "a dead broker is left within 5 s");
/// Longest wait for reading the TLS files, and for reading the password, in seconds.
const TLS_FILES_S: u64 = 3;
/// Longest packet that is sent, in bytes: MQTT's own limit. [`super::PAYLOAD_BYTES_MAX`] stays far below.
const SENT_BYTES_MAX: usize = 268_435_456;
/// Unconfirmed messages at which the client would hold back everything; [`super::WINDOW_MAX`] stays far below.
const CLIENT_WINDOW: u16 = 1_024;
/// Requests under way to the client: the window and the acknowledgements of a burst.
const CLIENT_REQUESTS: usize = 1_024;

/// What the broker publishes, with QoS 1, when the connection breaks.
#[derive(Clone)]
pub struct Will {
    /// Where.
    pub topic: String,
    /// Whether the broker keeps it for later subscribers.
    pub retain: bool,
    /// What, by the number of the connection, from 1.
    pub payload: Arc<dyn Fn(u64) -> Vec<u8> + Send + Sync>,
}

/// What a link does with its connection.
#[derive(Clone)]
pub struct Setup {
    /// The link's name in logs: `uplink`, `local`.
    pub link: &'static str,
    /// What the broker keeps.
    pub session: Session,
    /// Subscribed on every connect.
    pub subscriptions: Vec<Subscription>,
    /// Longest packet that is received, in bytes. A longer one is a protocol error and ends the connection; where the broker keeps the
    /// session, the session is given up when that happens again and again.
    pub packet_bytes_max: usize,
    /// Last will.
    pub will: Option<Will>,
    /// A topic of this link's own for the start-up echo; `None`: not measured.
    pub echo_topic: Option<String>,
}

/// Why a connection cannot even be tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// Nowhere to connect to.
    #[error("`urls` is empty; name at least one broker")]
    NoUrls,
    /// The broker keeps a session by the client's id.
    #[error("`client_id` is empty; a broker that keeps a session needs one")]
    NoClientId,
    /// No thread can be started for it.
    #[error("no thread can be started for the link: {0}")]
    Thread(std::io::ErrorKind),
}

/// Whether a connection can be tried at all.
pub(super) fn check(link: &LinkSpec) -> Result<(), LinkError> {
    if link.urls.is_empty() {
        return Err(LinkError::NoUrls);
    }
    if link.client_id.is_empty() {
        return Err(LinkError::NoClientId);
    }
    Ok(())
}

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A connection that the broker has accepted.
pub(super) struct Accepted {
    pub(super) client: AsyncClient,
    pub(super) pump: EventPump,
    pub(super) session_present: bool,
}

pub(super) type Attempt = BoxFuture<Result<Accepted, DisconnectReason>>;

/// What is particular to one attempt.
pub(super) struct Try {
    /// Where.
    pub(super) url: BrokerUrl,
    /// The number of the connection.
    pub(super) number: u64,
    /// Give up whatever session the broker keeps.
    pub(super) clean: bool,
    /// Brokers were slow to answer lately: a server of a cluster that elects a leader answers no pings for seconds.
    pub(super) patient: bool,
}

/// Connects to a broker.
pub(super) fn connect(spec: LinkSpec, tls_files: Arc<TlsFiles>, setup: &Setup, attempt: Try) -> Attempt {
    let Try { url, number, clean, patient } = attempt;
    let clean = clean || setup.session == Session::Clean;
    let (will, packet_bytes_max) = (setup.will.clone(), setup.packet_bytes_max);
    let keep_alive_s = if spec.urls.len() > 1 && !patient { KEEP_ALIVE_OF_SEVERAL_S } else { KEEP_ALIVE_S };
    Box::pin(async move {
        let mut options = MqttOptions::new(&spec.client_id, &url.host, url.port);
        options
            .set_keep_alive(Duration::from_secs(keep_alive_s))
            .set_clean_session(clean)
            .set_manual_acks(true)
            .set_inflight(CLIENT_WINDOW)
            .set_max_packet_size(packet_bytes_max, SENT_BYTES_MAX);
        if let Some(will) = will {
            options.set_last_will(LastWill::new(will.topic, (will.payload)(number), QoS::AtLeastOnce, will.retain));
        }
        if let Some(own) = &spec.credentials {
            let password = password(own.clone()).await;
            options.set_credentials(&own.username, password.as_ref().map_or("", |p| p.expose()));
        }
        if url.tls {
            let reading = tokio::task::spawn_blocking(move || tls_config(&spec));
            let config = match tokio::time::timeout(Duration::from_secs(TLS_FILES_S), reading).await {
                Ok(Ok(read)) => read,
                Ok(Err(error)) => Err(error.to_string()),
                Err(_) => Err(format!("the TLS files took more than {TLS_FILES_S} s to read")),
            };
            let config = tls_files.in_force(config).map_err(DisconnectReason::Network)?;
            options.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(config)));
        }
        let (client, mut events) = AsyncClient::new(options, CLIENT_REQUESTS);
        let mut network = NetworkOptions::new();
        network.set_tcp_nodelay(true);
        network.set_connection_timeout(NETWORK_S);
        events.set_network_options(network);
        let mut pump = EventPump::new(events);
        match pump.next().await? {
            Event::Incoming(Packet::ConnAck(connack)) => {
                Ok(Accepted { client, pump, session_present: connack.session_present })
            }
            Event::Incoming(_) | Event::Outgoing(_) => {
                Err(DisconnectReason::Protocol("the broker did not begin with CONNACK".into()))
            }
        }
    })
}

/// The password for this connection. While its file cannot be read, the one of the start stays in force.
async fn password(own: Credentials) -> Option<Secret> {
    let at_start = own.password.clone();
    let reading = tokio::task::spawn_blocking(move || own.current_password());
    let (password, why) = match tokio::time::timeout(Duration::from_secs(TLS_FILES_S), reading).await {
        Ok(Ok(Ok(password))) => return password,
        Ok(Ok(Err(failed))) => failed,
        Ok(Err(error)) => (at_start, error.to_string()),
        Err(_) => (at_start, format!("it took more than {TLS_FILES_S} s to read")),
    };
    warn!("cannot read the broker's password: {why}; the one of the start is used until `password_file` is put right");
    password
}

/// The subscriptions of `setup`, as the client wants them.
pub(super) fn filters(setup: &Setup) -> Vec<SubscribeFilter> {
    let echo = setup.echo_topic.iter().map(|topic| (topic, Qos::AtLeastOnce));
    let wanted = setup.subscriptions.iter().map(|s| (&s.filter, s.qos)).chain(echo);
    wanted.map(|(filter, at_most)| SubscribeFilter::new(filter.clone(), qos(at_most))).collect()
}

/// `wanted` as the client names it.
pub(super) fn qos(wanted: Qos) -> QoS {
    match wanted {
        Qos::AtMostOnce => QoS::AtMostOnce,
        Qos::AtLeastOnce => QoS::AtLeastOnce,
    }
}
