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
/// Silence after which the beginning of a frame belongs to nothing, in milliseconds: the master has given it up. Kept, it could make a
/// frame with the first bytes of a later request.
const BROKEN_MS: u64 = 1000;
/// Longest wait for one read where no silence is to be found, in milliseconds; then the port is read again.
const FOREVER_MS: u64 = 3_600_000;
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

/// Serves one TCP connection until it ends, is idle for too long, or carries something else than Modbus.
///
/// # Errors
/// Why it ended.
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

/// Serves one serial line until the port fails. A unit that is no portal is not answered: another device on the line may have it.
///
/// # Errors
/// When the port fails or ends.
pub(super) async fn serve_rtu(
    sessions: &Sessions,
    name: &str,
    mut port: impl AsyncRead + AsyncWrite + Unpin,
) -> io::Result<()> {
    let mut decoder = RtuDecoder::default();
    let mut sent: Option<(Vec<u8>, Instant)> = None;
    loop {
        let frame = next_request(sessions, name, &mut port, &mut decoder).await?;
        // The adapter may repeat what was sent; of all replies only that of FC 6 is a request too.
        let is_echo = |(reply, at): (Vec<u8>, Instant)| reply == frame && at.elapsed() < Duration::from_millis(ECHO_MS);
        if sent.take().is_some_and(is_echo) {
            continue;
        }
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
        sent = Some((reply, Instant::now()));
    }
}

/// The next frame for one of our units. Frames of other units are recognised, requests and replies alike, so that no part of them
/// is taken for ours.
async fn next_request(
    sessions: &Sessions,
    name: &str,
    port: &mut (impl AsyncRead + Unpin),
    decoder: &mut RtuDecoder,
) -> io::Result<Vec<u8>> {
    let ours = |frame: &[u8]| frame.first().is_some_and(|unit| sessions.contains_key(unit));
    let fits = |bytes: &[u8]| {
        let length = Some(bytes.len());
        rtu_request_bytes(bytes) == length || (!ours(bytes) && rtu_reply_bytes(bytes) == length)
    };
    // Silence ends a frame whose function is not known, once.
    let mut may_end = true;
    loop {
        while let Some((_, frame)) = decoder.next(fits) {
            if ours(&frame) {
                return Ok(frame);
            }
        }
        let mut bytes = [0; RTU_BYTES_MAX];
        let gap = match (decoder.rest().is_empty(), may_end) {
            (true, _) => FOREVER_MS,
            (false, true) => GAP_MS,
            (false, false) => BROKEN_MS,
        };
        if let Ok(read) = timeout(Duration::from_millis(gap), port.read(&mut bytes)).await {
            decoder.push(received(name, &bytes, read?)?);
            may_end = true;
        } else if !may_end {
            decoder.clear();
        } else {
            may_end = false;
            let unknown = |bytes: &[u8]| {
                ours(bytes)
                    && Request::decode(bytes.get(1..bytes.len() - 2).unwrap_or_default())
                        == Err(Exception::ILLEGAL_FUNCTION)
            };
            if let Some(frame) = decoder.end(unknown) {
                return Ok(frame);
            }
        }
    }
}

/// The bytes that were read; none are the end of the port.
fn received<'b>(name: &str, bytes: &'b [u8], read: usize) -> io::Result<&'b [u8]> {
    let bytes = bytes.get(..read).filter(|bytes| !bytes.is_empty()).ok_or(io::ErrorKind::UnexpectedEof)?;
    tracing::trace!(target: "dormgate::frames", line = name, "< {}", hex(bytes));
    Ok(bytes)
}
