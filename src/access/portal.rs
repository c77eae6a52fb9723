//! Portals: the things that are opened or energised, and their standing modes.

use std::ops::RangeInclusive;

use super::id::{PortalId, ScheduleName, Zone};

names! {
    /// What a portal is, and so how it is driven.
    #[derive(enumset::EnumSetType)]
    #[enumset(no_super_impls, repr = "u8")]
    pub enum PortalKind {
        /// A turnstile or building gate: released for a moment, has a direction.
        Gate,
        /// A room door: released for a moment.
        Door,
        /// A room's power box: energised as long as a permitted card sits in it.
        PowerBox,
    }
}

names! {
    /// Which way a person passes.
    pub enum Direction {
        /// Into the building.
        In,
        /// Out of it; never refused at a gate.
        Out,
    }
}

names! {
    /// How a card was read; a UID alone is weak evidence, because phones can clone it.
    #[derive(Default)]
    pub enum Assurance {
        /// The UID only.
        #[default]
        Uid,
        /// A key-protected sector was read.
        Sector,
        /// The card answered a cryptographic challenge.
        Crypto,
    }
}

names! {
    /// A portal's standing mode, weakest first, so that the strongest of several is their maximum.
    #[derive(Default)]
    pub enum Posture {
        /// Cards decide.
        #[default]
        Secure,
        /// Everybody passes; cards are still read for the audit.
        FreeAccess,
        /// Only staff enter.
        Lockdown,
        /// Nobody enters, staff included.
        OutOfService,
        /// Gates and doors are released.
        Fire,
    }
}

impl Posture {
    /// The Modbus code of the posture (wire contract, section 5, input register 5): its place in the order.
    #[must_use]
    pub fn code(self) -> u16 {
        self as u16
    }

    /// Whether it holds gates and doors open, so that anybody passes.
    #[must_use]
    pub fn holds_open(self) -> bool {
        matches!(self, Self::Fire | Self::FreeAccess)
    }
}

/// One portal as the rules see it; what it is wired to is the links' business.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Portal {
    /// Its id.
    pub id: PortalId,
    /// What it is.
    pub kind: PortalKind,
    /// The room or area it belongs to.
    pub zone: Zone,
    /// A gate's fixed direction; `None`: what the reader reports.
    pub direction: Option<Direction>,
    /// How long a release holds, in milliseconds.
    pub hold_ms: u32,
    /// How long a release holds for a card whose holder needs more time, in milliseconds.
    pub extended_hold_ms: u32,
    /// How long a power box stays on after the card left, in milliseconds.
    pub delay_off_ms: u32,
    /// The same card within this time is one presentation, in milliseconds; 0: every read is one.
    pub debounce_ms: u32,
    /// A door that stays open this long raises an alarm, in milliseconds; 0: never (IEC 60839-11-1 Table 2 recommends 10 s at least).
    pub held_open_ms: u32,
    /// How long a power box rests after it was switched off, before it may be switched on again, in milliseconds.
    pub rest_ms: u32,
    /// How long after an order to switch off its device may take to confirm that a power box is off, before that is an alarm, in
    /// milliseconds.
    pub off_confirmed_ms: u32,
    /// Whether its fire input puts the whole building in fire; `false`: it is reported and changes no posture.
    pub fire_input: bool,
    /// While this is open, a gate or door is in free access.
    pub free_access: Option<ScheduleName>,
    /// While this is closed, whoever enters at a gate or door is late; `None`: nobody is.
    pub hours: Option<ScheduleName>,
    /// While this is closed, a power box gives power to nobody; `None`: it always may.
    pub power_hours: Option<ScheduleName>,
    /// A power box trips when its meter measures more than this for [`Portal::overload_ms`], in watts; `None`: it does not.
    pub overload_w: Option<u32>,
    /// How long that has to last, in milliseconds.
    pub overload_ms: u32,
    /// A power box trips when the power that its meter measures rises by more than this at once, in watts; `None`: it does not.
    pub restricted_step_w: Option<u32>,
    /// Rises of power, in watts, of appliances that the site allows: they trip nothing although they are more than
    /// [`Portal::restricted_step_w`].
    pub allowed_steps_w: Vec<RangeInclusive<u32>>,
    /// How a card must be read here.
    pub min_assurance: Assurance,
    /// A second entry by the same card within this time is one too many at this gate, in milliseconds; 0: never.
    pub anti_passback_timed_ms: u64,
    /// Within this time after a first card a second of another holder opens this gate or door, in milliseconds; 0: one card opens it.
    pub two_card_ms: u32,
    /// While one of these gates and doors is open or released, nobody enters here.
    pub interlock: Vec<PortalId>,
    /// A window of [`Portal::free_access`] begins with the first card that is granted within it.
    pub first_card: bool,
}

impl Portal {
    /// A portal that holds for three seconds, and has none of the delays and rules that a site may choose.
    #[must_use]
    pub fn new(id: PortalId, kind: PortalKind, zone: Zone) -> Self {
        Self {
            id,
            kind,
            zone,
            direction: None,
            hold_ms: 3_000,
            extended_hold_ms: 6_000,
            delay_off_ms: 0,
            debounce_ms: 0,
            held_open_ms: 0,
            rest_ms: 0,
            off_confirmed_ms: 2_000,
            fire_input: true,
            free_access: None,
            hours: None,
            power_hours: None,
            overload_w: None,
            overload_ms: 0,
            restricted_step_w: None,
            allowed_steps_w: Vec::new(),
            min_assurance: Assurance::Uid,
            anti_passback_timed_ms: 0,
            two_card_ms: 0,
            interlock: Vec::new(),
            first_card: false,
        }
    }
}
