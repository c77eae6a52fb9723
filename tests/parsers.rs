//! The readers of bytes from outside, each with its corpus of `fuzz/corpus` and with mutations of it. What the search by coverage
//! (`fuzz/run`) found is in these corpora, so it is found again here.
//!
//! ```text
//! MUTATIONS=1000000 cargo test --release --test parsers
//! ```
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a panic is how a test fails"
)]

#[path = "support/dice.rs"]
mod dice;
#[path = "support/parsers.rs"]
mod parsers;

use std::collections::BTreeSet;
use std::path::PathBuf;

use dice::Dice;

/// Mutations of each corpus in a plain `cargo test`.
const MUTATIONS: u64 = 3_000;
/// Bytes that mean something in most of the formats.
const MARKS: &[u8] = b"\0\xFF09-\"{}[],.:e\n ";
/// A mutated input is no longer, in bytes.
const BYTES_MAX: usize = 8 * 1024;

fn corpus(name: &str) -> Vec<Vec<u8>> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let mut dirs = vec![root.join("fuzz/corpus").join(name)];
    // The profiles of the tree are such a corpus already.
    if name == "profile" {
        dirs.extend([root.join("devices"), root.join("devices/mqtt")]);
    }
    let in_dir = |dir: &PathBuf| {
        let entries = std::fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
        entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_file()).collect::<Vec<_>>()
    };
    let mut files: Vec<_> = dirs.iter().flat_map(in_dir).collect();
    files.sort();
    files.iter().map(|file| std::fs::read(file).unwrap()).collect()
}

/// One of the corpus with a few changes: bytes flipped, cut out, doubled, or taken from another one.
fn mutated(corpus: &[Vec<u8>], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = corpus[dice.below(corpus.len())].clone();
    for _ in 0..=dice.below(4) {
        let at = dice.below(bytes.len() + 1);
        match dice.below(6) {
            0 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << dice.below(8);
                }
            }
            1 => bytes.truncate(at),
            2 => drop(bytes.drain(at..(at + dice.below(9)).min(bytes.len()))),
            3 => bytes.insert(at, MARKS[dice.below(MARKS.len())]),
            4 => {
                let other = &corpus[dice.below(corpus.len())];
                let from = dice.below(other.len() + 1);
                let to = (from + dice.below(40)).min(other.len());
                drop(bytes.splice(at..at, other[from..to].iter().copied()));
            }
            _ => bytes.extend_from_within(at..(at + dice.below(20)).min(bytes.len())),
        }
    }
    bytes.truncate(BYTES_MAX);
    bytes
}

/// Runs a parser, and prints the input before the panic goes on.
fn run(name: &str, parser: parsers::Parser, bytes: &[u8]) {
    let found = std::panic::catch_unwind(|| parser(bytes));
    if let Err(panic) = found {
        eprintln!("parser `{name}`, {} bytes: {:?}", bytes.len(), String::from_utf8_lossy(bytes));
        std::panic::resume_unwind(panic);
    }
}

#[test]
fn nothing_of_the_corpora_and_of_their_mutations_panics() {
    let mutations = std::env::var("MUTATIONS").map_or(MUTATIONS, |n| n.parse().unwrap());
    for (name, parser) in parsers::ALL {
        let corpus = corpus(name);
        assert!(!corpus.is_empty(), "fuzz/corpus/{name} is empty");
        corpus.iter().for_each(|bytes| run(name, *parser, bytes));
        let mut dice = Dice(1);
        // A start from a journal costs a hundred times as much as a message.
        let share = if *name == "journal" { 20 } else { 1 };
        (0..mutations / share).for_each(|_| run(name, *parser, &mutated(&corpus, &mut dice)));
    }
}

#[test]
fn each_corpus_belongs_to_a_parser() {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    let found: BTreeSet<String> =
        std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    let known: BTreeSet<String> = parsers::ALL.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(found, known);
}
