//! What a network can send to a server: frames cut short, changed, doubled, with bytes between them. Afterwards it still serves.

use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::time::timeout;

use super::*;
use crate::wire::modbus::{Request, Space, rtu_frame, rtu_open, tcp_frame};
use crate::wire::registers::encode_request;

const UNIT: u8 = 13;
const READ: Request = Request::Read { space: Space::Input, address: 0, count: 2 };

pub(super) fn sessions() -> Sessions {
    let (inbox, taken) = Inbox::new();
    // Nobody takes the requests: an inbox that fills up has to be survived too.
    std::mem::forget(taken);
    Arc::new(HashMap::from([(
        UNIT,
        Arc::new(PortalSession::new("door".parse().unwrap(), PortalKind::Door, UNIT, inbox)),
    )]))
}

/// What may happen to a good frame on its way.
#[derive(Clone, Debug)]
enum Harm {
    None,
    Cut(usize),
    Flip(usize, u8),
    Insert(usize, Vec<u8>),
    Twice,
}

fn harm() -> impl Strategy<Value = Harm> {
    prop_oneof![
        Just(Harm::None),
        (0..300_usize).prop_map(Harm::Cut),
        (0..300_usize, 1..=255_u8).prop_map(|(at, bits)| Harm::Flip(at, bits)),
        (0..300_usize, prop::collection::vec(any::<u8>(), 1..20)).prop_map(|(at, bytes)| Harm::Insert(at, bytes)),
        Just(Harm::Twice),
    ]
}

fn requests() -> impl Strategy<Value = Request> {
    let card = "1EA68671".parse().unwrap();
    prop_oneof![
        (any::<u16>(), 1..=125_u16).prop_map(|(address, count)| Request::Read { space: Space::Input, address, count }),
        any::<u16>()
            .prop_map(move |n| Request::WriteRegisters { address: 0, values: encode_request(n, card, None).to_vec() }),
        any::<u16>().prop_map(move |n| Request::ReadWrite {
            read: 16,
            count: 7,
            write: 0,
            values: encode_request(n, card, None).to_vec()
        }),
        (0..12_u16, any::<u16>()).prop_map(|(address, value)| Request::WriteRegister { address, value }),
        (any::<u16>(), prop::collection::vec(any::<u16>(), 1..=123))
            .prop_map(|(address, values)| Request::WriteRegisters { address, values }),
        (any::<u16>(), prop::collection::vec(any::<bool>(), 1..=1968))
            .prop_map(|(address, on)| Request::WriteCoils { address, on }),
    ]
}

fn harmed(mut frame: Vec<u8>, harm: &Harm) -> Vec<u8> {
    match harm {
        Harm::None => {}
        Harm::Cut(at) => frame.truncate(at % frame.len()),
        Harm::Flip(at, bits) => {
            let at = at % frame.len();
            frame[at] ^= bits;
        }
        Harm::Insert(at, bytes) => {
            let at = at % frame.len();
            frame.splice(at..at, bytes.iter().copied());
        }
        Harm::Twice => frame.extend(frame.clone()),
    }
    frame
}

/// Sends `bytes` on a serial line, and after a silence a good request: that one is answered.
async fn serial(bytes: Vec<u8>) {
    let (mut near, far) = duplex(65_536);
    let sessions = sessions();
    let served = tokio::spawn(async move { frames::serve_rtu(&sessions, "line", far).await });
    near.write_all(&bytes).await.unwrap();
    // Longer than any decision takes, and than the silence that ends a frame.
    sleep(Duration::from_secs(600)).await;
    near.write_all(&rtu_frame(UNIT, &READ.encode())).await.unwrap();
    sleep(Duration::from_secs(1)).await;
    let mut replies = vec![0; 65_536];
    let read = timeout(Duration::from_secs(1), near.read(&mut replies)).await.expect("an answer").unwrap();
    let last = &replies[read - 9..read];
    let (unit, pdu) = rtu_open(last).expect("the last answer is whole");
    assert_eq!(unit, UNIT);
    assert!(READ.check(pdu).is_ok(), "{pdu:?}");
    assert!(!served.is_finished());
    served.abort();
}

/// Sends `bytes` over one connection, and a good request over the next: that one is answered.
async fn network(bytes: Vec<u8>) {
    let sessions = sessions();
    for (sent, good) in [(bytes, false), (tcp_frame(7, UNIT, &READ.encode()), true)] {
        let (mut near, far) = duplex(65_536);
        let sessions = Arc::clone(&sessions);
        let served = tokio::spawn(async move { frames::serve_tcp(&sessions, "peer", far).await });
        near.write_all(&sent).await.unwrap();
        near.shutdown().await.unwrap();
        let mut replies = Vec::new();
        let read = timeout(Duration::from_secs(3600), near.read_to_end(&mut replies)).await;
        assert!(read.is_ok(), "the connection never ends");
        assert!(!served.await.is_err_and(|ended| ended.is_panic()), "the connection's task panicked");
        assert!(!good || READ.check(&replies[7..]).is_ok(), "{replies:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn harmed_frames_end_no_server_and_the_next_request_is_answered(
        sent in prop::collection::vec((requests(), prop::sample::select(vec![UNIT, 0, 99, 255]), harm()), 1..8),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let frames = |frame: &dyn Fn(u8, &[u8]) -> Vec<u8>| -> Vec<u8> {
            sent.iter().flat_map(|(request, unit, harm)| harmed(frame(*unit, &request.encode()), harm)).collect()
        };
        runtime.block_on(async {
            serial(frames(&|unit, pdu| rtu_frame(unit, pdu))).await;
            network(frames(&|unit, pdu| tcp_frame(1, unit, pdu))).await;
        });
    }

    #[test]
    fn bytes_at_random_end_no_server_and_the_next_request_is_answered(
        bytes in prop::collection::vec(any::<u8>(), 0..600),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            serial(bytes.clone()).await;
            network(bytes).await;
        });
    }
}

#[tokio::test]
async fn a_server_that_received_rubbish_over_many_connections_answers_a_controller() {
    use crate::portals::modbus::tests::cable::Dice;
    let (inbox, _taken) = Inbox::new();
    let spec = ModbusServerConfig {
        tcp: Some("127.0.0.1:0".parse().unwrap()),
        serial: None,
        allow: vec!["127.0.0.0/8".parse().unwrap()],
    };
    let door = ServerPortal { id: "door".parse().unwrap(), kind: PortalKind::Door, unit: UNIT };
    let server = serve(spec, vec![door], &inbox).await.unwrap();
    let mut dice = Dice(3);
    for _ in 0..200 {
        let mut stranger = TcpStream::connect(server.address.unwrap()).await.unwrap();
        let length = dice.below(600);
        let mut bytes: Vec<u8> = (0..length).map(|_| dice.below(256).to_le_bytes()[0]).collect();
        if dice.below(2) == 0 && bytes.len() > 8 {
            // As far as the registers.
            bytes[2..8].copy_from_slice(&[0, 0, 0, 6, UNIT, 16]);
        }
        // The server may have closed it already.
        drop(stranger.write_all(&bytes).await);
    }
    let mut controller = TcpStream::connect(server.address.unwrap()).await.unwrap();
    controller.write_all(&tcp_frame(7, UNIT, &READ.encode())).await.unwrap();
    let mut reply = [0; 13];
    timeout(Duration::from_secs(5), controller.read_exact(&mut reply)).await.expect("in time").unwrap();
    assert!(READ.check(&reply[7..]).is_ok(), "{reply:?}");
}
