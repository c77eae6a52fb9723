//! One request as a PDU, both ways, and whether a reply answers it.

use std::fmt;

use super::{
    Exception, READ_REGISTERS_MAX, READ_WRITE_REGISTERS_MAX, Reply, ReplyError, Space, WRITE_BITS_MAX,
    WRITE_REGISTERS_MAX,
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

fn words(bytes: &[u8]) -> Vec<u16> {
    bytes.as_chunks::<2>().0.iter().map(|pair| u16::from_be_bytes(*pair)).collect()
}

fn bits(bytes: &[u8], count: usize) -> Vec<bool> {
    bytes.iter().flat_map(|byte| (0..8).map(move |bit| byte >> bit & 1 == 1)).take(count).collect()
}

fn pack(on: &[bool]) -> Vec<u8> {
    on.chunks(8)
        .map(|eight| eight.iter().enumerate().fold(0, |byte, (bit, on)| byte | (u8::from(*on) << bit)))
        .collect()
}

/// The length as one byte. Lengths here are bounded by [`PDU_BYTES_MAX`]; a longer one is told wrong rather than cut off.
fn byte_count(len: usize) -> u8 {
    u8::try_from(len).unwrap_or(u8::MAX)
}

pub(super) fn item_count(len: usize) -> u16 {
    u16::try_from(len).unwrap_or(u16::MAX)
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
        let mut put = |value: u16| pdu.extend(value.to_be_bytes());
        match self {
            Self::Read { address, count, .. } => {
                put(*address);
                put(*count);
            }
            Self::WriteCoil { address, value } | Self::WriteRegister { address, value } => {
                put(*address);
                put(*value);
            }
            Self::WriteCoils { address, on } => {
                put(*address);
                put(item_count(on.len()));
                let packed = pack(on);
                pdu.push(byte_count(packed.len()));
                pdu.extend(packed);
            }
            Self::WriteRegisters { address, values } => {
                put(*address);
                put(item_count(values.len()));
                pdu.push(byte_count(values.len() * 2));
                pdu.extend(values.iter().flat_map(|v| v.to_be_bytes()));
            }
            Self::ReadWrite { read, count, write, values } => {
                put(*read);
                put(*count);
                put(*write);
                put(item_count(values.len()));
                pdu.push(byte_count(values.len() * 2));
                pdu.extend(values.iter().flat_map(|v| v.to_be_bytes()));
            }
        }
        pdu
    }

    /// The request in a PDU, as a device reads it.
    ///
    /// # Errors
    /// The exception to answer with: illegal function, or illegal value for counts and lengths that do not fit.
    pub fn decode(pdu: &[u8]) -> Result<Self, Exception> {
        let (function, body) = pdu.split_first().ok_or(Exception::ILLEGAL_FUNCTION)?;
        let space = match function {
            1 => Space::Coil,
            2 => Space::Discrete,
            3 => Space::Holding,
            4 => Space::Input,
            5 | 6 => {
                let [a0, a1, v0, v1] = body else { return Err(Exception::ILLEGAL_VALUE) };
                let (address, value) = (u16::from_be_bytes([*a0, *a1]), u16::from_be_bytes([*v0, *v1]));
                return Ok(if *function == 5 {
                    Self::WriteCoil { address, value }
                } else {
                    Self::WriteRegister { address, value }
                });
            }
            15 | 16 => {
                let [a0, a1, c0, c1, n, data @ ..] = body else { return Err(Exception::ILLEGAL_VALUE) };
                let address = u16::from_be_bytes([*a0, *a1]);
                let count = usize::from(u16::from_be_bytes([*c0, *c1]));
                let (max, bytes) = if *function == 15 {
                    (WRITE_BITS_MAX, count.div_ceil(8))
                } else {
                    (WRITE_REGISTERS_MAX, count * 2)
                };
                if count == 0 || count > max || usize::from(*n) != bytes || data.len() != bytes {
                    return Err(Exception::ILLEGAL_VALUE);
                }
                return Ok(if *function == 15 {
                    Self::WriteCoils { address, on: bits(data, count) }
                } else {
                    Self::WriteRegisters { address, values: words(data) }
                });
            }
            23 => {
                let [r0, r1, c0, c1, w0, w1, v0, v1, n, data @ ..] = body else {
                    return Err(Exception::ILLEGAL_VALUE);
                };
                let count = u16::from_be_bytes([*c0, *c1]);
                let written = usize::from(u16::from_be_bytes([*v0, *v1]));
                let fits = (1..=READ_REGISTERS_MAX).contains(&count)
                    && (1..=READ_WRITE_REGISTERS_MAX).contains(&written)
                    && usize::from(*n) == written * 2
                    && data.len() == written * 2;
                if !fits {
                    return Err(Exception::ILLEGAL_VALUE);
                }
                return Ok(Self::ReadWrite {
                    read: u16::from_be_bytes([*r0, *r1]),
                    count,
                    write: u16::from_be_bytes([*w0, *w1]),
                    values: words(data),
                });
            }
            _ => return Err(Exception::ILLEGAL_FUNCTION),
        };
        let [a0, a1, c0, c1] = body else { return Err(Exception::ILLEGAL_VALUE) };
        let count = u16::from_be_bytes([*c0, *c1]);
        if count == 0 || count > space.read_max() {
            return Err(Exception::ILLEGAL_VALUE);
        }
        Ok(Self::Read { space, address: u16::from_be_bytes([*a0, *a1]), count })
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

    /// What `pdu` brings back, if it answers this request.
    ///
    /// # Errors
    /// [`ReplyError::Refused`] when the device says no; anything else means that the line is out of step.
    pub fn check(&self, pdu: &[u8]) -> Result<Reply, ReplyError> {
        let asked = self.function();
        let wanted = self.reply_bytes();
        let (got, body) = pdu.split_first().ok_or(ReplyError::Length { wanted, got: 0 })?;
        if *got == asked | 0x80 {
            return match body {
                [code] => Err(ReplyError::Refused(Exception(*code))),
                _ => Err(ReplyError::Length { wanted: 2, got: pdu.len() }),
            };
        }
        if *got != asked {
            return Err(ReplyError::Function { asked, got: *got });
        }
        if pdu.len() != wanted {
            return Err(ReplyError::Length { wanted, got: pdu.len() });
        }
        match self {
            Self::Read { count, .. } | Self::ReadWrite { count, .. } => {
                let (n, data) = body.split_first().ok_or(ReplyError::Length { wanted, got: pdu.len() })?;
                if usize::from(*n) != data.len() {
                    return Err(ReplyError::Length { wanted: data.len(), got: usize::from(*n) });
                }
                Ok(match self {
                    Self::Read { space, .. } if space.is_bits() => Reply::Bits(bits(data, usize::from(*count))),
                    _ => Reply::Words(words(data)),
                })
            }
            // The echo of every write is the first four bytes of its body: address and value, or address and count.
            Self::WriteCoil { .. }
            | Self::WriteRegister { .. }
            | Self::WriteCoils { .. }
            | Self::WriteRegisters { .. } => {
                if self.encode().get(1..5) == Some(body) {
                    Ok(Reply::Written)
                } else {
                    Err(ReplyError::Echo)
                }
            }
        }
    }

    /// The PDU of the good reply, as a device sends it.
    #[must_use]
    pub fn answer(&self, reply: &Reply) -> Vec<u8> {
        let mut pdu = vec![self.function()];
        match reply {
            Reply::Bits(on) => {
                let packed = pack(on);
                pdu.push(byte_count(packed.len()));
                pdu.extend(packed);
            }
            Reply::Words(values) => {
                pdu.push(byte_count(values.len() * 2));
                pdu.extend(values.iter().flat_map(|v| v.to_be_bytes()));
            }
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
