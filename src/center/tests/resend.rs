//! What a gateway that lacks something is sent: the missing changes, those that take something away first, or a snapshot.

use super::*;

#[test]
fn a_gateway_is_sent_what_it_lacks_on_its_own_topic_with_the_same_numbers() {
    let dir = tempfile::tempdir().unwrap();
    let mut center = center(dir.path(), Layout::Two);
    for uid in ["01020301", "01020302", "01020303", "02020304", "01020305"] {
        center.publish_ops(Some(&gateway()), &[issue(uid)], NOW).unwrap();
    }
    let holes = center
        .answer(&gateway(), &resync("card-office", ResyncReason::Gap, (1, 1), vec![(2, 2), (4, 4)]), NOW)
        .unwrap();
    assert_eq!(seqs(&holes), [2, 4, 5]);
    assert!(holes.iter().all(|l| l.topic == Topic::Down(gateway(), Down::Changes)));
    assert_eq!(understood(&center, holes.first().unwrap()), ("card-office".to_owned(), 2, 1));
    for nothing in ["apartment", "nobody"] {
        assert_eq!(center.answer(&gateway(), &resync(nothing, ResyncReason::Empty, (0, 0), vec![]), NOW).unwrap(), []);
    }
}

#[test]
fn what_takes_a_right_away_is_sent_again_first() {
    let dir = tempfile::tempdir().unwrap();
    let mut center = center(dir.path(), Layout::Two);
    let found = Op::SetFlag { subject: Subject::Holder("h1".parse().unwrap()), flag: Flag::Lost, on: false };
    for ops in [vec![issue("01020301")], vec![lost("01020301")], vec![found], vec![issue("01020302"), lost("01020302")]]
    {
        center.publish_ops(Some(&gateway()), &ops, NOW).unwrap();
    }
    let all = resync("card-office", ResyncReason::Gap, (1, 0), vec![]);
    assert_eq!(seqs(&center.answer(&gateway(), &all, NOW).unwrap()), [2, 4, 1, 3]);
}

#[test]
fn every_op_that_takes_something_away_goes_first() {
    let dir = tempfile::tempdir().unwrap();
    let mut center = center(dir.path(), Layout::One);
    let card = || "01020301".parse().unwrap();
    let power = |suspended| Op::Power { zone: "412".parse().unwrap(), reason: SuspendReason::Arrears, suspended };
    let posture = |posture| Op::SetPosture { portals: PortalSet::All, posture, until: None };
    let ops = [
        issue("01020301"),
        enrol("01020301"),
        power(true),
        power(false),
        posture(Posture::FreeAccess),
        posture(Posture::Secure),
        posture(Posture::Fire),
        posture(Posture::Lockdown),
        posture(Posture::OutOfService),
        Op::Withdraw { subject: Subject::Card(card()) },
        Op::Reinstate { uid: card() },
        Op::Reissue { holder: "h1".parse().unwrap(), new_uid: "01020302".parse().unwrap(), old_uid: Some(card()) },
    ];
    for op in ops {
        center.publish_ops(Some(&gateway()), &[op], NOW).unwrap();
    }
    let all = resync("center", ResyncReason::Gap, (1, 0), vec![]);
    assert_eq!(seqs(&center.answer(&gateway(), &all, NOW).unwrap()), [3, 6, 8, 9, 10, 12, 1, 2, 4, 5, 7, 11]);
}

#[test]
fn a_thousand_changes_are_sent_again_one_by_one_and_more_as_a_snapshot() {
    let dir = tempfile::tempdir().unwrap();
    let mut center = center(dir.path(), Layout::One);
    let publish = |center: &mut Center, count: usize| {
        center.transaction(|center| {
            (0..count).try_for_each(|_| center.stage_ops(Some(&gateway()), &[issue("02020304")], NOW).map(drop))
        })
    };
    let all = resync("center", ResyncReason::Gap, (1, 0), vec![]);
    publish(&mut center, 1_000).unwrap();
    assert_eq!(seqs(&center.answer(&gateway(), &all, NOW).unwrap()), (1..=1_000).collect::<Vec<_>>());
    publish(&mut center, 1).unwrap();
    let sent = center.answer(&gateway(), &all, NOW).unwrap();
    assert!(sent.iter().all(|message| message.topic == Topic::Down(gateway(), Down::Snapshot)));
}

#[test]
fn a_gateway_that_cannot_be_filled_up_is_sent_a_snapshot_with_the_digest_of_the_head() {
    let dir = tempfile::tempdir().unwrap();
    let mut center = center(dir.path(), Layout::Two);
    let uids: Vec<String> = (0..1_200).map(|n| format!("5C{n:06X}")).collect();
    let issues: Vec<Op> = uids.iter().map(|uid| issue(uid)).collect();
    center.publish_ops(Some(&gateway()), &issues, NOW).unwrap();
    center.publish_ops(Some(&gateway()), &[lost(&uids[7])], NOW).unwrap();
    let streams = crate::config::streams(center.configuration()).unwrap();
    let owns = digest::registers_of(crate::wire::allowed::STANDING);
    let expected = digest::of(center.list(&Audience::Campus).unwrap(), &owns);
    let table = [
        (ResyncReason::Empty, (0, 0), false),
        (ResyncReason::Gap, (7, 1), false),
        (ResyncReason::Epoch, (1, 2), false),
        (ResyncReason::Digest, (1, 2), true),
        (ResyncReason::Corrupt, (1, 0), true),
        (ResyncReason::Asked, (1, 2), true),
    ];
    for (reason, have, allow_shrink) in table {
        let sent = center.answer(&gateway(), &resync("card-office", reason, have, vec![]), NOW).unwrap();
        assert!(sent.len() > 1 && sent.iter().all(|l| l.topic == Topic::Down(gateway(), Down::Snapshot)));
        let mut entries = Vec::new();
        for part in &sent {
            let opened = open(&part.payload, Channel::Gateway, &gateway(), &streams).unwrap();
            let part = crate::wire::snapshot::read_part(&opened).unwrap();
            assert_eq!((part.head.allow_shrink, part.head.cards, part.head.at.seq), (allow_shrink, 1_200, 2));
            entries.push(part.entries.unwrap());
        }
        let mut list = AccessList::default();
        let at = Position { epoch: NonZeroU32::MIN, seq: 2 };
        list.replay_snapshot(&owns, (at, None), &entries);
        assert_eq!(digest::of(&list, &owns), expected);
    }
}
