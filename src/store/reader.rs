//! What is in the journal, and durable events read back from it, in order and as the bytes that were chained.

use std::io;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use super::medium::{self, JOURNAL, Medium};
use super::segment::{Found, Frame, HEADER_BYTES, Header, Walk, file_name};
use super::segments::Segment;
use crate::access::id::Timestamp;
use crate::lock;

/// Places remembered: one for the audit feed, the others for whoever else reads.
const HINTS_MAX: usize = 4;
/// Bytes read from a segment at once; more where one event is longer.
const CHUNK_BYTES: u64 = 256 * 1024;

/// One event as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredEvent {
    /// Its number.
    pub n: u64,
    /// Its bytes: JSON.
    pub json: Vec<u8>,
}

/// Where a reading ended, so that the next one need not look for its place.
#[derive(Clone, Copy, Debug, Default)]
struct Hint {
    first_n: u64,
    next_n: u64,
    offset: u64,
}

/// The segments and how far they are durable.
#[derive(Debug, Default)]
pub(super) struct Index {
    pub segments: Vec<Segment>,
    /// The last durable event; 0: none.
    pub last: u64,
    /// The latest trusted time up to it.
    pub trusted_at: Timestamp,
    /// The next events begin a new segment, so that the last one can be written again.
    pub close_last: bool,
}

impl Index {
    /// The first event of the second segment, if the first begins with event `first_n`. Of others a `log_gap` names why they are gone.
    pub(super) fn after_oldest(&self, first_n: u64) -> Option<u64> {
        match self.segments.as_slice() {
            [oldest, next, ..] if oldest.first_n == first_n => Some(next.first_n),
            _ => None,
        }
    }
}

/// Reads the journal while it is written.
pub(super) struct Reader {
    medium: Arc<dyn Medium>,
    index: Arc<Mutex<Index>>,
    /// The newest last.
    hints: Mutex<Vec<Hint>>,
    /// Read while segments are read, written while one is replaced.
    replacing: RwLock<()>,
}

/// One reading under way.
struct Reading {
    /// The last event that was durable when it began.
    last: u64,
    next: u64,
    /// How many events and bytes it may still bring.
    events: usize,
    bytes: usize,
    out: Vec<StoredEvent>,
}

impl Reader {
    pub(super) fn new(medium: Arc<dyn Medium>, index: Arc<Mutex<Index>>) -> Self {
        Self { medium, index, hints: Mutex::default(), replacing: RwLock::default() }
    }

    /// Durable events from number `from` on, at most `events` and about `bytes`, but at least one if there is one.
    pub(super) fn read(&self, from: u64, events: usize, bytes: usize) -> io::Result<Vec<StoredEvent>> {
        let _reading = self.replacing.read().unwrap_or_else(PoisonError::into_inner);
        let (segments, last) = {
            let index = lock(&self.index);
            (index.segments.clone(), index.last)
        };
        let start = segments.partition_point(|s| s.first_n <= from).saturating_sub(1);
        let mut reading = Reading { last, next: from, events, bytes, out: Vec::new() };
        for segment in segments.get(start..).unwrap_or(&[]) {
            if !reading.has_room() {
                break;
            }
            match self.read_segment(*segment, &mut reading) {
                // Retention may take a segment while it is read.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => other?,
            }
        }
        Ok(reading.out)
    }

    fn read_segment(&self, segment: Segment, reading: &mut Reading) -> io::Result<()> {
        let mut offset = self.take_hint(segment.first_n, reading.next).map_or(HEADER_BYTES as u64, |hint| hint.offset);
        let (mut chunk, mut at_last) = (CHUNK_BYTES, false);
        while !at_last && offset < segment.length && reading.has_room() {
            let left = segment.length - offset;
            let bytes = self.medium.read(&Segment::path(segment.first_n), offset, chunk.min(left))?;
            let whole = bytes.len() as u64 >= left || bytes.is_empty();
            let mut used = 0;
            for step in Walk::new(&bytes, 0) {
                match step.found {
                    // Perhaps only cut off by the end of the chunk: read on from here.
                    Found::Bad if !whole && step.to == bytes.len() => break,
                    Found::Bad => {}
                    Found::Frame(frame) if frame.n < reading.next => {}
                    Found::Frame(frame) if frame.n > reading.last => {
                        at_last = true;
                        break;
                    }
                    Found::Frame(_) if !reading.has_room() => break,
                    Found::Frame(frame) => reading.take(frame),
                }
                used = step.to as u64;
            }
            if used > 0 {
                offset += used;
                chunk = CHUNK_BYTES;
            } else if whole {
                break;
            } else {
                chunk = chunk.saturating_mul(2);
            }
        }
        let mut hints = lock(&self.hints);
        if hints.len() >= HINTS_MAX {
            hints.remove(0);
        }
        hints.push(Hint { first_n: segment.first_n, next_n: reading.next, offset });
        Ok(())
    }

    /// The nearest place before event `next` of a segment; whoever takes it leaves another.
    fn take_hint(&self, first_n: u64, next: u64) -> Option<Hint> {
        let mut hints = lock(&self.hints);
        let fitting = hints.iter().enumerate().filter(|(_, hint)| hint.first_n == first_n && hint.next_n <= next);
        let (place, _) = fitting.max_by_key(|(_, hint)| hint.next_n)?;
        Some(hints.remove(place))
    }

    /// Replaces a segment as a whole by `bytes`, while nobody reads.
    pub(super) fn replace(&self, first_n: u64, bytes: &[u8]) -> io::Result<()> {
        let _replacing = self.replacing.write().unwrap_or_else(PoisonError::into_inner);
        // What was at a place is at another one.
        lock(&self.hints).clear();
        medium::replace(&*self.medium, JOURNAL, &file_name(first_n), bytes)?;
        let mut index = lock(&self.index);
        for segment in index.segments.iter_mut().filter(|segment| segment.first_n == first_n) {
            segment.length = bytes.len() as u64;
            segment.sealed = Header::decode(bytes).is_some_and(|header| header.sealed);
        }
        Ok(())
    }
}

impl Reading {
    fn has_room(&self) -> bool {
        self.events > 0 && self.bytes > 0
    }

    fn take(&mut self, frame: Frame<'_>) {
        self.events -= 1;
        self.bytes = self.bytes.saturating_sub(frame.json.len());
        self.next = frame.n + 1;
        self.out.push(StoredEvent { n: frame.n, json: frame.json.to_vec() });
    }
}

#[cfg(test)]
mod tests {
    use super::super::memory::MemoryDisk;
    use super::super::segment::push_frame;
    use super::*;

    #[test]
    fn a_reading_that_ends_at_an_event_that_is_not_durable_leaves_its_place() {
        let disk = MemoryDisk::new();
        let head = Header { first_n: 1, lost_to: 0, trusted_at: Timestamp(0), prev: [0; 32], sealed: false };
        let mut bytes = head.encode();
        let mut ends = Vec::new();
        for n in 1..=20 {
            assert!(push_frame(&mut bytes, &Frame { n, json: b"{}", evidence: &[] }, false));
            ends.push(bytes.len() as u64);
        }
        disk.write_at(&Segment::path(1), 0, &bytes).unwrap();
        let segment = Segment { first_n: 1, length: bytes.len() as u64, trusted_at: Timestamp(0), sealed: false };
        let index = Index { segments: vec![segment], last: 15, ..Index::default() };
        let reader = Reader::new(Arc::new(disk), Arc::new(Mutex::new(index)));
        assert_eq!(reader.read(1, 100, 10_000).unwrap().len(), 15);
        let left = reader.take_hint(1, 16).expect("the next reading does not begin at the front");
        assert_eq!((left.next_n, left.offset), (16, ends[14]));
    }
}
