//! Secrets and other files that the configuration names. A secret itself is never in the configuration.
//!
//! A `*_file` key names the file. Without the key, or if its file does not exist, the systemd credential
//! `$CREDENTIALS_DIRECTORY/<name>` is used, where `<name>` is `uplink_password`, `uplink_key`, `local_password`, `local_key`,
//! `console_token`, `audit_uid_key` or `store_key`; and at a center `broker_password`, `broker_key`, `<stream>_key` or `<client>_token`.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::{Context, cert};
use crate::profile::document::{Key, NotBlank, Text};

/// Fewest characters of a secret that hashes or encrypts.
const KEY_CHARS_MIN: usize = 32;
/// How to make such a secret.
pub(super) const KEY_HINT: &str = "make one with `openssl rand -base64 32`, and keep a copy off the box";
/// Shortest token in bytes: a random one of 16 bytes in hex has 32.
const TOKEN_BYTES_MIN: usize = 20;
/// What is wrong with a shorter one.
pub const TOKEN_SHORT: &str = "the token has fewer than 20 bytes and can be guessed";
/// How to make a token.
pub const TOKEN_HINT: &str = "make one with `openssl rand -hex 24`";
/// Longest secret in bytes.
const SECRET_BYTES_MAX: u64 = 4096;

/// A password or token. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps `text`, so that it is never printed.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Whether it can be guessed where it is a token.
    pub(crate) fn is_short_token(&self) -> bool {
        self.0.len() < TOKEN_BYTES_MIN
    }

    /// The secret itself, to be presented or compared.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// A key that names a file.
pub(super) type FileKey = Key<Text<NotBlank>>;

impl Context<'_> {
    /// The path of the readable file that `key` names.
    pub(super) fn file(&self, key: &FileKey) -> Option<PathBuf> {
        let path = self.path(key)?;
        match readable(&path) {
            Ok(()) => Some(path),
            Err(error) => {
                let remedy = "put the file there or correct the path";
                key.wrong(self.log, format!("cannot read `{}`: {error}; {remedy}", path.display()));
                None
            }
        }
    }

    /// The path of the PEM file with certificates that `key` names.
    pub(super) fn certificates(&self, key: &FileKey) -> Option<PathBuf> {
        let path = self.file(key)?;
        cert::check(&path).inspect_err(|message| key.wrong(self.log, message)).ok().map(|()| path)
    }

    /// The path that `key` names, made absolute from the directory of the configuration.
    pub(super) fn path(&self, key: &FileKey) -> Option<PathBuf> {
        key.get().map(|Text(NotBlank(path))| self.around.base_dir.join(path))
    }

    /// The path of the secret file `key`, or of the credential `name`.
    pub(super) fn secret_file(&self, key: &FileKey, name: &str) -> Option<PathBuf> {
        let credential = self.around.credentials_dir.as_ref().map(|dir| dir.join(name));
        let credential = credential.filter(|path| readable(path).is_ok());
        if !key.is_set() {
            return credential;
        }
        let path = self.path(key)?;
        match (readable(&path), credential) {
            (Ok(()), _) => Some(path),
            (Err(_), Some(credential)) => Some(credential),
            (Err(error), None) => {
                let remedy = format!("put the secret there, or provide the systemd credential `{name}`");
                key.wrong(self.log, format!("cannot read `{}`: {error}; {remedy}", path.display()));
                None
            }
        }
    }

    /// The secret in the file `key`, or in the credential `name`, without the line end.
    pub(super) fn secret(&self, key: &FileKey, name: &str) -> Option<Secret> {
        self.secret_and_file(key, name).map(|(secret, _)| secret)
    }

    /// The same for a secret that hashes or encrypts, which must not be guessed.
    pub(super) fn key(&self, key: &FileKey, name: &str) -> Option<Secret> {
        let secret = self.secret(key, name)?;
        let chars = secret.expose().chars().count();
        if chars < KEY_CHARS_MIN {
            let short = format!("the key has {chars} characters and needs {KEY_CHARS_MIN}: {KEY_HINT}");
            key.wrong(self.log, short);
        }
        Some(secret)
    }

    /// The same for a token that lets whoever presents it change something, without spaces around it. `exposed`: it can be presented
    /// from other machines, so it must not be short.
    pub(super) fn token(&self, key: &FileKey, name: &str, exposed: bool) -> Option<Secret> {
        let token = Secret::new(self.secret(key, name)?.expose().trim());
        if token.expose().is_empty() {
            key.wrong(self.log, format!("the token is blank; {TOKEN_HINT}"));
        } else if exposed && token.is_short_token() {
            key.wrong(self.log, format!("{TOKEN_SHORT}; {TOKEN_HINT}"));
        }
        Some(token)
    }

    /// The same, and the file that it is in.
    pub(super) fn secret_and_file(&self, key: &FileKey, name: &str) -> Option<(Secret, PathBuf)> {
        let path = self.secret_file(key, name)?;
        let wrong = |error: io::Error| {
            key.wrong(self.log, format!("cannot read the secret in `{}`: {error}; write it there", path.display()));
        };
        let secret = read(&path).map_err(wrong).ok()?;
        Some((secret, path))
    }
}

/// The secret in the file at `path`, without the line end.
pub(super) fn read(path: &Path) -> io::Result<Secret> {
    let text = text(path, SECRET_BYTES_MAX)?;
    match text.trim_end_matches(['\r', '\n']) {
        "" => Err(io::Error::other("the file is empty")),
        secret => Ok(Secret::new(secret)),
    }
}

fn readable(path: &Path) -> io::Result<()> {
    let file = File::open(path)?;
    if file.metadata()?.is_file() { Ok(()) } else { Err(io::Error::other("this is not a file")) }
}

/// The text of the file at `path`, which is not longer than `bytes_max`.
pub(super) fn text(path: &Path, bytes_max: u64) -> io::Result<String> {
    let text = String::from_utf8(bytes(path, bytes_max)?);
    text.map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not text in UTF-8"))
}

/// The content of the file at `path`, which is not longer than `bytes_max`.
pub(super) fn bytes(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(bytes_max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it has more than {bytes_max} bytes")));
    }
    Ok(bytes)
}
