//! Hides what may be the UID of a card, in text that others are to see and that has more than the gateway's own words in it: log lines of
//! any filter, what a reader gave.

/// Lengths of a UID in bytes (ISO/IEC 14443-3: single, double, triple).
const UID_BYTES: [usize; 3] = [4, 7, 10];
/// Decimal digits of a number that a reader prints for four bytes.
const DECIMAL_DIGITS: std::ops::RangeInclusive<usize> = 8..=10;
/// What may stand between the bytes of a UID.
const SEPARATORS: [char; 4] = [':', '-', ' ', '.'];
/// Digits of a UID that are shown, as everywhere in logs.
const SHOWN: usize = 4;

/// `text` with everything masked that has the length of a UID in hex, with separators or without, or of one as a decimal number.
#[must_use]
pub fn scrubbed(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut is_inside = false;
    while let Some(first) = rest.chars().next() {
        let found = if is_inside { None } else { uid(rest) };
        let taken = match &found {
            Some((len, digits)) => {
                out.push('…');
                out.push_str(digits.get(digits.len() - SHOWN..).unwrap_or_default());
                *len
            }
            None => {
                out.push(first);
                first.len_utf8()
            }
        };
        is_inside = found.is_none() && first.is_ascii_alphanumeric();
        rest = rest.get(taken..).unwrap_or_default();
    }
    out
}

/// How many bytes of text a UID at the beginning of `text` takes, and its digits.
fn uid(text: &str) -> Option<(usize, String)> {
    let decimal = text.bytes().take_while(u8::is_ascii_digit).count();
    let decimal = (DECIMAL_DIGITS.contains(&decimal) && ends(text, decimal))
        .then(|| (decimal, text.get(..decimal).unwrap_or_default().to_owned()));
    let separators = SEPARATORS.into_iter().map(Some).chain([None]);
    separators.filter_map(|separator| hex(text, separator)).chain(decimal).max_by_key(|(len, _)| *len)
}

/// One in hex with this between its bytes.
fn hex(text: &str, separator: Option<char>) -> Option<(usize, String)> {
    let pair_at = |at: usize| text.get(at..at + 2).filter(|pair| pair.bytes().all(|b| b.is_ascii_hexdigit()));
    let (mut len, mut digits) = (0, String::new());
    while let Some(pair) = pair_at(len) {
        digits.push_str(pair);
        len += pair.len();
        if let Some(separator) = separator {
            let next = len + separator.len_utf8();
            if text.get(len..).is_some_and(|rest| rest.starts_with(separator)) && pair_at(next).is_some() {
                len = next;
            } else {
                break;
            }
        }
    }
    (ends(text, len) && UID_BYTES.contains(&(digits.len() / 2))).then_some((len, digits))
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
            // Longer than a UID, but its end is as long as one.
            ("00:11:22:33:44:55", "00:11:…4455"),
            ("x1EA68671 1EA68671x", "x1EA68671 1EA68671x"),
            ("卡 1EA68671 丢失", "卡 …8671 丢失"),
            ("", ""),
        ] {
            assert_eq!(scrubbed(text), expected);
        }
    }
}
