//! The figures of the standards that software can meet, each with the value that was measured beside it. Time is that of the manual
//! clock: what a figure allows, less what is measured here, is left to lines, brokers and disks, whose shares have tests of their own.
//! `cargo test --test rules figures -- --nocapture` prints the table.

mod by_config;
mod of_links;
mod of_the_building;

use std::fmt;

/// What a measured value has to be.
#[derive(Clone, Copy)]
enum Bound {
    AtMost(u64),
    AtLeast(u64),
}

use Bound::{AtLeast, AtMost};

/// A requirement, and what was measured.
struct Row {
    /// The number of the figure.
    n: u8,
    requirement: &'static str,
    source: &'static str,
    unit: &'static str,
    bound: Bound,
    measured: u64,
}

impl Row {
    fn is_met(&self) -> bool {
        match self.bound {
            AtMost(most) => self.measured <= most,
            AtLeast(least) => self.measured >= least,
        }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bound = match self.bound {
            AtMost(most) => format!("<= {most}"),
            AtLeast(least) => format!(">= {least}"),
        };
        let Self { n, requirement, source, unit, measured, .. } = self;
        let mark = if self.is_met() { "" } else { "  NOT MET" };
        write!(f, "N{n:<3}{requirement:<84}{source:<28}{bound:>10} {unit:<9} measured {measured}{mark}")
    }
}

fn row(
    n: u8,
    source: &'static str,
    requirement: &'static str,
    (bound, unit): (Bound, &'static str),
    measured: impl TryInto<u64>,
) -> Row {
    let measured = measured.try_into().unwrap_or(u64::MAX);
    Row { n, requirement, source, unit, bound, measured }
}

/// What hardware alone decides, and why no program can be tested for it.
const BY_HARDWARE: [(u8, &str, &str); 5] = [
    (
        1,
        "from the order to the motion of a bolt or barrier",
        "the lock, and the line to it: `devices/README.md` measures one",
    ),
    (4, "the clock of the host: less than 5 s a day", "its crystal and the network's time service"),
    (
        5,
        "the real-time clock of a controller: 10 s a week",
        "its crystal; the gateway reports a clock that nobody synchronised",
    ),
    (8, "what a lock does without power", "fail-safe or fail-secure is how the lock is built and wired"),
    (
        18,
        "a release that works without the gateway",
        "the fire panel's own contact in the supply of the locks: `deploy/README.md`",
    ),
];

/// Figures that other tests measure, because their part needs a line, a broker or a real disk: the file and the test.
const ELSEWHERE: [(u8, &str, &str); 8] = [
    (1, "src/portals/modbus/tests/dead.rs", "a_dead_unit_hardly_delays_the_doors_of_the_other_seven"),
    (2, "tests/uplink/up.rs", "acks_and_alarms_outlive_a_broker_that_forgets"),
    (
        3,
        "src/portals/modbus/tests/figures.rs",
        "a_fire_releases_sixty_four_doors_within_two_seconds_beside_a_dead_unit",
    ),
    (
        5,
        "src/clock/tests.rs",
        "a_clock_that_was_not_synchronised_for_a_day_is_named_where_the_system_reports_it_and_stays_trusted",
    ),
    (
        8,
        "tests/e2e/links.rs",
        "a_change_sent_while_the_gateway_was_away_arrives_and_a_command_or_request_sent_then_does_nothing",
    ),
    (
        10,
        "tests/e2e/kill.rs",
        "every_acknowledged_change_is_in_force_after_a_kill_and_the_audit_has_no_hole_and_no_repeat",
    ),
    (12, "tests/e2e/damage.rs", "a_flipped_byte_in_the_middle_of_the_journal_is_noticed_and_nobody_is_revived"),
    (15, "src/portals/modbus/tests/figures.rs", "an_input_that_is_active_for_400_ms_is_reported_on_a_busy_line"),
];

#[test]
fn every_figure_that_software_can_meet_is_met() {
    let mut rows = of_the_building::rows();
    rows.extend(of_links::rows());
    rows.extend(by_config::rows());
    rows.sort_by_key(|row| row.n);
    for n in 1..=20 {
        for row in rows.iter().filter(|row| row.n == n) {
            println!("{row}");
        }
        for (_, file, test) in ELSEWHERE.iter().filter(|(of, ..)| *of == n) {
            println!("N{n:<3}measured by `{test}` of {file}");
        }
        for (_, what, why) in BY_HARDWARE.iter().filter(|(of, ..)| *of == n) {
            println!("N{n:<3}{what}: not by software; {why}");
        }
        assert!(rows.iter().any(|row| row.n == n), "N{n} is not measured");
    }
    let missed: Vec<_> = rows.iter().filter(|row| !row.is_met()).map(ToString::to_string).collect();
    assert!(missed.is_empty(), "not met:\n{}", missed.join("\n"));
}

#[test]
fn a_figure_that_is_missed_is_found() {
    let missed = |bound, measured: u64| !row(1, "", "", (bound, ""), measured).is_met();
    assert!(missed(AtMost(2), 3) && missed(AtLeast(2), 1));
    assert!(!missed(AtMost(2), 2) && !missed(AtLeast(2), 2));
}

#[test]
fn the_tests_that_measure_figures_elsewhere_exist() {
    for (n, file, test) in ELSEWHERE {
        let path = format!("{}/{file}", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(text.contains(&format!("fn {test}(")), "N{n}: {file} has no test `{test}`");
    }
}
