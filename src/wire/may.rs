//! What a stream may say: the names of the ops, and sets of them.

use std::fmt;

use super::text::{hint, quote};

macro_rules! names {
    ($($(#[$doc:meta])* $variant:ident $name:literal,)*) => {
        /// Everything a stream may be permitted to say: each op of a change message, and `command`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum OpName {
            $($(#[$doc])* $variant,)*
        }

        impl OpName {
            /// All of them, in the contract's order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The name on the wire.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

names! {
    /// The card exists.
    Issue "issue",
    /// A new card; the holder's earlier ones are replaced.
    Reissue "reissue",
    /// Sets *lost*.
    ReportLost "report_lost",
    /// Clears *lost*.
    Found "found",
    /// Sets *frozen*.
    Freeze "freeze",
    /// Clears *frozen*.
    Unfreeze "unfreeze",
    /// Ends a card for ever.
    Cancel "cancel",
    /// Undoes a mistaken `cancel` or `replaced`.
    Reinstate "reinstate",
    /// What a card may open.
    Enrol "enrol",
    /// Removes an enrolment.
    Withdraw "withdraw",
    /// Power off in a room.
    SuspendPower "suspend_power",
    /// Power on again in a room.
    ResumePower "resume_power",
    /// Defines a schedule.
    DefineSchedule "define_schedule",
    /// Sets a standing mode.
    SetPosture "set_posture",
    /// Commands and audit acks; no op of a change message.
    Command "command",
}

impl OpName {
    /// The op of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|op| op.as_str() == name)
    }
}

impl fmt::Display for OpName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What one stream may say (`may` in the configuration).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MaySet(u16);

/// A name in `may` that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MayError {
    /// No op of this name.
    #[error("{name} is no op; {hint}")]
    Unknown {
        /// The name, quoted.
        name: String,
        /// What to write instead.
        hint: String,
    },
    /// `*` beside other names.
    #[error("`*` means every op; write it alone")]
    StarAndMore,
}

impl MaySet {
    /// Every op and `command`: `*`.
    pub const ALL: Self = Self((1 << OpName::ALL.len()) - 1);
    /// Nothing.
    pub const NONE: Self = Self(0);

    fn bit(op: OpName) -> u16 {
        1 << op as u16
    }

    /// The set of these names; `*` alone is all of them.
    ///
    /// # Errors
    /// [`MayError`] names the first name that is none, with the nearest that is one.
    pub fn from_names<'n>(names: impl IntoIterator<Item = &'n str>) -> Result<Self, MayError> {
        let (mut set, mut star, mut count) = (Self::NONE, false, 0_usize);
        for name in names {
            count += 1;
            if name == "*" {
                star = true;
                continue;
            }
            let Some(op) = OpName::parse(name) else {
                let hint = hint(name, OpName::ALL.iter().map(|op| op.as_str()));
                return Err(MayError::Unknown { name: quote(name), hint });
            };
            set.0 |= Self::bit(op);
        }
        match (star, count) {
            (false, _) => Ok(set),
            (true, 1) => Ok(Self::ALL),
            (true, _) => Err(MayError::StarAndMore),
        }
    }

    /// Whether `op` is in the set.
    #[must_use]
    pub fn contains(self, op: OpName) -> bool {
        self.0 & Self::bit(op) != 0
    }

    /// Whether nothing is permitted.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// What both sets have; of two streams it has to be empty, because each op has one owner.
    #[must_use]
    pub fn both(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The names in the set, in the contract's order.
    pub fn iter(self) -> impl Iterator<Item = OpName> {
        OpName::ALL.iter().copied().filter(move |op| self.contains(*op))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_alone_for_everything() {
        assert_eq!(MaySet::from_names(["*"]), Ok(MaySet::ALL));
        assert_eq!(MaySet::ALL.iter().count(), 15);
        assert_eq!(MaySet::from_names(["*", "issue"]), Err(MayError::StarAndMore));
        assert_eq!(MaySet::from_names([]), Ok(MaySet::NONE));
    }

    #[test]
    fn a_slip_of_the_pen_is_told_with_the_right_name() {
        let error = MaySet::from_names(["issue", "re_issue"]).unwrap_err();
        assert_eq!(error.to_string(), "`re_issue` is no op; did you mean `reissue`?");
    }

    #[test]
    fn two_streams_that_own_one_op_are_seen() {
        let a = MaySet::from_names(["issue", "cancel"]).unwrap();
        let b = MaySet::from_names(["enrol", "cancel", "command"]).unwrap();
        assert_eq!(a.both(b).iter().collect::<Vec<_>>(), [OpName::Cancel]);
        assert!(b.contains(OpName::Command) && !a.contains(OpName::Command));
        assert!(a.both(MaySet::NONE).is_empty());
    }
}
