//! What of an access list a stream owns, as the digest's lines (wire contract, 2.4): the one walk that both the gateway and the
//! reference center make. How a line is spelled is [`digest`]'s.

use std::ops::Range;

use super::allowed::{AllowedOps, OpName};
use super::digest;
use crate::access::change::{RegisterKind, RegisterKinds};
use crate::access::credential::{Flag, Flags};
use crate::access::list::{AccessList, HolderEntry};
use crate::access::portal::Posture;

/// The digest of what a stream owns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digest {
    /// Distinct UIDs in the lines.
    pub cards: u64,
    /// SHA-256 over the sorted lines, lower-case hex.
    pub sha256: String,
}

/// The registers that are numbered by a stream that is allowed these ops.
#[must_use]
pub fn registers_of(allowed: AllowedOps) -> RegisterKinds {
    let kind = |op| match op {
        OpName::Issue
        | OpName::Reissue
        | OpName::ReportLost
        | OpName::Found
        | OpName::Freeze
        | OpName::Unfreeze
        | OpName::Cancel
        | OpName::Reinstate => Some(RegisterKind::Standing),
        OpName::Enrol | OpName::Withdraw => Some(RegisterKind::Enrolment),
        OpName::SuspendPower | OpName::ResumePower => Some(RegisterKind::Power),
        OpName::DefineSchedule => Some(RegisterKind::Schedule),
        OpName::SetPosture => Some(RegisterKind::Posture),
        OpName::Command => None,
    };
    allowed.iter().filter_map(kind).collect()
}

/// The digest of the registers of a stream that owns `kinds` of `list`.
#[must_use]
pub fn of(list: &AccessList, kinds: &RegisterKinds) -> Digest {
    let (lines, cards) = lines(list, kinds);
    Digest { cards, sha256: digest::finish(lines) }
}

/// The lines, unsorted, and the number of distinct UIDs in them.
#[must_use]
pub fn lines(list: &AccessList, kinds: &RegisterKinds) -> (Vec<String>, u64) {
    let mut lines = Vec::new();
    let cards = card_lines(list, kinds, 0..list.len(), &mut lines);
    other_lines(list, kinds, &mut lines);
    (lines, cards)
}

/// The lines of holders, rooms, portals and schedules.
pub fn other_lines(list: &AccessList, kinds: &RegisterKinds, lines: &mut Vec<String>) {
    if kinds.contains(&RegisterKind::Standing) {
        let holder = |entry: HolderEntry| digest::holder(&entry.holder, |flag| is_set(&entry.flags, flag));
        lines.extend(list.holder_entries().filter_map(holder));
    }
    site_lines(list, kinds, lines);
}

fn is_set(flags: &Flags, flag: Flag) -> bool {
    flags.get(flag).is_some_and(|register| register.on)
}

/// The lines of the cards at `places`, and how many of these cards have any: so that a long list can be walked in slices.
pub fn card_lines(list: &AccessList, kinds: &RegisterKinds, places: Range<usize>, lines: &mut Vec<String>) -> u64 {
    let [standing, enrolment] = [RegisterKind::Standing, RegisterKind::Enrolment].map(|kind| kinds.contains(&kind));
    let mut cards = 0;
    for place in places {
        let Some(card) = list.record_at(place) else { continue };
        let before = lines.len();
        if let Some((_, Some(enrolment))) = card.enrolment.as_ref().filter(|_| enrolment)
            && list.enrolment_in_force_at(place)
        {
            lines.push(digest::enrolment(card.uid, enrolment));
        }
        if standing && (card.birth.is_some() || !card.flags.is_empty()) {
            let holder = card.issued_to.as_ref().map(|(_, holder)| holder);
            lines.push(digest::standing(card.uid, holder, |flag| is_set(&card.flags, flag)));
        }
        cards += u64::from(lines.len() > before);
    }
    cards
}

fn site_lines(list: &AccessList, kinds: &RegisterKinds, lines: &mut Vec<String>) {
    let site = &list.site;
    if kinds.contains(&RegisterKind::Power) {
        for (zone, reasons) in &site.power {
            lines.extend(digest::power(zone, reasons.iter().filter(|(_, r)| r.on).map(|(reason, _)| *reason)));
        }
    }
    if kinds.contains(&RegisterKind::Posture) {
        let all = site.all_portals.as_ref();
        let all_is_secure = all.is_none_or(|r| r.posture == Posture::Secure);
        if let Some(all) = all.filter(|_| !all_is_secure) {
            lines.push(digest::posture(None, all.posture, all.until));
        }
        for (portal, own) in &site.portals {
            let counts = all.is_none_or(|all| own.revision > all.revision);
            if counts && !(all_is_secure && own.posture == Posture::Secure) {
                lines.push(digest::posture(Some(portal), own.posture, own.until));
            }
        }
    }
    if kinds.contains(&RegisterKind::Schedule) {
        let line = |(name, r): (_, &crate::access::list::ScheduleRegister)| {
            digest::schedule(name, r.revision.epoch.get(), r.revision.seq)
        };
        lines.extend(site.schedules.iter().map(line));
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use crate::access::change::{Op, PortalSet, Position, Subject, SuspendReason};
    use crate::access::credential::{Enrolment, Role};

    fn reported(allowed: AllowedOps, ops: &[Op]) -> (Vec<String>, u64) {
        let mut list = AccessList::default();
        for (op, seq) in ops.iter().zip(1..) {
            list.replay(std::slice::from_ref(op), Position { epoch: NonZeroU32::MIN, seq });
        }
        let (mut lines, cards) = lines(&list, &registers_of(allowed));
        lines.sort();
        (lines, cards)
    }

    fn enrol(uid: &str) -> Op {
        Op::Enrol {
            uid: uid.parse().unwrap(),
            enrolment: Enrolment {
                holder: "h1".parse().unwrap(),
                role: Role::Resident,
                not_before: None,
                not_after: None,
                entitlements: vec![],
            },
        }
    }

    fn posture(portals: PortalSet, posture: Posture) -> Op {
        Op::SetPosture { portals, posture, until: None }
    }

    fn one() -> PortalSet {
        PortalSet::Some(vec!["p1".parse().unwrap()])
    }

    #[test]
    fn each_stream_has_the_lines_of_what_it_owns_and_no_others() {
        let holder: crate::access::id::Holder = "h1".parse().unwrap();
        let ops = [
            Op::Issue { uid: "1EA68671".parse().unwrap(), holder: holder.clone() },
            enrol("1EA68671"),
            Op::Reissue { holder: holder.clone(), new_uid: "01020304".parse().unwrap(), old_uid: None },
            Op::SetFlag { subject: Subject::Card("01020304".parse().unwrap()), flag: Flag::Lost, on: true },
            Op::Power { zone: "412".parse().unwrap(), reason: SuspendReason::Arrears, suspended: true },
        ];
        let office =
            OpName::Issue | OpName::Reissue | OpName::ReportLost | OpName::Found | OpName::Cancel | OpName::Reinstate;
        let apartment = OpName::Enrol | OpName::Withdraw | OpName::SuspendPower | OpName::ResumePower;
        let standing = ["H|h1|replaced", "S|01020304|h1|lost", "S|1EA68671|h1|"].map(str::to_owned).to_vec();
        let enrolled = ["E|1EA68671|h1|resident|||", "W|412|arrears"].map(str::to_owned).to_vec();
        assert_eq!(reported(office, &ops), (standing.clone(), 2));
        assert_eq!(reported(apartment, &ops), (enrolled.clone(), 1));
        let mut both = [standing, enrolled].concat();
        both.sort();
        assert_eq!(reported(AllowedOps::all(), &ops), (both, 2));
        let withdrawn = [ops.as_slice(), &[Op::Withdraw { subject: Subject::Holder(holder) }]].concat();
        assert_eq!(reported(apartment, &withdrawn), (vec!["W|412|arrears".to_owned()], 0));
    }

    #[test]
    fn a_posture_has_a_line_only_where_it_counts_and_reports_something() {
        let lines = |ops: &[Op]| reported(AllowedOps::all(), ops).0;
        assert_eq!(lines(&[posture(one(), Posture::Secure)]), [""; 0]);
        assert_eq!(lines(&[posture(one(), Posture::Lockdown)]), ["P|p1|lockdown|"]);
        let all_after = [posture(one(), Posture::Lockdown), posture(PortalSet::All, Posture::FreeAccess)];
        assert_eq!(lines(&all_after), ["P|*|free_access|"]);
        let own_after = [posture(PortalSet::All, Posture::FreeAccess), posture(one(), Posture::Secure)];
        assert_eq!(lines(&own_after), ["P|*|free_access|", "P|p1|secure|"]);
    }
}
