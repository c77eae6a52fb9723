//! Puts a portal together: each of its devices once, a decoder for its registers, and the polls that it needs.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use crate::gateway::ports::Inbox;
use crate::portals::device::{Event, OutputTraits, Parts, Portal, Source, SourceState, Stagger};
use crate::profile::{Confirm, InputPoint, Point, Profile, Pulse};

use super::bus::{Bus, Device, ModbusWiring};
use super::poll::{Decoder, Listener, Polls, reader_traits};
use super::queue::Priority;
use crate::access;
use crate::config::{self as wired, Part};

/// Events under way to one portal. A poll waits when it is full, so a slow portal slows only its own devices.
const EVENTS_MAX: usize = 64;

/// The lines by id, each with the pauses between its outputs.
pub(super) type Lines = HashMap<String, (Bus, Arc<Stagger>)>;

/// A portal that can be run, the ends of its events, and the units whose states are to be passed on to it.
pub(super) struct Assembled {
    pub(super) portal: Portal<ModbusWiring>,
    pub(super) events: mpsc::Sender<Event>,
    pub(super) received: mpsc::Receiver<Event>,
    pub(super) units: Vec<(usize, watch::Receiver<SourceState>)>,
}

/// A poll that a source needs.
struct Needed {
    source: usize,
    profile: Arc<Profile>,
    poll: usize,
    priority: Priority,
}

/// The devices of a portal while it is put together.
struct Sources<'l> {
    lines: &'l Lines,
    found: Vec<(Device, Decoder)>,
    needed: Vec<Needed>,
}

impl Sources<'_> {
    /// The number of a part's device, and its decoder.
    fn of(&mut self, part: &Part) -> Option<(usize, &mut Decoder)> {
        let (bus, _) = self.lines.get(&part.bus)?;
        let known = self.found.iter().position(|(device, _)| device.bus.id() == bus.id() && device.unit == part.unit);
        let source = known.unwrap_or(self.found.len());
        if known.is_none() {
            self.found.push((Device { bus: bus.clone(), unit: part.unit }, Decoder::default()));
        }
        self.found.get_mut(source).map(|(_, decoder)| (source, decoder))
    }

    fn device(&self, source: usize) -> Option<Device> {
        self.found.get(source).map(|(device, _)| device.clone())
    }

    fn poll(&mut self, source: usize, part: &Part, points: &[&Point], priority: Priority) {
        for poll in part.profile.polls_of(points) {
            let Some(poll) = part.profile.polls.iter().position(|known| known.name == poll.name) else { continue };
            self.needed.push(Needed { source, profile: Arc::clone(&part.profile), poll, priority });
        }
    }
}

/// Puts a portal together and adds the polls that it needs to `polls`; `None`: it has no output on one of these lines. `is_shared`:
/// whether a meter measures other portals too.
pub(super) fn assemble(
    (portal, parts): (&access::portal::Portal, &wired::Parts),
    is_shared: impl Fn(&Part) -> bool,
    lines: &Lines,
    inbox: &Inbox,
    polls: &mut Polls,
) -> Option<Assembled> {
    let (events, received) = mpsc::channel(EVENTS_MAX);
    let mut sources = Sources { lines, found: Vec::new(), needed: Vec::new() };

    let mut readers = Vec::new();
    let mut wired_readers = Vec::new();
    for (slot, reader) in (0..).zip(parts.readers()) {
        let (source, decoder) = sources.of(&parts.reader)?;
        decoder.readers.push((slot, reader.clone()));
        readers.push((source, reader_traits(reader)));
        wired_readers.push((sources.device(source)?, reader.clone()));
        sources.poll(source, &parts.reader, &reader.points(), Priority::Card);
    }
    let part = &parts.output;
    let output = part.profile.output.clone()?;
    let (source, decoder) = sources.of(part)?;
    if let Some(state) = &output.state {
        decoder.output = Some((state.clone(), part.channel));
        sources.poll(source, part, &[state], Priority::Status);
    }
    let traits = OutputTraits {
        source,
        deadline_ms: output.deadline_ms,
        retry: output.retry,
        settle_ms: output.settle_ms,
        reads_back: output.confirm == Confirm::State,
        ends_by_gateway: output.pulse == Pulse::Gateway,
        stagger: Arc::clone(&lines.get(&part.bus)?.1),
    };
    let wired_output = (sources.device(source)?, output, part.channel);
    let meter = parts.meter.as_ref().and_then(|part| {
        let meter = part.profile.meter.clone()?;
        let (source, decoder) = sources.of(part)?;
        let points: Vec<&Point> = [&meter.power, &meter.energy].into_iter().flatten().map(|(point, _)| point).collect();
        decoder.meter = Some((meter.clone(), part.channel));
        sources.poll(source, part, &points, Priority::Meter);
        Some((source, is_shared(part)))
    });
    let contacts = contacts(portal, parts, &mut sources);

    let Sources { found, needed, .. } = sources;
    let units = found.iter().enumerate().filter_map(|(n, (device, _))| Some((n, device.bus.unit(device.unit)?)));
    let units = units.collect();
    let polled = |source: usize| needed.iter().any(|needed| needed.source == source);
    let sources = (0..found.len()).map(|source| Source { polled: polled(source) }).collect();
    let listeners: Vec<(Device, Listener)> = (0..)
        .zip(found)
        .map(|(source, (device, decoder))| {
            (device, Listener { events: events.clone(), source, decoder: Arc::new(decoder) })
        })
        .collect();
    for Needed { source, profile, poll, priority } in &needed {
        if let (Some((device, listener)), Some(poll)) = (listeners.get(*source), profile.polls.get(*poll)) {
            polls.add(device, profile, poll, *priority, listener);
        }
    }
    let wiring = ModbusWiring::new(wired_output, wired_readers, events.clone());
    let parts =
        Parts { id: portal.id.clone(), kind: portal.kind, sources, readers, contacts, meter, output: traits, wiring };
    Some(Assembled { portal: Portal::new(parts, inbox.clone()), events, received, units })
}

/// The contacts of reader, output and inputs, each once. Two gates may share a turnstile: each has the contacts of its own direction.
fn contacts(
    portal: &access::portal::Portal,
    parts: &wired::Parts,
    sources: &mut Sources<'_>,
) -> Vec<(usize, crate::profile::InputKind)> {
    let way = portal.direction.or_else(|| parts.readers().find_map(|reader| reader.direction));
    let other_way = |input: &InputPoint| way.is_some() && input.kind.way().is_some_and(|of| Some(of) != way);
    let mut contacts = Vec::new();
    for part in [&parts.reader, &parts.output].into_iter().chain(&parts.inputs) {
        for input in part.profile.inputs.iter().filter(|input| !other_way(input)) {
            let Some((source, decoder)) = sources.of(part) else { continue };
            let channel = part.channel.min(input.point.channels.saturating_sub(1));
            if decoder.contacts.iter().any(|(_, known, of)| known == input && *of == channel) {
                continue;
            }
            decoder.contacts.push((contacts.len(), input.clone(), channel));
            contacts.push((source, input.kind));
            sources.poll(source, part, &[&input.point], Priority::Input);
        }
    }
    contacts
}
