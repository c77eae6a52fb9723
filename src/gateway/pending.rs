//! Answers that wait until what they promise is on disk.

use std::collections::BTreeMap;

use crate::access::effect::{Ack, Alarm, Reply};
use crate::access::id::Mono;
use crate::access::input::Receipt;

/// How long an alarm waits for the disk, in milliseconds: it must be on its way within 2 s, also when the disk is what is broken.
pub const ALARM_WAIT_MS: u64 = 1_000;

/// One answer that waits.
#[derive(Debug)]
pub enum Waiting {
    /// The ack of a message. Waits for ever: an ack is a promise.
    Ack(Box<Ack>, Receipt),
    /// The reply to a command. Waits for ever: its id must be remembered.
    Reply(Box<Reply>),
    /// An alarm; not longer than [`ALARM_WAIT_MS`], because its number is not worth more than the warning.
    Alarm(Box<Alarm>, Mono),
}

/// Answers by the event they wait for. Bounded by what the broker lets be under way without its acknowledgement.
#[derive(Debug, Default)]
pub struct Pending {
    waiting: BTreeMap<u64, Vec<Waiting>>,
}

impl Pending {
    /// Lets `answer` wait for event `after`.
    pub fn push(&mut self, after: u64, answer: Waiting) {
        self.waiting.entry(after).or_default().push(answer);
    }

    /// The answers whose event is durable now, in order.
    pub fn take_durable(&mut self, through: u64) -> Vec<Waiting> {
        let later = self.waiting.split_off(&through.saturating_add(1));
        std::mem::replace(&mut self.waiting, later).into_values().flatten().collect()
    }

    /// The alarms that have waited long enough.
    pub fn take_overdue_alarms(&mut self, now: Mono) -> Vec<Waiting> {
        let mut overdue = Vec::new();
        let due = |w: &Waiting| matches!(w, Waiting::Alarm(_, by) if *by <= now);
        for answers in self.waiting.values_mut() {
            overdue.extend(answers.extract_if(.., |w| due(w)));
        }
        self.waiting.retain(|_, answers| !answers.is_empty());
        overdue
    }

    /// When the next alarm has waited long enough.
    #[must_use]
    pub fn next_alarm(&self) -> Option<Mono> {
        let by = |w: &Waiting| match w {
            Waiting::Alarm(_, by) => Some(*by),
            Waiting::Ack(..) | Waiting::Reply(_) => None,
        };
        self.waiting.values().flatten().filter_map(by).min()
    }

    /// Whether an ack or a reply waits.
    #[must_use]
    pub fn promises_wait(&self) -> bool {
        self.waiting.values().flatten().any(|w| matches!(w, Waiting::Ack(..) | Waiting::Reply(_)))
    }
}
