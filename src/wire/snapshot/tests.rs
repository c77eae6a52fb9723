//! Parts of snapshots: what a center writes is what a gateway reads. The entries are reviewed in `down_wording.txt`.

use ed25519_dalek::SigningKey;
use serde_json::{Value, json};

use super::super::allowed::{AllowedOps, OpName, STANDING};
use super::super::envelope::{Channel, Scope, StreamSpec, open, sign};
use super::super::limits::OP_ERRORS_MAX;
use super::*;
use crate::access::change::{Op, PortalSet, Subject, SuspendReason};
use crate::access::credential::{CardMark, Enrolment, Entitlement, Flag, Role, ZoneSet};
use crate::access::list::AccessList;
use crate::access::portal::{PortalKind, Posture};
use crate::access::schedule::{Schedule, Window};

fn spec(allowed: AllowedOps) -> StreamSpec {
    let keys = vec![SigningKey::from_bytes(&[7; 32]).verifying_key()];
    StreamSpec { name: "office".parse().unwrap(), scope: Scope::Gateway, keys, insecure_unsigned: true, allowed }
}

fn read(bytes: &[u8], allowed: AllowedOps) -> Result<SnapshotPart, Refused> {
    let streams = [spec(allowed)];
    let opened = open(bytes, Channel::Gateway, &"g1".parse().unwrap(), &streams).unwrap();
    read_part(&opened)
}

fn at(seq: u64) -> Position {
    Position { epoch: NonZeroU32::new(3).unwrap(), seq }
}

/// A list with a register of every kind.
fn list() -> AccessList {
    let uid = |text: &str| text.parse().unwrap();
    let entitlement = |kind, schedule: Option<&str>| Entitlement {
        kind,
        zone: ZoneSet::Any,
        schedule: schedule.map(|s| s.parse().unwrap()),
    };
    let enrolment = |holder: &str| Enrolment {
        holder: holder.parse().unwrap(),
        role: Role::Staff,
        marks: CardMark::ExtendedHold | CardMark::Duress,
        not_before: Some(Timestamp(1_788_249_600_000)),
        not_after: None,
        entitlements: vec![entitlement(PortalKind::Gate, None), entitlement(PortalKind::Door, Some("term"))],
    };
    let window = Window { start_min: 360, end_min: 1380 };
    let weekly = std::array::from_fn(|day| if day < 5 { vec![window] } else { Vec::new() });
    let schedule = Schedule { weekly, holidays: Vec::new(), timezone: Some("Asia/Shanghai".to_owned()) };
    let holder = || "h1".parse().unwrap();
    let posture = |portals, posture| Op::SetPosture { portals, posture, until: Some(Timestamp(1_788_249_600_000)) };
    let messages = [
        vec![Op::Issue { uid: uid("1EA68671"), holder: holder() }],
        vec![Op::Enrol { uid: uid("1EA68671"), enrolment: enrolment("h1") }],
        vec![Op::Enrol { uid: uid("5C0DE001"), enrolment: enrolment("h2") }],
        vec![Op::Enrol { uid: uid("5C0DE002"), enrolment: enrolment("h3") }],
        vec![Op::Reissue { holder: holder(), new_uid: uid("04A1B2C3D4E5F6"), old_uid: None }],
        vec![Op::SetFlag { subject: Subject::Card(uid("5C0DE001")), flag: Flag::Lost, on: true }],
        vec![Op::SetFlag { subject: Subject::Card(uid("5C0DE001")), flag: Flag::Frozen, on: false }],
        vec![Op::Withdraw { subject: Subject::Card(uid("5C0DE002")) }],
        vec![Op::Power { zone: "412".parse().unwrap(), reason: SuspendReason::Arrears, suspended: true }],
        vec![Op::Power { zone: "413".parse().unwrap(), reason: SuspendReason::Arrears, suspended: false }],
        vec![posture(PortalSet::Some(vec!["gate-out".parse().unwrap()]), Posture::Lockdown)],
        vec![posture(PortalSet::All, Posture::FreeAccess)],
        vec![posture(PortalSet::Some(vec!["gate-in".parse().unwrap()]), Posture::Secure)],
        vec![Op::DefineSchedule { name: "term".parse().unwrap(), schedule }],
    ];
    let mut list = AccessList::default();
    for (ops, seq) in messages.iter().zip(1..) {
        list.replay(ops, at(seq), None);
    }
    list
}

#[test]
fn what_a_center_writes_is_what_a_gateway_reads_from_the_wire_and_from_its_journal() {
    let list = list();
    let owns = registers_of(AllowedOps::all());
    let entries = list.snapshot(&owns);
    let stream: StreamName = "office".parse().unwrap();
    let claims = write_parts((&stream, at(20), "s1"), "g1", Timestamp(5_000), &entries, true).unwrap();
    let [claims] = claims.as_slice() else { panic!("one part is enough") };
    let part = read(claims.as_bytes(), AllowedOps::all()).unwrap();
    let head = SnapshotHead { stream, id: "s1".to_owned(), at: at(20), parts: 1, cards: 4, allow_shrink: true };
    assert_eq!((&part.head, part.part, part.iat), (&head, 0, Some(Timestamp(5_000))));
    let kept = read_evidence(claims.as_bytes()).unwrap();
    assert_eq!(kept.entries, [part.entries.clone().unwrap()]);
    // Rebuilt from it, a list has the same digest and sends the same again.
    let mut rebuilt = AccessList::default();
    rebuilt.replay_snapshot(&owns, (at(20), None), &kept.entries);
    let lines = |list: &AccessList| {
        let mut lines = super::super::digest::lines(list, &owns).0;
        lines.sort();
        lines
    };
    assert_eq!(lines(&rebuilt), lines(&list));
    let by_text = |list: &AccessList| {
        let mut all: Vec<String> = list.snapshot(&owns).iter().map(|entry| format!("{entry:?}")).collect();
        all.sort();
        all
    };
    assert_eq!(by_text(&rebuilt), by_text(&list));
}

#[test]
fn a_long_snapshot_is_cut_into_parts_that_fit_once_they_are_signed() {
    let stream: StreamName = "office".parse().unwrap();
    let entry = |n: u32| SnapshotEntry::Card {
        uid: format!("5C{n:06X}").parse().unwrap(),
        standing: None,
        enrolment: Some(crate::access::snapshot::EnrolmentEntry {
            revision: None,
            enrolment: Some(Enrolment::resident(
                format!("h{n}").parse().unwrap(),
                vec![Entitlement { kind: PortalKind::Gate, zone: ZoneSet::Any, schedule: None }],
            )),
        }),
    };
    let entries: Vec<_> = (0..3_000).map(entry).collect();
    let claims = write_parts((&stream, at(20), "s1"), "g1", Timestamp(0), &entries, false).unwrap();
    assert!(claims.len() > 4);
    let signed: Vec<String> =
        claims.iter().map(|claims| sign(claims, &stream, &SigningKey::from_bytes(&[7; 32]))).collect();
    assert!(
        signed.iter().all(|part| part.len() <= super::super::limits::PART_BYTES_MAX),
        "{:?}",
        signed.iter().map(String::len).max()
    );
    let mut evidence = signed.iter().rev().fold(Vec::new(), |mut all, part| {
        all.extend_from_slice(part.as_bytes());
        all.push(PART_SEPARATOR);
        all
    });
    evidence.pop();
    let snapshot = read_evidence(&evidence).unwrap();
    assert_eq!(snapshot.entries.iter().map(Vec::len).sum::<usize>(), 3_000);
    evidence.truncate(signed[signed.len() - 1].len());
    assert_eq!(read_evidence(&evidence).unwrap_err(), "parts of a snapshot are missing");
}

fn part_of(entries: impl serde::Serialize) -> Value {
    json!({"v": 1, "iss": "office", "aud": "g1", "iat": 5, "snapshot": "2026-09-01-a", "epoch": 3, "seq": 1042,
           "part": 0, "parts": 24, "cards": 1180, "allow_shrink": false, "entries": entries})
}

#[test]
fn errors_of_entries_are_listed_up_to_a_limit() {
    let many = vec![json!({}); 100];
    let errors = read(part_of(json!(many)).to_string().as_bytes(), AllowedOps::all()).unwrap().entries.unwrap_err();
    assert_eq!(errors.len(), OP_ERRORS_MAX);
}

#[test]
fn a_stream_sends_only_registers_that_it_owns() {
    let card = json!({"uid": "1EA68671", "holder": "h", "entitlements": [], "born": [3, 1, 0]});
    let standing = json!({"uid": "1EA68671", "set": {"lost": [3, 1, 0]}});
    let enrolment = json!({"uid": "1EA68671", "holder": "h", "entitlements": []});
    let table = [
        (&card, STANDING, false),
        (&card, !STANDING, false),
        (&card, AllowedOps::all(), true),
        (&standing, STANDING, true),
        (&standing, !STANDING, false),
        (&enrolment, STANDING, false),
        (&enrolment, OpName::Withdraw.into(), true),
        (&json!({"holder": "h", "set": {"lost": [3, 1, 0]}}), !STANDING, false),
        (&json!({"zone": "412", "power": []}), STANDING, false),
        (&json!({"portal": "*", "posture": "secure"}), OpName::Enrol.into(), false),
        (&json!({"schedule": "term", "rev": [3, 1, 0], "weekly": {}}), STANDING, false),
    ];
    for (entry, allowed, is_allowed) in table {
        let entries = read(part_of(json!([entry])).to_string().as_bytes(), allowed).unwrap().entries;
        let codes = entries.map(drop).map_err(|errors| errors.iter().map(|e| e.code).collect::<Vec<_>>());
        assert_eq!(codes, if is_allowed { Ok(()) } else { Err(vec![ErrorCode::ForbiddenOp]) }, "{entry} {allowed:?}");
    }
}

#[test]
fn a_part_that_cannot_be_placed_is_refused_and_a_long_one_is_too_large() {
    let good = read(part_of(json!([])).to_string().as_bytes(), AllowedOps::all()).unwrap();
    assert_eq!((good.head.parts, good.head.cards, good.head.at, good.part), (24, 1180, at(1042), 0));
    assert_eq!(good.entries, Ok(vec![]));
    let table = [
        ("snapshot", json!(""), "invalid_field"),
        ("snapshot", json!("x".repeat(65)), "invalid_field"),
        ("part", json!(24), "invalid_field"),
        ("parts", json!(0), "invalid_field"),
        ("parts", json!(PARTS_MAX + 1), "too_large"),
        ("seq", json!(0), "invalid_field"),
        ("epoch", json!("3"), "invalid_field"),
        ("cards", json!(-1), "invalid_field"),
    ];
    for (field, value, code) in table {
        let mut part = part_of(json!([]));
        part[field] = value;
        let refused = read(part.to_string().as_bytes(), AllowedOps::all()).unwrap_err();
        assert_eq!(refused.error.code.as_str(), code, "{field}: {refused}");
    }
    // 64 KiB are meant before they are signed.
    let whole =
        part_of(json!([{"zone": "412", "power": [], "x": "y".repeat(super::super::limits::PART_BYTES_MAX - 500)}]));
    let whole = read(whole.to_string().as_bytes(), AllowedOps::all()).unwrap();
    assert_eq!(whole.entries.map(|entries| entries.len()), Ok(1));
    let long = part_of(json!([{"zone": "412", "power": [], "x": "y".repeat(PART_BYTES_READ_MAX)}]));
    let errors = read(long.to_string().as_bytes(), AllowedOps::all()).unwrap().entries.unwrap_err();
    assert_eq!(errors[0].code, ErrorCode::TooLarge);
    let twice = part_of(json!([])).to_string().replacen("\"part\"", "\"entries\":[],\"part\"", 1);
    assert!(
        read(twice.as_bytes(), AllowedOps::all()).is_err()
            || read(twice.as_bytes(), AllowedOps::all()).unwrap().entries.is_err()
    );
}

#[test]
fn a_posture_that_ends_before_2000_is_refused_as_in_a_change_and_still_read_from_the_journal() {
    let part = |until: i64| {
        let entry = json!({"portal": "gate-in", "posture": "lockdown", "until": until});
        let mut part = part_of(json!([entry]));
        part["parts"] = json!(1);
        part.to_string()
    };
    let read = |until| read(part(until).as_bytes(), AllowedOps::all()).unwrap().entries;
    let errors = read(46_000).unwrap_err();
    assert_eq!((errors.len(), errors[0].code), (1, ErrorCode::InvalidField));
    assert!(errors[0].message.contains("until") && errors[0].message.contains("before 2000-01-01"), "{errors:?}");
    assert!(read(946_684_800).is_ok());
    assert_eq!(read_evidence(part(46_000).as_bytes()).unwrap().entries[0].len(), 1, "it was accepted before");
}

#[test]
fn a_permission_to_shrink_that_is_null_counts_as_absent() {
    for (value, allows) in [(json!(null), false), (json!(false), false), (json!(true), true)] {
        let mut part = part_of(json!([]));
        part["allow_shrink"] = value;
        assert_eq!(read(part.to_string().as_bytes(), AllowedOps::all()).unwrap().head.allow_shrink, allows, "{part}");
    }
    let mut part = part_of(json!([]));
    part.as_object_mut().unwrap().remove("allow_shrink");
    assert!(!read(part.to_string().as_bytes(), AllowedOps::all()).unwrap().head.allow_shrink);
}

#[test]
fn the_id_of_a_snapshot_is_judged_on_arrival_and_not_when_the_journal_is_read() {
    let mut part = part_of(json!([]));
    (part["snapshot"], part["parts"]) = (json!("2026\u{AD}-09"), json!(1));
    let text = part.to_string();
    assert_eq!(read(text.as_bytes(), AllowedOps::all()).unwrap_err().error.code, ErrorCode::InvalidField);
    assert_eq!(read_evidence(text.as_bytes()).unwrap().head.id, "2026\u{AD}-09", "an earlier version took it");
}
