//! Whether a link is connected, since when, and why not: written by the link, read by whoever shows the gateway's status.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

/// See the module's head.
#[derive(Debug)]
pub struct LinkState(Mutex<Result<Instant, String>>);

impl Default for LinkState {
    fn default() -> Self {
        Self(Mutex::new(Err("no answer yet".to_owned())))
    }
}

impl LinkState {
    /// The link is connected and subscribed from now on.
    pub fn up(&self) {
        *self.now() = Ok(Instant::now());
    }

    /// It is not, for this reason.
    pub fn down(&self, why: &str) {
        *self.now() = Err(why.to_owned());
    }

    /// For how many seconds it has been connected.
    pub fn connected_s(&self) -> Result<u64, String> {
        self.now().clone().map(|since| since.elapsed().as_secs())
    }

    fn now(&self) -> MutexGuard<'_, Result<Instant, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
