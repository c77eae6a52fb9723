//! Which audit events are under way to the center. Pure: the time is an argument, and it reads and sends nothing itself.
//!
//! The cursor is the center's: it moves on its `audit-ack` (or, where so configured, when the broker has a batch), never
//! because something was sent. Events go out in order, in batches, a few at a time, and again when no acknowledgement comes.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::config::AuditAckBy;
use crate::mqtt::MessageId;
pub use crate::wire::limits::AUDIT_BATCH_EVENTS_MAX as BATCH_EVENTS_MAX;

/// Most bytes of events in a batch; with the frame around them it stays below 64 KiB.
pub const BATCH_BYTES_MAX: usize = 63 * 1024;
/// Most batches under way (wire contract, section 3).
pub const BATCHES_MAX: usize = 4;
/// Unacknowledged events are sent again after this time, in seconds (wire contract, section 3).
pub const RESEND_S: u64 = 30;

/// Why an `audit-ack` was not followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AckError {
    /// It names events that do not exist.
    #[error("`through` is {through}, but the last event is {last}; does the center know another gateway by this name?")]
    Beyond {
        /// The event it names.
        through: u64,
        /// The last event there is.
        last: u64,
    },
    /// It names events not sent in this run. They are sent now, and acknowledged then.
    #[error("`through` is {through}, but nothing beyond {sent} was sent yet")]
    NotSent {
        /// The event it names.
        through: u64,
        /// The last event sent.
        sent: u64,
    },
}

#[derive(Debug)]
struct Batch {
    last: u64,
    id: MessageId,
    delivered: bool,
}

/// The audit on its way.
#[derive(Debug)]
pub struct Feed {
    by: AuditAckBy,
    acked: u64,
    /// The next event to read.
    next: u64,
    /// The highest event sent in this run.
    sent: u64,
    under_way: VecDeque<Batch>,
    /// When the oldest batch was sent, or the cursor last moved.
    waiting_since: Option<Instant>,
}

impl Feed {
    /// A feed from behind event `acked`.
    #[must_use]
    pub fn new(by: AuditAckBy, acked: u64) -> Self {
        Self { by, acked, next: acked.saturating_add(1), sent: acked, under_way: VecDeque::new(), waiting_since: None }
    }

    /// The last event that the center has.
    #[must_use]
    pub fn acked(&self) -> u64 {
        self.acked
    }

    /// From which event on to read the next batch; `None`: nothing to send, or enough under way.
    #[must_use]
    pub fn wants(&self, last_durable: u64) -> Option<u64> {
        (self.under_way.len() < BATCHES_MAX && self.next <= last_durable).then_some(self.next)
    }

    /// A batch that begins at `first` and ends with `last` was published as `id`.
    pub fn sent(&mut self, last: u64, id: MessageId, now: Instant) {
        self.under_way.push_back(Batch { last, id, delivered: false });
        self.next = last.saturating_add(1);
        self.sent = self.sent.max(last);
        self.waiting_since.get_or_insert(now);
    }

    /// The broker has message `id`. Gives the new cursor, if that moves it.
    pub fn delivered(&mut self, id: MessageId, now: Instant) -> Option<u64> {
        let batch = self.under_way.iter_mut().find(|batch| batch.id == id)?;
        batch.delivered = true;
        match self.by {
            AuditAckBy::Center => None,
            AuditAckBy::Broker => {
                let through = self.under_way.iter().take_while(|b| b.delivered).last().map(|b| b.last)?;
                Some(self.moved(through, now))
            }
        }
    }

    /// The center has everything through event `through`. Gives the new cursor, if that moves it. Fails with [`AckError`] when that
    /// cannot be.
    pub fn acknowledged(&mut self, through: u64, last_durable: u64, now: Instant) -> Result<Option<u64>, AckError> {
        if through > last_durable {
            return Err(AckError::Beyond { through, last: last_durable });
        }
        if through > self.sent {
            return Err(AckError::NotSent { through, sent: self.sent });
        }
        Ok((through > self.acked).then(|| self.moved(through, now)))
    }

    fn moved(&mut self, through: u64, now: Instant) -> u64 {
        self.acked = through;
        self.next = self.next.max(through.saturating_add(1));
        self.under_way.retain(|batch| batch.last > through);
        self.waiting_since = (!self.under_way.is_empty()).then_some(now);
        through
    }

    /// Whether unacknowledged events have waited long enough to be sent again; if so, they will be.
    pub fn resend_is_due(&mut self, now: Instant) -> bool {
        let due = self.waiting_since.is_some_and(|since| now - since >= Duration::from_secs(RESEND_S));
        if due {
            self.start_again();
        }
        due
    }

    /// Everything unacknowledged is to be sent again, e.g. after a reconnect.
    pub fn start_again(&mut self) {
        self.under_way.clear();
        self.waiting_since = None;
        self.next = self.acked.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cursor_moves_only_when_the_center_acknowledges() {
        let now = Instant::now();
        let mut feed = Feed::new(AuditAckBy::Center, 100);
        assert_eq!(feed.wants(100), None);
        assert_eq!(feed.wants(500), Some(101));
        feed.sent(300, MessageId(1), now);
        assert_eq!(feed.wants(500), Some(301));
        assert_eq!(feed.delivered(MessageId(1), now), None);
        assert_eq!(feed.acknowledged(250, 500, now), Ok(Some(250)));
        assert_eq!(feed.acknowledged(200, 500, now), Ok(None), "cumulative: it never moves back");
        assert_eq!(feed.acked(), 250);
    }

    #[test]
    fn an_acknowledgement_of_what_was_never_sent_does_nothing() {
        let now = Instant::now();
        let mut feed = Feed::new(AuditAckBy::Center, 10);
        feed.sent(20, MessageId(1), now);
        assert_eq!(feed.acknowledged(40, 30, now), Err(AckError::Beyond { through: 40, last: 30 }));
        assert_eq!(feed.acknowledged(25, 30, now), Err(AckError::NotSent { through: 25, sent: 20 }));
        assert_eq!(feed.acked(), 10);
    }

    #[test]
    fn at_most_four_batches_are_under_way_and_all_go_again_after_half_a_minute() {
        let now = Instant::now();
        let mut feed = Feed::new(AuditAckBy::Center, 0);
        for n in 1..=4 {
            assert_eq!(feed.wants(1000), Some((n - 1) * 200 + 1));
            feed.sent(n * 200, MessageId(n), now);
        }
        assert_eq!(feed.wants(1000), None);
        let later = now + Duration::from_secs(20);
        assert_eq!(feed.acknowledged(400, 1000, later), Ok(Some(400)));
        assert_eq!(feed.wants(1000), Some(801));
        assert!(!feed.resend_is_due(now + Duration::from_secs(49)));
        assert!(feed.resend_is_due(now + Duration::from_secs(50)));
        assert_eq!(feed.wants(1000), Some(401));
        assert_eq!(feed.acknowledged(800, 1000, later), Ok(Some(800)), "an answer to the first sending counts");
        assert_eq!(feed.wants(1000), Some(801));
    }

    #[test]
    fn where_the_broker_acknowledges_the_cursor_follows_its_confirmations_in_order() {
        let now = Instant::now();
        let mut feed = Feed::new(AuditAckBy::Broker, 0);
        feed.sent(5, MessageId(1), now);
        feed.sent(9, MessageId(2), now);
        assert_eq!(feed.delivered(MessageId(2), now), None);
        assert_eq!(feed.delivered(MessageId(1), now), Some(9));
        assert_eq!(feed.acked(), 9);
    }

    #[test]
    fn where_the_broker_acknowledges_at_most_four_batches_go_again_after_half_a_minute_and_after_a_reconnect() {
        let now = Instant::now();
        let mut feed = Feed::new(AuditAckBy::Broker, 0);
        for n in 1..=4 {
            feed.sent(n * 200, MessageId(n), now);
        }
        assert_eq!(feed.wants(2000), None);
        // The second and the third came through; what is not confirmed in order goes again.
        assert_eq!(feed.delivered(MessageId(2), now), None);
        assert_eq!(feed.delivered(MessageId(1), now), Some(400));
        assert_eq!(feed.wants(2000), Some(801));
        feed.sent(1000, MessageId(5), now);
        assert!(!feed.resend_is_due(now + Duration::from_secs(29)));
        assert!(feed.resend_is_due(now + Duration::from_secs(30)));
        assert_eq!(feed.wants(2000), Some(401));
        // A confirmation of the first sending comes too late to be distinguished: it moves nothing, and nothing is lost.
        assert_eq!(feed.delivered(MessageId(3), now), None);
        assert_eq!((feed.acked(), feed.wants(2000)), (400, Some(401)));
        feed.sent(600, MessageId(6), now);
        feed.start_again();
        assert_eq!((feed.delivered(MessageId(6), now), feed.wants(2000)), (None, Some(401)));
        feed.sent(600, MessageId(7), now);
        assert_eq!((feed.delivered(MessageId(7), now), feed.acked()), (Some(600), 600));
    }

    #[test]
    fn the_last_number_that_there_is_ends_nothing() {
        let now = Instant::now();
        let mut feed = Feed::new(AuditAckBy::Center, u64::MAX - 1);
        assert_eq!(feed.wants(u64::MAX), Some(u64::MAX));
        feed.sent(u64::MAX, MessageId(1), now);
        assert_eq!(feed.acknowledged(u64::MAX, u64::MAX, now), Ok(Some(u64::MAX)));
        feed.start_again();
        assert_eq!((feed.acked(), Feed::new(AuditAckBy::Center, u64::MAX).wants(7)), (u64::MAX, None));
    }
}
