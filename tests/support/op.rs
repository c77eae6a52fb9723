//! Ops by their names on the wire, for tests. A subject is `uid:A` or a holder.

use super::*;

/// The stream that owns this op.
pub fn stream_of(op: &Op) -> &'static str {
    let standing = matches!(op, Op::Issue { .. } | Op::Reissue { .. } | Op::SetFlag { .. } | Op::Reinstate { .. });
    if standing { OFFICE } else { APARTMENT }
}

/// An enrolment: `what` is like `gate:* door:412 power_box:412@term`.
#[must_use]
pub fn enrolment(holder: &str, what: &str) -> Enrolment {
    let one = |text: &str| {
        let (kind, rest) = text.split_once(':').unwrap();
        let (zone, schedule) = rest.split_once('@').map_or((rest, None), |(z, s)| (z, Some(name(s))));
        let zone = if zone == "*" { ZoneSet::Any } else { ZoneSet::One(name(zone)) };
        Entitlement { kind: PortalKind::parse(kind).unwrap(), zone, schedule }
    };
    let entitlements = what.split_whitespace().map(one).collect();
    Enrolment::resident(name(holder), entitlements)
}

/// `uid:A` or a holder.
fn subject(text: &str) -> Subject {
    match text.strip_prefix("uid:") {
        Some(card) => Subject::Card(uid(card)),
        None => Subject::Holder(name(text)),
    }
}

pub fn issue(card: &str, holder: &str) -> Op {
    Op::Issue { uid: uid(card), holder: name(holder) }
}
pub fn reissue(holder: &str, new: &str, old: Option<&str>) -> Op {
    Op::Reissue { holder: name(holder), new_uid: uid(new), old_uid: old.map(uid) }
}
pub fn flag(who: &str, flag: Flag, on: bool) -> Op {
    Op::SetFlag { subject: subject(who), flag, on }
}
pub fn report_lost(who: &str) -> Op {
    flag(who, Flag::Lost, true)
}
pub fn found(who: &str) -> Op {
    flag(who, Flag::Lost, false)
}
pub fn freeze(who: &str) -> Op {
    flag(who, Flag::Frozen, true)
}
pub fn unfreeze(who: &str) -> Op {
    flag(who, Flag::Frozen, false)
}
pub fn cancel(who: &str) -> Op {
    flag(who, Flag::Cancelled, true)
}
pub fn reinstate(card: &str) -> Op {
    Op::Reinstate { uid: uid(card) }
}
pub fn enrol(card: &str, holder: &str, what: &str) -> Op {
    Op::Enrol { uid: uid(card), enrolment: enrolment(holder, what) }
}
/// Enrols a card with these marks.
pub fn enrol_marked(card: &str, holder: &str, what: &str, marks: CardMarks) -> Op {
    Op::Enrol { uid: uid(card), enrolment: Enrolment { marks, ..enrolment(holder, what) } }
}
#[must_use]
pub fn enrol_staff(card: &str, holder: &str, what: &str) -> Op {
    Op::Enrol { uid: uid(card), enrolment: Enrolment { role: Role::Staff, ..enrolment(holder, what) } }
}
pub fn withdraw(who: &str) -> Op {
    Op::Withdraw { subject: subject(who) }
}
pub fn power(zone: &str, suspended: bool) -> Op {
    Op::Power { zone: name(zone), reason: SuspendReason::Arrears, suspended }
}
/// `portals` is `*` or names.
pub fn posture(portals: &str, posture: Posture, until: Option<i64>) -> Op {
    let portals = match portals {
        "*" => PortalSet::All,
        names => PortalSet::Some(names.split_whitespace().map(name).collect()),
    };
    Op::SetPosture { portals, posture, until: until.map(Timestamp) }
}
/// A schedule with these windows every day, e.g. `06:00-23:00 23:30-00:30`.
#[must_use]
pub fn daily(windows: &str) -> Schedule {
    Schedule { weekly: std::array::from_fn(|_| windows.split_whitespace().map(name).collect()), ..Schedule::default() }
}
pub fn schedule(schedule: &str, windows: &str) -> Op {
    Op::DefineSchedule { name: name(schedule), schedule: daily(windows) }
}
