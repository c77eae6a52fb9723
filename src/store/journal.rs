//! Writes the journal: chains events to the hash of what was really written before them, appends, makes durable, marks.
//! A commit either succeeds as a whole or leaves the journal as it was. No time, threads or queues here.

use std::io;
use std::sync::{Arc, Mutex};

use super::marks::MarkWriter;
use super::medium::{DAMAGED, JOURNAL, Medium, set_aside};
use super::reader::Index;
use super::resolve;
use super::segment::{self, EVENT_MAX, Frame, Header};
use super::segments::{Place, Segment};
use crate::access::event::Record;
use crate::access::id::Timestamp;
use crate::lock;
use crate::wire::audit;
use crate::wire::uid_key::UidKey;

/// What must be put right before the next write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repair {
    /// Cut the segment to its durable length.
    Cut { first_n: u64, length: u64 },
    /// Remove the segment that was being begun.
    Remove { first_n: u64 },
}

/// Where and after what the journal goes on.
pub(super) struct JournalEnd {
    /// The last durable event.
    pub place: Place,
    /// The last segment, if it can be written on.
    pub open: Option<Segment>,
    /// Last event lost at the journal's end; 0: none.
    pub lost_to: u64,
    /// What a failed write, or the start, left behind.
    pub repair: Option<Repair>,
}

/// An event that can never be written, and why.
pub(super) type Refused = (u64, &'static str);

/// How events are written.
pub(super) struct Form {
    /// Length at which a segment is full, in bytes.
    pub segment_bytes: u64,
    /// Age at which it is, by trusted time, in milliseconds.
    pub segment_ms: u64,
    /// What the hash in place of a UID is made with; `None`: UIDs are written.
    pub hashing: Option<UidKey>,
}

/// The journal's writing end.
pub(super) struct Journal {
    medium: Arc<dyn Medium>,
    index: Arc<Mutex<Index>>,
    form: Form,
    mark: MarkWriter,
    end: JournalEnd,
    /// Durable, but not yet in the mark.
    unmarked: Option<u64>,
}

impl Journal {
    pub(super) fn new(
        medium: Arc<dyn Medium>,
        index: Arc<Mutex<Index>>,
        form: Form,
        mark: MarkWriter,
        end: JournalEnd,
    ) -> Self {
        Self { medium, index, form, mark, end, unmarked: None }
    }

    /// The last event that is in the journal.
    pub(super) fn last(&self) -> u64 {
        self.end.place.n
    }

    /// Writes `batch` and makes it durable; returns what of it can never be written. After an error nothing of the batch is
    /// in the journal, unless [`Self::last`] has reached it, and the same batch may be tried again.
    pub(super) fn commit(&mut self, batch: &[Record]) -> io::Result<Vec<Refused>> {
        self.put_right()?;
        let mut refused = Vec::new();
        let mut bytes = Vec::new();
        let mut place = self.end.place;
        let mut first = None;
        for record in batch {
            let event = &record.event;
            if event.n > EVENT_MAX {
                let why = format!("{} is above every number that an event can have; restore a backup", event.n);
                return Err(io::Error::other(why));
            }
            if event.n <= place.n {
                refused.push((event.n, "its number is not above the one before it"));
                continue;
            }
            let written = self.form.hashing.as_ref().and_then(|key| resolve::hashed(event, key));
            let json = audit::encode(written.as_ref().unwrap_or(event), &record.evidence, &place.hash);
            let frame = Frame { n: event.n, json: &json, evidence: &record.evidence };
            if !segment::push_frame(&mut bytes, &frame, self.medium.seals()) {
                refused.push((event.n, "it is too long"));
                continue;
            }
            place = Place { n: event.n, hash: audit::hash(&json), trusted_at: event.trusted_after(place.trusted_at) };
            first.get_or_insert((event.n, place.trusted_at));
        }
        if let Some(first) = first {
            self.append(first, &bytes)?;
            self.end.place = place;
            self.unmarked = Some(place.n);
        }
        self.write_mark()?;
        Ok(refused)
    }

    /// Makes the mark durable; a cut of the power may otherwise set it back.
    pub(super) fn sync_mark(&mut self) -> io::Result<()> {
        self.mark.sync(&*self.medium)
    }

    fn write_mark(&mut self) -> io::Result<()> {
        if let Some(n) = self.unmarked {
            self.mark.write(&*self.medium, n)?;
            self.unmarked = None;
            let mut index = lock(&self.index);
            index.last = n;
            index.trusted_at = self.end.place.trusted_at;
        }
        Ok(())
    }

    fn append(&mut self, first: (u64, Timestamp), bytes: &[u8]) -> io::Result<()> {
        let closing = std::mem::take(&mut lock(&self.index).close_last);
        let is_old = |open: &Segment| first.1.0.abs_diff(open.trusted_at.0) >= self.form.segment_ms;
        let room = |open: &Segment| open.length < self.form.segment_bytes && !is_old(open) && !closing;
        let segment = match self.end.open.filter(room) {
            Some(open) => self.append_to(open, bytes)?,
            None => self.begin(first, bytes)?,
        };
        let mut index = lock(&self.index);
        match index.segments.last_mut() {
            Some(last) if last.first_n == segment.first_n => *last = segment,
            Some(_) | None => index.segments.push(segment),
        }
        drop(index);
        self.end.open = Some(segment);
        self.end.lost_to = 0;
        Ok(())
    }

    fn append_to(&mut self, open: Segment, bytes: &[u8]) -> io::Result<Segment> {
        let path = Segment::path(open.first_n);
        let written = self.medium.write_at(&path, open.length, bytes).and_then(|()| self.medium.sync(&path));
        if let Err(error) = written {
            self.end.repair = Some(Repair::Cut { first_n: open.first_n, length: open.length });
            return Err(error);
        }
        Ok(Segment { length: open.length + bytes.len() as u64, ..open })
    }

    fn begin(&mut self, (first_n, trusted_at): (u64, Timestamp), bytes: &[u8]) -> io::Result<Segment> {
        let (lost_to, prev, sealed) = (self.end.lost_to, self.end.place.hash, self.medium.seals());
        let header = Header { first_n, lost_to, trusted_at, prev, sealed };
        let whole = [header.encode().as_slice(), bytes].concat();
        let path = Segment::path(first_n);
        let medium = &self.medium;
        if medium.length(&path).is_ok() {
            // Nothing of ours has a name that was not given out yet.
            tracing::warn!("`{path}` is not the gateway's, and its name is needed; it is moved to `{DAMAGED}/`");
            set_aside(&**medium, &path, &segment::file_name(first_n))?;
        }
        let written =
            medium.write_at(&path, 0, &whole).and_then(|()| medium.sync(&path)).and_then(|()| medium.sync_dir(JOURNAL));
        if let Err(error) = written {
            self.end.repair = Some(Repair::Remove { first_n });
            return Err(error);
        }
        Ok(Segment { first_n, length: whole.len() as u64, trusted_at, sealed })
    }

    /// Takes back what a failed commit may have left. The segment is not written on: after a failed sync the state of the
    /// disk's cache is unknown.
    fn put_right(&mut self) -> io::Result<()> {
        if !self.mark.is_made() {
            self.mark.reset(&*self.medium, self.end.place.n)?;
        }
        match self.end.repair {
            None => return Ok(()),
            Some(Repair::Cut { first_n, length }) => {
                let path = Segment::path(first_n);
                self.medium.truncate(&path, length)?;
                self.medium.sync(&path)?;
            }
            Some(Repair::Remove { first_n }) => {
                self.medium.remove(&Segment::path(first_n))?;
                self.medium.sync_dir(JOURNAL)?;
            }
        }
        self.end.open = None;
        self.end.repair = None;
        Ok(())
    }
}
