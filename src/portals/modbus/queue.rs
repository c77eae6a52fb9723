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
    /// Polls of a unit that is offline. Callers do not use it: their polls are moved here.
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
}

impl<T> Queue<T> {
    pub(super) fn new() -> Self {
        Self { lanes: std::array::from_fn(|_| VecDeque::new()), served: 0 }
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

    pub(super) fn pop(&mut self) -> Option<T> {
        let polls = Priority::Card as usize;
        let waits = |lane: &VecDeque<(u64, T)>| lane.front().map(|(came, _)| *came);
        let mut at = self.lanes.iter().position(|lane| !lane.is_empty())?;
        if at >= polls {
            // Of the polls that were passed over too often, the one that waits longest.
            let overdue = self.lanes.iter().enumerate().skip(polls).filter_map(|(at, lane)| Some((waits(lane)?, at)));
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
}
