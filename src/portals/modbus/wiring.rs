//! A portal's parts on Modbus lines: what its device logic orders becomes requests of the profile, what is read becomes readings.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::field::display;

use crate::access::input::Presented;
use crate::portals::device::reader::{Accept, ReaderKind, ReaderTraits, Shows};
use crate::portals::device::{Event, NotSet, Place, Reading, Released, Set, Wiring};
use crate::profile::{Block, InputPoint, Meter, Output, Point, Reader, Trigger};

use super::bus::{Bus, BusError};
use super::queue::Priority;

/// A device on a line.
#[derive(Clone)]
pub(super) struct Device {
    pub(super) bus: Bus,
    pub(super) unit: u8,
}

/// The devices of one portal. Cheap to clone.
#[derive(Clone)]
pub(super) struct ModbusWiring(Arc<Parts>);

struct Parts {
    output: Option<(Device, Output, u16)>,
    /// Slot by slot.
    readers: Vec<(Device, Reader)>,
    events: mpsc::Sender<Event>,
}

impl ModbusWiring {
    /// Events of readers that were ordered to take the next card go to `events`.
    pub(super) fn new(
        output: Option<(Device, Output, u16)>,
        readers: Vec<(Device, Reader)>,
        events: mpsc::Sender<Event>,
    ) -> Self {
        Self(Arc::new(Parts { output, readers, events }))
    }
}

impl Wiring for ModbusWiring {
    async fn set(&self, set: Set, deadline: Option<Instant>) -> Result<Instant, NotSet> {
        let Some((device, output, channel)) = &self.0.output else { return Err(NotSet::Ended) };
        let (request, priority) = match set {
            Set::Off => (output.off(*channel), Priority::Cut),
            Set::On => (output.on(*channel), Priority::Release),
            Set::Pulse { hold_ms } => {
                let timed = output.pulse(*channel, hold_ms);
                (timed.map_or_else(|| output.on(*channel), |(request, _)| request), Priority::Release)
            }
        };
        match device.bus.call(device.unit, request, priority, deadline).await {
            Ok(answer) => Ok(answer.at),
            Err(error) => Err(not_set(&error)),
        }
    }

    async fn read_back(&self) -> Option<(bool, Instant)> {
        let (device, output, channel) = self.0.output.as_ref()?;
        let request = output.read_back(*channel)?;
        let answer = device.bus.call(device.unit, request.clone(), Priority::Confirm, None).await.ok()?;
        let mut block = Block::default();
        block.add(&request, answer.reply);
        Some((output.state.as_ref()?.flag(&block, *channel)?, answer.at))
    }

    fn pulse_ms(&self, hold_ms: u32) -> Option<u32> {
        let (_, output, channel) = self.0.output.as_ref()?;
        output.pulse(*channel, hold_ms).map(|(_, lasts_ms)| lasts_ms)
    }

    fn accept_next(&self, slot: u8, accept: Accept) {
        let Some((device, reader)) = self.0.readers.get(usize::from(slot)) else { return };
        let request = match (&reader.trigger, accept) {
            (Trigger::Latch { release, .. }, _) => release.request(0, release.value),
            (Trigger::Counter { acknowledge: Some(write), .. }, Accept::Count(count)) => write.request(0, count),
            (Trigger::Counter { .. } | Trigger::Level(_), _) => return,
        };
        let (device, events) = (device.clone(), self.0.events.clone());
        tokio::spawn(async move {
            let answer = device.bus.call(device.unit, request, Priority::Card, None).await;
            let accepted = Event::Accepted { slot, at: answer.ok().map(|answer| answer.at) };
            // A portal that has ended receives nothing any more.
            drop(events.send(accepted).await);
        });
    }

    fn count(&self, how: Released) {
        if let Some((device, _, channel)) = &self.0.output {
            device.bus.count_release(device.unit, *channel, how);
        }
    }

    fn output_place(&self) -> Place {
        let Some((device, output, channel)) = &self.0.output else { return Place::default() };
        let off = output.off(*channel);
        Place {
            bus: Some(display(device.bus.id().to_owned())),
            unit: Some(device.unit),
            channel: Some(*channel),
            function: Some(off.function()),
            address: Some(off.address()),
        }
    }

    fn reader_place(&self, slot: u8) -> Place {
        let device = self.0.readers.get(usize::from(slot)).map(|(device, _)| device);
        Place {
            bus: device.map(|device| display(device.bus.id().to_owned())),
            unit: device.map(|device| device.unit),
            ..Place::default()
        }
    }
}

/// What was not sent, or refused, was not done; what was sent and not answered may have been.
fn not_set(error: &BusError) -> NotSet {
    match error {
        BusError::Refused(exception) if exception.is_busy() => NotSet::Busy(error.to_string()),
        BusError::Unknown(_) => NotSet::Unknown(error.to_string()),
        BusError::Stopped => NotSet::Ended,
        BusError::Refused(_) | BusError::Expired | BusError::Offline(_) | BusError::Full => {
            NotSet::Refused(error.to_string())
        }
    }
}

/// How a reader of a profile behaves.
pub(super) fn reader_traits(reader: &Reader) -> ReaderTraits {
    let kind = match &reader.trigger {
        Trigger::Level(_) => ReaderKind::Level,
        Trigger::Latch { repeats_ms, .. } => ReaderKind::Latch { repeats: repeats_ms.is_some() },
        Trigger::Counter { acknowledge, .. } => ReaderKind::Counter { accepts: acknowledge.is_some() },
    };
    ReaderTraits { kind, gone_ms: reader.leaves_after_ms().unwrap_or(reader.gone_ms), direction: reader.direction }
}

/// What the registers of one device mean to one portal.
#[derive(Default)]
pub(super) struct Decoder {
    /// Slots and their readers.
    pub(super) readers: Vec<(u8, Reader)>,
    /// Contacts by their number in the portal.
    pub(super) contacts: Vec<(usize, InputPoint, u16)>,
    /// The point that shows the output.
    pub(super) output: Option<(Point, u16)>,
    pub(super) meter: Option<(Meter, u16)>,
}

impl Decoder {
    /// What `block` shows. What another poll of the device reads is not in it, and shows nothing, not even that no card is there.
    pub(super) fn decode(&self, block: &Block) -> Vec<Reading> {
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
