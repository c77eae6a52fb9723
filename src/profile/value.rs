//! From the replies of a poll to values, and from values to registers for simulated devices.

use crate::wire::modbus::{Reply, Request, Space};

use super::points::{Order, Point, PointType};

/// The replies to all reads of a poll.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Block {
    parts: Vec<(Space, u16, Reply)>,
}

/// The value of a point.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Yes or no.
    Flag(bool),
    /// A whole number, not scaled yet.
    Whole(i64),
    /// A number with a fraction, not scaled yet.
    Real(f64),
    /// Bytes in the order of the registers.
    Bytes(Vec<u8>),
}

impl Block {
    /// Adds the reply to `request`, if it is a read.
    pub fn add(&mut self, request: &Request, reply: Reply) {
        if let Request::Read { space, address, .. } = request {
            self.parts.push((*space, *address, reply));
        }
    }

    /// Adds the replies of another poll.
    pub fn extend(&mut self, other: Self) {
        self.parts.extend(other.parts);
    }

    /// Whether `point` was read, whatever its value.
    #[must_use]
    pub fn has(&self, point: &Point, channel: u16) -> bool {
        let address = point.address_of(channel);
        if point.space.is_bits() {
            self.bit(point.space, address).is_some()
        } else {
            self.words(point.space, address, point.registers).is_some()
        }
    }

    fn bit(&self, space: Space, address: u16) -> Option<bool> {
        self.parts.iter().find_map(|(s, first, reply)| match reply {
            Reply::Bits(bits) if *s == space => bits.get(usize::from(address.checked_sub(*first)?)).copied(),
            Reply::Bits(_) | Reply::Words(_) | Reply::Written => None,
        })
    }

    fn words(&self, space: Space, address: u16, count: u16) -> Option<&[u16]> {
        self.parts.iter().find_map(|(s, first, reply)| match reply {
            Reply::Words(words) if *s == space => {
                let start = usize::from(address.checked_sub(*first)?);
                words.get(start..start + usize::from(count))
            }
            Reply::Words(_) | Reply::Bits(_) | Reply::Written => None,
        })
    }
}

impl PointType {
    /// The smallest and the largest whole number, not scaled, that a point of this type holds; `None`: it holds no whole numbers.
    #[must_use]
    pub fn whole(self) -> Option<(i64, i64)> {
        match self {
            Self::U16 => Some((0, i64::from(u16::MAX))),
            Self::I16 => Some((i64::from(i16::MIN), i64::from(i16::MAX))),
            Self::U32 => Some((0, i64::from(u32::MAX))),
            Self::I32 => Some((i64::from(i32::MIN), i64::from(i32::MAX))),
            Self::Bool | Self::F32 | Self::Bytes | Self::ByteEach => None,
        }
    }
}

impl Point {
    /// The value of one channel in `block`; `None`: it was not read, or it means "nothing".
    #[must_use]
    pub fn decode(&self, block: &Block, channel: u16) -> Option<Value> {
        let address = self.address_of(channel);
        if self.space.is_bits() {
            return block.bit(self.space, address).map(Value::Flag);
        }
        let words = block.words(self.space, address, self.registers)?;
        let raw = || self.in_order(words).fold(0_u32, |raw, word| raw << 16 | u32::from(word));
        let value = match self.kind {
            PointType::Bool => {
                let word = words.first()?;
                Value::Flag(match self.bit {
                    Some(bit) => word.checked_shr(u32::from(bit)).unwrap_or(0) & 1 == 1,
                    None => *word != 0,
                })
            }
            PointType::Bytes => Value::Bytes(self.in_order(words).flat_map(u16::to_be_bytes).collect()),
            PointType::ByteEach => Value::Bytes(self.in_order(words).map(|word| word.to_be_bytes()[1]).collect()),
            PointType::U16 | PointType::U32 => Value::Whole(i64::from(raw())),
            PointType::I16 => Value::Whole(i64::from(u16::try_from(raw()).ok()?.cast_signed())),
            PointType::I32 => Value::Whole(i64::from(raw().cast_signed())),
            PointType::F32 => Value::Real(f64::from(f32::from_bits(raw()))),
        };
        match value {
            Value::Whole(raw) if self.invalid.contains(&raw) => None,
            Value::Real(raw) if !raw.is_finite() => None,
            value => Some(value),
        }
    }

    /// The flag; a number is set when it is not 0.
    #[must_use]
    pub fn flag(&self, block: &Block, channel: u16) -> Option<bool> {
        match self.decode(block, channel)? {
            Value::Flag(flag) => Some(flag),
            Value::Whole(number) => Some(number != 0),
            Value::Real(_) | Value::Bytes(_) => None,
        }
    }

    /// The number in the point's unit.
    #[must_use]
    pub fn number(&self, block: &Block, channel: u16) -> Option<f64> {
        match self.decode(block, channel)? {
            // 53 bits hold every value of a register pair.
            #[expect(clippy::cast_precision_loss, reason = "at most 32 bits are ever decoded")]
            Value::Whole(number) => Some(number as f64 * self.scale),
            Value::Real(number) => Some(number * self.scale),
            Value::Flag(_) | Value::Bytes(_) => None,
        }
    }

    /// The registers that hold `bytes`, padded with zeros, for simulated devices.
    #[must_use]
    pub fn encode_bytes(&self, bytes: &[u8]) -> Vec<u16> {
        let mut words: Vec<u16> = match self.kind {
            PointType::ByteEach => bytes.iter().map(|b| u16::from(*b)).collect(),
            _ => {
                let byte = |two: &[u8], at: usize| two.get(at).map_or(0, |byte| u16::from(*byte));
                bytes.chunks(2).map(|two| byte(two, 0) << 8 | byte(two, 1)).collect()
            }
        };
        words.resize(usize::from(self.registers), 0);
        self.in_order(&words).collect()
    }

    /// The registers that hold the number `value` in the point's unit, rounded to what the point can hold, for simulated devices.
    /// `None`: the point cannot hold numbers, or not this one.
    #[must_use]
    pub fn encode_number(&self, value: f64) -> Option<Vec<u16>> {
        let raw = value / self.scale;
        let raw: u32 = if self.kind == PointType::F32 {
            #[expect(clippy::cast_possible_truncation, reason = "the nearest number that the point can hold is meant")]
            let raw = raw as f32;
            raw.is_finite().then(|| raw.to_bits())?
        } else {
            let (min, max) = self.kind.whole()?;
            #[expect(clippy::cast_precision_loss, reason = "they have at most 32 bits")]
            let range = min as f64..=max as f64;
            let raw = raw.round();
            #[expect(clippy::cast_possible_truncation, reason = "it lies between two numbers of at most 32 bits")]
            let raw = range.contains(&raw).then_some(raw as i64)?;
            u32::try_from(raw & i64::from(u32::MAX)).ok()?
        };
        let [a, b, c, d] = raw.to_be_bytes();
        let words = [u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])];
        let unused = words.len().saturating_sub(usize::from(self.registers));
        Some(self.in_order(words.get(unused..)?).collect())
    }

    /// The registers in the order of the device from those with the most significant register and byte first, and the reverse.
    fn in_order<'w>(&self, words: &'w [u16]) -> impl Iterator<Item = u16> + use<'w> {
        let last_first = self.word_order == Order::Little;
        let swapped = self.byte_order == Order::Little && self.kind != PointType::ByteEach;
        let (mut first, mut last) = (words.iter(), words.iter().rev());
        let next = move || if last_first { last.next() } else { first.next() };
        std::iter::from_fn(next).map(move |word| if swapped { word.swap_bytes() } else { *word })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(kind: PointType, registers: u16, word_order: Order) -> Point {
        Point { word_order, scale: 0.1, invalid: vec![0xFFFF], ..crate::profile::tests::point(kind, registers) }
    }

    fn block(words: &[u16]) -> Block {
        let mut block = Block::default();
        let request = Request::Read { space: Space::Input, address: 0, count: 1 };
        block.add(&request, Reply::Words(words.to_vec()));
        block
    }

    #[test]
    fn numbers_are_decoded_in_every_order() {
        assert_eq!(point(PointType::U32, 2, Order::Big).number(&block(&[1, 0]), 0), Some(6553.6));
        assert_eq!(point(PointType::U32, 2, Order::Little).number(&block(&[1, 0]), 0), Some(0.1));
        assert_eq!(point(PointType::I16, 1, Order::Big).decode(&block(&[0xFFFE]), 0), Some(Value::Whole(-2)));
        let volts = point(PointType::F32, 2, Order::Big).decode(&block(&[0x4366, 0x3333]), 0);
        assert!(matches!(volts, Some(Value::Real(v)) if (v - 230.2).abs() < 0.001));
    }

    #[test]
    fn an_encoded_number_is_decoded_as_the_same_number_in_every_type_and_order() {
        let types =
            [(PointType::U16, 1), (PointType::I16, 1), (PointType::U32, 2), (PointType::I32, 2), (PointType::F32, 2)];
        for (kind, registers) in types {
            for word_order in [Order::Big, Order::Little] {
                for byte_order in [Order::Big, Order::Little] {
                    let p = Point { byte_order, ..point(kind, registers, word_order) };
                    let read = p.number(&block(&p.encode_number(1234.5).unwrap()), 0).unwrap();
                    assert!((read - 1234.5).abs() < 0.001, "{kind:?} {word_order:?} {byte_order:?}: {read}");
                }
            }
            let signed = point(kind, registers, Order::Big).encode_number(-3.0);
            assert_eq!(signed.is_none(), matches!(kind, PointType::U16 | PointType::U32), "{kind:?}");
            assert_eq!(point(kind, registers, Order::Big).encode_number(f64::NAN), None);
        }
        assert_eq!(point(PointType::U16, 1, Order::Big).encode_number(6_553.6), None);
        assert_eq!(point(PointType::Bytes, 4, Order::Big).encode_number(1.0), None);
    }

    #[test]
    fn a_raw_number_that_means_nothing_gives_no_value() {
        assert_eq!(point(PointType::U16, 1, Order::Big).number(&block(&[0xFFFF]), 0), None);
        assert_eq!(point(PointType::F32, 2, Order::Big).number(&block(&[0x7FC0, 0]), 0), None);
        assert_eq!(point(PointType::U32, 2, Order::Big).number(&block(&[1]), 0), None);
    }

    #[test]
    fn encoded_bytes_are_decoded_as_the_same_bytes() {
        for kind in [PointType::Bytes, PointType::ByteEach] {
            for order in [Order::Big, Order::Little] {
                let p = point(kind, 4, order);
                let words = p.encode_bytes(&[1, 2, 3, 4]);
                let Some(Value::Bytes(read)) = p.decode(&block(&words), 0) else { panic!("no bytes") };
                assert_eq!(read.get(..4), Some([1, 2, 3, 4].as_slice()));
            }
        }
    }
}
