//! The start-up echo: a few messages to ourselves through the broker, to notice a stalling connection in the field.
//!
//! A broker without TCP_NODELAY adds 44 ms to every QoS 1 round trip, and nothing else would show it.

use std::time::Duration;

use tokio::time::Instant;

/// Messages sent to ourselves after a connect.
pub const ECHO_COUNT: u32 = 5;
/// A median above this is worth a warning, in milliseconds.
pub const ECHO_SLOW_MS: u64 = 20;

/// One measurement.
#[derive(Debug)]
pub(super) struct Echo {
    generation: u64,
    sent: Option<(u32, Instant)>,
    took: Vec<Duration>,
}

impl Echo {
    pub(super) fn new(generation: u64) -> Self {
        Self { generation, sent: None, took: Vec::new() }
    }

    /// The payload to send next; `None` when done.
    pub(super) fn send(&mut self, now: Instant) -> Option<Vec<u8>> {
        let number = u32::try_from(self.took.len()).ok().filter(|n| *n < ECHO_COUNT)?;
        self.sent = Some((number, now));
        Some(self.payload(number))
    }

    fn payload(&self, number: u32) -> Vec<u8> {
        format!("{{\"v\":1,\"connection\":{},\"echo\":{number}}}", self.generation).into_bytes()
    }

    /// Takes an echo. `true`: it was the one waited for.
    pub(super) fn received(&mut self, payload: &[u8], now: Instant) -> bool {
        match self.sent {
            Some((number, at)) if self.payload(number) == payload => {
                self.sent = None;
                self.took.push(now - at);
                true
            }
            Some(_) | None => false,
        }
    }

    /// The median, once all echoes are received.
    pub(super) fn median(&self) -> Option<Duration> {
        median(self.took.clone()).filter(|_| self.took.len() >= ECHO_COUNT as usize)
    }
}

/// The median of these times; `None`: there is no time.
pub(super) fn median(mut took: Vec<Duration>) -> Option<Duration> {
    took.sort_unstable();
    took.get(took.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_known_after_the_last_echo_and_foreign_messages_do_not_count() {
        let start = Instant::now();
        let mut echo = Echo::new(3);
        for ms in [40, 1, 50, 2, 45] {
            let payload = echo.send(start).unwrap();
            assert!(!echo.received(b"{}", start));
            assert_eq!(echo.median(), None);
            assert!(echo.received(&payload, start + Duration::from_millis(ms)));
            assert!(!echo.received(&payload, start));
        }
        assert_eq!(echo.send(start), None);
        assert_eq!(echo.median(), Some(Duration::from_millis(40)));
    }
}
