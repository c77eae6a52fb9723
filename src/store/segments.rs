//! The segments of the journal on their medium: which there are, and every frame of them.

use std::collections::BTreeMap;
use std::io;

use super::medium::{JOURNAL, Medium};
use super::segment::{self, Found, Frame, HEADER_BYTES, Header, SEGMENT_BYTES_MAX, Walk};
use crate::access::id::Timestamp;
use crate::wire::audit::{Hash, NO_HASH};

/// A place in the journal: an event, its hash, and the latest trusted time up to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub n: u64,
    pub hash: Hash,
    pub trusted_at: Timestamp,
}

impl Place {
    /// Before the first event.
    pub(super) const START: Self = Self { n: 0, hash: NO_HASH, trusted_at: Timestamp(0) };
}

/// What a replay begins with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Base {
    pub place: Place,
    /// The generation is encrypted, so what was written after it is.
    pub sealed: bool,
}

/// A segment on the medium.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    /// Number of its first event.
    pub first_n: u64,
    /// Bytes of it that count.
    pub length: u64,
    /// The latest trusted time up to its first event.
    pub trusted_at: Timestamp,
    /// Its frames are encrypted, by its header.
    pub sealed: bool,
}

impl Segment {
    pub(super) fn path(first_n: u64) -> String {
        format!("{JOURNAL}/{}", segment::file_name(first_n))
    }

    /// What of it counts.
    pub(super) fn read(self, medium: &dyn Medium) -> io::Result<Vec<u8>> {
        medium.read(&Self::path(self.first_n), 0, self.length)
    }
}

/// The first events of the files that can be segments, oldest first. What cannot be one is left alone: it is named by `reach`.
pub(super) fn names(medium: &dyn Medium) -> Vec<u64> {
    list_names(medium).unwrap_or_default()
}

fn list_names(medium: &dyn Medium) -> io::Result<Vec<u64>> {
    let mut firsts: Vec<u64> = medium.list(JOURNAL)?.iter().filter_map(|name| segment::first_of(name)).collect();
    firsts.retain(|first_n| {
        let path = Segment::path(*first_n);
        !medium.is_special(&path) && medium.length(&path).map_or(true, |length| length <= SEGMENT_BYTES_MAX)
    });
    Ok(firsts)
}

/// The segments on the medium, oldest first, with their whole length.
///
/// # Errors
/// The error of the disk; `Unsupported` if a segment is of another version.
pub(super) fn list(medium: &dyn Medium) -> io::Result<Vec<Segment>> {
    let mut found = Vec::new();
    for first_n in list_names(medium)? {
        let path = Segment::path(first_n);
        let head = medium.read(&path, 0, HEADER_BYTES as u64).unwrap_or_default();
        if let Some(version) = segment::other_version(&head) {
            let detail = format!("`{path}` has format {version}, this program reads format {}", segment::VERSION);
            return Err(io::Error::new(io::ErrorKind::Unsupported, detail));
        }
        let header = Header::decode(&head);
        if header.is_some_and(|header| header.sealed) && !medium.seals() {
            let detail = format!(
                "`{path}` is encrypted: set `store.encrypt` and `store.key_file` as they were when it was written"
            );
            return Err(io::Error::new(io::ErrorKind::InvalidInput, detail));
        }
        let trusted_at = header.map_or(Timestamp(i64::MAX), |header| header.trusted_at);
        let sealed = header.is_some_and(|header| header.sealed);
        found.push(Segment { first_n, length: u64::MAX, trusted_at, sealed });
    }
    Ok(found)
}

/// The segments that may hold events after `n`.
pub(super) fn after(segments: &[Segment], n: u64) -> &[Segment] {
    let first = segments.partition_point(|s| s.first_n <= n.saturating_add(1)).saturating_sub(1);
    segments.get(first..).unwrap_or(&[])
}

/// Calls `each` with every frame of these segments whose checksum is right.
pub(super) fn each_frame(medium: &dyn Medium, segments: &[Segment], each: &mut dyn FnMut(Frame<'_>)) -> io::Result<()> {
    for segment in segments {
        let bytes = segment.read(medium)?;
        // The walk passes over the header, which may be damaged and short.
        for step in Walk::new(&bytes, 0) {
            if let Found::Frame(frame) = step.found {
                each(frame);
            }
        }
    }
    Ok(())
}

/// How many events each closed segment holds, by the number of its first event, each counted once unless some are removed. Their numbers do not show it: a
/// restoration leaves a hole of millions in them.
#[derive(Debug, Default)]
pub(super) struct Counts(BTreeMap<u64, u64>);

impl Counts {
    /// Whether at least `wanted` events follow the oldest of these segments. `last`: the number of the newest event. What cannot be read
    /// counts as nothing.
    pub(super) fn follow_oldest(&mut self, wanted: u64, medium: &dyn Medium, segments: &[Segment], last: u64) -> bool {
        let [oldest, closed @ .., open] = segments else { return false };
        if last.saturating_sub(oldest.first_n) < wanted {
            return false;
        }
        self.0 = self.0.split_off(&oldest.first_n);
        let mut found = last.saturating_add(1).saturating_sub(open.first_n);
        for segment in closed.iter().rev() {
            if found < wanted {
                found = found.saturating_add(self.count(medium, segment));
            }
        }
        found >= wanted
    }

    /// Events were removed from this segment.
    pub(super) fn forget(&mut self, first_n: u64) {
        self.0.remove(&first_n);
    }

    fn count(&mut self, medium: &dyn Medium, segment: &Segment) -> u64 {
        if let Some(known) = self.0.get(&segment.first_n) {
            return *known;
        }
        let mut count = 0;
        if each_frame(medium, std::slice::from_ref(segment), &mut |_| count += 1).is_err() {
            return 0;
        }
        self.0.insert(segment.first_n, count);
        count
    }
}
