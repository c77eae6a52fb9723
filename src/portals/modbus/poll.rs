//! Polls one device, and sends its decoded registers to each portal that it is part of.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::access::id::PortalId;
use crate::access::input::Presented;
use crate::portals::device::reader::{ReaderKind, ReaderTraits, Shows};
use crate::portals::device::{Event, Reading};
use crate::profile::{Block, InputPoint, Meter, Point, Poll, Profile, Reader, Trigger};
use crate::wire::modbus::Request;

use super::bus::{BusError, Device};
use super::queue::Priority;

/// One portal of a poll: where its events go, which of its sources the device is, and the decoder of the registers.
#[derive(Clone)]
pub(in crate::portals) struct Listener {
    pub(in crate::portals) portal: PortalId,
    pub(in crate::portals) events: mpsc::Sender<Event>,
    pub(in crate::portals) source: usize,
    pub(in crate::portals) decoder: Arc<Decoder>,
}

/// All polls, each once however many portals need it, by line, unit, profile and poll.
#[derive(Default)]
pub(in crate::portals) struct Polls(BTreeMap<(String, u8, String, String), Polling>);

impl Polls {
    pub(in crate::portals) fn add(
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
            turn: Arc::default(),
        });
        polling.priority = polling.priority.min(priority);
        if !polling.listeners.iter().any(|known| Arc::ptr_eq(&known.decoder, &listener.decoder)) {
            polling.listeners.push(listener.clone());
        }
    }

    /// Each poll.
    pub(in crate::portals) fn into_pollings(self) -> impl Iterator<Item = Polling> {
        let mut turns = BTreeMap::<String, Turn>::new();
        for polling in self.0.values().filter(|polling| polling.priority == Priority::Card) {
            turns.entry(polling.device.bus.id().to_owned()).or_default().reads += polling.reads.len();
        }
        let turns: BTreeMap<_, _> = turns.into_iter().map(|(bus, turn)| (bus, Arc::new(turn))).collect();
        self.0.into_values().map(move |mut polling| {
            polling.turn = turns.get(polling.device.bus.id()).cloned().unwrap_or_default();
            polling
        })
    }
}

/// How long it takes to read all readers of a line, one after another. It is counted from the requests that were answered: a line that
/// loses answers is no slow one.
#[derive(Default)]
struct Turn {
    /// The requests for that.
    reads: usize,
    /// How long one takes, smoothed over some, in microseconds.
    each_us: AtomicU32,
}

impl Turn {
    /// A request was answered, and had the line for this time.
    fn answered(&self, took: Duration) {
        let took = u32::try_from(took.as_micros()).unwrap_or(u32::MAX);
        let each = match self.each_us.load(Ordering::Relaxed) {
            0 => took,
            each => each - each / 8 + took / 8,
        };
        self.each_us.store(each, Ordering::Relaxed);
    }

    fn lasts(&self) -> Duration {
        Duration::from_micros(self.reads as u64 * u64::from(self.each_us.load(Ordering::Relaxed)))
    }
}

/// One poll of one device.
pub(in crate::portals) struct Polling {
    device: Device,
    reads: Vec<Request>,
    every: Duration,
    priority: Priority,
    listeners: Vec<Listener>,
    /// Of its line.
    turn: Arc<Turn>,
}

impl Polling {
    /// Reads until `stop` turns true. A poll that comes late delays the next ones.
    pub(in crate::portals) async fn run(self, first: Instant, mut stop: watch::Receiver<bool>) {
        let mut ticks = interval_at(first, self.every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut refused = false;
        let mut pace = Pace::default();
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = self.device.bus.poll_due(self.device.unit) => {}
                () = super::stopped(&mut stop) => return,
            }
            match self.once().await {
                Ok((block, at)) => {
                    refused = false;
                    if let Some(round) = pace.read(at, self.every).filter(|_| self.priority == Priority::Card) {
                        self.is_slow(round);
                    }
                    for Listener { events, source, decoder, .. } in &self.listeners {
                        let readings = decoder.decode(&block);
                        let read = Event::Read { source: *source, readings, at, turn: self.turn.lasts() };
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
                Err(_) => {}
            }
        }
    }

    /// Warns that cards wait for the line.
    fn is_slow(&self, round: Duration) {
        let portals: Vec<_> = self.listeners.iter().map(|listener| listener.portal.as_str()).collect();
        tracing::warn!(
            bus = self.device.bus.id(),
            unit = self.device.unit,
            portals = portals.join(","),
            "its readers are read only every {} ms instead of every {} ms, and a card waits for that: raise the speed of the line, or divide its units between two lines",
            round.as_millis(),
            self.every.as_millis()
        );
    }

    /// Reads once. An error has the request that failed and the cause.
    async fn once(&self) -> Result<(Block, Instant), (&Request, BusError)> {
        let mut block = Block::default();
        let mut first = None;
        for read in &self.reads {
            let answer = self.device.bus.call(self.device.unit, read.clone(), self.priority, None).await;
            let answer = answer.map_err(|error| (read, error))?;
            self.turn.answered(answer.took);
            block.add(read, answer.reply);
            first.get_or_insert(answer.at);
        }
        Ok((block, first.unwrap_or_else(Instant::now)))
    }
}

/// Time between two readings of a reader from which on people notice that they wait, in milliseconds.
const SLOW_MS: u64 = 1000;
/// So many readings in a row have to be slow before it is reported: a lost answer slows one.
const SLOW_ROUNDS: u32 = 8;

/// How far the readings of a poll are apart.
#[derive(Default)]
struct Pace {
    last: Option<Instant>,
    slow: u32,
}

impl Pace {
    /// It was read at `at`, and is to be read at each `every`. Gives the time since the reading before, once, when they have been far apart
    /// for a while.
    fn read(&mut self, at: Instant, every: Duration) -> Option<Duration> {
        let round = at.saturating_duration_since(self.last.replace(at)?);
        let is_slow = round > Duration::from_millis(SLOW_MS).max(every * 2);
        if self.slow < SLOW_ROUNDS {
            self.slow = if is_slow { self.slow + 1 } else { 0 };
            return (self.slow == SLOW_ROUNDS).then_some(round);
        }
        None
    }
}

/// How a reader of a profile behaves.
pub(in crate::portals) fn reader_traits(reader: &Reader) -> ReaderTraits {
    let kind = match &reader.trigger {
        Trigger::Level(_) => ReaderKind::Level,
        Trigger::Latch { repeats_ms, .. } => ReaderKind::Latch { repeats: repeats_ms.is_some() },
        Trigger::Counter { acknowledge, .. } => ReaderKind::Counter { accepts: acknowledge.is_some() },
    };
    ReaderTraits { kind, gone_ms: reader.leaves_after_ms().unwrap_or(reader.gone_ms), direction: reader.direction }
}

/// Decodes the registers of one device for one portal.
#[derive(Default)]
pub(in crate::portals) struct Decoder {
    /// Slots and their readers.
    pub(in crate::portals) readers: Vec<(u8, Reader)>,
    /// Contacts by their number in the portal.
    pub(in crate::portals) contacts: Vec<(usize, InputPoint, u16)>,
    /// The point that shows the output.
    pub(in crate::portals) output: Option<(Point, u16)>,
    pub(in crate::portals) meter: Option<(Meter, u16)>,
}

impl Decoder {
    /// The readings in `block`. Registers of another poll are not in it and give no reading, not even that no card is there.
    pub(in crate::portals) fn decode(&self, block: &Block) -> Vec<Reading> {
        let cards = self
            .readers
            .iter()
            .filter_map(|(slot, reader)| Some(Reading::Card { slot: *slot, shows: shows(reader, block)? }));
        let contacts = self.contacts.iter().filter_map(|(contact, input, channel)| {
            let active = input.point.flag(block, *channel).map(|flag| flag == input.when);
            let count = input.point.number(block, *channel);
            let number = count.or(active.map(|active| if active { 1.0 } else { 0.0 }))?;
            let (contact, counts, active) = (*contact, count.is_some(), active.unwrap_or(false));
            Some(Reading::Contact { contact, number, counts, active })
        });
        let output = self.output.iter().filter_map(|(point, channel)| point.flag(block, *channel)).map(Reading::Output);
        let meter = self.meter.iter().map(|(meter, channel)| {
            let measured = |point: &Option<(Point, f64)>| {
                let (point, factor) = point.as_ref().filter(|(point, _)| block.has(point, *channel))?;
                Some(point.number(block, *channel).unwrap_or(f64::NAN) * factor)
            };
            Reading::Meter { power_w: measured(&meter.power), energy_kwh: measured(&meter.energy) }
        });
        cards.chain(contacts).chain(output).chain(meter).collect()
    }
}

fn shows(reader: &Reader, block: &Block) -> Option<Shows> {
    if !reader.points().iter().all(|point| block.has(point, 0)) {
        return None;
    }
    let card = || reader.uid.read(block);
    match &reader.trigger {
        Trigger::Level(present) => {
            let there = present.as_ref().map_or(Some(true), |point| point.flag(block, 0))?;
            Some(Shows::Card(if there { card() } else { None }))
        }
        Trigger::Latch { flag, .. } => {
            let set = flag.flag(block, 0)?;
            Some(Shows::Card(set.then(|| card().unwrap_or(Presented::Malformed(String::new())))))
        }
        Trigger::Counter { count, .. } => {
            let number = count.number(block, 0)?;
            #[expect(clippy::cast_possible_truncation, reason = "a counter has at most 32 bits")]
            let number = number as i64;
            Some(Shows::Count(number, card()))
        }
    }
}
