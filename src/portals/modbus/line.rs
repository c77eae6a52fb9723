//! One physical line: a TCP connection or a serial port, and one exchange on it by the client of `tokio-modbus`.
//!
//! Owns the silence before a request and the check that the response answers it. It never retries and knows no queue: after an
//! error its caller calls [`Line::settle`] or drops the line before the next exchange.

use std::future::poll_fn;
use std::io;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_modbus::Slave;
use tokio_modbus::client::{Client, Context, rtu, tcp};
use tokio_modbus::slave::SlaveContext;

use crate::config::SerialConfig;
use crate::wire::modbus::{Exception, Reply, ReplyError, Request};

use super::received::{Received, Unsolicited};
use super::serial::{open_serial, quiet_until};
use super::tap::{Failure, Framing, LocalEcho, Port, Tap, Wire};

/// Longest time to set up a TCP connection, in milliseconds.
pub const CONNECT_MS: u64 = 1000;
/// How often bytes may come in the silence before a request until the line counts as never silent.
const STALE_MAX: usize = 8;

/// Where a line is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LineSpec {
    /// `host:port`.
    Tcp(String),
    /// A serial port.
    Serial(SerialConfig),
    /// A line in memory, for tests with paused time.
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

    /// The speed of a serial line.
    #[must_use]
    pub fn baud(&self) -> Option<u32> {
        match self {
            Self::Serial(serial) => Some(serial.baud),
            Self::Tcp(_) => None,
            #[cfg(test)]
            Self::Memory(cable) => cable.baud(),
        }
    }
}

/// What is peculiar to the devices or the adapter of a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LineOptions {
    /// Whether the serial adapter returns what is sent; `None`: it is found out.
    pub echo: Option<bool>,
    /// The device answers with any transaction number.
    pub any_transaction: bool,
    /// The number of the first request over TCP.
    pub transaction: u16,
}

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
    /// Opens the line.
    ///
    /// # Errors
    /// When it cannot be opened within [`CONNECT_MS`].
    pub async fn open(spec: &LineSpec, options: LineOptions) -> io::Result<Self> {
        match spec {
            LineSpec::Tcp(address) => {
                let stream = timeout(Duration::from_millis(CONNECT_MS), TcpStream::connect(address)).await??;
                stream.set_nodelay(true)?;
                Ok(Self::new(address, Box::new(stream), None, options))
            }
            LineSpec::Serial(serial) => {
                let port = open_serial(serial)?;
                Ok(Self::new(&serial.port, Box::new(port), Some(serial.baud), options))
            }
            #[cfg(test)]
            LineSpec::Memory(cable) => Ok(Self::new("memory", Box::new(cable.plug()), cable.baud(), options)),
        }
    }

    pub(super) fn new(name: &str, port: Box<dyn Port>, baud: Option<u32>, options: LineOptions) -> Self {
        let framing = match baud {
            Some(baud) => Framing::Rtu { baud, last_byte: Instant::now() },
            None => Framing::Tcp { transaction: options.transaction, any: options.any_transaction },
        };
        let echo = match options.echo {
            None => LocalEcho::Unknown,
            Some(false) => LocalEcho::Absent,
            Some(true) => LocalEcho::Present,
        };
        let tap = Tap::new(Wire::new(name, port, framing, echo));
        let is_serial = baud.is_some();
        Self { client: Self::attach(&tap, is_serial), tap, is_serial }
    }

    fn attach(tap: &Tap, is_serial: bool) -> Context {
        if is_serial { rtu::attach(tap.clone()) } else { tcp::attach(tap.clone()) }
    }

    /// The number of the next request, for the connection after this one.
    #[must_use]
    pub fn transaction(&self) -> u16 {
        self.tap.wire().transaction()
    }

    /// Whether a line that failed can go on after [`Line::settle`].
    #[must_use]
    pub fn is_serial(&self) -> bool {
        self.is_serial
    }

    /// Whether the adapter returns what is sent.
    #[must_use]
    pub fn has_echo(&self) -> bool {
        self.tap.wire().echo == LocalEcho::Present
    }

    /// Takes the frames received on a serial line since the last call that answered no request.
    pub(super) fn take_unsolicited(&mut self) -> Vec<Unsolicited> {
        self.tap.wire().take_unsolicited()
    }

    /// What came since the last request was sent and is not its answer.
    pub(super) fn received(&self) -> Received {
        self.tap.wire().received()
    }

    /// Waits until a request may be sent, and drops what came before it.
    ///
    /// # Errors
    /// Nothing was sent, and the line is out of step.
    pub async fn ready(&mut self) -> Result<(), NotReady> {
        for _ in 0..STALE_MAX {
            if self.is_serial {
                let silent_at = self.tap.wire().silent_at();
                quiet_until(silent_at).await;
                // A port reports what lies in it only after the runtime has looked.
                tokio::task::yield_now().await;
            }
            let stale = poll_fn(|cx| std::task::Poll::Ready(self.tap.wire().drain(cx))).await;
            if !stale.map_err(|()| NotReady::Closed)? {
                return Ok(());
            }
        }
        Err(NotReady::NotSilent)
    }

    /// Waits as [`Line::ready`], sends `request` and waits for its answer, without a limit in time.
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
        self.client.set_slave(Slave(unit));
        let error = match self.client.call(request.to_pdu()).await {
            Ok(Ok(response)) => return Ok(request.accept(response)?),
            Ok(Err(exception)) => return Err(ReplyError::Refused(Exception(exception.into())).into()),
            Err(error) => error,
        };
        // The crate does not recover from an error by itself.
        self.client = Self::attach(&self.tap, self.is_serial);
        let mut wire = self.tap.wire();
        match wire.failure.take() {
            Some(Failure::Ended(error)) => Err(LineError::Ended(error)),
            Some(failure) => Err(LineError::Nonsense(failure.to_string())),
            // An answer that the crate has no type for, such as the confirmation of a coil value of its own.
            None => match wire.answer_pdu().filter(|pdu| !pdu.is_empty()) {
                Some(pdu) => Ok(request.check(pdu)?),
                None => Err(LineError::Nonsense(error.to_string())),
            },
        }
    }

    /// Gives up the request under way without keeping the line quiet: its late answer bears the number of a unit that nobody asks
    /// meanwhile.
    pub fn give_up(&mut self) {
        self.tap.wire().give_up();
        self.client = Self::attach(&self.tap, self.is_serial);
    }

    /// Whether a write came back once, on a line of which is not known whether its adapter echoes.
    pub(super) fn is_unproven(&self) -> bool {
        self.tap.wire().is_unproven()
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
            let mut wire = self.tap.wire();
            if wire.echo == LocalEcho::Unknown && wire.received() == Received::Nothing {
                wire.echo = LocalEcho::Absent;
            }
            wire.echo == LocalEcho::Absent
        };
        if is_proven {
            self.give_up();
        }
        is_proven
    }

    /// Keeps a serial line quiet for `quiet` and drops what comes: after a time-out, the reply may still be on its way.
    ///
    /// # Errors
    /// When the port is gone.
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

#[cfg(test)]
#[path = "line_tests.rs"]
mod tests;
