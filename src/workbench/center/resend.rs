//! What a gateway that lacks something is sent (wire contract, 2.5): the missing changes, or a snapshot of all that the stream has
//! published, on the gateway's own topics.

use super::dir::Lock;
use super::{Center, CenterError, SignedMessage, Stream};
use crate::access::change::Position;
use crate::access::effect::{Resync, ResyncReason};
use crate::access::id::Timestamp;
use crate::wire::digest;
use crate::wire::envelope::sign;
use crate::wire::snapshot;
use crate::wire::topic::{Down, Topic};

/// Most changes that are sent again one by one. A gateway that lacks more gets a snapshot, which is shorter.
const CHANGES_AGAIN_MAX: usize = 1_000;

impl Center {
    /// The messages that `request` asks for, oldest first. A gateway that only has holes gets the changes that fill them; one that has
    /// nothing, an older epoch, too much to fill or something wrong gets the parts of a snapshot. Empty for a stream of another center.
    ///
    /// # Errors
    /// [`CenterError`] if a file cannot be read.
    pub fn answer(&mut self, request: &Resync, now: Timestamp) -> Result<Vec<SignedMessage>, CenterError> {
        let _lock = Lock::take(&self.dir)?;
        self.catch_up()?;
        let Some(stream) = self.streams.iter().find(|s| s.name == request.stream) else {
            return Ok(Vec::new());
        };
        let Some(last) = stream.journal.last() else { return Ok(Vec::new()) };
        let is_of_epoch = request.have.epoch == last.epoch.get();
        // Beyond the ranges it names the gateway may not know what it lacks: they are limited, and a head may be on its way.
        let known = request.missing.last().map_or(request.have.seq, |(_, to)| *to);
        let lacks = |seq: u64| seq > known || request.missing.iter().any(|(from, to)| (*from..=*to).contains(&seq));
        let wanted: Vec<_> = stream.journal.of_epoch(last.epoch).filter(|entry| lacks(entry.at.seq)).collect();
        if request.reason != ResyncReason::Gap || !is_of_epoch || wanted.len() > CHANGES_AGAIN_MAX {
            // Who has followed the numbers of this epoch may lose as much as its messages took. Against a center that began again
            // with less, the gateway guards itself.
            return self.snapshot(stream, last, is_of_epoch, now);
        }
        let again = wanted.into_iter();
        Ok(again.filter_map(|entry| stream.signed_message_to(&self.gateway, &entry.message, entry.at)).collect())
    }

    /// The signed parts of a snapshot of what `stream` has published up to `at`.
    fn snapshot(
        &self,
        stream: &Stream,
        at: Position,
        allow_shrink: bool,
        now: Timestamp,
    ) -> Result<Vec<SignedMessage>, CenterError> {
        let entries = self.list.snapshot(&digest::registers_of(stream.allowed));
        // Each sending has a name of its own, so that parts of two are never put together.
        let id = format!("{}.{}-{}", at.epoch, at.seq, now.0);
        let parts = snapshot::write_parts((&stream.name, at, &id), self.gateway.as_str(), now, &entries, allow_shrink)?;
        let part = |claims: String| SignedMessage {
            topic: Topic::Down(self.gateway.clone(), Down::Snapshot),
            payload: sign(&claims, &stream.name, &stream.key).into_bytes(),
            number: Some((stream.name.clone(), at)),
        };
        Ok(parts.into_iter().map(part).collect())
    }
}
