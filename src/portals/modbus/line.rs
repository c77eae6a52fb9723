//! One physical line: a TCP connection or a serial port, and one exchange on it.
//!
//! Owns framing, the silence between frames, and the check that what comes back is the answer. It never tries again and
//! knows no queue; whoever gets an error must call [`Line::settle`] or drop the line before the next exchange.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_serial::{ClearBuffer, SerialPort, SerialStream};

use crate::wire::modbus::{
    MBAP_BYTES, Mbap, PDU_BYTES_MAX, Reply, ReplyError, Request, hex, rtu_frame, rtu_open, tcp_frame,
};

use super::heard::{Came, Heard, fill};
pub use super::serial::{Parity, SerialSpec};
use super::serial::{characters, quiet_until};
pub(super) use super::serial::{open_serial, silence};
use super::stray::{Stray, Strays, foreign_pdu_bytes};

/// Longest time to set up a TCP connection, in milliseconds.
pub const CONNECT_MS: u64 = 1000;
/// Replies to earlier requests that are skipped in one exchange before the connection counts as out of step.
const LATE_REPLIES_MAX: usize = 8;
/// How often bytes may come in the silence before a request until the line counts as never silent.
const STALE_MAX: usize = 8;

/// Where a line is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LineSpec {
    /// `host:port`.
    Tcp(String),
    /// A serial port.
    Serial(SerialSpec),
    /// A line in memory, for time that is not real.
    #[cfg(test)]
    Memory(super::tests::cable::Cable),
}

impl LineSpec {
    /// For logs.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Tcp(address) => address,
            Self::Serial(serial) => &serial.port,
            #[cfg(test)]
            Self::Memory(_) => "memory",
        }
    }
}

/// Why nothing can be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotReady {
    /// The line was found closed, or out of step.
    #[error("was closed before the request was sent")]
    Closed,
    /// Bytes go on coming.
    #[error("does not fall silent: something else sends on it, or it is disturbed")]
    NotSilent,
}

/// Why an exchange brought nothing.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// Nothing was sent.
    #[error("the line {0}")]
    NotReady(#[from] NotReady),
    /// The line ended.
    #[error("the connection ended: {0}")]
    Ended(#[from] io::Error),
    /// What came is no Modbus.
    #[error("what came back is no Modbus frame")]
    NotModbus,
    /// What came begins with these bytes, and no answer on a serial line does.
    #[error("what came back begins with `{}` and is no Modbus frame", hex(.0))]
    NoFrame([u8; 3]),
    /// The frame's checksum is wrong.
    #[error("the checksum of the reply is wrong")]
    Checksum,
    /// Another unit answered.
    #[error("unit {got} answered, unit {asked} was asked")]
    WrongUnit {
        /// Asked.
        asked: u8,
        /// Answered.
        got: u8,
    },
    /// The reply does not answer the request, or refuses it.
    #[error(transparent)]
    Reply(#[from] ReplyError),
}

trait Port: AsyncRead + AsyncWrite + Send + Unpin {
    /// Drops what was taken and is not sent: closing a serial port waits for that, and holds up the whole program meanwhile.
    fn forget_unsent(&self) {}
}

impl Port for BufReader<TcpStream> {}

impl Port for SerialStream {
    fn forget_unsent(&self) {
        // A port that is gone has nothing to forget.
        drop(self.clear(ClearBuffer::Output));
    }
}

#[cfg(test)]
impl Port for tokio::io::DuplexStream {}

enum Framing {
    Tcp {
        transaction: u16,
    },
    /// `last_byte`: when the last byte was, or will be, out on the wire.
    Rtu {
        baud: u32,
        last_byte: Instant,
    },
}

impl Framing {
    /// Bytes were on the wire until `at`.
    fn busy_until(&mut self, at: Instant) {
        if let Self::Rtu { last_byte, .. } = self {
            *last_byte = (*last_byte).max(at);
        }
    }
}

/// An open line.
pub struct Line {
    name: String,
    port: Box<dyn Port>,
    framing: Framing,
    strays: Strays,
    came: Came,
}

impl Drop for Line {
    fn drop(&mut self) {
        self.port.forget_unsent();
    }
}

impl Line {
    /// Opens the line. `transaction` goes on counting over reconnects, so that a late reply to an earlier connection's
    /// request is known as such.
    ///
    /// # Errors
    /// When it cannot be opened within [`CONNECT_MS`].
    pub async fn open(spec: &LineSpec, transaction: u16) -> io::Result<Self> {
        match spec {
            LineSpec::Tcp(address) => {
                let stream = timeout(Duration::from_millis(CONNECT_MS), TcpStream::connect(address)).await??;
                stream.set_nodelay(true)?;
                // A frame comes as a header and a rest, and is one read.
                let port = Box::new(BufReader::with_capacity(MBAP_BYTES + PDU_BYTES_MAX, stream));
                Ok(Self::tcp(address, port, transaction))
            }
            LineSpec::Serial(serial) => {
                let port = open_serial(serial)?;
                Ok(Self::rtu(&serial.port, Box::new(port), serial.baud))
            }
            #[cfg(test)]
            LineSpec::Memory(cable) => Ok(match cable.plug() {
                (port, Some(baud)) => Self::rtu("memory", Box::new(port), baud),
                (port, None) => Self::tcp("memory", Box::new(port), transaction),
            }),
        }
    }

    fn rtu(name: &str, port: Box<dyn Port>, baud: u32) -> Self {
        let framing = Framing::Rtu { baud, last_byte: Instant::now() };
        Self { name: name.to_owned(), port, framing, strays: Strays::default(), came: Came::Nothing }
    }

    fn tcp(name: &str, port: Box<dyn Port>, transaction: u16) -> Self {
        let framing = Framing::Tcp { transaction };
        Self { name: name.to_owned(), port, framing, strays: Strays::default(), came: Came::Nothing }
    }

    /// The number of the next request, for the connection after this one.
    #[must_use]
    pub fn transaction(&self) -> u16 {
        match self.framing {
            Framing::Tcp { transaction } => transaction,
            Framing::Rtu { .. } => 0,
        }
    }

    /// Whether a line that failed can go on after [`Line::settle`].
    #[must_use]
    pub fn can_settle(&self) -> bool {
        matches!(self.framing, Framing::Rtu { .. })
    }

    /// The frames heard on a serial line since the last call that answered nobody.
    pub(super) fn take_strays(&mut self) -> Vec<Stray> {
        self.strays.take()
    }

    /// What came since the last request was sent and did not answer it.
    pub(super) fn came(&self) -> Came {
        self.came
    }

    /// Waits until a request may be sent, and drops what came before it.
    ///
    /// # Errors
    /// Nothing was sent, and the line is out of step.
    pub async fn ready(&mut self) -> Result<(), NotReady> {
        match self.framing {
            Framing::Tcp { .. } => self.drop_stale().await.map(drop),
            Framing::Rtu { .. } => self.fall_silent().await,
        }
    }

    /// Makes [`Line::ready`], sends `request` and waits for its answer, without a limit in time.
    ///
    /// # Errors
    /// Anything but [`ReplyError::Refused`] leaves the line out of step.
    pub async fn exchange(&mut self, unit: u8, request: &Request) -> Result<Reply, LineError> {
        self.ready().await?;
        self.ask(unit, request).await
    }

    /// Sends `request` on a line that is ready and waits for its answer, without a limit in time.
    ///
    /// # Errors
    /// Anything but [`ReplyError::Refused`] leaves the line out of step.
    pub async fn ask(&mut self, unit: u8, request: &Request) -> Result<Reply, LineError> {
        self.strays.cut_off();
        self.came = Came::Nothing;
        let pdu = match &mut self.framing {
            Framing::Tcp { transaction } => {
                let asked = *transaction;
                *transaction = transaction.wrapping_add(1);
                self.exchange_tcp(asked, unit, request).await?
            }
            Framing::Rtu { baud, .. } => {
                let baud = *baud;
                self.exchange_rtu(unit, request, baud).await?
            }
        };
        Ok(request.check(&pdu)?)
    }

    /// Hands `frame` to the port. It is not flushed: that holds up the whole program until a serial port has sent its last byte.
    async fn send(&mut self, frame: &[u8]) -> io::Result<()> {
        tracing::trace!(target: "dormgate::frames", line = %self.name, "> {}", hex(frame));
        self.port.write_all(frame).await
    }

    /// Waits until nothing has been on the wire for as long as must be between two frames; what comes meanwhile answers nobody.
    async fn fall_silent(&mut self) -> Result<(), NotReady> {
        for _ in 0..STALE_MAX {
            if let Framing::Rtu { baud, last_byte } = &self.framing {
                quiet_until(*last_byte + silence(*baud)).await;
            }
            // A port tells what lies in it only after the runtime has looked.
            tokio::task::yield_now().await;
            if !self.drop_stale().await? {
                return Ok(());
            }
        }
        Err(NotReady::NotSilent)
    }

    async fn exchange_tcp(&mut self, transaction: u16, unit: u8, request: &Request) -> Result<Vec<u8>, LineError> {
        self.send(&tcp_frame(transaction, unit, &request.encode())).await?;
        for _ in 0..LATE_REPLIES_MAX {
            let mut heard = Heard::new(&self.name, &mut self.came);
            fill(&mut self.port, &mut heard.frame, MBAP_BYTES).await?;
            let header = heard.frame.first_chunk().copied().unwrap_or_default();
            let mbap = Mbap::parse(header).ok_or(LineError::NotModbus)?;
            fill(&mut self.port, &mut heard.frame, MBAP_BYTES + mbap.pdu_bytes).await?;
            let pdu = heard.whole().split_off(MBAP_BYTES);
            if mbap.transaction != transaction {
                self.came = Came::OtherRequest;
                continue;
            }
            if mbap.unit != unit {
                return Err(LineError::WrongUnit { asked: unit, got: mbap.unit });
            }
            return Ok(pdu);
        }
        Err(LineError::NotModbus)
    }

    async fn exchange_rtu(&mut self, unit: u8, request: &Request, baud: u32) -> Result<Vec<u8>, LineError> {
        let frame = rtu_frame(unit, &request.encode());
        let takes = characters(frame.len(), baud);
        // Said before, too: nobody may wait any longer while a slow port takes the bytes.
        self.framing.busy_until(Instant::now() + takes);
        self.send(&frame).await?;
        self.framing.busy_until(Instant::now() + takes);
        let mut got = unit;
        for _ in 0..LATE_REPLIES_MAX {
            let frame = self.frame_rtu(unit, request).await?;
            let (from, pdu) = rtu_open(&frame).ok_or(LineError::Checksum)?;
            if from == unit {
                return Ok(pdu.to_vec());
            }
            got = from;
            self.came = Came::Other(from);
            self.strays.found(from, pdu.first().copied().unwrap_or(0));
        }
        Err(LineError::WrongUnit { asked: unit, got })
    }

    /// The next frame: as long as the answer of `unit`, or as another unit's frame says that it is.
    async fn frame_rtu(&mut self, unit: u8, request: &Request) -> Result<Vec<u8>, LineError> {
        let mut heard = Heard::new(&self.name, &mut self.came);
        let read = async {
            // Unit, function, and the exception's code or the first byte of the answer.
            fill(&mut self.port, &mut heard.frame, 3).await?;
            let pdu_bytes = match *heard.frame {
                [from, function, first] if from != unit => {
                    foreign_pdu_bytes(function, first).ok_or(LineError::NoFrame([from, function, first]))?
                }
                [_, function, _] if function == request.function() | 0x80 => 2,
                _ => request.reply_bytes(),
            };
            Ok(fill(&mut self.port, &mut heard.frame, pdu_bytes + 3).await?)
        }
        .await;
        if let Framing::Rtu { last_byte, .. } = &mut self.framing {
            // What came is no earlier than the end of the request, whatever time that was thought to need.
            *last_byte = Instant::now();
        }
        read.map(|()| heard.whole())
    }

    /// Takes what lies in the port, without waiting: the late reply to a request long given up. Says whether there was anything.
    async fn drop_stale(&mut self) -> Result<bool, NotReady> {
        let mut stale = false;
        loop {
            let mut bytes = [0; PDU_BYTES_MAX];
            let mut buffer = ReadBuf::new(&mut bytes);
            let port = Pin::new(&mut self.port);
            let mut port = Some(port);
            let read = poll_fn(|cx| {
                Poll::Ready(match port.take().map(|port| port.poll_read(cx, &mut buffer)) {
                    Some(Poll::Ready(result)) => Some(result),
                    Some(Poll::Pending) | None => None,
                })
            })
            .await;
            match read {
                None => return Ok(stale),
                Some(Ok(())) if buffer.filled().is_empty() => return Err(NotReady::Closed),
                Some(Ok(())) => {
                    tracing::trace!(target: "dormgate::frames", line = %self.name, "< {} (stale)", hex(buffer.filled()));
                    // Half a frame may lie behind it: the connection is out of step.
                    if matches!(self.framing, Framing::Tcp { .. }) {
                        return Err(NotReady::Closed);
                    }
                    self.strays.hear(buffer.filled());
                    stale = true;
                    self.framing.busy_until(Instant::now());
                }
                Some(Err(_)) => return Err(NotReady::Closed),
            }
        }
    }

    /// Keeps a serial line quiet for `quiet` and throws away what comes: after a time-out, the reply may still be on its way.
    ///
    /// # Errors
    /// When the port is gone.
    pub async fn settle(&mut self, quiet: Duration) -> io::Result<()> {
        let until = Instant::now() + quiet;
        let mut bytes = [0; PDU_BYTES_MAX];
        while let Ok(read) = tokio::time::timeout_at(until, self.port.read(&mut bytes)).await {
            let read = read?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let late = bytes.get(..read).unwrap_or_default();
            tracing::trace!(target: "dormgate::frames", line = %self.name, "< {} (late)", hex(late));
            self.strays.hear(late);
        }
        self.framing.busy_until(Instant::now());
        Ok(())
    }
}

#[cfg(test)]
#[path = "line_tests.rs"]
mod tests;
