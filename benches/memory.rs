//! Resident memory of the list at 1 M cards. Run: `cargo bench --bench memory`.

#![allow(clippy::unwrap_used, missing_docs, reason = "a panic ends a benchmark")]

mod support;

fn main() {
    let resident_mib = || support::status_mib(std::process::id(), "VmRSS:");
    let before = resident_mib();
    for cards in [1_000, 50_000, 1_000_000] {
        let list = support::list_of(cards);
        println!("{cards} cards: {:.0} MiB resident ({before:.0} MiB before)", resident_mib());
        drop(list);
    }
}
