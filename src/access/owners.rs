//! Which stream numbers which registers. Registers are compared by their numbers alone, so those that another stream wrote would stand
//! against everything that the new owner sends: it may begin with number 1.
//!
//! At each start the configuration is compared with who numbered what before. What has another owner now is put before all numbers
//! ([`AccessList::renumber`](super::list::AccessList::renumber)): what it holds stays in force, and the first op of the new owner overrides it.

use super::change::{Owners, Position, RegisterKind, RegisterKinds};
use super::id::StreamName;
use super::state::State;
use super::stream::{RANGES_MAX, StreamTrack};

impl State {
    /// Each register that another stream than before numbers from now on.
    #[must_use]
    pub fn moved(&self, owners: &Owners) -> Owners {
        let moved = |stream: &StreamName, kinds: &RegisterKinds| -> RegisterKinds {
            kinds.iter().copied().filter(|kind| self.is_moved(*kind, stream)).collect()
        };
        let each = owners.iter().map(|(stream, kinds)| (stream.clone(), moved(stream, kinds)));
        each.filter(|(_, kinds)| !kinds.is_empty()).collect()
    }

    fn is_moved(&self, kind: RegisterKind, stream: &StreamName) -> bool {
        let track = self.streams.get(stream);
        match self.owners.get(&kind) {
            Some(before) if before != stream => true,
            Some(_) if track.is_some_and(|track| track.epoch.is_some()) => false,
            // A store of an earlier version does not know: what is numbered beyond all that came of the stream is another's. So it is
            // where the stream was away, because its numbers were forgotten.
            _ => self.list.newest(kind).is_some_and(|newest| {
                let newest = Position { epoch: newest.epoch, seq: newest.seq };
                newest.seq > 0 && track.is_none_or(|track| is_beyond(track, newest))
            }),
        }
    }

    /// The streams that are received no more.
    pub fn removed<'s>(&'s self, owners: &'s Owners) -> impl Iterator<Item = &'s StreamName> {
        let is_known = |track: &StreamTrack| track.epoch.is_some() || track.goal.is_some();
        let gone = self.streams.iter().filter(|(stream, _)| !owners.contains_key(*stream));
        gone.filter(move |(_, track)| is_known(track)).map(|(stream, _)| stream)
    }

    /// What is different from the start before, for a person.
    #[must_use]
    pub fn changes_of_owner(&self, owners: &Owners) -> Vec<String> {
        let moved = self.moved(owners).into_iter().map(|(stream, kinds)| {
            let kinds: Vec<_> = kinds.iter().map(|kind| kind.as_str()).collect();
            format!(
                "`{stream}` is now the stream of what another one sent before ({}): what is known holds on until `{stream}` sends \
                 otherwise, whatever its numbers are",
                kinds.join(", ")
            )
        });
        let removed = self.removed(owners).map(|stream| {
            format!(
                "`{stream}` is not configured any more: its numbers are forgotten, what it sent holds on; if the name is misspelt, \
                 correct it, and the stream is asked for all it has"
            )
        });
        moved.chain(removed).collect()
    }

    /// The streams and their registers from here on.
    pub(super) fn take_owners(&mut self, owners: &Owners) {
        let moved = self.moved(owners);
        if !moved.is_empty() {
            self.list.renumber(&moved.values().flatten().copied().collect());
        }
        for (stream, kinds) in owners {
            self.owners.extend(kinds.iter().map(|kind| (*kind, stream.clone())));
        }
        // One that comes back may have begun its numbers again, and its revocations must not count as received before.
        let removed: Vec<_> = self.removed(owners).cloned().collect();
        removed.iter().for_each(|stream| self.forget_numbers(stream));
        // Its center may have nothing of what was here before: a list of it that is much smaller takes an operator.
        for stream in moved.into_keys() {
            self.streams.entry(stream).or_default().epoch_gap = true;
        }
    }

    /// Nothing of this stream was received; what was lost is still lost.
    pub(super) fn forget_numbers(&mut self, stream: &StreamName) {
        if self.streams.remove(stream).is_some_and(|track| track.damaged) {
            self.streams.insert(stream.clone(), StreamTrack { damaged: true, ..StreamTrack::default() });
        }
    }
}

/// Whether no message at `at` was received. Of what is received above too many holes not all is remembered.
fn is_beyond(track: &StreamTrack, at: Position) -> bool {
    let highest = track.above.last().map_or(track.through, |(_, to)| *to);
    let received = track.epoch.map(|epoch| Position { epoch, seq: highest });
    // What was received before a loss is only known by how far it has to be sent again.
    let lost = track.goal.filter(|_| track.damaged);
    track.above.len() < RANGES_MAX && received.max(track.snapshot).max(lost).is_none_or(|newest| at > newest)
}
