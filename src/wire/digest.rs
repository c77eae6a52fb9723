//! The digest of what a stream owns (wire contract, 2.4): one function a line type, and SHA-256 over the sorted lines.
//!
//! Which registers give a line is the list's business; how a line is spelled is decided here alone.

use sha2::{Digest, Sha256};

use crate::access::change::SuspendReason;
use crate::access::credential::{Enrolment, Entitlement, Flag, ZoneSet};
use crate::access::id::{CardUid, Holder, PortalId, ScheduleName, Timestamp, Zone};
use crate::access::portal::Posture;

/// `E|uid|holder|role|not_before|not_after|kind:zone:schedule,…`: an enrolment in force.
#[must_use]
pub fn enrolment(uid: CardUid, enrolment: &Enrolment) -> String {
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
    let zone = match &one.zone {
        ZoneSet::Any => "*",
        ZoneSet::One(zone) => zone.as_str(),
    };
    format!("{}:{zone}:{}", one.kind.as_str(), one.schedule.as_ref().map_or("", ScheduleName::as_str))
}

/// `S|uid|holder|flags`: a card that the stream has named by UID, with its own flags that are set. A line without flags too.
#[must_use]
pub fn standing(uid: CardUid, holder: Option<&Holder>, is_set: impl Fn(Flag) -> bool) -> String {
    format!("S|{uid}|{}|{}", holder.map_or("", Holder::as_str), flags(is_set))
}

/// `H|holder|flags`: what by-holder ops have set for the holder's earlier cards. Nothing without flags.
#[must_use]
pub fn holder(holder: &Holder, is_set: impl Fn(Flag) -> bool) -> Option<String> {
    let flags = flags(is_set);
    (!flags.is_empty()).then(|| format!("H|{holder}|{flags}"))
}

fn flags(is_set: impl Fn(Flag) -> bool) -> String {
    Flag::ALL.into_iter().filter(|flag| is_set(*flag)).map(Flag::as_str).collect::<Vec<_>>().join(",")
}

/// `W|zone|reason,…`: suspended power. Nothing without a reason.
#[must_use]
pub fn power(zone: &Zone, reasons: impl IntoIterator<Item = SuspendReason>) -> Option<String> {
    let mut names: Vec<&str> = reasons.into_iter().map(SuspendReason::as_str).collect();
    names.sort_unstable();
    names.dedup();
    (!names.is_empty()).then(|| format!("W|{zone}|{}", names.join(",")))
}

/// `P|portal|posture|until`: a standing mode; `None` is the register of all portals, `*`.
#[must_use]
pub fn posture(portal: Option<&PortalId>, posture: Posture, until: Option<Timestamp>) -> String {
    format!("P|{}|{}|{}", portal.map_or("*", PortalId::as_str), posture.as_str(), seconds(until))
}

/// `C|schedule|epoch.seq`: the last definition of a schedule.
#[must_use]
pub fn schedule(name: &ScheduleName, epoch: u32, seq: u64) -> String {
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
    use super::*;
    use crate::access::credential::Role;
    use crate::access::portal::PortalKind;

    fn uid() -> CardUid {
        "1EA68671".parse().unwrap()
    }

    #[test]
    fn every_line_is_spelled_as_in_the_contract() {
        let gate = Entitlement { kind: PortalKind::Gate, zone: ZoneSet::Any, schedule: None };
        let term = Some("term".parse().unwrap());
        let door = Entitlement { kind: PortalKind::Door, zone: ZoneSet::One("412".parse().unwrap()), schedule: term };
        let full = Enrolment {
            holder: "08193021".parse().unwrap(),
            role: Role::Resident,
            not_before: Some(Timestamp(1_788_249_600_999)),
            not_after: None,
            entitlements: vec![gate, door],
        };
        assert_eq!(enrolment(uid(), &full), "E|1EA68671|08193021|resident|1788249600||door:412:term,gate:*:");
        let bare = Enrolment { not_before: None, entitlements: vec![], ..full };
        assert_eq!(enrolment(uid(), &bare), "E|1EA68671|08193021|resident|||");
        assert_eq!(standing(uid(), None, |_| false), "S|1EA68671||");
        let who: Holder = "a".parse().unwrap();
        assert_eq!(standing(uid(), Some(&who), |_| true), "S|1EA68671|a|lost,frozen,replaced,cancelled");
        assert_eq!(holder(&who, |f| f == Flag::Replaced).as_deref(), Some("H|a|replaced"));
        assert_eq!(holder(&who, |_| false), None);
        let zone: Zone = "412".parse().unwrap();
        let reasons = [SuspendReason::RestrictedLoad, SuspendReason::Arrears, SuspendReason::Maintenance];
        assert_eq!(power(&zone, reasons).as_deref(), Some("W|412|arrears,maintenance,restricted_load"));
        assert_eq!(power(&zone, []), None);
        assert_eq!(posture(None, Posture::Lockdown, Some(Timestamp(5_000))), "P|*|lockdown|5");
        assert_eq!(posture(Some(&"gate-in".parse().unwrap()), Posture::Secure, None), "P|gate-in|secure|");
        assert_eq!(schedule(&"term".parse().unwrap(), 3, 977), "C|term|3.977");
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
