//! How requests are logged and counted. Each log line names bus, unit, function and address, so that the device can be found.

use std::time::Duration;

use super::late::Late;
use crate::config::Part;
use crate::portals::device::Released;

/// The outcome of a request that was answered; that of any other is the name of its [`BusError`](super::bus::BusError).
pub const ANSWERED: &str = "ok";

/// Counts outcomes. All methods are called from the task of a line or a portal and must not wait.
pub trait Observer: Send + Sync {
    /// This device is used: its counters are shown from now on.
    fn listed(&self, _part: &Part) {}

    /// A request on `bus` ended; `took` is the time on the line, zero if it was never sent.
    fn request(&self, _bus: &str, _outcome: &'static str, _took: Duration) {}

    /// A reply of `unit` came after its deadline.
    fn late(&self, _bus: &str, _unit: u8) {}

    /// A release of this output ended.
    fn release(&self, _output: &Part, _how: Released) {}
}

/// Counts nothing.
impl Observer for () {}

/// Logs the end of a request.
macro_rules! log_request {
    ($level:ident, $bus:expr, $job:expr, $($rest:tt)+) => {
        tracing::$level!(
            bus = %$bus, unit = $job.unit, function = $job.request.function(), address = $job.request.address(), $($rest)+
        )
    };
}

pub(super) use log_request;

/// A reply that came too late.
pub(super) fn late_reply(bus: &str, unit: u8, late: &Late) {
    let (took, given) = (late.took.as_millis(), late.given.as_millis());
    let error = format!(
        "unit {unit} answers after {took} ms, later than the {given} ms it is given (both without the time of the bytes): raise `timeout_ms` of its `[[bus]]`, or `reply_ms` of its profile (of a built-in one: in a copy in `devices_dir`)"
    );
    tracing::warn!(
        bus = %bus,
        unit,
        function = late.function,
        address = late.address,
        error,
        "a reply came too late and was dropped"
    );
}
