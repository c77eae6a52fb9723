//! How requests and releases end, for whoever counts them. It counts nothing itself.

use std::time::Duration;

/// How a request ended, for counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Answered.
    Ok,
    /// The device refused.
    Refused,
    /// No answer in time.
    Timeout,
    /// An answer that does not fit, or the connection ended.
    Broken,
    /// The line could not be opened, or does not fall silent; never sent.
    LineDown,
    /// Waited longer than its deadline; never sent.
    Expired,
    /// The unit is offline and not to be asked yet; never sent.
    Barred,
}

impl Outcome {
    /// The outcome's name in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Refused => "refused",
            Self::Timeout => "timeout",
            Self::Broken => "broken",
            Self::LineDown => "line_down",
            Self::Expired => "expired",
            Self::Barred => "barred",
        }
    }
}

/// How a release ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Released {
    /// Confirmed as the profile says.
    Confirmed,
    /// Not confirmed, given up, and reported.
    Failed,
    /// Another order for the same relay came first.
    Overtaken,
}

impl Released {
    /// Its name in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Confirmed => "confirmed",
            Self::Failed => "failed",
            Self::Overtaken => "overtaken",
        }
    }
}

/// Who counts. All methods are called from the line's tasks and must not wait.
pub trait Observer: Send + Sync {
    /// A request on `bus` ended; `took` is the time on the line, zero if it was never sent.
    fn request(&self, bus: &str, outcome: Outcome, took: Duration);

    /// An answer of `unit` came when it was not waited for any more.
    fn late(&self, _bus: &str, _unit: u8) {}

    /// A release of a relay ended so.
    fn release(&self, _bus: &str, _unit: u8, _channel: u16, _how: Released) {}
}

/// Counts nothing.
impl Observer for () {
    fn request(&self, _: &str, _: Outcome, _: Duration) {}
}
