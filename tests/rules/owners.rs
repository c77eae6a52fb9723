//! The registers of a kind get another stream: it was renamed, split, merged, or an op moved. What the new owner sends counts from its
//! first message, and what is known against cards stays until it sends otherwise.

use dormgate::access::change::{NoteCode, Op, RegisterKind, RegisterKinds};
use dormgate::access::credential::Flag;
use dormgate::access::effect::Outcome;
use dormgate::access::engine::StreamRole;
use dormgate::access::event::{Event, EventKind};
use dormgate::access::portal::Posture;
use dormgate::access::snapshot::{SnapshotEntry, StandingEntry};

use crate::damaged::RESIDENT;
use crate::snapshots::send;
use crate::world::{APARTMENT, OFFICE, World, at, name, op, owned_by, uid};

const ALL: &str = "center";
const HOUSING: &str = "housing";

fn role(stream: &str, owns: impl IntoIterator<Item = RegisterKind>) -> StreamRole {
    StreamRole { name: name(stream), owns: owns.into_iter().collect() }
}

fn every() -> RegisterKinds {
    RegisterKind::ALL.iter().copied().collect()
}

fn two() -> Vec<StreamRole> {
    vec![role(OFFICE, owned_by(OFFICE)), role(APARTMENT, owned_by(APARTMENT))]
}

/// What every card is answered at the gate.
fn reasons(w: &mut World) -> [&'static str; 4] {
    ["A", "B", "R", "X"].map(|card| w.present("gate-in", card))
}

/// A site in which one stream has sent all, up to 1.900: A may, B may again, R is lost by its holder and X by itself.
fn site_of_one() -> World {
    let mut w = World::new();
    w.setup.streams = vec![role(ALL, every())];
    w.restart();
    let cards = [("A", "p1"), ("B", "p2"), ("R", "p3"), ("X", "p4")];
    let all: Vec<Op> = cards.iter().flat_map(|(c, h)| [op::issue(c, h), op::enrol(c, h, RESIDENT)]).collect();
    w.publish_at(ALL, at(1, 900), all);
    w.publish_at(ALL, at(1, 901), vec![op::report_lost("uid:B"), op::freeze("uid:A")]);
    w.publish_at(ALL, at(1, 902), vec![op::found("uid:B"), op::unfreeze("uid:A")]);
    w.publish_at(ALL, at(1, 903), vec![op::report_lost("p3"), op::report_lost("uid:X"), op::power("412", true)]);
    w.publish_at(ALL, at(1, 904), vec![op::posture("door-413", Posture::Lockdown, None)]);
    assert_eq!(reasons(&mut w), ["granted", "granted", "lost", "lost"]);
    w
}

/// A restart with these streams.
fn configure(w: &mut World, streams: Vec<StreamRole>) {
    w.setup.streams = streams;
    w.restart();
}

/// As an earlier version wrote it: the starts do not report who owns what.
fn forget_owners(w: &mut World) {
    for record in &mut w.journal {
        if let Event::Boot { owners, .. } = &mut record.event.body {
            *owners = None;
        }
    }
}

/// What the two offices of a site that had one stream send first is in force at once.
fn two_offices_are_obeyed(w: &mut World) {
    let seen = w.publish_at(OFFICE, at(1, 1), vec![op::report_lost("uid:B"), op::freeze("uid:A")]);
    assert_eq!((seen.ack().outcome, seen.ack().notes.len()), (Outcome::Applied, 0));
    assert_eq!(seen.ack().revoked, [uid("A"), uid("B")]);
    assert_eq!(reasons(w), ["frozen", "lost", "lost", "lost"]);
    assert_eq!(w.publish_at(OFFICE, at(1, 2), vec![op::unfreeze("uid:A")]).ack().revoked, []);
    assert_eq!(w.publish_at(APARTMENT, at(1, 1), vec![op::withdraw("uid:A")]).ack().revoked, [uid("A")]);
    assert_eq!(reasons(w), ["not_enrolled", "lost", "lost", "lost"]);
    w.publish_at(APARTMENT, at(1, 2), vec![op::power("412", false), op::posture("door-413", Posture::Secure, None)]);
    assert_eq!(w.present("door-413", "A"), "not_enrolled", "the lockdown is over");
    w.publish_at(OFFICE, at(1, 3), vec![op::found("p3"), op::found("uid:X")]);
    assert_eq!(reasons(w), ["not_enrolled", "lost", "granted", "granted"], "the new owner sends otherwise");
    w.assert_replay_is_life();
    w.restart();
    assert_eq!(reasons(w), ["not_enrolled", "lost", "granted", "granted"]);
}

#[test]
fn one_stream_that_becomes_two_offices_leaves_no_number_that_stands_against_them() {
    let mut w = site_of_one();
    configure(&mut w, two());
    assert_eq!(reasons(&mut w), ["granted", "granted", "lost", "lost"], "nobody is locked out or let in by it");
    w.assert_replay_is_life();
    two_offices_are_obeyed(&mut w);
}

#[test]
fn a_store_of_an_earlier_version_finds_by_its_numbers_what_another_stream_wrote() {
    let mut w = site_of_one();
    forget_owners(&mut w);
    configure(&mut w, two());
    assert_eq!(reasons(&mut w), ["granted", "granted", "lost", "lost"]);
    two_offices_are_obeyed(&mut w);
    // The streams were changed under the earlier version already, and what the offices sent had no effect.
    let mut w = site_of_one();
    w.setup.streams = two();
    w.publish_at(OFFICE, at(1, 1), vec![op::report_lost("uid:B")]);
    w.publish_at(APARTMENT, at(1, 1), vec![op::withdraw("uid:A")]);
    assert_eq!(reasons(&mut w), ["granted", "granted", "lost", "lost"]);
    forget_owners(&mut w);
    w.restart();
    assert_eq!(w.publish_at(OFFICE, at(1, 2), vec![op::report_lost("uid:B")]).ack().revoked, [uid("B")]);
    assert_eq!(w.publish_at(APARTMENT, at(1, 2), vec![op::withdraw("uid:A")]).ack().revoked, [uid("A")]);
    assert_eq!(reasons(&mut w), ["not_enrolled", "lost", "lost", "lost"]);
    w.assert_replay_is_life();
}

#[test]
fn a_store_of_an_earlier_version_whose_streams_stay_keeps_its_numbers() {
    let mut w = World::new();
    w.resident("A", "p1");
    w.publish_at(APARTMENT, at(1, 9), vec![op::enrol("A", "p1", RESIDENT)]);
    forget_owners(&mut w);
    let before = w.folded().list.card(&uid("A")).unwrap().record();
    let seen = w.restart();
    assert_eq!(w.engine.state().list.card(&uid("A")).unwrap().record(), before);
    assert_eq!(seen.recorded(), [EventKind::Boot]);
    // An older op that was missing changes nothing of what a newer one wrote, and its ack notes it.
    let seen = w.publish_at(APARTMENT, at(1, 5), vec![op::withdraw("uid:A")]);
    assert_eq!(seen.ack().notes.iter().map(|note| note.code).collect::<Vec<_>>(), [NoteCode::NoEffect]);
    assert_eq!(w.present("gate-in", "A"), "granted");
}

#[test]
fn a_stream_of_another_name_begins_with_number_one_and_is_asked_for_all_it_has() {
    let mut w = World::new();
    w.resident("A", "p1");
    w.publish_at(APARTMENT, at(1, 700), vec![op::enrol("A", "p1", RESIDENT), op::power("412", true)]);
    configure(&mut w, vec![role(OFFICE, owned_by(OFFICE)), role(HOUSING, owned_by(APARTMENT))]);
    assert_eq!(w.present("gate-in", "A"), "granted");
    w.link_up();
    let seen = w.pass_s(2);
    let asked: Vec<_> = seen.resyncs().iter().map(|ask| (ask.stream.as_str(), ask.reason.as_str())).collect();
    assert!(asked.contains(&(HOUSING, "empty")), "{asked:?}");
    assert_eq!(w.publish_at(HOUSING, at(1, 1), vec![op::withdraw("p1")]).ack().revoked, [uid("A")]);
    assert_eq!(w.present("gate-in", "A"), "not_enrolled");
    // Renamed back, and it has begun its numbers again.
    configure(&mut w, two());
    assert_eq!(w.present("gate-in", "A"), "not_enrolled");
    let seen = w.publish_at(APARTMENT, at(1, 1), vec![op::enrol("A", "p1", RESIDENT)]);
    assert_eq!((seen.ack().outcome, w.present("gate-in", "A")), (Outcome::Applied, "granted"));
    w.assert_replay_is_life();
}

#[test]
fn a_stream_that_is_removed_and_comes_back_is_no_duplicate_of_itself() {
    let mut w = World::new();
    w.resident("A", "p1").resident("B", "p2");
    w.publish_at(OFFICE, at(1, 50), vec![op::cancel("uid:B")]);
    configure(&mut w, vec![role(APARTMENT, owned_by(APARTMENT))]);
    assert_eq!((w.present("gate-in", "A"), w.present("gate-in", "B")), ("granted", "cancelled"));
    configure(&mut w, two());
    let seen = w.publish_at(OFFICE, at(1, 1), vec![op::report_lost("uid:A"), op::issue("B", "p2")]);
    assert_eq!((seen.ack().outcome, seen.ack().revoked.clone()), (Outcome::Applied, vec![uid("A")]));
    assert_eq!((w.present("gate-in", "A"), w.present("gate-in", "B")), ("lost", "cancelled"));
    w.assert_replay_is_life();
}

#[test]
fn an_op_that_moves_to_a_stream_with_lower_numbers_obeys_it_and_leaves_the_rest_alone() {
    let mut w = World::new();
    w.resident("A", "p1");
    w.publish_at(APARTMENT, at(1, 700), vec![op::power("412", true)]);
    w.publish_at(OFFICE, at(1, 9), vec![op::report_lost("uid:A")]);
    let mut office = owned_by(OFFICE);
    office.insert(RegisterKind::Power);
    let mut apartment = owned_by(APARTMENT);
    apartment.remove(&RegisterKind::Power);
    configure(&mut w, vec![role(OFFICE, office), role(APARTMENT, apartment)]);
    // A message that was missing must not undo what a newer one of the same stream set before the move.
    w.publish_at(OFFICE, at(1, 5), vec![op::found("uid:A"), op::power("412", false)]);
    assert_eq!(w.present("power-412", "A"), "lost");
    w.publish_at(OFFICE, at(1, 10), vec![op::found("uid:A")]);
    assert_eq!(w.present("power-412", "A"), "granted");
    w.assert_replay_is_life();
}

#[test]
fn two_streams_that_become_one_are_obeyed_as_one() {
    let mut w = World::new();
    w.resident("A", "p1").resident("B", "p2");
    w.publish_at(OFFICE, at(4, 1), vec![op::report_lost("uid:B")]);
    w.publish_at(APARTMENT, at(1, 700), vec![op::power("412", true)]);
    // Under the name of one of them, which goes on with its numbers.
    let mut one = World::new();
    std::mem::swap(&mut one.journal, &mut w.journal);
    std::mem::swap(&mut one.received, &mut w.received);
    configure(&mut one, vec![role(APARTMENT, every())]);
    assert_eq!((one.present("gate-in", "A"), one.present("gate-in", "B")), ("granted", "lost"));
    let next = vec![op::report_lost("uid:A"), op::found("uid:B"), op::power("412", false)];
    assert_eq!(one.publish_at(APARTMENT, at(1, 701), next).ack().revoked, [uid("A")]);
    assert_eq!((one.present("gate-in", "A"), one.present("power-412", "B")), ("lost", "granted"));
    one.assert_replay_is_life();
}

/// A center that begins with nothing answers that its list is short: the building is not locked out by that.
#[test]
fn the_list_of_a_new_owner_that_knows_nobody_needs_an_operator() {
    let mut w = site_of_one();
    configure(&mut w, two());
    w.link_up();
    w.publish_at(APARTMENT, at(1, 1), vec![op::withdraw("uid:X")]);
    let seen = w.pass_s(2);
    let asked: Vec<_> = seen.resyncs().iter().map(|ask| (ask.stream.as_str(), ask.reason.as_str())).collect();
    assert!(asked.contains(&(APARTMENT, "epoch")), "the center must not permit it: {asked:?}");
    assert_eq!(send(&mut w, APARTMENT, at(1, 1), &[]).ack().outcome, Outcome::Rejected);
    assert_eq!(reasons(&mut w), ["granted", "granted", "lost", "lost"]);
    w.restart();
    w.link_up();
    let seen = w.pass_s(2);
    assert!(seen.resyncs().iter().any(|ask| ask.stream.as_str() == APARTMENT && ask.reason.as_str() == "epoch"));
    w.assert_replay_is_life();
}

/// A list of the new owner that does not name what the former one set for a holder takes it from no card, also where it has the card
/// born later.
#[test]
fn the_first_snapshot_of_the_new_owner_revives_no_card_by_what_it_does_not_name() {
    let mut w = site_of_one();
    w.publish_at(ALL, at(1, 905), vec![op::reissue("p1", "A5", None)]);
    assert_eq!(reasons(&mut w), ["replaced", "granted", "lost", "lost"]);
    configure(&mut w, two());
    let card = |card: &str, holder: &str, place| SnapshotEntry::Card {
        uid: uid(card),
        standing: Some(StandingEntry {
            issued_to: Some(name(holder)),
            birth: Some(at(1, 1).revision(place)),
            flags: Default::default(),
        }),
        enrolment: None,
    };
    let cards = [("A", "p1"), ("B", "p2"), ("R", "p3"), ("X", "p4"), ("A5", "p1")];
    let entries: Vec<_> = (0..).zip(cards).map(|(place, (uid, holder))| card(uid, holder, place)).collect();
    let seen = send(&mut w, OFFICE, at(1, 1), &entries);
    assert_eq!(seen.ack().outcome, Outcome::Applied);
    assert_eq!(reasons(&mut w), ["replaced", "granted", "lost", "lost"]);
    w.assert_replay_is_life();
    w.restart();
    w.publish_at(OFFICE, at(1, 2), vec![op::found("p3"), op::reinstate("A"), op::found("uid:X")]);
    assert_eq!(reasons(&mut w), ["granted"; 4]);
    assert!(!w.engine.state().list.card(&uid("A")).unwrap().standing().contains(Flag::Replaced));
}

/// What a renamed stream's own list names in full is taken as it is: a card issued after its holder's loss is not lost by it.
#[test]
fn the_full_list_of_a_renamed_stream_locks_no_later_card_out() {
    let mut w = World::new();
    w.resident("A", "p1");
    let history = [vec![op::issue("A", "p1")], vec![op::report_lost("p1")], vec![op::reissue("p1", "B", Some("A"))]];
    for (ops, seq) in history.iter().zip(40..) {
        w.publish_at(OFFICE, at(1, seq), ops.clone());
    }
    w.publish_at(APARTMENT, at(1, 40), vec![op::enrol("B", "p1", RESIDENT)]);
    assert_eq!((w.present("gate-in", "A"), w.present("gate-in", "B")), ("replaced", "granted"));
    configure(&mut w, vec![role("cards", owned_by(OFFICE)), role(APARTMENT, owned_by(APARTMENT))]);
    let entries = crate::snapshots::entries_of(OFFICE, &history);
    assert_eq!(send(&mut w, "cards", at(1, 3), &entries).ack().outcome, Outcome::Applied);
    assert_eq!((w.present("gate-in", "A"), w.present("gate-in", "B")), ("replaced", "granted"));
    w.assert_replay_is_life();
}
