//! Power boxes: who sits in which, on whose card a box is on, and when it goes off. A standing grant lives here.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::id::{CardUid, Mono};
use super::transform::Reading;

/// The place of a card that a box was on by before a restart, until the box says in which slot it is. No reader has this number.
pub const SLOT_REMEMBERED: u8 = u8::MAX;

/// On whose right a box is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PowerSource {
    /// The card that was granted.
    Card(CardUid),
    /// A command.
    Remote,
}

/// Power drawn at a box that is off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnauthorisedLoad {
    /// None that anybody measured.
    #[default]
    None,
    /// The meter says so; an alarm is raised at `alarm_at` unless it says otherwise by then.
    Suspected {
        /// When it has lasted long enough.
        alarm_at: Mono,
        /// How much, in whole watts, as last measured.
        watts: u32,
    },
    /// The alarm was raised.
    Told,
}

impl UnauthorisedLoad {
    /// When the alarm is due, if one is.
    #[must_use]
    pub fn alarm_at(self) -> Option<Mono> {
        match self {
            Self::Suspected { alarm_at, .. } => Some(alarm_at),
            Self::None | Self::Told => None,
        }
    }
}

/// A box that is to be on and reads off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnexpectedOff {
    /// Not as far as anybody said.
    #[default]
    No,
    /// It said so, perhaps of before the last order; judged then, unless it says otherwise by then.
    Said {
        /// When it is judged.
        judge_at: Mono,
    },
    /// It stays so until the box says who is in it.
    Waits,
    /// It may be switched on again, and others before it.
    Turn {
        /// When it is judged once more, and switched on.
        judge_at: Mono,
    },
}

impl UnexpectedOff {
    /// When it is to be judged, if that is known.
    #[must_use]
    pub fn judge_at(self) -> Option<Mono> {
        match self {
            Self::Said { judge_at } | Self::Turn { judge_at } => Some(judge_at),
            Self::No | Self::Waits => None,
        }
    }
}

/// One power box as the gateway believes it to be.
///
/// A box has one slot or several. It is on as long as any card in it may: on by one of them, and when that one leaves or loses its
/// right, by the next that may, without a gap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PowerBox {
    /// On whose right it is on; `None`: off.
    pub on: Option<PowerSource>,
    /// The cards in it by slot, permitted or not, as last said by the box.
    pub present: BTreeMap<u8, CardUid>,
    /// By slot what its reader says of a card that it cannot tell; it was told.
    pub unread: BTreeMap<u8, Reading>,
    /// It goes off then, unless a permitted card comes back.
    pub off_at: Option<Mono>,
    /// The relay was reported on although the box is to be off; the alarm was raised.
    pub reported_without_card: bool,
    /// When the box was last told to switch.
    pub ordered_at: Option<Mono>,
    /// The relay was reported on so soon after the box was told off that the report may be older: it is judged then, unless
    /// the relay is reported off before.
    pub recheck_at: Option<Mono>,
    /// Power drawn while it is off.
    pub draw: UnauthorisedLoad,
    /// Off while it is to be on.
    pub dark: UnexpectedOff,
    /// When it was switched on again because it had gone dark, oldest first.
    pub again: VecDeque<Mono>,
    /// The slots whose card was not said to be there since the box was away.
    pub unseen: BTreeSet<u8>,
}

impl PowerBox {
    /// The card on whose right the box is on.
    #[must_use]
    pub fn on_card(&self) -> Option<CardUid> {
        match self.on {
            Some(PowerSource::Card(uid)) => Some(uid),
            Some(PowerSource::Remote) | None => None,
        }
    }

    /// Whether `uid` is in one of its slots.
    #[must_use]
    pub fn holds(&self, uid: CardUid) -> bool {
        self.present.values().any(|card| *card == uid)
    }

    /// The card that keeps it on: it is on by that card, which is in it and under no delay.
    #[must_use]
    pub fn kept_by(&self) -> Option<CardUid> {
        self.on_card().filter(|card| self.off_at.is_none() && self.holds(*card))
    }

    /// `uid` is in `slot`.
    pub fn put(&mut self, slot: u8, uid: CardUid) {
        self.present.remove(&SLOT_REMEMBERED);
        self.unread.remove(&slot);
        self.unseen.remove(&slot);
        self.present.insert(slot, uid);
    }

    /// The box was away: who is in it is only remembered until it says so again.
    pub fn was_away(&mut self) {
        self.unseen = self.present.keys().copied().collect();
        self.dark = UnexpectedOff::No;
    }

    /// Whether the box itself says that `uid` is in it, and has not been away since.
    #[must_use]
    pub fn shows(&self, uid: CardUid) -> bool {
        let said = |slot: &u8| *slot != SLOT_REMEMBERED && !self.unseen.contains(slot);
        self.present.iter().any(|(slot, card)| *card == uid && said(slot))
    }

    /// Nothing is in `slot`. Gives the card that was.
    pub fn empty(&mut self, slot: u8) -> Option<CardUid> {
        let remembered = self.present.remove(&SLOT_REMEMBERED);
        self.unread.remove(&slot);
        self.present.remove(&slot).or(remembered)
    }

    /// The box is on by this card from now on. Says whether that is another right than before.
    pub fn admit(&mut self, uid: CardUid) -> bool {
        self.off_at = None;
        self.draw = UnauthorisedLoad::None;
        self.on.replace(PowerSource::Card(uid)) != Some(PowerSource::Card(uid))
    }

    /// The box is switched off. Gives the right it was on by.
    pub fn switch_off(&mut self) -> Option<PowerSource> {
        self.off_at = None;
        self.dark = UnexpectedOff::No;
        self.on.take()
    }
}
