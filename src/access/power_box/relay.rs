//! What the relay and the meter of a power box report against what was ordered: a relay that falls or sticks, a load without a right.

use super::super::id::{CardUid, Mono};
use super::actions::{Actions, At, Note, OffCause, Order, PowerSource};
use super::{Power, PowerBox, RelayMismatch, UnexpectedOff};

/// How long after an order a report of relay or meter may still be that of before, in milliseconds.
pub const RELAY_SETTLE_MS: u64 = 3_000;
/// How often a box is switched on again within [`RELAY_AGAIN_WINDOW_MS`]; the next time its relay falls it is left off.
pub const RELAY_AGAIN_MAX: usize = 2;
/// The time in which [`RELAY_AGAIN_MAX`] counts, in milliseconds.
pub const RELAY_AGAIN_WINDOW_MS: u64 = 600_000;

/// Power from which a box that is off has a load, in watts: more than its own electronics take, and about what a class 1 meter of
/// 5 A must begin to count at (0.4 % of that at 230 V are 4.6 W, IEC 62053-21).
pub const LOAD_W: f64 = 5.0;
/// Power below which an alarm of it is over, in watts: a load about [`LOAD_W`] is one alarm.
pub const LOAD_OVER_W: f64 = 2.5;
/// How long a box that is off must have a load before it is an alarm, in milliseconds: longer than a contactor and a meter's
/// average take.
pub const LOAD_MS: u64 = 10_000;

/// A load at a box that is off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum UnauthorisedLoad {
    #[default]
    None,
    /// Measured; an alarm at `alarm_at` unless it ends before.
    Suspected {
        alarm_at: Mono,
        watts: u32,
    },
    Alarmed,
}

impl PowerBox {
    /// The box reports that its relay is on, and in the same report a card that it is not known to be off with: by that card it is on,
    /// if it may. What one that is back reports is of after the last order that it received.
    pub fn on_with(&mut self, newcomer: Option<CardUid>, is_back: bool, at: &At<'_>, out: &mut Actions) {
        let is_settled = is_back || self.ordered_at.is_none_or(|ordered| at.now.since_ms(ordered) >= RELAY_SETTLE_MS);
        if let (Power::Off { next: None, .. }, true) = (self.power, is_settled)
            && newcomer.is_some_and(|uid| at.may(uid))
        {
            self.power = Power::Unknown { by: None };
        }
        self.relay_reported(true, at, out);
    }

    /// The box reports whether its relay is on.
    pub fn relay_reported(&mut self, on: bool, at: &At<'_>, out: &mut Actions) {
        self.relay = Some(on);
        self.read_off(on, at);
        let settles_at = self.ordered_at.map(|ordered| ordered.plus_ms(RELAY_SETTLE_MS)).filter(|end| *end > at.now);
        match (&mut self.power, on) {
            (Power::On { by, unexpected_off, confirmed, .. }, true) => {
                *unexpected_off = UnexpectedOff::No;
                if !std::mem::replace(confirmed, true) {
                    out.notes.push(Note::On { by: *by, confirmed: true, detail: String::new() });
                }
            }
            (Power::On { unexpected_off: UnexpectedOff::Staggered { .. }, .. }, false) => {}
            (Power::On { unexpected_off, .. }, false) => {
                *unexpected_off = UnexpectedOff::Settling { judge_at: settles_at.unwrap_or(at.now) };
            }
            (Power::Off { mismatch, .. }, false) => *mismatch = RelayMismatch::default(),
            (Power::Unknown { .. }, false) => {
                self.power = Power::Off { next: None, mismatch: RelayMismatch::default() };
            }
            (Power::Off { mismatch, .. }, true) if settles_at.is_some() => mismatch.judge_at = settles_at,
            (Power::Off { .. }, true) => self.relay_without_right(at, out),
            (Power::Unknown { .. }, true) => match self.first_that_may(at) {
                Some(uid) => self.on_by(PowerSource::Reported(uid), out),
                None => self.relay_without_right(at, out),
            },
        }
    }

    /// Its rest begins when its relay is read off. A box that is to be on rests too, unless it was read on before: a relay that falls
    /// by itself was not switched off.
    fn read_off(&mut self, on: bool, at: &At<'_>) {
        let is_on = self.source().is_some();
        if on {
            self.off_unread = !is_on;
            return;
        }
        self.rests_from_now(at);
        // It may be from before the order that switches it on.
        self.off_unread &= is_on && self.ordered_at.is_some_and(|at_ms| at.now.since_ms(at_ms) < RELAY_SETTLE_MS);
    }

    /// Its own meter measures this; `None`: it measures, and the value is not known.
    pub fn load_measured(&mut self, power_w: Option<f64>, at: &At<'_>) {
        let alarmed = self.load == UnauthorisedLoad::Alarmed;
        let Some(power_w) = power_w.map(f64::abs) else { return self.load_unknown() };
        if self.source().is_some() || power_w < if alarmed { LOAD_OVER_W } else { LOAD_W } {
            self.load = UnauthorisedLoad::None;
            return;
        }
        // It may be from before the last order.
        if alarmed || self.ordered_at.is_some_and(|ordered| at.now.since_ms(ordered) < RELAY_SETTLE_MS) {
            return;
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "watts for a person; beyond the range they are cut"
        )]
        let watts = power_w.round() as u32;
        let alarm_at = match self.load {
            UnauthorisedLoad::Suspected { alarm_at, .. } => alarm_at,
            UnauthorisedLoad::None | UnauthorisedLoad::Alarmed => at.now.plus_ms(LOAD_MS),
        };
        self.load = UnauthorisedLoad::Suspected { alarm_at, watts };
    }

    /// The box was away and may have missed the last order: one that is to be off and may be on is ordered off again.
    pub fn online(&mut self, may_be_on: bool, at: &At<'_>, out: &mut Actions) {
        let is_off = matches!(self.power, Power::Off { next: None, .. });
        if is_off && may_be_on && self.ordered_at.replace(at.now) != Some(at.now) {
            self.rests_from_now(at);
            out.orders.push(Order::Off(self.cause_to_be_off(at)));
        }
    }

    /// Judges a box whose relay fell, if its time has come: it is switched on again, or off for the audit too, or waits until the box
    /// reports who is in it.
    pub fn judge_relay(&mut self, at: &At<'_>, out: &mut Actions) {
        let Power::On { unexpected_off, .. } = &mut self.power else { return };
        match *unexpected_off {
            UnexpectedOff::No => return,
            UnexpectedOff::Settling { judge_at } | UnexpectedOff::Staggered { judge_at } if judge_at > at.now => return,
            UnexpectedOff::Settling { .. } | UnexpectedOff::Staggered { .. } | UnexpectedOff::AwaitsCard => {
                *unexpected_off = UnexpectedOff::AwaitsCard;
            }
        }
        self.judge(at, out);
        match self.power {
            Power::Unknown { .. } | Power::Off { .. } => {}
            Power::On { by: PowerSource::Remote, .. } => self.leave_off("a command switches on once", at, out),
            // A delay runs: it goes off, or its card comes back and is judged then.
            Power::On { off_at: Some(_), .. } => {}
            Power::On { by, .. } if by.card().is_some_and(|uid| !self.shows(uid)) => {}
            Power::On { by: PowerSource::Reported(_), .. } => {
                self.leave_off("its card was reported, not put in", at, out);
            }
            // Only what is switched on makes the others wait: a relay that flaps keeps nobody off.
            Power::On { .. } if at.again_from.max(self.rest_until) > at.now => {
                let judge_at = at.again_from.max(self.rest_until);
                self.unexpected_off_is(UnexpectedOff::Staggered { judge_at });
            }
            Power::On { by, .. } => self.switch_on_again(by, at, out),
        }
    }

    pub(super) fn switch_on_again(&mut self, by: PowerSource, at: &At<'_>, out: &mut Actions) {
        let Ok(grant) = (at.rights)(by) else { return };
        while self.again.front().is_some_and(|when| at.now.since_ms(*when) >= RELAY_AGAIN_WINDOW_MS) {
            self.again.pop_front();
        }
        if self.again.len() >= RELAY_AGAIN_MAX {
            let why = format!("{RELAY_AGAIN_MAX} times in {} min is enough", RELAY_AGAIN_WINDOW_MS / 60_000);
            return self.leave_off(&why, at, out);
        }
        self.again.push_back(at.now);
        self.switches_on(at);
        self.unexpected_off_is(UnexpectedOff::No);
        if let Power::On { confirmed, .. } = &mut self.power {
            *confirmed = false;
        }
        out.orders.push(Order::On { grant, announced: false });
        out.notes.push(Note::OnAgain { by });
    }

    /// The box is off: a card put in again is judged as ever.
    pub(super) fn leave_off(&mut self, why: &str, at: &At<'_>, out: &mut Actions) {
        let uid = self.source().and_then(PowerSource::card);
        self.switch_off(OffCause::RelayOff, at, out);
        let detail = format!(
            "the relay went off without an order and is not switched on again ({why}); look at its fuse and supply, then put the card in again"
        );
        out.notes.push(Note::LeftOff { uid, detail });
    }

    pub(super) fn load_lasts(&mut self, watts: u32, at: &At<'_>, out: &mut Actions) {
        self.load = UnauthorisedLoad::Alarmed;
        self.ordered_at = Some(at.now);
        self.order_off_once_more(self.cause_to_be_off(at), at, out);
        // A relay that reads on without a right was raised already.
        if !matches!(self.power, Power::Off { mismatch: RelayMismatch { alarmed: true, .. }, .. }) {
            let uid = self.cards().next().map(|(uid, _)| uid);
            let detail = format!(
                "a load of {watts} W although the box is off; it was ordered off again: look for a bridge or a stuck relay"
            );
            out.notes.push(Note::PowerWithoutCard { uid, detail });
        }
    }

    /// Nothing is known of its load any more: a suspicion is dropped, an alarm is not raised again.
    pub(super) fn load_unknown(&mut self) {
        if self.load != UnauthorisedLoad::Alarmed {
            self.load = UnauthorisedLoad::None;
        }
    }

    /// Whether it was ordered on, now or at the end of its rest, and its relay was not reported on since: a report that the relay is
    /// off may be older than that order.
    #[must_use]
    pub fn awaits_on(&self) -> bool {
        matches!(self.power, Power::On { confirmed: false, .. } | Power::Off { next: Some(_), .. })
    }

    /// Whether it is on only until its delay ends.
    #[must_use]
    pub fn is_leaving(&self) -> bool {
        matches!(self.power, Power::On { off_at: Some(_), .. })
    }

    /// Orders off and records nothing. A box that may have been on rests.
    pub(super) fn order_off(&mut self, cause: OffCause, at: &At<'_>, out: &mut Actions) {
        let may_be_on = self.source().is_some() || self.relay != Some(false);
        self.wait_after(cause, at);
        self.room_after(cause);
        if may_be_on {
            self.rest_until = self.rest_end(at);
            self.off_unread |= self.relay != Some(false);
        }
        let mismatch = self.mismatch();
        // What was read before the order does not show that it is on after the next one.
        self.relay = self.relay.filter(|on| !on);
        self.power = Power::Off { next: None, mismatch };
        self.ordered_at = Some(at.now);
        out.orders.push(Order::Off(cause));
    }

    /// Orders off again what is off already. One of which nothing is read may be off since the order before.
    fn order_off_once_more(&mut self, cause: OffCause, at: &At<'_>, out: &mut Actions) {
        if self.relay == Some(true) {
            self.rests_from_now(at);
        }
        out.orders.push(Order::Off(cause));
    }

    /// Nobody confirms that it is off since `revoked` was: orders it off again, if it shall be.
    pub fn order_off_again(&mut self, revoked: Option<CardUid>, at: &At<'_>, out: &mut Actions) {
        match self.power {
            Power::Off { next: None, .. } | Power::Unknown { by: None } => {
                let denial = revoked.and_then(|uid| at.denial(PowerSource::Card(uid)));
                let cause = denial.map_or_else(|| self.cause_to_be_off(at), |denial| OffCause::Denied(denial.reason));
                self.order_off_once_more(cause, at, out);
            }
            // Whoever waits for the end of the rest gets the power in a moment.
            Power::Off { next: Some(_), .. } | Power::Unknown { by: Some(_) } | Power::On { .. } => {}
        }
    }

    /// The relay is on without a right: ordered off each time, recorded and raised the first time.
    pub(super) fn relay_without_right(&mut self, at: &At<'_>, out: &mut Actions) {
        let cause = self.cause_to_be_off(at);
        match self.power {
            // Whoever waits for the end of the rest gets the power in a moment.
            Power::Off { next: Some(_), .. } => return,
            Power::Off { mismatch: RelayMismatch { alarmed: true, .. }, .. } => self.order_off(cause, at, out),
            Power::Off { .. } | Power::On { .. } | Power::Unknown { .. } => {
                self.switch_off(cause, at, out);
                let detail = "the relay is on and no permitted card is in the box; it was ordered off".to_owned();
                out.notes.push(Note::PowerWithoutCard { uid: None, detail });
            }
        }
        if let Power::Off { mismatch, .. } = &mut self.power {
            *mismatch = RelayMismatch { judge_at: None, alarmed: true };
        }
    }
}
