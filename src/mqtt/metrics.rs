//! Numbers of one link, for `/metrics` and the console. Plain atomics: whoever exports them reads.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Counters and gauges of one link.
#[derive(Debug, Default)]
pub struct LinkMetrics {
    /// Connected and subscribed.
    pub up: AtomicBool,
    /// Connections made since the start.
    pub connects: AtomicU64,
    /// Connections lost since the start.
    pub disconnects: AtomicU64,
    /// Connection attempts that failed.
    pub failed_attempts: AtomicU64,
    /// Disconnects that look as if another client used our client id.
    pub takeovers: AtomicU64,
    /// Sessions given up because the broker kept sending something that could not be decoded.
    pub session_resets: AtomicU64,
    /// Subscriptions that the broker refused.
    pub refused_subscriptions: AtomicU64,
    /// Messages received.
    pub received: AtomicU64,
    /// Messages refused at the edge: not signed, retained, malformed, too large.
    pub rejected: AtomicU64,
    /// Requests or reports dropped because the gateway was too far behind.
    pub overflowed: AtomicU64,
    /// Messages handed to the broker.
    pub published: AtomicU64,
    /// Messages dropped unsent because they were too old to do good.
    pub dropped_stale: AtomicU64,
    /// Messages dropped because the outbox was full or the message too large.
    pub dropped_full: AtomicU64,
    /// Messages not yet delivered.
    pub outbox: AtomicU64,
    /// Median of the last start-up echo, in microseconds; 0: not measured.
    pub echo_us: AtomicU64,
}

impl LinkMetrics {
    /// Adds one to `counter`.
    pub fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether the link is connected and subscribed.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.up.load(Ordering::Relaxed)
    }
}
