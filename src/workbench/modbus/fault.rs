//! What a simulated device does wrong, and the words that command it.

use std::time::Duration;

use super::super::{Refused, short};
use crate::profile::diagnostic::nearest;

/// Longest time of a slow or late answer that can be commanded, in milliseconds.
pub const FAULT_MS_MAX: u64 = 60_000;
/// How late a late answer is when nothing else is reported, in milliseconds: past the longest wait that is usual on a line.
pub const LATE_MS: u64 = 1_000;
/// The words of every fault, and what it does, for whoever commands one.
pub const FAULTS: [(&str, &str); 12] = [
    ("none", "as it should be"),
    ("silent", "does not answer"),
    ("slow MS", "answers after this time, and the line waits"),
    ("late [MS]", "answers after this time (1000), into what others report meanwhile"),
    ("exception CODE", "refuses everything with this code"),
    ("wrong-unit", "answers as another unit"),
    ("garbage", "answers with bytes that are no Modbus"),
    ("cut", "ends its answer in the middle"),
    ("disconnects", "closes the connection instead of answering (TCP)"),
    ("wrong-echo", "does what it is reported and echoes another address"),
    ("short", "answers with fewer registers than asked for"),
    ("stuck-relay", "reports that it switched and does not"),
];

/// The words of every fault.
#[must_use]
pub fn fault_words() -> String {
    FAULTS.map(|(words, _)| words).join(", ")
}

/// What a unit does wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    #[default]
    None,
    /// Does not answer, and does nothing.
    Silent,
    /// Answers, and does, only after this time; the line waits.
    Slow(Duration),
    /// Does what it is reported at once, and answers after this time, while the line goes on: into the answers to others.
    Late(Duration),
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
    /// Does what it is reported and echoes another address.
    WrongEcho,
    /// Answers with fewer registers than asked for.
    Short,
    /// Reports that it switched off and does not.
    StuckRelay,
}

impl Fault {
    /// The fault that these words command, e.g. `slow 300`.
    ///
    /// # Errors
    /// What is wanted instead.
    pub fn parse(words: &[&str]) -> Result<Self, Refused> {
        let ms = |fault: &str, text: &str| {
            let ms = text.parse().ok().filter(|ms| (1..=FAULT_MS_MAX).contains(ms)).map(Duration::from_millis);
            ms.ok_or_else(|| Refused(format!("`{fault}` wants a time from 1 to {FAULT_MS_MAX} ms")))
        };
        Ok(match words {
            ["none"] => Self::None,
            ["silent"] => Self::Silent,
            ["slow", time @ ..] => Self::Slow(ms("slow", &time.join(" "))?),
            ["late"] => Self::Late(Duration::from_millis(LATE_MS)),
            ["late", time @ ..] => Self::Late(ms("late", &time.join(" "))?),
            ["exception", code @ ..] => {
                let code = code.join(" ").parse().ok().filter(|code| *code != 0);
                let wanted = "`exception` wants a code from 1 to 255, e.g. 2 for an address that is not there";
                Self::Refuses(code.ok_or_else(|| Refused(wanted.to_owned()))?)
            }
            ["wrong-unit"] => Self::WrongUnit,
            ["garbage"] => Self::Garbage,
            ["cut"] => Self::HalfFrame,
            ["disconnects"] => Self::Disconnects,
            ["wrong-echo"] => Self::WrongEcho,
            ["short"] => Self::Short,
            ["stuck-relay"] => Self::StuckRelay,
            ["unplugged", ..] => {
                let hint = "a whole line is unplugged: name the bus without a unit; one device is `silent`";
                return Err(Refused(format!("`unplugged` is no fault; {hint}")));
            }
            words => {
                let word = short(&words.join(" "));
                let hint = match nearest(&word, FAULTS.iter().filter_map(|(words, _)| words.split(' ').next())) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("there are: {}", fault_words()),
                };
                return Err(Refused(format!("`{word}` is no fault; {hint}")));
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_that_is_listed_can_be_commanded() {
        for (words, _) in FAULTS {
            let words = words.replace(" MS", " 300").replace(" [MS]", "").replace(" CODE", " 2");
            Fault::parse(&words.split(' ').collect::<Vec<_>>()).unwrap();
        }
        assert_eq!(Fault::parse(&["slow", "300"]), Ok(Fault::Slow(Duration::from_millis(300))));
        assert_eq!(Fault::parse(&["late", "20"]), Ok(Fault::Late(Duration::from_millis(20))));
        assert_eq!(Fault::parse(&["exception", "4"]), Ok(Fault::Refuses(4)));
    }

    #[test]
    fn words_that_command_nothing_are_reported_what_would() {
        let reported = |words: &[&str]| Fault::parse(words).unwrap_err().to_string();
        assert_eq!(reported(&["silnt"]), "`silnt` is no fault; did you mean `silent`?");
        assert!(reported(&["?"]).contains("wrong-unit"));
        assert!(reported(&[]).contains("there are"));
        assert_eq!(reported(&["slow"]), "`slow` wants a time from 1 to 60000 ms");
        assert_eq!(reported(&["late", "0"]), "`late` wants a time from 1 to 60000 ms");
        assert!(reported(&["exception", "256"]).contains("1 to 255"));
        assert!(reported(&["silent", "3"]).contains("no fault"));
        assert!(reported(&["unplugged"]).contains("without a unit"));
    }
}
