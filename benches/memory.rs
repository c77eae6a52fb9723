//! Resident memory of the list at 1 M cards. Run: `cargo bench --bench memory`.

#![allow(clippy::unwrap_used, missing_docs, reason = "a panic ends a benchmark")]

mod support;

fn resident_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib / 1024
}

fn main() {
    let before = resident_mib();
    for cards in [1_000, 50_000, 1_000_000] {
        let list = support::list_of(cards);
        println!("{cards} cards: {} MiB resident ({before} MiB before)", resident_mib());
        drop(list);
    }
}
