//! Inclusive ranges of event numbers.

use std::collections::BTreeMap;

/// Inclusive ranges of numbers, merged where they meet.
#[derive(Debug, Default)]
pub(super) struct Ranges(BTreeMap<u64, u64>);

impl Ranges {
    pub(super) fn insert(&mut self, (mut from, mut to): (u64, u64)) {
        while let Some((first, last)) = self.0.range(..=to.saturating_add(1)).next_back().map(|(f, l)| (*f, *l)) {
            if last.saturating_add(1) < from {
                break;
            }
            (from, to) = (from.min(first), to.max(last));
            self.0.remove(&first);
        }
        self.0.insert(from, to);
    }

    /// Whether all of this range is in one of them.
    pub(super) fn cover(&self, (from, to): (u64, u64)) -> bool {
        self.0.range(..=from).next_back().is_some_and(|(_, last)| *last >= to)
    }
}
