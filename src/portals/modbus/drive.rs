//! One relay and what it shall do. Owns tries, reading back, and the end of a pulse that the gateway times.
//!
//! It decides nothing: what it switches on it was given a grant for, and what it cannot switch off it says aloud.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use crate::wire::modbus::Request;
use crate::wire::profile::{Block, Output};

use super::bus::{Bus, BusError};
use super::queue::Priority;

/// How long a grant may wait for the line: what comes later opens nothing. Milliseconds.
pub const RELEASE_TTL_MS: u64 = 1500;
/// How long a relay that must go off may be unconfirmed before it is an alarm, in milliseconds.
pub const UNCONFIRMED_MS: u64 = 2000;
/// First wait between two tries to switch off, in milliseconds.
const CUT_RETRY_MS_MIN: u64 = 100;
/// Longest wait between two tries to switch off, in milliseconds.
const CUT_RETRY_MS_MAX: u64 = 2000;
/// Wait between two tries to switch on, in milliseconds.
const ON_RETRY_MS: u64 = 100;

/// Rooms of one line are switched on one after another: lamps, kettles and chargers all draw most at the first moment. Milliseconds.
pub const STAGGER_MS: u64 = 150;
/// Longest wait for one's turn, in milliseconds; a grant that would wait longer is refused.
pub const STAGGER_MS_MAX: u64 = 60_000;

/// Whose turn it is to be switched on, for all relays of one line.
#[derive(Debug)]
pub(super) struct Stagger(Mutex<Instant>);

impl Stagger {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Instant::now()))
    }

    /// When the next one may be switched on; `None`: too many wait.
    fn turn(&self) -> Option<Instant> {
        let now = Instant::now();
        let mut next = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = (*next).max(now);
        if turn.duration_since(now) > Duration::from_millis(STAGGER_MS_MAX) {
            return None;
        }
        *next = turn + Duration::from_millis(STAGGER_MS);
        Some(turn)
    }
}

/// What a relay shall do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Nothing was said yet, or the link was lost: it is left as it is.
    AsItIs,
    /// Off, until it is confirmed.
    Off,
    /// On and stay on; given up when not confirmed by then.
    On {
        /// When the grant ends to count.
        until: Instant,
    },
    /// On as long as the standing mode says so.
    Hold,
    /// On for a moment.
    Pulse {
        /// When the grant ends to count.
        until: Instant,
        /// How long, in milliseconds.
        hold_ms: u32,
    },
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Done {
    /// The relay is on, as read back at this moment.
    On(Instant),
    /// The relay is off, as read back at this moment.
    Off(Instant),
    /// The pulse was sent and confirmed.
    Pulsed,
    /// It could not be done; the grant is spent.
    Failed(String),
    /// It must be off and is not confirmed to be.
    Unconfirmed(String),
}

/// The relay of one portal.
pub(super) struct Drive {
    pub(super) bus: Bus,
    pub(super) unit: u8,
    pub(super) output: Output,
    pub(super) channel: u16,
    pub(super) told: mpsc::Sender<Done>,
    pub(super) stagger: Arc<Stagger>,
}

impl Drive {
    /// Does what is wanted, and turns to what is wanted next at any moment. Ends when nobody can want anything any more.
    pub(super) async fn run(self, mut wanted: watch::Receiver<Wanted>) {
        loop {
            let now_wanted = *wanted.borrow_and_update();
            let change = async {
                match now_wanted {
                    Wanted::AsItIs => {}
                    Wanted::Off => self.off().await,
                    Wanted::On { until } => self.on(until).await,
                    Wanted::Hold => self.hold().await,
                    Wanted::Pulse { until, hold_ms } => self.pulse(until, hold_ms).await,
                }
            };
            // A pulse that the gateway times is always ended, also when the next one begins or the program stops.
            let timed_here = matches!(now_wanted, Wanted::Pulse { .. }) && self.output.pulse(self.channel, 0).is_none();
            let mut unfinished = now_wanted == Wanted::Off || timed_here;
            let ended = tokio::select! {
                biased;
                changed = wanted.changed() => changed.is_err(),
                () = change => {
                    unfinished = timed_here;
                    if timed_here {
                        tokio::select! {
                            biased;
                            changed = wanted.changed() => changed.is_err(),
                            () = async { self.off().await; std::future::pending().await } => false,
                        }
                    } else {
                        wanted.changed().await.is_err()
                    }
                }
            };
            if ended {
                // What must be off is not left on because the program stops.
                if unfinished {
                    self.off().await;
                }
                return;
            }
        }
    }

    async fn tell(&self, done: Done) {
        // The portal has ended: nobody wants to know.
        drop(self.told.send(done).await);
    }

    /// Reads the relay back; `None` where the device cannot be asked or does not answer.
    async fn state(&self, request: Request) -> Option<(bool, Instant)> {
        let answer = self.bus.call(self.unit, request.clone(), Priority::Cut, None).await.ok()?;
        let mut block = Block::default();
        block.add(&request, answer.reply);
        let on = self.output.state.as_ref()?.flag(&block, self.channel)?;
        Some((on, answer.at))
    }

    async fn off(&self) {
        let alarm_at = Instant::now() + Duration::from_millis(UNCONFIRMED_MS);
        let mut cause = String::from("no answer");
        if timeout_at(alarm_at, self.off_until_confirmed(&mut cause)).await.is_err() {
            self.tell(Done::Unconfirmed(cause.clone())).await;
            self.off_until_confirmed(&mut cause).await;
        }
    }

    async fn off_until_confirmed(&self, cause: &mut String) {
        let mut wait = Duration::from_millis(CUT_RETRY_MS_MIN);
        loop {
            match self.bus.call(self.unit, self.output.off(self.channel), Priority::Cut, None).await {
                Ok(answer) => {
                    let Some(read) = self.output.read_state(self.channel) else {
                        return self.tell(Done::Off(answer.at)).await;
                    };
                    self.settle().await;
                    match self.state(read).await {
                        Some((false, at)) => return self.tell(Done::Off(at)).await,
                        Some((true, _)) => "the relay reads on after it was switched off".clone_into(cause),
                        None => "the relay was switched off but cannot be read back".clone_into(cause),
                    }
                }
                Err(BusError::Stopped) => return,
                Err(error) => *cause = error.to_string(),
            }
            sleep(wait).await;
            wait = (wait * 2).min(Duration::from_millis(CUT_RETRY_MS_MAX));
        }
    }

    async fn on(&self, until: Instant) {
        // The grant stands as long as the card lies there, so waiting for one's turn does not make it late: what ends it
        // replaces what is wanted, and so ends the wait too.
        let Some(turn) = self.stagger.turn() else {
            return self.tell(Done::Failed(format!("its turn would come in more than {STAGGER_MS_MAX} ms"))).await;
        };
        let until = until.max(turn + Duration::from_millis(RELEASE_TTL_MS));
        sleep_until(turn).await;
        loop {
            let (cause, again) = match self.on_once(until).await {
                Ok(at) => return self.tell(Done::On(at)).await,
                Err(failed) => failed,
            };
            let next = Instant::now() + Duration::from_millis(ON_RETRY_MS);
            if !again || next > until {
                return self.tell(Done::Failed(cause)).await;
            }
            sleep_until(next).await;
        }
    }

    /// Until it is confirmed: a standing mode is in force now, however long the try takes.
    async fn hold(&self) {
        let mut wait = Duration::from_millis(CUT_RETRY_MS_MIN);
        loop {
            match self.on_once(Instant::now() + Duration::from_millis(RELEASE_TTL_MS)).await {
                Ok(at) => return self.tell(Done::On(at)).await,
                Err((cause, _)) => {
                    tracing::warn!(bus = self.bus.id(), unit = self.unit, "cannot be held open: {cause}");
                }
            }
            sleep(wait).await;
            wait = (wait * 2).min(Duration::from_millis(CUT_RETRY_MS_MAX));
        }
    }

    /// Switches on and reads back. The error says why not, and whether trying again can help.
    async fn on_once(&self, until: Instant) -> Result<Instant, (String, bool)> {
        match self.bus.call(self.unit, self.output.on(self.channel), Priority::Release, Some(until)).await {
            // A level may be tried again; a refusal and what was not sent in time are final.
            Ok(answer) => {
                let Some(read) = self.output.read_state(self.channel) else { return Ok(answer.at) };
                self.settle().await;
                match self.state(read).await {
                    Some((true, at)) => Ok(at),
                    Some((false, _)) => Err(("the relay reads off after it was switched on".to_owned(), true)),
                    None => Err(("the relay was switched on but cannot be read back".to_owned(), true)),
                }
            }
            Err(BusError::Unknown(cause)) => Err((cause, true)),
            Err(
                error @ (BusError::Refused(_)
                | BusError::Expired
                | BusError::Offline(_)
                | BusError::Full
                | BusError::Stopped),
            ) => Err((error.to_string(), false)),
        }
    }

    /// One pulse, never tried again: a second one would open twice.
    async fn pulse(&self, until: Instant, hold_ms: u32) {
        let (request, gateway_ms) = match self.output.pulse(self.channel, hold_ms) {
            Some((request, _)) => (request, None),
            None => (self.output.on(self.channel), Some(hold_ms)),
        };
        match self.bus.call(self.unit, request, Priority::Release, Some(until)).await {
            Ok(_) => self.tell(Done::Pulsed).await,
            Err(error) => self.tell(Done::Failed(error.to_string())).await,
        }
        if let Some(ms) = gateway_ms {
            sleep(Duration::from_millis(u64::from(ms))).await;
        }
    }

    async fn settle(&self) {
        if self.output.settle_ms > 0 {
            sleep(Duration::from_millis(u64::from(self.output.settle_ms))).await;
        }
    }
}
