//! Checks a journal from its first kept byte to its last: checksums, evidence and the chain of hashes. Changes nothing.

use std::io;
use std::path::Path;

use super::durable_mark;
use super::medium::{Directory, Medium};
use super::replay::{self, Place, Segment};
use super::segment::{Found, Frame, HEADER_BYTES, Header, Walk};
use crate::access::event::Event;
use crate::wire::audit::{NO_HASH, hash};

/// Where a journal is not what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Break {
    /// The first event in doubt.
    pub n: u64,
    /// The file, in the data directory.
    pub file: String,
    /// Where in the file, in bytes.
    pub offset: u64,
    /// What is wrong.
    pub why: String,
}

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// The first event kept; 0: none.
    pub first: u64,
    /// The last event; 0: none.
    pub last: u64,
    /// How many events were read.
    pub events: u64,
    /// Losses that a later `log_gap` speaks of, both ends inclusive.
    pub explained: Vec<(u64, u64)>,
    /// The first thing that is wrong.
    pub broken: Option<Break>,
}

#[derive(Default)]
struct Check {
    out: Verified,
    place: Option<Place>,
    /// What is wrong, and the events missing there, if any.
    breaks: Vec<(Break, Option<(u64, u64)>)>,
    gaps: Vec<(u64, (u64, u64))>,
    /// Where bytes began that are no event, until the next event says what is missing.
    bad: Option<(String, usize)>,
}

/// Checks the journal in a data directory; a gateway may be running on it.
///
/// # Errors
/// What the disk says.
pub fn verify(data_dir: &Path) -> io::Result<Verified> {
    verify_on(&Directory::new(data_dir))
}

/// Checks the journal on a medium.
///
/// # Errors
/// What the disk says.
pub fn verify_on(medium: &dyn Medium) -> io::Result<Verified> {
    let mark = durable_mark::read(medium).least();
    let mut check = Check::default();
    let segments = replay::segments(medium)?;
    for segment in &segments {
        let path = Segment::path(segment.first_n);
        let bytes = match medium.read(&path, 0, u64::MAX) {
            Ok(bytes) => bytes,
            // Retention took it while we looked.
            Err(error) if error.kind() == io::ErrorKind::NotFound && check.place.is_none() => continue,
            Err(error) => return Err(error),
        };
        check.segment(segment.first_n, &path, &bytes);
    }
    // What stands after the last event that anybody was told of may be a write under way.
    if check.place.is_none_or(|place| place.n < mark) && check.bad.is_some() {
        check.wrong_before(check.expected(1), ("", 0), "the bytes are damaged", None);
    }
    let Check { mut out, breaks, gaps, place, bad: _ } = check;
    out.last = place.map_or(0, |place| place.n);
    if out.last < mark && breaks.is_empty() {
        let file = "journal/durable".to_owned();
        let why = format!("the journal was durable through event {mark} and ends before it");
        out.broken = Some(Break { n: out.last + 1, file, offset: 0, why });
    }
    for (found, missing) in breaks {
        let known = |(from, to): (u64, u64)| gaps.iter().any(|(n, gap)| *n > to && gap.0 <= from && to <= gap.1);
        match missing.filter(|missing| known(*missing)) {
            Some(missing) => out.explained.push(missing),
            None => {
                out.broken = Some(found);
                break;
            }
        }
    }
    Ok(out)
}

impl Check {
    fn expected(&self, or: u64) -> u64 {
        self.place.map_or(or, |place| place.n + 1)
    }

    fn wrong(&mut self, n: u64, at: (&str, usize), why: impl Into<String>, missing: Option<(u64, u64)>) {
        let found = Break { n, file: at.0.to_owned(), offset: at.1 as u64, why: why.into() };
        self.breaks.push((found, missing));
    }

    /// Like [`Self::wrong`], at the bad bytes before if there are any.
    fn wrong_before(&mut self, n: u64, at: (&str, usize), why: impl Into<String>, missing: Option<(u64, u64)>) {
        match self.bad.take() {
            Some((file, offset)) => self.wrong(n, (&file, offset), why, missing),
            None => self.wrong(n, at, why, missing),
        }
    }

    fn segment(&mut self, first_n: u64, path: &str, bytes: &[u8]) {
        let mut start = 0;
        match Header::decode(bytes).filter(|header| header.first_n == first_n) {
            Some(header) => {
                start = HEADER_BYTES;
                self.header(header, path);
            }
            None => self.bad_from(path, 0),
        }
        for step in Walk::new(bytes, start) {
            match step.found {
                Found::Bad => self.bad_from(path, step.from),
                Found::Frame(frame) => self.frame(frame, (path, step.from)),
            }
        }
    }

    fn bad_from(&mut self, path: &str, offset: usize) {
        self.bad.get_or_insert_with(|| (path.to_owned(), offset));
    }

    fn header(&mut self, header: Header, path: &str) {
        let expected = self.expected(header.first_n);
        if expected <= header.lost_to {
            let missing = (expected, header.lost_to);
            self.wrong_before(expected, (path, 0), "events before this segment were lost", Some(missing));
            self.place = Some(Place { n: header.lost_to, hash: header.prev, ..Place::START });
        }
    }

    fn frame(&mut self, frame: Frame<'_>, at: (&str, usize)) {
        let n = frame.n;
        let expected = self.expected(n);
        if self.out.events == 0 {
            self.out.first = n;
        }
        self.out.events += 1;
        let prev = self.place.map(|place| place.hash).or((n == 1).then_some(NO_HASH));
        match replay::read_event(frame) {
            Err(why) => self.wrong(n, at, why, None),
            Ok(_) if n < expected => self.wrong(n, at, "its number is not above the one before it", None),
            Ok(decoded) => {
                let follows = prev.is_none_or(|prev| prev == decoded.prev);
                if !follows && expected < n {
                    let why = format!("events {expected} to {} are missing", n - 1);
                    self.wrong_before(expected, at, why, Some((expected, n - 1)));
                } else if !follows {
                    self.wrong(n, at, "it does not follow from the event before it: one of them was edited", None);
                } else if self.bad.is_some() {
                    self.wrong_before(expected, at, "the bytes are damaged", None);
                }
                if let Event::LogGap { from, to, .. } = decoded.event.body {
                    self.gaps.push((n, (from, to)));
                }
            }
        }
        self.bad = None;
        self.place = Some(Place { n: n.max(expected.saturating_sub(1)), hash: hash(frame.json), ..Place::START });
    }
}
