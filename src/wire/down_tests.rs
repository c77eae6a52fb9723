//! What a center may publish, field by field, and how what is wrong is answered. The wording is reviewed in `down_wording.txt`:
//! `UPDATE=1 cargo test --lib wire::down` writes it again.

use ed25519_dalek::SigningKey;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::access::change::{PortalSet, Subject, SuspendReason};
use crate::access::credential::{Enrolment, Entitlement, Flag, Role, ZoneSet};
use crate::access::id::{Holder, Zone};
use crate::access::portal::{PortalKind, Posture};
use crate::access::schedule::{Holiday, Schedule, Window};
use crate::wire::envelope::{Channel, Scope, StreamSpec, open, sign};

#[path = "down_strategies.rs"]
mod strategies;
#[path = "down_wrong.rs"]
mod wrong;

use strategies::{all_ops, json_values};
use wrong::{wrong_commands, wrong_ops};

/// Reads a message of stream `office`, which is allowed `allowed`, with one of the readers.
fn read<T>(
    text: &str,
    allowed: AllowedOps,
    reader: impl FnOnce(&Opened<'_>) -> Result<T, Refused>,
) -> Result<T, Refused> {
    let key = SigningKey::from_bytes(&[4; 32]);
    let stream = StreamSpec {
        name: "office".parse().unwrap(),
        scope: Scope::Gateway,
        keys: vec![key.verifying_key()],
        insecure_unsigned: true,
        allowed,
    };
    reader(&open(text.as_bytes(), Channel::Gateway, &gateway(), &[stream])?)
}

fn gateway() -> GatewayId {
    "g1".parse().unwrap()
}

fn message(ops: &Value) -> String {
    json!({"v": 1, "iss": "office", "aud": "g1", "iat": 1, "epoch": 3, "seq": 7, "ops": ops}).to_string()
}

fn received(text: &str, allowed: AllowedOps) -> Result<Changes, Refused> {
    read(text, allowed, read_changes)
}

fn one(op: &Value) -> Result<Op, OpError> {
    let changes = received(&message(&json!([op])), AllowedOps::all()).unwrap();
    changes.content.map(|mut ops| ops.remove(0)).map_err(|mut errors| errors.remove(0))
}

/// The path in an error's message.
fn path(error: &OpError) -> &str {
    error.message.split('`').nth(1).unwrap()
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
fn every_op_of_the_contract_is_read() {
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
            json!({"op": "define_schedule", "name": "term", "weekly": {"tue": null}, "holidays": null}),
            Op::DefineSchedule { name: "term".parse().unwrap(), schedule: Schedule::default() },
        ),
        (
            json!({"op": "define_schedule", "name": "term",
                "weekly": {"mon": ["06:00-23:00"], "sun": ["22:00-06:00", "12:00-24:00"]},
                "holidays": [{"date": "2026-10-01", "windows": []}], "timezone": "asia/shanghai"}),
            Op::DefineSchedule {
                name: "term".parse().unwrap(),
                schedule: Schedule {
                    weekly: [
                        vec![Window { start_min: 360, end_min: 1380 }],
                        vec![],
                        vec![],
                        vec![],
                        vec![],
                        vec![],
                        vec![Window { start_min: 1320, end_min: 360 }, Window { start_min: 720, end_min: 1440 }],
                    ],
                    holidays: vec![Holiday { date: (2026, 10, 1), windows: vec![] }],
                    timezone: Some("Asia/Shanghai".to_owned()),
                },
            },
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
fn every_wrong_op_is_answered_with_its_code_and_path() {
    for (op, code, field) in wrong_ops() {
        let error = one(&op).unwrap_err();
        assert_eq!((error.op, error.code, path(&error)), (Some(0), code, field), "{op}: {}", error.message);
    }
}

fn command_message(over: &Value) -> String {
    let mut map = json!({
        "v": 1, "iss": "office", "aud": "g1", "iat": 100, "exp": 130, "jti": "01J9", "command": "release", "portal": "gate-in",
    });
    for (key, value) in over.as_object().unwrap() {
        map[key] = value.clone();
    }
    map.to_string()
}

fn commanded(over: &Value) -> Result<Command, Refused> {
    read(&command_message(over), AllowedOps::all(), read_command)
}

#[test]
fn every_wrong_command_is_answered_with_its_code_and_path() {
    for (over, code, field) in wrong_commands() {
        let error = commanded(&over).unwrap_err().error;
        assert_eq!((error.op, error.code, path(&error)), (None, code, field), "{over}: {}", error.message);
    }
    let long = commanded(&json!({"x": "y".repeat(COMMAND_BYTES_MAX)})).unwrap_err();
    assert_eq!(long.error.code, ErrorCode::TooLarge);
}

#[test]
fn the_wording_is_as_reviewed() {
    let line = |written: &Value, error: &OpError| {
        let written: String = written.to_string().chars().take(120).collect();
        format!("{written}\n  {} {}\n", error.code.as_str(), error.message)
    };
    let ops = wrong_ops().into_iter().map(|(op, ..)| line(&op, &one(&op).unwrap_err()));
    let commands = wrong_commands().into_iter().map(|(over, ..)| line(&over, &commanded(&over).unwrap_err().error));
    let text: String = ops.chain(commands).collect();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/wire/down_wording.txt");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(path, &text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(path).unwrap(), "UPDATE=1 writes it again, then review the diff");
}

#[test]
fn a_message_is_atomic_and_every_wrong_op_is_reported() {
    let ops = json!([
        {"op": "cancel", "uid": "1EA68671"},
        {"op": "cancel", "uid": "zz"},
        {"op": "enrol", "uid": "1EA68671", "holder": "a", "entitlements": []},
    ]);
    let changes = received(&message(&ops), AllowedOps::only(OpName::Cancel)).unwrap();
    assert_eq!(changes.at, at());
    let errors = changes.content.unwrap_err();
    let reported: Vec<_> = errors.iter().map(|e| (e.op, e.code)).collect();
    assert_eq!(reported, [(Some(1), ErrorCode::InvalidUid), (Some(2), ErrorCode::ForbiddenOp)]);
}

#[test]
fn errors_are_counted_beyond_a_limit() {
    let ops = json!(vec![json!({"op": "x"}); OP_ERRORS_MAX + 5]);
    let errors = received(&message(&ops), AllowedOps::all()).unwrap().content.unwrap_err();
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
        let changes = received(&text, AllowedOps::all()).unwrap();
        assert_eq!((changes.at, changes.content.unwrap_err()[0].code), (at(), code));
    }
}

#[test]
fn a_message_without_a_readable_number_uses_up_none() {
    let good = message(&json!([]));
    assert_eq!(received(&good, AllowedOps::all()).unwrap().content, Ok(vec![]));
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
        let refused = received(&good.replace(from, to), AllowedOps::all()).unwrap_err();
        assert_eq!((refused.error.code, refused.claimed.at), (ErrorCode::InvalidField, None), "{to}");
    }
}

#[test]
fn evidence_is_read_again_whatever_keys_and_rights_have_become() {
    let ops = [Op::Reinstate { uid: uid("1EA68671") }];
    let name: StreamName = "office".parse().unwrap();
    let bare = write_changes(&name, "campus", Timestamp(0), at(), &ops).unwrap();
    let jws = sign(&bare, &name, &SigningKey::from_bytes(&[77; 32]));
    for bytes in [jws, bare] {
        let changes = read_evidence(bytes.as_bytes()).unwrap();
        assert_eq!(
            changes,
            Changes { stream: name.clone(), at: at(), iat: Some(Timestamp(0)), content: Ok(ops.to_vec()) }
        );
    }
    assert!(read_evidence(b"").is_err());
    // What was accepted by an older version stays accepted.
    let old = message(&json!([{"op": "issue", "uid": "08A1B2C3", "holder": "a"}]));
    assert!(received(&old, AllowedOps::all()).unwrap().content.is_err());
    assert!(read_evidence(old.as_bytes()).unwrap().content.is_ok());
}

#[test]
fn a_flag_that_no_op_writes_is_not_written() {
    let op = Op::SetFlag { subject: Subject::Card(uid("1EA68671")), flag: Flag::Replaced, on: true };
    assert!(write_changes(&"s".parse().unwrap(), "g", Timestamp(0), at(), &[op]).is_err());
}

#[test]
fn every_command_is_read_and_written_back() {
    let portal = || "gate-in".parse().unwrap();
    let uid = "1EA68671".parse().unwrap();
    let table = [
        (json!({"actor": "staff:77"}), CommandKind::Release { portal: portal() }),
        (json!({"command": "power", "on": false}), CommandKind::Power { portal: portal(), on: false }),
        (json!({"command": "query", "uid": "1EA68671"}), CommandKind::Query { uid, portal: Some(portal()) }),
        (json!({"command": "query", "uid": "1EA68671", "portal": null}), CommandKind::Query { uid, portal: None }),
        (json!({"command": "resync", "stream": "office"}), CommandKind::Resync { stream: "office".parse().unwrap() }),
        (json!({"command": "forgive", "uid": "1EA68671"}), CommandKind::Forgive { uid: Some(uid) }),
        (json!({"command": "forgive", "uid": "*"}), CommandKind::Forgive { uid: None }),
    ];
    for (over, kind) in table {
        let command = commanded(&over).unwrap();
        assert_eq!(command.kind, kind, "{over}");
        assert_eq!((command.jti.as_str(), command.iat, command.exp), ("01J9", Timestamp(100_000), Timestamp(130_000)));
        let written = write_command(&command, &gateway()).unwrap();
        let again = read(&written, AllowedOps::all(), read_command).unwrap();
        assert_eq!((again.kind, again.actor, again.exp), (command.kind, command.actor, command.exp));
    }
}

#[test]
fn a_refused_command_is_answered_by_its_id() {
    let refused = commanded(&json!({"command": "explode"})).unwrap_err();
    assert_eq!(refused.claimed.jti.as_deref(), Some("01J9"));
    let refused = read(&command_message(&json!({})), AllowedOps::only(OpName::Enrol), read_command).unwrap_err();
    assert_eq!((refused.error.code, refused.claimed.jti.as_deref()), (ErrorCode::ForbiddenOp, Some("01J9")));
    let twice = command_message(&json!({})).replace("\"portal\"", "\"portal\":\"other\",\"portal\"");
    let refused = read(&twice, AllowedOps::all(), read_command).unwrap_err();
    assert_eq!((refused.error.code, refused.claimed.jti.as_deref()), (ErrorCode::InvalidField, Some("01J9")));
}

#[test]
fn a_head_is_read_as_it_was_written() {
    let head = |text: &str, topic: &str| {
        let topic = topic.parse().unwrap();
        read(text, AllowedOps::empty(), |opened| read_head(opened, &topic)).map_err(|refused| refused.error.code)
    };
    let written = Head {
        stream: "office".parse().unwrap(),
        at: at(),
        iat: Some(Timestamp(5_000)),
        cards: 1180,
        digest: "0a".repeat(32),
    };
    let text = write_head(&written, "g1", Timestamp(5_000)).unwrap();
    assert_eq!(head(&text, "office"), Ok(written.clone()));
    assert_eq!(head(&text, "apartment"), Err(ErrorCode::UnknownStream));
    let upper = text.replace(&"0a".repeat(32), &"0A".repeat(32)).replace("\"seq\":7", "\"seq\":0");
    assert_eq!(head(&upper, "office"), Ok(Head { at: Position { seq: 0, ..at() }, ..written }));
    let digest = format!("\"{}\"", "0a".repeat(32));
    for (from, to) in [
        (digest.as_str(), "\"0A\""),
        (&digest, &format!("\"{}\"", "é".repeat(32))),
        (&digest, "null"),
        ("1180", "-1"),
        ("\"seq\":7", "\"seq\":\"7\""),
        ("\"epoch\":3", "\"epoch\":0"),
    ] {
        assert_eq!(head(&text.replace(from, to), "office"), Err(ErrorCode::InvalidField), "{to}");
    }
    let long = text.replace('{', &format!("{{\"x\":\"{}\",", "y".repeat(HEAD_BYTES_MAX)));
    assert_eq!(head(&long, "office"), Err(ErrorCode::TooLarge));
}

#[test]
fn only_a_stream_that_is_allowed_commands_moves_the_audit() {
    let ack = AuditAck { stream: "office".parse().unwrap(), through: 88_213 };
    let text = write_audit_ack(&ack, &gateway(), Timestamp(0)).unwrap();
    let acked = |text: &str, allowed| read(text, allowed, read_audit_ack).map_err(|refused| refused.error.code);
    assert_eq!(acked(&text, AllowedOps::all()), Ok(ack));
    assert_eq!(acked(&text, AllowedOps::only(OpName::Enrol)), Err(ErrorCode::ForbiddenOp));
    for (from, to, code) in [
        ("88213", "-1".to_owned(), ErrorCode::InvalidField),
        ("\"through\":", "\"through\":9,\"through\":".to_owned(), ErrorCode::InvalidField),
        ("}", ",\"x\":1,\"x\":2}".to_owned(), ErrorCode::InvalidField),
        ("}", format!(",\"x\":\"{}\"}}", "y".repeat(HEAD_BYTES_MAX)), ErrorCode::TooLarge),
    ] {
        assert_eq!(acked(&text.replace(from, &to), AllowedOps::all()), Err(code), "{to:.20}");
    }
}

proptest! {
    #[test]
    fn what_a_center_writes_is_what_the_gateway_reads(ops in proptest::collection::vec(all_ops(), 0..5)) {
        let name: StreamName = "office".parse().unwrap();
        let claims = write_changes(&name, "g1", Timestamp(0), at(), &ops).unwrap();
        let jws = sign(&claims, &name, &SigningKey::from_bytes(&[4; 32]));
        prop_assert_eq!(received(&jws, AllowedOps::all()).unwrap().content, Ok(ops));
    }

    #[test]
    fn a_message_of_any_json_is_applied_whole_or_answered_with_the_places_of_its_ops(ops in json_values()) {
        let list = json!([ops]);
        match received(&message(&list), AllowedOps::all()).unwrap().content {
            Ok(read) => prop_assert_eq!(read.len(), 1),
            Err(errors) => prop_assert!(!errors.is_empty() && errors.iter().all(|error| error.op == Some(0))),
        }
        let bare = received(&message(&ops), AllowedOps::all()).unwrap();
        prop_assert_eq!(bare.at, at());
    }
}
