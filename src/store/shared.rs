//! What a store's threads share with its handles.

use std::fs::File;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::events::{Busy, Outbox};
use super::journal::SharedIndex;
use super::medium::Medium;
use super::queue::Queue;
use super::reserve::Reserve;
use super::{Options, reader};

/// What a store's threads share with its handles.
pub(super) struct Shared {
    pub options: Options,
    pub medium: Arc<dyn Medium>,
    pub queue: Queue,
    pub index: Arc<SharedIndex>,
    pub outbox: Outbox,
    pub busy: Arc<Busy>,
    pub requests: Requests,
    pub acked: AtomicU64,
    pub reserve: Reserve,
    pub hint: reader::SharedHint,
    pub done: Done,
    /// Held while the store is open.
    pub lock: Mutex<Option<File>>,
    /// Whether time is measured; a simulation has none.
    pub timed: bool,
}

impl Shared {
    pub(super) fn now(&self) -> Option<Instant> {
        self.timed.then(Instant::now)
    }

    pub(super) fn set_done(&self) {
        drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner).take());
        // Whoever sees the end of the events may open the directory again.
        self.outbox.end();
        self.done.set();
    }
}

/// What the keeper is asked for.
#[derive(Debug, Default)]
pub(super) struct Requests {
    asked: Mutex<Asked>,
    wake: Condvar,
}

#[derive(Debug, Default)]
pub(super) struct Asked {
    pub generation: bool,
    pub look: bool,
    pub closing: bool,
}

impl Requests {
    pub(super) fn change(&self, change: impl FnOnce(&mut Asked)) {
        change(&mut self.asked.lock().unwrap_or_else(PoisonError::into_inner));
        self.wake.notify_all();
    }

    pub(super) fn closing(&self) -> bool {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).closing
    }

    /// Whether a generation is asked for, after at most `time`; `None` when the store is closed.
    pub(super) fn wait(&self, time: Duration) -> Option<bool> {
        let idle = |asked: &mut Asked| !asked.generation && !asked.look && !asked.closing;
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let mut asked = self.wake.wait_timeout_while(asked, time, idle).unwrap_or_else(PoisonError::into_inner).0;
        asked.look = false;
        let generation = std::mem::take(&mut asked.generation);
        (!asked.closing).then_some(generation)
    }
}

/// Whether both threads have ended.
#[derive(Debug, Default)]
pub(super) struct Done {
    done: Mutex<bool>,
    wake: Condvar,
}

impl Done {
    fn lock(&self) -> MutexGuard<'_, bool> {
        self.done.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set(&self) {
        *self.lock() = true;
        self.wake.notify_all();
    }

    pub(super) fn wait(&self, time: Duration) -> bool {
        *self.wake.wait_timeout_while(self.lock(), time, |done| !*done).unwrap_or_else(PoisonError::into_inner).0
    }
}
