//! The key that hashes UIDs for an audit without UIDs (`audit.uid = "hashed"`).
//!
//! HMAC-SHA-256, cut to the 10 bytes that a UID has at most. A UID of 4 bytes can be found from a plain hash by trying all of them;
//! without the key nobody can. 80 bits keep a million cards apart, and the same card has the same hash in all events, so that its
//! passages can still be followed. Pure.

use std::fmt;

use ring::hmac;

use crate::access::id::{CardUid, UID_BYTES_MAX};

/// See the module's head. Never printed.
#[derive(Clone)]
pub struct UidKey(hmac::Key);

impl UidKey {
    /// The key made of this secret.
    #[must_use]
    pub fn new(secret: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    /// What stands for `uid` in the audit. A hash stays what it is.
    #[must_use]
    pub fn hash(&self, uid: CardUid) -> CardUid {
        if uid.is_hashed() {
            return uid;
        }
        let tag = hmac::sign(&self.0, uid.as_bytes());
        let mut bytes = [0; UID_BYTES_MAX];
        bytes.iter_mut().zip(tag.as_ref()).for_each(|(to, from)| *to = *from);
        CardUid::of_hash(bytes)
    }
}

impl fmt::Debug for UidKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UidKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uid_has_one_hash_for_each_key_that_reads_back_from_the_audit_and_nowhere_else() {
        let key = UidKey::new(b"one");
        let uid: CardUid = "1EA68671".parse().unwrap();
        let hashed = key.hash(uid);
        // The first 10 bytes of HMAC-SHA-256 under the key `one`, by another implementation.
        assert_eq!(hashed.to_string(), "h:20a4b96ddbabe246deec");
        assert_eq!((key.hash(hashed), hashed.is_hashed(), uid.is_hashed()), (hashed, true, false));
        assert_ne!(hashed, UidKey::new(b"two").hash(uid));
        assert_ne!(hashed, key.hash("1EA68671000000".parse().unwrap()));
        assert_eq!(CardUid::parse_audited(&hashed.to_string()), Ok(hashed));
        assert!(hashed.to_string().parse::<CardUid>().is_err() && CardUid::parse_audited("h:12").is_err());
        assert!(
            serde_json::from_str::<CardUid>(&format!("\"{hashed}\"")).is_err(),
            "no message gives a hash for a card"
        );
    }
}
