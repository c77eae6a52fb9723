//! What a gateway that lacks something is sent (wire contract, 2.5): the missing changes, or a snapshot of all that the stream has
//! published, on the gateway's own topics.

use super::storage::is_snapshot;
use super::stream::Stream;
use super::{Audience, Center, CenterError, Content, Entry, SignedMessage, Storage};
use crate::access::change::{Op, Position};
use crate::access::effect::{Resync, ResyncReason};
use crate::access::id::{GatewayId, Timestamp};
use crate::wire::digest;
use crate::wire::envelope::sign;
use crate::wire::snapshot;
use crate::wire::topic::{Down, Topic};

/// Most changes that are sent again one by one. A gateway that lacks more gets a snapshot, which is shorter.
const CHANGES_AGAIN_MAX: usize = 1_000;

impl<S: Storage> Center<S> {
    /// The messages that `request` of `gateway` asks for: those that take something away first, then the others, both oldest first. A
    /// gateway that only has holes gets the changes that fill them; one that has nothing, an older epoch, too much to fill or something
    /// wrong, or that lacks a list that was loaded, gets the parts of a snapshot. Empty for a stream of
    /// another center.
    pub fn answer(
        &mut self,
        gateway: &GatewayId,
        request: &Resync,
        now: Timestamp,
    ) -> Result<Vec<SignedMessage>, CenterError> {
        self.transaction(|center| {
            let Some(stream) = center.streams.iter().find(|stream| stream.spec.name == request.stream) else {
                return Ok(Vec::new());
            };
            let Some(audience) = center.audience(stream, Some(gateway))? else { return Ok(Vec::new()) };
            let Some(last) = stream.last.get(&audience).copied() else { return Ok(Vec::new()) };
            let is_of_epoch = request.have.epoch == last.epoch.get();
            // Beyond the ranges it names the gateway may not know what it lacks: they are limited, and a head may be on its way.
            let known = request.missing.last().map_or(request.have.seq, |(_, to)| *to);
            let mut ranges = request.missing.clone();
            ranges.push((known.saturating_add(1), u64::MAX));
            let again = if request.reason == ResyncReason::Gap && is_of_epoch {
                let journal = stream.journal(audience.clone());
                let again = center.storage.messages(&journal, last.epoch, &ranges, CHANGES_AGAIN_MAX)?;
                // A snapshot among them contains all before it, and is no longer to send than one of today.
                again.filter(|again| !again.iter().any(|(_, message)| is_snapshot(message)))
            } else {
                None
            };
            let Some(mut again) = again else {
                // Who has followed the numbers of this epoch from a list of it may lose as much as its messages took. Against a center
                // that began again with less, the gateway guards itself.
                let follows = is_of_epoch && request.reason != ResyncReason::Epoch;
                return center.snapshot(stream, (&audience, gateway), last, follows, now);
            };
            // Each is in force on arrival, whatever else is missing.
            again.sort_by_key(|(_, message)| !takes_away(message));
            let message = |(at, message): (Position, String)| stream.message_to(gateway, Down::Changes, &message, at);
            Ok(again.into_iter().filter_map(message).collect())
        })
    }

    /// The signed parts of a snapshot of what `stream` has published up to `at`, for one gateway of the audience.
    fn snapshot(
        &self,
        stream: &Stream,
        (audience, gateway): (&Audience, &GatewayId),
        at: Position,
        allow_shrink: bool,
        now: Timestamp,
    ) -> Result<Vec<SignedMessage>, CenterError> {
        let name = &stream.spec.name;
        let list = self.list(audience);
        let entries = list.map(|list| list.snapshot(&digest::registers_of(stream.spec.allowed))).unwrap_or_default();
        // Each sending has a name of its own, so that parts of two are never put together.
        let id = format!("{}.{}-{}", at.epoch, at.seq, now.0);
        let parts = snapshot::write_parts((name, at, &id), gateway.as_str(), now, &entries, allow_shrink)?;
        let part = |claims: String| SignedMessage {
            topic: Topic::Down(gateway.clone(), Down::Snapshot),
            payload: sign(&claims, name, &stream.key).into_bytes(),
            number: Some((name.clone(), at)),
        };
        Ok(parts.into_iter().map(part).collect())
    }
}

/// Whether a message takes a right from somebody.
fn takes_away(message: &str) -> bool {
    let is_taking = |op: &Op| match op {
        Op::Reissue { .. } | Op::Withdraw { .. } => true,
        Op::SetFlag { on, .. } => *on,
        Op::Power { suspended, .. } => *suspended,
        Op::SetPosture { posture, .. } => !posture.holds_open(),
        Op::Issue { .. } | Op::Reinstate { .. } | Op::Enrol { .. } | Op::DefineSchedule { .. } => false,
    };
    match Entry::read(message).map(|entry| entry.content) {
        Ok(Content::Changes(ops)) => ops.iter().any(is_taking),
        // A snapshot is not sent again change by change.
        Ok(Content::Snapshot(_) | Content::Refused) | Err(_) => false,
    }
}
