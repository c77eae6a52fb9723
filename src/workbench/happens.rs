//! What happens at simulated portals, as lines for people.

use std::time::Duration;

use tokio::sync::{mpsc, watch};

use super::end::End;
use super::modbus::controller::Known;
use super::mqtt::Seen;
use crate::access::id::PortalId;

/// How long it is waited for a relay to move before the wait begins again, in seconds.
const RELAY_WATCH_S: u64 = 3_600;

/// Reports each change of what is `seen`; `changes` puts it in words.
pub(super) async fn watch_changes<T: Clone + Default>(
    portal: PortalId,
    mut seen: watch::Receiver<T>,
    changes: fn(&T, &T) -> Vec<&'static str>,
    reports: mpsc::Sender<String>,
) {
    let mut before = T::default();
    while seen.changed().await.is_ok() {
        let now = seen.borrow_and_update().clone();
        for change in changes(&before, &now) {
            if reports.send(format!("{portal}: {change}")).await.is_err() {
                return;
            }
        }
        before = now;
    }
}

/// What changed at a native portal, in words.
pub(super) fn of_native(before: &Seen, now: &Seen) -> Vec<&'static str> {
    let pairs = [
        (before.connected, now.connected, "connected", "not connected"),
        (before.gateway_online, now.gateway_online, "the gateway is online", "the gateway is offline"),
        // Opened again while open is reported too.
        (before.open && before.openings == now.openings, now.open, "open", "closed"),
        (before.relay, now.relay, "power on", "power off"),
        (before.free, now.free, "stays open", "needs a card again"),
    ];
    words(pairs)
}

/// What changed for a controller, in words.
pub(super) fn of_controller(before: &Known, now: &Known) -> Vec<&'static str> {
    words([
        (before.connected, now.connected, "the gateway answers", "the gateway does not answer"),
        (before.on, now.on, "output on", "output off"),
    ])
}

/// Of each flag that changed, the word for what it is now.
fn words<const N: usize>(flags: [(bool, bool, &'static str, &'static str); N]) -> Vec<&'static str> {
    flags.into_iter().filter(|(b, n, ..)| b != n).map(|(_, now, yes, no)| if now { yes } else { no }).collect()
}

pub(super) async fn watch_relay(portal: PortalId, output: End, reports: mpsc::Sender<String>) {
    let mut on = output.relay();
    loop {
        if output.wait_relay(!on, Duration::from_secs(RELAY_WATCH_S)).await {
            on = !on;
            let word = if on { "relay on" } else { "relay off" };
            if reports.send(format!("{portal}: {word}")).await.is_err() {
                return;
            }
        }
    }
}
