//! One request as a PDU, both ways, and whether a reply answers it.

use std::borrow::Cow;
use std::fmt;

use tokio_modbus::bytes::Bytes;
use tokio_modbus::{Request as Pdu, Response};

use super::{
    COIL_ON, Exception, READ_BITS_MAX, READ_REGISTERS_MAX, READ_WRITE_REGISTERS_MAX, Reply, ReplyError, Space,
    WRITE_BITS_MAX, WRITE_REGISTERS_MAX,
};

/// One request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// FC 1 to 4.
    Read {
        /// Which table.
        space: Space,
        /// First item, from 0.
        address: u16,
        /// How many.
        count: u16,
    },
    /// FC 5. The value is raw: some devices want another than `COIL_ON`, or a time.
    WriteCoil {
        /// Which, from 0.
        address: u16,
        /// The value as sent.
        value: u16,
    },
    /// FC 6.
    WriteRegister {
        /// Which, from 0.
        address: u16,
        /// The value.
        value: u16,
    },
    /// FC 15.
    WriteCoils {
        /// First, from 0.
        address: u16,
        /// The values.
        on: Vec<bool>,
    },
    /// FC 16.
    WriteRegisters {
        /// First, from 0.
        address: u16,
        /// The values.
        values: Vec<u16>,
    },
    /// FC 23: the write is done before the read.
    ReadWrite {
        /// First register to read, from 0.
        read: u16,
        /// How many to read.
        count: u16,
        /// First register to write, from 0.
        write: u16,
        /// The values to write.
        values: Vec<u16>,
    },
}

/// Appends bits, eight a byte, behind their length in bytes. Lengths here are bounded by [`super::PDU_BYTES_MAX`]; a longer one
/// saturates.
fn put_bits(pdu: &mut Vec<u8>, on: &[bool]) {
    pdu.push(u8::try_from(on.len().div_ceil(8)).unwrap_or(u8::MAX));
    let byte = |eight: &[bool]| eight.iter().enumerate().fold(0, |byte, (bit, on)| byte | (u8::from(*on) << bit));
    pdu.extend(on.chunks(8).map(byte));
}

/// Appends words behind their length in bytes; as [`put_bits`].
fn put_words(pdu: &mut Vec<u8>, values: &[u16]) {
    pdu.push(u8::try_from(values.len() * 2).unwrap_or(u8::MAX));
    pdu.extend(values.iter().flat_map(|v| v.to_be_bytes()));
}

fn item_count(len: usize) -> u16 {
    u16::try_from(len).unwrap_or(u16::MAX)
}

/// Whether length and counts of a request fit each other and the limits of the protocol.
fn guard(pdu: &[u8]) -> Result<(), Exception> {
    let word =
        |at: usize| pdu.get(at..at + 2).map_or(0, |two| two.iter().fold(0, |all, byte| all << 8 | usize::from(*byte)));
    let plain = |count_max: u16| pdu.len() == 5 && (1..=usize::from(count_max)).contains(&word(3));
    // As many items as `bytes` carry, behind their number at `at` and their length in bytes.
    let carries = |at: usize, max: usize, bytes: usize| {
        let fits = pdu.get(at + 2).is_some_and(|n| usize::from(*n) == bytes) && pdu.len() == at + 3 + bytes;
        fits && (1..=max).contains(&word(at))
    };
    let fits = match pdu.first() {
        Some(1 | 2) => plain(READ_BITS_MAX),
        Some(3 | 4) => plain(READ_REGISTERS_MAX),
        Some(5 | 6) => pdu.len() == 5,
        Some(15) => carries(3, WRITE_BITS_MAX, word(3).div_ceil(8)),
        Some(16) => carries(3, WRITE_REGISTERS_MAX, word(3) * 2),
        Some(23) => {
            (1..=usize::from(READ_REGISTERS_MAX)).contains(&word(3))
                && carries(7, READ_WRITE_REGISTERS_MAX, word(7) * 2)
        }
        _ => return Err(Exception::ILLEGAL_FUNCTION),
    };
    if fits { Ok(()) } else { Err(Exception::ILLEGAL_VALUE) }
}

impl Request {
    /// The function code.
    #[must_use]
    pub fn function(&self) -> u8 {
        match self {
            Self::Read { space, .. } => space.read_function(),
            Self::WriteCoil { .. } => 5,
            Self::WriteRegister { .. } => 6,
            Self::WriteCoils { .. } => 15,
            Self::WriteRegisters { .. } => 16,
            Self::ReadWrite { .. } => 23,
        }
    }

    /// The first address, for logs.
    #[must_use]
    pub fn address(&self) -> u16 {
        match self {
            Self::Read { address, .. }
            | Self::WriteCoil { address, .. }
            | Self::WriteRegister { address, .. }
            | Self::WriteCoils { address, .. }
            | Self::WriteRegisters { address, .. }
            | Self::ReadWrite { write: address, .. } => *address,
        }
    }

    /// Whether it changes something in the device.
    #[must_use]
    pub fn is_write(&self) -> bool {
        !matches!(self, Self::Read { .. })
    }

    /// The PDU as sent.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut pdu = vec![self.function()];
        let mut put = |values: &[u16]| pdu.extend(values.iter().flat_map(|v| v.to_be_bytes()));
        match self {
            Self::Read { address, count: value, .. }
            | Self::WriteCoil { address, value }
            | Self::WriteRegister { address, value } => put(&[*address, *value]),
            Self::WriteCoils { address, on } => {
                put(&[*address, item_count(on.len())]);
                put_bits(&mut pdu, on);
            }
            Self::WriteRegisters { address, values } => {
                put(&[*address, item_count(values.len())]);
                put_words(&mut pdu, values);
            }
            Self::ReadWrite { read, count, write, values } => {
                put(&[*read, *count, *write, item_count(values.len())]);
                put_words(&mut pdu, values);
            }
        }
        pdu
    }

    /// As the client of `tokio-modbus` sends it: a coil value that is neither on nor off as bytes.
    #[must_use]
    pub fn to_pdu(&self) -> Pdu<'_> {
        match self {
            Self::Read { space: Space::Coil, address, count } => Pdu::ReadCoils(*address, *count),
            Self::Read { space: Space::Discrete, address, count } => Pdu::ReadDiscreteInputs(*address, *count),
            Self::Read { space: Space::Holding, address, count } => Pdu::ReadHoldingRegisters(*address, *count),
            Self::Read { space: Space::Input, address, count } => Pdu::ReadInputRegisters(*address, *count),
            Self::WriteCoil { address, value: COIL_ON } => Pdu::WriteSingleCoil(*address, true),
            Self::WriteCoil { address, value: 0 } => Pdu::WriteSingleCoil(*address, false),
            Self::WriteCoil { .. } => Pdu::Custom(5, self.encode().split_off(1).into()),
            Self::WriteRegister { address, value } => Pdu::WriteSingleRegister(*address, *value),
            Self::WriteCoils { address, on } => Pdu::WriteMultipleCoils(*address, Cow::Borrowed(on)),
            Self::WriteRegisters { address, values } => Pdu::WriteMultipleRegisters(*address, Cow::Borrowed(values)),
            Self::ReadWrite { read, count, write, values } => {
                Pdu::ReadWriteMultipleRegisters(*read, *count, *write, Cow::Borrowed(values))
            }
        }
    }

    /// The request in a PDU, as a device reads it.
    ///
    /// # Errors
    /// The exception to answer with: illegal function, or illegal value for counts and lengths that do not fit.
    pub fn decode(pdu: &[u8]) -> Result<Self, Exception> {
        guard(pdu)?;
        if let [5, a0, a1, v0, v1] = *pdu {
            // The crate takes only the two values of the standard.
            return Ok(Self::WriteCoil { address: u16::from_be_bytes([a0, a1]), value: u16::from_be_bytes([v0, v1]) });
        }
        let read = |space, address, count| Self::Read { space, address, count };
        Ok(match Pdu::try_from(Bytes::copy_from_slice(pdu)).map_err(|_| Exception::ILLEGAL_VALUE)? {
            Pdu::ReadCoils(address, count) => read(Space::Coil, address, count),
            Pdu::ReadDiscreteInputs(address, count) => read(Space::Discrete, address, count),
            Pdu::ReadHoldingRegisters(address, count) => read(Space::Holding, address, count),
            Pdu::ReadInputRegisters(address, count) => read(Space::Input, address, count),
            Pdu::WriteSingleRegister(address, value) => Self::WriteRegister { address, value },
            Pdu::WriteMultipleCoils(address, on) => Self::WriteCoils { address, on: on.into_owned() },
            Pdu::WriteMultipleRegisters(address, values) => {
                Self::WriteRegisters { address, values: values.into_owned() }
            }
            Pdu::ReadWriteMultipleRegisters(read, count, write, values) => {
                Self::ReadWrite { read, count, write, values: values.into_owned() }
            }
            _ => return Err(Exception::ILLEGAL_FUNCTION),
        })
    }

    /// Length of the PDU of a good reply, in bytes.
    #[must_use]
    pub fn reply_bytes(&self) -> usize {
        match self {
            Self::Read { space, count, .. } if space.is_bits() => 2 + usize::from(*count).div_ceil(8),
            Self::Read { count, .. } | Self::ReadWrite { count, .. } => 2 + usize::from(*count) * 2,
            Self::WriteCoil { .. }
            | Self::WriteRegister { .. }
            | Self::WriteCoils { .. }
            | Self::WriteRegisters { .. } => 5,
        }
    }

    /// What `response` brings back, if it answers this request.
    ///
    /// # Errors
    /// The line is out of step: it answers another request.
    pub fn accept(&self, response: Response) -> Result<Reply, ReplyError> {
        let registers = |values: Vec<u16>, count: u16| {
            let (wanted, got) = (usize::from(count) * 2, values.len() * 2);
            if wanted == got { Ok(Reply::Words(values)) } else { Err(ReplyError::Length { wanted, got }) }
        };
        let confirmed = |same: bool| if same { Ok(Reply::Written) } else { Err(ReplyError::Echo) };
        match (self, response) {
            (Self::Read { space: Space::Coil, count, .. }, Response::ReadCoils(mut on))
            | (Self::Read { space: Space::Discrete, count, .. }, Response::ReadDiscreteInputs(mut on)) => {
                // The crate gives whole bytes.
                let (wanted, got) = (usize::from(*count).div_ceil(8), on.len() / 8);
                on.truncate(usize::from(*count));
                if wanted == got { Ok(Reply::Bits(on)) } else { Err(ReplyError::Length { wanted, got }) }
            }
            (Self::Read { space: Space::Holding, count, .. }, Response::ReadHoldingRegisters(values))
            | (Self::Read { space: Space::Input, count, .. }, Response::ReadInputRegisters(values))
            | (Self::ReadWrite { count, .. }, Response::ReadWriteMultipleRegisters(values)) => {
                registers(values, *count)
            }
            (Self::WriteCoil { address, value }, Response::WriteSingleCoil(at, on)) => {
                confirmed(*address == at && *value == if on { COIL_ON } else { 0 })
            }
            (Self::WriteRegister { address, value }, Response::WriteSingleRegister(at, got)) => {
                confirmed(*address == at && *value == got)
            }
            (Self::WriteCoils { address, on }, Response::WriteMultipleCoils(at, count)) => {
                confirmed(*address == at && on.len() == usize::from(count))
            }
            (Self::WriteRegisters { address, values }, Response::WriteMultipleRegisters(at, count)) => {
                confirmed(*address == at && values.len() == usize::from(count))
            }
            (_, other) => Err(ReplyError::Function { asked: self.function(), got: other.function_code().value() }),
        }
    }

    /// What `pdu` brings back, if it answers this request.
    ///
    /// # Errors
    /// [`ReplyError::Refused`] when the device answers with an exception; anything else means that the line is out of step.
    pub fn check(&self, pdu: &[u8]) -> Result<Reply, ReplyError> {
        let (asked, wanted, got) = (self.function(), self.reply_bytes(), pdu.len());
        match *pdu {
            [function, code] if function == asked | 0x80 => Err(ReplyError::Refused(Exception(code))),
            [function, ..] if function != asked => Err(ReplyError::Function { asked, got: function }),
            _ if wanted != got => Err(ReplyError::Length { wanted, got }),
            // A coil value that is neither on nor off is no `Response`; the confirmation of FC 5 is the request.
            [5, ..] if self.encode() == pdu => Ok(Reply::Written),
            [5, ..] => Err(ReplyError::Echo),
            _ => self.accept(Response::try_from(Bytes::copy_from_slice(pdu)).map_err(|_| ReplyError::Malformed)?),
        }
    }

    /// The PDU of the good reply, as a device sends it.
    #[must_use]
    pub fn answer(&self, reply: &Reply) -> Vec<u8> {
        let mut pdu = vec![self.function()];
        match reply {
            Reply::Bits(on) => put_bits(&mut pdu, on),
            Reply::Words(values) => put_words(&mut pdu, values),
            Reply::Written => pdu.extend(self.encode().get(1..5).unwrap_or_default()),
        }
        pdu
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fc = self.function();
        match self {
            Self::Read { space, address, count } => {
                write!(f, "FC{fc:02} read {} {address}", space.as_str())?;
                let last = u32::from(*address) + u32::from(count.saturating_sub(1));
                if last > u32::from(*address) { write!(f, " to {last}") } else { Ok(()) }
            }
            Self::WriteCoil { address, value } => write!(f, "FC{fc:02} write coil {address} = 0x{value:04X}"),
            Self::WriteRegister { address, value } => write!(f, "FC{fc:02} write holding {address} = 0x{value:04X}"),
            Self::WriteCoils { address, on } => write!(f, "FC{fc:02} write {} coils from {address}", on.len()),
            Self::WriteRegisters { address, values } => {
                write!(f, "FC{fc:02} write {} holding from {address}", values.len())
            }
            Self::ReadWrite { read, count, write, values } => {
                write!(f, "FC{fc:02} write {} holding from {write}, read {count} from {read}", values.len())
            }
        }
    }
}
