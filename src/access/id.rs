//! The names of things: card UIDs, identifiers, revisions and instants. Parsed once, printed one way.
//!
//! A value of these types cannot be wrong in form; whether it *exists* is the list's business.

use std::borrow::Borrow;
use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

/// Longest identifier in characters (`[A-Za-z0-9][A-Za-z0-9_-]{0,63}`).
pub const IDENTIFIER_CHARS_MAX: usize = 64;
/// In place of the length: the bytes are a keyed hash of a UID.
const HASHED: u8 = u8::MAX;
/// How the hash of a UID begins in text.
pub const HASH_PREFIX: &str = "h:";
/// Longest card UID in bytes (ISO/IEC 14443-3: single 4, double 7, triple 10).
pub const UID_BYTES_MAX: usize = 10;

/// UIDs that makers give to test cards and to copies.
const COMMONPLACE: [[u8; 4]; 4] =
    [[1, 2, 3, 4], [0x12, 0x34, 0x56, 0x78], [0xDE, 0xAD, 0xBE, 0xEF], [0x11, 0x22, 0x33, 0x44]];

/// Serde for types that are written as text: their `Display` and `FromStr`. With `struct`: for a type that has another form on disk.
macro_rules! as_text {
    ($($(#[$doc:meta])* struct $name:ident($of:ty): $expected:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug)]
        struct $name($of);

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = <$of as std::str::FromStr>::Err;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }

        as_text! { $name: $expected; }
    )*};
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
///
/// Where the site keeps no UIDs in its audit (`audit.uid = "hashed"`), what is read back from it holds a keyed hash of the UID in
/// its place. Such a value equals no card's UID and no other site's; it is read from the audit only, never from a reader or a center.
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
    /// An odd number of hex digits, or one that stands alone between separators; carries how many there are.
    #[error("a card UID has 8, 14 or 20 digits in hex, this has {0}")]
    OddDigits(usize),
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

    /// What stands for a UID in an audit without UIDs.
    #[must_use]
    pub fn of_hash(bytes: [u8; UID_BYTES_MAX]) -> Self {
        Self { len: HASHED, bytes }
    }

    /// Whether this is the hash of a UID and no UID.
    #[must_use]
    pub fn is_hashed(&self) -> bool {
        self.len == HASHED
    }

    /// As the audit has it: a UID, or the hash of one as `h:` and 20 hex digits.
    ///
    /// # Errors
    /// [`UidError`]: it is neither.
    pub fn parse_audited(text: &str) -> Result<Self, UidError> {
        let Some(digits) = text.strip_prefix(HASH_PREFIX) else { return text.parse() };
        let mut bytes = [0; UID_BYTES_MAX];
        hex::decode_to_slice(digits, &mut bytes).map_err(|_| UidError::NotHex)?;
        Ok(Self::of_hash(bytes))
    }

    /// The bytes in air order.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        if self.is_hashed() {
            return &self.bytes;
        }
        self.bytes.get(..usize::from(self.len)).unwrap_or(&[])
    }

    /// For logs and the detail of alarms: the last four hex digits, as `…8671`. Whole UIDs are in the audit only.
    #[must_use]
    pub fn masked(&self) -> Masked {
        Masked(*self)
    }

    /// Whether this is the beginning of a longer UID: 4 bytes starting with 88, the cascade tag (ISO/IEC 14443-3). Such a value
    /// names no card, and many cards share it.
    #[must_use]
    pub fn is_cascade_tag(&self) -> bool {
        matches!(self.as_bytes(), [0x88, _, _, _])
    }

    /// Whether this is a UID that makers give to test cards and to copies (`01020304` and the like). Many cards share it.
    #[must_use]
    pub fn is_commonplace(&self) -> bool {
        COMMONPLACE.iter().any(|common| common == self.as_bytes())
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
        if self.is_hashed() {
            f.write_str(HASH_PREFIX)?;
            return self.bytes.iter().try_for_each(|b| write!(f, "{b:02x}"));
        }
        self.as_bytes().iter().try_for_each(|b| write!(f, "{b:02X}"))
    }
}

/// Masked: whatever logs a value that holds a UID does not log the UID. Whole in the crate's own unit tests, which compare what was
/// parsed by it.
impl fmt::Debug for CardUid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if cfg!(test) { fmt::Display::fmt(self, f) } else { fmt::Display::fmt(&self.masked(), f) }
    }
}

/// A card UID of which only the last four hex digits are written. See [`CardUid::masked`].
#[derive(Clone, Copy)]
pub struct Masked(CardUid);

impl fmt::Display for Masked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.0.as_bytes();
        f.write_str("…")?;
        bytes.iter().skip(bytes.len().saturating_sub(2)).try_for_each(|b| write!(f, "{b:02X}"))
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
            Some(_) => Err(UidError::OddDigits(2 * bytes.len() + 1)),
            None => Self::from_bytes(&bytes),
        }
    }
}

as_text! { CardUid: "a card UID in hex, e.g. `1EA68671`"; }

/// Serde for a UID as the audit has it: see [`CardUid::parse_audited`].
pub mod audited {
    use serde::{Deserialize, Deserializer};

    use super::CardUid;

    /// Reads a UID, or the hash of one, if it is there.
    ///
    /// # Errors
    /// The deserializer's, and for a text that is neither.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<CardUid>, D::Error> {
        let text = Option::<std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.map(|text| CardUid::parse_audited(&text).map_err(serde::de::Error::custom)).transpose()
    }
}

/// One card, or all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CardSet {
    /// Every card: `*`.
    All,
    /// One.
    One(CardUid),
}

as_text! { CardSet: "a card UID in hex, or `*`"; }

impl fmt::Display for CardSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("*"),
            Self::One(uid) => uid.fmt(f),
        }
    }
}

impl FromStr for CardSet {
    type Err = UidError;

    fn from_str(text: &str) -> Result<Self, UidError> {
        if text == "*" { Ok(Self::All) } else { text.parse().map(Self::One) }
    }
}

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
        pub struct $name(SmolStr);

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
                    Ok(Self(SmolStr::new(text)))
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
