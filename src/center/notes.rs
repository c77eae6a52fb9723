//! What gateways published and which messages the broker has, on its way to the storage: many of them share a transaction.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::{Center, CenterError, JournalName, Published, Storage};
use crate::access::change::Position;

/// Longest time that a note waits in memory, in milliseconds.
const WRITE_WITHIN_MS: u64 = 200;
/// The most that waits of what gateways published; beyond, it is written at once. While the disk takes nothing, the oldest is dropped.
const PUBLISHED_MAX: usize = 2_000;
/// Numbers of delivered messages that wait while the disk takes nothing; beyond, messages may be published once more.
const DELIVERED_MAX: usize = 100_000;

/// See the file's head.
#[derive(Default)]
pub(super) struct Notes {
    delivered: Vec<(JournalName, Position)>,
    published: VecDeque<Published>,
    due: Option<Instant>,
}

impl Notes {
    /// The broker has this message.
    pub(super) fn delivered(&mut self, number: (JournalName, Position)) {
        self.delivered.push(number);
        self.soon();
    }

    /// A gateway published this.
    pub(super) fn published(&mut self, one: Published) {
        self.published.push_back(one);
        self.soon();
    }

    fn soon(&mut self) {
        self.due.get_or_insert_with(|| Instant::now() + Duration::from_millis(WRITE_WITHIN_MS));
    }

    /// When the notes are to be written; `None`: there are none.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Whether they are to be written at once.
    pub(super) fn is_full(&self) -> bool {
        self.published.len() >= PUBLISHED_MAX
    }

    /// Writes all of them.
    ///
    /// # Errors
    /// [`CenterError`] if the storage cannot be written; they are kept and due again.
    pub(super) fn write<S: Storage>(&mut self, center: &mut Center<S>) -> Result<(), CenterError> {
        if self.due.take().is_none() {
            return Ok(());
        }
        let written = center.keep(self.published.make_contiguous(), &self.delivered);
        if written.is_ok() {
            self.delivered.clear();
            self.published.clear();
        } else {
            self.delivered.truncate(DELIVERED_MAX);
            self.published.drain(..self.published.len().saturating_sub(PUBLISHED_MAX / 2));
            self.soon();
        }
        written
    }
}
