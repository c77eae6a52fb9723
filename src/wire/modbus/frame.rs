//! What stands around a PDU: unit and checksum on a serial line, the MBAP header over TCP; and where a frame ends.

use super::PDU_BYTES_MAX;
use super::request::item_count;

/// Length of the header before the PDU over TCP, in bytes (Modbus messaging on TCP/IP 1.0b, 3.1.3).
pub const MBAP_BYTES: usize = 7;

/// The checksum of the serial line (Modbus over serial line 1.02, 6.2.2). Sent low byte first.
#[must_use]
pub fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0xFFFF, |crc, byte| {
        (0..8).fold(crc ^ u16::from(*byte), |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0xA001 } else { crc >> 1 })
    })
}

/// The frame on a serial line.
#[must_use]
pub fn rtu_frame(unit: u8, pdu: &[u8]) -> Vec<u8> {
    let mut frame = vec![unit];
    frame.extend(pdu);
    frame.extend(crc16(&frame).to_le_bytes());
    frame
}

/// How long the request that begins with these bytes is on a serial line, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RtuLength {
    /// So long.
    Known(usize),
    /// More bytes are needed to say.
    More,
    /// The function is not known: only silence ends the frame.
    Unknown,
}

/// Where the request that `bytes` begin with ends on a serial line, by function and byte count.
#[must_use]
pub fn rtu_request_length(bytes: &[u8]) -> RtuLength {
    let counted = |at: usize| bytes.get(at).map_or(RtuLength::More, |n| RtuLength::Known(at + 1 + usize::from(*n) + 2));
    match bytes.get(1) {
        None => RtuLength::More,
        Some(1..=6) => RtuLength::Known(8),
        Some(15 | 16) => counted(6),
        Some(23) => counted(10),
        Some(_) => RtuLength::Unknown,
    }
}

/// Unit and PDU of a whole serial frame; `None` if the checksum is wrong.
#[must_use]
pub fn rtu_open(frame: &[u8]) -> Option<(u8, &[u8])> {
    let (body, crc) = frame.split_at_checked(frame.len().checked_sub(2)?)?;
    let (unit, pdu) = body.split_first()?;
    (crc == crc16(body).to_le_bytes() && !pdu.is_empty()).then_some((*unit, pdu))
}

/// The frame over TCP.
#[must_use]
pub fn tcp_frame(transaction: u16, unit: u8, pdu: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(MBAP_BYTES + pdu.len());
    frame.extend(transaction.to_be_bytes());
    frame.extend([0, 0]);
    frame.extend(item_count(pdu.len() + 1).to_be_bytes());
    frame.push(unit);
    frame.extend(pdu);
    frame
}

/// The header of a TCP frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mbap {
    /// Chosen by the asker, echoed.
    pub transaction: u16,
    /// Which device.
    pub unit: u8,
    /// Length of the PDU that follows, in bytes; 1 to [`PDU_BYTES_MAX`].
    pub pdu_bytes: usize,
}

impl Mbap {
    /// The header in these bytes; `None`: this is not Modbus.
    #[must_use]
    pub fn parse(header: [u8; MBAP_BYTES]) -> Option<Self> {
        let [t0, t1, p0, p1, l0, l1, unit] = header;
        let pdu_bytes = usize::from(u16::from_be_bytes([l0, l1])).checked_sub(1)?;
        let modbus = [p0, p1] == [0, 0] && (1..=PDU_BYTES_MAX).contains(&pdu_bytes);
        modbus.then_some(Self { transaction: u16::from_be_bytes([t0, t1]), unit, pdu_bytes })
    }
}

/// Bytes as people write frames: `01 05 00 00 FF 00 8C 3A`.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02X}")).collect::<Vec<_>>().join(" ")
}
