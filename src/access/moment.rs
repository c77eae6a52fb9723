//! When an event was recorded, and how long ago that is.

use serde::{Deserialize, Serialize};

use super::id::{ClockTrust, Now, Timestamp};

/// When an event was recorded, for what remembers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    /// By the wall clock.
    pub at: Timestamp,
    /// Whether the wall clock could be trusted.
    pub clock: ClockTrust,
    /// The event.
    pub n: u64,
    /// By the monotonic clock of the run that recorded it, in milliseconds.
    pub mono_ms: u64,
}

impl Moment {
    /// How long ago it was, in milliseconds: by the monotonic clock within the run whose first event is behind `boot_n`, else by the
    /// wall clock if that can be trusted; `None`: not known.
    #[must_use]
    pub fn age_ms(&self, boot_n: u64, now: Now) -> Option<u64> {
        if self.n > boot_n {
            return Some(now.mono.0.saturating_sub(self.mono_ms));
        }
        let both_trusted = self.clock == ClockTrust::Trusted && now.clock == ClockTrust::Trusted;
        both_trusted.then(|| now.wall.0.checked_sub(self.at.0).and_then(|ms| u64::try_from(ms).ok())).flatten()
    }
}
