//! One exchange on a serial line: when it is sent, and what counts as its answer.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex};

use super::*;
use crate::config::{Parity, SerialConfig, TcpPeer};
use crate::wire::modbus::{Space, rtu_frame, tcp_frame};

/// 73.3 ms for a request of 8 bytes, and 32.1 ms of silence.
const SLOW_BAUD: u32 = 1200;
const ASK: Request = Request::Read { space: Space::Holding, address: 0, count: 1 };

fn line(baud: u32) -> (Line, DuplexStream) {
    let (near, far) = duplex(512);
    (on(Box::new(near), Some(baud)), far)
}

fn on(port: Box<dyn Port>, baud: Option<u32>) -> Line {
    let line = match baud {
        Some(baud) => BusLine::Serial(SerialConfig { port: "test".into(), baud, parity: Parity::None, stop_bits: 1 }),
        None => BusLine::Tcp(TcpPeer { host: "test".into(), port: 502 }),
    };
    let bus =
        BusConfig { id: "test".into(), line, timeout_ms: 200, echo: None, any_transaction: false, devices_dir: None };
    Line::new(&bus, 1, port)
}

/// The reply of `unit` to [`ASK`].
fn reply(unit: u8, value: u8) -> Vec<u8> {
    rtu_frame(unit, &[3, 2, 0, value])
}

async fn request(far: &mut DuplexStream) -> Instant {
    let mut frame = [0; 8];
    far.read_exact(&mut frame).await.unwrap();
    Instant::now()
}

/// Sends these, each `gap_ms` after the one before, when a request has come; then the line stays open.
fn sends(mut far: DuplexStream, gap_ms: u64, frames: Vec<Vec<u8>>) {
    tokio::spawn(async move {
        request(&mut far).await;
        for frame in frames {
            far.write_all(&frame).await.unwrap();
            after(gap_ms).await;
        }
        std::future::pending::<()>().await;
    });
}

async fn after(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}

fn words(reply: Result<Reply, LineError>) -> Vec<u16> {
    let Reply::Words(words) = reply.unwrap() else { panic!("no registers") };
    words
}

/// A port that never ends a flush, as a wedged adapter; and whether it dropped its unsent bytes.
struct Wedged(DuplexStream, Arc<AtomicBool>);

impl Port for Wedged {
    fn forget_unsent(&self) {
        self.1.store(true, Ordering::Relaxed);
    }
}

impl AsyncRead for Wedged {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Wedged {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[tokio::test(start_paused = true)]
async fn a_port_is_never_flushed() {
    let (near, far) = duplex(512);
    let forgot = Arc::new(AtomicBool::new(false));
    let mut line = on(Box::new(Wedged(near, Arc::clone(&forgot))), Some(9600));
    sends(far, 0, vec![reply(1, 7)]);
    let answer = timeout(Duration::from_secs(1), line.exchange(1, &ASK)).await;
    assert_eq!(words(answer.expect("it waits for the port")), [7]);
    assert!(!forgot.load(Ordering::Relaxed));
    drop(line);
    assert!(forgot.load(Ordering::Relaxed), "closing it waits for its bytes");
}

#[tokio::test(start_paused = true)]
async fn the_silence_before_a_request_begins_when_the_one_before_is_out_on_the_wire() {
    let (mut line, mut far) = line(SLOW_BAUD);
    let device = tokio::spawn(async move { [request(&mut far).await, request(&mut far).await] });
    for _ in 0..2 {
        let given_up = timeout(Duration::from_millis(150), line.exchange(1, &ASK));
        drop(timeout(Duration::from_millis(50), given_up).await);
    }
    drop(timeout(Duration::from_millis(150), line.exchange(1, &ASK)).await);
    let [first, second] = device.await.unwrap();
    assert!(second - first >= Duration::from_millis(73 + 32), "{:?}", second - first);
}

#[tokio::test(start_paused = true)]
async fn a_frame_that_comes_in_the_silence_before_a_request_does_not_answer_it() {
    let (mut line, mut far) = line(SLOW_BAUD);
    let device = tokio::spawn(async move {
        let mut at = Vec::new();
        request(&mut far).await;
        far.write_all(&reply(1, 7)).await.unwrap();
        after(10).await;
        far.write_all(&reply(1, 66)).await.unwrap();
        let stale = Instant::now();
        at.push(request(&mut far).await - stale);
        far.write_all(&reply(1, 8)).await.unwrap();
        after(1).await;
        at
    });
    assert_eq!(words(line.exchange(1, &ASK).await), [7]);
    assert_eq!(words(line.exchange(1, &ASK).await), [8]);
    let gap = device.await.unwrap();
    assert!(gap[0] >= Duration::from_millis(32), "sent {gap:?} after another's frame");
}

#[tokio::test(start_paused = true)]
async fn a_line_that_never_falls_silent_is_an_error_and_not_waited_for_without_end() {
    let (mut line, mut far) = line(SLOW_BAUD);
    tokio::spawn(async move {
        while far.write_all(&[0]).await.is_ok() {
            after(20).await;
        }
    });
    after(1).await;
    let error = timeout(Duration::from_secs(2), line.exchange(1, &ASK)).await.expect("it waits without end");
    assert!(matches!(error, Err(LineError::NotReady(NotReady::NotSilent))), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn a_late_frame_of_another_unit_is_passed_over() {
    let others =
        [reply(2, 66), rtu_frame(2, &[0x83, 2]), rtu_frame(2, &[5, 0, 1, 0xFF, 0]), rtu_frame(2, &[4, 4, 1, 2, 3, 4])];
    for other in others {
        let (mut line, far) = line(9600);
        sends(far, 5, vec![other, reply(1, 7)]);
        assert_eq!(words(line.exchange(1, &ASK).await), [7]);
    }
}

#[tokio::test(start_paused = true)]
async fn what_came_and_is_no_answer_is_known_when_nobody_waits_any_longer() {
    let bytes = |frame: &[u8]| Received::Bytes(frame.len(), frame[..3].to_vec());
    let cut_off = tcp_frame(1, 6, &[3, 2, 0, 7])[..9].to_vec();
    let mut spoilt = reply(6, 7);
    spoilt[4] ^= 1;
    let tcp = [
        (vec![], Received::Nothing),
        (cut_off.clone(), bytes(&cut_off)),
        (tcp_frame(9, 6, &[3, 2, 0, 7]), Received::OtherTransaction),
    ];
    let rtu = [
        (reply(6, 7)[..5].to_vec(), bytes(&reply(6, 7)[..5])),
        (spoilt.clone(), bytes(&spoilt)),
        (reply(22, 7).repeat(20), Received::OtherUnit(22)),
        (rtu_frame(6, &[4, 2, 0, 7]), Received::OtherFunction(4)),
        (rtu_frame(6, &ASK.encode()), Received::OnlyEcho),
    ];
    let tcp = tcp.into_iter().map(|case| (None, case));
    for (baud, (bytes, received)) in tcp.chain(rtu.into_iter().map(|case| (Some(9600), case))) {
        let (near, far) = duplex(512);
        let mut line = on(Box::new(near), baud);
        // A request over TCP is longer; it is not read to its end.
        sends(far, 0, vec![bytes]);
        assert!(timeout(Duration::from_secs(1), line.exchange(6, &ASK)).await.is_err());
        assert_eq!(line.received(), received);
    }
}

#[tokio::test(start_paused = true)]
async fn frames_that_answer_nothing_are_found_in_pieces_and_a_spoilt_one_is_not() {
    let mut bytes = vec![0xFF, 0x00];
    bytes.extend(reply(1, 7));
    bytes.extend(rtu_frame(2, &[0x83, 2]));
    bytes.push(9);
    bytes.extend(rtu_frame(20, &[5, 0, 1, 0xFF, 0]));
    let mut spoilt = reply(7, 7);
    spoilt[4] ^= 1;
    bytes.extend(spoilt);
    for piece in 1..bytes.len() {
        let (mut line, far) = line(9600);
        let pieces = bytes.chunks(piece).map(<[u8]>::to_vec);
        sends(far, 1, std::iter::once(reply(9, 1)).chain(pieces).collect());
        line.exchange(9, &ASK).await.unwrap();
        line.settle(Duration::from_secs(1)).await.unwrap();
        let found: Vec<_> = line.take_unsolicited().iter().map(|frame| (frame.unit, frame.function)).collect();
        assert_eq!(found, [(1, 3), (2, 0x83), (20, 5)], "in pieces of {piece}");
        assert!(line.take_unsolicited().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_coil_value_that_the_crate_does_not_know_is_confirmed_by_its_bytes() {
    let pulse = Request::WriteCoil { address: 0x0207, value: 10 };
    for baud in [Some(9600), None] {
        let (near, mut far) = duplex(512);
        let mut line = on(Box::new(near), baud);
        let replies = [vec![3, 2, 0, 7], pulse.encode(), vec![5, 2, 7, 0, 11], vec![0x85, 6], pulse.encode()];
        tokio::spawn(async move {
            let mut frame = [0; 64];
            for reply in replies {
                let _ = far.read(&mut frame).await.unwrap();
                let transaction = u16::from_be_bytes([frame[0], frame[1]]);
                let frame = if baud.is_some() { rtu_frame(1, &reply) } else { tcp_frame(transaction, 1, &reply) };
                far.write_all(&frame).await.unwrap();
            }
            std::future::pending::<()>().await;
        });
        assert_eq!(words(line.exchange(1, &ASK).await), [7]);
        assert!(matches!(line.exchange(1, &pulse).await, Ok(Reply::Written)));
        assert!(matches!(line.exchange(1, &pulse).await, Err(LineError::Reply(ReplyError::Echo))));
        let refused = line.exchange(1, &pulse).await;
        assert!(matches!(refused, Err(LineError::Reply(ReplyError::Refused(Exception(6))))), "{refused:?}");
        assert!(matches!(line.exchange(1, &pulse).await, Ok(Reply::Written)), "and the line goes on");
    }
}
