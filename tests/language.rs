//! The words of the project: names, comments, messages and documents use the field's words and none that an engineer would have to
//! learn first. Reads every source and document as text; identifiers are split into their words.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::{Path, PathBuf};

/// Left-out words, each with what to write in its place.
const LEFT_OUT: &[(&[&str], &str)] = &[
    (&["tell", "tells", "told", "telling", "untold", "teller"], "send, publish, notify, report, log; pending"),
    (&["hear", "hears", "heard", "hearing", "unheard"], "receive, decode"),
    (&["say", "says", "said", "saying", "unsaid"], "report, state, log, name"),
    (&["speak", "speaks", "spoke", "spoken", "speaker"], "send, use, refer to"),
    (&["owe", "owes", "owed", "promise", "promises", "promised"], "pending, outstanding, guarantee"),
    (&["believe", "believes", "believed", "belief"], "trust, integrity"),
    (&["desk", "desks"], "state owner, core, client, session"),
    (&["bell", "bells"], "wake flag"),
    (&["anew"], "again"),
    (&["stray", "strays"], "unsolicited frame"),
    (&["lateness"], "late reply"),
    (&["wholeness"], "integrity"),
    (&["overtaken"], "superseded"),
    (&["toy", "toys"], "test rig, fixture"),
    (&["mistake", "mistakes"], "diagnostic, error"),
    (&["clash", "clashes"], "collision"),
];

/// Left-out phrases, found in prose only.
const LEFT_OUT_PHRASES: &[(&str, &str)] = &[
    ("stand-in", "simulator, simulated device"),
    ("stand_in", "simulator, simulated device"),
    ("stood in for", "simulated"),
    ("is none", "does not exist, is not a ..., is missing"),
    ("went as told", "succeeded"),
    ("the house", "the architecture"),
];

const PLACES: &[&str] = &["src", "tests", "benches", "fuzz/fuzz_targets", "devices", "deploy", "README.md"];

fn files(path: &Path, found: &mut Vec<PathBuf>) {
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            let path = entry.unwrap().path();
            // The environment that `tests/run` makes is not ours.
            if !path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".")) {
                files(&path, found);
            }
        }
    } else if path
        .extension()
        .is_some_and(|kind| ["rs", "md", "toml", "txt", "conf", "service"].iter().any(|k| kind == *k))
    {
        found.push(path.to_owned());
    }
}

/// The words of a line: `UnitState::heard_at` has `unit`, `state`, `heard`, `at`.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut before = ' ';
    for c in line.chars() {
        let begins = c.is_uppercase() && before.is_lowercase();
        if begins || !c.is_alphabetic() {
            words.push(String::new());
        }
        if c.is_alphabetic()
            && let Some(word) = words.last_mut()
        {
            word.extend(c.to_lowercase());
        }
        before = c;
    }
    words.retain(|word| !word.is_empty());
    words
}

fn left_out(line: &str) -> Vec<String> {
    let words = words(line);
    let one = |(left_out, instead): &(&[&str], &str)| {
        let found = words.iter().find(|word| left_out.contains(&word.as_str()))?;
        Some(format!("`{found}`: write {instead}"))
    };
    let prose = line.to_lowercase();
    let stands_alone = |(at, phrase): (usize, &str)| {
        !prose.get(at + phrase.len()..).is_some_and(|rest| rest.starts_with(|c: char| c.is_alphabetic() && c != 's'))
    };
    let phrase = |(phrase, instead): &(&str, &str)| {
        prose.match_indices(phrase).any(stands_alone).then(|| format!("`{phrase}`: write {instead}"))
    };
    LEFT_OUT.iter().filter_map(one).chain(LEFT_OUT_PHRASES.iter().filter_map(phrase)).collect()
}

#[test]
fn no_file_has_a_word_that_is_left_out() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut all = Vec::new();
    PLACES.iter().for_each(|place| files(&root.join(place), &mut all));
    assert!(all.len() > 200, "only {} files were found", all.len());
    let mut wrong = Vec::new();
    for path in all.iter().filter(|path| !path.ends_with("tests/language.rs")) {
        let text = fs::read_to_string(path).unwrap();
        for (number, line) in (1..).zip(text.lines()) {
            let place = path.strip_prefix(root).unwrap().display();
            wrong.extend(left_out(line).into_iter().map(|what| format!("{place}:{number}: {what}")));
        }
    }
    assert!(wrong.is_empty(), "{} places:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn a_left_out_word_is_found_in_names_and_in_prose_and_no_other_is() {
    for wrong in
        ["fn tell_state()", "struct HeardFrame;", "// The center says so.", "let heard_at = 1;", "a card that is none."]
    {
        assert_eq!(left_out(wrong).len(), 1, "{wrong}");
    }
    for right in ["option.is_none()", "essay", "fn report_state()", "a letter or a digit", "payload", "the household"] {
        assert_eq!(left_out(right), Vec::<String>::new(), "{right}");
    }
}
