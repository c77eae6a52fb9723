//! Readers that lose part of the UID: what such a reader reports of a card, as a number.
//!
//! There is no rule how the bytes of a UID become a number (NXP AN10927), so each device profile declares what its reader does,
//! and the gateway does the same to the UIDs it knows. What is reported can never be turned back into a UID: this file does not try.
//! Which cards a reading may mean is the list's business.

use std::fmt;

use super::id::CardUid;

/// Fewest bytes of a UID that a reader may keep: with one, every 256th card would be the same.
pub const KEEP_BYTES_MIN: u8 = 2;
/// Most bytes that a reader can keep and still lose some of every UID longer than 4 bytes.
pub const KEEP_BYTES_MAX: u8 = 4;
/// The cascade tag, which a card with a longer UID sends in front of its first three bytes (ISO/IEC 14443-3, 6.5.4).
const CASCADE_TAG: u8 = 0x88;

/// At which end of the UID the reader begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Turn {
    /// As the card sends the bytes.
    AsSent,
    /// Last byte first.
    Reversed,
}

/// What a lossy reader makes of the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Form {
    /// The last so many bytes: Wiegand 26 carries 3 of them, Wiegand 34 carries 4.
    Last(u8),
    /// The first so many bytes.
    First(u8),
    /// The first four bytes on the air: of a longer UID the cascade tag and three bytes.
    FirstLevel,
    /// The whole UID as one number: leading zeros are lost, and with them the length.
    Decimal,
    /// Each byte in hex without its leading zero, run together (esp-rfid v1): `01 23 04 05` and `12 03 04 05` are both `12345`.
    DroppedZeros,
    /// Each byte in decimal without leading zeros, run together: `1 23` and `12 3` are the same.
    DecimalBytes,
}

/// What a reader does to every UID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Transform {
    /// At which end it begins.
    pub turn: Turn,
    /// What it makes of it.
    pub form: Form,
}

/// What a lossy reader reported of a card.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reading {
    /// What the reader does to every UID.
    pub transform: Transform,
    /// What it reported. Text is taken as the number that its digits make, which loses leading zeros once more: two cards then fall
    /// together that the reader may report apart, never the other way round.
    pub value: u128,
}

impl Form {
    /// The base of the digits in which the reader writes; `None`: bytes or a whole number.
    #[must_use]
    pub fn digits(self) -> Option<u32> {
        match self {
            Self::Decimal | Self::DecimalBytes => Some(10),
            Self::DroppedZeros => Some(16),
            Self::Last(_) | Self::First(_) | Self::FirstLevel => None,
        }
    }

    /// How many bytes it keeps of every UID; `None`: something of all of them.
    #[must_use]
    pub fn keeps(self) -> Option<u8> {
        match self {
            Self::Last(keep) | Self::First(keep) => Some(keep),
            Self::FirstLevel => Some(4),
            Self::Decimal | Self::DroppedZeros | Self::DecimalBytes => None,
        }
    }
}

impl Transform {
    /// What the reader reports of `uid`.
    #[must_use]
    pub fn read(self, uid: CardUid) -> Reading {
        let sent = uid.as_bytes();
        let on_air: Vec<u8> = match (self.form, sent) {
            (Form::FirstLevel, [a, b, c, _, _, ..]) => vec![CASCADE_TAG, *a, *b, *c],
            _ => sent.to_vec(),
        };
        let bytes: Vec<u8> = match self.turn {
            Turn::AsSent => on_air,
            Turn::Reversed => on_air.into_iter().rev().collect(),
        };
        let value = match self.form {
            Form::Last(keep) => number(bytes.get(bytes.len().saturating_sub(usize::from(keep))..).unwrap_or(&bytes)),
            Form::First(keep) => number(bytes.get(..usize::from(keep)).unwrap_or(&bytes)),
            Form::FirstLevel | Form::Decimal => number(&bytes),
            Form::DroppedZeros => bytes.iter().fold(0, |n, b| append(n, *b, if *b < 0x10 { 0x10 } else { 0x100 })),
            Form::DecimalBytes => bytes.iter().fold(0, |n, b| {
                let shift = match b {
                    0..10 => 10,
                    10..100 => 100,
                    100.. => 1000,
                };
                append(n, *b, shift)
            }),
        };
        Reading { transform: self, value }
    }
}

/// The bytes as one number, first byte highest.
fn number(bytes: &[u8]) -> u128 {
    bytes.iter().fold(0, |n, b| append(n, *b, 0x100))
}

/// 10 bytes of 3 decimal digits each are below 2^128, so nothing overflows.
fn append(number: u128, byte: u8, shift: u128) -> u128 {
    number.saturating_mul(shift).saturating_add(u128::from(byte))
}

impl fmt::Display for Transform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.form {
            Form::Last(3) => f.write_str("wiegand26")?,
            Form::Last(4) => f.write_str("wiegand34")?,
            Form::Last(keep) => write!(f, "last {keep} bytes")?,
            Form::First(keep) => write!(f, "first {keep} bytes")?,
            Form::FirstLevel => f.write_str("first_level")?,
            Form::Decimal => f.write_str("decimal")?,
            Form::DroppedZeros => f.write_str("dropped_zeros")?,
            Form::DecimalBytes => f.write_str("decimal_bytes")?,
        }
        match self.turn {
            Turn::AsSent => Ok(()),
            Turn::Reversed => f.write_str(", last byte first"),
        }
    }
}

impl fmt::Display for Reading {
    /// The value as the reader writes it, and what the reader does.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.transform.form.digits(), self.transform.form.keeps()) {
            (Some(10), _) => write!(f, "`{}`", self.value)?,
            (_, keeps) => write!(f, "`{:0width$X}`", self.value, width = usize::from(keeps.unwrap_or(0)) * 2)?,
        }
        write!(f, " ({})", self.transform)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(turn: Turn, form: Form, uid: &str) -> u128 {
        Transform { turn, form }.read(uid.parse().unwrap()).value
    }

    /// One card in the spellings that two readers and a sketch gave of it in one report (`dormgate uid 1EA68671` prints them too).
    #[test]
    fn one_card_is_read_as_its_readers_are_known_to_read_it() {
        let card = "1EA68671";
        assert_eq!(read(Turn::AsSent, Form::Last(3), card), 166 << 16 | 34417);
        assert_eq!(read(Turn::Reversed, Form::Last(3), card), 134 << 16 | 42526);
        assert_eq!(read(Turn::AsSent, Form::Decimal, card), 514_229_873);
        assert_eq!(read(Turn::Reversed, Form::Last(4), card), 1_904_649_758);
        assert_eq!(read(Turn::AsSent, Form::DecimalBytes, card), 30_166_134_113);
    }

    #[test]
    fn a_longer_uid_loses_what_the_reader_does_not_keep() {
        let card = "04A1B2C3D4E5F6";
        assert_eq!(read(Turn::AsSent, Form::Last(4), card), 0xC3D4_E5F6);
        assert_eq!(read(Turn::AsSent, Form::First(4), card), 0x04A1_B2C3);
        assert_eq!(read(Turn::Reversed, Form::First(3), card), 0xF6_E5D4);
        assert_eq!(read(Turn::AsSent, Form::FirstLevel, card), 0x8804_A1B2);
        assert_eq!(read(Turn::Reversed, Form::FirstLevel, card), 0xB2A1_0488);
        assert_eq!(read(Turn::AsSent, Form::FirstLevel, "1EA68671"), 0x1EA6_8671);
        assert_eq!(read(Turn::AsSent, Form::Decimal, "FFFFFFFFFFFFFFFFFFFE"), 1_208_925_819_614_629_174_706_174);
    }

    #[test]
    fn dropped_zeros_make_two_cards_one() {
        for (one, other, form) in [
            ("01230405", "12030405", Form::DroppedZeros),
            ("01170405", "0C030405", Form::DecimalBytes),
            ("1EA68671", "0000001EA68671", Form::Decimal),
            ("1EA68671", "99A68671", Form::Last(3)),
        ] {
            assert_eq!(read(Turn::AsSent, form, one), read(Turn::AsSent, form, other), "{form:?}");
        }
        assert_eq!(read(Turn::AsSent, Form::DroppedZeros, "01230405"), 0x12345);
        let longest = read(Turn::AsSent, Form::DecimalBytes, "FFFFFFFFFFFFFFFFFFFE");
        assert_eq!(longest, 255_255_255_255_255_255_255_255_255_254);
    }

    #[test]
    fn a_reading_is_written_as_the_reader_writes_it() {
        let reported = |form, uid: &str| Transform { turn: Turn::AsSent, form }.read(uid.parse().unwrap()).to_string();
        assert_eq!(reported(Form::Last(3), "1E008671"), "`008671` (wiegand26)");
        assert_eq!(reported(Form::Decimal, "1EA68671"), "`514229873` (decimal)");
        assert_eq!(reported(Form::DroppedZeros, "01230405"), "`12345` (dropped_zeros)");
        let turned = Transform { turn: Turn::Reversed, form: Form::First(2) };
        assert_eq!(turned.to_string(), "first 2 bytes, last byte first");
    }
}
