//! Cards that are given to another person. What the person before was enrolled for stays with the card until it is withdrawn: the
//! registers of the two offices know nothing of each other, and their names of holders may differ. So a center, which knows to whom it
//! had issued the card before, wants the withdrawal first.

use super::{Audience, Center, CenterError, Content, Storage};
use crate::access::change::{Op, Subject};
use crate::access::id::{CardUid, Holder};
use crate::access::list::AccessList;

/// An op that is published before another, and to whom.
pub(super) type Earlier<'o> = (Audience, &'o Op);

impl<S: Storage> Center<S> {
    /// Refuses an op to `audience` that gives a card to another holder while it is enrolled for somebody else. `earlier`: what is
    /// published before it by the same order.
    pub(super) fn check_owner(&self, op: &Op, audience: &Audience, earlier: &[Earlier<'_>]) -> Result<(), CenterError> {
        let (Op::Issue { uid, holder: to } | Op::Reissue { new_uid: uid, holder: to, .. }) = op else { return Ok(()) };
        let record = self.lists.get(audience).and_then(|list| list.card(uid)).and_then(|card| card.record());
        let Some((_, from)) = record.and_then(|record| record.issued_to) else { return Ok(()) };
        if from == *to {
            return Ok(());
        }
        let reached = self.lists.iter().filter(|(of, _)| *audience == Audience::Campus || *of == audience);
        for (of, list) in reached {
            let Some(enrolled) = enrolled_for(list, uid).filter(|enrolled| enrolled != to) else { continue };
            let staged =
                self.staged.iter().filter(|staged| staged.audience == *of).flat_map(|staged| ops_of(&staged.content));
            let now = earlier.iter().filter(|(to, _)| to == of).map(|(_, op)| *op);
            if !staged.chain(now).any(|op| ends(op, uid, &enrolled)) {
                let (uid, at) = (*uid, of.aud().to_owned());
                return Err(CenterError::EnrolledForAnother { uid, from, enrolled, at });
            }
        }
        Ok(())
    }
}

fn enrolled_for(list: &AccessList, uid: &CardUid) -> Option<Holder> {
    let card = list.card(uid)?;
    card.enrolment()?;
    card.record()?.enrolment?.1.map(|enrolment| enrolment.holder)
}

fn ops_of(content: &Content) -> &[Op] {
    match content {
        Content::Changes(ops) => ops,
        Content::Snapshot(_) | Content::Refused => &[],
    }
}

/// Whether an op ends what the card is enrolled for.
fn ends(op: &Op, uid: &CardUid, enrolled: &Holder) -> bool {
    match op {
        Op::Withdraw { subject: Subject::Card(of) } | Op::Enrol { uid: of, .. } => of == uid,
        Op::Withdraw { subject: Subject::Holder(of) } => of == enrolled,
        _ => false,
    }
}
