//! Asking streams to send again: with jitter, at most once in 5 s a stream, again every 30 s while something is missing.

use std::collections::BTreeMap;

use super::super::effect::{Effect, Have, Resync, ResyncReason};
use super::super::event::{Event, Flush, Mark, StreamRevision};
use super::super::id::{Mono, Now, StreamName};
use super::super::stream::StreamTrack;
use super::Engine;

/// Shortest time between two asks of one stream, in milliseconds (wire contract, 2.5).
pub const ASK_AGAIN_MIN_MS: u64 = 5_000;
/// Time between two asks of one stream while it is behind, in milliseconds (wire contract, 2.5).
pub const ASK_AGAIN_MS: u64 = 30_000;
/// An ask waits a random time up to this, in milliseconds, so that a campus of gateways does not ask at once.
pub const JITTER_MS: u64 = 1_000;

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
}

#[derive(Debug, Default)]
struct Plan {
    asked_at: Option<Mono>,
    next_at: Option<Mono>,
    asked_for: bool,
}

impl ResyncPlan {
    pub(super) fn new(seed: u64) -> Self {
        Self { link_up: false, seed, plans: BTreeMap::new(), news_at: BTreeMap::new() }
    }

    pub(super) fn next(&self) -> Option<Mono> {
        let quiet = self.news_at.values().map(|at| at.plus_ms(DAMAGE_QUIET_MS));
        self.plans.values().filter_map(|p| p.next_at).chain(quiet).min()
    }

    /// The next number of a small generator (Knuth's MMIX constants): spreading needs no secrecy, replay needs repeatability.
    fn jitter_ms(&mut self) -> u64 {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.seed >> 33) % JITTER_MS
    }

    /// Plans an ask as early as it may be.
    fn plan(&mut self, stream: &StreamName, now: Mono) {
        let jitter_ms = self.jitter_ms();
        let plan = self.plans.entry(stream.clone()).or_default();
        let earliest = plan.asked_at.map_or(now, |at| at.plus_ms(ASK_AGAIN_MIN_MS).max(now));
        let next_at = earliest.plus_ms(jitter_ms);
        plan.next_at = Some(plan.next_at.map_or(next_at, |at| at.min(next_at)));
    }

    fn is_planned(&self, stream: &StreamName) -> bool {
        self.plans.get(stream).is_some_and(|p| p.next_at.is_some())
    }
}

impl Engine {
    pub(super) fn link_up(&mut self, now: Now) {
        self.resync.link_up = true;
        self.plan_resync(now);
        self.out.push(Effect::StateChanged);
    }

    pub(super) fn ask_for(&mut self, stream: &StreamName, reason: ResyncReason, now: Now) {
        self.resync.plans.entry(stream.clone()).or_default().asked_for |= reason == ResyncReason::Asked;
        self.resync.plan(stream, now.mono);
    }

    /// An operator has the numbers of a stream forgotten: the stream begins again, and is asked for all it has.
    pub(super) fn forget_stream(&mut self, stream: &StreamName, now: Now) {
        let owns = self.streams.iter().find(|role| role.name == *stream).map(|role| role.owns.clone());
        let Some(owns) = owns else { return };
        let detail = "an operator had the numbers of the stream forgotten; what is known of cards stays".to_owned();
        self.record(Event::Config { mark: Mark::StreamForgotten(stream.clone(), owns), detail }, Flush::Now, now);
        self.resync.news_at.remove(stream);
        self.judge_all_boxes(now);
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
            let asked_for = self.resync.plans.get(&role.name).is_some_and(|p| p.asked_for);
            let lacks = lack(self.state.streams.get(&role.name)).is_some();
            if lacks || asked_for {
                if !self.resync.is_planned(&role.name) {
                    self.resync.plan(&role.name, now.mono);
                }
            } else if let Some(plan) = self.resync.plans.get_mut(&role.name) {
                plan.next_at = None;
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
            let whole = track.damaged && !track.head_known && track.goal.is_none() && track.above.is_empty();
            let (true, Some(epoch)) = (whole, track.epoch) else { continue };
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
            let track = self.state.streams.get(&stream);
            let Some(plan) = self.resync.plans.get_mut(&stream) else { continue };
            let reason = if std::mem::take(&mut plan.asked_for) { Some(ResyncReason::Asked) } else { lack(track) };
            let Some(reason) = reason else {
                plan.next_at = None;
                continue;
            };
            plan.asked_at = Some(now.mono);
            plan.next_at = Some(now.mono.plus_ms(ASK_AGAIN_MS));
            let have = track.map_or(Have { epoch: 0, seq: 0 }, |t| Have {
                epoch: t.epoch.map_or(0, std::num::NonZeroU32::get),
                seq: t.through,
            });
            let missing = track.map(StreamTrack::first_missing).unwrap_or_default();
            self.out.push(Effect::Resync(Box::new(Resync { stream, reason, have, missing })));
        }
    }
}

/// What a stream lacks, if anything.
fn lack(track: Option<&StreamTrack>) -> Option<ResyncReason> {
    let Some(track) = track else { return Some(ResyncReason::Empty) };
    if track.damaged {
        Some(ResyncReason::Corrupt)
    } else if track.epoch.is_none() {
        Some(ResyncReason::Empty)
    } else if track.epoch_gap || track.head.as_ref().is_some_and(|head| Some(head.at.epoch) > track.epoch) {
        Some(ResyncReason::Epoch)
    } else if !track.above.is_empty() || track.is_behind_head() || track.goal.is_some() {
        Some(ResyncReason::Gap)
    } else {
        None
    }
}
