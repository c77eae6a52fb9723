//! Gateways that have numbers which this center never published: it goes on from an older copy of its database, began again at an epoch
//! that was used before, or another center publishes in its place.
//!
//! Such a gateway has received other messages under the numbers that come next, and ignores what is published under them. It acknowledges them
//! as `duplicate`, or as `stale`, which shows nothing: the ack is of another message. So no ack of such a number counts, for ever; and
//! what nobody would take is not published, until the epoch is raised.
//!
//! A sound center is never hindered. What a gateway can have was published, and what was published was committed before: no state and
//! no ack is older than the numbers here, in whatever order they arrive. And a gateway whose state is wrong, or forged, does not keep
//! anything from the others: a stream of the campus is refused only if no gateway that is known would take it.

use std::collections::{BTreeMap, HashMap};

use super::storage::Audience;
use super::stream::Stream;
use super::{Center, CenterError, Storage};
use crate::access::change::Position;
use crate::access::effect::{Ack, Outcome};
use crate::access::engine::StreamStatus;
use crate::access::id::{GatewayId, StreamName};
use crate::wire::state;

/// An epoch and a number in it; 0.0: none.
pub type Number = (u32, u64);

/// The numbers of a stream that were used before, as one gateway has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Used {
    /// The newest number before them.
    pub after: Number,
    /// The last of them.
    pub to: Number,
}

impl Used {
    /// Whether a message of this number is ignored by the gateway, however it answers.
    #[must_use]
    pub fn has(&self, number: Number) -> bool {
        self.after < number && number <= self.to
    }
}

/// What was used before of a stream at a gateway.
pub type UsedAt = (GatewayId, StreamName, Used);

/// A gateway that is ahead of this center in one stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ahead {
    /// The gateway.
    pub gateway: GatewayId,
    /// The stream.
    pub stream: StreamName,
    /// The newest number that the gateway has.
    pub there: Number,
    /// The number of the next message here.
    pub next: Position,
}

impl std::fmt::Display for Ahead {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { gateway, stream, there, next } = self;
        write!(
            f,
            "`{gateway}` has {stream} {}.{}, and the next message here is {}.{}: these numbers were used before, and it ignores what is published under them. Set `epoch` to {} or higher in center.toml, restart the center, and publish again what was ordered since (center.md, section 5)",
            there.0,
            there.1,
            next.epoch,
            next.seq,
            there.0.saturating_add(1)
        )
    }
}

/// What the gateways have shown.
#[derive(Default)]
pub(super) struct Shown {
    /// The newest number of each stream that a gateway has, as known since the start.
    newest: HashMap<(StreamName, GatewayId), Number>,
    /// What was used before. Most centers have none.
    used: BTreeMap<(StreamName, GatewayId), Used>,
}

impl Shown {
    /// Until its next state a gateway is taken for what it was: by the state that is kept of it, and by what was used before.
    pub(super) fn kept(used: Vec<UsedAt>, states: &[(GatewayId, String)]) -> Self {
        let mut shown = Self::default();
        for (gateway, body) in states {
            let streams = state::decode(body.as_bytes()).map(|state| state.streams).unwrap_or_default();
            let of = |status: StreamStatus| ((status.name, gateway.clone()), (status.epoch, status.seq));
            shown.newest.extend(streams.into_iter().map(of));
        }
        for (gateway, stream, used) in used {
            let newest = shown.newest.entry((stream.clone(), gateway.clone())).or_insert(used.to);
            *newest = used.to.max(*newest);
            shown.used.insert((stream, gateway), used);
        }
        shown
    }
}

impl<S: Storage> Center<S> {
    /// Takes note of the numbers in a gateway's state. Gives in which streams it is ahead, where that is new.
    pub(super) fn note_state(
        &mut self,
        gateway: &GatewayId,
        streams: &[StreamStatus],
    ) -> Result<Vec<Ahead>, CenterError> {
        let mut ahead = Vec::new();
        for status in streams {
            self.shown.newest.remove(&(status.name.clone(), gateway.clone()));
            ahead.extend(self.note_number(gateway, &status.name, (status.epoch, status.seq), None)?);
        }
        Ok(ahead)
    }

    /// The same of an ack.
    pub(super) fn note_ack(&mut self, gateway: &GatewayId, ack: &Ack) -> Result<Option<Ahead>, CenterError> {
        let Some((stream, at)) = ack.stream.as_ref().zip(ack.at) else { return Ok(None) };
        let there = match ack.outcome {
            // Of the message's epoch it has nothing: it has a later one.
            Outcome::Stale if ack.applied_through == 0 => (at.epoch.get().saturating_add(1), 0),
            Outcome::Applied | Outcome::Duplicate => (at.epoch.get(), ack.applied_through.max(at.seq)),
            // Whose message was rejected is not known.
            Outcome::Stale | Outcome::Rejected => (at.epoch.get(), ack.applied_through),
        };
        let ignored = matches!(ack.outcome, Outcome::Stale | Outcome::Duplicate).then_some(at);
        self.note_number(gateway, stream, there, ignored)
    }

    /// `ignored`: the message that the gateway did not apply, if that shows the number.
    fn note_number(
        &mut self,
        gateway: &GatewayId,
        stream: &StreamName,
        there: Number,
        ignored: Option<Position>,
    ) -> Result<Option<Ahead>, CenterError> {
        let key = (stream.clone(), gateway.clone());
        // A stream that others publish is not this center's concern.
        let Some(next) = self.next_to(gateway, stream) else { return Ok(None) };
        let is_new = self.shown.newest.get(&key).is_none_or(|newest| *newest < there);
        if is_new {
            self.shown.newest.insert(key.clone(), there);
        }
        if there < number(next) || !(is_new || ignored.is_some()) {
            return Ok(None);
        }
        // Another process may have published it, and the last commit may have failed here and not on disk.
        self.transaction(|_| Ok(()))?;
        let Some(next) = self.next_to(gateway, stream).filter(|next| there >= number(*next)) else { return Ok(None) };
        let published = (next.epoch.get(), next.seq.saturating_sub(1));
        let before = ignored.map_or(published, |at| published.min((at.epoch.get(), at.seq.saturating_sub(1))));
        let known = self.shown.used.get(&key).copied();
        let used = known.map_or(Used { after: before, to: there }, |known| Used {
            after: known.after.min(before),
            to: known.to.max(there),
        });
        if known != Some(used) {
            self.transaction(|center| center.storage.keep_used(gateway, stream, used))?;
            self.shown.used.insert(key, used);
        }
        Ok(Some(Ahead { gateway: gateway.clone(), stream: stream.clone(), there, next }))
    }

    fn next_to(&self, gateway: &GatewayId, stream: &StreamName) -> Option<Position> {
        let stream = self.streams.iter().find(|one| one.spec.name == *stream)?;
        let audience = self.audience(stream, Some(gateway)).ok()??;
        Some(stream.next(&audience, self.epoch))
    }

    /// The gateways that are ahead of this center now.
    #[cfg(feature = "center")]
    pub(super) fn ahead(&self) -> Vec<Ahead> {
        let own = self.shown.used.keys().filter(|(_, gateway)| self.gateways.contains(gateway));
        own.filter_map(|(stream, gateway)| self.ahead_at(stream, gateway)).collect()
    }

    fn ahead_at(&self, stream: &StreamName, gateway: &GatewayId) -> Option<Ahead> {
        let there = *self.shown.newest.get(&(stream.clone(), gateway.clone()))?;
        let next = self.next_to(gateway, stream).filter(|next| there >= number(*next))?;
        Some(Ahead { gateway: gateway.clone(), stream: stream.clone(), there, next })
    }

    /// The number of the newest message of a stream to a gateway.
    #[cfg(feature = "center")]
    pub(super) fn published_to(&self, gateway: &GatewayId, stream: &StreamName) -> Option<Number> {
        let stream = self.streams.iter().find(|one| one.spec.name == *stream)?;
        let audience = self.audience(stream, Some(gateway)).ok()??;
        stream.last.get(&audience).copied().map(number)
    }

    /// Whether the gateway ignores the message of this number: it has another one under it.
    pub(super) fn is_ignored(&self, gateway: &GatewayId, stream: &StreamName, at: Position) -> bool {
        self.shown.used.get(&(stream.clone(), gateway.clone())).is_some_and(|used| used.has(number(at)))
    }

    /// Fails with [`CenterError::Ahead`] when nobody would take what is published to this audience.
    pub(super) fn may_publish(&self, stream: &Stream, audience: &Audience) -> Result<(), CenterError> {
        // Who writes numbers by hand, in a trial, knows what he does.
        if !S::KEEPS_PUBLISHED || self.shown.used.is_empty() {
            return Ok(());
        }
        let gateways = match audience {
            Audience::Gateway(gateway) => std::slice::from_ref(gateway),
            Audience::Campus => &self.gateways,
        };
        let name = &stream.spec.name;
        let mut first = None;
        for gateway in gateways {
            match self.ahead_at(name, gateway) {
                Some(ahead) => first = first.or(Some(ahead)),
                // It takes what comes next.
                None if self.shown.newest.contains_key(&(name.clone(), gateway.clone())) => return Ok(()),
                None => {}
            }
        }
        first.map_or(Ok(()), |ahead| Err(CenterError::Ahead(Box::new(ahead))))
    }
}

fn number(at: Position) -> Number {
    (at.epoch.get(), at.seq)
}

#[cfg(test)]
#[cfg(feature = "center")]
#[path = "ahead_tests.rs"]
mod tests;
