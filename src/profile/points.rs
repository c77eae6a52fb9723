//! The points of a device: where a number, a flag or bytes are in its registers; which points are polled together; what is written.

use serde::Deserialize;

use crate::wire::modbus::{Request, Space};

/// How requests and addresses of a device are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// 0: the file's addresses are those of the protocol; 1: one more.
    pub address_base: u16,
    /// Most registers or bits in one read.
    pub read_max: u16,
    /// The longest time that the device takes to reply, in milliseconds.
    pub reply_ms: u32,
    /// Unit number and line settings as delivered, for people.
    pub factory: String,
}

/// Order of the two bytes of a register, or of the registers of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, strum::Display)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Order {
    /// Most significant first, as Modbus orders the bytes of a register.
    Big,
    /// Least significant first.
    Little,
}

/// What a point holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, strum::Display)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum PointType {
    /// A coil, a discrete input, a bit of a register, or whether a register is not 0.
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
    /// Bytes, two a register.
    Bytes,
    /// Bytes, one a register, in its low half.
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
    /// The factor from the raw number to the unit.
    pub scale: f64,
    /// The unit after scaling.
    pub unit: Option<String>,
    /// Raw numbers that mean "nothing".
    pub invalid: Vec<i64>,
    /// How many such places follow each other, e.g. the channels of a relay board.
    pub channels: u16,
    /// From one channel to the next, in registers or bits.
    pub stride: u16,
}

impl Point {
    /// The address of channel `channel`.
    pub(crate) fn address_of(&self, channel: u16) -> u16 {
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

/// Points that are read together, and how often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Poll {
    /// Its name.
    pub name: String,
    /// How often, in milliseconds.
    pub every_ms: u32,
    /// Which points.
    pub points: Vec<String>,
    /// Whether one request must read all of it, so that all values are of one moment.
    pub atomic: bool,
    /// The requests, in order of address.
    pub reads: Vec<Request>,
}

/// A write to channel 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// Coil or holding.
    pub space: Space,
    /// The address, from 0.
    pub address: u16,
    /// The raw value, also for a coil.
    pub value: u16,
    /// Whether the device needs FC 15 or FC 16, which write several, although one is written.
    pub multiple: bool,
}

impl Write {
    /// The request that writes `value` instead of the profile's, at an address higher by `offset`.
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

/// The requests that read all channels of all `points`, in order of table and address. Neighbours with at most `max_gap` unused
/// registers or bits between them share a request of at most `read_max` registers, or sixteen times as many bits.
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
