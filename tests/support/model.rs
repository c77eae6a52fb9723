//! The reference model: the rules of standing and enrolment reported from their definitions, by looking through everything that was
//! ever received. Slow, without memory of its own, and so without an order in which things could arrive.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::collections::BTreeSet;

use dormgate::access::change::{Op, PortalSet, Subject, SuspendReason};
use dormgate::access::credential::{Enrolment, Flag, Role, ZoneSet};
use dormgate::access::id::{CardUid, Holder, PortalId, Revision, Timestamp};
use dormgate::access::portal::{Portal, PortalKind, Posture};

/// All ops ever received, each with its revision.
pub type Received = [(Revision, Op)];

fn newest<'h, T>(received: &'h Received, pick: impl Fn(Revision, &'h Op) -> Option<T>) -> Option<(Revision, T)> {
    received.iter().filter_map(|(r, op)| Some((*r, pick(*r, op)?))).max_by_key(|(r, _)| *r)
}

fn birth_of(op: &Op, card: CardUid) -> Option<&Holder> {
    match op {
        Op::Issue { uid, holder } | Op::Reissue { new_uid: uid, holder, .. } if *uid == card => Some(holder),
        _ => None,
    }
}

/// The card's enrolment in force.
pub fn enrolled(received: &Received, card: CardUid) -> Option<&Enrolment> {
    let (at, enrolment) = register(received, card)?;
    let enrolment = enrolment?;
    let over =
        |r, op: &Op| matches!(op, Op::Withdraw { subject: Subject::Holder(h) } if *h == enrolment.holder && r > at);
    newest(received, |r, op| over(r, op).then_some(())).is_none().then_some(enrolment)
}

fn register(received: &Received, card: CardUid) -> Option<(Revision, Option<&Enrolment>)> {
    newest(received, |_, op| match op {
        Op::Enrol { uid, enrolment } if *uid == card => Some(Some(enrolment)),
        Op::Withdraw { subject: Subject::Card(uid) } if *uid == card => Some(None),
        _ => None,
    })
}

/// Whether the flag is in force: the newest op that reaches the card decides.
pub fn has(received: &Received, card: CardUid, flag: Flag) -> bool {
    let birth = received.iter().filter(|(_, op)| birth_of(op, card).is_some()).map(|(r, _)| *r).min();
    let issued_to = newest(received, |_, op| birth_of(op, card)).map(|(_, holder)| holder);
    let holder = issued_to.or_else(|| register(received, card)?.1.map(|e| &e.holder));
    let reached = |of: &Holder, r: Revision| Some(of) == holder && birth.is_none_or(|b| b < r);
    let replaced = flag == Flag::Replaced;
    let verdict = newest(received, |r, op| match op {
        Op::SetFlag { subject: Subject::Card(uid), flag: f, on } if *uid == card && *f == flag => Some(*on),
        Op::SetFlag { subject: Subject::Holder(h), flag: f, on } if *f == flag && reached(h, r) => Some(*on),
        Op::Reinstate { uid } if *uid == card && (replaced || flag == Flag::Cancelled) => Some(false),
        Op::Reissue { new_uid, .. } if replaced && *new_uid == card => Some(false),
        Op::Reissue { old_uid, .. } if replaced && *old_uid == Some(card) => Some(true),
        Op::Reissue { holder: h, .. } if replaced && reached(h, r) => Some(true),
        _ => None,
    });
    verdict.is_some_and(|(_, on)| on)
}

/// Whether the card office ever named the card by its UID.
fn is_named(received: &Received, card: CardUid) -> bool {
    received.iter().any(|(_, op)| match op {
        Op::SetFlag { subject: Subject::Card(uid), .. } | Op::Reinstate { uid } => *uid == card,
        Op::Reissue { old_uid, .. } if *old_uid == Some(card) => true,
        _ => birth_of(op, card).is_some(),
    })
}

/// The posture that the centers set.
pub fn posture(received: &Received, portal: &Portal, now: Timestamp) -> Posture {
    let set = newest(received, |_, op| match op {
        Op::SetPosture { portals: PortalSet::Some(ids), .. } if !ids.contains(&portal.id) => None,
        Op::SetPosture { posture, until, .. } => Some((*posture, *until)),
        _ => None,
    });
    set.filter(|(_, (_, until))| until.is_none_or(|u| now < u)).map_or(Posture::Secure, |(_, (p, _))| p)
}

/// The reason on the wire for a card inwards at `portal`; default policy but for `require_issue`.
pub fn judge(received: &Received, card: CardUid, portal: &Portal, now: Timestamp, require_issue: bool) -> &'static str {
    let posture = posture(received, portal, now);
    let is_box = portal.kind == PortalKind::PowerBox;
    let enrolment = enrolled(received, card);
    let unknown =
        !is_named(received, card) && (register(received, card).is_none() || (require_issue && enrolment.is_some()));
    let role = enrolment.filter(|_| !unknown).map_or(Role::Resident, |e| e.role);
    let of_kind: Vec<_> = enrolment.iter().flat_map(|e| &e.entitlements).filter(|e| e.kind == portal.kind).collect();
    let covers = |zone: &ZoneSet| *zone == ZoneSet::Any || *zone == ZoneSet::One(portal.zone.clone());
    let suspended = received.iter().any(|(r, op)| match op {
        Op::Power { zone, reason, suspended: true } => {
            *zone == portal.zone
                && newest(received, |_, o| {
                    matches!(o, Op::Power { zone: z, reason: why, .. } if (z, why) == (zone, reason)).then_some(())
                })
                .is_some_and(|(last, ())| last == *r)
        }
        _ => false,
    });
    match posture {
        Posture::Fire if !is_box => "fire",
        Posture::FreeAccess if !is_box => "free_access",
        Posture::OutOfService => "out_of_service",
        Posture::Lockdown if role != Role::Staff => "lockdown",
        _ if unknown => "unknown_credential",
        _ if has(received, card, Flag::Replaced) => "replaced",
        _ if has(received, card, Flag::Cancelled) => "cancelled",
        _ if has(received, card, Flag::Lost) => "lost",
        _ if has(received, card, Flag::Frozen) => "frozen",
        _ if of_kind.is_empty() => "not_enrolled",
        _ if !of_kind.iter().any(|e| covers(&e.zone)) => "no_entitlement",
        _ if enrolment.and_then(|e| e.not_before).is_some_and(|start| now < start) => "not_yet_valid",
        _ if enrolment.and_then(|e| e.not_after).is_some_and(|end| now >= end) => "expired",
        _ if is_box && suspended => "power_suspended",
        _ => "granted",
    }
}

/// Whether the card could open anything at all from `now` on.
pub fn could_open(received: &Received, card: CardUid, now: Timestamp, require_issue: bool) -> bool {
    let ended = |e: &Enrolment| e.not_after.is_some_and(|end| now >= end) || e.entitlements.is_empty();
    enrolled(received, card).is_some_and(|e| !ended(e))
        && !Flag::ALL.iter().copied().any(|flag| has(received, card, flag))
        && (is_named(received, card) || !require_issue)
}

/// The digest's lines of one stream (wire contract, 2.4), unsorted: of the standing of cards, or of all else.
pub fn lines(received: &Received, standing: bool) -> Vec<String> {
    let time = |at: Option<Timestamp>| at.map_or(String::new(), |at| at.0.div_euclid(1000).to_string());
    let flags = |on: &dyn Fn(Flag) -> bool| {
        Flag::ALL.iter().filter(|f| on(**f)).map(|f| f.as_str()).collect::<Vec<_>>().join(",")
    };
    let (mut cards, mut holders, mut zones, mut portals) =
        <(BTreeSet<_>, BTreeSet<_>, BTreeSet<_>, BTreeSet<_>)>::default();
    for (_, op) in received {
        match op {
            Op::Issue { uid, .. } | Op::Reinstate { uid } | Op::Enrol { uid, .. } => drop(cards.insert(*uid)),
            Op::Reissue { holder, new_uid, old_uid } => {
                cards.extend([Some(*new_uid), *old_uid].into_iter().flatten());
                holders.insert(holder);
            }
            Op::SetFlag { subject: Subject::Card(uid), .. } => drop(cards.insert(*uid)),
            Op::SetFlag { subject: Subject::Holder(holder), .. } => drop(holders.insert(holder)),
            Op::Power { zone, .. } => drop(zones.insert(zone)),
            Op::SetPosture { portals: PortalSet::Some(ids), .. } => portals.extend(ids),
            Op::Withdraw { .. } | Op::DefineSchedule { .. } | Op::SetPosture { .. } => {}
        }
    }
    let mut all = Vec::new();
    for card in cards.iter().copied() {
        let own: Vec<_> = received.iter().filter(|(_, op)| !is_by_holder(op) && names(op, card)).cloned().collect();
        if standing && is_named(received, card) {
            let holder = newest(received, |_, op| birth_of(op, card)).map_or("", |(_, holder)| holder.as_str());
            all.push(format!("S|{card}|{holder}|{}", flags(&|flag| has_own(&own, card, flag))));
        } else if let Some(e) = enrolled(received, card).filter(|_| !standing) {
            let mut rights: Vec<_> = e
                .entitlements
                .iter()
                .map(|e| {
                    let zone = if let ZoneSet::One(zone) = &e.zone { zone.as_str() } else { "*" };
                    format!("{}:{zone}:{}", e.kind.as_str(), e.schedule.as_ref().map_or("", |s| s.as_str()))
                })
                .collect();
            rights.sort();
            let (from, to) = (time(e.not_before), time(e.not_after));
            all.push(format!("E|{card}|{}|{}|{from}|{to}|{}", e.holder, e.role.as_str(), rights.join(",")));
        }
    }
    for holder in holders.into_iter().filter(|_| standing) {
        let set = |flag| {
            newest(received, |_, op| match op {
                Op::SetFlag { subject: Subject::Holder(h), flag: f, on } if h == holder && *f == flag => Some(*on),
                Op::Reissue { holder: h, .. } if h == holder && flag == Flag::Replaced => Some(true),
                _ => None,
            })
            .is_some_and(|(_, on)| on)
        };
        all.extend(Some(flags(&set)).filter(|f| !f.is_empty()).map(|f| format!("H|{holder}|{f}")));
    }
    for zone in zones.into_iter().filter(|_| !standing) {
        let on = |why: &SuspendReason| {
            newest(received, |_, op| match op {
                Op::Power { zone: z, reason, suspended } if z == zone && reason == why => Some(*suspended),
                _ => None,
            })
            .is_some_and(|(_, on)| on)
        };
        let mut why: Vec<_> = SuspendReason::ALL.iter().filter(|why| on(why)).map(|why| why.as_str()).collect();
        why.sort();
        all.extend((!why.is_empty()).then(|| format!("W|{zone}|{}", why.join(","))));
    }
    let set = |portal: Option<&PortalId>| {
        newest(received, |_, op| match (op, portal) {
            (Op::SetPosture { portals: PortalSet::All, posture, until }, None) => Some((*posture, *until)),
            (Op::SetPosture { portals: PortalSet::Some(ids), posture, until }, Some(id)) if ids.contains(id) => {
                Some((*posture, *until))
            }
            _ => None,
        })
    };
    let star = set(None).filter(|_| !standing);
    let star_is_secure = star.is_none_or(|(_, (posture, _))| posture == Posture::Secure);
    all.extend(star.filter(|_| !star_is_secure).map(|(_, (p, until))| format!("P|*|{}|{}", p.as_str(), time(until))));
    for portal in portals.into_iter().filter(|_| !standing) {
        let Some((r, (posture, until))) = set(Some(portal)) else { continue };
        if star.is_none_or(|(star, _)| r > star) && !(star_is_secure && posture == Posture::Secure) {
            all.push(format!("P|{portal}|{}|{}", posture.as_str(), time(until)));
        }
    }
    all
}

fn is_by_holder(op: &Op) -> bool {
    matches!(op, Op::SetFlag { subject: Subject::Holder(_), .. })
}

fn names(op: &Op, card: CardUid) -> bool {
    match op {
        Op::SetFlag { subject: Subject::Card(uid), .. } | Op::Reinstate { uid } => *uid == card,
        Op::Reissue { new_uid, old_uid, .. } => *new_uid == card || *old_uid == Some(card),
        _ => false,
    }
}

/// The card's own flag: what the newest op that names the card itself set.
fn has_own(own: &Received, card: CardUid, flag: Flag) -> bool {
    newest(own, |_, op| match op {
        Op::SetFlag { flag: f, on, .. } if *f == flag => Some(*on),
        Op::Reinstate { .. } if matches!(flag, Flag::Replaced | Flag::Cancelled) => Some(false),
        Op::Reissue { new_uid, .. } if flag == Flag::Replaced => Some(*new_uid != card),
        _ => None,
    })
    .is_some_and(|(_, on)| on)
}
