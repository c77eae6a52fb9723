//! What a reader's registers say over time: a card came, was there already, left. Pure: told the time, asks nothing.

use std::time::Duration;

use tokio::time::Instant;

use crate::access::input::Presented;
use crate::wire::modbus::Request;
use crate::wire::profile::{Block, Reader, Trigger};

/// A reader that was not heard for longer than this may have latched a card long ago: that card opens nothing. Milliseconds.
pub const STALE_MS: u64 = 1500;

/// What a reader says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// A card was presented now.
    Came(Presented),
    /// A card was there when the reader was first heard, or heard again.
    There(Presented),
    /// No card was there when the reader was first heard.
    Empty,
    /// The card left.
    Left,
    /// A card was presented while the reader was not heard; it opens nothing.
    Missed,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Slot {
    Empty,
    Holds(Presented),
    /// Not seen since.
    Leaving(Presented, Instant),
}

/// The memory of one reader.
#[derive(Debug)]
pub struct Tracker {
    reader: Reader,
    last_heard: Option<Instant>,
    slot: Slot,
    /// Latch: the flag was seen set and its release is not confirmed.
    release_due: bool,
    released_at: Option<Instant>,
    count: Option<i64>,
}

impl Tracker {
    /// For this reader, not heard yet.
    #[must_use]
    pub fn new(reader: Reader) -> Self {
        Self { reader, last_heard: None, slot: Slot::Empty, release_due: false, released_at: None, count: None }
    }

    /// The reader.
    #[must_use]
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// What to write so that the reader takes the next card, if anything.
    #[must_use]
    pub fn release(&self) -> Option<Request> {
        match &self.reader.trigger {
            Trigger::Latch { release, .. } if self.release_due => Some(release.request(0, release.value)),
            Trigger::Counter { acknowledge: Some(write), .. } if self.release_due => {
                let count = self.count.and_then(|n| u16::try_from(n).ok())?;
                Some(write.request(0, count))
            }
            Trigger::Latch { .. } | Trigger::Counter { .. } | Trigger::Level(_) => None,
        }
    }

    /// The release was confirmed at `at`.
    pub fn released(&mut self, at: Instant) {
        self.release_due = false;
        self.released_at = Some(at);
        if matches!(self.reader.trigger, Trigger::Latch { .. }) {
            self.slot = Slot::Empty;
        }
    }

    /// The reader's device fell silent: what it says next may be old.
    pub fn lost(&mut self) {
        self.last_heard = None;
    }

    /// Whether the reader was heard since it was last lost.
    #[must_use]
    pub fn is_heard(&self) -> bool {
        self.last_heard.is_some()
    }

    /// Takes what was read at `at`.
    pub fn hear(&mut self, block: &Block, at: Instant) -> Vec<Seen> {
        if self.released_at.is_some_and(|released| at <= released) {
            return Vec::new();
        }
        let fresh =
            self.last_heard.is_some_and(|last| at.saturating_duration_since(last) <= Duration::from_millis(STALE_MS));
        let seen = match &self.reader.trigger {
            Trigger::Level(present) => {
                let there = match present {
                    Some(point) => match point.flag(block, 0) {
                        Some(there) => there,
                        None => return Vec::new(),
                    },
                    None => true,
                };
                let card = if there { self.reader.uid.read(block) } else { None };
                self.level(card, at, fresh)
            }
            Trigger::Latch { flag, .. } => {
                let Some(set) = flag.flag(block, 0) else { return Vec::new() };
                let card = if set {
                    Some(self.reader.uid.read(block).unwrap_or(Presented::Malformed(String::new())))
                } else {
                    None
                };
                self.latch(card, fresh)
            }
            Trigger::Counter { count, acknowledge } => {
                let Some(number) = count.number(block, 0) else { return Vec::new() };
                #[expect(clippy::cast_possible_truncation, reason = "a counter has at most 32 bits")]
                let number = number as i64;
                let acknowledge = acknowledge.is_some();
                let before = self.count.replace(number);
                if before == Some(number) {
                    Vec::new()
                } else {
                    self.release_due = acknowledge;
                    match self.reader.uid.read(block) {
                        _ if before.is_none() => Vec::new(),
                        Some(card) if fresh => vec![Seen::Came(card)],
                        Some(_) | None => vec![Seen::Missed],
                    }
                }
            }
        };
        let first = self.last_heard.replace(at).is_none();
        if first && seen.is_empty() && matches!(self.reader.trigger, Trigger::Level(_)) && self.slot == Slot::Empty {
            return vec![Seen::Empty];
        }
        seen
    }

    fn level(&mut self, card: Option<Presented>, at: Instant, fresh: bool) -> Vec<Seen> {
        let (slot, seen) = match (std::mem::replace(&mut self.slot, Slot::Empty), card) {
            (Slot::Empty, None) => (Slot::Empty, vec![]),
            (Slot::Empty, Some(card)) => {
                let seen = if fresh { Seen::Came(card.clone()) } else { Seen::There(card.clone()) };
                (Slot::Holds(card), vec![seen])
            }
            (Slot::Holds(old) | Slot::Leaving(old, _), Some(card)) if old == card => (Slot::Holds(old), vec![]),
            (Slot::Holds(_) | Slot::Leaving(..), Some(card)) => {
                let seen = if fresh { Seen::Came(card.clone()) } else { Seen::There(card.clone()) };
                (Slot::Holds(card), vec![Seen::Left, seen])
            }
            (Slot::Holds(old), None) => self.leaving(old, at, at),
            (Slot::Leaving(old, since), None) => self.leaving(old, since, at),
        };
        self.slot = slot;
        seen
    }

    fn leaving(&self, old: Presented, since: Instant, at: Instant) -> (Slot, Vec<Seen>) {
        if at.saturating_duration_since(since) >= Duration::from_millis(u64::from(self.reader.gone_ms)) {
            (Slot::Empty, vec![Seen::Left])
        } else {
            (Slot::Leaving(old, since), vec![])
        }
    }

    fn latch(&mut self, card: Option<Presented>, fresh: bool) -> Vec<Seen> {
        let Some(card) = card else {
            self.slot = Slot::Empty;
            self.release_due = false;
            return Vec::new();
        };
        self.release_due = true;
        if self.slot == Slot::Holds(card.clone()) {
            return Vec::new();
        }
        self.slot = Slot::Holds(card.clone());
        vec![if fresh { Seen::Came(card) } else { Seen::Missed }]
    }
}
