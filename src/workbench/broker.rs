//! A broker inside this process, on loopback, for the demo and the tests.
//!
//! Takes packets as large as MQTT allows, keeps sessions and retained messages in memory only: a stop loses them all, which
//! is what a broker without persistence does on a power cut. Not for production.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use mqtt5::broker::config::{StorageBackend, StorageConfig};
use mqtt5::broker::server::BrokerShutdownHandle;
use mqtt5::broker::{BrokerConfig, MqttBroker};
use tokio::task::JoinHandle;

use crate::mqtt::BrokerUrl;

/// Longest wait for the broker to accept connections or to end, in seconds.
const PATIENCE_S: u64 = 5;
/// How long sessions are kept for an absent client, in seconds.
const SESSION_S: u64 = 3_600;

/// Why the broker does not start.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// Mostly: the port is taken.
    #[error("the embedded broker cannot listen on `{at}`: {why}; is the port taken?")]
    Listen {
        /// Where.
        at: SocketAddr,
        /// Why.
        why: String,
    },
    /// It listens, but does not get ready.
    #[error("the embedded broker is not ready after {PATIENCE_S} s")]
    NotReady,
}

/// A running broker; it ends when this is dropped.
pub struct Broker {
    address: SocketAddr,
    shutdown: BrokerShutdownHandle,
    task: JoinHandle<()>,
}

impl Broker {
    /// Starts a broker on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// [`BrokerError`] if it cannot listen.
    pub async fn start() -> Result<Self, BrokerError> {
        Self::start_at(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await
    }

    /// Starts a broker at `address`, e.g. where another one was stopped.
    ///
    /// # Errors
    /// [`BrokerError`] if it cannot listen.
    pub async fn start_at(address: SocketAddr) -> Result<Self, BrokerError> {
        let listen = |why: String| BrokerError::Listen { at: address, why };
        let config = BrokerConfig {
            bind_addresses: vec![address],
            session_expiry_interval: Duration::from_secs(SESSION_S),
            sys_topics_enabled: false,
            storage_config: StorageConfig::default().with_backend(StorageBackend::Memory),
            ..BrokerConfig::default()
        };
        let mut broker = MqttBroker::with_config(config).await.map_err(|e| listen(e.to_string()))?;
        let address = broker.local_addr().ok_or_else(|| listen("it does not report where it listens".into()))?;
        let shutdown = broker.shutdown_handle();
        let mut ready = broker.ready_receiver();
        let task = tokio::spawn(async move {
            if let Err(error) = broker.run().await {
                tracing::error!("the embedded broker ended: {error}");
            }
        });
        let started = Self { address, shutdown, task };
        match tokio::time::timeout(Duration::from_secs(PATIENCE_S), ready.wait_for(|ready| *ready)).await {
            Ok(Ok(_)) => Ok(started),
            Ok(Err(_)) | Err(_) => Err(BrokerError::NotReady),
        }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it listens, as a link wants it.
    #[must_use]
    pub fn url(&self) -> BrokerUrl {
        BrokerUrl { tls: false, host: self.address.ip().to_string(), port: self.address.port() }
    }

    /// Ends it, with all connections, sessions and retained messages. Gives the address, to start another one there.
    pub async fn stop(mut self) -> SocketAddr {
        self.shutdown.shutdown();
        if tokio::time::timeout(Duration::from_secs(PATIENCE_S), &mut self.task).await.is_err() {
            self.task.abort();
        }
        self.address
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.shutdown.shutdown();
    }
}
