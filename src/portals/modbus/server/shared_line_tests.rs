//! A serial line that other units share: their requests and replies pass by, in pieces and late, as adapters deliver them.

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::{Instant, timeout};

use super::super::serial::characters;
use super::hostile_tests::{UNIT, sessions};
use super::*;
use crate::access::portal::PortalKind;
use crate::portals::modbus::tests::cable::Dice;
use crate::portals::modbus::tests::{CARD, grants, uid};
use crate::wire::modbus::{Request, Space, rtu_frame, rtu_open};
use crate::wire::registers::encode_request;

const READ: Request = Request::Read { space: Space::Input, address: 0, count: 7 };

/// A master and the other units on one end of the line, the server on the other.
struct SharedLine {
    port: DuplexStream,
    baud: u32,
    dice: Dice,
}

impl SharedLine {
    fn new(baud: u32, sessions: Sessions) -> Self {
        let (port, far) = duplex(4096);
        tokio::spawn(async move { frames::serve_rtu(&sessions, "line", far).await });
        Self { port, baud, dice: Dice(u64::from(baud)) }
    }

    /// Puts a frame on the line at its speed; it is read in pieces of 1 to 8 bytes.
    async fn put(&mut self, frame: &[u8]) {
        let mut rest = frame;
        while !rest.is_empty() {
            let length = 1 + usize::try_from(self.dice.below(8)).unwrap();
            let (piece, after) = rest.split_at(length.min(rest.len()));
            sleep(characters(piece.len(), self.baud)).await;
            self.port.write_all(piece).await.unwrap();
            rest = after;
        }
    }

    /// Whether `request` to us is answered before its master gives it up.
    async fn is_answered(&mut self, request: &Request) -> bool {
        self.put(&rtu_frame(UNIT, &request.encode())).await;
        let mut reply = vec![0; request.reply_bytes() + 3];
        let whole = timeout(Duration::from_millis(200), self.port.read_exact(&mut reply)).await;
        whole.is_ok_and(|read| read.is_ok())
            && rtu_open(&reply).is_some_and(|(unit, pdu)| unit == UNIT && request.check(pdu).is_ok())
    }

    /// A request to another unit and its reply.
    fn foreign(&mut self) -> [Vec<u8>; 2] {
        let unit = 1 + u8::try_from(self.dice.below(9)).unwrap();
        let count = 1 + u8::try_from(self.dice.below(20)).unwrap();
        let (request, reply) = match self.dice.below(6) {
            0 => (vec![3, 0, 2, 0, count], [vec![3, count * 2], vec![0x5A; usize::from(count) * 2]].concat()),
            1 => (vec![1, 0, 0, 0, count * 8], [vec![1, count], vec![0x0F; usize::from(count)]].concat()),
            2 => (vec![5, 0, 1, 0xFF, 0], vec![5, 0, 1, 0xFF, 0]),
            3 => (vec![16, 0, 0, 0, 1, 2, 0, 7], vec![16, 0, 0, 0, 1]),
            4 => (vec![4, 0, 9, 0, 1], vec![0x84, 2]),
            // What this server does not know.
            _ => (vec![43, 14, 1, 0], vec![43, 14, 1, 1, 0, 0, 1, 0, 3, 0x41, 0x42, 0x43]),
        };
        [request, reply].map(|pdu| rtu_frame(unit, &pdu))
    }
}

#[tokio::test(start_paused = true)]
async fn every_request_is_answered_whatever_passed_by_before_it() {
    for baud in [9_600, 19_200, 115_200] {
        let mut line = SharedLine::new(baud, sessions());
        for gap_ms in (2..=40).chain(2..=40).chain(2..=40) {
            let [request, reply] = line.foreign();
            line.put(&request).await;
            sleep(Duration::from_millis(5)).await;
            line.put(&reply).await;
            sleep(Duration::from_millis(gap_ms)).await;
            assert!(line.is_answered(&READ).await, "gap of {gap_ms} ms at {baud} Bd after {reply:02X?}");
            sleep(Duration::from_millis(gap_ms)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_rest_of_a_spoilt_frame_and_noise_hide_no_request() {
    let mut line = SharedLine::new(9_600, sessions());
    for seed in 0..200 {
        let [_, mut spoilt] = line.foreign();
        let at = usize::try_from(line.dice.below(5)).unwrap();
        spoilt[at % 4] ^= 0x41;
        line.put(&spoilt).await;
        line.put(&[0][..usize::from(seed % 2 == 0)]).await;
        sleep(Duration::from_millis(4)).await;
        assert!(line.is_answered(&READ).await, "after {spoilt:02X?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_function_that_is_not_known_gets_an_exception_after_silence() {
    let mut line = SharedLine::new(9_600, sessions());
    line.put(&rtu_frame(UNIT, &[43, 14, 1, 0])).await;
    let mut reply = [0; 5];
    timeout(Duration::from_secs(1), line.port.read_exact(&mut reply)).await.expect("an exception").unwrap();
    assert_eq!(reply.to_vec(), rtu_frame(UNIT, &[0x80 | 43, 1]));
    assert!(line.is_answered(&READ).await);
}

/// A request that waits for its decision, and the answer to it.
async fn undecided() -> (SharedLine, Arc<PortalSession>, crate::gateway::ports::InboxReceiver, PortalOrder) {
    let (inbox, mut taken) = Inbox::new();
    let session = Arc::new(PortalSession::new("door".parse().unwrap(), PortalKind::Door, UNIT, inbox));
    let mut line = SharedLine::new(9_600, Arc::new(HashMap::from([(UNIT, Arc::clone(&session))])));
    let values = encode_request(1, uid(CARD), None).to_vec();
    line.put(&rtu_frame(UNIT, &Request::WriteRegisters { address: 0, values }.encode())).await;
    let mut answers = grants(&[], |_| None);
    let denied = loop {
        if let Some(order) = answers(&taken.requests.recv().await.unwrap().0) {
            break order;
        }
    };
    (line, session, taken, denied)
}

#[tokio::test(start_paused = true)]
async fn a_reply_is_not_sent_when_the_master_has_gone_on() {
    for (meanwhile, is_sent) in [(&[][..], true), (&[0], true), (&[3, 3, 0, 2], false)] {
        let (mut line, session, _taken, denied) = undecided().await;
        line.put(meanwhile).await;
        sleep(Duration::from_millis(1)).await;
        session.execute(denied);
        let mut reply = [0; 8];
        let read = timeout(Duration::from_millis(100), line.port.read_exact(&mut reply)).await;
        assert_eq!(read.is_ok(), is_sent, "after {meanwhile:02X?}");
        assert!(line.is_answered(&READ).await, "and the next request is answered");
    }
}

#[tokio::test(start_paused = true)]
async fn the_echo_of_its_own_replies_is_no_request() {
    let write = Request::WriteRegister { address: 8, value: 0 };
    for requests in [[&write, &READ, &write, &READ], [&READ, &write, &write, &write]] {
        let mut line = SharedLine::new(9_600, sessions());
        for request in requests {
            let begun = Instant::now();
            line.put(&rtu_frame(UNIT, &request.encode())).await;
            let mut reply = vec![0; request.reply_bytes() + 3];
            timeout(Duration::from_millis(200), line.port.read_exact(&mut reply)).await.expect("a reply").unwrap();
            line.put(&reply).await;
            let more = timeout(Duration::from_millis(300), line.port.read_u8()).await;
            assert!(more.is_err(), "it answers its own echo, {:?} after {request}", begun.elapsed());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_that_the_master_repeats_at_once_is_answered_each_time() {
    let mut line = SharedLine::new(9_600, sessions());
    let write = Request::WriteRegister { address: 8, value: 0 };
    assert!(line.is_answered(&READ).await, "nothing is repeated on this line");
    for gap_ms in [5, 20, 50, 80].repeat(5) {
        assert!(line.is_answered(&write).await, "{gap_ms} ms after the reply to the same");
        sleep(Duration::from_millis(gap_ms)).await;
    }
}

/// A request that sets the posture `fire` at our unit. Two bytes more make it the UID of a card.
fn fire() -> Vec<u8> {
    rtu_frame(UNIT, &Request::WriteRegister { address: 8, value: 0x20 }.encode())
}

/// The registers of a request with these bytes as the UID of a card.
fn presented(uid: &[u8]) -> Vec<u16> {
    let registers = [&[0, 1, 0, 10], uid, &[0; 4]].concat();
    registers.chunks(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect()
}

#[tokio::test(start_paused = true)]
async fn the_uid_of_a_card_is_no_request_in_whatever_frame_it_travels() {
    let uid = [fire(), vec![1, 2]].concat();
    let values = presented(&uid);
    let write = Request::WriteRegisters { address: 0, values: values.clone() }.encode();
    let both = Request::ReadWrite { read: 16, count: 7, write: 0, values }.encode();
    let reply = [&[3, 10][..], &uid].concat();
    let frames = [
        ("written to us", rtu_frame(UNIT, &write)),
        ("written to us, with FC 23", rtu_frame(UNIT, &both)),
        ("written to another", rtu_frame(15, &write)),
        ("written to another, with FC 23", rtu_frame(15, &both)),
        ("reported by another", rtu_frame(3, &reply)),
        ("in our own reply, which the adapter repeats", rtu_frame(UNIT, &reply)),
    ];
    for (which, frame) in frames {
        for piece in [1, 2, 3, 5, 8, 99] {
            let (inbox, mut taken) = Inbox::new();
            let session = PortalSession::new("door".parse().unwrap(), PortalKind::Door, UNIT, inbox);
            let mut line = SharedLine::new(19_200, Arc::new(HashMap::from([(UNIT, Arc::new(session))])));
            for bytes in frame.chunks(piece) {
                sleep(Duration::from_millis(5)).await;
                line.port.write_all(bytes).await.unwrap();
            }
            sleep(Duration::from_millis(900)).await;
            let taken =
                std::iter::from_fn(|| taken.urgent.try_recv().ok().or_else(|| Some(taken.requests.try_recv().ok()?.0)));
            let fires = taken.filter(|input| matches!(input, crate::access::input::Input::Report { report, .. } if report.fire == Some(true)));
            assert_eq!(fires.count(), 0, "{which}, in pieces of {piece}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_behind_noise_is_answered_though_the_noise_may_begin_a_frame() {
    // As a reply of unit 3 this would have 85 bytes.
    let mut line = SharedLine::new(9_600, sessions());
    for _ in 0..5 {
        line.put(&[3, 3, 80]).await;
        assert!(line.is_answered(&READ).await);
        sleep(Duration::from_millis(500)).await;
    }
}
