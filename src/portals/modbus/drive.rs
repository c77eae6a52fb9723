//! One relay and what it shall do. Owns which order counts now, switching off for as long as it takes, and the end of a pulse
//! that the gateway times; how a release is tried and confirmed is `release`'s.
//!
//! It decides nothing: what it switches on it was given a grant for, and what it cannot switch off it says aloud.

use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};

use crate::profile::{Block, Output};
use crate::wire::modbus::Request;

use super::bus::{Bus, BusError, Released};
use super::queue::Priority;

/// How long a relay that must go off may be unconfirmed before it is an alarm, in milliseconds from the order or, where the first
/// try was answered, from that answer.
pub const UNCONFIRMED_MS: u64 = 2000;
/// How long the first try and its read-back may wait behind others on the line before that is an alarm, in milliseconds.
pub const CUT_QUEUED_MS_MAX: u64 = 10_000;
/// First wait between two tries to switch off, in milliseconds.
pub(super) const CUT_RETRY_MS_MIN: u64 = 100;
/// Longest wait between two tries to switch off, in milliseconds.
pub(super) const CUT_RETRY_MS_MAX: u64 = 2000;

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
    pub(super) fn turn(&self) -> Option<Instant> {
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

impl Wanted {
    /// Whether somebody waits for its outcome: it ends confirmed, or is reported as failed.
    fn is_release(self) -> bool {
        match self {
            Self::On { .. } | Self::Pulse { .. } => true,
            Self::AsItIs | Self::Off | Self::Hold => false,
        }
    }
}

/// The order in force. Only the newest is kept, so the releases are counted: each ends with an outcome, also one never seen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Order {
    pub(super) wanted: Wanted,
    /// Which order of this relay it is.
    pub(super) number: u64,
    releases: u64,
}

impl Order {
    pub(super) fn first(wanted: Wanted) -> Self {
        Self { wanted, number: 0, releases: u64::from(wanted.is_release()) }
    }

    /// The order that takes this one's place.
    pub(super) fn next(self, wanted: Wanted) -> Self {
        Self { wanted, number: self.number + 1, releases: self.releases + u64::from(wanted.is_release()) }
    }
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
    /// It is not known to be done, and is not tried any more; the grant is spent.
    Failed(String),
    /// It must be off and is not confirmed to be.
    Unconfirmed(String),
}

/// What became of an order. The relay's task says it while the portal may have ordered something else already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Told {
    /// The number of the order in force when it was said.
    pub(super) order: u64,
    pub(super) done: Done,
}

/// How switching off goes.
struct Trying {
    /// When it is an alarm.
    alarm_at: Instant,
    /// Why it is not off yet.
    cause: String,
}

/// The relay of one portal.
pub(super) struct Drive {
    pub(super) bus: Bus,
    pub(super) unit: u8,
    pub(super) output: Output,
    pub(super) channel: u16,
    pub(super) told: mpsc::Sender<Told>,
    pub(super) stagger: Arc<Stagger>,
}

impl Drive {
    /// Does what is wanted, and turns to what is wanted next at any moment. Ends when nobody can want anything any more.
    pub(super) async fn run(self, mut orders: watch::Receiver<Order>) {
        // Releases whose outcome was told.
        let mut settled = 0;
        loop {
            let Order { wanted: now_wanted, number, releases } = *orders.borrow_and_update();
            let before = releases - u64::from(now_wanted.is_release());
            for _ in settled..before {
                self.overtaken(number, now_wanted).await;
            }
            settled = before;
            // A pulse that the gateway times is always ended, also when the next one begins or the program stops.
            let timed_here = matches!(now_wanted, Wanted::Pulse { .. }) && self.output.pulse(self.channel, 0).is_none();
            let mut unfinished = now_wanted == Wanted::Off || timed_here;
            let change = async {
                match now_wanted {
                    Wanted::AsItIs => {}
                    Wanted::Off => self.off(number).await,
                    Wanted::Hold => self.hold(number).await,
                    Wanted::On { until } => {
                        self.released(number, self.on(until).await).await;
                        settled = releases;
                    }
                    Wanted::Pulse { until, hold_ms } => {
                        let done = self.pulse(until, hold_ms).await;
                        let pulsed = done == Done::Pulsed;
                        self.released(number, done).await;
                        settled = releases;
                        // One that failed may have been done all the same, and is ended at once.
                        if timed_here && pulsed {
                            sleep(Duration::from_millis(u64::from(hold_ms))).await;
                        }
                    }
                }
            };
            let ended = tokio::select! {
                biased;
                changed = orders.changed() => changed.is_err(),
                () = change => {
                    unfinished = timed_here;
                    if timed_here {
                        tokio::select! {
                            biased;
                            changed = orders.changed() => changed.is_err(),
                            () = async { self.off(number).await; std::future::pending().await } => false,
                        }
                    } else {
                        orders.changed().await.is_err()
                    }
                }
            };
            if ended {
                // What must be off is not left on because the program stops.
                if unfinished {
                    self.off(number).await;
                }
                let releases = orders.borrow().releases;
                for _ in settled..releases {
                    self.released(number, Done::Failed("the program stopped before it was confirmed".to_owned())).await;
                }
                return;
            }
        }
    }

    /// Says how a release ended.
    async fn released(&self, order: u64, done: Done) {
        let how = match done {
            Done::On(_) | Done::Pulsed => Released::Confirmed,
            Done::Off(_) | Done::Failed(_) | Done::Unconfirmed(_) => Released::Failed,
        };
        self.tell(order, done).await;
        self.bus.count_release(self.unit, self.channel, how);
    }

    /// Order `number` came before the release was confirmed. The outcome of one that opens counts for both, and one that closes is
    /// what is wanted now; but a release that was dropped because its device fell silent has failed.
    async fn overtaken(&self, number: u64, newer: Wanted) {
        match newer {
            Wanted::On { .. } | Wanted::Pulse { .. } | Wanted::Hold | Wanted::Off => {
                self.bus.count_release(self.unit, self.channel, Released::Overtaken);
            }
            Wanted::AsItIs => {
                let cause = "the device fell silent before it was confirmed".to_owned();
                self.released(number, Done::Failed(cause)).await;
            }
        }
    }

    pub(super) async fn tell(&self, order: u64, done: Done) {
        // The portal has ended: nobody wants to know.
        drop(self.told.send(Told { order, done }).await);
    }

    /// Reads the relay back; `None` where the device does not answer.
    pub(super) async fn state(&self, request: Request) -> Option<(bool, Instant)> {
        let answer = self.bus.call(self.unit, request.clone(), Priority::Confirm, None).await.ok()?;
        let mut block = Block::default();
        block.add(&request, answer.reply);
        let on = self.output.state.as_ref()?.flag(&block, self.channel)?;
        Some((on, answer.at))
    }

    /// The alarm interrupts no try: what waits for the line does not lose its place by it.
    async fn off(&self, order: u64) {
        let ordered = Instant::now();
        let (trying, mut told) = watch::channel(Trying {
            alarm_at: ordered + Duration::from_millis(CUT_QUEUED_MS_MAX),
            cause: String::from("it still waits for the line"),
        });
        let mut tries = pin!(self.off_until_confirmed(order, ordered, &trying));
        loop {
            let alarm_at = told.borrow_and_update().alarm_at;
            tokio::select! {
                biased;
                () = &mut tries => return,
                () = sleep_until(alarm_at) => break,
                // Another moment may count now; the sender lives as long as the tries.
                _ = told.changed() => {}
            }
        }
        let cause = told.borrow().cause.clone();
        self.tell(order, Done::Unconfirmed(cause)).await;
        tries.await;
    }

    async fn off_until_confirmed(&self, order: u64, ordered: Instant, trying: &watch::Sender<Trying>) {
        let mut since = None;
        let mut wait = Duration::from_millis(CUT_RETRY_MS_MIN);
        loop {
            let cause = match self.bus.call(self.unit, self.output.off(self.channel), Priority::Cut, None).await {
                Ok(answer) => {
                    since.get_or_insert(answer.at);
                    let Some(read) = self.output.read_back(self.channel) else {
                        return self.tell(order, Done::Off(answer.at)).await;
                    };
                    self.settle().await;
                    match self.state(read).await {
                        Some((false, at)) => return self.tell(order, Done::Off(at)).await,
                        Some((true, _)) => "the relay reads on after it was switched off".to_owned(),
                        None => "the relay was switched off but cannot be read back".to_owned(),
                    }
                }
                Err(BusError::Stopped) => return,
                Err(error) => error.to_string(),
            };
            let alarm_at = *since.get_or_insert(ordered) + Duration::from_millis(UNCONFIRMED_MS);
            trying.send_replace(Trying { alarm_at, cause });
            sleep(wait).await;
            wait = (wait * 2).min(Duration::from_millis(CUT_RETRY_MS_MAX));
        }
    }

    pub(super) async fn settle(&self) {
        if self.output.settle_ms > 0 {
            sleep(Duration::from_millis(u64::from(self.output.settle_ms))).await;
        }
    }
}
