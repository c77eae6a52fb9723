//! Who is in the slots of a power box.

use super::super::id::CardUid;
use super::super::transform::Reading;
use super::actions::{At, OffCause, PowerSource};
use super::{Power, PowerBox, UnexpectedOff};

/// Who is in a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Occupant {
    /// A card.
    Card {
        uid: CardUid,
        /// It was put in, not only reported to be there.
        presented: bool,
        /// The box has shown it since it was last away.
        shown: bool,
        /// Only the room was against it, and it gets the power when the room does.
        waits: bool,
    },
    /// What a lossy reader reports of a card that it cannot identify; it was raised.
    Unread(Reading),
}

impl PowerBox {
    /// The card in this slot.
    #[must_use]
    pub fn card_in(&self, slot: u8) -> Option<CardUid> {
        match self.slots.get(&slot) {
            Some(Occupant::Card { uid, .. }) => Some(*uid),
            Some(Occupant::Unread(_)) | None => None,
        }
    }

    /// Whether `uid` is in one of its slots.
    #[must_use]
    pub fn holds(&self, uid: CardUid) -> bool {
        self.cards().any(|(card, _)| card == uid)
    }

    /// The cards in it by which it is not taken as on where it was off. Where the room took its power while it was away, a card that it
    /// shows with its relay on kept it on all the time.
    pub fn cards_known(&self) -> impl Iterator<Item = CardUid> {
        let missed = |occupant: &Occupant| matches!(occupant, Occupant::Card { shown: false, waits: true, .. });
        let away = self.awaits_room() && self.slots.values().any(missed);
        self.cards().map(|(uid, _)| uid).filter(move |uid| !away || self.shows(*uid))
    }

    /// The cards in it, and whether each was put in.
    pub(super) fn cards(&self) -> impl Iterator<Item = (CardUid, bool)> {
        let in_slots = self.slots.values().filter_map(|occupant| match occupant {
            Occupant::Card { uid, presented, .. } => Some((*uid, *presented)),
            Occupant::Unread(_) => None,
        });
        let presented = matches!(self.power, Power::On { by: PowerSource::Card(_), .. });
        in_slots.chain(self.remembered.map(|uid| (uid, presented)))
    }

    pub(super) fn first_that_may(&self, at: &At<'_>) -> Option<CardUid> {
        self.cards().map(|(uid, _)| uid).find(|uid| at.may(*uid))
    }

    /// Whether the box itself has shown `uid` since it was away.
    pub(super) fn shows(&self, uid: CardUid) -> bool {
        self.shown_cards().any(|card| card == uid)
    }

    /// The cards that the box itself has shown since it was away.
    pub fn shown_cards(&self) -> impl Iterator<Item = CardUid> + Clone {
        self.slots.values().filter_map(|occupant| match occupant {
            Occupant::Card { uid, shown: true, .. } => Some(*uid),
            Occupant::Card { shown: false, .. } | Occupant::Unread(_) => None,
        })
    }

    /// A card is in `slot`. Gives whether it came in the place of the card that the box was on by, with no gap between.
    pub(super) fn put(&mut self, slot: u8, uid: CardUid, presented: bool) -> bool {
        // The presented card that the box is on by stays one when it comes back, or turns out to be in another slot.
        let known = match (&self.power, self.slots.get(&slot)) {
            (Power::On { by: PowerSource::Card(card), .. }, _) if *card == uid => true,
            (_, Some(Occupant::Card { uid: card, presented: was, .. })) => *card == uid && *was,
            (_, Some(Occupant::Unread(_)) | None) => false,
        };
        self.remembered = None;
        // What it shows first after it was away is no presentation.
        let waits = match self.slots.get(&slot) {
            Some(Occupant::Card { uid: card, waits, shown, .. }) => *card == uid && *waits && *shown && !presented,
            Some(Occupant::Unread(_)) | None => false,
        };
        self.slots.insert(slot, Occupant::Card { uid, presented: presented || known, shown: true, waits });
        self.in_its_place.take() == Some(slot)
    }

    /// Nothing is in `slot`. Gives the card that was.
    pub(super) fn empty(&mut self, slot: u8) -> Option<CardUid> {
        self.in_its_place = None;
        let remembered = self.remembered.take();
        let card = self.card_in(slot);
        self.slots.remove(&slot);
        card.or(remembered)
    }

    /// Handing over switches no relay on that reads off: only a presented card may take over then.
    pub(super) fn may_take_over(&self, uid: CardUid) -> bool {
        let reads_off = matches!(self.power, Power::On { unexpected_off, .. } if unexpected_off != UnexpectedOff::No);
        !reads_off || self.cards().any(|card| card == (uid, true))
    }

    /// Another card in the box that may have power: by it the box stays on without a gap.
    pub(super) fn successor(&self, of: CardUid, at: &At<'_>) -> Option<CardUid> {
        let mut others = self.cards().map(|(uid, _)| uid).filter(|uid| *uid != of);
        others.find(|uid| self.may_take_over(*uid) && at.may(*uid))
    }

    pub(super) fn cause_to_be_off(&self, at: &At<'_>) -> OffCause {
        let denial = self.cards().find_map(|(uid, _)| at.denial(PowerSource::Card(uid)));
        denial.map_or(OffCause::CardLeft, |denial| OffCause::Denied(denial.reason))
    }
}
