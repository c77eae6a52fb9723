//! Asking streams to send again: with jitter, at most once in 5 s a stream, again every 30 s while something is missing.

use std::collections::BTreeMap;

use super::super::change::{Head, Position};
use super::super::effect::{Effect, Have, Resync, ResyncReason};
use super::super::event::{AlarmKind, Event, Flush, Mark, StreamRevision};
use super::super::id::{Mono, Now, StreamName};
use super::super::stream::StreamTrack;
use super::Engine;

/// Shortest time between two asks of one stream, in milliseconds (wire contract, 2.5).
pub const ASK_AGAIN_MIN_MS: u64 = 5_000;
/// Time between two asks of one stream while it is behind, in milliseconds (wire contract, 2.5).
pub const ASK_AGAIN_MS: u64 = 30_000;
/// An ask waits a random time up to this, in milliseconds, so that a campus of gateways does not ask at once. After a reconnect the
/// link's own spread counts where it is longer.
pub const JITTER_MS: u64 = 1_000;
/// Time between two asks of a stream whose digest still differs after a snapshot, in milliseconds: then the center has to be looked
/// after, and asking more often would only move the whole list again and again.
pub const DIGEST_AGAIN_MS: u64 = 600_000;

/// How long a damaged stream must have brought nothing new before it counts as sent again whole, if its center publishes no
/// head, in milliseconds. With a head it is known at once.
pub const DAMAGE_QUIET_MS: u64 = 10_000;

/// When each stream is asked.
#[derive(Debug)]
pub(super) struct ResyncPlan {
    link_up: bool,
    seed: u64,
    plans: BTreeMap<StreamName, Plan>,
    /// When each damaged stream last brought something new.
    news_at: BTreeMap<StreamName, Mono>,
    /// Until then asks are spread: the link has just come up.
    spread_until: Mono,
    /// The digest of each stream here, and up to which message.
    digests: BTreeMap<StreamName, (Position, String)>,
}

#[derive(Debug, Default)]
struct Plan {
    asked_at: Option<Mono>,
    next_at: Option<Mono>,
    /// To be asked whether anything is lacking or not.
    asked_for: Option<ResyncReason>,
    /// Why the stream was asked last, until that is settled: a snapshot that answers it is applied also if it is a repetition.
    open: Option<ResyncReason>,
    /// A snapshot was applied because the digest differed.
    repaired: bool,
}

impl ResyncPlan {
    pub(super) fn new(seed: u64) -> Self {
        let (plans, news_at, digests) = Default::default();
        Self { link_up: false, seed, plans, news_at, spread_until: Mono(0), digests }
    }

    pub(super) fn next(&self) -> Option<Mono> {
        let quiet = self.news_at.values().map(|at| at.plus_ms(DAMAGE_QUIET_MS));
        self.plans.values().filter_map(|p| p.next_at).chain(quiet).min()
    }

    /// The next number of a small generator (Knuth's MMIX constants): spreading needs no secrecy, replay needs repeatability.
    fn jitter_ms(&mut self, most_ms: u64) -> u64 {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.seed >> 33) % most_ms.max(1)
    }

    /// Plans an ask as early as it may be.
    fn plan(&mut self, stream: &StreamName, reason: ResyncReason, now: Mono) {
        let jitter_ms = self.jitter_ms(self.spread_until.since_ms(now).max(JITTER_MS));
        let plan = self.plans.entry(stream.clone()).or_default();
        let is_repeated = plan.repaired && reason == ResyncReason::Digest;
        let pause_ms = if is_repeated { DIGEST_AGAIN_MS } else { ASK_AGAIN_MIN_MS };
        let earliest = plan.asked_at.map_or(now, |at| at.plus_ms(pause_ms).max(now));
        let next_at = earliest.plus_ms(jitter_ms);
        plan.next_at = Some(plan.next_at.map_or(next_at, |at| at.min(next_at)));
    }

    /// Whether the stream is to be asked, and in time for this reason.
    fn is_planned(&self, stream: &StreamName, reason: ResyncReason, now: Mono) -> bool {
        let in_time = |at: Mono| reason == ResyncReason::Digest || at <= now.plus_ms(ASK_AGAIN_MS);
        self.plans.get(stream).and_then(|p| p.next_at).is_some_and(in_time)
    }

    /// Whether an ask of the stream is not settled yet.
    pub(super) fn is_open(&self, stream: &StreamName) -> bool {
        self.plans.get(stream).is_some_and(|plan| plan.open.is_some())
    }

    /// A part of a snapshot of the stream came: the next one is waited for, so that an answer over a slow link is not asked for again
    /// before it is complete.
    pub(super) fn part_received(&mut self, stream: &StreamName, now: Mono) {
        if let Some(plan) = self.plans.get_mut(stream).filter(|plan| plan.open.is_some()) {
            plan.next_at = plan.next_at.map(|at| at.max(now.plus_ms(ASK_AGAIN_MS)));
        }
    }

    /// A snapshot of the stream was applied: what was asked is settled, and its digest is another.
    pub(super) fn snapshot_applied(&mut self, stream: &StreamName) {
        self.digests.remove(stream);
        if let Some(plan) = self.plans.get_mut(stream) {
            let open = plan.open.take();
            plan.repaired |= open == Some(ResyncReason::Digest);
        }
    }
}

impl Engine {
    pub(super) fn link_up(&mut self, spread_ms: u64, ask_every_stream: bool, now: Now) {
        self.resync.link_up = true;
        self.resync.spread_until = now.mono.plus_ms(spread_ms);
        for plan in self.resync.plans.values_mut() {
            plan.next_at = None;
            // What a command wants is not planned by what is lacked, and may not have left.
            if plan.open == Some(ResyncReason::Asked) {
                plan.asked_for = Some(ResyncReason::Asked);
            }
        }
        for role in self.streams.iter().filter(|_| ask_every_stream) {
            let plan = self.resync.plans.entry(role.name.clone()).or_default();
            plan.asked_for.get_or_insert(ResyncReason::Gap);
        }
        self.plan_resync(now);
        self.out.push(Effect::StateChanged);
    }

    pub(super) fn ask_for(&mut self, stream: &StreamName, reason: ResyncReason, now: Now) {
        self.resync.plans.entry(stream.clone()).or_default().asked_for = Some(reason);
        self.resync.plan(stream, reason, now.mono);
    }

    /// Takes the digest of what a stream owns here. Where it differs from the center's of the same revision, the stream is asked.
    pub(super) fn digest(&mut self, stream: &StreamName, at: Position, sha256: String, now: Now) {
        self.resync.digests.insert(stream.clone(), (at, sha256));
        let differs = self.lack(stream) == Some(ResyncReason::Digest);
        let head = self.state.streams.get(stream).and_then(|track| track.head.as_ref());
        let is_compared = head.is_some_and(|head| head.at == at);
        let repaired = self.resync.plans.get_mut(stream).filter(|plan| plan.repaired);
        if let Some(plan) = repaired {
            plan.repaired = differs || !is_compared;
            if differs {
                let detail = format!(
                    "the list of {stream} still differs from its center's after a snapshot at {}.{}; flags set here that the center has not are never dropped: `center compare --cards` names the cards; order each flag again, or take it back",
                    at.epoch, at.seq
                );
                self.alarm(AlarmKind::List, None, None, detail, now);
            }
        }
        self.plan_resync(now);
    }

    /// What a stream lacks, if anything.
    fn lack(&self, stream: &StreamName) -> Option<ResyncReason> {
        lack(self.state.streams.get(stream), self.resync.digests.get(stream))
    }

    /// An operator has the numbers of a stream forgotten: the stream begins again, and is asked for all it has.
    pub(super) fn forget_stream(&mut self, stream: &StreamName, now: Now) {
        let owns = self.streams.iter().find(|role| role.name == *stream).map(|role| role.owns.clone());
        let Some(owns) = owns else { return };
        let detail = "an operator had the numbers of the stream forgotten; what is known of cards stays".to_owned();
        self.record(Event::Config { mark: Mark::StreamForgotten(stream.clone(), owns), detail }, Flush::Now, now);
        self.resync.news_at.remove(stream);
        self.snapshots.forget(stream);
        self.merge_again();
        self.judge_all_boxes(now);
        self.judge_releases(now);
        self.plan_resync(now);
        self.out.push(Effect::StateChanged);
    }

    /// Whether a stream of this name is configured.
    #[must_use]
    pub fn has_stream(&self, stream: &StreamName) -> bool {
        self.streams.iter().any(|role| role.name == *stream)
    }

    /// Plans an ask for every stream that lacks something, and drops the plan of one that does not any more.
    pub(super) fn plan_resync(&mut self, now: Now) {
        if !self.resync.link_up {
            return;
        }
        for role in &self.streams {
            let asked_for = self.resync.plans.get(&role.name).and_then(|p| p.asked_for);
            let lacks = lack(self.state.streams.get(&role.name), self.resync.digests.get(&role.name));
            if let Some(reason) = lacks.or(asked_for) {
                if !self.resync.is_planned(&role.name, reason, now.mono) {
                    self.resync.plan(&role.name, reason, now.mono);
                }
            } else if let Some(plan) = self.resync.plans.get_mut(&role.name) {
                plan.next_at = None;
                // Everything that a command asked for is still on its way.
                plan.open = plan.open.filter(|open| *open == ResyncReason::Asked);
            }
        }
    }

    /// A message of a damaged stream was new: more may be on its way.
    pub(super) fn news_of(&mut self, stream: &StreamName, now: Now) {
        if self.state.streams.get(stream).is_some_and(|track| track.damaged) {
            self.resync.news_at.insert(stream.clone(), now.mono);
        }
    }

    /// A damaged stream whose center publishes no head is trusted again once it was sent as far as it is known to have gone,
    /// without a hole, and then nothing new came for a while.
    pub(super) fn trust_quiet_streams(&mut self, now: Now) {
        let is_quiet = |at: &Mono| now.mono.since_ms(*at) >= DAMAGE_QUIET_MS;
        let quiet: Vec<_> =
            self.resync.news_at.iter().filter(|(_, at)| is_quiet(at)).map(|(name, _)| name.clone()).collect();
        for stream in quiet {
            self.resync.news_at.remove(&stream);
            let Some(track) = self.state.streams.get(&stream) else { continue };
            let (true, Some(epoch)) = (track.is_sent_again(), track.epoch) else { continue };
            let mark = Mark::Goal(StreamRevision { stream, epoch, seq: track.through });
            let detail = "sent again without a head that reports how far; nothing more came".to_owned();
            self.record(Event::Config { mark, detail }, Flush::Now, now);
            self.judge_all_boxes(now);
            self.plan_resync(now);
        }
    }

    pub(super) fn ask_resync(&mut self, now: Now) {
        let due = |plan: &Plan| plan.next_at.is_some_and(|at| at <= now.mono);
        let due: Vec<_> = self.resync.plans.iter().filter(|(_, p)| due(p)).map(|(name, _)| name.clone()).collect();
        for stream in due {
            let lacks = self.lack(&stream);
            let track = self.state.streams.get(&stream);
            let Some(plan) = self.resync.plans.get_mut(&stream) else { continue };
            let asked_for = plan.asked_for.take();
            // That the list is of an earlier epoch is reported whoever asks: what replaces it may not be much smaller by itself.
            let first = asked_for.filter(|reason| *reason == ResyncReason::Asked && lacks != Some(ResyncReason::Epoch));
            let reason = first.or(lacks).or(asked_for);
            let Some(reason) = reason else {
                plan.next_at = None;
                continue;
            };
            plan.asked_at = Some(now.mono);
            plan.open = Some(reason);
            let is_repeated = plan.repaired && reason == ResyncReason::Digest;
            plan.next_at = Some(now.mono.plus_ms(if is_repeated { DIGEST_AGAIN_MS } else { ASK_AGAIN_MS }));
            let have = track.map_or(Have { epoch: 0, seq: 0 }, |t| Have {
                epoch: t.epoch.map_or(0, std::num::NonZeroU32::get),
                seq: t.through,
            });
            let missing = track.map(StreamTrack::first_missing).unwrap_or_default();
            self.out.push(Effect::Resync(Box::new(Resync { stream, reason, have, missing })));
        }
    }
}

/// What a stream lacks, if anything. `digest`: that of what it owns here, and up to which message.
fn lack(track: Option<&StreamTrack>, digest: Option<&(Position, String)>) -> Option<ResyncReason> {
    let Some(track) = track else { return Some(ResyncReason::Empty) };
    if track.epoch_gap && track.epoch.is_some() {
        // Before the damage: a center that began again with less must not be asked for a list that may be much smaller.
        Some(ResyncReason::Epoch)
    } else if track.damaged {
        Some(ResyncReason::Corrupt)
    } else if track.epoch.is_none() {
        // A center that has published nothing answers nothing.
        (!track.is_head_empty() || track.goal.is_some()).then_some(ResyncReason::Empty)
    } else if track.head.as_ref().is_some_and(|head| Some(head.at.epoch) > track.epoch && head.at.seq > 0) {
        Some(ResyncReason::Epoch)
    } else if !track.above.is_empty() || track.is_behind_head() || track.goal.is_some() {
        Some(ResyncReason::Gap)
    } else {
        let here = digest.filter(|(at, _)| track.epoch == Some(at.epoch) && track.through == at.seq);
        let differs = |head: &Head| {
            here.is_some_and(|(at, sha256)| head.at == *at && !head.digest.is_empty() && head.digest != *sha256)
        };
        track.head.as_ref().is_some_and(differs).then_some(ResyncReason::Digest)
    }
}
