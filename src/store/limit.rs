//! The hard limit of the journal: what goes when it has grown beyond it and the center has not acknowledged the events yet. What
//! matters least goes first, oldest first: revocations, changes, alarms and reads of dead cards are kept until nothing else is left.
//!
//! A `log_gap` that names the events is durable before they are removed, so that a chain that misses them is explained. A segment
//! is written again beside the old one and takes its name: a crash leaves the old one or the new one.

use std::io;

use super::medium::Medium;
use super::segment::{Found, HEADER_BYTES, Header, Walk};
use super::segments::Segment;
use super::shared::Shared;
use crate::access::decision::Reason;
use crate::access::event::{Event, Outcome};
use crate::wire::{audit, erased};

/// Whether an event stays while others can be removed instead: revocations, changes, alarms, dead cards, and what explains gaps.
fn stays(event: &Event) -> bool {
    let is_dead = |reason| matches!(reason, Reason::Replaced | Reason::Cancelled | Reason::Lost);
    match event {
        Event::Revoked { .. }
        | Event::RevocationDurable { .. }
        | Event::RevocationConfirmed { .. }
        | Event::ChangesApplied { .. }
        | Event::RejectedMessage { used_up: Some(_), .. }
        | Event::Alarm { .. }
        | Event::LogGap { .. } => true,
        Event::Decision { outcome, also, .. } => {
            matches!(outcome, Outcome::Deny(reason) if is_dead(*reason)) || also.iter().any(is_dead)
        }
        Event::Taken { .. }
        | Event::NotTaken { .. }
        | Event::PowerOn { .. }
        | Event::PowerOrdered { .. }
        | Event::PowerTrip { .. }
        | Event::PowerOff { .. }
        | Event::RejectedMessage { used_up: None, .. }
        | Event::Command { .. }
        | Event::Posture { .. }
        | Event::PortalOnline { .. }
        | Event::PortalOffline { .. }
        | Event::Boot { .. }
        | Event::ClockStep { .. }
        | Event::Config { .. } => false,
    }
}

/// What is to be removed from one segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Removal {
    pub first_n: u64,
    /// The numbers, inclusive; with those that the segment never had between them.
    pub ranges: Vec<(u64, u64)>,
    /// The whole segment goes.
    pub whole: bool,
}

/// Whether a frame stays. One that cannot be read stays for a person to look at.
fn frame_stays(json: &[u8]) -> bool {
    audit::decode(json).map_or_else(|_| erased::decode(json).is_none(), |decoded| stays(&decoded.event.body))
}

/// What can be removed from `segment`, whose successor begins with event `next_n`; `None`: nothing of it, or it is damaged.
pub(super) fn removal(medium: &dyn Medium, segment: Segment, next_n: u64) -> io::Result<Option<Removal>> {
    let bytes = segment.read(medium)?;
    if Header::decode(&bytes).is_none() {
        return Ok(None);
    }
    let (mut ranges, mut from, mut removes) = (Vec::new(), segment.first_n, false);
    let mut has_kept = false;
    for step in Walk::new(&bytes, HEADER_BYTES) {
        let Found::Frame(frame) = step.found else { return Ok(None) };
        if frame_stays(frame.json) {
            if removes {
                ranges.push((from, frame.n - 1));
            }
            (from, removes, has_kept) = (frame.n + 1, false, true);
        } else {
            removes = true;
        }
    }
    if removes {
        ranges.push((from, next_n.saturating_sub(1)));
    }
    Ok((!ranges.is_empty()).then_some(Removal { first_n: segment.first_n, ranges, whole: !has_kept }))
}

/// Writes the segment without the events of `removal` in its place.
pub(super) fn rewrite(shared: &Shared, segment: Segment, removal: &Removal) -> io::Result<()> {
    let bytes = segment.read(&*shared.medium)?;
    let mut kept = bytes.get(..HEADER_BYTES).unwrap_or_default().to_vec();
    // The ranges and the frames are in order.
    let mut ranges = removal.ranges.iter().peekable();
    for step in Walk::new(&bytes, HEADER_BYTES) {
        let removed = match step.found {
            Found::Frame(frame) => {
                while ranges.next_if(|(_, to)| *to < frame.n).is_some() {}
                ranges.peek().is_some_and(|(from, _)| *from <= frame.n)
            }
            Found::Bad => false,
        };
        if !removed {
            kept.extend_from_slice(bytes.get(step.from..step.to).unwrap_or_default());
        }
    }
    shared.reader.replace(segment.first_n, &kept)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::credential::Role;
    use crate::access::decision::{GrantFlags, GrantReason};
    use crate::access::event::{EventKind, Who};

    fn decision(outcome: Outcome, also: &[Reason]) -> Event {
        let (who, flags) = (Who::default(), GrantFlags::empty());
        let role = Role::default();
        Event::Decision {
            portal: None,
            who,
            role,
            outcome,
            also: also.iter().copied().collect(),
            flags,
            direction: None,
            detail: String::new(),
        }
    }

    #[test]
    fn revocations_changes_alarms_reads_of_dead_cards_and_what_explains_gaps_stay() {
        let kept = [
            EventKind::Revoked,
            EventKind::RevocationDurable,
            EventKind::RevocationConfirmed,
            EventKind::ChangesApplied,
            EventKind::Alarm,
            EventKind::LogGap,
        ];
        for event in audit::tests::samples().filter(|event| event.kind() != EventKind::Decision) {
            let uses_up = matches!(event, Event::RejectedMessage { used_up: Some(_), .. });
            assert_eq!(stays(&event), uses_up || kept.contains(&event.kind()), "{event:?}");
        }
        let kept = [
            decision(Outcome::Deny(Reason::Lost), &[]),
            decision(Outcome::Deny(Reason::Replaced), &[]),
            decision(Outcome::Deny(Reason::Cancelled), &[]),
            decision(Outcome::Deny(Reason::OutOfService), &[Reason::Lost]),
            decision(Outcome::Grant(GrantReason::Exit), &[Reason::Cancelled]),
        ];
        for event in kept {
            assert!(stays(&event), "{event:?}");
        }
        let removed = [
            decision(Outcome::Deny(Reason::Frozen), &[Reason::NotEnrolled]),
            decision(Outcome::Grant(GrantReason::Granted), &[]),
        ];
        for event in removed {
            assert!(!stays(&event), "{event:?}");
        }
        assert!(frame_stays(b"tea"), "what cannot be read stays for a person to look at");
    }
}
