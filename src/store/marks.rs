//! A few numbers in small files beside the journal.
//!
//! How far it was durable: at start this separates a torn write that was never reported durable from the loss of something
//! acknowledged. Two slots, written in turn, so that a torn write of one leaves the other. And how far the center has the
//! audit, in a file that is replaced as a whole: a lost cursor only sends events again. And, where a backup was restored, where it ended
//! and how far the mark was set beyond that.

use std::io;

use super::medium::{JOURNAL, Medium, replace};
use super::segment::NAMED_MAX;

/// How far the journal was durable.
pub(super) const PATH: &str = "journal/durable";
/// How far the center has the audit, in `journal/`.
const ACKED: &str = "acked";
/// The same as a path.
pub(super) const ACKED_PATH: &str = "journal/acked";
/// Where the backup that was restored ended, and the mark that was set then, in `journal/`.
const RESTORED: &str = "restored";
/// Distance of the slots in bytes: each in a disk sector of its own.
const SLOT_BYTES: u64 = 512;
/// What a checksum begins with, so that zeros are no slot.
const SALT: &[u8; 8] = b"durable1";

/// What the file holds at start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// The journal was durable up to this event.
    Through(u64),
    /// At least up to this event; one slot cannot be read.
    AtLeast(u64),
    /// Nothing can be read.
    Unknown,
}

impl Mark {
    /// The event the journal must reach.
    #[must_use]
    pub fn least(self) -> u64 {
        match self {
            Self::Through(n) | Self::AtLeast(n) => n,
            Self::Unknown => 0,
        }
    }
}

/// A number with its checksum.
pub(super) fn seal(n: u64) -> Vec<u8> {
    let mut slot = n.to_le_bytes().to_vec();
    let crc = crc32fast::hash(&[SALT.as_slice(), slot.as_slice()].concat());
    slot.extend_from_slice(&crc.to_le_bytes());
    slot
}

/// The number, if its checksum is right and a journal can go on after it.
pub(super) fn unseal(slot: &[u8]) -> Option<u64> {
    let n = u64::from_le_bytes(*slot.first_chunk()?);
    (slot.get(..12)? == seal(n) && n <= NAMED_MAX).then_some(n)
}

/// What the file on `medium` holds.
#[must_use]
pub fn read(medium: &dyn Medium) -> Mark {
    let bytes = medium.read(PATH, 0, SLOT_BYTES * 2).unwrap_or_default();
    let second = usize::try_from(SLOT_BYTES).unwrap_or(usize::MAX);
    match (unseal(&bytes), bytes.get(second..).and_then(unseal)) {
        (Some(a), Some(b)) => Mark::Through(a.max(b)),
        (Some(n), None) | (None, Some(n)) => Mark::AtLeast(n),
        (None, None) => Mark::Unknown,
    }
}

/// Writes the mark.
#[derive(Debug, Default)]
pub struct MarkWriter {
    second: bool,
    unsynced: bool,
    /// What was written last, where its flush failed: the disk's cache may have dropped it, and a later flush succeed without it.
    lost: Option<u64>,
    last: u64,
    /// Both slots and the name of the file are durable. No event is written before: a journal without a mark is a damaged one.
    made: bool,
}

impl MarkWriter {
    /// Whether the mark is there.
    pub fn is_made(&self) -> bool {
        self.made
    }

    /// Writes both slots and makes them and their name durable.
    pub fn reset(&mut self, medium: &dyn Medium, n: u64) -> io::Result<()> {
        // One after the other: a cut between them leaves a slot that can be read.
        medium.write_at(PATH, 0, &seal(n))?;
        medium.sync(PATH)?;
        medium.write_at(PATH, SLOT_BYTES, &seal(n))?;
        medium.sync(PATH)?;
        medium.sync_dir(JOURNAL)?;
        self.made = true;
        Ok(())
    }

    /// Writes `n` to the slot whose turn it is; durable after [`Self::sync`].
    pub fn write(&mut self, medium: &dyn Medium, n: u64) -> io::Result<()> {
        medium.write_at(PATH, if self.second { SLOT_BYTES } else { 0 }, &seal(n))?;
        self.second = !self.second;
        self.unsynced = true;
        (self.last, self.lost) = (n, None);
        Ok(())
    }

    /// Makes what was written durable, if it is not.
    pub fn sync(&mut self, medium: &dyn Medium) -> io::Result<()> {
        if !self.unsynced {
            return Ok(());
        }
        if let Some(n) = self.lost {
            self.write(medium, n)?;
        }
        let synced = medium.sync(PATH);
        self.lost = synced.is_err().then_some(self.last);
        self.unsynced = synced.is_err();
        synced
    }
}

/// What the file of the center's cursor holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cursor {
    /// It is not there: the center has acknowledged nothing.
    Nothing,
    /// It holds no number.
    Damaged,
    Through(u64),
}

impl Cursor {
    /// The last event the center has, as far as it is known.
    pub(super) fn through(self) -> u64 {
        match self {
            Self::Through(n) => n,
            Self::Nothing | Self::Damaged => 0,
        }
    }
}

/// How far the center has the audit.
pub(super) fn read_acked(medium: &dyn Medium) -> Cursor {
    match medium.read(ACKED_PATH, 0, 64) {
        Ok(bytes) => unseal(&bytes).map_or(Cursor::Damaged, Cursor::Through),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Cursor::Nothing,
        Err(_) => Cursor::Damaged,
    }
}

/// Makes `n` the last event the center has, durably.
pub(super) fn write_acked(medium: &dyn Medium, n: u64) -> io::Result<()> {
    replace(medium, JOURNAL, ACKED, &seal(n))
}

/// The last event of the backup that was restored, and the mark that was set then.
pub(super) fn read_restored(medium: &dyn Medium) -> Option<(u64, u64)> {
    let bytes = medium.read(&format!("{JOURNAL}/{RESTORED}"), 0, 64).ok()?;
    Some((unseal(&bytes)?, unseal(bytes.get(seal(0).len()..)?)?))
}

/// Makes these durable.
pub(super) fn write_restored(medium: &dyn Medium, (last, mark): (u64, u64)) -> io::Result<()> {
    replace(medium, JOURNAL, RESTORED, &[seal(last), seal(mark)].concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::memory::{Fault, MemoryDisk};

    #[test]
    fn a_mark_whose_flush_failed_is_written_again() {
        let disk = MemoryDisk::new();
        let mut writer = MarkWriter::default();
        writer.reset(&disk, 5).unwrap();
        disk.sync_dir("journal").unwrap();
        writer.write(&disk, 8).unwrap();
        disk.set_fault(Fault::Syncs);
        assert!(writer.sync(&disk).is_err());
        disk.set_fault(Fault::None);
        writer.sync(&disk).unwrap();
        disk.crash(0);
        assert_eq!(read(&disk), Mark::Through(8));
    }

    #[test]
    fn a_damaged_slot_leaves_the_other_and_reports_so() {
        let disk = MemoryDisk::new();
        assert_eq!(read(&disk), Mark::Unknown);
        let mut writer = MarkWriter::default();
        writer.reset(&disk, 5).unwrap();
        writer.write(&disk, 8).unwrap();
        assert_eq!(read(&disk), Mark::Through(8));
        disk.damage(PATH, |bytes| bytes[0] ^= 1);
        assert_eq!(read(&disk), Mark::AtLeast(5));
        disk.damage(PATH, |bytes| bytes[513] ^= 1);
        assert_eq!(read(&disk), Mark::Unknown);
    }
}
