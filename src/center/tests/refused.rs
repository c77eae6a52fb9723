//! What a gateway refuses for its content: it is not signed, and where a journal has it all the same, it changes nothing here either.

use super::*;
use crate::access::schedule::{Holiday, Schedule};
use crate::center::sheet::Enrolments;
use crate::wire::allowed::AllowedOps;
use crate::wire::envelope::sign;
use crate::wire::limits::WINDOWS_MAX;
use crate::wire::snapshot;

fn enrolled(uid: &str, role: Role, times: (Option<i64>, Option<i64>)) -> Op {
    let Op::Enrol { uid, enrolment } = enrol(uid) else { panic!("no enrolment") };
    let (not_before, not_after) = (times.0.map(Timestamp), times.1.map(Timestamp));
    Op::Enrol { uid, enrolment: Enrolment { role, not_before, not_after, ..enrolment } }
}

fn reissue(new: &str, old: Option<&str>) -> Op {
    let old_uid = old.map(|old| old.parse().unwrap());
    Op::Reissue { holder: "h1".parse().unwrap(), new_uid: new.parse().unwrap(), old_uid }
}

/// What a gateway refuses, with the op, the code and the field that the center's error names.
fn refused() -> Vec<(Op, &'static str, &'static str, &'static str)> {
    use Role::Resident;
    const YEAR_1999: i64 = 915_148_800_000;
    let until = Some(Timestamp(YEAR_1999));
    vec![
        (issue("08111111"), "issue", "random_uid", "uid"),
        (issue("88111111"), "issue", "invalid_uid", "uid"),
        (issue("01020304"), "issue", "invalid_uid", "uid"),
        (reissue("08111111", None), "reissue", "random_uid", "new_uid"),
        (reissue("1EA68671", Some("88111111")), "reissue", "invalid_uid", "old_uid"),
        (lost("88111111"), "report_lost", "invalid_uid", "uid"),
        (enrol("08111111"), "enrol", "random_uid", "uid"),
        (enrolled("1EA68671", Resident, (None, Some(YEAR_1999))), "enrol", "invalid_field", "not_after"),
        (enrolled("1EA68671", Resident, (Some(YEAR_1999), None)), "enrol", "invalid_field", "not_before"),
        (enrolled("1EA68671", Resident, (Some(NOW.0 + 2000), Some(NOW.0))), "enrol", "invalid_field", "not_after"),
        (
            Op::SetPosture { portals: PortalSet::All, posture: Posture::Lockdown, until },
            "set_posture",
            "invalid_field",
            "until",
        ),
    ]
}

/// The same, and a visitor's enrolment that begins in a week: it names no end, and so would end today.
fn refused_here() -> Vec<(Op, &'static str, &'static str, &'static str)> {
    let visitor = enrolled("1EA68671", Role::Visitor, (Some(NOW.0 + 604_800_000), None));
    refused().into_iter().chain([(visitor, "enrol", "invalid_field", "not_after")]).collect()
}

#[test]
fn an_op_that_a_gateway_refuses_is_named_and_not_signed() {
    let dir = tempfile::tempdir().unwrap();
    let mut center = center(dir.path(), Layout::Two);
    for (op, name, code, field) in refused_here() {
        let error = center.publish_ops(Some(&gateway()), &[issue("5B3C0D92"), op], NOW).map(drop).unwrap_err();
        let error = error.to_string();
        for part in [format!("`{name}`"), code.to_owned(), format!("`ops[1].{field}`")] {
            assert!(error.contains(&part), "{part}: {error}");
        }
    }
    assert_eq!(center.positions().count(), 0, "nothing of such a message was signed");
}

#[test]
fn a_message_that_is_too_long_for_a_gateway_and_cannot_be_cut_is_not_signed() {
    let dir = tempfile::tempdir().unwrap();
    let mut center = center(dir.path(), Layout::One);
    // As many windows on as many holidays as a schedule may have.
    let windows = vec!["06:00-23:00".parse().unwrap(); WINDOWS_MAX];
    let holiday = |day: usize| Holiday {
        date: format!("2026-{:02}-{:02}", day / 28 + 1, day % 28 + 1).parse().unwrap(),
        windows: windows.clone(),
    };
    let schedule = Schedule { holidays: (0..12 * 28).map(holiday).collect(), ..Schedule::default() };
    let op = Op::DefineSchedule { name: "term".parse().unwrap(), schedule };
    let error = center.publish_ops(Some(&gateway()), &[op], NOW).map(drop).unwrap_err().to_string();
    assert!(error.contains("`define_schedule`") && error.contains("too_large"), "{error}");
    assert_eq!(center.positions().count(), 0);
}

#[test]
fn a_list_with_a_card_that_a_gateway_refuses_is_named_and_not_signed() {
    let dir = tempfile::tempdir().unwrap();
    let mut center = center(dir.path(), Layout::Two);
    for (op, _, code, field) in refused_here() {
        let Op::Enrol { uid, enrolment } = op else { continue };
        let list = Enrolments::from([(uid, enrolment)]);
        for error in [
            center.plan(Some(&gateway()), &list, NOW).unwrap_err().to_string(),
            center.load(Some(&gateway()), &list, true, NOW).map(drop).unwrap_err().to_string(),
        ] {
            let (card, field) = (format!("card `{uid}`"), format!("`{field}`"));
            assert!(error.contains(&card) && error.contains(code) && error.contains(&field), "{error}");
        }
    }
    assert_eq!(center.positions().count(), 0);
}

/// The digests of the heads, each with its number.
fn heads(center: &mut Center) -> Vec<(u64, String)> {
    let streams = crate::config::streams(center.configuration()).unwrap();
    let digest = |message: &SignedMessage| {
        let stream = "center".parse().unwrap();
        let head = open(&message.payload, Channel::Gateway, &gateway(), &streams).unwrap();
        let head = down::read_head(&head, &stream).unwrap();
        (head.at.seq, head.digest)
    };
    center.heads(NOW).unwrap().iter().map(digest).collect()
}

#[test]
fn a_journal_with_ops_that_gateways_refused_has_the_list_that_gateways_have() {
    let dir = tempfile::tempdir().unwrap();
    let mut before = center(dir.path(), Layout::One);
    before.publish_ops(Some(&gateway()), &[issue("1EA68671")], NOW).unwrap();
    let [(1, digest)] = &heads(&mut before)[..] else { panic!("one head") };
    // By hand a wrong message can be published still, for trials of what a gateway does with it.
    for (op, _, code, _) in refused() {
        let ops = down::write_ops(&[issue("5B3C0D92"), op]).unwrap();
        let Draft::Claims(written) = Draft::parse(format!(r#"{{"iss":"center","ops":{ops}}}"#).as_bytes()).unwrap()
        else {
            panic!("ops")
        };
        let sent = before.publish_as_written(Some(&gateway()), &written, NOW).unwrap();
        let streams = crate::config::streams(before.configuration()).unwrap();
        let received = down::read_changes(&open(&sent.payload, Channel::Gateway, &gateway(), &streams).unwrap());
        let errors = received.unwrap().content.unwrap_err();
        assert_eq!(errors.first().unwrap().code.as_str(), code, "{errors:?}");
    }
    let seq = u64::try_from(refused().len() + 1).unwrap();
    assert_eq!(heads(&mut before), [(seq, digest.clone())]);
    let mut after = center(dir.path(), Layout::One);
    assert_eq!(heads(&mut after), [(seq, digest.clone())]);
    assert_eq!(seqs(&after.publish_ops(Some(&gateway()), &[lost("1EA68671")], NOW).unwrap()), [seq + 1]);
}

#[test]
fn a_journal_with_a_list_that_gateways_refused_is_read_and_sends_one_that_they_take() {
    let dir = tempfile::tempdir().unwrap();
    let mut before = center(dir.path(), Layout::One);
    before.publish_ops(Some(&gateway()), &[issue("1EA68671"), enrol("1EA68671")], NOW).unwrap();
    let [(1, digest)] = &heads(&mut before)[..] else { panic!("one head") };
    // As a center without this check signed it, after a random UID was issued.
    let Op::Issue { uid, holder } = issue("08111111") else { panic!("no issue") };
    let mut list = own_list(&before).clone();
    let at = Position { epoch: NonZeroU32::MIN, seq: 2 };
    list.replay(&[Op::Issue { uid, holder }], at, None);
    let entries = list.snapshot(&digest::registers_of(AllowedOps::all()));
    before
        .transaction(|center| {
            let stream = center.streams.first().unwrap();
            let name = &stream.spec.name;
            let parts = snapshot::write_parts((name, at, "1.2-list"), "g1", NOW, &entries, true).unwrap();
            let signed = parts.iter().map(|part| sign(part, name, &stream.key));
            let line: String = signed.map(|part| part + &char::from(PART_SEPARATOR).to_string()).collect();
            center.append(0, &Audience::Gateway(gateway()), at, (Content::Refused, &line))
        })
        .unwrap();
    let mut after = center(dir.path(), Layout::One);
    assert_eq!(heads(&mut after), [(2, digest.clone())]);
    let streams = crate::config::streams(after.configuration()).unwrap();
    let sent = after.answer(&gateway(), &resync("center", ResyncReason::Gap, (1, 1), vec![]), NOW).unwrap();
    assert!(!sent.is_empty());
    for part in sent {
        let opened = open(&part.payload, Channel::Gateway, &gateway(), &streams).unwrap();
        assert!(snapshot::read_part(&opened).unwrap().entries.is_ok());
    }
}
