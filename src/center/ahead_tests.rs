//! What a center notices of numbers that were used before, and that a sound one is never hindered.

use std::num::NonZeroU32;
use std::path::Path;

use super::*;
use crate::access::change::Op;
use crate::center::database::{Database, Retention};
use crate::center::tests::{NOW, enrol, issue, lost, seqs};
use crate::center::{Directory, Layout, Published, PublishedKind, create};

fn g(id: &str) -> GatewayId {
    id.parse().unwrap()
}

fn cards() -> StreamName {
    "card-office".parse().unwrap()
}

/// The center of two gateways in `dir`, with its card office for the campus.
fn center(dir: &Path, epoch: u32) -> Center<Database> {
    let trial = dir.join("trial");
    if !trial.exists() {
        create(&trial, Layout::Two, NonZeroU32::MIN).unwrap();
    }
    let retention = Retention { audit_days: 1, acks_days: 1, requests_days: 1 };
    let database = Database::open(&dir.join("center.db"), NonZeroU32::new(epoch).unwrap(), retention).unwrap();
    Center::new(database, Directory::open(&trial).unwrap().1, vec![g("g1"), g("g2")]).unwrap()
}

fn status(stream: &str, epoch: u32, seq: u64) -> Vec<StreamStatus> {
    vec![StreamStatus { name: stream.parse().unwrap(), epoch, seq, missing: 0, digest: None, age_s: None }]
}

fn ack(outcome: Outcome, (epoch, seq): Number, applied_through: u64) -> Ack {
    let at = Some(Position { epoch: NonZeroU32::new(epoch).unwrap(), seq });
    Ack { stream: Some(cards()), at, outcome, applied_through, ..Ack::rejected(Vec::new(), NOW) }
}

fn publish(center: &mut Center<Database>, op: Op) -> Result<Vec<u64>, String> {
    center.publish_ops(Some(&g("g1")), &[op], NOW).map(|sent| seqs(&sent)).map_err(|error| error.to_string())
}

fn at(epoch: u32, seq: u64) -> Position {
    Position { epoch: NonZeroU32::new(epoch).unwrap(), seq }
}

#[test]
fn numbers_that_were_used_before_are_noticed_and_nothing_more_is_published_until_the_epoch_is_raised() {
    let dir = tempfile::tempdir().unwrap();
    let mut restored = center(dir.path(), 1);
    for card in ["02020301", "02020302"] {
        publish(&mut restored, issue(card)).unwrap();
    }
    for gateway in ["g1", "g2"] {
        let ahead = restored.note_state(&g(gateway), &status("card-office", 1, 13)).unwrap();
        let expected = Ahead { gateway: g(gateway), stream: cards(), there: (1, 13), next: at(1, 3) };
        assert_eq!(ahead, [expected]);
    }
    let refused = publish(&mut restored, lost("02020301")).unwrap_err();
    for part in ["nothing was published", "`g1` has card-office 1.13", "Set `epoch` to 2 or higher"] {
        assert!(refused.contains(part), "{refused}");
    }
    // The other stream is sound.
    assert_eq!(publish(&mut restored, enrol("02020301")), Ok(vec![1]));
    // What is written with it is refused too: all of an order or nothing.
    assert!(restored.publish_ops(Some(&g("g1")), &[enrol("02020302"), lost("02020302")], NOW).is_err());
    assert_eq!(publish(&mut restored, enrol("02020303")), Ok(vec![2]));
    drop(restored);
    let mut again = center(dir.path(), 1);
    assert_eq!(again.ahead().len(), 2, "also before a gateway is there");
    assert!(publish(&mut again, lost("02020301")).is_err());
    drop(again);
    let mut mended = center(dir.path(), 2);
    assert_eq!(mended.note_state(&g("g1"), &status("card-office", 1, 13)).unwrap(), []);
    assert_eq!((publish(&mut mended, lost("02020301")), mended.ahead()), (Ok(vec![1]), vec![]));
    let ignored = |at| mended.is_ignored(&g("g1"), &cards(), at);
    assert_eq!([at(1, 2), at(1, 3), at(1, 13), at(1, 14), at(2, 1)].map(ignored), [false, true, true, false, false]);
}

#[test]
fn an_answer_that_belongs_to_another_message_shows_it_too_and_never_counts() {
    let cases = [
        // An empty database: nothing of this center is there.
        (Outcome::Duplicate, (1, 1), 13, Some((1, 13))),
        // The epoch is lower than before.
        (Outcome::Stale, (1, 1), 0, Some((2, 0))),
        (Outcome::Stale, (1, 1), 13, Some((1, 13))),
        // Another center publishes in this one's place.
        (Outcome::Applied, (1, 2), 2, Some((1, 2))),
        (Outcome::Rejected, (1, 1), 13, Some((1, 13))),
        // Of a sound center: the message came twice, or is contained in a list; or it is refused.
        (Outcome::Applied, (1, 1), 1, None),
        (Outcome::Duplicate, (1, 1), 1, None),
        (Outcome::Stale, (1, 1), 1, None),
        (Outcome::Rejected, (1, 9), 1, None),
    ];
    for (outcome, number, through, there) in cases {
        let dir = tempfile::tempdir().unwrap();
        let mut center = center(dir.path(), 1);
        publish(&mut center, issue("02020301")).unwrap();
        let ahead = center.note_ack(&g("g1"), &ack(outcome, number, through)).unwrap();
        assert_eq!(ahead.map(|ahead| ahead.there), there, "{outcome:?} {number:?} {through}");
        let ignores = there.is_some() && matches!(outcome, Outcome::Duplicate | Outcome::Stale);
        assert_eq!(center.is_ignored(&g("g1"), &cards(), at(1, 1)), ignores, "{outcome:?} {number:?} {through}");
        // Of the other gateway nothing is known: what was ordered for the campus might not reach it either.
        assert_eq!(publish(&mut center, lost("02020301")).is_err(), there.is_some());
    }
}

#[test]
fn a_gateway_that_is_ahead_keeps_nothing_from_the_others_and_its_answers_do_not_count() {
    let dir = tempfile::tempdir().unwrap();
    let mut center = center(dir.path(), 1);
    publish(&mut center, issue("02020301")).unwrap();
    center.note_state(&g("g1"), &status("card-office", 1, 3)).unwrap();
    assert!(publish(&mut center, lost("02020301")).is_err());
    // One that has less, or nothing yet, takes what comes.
    center.note_state(&g("g2"), &status("card-office", 0, 0)).unwrap();
    for seq in 2..=4 {
        assert_eq!(publish(&mut center, lost("02020301")), Ok(vec![seq]));
        center.note_ack(&g("g1"), &ack(Outcome::Duplicate, (1, seq.min(3)), 3)).unwrap();
    }
    let ignored = |gateway, seq| center.is_ignored(&g(gateway), &cards(), at(1, seq));
    assert_eq!([1, 2, 3, 4].map(|seq| ignored("g1", seq)), [false, true, true, false]);
    assert_eq!([1, 2, 3, 4].map(|seq| ignored("g2", seq)), [false; 4]);
    assert_eq!(center.ahead(), [], "its numbers are behind again");
}

#[test]
fn a_gateway_that_forgot_its_numbers_is_published_to_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut center = center(dir.path(), 1);
    center.note_state(&g("g1"), &status("apartment", 1, 5)).unwrap();
    assert!(publish(&mut center, enrol("02020301")).is_err());
    // As after `dormgate stream forget` there.
    center.note_state(&g("g1"), &status("apartment", 0, 0)).unwrap();
    assert_eq!(publish(&mut center, enrol("02020301")), Ok(vec![1]));
}

#[test]
fn a_sound_center_is_never_ahead_of_itself_in_whatever_order_states_and_acks_come() {
    let dir = tempfile::tempdir().unwrap();
    let mut center = center(dir.path(), 1);
    for card in ["02020301", "02020302", "02020303"] {
        publish(&mut center, issue(card)).unwrap();
    }
    for seq in [3, 1, 2, 3, 2] {
        assert_eq!(center.note_ack(&g("g1"), &ack(Outcome::Applied, (1, seq), seq)).unwrap(), None);
        assert_eq!(center.note_state(&g("g1"), &status("card-office", 1, seq)).unwrap(), []);
        assert_eq!(center.note_ack(&g("g1"), &ack(Outcome::Duplicate, (1, seq), 3)).unwrap(), None);
    }
    // Streams of others, and gateways that are not here, are no concern of this center.
    assert_eq!(center.note_state(&g("g1"), &status("canteen", 7, 7)).unwrap(), []);
    assert_eq!(center.note_state(&g("g9"), &status("apartment", 7, 7)).unwrap(), []);
    assert!(publish(&mut center, lost("02020301")).is_ok());
}

#[test]
fn what_another_process_published_in_the_same_directory_was_published_here() {
    let dir = tempfile::tempdir().unwrap();
    create(dir.path(), Layout::Two, NonZeroU32::MIN).unwrap();
    let open = || Center::open(dir.path(), &[g("g1")]).unwrap();
    let (mut one, mut other) = (open(), open());
    other.publish_ops(None, &[issue("02020301")], NOW).unwrap();
    assert_eq!(one.note_state(&g("g1"), &status("card-office", 1, 1)).unwrap(), []);
    assert_eq!(one.note_state(&g("g1"), &status("card-office", 1, 2)).unwrap().len(), 1);
    // In a trial numbers are written by hand, too.
    assert!(one.publish_ops(None, &[issue("02020301")], NOW).is_ok());
}

#[test]
fn while_no_gateway_is_there_the_states_that_are_kept_show_who_takes_what_comes() {
    let dir = tempfile::tempdir().unwrap();
    let mut before = center(dir.path(), 1);
    publish(&mut before, issue("02020301")).unwrap();
    before.note_state(&g("g1"), &status("card-office", 1, 9)).unwrap();
    let body = r#"{"v":1,"state":"online","streams":[{"name":"card-office","epoch":1,"seq":1,"missing":0}]}"#;
    let state = Published { gateway: g("g2"), received_at: NOW, kind: PublishedKind::State, body: body.to_owned() };
    before.keep(&[state], &[]).unwrap();
    drop(before);
    let mut after = center(dir.path(), 1);
    assert_eq!((after.ahead().len(), publish(&mut after, lost("02020301"))), (1, Ok(vec![2])));
}
