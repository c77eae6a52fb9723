//! A generation made from the one before it and the journal, while the gateway runs.

use super::events::{RecoveryIssue, StoreEvent};
use super::medium::Medium;
use super::shared::Shared;
use super::{Fold, generation, replay, segments};
use crate::lock;

/// Why there is no new generation.
pub(super) enum NotWritten {
    /// It would hide from the next start that events are lost, as long as the journal up to event `last` does not name them.
    Unnamed { last: u64, detail: String },
    /// The disk.
    Failed(String),
}

/// What was written.
pub(super) struct Written {
    /// Up to which event the new generation is the state, and the one before it, which was opened for it; 0: there was none.
    pub position: u64,
    pub before: u64,
    pub records: u64,
}

/// Makes the generation of the journal as it is durable now, up to event `until`, from the generation before it and the journal alone.
pub(super) fn write_generation<F: Fold>(
    shared: &Shared,
    newest: u64,
    until: u64,
) -> Result<Option<Written>, NotWritten> {
    let medium: &dyn Medium = &*shared.medium;
    let (segments, last) = {
        let index = lock(&shared.index);
        (index.segments.clone(), index.last.min(until))
    };
    if last <= newest {
        return Ok(None);
    }
    let mut issues = Vec::new();
    let (mut state, base) =
        generation::newest::<F>(medium, &mut issues).map_err(|error| NotWritten::Failed(error.to_string()))?;
    let (place, mut replayed) = {
        let uids = shared.options.uid_key.as_ref();
        replay::replay(medium, segments::after(&segments, base.place.n), (base, last), (&mut state, uids))
    };
    let base = base.place;
    replayed.keep_copies(medium);
    if place.n < last {
        // Lost at the end of the journal, and nothing was written after it yet.
        replayed.lost(place.n + 1, last);
    }
    replayed.settle();
    issues.append(&mut replayed.issues);
    if let Some((from, to)) = replayed.lost.first() {
        let detail = format!("events {from} to {to} are lost and no `log_gap` names them yet");
        return Err(NotWritten::Unnamed { last, detail });
    }
    for issue in issues {
        if let RecoveryIssue::GenerationSetAside { .. } | RecoveryIssue::GenerationUnreadable { .. } = issue {
            shared.outbox.report(StoreEvent::Found(issue));
        }
    }
    if place.n <= base.n {
        return Ok(None);
    }
    let records = generation::write(medium, state, place).map_err(NotWritten::Failed)?;
    generation::remove_before(medium, base.n);
    Ok(Some(Written { position: place.n, before: base.n, records }))
}
