//! Messages without effect: recorded, and answered where somebody who is known waits for an answer.
//!
//! Anybody who may publish to one topic can send any number of them, so of each kind only so many a minute are recorded one by
//! one, and nothing is flushed for them.

use std::collections::BTreeMap;

use super::super::change::{Changes, ErrorCode, OpError};
use super::super::effect::{Ack, Effect, Outcome, Reply};
use super::super::event::{Event, Flush, ReplyStatus};
use super::super::id::{Now, Timestamp};
use super::super::input::{MessageKind, Receipt, RejectedMessage};
use super::Engine;
use super::deadlines::Due;

/// Rejected messages of one kind recorded one by one within [`REJECTIONS_WINDOW_MS`]; the others are counted.
pub const REJECTIONS_RECORDED_MAX: u32 = 60;
/// The time in which [`REJECTIONS_RECORDED_MAX`] counts, in milliseconds; at its end one event counts the others.
pub const REJECTIONS_WINDOW_MS: u64 = 60_000;

/// The rejected messages of one kind since the window began.
#[derive(Debug)]
struct Window {
    recorded: u32,
    counted: u64,
    /// What was wrong with the last one that was only counted.
    last: ErrorCode,
}

/// The windows that are open, by kind.
#[derive(Debug, Default)]
pub(super) struct Rejections(BTreeMap<MessageKind, Window>);

impl Engine {
    /// A message without effect. A command is answered as long as such messages are recorded one by one.
    pub(super) fn rejected(&mut self, rejected: RejectedMessage, now: Now) {
        let from = rejected.claimed_stream.as_ref();
        let from = from.map_or(String::new(), |stream| format!(" that claims to be from {stream}"));
        let at = rejected.claimed_at.map_or(String::new(), |at| format!(" {}.{}", at.epoch, at.seq));
        let detail = format!("{}{from}{at}: {}", rejected.kind.as_str(), self.audited(&rejected.error));
        let recorded = self.record_rejection(rejected.kind, rejected.error.code, detail, now);
        if rejected.kind == MessageKind::Command {
            if recorded {
                let (status, error) = (ReplyStatus::Rejected, Some(rejected.error));
                let reply = Reply { jti: rejected.claimed_jti, status, error, result: None };
                self.out.push(Effect::Reply { after: 0, reply: Box::new(reply) });
            }
        } else if let Some(receipt) = rejected.receipt {
            let errors = vec![rejected.error];
            let ack = match &rejected.claimed_stream {
                Some(stream) => self.ack(stream, rejected.claimed_at, Outcome::Rejected, errors, rejected.received_at),
                None => Ack::rejected(errors, rejected.received_at),
            };
            self.out.push(Effect::Acknowledge { after: 0, ack: Box::new(ack), receipt });
        }
    }

    /// A well signed message too far above what is known of its stream: it uses up nothing, so nothing waits for the disk.
    pub(super) fn implausible_changes(
        &mut self,
        changes: &Changes,
        receipt: Receipt,
        received_at: Timestamp,
        now: Now,
    ) {
        let error = self.implausible(MessageKind::Changes, changes.stream.as_str(), changes.at, now);
        let ack = self.ack(&changes.stream, Some(changes.at), Outcome::Rejected, vec![error], received_at);
        self.out.push(Effect::Acknowledge { after: 0, ack: Box::new(ack), receipt });
    }

    /// Records that a message is implausible and gives the error.
    pub(super) fn implausible(
        &mut self,
        kind: MessageKind,
        stream: &str,
        at: super::super::change::Position,
        now: Now,
    ) -> OpError {
        let message = format!(
            "message {}.{} of `{stream}` is too far above what is known of that stream; if the numbers are right, let the gateway forget the stream: `dormgate stream forget {stream}`",
            at.epoch, at.seq
        );
        self.record_rejection(kind, ErrorCode::Implausible, message.clone(), now);
        OpError::message(ErrorCode::Implausible, message)
    }

    /// Records a rejected message, or counts it if too many of its kind came within the minute. Reports whether it was recorded.
    pub(super) fn record_rejection(&mut self, kind: MessageKind, code: ErrorCode, detail: String, now: Now) -> bool {
        self.out.push(Effect::Rejected { kind, code });
        let recorded = self.is_recorded_alone(kind, code, now);
        if recorded {
            self.record(Event::RejectedMessage { code, used_up: None, count: 0, detail }, Flush::Soon, now);
        }
        recorded
    }

    /// Whether a message without effect is to have an event of its own; it is counted if too many of its kind came within the minute.
    pub(super) fn is_recorded_alone(&mut self, kind: MessageKind, code: ErrorCode, now: Now) -> bool {
        let window = self.rejections.0.entry(kind).or_insert_with(|| {
            self.deadlines.set(Due::Rejections(kind), Some(now.mono.plus_ms(REJECTIONS_WINDOW_MS)));
            Window { recorded: 0, counted: 0, last: code }
        });
        let recorded = window.recorded < REJECTIONS_RECORDED_MAX;
        if recorded {
            window.recorded += 1;
        } else {
            (window.counted, window.last) = (window.counted.saturating_add(1), code);
        }
        recorded
    }

    /// The window of a kind has ended: records how many were only counted in it.
    pub(super) fn rejections_due(&mut self, kind: MessageKind, now: Now) {
        let window = self.rejections.0.remove(&kind);
        if let Some(Window { counted, last, .. }) = window.filter(|window| window.counted > 0) {
            let kind = kind.as_str();
            let detail = format!("of the kind {kind} more were rejected within a minute; the code is the last one's");
            let event = Event::RejectedMessage { code: last, used_up: None, count: counted, detail };
            self.record(event, Flush::Soon, now);
        }
    }
}
