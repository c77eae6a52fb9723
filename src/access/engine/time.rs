//! The time by which the engine judges when a posture ends and how old a list is: trusted time, also while the clock is untrusted.

use super::super::id::{ClockTrust, Mono, Now, Timestamp};

/// The last trusted time, and what has passed since by the monotonic clock, which nobody sets.
#[derive(Debug)]
pub(super) struct TrustedTime {
    latest: Judged,
    /// When `latest` was read; that of an earlier run counts from the first reading of this one.
    read_at: Option<Mono>,
    /// While the clock is untrusted: the newest `iat` that arrived, and when.
    center: Option<(Timestamp, Mono)>,
}

/// A time by which may be judged.
#[derive(Clone, Copy, Debug)]
pub(super) struct Judged {
    pub(super) at: Timestamp,
    /// `false`: the earliest that it can be, because the clock was not trusted in this run yet.
    pub(super) is_exact: bool,
}

impl TrustedTime {
    /// Goes on from the mark of trusted time on disk.
    pub(super) fn after(at: Timestamp) -> Self {
        Self { latest: Judged { at, is_exact: false }, read_at: None, center: None }
    }

    /// Takes note of a reading, and of the `iat` of a verified message that arrived now.
    pub(super) fn read(&mut self, now: Now, iat: Option<Timestamp>) {
        if now.clock == ClockTrust::Trusted {
            *self = Self { latest: Judged { at: now.wall, is_exact: true }, read_at: Some(now.mono), center: None };
            return;
        }
        self.read_at.get_or_insert(now.mono);
        if let Some(iat) = iat.filter(|iat| *iat > self.of_lists(now)) {
            self.center = Some((iat, now.mono));
        }
    }

    /// The time now.
    pub(super) fn at(&self, now: Now) -> Judged {
        match now.clock {
            ClockTrust::Trusted => Judged { at: now.wall, is_exact: true },
            ClockTrust::Untrusted => {
                Judged { at: plus(self.latest.at, self.read_at.unwrap_or(now.mono), now), ..self.latest }
            }
        }
    }

    /// The time now for the age of a list: a center's clock counts too, because the age is measured from what it stamped.
    pub(super) fn of_lists(&self, now: Now) -> Timestamp {
        let center = self.center.map(|(iat, at)| plus(iat, at, now));
        self.at(now).at.max(center.unwrap_or(Timestamp(i64::MIN)))
    }
}

fn plus(from: Timestamp, read_at: Mono, now: Now) -> Timestamp {
    Timestamp(from.0.saturating_add(i64::try_from(now.mono.since_ms(read_at)).unwrap_or(i64::MAX)))
}
