//! Readers that lose part of the UID: what they report of a known card, and the collisions of cards they cannot distinguish.

use super::super::event::{AlarmKind, Event, Flush, Mark};
use super::super::id::{CardUid, Now, PortalId};
use super::super::input::Presented;
use super::super::list::{Collision, Collisions, Lookup};
use super::super::transform::{Reading, Transform};
use super::Engine;

/// Portals named in one report of a collision; the others are counted.
const PORTALS_LISTED_MAX: usize = 8;

impl Engine {
    /// What the reader of `portal` reports of `uid`.
    pub(super) fn as_read_at(&self, portal: &PortalId, uid: CardUid) -> Presented {
        match self.lossy.get(portal) {
            Some(transform) => Presented::Lossy(transform.read(uid)),
            None => Presented::Card(uid),
        }
    }

    /// A reading for the audit: how it was matched, and with which cards.
    pub(super) fn describe_reading(&self, reading: Reading) -> String {
        match self.state.list.lookup(reading) {
            Lookup::One(_) => format!("read as {}", self.reading(reading)),
            Lookup::None => format!("read as {}, which no known card is", self.reading(reading)),
            Lookup::Several => {
                let cards = self.state.list.collision(reading);
                let cards = cards.map(|collision| self.cards_of(&collision)).unwrap_or_default();
                format!("read as {}, which {cards} all are", self.reading(reading))
            }
        }
    }

    /// Cards that a message made one and the same to some readers. Raised when it comes to be; a replay raises nothing.
    pub(super) fn report_collisions(&mut self, collisions: &Collisions, now: Now) {
        for collision in &collisions.listed {
            let portals = self.read_through(collision.reading.transform);
            let detail = format!(
                "cards {} are one and the same to the reader of {portals} ({}): none of them is let in there; give one of the holders another card, or the portal a reader that gives whole UIDs",
                self.cards_of(collision),
                collision.reading.transform,
            );
            let logged = format!(
                "{} cards are one and the same to the reader of {portals} ({}), and none of them is let in there; the alarm names the holders",
                collision.count, collision.reading.transform,
            );
            self.list_alarm(collision.cards.last().copied(), detail, logged, now);
        }
        if collisions.unlisted > 0 {
            let detail = format!(
                "{} more groups of cards fall together at lossy readers since the same message; the audit names a card when it is denied `ambiguous_identifier`",
                collisions.unlisted
            );
            self.alarm(AlarmKind::List, None, None, detail, now);
        }
    }

    /// The collisions of the list that the gateway starts with, without alarms: they were raised when each came to be. A reader
    /// that is new to the configuration finds its collisions here.
    pub(super) fn record_collisions_at_start(&mut self, now: Now) {
        let transforms: std::collections::BTreeSet<Transform> = self.lossy.values().copied().collect();
        for transform in transforms {
            let collisions = self.state.list.collisions(transform);
            let count = collisions.listed.len() + collisions.unlisted;
            if count == 0 {
                continue;
            }
            let one = |collision: &Collision| self.cards_of(collision);
            let named = collisions.listed.iter().map(one).collect::<Vec<_>>().join("; ");
            let more =
                if collisions.unlisted > 0 { format!("; and {} more", collisions.unlisted) } else { String::new() };
            let portals = self.read_through(transform);
            let detail = format!("{count} readings of {portals} ({transform}) belong to several cards: {named}{more}");
            self.record(Event::Config { mark: Mark::Note, detail }, Flush::Soon, now);
        }
    }

    /// The portals whose reader does this to a UID.
    fn read_through(&self, transform: Transform) -> String {
        let portals = self.lossy.iter().filter(|(_, t)| **t == transform).map(|(id, _)| format!("`{id}`"));
        crate::few(&portals.collect::<Vec<_>>(), PORTALS_LISTED_MAX, ", ")
    }

    /// What a reader gave, for the audit; where the audit has no UIDs, only how it was read.
    fn reading(&self, reading: Reading) -> String {
        if self.policy.hash_uids { format!("({})", reading.transform) } else { reading.to_string() }
    }

    /// The cards of a collision for a person: of a UID only the end, and its holder.
    fn cards_of(&self, collision: &Collision) -> String {
        let one = |uid: &CardUid| match self.holder_of(Some(uid)) {
            Some(holder) => format!("`{}` of `{holder}`", uid.masked()),
            None => format!("`{}`", uid.masked()),
        };
        let named = collision.cards.iter().map(one).collect::<Vec<_>>().join(", ");
        match collision.count.saturating_sub(collision.cards.len()) {
            0 => named,
            more => format!("{named} and {more} more"),
        }
    }
}
