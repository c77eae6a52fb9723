//! One simulated device: its registers by profile, the cards presented to it, its relays and their timers. It is given the time.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::super::{Refused, short};
use crate::access::id::CardUid;
use crate::profile::{InputKind, Point, PointType, Profile, Pulse, Trigger, Write};
use crate::wire::modbus::{COIL_ON, Exception, Reply, Request, Space};

/// A register or bit of a device.
type Spot = (Space, u16);

/// Places that are the same in a device, of which its profile names only the second.
const SAME: [(&str, Spot, Spot); 1] = [
    // The card's flag is a coil too; the example in the manual clears it there (Inveo RFID IND-M1 manual, pages 14 and 16).
    ("inveo-rfid-ind-m1", (Space::Coil, 1016), (Space::Holding, 1000)),
];

/// A device on a simulated line.
#[derive(Debug)]
pub(super) struct Device {
    pub(super) profile: Arc<Profile>,
    items: HashMap<Spot, u16>,
    relays: Vec<Relay>,
    /// The cards that lie at the readers.
    lying: HashMap<u16, CardUid>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Relay {
    on: bool,
    opens_at: Option<Instant>,
}

impl Device {
    pub(super) fn new(profile: Arc<Profile>) -> Self {
        let relays = profile.output.as_ref().map_or(0, |output| usize::from(output.channels));
        let (items, lying) = (HashMap::new(), HashMap::new());
        let mut device = Self { profile, items, relays: vec![Relay::default(); relays], lying };
        device.rest();
        device
    }

    /// Nothing is reported by any input: doors are shut, also where the contact is closed while the door is.
    fn rest(&mut self) {
        let profile = Arc::clone(&self.profile);
        for input in profile.inputs.iter().filter(|input| input.point.kind == PointType::Bool && !input.when) {
            (0..input.point.channels).for_each(|channel| self.set(&input.point, channel, 1));
        }
    }

    /// Whether the relay is on.
    pub(super) fn relay(&mut self, channel: u16, now: Instant) -> bool {
        let Some(relay) = self.relays.get_mut(usize::from(channel)) else { return false };
        if relay.opens_at.is_some_and(|at| now >= at) {
            *relay = Relay::default();
        }
        relay.on
    }

    /// Switches a relay, as a person at the device would.
    pub(super) fn force(&mut self, channel: u16, on: bool) {
        if let Some(relay) = self.relays.get_mut(usize::from(channel)) {
            *relay = Relay { on, opens_at: None };
        }
    }

    /// Restarts after a loss of power: everything is as delivered.
    pub(super) fn reset(&mut self) {
        self.items.clear();
        self.relays.fill(Relay::default());
        self.rest();
    }

    /// Presents a card to a reader. A reader with a latch reads no further card before it is released, as real ones.
    pub(super) fn present(&mut self, number: u16, uid: CardUid) {
        let profile = Arc::clone(&self.profile);
        let Some(reader) = profile.readers.get(usize::from(number)) else { return };
        self.lying.insert(number, uid);
        if matches!(&reader.trigger, Trigger::Latch { flag, .. } if self.get(flag, 0) != 0) {
            return;
        }
        let (bytes, length) = reader.uid.show(uid);
        self.put(&reader.uid.point, 0, &reader.uid.point.encode_bytes(&bytes));
        if let Some(point) = reader.uid.length_point() {
            self.set(point, 0, length);
        }
        match &reader.trigger {
            Trigger::Level(None) => {}
            Trigger::Level(Some(point)) | Trigger::Latch { flag: point, .. } => self.set(point, 0, 1),
            Trigger::Counter { count, .. } => self.count(count, 0),
        }
    }

    /// The card that lies at a reader.
    pub(super) fn card(&self, reader: u16) -> Option<CardUid> {
        self.lying.get(&reader).copied()
    }

    /// Removes the card.
    pub(super) fn remove(&mut self, number: u16) {
        self.lying.remove(&number);
        let profile = Arc::clone(&self.profile);
        let Some(reader) = profile.readers.get(usize::from(number)) else { return };
        let Trigger::Level(present) = &reader.trigger else { return };
        self.put(&reader.uid.point, 0, &reader.uid.point.encode_bytes(&[]));
        for point in reader.uid.length_point().into_iter().chain(present) {
            self.set(point, 0, 0);
        }
    }

    /// Sets an input; a counter is raised by one.
    pub(super) fn input(&mut self, kind: InputKind, channel: u16, yes: bool) {
        let profile = Arc::clone(&self.profile);
        for input in profile.inputs.iter().filter(|input| input.kind == kind) {
            if input.point.kind == PointType::Bool {
                self.set(&input.point, channel, u16::from(yes == input.when));
            } else if yes {
                self.count(&input.point, channel);
            }
        }
    }

    /// Sets a point to a value in its unit; a flag is 0 or 1. The state of a relay switches the relay. Gives what the point holds then.
    pub(super) fn set_value(&mut self, name: &str, channel: u16, value: f64) -> Result<String, Refused> {
        let profile = Arc::clone(&self.profile);
        let Some(point) = profile.points.iter().find(|point| point.name == name) else {
            let known = profile.points.iter().map(|point| point.name.as_str()).collect::<Vec<_>>().join(", ");
            return Err(Refused(format!("its profile has no point `{}`; there are {known}", short(name))));
        };
        if channel >= point.channels {
            return Err(Refused(format!("`{name}` has {} channel(s), counted from 0", point.channels)));
        }
        let on = value != 0.0;
        if let Some(relay) = self.relay_reported_by(point, channel) {
            self.force(relay, on);
            return Ok(u16::from(on).to_string());
        }
        if point.kind == PointType::Bool {
            self.set(point, channel, u16::from(on));
            return Ok(u16::from(on).to_string());
        }
        let words = point.encode_number(value);
        let words = words.ok_or_else(|| Refused(format!("`{name}` cannot hold {value}: it holds {}", holds(point))))?;
        self.put(point, channel, &words);
        let is_whole = point.kind.whole().is_some();
        let held = if is_whole { decimal((value / point.scale).round() * point.scale) } else { value.to_string() };
        Ok(format!("{held}{}", unit_of(point)))
    }

    /// The relay whose state is read at this channel of a point.
    fn relay_reported_by(&self, point: &Point, channel: u16) -> Option<u16> {
        let output = self.profile.output.as_ref()?;
        let state = output.state.as_ref()?;
        let spot = |point: &Point, channel: u16| (point.space, point.address_of(channel), point.bit);
        (0..output.channels).find(|relay| spot(state, *relay) == spot(point, channel))
    }

    /// Sets the raw registers of a point.
    pub(super) fn set_words(&mut self, name: &str, words: &[u16]) {
        let profile = Arc::clone(&self.profile);
        if let Some(point) = profile.points.iter().find(|point| point.name == name) {
            self.put(point, 0, words);
        }
    }

    fn put(&mut self, point: &Point, channel: u16, words: &[u16]) {
        for (at, word) in (point.address_of(channel)..).zip(words) {
            self.items.insert((point.space, at), *word);
        }
    }

    /// The place of a number. Of two registers it is the last one, because simulated counters stay small.
    fn spot(point: &Point, channel: u16) -> Spot {
        (point.space, point.address_of(channel).saturating_add(point.registers - 1))
    }

    fn get(&self, point: &Point, channel: u16) -> u16 {
        let word = self.items.get(&Self::spot(point, channel)).copied().unwrap_or(0);
        point.bit.map_or(word, |bit| word.checked_shr(u32::from(bit)).unwrap_or(0) & 1)
    }

    fn set(&mut self, point: &Point, channel: u16, value: u16) {
        let word = self.items.entry(Self::spot(point, channel)).or_default();
        match point.bit {
            Some(bit) if value == 0 => *word &= !(1 << bit),
            Some(bit) => *word |= 1 << bit,
            None => *word = value,
        }
    }

    fn count(&mut self, point: &Point, channel: u16) {
        self.set(point, channel, self.get(point, channel).wrapping_add(1));
    }

    /// The answer to a request.
    pub(super) fn answer(&mut self, request: &Request, now: Instant) -> Result<Reply, Exception> {
        match request {
            Request::Read { space, address, count } => return self.read(*space, *address, *count, now),
            Request::ReadWrite { .. } => return Err(Exception::ILLEGAL_FUNCTION),
            Request::WriteCoil { address, value } => self.write(Space::Coil, *address, *value, now)?,
            Request::WriteRegister { address, value } => self.write(Space::Holding, *address, *value, now)?,
            Request::WriteCoils { address, on } => {
                for (at, on) in (*address..).zip(on) {
                    self.write(Space::Coil, at, if *on { COIL_ON } else { 0 }, now)?;
                }
            }
            Request::WriteRegisters { address, values } => {
                for (at, value) in (*address..).zip(values) {
                    self.write(Space::Holding, at, *value, now)?;
                }
            }
        }
        Ok(Reply::Written)
    }

    /// The place at which an address is kept.
    fn place(&self, space: Space, address: u16) -> Spot {
        let same = SAME.iter().find(|(id, from, _)| *id == self.profile.id && *from == (space, address));
        same.map_or((space, address), |(_, _, to)| *to)
    }

    fn read(&mut self, space: Space, address: u16, count: u16, now: Instant) -> Result<Reply, Exception> {
        let end = u32::from(address) + u32::from(count);
        let profile = Arc::clone(&self.profile);
        let spans = profile.points.iter().filter(|p| p.space == space).map(|p| (u32::from(p.address), p.end()));
        let (first, last) = spans.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1))).ok_or(Exception::ILLEGAL_ADDRESS)?;
        let outside = |at: &u32| {
            let same = u16::try_from(*at).is_ok_and(|at| self.place(space, at) != (space, at));
            !(first..last).contains(at) && !same
        };
        if (u32::from(address)..end).any(|at| outside(&at)) {
            return Err(Exception::ILLEGAL_ADDRESS);
        }
        if let Some(output) = &profile.output
            && let Some(state) = &output.state
        {
            for channel in 0..output.channels {
                let on = self.relay(channel, now);
                self.set(state, channel, u16::from(on));
            }
        }
        let words = (address..=u16::try_from(end - 1).unwrap_or(u16::MAX))
            .map(|at| self.items.get(&self.place(space, at)).copied().unwrap_or(0));
        Ok(if space.is_bits() { Reply::Bits(words.map(|w| w != 0).collect()) } else { Reply::Words(words.collect()) })
    }

    /// Writes one place: an order to a relay, or a register.
    fn write(&mut self, space: Space, address: u16, value: u16, now: Instant) -> Result<(), Exception> {
        let profile = Arc::clone(&self.profile);
        if let Some(output) = &profile.output {
            for (channel, relay) in (0u16..).zip(self.relays.iter_mut()) {
                let offset = channel.saturating_mul(output.stride);
                let here = |write: &Write| (space, address) == (write.space, write.address.saturating_add(offset));
                let is = |write: &Write| here(write) && value == write.value;
                let pulse = || match &output.pulse {
                    Pulse::Device { write, step_ms, steps_max } if here(write) => {
                        pulse_ms(value.checked_sub(write.value)?, *step_ms, *steps_max)
                    }
                    _ => None,
                };
                *relay = if is(&output.off) {
                    Relay::default()
                } else if is(&output.on) {
                    Relay { on: true, opens_at: None }
                } else if let Some(ms) = pulse() {
                    Relay { on: true, opens_at: Some(now + Duration::from_millis(ms)) }
                } else {
                    continue;
                };
                return Ok(());
            }
        }
        let value = if space.is_bits() { u16::from(value != 0) } else { value };
        let (space, address) = self.place(space, address);
        let inside = |p: &Point| p.space == space && (u32::from(p.address)..p.end()).contains(&u32::from(address));
        let acknowledges = profile.readers.iter().any(|reader| match &reader.trigger {
            Trigger::Latch { release: write, .. } | Trigger::Counter { acknowledge: Some(write), .. } => {
                (write.space, write.address) == (space, address)
            }
            _ => false,
        });
        if !acknowledges && !profile.points.iter().any(inside) {
            return Err(Exception::ILLEGAL_ADDRESS);
        }
        self.items.insert((space, address), value);
        if acknowledges {
            self.released(space, address, value);
        }
        Ok(())
    }

    /// Clears the flag of the latch that this write releases, so that the next card is read. A card that still lies there is presented
    /// again, if the reader repeats.
    fn released(&mut self, space: Space, address: u16, value: u16) {
        let profile = Arc::clone(&self.profile);
        for reader in &profile.readers {
            if let Trigger::Latch { flag, release, .. } = &reader.trigger
                && (release.space, release.address) == (space, address)
                && (release.value == value || space.is_bits() && (release.value != 0) == (value != 0))
            {
                self.set(flag, 0, 0);
            }
        }
        for (number, uid) in self.lying.clone() {
            let reader = profile.readers.get(usize::from(number));
            if reader.is_some_and(|r| matches!(r.trigger, Trigger::Latch { repeats_ms: Some(_), .. })) {
                self.present(number, uid);
            }
        }
    }
}

/// The unit of a point, to follow a number.
fn unit_of(point: &Point) -> String {
    point.unit.as_ref().map_or(String::new(), |unit| format!(" {unit}"))
}

/// A number rounded to nine decimal places, which hides the error of binary fractions.
fn decimal(value: f64) -> String {
    let text = format!("{value:.9}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// What a point that is not a flag can hold, in words.
fn holds(point: &Point) -> String {
    let unit = unit_of(point);
    let Some((min, max)) = point.kind.whole() else {
        return match point.kind {
            PointType::Bytes | PointType::ByteEach => "bytes, such as a card's UID, and not a number".to_owned(),
            _ => "numbers of 32 bits, as an `f32`".to_owned(),
        };
    };
    #[expect(clippy::cast_precision_loss, reason = "it has at most 32 bits")]
    let scaled = |raw: i64| decimal(raw as f64 * point.scale);
    let (from, to) = if point.scale < 0.0 { (max, min) } else { (min, max) };
    let step = if point.scale.abs() == 1.0 { String::new() } else { format!(" in steps of {}", point.scale.abs()) };
    let whole = if step.is_empty() { "whole numbers" } else { "numbers" };
    format!("{whole} from {} to {}{unit}{step}", scaled(from), scaled(to))
}

/// How long a relay closes for these steps added to the value of the pulse, in milliseconds; `None`: the value is not a pulse.
fn pulse_ms(steps: u16, step_ms: u32, steps_max: u16) -> Option<u64> {
    let fits = if steps_max == 0 { steps == 0 } else { (1..=steps_max).contains(&steps) };
    fits.then(|| u64::from(steps.max(1)) * u64::from(step_ms))
}
