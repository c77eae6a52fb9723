//! What a center signs beside changes: heads and commands. They use up no number and are kept nowhere.

use super::stream::Stream;
use super::{COMMAND_LIFE_S, Center, CenterError, JournalName, SignedMessage, Storage};
use crate::access::change::{Head, Position};
use crate::access::id::{GatewayId, Timestamp};
use crate::access::input::{Command, CommandKind};
use crate::wire::allowed::OpName;
use crate::wire::digest;
use crate::wire::down;
use crate::wire::envelope::sign;
use crate::wire::topic::{Down, Topic};

/// Bytes of randomness in a command's id.
const JTI_BYTES: usize = 16;

impl<S: Storage> Center<S> {
    /// The heads of all journals, also of those without a message: a broker that keeps none has to be distinguished from a center that
    /// has published nothing yet.
    pub fn heads(&mut self, now: Timestamp) -> Result<Vec<SignedMessage>, CenterError> {
        self.transaction(|_| Ok(()))?;
        let of = |stream: &Stream| -> Vec<JournalName> {
            stream.audiences(&self.gateways).into_iter().map(|audience| stream.journal(audience)).collect()
        };
        let journals: Vec<JournalName> = self.streams.iter().flat_map(of).collect();
        journals.iter().filter_map(|journal| self.head(journal, now).transpose()).collect()
    }

    /// The head of a journal: its last number, 0 before the first message, and the digest of what the stream owns. `None`: this center
    /// does not publish to it. Never fails for a head of these types.
    pub fn head(&self, journal: &JournalName, now: Timestamp) -> Result<Option<SignedMessage>, CenterError> {
        let Some(stream) = self.streams.iter().find(|stream| stream.spec.name == journal.stream) else {
            return Ok(None);
        };
        let Some(list) = self.list(&journal.audience) else { return Ok(None) };
        let at = stream.last.get(&journal.audience).copied().unwrap_or(Position { epoch: self.epoch, seq: 0 });
        let digest = digest::of(list, &digest::registers_of(stream.spec.allowed));
        let name = stream.spec.name.clone();
        let head = Head { stream: name.clone(), at, iat: None, cards: digest.cards, digest: digest.sha256 };
        let claims = down::write_head(&head, journal.audience.aud(), now)?;
        let payload = sign(&claims, &name, &stream.key).into_bytes();
        Ok(Some(SignedMessage { topic: journal.audience.topic(Down::Head(name)), payload, number: None }))
    }

    /// A command and its id; it expires [`COMMAND_LIFE_S`] after `now`. Fails when no stream may command, or the system gives no
    /// randomness.
    pub fn command(
        &self,
        gateway: &GatewayId,
        kind: CommandKind,
        actor: Option<&str>,
        now: Timestamp,
    ) -> Result<(String, SignedMessage), CenterError> {
        let stream = self.commander()?;
        let mut random = [0; JTI_BYTES];
        getrandom::fill(&mut random).map_err(|e| CenterError::Randomness(e.to_string()))?;
        let jti = hex::encode(random);
        let name = &stream.spec.name;
        let command = Command {
            stream: name.clone(),
            jti: jti.clone(),
            iat: now,
            exp: Timestamp(now.0.saturating_add(COMMAND_LIFE_S * 1000)),
            actor: actor.map(str::to_owned),
            kind,
        };
        let payload = sign(&down::write_command(&command, gateway)?, name, &stream.key).into_bytes();
        Ok((jti, SignedMessage { topic: Topic::Down(gateway.clone(), Down::Command), payload, number: None }))
    }

    pub(super) fn commander(&self) -> Result<&Stream, CenterError> {
        self.stream_of(OpName::Command).ok_or(CenterError::NoOwner(OpName::Command))
    }
}
