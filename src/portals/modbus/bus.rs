//! The handle of one physical line: requests, how they can end, and what is counted of them. The line's task is `task`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};

use crate::portals::device::Released;
use crate::wire::modbus::{Exception, Reply, Request};

use super::health::UnitState;
use super::line::LineSpec;
use super::queue::Priority;

/// Requests waiting for one line. Each poll and each relay has at most one, so a full queue is a fault.
pub const JOBS_MAX: usize = 1024;
/// Wait before a request to a busy device (exceptions 5 and 6) is sent again, in milliseconds.
pub const BUSY_RETRY_MS: u64 = 100;

/// One line of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BusSpec {
    /// Its id.
    pub id: String,
    /// Where it is.
    pub line: LineSpec,
    /// How long a reply may take, in milliseconds. A profile whose device is slower extends it for that device.
    pub timeout_ms: u32,
    /// Whether the serial adapter returns what is sent; `None`: it is found out.
    pub echo: Option<bool>,
    /// Over TCP, the answer to the one request under way counts whatever its transaction number.
    pub any_transaction: bool,
}

impl BusSpec {
    /// A line without peculiarities.
    #[must_use]
    pub fn new(id: &str, line: LineSpec, timeout_ms: u32) -> Self {
        Self { id: id.to_owned(), line, timeout_ms, echo: None, any_transaction: false }
    }
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
    /// The device answered with an exception; nothing was done.
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

/// How a request ended, for counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Answered.
    Ok,
    /// The device answered with an exception.
    Refused,
    /// No answer in time.
    Timeout,
    /// An answer that does not fit, or the connection ended.
    Broken,
    /// The line could not be opened, or does not fall silent; never sent.
    LineDown,
    /// Waited longer than its deadline; never sent.
    Expired,
    /// The unit is offline and not to be asked yet; never sent.
    Barred,
}

impl Outcome {
    /// The outcome's name in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Refused => "refused",
            Self::Timeout => "timeout",
            Self::Broken => "broken",
            Self::LineDown => "line_down",
            Self::Expired => "expired",
            Self::Barred => "barred",
        }
    }
}

/// Counts outcomes. All methods are called from the line's tasks and must not wait.
pub trait Observer: Send + Sync {
    /// A request on `bus` ended; `took` is the time on the line, zero if it was never sent.
    fn request(&self, bus: &str, outcome: Outcome, took: Duration);

    /// A reply of `unit` came after its deadline.
    fn late(&self, _bus: &str, _unit: u8) {}

    /// A release of a relay ended so.
    fn release(&self, _bus: &str, _unit: u8, _channel: u16, _how: Released) {}
}

/// Counts nothing.
impl Observer for () {
    fn request(&self, _: &str, _: Outcome, _: Duration) {}
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

/// The handle of one line. Cheap to clone.
#[derive(Clone)]
pub struct Bus {
    id: Arc<str>,
    jobs: mpsc::Sender<Job>,
    units: Arc<HashMap<u8, watch::Receiver<UnitState>>>,
    observer: Arc<dyn Observer>,
}

impl Bus {
    /// The handle, and the requests that its task receives.
    pub(super) fn new(
        id: &str,
        units: HashMap<u8, watch::Receiver<UnitState>>,
        observer: Arc<dyn Observer>,
    ) -> (Self, mpsc::Receiver<Job>) {
        let (jobs, waiting) = mpsc::channel(JOBS_MAX);
        (Self { id: Arc::from(id), jobs, units: Arc::new(units), observer }, waiting)
    }

    /// The line's id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Asks `unit`; nothing is sent after `deadline`, and a device that is busy is asked again until then. Dropping the future
    /// withdraws a request that was not sent yet.
    ///
    /// # Errors
    /// [`BusError`] reports whether the request may have been carried out.
    pub async fn call(
        &self,
        unit: u8,
        request: Request,
        priority: Priority,
        deadline: Option<Instant>,
    ) -> Result<Answer, BusError> {
        let Some(until) = deadline else { return self.call_once(unit, request, priority, None).await };
        loop {
            let result = self.call_once(unit, request.clone(), priority, deadline).await;
            let retry_at = Instant::now() + Duration::from_millis(BUSY_RETRY_MS);
            match result {
                Err(BusError::Refused(exception)) if exception.is_busy() && retry_at < until => {
                    sleep_until(retry_at).await;
                }
                result => return result,
            }
        }
    }

    async fn call_once(
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
