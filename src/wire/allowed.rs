//! What a stream may publish: the names of the ops, and sets of them.

use enumset::{EnumSet, EnumSetType, enum_set};
use strum::VariantArray;

/// Everything a stream may be allowed: each op of a change message, and `command`.
#[derive(
    EnumSetType, Debug, Hash, PartialOrd, Ord, strum::Display, strum::EnumString, strum::IntoStaticStr, VariantArray,
)]
#[strum(serialize_all = "snake_case")]
pub enum OpName {
    /// The card exists.
    Issue,
    /// A new card; the holder's earlier ones are replaced.
    Reissue,
    /// Sets *lost*.
    ReportLost,
    /// Clears *lost*.
    Found,
    /// Sets *frozen*.
    Freeze,
    /// Clears *frozen*.
    Unfreeze,
    /// Ends a card for ever.
    Cancel,
    /// Undoes a mistaken `cancel` or `replaced`.
    Reinstate,
    /// What a card may open.
    Enrol,
    /// Removes an enrolment.
    Withdraw,
    /// Suspends power in a room.
    SuspendPower,
    /// Resumes it.
    ResumePower,
    /// Defines a schedule.
    DefineSchedule,
    /// Sets a standing mode.
    SetPosture,
    /// Not an op of a change message: commands and audit acks.
    Command,
}

impl OpName {
    /// All of them, in the contract's order.
    pub const ALL: &'static [Self] = Self::VARIANTS;

    /// The name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// What one stream may publish (`may` in the configuration).
pub type AllowedOps = EnumSet<OpName>;

/// The standing of cards: ops that write the same registers, so that one stream owns them all (wire contract, 2.1).
pub const STANDING: AllowedOps = enum_set!(
    OpName::Issue
        | OpName::Reissue
        | OpName::ReportLost
        | OpName::Found
        | OpName::Freeze
        | OpName::Unfreeze
        | OpName::Cancel
        | OpName::Reinstate
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_op_has_the_name_of_the_contract() {
        assert_eq!("report_lost".parse(), Ok(OpName::ReportLost));
        for op in OpName::ALL {
            assert_eq!(op.as_str().parse(), Ok(*op));
            assert_eq!(op.to_string(), op.as_str());
        }
        assert!("re_issue".parse::<OpName>().is_err());
    }
}
