//! What a network can send to a server: frames cut short, changed, doubled, with bytes between them. Afterwards it still serves.

use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::time::timeout;

use super::*;
use crate::access::portal::PortalKind;
use crate::wire::modbus::{Request, Space, rtu_frame, rtu_open, tcp_frame};
use crate::wire::registers::encode_request;

pub(super) const UNIT: u8 = 13;
pub(super) const READ: Request = Request::Read { space: Space::Input, address: 0, count: 2 };

pub(super) fn sessions() -> Sessions {
    let (inbox, taken) = Inbox::new();
    // Nobody takes the requests: an inbox that fills up has to be survived too.
    std::mem::forget(taken);
    let session = PortalSession::new("door".parse().unwrap(), PortalKind::Door, UNIT, inbox);
    Arc::new(HashMap::from([(UNIT, Arc::new(session))]))
}

/// What may happen to a frame on its way.
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

fn harmed(mut frame: Vec<u8>, harm: &Harm) -> Vec<u8> {
    let length = frame.len();
    match harm {
        Harm::None => {}
        Harm::Cut(at) => frame.truncate(at % length),
        Harm::Flip(at, bits) => frame[at % length] ^= bits,
        Harm::Insert(at, bytes) => drop(frame.splice(at % length..at % length, bytes.iter().copied())),
        Harm::Twice => frame.extend(frame.clone()),
    }
    frame
}

fn requests() -> impl Strategy<Value = Request> {
    let ask = |n: u16| encode_request(n, "1EA68671".parse().unwrap(), None).to_vec();
    prop_oneof![
        (any::<u16>(), 1..=125_u16).prop_map(|(address, count)| Request::Read { space: Space::Input, address, count }),
        any::<u16>().prop_map(move |n| Request::WriteRegisters { address: 0, values: ask(n) }),
        any::<u16>().prop_map(move |n| Request::ReadWrite { read: 16, count: 7, write: 0, values: ask(n) }),
        (0..12_u16, any::<u16>()).prop_map(|(address, value)| Request::WriteRegister { address, value }),
        (any::<u16>(), prop::collection::vec(any::<u16>(), 1..=123))
            .prop_map(|(address, values)| Request::WriteRegisters { address, values }),
        (any::<u16>(), prop::collection::vec(any::<bool>(), 1..=1968))
            .prop_map(|(address, on)| Request::WriteCoils { address, on }),
    ]
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
    let (unit, pdu) = rtu_open(&replies[read - 9..read]).expect("the last answer is whole");
    assert!(unit == UNIT && READ.check(pdu).is_ok(), "{unit}: {pdu:?}");
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

fn with_time_paused(run: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(run);
}

/// The byte that is missing of the first request is the one with which the next one begins.
#[test]
fn a_request_that_was_cut_off_makes_no_frame_with_a_later_one() {
    let request = Request::WriteRegister { address: 1, value: 47_771 };
    let frame = rtu_frame(UNIT, &request.encode());
    assert_eq!(frame.last(), Some(&UNIT));
    with_time_paused(serial(frame[..frame.len() - 1].to_vec()));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn harmed_frames_end_no_server_and_the_next_request_is_answered(
        sent in prop::collection::vec((requests(), prop::sample::select(vec![UNIT, 0, 99, 255]), harm()), 1..8),
    ) {
        let frames = |frame: &dyn Fn(u8, &[u8]) -> Vec<u8>| -> Vec<u8> {
            sent.iter().flat_map(|(request, unit, harm)| harmed(frame(*unit, &request.encode()), harm)).collect()
        };
        with_time_paused(async {
            serial(frames(&|unit, pdu| rtu_frame(unit, pdu))).await;
            network(frames(&|unit, pdu| tcp_frame(1, unit, pdu))).await;
        });
    }

    #[test]
    fn bytes_at_random_end_no_server_and_the_next_request_is_answered(
        // Half of them look like a request to our unit, as far as the registers.
        mut bytes in prop::collection::vec(any::<u8>(), 0..600),
        looks_good in any::<bool>(),
    ) {
        if looks_good && bytes.len() > 8 {
            bytes[2..8].copy_from_slice(&[0, 0, 0, 6, UNIT, 16]);
        }
        with_time_paused(async {
            serial(bytes.clone()).await;
            network(bytes).await;
        });
    }
}
