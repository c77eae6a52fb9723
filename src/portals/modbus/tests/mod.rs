//! The test kit of this adapter: portals on simulated lines in memory, and a gateway in memory that records what it receives and
//! sends the orders of a test. Time is paused: a test waits for what happens, never for a clock.

use std::collections::{BTreeMap, HashMap};
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

mod adapters;
mod boxes;
pub(super) mod cable;
mod dead;
mod doors;
mod figures;
mod loaded;
pub(in crate::portals) mod logs;
mod noise;
mod peers;
mod real_lines;
mod releases;

use super::bus::{Bus, BusError};
use super::queue::Priority;
use super::{Observer, bus};
use crate::access::decision::{Decision, Grant, Reason};
use crate::access::event::AlarmKind;
use crate::access::id::{CardUid, PortalId};
use crate::access::input::{self, Input, PortalReport, Presented};
use crate::access::portal::PortalKind;
use crate::config::{BusConfig, BusLine, ModbusPart, Part, Parts, PortalConfig, PortalDevice};
use crate::gateway::ports::{Inbox, InboxReceiver, PortalOrder};
use crate::portals::parts::{PartPortals, start};
use crate::profile::{Profile, read, shipped};
use crate::wire::modbus::{Reply, Request, Space};
use crate::workbench::modbus::{Fault, Line};
use cable::Cable;

pub(super) const CARD: &str = "1EA68671";
pub(super) const OTHER: &str = "04A1B2C3D4E5F6";
/// Longest wait for anything. On real lines it is real time on a busy machine.
pub(super) const LIMIT: Duration = Duration::from_secs(60);

const READER: &str = "technotrade-vrd-485";
const RELAYS: &str = "waveshare-relay-8ch";
/// A reader and a relay in one.
const WHOLE: &str = "inveo-rfid-ind-m1";

pub(super) fn uid(text: &str) -> CardUid {
    text.parse().unwrap()
}

pub(super) fn shown(text: &str) -> Presented {
    Presented::Card(uid(text))
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// What every profile of these tests begins with.
const HEAD: &str = r#"
schema = 1
id = "test"
source = "a test"
[link]
address_base = 0
byte_order = "big"
word_order = "big"
reply_ms = 60
[output]
state = "relay"
on = { space = "coil", address = 0 }
off = { space = "coil", address = 0, value = 0 }
pulse = { by = "gateway" }
"#;

/// A box with a meter and a reader for each of two slots, each read by a request of its own: alike but for their addresses.
const TWO_SLOTS: &str = r#"
[points]
left = { space = "input", address = 0, type = "bytes", registers = 2 }
right = { space = "input", address = 100, type = "bytes", registers = 2 }
relay = { space = "coil", address = 0, type = "bool" }
power = { space = "input", address = 8, type = "u16", unit = "W" }
[[poll]]
name = "left"
every_ms = 50
points = ["left"]
[[poll]]
name = "right"
every_ms = 70
points = ["right"]
[[poll]]
name = "status"
every_ms = 50
points = ["relay", "power"]
[[reader]]
id = "left"
trigger = { level = "uid" }
uid = { point = "left", length = 4, order = "msb_first" }
gone_ms = 100
[[reader]]
id = "right"
trigger = { level = "uid" }
uid = { point = "right", length = 4, order = "msb_first" }
gone_ms = 100
[meter]
power = "power"
"#;

/// A box whose reader latches a card and sets its latch again while the card lies there.
const LATCH_BOX: &str = r#"
[points]
flag = { space = "holding", address = 0, type = "u16" }
uid = { space = "holding", address = 1, type = "bytes", registers = 2 }
relay = { space = "coil", address = 0, type = "bool" }
[[poll]]
name = "card"
every_ms = 50
atomic = true
points = ["flag", "uid"]
[[poll]]
name = "status"
every_ms = 50
points = ["relay"]
[[reader]]
trigger = { latch = "flag", release = { space = "holding", address = 0, value = 0 }, repeats_ms = 300 }
uid = { point = "uid", length = 4, order = "msb_first" }
gone_ms = 100
"#;

/// A profile of these tests, or one that is shipped.
fn profile(id: &str) -> Arc<Profile> {
    let own = |text: &str| read(&format!("{HEAD}{text}")).unwrap();
    Arc::new(match id {
        "two-slots" => own(TWO_SLOTS),
        "latch-box" => own(LATCH_BOX),
        "digits-reader" => read(include_str!("../../../../tests/profiles/digits-reader.toml")).unwrap(),
        "wiegand-converter" => read(include_str!("../../../../tests/profiles/wiegand-converter.toml")).unwrap(),
        _ => shipped(id).unwrap(),
    })
}

fn part(unit: u8, id: &str, channel: u16) -> Part {
    Part::Modbus(ModbusPart { bus: "riser".into(), unit, profile: profile(id), channel })
}

fn portal(id: &str, kind: PortalKind, reader: Part, output: Part) -> PortalConfig {
    let parts = Parts { reader, slots: 1, output, meter: None, inputs: None };
    PortalConfig::for_test(id, kind, PortalDevice::Parts(parts))
}

fn parts(portal: &PortalConfig) -> &Parts {
    portal.device.parts().unwrap()
}

/// The same portal with other parts.
fn with(mut portal: PortalConfig, change: impl FnOnce(&mut Parts)) -> PortalConfig {
    let PortalDevice::Parts(parts) = &mut portal.device else { panic!("{} has no parts", portal.portal.id) };
    change(parts);
    portal
}

/// A portal whose reader and output are channel `channel` of unit 5.
fn whole(kind: PortalKind, id: &str, channel: u16) -> PortalConfig {
    portal("portal", kind, part(5, id, channel), part(5, id, channel))
}

/// `power-N`: its reader is unit N, its relay channel N - 1 of unit 21.
fn power_box(n: u8) -> PortalConfig {
    let output = part(21, RELAYS, u16::from(n) - 1);
    portal(&format!("power-{n}"), PortalKind::PowerBox, part(n, READER, 0), output)
}

fn boxes(n: u8) -> Vec<PortalConfig> {
    (1..=n).map(power_box).collect()
}

/// `door`: its reader is unit 9, its lock channel 7 of unit 21.
fn door() -> PortalConfig {
    portal("door", PortalKind::Door, part(9, WHOLE, 0), part(21, RELAYS, 7))
}

/// The devices of these portals.
fn devices(specs: &[PortalConfig]) -> Line {
    let parts = specs.iter().flat_map(|portal| parts(portal).all());
    let on_lines = parts.filter_map(Part::modbus);
    Line::new(on_lines.map(|p| (p.unit, Arc::clone(&p.profile))).collect::<BTreeMap<_, _>>())
}

fn bus_at(line: BusLine) -> BusConfig {
    BusConfig { id: "riser".into(), line, timeout_ms: 200, echo: None, any_transaction: false, devices_dir: None }
}

fn bus_on(cable: &Cable) -> BusConfig {
    bus_at(cable.line())
}

/// In place of the gateway: what it received, and where to send orders.
pub(super) struct Gateway {
    received: watch::Receiver<Vec<Input>>,
    orders: HashMap<String, mpsc::Sender<PortalOrder>>,
    task: JoinHandle<()>,
}

impl Gateway {
    /// Sends the order that `answers` gives to an input, if any, and records the input.
    pub(super) fn run(
        mut taken: InboxReceiver,
        outlets: &[(PortalId, mpsc::Sender<PortalOrder>)],
        mut answers: impl FnMut(&Input) -> Option<PortalOrder> + Send + 'static,
    ) -> Self {
        let orders: HashMap<_, _> = outlets.iter().map(|(id, to)| (id.to_string(), to.clone())).collect();
        let to = orders.clone();
        let (report, received) = watch::channel(Vec::new());
        let task = tokio::spawn(async move {
            loop {
                let input = tokio::select! {
                    Some(input) = taken.urgent.recv() => input,
                    Some((input, _)) = taken.requests.recv() => input,
                    else => return,
                };
                if let (Input::Request(input::Request { portal, .. }) | Input::Report { portal, .. }, Some(order)) =
                    (&input, answers(&input))
                {
                    to[portal].try_send(order).unwrap();
                }
                logs::shows_in_chinese(&input);
                report.send_modify(|all| all.push(input));
            }
        });
        Self { received, orders, task }
    }

    pub(super) fn order(&self, portal: &str, order: PortalOrder) {
        self.orders[portal].try_send(order).unwrap();
    }

    pub(super) fn cut(&self, portal: &str) {
        self.order(portal, PortalOrder::Cut { portal: portal.parse().unwrap(), reason: "replaced" });
    }

    fn energise(&self, portal: &str) {
        let grant = Grant::for_test(portal.parse().unwrap(), None, None);
        self.order(portal, PortalOrder::Energise { grant, announced: false });
    }

    fn release(&self, portal: &str, hold_ms: u32) {
        let grant = Grant::for_test(portal.parse().unwrap(), None, Some(hold_ms));
        self.order(portal, PortalOrder::Release { grant });
    }

    /// Waits until this has been received `times` times, from the start on.
    pub(super) async fn receives(&self, times: usize, what: impl Fn(&Input) -> bool) {
        let mut received = self.received.clone();
        let enough = received.wait_for(|all| all.iter().filter(|input| what(input)).count() >= times);
        let in_time = timeout(LIMIT, enough).await.is_ok_and(|r| r.is_ok());
        assert!(in_time, "not received {times} times; received was {:#?}", self.received.borrow());
    }

    pub(super) async fn reports(&self, what: impl Fn(&PortalReport) -> bool) {
        self.receives(1, report(what)).await;
    }

    /// What `what` finds in the first input that has it.
    pub(super) fn find<T>(&self, what: impl Fn(&Input) -> Option<T>) -> Option<T> {
        self.received.borrow().iter().find_map(what)
    }

    pub(super) fn count(&self, what: impl Fn(&Input) -> bool) -> usize {
        self.received.borrow().iter().filter(|input| what(input)).count()
    }

    pub(super) fn requests(&self) -> usize {
        self.count(|input| matches!(input, Input::Request(_)))
    }
}

fn report(what: impl Fn(&PortalReport) -> bool) -> impl Fn(&Input) -> bool {
    move |input| matches!(input, Input::Report { report, .. } if what(report))
}

fn report_of(portal: &str, what: impl Fn(&PortalReport) -> bool) -> impl Fn(&Input) -> bool {
    move |input| matches!(input, Input::Report { portal: of, report } if of == portal && what(report))
}

fn request_of(card: &str) -> impl Fn(&Input) -> bool {
    let card = shown(card);
    move |input| matches!(input, Input::Request(request) if request.presented == card)
}

/// An alarm of this kind whose detail has `why` in it.
fn alarm(kind: AlarmKind, why: &str) -> impl Fn(&Input) -> bool {
    move |input| matches!(input, Input::Alarm { kind: of, detail, .. } if *of == kind && detail.contains(why))
}

/// A release that failed, and why.
fn failed(why: &str) -> impl Fn(&Input) -> bool {
    move |input| matches!(input, Input::Released { failed: Some(cause), .. } if cause.contains(why))
}

/// Grants to these cards, and cuts when a card has left. `hold_ms` is that of the portal; boxes have none.
pub(super) fn grants(
    allowed: &[&str],
    hold_ms: impl Fn(&str) -> Option<u32> + Send + 'static,
) -> impl FnMut(&Input) -> Option<PortalOrder> + Send + 'static {
    let allowed: Vec<_> = allowed.iter().map(|text| uid(text)).collect();
    move |input| match input {
        Input::Request(request) => {
            let (portal, id) = (request.portal.clone(), request.id.clone());
            let decision = match request.presented {
                Presented::Card(uid) if !request.stale && allowed.contains(&uid) => {
                    Decision::Grant(Grant::for_test(portal.parse().unwrap(), Some(uid), hold_ms(&portal)))
                }
                _ => Decision::Deny(Reason::UnknownCredential.into()),
            };
            Some(PortalOrder::Answer { portal, id, decision, delay_ms: None })
        }
        Input::Report { portal, report } if report.card_present == Some(false) => {
            Some(PortalOrder::Cut { portal: portal.parse().unwrap(), reason: "card_left" })
        }
        _ => None,
    }
}

/// Portals on one line, and the gateway they report to.
struct Rig {
    gateway: Gateway,
    running: PartPortals,
    line: Line,
}

impl Deref for Rig {
    type Target = Gateway;

    fn deref(&self) -> &Gateway {
        &self.gateway
    }
}

impl Rig {
    /// On a line over TCP in memory. Every portal is online.
    async fn new(specs: Vec<PortalConfig>, allowed: &[&str]) -> Self {
        let line = devices(&specs);
        let rig = Self::on(&line, None, specs, allowed);
        rig.online().await;
        rig
    }

    /// On a line in memory: serial at `baud`, or over TCP.
    fn on(line: &Line, baud: Option<u32>, specs: Vec<PortalConfig>, allowed: &[&str]) -> Self {
        Self::at(bus_on(&Cable::new(line, baud)), line, specs, allowed)
    }

    fn at(bus: BusConfig, line: &Line, specs: Vec<PortalConfig>, allowed: &[&str]) -> Self {
        let kinds: HashMap<_, _> = specs.iter().map(|spec| (spec.portal.id.to_string(), spec.portal.kind)).collect();
        let hold_ms = move |portal: &str| (kinds[portal] != PortalKind::PowerBox).then_some(1000);
        Self::with(bus, line, specs, (), grants(allowed, hold_ms))
    }

    #[expect(clippy::needless_pass_by_value, reason = "a test gives away what only the rig uses")]
    fn with(
        bus: BusConfig,
        line: &Line,
        specs: Vec<PortalConfig>,
        observer: impl Observer + 'static,
        answers: impl FnMut(&Input) -> Option<PortalOrder> + Send + 'static,
    ) -> Self {
        logs::install();
        let (inbox, taken) = Inbox::new();
        let observer: Arc<dyn Observer> = Arc::new(observer);
        let running = start(&[bus], &specs, None, &inbox, &observer).unwrap();
        Self { gateway: Gateway::run(taken, &running.outlets, answers), running, line: line.clone() }
    }

    async fn online(&self) {
        for portal in self.orders.keys() {
            self.receives(1, report_of(portal, |r| r.online == Some(true))).await;
        }
    }

    async fn relay(&self, unit: u8, channel: u16, on: bool) {
        assert!(self.line.wait_relay(unit, channel, on, LIMIT).await, "relay {unit}/{channel} is not {on}");
    }

    /// The relay stays so for a long time.
    async fn relay_stays(&self, unit: u8, channel: u16, on: bool) {
        assert!(!self.line.wait_relay(unit, channel, !on, ms(10_000)).await, "relay {unit}/{channel} became {}", !on);
    }

    /// When such a request came to a device.
    fn received(&self, request: &Request) -> Vec<Instant> {
        self.line.received().into_iter().filter(|(_, _, r)| r == request).map(|(at, ..)| at).collect()
    }

    /// What was written to devices, but for the first `skip` requests.
    fn writes(&self, skip: usize) -> Vec<Request> {
        self.line.received().into_iter().skip(skip).map(|(_, _, r)| r).filter(Request::is_write).collect()
    }
}

fn coil(address: u16, on: bool) -> Request {
    Request::WriteCoil { address, value: if on { 0xFF00 } else { 0 } }
}

/// A line without portals: relay boards that are asked one request after another.
struct Board {
    line: Line,
    cable: Cable,
    bus: Bus,
}

impl Board {
    const READ: Request = Request::Read { space: Space::Coil, address: 5, count: 1 };

    /// Units 1 to `units`, at `baud` or over TCP.
    fn new(units: u8, baud: Option<u32>, change: impl FnOnce(&mut BusConfig)) -> Self {
        logs::install();
        let line = Line::new((1..=units).map(|unit| (unit, profile(RELAYS))));
        let cable = Cable::new(&line, baud);
        let mut spec = bus_on(&cable);
        change(&mut spec);
        let units = (1..=units).map(|unit| (unit, Duration::ZERO)).collect();
        let (bus, task) = bus::open(spec, &units, Arc::new(()));
        tokio::spawn(task);
        Self { line, cable, bus }
    }

    async fn read(&self, unit: u8) -> Result<Reply, BusError> {
        self.bus.call(unit, Self::READ, Priority::Card, None).await.map(|answer| answer.reply)
    }

    /// Switches the first relay of unit 1 within a second.
    async fn switch(&self, on: bool) -> Result<Reply, BusError> {
        self.switch_of(1, on).await
    }

    /// Switches the first relay of `unit` within a second.
    async fn switch_of(&self, unit: u8, on: bool) -> Result<Reply, BusError> {
        let deadline = Instant::now() + ms(1000);
        self.bus.call(unit, coil(0, on), Priority::Release, Some(deadline)).await.map(|answer| answer.reply)
    }
}
