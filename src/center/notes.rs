//! What gateways published and which messages the broker has, on its way to the storage: many of them share a transaction.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::{Center, CenterError, JournalName, Published, Storage};
use crate::access::change::Position;
use crate::mqtt::AckToken;

/// Longest time that the number of a delivered message waits in memory, in milliseconds.
const WRITE_WITHIN_MS: u64 = 200;
/// Longest time that what the broker waits for an acknowledgement of waits in memory, in milliseconds.
const WRITE_HELD_WITHIN_MS: u64 = 20;
/// Messages whose acknowledgement waits for the disk; with so many they are written at once. A stock mosquitto sends no more while 20 are
/// not acknowledged.
const HELD_MAX: usize = 16;
/// The most that waits of what gateways published; beyond, it is written at once. While the disk takes nothing, the oldest is dropped.
const PUBLISHED_MAX: usize = 2_000;
/// Numbers of delivered messages that wait while the disk takes nothing; beyond, messages may be published once more.
const DELIVERED_MAX: usize = 100_000;

/// See the file's head.
#[derive(Default)]
pub(super) struct Notes {
    delivered: Vec<(JournalName, Position)>,
    /// What gateways published, each with what it is acknowledged to the broker with.
    published: VecDeque<(Published, Option<AckToken>)>,
    due: Option<Instant>,
    /// The storage took nothing the last time: it is tried again in time, and not at each note.
    is_failing: bool,
}

impl Notes {
    /// The broker has this message.
    pub(super) fn delivered(&mut self, number: (JournalName, Position)) {
        self.delivered.push(number);
        self.within(WRITE_WITHIN_MS);
    }

    /// A gateway published this. [`Self::write`] gives `ack` when it is on disk.
    pub(super) fn published(&mut self, one: Published, ack: Option<AckToken>) {
        self.within(if ack.is_some() { WRITE_HELD_WITHIN_MS } else { WRITE_WITHIN_MS });
        self.published.push_back((one, ack));
    }

    fn within(&mut self, wait_ms: u64) {
        let at = Instant::now() + Duration::from_millis(wait_ms);
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    /// When the notes are to be written; `None`: there are none.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Whether they are to be written at once.
    pub(super) fn is_full(&self) -> bool {
        let held = self.published.iter().filter(|(_, ack)| ack.is_some()).take(HELD_MAX).count();
        (held == HELD_MAX && !self.is_failing) || self.published.len() >= PUBLISHED_MAX
    }

    /// Writes all of them, and gives what to acknowledge to the broker now. Fails when the storage cannot be written; they are kept and
    /// due again. Those that are dropped then are never acknowledged: a broker that keeps the session sends them again on the next
    /// connection.
    pub(super) fn write<S: Storage>(&mut self, center: &mut Center<S>) -> Result<Vec<AckToken>, CenterError> {
        if self.due.take().is_none() {
            return Ok(Vec::new());
        }
        let (published, acks): (Vec<_>, Vec<_>) = self.published.drain(..).unzip();
        let written = center.keep(&published, &self.delivered);
        self.is_failing = written.is_err();
        if let Err(error) = written {
            self.published = published.into_iter().zip(acks).collect();
            self.delivered.truncate(DELIVERED_MAX);
            self.published.drain(..self.published.len().saturating_sub(PUBLISHED_MAX / 2));
            self.within(WRITE_WITHIN_MS);
            return Err(error);
        }
        self.delivered.clear();
        Ok(acks.into_iter().flatten().collect())
    }
}
