//! The bytes between controllers and desks: TCP connections and a serial line. Survives any bytes.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use crate::wire::modbus::{
    Exception, MBAP_BYTES, Mbap, Request, RtuLength, hex, refusal, rtu_frame, rtu_open, rtu_request_length, tcp_frame,
};

use super::SERVER_BUS;
use super::desk::Desk;

/// How long a connection may be idle, in milliseconds.
pub const IDLE_MS_MAX: u64 = 60_000;
/// How long the rest of a frame may take over TCP, and a reply to be taken, in milliseconds.
const FRAME_MS_MAX: u64 = 5000;
/// Silence after which a half frame on a serial line is dropped, in milliseconds. Adapters hold bytes back for up to 16.
const GAP_MS: u64 = 40;
/// Longest frame on a serial line, in bytes (Modbus over serial line 1.02, 2.5.1).
const RTU_BYTES_MAX: usize = 256;

/// The portals by unit id.
pub(super) type Desks = Arc<HashMap<u8, Arc<Desk>>>;

/// The PDU that answers `pdu` of `peer` for `unit`; `None`: the unit is no portal.
async fn answer(desks: &Desks, peer: &str, unit: u8, pdu: &[u8]) -> Option<Vec<u8>> {
    let desk = desks.get(&unit)?;
    let served = match Request::decode(pdu) {
        Ok(request) => desk.serve(&request).await.map(|reply| request.answer(&reply)),
        Err(exception) => Err(exception),
    };
    Some(served.unwrap_or_else(|exception| refuse(peer, unit, pdu, exception)))
}

/// Refuses a request, and says so: whoever sets a controller up looks here. A controller asks all the time, so it is said softly.
fn refuse(peer: &str, unit: u8, pdu: &[u8], exception: Exception) -> Vec<u8> {
    let function = pdu.first().copied().unwrap_or(0);
    let address = pdu.get(1..3).and_then(|bytes| bytes.try_into().ok()).map(u16::from_be_bytes);
    tracing::debug!(bus = SERVER_BUS, peer, unit, function, address, error = %exception, "a controller's request is refused");
    refusal(function, exception)
}

async fn in_time<T>(ms: u64, what: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(Duration::from_millis(ms), what).await?
}

/// Serves one TCP connection until it ends, is idle for too long, or speaks no Modbus.
///
/// # Errors
/// Why it ended.
pub(super) async fn serve_tcp(
    desks: &Desks,
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
        let reply = answer(desks, peer, mbap.unit, &pdu).await;
        let reply = reply.unwrap_or_else(|| refuse(peer, mbap.unit, &pdu, Exception::NO_SUCH_UNIT));
        let frame = tcp_frame(mbap.transaction, mbap.unit, &reply);
        tracing::trace!(target: "dormgate::frames", line = peer, "> {}", hex(&frame));
        in_time(FRAME_MS_MAX, stream.write_all(&frame)).await?;
    }
}

/// Serves one serial line until the port fails. A unit that is no portal is not answered: it may be another device's.
///
/// # Errors
/// When the port fails or ends.
pub(super) async fn serve_rtu(
    desks: &Desks,
    name: &str,
    mut port: impl AsyncRead + AsyncWrite + Unpin,
) -> io::Result<()> {
    let mut held: Vec<u8> = Vec::new();
    loop {
        let mut bytes = [0; RTU_BYTES_MAX];
        let read = if held.is_empty() {
            port.read(&mut bytes).await?
        } else {
            match timeout(Duration::from_millis(GAP_MS), port.read(&mut bytes)).await {
                Ok(read) => read?,
                Err(_) => {
                    // Silence ends a frame, also one of a function that is not known.
                    if let Some(frame) = reply_to(desks, name, &held).await {
                        port.write_all(&frame).await?;
                    }
                    held.clear();
                    continue;
                }
            }
        };
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        held.extend(bytes.iter().take(read));
        tracing::trace!(target: "dormgate::frames", line = name, "< {}", hex(&held));
        while let RtuLength::Known(length) = rtu_request_length(&held) {
            if held.len() < length {
                break;
            }
            let rest = held.split_off(length);
            let frame = std::mem::replace(&mut held, rest);
            match reply_to(desks, name, &frame).await {
                Some(reply) => {
                    tracing::trace!(target: "dormgate::frames", line = name, "> {}", hex(&reply));
                    port.write_all(&reply).await?;
                }
                // Another's frame, or noise: what follows without silence belongs to it.
                None if rtu_open(&frame).is_none() => held.clear(),
                None => {}
            }
        }
        if held.len() > RTU_BYTES_MAX {
            held.clear();
        }
    }
}

async fn reply_to(desks: &Desks, name: &str, frame: &[u8]) -> Option<Vec<u8>> {
    let (unit, pdu) = rtu_open(frame)?;
    Some(rtu_frame(unit, &answer(desks, name, unit, pdu).await?))
}
