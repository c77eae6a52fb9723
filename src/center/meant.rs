//! Orders that the contract permits and nobody can mean: an enrolment that has ended already, a card that takes its own place, and one
//! that takes the place of another person's. Each is a slip of the hand. They are refused where single changes are ordered;
//! a list has what has ended, too.

use super::{Center, CenterError, Storage};
use crate::access::change::Op;
use crate::access::credential::Enrolment;
use crate::access::id::{CardUid, GatewayId, Holder, Timestamp};

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
        "`old_uid`: `{uid}` was issued to `{holder}`; correct the card or the holder, or leave it out: all earlier cards of the holder are replaced"
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
    /// Refuses ops of which one is a slip.
    pub(super) fn check_meant(&self, to: Option<&GatewayId>, ops: &[Op], now: Timestamp) -> Result<(), CenterError> {
        ops.iter().zip(0_u32..).try_for_each(|(op, place)| {
            self.slip(to, op, now).map_or(Ok(()), |slip| Err(CenterError::Slip { op: place, slip }))
        })
    }

    fn slip(&self, to: Option<&GatewayId>, op: &Op, now: Timestamp) -> Option<Slip> {
        match op {
            Op::Enrol { uid, enrolment } => {
                let ends = enrolment.not_after.filter(|ends| *ends <= now)?;
                // What was published before may be sent again, and changes nothing.
                (!self.is_enrolled_so(to, uid, enrolment)).then_some(Slip::Ended(ends))
            }
            Op::Reissue { new_uid, old_uid: Some(old), .. } if new_uid == old => Some(Slip::SameCard(*old)),
            Op::Reissue { holder, old_uid: Some(uid), .. } => {
                let issued = self.lists.values().filter_map(|list| list.card(uid)?.record()?.issued_to);
                issued.map(|(_, of)| of).find(|of| of != holder).map(|holder| Slip::CardOfAnother { uid: *uid, holder })
            }
            _ => None,
        }
    }

    fn is_enrolled_so(&self, to: Option<&GatewayId>, uid: &CardUid, wanted: &Enrolment) -> bool {
        let lists = self.lists.iter().filter(|(of, _)| to.is_none_or(|to| of.aud() == to.as_str()));
        lists.filter_map(|(_, list)| list.card(uid)?.record()?.enrolment?.1).any(|known| known == *wanted)
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
}
