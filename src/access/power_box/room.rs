//! What a power box waits for while it is off: its rest, how often it is switched on, and power that comes back to its room, one box
//! after another.

use super::super::id::{CardUid, Mono};
use super::actions::{Actions, At, OffCause, Order, PowerSource, is_of_room, is_only_of_room};
use super::slots::Occupant;
use super::{Power, PowerBox, RelayMismatch};

/// The time in which `policy.max_energise_per_min` counts, in milliseconds.
pub const ENERGISE_WINDOW_MS: u64 = 60_000;
/// Times that are remembered at which a box was switched on, the newest; `policy.max_energise_per_min` is at most as many.
pub const ENERGISED_KEPT_MAX: u8 = 60;

/// What the room as a whole does to a box.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Room {
    /// Nothing.
    #[default]
    Gives,
    /// The box is off because nothing may be on in the room. When that ends, a card that was put in and is still there gets the power.
    Withholds,
    /// That has ended, and the box takes its turn when its rest is over.
    Rests,
    /// The box waits for its turn since then: those that wait are switched on one after another, whoever waits longest first.
    Returns { since: Mono },
}

impl PowerBox {
    /// Whether it gets power when the room does.
    #[must_use]
    pub fn awaits_room(&self) -> bool {
        self.room == Room::Withholds
    }

    /// It tripped: off at once.
    pub fn trip(&mut self, at: &At<'_>, out: &mut Actions) {
        self.switch_off(OffCause::Denied(super::Reason::PowerSuspended), at, out);
    }

    /// This card was put in, and nothing but the room is against it.
    pub(super) fn waits_for_room(&mut self, uid: CardUid) {
        if self.claim().is_none() {
            let goes_on = self.room == Room::Withholds;
            self.room = Room::Withholds;
            self.cards_wait(|card, waits| card == uid || (goes_on && waits));
        }
    }

    /// The room takes the power of the cards that were put in, or their turn: those against which nothing else is wait until it gives it.
    pub(super) fn wait_after(&mut self, cause: OffCause, at: &At<'_>) {
        if matches!(cause, OffCause::Denied(reason) if is_of_room(reason)) && self.claim().is_some() {
            self.cards_wait(|card, _| at.denial(PowerSource::Card(card)).is_none_or(is_only_of_room));
        }
    }

    /// Which of the cards that were put in wait for the room, by whether they do so far.
    fn cards_wait(&mut self, is_one: impl Fn(CardUid, bool) -> bool) {
        for occupant in self.slots.values_mut() {
            if let Occupant::Card { uid, presented, waits, .. } = occupant {
                *waits = *presented && is_one(*uid, *waits);
            }
        }
    }

    /// It goes off for this cause, or whoever waited for the power may not have it.
    pub(super) fn room_after(&mut self, cause: OffCause) {
        let withholds = matches!(cause, OffCause::Denied(reason) if is_of_room(reason));
        if withholds {
            self.room = Room::Withholds;
        } else if self.claim().is_some() || cause == OffCause::Command {
            self.room = Room::Gives;
        }
    }

    /// It is away. What it reports when it is back is no presentation: power does not come back to it then, unless it waited already and
    /// shows its card before its turn.
    pub(super) fn room_after_absence(&mut self) {
        if self.room == Room::Withholds {
            self.room = Room::Gives;
        }
    }

    /// Power may be back in the room: a card that was put in and that the box still shows takes its turn.
    pub(super) fn room_may_give(&mut self, at: &At<'_>) {
        if self.room != Room::Withholds {
            return;
        }
        let Some(uid) = self.put_in(at) else { return };
        self.is_next(PowerSource::Card(uid));
        self.room = if self.rest_until > at.now { Room::Rests } else { Room::Returns { since: at.now } };
    }

    /// Gets the power at the end of the rest.
    pub(super) fn is_next(&mut self, next: PowerSource) {
        self.power = Power::Off { next: Some(next), mismatch: self.mismatch() };
    }

    /// What is known of a relay that reads on although the box is off.
    pub(super) fn mismatch(&self) -> RelayMismatch {
        match self.power {
            Power::Off { mismatch, .. } => mismatch,
            Power::Unknown { .. } | Power::On { .. } => RelayMismatch::default(),
        }
    }

    /// It was switched off before the start, and rests until then.
    pub fn rests_until(&mut self, end: Mono) {
        self.rest_until = end;
    }

    /// Since when it waits for its turn; `None`: it does not.
    #[must_use]
    pub fn waits_since(&self) -> Option<Mono> {
        match (self.room, self.power) {
            (Room::Returns { since }, Power::Off { next: Some(_), .. }) => Some(since),
            _ => None,
        }
    }

    /// Whether whoever asks for power has to wait: it rests, or its turn has not come.
    pub(super) fn has_to_wait(&self, now: Mono) -> bool {
        self.rest_left_ms(now).is_some() || self.waits_since().is_some()
    }

    /// This card was put in while it has to wait, and gets the power then.
    pub(super) fn is_next_card(&mut self, uid: CardUid) {
        if self.waits_since().is_none() {
            self.room = Room::Gives;
        }
        self.is_next(PowerSource::Card(uid));
    }

    /// Its turn has come. If it was away meanwhile, the card may have been taken out unseen: it gets nothing unless the box shows it again.
    pub fn has_turn(&mut self, at: &At<'_>, out: &mut Actions) {
        let (Some(_), Power::Off { next: Some(next), mismatch }) = (self.waits_since(), self.power) else { return };
        let is_unseen = next.card().is_some_and(|uid| !self.shows(uid));
        match if is_unseen { self.put_in(at).map(PowerSource::Card) } else { Some(next) } {
            Some(next) => self.switch_on_next(next, false, at, out),
            None => {
                self.power = Power::Off { next: None, mismatch };
                self.room = Room::Gives;
                out.orders.push(Order::Off(OffCause::CardLeft));
            }
        }
    }

    /// A card that waits for the room, that the box still shows, and that may have power.
    fn put_in(&self, at: &At<'_>) -> Option<CardUid> {
        self.slots.values().find_map(|occupant| match occupant {
            Occupant::Card { uid, shown: true, waits: true, .. } if at.may(*uid) => Some(*uid),
            Occupant::Card { .. } | Occupant::Unread(_) => None,
        })
    }

    /// It is switched on now.
    pub(super) fn switches_on(&mut self, at: &At<'_>) {
        self.ordered_at = Some(at.now);
        self.off_unread = true;
        while self.switched_on.len() >= at.max_per_min.clamp(1, usize::from(ENERGISED_KEPT_MAX)) {
            self.switched_on.pop_front();
        }
        self.switched_on.push_back(at.now);
    }

    /// When it was switched on last in this run.
    #[must_use]
    pub fn switched_on_at(&self) -> Option<Mono> {
        self.switched_on.back().copied()
    }

    /// Its relay is read off now, or an order off that it can receive is given now: a relay that may have been on until now rests from
    /// now.
    pub(super) fn rests_from_now(&mut self, at: &At<'_>) {
        if self.off_unread {
            self.rest_until = self.rest_until.max(at.now.plus_ms(at.rest_ms));
        }
        if let (Room::Returns { .. }, true) = (self.room, self.rest_until > at.now) {
            self.room = Room::Rests;
        }
    }

    /// Until when it rests if it is switched off now: as long as the room wants it, and until it may be switched on again.
    pub(super) fn rest_end(&self, at: &At<'_>) -> Mono {
        let is_full = at.max_per_min > 0 && self.switched_on.len() >= at.max_per_min;
        let first = self.switched_on.front().filter(|_| is_full);
        let free_at = first.map_or(at.now, |first| first.plus_ms(ENERGISE_WINDOW_MS));
        at.now.plus_ms(at.rest_ms).max(free_at)
    }

    /// Whoever was to get the power at the end of the rest may not any more: another card that was put in may, or nobody. A device
    /// that waits by itself is ordered off.
    pub(super) fn withdraw(&mut self, cause: OffCause, at: &At<'_>, out: &mut Actions) {
        let other = self.cards().find(|(uid, presented)| *presented && at.may(*uid));
        if other.is_none() {
            self.wait_after(cause, at);
        }
        if let Power::Off { next, .. } = &mut self.power {
            *next = other.map(|(uid, _)| PowerSource::Card(uid));
        }
        if other.is_none() {
            if matches!(self.room, Room::Rests | Room::Returns { .. }) {
                self.room = Room::Gives;
            }
            self.room_after(cause);
            out.orders.push(Order::Off(cause));
        }
    }

    pub(super) fn rest_over(&mut self, next: PowerSource, at: &At<'_>, out: &mut Actions) {
        match self.room {
            Room::Rests => self.room = Room::Returns { since: at.now },
            Room::Returns { .. } => {}
            Room::Gives | Room::Withholds => self.switch_on_next(next, next != PowerSource::Remote, at, out),
        }
    }

    fn switch_on_next(&mut self, next: PowerSource, announced: bool, at: &At<'_>, out: &mut Actions) {
        match (at.rights)(next) {
            Ok(grant) => {
                self.switches_on(at);
                out.orders.push(Order::On { grant, announced });
                self.on_by(next, out);
            }
            Err(denial) => self.withdraw(OffCause::Denied(denial.reason), at, out),
        }
    }
}
