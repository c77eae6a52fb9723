//! Snapshots: all registers of one stream as its center has them (wire contract, 2.5), and the parts in which they arrive.
//!
//! Parts come in any order and are held for a while; what they amount to is judged when the last is there. How a snapshot changes
//! the list is [`list`](super::list)'s business.

use std::collections::BTreeSet;

use super::change::{ErrorCode, OpError, Position, SuspendReason};
use super::credential::{Enrolment, Flags};
use super::id::{CardUid, Holder, Mono, PortalId, Revision, ScheduleName, StreamName, Timestamp, Zone};
use super::portal::Posture;
use super::schedule::Schedule;

/// Parts of one snapshot. One with more is refused as `too_large`.
pub const PARTS_MAX: u32 = 1_024;
/// Bytes of the parts of one snapshot as received. One with more is refused as `too_large`: its parts become one event of the
/// journal.
pub const SNAPSHOT_BYTES_MAX: usize = 48 * 1024 * 1024;
/// A snapshot that would remove more of the enrolments than this is refused, in per cent (wire contract, 2.5).
pub const SHRINK_PERCENT_MAX: usize = 30;
/// Bytes of all parts that are held. At the limit the snapshot that has been held longest is dropped; its center sends it again.
pub const HELD_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Snapshots of one stream whose parts are held. At the limit the oldest list is dropped: were it the one held longest, three that
/// arrive interleaved would drop each other for ever.
pub const HELD_PER_STREAM_MAX: usize = 2;
/// How long the parts of a snapshot are held, in milliseconds from the first (wire contract, 2.5).
pub const HELD_MS: u64 = 600_000;
/// Stands between the parts in the evidence of a snapshot. No signed message and no JSON text contains it.
pub const PART_SEPARATOR: u8 = 0x1E;

/// What the stream that owns the standing of cards has of one card: the registers themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StandingEntry {
    /// To whom it was issued.
    pub issued_to: Option<Holder>,
    /// Its birth; `None`: never issued.
    pub birth: Option<Revision>,
    /// Its own flags. One without a register was never written.
    pub flags: Flags,
}

/// The enrolment register of one card.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnrolmentEntry {
    /// The op that last wrote it; `None`: the center does not name it, so the snapshot itself counts.
    pub revision: Option<Revision>,
    /// `None`: withdrawn.
    pub enrolment: Option<Enrolment>,
}

/// One entry of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SnapshotEntry {
    /// A card.
    Card {
        /// Which.
        uid: CardUid,
        /// Its standing, if the entry names it.
        standing: Option<StandingEntry>,
        /// Its enrolment, if the entry names it.
        enrolment: Option<EnrolmentEntry>,
    },
    /// What by-holder ops set.
    Holder {
        /// Whose.
        holder: Holder,
        /// The flags.
        flags: Flags,
    },
    /// Suspended power in a room.
    Power {
        /// Which.
        zone: Zone,
        /// Why.
        reasons: Vec<SuspendReason>,
    },
    /// A posture.
    Posture {
        /// Where; `None`: the register `*`.
        portal: Option<PortalId>,
        /// Which.
        posture: Posture,
        /// Until when.
        until: Option<Timestamp>,
    },
    /// A schedule.
    Schedule {
        /// Its name.
        name: ScheduleName,
        /// The op that last defined it.
        revision: Revision,
        /// Its windows.
        schedule: Schedule,
    },
}

/// What every part of one snapshot repeats.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotHead {
    /// Whose registers they are.
    pub stream: StreamName,
    /// The center's name for the snapshot.
    pub id: String,
    /// The snapshot holds what every message of the stream up to this one amounts to.
    pub at: Position,
    /// How many parts there are.
    pub parts: u32,
    /// Distinct UIDs in the entries.
    pub cards: u64,
    /// It may remove more than the shrink guard lets pass.
    pub allow_shrink: bool,
}

/// One verified part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotPart {
    /// What every part repeats.
    pub head: SnapshotHead,
    /// When it was made, by the center's clock; `None`: not given.
    pub iat: Option<Timestamp>,
    /// Which part it is, from 0.
    pub part: u32,
    /// Its entries, or what is wrong with them.
    pub entries: Result<Vec<SnapshotEntry>, Vec<OpError>>,
}

/// A snapshot whose parts are all there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// What every part repeats.
    pub head: SnapshotHead,
    /// When the newest part was made.
    pub iat: Option<Timestamp>,
    /// The entries, as the parts brought them.
    pub entries: Vec<Vec<SnapshotEntry>>,
    /// The parts as received, with [`PART_SEPARATOR`] between them; empty in a replay, which has them already.
    pub evidence: Vec<u8>,
}

/// What has been received of one snapshot.
#[derive(Debug)]
struct Held {
    snapshot: Snapshot,
    received: BTreeSet<u32>,
    until: Mono,
    /// Something in it was wrong and was answered; the parts that still come are dropped.
    refused: bool,
}

/// What became of a part.
#[derive(Debug, PartialEq)]
pub enum Staged {
    /// Others are missing.
    Waiting,
    /// It was received before, or its snapshot was refused.
    Dropped,
    /// It was the last.
    Complete(Box<Snapshot>),
    /// It cannot be part of the snapshot, which is refused as a whole.
    Refused(Vec<OpError>),
}

/// The parts that are held until their snapshots are complete. The oldest come first.
#[derive(Debug, Default)]
pub struct Staging(Vec<Held>);

impl Staging {
    /// Takes in a part that was received as `evidence`.
    pub fn take(&mut self, part: SnapshotPart, evidence: &[u8], now: Mono) -> Staged {
        self.drop_expired(now);
        let mut place = self.0.iter().position(|held| held.is_of(&part.head));
        if place.is_none() && self.make_room(&part.head.stream, (true, part.head.at)) {
            place = Some(self.0.len());
            self.0.push(Held::new(&part.head, evidence.len(), now));
        }
        let Some((place, held)) = place.and_then(|place| Some((place, self.0.get_mut(place)?))) else {
            return Staged::Dropped;
        };
        let staged = held.take(part, evidence);
        if matches!(staged, Staged::Complete(_)) {
            self.0.remove(place);
        }
        self.keep_within_bytes(place);
        staged
    }

    /// The snapshot of this part is not wanted: the parts that still come are dropped, unless two that are wanted take the place in which
    /// to remember it. `false`: it was refused before.
    pub fn refuse(&mut self, head: &SnapshotHead, now: Mono) -> bool {
        self.drop_expired(now);
        if let Some(held) = self.0.iter_mut().find(|held| held.is_of(head)) {
            return held.refuse();
        }
        if self.make_room(&head.stream, (false, head.at)) {
            let mut held = Held::new(head, 0, now);
            held.refuse();
            self.0.push(held);
        }
        true
    }

    /// When the next snapshot expires.
    #[must_use]
    pub fn next_end(&self) -> Option<Mono> {
        self.0.iter().map(|held| held.until).min()
    }

    /// Drops the snapshots that stayed incomplete too long.
    pub fn drop_expired(&mut self, now: Mono) {
        self.0.retain(|held| held.until > now);
    }

    /// The numbers of a stream are forgotten: nothing that it sent by them is held or stays refused.
    pub fn forget(&mut self, stream: &StreamName) {
        self.0.retain(|held| held.snapshot.head.stream != *stream);
    }

    /// Makes room for another snapshot of `stream`: what was refused goes first, then the oldest list, and of equal ones the one that has been held
    /// longest. `false`: all that are held count for more than `rank`.
    fn make_room(&mut self, stream: &StreamName, rank: (bool, Position)) -> bool {
        let of_stream = |held: &Held| held.snapshot.head.stream == *stream;
        if self.0.iter().filter(|held| of_stream(held)).count() < HELD_PER_STREAM_MAX {
            return true;
        }
        let held = self.0.iter().enumerate().filter(|(_, held)| of_stream(held));
        let least = held.map(|(place, held)| (held.rank(), place)).min().filter(|(least, _)| *least <= rank);
        if let Some((_, place)) = least {
            self.0.remove(place);
        }
        least.is_some()
    }

    /// Drops the oldest snapshots, but not the one at `place`, until the bytes are within their limit.
    fn keep_within_bytes(&mut self, mut place: usize) {
        while self.0.iter().map(|held| held.snapshot.evidence.len()).sum::<usize>() > HELD_BYTES_MAX && self.0.len() > 1
        {
            let oldest = usize::from(place == 0);
            self.0.remove(oldest);
            place = place.saturating_sub(usize::from(oldest < place));
        }
    }
}

impl Held {
    fn new(head: &SnapshotHead, part_bytes: usize, now: Mono) -> Self {
        let expected = part_bytes.saturating_add(1).saturating_mul(head.parts as usize);
        let evidence = Vec::with_capacity(expected.min(SNAPSHOT_BYTES_MAX));
        let snapshot = Snapshot { head: head.clone(), iat: None, entries: Vec::new(), evidence };
        Self { snapshot, received: BTreeSet::new(), until: now.plus_ms(HELD_MS), refused: false }
    }

    fn rank(&self) -> (bool, Position) {
        (!self.refused, self.snapshot.head.at)
    }

    fn is_of(&self, head: &SnapshotHead) -> bool {
        self.snapshot.head.stream == head.stream && self.snapshot.head.id == head.id
    }

    /// `false`: it was refused before.
    fn refuse(&mut self) -> bool {
        (self.snapshot.entries, self.snapshot.evidence) = (Vec::new(), Vec::new());
        self.received.clear();
        !std::mem::replace(&mut self.refused, true)
    }

    fn take(&mut self, part: SnapshotPart, evidence: &[u8]) -> Staged {
        if self.refused || self.received.contains(&part.part) {
            return Staged::Dropped;
        }
        match self.add(part, evidence) {
            Ok(()) if self.received.len() < self.snapshot.head.parts as usize => Staged::Waiting,
            Ok(()) => {
                let empty =
                    Snapshot { head: self.snapshot.head.clone(), iat: None, entries: Vec::new(), evidence: Vec::new() };
                Staged::Complete(Box::new(std::mem::replace(&mut self.snapshot, empty)))
            }
            Err(errors) => {
                self.refuse();
                Staged::Refused(errors)
            }
        }
    }

    fn add(&mut self, part: SnapshotPart, evidence: &[u8]) -> Result<(), Vec<OpError>> {
        let snapshot = &mut self.snapshot;
        if part.head != snapshot.head {
            let message = format!(
                "part {} of snapshot `{}` has other values of `epoch`, `seq`, `parts`, `cards` or `allow_shrink` than the parts before it; give each snapshot an id of its own",
                part.part, part.head.id
            );
            return Err(vec![OpError::message(ErrorCode::InvalidField, message)]);
        }
        let entries = part.entries?;
        if snapshot.evidence.len().saturating_add(evidence.len()) > SNAPSHOT_BYTES_MAX {
            let message = format!(
                "the parts of snapshot `{}` are longer than {SNAPSHOT_BYTES_MAX} bytes; leave out what the stream does not own",
                part.head.id
            );
            return Err(vec![OpError::message(ErrorCode::TooLarge, message)]);
        }
        if !snapshot.evidence.is_empty() {
            snapshot.evidence.push(PART_SEPARATOR);
        }
        snapshot.evidence.extend_from_slice(evidence);
        snapshot.entries.push(entries);
        snapshot.iat = snapshot.iat.max(part.iat);
        self.received.insert(part.part);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(id: &str, part: u32, parts: u32) -> SnapshotPart {
        let at = Position { epoch: std::num::NonZeroU32::MIN, seq: 7 };
        let head =
            SnapshotHead { stream: "a".parse().unwrap(), id: id.to_owned(), at, parts, cards: 0, allow_shrink: false };
        SnapshotPart { head, iat: None, part, entries: Ok(Vec::new()) }
    }

    #[test]
    fn parts_in_any_order_and_repeated_are_one_snapshot() {
        let mut staging = Staging::default();
        for n in [2, 0, 2] {
            let expected = if staging.0.first().is_some_and(|h| h.received.contains(&n)) {
                Staged::Dropped
            } else {
                Staged::Waiting
            };
            assert_eq!(staging.take(part("s", n, 3), b"0", Mono(0)), expected);
        }
        let Staged::Complete(snapshot) = staging.take(part("s", 1, 3), b"1", Mono(5)) else { panic!("not complete") };
        assert_eq!((snapshot.entries.len(), snapshot.evidence.as_slice()), (3, &b"0\x1E0\x1E1"[..]));
        assert_eq!(staging.next_end(), None);
    }

    #[test]
    fn what_stays_incomplete_is_dropped_after_ten_minutes_and_the_oldest_at_the_limit() {
        let mut staging = Staging::default();
        staging.take(part("a", 0, 2), b"x", Mono(0));
        assert_eq!(staging.next_end(), Some(Mono(HELD_MS)));
        staging.drop_expired(Mono(HELD_MS));
        assert_eq!(staging.take(part("a", 1, 2), b"x", Mono(HELD_MS)), Staged::Waiting, "the first part has expired");
        staging.take(part("b", 0, 2), b"x", Mono(HELD_MS));
        staging.take(part("c", 0, 2), b"x", Mono(HELD_MS));
        assert_eq!(staging.take(part("a", 0, 2), b"x", Mono(HELD_MS)), Staged::Waiting, "two are held");
        assert_eq!(staging.0.len(), HELD_PER_STREAM_MAX);
    }

    #[test]
    fn of_three_that_arrive_interleaved_the_newest_two_are_held() {
        let mut staging = Staging::default();
        let of = |seq: u64, place: u32| {
            let mut part = part(&format!("s{seq}"), place, 2);
            part.head.at.seq = seq;
            part
        };
        // What is refused keeps no place from what is wanted, and takes none of it.
        assert!(staging.refuse(&of(90, 0).head, Mono(0)) && staging.refuse(&of(91, 0).head, Mono(0)));
        for seq in [11, 10, 12] {
            assert_eq!(staging.take(of(seq, 0), b"x", Mono(0)), Staged::Waiting, "{seq}");
        }
        assert!(staging.refuse(&of(92, 0).head, Mono(0)));
        assert_eq!(staging.take(of(10, 1), b"x", Mono(0)), Staged::Dropped);
        for seq in [12, 11] {
            assert!(matches!(staging.take(of(seq, 1), b"x", Mono(0)), Staged::Complete(_)), "{seq}");
        }
    }

    #[test]
    fn a_part_that_does_not_fit_refuses_the_whole_snapshot_once() {
        let mut staging = Staging::default();
        staging.take(part("s", 0, 2), b"x", Mono(0));
        assert!(matches!(staging.take(part("s", 1, 3), b"x", Mono(0)), Staged::Refused(_)));
        assert_eq!(staging.take(part("s", 1, 2), b"x", Mono(0)), Staged::Dropped);
        assert!(!staging.refuse(&part("s", 0, 2).head, Mono(0)));
        let wrong = vec![OpError::message(ErrorCode::InvalidUid, "no")];
        let bad = SnapshotPart { entries: Err(wrong.clone()), ..part("t", 0, 2) };
        assert_eq!(staging.take(bad, b"x", Mono(0)), Staged::Refused(wrong));
        assert_eq!(staging.take(part("t", 1, 2), b"x", Mono(0)), Staged::Dropped);
    }

    #[test]
    fn a_snapshot_longer_than_its_limit_is_too_large() {
        let mut staging = Staging::default();
        let half = vec![b'x'; SNAPSHOT_BYTES_MAX / 2 + 1];
        assert_eq!(staging.take(part("s", 0, 3), &half, Mono(0)), Staged::Waiting);
        let Staged::Refused(errors) = staging.take(part("s", 1, 3), &half, Mono(0)) else { panic!("it fits") };
        assert_eq!(errors.first().map(|e| e.code), Some(ErrorCode::TooLarge));
        assert_eq!(staging.0.first().map(|held| held.snapshot.evidence.capacity()), Some(0));
    }
}
