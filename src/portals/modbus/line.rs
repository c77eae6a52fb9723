//! One physical line: a TCP connection or a serial port, and one exchange on it by the client of `tokio-modbus`.
//!
//! The crate writes and reads through a tap of ours, which sends the request's bytes, notes until when they are on the wire, and gives
//! the crate its answer once it was [`received`](super::received). Owns the silence before a request and the check that the response
//! answers it. It never retries and has no queue: after an error the caller calls [`Line::settle`] or drops the line before the next
//! exchange.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{self, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_modbus::Slave;
use tokio_modbus::client::{Client, Context, rtu, tcp};
use tokio_modbus::slave::SlaveContext;
use tokio_serial::{ClearBuffer, SerialPort, SerialStream};

use super::received::{LocalEcho, Matching, Received, Receiver, Unsolicited};
use super::serial::{characters, open_serial, quiet_until, silence};
use crate::config::{BusConfig, BusLine};
use crate::wire::modbus::{Exception, MBAP_BYTES, PDU_BYTES_MAX, Reply, ReplyError, Request};

/// Longest time to set up a TCP connection, in milliseconds.
pub const CONNECT_MS: u64 = 1000;
/// How often bytes may come in the silence before a request until the line counts as never silent.
const STALE_MAX: usize = 8;

/// Why nothing can be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotReady {
    /// The line is closed, or out of step.
    #[error("was closed before the request was sent")]
    Closed,
    /// Bytes go on coming.
    #[error("does not fall silent: another master sends on it, or it is disturbed")]
    NotSilent,
}

/// Why an exchange brought no answer.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// Nothing was sent.
    #[error("the line {0}")]
    NotReady(#[from] NotReady),
    /// The line ended.
    #[error("the connection ended: {0}")]
    Ended(io::Error),
    /// The bytes received are not Modbus, or another unit's.
    #[error("{0}")]
    Nonsense(String),
    /// The reply does not answer the request, or is an exception.
    #[error(transparent)]
    Reply(#[from] ReplyError),
}

/// An open line.
pub struct Line {
    tap: Tap,
    client: Context,
    is_serial: bool,
}

impl Line {
    /// Opens the line. Over TCP the next request has the number `transaction`. Fails when it cannot be opened within [`CONNECT_MS`].
    pub async fn open(bus: &BusConfig, transaction: u16) -> io::Result<Self> {
        #[cfg(test)]
        if let Some(cable) = super::tests::cable::named(&bus.line) {
            return Ok(Self::new(bus, transaction, Box::new(cable.plug())));
        }
        let port: Box<dyn Port> = match &bus.line {
            BusLine::Tcp(peer) => {
                let connect = TcpStream::connect((peer.host.as_str(), peer.port));
                let stream = timeout(Duration::from_millis(CONNECT_MS), connect).await??;
                stream.set_nodelay(true)?;
                Box::new(stream)
            }
            BusLine::Serial(serial) => Box::new(open_serial(serial)?),
        };
        Ok(Self::new(bus, transaction, port))
    }

    pub(super) fn new(bus: &BusConfig, transaction: u16, port: Box<dyn Port>) -> Self {
        let (timing, matching) = match bus.line.baud() {
            Some(baud) => (Timing::Rtu { baud, last_byte: Instant::now() }, Matching::Rtu),
            None => (Timing::Tcp { transaction }, Matching::Tcp { any: bus.any_transaction }),
        };
        // The first answer shows whether `echo = true` is right: if it is wrong, no write would ever be confirmed.
        let echo = if bus.echo == Some(false) { LocalEcho::Absent } else { LocalEcho::Unknown };
        let receiver = Receiver::new(&bus.line.to_string(), matching, echo);
        let wire = Wire { port, timing, sent: Vec::new(), written: 0, taken: 0, ended: None, receiver };
        let tap = Tap(Arc::new(Mutex::new(wire)));
        let is_serial = matching == Matching::Rtu;
        Self { client: Self::attach(&tap, is_serial), tap, is_serial }
    }

    fn attach(tap: &Tap, is_serial: bool) -> Context {
        if is_serial { rtu::attach(tap.clone()) } else { tcp::attach(tap.clone()) }
    }

    /// The number of the next request, for the connection after this one.
    #[must_use]
    pub fn transaction(&self) -> u16 {
        match self.tap.wire().timing {
            Timing::Tcp { transaction } => transaction,
            Timing::Rtu { .. } => 0,
        }
    }

    /// Whether a line that failed can go on after [`Line::settle`].
    #[must_use]
    pub fn is_serial(&self) -> bool {
        self.is_serial
    }

    /// Whether the adapter returns what is sent.
    pub(super) fn echo(&self) -> LocalEcho {
        self.tap.wire().receiver.echo
    }

    /// Takes the frames received on a serial line since the last call that answered no request.
    pub(super) fn take_unsolicited(&mut self) -> Vec<Unsolicited> {
        self.tap.wire().receiver.take_unsolicited()
    }

    /// What came since the last request was sent and is not its answer.
    pub(super) fn received(&self) -> Received {
        self.tap.wire().receiver.received()
    }

    /// Waits until a request may be sent, and drops what came before it. After an error nothing was sent, and the line is out of step.
    pub async fn ready(&mut self) -> Result<(), NotReady> {
        for _ in 0..STALE_MAX {
            if self.is_serial {
                let silent_at = self.tap.wire().silent_at();
                quiet_until(silent_at).await;
                // A port reports what lies in it only after the runtime has looked.
                tokio::task::yield_now().await;
            }
            let stale = poll_fn(|cx| Poll::Ready(self.tap.wire().drain(cx))).await;
            if !stale.map_err(|()| NotReady::Closed)? {
                return Ok(());
            }
        }
        Err(NotReady::NotSilent)
    }

    /// Waits as [`Line::ready`], sends `request` and waits for its answer, without a limit in time. Any error but [`ReplyError::Refused`]
    /// leaves the line out of step.
    pub async fn exchange(&mut self, unit: u8, request: &Request) -> Result<Reply, LineError> {
        self.ready().await?;
        self.ask(unit, request).await
    }

    /// Sends `request` on a line that is ready and waits for its answer, without a limit in time. Any error but [`ReplyError::Refused`]
    /// leaves the line out of step.
    pub async fn ask(&mut self, unit: u8, request: &Request) -> Result<Reply, LineError> {
        self.client.set_slave(Slave(unit));
        let error = match self.client.call(request.to_pdu()).await {
            Ok(Ok(response)) => return Ok(request.accept(response)?),
            Ok(Err(exception)) => return Err(ReplyError::Refused(Exception(exception.into())).into()),
            Err(error) => error,
        };
        // The crate does not recover from an error by itself.
        self.client = Self::attach(&self.tap, self.is_serial);
        let mut wire = self.tap.wire();
        match (wire.ended.take(), wire.receiver.failure.take()) {
            (Some(error), _) => Err(LineError::Ended(error)),
            (None, Some(failure)) => Err(LineError::Nonsense(failure)),
            // An answer that the crate has no type for, such as the confirmation of a coil value of its own.
            (None, None) => match wire.receiver.answer_pdu().filter(|pdu| !pdu.is_empty()) {
                Some(pdu) => Ok(request.check(pdu)?),
                None => Err(LineError::Nonsense(error.to_string())),
            },
        }
    }

    /// Gives up the request under way without keeping the line quiet: its late answer bears the number of a unit that nobody asks
    /// meanwhile.
    pub fn give_up(&mut self) {
        self.tap.wire().receiver.give_up();
        self.client = Self::attach(&self.tap, self.is_serial);
    }

    /// Whether a write came back once, and it is not known whether that is its confirmation or an echo.
    pub(super) fn is_unproven(&self, was_offline: bool) -> bool {
        self.tap.wire().receiver.is_unproven(was_offline)
    }

    /// Asks `unit` for something that it answers otherwise than by repeating the request, so that an echo shows. Without a limit in
    /// time; [`Line::is_proven`] has the result.
    pub(super) async fn probe_echo(&mut self, unit: u8, read: &Request) {
        self.give_up();
        if self.ready().await.is_ok() {
            // Whatever the device answers: an echo comes before it.
            drop(self.ask(unit, read).await);
        }
    }

    /// The end of a probe: a line that returned nothing of a read has no echo.
    pub(super) fn is_proven(&mut self) -> bool {
        let is_proven = {
            let receiver = &mut self.tap.wire().receiver;
            if receiver.received() == Received::Nothing {
                receiver.echo = LocalEcho::Absent;
            }
            receiver.echo == LocalEcho::Absent
        };
        if is_proven {
            self.give_up();
        }
        is_proven
    }

    /// Keeps a serial line quiet for `quiet` and drops what comes: after a time-out, the reply may still be on its way. Fails when the
    /// port is gone.
    pub async fn settle(&mut self, quiet: Duration) -> io::Result<()> {
        self.give_up();
        let until = Instant::now() + quiet;
        while let Ok(read) = timeout_at(until, poll_fn(|cx| self.tap.wire().poll_receive(cx))).await {
            if read? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        self.tap.wire().busy_until(Instant::now());
        Ok(())
    }
}

/// What carries the bytes of a line: a connection or a serial port.
pub(super) trait Port: AsyncRead + AsyncWrite + Send + Unpin {
    /// Drops what is not sent yet: closing a serial port waits for that, and holds up the whole program meanwhile.
    fn forget_unsent(&self) {}
}

impl Port for TcpStream {}

impl Port for SerialStream {
    fn forget_unsent(&self) {
        // A port that is gone has nothing to forget.
        drop(self.clear(ClearBuffer::Output));
    }
}

#[cfg(test)]
impl Port for tokio::io::DuplexStream {}

/// The timing of a line.
#[derive(Debug)]
enum Timing {
    /// None is kept. The transaction number goes on counting over reconnects, so that a late reply to a request of an earlier connection
    /// is recognised; the crate would begin at 0 with each connection.
    Tcp { transaction: u16 },
    /// Silence is kept after the last byte, whose last bit is on the wire at `last_byte`.
    Rtu { baud: u32, last_byte: Instant },
}

/// The port, and the request under way on it.
struct Wire {
    port: Box<dyn Port>,
    timing: Timing,
    /// The request as it is on the wire, what of it the port has taken, and what of its answer the crate has.
    sent: Vec<u8>,
    written: usize,
    taken: usize,
    /// Why the port has ended.
    ended: Option<io::Error>,
    receiver: Receiver,
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.receiver.trace_rest();
        self.port.forget_unsent();
    }
}

impl Wire {
    /// When the next request may be sent.
    fn silent_at(&self) -> Instant {
        match &self.timing {
            Timing::Rtu { baud, last_byte } => *last_byte + silence(*baud),
            Timing::Tcp { .. } => Instant::now(),
        }
    }

    /// Bytes are on the wire until `at`.
    fn busy_until(&mut self, at: Instant) {
        if let Timing::Rtu { last_byte, .. } = &mut self.timing {
            *last_byte = (*last_byte).max(at);
        }
    }

    fn begin(&mut self, frame: &[u8]) {
        self.sent.clear();
        self.sent.extend(frame);
        match &mut self.timing {
            Timing::Tcp { transaction } => {
                if let Some(head) = self.sent.first_chunk_mut() {
                    *head = transaction.to_be_bytes();
                }
                *transaction = transaction.wrapping_add(1);
            }
            // Noted before, too: nobody waits any longer while a slow port takes the bytes.
            Timing::Rtu { baud, last_byte } => *last_byte = Instant::now() + characters(frame.len(), *baud),
        }
        (self.written, self.taken, self.ended) = (0, 0, None);
        self.receiver.sent(&self.sent, frame.first_chunk().copied().unwrap_or_default());
    }

    /// Hands the request to the port. The port is not flushed: that holds up the program until its last byte is out.
    fn poll_send(&mut self, cx: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.sent.get(self.written..).filter(|rest| !rest.is_empty()) {
            match ready!(Pin::new(&mut self.port).poll_write(cx, rest)) {
                Ok(0) => return Poll::Ready(Err(self.ended(io::ErrorKind::WriteZero.into()))),
                Ok(written) => self.written += written,
                Err(error) => return Poll::Ready(Err(self.ended(error))),
            }
            if let Timing::Rtu { baud, .. } = self.timing {
                self.busy_until(Instant::now() + characters(self.sent.len(), baud));
            }
        }
        Poll::Ready(Ok(()))
    }

    fn ended(&mut self, error: io::Error) -> io::Error {
        let kind = error.kind();
        self.ended = Some(error);
        kind.into()
    }

    /// Gives the crate the answer.
    fn poll_answer(&mut self, cx: &mut task::Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            if let Some(rest) = self.receiver.answer.get(self.taken..).filter(|rest| !rest.is_empty()) {
                let part = rest.get(..buffer.remaining()).unwrap_or(rest);
                buffer.put_slice(part);
                self.taken += part.len();
                return Poll::Ready(Ok(()));
            }
            if self.receiver.failure.is_some() {
                return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
            }
            match ready!(self.poll_receive(cx)) {
                Ok(0) => return Poll::Ready(Err(self.ended(io::ErrorKind::UnexpectedEof.into()))),
                Ok(_) => {}
                Err(error) => return Poll::Ready(Err(self.ended(error))),
            }
        }
    }

    /// Reads once from the port; 0 bytes are its end.
    fn poll_receive(&mut self, cx: &mut task::Context<'_>) -> Poll<io::Result<usize>> {
        let mut bytes = [0; MBAP_BYTES + PDU_BYTES_MAX];
        let mut buffer = ReadBuf::new(&mut bytes);
        ready!(Pin::new(&mut self.port).poll_read(cx, &mut buffer))?;
        if let Timing::Rtu { last_byte, .. } = &mut self.timing {
            // What comes is no earlier than the end of the request, whatever time that was thought to need.
            let now = Instant::now();
            *last_byte = if self.receiver.is_pending() { now } else { now.max(*last_byte) };
        }
        self.receiver.push(buffer.filled());
        Poll::Ready(Ok(buffer.filled().len()))
    }

    /// Takes what lies in the port, without waiting: it answers nothing. Whether there was anything. After an error the line has ended,
    /// or over TCP is out of step: half a frame may lie behind what came.
    fn drain(&mut self, cx: &mut task::Context<'_>) -> Result<bool, ()> {
        let serial = matches!(self.timing, Timing::Rtu { .. });
        let before = self.receiver.bytes();
        loop {
            match self.poll_receive(cx) {
                Poll::Pending if serial || self.receiver.rest().is_empty() => return Ok(self.receiver.bytes() > before),
                Poll::Ready(Ok(1..)) if serial => {}
                Poll::Pending | Poll::Ready(Ok(_) | Err(_)) => return Err(()),
            }
        }
    }
}

/// The crate's end of a [`Wire`].
#[derive(Clone)]
struct Tap(Arc<Mutex<Wire>>);

impl Tap {
    fn wire(&self) -> MutexGuard<'_, Wire> {
        crate::lock(&self.0)
    }
}

impl fmt::Debug for Tap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tap")
    }
}

impl AsyncRead for Tap {
    fn poll_read(self: Pin<&mut Self>, cx: &mut task::Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.wire().poll_answer(cx, buffer)
    }
}

impl AsyncWrite for Tap {
    /// The crate writes each request in one piece.
    fn poll_write(self: Pin<&mut Self>, _: &mut task::Context<'_>, frame: &[u8]) -> Poll<io::Result<usize>> {
        self.wire().begin(frame);
        Poll::Ready(Ok(frame.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        self.wire().poll_send(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
#[path = "line_tests.rs"]
mod tests;
