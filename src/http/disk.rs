//! The room on the disk of the data directory, asked for beside everything else: a disk that hangs holds up nobody.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use crate::store::free_bytes;

/// How often the room is asked for.
const EVERY: Duration = Duration::from_secs(10);
/// Not known.
const UNKNOWN: u64 = u64::MAX;

/// The room as it was found last. Cheap to clone; clones share it.
#[derive(Clone, Debug)]
pub struct DiskRoom(Arc<AtomicU64>);

impl Default for DiskRoom {
    fn default() -> Self {
        Self(Arc::new(AtomicU64::new(UNKNOWN)))
    }
}

impl DiskRoom {
    /// Bytes that may still be written; `None`: not known.
    pub(crate) fn free_bytes(&self) -> Option<u64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|bytes| *bytes != UNKNOWN)
    }

    /// So many bytes were found; `None`: the disk did not answer.
    pub fn found(&self, bytes: Option<u64>) {
        self.0.store(bytes.unwrap_or(UNKNOWN), Ordering::Relaxed);
    }

    /// Asks for the room of the disk of `dir` again and again. While the disk does not answer, it is not asked a second time.
    pub async fn watch(self, dir: PathBuf) {
        loop {
            let asked = dir.clone();
            let found = tokio::task::spawn_blocking(move || free_bytes(&asked)).await;
            self.found(found.ok().and_then(Result::ok));
            tokio::time::sleep(EVERY).await;
        }
    }

    /// Shows the room at `/metrics`.
    pub fn register(self, registry: &mut Registry) {
        registry.register_collector(Box::new(self));
    }
}

impl Collector for DiskRoom {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let Some(bytes) = self.free_bytes() else { return Ok(()) };
        let help = "Bytes free on the disk of the data directory";
        ConstGauge::new(bytes).encode(encoder.encode_descriptor("disk_free_bytes", help, None, MetricType::Gauge)?)
    }
}
