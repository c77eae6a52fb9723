//! What a stream may report: the names of the ops, and sets of them.

use std::fmt;
use std::str::FromStr;

use super::spelling::hint;
use super::text::quote;

macro_rules! names {
    ($($(#[$doc:meta])* $variant:ident $name:literal,)*) => {
        /// Everything a stream may be permitted to report: each op of a change message, and `command`.
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

/// A word that names no op.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} is no op; {}", quote(.0), hint(.0, OpName::ALL.iter().map(|op| op.as_str())))]
pub struct NoSuchOp(String);

impl FromStr for OpName {
    type Err = NoSuchOp;

    fn from_str(name: &str) -> Result<Self, NoSuchOp> {
        Self::ALL.iter().copied().find(|op| op.as_str() == name).ok_or_else(|| NoSuchOp(name.to_owned()))
    }
}

impl fmt::Display for OpName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What one stream may report (`may` in the configuration).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MaySet(u16);

impl MaySet {
    /// Every op and `command`: `*`.
    pub const ALL: Self = Self((1 << OpName::ALL.len()) - 1);
    /// Nothing.
    pub const NONE: Self = Self(0);

    /// The standing of cards: ops that write the same registers, so that one stream owns them all (wire contract, 2.1).
    pub const STANDING: Self = Self::of(&[
        OpName::Issue,
        OpName::Reissue,
        OpName::ReportLost,
        OpName::Found,
        OpName::Freeze,
        OpName::Unfreeze,
        OpName::Cancel,
        OpName::Reinstate,
    ]);

    const fn bit(op: OpName) -> u16 {
        1 << op as u16
    }

    /// The set of these ops.
    #[must_use]
    pub const fn of(ops: &[OpName]) -> Self {
        let (mut set, mut rest) = (Self::NONE, ops);
        while let [op, others @ ..] = rest {
            set.0 |= Self::bit(*op);
            rest = others;
        }
        set
    }

    /// Whether `op` is in the set.
    #[must_use]
    pub fn contains(self, op: OpName) -> bool {
        self.0 & Self::bit(op) != 0
    }

    /// The names in the set, in the contract's order.
    pub fn iter(self) -> impl Iterator<Item = OpName> {
        OpName::ALL.iter().copied().filter(move |op| self.contains(*op))
    }
}

impl FromIterator<OpName> for MaySet {
    fn from_iter<I: IntoIterator<Item = OpName>>(ops: I) -> Self {
        Self(ops.into_iter().fold(0, |set, op| set | Self::bit(op)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_what_was_put_in_and_nothing_else() {
        let few = MaySet::of(&[OpName::Command, OpName::Issue, OpName::Issue]);
        assert_eq!(few.iter().collect::<Vec<_>>(), [OpName::Issue, OpName::Command]);
        assert_eq!(few.iter().collect::<MaySet>(), few);
        assert_eq!(MaySet::of(OpName::ALL), MaySet::ALL);
        assert_eq!(MaySet::NONE.iter().count(), 0);
    }

    #[test]
    fn a_slip_of_the_pen_is_reported_with_the_right_name() {
        for op in OpName::ALL {
            assert_eq!(op.as_str().parse(), Ok(*op));
        }
        let error = "re_issue".parse::<OpName>().unwrap_err();
        assert_eq!(error.to_string(), "`re_issue` is no op; did you mean `reissue`?");
    }
}
