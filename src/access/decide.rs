//! The ladder: may this card pass here, now? Pure: every fact is handed in, and there is always an answer.
//!
//! All rungs are judged, top to bottom (wire contract, section 6); the first reason found is the answer, the others go to
//! the audit's `also`. Whatever the rungs find, leaving is never refused; fire and free access open gates and doors.

use super::credential::Role;
use super::decision::{Decision, Denial, Grant, GrantFlags, GrantReason, Reason, Reasons};
use super::id::{CardUid, ClockTrust, Now};
use super::input::Presented;
use super::list::{AccessList, CardView, EnrolmentView, Lookup};
use super::policy::{FirePower, Policy, UntrustedClock};
use super::portal::{Direction, Portal, PortalKind, Posture};

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
    /// The site's choices.
    pub policy: &'a Policy,
    /// The portal's effective posture.
    pub posture: Posture,
    /// The list was not confirmed for longer than `policy.stale_after_s`.
    pub stale_list: bool,
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

/// Decides. Never fails: what is broken or undefined is a denial.
#[must_use]
pub fn decide(facts: &Facts<'_>, question: &Question<'_>) -> Decision {
    let identified = identify(facts.list, question.presented);
    let reasons = judge(facts, question, identified);
    let Some(portal) = question.portal else { return Decision::Deny(Denial::from_reasons(reasons)) };
    // Nothing old opens anything, not even outwards.
    if question.stale {
        return Decision::Deny(Denial::from_reasons(reasons));
    }
    let uid = identified.card();
    let hold_ms = (portal.kind != PortalKind::PowerBox).then_some(portal.hold_ms);
    let grant = |reason| Grant::new(portal.id.clone(), uid, reason, hold_ms);
    let flags = GrantFlags { stale_list: facts.stale_list, ..GrantFlags::default() };
    if portal.kind == PortalKind::Gate && portal.direction.or(question.direction) == Some(Direction::Out) {
        return Decision::Grant(grant(GrantReason::Exit).with(GrantFlags::default(), reasons));
    }
    match (portal.kind, facts.posture) {
        (PortalKind::Gate | PortalKind::Door, Posture::Fire) => {
            Decision::Grant(grant(GrantReason::Fire).with(GrantFlags::default(), reasons))
        }
        (PortalKind::Gate | PortalKind::Door, Posture::FreeAccess) => {
            Decision::Grant(grant(GrantReason::FreeAccess).with(GrantFlags::default(), reasons))
        }
        _ if reasons.is_empty() => Decision::Grant(grant(GrantReason::Granted).with(flags, reasons)),
        _ => Decision::Deny(Denial::from_reasons(reasons)),
    }
}

/// What denies power at `portal` whoever asks for it: the posture, and power suspended in the room.
#[must_use]
pub fn against_power(facts: &Facts<'_>, portal: &Portal) -> Option<Denial> {
    let mut reasons = Reasons::NONE;
    judge_posture(facts, Some(portal), Role::Resident, &mut reasons);
    reasons.add_if(facts.list.site.power_suspended(&portal.zone), Reason::PowerSuspended);
    reasons.first().map(|_| Denial::from_reasons(reasons))
}

/// Every reason against the card, from all rungs of the ladder.
fn judge(facts: &Facts<'_>, question: &Question<'_>, identified: Identified) -> Reasons {
    let mut reasons = Reasons::NONE;
    reasons.add_if(question.portal.is_none(), Reason::UnknownPortal);
    reasons.add_if(question.stale, Reason::StaleRequest);
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
            reasons.add(reason);
            judge_posture(facts, question.portal, Role::Resident, &mut reasons);
            return reasons;
        }
    };
    reasons.add_if(uid.is_random(), Reason::RandomIdentifier);
    let card = known_card(facts, uid);
    let role = card.and_then(|c| c.enrolment()).map_or(Role::Resident, |e| e.role());
    judge_posture(facts, question.portal, role, &mut reasons);
    let Some(card) = card else {
        // A random UID is new at each presentation: that it is unknown adds nothing.
        reasons.add_if(!uid.is_random(), Reason::UnknownCredential);
        return reasons;
    };
    let standing = card.standing();
    reasons.add_if(standing.replaced, Reason::Replaced);
    reasons.add_if(standing.cancelled, Reason::Cancelled);
    reasons.add_if(standing.lost, Reason::Lost);
    let kind = question.portal.map(|p| p.kind);
    reasons.add_if(standing.frozen && !kind.is_some_and(|k| facts.policy.frozen_may.contains(k)), Reason::Frozen);
    if let Some(portal) = question.portal {
        judge_enrolments(facts, portal, &card, &mut reasons);
        let suspended = portal.kind == PortalKind::PowerBox && facts.list.site.power_suspended(&portal.zone);
        reasons.add_if(suspended, Reason::PowerSuspended);
    }
    reasons
}

fn judge_posture(facts: &Facts<'_>, portal: Option<&Portal>, role: Role, reasons: &mut Reasons) {
    let Some(portal) = portal else { return };
    match facts.posture {
        Posture::Secure | Posture::FreeAccess => {}
        Posture::OutOfService => reasons.add(Reason::OutOfService),
        Posture::Lockdown => reasons.add_if(role != Role::Staff, Reason::Lockdown),
        Posture::Fire => {
            let cut = portal.kind == PortalKind::PowerBox && facts.policy.fire_power == FirePower::Cut;
            reasons.add_if(cut, Reason::OutOfService);
        }
    }
}

/// The card, if the list knows it and may be trusted about it.
fn known_card<'a>(facts: &Facts<'a>, uid: &CardUid) -> Option<CardView<'a>> {
    let card = facts.list.card(uid)?;
    let trusted = match facts.integrity {
        ListIntegrity::Complete => card.is_named() || !facts.policy.require_issue,
        ListIntegrity::Bootstrapping => card.is_named(),
        // What is known against a card holds also in a damaged list; nothing that is known for it does.
        ListIntegrity::Damaged => card.standing().is_dead(),
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
}

fn judge_enrolments(facts: &Facts<'_>, portal: &Portal, card: &CardView<'_>, reasons: &mut Reasons) {
    let enrolments = card.enrolments_for(portal.kind, facts.policy.reissue_keeps);
    let best = enrolments.map(|e| entitlement_match(facts, portal, &e)).max().unwrap_or(EntitlementMatch::NoneOfKind);
    match best {
        EntitlementMatch::NoneOfKind => reasons.add(Reason::NotEnrolled),
        EntitlementMatch::NotHere => reasons.add(Reason::NoEntitlement),
        EntitlementMatch::NotNow(reason) => reasons.add(reason),
        EntitlementMatch::Here => {}
    }
}

fn entitlement_match(facts: &Facts<'_>, portal: &Portal, enrolment: &EnrolmentView<'_>) -> EntitlementMatch {
    let mut best = EntitlementMatch::NoneOfKind;
    for entitlement in enrolment.entitlements(portal.kind) {
        let this = if entitlement.covers(&portal.zone) {
            judge_time(facts, enrolment, entitlement.schedule().is_some())
        } else {
            EntitlementMatch::NotHere
        };
        best = best.max(this);
    }
    best
}

fn judge_time(facts: &Facts<'_>, enrolment: &EnrolmentView<'_>, has_schedule: bool) -> EntitlementMatch {
    let wall = facts.now.wall;
    let has_window = enrolment.not_before().is_some() || enrolment.not_after().is_some();
    if has_window || has_schedule {
        match (facts.now.clock, facts.policy.untrusted_clock) {
            (ClockTrust::Trusted, _) => {}
            (ClockTrust::Untrusted, UntrustedClock::Deny) => return EntitlementMatch::NotNow(Reason::ClockUntrusted),
            (ClockTrust::Untrusted, UntrustedClock::Grant) if !has_schedule => return EntitlementMatch::Here,
            (ClockTrust::Untrusted, UntrustedClock::Grant) => {}
        }
    }
    if enrolment.not_before().is_some_and(|start| wall < start) {
        EntitlementMatch::NotNow(Reason::NotYetValid)
    } else if enrolment.not_after().is_some_and(|end| wall >= end) {
        EntitlementMatch::NotNow(Reason::Expired)
    } else if has_schedule {
        // Schedules are kept, not yet evaluated; what cannot be judged denies.
        EntitlementMatch::NotNow(Reason::OutsideSchedule)
    } else {
        EntitlementMatch::Here
    }
}
