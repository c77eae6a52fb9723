//! One exchange on a serial line: when it is sent, and what counts as its answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Context;

use tokio::io::{DuplexStream, duplex};

use super::*;
use crate::wire::modbus::Space;

/// 73.3 ms for a request of 8 bytes, and 32.1 ms of silence.
const SLOW_BAUD: u32 = 1200;
const ASK: Request = Request::Read { space: Space::Holding, address: 0, count: 1 };

fn line(baud: u32) -> (Line, DuplexStream) {
    let (near, far) = duplex(512);
    (Line::rtu("test", Box::new(near), baud), far)
}

/// What `unit` answers to [`ASK`].
fn says(unit: u8, value: u8) -> Vec<u8> {
    rtu_frame(unit, &[3, 2, 0, value])
}

async fn request(far: &mut DuplexStream) -> Instant {
    let mut frame = [0; 8];
    far.read_exact(&mut frame).await.unwrap();
    Instant::now()
}

async fn after(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}

fn words(reply: Result<Reply, LineError>) -> Vec<u16> {
    let Reply::Words(words) = reply.unwrap() else { panic!("no words") };
    words
}

/// A port that never says that its bytes are out, as an adapter that is wedged; and whether it was told to forget them.
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
async fn a_port_is_never_waited_for_until_its_bytes_are_out() {
    let (near, mut far) = duplex(512);
    let forgot = Arc::new(AtomicBool::new(false));
    let mut line = Line::rtu("test", Box::new(Wedged(near, Arc::clone(&forgot))), 9600);
    tokio::spawn(async move {
        request(&mut far).await;
        far.write_all(&says(1, 7)).await.unwrap();
        std::future::pending::<()>().await;
    });
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
        far.write_all(&says(1, 7)).await.unwrap();
        after(10).await;
        far.write_all(&says(1, 66)).await.unwrap();
        let stale = Instant::now();
        at.push(request(&mut far).await - stale);
        far.write_all(&says(1, 8)).await.unwrap();
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
        [says(2, 66), rtu_frame(2, &[0x83, 2]), rtu_frame(2, &[5, 0, 1, 0xFF, 0]), rtu_frame(2, &[4, 4, 1, 2, 3, 4])];
    for other in others {
        let (mut line, mut far) = line(9600);
        tokio::spawn(async move {
            request(&mut far).await;
            far.write_all(&other).await.unwrap();
            after(5).await;
            far.write_all(&says(1, 7)).await.unwrap();
            std::future::pending::<()>().await;
        });
        assert_eq!(words(line.exchange(1, &ASK).await), [7]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_line_of_nothing_but_other_units_frames_is_an_error() {
    let (mut line, mut far) = line(9600);
    tokio::spawn(async move {
        request(&mut far).await;
        while far.write_all(&says(2, 66)).await.is_ok() {
            after(5).await;
        }
    });
    let error = timeout(Duration::from_secs(2), line.exchange(1, &ASK)).await.expect("it waits without end");
    assert!(matches!(error, Err(LineError::WrongUnit { asked: 1, got: 2 })), "{error:?}");
    // A frame that is spoilt is no other unit's.
    let (mut line, mut far) = self::line(9600);
    tokio::spawn(async move {
        request(&mut far).await;
        let mut spoilt = says(1, 66);
        spoilt[0] = 2;
        far.write_all(&spoilt).await.unwrap();
        std::future::pending::<()>().await;
    });
    assert!(matches!(line.exchange(1, &ASK).await, Err(LineError::Checksum)));
}

#[tokio::test(start_paused = true)]
async fn what_came_and_is_no_answer_is_known_when_nobody_waits_any_longer() {
    let cut_off = tcp_frame(1, 6, &[3, 2, 0, 7])[..9].to_vec();
    let tcp =
        [(vec![], Came::Nothing), (cut_off, Came::Piece(9)), (tcp_frame(9, 6, &[3, 2, 0, 7]), Came::OtherRequest)];
    let rtu = [(says(6, 7)[..5].to_vec(), Came::Piece(5)), (says(22, 7), Came::Other(22))];
    let tcp = tcp.into_iter().map(|case| (None, case));
    for (baud, (bytes, came)) in tcp.chain(rtu.into_iter().map(|case| (Some(9600), case))) {
        let (near, mut far) = duplex(512);
        let mut line = match baud {
            Some(baud) => Line::rtu("test", Box::new(near), baud),
            None => Line::tcp("test", Box::new(near), 1),
        };
        tokio::spawn(async move {
            request(&mut far).await;
            far.write_all(&bytes).await.unwrap();
            std::future::pending::<()>().await;
        });
        assert!(timeout(Duration::from_secs(1), line.exchange(6, &ASK)).await.is_err());
        assert_eq!(line.came(), came);
    }
}
