//! Puts a portal together: each of its devices once, a decoder for what it reports, and the polls that it needs.

use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use super::wiring::{OutputEnd, PartsWiring};
use crate::access;
use crate::config::{self as wired, ModbusPart, MqttPart, Part};
use crate::gateway::ports::Inbox;
use crate::portals::device::{Event, OutputTraits, Parts, Portal, Source, SourceState};
use crate::portals::modbus::bus::{Device, ModbusOutput, ModbusReader};
use crate::portals::modbus::load::{Need, inputs, needs};
use crate::portals::modbus::poll::{self, Listener, Polls};
use crate::portals::modbus::{Lines, Observer};
use crate::portals::mqtt::profiled::{self, Devices, Seen};
use crate::profile::{Confirm, InputKind, Pulse, mqtt};

/// Events under way to one portal. A poll waits when it is full, so a slow portal slows only its own devices; what a device at the broker
/// sends meanwhile is lost, and its portal starts again.
const EVENTS_MAX: usize = 64;

/// What portals are put together from.
pub(super) struct Site {
    pub(super) lines: Lines,
    pub(super) polls: Polls,
    pub(super) devices: Devices,
    pub(super) observer: Arc<dyn Observer>,
}

/// A portal that can be run, the ends of its events, and the units whose states are to be passed on to it.
pub(super) struct Assembled {
    pub(super) portal: Portal<PartsWiring>,
    pub(super) events: mpsc::Sender<Event>,
    pub(super) received: mpsc::Receiver<Event>,
    pub(super) units: Vec<(usize, watch::Receiver<SourceState>)>,
}

/// A device of a portal, with the decoder of what it reports.
enum Found {
    Modbus(Device, Box<poll::Decoder>),
    Mqtt(usize, Box<profiled::Decoder>),
}

/// The devices of a portal while it is put together.
struct Sources<'l> {
    site: &'l mut Site,
    found: Vec<Found>,
}

impl Sources<'_> {
    /// The number of a part's device on a line, and its decoder.
    fn modbus(&mut self, part: &ModbusPart) -> Option<(usize, Device, &mut poll::Decoder)> {
        let (bus, _) = self.site.lines.get(&part.bus)?;
        let device = Device { bus: bus.clone(), unit: part.unit };
        let same = |found: &Found| matches!(found, Found::Modbus(known, _) if known.is(part));
        let source = self.source(same, Found::Modbus(device.clone(), Box::default()));
        match self.found.get_mut(source)? {
            Found::Modbus(_, decoder) => Some((source, device, decoder)),
            Found::Mqtt(..) => None,
        }
    }

    /// The number of a part's device at the broker in this portal and among all, and its decoder.
    fn mqtt(&mut self, part: &MqttPart) -> Option<(usize, usize, &mut profiled::Decoder)> {
        let device = self.site.devices.of(part);
        let same = |found: &Found| matches!(found, Found::Mqtt(known, _) if *known == device);
        let source = self.source(same, Found::Mqtt(device, Box::default()));
        match self.found.get_mut(source)? {
            Found::Mqtt(_, decoder) => Some((source, device, decoder)),
            Found::Modbus(..) => None,
        }
    }

    /// The number of the device that is the same, or else of this new one.
    fn source(&mut self, same: impl Fn(&Found) -> bool, new: Found) -> usize {
        self.found.iter().position(same).unwrap_or_else(|| {
            self.found.push(new);
            self.found.len() - 1
        })
    }

    /// The readers of a portal, and those that take orders.
    fn readers(&mut self, parts: &wired::Parts) -> Option<Readers> {
        let mut readers = Readers::default();
        match &parts.reader {
            Part::Modbus(part) => {
                for (slot, reader) in (0..).zip(parts.readers()) {
                    let (source, device, decoder) = self.modbus(part)?;
                    decoder.readers.push((slot, reader.clone()));
                    readers.all.push((source, poll::reader_traits(reader)));
                    readers.ordered.push(ModbusReader::new(device, reader.clone()));
                }
            }
            Part::Mqtt(part) => {
                let reader = part.profile.reader.as_ref()?.of(part.names());
                let (source, _, decoder) = self.mqtt(part)?;
                readers.all.push((source, profiled::reader_traits(&reader)));
                decoder.add_reader(0, reader);
            }
        }
        Some(readers)
    }

    fn output(&mut self, part: &Part) -> Option<(OutputTraits, OutputEnd)> {
        match part {
            Part::Modbus(part) => {
                let output = part.profile.output.clone()?;
                let stagger = Arc::clone(&self.site.lines.get(&part.bus)?.1);
                let (source, device, decoder) = self.modbus(part)?;
                if let Some(state) = &output.state {
                    decoder.output = Some((state.clone(), part.channel));
                }
                let traits = OutputTraits {
                    source,
                    deadline_ms: output.deadline_ms,
                    retry: output.retry,
                    settle_ms: output.settle_ms,
                    reads_back: output.confirm == Confirm::State,
                    ends_by_gateway: output.pulse == Pulse::Gateway,
                    stagger,
                };
                Some((traits, OutputEnd::Modbus(ModbusOutput::new(device, output, part.channel))))
            }
            Part::Mqtt(part) => {
                let output = part.profile.output.as_ref()?.of(part.names());
                let (publish, seen) = watch::channel(Seen::default());
                let (source, device, decoder) = self.mqtt(part)?;
                decoder.add_output(output.clone(), publish);
                let traits = OutputTraits {
                    source,
                    deadline_ms: output.deadline_ms,
                    retry: output.retry,
                    // The confirmation is waited for when the state is read back.
                    settle_ms: 0,
                    reads_back: true,
                    ends_by_gateway: output.pulse == mqtt::Pulse::Gateway,
                    stagger: self.site.devices.stagger(),
                };
                let end = self.site.devices.output(device, part, output, seen)?;
                Some((traits, OutputEnd::Mqtt(end)))
            }
        }
    }

    /// The source of the meter.
    fn meter(&mut self, part: &Part) -> Option<usize> {
        match part {
            Part::Modbus(part) => {
                let meter = part.profile.meter.clone()?;
                let (source, _, decoder) = self.modbus(part)?;
                decoder.meter = Some((meter, part.channel));
                Some(source)
            }
            Part::Mqtt(part) => {
                let meter = part.profile.meter.as_ref()?.of(part.names());
                let (source, _, decoder) = self.mqtt(part)?;
                decoder.add_meter(meter);
                Some(source)
            }
        }
    }
}

/// The readers of a portal.
#[derive(Default)]
struct Readers {
    all: Vec<(usize, crate::portals::device::reader::ReaderTraits)>,
    ordered: Vec<ModbusReader>,
}

/// Puts a portal together and adds what it needs to `site`; `None`: it has no output there. `is_shared`: whether a meter measures other
/// portals too.
pub(super) fn assemble(
    (portal, parts): (&access::portal::Portal, &wired::Parts),
    is_shared: impl Fn(&Part) -> bool,
    site: &mut Site,
    inbox: &Inbox,
) -> Option<Assembled> {
    let (events, received) = mpsc::channel(EVENTS_MAX);
    let mut sources = Sources { site, found: Vec::new() };
    let readers = sources.readers(parts)?;
    let (output, end) = sources.output(&parts.output)?;
    let meter = parts.meter.as_ref().and_then(|part| Some((sources.meter(part)?, is_shared(part))));
    let contacts = contacts(portal, parts, &mut sources);

    let Sources { site, found } = sources;
    let needs = needs(portal, parts);
    let mut units = Vec::new();
    let mut all = Vec::new();
    for (source, found) in found.into_iter().enumerate() {
        match found {
            Found::Modbus(device, decoder) => {
                units.extend(device.bus.unit(device.unit).map(|unit| (source, unit)));
                let portal = portal.id.clone();
                let listener = Listener { portal, events: events.clone(), source, decoder: Arc::from(decoder) };
                let mut polled = false;
                for Need { part, poll, priority } in needs.iter().filter(|need| device.is(need.part)) {
                    site.polls.add(&device, &part.profile, poll, *priority, &listener);
                    polled = true;
                }
                all.push(Source { polled });
            }
            Found::Mqtt(device, decoder) => {
                // Its last will shows when it is gone.
                all.push(Source { polled: true });
                site.devices.listen(device, &portal.id, (source, *decoder), &events);
            }
        }
    }
    let wiring =
        PartsWiring::new((parts.output.clone(), end), readers.ordered, events.clone(), Arc::clone(&site.observer));
    let (id, kind) = (portal.id.clone(), portal.kind);
    let parts = Parts { id, kind, sources: all, readers: readers.all, contacts, meter, output, wiring };
    Some(Assembled { portal: Portal::new(parts, inbox.clone()), events, received, units })
}

/// The contacts of reader, output and inputs, each once.
fn contacts(
    portal: &access::portal::Portal,
    parts: &wired::Parts,
    sources: &mut Sources<'_>,
) -> Vec<(usize, InputKind)> {
    let mut contacts = Vec::new();
    for part in [&parts.reader, &parts.output].into_iter().chain(&parts.inputs) {
        match part {
            Part::Modbus(part) => {
                for input in inputs(portal, parts, part) {
                    let Some((source, _, decoder)) = sources.modbus(part) else { continue };
                    let channel = part.channel.min(input.point.channels.saturating_sub(1));
                    if decoder.contacts.iter().any(|(_, known, of)| known == input && *of == channel) {
                        continue;
                    }
                    decoder.contacts.push((contacts.len(), input.clone(), channel));
                    contacts.push((source, input.kind));
                }
            }
            Part::Mqtt(part) => {
                for input in part.profile.inputs(part.names()) {
                    let Some((source, _, decoder)) = sources.mqtt(part) else { continue };
                    let kind = input.kind;
                    if decoder.add_contact(contacts.len(), input) {
                        contacts.push((source, kind));
                    }
                }
            }
        }
    }
    contacts
}
