//! A serial port: its settings, how it is opened, the time that its bytes take, and the share of a line that its polls take, so that an
//! installer is warned of a line that cannot carry them.

use std::io;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tokio_serial::{SerialPortBuilder, SerialPortBuilderExt, SerialStream};

use crate::config::{Parity, SerialConfig};
use crate::wire::modbus::Request;

/// Shortest silence between frames, in microseconds: above 19200 Bd the standard fixes it (Modbus over serial line 1.02, 2.5.1.1).
const SILENCE_US_MIN: u64 = 1750;
/// Bits of one character on a serial line, with start, parity and stop.
const CHARACTER_BITS: u64 = 11;
/// How late the runtime's timer may be, in milliseconds.
const TICK_MS: u64 = 1;
/// Share of the line above which a warning is logged, in percent: the rest is for cuts, releases and what fails.
pub const LOAD_PERCENT_MAX: u32 = 70;
/// Time a device needs before it answers, in milliseconds; a usual figure, not a bound.
const TURNAROUND_MS: u64 = 5;
/// Unit and checksum around each PDU, in bytes.
const AROUND_BYTES: usize = 3;

/// Opens a serial port. Fails when it does not exist, is taken, or cannot be set up so.
pub(super) fn open_serial(serial: &SerialConfig) -> io::Result<SerialStream> {
    builder(&serial.port, serial).open_native_async().map_err(io::Error::from)
}

/// The settings of a line for `port`, which may be another than its own.
#[must_use]
pub fn builder(port: &str, serial: &SerialConfig) -> SerialPortBuilder {
    let parity = match serial.parity {
        Parity::None => tokio_serial::Parity::None,
        Parity::Even => tokio_serial::Parity::Even,
        Parity::Odd => tokio_serial::Parity::Odd,
    };
    let stop = if serial.stop_bits == 2 { tokio_serial::StopBits::Two } else { tokio_serial::StopBits::One };
    tokio_serial::new(port, serial.baud).parity(parity).stop_bits(stop)
}

/// The time that `bytes` take on the wire.
pub(super) fn characters(bytes: usize, baud: u32) -> Duration {
    let bits = u64::try_from(bytes).unwrap_or(u64::MAX).saturating_mul(CHARACTER_BITS);
    Duration::from_micros(bits.saturating_mul(1_000_000) / u64::from(baud.max(1)))
}

/// 3.5 characters of silence (Modbus over serial line 1.02, 2.5.1.1).
pub(super) fn silence(baud: u32) -> Duration {
    let us = 7 * CHARACTER_BITS * 1_000_000 / (2 * u64::from(baud.max(1)));
    Duration::from_micros(us.max(SILENCE_US_MIN))
}

/// Waits until `at`, and hardly longer: the runtime's timer is late by up to a millisecond, which on a fast line is as long as the
/// silence itself. So a thread of its own sleeps through the last millisecond.
pub(super) async fn quiet_until(at: Instant) {
    if cfg!(test) {
        // Paused time has only whole milliseconds, and no thread may sleep in it.
        return sleep_until(at).await;
    }
    let coarse = at.checked_sub(Duration::from_millis(TICK_MS)).unwrap_or(at);
    if coarse > Instant::now() {
        sleep_until(coarse).await;
    }
    let rest = at.saturating_duration_since(Instant::now());
    if !rest.is_zero() && tokio::task::spawn_blocking(move || std::thread::sleep(rest)).await.is_err() {
        // The runtime is ending: nothing is sent any more.
        sleep_until(at).await;
    }
}

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
