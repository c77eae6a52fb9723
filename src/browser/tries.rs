//! What was tried in the last minute, by address, so that nobody can guess a token or a UID.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

/// Addresses that are counted at once; beyond, all others share one count.
const ADDRESSES_MAX: usize = 4_096;
/// How long a try counts.
pub const MINUTE: Duration = Duration::from_secs(60);

/// See the module's head.
pub struct Tries {
    from_one_max: u32,
    in_sum_max: u32,
    counts: Mutex<Counts>,
}

struct Counts {
    since: Instant,
    in_sum: u32,
    by_address: HashMap<Option<IpAddr>, u32>,
}

impl Counts {
    fn new() -> Self {
        Self { since: Instant::now(), in_sum: 0, by_address: HashMap::new() }
    }

    /// Under which key an address is counted.
    fn key(&self, from: Option<IpAddr>) -> Option<IpAddr> {
        from.filter(|_| self.by_address.contains_key(&from) || self.by_address.len() < ADDRESSES_MAX)
    }
}

impl Tries {
    /// So many in a minute are borne, from one address and from all together.
    #[must_use]
    pub fn new(from_one_max: u32, in_sum_max: u32) -> Self {
        Self { from_one_max, in_sum_max, counts: Mutex::new(Counts::new()) }
    }

    /// Whether there were too many in this minute, from the address or in sum.
    pub fn are_too_many(&self, from: Option<IpAddr>) -> bool {
        let counts = self.current();
        let from_one = counts.by_address.get(&counts.key(from)).copied().unwrap_or(0);
        from_one >= self.from_one_max || counts.in_sum >= self.in_sum_max
    }

    /// One more.
    pub fn count(&self, from: Option<IpAddr>) {
        let mut counts = self.current();
        let key = counts.key(from);
        let from_one = counts.by_address.entry(key).or_insert(0);
        *from_one = from_one.saturating_add(1);
        counts.in_sum = counts.in_sum.saturating_add(1);
    }

    /// Addresses that are counted at the moment.
    #[cfg(test)]
    pub fn addresses(&self) -> usize {
        self.current().by_address.len()
    }

    fn current(&self) -> std::sync::MutexGuard<'_, Counts> {
        let mut counts = crate::lock(&self.counts);
        if counts.since.elapsed() >= MINUTE {
            *counts = Counts::new();
        }
        counts
    }
}
