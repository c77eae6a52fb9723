//! Modbus messages: requests and replies as bytes, on a serial line (RTU) and over TCP (MBAP).
//!
//! Owns the Modbus application protocol 1.1b3 as far as this project speaks it, and the check that a reply answers the
//! request. Own code rather than `tokio-modbus`, because that crate knows a coil only as `FF00` or `0000`, and the relays
//! that close by themselves take the time in that place. It knows nothing of connections, timing or devices.

use std::fmt;

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
/// Length of the header before the PDU over TCP, in bytes (Modbus messaging on TCP/IP 1.0b, 3.1.3).
pub const MBAP_BYTES: usize = 7;
/// The value that closes a coil by the standard (Modbus application protocol 1.1b3, 6.5).
pub const COIL_ON: u16 = 0xFF00;

/// The four tables of a Modbus device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
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

impl Space {
    /// All four.
    pub const ALL: [Self; 4] = [Self::Coil, Self::Discrete, Self::Holding, Self::Input];

    /// The space's name in a profile.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Coil => "coil",
            Self::Discrete => "discrete",
            Self::Holding => "holding",
            Self::Input => "input",
        }
    }

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

    fn read_max(self) -> u16 {
        if self.is_bits() { READ_BITS_MAX } else { READ_REGISTERS_MAX }
    }
}

/// Why a device refuses (ibid. 7). Any code can come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Exception(pub u8);

impl Exception {
    /// The function is not known.
    pub const ILLEGAL_FUNCTION: Self = Self(1);
    /// The address is not in the map.
    pub const ILLEGAL_ADDRESS: Self = Self(2);
    /// The request is malformed or its value out of range.
    pub const ILLEGAL_VALUE: Self = Self(3);
    /// The device failed.
    pub const DEVICE_FAILURE: Self = Self(4);
    /// A gateway finds that the unit does not answer.
    pub const NO_SUCH_UNIT: Self = Self(11);
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
    /// FC 5. The value is raw: some devices want another than [`COIL_ON`], or a time.
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

/// Why a reply is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    /// The device refuses. The line is in order.
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
    /// A write is echoed with another address or value.
    #[error("the echo of the write differs from the write")]
    Echo,
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

fn item_count(len: usize) -> u16 {
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
                write!(f, "FC{fc:02} read {} {address}..{}", space.as_str(), u32::from(*address) + u32::from(*count))
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

/// The PDU of a refusal.
#[must_use]
pub fn refusal(function: u8, exception: Exception) -> Vec<u8> {
    vec![function | 0x80, exception.0]
}

/// The checksum of the serial line (Modbus over serial line 1.02, 6.2.2). Sent low byte first.
#[must_use]
pub fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0xFFFF, |crc, byte| {
        (0..8).fold(crc ^ u16::from(*byte), |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0xA001 } else { crc >> 1 })
    })
}

/// The frame on a serial line.
#[must_use]
pub fn rtu_frame(unit: u8, pdu: &[u8]) -> Vec<u8> {
    let mut frame = vec![unit];
    frame.extend(pdu);
    frame.extend(crc16(&frame).to_le_bytes());
    frame
}

/// How long the request that begins with these bytes is on a serial line, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RtuLength {
    /// So long.
    Known(usize),
    /// More bytes are needed to say.
    More,
    /// The function is not known: only silence ends the frame.
    Unknown,
}

/// Where the request that `bytes` begin with ends on a serial line, by function and byte count.
#[must_use]
pub fn rtu_request_length(bytes: &[u8]) -> RtuLength {
    let counted = |at: usize| bytes.get(at).map_or(RtuLength::More, |n| RtuLength::Known(at + 1 + usize::from(*n) + 2));
    match bytes.get(1) {
        None => RtuLength::More,
        Some(1..=6) => RtuLength::Known(8),
        Some(15 | 16) => counted(6),
        Some(23) => counted(10),
        Some(_) => RtuLength::Unknown,
    }
}

/// Unit and PDU of a whole serial frame; `None` if the checksum is wrong.
#[must_use]
pub fn rtu_open(frame: &[u8]) -> Option<(u8, &[u8])> {
    let (body, crc) = frame.split_at_checked(frame.len().checked_sub(2)?)?;
    let (unit, pdu) = body.split_first()?;
    (crc == crc16(body).to_le_bytes() && !pdu.is_empty()).then_some((*unit, pdu))
}

/// The frame over TCP.
#[must_use]
pub fn tcp_frame(transaction: u16, unit: u8, pdu: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(MBAP_BYTES + pdu.len());
    frame.extend(transaction.to_be_bytes());
    frame.extend([0, 0]);
    frame.extend(item_count(pdu.len() + 1).to_be_bytes());
    frame.push(unit);
    frame.extend(pdu);
    frame
}

/// The header of a TCP frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mbap {
    /// Chosen by the asker, echoed.
    pub transaction: u16,
    /// Which device.
    pub unit: u8,
    /// Length of the PDU that follows, in bytes; 1 to [`PDU_BYTES_MAX`].
    pub pdu_bytes: usize,
}

impl Mbap {
    /// The header in these bytes; `None`: this is not Modbus.
    #[must_use]
    pub fn parse(header: [u8; MBAP_BYTES]) -> Option<Self> {
        let [t0, t1, p0, p1, l0, l1, unit] = header;
        let pdu_bytes = usize::from(u16::from_be_bytes([l0, l1])).checked_sub(1)?;
        let modbus = [p0, p1] == [0, 0] && (1..=PDU_BYTES_MAX).contains(&pdu_bytes);
        modbus.then_some(Self { transaction: u16::from_be_bytes([t0, t1]), unit, pdu_bytes })
    }
}

/// Bytes as people write frames: `01 05 00 00 FF 00 8C 3A`.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02X}")).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn frames_are_those_of_the_manuals() {
        let on = Request::WriteCoil { address: 0, value: COIL_ON };
        assert_eq!(hex(&rtu_frame(1, &on.encode())), "01 05 00 00 FF 00 8C 3A");
        let pulse = Request::WriteCoil { address: 0x0200, value: 30 };
        assert_eq!(hex(&rtu_frame(1, &pulse.encode())), "01 05 02 00 00 1E 4C 7A");
        let card = Request::Read { space: Space::Holding, address: 2, count: 2 };
        assert_eq!(hex(&rtu_frame(1, &card.encode())), "01 03 00 02 00 02 65 CB");
        let all = Request::WriteCoils { address: 0, on: vec![true; 8] };
        assert_eq!(hex(&rtu_frame(255, &all.encode())), "FF 0F 00 00 00 08 01 FF 30 1D");
    }

    #[test]
    fn a_reply_to_another_request_is_never_taken() {
        let read = Request::Read { space: Space::Holding, address: 2, count: 2 };
        assert_eq!(read.check(&[3, 4, 0x1E, 0xA6, 0x86, 0x71]), Ok(Reply::Words(vec![0x1EA6, 0x8671])));
        assert_eq!(read.check(&[3, 2, 0x1E, 0xA6]), Err(ReplyError::Length { wanted: 6, got: 4 }));
        assert_eq!(read.check(&[3, 2, 0, 0, 0, 0]), Err(ReplyError::Length { wanted: 4, got: 2 }));
        assert_eq!(read.check(&[4, 4, 0, 0, 0, 0]), Err(ReplyError::Function { asked: 3, got: 4 }));
        assert_eq!(read.check(&[0x83, 2]), Err(ReplyError::Refused(Exception(2))));
        let write = Request::WriteCoil { address: 1, value: COIL_ON };
        assert_eq!(write.check(&[5, 0, 1, 0xFF, 0]), Ok(Reply::Written));
        assert_eq!(write.check(&[5, 0, 9, 0xFF, 0]), Err(ReplyError::Echo));
        assert_eq!(write.check(&[]), Err(ReplyError::Length { wanted: 5, got: 0 }));
    }

    #[test]
    fn the_request_that_ends_a_server_of_the_crate_is_refused() {
        let pdu = [0x0F, 0, 0, 0x07, 0xD0, 1, 0xFF];
        assert_eq!(Request::decode(&pdu), Err(Exception::ILLEGAL_VALUE));
        assert_eq!(Request::decode(&[0x10, 0, 0, 0x80, 1, 2, 0, 0]), Err(Exception::ILLEGAL_VALUE));
    }

    fn requests() -> impl Strategy<Value = Request> {
        prop_oneof![
            (prop::sample::select(Space::ALL.as_slice()), any::<u16>(), 1..=125u16)
                .prop_map(|(space, address, count)| Request::Read { space, address, count }),
            (any::<u16>(), any::<u16>()).prop_map(|(address, value)| Request::WriteCoil { address, value }),
            (any::<u16>(), any::<u16>()).prop_map(|(address, value)| Request::WriteRegister { address, value }),
            (any::<u16>(), prop::collection::vec(any::<bool>(), 1..=WRITE_BITS_MAX))
                .prop_map(|(address, on)| Request::WriteCoils { address, on }),
            (any::<u16>(), prop::collection::vec(any::<u16>(), 1..=WRITE_REGISTERS_MAX))
                .prop_map(|(address, values)| Request::WriteRegisters { address, values }),
            (any::<u16>(), 1..=125u16, any::<u16>(), prop::collection::vec(any::<u16>(), 1..=121))
                .prop_map(|(read, count, write, values)| Request::ReadWrite { read, count, write, values }),
        ]
    }

    proptest! {
        #[test]
        fn a_request_is_read_back_as_it_was(request in requests()) {
            let pdu = request.encode();
            prop_assert!(pdu.len() <= PDU_BYTES_MAX);
            prop_assert_eq!(Request::decode(&pdu), Ok(request));
        }

        #[test]
        fn no_bytes_break_a_reader(bytes in prop::collection::vec(any::<u8>(), 0..300), request in requests()) {
            // The results do not matter here: nothing may panic.
            drop((Request::decode(&bytes), request.check(&bytes), rtu_open(&bytes).is_some()));
            let header = bytes.first_chunk().map(|h| Mbap::parse(*h));
            prop_assert!(header.flatten().is_none_or(|h| (1..=PDU_BYTES_MAX).contains(&h.pdu_bytes)));
        }
    }
}
