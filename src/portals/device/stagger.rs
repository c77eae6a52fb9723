//! Rooms with one supply are switched on one after another: lamps, kettles and chargers draw most at the first moment.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Time between two outputs with one supply that are switched on, in milliseconds.
pub const STAGGER_MS: u64 = 150;
/// Longest wait for one's turn, in milliseconds; a grant that would wait longer fails.
pub(super) const STAGGER_MS_MAX: u64 = 60_000;

/// Whose turn it is to be switched on, for all outputs with one supply.
#[derive(Debug)]
pub struct Stagger(Mutex<Instant>);

impl Stagger {
    /// Nobody waits.
    #[must_use]
    pub fn new() -> Self {
        Self(Mutex::new(Instant::now()))
    }

    /// When the next one may be switched on; `None`: too many wait.
    pub(super) fn turn(&self) -> Option<Instant> {
        let now = Instant::now();
        let mut next = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = (*next).max(now);
        if turn.duration_since(now) > Duration::from_millis(STAGGER_MS_MAX) {
            return None;
        }
        *next = turn + Duration::from_millis(STAGGER_MS);
        Some(turn)
    }
}

impl Default for Stagger {
    fn default() -> Self {
        Self::new()
    }
}
