//! Asks one device the same thing again and again, and tells everybody who wants to know.

use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::profile::Block;
use crate::wire::modbus::Request;

use super::bus::BusError;
use super::portal::{Device, Event};
use super::queue::Priority;

/// One poll of one device.
pub(super) struct Polling {
    pub(super) device: Device,
    pub(super) reads: Vec<Request>,
    pub(super) every: Duration,
    pub(super) priority: Priority,
    /// Who hears it, and as which of its devices.
    pub(super) listeners: Vec<(mpsc::Sender<Event>, usize)>,
}

impl Polling {
    /// Asks until `stop` turns true. A poll that comes late is not made up for.
    pub(super) async fn run(self, first: Instant, mut stop: watch::Receiver<bool>) {
        let mut ticks = interval_at(first, self.every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut refused = false;
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = super::stopped(&mut stop) => return,
            }
            match self.once().await {
                Ok((block, at)) => {
                    refused = false;
                    for (listener, device) in &self.listeners {
                        let sample = Event::Sample { device: *device, block: block.clone(), at };
                        // A portal that has ended hears nothing any more.
                        drop(listener.send(sample).await);
                    }
                }
                Err((_, BusError::Stopped)) => return,
                Err((read, BusError::Refused(exception))) if !refused && exception.is_of_the_map() => {
                    refused = true;
                    tracing::error!(
                        bus = self.device.bus.id(),
                        unit = self.device.unit,
                        function = read.function(),
                        address = read.address(),
                        error = %exception,
                        "the device refuses what its profile reads; is it the right profile?"
                    );
                }
                // The line's task has said it, and the portal hears of it by the unit's state.
                Err((
                    _,
                    BusError::Refused(_)
                    | BusError::Expired
                    | BusError::Offline(_)
                    | BusError::Full
                    | BusError::Unknown(_),
                )) => {}
            }
        }
    }

    /// Asks once; gives what was not answered with why.
    async fn once(&self) -> Result<(Block, Instant), (&Request, BusError)> {
        let mut block = Block::default();
        let mut first = None;
        for read in &self.reads {
            let answer = self.device.bus.call(self.device.unit, read.clone(), self.priority, None).await;
            let answer = answer.map_err(|error| (read, error))?;
            block.add(read, answer.reply);
            first.get_or_insert(answer.at);
        }
        Ok((block, first.unwrap_or_else(Instant::now)))
    }
}
