//! A reserve file that is removed when the disk is full, so that revocations still find room.

use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use super::medium::Medium;
use crate::lock;

/// The file, in the data directory.
const PATH: &str = "reserve";
/// The file while it is being written.
const NEW: &str = "reserve.new";
/// Bytes written at once.
const CHUNK_BYTES: u64 = 1024 * 1024;

/// Whether the disk has no room.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// The reserve file. Making and releasing exclude each other; releasing ends a making under way.
#[derive(Debug, Default)]
pub(super) struct Reserve {
    making: Mutex<()>,
    release_asked: AtomicBool,
}

impl Reserve {
    /// Whether the reserve is there.
    pub(super) fn is_there(medium: &dyn Medium, bytes: u64) -> bool {
        medium.length(PATH).is_ok_and(|length| length >= bytes)
    }

    /// Removes the reserve. `true`: there was one.
    pub(super) fn release(&self, medium: &dyn Medium) -> bool {
        self.release_asked.store(true, Ordering::Relaxed);
        let making = lock(&self.making);
        self.release_asked.store(false, Ordering::Relaxed);
        let released = remove(medium);
        drop(making);
        released
    }

    /// Makes the reserve if there is room; what did not fit is removed.
    pub(super) fn make(&self, medium: &dyn Medium, bytes: u64) -> io::Result<()> {
        let making = lock(&self.making);
        let made = self.write(medium, bytes);
        let removed = if made.is_err() { medium.remove(NEW) } else { Ok(()) };
        drop(making);
        made.and(removed)
    }

    fn write(&self, medium: &dyn Medium, bytes: u64) -> io::Result<()> {
        medium.remove(NEW)?;
        let mut at = 0;
        while at < bytes {
            if self.release_asked.load(Ordering::Relaxed) {
                return Err(io::ErrorKind::StorageFull.into());
            }
            let chunk = CHUNK_BYTES.min(bytes - at);
            // Not zeros, which some file systems keep without taking any room.
            let filler = vec![0xB5; usize::try_from(chunk).unwrap_or(0)];
            medium.write_at(NEW, at, &filler)?;
            at += chunk;
        }
        medium.sync(NEW)?;
        medium.rename(NEW, PATH)
    }
}

/// Removes the reserve, and what is left of one that was being made. `true`: there was something to remove.
pub(super) fn remove(medium: &dyn Medium) -> bool {
    let there = [PATH, NEW].iter().any(|path| medium.length(path).is_ok_and(|length| length > 0));
    there && [PATH, NEW].iter().all(|path| medium.remove(path).is_ok())
}
