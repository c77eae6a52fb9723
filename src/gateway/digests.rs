//! The digests of the streams for `up/state`, computed beside the work: the list is walked in slices when nothing else waits,
//! and the lines are sorted and hashed on another thread, so that no decision stands behind a digest.

use std::collections::BTreeMap;

use crate::access::id::{Mono, StreamName};
use crate::access::state::State;
use crate::access::stream::StreamTrack;
use crate::wire::digest;
use crate::wire::digest_lines::{card_lines, other_lines};
use crate::wire::may::MaySet;

/// Cards looked at in one slice; some hundred microseconds.
const SLICE_CARDS: usize = 256;
/// Shortest time between the beginnings of two digests, in milliseconds.
const DIGEST_EVERY_MS: u64 = 1_000;

/// How far a stream was heard: what a stream owns changes only with this.
type Heard = (u32, u64, Vec<(u64, u64)>);

/// The lines of one stream, complete; hashing them takes a while.
#[derive(Debug)]
pub struct Lines {
    stream: StreamName,
    heard: Heard,
    lines: Vec<String>,
}

/// One stream's digest.
#[derive(Debug)]
pub struct Digested {
    stream: StreamName,
    heard: Heard,
    sha256: String,
}

impl Lines {
    /// Sorts and hashes. For a thread where that hurts nobody.
    #[must_use]
    pub fn finish(self) -> Digested {
        Digested { stream: self.stream, heard: self.heard, sha256: digest::finish(self.lines) }
    }
}

#[derive(Debug)]
struct Walk {
    may: MaySet,
    place: usize,
    lines: Lines,
}

/// The newest digest of each stream, and the one under way.
#[derive(Debug, Default)]
pub struct Digests {
    streams: Vec<(StreamName, MaySet)>,
    known: BTreeMap<StreamName, (Heard, String)>,
    walk: Option<Walk>,
    /// Lines are being hashed; the next walk waits for them.
    hashing: bool,
    began_at: Option<Mono>,
}

impl Digests {
    /// Digests of these streams, each with what it may say.
    #[must_use]
    pub fn new(streams: Vec<(StreamName, MaySet)>) -> Self {
        Self { streams, ..Self::default() }
    }

    /// The digest of `stream`, if it is that of what was heard by now.
    #[must_use]
    pub fn of(&self, stream: &StreamName, state: &State) -> Option<String> {
        let (heard, sha256) = self.known.get(stream)?;
        (state.streams.get(stream).map(heard_of).as_ref() == Some(heard)).then(|| sha256.clone())
    }

    /// Whether there is something to do now.
    #[must_use]
    pub fn wants_to_work(&self, state: &State, now: Mono) -> bool {
        if self.hashing {
            return false;
        }
        let rested = self.began_at.is_none_or(|at| now.since_ms(at) >= DIGEST_EVERY_MS);
        self.walk.is_some() || (rested && self.next(state).is_some())
    }

    fn next(&self, state: &State) -> Option<(&StreamName, MaySet, Heard)> {
        self.streams.iter().find_map(|(stream, may)| {
            let heard = heard_of(state.streams.get(stream)?);
            let known = self.known.get(stream).is_some_and(|(known, _)| *known == heard);
            (!known).then_some((stream, *may, heard))
        })
    }

    /// Walks one slice. Gives the lines when the walk is complete.
    pub fn work(&mut self, state: &State, now: Mono) -> Option<Lines> {
        let mut walk = match self.walk.take() {
            Some(walk) => walk,
            None => {
                let (stream, may, heard) = self.next(state)?;
                let lines = Lines { stream: stream.clone(), heard, lines: Vec::new() };
                self.began_at = Some(now);
                Walk { may, place: 0, lines }
            }
        };
        // A message came meanwhile: what was walked is of two lists. It begins anew at the next turn.
        if state.streams.get(&walk.lines.stream).map(heard_of).as_ref() != Some(&walk.lines.heard) {
            return None;
        }
        let end = walk.place.saturating_add(SLICE_CARDS).min(state.list.len());
        card_lines(&state.list, walk.may, walk.place..end, &mut walk.lines.lines);
        walk.place = end;
        if end < state.list.len() {
            self.walk = Some(walk);
            return None;
        }
        other_lines(&state.list, walk.may, &mut walk.lines.lines);
        self.hashing = true;
        Some(walk.lines)
    }

    /// Takes a digest; `None`: hashing failed, and it is begun anew.
    pub fn take(&mut self, digested: Option<Digested>) {
        self.hashing = false;
        if let Some(Digested { stream, heard, sha256 }) = digested {
            self.known.insert(stream, (heard, sha256));
        }
    }
}

fn heard_of(track: &StreamTrack) -> Heard {
    (track.epoch.map_or(0, std::num::NonZeroU32::get), track.through, track.above.clone())
}
