//! A snapshot arrives: its parts are held, then merged into a new list in slices that no request waits for, then applied at once.

use std::collections::BTreeMap;

use super::super::change::{ErrorCode, OpError};
use super::super::effect::{Ack, Effect, Outcome};
use super::super::event::{AppliedSnapshot, Event, Flush, StreamRevision};
use super::super::id::{CardUid, Holder, Now, StreamName, Timestamp};
use super::super::input::{MessageKind, Receipt, ReceivedPart};
use super::super::list::{AccessList, Applied, Collision, Collisions, Merge};
use super::super::policy::Policy;
use super::super::snapshot::{SHRINK_PERCENT_MAX, Snapshot, SnapshotEntry, SnapshotHead, Staged, Staging};
use super::super::stream::Received;
use super::Engine;
use super::deadlines::Due;

/// Cards worked at in one slice; some hundred microseconds.
const SLICE_CARDS: usize = 128;

/// A snapshot that is complete, and what is to be answered.
#[derive(Debug)]
struct Arrived {
    snapshot: Snapshot,
    receipt: Receipt,
    received_at: Timestamp,
}

/// A snapshot that is being merged.
#[derive(Debug)]
struct Build {
    arrived: Arrived,
    merge: Merge,
    /// What the entries name was found right.
    checked: bool,
}

/// Memory that is given back in slices.
#[derive(Debug)]
enum Retired {
    List(Box<AccessList>),
    Entries(Vec<Vec<SnapshotEntry>>),
}

/// The snapshots on their way into the list.
#[derive(Debug, Default)]
pub(super) struct Snapshots {
    staging: Staging,
    /// The newest complete one of each stream that waits for the one under way.
    waiting: BTreeMap<StreamName, Arrived>,
    build: Option<Box<Build>>,
    retired: Vec<Retired>,
}

impl Snapshots {
    fn retire(&mut self, snapshot: Snapshot) {
        self.retired.push(Retired::Entries(snapshot.entries));
    }

    /// The parts of a stream that are held, and what was refused of it, are as if they had never come.
    pub(super) fn forget(&mut self, stream: &StreamName) {
        self.staging.forget(stream);
    }

    /// The keys that verified the parts may be gone: those of snapshots that are not complete have no effect. A center sends again what
    /// it is asked for.
    pub(super) fn drop_parts(&mut self) {
        self.staging = Staging::default();
    }

    /// Gives back some memory.
    fn discard(&mut self) {
        let is_empty = match self.retired.last_mut() {
            None => return,
            Some(Retired::List(list)) => list.discard(SLICE_CARDS),
            Some(Retired::Entries(parts)) => {
                if let Some(part) = parts.last_mut() {
                    part.truncate(part.len().saturating_sub(SLICE_CARDS));
                }
                parts.pop_if(|part| part.is_empty());
                parts.is_empty()
            }
        };
        if is_empty {
            self.retired.pop();
        }
    }
}

impl Build {
    /// A little work. `true`: the new list may take the old one's place.
    fn work(&mut self, old: &AccessList, policy: &Policy, now: Timestamp) -> Result<bool, OpError> {
        let Snapshot { head, entries, .. } = &self.arrived.snapshot;
        let is_complete = self.merge.work(old, entries, SLICE_CARDS);
        if let Some((cards, twice)) = self.merge.named().filter(|_| !self.checked) {
            check_named(head, cards, twice)?;
            self.checked = true;
        }
        if !is_complete || !self.merge.judge(old, policy, now, SLICE_CARDS) {
            return Ok(false);
        }
        let shrink = self.merge.shrink();
        if shrink.is_too_much() && !head.allow_shrink {
            let message = format!(
                "snapshot `{}` would remove {} of {} enrolments, more than {SHRINK_PERCENT_MAX} %; if that is right, send it with `allow_shrink`",
                head.id, shrink.removed, shrink.before
            );
            return Err(OpError::message(ErrorCode::ShrinkRefused, message));
        }
        Ok(true)
    }
}

fn check_named(head: &SnapshotHead, cards: u64, twice: Option<&str>) -> Result<(), OpError> {
    if let Some(what) = twice {
        let message = format!("snapshot `{}` names {what} twice; name each once", head.id);
        return Err(OpError::message(ErrorCode::InvalidField, message));
    }
    if cards != head.cards {
        let message = format!("snapshot `{}` has {cards} cards, but `cards` is {}", head.id, head.cards);
        return Err(OpError::message(ErrorCode::CountMismatch, message));
    }
    Ok(())
}

impl Engine {
    pub(super) fn snapshot_part(&mut self, received: ReceivedPart, now: Now) {
        let ReceivedPart { part, evidence, receipt, received_at } = received;
        let head = part.head.clone();
        let track = self.state.streams.get(&head.stream);
        if track.is_some_and(|track| track.is_implausible(head.at)) {
            if self.snapshots.staging.refuse(&head, now.mono) {
                let error = self.implausible(MessageKind::Snapshot, head.stream.as_str(), head.at, now);
                self.answer_snapshot(&head, Outcome::Rejected, vec![error], (receipt, received_at));
            }
        } else {
            match self.snapshots.staging.take(part, &evidence, now.mono) {
                Staged::Waiting => self.resync.part_received(&head.stream, now.mono),
                Staged::Dropped => {}
                Staged::Refused(errors) => self.snapshot_refused(&head, errors, (receipt, received_at), now),
                Staged::Complete(snapshot) => {
                    let arrived = Arrived { snapshot: *snapshot, receipt, received_at };
                    // Of two that hold the same, one that an operator permits to remove much is not lost to one that may not.
                    let rank = |head: &SnapshotHead| (head.at, head.allow_shrink);
                    let newer = match self.snapshots.waiting.remove(&head.stream) {
                        Some(waiting) if rank(&waiting.snapshot.head) > rank(&head) => {
                            self.drop_snapshot(arrived, Outcome::Stale);
                            waiting
                        }
                        Some(waiting) => {
                            self.drop_snapshot(waiting, Outcome::Stale);
                            arrived
                        }
                        None => arrived,
                    };
                    self.snapshots.waiting.insert(head.stream, newer);
                    self.begin_snapshot();
                }
            }
        }
        self.deadlines.set(Due::Snapshots, self.snapshots.staging.next_end());
    }

    /// The parts of a snapshot have been held long enough.
    pub(super) fn snapshots_due(&mut self, now: Now) {
        self.snapshots.staging.drop_expired(now.mono);
        self.deadlines.set(Due::Snapshots, self.snapshots.staging.next_end());
    }

    /// Begins to merge the next snapshot, if none is being merged.
    fn begin_snapshot(&mut self) {
        while self.snapshots.build.is_none() {
            let Some((stream, arrived)) = self.snapshots.waiting.pop_first() else { return };
            let owns = self.streams.iter().find(|role| role.name == stream).map(|role| role.owns.clone());
            let Some(owns) = owns else { continue };
            let at = arrived.snapshot.head.at;
            match self.state.streams.get(&stream).map_or(Received::New, |track| track.classify_snapshot(at)) {
                Received::Stale => self.drop_snapshot(arrived, Outcome::Stale),
                Received::Duplicate if !self.resync.is_open(&stream) => {
                    self.drop_snapshot(arrived, Outcome::Duplicate);
                }
                // Implausible ones were refused when their parts came.
                Received::New | Received::Duplicate | Received::Implausible => {
                    let at = (at, arrived.snapshot.iat);
                    let merge = Merge::new(owns, at, &self.state.list, &arrived.snapshot.entries);
                    self.snapshots.build = Some(Box::new(Build { arrived, merge, checked: false }));
                }
            }
        }
    }

    /// Whether [`Engine::work_at_snapshot`] has something to do.
    #[must_use]
    pub fn has_snapshot_work(&self) -> bool {
        self.snapshots.build.is_some() || !self.snapshots.retired.is_empty()
    }

    /// Works a little at a snapshot, so that no request waits long. The last of these calls applies it.
    pub fn work_at_snapshot(&mut self, now: Now) -> Vec<Effect> {
        if let Some(mut build) = self.snapshots.build.take() {
            match build.work(&self.state.list, &self.policy, now.wall) {
                Ok(false) => self.snapshots.build = Some(build),
                Ok(true) => self.end_build(*build, Ok(()), now),
                Err(error) => self.end_build(*build, Err(error), now),
            }
        } else {
            self.snapshots.discard();
        }
        std::mem::take(&mut self.out)
    }

    fn end_build(&mut self, build: Build, outcome: Result<(), OpError>, now: Now) {
        let Build { arrived, merge, .. } = build;
        let stream = arrived.snapshot.head.stream.clone();
        // Messages of a new epoch may have come meanwhile.
        let track = self.state.streams.get(&stream);
        let is_stale = track.is_some_and(|t| t.classify_snapshot(arrived.snapshot.head.at) == Received::Stale);
        match outcome {
            Ok(()) if !is_stale => self.apply_snapshot(arrived, merge, now),
            Ok(()) => {
                self.snapshots.retired.push(Retired::List(Box::new(merge.into_list())));
                self.drop_snapshot(arrived, Outcome::Stale);
            }
            Err(error) => {
                self.snapshots.retired.push(Retired::List(Box::new(merge.into_list())));
                let Arrived { snapshot, receipt, received_at } = arrived;
                self.snapshot_refused(&snapshot.head, vec![error], (receipt, received_at), now);
                self.snapshots.retire(snapshot);
            }
        }
        self.begin_snapshot();
        self.plan_resync(now);
        self.deadlines.set(Due::Resync, self.resync.next());
    }

    fn apply_snapshot(&mut self, arrived: Arrived, merge: Merge, now: Now) {
        let Arrived { mut snapshot, receipt, received_at } = arrived;
        let head = snapshot.head.clone();
        let owns = merge.owns().clone();
        let (list, revoked) = merge.finish(&self.state.list, &self.policy, now.wall);
        let revoked: Vec<(CardUid, Option<Holder>)> =
            revoked.into_iter().map(|uid| (uid, self.holder_of(Some(&uid)))).collect();
        let old = self.state.apply_snapshot(&snapshot, list, now);
        self.calendar.follow(&self.state.list.site.schedules);
        let judged = self.judge_boxes(None, now);
        self.judge_releases(now);
        self.send_modes(now);
        let revision = StreamRevision { stream: head.stream.clone(), epoch: head.at.epoch, seq: head.at.seq };
        let applied = AppliedSnapshot { id: head.id.clone(), owns };
        let event = Event::ChangesApplied { revision: revision.clone(), snapshot: Some(applied) };
        self.record_with(event, std::mem::take(&mut snapshot.evidence), Flush::Now, now);
        self.record_revoked(revoked.iter().cloned(), &revision, received_at, &judged, now);
        self.record_boxes(&judged.notes, now);
        self.report_collisions(&self.collisions_since(&old), now);
        self.snapshots.retired.push(Retired::List(Box::new(old)));
        self.snapshots.retire(snapshot);
        self.find_next_edge(now);
        self.resync.snapshot_applied(&head.stream);
        self.news_of(&head.stream, now);
        let ack = self.ack(&head.stream, Some(head.at), Outcome::Applied, Vec::new(), received_at);
        let revoked = revoked.into_iter().map(|(uid, _)| uid).collect();
        let cut = judged.cut();
        let ack = Box::new(Ack { snapshot: Some(head.id), revoked, cut, ..ack });
        self.out.push(Effect::Acknowledge { after: self.last_flushed_now, ack, receipt });
        self.out.push(Effect::StateChanged);
    }

    /// The collisions at lossy readers that the list before did not have.
    fn collisions_since(&self, old: &AccessList) -> Collisions {
        let transforms: std::collections::BTreeSet<_> = self.lossy.values().copied().collect();
        let mut since = Collisions::default();
        for transform in transforms {
            let is_new = |collision: &Collision| old.collision(collision.reading).is_none();
            since.listed.extend(self.state.list.collisions(transform).listed.into_iter().filter(is_new));
        }
        since
    }

    /// A message was applied to the list while a snapshot is being merged.
    pub(super) fn follow_with_snapshot(
        &mut self,
        changes: &super::super::change::Changes,
        applied: &Applied,
        now: Now,
    ) {
        let Some(build) = &mut self.snapshots.build else { return };
        let Ok(ops) = &changes.content else { return };
        let is_own = build.arrived.snapshot.head.stream == changes.stream;
        let place = (changes.at, changes.iat.unwrap_or(now.wall));
        if !build.merge.follow(ops, place, is_own, &applied.affected.cards) {
            self.merge_again();
        }
    }

    /// The list has changed in a way that a merge cannot follow.
    pub(super) fn merge_again(&mut self) {
        let Some(build) = &mut self.snapshots.build else { return };
        let Snapshot { head, iat, entries, .. } = &build.arrived.snapshot;
        let again = Merge::new(build.merge.owns().clone(), (head.at, *iat), &self.state.list, entries);
        let before = std::mem::replace(&mut build.merge, again);
        self.snapshots.retired.push(Retired::List(Box::new(before.into_list())));
    }

    /// A snapshot that is not merged is answered and forgotten.
    fn drop_snapshot(&mut self, arrived: Arrived, outcome: Outcome) {
        let Arrived { snapshot, receipt, received_at } = arrived;
        self.answer_snapshot(&snapshot.head, outcome, Vec::new(), (receipt, received_at));
        self.snapshots.retire(snapshot);
    }

    fn snapshot_refused(&mut self, head: &SnapshotHead, errors: Vec<OpError>, answer: (Receipt, Timestamp), now: Now) {
        let code = errors.first().map_or(ErrorCode::InvalidField, |e| e.code);
        let detail =
            format!("snapshot of {} {}.{}: {}", head.stream, head.at.epoch, head.at.seq, self.describe(&errors));
        self.record_rejection(MessageKind::Snapshot, code, detail.clone(), now);
        let (stream, at) = (&head.stream, head.at);
        let logged = format!(
            "snapshot of {stream} {}.{}: {}; the ack and the alarm name what is wrong",
            at.epoch,
            at.seq,
            code.as_str()
        );
        self.list_alarm(None, detail, logged, now);
        self.answer_snapshot(head, Outcome::Rejected, errors, answer);
    }

    fn answer_snapshot(
        &mut self,
        head: &SnapshotHead,
        outcome: Outcome,
        errors: Vec<OpError>,
        (receipt, received_at): (Receipt, Timestamp),
    ) {
        let ack = self.ack(&head.stream, Some(head.at), outcome, errors, received_at);
        let ack = Box::new(Ack { snapshot: Some(head.id.clone()), ..ack });
        self.out.push(Effect::Acknowledge { after: self.last_flushed_now, ack, receipt });
    }
}
