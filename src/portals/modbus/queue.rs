//! The requests that wait for a line, by priority: closing before opening, cards before contacts, meters last.

use std::collections::VecDeque;

/// Which of several requests goes first. The order of the variants is the order on the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, strum::VariantArray)]
pub enum Priority {
    /// Switch off, lock.
    Cut,
    /// Switch on, release.
    Release,
    /// Read back what was switched.
    Confirm,
    /// Look for cards.
    Card,
    /// Contacts, buttons, fire.
    Input,
    /// The state of relays.
    Status,
    /// Meters.
    Meter,
    /// Polls of a unit that is offline, or did not answer twice in a row. Callers do not use it: their polls are moved here.
    Probe,
}

impl Priority {
    /// All, the most urgent first.
    pub const ALL: &'static [Self] = <Self as strum::VariantArray>::VARIANTS;
}

/// Requests that may overtake a poll of lower priority before it is sent, so that relays and contacts are read even on a line full of
/// readers. Closing and releasing always overtake polls.
pub const PASSED_OVER_MAX: u64 = 12;

/// First by priority, then in order of arrival.
#[derive(Debug)]
pub(super) struct Queue<T> {
    /// Each item with the number of the last one served before it came.
    lanes: [VecDeque<(u64, T)>; Priority::ALL.len()],
    served: u64,
    /// The number of the last one that asked a unit which may not answer.
    probed: u64,
}

impl<T> Queue<T> {
    pub(super) fn new() -> Self {
        Self { lanes: std::array::from_fn(|_| VecDeque::new()), served: 0, probed: 0 }
    }

    pub(super) fn push(&mut self, priority: Priority, item: T) {
        if let Some(lane) = self.lanes.get_mut(priority as usize) {
            lane.push_back((self.served, item));
        }
    }

    /// Puts back what was taken, before the others of its priority.
    pub(super) fn put_back(&mut self, priority: Priority, item: T) {
        if let Some(lane) = self.lanes.get_mut(priority as usize) {
            lane.push_front((self.served, item));
        }
    }

    /// What was taken last asks a unit that may not answer. The next such poll is passed over as often as if it came now: several dead
    /// units never wait for their time-outs one after another while others could be asked.
    pub(super) fn probes(&mut self) {
        self.probed = self.served;
    }

    pub(super) fn pop(&mut self) -> Option<T> {
        let polls = Priority::Card as usize;
        let probes = Priority::Probe as usize;
        let mut at = self.lanes.iter().position(|lane| !lane.is_empty())?;
        if at >= polls {
            // Of the polls that were passed over too often, the one that waits longest.
            let waits = |(at, lane): (usize, &VecDeque<(u64, T)>)| {
                let (came, _) = lane.front()?;
                Some((if at == probes { self.probed.max(*came) } else { *came }, at))
            };
            let overdue = self.lanes.iter().enumerate().skip(polls).filter_map(waits);
            let oldest = overdue.filter(|(came, _)| self.served.saturating_sub(*came) > PASSED_OVER_MAX).min();
            at = oldest.map_or(at, |(_, at)| at);
        }
        self.served += 1;
        self.lanes.get_mut(at)?.pop_front().map(|(_, item)| item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_goes_before_everything_that_came_earlier() {
        let mut queue = Queue::new();
        for (n, priority) in
            [Priority::Probe, Priority::Meter, Priority::Card, Priority::Cut, Priority::Card, Priority::Release]
                .into_iter()
                .enumerate()
        {
            queue.push(priority, n);
        }
        assert_eq!(std::iter::from_fn(|| queue.pop()).collect::<Vec<_>>(), [3, 5, 2, 4, 1, 0]);
    }

    #[test]
    fn on_a_line_full_of_readers_relays_are_read_offline_units_are_probed_and_no_cut_is_delayed() {
        for passed_over in [Priority::Status, Priority::Probe] {
            let mut queue = Queue::new();
            queue.push(passed_over, "passed_over");
            let mut before = 0;
            loop {
                // Readers ask faster than the line can answer.
                queue.push(Priority::Card, "card");
                queue.push(Priority::Card, "card");
                if queue.pop() == Some("passed_over") {
                    break;
                }
                before += 1;
            }
            assert_eq!(before, PASSED_OVER_MAX + 1);
            queue.push(Priority::Cut, "cut");
            assert_eq!(queue.pop(), Some("cut"));
        }
    }

    #[test]
    fn of_many_dead_units_one_is_asked_after_each_round_of_the_others() {
        for readers in [5, 30] {
            let mut queue = Queue::new();
            (0..10).for_each(|_| queue.push(Priority::Probe, None));
            (0..readers).for_each(|reader| queue.push(Priority::Card, Some(reader)));
            let mut dead = Vec::new();
            for at in 0..200 {
                match queue.pop().unwrap() {
                    None => {
                        queue.probes();
                        dead.push(at);
                    }
                    // Its next poll is due at once.
                    Some(reader) => queue.push(Priority::Card, Some(reader)),
                }
            }
            let apart: Vec<_> = dead.windows(2).map(|pair| pair[1] - pair[0]).collect();
            assert!(
                apart.len() > 2 && apart.iter().all(|apart| (13..=readers.max(13) + 1).contains(apart)),
                "{apart:?}"
            );
        }
    }
}
