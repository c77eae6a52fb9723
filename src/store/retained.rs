//! What retention removed from the front of the journal, in `journal/retained`: through which event, and the hash of that event, from
//! which the oldest one that is kept has to follow. Written before a segment is removed, so that a front that was removed by anybody
//! else is seen.
//!
//! Two slots, of which the older one is written: a torn write leaves the other, and a full disk needs no room for it.

use std::io;

use super::events::Front;
use super::medium::{JOURNAL, Medium};
use super::segment::{HEADER_BYTES, Header, NAMED_MAX, file_name};
use crate::wire::audit::{Hash, NO_HASH};

/// The file.
pub(super) const PATH: &str = "journal/retained";
/// Distance of the slots in bytes: each in a disk sector of its own.
const SLOT_BYTES: u64 = 512;
/// What a checksum begins with, so that zeros are no slot.
const SALT: &[u8; 8] = b"retained";
/// A number in a slot.
const NUMBER_BYTES: usize = 8;

/// The mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Retained {
    /// The last event that was removed; 0: none.
    pub through: u64,
    /// Up to here events were gone already when the first mark was written, and nothing records why.
    pub unexplained: u64,
    /// The hash of event `through`; [`NO_HASH`] if it could not be read.
    pub hash: Hash,
}

/// What the file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// There is no mark yet.
    Nothing,
    /// It holds no mark that can be read.
    Damaged,
    Mark(Retained),
}

impl Retained {
    fn encode(self) -> Vec<u8> {
        let mut slot = [self.through.to_le_bytes(), self.unexplained.to_le_bytes()].concat();
        slot.extend_from_slice(&self.hash);
        let crc = crc32fast::hash(&[SALT.as_slice(), slot.as_slice()].concat());
        slot.extend_from_slice(&crc.to_le_bytes());
        slot
    }

    fn decode(slot: &[u8]) -> Option<Self> {
        let (through, rest) = slot.split_first_chunk::<NUMBER_BYTES>()?;
        let (unexplained, rest) = rest.split_first_chunk::<NUMBER_BYTES>()?;
        let (through, unexplained) = (u64::from_le_bytes(*through), u64::from_le_bytes(*unexplained));
        let mark = Self { through, unexplained, hash: *rest.first_chunk()? };
        (slot.starts_with(&mark.encode()) && through.max(unexplained) <= NAMED_MAX).then_some(mark)
    }

    /// The event that the chain goes on from, and its hash, if the first segment begins with event `oldest` after it; `None`: the chain
    /// begins with whatever is there, since what was to be removed is.
    fn goes_on_from(self, oldest: Option<u64>) -> Option<Link> {
        let oldest = oldest.filter(|first_n| *first_n > self.through)?;
        let has_hash = self.through == 0 || self.hash != NO_HASH;
        (has_hash || oldest > self.through + 1).then_some((self.through, self.hash))
    }
}

fn slots(medium: &dyn Medium) -> io::Result<(Vec<u8>, [Option<Retained>; 2])> {
    let bytes = medium.read(PATH, 0, SLOT_BYTES * 2)?;
    let second = bytes.get(usize::try_from(SLOT_BYTES).unwrap_or(usize::MAX)..).unwrap_or_default();
    let both = [Retained::decode(&bytes), Retained::decode(second)];
    Ok((bytes, both))
}

/// The mark on `medium`.
pub(super) fn read(medium: &dyn Medium) -> Found {
    match slots(medium) {
        Ok((_, [a, b])) if a.is_some() || b.is_some() => {
            a.into_iter().chain(b).max_by_key(|mark| mark.through).map_or(Found::Damaged, Found::Mark)
        }
        // A power cut while it was made.
        Ok((bytes, _)) if bytes.iter().all(|byte| *byte == 0) => Found::Nothing,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Found::Nothing,
        Ok(_) | Err(_) => Found::Damaged,
    }
}

/// An event and its hash.
type Link = (u64, Hash);

/// What `verify` reports of the front, and what the chain goes on from; an error is what is wrong with the mark. The first segment begins
/// with event `oldest`.
pub(super) fn front(medium: &dyn Medium, oldest: Option<u64>) -> Result<(Front, Option<Link>), &'static str> {
    match read(medium) {
        Found::Nothing => Ok((Front::Unmarked, None)),
        Found::Damaged => Err("the mark of what retention removed is damaged"),
        Found::Mark(mark) => {
            let Retained { through, unexplained, .. } = mark;
            Ok((Front::Marked { through, unexplained }, mark.goes_on_from(oldest)))
        }
    }
}

fn write(medium: &dyn Medium, mark: Retained) -> io::Result<()> {
    let [a, b] = slots(medium).map_or([None; 2], |(_, both)| both);
    // The other one stays as it is.
    let second = a.is_some_and(|a| b.is_none_or(|b| b.through < a.through));
    medium.write_at(PATH, if second { SLOT_BYTES } else { 0 }, &mark.encode())?;
    medium.sync(PATH)
}

/// The hash of the event before segment `first_n`, as its header has it.
fn hash_before(medium: &dyn Medium, first_n: u64) -> Hash {
    let path = format!("{JOURNAL}/{}", file_name(first_n));
    let head = medium.read(&path, 0, HEADER_BYTES as u64).unwrap_or_default();
    Header::decode(&head).map_or(NO_HASH, |header| header.prev)
}

/// Makes the mark of a store that has none, from what is there: its first segment begins with event `oldest`, its journal goes on from `end`.
pub(super) fn make(medium: &dyn Medium, oldest: Option<u64>, end: Link) -> io::Result<()> {
    let found = read(medium);
    if let Found::Mark(_) = found {
        return Ok(());
    }
    let (through, hash) = match oldest {
        Some(first_n) if first_n > 1 => (first_n - 1, hash_before(medium, first_n)),
        Some(_) => (0, NO_HASH),
        None => end,
    };
    if through > 0 || found == Found::Damaged {
        tracing::warn!("no mark of what retention removed: nothing records why the events 1 to {through} are gone");
    }
    medium.remove(PATH)?;
    let mark = Retained { through, unexplained: through, hash };
    // Both slots: from here on nothing that is written needs room.
    medium.write_at(PATH, 0, &mark.encode())?;
    medium.write_at(PATH, SLOT_BYTES, &mark.encode())?;
    medium.sync(PATH)?;
    medium.sync_dir(JOURNAL)
}

/// Makes the mark durable before the oldest segment is removed: event `next` begins the one after it. `false`: it is not, and the segment
/// has to stay for now.
pub(super) fn before_removal(medium: &dyn Medium, next: u64) -> bool {
    let advanced = advance(medium, next);
    advanced.inspect_err(|error| tracing::warn!("cannot write `{PATH}`: {error}; old segments stay until then")).is_ok()
}

fn advance(medium: &dyn Medium, next: u64) -> io::Result<()> {
    let through = next.saturating_sub(1);
    let before = match read(medium) {
        Found::Mark(mark) if mark.through >= through => return Ok(()),
        Found::Mark(mark) => mark.unexplained,
        Found::Nothing | Found::Damaged => 0,
    };
    write(medium, Retained { through, unexplained: before, hash: hash_before(medium, next) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::memory::MemoryDisk;

    #[test]
    fn a_torn_write_leaves_the_mark_before_it() {
        let disk = MemoryDisk::new();
        assert_eq!(read(&disk), Found::Nothing);
        make(&disk, None, (0, NO_HASH)).unwrap();
        let mark = |through| Retained { through, unexplained: 0, hash: [7; 32] };
        for through in [5, 9, 12] {
            write(&disk, mark(through)).unwrap();
            assert_eq!(read(&disk), Found::Mark(mark(through)));
        }
        disk.damage(PATH, |bytes| bytes[0] ^= 1);
        let left = read(&disk);
        assert!([Found::Mark(mark(9)), Found::Mark(mark(12))].contains(&left), "{left:?}");
        disk.damage(PATH, |bytes| bytes[600 - 88] ^= 1);
        assert_eq!(read(&disk), Found::Damaged);
    }
}
