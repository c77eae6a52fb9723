//! Where people are, for a person who asks: where a card or a holder was last seen, and who is inside now. Made from the passages
//! through the gates (`presence.rs`) and the cards in the power boxes.

use serde::{Deserialize, Serialize};

use super::event::{Moment, Outcome};
use super::id::{CardUid, ClockTrust, Holder, PortalId, Timestamp, Zone};
use super::portal::Direction;
use super::presence::{Certainty, Passage};

/// Whose whereabouts are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sought {
    /// Those of this card and of all cards of this holder: what a person types may be either.
    Named {
        /// The card.
        uid: Option<CardUid>,
        /// The holder.
        holder: Option<Holder>,
    },
    /// Those of everybody inside the building, or inside the area of this zone's gates.
    Inside(Option<Zone>),
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
#[must_use]
pub fn inside(mut all: Vec<Whereabouts>, is_dead: impl Fn(&CardUid) -> bool) -> Vec<Whereabouts> {
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
