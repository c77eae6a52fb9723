//! How far each stream was received: numbers without holes, what is missing, and what has to be reached before cards are granted.

use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

use super::change::{Head, Position};
use super::id::Timestamp;

/// Ranges of numbers received above a hole that are remembered. Beyond it a message is applied all the same, but counts as
/// missing, so it is asked for and applied again, which changes nothing.
pub const RANGES_MAX: usize = 1024;

/// Ranges listed as missing in one ack or resync request, lowest first. The center receives the others when these are filled.
pub const MISSING_RANGES_MAX: usize = 64;
/// How far above the newest epoch of a stream a plausible message may be (wire contract, 2.3).
pub const EPOCH_JUMP_MAX: u32 = 1_000;
/// How far above the highest number of a stream a plausible message may be (wire contract, 2.3).
pub const SEQ_JUMP_MAX: u64 = 1_000_000;

/// How a message stands to those received before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// New: apply it.
    New,
    /// Its number was received before.
    Duplicate,
    /// Of an earlier epoch, or contained in the newest snapshot.
    Stale,
    /// So far above everything known of the stream that it would end the stream for ever.
    Implausible,
}

/// One stream's numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamTrack {
    /// The newest epoch; `None`: nothing received.
    pub epoch: Option<NonZeroU32>,
    /// All numbers of the epoch up to this one were received.
    pub through: u64,
    /// Inclusive ranges received above a hole, ascending, apart from each other.
    pub above: Vec<(u64, u64)>,
    /// The first head received since the gateway was new or lost data, or what is known to have been lost:
    /// until it is reached, the list may lack a revocation.
    pub goal: Option<Position>,
    /// Data of this stream was lost: until `goal`, no card is granted at all.
    pub damaged: bool,
    /// A head was received since the gateway was new or lost data.
    pub head_known: bool,
    /// The newest head received. Not kept across a restart: the broker keeps it.
    #[serde(skip)]
    pub head: Option<Head>,
    /// When the newest change or head was made, by the center's clock.
    pub newest_iat: Option<Timestamp>,
    /// A later epoch began with a change, or the stream took over registers of another one, and no snapshot was received since. What was
    /// before may be missing here, and where it is a birth no digest shows it: a snapshot has to. It may not be much smaller by itself.
    pub epoch_gap: bool,
    /// Where the newest snapshot stands.
    pub snapshot: Option<Position>,
    /// Snapshots applied in this run: with the numbers this shows whether the registers may have changed.
    #[serde(skip)]
    pub snapshots: u64,
}

impl StreamTrack {
    /// Whether a message at `at` is new.
    #[must_use]
    pub fn classify(&self, at: Position) -> Received {
        match self.epoch {
            _ if self.is_implausible(at) => Received::Implausible,
            Some(epoch) if at.epoch < epoch => Received::Stale,
            _ if self.snapshot.is_some_and(|snapshot| at <= snapshot) => Received::Stale,
            Some(epoch) if at.epoch == epoch && self.has(at.seq) => Received::Duplicate,
            _ => Received::New,
        }
    }

    /// Whether `at` is too far above what is known from changes, heads and snapshots. Of a stream of which nothing is known,
    /// everything is plausible.
    #[must_use]
    pub fn is_implausible(&self, at: Position) -> bool {
        let highest = self.above.last().map_or(self.through, |(_, to)| *to);
        let received = self.epoch.map(|epoch| Position { epoch, seq: highest });
        let known = [received, self.head.as_ref().map(|head| head.at), self.goal];
        let epoch = known.iter().flatten().map(|p| p.epoch).max();
        let seq = known.iter().flatten().map(|p| p.seq).max().unwrap_or(0);
        epoch.is_some_and(|epoch| {
            at.epoch > epoch.saturating_add(EPOCH_JUMP_MAX) || at.seq > seq.saturating_add(SEQ_JUMP_MAX)
        })
    }

    fn has(&self, seq: u64) -> bool {
        seq <= self.through || self.above.iter().any(|(from, to)| (*from..=*to).contains(&seq))
    }

    /// How a snapshot at `at` stands to what was received. A duplicate may still be wanted.
    #[must_use]
    pub fn classify_snapshot(&self, at: Position) -> Received {
        if self.is_implausible(at) {
            Received::Implausible
        } else if self.epoch.is_some_and(|epoch| at.epoch < epoch) || self.snapshot.is_some_and(|last| at < last) {
            Received::Stale
        } else if self.snapshot == Some(at) {
            Received::Duplicate
        } else {
            Received::New
        }
    }

    /// Remembers that a snapshot was applied, which holds all of the stream up to `at`.
    pub fn receive_snapshot(&mut self, at: Position) {
        self.begin(at.epoch);
        if self.epoch != Some(at.epoch) {
            return;
        }
        self.through = self.through.max(at.seq);
        self.absorb();
        self.epoch_gap = false;
        self.snapshot = self.snapshot.max(Some(at));
        self.snapshots = self.snapshots.wrapping_add(1);
        // What an earlier epoch still lacked is in it.
        self.goal = self.goal.filter(|goal| *goal > at);
        self.settle();
    }

    /// A later epoch begins: its numbers start over.
    fn begin(&mut self, epoch: NonZeroU32) {
        if self.epoch.is_none_or(|before| before < epoch) {
            self.epoch_gap |= self.epoch.is_some() || self.goal.is_some_and(|earlier| earlier.epoch < epoch);
            (self.epoch, self.through) = (Some(epoch), 0);
            self.above.clear();
        }
    }

    /// Adds the ranges that begin right behind what was received without a hole.
    fn absorb(&mut self) {
        while let Some((from, to)) = self.above.first().copied() {
            if from - 1 > self.through {
                break;
            }
            self.through = self.through.max(to);
            self.above.remove(0);
        }
    }

    /// Remembers that the message at `at` was received.
    pub fn receive(&mut self, at: Position) {
        self.begin(at.epoch);
        if self.epoch != Some(at.epoch) || self.has(at.seq) {
            return;
        }
        let seq = at.seq;
        if seq - 1 == self.through {
            self.through = seq;
            self.absorb();
        } else {
            let place = self.above.partition_point(|(from, _)| *from < seq);
            let joins_before = place.checked_sub(1).and_then(|p| self.above.get_mut(p)).filter(|r| r.1 + 1 == seq);
            if let Some(range) = joins_before {
                range.1 = seq;
            } else if self.above.len() < RANGES_MAX {
                self.above.insert(place, (seq, seq));
            }
            self.join_ranges();
        }
        self.settle();
    }

    fn join_ranges(&mut self) {
        self.above.dedup_by(|next, range| {
            let joins = range.1.saturating_add(1) >= next.0;
            if joins {
                range.1 = range.1.max(next.1);
            }
            joins
        });
    }

    /// Forgets the goal once it is reached. What was lost is here again only when a head has shown how far the stream went.
    fn settle(&mut self) {
        if self.has_earlier_epochs() && self.goal.is_none_or(|goal| self.meets(goal)) {
            self.goal = None;
            self.damaged &= !self.head_known;
        }
    }

    /// Whether all of the goal's epoch up to it is here. A later epoch does not fill what the goal's epoch still lacks.
    fn meets(&self, goal: Position) -> bool {
        self.epoch == Some(goal.epoch) && self.through >= goal.seq
    }

    /// Whether what the epochs before this one did can be here: no change of this one repeats it, so only a snapshot brings it. A gateway
    /// that is new knows of no earlier epoch, and a center may begin with any.
    fn has_earlier_epochs(&self) -> bool {
        let is_begun_here = !self.damaged && !self.epoch_gap;
        let is_first = |epoch| epoch == NonZeroU32::MIN || self.snapshot.is_some_and(|at| at.epoch == epoch);
        is_begun_here || self.epoch.is_none_or(is_first)
    }

    /// Whether a damaged stream of which no head is known was sent again as far as it is known to have gone, without a hole.
    #[must_use]
    pub fn is_sent_again(&self) -> bool {
        self.damaged && !self.head_known && self.goal.is_none() && self.above.is_empty() && self.has_earlier_epochs()
    }

    /// A head of `seq` 0 names no message, so nothing is behind it.
    fn reached(&self, goal: Position) -> bool {
        let is_here = |epoch: NonZeroU32| epoch > goal.epoch || (epoch == goal.epoch && self.through >= goal.seq);
        goal.seq == 0 || self.epoch.is_some_and(is_here)
    }

    /// Whether the center has published nothing in the epoch of its newest head.
    #[must_use]
    pub fn is_head_empty(&self) -> bool {
        self.head.as_ref().is_some_and(|head| head.at.seq == 0)
    }

    /// Whether the newest head shows that something was not received.
    #[must_use]
    pub fn is_behind_head(&self) -> bool {
        self.head.as_ref().is_some_and(|head| !self.reached(head.at))
    }

    /// Takes a center's statement of how far its stream goes. The first one since the gateway was new or lost data is a goal; a goal
    /// that is not reached when the center begins a new epoch gives way to how far the new one goes. Gives the goal, reached
    /// or not: it has to be recorded for [`StreamTrack::set_goal`], so that a restart knows of it.
    pub fn take_head(&mut self, head: Head) -> Option<Position> {
        let restarted = self.goal.is_some_and(|goal| goal.epoch < head.at.epoch) && head.at.seq > 0;
        let goal = (!self.head_known || restarted).then_some(head.at);
        if let Some(goal) = goal {
            self.set_goal(goal);
        }
        if self.head.as_ref().is_none_or(|old| old.at <= head.at) {
            self.head = Some(head);
        }
        goal
    }

    /// Until `goal` is reached, the list may lack a revocation.
    pub fn set_goal(&mut self, goal: Position) {
        self.head_known = true;
        // A center that has published nothing has nothing to send. One that has begun a later epoch may have before: a list that is whole
        // goes on, and one that lost something waits for the snapshot of that epoch.
        let is_whole = !self.damaged && self.goal.is_none();
        if goal.seq > 0 || (goal.epoch > NonZeroU32::MIN && !is_whole) {
            self.epoch_gap |= self.goal.is_some_and(|earlier| earlier.epoch < goal.epoch);
            self.goal = self.goal.max(Some(goal));
        }
        self.settle();
    }

    /// The store lost data: what was received must be sent again, and nothing is granted before.
    pub fn mark_lost(&mut self) {
        let highest = self.above.last().map_or(self.through, |(_, to)| *to);
        if let Some(epoch) = self.epoch.filter(|_| highest > 0) {
            self.goal = self.goal.max(Some(Position { epoch, seq: highest }));
        }
        self.damaged = true;
        self.through = 0;
        self.above.clear();
        self.head_known = false;
        self.head = None;
        // What the snapshot contained may be lost with it, so the same one is new.
        self.snapshot = None;
    }

    /// The store has what the message at `at` caused. Without the message itself, data of the stream was lost.
    pub fn take_evidence(&mut self, at: Position) {
        let is_here = self.epoch.is_some_and(|epoch| epoch > at.epoch || (epoch == at.epoch && self.has(at.seq)));
        if !is_here {
            self.goal = self.goal.max(Some(at));
            self.damaged = true;
        }
    }

    /// Numbers not received below the highest received or known of, as inclusive ranges.
    #[must_use]
    pub fn missing(&self) -> Vec<(u64, u64)> {
        let mut missing = Vec::with_capacity(self.above.len());
        let mut received = self.through;
        for (from, to) in &self.above {
            missing.push((received + 1, from - 1));
            received = *to;
        }
        let goal = self.known().filter(|goal| Some(goal.epoch) == self.epoch && goal.seq > received);
        missing.extend(goal.map(|goal| (received + 1, goal.seq)));
        missing
    }

    /// The lowest ranges of [`Self::missing`], as they are listed in an ack and a resync request.
    #[must_use]
    pub fn first_missing(&self) -> Vec<(u64, u64)> {
        let mut missing = self.missing();
        missing.truncate(MISSING_RANGES_MAX);
        missing
    }

    /// How far the stream is known to go.
    fn known(&self) -> Option<Position> {
        self.head.as_ref().map(|head| head.at).max(self.goal)
    }

    /// How many numbers are missing: also those of an epoch of which nothing was received, although they are asked for as a whole.
    #[must_use]
    pub fn missing_count(&self) -> u64 {
        let later = self.known().filter(|known| Some(known.epoch) > self.epoch).map_or(0, |known| known.seq);
        self.missing().iter().fold(later, |sum, (from, to)| sum.saturating_add(to - from + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(epoch: u32, seq: u64) -> Position {
        Position { epoch: NonZeroU32::new(epoch).unwrap(), seq }
    }

    #[test]
    fn of_a_later_epoch_every_number_is_missing_in_the_count_that_a_person_sees() {
        let head =
            |at: Position| Head { stream: "office".parse().unwrap(), at, iat: None, cards: 0, digest: String::new() };
        let mut track = StreamTrack::default();
        assert_eq!(track.missing_count(), 0, "nothing is known of the stream");
        track.take_head(head(at(1, 7)));
        assert_eq!((track.missing_count(), track.missing()), (7, vec![]), "it is asked for as empty");
        track.receive(at(1, 3));
        assert_eq!(track.missing_count(), 6);
        track.take_head(head(at(2, 5)));
        assert_eq!(track.missing_count(), 7, "two of the epoch that has begun before, and all of the next");
    }

    #[test]
    fn a_gap_is_missing_until_it_is_filled() {
        let mut track = StreamTrack::default();
        for seq in [1, 2, 5, 4, 9] {
            assert_eq!(track.classify(at(1, seq)), Received::New);
            track.receive(at(1, seq));
        }
        assert_eq!((track.through, track.missing(), track.missing_count()), (2, vec![(3, 3), (6, 8)], 4));
        assert_eq!(track.classify(at(1, 5)), Received::Duplicate);
        track.receive(at(1, 3));
        assert_eq!((track.through, track.missing()), (5, vec![(6, 8)]));
        for seq in [7, 8, 6] {
            track.receive(at(1, seq));
        }
        assert_eq!((track.through, track.missing()), (9, vec![]));
    }

    #[test]
    fn a_snapshot_fills_every_hole_before_it_and_what_it_contains_is_stale() {
        let mut track = StreamTrack::default();
        for seq in [1, 4, 6, 9] {
            track.receive(at(1, seq));
        }
        track.set_goal(at(1, 5));
        track.receive_snapshot(at(1, 5));
        assert_eq!((track.through, track.missing(), track.goal), (6, vec![(7, 8)], None));
        assert_eq!(track.classify(at(1, 3)), Received::Stale);
        assert_eq!(track.classify(at(1, 7)), Received::New);
        let judged = [(1, 4), (1, 5), (1, 6), (2, 1), (2, 3_000_000)].map(|(e, s)| track.classify_snapshot(at(e, s)));
        use Received::{Duplicate, Implausible, New, Stale};
        assert_eq!(judged, [Stale, Duplicate, New, New, Implausible]);
        track.set_goal(at(1, 40));
        track.receive_snapshot(at(2, 3));
        assert_eq!((track.epoch, track.through, track.goal), (NonZeroU32::new(2), 3, None));
        assert_eq!(track.classify_snapshot(at(1, 90)), Stale);
    }

    #[test]
    fn a_new_epoch_starts_over_and_the_old_one_is_stale() {
        let mut track = StreamTrack::default();
        track.receive(at(1, 1));
        track.receive(at(2, 3));
        assert_eq!((track.through, track.missing(), track.epoch_gap), (0, vec![(1, 2)], true));
        assert_eq!(track.classify(at(1, 2)), Received::Stale);
    }

    #[test]
    fn a_jump_to_the_largest_number_neither_overflows_nor_grows() {
        let mut track = StreamTrack::default();
        track.receive(at(1, u64::MAX));
        assert_eq!(track.missing(), vec![(1, u64::MAX - 1)]);
        assert_eq!(track.classify(at(u32::MAX, u64::MAX)), Received::Implausible);
        track.receive(at(1, u64::MAX - 1));
        assert_eq!(track.missing(), vec![(1, u64::MAX - 2)]);
        for seq in (10..10_000).step_by(2) {
            track.receive(at(1, seq));
        }
        assert_eq!(track.above.len(), RANGES_MAX);
        track.receive(at(1, 11));
        assert_eq!(
            track.classify(at(1, 11)),
            Received::Duplicate,
            "what lies beside a range needs no place of its own"
        );
    }

    #[test]
    fn the_first_head_of_a_new_gateway_must_be_reached() {
        let mut track = StreamTrack::default();
        let head =
            |seq| Head { stream: "a".parse().unwrap(), at: at(1, seq), iat: None, cards: 0, digest: String::new() };
        track.take_head(head(2));
        assert_eq!(track.goal, Some(at(1, 2)));
        track.receive(at(1, 1));
        track.take_head(head(3));
        assert_eq!(track.goal, Some(at(1, 2)), "a later head is no goal");
        track.receive(at(1, 2));
        assert_eq!(track.goal, None);
        assert!(track.is_behind_head());
        track.receive(at(1, 3));
        assert_eq!((track.is_behind_head(), track.missing()), (false, vec![]));
    }

    #[test]
    fn a_goal_gives_way_to_the_head_of_a_later_epoch_that_has_begun() {
        let head = |epoch, seq| Head {
            stream: "a".parse().unwrap(),
            at: at(epoch, seq),
            iat: None,
            cards: 0,
            digest: String::new(),
        };
        let mut track = StreamTrack::default();
        track.take_head(head(1, 5));
        track.receive(at(1, 1));
        assert_eq!((track.take_head(head(2, 0)), track.goal), (None, Some(at(1, 5))), "nothing of it was sent yet");
        assert_eq!((track.take_head(head(2, 1)), track.goal), (Some(at(2, 1)), Some(at(2, 1))));
    }

    #[test]
    fn what_a_message_caused_shows_that_the_message_was_lost() {
        let lost = |evidence| {
            let mut track = StreamTrack::default();
            [1, 3].into_iter().for_each(|seq| track.receive(at(2, seq)));
            track.take_evidence(evidence);
            (track.damaged, track.goal)
        };
        for here in [at(2, 1), at(2, 3), at(1, 9)] {
            assert_eq!(lost(here), (false, None), "{here:?}");
        }
        for gone in [at(2, 2), at(2, 4), at(3, 1)] {
            assert_eq!(lost(gone), (true, Some(gone)), "{gone:?}");
        }
    }
}
