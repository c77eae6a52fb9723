//! Holders, and which cards are theirs: chains through the cards, so that a million holders cost no million vectors.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use super::super::credential::Flags;
use super::super::id::{Holder, Revision};
use super::index::{CardIx, HolderIx};

/// What is known of one holder.
#[derive(Clone, Debug)]
pub(super) struct HolderRecord {
    pub(super) name: Holder,
    /// What by-holder ops have set for the cards born before them.
    pub(super) flags: Flags,
    /// The newest `withdraw` by holder: enrolments older than it are not in force. Most holders have none, so it costs one word.
    pub(super) withdrawn: Option<Box<Revision>>,
    /// First card that the card office issued to this holder.
    pub(super) first_issued: Option<CardIx>,
    /// First card that is enrolled for this holder.
    pub(super) first_enrolled: Option<CardIx>,
}

impl HolderRecord {
    pub(super) fn withdrawn(&self) -> Option<Revision> {
        self.withdrawn.as_deref().copied()
    }

    pub(super) fn withdraw(&mut self, revision: Revision) {
        self.withdrawn = self.withdrawn().max(Some(revision)).map(Box::new);
    }
}

/// All holders, by name and by index. A holder once named stays.
#[derive(Clone, Debug, Default)]
pub(super) struct Holders {
    records: Vec<HolderRecord>,
    by_name: HashTable<HolderIx>,
    hasher: RandomState,
}

impl Holders {
    pub(super) fn get(&self, ix: HolderIx) -> Option<&HolderRecord> {
        self.records.get(ix.place())
    }

    pub(super) fn get_mut(&mut self, ix: HolderIx) -> Option<&mut HolderRecord> {
        self.records.get_mut(ix.place())
    }

    pub(super) fn find(&self, name: &Holder) -> Option<HolderIx> {
        let hash = self.hasher.hash_one(name);
        self.by_name.find(hash, |ix| self.get(*ix).is_some_and(|r| r.name == *name)).copied()
    }

    pub(super) fn intern(&mut self, name: &Holder) -> HolderIx {
        if let Some(ix) = self.find(name) {
            return ix;
        }
        let ix = HolderIx::at(self.records.len());
        self.records.push(HolderRecord {
            name: name.clone(),
            flags: Flags::default(),
            withdrawn: None,
            first_issued: None,
            first_enrolled: None,
        });
        let Self { records, by_name, hasher } = self;
        let rehash = |ix: &HolderIx| records.get(ix.place()).map_or(0, |r| hasher.hash_one(&r.name));
        by_name.insert_unique(hasher.hash_one(name), ix, rehash);
        ix
    }

    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    pub(super) fn reserve(&mut self, count: usize) {
        self.records.reserve(count);
        let Self { records, by_name, hasher } = self;
        by_name.reserve(count, |ix| records.get(ix.place()).map_or(0, |r| hasher.hash_one(&r.name)));
    }

    /// Gives back the memory of about `most` holders that are not used any more. `true`: nothing is left.
    pub(super) fn discard(&mut self, most: usize) -> bool {
        self.records.truncate(self.records.len().saturating_sub(most));
        self.records.is_empty()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut HolderRecord> {
        self.records.iter_mut()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &HolderRecord> {
        self.records.iter()
    }
}
