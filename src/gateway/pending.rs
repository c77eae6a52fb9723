//! Answers that wait until the events behind them are on disk.

use std::collections::BTreeMap;

use crate::access::effect::{Ack, Alarm, Reply};
use crate::access::id::Mono;
use crate::access::input::Receipt;

/// How long an alarm waits for the disk, in milliseconds: it must be on its way within 2 s, also when the disk is what is broken.
pub const ALARM_WAIT_MS: u64 = 1_000;

/// An answer to a center.
#[derive(Debug)]
pub enum Answer {
    /// The ack of a message. Waits for ever: what is acknowledged is on disk.
    Ack(Box<Ack>, Receipt),
    /// The reply to a command. Waits for ever: its id must be remembered.
    Reply(Box<Reply>),
    /// An alarm; not longer than [`ALARM_WAIT_MS`], because a warning is worth more than its number.
    Alarm(Box<Alarm>, Mono),
}

/// Answers by the event they wait for. Bounded by what the broker lets be under way without its acknowledgement.
#[derive(Debug, Default)]
pub struct Pending {
    by_event: BTreeMap<u64, Vec<Answer>>,
}

impl Pending {
    /// Keeps `answer` until event `after` is durable.
    pub fn push(&mut self, after: u64, answer: Answer) {
        self.by_event.entry(after).or_default().push(answer);
    }

    /// The answers whose event is durable now, in order.
    pub fn take_durable(&mut self, through: u64) -> Vec<Answer> {
        let later = self.by_event.split_off(&through.saturating_add(1));
        std::mem::replace(&mut self.by_event, later).into_values().flatten().collect()
    }

    /// The alarms that have waited long enough.
    pub fn take_overdue_alarms(&mut self, now: Mono) -> Vec<Answer> {
        let mut overdue = Vec::new();
        let due = |w: &Answer| matches!(w, Answer::Alarm(_, by) if *by <= now);
        for answers in self.by_event.values_mut() {
            overdue.extend(answers.extract_if(.., |w| due(w)));
        }
        self.by_event.retain(|_, answers| !answers.is_empty());
        overdue
    }

    /// When the next alarm has waited long enough.
    #[must_use]
    pub fn next_alarm(&self) -> Option<Mono> {
        let by = |w: &Answer| match w {
            Answer::Alarm(_, by) => Some(*by),
            Answer::Ack(..) | Answer::Reply(_) => None,
        };
        self.by_event.values().flatten().filter_map(by).min()
    }

    /// Whether an ack or a reply is pending.
    #[must_use]
    pub fn has_answers(&self) -> bool {
        self.by_event.values().flatten().any(|w| matches!(w, Answer::Ack(..) | Answer::Reply(_)))
    }
}
