//! Orders that the contract permits and nobody can mean: an enrolment that has ended already, a card that takes its own place, and one
//! that takes the place of another person's. Each is a slip of the hand. They are refused where single changes are ordered;
//! a list has what has ended, too.

use super::owners::Earlier;
use super::{Audience, Center, CenterError, Storage};
use crate::access::change::Op;
use crate::access::credential::Enrolment;
use crate::access::id::{CardUid, GatewayId, Holder, Timestamp};
use crate::access::list::CardRecord;
use crate::wire::ops::name_of;

/// What nobody can mean.
#[derive(Debug, thiserror::Error)]
pub enum Slip {
    /// An enrolment that has ended.
    #[error(
        "`not_after`: {0} has passed, so the card would open nothing; correct it, or withdraw the card to end its enrolment now"
    )]
    Ended(Timestamp),
    /// A card in its own place.
    #[error(
        "`old_uid`: `{0}` is the new card; name the card before, or leave it out: all earlier cards of the holder are replaced"
    )]
    SameCard(CardUid),
    /// A card in the place of another person's.
    #[error(
        "`old_uid`: `{uid}` was issued to `{holder}`; correct the card or the holder; or leave it out, and end that card by `report_lost` or `cancel`: without it only the holder's own earlier cards are replaced"
    )]
    CardOfAnother {
        /// The card.
        uid: CardUid,
        /// Whose it is.
        holder: Holder,
    },
}

impl Slip {
    /// Its code, and the field of the op.
    #[must_use]
    pub const fn code(&self) -> (&'static str, &'static str) {
        match self {
            Self::Ended(_) => ("ended_already", "not_after"),
            Self::SameCard(_) => ("same_card", "old_uid"),
            Self::CardOfAnother { .. } => ("card_of_another", "old_uid"),
        }
    }
}

impl<S: Storage> Center<S> {
    /// Refuses ops of which one is a slip. What cannot be published at all is refused later.
    pub(super) fn check_meant(&self, to: Option<&GatewayId>, ops: &[Op], now: Timestamp) -> Result<(), CenterError> {
        let mut earlier: Vec<Earlier<'_>> = Vec::new();
        for (op, place) in ops.iter().zip(0_u32..) {
            let stream = name_of(op).and_then(|name| self.stream_of(name));
            let Some(audience) = stream.and_then(|stream| self.audience(stream, to).ok().flatten()) else { continue };
            if let Some(slip) = self.slip(&audience, op, &earlier, now) {
                return Err(CenterError::Slip { op: place, slip });
            }
            earlier.push((audience, op));
        }
        Ok(())
    }

    /// `earlier`: what is published before the op by the same order.
    fn slip(&self, audience: &Audience, op: &Op, earlier: &[Earlier<'_>], now: Timestamp) -> Option<Slip> {
        match op {
            Op::Enrol { uid, enrolment } => {
                let ends = enrolment.not_after.filter(|ends| *ends <= now)?;
                // What was published before may be sent again, and changes nothing.
                (!self.is_enrolled_so(audience, uid, enrolment)).then_some(Slip::Ended(ends))
            }
            Op::Reissue { new_uid, old_uid: Some(old), .. } if new_uid == old => Some(Slip::SameCard(*old)),
            Op::Reissue { holder, old_uid: Some(uid), .. } => {
                let issued = earlier.iter().rev().filter(|(to, _)| to == audience).find_map(|(_, op)| issues(op, uid));
                let of = issued.cloned().or_else(|| Some(self.record(audience, uid)?.issued_to?.1))?;
                (of != *holder).then_some(Slip::CardOfAnother { uid: *uid, holder: of })
            }
            _ => None,
        }
    }

    fn is_enrolled_so(&self, audience: &Audience, uid: &CardUid, wanted: &Enrolment) -> bool {
        let known = self.record(audience, uid).and_then(|record| record.enrolment?.1);
        known.is_some_and(|known| known == *wanted)
    }

    fn record(&self, audience: &Audience, uid: &CardUid) -> Option<CardRecord> {
        self.lists.get(audience)?.card(uid)?.record()
    }
}

/// To whom an op issues the card, if it does.
fn issues<'o>(op: &'o Op, uid: &CardUid) -> Option<&'o Holder> {
    match op {
        Op::Issue { uid: of, holder } | Op::Reissue { new_uid: of, holder, .. } if of == uid => Some(holder),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::credential::Role;
    use crate::center::Layout;
    use crate::center::tests::{center, gateway};

    const NOW: Timestamp = Timestamp(1_788_220_800_000);

    fn uid(text: &str) -> CardUid {
        text.parse().unwrap()
    }

    #[test]
    fn what_nobody_can_mean_is_refused_and_what_was_published_before_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let mut center = center(dir.path(), Layout::Two);
        let (old, new, to) = (uid("1EA68671"), uid("04A1B2C3D4E5F6"), gateway());
        let holder = |name: &str| name.parse::<Holder>().unwrap();
        let enrol = |role, ends: i64| Op::Enrol {
            uid: old,
            enrolment: Enrolment {
                role,
                not_after: Some(Timestamp(NOW.0 + ends)),
                ..Enrolment::resident(holder("h1"), Vec::new())
            },
        };
        let reissue = |name, old_uid| Op::Reissue { holder: holder(name), new_uid: new, old_uid };
        center.publish_ops(Some(&to), &[Op::Issue { uid: old, holder: holder("h1") }], NOW).unwrap();
        center.publish_ops(Some(&to), &[enrol(Role::Resident, -5)], NOW).unwrap();
        let slip = |op: Op| match center.check_meant(Some(&to), &[Op::Reinstate { uid: old }, op], NOW) {
            Ok(()) => None,
            Err(CenterError::Slip { op: 1, slip }) => Some(slip.code()),
            Err(other) => panic!("{other}"),
        };
        let ended = Some(("ended_already", "not_after"));
        for (op, expected) in [
            (enrol(Role::Resident, -5), None),
            (enrol(Role::Resident, -6), ended),
            (enrol(Role::Staff, -5), ended),
            (enrol(Role::Resident, 0), ended),
            (enrol(Role::Resident, 1), None),
            (reissue("h1", Some(old)), None),
            (reissue("h1", None), None),
            (reissue("h1", Some(new)), Some(("same_card", "old_uid"))),
            (reissue("h9", Some(old)), Some(("card_of_another", "old_uid"))),
            (reissue("h9", Some(uid("5B3C0D92"))), None),
        ] {
            let what = format!("{op:?}");
            assert_eq!(slip(op), expected, "{what}");
        }
    }

    fn refused(center: &Center, to: &GatewayId, ops: &[Op]) -> Option<String> {
        center.check_meant(Some(to), ops, NOW).err().map(|error| error.to_string())
    }

    #[test]
    fn whose_a_card_was_counts_where_the_op_goes_and_after_what_comes_before_it() {
        let dir = tempfile::tempdir().unwrap();
        crate::center::create(dir.path(), Layout::One, std::num::NonZeroU32::MIN).unwrap();
        let [first, second]: [GatewayId; 2] = ["g1", "g2"].map(|id| id.parse().unwrap());
        let mut center = Center::open(dir.path(), &[first.clone(), second.clone()]).unwrap();
        let holder = |name: &str| name.parse::<Holder>().unwrap();
        let old = uid("1EA68671");
        let issue = |name| Op::Issue { uid: old, holder: holder(name) };
        let reissue = Op::Reissue { holder: holder("h2"), new_uid: uid("04A1B2C3D4E5F6"), old_uid: Some(old) };
        for (to, name) in [(&first, "h1"), (&second, "h2")] {
            center.publish_ops(Some(to), &[issue(name)], NOW).unwrap();
        }
        assert_eq!(refused(&center, &second, std::slice::from_ref(&reissue)), None);
        assert_eq!(refused(&center, &first, &[issue("h2"), reissue.clone()]), None);
        assert!(refused(&center, &second, &[issue("h3"), reissue.clone()]).is_some_and(|why| why.contains("`h3`")));
        // Left out alone, the old card would go on opening.
        let why = refused(&center, &first, &[reissue]).unwrap();
        assert!(why.contains("`h1`") && why.contains("`report_lost` or `cancel`"), "{why}");
    }

    #[test]
    fn what_a_campus_stream_published_before_may_be_sent_again_also_where_a_gateway_is_named() {
        let dir = tempfile::tempdir().unwrap();
        crate::center::create(dir.path(), Layout::Two, std::num::NonZeroU32::MIN).unwrap();
        let configuration = dir.path().join("center.toml");
        let campus = std::fs::read_to_string(&configuration).unwrap().replace("\"gateway\"", "\"campus\"");
        std::fs::write(&configuration, campus).unwrap();
        let mut center = center(dir.path(), Layout::Two);
        let ended = Enrolment {
            not_after: Some(Timestamp(NOW.0 - 5)),
            ..Enrolment::resident("h1".parse().unwrap(), Vec::new())
        };
        let enrol = Op::Enrol { uid: uid("1EA68671"), enrolment: ended };
        center.publish_ops(None, std::slice::from_ref(&enrol), NOW).unwrap();
        assert_eq!(refused(&center, &gateway(), &[enrol]), None);
    }
}
