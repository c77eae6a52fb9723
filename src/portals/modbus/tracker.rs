//! What a reader's registers say over time: a card came, was there already, left. Pure: told the time, asks nothing.

use std::time::Duration;

use tokio::time::Instant;

use crate::access::input::Presented;
use crate::profile::{Block, Reader, Trigger};
use crate::wire::modbus::Request;

/// A latch or counter that was not heard for longer than this may speak of a card shown long ago: it opens nothing. Milliseconds.
pub const STALE_MS: u64 = 1500;
/// The same for a reader that shows the card as long as it lies there: what it shows is there now, but when it came is not known.
pub const LEVEL_STALE_MS: u64 = 5000;
/// A number that no counter has.
const NO_COUNT: i64 = -1;

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
    /// The card left and the next one is there, without a sample between that showed none. [`Seen::Came`] follows.
    Exchanged,
    /// A card was presented while the reader was not heard; it opens nothing.
    Missed,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Slot {
    Empty,
    Holds(Presented),
    /// Not seen since. No card: whether one lies there is not known yet.
    Leaving(Option<Presented>, Instant),
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
    say_again: bool,
}

impl Tracker {
    /// For this reader, not heard yet.
    #[must_use]
    pub fn new(reader: Reader) -> Self {
        Self {
            reader,
            last_heard: None,
            slot: Slot::Empty,
            release_due: false,
            released_at: None,
            count: None,
            say_again: false,
        }
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
        if matches!(self.reader.trigger, Trigger::Latch { repeats_ms: None, .. }) {
            self.slot = Slot::Empty;
        }
    }

    /// The reader's device fell silent: what it says next may be old, and is said again as if it were first heard.
    pub fn lost(&mut self) {
        self.last_heard = None;
        self.slot = Slot::Empty;
    }

    /// The card that came could not be handed on: the next sample shows it again.
    pub fn unsee(&mut self) {
        self.slot = Slot::Empty;
        // It keeps the card until that was taken.
        self.release_due = false;
        if self.count.is_some() {
            self.count = Some(NO_COUNT);
        }
    }

    /// A card that lies there is said once more, when the next sample shows it.
    pub fn say_again(&mut self) {
        self.say_again = true;
    }

    /// Whether the reader was heard since it was last lost.
    #[must_use]
    pub fn is_heard(&self) -> bool {
        self.last_heard.is_some()
    }

    /// Whether it is known since then what is in it.
    #[must_use]
    pub fn is_sure(&self) -> bool {
        self.is_heard() && !matches!(self.slot, Slot::Leaving(None, _))
    }

    /// Takes what was read at `at`.
    pub fn hear(&mut self, block: &Block, at: Instant) -> Vec<Seen> {
        // What another poll of the device brought says nothing of a card, not even that there is none.
        let concerns = self.reader.points().iter().all(|point| block.has(point, 0));
        if !concerns || self.released_at.is_some_and(|released| at <= released) {
            return Vec::new();
        }
        let limit = Duration::from_millis(match self.reader.trigger {
            Trigger::Level(_) => LEVEL_STALE_MS,
            Trigger::Latch { .. } | Trigger::Counter { .. } => STALE_MS,
        });
        let fresh = self.last_heard.is_some_and(|last| at.saturating_duration_since(last) <= limit);
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
                match (&self.reader.trigger, card) {
                    (Trigger::Latch { repeats_ms: Some(_), .. }, card) => {
                        self.release_due = card.is_some();
                        if self.last_heard.is_none() && card.is_none() {
                            // It may lie there and be shown again in a moment.
                            self.slot = Slot::Leaving(None, at);
                        }
                        self.level(card, at, fresh)
                    }
                    (Trigger::Latch { .. } | Trigger::Level(_) | Trigger::Counter { .. }, card) => {
                        self.latch(card, fresh)
                    }
                }
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
        let again = card.is_some() && std::mem::take(&mut self.say_again);
        let (slot, seen) = match (std::mem::replace(&mut self.slot, Slot::Empty), card) {
            (Slot::Empty, None) => (Slot::Empty, vec![]),
            (Slot::Empty, Some(card)) => {
                let seen = if fresh { Seen::Came(card.clone()) } else { Seen::There(card.clone()) };
                (Slot::Holds(card), vec![seen])
            }
            (Slot::Holds(old) | Slot::Leaving(Some(old), _), Some(card)) if old == card => {
                (Slot::Holds(old), if again { vec![Seen::There(card)] } else { vec![] })
            }
            (Slot::Holds(_), Some(card)) if fresh => {
                (Slot::Holds(card.clone()), vec![Seen::Exchanged, Seen::Came(card)])
            }
            (Slot::Leaving(None, _), Some(card)) => (Slot::Holds(card.clone()), vec![Seen::There(card)]),
            (Slot::Leaving(..), Some(card)) if fresh => (Slot::Holds(card.clone()), vec![Seen::Left, Seen::Came(card)]),
            (Slot::Holds(_) | Slot::Leaving(..), Some(card)) => {
                (Slot::Holds(card.clone()), vec![Seen::Left, Seen::There(card)])
            }
            (Slot::Holds(old), None) => self.leaving(Some(old), at, at),
            (Slot::Leaving(old, since), None) => self.leaving(old, since, at),
        };
        self.slot = slot;
        seen
    }

    fn leaving(&self, old: Option<Presented>, since: Instant, at: Instant) -> (Slot, Vec<Seen>) {
        let gone_ms = self.reader.leaves_after_ms().unwrap_or(self.reader.gone_ms);
        if at.saturating_duration_since(since) >= Duration::from_millis(u64::from(gone_ms)) {
            (Slot::Empty, vec![if old.is_some() { Seen::Left } else { Seen::Empty }])
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

#[cfg(test)]
#[path = "tracker_tests.rs"]
mod tests;
