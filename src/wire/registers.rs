//! The registers that the gateway serves to a Modbus controller (wire contract, section 5), one map a portal. No transport here.
//!
//! | registers | access | content |
//! |---|---|---|
//! | holding 0–7 | write, together | a request: counter, UID length, UID, direction |
//! | holding 8 | write | state bits |
//! | input 0–6, the same as holding 16–22 | read | the answer |

use super::modbus::Exception;
use crate::access::decision::Decision;
use crate::access::id::CardUid;
use crate::access::input::{PortalReport, Presented};
use crate::access::portal::Direction;

/// First holding register of a request.
pub const REQUEST_START: u16 = 0;
/// Registers of a request.
pub const REQUEST_COUNT: usize = 8;
/// The holding register of the state bits.
pub const STATE_REGISTER: u16 = 8;
/// First holding register that mirrors the input registers, for FC 23.
pub const MIRROR_START: u16 = 16;
/// Input registers of an answer.
pub const ANSWER_COUNT: usize = 7;
/// The input register that holds the output as it is to be now.
pub const OUTPUT_REGISTER: u16 = 4;
/// The decision register of a grant.
pub const GRANT: u16 = 1;
/// Registers that hold the UID.
const UID_REGISTERS: usize = 5;

/// A card presented at the controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CardQuestion {
    /// The controller's number of the request, never 0; comes back in the answer.
    pub counter: u16,
    /// What was presented; all 00 and all FF are malformed, not an exception.
    pub presented: Presented,
    /// Which way.
    pub direction: Option<Direction>,
}

/// The bits of holding register 8.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StateBits(pub u16);

impl StateBits {
    /// Bit 0: a card is present.
    pub const CARD_PRESENT: u16 = 1;
    /// Bit 1: the door's contact is open.
    pub const CONTACT_OPEN: u16 = 1 << 1;
    /// Bit 2: somebody passed in.
    pub const PASSED_IN: u16 = 1 << 2;
    /// Bit 3: somebody passed out.
    pub const PASSED_OUT: u16 = 1 << 3;
    /// Bit 4: the housing is open.
    pub const TAMPER: u16 = 1 << 4;
    /// Bit 5: fire input.
    pub const FIRE: u16 = 1 << 5;

    fn has(self, bit: u16) -> bool {
        self.0 & bit != 0
    }

    /// What the portal reports by these bits. Each write with a *passed* bit is a passage, so both bits give a second report.
    /// Bits above 5 mean nothing.
    #[must_use]
    pub fn reports(self) -> Vec<PortalReport> {
        let ways = [(Self::PASSED_IN, Direction::In), (Self::PASSED_OUT, Direction::Out)];
        let mut passed = ways.into_iter().filter(|(bit, _)| self.has(*bit)).map(|(_, way)| Some(way));
        let first = PortalReport {
            card_present: Some(self.has(Self::CARD_PRESENT)),
            contact_open: Some(self.has(Self::CONTACT_OPEN)),
            tamper: Some(self.has(Self::TAMPER)),
            fire: Some(self.has(Self::FIRE)),
            passed: passed.next().flatten(),
            ..PortalReport::default()
        };
        let second = passed.map(|passed| PortalReport { passed, ..PortalReport::default() });
        std::iter::once(first).chain(second).collect()
    }
}

/// The state and the request in a write of `values` from holding register `start` on (FC 6, FC 16, the write half of FC 23). The state
/// is reported before the request is judged.
///
/// # Errors
/// [`Exception::ILLEGAL_ADDRESS`] unless the block is 0–7, 8 or 0–8; [`Exception::ILLEGAL_VALUE`] for a counter of 0, a length
/// other than 4, 7 or 10, anything but zeros after the UID, or a direction above 2.
pub fn write(start: u16, values: &[u16]) -> Result<(Option<StateBits>, Option<CardQuestion>), Exception> {
    match (start, values) {
        (STATE_REGISTER, [bits]) => Ok((Some(StateBits(*bits)), None)),
        (REQUEST_START, [block @ .., bits]) if block.len() == REQUEST_COUNT => {
            Ok((Some(StateBits(*bits)), Some(question(block)?)))
        }
        (REQUEST_START, block) if block.len() == REQUEST_COUNT => Ok((None, Some(question(block)?))),
        _ => Err(Exception::ILLEGAL_ADDRESS),
    }
}

fn question(block: &[u16]) -> Result<CardQuestion, Exception> {
    let [counter, len, uid @ .., direction] = block else { return Err(Exception::ILLEGAL_ADDRESS) };
    let len = match len {
        4 | 7 | 10 => usize::from(*len),
        _ => return Err(Exception::ILLEGAL_VALUE),
    };
    let bytes: Vec<u8> = uid.iter().flat_map(|register| register.to_be_bytes()).collect();
    let (uid, padding) = bytes.split_at_checked(len).ok_or(Exception::ILLEGAL_VALUE)?;
    // Something after the UID means that length and UID are not of the same card.
    if *counter == 0 || padding.iter().any(|b| *b != 0) {
        return Err(Exception::ILLEGAL_VALUE);
    }
    let direction = match direction {
        0 => None,
        1 => Some(Direction::In),
        2 => Some(Direction::Out),
        _ => return Err(Exception::ILLEGAL_VALUE),
    };
    let presented = match CardUid::from_bytes(uid) {
        Ok(uid) => Presented::Card(uid),
        Err(_) => Presented::Malformed(hex::encode_upper(uid)),
    };
    Ok(CardQuestion { counter: *counter, presented, direction })
}

/// The registers that a controller writes for a request; the inverse of [`write()`].
#[must_use]
pub fn encode_request(counter: u16, uid: CardUid, direction: Option<Direction>) -> [u16; REQUEST_COUNT] {
    let bytes = uid.as_bytes();
    let byte = |at: usize| bytes.get(at).copied().unwrap_or(0);
    let mut registers = [0; REQUEST_COUNT];
    let [first, len, uid @ .., last] = &mut registers;
    *first = counter;
    *len = u16::try_from(bytes.len()).unwrap_or(0);
    for (at, register) in uid.iter_mut().enumerate().take(UID_REGISTERS) {
        *register = u16::from_be_bytes([byte(2 * at), byte(2 * at + 1)]);
    }
    *last = match direction {
        None => 0,
        Some(Direction::In) => 1,
        Some(Direction::Out) => 2,
    };
    registers
}

/// What a controller reads. The default is that of a portal that was never asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Counter of the answered request; 0: none.
    pub counter: u16,
    /// 0 none, 1 grant, 2 deny.
    pub decision: u16,
    /// Reason code (wire contract, section 6).
    pub reason: u16,
    /// Hold time in units of 100 ms.
    pub hold_100ms: u16,
    /// What the output should be now: 0 off or locked, 1 on or released.
    pub output: u16,
    /// Posture code.
    pub posture: u16,
    /// One more each second.
    pub heartbeat: u16,
}

impl Answer {
    /// Puts the answer to request `counter` in; the output, posture and heartbeat stay.
    pub fn decide(&mut self, counter: u16, decision: &Decision) {
        self.counter = counter;
        self.reason = decision.reason_code();
        (self.decision, self.hold_100ms) = match decision {
            Decision::Grant(grant) => (GRANT, grant.hold_ms().map_or(0, hundreds)),
            Decision::Deny(_) => (2, 0),
        };
    }

    /// The grant is over: the counter is answered, and there is no decision any more.
    pub fn ended(&mut self) {
        (self.decision, self.reason, self.hold_100ms) = (0, 0, 0);
    }

    /// Input registers 0–6.
    #[must_use]
    pub fn encode(&self) -> [u16; ANSWER_COUNT] {
        [self.counter, self.decision, self.reason, self.hold_100ms, self.output, self.posture, self.heartbeat]
    }

    /// Input registers `start` to `start + count - 1` (FC 4).
    ///
    /// # Errors
    /// [`Exception::ILLEGAL_ADDRESS`] outside 0–6; [`Exception::ILLEGAL_VALUE`] for a count of 0.
    pub fn read_input(&self, start: u16, count: u16) -> Result<Vec<u16>, Exception> {
        if count == 0 {
            return Err(Exception::ILLEGAL_VALUE);
        }
        let (from, count) = (usize::from(start), usize::from(count));
        self.encode().get(from..from + count).map(<[u16]>::to_vec).ok_or(Exception::ILLEGAL_ADDRESS)
    }

    /// Holding registers `start` to `start + count - 1` (FC 3, the read half of FC 23): only the mirror 16–22 can be read.
    ///
    /// # Errors
    /// As for [`Answer::read_input`], outside 16–22.
    pub fn read_holding(&self, start: u16, count: u16) -> Result<Vec<u16>, Exception> {
        match start.checked_sub(MIRROR_START) {
            Some(start) => self.read_input(start, count),
            None if count == 0 => Err(Exception::ILLEGAL_VALUE),
            None => Err(Exception::ILLEGAL_ADDRESS),
        }
    }
}

/// Milliseconds in units of 100 ms, rounded up, so that the hold of a grant never becomes 0.
fn hundreds(ms: u32) -> u16 {
    u16::try_from(ms.div_ceil(100)).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::access::decision::{Denial, Reason};
    use crate::access::portal::Posture;

    #[test]
    fn a_request_is_read_from_its_registers() {
        let four = [7, 4, 0x1EA6, 0x8671, 0, 0, 0, 1];
        let card = |text: &str| Presented::Card(text.parse().unwrap());
        let question = |presented, direction| Some(CardQuestion { counter: 7, presented, direction });
        assert_eq!(write(0, &four), Ok((None, question(card("1EA68671"), Some(Direction::In)))));
        let seven = [7, 7, 0x04A1, 0xB2C3, 0xD4E5, 0xF600, 0, 0, 0x21];
        assert_eq!(write(0, &seven), Ok((Some(StateBits(0x21)), question(card("04A1B2C3D4E5F6"), None))));
        assert_eq!(write(8, &[5]), Ok((Some(StateBits(5)), None)));
        let blank = write(0, &[7, 4, 0, 0, 0, 0, 0, 0]);
        assert_eq!(blank, Ok((None, question(Presented::Malformed("00000000".into()), None))));
    }

    #[test]
    fn what_is_outside_the_map_or_means_nothing_is_an_exception() {
        let (address, value) = (Exception::ILLEGAL_ADDRESS, Exception::ILLEGAL_VALUE);
        let table: [(u16, &[u16], Exception); 11] = [
            (0, &[], address),
            (0, &[7, 4, 0x1EA6, 0x8671], address),
            (1, &[4, 0x1EA6, 0x8671, 0, 0, 0, 1], address),
            (0, &[0; 10], address),
            (8, &[1, 2], address),
            (9, &[1], address),
            (16, &[0; 7], address),
            (0, &[0, 4, 0x1EA6, 0x8671, 0, 0, 0, 0], value),
            (0, &[7, 5, 0x1EA6, 0x8671, 0, 0, 0, 0], value),
            (0, &[7, 4, 0x1EA6, 0x8671, 1, 0, 0, 0], value),
            (0, &[7, 4, 0x1EA6, 0x8671, 0, 0, 0, 3], value),
        ];
        for (start, values, exception) in table {
            assert_eq!(write(start, values), Err(exception), "{start} {values:?}");
        }
    }

    #[test]
    fn the_answer_is_read_directly_and_in_the_mirror() {
        let mut answer = Answer { output: 1, posture: Posture::Lockdown.code(), heartbeat: 9, ..Answer::default() };
        answer.decide(7, &Decision::Deny(Denial::from(Reason::Lost)));
        assert_eq!(answer.read_input(0, 7), Ok(vec![7, 2, 26, 0, 1, 2, 9]));
        assert_eq!(answer.read_holding(16, 7), answer.read_input(0, 7));
        assert_eq!(answer.read_holding(22, 1), Ok(vec![9]));
        assert_eq!(answer.read_input(u16::MAX, u16::MAX), Err(Exception::ILLEGAL_ADDRESS));
        assert_eq!(answer.read_input(0, 0), Err(Exception::ILLEGAL_VALUE));
    }

    #[test]
    fn a_hold_is_given_in_units_of_100_ms_and_never_becomes_zero() {
        assert_eq!([3000, 1, 100, 101, u32::MAX].map(hundreds), [30, 1, 1, 2, u16::MAX]);
    }

    #[test]
    fn state_bits_are_a_report_and_each_passage_counts() {
        let [report] = <[_; 1]>::try_from(StateBits(0b10_0110).reports()).unwrap();
        assert_eq!(
            (report.card_present, report.contact_open, report.passed),
            (Some(false), Some(true), Some(Direction::In))
        );
        assert_eq!((report.tamper, report.fire, report.online), (Some(false), Some(true), None));
        let both = StateBits(StateBits::PASSED_IN | StateBits::PASSED_OUT).reports();
        assert_eq!(both.iter().map(|r| r.passed).collect::<Vec<_>>(), [Some(Direction::In), Some(Direction::Out)]);
        assert_eq!(StateBits(0).reports()[0].passed, None);
    }

    proptest! {
        #[test]
        fn a_request_written_is_the_request_read(
            counter in 1..=u16::MAX,
            len in proptest::sample::select(vec![4_usize, 7, 10]),
            bytes in any::<[u8; 10]>(),
            direction in proptest::sample::select(vec![None, Some(Direction::In), Some(Direction::Out)]),
        ) {
            prop_assume!(CardUid::from_bytes(&bytes[..len]).is_ok());
            let uid = CardUid::from_bytes(&bytes[..len]).unwrap();
            let read = write(0, &encode_request(counter, uid, direction));
            prop_assert_eq!(read, Ok((None, Some(CardQuestion { counter, presented: Presented::Card(uid), direction }))));
        }

        #[test]
        fn what_is_outside_the_answer_is_never_read(start in 0..40_u16, count in 0..20_u16) {
            let answer = Answer { counter: 1, heartbeat: 7, ..Answer::default() };
            let within = |first: u16| (first..first + 7).contains(&start) && count > 0 && start + count <= first + 7;
            let outside = if count == 0 { Exception::ILLEGAL_VALUE } else { Exception::ILLEGAL_ADDRESS };
            for (read, first) in [(answer.read_input(start, count), 0), (answer.read_holding(start, count), MIRROR_START)] {
                prop_assert_eq!(read.map(drop), if within(first) { Ok(()) } else { Err(outside) });
            }
        }

        #[test]
        fn registers_that_are_a_request_are_written_again_as_they_were(values in proptest::collection::vec(0..12_u16, 8)) {
            if let Ok((_, Some(CardQuestion { counter, presented: Presented::Card(uid), direction }))) = write(0, &values) {
                prop_assert_eq!(encode_request(counter, uid, direction).to_vec(), values);
            }
        }
    }
}
