//! A disk for tests: loses what was not synced, fills up, fails and stalls on demand. The store's rules run over it unchanged.
//!
//! Deterministic: nothing happens by itself, and no rule of the store is here.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use sha2::{Digest, Sha256};

use super::medium::{Container, ContainerError, Medium};
use crate::lock;

/// What is wrong with the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    #[default]
    None,
    /// Files may grow by this many bytes more; then `no space left`, with what fitted written.
    Full {
        /// Bytes that still fit.
        room: u64,
    },
    /// Writes fail half done.
    Writes,
    /// Nothing can be written, renamed or removed, as after a remount.
    ReadOnly,
    /// The power is cut after so many operations that change something: from then on nothing is written.
    CutAfter {
        /// How many are still done.
        ops: u64,
    },
    /// Syncs fail and the unsynced bytes are gone from the cache.
    Syncs,
    /// The disk answers nothing; [`super::Stepper::step`] then does nothing but report it.
    Stalled {
        /// For how long already, in milliseconds; what is reported.
        for_ms: u64,
    },
}

#[derive(Clone, Default)]
struct FileBytes {
    now: Vec<u8>,
    durable: Vec<u8>,
}

#[derive(Default)]
struct Inner {
    /// Names to files, as seen now.
    names: BTreeMap<String, usize>,
    /// Names as they would be after a power cut.
    durable_names: BTreeMap<String, usize>,
    files: Vec<FileBytes>,
    fault: Fault,
}

/// A simulated disk. Clones are the same disk; it outlives the stores opened on it.
#[derive(Clone, Default)]
pub struct MemoryDisk(Arc<Mutex<Inner>>);

fn not_found(path: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("`{path}` is not there"))
}

fn inside(name: &str, dir: &str) -> bool {
    name.strip_prefix(dir).is_some_and(|rest| rest.starts_with('/'))
}

/// The files that are `path` or below it.
fn at_or_below(names: &BTreeMap<String, usize>, path: &str) -> Vec<(String, usize)> {
    names.iter().filter(|(n, _)| *n == path || inside(n, path)).map(|(n, at)| (n.clone(), *at)).collect()
}

/// The rest of `name` below `dir`, up to the next `/`.
fn child_of<'a>(name: &'a str, dir: &str) -> Option<&'a str> {
    name.strip_prefix(dir)?.strip_prefix('/')?.split('/').next()
}

impl Inner {
    fn file(&mut self, path: &str) -> io::Result<&mut FileBytes> {
        let at = *self.names.get(path).ok_or_else(|| not_found(path))?;
        self.files.get_mut(at).ok_or_else(|| not_found(path))
    }

    fn make(&mut self, path: &str) {
        if !self.names.contains_key(path) {
            self.names.insert(path.to_owned(), self.files.len());
            self.files.push(FileBytes::default());
        }
    }
}

impl MemoryDisk {
    /// An empty disk.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn writable(&self) -> io::Result<MutexGuard<'_, Inner>> {
        let mut inner = lock(&self.0);
        match &mut inner.fault {
            Fault::ReadOnly => return Err(io::ErrorKind::ReadOnlyFilesystem.into()),
            Fault::CutAfter { ops: 0 } => return Err(io::Error::other("simulated power cut")),
            Fault::CutAfter { ops } => *ops -= 1,
            Fault::None | Fault::Full { .. } | Fault::Writes | Fault::Syncs | Fault::Stalled { .. } => {}
        }
        Ok(inner)
    }

    /// Sets what is wrong from now on.
    pub fn set_fault(&self, fault: Fault) {
        lock(&self.0).fault = fault;
    }

    /// What is wrong.
    #[must_use]
    pub fn fault(&self) -> Fault {
        lock(&self.0).fault
    }

    /// Cuts the power: what was not synced is gone, but for `torn` bytes of each file's unsynced tail. The disk is well afterwards.
    /// Stores opened before must not be used any more.
    pub fn crash(&self, torn: usize) {
        let mut inner = lock(&self.0);
        inner.names = inner.durable_names.clone();
        for file in &mut inner.files {
            let tail = file.now.get(file.durable.len()..).unwrap_or(&[]);
            let kept = tail.get(..torn.min(tail.len())).unwrap_or(&[]).to_vec();
            file.durable.extend_from_slice(&kept);
            file.now.clone_from(&file.durable);
        }
        inner.fault = Fault::None;
    }

    /// A disk with the same durable bytes, as an image taken of it would have.
    #[must_use]
    pub fn image(&self) -> Self {
        let inner = lock(&self.0);
        let copy = Inner {
            names: inner.names.clone(),
            durable_names: inner.durable_names.clone(),
            files: inner.files.clone(),
            fault: Fault::None,
        };
        Self(Arc::new(Mutex::new(copy)))
    }

    /// The files, sorted by name, with their lengths in bytes.
    #[must_use]
    pub fn files(&self) -> Vec<(String, usize)> {
        let inner = lock(&self.0);
        let length = |at: &usize| inner.files.get(*at).map_or(0, |f| f.now.len());
        inner.names.iter().map(|(name, at)| (name.clone(), length(at))).collect()
    }

    /// Changes a file's bytes behind everybody's back, durably.
    pub fn damage(&self, path: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut inner = lock(&self.0);
        if let Ok(file) = inner.file(path) {
            change(&mut file.now);
            file.durable.clone_from(&file.now);
        }
    }
}

impl Medium for MemoryDisk {
    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let inner = lock(&self.0);
        let mut names: Vec<_> = inner.names.keys().filter_map(|name| child_of(name, dir)).map(str::to_owned).collect();
        names.dedup();
        Ok(names)
    }

    fn length(&self, path: &str) -> io::Result<u64> {
        Ok(lock(&self.0).file(path)?.now.len() as u64)
    }

    fn read(&self, path: &str, from: u64, max: u64) -> io::Result<Vec<u8>> {
        let mut inner = lock(&self.0);
        let bytes = &inner.file(path)?.now;
        let from = usize::try_from(from).unwrap_or(usize::MAX).min(bytes.len());
        let to = from.saturating_add(usize::try_from(max).unwrap_or(usize::MAX)).min(bytes.len());
        Ok(bytes.get(from..to).unwrap_or(&[]).to_vec())
    }

    fn write_at(&self, path: &str, at: u64, bytes: &[u8]) -> io::Result<()> {
        let mut inner = self.writable()?;
        inner.make(path);
        let fault = inner.fault;
        let file = inner.file(path)?;
        let at = usize::try_from(at).unwrap_or(usize::MAX);
        let end = at.saturating_add(bytes.len());
        let growth = end.saturating_sub(file.now.len());
        let (fitting, outcome) = match fault {
            Fault::None | Fault::Syncs | Fault::ReadOnly | Fault::CutAfter { .. } | Fault::Stalled { .. } => {
                (bytes.len(), Ok(()))
            }
            Fault::Full { room } => {
                let room = usize::try_from(room).unwrap_or(usize::MAX);
                match growth.checked_sub(room) {
                    None | Some(0) => (bytes.len(), Ok(())),
                    Some(over) => (bytes.len() - over.min(bytes.len()), Err(io::ErrorKind::StorageFull.into())),
                }
            }
            Fault::Writes => (bytes.len() / 2, Err(io::Error::other("simulated write error"))),
        };
        let end = at.saturating_add(fitting);
        let grown = end.saturating_sub(file.now.len());
        if grown > 0 {
            file.now.resize(end, 0);
        }
        for (to, from) in file.now.iter_mut().skip(at).zip(bytes.iter().take(fitting)) {
            *to = *from;
        }
        if let Fault::Full { room } = fault {
            inner.fault = Fault::Full { room: room.saturating_sub(grown as u64) };
        }
        outcome
    }

    fn truncate(&self, path: &str, length: u64) -> io::Result<()> {
        let mut inner = self.writable()?;
        inner.make(path);
        let file = inner.file(path)?;
        file.now.resize(usize::try_from(length).unwrap_or(usize::MAX), 0);
        Ok(())
    }

    fn sync(&self, path: &str) -> io::Result<()> {
        let is_read_only = self.fault() == Fault::ReadOnly;
        let mut inner = if is_read_only { lock(&self.0) } else { self.writable()? };
        if inner.fault == Fault::Syncs {
            let file = inner.file(path)?;
            file.now.clone_from(&file.durable);
            return Err(io::Error::other("simulated sync error"));
        }
        let file = inner.file(path)?;
        file.durable.clone_from(&file.now);
        Ok(())
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        let mut inner = self.writable()?;
        inner.durable_names.retain(|name, _| !inside(name, dir));
        let now = at_or_below(&inner.names, dir);
        inner.durable_names.extend(now);
        Ok(())
    }

    fn make_dir(&self, _dir: &str) -> io::Result<()> {
        self.writable().map(drop)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut inner = self.writable()?;
        let moved = at_or_below(&inner.names, from);
        if moved.is_empty() {
            return Err(not_found(from));
        }
        for (name, at) in moved {
            inner.names.remove(&name);
            let rest = name.strip_prefix(from).unwrap_or("");
            inner.names.insert(format!("{to}{rest}"), at);
        }
        Ok(())
    }

    fn keep(&self, from: &str, to: &str) -> io::Result<()> {
        let mut inner = self.writable()?;
        let at = *inner.names.get(from).ok_or_else(|| not_found(from))?;
        inner.names.insert(to.to_owned(), at);
        Ok(())
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let mut inner = self.writable()?;
        let mut freed = 0;
        for (name, at) in at_or_below(&inner.names, path) {
            inner.names.remove(&name);
            freed += inner.files.get(at).map_or(0, |f| f.now.len() as u64);
        }
        if let Fault::Full { room } = inner.fault {
            inner.fault = Fault::Full { room: room + freed };
        }
        Ok(())
    }

    fn write_container(&self, dir: &str, container: &Container) -> io::Result<()> {
        let mut bytes = Vec::new();
        let mut part = |part: &[u8]| {
            bytes.extend_from_slice(&(part.len() as u64).to_le_bytes());
            bytes.extend_from_slice(part);
        };
        part(&container.manifest);
        container.records.iter().for_each(|record| part(record));
        // Sealed as on a disk: the manifest vouches for the records, and nothing else for the manifest.
        let mut sealed = Sha256::digest(&bytes).to_vec();
        sealed.extend_from_slice(&bytes);
        let path = format!("{dir}/records");
        self.write_at(&path, 0, &sealed)?;
        self.sync(&path)
    }

    fn read_container(&self, dir: &str) -> Result<Container, ContainerError> {
        let missing = |error: io::Error| ContainerError::Damaged(error.to_string());
        let bytes = self.read(&format!("{dir}/records"), 0, u64::MAX).map_err(missing)?;
        let damaged = |what: &str| ContainerError::Damaged(what.to_owned());
        let (seal, bytes) = bytes.split_first_chunk::<32>().ok_or_else(|| damaged("it has no seal"))?;
        if Sha256::digest(bytes).as_slice() != seal {
            return Err(damaged("its bytes are not those that were written"));
        }
        let parts = parts(bytes).ok_or_else(|| damaged("a length is wrong"))?;
        let mut parts = parts.into_iter();
        Ok(Container { manifest: parts.next().unwrap_or_default(), records: parts.collect(), opened: false })
    }
}

fn parts(mut bytes: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut parts = Vec::new();
    while !bytes.is_empty() {
        let (length, rest) = bytes.split_first_chunk::<8>()?;
        let (part, rest) = rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
        parts.push(part.to_vec());
        bytes = rest;
    }
    Some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_power_cut_takes_what_was_not_synced_name_and_bytes() {
        let disk = MemoryDisk::new();
        disk.write_at("d/a", 0, b"durable").unwrap();
        disk.sync("d/a").unwrap();
        disk.sync_dir("d").unwrap();
        disk.write_at("d/a", 7, b" and more").unwrap();
        disk.write_at("d/b", 0, b"nameless").unwrap();
        disk.sync("d/b").unwrap();
        disk.crash(4);
        assert_eq!(disk.read("d/a", 0, 99).unwrap(), b"durable and");
        assert_eq!(disk.list("d").unwrap(), ["a"]);
    }

    #[test]
    fn a_full_disk_takes_what_fits() {
        let disk = MemoryDisk::new();
        disk.set_fault(Fault::Full { room: 3 });
        let error = disk.write_at("a", 0, b"12345").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert_eq!(disk.files(), [("a".to_owned(), 3)]);
        disk.remove("a").unwrap();
        assert_eq!(disk.fault(), Fault::Full { room: 3 });
    }
}
