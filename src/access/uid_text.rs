//! What a text that is not a card UID may be instead: a decimal number, a UID with a check byte or a cascade tag, a printed number.

/// A remedy beginning with `; `, for the end of an error. `None`: nothing is known about such a text.
#[must_use]
pub fn hint(text: &str) -> Option<String> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    if digits && text.len() == 10 {
        let number: u32 = text.parse().ok()?;
        return Some(format!(
            "; as a decimal number it is the UID `{}` or, from a reader that reverses, `{}`; a number printed on the card is not the UID",
            hex::encode_upper(number.to_be_bytes()),
            hex::encode_upper(number.to_le_bytes())
        ));
    }
    if digits {
        return Some("; a printed card number or a student number is not the UID: read the card".to_owned());
    }
    if text.starts_with("0x") || text.starts_with("0X") {
        return Some("; leave out `0x`".to_owned());
    }
    let plain: String = text.chars().filter(|c| !matches!(c, ':' | '-' | ' ')).collect();
    match hex::decode(plain).ok()?.as_slice() {
        [uid @ .., check] if uid.len() == 4 && uid.iter().fold(0, |sum, b| sum ^ b) == *check => {
            Some(format!("; the fifth byte is the check byte of the first four: `{}`", hex::encode_upper(uid)))
        }
        [0x88, uid @ ..] if uid.len() == 7 => {
            Some(format!("; the first byte is the cascade tag 88: leave it out, `{}`", hex::encode_upper(uid)))
        }
        _ => None,
    }
}
