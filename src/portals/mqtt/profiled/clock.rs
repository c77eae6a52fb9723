//! The clock of a device, as the times in its messages show it: whether a message is late. Pure: the time is given.
//!
//! Nothing is known of this clock but how it goes on. A message is compared with the freshest one before it: how much more time has passed
//! here, by the monotonic clock, than between their two times is how late it is. Where the clock was set, the gateway's own clock may
//! confirm the new time; what it does not confirm is taken only when a further message, some time later, goes on from there. Messages that
//! were held back come at once, and do not.

use std::time::Duration;

use tokio::time::Instant;

use crate::profile::mqtt::Stamp;

/// How much later than the freshest one a message of a device may be, in seconds: most devices give whole seconds, and a message takes
/// less than one.
pub(super) const LATE_S: f64 = 5.0;
/// How much a clock may run slow or fast, in seconds for each second: 8.6 s a day.
const DRIFT: f64 = 1e-4;
/// The most that it may have drifted since the freshest message, in seconds: those that come later need a confirmation.
const DRIFT_S_MAX: f64 = 4.5;
/// How far the time between two messages may differ from the time between their arrivals, if the second goes on from the first, in seconds.
const GOES_ON_S_OFF: f64 = 2.0;
/// How long after the first of two such messages the second comes at least, in milliseconds.
const GOES_ON_MS: u64 = 4_000;
/// The same where a clock that was known seems to have been set back, to a time that the gateway's clock does not confirm: a network may
/// be slow for this long, too.
const UNCONFIRMED_MS: u64 = 60_000;

/// What a message's time shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Age {
    /// It is new.
    New,
    /// It is new, and the clock was set since the last one.
    Set,
    /// It is old, or the clock was set: which, the next one shows.
    Late,
    /// The device has just connected, and the gateway's clock does not confirm its time.
    Unknown,
}

/// The clock of a device.
#[derive(Debug, Default)]
pub(super) struct DeviceClock {
    /// The freshest message: its time, and when it came.
    freshest: Option<(Stamp, Instant)>,
    /// The device may have started since.
    may_have_started: bool,
    /// The time of the last message that was new. None is new that is older, by however little.
    last: Option<Stamp>,
    /// The first of the messages in a row whose time nothing confirms.
    unconfirmed: Option<(Stamp, Instant)>,
}

/// How much more time has passed between the arrivals of two messages than between their times, in seconds.
fn delay_s(from: (Stamp, Instant), to: (Stamp, Instant)) -> f64 {
    to.1.saturating_duration_since(from.1).as_secs_f64() - to.0.seconds_after(from.0)
}

impl DeviceClock {
    /// The device may have started, and its clock with it.
    pub(super) fn restarts(&mut self) {
        (self.may_have_started, self.last, self.unconfirmed) = (true, None, None);
    }

    /// How old a message with this time is, which came at `at`, when the gateway's clock showed `wall_s`, in seconds since 1970.
    pub(super) fn age(&mut self, stamp: Stamp, at: Instant, wall_s: f64) -> Age {
        let now = (stamp, at);
        // How late it is, how far it drifted at most, and whether a start or a long silence leaves the clock unknown.
        let known = self.freshest.map(|freshest| {
            let drift_s = at.saturating_duration_since(freshest.1).as_secs_f64() * DRIFT;
            (delay_s(freshest, now), drift_s.min(DRIFT_S_MAX), drift_s <= DRIFT_S_MAX && !self.may_have_started)
        });
        let first = self.unconfirmed.filter(|first| delay_s(*first, now).abs() <= GOES_ON_S_OFF);
        let has_waited = |wait_ms| {
            let since = first.map(|(_, since)| at.saturating_duration_since(since));
            since.is_some_and(|since| since >= Duration::from_millis(wait_ms))
        };
        if let Some((delay_s, drift_s, _)) = known
            && (-LATE_S..=LATE_S + drift_s).contains(&delay_s)
        {
            if self.last.is_some_and(|last| stamp.seconds_after(last) < 0.0) {
                return Age::Late;
            }
            // One that was set back by hardly more than a message may be late: some seem late and some do not.
            let is_right = stamp.agrees_with(wall_s, GOES_ON_S_OFF);
            let is_set_back = has_waited(if is_right { GOES_ON_MS } else { UNCONFIRMED_MS });
            let is_freshest = delay_s <= drift_s || is_set_back;
            self.takes(now, is_freshest);
            if !is_freshest {
                self.unconfirmed = first;
            }
            return Age::New;
        }
        let is_confirmed = stamp.agrees_with(wall_s, LATE_S);
        let (is_later, is_known) = known.map_or((false, false), |(delay_s, _, is_known)| (delay_s > 0.0, is_known));
        let wait_ms = if is_later && is_known && !is_confirmed { UNCONFIRMED_MS } else { GOES_ON_MS };
        let goes_on = has_waited(wait_ms);
        // An hour in autumn is an hour late, too: by the gateway's clock a time may only be newer.
        if goes_on || (is_confirmed && !is_later) {
            self.takes(now, true);
            return if is_known { Age::Set } else { Age::New };
        }
        self.unconfirmed = first.or(Some(now));
        if is_known { Age::Late } else { Age::Unknown }
    }

    fn takes(&mut self, now: (Stamp, Instant), is_freshest: bool) {
        if is_freshest {
            self.freshest = Some(now);
        }
        (self.may_have_started, self.last, self.unconfirmed) = (false, Some(now.0), None);
    }
}
