//! One op of a change message, read from JSON with every diagnostic named, and written as JSON for the reference center.

use serde_json::{Map, Value, json};

use super::fields::Fields;
use super::limits::{ENTITLEMENTS_MAX, PORTALS_MAX};
use super::may::{MaySet, OpName};
use super::spelling::hint;
use super::text::quote;
use super::{schedule, time};
use crate::access::change::{ErrorCode, Op, OpError, PortalSet, Subject, SuspendReason};
use crate::access::credential::{Enrolment, Entitlement, Flag, Role, ZoneSet};
use crate::access::portal::{PortalKind, Posture};

/// Reads the op at `place` of a message of a stream that may report `may`.
pub(super) fn parse(value: &Value, place: u32, may: MaySet) -> Result<Op, OpError> {
    let fields = Fields::of(value, format!("ops[{place}]"), Some(place))?;
    let name = name(&fields)?;
    if !may.contains(name) {
        let what = format_args!("this stream may not report `{name}`; another stream owns it").to_string();
        return Err(fields.error(ErrorCode::ForbiddenOp, "op", what));
    }
    match name {
        OpName::Issue => Ok(Op::Issue { uid: fields.lasting_uid("uid")?, holder: fields.parsed("holder")? }),
        OpName::Reissue => Ok(Op::Reissue {
            holder: fields.parsed("holder")?,
            new_uid: fields.lasting_uid("new_uid")?,
            old_uid: fields.get("old_uid").map(|_| fields.uid("old_uid")).transpose()?,
        }),
        OpName::ReportLost => set(&fields, Flag::Lost, true),
        OpName::Found => set(&fields, Flag::Lost, false),
        OpName::Freeze => set(&fields, Flag::Frozen, true),
        OpName::Unfreeze => set(&fields, Flag::Frozen, false),
        OpName::Cancel => set(&fields, Flag::Cancelled, true),
        OpName::Reinstate => Ok(Op::Reinstate { uid: fields.uid("uid")? }),
        OpName::Enrol => Ok(Op::Enrol { uid: fields.lasting_uid("uid")?, enrolment: enrolment(&fields)? }),
        OpName::Withdraw => Ok(Op::Withdraw { subject: subject(&fields)? }),
        OpName::SuspendPower => power(&fields, true),
        OpName::ResumePower => power(&fields, false),
        OpName::DefineSchedule => {
            Ok(Op::DefineSchedule { name: fields.parsed("name")?, schedule: schedule::parse(&fields)? })
        }
        OpName::SetPosture => Ok(Op::SetPosture {
            portals: portals(&fields)?,
            posture: fields.choice("posture", &Posture::ALL, Posture::as_str)?,
            until: fields.date_if("until")?,
        }),
        OpName::Command => Err(unknown(&fields, name.as_str())),
    }
}

fn name(fields: &Fields<'_>) -> Result<OpName, OpError> {
    let text = fields.text("op")?;
    text.parse().ok().filter(|name| *name != OpName::Command).ok_or_else(|| unknown(fields, text))
}

fn unknown(fields: &Fields<'_>, text: &str) -> OpError {
    let known = OpName::ALL.iter().filter(|op| **op != OpName::Command).map(|op| op.as_str());
    fields.error(ErrorCode::UnknownOp, "op", format_args!("{} is no op; {}", quote(text), hint(text, known)))
}

fn set(fields: &Fields<'_>, flag: Flag, on: bool) -> Result<Op, OpError> {
    Ok(Op::SetFlag { subject: subject(fields)?, flag, on })
}

fn subject(fields: &Fields<'_>) -> Result<Subject, OpError> {
    match (fields.get("uid"), fields.get("holder")) {
        (Some(_), None) => Ok(Subject::Card(fields.uid("uid")?)),
        (None, Some(_)) => Ok(Subject::Holder(fields.parsed("holder")?)),
        // They mean different things, so neither is guessed.
        (Some(_), Some(_)) => Err(fields.invalid("holder", "give either `uid` or `holder`, not both")),
        (None, None) => Err(fields.invalid("uid", "is missing; give `uid` or `holder`")),
    }
}

fn power(fields: &Fields<'_>, suspended: bool) -> Result<Op, OpError> {
    let reason = fields.choice("reason", &SuspendReason::ALL, SuspendReason::as_str)?;
    Ok(Op::Power { zone: fields.parsed("zone")?, reason, suspended })
}

fn portals(fields: &Fields<'_>) -> Result<PortalSet, OpError> {
    let items = match fields.need("portals")? {
        Value::String(star) if star == "*" => return Ok(PortalSet::All),
        Value::Array(items) if matches!(items.as_slice(), [Value::String(star)] if star == "*") => {
            return Ok(PortalSet::All);
        }
        Value::Array(_) => fields.list("portals", PORTALS_MAX)?,
        _ => return Err(fields.invalid("portals", "a list of portals or `*` is wanted")),
    };
    if items.is_empty() {
        return Err(fields.invalid("portals", "names no portal; name some, or `*` for all"));
    }
    let portal = |item: &Value| {
        let text = item.as_str().ok_or_else(|| fields.invalid("portals", "each portal is text in quotes"))?;
        text.parse().map_err(|_| {
            let what = format!("{} is no portal's name; write names only, or `*` alone for all", quote(text));
            fields.invalid("portals", what)
        })
    };
    Ok(PortalSet::Some(items.iter().map(portal).collect::<Result<_, _>>()?))
}

/// The enrolment of an object with `holder`, `entitlements`, `not_before`, `not_after`, `role`.
fn enrolment(fields: &Fields<'_>) -> Result<Enrolment, OpError> {
    let holder = fields.parsed("holder")?;
    let mut entitlements = Vec::new();
    for (at, item) in fields.list("entitlements", ENTITLEMENTS_MAX)?.iter().enumerate() {
        let place = format!("{}[{at}]", fields.place("entitlements"));
        entitlements.push(entitlement(&Fields::of(item, place, fields.op())?)?);
    }
    let role = fields.choice_if("role", &Role::ALL, Role::as_str)?.unwrap_or_default();
    let (not_before, not_after) = (fields.date_if("not_before")?, fields.date_if("not_after")?);
    if let (Some(from), Some(to)) = (not_before, not_after)
        && to <= from
    {
        let what = format!("is not later than `not_before` (`{}`); the card would never be valid", time::format(from));
        return Err(fields.invalid("not_after", what));
    }
    Ok(Enrolment { holder, role, not_before, not_after, entitlements })
}

fn entitlement(fields: &Fields<'_>) -> Result<Entitlement, OpError> {
    let kind = fields.choice("kind", &PortalKind::ALL, PortalKind::as_str)?;
    let zone = if fields.text("zone")? == "*" { ZoneSet::Any } else { ZoneSet::One(fields.parsed("zone")?) };
    Ok(Entitlement { kind, zone, schedule: fields.parsed_if("schedule")? })
}

/// The name of an op; `None` for a flag that no op of the contract writes so (clearing `cancelled`, setting `replaced`).
#[must_use]
pub fn name_of(op: &Op) -> Option<OpName> {
    Some(match op {
        Op::Issue { .. } => OpName::Issue,
        Op::Reissue { .. } => OpName::Reissue,
        Op::SetFlag { flag: Flag::Lost, on: true, .. } => OpName::ReportLost,
        Op::SetFlag { flag: Flag::Lost, on: false, .. } => OpName::Found,
        Op::SetFlag { flag: Flag::Frozen, on: true, .. } => OpName::Freeze,
        Op::SetFlag { flag: Flag::Frozen, on: false, .. } => OpName::Unfreeze,
        Op::SetFlag { flag: Flag::Cancelled, on: true, .. } => OpName::Cancel,
        Op::SetFlag { flag: Flag::Cancelled, on: false, .. } | Op::SetFlag { flag: Flag::Replaced, .. } => return None,
        Op::Reinstate { .. } => OpName::Reinstate,
        Op::Enrol { .. } => OpName::Enrol,
        Op::Withdraw { .. } => OpName::Withdraw,
        Op::Power { suspended: true, .. } => OpName::SuspendPower,
        Op::Power { suspended: false, .. } => OpName::ResumePower,
        Op::DefineSchedule { .. } => OpName::DefineSchedule,
        Op::SetPosture { .. } => OpName::SetPosture,
    })
}

/// The op as a center writes it; `None` as for [`name_of`].
#[must_use]
pub fn to_json(op: &Op) -> Option<Value> {
    let name = name_of(op)?;
    let mut value = match op {
        Op::Issue { uid, holder } => json!({ "uid": uid.to_string(), "holder": holder.as_str() }),
        Op::Reissue { holder, new_uid, old_uid } => {
            let mut value = json!({ "holder": holder.as_str(), "new_uid": new_uid.to_string() });
            put(&mut value, "old_uid", old_uid.map(|uid| json!(uid.to_string())));
            value
        }
        Op::SetFlag { subject, .. } | Op::Withdraw { subject } => match subject {
            Subject::Card(uid) => json!({ "uid": uid.to_string() }),
            Subject::Holder(holder) => json!({ "holder": holder.as_str() }),
        },
        Op::Reinstate { uid } => json!({ "uid": uid.to_string() }),
        Op::Enrol { uid, enrolment } => {
            let mut value = enrolment_json(enrolment);
            put(&mut value, "uid", Some(json!(uid.to_string())));
            value
        }
        Op::Power { zone, reason, .. } => json!({ "zone": zone.as_str(), "reason": reason.as_str() }),
        Op::DefineSchedule { name, schedule } => {
            let mut value = Value::Object(schedule::print(schedule));
            put(&mut value, "name", Some(json!(name.as_str())));
            value
        }
        Op::SetPosture { portals, posture, until } => {
            let portals = match portals {
                PortalSet::All => json!("*"),
                PortalSet::Some(list) => list.iter().map(|p| p.as_str()).collect(),
            };
            let mut value = json!({ "portals": portals, "posture": posture.as_str() });
            put(&mut value, "until", until.map(|t| json!(time::format(t))));
            value
        }
    };
    put(&mut value, "op", Some(json!(name.as_str())));
    Some(value)
}

fn enrolment_json(enrolment: &Enrolment) -> Value {
    let entitlements = enrolment.entitlements.iter().map(|one| {
        let zone = match &one.zone {
            ZoneSet::Any => "*",
            ZoneSet::One(zone) => zone.as_str(),
        };
        let mut value = json!({ "kind": one.kind.as_str(), "zone": zone });
        put(&mut value, "schedule", one.schedule.as_ref().map(|s| json!(s.as_str())));
        value
    });
    let mut value = json!({
        "holder": enrolment.holder.as_str(),
        "role": enrolment.role.as_str(),
        "entitlements": entitlements.collect::<Vec<_>>(),
    });
    put(&mut value, "not_before", enrolment.not_before.map(|t| json!(time::format(t))));
    put(&mut value, "not_after", enrolment.not_after.map(|t| json!(time::format(t))));
    value
}

fn put(object: &mut Value, key: &str, value: Option<Value>) {
    if let (Some(map), Some(value)) = (object.as_object_mut().map(|m: &mut Map<String, Value>| m), value) {
        map.insert(key.to_owned(), value);
    }
}
