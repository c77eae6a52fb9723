//! Enums whose variants have a name on the wire: the variant's own in `snake_case`.

/// An enum with [`as_str`](str), its inverse `parse`, and `ALL`.
macro_rules! names {
    ($(#[$head:meta])* pub enum $name:ident { $($variants:tt)* }) => {
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
            strum::EnumString, strum::IntoStaticStr, strum::VariantArray,
        )]
        #[serde(rename_all = "snake_case")]
        #[strum(serialize_all = "snake_case")]
        $(#[$head])*
        pub enum $name {
            $($variants)*
        }

        impl $name {
            /// Every one, in order.
            pub const ALL: &'static [Self] = <Self as strum::VariantArray>::VARIANTS;

            /// Its name on the wire.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                self.into()
            }

            /// The one of this name.
            #[must_use]
            pub fn parse(name: &str) -> Option<Self> {
                name.parse().ok()
            }
        }
    };
}
pub(crate) use names;
