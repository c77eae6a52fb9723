//! The reference model: every rule of a decision by its definition, by looking through everything that was ever received (here) and
//! everything that ever happened (`history.rs`). Slow, without memory of its own, and so without an order in which things could arrive.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use dormgate::access::change::{Op, PortalSet, Subject, SuspendReason};
use dormgate::access::credential::{Enrolment, Entitlement, Flag, Role, ZoneSet};
use dormgate::access::id::{CardUid, Holder, Revision, ScheduleName, Timestamp, Zone};
use dormgate::access::policy::{AfterStale, Policy, StaffPower};
use dormgate::access::portal::{Portal, PortalKind, Posture};
use dormgate::access::schedule::Window;

/// All ops ever received, each with its revision.
pub type Received = [(Revision, Op)];

pub fn newest<'h, T>(received: &'h Received, pick: impl Fn(Revision, &'h Op) -> Option<T>) -> Option<(Revision, T)> {
    received.iter().filter_map(|(r, op)| Some((*r, pick(*r, op)?))).max_by_key(|(r, _)| *r)
}

pub fn birth_of(op: &Op, card: CardUid) -> Option<&Holder> {
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

pub fn register(received: &Received, card: CardUid) -> Option<(Revision, Option<&Enrolment>)> {
    newest(received, |_, op| match op {
        Op::Enrol { uid, enrolment } if *uid == card => Some(Some(enrolment)),
        Op::Withdraw { subject: Subject::Card(uid) } if *uid == card => Some(None),
        _ => None,
    })
}

/// Whose a card is: to whom it was issued last, or else enrolled.
pub fn holder_of(received: &Received, card: CardUid) -> Option<&Holder> {
    let issued_to = newest(received, |_, op| birth_of(op, card)).map(|(_, holder)| holder);
    issued_to.or_else(|| register(received, card)?.1.map(|e| &e.holder))
}

/// Whether the flag is in force: the newest op that reaches the card decides.
pub fn has(received: &Received, card: CardUid, flag: Flag) -> bool {
    let birth = received.iter().filter(|(_, op)| birth_of(op, card).is_some()).map(|(r, _)| *r).min();
    let holder = holder_of(received, card);
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
pub fn is_named(received: &Received, card: CardUid) -> bool {
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

/// The minute of now in Shanghai, which is 8 h ahead of UTC all year, since 1970.
pub fn local_minute(now: Timestamp) -> i64 {
    now.0.div_euclid(60_000) + 8 * 60
}

/// The windows of a schedule that begin on this day or the one before, from the first minute since 1970 to that behind the last.
pub fn windows(received: &Received, schedule: &ScheduleName, day: i64) -> Vec<(i64, i64)> {
    let defined = newest(received, |_, op| match op {
        Op::DefineSchedule { name, schedule: defined } if name == schedule => Some(defined),
        _ => None,
    });
    let of_day = |day: i64| {
        let (_, schedule) = defined?;
        // 1970-01-01 was a Thursday.
        let weekday = usize::try_from((day + 3).rem_euclid(7)).unwrap();
        let is_date = |date: String| Timestamp(day * 86_400_000).to_string().starts_with(&date);
        let holiday = schedule.holidays.iter().find(|holiday| is_date(holiday.date.to_string()));
        Some((day, holiday.map_or(&schedule.weekly[weekday], |holiday| &holiday.windows)))
    };
    let laid_out = |(day, windows): (i64, &Vec<Window>)| {
        let minutes = windows.iter().map(|window| (i64::from(window.start_min), i64::from(window.end_min)));
        let over_night = |(start, end)| if end <= start { (start, end + 1440) } else { (start, end) };
        minutes.map(over_night).map(|(start, end)| (day * 1440 + start, day * 1440 + end)).collect::<Vec<_>>()
    };
    [day - 1, day].into_iter().filter_map(of_day).flat_map(laid_out).collect()
}

/// Until which minute a schedule is open that is open now; windows that touch are one.
pub fn open_until(received: &Received, schedule: &ScheduleName, now: Timestamp) -> Option<i64> {
    let mut minute = local_minute(now);
    let next = |minute: i64| {
        let all = windows(received, schedule, minute.div_euclid(1440)).into_iter();
        all.filter(|(start, end)| (*start..*end).contains(&minute)).map(|(_, end)| end).max()
    };
    let first = next(minute)?;
    minute = first;
    while let Some(end) = next(minute).filter(|end| end - first < 1440) {
        minute = end;
    }
    Some(minute)
}

/// Whether a schedule is open.
pub fn is_open(received: &Received, schedule: &ScheduleName, now: Timestamp) -> bool {
    let minute = local_minute(now);
    windows(received, schedule, minute.div_euclid(1440)).iter().any(|(start, end)| (*start..*end).contains(&minute))
}

fn is_suspended(received: &Received, zone: &Zone, reason: SuspendReason) -> bool {
    let last = newest(received, |_, op| match op {
        Op::Power { zone: z, reason: why, suspended } if (z, *why) == (zone, reason) => Some(*suspended),
        _ => None,
    });
    last.is_some_and(|(_, suspended)| suspended)
}

/// Everything that stands against a card inwards at a portal by what was received, and whether an entitlement's own schedule lets it
/// in. `outdated`: no center has confirmed the list for too long. `end`: of an enrolment that names none.
pub fn against(
    (received, policy): (&Received, &Policy),
    card: CardUid,
    portal: &Portal,
    (posture, now): (Posture, Timestamp),
    (outdated, end): (bool, Option<Timestamp>),
) -> (Vec<&'static str>, bool) {
    let (is_box, enrolment) = (portal.kind == PortalKind::PowerBox, enrolled(received, card));
    let unknown = !is_named(received, card)
        && (register(received, card).is_none() || (policy.require_issue && enrolment.is_some()));
    let role = enrolment.filter(|_| !unknown).map_or(Role::Resident, |e| e.role);
    let too_old = policy.after_stale == AfterStale::DenyEntry || role != Role::Resident;
    let closed =
        posture == Posture::OutOfService || (outdated && too_old && policy.after_stale_kinds.contains(portal.kind));
    let not_open = |schedule: &Option<ScheduleName>| schedule.as_ref().is_some_and(|s| !is_open(received, s, now));
    let is_against = |reason: SuspendReason| is_box && is_suspended(received, &portal.zone, reason);
    let (staff, maintenance) = (role == Role::Staff, is_against(SuspendReason::Maintenance));
    let here = |e: &&Entitlement| e.zone == ZoneSet::Any || e.zone == ZoneSet::One(portal.zone.clone());
    let of_kind = || enrolment.iter().flat_map(|e| &e.entitlements).filter(|e| e.kind == portal.kind);
    let kept_out = role == Role::Visitor && !policy.visitor_kinds.contains(portal.kind);
    let entitlement = match enrolment {
        _ if kept_out => Some("no_entitlement"),
        _ if of_kind().next().is_none() => Some("not_enrolled"),
        _ if of_kind().find(here).is_none() => Some("no_entitlement"),
        Some(e) if e.not_before.is_some_and(|start| now < start) => Some("not_yet_valid"),
        Some(e) if e.not_after.or(end).is_some_and(|end| now >= end) => Some("expired"),
        _ if of_kind().filter(here).all(|e| not_open(&e.schedule)) => Some("outside_schedule"),
        _ => None,
    };
    let others = [SuspendReason::Arrears, SuspendReason::Overload, SuspendReason::RestrictedLoad];
    let all = [
        (closed, "out_of_service"),
        (posture == Posture::Lockdown && !staff, "lockdown"),
        (unknown, "unknown_credential"),
        (!unknown && has(received, card, Flag::Replaced), "replaced"),
        (!unknown && has(received, card, Flag::Cancelled), "cancelled"),
        (!unknown && has(received, card, Flag::Lost), "lost"),
        (!unknown && has(received, card, Flag::Frozen) && !policy.frozen_may.contains(portal.kind), "frozen"),
        (!unknown && entitlement.is_some(), entitlement.unwrap_or_default()),
        (!unknown && is_box && not_open(&portal.power_hours), "outside_schedule"),
        (!unknown && ((maintenance && !staff) || others.into_iter().any(is_against)), "power_suspended"),
        (
            !unknown && is_box && staff && policy.staff_power == StaffPower::Maintenance && !maintenance,
            "maintenance_only",
        ),
    ];
    let by_schedule =
        entitlement.is_none() && of_kind().filter(here).any(|e| e.schedule.is_some() && !not_open(&e.schedule));
    (all.into_iter().filter(|(is, _)| *is).map(|(_, reason)| reason).collect(), by_schedule)
}

/// The reason on the wire for a card inwards at `portal` by what was received; default policy but for `require_issue`.
pub fn judge(received: &Received, card: CardUid, portal: &Portal, now: Timestamp, require_issue: bool) -> &'static str {
    let (posture, policy) = (posture(received, portal, now), Policy { require_issue, ..Policy::default() });
    let (against, _) = against((received, &policy), card, portal, (posture, now), (false, None));
    match posture {
        Posture::Fire if portal.kind != PortalKind::PowerBox => "fire",
        Posture::FreeAccess if portal.kind != PortalKind::PowerBox => "free_access",
        _ => against.first().copied().unwrap_or("granted"),
    }
}

/// Whether the card could open anything at all from `now` on.
pub fn could_open(received: &Received, card: CardUid, now: Timestamp, require_issue: bool) -> bool {
    let opens = |e: &Enrolment| e.entitlements.iter().any(|x| e.role != Role::Visitor || x.kind == PortalKind::Gate);
    let ended = |e: &Enrolment| e.not_after.is_some_and(|end| now >= end) || !opens(e);
    enrolled(received, card).is_some_and(|e| !ended(e))
        && !Flag::ALL.iter().copied().any(|flag| has(received, card, flag))
        && (is_named(received, card) || !require_issue)
}
