//! Where the store keeps its files: the one interface between the rules of the store and a disk, real or simulated.
//!
//! Paths are relative to the data directory and use `/`. No formats and no decisions here. Nothing is durable before
//! [`Medium::sync`], and no name before [`Medium::sync_dir`]. Errors are those of the disk.

use std::io;

/// Where the segments are.
pub(super) const JOURNAL: &str = "journal";
/// Begins the manifest of a generation whose records are encrypted; no format of a manifest has this number.
pub(super) const SEALED_MANIFEST: u8 = 0xE5;
/// Where copies of damaged files are kept; never emptied.
pub(super) const DAMAGED: &str = "damaged";

/// What a generation holds on its medium.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Container {
    /// The records of the state, in order; opaque here.
    pub records: Vec<Vec<u8>>,
    /// The encoded manifest.
    pub manifest: Vec<u8>,
    /// It was encrypted, and the key of the medium opened it.
    pub opened: bool,
}

/// Why a generation cannot be read.
#[derive(Debug)]
pub enum ContainerError {
    /// Its bytes are not what was written; it can never be read again.
    Damaged(String),
    /// The disk does not let it be read now.
    Unreadable(io::Error),
}

/// The file operations the store needs.
pub trait Medium: Send + Sync + 'static {
    /// Whether what it holds of persons is encrypted.
    fn seals(&self) -> bool {
        false
    }

    /// The names in a directory, sorted; none if it is not there.
    fn list(&self, dir: &str) -> io::Result<Vec<String>>;

    /// Whether something else than a regular file is at `path`. It is never opened: it may never answer, or never end.
    fn is_special(&self, path: &str) -> bool {
        let _ = path;
        false
    }

    /// The length of a file in bytes.
    fn length(&self, path: &str) -> io::Result<u64>;

    /// At most `max` bytes of a file from `from` on; fewer at its end.
    fn read(&self, path: &str, from: u64, max: u64) -> io::Result<Vec<u8>>;

    /// Writes `bytes` at `at`, making the file if it is not there.
    /// After an error part of the bytes may be written.
    fn write_at(&self, path: &str, at: u64, bytes: &[u8]) -> io::Result<()>;

    /// Cuts a file to `length` bytes.
    fn truncate(&self, path: &str, length: u64) -> io::Result<()>;

    /// Makes what was written to a file durable. An error also where its name no longer leads to it: others may change the medium.
    /// After an error what was written since the last success must be written again.
    fn sync(&self, path: &str) -> io::Result<()>;

    /// Makes the names in a directory durable.
    fn sync_dir(&self, dir: &str) -> io::Result<()>;

    /// Makes a directory if it is not there.
    fn make_dir(&self, dir: &str) -> io::Result<()>;

    /// Renames a file or directory; a file at `to` is replaced.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Keeps a file under a second name, or a copy of it.
    fn keep(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file, or a directory with all that is in it. It is no error if it is not there.
    fn remove(&self, path: &str) -> io::Result<()>;

    /// Writes a generation to a new directory and makes it durable, its name excepted.
    fn write_container(&self, dir: &str, container: &Container) -> io::Result<()>;

    /// Reads a generation back.
    fn read_container(&self, dir: &str) -> Result<Container, ContainerError>;

    /// Whether a generation has the bytes that were written. Nothing is written to find out.
    fn has_container(&self, dir: &str) -> bool {
        self.read_container(dir).is_ok()
    }
}

/// Replaces a small file as a whole: afterwards the old bytes or the new ones are there, never a mixture.
pub fn replace(medium: &dyn Medium, dir: &str, name: &str, bytes: &[u8]) -> io::Result<()> {
    let (path, new) = (format!("{dir}/{name}"), format!("{dir}/{name}.new"));
    medium.remove(&new)?;
    medium.write_at(&new, 0, bytes)?;
    medium.sync(&new)?;
    medium.rename(&new, &path)?;
    medium.sync_dir(dir)
}

/// Moves what is at `path` to `damaged/`, beside whatever of the same name is there. The directory that it was in is not synced.
pub fn set_aside(medium: &dyn Medium, path: &str, name: &str) -> io::Result<()> {
    let taken = medium.list(DAMAGED).unwrap_or_default();
    let free = (0u32..).map(|i| format!("{name}.{i}")).find(|free| !taken.contains(free));
    medium.rename(path, &format!("{DAMAGED}/{}", free.unwrap_or_else(|| name.to_owned())))?;
    medium.sync_dir(DAMAGED)
}
