//! What waits for the line, by priority: what closes before what opens, cards before contacts, meters last.

use std::collections::VecDeque;

/// Which of several requests goes first. The order of the variants is the order on the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// Switch off, lock, and read back whether it is off.
    Cut,
    /// Switch on, release.
    Release,
    /// Look for cards.
    Card,
    /// Contacts, buttons, fire.
    Input,
    /// The state of relays.
    Status,
    /// Meters.
    Meter,
}

impl Priority {
    /// All, first things first.
    pub const ALL: [Self; 6] = [Self::Cut, Self::Release, Self::Card, Self::Input, Self::Status, Self::Meter];
}

/// First by priority, then in order of arrival.
#[derive(Debug)]
pub(super) struct Queue<T> {
    lanes: [VecDeque<T>; Priority::ALL.len()],
}

impl<T> Queue<T> {
    pub(super) fn new() -> Self {
        Self { lanes: std::array::from_fn(|_| VecDeque::new()) }
    }

    pub(super) fn push(&mut self, priority: Priority, item: T) {
        if let Some(lane) = self.lanes.get_mut(priority as usize) {
            lane.push_back(item);
        }
    }

    /// Puts back what was taken, before the others of its priority.
    pub(super) fn put_back(&mut self, priority: Priority, item: T) {
        if let Some(lane) = self.lanes.get_mut(priority as usize) {
            lane.push_front(item);
        }
    }

    pub(super) fn pop(&mut self) -> Option<T> {
        self.lanes.iter_mut().find_map(VecDeque::pop_front)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_closes_goes_before_everything_that_came_earlier() {
        let mut queue = Queue::new();
        for (n, priority) in
            [Priority::Meter, Priority::Card, Priority::Cut, Priority::Card, Priority::Release].into_iter().enumerate()
        {
            queue.push(priority, n);
        }
        assert_eq!(std::iter::from_fn(|| queue.pop()).collect::<Vec<_>>(), [2, 4, 1, 3, 0]);
    }
}
