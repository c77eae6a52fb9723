//! The bodies as bytes: spelled as in the contract, and read back.

use std::num::NonZeroU32;

use super::*;
use crate::access::change::{ErrorCode, NoteCode, Position};
use crate::access::event::AlarmKind;

/// The body's JSON, which is read again as the same body.
fn text<T: Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug>(body: &T) -> String {
    let bytes = encode(body).unwrap();
    assert_eq!(decode::<T>(&bytes).as_ref(), Ok(body));
    String::from_utf8(bytes).unwrap()
}

#[test]
fn an_ack_is_spelled_as_in_the_contract() {
    let ack = Ack {
        stream: Some("card-office".parse().unwrap()),
        at: Some(Position { epoch: NonZeroU32::new(3).unwrap(), seq: 1042 }),
        outcome: Outcome::Applied,
        applied_through: 1042,
        missing: vec![(7, 9)],
        errors: vec![OpError { op: Some(0), code: ErrorCode::InvalidUid, message: "no".into() }],
        revoked: vec!["1EA68671".parse().unwrap()],
        cut: vec!["power-412".parse().unwrap()],
        received_at: Timestamp(1_788_249_600_000),
        notes: vec![],
    };
    assert_eq!(
        text(&AckBody::new(&ack, Timestamp(1_788_249_600_007))),
        r#"{"v":1,"stream":"card-office","epoch":3,"seq":1042,"outcome":"applied","applied_through":1042,"missing":[[7,9]],"errors":[{"op":0,"code":"invalid_uid","message":"no"}],"revoked":["1EA68671"],"cut":["power-412"],"received_at":"2026-09-01T08:00:00.000Z","durable_at":"2026-09-01T08:00:00.007Z"}"#
    );
    let nameless = Ack { stream: None, at: None, outcome: Outcome::Rejected, missing: vec![(1, 1); 100], ..ack };
    let body = AckBody::new(&nameless, Timestamp(0));
    assert_eq!(body.missing.len(), MISSING_RANGES_MAX);
    assert!(text(&body).starts_with(r#"{"v":1,"outcome":"rejected","applied_through":1042,"missing":[[1,1],"#));
    let note = Note { op: 2, code: NoteCode::SharedUid, uid: None, message: "two".into() };
    let noted = AckBody::new(&Ack { notes: vec![note], ..nameless }, Timestamp(0));
    assert!(
        text(&noted)
            .contains(r#""cut":["power-412"],"notes":[{"op":2,"code":"shared_uid","message":"two"}],"received_at""#),
        "{noted:?}"
    );
}

#[test]
fn a_reply_is_spelled_as_in_the_contract() {
    let verdict = Verdict { portal: "gate-in".parse().unwrap(), granted: false, reason: "lost", also: vec!["expired"] };
    let reply = Reply { jti: Some("01J9".into()), status: ReplyStatus::Ok, error: None, verdicts: vec![verdict] };
    assert_eq!(
        text(&ReplyBody::from(&reply)),
        r#"{"v":1,"jti":"01J9","status":"ok","result":{"verdicts":[{"portal":"gate-in","decision":"deny","reason":"lost","also":["expired"]}]}}"#
    );
    let error = Some(OpError::message(ErrorCode::UnknownOp, "no"));
    let reply = Reply { jti: None, status: ReplyStatus::Rejected, error, verdicts: vec![] };
    assert_eq!(
        text(&ReplyBody::from(&reply)),
        r#"{"v":1,"status":"rejected","error":{"code":"unknown_op","message":"no"}}"#
    );
}

#[test]
fn a_resync_request_and_an_alarm_are_spelled_as_in_the_contract() {
    let resync = Resync {
        stream: "apartment".parse().unwrap(),
        reason: ResyncReason::Gap,
        have: (3, 1040),
        missing: vec![(1041, 1041)],
    };
    assert_eq!(
        text(&ResyncBody::from(&resync)),
        r#"{"v":1,"stream":"apartment","reason":"gap","have":{"epoch":3,"seq":1040},"missing":[[1041,1041]]}"#
    );
    let alarm = Alarm {
        n: 88_001,
        at: Timestamp(0),
        kind: AlarmKind::DeadCard,
        portal: Some("gate-in".parse().unwrap()),
        uid: None,
        count: 0,
        detail: "\"x\"".into(),
    };
    assert_eq!(
        text(&AlarmBody::from(&alarm)),
        r#"{"v":1,"n":88001,"at":"1970-01-01T00:00:00.000Z","alarm":"dead_card","portal":"gate-in","detail":"\"x\""}"#
    );
    let counted = AlarmBody::from(&Alarm { count: 116, ..alarm });
    assert!(text(&counted).contains(r#""portal":"gate-in","count":116,"detail""#), "{counted:?}");
}

#[test]
fn an_audit_batch_carries_its_events_byte_for_byte() {
    // Odd spacing and order are the point: the hash chain is over these bytes.
    let events = [r#"{"n":88001, "b":1,"a":2.50}"#, r#"{"n":88002}"#];
    let bytes = encode_audit("b\"1", 88_001, &events).unwrap();
    assert_eq!(
        std::str::from_utf8(&bytes).unwrap(),
        r#"{"v":1,"boot":"b\"1","first":88001,"last":88002,"events":[{"n":88001, "b":1,"a":2.50},{"n":88002}]}"#
    );
    let body = decode::<AuditBody>(&bytes).unwrap();
    assert_eq!((body.boot.as_str(), body.first, body.last), ("b\"1", 88_001, 88_002));
    assert_eq!(body.events.iter().map(|e| e.get()).collect::<Vec<_>>(), events);
    assert_eq!(encode_audit::<&[u8]>("b", 1, &[]), None);
}

#[test]
fn another_version_is_named() {
    let ack = decode::<AckBody>;
    assert_eq!(ack(br#"{"v":2}"#), Err(BodyError::Version(2)));
    assert!(matches!(ack(br#"{"v":1}"#), Err(BodyError::Malformed(m)) if m.contains("outcome")));
    assert_eq!(ack(&vec![b' '; UP_BYTES_MAX + 1]), Err(BodyError::TooLong(UP_BYTES_MAX + 1)));
}
