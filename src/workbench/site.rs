//! Simulates every portal of a site: native portals on the local broker, Modbus devices on the lines that are on this machine.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::lines::{Lines, Units};
use super::modbus::{Line, LineAt};
use super::mqtt::{Presentation, Seen, SimulatedPortal};
use super::{Refused, listed, short};
use crate::access::effect::Verdict;
use crate::access::event::Outcome;
use crate::access::id::{CardUid, PortalId, UidError};
use crate::access::portal::{Direction, PortalKind};
use crate::config::{self, LinkSpec, Part, PortalDevice};

/// How long a relay may take to move after a card was presented, in milliseconds.
pub const RELAY_WAIT_MS: u64 = 3_000;
/// Reports that wait to be printed; when there are more, portals wait.
const REPORTS_MAX: usize = 256;
/// How long it is waited for a relay to move before the wait begins again, in seconds.
const RELAY_WATCH_S: u64 = 3_600;

/// A portal that is simulated.
enum Simulated {
    Native(SimulatedPortal),
    Modbus { reader: Place, slots: u16, output: Place, kind: PortalKind },
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
        let place = |part: &Part| {
            let line = served.get(part.bus.as_str())?.clone();
            Some(Place { line, unit: part.unit, channel: part.channel })
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
                    let Some((reader, output)) = place(&parts.reader).zip(place(&parts.output)) else {
                        site.absent.push(id.clone());
                        continue;
                    };
                    site.watching.spawn(watch_relay(id.clone(), output.clone(), reports.clone()));
                    Simulated::Modbus { reader, slots: parts.slots, output, kind }
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
            Simulated::Modbus { reader, slots, output, kind } => {
                let card: CardUid = uid.parse().map_err(|why: UidError| Refused(format!("`{uid}`: {why}")))?;
                let lies = |slot| reader.at(slot).card();
                let own = (0..*slots).find(|slot| lies(*slot) == Some(card));
                let slot = slot_of(portal, *slots, slot.or(own), |slot| lies(*slot).is_none())?;
                let reader = reader.at(slot);
                // Asked before the card is presented, which may change the answer.
                let verdict = verdict.await;
                let began = Instant::now();
                let was_on = output.line.relay(output.unit, output.channel);
                reader.line.present(reader.unit, reader.channel, card);
                let limit = Duration::from_millis(RELAY_WAIT_MS);
                let moved = output.line.wait_relay(output.unit, output.channel, !was_on, limit).await;
                // A card stays in a power box; from a gate or door it is removed.
                if *kind != PortalKind::PowerBox {
                    reader.line.remove(reader.unit, reader.channel);
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
            Simulated::Modbus { reader, slots, .. } => {
                let slot = slot_of(portal, *slots, slot, |slot| reader.at(*slot).card().is_some())?;
                let reader = reader.at(slot);
                reader.line.remove(reader.unit, reader.channel);
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
    }
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
        for part in parts.all() {
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

async fn watch_relay(portal: PortalId, output: Place, reports: mpsc::Sender<String>) {
    let mut on = output.line.relay(output.unit, output.channel);
    loop {
        if output.line.wait_relay(output.unit, output.channel, !on, Duration::from_secs(RELAY_WATCH_S)).await {
            on = !on;
            let word = if on { "relay on" } else { "relay off" };
            if reports.send(format!("{portal}: {word}")).await.is_err() {
                return;
            }
        }
    }
}
