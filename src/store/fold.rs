//! The access state as the fold of the journal: each event, with the signed message kept beside it, applied as it was live.

use super::Fold;
use super::record;
use crate::access::event::{AuditEvent, EventKind};
use crate::access::state::State;
use crate::wire::changes;

impl Fold for State {
    fn apply(&mut self, event: &AuditEvent, evidence: &[u8]) -> Result<(), String> {
        if event.kind() != EventKind::ChangesApplied {
            self.fold(event, None);
            return Ok(());
        }
        match changes::parse_evidence(evidence) {
            Ok(parsed) if parsed.content.is_ok() => {
                self.fold(event, Some(&parsed));
                Ok(())
            }
            // It was understood when it arrived, so this program is older than the one that wrote it, or the bytes changed.
            Ok(parsed) => Err(parsed.content.err().map_or(String::new(), |errors| format!("{errors:?}"))),
            Err(refused) => Err(refused.error.message),
        }
    }

    fn export(&self, put: &mut dyn FnMut(&[u8], &[u8])) {
        record::export(self, put);
    }

    fn import(pairs: &mut dyn Iterator<Item = (Vec<u8>, Vec<u8>)>) -> Result<Self, String> {
        let mut state = Self::default();
        for (key, value) in pairs {
            record::import(&mut state, &key, &value).map_err(|error| error.to_string())?;
        }
        Ok(state)
    }
}
