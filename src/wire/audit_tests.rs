//! Audit events as bytes: the spelling of each type, and the way back.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::access::change::{RegisterKind, SuspendReason};
use crate::access::credential::Role;
use crate::access::id::{Mono, Now};

fn event(body: Event) -> AuditEvent {
    let wall = "2026-09-01T08:00:00.000Z".parse().unwrap();
    AuditEvent::new(88001, "b1", Now { wall, mono: Mono(12), clock: ClockTrust::Trusted }, body)
}

fn revision(seq: u64) -> StreamRevision {
    StreamRevision { stream: "card-office".parse().unwrap(), epoch: NonZeroU32::new(3).unwrap(), seq }
}

#[test]
fn an_event_is_spelled_as_in_the_contract_and_absent_fields_are_left_out() {
    let zeros = "0".repeat(64);
    let head = r#"{"n":88001,"at":"2026-09-01T08:00:00.000Z","clock":"trusted","boot":"b1","mono_ms":12,"type":"boot""#;
    let boot = event(Event::Boot { gateway: None, owners: None, detail: String::new() });
    let bytes = |evidence: &[u8]| String::from_utf8(encode(&boot, evidence, &NO_HASH)).unwrap();
    assert_eq!(bytes(b""), format!(r#"{head},"prev":"{zeros}"}}"#));
    assert_eq!(bytes(b"proof"), format!(r#"{head},"evidence":"{}","prev":"{zeros}"}}"#, hex::encode(hash(b"proof"))));
}

/// Events of every type.
pub(crate) fn samples() -> impl Iterator<Item = Event> {
    rows().into_iter().map(|(event, _)| event)
}

/// Events of every type with the fields of the contract that are its own.
fn rows() -> Vec<(Event, String)> {
    let portal: PortalId = "gate-in".parse().unwrap();
    let who = || Who { uid: Some("1EA68671".parse().unwrap()), holder: Some("08193021".parse().unwrap()) };
    let also = Reason::Lost.into();
    let flags = GrantFlag::Late | GrantFlag::StaleList;
    let detail = || "d\n\"é".to_owned();
    let received_at = Timestamp(1_788_249_630_000);
    let taken = Some(("01J9".to_owned(), Timestamp(1_788_249_630_000)));
    let forgotten = Mark::StreamForgotten(revision(9).stream, [RegisterKind::Standing].into());
    let card = r#""portal":"gate-in","uid":"1EA68671","holder":"08193021""#;
    let text = r#""detail":"d\n\"é""#;
    let decided = |portal: Option<PortalId>, who, outcome| Event::Decision {
        role: if portal.is_some() { Role::Staff } else { Role::Resident },
        portal,
        who,
        outcome,
        also,
        flags,
        direction: None,
        detail: detail(),
    };
    let denied = decided(Some(portal.clone()), who(), Outcome::Deny(Reason::Replaced));
    let granted = decided(None, Who::default(), Outcome::Grant(GrantReason::Exit));
    let noted = r#""also":["lost"],"flags":["late","stale_list"]"#;
    let on = |source, holder| Event::PowerOn { portal: portal.clone(), source, holder, detail: String::new() };
    let off = |cause| Event::PowerOff { portal: portal.clone(), who: who(), cause };
    let rejected =
        |used_up, count| Event::RejectedMessage { code: ErrorCode::InvalidUid, used_up, count, detail: detail() };
    let alarm = |kind, count| Event::Alarm {
        kind,
        portal: None,
        who: Who::default(),
        count,
        ended: count == 0,
        detail: detail(),
    };
    let config = |mark, detail| Event::Config { mark, detail };
    let uid = who().uid.unwrap();
    let mut rows = vec![
        (denied, format!(r#""type":"decision",{card},"role":"staff","decision":"deny","reason":"replaced",{noted},{text}"#)),
        (granted, format!(r#""type":"decision","decision":"grant","reason":"exit",{noted},{text}"#)),
        (
            Event::Taken { portal: portal.clone(), who: who(), direction: Direction::Out },
            format!(r#""type":"taken",{card},"direction":"out""#),
        ),
        (
            Event::NotTaken { portal: portal.clone(), who: who(), detail: String::new() },
            format!(r#""type":"not_taken",{card}"#),
        ),
        (on(PowerSource::Reported(uid), who().holder), format!(r#""type":"power_on",{card},"reason":"reported""#)),
        (on(PowerSource::Card(uid), who().holder), format!(r#""type":"power_on",{card}"#)),
        (on(PowerSource::Remote, None), r#""type":"power_on","portal":"gate-in","reason":"remote""#.to_owned()),
        (
            Event::PowerOrdered {
                portal: portal.clone(),
                source: PowerSource::Card(uid),
                holder: who().holder,
                detail: detail(),
            },
            format!(r#""type":"power_ordered",{card},{text}"#),
        ),
        (
            Event::PowerTrip {
                portal: portal.clone(),
                who: who(),
                reason: SuspendReason::RestrictedLoad,
                stays_off: true,
                ended: false,
                detail: detail(),
            },
            format!(r#""type":"power_trip",{card},"reason":"restricted_load","stays_off":true,{text}"#),
        ),
        (
            Event::PowerTrip {
                portal: portal.clone(),
                who: Who::default(),
                reason: SuspendReason::Overload,
                stays_off: false,
                ended: true,
                detail: detail(),
            },
            format!(r#""type":"power_trip","portal":"gate-in","reason":"overload","ended":true,{text}"#),
        ),
        (
            Event::Revoked { uid, holder: None, revision: revision(2), received_at, cut: Vec::new() },
            r#""type":"revoked","uid":"1EA68671","revision":{"card-office":[3,2]},"received_at":"2026-09-01T08:00:30.000Z""#
                .to_owned(),
        ),
        (
            Event::Revoked { uid, holder: who().holder, revision: revision(2), received_at, cut: vec![portal.clone()] },
            r#""type":"revoked","uid":"1EA68671","holder":"08193021","revision":{"card-office":[3,2]},"received_at":"2026-09-01T08:00:30.000Z","cut":["gate-in"]"#
                .to_owned(),
        ),
        (
            Event::RevocationDurable { from: 7, to: 9 },
            r#""type":"revocation_durable","from":7,"to":9"#.to_owned(),
        ),
        (
            Event::RevocationConfirmed { portal: portal.clone(), who: who(), revoked: 7, how: Confirmation::OnByRight },
            format!(r#""type":"revocation_confirmed",{card},"reason":"on_by_right","revoked":7"#),
        ),
        (
            Event::ChangesApplied { revision: revision(u64::MAX), snapshot: None },
            format!(r#""type":"changes_applied","revision":{{"card-office":[3,{}]}}"#, u64::MAX),
        ),
        (
            Event::ChangesApplied {
                revision: revision(1042),
                snapshot: Some(AppliedSnapshot {
                    id: "2026-09-01-a".to_owned(),
                    owns: [RegisterKind::Standing, RegisterKind::Power].into(),
                }),
            },
            r#""type":"changes_applied","revision":{"card-office":[3,1042]},"registers":["standing","power"],"snapshot":"2026-09-01-a""#
                .to_owned(),
        ),
        (
            rejected(Some(revision(7)), 5),
            format!(
                r#""type":"rejected_message","reason":"invalid_uid","revision":{{"card-office":[3,7]}},"count":5,{text}"#
            ),
        ),
        (rejected(None, 0), format!(r#""type":"rejected_message","reason":"invalid_uid",{text}"#)),
        (
            Event::Command { portal: None, status: ReplyStatus::Ok, taken, detail: detail() },
            format!(r#""type":"command","reason":"ok","jti":"01J9","exp":"2026-09-01T08:00:30.000Z",{text}"#),
        ),
        (
            Event::Command { portal: Some(portal.clone()), status: ReplyStatus::Failed, taken: None, detail: detail() },
            format!(r#""type":"command","portal":"gate-in","reason":"failed",{text}"#),
        ),
        (
            Event::Posture { portal: None, posture: Posture::Lockdown, source: PostureSource::Operator },
            r#""type":"posture","reason":"lockdown","source":"operator""#.to_owned(),
        ),
        (alarm(AlarmKind::Store, 0), format!(r#""type":"alarm","alarm":"store","ended":true,{text}"#)),
        (alarm(AlarmKind::Clone, 9), format!(r#""type":"alarm","alarm":"clone","count":9,{text}"#)),
        (
            Event::PortalOnline { portal: portal.clone(), detail: String::new() },
            r#""type":"portal_online","portal":"gate-in""#.to_owned(),
        ),
        (
            Event::PortalOffline { portal: portal.clone(), detail: detail() },
            format!(r#""type":"portal_offline","portal":"gate-in",{text}"#),
        ),
        (Event::Boot { gateway: None, owners: None, detail: detail() }, format!(r#""type":"boot",{text}"#)),
        (
            Event::Boot {
                gateway: Some("nanhu-xing1".parse().unwrap()),
                owners: Some([("card-office".parse().unwrap(), [RegisterKind::Standing].into())].into()),
                detail: detail(),
            },
            format!(r#""type":"boot","gateway":"nanhu-xing1","owners":{{"card-office":["standing"]}},{text}"#),
        ),
        (
            Event::ClockStep { by_ms: -60_000, restored: true, detail: String::new() },
            r#""type":"clock_step","reason":"clock_restored","by_ms":-60000"#.to_owned(),
        ),
        (Event::ClockStep { by_ms: 0, restored: false, detail: detail() }, format!(r#""type":"clock_step",{text}"#)),
        (
            Event::LogGap { from: 3, to: 5, cause: GapCause::Damaged, ranges: Vec::new() },
            r#""type":"log_gap","reason":"damaged","from":3,"to":5"#.to_owned(),
        ),
        (config(Mark::Note, detail()), format!(r#""type":"config",{text}"#)),
        (
            config(Mark::AlarmsAcknowledged { from: 3, to: 5 }, detail()),
            format!(r#""type":"config","mark":"alarms_acknowledged","from":3,"to":5,{text}"#),
        ),
        (
            config(Mark::PassagesErased("h1".parse().unwrap()), detail()),
            format!(r#""type":"config","holder":"h1","mark":"passages_erased",{text}"#),
        ),
        (
            config(Mark::Goal(revision(9)), detail()),
            format!(r#""type":"config","revision":{{"card-office":[3,9]}},"mark":"goal",{text}"#),
        ),
        (
            config(Mark::StreamLost(revision(9).stream), detail()),
            format!(r#""type":"config","mark":"stream_lost","stream":"card-office",{text}"#),
        ),
        (
            config(forgotten, String::new()),
            r#""type":"config","mark":"stream_forgotten","stream":"card-office","registers":["standing"]"#.to_owned(),
        ),
    ];
    let causes = [OffCause::CardLeft, OffCause::RelayOff, OffCause::Command, OffCause::Denied(Reason::Lost)];
    let names = ["card_left", "relay_off", "remote", "lost"];
    rows.extend(
        causes.into_iter().zip(names).map(|(c, n)| (off(c), format!(r#""type":"power_off",{card},"reason":"{n}""#))),
    );
    rows
}

#[test]
fn each_type_has_the_fields_of_the_contract_and_comes_back_as_it_went() {
    for (body, expected) in rows() {
        let event = event(body);
        let bytes = encode(&event, b"", &NO_HASH);
        let text = std::str::from_utf8(&bytes).unwrap();
        let own = text.split_once(",\"type\"").unwrap().1.rsplit_once(",\"prev\"").unwrap().0;
        assert_eq!(format!("\"type\"{own}"), expected);
        assert_eq!(decode(&bytes).unwrap().event, event);
    }
    let types: BTreeSet<_> = rows().iter().map(|(body, _)| body.kind()).collect();
    assert_eq!(types.len(), EventKind::ALL.len(), "{types:?}");
}

#[test]
fn what_an_older_version_does_not_know_is_named_and_so_is_what_is_missing() {
    let boot = (Event::Boot { gateway: None, owners: None, detail: String::new() }, "boot");
    let gap = (Event::LogGap { from: 3, to: 5, cause: GapCause::NotWritten, ranges: vec![(3, 3), (5, 5)] }, "log_gap");
    for ((body, name), from, to, named) in [
        (&boot, "\"boot\",\"prev\"", "\"tea\",\"prev\"", "is wanted, got `tea`"),
        (&boot, "\"at\"", "\"x\"", "`at`: is missing"),
        (&boot, "\"trusted\"", "\"x\"", "`clock`: `trusted` or `untrusted` is wanted, got `x`"),
        (&boot, "\"prev\":\"0", "\"prev\":\"", "`prev`: a SHA-256"),
        (&gap, "\"to\"", "\"x\"", "`to`: is missing"),
        (&gap, "not_written", "x", "`reason`: unknown value `x`"),
    ] {
        let text = String::from_utf8(encode(&event(body.clone()), b"", &NO_HASH)).unwrap();
        let error = decode(text.replace(from, to).as_bytes()).unwrap_err().to_string();
        assert!(error.contains(named) && error.contains("another version"), "{name}: {error}");
    }
}

prop_compose! {
    fn events()(
        n in any::<u64>(), at in -62_000_000_000_000i64..253_000_000_000_000, trusted in any::<bool>(),
        boot in ".{0,12}", mono_ms in any::<u64>(), (body, _) in proptest::sample::select(rows()),
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
