//! The transport under the client of `tokio-modbus`: between the crate and an opened port.
//!
//! The crate delimits serial frames by length alone, takes any frame of the unit for the answer, and stays out of step after it.
//! So the tap passes on only one frame: of the unit asked, with a right checksum or the right transaction number. It drops noise,
//! other units' frames and the adapter's echo, notes when bytes were on the line, traces each frame, and remembers what was sent
//! and what was received instead of an answer. It knows no deadline and decodes no PDU.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_serial::{ClearBuffer, SerialPort, SerialStream};

use crate::wire::modbus::{MBAP_BYTES, Mbap, PDU_BYTES_MAX, RtuDecoder, hex, rtu_reply_bytes};

use super::received::{Received, Unsolicited};
use super::serial::{characters, silence};

/// Unsolicited frames kept until somebody takes them; later ones are dropped.
const UNSOLICITED_MAX: usize = 16;
/// Bytes before an answer that are noise, and cannot be an echo of the request.
const NOISE_BYTES_MAX: usize = 2;

/// What a line is made of: a connection or a serial port.
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

/// How requests and replies belong together.
#[derive(Debug)]
pub(super) enum Framing {
    /// By a transaction number. It goes on counting over reconnects, so that a late reply to a request of an earlier connection
    /// is known as such; the crate begins at 0 with each.
    Tcp {
        /// The number of the next request.
        transaction: u16,
        /// The device does not repeat the number: any answer is that to the request under way.
        any: bool,
    },
    /// By order alone.
    Rtu {
        baud: u32,
        /// When the last byte was, or will be, out on the wire.
        last_byte: Instant,
    },
}

/// Whether a serial adapter returns what is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LocalEcho {
    /// No answer has shown it yet.
    Unknown,
    /// An answer came without an echo before it.
    Absent,
    /// Configured, or seen.
    Present,
}

/// Why the crate gets no answer although the deadline has not passed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("the connection ended: {0}")]
    Ended(io::Error),
    #[error("the bytes received are no Modbus TCP frame")]
    NotModbus,
    #[error("unit {got} answered, unit {asked} was asked")]
    OtherUnit { asked: u8, got: u8 },
}

/// The port, and the request under way on it.
pub(super) struct Wire {
    name: String,
    port: Box<dyn Port>,
    framing: Framing,
    pub(super) echo: LocalEcho,
    /// The request as it is on the wire; what of it the port has taken; whether its answer is still to come.
    sent: Vec<u8>,
    written: usize,
    pending: bool,
    /// The first two bytes of the request as the crate wrote them: its transaction number over TCP.
    head: [u8; 2],
    /// Bytes received since the request, and whole copies of the request among them.
    bytes_received: usize,
    copies: u32,
    received: Received,
    decoder: RtuDecoder,
    partial: Vec<u8>,
    /// The answer, and how much of it the crate has taken.
    answer: Vec<u8>,
    taken: usize,
    pub(super) failure: Option<Failure>,
    unsolicited: Vec<Unsolicited>,
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.trace_rest();
        self.port.forget_unsent();
    }
}

impl Wire {
    pub(super) fn new(name: &str, port: Box<dyn Port>, framing: Framing, echo: LocalEcho) -> Self {
        Self {
            name: name.to_owned(),
            port,
            framing,
            echo,
            sent: Vec::new(),
            written: 0,
            pending: false,
            head: [0; 2],
            bytes_received: 0,
            copies: 0,
            received: Received::Nothing,
            decoder: RtuDecoder::default(),
            partial: Vec::new(),
            answer: Vec::new(),
            taken: 0,
            failure: None,
            unsolicited: Vec::new(),
        }
    }

    /// The number of the next request, for the connection after this one.
    pub(super) fn transaction(&self) -> u16 {
        match self.framing {
            Framing::Tcp { transaction, .. } => transaction,
            Framing::Rtu { .. } => 0,
        }
    }

    pub(super) fn is_serial(&self) -> bool {
        matches!(self.framing, Framing::Rtu { .. })
    }

    /// When the next request may be sent.
    pub(super) fn silent_at(&self) -> Instant {
        match &self.framing {
            Framing::Rtu { baud, last_byte } => *last_byte + silence(*baud),
            Framing::Tcp { .. } => Instant::now(),
        }
    }

    /// Bytes are on the wire until `at`.
    pub(super) fn busy_until(&mut self, at: Instant) {
        if let Framing::Rtu { last_byte, .. } = &mut self.framing {
            *last_byte = (*last_byte).max(at);
        }
    }

    /// What came instead of an answer.
    pub(super) fn received(&self) -> Received {
        let rest = if self.is_serial() { self.decoder.rest() } else { &self.partial };
        match rest {
            [] => self.received.clone(),
            rest => Received::Bytes(rest.len(), rest.iter().take(3).copied().collect()),
        }
    }

    /// The PDU of the answer passed on.
    pub(super) fn answer_pdu(&self) -> Option<&[u8]> {
        let around = if self.is_serial() { (1, 2) } else { (MBAP_BYTES, 0) };
        self.answer.get(around.0..self.answer.len().checked_sub(around.1)?)
    }

    /// FC 5 and 6: an answer without an exception is the request itself, and so is an echo.
    fn is_ambiguous(&self) -> bool {
        self.is_serial() && matches!(self.sent.get(1), Some(5 | 6))
    }

    /// A write came back once and no answer after it: an echo or the confirmation.
    pub(super) fn is_unproven(&self) -> bool {
        self.echo == LocalEcho::Unknown && self.copies == 1 && self.is_ambiguous() && self.decoder.rest().is_empty()
    }

    /// The request under way is given up: what comes from now on answers nothing.
    pub(super) fn give_up(&mut self) {
        self.pending = false;
    }

    pub(super) fn take_unsolicited(&mut self) -> Vec<Unsolicited> {
        std::mem::take(&mut self.unsolicited)
    }

    /// What had begun is cut off by what is sent now, or by the end.
    fn trace_rest(&mut self) {
        for rest in [self.decoder.clear(), std::mem::take(&mut self.partial)] {
            if !rest.is_empty() {
                tracing::trace!(target: "dormgate::frames", line = %self.name, "< {} (cut off)", hex(&rest));
            }
        }
    }

    fn begin(&mut self, frame: &[u8]) {
        self.trace_rest();
        self.sent.clear();
        self.sent.extend(frame);
        self.head = frame.first_chunk().copied().unwrap_or_default();
        match &mut self.framing {
            Framing::Tcp { transaction, .. } => {
                if let Some(head) = self.sent.first_chunk_mut() {
                    *head = transaction.to_be_bytes();
                }
                *transaction = transaction.wrapping_add(1);
            }
            // Noted before, too: nobody waits any longer while a slow port takes the bytes.
            Framing::Rtu { baud, last_byte } => *last_byte = Instant::now() + characters(frame.len(), *baud),
        }
        (self.written, self.pending, self.taken, self.bytes_received, self.copies) = (0, true, 0, 0, 0);
        self.received = Received::Nothing;
        self.answer.clear();
        self.failure = None;
        tracing::trace!(target: "dormgate::frames", line = %self.name, "> {}", hex(&self.sent));
    }

    /// Hands the request to the port. The port is not flushed: that holds up the program until its last byte is out.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.sent.get(self.written..).filter(|rest| !rest.is_empty()) {
            match ready!(Pin::new(&mut self.port).poll_write(cx, rest)) {
                Ok(0) => return Poll::Ready(Err(self.ended(io::ErrorKind::WriteZero.into()))),
                Ok(written) => self.written += written,
                Err(error) => return Poll::Ready(Err(self.ended(error))),
            }
            if let Framing::Rtu { baud, .. } = self.framing {
                self.busy_until(Instant::now() + characters(self.sent.len(), baud));
            }
        }
        Poll::Ready(Ok(()))
    }

    fn ended(&mut self, error: io::Error) -> io::Error {
        let kind = error.kind();
        self.failure = Some(Failure::Ended(error));
        kind.into()
    }

    /// Gives the crate the answer.
    fn poll_answer(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            if let Some(rest) = self.answer.get(self.taken..).filter(|rest| !rest.is_empty()) {
                let part = rest.get(..buffer.remaining()).unwrap_or(rest);
                buffer.put_slice(part);
                self.taken += part.len();
                return Poll::Ready(Ok(()));
            }
            if self.failure.is_some() {
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
    pub(super) fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut bytes = [0; MBAP_BYTES + PDU_BYTES_MAX];
        let mut buffer = ReadBuf::new(&mut bytes);
        ready!(Pin::new(&mut self.port).poll_read(cx, &mut buffer))?;
        let bytes = buffer.filled();
        self.bytes_received += bytes.len();
        if self.is_serial() {
            self.receive_rtu(bytes);
        } else {
            self.receive_tcp(bytes);
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn receive_rtu(&mut self, bytes: &[u8]) {
        if let Framing::Rtu { last_byte, .. } = &mut self.framing {
            // What comes is no earlier than the end of the request, whatever time that was thought to need.
            let now = Instant::now();
            *last_byte = if self.pending { now } else { now.max(*last_byte) };
        }
        self.decoder.push(bytes);
        loop {
            let (sent, pending) = (&self.sent, self.pending);
            let fits = |bytes: &[u8]| rtu_reply_bytes(bytes) == Some(bytes.len()) || (pending && bytes == sent);
            let Some((noise, frame)) = self.decoder.next(fits) else { return };
            if !noise.is_empty() {
                tracing::trace!(target: "dormgate::frames", line = %self.name, "< {} (noise)", hex(&noise));
            }
            self.frame(frame);
        }
    }

    /// A whole frame of a serial line.
    fn frame(&mut self, frame: Vec<u8>) {
        let (&[unit, function, ..], &[asked, wanted, ..]) = (&*frame, &*self.sent) else { return };
        let note = if self.pending && frame == self.sent && self.is_echo() {
            self.received = Received::OnlyEcho;
            " (local echo)"
        } else if self.pending && unit == asked && function & 0x7F == wanted {
            match self.echo {
                LocalEcho::Unknown if self.copies > 0 => self.echo = LocalEcho::Present,
                LocalEcho::Unknown if self.bytes_received <= frame.len() + NOISE_BYTES_MAX => {
                    self.echo = LocalEcho::Absent;
                }
                LocalEcho::Unknown | LocalEcho::Absent | LocalEcho::Present => {}
            }
            self.pending = false;
            ""
        } else {
            self.received = if unit == asked { Received::OtherFunction(function) } else { Received::OtherUnit(unit) };
            if self.unsolicited.len() < UNSOLICITED_MAX {
                self.unsolicited.push(Unsolicited { unit, function, at: Instant::now() });
            }
            " (unsolicited)"
        };
        tracing::trace!(target: "dormgate::frames", line = %self.name, "< {}{note}", hex(&frame));
        if note.is_empty() {
            self.answer = frame;
        }
    }

    /// Whether a frame that equals the request is the adapter's echo. The confirmation of FC 5 and 6 equals it too: while no
    /// answer has shown that the line has no echo, only a second copy confirms.
    fn is_echo(&mut self) -> bool {
        self.copies += 1;
        match (self.is_ambiguous(), self.echo) {
            (false, _) => self.echo = LocalEcho::Present,
            (true, LocalEcho::Absent) => return false,
            (true, LocalEcho::Unknown) if self.copies > 1 => self.echo = LocalEcho::Present,
            (true, LocalEcho::Unknown | LocalEcho::Present) => {}
        }
        !self.is_ambiguous() || self.copies == 1
    }

    fn receive_tcp(&mut self, bytes: &[u8]) {
        self.partial.extend(bytes);
        while let Some(header) = self.partial.first_chunk().filter(|_| self.pending) {
            let Some(mbap) = Mbap::parse(*header) else {
                self.failure = Some(Failure::NotModbus);
                return;
            };
            if self.partial.len() < MBAP_BYTES + mbap.pdu_bytes {
                return;
            }
            let rest = self.partial.split_off(MBAP_BYTES + mbap.pdu_bytes);
            let mut frame = std::mem::replace(&mut self.partial, rest);
            tracing::trace!(target: "dormgate::frames", line = %self.name, "< {}", hex(&frame));
            let any = matches!(self.framing, Framing::Tcp { any: true, .. });
            let asked = self.sent.get(6).copied().unwrap_or_default();
            if !any && frame.get(..2) != self.sent.get(..2) {
                self.received = Received::OtherTransaction;
            } else if mbap.unit == asked {
                if let Some(head) = frame.first_chunk_mut() {
                    *head = self.head;
                }
                self.answer = frame;
                self.pending = false;
            } else {
                self.failure = Some(Failure::OtherUnit { asked, got: mbap.unit });
                return;
            }
        }
    }

    /// Takes what lies in the port, without waiting: it answers nothing. Whether there was anything.
    ///
    /// # Errors
    /// The line has ended, or over TCP is out of step: half a frame may lie behind what came.
    pub(super) fn drain(&mut self, cx: &mut Context<'_>) -> Result<bool, ()> {
        let before = self.bytes_received;
        loop {
            match self.poll_receive(cx) {
                Poll::Pending if self.is_serial() || self.partial.is_empty() => return Ok(self.bytes_received > before),
                Poll::Ready(Ok(1..)) if self.is_serial() => {}
                Poll::Pending | Poll::Ready(Ok(_) | Err(_)) => return Err(()),
            }
        }
    }
}

/// The crate's end of a [`Wire`].
#[derive(Clone)]
pub(super) struct Tap(Arc<Mutex<Wire>>);

impl Tap {
    pub(super) fn new(wire: Wire) -> Self {
        Self(Arc::new(Mutex::new(wire)))
    }

    /// Only one task uses a line, and nothing panics under the lock.
    pub(super) fn wire(&self) -> MutexGuard<'_, Wire> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Tap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tap")
    }
}

impl AsyncRead for Tap {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.wire().poll_answer(cx, buffer)
    }
}

impl AsyncWrite for Tap {
    /// The crate writes each request in one piece.
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, frame: &[u8]) -> Poll<io::Result<usize>> {
        self.wire().begin(frame);
        Poll::Ready(Ok(frame.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.wire().poll_send(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
