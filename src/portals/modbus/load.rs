//! How much of a serial line its polls take, so that an installer is warned of a line that cannot carry them.

use std::time::Duration;

use crate::wire::modbus::Request;

use super::serial::{characters, silence};

/// Share of the line above which a warning is logged, in percent: the rest is for cuts, releases and what fails.
pub const LOAD_PERCENT_MAX: u32 = 70;
/// Time a device needs before it answers, in milliseconds; a usual figure, not a bound.
const TURNAROUND_MS: u64 = 5;
/// Unit and checksum around each PDU, in bytes.
const AROUND_BYTES: usize = 3;

/// The time one request and its answer take on a line of `baud`.
pub(super) fn takes(request: &Request, baud: u32) -> Duration {
    let bytes = request.encode().len() + request.reply_bytes() + 2 * AROUND_BYTES;
    characters(bytes, baud) + silence(baud) * 2 + Duration::from_millis(TURNAROUND_MS)
}

/// The share of a line that these polls take, in percent; above 100 it cannot be done.
pub(super) fn percent<'a>(polls: impl Iterator<Item = (&'a [Request], Duration)>, baud: u32) -> u32 {
    let share = |(reads, every): (&[Request], Duration)| {
        let time: Duration = reads.iter().map(|read| takes(read, baud)).sum();
        time.as_micros().saturating_mul(100) / every.as_micros().max(1)
    };
    u32::try_from(polls.map(share).sum::<u128>()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::modbus::Space;

    #[test]
    fn eight_readers_at_9600_are_more_than_a_line_can_carry_and_at_57600_not() {
        let read = [Request::Read { space: Space::Holding, address: 0, count: 8 }];
        let polls = || std::iter::repeat_n((read.as_slice(), Duration::from_millis(200)), 8);
        assert!(percent(polls(), 9600) > 100, "{}", percent(polls(), 9600));
        assert!(percent(polls(), 57600) < LOAD_PERCENT_MAX, "{}", percent(polls(), 57600));
    }
}
