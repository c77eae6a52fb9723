//! Audit events as bytes: the spelling of each type, and the way back.

use proptest::prelude::*;

use super::*;
use crate::access::id::{CardUid, Holder, Mono, Now, PortalId};

fn event(body: Event) -> AuditEvent {
    let wall = time::parse("2026-09-01T08:00:00.000Z").unwrap();
    AuditEvent::new(88001, "b1", Now { wall, mono: Mono(12), clock: ClockTrust::Trusted }, body)
}

fn boot() -> AuditEvent {
    event(Event::Boot { detail: String::new() })
}

fn revision(seq: u64) -> StreamRevision {
    StreamRevision { stream: "card-office".parse().unwrap(), epoch: NonZeroU32::new(3).unwrap(), seq }
}

/// The event's bytes without the fields that each has.
fn own_fields(body: Event) -> String {
    let text = String::from_utf8(encode(&event(body), b"", &NO_HASH)).unwrap();
    let (_, own) = text.split_once(",\"type\"").unwrap();
    format!("\"type\"{}", own.rsplit_once(",\"prev\"").unwrap().0)
}

#[test]
fn an_event_is_spelled_as_the_contract_reports_and_absent_fields_are_left_out() {
    let zeros = "0".repeat(64);
    let head = r#"{"n":88001,"at":"2026-09-01T08:00:00.000Z","clock":"trusted","boot":"b1","mono_ms":12,"type":"boot""#;
    let bytes = |evidence: &[u8]| String::from_utf8(encode(&boot(), evidence, &NO_HASH)).unwrap();
    assert_eq!(bytes(b""), format!(r#"{head},"prev":"{zeros}"}}"#));
    assert_eq!(bytes(b"proof"), format!(r#"{head},"evidence":"{}","prev":"{zeros}"}}"#, hex(&hash(b"proof"))));
}

#[test]
fn each_type_has_the_fields_of_the_contract() {
    let portal: PortalId = "gate-in".parse().unwrap();
    let who = || Who { uid: Some("1EA68671".parse().unwrap()), holder: Some("08193021".parse().unwrap()) };
    let mut also = Reasons::NONE;
    also.add(Reason::Lost);
    let flags = GrantFlags { late: true, ..GrantFlags::default() };
    let detail = || "d".to_owned();
    let taken = Some(("01J9".to_owned(), Timestamp(1_788_249_630_000)));
    let card = r#""portal":"gate-in","uid":"1EA68671","holder":"08193021""#;
    let rows = [
        (
            Event::Decision {
                portal: Some(portal.clone()),
                who: who(),
                outcome: Outcome::Deny(Reason::Replaced),
                also,
                flags,
                detail: detail(),
            },
            format!(
                r#""type":"decision",{card},"decision":"deny","reason":"replaced","also":["lost"],"flags":["late"],"detail":"d""#
            ),
        ),
        (
            Event::Taken { portal: portal.clone(), who: who(), direction: Direction::Out },
            format!(r#""type":"taken",{card},"direction":"out""#),
        ),
        (
            Event::PowerOff { portal: portal.clone(), who: who(), cause: OffCause::CardLeft },
            format!(r#""type":"power_off",{card},"reason":"card_left""#),
        ),
        (
            Event::PowerOn {
                portal: portal.clone(),
                source: PowerSource::Reported(who().uid.unwrap()),
                holder: who().holder,
                detail: String::new(),
            },
            format!(r#""type":"power_on",{card},"reason":"reported""#),
        ),
        (
            Event::PowerOn { portal: portal.clone(), source: PowerSource::Remote, holder: None, detail: detail() },
            r#""type":"power_on","portal":"gate-in","reason":"remote","detail":"d""#.to_owned(),
        ),
        (
            Event::ChangesApplied { revision: revision(1042) },
            r#""type":"changes_applied","revision":{"card-office":[3,1042]}"#.to_owned(),
        ),
        (
            Event::RejectedMessage {
                code: ErrorCode::InvalidUid,
                used_up: Some(revision(7)),
                count: 5,
                detail: detail(),
            },
            r#""type":"rejected_message","reason":"invalid_uid","revision":{"card-office":[3,7]},"count":5,"detail":"d""#
                .to_owned(),
        ),
        (
            Event::Command { portal: None, status: ReplyStatus::Ok, taken, detail: detail() },
            r#""type":"command","reason":"ok","jti":"01J9","exp":"2026-09-01T08:00:30.000Z","detail":"d""#.to_owned(),
        ),
        (
            Event::Posture { portal: None, posture: Posture::Lockdown, source: PostureSource::Operator },
            r#""type":"posture","reason":"lockdown","source":"operator""#.to_owned(),
        ),
        (
            Event::Alarm {
                kind: AlarmKind::Store,
                portal: None,
                who: Who::default(),
                count: 0,
                detail: detail(),
            },
            r#""type":"alarm","alarm":"store","detail":"d""#.to_owned(),
        ),
        (
            Event::ClockStep { by_ms: -60_000, restored: true, detail: String::new() },
            r#""type":"clock_step","reason":"clock_restored","by_ms":-60000"#.to_owned(),
        ),
        (
            Event::LogGap { from: 3, to: 5, cause: GapCause::Damaged },
            r#""type":"log_gap","reason":"damaged","from":3,"to":5"#.to_owned(),
        ),
        (
            Event::Config { mark: Mark::Goal(revision(9)), detail: detail() },
            r#""type":"config","revision":{"card-office":[3,9]},"mark":"goal","detail":"d""#.to_owned(),
        ),
        (
            Event::Config {
                mark: Mark::StreamForgotten(revision(9).stream, [RegisterKind::Standing].into()),
                detail: String::new(),
            },
            r#""type":"config","mark":"stream_forgotten","stream":"card-office","registers":["standing"]"#.to_owned(),
        ),
    ];
    for (body, expected) in rows {
        assert_eq!(own_fields(body), expected);
    }
}

#[test]
fn what_an_older_version_does_not_know_is_named_and_so_is_what_is_missing() {
    let text = |body| String::from_utf8(encode(&event(body), b"", &NO_HASH)).unwrap();
    let boot = text(Event::Boot { detail: String::new() });
    let error = decode(boot.replace("\"boot\",\"prev\"", "\"tea\",\"prev\"").as_bytes()).unwrap_err();
    assert_eq!(error, unknown("type", "tea"));
    assert_eq!(decode(boot.replace("\"at\"", "\"x\"").as_bytes()).unwrap_err(), unknown("at", ""));
    let gap = text(Event::LogGap { from: 3, to: 5, cause: GapCause::NotWritten });
    assert_eq!(decode(gap.replace("\"to\"", "\"x\"").as_bytes()).unwrap_err(), missing("to"));
    assert_eq!(decode(gap.replace("not_written", "x").as_bytes()).unwrap_err(), unknown("reason", "x"));
}

fn one_of<T: Copy + std::fmt::Debug + 'static>(all: &'static [T]) -> impl Strategy<Value = T> {
    proptest::sample::select(all)
}

prop_compose! {
    fn parts()(
        portal in "[A-Za-z0-9][A-Za-z0-9_-]{0,8}", uid in proptest::collection::vec(1u8..255, 7),
        holder in proptest::option::of("[A-Za-z0-9]{1,9}"), known in any::<bool>(), detail in ".{0,40}",
        epoch in 1u32.., seq in any::<u64>(), count in any::<u64>(),
    ) -> (PortalId, CardUid, Who, StreamRevision, u64, String) {
        let uid = CardUid::from_bytes(&uid).unwrap();
        let holder: Option<Holder> = holder.map(|h| h.parse().unwrap());
        let stream = "s".parse().unwrap();
        let revision = StreamRevision { stream, epoch: NonZeroU32::new(epoch).unwrap(), seq };
        (portal.parse().unwrap(), uid, Who { uid: known.then_some(uid), holder }, revision, count, detail)
    }
}

prop_compose! {
    fn bodies()(
        (portal, uid, who, revision, count, detail) in parts(), kind in one_of(EventKind::ALL),
        (deny, grant) in (one_of(Reason::ALL), proptest::option::of(one_of(&GrantReason::ALL))),
        also in proptest::collection::vec(one_of(Reason::ALL), 0..4),
        code in one_of(ErrorCode::ALL), status in one_of(ReplyStatus::ALL), source in one_of(PostureSource::ALL),
        posture in one_of(&Posture::ALL), alarm in one_of(AlarmKind::ALL), cause in one_of(GapCause::ALL),
        bits in any::<[bool; 4]>(), way in 0usize..4, by_ms in any::<i64>(),
    ) -> Event {
        let somewhere = bits[0].then(|| portal.clone());
        let mut reasons = Reasons::NONE;
        also.iter().for_each(|r| reasons.add(*r));
        match kind {
            EventKind::Decision => Event::Decision {
                portal: somewhere, who, also: reasons, detail,
                outcome: grant.map_or(Outcome::Deny(deny), Outcome::Grant),
                flags: GrantFlags { late: bits[0], soft_anti_passback: bits[1], clone_suspected: bits[2], stale_list: bits[3] },
            },
            EventKind::Taken => {
                Event::Taken { portal, who, direction: if bits[0] { Direction::In } else { Direction::Out } }
            }
            EventKind::NotTaken => Event::NotTaken { portal, who },
            EventKind::PowerOn => {
                let by_card = if bits[0] { PowerSource::Card } else { PowerSource::Reported };
            let source = who.uid.map_or(PowerSource::Remote, by_card);
                Event::PowerOn { portal, source, holder: who.holder, detail }
            }
            EventKind::PowerOff => {
                let causes = [OffCause::CardLeft, OffCause::RelayOff, OffCause::Command, OffCause::Denied(deny)];
                Event::PowerOff { portal, who, cause: causes[way] }
            }
            EventKind::Revoked => Event::Revoked { uid, holder: who.holder, revision },
            EventKind::ChangesApplied => Event::ChangesApplied { revision },
            EventKind::RejectedMessage => {
                Event::RejectedMessage { code, used_up: bits[0].then_some(revision), count, detail }
            }
            EventKind::Command => {
                let taken = bits[1].then(|| (detail.clone(), Timestamp(1_788_249_630_000)));
                Event::Command { portal: somewhere, status, taken, detail }
            }
            EventKind::Posture => Event::Posture { portal: somewhere, posture, source },
            EventKind::Alarm => Event::Alarm { kind: alarm, portal: somewhere, who, count, detail },
            EventKind::PortalOnline => Event::PortalOnline { portal, detail },
            EventKind::PortalOffline => Event::PortalOffline { portal, detail },
            EventKind::Boot => Event::Boot { detail },
            EventKind::ClockStep => Event::ClockStep { by_ms, restored: bits[0], detail },
            EventKind::LogGap => Event::LogGap { from: count, to: revision.seq, cause },
            EventKind::Config => {
                let stream = revision.stream.clone();
                let marks = [Mark::Note, Mark::Goal(revision), Mark::StreamForgotten(stream, RegisterKind::ALL.iter().copied().take(way).collect())];
                Event::Config { mark: marks[way % 3].clone(), detail }
            }
        }
    }
}

prop_compose! {
    fn events()(
        n in any::<u64>(), at in -62_000_000_000_000i64..253_000_000_000_000, trusted in any::<bool>(),
        boot in ".{0,12}", mono_ms in any::<u64>(), body in bodies(),
    ) -> AuditEvent {
        let clock = if trusted { ClockTrust::Trusted } else { ClockTrust::Untrusted };
        AuditEvent { n, at: Timestamp(at), clock, boot: boot.into(), mono_ms, body }
    }
}

proptest! {
    #[test]
    fn every_event_comes_back_as_it_went(event in events(), evidence in any::<Vec<u8>>(), prev in any::<[u8; 32]>()) {
        let decoded = decode(&encode(&event, &evidence, &prev)).unwrap();
        prop_assert_eq!(decoded.event, event);
        prop_assert_eq!(decoded.prev, prev);
        prop_assert_eq!(decoded.evidence, (!evidence.is_empty()).then(|| hash(&evidence)));
    }

    #[test]
    fn an_event_with_a_changed_byte_is_refused_or_read_as_one(event in events(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = encode(&event, b"x", &NO_HASH);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(read) = decode(&bytes) {
            prop_assert_eq!(decode(&encode(&read.event, b"x", &read.prev)).unwrap().event, read.event);
        }
        prop_assert!(decode(&bytes[..at]).is_err());
    }
}
