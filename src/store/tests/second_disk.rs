//! A disk that others have written: the same lives of a store over the simulated file system of `turmoil-fs`, whose faults are its own.
//! It writes back early, tears what was not synced at its blocks, answers reads in pieces, and fails, each by chance and by its seed.
//!
//! What it cannot do stays out: it loses what is in a directory that is renamed, so a generation is one file here, and its room is
//! fixed.

use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use turmoil_fs::shim::std::fs::{self, File, OpenOptions};
use turmoil_fs::{Fs, FsContext};

use super::super::medium::{Container, ContainerError, Medium};
use super::simulation::Disk;
use super::*;

/// The sector that a disk writes as a whole.
const BLOCK: u64 = 512;

#[derive(Clone)]
pub(super) struct SecondDisk(Fs);

fn path(path: &str) -> PathBuf {
    Path::new("/").join(path)
}

/// `turmoil-fs` gives most of its errors one kind.
fn absent_is_fine(done: io::Result<()>, path: &Path) -> io::Result<()> {
    if fs::exists(path) { done } else { Ok(()) }
}

impl SecondDisk {
    pub(super) fn new(seed: u64) -> Self {
        Self(Fs::builder().seed(seed).block_size(BLOCK).sync_probability(0.1).short_read_probability(0.1).build())
    }

    fn on<T>(&self, work: impl FnOnce() -> T) -> T {
        let _entered = self.0.enter();
        work()
    }

    fn set_errors(&self, probability: f64) {
        self.on(|| FsContext::current(|state| state.fs.io_error_probability = probability));
    }
}

impl Disk for SecondDisk {
    fn medium(&self) -> Arc<dyn Medium> {
        Arc::new(self.clone())
    }

    fn set_fault(&self, fault: Fault) {
        self.set_errors(if fault == Fault::None { 0.0 } else { 0.3 });
    }

    fn crash(&self, _torn: usize) {
        self.set_errors(0.0);
        self.0.crash();
    }
}

impl Medium for SecondDisk {
    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        self.on(|| {
            if !fs::exists(path(dir)) {
                return Ok(Vec::new());
            }
            let names = fs::read_dir(path(dir))?.map(|entry| Ok(entry?.file_name().into_string().unwrap()));
            let mut names = names.collect::<io::Result<Vec<_>>>()?;
            names.sort();
            Ok(names)
        })
    }

    fn length(&self, file: &str) -> io::Result<u64> {
        self.on(|| Ok(fs::metadata(path(file))?.len()))
    }

    fn read(&self, file: &str, from: u64, max: u64) -> io::Result<Vec<u8>> {
        self.on(|| {
            let file = File::open(path(file))?;
            let length = file.metadata()?.len().saturating_sub(from).min(max);
            let mut bytes = vec![0; usize::try_from(length).unwrap()];
            file.read_exact_at(&mut bytes, from)?;
            Ok(bytes)
        })
    }

    fn write_at(&self, file: &str, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.on(|| OpenOptions::new().write(true).create(true).open(path(file))?.write_all_at(bytes, at))
    }

    fn truncate(&self, file: &str, length: u64) -> io::Result<()> {
        self.on(|| OpenOptions::new().write(true).create(true).open(path(file))?.set_len(length))
    }

    fn sync(&self, file: &str) -> io::Result<()> {
        self.on(|| OpenOptions::new().write(true).open(path(file))?.sync_data())
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        self.on(|| fs::sync_dir(path(dir)))
    }

    fn make_dir(&self, dir: &str) -> io::Result<()> {
        self.on(|| fs::create_dir_all(path(dir)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.on(|| fs::rename(path(from), path(to)))
    }

    fn keep(&self, from: &str, to: &str) -> io::Result<()> {
        self.on(|| fs::copy(path(from), path(to)).map(drop))
    }

    fn remove(&self, file: &str) -> io::Result<()> {
        self.on(|| {
            let path = path(file);
            absent_is_fine(fs::remove_file(&path), &path)?;
            // `turmoil-fs` takes a file that is made again under this name before the directory is synced for the removed one.
            absent_is_fine(fs::sync_dir(path.parent().unwrap()), path.parent().unwrap())
        })
    }

    fn write_container(&self, dir: &str, container: &Container) -> io::Result<()> {
        let parts = std::iter::once(&container.manifest).chain(&container.records);
        let bytes: Vec<u8> = parts
            .flat_map(|part| [&u32::try_from(part.len()).unwrap().to_be_bytes(), part.as_slice()].concat())
            .collect();
        self.write_at(dir, 0, &bytes)?;
        self.sync(dir)
    }

    fn read_container(&self, dir: &str) -> Result<Container, ContainerError> {
        let bytes = self.read(dir, 0, u64::MAX).map_err(ContainerError::Unreadable)?;
        let (mut parts, mut rest) = (Vec::new(), bytes.as_slice());
        while let Some((length, after)) = rest.split_first_chunk() {
            let part = after.split_at_checked(u32::from_be_bytes(*length) as usize);
            let (part, after) = part.ok_or_else(|| ContainerError::Damaged("it is cut short".to_owned()))?;
            parts.push(part.to_vec());
            rest = after;
        }
        if parts.is_empty() {
            return Err(ContainerError::Damaged("it is empty".to_owned()));
        }
        Ok(Container { manifest: parts.remove(0), records: parts, opened: false })
    }
}
