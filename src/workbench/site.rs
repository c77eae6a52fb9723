//! Simulates every portal of a site: native portals on the local broker, Modbus devices on the lines that are on this machine.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::lines::{Lines, Units};
use super::modbus::Fault;
use super::modbus::{Line, LineAt};
use super::mqtt::profiled::SimulatedDevice;
use super::mqtt::{Presentation, Seen, SimulatedPortal};
use super::{Refused, listed, short};
use crate::access::effect::Verdict;
use crate::access::event::Outcome;
use crate::access::id::{CardUid, PortalId, UidError};
use crate::access::portal::{Direction, PortalKind};
use crate::config::{self, LinkSpec, MqttPart, Part, PortalDevice};

/// How long a relay may take to move after a card was presented, in milliseconds.
pub const RELAY_WAIT_MS: u64 = 3_000;
/// Reports that wait to be printed; when there are more, portals wait.
const REPORTS_MAX: usize = 256;
/// How long it is waited for a relay to move before the wait begins again, in seconds.
const RELAY_WATCH_S: u64 = 3_600;

/// A portal that is simulated.
enum Simulated {
    Native(SimulatedPortal),
    Parts { reader: End, slots: u16, output: End, kind: PortalKind },
}

/// An end of a portal: its reader or its output.
#[derive(Clone)]
enum End {
    Modbus(Place),
    Mqtt(Arc<SimulatedDevice>, u16),
}

impl End {
    /// The reader of a slot, if this is the reader of the first.
    fn at(&self, slot: u16) -> Self {
        match self {
            Self::Modbus(place) => Self::Modbus(place.at(slot)),
            Self::Mqtt(..) => self.clone(),
        }
    }

    fn card(&self) -> Option<CardUid> {
        match self {
            Self::Modbus(place) => place.card(),
            Self::Mqtt(device, _) => device.seen().card,
        }
    }

    async fn present(&self, card: CardUid) {
        match self {
            Self::Modbus(place) => place.line.present(place.unit, place.channel, card),
            Self::Mqtt(device, _) => device.present(card).await,
        }
    }

    async fn remove(&self) {
        match self {
            Self::Modbus(place) => place.line.remove(place.unit, place.channel),
            Self::Mqtt(device, _) => device.remove().await,
        }
    }

    fn relay(&self) -> bool {
        match self {
            Self::Modbus(place) => place.line.relay(place.unit, place.channel),
            Self::Mqtt(device, channel) => device.seen().on.contains(channel),
        }
    }

    async fn wait_relay(&self, on: bool, limit: Duration) -> bool {
        match self {
            Self::Modbus(place) => place.line.wait_relay(place.unit, place.channel, on, limit).await,
            Self::Mqtt(device, channel) => {
                device.wait_until(limit, |seen| seen.on.contains(channel) == on).await.is_some()
            }
        }
    }
}

/// A channel of a device on a running line.
#[derive(Clone)]
struct Place {
    line: Line,
    unit: u8,
    channel: u16,
}

impl Place {
    /// The reader of a slot, if this is the reader of the first.
    fn at(&self, slot: u16) -> Self {
        Self { channel: self.channel.saturating_add(slot), ..self.clone() }
    }

    fn card(&self) -> Option<CardUid> {
        self.line.card(self.unit, self.channel)
    }
}

/// A running simulator of a site. It ends when it is dropped.
pub struct Site {
    portals: BTreeMap<PortalId, Simulated>,
    lines: Lines,
    /// The devices with MQTT topics of their own, by topic.
    devices: BTreeMap<String, Arc<SimulatedDevice>>,
    /// The address or port of each line, with its bus, for people.
    places: Vec<(String, String)>,
    /// The tasks that report what happens at the portals.
    watching: JoinSet<()>,
    absent: Vec<PortalId>,
}

impl Site {
    /// Simulates the portals of `config`, each Modbus line at its place in `lines`. Gives also the reports of what happens at the
    /// portals, a line each. Portals on a line that is not in `lines` are left out, see [`Site::absent`], and so are controllers, which
    /// send requests themselves.
    ///
    /// # Errors
    /// When a line cannot be plugged in, or no broker is configured.
    pub async fn start(
        config: &config::Site,
        mut lines: BTreeMap<String, LineAt>,
    ) -> Result<(Self, mpsc::Receiver<String>), Refused> {
        let mut served: HashMap<&str, Line> = HashMap::new();
        let mut site = Self {
            portals: BTreeMap::new(),
            lines: Lines::default(),
            devices: BTreeMap::new(),
            places: Vec::new(),
            watching: JoinSet::new(),
            absent: Vec::new(),
        };
        for (bus, units) in devices(config) {
            let Some(at) = lines.remove(bus) else { continue };
            let (line, place) = site.lines.add(bus.to_owned(), at, units).await?;
            site.places.push((bus.to_owned(), place));
            served.insert(bus, line);
        }
        let (reports, reported) = mpsc::channel(REPORTS_MAX);
        site.devices = mqtt_devices(config)?;
        let devices = site.devices.clone();
        let end = |part: &Part| match part {
            Part::Modbus(part) => {
                let line = served.get(part.bus.as_str())?.clone();
                Some(End::Modbus(Place { line, unit: part.unit, channel: part.channel }))
            }
            Part::Mqtt(part) => Some(End::Mqtt(Arc::clone(devices.get(&part.topic)?), part.channel)),
        };
        for portal in &config.portals {
            let (id, kind) = (&portal.portal.id, portal.portal.kind);
            let simulated = match &portal.device {
                PortalDevice::ModbusServer { .. } => continue,
                PortalDevice::NativeMqtt => {
                    let refused = |why: String| Refused(format!("portal `{id}`: {why}"));
                    let local = config.local.as_ref();
                    let local = local.ok_or_else(|| refused("no broker is configured; add `[local]`".to_owned()))?;
                    let link = LinkSpec { client_id: format!("{}-sim-{id}", local.client_id), ..local.clone() };
                    let native = SimulatedPortal::start(link, &config.gateway, id, kind);
                    let native = native.map_err(|error| refused(error.to_string()))?;
                    site.watching.spawn(watch_native(id.clone(), native.watch(), reports.clone()));
                    Simulated::Native(native)
                }
                PortalDevice::Parts(parts) => {
                    let Some((reader, output)) = end(&parts.reader).zip(end(&parts.output)) else {
                        site.absent.push(id.clone());
                        continue;
                    };
                    site.watching.spawn(watch_relay(id.clone(), output.clone(), reports.clone()));
                    Simulated::Parts { reader, slots: parts.slots, output, kind }
                }
            };
            site.portals.insert(id.clone(), simulated);
        }
        Ok((site, reported))
    }

    /// The simulated portals.
    pub fn portals(&self) -> impl Iterator<Item = &PortalId> {
        self.portals.keys()
    }

    /// Portals with a device on a line that is not simulated.
    #[must_use]
    pub fn absent(&self) -> &[PortalId] {
        &self.absent
    }

    /// The address or port of each Modbus line, with its bus.
    #[must_use]
    pub fn places(&self) -> &[(String, String)] {
        &self.places
    }

    /// The Modbus lines, for commands to their devices.
    #[must_use]
    pub fn lines(&self) -> &Lines {
        &self.lines
    }

    fn at(&self, portal: &str) -> Result<&Simulated, Refused> {
        self.portals.get(portal).ok_or_else(|| {
            let known = listed(self.portals.keys());
            Refused(format!("portal `{}` is not simulated; there are {known}", short(portal)))
        })
    }

    /// Presents a card; gives the decision and what the relay did, in words. The direction is used at native portals only. If no slot
    /// is named, it is the one in which the card lies, else the first empty one, else the first. A native portal receives its
    /// decision; for the others `verdict` is what the gateway would decide, or why that is not known.
    ///
    /// # Errors
    /// When the card cannot be presented, or a native portal receives no decision.
    pub async fn present(
        &self,
        portal: &str,
        uid: &str,
        direction: Option<Direction>,
        slot: Option<u16>,
        verdict: impl Future<Output = Result<Verdict, String>>,
    ) -> Result<String, Refused> {
        match self.at(portal)? {
            Simulated::Native(native) => {
                slot_of(portal, 1, slot, |_| true)?;
                let presentation = Presentation { uid: uid.to_owned(), direction, ..Presentation::default() };
                let decision = native.present_as(presentation).await.map_err(|none| Refused(none.to_string()))?;
                let mut words = vec![if decision.granted { "grant" } else { "deny" }.to_owned(), decision.reason];
                words.extend(decision.hold_ms.map(|ms| format!("for {ms} ms")));
                words.extend(decision.flags);
                Ok(words.join(" "))
            }
            Simulated::Parts { reader, slots, output, kind } => {
                let card: CardUid = uid.parse().map_err(|why: UidError| Refused(format!("`{uid}`: {why}")))?;
                let lies = |slot| reader.at(slot).card();
                let own = (0..*slots).find(|slot| lies(*slot) == Some(card));
                let slot = slot_of(portal, *slots, slot.or(own), |slot| lies(*slot).is_none())?;
                let reader = reader.at(slot);
                // Asked before the card is presented, which may change the answer.
                let verdict = verdict.await;
                let began = Instant::now();
                let was_on = output.relay();
                reader.present(card).await;
                let limit = Duration::from_millis(RELAY_WAIT_MS);
                let moved = output.wait_relay(!was_on, limit).await;
                // A card stays in a power box; from a gate or door it is removed.
                if *kind != PortalKind::PowerBox {
                    reader.remove().await;
                }
                let after = began.elapsed().as_millis();
                let came = match (was_on, moved) {
                    (false, true) => format!("relay on after {after} ms"),
                    (false, false) => format!("the relay did not move in {RELAY_WAIT_MS} ms"),
                    (true, true) => format!("relay off after {after} ms"),
                    (true, false) => format!("the relay was on and stays on, for {RELAY_WAIT_MS} ms at least"),
                };
                let came = match verdict {
                    Ok(Verdict { outcome, also, .. }) => {
                        let granted = matches!(outcome, Outcome::Grant(_));
                        let word = if granted { "grant" } else { "deny" };
                        let reasons = also.iter().map(|reason| reason.as_str());
                        let decided = [word, outcome.reason()].into_iter().chain(reasons).collect::<Vec<_>>().join(" ");
                        let check = if !was_on && !moved && granted {
                            ": see `dormgate status` and the gateway's log whether it reaches the reader and the relay"
                        } else {
                            ""
                        };
                        format!("{decided}; {came}{check}")
                    }
                    Err(why) if !moved => format!("{came}; the decision is not known: {why}"),
                    Err(_) => came,
                };
                Ok(in_words(*slots, slot, came))
            }
        }
    }

    /// Removes the card; gives what was done. If no slot is named, it is the first with a card.
    ///
    /// # Errors
    /// When there is no such portal or slot.
    pub async fn remove(&self, portal: &str, slot: Option<u16>) -> Result<String, Refused> {
        let removed = "removed".to_owned();
        match self.at(portal)? {
            Simulated::Native(native) => {
                slot_of(portal, 1, slot, |_| true)?;
                native.remove().await;
                Ok(removed)
            }
            Simulated::Parts { reader, slots, .. } => {
                let slot = slot_of(portal, *slots, slot, |slot| reader.at(*slot).card().is_some())?;
                reader.at(slot).remove().await;
                Ok(in_words(*slots, slot, removed))
            }
        }
    }

    /// Stops the simulator: native portals report that they go offline.
    pub async fn stop(mut self) {
        self.watching.abort_all();
        for simulated in self.portals.into_values() {
            if let Simulated::Native(native) = simulated {
                native.stop().await;
            }
        }
        for device in self.devices.into_values().filter_map(Arc::into_inner) {
            device.stop().await;
        }
    }

    /// Sets the fault that `words` name, of a device at the broker (`mqtt/NAME`) or as [`Lines::fault`].
    ///
    /// # Errors
    /// When the place or the fault does not exist there.
    pub async fn fault(&self, place: &str, words: &[&str]) -> Result<String, Refused> {
        let Some(device) = self.device(place)? else { return self.lines.fault(place, words).await };
        device.fault(Fault::parse(words)?).await?;
        Ok(format!("{place}: {}", words.join(" ")))
    }

    /// Sets what a device at the broker (`mqtt/NAME`) reports, or a point as [`Lines::set`].
    ///
    /// # Errors
    /// When the place or the point does not exist.
    pub async fn set(&self, place: &str, point: &str, channel: u16, value: f64) -> Result<String, Refused> {
        let Some(device) = self.device(place)? else { return self.lines.set(place, point, channel, value) };
        let held = device.set(point, channel, value).await?;
        Ok(format!("{place}: {point} is {held}"))
    }

    /// The device that `mqtt/NAME` names; `None`: another place.
    fn device(&self, place: &str) -> Result<Option<&SimulatedDevice>, Refused> {
        let Some(name) = place.strip_prefix(MQTT_PLACE) else { return Ok(None) };
        let known = || listed(self.devices.keys());
        let found = self.devices.get(name).map(Arc::as_ref);
        found
            .map(Some)
            .ok_or_else(|| Refused(format!("device `{}` is not simulated; there are {}", short(name), known())))
    }
}

/// How the place of a device at the broker begins.
const MQTT_PLACE: &str = "mqtt/";

/// Starts the devices with MQTT topics of their own, one a topic.
fn mqtt_devices(config: &config::Site) -> Result<BTreeMap<String, Arc<SimulatedDevice>>, Refused> {
    let mut parts: BTreeMap<&str, Vec<&MqttPart>> = BTreeMap::new();
    for part in config.portals.iter().filter_map(|portal| portal.device.parts()).flat_map(config::Parts::all) {
        if let Some(part) = part.mqtt() {
            parts.entry(&part.topic).or_default().push(part);
        }
    }
    let start = |(topic, parts): (&str, Vec<&MqttPart>)| {
        let refused = |why: String| Refused(format!("device `{topic}`: {why}"));
        let local = config.local.as_ref();
        let local = local.ok_or_else(|| refused("no broker is configured; add `[local]`".to_owned()))?;
        let link = LinkSpec { client_id: format!("{}-sim-{topic}", local.client_id), ..local.clone() };
        let device = SimulatedDevice::start(link, topic, &parts).map_err(|error| refused(error.to_string()))?;
        Ok((topic.to_owned(), Arc::new(device)))
    };
    parts.into_iter().map(start).collect()
}

/// The slot that is `named`, else the first for which `wanted` is true, else the first.
fn slot_of(portal: &str, slots: u16, named: Option<u16>, wanted: impl FnMut(&u16) -> bool) -> Result<u16, Refused> {
    match named {
        Some(slot) if slot < slots => Ok(slot),
        Some(_) => Err(Refused(format!("`{portal}` has {slots} slot(s), counted from 0"))),
        None => Ok((0..slots).find(wanted).unwrap_or(0)),
    }
}

/// What was done, with the slot where there are several.
fn in_words(slots: u16, slot: u16, done: String) -> String {
    if slots > 1 { format!("slot {slot}: {done}") } else { done }
}

/// The devices on each line.
fn devices(config: &config::Site) -> BTreeMap<&str, Units> {
    let mut lines: BTreeMap<&str, Units> = BTreeMap::new();
    for portal in &config.portals {
        let PortalDevice::Parts(parts) = &portal.device else { continue };
        for part in parts.all().filter_map(Part::modbus) {
            lines.entry(&part.bus).or_default().insert(part.unit, Arc::clone(&part.profile));
        }
    }
    lines
}

async fn watch_native(portal: PortalId, mut seen: watch::Receiver<Seen>, reports: mpsc::Sender<String>) {
    let mut before = Seen::default();
    while seen.changed().await.is_ok() {
        let now = seen.borrow_and_update().clone();
        for change in changes(&before, &now) {
            if reports.send(format!("{portal}: {change}")).await.is_err() {
                return;
            }
        }
        before = now;
    }
}

/// What changed, in words.
fn changes(before: &Seen, now: &Seen) -> Vec<&'static str> {
    let pairs = [
        (before.connected, now.connected, "connected", "not connected"),
        (before.gateway_online, now.gateway_online, "the gateway is online", "the gateway is offline"),
        // Opened again while open is reported too.
        (before.open && before.openings == now.openings, now.open, "open", "closed"),
        (before.relay, now.relay, "power on", "power off"),
        (before.free, now.free, "stays open", "needs a card again"),
    ];
    pairs.into_iter().filter(|(b, n, ..)| b != n).map(|(_, now, yes, no)| if now { yes } else { no }).collect()
}

async fn watch_relay(portal: PortalId, output: End, reports: mpsc::Sender<String>) {
    let mut on = output.relay();
    loop {
        if output.wait_relay(!on, Duration::from_secs(RELAY_WATCH_S)).await {
            on = !on;
            let word = if on { "relay on" } else { "relay off" };
            if reports.send(format!("{portal}: {word}")).await.is_err() {
                return;
            }
        }
    }
}
