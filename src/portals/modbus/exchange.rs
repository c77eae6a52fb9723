//! What follows from the result of an exchange: for the caller, for the health of the unit, for late replies, and for the line, which is
//! out of step after an error and is kept quiet or opened again before the next request.

use std::time::Duration;

use tokio::time::Instant;

use super::bus::{Answer, BusError, Job, Sent, Task, within};
use super::connection::After;
use super::late::LATE_MS_MIN;
use super::line::{Line, LineError};
use super::log::{late_reply, log_request};
use super::queue::Priority;
use super::received::Received;
use crate::wire::modbus::{Exception, Reply, ReplyError, Request, Space};

impl Task {
    /// Ends a request that was sent; `None`: no answer in time.
    pub(super) async fn exchanged(&mut self, job: Job, sent: &Sent, result: Option<Result<Reply, LineError>>) {
        let Sent { begun, asked, limit, full, on_the_wire, was_offline } = *sent;
        let mut result = result;
        let unproven = self.connection.line.as_ref().is_some_and(|line| line.is_unproven(was_offline));
        if result.is_none() && unproven && self.is_confirmed(&job, limit).await {
            result = Some(Ok(Reply::Written));
        }
        let took = begun.elapsed();
        self.note_late();
        let serial = self.connection.baud().is_some();
        let (error, after) = match result {
            Some(Ok(_)) if serial && self.late.may_be_earlier(job.unit, &job.request, asked) => {
                self.answered(&job, took);
                // The confirmation of this write may still come.
                self.connection.poisoned(After::Nonsense).await;
                self.note_late();
                let cause = "its confirmation may be that of an earlier write".to_owned();
                return self.end(job, took, Err(BusError::Broken(cause)));
            }
            Some(Ok(reply)) => {
                self.answered(&job, took);
                return self.end(job, took, Ok(Answer { reply, at: Instant::now(), took }));
            }
            Some(Err(LineError::Reply(ReplyError::Refused(exception)))) if exception.is_of_a_gateway() => {
                // The gateway in front of the unit answers: the unit does not.
                let cause = exception.to_string();
                self.unanswered(&job, &cause, took);
                return self.end(job, took, Err(BusError::Timeout(cause)));
            }
            Some(Err(LineError::Reply(ReplyError::Refused(exception)))) => {
                self.refused(&job, exception, took);
                return self.end(job, took, Err(BusError::Refused(exception)));
            }
            // The connection was closed while the request was on its way, and a second read does no harm.
            Some(Err(LineError::Ended(_))) if !job.request.is_write() && self.connection.was_used() => {
                self.connection.closed_by_peer();
                return self.put_back(job);
            }
            Some(Err(error)) => {
                let after = if matches!(error, LineError::Ended(_)) { After::Ended } else { After::Nonsense };
                (BusError::Broken(error.to_string()), after)
            }
            None => {
                let received = self.connection.line.as_ref().map(Line::received).unwrap_or_default();
                let whole = job.request.reply_bytes() + 3;
                let after = match &received {
                    // An answer came, although it is spoilt: none is outstanding.
                    Received::Bytes(bytes, _) if serial && *bytes >= whole => After::Nonsense,
                    _ if was_offline => After::Probe,
                    _ => After::Silence,
                };
                (BusError::Timeout(received.cause(job.unit, limit)), after)
            }
        };
        let outstanding = matches!(after, After::Silence | After::Probe);
        if outstanding {
            self.late.missed(job.unit, &job.request, asked, full, on_the_wire);
        }
        self.connection.poisoned(after).await;
        self.note_late();
        if let BusError::Broken(cause) | BusError::Timeout(cause) = &error {
            self.unanswered(&job, cause, begun.elapsed());
        }
        if outstanding && serial {
            self.health.rest(job.unit, asked + Duration::from_millis(LATE_MS_MIN));
        }
        self.end(job, took, Err(error));
    }

    /// A write came back once, and it is not known yet whether the adapter returns what is sent. A read shows it: an echo comes before its
    /// answer, and if it does not come, what came back was the confirmation of the write.
    async fn is_confirmed(&mut self, job: &Job, limit: Duration) -> bool {
        let Some(line) = &mut self.connection.line else { return false };
        let space = if job.request.function() == 5 { Space::Coil } else { Space::Holding };
        let read = Request::Read { space, address: job.request.address(), count: 1 };
        let limit = Instant::now() + limit * 2;
        // What the device answers does not matter.
        within(&mut self.clock, limit, line.probe_echo(job.unit, &read)).await;
        line.is_proven()
    }

    /// Counts late replies, and logs those that are news.
    pub(super) fn note_late(&mut self) {
        for frame in self.connection.take_unsolicited() {
            let Some(late) = self.late.received(frame) else { continue };
            self.observer.late(self.connection.id(), frame.unit);
            if late.is_news {
                late_reply(self.connection.id(), frame.unit, &late);
            }
        }
    }

    fn works(&mut self, unit: u8) {
        self.connection.works();
        self.late.answered(unit);
    }

    fn answered(&mut self, job: &Job, took: Duration) {
        self.works(job.unit);
        if self.health.answered(job.unit, &job.request, took) {
            self.log_online(job);
        }
    }

    fn refused(&mut self, job: &Job, exception: Exception, took: Duration) {
        self.works(job.unit);
        let error = exception.to_string();
        if self.health.is_news(job.unit, &job.request, exception) {
            log_request!(warn, self.connection.id(), job, error, "the device answers with an exception");
        } else {
            log_request!(debug, self.connection.id(), job, error, "the device answers with the same exception again");
        }
        let is_of_the_moment = exception.is_busy() || exception.is_acceptance();
        let change = if is_of_the_moment && job.priority < Priority::Card {
            self.health.busy(job.unit, took).then_some(true)
        } else {
            let cause = format!("unit {} on `{}` answers every request with {error}", job.unit, self.connection.id());
            self.health.refused(job.unit, &cause, took, Instant::now())
        };
        match change {
            Some(true) => self.log_online(job),
            Some(false) => {
                let error = "it answers every request with an exception";
                log_request!(warn, self.connection.id(), job, error, "the unit is offline");
            }
            None => {}
        }
    }

    fn unanswered(&mut self, job: &Job, cause: &str, took: Duration) {
        let cause_of_unit = format!("unit {} on `{}`: {cause}", job.unit, self.connection.id());
        if self.health.silent(job.unit, &cause_of_unit, took, Instant::now()) {
            log_request!(warn, self.connection.id(), job, error = cause, "the unit is offline");
        } else {
            log_request!(debug, self.connection.id(), job, error = cause, "a request was not answered");
        }
    }

    fn log_online(&self, job: &Job) {
        log_request!(info, self.connection.id(), job, "the unit answers again");
    }
}
