//! Controllers against the server: an independent client (`tokio-modbus`) over TCP and on a serial line.

use std::sync::Mutex;

use tokio::io::AsyncReadExt;
use tokio::time::timeout;
use tokio_modbus::client::{Context, Reader, Writer, rtu, tcp};
use tokio_modbus::{ExceptionCode, Slave};

use super::*;
use crate::access::decision::{Decision, Grant, Reason};
use crate::access::id::CardUid;
use crate::access::input::{Input, PortalReport, Presented};
use crate::access::portal::{Direction, Posture};
use crate::wire::registers::encode_request;

const CARD: &str = "04A1B2C3D4E5F6";
const LIMIT: Duration = Duration::from_secs(5);

type Orders = Arc<Mutex<HashMap<String, mpsc::Sender<PortalOrder>>>>;

/// A server with three portals, and a fake gateway that grants to one card; `mute`: it never answers.
struct Rig {
    server: ModbusServer,
    inputs: watch::Receiver<Vec<Input>>,
    orders: Orders,
}

fn uid(text: &str) -> CardUid {
    text.parse().unwrap()
}

async fn rig(allow: &str, serial: Option<SerialConfig>, mute: bool) -> Rig {
    let portal = |name: &str, kind, unit| ServerPortal { id: name.parse().unwrap(), kind, unit };
    let portals = vec![
        portal("gate", PortalKind::Gate, 1),
        portal("door", PortalKind::Door, 13),
        portal("power", PortalKind::PowerBox, 14),
    ];
    let (inbox, mut taken) = Inbox::new();
    let spec =
        ModbusServerConfig { tcp: Some("127.0.0.1:0".parse().unwrap()), serial, allow: vec![allow.parse().unwrap()] };
    let server = serve(spec, portals, &inbox).await.unwrap();
    let orders: HashMap<_, _> = server.outlets.iter().map(|(id, to)| (id.to_string(), to.clone())).collect();
    let orders: Orders = Arc::new(Mutex::new(orders));
    let (seen, inputs) = watch::channel(Vec::new());
    let to = Arc::clone(&orders);
    tokio::spawn(async move {
        while let Some(input) = taken.requests.recv().await {
            if let Input::Request(request) = &input
                && !mute
            {
                let decision = match request.presented {
                    Presented::Card(card) if card == uid(CARD) => {
                        let hold = (request.portal != "power").then_some(300);
                        Decision::Grant(Grant::for_test(request.portal.parse().unwrap(), Some(card), hold))
                    }
                    _ => Decision::Deny(Reason::UnknownCredential.into()),
                };
                let order = PortalOrder::Answer {
                    portal: request.portal.clone(),
                    id: request.id.clone(),
                    decision,
                    delay_ms: None,
                };
                to.lock().unwrap()[&request.portal].try_send(order).unwrap();
            }
            seen.send_modify(|all| all.push(input));
        }
    });
    Rig { server, inputs, orders }
}

impl Rig {
    async fn controller(&self, unit: u8) -> Context {
        tcp::connect_slave(self.server.address.unwrap(), Slave(unit)).await.unwrap()
    }

    async fn reports(&self, what: impl Fn(&PortalReport) -> bool) {
        let mut inputs = self.inputs.clone();
        let found =
            inputs.wait_for(|all| all.iter().any(|i| matches!(i, Input::Report { report, .. } if what(report))));
        assert!(timeout(LIMIT, found).await.is_ok_and(|r| r.is_ok()), "not reported: {:#?}", self.inputs.borrow());
    }

    fn requests(&self) -> usize {
        self.inputs.borrow().iter().filter(|i| matches!(i, Input::Request(_))).count()
    }

    fn order(&self, portal: &str, order: PortalOrder) {
        self.orders.lock().unwrap()[portal].try_send(order).unwrap();
    }
}

/// Asks until the input registers from `at` are `wanted`.
async fn becomes(controller: &mut Context, at: u16, wanted: &[u16]) {
    let count = u16::try_from(wanted.len()).unwrap();
    let asking = async { while controller.read_input_registers(at, count).await.unwrap().unwrap() != wanted {} };
    assert!(timeout(LIMIT, asking).await.is_ok(), "input {at} never became {wanted:?}");
}

fn ask(counter: u16, card: &str) -> [u16; 8] {
    encode_request(counter, uid(card), Some(Direction::In))
}

#[tokio::test]
async fn a_request_written_is_decided_before_the_reply_is_sent() {
    let rig = rig("127.0.0.0/8", None, false).await;
    let mut controller = rig.controller(13).await;
    controller.write_multiple_registers(0, &ask(7, CARD)).await.unwrap().unwrap();
    let answer = controller.read_input_registers(0, 7).await.unwrap().unwrap();
    assert_eq!(answer[..6], [7, 1, 1, 3, 1, 0]);
    // The release ends, the answer stays.
    becomes(&mut controller, 4, &[0]).await;
    controller.write_multiple_registers(0, &ask(8, "1EA68671")).await.unwrap().unwrap();
    assert_eq!(controller.read_input_registers(0, 5).await.unwrap().unwrap(), [8, 2, 23, 0, 0]);
    rig.reports(|r| r.online == Some(true)).await;
}

#[tokio::test]
async fn one_transaction_of_function_23_asks_and_answers() {
    let rig = rig("127.0.0.0/8", None, false).await;
    let mut controller = rig.controller(1).await;
    let answer = controller.read_write_multiple_registers(16, 7, 0, &ask(3, CARD)).await.unwrap().unwrap();
    assert_eq!(answer[..6], [3, 1, 1, 3, 1, 0]);
    // Repeated because its reply was lost: the same answer, and no second request.
    let repeated = controller.read_write_multiple_registers(16, 4, 0, &ask(3, CARD)).await.unwrap().unwrap();
    assert_eq!(repeated, [3, 1, 1, 3]);
    assert_eq!(rig.requests(), 1);
}

#[tokio::test]
async fn the_desired_output_of_a_power_box_is_on_until_it_is_cut() {
    let rig = rig("127.0.0.0/8", None, false).await;
    let mut controller = rig.controller(14).await;
    controller.write_multiple_registers(0, &ask(1, CARD)).await.unwrap().unwrap();
    assert_eq!(controller.read_input_registers(3, 2).await.unwrap().unwrap(), [0, 1]);
    controller.write_single_register(8, 0).await.unwrap().unwrap();
    rig.reports(|r| r.card_present == Some(false)).await;
    rig.order("power", PortalOrder::Cut { portal: "power".parse().unwrap(), reason: "card_left" });
    becomes(&mut controller, 4, &[0]).await;
}

#[tokio::test]
async fn fire_releases_gates_and_doors_and_is_the_posture() {
    let rig = rig("127.0.0.0/8", None, false).await;
    let mut controller = rig.controller(13).await;
    rig.order("door", PortalOrder::Mode { portal: "door".parse().unwrap(), posture: Posture::Fire });
    becomes(&mut controller, 4, &[1, 4]).await;
}

#[tokio::test]
async fn without_a_decision_in_time_it_is_a_denial_and_a_late_grant_opens_nothing() {
    let rig = rig("127.0.0.0/8", None, true).await;
    let mut controller = rig.controller(13).await;
    controller.write_multiple_registers(0, &ask(9, CARD)).await.unwrap().unwrap();
    let denied = [9, 2, 39, 0, 0];
    assert_eq!(controller.read_input_registers(0, 5).await.unwrap().unwrap(), denied);
    let id = rig.inputs.borrow().iter().find_map(|i| match i {
        Input::Request(request) => request.id.clone(),
        _ => None,
    });
    let grant = Grant::for_test("door".parse().unwrap(), Some(uid(CARD)), Some(3000));
    rig.order(
        "door",
        PortalOrder::Answer { portal: "door".into(), id, decision: Decision::Grant(grant), delay_ms: None },
    );
    // The next order shows that the one before it was taken.
    rig.order("door", PortalOrder::Mode { portal: "door".parse().unwrap(), posture: Posture::Lockdown });
    becomes(&mut controller, 5, &[2]).await;
    assert_eq!(controller.read_input_registers(0, 5).await.unwrap().unwrap(), denied);
}

#[tokio::test]
async fn a_request_outside_the_map_gets_an_exception() {
    let rig = rig("127.0.0.0/8", None, false).await;
    let mut controller = rig.controller(13).await;
    let address = Err(ExceptionCode::IllegalDataAddress);
    assert_eq!(controller.read_input_registers(7, 1).await.unwrap(), address);
    assert_eq!(controller.read_holding_registers(0, 8).await.unwrap(), address);
    assert_eq!(controller.write_single_register(0, 1).await.unwrap(), Err(ExceptionCode::IllegalDataAddress));
    let mut bad = ask(1, CARD);
    bad[1] = 5;
    assert_eq!(controller.write_multiple_registers(0, &bad).await.unwrap(), Err(ExceptionCode::IllegalDataValue));
    assert_eq!(controller.read_coils(0, 1).await.unwrap(), Err(ExceptionCode::IllegalFunction));
    let mut unknown = rig.controller(99).await;
    assert_eq!(unknown.read_input_registers(0, 1).await.unwrap(), Err(ExceptionCode::GatewayTargetDevice));
    assert_eq!(rig.requests(), 0);
}

#[tokio::test]
async fn a_peer_that_is_not_allowed_is_closed_at_once() {
    let rig = rig("192.0.2.0/24", None, false).await;
    let mut stream = TcpStream::connect(rig.server.address.unwrap()).await.unwrap();
    let read = timeout(LIMIT, stream.read(&mut [0; 1])).await.unwrap();
    assert!(matches!(read, Ok(0) | Err(_)));
    assert!(allowed(&["127.0.0.0/8".parse().unwrap()], "::ffff:127.0.0.1".parse().unwrap()));
    assert!(!allowed(&[], "127.0.0.1".parse().unwrap()));
}

#[tokio::test]
async fn the_connection_above_the_limit_is_closed_and_the_others_are_served() {
    let rig = rig("127.0.0.0/8", None, false).await;
    let mut first = rig.controller(13).await;
    first.read_input_registers(0, 1).await.unwrap().unwrap();
    let mut held = Vec::new();
    for _ in 1..CONNECTIONS_MAX {
        let mut other = rig.controller(13).await;
        other.read_input_registers(0, 1).await.unwrap().unwrap();
        held.push(other);
    }
    let mut late = TcpStream::connect(rig.server.address.unwrap()).await.unwrap();
    assert!(matches!(timeout(LIMIT, late.read(&mut [0; 1])).await.unwrap(), Ok(0) | Err(_)));
    first.read_input_registers(0, 1).await.unwrap().unwrap();
    drop(held);
}

#[tokio::test]
async fn a_controller_on_a_serial_line_is_served_and_other_units_are_not_answered() {
    let (far, near) = tokio_serial::SerialStream::pair().unwrap();
    let port = tokio_serial::SerialPort::name(&near).unwrap();
    let _near = std::fs::File::open(&port).unwrap();
    drop(near);
    let serial = SerialConfig { port, baud: 19200, parity: crate::config::Parity::None, stop_bits: 1 };
    let rig = rig("127.0.0.0/8", Some(serial), false).await;
    let mut controller = rtu::attach_slave(far, Slave(13));
    let answer = timeout(LIMIT, controller.read_write_multiple_registers(16, 4, 0, &ask(3, CARD))).await;
    assert_eq!(answer.unwrap().unwrap().unwrap(), [3, 1, 1, 3]);
    tokio_modbus::prelude::SlaveContext::set_slave(&mut controller, Slave(99));
    assert!(timeout(Duration::from_millis(300), controller.read_input_registers(0, 1)).await.is_err());
    tokio_modbus::prelude::SlaveContext::set_slave(&mut controller, Slave(14));
    let answer = timeout(LIMIT, controller.read_input_registers(0, 2)).await;
    assert_eq!(answer.unwrap().unwrap().unwrap(), [0, 0]);
    assert_eq!(rig.requests(), 1);
}
