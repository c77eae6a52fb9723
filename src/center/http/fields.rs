//! The fields of ops and cards in a body. One that is not known is refused: a misspelt `not_after` would enrol a card without an end.
//! Between center and gateway it is passed over, because one of the two may be older.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::failure::Failure;
use crate::wire::allowed::OpName;

/// The fields of an enrolment.
const ENROLMENT: &[&str] = &["uid", "holder", "role", "marks", "entitlements", "not_before", "not_after"];
/// The fields of what stands in a list within an op: its name, and theirs.
const WITHIN: &[(&str, &[&str])] =
    &[("entitlements", &["kind", "zone", "schedule"]), ("holidays", &["date", "windows"])];

/// The fields of an op beside `op`; `None`: it is published in no list of ops.
fn of_op(name: OpName) -> Option<&'static [&'static str]> {
    Some(match name {
        OpName::Issue => &["uid", "holder"],
        OpName::Reissue => &["holder", "new_uid", "old_uid"],
        OpName::ReportLost | OpName::Found | OpName::Freeze | OpName::Unfreeze | OpName::Cancel | OpName::Withdraw => {
            &["uid", "holder"]
        }
        OpName::Reinstate => &["uid"],
        OpName::Enrol => ENROLMENT,
        OpName::SuspendPower | OpName::ResumePower => &["zone", "reason"],
        OpName::DefineSchedule => &["name", "weekly", "holidays", "timezone"],
        OpName::SetPosture => &["portals", "posture", "until"],
        OpName::Command => return None,
    })
}

/// Checks the fields of `ops`, which was read before.
pub(super) fn of_ops(text: &str) -> Result<(), Failure> {
    for (object, place) in objects(text).into_iter().zip(0_u32..) {
        let name = object.get("op").and_then(|name| serde_json::from_str::<String>(name.get()).ok());
        let Some(known) = name.and_then(|name| of_op(name.parse().ok()?)) else { continue };
        check(&format!("ops[{place}]"), &object, known, Some("op")).map_err(|failure| failure.of_op(place))?;
    }
    Ok(())
}

/// Checks the fields of `cards`, which was read before.
pub(super) fn of_cards(text: &str) -> Result<(), Failure> {
    for (place, object) in objects(text).into_iter().enumerate() {
        check(&format!("cards[{place}]"), &object, ENROLMENT, None)?;
    }
    Ok(())
}

type Object<'t> = BTreeMap<String, &'t RawValue>;

/// The objects of a list; none where it is no list of objects.
fn objects(text: &str) -> Vec<Object<'_>> {
    serde_json::from_str(text).unwrap_or_default()
}

fn check(path: &str, object: &Object<'_>, known: &[&str], tag: Option<&str>) -> Result<(), Failure> {
    let is_known = |key: &str| known.contains(&key) || tag == Some(key);
    if let Some(other) = object.keys().find(|key| !is_known(key)) {
        let path = format!("{path}.{other}");
        let what = format!("`{path}` is not a field of this request; the fields there are {}", known.join(", "));
        return Err(Failure::field(&path, what));
    }
    for (name, known) in WITHIN {
        let Some(list) = object.get(*name) else { continue };
        for (place, inner) in objects(list.get()).into_iter().enumerate() {
            check(&format!("{path}.{name}[{place}]"), &inner, known, None)?;
        }
    }
    Ok(())
}
