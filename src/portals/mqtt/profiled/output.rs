//! An output with MQTT topics of its own: what is published to it, and how it is known that this was carried out.

use std::sync::Mutex;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout_at};
use tracing::field::display;

use crate::portals::device::{NotSet, Place, Set};
use crate::profile::mqtt::{Order, Output};
use crate::wire::topic::Qos;

/// How long an order to switch off waits for the connection before it is given again, in milliseconds.
const OFF_WAITS_MS: u64 = 2_000;
/// The part of the time for a confirmation after which a device that has reported nothing is asked.
const ASKED_AFTER: u32 = 3;

/// What an output has reported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::portals) struct Seen {
    /// The last report: on, or off.
    pub(super) state: Option<bool>,
    /// When it last reported that it is on, and off; not from before the connection.
    on_at: Option<Instant>,
    off_at: Option<Instant>,
}

impl Seen {
    /// It reported `on`; `at` is when, unless the message is of unknown age.
    pub(super) fn reported(&mut self, on: bool, at: Option<Instant>) {
        self.state = Some(on);
        if on {
            self.on_at = at.or(self.on_at);
        } else {
            self.off_at = at.or(self.off_at);
        }
    }

    /// When it reported `on` at or after `since`.
    fn confirms(&self, on: bool, since: Instant) -> Option<Instant> {
        if on { self.on_at } else { self.off_at }.filter(|at| *at >= since)
    }

    /// What it last reported at or after `since`.
    fn after(&self, since: Instant) -> Option<(bool, Instant)> {
        let at = self.on_at.max(self.off_at).filter(|at| *at >= since)?;
        Some((self.state?, at))
    }
}

/// A message to be published.
pub(super) struct Publish {
    pub(super) order: Order,
    pub(super) qos: Qos,
    /// It is of no use after this.
    pub(super) until: Instant,
    /// Whether the broker has it, or why not.
    pub(super) done: Option<oneshot::Sender<Result<(), String>>>,
}

/// The output of a portal: a channel of a device.
pub(in crate::portals) struct MqttOutput {
    topic: String,
    channel: u16,
    output: Output,
    orders: mpsc::Sender<Publish>,
    online: watch::Receiver<bool>,
    seen: watch::Receiver<Seen>,
    /// What was ordered last, and when.
    last: Mutex<Option<(bool, Instant)>>,
}

impl MqttOutput {
    pub(super) fn new(
        (topic, channel): (String, u16),
        output: Output,
        orders: mpsc::Sender<Publish>,
        online: watch::Receiver<bool>,
        seen: watch::Receiver<Seen>,
    ) -> Self {
        Self { topic, channel, output, orders, online, seen, last: Mutex::new(None) }
    }

    /// See [`Wiring::set`](crate::portals::device::Wiring::set).
    pub(in crate::portals) async fn set(&self, set: Set, deadline: Option<Instant>) -> Result<Instant, NotSet> {
        let now = Instant::now();
        let order = match set {
            Set::Off => self.output.off.clone(),
            Set::On => self.output.on.clone(),
            Set::Pulse { hold_ms } => {
                self.output.pulse(hold_ms).map_or_else(|| self.output.on.clone(), |(order, _)| order)
            }
        };
        // Published to a device that is away, it might be kept and carried out when it is back.
        if !*self.online.borrow() {
            let cause = format!("not published: `{}` is offline", self.topic);
            return Err(if set == Set::Off { NotSet::Unknown(cause) } else { NotSet::Refused(cause) });
        }
        *crate::lock(&self.last) = Some((set != Set::Off, now));
        // No broker keeps a message of QoS 0 for a client that is away.
        let qos = if set == Set::Off { Qos::AtLeastOnce } else { Qos::AtMostOnce };
        let until = deadline.unwrap_or(now + Duration::from_millis(OFF_WAITS_MS));
        let (done, published) = oneshot::channel();
        self.orders.try_send(Publish { order, qos, until, done: Some(done) }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => NotSet::Busy("too many messages wait for the broker".to_owned()),
            mpsc::error::TrySendError::Closed(_) => NotSet::Ended,
        })?;
        match published.await {
            Ok(Ok(())) => Ok(Instant::now()),
            Ok(Err(cause)) => Err(NotSet::Busy(format!("not published: {cause}"))),
            Err(_) => Err(NotSet::Ended),
        }
    }

    /// See [`Wiring::read_back`](crate::portals::device::Wiring::read_back). Waits until the device reports what was ordered last, asks
    /// it when it reports nothing, and gives what it has reported when its time is over.
    pub(in crate::portals) async fn read_back(&self) -> Option<(bool, Instant)> {
        let (wanted, since) = (*crate::lock(&self.last))?;
        let (begun, within) = (Instant::now(), Duration::from_millis(u64::from(self.output.confirm.within_ms)));
        let mut seen = self.seen.clone();
        let mut confirmed = async |until: Instant| {
            let found = timeout_at(until, seen.wait_for(|seen| seen.confirms(wanted, since).is_some())).await;
            found.ok()?.ok().and_then(|seen| seen.confirms(wanted, since))
        };
        if let Some(query) = &self.output.confirm.query {
            if let Some(at) = confirmed(begun + within / ASKED_AFTER).await {
                return Some((wanted, at));
            }
            let (order, until) = (query.clone(), begun + within);
            // If it cannot be asked now, its reports are waited for all the same.
            drop(self.orders.try_send(Publish { order, qos: Qos::AtMostOnce, until, done: None }));
        }
        if let Some(at) = confirmed(begun + within).await {
            return Some((wanted, at));
        }
        let seen = *self.seen.borrow();
        let unchanged = !self.output.confirm.each && seen.state == Some(wanted) && *self.online.borrow();
        // A device that reports only changes would have reported one.
        seen.after(since).or_else(|| unchanged.then(|| (wanted, Instant::now())))
    }

    pub(in crate::portals) fn pulse_ms(&self, hold_ms: u32) -> Option<u32> {
        self.output.pulse(hold_ms).map(|(_, lasts_ms)| lasts_ms)
    }

    pub(in crate::portals) fn place(&self) -> Place {
        Place { bus: Some(display(format!("mqtt/{}", self.topic))), channel: Some(self.channel), ..Place::default() }
    }
}

#[cfg(test)]
#[path = "output_tests.rs"]
mod tests;
