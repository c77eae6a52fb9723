//! Answers to operators that wait for the disk: an order acts at once, and whoever gave it is answered when its events are durable, or
//! after a named time that they are not.

use tokio::sync::oneshot;

use super::ports::OperatorRefusal;
use crate::access::id::Mono;

/// How long the answer to an operator's order waits for the disk, in milliseconds.
pub const ORDER_WAIT_MS: u64 = 1_000;

/// How an order ended.
pub(super) type Ordered = Result<(), OperatorRefusal>;

/// An order that was carried out and is not on disk yet.
#[derive(Debug)]
struct Waiting {
    /// The event that must be durable.
    after: u64,
    by: Mono,
    answer: oneshot::Sender<Ordered>,
}

/// See the module's head. Each entry is a connection of the operator's socket or of the console, and goes within [`ORDER_WAIT_MS`].
#[derive(Debug, Default)]
pub(super) struct Answers(Vec<Waiting>);

impl Answers {
    /// Answers an order once event `after` is durable. One that was not carried out is answered at once.
    pub(super) fn give(&mut self, after: u64, ordered: Ordered, answer: oneshot::Sender<Ordered>, now: Mono) {
        match ordered {
            Ok(()) => self.0.push(Waiting { after, by: now.plus_ms(ORDER_WAIT_MS), answer }),
            Err(refused) => send(answer, Err(refused)),
        }
    }

    /// Everything up to event `through` is on disk.
    pub(super) fn durable(&mut self, through: u64) {
        self.0.extract_if(.., |waiting| waiting.after <= through).for_each(|waiting| send(waiting.answer, Ok(())));
    }

    /// Answers what has waited long enough.
    pub(super) fn overdue(&mut self, now: Mono) {
        let overdue = self.0.extract_if(.., |waiting| waiting.by <= now);
        overdue.for_each(|waiting| send(waiting.answer, Err(OperatorRefusal::NotOnDisk)));
    }

    /// When [`Answers::overdue`] is to be called next.
    pub(super) fn due_at(&self) -> Option<Mono> {
        self.0.iter().map(|waiting| waiting.by).min()
    }

    pub(super) fn are_pending(&self) -> bool {
        !self.0.is_empty()
    }
}

fn send(answer: oneshot::Sender<Ordered>, ordered: Ordered) {
    if answer.send(ordered).is_err() {
        tracing::debug!("whoever asked has gone");
    }
}
