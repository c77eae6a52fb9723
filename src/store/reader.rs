//! Reads durable events back, in order and as the bytes that were chained: for the audit feed and for people.

use std::io;
use std::sync::{Mutex, PoisonError};

use super::replay::Segment;
use super::segment::{Found, HEADER_BYTES, Walk};
use super::shared::Shared;

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

/// Where the last reading ended, so that the next one need not look for its place.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Hint {
    first_n: u64,
    next_n: u64,
    offset: u64,
}

/// The hint under its lock.
#[derive(Debug, Default)]
pub(super) struct SharedHint(Mutex<Hint>);

/// How much a reading may bring.
struct Limits {
    events: usize,
    bytes: usize,
}

/// Durable events from number `from` on, at most `max_events` and about `max_bytes`, but at least one if there is one.
pub(super) fn read(shared: &Shared, from: u64, max_events: usize, max_bytes: usize) -> io::Result<Vec<StoredEvent>> {
    let mut out = Vec::new();
    let mut room = Limits { events: max_events, bytes: max_bytes };
    let (segments, last) = {
        let index = shared.index.lock();
        (index.segments.clone(), index.last)
    };
    let start = segments.partition_point(|s| s.first_n <= from).saturating_sub(1);
    let mut next = from;
    for segment in segments.get(start..).unwrap_or(&[]) {
        if room.events == 0 || room.bytes == 0 {
            break;
        }
        match read_segment(shared, *segment, &mut next, last, &mut room, &mut out) {
            // Retention may take a segment while it is read.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => other?,
        }
    }
    Ok(out)
}

fn read_segment(
    shared: &Shared,
    segment: Segment,
    next: &mut u64,
    last: u64,
    room: &mut Limits,
    out: &mut Vec<StoredEvent>,
) -> io::Result<()> {
    let hint = *shared.hint.0.lock().unwrap_or_else(PoisonError::into_inner);
    let fits = hint.first_n == segment.first_n && hint.next_n <= *next;
    let mut offset = if fits { hint.offset } else { HEADER_BYTES as u64 };
    let mut chunk = CHUNK_BYTES;
    while offset < segment.length && room.events > 0 && room.bytes > 0 {
        let left = segment.length - offset;
        let bytes = shared.medium.read(&Segment::path(segment.first_n), offset, chunk.min(left))?;
        let whole = bytes.len() as u64 >= left || bytes.is_empty();
        let mut used = 0;
        for step in Walk::new(&bytes, 0) {
            match step.found {
                // Perhaps only cut off by the end of the chunk: read on from here.
                Found::Bad if !whole && step.to == bytes.len() => break,
                Found::Bad => {}
                Found::Frame(frame) if frame.n < *next => {}
                Found::Frame(frame) if frame.n > last => return Ok(()),
                Found::Frame(frame) => {
                    if room.events == 0 || room.bytes == 0 {
                        break;
                    }
                    room.events -= 1;
                    room.bytes = room.bytes.saturating_sub(frame.json.len());
                    *next = frame.n + 1;
                    out.push(StoredEvent { n: frame.n, json: frame.json.to_vec() });
                }
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
    let hint = Hint { first_n: segment.first_n, next_n: *next, offset };
    *shared.hint.0.lock().unwrap_or_else(PoisonError::into_inner) = hint;
    Ok(())
}
