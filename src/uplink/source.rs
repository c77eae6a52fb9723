//! Where the uplink reads the audit.

use std::future::Future;
use std::pin::Pin;

use crate::store::{Store, StoredEvent};

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
