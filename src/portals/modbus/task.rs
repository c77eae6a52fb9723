//! One task a physical line. It owns the line and is the only one to send on it.
//!
//! Owns the order of requests, their deadlines, and what an error does: the line is out of step and is settled or opened again
//! before the next request. It sends a request twice only when the first one reached nobody; whoever asked knows whether more is
//! safe.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::wire::modbus::{Exception, Reply, ReplyError, Request, Space};

use super::bus::{Answer, Bus, BusError, BusSpec, Job, Observer, Outcome};
use super::health::Health;
use super::late::{LATE_MS_MIN, LateReplies};
use super::line::{Line, LineError, LineOptions, NotReady};
use super::load;
use super::log;
use super::queue::{Priority, Queue};
use super::received::Received;

/// First wait before a line that cannot be opened is tried again, in milliseconds.
pub const REOPEN_MS_MIN: u64 = 100;
/// Longest wait before a line that cannot be opened is tried again, in milliseconds.
pub const REOPEN_MS_MAX: u64 = 5000;
/// Failures in a row, of whichever units, after which a serial port is closed and opened again.
const FAILURES_TO_REOPEN: u32 = 8;
/// How long a serial port is kept quiet after it was opened, in milliseconds: requests of an earlier program are answered meanwhile.
const OPEN_QUIET_MS: u64 = 50;
/// Connections in a row that ended after one answer, after which each request gets a connection of its own: the converter closes
/// after each answer, and a request that crosses the close is lost.
const SHORT_CONNECTIONS_MAX: u32 = 2;

/// The result of `work`; `None`: it is not done by `deadline`.
async fn within<T>(clock: &mut Pin<Box<Sleep>>, deadline: Instant, work: impl Future<Output = T>) -> Option<T> {
    clock.as_mut().reset(deadline);
    tokio::select! {
        biased;
        done = work => Some(done),
        () = clock => None,
    }
}

/// What went wrong in an exchange.
#[derive(Clone, Copy, PartialEq, Eq)]
enum After {
    /// The line has ended.
    Ended,
    /// A wrong answer.
    Nonsense,
    /// No answer, or only another unit's, or bytes that are no frame.
    Silence,
    /// No answer of a unit that was offline before.
    Probe,
}

struct Task {
    spec: BusSpec,
    timeout: Duration,
    slowest: Duration,
    reply_times: HashMap<u8, Duration>,
    health: Health,
    late: LateReplies,
    observer: Arc<dyn Observer>,
    waiting: mpsc::Receiver<Job>,
    queue: Queue<Job>,
    line: Option<Line>,
    /// Fires when an answer is too late. One for all requests: a new one for each costs the runtime a wake-up of its own.
    clock: Pin<Box<Sleep>>,
    transaction: u16,
    /// Answers on this connection, and connections in a row that ended after one.
    answers: u32,
    short_connections: u32,
    echo_logged: bool,
    failures: u32,
    reopen_wait: Duration,
    reopen_at: Instant,
    last_cause: String,
}

/// The line and its task. `units` are those that will be asked, each with its slowest reply.
pub fn open(
    spec: BusSpec,
    units: &HashMap<u8, Duration>,
    observer: Arc<dyn Observer>,
) -> (Bus, impl Future<Output = ()> + use<>) {
    let now = Instant::now();
    let health = Health::new(units.keys().copied(), now);
    let (bus, waiting) = Bus::new(&spec.id, health.watch(), Arc::clone(&observer));
    let timeout = Duration::from_millis(u64::from(spec.timeout_ms));
    let task = Task {
        timeout,
        slowest: units.values().copied().fold(timeout, Duration::max),
        reply_times: units.clone(),
        health,
        late: LateReplies::default(),
        observer,
        waiting,
        queue: Queue::new(),
        line: None,
        clock: Box::pin(sleep_until(now)),
        transaction: 1,
        answers: 0,
        short_connections: 0,
        echo_logged: spec.echo == Some(true),
        failures: 0,
        reopen_wait: Duration::from_millis(REOPEN_MS_MIN),
        reopen_at: now,
        last_cause: String::new(),
        spec,
    };
    (bus, task.run())
}

impl Task {
    /// Ends when the last [`Bus`] is dropped, so that the last relays are switched off before the line goes.
    async fn run(mut self) {
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
        // The line may have taken its time to fall silent, and what opens may not open late.
        if job.is_late(Instant::now()) {
            return self.expired(job);
        }
        self.exchange(job, now).await;
    }

    /// Sends the request on a line that is ready, and ends it.
    async fn exchange(&mut self, job: Job, now: Instant) {
        let Some(line) = &mut self.line else { return self.put_back(job) };
        self.health.asked(job.unit, job.priority);
        let asked = Instant::now();
        let on_the_wire = self.spec.line.baud().map_or(Duration::ZERO, |baud| load::takes(&job.request, baud));
        let full = self.reply_times.get(&job.unit).copied().unwrap_or_default().max(self.timeout);
        let was_offline = self.health.is_offline(job.unit);
        let limit = self.health.short(job.unit, full, now).unwrap_or(full) + on_the_wire;
        let mut result = within(&mut self.clock, asked + limit, line.ask(job.unit, &job.request)).await;
        if result.is_none() && line.is_unproven() && self.is_confirmed(&job, limit).await {
            result = Some(Ok(Reply::Written));
        }
        let took = now.elapsed();
        self.note_received();
        let serial = self.line.as_ref().is_some_and(Line::is_serial);
        let (cause, outcome, after) = match result {
            Some(Ok(_)) if serial && self.late.may_be_earlier(job.unit, &job.request, asked) => {
                self.answered(&job, took);
                // Its own may come yet.
                self.poisoned(After::Nonsense).await;
                let cause = "its confirmation may be that of an earlier write".to_owned();
                return self.end(job, Outcome::Broken, took, Err(BusError::Unknown(cause)));
            }
            Some(Ok(reply)) => {
                self.answered(&job, took);
                return self.end(job, Outcome::Ok, took, Ok(Answer { reply, at: Instant::now() }));
            }
            Some(Err(LineError::Reply(ReplyError::Refused(exception)))) if exception.is_of_a_gateway() => {
                // The gateway in front of the unit answers: the unit does not.
                let cause = exception.to_string();
                self.unanswered(&job, &cause, took);
                return self.end(job, Outcome::Timeout, took, Err(BusError::Unknown(cause)));
            }
            Some(Err(LineError::Reply(ReplyError::Refused(exception)))) => {
                self.refused(&job, exception, took);
                return self.end(job, Outcome::Refused, took, Err(BusError::Refused(exception)));
            }
            // The connection was closed while the request was on its way, and nobody is harmed by a second read.
            Some(Err(LineError::Ended(_))) if !job.request.is_write() && self.answers > 0 => {
                self.closed_by_peer();
                return self.put_back(job);
            }
            Some(Err(error)) => {
                let after = if matches!(error, LineError::Ended(_)) { After::Ended } else { After::Nonsense };
                (error.to_string(), Outcome::Broken, after)
            }
            None => {
                let received = self.line.as_ref().map(Line::received).unwrap_or_default();
                let whole = job.request.reply_bytes() + 3;
                let after = match &received {
                    // An answer came, and it is spoilt: none is outstanding.
                    Received::Bytes(bytes, _) if serial && *bytes >= whole => After::Nonsense,
                    _ if was_offline => After::Probe,
                    _ => After::Silence,
                };
                (received.cause(job.unit, limit), Outcome::Timeout, after)
            }
        };
        let outstanding = matches!(after, After::Silence | After::Probe);
        if outstanding {
            self.late.missed(job.unit, &job.request, asked, full, on_the_wire);
        }
        self.poisoned(after).await;
        self.unanswered(&job, &cause, now.elapsed());
        if outstanding && serial {
            self.health.rest(job.unit, asked + Duration::from_millis(LATE_MS_MIN));
        }
        self.end(job, outcome, took, Err(BusError::Unknown(cause)));
    }

    /// A write came back once, on a line of which is not known whether its adapter returns what is sent. A read decides: its echo
    /// comes before its answer, and without one what came back was the confirmation.
    async fn is_confirmed(&mut self, job: &Job, limit: Duration) -> bool {
        let Some(line) = &mut self.line else { return false };
        let space = if job.request.function() == 5 { Space::Coil } else { Space::Holding };
        let read = Request::Read { space, address: job.request.address(), count: 1 };
        let limit = Instant::now() + limit * 2;
        // What the device answers does not matter.
        within(&mut self.clock, limit, line.probe_echo(job.unit, &read)).await;
        line.is_proven()
    }

    fn expired(&self, job: Job) {
        log::warn(&self.spec.id, &job, "it waited longer than its deadline", "a request was dropped");
        self.end(job, Outcome::Expired, Duration::ZERO, Err(BusError::Expired));
    }

    /// Nothing was sent, so the request waits for the line; but a line on which nobody ever answered, or that does not fall silent
    /// again, is down.
    async fn not_ready(&mut self, job: Job, why: NotReady) {
        let was_used = self.answers > 0;
        let cause = match why {
            NotReady::Closed => {
                self.closed_by_peer();
                "it closes every connection at once".to_owned()
            }
            NotReady::NotSilent => {
                self.poisoned(After::Nonsense).await;
                format!("it {why}")
            }
        };
        if was_used && (why == NotReady::Closed || self.line.is_some()) {
            return self.put_back(job);
        }
        self.close();
        let cause = self.line_down(&cause);
        self.end(job, Outcome::LineDown, Duration::ZERO, Err(BusError::Offline(cause)));
    }

    /// Reports what was found on the line beside answers: an echo, and late replies.
    fn note_received(&mut self) {
        let Some(line) = &mut self.line else { return };
        if !self.echo_logged && line.has_echo() {
            self.echo_logged = true;
            tracing::info!(
                bus = %self.spec.id,
                "the adapter returns what is sent; its echo is dropped from now on: set `echo = true` in its `[[bus]]`"
            );
        }
        for frame in line.take_unsolicited() {
            let Some(late) = self.late.received(frame) else { continue };
            self.observer.late(&self.spec.id, frame.unit);
            if late.is_news {
                log::late(&self.spec.id, frame.unit, &late);
            }
        }
    }

    async fn open(&mut self, now: Instant) -> Result<(), String> {
        if now < self.reopen_at {
            return Err(self.last_cause.clone());
        }
        match self.open_quiet().await {
            Ok(line) => {
                // A connection that was only dropped after a time-out changes nothing for any unit.
                if !self.last_cause.is_empty() {
                    tracing::info!(bus = %self.spec.id, line = self.spec.line.name(), "the line is open again");
                    self.health.line_up();
                    self.last_cause.clear();
                }
                self.line = Some(line);
                self.answers = 0;
                self.failures = 0;
                Ok(())
            }
            Err(error) => Err(self.line_down(&format!("it cannot be opened: {error}"))),
        }
    }

    async fn open_quiet(&mut self) -> io::Result<Line> {
        let BusSpec { echo, any_transaction, .. } = self.spec;
        let options = LineOptions { echo, any_transaction, transaction: self.transaction };
        let mut line = Line::open(&self.spec.line, options).await?;
        if line.is_serial() {
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
        let Some(line) = self.line.take() else { return };
        self.transaction = line.transaction();
    }

    /// The other end closed the connection.
    fn closed_by_peer(&mut self) {
        if self.line.as_ref().is_some_and(|line| !line.is_serial()) {
            self.short_connections = if self.answers == 1 { self.short_connections.saturating_add(1) } else { 0 };
        }
        self.close();
    }

    /// After any failure nothing on the line can be trusted: a connection is dropped, a serial line is kept quiet for as long
    /// as the slowest device may still answer. Not so after a unit that was offline has been silent once more, however long it was
    /// waited for: should its answer come late, it bears that unit's number, nobody asks that unit meanwhile, and the others need the
    /// line.
    async fn poisoned(&mut self, after: After) {
        self.failures = self.failures.saturating_add(1);
        let slowest = self.slowest;
        let settled = match &mut self.line {
            Some(line) if line.is_serial() && self.failures < FAILURES_TO_REOPEN => match after {
                After::Probe => {
                    line.give_up();
                    true
                }
                After::Nonsense | After::Silence => line.settle(slowest).await.is_ok(),
                After::Ended => false,
            },
            Some(_) | None => false,
        };
        self.note_received();
        match after {
            After::Ended => self.closed_by_peer(),
            _ if !settled => self.close(),
            _ => {}
        }
    }

    /// Somebody answered.
    fn line_works(&mut self, unit: u8) {
        self.failures = 0;
        self.answers = self.answers.saturating_add(1);
        self.reopen_wait = Duration::from_millis(REOPEN_MS_MIN);
        self.late.answered(unit);
        if self.short_connections >= SHORT_CONNECTIONS_MAX {
            self.close();
        }
    }

    fn answered(&mut self, job: &Job, took: Duration) {
        self.line_works(job.unit);
        if self.health.answered(job.unit, &job.request, took) {
            log::online(&self.spec.id, job);
        }
    }

    fn refused(&mut self, job: &Job, exception: Exception, took: Duration) {
        self.line_works(job.unit);
        let error = exception.to_string();
        if self.health.is_news(job.unit, &job.request, exception) {
            log::warn(&self.spec.id, job, &error, "the device answers with an exception");
        } else {
            log::debug(&self.spec.id, job, &error, "the device answers with the same exception again");
        }
        let change = if exception.is_busy() && job.priority < Priority::Card {
            self.health.busy(job.unit, took).then_some(true)
        } else {
            let cause = format!("unit {} on `{}` answers every request with {error}", job.unit, self.spec.id);
            self.health.refused(job.unit, &cause, took, Instant::now())
        };
        match change {
            Some(true) => log::online(&self.spec.id, job),
            Some(false) => {
                log::warn(&self.spec.id, job, "it answers every request with an exception", "the unit is offline");
            }
            None => {}
        }
    }

    fn unanswered(&mut self, job: &Job, cause: &str, took: Duration) {
        let cause_of_unit = format!("unit {} on `{}`: {cause}", job.unit, self.spec.id);
        if self.health.silent(job.unit, &cause_of_unit, took, Instant::now()) {
            log::warn(&self.spec.id, job, cause, "the unit is offline");
        } else {
            log::debug(&self.spec.id, job, cause, "a request was not answered");
        }
    }

    fn end(&self, job: Job, outcome: Outcome, took: Duration, result: Result<Answer, BusError>) {
        self.observer.request(&self.spec.id, outcome, took);
        // Whoever asked may have turned to something else.
        drop(job.answer.send(result));
    }
}
