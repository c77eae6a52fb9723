//! Portals that send wrong fields or messages: what was wrong last, and when that is an alarm.

use std::collections::{BTreeMap, VecDeque};

use super::super::event::AlarmKind;
use super::super::id::{Mono, Now, PortalId};
use super::super::scrub::scrubbed;
use super::Engine;

/// Wrong fields and messages that one portal may send within [`MALFORMED_WINDOW_MS`] before that is an alarm.
pub const MALFORMED_MAX: usize = 5;
/// The time over which wrong fields and messages are counted, in milliseconds.
pub const MALFORMED_WINDOW_MS: u64 = 60_000;
/// How long the status names what was wrong last, in milliseconds.
pub const MALFORMED_SHOWN_MS: u64 = 600_000;

/// What one portal sent that could not be read.
#[derive(Debug)]
pub(super) struct Malformed {
    /// When the last ones came, at most [`MALFORMED_MAX`] and one more.
    recent: VecDeque<Mono>,
    last: Vec<String>,
    last_at: Mono,
}

/// By portal.
pub(super) type MalformedPortals = BTreeMap<PortalId, Malformed>;

impl Engine {
    /// Counts the wrong fields of one report, and raises an alarm where there are too many.
    pub(super) fn malformed_reported(&mut self, portal: &PortalId, wrong: &[String], now: Now) {
        if wrong.is_empty() {
            return;
        }
        let first = || Malformed { recent: VecDeque::new(), last: Vec::new(), last_at: now.mono };
        let known = self.malformed.entry(portal.clone()).or_insert_with(first);
        // What is quoted may be the UID of a card, and this is an alarm.
        let wrong: Vec<_> = wrong.iter().map(|wrong| scrubbed(wrong)).collect();
        (known.last, known.last_at) = (wrong.clone(), now.mono);
        known.recent.extend(wrong.iter().take(MALFORMED_MAX + 1).map(|_| now.mono));
        let outside = |at: &Mono| now.mono.since_ms(*at) >= MALFORMED_WINDOW_MS;
        while known.recent.front().is_some_and(outside) || known.recent.len() > MALFORMED_MAX + 1 {
            known.recent.pop_front();
        }
        if known.recent.len() > MALFORMED_MAX {
            known.recent.clear();
            let minute = MALFORMED_WINDOW_MS / 1000;
            let detail = format!(
                "more than {MALFORMED_MAX} wrong fields or messages within {minute} s; the last: {}",
                wrong.join("; ")
            );
            self.alarm(AlarmKind::PortalMalformed, Some(portal), None, detail, now);
        }
    }

    /// What portals sent last that could not be read, by portal.
    pub(super) fn malformed_status(&self, now: Now) -> Vec<(PortalId, String)> {
        let shown = self.malformed.iter().filter(|(_, known)| now.mono.since_ms(known.last_at) < MALFORMED_SHOWN_MS);
        shown.map(|(portal, known)| (portal.clone(), known.last.join("; "))).collect()
    }
}
