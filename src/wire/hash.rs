//! SHA-256, as bytes and as text.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};

use crate::access::id::as_text;

/// A SHA-256 hash.
pub type Hash = [u8; 32];

/// What `prev` of the very first event is: 64 zeros in hex.
pub const NO_HASH: Hash = [0; 32];

/// SHA-256 of `bytes`.
#[must_use]
pub fn hash(bytes: &[u8]) -> Hash {
    Sha256::digest(bytes).into()
}

/// A hash as 64 hex digits, written in lower case.
#[derive(Clone, Copy, Default)]
pub(super) struct HashText(pub Hash);

as_text! { HashText: "a SHA-256 in 64 hex digits"; }

impl fmt::Display for HashText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl FromStr for HashText {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let mut hash = [0; 32];
        hex::decode_to_slice(text, &mut hash).map_err(|_| "a SHA-256 in 64 hex digits is wanted")?;
        Ok(Self(hash))
    }
}
