//! How a gateway stands to its center, stream by stream and card by card.

use std::num::NonZeroU32;
use std::path::Path;

use super::super::sheet::Enrolments;
use super::super::{Layout, create};
use super::*;
use crate::access::change::{Op, Subject};
use crate::access::credential::{Enrolment, Entitlement, ZoneSet};
use crate::access::decision::GrantReason;
use crate::access::id::Timestamp;
use crate::access::portal::PortalKind;

const NOW: Timestamp = Timestamp(1_788_249_600_000);
/// The epoch of the center here, so that a gateway may be at an older one and at a newer one.
const EPOCH: NonZeroU32 = NonZeroU32::new(2).unwrap();

fn gateway(id: &str) -> GatewayId {
    id.parse().unwrap()
}

fn uid(text: &str) -> CardUid {
    text.parse().unwrap()
}

fn center(dir: &Path, layout: Layout) -> Center {
    create(dir, layout, EPOCH).unwrap();
    Center::open(dir, &[gateway("g1"), gateway("g2")]).unwrap()
}

fn enrolment() -> Enrolment {
    Enrolment::resident(
        "h1".parse().unwrap(),
        vec![Entitlement { kind: PortalKind::Gate, zone: ZoneSet::Any, schedule: None }],
    )
}

fn enrol(card: &str) -> Op {
    Op::Enrol { uid: uid(card), enrolment: enrolment() }
}

fn flag(card: &str, flag: Flag) -> Op {
    Op::SetFlag { subject: Subject::Card(uid(card)), flag, on: true }
}

/// What a gateway reports of a stream.
fn status(name: &str, epoch: u32, seq: u64, digest: Option<&str>) -> StreamStatus {
    let digest = digest.map(str::to_owned);
    StreamStatus { name: name.parse().unwrap(), epoch, seq, missing: 0, digest, age_s: None }
}

#[test]
fn a_stream_agrees_only_with_the_same_number_and_the_same_digest() {
    let dir = tempfile::tempdir().unwrap();
    let mut center = center(dir.path(), Layout::One);
    let g1 = gateway("g1");
    for card in ["02020304", "01020305", "01020306"] {
        center.publish_ops(Some(&g1), &[enrol(card)], NOW).unwrap();
    }
    let spec = center.streams().next().unwrap();
    let owns = digest::registers_of(spec.allowed);
    let own = digest::of(center.list(&Audience::Gateway(g1.clone())).unwrap(), &owns).sha256;
    let other = "0".repeat(64);
    let of = |epoch, seq, digest| vec![status("center", epoch, seq, digest)];
    let table = [
        (vec![], Agreement::NotReceived),
        (vec![status("other", 2, 3, Some(&own))], Agreement::NotReceived),
        (of(0, 0, None), Agreement::NotReceived),
        (of(1, 9, Some(&own)), Agreement::Behind),
        (of(2, 2, Some(&own)), Agreement::Behind),
        (of(2, 3, None), Agreement::NoDigest),
        (of(2, 3, Some(&own)), Agreement::Equal),
        (of(2, 3, Some(&other)), Agreement::Differs),
        (of(2, 4, Some(&own)), Agreement::Ahead),
        (of(3, 1, Some(&own)), Agreement::Ahead),
    ];
    for (statuses, expected) in table {
        let all = center.agreements(&g1, &statuses).unwrap();
        let published = Position { epoch: EPOCH, seq: 3 };
        let gateway = statuses.iter().find(|status| status.name.as_str() == "center").cloned();
        let stream = "center".parse().unwrap();
        assert_eq!(all, [StreamAgreement { stream, published, gateway, agreement: expected }], "{statuses:?}");
    }
    // Nothing was published to the other gateway, so there is nothing to agree on.
    assert_eq!(center.agreements(&gateway("g2"), &of(2, 3, Some(&own))).unwrap(), []);
}

#[test]
fn each_stream_is_compared_by_what_it_published_to_this_gateway() {
    let dir = tempfile::tempdir().unwrap();
    let mut center = center(dir.path(), Layout::Two);
    let (g1, g2) = (gateway("g1"), gateway("g2"));
    center.publish_ops(None, &[flag("02020304", Flag::Lost)], NOW).unwrap();
    center.publish_ops(Some(&g1), &[enrol("02020304")], NOW).unwrap();
    center.publish_ops(Some(&g2), &[enrol("01020305")], NOW).unwrap();
    let digest_of = |center: &Center, name: &str, audience: Audience| {
        let spec = center.streams().find(|spec| spec.name.as_str() == name).unwrap();
        digest::of(center.list(&audience).unwrap(), &digest::registers_of(spec.allowed)).sha256
    };
    let campus = digest_of(&center, "card-office", Audience::Campus);
    let own = digest_of(&center, "apartment", Audience::Gateway(g1.clone()));
    let statuses = [status("apartment", 2, 1, Some(&own)), status("card-office", 2, 1, Some(&campus))];
    let agreements = |center: &mut Center, gateway: &GatewayId| -> Vec<(String, Agreement)> {
        let all = center.agreements(gateway, &statuses).unwrap();
        all.into_iter().map(|one| (one.stream.to_string(), one.agreement)).collect()
    };
    let named = |name: &str, agreement| (name.to_owned(), agreement);
    assert_eq!(
        agreements(&mut center, &g1),
        [named("card-office", Agreement::Equal), named("apartment", Agreement::Equal)]
    );
    // The list of the first is not that of the second.
    assert_eq!(
        agreements(&mut center, &g2),
        [named("card-office", Agreement::Equal), named("apartment", Agreement::Differs)]
    );
}

#[test]
fn messages_behind_a_number_are_listed_with_what_they_publish() {
    let dir = tempfile::tempdir().unwrap();
    let mut center = center(dir.path(), Layout::One);
    let (g1, stream) = (gateway("g1"), "center".parse().unwrap());
    assert_eq!(center.messages_behind(&g1, &stream, 0).unwrap(), None, "nothing was published");
    center.publish_ops(Some(&g1), &[enrol("02020304")], NOW).unwrap();
    center.publish_ops(Some(&g1), &[flag("02020304", Flag::Lost)], NOW).unwrap();
    center.load(Some(&g1), &Enrolments::from([(uid("01020305"), enrolment())]), true, NOW).unwrap();
    let at = |seq| Position { epoch: EPOCH, seq };
    let lost = (at(2), r#"[{"op":"report_lost","uid":"02020304"}]"#.to_owned());
    let loaded = (at(3), "a list that was loaded".to_owned());
    assert_eq!(center.messages_behind(&g1, &stream, 1).unwrap(), Some(vec![lost, loaded]));
    assert_eq!(center.messages_behind(&g1, &stream, 3).unwrap(), Some(vec![]));
    let other = "other".parse().unwrap();
    assert_eq!(center.messages_behind(&g1, &other, 0).unwrap(), None);
}

#[test]
fn more_messages_than_are_listed_are_none() {
    let dir = tempfile::tempdir().unwrap();
    let mut center = center(dir.path(), Layout::One);
    let (g1, stream) = (gateway("g1"), "center".parse().unwrap());
    let publish = |center: &mut Center, count: usize| {
        center.transaction(|center| {
            (0..count).try_for_each(|_| center.stage_ops(Some(&g1), &[enrol("02020304")], NOW).map(drop))
        })
    };
    publish(&mut center, MISSING_LISTED_MAX).unwrap();
    let listed = center.messages_behind(&g1, &stream, 0).unwrap();
    assert_eq!(listed.map(|listed| listed.len()), Some(MISSING_LISTED_MAX));
    publish(&mut center, 1).unwrap();
    assert_eq!(center.messages_behind(&g1, &stream, 0).unwrap(), None);
}

#[test]
fn the_whole_list_of_a_gateway_is_its_own_and_that_of_the_campus() {
    let dir = tempfile::tempdir().unwrap();
    let mut center = center(dir.path(), Layout::Two);
    let (g1, g2) = (gateway("g1"), gateway("g2"));
    center.publish_ops(None, &[flag("02020304", Flag::Lost), flag("01020306", Flag::Frozen)], NOW).unwrap();
    center.publish_ops(Some(&g1), &[enrol("02020304")], NOW).unwrap();
    center.publish_ops(Some(&g2), &[enrol("01020305")], NOW).unwrap();
    let shown = |list: &AccessList, card| {
        list.card(&uid(card)).map(|card| {
            (card.standing().contains(Flag::Lost), card.standing().contains(Flag::Frozen), card.enrolment().is_some())
        })
    };
    let list = center.whole_list(&g1);
    assert_eq!(shown(&list, "02020304"), Some((true, false, true)));
    assert_eq!(shown(&list, "01020305"), None);
    assert_eq!(shown(&list, "01020306"), Some((false, true, false)));
    assert_eq!(shown(&center.whole_list(&g2), "02020304"), Some((true, false, false)));
}

/// The list that the cards of [`what_a_gateway_knows_otherwise_of_a_card_is_named`] are compared with.
fn list() -> AccessList {
    let ops = [
        Op::Issue { uid: uid("0A000001"), holder: "h1".parse().unwrap() },
        enrol("0A000001"),
        flag("0A000002", Flag::Lost),
        enrol("0A000002"),
        flag("0A000003", Flag::Frozen),
        enrol("0A000003"),
        Op::Issue { uid: uid("0A000004"), holder: "h4".parse().unwrap() },
        enrol("0A000005"),
        flag("0A000006", Flag::Cancelled),
        enrol("0A000006"),
        flag("08111111", Flag::Lost),
        flag("88111111", Flag::Frozen),
    ];
    let mut list = AccessList::default();
    list.replay(&ops, Position { epoch: EPOCH, seq: 1 }, None);
    list
}

#[test]
fn what_a_gateway_knows_otherwise_of_a_card_is_named() {
    use Reason::{
        Cancelled, Frozen, Lost, MalformedIdentifier, NoEntitlement, NotEnrolled, OutOfService, RandomIdentifier,
        Replaced, UnknownCredential,
    };
    const GRANT: Outcome = Outcome::Grant(GrantReason::Granted);
    let deny = Outcome::Deny;
    let (unknown, nothing) = (deny(UnknownCredential), [].as_slice());
    let issued = "known here, unknown there";
    let never_issued = "known here, unknown there, unless `center.require_issue` is set there: it was never issued";
    let frozen_here = "frozen here and not there, unless `policy.frozen_may` lets it pass everywhere";
    // The card, what is decided at the gate and at the power box with the further reasons of each, and the differences.
    type Decided<'a> = (Outcome, &'a [Reason]);
    let table: [(&str, [Decided; 2], &[&str]); 24] = [
        ("0A000001", [(GRANT, nothing), (deny(NoEntitlement), nothing)], &[]),
        ("0A000001", [(unknown, nothing), (unknown, nothing)], &[issued]),
        ("0A000001", [(deny(Lost), nothing), (deny(Lost), nothing)], &["lost there and not here"]),
        ("0A000001", [(deny(Replaced), nothing), (deny(Replaced), nothing)], &["replaced there and not here"]),
        ("0A000001", [(deny(Frozen), nothing), (GRANT, nothing)], &["frozen there and not here"]),
        (
            "0A000001",
            [(deny(Cancelled), &[Lost]), (deny(Cancelled), &[Lost])],
            &["cancelled there and not here", "lost there and not here"],
        ),
        // Denied at one portal for a reason of the card and not at another: the reason is not of the card alone.
        ("0A000001", [(deny(Lost), nothing), (GRANT, nothing)], &[]),
        ("0A000002", [(deny(Lost), nothing), (deny(Lost), nothing)], &[]),
        ("0A000002", [(GRANT, nothing), (deny(NoEntitlement), nothing)], &["lost here and not there"]),
        ("0A000002", [(deny(Replaced), &[Lost]), (deny(Replaced), &[Lost])], &["replaced there and not here"]),
        ("0A000003", [(deny(Frozen), nothing), (deny(Frozen), nothing)], &[]),
        ("0A000003", [(deny(Frozen), nothing), (GRANT, nothing)], &[]),
        ("0A000003", [(GRANT, nothing), (GRANT, nothing)], &[frozen_here]),
        ("0A000004", [(deny(NotEnrolled), nothing), (deny(NotEnrolled), nothing)], &[]),
        (
            "0A000004",
            [(GRANT, nothing), (deny(NotEnrolled), nothing)],
            &["not enrolled here, enrolled there for gate-in"],
        ),
        (
            "0A000004",
            [(GRANT, nothing), (GRANT, nothing)],
            &["not enrolled here, enrolled there for gate-in power-412"],
        ),
        ("0A000004", [(deny(Lost), &[NotEnrolled]), (deny(Lost), &[NotEnrolled])], &["lost there and not here"]),
        ("0A000005", [(unknown, nothing), (unknown, nothing)], &[never_issued]),
        ("0A000006", [(deny(Cancelled), nothing), (deny(Cancelled), nothing)], &[]),
        ("0A000006", [(GRANT, nothing), (GRANT, nothing)], &["cancelled here and not there"]),
        // Reported lost, by its UID: the gateway denies such a UID before it looks for a card.
        ("08111111", [(deny(RandomIdentifier), nothing), (deny(OutOfService), &[RandomIdentifier])], &[]),
        ("88111111", [(deny(MalformedIdentifier), nothing), (deny(MalformedIdentifier), nothing)], &[]),
        ("0B000001", [(unknown, nothing), (unknown, nothing)], &[]),
        ("0B000001", [(GRANT, nothing), (unknown, nothing)], &["known there, unknown here"]),
    ];
    let list = list();
    for (card, decided, expected) in table {
        let verdict =
            |(portal, (outcome, also)): (&str, Decided)| Verdict::new(portal.parse().unwrap(), outcome, also.to_vec());
        let verdicts = ["gate-in", "power-412"].into_iter().zip(decided).map(verdict).collect();
        let answer = QueryResult { verdicts, revocations: Vec::new() };
        assert_eq!(differences(&list, uid(card), &answer), expected, "{card} {answer:?}");
    }
    // A gateway without portals decides nothing.
    let nothing = QueryResult { verdicts: Vec::new(), revocations: Vec::new() };
    assert_eq!(differences(&list, uid("0A000001"), &nothing), [""; 0]);
}
