//! Whole portals on simulated lines, with a fake in place of the gateway: it grants to listed cards and cuts when a card left.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout};

mod adapters;
pub(super) mod cable;
mod dead;
mod latch;
pub(super) mod late;
mod logs;
mod lossy;
mod noise;
mod parts;
mod peers;
mod releases;
mod rtu;
mod unexpected_off;

use super::queue::Priority;
use super::*;
use crate::access::decision::{Decision, Grant, Reason};
use crate::access::event::AlarmKind;
use crate::access::id::CardUid;
use crate::access::input::{Input, PortalReport, Presented};
use crate::profile::{Profile, shipped};
use crate::wire::modbus::Request;
use crate::workbench::modbus::{Fault, Line, Served};

const CARD: &str = "1EA68671";
const LIMIT: Duration = Duration::from_secs(5);

fn uid(text: &str) -> CardUid {
    text.parse().unwrap()
}

fn profile(id: &str) -> Arc<Profile> {
    Arc::new(shipped(id).unwrap())
}

fn part(unit: u8, id: &str, channel: u16) -> Part {
    Part { bus: "riser".into(), unit, profile: profile(id), channel }
}

/// The fake gateway: what it received, and the way to order.
struct FakeGateway {
    received: watch::Receiver<Vec<Input>>,
    orders: Arc<Mutex<HashMap<String, mpsc::Sender<PortalOrder>>>>,
    running: ModbusPortals,
    line: Line,
    served: Option<Served>,
}

impl FakeGateway {
    async fn start(line: Line, portals: Vec<ModbusPortalSpec>, allowed: &[&str]) -> Self {
        let served = line.serve_tcp(0).await.unwrap();
        let spec = BusSpec::new("riser", LineSpec::Tcp(served.address.to_string()), 200);
        let mut fake = Self::on(spec, line, portals, allowed);
        fake.served = Some(served);
        fake
    }

    fn on(spec: BusSpec, line: Line, portals: Vec<ModbusPortalSpec>, allowed: &[&str]) -> Self {
        let (inbox, mut taken) = Inbox::new();
        let kinds: HashMap<String, PortalKind> = portals.iter().map(|p| (p.id.to_string(), p.kind)).collect();
        let observer: Arc<dyn Observer> = Arc::new(());
        let running = start(vec![spec], portals, &inbox, &observer);
        let orders: HashMap<_, _> = running.outlets.iter().map(|(id, to)| (id.to_string(), to.clone())).collect();
        let orders = Arc::new(Mutex::new(orders));
        let allowed: HashSet<CardUid> = allowed.iter().map(|text| uid(text)).collect();
        let (report, received) = watch::channel(Vec::new());
        let to = Arc::clone(&orders);
        tokio::spawn(async move {
            loop {
                let input = tokio::select! {
                    Some(input) = taken.urgent.recv() => input,
                    Some(input) = taken.requests.recv() => input,
                    else => return,
                };
                match &input {
                    Input::Request(request) => {
                        let portal: PortalId = request.portal.parse().unwrap();
                        let decision = match request.presented {
                            Presented::Card(uid) if allowed.contains(&uid) => {
                                let hold = (kinds[&request.portal] != PortalKind::PowerBox).then_some(1000);
                                Decision::Grant(Grant::for_test(portal.clone(), Some(uid), hold))
                            }
                            _ => Decision::Deny(Reason::UnknownCredential.into()),
                        };
                        let order =
                            PortalOrder::Answer { portal: request.portal.clone(), id: None, decision, delay_ms: None };
                        to.lock().unwrap()[&request.portal].try_send(order).unwrap();
                    }
                    Input::Report { portal, report } if report.card_present == Some(false) => {
                        let cut = PortalOrder::Cut { portal: portal.parse().unwrap(), reason: "card_left" };
                        to.lock().unwrap()[portal].try_send(cut).unwrap();
                    }
                    _ => {}
                }
                report.send_modify(|all| all.push(input));
            }
        });
        Self { received, orders, running, line, served: None }
    }

    fn order(&self, portal: &str, order: PortalOrder) {
        self.orders.lock().unwrap()[portal].try_send(order).unwrap();
    }

    fn cut(&self, portal: &str) {
        self.order(portal, PortalOrder::Cut { portal: portal.parse().unwrap(), reason: "replaced" });
    }

    fn energise(&self, portal: &str) {
        let grant = Grant::for_test(portal.parse().unwrap(), None, None);
        self.order(portal, PortalOrder::Energise { grant, announced: false });
    }

    async fn receives(&self, what: impl Fn(&Input) -> bool) {
        let mut received = self.received.clone();
        let found = received.wait_for(|all| all.iter().any(&what));
        let in_time = timeout(LIMIT, found).await.is_ok_and(|r| r.is_ok());
        assert!(in_time, "not received; received was {:#?}", self.received.borrow());
    }

    async fn reports(&self, what: impl Fn(&PortalReport) -> bool) {
        self.receives(|input| matches!(input, Input::Report { report, .. } if what(report))).await;
    }

    fn requests(&self) -> usize {
        self.received.borrow().iter().filter(|input| matches!(input, Input::Request(_))).count()
    }

    /// Every portal is online.
    async fn online(&self) {
        let portals: Vec<String> = self.orders.lock().unwrap().keys().cloned().collect();
        for name in portals {
            self.receives(
                |i| matches!(i, Input::Report { portal, report } if *portal == name && report.online == Some(true)),
            )
            .await;
        }
    }

    async fn relay(&self, unit: u8, channel: u16, on: bool) {
        assert!(self.line.wait_relay(unit, channel, on, LIMIT).await, "relay {unit}/{channel} is not {on}");
    }
}

fn power_box(n: u8) -> ModbusPortalSpec {
    ModbusPortalSpec {
        id: format!("power-{n}").parse().unwrap(),
        kind: PortalKind::PowerBox,
        direction: None,
        slots: 1,
        reader: Some(part(n, "technotrade-vrd-485", 0)),
        output: Some(part(21, "waveshare-relay-8ch", u16::from(n) - 1)),
        meter: None,
        inputs: None,
    }
}

fn door() -> ModbusPortalSpec {
    ModbusPortalSpec {
        id: "door".parse().unwrap(),
        kind: PortalKind::Door,
        direction: None,
        slots: 1,
        reader: Some(part(9, "inveo-rfid-ind-m1", 0)),
        output: Some(part(21, "waveshare-relay-8ch", 7)),
        meter: None,
        inputs: None,
    }
}

fn boxes(n: u8) -> (Line, Vec<ModbusPortalSpec>) {
    let readers = (1..=n).map(|unit| (unit, profile("technotrade-vrd-485")));
    let line = Line::new(readers.chain([(21, profile("waveshare-relay-8ch"))]));
    (line, (1..=n).map(power_box).collect())
}

#[tokio::test]
async fn a_card_in_the_box_switches_on_and_its_leaving_switches_off() {
    let (line, specs) = boxes(1);
    let fake = FakeGateway::start(line, specs, &[CARD]).await;
    fake.online().await;
    fake.line.present(1, 0, uid(CARD));
    fake.relay(21, 0, true).await;
    fake.reports(|r| r.relay == Some(true)).await;
    fake.line.remove(1, 0);
    fake.relay(21, 0, false).await;
    fake.reports(|r| r.relay == Some(false)).await;
    assert_eq!(fake.requests(), 1);
}

#[tokio::test]
async fn a_denied_card_switches_nothing() {
    let (line, specs) = boxes(1);
    let fake = FakeGateway::start(line, specs, &[]).await;
    fake.online().await;
    fake.line.present(1, 0, uid(CARD));
    fake.receives(|input| matches!(input, Input::Request(r) if r.presented == Presented::Card(uid(CARD)))).await;
    assert!(!fake.line.wait_relay(21, 0, true, Duration::from_millis(500)).await);
}

#[tokio::test]
async fn a_cut_waits_for_at_most_the_transaction_under_way_while_eight_units_are_polled() {
    let (line, specs) = boxes(8);
    line.pace(Duration::from_millis(20));
    let fake = FakeGateway::start(line, specs, &[CARD]).await;
    fake.online().await;
    fake.line.present(3, 0, uid(CARD));
    fake.relay(21, 2, true).await;
    fake.reports(|r| r.relay == Some(true)).await;
    let received_before = fake.line.received().len();
    fake.cut("power-3");
    fake.relay(21, 2, false).await;
    fake.reports(|r| r.relay == Some(false)).await;
    let after: Vec<Request> =
        fake.line.received().into_iter().skip(received_before).map(|(_, _, request)| request).collect();
    let cut_at = after.iter().position(|r| *r == Request::WriteCoil { address: 2, value: 0 }).unwrap();
    assert!(cut_at <= 1, "{cut_at} requests went before the cut: {after:?}");
}

#[tokio::test]
async fn a_door_is_released_by_one_pulse_that_the_device_ends() {
    let line = Line::new([(9, profile("inveo-rfid-ind-m1")), (21, profile("waveshare-relay-8ch"))]);
    let fake = FakeGateway::start(line, vec![door()], &["04A1B2C3D4E5F6"]).await;
    fake.online().await;
    fake.line.present(9, 0, uid("04A1B2C3D4E5F6"));
    fake.relay(21, 7, true).await;
    fake.relay(21, 7, false).await;
    let pulses: Vec<_> =
        fake.line.received().into_iter().filter(|(_, unit, request)| *unit == 21 && request.is_write()).collect();
    assert_eq!(pulses.len(), 1, "{pulses:?}");
    assert_eq!(pulses[0].2, Request::WriteCoil { address: 0x0207, value: 10 });
    // The latch was released, so the same card opens again.
    fake.line.present(9, 0, uid("04A1B2C3D4E5F6"));
    fake.relay(21, 7, true).await;
    assert_eq!(fake.requests(), 2);
}

#[tokio::test]
async fn a_card_that_was_there_before_the_gateway_came_is_reported_and_opens_nothing() {
    let (line, specs) = boxes(1);
    line.present(1, 0, uid(CARD));
    let fake = FakeGateway::start(line, specs, &[CARD]).await;
    fake.reports(|r| r.card_present == Some(true) && r.uid == Some(Presented::Card(uid(CARD)))).await;
    assert_eq!(fake.requests(), 0);
    assert!(!fake.line.relay(21, 0));
}

#[tokio::test]
async fn a_relay_that_does_not_go_off_is_an_alarm_and_is_tried_until_it_does() {
    let (line, specs) = boxes(1);
    let fake = FakeGateway::start(line, specs, &[CARD]).await;
    fake.online().await;
    fake.energise("power-1");
    fake.relay(21, 0, true).await;
    fake.line.fault(21, Fault::StuckRelay);
    fake.cut("power-1");
    fake.receives(|i| matches!(i, Input::Alarm { kind: AlarmKind::UnconfirmedRevocation, portal: Some(p), .. } if p.as_str() == "power-1"))
        .await;
    assert!(fake.line.relay(21, 0));
    fake.line.fault(21, Fault::None);
    fake.relay(21, 0, false).await;
    fake.reports(|r| r.relay == Some(false)).await;
}

#[tokio::test]
async fn a_relay_switched_on_by_hand_after_a_cut_is_switched_off_again() {
    let (line, specs) = boxes(1);
    let fake = FakeGateway::start(line, specs, &[CARD]).await;
    fake.online().await;
    fake.cut("power-1");
    fake.reports(|r| r.relay == Some(false)).await;
    fake.line.force(21, 0, true);
    fake.relay(21, 0, false).await;
}

#[tokio::test]
async fn a_grant_for_a_silent_relay_is_dropped_and_never_carried_out_late() {
    let (line, specs) = boxes(1);
    let fake = FakeGateway::start(line, specs, &[CARD]).await;
    fake.online().await;
    fake.line.fault(21, Fault::Silent);
    fake.reports(|r| r.online == Some(false) && r.cause.is_some()).await;
    fake.line.present(1, 0, uid(CARD));
    fake.receives(|i| matches!(i, Input::Alarm { kind: AlarmKind::PortalOffline, .. })).await;
    fake.line.fault(21, Fault::None);
    let mut received = fake.received.clone();
    let back = |all: &Vec<Input>| {
        let online =
            all.iter().filter(|i| matches!(i, Input::Report { report, .. } if report.online == Some(true))).count();
        online == 2
    };
    assert!(timeout(LIMIT, received.wait_for(back)).await.is_ok());
    assert!(!fake.line.wait_relay(21, 0, true, Duration::from_millis(500)).await);
}

#[tokio::test]
async fn a_line_that_falls_and_comes_back_switches_nothing_on() {
    let (line, specs) = boxes(1);
    let mut fake = FakeGateway::start(line, specs, &[CARD]).await;
    fake.online().await;
    fake.line.present(1, 0, uid(CARD));
    fake.relay(21, 0, true).await;
    let port = fake.served.take().unwrap().address.port();
    fake.reports(|r| r.online == Some(false)).await;
    fake.line.reset(21);
    let writes = |line: &Line| line.received().iter().filter(|(_, _, r)| r.is_write()).count();
    let before = writes(&fake.line);
    fake.served = Some(loop {
        if let Ok(served) = fake.line.serve_tcp(port).await {
            break served;
        }
        tokio::task::yield_now().await;
    });
    fake.reports(|r| r.online == Some(true) && r.cause.is_none()).await;
    fake.reports(|r| r.relay == Some(false)).await;
    assert!(!fake.line.relay(21, 0));
    assert_eq!(writes(&fake.line), before);
}

/// Runs the same for every fault, all at the same time.
async fn for_each_fault<R: Future<Output = ()> + Send + 'static>(faults: &[Fault], run: impl Fn(Fault) -> R) {
    let runs: Vec<_> = faults.iter().map(|fault| tokio::spawn(run(*fault))).collect();
    for run in runs {
        run.await.unwrap();
    }
}

/// Unit 1 answers wrongly and its portal goes offline; unit 2 works.
async fn the_neighbour_works(fake: FakeGateway, fault: Fault) {
    let of = |i: &Input, name: &str, online| matches!(i, Input::Report { portal, report } if portal == name && report.online == Some(online));
    fake.receives(|i| of(i, "power-1", false)).await;
    fake.receives(|i| of(i, "power-2", true)).await;
    assert_eq!(fake.requests(), 0, "{fault:?}");
    fake.line.present(2, 0, uid(CARD));
    fake.relay(21, 1, true).await;
}

#[tokio::test]
async fn answers_that_do_not_fit_are_never_trusted() {
    let faults = [Fault::WrongUnit, Fault::Garbage, Fault::HalfFrame, Fault::Disconnects, Fault::Short, Fault::Silent];
    for_each_fault(&faults, |fault| async move {
        let (line, specs) = boxes(2);
        line.fault(1, fault);
        line.present(1, 0, uid(CARD));
        the_neighbour_works(FakeGateway::start(line, specs, &[CARD]).await, fault).await;
    })
    .await;
}

#[tokio::test]
async fn a_late_answer_never_answers_the_next_request() {
    let (line, specs) = boxes(2);
    line.present(1, 0, uid(CARD));
    line.fault(1, Fault::Slow(Duration::from_millis(250)));
    let fake = FakeGateway::start(line, specs, &[CARD]).await;
    fake.reports(|r| r.online == Some(false)).await;
    // Unit 2 was asked between the late answers of unit 1 and never took one for its own.
    fake.receives(
        |i| matches!(i, Input::Report { portal, report } if portal == "power-2" && report.card_present == Some(false)),
    )
    .await;
    let wrong = |i: &Input| matches!(i, Input::Report { portal, report } if portal == "power-2" && report.card_present == Some(true));
    assert!(!fake.received.borrow().iter().any(wrong));
}

#[tokio::test]
async fn a_pulse_that_the_gateway_times_is_ended_when_the_gateway_stops() {
    let line = Line::new([(9, profile("inveo-rfid-ind-m1"))]);
    let spec = ModbusPortalSpec { output: Some(part(9, "inveo-rfid-ind-m1", 0)), ..door() };
    let fake = FakeGateway::start(line, vec![spec], &[CARD]).await;
    fake.online().await;
    fake.line.present(9, 0, uid(CARD));
    fake.relay(9, 0, true).await;
    let FakeGateway { running, line, orders, .. } = fake;
    drop(orders);
    let begun = Instant::now();
    running.stop().await;
    assert!(begun.elapsed() < Duration::from_millis(900), "it waited for the pulse");
    assert!(!line.relay(9, 0));
}
