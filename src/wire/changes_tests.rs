//! What a center may report, word by word, and how its diagnostics are answered.

use std::num::NonZeroU32;

use ed25519_dalek::SigningKey;
use proptest::prelude::*;

use super::*;
use crate::access::change::{ErrorCode, PortalSet, Subject, SuspendReason};
use crate::access::credential::{Enrolment, Entitlement, Flag, Role, ZoneSet};
use crate::access::id::{CardUid, GatewayId, Holder, PortalId, Zone};
use crate::access::portal::{PortalKind, Posture};
use crate::access::schedule::{Holiday, Schedule, Window};
use crate::wire::envelope::{Channel, Scope, StreamSpec, open, sign};
use crate::wire::may::OpName;

#[path = "changes_strategies.rs"]
mod strategies;

use strategies::{all_ops, json_values};

fn stream(may: MaySet) -> StreamSpec {
    let key = SigningKey::from_bytes(&[4; 32]);
    StreamSpec {
        name: "office".parse().unwrap(),
        scope: Scope::Gateway,
        keys: vec![key.verifying_key()],
        insecure_unsigned: true,
        may,
    }
}

fn message(ops: &Value) -> String {
    json!({"v": 1, "iss": "office", "aud": "g1", "iat": 1, "epoch": 3, "seq": 7, "ops": ops}).to_string()
}

fn received(text: &str, may: MaySet) -> Result<Changes, Refused> {
    let gateway: GatewayId = "g1".parse().unwrap();
    let streams = [stream(may)];
    parse(&open(text.as_bytes(), Channel::Gateway, &gateway, &streams)?)
}

fn one(op: &Value) -> Result<Op, (ErrorCode, String)> {
    let changes = received(&message(&json!([op])), MaySet::ALL).unwrap();
    changes.content.map(|mut ops| ops.remove(0)).map_err(|mut e| {
        assert_eq!(e[0].op, Some(0));
        let error = e.remove(0);
        (error.code, error.message)
    })
}

fn uid(text: &str) -> CardUid {
    text.parse().unwrap()
}

fn holder(text: &str) -> Holder {
    text.parse().unwrap()
}

fn at() -> Position {
    Position { epoch: NonZeroU32::new(3).unwrap(), seq: 7 }
}

#[test]
fn every_op_of_the_contract_is_understood() {
    let card = || Subject::Card(uid("1EA68671"));
    let table = [
        (
            json!({"op": "issue", "uid": "1e:a6:86:71", "holder": "08193021"}),
            Op::Issue { uid: uid("1EA68671"), holder: holder("08193021") },
        ),
        (
            json!({"op": "reissue", "holder": "08193021", "old_uid": "1EA68671", "new_uid": "04A1B2C3D4E5F6"}),
            Op::Reissue { holder: holder("08193021"), new_uid: uid("04A1B2C3D4E5F6"), old_uid: Some(uid("1EA68671")) },
        ),
        (
            json!({"op": "reissue", "holder": "a", "new_uid": "04A1B2C3D4E5F6", "old_uid": null}),
            Op::Reissue { holder: holder("a"), new_uid: uid("04A1B2C3D4E5F6"), old_uid: None },
        ),
        (json!({"op": "report_lost", "uid": "1EA68671"}), Op::SetFlag { subject: card(), flag: Flag::Lost, on: true }),
        (json!({"op": "found", "uid": "1EA68671"}), Op::SetFlag { subject: card(), flag: Flag::Lost, on: false }),
        (
            json!({"op": "freeze", "holder": "a"}),
            Op::SetFlag { subject: Subject::Holder(holder("a")), flag: Flag::Frozen, on: true },
        ),
        (json!({"op": "unfreeze", "uid": "1EA68671"}), Op::SetFlag { subject: card(), flag: Flag::Frozen, on: false }),
        (json!({"op": "cancel", "uid": "1EA68671"}), Op::SetFlag { subject: card(), flag: Flag::Cancelled, on: true }),
        (json!({"op": "reinstate", "uid": "1EA68671"}), Op::Reinstate { uid: uid("1EA68671") }),
        (
            json!({"op": "enrol", "uid": "1EA68671", "holder": "a", "not_before": "2026-09-01T08:00:00.000Z", "not_after": 1_788_249_601,
                "entitlements": [{"kind": "gate", "zone": "*"}, {"kind": "power_box", "zone": "412", "schedule": "term"}], "colour": "red"}),
            Op::Enrol {
                uid: uid("1EA68671"),
                enrolment: Enrolment {
                    holder: holder("a"),
                    role: Role::Resident,
                    not_before: Some(Timestamp(1_788_249_600_000)),
                    not_after: Some(Timestamp(1_788_249_601_000)),
                    entitlements: vec![
                        Entitlement { kind: PortalKind::Gate, zone: ZoneSet::Any, schedule: None },
                        Entitlement {
                            kind: PortalKind::PowerBox,
                            zone: ZoneSet::One("412".parse().unwrap()),
                            schedule: Some("term".parse().unwrap()),
                        },
                    ],
                },
            },
        ),
        (json!({"op": "withdraw", "holder": "a"}), Op::Withdraw { subject: Subject::Holder(holder("a")) }),
        (
            json!({"op": "suspend_power", "zone": "412", "reason": "restricted_load"}),
            Op::Power { zone: "412".parse().unwrap(), reason: SuspendReason::RestrictedLoad, suspended: true },
        ),
        (
            json!({"op": "resume_power", "zone": "412", "reason": "arrears"}),
            Op::Power { zone: "412".parse().unwrap(), reason: SuspendReason::Arrears, suspended: false },
        ),
        (
            json!({"op": "define_schedule", "name": "term", "weekly": {}}),
            Op::DefineSchedule { name: "term".parse().unwrap(), schedule: Schedule::default() },
        ),
        (
            json!({"op": "set_posture", "portals": "*", "posture": "lockdown", "until": "2026-09-01T08:00:00Z"}),
            Op::SetPosture {
                portals: PortalSet::All,
                posture: Posture::Lockdown,
                until: Some(Timestamp(1_788_249_600_000)),
            },
        ),
        (
            json!({"op": "set_posture", "portals": ["*"], "posture": "secure"}),
            Op::SetPosture { portals: PortalSet::All, posture: Posture::Secure, until: None },
        ),
        (
            json!({"op": "set_posture", "portals": ["gate-in"], "posture": "fire"}),
            Op::SetPosture {
                portals: PortalSet::Some(vec!["gate-in".parse().unwrap()]),
                posture: Posture::Fire,
                until: None,
            },
        ),
    ];
    for (json, op) in table {
        assert_eq!(one(&json), Ok(op), "{json}");
    }
}

#[test]
fn every_diagnostic_is_answered_with_its_code_place_and_remedy() {
    use ErrorCode::{InvalidField, InvalidUid, RandomUid, UnknownOp};
    let enrol = |key: &str, value: Value| {
        let mut op = json!({"op": "enrol", "uid": "1EA68671", "holder": "a", "entitlements": []});
        op[key] = value;
        op
    };
    let table = [
        (json!(7), InvalidField, "`ops[0]`: an object in braces is wanted, this is a number"),
        (json!({"uid": "1EA68671"}), InvalidField, "`ops[0].op`: is missing; add it"),
        (json!({"op": "isue"}), UnknownOp, "`ops[0].op`: `isue` is no op; did you mean `issue`?"),
        (json!({"op": "command"}), UnknownOp, "`ops[0].op`: `command` is no op; "),
        (
            json!({"op": "issue", "uid": "1EA686", "holder": "a"}),
            InvalidUid,
            "`ops[0].uid`: a card UID has 4, 7 or 10 bytes, this has 3; got `1EA686`",
        ),
        (
            json!({"op": "issue", "uid": 514_229_873, "holder": "a"}),
            InvalidUid,
            "`ops[0].uid`: text in quotes is wanted, this is a number",
        ),
        (json!({"op": "issue", "uid": "00000000", "holder": "a"}), InvalidUid, "no card"),
        (
            json!({"op": "issue", "uid": "08A1B2C3", "holder": "a"}),
            RandomUid,
            "`ops[0].uid`: `08A1B2C3` is a random UID",
        ),
        (
            json!({"op": "issue", "uid": "8804A1B2", "holder": "a"}),
            InvalidUid,
            "`ops[0].uid`: `8804A1B2` is the beginning",
        ),
        (json!({"op": "cancel", "uid": "8804A1B2"}), InvalidUid, "`ops[0].uid`"),
        (enrol("not_after", json!(46_000)), InvalidField, "`ops[0].not_after`: is before 2000-01-01"),
        (enrol("not_before", json!("1999-12-31T23:59:59Z")), InvalidField, "`ops[0].not_before`: is before 2000-01-01"),
        (
            json!({"op": "set_posture", "portals": "*", "posture": "lockdown", "until": 46_000}),
            InvalidField,
            "`ops[0].until`: is before 2000-01-01",
        ),
        (json!({"op": "reissue", "new_uid": "08A1B2C3", "holder": "a"}), RandomUid, "`ops[0].new_uid`"),
        (enrol("uid", json!("08A1B2C3")), RandomUid, "`ops[0].uid`"),
        (json!({"op": "issue", "uid": "1EA68671"}), InvalidField, "`ops[0].holder`: is missing; add it"),
        (json!({"op": "issue", "uid": "1EA68671", "holder": "a.b"}), InvalidField, "`ops[0].holder`: an identifier is"),
        (json!({"op": "cancel"}), InvalidField, "`ops[0].uid`: is missing; give `uid` or `holder`"),
        (
            json!({"op": "cancel", "uid": "1EA68671", "holder": "a"}),
            InvalidField,
            "give either `uid` or `holder`, not both",
        ),
        (json!({"op": "reinstate", "holder": "a"}), InvalidField, "`ops[0].uid`: is missing"),
        (enrol("entitlements", Value::Null), InvalidField, "`ops[0].entitlements`: is missing"),
        (
            enrol("entitlements", json!([{"kind": "gates", "zone": "*"}])),
            InvalidField,
            "`ops[0].entitlements[0].kind`: one of `gate`, `door`, `power_box` is wanted, got `gates`; did you mean `gate`?",
        ),
        (enrol("entitlements", json!([{"kind": "gate"}])), InvalidField, "`ops[0].entitlements[0].zone`: is missing"),
        (
            enrol("entitlements", json!([{"kind": "gate", "zone": "", "schedule": "x"}])),
            InvalidField,
            "`ops[0].entitlements[0].zone`: an identifier",
        ),
        (enrol("role", json!("boss")), InvalidField, "`ops[0].role`: one of `resident`"),
        (enrol("not_after", json!("soon")), InvalidField, "`ops[0].not_after`: a time like"),
        (
            json!({"op": "enrol", "uid": "1EA68671", "holder": "a", "entitlements": [], "not_before": 1_788_249_600, "not_after": 1_788_249_600}),
            InvalidField,
            "`ops[0].not_after`: is not later than `not_before`",
        ),
        (json!({"op": "suspend_power", "zone": "*", "reason": "arrears"}), InvalidField, "`ops[0].zone`"),
        (json!({"op": "suspend_power", "zone": "412"}), InvalidField, "`ops[0].reason`: is missing"),
        (json!({"op": "suspend_power", "zone": "412", "reason": "arears"}), InvalidField, "did you mean `arrears`?"),
        (
            json!({"op": "define_schedule", "name": "t", "weekly": {"mon": ["25:00-26:00"]}}),
            InvalidField,
            "`ops[0].weekly.mon`",
        ),
        (
            json!({"op": "set_posture", "portals": [], "posture": "secure"}),
            InvalidField,
            "`ops[0].portals`: names no portal",
        ),
        (json!({"op": "set_posture", "portals": ["*", "a"], "posture": "secure"}), InvalidField, "`*` alone for all"),
        (json!({"op": "set_posture", "portals": 1, "posture": "secure"}), InvalidField, "`ops[0].portals`: a list"),
        (json!({"op": "set_posture", "portals": "*", "posture": "open"}), InvalidField, "`ops[0].posture`: one of"),
    ];
    for (op, code, part) in table {
        let error = one(&op).unwrap_err();
        assert_eq!(error.0, code, "{op}");
        assert!(error.1.contains(part), "{op}: {}", error.1);
    }
}

#[test]
fn a_message_is_atomic_and_reports_every_wrong_op() {
    let ops = json!([
        {"op": "cancel", "uid": "1EA68671"},
        {"op": "cancel", "uid": "zz"},
        {"op": "enrol", "uid": "1EA68671", "holder": "a", "entitlements": []},
    ]);
    let changes = received(&message(&ops), MaySet::of(&[OpName::Cancel])).unwrap();
    assert_eq!(changes.at, at());
    let errors = changes.content.unwrap_err();
    let reported: Vec<_> = errors.iter().map(|e| (e.op, e.code)).collect();
    assert_eq!(reported, [(Some(1), ErrorCode::InvalidUid), (Some(2), ErrorCode::ForbiddenOp)]);
}

#[test]
fn what_is_wrong_without_end_is_reported_with_an_end() {
    let ops = json!(vec![json!({"op": "x"}); OP_ERRORS_MAX + 5]);
    let errors = received(&message(&ops), MaySet::ALL).unwrap().content.unwrap_err();
    assert_eq!(errors.len(), OP_ERRORS_MAX);
    assert!(errors[OP_ERRORS_MAX - 1].message.ends_with("(and 5 more ops are wrong)"));
}

#[test]
fn a_message_refused_for_its_content_still_has_its_number() {
    let twice = message(&json!([{"op": "cancel", "uid": "1EA68671"}])).replace("\"op\":", "\"op\":\"found\",\"op\":");
    let too_many = message(&json!(vec![json!({"op": "cancel", "uid": "1EA68671"}); OPS_MAX + 1]));
    let too_long = message(&json!(["x".repeat(MESSAGE_BYTES_MAX)]));
    let table = [
        (message(&Value::Null), ErrorCode::InvalidField),
        (message(&json!({})), ErrorCode::InvalidField),
        (twice, ErrorCode::InvalidField),
        (too_many, ErrorCode::TooLarge),
        (too_long, ErrorCode::TooLarge),
        (
            message(&json!(["[".repeat(3)])).replace("\"[[[\"", &format!("{}{}", "[".repeat(99), "]".repeat(99))),
            ErrorCode::TooLarge,
        ),
    ];
    for (text, code) in table {
        let changes = received(&text, MaySet::ALL).unwrap();
        assert_eq!((changes.at, changes.content.unwrap_err()[0].code), (at(), code));
    }
}

#[test]
fn a_message_without_a_readable_number_uses_up_none() {
    let good = message(&json!([]));
    assert_eq!(received(&good, MaySet::ALL).unwrap().content, Ok(vec![]));
    for (from, to) in [
        ("\"seq\":7", "\"seq\":0"),
        ("\"seq\":7", "\"seq\":-7"),
        ("\"seq\":7", "\"seq\":7.5"),
        ("\"seq\":7", "\"seq\":\"7\""),
        ("\"seq\":7", "\"seq\":7,\"seq\":8"),
        ("\"seq\":7", "\"seq\":18446744073709551616"),
        ("\"epoch\":3", "\"epoch\":0"),
        ("\"epoch\":3", "\"epoch\":4294967296"),
        ("\"epoch\":3", "\"epoc\":3"),
    ] {
        let refused = received(&good.replace(from, to), MaySet::ALL).unwrap_err();
        assert_eq!((refused.error.code, refused.claimed.at), (ErrorCode::InvalidField, None), "{to}");
    }
}

#[test]
fn evidence_is_read_again_whatever_keys_and_rights_have_become() {
    let ops = [Op::Reinstate { uid: uid("1EA68671") }];
    let name: StreamName = "office".parse().unwrap();
    let claims = claims(&name, "campus", Timestamp(0), at(), &ops).unwrap();
    let jws = sign(&claims, &name, &SigningKey::from_bytes(&[77; 32]));
    let bare = Value::Object(claims).to_string();
    for bytes in [jws, bare] {
        let changes = parse_evidence(bytes.as_bytes()).unwrap();
        assert_eq!(
            changes,
            Changes { stream: name.clone(), at: at(), iat: Some(Timestamp(0)), content: Ok(ops.to_vec()) }
        );
    }
    assert!(parse_evidence(b"").is_err());
}

#[test]
fn what_no_op_can_report_is_not_made_up() {
    let op = Op::SetFlag { subject: Subject::Card(uid("1EA68671")), flag: Flag::Replaced, on: true };
    assert_eq!(claims(&"s".parse().unwrap(), "g", Timestamp(0), at(), &[op]), Err(0));
}

proptest! {
    #[test]
    fn what_a_center_writes_is_what_the_gateway_reads(ops in proptest::collection::vec(all_ops(), 0..5)) {
        let name: StreamName = "office".parse().unwrap();
        let claims = claims(&name, "g1", Timestamp(0), at(), &ops).unwrap();
        let jws = sign(&claims, &name, &SigningKey::from_bytes(&[4; 32]));
        prop_assert_eq!(received(&jws, MaySet::ALL).unwrap().content, Ok(ops));
    }

    #[test]
    fn no_json_breaks_the_parser(ops in json_values()) {
        let _read = received(&message(&ops), MaySet::ALL);
        let _read = received(&message(&json!([ops])), MaySet::ALL);
    }

    #[test]
    fn no_bytes_break_the_replay(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _read = parse_evidence(&bytes);
    }
}
