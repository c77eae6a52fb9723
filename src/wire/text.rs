//! Foreign text made fit to be repeated in messages, logs and the audit, and what a wrong name was probably meant to be.

use super::limits::QUOTE_CHARS_MAX;
use crate::access::plain::is_plain;

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

/// `text` in backticks, shortened to [`QUOTE_CHARS_MAX`]. One of its own would end the quotation, and becomes `'`.
pub(crate) fn quote(text: &str) -> String {
    format!("`{}`", shorten(text, QUOTE_CHARS_MAX).replace('`', "'"))
}

/// Length of the text in quotes at the beginning of `json`, with its quotation marks; `None`: it does not begin there or does not end.
pub(crate) fn quoted_len(json: &[u8]) -> Option<usize> {
    let mut escaped = false;
    let end = json.strip_prefix(b"\"")?.iter().position(|byte| {
        let ends = *byte == b'"' && !escaped;
        escaped = *byte == b'\\' && !escaped;
        ends
    })?;
    Some(end + 2)
}

/// Whether `text` has 1 to `chars` characters, none of them a control or direction character.
pub(crate) fn is_label(text: &str, chars: usize) -> bool {
    !text.is_empty() && text.chars().nth(chars).is_none() && text.chars().all(is_plain)
}

/// Longest text that is compared with known names, in bytes: the comparison takes time with the length, and a misspelt name is never
/// long.
const HINT_BYTES_MAX: usize = 64;
/// Share of letters that must agree (Jaro-Winkler, 0 to 1).
const NEAR_ENOUGH: f64 = 0.8;

/// The nearest of `known` to `word`, if one is near enough to be a misspelt one.
#[must_use]
pub fn nearest<'k>(word: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    if word.len() > HINT_BYTES_MAX {
        return None;
    }
    known
        .map(|k| (strsim::jaro_winkler(word, k), k))
        .filter(|(score, _)| *score >= NEAR_ENOUGH)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, k)| k)
}

/// What `word` may have been meant to be: the nearest of `known`, or else all of them.
#[must_use]
pub fn hint<'k>(word: &str, known: impl Iterator<Item = &'k str> + Clone) -> String {
    match nearest(word, known.clone()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("known: {}", known.collect::<Vec<_>>().join(", ")),
    }
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
    }

    #[test]
    fn a_misspelt_name_is_guessed_and_anything_else_gets_the_whole_list() {
        let known = ["gate", "door"];
        assert_eq!(hint("gat", known.into_iter()), "did you mean `gate`?");
        assert_eq!(hint("window", known.into_iter()), "known: gate, door");
        let long = "g".repeat(HINT_BYTES_MAX + 1);
        assert_eq!(nearest(&long, [long.as_str()].into_iter()), None, "too long to be compared");
    }
}
