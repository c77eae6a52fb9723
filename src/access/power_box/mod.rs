//! One power box as a state machine: an event and the time go in, actions come out.
//!
//! ```text
//! Unknown   a granted card, a command ------------------------> On
//!           relay reported on, and a permitted card is in it -> On
//!           relay reported off, or ordered off ---------------> Off
//! Off       a granted card, a command; after its rest --------> On
//! On        card left, right lost, command, relay fell -------> Off, and rests
//! ```
//! A box has one slot or several. It is on by one of the cards in it, and when that one leaves or loses its right, by the next that
//! may, without a gap. Only a presented card or a command switches on: a report does not, whatever it contains. A relay that falls
//! without an order is switched on again only if the box was on by a presented card that the box itself shows.

mod actions;
mod relay;
mod room;
mod slots;

use std::collections::{BTreeMap, VecDeque};

pub use actions::{Actions, At, Note, OffCause, Order, PowerSource};
use actions::{is_at_once, is_only_of_room};
use relay::UnauthorisedLoad;
pub use relay::{LOAD_MS, LOAD_OVER_W, LOAD_W, RELAY_AGAIN_MAX, RELAY_AGAIN_WINDOW_MS, RELAY_SETTLE_MS};
use room::Room;
pub use room::{ENERGISE_WINDOW_MS, ENERGISED_KEPT_MAX};
use slots::Occupant;

use super::decision::{Denial, Reason};
use super::id::{CardUid, Mono};
use super::policy::RevokePower;
use super::transform::Reading;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Power {
    /// This run has neither switched the box nor been informed of its relay. It may be on by this permitted card in it.
    Unknown { by: Option<CardUid> },
    /// Ordered or reported off.
    Off {
        /// Granted while it rests; gets the power at the end of the rest.
        next: Option<PowerSource>,
        mismatch: RelayMismatch,
    },
    /// Ordered on, or reported on with a permitted card in it.
    On {
        by: PowerSource,
        /// It goes off then, unless a permitted card comes back.
        off_at: Option<Mono>,
        unexpected_off: UnexpectedOff,
        /// It was recorded as on: the relay was read or confirmed on since it was ordered.
        confirmed: bool,
    },
}

/// The relay reads on although the box is off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct RelayMismatch {
    /// Reported so soon after an order that the report may be older: judged then, unless it is reported off before.
    judge_at: Option<Mono>,
    /// The alarm was raised.
    alarmed: bool,
}

/// The relay reads off although the box is on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum UnexpectedOff {
    #[default]
    No,
    /// Reported, perhaps of before the last order; judged then.
    Settling { judge_at: Mono },
    /// It stays so until the box reports who is in it.
    AwaitsCard,
    /// May be switched on again, after others.
    Staggered { judge_at: Mono },
}

/// One power box. See the module's head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PowerBox {
    slots: BTreeMap<u8, Occupant>,
    /// The card it was on by before a restart, until the box reports in which slot it is.
    remembered: Option<CardUid>,
    /// The slot in which another card is in the place of the one it was on by, until that card is judged.
    in_its_place: Option<u8>,
    power: Power,
    /// Not switched on before this moment, unless it is on.
    rest_until: Mono,
    /// Whether the relay is on, as last reported since the box was away; `None`: not known, which is neither.
    relay: Option<bool>,
    /// It may have been on, and its relay was not read off since: its rest counts from when it is.
    off_unread: bool,
    /// When it was last ordered to switch.
    ordered_at: Option<Mono>,
    load: UnauthorisedLoad,
    /// When it was switched on again after its relay fell, oldest first.
    again: VecDeque<Mono>,
    /// What the room as a whole does to it.
    room: Room,
    /// When it was switched on, oldest first; at least the last time.
    switched_on: VecDeque<Mono>,
}

impl Default for PowerBox {
    fn default() -> Self {
        Self {
            slots: BTreeMap::new(),
            remembered: None,
            in_its_place: None,
            power: Power::Unknown { by: None },
            rest_until: Mono(0),
            relay: None,
            off_unread: false,
            ordered_at: None,
            load: UnauthorisedLoad::None,
            again: VecDeque::new(),
            room: Room::default(),
            switched_on: VecDeque::new(),
        }
    }
}

impl PowerBox {
    /// A box that was on before a restart.
    #[must_use]
    pub fn remembered(by: PowerSource) -> Self {
        let power = Power::On { by, off_at: None, unexpected_off: UnexpectedOff::No, confirmed: true };
        Self { remembered: by.card(), power, ..Self::default() }
    }

    /// By what right it is on; `None`: off, or not known to be on.
    #[must_use]
    pub fn source(&self) -> Option<PowerSource> {
        match self.power {
            Power::On { by, .. } => Some(by),
            Power::Unknown { .. } | Power::Off { .. } => None,
        }
    }

    /// The right that has to be judged when rights change: that by which it is on, will be on, or may be on.
    #[must_use]
    pub fn claim(&self) -> Option<PowerSource> {
        match self.power {
            Power::On { by, .. } => Some(by),
            Power::Off { next, .. } => next,
            Power::Unknown { by } => by.map(PowerSource::Card),
        }
    }

    /// Whether a repeated grant to `uid` changes nothing: the box is on, or waits to be switched on, by a card that is in it.
    #[must_use]
    pub fn is_held_by(&self, uid: CardUid) -> bool {
        self.holds(uid) && (self.is_kept() || matches!(self.power, Power::Off { next: Some(_), .. }))
    }

    /// How long it still rests, in milliseconds; `None`: it may be switched on now.
    #[must_use]
    pub fn rest_left_ms(&self, now: Mono) -> Option<u64> {
        let is_on = matches!(self.power, Power::On { .. });
        (!is_on && self.rest_until > now).then(|| self.rest_until.since_ms(now))
    }

    /// When [`PowerBox::time_passed`] is next due.
    #[must_use]
    pub fn due(&self) -> Option<Mono> {
        let (of_power, of_relay) = match self.power {
            Power::Unknown { .. } => (None, None),
            Power::Off { next, mismatch } => {
                (next.filter(|_| self.waits_since().is_none()).map(|_| self.rest_until), mismatch.judge_at)
            }
            Power::On { off_at, unexpected_off, .. } => match unexpected_off {
                UnexpectedOff::Settling { judge_at } | UnexpectedOff::Staggered { judge_at } => {
                    (off_at, Some(judge_at))
                }
                UnexpectedOff::No | UnexpectedOff::AwaitsCard => (off_at, None),
            },
        };
        let of_load = match self.load {
            UnauthorisedLoad::Suspected { alarm_at, .. } => Some(alarm_at),
            UnauthorisedLoad::None | UnauthorisedLoad::Alarmed => None,
        };
        [of_power, of_relay, of_load].into_iter().flatten().min()
    }

    /// A card was put in and answered; `denial`: it was denied. A grant is the order to switch on, now or at the end of the rest.
    pub fn presented(&mut self, slot: u8, uid: CardUid, denial: Option<Denial>, at: &At<'_>, out: &mut Actions) {
        let is_in_its_place = self.put(slot, uid, true);
        if let Some(denial) = denial {
            out.notes.extend(is_in_its_place.then(|| Note::in_its_place(uid, denial.reason)));
            if is_only_of_room(denial) {
                self.waits_for_room(uid);
            }
            return self.holder_gone(at, out);
        }
        let resting = self.has_to_wait(at.now);
        let claimant_is_in = self.claim().and_then(PowerSource::card).is_some_and(|card| self.holds(card));
        match self.power {
            // The card that waits already keeps its place.
            Power::Off { next: Some(_), .. } if resting && claimant_is_in => {}
            Power::Off { .. } | Power::Unknown { .. } if resting => self.is_next_card(uid),
            Power::Off { .. } | Power::On { .. } | Power::Unknown { .. } => {
                self.switches_on(at);
                self.unexpected_off_is(UnexpectedOff::No);
                // A second card in a box that another one keeps on changes nothing until that one leaves.
                if !self.is_kept() || self.source() == Some(PowerSource::Reported(uid)) {
                    self.on_by(PowerSource::Card(uid), out);
                }
            }
        }
    }

    /// The box reports that this card is in it. That never switches on.
    pub fn card_reported(&mut self, slot: u8, uid: CardUid, at: &At<'_>, out: &mut Actions) {
        let is_repeat = self.card_in(slot) == Some(uid);
        let is_source = self.source().and_then(PowerSource::card) == Some(uid);
        self.put(slot, uid, false);
        // The box is on by it; or it was presented and answered, or reported before.
        if if is_source { self.is_kept() } else { is_repeat } {
            return;
        }
        if let Some(denial) = at.denial(PowerSource::Card(uid)) {
            let detail = format!("the box reports a card that may not have power: {}", denial.reason.as_str());
            return self.stranger(Some(uid), denial.reason, detail, at, out);
        }
        let (is_kept, may_take_over) = (self.is_kept(), is_source || self.may_take_over(uid));
        match &mut self.power {
            Power::Unknown { by } => *by = by.or(Some(uid)),
            Power::On { .. } if is_kept => {}
            Power::On { .. } if may_take_over => self.on_by(PowerSource::Reported(uid), out),
            Power::On { .. } | Power::Off { .. } => self.holder_gone(at, out),
        }
    }

    /// A lossy reader reports a card that it cannot identify: nobody's, or one of several; `reading` for a person.
    pub fn unread_reported(&mut self, slot: u8, read: (Reading, &str), reason: Reason, at: &At<'_>, out: &mut Actions) {
        let occupant = Occupant::Unread(read.0);
        self.remembered = None;
        if self.slots.insert(slot, occupant) != Some(occupant) {
            let reason_name = reason.as_str();
            let detail = format!("the box reports a card that may not have power: {reason_name}; {}", read.1);
            self.stranger(None, reason, detail, at, out);
        }
    }

    /// Nothing is in this slot any more.
    pub fn card_gone(&mut self, slot: u8, at: &At<'_>, out: &mut Actions) {
        self.empty(slot);
        self.holder_gone(at, out);
    }

    /// Another card is in this slot, and nobody saw the slot empty: the box goes off before that card is judged, unless a card in
    /// another slot keeps it on.
    pub fn exchanged(&mut self, slot: u8, at: &At<'_>, out: &mut Actions) {
        let gone = self.empty(slot);
        let holder = self.source().and_then(PowerSource::card).filter(|card| gone == Some(*card) && !self.holds(*card));
        match holder {
            Some(card) if self.successor(card, at).is_none() => {
                self.in_its_place = Some(slot);
                self.switch_off(OffCause::CardLeft, at, out);
            }
            Some(_) | None => self.holder_gone(at, out),
        }
    }

    /// The box does not answer: its relay is not known, and who is in it is only remembered until it reports that again.
    pub fn offline(&mut self) {
        let relay = self.relay.take();
        self.load_unknown();
        // Whoever is there when it is back was not there when it was known to be off.
        if relay == Some(false) && self.slots.is_empty() && matches!(self.power, Power::Off { next: None, .. }) {
            self.power = Power::Unknown { by: None };
        }
        self.room_after_absence();
        self.unexpected_off_is(UnexpectedOff::No);
        for occupant in self.slots.values_mut() {
            if let Occupant::Card { shown, .. } = occupant {
                *shown = false;
            }
        }
    }

    /// A command switches on, now or after the rest, unless the room forbids it. What is on by a card that may stays on by the card.
    pub fn ordered_on(&mut self, at: &At<'_>, out: &mut Actions) {
        let resting = self.has_to_wait(at.now);
        let Ok(grant) = (at.rights)(PowerSource::Remote) else { return };
        match self.power {
            Power::Off { .. } | Power::Unknown { .. } if resting => self.is_next(PowerSource::Remote),
            Power::Off { .. } | Power::On { .. } | Power::Unknown { .. } => {
                self.switches_on(at);
                self.unexpected_off_is(UnexpectedOff::No);
                out.orders.push(Order::On { grant, announced: false });
                let stays = self.is_kept() && self.source().is_some_and(|by| (at.rights)(by).is_ok());
                match &mut self.power {
                    Power::On { confirmed, .. } if stays => *confirmed = self.relay == Some(true),
                    _ => self.on_by(PowerSource::Remote, out),
                }
            }
        }
    }

    /// A command switches off, also what is not known to be on: the commander may know better.
    pub fn ordered_off(&mut self, at: &At<'_>, out: &mut Actions) {
        match self.source() {
            Some(_) => self.switch_off(OffCause::Command, at, out),
            None => self.order_off(OffCause::Command, at, out),
        }
    }

    /// Rights may have changed: judges the one by which the box is on, will be on, or may be on.
    pub fn judge(&mut self, at: &At<'_>, out: &mut Actions) {
        let Some(claim) = self.claim() else { return self.room_may_give(at) };
        let Some(denial) = at.denial(claim) else {
            // A right that came back within the delay counts if its card is still there.
            let still_there = claim.card().is_none_or(|uid| self.holds(uid));
            if let (Power::On { off_at, .. }, true) = (&mut self.power, still_there) {
                *off_at = None;
            }
            return;
        };
        let successor = claim.card().and_then(|card| self.successor(card, at));
        match (&mut self.power, successor) {
            (Power::Off { .. }, _) => self.withdraw(OffCause::Denied(denial.reason), at, out),
            (Power::On { .. }, Some(next)) => self.on_by(PowerSource::Card(next), out),
            (Power::Unknown { by }, Some(next)) => *by = Some(next),
            (Power::On { off_at, .. }, None) if at.revoke_power == RevokePower::AfterDelay && !is_at_once(denial) => {
                off_at.get_or_insert(at.now.plus_ms(at.delay_off_ms));
            }
            (Power::On { .. } | Power::Unknown { .. }, None) => {
                self.switch_off(OffCause::Denied(denial.reason), at, out);
            }
        }
    }

    /// Does what is due: the delay after the card left, the rest, a relay that did not follow, a load.
    pub fn time_passed(&mut self, at: &At<'_>, out: &mut Actions) {
        let is_due = |when: Option<Mono>| when.is_some_and(|when| when <= at.now);
        match &mut self.power {
            Power::On { by, off_at, .. } if is_due(*off_at) => {
                let by = *by;
                match by.card().and_then(|card| self.successor(card, at)) {
                    Some(next) => self.on_by(PowerSource::Card(next), out),
                    // A card that is still there has not left: it lost its right some time ago.
                    None => match at.denial(by).filter(|_| by.card().is_some_and(|card| self.holds(card))) {
                        Some(denial) => self.switch_off(OffCause::Denied(denial.reason), at, out),
                        None => self.switch_off(OffCause::CardLeft, at, out),
                    },
                }
            }
            Power::Off { mismatch, .. } if is_due(mismatch.judge_at) => {
                mismatch.judge_at = None;
                self.relay_reported(true, at, out);
            }
            Power::Off { next: Some(next), .. } if self.rest_until <= at.now => {
                let next = *next;
                self.rest_over(next, at, out);
            }
            Power::Unknown { .. } | Power::Off { .. } | Power::On { .. } => {}
        }
        self.judge_relay(at, out);
        match self.load {
            UnauthorisedLoad::Suspected { alarm_at, watts } if alarm_at <= at.now => self.load_lasts(watts, at, out),
            UnauthorisedLoad::Suspected { .. } | UnauthorisedLoad::None | UnauthorisedLoad::Alarmed => {}
        }
    }

    /// The box is on by a card that is in it, and no delay runs.
    fn is_kept(&self) -> bool {
        matches!(self.power, Power::On { by, off_at: None, .. } if by.card().is_some_and(|card| self.holds(card)))
    }

    /// If the card of the claim is not in the box any more, the next that may takes its place; else the delay runs.
    fn holder_gone(&mut self, at: &At<'_>, out: &mut Actions) {
        let Some(card) = self.claim().and_then(PowerSource::card).filter(|card| !self.holds(*card)) else { return };
        let successor = self.successor(card, at);
        match (&mut self.power, successor) {
            (Power::Off { .. }, _) => self.withdraw(OffCause::CardLeft, at, out),
            (Power::Unknown { by }, next) => *by = next,
            (Power::On { .. }, Some(next)) => self.on_by(PowerSource::Card(next), out),
            (Power::On { off_at, .. }, None) => {
                off_at.get_or_insert(at.now.plus_ms(at.delay_off_ms));
            }
        }
    }

    /// A card that may not is in the box: one that is not on goes off, one that stays on for a while or by command is raised all the
    /// same.
    fn stranger(&mut self, uid: Option<CardUid>, reason: Reason, detail: String, at: &At<'_>, out: &mut Actions) {
        // Whatever follows from it, and also while the alarm is held back.
        out.notes.push(Note::Denied { uid, reason, detail: detail.clone() });
        self.holder_gone(at, out);
        match self.power {
            // Another right is in force or waits, or it is this card's own that ended and its delay runs.
            Power::Off { next: Some(_), .. } => return,
            Power::On { by, .. } if self.is_kept() || by.card() == uid => return,
            Power::On { .. } => {}
            Power::Unknown { .. } | Power::Off { next: None, .. } => self.switch_off(OffCause::Denied(reason), at, out),
        }
        out.notes.push(Note::PowerWithoutCard { uid, detail });
    }

    /// On by this right. A card that takes over is a presented one if it was put in.
    fn on_by(&mut self, by: PowerSource, out: &mut Actions) {
        let (before, unexpected_off) = match self.power {
            Power::On { by, unexpected_off, .. } => (Some(by), unexpected_off),
            Power::Unknown { .. } | Power::Off { .. } => (None, UnexpectedOff::No),
        };
        let by = match by.card() {
            Some(uid) if self.cards().any(|card| card == (uid, true)) => PowerSource::Card(uid),
            Some(uid) => PowerSource::Reported(uid),
            None => PowerSource::Remote,
        };
        let confirmed = self.relay == Some(true);
        self.power = Power::On { by, off_at: None, unexpected_off, confirmed };
        self.room = Room::Gives;
        self.load = UnauthorisedLoad::None;
        if before != Some(by) {
            let before = before.and_then(PowerSource::card);
            let from = before.filter(|card| by.card().is_some_and(|next| next != *card));
            let detail = from.map_or(String::new(), |card| format!("handed over from {}", card.masked()));
            out.notes.push(Note::On { by, confirmed, detail });
        }
    }

    fn unexpected_off_is(&mut self, now: UnexpectedOff) {
        if let Power::On { unexpected_off, .. } = &mut self.power {
            *unexpected_off = now;
        }
    }

    /// Off, whether or not it is known to be on. Recorded unless it is known to be off.
    fn switch_off(&mut self, cause: OffCause, at: &At<'_>, out: &mut Actions) {
        let by = self.source();
        if by.is_some() || self.relay != Some(false) {
            out.notes.push(Note::Off { by, cause });
        }
        self.order_off(cause, at, out);
    }
}
