//! The directory of a trial's center: made, read and locked.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::num::NonZeroU32;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use ed25519_dalek::SigningKey;

use super::super::CenterError;
use crate::config;
use crate::wire::allowed::{AllowedOps, STANDING};
use crate::wire::envelope::{Scope, StreamSpec};
use crate::wire::keys;

/// Which streams a new center has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// One, `center`, that may publish everything to a gateway.
    One,
    /// `card-office` for the standing of cards on the whole campus, `apartment` for everything else of one gateway.
    Two,
}

/// Makes a center with new keys in `dir`, which may exist but holds no center yet. A center whose directory was lost begins at an epoch
/// higher than the lost one's. Gives the `[[center.stream]]` tables for the gateway's configuration. Fails when there is a center
/// already, or the directory cannot be written.
pub fn create(dir: &Path, layout: Layout, epoch: NonZeroU32) -> Result<String, CenterError> {
    fs::create_dir_all(dir).map_err(CenterError::file(dir))?;
    let _lock = Lock::take_any(dir)?;
    let toml = dir.join("center.toml");
    if toml.exists() {
        return Err(CenterError::Exists(dir.to_owned()));
    }
    let apartment = AllowedOps::all() - STANDING;
    let streams = match layout {
        Layout::One => vec![("center", Scope::Gateway, AllowedOps::all())],
        Layout::Two => vec![("card-office", Scope::Campus, STANDING), ("apartment", Scope::Gateway, apartment)],
    };
    let mut tables = Vec::new();
    for (name, scope, allowed) in streams {
        let key = new_key(&dir.join(format!("{name}.key")))?;
        let name = name.parse().map_err(|_| CenterError::Draft(format!("`{name}` is no name of a stream")))?;
        let keys = vec![key.verifying_key()];
        tables.push(config::stream_table(&StreamSpec { name, scope, keys, insecure_unsigned: false, allowed }));
    }
    write_epoch(dir, epoch)?;
    // Last, because a directory with this file is a complete center.
    let configuration = tables.join("\n");
    replace(&toml, configuration.as_bytes())?;
    Ok(configuration)
}

fn new_key(path: &Path) -> Result<SigningKey, CenterError> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|e| CenterError::Randomness(e.to_string()))?;
    let key = SigningKey::from_bytes(&seed);
    // A seed left by an attempt that did not end well was never used.
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .map_err(CenterError::file(path))?;
    file.write_all(keys::print_seed(&key).as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(CenterError::file(path))?;
    Ok(key)
}

/// The text of `center.toml`, and the streams in it with their keys.
pub(super) fn read(dir: &Path) -> Result<(String, Vec<(StreamSpec, SigningKey)>), CenterError> {
    let toml = dir.join("center.toml");
    let configuration = fs::read_to_string(&toml).map_err(CenterError::file(&toml))?;
    let found = config::streams(&configuration).map_err(|diagnostics| {
        let all: Vec<String> = diagnostics.iter().map(ToString::to_string).collect();
        CenterError::damaged(&toml, all.join("; "))
    })?;
    let mut streams = Vec::with_capacity(found.len());
    for stream in found {
        let path = dir.join(format!("{}.key", stream.name));
        let text = fs::read_to_string(&path).map_err(CenterError::file(&path))?;
        let key = keys::parse_seed(&text).map_err(|source| CenterError::Key { path: path.clone(), source })?;
        if !stream.keys.contains(&key.verifying_key()) {
            let why = format!("`public_keys` of `{}` does not have the key of `{}`", stream.name, path.display());
            return Err(CenterError::damaged(&toml, why));
        }
        streams.push((stream, key));
    }
    Ok((configuration, streams))
}

fn epoch_file(dir: &Path) -> PathBuf {
    dir.join("epoch")
}

pub(super) fn read_epoch(dir: &Path) -> Result<NonZeroU32, CenterError> {
    let path = epoch_file(dir);
    let text = fs::read_to_string(&path).map_err(CenterError::file(&path))?;
    text.trim().parse().map_err(|_| CenterError::damaged(&path, "a number from 1 is wanted"))
}

fn write_epoch(dir: &Path, epoch: NonZeroU32) -> Result<(), CenterError> {
    replace(&epoch_file(dir), format!("{epoch}\n").as_bytes())
}

/// Writes a file so that after a power cut there is the old one or the new one.
fn replace(path: &Path, bytes: &[u8]) -> Result<(), CenterError> {
    let new = path.with_extension("new");
    let write = || -> io::Result<()> {
        let mut file = File::create(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        sync_parent(path)
    };
    write().map_err(CenterError::file(path))
}

/// Makes the name of a new file durable.
pub(super) fn sync_parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
}

/// Holds the directory for one process; two centers in one directory number their messages in turn.
pub(super) struct Lock(#[expect(dead_code, reason = "dropping the file gives the lock back")] File);

impl Lock {
    /// Waits for the directory of a center.
    pub(super) fn take(dir: &Path) -> Result<Self, CenterError> {
        if !dir.join("center.toml").exists() {
            return Err(CenterError::NoCenter(dir.to_owned()));
        }
        Self::take_any(dir)
    }

    fn take_any(dir: &Path) -> Result<Self, CenterError> {
        let path = dir.join("lock");
        let open = OpenOptions::new().write(true).create(true).truncate(false).open(&path);
        let file = open.map_err(CenterError::file(&path))?;
        file.lock().map_err(CenterError::file(&path))?;
        Ok(Self(file))
    }
}
