//! Whether the broker delivers what it was given: judged by what the gateway has to ask for again. It changes nothing about the
//! link; it names what somebody has to put right at the broker or at a center.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::feed::RESEND_S;
use crate::access::effect::{Have, Resync, ResyncReason};
use crate::access::engine::StreamStatus;
use crate::access::id::StreamName;
use crate::config::Session;
use crate::mqtt::{BrokerFault, LinkMetrics};

/// A broker that keeps retained heads has sent one this soon after the subscription, in seconds.
const HEAD_WITHIN_S: u64 = 10;
/// After a pause this long the broker's queue counts as empty, in milliseconds.
const QUIET_MS: u64 = 1_000;
/// So many times the same was asked for, or sent, in vain before it is a fault; each time is 30 s.
const IN_VAIN_MAX: u32 = 3;

/// See the module's head.
#[derive(Debug)]
pub(super) struct BrokerWatch {
    metrics: Arc<LinkMetrics>,
    session: Session,
    /// The broker kept the session when the link came up last, and has delivered in order since.
    session_kept: bool,
    /// Everything comes with QoS 0, past what waits in the session: a hole then is not the broker's fault.
    unacknowledged: bool,
    /// When the link came up, until a head came or none was found retained.
    waits_for_head: Option<Instant>,
    /// A head came on this connection.
    heads_now: bool,
    /// A head came on an earlier one, so the broker has to have it.
    heads_before: bool,
    /// When the last change or part of a snapshot came.
    news_at: Option<Instant>,
    /// Streams of which messages were found lost on this connection.
    lost: HashSet<StreamName>,
    /// What each stream was last asked for, and how often.
    asked: HashMap<StreamName, (Have, u32)>,
    /// How often the audit was sent again since it was last acknowledged.
    audit_again: u32,
}

impl BrokerWatch {
    pub(super) fn new(session: Session, metrics: Arc<LinkMetrics>) -> Self {
        Self {
            metrics,
            session,
            session_kept: false,
            unacknowledged: false,
            waits_for_head: None,
            heads_now: false,
            heads_before: false,
            news_at: None,
            lost: HashSet::new(),
            asked: HashMap::new(),
            audit_again: 0,
        }
    }

    /// The link is connected and subscribed.
    pub(super) fn up(&mut self, session_present: bool, now: Instant) {
        self.session_kept = session_present && self.session == Session::Persistent && !self.unacknowledged;
        self.waits_for_head = Some(now);
        self.heads_before |= std::mem::take(&mut self.heads_now);
        self.news_at = Some(now);
        self.lost.clear();
        self.asked.clear();
        self.audit_again = 0;
        for fault in [BrokerFault::LosesMessages, BrokerFault::DropsAnswers, BrokerFault::DropsAudit] {
            self.metrics.faults.over(fault);
        }
    }

    /// From now on everything comes with QoS 0, or not any more.
    pub(super) fn unacknowledged(&mut self, yes: bool) {
        (self.unacknowledged, self.session_kept) = (yes, self.session_kept && !yes);
    }

    /// The connection is lost.
    pub(super) fn down(&mut self) {
        self.waits_for_head = None;
    }

    /// A change or a part of a snapshot came.
    pub(super) fn news(&mut self, now: Instant) {
        self.news_at = Some(now);
    }

    /// A head came; `is_retained`: the broker had kept it.
    pub(super) fn head(&mut self, is_retained: bool) {
        self.waits_for_head = None;
        self.heads_now = true;
        // Until a connection after the first head, the center may have published none that was to be kept.
        if is_retained || !self.heads_before {
            self.metrics.faults.over(BrokerFault::KeepsNoHead);
        }
    }

    /// Time has passed.
    pub(super) fn tick(&mut self, now: Instant) {
        if self.waits_for_head.is_some_and(|since| now - since > Duration::from_secs(HEAD_WITHIN_S)) {
            self.waits_for_head = None;
            let detail = format!(
                "no retained `head` came within {HEAD_WITHIN_S} s of the connection: what was missed meanwhile is noticed with the next head or change; have the broker keep retained messages (mosquitto: `retain_available true`, `persistence true`), or a center publish its first head"
            );
            self.found(BrokerFault::KeepsNoHead, "", &detail);
        }
    }

    /// A stream is asked to send again.
    pub(super) fn asks(&mut self, resync: &Resync, now: Instant) {
        let Resync { stream, reason, have, missing } = resync;
        // Without a hole, what lies between here and the head may still be on its way out of the broker's queue.
        let is_quiet = self.news_at.is_none_or(|at| now - at > Duration::from_millis(QUIET_MS));
        let is_lost = *reason == ResyncReason::Gap && (is_quiet || !missing.is_empty());
        if self.session_kept && is_lost && self.lost.insert(stream.clone()) {
            let first = missing.first().map_or(have.seq.saturating_add(1), |(from, _)| *from);
            let detail = format!(
                "the broker kept the session, and yet messages of {stream} are missing from {first} on; they are asked for again. Raise `max_queued_messages` at the broker (a stock mosquitto keeps 1 000 and drops the newest), or look whether the center published them, or whether an older data directory was put back here"
            );
            self.found(BrokerFault::LosesMessages, stream.as_str(), &detail);
        }
        if *reason == ResyncReason::Asked {
            return;
        }
        let times = match self.asked.get(stream) {
            Some((before, times)) if before == have => times.saturating_add(1),
            _ => 1,
        };
        self.asked.insert(stream.clone(), (*have, times));
        if times >= IN_VAIN_MAX {
            let detail = format!(
                "{stream} was asked {IN_VAIN_MAX} times for what follows {}.{}, and it does not come: its center does not answer, or the broker drops long messages (mosquitto: `message_size_limit` and `max_packet_size`, NATS: `max_payload`; at least 512 KiB)",
                have.epoch, have.seq
            );
            self.found(BrokerFault::DropsAnswers, stream.as_str(), &detail);
        }
    }

    /// A snapshot of the stream came, and was applied or rejected: the broker did not drop it.
    pub(super) fn answered(&mut self, stream: &StreamName) {
        self.asked.remove(stream);
        self.metrics.faults.over_for(BrokerFault::DropsAnswers, stream.as_str());
    }

    /// How far the streams are.
    pub(super) fn reached(&mut self, streams: &[StreamStatus]) {
        for status in streams {
            let moved = |(have, _): &(Have, u32)| (have.epoch, have.seq) != (status.epoch, status.seq);
            if self.asked.get(&status.name).is_some_and(moved) {
                self.asked.remove(&status.name);
                self.metrics.faults.over_for(BrokerFault::DropsAnswers, status.name.as_str());
            }
        }
    }

    /// Batches of the audit are sent again, because no acknowledgement came.
    pub(super) fn audit_sent_again(&mut self) {
        self.audit_again = self.audit_again.saturating_add(1);
        if self.audit_again >= IN_VAIN_MAX {
            let detail = format!(
                "the audit was sent again {IN_VAIN_MAX} times, every {RESEND_S} s, and no center acknowledges it: it is not connected, or the broker drops batches (they have up to 64 KiB)"
            );
            self.found(BrokerFault::DropsAudit, "", &detail);
        }
    }

    /// A center acknowledged the audit.
    pub(super) fn audit_acknowledged(&mut self) {
        self.audit_again = 0;
        self.metrics.faults.over(BrokerFault::DropsAudit);
    }

    fn found(&self, fault: BrokerFault, subject: &str, detail: &str) {
        self.metrics.faults.found("uplink", fault, subject, detail);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A watch at the beginning of its first connection, and that time.
    fn connected() -> (BrokerWatch, Instant) {
        let (mut watch, now) = (BrokerWatch::new(Session::Persistent, Arc::default()), Instant::now());
        watch.up(false, now);
        (watch, now)
    }

    fn faults(watch: &BrokerWatch) -> Vec<BrokerFault> {
        let all = watch.metrics.faults.all();
        all.iter().for_each(|(_, detail)| crate::chinese::is_in_chinese(detail));
        all.into_iter().map(|(fault, _)| fault).collect()
    }

    fn later(now: Instant, s: u64) -> Instant {
        now + Duration::from_secs(s)
    }

    #[test]
    fn a_head_that_is_published_later_than_the_connection_was_made_ends_the_fault_that_none_is_kept() {
        let (mut watch, now) = connected();
        watch.tick(later(now, HEAD_WITHIN_S));
        assert_eq!(faults(&watch), []);
        watch.tick(later(now, HEAD_WITHIN_S + 1));
        assert_eq!(faults(&watch), [BrokerFault::KeepsNoHead]);
        watch.head(false);
        assert_eq!(faults(&watch), [], "the center had published none before");
        // On the next connection the broker has to have it.
        watch.down();
        watch.up(true, now);
        watch.tick(later(now, HEAD_WITHIN_S + 1));
        watch.head(false);
        assert_eq!(faults(&watch), [BrokerFault::KeepsNoHead]);
        watch.head(true);
        assert_eq!(faults(&watch), []);
    }

    #[test]
    fn a_head_in_time_is_waited_for_no_longer() {
        for is_retained in [true, false] {
            let (mut watch, now) = connected();
            watch.head(is_retained);
            watch.tick(later(now, HEAD_WITHIN_S + 1));
            assert_eq!(faults(&watch), [], "{is_retained}");
        }
    }

    #[test]
    fn an_answer_that_arrived_was_not_dropped() {
        let (mut watch, now) = connected();
        let stream: StreamName = "office".parse().unwrap();
        let have = Have { epoch: 1, seq: 3 };
        let resync = Resync { stream: stream.clone(), reason: ResyncReason::Digest, have, missing: Vec::new() };
        for _ in 0..2 * IN_VAIN_MAX {
            watch.asks(&resync, now);
            watch.answered(&stream);
        }
        assert_eq!(faults(&watch), []);
        for _ in 0..IN_VAIN_MAX {
            watch.asks(&resync, now);
        }
        assert_eq!(faults(&watch), [BrokerFault::DropsAnswers]);
        watch.answered(&stream);
        assert_eq!(faults(&watch), []);
    }

    #[test]
    fn what_a_center_ends_its_numbers_with_ends_nothing_here() {
        let (mut watch, now) = connected();
        watch.up(true, now);
        let have = Have { epoch: 1, seq: u64::MAX };
        let stream = "office".parse().unwrap();
        watch.asks(&Resync { stream, reason: ResyncReason::Gap, have, missing: Vec::new() }, later(now, 2));
        assert_eq!(faults(&watch), [BrokerFault::LosesMessages]);
    }
}
