//! What a reader's registers say over time: a card came, was there already, left. Pure: told the time, asks nothing.

use std::time::Duration;

use tokio::time::Instant;

use crate::access::input::Presented;
use crate::wire::modbus::Request;
use crate::wire::profile::{Block, Reader, Trigger};

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
            (Slot::Holds(_), Some(card)) if fresh => {
                (Slot::Holds(card.clone()), vec![Seen::Exchanged, Seen::Came(card)])
            }
            (Slot::Leaving(..), Some(card)) if fresh => (Slot::Holds(card.clone()), vec![Seen::Left, Seen::Came(card)]),
            (Slot::Holds(_) | Slot::Leaving(..), Some(card)) => {
                (Slot::Holds(card.clone()), vec![Seen::Left, Seen::There(card)])
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::modbus::Reply;
    use crate::wire::profile::shipped;

    /// A reader of a shipped profile whose one hot request brings `words`.
    struct Bench {
        tracker: Tracker,
        read: Request,
        start: Instant,
    }

    impl Bench {
        fn new(id: &str) -> Self {
            let profile = shipped(id).unwrap();
            let read = profile.polls[0].reads[0].clone();
            Self { tracker: Tracker::new(profile.readers[0].clone()), read, start: Instant::now() }
        }

        fn hear(&mut self, at_ms: u64, words: &[u16]) -> Vec<Seen> {
            let mut block = Block::default();
            block.add(&self.read, Reply::Words(words.to_vec()));
            self.tracker.hear(&block, self.start + Duration::from_millis(at_ms))
        }
    }

    fn card(text: &str) -> Presented {
        Presented::Card(text.parse().unwrap())
    }

    const A: [u16; 2] = [0x1EA6, 0x8671];
    const B: [u16; 2] = [0x04A1, 0xB2C3];
    const NONE: [u16; 2] = [0, 0];

    #[test]
    fn a_card_leaves_only_after_it_was_not_seen_for_the_whole_time() {
        let mut bench = Bench::new("technotrade-vrd-485");
        assert_eq!(bench.hear(0, &NONE), [Seen::Empty]);
        assert_eq!(bench.hear(200, &A), [Seen::Came(card("1EA68671"))]);
        assert_eq!(bench.hear(400, &NONE), []);
        assert_eq!(bench.hear(600, &A), []);
        assert_eq!(bench.hear(800, &NONE), []);
        assert_eq!(bench.hear(1799, &NONE), []);
        assert_eq!(bench.hear(1800, &NONE), [Seen::Left]);
        assert_eq!(bench.hear(2000, &NONE), []);
    }

    #[test]
    fn another_card_without_a_gap_is_an_exchange() {
        let mut bench = Bench::new("technotrade-vrd-485");
        bench.hear(0, &A);
        assert_eq!(bench.hear(200, &B), [Seen::Exchanged, Seen::Came(card("04A1B2C3"))]);
    }

    #[test]
    fn another_card_after_an_empty_sample_is_a_leaving_and_a_coming() {
        let mut bench = Bench::new("technotrade-vrd-485");
        bench.hear(0, &A);
        bench.hear(200, &NONE);
        assert_eq!(bench.hear(400, &B), [Seen::Left, Seen::Came(card("04A1B2C3"))]);
    }

    #[test]
    fn what_lies_there_when_the_reader_is_heard_again_is_said_and_did_not_come() {
        let mut bench = Bench::new("technotrade-vrd-485");
        bench.hear(0, &NONE);
        bench.tracker.lost();
        assert_eq!(bench.hear(60_000, &A), [Seen::There(card("1EA68671"))]);
        bench.tracker.lost();
        assert_eq!(bench.hear(70_000, &A), [Seen::There(card("1EA68671"))]);
        bench.tracker.lost();
        assert_eq!(bench.hear(80_000, &NONE), [Seen::Empty]);
    }

    fn latched(uid: [u8; 4], set: u16) -> Vec<u16> {
        let mut words = vec![set, 4];
        words.extend(uid.map(u16::from));
        words.resize(12, 0);
        words
    }

    #[test]
    fn a_latched_card_comes_once_and_again_after_its_release() {
        let mut bench = Bench::new("inveo-rfid-ind-m1");
        let on = latched([0x1E, 0xA6, 0x86, 0x71], 1);
        assert_eq!(bench.hear(0, &latched([0; 4], 0)), []);
        assert_eq!(bench.hear(150, &on), [Seen::Came(card("1EA68671"))]);
        assert!(bench.tracker.release().is_some());
        assert_eq!(bench.hear(300, &on), []);
        bench.tracker.released(bench.start + Duration::from_millis(310));
        assert_eq!(bench.tracker.release(), None);
        // Read before the release was confirmed: it still shows the old card.
        assert_eq!(bench.hear(305, &on), []);
        assert_eq!(bench.hear(450, &on), [Seen::Came(card("1EA68671"))]);
    }

    #[test]
    fn a_card_latched_while_the_reader_was_not_heard_opens_nothing_and_is_released() {
        let mut bench = Bench::new("inveo-rfid-ind-m1");
        let on = latched([0x1E, 0xA6, 0x86, 0x71], 1);
        assert_eq!(bench.hear(0, &on), [Seen::Missed]);
        assert!(bench.tracker.release().is_some());
        bench.tracker.released(bench.start + Duration::from_millis(10));
        assert_eq!(bench.hear(150, &latched([0; 4], 0)), []);
        assert_eq!(bench.hear(150 + STALE_MS + 1, &on), [Seen::Missed]);
    }

    #[test]
    fn a_count_is_primed_by_the_first_read_and_may_wrap() {
        let mut bench = Bench::new("generic-door-controller");
        let count = |n: u16| {
            // Last byte first, as that controller has it.
            let mut words = vec![n, 4, 0x71, 0x86, 0xA6, 0x1E];
            words.resize(12, 0);
            words
        };
        assert_eq!(bench.hear(0, &count(65535)), []);
        assert_eq!(bench.hear(150, &count(65535)), []);
        assert_eq!(bench.hear(300, &count(0)), [Seen::Came(card("1EA68671"))]);
        bench.tracker.unsee();
        assert_eq!(bench.hear(450, &count(0)), [Seen::Came(card("1EA68671"))]);
        bench.tracker.lost();
        assert_eq!(bench.hear(600, &count(9)), [Seen::Missed]);
    }
}
