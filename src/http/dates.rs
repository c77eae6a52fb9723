//! When the changes were applied that a query names: looked up in the audit, on another thread.

use crate::access::effect::QueryResult;
use crate::access::event::Event;
use crate::access::explain::SetBy;
use crate::store::{PAGE_EVENTS_MAX, Store, StoredEvent};
use crate::wire::audit::decode;

/// Events looked through, from the last one back, for the time of a change.
const CHANGES_SOUGHT_IN: u64 = 200_000;

/// Writes into each step when the change that set it was applied, as far as the newest [`CHANGES_SOUGHT_IN`] events have it.
pub(super) async fn date(store: Store, mut answer: QueryResult) -> QueryResult {
    let is_wanted = answer.verdicts.iter().flat_map(|verdict| &verdict.steps).any(|step| step.set_by.is_some());
    if !is_wanted {
        return answer;
    }
    let undated = answer.clone();
    let dated = tokio::task::spawn_blocking(move || {
        let mut sought: Vec<&mut SetBy> = answer
            .verdicts
            .iter_mut()
            .flat_map(|verdict| &mut verdict.steps)
            .filter_map(|s| s.set_by.as_mut())
            .collect();
        let (first, last) = (store.first(), store.last_durable());
        let (mut end, mut stride) = (last, PAGE_EVENTS_MAX as u64);
        let oldest = first.max(1).max(last.saturating_sub(CHANGES_SOUGHT_IN));
        while end >= oldest && sought.iter().any(|set_by| set_by.at.is_none()) {
            let begin = oldest.max((end + 1).saturating_sub(stride));
            date_from(&store, (begin, end), &mut sought);
            end = begin - 1;
            // The journal is read forwards, from the front of a segment to the first event that is wanted. Steps of one length would
            // read each segment as often as there are steps in it.
            stride *= 2;
        }
        answer
    });
    // Without the times it is an answer all the same.
    dated.await.unwrap_or(undated)
}

/// Dates what the events of `range` applied.
fn date_from(store: &Store, (begin, end): (u64, u64), sought: &mut [&mut SetBy]) {
    let date = |event: StoredEvent| {
        if !memmem(&event.json, b"\"changes_applied\"") {
            return;
        }
        let Ok(decoded) = decode(&event.json) else { return };
        let Event::ChangesApplied { revision, .. } = &decoded.event.body else { return };
        let of = |set_by: &&mut SetBy| {
            let (epoch, seq, _) = set_by.revision;
            set_by.stream == revision.stream && (epoch, seq) == (revision.epoch.get(), revision.seq)
        };
        for set_by in sought.iter_mut().filter(|set_by| of(set_by)) {
            set_by.at = Some(decoded.event.at);
        }
    };
    // What cannot be read has no time.
    drop(store.each_blocking((begin, end + 1), date));
}

fn memmem(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}
