//! What comes on a line and answers no request under way: for the log, for late replies, and for what to do next.

use std::time::Duration;

use tokio::time::Instant;

use crate::wire::modbus::hex;

/// What came since the last request was sent and is not its answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Received {
    /// No byte.
    #[default]
    Nothing,
    /// So many bytes that are no whole frame, beginning with these.
    Bytes(usize, Vec<u8>),
    /// Only the echo of the request.
    OnlyEcho,
    /// A whole frame of this unit, which was not asked.
    OtherUnit(u8),
    /// A whole frame of the unit asked, of this function, which was not asked for.
    OtherFunction(u8),
    /// Over TCP a whole frame with the number of another request.
    OtherTransaction,
}

impl Received {
    /// Why there is no answer: a device that is off is another fault than spoilt bytes, or another device with its number.
    pub(super) fn cause(&self, asked: u8, limit: Duration) -> String {
        let ms = limit.as_millis();
        match self {
            Received::Nothing => format!("no answer within {ms} ms; check power, wiring and unit number"),
            Received::Bytes(bytes, first) => format!(
                "no whole answer within {ms} ms: {bytes} bytes came, beginning with `{}`, and are no frame with a right checksum; check speed, parity and wiring",
                hex(first)
            ),
            Received::OnlyEcho => format!(
                "no answer within {ms} ms, only the adapter's echo of the request; check power, wiring and unit number"
            ),
            Received::OtherUnit(unit) => format!("only unit {unit} answered within {ms} ms, unit {asked} was asked"),
            Received::OtherFunction(function) => {
                format!("no answer within {ms} ms, only one of function {}", function & 0x7F)
            }
            Received::OtherTransaction => format!(
                "no answer within {ms} ms, only one with another transaction number; if the device never repeats the number, set `any_transaction = true` in its `[[bus]]`"
            ),
        }
    }
}

/// A frame that answers no request under way: a late reply, or another unit's traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unsolicited {
    pub(super) unit: u8,
    /// Its function, with the bit of an exception.
    pub(super) function: u8,
    /// When its last byte came.
    pub(super) at: Instant,
}
