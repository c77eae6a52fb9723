//! What the core needs of the store.

use crate::access::event::Record;
use crate::store::Store;

/// Where records go. The store is one; a simulation has another.
pub trait Journal {
    /// Takes records in order. Never waits; what cannot be kept is reported later as lost.
    fn append(&mut self, records: Vec<Record>);

    /// Writes down the state as it is on disk, so that a restart need not replay all of it.
    fn request_generation(&self) {}

    /// The last event that the center has. The uplink moves it.
    fn acked(&self) -> u64 {
        0
    }
}

impl Journal for Store {
    fn append(&mut self, records: Vec<Record>) {
        Store::append(self, records);
    }

    fn request_generation(&self) {
        Store::request_generation(self);
    }

    fn acked(&self) -> u64 {
        Store::acked(self)
    }
}

#[cfg(test)]
impl Journal for () {
    fn append(&mut self, _records: Vec<Record>) {}
}
