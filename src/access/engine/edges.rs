//! The edges of the wall clock, at which windows, schedules and postures begin and end: what stands is judged again there.

use super::super::credential::Role;
use super::super::decide::end_of;
use super::super::id::{CardUid, Now, Timestamp};
use super::super::portal::PortalKind;
use super::{Due, Engine};

/// How often what depends on the wall clock is judged again without an edge, in milliseconds.
pub const EDGE_CHECK_MS: u64 = 10_000;

impl Engine {
    /// Judges standing grants and modes again when a window, schedule or posture has begun or ended.
    pub(super) fn pass_edges(&mut self, now: Now) {
        if self.next_edge.is_some_and(|edge| edge <= self.time.at(now).at) {
            self.judge_standing(now);
        }
    }

    /// Judges standing grants and modes by what is open now, whether an edge was expected or not.
    pub(super) fn judge_standing(&mut self, now: Now) {
        self.judge_all_boxes(now);
        self.send_modes(now);
    }

    pub(super) fn find_next_edge(&mut self, now: Now) {
        let cards = self.boxes.values().filter_map(|b| b.claim()?.card());
        let ends = cards.filter_map(|uid| self.edge_of(uid, now));
        let ends = ends.chain(self.state.list.site.next_posture_end(self.time.at(now).at)).min();
        self.next_edge = ends.into_iter().chain(self.calendar.next_edge(self.time.at(now).at)).min();
        self.set_edge_deadline(now);
    }

    /// A box is on by this card from now on: its windows count, too.
    pub(super) fn note_edge_of(&mut self, uid: Option<CardUid>, now: Now) {
        if let Some(edge) = uid.and_then(|uid| self.edge_of(uid, now)) {
            self.next_edge = Some(self.next_edge.map_or(edge, |next| next.min(edge)));
            self.set_edge_deadline(now);
        }
    }

    /// When the next window of this card begins or ends.
    fn edge_of(&self, uid: CardUid, now: Now) -> Option<Timestamp> {
        let card = self.state.list.card(&uid)?;
        let edges = PortalKind::ALL.iter().copied().flat_map(|kind| {
            card.enrolments_for(kind, self.policy.reissue_keeps)
                .flat_map(|e| [e.not_before(), end_of(&self.calendar, &e)])
        });
        edges.flatten().filter(|end| *end > self.time.at(now).at).min()
    }

    /// At the next edge; and before it every few seconds where anything depends on the time, so that no edge that is missed can stick:
    /// the wall clock may be set meanwhile, and a list becomes old without one.
    fn set_edge_deadline(&mut self, now: Now) {
        let cuts_when_stale = self.policy.denies_when_stale(PortalKind::PowerBox, Role::Visitor);
        let wait_ms = match self.next_edge {
            Some(edge) => u64::try_from(edge.0.saturating_sub(self.time.at(now).at.0)).unwrap_or(0).min(EDGE_CHECK_MS),
            None if cuts_when_stale || !self.calendar.is_empty() => EDGE_CHECK_MS,
            None => return self.deadlines.set(Due::Edge, None),
        };
        // What is received more often than the check does not put it off.
        let check = self.deadlines.at(&Due::Edge).filter(|at| *at > now.mono);
        let at = now.mono.plus_ms(wait_ms);
        self.deadlines.set(Due::Edge, Some(check.map_or(at, |check| check.min(at))));
    }
}
