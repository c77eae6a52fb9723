//! The points of a device: where a number, a flag or bytes are among its registers, what is asked together, and what is written.

use serde::Deserialize;

use crate::wire::modbus::{Request, Space};

/// How to talk to a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// 0: the file's addresses are those of the protocol; 1: one more.
    pub address_base: u16,
    /// Most registers or bits in one read.
    pub read_max: u16,
    /// The slowest reply after which the device is silent for sure, in milliseconds.
    pub reply_ms: u32,
    /// As delivered, for people: unit and line.
    pub factory: String,
}

/// Order of the two bytes of a register, or of the registers of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, strum::Display)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Order {
    /// Most significant first: what Modbus reports for the bytes of a register.
    Big,
    /// Least significant first.
    Little,
}

/// What a point holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, strum::Display)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum PointType {
    /// A coil, a discrete input, a bit of a register, or a register that is 0 or not.
    Bool,
    /// One register, unsigned.
    U16,
    /// One register, signed.
    I16,
    /// Two registers, unsigned.
    U32,
    /// Two registers, signed.
    I32,
    /// Two registers, IEEE 754 single.
    F32,
    /// Bytes, two in a register.
    Bytes,
    /// Bytes, one in a register, in its low half.
    ByteEach,
}

/// One named place in a device's registers.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// Its name.
    pub name: String,
    /// Which table.
    pub space: Space,
    /// First register or bit, from 0.
    pub address: u16,
    /// How many registers; 1 for bits.
    pub registers: u16,
    /// What it holds.
    pub kind: PointType,
    /// Which bit of the register, 0 the lowest, for [`PointType::Bool`] in a register; `None`: the register as a whole.
    pub bit: Option<u8>,
    /// Order of the bytes in a register.
    pub byte_order: Order,
    /// Order of the registers.
    pub word_order: Order,
    /// What the raw number is multiplied with.
    pub scale: f64,
    /// The unit after scaling.
    pub unit: Option<String>,
    /// Raw numbers that mean "nothing".
    pub invalid: Vec<i64>,
    /// How many of the same follow each other: the channels of a relay board.
    pub channels: u16,
    /// From one channel to the next, in registers or bits.
    pub stride: u16,
}

impl Point {
    /// The address of channel `channel`.
    #[must_use]
    pub fn address_of(&self, channel: u16) -> u16 {
        self.address.saturating_add(channel.saturating_mul(self.stride))
    }

    /// The first address after all channels.
    #[must_use]
    pub fn end(&self) -> u32 {
        u32::from(self.address)
            + u32::from(self.channels.saturating_sub(1)) * u32::from(self.stride)
            + u32::from(self.registers)
    }
}

/// What is asked together, and how often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Poll {
    /// Its name.
    pub name: String,
    /// How often, in milliseconds.
    pub every_ms: u32,
    /// Which points.
    pub points: Vec<String>,
    /// Whether one request must bring all of it, because halves of two moments would be a lie.
    pub atomic: bool,
    /// The requests, in order of address.
    pub reads: Vec<Request>,
}

/// What to write, for channel 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// Coil or holding.
    pub space: Space,
    /// Where, from 0.
    pub address: u16,
    /// What; raw, also for a coil.
    pub value: u16,
    /// Whether the device wants the function for many (FC 15, FC 16) although one is written.
    pub multiple: bool,
}

impl Write {
    /// The request that writes `value` in place of the profile's, `offset` places further.
    #[must_use]
    pub fn request(&self, offset: u16, value: u16) -> Request {
        let address = self.address.saturating_add(offset);
        match (self.space.is_bits(), self.multiple) {
            (true, false) => Request::WriteCoil { address, value },
            (true, true) => Request::WriteCoils { address, on: vec![value != 0] },
            (false, false) => Request::WriteRegister { address, value },
            (false, true) => Request::WriteRegisters { address, values: vec![value] },
        }
    }
}

/// The requests that bring all channels of all `points`, in order of table and address. Neighbours with at most `max_gap`
/// unused items between them share a request of at most `read_max` items (bits: sixteen times as many).
pub(super) fn plan(points: &[&Point], read_max: u16, max_gap: u16) -> Vec<Request> {
    let mut requests = Vec::new();
    for space in Space::ALL.iter().copied() {
        let max = if space.is_bits() { u32::from(read_max) * 16 } else { u32::from(read_max) };
        let mut spans: Vec<(u32, u32)> =
            points.iter().filter(|p| p.space == space).map(|p| (u32::from(p.address), p.end())).collect();
        spans.sort_unstable();
        let mut joined: Vec<(u32, u32)> = Vec::new();
        for (start, end) in spans {
            match joined.last_mut() {
                Some(last) if start <= last.1 + u32::from(max_gap) && end.max(last.1) - last.0 <= max => {
                    last.1 = last.1.max(end);
                }
                _ => joined.push((start, end)),
            }
        }
        requests.extend(joined.into_iter().filter_map(|(start, end)| {
            let (address, count) = (u16::try_from(start).ok()?, u16::try_from(end - start).ok()?);
            Some(Request::Read { space, address, count })
        }));
    }
    requests
}
