//! A list that is not what its center published although the numbers agree: found by the digest, repaired by a snapshot.

use dormgate::access::change::Position;
use dormgate::access::effect::Outcome;
use dormgate::access::input::{CommandKind, Input};
use dormgate::wire::digest;

use crate::damaged::RESIDENT;
use crate::snapshots::{apartment, outcome, send};
use crate::world::{APARTMENT, OFFICE, World, at, name, op, owned_by};

fn digest_of(w: &World, stream: &str) -> Input {
    let track = &w.engine.state().streams[stream];
    let at = Position { epoch: track.epoch.unwrap(), seq: track.through };
    Input::Digest { stream: name(stream), at, sha256: digest::of(&w.engine.state().list, &owned_by(stream)).sha256 }
}

fn head(w: &World, stream: &str, position: Position, digest: &str) -> Input {
    let (stream, iat) = (name(stream), Some(w.now().wall));
    Input::Head(dormgate::access::change::Head { stream, at: position, iat, cards: 0, digest: digest.to_owned() })
}

#[test]
fn a_digest_that_differs_is_repaired_by_a_snapshot() {
    let mut w = World::new();
    w.resident("A", "p1");
    w.link_up();
    let entries = apartment(&[op::enrol("A", "p1", RESIDENT), op::enrol("B", "p2", RESIDENT)]);
    let mut center = World::new();
    send(&mut center, APARTMENT, at(1, 1), &entries);
    let digest = digest::of(&center.engine.state().list, &owned_by(APARTMENT)).sha256;
    w.input(digest_of(&w, APARTMENT));
    w.input(digest_of(&w, OFFICE));
    let sent = head(&w, APARTMENT, at(1, 1), &digest);
    w.input(sent);
    let seen = w.pass_s(5);
    let asks: Vec<_> = seen.resyncs().into_iter().map(|r| (r.stream.as_str(), r.reason.as_str())).collect();
    assert_eq!(asks, [(APARTMENT, "digest")]);
    // The office sends nothing newer, so it is the same revision that is applied.
    assert_eq!(outcome(&send(&mut w, APARTMENT, at(1, 1), &entries)).0, Outcome::Applied);
    w.input(digest_of(&w, APARTMENT));
    assert_eq!(w.present("gate-in", "B"), "granted");
    assert_eq!(w.pass_s(120).resyncs().len(), 0);
    w.assert_replay_is_life();
}

#[test]
fn a_digest_that_a_snapshot_does_not_repair_is_an_alarm_and_asked_for_rarely() {
    let mut w = World::new();
    w.resident("A", "p1");
    w.link_up();
    let entries = apartment(&[op::enrol("A", "p1", RESIDENT)]);
    let digest = "00".repeat(32);
    let sent = head(&w, APARTMENT, at(1, 1), &digest);
    w.input(sent);
    w.input(digest_of(&w, APARTMENT));
    let mut asked = 0;
    let mut alarms = 0;
    for _ in 0..60 {
        let asks = w.pass_s(10).resyncs().len();
        asked += asks;
        if asks > 0 {
            send(&mut w, APARTMENT, at(1, 1), &entries);
            alarms += w.input(digest_of(&w, APARTMENT)).alarms().len();
        }
    }
    assert_eq!((asked, alarms), (1, 1));
    let again: usize = (0..30).map(|_| w.pass_s(10).resyncs().len()).sum();
    assert_eq!(again, 1);
    // What else is missing does not wait for that.
    w.publish_at(APARTMENT, at(1, 3), vec![op::enrol("A", "p1", RESIDENT)]);
    let asks: Vec<_> = w.pass_s(7).resyncs().into_iter().map(|ask| ask.reason.as_str()).collect();
    assert_eq!(asks, ["gap"]);
}

#[test]
fn a_digest_is_compared_with_the_head_of_the_same_message_and_no_other() {
    let mut w = World::new();
    w.resident("A", "p1");
    w.link_up();
    let whole = digest::of(&w.engine.state().list, &owned_by(APARTMENT)).sha256;
    let sent = head(&w, APARTMENT, at(1, 1), &whole);
    w.input(sent);
    w.publish_at(APARTMENT, at(1, 2), vec![op::enrol("B", "p2", RESIDENT)]);
    w.input(digest_of(&w, APARTMENT));
    assert_eq!(w.pass_s(60).resyncs().len(), 0, "the head is of the message before");
    w.head(APARTMENT, at(1, 2));
    w.input(digest_of(&w, APARTMENT));
    assert_eq!(w.pass_s(60).resyncs().len(), 0, "a head without a digest is compared with nothing");
    let sent = head(&w, APARTMENT, at(1, 2), &whole);
    w.input(sent);
    let asks: Vec<_> = w.pass_s(2).resyncs().into_iter().map(|ask| ask.reason.as_str()).collect();
    assert_eq!(asks, ["digest"]);
}

#[test]
fn a_list_that_a_snapshot_did_not_repair_is_asked_for_rarely_also_when_it_went_on_meanwhile() {
    let mut w = World::new();
    w.resident("A", "p1");
    w.link_up();
    let sent = head(&w, APARTMENT, at(1, 1), &"00".repeat(32));
    w.input(sent);
    w.input(digest_of(&w, APARTMENT));
    assert_eq!(w.pass_s(2).resyncs().len(), 1);
    send(&mut w, APARTMENT, at(1, 1), &apartment(&[op::enrol("A", "p1", RESIDENT)]));
    w.publish_at(APARTMENT, at(1, 2), vec![op::enrol("B", "p2", RESIDENT)]);
    // Nothing to compare it with yet.
    w.input(digest_of(&w, APARTMENT));
    let sent = head(&w, APARTMENT, at(1, 2), &"00".repeat(32));
    w.input(sent);
    assert_eq!(w.pass_s(300).resyncs().len(), 0);
    assert_eq!(w.pass_s(310).resyncs().len(), 1);
}

#[test]
fn what_a_command_asked_for_is_applied_although_nothing_is_missing() {
    let mut w = World::new();
    let entries = apartment(&[op::enrol("A", "p1", RESIDENT)]);
    assert_eq!(outcome(&send(&mut w, APARTMENT, at(1, 1), &entries)).0, Outcome::Applied);
    assert_eq!(outcome(&send(&mut w, APARTMENT, at(1, 1), &entries)).0, Outcome::Duplicate);
    w.link_up();
    w.command("j1", CommandKind::Resync { stream: name(APARTMENT) });
    w.pass_s(2);
    // Nothing is missing, and still the answer is on its way.
    w.head(APARTMENT, at(1, 1));
    assert_eq!(outcome(&send(&mut w, APARTMENT, at(1, 1), &entries)).0, Outcome::Applied);
}
