//! Frames: a PDU with unit and checksum on a serial line, or behind the MBAP header over TCP; and how frames are found among the bytes of
//! a serial line.
//!
//! Own code, because the crate keeps its framing private, delimits serial frames by length alone and gives up after twenty bytes
//! of noise.

use super::PDU_BYTES_MAX;

/// Length of the header before the PDU over TCP, in bytes (Modbus messaging on TCP/IP 1.0b, 3.1.3).
pub const MBAP_BYTES: usize = 7;
/// Longest frame on a serial line, in bytes (Modbus over serial line 1.02, 2.5.1).
pub const RTU_BYTES_MAX: usize = 256;
/// Shortest frame on a serial line, in bytes: unit, function, checksum.
const RTU_BYTES_MIN: usize = 4;

/// The checksum of the serial line (Modbus over serial line 1.02, 6.2.2). Sent low byte first.
const CRC: crc::Crc<u16> = crc::Crc::<u16>::new(&crc::CRC_16_MODBUS);

/// The frame on a serial line.
#[must_use]
pub fn rtu_frame(unit: u8, pdu: &[u8]) -> Vec<u8> {
    let mut frame = vec![unit];
    frame.extend(pdu);
    frame.extend(CRC.checksum(&frame).to_le_bytes());
    frame
}

/// Unit and PDU of a whole serial frame; `None` if the checksum is wrong.
#[must_use]
pub fn rtu_open(frame: &[u8]) -> Option<(u8, &[u8])> {
    let (body, crc) = frame.split_at_checked(frame.len().checked_sub(2)?)?;
    let (unit, pdu) = body.split_first()?;
    (!pdu.is_empty() && crc == CRC.checksum(body).to_le_bytes()).then_some((*unit, pdu))
}

/// How long the request that begins with these bytes is on a serial line, in bytes; `None`: more bytes are needed, or the
/// function is not known.
#[must_use]
pub fn rtu_request_bytes(bytes: &[u8]) -> Option<usize> {
    let counted = |at: usize| bytes.get(at).map(|count| at + 1 + usize::from(*count) + 2);
    match bytes.get(1)? {
        1..=6 => Some(8),
        15 | 16 => counted(6),
        23 => counted(10),
        _ => None,
    }
}

/// How long the reply that begins with these bytes is on a serial line, in bytes; `None` as with [`rtu_request_bytes`].
#[must_use]
pub fn rtu_reply_bytes(bytes: &[u8]) -> Option<usize> {
    match bytes.get(1)? {
        1..=4 | 23 => bytes.get(2).map(|count| 5 + usize::from(*count)),
        5 | 6 | 15 | 16 => Some(8),
        0x81.. => Some(5),
        _ => None,
    }
}

/// Finds the frames of a serial line by length and checksum, wherever they begin. It needs no silence between frames: adapters
/// deliver bytes in pieces and late, so silence that a program measures shows nothing about the line. A frame is found with its last
/// byte, noise before it or the beginning of another frame does not hide it, and each length is tried once.
///
/// What looks like a frame may lie inside another one: the UID of a card travels in frames, and whoever chooses a UID chooses bytes
/// with a right checksum. So a frame is not taken while an earlier byte may begin one that reaches beyond it.
#[derive(Debug, Default)]
pub struct RtuDecoder {
    bytes: Vec<u8>,
    /// No frame ends before this byte.
    searched: usize,
    /// The line was silent here: nothing before this byte reaches beyond it.
    quiet_at: usize,
}

impl RtuDecoder {
    /// These bytes were received.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
    }

    /// The next frame, with the bytes before it that belong to none. `fits` returns whether these bytes have
    /// a length that a frame with this beginning may have, `reach` how long the longest frame with this beginning is.
    pub fn next(&mut self, fits: impl Fn(&[u8]) -> bool, reach: impl Fn(&[u8]) -> usize) -> Option<(Vec<u8>, Vec<u8>)> {
        while self.searched < self.bytes.len() {
            self.searched += 1;
            let received = self.bytes.get(..self.searched)?;
            let frame = |start: &usize| received.get(*start..).is_some_and(|b| fits(b) && rtu_open(b).is_some());
            let starts = self.searched.saturating_sub(RTU_BYTES_MAX)..(self.searched + 1).saturating_sub(RTU_BYTES_MIN);
            if let Some(start) = starts.into_iter().find(frame) {
                let earlier = if start >= self.quiet_at { self.quiet_at..start } else { 0..start };
                let reaches_beyond = |at: usize| received.get(at..).is_some_and(|b| reach(b) > b.len());
                if !earlier.into_iter().any(reaches_beyond) {
                    return Some(self.split(start));
                }
            }
        }
        // What is longer than a frame can be begins none.
        let excess = self.bytes.len().saturating_sub(RTU_BYTES_MAX);
        self.bytes.drain(..excess);
        self.quiet_at = self.quiet_at.saturating_sub(excess);
        self.searched = self.bytes.len();
        None
    }

    /// Nothing more has come for a while: what ends here is a frame if its checksum is right, whatever it lies in.
    pub fn end(&mut self, fits: impl Fn(&[u8]) -> bool) -> Option<Vec<u8>> {
        self.quiet_at = self.bytes.len();
        let starts = 0..(self.bytes.len() + 1).saturating_sub(RTU_BYTES_MIN);
        let frame = |start: &usize| self.bytes.get(*start..).is_some_and(|b| fits(b) && rtu_open(b).is_some());
        let start = starts.into_iter().find(frame)?;
        Some(self.split(start).1)
    }

    /// Noise and frame, when the frame is what was searched last.
    fn split(&mut self, start: usize) -> (Vec<u8>, Vec<u8>) {
        let rest = self.bytes.split_off(self.searched);
        let frame = self.bytes.split_off(start);
        (self.searched, self.quiet_at) = (0, 0);
        (std::mem::replace(&mut self.bytes, rest), frame)
    }

    /// Removes the first bytes.
    pub fn skip(&mut self, count: usize) {
        self.bytes.drain(..count.min(self.bytes.len()));
        (self.searched, self.quiet_at) = (0, 0);
    }

    /// The bytes that are no frame so far.
    #[must_use]
    pub fn rest(&self) -> &[u8] {
        &self.bytes
    }

    /// Removes the bytes that are no frame so far, and returns them.
    pub fn clear(&mut self) -> Vec<u8> {
        (self.searched, self.quiet_at) = (0, 0);
        std::mem::take(&mut self.bytes)
    }
}

/// The frame over TCP.
#[must_use]
pub fn tcp_frame(transaction: u16, unit: u8, pdu: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(MBAP_BYTES + pdu.len());
    frame.extend(transaction.to_be_bytes());
    frame.extend([0, 0]);
    frame.extend(u16::try_from(pdu.len() + 1).unwrap_or(u16::MAX).to_be_bytes());
    frame.push(unit);
    frame.extend(pdu);
    frame
}

/// The header of a TCP frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mbap {
    /// Chosen by the client, repeated by the server.
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
