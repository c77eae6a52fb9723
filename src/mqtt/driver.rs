//! Drives the client below to its next event. Refuses to own what an event means.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use rumqttc::{Event, EventLoop};

use super::attempt::{Loss, loss};

/// Events gathered before the task's others have their turn.
const EVENTS_AT_ONCE: usize = 64;

type Happened = VecDeque<Result<Event, Loss>>;

/// The client at work. It is one future for the whole connection: dropped half-way it would lose what it was writing.
pub(super) struct Driver {
    working: Pin<Box<dyn Future<Output = Infallible> + Send>>,
    /// Polled only when something happened for it, however often the task around it has other things to do.
    bell: Arc<Bell>,
    /// What happened and was not taken yet.
    happened: Arc<Mutex<Happened>>,
}

impl Driver {
    pub(super) fn new(mut client: EventLoop) -> Self {
        let happened = Arc::new(Mutex::new(Happened::new()));
        let events = Arc::clone(&happened);
        let working = async move {
            loop {
                let event = client.poll().await.map_err(|error| loss(&error));
                let ended = event.is_err();
                let waiting = {
                    let mut events = lock(&events);
                    events.push_back(event);
                    events.len()
                };
                if ended {
                    // The client lives on until the loss is seen, so that nobody talks to one that is gone.
                    std::future::pending::<()>().await;
                } else if waiting >= EVENTS_AT_ONCE {
                    tokio::task::yield_now().await;
                }
            }
        };
        Self { working: Box::pin(working), bell: Arc::default(), happened }
    }

    /// What happened next, or why the connection ended; ask no more then. Nothing is lost when the future is dropped.
    pub(super) async fn next(&mut self) -> Result<Event, Loss> {
        std::future::poll_fn(|context| self.poll_next(context)).await
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<Event, Loss>> {
        if let Some(event) = lock(&self.happened).pop_front() {
            return Poll::Ready(event);
        }
        self.bell.wakes(context.waker());
        if self.bell.rang() {
            let waker = Waker::from(Arc::clone(&self.bell));
            let context = &mut Context::from_waker(&waker);
            // The client below asserts its own state in places; a broker must not be able to end the link with that.
            if catch_unwind(AssertUnwindSafe(|| self.working.as_mut().poll(context).is_ready())).is_err() {
                self.working = Box::pin(std::future::pending());
                let failed = Loss::Unreadable("the MQTT client failed on what the broker sent".into());
                lock(&self.happened).push_back(Err(failed));
            }
        }
        lock(&self.happened).pop_front().map_or(Poll::Pending, Poll::Ready)
    }
}

/// Remembers that there is something to do, and wakes the task.
struct Bell {
    rung: AtomicBool,
    task: Mutex<Waker>,
}

impl Default for Bell {
    fn default() -> Self {
        // Rung from the start, so that the work begins.
        Self { rung: AtomicBool::new(true), task: Mutex::new(Waker::noop().clone()) }
    }
}

impl Bell {
    /// From now on wakes `task`.
    fn wakes(&self, task: &Waker) {
        let mut mine = lock(&self.task);
        if !mine.will_wake(task) {
            mine.clone_from(task);
        }
    }

    /// Whether it rang since it was asked last. Ask after [`Bell::wakes`], or a ring in between wakes nobody.
    fn rang(&self) -> bool {
        self.rung.swap(false, Ordering::AcqRel)
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, Ordering::Release);
        lock(&self.task).wake_by_ref();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
