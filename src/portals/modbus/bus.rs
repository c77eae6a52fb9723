//! One task a physical line. It owns the line and is the only one to speak on it.
//!
//! Owns the order of requests, their deadlines, and what an error does: the line is out of step and is settled or opened anew
//! before the next request. It does not try a request twice; whoever asked knows whether that is safe.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::wire::modbus::{Exception, Reply, ReplyError, Request};

use super::health::{Health, UnitState};
use super::line::{Line, LineError, LineSpec};
use super::load;
use super::queue::{Priority, Queue};

pub use super::observe::{Observer, Outcome, Released};

/// Requests waiting for one line. Each poll and each relay has at most one, so a full queue is a fault.
pub const JOBS_MAX: usize = 1024;
/// First wait before a line that cannot be opened is tried again, in milliseconds.
pub const REOPEN_MS_MIN: u64 = 100;
/// Longest wait before a line that cannot be opened is tried again, in milliseconds.
pub const REOPEN_MS_MAX: u64 = 5000;
/// Failures in a row, of whichever units, after which a serial port is closed and opened anew.
const FAILURES_TO_REOPEN: u32 = 8;
/// How long a serial port is kept quiet after it was opened, in milliseconds: what an earlier program asked is answered meanwhile.
const OPEN_QUIET_MS: u64 = 50;

/// One line of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BusSpec {
    /// Its id.
    pub id: String,
    /// Where it is.
    pub line: LineSpec,
    /// How long a reply may take, in milliseconds. A profile whose device is slower extends it for that device.
    pub timeout_ms: u32,
}

/// What a request brought, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What.
    pub reply: Reply,
    /// When it arrived.
    pub at: Instant,
}

/// Why a request brought nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BusError {
    /// The device says no; nothing was done.
    #[error("the device refuses: {0}")]
    Refused(Exception),
    /// Too late to be sent.
    #[error("not sent: it waited longer than its deadline")]
    Expired,
    /// The unit or the line does not answer; not sent.
    #[error("not sent: {0}")]
    Offline(String),
    /// Too many requests wait.
    #[error("not sent: {JOBS_MAX} requests wait for the line")]
    Full,
    /// Sent, and not answered as it should be: it may have been done or not.
    #[error("sent, but {0}")]
    Unknown(String),
    /// The line's task has ended.
    #[error("the line has been shut down")]
    Stopped,
}

struct Job {
    unit: u8,
    request: Request,
    priority: Priority,
    deadline: Option<Instant>,
    answer: oneshot::Sender<Result<Answer, BusError>>,
}

/// The way to one line. Cheap to clone.
#[derive(Clone)]
pub struct Bus {
    id: Arc<str>,
    jobs: mpsc::Sender<Job>,
    units: Arc<HashMap<u8, watch::Receiver<UnitState>>>,
    observer: Arc<dyn Observer>,
}

impl Bus {
    /// The line's id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Asks `unit`; nothing is sent after `deadline`. Dropping the future withdraws a request that was not sent yet.
    ///
    /// # Errors
    /// [`BusError`] says whether the request may have been carried out.
    pub async fn call(
        &self,
        unit: u8,
        request: Request,
        priority: Priority,
        deadline: Option<Instant>,
    ) -> Result<Answer, BusError> {
        let (answer, answered) = oneshot::channel();
        self.jobs.try_send(Job { unit, request, priority, deadline, answer }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => BusError::Full,
            mpsc::error::TrySendError::Closed(_) => BusError::Stopped,
        })?;
        answered.await.unwrap_or(Err(BusError::Stopped))
    }

    /// Counts how a release of a relay on this line ended.
    pub(super) fn count_release(&self, unit: u8, channel: u16, how: Released) {
        self.observer.release(&self.id, unit, channel, how);
    }

    /// Whether `unit` answers; `None`: no such unit was announced.
    #[must_use]
    pub fn unit(&self, unit: u8) -> Option<watch::Receiver<UnitState>> {
        self.units.get(&unit).cloned()
    }
}

/// The line and its task. `units` are those that will be asked, each with its slowest reply.
pub fn open(
    spec: BusSpec,
    units: &HashMap<u8, Duration>,
    observer: Arc<dyn Observer>,
) -> (Bus, impl Future<Output = ()> + use<>) {
    let (jobs, waiting) = mpsc::channel(JOBS_MAX);
    let health = Health::new(units.keys().copied(), Instant::now());
    let bus =
        Bus { id: Arc::from(spec.id.as_str()), jobs, units: Arc::new(health.watch()), observer: Arc::clone(&observer) };
    let timeout = Duration::from_millis(u64::from(spec.timeout_ms));
    let slowest = units.values().copied().max().unwrap_or(timeout).max(timeout);
    let task = Task {
        spec,
        timeout,
        slowest,
        reply_times: units.clone(),
        health,
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
    };
    (bus, task.run())
}

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
    /// No answer, or a wrong one.
    Wrong,
    /// No answer of a unit that had been silent before.
    Probe,
}

struct Task {
    spec: BusSpec,
    timeout: Duration,
    slowest: Duration,
    reply_times: HashMap<u8, Duration>,
    health: Health,
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
    /// Ends when nobody can ask any more, so that the last relays are switched off before the line goes.
    async fn run(mut self) {
        loop {
            while let Ok(job) = self.waiting.try_recv() {
                self.queue.push(job.priority, job);
            }
            if let Some(job) = self.queue.pop() {
                self.serve(job).await;
                continue;
            }
            match self.waiting.recv().await {
                Some(job) => self.queue.push(job.priority, job),
                None => return,
            }
        }
    }

    async fn serve(&mut self, job: Job) {
        let now = Instant::now();
        if job.answer.is_closed() {
            return;
        }
        if job.deadline.is_some_and(|deadline| now > deadline) {
            self.log(&job, "waited longer than its deadline, dropped");
            return self.end(job, Outcome::Expired, Duration::ZERO, Err(BusError::Expired));
        }
        if let Some(cause) = self.health.barred(job.unit, job.priority, now) {
            return self.end(job, Outcome::Barred, Duration::ZERO, Err(BusError::Offline(cause)));
        }
        let on_the_wire = self.on_the_wire(&job.request);
        let Some(line) = &mut self.line else {
            match self.open(now).await {
                // Opening took time: what is most urgent now may be another request.
                Ok(()) => self.queue.put_back(job.priority, job),
                Err(cause) => self.end(job, Outcome::LineDown, Duration::ZERO, Err(BusError::Offline(cause))),
            }
            return;
        };
        let full = self.reply_times.get(&job.unit).copied().unwrap_or_default().max(self.timeout);
        let short = self.health.short(job.unit, full, now);
        let limit = short.unwrap_or(full) + on_the_wire;
        let result = within(&mut self.clock, now + limit, line.exchange(job.unit, &job.request)).await;
        let took = now.elapsed();
        match result {
            Some(Ok(reply)) => {
                self.heard(&job, took);
                self.end(job, Outcome::Ok, took, Ok(Answer { reply, at: Instant::now() }));
            }
            Some(Err(LineError::Reply(ReplyError::Refused(exception)))) => {
                // A gateway that says that the unit is not there speaks for nobody.
                if exception == Exception::NO_SUCH_UNIT || exception == Exception(10) {
                    self.not_heard(&job, &exception.to_string(), took);
                    self.end(job, Outcome::Timeout, took, Err(BusError::Unknown(exception.to_string())));
                } else {
                    self.heard(&job, took);
                    self.log(&job, &exception.to_string());
                    self.end(job, Outcome::Refused, took, Err(BusError::Refused(exception)));
                }
            }
            // Nothing was sent, so the request waits for a new connection; a peer that closes every one is as good as none.
            Some(Err(LineError::ClosedBefore)) if self.used => {
                self.close();
                self.queue.put_back(job.priority, job);
            }
            Some(Err(LineError::ClosedBefore)) => {
                self.close();
                let cause = self.line_down("it closes every connection at once");
                self.end(job, Outcome::LineDown, took, Err(BusError::Offline(cause)));
            }
            Some(Err(error)) => {
                let cause = error.to_string();
                let ended = matches!(error, LineError::Ended(_));
                self.poisoned(if ended { After::Ended } else { After::Wrong }).await;
                self.not_heard(&job, &cause, now.elapsed());
                self.end(job, Outcome::Broken, took, Err(BusError::Unknown(cause)));
            }
            None => {
                self.poisoned(if short.is_some() { After::Probe } else { After::Wrong }).await;
                let cause = format!("no answer within {} ms", limit.as_millis());
                self.not_heard(&job, &cause, now.elapsed());
                self.end(job, Outcome::Timeout, took, Err(BusError::Unknown(cause)));
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
            tracing::warn!(bus = %self.spec.id, "{cause}");
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
    /// as the slowest device may still answer. Not so after a unit that was offline has been silent once more: should its answer come
    /// late, it bears that unit's number, nobody asks that unit meanwhile, and the others need the line.
    async fn poisoned(&mut self, after: After) {
        self.failures = self.failures.saturating_add(1);
        let serial = self.failures < FAILURES_TO_REOPEN && self.line.as_ref().is_some_and(Line::can_settle);
        let settled = match (&mut self.line, after) {
            (Some(_), After::Probe) if serial => true,
            (Some(line), After::Wrong) if serial => line.settle(self.slowest).await.is_ok(),
            (Some(_) | None, After::Probe | After::Wrong | After::Ended) => false,
        };
        if !settled {
            self.close();
        }
    }

    fn heard(&mut self, job: &Job, took: Duration) {
        self.failures = 0;
        self.used = true;
        self.reopen_wait = Duration::from_millis(REOPEN_MS_MIN);
        if self.health.answered(job.unit, took) {
            tracing::info!(bus = %self.spec.id, unit = job.unit, "the unit answers again");
        }
    }

    fn not_heard(&mut self, job: &Job, cause: &str, took: Duration) {
        let cause_of_unit = format!("unit {} on `{}`: {cause}", job.unit, self.spec.id);
        if self.health.silent(job.unit, &cause_of_unit, took, Instant::now()) {
            self.log(job, &format!("{cause}; the unit is offline"));
        } else {
            tracing::debug!(
                bus = %self.spec.id, unit = job.unit, function = job.request.function(), address = job.request.address(),
                "{cause}"
            );
        }
    }

    fn log(&self, job: &Job, error: &str) {
        tracing::warn!(
            bus = %self.spec.id, unit = job.unit, function = job.request.function(), address = job.request.address(), error
        );
    }

    fn end(&self, job: Job, outcome: Outcome, took: Duration, result: Result<Answer, BusError>) {
        self.observer.request(&self.spec.id, outcome, took);
        // Whoever asked may have turned to something else.
        drop(job.answer.send(result));
    }
}
