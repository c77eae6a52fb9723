//! The bodies as bytes: spelled as in the contract, and read back.

use std::fmt::Debug;
use std::num::NonZeroU32;

use serde::de::DeserializeOwned;

use super::*;
use crate::access::change::{ErrorCode, Note, NoteCode, Position};
use crate::access::decision::Reason;
use crate::access::effect::{Alarm, Have, Outcome, QueryResult, Reply, Resync, ResyncReason, Verdict};
use crate::access::event::{self, AlarmKind, ReplyStatus};
use crate::access::explain::{SetBy, Step};

/// The body's JSON behind `v` is `fields`, which is read again as the same body.
fn spelled<T: Serialize + DeserializeOwned + PartialEq + Debug>(body: &T, bytes: &[u8], fields: &str) {
    assert_eq!(std::str::from_utf8(bytes).unwrap(), format!(r#"{{"v":1,{fields}}}"#));
    assert_eq!(decode::<T>(bytes).as_ref(), Ok(body));
}

fn spelled_as_it_is<T: Serialize + DeserializeOwned + PartialEq + Debug>(body: &T, fields: &str) {
    spelled(body, &encode(body).unwrap(), fields);
}

#[test]
fn an_ack_is_spelled_as_in_the_contract() {
    let ack = Ack {
        stream: Some("card-office".parse().unwrap()),
        at: Some(Position { epoch: NonZeroU32::new(3).unwrap(), seq: 1042 }),
        snapshot: None,
        outcome: Outcome::Applied,
        applied_through: 1042,
        missing: vec![(7, 9)],
        errors: vec![OpError { op: Some(0), code: ErrorCode::InvalidUid, message: "no".into() }],
        revoked: vec!["1EA68671".parse().unwrap()],
        cut: vec!["power-412".parse().unwrap()],
        received_at: Timestamp(1_788_249_600_000),
        notes: vec![],
    };
    let note = Note { op: 2, code: NoteCode::SharedUid, uid: None, message: "two".into() };
    let noted = Ack { stream: None, at: None, notes: vec![note], ..ack.clone() };
    let rest = r#""outcome":"applied","applied_through":1042,"missing":[[7,9]],"errors":[{"op":0,"code":"invalid_uid","message":"no"}],"revoked":["1EA68671"],"cut":["power-412"]"#;
    let times = r#""received_at":"2026-09-01T08:00:00.000Z","durable_at":"2026-09-01T08:00:00.007Z""#;
    let rows = [
        (ack, format!(r#""stream":"card-office","epoch":3,"seq":1042,{rest},{times}"#)),
        (noted, format!(r#"{rest},"notes":[{{"op":2,"code":"shared_uid","message":"two"}}],{times}"#)),
    ];
    for (ack, fields) in rows {
        spelled(&ack, &encode_ack(&ack, Timestamp(1_788_249_600_007)).unwrap(), &fields);
    }
}

#[test]
fn replies_resync_requests_and_alarms_are_spelled_as_in_the_contract() {
    let mut verdict =
        Verdict::new("gate-in".parse().unwrap(), event::Outcome::Deny(Reason::Lost), vec![Reason::Expired]);
    let set_by =
        SetBy { stream: "card-office".parse().unwrap(), revision: (3, 900, 0), at: Some(Timestamp(1_788_249_600_007)) };
    verdict.steps = vec![
        Step { step: Reason::Lost, ok: false, fact: "lost".to_owned(), set_by: Some(set_by) },
        Step { step: Reason::AntiPassback, ok: true, fact: String::new(), set_by: None },
    ];
    let result = Some(QueryResult { verdicts: vec![verdict], revocations: vec![] });
    let reply = Reply { jti: Some("01J9".into()), status: ReplyStatus::Ok, error: None, result };
    spelled_as_it_is(
        &reply,
        r#""jti":"01J9","status":"ok","result":{"verdicts":[{"portal":"gate-in","decision":"deny","reason":"lost","also":["expired"],"words":{"en":"the card was reported lost","zh":"卡已挂失"},"remedy":{"en":"keep the card and send the person to the card office","zh":"请扣下此卡，并请持卡人到卡务中心"},"steps":[{"step":"lost","ok":false,"fact":"lost","set_by":{"stream":"card-office","revision":[3,900,0],"at":"2026-09-01T08:00:00.007Z"}},{"step":"anti_passback","ok":true}]}]}"#,
    );
    let error = Some(OpError::message(ErrorCode::UnknownOp, "no"));
    let refused = Reply { jti: None, status: ReplyStatus::Rejected, error, result: None };
    spelled_as_it_is(&refused, r#""status":"rejected","error":{"code":"unknown_op","message":"no"}"#);
    let resync = Resync {
        stream: "apartment".parse().unwrap(),
        reason: ResyncReason::Gap,
        have: Have { epoch: 3, seq: 1040 },
        missing: vec![(1041, 1041)],
    };
    spelled_as_it_is(
        &resync,
        r#""stream":"apartment","reason":"gap","have":{"epoch":3,"seq":1040},"missing":[[1041,1041]]"#,
    );
    let at = Timestamp(0);
    let (kind, portal, detail) = (AlarmKind::DeadCard, Some("gate-in".parse().unwrap()), "\"x\"".into());
    let alarm = Alarm { n: 88_001, at, kind, portal, uid: None, count: 0, ended: false, detail, logged: None };
    let head = r#""n":88001,"at":"1970-01-01T00:00:00.000Z","alarm":"dead_card","portal":"gate-in""#;
    spelled_as_it_is(&alarm, &format!(r#"{head},"detail":"\"x\"""#));
    spelled_as_it_is(&Alarm { count: 116, ..alarm }, &format!(r#"{head},"count":116,"detail":"\"x\"""#));
}

#[test]
fn an_audit_batch_carries_its_events_byte_for_byte() {
    // Odd spacing and order are the point: the hash chain is over these bytes.
    let events = [r#"{"n":88001, "b":1,"a":2.50}"#, r#"{"n":88002}"#];
    let bytes = encode_audit("b\"1", 88_000, 88_001, &events).unwrap();
    assert_eq!(
        std::str::from_utf8(&bytes).unwrap(),
        r#"{"v":1,"boot":"b\"1","first":88001,"last":88002,"events":[{"n":88001, "b":1,"a":2.50},{"n":88002}]}"#
    );
    let body = decode::<AuditBody>(&bytes).unwrap();
    assert_eq!((body.boot.as_str(), body.first, body.last), ("b\"1", 88_001, 88_002));
    assert_eq!(body.events.iter().map(|e| e.get()).collect::<Vec<_>>(), events);
    assert_eq!(encode_audit::<&[u8]>("b", 0, 1, &[]), None);
    assert_eq!(body.after, None);
}

#[test]
fn an_audit_batch_behind_a_hole_names_the_last_event_before_it() {
    let bytes = encode_audit("b", 7, 9, &[r#"{"n":9}"#]).unwrap();
    let text = r#"{"v":1,"boot":"b","first":9,"last":9,"after":7,"events":[{"n":9}]}"#;
    assert_eq!(std::str::from_utf8(&bytes).unwrap(), text);
    assert_eq!(decode::<AuditBody>(&bytes).unwrap().after, Some(7));
    assert_eq!(encode_audit("b", 8, 9, &[r#"{"n":9}"#]), encode_audit("b", 8, 9, &[r#"{"n":9}"#]));
}

#[test]
fn another_version_is_named() {
    let ack = decode::<Ack>;
    assert_eq!(ack(br#"{"v":2}"#), Err(BodyError::Version(2)));
    assert!(matches!(ack(br#"{"v":1}"#), Err(BodyError::Malformed(m)) if m.contains("outcome")));
    assert_eq!(ack(&vec![b' '; UP_BYTES_MAX + 1]), Err(BodyError::TooLong(UP_BYTES_MAX + 1)));
}
