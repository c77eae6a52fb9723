//! What is wrong with a value in JSON, in plain words: what is wanted and what was there, the latter only as a kind and a length where it
//! may be the UID of a card.

use serde_json::Value;

use super::limits::QUOTE_CHARS_MAX;
use super::text::{quote, shorten};

/// Longest number that is shown: no UID is that short, in hex or decimal.
const SHOWN_NUMBER_MAX: usize = 4;
/// Words that are shown of what is no JSON, with a sign or without.
const SHOWN_WORDS: [&str; 3] = ["nan", "inf", "infinity"];
/// What stands between what is wanted and what was there.
const GOT: &str = " is wanted, got ";

/// The text of an error of serde as a sentence, without a value of the wrong type, and without the place.
pub(crate) fn sentence(error: &str) -> String {
    let what = error.rsplit_once(" at line ").map_or(error, |(what, _)| what);
    let typed = what.strip_prefix("invalid type: ").or_else(|| what.strip_prefix("invalid value: "));
    if let Some((got, wanted)) = typed.and_then(|rest| rest.rsplit_once(", expected ")) {
        return format!("{}{GOT}{}", plain_wanted(wanted), plain_kind(got));
    }
    let variant = what.strip_prefix("unknown variant `").and_then(|rest| rest.rsplit_once("`, expected "));
    if let Some((got, wanted)) = variant {
        return format!("{}{GOT}{}", shorten(wanted, 4 * QUOTE_CHARS_MAX), quote(got));
    }
    let missing = what.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`'));
    if let Some(field) = missing {
        return format!("{} is missing; add it", quote(field));
    }
    if what.starts_with("EOF while ") {
        return "the JSON ends too early".to_owned();
    }
    shorten(what, 4 * QUOTE_CHARS_MAX)
}

/// What serde expected, in plain words.
fn plain_wanted(wanted: &str) -> &str {
    match wanted {
        "a boolean" => "`true` or `false`",
        "a string" => "text",
        "f32" | "f64" => "a number",
        "u8" => "a whole number from 0 to 255",
        "u16" => "a whole number from 0 to 65535",
        "u32" | "u64" | "usize" => "a whole number from 0",
        "i8" | "i16" | "i32" | "i64" => "a whole number",
        "a sequence" => "a list",
        "a map" => "an object in braces",
        nonzero if nonzero.starts_with("a nonzero ") => "a whole number from 1",
        object if object.starts_with("struct ") || object.starts_with("internally tagged enum ") => {
            "an object in braces"
        }
        other => other,
    }
}

/// What serde got, without the value.
fn plain_kind(got: &str) -> &str {
    match got.split(' ').next().unwrap_or_default() {
        "string" => "text",
        "integer" if got.contains("`-") => "a number below 0",
        "integer" => "a whole number",
        "floating" => "a number with a fraction",
        "number" => "a number",
        "boolean" if got.contains("true") => "`true`",
        "boolean" => "`false`",
        "sequence" => "a list",
        "map" => "an object",
        "null" | "unit" => "`null`",
        _ => "another kind of value",
    }
}

/// What is wrong with the value `raw`, of which `error` is the message, without the value itself.
pub(super) fn without_value(error: &str, raw: &str) -> String {
    let (is_json, got) = kind(raw);
    match error.split_once(GOT) {
        _ if !is_json => format!("a JSON value{GOT}{got}"),
        Some((wanted, _)) => format!("{wanted}{GOT}{got}"),
        None => format!("{error}; got {got}"),
    }
}

/// Whether `raw` is JSON, and its kind and length.
pub(crate) fn kind(raw: &str) -> (bool, String) {
    let is_shown = |most: usize| raw.len() <= most;
    let kind = match serde_json::from_str(raw) {
        Ok(Value::String(text)) => format!("text of {} characters", text.chars().count()),
        Ok(Value::Number(_)) if !is_shown(SHOWN_NUMBER_MAX) => {
            format!("a number of {} digits", raw.bytes().filter(u8::is_ascii_digit).count())
        }
        Ok(Value::Number(_) | Value::Bool(_) | Value::Null) => quote(raw),
        Ok(Value::Array(_)) => "a list".to_owned(),
        Ok(Value::Object(_)) => "an object".to_owned(),
        Err(_) if raw.is_empty() => return (false, "nothing".to_owned()),
        Err(_) => {
            let word = raw.trim_start_matches(['+', '-']).to_ascii_lowercase();
            let got = if SHOWN_WORDS.contains(&word.as_str()) {
                quote(raw)
            } else {
                format!("{} characters", raw.chars().count())
            };
            return (false, got);
        }
    };
    (true, kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_serde_is_a_sentence_without_the_value() {
        for (error, expected) in [
            (r#"invalid type: string "UID1EA68671", expected f64 at line 1 column 9"#, "a number is wanted, got text"),
            ("invalid type: integer `514229873`, expected a string", "text is wanted, got a whole number"),
            ("invalid type: null, expected struct Login", "an object in braces is wanted, got `null`"),
            (
                "invalid type: sequence, expected internally tagged enum Order",
                "an object in braces is wanted, got a list",
            ),
            ("invalid value: integer `-1`, expected u64", "a whole number from 0 is wanted, got a number below 0"),
            ("invalid type: boolean `true`, expected a sequence", "a list is wanted, got `true`"),
            ("unknown variant `gates`, expected `gate` or `door`", "`gate` or `door` is wanted, got `gates`"),
            ("missing field `portal` at line 1 column 2", "`portal` is missing; add it"),
            ("EOF while parsing a value at line 1 column 0", "the JSON ends too early"),
            ("trailing characters at line 1 column 5", "trailing characters"),
        ] {
            assert_eq!(sentence(error), expected);
        }
    }
}
