//! Secrets and other files that the configuration names. A secret itself is never in the configuration.
//!
//! A `*_file` key names the file. When the key is absent, or names a file that is not there, the systemd credential
//! `$CREDENTIALS_DIRECTORY/<name>` is taken, where `<name>` is `uplink_password`, `uplink_key`, `local_password`,
//! `local_key` or `console_token`.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::{Surroundings, non_empty};
use crate::profile::document::{Table, Value};

/// Longest secret in bytes.
const SECRET_BYTES_MAX: u64 = 4096;

/// A password or token. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keeps `text` out of logs.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The secret itself, for whoever has to present or compare it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// What was found where a secret may be.
#[derive(PartialEq, Eq)]
pub(super) enum Found<T> {
    /// Neither key nor credential.
    Nothing,
    /// The key or the credential is there and wrong; a diagnostic says so.
    Wrong,
    /// It.
    This(T),
}

impl<T> Found<T> {
    /// `None` if it was wrong.
    pub(super) fn secret(self) -> Option<Option<T>> {
        match self {
            Self::Nothing => Some(None),
            Self::Wrong => None,
            Self::This(secret) => Some(Some(secret)),
        }
    }
}

/// The path of the readable file that `value` names.
pub(super) fn file(value: &Value<'_>, around: &Surroundings<'_>) -> Option<PathBuf> {
    let path = around.base_dir.join(non_empty(value)?);
    match readable(&path) {
        Ok(()) => Some(path),
        Err(error) => {
            value.diagnostic(format!(
                "cannot read `{}`: {error}; put the file there or correct the path",
                path.display()
            ));
            None
        }
    }
}

/// The path of the secret file `key`, or of the credential `name`.
pub(super) fn path(table: &mut Table<'_>, key: &'static str, name: &str, around: &Surroundings<'_>) -> Found<PathBuf> {
    let credential = around.credentials_dir.as_ref().map(|dir| dir.join(name)).filter(|path| readable(path).is_ok());
    let Some(value) = table.get(key) else {
        return credential.map_or(Found::Nothing, Found::This);
    };
    let Some(text) = non_empty(&value) else { return Found::Wrong };
    let path = around.base_dir.join(text);
    match (readable(&path), credential) {
        (Ok(()), _) => Found::This(path),
        (Err(_), Some(credential)) => Found::This(credential),
        (Err(error), None) => {
            value.diagnostic(format!(
                "cannot read `{}`: {error}; put the secret there, or give it as the systemd credential `{name}`",
                path.display()
            ));
            Found::Wrong
        }
    }
}

/// The secret in the file `key`, or in the credential `name`, without the line end.
pub(super) fn read(table: &mut Table<'_>, key: &'static str, name: &str, around: &Surroundings<'_>) -> Found<Secret> {
    let path = match path(table, key, name, around) {
        Found::This(path) => path,
        Found::Nothing => return Found::Nothing,
        Found::Wrong => return Found::Wrong,
    };
    match content(&path) {
        Ok(secret) => Found::This(secret),
        Err(error) => {
            table.diagnostic_at(key, format!("cannot take the secret from `{}`: {error}", path.display()));
            Found::Wrong
        }
    }
}

fn readable(path: &Path) -> io::Result<()> {
    let file = File::open(path)?;
    if file.metadata()?.is_file() { Ok(()) } else { Err(io::Error::other("this is no file")) }
}

fn content(path: &Path) -> io::Result<Secret> {
    let mut text = String::new();
    File::open(path)?.take(SECRET_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > SECRET_BYTES_MAX {
        return Err(io::Error::other(format!("it has more than {SECRET_BYTES_MAX} bytes")));
    }
    let secret = text.trim_end_matches(['\r', '\n']);
    if secret.is_empty() {
        return Err(io::Error::other("the file is empty"));
    }
    Ok(Secret(secret.to_owned()))
}
