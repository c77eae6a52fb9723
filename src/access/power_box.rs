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

use std::collections::{BTreeMap, VecDeque};

use super::decision::{Denial, Grant, Reason};
use super::id::{CardUid, Mono};
use super::policy::RevokePower;
use super::transform::Reading;

/// How long after an order a report of relay or meter may still be that of before, in milliseconds.
pub const RELAY_SETTLE_MS: u64 = 3_000;
/// How often a box is switched on again within [`RELAY_AGAIN_WINDOW_MS`]; the next time its relay falls it is left off.
pub const RELAY_AGAIN_MAX: usize = 2;
/// The time in which [`RELAY_AGAIN_MAX`] counts, in milliseconds.
pub const RELAY_AGAIN_WINDOW_MS: u64 = 600_000;
/// Boxes are switched on again one after another, in milliseconds: when the mains come back, all boxes of a house report at once
/// that they are off, and lamps, kettles and chargers draw most at the first moment.
pub const AGAIN_STAGGER_MS: u64 = 150;

/// Power from which a box that is off has a load, in watts: more than its own electronics take, and about what a class 1 meter of
/// 5 A must begin to count at (0.4 % of that at 230 V are 4.6 W, IEC 62053-21).
pub const LOAD_W: f64 = 5.0;
/// Power below which an alarm of it is over, in watts: a load about [`LOAD_W`] is one alarm.
pub const LOAD_OVER_W: f64 = 2.5;
/// How long a box that is off must have a load before it is an alarm, in milliseconds: longer than a contactor and a meter's
/// average take.
pub const LOAD_MS: u64 = 10_000;

/// By what right a box is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    /// Whether this right holds here and now, and the grant by which the box may be switched on.
    pub rights: &'a dyn Fn(PowerSource) -> Result<Grant, Denial>,
}

impl At<'_> {
    fn denial(&self, source: PowerSource) -> Option<Denial> {
        (self.rights)(source).err()
    }

    fn may(&self, uid: CardUid) -> bool {
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
    /// On, or on by another right than before.
    On { by: PowerSource, detail: String },
    /// The relay was off without an order and was switched on again.
    OnAgain { by: PowerSource },
    /// Off; `by`: the right by which it was on, if it was known to be on.
    Off { by: Option<PowerSource>, cause: OffCause },
    /// Power and no card that may have it.
    PowerWithoutCard { uid: Option<CardUid>, detail: String },
    /// The relay fell without an order and is not switched on again.
    LeftOff { uid: Option<CardUid>, detail: String },
}

/// Who is in a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Occupant {
    /// A card.
    Card {
        uid: CardUid,
        /// It was put in, not only reported to be there.
        presented: bool,
        /// The box has shown it since it was last away.
        shown: bool,
    },
    /// What a lossy reader reports of a card that it cannot identify; it was raised.
    Unread(Reading),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Power {
    /// This run has neither switched the box nor been informed of its relay. It may be on by this permitted card in it.
    Unknown { by: Option<CardUid> },
    /// Ordered or reported off.
    Off {
        /// Not switched on before this moment.
        rest_until: Mono,
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

/// A load at a box that is off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum UnauthorisedLoad {
    #[default]
    None,
    /// Measured; an alarm at `alarm_at` unless it ends before.
    Suspected {
        alarm_at: Mono,
        watts: u32,
    },
    Alarmed,
}

/// One power box. See the module's head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PowerBox {
    slots: BTreeMap<u8, Occupant>,
    /// The card it was on by before a restart, until the box reports in which slot it is.
    remembered: Option<CardUid>,
    power: Power,
    /// Whether the relay is on, as last reported since the box was away; `None`: not known, which is neither.
    relay: Option<bool>,
    /// When it was last ordered to switch.
    ordered_at: Option<Mono>,
    load: UnauthorisedLoad,
    /// When it was switched on again after its relay fell, oldest first.
    again: VecDeque<Mono>,
}

impl Default for PowerBox {
    fn default() -> Self {
        Self {
            slots: BTreeMap::new(),
            remembered: None,
            power: Power::Unknown { by: None },
            relay: None,
            ordered_at: None,
            load: UnauthorisedLoad::None,
            again: VecDeque::new(),
        }
    }
}

impl PowerBox {
    /// A box that was on before a restart.
    #[must_use]
    pub fn remembered(by: PowerSource) -> Self {
        let power = Power::On { by, off_at: None, unexpected_off: UnexpectedOff::No };
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

    /// Whether a repeated grant to `uid` changes nothing: the box is on, or waits to be switched on, by a card that is in it.
    #[must_use]
    pub fn is_held_by(&self, uid: CardUid) -> bool {
        self.holds(uid) && (self.is_kept() || matches!(self.power, Power::Off { next: Some(_), .. }))
    }

    /// How long it still rests, in milliseconds; `None`: it may be switched on now.
    #[must_use]
    pub fn rest_left_ms(&self, now: Mono) -> Option<u64> {
        match self.power {
            Power::Off { rest_until, .. } if rest_until > now => Some(rest_until.since_ms(now)),
            Power::Off { .. } | Power::On { .. } | Power::Unknown { .. } => None,
        }
    }

    /// When [`PowerBox::time_passed`] is next due.
    #[must_use]
    pub fn due(&self) -> Option<Mono> {
        let (of_power, of_relay) = match self.power {
            Power::Unknown { .. } => (None, None),
            Power::Off { rest_until, next, mismatch } => (next.map(|_| rest_until), mismatch.judge_at),
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

    /// A card was put in and answered. A grant is the order to switch on, now or at the end of the rest.
    pub fn presented(&mut self, slot: u8, uid: CardUid, granted: bool, at: &At<'_>, out: &mut Actions) {
        self.put(slot, uid, true);
        if !granted {
            return self.holder_gone(at, out);
        }
        let resting = self.rest_left_ms(at.now).is_some();
        let claimant_is_in = self.claim().and_then(PowerSource::card).is_some_and(|card| self.holds(card));
        match &mut self.power {
            // The card that waits already keeps its place.
            Power::Off { next: Some(_), .. } if resting && claimant_is_in => {}
            Power::Off { next, .. } if resting => *next = Some(PowerSource::Card(uid)),
            Power::Off { .. } | Power::On { .. } | Power::Unknown { .. } => {
                self.ordered_at = Some(at.now);
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
            Some(card) if self.successor(card, at).is_none() => self.switch_off(OffCause::CardLeft, at, out),
            Some(_) | None => self.holder_gone(at, out),
        }
    }

    /// The box reports whether its relay is on.
    pub fn relay_reported(&mut self, on: bool, at: &At<'_>, out: &mut Actions) {
        self.relay = Some(on);
        let settles_at = self.ordered_at.map(|ordered| ordered.plus_ms(RELAY_SETTLE_MS)).filter(|end| *end > at.now);
        match (&mut self.power, on) {
            (Power::On { unexpected_off, .. }, true) => *unexpected_off = UnexpectedOff::No,
            (Power::On { unexpected_off: UnexpectedOff::Staggered { .. }, .. }, false) => {}
            (Power::On { unexpected_off, .. }, false) => {
                *unexpected_off = UnexpectedOff::Settling { judge_at: settles_at.unwrap_or(at.now) };
            }
            (Power::Off { mismatch, .. }, false) => *mismatch = RelayMismatch::default(),
            (Power::Unknown { .. }, false) => {
                self.power = Power::Off { rest_until: Mono(0), next: None, mismatch: RelayMismatch::default() };
            }
            (Power::Off { mismatch, .. }, true) if settles_at.is_some() => mismatch.judge_at = settles_at,
            (Power::Off { .. }, true) => self.relay_without_right(at, out),
            (Power::Unknown { .. }, true) => match self.first_that_may(at) {
                Some(uid) => self.on_by(PowerSource::Reported(uid), out),
                None => self.relay_without_right(at, out),
            },
        }
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

    /// The box does not answer: its relay is not known, and who is in it is only remembered until it reports that again.
    pub fn offline(&mut self) {
        self.relay = None;
        self.load_unknown();
        self.unexpected_off_is(UnexpectedOff::No);
        for occupant in self.slots.values_mut() {
            if let Occupant::Card { shown, .. } = occupant {
                *shown = false;
            }
        }
    }

    /// The box was away and may have missed the last order: one that is to be off and may be on is ordered off again.
    pub fn online(&mut self, may_be_on: bool, at: &At<'_>, out: &mut Actions) {
        let is_off = matches!(self.power, Power::Off { next: None, .. });
        if is_off && may_be_on && self.ordered_at.replace(at.now) != Some(at.now) {
            out.orders.push(Order::Off(self.cause_to_be_off(at)));
        }
    }

    /// A command switches on, now or at the end of the rest, unless something in the room forbids it.
    pub fn ordered_on(&mut self, at: &At<'_>, out: &mut Actions) {
        let resting = self.rest_left_ms(at.now).is_some();
        let Ok(grant) = (at.rights)(PowerSource::Remote) else { return };
        match &mut self.power {
            Power::Off { next, .. } if resting => *next = Some(PowerSource::Remote),
            Power::Off { .. } | Power::On { .. } | Power::Unknown { .. } => {
                self.ordered_at = Some(at.now);
                self.unexpected_off_is(UnexpectedOff::No);
                out.orders.push(Order::On { grant, announced: false });
                self.on_by(PowerSource::Remote, out);
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
        let Some(claim) = self.claim() else { return };
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
            Power::Off { rest_until, next: Some(next), .. } if *rest_until <= at.now => {
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
            Power::On { .. } if at.again_from > at.now => {
                self.unexpected_off_is(UnexpectedOff::Staggered { judge_at: at.again_from });
            }
            Power::On { by, .. } => self.switch_on_again(by, at, out),
        }
    }

    fn switch_on_again(&mut self, by: PowerSource, at: &At<'_>, out: &mut Actions) {
        let Ok(grant) = (at.rights)(by) else { return };
        while self.again.front().is_some_and(|when| at.now.since_ms(*when) >= RELAY_AGAIN_WINDOW_MS) {
            self.again.pop_front();
        }
        if self.again.len() >= RELAY_AGAIN_MAX {
            let why = format!("{RELAY_AGAIN_MAX} times in {} min is enough", RELAY_AGAIN_WINDOW_MS / 60_000);
            return self.leave_off(&why, at, out);
        }
        self.again.push_back(at.now);
        self.ordered_at = Some(at.now);
        self.unexpected_off_is(UnexpectedOff::No);
        out.orders.push(Order::On { grant, announced: false });
        out.notes.push(Note::OnAgain { by });
    }

    /// The box is off: a card put in again is judged as ever.
    fn leave_off(&mut self, why: &str, at: &At<'_>, out: &mut Actions) {
        let uid = self.source().and_then(PowerSource::card);
        self.switch_off(OffCause::RelayOff, at, out);
        let detail = format!(
            "the relay went off without an order and is not switched on again ({why}); look at its fuse and supply, then put the card in again"
        );
        out.notes.push(Note::LeftOff { uid, detail });
    }

    fn load_lasts(&mut self, watts: u32, at: &At<'_>, out: &mut Actions) {
        self.load = UnauthorisedLoad::Alarmed;
        self.ordered_at = Some(at.now);
        out.orders.push(Order::Off(self.cause_to_be_off(at)));
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
    fn load_unknown(&mut self) {
        if self.load != UnauthorisedLoad::Alarmed {
            self.load = UnauthorisedLoad::None;
        }
    }

    /// The cards in it, and whether each was put in.
    fn cards(&self) -> impl Iterator<Item = (CardUid, bool)> {
        let in_slots = self.slots.values().filter_map(|occupant| match occupant {
            Occupant::Card { uid, presented, .. } => Some((*uid, *presented)),
            Occupant::Unread(_) => None,
        });
        let presented = matches!(self.power, Power::On { by: PowerSource::Card(_), .. });
        in_slots.chain(self.remembered.map(|uid| (uid, presented)))
    }

    fn first_that_may(&self, at: &At<'_>) -> Option<CardUid> {
        self.cards().map(|(uid, _)| uid).find(|uid| at.may(*uid))
    }

    /// The box is on by a card that is in it, and no delay runs.
    fn is_kept(&self) -> bool {
        matches!(self.power, Power::On { by, off_at: None, .. } if by.card().is_some_and(|card| self.holds(card)))
    }

    /// Whether the box itself has shown `uid` since it was away.
    fn shows(&self, uid: CardUid) -> bool {
        let shown = |o: &Occupant| matches!(o, Occupant::Card { uid: card, shown: true, .. } if *card == uid);
        self.slots.values().any(shown)
    }

    fn put(&mut self, slot: u8, uid: CardUid, presented: bool) {
        // The presented card that the box is on by stays one when it comes back, or turns out to be in another slot.
        let known = match (&self.power, self.slots.get(&slot)) {
            (Power::On { by: PowerSource::Card(card), .. }, _) if *card == uid => true,
            (_, Some(Occupant::Card { uid: card, presented: was, .. })) => *card == uid && *was,
            (_, Some(Occupant::Unread(_)) | None) => false,
        };
        self.remembered = None;
        self.slots.insert(slot, Occupant::Card { uid, presented: presented || known, shown: true });
    }

    /// Nothing is in `slot`. Gives the card that was.
    fn empty(&mut self, slot: u8) -> Option<CardUid> {
        let remembered = self.remembered.take();
        let card = self.card_in(slot);
        self.slots.remove(&slot);
        card.or(remembered)
    }

    /// Handing over switches no relay on that reads off: only a presented card may take over then.
    fn may_take_over(&self, uid: CardUid) -> bool {
        let reads_off = matches!(self.power, Power::On { unexpected_off, .. } if unexpected_off != UnexpectedOff::No);
        !reads_off || self.cards().any(|card| card == (uid, true))
    }

    /// Another card in the box that may have power: by it the box stays on without a gap.
    fn successor(&self, of: CardUid, at: &At<'_>) -> Option<CardUid> {
        let mut others = self.cards().map(|(uid, _)| uid).filter(|uid| *uid != of);
        others.find(|uid| self.may_take_over(*uid) && at.may(*uid))
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

    /// A card that may not is in the box: one that is not on goes off, one that stays on for a while is raised all the same.
    fn stranger(&mut self, uid: Option<CardUid>, reason: Reason, detail: String, at: &At<'_>, out: &mut Actions) {
        self.holder_gone(at, out);
        match self.power {
            // Another right is in force or waits, or it is this card's own that ended and its delay runs.
            Power::On { by: PowerSource::Remote, .. } | Power::Off { next: Some(_), .. } => return,
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
        self.power = Power::On { by, off_at: None, unexpected_off };
        self.load = UnauthorisedLoad::None;
        if before != Some(by) {
            let before = before.and_then(PowerSource::card);
            let from = before.filter(|card| by.card().is_some_and(|next| next != *card));
            let detail = from.map_or(String::new(), |card| format!("handed over from {card}"));
            out.notes.push(Note::On { by, detail });
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

    /// Orders off and records nothing. A box that may have been on rests.
    fn order_off(&mut self, cause: OffCause, at: &At<'_>, out: &mut Actions) {
        let may_be_on = self.source().is_some() || self.relay != Some(false);
        let (rest_until, mismatch) = match self.power {
            Power::Off { rest_until, mismatch, .. } => (rest_until, mismatch),
            Power::Unknown { .. } | Power::On { .. } => (Mono(0), RelayMismatch::default()),
        };
        let rest_until = if may_be_on { at.now.plus_ms(at.rest_ms) } else { rest_until };
        self.power = Power::Off { rest_until, next: None, mismatch };
        self.ordered_at = Some(at.now);
        out.orders.push(Order::Off(cause));
    }

    /// Whoever was to get the power at the end of the rest may not any more: another card that was put in may, or nobody. A device
    /// that waits by itself is ordered off.
    fn withdraw(&mut self, cause: OffCause, at: &At<'_>, out: &mut Actions) {
        let other = self.cards().find(|(uid, presented)| *presented && at.may(*uid));
        if let Power::Off { next, .. } = &mut self.power {
            *next = other.map(|(uid, _)| PowerSource::Card(uid));
        }
        if other.is_none() {
            out.orders.push(Order::Off(cause));
        }
    }

    fn rest_over(&mut self, next: PowerSource, at: &At<'_>, out: &mut Actions) {
        match (at.rights)(next) {
            Ok(grant) => {
                self.ordered_at = Some(at.now);
                out.orders.push(Order::On { grant, announced: next != PowerSource::Remote });
                self.on_by(next, out);
            }
            Err(denial) => self.withdraw(OffCause::Denied(denial.reason), at, out),
        }
    }

    /// The relay is on without a right: ordered off each time, recorded and raised the first time.
    fn relay_without_right(&mut self, at: &At<'_>, out: &mut Actions) {
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

    fn cause_to_be_off(&self, at: &At<'_>) -> OffCause {
        let denial = self.cards().find_map(|(uid, _)| at.denial(PowerSource::Card(uid)));
        denial.map_or(OffCause::CardLeft, |denial| OffCause::Denied(denial.reason))
    }
}

/// Whether this is no loss of a card's right but a matter of the room, which waits for no delay.
fn is_at_once(denial: Denial) -> bool {
    let of_room =
        |r| matches!(r, Reason::OutOfService | Reason::Lockdown | Reason::PowerSuspended | Reason::OutsideSchedule);
    of_room(denial.reason) || denial.also.iter().any(of_room)
}
