//! Late replies: which request they answer, and how late they are.
//!
//! A serial line has no number that ties a reply to its request. So a unit with an outstanding reply is not polled again before
//! [`LATE_MS_MIN`] is over, and what comes meanwhile is dropped. A write is confirmed with its value and waits for nothing; a
//! confirmation without it (FC 15 and 16) does not count while one of another write is outstanding. The read-back after it is safe
//! too, because a device answers in order: the outstanding reply came before the confirmation.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::wire::modbus::Request;

use super::received::Unsolicited;

/// How long after a request that was not answered its unit is not polled on a serial line, in milliseconds: an answer that is late by
/// less is never taken for that to another poll.
pub const LATE_MS_MIN: u64 = 1000;
/// How long a unit must have sent no late reply until the next one is logged again, in milliseconds.
const EPISODE_MS: u64 = 60_000;

/// What a unit was asked and has not answered.
struct Outstanding {
    request: Request,
    asked: Instant,
    /// The time that the bytes of request and answer take.
    on_the_wire: Duration,
    /// How long the answer may take beside that.
    given: Duration,
}

/// A reply that came too late.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Late {
    pub(super) function: u8,
    pub(super) address: u16,
    /// The first in a while, so it is worth a warning.
    pub(super) is_news: bool,
    /// How long the device took, without the time of the bytes.
    pub(super) took: Duration,
    /// How long it may take.
    pub(super) given: Duration,
}

/// The units of one serial line with an outstanding reply, and those that were late.
#[derive(Default)]
pub(super) struct LateReplies {
    outstanding: HashMap<u8, Outstanding>,
    late_at: HashMap<u8, Instant>,
}

impl LateReplies {
    /// `unit` was asked at `asked` and did not answer within `given` and the time of the bytes, or not for as long as it was waited.
    pub(super) fn missed(
        &mut self,
        unit: u8,
        request: &Request,
        asked: Instant,
        given: Duration,
        on_the_wire: Duration,
    ) {
        self.outstanding.insert(unit, Outstanding { request: request.clone(), asked, on_the_wire, given });
    }

    /// Whether the answer of `unit` to this write may as well be that to another one before: the echo of several bits or registers does
    /// not report what was written.
    pub(super) fn may_be_earlier(&self, unit: u8, request: &Request, now: Instant) -> bool {
        let several = matches!(request, Request::WriteCoils { .. } | Request::WriteRegisters { .. });
        let place = |request: &Request| (request.function(), request.address());
        self.outstanding.get(&unit).filter(|_| several).is_some_and(|outstanding| {
            let still = now.saturating_duration_since(outstanding.asked) < Duration::from_millis(LATE_MS_MIN);
            still && outstanding.request != *request && place(&outstanding.request) == place(request)
        })
    }

    /// `unit` has answered what it was asked.
    pub(super) fn answered(&mut self, unit: u8) {
        self.outstanding.remove(&unit);
    }

    /// An unsolicited frame was received. Gives what it answers too late, if anything; a reply to a probe that was not waited for is
    /// not late.
    pub(super) fn received(&mut self, frame: Unsolicited) -> Option<Late> {
        let Outstanding { request, asked, on_the_wire, given } = self.outstanding.get(&frame.unit)?;
        let (function, address, given) = (request.function(), request.address(), *given);
        let took = frame.at.saturating_duration_since(*asked).saturating_sub(*on_the_wire);
        if frame.function & 0x7F != function || took <= given {
            return None;
        }
        self.outstanding.remove(&frame.unit);
        let before = self.late_at.insert(frame.unit, frame.at);
        let is_news = before.is_none_or(|before| frame.at - before >= Duration::from_millis(EPISODE_MS));
        Some(Late { function, address, is_news, took, given })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::modbus::Space;

    const GIVEN: Duration = Duration::from_millis(200);
    const WIRE: Duration = Duration::from_millis(10);

    fn ask(replies: &mut LateReplies, asked: Instant) {
        let request = Request::Read { space: Space::Holding, address: 7, count: 1 };
        replies.missed(1, &request, asked, GIVEN, WIRE);
    }

    #[tokio::test]
    async fn a_late_reply_is_reported_with_its_time_once_an_episode() {
        let (mut replies, start) = (LateReplies::default(), Instant::now());
        let late = |replies: &mut LateReplies, s: u64, after_ms: u64| {
            let asked = start + Duration::from_secs(s);
            ask(replies, asked);
            replies.received(Unsolicited { unit: 1, function: 3, at: asked + Duration::from_millis(after_ms) })
        };
        let took = Duration::from_millis(340);
        let first = Late { function: 3, address: 7, is_news: true, took, given: GIVEN };
        assert_eq!(late(&mut replies, 0, 350), Some(first));
        assert_eq!(late(&mut replies, 50, 350).map(|late| late.is_news), Some(false));
        assert_eq!(late(&mut replies, 109, 350).map(|late| late.is_news), Some(false));
        assert_eq!(late(&mut replies, 170, 350).map(|late| late.is_news), Some(true));
        // An offline unit is waited for only briefly: an answer after that is not late.
        assert_eq!(late(&mut replies, 300, 205), None);
    }

    #[tokio::test]
    async fn a_reply_that_is_not_outstanding_is_not_late() {
        let (mut replies, asked) = (LateReplies::default(), Instant::now());
        let at = asked + Duration::from_millis(500);
        ask(&mut replies, asked);
        assert_eq!(replies.received(Unsolicited { unit: 2, function: 3, at }), None);
        assert_eq!(replies.received(Unsolicited { unit: 1, function: 4, at }), None);
        replies.answered(1);
        assert_eq!(replies.received(Unsolicited { unit: 1, function: 3, at }), None);
        // A refusal is an answer too, and each is outstanding once.
        ask(&mut replies, asked);
        assert!(replies.received(Unsolicited { unit: 1, function: 0x83, at }).is_some());
        assert_eq!(replies.received(Unsolicited { unit: 1, function: 0x83, at }), None);
    }
}
