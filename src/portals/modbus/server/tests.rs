//! What controllers ask of a server and get: an independent client (`tokio-modbus`) over TCP and on a serial line, and the sessions
//! behind it with paused time.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::AsyncReadExt;
use tokio::time::timeout;
use tokio_modbus::client::{Context, Reader, Writer, rtu, tcp};
use tokio_modbus::prelude::SlaveContext;
use tokio_modbus::{ExceptionCode, Slave};

use super::*;
use crate::access::decision::{Decision, Grant, Reason};
use crate::access::input::Input;
use crate::access::portal::{Direction, PortalKind, Posture};
use crate::portals::modbus::server::session::REPEAT_MS;
use crate::portals::modbus::tests::{CARD, Gateway, LIMIT, OTHER, grants, uid};
use crate::wire::modbus::{Reply, Request, Space};
use crate::wire::registers::encode_request;

const GATE: u8 = 1;
const DOOR: u8 = 13;
const POWER: u8 = 14;
const LOCALHOST: &str = "127.0.0.0/8";

fn portals() -> [PortalConfig; 3] {
    let portals =
        [("gate", PortalKind::Gate, GATE), ("door", PortalKind::Door, DOOR), ("power", PortalKind::PowerBox, POWER)];
    portals.map(|(id, kind, unit)| PortalConfig::for_test(id, kind, PortalDevice::ModbusServer { unit }))
}

/// A gateway that grants to one card, for 300 ms.
fn answers() -> impl FnMut(&Input) -> Option<PortalOrder> + Send + 'static {
    grants(&[CARD], |portal| (portal != "power").then_some(300))
}

async fn server(allow: &str, serial: Option<SerialConfig>) -> (ModbusServer, Gateway) {
    let (inbox, taken) = Inbox::new();
    let tcp = Some("127.0.0.1:0".parse().unwrap());
    let spec = ModbusServerConfig { tcp, serial, allow: vec![allow.parse().unwrap()] };
    let server = serve(spec, &portals(), &inbox).await.unwrap();
    let gateway = Gateway::run(taken, &server.outlets, answers());
    (server, gateway)
}

/// The words of one request.
fn ask(counter: u16, card: &str, direction: Option<Direction>) -> [u16; 8] {
    encode_request(counter, uid(card), direction)
}

/// Asks until the input registers from `at` are `wanted`.
async fn becomes(controller: &mut Context, at: u16, wanted: &[u16]) {
    let count = u16::try_from(wanted.len()).unwrap();
    let asking = async { while controller.read_input_registers(at, count).await.unwrap().unwrap() != wanted {} };
    assert!(timeout(LIMIT, asking).await.is_ok(), "input {at} never became {wanted:?}");
}

/// The same over TCP and on a serial line: what is written and read, and what each is answered.
async fn a_controller(mut controller: Context, gateway: &Gateway) {
    let denied = [8, 2, 23, 0, 0];
    for (words, answer) in [(ask(7, CARD, None), [7, 1, 1, 3, 1]), (ask(8, OTHER, None), denied)] {
        controller.write_multiple_registers(0, &words).await.unwrap().unwrap();
        assert_eq!(controller.read_input_registers(0, 5).await.unwrap().unwrap(), answer);
        // The release ends, the answer stays.
        becomes(&mut controller, 4, &[0]).await;
    }
    // Function 23 asks and reads at once; repeated because its reply was lost, it is the same request.
    controller.set_slave(Slave(GATE));
    for _ in 0..2 {
        let words = ask(3, CARD, Some(Direction::In));
        let answer = controller.read_write_multiple_registers(16, 4, 0, &words).await.unwrap().unwrap();
        assert_eq!(answer, [3, 1, 1, 3]);
    }
    assert_eq!(gateway.requests(), 4, "a grant is judged again before it is repeated");
    gateway.reports(|r| r.online == Some(true)).await;
    let mut bad = ask(1, CARD, None);
    bad[1] = 5;
    let address = ExceptionCode::IllegalDataAddress;
    assert_eq!(controller.read_input_registers(7, 1).await.unwrap(), Err(address));
    assert_eq!(controller.read_holding_registers(0, 8).await.unwrap(), Err(address));
    assert_eq!(controller.write_single_register(0, 1).await.unwrap(), Err(address));
    assert_eq!(controller.write_multiple_registers(0, &bad).await.unwrap(), Err(ExceptionCode::IllegalDataValue));
    assert_eq!(controller.read_coils(0, 1).await.unwrap(), Err(ExceptionCode::IllegalFunction));
    assert_eq!(gateway.requests(), 4);
    controller.set_slave(Slave(POWER));
    assert_eq!(controller.read_input_registers(0, 2).await.unwrap().unwrap(), [0, 0]);
}

#[tokio::test]
async fn a_controller_over_tcp_is_answered_what_was_decided_or_an_exception() {
    let (server, gateway) = server(LOCALHOST, None).await;
    let connect = |unit| tcp::connect_slave(server.address.unwrap(), Slave(unit));
    a_controller(connect(DOOR).await.unwrap(), &gateway).await;
    let unknown = connect(99).await.unwrap().read_input_registers(0, 1).await.unwrap();
    assert_eq!(unknown, Err(ExceptionCode::GatewayTargetDevice));
}

#[tokio::test]
async fn a_controller_on_a_serial_line_is_answered_what_was_decided_or_an_exception() {
    let (far, near) = tokio_serial::SerialStream::pair().unwrap();
    let port = tokio_serial::SerialPort::name(&near).unwrap();
    let _near = std::fs::File::open(&port).unwrap();
    drop(near);
    let serial = SerialConfig { port, baud: 19200, parity: crate::config::Parity::None, stop_bits: 1 };
    let (_server, gateway) = server(LOCALHOST, Some(serial)).await;
    a_controller(rtu::attach_slave(far, Slave(DOOR)), &gateway).await;
}

#[tokio::test]
async fn a_peer_that_is_not_allowed_and_the_connection_above_the_limit_are_closed_at_once() {
    async fn is_closed(server: &ModbusServer) -> bool {
        let mut stream = TcpStream::connect(server.address.unwrap()).await.unwrap();
        matches!(timeout(LIMIT, stream.read(&mut [0; 1])).await.unwrap(), Ok(0) | Err(_))
    }
    assert!(is_closed(&server("192.0.2.0/24", None).await.0).await);
    assert!(allowed(&[LOCALHOST.parse().unwrap()], "::ffff:127.0.0.1".parse().unwrap()));
    assert!(!allowed(&[], "127.0.0.1".parse().unwrap()));

    let (server, _gateway) = server(LOCALHOST, None).await;
    let mut held = Vec::new();
    for _ in 0..CONNECTIONS_MAX {
        let mut controller = tcp::connect_slave(server.address.unwrap(), Slave(DOOR)).await.unwrap();
        controller.read_input_registers(0, 1).await.unwrap().unwrap();
        held.push(controller);
    }
    assert!(is_closed(&server).await);
    held[0].read_input_registers(0, 1).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_reload_admits_a_controller_and_closes_the_connection_of_one_that_may_not_any_more() {
    let (server, _gateway) = server("192.0.2.0/24", None).await;
    server.allow.send_replace(vec![LOCALHOST.parse().unwrap(), "192.0.2.0/24".parse().unwrap()]);
    let mut controller = tcp::connect_slave(server.address.unwrap(), Slave(DOOR)).await.unwrap();
    controller.read_input_registers(0, 1).await.unwrap().unwrap();
    server.allow.send_replace(vec![LOCALHOST.parse().unwrap()]);
    controller.read_input_registers(0, 1).await.unwrap().unwrap();
    server.allow.send_replace(vec!["192.0.2.0/24".parse().unwrap()]);
    let closed = async { while controller.read_input_registers(0, 1).await.is_ok() {} };
    assert!(timeout(LIMIT, closed).await.is_ok(), "its connection is closed");
}

async fn read(session: &PortalSession) -> [u16; 6] {
    let read = Request::Read { space: Space::Input, address: 0, count: 6 };
    let Reply::Words(words) = session.serve(&read).await.unwrap() else { panic!("no registers") };
    words.try_into().unwrap()
}

/// One portal without a line: requests go to its session.
struct Asked {
    session: Arc<PortalSession>,
    gateway: Gateway,
}

impl Asked {
    fn new(unit: u8, answers: impl FnMut(&Input) -> Option<PortalOrder> + Send + 'static) -> Self {
        let (inbox, taken) = Inbox::new();
        let device = PortalDevice::ModbusServer { unit };
        let portal = portals().into_iter().find(|portal| portal.device == device).unwrap().portal;
        let session = Arc::new(PortalSession::new(portal.id.clone(), portal.kind, unit, inbox));
        let (orders, mut ordered) = mpsc::channel(PORTAL_ORDERS_MAX);
        let to = Arc::clone(&session);
        tokio::spawn(async move {
            while let Some(order) = ordered.recv().await {
                to.execute(order);
            }
        });
        Self { session, gateway: Gateway::run(taken, &[(portal.id, orders)], answers) }
    }

    async fn asks(&self, words: [u16; 8]) {
        self.session.serve(&Request::WriteRegisters { address: 0, values: words.to_vec() }).await.unwrap();
    }

    /// Counter, decision, reason, hold, output and posture.
    async fn reads(&self) -> [u16; 6] {
        read(&self.session).await
    }
}

#[tokio::test(start_paused = true)]
async fn the_desired_output_of_a_power_box_is_on_until_it_is_cut_and_that_of_a_door_until_its_release_ends() {
    let power = Asked::new(POWER, answers());
    power.asks(ask(1, CARD, None)).await;
    sleep(LIMIT).await;
    assert_eq!(power.reads().await[3..5], [0, 1]);
    power.session.serve(&Request::WriteRegister { address: 8, value: 0 }).await.unwrap();
    power.gateway.reports(|r| r.card_present == Some(false)).await;
    sleep(Duration::from_millis(1)).await;
    assert_eq!(power.reads().await[4], 0);

    let door = Asked::new(DOOR, answers());
    door.asks(ask(1, CARD, None)).await;
    for (after_ms, output) in [(0, 1), (299, 1), (1, 0)] {
        sleep(Duration::from_millis(after_ms)).await;
        assert_eq!(door.reads().await[4], output, "{after_ms} ms later");
    }
    door.session.execute(PortalOrder::Mode { portal: "door".parse().unwrap(), posture: Posture::Fire });
    assert_eq!(door.reads().await[4..], [1, 4]);
}

#[tokio::test(start_paused = true)]
async fn a_controller_that_writes_its_last_request_for_ever_opens_once_and_switches_an_empty_box_on_never() {
    let (power, door) = (Asked::new(POWER, answers()), Asked::new(DOOR, answers()));
    let scan = async |card: u16| {
        let block = [&ask(5, CARD, None)[..], &[card]].concat();
        for asked in [&power, &door] {
            asked.session.serve(&Request::WriteRegisters { address: 0, values: block.clone() }).await.unwrap();
        }
        sleep(Duration::from_millis(500)).await;
    };
    for _ in 0..20 {
        scan(1).await;
    }
    // That of the door was judged again while it was read, every half second for three.
    assert_eq!((power.gateway.requests(), door.gateway.requests()), (1, 6));
    // The grant of the box lasts, that of the door is over.
    assert_eq!((power.reads().await, door.reads().await), ([5, 1, 1, 0, 1, 0], [5, 0, 0, 0, 0, 0]));
    for _ in 0..20 {
        scan(0).await;
    }
    let cut = PortalOrder::Cut { portal: "power".parse().unwrap(), reason: "card_left" };
    power.session.execute(cut);
    for _ in 0..20 {
        scan(0).await;
    }
    assert_eq!((power.gateway.requests(), door.gateway.requests()), (1, 6));
    assert_eq!(power.reads().await, [5, 0, 0, 0, 0, 0], "no grant is left to be read");
    power.asks(ask(6, CARD, None)).await;
    assert_eq!(power.reads().await[..2], [6, 1], "the next card is");
}

#[tokio::test(start_paused = true)]
async fn a_controller_reads_the_posture_of_its_box_and_what_the_box_was_on_by_before_a_restart() {
    let power = Asked::new(POWER, answers());
    let portal = || "power".parse().unwrap();
    let inform = |posture, on| PortalOrder::Inform { portal: portal(), posture, on };
    power.session.execute(inform(Posture::Secure, Some(Grant::for_test(portal(), Some(uid(CARD)), None))));
    assert_eq!(power.reads().await[4..], [1, 0]);
    power.session.execute(inform(Posture::OutOfService, None));
    assert_eq!(power.reads().await[4..], [1, 3], "what is wanted is changed by a cut");
    power.session.execute(PortalOrder::Cut { portal: portal(), reason: "out_of_service" });
    assert_eq!(power.reads().await[4..], [0, 3]);
}

#[tokio::test(start_paused = true)]
async fn a_silent_controller_is_offline_and_so_is_its_output_until_it_asks_again() {
    let door = Asked::new(DOOR, answers());
    door.reads().await;
    door.gateway.reports(|r| (r.online, r.output_online) == (Some(true), Some(true))).await;
    sleep(Duration::from_millis(CONTROLLER_SILENT_MS)).await;
    door.session.watch();
    sleep(Duration::from_millis(1)).await;
    door.session.watch();
    door.gateway.reports(|r| (r.online, r.output_online) == (Some(false), Some(false))).await;
    door.reads().await;
    let back = |input: &Input| matches!(input, Input::Report { report, .. } if report.output_online == Some(true));
    door.gateway.receives(2, back).await;
}

#[tokio::test(start_paused = true)]
async fn without_a_decision_in_time_it_is_a_denial_and_a_late_grant_opens_nothing() {
    let door = Asked::new(DOOR, |_| None);
    door.asks(ask(9, CARD, None)).await;
    let denied = [9, 2, 39, 0, 0, 0];
    assert_eq!(door.reads().await, denied);
    door.gateway.receives(1, |input| matches!(input, Input::Request(_))).await;
    let id = door.gateway.find(|input| if let Input::Request(request) = input { request.id.clone() } else { None });
    let grant = Grant::for_test("door".parse().unwrap(), Some(uid(CARD)), Some(3000));
    let decision = Decision::Grant(grant);
    door.session.execute(PortalOrder::Answer { portal: "door".into(), id, decision, delay_ms: None });
    assert_eq!(door.reads().await, denied);
}

/// The same counter is a repeat with the same card and direction, and is no other presentation. Its grant is judged and read again
/// soon, and with no cut between. Each row: what goes before the request, the request, its decision, and how often the gateway has decided.
#[tokio::test(start_paused = true)]
async fn what_is_a_repeat_of_a_request_is_answered_again_and_what_is_not_is_judged_again() {
    let gate = Asked::new(GATE, answers());
    let cut = || PortalOrder::Cut { portal: "gate".parse().unwrap(), reason: "lost" };
    for (after_ms, is_cut, words, decision, decided) in [
        (0, false, ask(1, CARD, None), 1, 1),
        (0, false, ask(1, CARD, None), 1, 2),
        // A controller that restarted, and another card.
        (0, false, ask(1, OTHER, None), 2, 3),
        (0, false, ask(1, OTHER, None), 2, 3),
        (0, false, ask(1, CARD, Some(Direction::Out)), 1, 4),
        (REPEAT_MS - 1, false, ask(1, CARD, Some(Direction::Out)), 1, 5),
        (1, false, ask(1, CARD, Some(Direction::Out)), 0, 5),
        (0, false, ask(2, CARD, Some(Direction::Out)), 1, 6),
        (0, true, ask(2, CARD, Some(Direction::Out)), 2, 6),
    ] {
        sleep(Duration::from_millis(after_ms)).await;
        if is_cut {
            gate.session.execute(cut());
        }
        gate.asks(words).await;
        assert_eq!(gate.reads().await[..2], [words[0], decision], "after {after_ms} ms, cut {is_cut}: {words:?}");
        assert_eq!(gate.gateway.requests(), decided, "after {after_ms} ms, cut {is_cut}: {words:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_grant_that_is_repeated_is_that_of_a_card_that_may_still_and_releases_nothing_again() {
    let mut may = answers();
    let is_revoked = Arc::new(AtomicBool::new(false));
    let revoked = Arc::clone(&is_revoked);
    let door = Asked::new(DOOR, move |input| {
        let order = may(input)?;
        match (order, revoked.load(Ordering::Relaxed)) {
            (PortalOrder::Answer { portal, id, delay_ms, .. }, true) => {
                let decision = Decision::Deny(Reason::Replaced.into());
                Some(PortalOrder::Answer { portal, id, decision, delay_ms })
            }
            (order, _) => Some(order),
        }
    });
    door.asks(ask(1, CARD, None)).await;
    assert_eq!(door.reads().await[..5], [1, 1, 1, 3, 1]);
    sleep(Duration::from_millis(REPEAT_MS - 10)).await;
    door.asks(ask(1, CARD, None)).await;
    assert_eq!(door.reads().await[..5], [1, 1, 1, 3, 0]);
    sleep(Duration::from_millis(10)).await;
    // Whoever only reads sees an old grant no longer.
    assert_eq!(door.reads().await[..5], [1, 0, 0, 0, 0]);
    door.asks(ask(2, CARD, None)).await;
    is_revoked.store(true, Ordering::Relaxed);
    assert_eq!(door.reads().await[1], 1);
    door.asks(ask(2, CARD, None)).await;
    assert_eq!(door.reads().await[..5], [2, 2, 24, 0, 0], "the card was revoked in between");
}

#[tokio::test(start_paused = true)]
async fn a_release_that_is_withdrawn_is_wanted_no_more_and_its_grant_reads_as_the_denial() {
    let door = Asked::new(DOOR, answers());
    let withdraw = || PortalOrder::Withdraw { portal: "door".parse().unwrap(), reason: "replaced" };
    door.asks(ask(1, CARD, None)).await;
    assert_eq!(door.reads().await[..5], [1, 1, 1, 3, 1]);
    door.session.execute(withdraw());
    assert_eq!(door.reads().await, [1, 2, 24, 0, 0, 0]);
    door.asks(ask(2, OTHER, None)).await;
    let denied = door.reads().await;
    door.session.execute(withdraw());
    assert_eq!(door.reads().await, denied, "the denial of another card is its own");
}

#[tokio::test]
async fn a_cut_that_follows_a_grant_ends_it_although_the_controller_was_not_answered_yet() {
    let (inbox, mut taken) = Inbox::new();
    let session = PortalSession::new("power".parse().unwrap(), PortalKind::PowerBox, POWER, inbox);
    let request = Request::WriteRegisters { address: 0, values: ask(1, CARD, None).to_vec() };
    let orders = async {
        loop {
            // Both come before the task that waits for the answer runs.
            if let Some(order) = answers()(&taken.requests.recv().await.unwrap().0) {
                session.execute(order);
                return session.execute(PortalOrder::Cut { portal: "power".parse().unwrap(), reason: "replaced" });
            }
        }
    };
    let (served, ()) = tokio::join!(session.serve(&request), orders);
    served.unwrap();
    let answer = read(&session).await;
    assert_eq!((&answer[..2], answer[4]), (&[1, 2][..], 0), "granted, and cut since");
}
