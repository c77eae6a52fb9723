//! Indices into the list's tables, one word wide also when optional.

use std::num::NonZeroU32;

macro_rules! indices {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub(super) struct $name(NonZeroU32);

        impl $name {
            /// The index of place `at`. 2^32 entries are far over what memory holds; beyond them the last index is used.
            pub(super) fn at(at: usize) -> Self {
                let one_based = u32::try_from(at).unwrap_or(u32::MAX).saturating_add(1);
                Self(NonZeroU32::MIN.saturating_add(one_based - 1))
            }

            /// The place in its table.
            pub(super) fn place(self) -> usize {
                self.0.get() as usize - 1
            }
        }
    )*};
}

indices! {
    /// A card.
    CardIx;
    /// A holder.
    HolderIx;
    /// A zone's name.
    ZoneIx;
    /// A schedule's name.
    ScheduleIx;
}

impl ZoneIx {
    /// The index as a number from 1; 0 stands for no index.
    pub(super) fn number(self) -> u32 {
        self.0.get()
    }

    pub(super) fn of_number(number: u32) -> Option<Self> {
        NonZeroU32::new(number).map(Self)
    }
}
