//! One task a physical line. It owns the line and is the only one to speak on it.
//!
//! Owns the order of requests, their deadlines, and what an error does: the line is out of step and is settled or opened anew
//! before the next request. It does not try a request twice; whoever asked knows whether that is safe.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::wire::modbus::{Exception, ReplyError, Request};

use super::bus::{Answer, BusError, BusSpec, Job};
use super::health::Health;
use super::heard::Came;
use super::late::{LATE_MS_MIN, Lateness};
use super::line::{Line, LineError, NotReady};
use super::load;
use super::observe::{Observer, Outcome};
use super::queue::Queue;
use super::refusals::Refusals;

/// First wait before a line that cannot be opened is tried again, in milliseconds.
pub const REOPEN_MS_MIN: u64 = 100;
/// Longest wait before a line that cannot be opened is tried again, in milliseconds.
pub const REOPEN_MS_MAX: u64 = 5000;
/// Failures in a row, of whichever units, after which a serial port is closed and opened anew.
const FAILURES_TO_REOPEN: u32 = 8;
/// How long a serial port is kept quiet after it was opened, in milliseconds: what an earlier program asked is answered meanwhile.
const OPEN_QUIET_MS: u64 = 50;

/// What `work` brings until `deadline`; `None`: it is not done by then.
async fn within<T>(clock: &mut Pin<Box<Sleep>>, deadline: Instant, work: impl Future<Output = T>) -> Option<T> {
    clock.as_mut().reset(deadline);
    tokio::select! {
        biased;
        done = work => Some(done),
        () = clock => None,
    }
}

/// What went wrong in an exchange.
#[derive(Clone, Copy)]
enum After {
    /// The line has ended.
    Ended,
    /// A wrong answer.
    Nonsense,
    /// No answer, or only another's, or bytes that are nobody's.
    Silence,
    /// No answer of a unit that had been silent before.
    Probe,
}

pub(super) struct Task {
    spec: BusSpec,
    timeout: Duration,
    slowest: Duration,
    reply_times: HashMap<u8, Duration>,
    health: Health,
    lateness: Lateness,
    refusals: Refusals,
    observer: Arc<dyn Observer>,
    waiting: mpsc::Receiver<Job>,
    queue: Queue<Job>,
    line: Option<Line>,
    /// Rings when an answer is too late. One for all requests: setting a new one for each costs the runtime a wake-up of its own.
    clock: Pin<Box<Sleep>>,
    transaction: u16,
    /// Somebody answered on this connection.
    used: bool,
    failures: u32,
    reopen_wait: Duration,
    reopen_at: Instant,
    last_cause: String,
}

impl Task {
    /// `reply_times` are the units that will be asked, each with its slowest reply.
    pub(super) fn new(
        spec: BusSpec,
        reply_times: HashMap<u8, Duration>,
        health: Health,
        observer: Arc<dyn Observer>,
        waiting: mpsc::Receiver<Job>,
    ) -> Self {
        let timeout = Duration::from_millis(u64::from(spec.timeout_ms));
        let slowest = reply_times.values().copied().max().unwrap_or(timeout).max(timeout);
        Self {
            spec,
            timeout,
            slowest,
            reply_times,
            health,
            lateness: Lateness::default(),
            refusals: Refusals::default(),
            observer,
            waiting,
            queue: Queue::new(),
            line: None,
            clock: Box::pin(sleep_until(Instant::now())),
            transaction: 1,
            used: false,
            failures: 0,
            reopen_wait: Duration::from_millis(REOPEN_MS_MIN),
            reopen_at: Instant::now(),
            last_cause: String::new(),
        }
    }

    /// Ends when nobody can ask any more, so that the last relays are switched off before the line goes.
    pub(super) async fn run(mut self) {
        loop {
            while let Ok(job) = self.waiting.try_recv() {
                self.enqueue(job);
            }
            if let Some(job) = self.queue.pop() {
                self.serve(job).await;
                continue;
            }
            match self.waiting.recv().await {
                Some(job) => self.enqueue(job),
                None => return,
            }
        }
    }

    fn enqueue(&mut self, job: Job) {
        self.queue.push(self.health.lane(job.unit, job.priority), job);
    }

    fn put_back(&mut self, job: Job) {
        self.queue.put_back(self.health.lane(job.unit, job.priority), job);
    }

    async fn serve(&mut self, job: Job) {
        let now = Instant::now();
        if job.answer.is_closed() {
            return;
        }
        if job.is_late(now) {
            return self.expired(job);
        }
        if let Some(cause) = self.health.barred(job.unit, job.priority, now) {
            return self.end(job, Outcome::Barred, Duration::ZERO, Err(BusError::Offline(cause)));
        }
        let on_the_wire = self.on_the_wire(&job.request);
        let Some(line) = &mut self.line else {
            match self.open(now).await {
                // Opening took time: what is most urgent now may be another request.
                Ok(()) => self.put_back(job),
                Err(cause) => self.end(job, Outcome::LineDown, Duration::ZERO, Err(BusError::Offline(cause))),
            }
            return;
        };
        if let Err(why) = line.ready().await {
            return self.not_ready(job, why).await;
        }
        let asked = Instant::now();
        // The line may have taken its time to fall silent, and what opens may not open late.
        if job.is_late(asked) {
            return self.expired(job);
        }
        self.health.asked(job.unit, job.priority);
        let full = self.reply_times.get(&job.unit).copied().unwrap_or_default().max(self.timeout);
        let probe = self.health.is_dead(job.unit);
        let short = self.health.short(job.unit, full, now);
        let limit = short.unwrap_or(full) + on_the_wire;
        let result = within(&mut self.clock, asked + limit, line.ask(job.unit, &job.request)).await;
        let took = now.elapsed();
        self.hear_strays();
        let serial = self.line.as_ref().is_some_and(Line::can_settle);
        let (cause, outcome, after) = match result {
            Some(Ok(_)) if serial && self.lateness.may_be_earlier(job.unit, &job.request, asked) => {
                self.heard(&job, took);
                // Its own may come yet.
                self.poisoned(After::Nonsense).await;
                let cause = "its echo may be that of an earlier write".to_owned();
                return self.end(job, Outcome::Broken, took, Err(BusError::Unknown(cause)));
            }
            Some(Ok(reply)) => {
                self.heard(&job, took);
                self.refusals.answered(job.unit, &job.request);
                return self.end(job, Outcome::Ok, took, Ok(Answer { reply, at: Instant::now() }));
            }
            Some(Err(LineError::Reply(ReplyError::Refused(exception)))) => {
                // A gateway that says that the unit is not there speaks for nobody.
                if exception == Exception::NO_SUCH_UNIT || exception == Exception(10) {
                    self.not_heard(&job, &exception.to_string(), took);
                    return self.end(job, Outcome::Timeout, took, Err(BusError::Unknown(exception.to_string())));
                }
                self.heard(&job, took);
                if self.refusals.is_news(job.unit, &job.request, exception) {
                    self.warn(&job, &exception.to_string(), "the device refuses a request");
                } else {
                    self.debug(&job, &exception.to_string(), "the device refuses a request again");
                }
                return self.end(job, Outcome::Refused, took, Err(BusError::Refused(exception)));
            }
            Some(Err(error)) => {
                let after = match error {
                    LineError::Ended(_) => After::Ended,
                    LineError::WrongUnit { .. } | LineError::NoFrame(_) => After::Silence,
                    LineError::NotReady(_) | LineError::NotModbus | LineError::Checksum | LineError::Reply(_) => {
                        After::Nonsense
                    }
                };
                (error.to_string(), Outcome::Broken, after)
            }
            None => {
                let after = if probe { After::Probe } else { After::Silence };
                (self.unanswered(job.unit, limit), Outcome::Timeout, after)
            }
        };
        let owes = matches!(after, After::Silence | After::Probe);
        if owes {
            self.lateness.owes(job.unit, &job.request, asked, full, on_the_wire);
        }
        self.poisoned(after).await;
        self.not_heard(&job, &cause, now.elapsed());
        if owes && serial {
            self.health.rest(job.unit, asked + Duration::from_millis(LATE_MS_MIN));
        }
        self.end(job, outcome, took, Err(BusError::Unknown(cause)));
    }

    /// Why there is no answer: a device that is off is another errand than bytes that are spoilt, or another device with its number.
    fn unanswered(&self, asked: u8, limit: Duration) -> String {
        let ms = limit.as_millis();
        match self.line.as_ref().map(Line::came).unwrap_or_default() {
            Came::Nothing => format!("no answer within {ms} ms"),
            Came::Piece(bytes) => format!("no whole answer within {ms} ms: {bytes} bytes came and make none"),
            Came::OtherRequest => format!("no answer within {ms} ms, only one with another transaction number"),
            Came::Other(unit) => format!("only unit {unit} answered within {ms} ms, unit {asked} was asked"),
        }
    }

    fn expired(&self, job: Job) {
        self.warn(&job, "it waited longer than its deadline", "a request was dropped");
        self.end(job, Outcome::Expired, Duration::ZERO, Err(BusError::Expired));
    }

    /// Nothing was sent, so the request waits for the line; but one that nobody ever answered on, or that does not come right, is down.
    async fn not_ready(&mut self, job: Job, why: NotReady) {
        let cause = match why {
            NotReady::Closed => {
                self.close();
                "it closes every connection at once".to_owned()
            }
            NotReady::NotSilent => {
                self.poisoned(After::Nonsense).await;
                format!("it {why}")
            }
        };
        let goes_on = match why {
            NotReady::Closed => self.used,
            NotReady::NotSilent => self.used && self.line.is_some(),
        };
        if goes_on {
            return self.put_back(job);
        }
        self.close();
        let cause = self.line_down(&cause);
        self.end(job, Outcome::LineDown, Duration::ZERO, Err(BusError::Offline(cause)));
    }

    /// What came and answered nobody: it may be what a unit owed.
    fn hear_strays(&mut self) {
        let Some(line) = &mut self.line else { return };
        for stray in line.take_strays() {
            let Some(late) = self.lateness.heard(stray) else { continue };
            self.observer.late(&self.spec.id, stray.unit);
            if late.is_news {
                let (unit, took, given) = (stray.unit, late.took.as_millis(), late.given.as_millis());
                let error = format!(
                    "unit {unit} answers after {took} ms, later than the {given} ms it is given (both without the time of the bytes): raise `timeout_ms` of its `[[bus]]`, or `reply_ms` of its profile (of a built-in one: in a copy in `devices_dir`)"
                );
                tracing::warn!(
                    bus = %self.spec.id, unit, function = late.function, address = late.address, error,
                    "an answer came too late and was dropped"
                );
            }
        }
    }

    async fn open(&mut self, now: Instant) -> Result<(), String> {
        if now < self.reopen_at {
            return Err(self.last_cause.clone());
        }
        match self.open_quiet().await {
            Ok(line) => {
                // A connection that was only dropped after a time-out says nothing new of any unit.
                if !self.last_cause.is_empty() {
                    tracing::info!(bus = %self.spec.id, line = self.spec.line.name(), "the line is open again");
                    self.health.line_up();
                    self.last_cause.clear();
                }
                self.line = Some(line);
                self.used = false;
                self.failures = 0;
                Ok(())
            }
            Err(error) => Err(self.line_down(&format!("it cannot be opened: {error}"))),
        }
    }

    async fn open_quiet(&mut self) -> std::io::Result<Line> {
        let mut line = Line::open(&self.spec.line, self.transaction).await?;
        if line.can_settle() {
            let failed = self.failures > 0;
            line.settle(if failed { self.slowest } else { Duration::from_millis(OPEN_QUIET_MS) }).await?;
        }
        Ok(line)
    }

    /// Nobody can be asked before the wait is over, which doubles until somebody answers.
    fn line_down(&mut self, why: &str) -> String {
        let cause = format!("no line to `{}`: {why}", self.spec.line.name());
        if self.last_cause != cause {
            tracing::warn!(bus = %self.spec.id, error = cause, "nobody on the line can be asked");
        }
        self.health.line_down(&cause);
        self.last_cause.clone_from(&cause);
        self.reopen_at = Instant::now() + self.reopen_wait;
        self.reopen_wait = (self.reopen_wait * 2).min(Duration::from_millis(REOPEN_MS_MAX));
        cause
    }

    fn close(&mut self) {
        if let Some(line) = self.line.take() {
            self.transaction = line.transaction();
        }
    }

    /// The time that a request and its answer take on a serial line by themselves.
    fn on_the_wire(&self, request: &Request) -> Duration {
        super::speed(&self.spec).map_or(Duration::ZERO, |baud| load::takes(request, baud))
    }

    /// After any failure nothing on the line can be trusted: a connection is dropped, a serial line is kept quiet for as long
    /// as the slowest device may still answer. Not so after a unit that was offline has been silent once more, however long it was
    /// waited for: should its answer come late, it bears that unit's number, nobody asks that unit meanwhile, and the others need the
    /// line.
    async fn poisoned(&mut self, after: After) {
        self.failures = self.failures.saturating_add(1);
        let serial = self.failures < FAILURES_TO_REOPEN && self.line.as_ref().is_some_and(Line::can_settle);
        let settled = match (&mut self.line, after) {
            (Some(_), After::Probe) if serial => true,
            (Some(line), After::Nonsense | After::Silence) if serial => line.settle(self.slowest).await.is_ok(),
            (Some(_) | None, After::Probe | After::Nonsense | After::Silence | After::Ended) => false,
        };
        self.hear_strays();
        if !settled {
            self.close();
        }
    }

    fn heard(&mut self, job: &Job, took: Duration) {
        self.failures = 0;
        self.used = true;
        self.reopen_wait = Duration::from_millis(REOPEN_MS_MIN);
        self.lateness.answered(job.unit);
        if self.health.answered(job.unit, took) {
            tracing::info!(
                bus = %self.spec.id, unit = job.unit, function = job.request.function(), address = job.request.address(),
                "the unit answers again"
            );
        }
    }

    fn not_heard(&mut self, job: &Job, cause: &str, took: Duration) {
        let cause_of_unit = format!("unit {} on `{}`: {cause}", job.unit, self.spec.id);
        if self.health.silent(job.unit, &cause_of_unit, took, Instant::now()) {
            self.warn(job, cause, "the unit is offline");
        } else {
            self.debug(job, cause, "a request was not answered");
        }
    }

    fn debug(&self, job: &Job, error: &str, what: &str) {
        tracing::debug!(
            bus = %self.spec.id, unit = job.unit, function = job.request.function(), address = job.request.address(), error,
            "{what}"
        );
    }

    fn warn(&self, job: &Job, error: &str, what: &str) {
        tracing::warn!(
            bus = %self.spec.id, unit = job.unit, function = job.request.function(), address = job.request.address(), error,
            "{what}"
        );
    }

    fn end(&self, job: Job, outcome: Outcome, took: Duration, result: Result<Answer, BusError>) {
        self.observer.request(&self.spec.id, outcome, took);
        // Whoever asked may have turned to something else.
        drop(job.answer.send(result));
    }
}
