//! Every portal of a site, simulated: native ones on the local broker, Modbus devices on the lines that are on this machine.

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

/// How long a presented card may take to move a relay, in milliseconds; then it was denied, or nobody asked the reader.
pub const RELAY_WAIT_MS: u64 = 3_000;
/// Lines of news that wait for whoever prints them; beyond, portals wait.
const NEWS_MAX: usize = 256;
/// A wait without an end, in seconds, cut so that it can be begun again.
const LONG_S: u64 = 3_600;

enum StandIn {
    Native(SimulatedPortal),
    Modbus { reader: Place, slots: u16, output: Place, kind: PortalKind },
}

/// A device on a running line.
#[derive(Clone)]
struct Place {
    line: Line,
    unit: u8,
    channel: u16,
}

impl Place {
    /// The reader of a slot, where this is that of the first.
    fn at(&self, slot: u16) -> Self {
        Self { channel: self.channel.saturating_add(slot), ..self.clone() }
    }

    fn card(&self) -> Option<CardUid> {
        self.line.card(self.unit, self.channel)
    }
}

/// A running simulator for a site. It ends when this is dropped.
pub struct Site {
    portals: BTreeMap<PortalId, StandIn>,
    lines: Lines,
    /// Where each line is, by its bus, for people.
    places: Vec<(String, String)>,
    /// What happens at Modbus outputs, reported by tasks that end with this.
    watching: JoinSet<()>,
    absent: Vec<PortalId>,
}

impl Site {
    /// Stands in for the portals of `config`, within a tokio runtime, with its Modbus lines served at the place in `lines`, by the
    /// bus's name; gives what happens at its portals, a line each. Portals on a line that is not served here are left out, see
    /// [`Site::absent`], and so are controllers, which send requests themselves.
    ///
    /// # Errors
    /// When a line or the broker cannot be had.
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
        let (news, reported) = mpsc::channel(NEWS_MAX);
        let place = |part: &Part| {
            let line = served.get(part.bus.as_str())?.clone();
            Some(Place { line, unit: part.unit, channel: part.channel })
        };
        for portal in &config.portals {
            let (id, kind) = (&portal.portal.id, portal.portal.kind);
            let stand_in = match &portal.device {
                PortalDevice::ModbusServer { .. } => continue,
                PortalDevice::NativeMqtt => {
                    let refused = |why: String| Refused(format!("portal `{id}`: {why}"));
                    let local = config.local.as_ref();
                    let local = local.ok_or_else(|| refused("there is no broker; add `[local]`".to_owned()))?;
                    let link = LinkSpec { client_id: format!("{}-sim-{id}", local.client_id), ..local.clone() };
                    let native = SimulatedPortal::start(link, &config.gateway, id, kind);
                    let native = native.map_err(|error| refused(error.to_string()))?;
                    site.watching.spawn(watch_native(id.clone(), native.watch(), news.clone()));
                    StandIn::Native(native)
                }
                PortalDevice::Parts(parts) => {
                    let Some((reader, output)) = place(&parts.reader).zip(place(&parts.output)) else {
                        site.absent.push(id.clone());
                        continue;
                    };
                    site.watching.spawn(watch_relay(id.clone(), output.clone(), news.clone()));
                    StandIn::Modbus { reader, slots: parts.slots, output, kind }
                }
            };
            site.portals.insert(id.clone(), stand_in);
        }
        Ok((site, reported))
    }

    /// The portals simulated.
    pub fn portals(&self) -> impl Iterator<Item = &PortalId> {
        self.portals.keys()
    }

    /// Portals with a device on a line that is not served here.
    #[must_use]
    pub fn absent(&self) -> &[PortalId] {
        &self.absent
    }

    /// Where each Modbus line is to be had, by its bus.
    #[must_use]
    pub fn places(&self) -> &[(String, String)] {
        &self.places
    }

    /// The Modbus lines, to play on.
    #[must_use]
    pub fn lines(&self) -> &Lines {
        &self.lines
    }

    fn at(&self, portal: &str) -> Result<&StandIn, Refused> {
        self.portals.get(portal).ok_or_else(|| {
            let known = listed(self.portals.keys());
            Refused(format!("no portal `{}` is simulated; there are {known}", short(portal)))
        })
    }

    /// Presents a card and reports what came of it, in words. A direction counts at native portals only. Where no slot is named, it
    /// is that where the card lies, or else the first that is empty, or else the first. A native portal receives its decision; for
    /// the others `verdict` is what the gateway reports, or why it reports nothing.
    ///
    /// # Errors
    /// When the card cannot be presented, or nobody answers.
    pub async fn present(
        &self,
        portal: &str,
        uid: &str,
        direction: Option<Direction>,
        slot: Option<u16>,
        verdict: impl Future<Output = Result<Verdict, String>>,
    ) -> Result<String, Refused> {
        match self.at(portal)? {
            StandIn::Native(native) => {
                slot_of(portal, 1, slot, |_| true)?;
                let presentation = Presentation { uid: uid.to_owned(), direction, ..Presentation::default() };
                let decision = native.present_as(presentation).await.map_err(|none| Refused(none.to_string()))?;
                let mut words = vec![if decision.granted { "grant" } else { "deny" }.to_owned(), decision.reason];
                words.extend(decision.hold_ms.map(|ms| format!("for {ms} ms")));
                words.extend(decision.flags);
                Ok(words.join(" "))
            }
            StandIn::Modbus { reader, slots, output, kind } => {
                let card: CardUid = uid.parse().map_err(|why: UidError| Refused(format!("`{uid}`: {why}")))?;
                let lies = |slot| reader.at(slot).card();
                let own = (0..*slots).find(|slot| lies(*slot) == Some(card));
                let slot = slot_of(portal, *slots, slot.or(own), |slot| lies(*slot).is_none())?;
                let reader = reader.at(slot);
                // Before the card changes anything.
                let verdict = verdict.await;
                let began = Instant::now();
                let was_on = output.line.relay(output.unit, output.channel);
                reader.line.present(reader.unit, reader.channel, card);
                let limit = Duration::from_millis(RELAY_WAIT_MS);
                let moved = output.line.wait_relay(output.unit, output.channel, !was_on, limit).await;
                // A card stays in a power box; at a gate or door it is taken away again.
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
                            ": check in `dormgate status` and the gateway's log that it reaches the reader and the relay"
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

    /// Takes the card away, and reports it. Where no slot is named, it is the first with a card.
    ///
    /// # Errors
    /// When there is no such portal or slot.
    pub async fn remove(&self, portal: &str, slot: Option<u16>) -> Result<String, Refused> {
        let removed = "removed".to_owned();
        match self.at(portal)? {
            StandIn::Native(native) => {
                slot_of(portal, 1, slot, |_| true)?;
                native.remove().await;
                Ok(removed)
            }
            StandIn::Modbus { reader, slots, .. } => {
                let slot = slot_of(portal, *slots, slot, |slot| reader.at(*slot).card().is_some())?;
                let reader = reader.at(slot);
                reader.line.remove(reader.unit, reader.channel);
                Ok(in_words(*slots, slot, removed))
            }
        }
    }

    /// Ends it in order: native portals report that they go offline.
    pub async fn stop(mut self) {
        self.watching.abort_all();
        for stand_in in self.portals.into_values() {
            if let StandIn::Native(native) = stand_in {
                native.stop().await;
            }
        }
    }
}

/// The slot that is `named`, or else the first that is `wanted`, or else the first.
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

async fn watch_native(portal: PortalId, mut seen: watch::Receiver<Seen>, news: mpsc::Sender<String>) {
    let mut before = Seen::default();
    while seen.changed().await.is_ok() {
        let now = seen.borrow_and_update().clone();
        for change in changes(&before, &now) {
            if news.send(format!("{portal}: {change}")).await.is_err() {
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
        (before.gateway_online, now.gateway_online, "the gateway is there", "the gateway is gone"),
        // Opened again while open is news too.
        (before.open && before.openings == now.openings, now.open, "open", "closed"),
        (before.relay, now.relay, "power on", "power off"),
        (before.free, now.free, "stays open", "wants cards again"),
    ];
    pairs.into_iter().filter(|(b, n, ..)| b != n).map(|(_, now, yes, no)| if now { yes } else { no }).collect()
}

async fn watch_relay(portal: PortalId, output: Place, news: mpsc::Sender<String>) {
    let mut on = output.line.relay(output.unit, output.channel);
    loop {
        if output.line.wait_relay(output.unit, output.channel, !on, Duration::from_secs(LONG_S)).await {
            on = !on;
            let word = if on { "relay on" } else { "relay off" };
            if news.send(format!("{portal}: {word}")).await.is_err() {
                return;
            }
        }
    }
}
