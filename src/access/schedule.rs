//! Weekly schedules as a center defines them. They are kept and forwarded in the digest; an entitlement that names one is
//! denied (`outside_schedule`) until schedules are evaluated.

use serde::{Deserialize, Serialize};

/// Minutes of a day, `[start, end)`; `end` at or before `start` runs past midnight; 24:00 is 1440.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// First minute of the window, counted from 00:00.
    pub start_min: u16,
    /// First minute after the window, counted from 00:00.
    pub end_min: u16,
}

impl Window {
    /// Minutes of a day; `24:00`.
    pub const DAY_MIN: u16 = 24 * 60;
}

/// A date whose windows replace those of its weekday.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holiday {
    /// Year, month, day.
    pub date: (i16, u8, u8),
    /// The windows that begin on that day; none: closed.
    pub windows: Vec<Window>,
}

/// When an entitlement holds (wire contract, 2.7).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    /// The windows that begin on each day, Monday first; a day without any is closed.
    pub weekly: [Vec<Window>; 7],
    /// Dates that differ.
    pub holidays: Vec<Holiday>,
    /// IANA name; `None`: the gateway's.
    pub timezone: Option<String>,
}
