//! The ops of a change message (wire contract, 2.3): one enum that is read and written, and what is wrong with an op beyond the form
//! of its fields.

use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;

use super::allowed::{AllowedOps, OpName};
use super::json::{self, Place, Wrong, all_right, at_most, invalid};
use super::limits::{ENTITLEMENTS_MAX, PORTALS_MAX};
use super::schedule::ScheduleBody;
use super::text::{hint, quote};
use crate::access::change::{ErrorCode, Op, OpError, PortalSet, Subject, SuspendReason};
use crate::access::credential::{CardMark, CardMarks, Enrolment, Entitlement, Flag, Role, ZoneSet};
use crate::access::id::{CardUid, Holder, ScheduleName, Timestamp, Zone, as_text};
use crate::access::portal::{PortalKind, Posture};

/// 2000-01-01: an earlier date in an op is a spreadsheet's day number or a clock that was never set.
const EARLIEST: Timestamp = Timestamp(946_684_800_000);

/// One op as it is written in a message.
#[derive(Debug, Serialize, Deserialize, strum::IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub(super) enum Body {
    Issue {
        uid: CardUid,
        holder: Holder,
    },
    Reissue {
        holder: Holder,
        new_uid: CardUid,
        #[serde(skip_serializing_if = "Option::is_none")]
        old_uid: Option<CardUid>,
    },
    ReportLost(SubjectBody),
    Found(SubjectBody),
    Freeze(SubjectBody),
    Unfreeze(SubjectBody),
    Cancel(SubjectBody),
    Reinstate {
        uid: CardUid,
    },
    Enrol(EnrolmentBody),
    Withdraw(SubjectBody),
    SuspendPower {
        zone: Zone,
        reason: SuspendReason,
    },
    ResumePower {
        zone: Zone,
        reason: SuspendReason,
    },
    DefineSchedule(ScheduleBody),
    SetPosture {
        portals: PortalsBody,
        posture: Posture,
        #[serde(skip_serializing_if = "Option::is_none")]
        until: Option<Timestamp>,
    },
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SubjectBody {
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<CardUid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    holder: Option<Holder>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged, expecting = "a list of portals or `*` is wanted")]
pub(super) enum PortalsBody {
    One(String),
    List(Vec<String>),
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct EnrolmentBody {
    pub uid: CardUid,
    pub holder: Holder,
    pub role: Option<Role>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub marks: Option<Vec<CardMark>>,
    pub entitlements: Vec<EntitlementBody>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_after: Option<Timestamp>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct EntitlementBody {
    kind: PortalKind,
    zone: ZoneText,
    #[serde(skip_serializing_if = "Option::is_none")]
    schedule: Option<ScheduleName>,
}

as_text! {
    /// A zone, or `*` for any.
    struct ZoneText(ZoneSet): "a zone, or `*`";
}

#[derive(Deserialize)]
#[serde(expecting = "an object with `op`")]
struct Tag<'t> {
    #[serde(borrow)]
    op: std::borrow::Cow<'t, str>,
}

/// How an op of a change message, or an entry of a snapshot, is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Judge<A> {
    /// On arrival, by what the stream is allowed.
    Arrival(A),
    /// From the journal: what was accepted once stays accepted, whatever the rules have become.
    Replay,
}

impl<A> Judge<A> {
    /// Checks what is refused on arrival only.
    pub fn check(&self, body: &Body) -> Result<(), Wrong> {
        match self {
            Self::Arrival(_) => body.check(),
            Self::Replay => Ok(()),
        }
    }
}

/// Reads the op at `place` of a message.
pub(super) fn parse(text: &str, place: u32, judge: Judge<AllowedOps>) -> Result<Op, OpError> {
    let place = Place::Op(place);
    let tag: Tag<'_> = json::read(text, place)?;
    let Some(name) = tag.op.parse().ok().filter(|name| *name != OpName::Command) else {
        let known = OpName::ALL.iter().filter(|op| **op != OpName::Command).map(|op| op.as_str());
        let what = format!("{} is not an op; {}", quote(&tag.op), hint(&tag.op, known));
        return Err(place.error(ErrorCode::UnknownOp, "op", what));
    };
    if let Judge::Arrival(allowed) = judge
        && !allowed.contains(name)
    {
        let what = format!("this stream is not allowed `{name}`: its `may` at the gateway does not name it");
        return Err(place.error(ErrorCode::ForbiddenOp, "op", what));
    }
    let body: Body = json::read_tagged(name.as_str(), text, place)?;
    body.judged(&judge).map_err(|wrong| place.wrong(wrong))
}

/// Judges an op that is to be written as a gateway judges it on arrival. `at`: its place in the message, for the error.
///
/// # Errors
/// What the gateway would refuse it for.
pub fn check(op: &Op, at: Option<u32>) -> Result<(), OpError> {
    let place = at.map_or(Place::Message, Place::Op);
    let Some(body) = Body::of(op) else {
        return Err(place.error(ErrorCode::UnknownOp, "op", "no op of the contract writes this flag so"));
    };
    body.judged(&Judge::Arrival(())).map(drop).map_err(|wrong| place.wrong(wrong))
}

impl Body {
    /// The op, if nothing is wrong with it.
    fn judged<A>(self, judge: &Judge<A>) -> Result<Op, Wrong> {
        judge.check(&self)?;
        if let Judge::Arrival(_) = judge {
            self.check_shared()?;
        }
        self.into_op()
    }

    fn check(&self) -> Result<(), Wrong> {
        let lasting = |field: &str, uid: &CardUid| {
            if uid.is_random() {
                let what = format!(
                    "`{uid}` is a random UID (4 bytes starting 08), new at each reading, as phones give; read the card itself"
                );
                return Err((ErrorCode::RandomUid, field.to_owned(), what));
            }
            Ok(())
        };
        let dated = |field: &str, time: &Option<Timestamp>| match time {
            Some(time) if *time < EARLIEST => Err(invalid(
                field,
                format!("`{time}` is before 2000-01-01; a day number of a spreadsheet is not a time"),
            )),
            Some(_) | None => Ok(()),
        };
        let whole = |field: &str, uid: Option<&CardUid>| match uid {
            Some(uid) if uid.is_cascade_tag() => {
                let what = format!(
                    "`{uid}` starts with 88, the cascade tag: it is the beginning of a longer UID; read all 7 bytes of the card"
                );
                Err((ErrorCode::InvalidUid, field.to_owned(), what))
            }
            Some(_) | None => Ok(()),
        };
        match self {
            Self::Issue { uid, .. } => whole("uid", Some(uid)).and_then(|()| lasting("uid", uid)),
            Self::Reissue { new_uid, old_uid, .. } => {
                whole("new_uid", Some(new_uid))?;
                whole("old_uid", old_uid.as_ref())?;
                lasting("new_uid", new_uid)
            }
            Self::Reinstate { uid } => whole("uid", Some(uid)),
            Self::ReportLost(subject)
            | Self::Found(subject)
            | Self::Freeze(subject)
            | Self::Unfreeze(subject)
            | Self::Cancel(subject)
            | Self::Withdraw(subject) => whole("uid", subject.uid.as_ref()),
            Self::Enrol(enrolment) => {
                whole("uid", Some(&enrolment.uid))?;
                lasting("uid", &enrolment.uid)?;
                dated("not_before", &enrolment.not_before)?;
                dated("not_after", &enrolment.not_after)?;
                at_most(enrolment.marks.as_deref().unwrap_or_default(), CardMark::ALL.len(), "marks")?;
                at_most(&enrolment.entitlements, ENTITLEMENTS_MAX, "entitlements")
            }
            Self::SetPosture { until, .. } => dated("until", until),
            Self::SuspendPower { .. } | Self::ResumePower { .. } | Self::DefineSchedule(_) => Ok(()),
        }
    }

    /// Refuses to issue or enrol a UID that many cards share. A snapshot may have one from before: it opens nothing, and refusing all of
    /// the snapshot for it would leave the building without a list.
    fn check_shared(&self) -> Result<(), Wrong> {
        let (field, uid) = match self {
            Self::Issue { uid, .. } => ("uid", uid),
            Self::Reissue { new_uid, .. } => ("new_uid", new_uid),
            Self::Enrol(enrolment) => ("uid", &enrolment.uid),
            _ => return Ok(()),
        };
        if uid.is_commonplace() {
            let what = format!(
                "`{uid}` is a UID that makers give to test cards and copies, so many cards have it; issue another card"
            );
            return Err((ErrorCode::InvalidUid, field.to_owned(), what));
        }
        Ok(())
    }

    fn into_op(self) -> Result<Op, Wrong> {
        let flag = |subject: SubjectBody, flag, on| Ok(Op::SetFlag { subject: subject.into_subject()?, flag, on });
        match self {
            Self::Issue { uid, holder } => Ok(Op::Issue { uid, holder }),
            Self::Reissue { holder, new_uid, old_uid } => Ok(Op::Reissue { holder, new_uid, old_uid }),
            Self::ReportLost(subject) => flag(subject, Flag::Lost, true),
            Self::Found(subject) => flag(subject, Flag::Lost, false),
            Self::Freeze(subject) => flag(subject, Flag::Frozen, true),
            Self::Unfreeze(subject) => flag(subject, Flag::Frozen, false),
            Self::Cancel(subject) => flag(subject, Flag::Cancelled, true),
            Self::Reinstate { uid } => Ok(Op::Reinstate { uid }),
            Self::Enrol(enrolment) => Ok(Op::Enrol { uid: enrolment.uid, enrolment: enrolment.into_enrolment()? }),
            Self::Withdraw(subject) => Ok(Op::Withdraw { subject: subject.into_subject()? }),
            Self::SuspendPower { zone, reason } => Ok(Op::Power { zone, reason, suspended: true }),
            Self::ResumePower { zone, reason } => Ok(Op::Power { zone, reason, suspended: false }),
            Self::DefineSchedule(body) => {
                Ok(Op::DefineSchedule { name: body.name.clone(), schedule: body.into_schedule()? })
            }
            Self::SetPosture { portals, posture, until } => {
                Ok(Op::SetPosture { portals: portals.into_set()?, posture, until })
            }
        }
    }

    /// `None` for a flag that no op of the contract writes so.
    fn of(op: &Op) -> Option<Self> {
        let flagged = |subject| SubjectBody::of(subject);
        Some(match op {
            Op::Issue { uid, holder } => Self::Issue { uid: *uid, holder: holder.clone() },
            Op::Reissue { holder, new_uid, old_uid } => {
                Self::Reissue { holder: holder.clone(), new_uid: *new_uid, old_uid: *old_uid }
            }
            Op::SetFlag { subject, flag: Flag::Lost, on: true } => Self::ReportLost(flagged(subject)),
            Op::SetFlag { subject, flag: Flag::Lost, on: false } => Self::Found(flagged(subject)),
            Op::SetFlag { subject, flag: Flag::Frozen, on: true } => Self::Freeze(flagged(subject)),
            Op::SetFlag { subject, flag: Flag::Frozen, on: false } => Self::Unfreeze(flagged(subject)),
            Op::SetFlag { subject, flag: Flag::Cancelled, on: true } => Self::Cancel(flagged(subject)),
            Op::SetFlag { flag: Flag::Cancelled | Flag::Replaced, .. } => return None,
            Op::Reinstate { uid } => Self::Reinstate { uid: *uid },
            Op::Enrol { uid, enrolment } => Self::Enrol(EnrolmentBody::of(*uid, enrolment)),
            Op::Withdraw { subject } => Self::Withdraw(flagged(subject)),
            Op::Power { zone, reason, suspended: true } => Self::SuspendPower { zone: zone.clone(), reason: *reason },
            Op::Power { zone, reason, suspended: false } => Self::ResumePower { zone: zone.clone(), reason: *reason },
            Op::DefineSchedule { name, schedule } => Self::DefineSchedule(ScheduleBody::of(name, schedule)),
            Op::SetPosture { portals, posture, until } => Self::SetPosture {
                portals: match portals {
                    PortalSet::All => PortalsBody::One("*".to_owned()),
                    PortalSet::Some(list) => PortalsBody::List(list.iter().map(ToString::to_string).collect()),
                },
                posture: *posture,
                until: *until,
            },
        })
    }
}

impl SubjectBody {
    fn of(subject: &Subject) -> Self {
        match subject {
            Subject::Card(uid) => Self { uid: Some(*uid), holder: None },
            Subject::Holder(holder) => Self { uid: None, holder: Some(holder.clone()) },
        }
    }

    fn into_subject(self) -> Result<Subject, Wrong> {
        match (self.uid, self.holder) {
            (Some(uid), None) => Ok(Subject::Card(uid)),
            (None, Some(holder)) => Ok(Subject::Holder(holder)),
            // They mean different things, so neither is guessed.
            (Some(_), Some(_)) => Err(invalid("holder", "give either `uid` or `holder`, not both")),
            (None, None) => Err(invalid("uid", "is missing; give `uid` or `holder`")),
        }
    }
}

impl PortalsBody {
    fn into_set(self) -> Result<PortalSet, Wrong> {
        let list = match self {
            Self::One(star) if star == "*" => return Ok(PortalSet::All),
            Self::One(_) => return Err(invalid("portals", "a list of portals or `*` is wanted")),
            Self::List(list) if list.len() == 1 && list.iter().all(|one| one == "*") => return Ok(PortalSet::All),
            Self::List(list) => list,
        };
        if list.is_empty() {
            return Err(invalid("portals", "names no portal; name some, or `*` for all"));
        }
        at_most(&list, PORTALS_MAX, "portals")?;
        let portal = |(at, name): (usize, &String)| {
            let what = || format!("{} is not a portal's name; write names only, or `*` alone for all", quote(name));
            name.parse().map_err(|_| invalid(format!("portals[{at}]"), what()))
        };
        Ok(PortalSet::Some(list.iter().enumerate().map(portal).collect::<Result<_, _>>()?))
    }
}

impl EnrolmentBody {
    pub fn of(uid: CardUid, enrolment: &Enrolment) -> Self {
        let Enrolment { holder, role, marks, not_before, not_after, entitlements } = enrolment;
        let entitlement = |one: &Entitlement| EntitlementBody {
            kind: one.kind,
            zone: ZoneText(one.zone.clone()),
            schedule: one.schedule.clone(),
        };
        Self {
            uid,
            holder: holder.clone(),
            role: Some(*role),
            marks: (!marks.is_empty()).then(|| marks.iter().collect()),
            entitlements: entitlements.iter().map(entitlement).collect(),
            not_before: *not_before,
            not_after: *not_after,
        }
    }

    pub fn into_enrolment(self) -> Result<Enrolment, Wrong> {
        if let (Some(from), Some(to)) = (self.not_before, self.not_after)
            && to <= from
        {
            let what = format!("is not later than `not_before` (`{from}`); the card would never be valid");
            return Err(invalid("not_after", what));
        }
        let entitlement =
            |one: EntitlementBody| Entitlement { kind: one.kind, zone: one.zone.0, schedule: one.schedule };
        Ok(Enrolment {
            holder: self.holder,
            role: self.role.unwrap_or_default(),
            marks: self.marks.into_iter().flatten().collect::<CardMarks>(),
            not_before: self.not_before,
            not_after: self.not_after,
            entitlements: self.entitlements.into_iter().map(entitlement).collect(),
        })
    }
}

/// An enrolment in JSON, as `enrol` has it.
#[must_use]
pub fn enrolment_body(uid: CardUid, enrolment: &Enrolment) -> impl Serialize + use<> {
    EnrolmentBody::of(uid, enrolment)
}

/// Reads a list of enrolments, each in JSON as [`enrolment_body`] writes it, and judged as one that arrives.
///
/// # Errors
/// What is wrong with each, at `cards[N].FIELD`; at most [`OP_ERRORS_MAX`](super::limits::OP_ERRORS_MAX) of them.
pub fn read_enrolments(text: &str) -> Result<Vec<(CardUid, Enrolment)>, Vec<OpError>> {
    let list: Vec<&RawValue> = json::read(text, Place::Message).map_err(|e| vec![e])?;
    let enrol = |(at, raw): (usize, &&RawValue)| {
        let place = Place::In("cards", at);
        let body = json::read_tagged::<Body>(OpName::Enrol.as_str(), raw.get(), place)?;
        match body.check().and_then(|()| body.into_op()).map_err(|wrong| place.wrong(wrong))? {
            Op::Enrol { uid, enrolment } => Ok((uid, enrolment)),
            _ => Err(place.error(ErrorCode::InvalidField, "", "cannot be read")),
        }
    };
    all_right(list.iter().enumerate().map(enrol)).map_err(|(errors, _)| errors)
}

/// The name of an op; `None` for a flag that no op of the contract writes so (clearing `cancelled`, setting `replaced`).
#[must_use]
pub fn name_of(op: &Op) -> Option<OpName> {
    let name: &'static str = (&Body::of(op)?).into();
    name.parse().ok()
}

/// An op as a center writes it.
pub(super) struct Written<'o>(pub &'o Op);

impl Serialize for Written<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let body =
            Body::of(self.0).ok_or_else(|| serde::ser::Error::custom("no op of the contract writes this flag so"))?;
        json::write_tagged("op", &body, serializer)
    }
}
