//! Which cards a reader that loses part of the UID may mean: an index for each transform in use, and what falls together in it.
//!
//! **Which cards count.** Every card of which any register was ever written: enrolled here or not, in good standing or dead. The
//! reader cannot tell them apart, so a reading that a dead card makes too must not open as the living one. It follows that
//! through a lossy reader no known card opens what it would not open by its whole UID. The price: a new card that falls together with
//! a dead one, were it its holder's own, opens nothing there, and another has to be issued.
//!
//! Cards never leave the list, so an index only grows: by one entry wherever a card becomes known, live, replayed or restored.
//! Without a lossy reader there is no index, and nothing here costs anything.

use std::collections::{BTreeSet, HashMap};
use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use super::super::id::{CardUid, Timestamp};
use super::super::policy::Policy;
use super::super::transform::{Reading, Transform};
use super::AccessList;
use super::apply::Before;
use super::card::Card;
use super::index::CardIx;

/// Clashes told of one change message, each with its cards; the others are counted.
pub const CLASHES_TOLD_MAX: usize = 8;
/// Cards named of one clash; the others are counted.
pub const CLASH_CARDS_TOLD_MAX: usize = 4;

/// The index of one transform.
#[derive(Clone, Debug)]
pub(super) struct LossyIndex {
    transform: Transform,
    /// The first card of each value.
    first: HashTable<CardIx>,
    /// The further cards of a value, in the order in which they became known.
    more: HashMap<u128, Vec<CardIx>, RandomState>,
}

/// Whom a reading means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meant {
    /// No card that is known.
    Nobody,
    /// One.
    One(CardUid),
    /// More than one: it cannot be said which.
    Several,
}

/// Cards that a lossy reader cannot tell apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clash {
    /// What the reader says of each of them.
    pub reading: Reading,
    /// The first of them to become known, at most [`CLASH_CARDS_TOLD_MAX`].
    pub cards: Vec<CardUid>,
    /// How many there are.
    pub count: usize,
}

/// The clashes that matter since a message: some of the cards may open something.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Clashes {
    /// At most [`CLASHES_TOLD_MAX`].
    pub told: Vec<Clash>,
    /// How many more.
    pub untold: usize,
}

impl LossyIndex {
    fn new(transform: Transform) -> Self {
        Self { transform, first: HashTable::new(), more: HashMap::default() }
    }

    fn add(&mut self, ix: CardIx, cards: &[Card], hasher: &RandomState) {
        let transform = self.transform;
        let read = |ix: &CardIx| cards.get(ix.place()).map_or(0, |card| transform.read(card.uid).value);
        let value = read(&ix);
        let hash = hasher.hash_one(value);
        if self.first.find(hash, |known| read(known) == value).is_some() {
            self.more.entry(value).or_default().push(ix);
        } else {
            self.first.insert_unique(hash, ix, |known| hasher.hash_one(read(known)));
        }
    }

    /// The cards of a value, in the order in which they became known.
    fn cards(&self, value: u128, list: &AccessList) -> impl Iterator<Item = CardIx> {
        let read = |ix: &CardIx| list.cards.get(ix.place()).is_some_and(|c| self.transform.read(c.uid).value == value);
        let first = self.first.find(list.hasher.hash_one(value), read).copied();
        first.into_iter().chain(self.more.get(&value).into_iter().flatten().copied())
    }
}

impl AccessList {
    /// Keeps an index for each of these transforms from now on, and for no other.
    pub fn index_readings(&mut self, transforms: impl IntoIterator<Item = Transform>) {
        let transforms: BTreeSet<_> = transforms.into_iter().collect();
        self.lossy = transforms.into_iter().map(LossyIndex::new).collect();
        for place in 0..self.cards.len() {
            self.index_card(CardIx::at(place));
        }
    }

    /// A card has become known.
    pub(super) fn index_card(&mut self, ix: CardIx) {
        let Self { lossy, cards, hasher, .. } = self;
        lossy.iter_mut().for_each(|index| index.add(ix, cards, hasher));
    }

    fn index_of(&self, transform: Transform) -> Option<&LossyIndex> {
        self.lossy.iter().find(|index| index.transform == transform)
    }

    /// Whom a reading means. A transform that has no index means nobody: it belongs to no reader of this building.
    #[must_use]
    pub fn meant_by(&self, reading: Reading) -> Meant {
        let index = self.index_of(reading.transform);
        let mut cards = index.into_iter().flat_map(|index| index.cards(reading.value, self));
        match (cards.next().and_then(|ix| self.cards.get(ix.place())), cards.next()) {
            (None, _) => Meant::Nobody,
            (Some(card), None) => Meant::One(card.uid),
            (Some(_), Some(_)) => Meant::Several,
        }
    }

    /// The cards that make this reading; `None`: fewer than two.
    #[must_use]
    pub fn clash(&self, reading: Reading) -> Option<Clash> {
        let index = self.index_of(reading.transform)?;
        let cards: Vec<CardIx> = index.cards(reading.value, self).collect();
        (cards.len() > 1).then(|| self.tell(reading, &cards))
    }

    fn tell(&self, reading: Reading, cards: &[CardIx]) -> Clash {
        let uid = |ix: &CardIx| self.cards.get(ix.place()).map(|card| card.uid);
        Clash { reading, cards: cards.iter().take(CLASH_CARDS_TOLD_MAX).filter_map(uid).collect(), count: cards.len() }
    }

    /// Every clash there is through this transform, the lowest value first.
    #[must_use]
    pub fn clashes(&self, transform: Transform) -> Clashes {
        let index = self.index_of(transform);
        let mut values: Vec<u128> = index.into_iter().flat_map(|index| index.more.keys().copied()).collect();
        values.sort_unstable();
        let told =
            values.iter().take(CLASHES_TOLD_MAX).filter_map(|value| self.clash(Reading { transform, value: *value }));
        Clashes { told: told.collect(), untold: values.len().saturating_sub(CLASHES_TOLD_MAX) }
    }

    /// What a message did to readings: the clashes that matter now and did not before it, and the cards that a new card fell
    /// together with, whose standing grants are to be judged anew. `before`: the cards it spoke of and whether each could open
    /// something; the first `known` cards were there before it.
    pub(super) fn new_clashes(
        &self,
        spoken_of: &[(CardIx, bool)],
        before: &Before,
        known: usize,
        policy: &Policy,
        now: Timestamp,
    ) -> (Clashes, BTreeSet<CardIx>) {
        let (mut clashes, mut concerned) = (Clashes::default(), BTreeSet::new());
        for index in &self.lossy {
            let mut judged = BTreeSet::new();
            for (ix, _) in spoken_of {
                let Some(card) = self.cards.get(ix.place()) else { continue };
                let reading = index.transform.read(card.uid);
                // A value that only one card has is the usual case, and costs one look.
                if !index.more.contains_key(&reading.value) || !judged.insert(reading.value) {
                    continue;
                }
                let cards: Vec<CardIx> = index.cards(reading.value, self).collect();
                let was_there = |ix: &&CardIx| ix.place() < known;
                let could = |ix: &CardIx| before.get(ix).copied().unwrap_or_else(|| self.could_open(*ix, policy, now));
                let has_grown = cards.iter().any(|ix| ix.place() >= known);
                if has_grown {
                    concerned.extend(cards.iter().copied());
                }
                let mattered = cards.iter().filter(was_there).count() > 1 && cards.iter().filter(was_there).any(could);
                if cards.iter().any(|ix| self.could_open(*ix, policy, now)) && (has_grown || !mattered) {
                    if clashes.told.len() < CLASHES_TOLD_MAX {
                        clashes.told.push(self.tell(reading, &cards));
                    } else {
                        clashes.untold += 1;
                    }
                }
            }
        }
        (clashes, concerned)
    }
}
