//! Reads one device again and again, and passes on what that shows to each portal that it is part of.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::portals::device::Event;
use crate::profile::{Block, Poll, Profile};
use crate::wire::modbus::Request;

use super::bus::BusError;
use super::queue::Priority;
use super::wiring::{Decoder, Device};

/// One portal of a poll: where its events go, as which of its sources the device counts, and what the registers mean to it.
#[derive(Clone)]
pub(super) struct Listener {
    pub(super) events: mpsc::Sender<Event>,
    pub(super) source: usize,
    pub(super) decoder: Arc<Decoder>,
}

/// All polls, each once however many portals need it, by line, unit, profile and poll.
#[derive(Default)]
pub(super) struct Polls(BTreeMap<(String, u8, String, String), Polling>);

impl Polls {
    pub(super) fn add(
        &mut self,
        device: &Device,
        profile: &Profile,
        poll: &Poll,
        priority: Priority,
        listener: &Listener,
    ) {
        let key = (device.bus.id().to_owned(), device.unit, profile.id.clone(), poll.name.clone());
        let polling = self.0.entry(key).or_insert_with(|| Polling {
            device: device.clone(),
            reads: poll.reads.clone(),
            every: Duration::from_millis(u64::from(poll.every_ms)),
            priority,
            listeners: Vec::new(),
        });
        polling.priority = polling.priority.min(priority);
        if !polling.listeners.iter().any(|known| Arc::ptr_eq(&known.decoder, &listener.decoder)) {
            polling.listeners.push(listener.clone());
        }
    }

    /// What is read on one line, and how often.
    pub(super) fn of_bus<'p>(&'p self, bus: &'p str) -> impl Iterator<Item = (&'p [Request], Duration)> {
        self.0.values().filter(move |p| p.device.bus.id() == bus).map(|p| (p.reads.as_slice(), p.every))
    }

    /// Each poll.
    pub(super) fn into_pollings(self) -> impl Iterator<Item = Polling> {
        self.0.into_values()
    }
}

/// One poll of one device.
pub(super) struct Polling {
    device: Device,
    reads: Vec<Request>,
    every: Duration,
    priority: Priority,
    listeners: Vec<Listener>,
}

impl Polling {
    /// Reads until `stop` turns true. A poll that comes late is not made up for.
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
                    for Listener { events, source, decoder } in &self.listeners {
                        let read = Event::Read { source: *source, readings: decoder.decode(&block), at };
                        // A portal that has ended receives nothing any more.
                        drop(events.send(read).await);
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
                // The line's task has logged it, and the portal receives the unit's state.
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

    /// Reads once; gives what was not answered with why.
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
