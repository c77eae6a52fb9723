//! One stream of a center: its key, its numbers, and the messages that it signs.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use ed25519_dalek::SigningKey;

use super::storage::{Audience, Content, JournalName};
use super::{CenterError, SignedMessage};
use crate::access::change::{Op, Position};
use crate::access::id::{GatewayId, Timestamp};
use crate::access::list::AccessList;
use crate::wire::digest;
use crate::wire::down;
use crate::wire::envelope::{Scope, StreamSpec, members, sign};
use crate::wire::limits::MESSAGE_BYTES_MAX;
use crate::wire::ops::name_of;
use crate::wire::topic::{Down, Topic};

/// One stream with its key.
pub(super) struct Stream {
    pub(super) spec: StreamSpec,
    pub(super) key: SigningKey,
    /// The number of the newest message to each audience.
    pub(super) last: BTreeMap<Audience, Position>,
}

impl Stream {
    pub(super) fn journal(&self, audience: Audience) -> JournalName {
        JournalName { audience, stream: self.spec.name.clone() }
    }

    /// To whom it publishes.
    pub(super) fn audiences(&self, gateways: &[GatewayId]) -> Vec<Audience> {
        match self.spec.scope {
            Scope::Campus => vec![Audience::Campus],
            Scope::Gateway => gateways.iter().cloned().map(Audience::Gateway).collect(),
        }
    }

    /// The number of the next message.
    pub(super) fn next(&self, audience: &Audience, epoch: NonZeroU32) -> Position {
        let last = self.last.get(audience).filter(|last| last.epoch == epoch);
        Position { epoch, seq: last.map_or(1, |last| last.seq.saturating_add(1)) }
    }

    /// What a message changes of the list; a gateway refuses a message with an op that the stream may not publish whole.
    pub(super) fn replay(&self, list: &mut AccessList, content: &Content, at: Position) {
        let is_allowed = |op: &Op| name_of(op).is_some_and(|name| self.spec.allowed.contains(name));
        match content {
            Content::Changes(ops) if ops.iter().all(is_allowed) => list.replay(ops, at, None),
            Content::Changes(_) | Content::Refused => list.replay(&[], at, None),
            Content::Snapshot(entries) => {
                list.replay_snapshot(
                    &digest::registers_of(self.spec.allowed),
                    (at, None),
                    std::slice::from_ref(entries),
                );
            }
        }
    }

    /// Signs `ops` as one message, or as several where one would be too long; `next` is the number of the next.
    pub(super) fn write(
        &self,
        audience: &Audience,
        ops: &[Op],
        now: Timestamp,
        next: &mut Position,
        each: &mut impl FnMut(Position, &[Op], String),
    ) -> Result<(), CenterError> {
        let claims = down::write_changes(&self.spec.name, audience.aud(), now, *next, ops)?;
        let message = sign(&claims, &self.spec.name, &self.key);
        if message.len() > MESSAGE_BYTES_MAX && ops.len() > 1 {
            let (first, second) = ops.split_at(ops.len() / 2);
            self.write(audience, first, now, next, each)?;
            return self.write(audience, second, now, next, each);
        }
        if let ([op], true) = (ops, message.len() > MESSAGE_BYTES_MAX) {
            return Err(CenterError::too_long(op, message.len()));
        }
        each(*next, ops, message);
        next.seq = next.seq.saturating_add(1);
        Ok(())
    }

    /// The message on the topic that the stream publishes on.
    pub(super) fn signed_message(&self, audience: &Audience, message: String, at: Position) -> SignedMessage {
        let number = Some((self.spec.name.clone(), at));
        SignedMessage { topic: audience.topic(Down::Changes), payload: message.into_bytes(), number }
    }

    /// A message or a part of a snapshot on the gateway's own topic, signed again if it was for the whole campus.
    pub(super) fn message_to(
        &self,
        gateway: &GatewayId,
        down: Down,
        message: &str,
        at: Position,
    ) -> Option<SignedMessage> {
        let message = match self.spec.scope {
            Scope::Gateway => message.to_owned(),
            Scope::Campus => {
                let mut claims = members(message.as_bytes()).ok()?;
                claims.set("aud", gateway).ok()?;
                sign(&claims.to_json().ok()?, &self.spec.name, &self.key)
            }
        };
        let topic = Topic::Down(gateway.clone(), down);
        Some(SignedMessage { topic, payload: message.into_bytes(), number: Some((self.spec.name.clone(), at)) })
    }
}
