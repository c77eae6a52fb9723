//! What a text that is not a card UID may be instead: a decimal number, a UID with a check byte or a cascade tag, a printed number.
//! And which UIDs a text may name, for a person who has only what a reader printed.

use super::id::CardUid;

/// Longest text that is looked at, in characters.
const TEXT_CHARS_MAX: usize = 128;

names! {
    /// How a text is read as a UID.
    pub enum Spelling {
        /// Hex digits in air order, as the gateway writes it.
        Hex,
        /// Hex digits, the last byte first.
        HexReversed,
        /// A decimal number, the first byte the highest.
        Decimal,
        /// A decimal number, the first byte the lowest.
        DecimalReversed,
        /// Four bytes and their check byte.
        CheckByte,
        /// The cascade tag 88 and seven bytes.
        CascadeTag,
    }
}

/// Every UID that `text` may name, the likeliest first, each once. Separators, lower case, `0x` and the wide characters of an
/// input method are understood.
#[must_use]
pub fn spellings(text: &str) -> Vec<(CardUid, Spelling)> {
    let narrow = |c: char| match u32::from(c) {
        wide @ 0xFF01..=0xFF5E => char::from_u32(wide - 0xFEE0).unwrap_or(c),
        0x3000 => ' ',
        _ => c,
    };
    let text: String = text.chars().take(TEXT_CHARS_MAX + 1).map(narrow).collect();
    let text = text.trim();
    if text.chars().count() > TEXT_CHARS_MAX {
        return Vec::new();
    }
    let text = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")).unwrap_or(text);
    let plain: String = text.chars().filter(|c| !matches!(c, ':' | '-' | ' ' | '.')).collect();
    let mut found: Vec<(CardUid, Spelling)> = Vec::new();
    let mut add = |bytes: &[u8], spelling| {
        let uid = CardUid::from_bytes(bytes).ok().filter(|uid| found.iter().all(|(known, _)| known != uid));
        found.extend(uid.map(|uid| (uid, spelling)));
    };
    let both = |add: &mut dyn FnMut(&[u8], Spelling), bytes: &[u8], [forth, back]: [Spelling; 2]| {
        add(bytes, forth);
        let reversed: Vec<u8> = bytes.iter().rev().copied().collect();
        add(&reversed, back);
    };
    if let Ok(bytes) = hex::decode(&plain) {
        match bytes.as_slice() {
            [uid @ .., check] if uid.len() == 4 && uid.iter().fold(0, |sum, b| sum ^ b) == *check => {
                add(uid, Spelling::CheckByte);
            }
            [0x88, uid @ ..] if uid.len() == 7 => add(uid, Spelling::CascadeTag),
            bytes => both(&mut add, bytes, [Spelling::Hex, Spelling::HexReversed]),
        }
    }
    if plain.bytes().all(|b| b.is_ascii_digit())
        && let Ok(number) = plain.parse::<u64>()
    {
        let bytes = number.to_be_bytes();
        let used = if u32::try_from(number).is_ok() { 4 } else { 7 };
        if let Some((front, low)) = bytes.split_at_checked(bytes.len() - used)
            && front.iter().all(|b| *b == 0)
        {
            both(&mut add, low, [Spelling::Decimal, Spelling::DecimalReversed]);
        }
    }
    found
}

/// A remedy beginning with `; `, for the end of an error. `None`: nothing is known about such a text.
#[must_use]
pub fn hint(text: &str) -> Option<String> {
    let plain: String = text.chars().filter(|c| !matches!(c, ':' | '-' | ' ')).collect();
    // Eight digits are a UID in hex.
    let number = decimal(text).filter(|_| text.len() >= 7 && text.len() != 8);
    let meant: Vec<String> = [number, without_zero(&plain)].into_iter().flatten().collect();
    if !meant.is_empty() {
        let printed = "a number printed on the card, or a student number, is not the UID";
        let is_number = text.bytes().all(|b| b.is_ascii_digit());
        let last = if is_number { format!("; {printed}") } else { String::new() };
        return Some(format!("; {}{last}", meant.join("; ")));
    }
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        return Some("; a printed card number or a student number is not the UID: read the card".to_owned());
    }
    if text.starts_with("0x") || text.starts_with("0X") {
        return Some("; leave out `0x`".to_owned());
    }
    if let Some(meant) = wiegand(text) {
        return Some(meant);
    }
    match hex::decode(plain).ok().as_deref() {
        Some([uid @ .., check]) if uid.len() == 4 && uid.iter().fold(0, |sum, b| sum ^ b) == *check => {
            Some(format!("; the fifth byte is the check byte of the first four: `{}`", hex::encode_upper(uid)))
        }
        Some([0x88, uid @ ..]) if uid.len() == 7 => {
            Some(format!("; the first byte is the cascade tag 88: leave it out, `{}`", hex::encode_upper(uid)))
        }
        Some(_) => None,
        None => {
            let (uid, spelling) = spellings(text).into_iter().next()?;
            (spelling == Spelling::Hex).then(|| format!("; write it as `{uid}`"))
        }
    }
}

/// What a decimal number is in hex. A 7-byte UID begins with its maker's number, which is not 0, so that a shorter number has no 7-byte UID.
#[must_use]
pub fn decimal(text: &str) -> Option<String> {
    let number: u64 = text.parse().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit()))?;
    let [first, rest @ ..] = number.to_be_bytes();
    let bytes = match u32::try_from(number) {
        Ok(short) if short > 0 => short.to_be_bytes().to_vec(),
        Err(_) if first == 0 && rest.first().is_some_and(|maker| *maker != 0) => rest.to_vec(),
        _ => return None,
    };
    let reversed: Vec<u8> = bytes.iter().rev().copied().collect();
    let (forth, back) = (hex::encode_upper(bytes), hex::encode_upper(reversed));
    Some(format!("as a decimal number it is the UID `{forth}` or, from a reader that reverses, `{back}`"))
}

/// Hex digits of which a spreadsheet has removed the leading zero.
fn without_zero(plain: &str) -> Option<String> {
    let is_short = matches!(plain.len(), 7 | 13 | 19) && plain.bytes().all(|b| b.is_ascii_hexdigit());
    is_short
        .then(|| format!("with the leading zero that a spreadsheet removes it is the UID `0{}`", plain.to_uppercase()))
}

/// Two numbers with a comma between, as readers with a Wiegand output show them: 8 and 16 bits, or 16 and 16.
fn wiegand(text: &str) -> Option<String> {
    let (high, low) = text.split_once([',', '，'])?;
    let (high, low): (u16, u16) = (high.trim().parse().ok()?, low.trim().parse().ok()?);
    if high <= 0xFF {
        let what =
            "as a Wiegand-26 number it has lost a byte of the UID: read the card with a reader that gives all of it";
        return Some(format!("; {what}"));
    }
    let bytes = (u32::from(high) << 16) | u32::from(low);
    let (forth, back) = (hex::encode_upper(bytes.to_be_bytes()), hex::encode_upper(bytes.to_le_bytes()));
    Some(format!("; as a Wiegand-34 number it is the UID `{forth}` or, from a reader that reverses, `{back}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_names_every_uid_that_a_reader_may_have_meant_by_it() {
        let read = |text: &str| {
            let one = |(uid, spelling): (CardUid, Spelling)| format!("{} {uid}", spelling.as_str());
            spellings(text).into_iter().map(one).collect::<Vec<_>>()
        };
        for text in
            ["1EA68671", " 1e:a6:86:71 ", "1e-a6-86-71", "1E A6 86 71", "0x1ea68671", "１ＥＡ６８６７１", "1e.a6.86.71"]
        {
            assert_eq!(read(text), ["hex 1EA68671", "hex_reversed 7186A61E"], "{text}");
        }
        assert_eq!(read("0514229873"), ["decimal 1EA68671", "decimal_reversed 7186A61E"]);
        assert_eq!(read("514229873"), ["decimal 1EA68671", "decimal_reversed 7186A61E"]);
        assert_eq!(read("1303689068602870"), ["decimal 04A1B2C3D4E5F6", "decimal_reversed F6E5D4C3B2A104"]);
        assert_eq!(read("75C54837CF"), ["check_byte 75C54837"]);
        assert_eq!(read("8804A1B2C3D4E5F6"), ["cascade_tag 04A1B2C3D4E5F6"]);
        // Eight digits may be hex and a number.
        let expected = ["hex 12345678", "hex_reversed 78563412", "decimal 00BC614E", "decimal_reversed 4E61BC00"];
        assert_eq!(read("12345678"), expected);
        for text in ["", "card", "00000000", "1EA686", "99999999999999999999999", &"1E".repeat(200)] {
            assert_eq!(read(text), [""; 0], "{text}");
        }
    }

    /// Whoever typed something else than a UID is led to the one that was meant.
    #[test]
    fn what_is_no_uid_and_means_one_has_a_remedy_that_names_it() {
        for (text, remedy) in [
            ("0514229873", Some("it is the UID `1EA68671` or, from a reader that reverses, `7186A61E`")),
            ("514229873", Some("it is the UID `1EA68671` or, from a reader that reverses, `7186A61E`")),
            (
                "1303689068602870",
                Some("it is the UID `04A1B2C3D4E5F6` or, from a reader that reverses, `F6E5D4C3B2A104`"),
            ),
            ("4A1B2C3D4E5F6", Some("with the leading zero that a spreadsheet removes it is the UID `04A1B2C3D4E5F6`")),
            ("ea6:86-71", Some("with the leading zero that a spreadsheet removes it is the UID `0EA68671`")),
            (
                "1234567",
                Some("it is the UID `0012D687` or, from a reader that reverses, `87D61200`; with the leading zero"),
            ),
            ("1234567", Some("removes it is the UID `01234567`; a number printed on the card")),
            ("12", Some("a student number is not the UID")),
            ("4112233445566", Some("it is the UID `04112233445566`; a number printed on the card")),
            ("20230415", Some("a student number is not the UID")),
            ("202608193021", Some("a student number is not the UID")),
            ("99999999999999999999999", Some("a student number is not the UID")),
            ("7846,34417", Some("as a Wiegand-34 number it is the UID `1EA68671` or")),
            ("166,34417", Some("as a Wiegand-26 number it has lost a byte")),
            ("70000,1", None),
            ("１ＥＡ68671", Some("write it as `1EA68671`")),
            ("1E.A6.86.71", Some("write it as `1EA68671`")),
            ("", None),
            ("0x1EA68671", Some("leave out `0x`")),
            ("0X1EA68671", Some("leave out `0x`")),
            ("75C54837CF", Some("check byte of the first four: `75C54837`")),
            ("75:C5:48:37:CF", Some("check byte of the first four: `75C54837`")),
            ("75C54837CE", None),
            ("75C54837FF", None),
            ("75C5483700", None),
            ("8804A1B2C3D4E5F6", Some("leave it out, `04A1B2C3D4E5F6`")),
            ("8804A1B2C3D4E5", None),
            ("8704A1B2C3D4E5F6", None),
            ("card", None),
        ] {
            match (hint(text), remedy) {
                (Some(hint), Some(remedy)) => {
                    assert!(hint.starts_with("; ") && hint.contains(remedy), "{text}: {hint}");
                }
                (hint, remedy) => assert_eq!(hint.as_deref(), remedy, "{text}"),
            }
        }
    }
}
