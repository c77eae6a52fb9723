//! Asking streams to send again: with jitter, at most once in 5 s a stream, again every 30 s while something is missing.

use std::collections::BTreeMap;

use super::super::effect::{Effect, Resync, ResyncReason};
use super::super::id::{Mono, Now, StreamName};
use super::super::stream::StreamTrack;
use super::Engine;

/// Shortest time between two asks of one stream, in milliseconds (wire contract, 2.5).
pub const ASK_AGAIN_MIN_MS: u64 = 5_000;
/// Time between two asks of one stream while it is behind, in milliseconds (wire contract, 2.5).
pub const ASK_AGAIN_MS: u64 = 30_000;
/// An ask waits a random time up to this, in milliseconds, so that a campus of gateways does not ask at once.
pub const JITTER_MS: u64 = 1_000;

/// When each stream is asked.
#[derive(Debug)]
pub(super) struct ResyncPlan {
    link_up: bool,
    seed: u64,
    plans: BTreeMap<StreamName, Plan>,
}

#[derive(Debug, Default)]
struct Plan {
    asked_at: Option<Mono>,
    next_at: Option<Mono>,
    asked_for: bool,
}

impl ResyncPlan {
    pub(super) fn new(seed: u64) -> Self {
        Self { link_up: false, seed, plans: BTreeMap::new() }
    }

    pub(super) fn next(&self) -> Option<Mono> {
        self.plans.values().filter_map(|p| p.next_at).min()
    }

    /// The next number of a small generator (Knuth's MMIX constants): spreading needs no secrecy, replay needs repeatability.
    fn jitter_ms(&mut self) -> u64 {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.seed >> 33) % JITTER_MS
    }

    fn plan(&mut self, stream: &StreamName, now: Mono) {
        let jitter_ms = self.jitter_ms();
        let plan = self.plans.entry(stream.clone()).or_default();
        let earliest = plan.asked_at.map_or(now, |at| at.plus_ms(ASK_AGAIN_MIN_MS).max(now));
        plan.next_at.get_or_insert(earliest.plus_ms(jitter_ms));
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

    /// Plans an ask for every stream that lacks something, and drops the plan of one that does not any more.
    pub(super) fn plan_resync(&mut self, now: Now) {
        if !self.resync.link_up {
            return;
        }
        for role in &self.streams {
            let asked_for = self.resync.plans.get(&role.name).is_some_and(|p| p.asked_for);
            let lacks = lack(self.state.streams.get(&role.name)).is_some();
            if lacks || asked_for {
                self.resync.plan(&role.name, now.mono);
            } else if let Some(plan) = self.resync.plans.get_mut(&role.name) {
                plan.next_at = None;
            }
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
            let have = track.map_or((0, 0), |t| (t.epoch.map_or(0, std::num::NonZeroU32::get), t.through));
            let missing = track.map(StreamTrack::missing).unwrap_or_default();
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
    } else if track.epoch_gap {
        Some(ResyncReason::Epoch)
    } else if !track.above.is_empty() || track.is_behind_head() || track.must_reach.is_some() {
        Some(ResyncReason::Gap)
    } else {
        None
    }
}
