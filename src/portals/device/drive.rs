//! How an output is switched: one try and its confirmation, further tries within the deadline of an order, the pause between outputs of
//! one supply, and when an output that is not off raises an alarm. After the deadline of an order nothing is sent.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::{NotSet, OutputTraits, Place, Set, Wiring};

/// How long an output that must go off may be unconfirmed before an alarm is raised, in milliseconds from the order or, where the first
/// try was answered, from that answer.
pub const UNCONFIRMED_MS: u64 = 2000;
/// How long the first try and its read-back may wait behind others before an alarm is raised, in milliseconds.
const OFF_QUEUED_MS_MAX: u64 = 10_000;
/// First wait between two tries to switch off, or to hold on, in milliseconds.
const RETRY_MS_MIN: u64 = 100;
/// Longest wait between two tries to switch off, or to hold on, in milliseconds.
const RETRY_MS_MAX: u64 = 2000;
/// Wait before a release is tried again, in milliseconds.
const ON_RETRY_MS: u64 = 100;
/// Time between two outputs with one supply that are switched on, in milliseconds.
pub const STAGGER_MS: u64 = 150;
/// Longest wait for a turn, in milliseconds; a grant that would wait longer fails.
const STAGGER_MS_MAX: u64 = 60_000;
/// The cause of a release whose outcome is unknown.
const CANNOT_BE_READ: &str = "the relay was switched on but cannot be read back";

/// How one piece of work ended.
pub(super) enum Step {
    /// The output is on, as confirmed at this moment.
    On(Instant),
    /// The output is off, as confirmed at this moment.
    Off(Instant),
    /// The pulse was sent and confirmed.
    Pulsed,
    /// A release is not known to be done and is not tried any more.
    Failed(String),
    /// It may still be on: when the device acknowledged the switching off, if it did, and why it is not confirmed to be off.
    NotOff(Option<Instant>, String),
    /// The time of a pulse that the gateway ends is over.
    PulseOver,
    /// The adapter has ended.
    Gone,
}

/// The ways to switch an output and to confirm it.
#[derive(Clone)]
pub(super) struct Drive<W> {
    pub(super) wiring: W,
    pub(super) traits: Arc<OutputTraits>,
}

impl<W: Wiring> Drive<W> {
    pub(super) fn new(wiring: W, traits: OutputTraits) -> Self {
        Self { wiring, traits: Arc::new(traits) }
    }

    pub(super) async fn switch_off(&self) -> Step {
        match self.wiring.set(Set::Off, None).await {
            Ok(at) if !self.traits.reads_back => Step::Off(at),
            Ok(at) => {
                self.settle().await;
                let cause = match self.wiring.read_back().await {
                    Some((false, at)) => return Step::Off(at),
                    Some((true, _)) => "the relay reads on after it was switched off",
                    None => "the relay was switched off but cannot be read back",
                };
                Step::NotOff(Some(at), cause.to_owned())
            }
            Err(NotSet::Ended) => Step::Gone,
            Err(error) => Step::NotOff(None, error.cause()),
        }
    }

    /// Switches on to stay on, when its turn has come. The grant stands as long as the card is there, so the wait for a turn does not make
    /// it late; whatever ends the grant ends the wait too.
    pub(super) async fn switch_on(&self, until: Instant) -> Step {
        let Some(turn) = self.traits.stagger.turn() else {
            return Step::Failed(format!(
                "too many outputs of its supply wait to be switched on: its turn would come in more than {STAGGER_MS_MAX} ms"
            ));
        };
        let until = until.max(turn + Duration::from_millis(u64::from(self.traits.deadline_ms)));
        sleep_until(turn).await;
        self.in_time(until, self.level(until)).await.map_or_else(Step::Failed, Step::On)
    }

    /// Switches on and tries until that is confirmed: a standing mode has no deadline.
    pub(super) async fn hold(&self) -> Step {
        let mut wait = Duration::from_millis(RETRY_MS_MIN);
        loop {
            let until = Instant::now() + Duration::from_millis(u64::from(self.traits.deadline_ms));
            let error = match self.level_once(until).await {
                Ok(at) => return Step::On(at),
                Err(error) => error.cause(),
            };
            let Place { bus, unit, channel, function, address } = self.wiring.place(None);
            tracing::warn!(bus, unit, channel, function, address, error, "a relay cannot be held on");
            sleep(wait).await;
            wait = (wait * 2).min(Duration::from_millis(RETRY_MS_MAX));
        }
    }

    /// One pulse; the device ends it or, after this, the gateway.
    pub(super) async fn pulse(&self, hold_ms: u32, until: Instant) -> Step {
        let pulsed = match self.wiring.pulse_ms(hold_ms) {
            Some(lasts_ms) => self.in_time(until, self.timed(hold_ms, lasts_ms, until)).await,
            None => self.in_time(until, self.level(until)).await.map(drop),
        };
        pulsed.map_or_else(Step::Failed, |()| Step::Pulsed)
    }

    /// Switches on, and again as often as the profile allows: setting an output on twice does no harm.
    async fn level(&self, until: Instant) -> Result<Instant, NotSet> {
        let mut left = self.traits.retry;
        loop {
            match self.level_once(until).await {
                Err(NotSet::Unknown(_)) if left > 0 => left -= 1,
                ended => return ended,
            }
            sleep(Duration::from_millis(ON_RETRY_MS)).await;
        }
    }

    async fn level_once(&self, until: Instant) -> Result<Instant, NotSet> {
        let at = self.set(Set::On, until).await.1?;
        if !self.traits.reads_back {
            return Ok(at);
        }
        self.settle().await;
        match self.wiring.read_back().await {
            Some((true, at)) => Ok(at),
            Some((false, _)) => Err(NotSet::Unknown("the relay reads off after it was switched on".to_owned())),
            None => Err(NotSet::Unknown(CANNOT_BE_READ.to_owned())),
        }
    }

    /// A pulse that the device ends after `lasts_ms`. A second one would open twice, so it is sent again only when the output is read
    /// off while the first would still last and the device did not acknowledge the first.
    async fn timed(&self, hold_ms: u32, lasts_ms: u32, until: Instant) -> Result<(), NotSet> {
        let refused = |cause: &str| Err(NotSet::Refused(cause.to_owned()));
        let lasts = Duration::from_millis(u64::from(lasts_ms));
        let mut left = self.traits.retry;
        loop {
            let (begun, taken) = self.set(Set::Pulse { hold_ms }, until).await;
            let taken = match taken {
                Ok(_) => Ok(()),
                Err(NotSet::Unknown(cause)) => Err(cause),
                Err(error) => return Err(error),
            };
            if !self.traits.reads_back {
                return taken.map_err(NotSet::Unknown);
            }
            self.settle().await;
            let on = loop {
                let again = Duration::from_millis(ON_RETRY_MS);
                let may_follow = taken.is_ok() && begun.elapsed() < lasts && Instant::now() + again < until;
                match self.wiring.read_back().await {
                    // Many controllers set what is read only in their next cycle.
                    Some((false, _)) if may_follow => sleep(again).await,
                    Some((on, _)) => break on,
                    None if left > 0 => left -= 1,
                    None => return refused(CANNOT_BE_READ),
                }
            };
            match taken {
                _ if on => return Ok(()),
                _ if begun.elapsed() >= lasts => return refused("its pulse may be over before it could be read back"),
                Ok(()) => return refused("the relay reads off after it took the pulse"),
                Err(cause) if left == 0 => return Err(NotSet::Refused(cause)),
                Err(_) => left -= 1,
            }
        }
    }

    /// Sets the output, and returns when the last try began. A busy device is tried again until `until`, which uses up no try of the
    /// profile. This is the only place where busy devices are tried again, whatever the adapter.
    async fn set(&self, set: Set, until: Instant) -> (Instant, Result<Instant, NotSet>) {
        loop {
            let begun = Instant::now();
            match self.wiring.set(set, Some(until)).await {
                Err(NotSet::Busy(_)) if Instant::now() < until => {
                    sleep_until(until.min(Instant::now() + Duration::from_millis(ON_RETRY_MS))).await;
                }
                ended => return (begun, ended),
            }
        }
    }

    /// Runs the tries of a release and ends them at `until`.
    async fn in_time<T>(&self, until: Instant, tries: impl Future<Output = Result<T, NotSet>>) -> Result<T, String> {
        match timeout_at(until, tries).await {
            Ok(ended) => ended.map_err(NotSet::cause),
            Err(_) => Err(format!("not confirmed within {} ms", self.traits.deadline_ms)),
        }
    }

    /// Waits until the output no longer reads as before it was set.
    async fn settle(&self) {
        if self.traits.settle_ms > 0 {
            sleep(Duration::from_millis(u64::from(self.traits.settle_ms))).await;
        }
    }
}

/// The state of switching off, from the order until it is confirmed.
pub(super) struct Cut {
    ordered: Instant,
    /// The start of the time to the alarm, once the first try has ended.
    since: Option<Instant>,
    alarm_at: Instant,
    wait: Duration,
    /// Why it is not off yet.
    cause: String,
    alarmed: bool,
    /// Nobody ordered it: an order on was not confirmed. That is an alarm of its own, and this raises none.
    is_precaution: bool,
}

impl Cut {
    pub(super) fn ordered(ordered: Instant) -> Self {
        Self {
            ordered,
            since: None,
            alarm_at: ordered + Duration::from_millis(OFF_QUEUED_MS_MAX),
            wait: Duration::from_millis(RETRY_MS_MIN),
            cause: String::from("it still waits for the line"),
            alarmed: false,
            is_precaution: false,
        }
    }

    /// One after an order on that was not confirmed.
    pub(super) fn precaution(ordered: Instant) -> Self {
        Self { is_precaution: true, ..Self::ordered(ordered) }
    }

    pub(super) fn is_precaution(&self) -> bool {
        self.is_precaution
    }

    /// One try has ended, and the output may still be on. Returns the wait before the next one.
    pub(super) fn not_off(&mut self, answered: Option<Instant>, cause: String) -> Duration {
        let since = *self.since.get_or_insert(answered.unwrap_or(self.ordered));
        self.alarm_at = since + Duration::from_millis(UNCONFIRMED_MS);
        self.cause = cause;
        let doubled = (self.wait * 2).min(Duration::from_millis(RETRY_MS_MAX));
        std::mem::replace(&mut self.wait, doubled)
    }

    /// When the alarm is to be raised, if it was not raised yet.
    pub(super) fn alarm_at(&self) -> Option<Instant> {
        (!self.alarmed && !self.is_precaution).then_some(self.alarm_at)
    }

    /// Notes that the alarm is raised, and returns its cause.
    pub(super) fn alarmed(&mut self) -> String {
        self.alarmed = true;
        self.cause.clone()
    }
}

/// Spaces out the switching on of all outputs with one supply: lamps, kettles and chargers draw most at the first moment.
#[derive(Debug)]
pub struct Stagger(Mutex<Instant>);

impl Stagger {
    /// No output waits.
    #[must_use]
    pub fn new() -> Self {
        Self(Mutex::new(Instant::now()))
    }

    /// When the next one may be switched on; `None`: too many wait.
    fn turn(&self) -> Option<Instant> {
        let now = Instant::now();
        let mut next = crate::lock(&self.0);
        let turn = (*next).max(now);
        if turn.duration_since(now) > Duration::from_millis(STAGGER_MS_MAX) {
            return None;
        }
        *next = turn + Duration::from_millis(STAGGER_MS);
        Some(turn)
    }
}

impl Default for Stagger {
    fn default() -> Self {
        Self::new()
    }
}
