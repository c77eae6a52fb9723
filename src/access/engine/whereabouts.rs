//! Where cards are (`presence.rs`): when that does not count any more, by command, daily, or because gates were held open; and the
//! answers to whoever asks where somebody is.

use std::collections::BTreeSet;

use super::super::credential::DEAD;
use super::super::event::{Event, Flush, ForgivenBy, Forgiveness, Mark};
use super::super::id::{CardUid, Now, PortalId, Timestamp, Zone};
use super::super::input::CardSet;
use super::super::portal::{Portal, PortalKind, Posture};
use super::super::roll_call::{Area, Held, RollCall, Sought, Whereabouts};
use super::Engine;

/// How long after a time of day it is surely not yet the next one, in milliseconds.
const SURELY_SAME_DAY_MS: i64 = 23 * 3_600_000;

impl Engine {
    /// Where these cards are does not count against their next passage.
    pub(super) fn forgive(&mut self, cards: CardSet, by: ForgivenBy, now: Now) {
        self.record_forgiven(Forgiveness { cards, portals: Vec::new(), by }, "", now);
    }

    /// Forgives all cards once the time of day for it has come, also where it came while the gateway was away. It is looked at before
    /// each input, so no passage is judged by one from before.
    pub(super) fn forgive_daily(&mut self, now: Now) {
        let Some(minute) = self.policy.forgive_at_min else { return };
        let at = self.time.at(now).at;
        // Computed again in the last hour of a day only: a day with a change of the clock is that much shorter.
        let is_known = |last: Timestamp| last <= at && at.0.saturating_sub(last.0) < SURELY_SAME_DAY_MS;
        if self.observations.forgiven_through.is_some_and(is_known) {
            return;
        }
        let Some(last) = self.calendar.last_at(minute, at) else { return };
        self.observations.forgiven_through = Some(last);
        let all = self.state.presence.all().flat_map(|(_, passages)| passages);
        let is_due = all.filter(|passage| !passage.forgiven).any(|passage| passage.moment.at < last);
        if is_due {
            self.forgive(CardSet::All, ForgivenBy::Daily, now);
        }
    }

    fn record_forgiven(&mut self, forgiveness: Forgiveness, why: &str, now: Now) {
        let mark = Mark::Forgiven(forgiveness);
        self.record(Event::Config { mark, detail: why.to_owned() }, Flush::Now, now);
    }

    /// These gates were held open and are not any more, or are now for a fire: who passed their areas meanwhile is not known.
    pub(super) fn held_open_over(&mut self, gates: &[PortalId], now: Now) {
        let zones: Vec<_> = gates.iter().filter_map(|id| self.gate(id)).map(|gate| gate.zone.clone()).collect();
        let in_area = |p: &&Portal| p.kind == PortalKind::Gate && zones.contains(&p.zone);
        let portals: Vec<_> = self.portals.iter().filter(in_area).map(|p| p.id.clone()).collect();
        // Where nothing is known there is nothing to forget.
        let is_known = self
            .state
            .presence
            .all()
            .flat_map(|(_, passages)| passages)
            .any(|passage| !passage.is_doubtful() && portals.contains(&passage.portal));
        if is_known {
            let forgiveness = Forgiveness { cards: CardSet::All, portals, by: ForgivenBy::HeldOpen };
            self.record_forgiven(forgiveness, "gates were held open: who is inside is not certain", now);
        }
    }

    /// The gates that were held open when the last run ended, which was `then`, and are not now, because that ended meanwhile.
    pub(super) fn held_open_over_at_start(&mut self, then: Now, now: Now) {
        // Whether a first card had begun the window then is not known.
        let held_open = |p: &Portal| self.posture(p, then).holds_open() || self.free_window(p, then).is_some();
        let is_over = |p: &&Portal| p.kind == PortalKind::Gate && held_open(p) && !self.posture(p, now).holds_open();
        let gates: Vec<_> = self.portals.iter().filter(is_over).map(|p| p.id.clone()).collect();
        self.held_open_over(&gates, now);
    }

    fn gate(&self, id: &PortalId) -> Option<&Portal> {
        self.portal(id.as_str()).filter(|p| p.kind == PortalKind::Gate)
    }

    /// Where somebody was last seen. Cards of which nothing is known are left out.
    #[must_use]
    pub fn whereabouts(&self, sought: &Sought, now: Now) -> Vec<Whereabouts> {
        let of_holder = sought.holder.iter().flat_map(|holder| self.state.list.uids_of(holder));
        let cards: BTreeSet<CardUid> = sought.uid.iter().copied().chain(of_holder).collect();
        let area = Area { of_zone: None, open: self.areas_held_open(now) };
        let seen = |uid: CardUid| {
            let (passages, boxes) = (self.state.presence.of(&uid), self.observations.boxes_of(&uid));
            area.seen(uid, self.holder_of(Some(&uid)), passages, boxes)
        };
        let mut found: Vec<_> = cards.into_iter().filter_map(seen).collect();
        found.sort_by_key(|card| std::cmp::Reverse(card.seen.first().map(|seen| seen.n)));
        found
    }

    /// Where all cards are now, in the building or in the area of this zone's gates.
    ///
    /// # Errors
    /// When no gate has the zone that is asked for; the text names it.
    pub fn roll_call(&self, zone: Option<&Zone>, now: Now) -> Result<RollCall, String> {
        let is_gate = |p: &Portal| p.kind == PortalKind::Gate && Some(&p.zone) == zone;
        if let Some(zone) = zone.filter(|_| !self.portals.iter().any(is_gate)) {
            return Err(format!(
                "no gate has the zone `{zone}`; name the zone of a gate, or leave `zone` out for the whole building"
            ));
        }
        let of = |zone: &Zone| self.portals.iter().filter(|p| p.zone == *zone).map(|p| p.id.clone()).collect();
        let area = Area { of_zone: zone.map(of), open: self.areas_held_open(now) };
        let (passed, in_boxes) = (self.state.presence.at_this_moment(), self.observations.in_boxes().clone());
        Ok(RollCall { passed, in_boxes, area })
    }

    /// Whose these cards are: a roll-call asks for them in slices.
    #[must_use]
    pub fn held(&self, cards: &[CardUid]) -> Vec<Held> {
        let held = |uid: &CardUid| {
            let Some(card) = self.state.list.card(uid) else { return Held::default() };
            Held { holder: card.holder().cloned(), is_dead: !card.standing().is_disjoint(DEAD) }
        };
        cards.iter().map(held).collect()
    }

    /// The portals of the areas that people may leave without being read, because a gate is held open now. In a fire the list stays what
    /// it was when the fire began.
    fn areas_held_open(&self, now: Now) -> BTreeSet<PortalId> {
        let is_open = |p: &&Portal| p.kind == PortalKind::Gate && self.posture(p, now) == Posture::FreeAccess;
        let zones: BTreeSet<&Zone> = self.portals.iter().filter(is_open).map(|p| &p.zone).collect();
        self.portals.iter().filter(|p| zones.contains(&p.zone)).map(|p| p.id.clone()).collect()
    }
}
