//! Visitors' cards: an enrolment that names no end ends with the day, and none is given again or for longer, or a copy of the card that
//! somebody made would open again. Withdrawing a card first is the way around that, and stands in the journal.

use jiff::tz::TimeZone;

use super::CenterError;
use crate::access::credential::{Enrolment, Role};
use crate::access::id::{CardUid, Timestamp};
use crate::access::list::AccessList;
use crate::access::schedule::end_of_day;

/// `wanted` as it is to be published, if that may be. `list`: what was published before.
pub(super) fn complete(
    list: Option<&AccessList>,
    uid: CardUid,
    wanted: &Enrolment,
    (zone, now): (&TimeZone, Timestamp),
) -> Result<Enrolment, CenterError> {
    let before = list.and_then(|list| list.card(&uid)).and_then(|card| card.enrolment());
    let ends = before.filter(|before| before.role() == Role::Visitor).and_then(|before| before.not_after());
    let is_visitor = wanted.role == Role::Visitor;
    let not_after = match (wanted.not_after, ends) {
        (None, Some(ends)) if is_visitor => Some(ends),
        (None, None) if is_visitor => end_of_day(zone, now),
        (named, _) => named,
    };
    if let Some(ends) = ends {
        // What changes nothing about the end opens nothing again either.
        let is_same = is_visitor && not_after == Some(ends);
        let is_longer = not_after.is_none_or(|end| end > ends);
        if !is_same && (is_longer || now >= ends) {
            return Err(CenterError::VisitorAgain { uid, ends });
        }
    }
    Ok(Enrolment { not_after, ..wanted.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::change::{Op, Position, Subject};
    use crate::access::schedule::timezone;
    use crate::center::sheet::Enrolments;
    use crate::center::tests::{center, gateway};
    use crate::center::{Center, Layout};

    /// 2026-09-01, 08:00 in Shanghai.
    const NOW: i64 = 1_788_220_800_000;
    const HOUR: i64 = 3_600_000;

    fn uid() -> CardUid {
        "5B3C0D92".parse().unwrap()
    }

    fn enrolment(role: Role, not_after: Option<i64>) -> Enrolment {
        let holder = "guest-17".parse().unwrap();
        Enrolment { role, not_after: not_after.map(Timestamp), ..Enrolment::resident(holder, Vec::new()) }
    }

    /// The end of what is published at `now`; an error: when the enrolment before ends.
    fn published(before: &[Op], now: i64, wanted: (Role, Option<i64>)) -> Result<Option<i64>, i64> {
        let mut list = AccessList::default();
        for (seq, op) in (1..).zip(before) {
            list.replay(std::slice::from_ref(op), Position { epoch: std::num::NonZeroU32::MIN, seq }, None);
        }
        let (_, zone) = timezone("Asia/Shanghai").unwrap();
        match complete(Some(&list), uid(), &enrolment(wanted.0, wanted.1), (&zone, Timestamp(now))) {
            Ok(enrolment) => Ok(enrolment.not_after.map(|end| end.0)),
            Err(CenterError::VisitorAgain { ends, .. }) => Err(ends.0),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn a_visitors_enrolment_ends_with_the_day_and_is_given_neither_again_nor_for_longer() {
        use Role::{Resident, Staff, Visitor};
        let midnight = NOW + 16 * HOUR;
        let enrol = |role, not_after| Op::Enrol { uid: uid(), enrolment: enrolment(role, not_after) };
        let until_noon = enrol(Visitor, Some(NOW + 4 * HOUR));
        let withdrawn = [until_noon.clone(), Op::Withdraw { subject: Subject::Card(uid()) }];
        let visited = std::slice::from_ref(&until_noon);
        let noon = NOW + 4 * HOUR;
        let residents = [enrol(Resident, None)];
        let unended = [enrol(Visitor, None)];
        type Case<'c> = (&'c str, &'c [Op], i64, (Role, Option<i64>), Result<Option<i64>, i64>);
        let cases: [Case<'_>; 17] = [
            ("new", &[], NOW, (Visitor, None), Ok(Some(midnight))),
            ("new, a minute to midnight", &[], midnight - 1, (Visitor, None), Ok(Some(midnight))),
            ("new, at midnight", &[], midnight, (Visitor, None), Ok(Some(midnight + 24 * HOUR))),
            ("new, with an end", &[], NOW, (Visitor, Some(NOW + HOUR)), Ok(Some(NOW + HOUR))),
            ("new, several days", &[], NOW, (Visitor, Some(midnight + HOUR)), Ok(Some(midnight + HOUR))),
            ("a resident", &[], NOW, (Resident, None), Ok(None)),
            ("staff", &[], NOW, (Staff, None), Ok(None)),
            ("a resident's card", &residents, NOW, (Visitor, None), Ok(Some(midnight))),
            ("of a center that wrote no end", &unended, NOW, (Visitor, None), Ok(Some(midnight))),
            ("again, no end", visited, NOW, (Visitor, None), Ok(Some(noon))),
            ("shorter", visited, NOW, (Visitor, Some(NOW + HOUR)), Ok(Some(NOW + HOUR))),
            ("longer", visited, NOW, (Visitor, Some(noon + 1)), Err(noon)),
            ("as a resident", visited, NOW, (Resident, None), Err(noon)),
            ("the same after its end, as a list repeats it", visited, midnight, (Visitor, Some(noon)), Ok(Some(noon))),
            ("after its end", visited, noon, (Visitor, Some(noon + HOUR)), Err(noon)),
            ("after its end, another role that has ended", visited, noon, (Resident, Some(noon)), Err(noon)),
            ("withdrawn first", &withdrawn, noon, (Visitor, None), Ok(Some(midnight))),
        ];
        for (what, before, now, wanted, end) in cases {
            assert_eq!(published(before, now, wanted), end, "{what}");
        }
    }

    #[test]
    fn ops_and_lists_are_published_with_the_end_and_refused_whole() {
        let dir = tempfile::tempdir().unwrap();
        let mut center = center(dir.path(), Layout::Two).in_timezone(timezone("Europe/Berlin").unwrap().1);
        let (to, now) = (Some(gateway()), Timestamp(NOW));
        let list = |not_after| Enrolments::from([(uid(), enrolment(Role::Visitor, not_after))]);
        let end = |center: &mut Center| center.enrolments(Some(&gateway())).unwrap()[&uid()].not_after.map(|end| end.0);
        let enrol = |not_after| Op::Enrol { uid: uid(), enrolment: enrolment(Role::Visitor, not_after) };
        assert_eq!(center.publish_ops(to.as_ref(), &[enrol(None)], now).unwrap().len(), 1);
        let midnight = NOW + 22 * HOUR;
        assert_eq!(end(&mut center), Some(midnight), "02:00 in Berlin");
        // A sheet that leaves the end out changes nothing, and one that moves it is refused; so is an op.
        assert_eq!(center.plan(to.as_ref(), &list(None), now).unwrap().unchanged, 1);
        assert!(center.load(to.as_ref(), &list(None), true, now).unwrap().messages.is_empty());
        let later = Some(midnight + HOUR);
        assert!(matches!(center.plan(to.as_ref(), &list(later), now), Err(CenterError::VisitorAgain { .. })));
        assert!(matches!(center.load(to.as_ref(), &list(later), true, now), Err(CenterError::VisitorAgain { .. })));
        let refused = center.publish_ops(to.as_ref(), &[enrol(later)], now).unwrap_err().to_string();
        assert!(refused.contains("card `5B3C0D92` is a visitor's until 2026-09-01T22:00:00.000Z"), "{refused}");
        assert_eq!(end(&mut center), Some(midnight));
        let withdraw = Op::Withdraw { subject: Subject::Card(uid()) };
        center.publish_ops(to.as_ref(), &[withdraw], now).unwrap();
        center.load(to.as_ref(), &list(later), true, now).unwrap();
        assert_eq!(end(&mut center), later);
    }
}
