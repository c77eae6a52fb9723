//! How long to wait before the next attempt, and what failures in a row mean.

use std::time::Duration;

use tokio::time::Instant;

use crate::config::BrokerUrl;

/// First wait after a failure, in milliseconds.
pub const BACKOFF_MIN_MS: u64 = 100;
/// Longest wait between attempts, in milliseconds.
pub const BACKOFF_MAX_MS: u64 = 5_000;
/// The same where every broker is on this machine. An attempt there costs next to nothing and there is no campus to spare, while
/// each moment after its start is one in which no portal of the building is answered.
pub const BACKOFF_MAX_LOOPBACK_MS: u64 = 500;
/// A connection that lasted this long counts as good: the wait begins small again. In milliseconds.
pub const STABLE_MS: u64 = 10_000;
/// A connection that ended sooner than this may have been taken over, in milliseconds.
const TAKEOVER_MS: u64 = 5_000;
/// So many of them in a row mean that another client uses the same client id, or that the broker ends them. Fewer may be restarts of a broker that is back at once.
const TAKEOVERS_MAX: u32 = 6;
/// Once that is so, a connection that lasted this long means that it does no more, in milliseconds: longer than the other one waits.
const ALONE_MS: u64 = 30_000;
/// The wait before the next attempt while another client uses the same client id, from the half of this to the whole, in milliseconds: each of the
/// two serves for so long, and less than [`STABLE_MS`].
const TAKEN_OVER_WAIT_MS: u64 = 8_000;
/// So many equal protocol errors within [`POISON_MS`] mean that the session itself is bad.
const POISON_MAX: u32 = 5;
/// See [`POISON_MAX`]; in milliseconds.
const POISON_MS: u64 = 60_000;

/// Waits between attempts: doubled after each failure, with jitter so that a campus does not come back in step.
#[derive(Debug)]
pub(super) struct Backoff {
    next_ms: u64,
    longest_ms: u64,
}

impl Backoff {
    /// For attempts at `brokers`.
    pub(super) fn new(brokers: &[BrokerUrl]) -> Self {
        let is_here = brokers.iter().all(BrokerUrl::is_loopback);
        Self { next_ms: BACKOFF_MIN_MS, longest_ms: if is_here { BACKOFF_MAX_LOOPBACK_MS } else { BACKOFF_MAX_MS } }
    }

    /// The next wait: from half of the nominal one to the whole. `chance` is a random number.
    pub(super) fn next(&mut self, chance: u32) -> Duration {
        let nominal = self.next_ms;
        self.next_ms = nominal.saturating_mul(2).min(self.longest_ms);
        let half = nominal / 2;
        Duration::from_millis(half + u64::from(chance) % (nominal - half + 1))
    }

    /// The connection has proved good.
    pub(super) fn reset(&mut self) {
        self.next_ms = BACKOFF_MIN_MS;
    }
}

/// The wait while another client uses the same client id. `chance` is a random number.
pub(super) fn taken_over_wait(chance: u32) -> Duration {
    let half = TAKEN_OVER_WAIT_MS / 2;
    Duration::from_millis(half + u64::from(chance) % (half + 1))
}

/// Recognises what disconnects in a row mean.
#[derive(Debug, Default)]
pub(super) struct Disconnects {
    short_in_a_row: u32,
    error: String,
    equal_errors: u32,
    first_equal: Option<Instant>,
}

impl Disconnects {
    /// A connection ended after `lasted` without a protocol error. `true`: another client seems to use the same client id.
    pub(super) fn network(&mut self, lasted: Duration) -> bool {
        let enough = if self.is_taken_over() { ALONE_MS } else { TAKEOVER_MS };
        if lasted >= Duration::from_millis(enough) {
            self.short_in_a_row = 0;
            return false;
        }
        self.short_in_a_row = self.short_in_a_row.saturating_add(1);
        self.short_in_a_row.is_multiple_of(TAKEOVERS_MAX)
    }

    /// Another client seems to use the same client id.
    pub(super) fn is_taken_over(&self) -> bool {
        self.short_in_a_row >= TAKEOVERS_MAX
    }

    /// An attempt at the same broker failed: it is away, so that the connections before ended with it and not by another client.
    pub(super) fn failed_between(&mut self) {
        self.short_in_a_row = 0;
    }

    /// A connection has lasted so long. `true`: no other client uses the same client id.
    pub(super) fn lasted(&mut self, lasted: Duration) -> bool {
        let is_alone = lasted >= Duration::from_millis(ALONE_MS);
        if is_alone {
            self.short_in_a_row = 0;
        }
        is_alone
    }

    /// A connection ended with a protocol error. `true`: the same one again and again, so give up the session.
    pub(super) fn protocol(&mut self, error: &str, now: Instant) -> bool {
        let recent = self.first_equal.is_some_and(|first| now - first < Duration::from_millis(POISON_MS));
        if recent && self.error == error {
            self.equal_errors += 1;
        } else {
            error.clone_into(&mut self.error);
            self.equal_errors = 1;
            self.first_equal = Some(now);
        }
        if self.equal_errors >= POISON_MAX {
            self.first_equal = None;
            return true;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn towards(urls: &[&str]) -> Backoff {
        let brokers: Result<Vec<BrokerUrl>, String> = urls.iter().map(|url| url.parse()).collect();
        Backoff::new(&brokers.unwrap())
    }

    #[test]
    fn a_broker_on_this_machine_is_never_left_waiting_for_more_than_half_a_second() {
        let longest = |urls: &[&str]| {
            let mut backoff = towards(urls);
            (0..10).map(|_| backoff.next(u32::MAX).as_millis()).max()
        };
        assert!(longest(&["mqtt://127.0.0.1:1883"]) <= Some(500));
        assert!(longest(&["mqtt://localhost:1883", "mqtt://[::1]:1884"]) <= Some(500));
        assert!(longest(&["mqtt://127.0.0.1:1883", "mqtts://broker.campus.example:8883"]) > Some(2_000));
    }

    #[test]
    fn waits_grow_from_a_tenth_of_a_second_to_five_seconds_and_never_beyond() {
        let mut backoff = towards(&["mqtts://broker.campus.example:8883"]);
        let waits = (0..10).map(|_| backoff.next(u32::MAX).as_millis()).collect::<Vec<_>>();
        assert!(waits.iter().all(|w| (50..=5000).contains(w)), "{waits:?}");
        assert!(waits.last().is_some_and(|w| *w >= 2500), "{waits:?}");
        backoff.reset();
        assert!(backoff.next(7).as_millis() <= 100);
    }

    #[test]
    fn two_gateways_do_not_wait_equally_long() {
        let wait = |chance| towards(&["mqtts://broker.campus.example:8883"]).next(chance);
        assert_ne!(wait(3), wait(40));
    }

    #[test]
    fn connections_that_keep_ending_at_once_look_like_a_takeover() {
        let mut disconnects = Disconnects::default();
        let short = Duration::from_millis(300);
        assert_eq!([(); 6].map(|()| disconnects.network(short)), [false, false, false, false, false, true]);
        assert!(!disconnects.network(Duration::from_secs(60)));
        assert!(!disconnects.network(short));
    }

    #[test]
    fn while_another_client_has_our_id_each_is_left_alone_for_seconds_and_then_both_are() {
        let mut disconnects = Disconnects::default();
        let (short, waited) = (Duration::from_millis(300), Duration::from_millis(TAKEN_OVER_WAIT_MS));
        assert_eq!([(); 6].map(|()| disconnects.network(short)), [false, false, false, false, false, true]);
        assert!(disconnects.is_taken_over());
        assert!([0, 7, u32::MAX].map(taken_over_wait).iter().all(|wait| (4..=8).contains(&wait.as_secs())));
        // Each connection now lasts for as long as the other client waits.
        assert!(!disconnects.network(waited) && !disconnects.lasted(waited) && disconnects.is_taken_over());
        assert!(disconnects.lasted(Duration::from_millis(ALONE_MS)) && !disconnects.is_taken_over());
    }

    #[test]
    fn a_broker_that_is_away_between_short_connections_is_no_takeover() {
        let mut disconnects = Disconnects::default();
        for _ in 0..10 {
            assert!(!disconnects.network(Duration::from_millis(300)));
            disconnects.failed_between();
        }
        assert!(!disconnects.is_taken_over());
    }

    #[tokio::test(start_paused = true)]
    async fn the_same_protocol_error_five_times_in_a_minute_ends_the_session() {
        let mut disconnects = Disconnects::default();
        let now = Instant::now();
        assert_eq!([(); 5].map(|()| disconnects.protocol("bad", now)), [false, false, false, false, true]);
        assert!(!disconnects.protocol("bad", now));
        let spread = (0..20).any(|i| disconnects.protocol("rare", now + Duration::from_secs(61 * i)));
        assert!(!spread);
    }
}
