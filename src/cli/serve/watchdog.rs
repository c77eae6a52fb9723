//! The service manager's watchdog: it is notified while the gateway's task gets on, so that a process whose task hangs is ended and
//! started again, however alive the rest of it looks.

use std::time::Duration;

use sd_notify::NotifyState;

use super::notify;
use crate::gateway::ports::Progress;

/// So often within the time that the service manager allows it is looked whether the gateway's task got on.
const LOOKS: u32 = 3;

/// Notifies for as long as it is polled, if the service manager asks for it (`WatchdogSec=`).
pub(super) async fn feed(progress: Progress) {
    if let Some(allowed) = sd_notify::watchdog_enabled() {
        feed_within(allowed, &progress, || notify(&[NotifyState::Watchdog])).await;
    }
}

async fn feed_within(allowed: Duration, progress: &Progress, notify: impl Fn()) {
    let mut seen = None;
    loop {
        let turns = Some(progress.turns());
        if turns != seen {
            notify();
        }
        seen = turns;
        tokio::time::sleep(allowed / LOOKS).await;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    const ALLOWED: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn a_task_that_hangs_is_not_kept_alive_by_a_timer() {
        let (progress, notified) = (Progress::default(), Cell::new(0));
        let after = async |time: Duration| {
            let notify = || notified.set(notified.get() + 1);
            drop(tokio::time::timeout(time, feed_within(ALLOWED, &progress, notify)).await);
            notified.take()
        };
        assert_eq!(after(ALLOWED * 10).await, 1, "the start counts, and then nothing is done");
        let gets_on = async {
            loop {
                progress.turn();
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        tokio::select! {
            () = gets_on => {}
            times = after(ALLOWED * 10 - Duration::from_secs(1)) => assert_eq!(times, 30),
        }
    }
}
