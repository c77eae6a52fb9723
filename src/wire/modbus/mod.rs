//! Modbus messages: requests and replies as bytes, on a serial line (RTU) and over TCP (MBAP).
//!
//! A request is a place in one of the four tables, as profiles name it. PDUs are decoded by `tokio-modbus`, behind a check of
//! their length: the crate panics on a write of more coils than it carries. They are encoded here, because the crate keeps its
//! encoder private and knows a coil only as `FF00` or `0000`, and relays that open by themselves take their time in that place.
//! Pure: no connection, no timing, no device.

mod frame;
mod request;

#[cfg(test)]
mod tests;

use std::fmt;

use crate::access::names;

pub use frame::{
    MBAP_BYTES, Mbap, RTU_BYTES_MAX, RtuDecoder, hex, rtu_frame, rtu_open, rtu_reply_bytes, rtu_request_bytes,
    tcp_frame,
};
pub use request::Request;

/// Longest PDU in bytes (Modbus application protocol 1.1b3, 4.1).
pub const PDU_BYTES_MAX: usize = 253;
/// Most registers one read may ask for (ibid. 6.3).
pub const READ_REGISTERS_MAX: u16 = 125;
/// Most coils one read may ask for (ibid. 6.1).
pub const READ_BITS_MAX: u16 = 2000;
/// Most registers one write may carry (ibid. 6.12).
pub const WRITE_REGISTERS_MAX: usize = 123;
/// Most coils one write may carry (ibid. 6.11).
pub const WRITE_BITS_MAX: usize = 1968;
/// Most registers the write half of FC 23 may carry (ibid. 6.17).
pub const READ_WRITE_REGISTERS_MAX: usize = 121;
/// The value that closes a coil by the standard (Modbus application protocol 1.1b3, 6.5).
pub const COIL_ON: u16 = 0xFF00;

names! {
    /// The four tables of a Modbus device.
    pub enum Space {
        /// Bits that can be written.
        Coil,
        /// Bits that can only be read.
        Discrete,
        /// Words that can be written.
        Holding,
        /// Words that can only be read.
        Input,
    }
}

impl Space {
    /// Whether its items are bits.
    #[must_use]
    pub fn is_bits(self) -> bool {
        match self {
            Self::Coil | Self::Discrete => true,
            Self::Holding | Self::Input => false,
        }
    }

    /// Whether it can be written.
    #[must_use]
    pub fn is_writable(self) -> bool {
        match self {
            Self::Coil | Self::Holding => true,
            Self::Discrete | Self::Input => false,
        }
    }

    fn read_function(self) -> u8 {
        match self {
            Self::Coil => 1,
            Self::Discrete => 2,
            Self::Holding => 3,
            Self::Input => 4,
        }
    }
}

/// Why a device refuses (ibid. 7). Any code can come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Exception(pub u8);

impl Exception {
    /// The device does not know the function.
    pub const ILLEGAL_FUNCTION: Self = Self(1);
    /// The address is not in the map.
    pub const ILLEGAL_ADDRESS: Self = Self(2);
    /// The request is malformed or its value out of range.
    pub const ILLEGAL_VALUE: Self = Self(3);
    /// The device failed.
    pub const DEVICE_FAILURE: Self = Self(4);
    /// The device has taken the request and works on it.
    pub const ACKNOWLEDGED: Self = Self(5);
    /// A gateway has no way to the unit.
    pub const NO_PATH: Self = Self(10);
    /// A gateway finds that the unit does not answer.
    pub const NO_SUCH_UNIT: Self = Self(11);

    /// Whether the gateway in front of the unit answers, and not the unit.
    #[must_use]
    pub fn is_of_a_gateway(self) -> bool {
        matches!(self, Self::NO_PATH | Self::NO_SUCH_UNIT)
    }

    /// Whether the device has taken the request and needs a while to carry it out (5): its state shows when it is done.
    #[must_use]
    pub fn is_acceptance(self) -> bool {
        self == Self::ACKNOWLEDGED
    }

    /// Whether the device is busy (6): the same request may succeed a moment later.
    #[must_use]
    pub fn is_busy(self) -> bool {
        self.0 == 6
    }

    /// Whether the request names what the device does not have; other exceptions are of the moment, or of the device itself.
    #[must_use]
    pub fn is_of_the_map(self) -> bool {
        matches!(self, Self::ILLEGAL_FUNCTION | Self::ILLEGAL_ADDRESS | Self::ILLEGAL_VALUE)
    }
}

impl fmt::Display for Exception {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.0 {
            1 => "illegal function",
            2 => "illegal data address",
            3 => "illegal data value",
            4 => "device failure",
            5 => "acknowledged, not done yet",
            6 => "device busy",
            8 => "memory parity error",
            10 => "gateway path unavailable",
            11 => "gateway target does not answer",
            _ => "unknown",
        };
        write!(f, "exception {} ({name})", self.0)
    }
}

/// What a request brought back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Exactly as many bits as asked for.
    Bits(Vec<bool>),
    /// Exactly as many words as asked for.
    Words(Vec<u16>),
    /// The write is confirmed by its echo.
    Written,
}

/// Why a reply does not answer its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    /// The device refuses with an exception. The line is in order.
    #[error("{0}")]
    Refused(Exception),
    /// Another function answers.
    #[error("the reply is of function {got}, asked was {asked}")]
    Function {
        /// Asked.
        asked: u8,
        /// Answered.
        got: u8,
    },
    /// The length does not fit the request.
    #[error("the reply has {got} bytes, {wanted} are wanted")]
    Length {
        /// Wanted, in bytes.
        wanted: usize,
        /// Got, in bytes.
        got: usize,
    },
    /// The bytes are not a reply of this function.
    #[error("the reply is malformed")]
    Malformed,
    /// A write is confirmed with another address or value.
    #[error("the reply confirms another write than was sent")]
    Echo,
}

/// The PDU of an exception.
#[must_use]
pub fn refusal(function: u8, exception: Exception) -> Vec<u8> {
    vec![function | 0x80, exception.0]
}
