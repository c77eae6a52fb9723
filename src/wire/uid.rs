//! Every reading of a card UID that readers, printers and spreadsheets are known to give, and what is wrong with a UID.
//!
//! For people who compare two systems' lists. The gateway itself keeps bytes in air order and never converts: there is no
//! rule how bytes become a number (NXP AN10927).

use super::limits::UID_TEXT_CHARS_MAX;
use super::text::quote;
use crate::access::id::{CardUid, UID_BYTES_MAX, UidError};

/// A Wiegand reading: facility code and card number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wiegand {
    /// The upper part.
    pub facility: u16,
    /// The lower part, 16 bits.
    pub number: u16,
}

/// How one UID looks in the order of its bytes, one way or the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// The bytes in upper-case hex.
    pub hex: String,
    /// The bytes as one number, first byte highest; 10 digits at least, as readers print it.
    pub decimal: String,
    /// 26 bits: the lowest three bytes as 8 + 16 bits. The others are lost.
    pub wiegand26: Wiegand,
    /// 34 bits: the lowest four bytes as 16 + 16 bits. The others are lost.
    pub wiegand34: Wiegand,
}

/// Every reading of one UID.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Readings {
    /// The UID.
    pub uid: CardUid,
    /// The bytes in hex with `:` between.
    pub bytes: String,
    /// In air order: big-endian readers.
    pub air: Order,
    /// Last byte first: little-endian readers.
    pub reversed: Order,
    /// Each byte in decimal, with spaces between.
    pub per_byte: String,
    /// Each byte in decimal, run together, as some sketches print it; cannot be taken apart again.
    pub run_together: String,
    /// What a person should know about it.
    pub notes: Vec<Note>,
}

/// Something to know about a UID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Note {
    /// 4 bytes starting 08.
    #[error("4 bytes starting 08: a random UID, new at each reading, as phones give; it cannot be enrolled")]
    Random,
    /// 4 bytes starting 88.
    #[error(
        "4 bytes starting 88: the cascade tag of a longer UID, cut off by the reader; read the card with a reader that gives 7 bytes"
    )]
    CascadeTag,
    /// 4 bytes, first byte xF.
    #[error("4 bytes starting xF: a fixed number that is not unique by design (ISO/IEC 14443-3)")]
    NotUnique,
    /// 4 bytes.
    #[error("4-byte UIDs are used again by makers: two cards may have the same")]
    Reused,
    /// A number that test cards and clones have.
    #[error("a number that test cards and clones are given; do not enrol it")]
    Commonplace,
    /// 7 bytes starting 88.
    #[error("starts with 88, which is the cascade tag and no maker: the reader may have put it before a cut UID")]
    TagInFront,
}

impl Note {
    /// Whether a card with it should not be enrolled at all.
    #[must_use]
    pub fn is_fault(self) -> bool {
        match self {
            Self::Random | Self::CascadeTag | Self::Commonplace => true,
            Self::NotUnique | Self::Reused | Self::TagInFront => false,
        }
    }
}

/// Why a text gives no readings; reports what it may be instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text} is no UID: {cause}{hint}")]
pub struct UidTextError {
    /// The text, quoted and shortened.
    pub text: String,
    /// What is wrong.
    pub cause: UidError,
    /// What it may be instead; empty or beginning with `; `.
    pub hint: String,
}

/// Every reading of the UID in `text`, written in hex in air order.
///
/// # Errors
/// [`UidTextError`], with a hint where the text looks like another known spelling.
pub fn readings(text: &str) -> Result<Readings, UidTextError> {
    let text = text.trim();
    if text.chars().nth(UID_TEXT_CHARS_MAX).is_some() {
        return Err(UidTextError { text: quote(text), cause: UidError::Length(text.len() / 2), hint: String::new() });
    }
    let uid: CardUid = text.parse().map_err(|cause| UidTextError {
        text: quote(text),
        cause,
        hint: hint(text).unwrap_or_default(),
    })?;
    let air: Vec<u8> = uid.as_bytes().to_vec();
    let reversed: Vec<u8> = air.iter().rev().copied().collect();
    let join = |form: &dyn Fn(&u8) -> String, between: &str| air.iter().map(form).collect::<Vec<_>>().join(between);
    Ok(Readings {
        uid,
        bytes: join(&|b| format!("{b:02X}"), ":"),
        air: order(&air),
        reversed: order(&reversed),
        per_byte: join(&u8::to_string, " "),
        run_together: join(&u8::to_string, ""),
        notes: notes(uid),
    })
}

fn order(bytes: &[u8]) -> Order {
    let number = bytes.iter().fold(0_u128, |n, b| (n << 8) | u128::from(*b));
    let mut lowest = bytes.iter().rev().copied().map(u16::from);
    let mut byte = || lowest.next().unwrap_or(0);
    let (b0, b1, b2, b3) = (byte(), byte(), byte(), byte());
    Order {
        hex: bytes.iter().map(|b| format!("{b:02X}")).collect(),
        decimal: format!("{number:010}"),
        wiegand26: Wiegand { facility: b2, number: (b1 << 8) | b0 },
        wiegand34: Wiegand { facility: (b3 << 8) | b2, number: (b1 << 8) | b0 },
    }
}

fn notes(uid: CardUid) -> Vec<Note> {
    /// Seen on test cards and clones.
    const COMMONPLACE: [[u8; 4]; 4] =
        [[1, 2, 3, 4], [0x12, 0x34, 0x56, 0x78], [0xDE, 0xAD, 0xBE, 0xEF], [0x11, 0x22, 0x33, 0x44]];
    let bytes = uid.as_bytes();
    match bytes {
        [0x08, _, _, _] => vec![Note::Random],
        [0x88, _, _, _] => vec![Note::CascadeTag],
        [first, _, _, _] => {
            let mut notes = vec![if first & 0x0F == 0x0F { Note::NotUnique } else { Note::Reused }];
            if COMMONPLACE.iter().any(|common| common == bytes) {
                notes.push(Note::Commonplace);
            }
            notes
        }
        [0x88, ..] => vec![Note::TagInFront],
        _ => Vec::new(),
    }
}

/// What a text that is no UID may be instead.
fn hint(text: &str) -> Option<String> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    if digits && text.len() == 10 {
        let number: u32 = text.parse().ok()?;
        let (big, little) = (number.to_be_bytes(), number.to_le_bytes());
        let hex = |bytes: [u8; 4]| bytes.iter().map(|b| format!("{b:02X}")).collect::<String>();
        return Some(format!(
            "; as a decimal reading it is `{}` or, from a reader that reverses, `{}`; a number printed on the card is not the UID",
            hex(big),
            hex(little)
        ));
    }
    if digits {
        return Some("; a printed card number or a student number is not the UID: read the card".to_owned());
    }
    if text.starts_with("0x") || text.starts_with("0X") {
        return Some("; leave out `0x`".to_owned());
    }
    let plain: String = text.chars().filter(|c| !matches!(c, ':' | '-' | ' ')).collect();
    let bytes = hex_bytes(&plain)?;
    match bytes.as_slice() {
        [a, b, c, d, check] if a ^ b ^ c ^ d == *check => {
            Some(format!("; the fifth byte is the check byte of the first four: `{a:02X}{b:02X}{c:02X}{d:02X}`"))
        }
        [0x88, uid @ ..] if uid.len() == 7 => {
            let rest: String = uid.iter().map(|b| format!("{b:02X}")).collect();
            Some(format!("; the first byte is the cascade tag 88: leave it out, `{rest}`"))
        }
        _ => None,
    }
}

fn hex_bytes(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u32> = text.chars().map(|c| c.to_digit(16)).collect::<Option<_>>()?;
    let (pairs, rest) = digits.as_chunks::<2>();
    if !rest.is_empty() || pairs.len() > UID_BYTES_MAX {
        return None;
    }
    pairs.iter().map(|[high, low]| u8::try_from(high * 16 + low).ok()).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_card_has_many_spellings() {
        let all = readings("1e-a6-86-71").unwrap();
        assert_eq!((all.bytes.as_str(), all.air.hex.as_str()), ("1E:A6:86:71", "1EA68671"));
        assert_eq!((all.air.decimal.as_str(), all.reversed.decimal.as_str()), ("0514229873", "1904649758"));
        assert_eq!(all.reversed.hex, "7186A61E");
        assert_eq!(all.air.wiegand26, Wiegand { facility: 166, number: 34417 });
        assert_eq!(all.reversed.wiegand26, Wiegand { facility: 134, number: 42526 });
        assert_eq!(all.air.wiegand34, Wiegand { facility: 0x1EA6, number: 0x8671 });
        assert_eq!((all.per_byte.as_str(), all.run_together.as_str()), ("30 166 134 113", "30166134113"));
        assert_eq!(all.notes, [Note::Reused]);
    }

    #[test]
    fn longer_uids_are_numbers_too_and_lose_bytes_in_wiegand() {
        let all = readings("04A1B2C3D4E5F6").unwrap();
        assert_eq!(all.air.decimal, "1303689068602870");
        assert_eq!(all.air.wiegand34, Wiegand { facility: 0xC3D4, number: 0xE5F6 });
        assert_eq!(all.notes, []);
        assert_eq!(readings("FFFFFFFFFFFFFFFFFFFE").unwrap().air.decimal, "1208925819614629174706174");
    }

    #[test]
    fn what_is_wrong_with_a_uid_is_reported() {
        let notes = |text: &str| readings(text).unwrap().notes;
        assert_eq!(notes("08A1B2C3"), [Note::Random]);
        assert_eq!(notes("8804A1B2"), [Note::CascadeTag]);
        assert_eq!(notes("1FA1B2C3"), [Note::NotUnique]);
        assert_eq!(notes("DEADBEEF"), [Note::Reused, Note::Commonplace]);
        assert_eq!(notes("8804A1B2C3D4E5"), [Note::TagInFront]);
        assert!(Note::Random.is_fault() && !Note::Reused.is_fault());
    }

    #[test]
    fn a_text_that_is_no_uid_is_reported_what_it_may_be() {
        let table = [
            ("0514229873", "as a decimal reading it is `1EA68671`"),
            ("75C54837CF", "the check byte of the first four: `75C54837`"),
            ("8804A1B2C3D4E5F6", "leave it out, `04A1B2C3D4E5F6`"),
            ("0x1EA68671", "leave out `0x`"),
            ("202608193021", "is not the UID: read the card"),
            ("00000000", "all 00 or all FF"),
            ("card", "written in hex"),
            ("", "this has 0"),
        ];
        for (text, part) in table {
            let reported = readings(text).unwrap_err().to_string();
            assert!(reported.contains(part), "{reported}");
        }
    }

    proptest! {
        #[test]
        fn no_text_breaks_the_readings(text in ".{0,40}", hex in "[0-9A-Fa-fx: -]{0,26}") {
            let _read = (readings(&text), readings(&hex));
        }
    }
}
