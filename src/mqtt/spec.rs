//! What a connection does for its link, beside where it goes and as whom: session, subscriptions, last will.

use std::sync::Arc;

use crate::config::LinkSpec;
use crate::wire::topic::Subscription;

/// Whether the broker keeps subscriptions and QoS 1 messages for an absent client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Session {
    /// Kept: what must arrive late rather than never.
    Persistent,
    /// Not kept: what must never arrive late.
    Clean,
}

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
    /// Last will.
    pub will: Option<Will>,
    /// A topic of our own for the start-up echo; `None`: not measured.
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
