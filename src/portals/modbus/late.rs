//! Answers that come when nobody waits for them any more: whose they are, and how late.
//!
//! A serial line has no number that ties an answer to its request. So a unit that owes an answer is not polled again before
//! [`LATE_MS_MIN`] is over, and what comes meanwhile is dropped. What is written is echoed with its value and waits for nothing, and an
//! echo without it (FC 15 and 16) does not count while one to something else is owed; the read-back after it is safe too, because a
//! device answers in order: what it owed came before the echo.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::wire::modbus::Request;

use super::stray::Stray;

/// How long after a request that was not answered its unit is not polled on a serial line, in milliseconds: an answer that is late by
/// less is never taken for that to another poll.
pub const LATE_MS_MIN: u64 = 1000;
/// How long a unit must have given no late answer until the next one is said again, in milliseconds.
const EPISODE_MS: u64 = 60_000;

/// What a unit was asked and has not answered.
struct Owed {
    request: Request,
    asked: Instant,
    /// The time that the bytes of request and answer take.
    on_the_wire: Duration,
    /// How long it was to be waited for beside that.
    given: Duration,
}

/// An answer that came too late.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Late {
    pub(super) function: u8,
    pub(super) address: u16,
    /// The first in a while, so it is worth saying.
    pub(super) is_news: bool,
    /// How long the device took, without the time of the bytes.
    pub(super) took: Duration,
    /// How long it may take.
    pub(super) given: Duration,
}

/// Which units of one serial line owe an answer, and which were late.
#[derive(Default)]
pub(super) struct Lateness {
    owed: HashMap<u8, Owed>,
    late_at: HashMap<u8, Instant>,
}

impl Lateness {
    /// `unit` was asked at `asked` and did not answer within `given` and the time of the bytes, or not for as long as it was waited.
    pub(super) fn owes(&mut self, unit: u8, request: &Request, asked: Instant, given: Duration, on_the_wire: Duration) {
        self.owed.insert(unit, Owed { request: request.clone(), asked, on_the_wire, given });
    }

    /// Whether the answer of `unit` to this write may as well be that to another one before: the echo of several bits or registers does
    /// not say what was written.
    pub(super) fn may_be_earlier(&self, unit: u8, request: &Request, now: Instant) -> bool {
        let several = matches!(request, Request::WriteCoils { .. } | Request::WriteRegisters { .. });
        let place = |request: &Request| (request.function(), request.address());
        self.owed.get(&unit).filter(|_| several).is_some_and(|owed| {
            let still = now.saturating_duration_since(owed.asked) < Duration::from_millis(LATE_MS_MIN);
            still && owed.request != *request && place(&owed.request) == place(request)
        })
    }

    /// `unit` has answered what it was asked.
    pub(super) fn answered(&mut self, unit: u8) {
        self.owed.remove(&unit);
    }

    /// A stray frame came. Gives what it answers too late, if anything; an answer that was only not waited for is none.
    pub(super) fn heard(&mut self, stray: Stray) -> Option<Late> {
        let Owed { request, asked, on_the_wire, given } = self.owed.get(&stray.unit)?;
        let (function, address, given) = (request.function(), request.address(), *given);
        let took = stray.at.saturating_duration_since(*asked).saturating_sub(*on_the_wire);
        if stray.function & 0x7F != function || took <= given {
            return None;
        }
        self.owed.remove(&stray.unit);
        let before = self.late_at.insert(stray.unit, stray.at);
        let is_news = before.is_none_or(|before| stray.at - before >= Duration::from_millis(EPISODE_MS));
        Some(Late { function, address, is_news, took, given })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::modbus::Space;

    const GIVEN: Duration = Duration::from_millis(200);
    const WIRE: Duration = Duration::from_millis(10);

    fn ask(lateness: &mut Lateness, asked: Instant) {
        let request = Request::Read { space: Space::Holding, address: 7, count: 1 };
        lateness.owes(1, &request, asked, GIVEN, WIRE);
    }

    #[tokio::test]
    async fn a_late_answer_is_told_with_its_time_once_an_episode() {
        let (mut lateness, start) = (Lateness::default(), Instant::now());
        let late = |lateness: &mut Lateness, s: u64, after_ms: u64| {
            let asked = start + Duration::from_secs(s);
            ask(lateness, asked);
            lateness.heard(Stray { unit: 1, function: 3, at: asked + Duration::from_millis(after_ms) })
        };
        let took = Duration::from_millis(340);
        let first = Late { function: 3, address: 7, is_news: true, took, given: GIVEN };
        assert_eq!(late(&mut lateness, 0, 350), Some(first));
        assert_eq!(late(&mut lateness, 50, 350).map(|late| late.is_news), Some(false));
        assert_eq!(late(&mut lateness, 109, 350).map(|late| late.is_news), Some(false));
        assert_eq!(late(&mut lateness, 170, 350).map(|late| late.is_news), Some(true));
        // A dead unit is waited for shortly: an answer after that was in time.
        assert_eq!(late(&mut lateness, 300, 205), None);
    }

    #[tokio::test]
    async fn what_nobody_owes_is_not_late() {
        let (mut lateness, asked) = (Lateness::default(), Instant::now());
        let at = asked + Duration::from_millis(500);
        ask(&mut lateness, asked);
        assert_eq!(lateness.heard(Stray { unit: 2, function: 3, at }), None);
        assert_eq!(lateness.heard(Stray { unit: 1, function: 4, at }), None);
        lateness.answered(1);
        assert_eq!(lateness.heard(Stray { unit: 1, function: 3, at }), None);
        // A refusal is an answer too, and each is owed once.
        ask(&mut lateness, asked);
        assert!(lateness.heard(Stray { unit: 1, function: 0x83, at }).is_some());
        assert_eq!(lateness.heard(Stray { unit: 1, function: 0x83, at }), None);
    }
}
