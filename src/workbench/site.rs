//! Simulates every portal of a site: native portals on the local broker, Modbus devices on the lines that are on this machine, and
//! controllers that ask the gateway over TCP.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::end::{End, Place};
use super::happens::{of_controller, of_native, watch_changes, watch_relay};
use super::lines::{Lines, Units};
use super::modbus::{Caller, Controller, Fault, Line, LineAt};
use super::mqtt::profiled::SimulatedDevice;
use super::mqtt::{Presentation, SimulatedPortal};
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
/// Most connections of all simulated controllers to the gateway, which accepts 128.
const CALLERS_MAX: usize = 32;

/// A portal that is simulated.
enum Simulated {
    Native(SimulatedPortal),
    Controller(Controller),
    Parts { reader: End, slots: u16, output: End, kind: PortalKind },
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
    /// portals, a line each. Portals on a line that is not in `lines` are left out, see [`Site::absent`], and so are controllers if the
    /// gateway listens for them on a serial line only. Fails when a line cannot be plugged in, or no broker is configured.
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
        let tcp = config.modbus_server.as_ref().and_then(|server| server.tcp);
        let callers: Vec<_> = tcp.iter().flat_map(|at| (0..CALLERS_MAX).map(|_| Arc::new(Caller::to(*at)))).collect();
        let mut callers = callers.iter().cycle();
        for portal in &config.portals {
            let (id, kind) = (&portal.portal.id, portal.portal.kind);
            let simulated = match &portal.device {
                PortalDevice::ModbusServer { unit } => {
                    let Some(caller) = callers.next() else { continue };
                    let controller = Controller::start(Arc::clone(caller), *unit, kind);
                    site.watching.spawn(watch_changes(id.clone(), controller.watch(), of_controller, reports.clone()));
                    Simulated::Controller(controller)
                }
                PortalDevice::NativeMqtt => {
                    let refused = |why: String| Refused(format!("portal `{id}`: {why}"));
                    let local = config.local.as_ref();
                    let local = local.ok_or_else(|| refused("no broker is configured; add `[local]`".to_owned()))?;
                    let link = LinkSpec { client_id: format!("{}-sim-{id}", local.client_id), ..local.clone() };
                    let native = SimulatedPortal::start(link, &config.gateway, id, kind);
                    let native = native.map_err(|error| refused(error.to_string()))?;
                    site.watching.spawn(watch_changes(id.clone(), native.watch(), of_native, reports.clone()));
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

    /// Presents a card; gives the decision and what the relay did, in words. The direction is used at native portals and controllers
    /// only. If no slot is named, it is the one in which the card lies, else the first empty one, else the first. A native portal and a
    /// controller receive their decision; for the others `verdict` is what the gateway would decide, or why that is not known. Fails when
    /// the card cannot be presented, or a native portal or a controller receives no decision.
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
            Simulated::Controller(controller) => {
                slot_of(portal, 1, slot, |_| true)?;
                controller.present(card(uid)?, direction).await
            }
            Simulated::Parts { reader, slots, output, kind } => {
                let card = card(uid)?;
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

    /// Removes the card; gives what was done. If no slot is named, it is the first with a card. Fails when there is no such portal or
    /// slot.
    pub async fn remove(&self, portal: &str, slot: Option<u16>) -> Result<String, Refused> {
        let removed = "removed".to_owned();
        match self.at(portal)? {
            Simulated::Native(native) => {
                slot_of(portal, 1, slot, |_| true)?;
                native.remove().await;
                Ok(removed)
            }
            Simulated::Controller(controller) => {
                slot_of(portal, 1, slot, |_| true)?;
                Ok(controller.remove().await)
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

    /// Sets the fault that `words` name, of a device at the broker (`mqtt/NAME`), a controller (`modbus_server/UNIT`) or as
    /// [`Lines::fault`]. Fails when the place or the fault does not exist there.
    pub async fn fault(&self, place: &str, words: &[&str]) -> Result<String, Refused> {
        if let Some(controller) = self.controller(place)? {
            controller.fault(Fault::parse(words)?).await?;
            return Ok(format!("{place}: {}", words.join(" ")));
        }
        let Some(device) = self.device(place)? else { return self.lines.fault(place, words).await };
        device.fault(Fault::parse(words)?).await?;
        Ok(format!("{place}: {}", words.join(" ")))
    }

    /// Sets what a device at the broker (`mqtt/NAME`) or a controller (`modbus_server/UNIT`) reports, or a point as [`Lines::set`]. Fails
    /// when the place or the point does not exist.
    pub async fn set(&self, place: &str, point: &str, channel: u16, value: f64) -> Result<String, Refused> {
        if let Some(controller) = self.controller(place)? {
            return Ok(format!("{place}: {}", controller.set(point, channel, value).await?));
        }
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

    /// The controller that `modbus_server/UNIT` names; `None`: another place.
    fn controller(&self, place: &str) -> Result<Option<&Controller>, Refused> {
        let Some(unit) = place.strip_prefix(CONTROLLER_PLACE) else { return Ok(None) };
        let all = || {
            self.portals.values().filter_map(|simulated| match simulated {
                Simulated::Controller(controller) => Some(controller),
                Simulated::Native(_) | Simulated::Parts { .. } => None,
            })
        };
        let found = all().find(|controller| unit.parse() == Ok(controller.unit()));
        let known = || listed(all().map(Controller::unit));
        found.map(Some).ok_or_else(|| {
            Refused(format!("no simulated controller asks as unit `{}`; there are {}", short(unit), known()))
        })
    }
}

/// How the place of a controller begins.
const CONTROLLER_PLACE: &str = "modbus_server/";
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

/// The card with this UID.
fn card(uid: &str) -> Result<CardUid, Refused> {
    uid.parse().map_err(|why: UidError| Refused(format!("`{uid}`: {why}")))
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
