//! When the state of the gateway is published, and the digests of the streams in it. Pure: the time is an argument.
//!
//! A digest is computed beside the work: once [`DIGEST_SETTLE_MS`] have passed without a change the list is read in slices when
//! nothing else is pending, and the lines are sorted and hashed on another thread, so that no decision waits for a digest. A
//! digest that has been due for [`DIGEST_LATE_MS`] is worked at between inputs too.

use std::collections::BTreeMap;

use super::ports::StateReport;
use crate::access::change::RegisterKinds;
use crate::access::decide::ListIntegrity;
use crate::access::engine::{Status, StreamStatus};
use crate::access::id::{Mono, StreamName};
use crate::access::state::State;
use crate::access::stream::StreamTrack;
use crate::wire::digest::{self, card_lines, other_lines};

/// Shortest time between two publications of the state, in milliseconds (wire contract, section 3).
const STATE_MIN_MS: u64 = 1_000;
/// Longest time between two publications of the state, in milliseconds (wire contract, section 3).
const STATE_MAX_MS: u64 = 60_000;
/// Time from a change to the publication of the state, in milliseconds: the acknowledgement is on its way before, and the digest of a
/// list that was changed is in the same state.
const STATE_SETTLE_MS: u64 = 400;
/// Cards looked at in one slice; some hundred microseconds.
const SLICE_CARDS: usize = 256;
/// Shortest time between the beginnings of two digests, in milliseconds.
const DIGEST_EVERY_MS: u64 = 1_000;
/// Time without a change before a digest is begun, in milliseconds: messages come in bursts, and each would begin it again.
const DIGEST_SETTLE_MS: u64 = 250;
/// A digest no longer waits for a quiet moment this long after the change, in milliseconds: it is published within 5 s (contract 3).
const DIGEST_LATE_MS: u64 = 2_000;

/// How far a stream was received, and how many snapshots of it were applied: what a stream owns changes only with this.
type Progress = (u32, u64, Vec<(u64, u64)>, u64);

/// The lines of one stream, complete; hashing them takes a while.
#[derive(Debug)]
pub struct Lines {
    stream: StreamName,
    progress: Progress,
    lines: Vec<String>,
}

/// One stream's digest.
#[derive(Debug)]
pub struct Digested {
    stream: StreamName,
    progress: Progress,
    sha256: String,
}

impl Lines {
    /// Sorts and hashes. For a thread where that hurts nobody.
    #[must_use]
    pub fn finish(self) -> Digested {
        Digested { stream: self.stream, progress: self.progress, sha256: digest::finish(self.lines) }
    }
}

#[derive(Debug)]
struct Walk {
    owns: RegisterKinds,
    place: usize,
    lines: Lines,
}

/// The newest digest of each stream, and the one under way.
#[derive(Debug, Default)]
pub struct Digests {
    streams: Vec<(StreamName, RegisterKinds)>,
    known: BTreeMap<StreamName, (Progress, String)>,
    walk: Option<Walk>,
    /// Lines are being hashed; the next walk waits for them.
    hashing: bool,
    began_at: Option<Mono>,
    /// The changes that the digests do not have, while not every digest is known.
    changes: Option<Changes>,
}

/// When something changed.
#[derive(Clone, Copy, Debug, Default)]
struct Changes {
    first: Mono,
    last: Mono,
}

/// Whether there is work at a digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// None now.
    None,
    /// For a moment in which nothing else is pending.
    Spare,
    /// For now, whatever is pending.
    Late,
}

impl Digests {
    /// Digests of these streams, each with the registers that it owns.
    #[must_use]
    pub fn new(streams: Vec<(StreamName, RegisterKinds)>) -> Self {
        Self { streams, changes: Some(Changes::default()), ..Self::default() }
    }

    /// The digest of `stream`, if it is that of what has been received by now.
    #[must_use]
    pub fn of(&self, stream: &StreamName, state: &State) -> Option<String> {
        let (progress, sha256) = self.known.get(stream)?;
        (state.streams.get(stream).map(progress_of).as_ref() == Some(progress)).then(|| sha256.clone())
    }

    /// The list or a stream may have changed.
    pub fn changed(&mut self, now: Mono) {
        let first = self.changes.map_or(now, |changes| changes.first);
        self.changes = Some(Changes { first, last: now });
    }

    /// Whether there is something to do now.
    #[must_use]
    pub fn work_due(&self, now: Mono) -> Work {
        let Some(changes) = self.changes.filter(|_| self.walk.is_some() || self.due_at().is_some_and(|at| at <= now))
        else {
            return Work::None;
        };
        if now.since_ms(changes.first) >= DIGEST_LATE_MS { Work::Late } else { Work::Spare }
    }

    /// When the next digest is begun; `None`: none is due, or one is under way.
    pub(super) fn due_at(&self) -> Option<Mono> {
        let changes = self.changes.filter(|_| !self.hashing && self.walk.is_none())?;
        let settled = changes.last.plus_ms(DIGEST_SETTLE_MS).min(changes.first.plus_ms(DIGEST_LATE_MS));
        let rested = self.began_at.map_or(Mono::default(), |at| at.plus_ms(DIGEST_EVERY_MS));
        Some(settled.max(rested))
    }

    fn next(&self, state: &State) -> Option<(&StreamName, &RegisterKinds, Progress)> {
        self.streams.iter().find_map(|(stream, owns)| {
            let progress = progress_of(state.streams.get(stream).filter(|track| track.epoch.is_some())?);
            let known = self.known.get(stream).is_some_and(|(known, _)| *known == progress);
            (!known).then_some((stream, owns, progress))
        })
    }

    /// Reads one slice of the list. Gives the lines when all of it is read.
    pub fn work(&mut self, state: &State, now: Mono) -> Option<Lines> {
        let mut walk = match self.walk.take() {
            Some(walk) => walk,
            None => {
                let Some((stream, owns, progress)) = self.next(state) else {
                    self.changes = None;
                    return None;
                };
                let owns = owns.clone();
                let lines = Lines { stream: stream.clone(), progress, lines: Vec::new() };
                self.began_at = Some(now);
                Walk { owns, place: 0, lines }
            }
        };
        // A message arrived meanwhile: what was read belongs to two lists. The walk begins again at the next call.
        if state.streams.get(&walk.lines.stream).map(progress_of).as_ref() != Some(&walk.lines.progress) {
            return None;
        }
        let end = walk.place.saturating_add(SLICE_CARDS).min(state.list.len());
        card_lines(&state.list, &walk.owns, walk.place..end, &mut walk.lines.lines);
        walk.place = end;
        if end < state.list.len() {
            self.walk = Some(walk);
            return None;
        }
        other_lines(&state.list, &walk.owns, &mut walk.lines.lines);
        self.hashing = true;
        Some(walk.lines)
    }

    /// Takes a digest, and gives its stream; `None`: hashing failed, and is tried again.
    pub fn take(&mut self, digested: Option<Digested>) -> Option<StreamName> {
        self.hashing = false;
        let Digested { stream, progress, sha256 } = digested?;
        self.known.insert(stream.clone(), (progress, sha256));
        Some(stream)
    }
}

fn progress_of(track: &StreamTrack) -> Progress {
    (track.epoch.map_or(0, std::num::NonZeroU32::get), track.through, track.above.clone(), track.snapshots)
}

/// When the state is published: [`STATE_SETTLE_MS`] after a change, at most once in [`STATE_MIN_MS`], and every [`STATE_MAX_MS`].
#[derive(Default)]
pub(super) struct Publication {
    /// The first time since the state was last looked at that something may have changed.
    changed: Option<Mono>,
    /// The last one did not fit on its way.
    pub(super) missed: bool,
    looked_at: Option<Mono>,
    /// The last one published, see [`without_numbers`].
    last: Option<(Mono, StateReport)>,
}

impl Publication {
    /// Something may have changed.
    pub(super) fn changed(&mut self, now: Mono) {
        self.changed.get_or_insert(now);
    }

    /// When the state is looked at next.
    pub(super) fn due_at(&self) -> Mono {
        let regular = self.last.as_ref().map_or(Mono::default(), |(at, _)| at.plus_ms(STATE_MAX_MS));
        let rested = self.looked_at.map_or(Mono::default(), |at| at.plus_ms(STATE_MIN_MS));
        let settled = self.changed.map(|at| at.plus_ms(STATE_SETTLE_MS).max(rested));
        let again = self.missed.then_some(rested);
        settled.into_iter().chain(again).fold(regular, Mono::min)
    }

    /// Whether `state` is to be published now.
    pub(super) fn take(&mut self, state: &StateReport, now: Mono) -> bool {
        (self.changed, self.looked_at) = (None, Some(now));
        let regular = self.last.as_ref().is_none_or(|(at, _)| now.since_ms(*at) >= STATE_MAX_MS);
        let state = without_numbers(state.clone());
        let publish = regular || self.missed || self.last.as_ref().is_some_and(|(_, last)| *last != state);
        if publish {
            self.last = Some((now, state));
        }
        publish
    }
}

/// The state without what changes by itself and is published with the next regular one: the numbers of the audit, the ages, the
/// meters; and without what is not published: the damaged streams, the modes, the open alarms, the boxes that are on, and of which portals nothing was reported.
fn without_numbers(state: StateReport) -> StateReport {
    let streams = state.status.streams.into_iter().map(|stream| StreamStatus { age_s: None, ..stream }).collect();
    let status = Status {
        audit_last: 0,
        streams,
        integrity: ListIntegrity::default(),
        damaged: Vec::new(),
        meters: Vec::new(),
        modes: Vec::new(),
        alarms: Vec::new(),
        open: BTreeMap::new(),
        on: Vec::new(),
        causes: Vec::new(),
        unreported: Vec::new(),
        ..state.status
    };
    StateReport { audit_acked: 0, status, ..state }
}
