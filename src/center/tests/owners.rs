//! A card that is given to another person while it is enrolled for the one before.

use super::*;

const UID: &str = "1EA68671";

fn holder(name: &str) -> crate::access::id::Holder {
    name.parse().unwrap()
}

fn issue_to(to: &str) -> Op {
    Op::Issue { uid: UID.parse().unwrap(), holder: holder(to) }
}

fn reissue_to(to: &str) -> Op {
    Op::Reissue { holder: holder(to), new_uid: UID.parse().unwrap(), old_uid: None }
}

fn enrol_for(to: &str) -> Op {
    let Op::Enrol { uid, enrolment } = enrol(UID) else { panic!("no enrolment") };
    Op::Enrol { uid, enrolment: Enrolment { holder: holder(to), ..enrolment } }
}

fn withdraw(of: Subject) -> Op {
    Op::Withdraw { subject: of }
}

/// What is published of `ops` after `before`; otherwise what the card is enrolled for.
fn publish(layout: Layout, before: &[Op], ops: &[Op]) -> Result<usize, String> {
    let dir = tempfile::tempdir().unwrap();
    let mut center = center(dir.path(), layout);
    for op in before {
        center.publish_ops(Some(&gateway()), std::slice::from_ref(op), NOW).unwrap();
    }
    match center.publish_ops(Some(&gateway()), ops, NOW) {
        Ok(sent) => Ok(sent.len()),
        Err(error @ CenterError::EnrolledForAnother { .. }) => Err(error.to_string()),
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn a_card_that_is_enrolled_for_the_person_before_is_given_to_nobody_else() {
    let card = || Subject::Card(UID.parse().unwrap());
    for layout in [|| Layout::One, || Layout::Two] {
        let publish = |before: &[Op], ops: &[Op]| publish(layout(), before, ops);
        let of_h1 = [issue_to("h1"), enrol_for("h1")];
        for op in [issue_to("h9"), reissue_to("h9")] {
            let refused = publish(&of_h1, &[op]).unwrap_err();
            let expected = "card `1EA68671` was issued to `h1` and is enrolled for `h1` at `g1`; withdraw it there first, or it would \
                            open for its new holder what `h1` was enrolled for";
            assert_eq!(refused, expected);
        }
        // The two offices may have names of their own for one person.
        let bed = [issue_to("h1"), enrol_for("bed-12")];
        assert!(publish(&bed, &[reissue_to("h9")]).is_err());
        assert!(publish(&bed, &[reissue_to("h1")]).is_ok(), "of the same person it is no other's");
        assert!(publish(&[issue_to("h1"), enrol_for("h9")], &[reissue_to("h9")]).is_ok(), "enrolled for the new one");
        assert!(publish(&[enrol_for("bed-12")], &[issue_to("h1")]).is_ok(), "enrolled before it was issued");
        for end in [withdraw(card()), withdraw(Subject::Holder(holder("h1"))), enrol_for("h9")] {
            let ended: Vec<Op> = of_h1.iter().chain([&end]).cloned().collect();
            assert!(publish(&ended, &[reissue_to("h9")]).is_ok(), "{end:?}");
            assert!(publish(&of_h1, &[end.clone(), reissue_to("h9")]).is_ok(), "{end:?} in the same request");
            assert!(publish(&of_h1, &[reissue_to("h9"), end]).is_err(), "too late");
        }
    }
}

#[test]
fn what_the_same_transaction_withdrew_counts() {
    let dir = tempfile::tempdir().unwrap();
    let mut center = center(dir.path(), Layout::Two);
    center.publish_ops(Some(&gateway()), &[issue_to("h1"), enrol_for("h1")], NOW).unwrap();
    let sent = center.transaction(|center| {
        center.stage_ops(Some(&gateway()), &[withdraw(Subject::Holder(holder("h1")))], NOW)?;
        center.stage_ops(None, &[reissue_to("h9")], NOW)
    });
    assert_eq!(sent.unwrap().len(), 1);
}

#[test]
fn an_enrolment_at_any_gateway_counts_for_a_stream_of_the_campus() {
    let dir = tempfile::tempdir().unwrap();
    create(dir.path(), Layout::Two, NonZeroU32::MIN).unwrap();
    let second: GatewayId = "g2".parse().unwrap();
    let mut center = Center::open(dir.path(), &[gateway(), second.clone()]).unwrap();
    center.publish_ops(Some(&second), &[issue_to("h1"), enrol_for("h1")], NOW).unwrap();
    let mut refusal = |to: Option<&GatewayId>, ops: &[Op]| {
        center.publish_ops(to, ops, NOW).map(drop).map_err(|error| error.to_string())
    };
    assert!(refusal(None, &[reissue_to("h9")]).unwrap_err().contains("at `g2`"));
    let both = [withdraw(Subject::Holder(holder("h1"))), reissue_to("h9")];
    assert!(refusal(Some(&gateway()), &both).unwrap_err().contains("at `g2`"), "withdrawn elsewhere");
    refusal(Some(&second), &both).unwrap();
}
