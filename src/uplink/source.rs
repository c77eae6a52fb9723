//! Where the uplink reads the audit: the store, behind a small interface.

use std::future::Future;
use std::pin::Pin;

/// One audit event as it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its number.
    pub n: u64,
    /// Its JSON, the bytes that the hash chain speaks of.
    pub body: Vec<u8>,
}

/// The audit on disk and the cursor of what the center has.
pub trait AuditSource: Send + Sync {
    /// Durable events in order, from number `from` on, or from the first one there is after it: at most `max_events`, and no
    /// more than `max_bytes` bytes together unless the first alone is longer. Empty: none yet.
    ///
    /// An error says why the store cannot be read; it is logged and tried again.
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
pub type ReadEvents = Pin<Box<dyn Future<Output = Result<Vec<Stored>, String>> + Send>>;
