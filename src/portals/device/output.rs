//! One output: what it shall be, and every way to get there. Polled by its portal's select; it has no task of its own.
//!
//! ```text
//!            energise            confirmed
//! unchanged ----------> On ----------------> stays on
//!     |  release        | not confirmed: failed, and off
//!     +---------> Pulse -> the device ends it, or the gateway: off
//!     |  mode           ^ a newer order supersedes an older one at any moment
//!     +---------> Hold -+-> Off: tried until it is confirmed, an alarm after 2 s
//! ```
//! A release ends confirmed or as a failure that is reported, and never late: after its deadline nothing is sent. Off is never given up.

use std::pin::Pin;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use super::pulse::{CANNOT_BE_READ, ON_RETRY_MS, in_time, settle, timed};
use super::stagger::STAGGER_MS_MAX;
use super::{NotSet, OutputTraits, Released, Set, Wiring};

/// How long an output that must go off may be unconfirmed before it is an alarm, in milliseconds from the order or, where the first
/// try was answered, from that answer.
pub const UNCONFIRMED_MS: u64 = 2000;
/// How long the first try and its read-back may wait behind others before that is an alarm, in milliseconds.
const OFF_QUEUED_MS_MAX: u64 = 10_000;
/// First wait between two tries to switch off, in milliseconds.
const OFF_RETRY_MS_MIN: u64 = 100;
/// Longest wait between two tries to switch off, in milliseconds.
const OFF_RETRY_MS_MAX: u64 = 2000;
/// What an output shall be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Desired {
    /// Nothing was ordered yet, or its device was lost: it is left as it is.
    Unchanged,
    /// Off.
    Off,
    /// On, by a grant that stands.
    On,
    /// On as long as the standing mode lasts.
    Hold,
    /// On for a moment.
    Pulse { hold_ms: u32 },
}

/// What became of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The output is on, as confirmed at this moment.
    On(Instant),
    /// The output is off, as confirmed at this moment.
    Off(Instant),
    /// The pulse was sent and confirmed.
    Pulsed,
    /// A release is not known to be done and is not tried any more; its grant is consumed.
    Failed(String),
    /// It must be off and is not confirmed to be; it is tried on.
    Unconfirmed(String),
}

/// How one piece of work ended.
enum Step {
    Ended(Outcome),
    /// It may still be on. When the device acknowledged that it was switched off, and why that does not do.
    NotOff(Option<Instant>, String),
    /// The time of a pulse that the gateway ends is over.
    PulseOver,
    /// The adapter has ended.
    Gone,
}

type Work = Pin<Box<dyn Future<Output = Step> + Send>>;

/// How switching off goes.
struct Cut {
    ordered: Instant,
    /// From when the time to the alarm counts, once the first try has ended.
    since: Option<Instant>,
    /// When it is an alarm.
    alarm_at: Instant,
    wait: Duration,
    /// Why it is not off yet.
    cause: String,
    alarmed: bool,
}

/// See the module's head.
pub(super) struct Output<W> {
    wiring: W,
    pub(super) traits: OutputTraits,
    desired: Desired,
    /// A release has no outcome yet.
    releasing: bool,
    cut: Option<Cut>,
    /// Granted while it is still being switched off, and until when that counts: off comes first.
    next: Option<Instant>,
    work: Option<Work>,
    /// How it was read or confirmed last, and when that was confirmed: what was read before does not count any more.
    pub(super) state: Option<bool>,
    confirmed_at: Option<Instant>,
}

impl<W: Wiring> Output<W> {
    pub(super) fn new(wiring: W, traits: OutputTraits, off_first: bool) -> Self {
        let desired = Desired::Unchanged;
        let mut output = Self {
            wiring,
            traits,
            desired,
            releasing: false,
            cut: None,
            next: None,
            work: None,
            state: None,
            confirmed_at: None,
        };
        if off_first {
            output.off();
        }
        output
    }

    fn deadline(&self) -> Instant {
        Instant::now() + Duration::from_millis(u64::from(self.traits.deadline_ms))
    }

    /// Opens once. A pulse would end what the standing mode holds open.
    pub(super) fn release(&mut self, hold_ms: u32) {
        if self.desired == Desired::Hold {
            return;
        }
        self.supersede(Desired::Pulse { hold_ms });
        let (wiring, traits, until) = (self.wiring.clone(), self.traits.clone(), self.deadline());
        self.begin(async move { Step::Ended(pulse(&wiring, &traits, hold_ms, until).await) });
    }

    /// Switches on to stay on; one that is being switched off goes off first. One that is on, or waits for its turn, keeps its turn.
    pub(super) fn energise(&mut self) {
        let until = self.deadline();
        match self.desired {
            Desired::Off if self.cut.is_some() => self.wait_for_off(Some(until)),
            Desired::On if self.releasing || self.state == Some(true) => {}
            _ => self.switch_on(until),
        }
    }

    fn switch_on(&mut self, until: Instant) {
        self.supersede(Desired::On);
        let (wiring, traits) = (self.wiring.clone(), self.traits.clone());
        self.begin(async move { Step::Ended(switch_on(&wiring, &traits, until).await) });
    }

    /// Switches off, and drops what waits for that.
    pub(super) fn cut(&mut self) {
        self.wait_for_off(None);
        self.off();
    }

    /// Switches off. What is being switched off already goes on, with its tries and its alarm.
    pub(super) fn off(&mut self) {
        if self.desired == Desired::Off && self.cut.is_some() {
            return;
        }
        self.supersede(Desired::Off);
        let ordered = Instant::now();
        self.cut = Some(Cut {
            ordered,
            since: None,
            alarm_at: ordered + Duration::from_millis(OFF_QUEUED_MS_MAX),
            wait: Duration::from_millis(OFF_RETRY_MS_MIN),
            cause: String::from("it still waits for the line"),
            alarmed: false,
        });
        self.try_off(Duration::ZERO);
    }

    /// Whether a standing mode holds it on. `answers`: whether its device does.
    pub(super) fn hold(&mut self, open: bool, answers: bool) {
        match self.desired {
            Desired::Hold if open => {}
            _ if open => {
                self.supersede(Desired::Hold);
                let (wiring, traits) = (self.wiring.clone(), self.traits.clone());
                self.begin(async move { Step::Ended(hold(&wiring, &traits).await) });
            }
            Desired::Hold => self.off(),
            // It may be on by an earlier run. The gateway repeats the mode when a device is back.
            Desired::Unchanged if answers => self.off(),
            // A release under way ends by itself.
            Desired::Unchanged | Desired::Pulse { .. } | Desired::On | Desired::Off => {}
        }
    }

    /// Its device fell silent. What was switched on before is not switched on again after it; what must go off still must. Gives the
    /// outcome of a release that had none.
    pub(super) fn lost(&mut self) -> Option<Outcome> {
        self.state = None;
        // What waits for off has waited long enough.
        self.next.iter_mut().for_each(|until| *until = Instant::now());
        match self.desired {
            // The gateway sends a portal that comes back its standing mode again.
            Desired::On | Desired::Hold => {
                self.desired = Desired::Unchanged;
                self.work = None;
                std::mem::take(&mut self.releasing).then(|| {
                    self.wiring.count(Released::Failed);
                    Outcome::Failed("the device fell silent before it was confirmed".to_owned())
                })
            }
            // A pulse ends by itself, or goes on being tried to end.
            Desired::Pulse { .. } | Desired::Off | Desired::Unchanged => None,
        }
    }

    /// Whether it shall be off, and nothing is under way to make it so.
    pub(super) fn rests_off(&self) -> bool {
        self.desired == Desired::Off && self.cut.is_none()
    }

    /// Takes how it was read or confirmed at `at`. Reports whether that is news.
    pub(super) fn observe(&mut self, on: bool, at: Instant) -> bool {
        if self.confirmed_at.is_some_and(|since| at < since) {
            return false;
        }
        self.confirmed_at = Some(at);
        self.state.replace(on) != Some(on)
    }

    /// A newer order takes the place of the one in force, whose outcome counts for both.
    fn supersede(&mut self, desired: Desired) {
        if self.releasing {
            self.wiring.count(Released::Superseded);
        }
        (self.desired, self.work, self.cut) = (desired, None, None);
        self.releasing = matches!(desired, Desired::On | Desired::Pulse { .. });
    }

    fn wait_for_off(&mut self, next: Option<Instant>) {
        if std::mem::replace(&mut self.next, next).is_some() {
            self.wiring.count(Released::Superseded);
        }
    }

    fn begin(&mut self, work: impl Future<Output = Step> + Send + 'static) {
        self.work = Some(Box::pin(work));
    }

    fn try_off(&mut self, wait: Duration) {
        let (wiring, traits) = (self.wiring.clone(), self.traits.clone());
        self.begin(async move {
            sleep(wait).await;
            switch_off(&wiring, &traits).await
        });
    }

    /// The next outcome; never, where nothing is under way. May be dropped at any moment without a loss.
    pub(super) async fn next(&mut self) -> Outcome {
        loop {
            let alarm_at = self.cut.as_ref().filter(|cut| !cut.alarmed).map(|cut| cut.alarm_at);
            let step = tokio::select! {
                biased;
                step = work(&mut self.work) => step,
                // The alarm interrupts no try: what waits for the line keeps its place.
                () = at(alarm_at) => {
                    let Some(cut) = &mut self.cut else { continue };
                    cut.alarmed = true;
                    return Outcome::Unconfirmed(cut.cause.clone());
                }
                () = at(self.next) => {
                    self.next = None;
                    self.wiring.count(Released::Failed);
                    return Outcome::Failed("the relay could not be switched off before, in time".to_owned());
                }
            };
            self.work = None;
            match step {
                Step::Ended(outcome) => {
                    self.ended(&outcome);
                    return outcome;
                }
                Step::NotOff(answered, cause) => self.not_off(answered, cause),
                Step::PulseOver => self.off(),
                Step::Gone => {
                    self.cut = None;
                    return Outcome::Unconfirmed(NotSet::Ended.cause());
                }
            }
        }
    }

    fn ended(&mut self, outcome: &Outcome) {
        if std::mem::take(&mut self.releasing) {
            let confirmed = matches!(outcome, Outcome::On(_) | Outcome::Pulsed);
            self.wiring.count(if confirmed { Released::Confirmed } else { Released::Failed });
        }
        match (self.desired, outcome) {
            (_, Outcome::Off(_)) => {
                self.cut = None;
                match self.next.take() {
                    Some(until) if Instant::now() < until => self.switch_on(until),
                    // It is too late for what waits, which is reported next.
                    other => self.next = other,
                }
            }
            (Desired::Pulse { hold_ms }, Outcome::Pulsed) if self.wiring.pulse_ms(hold_ms).is_none() => {
                self.begin(async move {
                    sleep(Duration::from_millis(u64::from(hold_ms))).await;
                    Step::PulseOver
                });
            }
            // It may have been carried out all the same, and must not stay on by that.
            (Desired::Pulse { hold_ms }, Outcome::Failed(_)) if self.wiring.pulse_ms(hold_ms).is_none() => self.off(),
            (Desired::On, Outcome::Failed(_)) => {
                self.off();
                // The gateway counts it as on, so that it is off is news, also if it was off before.
                self.state = None;
            }
            _ => {}
        }
    }

    fn not_off(&mut self, answered: Option<Instant>, cause: String) {
        let Some(cut) = &mut self.cut else { return };
        let since = *cut.since.get_or_insert(answered.unwrap_or(cut.ordered));
        cut.alarm_at = since + Duration::from_millis(UNCONFIRMED_MS);
        cut.cause = cause;
        let wait = cut.wait;
        cut.wait = (wait * 2).min(Duration::from_millis(OFF_RETRY_MS_MAX));
        self.try_off(wait);
    }

    /// The program stops: what must go off, and a pulse that the gateway ends, are switched off first.
    pub(super) async fn finish(mut self) {
        if std::mem::take(&mut self.releasing) {
            self.wiring.count(Released::Failed);
        }
        if let Desired::Pulse { hold_ms } = self.desired
            && self.wiring.pulse_ms(hold_ms).is_none()
        {
            self.off();
        }
        self.next = None;
        while self.cut.is_some() {
            self.next().await;
        }
    }
}

async fn work(work: &mut Option<Work>) -> Step {
    match work {
        Some(work) => work.await,
        None => std::future::pending().await,
    }
}

async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

async fn switch_off<W: Wiring>(wiring: &W, traits: &OutputTraits) -> Step {
    match wiring.set(Set::Off, None).await {
        Ok(at) if !traits.reads_back => Step::Ended(Outcome::Off(at)),
        Ok(at) => {
            settle(traits).await;
            let cause = match wiring.read_back().await {
                Some((false, at)) => return Step::Ended(Outcome::Off(at)),
                Some((true, _)) => "the relay reads on after it was switched off",
                None => "the relay was switched off but cannot be read back",
            };
            Step::NotOff(Some(at), cause.to_owned())
        }
        Err(NotSet::Ended) => Step::Gone,
        Err(error) => Step::NotOff(None, error.cause()),
    }
}

/// Switches on to stay on, when its turn has come. The grant stands as long as the card is there, so waiting for one's turn does not
/// make it late; what ends the grant ends the wait too.
async fn switch_on<W: Wiring>(wiring: &W, traits: &OutputTraits, until: Instant) -> Outcome {
    let Some(turn) = traits.stagger.turn() else {
        return Outcome::Failed(format!("its turn would come in more than {STAGGER_MS_MAX} ms"));
    };
    let until = until.max(turn + Duration::from_millis(u64::from(traits.deadline_ms)));
    sleep_until(turn).await;
    in_time(traits, until, level(wiring, traits, until)).await.map_or_else(Outcome::Failed, Outcome::On)
}

/// Switches on until it is confirmed: a standing mode is in force now, however long the try takes.
async fn hold<W: Wiring>(wiring: &W, traits: &OutputTraits) -> Outcome {
    let mut wait = Duration::from_millis(OFF_RETRY_MS_MIN);
    loop {
        let until = Instant::now() + Duration::from_millis(u64::from(traits.deadline_ms));
        let error = match level_once(wiring, traits, until).await {
            Ok(at) => return Outcome::On(at),
            Err(error) => error.cause(),
        };
        let super::Place { bus, unit, channel, function, address } = wiring.output_place();
        tracing::warn!(bus, unit, channel, function, address, error, "a relay cannot be held on");
        sleep(wait).await;
        wait = (wait * 2).min(Duration::from_millis(OFF_RETRY_MS_MAX));
    }
}

/// One pulse; the device ends it or, after this, the gateway.
async fn pulse<W: Wiring>(wiring: &W, traits: &OutputTraits, hold_ms: u32, until: Instant) -> Outcome {
    let pulsed = match wiring.pulse_ms(hold_ms) {
        Some(lasts_ms) => {
            let lasts = Duration::from_millis(u64::from(lasts_ms));
            in_time(traits, until, timed(wiring, traits, hold_ms, lasts, until)).await
        }
        None => in_time(traits, until, level(wiring, traits, until)).await.map(drop),
    };
    pulsed.map_or_else(Outcome::Failed, |()| Outcome::Pulsed)
}

/// Switches on, and again as often as the profile allows: what is set on twice is on. A busy device uses up no try.
async fn level<W: Wiring>(wiring: &W, traits: &OutputTraits, until: Instant) -> Result<Instant, NotSet> {
    let mut left = traits.retry;
    loop {
        match level_once(wiring, traits, until).await {
            Err(NotSet::Busy(_)) => {}
            Err(NotSet::Unknown(_)) if left > 0 => left -= 1,
            ended => return ended,
        }
        sleep(Duration::from_millis(ON_RETRY_MS)).await;
    }
}

async fn level_once<W: Wiring>(wiring: &W, traits: &OutputTraits, until: Instant) -> Result<Instant, NotSet> {
    let at = wiring.set(Set::On, Some(until)).await?;
    if !traits.reads_back {
        return Ok(at);
    }
    settle(traits).await;
    match wiring.read_back().await {
        Some((true, at)) => Ok(at),
        Some((false, _)) => Err(NotSet::Unknown("the relay reads off after it was switched on".to_owned())),
        None => Err(NotSet::Unknown(CANNOT_BE_READ.to_owned())),
    }
}
