//! Where people are, for a person who asks: where a card or a holder was last seen, and who is inside now. Made from the passages
//! through the gates (`presence.rs`) and the cards in the power boxes.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use foldhash::fast::RandomState;
use serde::{Deserialize, Serialize};

use super::event::{Moment, Outcome};
use super::id::{CardUid, ClockTrust, Holder, PortalId, Timestamp};
use super::portal::Direction;
use super::presence::{Certainty, Passage};

/// Whose whereabouts are asked for: those of this card and of all cards of this holder, because what a person types may be either.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sought {
    /// The card.
    pub uid: Option<CardUid>,
    /// The holder.
    pub holder: Option<Holder>,
}

/// Which passages are asked for, and which of them are not certain.
#[derive(Clone, Debug, Default)]
pub(super) struct Area {
    /// The portals of the zone that was asked for; `None`: all.
    pub of_zone: Option<BTreeSet<PortalId>>,
    /// The portals of the areas that people may leave without being read now.
    pub open: BTreeSet<PortalId>,
}

impl Area {
    /// A card's passages through the gates, and its power boxes; nothing if there are none here.
    pub fn seen(
        &self,
        uid: CardUid,
        holder: Option<Holder>,
        passages: &[Passage],
        boxes: &[PortalId],
    ) -> Option<Whereabouts> {
        let is_there = |id: &PortalId| self.of_zone.as_ref().is_none_or(|portals| portals.contains(id));
        let mut seen: Vec<Seen> = passages.iter().filter(|passage| is_there(&passage.portal)).map(Seen::from).collect();
        for seen in seen.iter_mut().filter(|seen| self.open.contains(&seen.portal)) {
            seen.certainty = Certainty::Doubtful;
        }
        let boxes: Vec<_> = boxes.iter().filter(|id| is_there(id)).cloned().collect();
        (!seen.is_empty() || !boxes.is_empty()).then_some(Whereabouts { uid, holder, seen, boxes })
    }
}

/// Where all cards were at one moment. It is quick to take and long to work out, so whoever asks does the latter while the gateway
/// decides on.
#[derive(Clone, Debug)]
pub struct RollCall {
    pub(super) passed: Vec<(CardUid, Arc<Vec<Passage>>)>,
    pub(super) in_boxes: HashMap<CardUid, Vec<PortalId>, RandomState>,
    pub(super) area: Area,
}

/// Whose a card is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Whose, if that is known.
    pub holder: Option<Holder>,
    /// It is not the holder's any more.
    pub is_dead: bool,
}

impl RollCall {
    /// The cards, in order: whose each of them is has to be known for the list.
    #[must_use]
    pub fn cards(&self) -> Vec<CardUid> {
        let all = self.passed.iter().map(|(uid, _)| uid).chain(self.in_boxes.keys()).copied();
        all.collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// Who is inside, with whose each of [`RollCall::cards`] is, in that order.
    #[must_use]
    pub fn people(mut self, held: Vec<Held>) -> Vec<Whereabouts> {
        let held: HashMap<CardUid, Held, RandomState> = self.cards().into_iter().zip(held).collect();
        let holder = |uid: &CardUid| held.get(uid).and_then(|held| held.holder.clone());
        let mut all = Vec::new();
        for (uid, passages) in self.passed {
            let boxes = self.in_boxes.remove(&uid).unwrap_or_default();
            all.extend(self.area.seen(uid, holder(&uid), &passages, &boxes));
        }
        for (uid, boxes) in self.in_boxes {
            all.extend(self.area.seen(uid, holder(&uid), &[], &boxes));
        }
        inside(all, |uid| held.get(uid).is_some_and(|held| held.is_dead))
    }
}

/// One passage of a card.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// The audit event.
    pub n: u64,
    /// The gate.
    pub portal: PortalId,
    /// Which way.
    pub direction: Direction,
    /// When.
    pub at: Timestamp,
    /// Whether that time can be trusted.
    pub clock: ClockTrust,
    /// How certain it is that the card passed, and that it has not passed since without being read.
    pub certainty: Certainty,
}

impl From<&Passage> for Seen {
    fn from(passage: &Passage) -> Self {
        let Passage { portal, direction, moment: Moment { at, clock, n, .. }, certainty, .. } = passage;
        Self { n: *n, portal: portal.clone(), direction: *direction, at: *at, clock: *clock, certainty: *certainty }
    }
}

/// Where one card was last seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Whereabouts {
    /// The card.
    pub uid: CardUid,
    /// Whose it is, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holder: Option<Holder>,
    /// Its last passages, the newest first, at most one a gate.
    pub seen: Vec<Seen>,
    /// The power boxes in which it is now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub boxes: Vec<PortalId>,
}

impl Whereabouts {
    /// Whether the card counts as inside: it went in last, or it is in a power box. A card in a box whose holder was last seen on the
    /// way out may be a spare one that stays there; a list for a fire names one too many rather than one too few.
    #[must_use]
    pub fn is_inside(&self) -> bool {
        !self.boxes.is_empty() || self.seen.first().is_some_and(|last| last.direction == Direction::In)
    }

    /// How certain that is.
    #[must_use]
    pub fn certainty(&self) -> Certainty {
        let entered = self.seen.first().filter(|last| last.direction == Direction::In);
        entered.map_or(Certainty::Doubtful, |last| last.certainty)
    }

    /// Takes in another card of the holder, whose passage counts less: its boxes are named too, and if it was read later, on its way
    /// out, the holder may be outside.
    fn join(&mut self, mut other: Self) {
        self.boxes.append(&mut other.boxes);
        if let Some(last) = self.seen.first_mut().filter(|last| other.seen.first().is_some_and(|seen| seen.n > last.n))
        {
            last.certainty = Certainty::Doubtful;
        }
    }
}

/// Who is inside, one entry a holder, sorted by holder, then by card: the roll-call. A card that nobody is known to hold stands for
/// itself. Of several cards of a holder the one that passed last counts; a dead one on its way out is not the holder's any more and
/// counts only where no other was seen, so that whoever leaves with it takes nobody off the list.
fn inside(mut all: Vec<Whereabouts>, is_dead: impl Fn(&CardUid) -> bool) -> Vec<Whereabouts> {
    let counts_less = |card: &Whereabouts| match card.seen.first() {
        Some(last) => u8::from(last.direction == Direction::Out && is_dead(&card.uid)),
        None => 2,
    };
    let last_n = |card: &Whereabouts| std::cmp::Reverse(card.seen.first().map(|last| last.n));
    all.sort_by_cached_key(|card| (card.holder.clone(), counts_less(card), last_n(card), card.uid));
    let mut people: Vec<Whereabouts> = Vec::new();
    for card in all {
        match people.last_mut().filter(|last| card.holder.is_some() && last.holder == card.holder) {
            Some(last) => last.join(card),
            None => people.push(card),
        }
    }
    people.retain(Whereabouts::is_inside);
    people.sort_by(|a, b| (&a.holder, a.uid).cmp(&(&b.holder, b.uid)));
    people
}

/// A card that would be granted at the portal that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MayOpen {
    /// The card.
    pub uid: CardUid,
    /// Whose it is, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holder: Option<Holder>,
    /// How it would be granted.
    #[serde(flatten)]
    pub outcome: Outcome,
}
