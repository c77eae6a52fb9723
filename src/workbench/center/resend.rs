//! What a gateway that lacks something is sent again (wire contract, 2.5): changes, on its own topic. This center makes no
//! snapshots; its journals are short enough to be reported whole.

use super::dir::Lock;
use super::{Center, CenterError, SignedMessage};
use crate::access::effect::Resync;
use crate::access::effect::ResyncReason;

impl Center {
    /// The messages that `request` asks for, oldest first; all of the epoch unless the gateway only has holes. Empty for a stream of
    /// another center.
    ///
    /// # Errors
    /// [`CenterError`] if a file cannot be read.
    pub fn answer(&mut self, request: &Resync) -> Result<Vec<SignedMessage>, CenterError> {
        let _lock = Lock::take(&self.dir)?;
        self.catch_up()?;
        let Some(stream) = self.streams.iter().find(|s| s.name == request.stream) else {
            return Ok(Vec::new());
        };
        let Some(last) = stream.journal.last() else { return Ok(Vec::new()) };
        let only_holes = request.reason == ResyncReason::Gap && request.have.epoch == last.epoch.get();
        // Beyond the ranges it names the gateway may not know what it lacks: they are limited, and a head may be on its way.
        let known = request.missing.last().map_or(request.have.seq, |(_, to)| *to);
        let lacks = |seq: u64| {
            !only_holes || seq > known || request.missing.iter().any(|(from, to)| (*from..=*to).contains(&seq))
        };
        let wanted = stream.journal.of_epoch(last.epoch).filter(|entry| lacks(entry.at.seq));
        Ok(wanted.filter_map(|entry| stream.signed_message_to(&self.gateway, &entry.message, entry.at)).collect())
    }
}
