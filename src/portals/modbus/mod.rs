//! Portals on Modbus, where the gateway asks: lines, devices by profile, portals put together from a reader, a relay, a meter.
//!
//! [`start`] makes one task a physical line ([`bus`]), one a poll, one a portal and one a relay. Nothing here decides who may
//! enter: cards go to the gateway's inbox as requests, and grants come back by value and are spent once.
//!
//! | modules | what they own |
//! |---|---|
//! | [`bus`], [`task`], [`queue`], [`health`] | a line's handle and its task: what goes next, how long it may take, which units are offline |
//! | [`mod@line`], `tap`, `serial`, `received`, [`late`] | one exchange by `tokio-modbus`, the bytes under it, silences, late replies |
//! | `poll`, [`tracker`], `slots`, `senses` | what is read, and what it means: cards, contacts, meters |
//! | `portal`, `orders`, `drive`, `release` | one portal: what it says, what it was told, how its relay is switched |
//! | `check`, `load` | what cannot work, how full a line is |
//! | [`server`] | the other way round: controllers ask us |

pub mod bus;
mod check;
mod drive;
pub mod health;
pub mod late;
pub mod line;
mod load;
mod log;
mod orders;
mod poll;
mod portal;
pub mod queue;
mod received;
mod release;
mod senses;
mod serial;
pub mod server;
mod slots;
mod tap;
pub mod task;
pub mod tracker;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tracing::Instrument;

use crate::access::id::PortalId;
use crate::access::portal::{Direction, PortalKind};
use crate::gateway::ports::{Inbox, PORTAL_ORDERS_MAX, PortalOrder};
use crate::profile::{InputPoint, Point, Poll, Profile, Pulse, Reader};

pub use bus::{BusSpec, Observer, Outcome, Released};
pub use check::{SpecError, check};
pub use drive::{STAGGER_MS, UNCONFIRMED_MS};
pub use line::{LineSpec, Parity, SerialSpec};

use bus::Bus;
use drive::{Drive, Order, Stagger, Wanted};
use health::UnitState;
use poll::Polling;
use portal::{Contact, Device, Event, Memory, MeterPart, Portal};
use queue::Priority;
use slots::Slot;
use tracker::Tracker;

/// Samples and states under way to one portal. A poll waits when it is full, so a slow portal slows only its own devices.
const EVENTS_MAX: usize = 64;
/// Results under way from a relay to its portal.
const DONE_MAX: usize = 16;
/// Time between the first requests of two polls, in milliseconds, so that they do not all begin at once.
const POLL_STAGGER_MS: u64 = 3;
/// Most slots of a power box.
pub const SLOTS_MAX: u16 = 16;
/// How long relays may take to be switched off at the end, in milliseconds.
pub const STOP_MS_MAX: u64 = 2000;

/// One part of a portal.
#[derive(Clone, Debug)]
pub struct PartSpec {
    /// The line's id.
    pub bus: String,
    /// Which device on it, 1 to 255.
    pub unit: u8,
    /// What its registers mean.
    pub profile: Arc<Profile>,
    /// Which relay, reader or input of it, from 0.
    pub channel: u16,
}

/// One portal of the configuration.
#[derive(Clone, Debug)]
pub struct ModbusPortalSpec {
    /// Its id.
    pub id: PortalId,
    /// What it is.
    pub kind: PortalKind,
    /// Which way one passes it, if the configuration says so; a reader may say it too.
    pub direction: Option<Direction>,
    /// Reads cards; `None`: requests come another way.
    pub reader: Option<PartSpec>,
    /// How many readers it has, from the reader's channel on: the slots of a power box; 1 for all other portals.
    pub slots: u16,
    /// Opens or energises.
    pub output: Option<PartSpec>,
    /// Measures.
    pub meter: Option<PartSpec>,
    /// Contacts and buttons beside those of reader and output.
    pub inputs: Option<PartSpec>,
}

impl ModbusPortalSpec {
    /// Its readers, slot by slot.
    fn readers(&self) -> impl Iterator<Item = &Reader> {
        self.reader
            .iter()
            .flat_map(|part| part.profile.readers.iter().skip(usize::from(part.channel)).take(usize::from(self.slots)))
    }
}

/// The running link.
pub struct ModbusPortals {
    /// Where each portal takes its orders.
    pub outlets: Vec<(PortalId, mpsc::Sender<PortalOrder>)>,
    /// Everything that runs for it. None ends before it is stopped, unless it fails.
    pub tasks: JoinSet<()>,
    stop: watch::Sender<bool>,
}

impl ModbusPortals {
    /// Ends all tasks. A relay that was told to go off, or whose pulse the gateway times, is switched off first, for at most
    /// [`STOP_MS_MAX`].
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        drop(self.outlets);
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if timeout(Duration::from_millis(STOP_MS_MAX), all).await.is_err() {
            tracing::warn!("not every relay could be switched off before the end");
        }
    }
}

/// Starts lines, polls, portals and relays.
///
/// # Errors
/// Everything [`check`] finds; nothing is started then.
pub fn start(
    buses: Vec<BusSpec>,
    portals: Vec<ModbusPortalSpec>,
    inbox: &Inbox,
    observer: &Arc<dyn Observer>,
) -> Result<ModbusPortals, Vec<SpecError>> {
    let errors = check(&buses, &portals);
    if !errors.is_empty() {
        return Err(errors);
    }
    let mut tasks = JoinSet::new();
    let (stop, stopped) = watch::channel(false);
    let speeds: Vec<(String, u32)> = buses.iter().filter_map(|bus| Some((bus.id.clone(), bus.line.baud()?))).collect();
    let lines = open_lines(buses, &portals, observer, &mut tasks);
    let mut polls = Polls::default();
    let mut outlets = Vec::new();
    let meters = MeterUse::of(&portals);
    for spec in portals {
        let (orders, taken) = mpsc::channel(PORTAL_ORDERS_MAX);
        outlets.push((spec.id.clone(), orders));
        assemble(spec, &lines, &meters, inbox, &mut polls, taken, &stopped, &mut tasks);
    }
    for (bus, baud) in speeds {
        let of_bus = polls.by_what.values().filter(|polling| polling.device.bus.id() == bus);
        let percent = load::percent(of_bus.map(|polling| (polling.reads.as_slice(), polling.every)), baud);
        if percent > load::LOAD_PERCENT_MAX {
            tracing::warn!(
                bus,
                "its polls take {percent} % of the line at {baud} Bd: raise the speed, or make two lines of it"
            );
        }
    }
    let mut first = Instant::now();
    for polling in polls.by_what.into_values() {
        tasks.spawn(polling.run(first, stopped.clone()));
        first += Duration::from_millis(POLL_STAGGER_MS);
    }
    Ok(ModbusPortals { outlets, tasks, stop })
}

fn open_lines(
    buses: Vec<BusSpec>,
    portals: &[ModbusPortalSpec],
    observer: &Arc<dyn Observer>,
    tasks: &mut JoinSet<()>,
) -> Lines {
    let mut lines = HashMap::new();
    for spec in buses {
        let mut units: HashMap<u8, Duration> = HashMap::new();
        let parts = portals.iter().flat_map(|p| [&p.reader, &p.output, &p.meter, &p.inputs]).flatten();
        for part in parts.filter(|part| part.bus == spec.id) {
            let reply = Duration::from_millis(u64::from(part.profile.link.reply_ms));
            let slowest = units.entry(part.unit).or_default();
            *slowest = reply.max(*slowest);
        }
        let id = spec.id.clone();
        let (bus, task) = task::open(spec, &units, Arc::clone(observer));
        // The frames of a trace are told with their bus; the span costs nothing while nobody asks for them.
        tasks.spawn(task.instrument(tracing::trace_span!(target: "dormgate::frames", "bus", %id)));
        lines.insert(id, (bus, Arc::new(Stagger::new())));
    }
    lines
}

/// The lines by id, each with the turns of its relays.
type Lines = HashMap<String, (Bus, Arc<Stagger>)>;

/// All polls, each once however many portals want it.
#[derive(Default)]
struct Polls {
    by_what: BTreeMap<(String, u8, String, String), Polling>,
}

impl Polls {
    fn want(
        &mut self,
        device: &Device,
        profile: &Profile,
        poll: &Poll,
        priority: Priority,
        listener: (&mpsc::Sender<Event>, usize),
    ) {
        let key = (device.bus.id().to_owned(), device.unit, profile.id.clone(), poll.name.clone());
        let polling = self.by_what.entry(key).or_insert_with(|| Polling {
            device: device.clone(),
            reads: poll.reads.clone(),
            every: Duration::from_millis(u64::from(poll.every_ms)),
            priority,
            listeners: Vec::new(),
        });
        polling.priority = polling.priority.min(priority);
        if !polling.listeners.iter().any(|(sender, at)| sender.same_channel(listener.0) && *at == listener.1) {
            polling.listeners.push((listener.0.clone(), listener.1));
        }
    }
}

/// The devices of one portal, each once.
struct Devices<'a> {
    lines: &'a Lines,
    found: Vec<Device>,
}

impl Devices<'_> {
    fn index(&mut self, part: &PartSpec) -> Option<usize> {
        let (bus, _) = self.lines.get(&part.bus)?;
        let known = self.found.iter().position(|device| device.bus.id() == bus.id() && device.unit == part.unit);
        Some(known.unwrap_or_else(|| {
            self.found.push(Device { bus: bus.clone(), unit: part.unit, polled: false });
            self.found.len() - 1
        }))
    }
}

/// How many portals each meter measures.
struct MeterUse(HashMap<(String, u8, u16), u32>);

impl MeterUse {
    fn of(portals: &[ModbusPortalSpec]) -> Self {
        let mut uses = HashMap::new();
        for part in portals.iter().filter_map(|spec| spec.meter.as_ref()) {
            *uses.entry((part.bus.clone(), part.unit, part.channel)).or_insert(0) += 1;
        }
        Self(uses)
    }

    fn is_shared(&self, part: &PartSpec) -> bool {
        self.0.get(&(part.bus.clone(), part.unit, part.channel)).is_some_and(|uses| *uses > 1)
    }
}

#[expect(clippy::too_many_arguments, reason = "a portal is put together from all of it")]
fn assemble(
    spec: ModbusPortalSpec,
    lines: &Lines,
    meters: &MeterUse,
    inbox: &Inbox,
    polls: &mut Polls,
    orders: mpsc::Receiver<PortalOrder>,
    stopped: &watch::Receiver<bool>,
    tasks: &mut JoinSet<()>,
) {
    let (events, heard) = mpsc::channel(EVENTS_MAX);
    let (told, done) = mpsc::channel(DONE_MAX);
    let mut devices = Devices { lines, found: Vec::new() };
    let mut want = |devices: &mut Devices<'_>, index: usize, part: &PartSpec, points: &[&Point], priority: Priority| {
        let Some(device) = devices.found.get_mut(index) else { return };
        for poll in part.profile.polls_of(points) {
            device.polled = true;
            polls.want(device, &part.profile, poll, priority, (&events, index));
        }
    };

    let mut slots = Vec::new();
    for (number, reader) in (0..).zip(spec.readers()) {
        let Some((part, index)) = spec.reader.as_ref().and_then(|part| Some((part, devices.index(part)?))) else {
            break;
        };
        want(&mut devices, index, part, &reader.points(), Priority::Card);
        slots.push(Slot::new(index, number, Tracker::new(reader.clone())));
    }
    let output = spec.output.as_ref().and_then(|part| {
        let output = part.profile.output.clone()?;
        let index = devices.index(part)?;
        if let Some(state) = &output.state {
            want(&mut devices, index, part, &[state], Priority::Status);
        }
        Some((index, output, part.channel))
    });
    let meter = spec.meter.as_ref().and_then(|part| {
        let meter = part.profile.meter.clone()?;
        let index = devices.index(part)?;
        let points: Vec<&Point> = [&meter.power, &meter.energy].into_iter().flatten().map(|(point, _)| point).collect();
        want(&mut devices, index, part, &points, Priority::Meter);
        Some(MeterPart { device: index, meter, channel: part.channel, shared: meters.is_shared(part), said: None })
    });
    let mut inputs: Vec<Contact> = Vec::new();
    // Two gates may share a turnstile: each hears of those who pass its own way.
    let way = spec.direction.or_else(|| spec.readers().find_map(|reader| reader.direction));
    for part in [&spec.reader, &spec.output, &spec.inputs].into_iter().flatten() {
        let Some(index) = devices.index(part) else { continue };
        let other_way = |input: &InputPoint| way.is_some() && input.kind.way().is_some_and(|of| Some(of) != way);
        for input in part.profile.inputs.iter().filter(|input| !other_way(input)) {
            let channel = part.channel.min(input.point.channels.saturating_sub(1));
            let known = inputs.iter().any(|c| c.device == index && c.input == *input && c.channel == channel);
            if !known {
                want(&mut devices, index, part, &[&input.point], Priority::Input);
                inputs.push(Contact { device: index, input: input.clone(), channel, last: None });
            }
        }
    }

    // A pulse that a crash of the gateway may have left unfinished is ended first of all.
    let timed_here =
        spec.kind != PortalKind::PowerBox && output.as_ref().is_some_and(|(_, o, _)| o.pulse == Pulse::Gateway);
    let wanted = watch::Sender::new(Order::first(if timed_here { Wanted::Off } else { Wanted::AsItIs }));
    if let Some((index, output, channel)) = &output
        && let Some(Device { bus, unit, .. }) = devices.found.get(*index)
        && let Some((_, stagger)) = lines.get(bus.id())
    {
        let stagger = Arc::clone(stagger);
        let drive = Drive { bus: bus.clone(), unit: *unit, output: output.clone(), channel: *channel, told, stagger };
        tasks.spawn(drive.run(wanted.subscribe()));
    }
    for (index, device) in devices.found.iter().enumerate() {
        if let Some(state) = device.bus.unit(device.unit) {
            tasks.spawn(tell_state(index, state, events.clone(), stopped.clone()));
        }
    }
    let portal = Portal {
        id: spec.id,
        kind: spec.kind,
        devices: devices.found.into_iter().map(|device| (device, UnitState::Unknown)).collect(),
        slots,
        output,
        inputs,
        meter,
        inbox: inbox.clone(),
        wanted,
        events: events.clone(),
        memory: Memory::new(timed_here),
    };
    tasks.spawn(portal.run(orders, heard, done, stopped.clone()));
}

/// Ends when `stop` turns true, or when nobody can turn it any more.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    drop(stop.wait_for(|stop| *stop).await);
}

/// Tells a portal of every change of a unit's state.
async fn tell_state(
    device: usize,
    mut state: watch::Receiver<UnitState>,
    events: mpsc::Sender<Event>,
    mut stop: watch::Receiver<bool>,
) {
    loop {
        let now = state.borrow_and_update().clone();
        if now != UnitState::Unknown && events.send(Event::Unit { device, state: now }).await.is_err() {
            return;
        }
        tokio::select! {
            changed = state.changed() => if changed.is_err() { return },
            () = stopped(&mut stop) => return,
        }
    }
}
