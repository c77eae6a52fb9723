//! Foreign text made fit to be repeated in messages, logs and the audit.

use super::limits::QUOTE_CHARS_MAX;

/// `text` in at most `chars` characters, the last then `…`; control characters and other invisible ones become `?`.
pub(crate) fn shorten(text: &str, chars: usize) -> String {
    let mut short = String::new();
    for (at, c) in text.chars().enumerate() {
        if at + 1 >= chars && text.chars().nth(chars).is_some() {
            short.push('…');
            break;
        }
        short.push(if is_plain(c) { c } else { '?' });
    }
    short
}

/// `text` in backticks, shortened to [`QUOTE_CHARS_MAX`].
pub(crate) fn quote(text: &str) -> String {
    format!("`{}`", shorten(text, QUOTE_CHARS_MAX))
}

/// Whether `text` has 1 to `chars` characters, none of them a control or direction character.
pub(crate) fn is_label(text: &str, chars: usize) -> bool {
    !text.is_empty() && text.chars().nth(chars).is_none() && text.chars().all(is_plain)
}

/// Control characters break logs; direction marks make one text look like another.
fn is_plain(c: char) -> bool {
    !c.is_control()
        && !matches!(c, '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2066}'..='\u{2069}' | '\u{FEFF}')
}

/// Lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, b| {
        // Writing to a String cannot fail.
        if write!(text, "{b:02x}").is_err() {
            text.push('?');
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_is_cut_and_cleaned_before_it_is_repeated() {
        assert_eq!(shorten("gate", 4), "gate");
        assert_eq!(shorten("gates", 4), "gat…");
        assert_eq!(shorten("a\nb\u{202E}c", 9), "a?b?c");
        assert_eq!(shorten("", 4), "");
        assert_eq!(hex(&[0, 0x0A, 0xFF]), "000aff");
    }
}
