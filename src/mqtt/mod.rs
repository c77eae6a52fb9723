//! One connection to an MQTT broker, as both links and the simulators use it.
//!
//! It owns connecting (URLs in turn, TLS, back-off), subscriptions, the outbox of what has not been delivered, and which
//! received message may still be acknowledged. It does not know what a topic or a payload means.
//!
//! The client (`rumqttc`) forgets what it was given when a session is lost and loops on its own leftovers, so it is never
//! relied on for more than one connection: each connection gets a fresh client, and everything that must outlive
//! one is in [`Outbox`].

mod backoff;
mod connect;
mod connection;
mod echo;
mod faults;
mod link_state;
mod metrics;
mod outbox;
pub mod probe;
mod pump;
mod tls;

/// Longest packet that a link to devices receives, in bytes. What a portal publishes has some hundred. What is longer than a portal's
/// message may be is received all the same, so that its portal can be named; a packet beyond this ends the connection, and with
/// it what all others send meanwhile.
pub const DEVICE_PACKET_BYTES_MAX: usize = 1024 * 1024;

pub use crate::config::{BrokerUrl, ClientCert, Credentials, LinkSpec, Secret, Session};
pub use backoff::{BACKOFF_MAX_MS, BACKOFF_MIN_MS, STABLE_MS};
pub use connect::{LinkError, Setup, Will};
pub use connection::{AckToken, Connection, Event, Message};
pub use echo::{ECHO_COUNT, ECHO_SLOW_MS};
pub use faults::{BrokerFault, BrokerFaults};
pub use link_state::LinkState;
pub use metrics::{Exported, LinkMetrics};
pub use outbox::{
    MessageId, OUTBOX_BYTES_MAX, OUTBOX_MESSAGES_MAX, Outbox, Outgoing, PAYLOAD_BYTES_MAX, PublishError, Retention,
    WINDOW_MAX,
};
pub use tls::tls_config;
