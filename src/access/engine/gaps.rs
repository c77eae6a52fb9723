//! Events that are not in the journal: not written, removed at its hard limit, or lost with a damaged disk. Each loss is an event.

use super::super::effect::Effect;
use super::super::event::{AlarmKind, Event, Flush, GapCause, Mark};
use super::super::id::Now;
use super::{Engine, StreamRole};

/// Most ranges that one `log_gap` names.
const GAP_RANGES_MAX: usize = 1_000;

impl Engine {
    pub(super) fn lost(&mut self, from: u64, to: u64, now: Now) {
        self.commands_lost(from, to, now);
        self.record(Event::LogGap { from, to, cause: GapCause::NotWritten, ranges: Vec::new() }, Flush::Soon, now);
    }

    /// The state has what these events did, so no list is in doubt: the event explains why the audit lacks them.
    pub(super) fn audit_lost(&mut self, from: u64, to: u64, now: Now) {
        self.record(Event::LogGap { from, to, cause: GapCause::AuditDamaged, ranges: Vec::new() }, Flush::Soon, now);
    }

    /// Events go at the hard limit of the journal: names them, so that they can go, and raises it.
    pub(super) fn removing(&mut self, ranges: &[(u64, u64)], now: Now) {
        for ranges in ranges.chunks(GAP_RANGES_MAX) {
            let (Some((from, _)), Some((_, to))) = (ranges.first(), ranges.last()) else { continue };
            let (from, to, cause) = (*from, *to, GapCause::HardLimit);
            let ranges = if ranges.len() > 1 { ranges.to_vec() } else { Vec::new() };
            self.record(Event::LogGap { from, to, cause, ranges }, Flush::Now, now);
        }
        let detail = "the audit is at its hard limit and the center has not acknowledged it: decisions go first, revocations last; \
                      look whether the center takes the audit";
        self.alarm(AlarmKind::Store, None, None, detail.to_owned(), now);
    }

    /// What the store found lost at start: the numbers, and that changes may have been among them.
    pub fn damaged(&mut self, from: u64, to: u64, now: Now) -> Vec<Effect> {
        self.state.last_n = self.state.last_n.max(to);
        // The fold of the gap marks every stream that is known. These come first: until the gap is recorded, each start finds the
        // loss again.
        let is_unknown = |role: &&StreamRole| !self.state.streams.contains_key(&role.name);
        for stream in self.streams.iter().filter(is_unknown).map(|role| role.name.clone()).collect::<Vec<_>>() {
            let detail = "nothing is known of this stream, so what it had sent may be lost too".to_owned();
            self.record(Event::Config { mark: Mark::StreamLost(stream), detail }, Flush::Now, now);
        }
        self.record(Event::LogGap { from, to, cause: GapCause::Damaged, ranges: Vec::new() }, Flush::Now, now);
        let detail = format!(
            "the store was damaged: events {from} to {to} are lost; nothing is granted until the list is whole"
        );
        self.alarm(AlarmKind::Store, None, None, detail, now);
        self.lists_not_whole(now);
        std::mem::take(&mut self.out)
    }
}
