//! When the gateway's state is published. Pure: it is told the time.

use std::time::Duration;

use tokio::time::Instant;

/// Shortest time between two publications, in seconds (wire contract, section 3).
pub const STATE_MIN_S: u64 = 1;
/// Longest time between two publications, in seconds (wire contract, section 3).
pub const STATE_MAX_S: u64 = 60;

/// Paces the publication of something that changes: at once, but not too often, and never too seldom.
#[derive(Debug)]
pub struct Pace<T> {
    newest: Option<T>,
    last: Option<Instant>,
}

impl<T> Default for Pace<T> {
    fn default() -> Self {
        Self { newest: None, last: None }
    }
}

impl<T> Pace<T> {
    /// Something newer is to be published; what waited is forgotten.
    pub fn put(&mut self, value: T) {
        self.newest = Some(value);
    }

    /// What may be published now.
    pub fn take(&mut self, now: Instant) -> Option<T> {
        if self.last.is_some_and(|last| now - last < Duration::from_secs(STATE_MIN_S)) {
            return None;
        }
        let value = self.newest.take()?;
        self.last = Some(now);
        Some(value)
    }

    /// Whether nothing was published for so long that it should be asked for.
    #[must_use]
    pub fn is_overdue(&self, now: Instant) -> bool {
        self.newest.is_none() && self.last.is_none_or(|last| now - last >= Duration::from_secs(STATE_MAX_S))
    }

    /// What was published is no longer there, e.g. because the last will has replaced it: publish anew at once.
    pub fn start_again(&mut self) {
        self.last = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_of_changes_is_published_once_a_second_with_the_newest() {
        let now = Instant::now();
        let ms = |ms| now + Duration::from_millis(ms);
        let mut pace = Pace::default();
        assert!(pace.is_overdue(now));
        pace.put(1);
        assert_eq!(pace.take(now), Some(1));
        pace.put(2);
        pace.put(3);
        assert_eq!(pace.take(ms(999)), None);
        assert_eq!(pace.take(ms(1000)), Some(3));
        assert_eq!(pace.take(ms(3000)), None);
        assert!(!pace.is_overdue(ms(60_999)));
        assert!(pace.is_overdue(ms(61_000)));
        pace.start_again();
        pace.put(4);
        assert_eq!(pace.take(ms(1001)), Some(4));
    }
}
