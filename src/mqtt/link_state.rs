//! Whether a link is connected, since when, and why not: written by the link, read by whoever shows the gateway's status.

use std::sync::Mutex;

use tokio::time::Instant;

use crate::lock;

#[derive(Clone, Debug)]
enum State {
    Up(Instant),
    Down(String),
    Refused(String),
}

/// See the module's head.
#[derive(Debug)]
pub struct LinkState(Mutex<State>);

impl Default for LinkState {
    fn default() -> Self {
        Self(Mutex::new(State::Down("no answer yet".to_owned())))
    }
}

impl LinkState {
    /// The link is connected and subscribed from now on.
    pub fn up(&self) {
        *lock(&self.0) = State::Up(Instant::now());
    }

    /// It is not, for this reason.
    pub fn down(&self, why: &str) {
        *lock(&self.0) = State::Down(why.to_owned());
    }

    /// It is connected, and the broker serves it nothing, for this reason.
    pub fn refused(&self, why: &str) {
        *lock(&self.0) = State::Refused(why.to_owned());
    }

    /// For how many seconds it has been connected and subscribed, or why it is not.
    pub fn connected_s(&self) -> Result<u64, String> {
        match &*lock(&self.0) {
            State::Up(since) => Ok(since.elapsed().as_secs()),
            State::Down(why) | State::Refused(why) => Err(why.clone()),
        }
    }

    /// Why the broker serves it nothing although it is connected.
    #[must_use]
    pub fn refusal(&self) -> Option<String> {
        match &*lock(&self.0) {
            State::Refused(why) => Some(why.clone()),
            State::Up(_) | State::Down(_) => None,
        }
    }
}
