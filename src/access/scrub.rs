//! Hides what may be the UID of a card, in text that others are to see and that has more than the gateway's own words in it: log lines of
//! any filter, what a reader gave.

/// Hex digits of a UID (ISO/IEC 14443-3: single, double, triple).
const UID_DIGITS: [usize; 3] = [8, 14, 20];
/// Hex digits, with a letter among them, of what may be a UID with something before or behind it: a check byte, a cascade tag, filling.
/// What is longer is a hash.
const HEX_DIGITS: std::ops::RangeInclusive<usize> = 8..=31;
/// Decimal digits of a number that a reader prints for four bytes, and for seven.
const DECIMAL_DIGITS: [std::ops::RangeInclusive<usize>; 2] = [8..=10, 15..=17];
/// Hex digits of the name of a run.
const BOOT_DIGITS: usize = 16;
/// Hex digits of a name that are too few for a UID, or for the part of one that a lossy reader gives.
const HARMLESS_DIGITS_MAX: usize = 5;
/// Digits of a place in a list.
const PLACE_DIGITS_MAX: usize = 5;
/// What may stand between the bytes of a UID.
const SEPARATORS: [char; 4] = [':', '-', ' ', '.'];
/// Digits of a UID that are shown, as everywhere in logs.
pub const SHOWN: usize = 4;
/// Most digits of the two numbers of a card as a reader with a Wiegand output shows them, of 16 bits each.
const PAIR_DIGITS_MAX: usize = 5;
/// Digits of the second one that are shown: it is short, and the first is the same for many cards.
const PAIR_SHOWN: usize = 2;

/// How the audit begins what a reader gave that is no UID, and what one gave that loses a part of it.
const PRESENTED: &str = "presented `";
const READ_AS: &str = "read as ";

/// What a reader gave that is no UID, for the audit.
#[must_use]
pub fn presented(text: &str) -> String {
    format!("{PRESENTED}{text}`")
}

/// The same for whoever is not to see UIDs: a reader that is set up wrongly sends the UID of everybody so, in a spelling of its own.
#[must_use]
pub fn presented_unseen(text: &str) -> String {
    format!("presented {} characters that are no UID", text.chars().count())
}

/// The detail of an event for whoever is not to see UIDs.
#[must_use]
pub fn unseen(detail: &str) -> String {
    if let Some(text) = detail.strip_prefix(PRESENTED).and_then(|rest| rest.strip_suffix('`')) {
        return presented_unseen(text);
    }
    let reading =
        detail.strip_prefix(READ_AS).and_then(|rest| rest.strip_prefix('`')).and_then(|rest| rest.split_once("` "));
    match reading {
        Some((_, rest)) => format!("{READ_AS}{}", scrubbed(rest)),
        None => scrubbed(detail),
    }
}

/// The detail of a rejected message for whoever is not to see UIDs: of what a sender wrote where a name is wanted only the length is
/// left, in whatever spelling it may hold a UID; paths of fields, short names and examples stay.
#[must_use]
pub fn unseen_message(detail: &str) -> String {
    let mut out = String::with_capacity(detail.len());
    for (at, part) in without_string(detail).split('`').enumerate() {
        if at % 2 == 0 {
            out.push_str(part);
        } else if out.ends_with("like ") || is_harmless(part) {
            out.push_str(&format!("`{part}`"));
        } else {
            out.push_str(&format!("text of {} characters", part.chars().count()));
        }
    }
    unseen(&out)
}

/// Without the text that earlier versions quoted between quotation marks.
fn without_string(detail: &str) -> String {
    let quoted = detail.split_once("invalid type: string \"").and_then(|(before, rest)| {
        let (_, after) = rest.rsplit_once("\", expected ")?;
        Some(format!("{before}invalid type: string …, expected {after}"))
    });
    quoted.unwrap_or_else(|| detail.to_owned())
}

/// Whether a text cannot hold a UID: a path, or a name with few hex digits or none that is a number.
fn is_harmless(text: &str) -> bool {
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ':' | '/' | '*');
    // The places in lists, each behind a name: `ops[12].uid`.
    let is_named = |name: &str| name.ends_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let mut parts = text.split('[');
    let first = parts.next().unwrap_or_default().to_owned();
    let name = parts.fold(first, |name, part| match part.split_once(']') {
        Some((at, rest))
            if is_named(&name) && at.len() <= PLACE_DIGITS_MAX && at.bytes().all(|b| b.is_ascii_digit()) =>
        {
            name + rest
        }
        _ => name + "[" + part,
    });
    let hex_digits = name.bytes().filter(u8::is_ascii_hexdigit).count();
    let longest = name.split(|c: char| !c.is_ascii_hexdigit()).map(str::len).max().unwrap_or_default();
    let is_word = !name.bytes().any(|b| b.is_ascii_digit()) && longest < UID_DIGITS[0];
    name.chars().all(is_name) && (hex_digits <= HARMLESS_DIGITS_MAX || is_word)
}

/// `text` with everything masked that has the length of a UID in hex, with separators or without, also with a check byte or filling, or
/// of one as a decimal number, and every pair of numbers with nothing but a comma between them.
#[must_use]
pub fn scrubbed(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut is_inside = false;
    while let Some(first) = rest.chars().next() {
        let found = if is_inside { None } else { uid(rest) };
        let taken = match &found {
            Some((len, digits)) if digits.len() == BOOT_DIGITS && names_boot(&out) => {
                out.push_str(rest.get(..*len).unwrap_or_default());
                *len
            }
            Some((len, digits)) => {
                out.push('…');
                out.push_str(digits.get(digits.len() - SHOWN..).unwrap_or_default());
                *len
            }
            None => match pair(rest).filter(|_| !is_inside) {
                Some((len, shown)) => {
                    out.push('…');
                    out.push_str(&shown);
                    len
                }
                None => {
                    out.push(first);
                    first.len_utf8()
                }
            },
        };
        let is_prefix = !is_inside && first == '0' && rest.get(1..).is_some_and(|rest| rest.starts_with(['x', 'X']));
        if found.is_none() && is_prefix {
            out.push_str(rest.get(1..2).unwrap_or_default());
            rest = rest.get(2..).unwrap_or_default();
            continue;
        }
        is_inside = found.is_none() && first.is_ascii_alphanumeric();
        rest = rest.get(taken..).unwrap_or_default();
    }
    out
}

/// Whether what follows `before` is the name of a run of the gateway.
fn names_boot(before: &str) -> bool {
    before.trim_end_matches(['=', '"', ':', ' ', '\\']).ends_with("boot")
}

/// How many bytes of text a UID at the beginning of `text` takes, and its digits.
fn uid(text: &str) -> Option<(usize, String)> {
    SEPARATORS
        .into_iter()
        .map(Some)
        .chain([None])
        .filter_map(|separator| hex(text, separator))
        .max_by_key(|(len, _)| *len)
}

/// How many bytes a Wiegand pair at the beginning of `text` takes, e.g. `166,34417`, with whatever numbers stand before and behind it,
/// and the digits to show.
fn pair(text: &str) -> Option<(usize, String)> {
    let number = |at: usize| {
        let digits = text.get(at..)?.bytes().take_while(u8::is_ascii_digit).count();
        (1..=PAIR_DIGITS_MAX).contains(&digits).then_some(at + digits)
    };
    let (mut len, mut last) = (number(0)?, 0);
    while let Some(comma) = text.get(len..)?.chars().next().filter(|c| matches!(c, ',' | '，')) {
        let begins = len + comma.len_utf8();
        let Some(end) = number(begins) else { break };
        (len, last) = (end, begins);
    }
    let shown = text.get(last.max(len.saturating_sub(PAIR_SHOWN))..len)?;
    (last > 0 && ends(text, len)).then(|| (len, shown.to_owned()))
}

/// One in hex with this between its bytes; without one also a decimal number.
fn hex(text: &str, separator: Option<char>) -> Option<(usize, String)> {
    let mut digits = String::new();
    let len = match separator {
        None => {
            let len = text.bytes().take_while(u8::is_ascii_hexdigit).count();
            digits.push_str(text.get(..len).unwrap_or_default());
            len
        }
        Some(separator) => pairs(text, separator, &mut digits),
    };
    let count = digits.len();
    let is_decimal = digits.bytes().all(|b| b.is_ascii_digit());
    let may_be = UID_DIGITS.contains(&count)
        || (!is_decimal && HEX_DIGITS.contains(&count))
        || (is_decimal && separator.is_none() && DECIMAL_DIGITS.iter().any(|digits| digits.contains(&count)));
    (may_be && ends(text, len)).then_some((len, digits))
}

/// How many bytes of `text` pairs of hex digits with this between them take, and their digits.
fn pairs(text: &str, separator: char, digits: &mut String) -> usize {
    let pair_at = |at: usize| text.get(at..at + 2).filter(|pair| pair.bytes().all(|b| b.is_ascii_hexdigit()));
    let mut len = 0;
    while let Some(pair) = pair_at(len) {
        digits.push_str(pair);
        len += pair.len();
        let next = len + separator.len_utf8();
        if !text.get(len..).is_some_and(|rest| rest.starts_with(separator)) || pair_at(next).is_none() {
            break;
        }
        len = next;
    }
    len
}

/// Whether a word ends here.
fn ends(text: &str, at: usize) -> bool {
    text.get(at..).is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_alphanumeric()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_a_uid_is_masked_in_each_spelling_and_nothing_else() {
        for (text, expected) in [
            ("card 1EA68671 at gate-in", "card …8671 at gate-in"),
            ("uid=04a1b2c3d4e5f6,", "uid=…e5f6,"),
            (r#"{"uid":"0102030405060708090A"}"#, r#"{"uid":"…090A"}"#),
            ("1E:A6:86:71 and 04-A1-B2-C3-D4-E5-F6", "…8671 and …E5F6"),
            ("read 1E A6 86 71.", "read …8671."),
            ("a decimal `514229873`, `0514229873`", "a decimal `…9873`, `…9873`"),
            ("boot=\"00aa11bb22cc33dd\" 1234567 12345678901", "boot=\"00aa11bb22cc33dd\" 1234567 12345678901"),
            (
                "2026-11-29T12:30:45.104211Z INFO dormgate: serving",
                "2026-11-29T12:30:45.104211Z INFO dormgate: serving",
            ),
            ("192.0.2.9:8883", "192.0.2.9:8883"),
            // A UID with a check byte, a cascade tag, filling or a prefix; a long one as a number.
            ("`1EA68671AB`, 0x1EA68671, 04A1B2C3D4E5F600", "`…71AB`, 0x…8671, …F600"),
            ("length 11 of 1EA68671000000000000; 1EA6867", "length 11 of …0000; 1EA6867"),
            ("1303689068602870 and 00:11:22:33:44:5A", "…2870 and …445A"),
            // No UID is as long as a hash, and no number of an event as one.
            (&"0a".repeat(16), &"0a".repeat(16)),
            (
                "event 1234567 of 1788249600000 at 15:00:00.000, room 0412, 0x1F",
                "event 1234567 of 1788249600000 at 15:00:00.000, room 0412, 0x1F",
            ),
            ("`uid`: `166,34417` is no card, 7846，34417", "`uid`: `…17` is no card, …17"),
            ("[1,2,3], 40, 60; 1,5 x1,2x 1,166,34417", "[…3], 40, 60; …5 x1,2x …17"),
            ("x1EA68671 1EA68671x", "x1EA68671 1EA68671x"),
            ("卡 1EA68671 丢失", "卡 …8671 丢失"),
            ("", ""),
        ] {
            assert_eq!(scrubbed(text), expected);
        }
    }

    #[test]
    fn of_what_a_reader_gave_only_the_kind_is_seen() {
        for text in ["1EA68671AB", "S1EA68671E", "a `1EA68671` b", "卡", ""] {
            let expected = format!("presented {} characters that are no UID", text.chars().count());
            assert_eq!((unseen(&presented(text)), presented_unseen(text)), (expected.clone(), expected));
        }
        assert_eq!(
            unseen("read as `A68671` (last 3 bytes), which no known card is"),
            "read as (last 3 bytes), which no known card is"
        );
        assert_eq!(unseen("read as (last 3 bytes)"), "read as (last 3 bytes)");
        assert_eq!(unseen("no portal `1EA68671` is configured"), "no portal `…8671` is configured");
    }
}
