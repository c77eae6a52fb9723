//! How often a reader is read, and from which gap on what it shows may be old. Pure: the time is given.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// So many usual rounds without a reading are no gap: on a loaded line an answer is lost now and then.
pub const GAP_ROUNDS: u32 = 3;
/// Longest time between two readings that is no gap, however long the usual round is, in milliseconds.
pub const GAP_MS_MAX: u64 = 10_000;
/// So many rounds are remembered. The usual one is the shortest but one of them: lost answers lengthen some, and a loaded line all.
const REMEMBERED: usize = 9;

/// The readings of one reader.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    last: Option<Instant>,
    /// The times from one reading to the next, the latest at the end.
    rounds: VecDeque<Duration>,
}

impl Rounds {
    /// It is read at `at`. Returns whether it was read all the time since the reading before: within `least_ms`, or within a few usual rounds
    /// of its line.
    pub(super) fn read(&mut self, at: Instant, least_ms: u64) -> bool {
        let Some(last) = self.last.replace(at) else { return false };
        let longest = Duration::from_millis(GAP_MS_MAX);
        let gap = at.saturating_duration_since(last);
        let limit = (self.usual() * GAP_ROUNDS).min(longest).max(Duration::from_millis(least_ms));
        if self.rounds.len() == REMEMBERED {
            self.rounds.pop_front();
        }
        self.rounds.push_back(gap);
        gap <= limit
    }

    fn usual(&self) -> Duration {
        let mut rounds: Vec<_> = self.rounds.iter().copied().collect();
        rounds.sort_unstable();
        rounds.get(usize::from(rounds.len() > 2)).copied().unwrap_or_default()
    }

    /// Its device fell silent: the next reading follows none.
    pub(super) fn lost(&mut self) {
        self.last = None;
    }

    /// Whether it was read since its device was last lost.
    pub(super) fn is_read(&self) -> bool {
        self.last.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST_MS: u64 = 3000;

    /// Readings with these gaps, in milliseconds; whether the last one follows the one before.
    fn follows(gaps: &[u64]) -> bool {
        let (mut rounds, mut at) = (Rounds::default(), Instant::now());
        assert!(!rounds.read(at, LEAST_MS));
        let mut follows = false;
        for gap in gaps {
            at += Duration::from_millis(*gap);
            follows = rounds.read(at, LEAST_MS);
        }
        follows
    }

    #[test]
    fn a_gap_is_longer_than_a_few_usual_rounds_of_the_line() {
        let quick = [150; 10];
        let loaded = [1640; 10];
        assert!(follows(&[&quick[..], &[LEAST_MS]].concat()));
        assert!(!follows(&[&quick[..], &[LEAST_MS + 1]].concat()));
        // Two answers in a row are lost.
        assert!(follows(&[&loaded[..], &[3 * 1640]].concat()));
        assert!(!follows(&[&loaded[..], &[3 * 1640 + 1]].concat()));
        // A line that has become slow is known after a few rounds, and what it shows opens nothing before.
        assert_eq!([8, 9].map(|rounds| follows(&[&quick[..], &vec![3300; rounds]].concat())), [false, true]);
        // One that loses answers is no slow line.
        let bad = [200, 1200, 200, 2300, 200, 200, 1200, 2300, 200, 200];
        assert!(!follows(&[&bad[..], &[LEAST_MS + 1]].concat()));
    }

    #[test]
    fn no_round_is_so_long_that_a_card_of_long_ago_counts() {
        assert!(follows(&[9000; 20]));
        assert!(!follows(&[GAP_MS_MAX + 1; 20]));
        assert!(!follows(&[&[150; 10][..], &[3_600_000, 4000]].concat()), "a long gap is no usual round");
        let (mut rounds, at) = (Rounds::default(), Instant::now());
        rounds.read(at, LEAST_MS);
        rounds.lost();
        assert!(!rounds.is_read());
        assert!(!rounds.read(at + Duration::from_millis(1), LEAST_MS));
    }
}
