//! Readers that lose part of the UID: whom a reading means, and what happens when it means two.

use std::collections::BTreeSet;

use dormgate::access::change::{Op, Subject};
use dormgate::access::event::{AlarmKind, EventKind};
use dormgate::access::id::{CardUid, Timestamp};
use dormgate::access::input::{Input, PortalReport, Presented, Request};
use dormgate::access::list::{AccessList, COLLISIONS_LISTED_MAX, Lookup};
use dormgate::access::policy::{KindSet, Policy};
use dormgate::access::portal::{Direction, Portal, PortalKind, Posture};
use dormgate::access::transform::{Form, Transform, Turn};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::convergence::{apartment_op, office_op};
use crate::model;
use crate::world::{BEGIN_MS, OFFICE, Seen, World, at, name, op, portals, uid};

const WIEGAND_26: Transform = Transform { turn: Turn::AsSent, form: Form::Last(3) };
/// The same as card `A` to a Wiegand 26 reader.
const TWIN: &str = "99A68671";

/// A building where the readers of room 412 are Wiegand 26 and all others give whole UIDs.
fn building() -> World {
    building_with(Policy::default())
}

fn building_with(policy: Policy) -> World {
    World::of(policy, portals(), ["door-412", "power-412"].map(|p| (name(p), WIEGAND_26)).to_vec())
}

/// What the reader of room 412 makes of a card.
fn short(card: &str) -> Presented {
    Presented::Lossy(WIEGAND_26.read(uid(card)))
}

fn show(w: &mut World, portal: &str, card: &str) -> Seen {
    let request = w.request(portal, short(card));
    w.input(Input::Request(request))
}

fn lies(w: &mut World, card: &str, relay: Option<bool>) -> Seen {
    let uid = Some(short(card));
    w.report("power-412", PortalReport { card_present: Some(true), uid, relay, ..PortalReport::default() })
}

#[test]
fn a_card_is_known_by_what_the_reader_makes_of_it_and_judged_as_itself() {
    let mut w = building();
    w.resident("A", "p1");
    let seen = show(&mut w, "door-412", "A");
    assert_eq!(seen.reason(), "granted");
    let event = &seen.records().find(|r| r.event.kind() == EventKind::Decision).unwrap().event;
    assert_eq!((event.body.uid(), event.body.holder().cloned()), (Some(uid("A")), Some(name("p1"))));
    assert_eq!(event.body.detail(), "read as `A68671` (wiegand26)");
    w.publish(vec![op::report_lost("uid:A")]);
    let seen = show(&mut w, "door-412", "A");
    assert_eq!((seen.reason(), seen.alarms()), ("lost", vec![AlarmKind::DeadCard]));
}

#[test]
fn a_reading_that_no_card_makes_is_unknown_and_written_down() {
    let mut w = building();
    w.resident("A", "p1");
    let seen = show(&mut w, "door-412", "X");
    assert_eq!(seen.reason(), "unknown_credential");
    let event = &seen.records().find(|r| r.event.kind() == EventKind::Decision).unwrap().event;
    assert_eq!(event.body.uid(), None);
    assert_eq!(event.body.detail(), "read as `ADBEEF` (wiegand26), which no known card is");
}

#[test]
fn edge_two_cards_equal_after_a_w26_transform_ambiguous_identifier_at_w26_readers_only() {
    let mut w = building();
    w.resident("A", "p1").resident(TWIN, "p2");
    let seen = show(&mut w, "door-412", "A");
    assert_eq!(seen.reason(), "ambiguous_identifier");
    let event = &seen.records().find(|r| r.event.kind() == EventKind::Decision).unwrap().event;
    assert_eq!(event.body.detail(), "read as `A68671` (wiegand26), which `…8671` of `p1`, `…8671` of `p2` all are");
    for card in ["A", TWIN] {
        assert_eq!(w.present("gate-in", card), "granted");
        let reported = w.engine.query(uid(card), None, w.now()).unwrap();
        let at = |portal: &str| reported.iter().find(|v| v.portal.as_str() == portal).unwrap().outcome.reason();
        assert_eq!((at("door-412"), at("gate-in")), ("ambiguous_identifier", "granted"));
    }
}

#[test]
fn nobody_is_kept_in_by_a_reader_that_cannot_report_cards_apart() {
    let lossy = vec![(name("gate-out"), WIEGAND_26), (name("door-412"), WIEGAND_26)];
    let mut w = World::of(Policy::default(), portals(), lossy);
    w.resident("A", "p1").resident(TWIN, "p2");
    let seen = show(&mut w, "gate-out", "A");
    assert_eq!(seen.reason(), "exit");
    assert!(seen.decision().also().iter().any(|r| r.as_str() == "ambiguous_identifier"));
    w.operator("", Posture::FreeAccess);
    assert_eq!(show(&mut w, "door-412", "A").reason(), "free_access");
}

#[test]
fn a_dead_card_never_opens_as_the_living_one_that_reads_the_same() {
    let death = [op::report_lost("uid:99A68671"), op::cancel("uid:99A68671"), op::freeze("uid:99A68671")];
    for dead in death {
        let mut w = building();
        w.resident("A", "p1").issue(TWIN, "p2").publish(vec![dead]);
        assert_eq!(show(&mut w, "door-412", TWIN).reason(), "ambiguous_identifier");
    }
    // Also where both are of one holder: a reissued card that reads like the dead one it replaces.
    let mut w = building_with(Policy {
        reissue_keeps: KindSet::from_iter(PortalKind::ALL.iter().copied()),
        ..Policy::default()
    });
    w.resident(TWIN, "p1").publish(vec![op::reissue("p1", "A", None)]);
    assert_eq!(
        (show(&mut w, "door-412", "A").reason(), w.present("gate-in", "A")),
        ("ambiguous_identifier", "granted")
    );
    // And where the other is only not enrolled here.
    let mut w = building();
    w.resident("A", "p1").issue(TWIN, "p2");
    assert_eq!(show(&mut w, "door-412", TWIN).reason(), "ambiguous_identifier");
}

#[test]
fn a_box_on_by_a_card_that_becomes_ambiguous_is_cut_in_the_same_step() {
    let mut w = building();
    w.resident("A", "p1");
    assert_eq!(show(&mut w, "power-412", "A").reason(), "granted");
    assert!(w.is_on("power-412"));
    let seen = w.publish(vec![op::issue(TWIN, "p2")]);
    assert_eq!(seen.cuts(), [("power-412", "ambiguous_identifier")]);
    assert_eq!(seen.ack().cut, [name("power-412")]);
    assert_eq!(seen.ack().revoked, []);
    assert!(!w.is_on("power-412"));
    // The card still lies there: the box reports it, and stays off.
    assert_eq!(lies(&mut w, "A", Some(false)).openings(), 0);
    assert!(!w.is_on("power-412"));
    w.assert_replay_is_life();
    w.restart();
    assert_eq!(show(&mut w, "power-412", "A").reason(), "ambiguous_identifier");
}

#[test]
fn revoking_a_card_cuts_the_box_that_it_holds_on_through_a_lossy_reader() {
    let mut w = building();
    w.resident("A", "p1");
    show(&mut w, "power-412", "A");
    assert_eq!(w.publish(vec![op::report_lost("p1")]).cuts(), [("power-412", "lost")]);
    assert_eq!(show(&mut w, "power-412", "A").reason(), "lost");
}

#[test]
fn a_box_that_is_on_at_a_restart_is_judged_as_its_reader_reads() {
    let mut w = building();
    w.setup.lossy.clear();
    w.restart();
    w.resident("A", "p1").resident(TWIN, "p2");
    assert_eq!(w.present("power-412", "A"), "granted");
    assert_eq!(w.restart().cuts(), []);
    assert!(w.is_on("power-412"));
    // The reader was changed for one that cannot identify the two apart.
    w.setup.lossy = vec![(name("power-412"), WIEGAND_26)];
    assert_eq!(w.restart().cuts(), [("power-412", "ambiguous_identifier")]);
}

#[test]
fn a_box_that_reports_what_means_nobody_or_two_is_cut_with_an_alarm() {
    for (card, reason) in [("X", "unknown_credential"), ("A", "ambiguous_identifier")] {
        let mut w = building();
        w.resident("A", "p1").resident(TWIN, "p2");
        let seen = lies(&mut w, card, Some(true));
        assert_eq!(seen.cuts(), [("power-412", reason)]);
        assert_eq!(seen.alarms(), [AlarmKind::PowerWithoutCard]);
    }
    let mut w = building();
    w.resident("A", "p1");
    assert_eq!(lies(&mut w, "A", Some(true)).cuts(), []);
    assert!(w.is_on("power-412"), "a permitted card that is reported keeps what is on");
    // Another one in its place: the first has left.
    assert_eq!(lies(&mut w, "X", None).cuts(), []);
    assert_eq!(w.pass_s(15).cuts(), [("power-412", "card_left")]);
}

#[test]
fn a_collision_is_reported_once_when_it_begins_to_matter() {
    let mut w = building();
    w.resident("A", "p1");
    let seen = w.publish(vec![op::issue(TWIN, "p2")]);
    assert_eq!(seen.alarms(), [AlarmKind::List]);
    let event = &seen.records().find(|r| r.event.kind() == EventKind::Alarm).unwrap().event;
    let detail = event.body.detail();
    for part in ["`…8671` of `p1`, `…8671` of `p2`", "(wiegand26)", "`door-412`, `power-412`"] {
        assert!(detail.contains(part), "{part} is not in: {detail}");
    }
    // The same cards again, in whatever state, are nothing new.
    w.enrol(TWIN, "p2", "door:412");
    for op in [op::report_lost("p2"), op::found("p2"), op::issue(TWIN, "p2")] {
        assert_eq!(w.publish(vec![op]).alarms(), []);
    }
    // A third one is.
    assert_eq!(w.publish(vec![op::issue("55A68671", "p3")]).alarms(), [AlarmKind::List]);
    // A restart reports what there is without raising it again.
    let seen = w.restart();
    assert_eq!(seen.alarms(), []);
    let config = seen.records().find(|r| r.event.kind() == EventKind::Config).unwrap().event.body.detail().to_owned();
    assert!(config.contains("1 readings of `door-412`, `power-412` (wiegand26) belong to several cards"), "{config}");
    w.assert_replay_is_life();
}

#[test]
fn a_collision_of_cards_that_open_nothing_here_waits_until_one_does() {
    let mut w = building();
    assert_eq!(w.publish(vec![op::issue("A", "p1"), op::issue(TWIN, "p2")]).alarms(), []);
    assert_eq!(w.publish(vec![op::enrol("A", "p1", "door:412")]).alarms(), [AlarmKind::List]);
    assert_eq!(w.publish(vec![op::enrol(TWIN, "p2", "door:412")]).alarms(), []);
}

#[test]
fn a_message_with_many_collisions_reports_some_and_counts_the_others() {
    let mut w = building();
    let card = |first: usize, i: usize| format!("{first:02X}{:06X}", i + 1);
    let enrol: Vec<_> = (0..20).map(|i| op::enrol(&card(0x11, i), "p1", "door:412")).collect();
    assert_eq!(w.publish(enrol).alarms(), []);
    let seen = w.publish((0..20).map(|i| op::issue(&card(0x22, i), "p2")).collect());
    assert_eq!(seen.alarms().len(), COLLISIONS_LISTED_MAX + 1);
    let last = seen.records().filter(|r| r.event.kind() == EventKind::Alarm).last().unwrap();
    assert!(last.event.body.detail().starts_with("12 more groups"), "{last:?}");
    let at_start = w.restart();
    assert!(at_start.records().any(|r| r.event.body.detail().contains("; and 12 more")));
}

#[test]
fn a_building_without_lossy_readers_reports_no_collision() {
    let mut w = World::new();
    w.resident("A", "p1").resident(TWIN, "p2");
    assert_eq!(w.publish(vec![op::issue("55A68671", "p3")]).alarms(), []);
    // A reading that no reader of the building makes means nobody.
    assert_eq!(show(&mut w, "door-412", "A").reason(), "unknown_credential");
}

/// Cards that fall together in many ways: the last three bytes, the last four, the first ones, as digits.
const CARDS: [&str; 7] =
    ["1EA68671", "99A68671", "04A1B21EA68671", "04A1B2C3D4E5F6", "01230405", "12030405", "04A1B2C3"];
const FORMS: [Form; 8] = [
    Form::Last(2),
    Form::Last(3),
    Form::Last(4),
    Form::First(3),
    Form::FirstLevel,
    Form::Decimal,
    Form::DroppedZeros,
    Form::DecimalBytes,
];

fn transforms() -> Vec<Transform> {
    let turned = |turn| FORMS.into_iter().map(move |form| Transform { turn, form });
    [Turn::AsSent, Turn::Reversed].into_iter().flat_map(turned).collect()
}

/// An op of either office about these cards instead of its own.
fn about(op: Op, card: CardUid, other: CardUid) -> Op {
    let of = |subject| match subject {
        Subject::Card(_) => Subject::Card(card),
        holder @ Subject::Holder(_) => holder,
    };
    match op {
        Op::Issue { holder, .. } => Op::Issue { uid: card, holder },
        Op::Reissue { holder, old_uid, .. } => Op::Reissue { holder, new_uid: card, old_uid: old_uid.map(|_| other) },
        Op::SetFlag { subject, flag, on } => Op::SetFlag { subject: of(subject), flag, on },
        Op::Reinstate { .. } => Op::Reinstate { uid: card },
        Op::Enrol { enrolment, .. } => Op::Enrol { uid: card, enrolment },
        Op::Withdraw { subject } => Op::Withdraw { subject: of(subject) },
        other @ (Op::Power { .. } | Op::DefineSchedule { .. } | Op::SetPosture { .. }) => other,
    }
}

fn ops(op: impl Strategy<Value = Op>) -> impl Strategy<Value = Vec<Op>> {
    let card = || select(&CARDS[..]).prop_map(uid);
    vec((op, card(), card()).prop_map(|(op, card, other)| about(op, card, other)), 1..4)
}

/// The cards that any op ever named, by definition.
fn known(received: &model::Received) -> BTreeSet<CardUid> {
    let named = |op: &Op| match op {
        Op::Issue { uid, .. } | Op::Reinstate { uid } | Op::Enrol { uid, .. } => vec![*uid],
        Op::Reissue { new_uid, old_uid, .. } => old_uid.iter().copied().chain([*new_uid]).collect(),
        Op::SetFlag { subject: Subject::Card(uid), .. } | Op::Withdraw { subject: Subject::Card(uid) } => vec![*uid],
        _ => Vec::new(),
    };
    received.iter().flat_map(|(_, op)| named(op)).collect()
}

/// The reason at a portal with a lossy reader, by definition.
fn judge(received: &model::Received, card: CardUid, transform: Transform, portal: &Portal) -> &'static str {
    let now = Timestamp(BEGIN_MS);
    let reading = transform.read(card);
    let meant: Vec<_> = known(received).into_iter().filter(|c| transform.read(*c) == reading).collect();
    match (meant.as_slice(), model::posture(received, portal, now)) {
        ([one], _) => model::judge(received, *one, portal, now, false),
        (_, Posture::Fire) if portal.kind != PortalKind::PowerBox => "fire",
        (_, Posture::FreeAccess) if portal.kind != PortalKind::PowerBox => "free_access",
        (_, Posture::OutOfService) => "out_of_service",
        (_, Posture::Lockdown) => "lockdown",
        ([], _) => "unknown_credential",
        ([_, _, ..], _) => "ambiguous_identifier",
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn an_index_kept_through_any_history_is_the_one_made_from_the_list(
        messages in vec(ops(prop_oneof![office_op(), apartment_op()]), 1..12),
        order in vec(0_usize..12, 0..30),
    ) {
        let mut kept = AccessList::default();
        kept.index_readings(transforms());
        for i in order {
            if let Some(ops) = messages.get(i) {
                kept.apply(ops, (at(1, u64::try_from(i).unwrap() + 1), Timestamp(BEGIN_MS)), &Policy::default(), Timestamp(BEGIN_MS));
            }
        }
        let mut again = kept.clone();
        again.index_readings([]);
        again.index_readings(transforms());
        let known: Vec<_> = (0..kept.len()).map(|place| kept.record_at(place).unwrap().uid).collect();
        for transform in transforms() {
            prop_assert_eq!(kept.collisions(transform), again.collisions(transform));
            for card in CARDS.map(uid) {
                let reading = transform.read(card);
                let same: Vec<_> = known.iter().filter(|c| transform.read(**c) == reading).collect();
                let meant = match same.as_slice() {
                    [] => Lookup::None,
                    [one] => Lookup::One(**one),
                    [_, _, ..] => Lookup::Several,
                };
                prop_assert_eq!((kept.lookup(reading), again.lookup(reading)), (meant, meant), "{:?}", reading);
            }
        }
    }

    #[test]
    fn a_lossy_reader_judges_as_the_definitions_do_and_never_more_kindly_than_a_whole_uid(
        office in vec(ops(office_op()), 0..6),
        apartment in vec(ops(apartment_op()), 0..8),
        form in select(&FORMS[..]),
        turn in select(&[Turn::AsSent, Turn::Reversed][..]),
        occupied in select(&CARDS[..]),
    ) {
        let transform = Transform { turn, form };
        let lossy: Vec<_> = portals().into_iter().map(|p| (p.id, transform)).collect();
        let mut w = World::of(Policy::default(), portals(), lossy);
        let mut received = Vec::new();
        let most = office.len().max(apartment.len());
        for i in 0..most {
            for (stream, messages) in [(OFFICE, &office), (crate::world::APARTMENT, &apartment)] {
                let Some(ops) = messages.get(i) else { continue };
                let position = at(1, u64::try_from(i).unwrap() + 1);
                let before = w.is_on("power-412");
                let seen = w.publish_at(stream, position, ops.clone());
                received.extend((0..).zip(ops).map(|(p, op)| (position.revision(p), op.clone())));
                prop_assert_eq!(seen.ack().cut.len(), usize::from(before && !w.is_on("power-412")));
                // A box that is on is on by right, as its reader reads.
                let box_412 = w.setup.portals.iter().find(|p| p.id.as_str() == "power-412").unwrap();
                if let Some(on) = w.engine.boxes().get("power-412").and_then(|b| b.source()?.card()) {
                    prop_assert_eq!(judge(&received, on, transform, box_412), "granted");
                }
                for portal in w.setup.portals.clone() {
                    if portal.direction == Some(Direction::Out) {
                        continue;
                    }
                    for card in CARDS.map(uid) {
                        let reported = w.engine.query(card, Some(&portal.id), w.now()).unwrap()[0].outcome.reason();
                        prop_assert_eq!(reported, judge(&received, card, transform, &portal), "{} at {}", card, &portal.id);
                        let whole = model::judge(&received, card, &portal, w.now().wall, false);
                        prop_assert!(reported != "granted" || whole == "granted" || !known(&received).contains(&card));
                    }
                }
                let presented = Presented::Lossy(transform.read(uid(occupied)));
                w.input(Input::Request(Request { id: None, ..w.request("power-412", presented) }));
            }
        }
        w.assert_replay_is_life();
    }
}
