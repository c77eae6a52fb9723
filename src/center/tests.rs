//! What the center guarantees, without a network, in a directory.

use std::num::NonZeroU32;
use std::path::Path;

use super::*;
use crate::access::change::{Head, PortalSet, Subject, SuspendReason};
use crate::access::credential::{Enrolment, Flag, Role};
use crate::access::effect::ResyncReason;
use crate::access::effect::{Have, Resync};
use crate::access::event::{AuditEvent, Event};
use crate::access::id::{ClockTrust, Mono, Now};
use crate::access::input::CommandKind;
use crate::access::portal::Posture;
use crate::wire::audit;
use crate::wire::digest;
use crate::wire::down;
use crate::wire::envelope::{Channel, open};
use crate::wire::up::encode_audit;

mod owners;
mod refused;
mod resend;

pub(super) const NOW: Timestamp = Timestamp(1_788_249_600_000);

pub(super) fn gateway() -> GatewayId {
    "g1".parse().unwrap()
}

pub(super) fn center(dir: &Path, layout: Layout) -> Center {
    if !dir.join("center.toml").exists() {
        create(dir, layout, NonZeroU32::MIN).unwrap();
    }
    Center::open(dir, &[gateway()]).unwrap()
}

/// What was published to the gateway alone.
fn own_list(center: &Center) -> &AccessList {
    center.list(&Audience::Gateway(gateway())).unwrap()
}

pub(super) fn issue(uid: &str) -> Op {
    Op::Issue { uid: uid.parse().unwrap(), holder: "h1".parse().unwrap() }
}

pub(super) fn enrol(uid: &str) -> Op {
    let enrolment = Enrolment::resident("h1".parse().unwrap(), vec![]);
    Op::Enrol { uid: uid.parse().unwrap(), enrolment }
}

pub(super) fn lost(uid: &str) -> Op {
    Op::SetFlag { subject: Subject::Card(uid.parse().unwrap()), flag: Flag::Lost, on: true }
}

/// What the gateway understands of a message: the stream, which number, how many ops.
fn understood(center: &Center, signed_message: &SignedMessage) -> (String, u64, usize) {
    let via = match &signed_message.topic {
        Topic::Campus(_) => Channel::Campus,
        _ => Channel::Gateway,
    };
    let streams = crate::config::streams(center.configuration()).unwrap();
    let opened = open(&signed_message.payload, via, &gateway(), &streams).unwrap();
    let received = down::read_changes(&opened).unwrap();
    (received.stream.to_string(), received.at.seq, received.content.unwrap().len())
}

pub(super) fn seqs(messages: &[SignedMessage]) -> Vec<u64> {
    messages.iter().map(|l| l.number.as_ref().unwrap().1.seq).collect()
}

#[test]
fn each_office_publishes_its_own_ops_and_the_gateway_understands_them() {
    let dir = tempfile::tempdir().unwrap();
    let mut center = center(dir.path(), Layout::Two);
    let published =
        center.publish_ops(Some(&gateway()), &[issue("1EA68671"), enrol("1EA68671"), lost("1EA68671")], NOW).unwrap();
    let received: Vec<_> = published.iter().map(|signed_message| understood(&center, signed_message)).collect();
    assert_eq!(received, [("card-office".to_owned(), 1, 2), ("apartment".to_owned(), 1, 1)]);
    let topics: Vec<_> = published.iter().map(|signed_message| signed_message.topic.to_string()).collect();
    assert_eq!(topics, ["dormgate/v1/campus/down/changes", "dormgate/v1/g1/down/changes"]);
    let list = center.list(&Audience::Campus).unwrap();
    assert!(list.card(&"1EA68671".parse().unwrap()).unwrap().standing().contains(Flag::Lost));
    assert!(own_list(&center).card(&"1EA68671".parse().unwrap()).unwrap().enrolment().is_some());
}

#[test]
fn a_campus_stream_publishes_once_and_a_gateway_stream_to_each_gateway_with_numbers_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    create(dir.path(), Layout::Two, NonZeroU32::MIN).unwrap();
    let second: GatewayId = "g2".parse().unwrap();
    let mut center = Center::open(dir.path(), &[gateway(), second.clone()]).unwrap();
    let of = |sent: Vec<SignedMessage>| -> Vec<(String, u64)> {
        sent.iter().map(|m| (m.topic.to_string(), m.number.as_ref().unwrap().1.seq)).collect()
    };
    let topic = |to: &str| format!("dormgate/v1/{to}/down/changes");
    assert_eq!(of(center.publish_ops(None, &[issue("02020304")], NOW).unwrap()), [(topic("campus"), 1)]);
    for (to, seq) in [(gateway(), 1), (second.clone(), 1), (second.clone(), 2)] {
        let sent = center.publish_ops(Some(&to), &[enrol("02020304")], NOW).unwrap();
        assert_eq!(of(sent), [(topic(to.as_str()), seq)]);
    }
    let both = center.publish_ops(Some(&second), &[lost("02020304"), enrol("01020305")], NOW).unwrap();
    assert_eq!(of(both), [(topic("campus"), 2), (topic("g2"), 3)]);
    assert!(matches!(center.publish_ops(None, &[enrol("02020304")], NOW), Err(CenterError::NoGateway(_))));
    let stranger = "g3".parse().unwrap();
    let refused = center.publish_ops(Some(&stranger), &[enrol("02020304")], NOW);
    assert!(matches!(refused, Err(CenterError::UnknownGateway(_))));
    // What only the second was sent is in no list of the first, and a resync of the second gets its own numbers.
    assert_eq!((own_list(&center).len(), center.list(&Audience::Gateway(second.clone())).unwrap().len()), (1, 2));
    let asked = resync("apartment", ResyncReason::Gap, (1, 1), vec![]);
    assert_eq!(seqs(&center.answer(&second, &asked, NOW).unwrap()), [2, 3]);
    assert_eq!(seqs(&center.answer(&gateway(), &asked, NOW).unwrap()), [0; 0]);
    assert_eq!(center.heads(NOW).unwrap().len(), 3);
}

#[test]
fn numbers_go_on_after_a_restart_and_in_another_process() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = center(dir.path(), Layout::One);
    let mut second = center(dir.path(), Layout::One);
    assert_eq!(seqs(&first.publish_ops(Some(&gateway()), &[issue("02020304")], NOW).unwrap()), [1]);
    assert_eq!(seqs(&second.publish_ops(Some(&gateway()), &[issue("01020305")], NOW).unwrap()), [2]);
    assert_eq!(seqs(&first.publish_ops(Some(&gateway()), &[issue("01020306")], NOW).unwrap()), [3]);
    let third = center(dir.path(), Layout::One);
    assert_eq!(third.positions().map(|(_, at)| at.seq).collect::<Vec<_>>(), [3]);
    assert_eq!((own_list(&first).len(), own_list(&second).len(), own_list(&third).len()), (3, 2, 3));
}

#[test]
fn concurrent_processes_never_give_one_number_twice() {
    let dir = tempfile::tempdir().unwrap();
    drop(center(dir.path(), Layout::One));
    let publish = |at: u8| {
        let dir = dir.path().to_owned();
        std::thread::spawn(move || {
            let mut center = center(&dir, Layout::One);
            (0..20)
                .flat_map(|i| {
                    seqs(&center.publish_ops(Some(&gateway()), &[issue(&format!("0202{at:02X}{i:02X}"))], NOW).unwrap())
                })
                .collect()
        })
    };
    let threads: Vec<std::thread::JoinHandle<Vec<u64>>> = (0..4).map(publish).collect();
    let mut all: Vec<u64> = threads.into_iter().flat_map(|t| t.join().unwrap()).collect();
    all.sort_unstable();
    assert_eq!(all, (1..=80).collect::<Vec<_>>());
}

#[test]
fn a_line_that_was_not_written_whole_is_forgotten_and_its_number_used_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut before = center(dir.path(), Layout::One);
    before.publish_ops(Some(&gateway()), &[issue("02020304")], NOW).unwrap();
    let path = dir.path().join("g1/center.journal");
    let whole = std::fs::read(&path).unwrap();
    let half = whole.get(..whole.len() / 2).unwrap();
    std::fs::write(&path, [whole.as_slice(), half].concat()).unwrap();
    let mut after = center(dir.path(), Layout::One);
    assert_eq!(seqs(&after.publish_ops(Some(&gateway()), &[issue("01020305")], NOW).unwrap()), [2]);
    assert_eq!(own_list(&center(dir.path(), Layout::One)).len(), 2);
}

#[test]
fn a_damaged_journal_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    center(dir.path(), Layout::One).publish_ops(Some(&gateway()), &[issue("02020304")], NOW).unwrap();
    std::fs::write(dir.path().join("g1/center.journal"), "tea\n").unwrap();
    let error = Center::open(dir.path(), &[gateway()]).err().unwrap().to_string();
    assert!(error.contains("center.journal") && error.contains("message 1"), "{error}");
}

#[test]
fn nothing_is_published_of_ops_that_no_office_owns() {
    let dir = tempfile::tempdir().unwrap();
    drop(center(dir.path(), Layout::One));
    let text = std::fs::read_to_string(dir.path().join("center.toml")).unwrap();
    std::fs::write(dir.path().join("center.toml"), text.replace("\"*\"", "\"issue\"")).unwrap();
    let mut center = Center::open(dir.path(), &[gateway()]).unwrap();
    let error = center.publish_ops(Some(&gateway()), &[issue("02020304"), enrol("02020304")], NOW).unwrap_err();
    assert!(matches!(error, CenterError::NoOwner(OpName::Enrol)), "{error}");
    assert_eq!(center.positions().count(), 0);
}

pub(super) fn resync(stream: &str, reason: ResyncReason, have: (u32, u64), missing: Vec<(u64, u64)>) -> Resync {
    let have = Have { epoch: have.0, seq: have.1 };
    Resync { stream: stream.parse().unwrap(), reason, have, missing }
}

#[test]
fn ops_of_one_call_go_into_messages_that_a_gateway_takes() {
    let dir = tempfile::tempdir().unwrap();
    let mut center = center(dir.path(), Layout::One);
    // What is too long for one message is cut in halves.
    let shortest = Op::Reinstate { uid: "02020304".parse().unwrap() };
    let sent = center.publish_ops(Some(&gateway()), &vec![shortest; 2 * OPS_MAX + 1], NOW).unwrap();
    let received: Vec<_> = sent.iter().map(|message| understood(&center, message)).collect();
    let stream = "center".to_owned();
    let half = OPS_MAX / 2;
    let expected = [half, half, half, half, 1].into_iter().zip(1..).map(|(ops, seq)| (stream.clone(), seq, ops));
    assert_eq!(received, expected.collect::<Vec<_>>());
}

#[test]
fn what_is_written_by_hand_is_sent_as_it_is_and_changes_the_list_only_if_it_may() {
    let dir = tempfile::tempdir().unwrap();
    let mut center = center(dir.path(), Layout::Two);
    let written = |text: &str| match Draft::parse(text.as_bytes()).unwrap() {
        Draft::Claims(claims) => claims,
        Draft::Ops(_) => panic!("ops"),
    };
    let tea = center
        .publish_as_written(Some(&gateway()), &written(r#"{"iss":"apartment","ops":[{"op":"tea"}]}"#), NOW)
        .unwrap();
    assert_eq!(seqs(&[tea]), [1]);
    let forbidden = r#"{"iss":"apartment","ops":[{"op":"cancel","uid":"02020304"}]}"#;
    assert_eq!(seqs(&[center.publish_as_written(Some(&gateway()), &written(forbidden), NOW).unwrap()]), [2]);
    assert!(own_list(&center).is_empty());
    let own = center
        .publish_as_written(Some(&gateway()), &written(r#"{"iss":"apartment","epoch":1,"seq":99,"ops":[]}"#), NOW)
        .unwrap();
    assert_eq!(seqs(&[own]), [99]);
    assert_eq!(seqs(&center.publish_ops(Some(&gateway()), &[enrol("02020304")], NOW).unwrap()), [3]);
    let all = resync("apartment", ResyncReason::Gap, (1, 0), vec![]);
    // The one that would take something away goes first; that it may not is for the gateway to judge.
    assert_eq!(seqs(&center.answer(&gateway(), &all, NOW).unwrap()), [2, 1, 3]);
    assert!(matches!(
        center.publish_as_written(Some(&gateway()), &written(r#"{"iss":"nobody","ops":[]}"#), NOW),
        Err(CenterError::UnknownStream(_))
    ));
}

#[test]
fn a_command_is_understood_and_expires() {
    let dir = tempfile::tempdir().unwrap();
    let center = center(dir.path(), Layout::Two);
    let release = CommandKind::Release { portal: "gate-in".parse().unwrap() };
    let (jti, signed_message) = center.command(&gateway(), release.clone(), Some("staff:77"), NOW).unwrap();
    let streams = crate::config::streams(center.configuration()).unwrap();
    let opened = open(&signed_message.payload, Channel::Gateway, &gateway(), &streams).unwrap();
    let received = down::read_command(&opened).unwrap();
    assert_eq!(
        (received.jti, received.kind, received.exp.0 - received.iat.0),
        (jti.clone(), release.clone(), COMMAND_LIFE_S * 1000)
    );
    assert_ne!(center.command(&gateway(), release, None, NOW).unwrap().0, jti);
}

#[test]
fn a_head_has_the_last_number_and_the_digest_of_what_the_office_owns() {
    let dir = tempfile::tempdir().unwrap();
    let mut center = center(dir.path(), Layout::Two);
    let streams = crate::config::streams(center.configuration()).unwrap();
    let read = |signed_message: &SignedMessage| {
        let (via, stream) = match &signed_message.topic {
            Topic::Campus(Down::Head(stream)) => (Channel::Campus, stream),
            Topic::Down(_, Down::Head(stream)) => (Channel::Gateway, stream),
            other => panic!("{other}"),
        };
        assert!(signed_message.topic.retained());
        down::read_head(&open(&signed_message.payload, via, &gateway(), &streams).unwrap(), stream).unwrap()
    };
    let heads = |center: &mut Center| center.heads(NOW).unwrap().iter().map(read).collect::<Vec<_>>();
    let numbers = |heads: &[Head]| heads.iter().map(|h| (h.at.seq, h.cards)).collect::<Vec<_>>();
    // Before the first message too: without a head a gateway takes its broker for one that keeps none.
    let before = heads(&mut center);
    assert_eq!(numbers(&before), [(0, 0), (0, 0)]);
    assert!(before.iter().all(|head| head.digest == crate::wire::digest::finish(Vec::new())));
    center.publish_ops(Some(&gateway()), &[issue("02020304"), enrol("02020304"), enrol("01020305")], NOW).unwrap();
    let heads = heads(&mut center);
    assert_eq!(numbers(&heads), [(1, 1), (1, 2)]);
    let lines = vec!["S|02020304|h1|".to_owned()];
    assert_eq!(heads.first().unwrap().digest, crate::wire::digest::finish(lines));
}

#[test]
fn a_key_is_for_its_owner_only_and_a_second_center_never_takes_its_place() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    create(dir.path(), Layout::One, NonZeroU32::MIN).unwrap();
    let mode = std::fs::metadata(dir.path().join("center.key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(matches!(create(dir.path(), Layout::Two, NonZeroU32::MIN), Err(CenterError::Exists(_))));
    let elsewhere = tempfile::tempdir().unwrap();
    assert!(matches!(Center::open(elsewhere.path(), &[gateway()]), Err(CenterError::NoCenter(_))));
    assert!(!elsewhere.path().join("lock").exists());
}

fn event(n: u64, detail: &str) -> AuditEvent {
    let now = Now { wall: NOW, mono: Mono(0), clock: ClockTrust::Trusted };
    AuditEvent::new(n, "b1", now, Event::Boot { gateway: None, owners: None, detail: detail.to_owned() })
}

/// A chain of events from `first`, each as its bytes.
pub(super) fn chain(first: u64, count: u64, mut prev: audit::Hash) -> Vec<Vec<u8>> {
    (first..first + count)
        .map(|n| {
            let bytes = audit::encode(&event(n, ""), &[], &prev);
            prev = audit::hash(&bytes);
            bytes
        })
        .collect()
}

pub(super) fn take(
    center: &mut Center,
    first: u64,
    events: &[Vec<u8>],
    now: Timestamp,
) -> (Vec<u64>, Vec<AuditTrouble>, u64) {
    let batch = encode_audit("b1", first - 1, first, events).unwrap();
    let (received, ack) = center.receive_audit(&gateway(), &batch, now).unwrap();
    let streams = crate::config::streams(center.configuration()).unwrap();
    let through = ack.map_or(0, |signed_message| {
        down::read_audit_ack(&open(&signed_message.payload, Channel::Gateway, &gateway(), &streams).unwrap())
            .unwrap()
            .through
    });
    (received.events.iter().map(|e| e.n).collect(), received.trouble, through)
}

#[test]
fn the_audit_is_kept_byte_for_byte_once_and_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let mut center = center(dir.path(), Layout::Two);
    let events = chain(1, 5, audit::NO_HASH);
    assert_eq!(take(&mut center, 1, &events[..3], NOW), (vec![1, 2, 3], vec![], 3));
    assert_eq!(take(&mut center, 1, &events[..3], NOW), (vec![], vec![], 3));
    assert_eq!(take(&mut center, 3, &events[2..], NOW), (vec![4, 5], vec![], 5));
    let kept = std::fs::read(dir.path().join("g1/audit.jsonl")).unwrap();
    let mut sent = events.join(&b'\n');
    sent.push(b'\n');
    assert_eq!(kept, sent);
    let mut again = Center::open(dir.path(), &[gateway()]).unwrap();
    assert_eq!(again.storage.audit_ends(&gateway()).unwrap().map(|(_, last)| last.n), Some(5));
}

#[test]
fn a_changed_event_breaks_the_chain_and_is_not_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let mut center = center(dir.path(), Layout::One);
    let events = chain(1, 3, audit::NO_HASH);
    take(&mut center, 1, &events[..1], NOW);
    let forged = audit::encode(&event(2, "forged"), &[], &[7; 32]);
    assert_eq!(take(&mut center, 2, &[forged], NOW), (vec![], vec![AuditTrouble::Broken { n: 2 }], 0));
    let other = audit::encode(&event(1, "forged"), &[], &[7; 32]);
    assert_eq!(take(&mut center, 1, &[other], NOW), (vec![], vec![AuditTrouble::Different { n: 1 }], 0));
    assert_eq!(take(&mut center, 2, &events[1..], NOW), (vec![2, 3], vec![], 3));
}

#[test]
fn a_hole_is_waited_for_before_it_is_a_loss() {
    let dir = tempfile::tempdir().unwrap();
    let mut center = center(dir.path(), Layout::One);
    let events = chain(1, 6, audit::NO_HASH);
    take(&mut center, 1, &events[..2], NOW);
    let waiting = vec![AuditTrouble::Waiting { from: 3, to: 4 }];
    assert_eq!(take(&mut center, 5, &events[4..], NOW), (vec![], waiting.clone(), 0));
    assert_eq!(take(&mut center, 5, &events[4..], Timestamp(NOW.0 + 1000)), (vec![], waiting, 0));
    let later = Timestamp(NOW.0 + GAP_MS);
    let lost = vec![AuditTrouble::Lost { from: 3, to: 4 }];
    assert_eq!(take(&mut center, 5, &events[4..], later), (vec![5, 6], lost, 6));
}

const GAP_MS: i64 = super::audit::GAP_IS_LOSS_S * 1000;

#[test]
fn a_gateway_with_a_new_store_begins_a_new_file() {
    let dir = tempfile::tempdir().unwrap();
    let mut center = center(dir.path(), Layout::One);
    take(&mut center, 1, &chain(1, 3, audit::NO_HASH), NOW);
    let again = vec![audit::encode(&event(1, "new"), &[], &audit::NO_HASH)];
    let (events, trouble, through) = take(&mut center, 1, &again, NOW);
    assert_eq!((events, through), (vec![1], 1));
    assert!(matches!(trouble.as_slice(), [AuditTrouble::Restarted(place)] if place.ends_with("audit-1.jsonl`")));
    assert_eq!(std::fs::read_to_string(dir.path().join("g1/audit-1.jsonl")).unwrap().lines().count(), 3);
}

#[test]
fn what_is_no_audit_batch_is_reported_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut center = center(dir.path(), Layout::One);
    for bytes in [&b"tea"[..], b"{}", br#"{"v":1,"boot":"b","first":1,"last":1,"events":[{}]}"#] {
        let (received, ack) = center.receive_audit(&gateway(), bytes, NOW).unwrap();
        assert!(matches!(received.trouble.as_slice(), [AuditTrouble::Unreadable(_)]), "{received:?}");
        assert_eq!(ack, None);
    }
}
