//! `dormgate uid`: a UID in each form that readers, printers and spreadsheets show, and what is wrong with it.
//!
//! For people who compare the lists of two systems. The gateway itself keeps the bytes in the order in which the card sends them and
//! never converts them: there is no rule how bytes become a number (NXP AN10927).

use super::{Ended, Exit, failed, print_line};
use crate::access::id::{CardUid, UidError};
use crate::access::uid_text;

/// Longest text in characters; a longer one is refused.
const TEXT_CHARS_MAX: usize = 128;

/// Print a card UID in each form: bytes, reversed, decimal, Wiegand 26 and 34; and what is wrong with it.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The UID in hex; separators `:`, `-` and space are allowed.
    text: String,
}

pub(super) fn run(args: &Args) -> Ended {
    let uid = parse(&args.text).map_err(failed)?;
    let printed = print_line(readings(uid) + &number(args.text.trim()));
    Ok(if notes(uid).iter().any(|note| note.is_fault()) { Exit::Failed } else { printed })
}

/// A line for a text that is a UID in hex and may be a decimal number.
fn number(text: &str) -> String {
    uid_text::decimal(text).map_or_else(String::new, |number| format!("\nnote: it has no letter A to F; {number}"))
}

/// A remark about a UID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum Note {
    #[error("4 bytes starting with 08: a random UID, new at each reading, as telephones give; it cannot be enrolled")]
    Random,
    #[error(
        "4 bytes starting with 88: the cascade tag and the first bytes of a longer UID; read the card with a reader that gives 7 bytes"
    )]
    CascadeTag,
    #[error("4 bytes of which the first ends with F: a fixed number that is not unique by design (ISO/IEC 14443-3)")]
    NotUnique,
    #[error("makers use 4-byte UIDs again: two cards may have the same")]
    Reused,
    #[error("a UID that makers give to test cards and copies; it cannot be enrolled")]
    Commonplace,
    #[error(
        "starts with 88, which is the cascade tag and no maker's number: the reader may have cut a longer UID after it"
    )]
    TagInFront,
}

impl Note {
    /// Whether a card with it should not be enrolled at all.
    fn is_fault(self) -> bool {
        matches!(self, Self::Random | Self::CascadeTag | Self::Commonplace)
    }
}

fn notes(uid: CardUid) -> Vec<Note> {
    let bytes = uid.as_bytes();
    match bytes {
        [0x08, _, _, _] => vec![Note::Random],
        [0x88, _, _, _] => vec![Note::CascadeTag],
        [first, _, _, _] => {
            let mut notes = vec![if first & 0x0F == 0x0F { Note::NotUnique } else { Note::Reused }];
            if uid.is_commonplace() {
                notes.push(Note::Commonplace);
            }
            notes
        }
        [0x88, ..] => vec![Note::TagInFront],
        _ => Vec::new(),
    }
}

/// Why a text is not a UID, and what it may be instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a card UID: {cause}{hint}")]
struct UidTextError {
    text: String,
    cause: UidError,
    /// Empty or beginning with `; `.
    hint: String,
}

fn parse(text: &str) -> Result<CardUid, UidTextError> {
    let text = text.trim();
    if text.chars().nth(TEXT_CHARS_MAX).is_some() {
        let cause = UidError::Length(text.len() / 2);
        return Err(UidTextError { text: text.chars().take(TEXT_CHARS_MAX).collect(), cause, hint: String::new() });
    }
    text.parse().map_err(|cause| UidTextError {
        text: text.to_owned(),
        cause,
        hint: uid_text::hint(text).unwrap_or_default(),
    })
}

fn readings(uid: CardUid) -> String {
    let air = uid.as_bytes();
    let reversed: Vec<u8> = air.iter().rev().copied().collect();
    let join = |form: &dyn Fn(&u8) -> String, between: &str| air.iter().map(form).collect::<Vec<_>>().join(between);
    let mut lines = vec![
        format!("uid            {uid}"),
        format!("bytes          {}", join(&|b| format!("{b:02X}"), ":")),
        order("air order", air),
        order("reversed", &reversed),
        format!("byte by byte   {}  run together {}", join(&u8::to_string, " "), join(&u8::to_string, "")),
    ];
    lines.extend(notes(uid).iter().map(|note| format!("note: {note}")));
    lines.join("\n")
}

/// The forms of the bytes in one order, the first byte the highest. Wiegand keeps the lowest three bytes (26 bits: 8 + 16) or four
/// (34 bits: 16 + 16) and loses the others.
fn order(name: &str, bytes: &[u8]) -> String {
    let number = bytes.iter().fold(0_u128, |n, b| (n << 8) | u128::from(*b));
    let (low, high) = (number & 0xFFFF, (number >> 16) & 0xFFFF);
    format!(
        "{name:<14} {}  decimal {number:010}  Wiegand-26 {},{low:05}  Wiegand-34 {high},{low:05}",
        hex::encode_upper(bytes),
        high & 0xFF
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uid_is_printed_in_every_form() {
        let four = readings(parse("1e-a6-86-71").unwrap());
        assert_eq!(
            four,
            "uid            1EA68671\n\
             bytes          1E:A6:86:71\n\
             air order      1EA68671  decimal 0514229873  Wiegand-26 166,34417  Wiegand-34 7846,34417\n\
             reversed       7186A61E  decimal 1904649758  Wiegand-26 134,42526  Wiegand-34 29062,42526\n\
             byte by byte   30 166 134 113  run together 30166134113\n\
             note: makers use 4-byte UIDs again: two cards may have the same"
        );
        let seven = readings(parse("04A1B2C3D4E5F6").unwrap());
        assert!(seven.contains("decimal 1303689068602870  Wiegand-26 212,58870  Wiegand-34 50132,58870"), "{seven}");
        let ten = readings(parse("FFFFFFFFFFFFFFFFFFFE").unwrap());
        assert!(ten.contains("decimal 1208925819614629174706174"), "{ten}");
    }

    #[test]
    fn a_uid_without_a_letter_may_be_a_decimal_number() {
        let note = "\nnote: it has no letter A to F; as a decimal number it is the UID `0134B10F` or, from a reader that reverses, `0FB13401`";
        assert_eq!((number("20230415").as_str(), number("1EA68671").as_str()), (note, ""));
    }

    #[test]
    fn what_is_wrong_with_a_uid_is_named() {
        let notes = |text: &str| notes(text.parse().unwrap());
        assert_eq!(notes("08A1B2C3"), [Note::Random]);
        assert_eq!(notes("8804A1B2"), [Note::CascadeTag]);
        assert_eq!(notes("1FA1B2C3"), [Note::NotUnique]);
        assert_eq!(notes("DEADBEEF"), [Note::Reused, Note::Commonplace]);
        assert_eq!(notes("8804A1B2C3D4E5"), [Note::TagInFront]);
        assert_eq!(notes("04A1B2C3D4E5F6"), []);
        assert!(Note::Random.is_fault() && !Note::Reused.is_fault());
    }

    #[test]
    fn a_text_that_is_not_a_uid_gets_a_hint() {
        let long = "1E".repeat(TEXT_CHARS_MAX);
        let table = [
            ("0514229873", "as a decimal number it is the UID `1EA68671`"),
            ("75C54837CF", "the check byte of the first four: `75C54837`"),
            ("8804A1B2C3D4E5F6", "leave it out, `04A1B2C3D4E5F6`"),
            ("0x1EA68671", "leave out `0x`"),
            ("514229873", "as a decimal number it is the UID `1EA68671`"),
            ("4A1B2C3D4E5F6", "leading zero that a spreadsheet removes it is the UID `04A1B2C3D4E5F6`"),
            ("202608193021", "is not the UID: read the card"),
            ("00000000", "all 00 or all FF"),
            ("card", "written in hex"),
            ("１ＥＡ68671", "written in hex"),
            ("", "this has 0"),
            (long.as_str(), "this has 128"),
        ];
        for (text, part) in table {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
