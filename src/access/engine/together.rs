//! What opens a gate or door by more than one card or one door: two cards of two holders, the first card within a window of free
//! access, and doors of which only one is open at a time. All of it is of this run.

use std::collections::{BTreeSet, HashMap};

use foldhash::fast::RandomState;

use super::super::decision::{Reason, Reasons};
use super::super::event::{Event, Flush, PostureSource};
use super::super::id::{CardUid, Holder, Mono, Now, PortalId, Timestamp};
use super::super::portal::{Portal, Posture};
use super::Engine;

/// By portals, so no more than there are of those.
#[derive(Debug, Default)]
pub(super) struct Together {
    /// The first of two cards.
    first_of_two: HashMap<PortalId, FirstCard, RandomState>,
    /// Until when the window lasts that a first card has begun.
    free_until: HashMap<PortalId, Timestamp, RandomState>,
    /// The portals that their own schedule holds in free access, as the audit has it.
    held_free: BTreeSet<PortalId>,
}

/// The first of two cards at a portal.
#[derive(Clone, Debug)]
pub(super) struct FirstCard {
    uid: CardUid,
    pub(super) holder: Holder,
    /// Until when the second may come.
    pub(super) until: Mono,
}

impl Engine {
    /// Whether the portal wants two cards and this is not the second one.
    pub(super) fn is_first_of_two(&self, portal: &Portal, uid: &CardUid, now: Now) -> bool {
        portal.two_card_ms > 0 && {
            let holder = self.state.list.card(uid).and_then(|card| card.holder());
            let first = self.first_of_two(portal, now).map(|first| &first.holder);
            first.zip(holder).is_none_or(|(first, second)| first == second)
        }
    }

    /// A first card that waits. One that lost its right meanwhile does not wait any more.
    pub(super) fn first_of_two(&self, portal: &Portal, now: Now) -> Option<&FirstCard> {
        let waits = |first: &&FirstCard| first.until > now.mono && self.has_right(portal, first.uid, now);
        self.together.first_of_two.get(&portal.id).filter(waits)
    }

    /// An open portal with which this one is interlocked.
    pub(super) fn interlocked_by<'p>(&self, portal: &'p Portal, now: Now) -> Option<&'p PortalId> {
        portal.interlock.iter().find(|other| self.is_passable(other, now))
    }

    /// Whether the free access of the window that is open at `at` has begun.
    pub(super) fn has_begun(&self, portal: &Portal, at: Timestamp) -> bool {
        !portal.first_card || self.together.free_until.get(&portal.id).is_some_and(|until| at < *until)
    }

    /// Until when a window of free access lasts that a card which is let in now begins; `None`: it begins none.
    pub(super) fn begins_free_access(&self, portal: &Portal, now: Now) -> Option<Timestamp> {
        if !portal.first_card || self.posture(portal, now) != Posture::Secure {
            return None;
        }
        let (name, at) = self.free_window(portal, now)?;
        Some(self.calendar.closes(name, at).unwrap_or(Timestamp(i64::MAX)))
    }

    /// A card was the first of two at a portal, with this against it. That another door is open passes; nothing else may be against it.
    pub(super) fn note_first_of_two(&mut self, portal: &PortalId, uid: CardUid, against: Reasons, now: Now) {
        let others = against - Reason::SecondCardRequired - Reason::Interlocked;
        let two_card_ms = self.portal(portal.as_str()).map_or(0, |p| p.two_card_ms);
        if let Some(holder) = self.holder_of(Some(&uid)).filter(|_| others.is_empty()) {
            let until = now.mono.plus_ms(u64::from(two_card_ms));
            self.together.first_of_two.insert(portal.clone(), FirstCard { uid, holder, until });
        }
    }

    /// At the start: the portals that their schedule held in free access when the last run ended are so in the audit. Whether a first
    /// card had begun a window then is not known.
    pub(super) fn remember_held_free(&mut self, then: Now) {
        let was_free = |p: &&Portal| !p.first_card && self.free_window(p, then).is_some();
        self.together.held_free = self.portals.iter().filter(was_free).map(|p| p.id.clone()).collect();
    }

    /// Records that the free access of a portal's own schedule has begun or ended.
    pub(super) fn record_held_free(&mut self, now: Now) {
        let is_free = |p: &Portal| self.free_window(p, now).is_some_and(|(_, at)| self.has_begun(p, at));
        let scheduled = self.portals.iter().filter(|p| p.free_access.is_some());
        let changed = scheduled.map(|p| (p.id.clone(), is_free(p)));
        let changed: Vec<_> =
            changed.filter(|(id, is_free)| self.together.held_free.contains(id) != *is_free).collect();
        for (id, is_free) in changed {
            let posture = if is_free { Posture::FreeAccess } else { Posture::Secure };
            if is_free {
                self.together.held_free.insert(id.clone())
            } else {
                self.together.held_free.remove(&id)
            };
            let event = Event::Posture { portal: Some(id), posture, source: PostureSource::Schedule };
            self.record(event, Flush::Soon, now);
        }
    }

    /// A card was let in: no first one waits any more, and it may begin free access until a time.
    pub(super) fn let_in(&mut self, portal: &PortalId, begins_free: Option<Timestamp>, now: Now) {
        self.together.first_of_two.remove(portal);
        if let Some(until) = begins_free {
            self.together.free_until.insert(portal.clone(), until);
            self.send_modes(now);
        }
    }
}
