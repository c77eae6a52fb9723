//! Ed25519 keys as text: public keys in the configuration, seeds in key files. Base64url of 32 bytes each, written without padding.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::{SigningKey, VerifyingKey};

/// Why a text is not a key. The text itself is never repeated: it may be a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not base64url.
    #[error("a key is the base64url (A-Z a-z 0-9 - _) of 32 bytes, 43 characters; this is not base64url")]
    NotBase64url,
    /// Not 32 bytes; carries the length found in bytes.
    #[error("an Ed25519 key has 32 bytes (43 characters), this has {0} bytes")]
    Length(usize),
    /// Not a point of the curve.
    #[error("these 32 bytes are no Ed25519 public key; copy it again from the center's `keygen`")]
    NotAKey,
    /// A key of small order, with which anybody can sign.
    #[error("this public key is of small order, so anybody could sign for it; make a new one with `center keygen`")]
    Weak,
}

fn bytes_of(text: &str) -> Result<[u8; 32], KeyError> {
    // Padding carries no information, and some tools write it.
    let bytes = URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).map_err(|_| KeyError::NotBase64url)?;
    bytes.as_slice().try_into().map_err(|_| KeyError::Length(bytes.len()))
}

/// The public key of a text as in `public_keys`.
///
/// # Errors
/// [`KeyError`] names what is wrong with it.
pub fn parse_public(text: &str) -> Result<VerifyingKey, KeyError> {
    let key = VerifyingKey::from_bytes(&bytes_of(text)?).map_err(|_| KeyError::NotAKey)?;
    if key.is_weak() { Err(KeyError::Weak) } else { Ok(key) }
}

/// A public key as it stands in `public_keys`.
#[must_use]
pub fn print_public(key: &VerifyingKey) -> String {
    URL_SAFE_NO_PAD.encode(key.as_bytes())
}

/// The signing key of a key file: the 32-byte seed in base64url; white space around it does not matter.
///
/// # Errors
/// [`KeyError`] names what is wrong with it.
pub fn parse_seed(file: &str) -> Result<SigningKey, KeyError> {
    Ok(SigningKey::from_bytes(&bytes_of(file.trim())?))
}

/// The content of a key file: the seed in base64url and a line end.
#[must_use]
pub fn print_seed(key: &SigningKey) -> String {
    let mut text = URL_SAFE_NO_PAD.encode(key.as_bytes());
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    // RFC 8037, appendix A.1 and A.2.
    const SEED: &str = "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A";
    const PUBLIC: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";

    #[test]
    fn the_keys_of_rfc_8037_are_read_and_printed() {
        let key = parse_seed(&format!("{SEED}\n")).unwrap();
        assert_eq!(print_public(&key.verifying_key()), PUBLIC);
        assert_eq!(print_seed(&key), format!("{SEED}\n"));
        assert_eq!(parse_public(PUBLIC), Ok(key.verifying_key()));
        assert_eq!(parse_public(&format!("{PUBLIC}=")), Ok(key.verifying_key()), "with padding too");
    }

    #[test]
    fn what_is_no_key_is_refused_without_repeating_it() {
        assert_eq!(parse_public("a+bc"), Err(KeyError::NotBase64url));
        assert_eq!(parse_public("AAAA"), Err(KeyError::Length(3)));
        assert_eq!(parse_public(&URL_SAFE_NO_PAD.encode([0; 32])), Err(KeyError::Weak));
        assert_eq!(parse_public(&PUBLIC.replace('_', "/")), Err(KeyError::NotBase64url));
    }

    proptest! {
        #[test]
        fn a_key_that_is_read_is_printed_as_it_was(text in "[A-Za-z0-9_/+-]{0,9}|[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]={0,2}") {
            let bare = text.trim_end_matches('=');
            prop_assert_eq!(parse_seed(&text).is_ok(), bare.len() == 43);
            if let Ok(seed) = parse_seed(&text) {
                prop_assert_eq!(print_seed(&seed), format!("{bare}\n"));
                prop_assert_eq!(parse_public(&print_public(&seed.verifying_key())), Ok(seed.verifying_key()));
            }
            if let Ok(key) = parse_public(&text) {
                prop_assert_eq!(print_public(&key), bare);
            }
        }
    }
}
