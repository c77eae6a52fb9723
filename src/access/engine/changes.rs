//! A message arrives: apply on arrival, cut what it must, record with proof, acknowledge when durable.

use super::super::change::{Changes, ErrorCode, Head, Note, Op, OpError, PortalSet, Position};
use super::super::effect::{Ack, Effect, Outcome};
use super::super::event::{Event, Flush, Mark, StreamRevision};
use super::super::id::{Now, PortalId, Timestamp};
use super::super::input::{MessageKind, ReceivedChanges};
use super::super::list::{Applied, NOTES_MAX};
use super::super::portal::{Portal, PortalKind};
use super::super::scrub::{scrubbed, unseen_message};
use super::super::stream::{Received, StreamTrack};
use super::Engine;

/// Errors of one message that the audit's `detail` repeats; the ack has all of them.
const ERRORS_LISTED_MAX: usize = 3;

impl Engine {
    pub(super) fn changes(&mut self, received: ReceivedChanges, now: Now) {
        let ReceivedChanges { changes, evidence, receipt, received_at } = received;
        let received = self.state.streams.entry(changes.stream.clone()).or_default().classify(changes.at);
        let (outcome, applied, cut) = match received {
            Received::New => {
                let done = self.new_message(&changes, (evidence, received_at), now);
                self.news_of(&changes.stream, now);
                done
            }
            Received::Duplicate => (Outcome::Duplicate, Applied::default(), Vec::new()),
            Received::Implausible => return self.implausible_changes(&changes, receipt, received_at, now),
            Received::Stale => (Outcome::Stale, Applied::default(), Vec::new()),
        };
        if received == Received::Duplicate {
            self.state.note_iat(&changes.stream, changes.iat, (now.wall, now.clock));
        }
        let errors = changes.content.err().unwrap_or_default();
        let errors = if outcome == Outcome::Rejected { errors } else { Vec::new() };
        let ack = self.ack(&changes.stream, Some(changes.at), outcome, errors, received_at);
        let ack = Box::new(Ack { revoked: applied.revoked, cut, notes: applied.notes, ..ack });
        // A repeated message waits for what its first arrival recorded.
        self.out.push(Effect::Acknowledge { after: self.last_flushed_now, ack, receipt });
        self.out.push(Effect::StateChanged);
        self.plan_resync(now);
    }

    fn new_message(
        &mut self,
        changes: &Changes,
        (evidence, received_at): (Vec<u8>, Timestamp),
        now: Now,
    ) -> (Outcome, Applied, Vec<PortalId>) {
        let revision = StreamRevision { stream: changes.stream.clone(), epoch: changes.at.epoch, seq: changes.at.seq };
        if let Err(errors) = &changes.content {
            let code = errors.first().map_or(ErrorCode::InvalidField, |e| e.code);
            self.out.push(Effect::Rejected { kind: MessageKind::Changes, code });
            // Recording it uses up its number.
            let event =
                Event::RejectedMessage { code, used_up: Some(revision), count: 0, detail: self.describe(errors) };
            self.record(event, Flush::Now, now);
            return (Outcome::Rejected, Applied::default(), Vec::new());
        }
        let integrity_before = self.integrity();
        let mut applied = self.state.apply(changes, &self.policy, now);
        self.follow_with_snapshot(changes, &applied, now);
        if applied.affected.site {
            self.calendar.follow(&self.state.list.site.schedules);
        }
        let room = NOTES_MAX.saturating_sub(applied.notes.len());
        applied.notes.extend(self.ops_for_nobody(changes).take(room));
        // A list that is trusted more or less than before concerns every box.
        let everything = applied.affected.site || integrity_before != self.integrity();
        let judged = self.judge_boxes((!everything).then_some(applied.affected.cards.as_slice()), now);
        self.judge_releases(now);
        if applied.affected.site {
            self.send_modes(now);
        }
        let event = Event::ChangesApplied { revision: revision.clone(), snapshot: None };
        self.record_with(event, evidence, Flush::Now, now);
        let revoked: Vec<_> = applied.revoked.iter().map(|uid| (*uid, self.holder_of(Some(uid)))).collect();
        self.record_revoked(revoked, &revision, received_at, &judged, now);
        self.record_boxes(&judged.notes, now);
        for (note, uid) in applied.notes.iter().filter_map(|note| Some((note, note.uid?))) {
            // The center that sent the message gets the whole UID with the acknowledgement.
            let detail = note.message.replace(&uid.to_string(), &uid.masked().to_string());
            let logged = format!("card `{}`: {}", uid.masked(), note.code.without_names());
            self.list_alarm(Some(uid), detail, logged, now);
        }
        self.report_collisions(&applied.collisions, now);
        self.resume_tripped(changes, now);
        self.find_next_edge(now);
        let cut = judged.cut();
        (Outcome::Applied, applied, cut)
    }

    /// A note for each posture that is set at no portal of this gateway, and for power in a zone without a box: most likely a name is
    /// misspelt.
    fn ops_for_nobody(&self, changes: &Changes) -> impl Iterator<Item = Note> {
        let ops = changes.content.iter().flatten();
        (0..).zip(ops).filter_map(|(place, op)| {
            let message = match op {
                Op::SetPosture { portals: PortalSet::Some(portals), .. } => {
                    let first = portals.first().filter(|_| portals.iter().all(|id| self.portal(id.as_str()).is_none()));
                    format!("no portal `{}` is configured here, so nothing changed; compare the name", first?)
                }
                Op::Power { zone, .. } => {
                    let is_box_there = |p: &Portal| p.kind == PortalKind::PowerBox && p.zone == *zone;
                    let nowhere = (!self.portals.iter().any(is_box_there)).then_some(zone)?;
                    format!("zone `{nowhere}` has no power box here, so nothing is switched; compare the name")
                }
                _ => return None,
            };
            Some(Note::no_effect(place, message))
        })
    }

    pub(super) fn ack(
        &self,
        stream: &super::StreamName,
        at: Option<Position>,
        outcome: Outcome,
        errors: Vec<OpError>,
        received_at: Timestamp,
    ) -> Ack {
        // Of the message's own epoch, or an office would take what counts in one for what counts in another.
        let track = self.state.streams.get(stream).filter(|track| track.epoch == at.map(|at| at.epoch));
        Ack {
            stream: Some(stream.clone()),
            at,
            outcome,
            applied_through: track.map_or(0, |t| t.through),
            missing: track.map(StreamTrack::first_missing).unwrap_or_default(),
            ..Ack::rejected(errors, received_at)
        }
    }

    pub(super) fn head(&mut self, head: Head, now: Now) {
        let name = head.stream.clone();
        if self.state.streams.get(&name).is_some_and(|track| track.is_implausible(head.at)) {
            self.implausible(MessageKind::Head, name.as_str(), head.at, now);
            return;
        }
        let integrity_before = self.integrity();
        self.state.note_iat(&name, head.iat, (now.wall, now.clock));
        let track = self.state.streams.entry(name.clone()).or_default();
        let goal = track.take_head(head);
        let reached = track.goal.is_none();
        // The goal must survive a restart, or the list would be trusted before it is complete.
        if let Some(goal) = goal {
            let at = format!("{}.{}", goal.epoch, goal.seq);
            let detail =
                if reached { format!("the first head, {at}, is reached") } else { format!("the first head is {at}") };
            let mark = Mark::Goal(StreamRevision { stream: name.clone(), epoch: goal.epoch, seq: goal.seq });
            self.record(Event::Config { mark, detail }, Flush::Now, now);
            self.lists_not_whole(now);
        }
        if integrity_before != self.integrity() {
            self.judge_all_boxes(now);
        }
        self.out.push(Effect::StateChanged);
        self.plan_resync(now);
    }
}

impl Engine {
    pub(super) fn describe(&self, errors: &[OpError]) -> String {
        let listed = errors.iter().take(ERRORS_LISTED_MAX).map(|e| match e.op {
            Some(op) => format!("op {op}: {}", self.audited(e)),
            None => self.audited(e),
        });
        let more = errors.len().saturating_sub(ERRORS_LISTED_MAX);
        let more = if more > 0 { format!("; and {more} more") } else { String::new() };
        listed.collect::<Vec<_>>().join("; ") + &more
    }

    /// A text that repeats something of others, as the audit has it: where that has hashes, without what may be a UID.
    pub(super) fn without_uids(&self, text: String) -> String {
        if self.policy.hash_uids { scrubbed(&text) } else { text }
    }

    /// What is wrong, as the audit has it: where that has hashes, an error that repeats a UID is its place and its code. The center
    /// has the whole text in its ack.
    pub(super) fn audited(&self, error: &OpError) -> String {
        let repeats_uid = matches!(error.code, ErrorCode::InvalidUid | ErrorCode::RandomUid);
        if !self.policy.hash_uids {
            return error.message.clone();
        }
        if !repeats_uid {
            return unseen_message(&error.message);
        }
        let place = error.message.split_once(": ").map_or(String::new(), |(place, _)| format!("{place}: "));
        format!("{place}{}", error.code.as_str())
    }
}
