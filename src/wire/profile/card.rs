//! From a reader's bytes to the card's UID, in the order in which the card sends it, and back.

use crate::access::id::CardUid;
use crate::access::input::Presented;

use super::{Block, Point, Value};

/// In which order a reader gives the bytes of a UID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UidOrder {
    /// As the card sends them.
    MsbFirst,
    /// Turned round.
    LsbFirst,
}

/// How many of the bytes are the UID.
#[derive(Clone, Debug, PartialEq)]
pub enum UidLength {
    /// Always so many.
    Fixed(u8),
    /// A point says it.
    Point(Point),
    /// The rest is zeros: the shortest of 4, 7 and 10 that holds every other byte.
    ZeroPadded,
}

/// Where a reader shows the UID.
#[derive(Clone, Debug, PartialEq)]
pub struct UidSource {
    /// The bytes.
    pub point: Point,
    /// How many of them.
    pub length: UidLength,
    /// Their order.
    pub order: UidOrder,
}

impl UidSource {
    /// The point that says the length, if one does.
    #[must_use]
    pub fn length_point(&self) -> Option<&Point> {
        match &self.length {
            UidLength::Point(point) => Some(point),
            UidLength::Fixed(_) | UidLength::ZeroPadded => None,
        }
    }

    /// What is shown; `None`: nothing (all zeros, or length 0), or it was not read.
    #[must_use]
    pub fn read(&self, block: &Block) -> Option<Presented> {
        let Some(Value::Bytes(shown)) = self.point.decode(block, 0) else { return None };
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
        };
        if len == 0 {
            return None;
        }
        let mut bytes = match shown.get(..len) {
            Some(bytes) => bytes.to_vec(),
            None => return Some(Presented::Malformed(format!("length {len} of {}", hex(&shown)))),
        };
        if self.order == UidOrder::LsbFirst {
            bytes.reverse();
        }
        Some(match CardUid::from_bytes(&bytes) {
            Ok(uid) => Presented::Card(uid),
            Err(_) => Presented::Malformed(hex(&bytes)),
        })
    }

    /// The bytes and the length that a device shows for `uid`.
    #[must_use]
    pub fn show(&self, uid: CardUid) -> (Vec<u8>, u16) {
        let mut bytes = uid.as_bytes().to_vec();
        if self.order == UidOrder::LsbFirst {
            bytes.reverse();
        }
        let len = u16::try_from(bytes.len()).unwrap_or(0);
        (bytes, len)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02X}")).collect()
}
