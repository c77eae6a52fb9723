//! From a reader's bytes to the card's UID, in the order in which the card sends it, and back.

use crate::access::id::CardUid;
use crate::access::input::Presented;
use crate::access::transform::{Form, Reading, Transform, Turn};

use super::{Block, Point, PointType, Value};

/// In which order a reader gives the bytes of a UID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UidOrder {
    /// As the card sends them.
    MsbFirst,
    /// Turned round.
    LsbFirst,
}

/// How many of the bytes are the UID, or what is left of it.
#[derive(Clone, Debug, PartialEq)]
pub enum UidLength {
    /// Always so many.
    Fixed(u8),
    /// A point says it.
    Point(Point),
    /// The rest is zeros: the shortest of 4, 7 and 10 that holds every other byte.
    ZeroPadded,
    /// All of the point; for lossy readers.
    All,
}

/// What a reader says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UidSays {
    /// The whole UID.
    Whole {
        /// Shortest UID it can read, in bytes.
        min: u8,
        /// Longest UID it can read, in bytes.
        max: u8,
    },
    /// What this form leaves of it.
    Reduced(Form),
}

/// Where a reader shows the UID.
#[derive(Clone, Debug, PartialEq)]
pub struct UidSource {
    /// The bytes, or for a lossy reader also a number.
    pub point: Point,
    /// How many of them.
    pub length: UidLength,
    /// Their order; for a lossy reader, at which end of the UID it begins.
    pub order: UidOrder,
    /// All of it, or what is left.
    pub says: UidSays,
}

impl UidSource {
    /// The point that says the length, if one does.
    #[must_use]
    pub fn length_point(&self) -> Option<&Point> {
        match &self.length {
            UidLength::Point(point) => Some(point),
            UidLength::Fixed(_) | UidLength::ZeroPadded | UidLength::All => None,
        }
    }

    /// What the reader does to every UID; `None`: nothing, it gives all of it.
    #[must_use]
    pub fn transform(&self) -> Option<Transform> {
        let turn = match self.order {
            UidOrder::MsbFirst => Turn::AsSent,
            UidOrder::LsbFirst => Turn::Reversed,
        };
        match self.says {
            UidSays::Whole { .. } => None,
            UidSays::Reduced(form) => Some(Transform { turn, form }),
        }
    }

    /// What is shown; `None`: nothing (all zeros, or length 0), or it was not read.
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
            None => return Some(Presented::Malformed(format!("length {len} of {}", hex(&shown)))),
        };
        let (min, max) = match self.says {
            UidSays::Whole { min, max } => (min, max),
            UidSays::Reduced(form) => return self.reading(form, &bytes),
        };
        if self.order == UidOrder::LsbFirst {
            bytes.reverse();
        }
        Some(match CardUid::from_bytes(&bytes) {
            Ok(uid) if (usize::from(min)..=usize::from(max)).contains(&len) => Presented::Card(uid),
            Ok(_) | Err(_) => Presented::Malformed(hex(&bytes)),
        })
    }

    /// What a lossy reader shows; `None`: nothing.
    fn reading(&self, form: Form, shown: &[u8]) -> Option<Presented> {
        let malformed = Some(Presented::Malformed(hex(shown)));
        let value = match form.digits() {
            None => shown.iter().fold(0_u128, |n, b| n.saturating_mul(0x100).saturating_add(u128::from(*b))),
            Some(base) => {
                let Ok(text) = std::str::from_utf8(shown) else { return malformed };
                let digits = text.trim_matches(|c: char| c == '\0' || c.is_ascii_whitespace());
                if digits.is_empty() {
                    return None;
                }
                // `from_str_radix` would take a sign.
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

    /// The bytes and the length that a device shows for `uid`.
    #[must_use]
    pub fn show(&self, uid: CardUid) -> (Vec<u8>, u16) {
        let bytes = match (self.transform(), self.says) {
            (Some(transform), UidSays::Reduced(form)) => self.show_reduced(transform.read(uid).value, form),
            _ => {
                let mut bytes = uid.as_bytes().to_vec();
                if self.order == UidOrder::LsbFirst {
                    bytes.reverse();
                }
                bytes
            }
        };
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
                let mut bytes = value.to_be_bytes().to_vec();
                let keep = bytes.split_off(bytes.len().saturating_sub(room));
                let mut all = vec![0; room.saturating_sub(keep.len())];
                all.extend(keep);
                all
            }
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02X}")).collect()
}
