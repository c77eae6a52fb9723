//! What an event of a power box is judged by, and what is to be done after it.

use serde::{Deserialize, Serialize};

use super::super::decision::{Denial, Grant, Reason};
use super::super::id::{CardUid, Mono};
use super::super::policy::RevokePower;

/// By what right a box is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PowerSource {
    /// A card that was put in.
    Card(CardUid),
    /// A card that the box only reported, with its relay on. By it the box stays on; it is not switched on again.
    Reported(CardUid),
    /// A command.
    Remote,
}

impl PowerSource {
    /// The card, if it is one.
    #[must_use]
    pub fn card(self) -> Option<CardUid> {
        match self {
            Self::Card(uid) | Self::Reported(uid) => Some(uid),
            Self::Remote => None,
        }
    }
}

/// What an event is judged by.
pub struct At<'a> {
    /// The time.
    pub now: Mono,
    /// How long the box stays on after its card left, in milliseconds.
    pub delay_off_ms: u64,
    /// How long it stays off after it was switched off, in milliseconds.
    pub rest_ms: u64,
    /// What losing the right does to a box that is on.
    pub revoke_power: RevokePower,
    /// No box is switched on again by itself before this moment.
    pub again_from: Mono,
    /// How often it is switched on within [`ENERGISE_WINDOW_MS`](super::ENERGISE_WINDOW_MS); 0: as often as cards ask.
    pub max_per_min: usize,
    /// Whether this right holds here and now, and the grant by which the box may be switched on.
    pub rights: &'a dyn Fn(PowerSource) -> Result<Grant, Denial>,
}

impl At<'_> {
    pub(super) fn denial(&self, source: PowerSource) -> Option<Denial> {
        (self.rights)(source).err()
    }

    pub(super) fn may(&self, uid: CardUid) -> bool {
        (self.rights)(PowerSource::Card(uid)).is_ok()
    }
}

/// Why a box is off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OffCause {
    /// The card left.
    CardLeft,
    /// The relay went off by itself and is not switched on again.
    RelayOff,
    /// A command.
    Command,
    /// No permitted card any more, or nothing may be on here.
    Denied(Reason),
}

impl OffCause {
    /// The cause's name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CardLeft => "card_left",
            Self::RelayOff => "relay_off",
            Self::Command => "remote",
            Self::Denied(reason) => reason.as_str(),
        }
    }

    /// The cause of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let own = [Self::CardLeft, Self::RelayOff, Self::Command].into_iter().find(|cause| cause.as_str() == name);
        own.or_else(|| Reason::parse(name).map(Self::Denied))
    }
}

/// What to do after an event: orders to the relay first, then what to record and raise, each in order.
#[derive(Debug, Default, PartialEq)]
pub struct Actions {
    /// For the relay.
    pub orders: Vec<Order>,
    /// For the audit and the alarms.
    pub notes: Vec<Note>,
}

/// An order to the relay.
#[derive(Debug, PartialEq)]
pub enum Order {
    /// Switch on. `announced`: at the end of a delay that the answer to the card carried.
    On {
        /// The right.
        grant: Grant,
        /// A device that waits by itself has switched on already.
        announced: bool,
    },
    /// Switch off.
    Off(OffCause),
}

/// What to record or raise; `detail` is for a person.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are those of the audit's events")]
pub enum Note {
    /// On, or on by another right than before; `confirmed`: its relay is known to be on, else it was only ordered.
    On { by: PowerSource, confirmed: bool, detail: String },
    /// The relay was off without an order and was ordered on again.
    OnAgain { by: PowerSource },
    /// Off; `by`: the right by which it was on, if it was known to be on.
    Off { by: Option<PowerSource>, cause: OffCause },
    /// The box reports a card that may not have power.
    Denied { uid: Option<CardUid>, reason: Reason, detail: String },
    /// Power and no card that may have it.
    PowerWithoutCard { uid: Option<CardUid>, detail: String },
    /// The relay fell without an order and is not switched on again.
    LeftOff { uid: Option<CardUid>, detail: String },
}

impl Note {
    /// A card that may not have power came in the place of the one that the box was on by.
    pub(super) fn in_its_place(uid: CardUid, reason: Reason) -> Self {
        let reason = reason.as_str();
        let detail =
            format!("another card took the place of the one that the box was on by, and may not have power: {reason}");
        Self::PowerWithoutCard { uid: Some(uid), detail }
    }
}

/// Whether this is no loss of a card's right but a matter of the room, which waits for no delay.
pub(super) fn is_at_once(denial: Denial) -> bool {
    is_of_room(denial.reason) || denial.also.iter().any(is_of_room)
}

/// Whether nothing but matters of the room are against the card.
pub(super) fn is_only_of_room(denial: Denial) -> bool {
    is_of_room(denial.reason) && denial.also.iter().all(is_of_room)
}

/// Whether this is no loss of a card's right but a matter of the room.
pub(super) fn is_of_room(reason: Reason) -> bool {
    matches!(reason, Reason::OutOfService | Reason::Lockdown | Reason::PowerSuspended | Reason::OutsideSchedule)
}
