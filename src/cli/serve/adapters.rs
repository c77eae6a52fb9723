//! Where one part speaks to another that must not know it.

use crate::store::Store;
use crate::uplink::{AuditSource, ReadEvents, Stored};

/// Counts Modbus requests for `/metrics`.
pub(super) struct ModbusObserver(pub(super) crate::http::ModbusCounters);

impl crate::portals::modbus::Observer for ModbusObserver {
    fn request(&self, bus: &str, outcome: crate::portals::modbus::Outcome, took: std::time::Duration) {
        self.0.count(bus, outcome.as_str(), took);
    }

    fn late(&self, bus: &str, unit: u8) {
        self.0.count_late(bus, unit);
    }

    fn release(&self, bus: &str, _unit: u8, _channel: u16, how: crate::portals::modbus::Released) {
        self.0.count_release(bus, how.as_str());
    }
}

/// The store as the uplink reads it.
pub(super) struct AuditOf(pub(super) Store);

impl AuditSource for AuditOf {
    fn read(&self, from: u64, max_events: usize, max_bytes: usize) -> ReadEvents {
        let store = self.0.clone();
        Box::pin(async move {
            let events = store.read(from, max_events, max_bytes).await.map_err(|error| error.to_string())?;
            Ok(events.into_iter().map(|e| Stored { n: e.n, body: e.json }).collect())
        })
    }

    fn last_durable(&self) -> u64 {
        self.0.last_durable()
    }

    fn acked(&self) -> u64 {
        self.0.acked()
    }

    fn set_acked(&self, through: u64) {
        self.0.set_acked(through);
    }
}
