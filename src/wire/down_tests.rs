//! What a center may publish, field by field, and how what is wrong is answered. What is wrong and the answer to it are reviewed in
//! `down_wording.txt`: `UPDATE=1 cargo test --lib wire::down` writes the answers again.

use ed25519_dalek::SigningKey;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::access::change::Subject;
use crate::access::credential::Flag;
use crate::access::id::CardUid;
use crate::access::snapshot::SnapshotEntry;
use crate::wire::envelope::{Channel, Scope, StreamSpec, open, sign};
use crate::wire::limits::{ENTITLEMENTS_MAX, OP_ERRORS_MAX, PORTALS_MAX, WINDOWS_MAX};
use crate::wire::snapshot::read_part;

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

fn at() -> Position {
    Position { epoch: NonZeroU32::new(3).unwrap(), seq: 7 }
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

/// The entries of the one part of a snapshot that has `entry`.
fn entries_of(entry: &Value) -> Result<Vec<SnapshotEntry>, Vec<OpError>> {
    let part = json!({"v": 1, "iss": "office", "aud": "g1", "iat": 5, "snapshot": "s", "epoch": 3, "seq": 1042,
                      "part": 0, "parts": 1, "cards": 1, "entries": [entry]});
    read(&part.to_string(), AllowedOps::all(), read_part).unwrap().entries
}

/// Each line that is not indented is an op, an entry of a snapshot, or the fields of a command that differ from those of a good one. The
/// line after it is what is read, or the answer: code, path and wording.
#[test]
fn every_op_command_and_entry_is_read_or_answered_as_reviewed() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/wire/down_wording.txt");
    let reviewed = std::fs::read_to_string(path).unwrap();
    let mut text = String::new();
    for line in reviewed.lines().filter(|line| !line.starts_with(' ')) {
        let (kind, json) = line.split_once(' ').unwrap();
        let written = serde_json::from_str(json).unwrap();
        let read = match kind {
            "op" => one(&written).inspect(signed_and_read_again).map(|op| format!("{op:?}")),
            "entry" => entries_of(&written).map(|all| format!("{:?}", all[0])).map_err(|mut errors| errors.remove(0)),
            _ => commanded(&written).map(|command| written_back(&command)).map_err(|refused| refused.error),
        };
        let answer = read.unwrap_or_else(|error| {
            assert_eq!(error.op, (kind == "op").then_some(0), "{line}");
            format!("{} {}", error.code.as_str(), error.message)
        });
        text.push_str(&format!("{line}\n  {answer}\n"));
    }
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(path, &text).unwrap();
    }
    assert_eq!(text, reviewed, "UPDATE=1 writes it again, then review the diff");
}

/// What a center writes and signs is what the gateway reads.
fn signed_and_read_again(op: &Op) {
    let name: StreamName = "office".parse().unwrap();
    let claims = write_changes(&name, "g1", Timestamp(0), at(), std::slice::from_ref(op)).unwrap();
    let jws = sign(&claims, &name, &SigningKey::from_bytes(&[4; 32]));
    assert_eq!(received(&jws, AllowedOps::all()).unwrap().content.as_deref(), Ok(std::slice::from_ref(op)));
}

/// What a command is, which is written and read as the same.
fn written_back(command: &Command) -> String {
    let again = read(&write_command(command, &gateway()).unwrap(), AllowedOps::all(), read_command).unwrap();
    let shown = |command: &Command| {
        let Command { stream, jti, iat, exp, actor, kind } = command;
        format!("{stream} {jti} {} {} {actor:?} {kind:?}", iat.0, exp.0)
    };
    assert_eq!(shown(&again), shown(command));
    shown(command)
}

#[test]
fn what_is_too_large_is_refused_at_its_field() {
    let windows = json!(vec!["06:00-07:00"; WINDOWS_MAX + 1]);
    let entitlements = json!(vec![json!({"kind": "gate", "zone": "*"}); ENTITLEMENTS_MAX + 1]);
    for (op, field) in [
        (json!({"op": "define_schedule", "name": "t", "weekly": {"mon": windows}}), "ops[0].weekly"),
        (
            json!({"op": "define_schedule", "name": "t", "weekly": {}, "holidays": [{"date": "2026-02-03", "windows": windows}]}),
            "ops[0].holidays",
        ),
        (json!({"op": "enrol", "uid": "1EA68671", "holder": "a", "entitlements": entitlements}), "ops[0].entitlements"),
        (json!({"op": "set_posture", "portals": vec!["p"; PORTALS_MAX + 1], "posture": "secure"}), "ops[0].portals"),
    ] {
        let error = one(&op).unwrap_err();
        assert_eq!((error.code, path(&error)), (ErrorCode::TooLarge, field));
    }
    let long = commanded(&json!({"x": "y".repeat(COMMAND_BYTES_MAX)})).unwrap_err();
    assert_eq!(long.error.code, ErrorCode::TooLarge);
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

/// Any JSON, with the contract's own names among it.
fn json_values() -> impl Strategy<Value = Value> {
    let words = "op uid holder entitlements kind zone gate * weekly mon 06:00-23:00 posture portals until enrol issue define_schedule \
                 set_posture 1EA68671 holidays date 2026-10-01 timezone";
    let word = proptest::sample::select(words.split(' ').collect::<Vec<_>>());
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        word.clone().prop_map(Value::from),
        ".{0,9}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 6, move |inner| {
        let key = word.clone().prop_map(str::to_owned);
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::Array),
            proptest::collection::btree_map(key, inner, 0..6).prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
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

#[test]
fn a_command_that_is_no_text_or_that_nobody_knows_is_refused_with_those_there_are() {
    let known = "known: release, power, query, resync, forgive";
    for (text, what) in [
        (r#"{"command":{},"portal":"gate-in"}"#, format!("`command`: text is wanted, got an object; {known}")),
        (r#"{"command":null}"#, format!("`command`: is missing; add it; {known}")),
        (r#"{"command":"zz"}"#, format!("`command`: `zz` is not a command; {known}")),
    ] {
        let error = read_command_kind(text).unwrap_err();
        assert!(error.message.contains(&what), "{text}: {error:?}");
    }
}
