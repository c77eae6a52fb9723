//! From an order to the bytes of a line: the request of the device's profile, the queue, and when it may be sent.
//!
//! [`ModbusOutput`] and [`ModbusReader`] are a portal's way in, [`Bus`] the handle of one physical line, [`open`] its task. The task owns the line and is
//! the only one to send on it. It sends a request twice only when the first one reached no device; whether a further try is safe is the
//! caller's decision. What follows from an answer, or its absence, for the request, its unit and the line is in `exchange`.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::{Instant, Sleep, sleep_until};
use tracing::field::display;

use super::connection::Connection;
use super::health::Health;
use super::late::LateReplies;
use super::log::{ANSWERED, Observer, log_request};
use super::queue::{Priority, Queue};
use super::serial::takes;
use crate::config::{BusConfig, ModbusPart};
use crate::portals::device::reader::Accept;
use crate::portals::device::{Event, NotSet, Place, Set, SourceState};
use crate::profile::{Block, Confirm, Output, Reader, Trigger};
use crate::wire::modbus::{Exception, Reply, Request};

/// Requests waiting for one line. Each poll and each relay has at most one, so a full queue is a fault.
pub const JOBS_MAX: usize = 1024;

/// A device on a line.
#[derive(Clone)]
pub(in crate::portals) struct Device {
    pub(in crate::portals) bus: Bus,
    pub(in crate::portals) unit: u8,
}

impl Device {
    /// Whether it is the device of this part.
    pub(in crate::portals) fn is(&self, part: &ModbusPart) -> bool {
        self.bus.id() == part.bus && self.unit == part.unit
    }

    fn place(&self) -> Place {
        Place { bus: Some(display(self.bus.id().to_owned())), unit: Some(self.unit), ..Place::default() }
    }
}

/// The output of a portal: a channel of a device.
pub(in crate::portals) struct ModbusOutput {
    device: Device,
    output: Output,
    channel: u16,
}

impl ModbusOutput {
    pub(in crate::portals) fn new(device: Device, output: Output, channel: u16) -> Self {
        Self { device, output, channel }
    }

    /// See [`Wiring::set`](crate::portals::device::Wiring::set).
    pub(in crate::portals) async fn set(&self, set: Set, deadline: Option<Instant>) -> Result<Instant, NotSet> {
        let Self { device, output, channel } = self;
        let (request, priority) = match set {
            Set::Off => (output.off(*channel), Priority::Cut),
            Set::On => (output.on(*channel), Priority::Release),
            Set::Pulse { hold_ms } => {
                let timed = output.pulse(*channel, hold_ms);
                (timed.map_or_else(|| output.on(*channel), |(request, _)| request), Priority::Release)
            }
        };
        match device.bus.call(device.unit, request, priority, deadline).await {
            Ok(answer) => Ok(answer.at),
            // It is taken; its state shows whether it is done.
            Err(BusError::Refused(exception)) if exception.is_acceptance() => match output.confirm {
                Confirm::State => Ok(Instant::now()),
                Confirm::Echo { .. } => Err(NotSet::Unknown(exception.to_string())),
            },
            Err(BusError::Refused(exception)) if exception.is_busy() => Err(NotSet::Busy(exception.to_string())),
            Err(BusError::Stopped) => Err(NotSet::Ended),
            Err(error @ (BusError::Timeout(_) | BusError::Broken(_))) => Err(NotSet::Unknown(error.to_string())),
            // It was not sent, or not done.
            Err(error) => Err(NotSet::Refused(error.to_string())),
        }
    }

    /// See [`Wiring::read_back`](crate::portals::device::Wiring::read_back).
    pub(in crate::portals) async fn read_back(&self) -> Option<(bool, Instant)> {
        let Self { device, output, channel } = self;
        let request = output.read_back(*channel)?;
        let answer = device.bus.call(device.unit, request.clone(), Priority::Confirm, None).await.ok()?;
        let mut block = Block::default();
        block.add(&request, answer.reply);
        Some((output.state.as_ref()?.flag(&block, *channel)?, answer.at))
    }

    pub(in crate::portals) fn pulse_ms(&self, hold_ms: u32) -> Option<u32> {
        self.output.pulse(self.channel, hold_ms).map(|(_, lasts_ms)| lasts_ms)
    }

    pub(in crate::portals) fn place(&self) -> Place {
        let (off, channel) = (self.output.off(self.channel), Some(self.channel));
        let (function, address) = (Some(off.function()), Some(off.address()));
        Place { channel, function, address, ..self.device.place() }
    }
}

/// The reader of a slot.
pub(in crate::portals) struct ModbusReader {
    device: Device,
    reader: Reader,
}

impl ModbusReader {
    pub(in crate::portals) fn new(device: Device, reader: Reader) -> Self {
        Self { device, reader }
    }

    /// Orders it to take the next card; the event of `slot` goes to `events`.
    pub(in crate::portals) fn accept_next(&self, slot: u8, accept: Accept, events: &mpsc::Sender<Event>) {
        let request = match (&self.reader.trigger, accept) {
            (Trigger::Latch { release, .. }, _) => release.request(0, release.value),
            (Trigger::Counter { acknowledge: Some(write), .. }, Accept::Count(count)) => write.request(0, count),
            (Trigger::Counter { .. } | Trigger::Level(_), _) => return,
        };
        let (device, events) = (self.device.clone(), events.clone());
        tokio::spawn(async move {
            let answer = device.bus.call(device.unit, request, Priority::Card, None).await;
            let (at, failed) = match answer {
                Ok(answer) => (answer.at, None),
                Err(BusError::Refused(exception)) if exception.is_acceptance() => (Instant::now(), None),
                Err(error) => (Instant::now(), Some(error.to_string())),
            };
            let accepted = Event::Accepted { slot, at, failed };
            // A portal that has ended receives nothing any more.
            drop(events.send(accepted).await);
            // A latch that is set again before it was read clear would show the card of before.
            device.bus.poll_now(device.unit);
        });
    }

    pub(in crate::portals) fn place(&self) -> Place {
        self.device.place()
    }
}

/// The reply to a request and when it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The reply.
    pub reply: Reply,
    /// When it arrived.
    pub at: Instant,
    /// How long the line was taken for it.
    pub took: Duration,
}

/// Why a request has no reply. The names of the variants are those of the metrics.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum BusError {
    /// The device answered with an exception; nothing was done.
    #[error("the device refuses: {0}")]
    Refused(Exception),
    /// Sent, and not answered in time: it may have been done or not.
    #[error("sent, but {0}")]
    Timeout(String),
    /// Sent, and the answer does not fit or the connection ended: it may have been done or not.
    #[error("sent, but {0}")]
    Broken(String),
    /// Not sent: the line cannot be opened, or does not fall silent.
    #[error("not sent: {0}")]
    LineDown(String),
    /// Not sent: the unit is offline and not to be asked yet.
    #[error("not sent: {0}")]
    Barred(String),
    /// Not sent: too late.
    #[error("not sent: it waited longer than its deadline")]
    Expired,
    /// Not sent: too many requests wait.
    #[error("not sent: {JOBS_MAX} requests wait for the line")]
    Full,
    /// The line's task has ended.
    #[error("the line has been shut down")]
    Stopped,
}

/// One request on its way.
pub(super) struct Job {
    pub(super) unit: u8,
    pub(super) request: Request,
    pub(super) priority: Priority,
    /// Where it waits for the line.
    lane: Priority,
    pub(super) deadline: Option<Instant>,
    pub(super) answer: oneshot::Sender<Result<Answer, BusError>>,
}

impl Job {
    /// Whether it may not be sent any more.
    pub(super) fn is_late(&self, now: Instant) -> bool {
        self.deadline.is_some_and(|deadline| now > deadline)
    }
}

/// The handle of one line. Cheap to clone.
#[derive(Clone)]
pub struct Bus {
    id: Arc<str>,
    jobs: mpsc::Sender<Job>,
    units: Arc<HashMap<u8, watch::Receiver<SourceState>>>,
    /// Of each unit: its polls are due now.
    due: Arc<HashMap<u8, Notify>>,
}

impl Bus {
    /// The line's id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Asks `unit`; nothing is sent after `deadline`. Dropping the future withdraws a request that was not sent yet. [`BusError`] shows
    /// whether the request may have been carried out.
    pub async fn call(
        &self,
        unit: u8,
        request: Request,
        priority: Priority,
        deadline: Option<Instant>,
    ) -> Result<Answer, BusError> {
        let (answer, answered) = oneshot::channel();
        self.jobs.try_send(Job { unit, request, priority, lane: priority, deadline, answer }).map_err(|error| {
            match error {
                mpsc::error::TrySendError::Full(_) => BusError::Full,
                mpsc::error::TrySendError::Closed(_) => BusError::Stopped,
            }
        })?;
        answered.await.unwrap_or(Err(BusError::Stopped))
    }

    /// Whether `unit` answers; `None`: no such unit was announced.
    #[must_use]
    pub fn unit(&self, unit: u8) -> Option<watch::Receiver<SourceState>> {
        self.units.get(&unit).cloned()
    }

    /// Has the polls of `unit` that wait for their time read now.
    fn poll_now(&self, unit: u8) {
        if let Some(due) = self.due.get(&unit) {
            due.notify_waiters();
        }
    }

    /// Done when the polls of `unit` are to read before their time.
    pub(super) async fn poll_due(&self, unit: u8) {
        match self.due.get(&unit) {
            Some(due) => due.notified().await,
            None => std::future::pending().await,
        }
    }
}

/// The line and its task. `units` are those that will be asked, each with its slowest reply.
pub fn open(
    spec: BusConfig,
    units: &HashMap<u8, Duration>,
    observer: Arc<dyn Observer>,
) -> (Bus, impl Future<Output = ()> + use<>) {
    let now = Instant::now();
    let health = Health::new(units.keys().copied(), now);
    let (jobs, waiting) = mpsc::channel(JOBS_MAX);
    let id = Arc::from(spec.id.as_str());
    let due = Arc::new(units.keys().map(|unit| (*unit, Notify::new())).collect());
    let bus = Bus { id, jobs, units: Arc::new(health.watch()), due };
    let timeout = Duration::from_millis(u64::from(spec.timeout_ms));
    let slowest = units.values().copied().fold(timeout, Duration::max);
    let task = Task {
        timeout,
        reply_times: units.clone(),
        health,
        late: LateReplies::default(),
        observer,
        waiting,
        queue: Queue::new(),
        connection: Connection::new(spec, slowest),
        clock: Box::pin(sleep_until(now)),
    };
    (bus, task.run())
}

pub(super) struct Task {
    timeout: Duration,
    reply_times: HashMap<u8, Duration>,
    pub(super) health: Health,
    pub(super) late: LateReplies,
    pub(super) observer: Arc<dyn Observer>,
    waiting: mpsc::Receiver<Job>,
    queue: Queue<Job>,
    pub(super) connection: Connection,
    /// Fires when an answer is too late. One for all requests: a new one for each costs the runtime a wake-up of its own.
    pub(super) clock: Pin<Box<Sleep>>,
}

/// How a request was sent.
pub(super) struct Sent {
    /// When it was taken from the queue, and when it was sent.
    pub(super) begun: Instant,
    pub(super) asked: Instant,
    /// How long its answer is waited for, and how long the profile allows it to take beside the time of the bytes.
    pub(super) limit: Duration,
    pub(super) full: Duration,
    pub(super) on_the_wire: Duration,
    /// The unit was offline.
    pub(super) was_offline: bool,
}

/// The result of `work`; `None`: it is not done by `deadline`.
pub(super) async fn within<T>(
    clock: &mut Pin<Box<Sleep>>,
    deadline: Instant,
    work: impl Future<Output = T>,
) -> Option<T> {
    clock.as_mut().reset(deadline);
    tokio::select! {
        biased;
        done = work => Some(done),
        () = clock => None,
    }
}

impl Task {
    /// Ends when the last [`Bus`] is dropped, so that the last relays are switched off before the line goes.
    async fn run(mut self) {
        loop {
            while let Ok(job) = self.waiting.try_recv() {
                self.enqueue(job);
            }
            if let Some(job) = self.queue.pop() {
                if self.health.lane(job.unit, job.priority) > job.lane {
                    // Its unit did not answer another request meanwhile.
                    self.enqueue(job);
                } else {
                    self.serve(job).await;
                }
                continue;
            }
            match self.waiting.recv().await {
                Some(job) => self.enqueue(job),
                None => return,
            }
        }
    }

    fn enqueue(&mut self, mut job: Job) {
        job.lane = self.health.lane(job.unit, job.priority);
        self.queue.push(job.lane, job);
    }

    pub(super) fn put_back(&mut self, mut job: Job) {
        job.lane = self.health.lane(job.unit, job.priority);
        self.queue.put_back(job.lane, job);
    }

    async fn serve(&mut self, job: Job) {
        let begun = Instant::now();
        if job.answer.is_closed() {
            return;
        }
        if job.is_late(begun) {
            return self.expired(job);
        }
        if let Some(cause) = self.health.barred(job.unit, job.priority, begun) {
            return self.end(job, Duration::ZERO, Err(BusError::Barred(cause)));
        }
        let on_the_wire = self.connection.baud().map_or(Duration::ZERO, |baud| takes(&job.request, baud));
        let Some(line) = &mut self.connection.line else {
            match self.connection.open(begun).await {
                // Opening took time, and another request may be more urgent now.
                Ok(was_down) => {
                    if was_down {
                        self.health.line_up();
                    }
                    self.put_back(job);
                }
                Err(cause) => self.line_down(job, cause),
            }
            return;
        };
        if let Err(why) = line.ready().await {
            let down = self.connection.not_ready(why).await;
            self.note_late();
            return match down {
                None => self.put_back(job),
                Some(cause) => self.line_down(job, cause),
            };
        }
        // The line may have been slow to fall silent, and nothing may open late.
        if job.is_late(Instant::now()) {
            return self.expired(job);
        }
        if self.health.lane(job.unit, job.priority) == Priority::Probe {
            self.queue.probes();
        }
        self.health.asked(job.unit, job.priority);
        let full = self.reply_times.get(&job.unit).copied().unwrap_or_default().max(self.timeout);
        let was_offline = self.health.is_offline(job.unit);
        let limit = self.health.short(job.unit, full, begun).unwrap_or(full) + on_the_wire;
        let sent = Sent { begun, asked: Instant::now(), limit, full, on_the_wire, was_offline };
        let result = within(&mut self.clock, sent.asked + limit, line.ask(job.unit, &job.request)).await;
        self.exchanged(job, &sent, result).await;
    }

    fn expired(&self, job: Job) {
        log_request!(warn, self.connection.id(), job, error = %BusError::Expired, "a request was dropped");
        self.end(job, Duration::ZERO, Err(BusError::Expired));
    }

    fn line_down(&mut self, job: Job, cause: String) {
        self.health.line_down(&cause);
        self.end(job, Duration::ZERO, Err(BusError::LineDown(cause)));
    }

    /// Ends a request; `took` is its time on the line.
    pub(super) fn end(&self, job: Job, took: Duration, result: Result<Answer, BusError>) {
        self.observer.request(self.connection.id(), result.as_ref().map_or_else(<&str>::from, |_| ANSWERED), took);
        // The caller may not wait any more.
        drop(job.answer.send(result));
    }
}
