//! The bytes received on a line: frames are found among them; noise, frames of other units and the adapter's echo are dropped; and the
//! frame of the unit asked, with a right checksum or the right transaction number, is the answer. What was dropped is kept for the log,
//! for late replies, and for the decision what to do next.
//!
//! The crate delimits serial frames by length alone, takes any frame of the unit for the answer, and stays out of step after it; so it
//! gets no more than the answer. No deadline is known here, and no PDU decoded.

use std::time::Duration;

use tokio::time::Instant;

use crate::wire::modbus::{MBAP_BYTES, Mbap, RtuDecoder, hex, rtu_reply_bytes};

/// Unsolicited frames kept until somebody takes them; later ones are dropped.
const UNSOLICITED_MAX: usize = 16;
/// Most bytes before an answer that are noise and cannot be an echo of the request.
const NOISE_BYTES_MAX: usize = 2;

/// What came since the last request was sent and is not its answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Received {
    /// No byte.
    #[default]
    Nothing,
    /// So many bytes that are no whole frame, beginning with these.
    Bytes(usize, Vec<u8>),
    /// Only the echo of the request.
    OnlyEcho,
    /// A whole frame of this unit, which was not asked.
    OtherUnit(u8),
    /// A whole frame of the unit asked, of this function, which was not asked for.
    OtherFunction(u8),
    /// Over TCP a whole frame with the number of another request.
    OtherTransaction,
}

impl Received {
    /// Why there is no answer: a device that is off is another fault than spoilt bytes, or another device with its number.
    pub(super) fn cause(&self, asked: u8, limit: Duration) -> String {
        let ms = limit.as_millis();
        match self {
            Received::Nothing => format!("no answer within {ms} ms; check power, wiring and unit number"),
            Received::Bytes(bytes, first) => format!(
                "no whole answer within {ms} ms: {bytes} bytes came, beginning with `{}`, and are no frame with a right checksum; check speed, parity and wiring",
                hex(first)
            ),
            Received::OnlyEcho => format!(
                "no answer within {ms} ms, only the adapter's echo of the request; check power, wiring and unit number"
            ),
            Received::OtherUnit(unit) => format!("only unit {unit} answered within {ms} ms, unit {asked} was asked"),
            Received::OtherFunction(function) => {
                format!("no answer within {ms} ms, only one of function {}", function & 0x7F)
            }
            Received::OtherTransaction => format!(
                "no answer within {ms} ms, only one with another transaction number; if the device never repeats the number, set `any_transaction = true` in its `[[bus]]`"
            ),
        }
    }
}

/// A frame that answers no request under way: a late reply, or another unit's traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unsolicited {
    pub(super) unit: u8,
    /// Its function, with the bit of an exception.
    pub(super) function: u8,
    /// When its last byte came.
    pub(super) at: Instant,
}

/// Whether a serial adapter returns what is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LocalEcho {
    /// No exchange has shown it yet.
    Unknown,
    /// An answer came without an echo before it.
    Absent,
    /// An echo came.
    Present,
}

/// How an answer is matched to its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Matching {
    /// By order alone, on a serial line.
    Rtu,
    /// By the transaction number, unless the device does not repeat it: then any answer is that to the request under way.
    Tcp {
        /// It does not.
        any: bool,
    },
}

/// The request under way, and what was received since it was sent.
pub(super) struct Receiver {
    name: String,
    matching: Matching,
    pub(super) echo: LocalEcho,
    /// The request as it is on the wire, and whether its answer is still to come.
    sent: Vec<u8>,
    pending: bool,
    /// The first two bytes of the request as the crate wrote them: its transaction number over TCP.
    head: [u8; 2],
    /// Bytes received since the request, and whole copies of the request among them.
    bytes: usize,
    copies: u32,
    instead: Received,
    decoder: RtuDecoder,
    partial: Vec<u8>,
    /// The answer, as the crate takes it.
    pub(super) answer: Vec<u8>,
    /// Why there will be none, although the deadline has not passed.
    pub(super) failure: Option<String>,
    unsolicited: Vec<Unsolicited>,
}

impl Receiver {
    pub(super) fn new(name: &str, matching: Matching, echo: LocalEcho) -> Self {
        Self {
            name: name.to_owned(),
            matching,
            echo,
            sent: Vec::new(),
            pending: false,
            head: [0; 2],
            bytes: 0,
            copies: 0,
            instead: Received::Nothing,
            decoder: RtuDecoder::default(),
            partial: Vec::new(),
            answer: Vec::new(),
            failure: None,
            unsolicited: Vec::new(),
        }
    }

    fn is_serial(&self) -> bool {
        self.matching == Matching::Rtu
    }

    /// A request is sent, which the crate wrote with `head` at its beginning.
    pub(super) fn sent(&mut self, frame: &[u8], head: [u8; 2]) {
        self.trace_rest();
        tracing::trace!(target: "dormgate::frames", line = %self.name, "> {}", hex(frame));
        self.sent.clear();
        self.sent.extend(frame);
        (self.head, self.pending, self.bytes, self.copies) = (head, true, 0, 0);
        (self.instead, self.failure) = (Received::Nothing, None);
        self.answer.clear();
    }

    /// An answer is still to come.
    pub(super) fn is_pending(&self) -> bool {
        self.pending
    }

    /// The request under way is given up: what comes from now on answers nothing.
    pub(super) fn give_up(&mut self) {
        self.pending = false;
    }

    /// Bytes received since the request.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// What came instead of an answer.
    pub(super) fn received(&self) -> Received {
        match self.rest() {
            [] => self.instead.clone(),
            rest => Received::Bytes(rest.len(), rest.iter().take(3).copied().collect()),
        }
    }

    /// The bytes that are no whole frame yet.
    pub(super) fn rest(&self) -> &[u8] {
        if self.is_serial() { self.decoder.rest() } else { &self.partial }
    }

    /// The PDU of the answer.
    pub(super) fn answer_pdu(&self) -> Option<&[u8]> {
        let around = if self.is_serial() { (1, 2) } else { (MBAP_BYTES, 0) };
        self.answer.get(around.0..self.answer.len().checked_sub(around.1)?)
    }

    pub(super) fn take_unsolicited(&mut self) -> Vec<Unsolicited> {
        std::mem::take(&mut self.unsolicited)
    }

    /// Logs received bytes that made no frame: the next request or the end of the line cuts them off.
    pub(super) fn trace_rest(&mut self) {
        for rest in [self.decoder.clear(), std::mem::take(&mut self.partial)] {
            if !rest.is_empty() {
                tracing::trace!(target: "dormgate::frames", line = %self.name, "< {} (cut off)", hex(&rest));
            }
        }
    }

    /// FC 5 and 6: an answer without an exception is the request itself, and so is an echo.
    fn is_ambiguous(&self) -> bool {
        self.is_serial() && matches!(self.sent.get(1), Some(5 | 6))
    }

    /// A write came back once and no answer after it: an echo or the confirmation. On a line that has an echo, too: its adapter may be
    /// another one now. Of a unit that was offline it is an echo.
    pub(super) fn is_unproven(&self, was_offline: bool) -> bool {
        let may_be_confirmed = match self.echo {
            LocalEcho::Unknown => true,
            LocalEcho::Present => !was_offline,
            LocalEcho::Absent => false,
        };
        may_be_confirmed && self.copies == 1 && self.is_ambiguous() && self.decoder.rest().is_empty()
    }

    /// Takes bytes that were read from the port.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len();
        match self.matching {
            Matching::Rtu => self.push_rtu(bytes),
            Matching::Tcp { any } => self.push_tcp(bytes, any),
        }
    }

    fn push_rtu(&mut self, bytes: &[u8]) {
        self.decoder.push(bytes);
        loop {
            let (sent, pending) = (&self.sent, self.pending);
            let fits = |bytes: &[u8]| rtu_reply_bytes(bytes) == Some(bytes.len()) || (pending && bytes == sent);
            // The answer under way may hold what looks like another one: the UID of a card, for instance.
            let reach = |b: &[u8]| if pending { answer_bytes(b, sent).unwrap_or(0) } else { 0 };
            let Some((noise, frame)) = self.decoder.next(fits, reach) else { return };
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
            self.instead = Received::OnlyEcho;
            " (local echo)"
        } else if self.pending && unit == asked && function & 0x7F == wanted {
            match self.echo {
                LocalEcho::Unknown if self.copies > 0 => self.echo = LocalEcho::Present,
                LocalEcho::Unknown if self.bytes <= frame.len() + NOISE_BYTES_MAX => {
                    self.echo = LocalEcho::Absent;
                }
                // Another adapter, or the echo was disturbed: the next answer shows which.
                LocalEcho::Present if self.copies == 0 && self.bytes <= frame.len() + NOISE_BYTES_MAX => {
                    self.echo = LocalEcho::Unknown;
                }
                LocalEcho::Unknown | LocalEcho::Absent | LocalEcho::Present => {}
            }
            self.pending = false;
            ""
        } else {
            self.instead = if unit == asked { Received::OtherFunction(function) } else { Received::OtherUnit(unit) };
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

    fn push_tcp(&mut self, bytes: &[u8], any: bool) {
        self.partial.extend(bytes);
        while let Some(header) = self.partial.first_chunk().filter(|_| self.pending) {
            let Some(mbap) = Mbap::parse(*header) else {
                self.failure = Some("the bytes received are no Modbus TCP frame".to_owned());
                return;
            };
            if self.partial.len() < MBAP_BYTES + mbap.pdu_bytes {
                return;
            }
            let rest = self.partial.split_off(MBAP_BYTES + mbap.pdu_bytes);
            let mut frame = std::mem::replace(&mut self.partial, rest);
            tracing::trace!(target: "dormgate::frames", line = %self.name, "< {}", hex(&frame));
            let asked = self.sent.get(6).copied().unwrap_or_default();
            if !any && frame.get(..2) != self.sent.get(..2) {
                self.instead = Received::OtherTransaction;
            } else if mbap.unit == asked {
                if let Some(head) = frame.first_chunk_mut() {
                    *head = self.head;
                }
                self.answer = frame;
                self.pending = false;
            } else {
                self.failure = Some(format!("unit {} answered, unit {asked} was asked", mbap.unit));
                return;
            }
        }
    }
}

/// How long the answer to the request `sent` is if it begins with these bytes; `None`: it does not. The request shows how many bytes it
/// reads: noise with the right unit and function names another number, and must not hide the answer behind it.
fn answer_bytes(bytes: &[u8], sent: &[u8]) -> Option<usize> {
    let (&[unit, function, ..], &[asked, wanted, ..]) = (bytes, sent) else { return None };
    if unit != asked || function & 0x7F != wanted {
        return None;
    }
    let items = |at: usize| Some(usize::from(u16::from_be_bytes([*sent.get(at)?, *sent.get(at + 1)?])));
    let read_bytes = match function {
        1 | 2 => items(4)?.div_ceil(8),
        3 | 4 | 23 => items(4)? * 2,
        _ => return rtu_reply_bytes(bytes),
    };
    bytes.get(2).is_none_or(|count| usize::from(*count) == read_bytes).then_some(5 + read_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::modbus::rtu_frame;

    #[test]
    fn what_looks_like_an_answer_in_the_uid_of_a_card_is_none() {
        let request = rtu_frame(7, &[3, 0, 0, 0, 5]);
        for inside in [rtu_frame(7, &[0x83, 2]), rtu_frame(7, &[3, 2, 0, 1])] {
            let uid = [inside, vec![0; 10]].concat();
            let answer = rtu_frame(7, &[&[3, 10], &uid[..10]].concat());
            for piece in [1, 3, 99] {
                let mut receiver = Receiver::new("line", Matching::Rtu, LocalEcho::Absent);
                receiver.sent(&request, [7, 3]);
                answer.chunks(piece).for_each(|bytes| receiver.push(bytes));
                assert_eq!(receiver.answer, answer, "in pieces of {piece}");
            }
        }
    }

    #[test]
    fn noise_or_an_echo_that_looks_like_the_start_of_the_answer_does_not_hide_it() {
        // The reader of 11 registers from 1000 is unit 3: its request without the first byte is `03 03 E8 …`.
        let request = rtu_frame(3, &[3, 0x03, 0xE8, 0, 11]);
        let answer = rtu_frame(3, &[&[3, 22], &[0x5A; 22][..]].concat());
        let exception = rtu_frame(3, &[0x83, 2]);
        for before in [&[3, 3][..], &[3, 0x83], &[3, 3, 3], &[3, 3, 22], &request[1..], &request[..5]] {
            for answer in [&answer, &exception] {
                for piece in [1, 3, 99] {
                    let mut receiver = Receiver::new("line", Matching::Rtu, LocalEcho::Present);
                    receiver.sent(&request, [3, 3]);
                    [before, answer].concat().chunks(piece).for_each(|bytes| receiver.push(bytes));
                    let hidden = before == [3, 3, 22] && *answer == exception;
                    assert_eq!(&receiver.answer == answer, !hidden, "{before:02X?} in pieces of {piece}");
                }
            }
        }
        let bits = rtu_frame(3, &[1, 0, 0, 0, 9]);
        let mut receiver = Receiver::new("line", Matching::Rtu, LocalEcho::Absent);
        receiver.sent(&bits, [3, 1]);
        let answer = rtu_frame(3, &[1, 2, 0xFF, 1]);
        receiver.push(&[&[3, 1][..], &answer].concat());
        assert_eq!(receiver.answer, answer);
    }
}
