//! The sentences of the gateway that the pages have in Chinese, by the expressions of the pages themselves.

use std::sync::LazyLock;

use regex::Regex;

const PAGES: [&str; 2] =
    [include_str!("../../src/http/console/page/facts.js"), include_str!("../../src/http/console/page/sentences.js")];

/// Each expression, and whether the last of its groups is a sentence that is put into Chinese too.
static KNOWN: LazyLock<Vec<(Regex, bool)>> = LazyLock::new(|| {
    let lines = PAGES.iter().flat_map(|page| page.lines());
    let expressions = lines.filter_map(|line| line.trim_start().strip_prefix("[/^")?.split_once("$/, "));
    let known = |(expression, words): (&str, &str)| {
        (Regex::new(&format!("^{}$", expression.replace(r"\/", "/"))).unwrap(), words.contains("part("))
    };
    expressions.map(known).collect()
});

/// Fails where a page in Chinese would show this sentence, or one of several joined by `; `, in English.
pub fn is_in_chinese(sentence: &str) {
    assert!(is_known(sentence), "sentences.js does not have this sentence in Chinese: {sentence}");
}

fn is_known(sentence: &str) -> bool {
    let found = KNOWN.iter().find_map(|(whole, nests)| Some((whole.captures(sentence)?, nests)));
    if let Some((groups, nests)) = found {
        return !nests || groups.iter().last().flatten().is_some_and(|inner| is_known(inner.as_str()));
    }
    let joined = |(at, between): (usize, &str)| {
        let (first, rest) = sentence.split_at(at);
        is_known(first) && rest.strip_prefix(between).is_some_and(is_known)
    };
    sentence.match_indices("; ").any(joined)
}
