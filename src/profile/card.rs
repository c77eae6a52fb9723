//! From the registers of a reader to the card's UID, in the order in which the card sends it; and back, for simulated devices.

use crate::access::id::CardUid;
use crate::access::input::Presented;
use crate::access::transform::{Form, Reading, Transform};

use super::model::{UidContent, UidLength, UidOrder, UidSource};
use super::points::{Point, PointType};
use super::value::{Block, Value};

impl UidSource {
    /// The point that holds the length, if there is one.
    pub(crate) fn length_point(&self) -> Option<&Point> {
        match &self.length {
            UidLength::Point(point) => Some(point),
            UidLength::Fixed(_) | UidLength::ZeroPadded | UidLength::All => None,
        }
    }

    /// The transform of a lossy reader; `None`: the reader gives whole UIDs.
    #[must_use]
    pub fn transform(&self) -> Option<Transform> {
        self.content.transform(self.order)
    }

    /// The card that the reader shows; `None`: no card (all zeros, or length 0), or it was not read.
    #[must_use]
    pub fn read(&self, block: &Block) -> Option<Presented> {
        let shown = match self.point.decode(block, 0)? {
            Value::Bytes(shown) => shown,
            Value::Whole(number) => u64::try_from(number).ok()?.to_be_bytes().to_vec(),
            Value::Flag(_) | Value::Real(_) => return None,
        };
        if shown.iter().all(|b| *b == 0) {
            return None;
        }
        let len = match &self.length {
            UidLength::Fixed(len) => usize::from(*len),
            UidLength::Point(point) => match point.decode(block, 0)? {
                Value::Whole(len) => usize::try_from(len).unwrap_or(usize::MAX),
                Value::Flag(_) | Value::Real(_) | Value::Bytes(_) => return None,
            },
            UidLength::ZeroPadded => {
                let used = shown.iter().rposition(|b| *b != 0).map_or(0, |at| at + 1);
                [4, 7, 10].into_iter().find(|len| *len >= used).unwrap_or(used)
            }
            UidLength::All => shown.len(),
        };
        if len == 0 {
            return None;
        }
        let mut bytes = match shown.get(..len) {
            Some(bytes) => bytes.to_vec(),
            None => return Some(Presented::Malformed(format!("length {len} of {}", hex::encode_upper(&shown)))),
        };
        let (min, max) = match self.content {
            UidContent::Whole { min, max } => (min, max),
            UidContent::Reduced(form) => return self.reading(form, &bytes),
        };
        if self.order == UidOrder::LsbFirst {
            bytes.reverse();
        }
        Some(match CardUid::from_bytes(&bytes) {
            Ok(uid) if (usize::from(min)..=usize::from(max)).contains(&len) => Presented::Card(uid),
            Ok(_) | Err(_) => Presented::Malformed(hex::encode_upper(&bytes)),
        })
    }

    /// The card that a lossy reader shows; `None`: no card.
    fn reading(&self, form: Form, shown: &[u8]) -> Option<Presented> {
        let malformed = Some(Presented::Malformed(hex::encode_upper(shown)));
        let value = match form.digits() {
            None => shown.iter().fold(0_u128, |n, b| n.saturating_mul(0x100).saturating_add(u128::from(*b))),
            Some(base) => {
                let Ok(text) = std::str::from_utf8(shown) else { return malformed };
                let digits = text.trim_matches(|c: char| c == '\0' || c.is_ascii_whitespace());
                if digits.is_empty() {
                    return None;
                }
                // `from_str_radix` accepts a sign.
                match u128::from_str_radix(digits, base) {
                    Ok(value) if !digits.starts_with('+') => value,
                    Ok(_) | Err(_) => return malformed,
                }
            }
        };
        let too_much = form.keeps().is_some_and(|keep| value >> (8 * u32::from(keep)) != 0);
        match self.transform() {
            Some(transform) if !too_much && value != 0 => Some(Presented::Lossy(Reading { transform, value })),
            Some(_) if value == 0 => None,
            Some(_) | None => malformed,
        }
    }

    /// The bytes and the length with which a simulated device shows `uid`.
    #[must_use]
    pub fn show(&self, uid: CardUid) -> (Vec<u8>, u16) {
        let mut bytes = match self.transform() {
            Some(transform) => self.show_reduced(transform.read(uid).value, transform.form),
            None => uid.as_bytes().to_vec(),
        };
        if self.transform().is_none() && self.order == UidOrder::LsbFirst {
            bytes.reverse();
        }
        let len = u16::try_from(bytes.len()).unwrap_or(0);
        (bytes, len)
    }

    fn show_reduced(&self, value: u128, form: Form) -> Vec<u8> {
        match form.digits() {
            Some(16) => format!("{value:X}").into_bytes(),
            Some(_) => value.to_string().into_bytes(),
            None => {
                let room = match (&self.length, self.point.kind) {
                    (UidLength::Fixed(len), _) => usize::from(*len),
                    (_, PointType::ByteEach) => usize::from(self.point.registers),
                    _ => usize::from(self.point.registers) * 2,
                };
                let bytes = value.to_be_bytes();
                let unshown = bytes.len().saturating_sub(room);
                let padding = vec![0; room.saturating_sub(bytes.len())];
                [padding.as_slice(), bytes.get(unshown..).unwrap_or_default()].concat()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;
    use crate::wire::modbus::{Reply, Request, Space};

    fn source(kind: PointType, registers: u16, length: UidLength, order: UidOrder, content: UidContent) -> UidSource {
        let point = crate::profile::tests::point(kind, registers);
        UidSource { point, length, order, content }
    }

    fn read(source: &UidSource, words: Vec<u16>) -> Option<Presented> {
        let mut block = Block::default();
        let request = Request::Read { space: Space::Input, address: 0, count: source.point.registers };
        block.add(&request, Reply::Words(words));
        source.read(&block)
    }

    fn text(form: Form, text: &str) -> Option<Presented> {
        let source = source(PointType::ByteEach, 12, UidLength::All, UidOrder::MsbFirst, UidContent::Reduced(form));
        let mut words: Vec<u16> = text.bytes().map(u16::from).collect();
        words.resize(12, 0);
        read(&source, words)
    }

    #[test]
    fn digits_are_read_without_the_spaces_and_zeros_around_them_and_nothing_else_is() {
        let value = |presented| match presented {
            Some(Presented::Lossy(reading)) => Some(reading.value),
            _ => None,
        };
        assert_eq!(value(text(Form::Decimal, " 0514229873\r\n")), Some(514_229_873));
        assert_eq!(value(text(Form::DroppedZeros, "1ea68671")), Some(0x1EA6_8671));
        assert_eq!(text(Form::Decimal, "   "), None);
        for wrong in ["+514", "-514", "1EA", "5 14", "\u{7f}"] {
            assert!(matches!(text(Form::Decimal, wrong), Some(Presented::Malformed(_))), "{wrong}");
        }
    }

    #[test]
    fn a_uid_outside_the_lengths_that_the_reader_can_read_is_malformed() {
        let content = UidContent::Whole { min: 4, max: 7 };
        let source = source(PointType::ByteEach, 10, UidLength::ZeroPadded, UidOrder::MsbFirst, content);
        let show = |uid: &str| read(&source, source.point.encode_bytes(&source.show(uid.parse().unwrap()).0));
        assert!(matches!(show("04A1B2C3D4E5F6"), Some(Presented::Card(_))));
        assert!(matches!(show("04A1B2C3D4E5F6A7A8A9"), Some(Presented::Malformed(_))));
    }

    proptest! {
        /// What a simulated device shows of a card is read as the transform of that card.
        #[test]
        fn a_card_shown_by_a_lossy_device_is_read_as_its_transform(
            bytes in select(&[4_usize, 7, 10][..]).prop_flat_map(|n| proptest::collection::vec(any::<u8>(), n)),
            order in select(&[UidOrder::MsbFirst, UidOrder::LsbFirst][..]),
            form in select(&[
                Form::Last(3), Form::Last(4), Form::First(2), Form::FirstLevel, Form::Decimal, Form::DroppedZeros, Form::DecimalBytes,
            ][..]),
            kind in select(&[PointType::Bytes, PointType::ByteEach, PointType::U32][..]),
        ) {
            let Ok(uid) = CardUid::from_bytes(&bytes) else { return Ok(()) };
            let kind = if form.digits().is_some() && kind == PointType::U32 { PointType::Bytes } else { kind };
            let registers = if kind == PointType::U32 { 2 } else { 32 };
            let source = source(kind, registers, UidLength::All, order, UidContent::Reduced(form));
            let shown = source.point.encode_bytes(&source.show(uid).0);
            let reading = source.transform().unwrap().read(uid);
            let expected = (reading.value != 0).then_some(Presented::Lossy(reading));
            prop_assert_eq!(read(&source, shown), expected);
        }
    }
}
