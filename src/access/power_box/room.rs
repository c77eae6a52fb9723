//! What a power box waits for while it is off: its rest, how often it is switched on, and power that comes back to its room, one box
//! after another.

use super::super::id::{CardUid, Mono};
use super::actions::{Actions, At, OffCause, Order, PowerSource, is_of_room};
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
    /// The box has its turn, and waits for it.
    Returns,
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

    /// A card was put in, and nothing but the room is against it.
    pub(super) fn waits_for_room(&mut self) {
        if self.claim().is_none() {
            self.room = Room::Withholds;
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

    /// Power may be back in the room: a card that was put in and that the box still shows takes its turn.
    pub(super) fn room_may_give(&mut self, at: &At<'_>, out: &mut Actions) {
        if self.room != Room::Withholds {
            return;
        }
        let put_in = |(uid, presented): &(CardUid, bool)| *presented && self.shows(*uid) && at.may(*uid);
        let Some((uid, _)) = self.cards().find(put_in) else { return };
        let is_rested = self.rest_until <= at.now;
        self.is_next(PowerSource::Card(uid));
        self.room = Room::Rests;
        if is_rested {
            self.take_turn(at, out);
        }
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

    /// Its rest is over: it waits until the boxes before it are on. Whether it has to.
    fn take_turn(&mut self, at: &At<'_>, out: &mut Actions) -> bool {
        let turn = at.again_from.max(at.now);
        self.rest_until = turn;
        self.room = Room::Returns;
        out.turn = Some(turn);
        turn > at.now
    }

    /// It is switched on now.
    pub(super) fn switches_on(&mut self, at: &At<'_>) {
        self.ordered_at = Some(at.now);
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
        if let Power::Off { next, .. } = &mut self.power {
            *next = other.map(|(uid, _)| PowerSource::Card(uid));
        }
        if other.is_none() {
            self.room_after(cause);
            out.orders.push(Order::Off(cause));
        }
    }

    pub(super) fn rest_over(&mut self, next: PowerSource, at: &At<'_>, out: &mut Actions) {
        if self.room == Room::Rests && self.take_turn(at, out) {
            return;
        }
        match (at.rights)(next) {
            Ok(grant) => {
                self.switches_on(at);
                let announced = next != PowerSource::Remote && self.room != Room::Returns;
                out.orders.push(Order::On { grant, announced });
                self.on_by(next, out);
            }
            Err(denial) => self.withdraw(OffCause::Denied(denial.reason), at, out),
        }
    }
}
