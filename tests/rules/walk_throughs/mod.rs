//! The walk-throughs of dormitory practice, entry by entry: each is one test, and its name is the words of the entry.
//!
//! `ENTRIES` is the whole page. Two offices act on the cards: the card center (CC) on their standing, the apartment center (AC) on what
//! they may open. A, B and R are cards; P1 and P2 are holders; the portals are those of `world::portals`.

mod edges;
mod of_a_card;
mod of_the_building;

use std::process::Command;

/// The entries of the page: the title, and what happens.
const ENTRIES: [(&str, &[&str]); 11] = [
    (
        "First card",
        &[
            "A at gate-in, door-412, then inserted in power-412",
            "the reader sends P1's student number or the printed card_no as a decimal UID",
        ],
    ),
    ("Issued, never enrolled (newcomer)", &["A at door-412", "AC's enrolment arrives before CC's issue"]),
    (
        "Lost while inserted",
        &["CC lost A seq n", "A at gate-in", "gateway and broker restart and a retained older A active arrives"],
    ),
    ("Found again", &["CC cancel-loss A seq n+1", "issue 2 already exists, same message"]),
    (
        "Reissue, enrolment missing",
        &["B at door-412 and power-412", "A anywhere", "B at gate-in by enrolment_binding.gate"],
    ),
    (
        "Enrolment completed, then replay",
        &[
            "AC enrol P1 B door-412+power-412 seq m",
            "attacker replays AC's old enrol A",
            "AC enrols A with a fresh seq in error",
        ],
    ),
    (
        "Freeze, unfreeze",
        &[
            "CC freeze B",
            "CC freeze B with freeze_scope=payment_only",
            "CC unfreeze B",
            "lost B, then a late unfreeze B",
        ],
    ),
    (
        "Two campuses, wrong building",
        &[
            "B at a Wenchang building's gate",
            "granted at Nanhu 10:00:00, UID read at Wenchang 10:03:00",
            "loss reported at the other campus's card office",
        ],
    ),
    (
        "NFC clone at the gate",
        &[
            "phone with B's UID at gate-in, flag",
            "phone with B's UID at gate-in, deny",
            "uid-only read at a door with min_assurance=sector",
            "B removed 3 s ago, relay still on, B at gate-in",
            "phone in random mode (08..)",
        ],
    ),
    (
        "Outage, transfer, fire",
        &[
            "uplink down 30 min, R at gate-in",
            "queued transfer P1 412 -> 413 and lost R arrive together",
            "fire input during lockdown",
        ],
    ),
    (
        "Edge",
        &[
            "multi-slot, first roommate leaves -> power stays, last leaves -> off at 15 s",
            "single slot, A out and R in at 14 s -> no drop",
            "single slot, A out and unknown card in at 14 s -> off at 15 s",
            "arrears paid with no card present -> stays off",
            "same UID twice in 5 s -> one event",
            "swipe but no pass in 5 s -> not taken, APB unchanged",
            "validity end 12:00 exclusive",
            "empty snapshot -> refused",
            "08-prefixed enrolment -> refused",
            "two cards equal after a W26 transform -> ambiguous_identifier at W26 readers only",
        ],
    ),
];

/// Words as the name of a test: letters and digits, all else one `_`.
fn snake_case(text: &str) -> String {
    let lower = text.to_lowercase();
    let words = lower.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join("_")
}

/// The names of the tests of this program, those left out of a plain run or only those.
fn tests(ignored: bool) -> Vec<String> {
    let mut program = Command::new(std::env::current_exe().unwrap());
    program.arg("--list").args(ignored.then_some("--ignored"));
    let printed = String::from_utf8(program.output().unwrap().stdout).unwrap();
    let paths = printed.lines().filter_map(|line| line.strip_suffix(": test"));
    paths.map(|path| path.rsplit("::").next().unwrap().to_owned()).collect()
}

#[test]
fn each_entry_of_the_page_is_one_test_of_its_words() {
    let (all, ignored) = (tests(false), tests(true));
    let names = ENTRIES.iter().flat_map(|(title, entries)| {
        let prefix = snake_case(title);
        entries.iter().map(move |entry| format!("{prefix}_{}", snake_case(entry)))
    });
    let wrong: Vec<_> =
        names.filter(|name| all.iter().filter(|test| *test == name).count() != 1 || ignored.contains(name)).collect();
    assert_eq!(wrong, Vec::<String>::new(), "each of these is to be one test that a plain run does not leave out");
    let count = |prefix: &str| all.iter().filter(|test| test.starts_with(prefix)).count();
    for (title, entries) in ENTRIES {
        assert_eq!(count(&format!("{}_", snake_case(title))), entries.len(), "a test of `{title}` is not in the table");
    }
}
