//! The audit on its way: where it is read, in batches, published, and followed by the cursor.

use std::pin::Pin;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{debug, error, warn};

use super::Uplink;
use super::decode::Decoder;
use super::feed::{self, BATCH_BYTES_MAX, BATCH_EVENTS_MAX, RESEND_S};
use crate::access::id::Timestamp;
use crate::access::input::Input;
use crate::mqtt::Retention;
use crate::store::{Store, StoredEvent};
use crate::wire::topic::Up;
use crate::wire::up;

/// Pause after the audit could not be read or sent, in seconds.
const READ_AGAIN_S: u64 = 5;

/// The audit on disk and the cursor of what the center has: the store, or memory in tests.
pub trait AuditSource: Send + Sync {
    /// Durable events in order, from number `from` on, or from the first one there is after it: at most `max_events`, and no
    /// more than `max_bytes` bytes together unless the first alone is longer. Empty: none yet.
    ///
    /// An error reports why the store cannot be read; it is logged and tried again.
    fn read(&self, from: u64, max_events: usize, max_bytes: usize) -> ReadEvents;

    /// The last event on disk; 0: none.
    fn last_durable(&self) -> u64;

    /// The last event that the center has; 0: none. As on disk.
    fn acked(&self) -> u64;

    /// The center has everything through this event. Need not be on disk on return: an older cursor only makes events be
    /// sent again. Must not block.
    fn set_acked(&self, through: u64);
}

/// The future of [`AuditSource::read`].
pub type ReadEvents = Pin<Box<dyn Future<Output = Result<Vec<StoredEvent>, String>> + Send>>;

impl AuditSource for Store {
    fn read(&self, from: u64, max_events: usize, max_bytes: usize) -> ReadEvents {
        let store = self.clone();
        Box::pin(
            async move { Store::read(&store, from, max_events, max_bytes).await.map_err(|error| error.to_string()) },
        )
    }

    fn last_durable(&self) -> u64 {
        Store::last_durable(self)
    }

    fn acked(&self) -> u64 {
        Store::acked(self)
    }

    fn set_acked(&self, through: u64) {
        Store::set_acked(self, through);
    }
}

impl Uplink {
    /// The center has the audit through event `through`; what is wrong with that, if anything is.
    pub(super) fn audit_acked(&mut self, through: u64, payload: &[u8], now: Timestamp) -> Option<Input> {
        match self.feed.acknowledged(through, self.audit.last_durable(), Instant::now()) {
            Ok(Some(cursor)) => {
                self.audit.set_acked(cursor);
                self.broker.audit_acknowledged();
                self.read_audit();
                None
            }
            Ok(None) => None,
            Err(feed::AckError::NotSent { .. }) => {
                // A late answer to an earlier run: its events are sent again and answered again.
                debug!(link = "uplink", through, "an audit-ack for events not sent in this run; ignored");
                None
            }
            Err(why @ feed::AckError::Beyond { .. }) => Some(Decoder::refuse_audit_ack(payload, &why.to_string(), now)),
        }
    }

    /// Begins to read the next batch of the audit, if one is to be sent.
    pub(super) fn read_audit(&mut self) {
        if self.reading.is_some() || !self.connection.is_up() || self.read_again.is_some_and(|at| Instant::now() < at) {
            return;
        }
        if let Some(from) = self.feed.wants(self.audit.last_durable()) {
            let events = self.audit.read(from, BATCH_EVENTS_MAX, BATCH_BYTES_MAX);
            self.reading = Some(Box::pin(async move { (from, events.await) }));
        }
    }

    pub(super) fn send_audit(&mut self, from: u64, events: Result<Vec<StoredEvent>, String>) {
        let now = Instant::now();
        self.read_again = None;
        // One line for as long as it lasts.
        let is_again = std::mem::take(&mut self.read_failed);
        let events = match events {
            Ok(events) => events,
            Err(why) => {
                if !is_again {
                    error!(link = "uplink", "the audit cannot be read; tried again each {READ_AGAIN_S} s: {why}");
                }
                self.read_failed = true;
                self.read_again = Some(now + Duration::from_secs(READ_AGAIN_S));
                return;
            }
        };
        // A reconnect or an audit-ack may have moved on while this was read.
        if self.feed.wants(self.audit.last_durable()) != Some(from) {
            return self.read_audit();
        }
        let Some(first) = events.first().map(|e| e.n) else {
            if !is_again {
                warn!(link = "uplink", from, "events on disk cannot be read; tried again each {READ_AGAIN_S} s");
            }
            self.read_failed = true;
            self.read_again = Some(now + Duration::from_secs(READ_AGAIN_S));
            return;
        };
        // One batch has no hole; what the store has dropped lies between batches, and the batch behind it reports where it began.
        let run =
            events.iter().zip(first..=u64::MAX).take_while(|(event, n)| event.n == *n).map(|(event, _)| &event.json);
        let run = run.collect::<Vec<_>>();
        let Some(body) = up::encode_audit(&self.boot, from.saturating_sub(1), first, &run) else { return };
        let last = first.saturating_add(u64::try_from(run.len()).unwrap_or(1).saturating_sub(1));
        // The feed sends it again, not the outbox.
        let retention = Retention::Until(now + Duration::from_secs(RESEND_S));
        match self.publish(Up::Audit, body, retention) {
            Ok(id) => {
                self.feed.sent(last, id, now);
                self.read_audit();
            }
            Err(why) => {
                warn!(link = "uplink", "a batch of the audit has to wait: {why}");
                self.read_again = Some(now + Duration::from_secs(READ_AGAIN_S));
            }
        }
    }
}
