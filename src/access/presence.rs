//! Power boxes: who sits in which, on whose card a box is on, and when it goes off. A standing grant lives here.

use super::id::{CardUid, Mono};

/// On whose right a box is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnBy {
    /// The card that was granted.
    Card(CardUid),
    /// A command.
    Remote,
}

/// One power box as the gateway believes it to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PowerBox {
    /// On whose right it is on; `None`: off.
    pub on: Option<OnBy>,
    /// The card in it, permitted or not, as last said by the box.
    pub present: Option<CardUid>,
    /// It goes off then, unless a permitted card comes back.
    pub off_at: Option<Mono>,
    /// The relay was reported on although the box is to be off; the alarm was raised.
    pub reported_without_card: bool,
    /// When the box was last told to switch.
    pub ordered_at: Option<Mono>,
    /// The relay was reported on so soon after the box was told off that the report may be older: it is judged then, unless
    /// the relay is reported off before.
    pub recheck_at: Option<Mono>,
}

impl PowerBox {
    /// The card on whose right the box is on.
    #[must_use]
    pub fn on_card(&self) -> Option<CardUid> {
        match self.on {
            Some(OnBy::Card(uid)) => Some(uid),
            Some(OnBy::Remote) | None => None,
        }
    }

    /// A permitted card is in the box. Says whether the box is now on by another right than before.
    pub fn admit(&mut self, uid: CardUid) -> bool {
        self.present = Some(uid);
        self.off_at = None;
        self.on.replace(OnBy::Card(uid)) != Some(OnBy::Card(uid))
    }

    /// The card left: the box goes off at `off_at` if it is on by a card.
    pub fn leave(&mut self, off_at: Mono) {
        self.present = None;
        if self.on_card().is_some() {
            self.off_at.get_or_insert(off_at);
        }
    }

    /// The box is switched off. Gives the right it was on by.
    pub fn switch_off(&mut self) -> Option<OnBy> {
        self.off_at = None;
        self.on.take()
    }
}
