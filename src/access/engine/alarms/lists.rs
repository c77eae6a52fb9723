//! Alarms about the lists: those that are not whole, and those whose text names holders.

use std::collections::BTreeSet;

use super::super::super::decide::ListIntegrity;
use super::super::super::event::AlarmKind;
use super::super::super::id::{CardUid, Now, StreamName};
use super::super::Engine;
use super::NOT_WHOLE;

/// What to do about a damaged stream that stays so.
const NOT_SENT_REMEDY: &str =
    "if the center of one sends nothing, have it publish a head, or remove the stream from the configuration";

fn rule_of(stream: &StreamName) -> String {
    format!("{NOT_WHOLE} {stream}")
}

impl Engine {
    /// Raises an alarm of the list whose text names holders, or repeats what a center wrote: the log has `logged` in its place.
    pub(in super::super) fn list_alarm(&mut self, uid: Option<CardUid>, detail: String, logged: String, now: Now) {
        let text = if uid.is_none() { logged.replace(|c: char| c.is_ascii_digit(), "") } else { String::new() };
        self.raise_logged((AlarmKind::List, None, uid, text), None, detail, Some(logged), now);
    }

    /// Raises an alarm for each list that is not whole, once until it is.
    pub(in super::super) fn lists_not_whole(&mut self, now: Now) {
        if self.integrity() == ListIntegrity::Damaged && self.alarms.not_whole.insert(NOT_WHOLE.to_owned()) {
            let mut streams: Vec<_> = self.damaged_streams().map(StreamName::as_str).collect();
            streams.sort_unstable();
            let detail = format!(
                "the store lost a part of the list of {}; nothing is granted until they are sent again: {NOT_SENT_REMEDY}",
                streams.join(", ")
            );
            self.raise((AlarmKind::List, None, None, NOT_WHOLE.to_owned()), None, detail, now);
        }
        let known = self.state.streams.iter().filter(|(_, track)| !track.damaged);
        let goals = known.filter_map(|(name, track)| Some((name.clone(), track.goal?)));
        for (name, goal) in goals.collect::<Vec<_>>() {
            let rule = rule_of(&name);
            if self.alarms.not_whole.insert(rule.clone()) {
                let detail =
                    format!("the list is incomplete until message {}.{} of {name} arrives", goal.epoch, goal.seq);
                self.raise((AlarmKind::List, None, None, rule), None, detail, now);
            }
        }
    }

    /// Ends the alarms of the lists that have become whole.
    pub(in super::super) fn end_whole_lists(&mut self, now: Now) {
        // Nearly always; this is on the way of each request.
        if self.alarms.not_whole.is_empty() {
            return;
        }
        let is_damaged = self.integrity() == ListIntegrity::Damaged;
        let goals = self.state.streams.iter().filter(|(_, track)| track.goal.is_some());
        let mut open: BTreeSet<_> = goals.map(|(name, _)| rule_of(name)).collect();
        open.extend(is_damaged.then(|| NOT_WHOLE.to_owned()));
        let whole: Vec<_> = self.alarms.not_whole.difference(&open).cloned().collect();
        for rule in whole {
            self.alarms.not_whole.remove(&rule);
            self.over(|key| key.0 == AlarmKind::List && key.3 == rule, "the list is whole", now);
        }
    }
}
