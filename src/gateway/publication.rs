//! When the state of the gateway is published. Pure: the time is an argument.

use super::ports::StateReport;
use crate::access::engine::{Status, StreamStatus};
use crate::access::id::Mono;

/// Shortest time between two publications of the state, in milliseconds (wire contract, section 3).
const STATE_MIN_MS: u64 = 1_000;
/// Longest time between two publications of the state, in milliseconds (wire contract, section 3).
const STATE_MAX_MS: u64 = 60_000;

/// When the state is published: on change at most once in [`STATE_MIN_MS`], and every [`STATE_MAX_MS`].
#[derive(Default)]
pub(super) struct Publication {
    /// Something may have changed since the state was last looked at.
    pub(super) changed: bool,
    looked_at: Option<Mono>,
    /// The last one published, see [`without_numbers`].
    last: Option<(Mono, StateReport)>,
}

impl Publication {
    /// When the state is looked at next.
    pub(super) fn due_at(&self) -> Mono {
        let regular = self.last.as_ref().map_or(Mono::default(), |(at, _)| at.plus_ms(STATE_MAX_MS));
        let on_change = self.looked_at.map_or(Mono::default(), |at| at.plus_ms(STATE_MIN_MS));
        if self.changed { regular.min(on_change) } else { regular }
    }

    /// Whether `state` is to be published now.
    pub(super) fn take(&mut self, state: &StateReport, now: Mono) -> bool {
        (self.changed, self.looked_at) = (false, Some(now));
        let regular = self.last.as_ref().is_none_or(|(at, _)| now.since_ms(*at) >= STATE_MAX_MS);
        let state = without_numbers(state.clone());
        let publish = regular || self.last.as_ref().is_some_and(|(_, last)| *last != state);
        if publish {
            self.last = Some((now, state));
        }
        publish
    }
}

/// The state without what changes by itself and is published with the next regular one: the numbers of the audit, the ages, the
/// meters; and without the modes, which are not published.
fn without_numbers(state: StateReport) -> StateReport {
    let streams = state.status.streams.into_iter().map(|stream| StreamStatus { age_s: None, ..stream }).collect();
    let status = Status { audit_last: 0, streams, meters: Vec::new(), modes: Vec::new(), ..state.status };
    StateReport { audit_acked: 0, status, ..state }
}
