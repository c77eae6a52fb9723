//! The ladder: may this card pass here, now? Pure: every fact is handed in, and there is always an answer.
//!
//! All rungs are judged, top to bottom (wire contract, section 6); the first reason found is the answer, the others go to
//! the audit's `also`. Whatever the rungs find, leaving is never refused; fire and free access open gates and doors.

use enumset::{EnumSet, EnumSetType};

use super::calendar::Calendar;
use super::change::SuspendReason;
use super::credential::{CardMark, DEAD, Flag, Role};
use super::decision::{Decision, Denial, Grant, GrantFlag, GrantFlags, GrantReason, Reason, Reasons};
use super::id::{CardUid, ClockTrust, Now, ScheduleName, Timestamp};
use super::input::{Presented, Request};
use super::list::{AccessList, CardView, EnrolmentView, Lookup};
use super::policy::{AfterHours, FirePower, Policy, Severity, StaffPower, UntrustedClock};
use super::portal::{Assurance, Direction, Portal, PortalKind, Posture};
use super::trip::Trip;

/// How far the list may be trusted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ListIntegrity {
    /// All of it.
    #[default]
    Complete,
    /// It is being filled for the first time: a card that the card office has not named yet is unknown.
    Bootstrapping,
    /// Data was lost and is being asked for: no card is known.
    Damaged,
}

/// What the ladder reads.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The list.
    pub list: &'a AccessList,
    /// How far it may be trusted.
    pub integrity: ListIntegrity,
    /// The schedules.
    pub calendar: &'a Calendar,
    /// The site's choices.
    pub policy: &'a Policy,
    /// The portal's effective posture.
    pub posture: Posture,
    /// The portal is a power box that tripped and stays off yet.
    pub trip: Option<Trip>,
    /// The list was not confirmed for `policy.stale_after_s` or longer.
    pub stale_list: bool,
    /// Nor for `policy.after_stale_s`.
    pub outdated_list: bool,
    /// The time.
    pub now: Now,
}

/// The question.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// Where; `None`: no portal of this gateway.
    pub portal: Option<&'a Portal>,
    /// What was presented.
    pub presented: &'a Presented,
    /// Which way, as the reader reports.
    pub direction: Option<Direction>,
    /// A retained copy or otherwise too old.
    pub stale: bool,
    /// How it was read.
    pub assurance: Assurance,
    /// What was observed before of the portal and the card.
    pub observed: Observed,
}

impl<'a> Question<'a> {
    /// What a request asks at this portal.
    #[must_use]
    pub fn of(request: &'a Request, portal: Option<&'a Portal>, observed: Observed) -> Self {
        let Request { presented, direction, stale, assurance, .. } = request;
        Self { portal, presented, direction: *direction, stale: *stale, assurance: *assurance, observed }
    }
}

/// What was observed of a portal and a card before a presentation. It concerns presentations only: a right that stands, such as that
/// of a power box that is on, is judged without it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// So many requests were denied at the portal that it refuses everybody for a while.
    pub locked_out: bool,
    /// How it counts that the card passes twice in one direction; `Off`: it does not, or that does not count.
    pub anti_passback: Severity,
    /// How it counts that the card seems to be in two places; `Off`: it does not, or that does not count.
    pub clone: Severity,
    /// It is a visitor's, on the way in, and nobody who is no visitor was granted here shortly before.
    pub unescorted: bool,
    /// The portal wants two cards, and this is not the second.
    pub first_of_two: bool,
    /// A portal with which this one is interlocked is open, or released.
    pub interlocked: bool,
}

/// Whom the list knows behind what was presented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identified {
    /// This card; a whole UID is one also if the list does not know it.
    Card(CardUid),
    /// Nobody: a lossy reader reported something that no known card makes it report.
    Nobody,
    /// Several cards: a lossy reader cannot distinguish them.
    Several,
    /// Nothing that a card reports.
    Malformed,
}

impl Identified {
    /// The card, if it is one.
    #[must_use]
    pub fn card(self) -> Option<CardUid> {
        match self {
            Self::Card(uid) => Some(uid),
            Self::Nobody | Self::Several | Self::Malformed => None,
        }
    }
}

/// Whom `list` knows behind what was presented.
#[must_use]
pub fn identify(list: &AccessList, presented: &Presented) -> Identified {
    match presented {
        Presented::Card(uid) => Identified::Card(*uid),
        Presented::Lossy(reading) => match list.lookup(*reading) {
            Lookup::One(uid) => Identified::Card(uid),
            Lookup::None => Identified::Nobody,
            Lookup::Several => Identified::Several,
        },
        Presented::Malformed(_) => Identified::Malformed,
    }
}

/// What the ladder writes into sets.
trait AddIf<T> {
    fn add_if(&mut self, is_so: bool, what: T);
}

impl<T: EnumSetType> AddIf<T> for EnumSet<T> {
    fn add_if(&mut self, is_so: bool, what: T) {
        self.extend(is_so.then_some(what));
    }
}

/// Decides. Never fails: what is broken or undefined is a denial.
#[must_use]
pub fn decide(facts: &Facts<'_>, question: &Question<'_>) -> Decision {
    let identified = identify(facts.list, question.presented);
    let Judgement { reasons, late, holds_longer } = judge(facts, question, identified);
    let Some(portal) = question.portal else { return Decision::Deny(Denial::from_reasons(reasons)) };
    // Nothing old opens anything, not even outwards.
    if question.stale {
        return Decision::Deny(Denial::from_reasons(reasons));
    }
    let uid = identified.card();
    let hold_ms = if holds_longer { portal.extended_hold_ms } else { portal.hold_ms };
    let hold_ms = (portal.kind != PortalKind::PowerBox).then_some(hold_ms);
    let grant = |reason| Grant::new(portal.id.clone(), uid, reason, hold_ms);
    // Where nobody is refused, what is suspicious about the card is flagged all the same, and how old the list is.
    let mut suspicions = list_flags(facts);
    suspicions.add_if(question.observed.anti_passback == Severity::Flag, GrantFlag::SoftAntiPassback);
    suspicions.add_if(question.observed.clone == Severity::Flag, GrantFlag::CloneSuspected);
    let mut flags = suspicions;
    flags.add_if(late, GrantFlag::Late);
    if portal.kind == PortalKind::Gate && portal.direction.or(question.direction) == Some(Direction::Out) {
        return Decision::Grant(grant(GrantReason::Exit).with(suspicions, reasons));
    }
    match (portal.kind, facts.posture) {
        (PortalKind::Gate | PortalKind::Door, Posture::Fire) => {
            Decision::Grant(grant(GrantReason::Fire).with(suspicions, reasons))
        }
        (PortalKind::Gate | PortalKind::Door, Posture::FreeAccess) => {
            Decision::Grant(grant(GrantReason::FreeAccess).with(suspicions, reasons))
        }
        _ if reasons.is_empty() => Decision::Grant(grant(GrantReason::Granted).with(flags, reasons)),
        _ => Decision::Deny(Denial::from_reasons(reasons)),
    }
}

/// What every grant is flagged with, whoever it is for.
#[must_use]
pub fn list_flags(facts: &Facts<'_>) -> GrantFlags {
    let mut flags = GrantFlags::empty();
    flags.add_if(facts.stale_list, GrantFlag::StaleList);
    flags
}

/// What denies power at `portal` whoever asks for it: the posture, and power suspended in the room.
#[must_use]
pub fn against_power(facts: &Facts<'_>, portal: &Portal) -> Option<Denial> {
    let mut reasons = Reasons::empty();
    judge_posture(facts, Some(portal), Role::Resident, &mut reasons);
    judge_power(facts, portal, Role::Resident, &mut reasons);
    (!reasons.is_empty()).then(|| Denial::from_reasons(reasons))
}

/// What the rungs of the ladder find.
#[derive(Default)]
struct Judgement {
    /// Every reason against the card.
    reasons: Reasons,
    /// A grant is late.
    late: bool,
    /// The card's holder needs more time to pass.
    holds_longer: bool,
}

fn judge(facts: &Facts<'_>, question: &Question<'_>, identified: Identified) -> Judgement {
    let mut judgement = Judgement::default();
    let reasons = &mut judgement.reasons;
    reasons.add_if(question.portal.is_none(), Reason::UnknownPortal);
    reasons.add_if(question.stale, Reason::StaleRequest);
    reasons.add_if(question.observed.locked_out, Reason::LockedOut);
    reasons.add_if(question.observed.unescorted, Reason::EscortRequired);
    let enters = enters(facts, question);
    reasons.add_if(enters && question.observed.interlocked, Reason::Interlocked);
    let card = match identified {
        Identified::Card(uid) if uid.is_cascade_tag() => Err(Reason::MalformedIdentifier),
        Identified::Card(uid) => Ok(uid),
        Identified::Nobody => Err(Reason::UnknownCredential),
        Identified::Several => Err(Reason::AmbiguousIdentifier),
        Identified::Malformed => Err(Reason::MalformedIdentifier),
    };
    let uid = &match card {
        Ok(uid) => uid,
        Err(reason) => {
            reasons.insert(reason);
            judge_posture(facts, question.portal, Role::Resident, reasons);
            return judgement;
        }
    };
    reasons.add_if(uid.is_random(), Reason::RandomIdentifier);
    let card = known_card(facts, uid);
    let role = card.and_then(|card| role_at(facts, question.portal, &card)).unwrap_or_default();
    judge_posture(facts, question.portal, role, reasons);
    let Some(card) = card else {
        // A random UID is new at each presentation: that it is unknown adds nothing.
        reasons.add_if(!uid.is_random(), Reason::UnknownCredential);
        return judgement;
    };
    let standing = card.standing();
    reasons.add_if(standing.contains(Flag::Replaced), Reason::Replaced);
    reasons.add_if(standing.contains(Flag::Cancelled), Reason::Cancelled);
    reasons.add_if(standing.contains(Flag::Lost), Reason::Lost);
    let kind = question.portal.map(|p| p.kind);
    let frozen_may = kind.is_some_and(|k| facts.policy.frozen_may.contains(k));
    reasons.add_if(standing.contains(Flag::Frozen) && !frozen_may, Reason::Frozen);
    if let Some(portal) = question.portal {
        let mut enrolments = card.enrolments_for(portal.kind, facts.policy.reissue_keeps);
        judgement.holds_longer = enrolments.any(|enrolment| enrolment.marks().contains(CardMark::ExtendedHold));
        let by_schedule = judge_enrolments(facts, portal, &card, reasons);
        judge_power(facts, portal, role, reasons);
        reasons.add_if(question.assurance < portal.min_assurance, Reason::AssuranceTooLow);
        reasons.add_if(question.observed.anti_passback == Severity::Deny, Reason::AntiPassback);
        reasons.add_if(question.observed.clone == Severity::Deny, Reason::InUseElsewhere);
        reasons.add_if(enters && question.observed.first_of_two, Reason::SecondCardRequired);
        // Whoever the center allows in at this hour by name is not late.
        if !by_schedule && portal.direction.or(question.direction) != Some(Direction::Out) {
            judge_hours(facts, portal, role, &mut judgement);
        }
    }
    judgement
}

/// Whether it is a way in that cards decide: what two doors or two cards have to do with each other concerns no other.
fn enters(facts: &Facts<'_>, question: &Question<'_>) -> bool {
    let way = question.portal.and_then(|portal| portal.direction).or(question.direction);
    way != Some(Direction::Out) && !facts.posture.holds_open()
}

/// As whom a card is enrolled here; `None`: it is not enrolled.
fn role_at(facts: &Facts<'_>, portal: Option<&Portal>, card: &CardView<'_>) -> Option<Role> {
    let enrolment = match portal {
        Some(portal) => card.enrolments_for(portal.kind, facts.policy.reissue_keeps).next(),
        None => card.enrolment(),
    };
    enrolment.map(|enrolment| enrolment.role())
}

/// What denies power to everybody in the room, and to staff that does not work on its wiring.
fn judge_power(facts: &Facts<'_>, portal: &Portal, role: Role, reasons: &mut Reasons) {
    if portal.kind != PortalKind::PowerBox {
        return;
    }
    let closed = portal.power_hours.as_ref().and_then(|name| not_open(facts, name));
    reasons.extend(closed);
    let (site, zone, staff) = (&facts.list.site, &portal.zone, role == Role::Staff);
    let maintenance = site.is_suspended_for(zone, SuspendReason::Maintenance);
    // Who maintains the wiring needs power to try it.
    let beside = site.is_suspended_beside(zone, SuspendReason::Maintenance);
    let suspended = facts.trip.is_some() || beside || (maintenance && !staff);
    reasons.add_if(suspended, Reason::PowerSuspended);
    let only_maintenance = staff && facts.policy.staff_power == StaffPower::Maintenance;
    reasons.add_if(only_maintenance && !maintenance, Reason::MaintenanceOnly);
}

/// Whether a way in at this time is late, or denied.
fn judge_hours(facts: &Facts<'_>, portal: &Portal, role: Role, judgement: &mut Judgement) {
    let Some(reason) = portal.hours.as_ref().and_then(|name| not_open(facts, name)) else { return };
    match facts.policy.after_hours_of(role) {
        AfterHours::Allow => {}
        AfterHours::Deny => judgement.reasons |= reason,
        // A flag that nobody can be sure of is not set.
        AfterHours::Late => judgement.late = reason == Reason::OutsideSchedule,
    }
}

/// Why this schedule does not count as open; `None`: it does.
fn not_open(facts: &Facts<'_>, name: &ScheduleName) -> Option<Reason> {
    let (is_open, otherwise) = match (facts.now.clock, facts.policy.untrusted_clock) {
        (ClockTrust::Trusted, _) => (facts.calendar.is_open(name, facts.now.wall), Reason::OutsideSchedule),
        (ClockTrust::Untrusted, UntrustedClock::Grant) => (facts.calendar.defines(name), Reason::OutsideSchedule),
        (ClockTrust::Untrusted, UntrustedClock::Deny) => (false, Reason::ClockUntrusted),
    };
    (!is_open).then_some(otherwise)
}

/// What the posture has against anybody who comes in here.
#[must_use]
pub fn against_posture(facts: &Facts<'_>, portal: &Portal) -> Reasons {
    let mut reasons = Reasons::empty();
    judge_posture(facts, Some(portal), Role::Resident, &mut reasons);
    reasons
}

/// Whether the list is too old to let this card in here.
pub(super) fn is_outdated_for(facts: &Facts<'_>, portal: &Portal, card: Option<&CardView<'_>>) -> bool {
    let role = card.and_then(|card| role_at(facts, Some(portal), card)).unwrap_or_default();
    facts.outdated_list && facts.policy.denies_when_stale(portal.kind, role)
}

fn judge_posture(facts: &Facts<'_>, portal: Option<&Portal>, role: Role, reasons: &mut Reasons) {
    let Some(portal) = portal else { return };
    reasons.add_if(facts.outdated_list && facts.policy.denies_when_stale(portal.kind, role), Reason::OutOfService);
    match facts.posture {
        Posture::Secure | Posture::FreeAccess => {}
        Posture::OutOfService => *reasons |= Reason::OutOfService,
        Posture::Lockdown => reasons.add_if(role != Role::Staff, Reason::Lockdown),
        Posture::Fire => {
            let cut = portal.kind == PortalKind::PowerBox && facts.policy.fire_power == FirePower::Cut;
            reasons.add_if(cut, Reason::OutOfService);
        }
    }
}

/// The card, if the list knows it and may be trusted about it.
fn known_card<'a>(facts: &Facts<'a>, uid: &CardUid) -> Option<CardView<'a>> {
    // Many cards and copies have such a UID, so it is nobody's, whatever a list from before states of it.
    let card = facts.list.card(uid).filter(|_| !uid.is_commonplace())?;
    let trusted = match facts.integrity {
        ListIntegrity::Complete => card.is_named() || !facts.policy.require_issue,
        ListIntegrity::Bootstrapping => card.is_named(),
        // What is known against a card holds also in a damaged list; nothing that is known for it does.
        ListIntegrity::Damaged => !card.standing().is_disjoint(DEAD),
    };
    // A card that only an enrolment knows is what the rule above refers to; one that nothing enrols is simply not enrolled.
    (trusted || (card.enrolment().is_none() && facts.integrity != ListIntegrity::Damaged)).then_some(card)
}

/// How far one enrolment gets a card; the further, the better.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum EntitlementMatch {
    NoneOfKind,
    NotHere,
    NotNow(Reason),
    Here,
    /// By an entitlement whose own schedule is open.
    HereBySchedule,
}

/// Whether it is by an entitlement whose own schedule is open that the card may.
fn judge_enrolments(facts: &Facts<'_>, portal: &Portal, card: &CardView<'_>, reasons: &mut Reasons) -> bool {
    let enrolments = card.enrolments_for(portal.kind, facts.policy.reissue_keeps);
    let best = enrolments.map(|e| entitlement_match(facts, portal, &e)).max().unwrap_or(EntitlementMatch::NoneOfKind);
    match best {
        EntitlementMatch::NoneOfKind => *reasons |= Reason::NotEnrolled,
        EntitlementMatch::NotHere => *reasons |= Reason::NoEntitlement,
        EntitlementMatch::NotNow(reason) => *reasons |= reason,
        EntitlementMatch::Here | EntitlementMatch::HereBySchedule => {}
    }
    best == EntitlementMatch::HereBySchedule
}

fn entitlement_match(facts: &Facts<'_>, portal: &Portal, enrolment: &EnrolmentView<'_>) -> EntitlementMatch {
    if enrolment.role() == Role::Visitor && !facts.policy.visitor_kinds.contains(portal.kind) {
        return EntitlementMatch::NotHere;
    }
    let mut best = EntitlementMatch::NoneOfKind;
    for entitlement in enrolment.entitlements(portal.kind) {
        let this = if entitlement.covers(&portal.zone) {
            judge_time(facts, enrolment, entitlement.schedule())
        } else {
            EntitlementMatch::NotHere
        };
        best = best.max(this);
    }
    best
}

/// When an enrolment ends. A visitor's that names no end does so with the day on which it was made.
#[must_use]
pub fn end_of(calendar: &Calendar, enrolment: &EnrolmentView<'_>) -> Option<Timestamp> {
    enrolment.not_after().or_else(|| calendar.end_of_day(enrolment.made_on()?))
}

fn judge_time(facts: &Facts<'_>, enrolment: &EnrolmentView<'_>, schedule: Option<&ScheduleName>) -> EntitlementMatch {
    let (wall, end) = (facts.now.wall, end_of(facts.calendar, enrolment));
    let window = if enrolment.not_before().is_none() && end.is_none() {
        None
    } else if facts.now.clock == ClockTrust::Untrusted {
        (facts.policy.untrusted_clock == UntrustedClock::Deny).then_some(Reason::ClockUntrusted)
    } else if enrolment.not_before().is_some_and(|start| wall < start) {
        Some(Reason::NotYetValid)
    } else {
        end.is_some_and(|end| wall >= end).then_some(Reason::Expired)
    };
    match (window, schedule) {
        (Some(reason), _) => EntitlementMatch::NotNow(reason),
        (None, None) => EntitlementMatch::Here,
        (None, Some(name)) => match not_open(facts, name) {
            Some(reason) => EntitlementMatch::NotNow(reason),
            None => EntitlementMatch::HereBySchedule,
        },
    }
}
