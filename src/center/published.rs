//! What was published, for the answers of the API.

use super::storage::{Audience, Content, Entry, JournalName};
use super::{Center, CenterError, Storage};
use crate::access::change::{Op, Position};
use crate::access::id::StreamName;
use crate::wire::digest;

impl<S: Storage> Center<S> {
    /// The newest message of a stream to `audience`, and the digest of what the stream owns there then.
    #[must_use]
    pub(super) fn newest_with_digest(&self, stream: &StreamName, audience: &Audience) -> Option<(Position, String)> {
        let stream = self.streams.iter().find(|one| one.spec.name == *stream)?;
        let at = stream.last.get(audience).copied()?;
        Some((at, digest::of(self.list(audience)?, &digest::registers_of(stream.spec.allowed)).sha256))
    }

    /// The ops of one message of a stream to `audience`; empty for a list, and for what is not there. Fails when the storage cannot be
    /// read.
    pub(super) fn ops_of(
        &mut self,
        stream: &StreamName,
        audience: &Audience,
        at: Position,
    ) -> Result<Vec<Op>, CenterError> {
        let journal = JournalName { audience: audience.clone(), stream: stream.clone() };
        let found = self.transaction(|center| center.storage.messages(&journal, at.epoch, &[(at.seq, at.seq)], 1))?;
        let entry = found.into_iter().flatten().find_map(|(_, message)| Entry::read(&message).ok());
        Ok(match entry.map(|entry| entry.content) {
            Some(Content::Changes(ops)) => ops,
            _ => Vec::new(),
        })
    }
}
