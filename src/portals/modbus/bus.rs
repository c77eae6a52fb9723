//! The way to one physical line: what is asked of whom, and how that can end. Who speaks on the line is `task`'s.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::wire::modbus::{Exception, Reply, Request};

use super::health::{Health, UnitState};
use super::line::LineSpec;
use super::queue::Priority;
use super::task::Task;

pub use super::observe::{Observer, Outcome, Released};

/// Requests waiting for one line. Each poll and each relay has at most one, so a full queue is a fault.
pub const JOBS_MAX: usize = 1024;

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

/// One request on its way.
pub(super) struct Job {
    pub(super) unit: u8,
    pub(super) request: Request,
    pub(super) priority: Priority,
    pub(super) deadline: Option<Instant>,
    pub(super) answer: oneshot::Sender<Result<Answer, BusError>>,
}

impl Job {
    /// Whether it may not be sent any more.
    pub(super) fn is_late(&self, now: Instant) -> bool {
        self.deadline.is_some_and(|deadline| now > deadline)
    }
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
    (bus, Task::new(spec, units.clone(), health, observer, waiting).run())
}
