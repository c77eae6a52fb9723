//! The bytes between controllers and portal sessions, over TCP connections and on a serial line. No byte sequence ends the server.

use std::collections::HashMap;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout};

use crate::wire::modbus::{
    Exception, MBAP_BYTES, Mbap, RTU_BYTES_MAX, Request, RtuDecoder, hex, refusal, rtu_frame, rtu_open,
    rtu_reply_bytes, rtu_request_bytes, tcp_frame,
};

use super::SERVER_BUS;
use super::session::PortalSession;

/// How long a connection may be idle, in milliseconds.
pub const IDLE_MS_MAX: u64 = 60_000;
/// How long the rest of a frame may take over TCP, and a reply to be taken, in milliseconds.
const FRAME_MS_MAX: u64 = 5000;
/// Silence that ends a frame of an unknown function on a serial line, in milliseconds. Adapters hold bytes back for up to 16.
const GAP_MS: u64 = 40;
/// Silence after which a whole request that lies in what may be the beginning of another frame is one, in milliseconds. Longer than
/// any adapter holds bytes back, shorter than a master waits.
const INSIDE_MS: u64 = 100;
/// Silence after which the beginning of a frame belongs to nothing, in milliseconds: the master has given it up. Kept, it could make a
/// frame with the first bytes of a later request.
const BROKEN_MS: u64 = 1000;
/// Longest wait for one read where no silence is to be found, in milliseconds; then the port is read again.
const FOREVER_MS: u64 = 3_600_000;
/// The highest unit of a device (Modbus over serial line 1.02, 2.2).
const UNIT_MAX: u8 = 247;
/// How long after a reply the same bytes are the adapter's echo of it, in milliseconds.
const ECHO_MS: u64 = 100;
/// Most bytes behind a request that are the noise of a transmitter that switches off, and not the next request.
const NOISE_BYTES: usize = 1;

/// The portals by unit id.
pub(super) type Sessions = Arc<HashMap<u8, Arc<PortalSession>>>;

/// The PDU that answers `pdu` of `peer` for `unit`; `None`: the unit is no portal.
async fn answer(sessions: &Sessions, peer: &str, unit: u8, pdu: &[u8]) -> Option<Vec<u8>> {
    let session = sessions.get(&unit)?;
    let served = match Request::decode(pdu) {
        Ok(request) => session.serve(&request).await.map(|reply| request.answer(&reply)),
        Err(exception) => Err(exception),
    };
    Some(served.unwrap_or_else(|exception| refuse(peer, unit, pdu, exception)))
}

/// The PDU of an exception, with a log line for whoever commissions a controller. Controllers poll, so its level is `debug`.
fn refuse(peer: &str, unit: u8, pdu: &[u8], exception: Exception) -> Vec<u8> {
    let function = pdu.first().copied().unwrap_or(0);
    let address = pdu.get(1..3).and_then(|bytes| bytes.try_into().ok()).map(u16::from_be_bytes);
    tracing::debug!(bus = SERVER_BUS, peer, unit, function, address, error = %exception, "a request of a controller is rejected");
    refusal(function, exception)
}

async fn in_time<T>(ms: u64, what: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(Duration::from_millis(ms), what).await?
}

/// Serves one TCP connection until it ends, is idle for too long, or carries something else than Modbus. The error names why it ended.
pub(super) async fn serve_tcp(
    sessions: &Sessions,
    peer: &str,
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
) -> io::Result<()> {
    loop {
        let mut header = [0; MBAP_BYTES];
        let (first, rest) = header.split_at_mut(1);
        in_time(IDLE_MS_MAX, stream.read_exact(first)).await?;
        in_time(FRAME_MS_MAX, stream.read_exact(rest)).await?;
        let mbap =
            Mbap::parse(header).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no Modbus TCP frame"))?;
        let mut pdu = vec![0; mbap.pdu_bytes];
        in_time(FRAME_MS_MAX, stream.read_exact(&mut pdu)).await?;
        tracing::trace!(target: "dormgate::frames", line = peer, "< {} {}", hex(&header), hex(&pdu));
        let reply = answer(sessions, peer, mbap.unit, &pdu).await;
        let reply = reply.unwrap_or_else(|| refuse(peer, mbap.unit, &pdu, Exception::NO_SUCH_UNIT));
        let frame = tcp_frame(mbap.transaction, mbap.unit, &reply);
        tracing::trace!(target: "dormgate::frames", line = peer, "> {}", hex(&frame));
        in_time(FRAME_MS_MAX, stream.write_all(&frame)).await?;
    }
}

/// Serves one serial line until the port fails. A unit that is no portal is not answered: another device on the line may have it. Fails
/// when the port fails or ends.
pub(super) async fn serve_rtu(
    sessions: &Sessions,
    name: &str,
    mut port: impl AsyncRead + AsyncWrite + Unpin,
) -> io::Result<()> {
    let mut decoder = RtuDecoder::default();
    let mut echo = Echo::default();
    loop {
        let frame = next_request(sessions, name, &mut port, (&mut decoder, &mut echo)).await?;
        let Some((unit, pdu)) = rtu_open(&frame) else { continue };
        let mut answering = pin!(answer(sessions, name, unit, pdu));
        let mut bytes = [0; RTU_BYTES_MAX];
        let reply = loop {
            tokio::select! {
                biased;
                read = port.read(&mut bytes) => decoder.push(received(name, &bytes, read?)?),
                reply = &mut answering => break reply,
            }
        };
        let Some(reply) = reply.map(|pdu| rtu_frame(unit, &pdu)) else { continue };
        // The master has given up this request and sends the next one: the reply would collide with it.
        if decoder.rest().len() > NOISE_BYTES {
            tracing::debug!(bus = SERVER_BUS, line = name, unit, "a reply is too late and is not sent");
            continue;
        }
        tracing::trace!(target: "dormgate::frames", line = name, "> {}", hex(&reply));
        port.write_all(&reply).await?;
        echo.sent = Some((reply, Instant::now()));
    }
}

/// What an adapter that repeats what is sent puts in front of the next request.
#[derive(Default)]
struct Echo {
    /// The last reply, and when it was sent, until what follows it was seen.
    sent: Option<(Vec<u8>, Instant)>,
    /// Whether the adapter repeats; unknown until something followed a reply.
    is_there: Option<bool>,
}

impl Echo {
    /// Removes the echo of the last reply. `false`: what has come so far may be the beginning of it.
    fn strip(&mut self, decoder: &mut RtuDecoder) -> bool {
        let Some((reply, at)) = &self.sent else { return true };
        // The reply to FC 6 is a request too, and a master may send the same again.
        let is_request = reply.get(1) == Some(&6);
        let within_ms = match self.is_there {
            Some(false) if is_request => 0,
            None if is_request => GAP_MS,
            _ => ECHO_MS,
        };
        let (rest, may_be) = (decoder.rest(), at.elapsed() < Duration::from_millis(within_ms));
        if may_be && reply.len() > rest.len() && reply.starts_with(rest) {
            return false;
        }
        let is_echo = may_be && rest.starts_with(reply);
        if !is_request {
            self.is_there = Some(is_echo);
        }
        if is_echo {
            decoder.skip(reply.len());
        }
        self.sent = None;
        true
    }
}

/// The next request to one of our units. Frames of other units are recognised, requests and replies alike, and nothing that lies
/// in one of them, or in a request to us, is taken for a request.
async fn next_request(
    sessions: &Sessions,
    name: &str,
    port: &mut (impl AsyncRead + Unpin),
    (decoder, echo): (&mut RtuDecoder, &mut Echo),
) -> io::Result<Vec<u8>> {
    let ours = |frame: &[u8]| frame.first().is_some_and(|unit| sessions.contains_key(unit));
    let fits = |bytes: &[u8]| {
        let length = Some(bytes.len());
        rtu_request_bytes(bytes) == length || (!ours(bytes) && rtu_reply_bytes(bytes) == length)
    };
    let longest = |bytes: &[u8]| match bytes.first() {
        // To all units are only writes, and there is no reply.
        Some(0) if bytes.get(1).is_some_and(|function| matches!(function, 5 | 6 | 15 | 16)) => {
            rtu_request_bytes(bytes).unwrap_or(0)
        }
        Some(1..=UNIT_MAX) => rtu_request_bytes(bytes).max(rtu_reply_bytes(bytes)).unwrap_or(0),
        _ => 0,
    };
    let reach = |bytes: &[u8]| Some(longest(bytes)).filter(|length| *length <= RTU_BYTES_MAX).unwrap_or(0);
    let unknown = |bytes: &[u8]| {
        ours(bytes)
            && Request::decode(bytes.get(1..bytes.len() - 2).unwrap_or_default()) == Err(Exception::ILLEGAL_FUNCTION)
    };
    let mut silent_ms = 0;
    loop {
        while echo.strip(decoder)
            && let Some((_, frame)) = decoder.next(fits, reach)
        {
            if ours(&frame) {
                return Ok(frame);
            }
        }
        let mut bytes = [0; RTU_BYTES_MAX];
        let ends_ms = match silent_ms {
            _ if decoder.rest().is_empty() => FOREVER_MS,
            0 => GAP_MS,
            GAP_MS => INSIDE_MS,
            _ => BROKEN_MS,
        };
        let gap = Duration::from_millis(ends_ms - silent_ms);
        if let Ok(read) = timeout(gap, port.read(&mut bytes)).await {
            decoder.push(received(name, &bytes, read?)?);
            silent_ms = 0;
            continue;
        }
        // Each ends something once: a frame whose function is not known, a request in front of which there was something, all.
        silent_ms = ends_ms;
        let ended = match ends_ms {
            GAP_MS => decoder.end(unknown),
            INSIDE_MS => decoder.end(|bytes| ours(bytes) && fits(bytes)),
            _ => {
                decoder.clear();
                silent_ms = 0;
                None
            }
        };
        if let Some(frame) = ended {
            return Ok(frame);
        }
    }
}

/// The bytes that were read; none are the end of the port.
fn received<'b>(name: &str, bytes: &'b [u8], read: usize) -> io::Result<&'b [u8]> {
    let bytes = bytes.get(..read).filter(|bytes| !bytes.is_empty()).ok_or(io::ErrorKind::UnexpectedEof)?;
    tracing::trace!(target: "dormgate::frames", line = name, "< {}", hex(bytes));
    Ok(bytes)
}
