//! A directory of the machine as the store's medium.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::generation::{self, sync_names};
use super::medium::{Container, ContainerError, Medium};

/// Files kept open for writing: the segment being written, the mark, and one more.
const OPEN_FILES_MAX: usize = 3;

/// A directory of the machine.
pub struct Directory {
    root: PathBuf,
    open: Mutex<Vec<(String, Arc<File>)>>,
}

impl Directory {
    /// The directory `root`, which must be there.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), open: Mutex::default() }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    fn forget(&self, path: &str) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).retain(|(open, _)| open != path);
    }

    fn writable(&self, path: &str) -> io::Result<Arc<File>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, file)) = open.iter().find(|(name, _)| name == path) {
            return Ok(Arc::clone(file));
        }
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(self.path(path))?;
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

    fn read(&self, path: &str, from: u64, max: u64) -> io::Result<Vec<u8>> {
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
        let synced = self.writable(path)?.sync_data();
        if synced.is_err() {
            self.forget(path);
        }
        synced
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        sync_names(&self.path(dir))
    }

    fn make_dir(&self, dir: &str) -> io::Result<()> {
        fs::create_dir_all(self.path(dir))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.forget(from);
        self.forget(to);
        fs::rename(self.path(from), self.path(to))
    }

    fn keep(&self, from: &str, to: &str) -> io::Result<()> {
        // Not every file system has hard links.
        fs::hard_link(self.path(from), self.path(to)).or_else(|_| fs::copy(self.path(from), self.path(to)).map(drop))
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.forget(path);
        let path = self.path(path);
        let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
        match removed {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    fn write_container(&self, dir: &str, container: &Container) -> io::Result<()> {
        generation::write_container(&self.path(dir), container)
    }

    fn read_container(&self, dir: &str) -> Result<Container, ContainerError> {
        generation::read_container(&self.path(dir))
    }
}
