//! One simulated device: its registers by profile, the cards shown to it, its relays and their timers. Reported the time.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::access::id::CardUid;
use crate::profile::{InputKind, Point, PointType, Profile, Pulse, Trigger, Write};
use crate::wire::modbus::{Exception, Reply, Request, Space};

/// A register or bit of a device.
type Spot = (Space, u16);

/// Places of a device that are one and the same, of which its profile names only the second.
const SAME: [(&str, Spot, Spot); 1] = [
    // The card's flag is a coil too, and the manual's own example clears it there (Inveo RFID IND-M1 manual, pages 14 and 16).
    ("inveo-rfid-ind-m1", (Space::Coil, 1016), (Space::Holding, 1000)),
];

/// Why a point was not set.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum NotSet {
    /// Nothing at this unit number.
    #[error("no unit {0} is on the line")]
    Unit(u8),
    /// No such point.
    #[error("its profile has no point `{point}`; there are {known}")]
    Point {
        /// The name.
        point: String,
        /// Those there are.
        known: String,
    },
    /// No such channel.
    #[error("`{point}` has {channels} channel(s), counted from 0")]
    Channel {
        /// Of which point.
        point: String,
        /// How many.
        channels: u16,
    },
    /// The point holds no such value.
    #[error("`{point}` cannot hold {value}: it holds {holds}")]
    Value {
        /// Which point.
        point: String,
        /// What.
        value: f64,
        /// What it holds, in words.
        holds: String,
    },
}

/// A device on a simulated line.
#[derive(Debug)]
pub(super) struct Device {
    profile: Arc<Profile>,
    items: HashMap<(Space, u16), u16>,
    relays: Vec<Relay>,
    /// Cards that were presented and not taken away, by their reader.
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
        Self { profile, items: HashMap::new(), relays: vec![Relay::default(); relays], lying: HashMap::new() }
    }

    /// Whether the relay is on now.
    pub(super) fn relay(&mut self, channel: u16, now: Instant) -> bool {
        let Some(relay) = self.relays.get_mut(usize::from(channel)) else { return false };
        if relay.opens_at.is_some_and(|at| now >= at) {
            *relay = Relay::default();
        }
        relay.on
    }

    /// Switches a relay as a hand at the device would.
    pub(super) fn force(&mut self, channel: u16, on: bool) {
        if let Some(relay) = self.relays.get_mut(usize::from(channel)) {
            *relay = Relay { on, opens_at: None };
        }
    }

    /// Power comes back after a loss: everything is as delivered.
    pub(super) fn reset(&mut self) {
        self.items.clear();
        self.relays.fill(Relay::default());
    }

    /// Shows a card to a reader. A latched reader takes none before it is released, as the real ones do.
    pub(super) fn present(&mut self, number: u16, uid: CardUid) {
        let Some(reader) = self.profile.readers.get(usize::from(number)).cloned() else { return };
        self.lying.insert(number, uid);
        if let Trigger::Latch { flag, .. } = &reader.trigger
            && self.get(flag, 0) != 0
        {
            return;
        }
        let (bytes, length) = reader.uid.show(uid);
        for (at, word) in (reader.uid.point.address..).zip(reader.uid.point.encode_bytes(&bytes)) {
            self.items.insert((reader.uid.point.space, at), word);
        }
        if let Some(point) = reader.uid.length_point() {
            self.set(&point.clone(), 0, length);
        }
        match &reader.trigger {
            Trigger::Level(None) => {}
            Trigger::Level(Some(point)) | Trigger::Latch { flag: point, .. } => self.set(point, 0, 1),
            Trigger::Counter { count, .. } => {
                let next = self.get(count, 0).wrapping_add(1);
                self.set(count, 0, next);
            }
        }
    }

    /// The card that lies at a reader.
    pub(super) fn card(&self, reader: u16) -> Option<CardUid> {
        self.lying.get(&reader).copied()
    }

    /// Takes the card away.
    pub(super) fn remove(&mut self, reader: u16) {
        self.lying.remove(&reader);
        let Some(reader) = self.profile.readers.get(usize::from(reader)).cloned() else { return };
        let Trigger::Level(present) = &reader.trigger else { return };
        for at in reader.uid.point.address..reader.uid.point.address.saturating_add(reader.uid.point.registers) {
            self.items.remove(&(reader.uid.point.space, at));
        }
        if let Some(point) = reader.uid.length_point() {
            self.set(&point.clone(), 0, 0);
        }
        if let Some(point) = present {
            self.set(point, 0, 0);
        }
    }

    /// Sets an input; a counter counts one.
    pub(super) fn input(&mut self, kind: InputKind, channel: u16, yes: bool) {
        for input in self.profile.inputs.clone().into_iter().filter(|input| input.kind == kind) {
            if input.point.kind == PointType::Bool {
                self.set(&input.point, channel, u16::from(yes == input.when));
            } else if yes {
                let next = self.get(&input.point, channel).wrapping_add(1);
                self.set(&input.point, channel, next);
            }
        }
    }

    /// What it is.
    pub(super) fn profile(&self) -> Arc<Profile> {
        Arc::clone(&self.profile)
    }

    /// Sets a point to a value in its unit; a flag is 0 or 1. That which reports of a relay switches the relay. What it holds then.
    pub(super) fn set_value(&mut self, name: &str, channel: u16, value: f64) -> Result<String, NotSet> {
        let known = || self.profile.points.iter().map(|point| point.name.as_str()).collect::<Vec<_>>().join(", ");
        let point = self.profile.points.iter().find(|point| point.name == name);
        let point =
            point.ok_or_else(|| NotSet::Point { point: name.chars().take(64).collect(), known: known() })?.clone();
        if channel >= point.channels {
            return Err(NotSet::Channel { point: point.name, channels: point.channels });
        }
        if let Some(relay) = self.relay_reported_by(&point, channel) {
            self.force(relay, value != 0.0);
            return Ok(u16::from(value != 0.0).to_string());
        }
        if point.kind == PointType::Bool {
            self.set(&point, channel, u16::from(value != 0.0));
            return Ok(u16::from(value != 0.0).to_string());
        }
        let wrong = || NotSet::Value { point: point.name.clone(), value, holds: holds(&point) };
        let words = point.encode_number(value).ok_or_else(wrong)?;
        for (at, word) in (point.address_of(channel)..).zip(words) {
            self.items.insert((point.space, at), word);
        }
        let is_whole = point.kind.whole().is_some();
        let held = if is_whole { decimal((value / point.scale).round() * point.scale) } else { value.to_string() };
        Ok(format!("{held}{}", unit_of(&point)))
    }

    /// Which relay's state is read at this channel of a point.
    fn relay_reported_by(&self, point: &Point, channel: u16) -> Option<u16> {
        let output = self.profile.output.as_ref()?;
        let state = output.state.as_ref()?;
        let spot = |point: &Point, channel: u16| (point.space, point.address_of(channel), point.bit);
        (0..output.channels).find(|relay| spot(state, *relay) == spot(point, channel))
    }

    /// Sets the raw registers of a point.
    pub(super) fn set_words(&mut self, name: &str, words: &[u16]) {
        let Some(point) = self.profile.points.iter().find(|point| point.name == name) else { return };
        for (at, word) in (point.address..).zip(words) {
            self.items.insert((point.space, at), *word);
        }
    }

    fn get(&self, point: &Point, channel: u16) -> u16 {
        // A number of two registers is counted in its last one; simulated counters stay small.
        let at = point.address_of(channel).saturating_add(point.registers - 1);
        let word = self.items.get(&(point.space, at)).copied().unwrap_or(0);
        match point.bit {
            Some(bit) => word.checked_shr(u32::from(bit)).unwrap_or(0) & 1,
            None => word,
        }
    }

    fn set(&mut self, point: &Point, channel: u16, value: u16) {
        let at = point.address_of(channel).saturating_add(point.registers - 1);
        let word = self.items.entry((point.space, at)).or_default();
        match point.bit {
            Some(bit) if value == 0 => *word &= !(1 << bit),
            Some(bit) => *word |= 1 << bit,
            None => *word = value,
        }
    }

    /// The answer to a request.
    pub(super) fn answer(&mut self, request: &Request, now: Instant) -> Result<Reply, Exception> {
        match request {
            Request::Read { space, address, count } => self.read(*space, *address, *count, now),
            Request::WriteCoil { .. } | Request::WriteRegister { .. } => {
                self.write(request, now).map(|()| Reply::Written)
            }
            Request::WriteCoils { address, on } => {
                for (at, on) in (*address..).zip(on) {
                    self.write(&Request::WriteCoil { address: at, value: if *on { 0xFF00 } else { 0 } }, now)?;
                }
                Ok(Reply::Written)
            }
            Request::WriteRegisters { address, values } => {
                for (at, value) in (*address..).zip(values) {
                    self.write(&Request::WriteRegister { address: at, value: *value }, now)?;
                }
                Ok(Reply::Written)
            }
            Request::ReadWrite { .. } => Err(Exception::ILLEGAL_FUNCTION),
        }
    }

    /// Where what is read or written at an address really is.
    fn place(&self, space: Space, address: u16) -> Spot {
        let same = SAME.iter().find(|(id, from, _)| *id == self.profile.id && *from == (space, address));
        same.map_or((space, address), |(_, _, to)| *to)
    }

    /// Makes room for the next card where this is the write that does, wherever the flag is.
    fn release(&mut self, space: Space, address: u16, value: u16) {
        for reader in self.profile.readers.clone() {
            if let Trigger::Latch { flag, release, .. } = &reader.trigger
                && (release.space, release.address) == (space, address)
                && (release.value == value || space.is_bits() && (release.value != 0) == (value != 0))
            {
                self.set(flag, 0, 0);
            }
        }
    }

    fn read(&mut self, space: Space, address: u16, count: u16, now: Instant) -> Result<Reply, Exception> {
        let end = u32::from(address) + u32::from(count);
        let spans = self.profile.points.iter().filter(|p| p.space == space).map(|p| (u32::from(p.address), p.end()));
        let (first, last) = spans.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1))).ok_or(Exception::ILLEGAL_ADDRESS)?;
        let outside = |at: &u32| {
            let same = u16::try_from(*at).is_ok_and(|at| self.place(space, at) != (space, at));
            !(first..last).contains(at) && !same
        };
        if (u32::from(address)..end).any(|at| outside(&at)) {
            return Err(Exception::ILLEGAL_ADDRESS);
        }
        if let Some(state) = self.profile.output.as_ref().and_then(|output| output.state.clone()) {
            for channel in 0..u16::try_from(self.relays.len()).unwrap_or(0) {
                let on = self.relay(channel, now);
                self.set(&state, channel, u16::from(on));
            }
        }
        let words = (address..=u16::try_from(end - 1).unwrap_or(u16::MAX))
            .map(|at| self.items.get(&self.place(space, at)).copied().unwrap_or(0));
        Ok(if space.is_bits() { Reply::Bits(words.map(|w| w != 0).collect()) } else { Reply::Words(words.collect()) })
    }

    fn write(&mut self, request: &Request, now: Instant) -> Result<(), Exception> {
        if let Some(output) = self.profile.output.clone() {
            for (channel, relay) in (0u16..).zip(self.relays.iter_mut()) {
                let single = |write: &Write| {
                    Write { multiple: false, ..write.clone() }
                        .request(channel.saturating_mul(output.stride), write.value)
                };
                if *request == single(&output.off) {
                    *relay = Relay::default();
                    return Ok(());
                }
                if *request == single(&output.on) {
                    *relay = Relay { on: true, opens_at: None };
                    return Ok(());
                }
                if let Some(ms) = pulse_ms(&output.pulse, channel.saturating_mul(output.stride), request) {
                    *relay = Relay { on: true, opens_at: Some(now + Duration::from_millis(ms)) };
                    return Ok(());
                }
            }
        }
        let (space, address, value) = match request {
            Request::WriteCoil { address, value } => (Space::Coil, *address, u16::from(*value != 0)),
            Request::WriteRegister { address, value } => (Space::Holding, *address, *value),
            Request::Read { .. }
            | Request::WriteCoils { .. }
            | Request::WriteRegisters { .. }
            | Request::ReadWrite { .. } => {
                return Err(Exception::ILLEGAL_FUNCTION);
            }
        };
        let (space, address) = self.place(space, address);
        let in_points = self
            .profile
            .points
            .iter()
            .any(|p| p.space == space && (u32::from(p.address)..p.end()).contains(&u32::from(address)));
        let acknowledges = self.profile.readers.iter().any(|reader| match &reader.trigger {
            Trigger::Latch { release: write, .. } | Trigger::Counter { acknowledge: Some(write), .. } => {
                (write.space, write.address) == (space, address)
            }
            Trigger::Level(_) | Trigger::Counter { acknowledge: None, .. } => false,
        });
        if !in_points && !acknowledges {
            return Err(Exception::ILLEGAL_ADDRESS);
        }
        self.items.insert((space, address), value);
        if acknowledges {
            self.release(space, address, value);
            for (number, uid) in self.lying.clone() {
                let reader = self.profile.readers.get(usize::from(number));
                if reader.is_some_and(|r| matches!(r.trigger, Trigger::Latch { repeats_ms: Some(_), .. })) {
                    self.present(number, uid);
                }
            }
        }
        Ok(())
    }
}

/// The unit of a point, to stand behind a number.
fn unit_of(point: &Point) -> String {
    point.unit.as_ref().map_or(String::new(), |unit| format!(" {unit}"))
}

/// A number without what binary fractions add to it: that stands behind the ninth place.
fn decimal(value: f64) -> String {
    let text = format!("{value:.9}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// What a point that is no flag can hold, in words.
fn holds(point: &Point) -> String {
    let unit = unit_of(point);
    let Some((min, max)) = point.kind.whole() else {
        return match point.kind {
            PointType::Bytes | PointType::ByteEach => "bytes, such as a card's number, and no number".to_owned(),
            PointType::F32 | PointType::Bool | PointType::U16 | PointType::I16 | PointType::U32 | PointType::I32 => {
                "numbers that 32 bits can report, as a `f32`".to_owned()
            }
        };
    };
    #[expect(clippy::cast_precision_loss, reason = "it has at most 32 bits")]
    let scaled = |raw: i64| decimal(raw as f64 * point.scale);
    let (from, to) = if point.scale < 0.0 { (max, min) } else { (min, max) };
    let step = if point.scale.abs() == 1.0 { String::new() } else { format!(" in steps of {}", point.scale.abs()) };
    let whole = if step.is_empty() { "whole numbers" } else { "numbers" };
    format!("{whole} from {} to {}{unit}{step}", scaled(from), scaled(to))
}

/// How long the relay closes if `request` is a pulse for it, in milliseconds.
fn pulse_ms(pulse: &Pulse, offset: u16, request: &Request) -> Option<u64> {
    let Pulse::Device { write, step_ms, steps_max } = pulse else { return None };
    let (space, address, value) = match request {
        Request::WriteCoil { address, value } => (Space::Coil, *address, *value),
        Request::WriteRegister { address, value } => (Space::Holding, *address, *value),
        Request::Read { .. }
        | Request::WriteCoils { .. }
        | Request::WriteRegisters { .. }
        | Request::ReadWrite { .. } => return None,
    };
    let steps = value.checked_sub(write.value)?;
    let fits = if *steps_max == 0 { steps == 0 } else { (1..=*steps_max).contains(&steps) };
    let here = space == write.space && address == write.address.saturating_add(offset);
    (here && fits).then(|| u64::from(steps.max(1)) * u64::from(*step_ms))
}
