//! The names of things: card UIDs, identifiers, revisions and instants. Parsed once, printed one way.
//!
//! A value of these types cannot be wrong in form; whether it *exists* is the list's business.

use std::borrow::Borrow;
use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Longest identifier in characters (`[A-Za-z0-9][A-Za-z0-9_-]{0,63}`).
pub const IDENTIFIER_CHARS_MAX: usize = 64;
/// Longest card UID in bytes (ISO/IEC 14443-3: single 4, double 7, triple 10).
pub const UID_BYTES_MAX: usize = 10;

/// Serde for types that are written as text: their `Display` and `FromStr`.
macro_rules! as_text {
    ($($name:ty: $expected:literal;)*) => {$(
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Text;

                impl serde::de::Visitor<'_> for Text {
                    type Value = $name;

                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str($expected)
                    }

                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$name, E> {
                        text.parse().map_err(E::custom)
                    }
                }

                deserializer.deserialize_str(Text)
            }
        }
    )*};
}
pub(crate) use as_text;

/// A card's UID: 4, 7 or 10 bytes in air order, the order in which the card sends them.
///
/// Length is part of the identity, so a 4-byte UID never equals a prefix of a 7-byte one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CardUid {
    len: u8,
    bytes: [u8; UID_BYTES_MAX],
}

/// Why a value is no card UID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UidError {
    /// Not 4, 7 or 10 bytes; carries the length found in bytes.
    #[error("a card UID has 4, 7 or 10 bytes, this has {0}")]
    Length(usize),
    /// Something other than hex digits and the separators `:`, `-` and space.
    #[error("a card UID is written in hex, e.g. `1EA68671` or `1E:A6:86:71`")]
    NotHex,
    /// All `00` or all `FF`: what a reader reports when it has read nothing.
    #[error("a UID of all 00 or all FF is a reader's way to report that there is no card")]
    Blank,
}

impl CardUid {
    /// The UID with these bytes in air order.
    ///
    /// # Errors
    /// [`UidError::Length`] unless 4, 7 or 10 bytes; [`UidError::Blank`] for all 00 or all FF.
    pub fn from_bytes(air_order: &[u8]) -> Result<Self, UidError> {
        let len = air_order.len();
        if !matches!(len, 4 | 7 | 10) {
            return Err(UidError::Length(len));
        }
        if air_order.iter().all(|b| *b == 0) || air_order.iter().all(|b| *b == 0xFF) {
            return Err(UidError::Blank);
        }
        let mut bytes = [0; UID_BYTES_MAX];
        for (to, from) in bytes.iter_mut().zip(air_order) {
            *to = *from;
        }
        let len = u8::try_from(len).map_err(|_| UidError::Length(len))?;
        Ok(Self { len, bytes })
    }

    /// The bytes in air order.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or(&[])
    }

    /// Whether this is the beginning of a longer UID: 4 bytes starting with 88, the cascade tag (ISO/IEC 14443-3). Such a value
    /// names no card, and many cards share it.
    #[must_use]
    pub fn is_cascade_tag(&self) -> bool {
        matches!(self.as_bytes(), [0x88, _, _, _])
    }

    /// Whether this is a random identifier: 4 bytes starting 08, new at each activation (ISO/IEC 14443-3; NXP AN10927).
    /// Phones answer so; such a value names no card.
    #[must_use]
    pub fn is_random(&self) -> bool {
        self.len == 4 && self.bytes.first() == Some(&0x08)
    }
}

impl fmt::Display for CardUid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_bytes().iter().try_for_each(|b| write!(f, "{b:02X}"))
    }
}

impl fmt::Debug for CardUid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for CardUid {
    type Err = UidError;

    fn from_str(text: &str) -> Result<Self, UidError> {
        let mut bytes = Vec::with_capacity(UID_BYTES_MAX);
        let mut high = None;
        for c in text.chars() {
            match (c, high) {
                // A separator stands between bytes, never inside one: `1E-A6`, not `1-E`.
                (':' | '-' | ' ', None) => {}
                (_, None) => high = Some(c.to_digit(16).ok_or(UidError::NotHex)?),
                (_, Some(h)) => {
                    let low = c.to_digit(16).ok_or(UidError::NotHex)?;
                    bytes.push(u8::try_from(h * 16 + low).map_err(|_| UidError::NotHex)?);
                    high = None;
                }
            }
            if bytes.len() > UID_BYTES_MAX {
                return Err(UidError::Length(text.len() / 2));
            }
        }
        match high {
            Some(_) => Err(UidError::NotHex),
            None => Self::from_bytes(&bytes),
        }
    }
}

as_text! { CardUid: "a card UID in hex, e.g. `1EA68671`"; }

/// Why a text is no identifier.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an identifier is 1 to 64 of A-Z a-z 0-9 _ - and begins with a letter or digit; got `{0}`")]
pub struct IdentifierError(pub String);

fn is_identifier(text: &str) -> bool {
    let mut chars = text.bytes();
    chars.next().is_some_and(|c| c.is_ascii_alphanumeric())
        && text.len() <= IDENTIFIER_CHARS_MAX
        && chars.all(|c| c.is_ascii_alphanumeric() || c == b'_' || c == b'-')
}

macro_rules! identifiers {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The identifier as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdentifierError;

            fn from_str(text: &str) -> Result<Self, IdentifierError> {
                if is_identifier(text) {
                    Ok(Self(Arc::from(text)))
                } else {
                    Err(IdentifierError(text.chars().take(IDENTIFIER_CHARS_MAX + 1).collect()))
                }
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        as_text! { $name: "an identifier"; }
    )*};
}

identifiers! {
    /// One gateway: one dormitory's box.
    GatewayId;
    /// One portal of the gateway: a gate, a door or a power box.
    PortalId;
    /// A room or an area.
    Zone;
    /// The opaque id of a cardholder. Never a card number, never matched with one.
    Holder;
    /// One office's stream of changes.
    StreamName;
    /// A named weekly schedule.
    ScheduleName;
}

/// Which of two ops of one stream is newer: epoch, then sequence, then place in the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Revision {
    /// Rises when a center restarts its numbering; from 1.
    pub epoch: NonZeroU32,
    /// Number of the message in its epoch; from 1.
    pub seq: u64,
    /// Place of the op in its message; from 0.
    pub place: u32,
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.epoch, self.seq, self.place)
    }
}

/// Wall-clock time in milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// The instant `seconds` after the Unix epoch; saturates.
    #[must_use]
    pub fn from_unix_seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(1000))
    }

    /// Whole seconds since the Unix epoch, rounded down.
    #[must_use]
    pub fn unix_seconds(self) -> i64 {
        self.0.div_euclid(1000)
    }
}

/// Monotonic time in milliseconds since this process began; for deadlines, never for dates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mono(pub u64);

impl Mono {
    /// This instant plus `ms` milliseconds; saturates.
    #[must_use]
    pub fn plus_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// Milliseconds from `earlier` to this instant; 0 if `earlier` is later.
    #[must_use]
    pub fn since_ms(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Whether dates may be judged by the wall clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClockTrust {
    /// The clock is plausible.
    Trusted,
    /// Earlier than the last time on disk or than the build, or stepped back by more than 10 s.
    #[default]
    Untrusted,
}

/// The time as the pure part is given it.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Date and time.
    pub wall: Timestamp,
    /// For deadlines.
    pub mono: Mono,
    /// Whether `wall` can be trusted.
    pub clock: ClockTrust,
}
