//! Readers that lose part of the UID: an index for each transform in use, and the cards that collide in it.
//!
//! **Which cards count.** Every card of which any register was ever written: enrolled here or not, in good standing or dead. The
//! reader cannot distinguish them, so a reading that a dead card makes too must not open as the living one. It follows that
//! through a lossy reader no known card opens what it would not open by its whole UID. The price: a new card that collides with
//! a dead one, were it its holder's own, opens nothing there, and another has to be issued.
//!
//! A card leaves the list only where a snapshot replaces the list as a whole, with its index; so an index only grows: by one entry
//! wherever a card becomes known, live, replayed or restored.
//! Without a lossy reader there is no index, and nothing here costs anything.

use std::collections::{BTreeSet, HashMap};
use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use super::super::id::CardUid;
use super::super::transform::{Reading, Transform};
use super::AccessList;
use super::card::Card;
use super::index::CardIx;

/// Collisions listed for one change message, each with its cards; the others are counted.
pub const COLLISIONS_LISTED_MAX: usize = 8;
/// Cards listed of one collision; the others are counted.
pub const COLLISION_CARDS_LISTED_MAX: usize = 4;

/// The index of one transform.
#[derive(Clone, Debug)]
pub(super) struct LossyIndex {
    transform: Transform,
    /// The first card of each value.
    first: HashTable<CardIx>,
    /// The further cards of a value, in the order in which they became known.
    more: HashMap<u128, Vec<CardIx>, RandomState>,
}

/// The cards that make a reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// No card that is known.
    None,
    /// One.
    One(CardUid),
    /// More than one: the reader cannot distinguish them.
    Several,
}

/// Cards that a lossy reader cannot distinguish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collision {
    /// What the reader gives for each of them.
    pub reading: Reading,
    /// The first of them to become known, at most [`COLLISION_CARDS_LISTED_MAX`].
    pub cards: Vec<CardUid>,
    /// How many there are.
    pub count: usize,
}

/// The collisions that matter since a message: some of the cards may open something.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collisions {
    /// At most [`COLLISIONS_LISTED_MAX`].
    pub listed: Vec<Collision>,
    /// How many more.
    pub unlisted: usize,
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

    /// Keeps an index for the same transforms as `other`, from now on.
    pub(super) fn index_like(&mut self, other: &Self) {
        self.index_readings(other.lossy.iter().map(|index| index.transform));
    }

    /// A card has become known.
    pub(super) fn index_card(&mut self, ix: CardIx) {
        let Self { lossy, cards, hasher, .. } = self;
        lossy.iter_mut().for_each(|index| index.add(ix, cards, hasher));
    }

    fn index_of(&self, transform: Transform) -> Option<&LossyIndex> {
        self.lossy.iter().find(|index| index.transform == transform)
    }

    /// The cards that make a reading. A transform without an index belongs to no reader of this building and finds no card.
    #[must_use]
    pub fn lookup(&self, reading: Reading) -> Lookup {
        let index = self.index_of(reading.transform);
        let mut cards = index.into_iter().flat_map(|index| index.cards(reading.value, self));
        match (cards.next().and_then(|ix| self.cards.get(ix.place())), cards.next()) {
            (None, _) => Lookup::None,
            (Some(card), None) => Lookup::One(card.uid),
            (Some(_), Some(_)) => Lookup::Several,
        }
    }

    /// The cards that make this reading; `None`: fewer than two.
    #[must_use]
    pub fn collision(&self, reading: Reading) -> Option<Collision> {
        let index = self.index_of(reading.transform)?;
        let cards: Vec<CardIx> = index.cards(reading.value, self).collect();
        (cards.len() > 1).then(|| self.collision_of(reading, &cards))
    }

    fn collision_of(&self, reading: Reading, cards: &[CardIx]) -> Collision {
        let uid = |ix: &CardIx| self.cards.get(ix.place()).map(|card| card.uid);
        let listed = cards.iter().take(COLLISION_CARDS_LISTED_MAX).filter_map(uid).collect();
        Collision { reading, cards: listed, count: cards.len() }
    }

    /// Every collision there is through this transform, the lowest value first.
    #[must_use]
    pub fn collisions(&self, transform: Transform) -> Collisions {
        let index = self.index_of(transform);
        let mut values: Vec<u128> = index.into_iter().flat_map(|index| index.more.keys().copied()).collect();
        values.sort_unstable();
        let first = values.iter().take(COLLISIONS_LISTED_MAX);
        let listed = first.filter_map(|value| self.collision(Reading { transform, value: *value })).collect();
        Collisions { listed, unlisted: values.len().saturating_sub(COLLISIONS_LISTED_MAX) }
    }

    /// The collisions that matter since a message and did not before it, and the cards that a new card collides with, whose
    /// standing grants are to be judged again. `affected`: the cards of the message; the first `known` cards of the list are older
    /// than it. `could` and `can`: whether a card could open something before the message, and whether it can now.
    pub(super) fn new_collisions(
        &self,
        affected: &[CardIx],
        known: usize,
        could: impl Fn(CardIx) -> bool,
        can: impl Fn(CardIx) -> bool,
    ) -> (Collisions, BTreeSet<CardIx>) {
        let (mut collisions, mut concerned) = (Collisions::default(), BTreeSet::new());
        for index in &self.lossy {
            let mut judged = BTreeSet::new();
            for ix in affected {
                let Some(card) = self.cards.get(ix.place()) else { continue };
                let reading = index.transform.read(card.uid);
                // A value that only one card has is the usual case, and costs one look.
                if !index.more.contains_key(&reading.value) || !judged.insert(reading.value) {
                    continue;
                }
                let cards: Vec<CardIx> = index.cards(reading.value, self).collect();
                let (old, new): (Vec<CardIx>, Vec<CardIx>) = cards.iter().partition(|ix| ix.place() < known);
                if !new.is_empty() {
                    concerned.extend(cards.iter().copied());
                }
                let mattered = old.iter().any(|ix| could(*ix));
                if cards.iter().any(|ix| can(*ix)) && (!new.is_empty() || !mattered) {
                    if collisions.listed.len() < COLLISIONS_LISTED_MAX {
                        collisions.listed.push(self.collision_of(reading, &cards));
                    } else {
                        collisions.unlisted += 1;
                    }
                }
            }
        }
        (collisions, concerned)
    }
}
