//! The faults of a simulated device, and the words that set them.

use std::time::Duration;

use super::super::{Refused, short};
use crate::profile::diagnostic::nearest;

/// Longest time of a slow or late answer, in milliseconds.
pub const FAULT_MS_MAX: u64 = 60_000;
/// How late a late answer is if no time is given, in milliseconds: later than the usual time-outs of lines.
pub const LATE_MS: u64 = 1_000;
/// The words of every fault and what the device does, for people.
pub const FAULTS: [(&str, &str); 13] = [
    ("none", "as it should be"),
    ("silent", "does not answer"),
    ("slow MS", "answers after this time, and the line waits"),
    ("late [MS]", "answers after this time (1000), while the line goes on: among the answers of others"),
    ("exception CODE", "refuses every request with this code"),
    ("acknowledges", "carries orders out and answers them with exception 5"),
    ("wrong-unit", "answers as another unit"),
    ("garbage", "answers with bytes that are not Modbus"),
    ("cut", "sends half of its answer"),
    ("disconnects", "closes the connection instead of answering (TCP)"),
    ("wrong-echo", "carries the order out and echoes another address"),
    ("short", "answers with fewer registers than asked for"),
    ("stuck-relay", "confirms that its relay switched, and does not switch it"),
];

/// The words of every fault.
pub(crate) fn fault_words() -> String {
    FAULTS.map(|(words, _)| words).join(", ")
}

/// The fault of a unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    /// No fault.
    #[default]
    None,
    /// Carries nothing out and does not answer.
    Silent,
    /// Carries orders out and answers after this time; the line waits.
    Slow(Duration),
    /// Carries orders out at once and answers after this time, while the line goes on: among the answers of others.
    Late(Duration),
    /// Refuses every request with this exception code.
    Refuses(u8),
    /// Carries orders out and answers them with exception 5: taken, and not done yet.
    Acknowledges,
    /// Answers as another unit.
    WrongUnit,
    /// Answers with bytes that are not Modbus.
    Garbage,
    /// Sends half of the answer, and keeps the connection open.
    HalfFrame,
    /// Closes the connection instead of answering.
    Disconnects,
    /// Carries orders out and echoes another address.
    WrongEcho,
    /// Answers with fewer registers than asked for.
    Short,
    /// Confirms that its relay switched, and does not switch it.
    StuckRelay,
}

impl Fault {
    /// The fault that these words name, e.g. `slow 300`. The error names what to write instead.
    pub fn parse(words: &[&str]) -> Result<Self, Refused> {
        let ms = |fault: &str, text: &str| {
            let ms = text.parse().ok().filter(|ms| (1..=FAULT_MS_MAX).contains(ms)).map(Duration::from_millis);
            ms.ok_or_else(|| Refused(format!("`{fault}` needs a time from 1 to {FAULT_MS_MAX} ms")))
        };
        Ok(match words {
            ["none"] => Self::None,
            ["silent"] => Self::Silent,
            ["slow", time @ ..] => Self::Slow(ms("slow", &time.join(" "))?),
            ["late"] => Self::Late(Duration::from_millis(LATE_MS)),
            ["late", time @ ..] => Self::Late(ms("late", &time.join(" "))?),
            ["exception", code @ ..] => {
                let code = code.join(" ").parse().ok().filter(|code| *code != 0);
                let wanted = "`exception` needs a code from 1 to 255, e.g. 2 for an address that does not exist";
                Self::Refuses(code.ok_or_else(|| Refused(wanted.to_owned()))?)
            }
            ["acknowledges"] => Self::Acknowledges,
            ["wrong-unit"] => Self::WrongUnit,
            ["garbage"] => Self::Garbage,
            ["cut"] => Self::HalfFrame,
            ["disconnects"] => Self::Disconnects,
            ["wrong-echo"] => Self::WrongEcho,
            ["short"] => Self::Short,
            ["stuck-relay"] => Self::StuckRelay,
            ["unplugged", ..] => {
                let hint = "only a whole line can be: name the bus without a unit, or make the device `silent`";
                return Err(Refused(format!("a device cannot be `unplugged`; {hint}")));
            }
            words => {
                let word = short(&words.join(" "));
                let hint = match nearest(&word, FAULTS.iter().filter_map(|(words, _)| words.split(' ').next())) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("there are: {}", fault_words()),
                };
                return Err(Refused(format!("`{word}` is not a fault; {hint}")));
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_that_is_listed_can_be_set() {
        for (words, _) in FAULTS {
            let words = words.replace(" MS", " 300").replace(" [MS]", "").replace(" CODE", " 2");
            Fault::parse(&words.split(' ').collect::<Vec<_>>()).unwrap();
        }
        assert_eq!(Fault::parse(&["slow", "300"]), Ok(Fault::Slow(Duration::from_millis(300))));
        assert_eq!(Fault::parse(&["late", "20"]), Ok(Fault::Late(Duration::from_millis(20))));
        assert_eq!(Fault::parse(&["exception", "4"]), Ok(Fault::Refuses(4)));
    }

    #[test]
    fn words_that_name_no_fault_get_a_hint() {
        let reported = |words: &[&str]| Fault::parse(words).unwrap_err().to_string();
        assert_eq!(reported(&["silnt"]), "`silnt` is not a fault; did you mean `silent`?");
        assert!(reported(&["?"]).contains("wrong-unit"));
        assert!(reported(&[]).contains("there are"));
        assert_eq!(reported(&["slow"]), "`slow` needs a time from 1 to 60000 ms");
        assert_eq!(reported(&["late", "0"]), "`late` needs a time from 1 to 60000 ms");
        assert!(reported(&["exception", "256"]).contains("1 to 255"));
        assert!(reported(&["silent", "3"]).contains("not a fault"));
        assert!(reported(&["unplugged"]).contains("without a unit"));
    }
}
