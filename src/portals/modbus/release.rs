//! How a relay is switched on: the tries of one release, what confirms it, and when it is given up.
//!
//! A release ends confirmed or as a failure that is reported, and never comes late: after its deadline nothing is sent. Which
//! order counts, and switching off, is `drive`'s.

use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use crate::wire::modbus::Request;

use super::bus::BusError;
use super::drive::{CUT_RETRY_MS_MAX, CUT_RETRY_MS_MIN, Done, Drive, STAGGER_MS_MAX};
use super::queue::Priority;

/// Wait before a write is tried again, in milliseconds.
const ON_RETRY_MS: u64 = 100;

/// Why one try was not confirmed.
enum Missed {
    /// It is not on, or being written twice does no harm: another try may be made.
    Again(String),
    /// Nothing can be gained, or a second try could open twice.
    Final(String),
}

impl Missed {
    fn cause(self) -> String {
        match self {
            Self::Again(cause) | Self::Final(cause) => cause,
        }
    }
}

/// What was not sent, or refused, stays so; what was sent and not answered is an open question.
fn missed(error: BusError) -> Missed {
    match error {
        BusError::Unknown(cause) => Missed::Again(cause),
        BusError::Refused(_) | BusError::Expired | BusError::Offline(_) | BusError::Full | BusError::Stopped => {
            Missed::Final(error.to_string())
        }
    }
}

const CANNOT_BE_READ: &str = "the relay was switched on but cannot be read back";

impl Drive {
    fn deadline(&self) -> Duration {
        Duration::from_millis(u64::from(self.output.deadline_ms))
    }

    /// Gives a release until `until`, whatever it waits for then.
    async fn in_time(&self, until: Instant, tries: impl Future<Output = Result<Done, String>>) -> Done {
        match timeout_at(until, tries).await {
            Ok(Ok(done)) => done,
            Ok(Err(cause)) => Done::Failed(cause),
            Err(_) => Done::Failed(format!("not confirmed within {} ms", self.output.deadline_ms)),
        }
    }

    /// Switches on to stay on, when its turn has come.
    pub(super) async fn on(&self, until: Instant) -> Done {
        // The grant stands as long as the card lies there, so waiting for one's turn does not make it late: what ends it
        // replaces what is wanted, and so ends the wait too.
        let Some(turn) = self.stagger.turn() else {
            return Done::Failed(format!("its turn would come in more than {STAGGER_MS_MAX} ms"));
        };
        let until = until.max(turn + self.deadline());
        sleep_until(turn).await;
        self.in_time(until, async { self.level(until).await.map(Done::On) }).await
    }

    /// Until it is confirmed: a standing mode is in force now, however long the try takes.
    pub(super) async fn hold(&self, order: u64) {
        let mut wait = Duration::from_millis(CUT_RETRY_MS_MIN);
        loop {
            match self.level_once(Instant::now() + self.deadline()).await {
                Ok(at) => return self.tell(order, Done::On(at)).await,
                Err(missed) => {
                    let on = self.output.on(self.channel);
                    tracing::warn!(
                        bus = self.bus.id(),
                        unit = self.unit,
                        function = on.function(),
                        address = on.address(),
                        error = missed.cause(),
                        "a relay cannot be held on"
                    );
                }
            }
            sleep(wait).await;
            wait = (wait * 2).min(Duration::from_millis(CUT_RETRY_MS_MAX));
        }
    }

    /// One pulse; the one who times it is the device or, with the end of it left to whoever called, the gateway.
    pub(super) async fn pulse(&self, until: Instant, hold_ms: u32) -> Done {
        match self.output.pulse(self.channel, hold_ms) {
            Some((request, lasts_ms)) => {
                let lasts = Duration::from_millis(u64::from(lasts_ms));
                self.in_time(until, async { self.timed(request, lasts, until).await.map(|()| Done::Pulsed) }).await
            }
            None => self.in_time(until, async { self.level(until).await.map(|_| Done::Pulsed) }).await,
        }
    }

    /// Switches on, and again as often as the profile allows: to be told on twice is to be on.
    async fn level(&self, until: Instant) -> Result<Instant, String> {
        let mut left = self.output.retry;
        loop {
            match self.level_once(until).await {
                Ok(at) => return Ok(at),
                Err(Missed::Again(_)) if left > 0 => left -= 1,
                Err(missed) => return Err(missed.cause()),
            }
            sleep(Duration::from_millis(ON_RETRY_MS)).await;
        }
    }

    async fn level_once(&self, until: Instant) -> Result<Instant, Missed> {
        let on = self.output.on(self.channel);
        let answer = self.bus.call(self.unit, on, Priority::Release, Some(until)).await.map_err(missed)?;
        let Some(read) = self.output.read_back(self.channel) else { return Ok(answer.at) };
        self.settle().await;
        match self.state(read).await {
            Some((true, at)) => Ok(at),
            Some((false, _)) => Err(Missed::Again("the relay reads off after it was switched on".to_owned())),
            None => Err(Missed::Again(CANNOT_BE_READ.to_owned())),
        }
    }

    /// A pulse that the device ends after `lasts`. A second one would open twice, so it is sent again only when the relay is read
    /// off while the first would still last, and the device did not say that it took the first.
    async fn timed(&self, request: Request, lasts: Duration, until: Instant) -> Result<(), String> {
        let mut left = self.output.retry;
        loop {
            let begun = Instant::now();
            let taken = match self.bus.call(self.unit, request.clone(), Priority::Release, Some(until)).await {
                Ok(_) => Ok(()),
                Err(error) => match missed(error) {
                    Missed::Again(cause) => Err(cause),
                    Missed::Final(cause) => return Err(cause),
                },
            };
            let Some(read) = self.output.read_back(self.channel) else { return taken };
            self.settle().await;
            let on = loop {
                match self.state(read.clone()).await {
                    Some((on, _)) => break on,
                    None if left > 0 => left -= 1,
                    None => return Err(CANNOT_BE_READ.to_owned()),
                }
            };
            let may_be_over = begun.elapsed() >= lasts;
            match taken {
                _ if on => return Ok(()),
                _ if may_be_over => return Err("its pulse may be over before it could be read back".to_owned()),
                Ok(()) => return Err("the relay reads off after it took the pulse".to_owned()),
                Err(cause) if left == 0 => return Err(cause),
                Err(_) => left -= 1,
            }
        }
    }
}
