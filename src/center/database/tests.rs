//! What the database guarantees beside what every storage does.

use ed25519_dalek::SigningKey;

use super::super::notes::Notes;
use super::super::{Attention, Center, Directory, JournalName, Layout, Service, SignedMessage, create};
use super::*;
use crate::access::change::Op;
use crate::access::effect::{Ack, Have, Outcome, Resync, ResyncReason};
use crate::access::event::{AuditEvent, Event};
use crate::access::id::{ClockTrust, Mono, Now};
use crate::access::list::AccessList;
use crate::center::AuditTrouble;
use crate::center::storage::PublishedKind;
use crate::center::tests::{NOW, enrol, lost, seqs};
use crate::clock::Clock;
use crate::mqtt::{AckToken, LinkSpec};
use crate::wire::audit::{self, Hash, NO_HASH};
use crate::wire::envelope::StreamSpec;
use crate::wire::up::encode_audit;

const DAY_MS: i64 = 86_400_000;
const RETENTION: Retention = Retention { audit_days: 10, acks_days: 5, requests_days: 2 };

fn g(name: &str) -> GatewayId {
    name.parse().unwrap()
}

/// Streams with keys, made as a trial's are.
fn streams(dir: &Path) -> Vec<(StreamSpec, SigningKey)> {
    let trial = dir.join("trial");
    if !trial.exists() {
        create(&trial, Layout::Two, NonZeroU32::MIN).unwrap();
    }
    Directory::open(&trial).unwrap().1
}

fn center(dir: &Path) -> Center<Database> {
    let database = Database::open(&dir.join("center.db"), NonZeroU32::MIN, RETENTION).unwrap();
    Center::new(database, streams(dir), vec![g("g1"), g("g2")]).unwrap()
}

#[test]
fn a_database_gives_the_same_messages_heads_and_resyncs_as_a_directory_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut kept = center(dir.path());
    let mut trial = Center::open(&dir.path().join("trial"), &[g("g1"), g("g2")]).unwrap();
    for (to, ops) in [
        (None, vec![lost("01020301"), lost("01020302")]),
        (Some(g("g1")), vec![enrol("01020301")]),
        (Some(g("g2")), vec![enrol("01020302"), lost("01020303")]),
        (Some(g("g2")), vec![enrol("02020304")]),
    ] {
        let sent = kept.publish_ops(to.as_ref(), &ops, NOW).unwrap();
        assert_eq!(sent, trial.publish_ops(to.as_ref(), &ops, NOW).unwrap());
    }
    drop(kept);
    let mut kept = center(dir.path());
    assert_eq!(kept.heads(NOW).unwrap(), trial.heads(NOW).unwrap());
    for (stream, reason) in [
        ("apartment", ResyncReason::Gap),
        ("card-office", ResyncReason::Gap),
        ("apartment", ResyncReason::Empty),
        ("card-office", ResyncReason::Digest),
    ] {
        let have = Have { epoch: 1, seq: 0 };
        let asked = Resync { stream: stream.parse().unwrap(), reason, have, missing: vec![(1, 1)] };
        for gateway in [g("g1"), g("g2")] {
            let sent = kept.answer(&gateway, &asked, NOW).unwrap();
            assert_eq!(sent, trial.answer(&gateway, &asked, NOW).unwrap());
            assert!(!sent.is_empty(), "{stream} {reason:?}");
        }
    }
    let numbers = kept.publish_ops(Some(&g("g2")), &[enrol("01020305")], NOW).unwrap();
    assert_eq!(seqs(&numbers), [3]);
}

#[test]
fn a_database_of_version_1_is_taken_over_with_all_that_is_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut before = center(dir.path());
    before.publish_ops(None, &[lost("01020301")], NOW).unwrap();
    drop(before);
    let path = dir.path().join("center.db");
    let as_of_1 = "DROP TABLE used; ALTER TABLE message DROP COLUMN ordered_by; PRAGMA user_version = 1";
    Connection::open(&path).unwrap().execute_batch(as_of_1).unwrap();
    let mut after = center(dir.path());
    assert_eq!(seqs(&after.publish_ops(None, &[lost("01020302")], NOW).unwrap()), [2]);
    let journal = JournalName { audience: Audience::Campus, stream: "card-office".parse().unwrap() };
    let second = Position { epoch: NonZeroU32::MIN, seq: 2 };
    after.transaction(|center| center.storage().ordered(&[(journal, second)], "office:Li Wei")).unwrap();
    drop(after);
    let sql = Connection::open(&path).unwrap();
    let by = |seq: i64| -> Option<String> {
        sql.query_row("SELECT ordered_by FROM message WHERE seq = ?1", [seq], |row| row.get(0)).unwrap()
    };
    assert_eq!((by(1), by(2)), (None, Some("office:Li Wei".to_owned())));
}

#[test]
fn what_the_broker_does_not_have_is_published_at_the_next_start_as_it_was_signed() {
    let dir = tempfile::tempdir().unwrap();
    let mut before = center(dir.path());
    let sent: Vec<SignedMessage> = [lost("01020301"), lost("01020302"), lost("01020303")]
        .iter()
        .flat_map(|op| before.publish_ops(None, std::slice::from_ref(op), NOW).unwrap())
        .collect();
    let second: Vec<_> = sent.get(1).and_then(SignedMessage::journal).into_iter().collect();
    before.keep(&[], &second).unwrap();
    drop(before);
    let mut after = center(dir.path());
    assert_eq!(after.undelivered(10).unwrap(), [sent[0].clone(), sent[2].clone()]);
    assert_eq!(after.undelivered(1).unwrap(), [sent[0].clone()]);
}

#[test]
fn a_list_that_the_broker_does_not_have_is_published_at_the_next_start_part_by_part() {
    let dir = tempfile::tempdir().unwrap();
    let mut before = center(dir.path());
    let list = (0..3_000_u32).map(|n| {
        let Op::Enrol { uid, enrolment } = enrol(&format!("5C{n:06X}")) else { panic!("it enrols") };
        (uid, enrolment)
    });
    let parts = before.load(Some(&g("g2")), &list.collect(), true, NOW).unwrap().messages;
    let after_it = before.publish_ops(Some(&g("g2")), &[enrol("01020301")], NOW).unwrap();
    drop(before);
    let mut after = center(dir.path());
    assert!(parts.len() > 1, "{}", parts.len());
    assert_eq!(after.undelivered(10).unwrap(), [parts.clone(), after_it.clone()].concat());
    let number: Vec<_> = parts.first().and_then(|part| after.journal_of(part)).into_iter().collect();
    after.keep(&[], &number).unwrap();
    assert_eq!(after.undelivered(10).unwrap(), after_it);
}

/// From now on each statement works, and only COMMIT of a transaction with a message fails.
const COMMIT_FAILS: &str = "CREATE TABLE parent (id INTEGER PRIMARY KEY);
     CREATE TABLE child (id INTEGER REFERENCES parent (id) DEFERRABLE INITIALLY DEFERRED);
     CREATE TRIGGER fault AFTER INSERT ON message BEGIN INSERT INTO child VALUES (1); END;";

#[test]
fn a_commit_that_fails_publishes_nothing_and_the_number_is_given_to_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let mut center = center(dir.path());
    let other = Connection::open(dir.path().join("center.db")).unwrap();
    other.execute_batch(COMMIT_FAILS).unwrap();
    let failed = center.publish_ops(None, &[lost("01020301")], NOW).unwrap_err();
    assert!(failed.is_of_storage(), "{failed}");
    assert_eq!(center.undelivered(10).unwrap(), []);
    other.execute_batch("DROP TRIGGER fault").unwrap();
    assert_eq!(seqs(&center.publish_ops(None, &[lost("01020302")], NOW).unwrap()), [1]);
    assert!(center.list(&Audience::Campus).unwrap().card(&"01020301".parse().unwrap()).is_none());
}

#[test]
fn what_a_gateway_has_as_acknowledged_is_known_after_a_commit_that_failed() {
    let dir = tempfile::tempdir().unwrap();
    let mut center = center(dir.path());
    let now = Now { wall: NOW, mono: Mono(0), clock: ClockTrust::Trusted };
    let event = Event::Config { mark: crate::access::event::Mark::Note, detail: String::new() };
    let later = audit::encode(&AuditEvent::new(5, "b1", now, event), &[], &[7; 32]);
    let batch = encode_audit("b1", 4, 5, &[later]).unwrap();
    center.note_audit(&g("g1"), crate::wire::state::Audit { last: 5, acked: 4 });
    let other = Connection::open(dir.path().join("center.db")).unwrap();
    other.execute_batch(&COMMIT_FAILS.replace("ON message", "ON audit")).unwrap();
    let failed = center.receive_audit(&g("g1"), &batch, NOW).unwrap_err();
    assert!(failed.is_of_storage(), "{failed}");
    other.execute_batch("DROP TRIGGER fault").unwrap();
    let (received, ack) = center.receive_audit(&g("g1"), &batch, NOW).unwrap();
    // The gateway never sends these again, so nobody waits for them.
    assert_eq!((received.trouble, ack.is_some()), (vec![AuditTrouble::Lost { from: 1, to: 4 }], true));
}

#[tokio::test]
async fn a_service_answers_a_commit_that_fails_with_an_error_and_has_nothing_to_send() {
    let dir = tempfile::tempdir().unwrap();
    let center = center(dir.path());
    let other = Connection::open(dir.path().join("center.db")).unwrap();
    other.execute_batch(COMMIT_FAILS).unwrap();
    // Nobody listens there: what the service has to send stays with it.
    let link = LinkSpec::plain(vec!["mqtt://127.0.0.1:9".parse().unwrap()], "center");
    let service = Service::start(center, link, Clock::system(), Attention::Everything).unwrap();
    let failed = service.publish(None, vec![lost("01020301")]).await.unwrap_err();
    assert!(matches!(failed, CenterError::NotKept(_)), "{failed}");
    assert_eq!(service.ask(|center| center.undelivered(10).unwrap()).await.unwrap(), []);
    assert_eq!(*service.undelivered().borrow(), 0);
    other.execute_batch("DROP TRIGGER fault").unwrap();
    assert_eq!(seqs(&service.publish(None, vec![lost("01020302")]).await.unwrap()), [1]);
    assert_eq!(service.ask(|center| center.undelivered(10).unwrap().len()).await.unwrap(), 1);
}

#[test]
fn what_is_committed_is_synced_before_it_is_published() {
    let dir = tempfile::tempdir().unwrap();
    let mut center = center(dir.path());
    let sql = &center.storage().sql;
    let mode: String = sql.query_row("PRAGMA journal_mode", [], |row| row.get(0)).unwrap();
    let synchronous: i64 = sql.query_row("PRAGMA synchronous", [], |row| row.get(0)).unwrap();
    // 2 is FULL: in WAL each commit is synced.
    assert_eq!((mode.as_str(), synchronous), ("wal", 2));
}

#[test]
fn what_gateways_publish_is_acknowledged_to_the_broker_only_once_it_is_on_disk() {
    let dir = tempfile::tempdir().unwrap();
    let mut center = center(dir.path());
    let other = Connection::open(dir.path().join("center.db")).unwrap();
    let fault = "CREATE TRIGGER fault BEFORE INSERT ON alarm BEGIN SELECT RAISE(FAIL, 'the disk is full'); END";
    other.execute_batch(fault).unwrap();
    let alarm = |body: &str| Published {
        gateway: g("g1"),
        received_at: NOW,
        kind: PublishedKind::Alarm,
        body: body.to_owned(),
    };
    let mut notes = Notes::default();
    notes.published(alarm("1"), Some(AckToken::of_test(1)));
    notes.published(alarm("2"), None);
    notes.published(alarm("3"), Some(AckToken::of_test(3)));
    assert!(notes.write(&mut center).is_err());
    assert!(notes.due().is_some(), "it is tried again");
    other.execute_batch("DROP TRIGGER fault").unwrap();
    assert_eq!(notes.write(&mut center).unwrap(), [AckToken::of_test(1), AckToken::of_test(3)]);
    assert_eq!(notes.write(&mut center).unwrap(), []);
    let reader = Reader::open(&dir.path().join("center.db")).unwrap();
    let kept = reader.search(&Search { table: Table::Alarm, ..search(vec![]) }).unwrap();
    assert_eq!(kept.iter().map(|row| row.body.as_str()).collect::<Vec<_>>(), ["1", "2", "3"]);
}

#[test]
fn a_transaction_that_fails_uses_no_number_and_changes_no_list() {
    let dir = tempfile::tempdir().unwrap();
    let mut center = center(dir.path());
    let failed: Result<(), CenterError> = center.transaction(|center| {
        center.stage_ops(None, &[lost("01020301")], NOW)?;
        Err(CenterError::Stopped)
    });
    assert!(failed.is_err());
    assert_eq!(seqs(&center.publish_ops(None, &[lost("01020302")], NOW).unwrap()), [1]);
    assert_eq!(center.list(&Audience::Campus).unwrap().len(), 1);
    assert_eq!(center.undelivered(10).unwrap().len(), 1);
}

#[test]
fn only_one_center_has_the_file_and_only_of_this_version_and_no_lower_epoch() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("center.db");
    let open = |epoch: u32| Database::open(&path, NonZeroU32::new(epoch).unwrap(), RETENTION);
    let refused = |result: Result<Database, CenterError>| result.err().unwrap().to_string();
    let first = Database::open(&path, NonZeroU32::new(3).unwrap(), RETENTION).unwrap();
    assert!(refused(open(3)).contains("another center has it open"));
    let mut center = Center::new(first, streams(dir.path()), vec![g("g1")]).unwrap();
    center.publish_ops(None, &[lost("01020301")], NOW).unwrap();
    drop(center);
    assert!(refused(open(2)).contains("set `epoch` to 3 or higher"));
    let mut higher = Center::new(open(4).unwrap(), streams(dir.path()), vec![g("g1")]).unwrap();
    let next = higher.publish_ops(None, &[lost("01020302")], NOW).unwrap();
    assert_eq!(next[0].number.as_ref().unwrap().1, Position { epoch: NonZeroU32::new(4).unwrap(), seq: 1 });
    drop(higher);
    Connection::open(&path).unwrap().execute_batch("PRAGMA user_version = 9").unwrap();
    assert!(refused(open(4)).contains("version is 9"));
}

/// A chain of events from `first`, each as its bytes.
fn chain(first: u64, count: u64, detail: &str, mut prev: Hash) -> Vec<Vec<u8>> {
    (first..first + count)
        .map(|n| {
            let now = Now { wall: NOW, mono: Mono(0), clock: ClockTrust::Trusted };
            let event =
                AuditEvent::new(n, "b1", now, Event::Boot { gateway: None, owners: None, detail: detail.to_owned() });
            let bytes = audit::encode(&event, &[], &prev);
            prev = audit::hash(&bytes);
            bytes
        })
        .collect()
}

fn search(is: Vec<(&'static str, String)>) -> Search {
    let (from, to) = (None, None);
    Search { table: Table::Audit, is, gateways: None, from, to, is_newest_first: false, after: None, most: 100 }
}

#[test]
fn audits_of_gateways_are_kept_apart_byte_for_byte_and_one_begun_again_beside_the_old() {
    let dir = tempfile::tempdir().unwrap();
    let mut center = center(dir.path());
    let events = chain(1, 5, "first", NO_HASH);
    for gateway in [g("g1"), g("g2")] {
        let (received, ack) = center.receive_audit(&gateway, &encode_audit("b1", 0, 1, &events).unwrap(), NOW).unwrap();
        assert_eq!((received.events.len(), received.trouble.as_slice()), (5, [].as_slice()));
        assert!(ack.is_some());
    }
    let again = chain(1, 1, "second", NO_HASH);
    let (received, _) = center.receive_audit(&g("g1"), &encode_audit("b2", 0, 1, &again).unwrap(), NOW).unwrap();
    assert_eq!(received.trouble, [AuditTrouble::Restarted("run 0 of its audit".to_owned())]);
    assert_eq!(center.storage.audit_ends(&g("g1")).unwrap().map(|(_, last)| last.n), Some(1));
    let reader = Reader::open(&dir.path().join("center.db")).unwrap();
    let of = |gateway: &str| {
        let found = reader.search(&search(vec![("gateway", gateway.to_owned())])).unwrap();
        found.into_iter().map(|row| row.body.into_bytes()).collect::<Vec<_>>()
    };
    assert_eq!((of("g1"), of("g2")), ([events.clone(), again].concat(), events));
}

#[test]
fn a_search_gives_every_row_once_page_by_page_in_either_order() {
    let dir = tempfile::tempdir().unwrap();
    let mut center = center(dir.path());
    let events = chain(1, 25, "x", NO_HASH);
    center.receive_audit(&g("g1"), &encode_audit("b1", 0, 1, &events).unwrap(), NOW).unwrap();
    let reader = Reader::open(&dir.path().join("center.db")).unwrap();
    for is_newest_first in [false, true] {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = Search { after, most: 10, is_newest_first, ..search(vec![("type", "boot".to_owned())]) };
            let rows = reader.search(&page).unwrap();
            after = rows.last().map(|row| row.id);
            found.extend(rows.into_iter().map(|row| row.body.into_bytes()));
            if found.len() % 10 != 0 {
                break;
            }
        }
        if is_newest_first {
            found.reverse();
        }
        assert_eq!(found, events);
    }
    let none = [
        search(vec![("type", "alarm".to_owned())]),
        Search { gateways: Some(vec!["g2".to_owned()]), ..search(vec![]) },
        Search { gateways: Some(vec![]), ..search(vec![]) },
        Search { from: Some(NOW.0 + 1), ..search(vec![]) },
        Search { to: Some(NOW.0), ..search(vec![]) },
    ];
    assert!(none.iter().all(|search| reader.search(search).unwrap().is_empty()));
}

#[test]
fn acks_alarms_and_the_newest_state_are_kept_and_removed_in_time_and_the_end_of_an_audit_never() {
    let dir = tempfile::tempdir().unwrap();
    let mut center = center(dir.path());
    let published = |kind, body: &str| Published { gateway: g("g1"), received_at: NOW, kind, body: body.to_owned() };
    let mut ack = Ack::rejected(vec![], NOW);
    (ack.stream, ack.at) = ("apartment".parse().ok(), Some(Position { epoch: NonZeroU32::MIN, seq: 7 }));
    ack.outcome = Outcome::Applied;
    let all = [
        published(PublishedKind::Ack(Box::new(ack)), "{\"ack\":1}"),
        published(PublishedKind::Alarm, "{\"alarm\":1}"),
        published(PublishedKind::State, "{\"state\":1}"),
        published(PublishedKind::State, "{\"state\":2}"),
    ];
    center.keep(&all, &[]).unwrap();
    center.receive_audit(&g("g1"), &encode_audit("b1", 0, 1, &chain(1, 3, "x", NO_HASH)).unwrap(), NOW).unwrap();
    center.transaction(|center| center.storage().keep_answer(("office", "k1"), b"hash", "[]", NOW)).unwrap();
    let reader = Reader::open(&dir.path().join("center.db")).unwrap();
    let table = |table| reader.search(&Search { table, ..search(vec![]) }).unwrap().len();
    let seventh =
        Search { table: Table::Ack, ..search(vec![("seq", "7".to_owned()), ("outcome", "applied".to_owned())]) };
    assert_eq!(reader.search(&seventh).unwrap().len(), 1);
    assert_eq!(reader.states().unwrap()[0].body, "{\"state\":2}");
    let mut count = |days: i64| {
        center.remove_old(Timestamp(NOW.0 + days * DAY_MS + 1)).unwrap();
        let answer = center.storage().answer_under("office", "k1").unwrap();
        (table(Table::Ack), table(Table::Alarm), table(Table::Audit), answer.is_some())
    };
    assert_eq!(count(1), (1, 1, 3, true));
    assert_eq!(count(2), (1, 1, 3, false));
    assert_eq!(count(5), (0, 0, 3, false));
    assert_eq!(count(10), (0, 0, 1, false));
    assert_eq!(center.storage.audit_ends(&g("g1")).unwrap().map(|(_, last)| last.n), Some(3));
}

#[test]
fn a_damaged_message_is_named_and_nothing_is_published_from_there() {
    let dir = tempfile::tempdir().unwrap();
    drop(center(dir.path()).publish_ops(None, &[lost("01020301")], NOW).unwrap());
    let path = dir.path().join("center.db");
    Connection::open(&path).unwrap().execute("UPDATE message SET message = 'tea'", []).unwrap();
    let database = Database::open(&path, NonZeroU32::MIN, RETENTION).unwrap();
    let refused = Center::new(database, streams(dir.path()), vec![g("g1")]).err().unwrap().to_string();
    assert!(refused.contains("message 1.1 of `card-office` is damaged"), "{refused}");
}

#[test]
fn a_journal_is_read_in_parts_to_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let mut before = center(dir.path());
    let count = u64::try_from(READ_AT_ONCE).unwrap() + 5;
    let all = before.transaction(|center| {
        (0..count).try_for_each(|n| center.stage_ops(None, &[lost(&format!("5C{n:06X}"))], NOW).map(|_| ()))
    });
    all.unwrap();
    drop(before);
    let mut after = center(dir.path());
    assert_eq!(after.list(&Audience::Campus).unwrap().len() as u64, count);
    let journal = JournalName { audience: Audience::Campus, stream: "card-office".parse().unwrap() };
    let some = after.storage().messages(&journal, NonZeroU32::MIN, &[(2, 3), (3, 4), (count, u64::MAX)], 4).unwrap();
    let seqs: Vec<u64> = some.unwrap().iter().map(|(at, _)| at.seq).collect();
    assert_eq!(seqs, [2, 3, 4, count]);
    assert_eq!(after.storage().messages(&journal, NonZeroU32::MIN, &[(1, u64::MAX)], 4).unwrap(), None);
}

#[test]
fn other_gateways_are_published_to_with_their_numbers_and_a_damaged_journal_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut center = center(dir.path());
    let publish = |center: &mut Center<Database>, gateway: &str, uid: &str| {
        center.publish_ops(Some(&g(gateway)), &[enrol(uid)], NOW).map(|messages| seqs(&messages))
    };
    let has = |center: &Center<Database>, name: &str| center.list(&Audience::Gateway(g(name))).map(AccessList::len);
    let heads = |center: &mut Center<Database>| {
        let heads = center.heads(NOW).unwrap().into_iter();
        heads.map(|head| head.topic.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(publish(&mut center, "g1", "01020301").unwrap(), [1]);
    assert_eq!(publish(&mut center, "g2", "01020302").unwrap(), [1]);

    center.replace_gateways(vec![g("g2"), g("g3")]).unwrap();
    assert_eq!(center.gateways(), [g("g2"), g("g3")]);
    let gone = publish(&mut center, "g1", "01020303").unwrap_err();
    assert!(matches!(&gone, CenterError::UnknownGateway(gateway) if *gateway == g("g1")), "{gone}");
    let topics = ["campus/down/head/card-office", "g2/down/head/apartment", "g3/down/head/apartment"];
    assert_eq!(heads(&mut center), topics.map(|topic| format!("dormgate/v1/{topic}")));
    assert_eq!(publish(&mut center, "g2", "02020304").unwrap(), [2]);
    assert_eq!(publish(&mut center, "g3", "01020305").unwrap(), [1]);

    // One that is back goes on where it was, at once and after a commit that failed.
    center.replace_gateways(vec![g("g1"), g("g2"), g("g3")]).unwrap();
    assert_eq!(publish(&mut center, "g1", "01020306").unwrap(), [2]);
    let failed: Result<(), CenterError> = center.transaction(|center| {
        center.stage_ops(Some(&g("g1")), &[enrol("01020307")], NOW)?;
        Err(CenterError::Stopped)
    });
    assert!(failed.is_err());
    assert_eq!(publish(&mut center, "g1", "01020308").unwrap(), [3]);
    assert_eq!(["g1", "g2", "g3"].map(|name| has(&center, name)), [Some(3), Some(2), Some(1)]);

    // The same center from the file, with the journal of a gateway damaged that it does not have yet.
    drop(center);
    let path = dir.path().join("center.db");
    Connection::open(&path).unwrap().execute("UPDATE message SET message = 'tea' WHERE audience = 'g3'", []).unwrap();
    let database = Database::open(&path, NonZeroU32::MIN, RETENTION).unwrap();
    let mut center = Center::new(database, streams(dir.path()), vec![g("g2")]).unwrap();
    let refused = center.replace_gateways(vec![g("g1"), g("g3")]).unwrap_err().to_string();
    assert!(refused.contains("message 1.1 of `apartment` is damaged"), "{refused}");
    assert_eq!(center.gateways(), [g("g2")]);
    assert_eq!(publish(&mut center, "g2", "01020309").unwrap(), [3]);
    center.replace_gateways(vec![g("g1"), g("g2")]).unwrap();
    assert_eq!(["g1", "g2"].map(|name| has(&center, name)), [Some(3), Some(3)]);
}
