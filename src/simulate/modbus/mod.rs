//! A simulated Modbus line: several devices by their profiles on one TCP port or one serial port, with faults on command.
//!
//! Owns its framing, because its faults are made there; the meaning of registers is the profile's.

mod device;

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::access::id::CardUid;
use crate::wire::modbus::{
    Exception, MBAP_BYTES, Mbap, Request, RtuLength, refusal, rtu_frame, rtu_open, rtu_request_length, tcp_frame,
};
use crate::wire::profile::{InputKind, Profile};

use device::Device;

/// Silence that ends a frame on the simulated serial line, in milliseconds. Longer than the real one: a pty has no baud rate.
const FRAME_GAP_MS: u64 = 20;
/// Requests that are remembered for tests.
const HEARD_MAX: usize = 10_000;

/// What a unit does wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    #[default]
    None,
    /// Does not answer, and does nothing.
    Silent,
    /// Answers, and does, only after this time.
    Slow(Duration),
    /// Refuses everything.
    Refuses(u8),
    /// Answers as another unit.
    WrongUnit,
    /// Answers with bytes that are no Modbus.
    Garbage,
    /// Ends the answer in the middle, without closing the line.
    HalfFrame,
    /// Closes the connection instead of answering.
    Disconnects,
    /// Does what it is told and echoes another address.
    WrongEcho,
    /// Answers with fewer registers than asked for.
    Short,
    /// Says that it switched off and does not.
    StuckRelay,
}

struct Unit {
    device: Device,
    fault: Fault,
}

struct Shared {
    units: HashMap<u8, Unit>,
    pace: Duration,
    heard: Vec<(Instant, u8, Request)>,
}

/// A simulated line and the hand that plays on it. Cheap to clone.
#[derive(Clone)]
pub struct Line {
    shared: Arc<Mutex<Shared>>,
    changed: watch::Sender<u64>,
}

/// The line's port and tasks; dropping it closes the line.
pub struct Served {
    /// Where it listens.
    pub address: SocketAddr,
    tasks: JoinSet<()>,
}

impl Served {
    /// Whether it still listens.
    #[must_use]
    pub fn is_up(&self) -> bool {
        !self.tasks.is_empty()
    }
}

impl Line {
    /// A line with these devices.
    #[must_use]
    pub fn new(units: impl IntoIterator<Item = (u8, Arc<Profile>)>) -> Self {
        let unit = |(id, profile)| (id, Unit { device: Device::new(profile), fault: Fault::None });
        let shared = Shared { units: units.into_iter().map(unit).collect(), pace: Duration::ZERO, heard: Vec::new() };
        Self { shared: Arc::new(Mutex::new(shared)), changed: watch::Sender::new(0) }
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        // A test that panicked while it held the lock has failed already.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn play<T>(&self, unit: u8, act: impl FnOnce(&mut Unit) -> T) -> Option<T> {
        let result = self.lock().units.get_mut(&unit).map(act);
        if result.is_none() {
            tracing::warn!(unit, "no such unit on the simulated line");
        }
        self.changed.send_modify(|n| *n += 1);
        result
    }

    /// Shows a card to a reader of `unit`.
    pub fn present(&self, unit: u8, reader: u16, uid: CardUid) {
        self.play(unit, |u| u.device.present(reader, uid));
    }

    /// Takes the card away.
    pub fn remove(&self, unit: u8, reader: u16) {
        self.play(unit, |u| u.device.remove(reader));
    }

    /// Sets a contact or presses a button; a counter counts one.
    pub fn input(&self, unit: u8, kind: InputKind, channel: u16, yes: bool) {
        self.play(unit, |u| u.device.input(kind, channel, yes));
    }

    /// Sets the raw registers of a point.
    pub fn set_words(&self, unit: u8, point: &str, words: &[u16]) {
        self.play(unit, |u| u.device.set_words(point, words));
    }

    /// Switches a relay by hand.
    pub fn force(&self, unit: u8, channel: u16, on: bool) {
        self.play(unit, |u| u.device.force(channel, on));
    }

    /// Makes `unit` behave so from now on.
    pub fn fault(&self, unit: u8, fault: Fault) {
        self.play(unit, |u| u.fault = fault);
    }

    /// Takes the power from `unit` for a moment: its relays are off, its registers as delivered.
    pub fn reset(&self, unit: u8) {
        self.play(unit, |u| u.device.reset());
    }

    /// How long every transaction takes.
    pub fn pace(&self, pace: Duration) {
        self.lock().pace = pace;
    }

    /// Whether a relay is on now.
    #[must_use]
    pub fn relay(&self, unit: u8, channel: u16) -> bool {
        self.lock().units.get_mut(&unit).is_some_and(|u| u.device.relay(channel, Instant::now()))
    }

    /// The requests heard so far, with their time and unit.
    #[must_use]
    pub fn heard(&self) -> Vec<(Instant, u8, Request)> {
        self.lock().heard.clone()
    }

    /// Waits until the relay is `on`. `false`: not within `limit`.
    pub async fn wait_relay(&self, unit: u8, channel: u16, on: bool, limit: Duration) -> bool {
        let mut changed = self.changed.subscribe();
        let reached = async {
            while self.relay(unit, channel) != on {
                // A relay that opens by itself changes without a request.
                if timeout(Duration::from_millis(20), changed.changed()).await.is_ok_and(|c| c.is_err()) {
                    return;
                }
            }
        };
        timeout(limit, reached).await.is_ok()
    }

    /// Listens on a TCP port of the loopback; port 0 chooses one.
    ///
    /// # Errors
    /// When the port cannot be had.
    pub async fn serve_tcp(&self, port: u16) -> io::Result<Served> {
        let listener = TcpListener::bind(("127.0.0.1", port)).await?;
        let address = listener.local_addr()?;
        let line = self.clone();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let line = line.clone();
                connections.spawn(async move {
                    // A client that goes away ends its connection and nothing else.
                    drop(stream.set_nodelay(true));
                    drop(line.connection(stream).await);
                });
                while connections.try_join_next().is_some() {}
            }
        });
        Ok(Served { address, tasks })
    }

    /// Serves one Modbus TCP connection, over whatever carries its bytes, until it ends.
    ///
    /// # Errors
    /// When the connection fails or speaks no Modbus.
    pub async fn connection(&self, mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
        loop {
            let mut header = [0; MBAP_BYTES];
            stream.read_exact(&mut header).await?;
            let mbap = Mbap::parse(header).ok_or(io::ErrorKind::InvalidData)?;
            let mut pdu = vec![0; mbap.pdu_bytes];
            stream.read_exact(&mut pdu).await?;
            let frame = |unit: u8, pdu: &[u8]| tcp_frame(mbap.transaction, unit, pdu);
            match self.transact(mbap.unit, &pdu, frame).await {
                Some(bytes) => stream.write_all(&bytes).await?,
                None if self.disconnects(mbap.unit) => return Ok(()),
                None => {}
            }
        }
    }

    fn disconnects(&self, unit: u8) -> bool {
        self.lock().units.get(&unit).is_some_and(|u| u.fault == Fault::Disconnects)
    }

    /// Serves a serial port until it ends.
    ///
    /// # Errors
    /// When the port fails.
    pub async fn serve_rtu(&self, mut port: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
        let mut frame = Vec::new();
        loop {
            let mut bytes = [0; 256];
            let gap = Duration::from_millis(FRAME_GAP_MS);
            let read = if frame.is_empty() {
                port.read(&mut bytes).await?
            } else {
                match timeout(gap, port.read(&mut bytes)).await {
                    Ok(read) => read?,
                    Err(_) => {
                        frame.clear();
                        continue;
                    }
                }
            };
            if read == 0 {
                return Ok(());
            }
            frame.extend(bytes.iter().take(read));
            while let RtuLength::Known(length) = rtu_request_length(&frame) {
                if frame.len() < length {
                    break;
                }
                let rest = frame.split_off(length);
                let request = std::mem::replace(&mut frame, rest);
                if let Some((unit, pdu)) = rtu_open(&request)
                    && let Some(answer) = self.transact(unit, pdu, rtu_frame).await
                {
                    port.write_all(&answer).await?;
                }
            }
        }
    }

    /// What `unit` answers, as bytes on the line; `None`: nothing.
    async fn transact(&self, unit: u8, pdu: &[u8], frame: impl Fn(u8, &[u8]) -> Vec<u8>) -> Option<Vec<u8>> {
        let decoded = Request::decode(pdu);
        let (pace, fault) = {
            let mut shared = self.lock();
            let fault = shared.units.get(&unit).map(|u| u.fault);
            if let Ok(request) = &decoded
                && shared.heard.len() < HEARD_MAX
            {
                shared.heard.push((Instant::now(), unit, request.clone()));
            }
            (shared.pace, fault)
        };
        if !pace.is_zero() {
            sleep(pace).await;
        }
        let fault = fault?;
        match fault {
            Fault::Silent | Fault::Disconnects => return None,
            Fault::Slow(wait) => sleep(wait).await,
            Fault::Garbage => return Some(b"HTTP/1.0 400 Bad Request\r\n\r\n".to_vec()),
            Fault::None
            | Fault::Refuses(_)
            | Fault::WrongUnit
            | Fault::HalfFrame
            | Fault::WrongEcho
            | Fault::Short
            | Fault::StuckRelay => {}
        }
        let function = pdu.first().copied().unwrap_or(0);
        let answered = decoded.and_then(|request| {
            if let Fault::Refuses(code) = fault {
                return Err(Exception(code));
            }
            if fault == Fault::StuckRelay && request.is_write() {
                return Ok(request.answer(&crate::wire::modbus::Reply::Written));
            }
            let now = Instant::now();
            let reply =
                self.play(unit, |u| u.device.answer(&request, now)).unwrap_or(Err(Exception::DEVICE_FAILURE))?;
            Ok(request.answer(&reply))
        });
        let mut answer = answered.unwrap_or_else(|exception| refusal(function, exception));
        if fault == Fault::WrongEcho
            && function > 4
            && let Some(low) = answer.get_mut(2)
        {
            *low = low.wrapping_add(8);
        }
        if fault == Fault::Short && function <= 4 {
            answer.truncate(answer.len().saturating_sub(2));
            if let Some(count) = answer.get_mut(1) {
                *count = count.saturating_sub(2);
            }
        }
        let unit = if fault == Fault::WrongUnit { unit.wrapping_add(1) } else { unit };
        let mut bytes = frame(unit, &answer);
        if fault == Fault::HalfFrame {
            bytes.truncate(bytes.len() / 2);
        }
        Some(bytes)
    }
}
