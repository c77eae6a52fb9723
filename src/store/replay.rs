//! The one judge of the journal: every good event after a position, in order, into a state if there is one; and what is missing.
//!
//! Numbers may have holes on disk (events dropped before they were written), so a loss is seen by the hash chain: an event
//! that does not follow from the last one read has lost its predecessors. The start, the builder of generations, the scrub and
//! `verify` all judge by it. It changes nothing on disk; [`Replayed::keep_copies`] does.

use std::io;

use super::events::{Break, Front, RecoveryIssue};
use super::medium::{DAMAGED, Medium};
use super::ranges::Ranges;
use super::resolve::Resolver;
use super::segment::{self, Found, Frame, HEADER_BYTES, Header, Walk};
use super::segments::{Base, Place, Segment};
use super::{Fold, retained};
use crate::access::event::{AuditEvent, Event, GapCause};
use crate::wire::audit;
use crate::wire::erased::{self, Link};
use crate::wire::uid_key::UidKey;

/// How the last segment ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tail {
    pub first_n: u64,
    /// Bytes up to the end of its last good frame, or of its header.
    pub good: u64,
    /// Bytes after that.
    pub bad: u64,
    /// Its header, if it can be read.
    pub header: Option<Header>,
    /// Number of its last good event.
    pub last_n: Option<u64>,
}

/// What a replay found.
#[derive(Debug, Default)]
pub(super) struct Replayed {
    /// The first event judged; 0: none.
    pub first: u64,
    /// Events judged, and given to the state if there is one.
    pub events: u64,
    /// How many of them were erased.
    pub erased: u64,
    /// Inclusive ranges of events that the state lacks.
    pub lost: Vec<(u64, u64)>,
    pub issues: Vec<RecoveryIssue>,
    /// The end of the last segment; `None`: no segment.
    pub tail: Option<Tail>,
    /// What `log_gap` events name.
    pub(super) gaps: Ranges,
    /// The same without what only the audit lacks: a state that never had that is not complete.
    state_gaps: Ranges,
    /// Events that only the audit lacks.
    audit_lost: Vec<(u64, u64)>,
    /// The first event whose message is not what its stream signed.
    pub(super) unsigned: Option<Break>,
    /// What is wrong and where, and the events missing there, if any.
    pub(super) breaks: Vec<(Break, Option<(u64, u64)>)>,
    /// Segments with damaged bytes.
    damaged: Vec<u64>,
}

impl Replayed {
    fn lose(ranges: &mut Vec<(u64, u64)>, from: u64, to: u64) {
        match ranges.last_mut() {
            Some(last) if from <= last.1.saturating_add(1) && from >= last.0 => last.1 = last.1.max(to),
            Some(_) | None => ranges.push((from, to)),
        }
    }

    /// Notes that the state lacks these events.
    pub(super) fn lost(&mut self, from: u64, to: u64) {
        Self::lose(&mut self.lost, from, to);
    }

    /// Notes that the audit, but not the state, lacks these events.
    pub(super) fn audit_lost(&mut self, from: u64, to: u64) {
        Self::lose(&mut self.audit_lost, from, to);
    }

    /// Counts what was reported before as named: the `log_gap` for it may be on its way.
    pub(super) fn reported(&mut self, issues: &[RecoveryIssue]) {
        for issue in issues {
            if let RecoveryIssue::Lost { from, to } | RecoveryIssue::AuditLost { from, to } = issue {
                self.gaps.insert((*from, *to));
            }
        }
    }

    /// Takes out of the losses what a later `log_gap` already names, and makes issues of all.
    pub(super) fn settle(&mut self) {
        for (from, to) in std::mem::take(&mut self.lost) {
            if self.state_gaps.cover((from, to)) {
                self.issues.push(RecoveryIssue::KnownLoss { from, to });
            } else {
                self.lost.push((from, to));
                self.issues.push(RecoveryIssue::Lost { from, to });
            }
        }
        for (from, to) in std::mem::take(&mut self.audit_lost) {
            let known = self.gaps.cover((from, to));
            let issue =
                if known { RecoveryIssue::KnownLoss { from, to } } else { RecoveryIssue::AuditLost { from, to } };
            self.issues.push(issue);
        }
    }

    /// Keeps the damaged segments in `damaged/` too, so that retention does not take them.
    pub(super) fn keep_copies(&mut self, medium: &dyn Medium) {
        std::mem::take(&mut self.damaged).into_iter().for_each(|first_n| keep_copy(medium, first_n));
    }
}

/// Applies every good event after `base` up to `until` to `state`, hashes of UIDs looked up by the key; gives where the journal ends and what is missing.
pub(super) fn replay<F: Fold>(
    medium: &dyn Medium,
    segments: &[Segment],
    (base, until): (Base, u64),
    (state, uids): (&mut F, Option<&UidKey>),
) -> (Place, Replayed) {
    let mut resolver = Resolver::new(uids);
    let mut apply = |event: &mut AuditEvent, evidence: &[u8]| {
        resolver.resolve(event, state);
        state.apply(event, evidence)
    };
    let mut judge = Judge::new(medium, Some(base.place), Some(&mut apply));
    (judge.until, judge.sealed) = (until, base.sealed);
    judge.segments(segments);
    (judge.place.unwrap_or(base.place), judge.out)
}

/// Judges the journal from where retention left it, without a state: what is missing is missing to the audit.
pub(super) fn check(medium: &dyn Medium, segments: &[Segment]) -> Replayed {
    let mut judge = Judge::new(medium, None, None);
    judge.front(segments.first());
    judge.segments(segments);
    judge.out
}

/// Takes in one event and the bytes kept beside it; an error is why not.
type Apply<'a> = &'a mut dyn FnMut(&mut AuditEvent, &[u8]) -> Result<(), String>;

/// Judges what is kept beside an event; an error is what is wrong with it.
pub type Prove<'a> = &'a mut dyn FnMut(&AuditEvent, &[u8]) -> Result<(), String>;

/// One judgement of the chain under way.
pub(super) struct Judge<'a> {
    medium: &'a dyn Medium,
    apply: Option<Apply<'a>>,
    pub(super) prove: Option<Prove<'a>>,
    /// Events up to this one are in the state already.
    base_n: u64,
    /// Events after this one are not looked at.
    until: u64,
    /// Something encrypted was read. What is in clear after it is not the gateway's: a store that is to be encrypted is from its newest
    /// segment back to its oldest.
    sealed: bool,
    /// The last event judged; `None`: whatever is found first begins the chain.
    pub(super) place: Option<Place>,
    /// Where bytes began that are no event, until the next event shows what is missing.
    pub(super) bad: Option<(String, usize)>,
    pub(super) out: Replayed,
}

impl<'a> Judge<'a> {
    pub(super) fn new(medium: &'a dyn Medium, base: Option<Place>, apply: Option<Apply<'a>>) -> Self {
        let base_n = base.map_or(0, |base| base.n);
        Self {
            medium,
            apply,
            prove: None,
            base_n,
            until: u64::MAX,
            sealed: false,
            place: base,
            bad: None,
            out: Replayed::default(),
        }
    }

    /// Goes on from what retention removed.
    pub(super) fn front(&mut self, oldest: Option<&Segment>) -> Front {
        let first_n = oldest.map(|segment| segment.first_n);
        let (front, from) = retained::front(self.medium, first_n).unwrap_or_else(|why| {
            self.wrong(first_n.unwrap_or(1), (retained::PATH, 0), why, None);
            Default::default()
        });
        self.place = from.map(|(n, hash)| Place { n, hash, ..Place::START });
        front
    }

    pub(super) fn segments(&mut self, segments: &[Segment]) {
        for (i, segment) in segments.iter().enumerate() {
            self.segment(*segment, i + 1 == segments.len());
        }
    }

    pub(super) fn wrong(&mut self, n: u64, at: (&str, usize), why: impl Into<String>, missing: Option<(u64, u64)>) {
        // Bad bytes before it are where it went wrong.
        let (file, offset) = self.bad.take().unwrap_or_else(|| (at.0.to_owned(), at.1));
        self.out.breaks.push((Break { n, file, offset: offset as u64, why: why.into() }, missing));
    }

    fn missing(&mut self, (from, to): (u64, u64), at: (&str, usize), why: impl Into<String>) {
        match self.apply {
            Some(_) => self.out.lost(from, to),
            None => self.out.audit_lost(from, to),
        }
        self.wrong(from, at, why, Some((from, to)));
    }

    fn segment(&mut self, segment: Segment, last: bool) {
        let path = Segment::path(segment.first_n);
        let bytes = match segment.read(self.medium) {
            Ok(bytes) => bytes,
            // Retention took it since it was listed.
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.out.events == 0 && self.apply.is_none() => {
                self.place = None;
                return;
            }
            Err(error) => {
                let why = error.to_string();
                self.wrong(self.place.map_or(segment.first_n, |place| place.n + 1), (&path, 0), &why, None);
                self.out.issues.push(RecoveryIssue::SegmentUnreadable { segment: path, why });
                return;
            }
        };
        let header = Header::decode(&bytes).filter(|h| h.first_n == segment.first_n);
        match header {
            Some(header) => self.loss_before(header, &path),
            None => drop(self.bad.get_or_insert_with(|| (path.clone(), 0))),
        }
        // Without a header the walk finds where the first event is.
        let start = if header.is_some() { HEADER_BYTES } else { 0 };
        let (mut good, mut last_n, mut bad) = (start, None, Vec::new());
        for step in Walk::new(&bytes, start) {
            let Found::Frame(frame) = step.found else {
                bad.push((step.from, step.to));
                self.bad.get_or_insert_with(|| (path.clone(), step.from));
                continue;
            };
            if frame.n > self.until {
                break;
            }
            let headless = header.is_none() && last_n.is_none();
            (good, last_n) = (step.to, Some(frame.n));
            if frame.n <= self.base_n {
                // The generation holds it, and what is wrong before it is for the scrub to report.
                bad.clear();
            } else if self.sealed && !step.opened {
                self.in_clear(frame, &segment, step.from);
            } else {
                self.event(frame, (&path, step.from), headless);
            }
            self.bad = None;
            self.sealed |= step.opened;
        }
        if last {
            let count = |n: usize| n as u64;
            bad.retain(|(from, _)| *from < good);
            self.out.tail = Some(Tail {
                first_n: segment.first_n,
                good: count(good),
                bad: count(bytes.len() - good.min(bytes.len())),
                header,
                last_n,
            });
        }
        for (from, to) in bad {
            let (from, to) = (from as u64, to as u64);
            self.out.issues.push(RecoveryIssue::BadBytes { segment: path.clone(), from, to });
            self.out.damaged.push(segment.first_n);
        }
    }

    /// An event in clear after encrypted ones: its content is nobody's.
    fn in_clear(&mut self, frame: Frame<'_>, segment: &Segment, offset: usize) {
        let (n, path) = (frame.n, Segment::path(segment.first_n));
        let before = self.place.unwrap_or(Place::START);
        if n <= before.n {
            self.out.issues.push(RecoveryIssue::OutOfOrder { n });
            return self.wrong(n, (&path, offset), "its number is not above the one before it", None);
        }
        let expected = self.place.map_or(n, |place| place.n + 1);
        let why = "it is in clear after encrypted ones: whoever wrote it did not have the key";
        self.missing((expected, n), (&path, offset), why);
        let issue = RecoveryIssue::InClear { segment: path };
        if !self.out.issues.contains(&issue) {
            self.out.issues.push(issue);
            self.out.damaged.push(segment.first_n);
        }
        self.place = Some(Place { n, hash: audit::hash(frame.json), ..before });
    }

    /// A segment begun after a loss names it in its header.
    fn loss_before(&mut self, header: Header, path: &str) {
        let Some(place) = self.place.filter(|place| place.n < header.lost_to) else { return };
        self.missing((place.n + 1, header.lost_to), (path, 0), "events before this segment were lost");
        self.place = Some(Place { n: header.lost_to, hash: header.prev, ..place });
    }

    /// `headless`: the header that may have named a loss before it cannot be read.
    fn event(&mut self, frame: Frame<'_>, at: (&str, usize), headless: bool) {
        let n = frame.n;
        let expected = self.place.map_or(n, |place| place.n + 1);
        if n < expected {
            self.out.issues.push(RecoveryIssue::OutOfOrder { n });
            return self.wrong(n, at, "its number is not above the one before it", None);
        }
        let before = self.place.unwrap_or(Place::START);
        let mut read = match read_event(frame) {
            Ok(read) => read,
            Err(why) => {
                // Its content is not in the state, and neither is what may be missing before it.
                self.missing((expected, n), at, &why);
                self.out.issues.push(RecoveryIssue::NotApplied { n, why });
                self.place = Some(Place { n, hash: audit::hash(frame.json), ..before });
                return;
            }
        };
        let follows = match self.place {
            Some(place) => read.prev == place.hash,
            None => n != 1 || read.prev == audit::NO_HASH,
        };
        if expected < n && (!follows || headless) {
            self.missing((expected, n - 1), at, format!("events {expected} to {} are missing", n - 1));
        } else if !follows {
            if self.apply.is_some() {
                self.out.lost(n.saturating_sub(1), n.saturating_sub(1));
            }
            self.out.issues.push(RecoveryIssue::ChainBroken { n });
            self.wrong(n, at, "it does not follow from the event before it: one of them was edited", None);
        } else if self.bad.is_some() {
            self.wrong(expected, at, "the bytes are damaged", None);
        }
        if let Some(Event::LogGap { from, to, cause, ranges }) = read.event.as_ref().map(|event| &event.body) {
            let whole = [(*from, *to)];
            // It is about what came before it.
            for range in if ranges.is_empty() { &whole } else { ranges.as_slice() }.iter().filter(|(_, to)| *to < n) {
                self.out.gaps.insert(*range);
                if matches!(cause, GapCause::Damaged | GapCause::NotWritten) {
                    self.out.state_gaps.insert(*range);
                }
            }
        }
        let proved = read.event.as_ref().zip(self.prove.as_mut()).map(|(event, prove)| prove(event, frame.evidence));
        if let Some(Err(why)) = proved {
            let (file, offset) = (at.0.to_owned(), at.1 as u64);
            self.out.unsigned.get_or_insert(Break { n, file, offset, why });
        }
        if self.out.events == 0 {
            self.out.first = n;
        }
        self.out.events += 1;
        self.out.erased += u64::from(read.event.is_none());
        let trusted_at = read.event.as_ref().map_or(before.trusted_at, |event| event.trusted_after(before.trusted_at));
        self.place = Some(Place { n, hash: read.hash, trusted_at });
        let applied = read.event.as_mut().zip(self.apply.as_mut()).map(|(event, apply)| apply(event, frame.evidence));
        if let Some(Err(why)) = applied {
            self.out.lost(n, n);
            self.out.issues.push(RecoveryIssue::NotApplied { n, why });
        }
    }
}

/// What a frame holds, if it holds the number and the evidence that it names. Of an erased event the generations hold what it did.
fn read_event(frame: Frame<'_>) -> Result<Link, String> {
    let link = erased::link(frame.json).map_err(|error| error.to_string())?;
    if link.n != frame.n {
        return Err(format!("its number is {} inside", link.n));
    }
    if link.evidence != (!frame.evidence.is_empty()).then(|| audit::hash(frame.evidence)) {
        return Err("the evidence beside it is not the one it names".to_owned());
    }
    Ok(link)
}

/// Keeps a damaged segment in `damaged/` too, so that retention does not take it. If that fails it still lies in `journal/`.
pub(super) fn keep_copy(medium: &dyn Medium, first_n: u64) {
    let name = segment::file_name(first_n);
    if medium.list(DAMAGED).is_ok_and(|names| names.contains(&name)) {
        return;
    }
    if let Err(error) = medium.keep(&Segment::path(first_n), &format!("{DAMAGED}/{name}")) {
        tracing::warn!("cannot keep a copy of the damaged segment `{name}`: {error}");
    }
}
