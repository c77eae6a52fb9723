//! The digest's lines by their definition (wire contract, 2.4), beside the reference model and as it: from everything that was received.

use std::collections::{BTreeMap, BTreeSet};

use dormgate::access::change::{Op, PortalSet, Subject, SuspendReason};
use dormgate::access::credential::{Flag, ZoneSet};
use dormgate::access::id::{CardUid, PortalId, Timestamp};
use dormgate::access::portal::Posture;

use crate::model::{Received, birth_of, enrolled, is_named, newest};

/// The digest's lines of one stream (wire contract, 2.4), unsorted: of the standing of cards, or of all else.
pub fn lines(received: &Received, standing: bool) -> Vec<String> {
    let time = |at: Option<Timestamp>| at.map_or(String::new(), |at| at.0.div_euclid(1000).to_string());
    let flags = |on: &dyn Fn(Flag) -> bool| {
        Flag::ALL.iter().filter(|f| on(**f)).map(|f| f.as_str()).collect::<Vec<_>>().join(",")
    };
    let (mut cards, mut holders, mut zones, mut portals) =
        <(BTreeSet<_>, BTreeSet<_>, BTreeSet<_>, BTreeSet<_>)>::default();
    let mut schedules = BTreeMap::new();
    for (revision, op) in received {
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
            Op::DefineSchedule { name, .. } => {
                let newest = schedules.entry(name).or_insert(revision);
                *newest = revision.max(newest);
            }
            Op::Withdraw { .. } | Op::SetPosture { .. } => {}
        }
    }
    let schedules = schedules.into_iter().filter(|_| !standing);
    let mut all: Vec<_> = schedules.map(|(name, at)| format!("C|{name}|{}.{}", at.epoch, at.seq)).collect();
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
