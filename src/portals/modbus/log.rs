//! The log lines of a line's task. Each names bus, unit, function and address, so that the device is found by it.

use super::bus::Job;
use super::late::Late;

/// A request that failed again, or without consequence.
pub(super) fn debug(bus: &str, job: &Job, error: &str, what: &str) {
    let (unit, function, address) = (job.unit, job.request.function(), job.request.address());
    tracing::debug!(bus = %bus, unit, function, address, error, "{what}");
}

/// A request that failed.
pub(super) fn warn(bus: &str, job: &Job, error: &str, what: &str) {
    let (unit, function, address) = (job.unit, job.request.function(), job.request.address());
    tracing::warn!(bus = %bus, unit, function, address, error, "{what}");
}

/// A unit that was offline answers.
pub(super) fn online(bus: &str, job: &Job) {
    let (unit, function, address) = (job.unit, job.request.function(), job.request.address());
    tracing::info!(bus = %bus, unit, function, address, "the unit answers again");
}

/// A reply that came too late.
pub(super) fn late(bus: &str, unit: u8, late: &Late) {
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
