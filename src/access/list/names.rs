//! Names kept once: zones and schedules, which thousands of entitlements name.

use std::collections::HashMap;

use foldhash::fast::RandomState;

/// A table of names; a name once kept keeps its place.
#[derive(Clone, Debug)]
pub(super) struct Names<N> {
    names: Vec<N>,
    places: HashMap<N, usize, RandomState>,
}

impl<N> Default for Names<N> {
    fn default() -> Self {
        Self { names: Vec::new(), places: HashMap::default() }
    }
}

impl<N: Clone + Eq + std::hash::Hash> Names<N> {
    pub(super) fn keep(&mut self, name: &N) -> usize {
        if let Some(place) = self.places.get(name) {
            return *place;
        }
        let place = self.names.len();
        self.names.push(name.clone());
        self.places.insert(name.clone(), place);
        place
    }

    pub(super) fn name(&self, place: usize) -> Option<&N> {
        self.names.get(place)
    }
}
