//! What every release needs, its deadline and the time to settle; and a pulse that the device ends: when it may be sent again.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use super::{NotSet, OutputTraits, Set, Wiring};

/// Wait before a release is tried again, in milliseconds.
pub(super) const ON_RETRY_MS: u64 = 100;
/// The cause of a release whose outcome nobody knows.
pub(super) const CANNOT_BE_READ: &str = "the relay was switched on but cannot be read back";

/// Gives a release until `until`, whatever it waits for then.
pub(super) async fn in_time<T>(
    traits: &OutputTraits,
    until: Instant,
    tries: impl Future<Output = Result<T, NotSet>>,
) -> Result<T, String> {
    match timeout_at(until, tries).await {
        Ok(ended) => ended.map_err(NotSet::cause),
        Err(_) => Err(format!("not confirmed within {} ms", traits.deadline_ms)),
    }
}

/// Waits until the output no longer reads as before it was set.
pub(super) async fn settle(traits: &OutputTraits) {
    if traits.settle_ms > 0 {
        sleep(Duration::from_millis(u64::from(traits.settle_ms))).await;
    }
}

/// A pulse that the device ends after `lasts`. A second one would open twice, so it is sent again only when the device was busy, or
/// when the output is read off while the first would still last and the device did not acknowledge the first.
pub(super) async fn timed<W: Wiring>(
    wiring: &W,
    traits: &OutputTraits,
    hold_ms: u32,
    lasts: Duration,
    until: Instant,
) -> Result<(), NotSet> {
    let refused = |cause: &str| Err(NotSet::Refused(cause.to_owned()));
    let mut left = traits.retry;
    loop {
        let begun = Instant::now();
        let taken = match wiring.set(Set::Pulse { hold_ms }, Some(until)).await {
            Ok(_) => Ok(()),
            Err(NotSet::Unknown(cause)) => Err(cause),
            Err(NotSet::Busy(_)) => {
                sleep(Duration::from_millis(ON_RETRY_MS)).await;
                continue;
            }
            Err(error) => return Err(error),
        };
        if !traits.reads_back {
            return taken.map_err(NotSet::Unknown);
        }
        settle(traits).await;
        let on = loop {
            match wiring.read_back().await {
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
