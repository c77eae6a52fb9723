//! The digest of what a stream owns (wire contract, 2.4): the one walk over an access list that both the gateway and the
//! center make, one function a line type, and SHA-256 over the sorted lines.

use std::ops::Range;

use sha2::{Digest as _, Sha256};

use super::allowed::{AllowedOps, OpName, STANDING};
use crate::access::change::{RegisterKind, RegisterKinds, SuspendReason};
use crate::access::credential::{Enrolment, Entitlement, Flag, Flags};
use crate::access::id::{CardUid, Holder, PortalId, ScheduleName, Timestamp, Zone};
use crate::access::list::{AccessList, HolderEntry, ScheduleRegister};
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
    let ops_of = [
        (STANDING, RegisterKind::Standing),
        (OpName::Enrol | OpName::Withdraw, RegisterKind::Enrolment),
        (OpName::SuspendPower | OpName::ResumePower, RegisterKind::Power),
        (OpName::DefineSchedule.into(), RegisterKind::Schedule),
        (OpName::SetPosture.into(), RegisterKind::Posture),
    ];
    ops_of.into_iter().filter(|(ops, _)| !ops.is_disjoint(allowed)).map(|(_, kind)| kind).collect()
}

/// The digest of the registers of a stream that owns `kinds` of `list`.
#[must_use]
pub fn of(list: &AccessList, kinds: &RegisterKinds) -> Digest {
    let (lines, cards) = lines(list, kinds);
    Digest { cards, sha256: finish(lines) }
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
        let holder = |entry: HolderEntry| holder_line(&entry.holder, |flag| is_set(&entry.flags, flag));
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
            lines.push(enrolment_line(card.uid, enrolment));
        }
        if standing && (card.birth.is_some() || !card.flags.is_empty()) {
            let holder = card.issued_to.as_ref().map(|(_, holder)| holder);
            lines.push(standing_line(card.uid, holder, |flag| is_set(&card.flags, flag)));
        }
        cards += u64::from(lines.len() > before);
    }
    cards
}

fn site_lines(list: &AccessList, kinds: &RegisterKinds, lines: &mut Vec<String>) {
    let site = &list.site;
    if kinds.contains(&RegisterKind::Power) {
        for (zone, reasons) in &site.power {
            lines.extend(power_line(zone, reasons.iter().filter(|(_, r)| r.on).map(|(reason, _)| *reason)));
        }
    }
    if kinds.contains(&RegisterKind::Posture) {
        let all = site.all_portals.as_ref();
        let all_is_secure = all.is_none_or(|r| r.posture == Posture::Secure);
        if let Some(all) = all.filter(|_| !all_is_secure) {
            lines.push(posture_line(None, all.posture, all.until));
        }
        for (portal, own) in &site.portals {
            let counts = all.is_none_or(|all| own.revision > all.revision);
            if counts && !(all_is_secure && own.posture == Posture::Secure) {
                lines.push(posture_line(Some(portal), own.posture, own.until));
            }
        }
    }
    if kinds.contains(&RegisterKind::Schedule) {
        let line = |(name, r): (_, &ScheduleRegister)| schedule_line(name, r.revision.epoch.get(), r.revision.seq);
        lines.extend(site.schedules.iter().map(line));
    }
}

/// `E|uid|holder|role|not_before|not_after|kind:zone:schedule,…`: an enrolment in force.
fn enrolment_line(uid: CardUid, enrolment: &Enrolment) -> String {
    let mut entitlements: Vec<String> = enrolment.entitlements.iter().map(entitlement).collect();
    entitlements.sort_unstable();
    format!(
        "E|{uid}|{}|{}|{}|{}|{}",
        enrolment.holder,
        enrolment.role.as_str(),
        seconds(enrolment.not_before),
        seconds(enrolment.not_after),
        entitlements.join(",")
    )
}

fn entitlement(one: &Entitlement) -> String {
    let schedule = one.schedule.as_ref().map_or("", ScheduleName::as_str);
    format!("{}:{}:{schedule}", one.kind.as_str(), one.zone)
}

/// `S|uid|holder|flags`: a card that the stream has named by UID, with its own flags that are set. A line without flags too.
fn standing_line(uid: CardUid, holder: Option<&Holder>, is_set: impl Fn(Flag) -> bool) -> String {
    format!("S|{uid}|{}|{}", holder.map_or("", Holder::as_str), flags(is_set))
}

/// `H|holder|flags`: what by-holder ops have set for the holder's earlier cards. Nothing without flags.
fn holder_line(holder: &Holder, is_set: impl Fn(Flag) -> bool) -> Option<String> {
    let flags = flags(is_set);
    (!flags.is_empty()).then(|| format!("H|{holder}|{flags}"))
}

fn flags(is_set: impl Fn(Flag) -> bool) -> String {
    Flag::ALL.iter().filter(|flag| is_set(**flag)).map(|flag| flag.as_str()).collect::<Vec<_>>().join(",")
}

/// `W|zone|reason,…`: suspended power. Nothing without a reason.
fn power_line(zone: &Zone, reasons: impl IntoIterator<Item = SuspendReason>) -> Option<String> {
    let mut names: Vec<&str> = reasons.into_iter().map(SuspendReason::as_str).collect();
    names.sort_unstable();
    names.dedup();
    (!names.is_empty()).then(|| format!("W|{zone}|{}", names.join(",")))
}

/// `P|portal|posture|until`: a standing mode; `None` is the register of all portals, `*`.
fn posture_line(portal: Option<&PortalId>, posture: Posture, until: Option<Timestamp>) -> String {
    format!("P|{}|{}|{}", portal.map_or("*", PortalId::as_str), posture.as_str(), seconds(until))
}

/// `C|schedule|epoch.seq`: the last definition of a schedule.
fn schedule_line(name: &ScheduleName, epoch: u32, seq: u64) -> String {
    format!("C|{name}|{epoch}.{seq}")
}

fn seconds(at: Option<Timestamp>) -> String {
    at.map_or(String::new(), |at| at.unix_seconds().to_string())
}

/// SHA-256 over the lines, sorted bytewise, each ended by a line feed; lower-case hex.
#[must_use]
pub fn finish(mut lines: Vec<String>) -> String {
    lines.sort_unstable();
    let mut hash = Sha256::new();
    for line in &lines {
        hash.update(line.as_bytes());
        hash.update(b"\n");
    }
    hex::encode(hash.finalize())
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use crate::access::change::{Op, PortalSet, Position, Subject};
    use crate::access::credential::ZoneSet;
    use crate::access::portal::PortalKind;

    fn digest_lines(allowed: AllowedOps, ops: &[Op]) -> (Vec<String>, u64) {
        let mut list = AccessList::default();
        for (op, seq) in ops.iter().zip(1..) {
            list.replay(std::slice::from_ref(op), Position { epoch: NonZeroU32::MIN, seq }, None);
        }
        let (mut lines, cards) = lines(&list, &registers_of(allowed));
        lines.sort();
        (lines, cards)
    }

    fn enrol(uid: &str) -> Op {
        Op::Enrol { uid: uid.parse().unwrap(), enrolment: Enrolment::resident("h1".parse().unwrap(), vec![]) }
    }

    fn posture(portals: PortalSet, posture: Posture) -> Op {
        Op::SetPosture { portals, posture, until: None }
    }

    fn one() -> PortalSet {
        PortalSet::Some(vec!["p1".parse().unwrap()])
    }

    #[test]
    fn each_stream_has_the_lines_of_what_it_owns_and_no_others() {
        let holder: Holder = "h1".parse().unwrap();
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
        assert_eq!(digest_lines(office, &ops), (standing.clone(), 2));
        assert_eq!(digest_lines(apartment, &ops), (enrolled.clone(), 1));
        let mut both = [standing, enrolled].concat();
        both.sort();
        assert_eq!(digest_lines(AllowedOps::all(), &ops), (both, 2));
        let withdrawn = [ops.as_slice(), &[Op::Withdraw { subject: Subject::Holder(holder) }]].concat();
        assert_eq!(digest_lines(apartment, &withdrawn), (vec!["W|412|arrears".to_owned()], 0));
    }

    #[test]
    fn a_posture_has_a_line_only_where_it_is_in_force_and_changes_something() {
        let lines = |ops: &[Op]| digest_lines(AllowedOps::all(), ops).0;
        assert_eq!(lines(&[posture(one(), Posture::Secure)]), [""; 0]);
        assert_eq!(lines(&[posture(one(), Posture::Lockdown)]), ["P|p1|lockdown|"]);
        let all_after = [posture(one(), Posture::Lockdown), posture(PortalSet::All, Posture::FreeAccess)];
        assert_eq!(lines(&all_after), ["P|*|free_access|"]);
        let own_after = [posture(PortalSet::All, Posture::FreeAccess), posture(one(), Posture::Secure)];
        assert_eq!(lines(&own_after), ["P|*|free_access|", "P|p1|secure|"]);
    }

    fn uid() -> CardUid {
        "1EA68671".parse().unwrap()
    }

    #[test]
    fn every_line_is_spelled_as_in_the_contract() {
        let gate = Entitlement { kind: PortalKind::Gate, zone: ZoneSet::Any, schedule: None };
        let term = Some("term".parse().unwrap());
        let door = Entitlement { kind: PortalKind::Door, zone: ZoneSet::One("412".parse().unwrap()), schedule: term };
        let full = Enrolment {
            not_before: Some(Timestamp(1_788_249_600_999)),
            ..Enrolment::resident("08193021".parse().unwrap(), vec![gate, door])
        };
        assert_eq!(enrolment_line(uid(), &full), "E|1EA68671|08193021|resident|1788249600||door:412:term,gate:*:");
        let bare = Enrolment { not_before: None, entitlements: vec![], ..full };
        assert_eq!(enrolment_line(uid(), &bare), "E|1EA68671|08193021|resident|||");
        assert_eq!(standing_line(uid(), None, |_| false), "S|1EA68671||");
        let who: Holder = "a".parse().unwrap();
        assert_eq!(standing_line(uid(), Some(&who), |_| true), "S|1EA68671|a|lost,frozen,replaced,cancelled");
        assert_eq!(holder_line(&who, |f| f == Flag::Replaced).as_deref(), Some("H|a|replaced"));
        assert_eq!(holder_line(&who, |_| false), None);
        let zone: Zone = "412".parse().unwrap();
        let reasons = [SuspendReason::RestrictedLoad, SuspendReason::Arrears, SuspendReason::Maintenance];
        assert_eq!(power_line(&zone, reasons).as_deref(), Some("W|412|arrears,maintenance,restricted_load"));
        assert_eq!(power_line(&zone, []), None);
        assert_eq!(posture_line(None, Posture::Lockdown, Some(Timestamp(5_000))), "P|*|lockdown|5");
        assert_eq!(posture_line(Some(&"gate-in".parse().unwrap()), Posture::Secure, None), "P|gate-in|secure|");
        assert_eq!(schedule_line(&"term".parse().unwrap(), 3, 977), "C|term|3.977");
    }

    #[test]
    fn the_digest_is_that_of_independent_tools() {
        // printf '' | sha256sum
        assert_eq!(finish(vec![]), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        // printf 'C|term|3.977\nH|a|replaced\nS|1EA68671||lost\n' | sha256sum
        let lines = ["S|1EA68671||lost", "C|term|3.977", "H|a|replaced"].map(str::to_owned);
        assert_eq!(finish(lines.to_vec()), "662a7ff41fd06d9e75db3af9eb882ed07567b1eede03e12418b17fd986adedb7");
    }
}
