//! A directory of the machine as the store's medium.
//!
//! It may be removed, moved or replaced while the store is open, as by a restore by hand. Then nothing is changed there, and what was
//! written to a file that its name no longer leads to is not durable: no start would find it.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::generation::{self, check_regular, sync_names};
use super::medium::{Container, ContainerError, Medium};
use crate::lock;

/// Files kept open for writing: the segment being written, the mark, and one more.
const OPEN_FILES_MAX: usize = 3;

/// Fails if `path` no longer leads to what was opened there. `opened` is kept open, so that nothing else gets its number.
fn check_at_path(path: &Path, opened: &File) -> io::Result<()> {
    let opened = opened.metadata()?;
    let happened = match fs::metadata(path) {
        Ok(found) if (found.dev(), found.ino()) == (opened.dev(), opened.ino()) => return Ok(()),
        Ok(_) => "was replaced",
        Err(error) if error.kind() == io::ErrorKind::NotFound => "was removed or moved",
        Err(error) => return Err(error),
    };
    let why = format!("`{}` {happened} while the gateway runs", path.display());
    Err(io::Error::new(io::ErrorKind::StaleNetworkFileHandle, why))
}

/// Makes the data directory if it is not there: it names residents and their cards, so only its owner may look into it. One that is
/// there stays as it was made.
pub(super) fn make_data_dir(dir: &Path) -> io::Result<()> {
    dir.parent().map_or(Ok(()), fs::create_dir_all)?;
    match DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => Ok(()),
        made => made,
    }
}

/// A directory of the machine.
pub struct Directory {
    root: PathBuf,
    /// The directory that was at `root` when it was opened; `None`: it cannot be opened, and nothing in it either.
    opened: Option<File>,
    open: Mutex<Vec<(String, Arc<File>)>>,
}

impl Directory {
    /// The directory `root`, which must be there.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), opened: File::open(root).ok(), open: Mutex::default() }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// A path at which something is to be changed: not in another directory that has taken the place of this one.
    fn path_to_change(&self, path: &str) -> io::Result<PathBuf> {
        self.opened.as_ref().map_or(Ok(()), |opened| check_at_path(&self.root, opened))?;
        Ok(self.path(path))
    }

    fn forget(&self, path: &str) {
        lock(&self.open).retain(|(open, _)| open != path);
    }

    fn writable(&self, path: &str) -> io::Result<Arc<File>> {
        let mut open = lock(&self.open);
        if let Some((_, file)) = open.iter().find(|(name, _)| name == path) {
            return Ok(Arc::clone(file));
        }
        let full = self.path_to_change(path)?;
        check_regular(&full)?;
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(full)?;
        let file = Arc::new(file);
        if open.len() >= OPEN_FILES_MAX {
            open.remove(0);
        }
        open.push((path.to_owned(), Arc::clone(&file)));
        Ok(file)
    }
}

impl Medium for Directory {
    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(self.path(dir)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut names = Vec::new();
        for entry in entries {
            // A name that is not UTF-8 is not a name of ours.
            names.extend(entry?.file_name().into_string().ok());
        }
        names.sort();
        Ok(names)
    }

    fn length(&self, path: &str) -> io::Result<u64> {
        Ok(fs::metadata(self.path(path))?.len())
    }

    fn is_special(&self, path: &str) -> bool {
        check_regular(&self.path(path)).is_err()
    }

    fn read(&self, path: &str, from: u64, max: u64) -> io::Result<Vec<u8>> {
        check_regular(&self.path(path))?;
        let file = File::open(self.path(path))?;
        let length = usize::try_from(file.metadata()?.len().saturating_sub(from).min(max)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; length];
        let mut filled = 0;
        while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match file.read_at(rest, from + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        bytes.truncate(filled);
        Ok(bytes)
    }

    fn write_at(&self, path: &str, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.writable(path)?.write_all_at(bytes, at)
    }

    fn truncate(&self, path: &str, length: u64) -> io::Result<()> {
        self.writable(path)?.set_len(length)
    }

    fn sync(&self, path: &str) -> io::Result<()> {
        let file = self.writable(path)?;
        let synced = file.sync_data();
        if synced.is_err() {
            self.forget(path);
        }
        synced?;
        // A file that is elsewhere stays open: it is not made again by its name, and goes on when it is put back. Where its path leads
        // to it, nothing else was put in the place of the directory.
        check_at_path(&self.path(path), &file)
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        sync_names(&self.path_to_change(dir)?)
    }

    fn make_dir(&self, dir: &str) -> io::Result<()> {
        fs::create_dir_all(self.path_to_change(dir)?)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.forget(from);
        self.forget(to);
        fs::rename(self.path_to_change(from)?, self.path(to))
    }

    fn keep(&self, from: &str, to: &str) -> io::Result<()> {
        let (from, to) = (self.path_to_change(from)?, self.path(to));
        // Not every file system has hard links.
        fs::hard_link(&from, &to).or_else(|_| fs::copy(&from, &to).map(drop))
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.forget(path);
        let path = self.path_to_change(path)?;
        let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
        match removed {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    fn write_container(&self, dir: &str, container: &Container) -> io::Result<()> {
        generation::write_container(&self.path_to_change(dir)?, container)
    }

    fn read_container(&self, dir: &str) -> Result<Container, ContainerError> {
        generation::read_container(&self.path(dir))
    }

    fn has_container(&self, dir: &str) -> bool {
        generation::is_sealed(&self.path(dir)).is_ok()
    }
}
