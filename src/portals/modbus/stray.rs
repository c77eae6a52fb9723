//! Frames that answer nobody who waits: the answers to what was asked long ago, and other units' talk. Owns finding them among
//! bytes; how late they are is `late`'s.

use tokio::time::Instant;

use crate::wire::modbus::{PDU_BYTES_MAX, rtu_open};

/// Stray frames kept until somebody asks for them; the newest are kept no longer than that.
const STRAYS_MAX: usize = 16;
/// Unit and checksum around each PDU, in bytes.
const AROUND_BYTES: usize = 3;

/// A frame that answers nobody who waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stray {
    /// Whose it is.
    pub(super) unit: u8,
    /// Its function, with the bit of a refusal.
    pub(super) function: u8,
    /// When its last byte came.
    pub(super) at: Instant,
}

/// The stray frames of one serial line.
#[derive(Debug, Default)]
pub(super) struct Strays {
    /// The beginning of a frame whose end has not come.
    begun: Vec<u8>,
    found: Vec<Stray>,
}

impl Strays {
    /// These bytes came, and nobody waits for them.
    pub(super) fn hear(&mut self, bytes: &[u8]) {
        self.begun.extend(bytes);
        while let [_, function, first, ..] = *self.begun {
            let length = foreign_pdu_bytes(function, first).map(|bytes| bytes + AROUND_BYTES);
            if length.is_some_and(|length| self.begun.len() < length) {
                return;
            }
            let frame = length.and_then(|length| self.begun.get(..length)).filter(|frame| rtu_open(frame).is_some());
            // What begins no frame is passed over, byte by byte.
            let passed = frame.map_or(1, <[u8]>::len);
            if let Some([unit, function, ..]) = frame.map(<[u8]>::to_vec).as_deref() {
                self.found(*unit, *function);
            }
            self.begun.drain(..passed);
        }
    }

    /// A whole frame of this unit was heard.
    pub(super) fn found(&mut self, unit: u8, function: u8) {
        if self.found.len() < STRAYS_MAX {
            self.found.push(Stray { unit, function, at: Instant::now() });
        }
    }

    /// Something is sent now: what had begun is cut off by it.
    pub(super) fn cut_off(&mut self) {
        self.begun.clear();
    }

    /// Those found since they were last asked for.
    pub(super) fn take(&mut self) -> Vec<Stray> {
        std::mem::take(&mut self.found)
    }
}

/// How long the answer of a unit that was not asked is without unit and checksum, by its function and the byte after it; `None`:
/// nobody asked for that.
pub(super) fn foreign_pdu_bytes(function: u8, first: u8) -> Option<usize> {
    match function {
        1..=4 => Some(2 + usize::from(first)).filter(|bytes| *bytes <= PDU_BYTES_MAX),
        5 | 6 | 15 | 16 => Some(5),
        0x80.. => Some(2),
        0 | 7..=14 | 17..=0x7F => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::modbus::rtu_frame;

    #[tokio::test]
    async fn frames_are_found_in_pieces_between_noise_and_beside_each_other() {
        let mut bytes = vec![0xFF, 0x00];
        bytes.extend(rtu_frame(1, &[3, 2, 0, 7]));
        bytes.extend(rtu_frame(2, &[0x83, 2]));
        bytes.push(9);
        bytes.extend(rtu_frame(20, &[5, 0, 1, 0xFF, 0]));
        for piece in 1..bytes.len() {
            let mut strays = Strays::default();
            bytes.chunks(piece).for_each(|piece| strays.hear(piece));
            let found: Vec<_> = strays.take().iter().map(|stray| (stray.unit, stray.function)).collect();
            assert_eq!(found, [(1, 3), (2, 0x83), (20, 5)], "in pieces of {piece}");
            assert_eq!(strays.take(), []);
        }
    }

    #[tokio::test]
    async fn a_spoilt_frame_and_one_cut_off_are_nobodys() {
        let mut strays = Strays::default();
        let mut spoilt = rtu_frame(1, &[3, 2, 0, 7]);
        spoilt[4] ^= 1;
        strays.hear(&spoilt);
        let whole = rtu_frame(2, &[3, 2, 0, 7]);
        strays.cut_off();
        strays.hear(&whole[..4]);
        strays.cut_off();
        strays.hear(&whole[4..]);
        assert_eq!(strays.take(), []);
    }
}
