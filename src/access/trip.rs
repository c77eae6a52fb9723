//! Trips of power boxes: too much load, or a load that the rules forbid. What counts of them survives a restart.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::change::SuspendReason;
use super::event::Moment;
use super::id::Now;

/// The time in which trips are counted, in milliseconds.
pub const TRIPS_WINDOW_MS: u64 = 86_400_000;
/// Trips that are remembered of one box, the newest; `policy.trip_retries` is at most as many.
pub const TRIPS_KEPT_MAX: u8 = 16;

/// The trip for which a power box is off now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trip {
    /// Why it tripped.
    pub reason: SuspendReason,
    /// What keeps it off.
    pub holds: Hold,
}

/// What keeps a power box off that tripped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// Its rest, for so many milliseconds yet.
    Rest(u64),
    /// It tripped too often: it stays off until somebody ends that.
    StaysOff,
    /// The alarm input that tripped it is still active.
    Input,
}

impl fmt::Display for Trip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reason = self.reason.as_str();
        match self.holds {
            Hold::Rest(ms) => write!(f, "tripped for {reason}, back in {} s", ms.div_ceil(1000)),
            Hold::StaysOff => write!(f, "tripped for {reason}, off until `resume_power` or a command `power` on"),
            Hold::Input => write!(f, "tripped for {reason}, its alarm input is still active"),
        }
    }
}

/// One trip as it is remembered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TripRecord {
    /// Why.
    pub reason: SuspendReason,
    /// It was one too many: the box stays off.
    pub stays_off: bool,
    /// When.
    pub moment: Moment,
}

impl TripRecord {
    /// How long ago it was, in milliseconds, as [`Moment::age_ms`]; where that is not known, since the start of this run.
    #[must_use]
    pub fn age_ms(&self, boot_n: u64, now: Now) -> u64 {
        self.moment.age_ms(boot_n, now).unwrap_or(now.mono.0)
    }
}
