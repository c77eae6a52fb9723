//! What the readings of a reader mean: a card came, was there already, left. Pure: the time is given.

use std::time::Duration;

use tokio::time::Instant;

use crate::access::input::Presented;
use crate::access::portal::Direction;

/// Longest time between two readings of a latch or counter, in milliseconds. After a longer one the card that it shows may have been
/// presented long ago, and opens nothing. On a serial line a unit rests for a second after each lost answer, and two in a row are no silence.
pub const STALE_MS: u64 = 3000;
/// If the line needs long to read all readers, it is this many such turns instead, so that two answers may be lost here too...
pub const STALE_TURNS: u32 = 3;
/// ...but never more than this, in milliseconds.
pub const STALE_MS_MAX: u64 = 10_000;
/// The same for a reader that shows the card as long as it is there: the card is there now, and when it came is not known.
pub const LEVEL_STALE_MS: u64 = 5000;
/// How soon an order to take the next card is given again while it has no effect, in milliseconds.
const ACCEPT_AGAIN_MS: u64 = 500;
/// How long a latch may stay set after it was ordered to be released, in milliseconds: from then on the portal is offline.
pub const LATCH_STUCK_MS: u64 = 3000;
/// So far from both ends of its range a counter is when it has run over.
const COUNTER_WRAP: i64 = 16;

/// How a reader shows cards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReaderKind {
    /// As long as they are there.
    Level,
    /// Each once, until it is accepted.
    Latch {
        /// It is set again and again while the card is there, so its absence is seen too.
        repeats: bool,
    },
    /// With a number that counts up with each card.
    Counter {
        /// The number is to be written back.
        accepts: bool,
    },
    /// With a message of its own for each card, at the moment at which it comes. That a card leaves is not reported.
    Message,
}

/// How a reader behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReaderTraits {
    /// How it shows cards.
    pub kind: ReaderKind,
    /// How long a card must not be shown before it counts as gone, in milliseconds. For [`ReaderKind::Message`]: within which time the
    /// same card is the same presentation.
    pub gone_ms: u32,
    /// The direction in which a person passes after presenting a card here.
    pub direction: Option<Direction>,
}

/// What a reader shows at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shows {
    /// The card that is there, or that a latch holds.
    Card(Option<Presented>),
    /// The number of the last card, and the card; `None`: it cannot be read.
    Count(i64, Option<Presented>),
    /// Nothing: it is silent. A card that was there counts as gone, and one that it shows next may have been there before.
    Silent,
}

/// How a reader is ordered to take the next card.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accept {
    /// Its latch is released.
    Latch,
    /// This number is written back.
    Count(u16),
}

/// What happened at a reader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CardEvent {
    /// A card was presented now.
    Presented(Presented),
    /// A card is there, when the reader was first read or read again.
    There(Presented),
    /// No card is there, when the reader was first read.
    Empty,
    /// The card left.
    Left,
    /// The card left and the next one is there, without a reading between that showed none. [`CardEvent::Presented`] follows.
    Exchanged,
    /// A card was presented while the reader was not read; it opens nothing. `None`: which one cannot be read.
    Missed(Option<Presented>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Empty,
    Holds(Presented),
    /// Not shown since that moment. Without a card: it is not known yet whether one is there.
    Leaving(Option<Presented>, Instant),
}

/// The orders to take the next card since the one that is shown came.
#[derive(Debug, Default)]
struct Tries {
    /// When the first and the last one ended.
    first: Option<Instant>,
    last: Option<Instant>,
    /// The last one was given only a moment ago.
    just_tried: bool,
    /// Since when each one fails, and why the last one did.
    failing: Option<(Instant, String)>,
}

/// The state of one reader between its readings.
#[derive(Debug)]
pub struct Reader {
    traits: ReaderTraits,
    last_read: Option<Instant>,
    place: Place,
    /// A card was shown and is to be accepted.
    accept_due: bool,
    accepted_at: Option<Instant>,
    tries: Tries,
    /// Why its latch does not clear, if that is so. Another card in it is a presentation all the same; the same one is not known as new.
    stuck: Option<String>,
    count: Option<i64>,
    /// The last card could not be passed on.
    repeat_count: bool,
    repeat: bool,
    /// The last reading showed that it is silent.
    silent: bool,
}

impl Reader {
    /// For a reader that was not read yet.
    #[must_use]
    pub fn new(traits: ReaderTraits) -> Self {
        Self {
            traits,
            last_read: None,
            place: Place::Empty,
            accept_due: false,
            accepted_at: None,
            tries: Tries::default(),
            stuck: None,
            count: None,
            repeat_count: false,
            repeat: false,
            silent: false,
        }
    }

    /// The direction in which a person passes after presenting a card here.
    #[must_use]
    pub fn direction(&self) -> Option<Direction> {
        self.traits.direction
    }

    /// The order to take the next card, if one is due.
    #[must_use]
    pub fn accept(&self) -> Option<Accept> {
        match self.traits.kind {
            _ if self.tries.just_tried => None,
            ReaderKind::Latch { .. } if self.accept_due => Some(Accept::Latch),
            ReaderKind::Counter { accepts: true } if self.accept_due => {
                self.count.and_then(|count| u16::try_from(count).ok()).map(Accept::Count)
            }
            ReaderKind::Latch { .. } | ReaderKind::Counter { .. } | ReaderKind::Level | ReaderKind::Message => None,
        }
    }

    /// The order to take the next card was confirmed at `at`. A latch holds its card until a reading shows that it is clear: it may be slow,
    /// or not clear at all, and the card that it still shows is no other presentation.
    pub fn accepted(&mut self, at: Instant) {
        self.accept_due = false;
        self.accepted_at = Some(at);
        self.tries.failing = None;
        self.tried(at);
    }

    /// The order to take the next card failed at `at`, and why. It is given again.
    pub fn not_accepted(&mut self, at: Instant, why: String) {
        let since = self.tries.failing.take().map_or(at, |(since, _)| since);
        self.tries.failing = Some((since, why));
        self.tried(at);
    }

    fn tried(&mut self, at: Instant) {
        self.tries.first.get_or_insert(at);
        self.tries.last = Some(at);
    }

    /// Why the reader's latch does not clear, if that is so. Another card in it is a presentation all the same.
    #[must_use]
    pub fn stuck(&self) -> Option<&str> {
        self.stuck.as_deref()
    }

    /// Its device fell silent: the next reading may be old, and counts as the first one.
    pub fn lost(&mut self) {
        self.last_read = None;
        self.place = Place::Empty;
        (self.tries, self.stuck) = (Tries::default(), None);
    }

    /// The card that was presented could not be passed on: the next reading presents it again.
    pub fn not_passed_on(&mut self) {
        self.place = Place::Empty;
        // The reader keeps the card until it was accepted.
        self.accept_due = false;
        self.repeat_count = self.count.is_some();
    }

    /// A card that is there is reported once more with the next reading.
    pub fn report_again(&mut self) {
        self.repeat = true;
    }

    /// Whether it was read since its device was last lost.
    pub(crate) fn is_read(&self) -> bool {
        self.last_read.is_some()
    }

    /// Whether it is known since then what is in it.
    pub(crate) fn is_sure(&self) -> bool {
        self.is_read() && !matches!(self.place, Place::Leaving(None, _))
    }

    /// Takes what it showed at `at`. `turn`: how long its line takes to read all readers once.
    pub fn read(&mut self, shows: Shows, at: Instant, turn: Duration) -> Vec<CardEvent> {
        if self.accepted_at.is_some_and(|accepted| at <= accepted) {
            return Vec::new();
        }
        let is_within = |since: Instant, ms: u64| at.saturating_duration_since(since) < Duration::from_millis(ms);
        self.tries.just_tried = self.tries.last.is_some_and(|tried| is_within(tried, ACCEPT_AGAIN_MS));
        let first = !self.is_read();
        let least_ms = if self.traits.kind == ReaderKind::Level { LEVEL_STALE_MS } else { STALE_MS };
        let limit = (turn * STALE_TURNS).clamp(Duration::from_millis(least_ms), Duration::from_millis(STALE_MS_MAX));
        let fresh = self.last_read.replace(at).is_some_and(|last| at.saturating_duration_since(last) <= limit);
        let was_silent = std::mem::replace(&mut self.silent, shows == Shows::Silent);
        let shows = if self.silent { Shows::Card(None) } else { shows };
        match (shows, self.traits.kind) {
            (Shows::Silent, _) => Vec::new(),
            (Shows::Count(number, card), kind) => self.counted(number, card, fresh, kind),
            (Shows::Card(None), ReaderKind::Message) => Vec::new(),
            (Shows::Card(Some(card)), ReaderKind::Message) if first => vec![CardEvent::Missed(Some(card))],
            (Shows::Card(Some(card)), ReaderKind::Message) => self.reported(card, at),
            (Shows::Card(card), ReaderKind::Latch { repeats: false }) => self.latched(card, at, fresh),
            (Shows::Card(card), ReaderKind::Latch { repeats: true }) => {
                self.latch(card.is_some(), at);
                if first && card.is_none() {
                    // A card may be there and be shown again in a moment.
                    self.place = Place::Leaving(None, at);
                }
                self.level(card, at, fresh)
            }
            (Shows::Card(card), ReaderKind::Level | ReaderKind::Counter { .. }) => {
                let events = self.level(card, at, fresh && !was_silent);
                if first && events.is_empty() && self.place == Place::Empty { vec![CardEvent::Empty] } else { events }
            }
        }
    }

    fn level(&mut self, card: Option<Presented>, at: Instant, fresh: bool) -> Vec<CardEvent> {
        use CardEvent::{Exchanged, Left, Presented, There};
        let again = card.is_some() && std::mem::take(&mut self.repeat);
        let Some(card) = card else {
            let (old, since) = match std::mem::replace(&mut self.place, Place::Empty) {
                Place::Empty => return Vec::new(),
                Place::Holds(old) => (Some(old), at),
                Place::Leaving(old, since) => (old, since),
            };
            if at.saturating_duration_since(since) < Duration::from_millis(u64::from(self.traits.gone_ms)) {
                self.place = Place::Leaving(old, since);
                return Vec::new();
            }
            return vec![if old.is_some() { Left } else { CardEvent::Empty }];
        };
        let came = |card| if fresh { Presented(card) } else { There(card) };
        match std::mem::replace(&mut self.place, Place::Holds(card.clone())) {
            Place::Empty => vec![came(card)],
            Place::Holds(old) | Place::Leaving(Some(old), _) if old == card => {
                if again {
                    vec![There(card)]
                } else {
                    Vec::new()
                }
            }
            Place::Holds(_) if fresh => vec![Exchanged, Presented(card)],
            Place::Leaving(None, _) => vec![There(card)],
            Place::Holds(_) | Place::Leaving(Some(_), _) => vec![Left, came(card)],
        }
    }

    fn latched(&mut self, card: Option<Presented>, at: Instant, fresh: bool) -> Vec<CardEvent> {
        let old = std::mem::replace(&mut self.place, Place::Empty);
        let Some(card) = card else {
            self.latch(false, at);
            return Vec::new();
        };
        let is_same = fresh && old == Place::Holds(card.clone());
        self.place = Place::Holds(card.clone());
        if !is_same {
            self.tries = Tries::default();
        }
        self.latch(true, at);
        if is_same {
            return Vec::new();
        }
        vec![if fresh { CardEvent::Presented(card) } else { CardEvent::Missed(Some(card)) }]
    }

    /// What a reading shows of the latch itself. One that is set again while a card is there may be set in every reading.
    fn latch(&mut self, is_set: bool, at: Instant) {
        self.accept_due = is_set;
        if !is_set {
            (self.tries, self.stuck) = (Tries::default(), None);
            return;
        }
        let Tries { first, failing, .. } = &self.tries;
        let repeats = self.traits.kind == ReaderKind::Latch { repeats: true };
        let since = if repeats { failing.as_ref().map(|(since, _)| *since) } else { *first };
        let is_stuck =
            since.is_some_and(|since| at.saturating_duration_since(since) >= Duration::from_millis(LATCH_STUCK_MS));
        if is_stuck {
            let why = match failing {
                Some((_, why)) => format!("it cannot be released: {why}"),
                None => format!("it is still set {LATCH_STUCK_MS} ms after it was released"),
            };
            self.stuck = Some(format!(
                "the latch of the reader does not clear: {why}; take away a card that lies there, restart the reader, and compare `release` in its profile with its manual"
            ));
        } else if repeats {
            self.stuck = None;
        }
    }

    /// A message reports this card. The same one again is another presentation if none came for a while: some readers report a card that lies
    /// there again and again.
    fn reported(&mut self, card: Presented, at: Instant) -> Vec<CardEvent> {
        let again = Duration::from_millis(u64::from(self.traits.gone_ms));
        let last = std::mem::replace(&mut self.place, Place::Leaving(Some(card.clone()), at));
        let is_same = |last: Presented, since: Instant| last == card && at.saturating_duration_since(since) < again;
        match last {
            Place::Leaving(Some(last), since) if is_same(last.clone(), since) => Vec::new(),
            _ => vec![CardEvent::Presented(card)],
        }
    }

    fn counted(&mut self, number: i64, card: Option<Presented>, fresh: bool, kind: ReaderKind) -> Vec<CardEvent> {
        let before = self.count.replace(number);
        if before == Some(number) && !std::mem::take(&mut self.repeat_count) {
            return Vec::new();
        }
        self.repeat_count = false;
        self.accept_due = kind == ReaderKind::Counter { accepts: true };
        self.tries = Tries::default();
        match (card, before) {
            (_, None) => Vec::new(),
            (Some(card), Some(before)) if fresh && counts_up(before, number) => vec![CardEvent::Presented(card)],
            (card, Some(_)) => vec![CardEvent::Missed(card)],
        }
    }
}

/// Whether a counter went on, also over the end of its 8, 16 or 32 bits. One that went back belongs to a device that has started again.
fn counts_up(before: i64, number: i64) -> bool {
    let wraps = |end: i64| before <= end && end - before < COUNTER_WRAP && number < COUNTER_WRAP;
    number >= before || [0xFF, 0xFFFF, 0xFFFF_FFFF].into_iter().any(wraps)
}

#[cfg(test)]
#[path = "reader_tests.rs"]
mod tests;
