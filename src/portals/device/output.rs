//! One output: its orders, the state that they ask for, and the work that leads to it. Polled by its portal's select; it has no task of
//! its own.
//!
//! ```text
//!            energise            confirmed
//! unchanged ----------> On ----------------> stays on
//!     |  release        | not confirmed: failed, and off
//!     +---------> Pulse -> the device ends it, or the gateway: off
//!     |  mode           ^ a newer order supersedes an older one at any moment
//!     +---------> Hold -+-> Off: tried until it is confirmed, an alarm after 2 s
//! ```
//! A release ends confirmed or as a failure that is reported, and never late. Switching off is never given up. One try is in `drive`.

use std::pin::Pin;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use super::drive::{Cut, Drive, Step};
use super::{HOLD_MS_DEFAULT, NotSet, OutputTraits, Released, Wiring};
use crate::access::decision::{Decision, Grant};
use crate::access::id::PortalId;
use crate::access::portal::{PortalKind, Posture};
use crate::clock::sleep_until_some;
use crate::gateway::ports::PortalOrder;

/// The desired state of an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Desired {
    /// Nothing was ordered yet, or its device fell silent: it is left as it is.
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

/// What a portal reports of its output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// It is on, or off.
    Is(bool),
    /// A release was confirmed; and whether it is on, where that is news.
    Released(Option<bool>),
    /// A release is not known to be done and is not tried any more; its grant is consumed.
    Failed(String),
    /// It must be off and is not confirmed to be; the tries go on.
    Unconfirmed(String),
}

type Work = Pin<Box<dyn Future<Output = Step> + Send>>;

/// An output, its desired state and the work under way.
pub(super) struct Output<W> {
    id: PortalId,
    kind: PortalKind,
    drive: Drive<W>,
    /// Its device answers.
    answers: bool,
    desired: Desired,
    /// A release has no outcome yet.
    releasing: bool,
    cut: Option<Cut>,
    /// A grant came while the output is being switched off. It waits for that until this deadline.
    next: Option<Instant>,
    work: Option<Work>,
    /// The last known state and when it was read. An older reading is ignored.
    state: Option<bool>,
    confirmed_at: Option<Instant>,
}

impl<W: Wiring> Output<W> {
    /// An output whose pulses the gateway ends is switched off first of all: a crash may have left it on.
    pub(super) fn new(id: PortalId, kind: PortalKind, wiring: W, traits: OutputTraits) -> Self {
        let off_first = traits.ends_by_gateway && kind != PortalKind::PowerBox;
        let mut output = Self {
            id,
            kind,
            drive: Drive::new(wiring, traits),
            answers: false,
            desired: Desired::Unchanged,
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

    /// Which source of its portal it is part of.
    pub(super) fn source(&self) -> usize {
        self.drive.traits.source
    }

    /// Carries out orders until something is to be reported; `None`: nobody can give orders any more. May be dropped at any moment
    /// without a loss.
    pub(super) async fn next(&mut self, orders: &mut mpsc::Receiver<PortalOrder>) -> Option<News> {
        loop {
            tokio::select! {
                biased;
                order = orders.recv() => self.order(order?),
                news = self.work() => return Some(news),
            }
        }
    }

    fn order(&mut self, order: PortalOrder) {
        match order {
            // A box that rests is switched on by the order at the end of its rest.
            PortalOrder::Answer { decision: Decision::Grant(_), delay_ms: Some(_), .. } => {}
            PortalOrder::Answer { decision: Decision::Deny(denial), .. } => {
                log_at!(debug, self.id, self.drive.wiring.place(None), reason = denial.reason.as_str(), "denied");
            }
            PortalOrder::Answer { decision: Decision::Grant(grant), .. }
            | PortalOrder::Release { grant }
            | PortalOrder::Energise { grant, .. } => self.carry_out(&grant),
            PortalOrder::Cut { reason, .. } => {
                log_at!(info, self.id, self.drive.wiring.place(None), reason, "switched off");
                self.cut();
            }
            PortalOrder::Withdraw { reason, .. } => self.withdraw(reason),
            PortalOrder::Lock { .. } => self.off(),
            // A gate or door is held open by `fire` and `free_access`; any other mode closes what this or an earlier run held open.
            PortalOrder::Mode { posture, .. } if self.kind != PortalKind::PowerBox => match posture {
                Posture::Fire | Posture::FreeAccess => self.hold(),
                Posture::Secure | Posture::Lockdown | Posture::OutOfService => self.end_hold(),
            },
            PortalOrder::Mode { .. } | PortalOrder::Inform { .. } => {}
        }
    }

    /// Opens or energises; the grant is consumed by it.
    fn carry_out(&mut self, grant: &Grant) {
        if *grant.portal() != self.id {
            let place = self.drive.wiring.place(None);
            log_at!(error, self.id, place, other = %grant.portal(), "a grant for another portal opens nothing");
            return;
        }
        match self.kind {
            // The card was presented again within `debounce_ms`: that is one presentation, and it was carried out.
            PortalKind::Gate | PortalKind::Door if grant.is_again() => {}
            PortalKind::Gate | PortalKind::Door => self.release(grant.hold_ms().unwrap_or(HOLD_MS_DEFAULT)),
            PortalKind::PowerBox => self.energise(),
        }
    }

    fn deadline(&self) -> Instant {
        Instant::now() + Duration::from_millis(u64::from(self.drive.traits.deadline_ms))
    }

    /// Opens once. A pulse would end what the standing mode holds open.
    fn release(&mut self, hold_ms: u32) {
        if self.desired == Desired::Hold {
            return;
        }
        self.supersede(Desired::Pulse { hold_ms });
        let (drive, until) = (self.drive.clone(), self.deadline());
        self.begin(async move { drive.pulse(hold_ms, until).await });
    }

    /// Switches on to stay on; one that is being switched off goes off first. One that is on, or waits for its turn, keeps its turn.
    fn energise(&mut self) {
        let until = self.deadline();
        match self.desired {
            Desired::Off if self.cut.is_some() => self.wait_for_off(Some(until)),
            Desired::On if self.releasing || self.state == Some(true) => {}
            _ => self.switch_on(until),
        }
    }

    fn switch_on(&mut self, until: Instant) {
        self.supersede(Desired::On);
        let drive = self.drive.clone();
        self.begin(async move { drive.switch_on(until).await });
    }

    /// Switches off, and drops what waits for that.
    fn cut(&mut self) {
        self.wait_for_off(None);
        // That it is off is news again, and what was read before does not confirm it.
        self.state = None;
        if self.cut.is_none() {
            self.confirmed_at = Some(Instant::now());
        }
        self.off();
    }

    /// Does not open any more. A release that is confirmed runs out: the door was open before its right ended.
    fn withdraw(&mut self, reason: &str) {
        if self.releasing && matches!(self.desired, Desired::Pulse { .. }) {
            log_at!(
                info,
                self.id,
                self.drive.wiring.place(None),
                reason,
                "a release that is not confirmed is withdrawn"
            );
            self.off();
        }
    }

    /// Switches off. What is being switched off already goes on, with its tries and its alarm.
    fn off(&mut self) {
        if self.desired == Desired::Off
            && let Some(cut) = &mut self.cut
        {
            if cut.is_precaution() {
                *cut = Cut::ordered(Instant::now());
            }
            return;
        }
        self.supersede(Desired::Off);
        self.cut = Some(Cut::ordered(Instant::now()));
        self.try_off(Duration::ZERO);
    }

    /// A standing mode holds it on.
    fn hold(&mut self) {
        if self.desired != Desired::Hold {
            self.supersede(Desired::Hold);
            let drive = self.drive.clone();
            self.begin(async move { drive.hold().await });
        }
    }

    /// No standing mode holds it on.
    fn end_hold(&mut self) {
        match self.desired {
            Desired::Hold => self.off(),
            // It may be on by an earlier run. The gateway repeats the mode when a device is back.
            Desired::Unchanged if self.answers => self.off(),
            // A release under way ends by itself.
            Desired::Unchanged | Desired::Pulse { .. } | Desired::On | Desired::Off => {}
        }
    }

    /// Its device answers.
    pub(super) fn found(&mut self) {
        self.answers = true;
    }

    /// Its device fell silent. What was on before is not switched on again afterwards; what must go off still must. Returns the failure of
    /// a release that had no outcome.
    pub(super) fn lost(&mut self) -> Option<News> {
        (self.answers, self.state) = (false, None);
        // A grant that waits for off fails now.
        self.next.iter_mut().for_each(|until| *until = Instant::now());
        match self.desired {
            // The gateway sends a portal that comes back its standing mode again.
            Desired::On | Desired::Hold => {
                (self.desired, self.work) = (Desired::Unchanged, None);
                std::mem::take(&mut self.releasing).then(|| {
                    self.drive.wiring.count(Released::Failed);
                    News::Failed("the device fell silent before it was confirmed".to_owned())
                })
            }
            // A pulse ends by itself, or goes on being tried to end.
            Desired::Pulse { .. } | Desired::Off | Desired::Unchanged => None,
        }
    }

    /// Takes a reading of the moment `at`. Returns whether it changes the known state. A box that was switched on by anything else is
    /// switched off again. A gate or door that is on without a release is judged by the gateway: the device may have an exit button.
    pub(super) fn read(&mut self, on: bool, at: Instant) -> bool {
        let is_news = self.observe(on, at);
        let rests_off = self.desired == Desired::Off && self.cut.is_none();
        if on && self.kind == PortalKind::PowerBox && rests_off && self.state == Some(true) {
            self.off();
        }
        is_news
    }

    fn observe(&mut self, on: bool, at: Instant) -> bool {
        if self.confirmed_at.is_some_and(|since| at < since) {
            return false;
        }
        self.confirmed_at = Some(at);
        self.state.replace(on) != Some(on)
    }

    /// A newer order replaces the one in force, which has no outcome of its own any more.
    fn supersede(&mut self, desired: Desired) {
        if self.releasing {
            self.drive.wiring.count(Released::Superseded);
        }
        (self.desired, self.work, self.cut) = (desired, None, None);
        self.releasing = matches!(desired, Desired::On | Desired::Pulse { .. });
    }

    fn wait_for_off(&mut self, next: Option<Instant>) {
        if std::mem::replace(&mut self.next, next).is_some() {
            self.drive.wiring.count(Released::Superseded);
        }
    }

    fn begin(&mut self, work: impl Future<Output = Step> + Send + 'static) {
        self.work = Some(Box::pin(work));
    }

    fn try_off(&mut self, wait: Duration) {
        let drive = self.drive.clone();
        self.begin(async move {
            sleep(wait).await;
            drive.switch_off().await
        });
    }

    /// Runs the work under way until something is to be reported.
    async fn work(&mut self) -> News {
        loop {
            if let Some(news) = self.step().await {
                return news;
            }
        }
    }

    /// Waits for the end of one piece of work, or for an alarm before it. Returns what is to be reported.
    async fn step(&mut self) -> Option<News> {
        let alarm_at = self.cut.as_ref().and_then(Cut::alarm_at);
        let step = tokio::select! {
            biased;
            step = next_step(&mut self.work) => step,
            // The alarm interrupts no try: a request that waits for the line keeps its place.
            () = sleep_until_some(alarm_at) => return self.cut.as_mut().map(|cut| News::Unconfirmed(cut.alarmed())),
            () = sleep_until_some(self.next) => {
                self.next = None;
                self.drive.wiring.count(Released::Failed);
                return Some(News::Failed("the relay could not be switched off first, within the deadline".to_owned()));
            }
        };
        self.work = None;
        self.ended(step)
    }

    /// One piece of work has ended: begins the next one. Returns what is to be reported.
    fn ended(&mut self, step: Step) -> Option<News> {
        let is_release = matches!(step, Step::On(_) | Step::Off(_) | Step::Pulsed | Step::Failed(_));
        let ends_release = is_release && std::mem::take(&mut self.releasing);
        let confirmed = matches!(step, Step::On(_) | Step::Pulsed);
        let is_confirmed = ends_release && confirmed;
        if ends_release {
            self.drive.wiring.count(if confirmed { Released::Confirmed } else { Released::Failed });
        }
        match step {
            Step::On(at) => {
                let is_news = self.observe(true, at);
                if is_confirmed {
                    Some(News::Released(is_news.then_some(true)))
                } else {
                    is_news.then_some(News::Is(true))
                }
            }
            Step::Off(at) => {
                self.cut = None;
                match self.next.take() {
                    Some(until) if Instant::now() < until => self.switch_on(until),
                    // It is too late for the grant that waits; the next step reports that.
                    other => self.next = other,
                }
                self.observe(false, at).then_some(News::Is(false))
            }
            Step::Pulsed => {
                if let Some(hold) = self.pulse_to_end() {
                    self.begin(async move {
                        sleep(hold).await;
                        Step::PulseOver
                    });
                }
                is_confirmed.then_some(News::Released(None))
            }
            Step::Failed(cause) => {
                // It may have been carried out all the same, and must not stay on.
                if self.desired == Desired::On || self.pulse_to_end().is_some() {
                    let was_on = self.desired == Desired::On;
                    self.off();
                    if was_on {
                        // The gateway counts it as on, so it is to be reported as off, also if it was off before.
                        self.state = None;
                        self.cut = Some(Cut::precaution(Instant::now()));
                    }
                }
                Some(News::Failed(cause))
            }
            Step::NotOff(answered, cause) => {
                let wait = self.cut.as_mut()?.not_off(answered, cause);
                self.try_off(wait);
                None
            }
            Step::PulseOver => {
                self.off();
                None
            }
            Step::Gone => {
                self.cut = None;
                Some(News::Unconfirmed(NotSet::Ended.cause()))
            }
        }
    }

    /// How long the pulse in force lasts, if the gateway ends it.
    fn pulse_to_end(&self) -> Option<Duration> {
        let Desired::Pulse { hold_ms } = self.desired else { return None };
        self.drive.wiring.pulse_ms(hold_ms).is_none().then(|| Duration::from_millis(u64::from(hold_ms)))
    }

    /// The program stops: what must go off, and a pulse that the gateway ends, are switched off first.
    pub(super) async fn finish(mut self) {
        if std::mem::take(&mut self.releasing) {
            self.drive.wiring.count(Released::Failed);
        }
        if self.pulse_to_end().is_some() {
            self.off();
        }
        self.next = None;
        while self.cut.is_some() {
            self.step().await;
        }
    }
}

async fn next_step(work: &mut Option<Work>) -> Step {
    match work {
        Some(work) => work.await,
        None => std::future::pending().await,
    }
}
