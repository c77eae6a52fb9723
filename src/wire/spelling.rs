//! What a wrong word was probably meant to be.

use super::limits::QUOTE_CHARS_MAX;

/// Share of letters that must agree (Jaro-Winkler, 0 to 1).
const NEAR_ENOUGH: f64 = 0.8;

/// The nearest of `known` to `word`, if one is near enough to be a slip of the pen.
#[must_use]
pub fn nearest<'k>(word: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    // The comparison takes time with the length, and a slip of the pen is never long.
    if word.len() > QUOTE_CHARS_MAX {
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
    fn a_slip_of_the_pen_is_guessed_and_anything_else_gets_the_whole_list() {
        let known = ["gate", "door"];
        assert_eq!(hint("gat", known.into_iter()), "did you mean `gate`?");
        assert_eq!(hint("window", known.into_iter()), "known: gate, door");
        let long = "g".repeat(QUOTE_CHARS_MAX + 1);
        assert_eq!(nearest(&long, [long.as_str()].into_iter()), None, "too long to be compared");
    }
}
